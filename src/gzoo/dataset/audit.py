"""Audit: whether the votes of a table or of a dataset obey a campaign's tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from gzoo.dataset.open import open_dataset
from gzoo.errors import InputError
from gzoo.trees.campaign import Campaign, campaigns
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import Tree
from gzoo.votes.audit import Audit, audit_votes
from gzoo.votes.columns import Columns
from gzoo.votes.tables import read_rows
from gzoo.votes.votes import Votes, read_votes


def audit(table: Path | str, campaign: str | Tree | None = None, *, columns: Path | str | None = None) -> Audit:
    """What the votes of a table or dataset say of a tree, and of the names of the columns.

    Args:
        table: Vote table (CSV, Parquet, FITS, VOTable, ECSV) or dataset folder.
        campaign: Name of the campaign, or a tree; by default the folder's own, or the one whose columns the table
            has.
        columns: Mapping file, for a table with column names of its own.

    Raises:
        NotFoundError: A file or the campaign is not there.
        TableError: The table cannot be used.
        InputError: No campaign is given, and the columns are no campaign's.

    >>> import gzoo, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = gzoo.simulate("gz2", n_galaxies=40, out=f"{folder}/sky", images=False, export=False)
    ...     gzoo.audit(made.votes, "gz2").is_valid
    True
    """
    path = Path(table)
    if path.is_dir():
        return _of_folder(path, campaign, columns)
    if columns is None and campaign is None:
        campaign = _recognised(path)
    if campaign is None:
        raise InputError(f"Which campaign are the votes in {path} of?", "Its name.", f"gzoo audit {path} CAMPAIGN")
    name = campaign.name if isinstance(campaign, Tree) else campaign
    facts = _campaign_of_tree(campaign) if isinstance(campaign, Tree) else campaign_of(campaign)
    read = read_votes(path, facts, columns, is_summed=False)
    tree = campaign if isinstance(campaign, Tree) else facts.tree
    votes = Votes(tree, read.votes.counts, read.votes.totals, read.collected)
    reasons = dict(read.dropped["reason"].value_counts().sort("reason").iter_rows())
    names = Columns.read(Path(columns)).answers if columns else {}
    judgements, silent = audit_votes(votes, read.rows["id_str"], unsummed=read.unsummed, names=names)
    return Audit(
        path.name, name, read.n_rows, len(votes), reasons, int(votes.breaks.any(axis=1).sum()), judgements, silent
    )


def _campaign_of_tree(tree: Tree) -> Campaign:
    """The campaign whose questions and answers a tree has, whatever leads to them."""
    for one in campaigns():
        if one.tree.columns == tree.columns:
            return one
    raise InputError(
        f"Tree '{tree.name}' has the answers of no campaign.",
        "The questions and answers of one campaign, with gates of one's own.",
        "Begin with gzoo.tree(NAME).",
    )


def _recognised(path: Path) -> str:
    """The campaign whose columns a table has."""
    names = read_rows(path).frame.columns
    fitting = {one.name: len(Columns.by_name(names, one).answers) for one in campaigns() if not one.members}
    best = max(fitting, key=lambda name: fitting[name])
    if not fitting[best]:
        raise InputError(
            f"The columns of {path} are no campaign's.",
            "Columns such as smooth-or-featured-gz2_smooth, or the name of a campaign and a mapping file.",
            f"Type `gzoo audit {path} CAMPAIGN --columns MAPPING`; `gzoo mapping` proposes the mapping.",
        )
    return best


def _of_folder(folder: Path, campaign: str | Tree | None, columns: Path | str | None) -> Audit:
    if columns is not None:
        raise InputError(f"{folder} is a dataset folder, whose columns need no mapping.", "A table.", "Leave it out.")
    dataset = open_dataset(folder)
    tree = (
        campaign if isinstance(campaign, Tree) else campaign_of(campaign).published_tree if campaign else dataset.tree
    )
    if tree.columns != dataset.tree.columns:
        raise InputError(
            f"{folder} has the answers of {dataset.campaign.name}, not those of {tree.name}.",
            f"{dataset.campaign.name}.",
            "Leave the campaign out.",
        )
    parts = [dataset.read_votes(split) for split in dataset.splits]
    ids = pl.concat([keys["id_str"] for keys, _ in parts])
    counts, totals = (np.concatenate([getattr(one, what) for _, one in parts]) for what in ("counts", "totals"))
    collected = tuple(one.name for one in tree.questions if one.name not in dataset.not_collected)
    votes = Votes(tree, counts, totals, collected)
    judgements, silent = audit_votes(votes, ids)
    n = len(votes)
    return Audit(folder.name, tree.name, n, n, {}, int(votes.breaks.any(axis=1).sum()), judgements, silent)
