"""The commands: each a thin skin over the function of the same name."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from gzoo import __version__
from gzoo.errors import GZooError, GZooWarning

if TYPE_CHECKING:
    import polars as pl

    from gzoo.dataset.check import CheckResult
    from gzoo.scoring.intervals import Value
    from gzoo.scoring.scores import Score
    from gzoo.zooniverse.classifications import Ingest

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Crowd-labelled galaxy images as datasets, models and catalogues that scientists can trust.",
    epilog="Start with: gzoo demo",
)
console = Console(stderr=True)  # stdout is for what another program may read

Campaign = Annotated[str, typer.Argument(help="Name of a campaign; see `gzoo campaigns`.", show_default=False)]
Folder = Annotated[
    Path, typer.Argument(help="A dataset folder, or a name on the Hub; see `gzoo access`.", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", help="What to make; it must not be there yet.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]
Columns = Annotated[
    Path | None, typer.Option("--columns", help="Mapping file (TOML), for a table with column names of its own.")
]
Workflows = Annotated[
    Path | None, typer.Option("--workflows", help="Zooniverse workflow export, CSV or JSON, beside --classifications.")
]
Tasks = Annotated[Path | None, typer.Option("--tasks", help="Mapping file of an export; see `gzoo mapping`.")]
Weights = Annotated[bool, typer.Option("--weights", help="Add weighted fractions (Willett et al. 2013).")]
IngestReport = Annotated[
    Path | None, typer.Option("--report", help="HTML page of every row's fate to write; it names no person.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Report = Callable[[str, int, int], None]


def main() -> None:
    """Run a command; a deliberate error becomes one message and exit code 1, or the one that GUIDE.md lists."""
    _print_notices()
    try:
        app(standalone_mode=True)
    except GZooError as error:
        console.print("[bold red]Error:[/] ", end="")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C
            console.print("Stopped. The same command goes on where this one was.")
        raise
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        console.print("[bold red]Error:[/] ", end="")
        console.print(f"{error.strerror or error}:{where}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gzoo {__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    pass


def _print_notices() -> None:
    """Print what gzoo wants known in a line of its own, without the place in the code that others' warnings show."""
    show = warnings.showwarning
    warnings.simplefilter("always", GZooWarning)

    def say(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, GZooWarning):
            _say(f"Mind: {message}")
        else:
            show(message, category, *place, **more)

    warnings.showwarning = say


@contextmanager
def _progress() -> Generator[Report]:
    """A bar for each stage that reports."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def say(stage: str, done: int, total: int) -> None:
            name = stage.partition(" (")[0]
            if name not in tasks:
                tasks[name] = bars.add_task(stage, total=total)
            bars.update(tasks[name], description=stage, completed=done, total=total)

        yield say


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def campaigns() -> None:
    """List the campaigns that gzoo knows."""
    from gzoo.trees.campaign import campaigns as all_campaigns

    rows = [("name", "campaign", "questions", "published", "on the Hub", "gated")]
    for one in all_campaigns():
        n, n_carried = len(one.tree.questions), len(one.published_tree.questions)
        rows.append((one.name, one.title, str(n), str(n_carried), one.hub.repository or "-", one.hub.gated))
    _print_columns(rows)
    print("\nOne campaign's questions: gzoo tree NAME")


@app.command()
def tree(
    name: Campaign,
    format: Annotated[str, typer.Option("--format", help="text, mermaid or json.")] = "text",
) -> None:
    """Show a campaign's decision tree."""
    from gzoo.errors import InputError
    from gzoo.trees.campaign import campaign

    facts = campaign(name)
    if format == "text":
        print(facts.tree.to_text())
        print()
        for source in facts.tree_sources:
            print(f"Source of {source.name} [{source.grade}]: {source.source}")
        for decision in facts.decisions:
            print(f"Decision{' on ' + decision.question if decision.question else ''}: {decision.decision}")
    elif format == "mermaid":
        print(facts.tree.to_mermaid())
    elif format == "json":
        print(facts.tree.to_json())
    else:
        raise InputError(f"There is no format '{format}'.", "text, mermaid or json.", "Choose one.")


@app.command()
def cite(
    names: Annotated[list[str], typer.Argument(help="Campaigns; gzoo for the software.", show_default=False)],
    format: Annotated[str, typer.Option("--format", help="bibtex or text.")] = "bibtex",
) -> None:
    """Print what to cite for campaigns: their papers, surveys and datasets."""
    from gzoo.trees.cite import SOFTWARE
    from gzoo.trees.cite import cite as run

    print(run(*names, format=format))
    if SOFTWARE not in names:
        _say(f"gzoo itself is cited with `gzoo cite {SOFTWARE}`.")


