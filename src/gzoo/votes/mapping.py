"""Proposals of mapping files: which column of a table is which answer, by names and votes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from gzoo import files, sky
from gzoo.errors import TableError
from gzoo.images.checks import SUFFIXES
from gzoo.trees.campaign import Campaign
from gzoo.trees.labels import answer_likeness, tokens
from gzoo.trees.tree import Question, Tree
from gzoo.votes.audit import percent
from gzoo.votes.column_checks import WEIGHTED
from gzoo.votes.column_groups import (
    Group,
    VoteColumn,
    find_groups,
    matched,
    question_tokens,
    values_of,
    vote_columns,
    with_totals,
)
from gzoo.votes.column_search import Search
from gzoo.votes.mapping_file import MappingFile
from gzoo.votes.proposal import CERTAIN, CONFIRM, UNCERTAIN, Line, Proposal, patterns

MIN_CONSISTENT = 0.9  # fraction of rows whose total equals the votes for the parent answers
MAX_INCONSISTENT = 0.75
MIN_LIKENESS = 0.3  # of names, below which a guess is not listed
MIN_LEAD = 0.05
_NO_COLUMNS = "no columns of this table match its answers"
_NOT_INTEGER = "fractions without a column of totals that gives integer votes"
_IDENTIFIERS = (
    "id_str", "subject_id", "objid", "dr7objid", "dr8objid", "galaxy_id", "galaxyid", "iauname", "object_id", "name",
    "id", "asset_id",
)  # fmt: skip
_SOURCE_IDS = ("source_id", "dr7objid", "objid", "dr8objid", "iauname", "object_id", "specobjid")
_IMAGES = (
    "filename", "file_name", "file", "image", "image_name", "jpg", "png", "fits", "file_loc", "image_path", "path",
    "jpg_loc", "png_loc", "fits_loc", "cutout", "image_file", "image_filename", "local_path",
)  # fmt: skip
_SPLITS = ("split", "set", "subset", "partition", "fold", "dataset_split", "sample", "part")
_RA = (
    "ra", "ra_deg", "radeg", "raj2000", "ra_j2000", "ra_icrs", "alpha_j2000", "right_ascension", "ramean", "ra_rad",
    "ra_hours", "ra_hms", "ra_sex",
)  # fmt: skip
_DEC = (
    "dec", "dec_deg", "decdeg", "dedeg", "dej2000", "decj2000", "dec_j2000", "dec_icrs", "de_icrs", "delta_j2000",
    "declination", "decmean", "dec_rad", "dec_dms", "dec_sex",
)  # fmt: skip
_UNITS_IN_NAMES = {"_rad": "rad", "_hours": "hourangle"}


def propose(frame: pl.DataFrame, campaign: Campaign, source: Path) -> Proposal:
    """Propose the mapping file of a table.

    A campaign may have several trees side by side. Where the columns do not have the dataset's own names, the tree is
    proposed for which most answers are found. If that is so for several, the one that the name of the table or of a
    column contains is proposed, otherwise the first, and the others are named.

    Args:
        frame: Rows of the table.
        campaign: Campaign that the votes belong to.
        source: Path of the table, for messages.

    Raises:
        TableError: No column of the table can be votes on this campaign's questions.
    """
    tree = campaign.tree
    if len(tree.parts) == 1 or not set(tree.columns).isdisjoint(frame.columns):
        return _propose(frame, campaign, tree, source)
    found: dict[str, Proposal] = {}
    for name, questions in tree.parts.items():
        with contextlib.suppress(TableError):
            part = Tree(tree.name, questions, tree.unavailable & {one for each in questions for one in each.columns})
            found[name] = replace(_propose(frame, campaign, part, source), part=name)
    together = _propose(frame, campaign, tree, source)
    n_found = {name: len(one.mapping.answers) for name, one in found.items()}
    best = [name for name, n in n_found.items() if n == max(n_found.values())]
    if not best or n_found[best[0]] < len(together.mapping.answers):
        return together
    said = tokens(" ".join([source.stem, *frame.columns]))
    named = [name for name in best if name in said]
    if len(named) == 1:
        return found[named[0]]
    return replace(found[best[0]], alternatives=tuple(best[1:]))


def _propose(frame: pl.DataFrame, campaign: Campaign, tree: Tree, source: Path) -> Proposal:
    """Propose the mapping file of a table for the questions of a tree."""
    keys = _keys(frame)
    columns, ignored = vote_columns(frame, set(frame.columns) - {line.column for line in keys})
    tolerance = MappingFile().tolerance
    groups, without_total = with_totals(frame, find_groups(frame, columns, tree), columns, tolerance)
    ignored |= {name: _NOT_INTEGER for group in without_total for name in group.columns}
    lost: dict[str, str] = {}
    for group in without_total:
        scores = {one.name: group.name_score(one, tree, has_votes=False) for one in tree.questions}
        likely = max(scores, key=lambda name: scores[name])
        if scores[likely] >= 0.5:
            lost[likely] = f"columns such as {group.columns[0]} are {_NOT_INTEGER}"
    chosen = _counts_or_fractions(groups, tree)
    ignored |= {name: "a fraction; the table has counts" for group in groups if group not in chosen
                for name in (*group.columns, group.total) if group.kind == "fraction"}  # fmt: skip
    search = Search([group for group in chosen if len(group.counts)], tree)
    if not search.state:
        weighted = [name for name in ignored if WEIGHTED.search(name)]
        raise TableError(
            f"'{source}' does not contain votes on the questions of '{campaign.name}'"
            + (f"; {len(weighted)} columns are weighted or debiased ({weighted[0]})." if weighted else "."),
            f"vote counts with one column per answer, such as {tree.columns[0]}, or plain fractions with totals.",
            where_counts_are(campaign) if weighted else f"Check the campaign with `gzoo tree {campaign.source}`.",
        )
    answers: list[Line] = []
    totals: list[Line] = []
    not_found: dict[str, str] = {}
    consistency: dict[str, float] = {}
    for question in tree.questions:
        if question.name not in search.state:
            not_found[question.name] = lost.get(question.name, _NO_COLUMNS)
            continue
        placed = search.state[question.name]
        fraction = search.consistency(question)
        if fraction is not None:
            consistency[question.name] = fraction
        confidence, evidence = _confidence(search, question)
        if confidence == UNCERTAIN:
            is_guess = placed.group.topic_likeness(question, tree) < MIN_LIKENESS and not placed.group.is_uninformative
            not_found[question.name] = _NO_COLUMNS if is_guess else "the columns above are not confirmed"
            if is_guess:
                continue
        for i, column in zip(placed.order, question.columns, strict=True):
            answers.append(Line(column, placed.group.columns[i], confidence, evidence))
        if placed.group.total:
            totals.append(Line(question.name, placed.group.total, confidence, "it makes every vote count an integer"))
    used = {line.column for line in (*answers, *totals) if line.confidence != UNCERTAIN}
    used |= {line.column for line in totals}
    named = {line.name for line in answers if line.confidence != UNCERTAIN}
    totals += _totals_of_counts(
        frame, columns, search, [one for one in tree.questions if one.columns[0] in named], used
    )
    for line in (*answers, *totals):
        if line.confidence == UNCERTAIN:
            ignored[line.column] = f"possibly {line.name}, see below"
    certain, certain_totals = (
        {line.name: line.column for line in lines if line.confidence != UNCERTAIN} for lines in (answers, totals)
    )
    mapped = {*(line.column for line in keys), *certain.values(), *certain_totals.values()}
    ignored = {
        name: ignored.get(name, "not the name of an answer of this campaign")
        for name in frame.columns
        if name not in mapped
    }
    is_fractions = bool(certain_totals) and any(placed.group.kind == "fraction" for placed in search.state.values())
    mapping = MappingFile(
        **{line.name: line.column for line in keys},  # type: ignore[arg-type]
        values="fractions" if is_fractions else "counts",
        tolerance=tolerance,
        answers=certain,
        totals=certain_totals,
        ignore=tuple(patterns(ignored, mapped)),
    )
    weighted = [name for name in ignored if WEIGHTED.search(name)]
    return Proposal(
        mapping,
        keys,
        tuple(answers),
        tuple(totals),
        ignored,
        not_found,
        consistency,
        campaign.name,
        source.name,
        split_column=_split_column(frame),
        unusable=_unusable(weighted, campaign) if not_found else "",
    )


def _unusable(weighted: Sequence[str], campaign: Campaign) -> str:
    if not weighted:
        return ""
    n = len(weighted)
    return (
        f"Counts cannot be computed from weighted or debiased columns ({n}, such as {weighted[0]}). "
        f"{where_counts_are(campaign)}"
    )


def where_counts_are(campaign: Campaign) -> str:
    """Return where the vote counts of a campaign may be found."""
    published = f" or of '{campaign.hub.repository}' on the Hub" if campaign.hub and campaign.hub.repository else ""
    return f"Use the counts of the campaign's published table{published}, or count its classifications (`gzoo count`)."


def _counts_or_fractions(groups: Sequence[Group], tree: Tree) -> list[Group]:
    """Return the groups of counts if any of them matches a question; otherwise the fractions."""
    counts = [group for group in groups if group.kind != "fraction"]
    if any(group.name_score(one, tree) >= 0.6 for group in counts for one in tree.questions):
        return counts
    return [group for group in groups if group.kind == "fraction"] or counts


def _confidence(search: Search, question: Question) -> tuple[str, str]:
    """Return the confidence in a question's columns, and the evidence."""
    placed, tree = search.state[question.name], search.tree
    group = placed.group
    about = question_tokens(question, tree)
    pairs = zip(placed.order, question.answers, strict=True)
    weakest = min(answer_likeness(group.labels[i], answer, about) for i, answer in pairs)
    own = search.consistency(question)
    votes = ""
    if own is not None:
        rule = "no answer has more votes than" if question.multiple else "total votes equal the votes for"
        votes = f"{rule} the parent answers in {percent(own)} of rows"
        votes = votes if question.parents else f"asked of everyone in {percent(own)} of rows"
    swap = search.swaps.get(question.name)
    if swap:
        confidence = CONFIRM if swap.fraction - swap.next_fraction > MIN_LEAD else UNCERTAIN
        only = f"the only {swap.kind}" if swap.is_only else f"one {swap.kind}"
        return confidence, "; ".join(
            part
            for part in (f"{question.name}: names disagree, but {only} of names that fits the votes", votes)
            if part
        )
    is_named = group.topic_likeness(question, tree) >= 0.5 or _is_identified_by_answers(group, question, tree)
    is_agreed = weakest >= 0.6 and is_named
    names = f"{question.name}: names {'agree' if is_agreed else 'are inconclusive'}"
    if len(group.columns) > len(placed.order):
        spare = ", ".join(name for i, name in enumerate(group.columns) if i not in placed.order)
        names = f"{question.name}: one column too many ({spare} is without votes), so the names may be shifted"
    elif is_agreed and (own is None or own >= MAX_INCONSISTENT):
        return CERTAIN, "; ".join(part for part in (names, votes) if part)
    answers = set(question.columns)
    children = [search.consistency(one) for one in tree.questions if answers & set(one.parents)]
    known = [fraction for fraction in (own, *children) if fraction is not None]
    if known and min(known) >= MIN_CONSISTENT and search.lead(question) > MIN_LEAD:
        return CONFIRM, f"{names}, votes agree; {votes}"
    if own is not None and own < MAX_INCONSISTENT:
        return UNCERTAIN, f"{names}, but {votes.replace(' in ', ' in only ')}"
    return UNCERTAIN, "; ".join(part for part in (names, "votes are inconclusive", votes) if part)


