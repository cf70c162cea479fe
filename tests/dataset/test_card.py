"""Dataset card and croissant.json: they agree with the data, and the libraries of both formats accept them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import mlcroissant
import numpy as np
import polars as pl
import pytest
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from mlcroissant._src.operation_graph.operations import Download

from gzoo import files
from gzoo.dataset import card, croissant
from gzoo.dataset.tally import Spread
from gzoo.errors import InputError
from gzoo.hub import Additions, card_metadata, split_card
from gzoo.trees.campaign import Campaign, campaign, campaigns

MANIFEST: dict[str, object] = {
    "splits": {"default": {"train": 70_000, "test": 30_000}, "tiny": {"train": 700, "test": 300}},
    "image_bytes": {"default": {"train": 7, "test": 3}, "tiny": {"train": 1, "test": 1}},
    "is_simulated": False,
    "has_images": True,
    "are_images_decoded": True,
    "image_sizes": [[424, 424]],
    "split_scheme": "gzoo-1",
    "n_split_by_id": 0,
    "n_rows_in_table": 100_000,
    "n_dropped": {},
    "not_collected": [],
    "proportion_asked_not_known": [],
}


def manifest_of(one: Campaign) -> dict[str, object]:
    facts = {"n_votes": 9, "n_galaxies": 5, "n_breaks": 0, "n_well_voted": 1, "median_votes": 2}
    questions = {question.name: facts for question in one.published_tree.questions}
    return {**MANIFEST, "questions": questions, "columns": ["image", "id_str"]}


# The card


@pytest.mark.parametrize("one", campaigns(), ids=lambda one: one.name)
def test_hub_reads_the_card_of_each_campaign(one: Campaign, tmp_path: Path) -> None:
    text = card.text(one, manifest_of(one), tmp_path)
    header = card.header(one, manifest_of(one), {"default": 1, "tiny": 1})
    for own, headings in ((text, None), (header, card.headings())):
        assert split_card(text, own, headings) == (text, Additions()), "what gzoo writes are no additions of others"
    facts = DatasetCard(text).data.to_dict()
    assert facts["license"] == one.hub.licence
    assert facts["size_categories"] == ["100K<n<1M"]
    assert {f"arxiv:{paper.arxiv}" for paper in one.papers if paper.arxiv} <= set(facts["tags"])
    assert {info["config_name"] for info in facts["dataset_info"]} == {"default", "tiny"}
    for survey in one.surveys:
        assert f"**{survey.name}**" in text
    for paper in one.papers:
        assert f"{{{paper.key}," in text
    assert ("source of the training is released" in text) == (one.hub.licence == "cc-by-nc-sa-4.0")


def test_licence_unknown_to_the_hub_is_named_and_linked(tmp_path: Path) -> None:
    gz2 = campaign("gz2")
    own = replace(gz2, hub=replace(gz2.hub, licence="survey-terms", licence_link="https://example.org/terms"))
    facts = card_metadata(card.text(own, manifest_of(own), tmp_path))
    assert (facts["license"], facts["license_name"]) == ("other", "survey-terms")
    assert facts["license_link"] == "https://example.org/terms"


def test_card_lists_votes_of_each_question(dataset: Path) -> None:
    text = (dataset / "README.md").read_text("utf-8")
    shards = [path for split in files.SPLITS for path in files.shards(dataset, split)]
    rows = pl.concat([pl.read_parquet(path) for path in shards])
    for question in campaign("gz2").published_tree.questions:
        totals = rows[question.total_column].to_numpy()
        voted = np.sort(totals[totals > 0])
        median = voted[(len(voted) - 1) // 2]
        line = next(one for one in text.splitlines() if one.startswith(f"| `{question.name}` | {len(voted):,} ("))
        numbers = [int(one.partition("(")[0].replace(",", "")) for one in line.strip("|").split("|")[1:5]]
        assert numbers == [len(voted), (totals >= 5).sum(), median, totals.sum()]


@given(st.lists(st.lists(st.integers(0, 60), min_size=2, max_size=2), min_size=1, max_size=40), st.integers(0, 40))
def test_spreads_of_parts_are_those_of_the_whole(rows: list[list[int]], cut: int) -> None:
    totals = np.array(rows)
    whole, first, merged = Spread(2), Spread(2), Spread(2)
    whole.add(totals)
    first.add(totals[:cut])
    merged.add(totals[cut:])
    for i in range(2):
        merged.merge(i, json.loads(json.dumps(first.pairs(i))))
        assert merged.pairs(i) == whole.pairs(i)
        asked = np.sort(totals[totals[:, i] > 0, i])
        median = asked[(len(asked) - 1) // 2] if len(asked) else 0
        assert whole.figures(i) == ((totals[:, i] >= 5).sum(), median)


def test_drawing_of_the_tree_has_all_questions(dataset: Path) -> None:
    text = (dataset / card.TREE).read_text("utf-8")
    assert f"]({card.TREE})" in (dataset / "README.md").read_text("utf-8")
    shown = {"".join(one.itertext()) for one in ElementTree.fromstring(text).iter() if one.tag.endswith("title")}
    assert shown >= {question.name for question in campaign("gz2").tree.questions}


def test_code_in_the_card_runs(dataset: Path) -> None:
    text = (dataset / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    code = "\n".join(blocks).replace("path/to/this/folder", str(dataset))
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert tuple(scope["batch"]["image"].shape[1:]) == (3, 424, 424)
    assert scope["first"]["image"].shape == (424, 424, 3)
    assert "image" not in scope["votes"].columns
    assert len(scope["frame"]) == len(scope["dataset"])


def test_cards_without_yaml_are_an_error() -> None:
    with pytest.raises(InputError):
        card_metadata("# Galaxies")


# Croissant


def opened(folder: Path) -> mlcroissant.Dataset:
    found = mlcroissant.Dataset(folder / croissant.NAME)
    assert not found.metadata.ctx.issues.errors
    return found


def test_every_file_is_listed_with_its_sha256(dataset: Path) -> None:
    known = {one.id: one for one in opened(dataset).metadata.file_objects}
    contents = {path.relative_to(dataset).as_posix() for path in dataset.rglob("*") if path.is_file()}
    assert set(known) == contents - {croissant.NAME, "manifest.json"}
    for name, one in known.items():
        data = (dataset / name).read_bytes()
        assert one.sha256 == hashlib.sha256(data).hexdigest()
        assert one.content_size == f"{len(data)} B"
    manifest = files.read_json(dataset / "manifest.json")
    assert croissant.NAME in cast(dict[str, object], manifest["files"])


@pytest.mark.parametrize("which", ["dataset", "sharded"])
def test_records_are_those_of_the_shards(which: str, request: pytest.FixtureRequest) -> None:
    folder = cast(Path, request.getfixturevalue(which))
    found = opened(folder)
    manifest = files.read_json(folder / "manifest.json")
    splits = cast(dict[str, dict[str, int]], manifest["splits"])
    records = [one.id for one in found.metadata.record_sets]
    assert sorted(records) == sorted(
        ["splits", *(f"{config}/{split}" for config, of in splits.items() for split in of)]
    )
    assert {one["splits/name"] for one in found.records("splits")} == set(splits["default"])
    for config, of in splits.items():
        for split in of:
            name = f"{config}/{split}"
            rows = pl.concat([pl.read_parquet(path) for path in files.shards(folder, split, config)])
            read = list(found.records(name))
            assert [one[f"{name}/id_str"].decode() for one in read] == rows["id_str"].to_list()
            for column in ("ra", "smooth-or-featured-gz2_smooth", "bar-gz2_total-votes"):
                assert [one[f"{name}/{column}"] for one in read] == rows[column].to_list()
            assert {one[f"{name}/image"].size for one in read} == {(424, 424)}
            [fields] = [one.fields for one in found.metadata.record_sets if one.id == name]
            assert [one.id.removeprefix(f"{name}/") for one in fields] == rows.columns
            assert all(one.description for one in fields)


@pytest.mark.parametrize("which", ["dataset", "sharded"])
def test_mlcroissant_finds_a_flipped_byte(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(cast(Path, request.getfixturevalue(which)), folder)
    path = files.shards(folder, "test")[-1]
    name = path.relative_to(folder).as_posix()

    def verify() -> None:
        found = opened(folder)
        for operation in found.operations.operations.nodes:
            if isinstance(operation, Download):
                operation.call()

    verify()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=re.escape(name)):
        verify()
    if which == "dataset":  # where a split is one file, its records are not given at all
        with pytest.raises(Exception, match="error occur"):
            list(opened(folder).records("default/test"))


@pytest.mark.parametrize("one", campaigns(), ids=lambda one: one.name)
def test_each_campaign_has_a_valid_croissant(one: Campaign, tmp_path: Path) -> None:
    columns = ["image", "id_str"]
    names = [files.shard_name(split, i, 2, config) for config in ("default", "tiny") for split in ("train",)
             for i in range(2)]  # fmt: skip
    contents = {name: {"sha256": "0" * 64, "bytes": 5} for name in [*names, "README.md", "dropped.parquet"]}
    splits = {"default": {"train": 100_000}, "tiny": {"train": 1_000}}
    facts = croissant.facts(one, {**manifest_of(one), "columns": columns, "splits": splits}, contents)
    files.write_json(tmp_path / croissant.NAME, facts)
    found = opened(tmp_path)
    assert found.metadata.name == one.name
    licences = {"cc-by-nc-sa-4.0": ["https://creativecommons.org/licenses/by-nc-sa/4.0/"], "unknown": None}
    assert found.metadata.license == licences[one.hub.licence]
    assert all(paper.key in str(found.metadata.cite_as) for paper in one.papers)
