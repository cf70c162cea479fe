"""What Zooniverse would hand to the team of a simulated campaign: classifications and workflows, in its own CSV files.

Every row says that it is simulated: in the names of workflow and volunteer, in `metadata` and in `subject_data`.
Subjects carry the galaxy's `id_str`, so that clicks find their galaxy.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from gzoo.simulator.volunteers import (
    KINDS,
    MAX_REPEATS,
    N_SHIFTS,
    N_VOLUNTEERS,
    BoolArray,
    Clicks,
    Part,
    Pool,
    parts,
)
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.campaign import names
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree

CLASSIFICATION_COLUMNS = (
    *("classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_name", "workflow_version"),
    *("created_at", "gold_standard", "expert", "metadata", "annotations", "subject_data", "subject_ids"),
)
WORKFLOW_COLUMNS = (
    *("workflow_id", "display_name", "version", "minor_version", "active", "classifications_count", "pairwise"),
    *("grouped", "prioritized", "primary_language", "first_task", "tutorial_subject_id"),
    *("retired_set_member_subjects_count", "tasks", "retirement", "aggregation", "strings"),
)
CLICKS_PER_GALAXY = N_SHIFTS + MAX_REPEATS
"""No galaxy has more; galaxy `i`'s classifications have numbers from `i` times this on."""

_VERSION = ("2", "10")  # as text: version 2.10 is not 2.1
_FIRST_WORKFLOW, _FIRST_SUBJECT, _FIRST_USER, _FIRST_CLASSIFICATION = 900_000, 1_000_000, 500_000, 10_000_000
_START = np.datetime64("2010-01-01T00:00:00", "ms")
_SECONDS_PER_GALAXY = 60
_MAX_WALKS = 100_000  # that an exporter remembers, about 50 MB


@dataclass(frozen=True, slots=True)
class Workflow:
    """One part of a campaign as a Zooniverse workflow.

    Attributes:
        id: Its number.
        name: Its name, which says that it is simulated.
        questions: Task T0 and the following ones, in the order in which a volunteer meets them.
        following: For each answer column the question that is asked next, "" where the classification ends. For a
            question that allows several answers all columns have the same.
    """

    id: int
    name: str
    questions: tuple[Question, ...]
    following: Mapping[str, str]

    @property
    def version(self) -> str:
        """Major and minor version, as Zooniverse writes them."""
        return ".".join(_VERSION)

    def task(self, question: str) -> str:
        """The key of a question's task, "T0"."""
        return f"T{[one.name for one in self.questions].index(question)}"


@cache
def workflows(campaign: str) -> tuple[Workflow, ...]:
    """The workflows of a campaign, one for each part of its tree.

    >>> workflows("gz2")[0].name, workflows("gz2")[0].version
    ('Galaxy Zoo 2 (simulated)', '2.10')
    """
    facts = campaign_of(campaign)
    all_parts = parts(facts.tree)
    first = _FIRST_WORKFLOW + 10 * names().index(campaign)
    found: list[Workflow] = []
    for i, part in enumerate(all_parts):
        title = f"{facts.title} {part.name}" if len(all_parts) > 1 else facts.title
        questions = _in_walking_order(facts.tree, part)
        found.append(Workflow(first + i, f"{title} (simulated)", questions, _following(questions)))
    return tuple(found)


def question_label(question: Question, suffix: str) -> str:
    """How the site words a question: "Smooth or featured?"."""
    return question.name.removesuffix(f"-{suffix}").replace("-", " ").capitalize() + "?"


def answer_label(answer: str) -> str:
    """How the site words an answer: "Featured or disk"."""
    return answer.replace("-", " ").capitalize()


