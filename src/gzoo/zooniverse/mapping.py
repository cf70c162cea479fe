"""Proposals of mapping files: which column of a table is which answer, by the names and by the votes.

Names propose; votes confirm or contradict: as many people answer a question as gave the answers that lead to it. So a
question mapped to the wrong columns shows in the rows. A person has the last word: the file says for each line why it
stands there, and lines that nothing confirms are commented out.
"""

from __future__ import annotations

import csv
from pathlib import Path

from gzoo import files, zooniverse
from gzoo.errors import NotFoundError, OutputExistsError, TableError
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.votes.mapping import FIRST_LINE, Proposal, propose
from gzoo.votes.tables import read_rows
from gzoo.votes.votes import refuse_cumulative_names


def mapping(
    source: Path | str,
    campaign: str,
    *,
    workflows: Path | str | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Proposal | zooniverse.Tasks:
    """A mapping file for a vote table, proposed from its column names and its votes.

    Names are compared in the field's own terms (task numbers, `features` and `featured`, `more_than_4` and `5-plus`);
    columns of counts are preferred to fractions, and weighted fractions are never used. Then the votes judge: as many
    people should answer a question as gave the answers that lead to it. Where names leave a choice the votes make
    it; where they contradict the names, that is said.

    Args:
        source: A vote table, or a Zooniverse classification export.
        campaign: Name of the campaign.
        workflows: The export of the workflows, where `source` is an export of classifications.
        out: File to write; by default none.
        overwrite: Replace an earlier mapping file.

    Returns:
        The proposal, with evidence and confidence of each line, and what was not found.

    Raises:
        NotFoundError: A file or the campaign is not there.
        TableError: The table cannot be read, holds cumulative fractions, or has no column that could be votes.
        OutputExistsError: `out` is there already, and is no mapping file or `overwrite` is False.
    """
    source = Path(source)
    facts = campaign_of(campaign)
    target = Path(out) if out else None
    if target:
        _refuse_occupied(target, overwrite)
    if workflows is not None or _is_export(source):
        proposal = zooniverse.propose(source, Path(workflows) if workflows else None, campaign)
    else:
        read = read_rows(source)
        if read.frame.height == 0:
            raise TableError(f"{source} has no rows.", "At least one galaxy.", "Check the file.")
        refuse_cumulative_names(source, read.frame)
        proposal = propose(read.frame, facts, source)
    if target:
        files.write_bytes(target, proposal.to_toml().encode())
    return proposal


def _refuse_occupied(out: Path, overwrite: bool) -> None:
    if not out.parent.is_dir():
        raise NotFoundError(f"There is no folder {out.parent}.", "A folder for the file.", "Make it, or correct --out.")
    if not out.exists():
        return
    is_ours = out.is_file() and out.read_bytes()[: len(FIRST_LINE)] == FIRST_LINE.encode()
    if not is_ours:
        raise OutputExistsError(f"{out} is no mapping file of gzoo.", "A new name.", "Choose another --out.")
    if not overwrite:
        raise OutputExistsError(
            f"{out} is there already.", "A new name.", "Choose another --out, or pass --overwrite to replace it."
        )


def _is_export(source: Path) -> bool:
    """Whether a file is an export of classifications, by its header."""
    if source.suffix.lower() in (".jsonl", ".ndjson"):
        return True
    if source.suffix.lower() != ".csv" or not source.is_file():
        return False
    with source.open("rb") as file:
        header = next(csv.reader([file.readline(1 << 16).decode("utf-8", "replace")]), [])
    return {"annotations", "workflow_id"} <= set(header)


# --- names --------------------------------------------------------------------------------------------------------

# --- groups of columns --------------------------------------------------------------------------------------------


# --- the search ---------------------------------------------------------------------------------------------------


# --- the proposal -------------------------------------------------------------------------------------------------
