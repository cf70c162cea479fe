"""Reading of an export: every row and annotation is counted as a vote or under the rule that excluded it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo import files, sky
from gzoo.errors import GZooWarning, TableError
from gzoo.files import Progress
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import IntArray
from gzoo.votes.identifiers import IdentifierReader
from gzoo.zooniverse import exports, interpretation
from gzoo.zooniverse.classifications import GALAXY_SCHEMA, BoolArray, Classifications
from gzoo.zooniverse.interpretation import AnnotationReader, Interpretation
from gzoo.zooniverse.tasks import SUBJECT, Tasks
from gzoo.zooniverse.values import listed, parsed, record
from gzoo.zooniverse.workflows import Task, Version, Workflows

TWICE = "duplicate classification"
OTHER_WORKFLOW = "workflow not in the mapping"
EXCLUDED = "workflow excluded in the mapping"
OTHER_VERSION = "unknown workflow version"
GOLD = "gold standard"
STAFF = "staff"
NOT_LIVE = "project not live"
SEVERAL_SUBJECTS = "several subjects"
NO_SUBJECT = "subject unreadable"
SEVERAL_PLACES = "identifier of subjects at different positions"
NO_IDENTIFIER = "identifier refused"
AGAIN = "repeated by the same volunteer"
RULES: Mapping[str, str] = {
    exports.R_UNREADABLE: "the row is not CSV, JSON or UTF-8, has too few or too many cells, or no integer identifier",
    exports.R_LONG: f"the row has over {exports.MAX_ROW:,} bytes",
    TWICE: "an earlier row has the same classification_id",
    OTHER_WORKFLOW: "the mapping does not list any task of the workflow",
    EXCLUDED: "the mapping excludes the workflow",
    OTHER_VERSION: "the workflow export lacks a version with this major number",
    GOLD: "a gold standard classification, made with knowledge of the answer",
    STAFF: "made by a member of the project's staff (column expert)",
    NOT_LIVE: "made before the project was live, according to the metadata",
    interpretation.UNREADABLE: "the annotations are not a JSON list",
    interpretation.UNFINISHED: "the metadata lack finished_at, or a required task was not answered",
    SEVERAL_SUBJECTS: "one classification of several subjects",
    NO_SUBJECT: "subject_data is not JSON, or lacks the field that identifies the galaxy",
    SEVERAL_PLACES: "its identifier has subjects over 2 arcsec apart, which are different galaxies",
    NO_IDENTIFIER: "the identifier of the galaxy went through floating point or a spreadsheet",
    interpretation.TWICE_DIFFERENT: "two different answers to a question, so that no annotation can be counted",
    interpretation.NO_ANSWER: "no annotation could be counted",
    AGAIN: "the same volunteer (or anonymous address) classified the galaxy before; the first one counts",
}
"""Rules that exclude whole classifications, in order of application; the first that applies is reported."""
ANNOTATION_RULES: Mapping[str, str] = {
    interpretation.OTHER_ROW: "the whole classification was excluded",
    interpretation.A_UNREADABLE: "no task, or a value that is not a choice of answers",
    interpretation.A_OTHER_TASK: "this version of the workflow lacks the task",
    interpretation.A_UNMAPPED: "the mapping does not list the task with this label",
    interpretation.A_EXCLUDED: "the mapping excludes the task",
    interpretation.A_NOTHING: "the volunteer skipped the task",
    interpretation.A_UNKNOWN: "the mapping does not list the answer",
    interpretation.A_NO_COLUMN: "the mapping lists the answer as missing from the tree",
    interpretation.A_SEVERAL: "the site allowed several answers, the tree allows one",
    interpretation.A_TWICE: "of equal answers the first is counted, of different answers none",
    interpretation.A_AFTER_TWICE: "the tree asks this question after one that was answered twice, differently",
    interpretation.A_UNASKED: "the tree asks this question only after an answer that was not given",
}
N_EXAMPLES = 5
UNKNOWN_TIME = np.iinfo(np.int64).min
NOTE_DECIMAL = "numbers written with a decimal point, as 1000000.0, read as integers"
NOTE_UNIDENTIFIED = "no user or address: counted as separate volunteers"
_MISSING = ("", "NA", "nan", "NaN", "null", "None")
_MAX_ID = 256
_LONG_CELLS = ("metadata", "annotations", "subject_data")
_TIMES = ("started_at", "finished_at")
_PLACE = ("ra", "dec")


def read_classifications(
    path: Path,
    workflows: Workflows,
    campaign: Campaign,
    tasks: Tasks,
    progress: Progress | None = None,
    *,
    allow_bad_positions: bool = False,
) -> tuple[Classifications, dict[str, Any]]:
    """Return the classifications of an export that are used, and an account of all rows.

    The account has the fields of `gzoo.zooniverse.classifications.Ingest` about what was counted and excluded.

    Args:
        path: The export, CSV or JSON lines.
        workflows: The versions of the workflows; for JSON lines those of `workflows_of_lines`.
        campaign: The campaign that the classifications belong to.
        tasks: The mapping.
        progress: Function called as (stage, done, total), in bytes.
        allow_bad_positions: Whether to go on where more than 10% of the subjects' positions cannot be used.

    Raises:
        TableError: The file is not an export, no classification of it can be used, or too many positions cannot be.
    """
    table = _Table(path, campaign, workflows, tasks)
    done, size = 0, path.stat().st_size if path.is_file() else 0
    is_lines = path.is_file() and exports.is_json_lines(path)
    blocks = exports.blocks(path)
    for block in [_grouped(blocks)] if is_lines else blocks:
        table.add(block)
        done += block.n_bytes
        if progress:
            progress("Reading classifications", done, max(size, done))
    if progress:
        progress("Reading classifications", size, size)
    positions = table.place(path, allow_bad=allow_bad_positions)
    return table.finish(path, positions, has_one_annotation_per_row=is_lines)


def _grouped(blocks: Iterable[exports.Block]) -> exports.Block:
    """Group responses, one per line, into classifications."""
    every = list(blocks)
    lines = pl.concat([block.frame for block in every])
    first = [name for name in lines.columns if name not in ("classification_id", "annotations")]
    frame = lines.group_by("classification_id", maintain_order=True).agg(
        *(pl.col(name).first() for name in first), pl.col("annotations").str.slice(1).str.head(-1).str.join(",")
    )
    joined = frame.with_columns(pl.format("[{}]", "annotations").alias("annotations")).select(lines.columns)
    bad_rows = [one for block in every for one in block.bad_rows]
    n_bytes, n_decimal = (sum(getattr(block, name) for block in every) for name in ("n_bytes", "n_decimal"))
    return exports.Block(joined, bad_rows, n_bytes, n_decimal)


def workflows_of_lines(path: Path) -> Workflows:
    """Return the workflows of JSON lines, which contain the names of questions and answers: one version each."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for block in exports.blocks(path):
        for workflow, text in block.frame.select("workflow_id", "annotations").unique(maintain_order=True).iter_rows():
            answer = cast("dict[str, str]", json.loads(text)[0])
            found.setdefault(workflow, {}).setdefault(answer["task"], {})[answer["value"]] = None

    def task(name: str, answers: Iterable[str]) -> Task:
        labels = tuple(answers)
        return Task(name, "multiple", name.replace("-", " "), labels, ("",) * len(labels), "", False)

    tasks = {workflow: {name: task(name, given) for name, given in asked.items()} for workflow, asked in found.items()}
    return Workflows(Version(workflow, "", "", "", asked, "") for workflow, asked in tasks.items())


