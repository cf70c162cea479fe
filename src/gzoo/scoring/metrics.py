"""Score: how good predictions are on galaxies that the model has not seen, each number with an interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict, cast, overload

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from gzoo.dataset import KEY, Dataset, open_dataset
from gzoo.errors import InputError, MissingError, TableError
from gzoo.scoring.classification import Classification, DecalsConfident, GZEvo, classify, published
from gzoo.scoring.likelihood import dirichlet_multinomial_nll, expected_fractions, fit_baseline
from gzoo.trees import FloatArray, Tree
from gzoo.votes import Votes

N_BOOTSTRAP = 2000
BOOTSTRAP_SEED = 0


class Value(TypedDict):
    """A number with its 95 % interval; all null where there is nothing to compute it from."""

    value: float | None
    low: float | None
    high: float | None


class Score(TypedDict):
    """Scores over some galaxies.

    log_score, baseline_log_score: mean log probability of the votes, in nats per galaxy asked; higher is better.
    skill: their paired difference, model minus baseline.
    rmse, mse_corrected, rmse_corrected: error of the expected fractions, raw and with the votes' own noise removed.
    """

    log_score: Value
    baseline_log_score: Value
    skill: Value
    rmse: Value
    mse_corrected: Value
    rmse_corrected: Value


class QuestionScore(Score):
    """Scores of one question, and how many galaxies were asked it."""

    n_asked: int


class Scores(TypedDict):
    """What `gzoo score --json` prints.

    overall: per galaxy, the log scores summed over the questions it was asked; errors over all answers of all
        questions with at least 2 votes, each answer of each galaxy weighing the same.
    """

    n_galaxies: int
    n_trained_on: int
    overall: Score
    questions: dict[str, QuestionScore]


@overload
def score(
    predictions: Path | str,
    folder: Path | str,
    *,
    label: None = None,
    protocol: None = None,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> Scores: ...


@overload
def score(
    predictions: Path | str, folder: Path | str, *, label: str, include_trained_on: bool = False
) -> Classification: ...


@overload
def score(
    predictions: Path | str, folder: Path | str, *, protocol: str, include_trained_on: bool = False
) -> GZEvo | DecalsConfident: ...


def score(
    predictions: Path | str,
    folder: Path | str,
    *,
    label: str | None = None,
    protocol: str | None = None,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> Scores | Classification | GZEvo | DecalsConfident:
    """Scores of predictions against a dataset's votes; or of classes against its labels, or as a paper defines them.

    Args:
        predictions: Parquet file with `dataset_name`, `id_str` and `{column}_concentration` for each answer.
        folder: The dataset with the votes. The baseline is fitted on its train split.
        label: Score classes instead, against this column or `summary`; see `gzoo.scoring.classify`.
        protocol: Score by a published protocol instead, "gz-evo" or "decals-confident"; see `gzoo.scoring.published`.
        include_trained_on: Score galaxies that the model was trained on too, rather than refuse; they are counted
            in `n_trained_on`.
        report: Also write a page that shows the result.
        overwrite: Replace an earlier report.

    Returns:
        The object that `--json` prints. A question with no votes has null values.

    Raises:
        MissingError: A file is not there, or the dataset has no train split for the baseline.
        TableError: The file is not a prediction file for this dataset's questions, or is for other galaxies; or the
            model was trained on galaxies split by another scheme.
    """
    if label is not None or protocol is not None:
        if report is not None or (label is not None and protocol is not None):
            raise InputError(
                "Scores by label, by protocol and the page are three things.", "One of them.", "Ask apart."
            )
        if label is not None:
            return classify(predictions, folder, label=label, include_trained_on=include_trained_on)
        return published(predictions, folder, protocol=str(protocol), include_trained_on=include_trained_on)
    dataset = open_dataset(folder)
    tree = dataset.tree
    table = read_predictions(Path(predictions), tree)
    keys, votes, seen = _votes_of(dataset, table, Path(predictions))
    if not include_trained_on:
        _refuse_other_scheme(Path(predictions), dataset)
    n_trained_on = int(seen.sum())
    if n_trained_on and not include_trained_on:
        names = ", ".join(keys["id_str"].filter(pl.Series(seen)).head(5))
        raise TableError(
            f"{predictions}: the model was trained on {n_trained_on} of its {len(keys)} galaxies ({names}, ...).",
            "Galaxies that the model has not seen: their votes would count twice.",
            "Predict the test split, or pass --include-trained-on to score them all the same.",
        )
    if "train" not in dataset.splits:
        raise MissingError(
            f"{folder} has no train split.", "One to fit the baseline on.", "Score against the whole dataset."
        )
    concentration = table.select(f"{column}_concentration" for column in tree.columns).to_numpy().astype(np.float64)
    _, train = dataset.galaxies("train")
    baseline = np.broadcast_to(fit_baseline(train), concentration.shape)
    scores = compute(votes, concentration, baseline)
    scores["n_trained_on"] = n_trained_on
    if report is not None:
        from gzoo.scoring.report import write_report

        write_report(
            Path(report),
            folder=Path(folder),
            predictions=Path(predictions),
            scores=scores,
            title=f"{dataset.campaign.title}: scores",
            facts={"Predictions": Path(predictions).name, "Galaxies": f"{len(keys):,}"},
            overwrite=overwrite,
        )
    return scores


def compute(votes: Votes, concentration: FloatArray, baseline: FloatArray, *, seed: int = BOOTSTRAP_SEED) -> Scores:
    """Scores of concentrations against votes, with 95 % percentile intervals from a bootstrap over galaxies.

    Args:
        votes: Of galaxies that the model has not seen.
        concentration: Predicted, shape (galaxy, answer).
        baseline: Of the baseline, same shape.
        seed: Of the bootstrap.
    """
    tree = votes.tree
    asked = votes.totals > 0
    model = -dirichlet_multinomial_nll(votes.counts, concentration, tree, votes.totals)
    base = -dirichlet_multinomial_nll(votes.counts, baseline, tree, votes.totals)
    error, noise, cells = _errors(votes, expected_fractions(concentration, tree))

    def with_overall(columns: FloatArray) -> FloatArray:
        return np.column_stack([columns, columns.sum(axis=1)])

    any_asked = asked.any(axis=1)
    n_asked = np.column_stack([asked, any_asked]).astype(np.float64)
    sums = np.stack([with_overall(model), with_overall(base), n_asked, *map(with_overall, (error, noise, cells))])
    repeated = _bootstrap(sums, seed)
    values, draws = _values(sums.sum(axis=1)[:, None, :]), _values(repeated)

    def of(i: int) -> Score:
        return Score(
            log_score=_value(values["log_score"][0, i], draws["log_score"][:, i]),
            baseline_log_score=_value(values["baseline_log_score"][0, i], draws["baseline_log_score"][:, i]),
            skill=_value(values["skill"][0, i], draws["skill"][:, i]),
            rmse=_value(values["rmse"][0, i], draws["rmse"][:, i]),
            mse_corrected=_value(values["mse_corrected"][0, i], draws["mse_corrected"][:, i]),
            rmse_corrected=_value(values["rmse_corrected"][0, i], draws["rmse_corrected"][:, i]),
        )

    questions = {
        question.name: QuestionScore(**of(i), n_asked=int(asked[:, i].sum()))
        for i, question in enumerate(tree.questions)
    }
    return Scores(n_galaxies=len(votes), n_trained_on=0, overall=of(len(tree.questions)), questions=questions)


def _errors(votes: Votes, expected: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Per galaxy and question with at least 2 votes, summed over its answers.

    Returns:
        Squared difference of expected and voted fraction; the votes' own variance, estimated without bias by
        f(1-f)/(N-1); number of answers. Each of shape (galaxy, question), 0 where fewer than 2 voted.
    """
    tree = votes.tree
    of = list(tree.question_of_answer)
    n = votes.totals[:, of]
    enough = n >= 2
    voted = np.where(enough, votes.fractions, 0.0)
    squared = np.where(enough, (expected - voted) ** 2, 0.0)
    variance = np.where(enough, voted * (1 - voted) / np.maximum(n - 1, 1), 0.0)
    starts = list(tree.starts)
    total = [np.add.reduceat(each, starts, axis=1) for each in (squared, variance, enough.astype(np.float64))]
    return total[0], total[1], total[2]


