"""Workflows: what the site asked, version by version.

A workflow's major version changes with its tasks, the minor one with its words. Both are text: 28.30 is not 28.3.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from gzoo.errors import NotFoundError, TableError

MAX_FILE = 1 << 28
MAX_LABEL = 300
ASKING = ("single", "multiple")  # kinds of tasks that have answers to choose from
_EXPECTED = (
    "A workflow export as CSV (Lab, 'Data exports', 'Request workflow export'), or versions of workflows as JSON."
)
_IMAGE = re.compile(r"!\[[^\]]{0,500}\]\([^)]{0,2000}\)")
_LINK = re.compile(r"\[([^\]]{0,500})\]\([^)]{0,2000}\)")


@lru_cache(maxsize=10_000)
def plain(label: str) -> str:
    """A label without its markdown images, links and emphasis, in one line.

    >>> plain("![ring.png](https://x.example/ring.png) **Ring**")
    'Ring'
    """
    words = _LINK.sub(r"\1", _IMAGE.sub(" ", label))
    return " ".join(re.sub(r"[*_#`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}", "", words).split())[:MAX_LABEL]


@dataclass(frozen=True, slots=True)
class Task:
    """One question of a workflow as it was worded in one version.

    Attributes:
        key: "T0".
        kind: "single", "multiple", or one that has no answers to choose from ("drawing", "survey", "text").
        label: The question, plain.
        answers: Plain label of each answer, in order.
        following: Key of the task that comes after each answer, "" for the end.
        following_task: Key of the task that comes after this one whatever is answered, for tasks of kind "multiple".
        is_required: Whether a volunteer must answer.
    """

    key: str
    kind: str
    label: str
    answers: tuple[str, ...]
    following: tuple[str, ...]
    following_task: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one workflow.

    Attributes:
        workflow: The workflow's number.
        name: Its name, "" where the file does not say.
        major: Changes with the tasks.
        minor: Changes with their words.
        tasks: By key.
        first: Key of the first task.
    """

    workflow: str
    name: str
    major: str
    minor: str
    tasks: Mapping[str, Task]
    first: str


class Workflows:
    """All versions that are known, to be asked by what stands in a row.

    Args:
        versions: In any order; of equal ones the first counts.
    """

    def __init__(self, versions: Iterable[Version]) -> None:
        self.versions: dict[tuple[str, str, str], Version] = {}
        for one in versions:
            self.versions.setdefault((one.workflow, one.major, one.minor), one)
        self._majors: dict[tuple[str, str], list[Version]] = {}
        for one in self.versions.values():
            self._majors.setdefault((one.workflow, one.major), []).append(one)

    @property
    def ids(self) -> tuple[str, ...]:
        """The numbers of the workflows."""
        return tuple(dict.fromkeys(one.workflow for one in self.versions.values()))

    def of(self, workflow: str) -> tuple[Version, ...]:
        """The versions of one workflow, oldest first."""
        found = [one for one in self.versions.values() if one.workflow == workflow]
        return tuple(sorted(found, key=lambda one: (_number(one.major), _number(one.minor))))

    def find(self, workflow: str, version: str) -> Version | None:
        """The version a row was made with, or one of the same tasks whose words are nearest to it; None for neither.

        Args:
            workflow: Its number.
            version: "28.30".
        """
        major, _, minor = version.partition(".")
        exact = self.versions.get((workflow, major, minor))
        if exact or (workflow, major) not in self._majors:
            return exact
        return min(
            self._majors[workflow, major],
            key=lambda one: (abs(_number(one.minor) - _number(minor)), -_number(one.minor)),
        )


