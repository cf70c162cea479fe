"""Exports of a simulated campaign in the format of Zooniverse: classifications and workflows as CSV files.

Every row states that it is simulated: in the names of workflow and volunteer, in `metadata` and in `subject_data`.
Subjects contain the `id_str` of the galaxy, which links classifications to galaxies.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import compress
from pathlib import Path

import numpy as np

from gzoo.simulator.volunteers import (
    KINDS,
    MAX_REPEATS,
    N_SHIFTS,
    BoolArray,
    DrawnClassifications,
    Part,
    parts,
    pool,
)
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree

CLASSIFICATION_COLUMNS = (
    *("classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_name", "workflow_version"),
    *("created_at", "gold_standard", "expert", "metadata", "annotations", "subject_data", "subject_ids"),
)
_WORKFLOW_DEFAULTS = {
    **{"workflow_id": "", "display_name": "", "version": "2", "minor_version": "10", "active": "false"},
    **{"classifications_count": "", "pairwise": "false", "grouped": "false", "prioritized": "false"},
    **{"primary_language": "en", "first_task": "T0", "tutorial_subject_id": ""},
    **{"retired_set_member_subjects_count": "", "tasks": "", "retirement": "", "aggregation": "{}", "strings": ""},
}
MAX_PER_GALAXY = N_SHIFTS + MAX_REPEATS
"""Maximum number of classifications per galaxy; those of galaxy `i` are numbered from `i` times this number."""

_FIRST_WORKFLOW, _FIRST_SUBJECT, _FIRST_USER, _FIRST_CLASSIFICATION = 900_000, 1_000_000, 500_000, 10_000_000
_START = np.datetime64("2010-01-01T00:00:00", "ms")
_SECONDS_PER_GALAXY = 60
_N_WORKFLOWS = 1_000_000  # numbers follow from the campaign's name: other campaigns do not change them
_MAX_CACHED = 100_000  # combinations of answers, about 50 MB


@dataclass(frozen=True, slots=True)
class Workflow:
    """One part of a campaign as a Zooniverse workflow.

    Attributes:
        id: Number of the workflow.
        name: Name of the workflow, which states that it is simulated.
        questions: Task T0 and the following ones, in the order in which a volunteer sees them.
        following: For each answer column the question that is asked next, "" at the end of the classification. All
            columns of a question that allows several answers have the same value.
    """

    id: int
    name: str
    questions: tuple[Question, ...]
    following: Mapping[str, str]

    @property
    def version(self) -> str:
        """Major and minor version in the format of Zooniverse."""
        return f"{_WORKFLOW_DEFAULTS['version']}.{_WORKFLOW_DEFAULTS['minor_version']}"

    def next_task(self, column: str) -> dict[str, str]:
        """Return the key of the task after an answer as `{"next": "T1"}`; empty at the end of the classification."""
        names = [one.name for one in self.questions]
        return {"next": f"T{names.index(self.following[column])}"} if self.following[column] else {}


@cache
def workflows(campaign: Path | str | Campaign) -> tuple[Workflow, ...]:
    """Return the workflows of a campaign, one for each part of its tree.

    >>> workflows("gz2")[0].name, workflows("gz2")[0].version
    ('Galaxy Zoo 2 (simulated)', '2.10')
    """
    facts = campaign_of(campaign)
    all_parts = parts(facts.tree)
    found: list[Workflow] = []
    for i, part in enumerate(all_parts, start=_FIRST_WORKFLOW + 10 * (zlib.crc32(facts.name.encode()) % _N_WORKFLOWS)):
        title = f"{facts.title} {part.name}" if len(all_parts) > 1 else facts.title
        questions = _in_order_of_tasks(facts.tree, part)
        found.append(Workflow(i, f"{title} (simulated)", questions, _following(questions)))
    return tuple(found)


def question_label(question: Question, suffix: str) -> str:
    """Return the label of a question on the site: "Smooth or featured?"."""
    return question.name.removesuffix(f"-{suffix}").replace("-", " ").capitalize() + "?"


def answer_label(answer: str) -> str:
    """Return the label of an answer on the site: "Featured or disk"."""
    return answer.replace("-", " ").capitalize()


def workflow_export(campaign: Campaign, n_galaxies: int, n_classifications: IntArray) -> bytes:
    """Return the workflow export: one row per workflow, with its version, tasks and strings.

    Args:
        campaign: The campaign.
        n_galaxies: Number of galaxies that were shown.
        n_classifications: Number of classifications in each workflow.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(_WORKFLOW_DEFAULTS), lineterminator="\n")
    writer.writeheader()
    all_parts = parts(campaign.tree)
    for workflow, part, n in zip(workflows(campaign), all_parts, n_classifications.tolist(), strict=True):
        tasks, strings = _tasks(workflow, part)
        retirement = {"criteria": "classification_count", "options": {"count": part.votes[-1][2]}}
        texts = {"tasks": tasks, "retirement": retirement, "strings": strings}
        own = {"workflow_id": workflow.id, "display_name": workflow.name, "classifications_count": n}
        own |= {"retired_set_member_subjects_count": n_galaxies}
        writer.writerow(_WORKFLOW_DEFAULTS | own | {name: json.dumps(text) for name, text in texts.items()})
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
            onward = {} if question.multiple else workflow.next_task(column)
            answers.append(onward | {"label": f"{key}.answers.{j}.label"})
        task: dict[str, object] = {
            "help": f"{key}.help",
            "type": "multiple" if question.multiple else "single",
            "answers": answers,
            "question": f"{key}.question",
            "required": not question.multiple,
        }
        tasks[key] = task | (workflow.next_task(question.columns[0]) if question.multiple else {})
    return tasks, strings


