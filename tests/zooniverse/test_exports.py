"""Exports: every row and annotation is counted or excluded by a rule, and corruption affects only its own row."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import gzoo
from gzoo import cli
from gzoo.errors import GZooError, InputError, NotFoundError, OutputExistsError, TableError
from gzoo.simulator import SimulateResult, simulate
from gzoo.trees.campaign import campaign, tree
from gzoo.zooniverse import ExportFiles, count, exports, ingest, interpretation, propose, reading
from gzoo.zooniverse.classifications import Ingest
from gzoo.zooniverse.mapping import mapping
from gzoo.zooniverse.tasks import Tasks
from gzoo.zooniverse.workflows import plain, read_workflows

Row = dict[str, str]
GZ2 = campaign("gz2")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SimulateResult:
    """Some 500 classifications of 12 galaxies."""
    return simulate("gz2", n_galaxies=12, seed=5, images=False, out=tmp_path_factory.mktemp("export") / "sky")


@pytest.fixture(scope="module")
def mapped(small: SimulateResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mapping file of `small`."""
    path = tmp_path_factory.mktemp("mapping") / "mapping.toml"
    mapping(small.classifications, "gz2", workflows=small.workflows, out=path)
    return path


def rows_of(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def written(rows: Sequence[Row], path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def summary(export: Path, small: SimulateResult, mapped: Path) -> Ingest:
    made = ingest(ExportFiles(export, small.workflows, mapped), GZ2).ingest
    assert_complete(made)
    return made


def assert_complete(made: Ingest) -> None:
    assert made.n_rows == made.n_used + sum(made.reasons.values())
    assert made.n_annotations == made.n_annotations_used + sum(made.annotation_reasons.values())


def is_truth(made: SimulateResult, counted: Path) -> bool:
    truth, found = pl.read_parquet(made.votes).sort("id_str"), pl.read_parquet(counted).sort("id_str")
    exact = [name for name in truth.columns if name not in ("ra", "dec")]
    are_near = np.allclose(truth.select("ra", "dec").to_numpy(), found.select("ra", "dec").to_numpy(), atol=1e-9)
    return are_near and truth.select(exact).equals(found.select(exact))


@pytest.mark.parametrize(("name", "n"), [("gz2", 500), ("gz_desi", 60), ("gz_hubble", 30), ("gz_rings", 30)])
def test_a_simulated_export_reproduces_the_vote_table(tmp_path: Path, name: str, n: int) -> None:
    made = simulate(name, n_galaxies=n, seed=2, images=False, out=tmp_path / "sky")
    counted = count(name, classifications=made.classifications, workflows=made.workflows, out=tmp_path / "v.parquet")
    assert_complete(counted.ingest)
    assert is_truth(made, counted.out)
    assert counted.ingest.n_rows == made.n_classifications
    if name == "gz2":
        volunteers = pl.read_parquet(made.volunteers)
        assert counted.ingest.n_rows > 20_000
        assert counted.ingest.reasons[reading.AGAIN] > 100
        assert volunteers["is_bot"].any()
        assert counted.ingest.n_anonymous > 100


def test_counts_do_not_depend_on_the_order_of_rows(tmp_path: Path, small: SimulateResult, mapped: Path) -> None:
    rows = rows_of(small.classifications)
    random.Random(0).shuffle(rows)
    out = tmp_path / "v.parquet"
    source = written(rows, tmp_path / "shuffled.csv")
    count("gz2", classifications=source, workflows=small.workflows, mapping=mapped, out=out)
    assert is_truth(small, out)


def test_blocks_of_any_size_give_the_same(
    small: SimulateResult, mapped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = summary(small.classifications, small, mapped)
    for size in (5000, 65_536):
        monkeypatch.setattr(exports, "BLOCK_BYTES", size)
        assert summary(small.classifications, small, mapped) == whole


# --- real exports -------------------------------------------------------------------------------------------------


def test_real_galaxy_zoo_rows_are_counted(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "exports"
    source, workflows = folder / "gz_decals_classifications.csv", folder / "gz_decals_workflow_versions.txt"
    made = mapping(source, "gz_desi", workflows=workflows, out=tmp_path / "mapping.toml")
    assert isinstance(made, Tasks)
    assert not made.is_complete  # the labels of these early versions differ from the tree's
    out = tmp_path / "v.parquet"
    counted = count("gz_desi", classifications=source, workflows=workflows, mapping=tmp_path / "mapping.toml", out=out)
    assert_complete(counted.ingest)
    assert (counted.ingest.n_rows, counted.ingest.n_used) == (9, 9)
    # counted by hand in the nine rows: T0 three times smooth, five times features, once an artifact
    votes = pl.read_parquet(counted.out).sum()
    found = [votes[f"smooth-or-featured-dr5_{answer}"][0] for answer in ("smooth", "featured-or-disk", "artifact")]
    assert found == [3, 5, 1]
    assert [votes[f"bar-dr5_{answer}"][0] for answer in ("strong", "weak", "no")] == [3, 0, 2]
    assert votes["rare-features-dr5_lens-or-arc"][0] == 1
    assert votes["rare-features-dr5_ring"][0] == 1
    # 44.73 has an empty list for merging; three rows have answers that the tree lacks: "Both" and two others
    assert counted.ingest.annotation_reasons[interpretation.A_NOTHING] == 1
    assert set(counted.ingest.versions) == {
        f"6122 {v}" for v in ("28.30", "39.61", "44.73", "46.73", "46.77", "55.121")
    }


def test_1729_real_responses_are_accounted_for(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "exports" / "gz_panoptes_flat_responses.jsonl"
    mapping(source, "gz_desi", out=tmp_path / "mapping.toml")
    counted = count("gz_desi", classifications=source, mapping=tmp_path / "mapping.toml", out=tmp_path / "v.parquet")
    assert_complete(counted.ingest)
    assert counted.ingest.n_annotations == 1729
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    given = {(one["classification_id"], one["response"]) for one in lines if one["question"] == "smooth-or-featured"}
    assert sum(counted.ingest.n_votes_of[f"smooth-or-featured-{part}"] for part in ("dr5", "dr8")) == len(given)


@pytest.mark.parametrize(
    "name",
    ["michigan_survey_sample_2000", "kenya-sample", "chicago_sample_version5", "caesar_cat-project-classifications"],
)
def test_other_projects_are_rejected_with_a_reason(shared_data: Path, tmp_path: Path, name: str) -> None:
    folder = shared_data / "exports"
    source = folder / f"{name}.csv"
    with pytest.raises(NotFoundError, match="workflow export"):
        count("gz2", classifications=source, out=tmp_path / "v.parquet")
    with pytest.raises(TableError, match="has none of the workflows"):
        mapping(source, "gz2", workflows=folder / "caesar_wf_export.csv")
    decals = folder / "gz_decals_workflow_versions.txt"
    mapping(folder / "gz_decals_classifications.csv", "gz_desi", workflows=decals, out=tmp_path / "mapping.toml")
    with pytest.raises(TableError, match="workflow not in the mapping"):
        count(
            "gz_desi",
            classifications=source,
            workflows=decals,
            mapping=tmp_path / "mapping.toml",
            out=tmp_path / "v.parquet",
        )
    assert not (tmp_path / "v.parquet").exists()


def test_questions_of_another_project_do_not_match(shared_data: Path) -> None:
    folder = shared_data / "exports"
    with pytest.raises(TableError, match=r"No task .* matches a question of gz2"):
        mapping(folder / "caesar_cls_export.csv", "gz2", workflows=folder / "caesar_wf_export.csv")


@pytest.mark.parametrize(
    "name", ["gz_decals_workflow_28_30", "gz_decals_workflow_version", "gz_decals_workflow_versions"]
)
def test_real_workflow_files_are_read(shared_data: Path, name: str) -> None:
    found = read_workflows(shared_data / "exports" / f"{name}.txt")
    assert found.ids == ("6122",)
    assert all(len(version.tasks) >= 10 for version in found.versions.values())
    if name.endswith("versions"):
        assert len(found.versions) == 24
        assert found.find("6122", "28.30") is found.versions["6122", "28", "30"]
        assert found.find("6122", "99.1") is None


# --- versions -----------------------------------------------------------------------------------------------------


def workflow(version: str, answers: Sequence[str], question: str = "Smooth or featured?") -> dict[str, object]:
    major, _, minor = version.partition(".")
    labels = {f"T0.answers.{i}.label": answer for i, answer in enumerate(answers)}
    return {
        "id": "1",
        "major_number": int(major),
        "minor_number": int(minor),
        "first_task": "T0",
        "links": {"workflow": "7"},
        "tasks": {
            "T0": {
                "type": "single",
                "question": "T0.question",
                "required": True,
                "answers": [{"label": key} for key in labels],
            }
        },
        "strings": {"T0.question": question, **labels},
    }


def one_row(version: str, value: object, **changes: str) -> Row:
    started = '"started_at":"2020-01-01T00:00:00.000Z","finished_at":"2020-01-01T00:00:09.000Z"'
    return {
        "classification_id": "1",
        "user_name": "somebody",
        "user_id": "5",
        "user_ip": "aa",
        "workflow_id": "7",
        "workflow_name": "Seven",
        "workflow_version": version,
        "created_at": "2020-01-01 00:00:09 UTC",
        "gold_standard": "",
        "expert": "",
        "metadata": f"{{{started}}}",
        "annotations": json.dumps([{"task": "T0", "value": value}]),
        "subject_data": json.dumps({"33": {"name": "ngc1"}}),
        "subject_ids": "33",
        **changes,
    }


def read_rows(rows: Sequence[Row], versions: list[dict[str, object]], folder: Path, toml: str = "") -> gzoo.Votes:
    (folder / "workflows.json").write_text(json.dumps(versions))
    export = written(rows, folder / "export.csv")
    tasks = None
    if toml:
        tasks = folder / "mapping.toml"
        tasks.write_text(toml)
    read = ingest(ExportFiles(export, folder / "workflows.json", tasks), GZ2)
    assert_complete(read.ingest)
    return read.votes


def test_versions_are_strings(tmp_path: Path) -> None:
    """In 28.3 the second answer is the artifact, in 28.30 it is featured: as numbers they would be equal."""
    orders = {"28.3": ("Smooth", "Artifact", "Featured or disk"), "28.30": ("Smooth", "Featured or disk", "Artifact")}
    versions = [workflow(version, answers) for version, answers in orders.items()]
    rows = [
        one_row("28.3", 1),
        one_row("28.30", 1, classification_id="2", user_id="6"),
        one_row("28.30", 1, classification_id="3", user_id="7"),
    ]
    votes = read_rows(rows, versions, tmp_path)
    assert votes.counts[0, :3].tolist() == [0, 2, 1]


def test_the_nearest_minor_version_replaces_a_missing_one(tmp_path: Path) -> None:
    answers = ("Smooth", "Featured or disk", "Artifact")
    rows = [one_row("3.9", "Smooth"), one_row("4.1", "Smooth", classification_id="2", user_id="6")]
    votes = read_rows(rows, [workflow("3.7", answers)], tmp_path)
    assert votes.counts[0, :3].tolist() == [1, 0, 0]


def test_images_in_labels_are_removed() -> None:
    assert plain("![a.png](https://x.example/a.png) Features or *Disk*") == "Features or Disk"


def test_several_answers_are_rejected_if_the_tree_allows_one(tmp_path: Path) -> None:
    versions = [workflow("1.1", ("Smooth", "Featured or disk", "Artifact"))]
    rows = [
        one_row("1.1", ["Smooth"]),
        one_row("1.1", ["Smooth", "Artifact"], classification_id="2", user_id="6"),
    ]
    votes = read_rows(rows, versions, tmp_path)
    assert votes.counts[0, :3].tolist() == [1, 0, 0]


def test_a_workflow_may_be_excluded(tmp_path: Path) -> None:
    versions = [workflow("1.1", ("Smooth", "Featured or disk", "Artifact"))]
    row = one_row("1.1", "Smooth")
    proposed = propose(written([row], tmp_path / "e.csv"), _saved(versions, tmp_path), "gz2").to_toml()
    with pytest.raises(TableError, match="excluded in the mapping"):
        read_rows([row], versions, tmp_path, proposed.replace("excluded = []", 'excluded = ["7"]'))


def _saved(versions: object, folder: Path) -> Path:
    (folder / "w.json").write_text(json.dumps(versions))
    return folder / "w.json"


# --- rules --------------------------------------------------------------------------------------------------------


def in_metadata(row: Row, **changes: object) -> Row:
    facts = {**cast("dict[str, object]", json.loads(row["metadata"])), **changes}
    return {**row, "metadata": json.dumps({key: value for key, value in facts.items() if value is not None})}


RULES: dict[str, Callable[[Row], Row]] = {
    reading.GOLD: lambda row: {**row, "gold_standard": "true"},
    reading.STAFF: lambda row: {**row, "expert": "expert"},
    reading.NOT_LIVE: lambda row: in_metadata(row, live_project=False),
    interpretation.UNFINISHED: lambda row: in_metadata(row, finished_at=None),
    interpretation.UNREADABLE: lambda row: {**row, "annotations": row["annotations"][:-3]},
    interpretation.NO_ANSWER: lambda row: {**row, "annotations": '[{"task":"T99","value":"x"}]'.replace("T99", "T1")},
    reading.OTHER_VERSION: lambda row: {**row, "workflow_version": "77.1"},
    reading.OTHER_WORKFLOW: lambda row: {**row, "workflow_id": "12"},
    reading.SEVERAL_SUBJECTS: lambda row: {**row, "subject_ids": f"{row['subject_ids']};4"},
    reading.NO_SUBJECT: lambda row: {**row, "subject_ids": "77", "subject_data": "{"},
    reading.TWICE: lambda row: {**row, "classification_id": "10000000"},
    exports.R_UNREADABLE: lambda row: {**row, "classification_id": "no number"},
    exports.R_LONG: lambda row: {**row, "annotations": "x" * 10_000_000},
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_excludes_its_row_and_no_other(
    tmp_path: Path, small: SimulateResult, mapped: Path, rule: str
) -> None:
    rows = rows_of(small.classifications)
    before = summary(small.classifications, small, mapped)
    place = 200
    rows[place] = RULES[rule](rows[place])
    made = summary(written(rows, tmp_path / "export.csv"), small, mapped)
    if rule == interpretation.NO_ANSWER:  # the first task must be answered
        rule = interpretation.UNFINISHED
    assert made.reasons[rule] == before.reasons.get(rule, 0) + 1
    assert made.examples[rule][0][0] == place + 1
    assert made.n_rows == before.n_rows
    assert made.n_used == before.n_used - 1


def test_annotations_have_separate_rules(tmp_path: Path, small: SimulateResult, mapped: Path) -> None:
    def changed(edit: Callable[[list[dict[str, object]]], object]) -> Ingest:
        rows = rows_of(small.classifications)
        annotations = cast("list[dict[str, object]]", json.loads(rows[100]["annotations"]))
        edit(annotations)
        rows[100]["annotations"] = json.dumps(annotations)
        return summary(written(rows, tmp_path / "export.csv"), small, mapped)

    labels = [cast("list[dict[str, object]]", json.loads(row["annotations"])) for row in rows_of(small.classifications)]
    assert len(labels[100]) >= 2
    assert (
        changed(lambda annotations: annotations.append({"value": "Smooth"})).annotation_reasons[
            interpretation.A_UNREADABLE
        ]
        == 1
    )
    assert (
        changed(lambda annotations: annotations.append({"task": "T77", "value": "x"})).annotation_reasons[
            interpretation.A_OTHER_TASK
        ]
        == 1
    )
    # without its label a task is still known by its key and version
    assert (
        changed(lambda annotations: annotations[0].pop("task_label")).annotation_reasons
        == summary(small.classifications, small, mapped).annotation_reasons
    )
    twice = changed(lambda annotations: annotations.append(dict(annotations[0])))
    assert twice.annotation_reasons[interpretation.A_TWICE] == 1
    several = changed(lambda annotations: annotations[-1].update(value=[annotations[-1]["value"], "Another"]))
    assert several.annotation_reasons[interpretation.A_SEVERAL] == 1


def test_an_answer_without_its_parent_answer_is_not_counted(tmp_path: Path) -> None:
    """After "smooth" the bar is not asked about: that annotation is not counted, the first one is."""
    version = workflow("1.1", ("Smooth", "Featured or disk", "Artifact"))
    tasks = cast("dict[str, object]", version["tasks"])
    strings = cast("dict[str, str]", version["strings"])
    tasks["T1"] = {"type": "single", "question": "T1.question", "answers": [{"label": "a"}, {"label": "b"}]}
    strings.update({"T1.question": "Is there a bar?", "a": "Yes", "b": "No"})
    row = one_row("1.1", "Smooth")
    row["annotations"] = json.dumps([{"task": "T0", "value": "Smooth"}, {"task": "T1", "value": "Yes"}])
    votes = read_rows([row], [version], tmp_path)
    assert votes.counts.sum() == 1
    assert votes.counts[0, 0] == 1


def test_volunteers_are_identified_by_login_or_address_and_the_first_classification_counts(tmp_path: Path) -> None:
    versions = [workflow("1.1", ("Smooth", "Featured or disk", "Artifact"))]
    rows = [
        one_row("1.1", "Artifact", created_at="2020-01-01 00:00:20 UTC"),
        one_row("1.1", "Smooth", classification_id="2"),  # the same volunteer, earlier
        one_row("1.1", "Smooth", classification_id="3", user_id="", user_ip="bb"),
        one_row(
            "1.1", "Artifact", classification_id="4", user_id="", user_ip="bb", created_at="2020-01-02 00:00:00 UTC"
        ),
        one_row("1.1", "Smooth", classification_id="5", user_id="", user_ip="cc"),
    ]
    assert read_rows(rows, versions, tmp_path).counts[0, :3].tolist() == [3, 0, 0]


def test_unidentified_classifications_count_as_separate_volunteers(tmp_path: Path) -> None:
    lines = [
        {
            "classification_id": i,
            "workflow_id": 7,
            "subject_id": 1,
            "question": "smooth-or-featured",
            "response": "smooth",
        }
        for i in range(3)
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    mapping(path, "gz2", out=tmp_path / "mapping.toml")
    made = ingest(ExportFiles(path, None, tmp_path / "mapping.toml"), GZ2)
    assert made.votes.counts[0, 0] == 3
    assert made.ingest.notes[reading.NOTE_UNIDENTIFIED] == 3


# --- damage -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corruption_excludes_only_its_row(
    data: st.DataObject, tmp_path: Path, small: SimulateResult, mapped: Path
) -> None:
    lines = small.classifications.read_bytes().splitlines(keepends=True)
    before = summary(small.classifications, small, mapped)
    i = data.draw(st.integers(1, len(lines) - 1), label="row")
    place = data.draw(st.integers(0, len(lines[i]) - 2), label="place")
    n = data.draw(st.integers(0, 40), label="bytes taken")
    junk = data.draw(
        st.binary(max_size=30) | st.sampled_from([b'"', b'""', b",", b'",', b"\xff", b"\0", b"\r", b"{", b"\\"]),
        label="junk",
    ).replace(b"\n", b"")
    end = min(place + n, len(lines[i]) - 1)
    lines[i] = lines[i][:place] + junk + lines[i][end:]
    path = tmp_path / "damaged.csv"
    path.write_bytes(b"".join(lines))
    made = summary(path, small, mapped)
    assert made.n_rows >= before.n_rows - 1
    assert made.n_used >= before.n_used - 1


@pytest.mark.parametrize("spoil", [b'"', b"\xe9\xff", b",,,"])
def test_a_corrupt_row_is_reported(tmp_path: Path, small: SimulateResult, mapped: Path, spoil: bytes) -> None:
    lines = small.classifications.read_bytes().splitlines(keepends=True)
    lines[30] = spoil + lines[30]
    (tmp_path / "e.csv").write_bytes(b"".join(lines))
    made = summary(tmp_path / "e.csv", small, mapped)
    (row, detail), *_ = made.examples[exports.R_UNREADABLE]
    assert row == 30
    assert detail


def test_a_cell_may_contain_line_breaks(tmp_path: Path, small: SimulateResult, mapped: Path) -> None:
    rows = rows_of(small.classifications)
    for place in (3, 90, 91):
        rows[place]["annotations"] = json.dumps(json.loads(rows[place]["annotations"]), indent=1)
    path = written(rows, tmp_path / "export.csv")
    assert summary(path, small, mapped).n_used == summary(small.classifications, small, mapped).n_used


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"id,votes\n1,2\n", "column 'classification_id'"),
        ("classification_id,annotations\n".encode("utf-16"), "UTF-8"),
        (b"classification_id,classification_id\n1,1\n", "more than once"),
        (b"\xff\xfe\xfd,a\n", "UTF-8"),
    ],
)
def test_other_files_are_rejected(tmp_path: Path, small: SimulateResult, content: bytes, words: str) -> None:
    (tmp_path / "e.csv").write_bytes(content)
    with pytest.raises(TableError, match=words):
        propose(tmp_path / "e.csv", small.workflows, "gz2")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@example(content=b"[]")
@example(content=b'[{"tasks": 3}]')
@example(content=b"__import__('os').system('true')")
@example(content=b"[" * 100_000)
def test_any_workflow_file_is_read_or_rejected(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(GZooError):
        read_workflows(tmp_path / "w")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["task", "value", "label", "x"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(value=st.lists(JSON, max_size=5))
def test_any_annotations_are_accounted_for(value: list[object]) -> None:
    found = READER.read(json.dumps(value), VERSION)
    assert sum(found.lost.values()) <= found.n_annotations
    assert bool(found.asked) != bool(found.problem)


def _reader() -> tuple[interpretation.AnnotationReader, interpretation.Version]:
    from gzoo.zooniverse.tasks import Entry
    from gzoo.zooniverse.workflows import Task

    task = Task("x", "multiple", "what", ("a", "b"), ("", ""), "", False)
    root = tree("gz2").questions[0]
    entry = Entry("1", "x", "what", root.name, {"a": root.columns[0], "b": root.columns[1]})
    return interpretation.AnnotationReader(tree("gz2"), {("1", "x", "what"): entry}), interpretation.Version(
        "1", "", "1", "1", {"x": task}, "x"
    )


READER, VERSION = _reader()


# --- the mapping file ---------------------------------------------------------------------------------------------


def test_a_mapping_file_contains_the_proposal(small: SimulateResult, mapped: Path) -> None:
    proposed = propose(small.classifications, small.workflows, "gz2")
    read = Tasks.read(mapped, GZ2.tree)
    assert proposed.is_complete
    assert read.entries == proposed.entries
    assert read.fields["id_str"] == "id_str"


@settings(max_examples=40, deadline=None)
@given(label=st.text(min_size=1, max_size=30), workflow=st.text(min_size=1, max_size=10))
def test_a_mapping_file_is_valid_toml_for_any_labels(label: str, workflow: str) -> None:
    from gzoo.zooniverse.tasks import Entry

    clean = label.encode("utf-8", "replace").decode()
    entry = Entry(workflow.encode("utf-8", "replace").decode(), "T0", clean, "", {clean: ""}, doubt=clean)
    text = Tasks((entry,), unmatched={("1", "T1", clean): clean}, not_found=(clean,)).to_toml()
    (found,) = tomllib.loads(text)["task"]
    assert found["label"] == entry.label
    assert found["answers"] == entry.answers
    assert found["workflow"] == entry.workflow


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('question = "bar-gz2"', 'question = "bars-gz2"', "not a question"),
        ('"Smooth" = "smooth-or-featured-gz2_smooth"', '"Smooth" = "bar-gz2_yes"', "not an answer of"),
        ("excluded = []", "excluded = 3", "wrong type"),
        ("excluded = []", "leftout = []", "key 'leftout'"),
        ('task = "T0"', "task = 0", "is not valid"),
        ("[[task]]", "[[task", "is not TOML"),
    ],
)
def test_an_invalid_mapping_file_is_rejected(tmp_path: Path, mapped: Path, old: str, new: str, words: str) -> None:
    text = mapped.read_text()
    assert old in text
    (tmp_path / "mapping.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(TableError, match=words):
        Tasks.read(tmp_path / "mapping.toml", GZ2.tree)


def test_an_uncertain_mapping_must_be_confirmed(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "exports"
    with pytest.raises(InputError, match="gzoo mapping"):
        count(
            "gz_desi",
            classifications=folder / "gz_decals_classifications.csv",
            workflows=folder / "gz_decals_workflow_versions.txt",
            out=tmp_path / "v.parquet",
        )


# --- results ------------------------------------------------------------------------------------------------------


def test_the_command_writes_all_files_without_names_of_volunteers(
    tmp_path: Path, small: SimulateResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    out, page, volunteers = tmp_path / "votes.parquet", tmp_path / "page.html", tmp_path / "volunteers.csv"
    command = ["gzoo", "count", "gz2", "--classifications", str(small.classifications), "--workflows"]
    command += [
        str(small.workflows),
        "--out",
        str(out),
        "--report",
        str(page),
        "--volunteers",
        str(volunteers),
        "--weights",
    ]
    monkeypatch.setattr("sys.argv", [*command, "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    output = capsys.readouterr()
    facts = json.loads(output.out)
    assert facts["n_rows"] == small.n_classifications
    rows = rows_of(small.classifications)
    names = {row[key] for row in rows for key in ("user_name", "user_id", "user_ip")} - {""}
    texts = {
        "page": page.read_text(),
        "json": output.out,
        "screen": output.err,
        "votes": str(pl.read_parquet(out).to_dicts()),
    }
    for where, text in texts.items():
        assert not [name for name in names if re.search(rf"(?<![\d.]){re.escape(name)}(?!\d)", text)], where
    assert len(volunteers.read_text().splitlines()) == facts["n_volunteers"] + 1
    assert "SIMULATED" in page.read_text()
    table = gzoo.read_votes(out, GZ2)
    assert {name.rpartition("_")[2] for name in table.excluded} == {"fraction", "effective-votes"}
    assert len(table.votes) == 12

    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        cli.main()
    assert "already contains a finished vote table" in capsys.readouterr().err


def test_results_are_overwritten_only_on_request(tmp_path: Path, small: SimulateResult) -> None:
    (tmp_path / "v.parquet").write_text("mine")
    with pytest.raises(OutputExistsError):
        count("gz2", classifications=small.classifications, workflows=small.workflows, out=tmp_path / "v.parquet")
    assert (tmp_path / "v.parquet").read_text() == "mine"


def test_the_list_of_volunteers_contains_no_formula(tmp_path: Path) -> None:
    versions = [workflow("1.1", ("Smooth", "Featured or disk", "Artifact"))]
    export = written([one_row("1.1", "Smooth", user_name="=cmd()")], tmp_path / "e.csv")
    volunteers = tmp_path / "p.csv"
    count(
        "gz2",
        classifications=export,
        workflows=_saved(versions, tmp_path),
        out=tmp_path / "v.parquet",
        volunteers=volunteers,
    )
    assert next(csv.DictReader(io.StringIO(volunteers.read_text())))["volunteer"] == "'=cmd()"


# --- build --------------------------------------------------------------------------------------------------------


def test_build_counts_classifications(tmp_path: Path, sky: SimulateResult, dataset: Path, mapped: Path) -> None:
    """The dataset equals the one built from the vote table, and lists every row without names of volunteers."""
    out = tmp_path / "dataset"
    built = gzoo.build(
        "gz2",
        classifications=sky.classifications,
        workflows=sky.workflows,
        images=sky.images,
        out=out,
        weights=True,
        report=tmp_path / "page.html",
    )
    made = built.ingest
    assert made is not None
    assert_complete(made)
    for shard in (dataset / "data").iterdir():
        assert (out / "data" / shard.name).read_bytes() == shard.read_bytes()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["ingest"]["n_rows"] == sky.n_classifications
    assert "SIMULATED" in (tmp_path / "page.html").read_text()
    weighted = pl.read_parquet(out / "weighted.parquet")
    assert weighted.height == sum(built.n_galaxies.values())
    names = {row["user_name"] for row in rows_of(sky.classifications)}
    for path in [*out.rglob("*.json"), *out.rglob("*.md"), tmp_path / "page.html"]:
        text = path.read_text()
        assert not [name for name in names if name in text], path
    assert not list(out.glob("counted*"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "missing"),
        ({"votes": "v", "classifications": "c"}, "mutually exclusive"),
        ({"votes": "v", "weights": True}, "--weights"),
    ],
)
def test_build_needs_exactly_one_source_of_votes(tmp_path: Path, given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        gzoo.build("gz2", images=tmp_path, out=tmp_path / "out", **given)  # pyright: ignore[reportArgumentType]
