"""Exports whose identifiers went through floating point or a spreadsheet, and volunteers who went back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from gzoo.errors import GZooWarning, TableError
from gzoo.simulator import SimulateResult, simulate
from gzoo.trees.campaign import campaign
from gzoo.zooniverse import ExportFiles, ingest, propose
from gzoo.zooniverse.counting import IngestResult
from gzoo.zooniverse.workflows import read_workflows

GZ2 = campaign("gz2")
Row = dict[str, str]
RULE = "identifier refused"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SimulateResult:
    return simulate("gz2", n_galaxies=6, seed=7, images=False, out=tmp_path_factory.mktemp("export") / "sky")


@pytest.fixture(scope="module")
def sound(small: SimulateResult, tmp_path_factory: pytest.TempPathFactory) -> IngestResult:
    return counted(small, small.classifications, tmp_path_factory.mktemp("mapping"))


def counted(small: SimulateResult, export: Path, folder: Path, field: str = "id_str") -> IngestResult:
    text = propose(small.classifications, small.workflows, "gz2").to_toml()
    assert 'id_str = "id_str"' in text
    (folder / "m.toml").write_text(text.replace('id_str = "id_str"', f'id_str = "{field}"'))
    found = ingest(ExportFiles(export, small.workflows, folder / "m.toml"), GZ2)
    assert found.ingest.n_rows == found.ingest.n_used + sum(found.ingest.reasons.values())
    return found


def changed(small: SimulateResult, path: Path, change: Callable[[int, Row], object]) -> Path:
    """The export with each row changed, as another program would write it."""
    with small.classifications.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        change(i, row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def with_field(change: Callable[[str], object]) -> Callable[[int, Row], None]:
    """Change the field `id_str` of subject_data, given the number of the subject."""

    def apply(i: int, row: Row) -> None:
        data = json.loads(row["subject_data"])
        data[row["subject_ids"]]["id_str"] = change(row["subject_ids"])
        row["subject_data"] = json.dumps(data)

    return apply


def test_an_export_that_pandas_saved_again_gives_the_same_votes(
    tmp_path: Path, small: SimulateResult, sound: IngestResult
) -> None:
    def with_points(i: int, row: Row) -> None:
        for name in ("classification_id", "workflow_id", "subject_ids", "user_id"):
            row[name] += ".0" if row[name] else ""

    path = changed(small, tmp_path / "e.csv", with_points)
    with pytest.warns(GZooWarning, match="numbers written with a decimal point, as 1000000.0, read as integers"):
        found = counted(small, path, tmp_path)
    assert (found.votes.counts == sound.votes.counts).all()
    assert found.classifications.galaxies.equals(sound.classifications.galaxies)
    assert found.ingest.n_volunteers == sound.ingest.n_volunteers
    assert any("1000000.0" in note for note in found.ingest.notes)


def test_the_same_person_with_and_without_a_point_is_one_volunteer(
    tmp_path: Path, small: SimulateResult, sound: IngestResult
) -> None:
    def some(i: int, row: Row) -> None:
        row["user_id"] += ".0" if row["user_id"] and i % 2 else ""

    with pytest.warns(GZooWarning, match="decimal point"):
        found = counted(small, changed(small, tmp_path / "e.csv", some), tmp_path)
    assert found.ingest.n_volunteers == sound.ingest.n_volunteers
    assert (found.votes.counts == sound.votes.counts).all()


REFUSED = {
    "a JSON float": lambda subject: 5.87722981742084e17 + 128 * int(subject),
    "scientific notation": lambda subject: f"5.877229{int(subject) % 1000}e+17",
    "a decimal point": lambda subject: f"587722981742{int(subject):06}.0",
    "a decimal": lambda subject: int(subject) + 0.5,
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_identifiers_that_lost_digits_are_refused(
    tmp_path: Path, small: SimulateResult, change: Callable[[str], object]
) -> None:
    path = changed(small, tmp_path / "e.csv", with_field(change))
    with pytest.raises(TableError, match=rf"can be used: [\d,]+ x {RULE} \(first: row 1, {RULE}: id_str = "):
        counted(small, path, tmp_path)
    with pytest.warns(
        GZooWarning, match="Field 'id_str' has identifiers such as .* subjects are counted by their own number"
    ):
        assert propose(path, small.workflows, "gz2").fields["id_str"] == "subject_id"


def test_an_identifier_that_is_missing_in_words_is_missing(tmp_path: Path, small: SimulateResult) -> None:
    path = changed(small, tmp_path / "e.csv", with_field(lambda subject: "NULL" if subject.endswith("1") else subject))
    assert counted(small, path, tmp_path).ingest.reasons["subject unreadable"] > 0


def test_whole_floats_are_corrected_and_not_merged(tmp_path: Path, small: SimulateResult, sound: IngestResult) -> None:
    path = changed(small, tmp_path / "e.csv", with_field(float))
    with pytest.warns(GZooWarning, match=r"6 identifiers were numbers such as 12.0"):
        found = counted(small, path, tmp_path)
    assert sorted(found.votes.counts.tolist()) == sorted(sound.votes.counts.tolist())
    two = changed(small, tmp_path / "e.csv", with_field(lambda subject: ["7", "7.0"][int(subject) % 2]))
    with (
        pytest.warns(GZooWarning, match="subjects at different positions"),
        pytest.raises(TableError, match=rf"x identifier of subjects at different positions, \d+ x {RULE} "),
    ):
        counted(small, two, tmp_path)


def test_identifiers_that_a_site_rounded_are_warned_of(tmp_path: Path, small: SimulateResult) -> None:
    path = changed(small, tmp_path / "e.csv", with_field(lambda subject: 587722981742000000 + 100 * int(subject)))
    with pytest.warns(GZooWarning, match=r"all 6 integers above 2\^53 are multiples of 100 .*may have been rounded"):
        assert counted(small, path, tmp_path).ingest.n_galaxies == 6


def test_data_of_another_subject_are_not_used(tmp_path: Path, small: SimulateResult) -> None:
    """As where a spreadsheet rounded the column of numbers, but not the text of the data."""

    def rounded(i: int, row: Row) -> None:
        row["subject_ids"] = str(int(row["subject_ids"]) + 10**7) if i == 0 else row["subject_ids"]

    found = counted(small, changed(small, tmp_path / "e.csv", rounded), tmp_path)
    assert found.ingest.reasons["subject unreadable"] == 1
    assert "but subject_data is of subject" in found.ingest.examples["subject unreadable"][0][1]


def test_a_question_answered_twice_is_named(tmp_path: Path, small: SimulateResult) -> None:
    """Volunteers who went back and changed the first answer: the tasks after it look unfinished, which is no cause."""

    known: dict[str, dict[str, str]] = {}

    def back(i: int, row: Row) -> None:
        annotations = json.loads(row["annotations"])
        first = next(one for one in annotations if one["task"] == "T0")
        known.setdefault(first["value"], first)
        others = [one for value, one in known.items() if value != first["value"]]
        row["annotations"] = json.dumps([others[0] if i % 2 and others else first, *annotations])

    found = counted(small, changed(small, tmp_path / "e.csv", back), tmp_path).ingest
    assert "unfinished" not in found.reasons
    assert "no usable answer" not in found.reasons
    n = found.reasons["question answered twice, differently"]
    assert 0.3 * found.n_rows < n < 0.6 * found.n_rows
    details = {detail for _, detail in found.examples["question answered twice, differently"]}
    assert all("answered twice" in one or one == "two different answers to smooth-or-featured-gz2" for one in details)


@pytest.mark.parametrize("sign", [";", "\t"])
def test_other_separators_of_an_export_are_named(tmp_path: Path, small: SimulateResult, sign: str) -> None:
    frame = pl.read_csv(small.classifications, infer_schema=False)
    frame.write_csv(tmp_path / "e.csv", separator=sign)
    with pytest.raises(TableError, match="are separated by"):
        counted(small, tmp_path / "e.csv", tmp_path)


def test_rows_of_workflows_have_all_cells(tmp_path: Path, small: SimulateResult) -> None:
    rows = small.workflows.read_text().splitlines()
    (tmp_path / "w.csv").write_text("\n".join([rows[0], rows[1].rpartition(',"')[0]]) + "\n")
    with pytest.raises(TableError, match=r"w.csv, row 1 has too few cells"):
        read_workflows(tmp_path / "w.csv")
