"""A campaign that only a TOML file outside of the package knows goes through all verbs, and its data need no file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import gzoo
from gzoo.cli import main
from gzoo.dataset.open import open_dataset
from gzoo.errors import DatasetError, InputError, NotFoundError
from trees.test_own_campaigns import EXAMPLE

N = 80


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TOML file, images, and a table of votes with other column names, and what verbs make of them; look only."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "dust_zoo.toml").write_text(EXAMPLE, "utf-8")
    rng = np.random.default_rng(0)
    smooth, lane, odd = rng.multinomial(20, [0.4, 0.5, 0.1], N), np.empty((N, 2), int), np.empty((N, 3), int)
    lane[:, 0] = rng.binomial(smooth[:, 1], 0.3)
    lane[:, 1] = smooth[:, 1] - lane[:, 0]
    odd[:] = rng.binomial(smooth[:, 1, None], [0.2, 0.1, 0.1])
    (folder / "images").mkdir()
    for i in range(N):
        data = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(data, "JPEG")
        (folder / "images" / f"g{i}.jpg").write_bytes(data.getvalue())
    columns = {f"smooth_or_featured_{name}": smooth[:, i] for i, name in enumerate(("smooth", "featured", "artifact"))}
    columns |= {f"dust_lane_{name}": lane[:, i] for i, name in enumerate(("yes", "no"))}
    columns |= {f"odd_features_{name}": odd[:, i] for i, name in enumerate(("ring", "tail", "other"))}
    names = {"objid": [f"g{i}" for i in range(N)], "filename": [f"g{i}.jpg" for i in range(N)]}
    table = pl.DataFrame({**names, "ra": rng.uniform(0, 360, N), "dec": rng.uniform(-60, 60, N), **columns})
    table.write_csv(folder / "votes.csv")
    own = folder / "dust_zoo.toml"
    gzoo.mapping(folder / "votes.csv", own, out=folder / "mapping.toml")
    for name in ("dust", "again"):
        gzoo.build(
            own,
            votes=folder / "votes.csv",
            images=folder / "images",
            mapping=folder / "mapping.toml",
            out=folder / name,
        )
    own.rename(folder / "moved.toml")  # from here on, data stand alone
    gzoo.train(folder / "dust", out=folder / "run", encoder="mobilenetv3_small_050", size=32, epochs=1, probe=False)
    gzoo.predict(folder / "run", folder / "dust", out=folder / "predictions.parquet")
    return folder


def test_from_mapping_to_score(work: Path, tmp_path: Path) -> None:
    read = gzoo.read_votes(work / "votes.csv", work / "moved.toml", work / "mapping.toml")
    assert read.votes.tree.columns == gzoo.tree(work / "moved.toml").columns
    assert len(read.votes) == N
    dataset = open_dataset(work / "dust")
    assert (dataset.campaign.name, dataset.campaign.title) == ("dust_zoo", "Dust Zoo")
    assert dataset.campaign.definitions == {"dust_zoo": EXAMPLE}
    assert dataset.tree == gzoo.tree(work / "moved.toml")
    assert (work / "dust" / "manifest.json").read_bytes() == (work / "again" / "manifest.json").read_bytes()
    scores = gzoo.score(work / "predictions.parquet", work / "dust")
    assert set(scores.questions) == {question.name for question in dataset.tree.questions}
    predicted = pl.read_parquet(work / "predictions.parquet")
    assert predicted["odd-features-dust_ring_fraction"].is_not_null().all()
    gzoo.catalog([work / "predictions.parquet"], work / "dust", out=tmp_path / "catalog.parquet")
    assert gzoo.audit(work / "dust").is_consistent
    assert gzoo.audit(work / "votes.csv", work / "moved.toml", mapping=work / "mapping.toml").is_consistent
    assert gzoo.audit(work / "votes.csv", gzoo.tree(work / "moved.toml"), mapping=work / "mapping.toml").is_consistent


def test_a_loaded_dataset_takes_the_campaign(work: Path) -> None:
    loaded = gzoo.load(work / "dust", split="train")
    expected = next(iter(gzoo.loader(work / "dust", 8, 16)))
    with pytest.raises(DatasetError, match="do not match any campaign") as caught:
        gzoo.loader(loaded, 8, 16)
    assert "`campaign`" in caught.value.hint
    batch = next(iter(gzoo.loader(loaded, 8, 16, campaign=work / "moved.toml")))
    np.testing.assert_array_equal(batch["votes"], expected["votes"])
    streamed = next(iter(gzoo.loader(work / "dust", 8, 16, streaming=True)))
    assert streamed["votes"].shape[1] == 8


def test_the_dataset_is_valid_and_its_card_says_what_is_known(work: Path) -> None:
    found = gzoo.check(work / "dust")
    assert found.is_valid, found.findings
    card = (work / "dust" / "README.md").read_text("utf-8")
    for words in ("# Dust Zoo", "cc-by-4.0", "Example2026", "its definition in `manifest.json`"):
        assert words in card


def test_a_changed_definition_is_found(work: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(work / "dust", tmp_path / "dust")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["campaign_definitions"]["dust_zoo"]["toml"] = EXAMPLE.replace("ring", "rong")
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(DatasetError, match="'campaign_definitions' of"):
        open_dataset(folder)
    assert any("campaign" in str(finding) for finding in gzoo.check(folder).findings)


def test_datasets_of_ones_own_campaign_are_merged_without_its_file(work: Path, tmp_path: Path) -> None:
    table = pl.read_csv(work / "votes.csv").with_columns(pl.col("objid") + "b", pl.col("dec") + 0.5)
    table.write_csv(tmp_path / "votes.csv")
    (tmp_path / "images").mkdir()
    for path in (work / "images").iterdir():  # other galaxies have other images
        Image.open(path).rotate(180).save(tmp_path / "images" / path.name)
    options = {"images": tmp_path / "images", "mapping": work / "mapping.toml"}
    gzoo.build(work / "moved.toml", votes=tmp_path / "votes.csv", out=tmp_path / "second", **options)  # type: ignore[arg-type]
    merged = gzoo.union([work / "dust", tmp_path / "second"], out=tmp_path / "merged")
    assert sum(merged.n_galaxies.values()) == 2 * N
    assert open_dataset(tmp_path / "merged").campaign.definitions == {"dust_zoo": EXAMPLE}
    assert gzoo.check(tmp_path / "merged").is_valid

    other = tmp_path / "dust_zoo.toml"  # another tree of the same name
    other.write_text(EXAMPLE.replace("multiple = true", "multiple = false"), "utf-8")
    with pytest.raises(InputError, match="has another decision tree of the name 'dust_zoo'"):
        gzoo.union([work / "dust", tmp_path / "second"], out=tmp_path / "none", campaign=other)
    with pytest.raises(InputError, match="not part of gz_evo") as caught:
        gzoo.union([work / "dust"], out=tmp_path / "none", campaign="gz_evo")
    assert "union" in caught.value.hint

    other.write_text(EXAMPLE.replace("cc-by-4.0", "cc0-1.0"), "utf-8")  # a better licence is not another tree
    gzoo.union([work / "dust", tmp_path / "second"], out=tmp_path / "free", campaign=other)
    both = tmp_path / "both.toml"
    both.write_text('name="both"\ntitle="Both"\ndescription="Two."\nunion=["gz_rings", "dust_zoo"]', "utf-8")
    gzoo.union([work / "dust"], out=tmp_path / "both", campaign=both)
    opened = open_dataset(tmp_path / "both")
    assert set(opened.campaign.definitions) == {"both", "dust_zoo"}
    assert set(opened.not_collected) == {"ring"}


def test_a_model_of_another_definition_is_refused(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "dust_zoo.toml"
    other.write_text(EXAMPLE.replace('"ring", "tail"', '"ring", "bow"'), "utf-8")
    mapping = tmp_path / "mapping.toml"
    mapping.write_text((work / "mapping.toml").read_text("utf-8").replace("dust_tail", "dust_bow"), "utf-8")
    gzoo.build(other, votes=work / "votes.csv", images=work / "images", mapping=mapping, out=tmp_path / "other")
    with pytest.raises(DatasetError, match="another definition of it"):
        gzoo.predict(work / "run", tmp_path / "other", out=tmp_path / "p.parquet")


def test_fits_images_need_a_stretch(work: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.toml"
    start, end = EXAMPLE.index("[surveys.stretch]"), EXAMPLE.index("[hub]")
    plain.write_text(EXAMPLE[:start] + EXAMPLE[end:], "utf-8")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "g0.fits").write_bytes(b"")
    with pytest.raises(InputError, match=r"does not define how FITS images such as 'g0\.fits' are shown"):
        gzoo.build(plain, votes=work / "votes.csv", images=tmp_path / "images", out=tmp_path / "x")


def test_a_file_without_a_repository_is_not_read_from_the_hub(work: Path) -> None:
    for verb in (gzoo.access, open_dataset):
        with pytest.raises(NotFoundError, match="has not been published on the Hub"):
            verb(str(work / "moved.toml"))


@pytest.mark.parametrize("words", ["tree {}", "cite {}", "audit {votes} {} --mapping {mapping}", "mapping {votes} {}"])
def test_commands_take_the_path(
    words: str, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words.format(work / "moved.toml", votes=work / "votes.csv", mapping=work / "mapping.toml")
    monkeypatch.setattr("sys.argv", ["gzoo", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out


@pytest.mark.parametrize("verb", ["tree {}", "cite {}", "audit v.csv {}", "mapping v.csv {}", "access {}",
                                  "count {} --classifications c.csv --out v.parquet",
                                  "build {} --votes v.csv --no-images --out d", "union d --campaign {} --out u",
                                  "simulate {} --n-galaxies 3 --out s"])  # fmt: skip
def test_every_command_tells_a_wrong_file_in_one_message(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(EXAMPLE.replace("title =", "titel =", 1), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["gzoo", *verb.format(path).split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert f"Campaign file '{path}': unknown key 'titel'." in said
    assert "Did you mean 'title'?" in said
    assert "Traceback" not in said