def _values(sums: FloatArray) -> dict[str, FloatArray]:
    """Scores from sums over galaxies, shape (6, repetition, question and overall)."""
    model, base, asked, error, noise, cells = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        mse, corrected = error / cells, (error - noise) / cells
        return {
            "log_score": model / asked,
            "baseline_log_score": base / asked,
            "skill": (model - base) / asked,
            "rmse": np.sqrt(mse),
            "mse_corrected": corrected,
            "rmse_corrected": np.sqrt(np.maximum(corrected, 0.0)),
        }


def _bootstrap(sums: FloatArray, seed: int) -> FloatArray:
    """Sums over galaxies drawn with replacement.

    Args:
        sums: Per galaxy, shape (quantity, galaxy, column).
        seed: Of the draws.

    Returns:
        Shape (quantity, repetition, column).
    """
    quantities, n, columns = sums.shape
    flat = sums.transpose(1, 0, 2).reshape(n, quantities * columns)
    rng = np.random.default_rng(seed)
    out = np.empty((N_BOOTSTRAP, quantities * columns))
    at_once = max(1, 4_000_000 // max(n, 1))
    for start in range(0, N_BOOTSTRAP, at_once):
        stop = min(start + at_once, N_BOOTSTRAP)
        weights = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(start, stop)])
        out[start:stop] = weights.astype(np.float64) @ flat
    return out.reshape(N_BOOTSTRAP, quantities, columns).transpose(1, 0, 2)


