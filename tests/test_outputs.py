"""Every verb that writes a file has one rule for whether it may, and asks it before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import gzoo
from embedded import SOURCE, write
from gzoo import files
from gzoo.dataset.open import open_dataset
from gzoo.errors import InputError, NotFoundError, OutputExistsError
from gzoo.learn.contact_sheet import augmentations
from gzoo.reports import gallery as gallery_module
from gzoo.reports.gallery import gallery
from gzoo.simulator import SimulateResult


@dataclass(frozen=True)
class Inputs:
    """Files that verbs read. None of them exists in `NOWHERE`, with which a verb cannot do any work."""

    votes: Path
    classifications: Path
    workflows: Path
    dataset: Path
    run: Path
    test: Path
    again: Path
    validation: Path
    embeddings: Path
    spare: Path


NOWHERE = Inputs(*(Path("nowhere") / name for name in Inputs.__dataclass_fields__))


@dataclass(frozen=True)
class Output:
    """One kind of file, and the verb that writes it.

    Attributes:
        kind: What errors call it.
        ending: Suffix of its name.
        write: Calls the verb with (inputs, file, overwrite).
        read: Name of an input with the same suffix, if there is one.
        option: Option of the command that names the file.
    """

    kind: str
    ending: str
    write: Callable[[Inputs, Path, bool], object]
    read: str = ""
    option: str = "--out"


def _count(given: Inputs, out: Path, overwrite: bool, **other: Path) -> object:
    source = {"classifications": given.classifications, "workflows": given.workflows}
    return gzoo.count("gz2", **source, out=out, overwrite=overwrite, **other)


def _count_beside(option: str) -> Callable[[Inputs, Path, bool], object]:
    def write(given: Inputs, out: Path, overwrite: bool) -> object:
        shutil.rmtree(given.spare, ignore_errors=True)
        given.spare.parent.mkdir(exist_ok=True)
        given.spare.mkdir()
        return _count(given, given.spare / "v.parquet", overwrite, **{option: out})

    return write


def _build(given: Inputs, out: Path, overwrite: bool) -> object:
    source = {"classifications": given.classifications, "workflows": given.workflows}
    return gzoo.build("gz2", **source, no_images=True, out=given.spare, report=out, overwrite=overwrite)


def _write_predictions(given: Inputs, out: Path, overwrite: bool) -> object:
    keys = pl.DataFrame({"dataset_name": ["gz_rings"], "id_str": ["1"]})
    return gzoo.write_predictions(out, keys, np.array([[3.0, 1.0]]), gzoo.tree("gz_rings"), overwrite=overwrite)


def _gallery(given: Inputs, out: Path, overwrite: bool) -> object:
    return gallery(["gz2"] if given.dataset.exists() else ["nowhere"], out, overwrite=overwrite)


def _catalog(given: Inputs, out: Path, overwrite: bool) -> object:
    return gzoo.catalog([given.test], given.dataset, out=out, overwrite=overwrite)


def _prioritize(given: Inputs, out: Path, overwrite: bool) -> object:
    return gzoo.prioritize([given.test], given.dataset, out=out, overwrite=overwrite)


def _select(given: Inputs, out: Path, overwrite: bool) -> object:
    return gzoo.select([given.test], given.dataset, where="bar-gz2.yes.model > 0.2", out=out, overwrite=overwrite)


def _similar(given: Inputs, out: Path, overwrite: bool) -> object:
    return gzoo.similar(given.embeddings, ["1"], k=2, out=out, overwrite=overwrite)


def _outliers(given: Inputs, out: Path, overwrite: bool) -> object:
    return gzoo.outliers(given.embeddings, k=2, out=out, overwrite=overwrite)


def _match(given: Inputs, out: Path, overwrite: bool) -> object:
    return gzoo.match(given.votes, given.votes, out=out, overwrite=overwrite)


def _leaks(given: Inputs, out: Path, overwrite: bool) -> object:
    return gzoo.leaks([given.dataset], out=out, overwrite=overwrite)


OUTPUTS = {
    "mapping": Output("mapping", ".toml", lambda given, out, overwrite: gzoo.mapping(
        given.votes, "gz2", out=out, overwrite=overwrite)),
    "count": Output("vote table", ".parquet", _count),
    "count --report": Output("report", ".html", _count_beside("report"), option="--report"),
    "count --volunteers": Output(
        "list of volunteers", ".csv", _count_beside("volunteers"), "classifications", "--volunteers"),
    "build --report": Output("report", ".html", _build, option="--report"),
    "check --report": Output("report", ".html", lambda given, out, overwrite: gzoo.check(
        given.dataset, headers_only=True, report=out, overwrite=overwrite), option="--report"),
    "leaks .parquet": Output("table of leaks", ".parquet", _leaks),
    "leaks .csv": Output("table of leaks", ".csv", _leaks),
    "augmentations": Output("contact sheet", ".png", lambda given, out, overwrite: augmentations(
        given.dataset, out=out, n_galaxies=1, size=8, overwrite=overwrite)),
    "gallery .png": Output("gallery", ".png", _gallery),
    "gallery .jpg": Output("gallery", ".jpg", _gallery),
    "predict": Output("set of predictions", ".parquet", lambda given, out, overwrite: gzoo.predict(
        given.run, given.dataset, out=out, overwrite=overwrite)),
    "embed": Output("set of embeddings", ".parquet", lambda given, out, overwrite: gzoo.embed(
        given.run, given.dataset, views=1, split="test", out=out, overwrite=overwrite)),
    "similar .parquet": Output("list of similar galaxies", ".parquet", _similar, "embeddings"),
    "similar .csv": Output("list of similar galaxies", ".csv", _similar),
    "similar --sheet": Output("report", ".html", lambda given, out, overwrite: gzoo.similar(
        given.embeddings, ["1"], k=2, sheet=out, overwrite=overwrite), option="--sheet"),
    "outliers .parquet": Output("list of outliers", ".parquet", _outliers, "embeddings"),
    "outliers .csv": Output("list of outliers", ".csv", _outliers),
    "outliers --sheet": Output("report", ".html", lambda given, out, overwrite: gzoo.outliers(
        given.embeddings, k=2, sheet=out, overwrite=overwrite), option="--sheet"),
    "write_predictions": Output("set of predictions", ".parquet", _write_predictions),
    "recalibrate": Output("set of predictions", ".parquet", lambda given, out, overwrite: gzoo.recalibrate(
        given.test, given.dataset, validation=given.validation, out=out, overwrite=overwrite), "validation"),
    "score --report": Output("report", ".html", lambda given, out, overwrite: gzoo.score(
        given.test, given.dataset, report=out, overwrite=overwrite), option="--report"),
    "compare --report": Output("report", ".html", lambda given, out, overwrite: gzoo.compare(
        [given.test, given.again], given.dataset, report=out, overwrite=overwrite), option="--report"),
    "prioritize .parquet": Output("ranking", ".parquet", _prioritize, "test"),
    "prioritize .csv": Output("ranking", ".csv", _prioritize),
    "catalog .parquet": Output("catalogue", ".parquet", _catalog, "test"),
    "catalog .csv": Output("catalogue", ".csv", _catalog),
    "catalog .fits": Output("catalogue", ".fits", _catalog),
    **{f"catalog {ending}": Output("catalogue", ending, _catalog) for ending in (".vot", ".ecsv")},
    "select .parquet": Output("selection", ".parquet", _select, "test"),
    "select .csv": Output("selection", ".csv", _select),
    "select --report": Output("report", ".html", lambda given, out, overwrite: gzoo.select(
        [given.test], given.dataset, where="bar-gz2.yes.model > 0.2", report=out, overwrite=overwrite),
        option="--report"),
    "match .parquet": Output("table of matches", ".parquet", _match, "votes"),
    "match .csv": Output("table of matches", ".csv", _match),
}  # fmt: skip
every_output = pytest.mark.parametrize("verb", OUTPUTS)


@pytest.fixture(scope="module")
def inputs(sky: SimulateResult, dataset: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    opened = open_dataset(dataset)
    for split in ("test", "validation"):
        keys = opened.positions(split)
        values = np.full((keys.height, len(opened.tree.concentrations)), 0.8)
        gzoo.write_predictions(folder / f"{split}.parquet", keys, values, opened.tree, in_training_set=False)
    again = Path(shutil.copy(folder / "test.parquet", folder / "again.parquet"))
    (folder / "images").mkdir()
    for i, path in enumerate(sorted(sky.images.rglob("*.jpg"))[:15]):
        shutil.copy(path, folder / "images" / f"{i}.jpg")
    source = replace(SOURCE, data=str(folder / "images"))
    embeddings = write(folder / "embeddings.parquet", np.eye(15), names=None, source=source)
    return Inputs(
        sky.votes,
        sky.classifications,
        sky.workflows,
        dataset,
        run,
        folder / "test.parquet",
        again,
        folder / "validation.parquet",
        embeddings,
        folder / "spare",
    )


@pytest.fixture
def given(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    monkeypatch.setattr(gallery_module, "_N_DRAWN", 10)
    monkeypatch.setattr(gallery_module, "_TREES", ("gz_rings",))
    spare = tmp_path / "spare"
    return replace(inputs, spare=spare)


@every_output
def test_a_file_of_somebody_else_is_never_replaced(verb: str, tmp_path: Path) -> None:
    output = OUTPUTS[verb]
    out = tmp_path / f"out{output.ending}"
    for content in ("mine", f"notes on gzoo, and the {output.kind}s that it makes"):
        out.write_text(content)
        for overwrite in (False, True):
            with pytest.raises(OutputExistsError) as caught:
                output.write(NOWHERE, out, overwrite)
            assert caught.value.message == f"'{out}' is not a {output.kind} that gzoo made."
            assert caught.value.expected == f"a new name, or an earlier {output.kind}."
            assert caught.value.hint == f"Choose another {output.option}."
        assert out.read_text() == content
    out.unlink()
    out.mkdir()
    with pytest.raises(OutputExistsError, match=f"not a {output.kind} that gzoo made"):
        output.write(NOWHERE, out, True)
    assert list(tmp_path.rglob("*")) == [out]


@every_output
def test_an_earlier_result_is_replaced_only_on_request(verb: str, given: Inputs, tmp_path: Path) -> None:
    output = OUTPUTS[verb]
    out = tmp_path / f"out{output.ending}"
    output.write(given, out, False)
    written, was = out.read_bytes(), out.stat().st_ino
    with pytest.raises(OutputExistsError) as caught:
        output.write(replace(NOWHERE, spare=given.spare), out, False)
    assert caught.value.message == f"'{out}' already contains a finished {output.kind}."
    assert caught.value.hint == f"Choose another {output.option}, or pass --overwrite to replace it."
    assert out.stat().st_ino == was
    output.write(given, out, True)
    assert out.stat().st_ino != was
    assert out.read_bytes() == written
    known = {one.kind for one in OUTPUTS.values() if one.ending == output.ending and files._has_mark(out, one.kind)}  # pyright: ignore[reportPrivateUsage]
    assert known == {output.kind}


@pytest.mark.parametrize("verb", [name for name, output in OUTPUTS.items() if output.read])
def test_an_input_is_never_an_output(verb: str, given: Inputs, tmp_path: Path) -> None:
    output = OUTPUTS[verb]
    read: Path = getattr(given, output.read)
    before = read.read_bytes()
    link = tmp_path / f"link{output.ending}"
    link.symlink_to(read)
    for name in (read, link):
        with pytest.raises(InputError, match="is also an input"):
            output.write(given, name, True)
    assert read.read_bytes() == before


@every_output
def test_a_name_that_cannot_be_written_is_refused(verb: str, tmp_path: Path) -> None:
    output = OUTPUTS[verb]
    with pytest.raises(InputError, match=rf"unknown file type\.\n  Expected a name that ends in .*\{output.ending}"):
        output.write(NOWHERE, tmp_path / "out.txt", True)
    with pytest.raises(NotFoundError, match="Output folder not found"):
        output.write(NOWHERE, tmp_path / "none" / f"out{output.ending}", True)
    assert not list(tmp_path.iterdir())


def test_no_file_is_written_into_a_dataset(given: Inputs) -> None:
    """Its manifest lists every file."""
    before = sorted(given.dataset.rglob("*"))
    for verb in ("predict", "recalibrate", "check --report", "score --report", "catalog .csv", "leaks .csv"):
        output = OUTPUTS[verb]
        with pytest.raises(InputError, match="inside the dataset folder"):
            output.write(given, given.dataset / "data" / f"out{output.ending}", True)
    assert sorted(given.dataset.rglob("*")) == before


def test_a_file_that_cannot_be_read_now_is_not_taken_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.html"
    out.write_text("mine")

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(gzoo.errors.ReadError, match=r"out\.html"):
        files.refuse_report(out, (), overwrite=True)


def test_metadata_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    files.write_table(path, pl.DataFrame({"id_str": ["a"], "x": [1.5]}), "ranking", {"level": 0.9})
    assert json.loads(pq.read_schema(path).metadata[b"gzoo"]) == {"kind": "ranking", "level": 0.9}
    assert pl.read_parquet(path).rows() == [("a", 1.5)]