@app.command()
def access(
    name: Annotated[str, typer.Argument(help="A campaign's name, or owner/name on the Hub.", show_default=False)],
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit; else main.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a dataset on the Hub may be read, and which copy is here. Exit codes: see GUIDE.md."""
    from gzoo.hub import access as run

    found = run(name, revision=revision)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        print(f"{found.state}: {found.says}")
    raise typer.Exit(found.exit_code)


@app.command()
def simulate(
    campaign: Campaign,
    out: Out,
    n_galaxies: Annotated[int, typer.Option("--n-galaxies", help="Galaxies.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="The same one gives the same files.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 1,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Take images.")] = True,
    export: Annotated[bool, typer.Option("--export/--no-export", help="Write classifications.csv.")] = True,
    galaxies_from: Annotated[
        Path | None, typer.Option("--galaxies-from", help="Show the galaxies of that simulation again.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw galaxies, their images and the clicks of volunteers, with the truth known."""
    from gzoo.simulator import simulate as run

    with _progress() as say:
        made = run(
            campaign,
            n_galaxies=n_galaxies,
            seed=seed,
            workers=workers,
            out=out,
            images=images,
            export=export,
            galaxies_from=galaxies_from,
            overwrite=overwrite,
            progress=lambda done, total: say("simulating", done, total),
        )
    _say(f"Made {made.folder}: {made.n_galaxies:,} simulated galaxies, {made.n_classifications:,} classifications.")
    for path, what in (
        (made.images, "what volunteers saw"),
        (made.classifications, "every click, as Zooniverse exports them; workflows.csv says what was asked"),
        (made.votes, "counts per galaxy and answer"),
        (made.truth, "the galaxies' parameters and the true chance of each answer"),
        (made.volunteers, "who clicked, how carefully, and which of them are robots"),
    ):
        if path.exists():
            _say(f"  {path.name:<20}{what}")
    if images:
        dataset = made.folder.with_name("dataset")
        _say(f"Next: gzoo build {campaign} --votes {made.votes} --images {made.images} --out {dataset}")


@app.command()
def mapping(
    source: Annotated[
        Path, typer.Argument(help="A vote table, or a Zooniverse classification export.", show_default=False)
    ],
    campaign: Campaign,
    workflows: Annotated[
        Path | None, typer.Option("--workflows", help="The workflow export, beside a classification export.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Mapping file to write; by default it is printed.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Propose which column of a table is which answer."""
    from gzoo.zooniverse.mapping import mapping as run

    made = run(source, campaign, workflows=workflows, out=out, overwrite=overwrite)
    if not out:
        print(made.to_toml(), end="")
        return
    _say(f"Made {out}. {made.summary}")
    _say("Read it: each line says why it stands there. Then use it with --columns.")


@app.command()
def audit(
    table: Annotated[Path, typer.Argument(help="A vote table, or a dataset folder.", show_default=False)],
    campaign: Annotated[
        str | None, typer.Argument(help="Name of the campaign; by default told from the columns.", show_default=False)
    ] = None,
    columns: Columns = None,
    as_json: AsJson = False,
) -> None:
    """Say whether votes obey the tree, and which columns look misnamed. Exit code 1: something speaks against them."""
    from gzoo.dataset.audit import audit as run

    found = run(table, campaign, columns=columns)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        raise typer.Exit(0 if found.is_valid else 1)
    _say(f"{table}: {found.n_rows:,} rows, {found.n_used:,} used, judged as {found.tree}.")
    for reason, n in found.n_dropped.items():
        _say(f"  {n:,} not used: {reason}")
    marks = {"holds": "ok", "unknown": "?", "poor": "!", "contradicted": "!!"}
    rows = [("", "question", "rows judged", "gate holds", "rows breaking it", "such as")]
    for one in found.judgements:
        fraction = f"{one.fraction:.4f}" if one.n_judged else "-"
        such = ", ".join(f"{name}: {asked} asked, {led} led" for name, asked, led in one.rows[:1])
        rows.append((marks[one.verdict], one.question, f"{one.n_judged:,}", fraction, f"{one.n_breaking:,}", such))
    _print_columns(rows)
    for one in found.judgements:
        if one.is_doubtful or one.n_unsummed:
            print(f"\n{one.question}: {one.says}")
    if found.not_collected:
        print(f"\nNo votes at all: {', '.join(found.not_collected)}.")
    print("\nNothing speaks against the tree." if found.is_valid else "\nLook at the questions above before you go on.")
    raise typer.Exit(0 if found.is_valid else 1)


@app.command()
def count(
    campaign: Campaign,
    classifications: Annotated[
        Path,
        typer.Option(
            "--classifications", help="Zooniverse classification export, CSV or JSON lines.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Table of votes to make (Parquet).", show_default=False)],
    workflows: Workflows = None,
    tasks: Tasks = None,
    weights: Weights = False,
    report: IngestReport = None,
    volunteers: Annotated[
        Path | None, typer.Option("--volunteers", help="CSV to write with one row a volunteer. Never publish it.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Count the votes in an export of raw classifications, every row accounted for."""
    from gzoo.zooniverse import count as run

    with _progress() as say:
        made = run(
            campaign,
            classifications=classifications,
            workflows=workflows,
            out=out,
            tasks=tasks,
            weights=weights,
            report=report,
            volunteers=volunteers,
            overwrite=overwrite,
            progress=say,
        )
    if as_json:
        print(json.dumps(made.ingest.to_dict(), indent=2, ensure_ascii=False))
    _say(f"Made {made.out}: {made.n_galaxies:,} galaxies.")
    _say_ingest(made.ingest)
    if report:
        _say(f"Made {report}, to look at.")
    if volunteers:
        _say(f"Made {volunteers}: it holds names. Never publish it.")
    _say(f"Next: gzoo audit {made.out} {campaign}")


def _say_ingest(made: Ingest) -> None:
    _say(f"Of {made.n_rows:,} rows {made.n_used:,} are counted.")
    for reason, n in made.reasons.items():
        row, detail = (*made.examples.get(reason, ()), (0, ""))[0]
        where = f" (first: row {row:,}{': ' + detail if detail else ''})" if row else ""
        _say(f"  {n:>9,}  {reason}{where}")
    _say(f"Of {made.n_annotations:,} annotations {made.n_annotations_used:,} are votes.")
    for reason, n in made.annotation_reasons.items():
        _say(f"  {n:>9,}  {reason}")
    for note, n in made.notes.items():
        _say(f"Met, at no cost: {note} ({n:,}).")
    suspicious = made.n_suspicious.get("any", 0)
    _say(
        f"{made.n_volunteers:,} volunteers; the busiest tenth did {made.fraction_of_top:.0%}. "
        + (
            f"{suspicious:,} of them click like machines; their votes are counted."
            if suspicious
            else "None suspicious."
        )
    )


@app.command()
def build(
    campaign: Campaign,
    out: Out,
    votes: Annotated[
        Path | None, typer.Option("--votes", help="Vote table: CSV, Parquet, FITS, VOTable or ECSV.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", help="Folder, .tar or .zip of JPEG, PNG or FITS images; may be given again."),
    ] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Votes alone, without images.")] = False,
    columns: Columns = None,
    classifications: Annotated[
        Path | None, typer.Option("--classifications", help="Zooniverse classification export, in place of --votes.")
    ] = None,
    workflows: Workflows = None,
    tasks: Tasks = None,
    weights: Weights = False,
    report: IngestReport = None,
    split_column: Annotated[
        str | None, typer.Option("--split-column", help="Column of the table that names each galaxy's split.")
    ] = None,
    splits: Annotated[
        str | None, typer.Option("--splits", help="train,test: a layout without validation, which joins train.")
    ] = None,
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="Check only the headers of images; do not decode them.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes that write shards.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask scheduler whose workers write shards.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a dataset folder from votes or raw classifications, and images."""
    # before polars and pyarrow are loaded: what they no longer need goes back to the system, or is used again
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from gzoo.dataset.build import build as run

    with _progress() as say:
        made = run(
            campaign,
            votes=votes,
            images=images,
            out=out,
            no_images=no_images,
            columns=columns,
            classifications=classifications,
            workflows=workflows,
            tasks=tasks,
            weights=weights,
            report=report,
            split_column=split_column,
            splits=splits,
            headers_only=headers_only,
            workers=workers,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=say,
        )
    if made.ingest:
        _say_ingest(made.ingest)
    if report:
        _say(f"Made {report}, to look at.")
    parts = ", ".join(f"{split} {n:,}" for split, n in made.n_galaxies.items())
    _say(f"Made {made.folder}: {sum(made.n_galaxies.values()):,} galaxies ({parts}).")
    if made.n_dropped:
        lost = "; ".join(f"{reason} ({n:,})" for reason, n in made.n_dropped.items())
        _say(f"Left out, each with its reason in {made.folder / 'dropped.parquet'}: {lost}.")
    if made.n_split_by_id:
        _say(f"{made.n_split_by_id:,} galaxies have no known position: a hash of their identifier decides their split.")
    if made.n_breaks:
        _say(f"{made.n_breaks:,} rows have more votes on some question than on the answers that lead to it (kept).")
    for question, says in made.doubts.items():
        _say(f"Look at {question}: {says}")
    if made.excluded:
        _say(f"Columns of the table that play no part: {len(made.excluded)}, listed in manifest.json.")
    _say(f"Next: gzoo train {made.folder} --out {made.folder.with_name('run')}")


@app.command()
def union(
    campaign: Campaign,
    folders: Annotated[
        list[Path],
        typer.Argument(help="Dataset folders: gzoo's, or copies of published ones.", show_default=False),
    ],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Make one dataset folder of several, with the columns of all campaigns of a union such as gz_evo."""
    from gzoo.dataset.merge import union as run

    with _progress() as say:
        made = run(campaign, folders, out=out, overwrite=overwrite, progress=say)
    parts = ", ".join(f"{split} {n:,}" for split, n in made.n_galaxies.items())
    _say(f"Made {made.folder}: {sum(made.n_galaxies.values()):,} rows ({parts}).")
    _say(f"Of these: {', '.join(f'{name} {n:,}' for name, n in made.n_of.items())}.")
    same = made.folder / "crossmatch.parquet"
    _say(f"{made.n_shared:,} galaxies are in several datasets, {made.n_repeated:,} several times in one; see {same}.")
    if made.n_across:
        _say(f"Mind: {made.n_across:,} pairs of rows of one galaxy are on two sides of the split. See `gzoo leaks`.")
    if made.n_dropped:
        lost = "; ".join(f"{reason} ({n:,})" for reason, n in made.n_dropped.items())
        _say(f"The datasets left out of their sources, as {made.folder / 'dropped.parquet'} repeats: {lost}.")
    _say(f"Next: gzoo leaks {made.folder}")


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(help="A dataset folder: gzoo's, or a copy of a published one.", show_default=False)
    ],
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="Check only the headers of images; do not decode them.")
    ] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Also write a page to look at.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Verify every checksum, column, row, split, image and the card. Exit code 1: something is wrong."""
    from gzoo.dataset.check import check as run

    seconds: dict[str, float] = {}
    began = now = time.monotonic()
    with _progress() as say:

        def measure(stage: str, done: int, total: int) -> None:
            nonlocal now
            before, now = now, time.monotonic()  # what was done since the last word of any stage was for this one
            seconds[stage] = seconds.get(stage, 0.0) + now - before
            say(stage, done, total)

        found = run(folder, headers_only=headers_only, report=report, overwrite=overwrite, progress=measure)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        raise typer.Exit(0 if found.is_valid else 1)
    _print_checks(found, seconds)
    for one in found.findings:
        print(f"\n{one.check}: {one}.\n  Expected: {one.expected}")
    if report:
        _say(f"Made {report}. Open it in a browser.")
    n, parts = sum(found.n_galaxies.values()), ", ".join(f"{split} {n:,}" for split, n in found.n_galaxies.items())
    rows = f"{n:,} galaxies ({parts}), {time.monotonic() - began:.1f} s"
    if found.is_valid:
        print(f"\nNothing is wrong with {folder}: {rows}." if n else f"\nNothing is wrong with {folder}.")
        raise typer.Exit(0)
    failed = ", ".join(one.name for one in found.checks if one.verdict == "failed")
    print(f"\nNot sound: {failed}. Do not use or publish {folder} as it is; copy or build it again. ({rows})")
    raise typer.Exit(1)


def _print_checks(found: CheckResult, seconds: Mapping[str, float]) -> None:
    table = Table(
        "check", "", Column("looked at", justify="right"), Column("s", justify="right"), "what holds, or why not"
    )
    looks = {"passed": "green", "failed": "bold red", "not checked": "yellow"}
    stage = ""
    for one in found.checks:
        if stage and one.stage != stage:
            table.add_section()
        spent = f"{seconds[one.stage]:.1f}" if one.stage != stage and one.stage in seconds else ""  # of the whole stage
        stage = one.stage
        note = f" ({one.note})" if one.note else ""
        says = one.note if one.verdict == "not checked" else f"{one.says}{note}"
        looked = f"{one.n:,} {one.unit}" if one.n else ""
        table.add_row(one.name, Text(one.verdict, looks[one.verdict]), looked, spent, Text(says))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@app.command()
def leaks(
    folders: Annotated[
        list[Path], typer.Argument(help="Dataset folders: gzoo's, or copies of published ones.", show_default=False)
    ],
    radius_arcsec: Annotated[float, typer.Option("--radius-arcsec", help="Positions this near are one galaxy.")] = 2.0,
    image_arcsec: Annotated[
        float | None,
        typer.Option("--image-arcsec", help="Side of the images; by default what the survey's facts promise."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Table of all pairs to write, .parquet or .csv.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find galaxies that are on two sides of the split, in any datasets. Exit code 1: there are some."""
    from gzoo.dataset.leakage import leaks as run

    found = run(folders, radius_arcsec=radius_arcsec, image_arcsec=image_arcsec, out=out, overwrite=overwrite)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        raise typer.Exit(0 if found.is_clean else 1)
    for folder, n, n_without in zip(found.folders, found.n_galaxies, found.n_without_position, strict=True):
        parts = ", ".join(f"{split} {one:,}" for split, one in n.items())
        only = f"; {n_without:,} without a position, compared by identifier only" if n_without else ""
        _say(f"{folder}: {sum(n.values()):,} galaxies ({parts}){only}.")
    if not found.is_clean:
        print("The same galaxy on two sides, worst first:")
        _print_pairs(found.pairs)
    if found.overlaps.height:
        print("Neighbours on two sides whose images overlap, nearest first:")
        _print_pairs(found.overlaps)
    unknown = [f"{name} in {folder}" for folder, name in found.not_judged]
    if unknown:
        _say(f"Overlapping images of neighbours were not looked for in {', '.join(unknown)}:")
        _say("  how much sky those images show is not known. Say it with --image-arcsec.")
    if out:
        _say(f"Made {out}.")
    counts = ", ".join(f"{sides} {n:,}" for sides, n in found.n_pairs_by_splits.items() if n)
    print("No galaxy is on two sides." if found.is_clean else f"Pairs on two sides: {found.pairs.height:,} ({counts}).")
    if found.overlaps.height:
        print(f"Pairs of overlapping images: {found.overlaps.height:,}. They are not counted as leaks.")
    raise typer.Exit(0 if found.is_clean else 1)


def _print_pairs(pairs: pl.DataFrame, most: int = 20) -> None:
    rows: list[tuple[str, ...]] = [("splits", "arcsec", "one", "other", "matched by")]
    for pair in pairs.head(most).iter_rows(named=True):
        apart = "-" if pair["separation_arcsec"] is None else f"{pair['separation_arcsec']:.2f}"
        ends = (
            f"{pair[f'{end}dataset_name']} {pair[f'{end}id_str']} in {pair[f'{end}folder']}" for end in ("", "other_")
        )
        names = ("".join(one if one.isprintable() else "?" for one in end) for end in ends)
        rows.append((f"{pair['split']}, {pair['other_split']}", apart, *names, pair["matched_by"]))
    _print_columns([("", *row) for row in rows])
    if pairs.height > most:
        print(f"  and {pairs.height - most:,} more; --out writes all of them")


@app.command()
def train(
    folder: Folder,
    out: Out,
    encoder: Annotated[str, typer.Option("--encoder", help="Name of a timm model.")] = "resnet18",
    size: Annotated[int, typer.Option("--size", help="Pixels a side that the model sees.")] = 128,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Start from published weights.")] = False,
    epochs: Annotated[int, typer.Option("--epochs", help="At most this many.")] = 30,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Galaxies in a step.")] = 32,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="The largest.")] = None,
    augment: Annotated[str, typer.Option("--augment", help="A preset; `gzoo augmentations` draws them.")] = "average",
    seed: Annotated[int, typer.Option("--seed")] = 0,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder for decoded images, up to 50 GB.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a model on a dataset's votes."""
    _say("Loading torch ...")
    from gzoo.learn.training import train as run

    with _progress() as say:
        made = run(
            folder,
            out=out,
            encoder=encoder,
            size=size,
            pretrained=pretrained,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            augment=augment,
            seed=seed,
            cache=cache,
            overwrite=overwrite,
            progress=say,
        )
    _say(
        f"Made {made.run}: trained on {made.n_train:,} galaxies for {made.n_epochs} epochs, best {made.best_epoch}. "
        f"Validation loss {made.best_loss:.3f} nats per galaxy on {made.n_validation:,} galaxies; knowing only the "
        f"training votes gives {made.baseline_loss:.3f}."
    )
    _say(f"Next: gzoo predict {made.run} {folder} --split test --out {made.run.with_name('predictions.parquet')}")


@app.command()
def augmentations(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.")] = Path("augmentations.png"),
    augment: Annotated[
        str | None, typer.Option("--augment", help="train, test, average or galaxy-datasets; by default all.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Whose first galaxies are shown.")] = "train",
    n_galaxies: Annotated[int, typer.Option("--n-galaxies", help="Galaxies.")] = 6,
    size: Annotated[int, typer.Option("--size", help="Pixels a side that a model would see.")] = 128,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw what augmentation makes of some galaxies."""
    from gzoo.learn.contact_sheet import augmentations as run

    made = run(
        folder, out=out, augment=augment, split=split, n_galaxies=n_galaxies, size=size, seed=seed, overwrite=overwrite
    )
    _say(f"Made {made}: a galaxy a row, as stored and as a model would see it at {size} pixels.")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, made by `gzoo train`.", show_default=False)],
    folder: Folder,
    out: Out,
    split: Annotated[str, typer.Option("--split", help="Which split of the dataset.")] = "test",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at once.")] = 64,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate/--raw", help="As sure as the validation split allows, or as it comes.")
    ] = True,
    views: Annotated[int, typer.Option("--views", help="Orientations to average over, up to 8.")] = 1,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder for decoded images, up to 50 GB.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict what volunteers would say of each galaxy."""
    _say("Loading torch ...")
    from gzoo.learn.prediction import predict as go

    with _progress() as say:
        made = go(
            run,
            folder,
            split=split,
            out=out,
            batch_size=batch_size,
            recalibrate=recalibrate,
            views=views,
            cache=cache,
            overwrite=overwrite,
            progress=say,
        )
    _say(f"Made {made.path}: predictions for {made.n_galaxies:,} galaxies.")
    if made.n_trained_on:
        _say(f"{made.n_trained_on:,} of them were seen in training; `gzoo score` refuses them.")
    _say(f"Next: gzoo score {made.path} {folder}")


@app.command()
def recalibrate(
    predictions: Annotated[Path, typer.Argument(help="Predictions, by gzoo or anyone else.", show_default=False)],
    folder: Folder,
    validation: Annotated[
        Path, typer.Option("--validation", help="Predictions of the same model for held-out galaxies.")
    ],
    out: Out,
    columns: Columns = None,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Make predictions as sure as they should be, by the votes on held-out galaxies.

    For predictions from elsewhere, and for runs from before `gzoo train` did it by itself.
    """
    from gzoo.scoring.recalibration import recalibrate as run

    made = run(predictions, folder, validation=validation, out=out, columns=columns, overwrite=overwrite)
    if as_json:
        print(json.dumps(made.recalibration.to_dict(), indent=2, allow_nan=False))
    else:
        scale = "factor" if made.recalibration.kind == "concentrations" else "concentration"
        rows: list[tuple[str, ...]] = [("question", "fitted on", scale, "temperature", "gain")]
        for name, one in made.recalibration.questions.items():
            numbers = (f"{one.n_galaxies:,}", f"{one.factor:.3g}", f"{one.temperature:.3f}", f"{one.gain:.4f}")
            rows.append((name, *numbers))
        _print_columns(rows)
        _say(
            "Factor: on the total concentration, below 1 where the model was too sure."
            if scale == "factor"
            else "Concentration: given to shares, which stated none."
        )
        _say("Gain: in log score, nats per galaxy, on the galaxies that it was fitted on.")
    _say(f"Made {made.path}: {made.n_galaxies:,} galaxies, by the votes of {made.n_fitted:,} held-out ones.")


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Argument(help="Concentrations or fractions: Parquet, CSV or FITS.", show_default=False)
    ],
    folder: Folder,
    as_json: AsJson = False,
    include_trained_on: Annotated[
        bool, typer.Option("--include-trained-on", help="Score galaxies seen in training too, and count them.")
    ] = False,
    columns: Columns = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Column to cut the galaxies by, scored apart; may be given again."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="More columns for --slice, such as redshift, by id_str.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Score classes instead: summary, or a column of the dataset.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Score as a paper did instead: gz-evo or decals-confident.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Also write a page to look at.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score predictions against votes, with intervals."""
    from gzoo.scoring.scores import refuse_both
    from gzoo.scoring.scores import score as run

    if label or protocol:
        others = {"--report": report, "--slice": slices, "--table": table, "--columns": columns}
        refuse_both({"--label": label, "--protocol": protocol, **others})
        _print_otherwise(predictions, folder, label, protocol, include_trained_on, as_json)
        return
    found = run(
        predictions,
        folder,
        columns=columns,
        slices=slices,
        table=table,
        include_trained_on=include_trained_on,
        report=report,
        overwrite=overwrite,
    )
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    rows = [
        (
            "question",
            "asked",
            "effective",
            "log score",
            "log_likelihood_gain",
            "error",
            "noise floor",
            "noise-corrected error",
        )
    ]
    rows += [_scored(name, one) for name, one in found["questions"].items() if one["n_asked"]]
    rows += [_scored(name, one) for name, one in found["campaigns"].items()]
    rows.append(_scored("overall", found["overall"]))
    _print_columns(rows)
    silent = [name for name, one in found["questions"].items() if not one["n_asked"]]
    if silent:
        print(f"no votes: {', '.join(silent)}")
    if found["questions_missing"]:
        print(f"not predicted: {', '.join(found['questions_missing'])}")
    balanced = found["balanced"]
    print(
        f"balanced over {balanced['n_questions']} questions: skill {_shown(balanced['log_likelihood_gain'])}, "
        f"noise-corrected error {_shown(balanced['rmse_noise_corrected'])}"
    )
    if len(found["slices"]) > 1:
        print("\nSlices, largest noise-corrected error first:")
        _print_columns(
            [rows[0], *(_scored(f"{one['column']}: {one['range']}", one["score"]) for one in found["slices"])]
        )
    if found["calibration"]:
        print("\nCalibration:")
        told = [(name, one) for name, one in found["calibration"]["questions"].items() if one["n_used"]]
        _print_columns([(name, one["sentence"]) for name, one in told] or [("no question has votes", "")])
    arcmin = found["drawn"]["cell_arcmin"]
    wide = f" of {arcmin:.0f} arcmin" if arcmin else ""
    _say(
        "Log scores in nats per galaxy asked, higher is better; skill = model - baseline that knows only the training "
        "votes; error: root mean square of fractions; noise floor: what the votes' own noise makes of it. In brackets: "
        f"95 % intervals, by drawing {found['drawn']['n']:,} {found['drawn']['kind']}{wide} anew; none below 10. "
        "Overall, a question weighs as often as it was asked; balanced, by the square root of that."
    )
    impossible = found["overall"]["n_zero_probability"]
    if impossible:
        _say(
            f"Mind: {impossible:,} galaxies have votes for an answer that was given a fraction of 0; no log score can "
            "be told where there are such."
        )
    if found["n_trained_on"]:
        _say(f"Mind: the model was trained on {found['n_trained_on']:,} of these galaxies.")
    if report:
        _say(f"Made {report}. Open it in a browser.")


def _scored(name: str, one: Score) -> tuple[str, ...]:
    """A line of the table of scores."""
    effective = "-" if one["n_effective"] is None else f"{one['n_effective']:,.0f}"
    corrected = _shown(one["rmse_noise_corrected"])
    high = one["rmse_noise_corrected"]["high"]
    if one["exceeds_noise"] is False and high is not None:
        corrected = f"0 to {high:.3f} (not distinguishable from 0)"
    shown = (
        _shown(one["log_likelihood"]),
        _shown(one["log_likelihood_gain"]),
        _shown(one["rmse"]),
        _shown(one["noise_floor"], False),
    )
    return (name, f"{one['n_asked']:,}", effective, *shown, corrected)


def _shown(value: Value, has_ends: bool = True) -> str:
    if value["value"] is None:
        return "-"
    ends = f" [{value['low']:.3f}, {value['high']:.3f}]" if has_ends and value["low"] is not None else ""
    return f"{value['value']:.3f}{ends}"


def _print_otherwise(
    predictions: Path, folder: Path, label: str | None, protocol: str | None, include_trained_on: bool, as_json: bool
) -> None:
    """Scores by label or by a published protocol."""
    from gzoo.scoring import classify, published

    def text(value: Value, digits: int = 4) -> str:
        if value["value"] is None:
            return "-"
        ends = "" if value["low"] is None else f" [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
        return f"{value['value']:.{digits}f}{ends}"

    if label:
        found = classify(predictions, folder, label=label, include_trained_on=include_trained_on)
    else:
        found = published(predictions, folder, protocol=str(protocol), include_trained_on=include_trained_on)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    if "confusion" in found:
        rows = [
            ("accuracy", text(found["accuracy"])),
            ("always the commonest class", text(found["majority_class_accuracy"])),
            ("balanced accuracy", text(found["balanced_accuracy"])),
            ("cross-entropy (nats)", text(found["cross_entropy"])),
            ("class frequencies' cross-entropy", text(found["cross_entropy_of_frequencies"])),
        ]
        _print_columns(rows)
        called = list(found["confusion"][found["classes"][0]])
        counts = [(one, *(str(cell["n"]) for cell in row.values())) for one, row in found["confusion"].items()]
        print()
        _print_columns([("is \\ called", *(one or "no class" for one in called)), *counts])
        _say(
            f"{found['label']} of {found['n_galaxies']:,} galaxies, from {found['derived_from']}; "
            f"{found['n_unlabelled']:,} without one are left out. In brackets: 95 % intervals."
        )
        if found["n_zero_probability"]:
            _say(
                f"{found['n_zero_probability']:,} galaxies' true class was given no chance: the cross-entropy is infinite."
            )
    elif "answers" in found:
        _print_columns(
            [
                ("rmse, mean over answers", text(found["rmse"])),
                ("mad, mean over answers", text(found["mae"])),
                ("rmse of a perfect model", text(found["noise_floor"])),
                ("rmse, noise removed", text(found["rmse_noise_corrected"])),
            ]
        )
        _say(
            f"{found['n_answers']} answers, over galaxies with at least {found['min_votes']} votes on the question. "
            "In brackets: 95 % intervals."
        )
    else:
        table: list[Sequence[str]] = [("question", "galaxies", "accuracy", "confident", "accuracy of these")]
        for name, one in found["questions"].items():
            row = (one["relevant"], one["confident"])
            table.append(
                (name, *(part for each in row for part in (f"{each['n_galaxies']:,}", text(each["accuracy"]))))
            )
        _print_columns(table)
        _say("Confident: one answer has more than 0.8 of the votes. In brackets: 95 % intervals.")
    if found["n_trained_on"]:
        _say(f"Mind: the model was trained on {found['n_trained_on']:,} of these galaxies.")


@app.command()
def compare(
    predictions: Annotated[
        list[Path], typer.Argument(help="Two or more prediction files, as of `gzoo score`.", show_default=False)
    ],
    folder: Folder,
    as_json: AsJson = False,
    include_trained_on: Annotated[
        bool, typer.Option("--include-trained-on", help="Compare on galaxies seen in training too, and count them.")
    ] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Also write a page to look at.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say which of several predictions is better on the same galaxies, and where the data cannot tell."""
    from gzoo.scoring.comparison import compare as run

    found = run(predictions, folder, include_trained_on=include_trained_on, report=report, overwrite=overwrite)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    for name, one in found["models"].items():
        beyond = f"; {one['n_unshared']:,} more that not all predict" if one["n_unshared"] else ""
        _say(f"{name}: {one['kind']} of {found['n_galaxies']:,} galaxies{beyond}.")
    for pair in found["pairs"]:
        print(f"\n{pair['first']} against {pair['second']}")
        rows: list[tuple[str, ...]] = [("", "asked", "log score", "corrected p", "better", "more galaxies needed")]
        for name, contrast in (*pair["questions"].items(), *pair["campaigns"].items(), ("overall", pair["overall"])):
            one = contrast["log_likelihood"]
            if not one["n_galaxies"]:
                continue
            value = "-" if one["value"] is None else f"{one['value']:+.4f}"
            interval = "" if one["low"] is None else f" [{one['low']:+.4f}, {one['high']:+.4f}]"
            p = "-" if one["p_adjusted"] is None else f"{max(one['p_adjusted'], 0.0001):.4f}"
            more = f"{one['n_additional_galaxies']:,}" if one["n_additional_galaxies"] else "-"
            rows.append((name, f"{one['n_galaxies']:,}", value + interval, p, one["better"] or "cannot tell", more))
        _print_columns(rows)
        print(pair["overall"]["says"], pair["says"])
    _say(
        "Differences in nats per galaxy asked, first minus second, with 95 % intervals over "
        f"{found['blocks']['kind']}. Verdicts are at 5 % for all looks together ({found['n_tests']})."
    )
    for name, one in found["models"].items():
        if one["n_trained_on"]:
            _say(f"Mind: {name} was trained on {one['n_trained_on']:,} of these galaxies.")
    if report:
        _say(f"Made {report}. Open it in a browser.")


UnseenPredictions = Annotated[
    list[Path],
    typer.Argument(help="Prediction files, each of galaxies that its model has not seen.", show_default=False),
]


@app.command()
def catalog(
    predictions: UnseenPredictions,
    folder: Folder,
    out: Annotated[
        Path, typer.Option("--out", help="Catalogue to write: .parquet, .csv or .fits.", show_default=False)
    ],
    level: Annotated[float, typer.Option("--level", help="Probability that an interval holds.")] = 0.9,
    overwrite: Overwrite = False,
) -> None:
    """Write a catalogue of what predictions and votes together say of each galaxy, with intervals."""
    from gzoo.catalogs.catalog import catalog as run

    with _progress() as say:
        made = run(predictions, folder, out=out, level=level, overwrite=overwrite, progress=say)
    _say(
        f"Made {made.path}: {made.n_galaxies:,} galaxies, {made.n_with_votes:,} of them with votes; intervals hold "
        f"with probability {made.level:g}."
    )
    if made.is_simulated:
        _say("SIMULATED: no telescope and no person was involved.")
    for name, worth in made.worth.items():
        for column, n in worth.items():
            _say(f"{name}: odds of {column} are worth {n:.3g} votes, as the votes themselves say.")
    if made.not_predicted:
        _say(f"Not predicted, and so left out: {', '.join(made.not_predicted)}.")
    if made.proportion_asked_unknown:
        _say(f"Chance of being asked not known: {', '.join(made.proportion_asked_unknown)}.")


@app.command()
def prioritize(
    predictions: UnseenPredictions,
    folder: Folder,
    n: Annotated[int, typer.Option("--n", help="Galaxies to print.")] = 20,
    criterion: Annotated[
        str, typer.Option("--criterion", help="information, or error: what shall change fastest.")
    ] = "information",
    out: Annotated[Path | None, typer.Option("--out", help="Table of all to write, .parquet or .csv.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Rank galaxies by what one more classification is expected to tell."""
    from gzoo.scoring.acquisition import prioritize as run

    with _progress() as say:
        found = run(predictions, folder, n=n, criterion=criterion, out=out, overwrite=overwrite, progress=say)
    if as_json:
        print(json.dumps(found.to_dict(n), indent=2, ensure_ascii=False, allow_nan=False))
        return
    rows: list[Sequence[str]] = [("", "dataset", "galaxy", "votes", "gain", "part", "most of it through")]
    for i, one in enumerate(found.table.head(n).iter_rows(named=True), 1):
        names = ("".join(c if c.isprintable() else "?" for c in one[key]) for key in ("dataset_name", "id_str"))
        rows.append((str(i), *names, f"{one['n_votes']:,}", f"{one['gain']:.3g}", one["part"], one["question"]))
    _print_columns(rows)
    unit = "expected information, nats" if found.criterion == "information" else "expected fall of the squared error"
    _say(f"Of {found.table.height:,} galaxies the first {min(n, found.table.height):,}. Gain: {unit}.")
    if found.is_simulated:
        _say("SIMULATED: no telescope and no person was involved.")
    if found.excluded:
        _say(f"Not counted, for their chance of being asked is not known: {', '.join(found.excluded)}.")
    if out:
        _say(f"Made {out}: all of them.")


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A dataset folder, or a run folder: a model.", show_default=False)],
    repository: Annotated[str, typer.Argument(help="owner/name on the Hub; made if need be.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Let only its owners see it.")] = False,
    gated: Annotated[
        str | None,
        typer.Option("--gated", help="auto or manual: readers have to ask, and are let in at once or by you."),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Name for this version, such as v1.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Of a model: address of the source of its training.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
) -> None:
    """Put a dataset or a model on the Hub: checked before, verified after, only what changed."""
    from gzoo.publication import publish as run

    with _progress() as say:
        made = run(
            folder,
            repository,
            private=private,
            gated=gated,
            tag=tag,
            source=source,
            dry_run=dry_run,
            progress=say,
        )
    if made.is_simulated:
        _say(f"SIMULATED: no telescope and no person was involved. The card of {repository} says so.")
    sent = made.sent
    what = f"{len(sent.files):,} files ({sent.n_bytes:,} bytes); {sent.n_kept:,} are there already"
    if sent.removed:
        gone = "would be removed" if made.is_dry else "were removed"
        what += f"; {len(sent.removed):,} of an earlier version {gone} ({', '.join(sent.removed[:5])})"
    tagged = f", tag {sent.tag}" if sent.tag else ""
    if made.is_dry:
        where = f"the new {made.kind}" if sent.is_new else made.kind
        _say(f"Nothing was sent. To {where} {repository} would go {what}.")
        for name in sent.files:
            _say(f"  {name}")
        return
    if sent.files or sent.removed:
        _say(f"Made commit {sent.commit} of {made.kind} {repository}{tagged}: sent {what}.")
    else:
        _say(f"Nothing was sent: {made.kind} {repository} is the same already, commit {sent.commit}{tagged}.")
    _say("Every file there has the sha256 that it has here.")
    _say(f"Its page: {sent.page}")
    if made.kind == "dataset":
        _say(f"Next: gzoo access {repository}")
    else:
        _say(f"Next: python -c \"import timm; timm.create_model('hf-hub:{repository}', pretrained=True)\"")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder to make.")] = Path("gzoo-demo"),
    n_galaxies: Annotated[int, typer.Option("--n-galaxies", help="Galaxies to simulate.")] = 1500,
    epochs: Annotated[int, typer.Option("--epochs", help="Of training.")] = 16,
    encoder: Annotated[str, typer.Option("--encoder", help="Name of a timm model.")] = "resnet18",
    size: Annotated[int, typer.Option("--size", help="Pixels a side that the model sees.")] = 64,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes that draw images.")] = 2,
    overwrite: Overwrite = False,
) -> None:
    """Run the main job on simulated galaxies, in a few minutes."""
    from gzoo.demonstration import demo as run

    with _progress() as say:
        made = run(
            out=out,
            n_galaxies=n_galaxies,
            epochs=epochs,
            encoder=encoder,
            size=size,
            seed=seed,
            workers=workers,
            overwrite=overwrite,
            progress=say,
        )
    value, low, high = made.log_likelihood_gain
    _say(f"Made {made.folder}, all of it from simulated galaxies:")
    for name, what in (
        ("simulation", f"images, votes and truth of {made.n_galaxies:,} galaxies"),
        ("dataset", "what `gzoo build` makes of them; datasets.load_dataset opens it"),
        ("run", "the trained model"),
        ("predictions.parquet", f"what it expects volunteers to say of {made.n_test:,} unseen galaxies"),
        ("scores.json", f"skill {value:.2f} nats per galaxy, 95 % interval [{low:.2f}, {high:.2f}]"),
        ("report.html", "a page that shows it all: open it in a browser"),
    ):
        _say(f"  {made.folder / name}  {what}")
    _say("Next: `gzoo campaigns`, then `gzoo build` with a vote table and images of your own (README.md).")


if __name__ == "__main__":
    main()