def _in_order_of_tasks(tree: Tree, part: Part) -> tuple[Question, ...]:
    """Return the questions so that details follow their subject, and questions asked of all volunteers come last.

    In this order the answer to a question determines the next question, as the site requires.
    """
    even = np.array([[1.0 / len(question.columns) for question in tree.questions for _ in question.columns]])
    proportion_asked = dict(zip([one.name for one in tree.questions], tree.proportion_asked(even)[0], strict=True))
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
    """Return for each answer the question that is asked next."""
    found: dict[str, set[str]] = {column: set() for question in questions for column in question.columns}
    leads = {parent for question in questions for parent in question.parents}

    @cache
    def follow(i: int, given: frozenset[str], last: str) -> None:
        while i < len(questions) and questions[i].parents and not given & set(questions[i].parents):
            i += 1
        if last:
            found[last].add(questions[i].name if i < len(questions) else "")
        for column in questions[i].columns if i < len(questions) else ():
            follow(i + 1, given | ({column} & leads), column)

    follow(0, frozenset(), "")
    ambiguous = [column for column, after in found.items() if len(after) != 1]
    if ambiguous:
        raise AssertionError(f"What follows {ambiguous[0]} depends on earlier answers.")
    return {column: after.pop() for column, after in found.items()}


@dataclass(frozen=True, slots=True)
class Subjects:
    """The galaxies of a block as subjects of the site, arrays of shape (galaxy,).

    Attributes:
        first: Index of the first galaxy in the simulation.
        ids: The `id_str` of each galaxy.
        ra: Right ascension, degrees.
        dec: Declination, degrees.
        part: Index of the workflow that shows the galaxy.
    """

    first: int
    ids: Sequence[str]
    ra: FloatArray
    dec: FloatArray
    part: IntArray


def classification_header() -> bytes:
    """Return the header of the classification export."""
    return (",".join(CLASSIFICATION_COLUMNS) + "\n").encode()


