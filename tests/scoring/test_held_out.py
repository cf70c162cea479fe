"""One rule decides in every verb which galaxies a model has seen, and whether its split scheme fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.errors import TableError
from gzoo.scoring.prediction_files import prediction_table, write_prediction_table
from gzoo.scoring.recalibration import recalibrate

# the predictions of these tests are invented, and catalogues say so
pytestmark = pytest.mark.filterwarnings(
    "ignore:The predictions do not agree with held-out votes:gzoo.errors.GZooWarning"
)


Table = Callable[[pl.DataFrame], pl.DataFrame]

SEEN: dict[str, tuple[tuple[str, ...], object, dict[str, object]]] = {
    "the train split": (("train",), None, {}),
    "test and train": (("test", "train"), None, {}),
    "marked": (("test",), True, {}),
    "a cell marked": (("test",), "first", {}),
    "a cell of train not told": (("train",), "first null", {}),
    "another scheme": (("test",), False, {"trained_by_scheme": "published"}),
    "another scheme, not told": (("test",), None, {"trained_by_scheme": "published"}),
}
UNSEEN: dict[str, tuple[tuple[str, ...], object, dict[str, object]]] = {
    "the test split": (("test",), None, {}),
    "validation, not marked": (("validation",), None, {}),
    "out of fold": (("train",), False, {}),
    "out of fold, every split": (("test", "train", "validation"), False, {"trained_by_scheme": "gzoo-1"}),
    "test not told": (("test",), "first null", {}),
}


def write(
    path: Path, dataset: Path, splits: tuple[str, ...], in_training_set: object, metadata: dict[str, object]
) -> Path:
    opened = open_dataset(dataset)
    keys = pl.concat([opened.read_votes(split)[0] for split in splits])
    values = np.random.default_rng(len(path.name)).uniform(0.5, 5, (keys.height, len(opened.tree.columns)))
    table = prediction_table(keys, values, opened.tree)
    if in_training_set is not None:
        said = [in_training_set is True] * keys.height
        cells: list[bool | None] = list(said)
        cells[0] = {"first": True, "first null": None}.get(str(in_training_set), said[0])
        table = table.with_columns(in_training_set=pl.Series(cells, dtype=pl.Boolean))
    write_prediction_table(path, table, metadata)
    return path


def verbs(path: Path, dataset: Path) -> dict[str, Callable[[], object]]:
    """Return calls of every verb that joins a prediction file with votes."""
    other = path.with_name("other.parquet")
    other.write_bytes(path.read_bytes())
    return {
        "score": lambda: gzoo.score(path, dataset),
        "score --label": lambda: gzoo.score(path, dataset, label="summary"),
        "score --protocol": lambda: gzoo.score(path, dataset, protocol="gz-evo"),
        "compare": lambda: gzoo.compare([path, other], dataset),
        "catalog": lambda: gzoo.catalog([path], dataset, out=path.with_name("catalogue.parquet")),
        "prioritize": lambda: gzoo.prioritize([path], dataset),
    }


@pytest.mark.parametrize("case", SEEN)
def test_what_score_refuses_the_others_refuse_with_the_same_words(dataset: Path, tmp_path: Path, case: str) -> None:
    said: dict[str, str] = {}
    for verb, call in verbs(write(tmp_path / "p.parquet", dataset, *SEEN[case]), dataset).items():
        with pytest.raises(TableError) as caught:
            call()
        said[verb] = str(caught.value)
    assert len(set(said.values())) == 1, said
    assert "trained" in said["score"] or "scheme" in said["score"]
    assert not (tmp_path / "catalogue.parquet").exists()


@pytest.mark.parametrize("case", UNSEEN)
def test_what_score_accepts_the_others_accept(dataset: Path, tmp_path: Path, case: str) -> None:
    for call in verbs(write(tmp_path / "p.parquet", dataset, *UNSEEN[case]), dataset).values():
        call()


def test_a_mark_that_is_not_understood_is_refused(dataset: Path, tmp_path: Path) -> None:
    """It must not make a galaxy of the training set look held out."""
    table = pl.read_parquet(write(tmp_path / "p.parquet", dataset, ("test",), None, {}))
    for number, mark in enumerate(("Wahr", "2", "nan")):
        bad = tmp_path / f"{number}.csv"
        cells = pl.Series([mark, *["no"] * (table.height - 1)])
        table.with_columns(in_training_set=cells).write_csv(bad)
        with pytest.raises(TableError, match=f"row 1, galaxy .*: in_training_set is '{mark}'"):
            gzoo.score(bad, dataset)
    good = tmp_path / "good.csv"
    table.with_columns(in_training_set=pl.Series(["No", " FALSE", "0", "0.0", *[""] * (table.height - 4)])).write_csv(
        good
    )
    assert gzoo.score(good, dataset).n_trained_on == 0


def test_recalibration_passes_on_what_the_model_has_seen(dataset: Path, tmp_path: Path) -> None:
    """A recalibrated file is refused where the file before it is."""
    validation = write(tmp_path / "validation.parquet", dataset, ("validation",), None, {})
    for number, case in enumerate(SEEN):
        path = write(tmp_path / f"{number}.parquet", dataset, *SEEN[case])
        with pytest.raises(TableError) as before:
            gzoo.score(path, dataset)
        new = recalibrate(path, dataset, validation=validation, out=tmp_path / f"new{number}.parquet").path
        with pytest.raises(TableError) as after:
            gzoo.score(new, dataset)
        assert str(after.value) == str(before.value).replace(str(path), str(new))
    out_of_fold = write(tmp_path / "fold.parquet", dataset, *UNSEEN["out of fold"])
    gzoo.score(recalibrate(out_of_fold, dataset, validation=validation, out=tmp_path / "f.parquet").path, dataset)
    recalibrate(out_of_fold, dataset, validation=out_of_fold, out=tmp_path / "g.parquet")
    foreign = write(tmp_path / "foreign.parquet", dataset, ("validation",), True, {"trained_by_scheme": "published"})
    with pytest.raises(TableError, match="Split schemes differ"):
        recalibrate(out_of_fold, dataset, validation=foreign, out=tmp_path / "h.parquet")