class _Table:
    """The rows of an export as numbers: a string that occurs in many rows is parsed once."""

    def __init__(self, path: Path, campaign: Campaign, workflows: Workflows, tasks: Tasks) -> None:
        self.campaign, self.tree, self.tasks = campaign, campaign.tree, tasks
        self.version = cache(workflows.find)
        entries = {(one.workflow, one.task, one.label): one for one in tasks.entries}
        self.reader = AnnotationReader(self.tree, entries)
        self.mapped = {one.workflow for one in tasks.entries}
        self.parsed: dict[tuple[str, str, bytes], int] = {}
        self.interpretations: list[Interpretation] = []
        self.subjects: dict[str, int] = {}
        self.galaxy_of: dict[int, int | tuple[str, str]] = {}  # the galaxy of each subject, or a rule and its cause
        self.galaxies: dict[str, int] = {}
        self.galaxy_rows: list[tuple[object, ...]] = []
        self.places = np.empty((0, 2))  # ra and dec of each galaxy
        self.cells: dict[int, tuple[str, ...]] = {}  # ra and dec of each subject, as they are written
        self.volunteers: dict[str, int] = {}
        self.names: list[str] = []
        self.is_anonymous: list[bool] = []
        self.bad_rows: list[exports.BadRow] = []
        self.parts: list[dict[str, npt.NDArray[Any]]] = []
        self.n_versions: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.identifiers = IdentifierReader(f"Identifiers of the galaxies in '{path}'")
        self.given: dict[str, str] = {}  # each identifier as it stands in the export
        self.source_ids = IdentifierReader(f"Field '{tasks.fields.get('source_id', '')}' of subject_data in '{path}'")

    def add(self, block: exports.Block) -> None:
        self.bad_rows += block.bad_rows
        self.notes[NOTE_DECIMAL] += block.n_decimal
        frame = block.frame
        if not frame.height:
            return
        text = [pl.col(name).fill_null("").str.strip_chars() for name in exports.COLUMNS if name not in _LONG_CELLS]
        frame = frame.with_columns(*text, *(pl.col(name).fill_null("") for name in _LONG_CELLS))
        when = [pl.col("metadata").str.extract(rf'"{key}"\s*:\s*"([^"]{{19,40}})"') for key in _TIMES]
        created = _time(pl.col("created_at"))
        facts = frame.select(
            "row",
            number=pl.col("classification_id").cast(pl.Int64, strict=False).fill_null(-1),
            milliseconds=created.fill_null(UNKNOWN_TIME),
            seconds=((_time(when[1]) - _time(when[0])).cast(pl.Float64) / 1000.0).cast(pl.Float32),
            is_gold=pl.col("gold_standard").str.to_lowercase().is_in(["true", "t", "1"]),
            is_staff=~pl.col("expert").str.to_lowercase().is_in(["", "na", "nan", "false", "null", "none"]),
            is_not_live=pl.col("metadata").str.contains(r'"live_project"\s*:\s*false'),
            is_ended=when[1].is_not_null(),
        )
        self.notes["creation date unreadable"] += frame.select(created.is_null().sum()).item()
        part = {name: facts[name].to_numpy() for name in facts.columns}
        part["is_ended"] = part["is_ended"] | self._has_no_metadata(frame, part["is_ended"])
        counted = frame.group_by("workflow_id", "workflow_version").len()
        for workflow, version, n in counted.iter_rows():
            self.n_versions[f"{workflow[:40]} {version[:40]}".strip()] += n
        columns = ["workflow_id", "workflow_version", "annotations"]
        part["parsed"] = self._coded(frame, columns, self._interpretation_code)
        part["subject"] = self._coded(frame, ["subject_ids", "subject_data"], self._subject_code)
        part["volunteer"] = self._volunteer(frame)
        self.parts.append(part)

    def _has_no_metadata(self, frame: pl.DataFrame, is_ended: BoolArray) -> BoolArray:
        """Return the rows without a readable end because their metadata are missing or unreadable."""
        found = np.zeros(frame.height, bool)
        for i in np.flatnonzero(~is_ended):
            text = frame["metadata"][int(i)]
            found[i] = not isinstance(parsed(text)[0], dict)
            self.notes["metadata unreadable"] += bool(found[i] and text)
        return found

    def _coded(self, frame: pl.DataFrame, columns: list[str], code: Callable[[tuple[Any, ...]], int]) -> IntArray:
        """Return a number for each row; `code` is called once for each distinct content of the columns."""
        distinct = frame.select(columns).unique(maintain_order=True)
        codes = pl.Series("code", [code(cells) for cells in distinct.iter_rows()], dtype=pl.Int64)
        coded = frame.select(columns).join(distinct.with_columns(codes), on=columns, how="left", maintain_order="left")
        return coded["code"].to_numpy()

    def _interpretation_code(self, cells: tuple[str, ...]) -> int:
        workflow, version, text = cells
        key = (workflow, version, blake2b(text.encode(), digest_size=16).digest())
        if key not in self.parsed:
            self.parsed[key] = len(self.interpretations)
            self.interpretations.append(self._interpret(workflow, version, text))
        return self.parsed[key]

    def _interpret(self, workflow: str, version: str, text: str) -> Interpretation:
        if workflow in self.tasks.excluded or workflow not in self.mapped:
            problem = EXCLUDED if workflow in self.tasks.excluded else OTHER_WORKFLOW
            return Interpretation(problem, f"workflow {workflow[:40]}", n_annotations=len(listed(parsed(text)[0])))
        found = self.version(workflow, version)
        if found is None:
            detail = f"workflow {workflow[:40]}, version {version[:40]}"
            return Interpretation(OTHER_VERSION, detail, n_annotations=len(listed(parsed(text)[0])))
        return self.reader.read(text, found)

    def _subject_code(self, cells: tuple[str, ...]) -> int:
        subject, text = cells
        code = self.subjects.setdefault(subject, len(self.subjects))
        if not isinstance(self.galaxy_of.get(code), int):
            self.galaxy_of[code] = self._galaxy(code, subject, text)
        return code

    def _galaxy(self, code: int, subject: str, text: str) -> int | tuple[str, str]:
        """Return the galaxy of a subject, or the rule that excludes its rows and the content that broke it."""
        if not subject or subject in _MISSING:
            return NO_SUBJECT, "subject_ids is empty"
        if ";" in subject or "," in subject:
            return SEVERAL_SUBJECTS, f"subject_ids {subject[:80]}"
        value, problem = parsed(text or "{}")
        whole = record(value)
        is_of_others = all(key.isdigit() and isinstance(one, dict) for key, one in whole.items())
        if whole and subject not in whole and is_of_others:
            return NO_SUBJECT, f"subject_ids {subject[:80]}, but subject_data is of subject {next(iter(whole))[:80]}"
        facts = record(whole.get(subject, whole))
        name = self.tasks.fields.get("id_str", SUBJECT)
        given = subject if name == SUBJECT else facts.get(name)
        id_str, refused, _ = self.identifiers.one(given)
        if not id_str or len(id_str) > _MAX_ID:
            lacking = f"{name} has {len(id_str):,} characters" if id_str else f"subject_data lacks {name}"
            return NO_SUBJECT, f"subject_data: {problem}" if problem else lacking
        if not refused and self.given.setdefault(id_str, str(given)) != str(given):
            refused = f"equal to '{self.given[id_str][:80]}' of another subject, which is written otherwise"
        if refused:
            return NO_IDENTIFIER, f"{name} = {str(given)[:80]}: {refused}"
        return self._numbered(code, id_str, facts, problem)

    def _numbered(self, code: int, id_str: str, facts: Mapping[str, object], problem: str) -> int:
        """Return the number of a galaxy, which is stored when it is first met."""
        fields = self.tasks.fields
        if problem:
            self.notes["subject_data unreadable, subject identified by its number"] += 1
        if id_str not in self.galaxies:
            self.galaxies[id_str] = len(self.galaxies)
            source_id = self.source_ids.one(facts.get(fields["source_id"])) if fields.get("source_id") else None
            if source_id and source_id.text and source_id.problem:
                self.notes["source identifiers refused, because they went through floating point"] += 1
            image = _text(facts.get(fields["image"])) if fields.get("image") else ""
            texts = ["" if source_id is None or source_id.problem else source_id.text, image]
            dataset_name = self.campaign.name + (files.SIMULATED if facts.get("simulated") is True else "")
            self.galaxy_rows.append((id_str, dataset_name, *texts))
        self.cells[code] = tuple(_cell(facts.get(fields.get(key) or key)) for key in _PLACE)
        return self.galaxies[id_str]

    def _volunteer(self, frame: pl.DataFrame) -> IntArray:
        def given(name: str) -> pl.Expr:
            return pl.when(~pl.col(name).is_in(_MISSING)).then(pl.col(name))

        name = given("user_name")
        known = pl.coalesce("id " + given("user_id"), "address " + given("user_ip"), "name " + name)
        self.notes[NOTE_UNIDENTIFIED] += frame.select(known.is_null().sum()).item()
        who = frame.select(
            pl.coalesce(known, "classification " + pl.col("classification_id")).alias("who"),
            pl.coalesce(name, "user " + given("user_id"), pl.lit("")).alias("name"),
            is_anonymous=given("user_id").is_null(),
        )
        return self._coded(who, who.columns, self._volunteer_code)

    def _volunteer_code(self, cells: tuple[Any, ...]) -> int:
        key, name, is_anonymous = cells
        code = self.volunteers.setdefault(key, len(self.volunteers))
        if code == len(self.names):
            self.names.append(name)
            self.is_anonymous.append(is_anonymous)
        return code

    def place(self, path: Path, *, allow_bad: bool) -> sky.Positions:
        """Return the positions of the subjects in `cells`; no votes are added up of subjects at different places."""
        codes = list(self.cells)
        subjects = {code: subject for subject, code in self.subjects.items()}
        fields = self.tasks.fields
        found = sky.read_positions(
            *(pl.Series([self.cells[code][i] for code in codes], dtype=pl.String) for i in range(2)),
            source=f"'{path.name}'",
            names=(fields.get("ra") or "ra", fields.get("dec") or "dec"),
            unit=self.tasks.unit,
            allow_bad=allow_bad,
            place=lambda i: f"subject {subjects[codes[i]]}",
        )
        galaxy = np.array([self.galaxy_of[code] for code in codes], np.int64)
        is_apart = sky.is_apart(galaxy, found.ra, found.dec)
        where: dict[int, list[int]] = {}
        for i in np.flatnonzero(is_apart).tolist():
            where.setdefault(int(galaxy[i]), []).append(i)
        for rows in where.values():
            seen = " and ".join(
                f"subject {subjects[codes[i]]} at {found.ra[i]:.5f}, {found.dec[i]:.5f}" for i in rows[:2]
            )
            for i in rows:
                self.galaxy_of[codes[i]] = SEVERAL_PLACES, f"identifier {self.galaxy_rows[galaxy[i]][0]}: {seen}"
        warned = list(found.warnings)
        if where:
            warned.append(
                f"'{path.name}': {len(where):,} identifiers have subjects at different positions; their votes "
                'are not counted. Write `id_str = "subject_id"` into the mapping file to count each subject by itself.'
            )
        places = np.full((len(self.galaxy_rows), 2), np.nan)
        for i in np.flatnonzero(found.is_known)[::-1]:  # the first known position counts
            places[galaxy[i]] = found.ra[i], found.dec[i]
        self.places = places
        for text in warned:
            warnings.warn(text, GZooWarning, stacklevel=4)
        return replace(found, warnings=tuple(warned))

    # --- the result -----------------------------------------------------------------------------------------------

    def finish(
        self, path: Path, positions: sky.Positions, *, has_one_annotation_per_row: bool
    ) -> tuple[Classifications, dict[str, Any]]:
        examples: dict[str, list[tuple[int, str]]] = {}
        for one in self.bad_rows:
            examples.setdefault(one.reason, []).append((one.row, one.detail))
        n_excluded = Counter(one.reason for one in self.bad_rows)
        if not self.parts:
            raise TableError(
                f"'{path}' does not contain any readable row{_first_example(examples)}.", "classifications."
            )
        of = {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}
        bad_annotations = n_excluded.copy() if has_one_annotation_per_row else Counter[str]()
        n_rows = len(self.bad_rows) + len(of["row"])
        names = list(RULES)
        reason = self._reasons(of, names)
        for i, name in enumerate(names):
            rows = np.flatnonzero(reason == i)
            if len(rows):
                n_excluded[name] += len(rows)
                found = [(int(of["row"][at]), self._detail(of, int(at), name)) for at in rows[:N_EXAMPLES]]
                examples.setdefault(name, []).extend(found)
        reasons = {name: n_excluded[name] for name in names if n_excluded[name]}
        used = np.flatnonzero(reason < 0)
        if not len(used):
            causes = ", ".join(f"{n:,} x {name}" for name, n in reasons.items())
            raise TableError(
                f"None of the {n_rows:,} rows of '{path}' can be used: {causes}{_first_example(examples)}.",
                f"classifications of {self.campaign.name}.",
                'Write `id_str = "subject_id"` into the mapping file, or correct the identifiers.'
                if SEVERAL_PLACES in reasons
                else "",
            )
        self.identifiers.look_for_rounding(pl.Series(list(self.galaxies), dtype=pl.String))
        self.identifiers.warn()
        self.source_ids.warn()
        if self.notes[NOTE_DECIMAL]:
            n = self.notes[NOTE_DECIMAL]
            message = f"'{path}': {n:,} {NOTE_DECIMAL}: another program saved the export again."
            warnings.warn(message, GZooWarning, stacklevel=2)
        account = {
            **{"campaign": self.campaign.name, "n_rows": n_rows, "reasons": reasons},
            **self._annotations(bad_annotations, of["parsed"], reason < 0),
            "notes": {name: n for name, n in self.notes.items() if n},
            "examples": {name: tuple(sorted(examples[name])[:N_EXAMPLES]) for name in reasons},
            "versions": dict(sorted(self.n_versions.items())),
            "positions": positions.to_dict(),
        }
        return self._classifications(of, used), account

    def _reasons(self, of: Mapping[str, npt.NDArray[Any]], names: list[str]) -> IntArray:
        """Return for each row the index of the first rule that excludes it, -1 for none."""
        n = len(of["row"])
        annotation_problem = np.array([names.index(one.problem) if one.problem else -1 for one in self.interpretations])
        found = self.galaxy_of.values()
        subject_problem = np.array([-1 if isinstance(one, int) else names.index(one[0]) for one in found])
        of_annotations, of_subject = annotation_problem[of["parsed"]], subject_problem[of["subject"]]
        _, first = np.unique(of["number"], return_index=True)
        is_twice = np.ones(n, bool)
        is_twice[first] = False
        applies: dict[str, BoolArray] = {
            exports.R_UNREADABLE: of["number"] < 0,
            TWICE: is_twice & (of["number"] >= 0),
            GOLD: of["is_gold"],
            STAFF: of["is_staff"],
            NOT_LIVE: of["is_not_live"],
            interpretation.UNFINISHED: ~of["is_ended"],
        }
        reason = np.full(n, -1)
        for i, name in enumerate(names):
            excluded = applies.get(name, np.zeros(n, bool)) | (of_annotations == i) | (of_subject == i)
            if name == AGAIN:
                excluded = self._again(of, reason)
            reason[(reason < 0) & excluded] = i
        return reason

    def _galaxies(self) -> IntArray:
        """Return the galaxy of each subject, -1 if it is unknown."""
        return np.array([one if isinstance(one, int) else -1 for one in self.galaxy_of.values()])

    def _again(self, of: Mapping[str, npt.NDArray[Any]], reason: IntArray) -> BoolArray:
        """Return the rows whose volunteer classified the galaxy earlier, in the same part of the tree."""
        rows = np.flatnonzero(reason < 0)
        galaxy = self._galaxies()[of["subject"][rows]]
        # The first question without parents identifies the part: it is the same in all classifications of a part.
        roots = [i for i, question in enumerate(self.tree.questions) if not question.parents]
        parts = np.array([next((i for i in roots if i in one.asked), -1) for one in self.interpretations])
        keys = (galaxy, parts[of["parsed"][rows]], of["volunteer"][rows])
        order = np.lexsort((of["row"][rows], of["number"][rows], of["milliseconds"][rows], *reversed(keys)))
        same = np.ones(max(len(rows) - 1, 0), bool)
        for key in keys:
            same &= key[order][1:] == key[order][:-1]
        found = np.zeros(len(reason), bool)
        found[rows[order[1:][same]]] = True
        return found

    def _detail(self, of: Mapping[str, npt.NDArray[Any]], at: int, name: str) -> str:
        interpreted = self.interpretations[int(of["parsed"][at])]
        if interpreted.problem == name:
            return interpreted.detail
        subject = self.galaxy_of[int(of["subject"][at])]
        if isinstance(subject, tuple) and subject[0] == name:
            return subject[1]
        if name == exports.R_UNREADABLE:
            return "classification_id is not an integer"
        return "metadata lack finished_at" if name == interpretation.UNFINISHED else ""

    def _annotations(self, excluded: Counter[str], parsed: IntArray, is_used: BoolArray) -> dict[str, object]:
        n_used = np.bincount(parsed[is_used], minlength=len(self.interpretations))
        n_lost = np.bincount(parsed[~is_used], minlength=len(self.interpretations))
        n, n_counted = excluded.total(), 0
        for one, used, lost in zip(self.interpretations, n_used.tolist(), n_lost.tolist(), strict=True):
            n += one.n_annotations * (used + lost)
            n_counted += (one.n_annotations - sum(one.lost.values())) * used
            excluded[interpretation.OTHER_ROW] += one.n_annotations * lost
            excluded.update({rule: times * used for rule, times in one.lost.items()})
            self.notes[interpretation.NOTE_TICK] += one.n_notes * used
        order = (exports.R_UNREADABLE, exports.R_LONG, *ANNOTATION_RULES)
        reasons = {name: excluded[name] for name in order if excluded[name]}
        return {"n_annotations": n, "n_annotations_used": n_counted, "annotation_reasons": reasons}

    def _classifications(self, of: Mapping[str, npt.NDArray[Any]], used: IntArray) -> Classifications:
        used = used[np.lexsort((of["number"][used], of["milliseconds"][used]))]
        tree = self.tree
        patterns: dict[tuple[frozenset[int], frozenset[int]], int] = {}
        codes = np.array([patterns.setdefault((one.given, one.asked), len(patterns)) for one in self.interpretations])
        answers = np.zeros((len(patterns), len(tree.columns)), bool)
        questions = np.zeros((len(patterns), len(tree.questions)), bool)
        for (given, asked), i in patterns.items():
            answers[i, list(given)] = True
            questions[i, list(asked)] = True

        galaxy = self._galaxies()[of["subject"][used]]
        present = np.unique(galaxy)
        texts = [name for name in GALAXY_SCHEMA if name not in _PLACE]
        frame = pl.DataFrame(self.galaxy_rows, schema=texts, schema_overrides=GALAXY_SCHEMA, orient="row")
        frame = frame.with_columns(ra=pl.Series(self.places[:, 0]), dec=pl.Series(self.places[:, 1]))[present]
        order = frame["id_str"].arg_sort().to_numpy()
        position = np.empty(len(self.galaxy_rows), np.int64)
        position[present[order]] = np.arange(len(present))

        volunteers, first = np.unique(of["volunteer"][used], return_index=True)
        in_time = volunteers[np.argsort(first)]
        number = np.empty(len(self.names), np.int64)
        number[in_time] = np.arange(len(in_time))
        return Classifications(
            tree=tree,
            galaxies=frame[order],
            pattern_answers=answers,
            pattern_questions=questions,
            pattern=codes[of["parsed"][used]],
            galaxy=position[galaxy],
            volunteer=number[of["volunteer"][used]],
            seconds=of["seconds"][used].astype(np.float64),
            names=tuple(self.names[i] for i in in_time),
            is_anonymous=np.array(self.is_anonymous, bool)[in_time],
        )


def _time(text: pl.Expr) -> pl.Expr:
    """Return milliseconds since 1970 from "2018-02-20 10:44:42 UTC" or "2018-02-20T10:44:42.480Z"."""
    plain = text.str.replace("T", " ", literal=True).str.slice(0, 23).str.strip_chars("UTCZ ")
    return plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="ms").cast(pl.Int64)


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    return str(value).strip()


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _first_example(examples: Mapping[str, list[tuple[int, str]]]) -> str:
    """Return the first excluded row in words, to follow a sentence without its full stop."""
    for reason, rows in examples.items():
        row, detail = rows[0]
        return f" (first: row {row}, {reason}{': ' + detail if detail else ''})"
    return ""
