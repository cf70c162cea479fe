"""From an export to clicks: every row and every annotation is counted as a vote or under the rule that took it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo import files
from gzoo.errors import TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import IntArray, Tree
from gzoo.zooniverse import exports, interpretation
from gzoo.zooniverse.classifications import GALAXY_SCHEMA, BoolArray, Clicks
from gzoo.zooniverse.tasks import SUBJECT, Tasks
from gzoo.zooniverse.workflows import Task, Version, Workflows

TWICE = "classification twice in the export"
OTHER_WORKFLOW = "workflow not in the mapping"
LEFT_OUT = "workflow left out in the mapping"
OTHER_VERSION = "unknown workflow version"
GOLD = "gold standard"
STAFF = "staff"
NOT_LIVE = "project not live"
SEVERAL_SUBJECTS = "several subjects"
NO_SUBJECT = "subject unreadable"
AGAIN = "same volunteer again"
RULES: Mapping[str, str] = {
    exports.R_UNREADABLE: "the row is not CSV or JSON, not UTF-8, has too few or too many cells, or no number",
    exports.R_LONG: f"the row has over {exports.MAX_ROW:,} bytes",
    TWICE: "a row with this classification's number came before",
    OTHER_WORKFLOW: "no task of that workflow is in the mapping",
    LEFT_OUT: "the mapping leaves that workflow out",
    OTHER_VERSION: "the workflow export has no version with that major number",
    GOLD: "made as a gold standard, by someone who knew the answer",
    STAFF: "made by a member of the project's staff (column expert)",
    NOT_LIVE: "made before the project went live, as its metadata say",
    interpretation.UNREADABLE: "the annotations are not a JSON list",
    interpretation.UNFINISHED: "the metadata name no end, or the walk breaks off at a task that must be answered",
    SEVERAL_SUBJECTS: "one classification of several subjects together",
    NO_SUBJECT: "subject_data is not JSON, or lacks the field that names the galaxy",
    interpretation.NO_ANSWER: "no annotation that could be counted",
    AGAIN: "the same volunteer, or the same anonymous address, classified this galaxy before: the first counts",
}
"""Rules that take whole classifications, in the order in which they are applied; the first one that fits counts."""
ANNOTATION_RULES: Mapping[str, str] = {
    interpretation.OTHER_ROW: "its classification was taken by a rule",
    interpretation.A_UNREADABLE: "no task, or a value that is no choice of answers",
    interpretation.A_OTHER_TASK: "that version of the workflow has no such task",
    interpretation.A_UNMAPPED: "the mapping does not list that task with those words",
    interpretation.A_LEFT_OUT: "the mapping leaves the task out",
    interpretation.A_NOTHING: "the volunteer passed on",
    interpretation.A_UNKNOWN: "the mapping does not list that answer",
    interpretation.A_NO_COLUMN: "the tree has no such answer, the mapping says",
    interpretation.A_SEVERAL: "the site allowed several answers where the tree has one",
    interpretation.A_TWICE: "of equal ones the first counts, of others none",
    interpretation.A_UNASKED: "the tree asks this only after an answer that was not given",
}
N_EXAMPLES = 5
UNKNOWN_TIME = np.iinfo(np.int64).min
_NOT_GIVEN = ("", "NA", "nan", "NaN", "null", "None")
_MAX_ID = 256

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""


@dataclass(slots=True)
class Account:
    """What became of rows and annotations (see `gzoo.zooniverse.classifications.Ingest`)."""

    n_rows: int = 0
    n_annotations: int = 0
    n_annotations_used: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    annotation_reasons: dict[str, int] = field(default_factory=dict[str, int])
    notes: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, tuple[tuple[int, str], ...]] = field(default_factory=dict[str, tuple[tuple[int, str], ...]])
    versions: dict[str, int] = field(default_factory=dict[str, int])


def read_clicks(
    path: Path, workflows: Workflows, campaign: Campaign, tasks: Tasks, progress: Progress | None = None
) -> tuple[Clicks, Account]:
    """The classifications of an export that are used, and an account of all.

    Args:
        path: CSV or JSON lines.
        workflows: The versions of the workflows; for JSON lines those of `workflows_of_lines`.
        campaign: Whose tree the answers belong to.
        tasks: The mapping.
        progress: Called as bytes are read.

    Raises:
        TableError: The file is no export, or no classification of it can be used.
    """
    table = _Table(campaign, workflows, tasks)
    done, size = 0, path.stat().st_size if path.is_file() else 0
    is_lines = path.is_file() and exports.is_json_lines(path)
    source: Iterable[exports.Block] = exports.blocks(path)
    if is_lines:
        source = [_classifications(source)]
    for block in source:
        table.add(block)
        done += block.n_bytes
        if progress:
            progress("reading classifications", done, max(size, done))
    if progress:
        progress("reading classifications", size, size)
    clicks, account = table.finish(path, one_annotation_a_row=is_lines)
    return clicks, account


def _classifications(blocks: Iterable[exports.Block]) -> exports.Block:
    """Responses, a line each, gathered into classifications."""
    every = list(blocks)
    lines = pl.concat([block.frame for block in every])
    first = [name for name in lines.columns if name not in ("classification_id", "annotations")]
    frame = lines.group_by("classification_id", maintain_order=True).agg(
        *(pl.col(name).first() for name in first), pl.col("annotations").str.slice(1).str.head(-1).str.join(",")
    )
    joined = frame.with_columns(pl.format("[{}]", "annotations").alias("annotations")).select(lines.columns)
    damaged = [one for block in every for one in block.damaged]
    return exports.Block(joined, damaged, sum(block.n_bytes for block in every))


def workflows_of_lines(path: Path) -> Workflows:
    """The workflows of a file of JSON lines, which names questions and answers itself: one version each."""
    met: dict[str, dict[str, dict[str, None]]] = {}
    for block in exports.blocks(path):
        for workflow, text in block.frame.select("workflow_id", "annotations").unique(maintain_order=True).iter_rows():
            answer = cast("dict[str, str]", json.loads(text)[0])
            met.setdefault(workflow, {}).setdefault(answer["task"], {})[answer["value"]] = None
    return Workflows(
        Version(
            workflow,
            "",
            "",
            "",
            {
                name: Task(name, "multiple", name.replace("-", " "), tuple(answers), ("",) * len(answers), "", False)
                for name, answers in questions.items()
            },
            "",
        )
        for workflow, questions in met.items()
    )


class _Table:
    """Gathers rows as numbers: texts that stand in many rows are read once."""

    def __init__(self, campaign: Campaign, workflows: Workflows, tasks: Tasks) -> None:
        self.campaign, self.tree, self.workflows, self.tasks = campaign, campaign.tree, workflows, tasks
        entries = {(one.workflow, one.task, one.label): one for one in tasks.entries}
        self.reader = interpretation.Reader(self.tree, entries)
        self.mapped = {one.workflow for one in tasks.entries}
        self.versions: dict[tuple[str, str], Version | None] = {}
        self.parsed: dict[tuple[str, str, bytes], int] = {}
        self.walks: list[interpretation.Walk] = []
        self.subjects: dict[str, int] = {}
        self.galaxy_of: list[int] = []
        self.subject_problem: list[tuple[str, str]] = []
        self.galaxies: dict[str, int] = {}
        self.galaxy_rows: list[tuple[object, ...]] = []
        self.volunteers: dict[str, int] = {}
        self.names: list[str] = []
        self.is_anonymous: list[bool] = []
        self.damaged: list[exports.Damage] = []
        self.parts: list[dict[str, npt.NDArray[Any]]] = []
        self.n_versions: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def add(self, block: exports.Block) -> None:
        self.damaged += block.damaged
        frame = block.frame
        if not frame.height:
            return
        text = [pl.col(name).fill_null("").str.strip_chars() for name in exports.COLUMNS if name not in _LONG_CELLS]
        frame = frame.with_columns(*text, *(pl.col(name).fill_null("") for name in _LONG_CELLS))
        when = [pl.col("metadata").str.extract(rf'"{key}"\s*:\s*"([^"]{{19,40}})"') for key in _TIMES]
        facts = frame.select(
            "row",
            number=pl.col("classification_id").cast(pl.Int64, strict=False),
            milliseconds=_time(pl.col("created_at")),
            begun=_time(when[0]),
            ended=_time(when[1]),
            is_gold=pl.col("gold_standard").str.to_lowercase().is_in(["true", "t", "1"]),
            is_staff=~pl.col("expert").str.to_lowercase().is_in(["", "na", "nan", "false", "null", "none"]),
            is_not_live=pl.col("metadata").str.contains(r'"live_project"\s*:\s*false'),
            is_ended=when[1].is_not_null(),
        )
        is_ended = facts["is_ended"].to_numpy() | self._ends_elsewhere(frame, facts["is_ended"])
        self.notes["creation date unreadable"] += facts["milliseconds"].null_count()
        seconds = (facts["ended"] - facts["begun"]).cast(pl.Float64).to_numpy() / 1000.0
        self.parts.append(
            {
                "row": facts["row"].to_numpy(),
                "number": facts["number"].fill_null(-1).to_numpy(),
                "milliseconds": facts["milliseconds"].fill_null(UNKNOWN_TIME).to_numpy(),
                "seconds": seconds.astype(np.float32),
                "is_gold": facts["is_gold"].to_numpy(),
                "is_staff": facts["is_staff"].to_numpy(),
                "is_not_live": facts["is_not_live"].to_numpy(),
                "is_ended": is_ended,
                "parsed": self._parsed(frame),
                "subject": self._subject(frame),
                "volunteer": self._volunteer(frame),
            }
        )

    def _ends_elsewhere(self, frame: pl.DataFrame, is_ended: pl.Series) -> BoolArray:
        """Rows that say nothing of their end because they have no metadata that can be read."""
        found = np.zeros(frame.height, bool)
        for i in np.flatnonzero(~is_ended.to_numpy()):
            text = frame["metadata"][int(i)]
            try:
                found[i] = not isinstance(json.loads(text), dict)
            except (ValueError, RecursionError):
                found[i] = True
            if found[i] and text:
                self.notes["metadata unreadable"] += 1
        return found

    def _coded(self, frame: pl.DataFrame, columns: list[str], code: Callable[[tuple[str, ...]], int]) -> IntArray:
        """A number for each row, asked once for each different content of some columns."""
        different = frame.select(columns).unique(maintain_order=True)
        codes = pl.Series("code", [code(cells) for cells in different.iter_rows()], dtype=pl.Int64)
        coded = frame.select(columns).join(different.with_columns(codes), on=columns, how="left", maintain_order="left")
        return coded["code"].to_numpy()

    def _parsed(self, frame: pl.DataFrame) -> IntArray:
        counted = frame.group_by("workflow_id", "workflow_version").len().sort("workflow_id", "workflow_version")
        for workflow, version, n in counted.iter_rows():
            self.n_versions[f"{workflow[:40]} {version[:40]}".strip()] += n
        return self._coded(frame, ["workflow_id", "workflow_version", "annotations"], self._walk)

    def _walk(self, cells: tuple[str, ...]) -> int:
        workflow, version, text = cells
        key = (workflow, version, blake2b(text.encode(), digest_size=16).digest())
        if key not in self.parsed:
            self.parsed[key] = len(self.walks)
            self.walks.append(self._read(workflow, version, text))
        return self.parsed[key]

    def _read(self, workflow: str, version: str, text: str) -> interpretation.Walk:
        nothing = frozenset[int]()
        if workflow in self.tasks.excluded or workflow not in self.mapped:
            problem = LEFT_OUT if workflow in self.tasks.excluded else OTHER_WORKFLOW
            return interpretation.Walk(problem, f"workflow {workflow[:40]}", nothing, nothing, _n_annotations(text), {})
        if (workflow, version) not in self.versions:
            self.versions[workflow, version] = self.workflows.find(workflow, version)
        found = self.versions[workflow, version]
        if found is None:
            detail = f"workflow {workflow[:40]}, version {version[:40]}"
            return interpretation.Walk(OTHER_VERSION, detail, nothing, nothing, _n_annotations(text), {})
        return self.reader.read(text, found)

    def _subject(self, frame: pl.DataFrame) -> IntArray:
        return self._coded(frame, ["subject_ids", "subject_data"], self._subject_code)

    def _subject_code(self, cells: tuple[str, ...]) -> int:
        subject, text = cells
        code = self.subjects.setdefault(subject, len(self.subjects))
        if code == len(self.galaxy_of):
            self.galaxy_of.append(-1)
            self.subject_problem.append(("", ""))
        if self.galaxy_of[code] < 0:
            galaxy = self._galaxy(subject, text)
            if isinstance(galaxy, int):
                self.galaxy_of[code] = galaxy
            else:
                self.subject_problem[code] = galaxy
        return code

    def _galaxy(self, subject: str, text: str) -> int | tuple[str, str]:
        """The galaxy that a subject shows, or the rule that its row breaks and what stood there."""
        if not subject or subject in _NOT_GIVEN:
            return NO_SUBJECT, "subject_ids is empty"
        if ";" in subject or "," in subject:
            return SEVERAL_SUBJECTS, f"subject_ids {subject[:80]}"
        facts: Mapping[str, object] = {}
        problem = ""
        if text:
            try:
                value: object = json.loads(text)
            except (ValueError, RecursionError) as error:
                value, problem = None, f"subject_data: {str(error)[:120]}"
            whole = cast("dict[str, object]", value) if isinstance(value, dict) else {}
            inner = whole.get(subject, whole)
            facts = cast("dict[str, object]", inner) if isinstance(inner, dict) else {}
        field_of = self.tasks.fields
        name = field_of.get("id_str", SUBJECT)
        id_str = subject if name == SUBJECT else _text(facts.get(name))
        if not id_str:
            return NO_SUBJECT, problem or f"subject_data has no {name}"
        if len(id_str) > _MAX_ID:
            return NO_SUBJECT, f"{name} has {len(id_str):,} characters"
        if problem:
            self.notes["subject_data unreadable, subject known by its number"] += 1
        if id_str not in self.galaxies:
            self.galaxies[id_str] = len(self.galaxies)
            ra, dec = (_degrees(facts.get(field_of.get(key) or key), *ends) for key, ends in _ANGLES.items())
            is_simulated = facts.get("simulated") is True
            texts = [_text(facts.get(field_of[key])) if field_of.get(key) else "" for key in ("source_id", "image")]
            name = self.campaign.name + (files.SIMULATED if is_simulated else "")
            self.galaxy_rows.append((id_str, name, *texts, ra, dec))
        return self.galaxies[id_str]

    def _volunteer(self, frame: pl.DataFrame) -> IntArray:
        def given(name: str) -> pl.Expr:
            return pl.when(~pl.col(name).is_in(_NOT_GIVEN)).then(pl.col(name))

        name = given("user_name")
        known = pl.coalesce("id " + given("user_id"), "address " + given("user_ip"), "name " + name)
        self.notes["nobody named: taken for a person of its own"] += frame.select(known.is_null().sum()).item()
        who = frame.select(
            pl.coalesce(known, "classification " + pl.col("classification_id")).alias("who"),
            pl.coalesce(name, "user " + given("user_id"), pl.lit("")).alias("name"),
            is_anonymous=given("user_id").is_null(),
        )
        first = who.unique("who", keep="first", maintain_order=True)
        for key, name, is_anonymous in first.iter_rows():
            if key not in self.volunteers:
                self.volunteers[key] = len(self.names)
                self.names.append(name)
                self.is_anonymous.append(is_anonymous)
        codes = first.select("who", code=pl.Series([self.volunteers[key] for key in first["who"]], dtype=pl.Int64))
        return who.select("who").join(codes, on="who", how="left", maintain_order="left")["code"].to_numpy()

    # --- the end --------------------------------------------------------------------------------------------------

    def finish(self, path: Path, *, one_annotation_a_row: bool) -> tuple[Clicks, Account]:
        account = Account(n_rows=len(self.damaged), notes=self.notes)
        examples: dict[str, list[tuple[int, str]]] = {}
        for one in self.damaged:
            account.reasons[one.reason] = account.reasons.get(one.reason, 0) + 1
            examples.setdefault(one.reason, []).append((one.row, one.detail))
            if one_annotation_a_row:
                account.n_annotations += 1
                account.annotation_reasons[one.reason] = account.annotation_reasons.get(one.reason, 0) + 1
        if not self.parts:
            raise TableError(f"{path} has no row that can be read.", "Classifications.", _first_word(examples))
        of = {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}
        account.n_rows += len(of["row"])
        account.versions = dict(sorted(self.n_versions.items()))

        names = list(RULES)
        reason = self._reasons(of, names)
        used = np.flatnonzero(reason < 0)
        for i, name in enumerate(names):
            rows = np.flatnonzero(reason == i)
            if len(rows):
                account.reasons[name] = account.reasons.get(name, 0) + len(rows)
                found = [(int(of["row"][at]), self._detail(of, int(at), name)) for at in rows[:N_EXAMPLES]]
                examples.setdefault(name, []).extend(found)
        account.reasons = {name: account.reasons[name] for name in names if name in account.reasons}
        account.examples = {
            name: tuple(sorted(examples[name])[:N_EXAMPLES]) for name in account.reasons if name in examples
        }
        self._account_annotations(account, of["parsed"], reason < 0)
        if not len(used):
            listed = ", ".join(f"{n:,} x {name}" for name, n in account.reasons.items())
            raise TableError(
                f"{path}: none of its {account.n_rows:,} rows can be used ({listed}).",
                f"Classifications of {self.campaign.name}.",
                _first_word(examples),
            )
        return self._clicks(of, used), account

    def _reasons(self, of: Mapping[str, npt.NDArray[Any]], names: list[str]) -> IntArray:
        """For each row the first rule that takes it, -1 for none."""
        n = len(of["row"])
        problem_of_walk = np.array([names.index(walk.problem) if walk.problem else -1 for walk in self.walks])
        subject_problem = np.array(
            [
                -1 if galaxy >= 0 else names.index(problem[0])
                for galaxy, problem in zip(self.galaxy_of, self.subject_problem, strict=True)
            ]
        )
        of_walk, of_subject = problem_of_walk[of["parsed"]], subject_problem[of["subject"]]
        _, first = np.unique(of["number"], return_index=True)
        is_twice = np.ones(n, bool)
        is_twice[first] = False
        fits: dict[str, BoolArray] = {
            exports.R_UNREADABLE: of["number"] < 0,
            TWICE: is_twice & (of["number"] >= 0),
            GOLD: np.asarray(of["is_gold"], bool),
            STAFF: np.asarray(of["is_staff"], bool),
            NOT_LIVE: np.asarray(of["is_not_live"], bool),
        }
        reason = np.full(n, -1)
        for i, name in enumerate(names):
            taken = fits.get(name, np.zeros(n, bool)) | (of_walk == i) | (of_subject == i)
            if name == interpretation.UNFINISHED:
                taken |= ~np.asarray(of["is_ended"], bool)
            if name == AGAIN:
                taken = self._again(of, reason)
            reason[(reason < 0) & taken] = i
        return reason

    def _again(self, of: Mapping[str, npt.NDArray[Any]], reason: IntArray) -> BoolArray:
        """Rows of people who classified that galaxy before, in that part of the tree; the earliest stays."""
        rows = np.flatnonzero(reason < 0)
        galaxy = np.array(self.galaxy_of)[of["subject"][rows]]
        part = _part_of_walks(self.tree, self.walks)[of["parsed"][rows]]
        keys = (galaxy, part, of["volunteer"][rows])
        order = np.lexsort((of["row"][rows], of["number"][rows], of["milliseconds"][rows], *reversed(keys)))
        same = np.ones(max(len(rows) - 1, 0), bool)
        for key in keys:
            same &= key[order][1:] == key[order][:-1]
        found = np.zeros(len(reason), bool)
        found[rows[order[1:][same]]] = True
        return found

    def _detail(self, of: Mapping[str, npt.NDArray[Any]], at: int, name: str) -> str:
        walk = self.walks[int(of["parsed"][at])]
        if walk.problem == name:
            return walk.detail
        if name in (NO_SUBJECT, SEVERAL_SUBJECTS):
            return self.subject_problem[int(of["subject"][at])][1]
        if name == exports.R_UNREADABLE:
            return "classification_id is no number"
        if name == interpretation.UNFINISHED:
            return "metadata has no finished_at"
        return ""

    def _account_annotations(self, account: Account, parsed: IntArray, is_used: BoolArray) -> None:
        n_used = np.bincount(parsed[is_used], minlength=len(self.walks))
        n_lost = np.bincount(parsed[~is_used], minlength=len(self.walks))
        total: Counter[str] = Counter(account.annotation_reasons)
        for walk, used, lost in zip(self.walks, n_used.tolist(), n_lost.tolist(), strict=True):
            account.n_annotations += walk.n_annotations * (used + lost)
            if lost:
                total[interpretation.OTHER_ROW] += walk.n_annotations * lost
            if used:
                for rule, n in walk.lost.items():
                    total[rule] += n * used
                account.n_annotations_used += (walk.n_annotations - sum(walk.lost.values())) * used
                if walk.n_notes:
                    account.notes[interpretation.NOTE_TICK] += walk.n_notes * used
        order = (exports.R_UNREADABLE, exports.R_LONG, *ANNOTATION_RULES)
        account.annotation_reasons = {name: total[name] for name in order if total[name]}
        account.notes = Counter({name: n for name, n in account.notes.items() if n})

    def _clicks(self, of: Mapping[str, npt.NDArray[Any]], used: IntArray) -> Clicks:
        used = used[np.lexsort((of["number"][used], of["milliseconds"][used]))]
        tree = self.tree
        kinds: dict[tuple[frozenset[int], frozenset[int]], int] = {}
        codes = np.array([kinds.setdefault((walk.given, walk.asked), len(kinds)) for walk in self.walks])
        given, asked = (
            np.zeros((len(kinds), len(tree.columns)), bool),
            np.zeros((len(kinds), len(tree.questions)), bool),
        )
        for (answers, questions), i in kinds.items():
            given[i, list(answers)] = True
            asked[i, list(questions)] = True

        galaxy = np.array(self.galaxy_of)[of["subject"][used]]
        met = np.unique(galaxy)
        frame = pl.DataFrame(self.galaxy_rows, schema=GALAXY_SCHEMA, orient="row")[met]
        order = frame["id_str"].arg_sort().to_numpy()
        place = np.empty(len(self.galaxy_rows), np.int64)
        place[met[order]] = np.arange(len(met))

        volunteers, first = np.unique(of["volunteer"][used], return_index=True)
        in_time = volunteers[np.argsort(first)]
        number = np.empty(len(self.names), np.int64)
        number[in_time] = np.arange(len(in_time))
        return Clicks(
            tree=tree,
            galaxies=frame[order],
            walks=given,
            asked=asked,
            walk=codes[of["parsed"][used]],
            galaxy=place[galaxy],
            volunteer=number[of["volunteer"][used]],
            milliseconds=np.asarray(of["milliseconds"][used], np.int64),
            seconds=np.asarray(of["seconds"][used], np.float64),
            names=tuple(self.names[i] for i in in_time),
            is_anonymous=np.array(self.is_anonymous, bool)[in_time],
        )


_LONG_CELLS = ("metadata", "annotations", "subject_data")
_TIMES = ("started_at", "finished_at")
_ANGLES = {"ra": (0.0, 360.0), "dec": (-90.0, 90.0)}


def _time(text: pl.Expr) -> pl.Expr:
    """Milliseconds since 1970, from "2018-02-20 10:44:42 UTC" or "2018-02-20T10:44:42.480Z"."""
    plain = text.str.replace("T", " ", literal=True).str.slice(0, 23).str.strip_chars("UTCZ ")
    return plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="ms").cast(pl.Int64)


def _n_annotations(text: str) -> int:
    """Of a row that is not used."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    return len(cast("list[object]", value)) if isinstance(value, list) else 0


def _part_of_walks(tree: Tree, all_walks: list[interpretation.Walk]) -> IntArray:
    """The first question without parents that each walk answers: the same one in every walk through one part."""
    roots = [i for i, question in enumerate(tree.questions) if not question.parents]
    return np.array([next((i for i in roots if i in walk.asked), -1) for walk in all_walks])


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    return str(value).strip()


def _degrees(value: object, low: float, high: float) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else float("nan")
    except (ValueError, OverflowError):
        return float("nan")
    return number if low <= number <= high else float("nan")


def _first_word(examples: Mapping[str, list[tuple[int, str]]]) -> str:
    for reason, rows in examples.items():
        if rows:
            row, detail = rows[0]
            return f"The first: row {row}, {reason}{': ' + detail if detail else ''}."
    return "Check the file."
