"""What each command prints about its result: one function for each verb, with the name of the verb.

A function may return the exit code of the command.
"""

from __future__ import annotations

import gc
import inspect
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from gzoo.cli.screen import Given, Screen, width
from gzoo.cli.show_scores import compare, score
from gzoo.display import interval

if TYPE_CHECKING:
    import polars as pl

    from gzoo.catalogs.catalog import CatalogResult
    from gzoo.catalogs.crossmatch import MatchResult
    from gzoo.catalogs.selection import Selection
    from gzoo.dataset.build import BuildResult
    from gzoo.dataset.check import CheckResult
    from gzoo.dataset.leakage import Leaks
    from gzoo.dataset.merge import UnionResult
    from gzoo.demonstration import DemoResult
    from gzoo.embeddings.outliers import Outliers
    from gzoo.embeddings.similarity import Similar
    from gzoo.explorer import ExploreResult, SiteResult
    from gzoo.hub import Access
    from gzoo.learn.embedding import EmbedResult
    from gzoo.learn.export import ExportResult
    from gzoo.learn.prediction import PredictResult
    from gzoo.learn.training import TrainResult
    from gzoo.publication import PublishResult
    from gzoo.scoring.acquisition import Ranking
    from gzoo.scoring.recalibration import RecalibrateResult
    from gzoo.simulator import SimulateResult
    from gzoo.trees.campaign import Campaigns
    from gzoo.trees.tree import Tree
    from gzoo.votes.audit import Audit
    from gzoo.zooniverse import CountResult
    from gzoo.zooniverse.classifications import Ingest

__all__ = ["compare", "score"]  # and a function of each other verb

SIMULATED = "SIMULATED: no telescope and no volunteer was involved."
N_PAIRS_SHOWN = 20
N_GALAXIES_SHOWN = 20