def _value(value: float, draws: FloatArray) -> Value:
    if not np.isfinite(value):
        return Value(value=None, low=None, high=None)
    low, high = np.percentile(draws[np.isfinite(draws)], [2.5, 97.5])
    return Value(value=float(value), low=float(low), high=float(high))


def read_predictions(path: Path, tree: Tree) -> pl.DataFrame:
    """A prediction file, checked.

    Raises:
        MissingError: There is no such file.
        TableError: It is not Parquet, lacks columns, holds a galaxy twice, or concentrations that are not positive.
    """
    if not path.is_file():
        raise MissingError(f"There is no prediction file {path}.", "A Parquet file.", "Make one with `gzoo predict`.")
    try:
        table = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        said = (str(error).splitlines() or ["damaged"])[0]
        raise TableError(
            f"{path} cannot be read: {said}", "A Parquet file of predictions.", "Predict again."
        ) from error
    columns = [f"{column}_concentration" for column in tree.columns]
    missing = [name for name in [*KEY, *columns] if name not in table.columns]
    if missing:
        raise TableError(
            f"{path} has no column '{missing[0]}' ({len(missing)} missing).",
            f"dataset_name, id_str and a concentration for each answer of tree '{tree.name}'.",
            "Predict with a model of this campaign.",
        )
    if table.height == 0:
        raise TableError(f"{path} has no rows.", "At least one galaxy.", "Predict again.")
    kinds = {name: table.schema[name] for name in [*KEY, *columns]}
    for name, kind in kinds.items():
        if kind != pl.String if name in KEY else not kind.is_numeric():
            raise TableError(
                f"{path}: column '{name}' holds {kind}.", "Texts in the key, numbers elsewhere.", "Predict again."
            )
    twice = table.filter(pl.struct(KEY).is_duplicated())
    if twice.height:
        raise TableError(f"{path} has galaxy '{twice['id_str'][0]}' more than once.", "Once each.", "Mend the file.")
    for name in columns:
        values = table[name].cast(pl.Float64, strict=False)
        bad = (~(values.is_finite() & (values > 0))).fill_null(True)
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise TableError(
                f"{path}, galaxy '{table['id_str'][row]}': {name} is {table[name][row]}.",
                "A positive, finite number.",
                "Predict again.",
            )
    return table


def _refuse_other_scheme(path: Path, dataset: Dataset) -> None:
    about = cast("dict[str, object]", json.loads((pq.read_schema(path).metadata or {}).get(b"gzoo", b"{}")))
    scheme = about.get("trained_by_scheme")
    if scheme and scheme != dataset.split_scheme:
        raise TableError(
            f"{path}: the model was trained on a dataset split by '{scheme}', and {dataset.folder} is split by "
            f"'{dataset.split_scheme}'.",
            "One scheme: by another, galaxies of this test split may have been trained on, in other pictures too.",
            "Build both by one scheme, or pass --include-trained-on to score them all the same.",
        )


def _votes_of(dataset: Dataset, table: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, Votes, npt.NDArray[np.bool_]]:
    """Votes of the predicted galaxies in the order of the predictions, and which the model was trained on."""
    parts = {split: dataset.galaxies(split) for split in dataset.splits}
    keys = pl.concat([keys.with_columns(split=pl.lit(split)) for split, (keys, _) in parts.items()])
    keys = keys.with_row_index("place")
    wanted = table.select(KEY).join(keys, on=KEY, how="left", maintain_order="left")
    strangers = wanted.filter(pl.col("place").is_null())
    if strangers.height:
        raise TableError(
            f"{path} holds {strangers.height} of {table.height} galaxies that {dataset.folder} does not have, such as "
            f"'{strangers['id_str'][0]}' of '{strangers['dataset_name'][0]}'.",
            "Predictions for galaxies of the dataset they are scored against.",
            "Check that the two belong together.",
        )
    place = wanted["place"].to_numpy()
    counts = np.concatenate([votes.counts for _, votes in parts.values()])[place]
    totals = np.concatenate([votes.totals for _, votes in parts.values()])[place]
    seen = (wanted["split"] == "train").to_numpy()
    if "is_trained_on" in table.columns:
        seen = seen | table["is_trained_on"].cast(pl.Boolean).fill_null(False).to_numpy()
    return wanted.select(KEY), Votes(dataset.tree, counts, totals), seen
