"""Proposals of mapping files, for vote tables and for exports of classifications.

Names suggest which column is which answer, and votes confirm or contradict it: the total votes of a question equal the
votes for its parent answers. A user makes the final decision: the file lists the evidence for each line, and lines
without evidence are commented out.
"""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

from gzoo import files, zooniverse
from gzoo.errors import GZooWarning, TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.votes.column_checks import check_names_not_cumulative
from gzoo.votes.identifiers import IdentifierReader
from gzoo.votes.mapping import propose
from gzoo.votes.proposal import Proposal
from gzoo.votes.tables import ReadTable, read_rows


def mapping(
    source: Path | str,
    campaign: Path | str | Campaign,
    *,
    workflows: Path | str | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Proposal | zooniverse.Tasks:
    """Propose a mapping file for a vote table or a Zooniverse export.

    Column names are compared with the terms of the field (task numbers, `features` and `featured`, `more_than_4` and
    `5-plus`). Columns of counts are preferred to fractions, and weighted fractions are never used. Then the votes are
    checked: the total votes of a question should equal the votes for its parent answers. They decide where names are
    ambiguous, and contradictions between names and votes are reported.

    Args:
        source: Vote table, or Zooniverse classification export.
        campaign: Name of the campaign, or path of its TOML file.
        workflows: Zooniverse workflow export, if `source` is a classification export.
        out: Mapping file to write. By default nothing is written.
        overwrite: Replace an earlier mapping file.

    Returns:
        The proposal, with the evidence and confidence of each line, and what was not found.

    Raises:
        NotFoundError: A file or the campaign does not exist.
        TableError: The table cannot be read, contains cumulative fractions, or lacks columns that could contain votes.
        OutputExistsError: `out` already exists, and is not a mapping file or `overwrite` is False.
    """
    source = Path(source)
    facts = campaign_of(campaign)
    target = Path(out) if out else None
    if target:
        files.refuse_file(target, "mapping", (".toml",), overwrite=overwrite, inputs=(source, workflows))
    if workflows is not None or _is_export(source):
        proposal = zooniverse.propose(source, Path(workflows) if workflows else None, facts)
    else:
        read = read_rows(source)
        if read.frame.height == 0:
            raise TableError(f"Vote table '{source}' is empty.", "at least one galaxy.")
        check_names_not_cumulative(source, read.frame)
        proposal = propose(read.frame, facts, source)
        _warn(source, read, proposal)
    if target:
        files.write_bytes(target, proposal.to_toml().encode())
    return proposal


def _warn(source: Path, read: ReadTable, proposal: Proposal) -> None:
    """Warn of rows that cannot be read, of trees that fit equally well, and of identifiers that would be refused."""
    if read.damaged.height:
        row, reason, detail = read.damaged.row(0)
        message = f"'{source}': {read.damaged.height:,} rows cannot be read (first: row {row}, {reason}: {detail})."
        warnings.warn(message, GZooWarning, stacklevel=3)
    if proposal.alternatives:
        warnings.warn(proposal.ambiguity, GZooWarning, stacklevel=3)
    for line in proposal.keys:
        if line.name in ("id_str", "source_id"):
            try:
                reader = IdentifierReader(f"Column '{line.column}' of '{source}'")
                reader.read(read.frame[line.column])
                reader.warn()
            except TableError as error:  # another column may be chosen by hand
                warnings.warn(error.message, GZooWarning, stacklevel=3)


def _is_export(source: Path) -> bool:
    """Return whether a file is an export of classifications, judging by its header."""
    if source.suffix.lower() in (".jsonl", ".ndjson"):
        return True
    if source.suffix.lower() != ".csv" or not source.is_file():
        return False
    with source.open("rb") as file:
        header = next(csv.reader([file.readline(1 << 16).decode("utf-8", "replace")]), [])
    return {"annotations", "workflow_id"} <= set(header)