def _option(name: str, default: object, kind: Any, /, **about: Any) -> inspect.Parameter:
    annotation = Annotated[kind, Parameter(show_default=default is not False, **about)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_JSON = _option("as_json", False, bool, name="--json", help="Print one JSON object to standard output.", negative="")
WITH_JSON = (
    *("access", "audit", "build", "campaigns", "catalog", "check", "compare", "count", "demo", "embed", "export"),
    *(
        "leaks",
        "mapping",
        "match",
        "outliers",
        "predict",
        "prioritize",
        "publish",
        "recalibrate",
        "score",
        "select",
        "similar",
        "simulate",
    ),
    *("train", "union"),
)
OF_ALL = (
    _option("offline", False, bool, help="Do not contact the Hub: read only what is cached.", negative=""),
    _option("quiet", False, bool, help="Print nothing but errors, warnings and the result.", negative=""),
    _option("verbose", False, bool, help="Print the time of each step, and the traceback of an error.", negative=""),
)
# options of a command beside the parameters of its function
OPTIONS: Mapping[str, Sequence[inspect.Parameter]] = {
    **{verb: [_JSON] for verb in WITH_JSON},
    "tree": [_option("format", "text", Literal["text", "mermaid", "svg", "json"], help="Format to print.")],
}


def campaigns(known: Campaigns, given: Given, screen: Screen) -> None:
    """Print a line for each campaign."""
    rows = [("name", "campaign", "questions", "published", "on the Hub", "gated")]
    for one in known:
        n, n_published = len(one.tree.questions), len(one.published_tree.questions)
        rows.append((one.name, one.title, str(n), str(n_published), one.hub.repository or "-", one.hub.gated))
    screen.table(rows)
    screen.say("Next: gzoo tree NAME")


def tree(found: Tree, given: Given, screen: Screen) -> None:
    """Print a tree in a format, with its sources for text."""
    from gzoo.trees.campaign import campaign
    from gzoo.trees.drawing import tree_svg

    screen.print(tree_svg(found) if given["format"] == "svg" else getattr(found, f"to_{given['format']}")())
    if given["format"] == "text":
        about = campaign(given["name"])
        screen.print()
        for source in about.tree_sources:
            screen.print(f"Source of {source.name} [{source.grade}]: {source.source}")
        for decision in about.decisions:
            on = f" on {decision.question}" if decision.question else ""
            screen.print(f"Decision{on}: {decision.decision}")


def cite(text: str, given: Given, screen: Screen) -> None:
    """Print the entries."""
    from gzoo.trees.cite import SOFTWARE

    screen.print(text)
    if SOFTWARE not in map(str, given["names"]):
        screen.say(f"To cite gzoo itself: gzoo cite {SOFTWARE}")


def access(found: Access, given: Given, screen: Screen) -> int:
    """Print the state in a line."""
    screen.print(f"{found.state}: {found.message} {found.hint}".rstrip())
    return found.exit_code


def simulate(made: SimulateResult, given: Given, screen: Screen) -> None:
    """List the files of a simulation."""
    screen.result(f"Wrote {made.folder} ({made.n_galaxies:,} galaxies, {made.n_classifications:,} classifications):")
    for path, what in (
        (made.images, "images, as volunteers saw them"),
        (made.classifications, "classifications, as Zooniverse exports them; workflows.csv lists the tasks"),
        (made.votes, "vote counts for each galaxy and answer"),
        (made.truth, "parameters of the galaxies and the true probability of each answer"),
        (made.volunteers, "volunteers: how careful each is, and which are bots"),
    ):
        if path.exists():
            screen.say(f"  {path.name:<20}{what}")
    if given["images"]:
        dataset = made.folder.with_name("dataset")
        screen.say(f"Next: gzoo build {given['campaign']} --votes {made.votes} --images {made.images} --out {dataset}")


def mapping(made: Any, given: Given, screen: Screen) -> None:
    """Print the mapping file, or say where it is."""
    if not given["out"]:
        screen.print(made.to_toml().rstrip("\n"))
        return
    sources = ["--votes", given["source"]]
    if given["workflows"]:
        sources = ["--classifications", given["source"], "--workflows", given["workflows"]]
    words = ["gzoo", "build", given["campaign"], *sources, "--mapping", given["out"]]
    screen.result(f"Wrote {given['out']}. {made.summary}")
    screen.say(
        f"Next: review {given['out']} (each line lists its evidence), then run {shlex.join(map(str, words))} "
        "--images IMAGES --out OUT"
    )


def audit(found: Audit, given: Given, screen: Screen) -> bool:
    """Print a line for each question, and sentences where votes and tree differ."""
    screen.say(f"Read {given['table']}: used {found.n_used:,} of {found.n_rows:,} rows, compared with {found.tree}.")
    for reason, n in found.n_dropped.items():
        screen.say(f"  {n:,} not used: {reason}")
    marks = {"consistent": "ok", "unknown": "?", "inconsistent": "!", "contradicted": "!!"}
    rows = [("", "question", "rows checked", "fraction consistent", "rows inconsistent", "example")]
    for one in found.questions:
        fraction = f"{one.fraction:.4f}" if one.n_checked else "-"
        example = ", ".join(f"{name}: {total} votes, {expected} expected" for name, total, expected in one.rows[:1])
        counts = (f"{one.n_checked:,}", fraction, f"{one.n_inconsistent:,}")
        rows.append((marks[one.verdict], one.question, *counts, example))
    screen.table(rows)
    doubtful = [one for one in found.questions if not one.is_consistent or one.n_total_mismatches]
    for one in doubtful:
        screen.print(f"\n{one.question}: {one.description}")
    if found.not_collected:
        screen.print(f"\nQuestions without votes: {', '.join(found.not_collected)}.")
    differ = f"Questions that are inconsistent with the decision tree: {len(doubtful)}. Review them before you build."
    screen.print(f"\n{'Votes are consistent with the decision tree.' if found.is_consistent else differ}")
    return not found.is_consistent


def count(made: CountResult, given: Given, screen: Screen) -> None:
    """Say what became of every row."""
    screen.result(f"Wrote {made.out} ({made.n_galaxies:,} galaxies).")
    _say_ingest(made.ingest, screen)
    if given["volunteers"]:
        screen.result(f"Wrote {given['volunteers']}. It contains names of volunteers: never publish it.")
    screen.next("audit", made.out, given["campaign"])


def _say_ingest(made: Ingest, screen: Screen) -> None:
    screen.say(f"Counted {made.n_used:,} of {made.n_rows:,} rows.")
    for reason, n in made.reasons.items():
        row, detail = (*made.examples.get(reason, ()), (0, ""))[0]
        where = f" (first: row {row:,}{': ' + detail if detail else ''})" if row else ""
        screen.say(f"  {n:>9,}  {reason}{where}")
    screen.say(f"Counted {made.n_annotations_used:,} of {made.n_annotations:,} annotations as votes.")
    for reason, n in made.annotation_reasons.items():
        screen.say(f"  {n:>9,}  {reason}")
    for note, n in made.notes.items():
        screen.say(f"Found, without effect: {note} ({n:,}).")
    n = made.n_suspicious.get("any", 0)
    bots = f"{n:,} may be bots; their votes are counted" if n else "none looks like a bot"
    screen.say(
        f"{made.n_volunteers:,} volunteers, of whom {bots}. The most active tenth gave "
        f"{made.fraction_by_top_decile:.0%} of the classifications."
    )


def build(made: BuildResult, given: Given, screen: Screen) -> None:
    """Say what is in the dataset, and what is not."""
    from gzoo.dataset.label_summary import in_words

    if made.ingest:
        _say_ingest(made.ingest, screen)
    screen.result(f"Wrote {made.folder} ({_n_of(made.n_galaxies)}).")
    _say_questions(made.n_galaxies_by_question, screen)
    for name, one in made.labels.items():
        screen.result(f"Labels in column '{name}': {in_words(one)} ({one['n_known']:,} galaxies).")
    if made.n_dropped:
        screen.result(f"Dropped {_n_dropped(made.n_dropped)}. See {made.folder / 'dropped.parquet'} for details.")
    if made.n_split_by_id:
        screen.say(f"{made.n_split_by_id:,} galaxies have no position: their split depends on their identifier.")
    if made.n_breaks:
        screen.say(f"{made.n_breaks:,} rows have more votes on a question than on its parent answers (kept).")
    for question, description in made.doubts.items():
        screen.warn(f"{question}: {description}")
    if made.excluded:
        screen.say(f"Ignored {len(made.excluded)} columns of the table; manifest.json lists them.")
    if made.n_galaxies.get("train") and not given["no_images"]:
        kinds = {name: one["kind"] for name, one in made.labels.items()}
        first = [name for kind in ("class", "number") for name in kinds if kinds[name] == kind][:1]
        of_labels = ["--target", *first] if first else []
        if first or not made.labels:
            screen.next("train", made.folder, *of_labels, "--out", made.folder.with_name("run"))
        else:
            screen.next("check", made.folder)
    else:  # it cannot be trained on
        screen.next("check", made.folder)


def union(made: UnionResult, given: Given, screen: Screen) -> None:
    """Say what is in the merged dataset, and which galaxies are in several."""
    screen.result(f"Wrote {made.folder} ({_n_of(made.n_galaxies, 'rows')}).")
    _say_questions(made.n_galaxies_by_question, screen)
    screen.say(f"Rows of each dataset: {', '.join(f'{name} {n:,}' for name, n in made.n_of.items())}.")
    screen.say(
        f"{made.n_shared:,} galaxies are in several datasets, {made.n_repeated:,} several times in one. See "
        f"{made.folder / 'crossmatch.parquet'}."
    )
    if made.n_across:
        pairs = f"{made.n_across:,} pairs of matching galaxies"
        screen.warn(f"{pairs} are in different splits. Run gzoo leaks {made.folder}")
    if made.n_dropped:
        screen.result(f"The datasets had dropped {_n_dropped(made.n_dropped)}. See {made.folder / 'dropped.parquet'}.")
    screen.next("leaks", made.folder)


def _say_questions(n_of: Mapping[str, int], screen: Screen) -> None:
    """Say how many questions have votes, for how many galaxies; warn of those without."""
    voted = {name: n for name, n in n_of.items() if n}
    if voted:
        fewest = min(voted, key=voted.__getitem__)
        least = f"from {voted[fewest]:,} ({fewest}) to {max(voted.values()):,}" if len(voted) > 1 else voted[fewest]
        screen.say(f"{len(voted)} of {len(n_of)} questions have votes, for {least} galaxies.")
    if len(voted) < len(n_of):
        without = [name for name in n_of if name not in voted]
        named = ", ".join(without[:8]) + (", ..." if len(without) > 8 else "")
        screen.warn(f"No galaxy has votes on {len(without)} of {len(n_of)} questions: {named}.")


def _n_of(n_galaxies: Mapping[str, int], unit: str = "galaxies") -> str:
    parts = ", ".join(f"{split} {n:,}" for split, n in n_galaxies.items())
    return f"{sum(n_galaxies.values()):,} {unit}{': ' + parts if parts else ''}"


def _n_dropped(n_of: Mapping[str, int]) -> str:
    return f"{sum(n_of.values()):,} galaxies: " + ", ".join(f"{reason} ({n:,})" for reason, n in n_of.items())


def check(found: CheckResult, given: Given, screen: Screen) -> bool:
    """Print a line for each check, and what is wrong."""
    seconds: Mapping[str, float] = given["seconds"]
    table = Table("check", "", Column("checked", justify="right"), Column("s", justify="right"), "what was checked")
    looks = {"passed": "green", "failed": "bold red", "not checked": "yellow"}
    stage = ""
    for one in found.checks:
        if stage and one.stage != stage:
            table.add_section()
        spent = f"{seconds[one.stage]:.1f}" if one.stage != stage and one.stage in seconds else ""  # of the whole stage
        stage = one.stage
        about = one.note if one.verdict == "not checked" else f"{one.description}{f' ({one.note})' if one.note else ''}"
        n = f"{one.n:,} {one.unit}" if one.n else ""
        table.add_row(one.name, Text(one.verdict, looks[one.verdict]), n, spent, Text(about))
    if not screen.is_json:
        Console(width=width()).print(table)
    for one in found.findings:
        screen.print(f"\n{one.check}: {one}.\n  Expected {one.expected}")
    rows = f"{_n_of(found.n_galaxies)}; {sum(seconds.values()):.1f} s"
    if found.is_valid:
        screen.print(f"\n{given['dataset']} is valid ({rows}).")
    else:
        failed = ", ".join(one.name for one in found.checks if one.verdict == "failed")
        screen.print(f"\n{given['dataset']} is not valid. Failed: {failed} ({rows}).")
        screen.say("Do not use or publish it: copy it again, or rebuild it.")
    return not found.is_valid


def leaks(found: Leaks, given: Given, screen: Screen) -> bool:
    """Print pairs of rows of one galaxy in different splits."""
    for folder, n, n_without in zip(found.folders, found.n_galaxies, found.n_without_position, strict=True):
        screen.say(f"Read {folder} ({_n_of(n)}).")
        if n_without:
            screen.warn(f"'{folder}': {n_without:,} rows without a position are compared by identifier only.")
    if found.has_leaks:
        screen.print("The same galaxy in different splits, closest first:")
        _print_pairs(found.pairs, screen)
    if found.overlaps.height:
        screen.print("Different galaxies in different splits whose images overlap, closest first:")
        _print_pairs(found.overlaps, screen)
    if found.not_judged:
        unknown = ", ".join(f"{name} in {folder}" for folder, name in found.not_judged)
        screen.warn(
            f"Overlapping images were not searched in {unknown}, whose image size on the sky is unknown. "
            "Pass --image-size-arcsec."
        )
    if given["out"]:
        screen.result(f"Wrote {given['out']}.")
    counts = ", ".join(f"{splits} {n:,}" for splits, n in found.n_pairs_by_splits.items() if n)
    pairs = f"Pairs in different splits: {found.pairs.height:,} ({counts})."
    screen.print(pairs if found.has_leaks else "No galaxy is in different splits.")
    if found.overlaps.height:
        screen.print(f"Pairs of overlapping images: {found.overlaps.height:,}. They are not counted as leaks.")
    return found.has_leaks


def _print_pairs(pairs: pl.DataFrame, screen: Screen) -> None:
    rows: list[tuple[str, ...]] = [("", "splits", "arcsec", "galaxy", "other galaxy", "matched by")]
    for pair in pairs.head(N_PAIRS_SHOWN).iter_rows(named=True):
        apart = "-" if pair["separation_arcsec"] is None else f"{pair['separation_arcsec']:.2f}"
        ends = (
            f"{pair[f'{end}dataset_name']} {pair[f'{end}id_str']} in {pair[f'{end}folder']}" for end in ("", "other_")
        )
        names = ("".join(one if one.isprintable() else "?" for one in end) for end in ends)
        rows.append(("", f"{pair['split']}, {pair['other_split']}", apart, *names, pair["matched_by"]))
    screen.table(rows)
    if pairs.height > N_PAIRS_SHOWN:
        screen.print(f"  and {pairs.height - N_PAIRS_SHOWN:,} more; --out writes all of them")


def train(made: TrainResult, given: Given, screen: Screen) -> None:
    """Say how good the model is on validation."""
    from gzoo.scoring.prediction_files import MIN_GALAXIES_WITH_VOTES

    how = f"{made.n_epochs} epochs, the best is {made.best_epoch}" if made.n_epochs else "only its head"
    screen.result(
        f"Trained {made.run} on {made.n_train:,} galaxies: {how}. "
        f"Validation loss {made.best_loss:.3f} nats per galaxy on {made.n_validation:,} galaxies; the baseline, which "
        f"knows only the training {'labels' if given['target'] else 'votes'}, has {made.baseline_loss:.3f}."
    )
    screen.result(made.floors.description)
    if made.hub:
        screen.say(f"Data: {made.hub['repository']}. To train on the same, pass --revision {made.hub['commit']}")
    if made.n_galaxies_by_class:
        counted = ", ".join(f"{name} {n:,}" for name, n in made.n_galaxies_by_class.items())
        screen.say(f"Training galaxies of each class: {counted}.")
    _say_questions(made.n_galaxies_by_question, screen)
    few = [name for name, n in made.n_galaxies_by_question.items() if 0 < n < MIN_GALAXIES_WITH_VOTES]
    if few:
        screen.warn(
            f"Fewer than {MIN_GALAXIES_WITH_VOTES} galaxies have votes on {', '.join(few)}: the model does not predict "
            "these questions."
        )
    out = made.run.with_name("predictions.parquet")
    screen.next("predict", made.run, given["dataset"], "--split", "test", "--out", out)


def export(made: ExportResult, given: Given, screen: Screen) -> None:
    """Say what was written, and how timm opens it."""
    screen.result(f"Wrote the encoder {made.encoder} with {made.n_features:,} features to {made.path}.")
    screen.say(f'timm opens it: timm.create_model("local-dir:{made.path}", pretrained=True)')
    screen.say(f"Training starts from it: gzoo train DATASET --from {shlex.quote(str(made.path))} --out RUN")
    if made.onnx:
        screen.result(f"Wrote the whole model to {made.onnx.path}: {made.onnx.description}.")
    screen.say(f"What goes in, what comes out, and the terms of use: {made.path / 'README.md'}")


def augmentations(made: Path, given: Given, screen: Screen) -> None:
    """Say where the image is."""
    screen.result(f"Wrote {made}: one galaxy per row, as stored and as a model sees it at {given['size']} pixels.")


def predict(made: PredictResult, given: Given, screen: Screen) -> None:
    """Say how many predictions there are."""
    from gzoo.scoring.prediction_files import MIN_GALAXIES_WITH_VOTES

    screen.result(f"Wrote {made.path} (predictions for {made.n_galaxies:,} galaxies).")
    if made.not_predicted:
        screen.warn(
            f"The model does not predict {', '.join(made.not_predicted)}: fewer than {MIN_GALAXIES_WITH_VOTES} of the "
            "galaxies that it was trained on have votes on each."
        )
    if made.n_trained_on:
        screen.warn(
            f"The model was trained on {made.n_trained_on:,} of these galaxies. `gzoo score` refuses them unless you "
            "pass --include-trained-on, and its scores are then too optimistic."
        )
    elif made.has_other_scheme:
        screen.warn(
            "The model was trained on a dataset that was split by another scheme, and may have seen these galaxies. "
            "`gzoo score` refuses them unless you pass --include-trained-on."
        )
    if made.is_dataset:
        must_include = made.n_trained_on or made.has_other_scheme
        screen.next("score", made.path, given["data"], *["--include-trained-on"] * bool(must_include))


def embed(made: EmbedResult, given: Given, screen: Screen) -> None:
    """Say how many vectors there are, and search among them."""
    screen.result(f"Wrote {made.path} (vectors of {made.n_features:,} features for {made.n_galaxies:,} galaxies).")
    if made.variance:
        parts = " and ".join(f"{one:.0%}" for one in made.variance)
        screen.say(f"x and y are the first two principal components, with {parts} of the variance.")
    if made.example and made.n_galaxies > 1:
        k = [] if made.n_galaxies > 50 else ["-k", made.n_galaxies - 1]
        screen.next("similar", made.path, made.example, *k, "--sheet", made.path.with_name("similar.html"))


def similar(found: Similar, given: Given, screen: Screen) -> None:
    """List the first galaxies, or say where the page is."""
    _print_galaxies(found.table, ["score"], given, screen)
    screen.say(f"Score: {found.method}. Searched among {found.n_galaxies:,} galaxies.")
    if given["sheet"]:
        screen.result(f"Wrote {given['sheet']}. Open it in a browser.")
        screen.say("Add identifiers of good galaxies, those of bad ones with --unlike, and run the command again.")


def outliers(found: Outliers, given: Given, screen: Screen) -> None:
    """List the first galaxies, or say where the page is."""
    _print_galaxies(found.table, ["distance", "mahalanobis", "is_likely_artifact"], given, screen)
    screen.say(
        "Distance: to the tenth neighbour, of standardised features. Mahalanobis: from the mean of all galaxies."
    )
    screen.say(f"Likely artifacts: {found.n_likely_artifacts:,} of {found.table.height:,}.")
    if found.n_references < found.n_galaxies:
        n = f"{found.n_references:,} of {found.n_galaxies:,}"
        screen.say(f"Neighbours were searched among {n} galaxies, drawn at random.")
    if given["sheet"]:
        screen.result(f"Wrote {given['sheet']}. Open it in a browser.")


def _print_galaxies(table: pl.DataFrame, values: Sequence[str], given: Given, screen: Screen) -> None:
    """Print the first galaxies; all of them are in the table that was written."""
    rows: list[Sequence[str]] = [("", "dataset", "galaxy", *(name.replace("_", " ") for name in values))]
    for i, one in enumerate(table.head(N_GALAXIES_SHOWN).iter_rows(named=True), 1):
        names = ("".join(c if c.isprintable() else "?" for c in one[key] or "-") for key in ("dataset_name", "id_str"))
        numbers = (
            "yes" if one[name] is True else "no" if one[name] is False else f"{one[name]:.3f}" for name in values
        )
        rows.append((str(i), *names, *numbers))
    screen.table(rows)
    if table.height > N_GALAXIES_SHOWN:
        screen.say(f"The first {N_GALAXIES_SHOWN} of {table.height:,}; --out writes all of them.")
    if given["out"]:
        screen.result(f"Wrote {given['out']} ({table.height:,} galaxies).")


def recalibrate(made: RecalibrateResult, given: Given, screen: Screen) -> None:
    """Print what was fitted for each question."""
    is_factor = made.recalibration.kind == "concentrations"
    scale = "dispersion factor" if is_factor else "concentration"
    rows: list[tuple[str, ...]] = [("question", "galaxies", scale, "temperature", "bias", "gain (nats)")]
    for name, one in made.recalibration.questions.items():
        bias = " ".join(f"{each:+.2f}" for each in one.bias) if any(one.bias) else "-"
        gain = "-" if one.gain is None else f"{one.gain:.4f}"
        factor, temperature = (
            " ".join(f"{each:{form}}" for each in found)
            for found, form in ((one.factor, ".3g"), (one.temperature, ".3f"))
        )
        rows.append((name, f"{one.n_galaxies:,}", factor, temperature, bias, gain))
    screen.table(rows)
    factor = "Dispersion factor: multiplies the total concentration; below 1 where the model was overconfident."
    screen.say(factor if is_factor else "Concentration: given to fractions, which carry no uncertainty.")
    screen.say("Bias: added to the logarithm of the fraction of each answer, where the votes show a bias.")
    screen.say("Gain: in log-likelihood per galaxy, each fifth of the galaxies by parameters fitted to the other four.")
    screen.result(f"Wrote {made.path} ({made.n_galaxies:,} galaxies, fitted on {made.n_fitted:,} held-out galaxies).")


def catalog(made: CatalogResult, given: Given, screen: Screen) -> None:
    """Say what is in the catalogue."""
    screen.result(
        f"Wrote {made.path} ({made.n_galaxies:,} galaxies, {made.n_with_votes:,} of them with votes; "
        f"{made.n_columns:,} columns). Columns, origin and licence: {made.readme}"
    )
    screen.say(made.posterior)
    rows = [(name, f"{one.coverage:.1%}", one.verdict) for name, one in made.calibration.items()]
    if rows:
        screen.table([("question", f"{made.level:.0%} prediction intervals cover", "calibration"), *rows])
        screen.say(
            "Covered: votes of held-out galaxies inside the prediction intervals of the model. The credible intervals "
            "of this catalogue are trustworthy only where this is near the level."
        )
    if made.is_simulated:
        screen.say(SIMULATED)
    if made.n_without_position:
        screen.say(f"Without a position: {made.n_without_position:,} galaxies.")
    if made.not_predicted:
        screen.say(f"Omitted because they are not predicted: {', '.join(made.not_predicted)}.")
    if made.proportion_asked_unknown:
        screen.say(f"Proportion of volunteers asked is unknown for: {', '.join(made.proportion_asked_unknown)}.")


def match(found: MatchResult, given: Given, screen: Screen) -> None:
    """Say what became of the rows of both tables."""
    rows: list[Sequence[str]] = [("", "rows", "matched", "ambiguous", "outside radius", "no position")]
    for name, fates in zip((found.a, found.b), (found.n_a, found.n_b), strict=True):
        rows.append((name, f"{sum(fates.values()):,}", *(f"{n:,}" for n in fates.values())))
    screen.table(rows)
    for text in found.sentences():
        screen.print(text)
    if found.path:
        screen.result(f"Wrote {found.path} (every row of both tables once).")


def select(found: Selection, given: Given, screen: Screen) -> None:
    """Print how pure and complete the selection is."""
    screen.print(f"Selected {found.n_selected:,} of {found.n_population:,} galaxies: {found.condition}")
    if found.is_simulated:
        screen.say(SIMULATED)
    if found.calibration or found.purity["value"] is not None:
        naive = found.against_votes
        mark = "  not calibrated" if found.is_calibrated is False else ""
        rows: list[Sequence[str]] = [("", f"expected [{found.level:.0%} interval]", "if votes were the truth")]
        for name, value, by_votes in (
            ("purity", found.purity, naive["purity"] if naive else None),
            ("completeness", found.completeness, naive["completeness"] if naive else None),
        ):
            rows.append((name, f"{interval(value)}{mark}", "-" if by_votes is None else f"{by_votes:.3f}"))
        screen.table(rows)
        screen.say(f"True: underlying vote fractions with {found.truth}.")
        screen.say("Expected values are without binomial (vote sampling) noise, which the last column contains.")
        for name, one in found.calibration.items():
            screen.say(f"Calibration of {name}: {one.verdict} ({one.n_galaxies:,} galaxies with held-out votes).")
    if given["out"]:
        screen.result(f"Wrote {given['out']} ({found.n_selected:,} galaxies).")
    if not given["predictions"]:
        screen.say("With prediction files, this command also computes purity and completeness.")


def prioritize(found: Ranking, given: Given, screen: Screen) -> None:
    """Print the first galaxies of a ranking."""
    gain = "expected_information_gain" if found.criterion == "information" else "expected_error_reduction"
    rows: list[Sequence[str]] = [("", "dataset", "galaxy", "votes", gain.replace("_", " "), "subtree", "main question")]
    for i, one in enumerate(found.table.head(given["n"]).iter_rows(named=True), 1):
        names = ("".join(c if c.isprintable() else "?" for c in one[key]) for key in ("dataset_name", "id_str"))
        rows.append((str(i), *names, f"{one['n_votes']:,}", f"{one[gain]:.3g}", one["subtree"], one["question"]))
    screen.table(rows)
    unit = "nats" if found.criterion == "information" else "squared vote fraction"
    n = min(given["n"], found.table.height)
    screen.say(f"The first {n:,} of {found.table.height:,} galaxies. Unit of the gain: {unit}.")
    if found.is_simulated:
        screen.say(SIMULATED)
    if found.excluded:
        screen.say(f"Excluded because the proportion of volunteers asked is unknown: {', '.join(found.excluded)}.")
    if given["out"]:
        screen.result(f"Wrote {given['out']} (all galaxies).")


def publish(made: PublishResult, given: Given, screen: Screen) -> None:
    """Say what was sent, or what would be."""
    repository, sent = given["repository"], made.sent
    if made.is_simulated:
        screen.say(f"{SIMULATED} The card of {repository} says so.")
    what = f"{len(sent.files):,} files ({sent.n_bytes:,} bytes); {sent.n_kept:,} are unchanged"
    if sent.removed:
        removed = "would be removed" if made.is_dry else "were removed"
        what += f"; {len(sent.removed):,} of an earlier version {removed} ({', '.join(sent.removed[:5])})"
    tagged = f", tag {sent.tag}" if sent.tag else ""
    if made.is_dry:
        where = f"the new {made.kind}" if sent.is_new else made.kind
        screen.result(f"Dry run: nothing was sent. Would upload to {where} {repository}: {what}.")
        for name in sent.files:
            screen.say(f"  {name}")
        return
    if sent.files or sent.removed:
        screen.result(f"Published commit {sent.commit} of {made.kind} {repository}{tagged}: uploaded {what}.")
    else:
        screen.result(f"Nothing to upload: {made.kind} {repository} is up to date, commit {sent.commit}{tagged}.")
    if sent.unverified:
        screen.say(f"Not verified: the Hub does not report the SHA-256 checksum of {len(sent.unverified):,} files.")
    else:
        screen.say("Verified: every file on the Hub has the same SHA-256 checksum as here.")
    screen.say(f"See {sent.page}")
    use = f"python -c \"import timm; timm.create_model('hf-hub:{repository}', pretrained=True)\""
    screen.say(f"Next: {use if made.kind == 'model' else f'gzoo access {repository}'}")


def explore(page: ExploreResult | SiteResult, given: Given, screen: Screen) -> None:
    """Say where the page is, and serve it until Ctrl-C; or say what was exported."""
    from gzoo.explorer import SiteResult

    if isinstance(page, SiteResult):
        of = f" of {page.n_of:,}, a random sample" if page.n_of > page.n_galaxies else ""
        screen.result(f"Wrote {page.folder} (a static site of {page.n_galaxies:,} galaxies{of}; "
                      f"{page.n_bytes / 1e6:.1f} MB).")  # fmt: skip
        screen.say(f"Copy the folder to any web host, or look at it: python -m http.server --directory {page.folder}")
        return
    what = f"{page.n_galaxies:,} {'simulated ' * page.is_simulated}galaxies{', without images' * (not page.has_images)}"
    screen.result(f"Serving {page.dataset} ({what}) at {page.url}")
    screen.say("Open that address in a browser. Stop with Ctrl-C.")
    gc.collect()
    gc.freeze()  # what is loaded now stays: collecting it again would delay one answer in a thousand by 150 ms
    try:
        page.wait()
    except KeyboardInterrupt:
        page.close()
        screen.say("Stopped.")
    if page.labelling and page.labelling.n:
        path, target = page.labelling.path, page.labelling.target
        screen.result(f"Wrote {path} (labels of {page.labelling.n:,} galaxies).")
        screen.next("train", page.dataset, "--labels", path, "--target", target, "--out", "run")


def demo(made: DemoResult, given: Given, screen: Screen) -> None:
    """List what the demonstration wrote."""
    value, low, high = made.log_likelihood_gain
    screen.result(f"Wrote {made.folder}, all of it from simulated galaxies:")
    for name, what in (
        ("simulation", f"images, votes and ground truth of {made.n_galaxies:,} galaxies"),
        ("dataset", "the dataset that `gzoo build` makes of them; datasets.load_dataset opens it"),
        ("run", "the trained model"),
        ("predictions.parquet", f"predicted vote fractions of {made.n_test:,} held-out galaxies"),
        ("catalogue.parquet", "their votes and posterior vote fractions; `gzoo catalog` writes FITS and VOTable too"),
        ("matches.parquet", f"{made.n_matched:,} of them matched by position to the true parameters, with redshifts"),
        ("scores.json", f"gain over the baseline: {value:.2f} nats per galaxy, 95% interval [{low:.2f}, {high:.2f}]"),
        ("report.html", "a page with examples, scores and calibration: open it in a browser"),
    ):
        screen.say(f"  {made.folder / name}  {what}")
    screen.next("explore", made.folder / "predictions.parquet", made.folder / "dataset")
