"""Counting: from an export of classifications to a table of votes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from gzoo import files
from gzoo.errors import InputError, NotFoundError, OutputExistsError, TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import FloatArray
from gzoo.votes.votes import Votes
from gzoo.zooniverse import consistency
from gzoo.zooniverse.classifications import Clicks, Ingest
from gzoo.zooniverse.export_mapping import all_workflows, propose
from gzoo.zooniverse.reading import ANNOTATION_RULES, RULES, Account, Progress, read_clicks
from gzoo.zooniverse.tasks import Tasks

QUANTILES = (0.5, 0.9, 0.99)
VOLUNTEERS_FIRST_LINE = "volunteer,n_classifications,is_anonymous,seconds_per_answer,consistency,weight,rules"


@dataclass(frozen=True, slots=True)
class Source:
    """Where classifications come from.

    Attributes:
        classifications: The export, CSV or JSON lines.
        workflows: The workflow export; JSON lines need none.
        tasks: The mapping file; where None, the proposal is used if it leaves no doubt.
        weights: Whether volunteers are weighted.
    """

    classifications: Path
    workflows: Path | None = None
    tasks: Path | None = None
    weights: bool = False


@dataclass(frozen=True, slots=True)
class CountResult:
    """What `count` made.

    Attributes:
        out: The table of votes.
        n_galaxies: Its rows.
        ingest: What became of every row of the export.
    """

    out: Path
    n_galaxies: int
    ingest: Ingest


@dataclass(frozen=True)
class Read:
    """An export that was read.

    Attributes:
        clicks: The classifications that are used.
        votes: Their counts.
        weights: Of each volunteer, or None.
        bots: Who clicks like a machine.
        ingest: What became of every row.
    """

    clicks: Clicks
    votes: Votes
    weights: FloatArray | None
    bots: consistency.Bots
    ingest: Ingest

    @property
    def is_simulated(self) -> bool:
        """Whether any galaxy is."""
        return bool(self.clicks.galaxies["dataset_name"].str.ends_with(files.SIMULATED).any())


def count(
    campaign: str,
    *,
    classifications: Path | str,
    workflows: Path | str | None = None,
    out: Path | str,
    tasks: Path | str | None = None,
    weights: bool = False,
    report: Path | str | None = None,
    volunteers: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CountResult:
    """A table of votes from an export of raw classifications.

    Every row of the export is counted or stands under the rule that took it, and so is every annotation. Robots that
    are found are reported, and count: counts are of people, and who is one is for people to decide.

    Args:
        campaign: Name of the campaign.
        classifications: Classification export of Zooniverse as CSV, or one response a line as JSON.
        workflows: The workflow export, CSV or JSON; not needed for JSON lines.
        out: Parquet file to make: `id_str`, `dataset_name`, position, a count for each answer and, with `weights`,
            `{answer}_weighted_fraction` and `{question}_effective-votes`.
        tasks: Mapping file of tasks and answers (see `gzoo mapping`); may be left out where the words leave no doubt.
        weights: Whether to add weighted fractions (Willett et al. 2013; see `gzoo.zooniverse.consistency`).
        report: HTML page to write; it tells nothing of any single person.
        volunteers: CSV file to write with one row a volunteer, for the team alone: it holds names.
        overwrite: Replace earlier files.
        progress: Called as the work goes on.

    Raises:
        NotFoundError: A file or the campaign is not there.
        TableError: A file cannot be read, or no classification can be used.
        InputError: The words leave doubts and there is no mapping file.
        OutputExistsError: A file is there already.
    """
    facts = campaign_of(campaign)
    target = Path(out)
    outputs = [target, *(Path(one) for one in (report, volunteers) if one is not None)]
    for file in outputs:
        refuse_occupied(file, overwrite=overwrite)
    if len({file.absolute() for file in outputs}) < len(outputs):
        raise InputError("Two results have the same name.", "A file each.", "Choose other names.")
    source = Source(
        Path(classifications), Path(workflows) if workflows else None, Path(tasks) if tasks else None, weights
    )
    read = ingest(source, facts, progress=progress)
    write_votes(target, read)
    if report is not None:
        files.write_bytes(Path(report), page(read))
    if volunteers is not None:
        files.write_bytes(Path(volunteers), volunteers_list(read).encode())
    return CountResult(target, len(read.votes), read.ingest)


def refuse_occupied(file: Path, *, overwrite: bool) -> None:
    """Whether a single file may be written.

    Raises:
        NotFoundError: Its folder is not there.
        OutputExistsError: It is there already.
    """
    if not file.parent.is_dir():
        raise NotFoundError(f"There is no folder {file.parent}.", "A folder for the file.", "Make it first.")
    if file.is_dir() or (file.exists() and not overwrite):
        raise OutputExistsError(f"{file} is there already.", "A new name.", "Choose another, or pass --overwrite.")


def ingest(source: Source, campaign: Campaign, *, progress: Progress | None = None) -> Read:
    """The votes in an export, and what became of every row.

    Raises:
        NotFoundError: A file is not there.
        TableError: A file cannot be read, or no classification can be used.
        InputError: The words leave doubts and there is no mapping file.
    """
    known = all_workflows(source.classifications, source.workflows)
    tasks = _tasks(source, campaign)
    if not tasks.entries:
        raise TableError(
            f"{source.tasks} maps no task.", "At least one [[task]].", "Have it proposed with `gzoo mapping`."
        )
    clicks, account = read_clicks(source.classifications, known, campaign, tasks, progress)
    if progress:
        progress("judging volunteers", 0, 1)
    votes = clicks.votes()
    bots = consistency.bots(clicks)
    weights = None
    said: dict[str, float] = {}
    if source.weights:
        weights = np.where(bots.any, 0.0, consistency.consistency_weights(clicks))
        said = {
            "mean_weight": float(weights.mean()),
            "fraction_of_volunteers_at_full_weight": float((weights >= 1.0).mean()),
            "fraction_of_classifications_at_full_weight": float((weights[clicks.volunteer] >= 1.0).mean()),
        }
    if progress:
        progress("judging volunteers", 1, 1)
    return Read(clicks, votes, weights, bots, _ingest(source, campaign, clicks, votes, bots, account, said))


def _tasks(source: Source, campaign: Campaign) -> Tasks:
    if source.tasks is not None:
        return Tasks.read(source.tasks, campaign.tree)
    tasks = propose(source.classifications, source.workflows, campaign.name)
    if not tasks.is_complete:
        given = f" --workflows {source.workflows}" if source.workflows else ""
        raise InputError(
            f"What the tasks of {source.classifications} are is not beyond doubt: {'; '.join(tasks.doubts[:3])}"
            f"{' ...' if len(tasks.doubts) > 3 else ''}.",
            "A mapping file that a person has confirmed.",
            f"Have it proposed with `gzoo mapping {source.classifications} {campaign.name}{given} --out tasks.toml`, "
            "read it, and pass it with --tasks.",
        )
    return tasks


def _ingest(
    source: Source,
    campaign: Campaign,
    clicks: Clicks,
    votes: Votes,
    bots: consistency.Bots,
    account: Account,
    weights: dict[str, float],
) -> Ingest:
    n_clicks = np.bincount(clicks.volunteer, minlength=len(clicks.names))
    n_top = max(1, round(len(n_clicks) / 10))
    names = [question.name for question in campaign.tree.questions]
    contents = {
        role: {"name": path.name, "sha256": files.sha256(path)}
        for role, path in (
            ("classifications", source.classifications),
            ("workflows", source.workflows),
            ("tasks", source.tasks),
        )
        if path is not None
    }
    return Ingest(
        campaign=campaign.name,
        n_rows=account.n_rows,
        n_used=len(clicks),
        reasons=account.reasons,
        n_annotations=account.n_annotations,
        n_annotations_used=account.n_annotations_used,
        annotation_reasons=account.annotation_reasons,
        notes=dict(account.notes),
        examples=account.examples,
        n_galaxies=clicks.galaxies.height,
        n_votes_of=dict(zip(names, votes.totals.sum(axis=0).tolist(), strict=True)),
        n_galaxies_of=dict(zip(names, (votes.totals > 0).sum(axis=0).tolist(), strict=True)),
        n_volunteers=len(clicks.names),
        n_anonymous=int(clicks.is_anonymous.sum()),
        gini=round(consistency.gini(n_clicks), 4),
        fraction_of_top=round(float(np.sort(n_clicks)[-n_top:].sum() / n_clicks.sum()), 4),
        clicks_per_volunteer={str(q): int(np.quantile(n_clicks, q, method="inverted_cdf")) for q in QUANTILES},
        n_suspicious={name: int(flag.sum()) for name, flag in bots.flags.items()} | {"any": int(bots.any.sum())},
        versions=account.versions,
        weights=weights,
        files=contents,
    )


def votes_table(read: Read) -> pa.Table:
    """One row a galaxy: identifiers, position, a count for each answer, weighted fractions where there are weights."""
    clicks, tree = read.clicks, read.clicks.tree
    galaxies = clicks.galaxies
    columns: dict[str, pa.Array] = {
        name: pa.array(galaxies[name].to_list(), pa.string()) for name in ("id_str", "dataset_name")
    }
    for name, column in (("source_id", "source_id"), ("image", "filename")):
        if (galaxies[name] != "").any():
            columns[column] = pa.array(galaxies[name].to_list(), pa.string())
    columns |= {name: pa.array(galaxies[name].to_numpy(), pa.float64()) for name in ("ra", "dec")}
    for i, column in enumerate(tree.columns):
        columns[column] = pa.array(read.votes.counts[:, i], pa.int32())
    for i, question in enumerate(tree.questions):
        if question.multiple:
            columns[question.total_column] = pa.array(read.votes.totals[:, i], pa.int32())
    return pa.table(columns | _weighted(read))


def _weighted(read: Read) -> dict[str, pa.Array]:
    if read.weights is None:
        return {}
    fractions, effective = read.clicks.weighted(read.weights)
    names = [f"{column}_weighted_fraction" for column in read.clicks.tree.columns]
    names += [f"{question.name}_effective-votes" for question in read.clicks.tree.questions]
    values = np.concatenate([fractions, effective], axis=1)
    return {name: pa.array(values[:, i], pa.float32()) for i, name in enumerate(names)}


def write_votes(path: Path, read: Read) -> None:
    """The table of votes as Parquet."""
    table = votes_table(read)
    with files.write_parquet(path, table.schema) as writer:
        writer.write_table(table)


def write_weighted(path: Path, read: Read, galaxies: pl.DataFrame) -> None:
    """Weighted fractions alone, of some galaxies in their order: columns `id_str` and `dataset_name` say which."""
    names = ["id_str", "dataset_name"]
    known = {name: pa.array(read.clicks.galaxies[name].to_list(), pa.string()) for name in names}
    table = galaxies.join(pl.DataFrame(pa.table(known | _weighted(read))), on=names, how="left", maintain_order="left")
    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    with files.write_parquet(path, arrow.schema) as writer:
        writer.write_table(arrow.combine_chunks())


def page(read: Read) -> bytes:
    """The report of an ingest as an HTML page, without a word about any single person."""
    from gzoo import reports

    return reports.render(
        "ingest",
        title=f"From clicks to votes: {read.ingest.campaign}",
        ingest=read.ingest,
        is_simulated=read.is_simulated,
        max_votes=max(read.ingest.n_votes_of.values(), default=0),
        rules=RULES,
        annotation_rules=ANNOTATION_RULES,
        bot_rules=consistency.RULES,
    )


def volunteers_list(read: Read) -> str:
    """One row a volunteer as CSV; it holds names, and is for nobody but the team."""
    clicks = read.clicks
    n_clicks = np.bincount(clicks.volunteer, minlength=len(clicks.names))
    pace = clicks.seconds / (1.0 + clicks.walks.sum(axis=1)[clicks.walk])
    kappa = consistency.consistency(clicks, clicks.weighted(np.ones(len(clicks.names)))[0])
    rules = ["; ".join(name for name, flag in read.bots.flags.items() if flag[i]) for i in range(len(clicks.names))]
    frame = pl.DataFrame(
        {
            "volunteer": clicks.names,
            "n_classifications": n_clicks,
            "is_anonymous": clicks.is_anonymous,
            "seconds_per_answer": _medians(pace, clicks.volunteer, len(clicks.names)),
            "consistency": kappa,
            "weight": read.weights if read.weights is not None else np.full(len(clicks.names), np.nan),
            "rules": rules,
        }
    )
    # a name may begin with a sign that spreadsheets take for a formula
    safe = (
        pl.when(pl.col("volunteer").str.contains(r"^[=+\-@\t\r]"))
        .then("'" + pl.col("volunteer"))
        .otherwise("volunteer")
    )
    return frame.with_columns(volunteer=safe).sort("n_classifications", descending=True).write_csv(float_precision=4)


def _medians(values: FloatArray, group: npt.NDArray[np.integer], n: int) -> FloatArray:
    is_known = np.isfinite(values)
    frame = (
        pl.DataFrame({"group": group[is_known], "value": values[is_known]})
        .group_by("group")
        .agg(pl.col("value").median())
    )
    found = np.full(n, np.nan)
    found[frame["group"].to_numpy()] = frame["value"].to_numpy()
    return found