def read_workflows(path: Path | str) -> Workflows:
    """The versions in a workflow export.

    Args:
        path: The export as CSV, or one version, a list of them or an API answer (`{"workflow_versions": [...]}`) as
            JSON, or as Python writes such a value.

    Raises:
        NotFoundError: There is no such file.
        TableError: It holds no workflow that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"There is no workflow export {path}.", _EXPECTED, "Check --workflows.")
    if path.stat().st_size > MAX_FILE:
        raise TableError(f"{path} has {path.stat().st_size:,} bytes.", f"At most {MAX_FILE:,}.", "Check --workflows.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path} is not UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}.",
            _EXPECTED,
            "Export it again.",
        ) from error
    start = text.lstrip()[:1]
    if not start:
        raise TableError(f"{path} is empty.", _EXPECTED, "Export it again.")
    entries = _structured(path, text) if start in "[{" else _rows(path, text)
    found = list(entries)
    if not found:
        raise TableError(f"{path} holds no workflow.", _EXPECTED, "Check --workflows.")
    return Workflows(found)


def _rows(path: Path, text: str) -> Iterator[Version]:
    csv.field_size_limit(MAX_FILE)
    rows = csv.DictReader(io.StringIO(text, newline=""))
    needed = {"workflow_id", "version", "tasks", "strings"}
    if not rows.fieldnames or not needed <= set(rows.fieldnames):
        raise TableError(
            f"{path} lacks the columns {', '.join(sorted(needed - set(rows.fieldnames or [])))}.",
            _EXPECTED,
            "Check that it is the workflow export, not the classification export.",
        )
    for i, row in enumerate(rows, 1):
        where = f"{path}, row {i}"
        tasks, strings = (_json(where, name, row[name] or "{}") for name in ("tasks", "strings"))
        yield _version(
            where,
            workflow=str(row["workflow_id"] or "").strip(),
            name=str(row.get("display_name") or "").strip(),
            major=str(row["version"] or "").strip(),
            minor=str(row.get("minor_version") or "").strip(),
            first=str(row.get("first_task") or "").strip(),
            tasks=tasks,
            strings=strings,
        )


def _json(where: str, name: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{where}: column {name} is not JSON: {error}.", "JSON.", "Export it again.") from error


def _structured(path: Path, text: str) -> Iterator[Version]:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as problem:
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise TableError(f"{path} is not JSON: {problem}.", _EXPECTED, "Export it again.") from problem
    if isinstance(value, dict):
        facts = cast("dict[str, object]", value)
        listed = next((facts[key] for key in ("workflow_versions", "workflows") if key in facts), [facts])
    else:
        listed = value
    if not isinstance(listed, list):
        raise TableError(f"{path} holds no list of workflow versions.", _EXPECTED, "Export it again.")
    for i, one in enumerate(cast("list[object]", listed), 1):
        where = f"{path}, version {i}"
        if not isinstance(one, dict):
            raise TableError(f"{where} is no object.", _EXPECTED, "Export it again.")
        facts = cast("dict[str, object]", one)
        links = facts.get("links")
        linked = cast("dict[str, object]", links).get("workflow") if isinstance(links, dict) else None
        major, minor = facts.get("major_number"), facts.get("minor_number")
        if major is None:  # a workflow as the site's API gives it, its version in one text
            major, _, minor = str(facts.get("version", "")).partition(".")
        yield _version(
            where,
            workflow=str(linked or facts.get("workflow_id") or facts.get("id") or "").strip(),
            name=str(facts.get("display_name") or "").strip(),
            major=str(major).strip(),
            minor=str("" if minor is None else minor).strip(),
            first=str(facts.get("first_task") or "").strip(),
            tasks=facts.get("tasks"),
            strings=facts.get("strings", {}),
        )


def _version(
    where: str, *, workflow: str, name: str, major: str, minor: str, first: str, tasks: object, strings: object
) -> Version:
    if not workflow or not major:
        raise TableError(f"{where} has no workflow number or no version.", _EXPECTED, "Export it again.")
    if not isinstance(tasks, dict):
        raise TableError(f"{where} has no tasks.", _EXPECTED, "Export it again.")
    words = cast("dict[str, object]", strings) if isinstance(strings, dict) else {}
    made = {
        str(key): _task(str(key), cast("dict[str, object]", task), words)
        for key, task in cast("dict[object, object]", tasks).items()
        if isinstance(task, dict)
    }
    return Version(workflow, name, major, minor, made, first if first in made else next(iter(made), ""))


def _task(key: str, task: Mapping[str, object], words: Mapping[str, object]) -> Task:
    def said(value: object) -> str:
        text = str(value or "")
        return plain(str(words.get(text, text)))

    listed = task.get("answers")
    answers = [
        cast("dict[str, object]", one) for one in cast("Sequence[object]", listed or []) if isinstance(one, dict)
    ] if isinstance(listed, list) else []  # fmt: skip
    return Task(
        key=key,
        kind=str(task.get("type") or ""),
        label=said(task.get("question") or task.get("instruction")),
        answers=tuple(said(one.get("label")) for one in answers),
        following=tuple(str(one.get("next") or "") for one in answers),
        following_task=str(task.get("next") or ""),
        is_required=task.get("required") in (True, "true"),
    )


def _number(text: str) -> int:
    """For what is nearer; versions themselves are compared as text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