def _is_identified_by_answers(group: Group, question: Question, tree: Tree) -> bool:
    """Return whether the answers alone identify the question, because no other question has such answers."""
    if not group.is_uninformative:
        return False
    same_size = [one for one in tree.questions if len(one.columns) == len(group.labels)]
    return [one for one in same_size if min(matched(group.labels, one, tree)[1]) >= 0.6] == [question]


def _totals_of_counts(
    frame: pl.DataFrame,
    columns: Sequence[VoteColumn],
    search: Search,
    questions: Sequence[Question],
    used: Collection[str],
) -> list[Line]:
    """Return lines for columns of totals next to counts, if names and numbers agree."""
    taken = set(used)
    found: list[Line] = []
    for question in questions:
        placed = search.state[question.name]
        if placed.group.total or not placed.group.start:
            continue
        counts = placed.group.counts[:, list(placed.order)]
        for column in columns:
            if column.name in taken or not column.name.startswith(placed.group.start):
                continue
            total = values_of(frame, column.name)
            fits = float(np.mean(total >= counts.max(axis=1) if question.multiple else total == counts.sum(axis=1)))
            if fits >= 0.95:
                rule = "at least the votes for each answer" if question.multiple else "the sum of the answers"
                found.append(Line(question.name, column.name, CERTAIN, f"{rule} in {percent(fits)} of rows"))
                taken.add(column.name)
                break
    return found