def classification_rows(
    campaign: Campaign, seed: int, drawn: DrawnClassifications, subjects: Subjects, rng: np.random.Generator, block: int
) -> bytes:
    """Return classifications as CSV lines, sorted by number.

    Args:
        campaign: The campaign.
        seed: Seed of the volunteers.
        drawn: The classifications.
        subjects: The galaxies.
        rng: Random number generator for durations.
        block: Number of galaxies in a complete block, for which random numbers are drawn.
    """
    volunteers, is_bot = _volunteers(seed)
    haste = rng.lognormal(0.0, 0.4, (block, MAX_PER_GALAXY))[drawn.galaxy, drawn.number]
    # The duration depends on answers, not questions, because ticking several boxes takes longer.
    seconds = haste * np.where(is_bot[drawn.volunteer], 0.15, 3.0) * (1.0 + drawn.given.sum(axis=1))
    index = subjects.first + drawn.galaxy
    ends = index * _SECONDS_PER_GALAXY * 1000 + drawn.number * (_SECONDS_PER_GALAXY * 1000 // MAX_PER_GALAXY)
    finished = _START + ends.astype("timedelta64[ms]")
    started = finished - (seconds * 1000).astype("timedelta64[ms]")
    ids = _FIRST_CLASSIFICATION + index * MAX_PER_GALAXY + drawn.number
    shown = [_subject_fields(subjects, i) for i in range(len(subjects.ids))]
    of_workflow = [f"{workflow.id},{workflow.name},{workflow.version}" for workflow in workflows(campaign)]
    times = (np.datetime_as_string(one).tolist() for one in (started, finished))
    indices = (one.tolist() for one in (ids, drawn.volunteer, drawn.galaxy, subjects.part[drawn.galaxy]))
    lines: list[str] = []
    for number, who, where, part, begin, end, given in zip(*indices, *times, map(bytes, drawn.given), strict=True):
        annotations = _annotations(campaign, part, given)
        lines.append(
            f"{number},{volunteers[who]},{of_workflow[part]},{end[:10]} {end[11:19]} UTC,,,"
            f"{_METADATA[0]}{begin}{_METADATA[1]}{end}{_METADATA[2]},{annotations},{shown[where]}\n"
        )
    return "".join(lines).encode()


def _subject_fields(subjects: Subjects, i: int) -> str:
    number, id_str = _FIRST_SUBJECT + subjects.first + i, subjects.ids[i]
    place = {"ra": float(subjects.ra[i]), "dec": float(subjects.dec[i])}
    facts = {"retired": None, **place, "id_str": id_str, "filename": f"{id_str}.jpg", "simulated": True}
    return f"{_quoted({str(number): facts})},{number}"


@lru_cache(maxsize=_MAX_CACHED)  # few of all possible combinations of answers occur
def _annotations(campaign: Campaign, part: int, given: bytes) -> str:
    """Return the annotations of a classification as a CSV field; `given` has a byte for each answer."""
    tree = campaign.tree
    gave = set(compress(tree.columns, given))
    annotations: list[dict[str, object]] = []
    for i, question in enumerate(workflows(campaign)[part].questions):
        if question.parents and gave.isdisjoint(question.parents):
            continue
        answers = zip(question.answers, question.columns, strict=True)
        chosen = [answer_label(answer) for answer, column in answers if column in gave]
        value: object = chosen if question.multiple else chosen[0]
        label = question_label(question, parts(tree)[part].name)
        annotations.append({"task": f"T{i}", "task_label": label, "value": value})
    return _quoted(annotations)


def volunteer_name(j: int, is_anonymous: bool) -> str:
    """Return the name of a volunteer in the export.

    >>> volunteer_name(12, False), volunteer_name(12, True)
    ('simulated-volunteer-000012', 'not-logged-in-simulated-000012')
    """
    return f"not-logged-in-simulated-{j:06d}" if is_anonymous else f"simulated-volunteer-{j:06d}"


@cache
def _volunteers(seed: int) -> tuple[list[str], BoolArray]:
    """Return name, number and address of each volunteer as CSV fields, and whether each is a bot."""
    fields: list[str] = []
    for j, is_anonymous in enumerate(pool(seed).is_anonymous.tolist()):
        address = hashlib.sha256(f"simulated address {seed} {j}".encode()).hexdigest()[:10]
        number = "" if is_anonymous else str(_FIRST_USER + j)
        fields.append(f"{volunteer_name(j, is_anonymous)},{number},{address}")
    return fields, np.array([KINDS[kind].bot != "" for kind in pool(seed).kind])


def _quoted(value: object) -> str:
    """Return a value as JSON in one quoted field of a CSV file."""
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
"""Metadata of a classification as a CSV field, split at the two times."""
