"""Audit of votes: whether a table or a dataset agrees with a decision tree."""

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
from gzoo.votes.mapping_file import MappingFile
from gzoo.votes.reading import read_votes
from gzoo.votes.tables import read_rows
from gzoo.votes.votes import Votes


def audit(
    table: Path | str, campaign: Path | str | Campaign | Tree | None = None, *, mapping: Path | str | None = None
) -> Audit:
    """Test votes against a decision tree and the names of their columns.

    Args:
        table: Vote table (CSV, Parquet, FITS, VOTable, ECSV) or dataset folder.
        campaign: Name of the campaign, path of its TOML file, or a tree. By default the campaign of the folder, or the
            one that the columns of the table belong to.
        mapping: Mapping file, for a table with other column names.

    Raises:
        NotFoundError: A file or the campaign does not exist.
        TableError: The table cannot be used.
        InputError: No campaign is passed, and the columns are unknown.

    >>> import gzoo, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = gzoo.simulate("gz2", n_galaxies=40, out=f"{folder}/sky", images=False, export=False)
    ...     gzoo.audit(made.votes, "gz2").is_consistent
    True
    """
    path = Path(table)
    if path.is_dir():
        return _audit_folder(path, campaign, mapping)
    if campaign is None and mapping is not None:
        raise InputError(
            f"Campaign of '{path}' is unknown.",
            "a campaign next to a mapping file.",
            f"Run `gzoo audit {path} CAMPAIGN --mapping {mapping}`.",
        )
    campaign = campaign or _recognised(path)
    if isinstance(campaign, Tree):
        facts = Campaign(campaign.name, campaign.name, "", campaign, source=campaign.name)
    else:
        facts = campaign_of(campaign)
    read = read_votes(path, facts, mapping, check_totals=False)
    votes = Votes(facts.tree, read.votes.counts, read.votes.totals, read.collected)
    dropped = dict(read.dropped["reason"].value_counts().sort("reason").iter_rows())
    names = MappingFile.read(Path(mapping)).answers if mapping else {}
    found = audit_votes(votes, read.rows["id_str"], total_mismatches=read.total_mismatches, names=names)
    return Audit(path.name, facts.name, read.n_rows, len(votes), dropped, int(votes.breaks.any(axis=1).sum()), *found)


def _recognised(path: Path) -> str:
    """Return the campaign that the columns of a table belong to."""
    names = read_rows(path).frame.columns
    fitting = {one.name: len(MappingFile.by_name(names, one).answers) for one in campaigns() if not one.members}
    best = max(fitting, key=lambda name: fitting[name])
    if not fitting[best]:
        raise InputError(
            f"Columns of '{path}' are unknown.",
            "columns such as smooth-or-featured-gz2_smooth, or a campaign and a mapping file.",
            f"Run `gzoo audit {path} CAMPAIGN --mapping MAPPING`; `gzoo mapping` proposes a mapping file.",
        )
    return best


def _audit_folder(folder: Path, campaign: Path | str | Campaign | Tree | None, mapping: Path | str | None) -> Audit:
    if mapping is not None:
        raise InputError(
            f"Mapping file '{mapping}' does not apply to dataset folder '{folder}'.", "", "Omit the mapping file."
        )
    dataset = open_dataset(folder)
    if campaign is None or isinstance(campaign, Tree):
        tree = campaign or dataset.tree
    else:
        tree = campaign_of(campaign).published_tree
    if tree.columns != dataset.tree.columns:
        raise InputError(
            f"Dataset '{folder}' has the answers of '{dataset.campaign.name}', not of '{tree.name}'.",
            "the campaign of the dataset.",
            "Omit the campaign to use that of the dataset.",
        )
    parts = [dataset.read_votes(split) for split in dataset.splits]
    ids = pl.concat([keys["id_str"] for keys, _ in parts])
    counts, totals = (np.concatenate([getattr(one, what) for _, one in parts]) for what in ("counts", "totals"))
    collected = tuple(one.name for one in tree.questions if one.name not in dataset.not_collected)
    votes = Votes(tree, counts, totals, collected)
    n_breaks = int(votes.breaks.any(axis=1).sum())
    return Audit(folder.name, tree.name, len(votes), len(votes), {}, n_breaks, *audit_votes(votes, ids))