def _keys(frame: pl.DataFrame) -> tuple[Line, ...]:
    """Return lines for identifier, image and position, by name and content."""
    lower = {name.lower(): name for name in reversed(frame.columns)}
    lines: list[Line] = []

    def add(key: str, wanted: Sequence[str], fits: Callable[[pl.Series], object], evidence: str) -> None:
        for word in wanted:
            name = lower.get(word, "")
            is_plain = bool(name) and (frame[name].dtype.is_numeric() or frame[name].dtype == pl.String)
            if is_plain and name not in {line.column for line in lines} and fits(frame[name]):
                lines.append(Line(key, name, CERTAIN, evidence))
                return

    add("id_str", _IDENTIFIERS, lambda cells: cells.n_unique() > 0.95 * len(cells), "a different value in each row")
    if not lines:
        lines.append(Line("id_str", frame.columns[0], CONFIRM, "the first column; no name suggests an identifier"))
    add("source_id", _SOURCE_IDS, lambda _: True, "named like a survey's identifier")
    add("image", _IMAGES, _are_file_names, "file names of images")
    lines += _place(frame, lower)
    add("dataset_name", ("dataset_name",), lambda _: True, "its name")
    return tuple(lines)


def _place(frame: pl.DataFrame, lower: Mapping[str, str]) -> list[Line]:
    """Return lines for ra, dec and, if a name contains it, their unit."""
    ra, dec = (next((lower[word] for word in words if word in lower), "") for words in (_RA, _DEC))
    if not (ra and dec):
        return []
    unit = next((unit for end, unit in _UNITS_IN_NAMES.items() if ra.lower().endswith(end)), "")
    found = sky.read_positions(frame[ra], frame[dec], source="", names=(ra, dec), unit=unit, allow_bad=True)
    doubts = "; ".join(text.removeprefix(": ").rstrip(".") for text in found.warnings)
    is_clear = not found.is_bad.any() and found.is_known.any()
    evidence = doubts or "positions on the sky"
    if is_clear and not doubts:
        ends = [f"{one[found.is_known].min():.4g} to {one[found.is_known].max():.4g}" for one in (found.ra, found.dec)]
        evidence = f"positions on the sky: {' and '.join(ends)} degrees"
    lines = [Line(key, name, CERTAIN if is_clear else CONFIRM, evidence) for key, name in (("ra", ra), ("dec", dec))]
    return lines + ([Line("unit", unit, CONFIRM, "the name of the column")] if unit else [])


def _split_column(frame: pl.DataFrame) -> str:
    """Return the column that contains the split of each galaxy, or ""."""
    lower = {name.lower(): name for name in reversed(frame.columns)}
    for name in (lower[word] for word in _SPLITS if word in lower):
        if (
            frame[name].dtype == pl.String
            and set(frame[name].unique()) <= set(files.SPLITS)
            and frame[name].n_unique() > 1
        ):
            return name
    return ""


def _are_file_names(cells: pl.Series) -> bool:
    if cells.dtype != pl.String:
        return False
    name = cells.str.to_lowercase()
    is_image = pl.any_horizontal(*(name.str.ends_with(end) for end in SUFFIXES)).fill_null(False)
    return 2 * int(pl.select(is_image).to_series().sum()) > len(cells)