def workflow_export(campaign: str, n_galaxies: int, n_clicks: IntArray) -> bytes:
    """The workflow export: one row a workflow, with its version, tasks and strings.

    Args:
        campaign: The campaign.
        n_galaxies: How many galaxies were shown.
        n_clicks: Classifications made in each workflow.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, WORKFLOW_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for workflow, part, clicks in zip(workflows(campaign), parts(campaign_of(campaign).tree), n_clicks, strict=True):
        tasks, strings = _tasks(workflow, part)
        writer.writerow(
            {
                "workflow_id": workflow.id,
                "display_name": workflow.name,
                "version": _VERSION[0],
                "minor_version": _VERSION[1],
                "active": "false",
                "classifications_count": int(clicks),
                "pairwise": "false",
                "grouped": "false",
                "prioritized": "false",
                "primary_language": "en",
                "first_task": "T0",
                "retired_set_member_subjects_count": n_galaxies,
                "tasks": json.dumps(tasks),
                "retirement": json.dumps({"criteria": "classification_count", "options": {"count": part.votes[-1][2]}}),
                "aggregation": "{}",
                "strings": json.dumps(strings),
            }
        )
    return text.getvalue().encode()


def _tasks(workflow: Workflow, part: Part) -> tuple[dict[str, object], dict[str, str]]:
    tasks: dict[str, object] = {}
    strings: dict[str, str] = {}
    for i, question in enumerate(workflow.questions):
        key = f"T{i}"
        strings[f"{key}.help"], strings[f"{key}.question"] = "", question_label(question, part.name)
        answers: list[dict[str, str]] = []
        for j, (answer, column) in enumerate(zip(question.answers, question.columns, strict=True)):
            strings[f"{key}.answers.{j}.label"] = answer_label(answer)
            after = workflow.following[column]
            onward = {"next": workflow.task(after)} if after and not question.multiple else {}
            answers.append(onward | {"label": f"{key}.answers.{j}.label"})
        task: dict[str, object] = {
            "help": f"{key}.help",
            "type": "multiple" if question.multiple else "single",
            "answers": answers,
            "question": f"{key}.question",
            "required": not question.multiple,
        }
        after = workflow.following[question.columns[0]]
        tasks[key] = task | ({"next": workflow.task(after)} if after and question.multiple else {})
    return tasks, strings


def _in_walking_order(tree: Tree, part: Part) -> tuple[Question, ...]:
    """Details right after what they are details of, and what everyone is asked last.

    So ordered, an answer alone decides which question comes next, as it must on the site.
    """
    even = np.array([[1.0 / len(question.columns) for question in tree.questions for _ in question.columns]])
    proportion_asked = dict(
        zip((question.name for question in tree.questions), tree.proportion_asked(even)[0], strict=True)
    )
    visited: list[Question] = []

    def visit(question: Question) -> None:
        if question in visited:
            return
        after = [one for one in part.questions if set(one.parents) & set(question.columns)]
        for one in sorted(after, key=lambda one: -proportion_asked[one.name]):
            visit(one)
        visited.append(question)

    visit(part.questions[0])
    return tuple(reversed(visited))


def _following(questions: Sequence[Question]) -> dict[str, str]:
    """For each answer the question that comes next for those who gave it."""
    found: dict[str, set[str]] = {column: set() for question in questions for column in question.columns}
    leads = {parent for question in questions for parent in question.parents}
    seen: set[tuple[int, frozenset[str], str]] = set()
    waiting: list[tuple[int, frozenset[str], str]] = [(0, frozenset(), "")]
    while waiting:
        state = waiting.pop()
        if state in seen:
            continue
        seen.add(state)
        i, given, last = state
        if i == len(questions):
            if last:
                found[last].add("")
            continue
        question = questions[i]
        if question.parents and not given & set(question.parents):
            waiting.append((i + 1, given, last))
            continue
        if last:
            found[last].add(question.name)
        for column in question.columns:
            waiting.append((i + 1, given | ({column} & leads), column))
    ambiguous = [column for column, after in found.items() if len(after) != 1]
    if ambiguous:
        raise AssertionError(f"What follows {ambiguous[0]} depends on earlier answers.")
    return {column: after.pop() for column, after in found.items()}


@dataclass(frozen=True, slots=True)
class Subjects:
    """Galaxies of a block as the site knows them, arrays of shape (galaxy,).

    Attributes:
        first: Index of the first one in the simulation.
        ids: Their `id_str`.
        ra: Right ascension, degrees.
        dec: Declination, degrees.
        part: Index of the workflow that shows them.
    """

    first: int
    ids: Sequence[str]
    ra: FloatArray
    dec: FloatArray
    part: IntArray


def classification_header() -> bytes:
    """The first line of the classification export."""
    return (",".join(CLASSIFICATION_COLUMNS) + "\n").encode()


class Exporter:
    """Writes classifications of one campaign; it remembers how each walk through the tree reads.

    Args:
        campaign: The campaign.
        seed: Of the volunteers.
        volunteers: The volunteers.
    """

    def __init__(self, campaign: str, seed: int, volunteers: Pool) -> None:
        self._tree = campaign_of(campaign).tree
        self._workflows = workflows(campaign)
        self._parts = parts(self._tree)
        self._volunteers = [_volunteer_fields(seed, j, bool(volunteers.is_anonymous[j])) for j in range(N_VOLUNTEERS)]
        self._is_bot = np.array([KINDS[kind].bot != "" for kind in volunteers.kind])
        self._walks: dict[tuple[int, bytes], str] = {}

    def rows(self, clicks: Clicks, subjects: Subjects, rng: np.random.Generator, block: int) -> bytes:
        """CSV lines of classifications, in the order of their numbers.

        Args:
            clicks: The classifications.
            subjects: What they are of.
            rng: The source of how long people take.
            block: Galaxies that chance is drawn for, as many or more than there are.
        """
        haste = rng.lognormal(0.0, 0.4, (block, CLICKS_PER_GALAXY))[clicks.galaxy, clicks.number]
        # answers count, not questions: those who tick several boxes take longer
        seconds = haste * np.where(self._is_bot[clicks.volunteer], 0.15, 3.0) * (1.0 + clicks.given.sum(axis=1))
        index = subjects.first + clicks.galaxy
        ends = index * _SECONDS_PER_GALAXY * 1000 + clicks.number * (_SECONDS_PER_GALAXY * 1000 // CLICKS_PER_GALAXY)
        finished = _START + ends.astype("timedelta64[ms]")
        started = finished - (seconds * 1000).astype("timedelta64[ms]")
        ids = _FIRST_CLASSIFICATION + index * CLICKS_PER_GALAXY + clicks.number
        shown = [self._subject_fields(subjects, i) for i in range(len(subjects.ids))]
        of_workflow = [f"{workflow.id},{workflow.name},{workflow.version}" for workflow in self._workflows]
        # packed bits are a short key: few of all possible walks are ever taken
        keys = np.packbits(clicks.given, axis=1)
        lines: list[str] = []
        for row, (number, who, where, key, begin, end) in enumerate(
            zip(
                ids.tolist(),
                clicks.volunteer.tolist(),
                clicks.galaxy.tolist(),
                map(bytes, keys),
                np.datetime_as_string(started).tolist(),
                np.datetime_as_string(finished).tolist(),
                strict=True,
            )
        ):
            part = int(subjects.part[where])
            walk = self._walks.get((part, key)) or self._remember(part, key, clicks.given[row])
            lines.append(
                f"{number},{self._volunteers[who]},{of_workflow[part]},{end[:10]} {end[11:19]} UTC,,,"
                f"{_METADATA[0]}{begin}{_METADATA[1]}{end}{_METADATA[2]},{walk},{shown[where]}\n"
            )
        return "".join(lines).encode()

    def _subject_fields(self, subjects: Subjects, i: int) -> str:
        number = _FIRST_SUBJECT + subjects.first + i
        facts = {
            "retired": None,
            "ra": float(subjects.ra[i]),
            "dec": float(subjects.dec[i]),
            "id_str": subjects.ids[i],
            "filename": f"{subjects.ids[i]}.jpg",
            "simulated": True,
        }
        return f"{_quoted({str(number): facts})},{number}"

    def _remember(self, part: int, key: bytes, given: BoolArray) -> str:
        if len(self._walks) > _MAX_WALKS:
            self._walks.clear()
        workflow, suffix = self._workflows[part], self._parts[part].name
        place = {column: i for i, column in enumerate(self._tree.columns)}
        gave = {column for column, i in place.items() if given[i]}
        annotations: list[dict[str, object]] = []
        for i, question in enumerate(workflow.questions):
            if question.parents and not gave.intersection(question.parents):
                continue
            chosen = [
                answer_label(answer)
                for answer, column in zip(question.answers, question.columns, strict=True)
                if column in gave
            ]
            value: object = chosen if question.multiple else chosen[0]
            annotations.append({"task": f"T{i}", "task_label": question_label(question, suffix), "value": value})
        self._walks[part, key] = _quoted(annotations)
        return self._walks[part, key]


def volunteer_name(j: int, is_anonymous: bool) -> str:
    """The name of a volunteer in the export.

    >>> volunteer_name(12, False), volunteer_name(12, True)
    ('simulated-volunteer-000012', 'not-logged-in-simulated-000012')
    """
    return f"not-logged-in-simulated-{j:06d}" if is_anonymous else f"simulated-volunteer-{j:06d}"


def _volunteer_fields(seed: int, j: int, is_anonymous: bool) -> str:
    address = hashlib.sha256(f"simulated address {seed} {j}".encode()).hexdigest()[:10]
    number = "" if is_anonymous else str(_FIRST_USER + j)
    return f"{volunteer_name(j, is_anonymous)},{number},{address}"


def _quoted(value: object) -> str:
    """JSON as one field of a CSV file."""
    return '"' + _escaped(json.dumps(value, separators=(",", ":"))) + '"'


def _escaped(text: str) -> str:
    return text.replace('"', '""')


_METADATA = (
    '"' + _escaped('{"source":"simulation","simulated":true,"session":"simulated","started_at":"'),
    _escaped('Z","user_agent":"gzoo simulator","utc_offset":"0","finished_at":"'),
    _escaped(
        'Z","live_project":true,"user_language":"en","user_group_ids":[],"subject_dimensions":'
        '[{"clientWidth":424,"clientHeight":424,"naturalWidth":424,"naturalHeight":424}]}'
    )
    + '"',
)
"""Metadata of a classification as CSV, around the two times."""
