"""Proposals of mapping files: which column of a table is which answer, by the names and by the votes."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.errors import TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.labels import answer_likeness, likeness, tokens
from gzoo.trees.tree import IntArray, Question, Tree
from gzoo.votes.columns import Columns
from gzoo.votes.votes import WEIGHTED

FIRST_LINE = "# Mapping file for gzoo"


GATE_HOLDS = 0.9  # share of rows in which a question's total equals the votes of the answers that lead to it


GATE_FAILS = 0.75


WORTH_A_WORD = 0.3  # likeness of names below which a guess is not worth a line


FEW_ROWS = 5  # too few to tell of a gate


N_SAMPLED = 2_000  # rows that gates are judged on


NOT_WHOLE = "fractions, and no column of totals makes whole counts of them that add up"


SURE, CONFIRM, UNSURE = "sure", "confirm", "unsure"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a proposal.

    Attributes:
        name: Dataset column, question (for a total) or key of the mapping file.
        column: Column of the table.
        confidence: "sure"; "confirm" (the votes speak for it and the names do not, so a person should look); or
            "unsure" (commented out in the file).
        evidence: Why, in words.
    """

    name: str
    column: str
    confidence: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mapping file for a vote table, as it would be written.

    Attributes:
        columns: The mapping, without the lines that are unsure.
        keys: Lines for the identifier, the image, the position.
        answers: A line for each answer that a column was found for.
        totals: A line for each question's total.
        ignored: Column of the table that plays no part -> why.
        not_found: Answer or question of the campaign for which there is no column -> why.
        gates: Question -> share of rows in which as many people answered it as gave the answers that lead to it.
        campaign: The campaign.
        table: File name of the table.
    """

    columns: Columns
    keys: tuple[Line, ...]
    answers: tuple[Line, ...]
    totals: tuple[Line, ...]
    ignored: Mapping[str, str]
    not_found: Mapping[str, str]
    gates: Mapping[str, float]
    campaign: str
    table: str

    @property
    def is_complete(self) -> bool:
        """Whether every answer of the campaign has a column, and nothing is left to confirm."""
        return not self.not_found and all(line.confidence == SURE for line in (*self.keys, *self.answers, *self.totals))

    @property
    def summary(self) -> str:
        """In a sentence or two, how far it got."""
        n = {kind: len([line for line in self.answers if line.confidence == kind]) for kind in (SURE, CONFIRM, UNSURE)}
        said = f"{n[SURE]} answers of {self.campaign} found by their names"
        said += f", {n[CONFIRM]} by the votes (confirm them)" if n[CONFIRM] else ""
        said += f", {n[UNSURE]} not sure and commented out" if n[UNSURE] else ""
        return f"{said}. Not found: {', '.join(self.not_found)}." if self.not_found else f"{said}."

    def to_toml(self) -> str:
        """The mapping file, with the evidence for each line."""
        lines = [
            f"{FIRST_LINE}: {_words(self.table)} as {self.campaign}. Proposed by `gzoo mapping`.",
            "# Read it before you use it: CONFIRM stands where votes and names do not agree; lines that nothing",
            "# confirms are commented out, and their columns listed under ignore.",
            "",
        ]
        for line in self.keys:
            lines += _toml_line(line, is_short=False)
        if self.columns.values == "fractions":
            lines += [
                'values = "fractions"  # count = fraction x total',
                f"tolerance = {self.columns.tolerance}  # votes by which a count may miss a whole number",
            ]
        if self.ignored:
            lines += ["ignore = ["]
            lines += [f"    {_quoted(glob.escape(name))},  # {_words(why)}" for name, why in self.ignored.items()]
            lines += ["]"]
        for head, entries in (("answers", self.answers), ("totals", self.totals)):
            lines += ["", f"[{head}]"] if entries else []
            said = ""
            for line in entries:
                if line.evidence != said and head == "answers":
                    lines += [f"# {_words(line.evidence)}:"]
                said = line.evidence
                lines += _toml_line(line, is_short=head == "answers")
        if self.not_found:
            lines += ["", "# Not found:"]
            lines += [f"# {_words(name)}: {_words(why)}" for name, why in self.not_found.items()]
        return "\n".join(lines) + "\n"


_SUFFIX = re.compile(
    r"[_\-. ](?P<suffix>(?:un)?weighted[_\-. ]fraction|debiased(?:[_\-. ]\w+)?|weight(?:ed|s)?|fractions?|fracs?|"
    r"total[_\-. ]votes|totals?|counts?|votes|flag)$",
    re.IGNORECASE,
)


_TASK = re.compile(r"^(?P<question>t(?P<task>\d{1,2})(?:[_\-. ].*?)??)[_\-. ]a\d{1,2}(?:[_\-. ](?P<answer>.+))?$", re.I)


_BARE = re.compile(r"|[a-z]{0,8}[\W_]*\d+", re.IGNORECASE)  # a group's name that says nothing: none, q3, task_3


# Task numbers of the Galaxy Zoo 2 lineage of trees (Willett et al. 2013, 2017), without the campaign's suffix
_TASKS = {
    1: "smooth-or-featured", 2: "disk-edge-on", 3: "bar", 4: "has-spiral-arms", 5: "bulge-size", 6: "something-odd",
    7: "how-rounded", 8: "odd-features", 9: "bulge-shape", 10: "spiral-winding", 11: "spiral-arm-count",
    14: "clumpy-appearance", 16: "one-clump-brightest", 17: "brightest-clump-central", 18: "clump-configuration",
    19: "clump-count", 20: "galaxy-symmetrical", 21: "clumps-embedded-larger-object",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    place: int
    stem: str
    kind: str  # "count", "fraction", "total" or ""


@dataclass(frozen=True, eq=False)
class _Group:
    """Columns of a table that look like the answers of one question."""

    start: str
    columns: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    kind: str
    task: int
    counts: IntArray = field(repr=False)
    total: str = ""

    @cached_property
    def summed(self) -> IntArray:
        """Votes of each row."""
        return self.counts.sum(axis=1)


def _whole_or_fraction(frame: pl.DataFrame, name: str) -> str:
    """What a column's cells are: "count", "fraction" or ""."""
    if not (frame.schema[name].is_numeric() or frame.schema[name] == pl.String):
        return ""
    number = frame[name].cast(pl.Float64, strict=False).fill_nan(None)
    known = number.drop_nulls()
    if len(known) == 0 or (known < 0).any() or (frame[name].dtype == pl.String and _n_texts(frame[name], number) > 0.2):
        return ""
    is_whole = float((known == known.round()).cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
    is_small = bool((known <= 1.0 + 1e-6).all())
    if is_whole >= 0.9 and bool((known < 2**31).all()):
        return "either" if is_small else "count"
    return "fraction" if is_small else ""


def _n_texts(cells: pl.Series, number: pl.Series) -> float:
    """Share of cells that are neither a number nor empty."""
    text = cells.fill_null("").str.strip_chars().str.to_lowercase()
    return float((number.is_null() & ~text.is_in(["", "nan"])).mean() or 0.0)  # type: ignore[arg-type]


def _vote_columns(frame: pl.DataFrame, free: Iterable[str]) -> tuple[list[_Column], dict[str, str]]:
    """Columns that may hold votes, and why the others do not."""
    found: list[_Column] = []
    refused: dict[str, str] = {}
    for place, name in enumerate(frame.columns):
        if name not in free:
            continue
        end = _SUFFIX.search(name)
        suffix = end["suffix"].lower() if end else ""
        stem = name[: end.start()] if end else name
        if WEIGHTED.search(name):
            refused[name] = "debiased or weighted: no number of people follows from it"
            continue
        holds = _whole_or_fraction(frame, name)
        if not holds or suffix == "flag":
            refused[name] = "a flag" if suffix == "flag" else "no numbers of people"
            continue
        says = "fraction" if suffix.startswith("frac") else "total" if suffix.startswith("total") else ""
        if not says and suffix:
            says = "count"
        if holds == "fraction" and says in {"count", "total"}:
            refused[name] = "named a count, holds fractions"
        else:
            kind = says if says else "fraction" if holds == "fraction" else ""
            found.append(_Column(name, place, stem, kind))
    return found, refused


def _groups(frame: pl.DataFrame, columns: Sequence[_Column], tree: Tree) -> list[_Group]:
    """Columns of one question together, by the beginnings of their names."""
    names = [_question_tokens(question, tree) for question in tree.questions]
    exact = {column: (question.name, column.removeprefix(f"{question.name}_"))
             for question in tree.questions for column in question.columns}  # fmt: skip
    prefixes: dict[tuple[str, str], int] = {}
    splits: dict[str, list[tuple[str, str]]] = {}
    for column in columns:
        pairs: list[tuple[str, str]] = []
        task = _TASK.match(column.stem)
        if column.stem in exact:
            pairs = [exact[column.stem]]
        elif task:
            pairs = [(task["question"], task["answer"] or "")]
        else:
            for sign in re.finditer(r"[_\-. :]+", column.stem):
                if sign.start() > 0 and sign.end() < len(column.stem):
                    pairs.append((column.stem[: sign.start()], column.stem[sign.end() :]))
        splits[column.name] = pairs
        for start, _ in pairs:
            prefixes[start, column.kind] = prefixes.get((start, column.kind), 0) + 1

    members: dict[tuple[str, str], list[tuple[_Column, str]]] = {}
    loose: list[_Column] = []
    for column in columns:
        shared = [pair for pair in splits[column.name] if prefixes[pair[0], column.kind] > 1 and pair[1]]
        if not shared:
            loose.append(column)
            continue

        def worth(pair: tuple[str, str]) -> tuple[float, int]:
            like = max(likeness(tokens(pair[0]), name) for name in names)
            return (like if like >= 0.6 else 0.0), len(pair[0])

        start, label = max(shared, key=worth)
        members.setdefault((start, column.kind), []).append((column, label))
    groups = [_group(frame, start, kind, cells) for (start, kind), cells in members.items()]
    return groups + _loose_groups(frame, loose, tree)


def _loose_groups(frame: pl.DataFrame, loose: Sequence[_Column], tree: Tree) -> list[_Group]:
    """Columns named for an answer alone (`smooth`, `yes`), side by side in the table."""
    found: list[_Group] = []
    questions = sorted(tree.questions, key=lambda question: -len(question.columns))
    i = 0
    while i < len(loose):
        for question in questions:
            run = loose[i : i + len(question.columns)]
            labels = [tokens(column.stem) for column in run]
            is_run = len(run) == len(question.columns) and run[-1].place - run[0].place == len(run) - 1
            if is_run and min(_matched(labels, question, tree)[1]) >= 0.8:
                found.append(_group(frame, "", run[0].kind, [(column, column.stem) for column in run]))
                i += len(run)
                break
        else:
            i += 1
    return found


def _group(frame: pl.DataFrame, start: str, kind: str, members: Sequence[tuple[_Column, str]]) -> _Group:
    task = re.match(r"t(\d{1,2})(?![^\W_])", start, re.IGNORECASE)
    values = [_values(frame, column.name) for column, _ in members]
    counts = np.stack([np.zeros_like(one) if kind == "fraction" else np.round(one) for one in values], axis=1)
    return _Group(
        start=start,
        columns=tuple(column.name for column, _ in members),
        labels=tuple(tokens(label) for _, label in members),
        kind=kind or "count",
        task=int(task[1]) if task else 0,
        counts=counts.astype(np.int64),
    )


def _values(frame: pl.DataFrame, name: str) -> npt.NDArray[np.float64]:
    numbers = frame[name].cast(pl.Float64, strict=False).fill_nan(None).fill_null(0.0)
    return numbers.clip(0, 2.0**31).to_numpy()


def _question_tokens(question: Question, tree: Tree) -> tuple[str, ...]:
    return tokens(_plain_name(question, tree))


def _plain_name(question: Question, tree: Tree) -> str:
    """`bar` of `bar-gz2`: without the ending that many questions of the tree share."""
    start, _, end = question.name.rpartition("-")
    return start if start and sum(one.name.endswith(f"-{end}") for one in tree.questions) > 2 else question.name


def _with_totals(
    frame: pl.DataFrame, groups: list[_Group], columns: Sequence[_Column], tolerance: float
) -> tuple[list[_Group], list[_Group]]:
    """Groups of fractions turned into counts where a column of totals makes every count whole; and the others."""
    used = {name for group in groups for name in group.columns}
    candidates = [column for column in columns if column.name not in used and column.kind != "fraction"]
    done: list[_Group] = []
    refused: list[_Group] = []
    for group in groups:
        if group.kind != "fraction":
            done.append(group)
            continue
        fractions = np.stack([_values(frame, name) for name in group.columns], axis=1)
        ordered = sorted(candidates, key=lambda column: -_common(column.stem, group.columns[0]))
        for column in ordered[:3]:  # named for this question first
            total = _values(frame, column.name)
            counts = fractions * total[:, None]
            whole = np.round(counts)
            asked = total > 0
            is_good = (np.abs(counts - whole) <= tolerance).all(axis=1) & (whole.sum(axis=1) == total)
            if asked.any() and float(is_good[asked].mean()) >= 0.95 and not fractions[~asked].any():
                done.append(
                    _Group(group.start, group.columns, group.labels, "fraction", group.task,
                           whole.astype(np.int64), column.name)
                )  # fmt: skip
                break
        else:
            refused.append(group)
    return done, refused


def _common(one: str, other: str) -> int:
    match = SequenceMatcher(None, one, other).find_longest_match(0, len(one), 0, len(other))
    return match.size if match.a == match.b == 0 else 0


@dataclass(frozen=True, slots=True)
class _Place:
    """A question's columns: of the group, in the order of the question's answers."""

    group: _Group
    order: tuple[int, ...]

    @property
    def counts(self) -> IntArray:
        return self.group.counts[:, list(self.order)]


_State = dict[str, _Place]


def _matched(labels: Sequence[Sequence[str]], question: Question, tree: Tree) -> tuple[tuple[int, ...], list[float]]:
    """For each answer the label that fits best (each label once), and how well it does."""
    from scipy.optimize import linear_sum_assignment

    about = _question_tokens(question, tree)
    likeness = np.array([[answer_likeness(label, answer, about) for label in labels] for answer in question.answers])
    tie = 1e-3 * np.abs(np.subtract.outer(np.arange(len(question.answers)), np.arange(len(labels))))  # keep the order
    _, chosen = linear_sum_assignment(-(likeness - tie))
    order = tuple(int(i) for i in chosen)
    return order, [float(likeness[answer, label]) for answer, label in enumerate(order)]


def _name_score(group: _Group, question: Question, tree: Tree, *, is_live: bool = True) -> float:
    """How well a group's names fit a question, 0 to 1, the number of its answers included (where votes are known)."""
    n, k = len(group.columns), len(question.columns)
    live = [i for i in range(n) if group.counts[:, i].any()]
    if n < k or (n > k and is_live and len(live) > k):
        return -1.0
    _, likeness = _matched(group.labels, question, tree)
    return 0.5 * _topic(group, question, tree) + 0.5 * float(np.mean(likeness)) - 0.1 * (n - k)


def _topic(group: _Group, question: Question, tree: Tree) -> float:
    """How well the part of a group's names that its answers share fits a question's name, 0 to 1."""
    start = re.sub(r"^t\d{1,2}[_\-. ]", "", group.start, flags=re.IGNORECASE)
    plain = _plain_name(question, tree)
    like = likeness(tokens(start), tokens(plain)) if start else 0.0
    if group.start.lower() == question.name.lower():
        like = 1.0
    return max(like, 0.7) if group.task and _TASKS.get(group.task) == plain else like


def _is_told_by_answers(group: _Group, question: Question, tree: Tree) -> bool:
    """Whether answers alone say which question it is: nothing else is named, and no other question has such answers."""
    if not _BARE.fullmatch(group.start):
        return False
    fitting = [one for one in tree.questions if min(_matched_all(group, one, tree), default=0.0) >= 0.6]
    return fitting == [question]


def _matched_all(group: _Group, question: Question, tree: Tree) -> list[float]:
    same_size = len(group.labels) == len(question.columns)
    return _matched(group.labels, question, tree)[1] if same_size else []


class _Search:
    """Which group is which question: the names' choice, improved as long as more gates hold."""

    def __init__(self, groups: Sequence[_Group], tree: Tree) -> None:
        self.tree = tree
        self.groups = list(groups)
        self.known: dict[tuple[int, tuple[int, ...], str], float] = {}
        self.scores = {(id(group), question.name): _name_score(group, question, tree)
                       for group in groups for question in tree.questions}  # fmt: skip
        n = len(groups[0].counts)
        self.rows = np.sort(np.random.default_rng(0).permutation(n)[:N_SAMPLED])

    def asked(self, state: _State, name: str) -> IntArray:
        """How many people at least answered a question."""
        counts = state[name].counts[self.rows]
        return counts.max(axis=1) if self.tree.question(name).multiple else counts.sum(axis=1)

    def gate(self, state: _State, question: Question) -> float | None:
        """Share of rows in which a question's total equals the votes that lead to it; None where that is not known."""
        place = state.get(question.name)
        if place is None or len(self.rows) < FEW_ROWS:
            return None
        total = self.asked(state, question.name)
        if question.parents:
            led = np.zeros(len(self.rows), np.int64)
            for parent in question.parents:
                owner = next((one for one in self.tree.questions if parent in one.columns), None)
                if owner is None or owner.name not in state:
                    return None
                there = state[owner.name]
                led += there.group.counts[self.rows, there.order[owner.columns.index(parent)]]
        elif sum(not one.parents for one in self.tree.questions) > 1:
            return None  # several campaigns side by side: nobody was asked all of their first questions
        else:
            led = np.max([self.asked(state, one) for one in state], axis=0)
        tells = (total > 0) | (led > 0)
        if not tells.any():
            return None
        agree = (total <= led) if question.multiple else (total == led)
        if question.multiple:
            tells = total > 0
        return float(agree[tells].mean()) if tells.any() else None

    def worth(self, state: _State) -> float:
        """Names and gates together."""
        value = 0.0
        for name, place in state.items():
            question = self.tree.question(name)
            value += self.scores[id(place.group), name] + 0.3 * self.likeness(place, question)
            fraction = self.gate(state, question)
            value += 0.0 if fraction is None else 1.5 * (fraction - 0.5)
        return value

    def likeness(self, place: _Place, question: Question) -> float:
        key = (id(place.group), place.order, question.name)
        if key not in self.known:
            about = _question_tokens(question, self.tree)
            pairs = zip(place.order, question.answers, strict=True)
            alike = [answer_likeness(place.group.labels[i], answer, about) for i, answer in pairs]
            self.known[key] = float(np.mean(alike))
        return self.known[key]

    def place(self, group: _Group, question: Question) -> _Place:
        """The group's columns in the order that the names say, a column without votes left over."""
        n, k = len(group.columns), len(question.columns)
        if n == k:
            return _Place(group, _matched(group.labels, question, self.tree)[0])
        live = [i for i in range(n) if group.counts[:, i].any()]
        spare = [i for i in range(n) if i not in live]
        kept = tuple(sorted(live + spare[: k - len(live)]))  # names may be shifted: in the order of the table
        return max(_Place(group, kept), _Place(group, kept[::-1]), key=lambda one: self.likeness(one, question))

    def run(self) -> _State:
        from scipy.optimize import linear_sum_assignment

        names = [question.name for question in self.tree.questions]
        table = np.array([[self.scores[id(group), name] for name in names] for group in self.groups])
        state: _State = {}
        for i, j in zip(*linear_sum_assignment(-table), strict=True):
            if table[i, j] >= 0.0:
                state[names[j]] = self.place(self.groups[i], self.tree.question(names[j]))
        worth = self.worth(state)
        while True:
            better = max(((self.worth(one), n, one) for n, one in enumerate(self.moves(state))), default=None)
            if better is None or better[0] < worth + 1e-6:
                return state
            worth, _, state = better

    def moves(self, state: _State) -> list[_State]:
        """States one step away: groups change places, or the answers of one question do."""
        found: list[_State] = []
        names = [question.name for question in self.tree.questions]
        free = [group for group in self.groups if all(place.group is not group for place in state.values())]
        for i, one in enumerate(names):
            for group in free:
                if self.scores[id(group), one] >= 0:
                    found.append({**state, one: self.place(group, self.tree.question(one))})
            for other in names[i + 1 :]:
                pair = [state.get(one), state.get(other)]
                fits = all(
                    place is None or self.scores[id(place.group), name] >= 0
                    for place, name in zip(pair, (other, one), strict=True)
                )
                if fits and any(pair):
                    changed = {name: place for name, place in state.items() if name not in (one, other)}
                    if pair[0]:
                        changed[other] = self.place(pair[0].group, self.tree.question(other))
                    if pair[1]:
                        changed[one] = self.place(pair[1].group, self.tree.question(one))
                    found.append(changed)
        for name, place in state.items():
            found += [{**state, name: _Place(place.group, order)} for order in self.orders(name, place)]
        return found

    def orders(self, name: str, place: _Place) -> list[tuple[int, ...]]:
        """Other orders of a question's columns: any two exchanged or, where the names speak clearly, all shifted."""
        question, order = self.tree.question(name), place.order
        k = len(order)
        kept = sorted(order)
        if len(place.group.columns) > k:
            return [order[::-1]]
        shifts = [tuple(kept[(kept.index(i) + by) % k] for i in order) for by in range(1, k)]
        if k == 2 or self.likeness(self.place(place.group, question), question) >= 0.7:
            return shifts
        swaps: list[tuple[int, ...]] = []
        for i in range(k):
            for j in range(i + 1, k):
                changed = list(order)
                changed[i], changed[j] = changed[j], changed[i]
                swaps.append(tuple(changed))
        return [*shifts, *swaps]

    def children(self, name: str) -> list[Question]:
        own = set(self.tree.question(name).columns)
        return [question for question in self.tree.questions if own & set(question.parents)]

    def lead(self, state: _State, name: str, others: Iterable[_State]) -> float:
        """By how much the gates of a question and of those behind it hold better than in any other state."""

        def held(one: _State) -> float:
            fractions = [self.gate(one, question) for question in self.tree.questions]
            return sum(fraction for fraction in fractions if fraction is not None)

        mine = held(state)
        return min((mine - held(one) for one in others), default=0.0)


_IDENTIFIERS = (
    "id_str", "subject_id", "objid", "dr7objid", "dr8objid", "galaxy_id", "galaxyid", "iauname", "object_id", "name",
    "id", "asset_id",
)  # fmt: skip


_SOURCE_IDS = ("source_id", "dr7objid", "objid", "dr8objid", "iauname", "object_id", "specobjid")


_IMAGES = ("filename", "file_name", "file", "image", "image", "image_name", "jpg", "png")


def propose(frame: pl.DataFrame, campaign: Campaign, source: Path) -> Proposal:
    """The proposal for a table that is read already; see `mapping`.

    Raises:
        TableError: No column of the table could be votes on this campaign's questions.
    """
    tree = campaign.tree
    keys = _keys(frame)
    free = [name for name in frame.columns if name not in {line.column for line in keys}]
    columns, ignored = _vote_columns(frame, free)
    tolerance = Columns().tolerance
    groups, not_whole = _with_totals(frame, _groups(frame, columns, tree), columns, tolerance)
    ignored |= {name: NOT_WHOLE for group in not_whole for name in group.columns}
    lost = {_likely(group, tree).name: f"{group.columns[0]} and the like: {NOT_WHOLE}"
            for group in not_whole if _best(group, tree, is_live=False) >= 0.5}  # fmt: skip
    counted = [group for group in groups if group.kind != "fraction"]
    is_of_counts = any(_best(group, tree) >= 0.6 for group in counted)
    chosen = counted if is_of_counts else [group for group in groups if group.kind == "fraction"] or counted
    if is_of_counts:
        ignored |= {name: "a fraction; the table has counts" for group in groups if group.kind == "fraction"
                    for name in (*group.columns, group.total)}  # fmt: skip
    chosen = [group for group in chosen if len(group.counts)]
    search = _Search(chosen, tree) if chosen else None
    state = search.run() if search else {}
    if not search or not state:
        weighted = [name for name in ignored if WEIGHTED.search(name)]
        raise TableError(
            f"{source} has no columns of votes on the questions of {campaign.name}"
            + (f": {len(weighted)} are weighted or debiased ({weighted[0]})." if weighted else "."),
            f"Whole counts, one column an answer, such as {tree.columns[0]}; or plain fractions with totals.",
            f"See `gzoo tree {campaign.name}`; get the table of counts, or check the campaign.",
        )
    answers: list[Line] = []
    totals: list[Line] = []
    not_found: dict[str, str] = {}
    gates: dict[str, float] = {}
    for question in tree.questions:
        if question.name not in state:
            not_found[question.name] = lost.get(question.name, "no columns of this table fit its answers")
            continue
        place = state[question.name]
        fraction = search.gate(state, question)
        if fraction is not None:
            gates[question.name] = fraction
        confidence, evidence = _judge(search, state, question)
        is_guess = _topic(place.group, question, tree) < WORTH_A_WORD and not _BARE.fullmatch(place.group.start)
        if confidence == UNSURE and is_guess:
            not_found[question.name] = "no columns of this table fit its answers"
            continue
        if confidence == UNSURE:
            not_found[question.name] = "nothing confirms the columns above"
        for i, column in zip(place.order, question.columns, strict=True):
            answers.append(Line(column, place.group.columns[i], confidence, evidence))
        if place.group.total:
            whole = "with it every fraction gives whole counts"
            totals.append(Line(question.name, place.group.total, confidence, whole))
    sure = [line for line in answers if line.confidence != UNSURE]
    sure_totals = [line for line in totals if line.confidence != UNSURE]
    totals += _given_totals(frame, columns, state, sure, tree, {line.column for line in totals})
    sure_totals = [line for line in totals if line.confidence != UNSURE]
    for line in (*answers, *totals):
        if line.confidence == UNSURE:
            ignored[line.column] = f"perhaps {line.name}, see below"
    named = {line.column for line in (*keys, *sure, *sure_totals)}
    for name in frame.columns:
        if name not in named:
            ignored.setdefault(name, "no answer of this campaign is known by that name")
    ignored = {name: ignored[name] for name in frame.columns if name in ignored and name not in named}
    is_fractions = bool(sure_totals) and any(place.group.kind == "fraction" for place in state.values())
    mapped = Columns(
        **{line.name: line.column for line in keys},  # type: ignore[arg-type]
        values="fractions" if is_fractions else "counts",
        tolerance=tolerance,
        answers={line.name: line.column for line in sure},
        totals={line.name: line.column for line in sure_totals},
        ignore=tuple(glob.escape(name) for name in ignored),
    )
    return Proposal(
        mapped, keys, tuple(answers), tuple(totals), ignored, not_found, gates, campaign.name, source.name
    )  # fmt: skip


def _likely(group: _Group, tree: Tree) -> Question:
    return max(tree.questions, key=lambda question: _name_score(group, question, tree, is_live=False))


def _best(group: _Group, tree: Tree, *, is_live: bool = True) -> float:
    return max(_name_score(group, question, tree, is_live=is_live) for question in tree.questions)


def _judge(search: _Search, state: _State, question: Question) -> tuple[str, str]:
    """How sure a question's columns are, and why."""
    place, tree = state[question.name], search.tree
    about = _question_tokens(question, tree)
    pairs = zip(place.order, question.answers, strict=True)
    weakest = min(answer_likeness(place.group.labels[i], answer, about) for i, answer in pairs)
    own = search.gate(state, question)
    behind = {one.name: search.gate(state, one) for one in search.children(question.name)}
    fractions = [fraction for fraction in (own, *behind.values()) if fraction is not None]
    as_many = "no answer has more votes than" if question.multiple else "as many votes as on"
    said = f"{as_many} the answers that lead to it in {own:.1%} of rows" if own is not None else ""
    if not question.parents and own is not None:
        said = f"asked of everyone in {own:.1%} of rows"
    is_told = _topic(place.group, question, tree) >= 0.5 or _is_told_by_answers(place.group, question, tree)
    is_agreed = weakest >= 0.6 and is_told
    names = f"{question.name}: names agree" if is_agreed else f"{question.name}: names do not tell"
    is_spare = len(place.group.columns) > len(place.order)
    if is_spare:
        spare = [name for i, name in enumerate(place.group.columns) if i not in place.order]
        names = (
            f"{question.name}: one answer too many in the table ({', '.join(spare)} has no vote in any row), so that "
            "the names may be shifted"
        )
    elif is_agreed and (own is None or own >= GATE_FAILS):
        return SURE, "; ".join(part for part in (names, said) if part)
    swapped = [{**state, question.name: _Place(place.group, order)} for order in search.orders(question.name, place)]
    is_shift = is_told and not is_spare and weakest < 0.6
    moved = [one for one in search.moves(state) if one.keys() == state.keys()
             and one[question.name].group is not place.group]  # fmt: skip
    holds = bool(fractions) and min(fractions) >= GATE_HOLDS
    leads = holds and search.lead(state, question.name, [*swapped, *moved]) > 0.05
    if leads and is_shift:
        return (
            CONFIRM,
            f"{question.name}: the names say otherwise, but this is the only shift of them that fits the votes; {said}",
        )
    if leads:
        return CONFIRM, f"{names}, the votes do; {said}"
    if own is not None and own < GATE_FAILS:
        return UNSURE, f"{names}, but {said} only"
    return UNSURE, "; ".join(part for part in (names, "the votes do not tell either", said) if part)


def _given_totals(
    frame: pl.DataFrame,
    columns: Sequence[_Column],
    state: _State,
    sure: Sequence[Line],
    tree: Tree,
    used: set[str],
) -> list[Line]:
    """Columns of totals beside counts, where name and numbers agree."""
    taken = used | {line.column for line in sure}
    found: list[Line] = []
    for question in tree.questions:
        place = state.get(question.name)
        if place is None or place.group.total or question.columns[0] not in {line.name for line in sure}:
            continue
        counts = place.counts
        for column in columns:
            if column.name in taken or not place.group.start or not column.name.startswith(place.group.start):
                continue
            total = _values(frame, column.name)
            fits = (total >= counts.max(axis=1)) if question.multiple else (total == counts.sum(axis=1))
            if fits.mean() >= 0.95:
                what = "at least the votes of each answer" if question.multiple else "the sum of the answers"
                found.append(Line(question.name, column.name, SURE, f"{what} in {fits.mean():.1%} of rows"))
                taken.add(column.name)
                break
    return found


def _keys(frame: pl.DataFrame) -> tuple[Line, ...]:
    """Identifier, image and position, by name and content."""
    lower = {name.lower(): name for name in reversed(frame.columns)}
    lines: list[Line] = []

    def add(key: str, wanted: Sequence[str], fits: Callable[[pl.Series], str], confidence: str = SURE) -> bool:
        for word in wanted:
            name = lower.get(word)
            if name and name not in {line.column for line in lines} and (evidence := fits(frame[name])):
                lines.append(Line(key, name, confidence, evidence))
                return True
        return False

    def unique(cells: pl.Series) -> str:
        return "another value in each row" if _is_plain(cells) and cells.n_unique() > 0.95 * len(cells) else ""

    def angle(low: float, high: float) -> Callable[[pl.Series], str]:
        def fits(cells: pl.Series) -> str:
            known = (
                cells.cast(pl.Float64, strict=False).drop_nulls()
                if _is_plain(cells)
                else pl.Series([], dtype=pl.Float64)
            )
            return f"{low:g} to {high:g} degrees" if len(known) and known.is_between(low, high).all() else ""

        return fits

    if not add("id_str", _IDENTIFIERS, unique):
        first = frame.columns[0]
        evidence = "the first column; nothing is named as an identifier"
        lines.append(Line("id_str", first, CONFIRM, evidence))
    add("source_id", _SOURCE_IDS, lambda cells: "named as a survey's identifier" if _is_plain(cells) else "")
    add("image", _IMAGES, lambda cells: "names of files" if _is_of_images(cells) else "")
    add("ra", ("ra", "ra_deg", "raj2000", "ra_j2000", "right_ascension"), angle(0, 360))
    add("dec", ("dec", "dec_deg", "dej2000", "decj2000", "dec_j2000", "declination"), angle(-90, 90))
    add("dataset_name", ("dataset_name",), lambda cells: "its name" if _is_plain(cells) else "")
    return tuple(lines)


def _is_plain(cells: pl.Series) -> bool:
    return cells.dtype.is_numeric() or cells.dtype == pl.String


def _is_of_images(cells: pl.Series) -> bool:
    if cells.dtype != pl.String:
        return False
    n = int(cells.str.to_lowercase().str.contains(r"\.(?:jpe?g|png)$").fill_null(False).sum())
    return 2 * n > len(cells)


def _quoted(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _words(text: str) -> str:
    """Text for a comment: one line, nothing that ends it."""
    return "".join(sign if sign.isprintable() else " " for sign in text)[:300]


def _toml_line(line: Line, *, is_short: bool) -> list[str]:
    key = line.name if re.fullmatch(r"[A-Za-z0-9_]+", line.name) else _quoted(line.name)
    mark = {SURE: "", CONFIRM: "CONFIRM", UNSURE: "NOT SURE"}[line.confidence]
    said = ": ".join(part for part in (mark, "" if is_short else _words(line.evidence)) if part)
    text = f"{key} = {_quoted(line.column)}" + (f"  # {said}" if said else "")
    return [f"# {text}" if line.confidence == UNSURE else text]
