"""Proposals of mapping files, as data and as commented TOML."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gzoo.display import Sheet, Shown, field_values
from gzoo.votes.mapping_file import MappingFile

FIRST_LINE = "# Mapping file for gzoo"
CERTAIN, CONFIRM, UNCERTAIN = "certain", "confirm", "uncertain"


@dataclass(frozen=True, slots=True)
class Line:
    """Line of a proposal.

    Attributes:
        name: Dataset column, question (for a total) or key of the mapping file.
        column: Column of the table.
        confidence: "certain"; "confirm" (supported by the votes but not by the names, so a user should check it); or
            "uncertain" (commented out in the file).
        evidence: The reason, in words.
    """

    name: str
    column: str
    confidence: str
    evidence: str


@dataclass(frozen=True, slots=True, repr=False)
class Proposal(Shown):
    """Proposed mapping file for a vote table.

    Attributes:
        mapping: The mapping, without the uncertain lines.
        keys: Lines for identifier, image and position.
        answers: Lines for the answers for which a column was found.
        totals: Lines for the total votes on questions.
        ignored: Column of the table that is not used -> the reason.
        not_found: Answer or question of the campaign without a column -> the reason.
        consistency: Question -> fraction of rows whose total votes are the votes for the parent answers.
        campaign: Name of the campaign.
        table: File name of the table.
        part: The proposed tree, if the campaign has several; "" for all of them.
        alternatives: Other trees of the campaign that the columns fit equally well.
        split_column: Column that contains the split of each galaxy, which `gzoo build --split-column` keeps, or "".
        unusable: Sentence about votes that cannot be used and where their counts may be found, or "".
    """

    mapping: MappingFile
    keys: tuple[Line, ...]
    answers: tuple[Line, ...]
    totals: tuple[Line, ...]
    ignored: Mapping[str, str]
    not_found: Mapping[str, str]
    consistency: Mapping[str, float]
    campaign: str
    table: str
    part: str = ""
    alternatives: tuple[str, ...] = ()
    split_column: str = ""
    unusable: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the lines with their evidence as JSON values."""
        return {**field_values(self), "is_complete": self.is_complete}

    def sheet(self) -> Sheet:
        """Return the lines with their evidence."""
        lines = (*self.keys, *self.answers, *self.totals)
        return Sheet(
            f"Mapping file of {self.table} as {self.campaign}",
            {"found": self.summary, "values": self.mapping.values, "ignored": list(self.ignored)},
            ("name", "column", "", "evidence"),
            [(one.name, one.column, one.confidence, one.evidence) for one in lines],
            "The mapping file: to_toml().",
        )

    @property
    def is_complete(self) -> bool:
        """Whether every answer of the campaign (or the proposed tree) has a column, and all lines are certain."""
        lines = (*self.keys, *self.answers, *self.totals)
        return not (self.not_found or self.alternatives) and all(line.confidence == CERTAIN for line in lines)

    @property
    def summary(self) -> str:
        """The result in one or two sentences."""
        n = {kind: sum(line.confidence == kind for line in self.answers) for kind in (CERTAIN, CONFIRM, UNCERTAIN)}
        of = f"tree {self.part} of {self.campaign}" if self.part else self.campaign
        text = f"Identified {n[CERTAIN]} answers of {of} by name"
        text += f", {n[CONFIRM]} by their votes (confirm them)" if n[CONFIRM] else ""
        text += f"; {n[UNCERTAIN]} are uncertain and commented out" if n[UNCERTAIN] else ""
        text += f". Not found: {', '.join(self.not_found)}." if self.not_found else "."
        text += f" {self.ambiguity}" if self.alternatives else ""
        text += f" Column '{self.split_column}' has splits: pass --split-column." if self.split_column else ""
        return f"{text} {self.unusable}".rstrip()

    @property
    def ambiguity(self) -> str:
        """Which other trees the columns fit equally well, and what tells them apart; "" if none."""
        if not self.alternatives:
            return ""
        others = " or ".join(self.alternatives)
        return (
            f"The columns fit {others} as well as {self.part}, because questions and answers are the same: only the "
            f"origin of the votes tells them apart. If it is {others}, replace '-{self.part}' in the mapping file."
        )

    def to_toml(self) -> str:
        """Return the mapping file, with the evidence for each line."""
        lines = [
            f"{FIRST_LINE}: {_printable(self.table)} as {self.campaign}. Proposed by `gzoo mapping`.",
            "# Review it before use: votes and names disagree in lines marked CONFIRM; lines marked UNCERTAIN are",
            "# commented out, and their columns are listed under ignore.",
            "",
        ]
        lines += [_toml_line(line, line.evidence) for line in self.keys]
        if self.mapping.values == "fractions":
            lines += [
                'values = "fractions"  # count = fraction x total',
                f"tolerance = {self.mapping.tolerance}  # largest difference of a count from an integer, in votes",
            ]
        if self.split_column:
            lines.append(
                f"# Splits are in column {_quoted(self.split_column)}: keep them with `gzoo build --split-column`."
            )
        for sentence in filter(None, (self.ambiguity, self.unusable)):
            lines.append(f"# {_printable(sentence)}")
        if self.ignored:
            reasons = patterns(self.ignored, self.mapping.named)
            ignored = [f"    {_quoted(name)},  # {_printable(why)}" for name, why in reasons.items()]
            lines += ["ignore = [", *ignored, "]"]
        if self.answers:
            lines += ["", "[answers]"]
        for i, line in enumerate(self.answers):
            if i == 0 or line.evidence != self.answers[i - 1].evidence:
                lines.append(f"# {_printable(line.evidence)}:")
            lines.append(_toml_line(line))
        if self.totals:
            lines += ["", "[totals]", *(_toml_line(line, line.evidence) for line in self.totals)]
        if self.not_found:
            lines += ["", "# Not found:"]
            lines += [f"# {_printable(name)}: {_printable(why)}" for name, why in self.not_found.items()]
        return "\n".join(lines) + "\n"


def patterns(ignored: Mapping[str, str], used: Collection[str]) -> dict[str, str]:
    """Return patterns that match all ignored columns and none that is used, with the reason for each.

    Three or more columns with one ending, ignored for one reason, become one pattern.

    >>> patterns(dict.fromkeys(("a_fraction", "b_fraction", "c_fraction", "n"), "not used"), ["a"])
    {'*_fraction': 'not used (3 columns)', 'n': 'not used'}
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, why in ignored.items():
        end = re.search(r"_(?:weighted_|total-)?[A-Za-z-]+$", name)
        groups.setdefault((end[0] if end else "", why), []).append(name)
    found: dict[str, str] = {}
    for (end, why), names in groups.items():
        if end and len(names) >= 3 and not any(name.endswith(end) for name in used):
            found[f"*{glob.escape(end)}"] = f"{why} ({len(names)} columns)"
        else:
            found |= {glob.escape(name): why for name in names}
    return found


def _quoted(text: str) -> str:
    """Return text as a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _printable(text: str) -> str:
    """Return text for a comment, without line breaks and control characters."""
    return "".join(sign if sign.isprintable() else " " for sign in text)[:300]


def _toml_line(line: Line, evidence: str = "") -> str:
    key = line.name if re.fullmatch(r"[A-Za-z0-9_]+", line.name) else _quoted(line.name)
    mark = "" if line.confidence == CERTAIN else line.confidence.upper()
    comment = ": ".join(part for part in (mark, _printable(evidence)) if part)
    text = f"{key} = {_quoted(line.column)}" + (f"  # {comment}" if comment else "")
    return f"# {text}" if line.confidence == UNCERTAIN else text
