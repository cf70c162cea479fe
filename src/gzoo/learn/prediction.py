"""Prediction: from one or several runs and images to a Parquet file of predictions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from gzoo import files
from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.dataset.targets import Target
from gzoo.display import Shown
from gzoo.errors import DatasetError, GZooWarning, InputError, choices
from gzoo.files import Progress
from gzoo.learn.familiarity import LEVEL, FeatureDistance, read_distance
from gzoo.learn.image_files import holds_images, image_loader
from gzoo.learn.inputs import check_integers
from gzoo.learn.loader import Batch, Loader, loader
from gzoo.learn.model import Model, fastest_device, open_run
from gzoo.learn.orientations import MAX_VIEWS, orientations
from gzoo.learn.parts import write_parts
from gzoo.scoring.matching import other_scheme
from gzoo.scoring.prediction_files import (
    MIN_GALAXIES_WITH_VOTES,
    join_prediction_tables,
    prediction_table,
    read_metadata,
    refuse_predictions,
    write_prediction_table,
)
from gzoo.scoring.recalibration import Recalibration
from gzoo.scoring.target_likelihood import recalibrated
from gzoo.sky import is_near
from gzoo.trees.campaign import Campaign, of_manifest
from gzoo.trees.tree import FloatArray, IntArray, Tree

N_NAMED = 5  # images that cannot be decoded and that a warning names


@dataclass(frozen=True, slots=True, repr=False)
class PredictResult(Shown):
    """Result of `gzoo.predict`.

    Attributes:
        path: Prediction file.
        n_galaxies: Number of galaxies in it.
        n_trained_on: Number of galaxies that a run used for training or validation; 0 where that cannot be known,
            for images that are not in a dataset.
        not_predicted: Questions that are null in the file, because too few galaxies of the training data have votes on
            them.
        n_corrupt: Number of galaxies that are not in the file, because their image cannot be decoded.
        n_unfamiliar: For each run, number of galaxies whose image is farther from its training images than 99% of
            those, in the space of its encoder's features.
        is_dataset: Whether the images are those of a dataset.
        has_other_scheme: Whether a run was trained on splits of another scheme than those of the dataset, so that any
            of its galaxies may be among those of the training.
    """

    path: Path
    n_galaxies: int
    n_trained_on: int
    not_predicted: tuple[str, ...]
    n_corrupt: int
    n_unfamiliar: tuple[int, ...]
    is_dataset: bool
    has_other_scheme: bool


@dataclass(frozen=True, slots=True)
class Member:
    """A run that predicts.

    Attributes:
        run: Its folder.
        model: Its model.
        metadata: Content of its run.json.
        training_data: What that says of the data it was trained on.
        campaign: Campaign that it was trained on.
        not_predicted: Questions that it has not learned.
        recalibration: What to apply to its predictions, if anything.
        target_recalibration: The same for a target; empty if nothing.
        distance: Distance of features from those of its training images; None if it had too few.
    """

    run: Path
    model: Model
    metadata: Mapping[str, object]
    training_data: Mapping[str, object]
    campaign: Campaign
    not_predicted: tuple[str, ...]
    recalibration: Recalibration | None
    target_recalibration: Mapping[str, float]
    distance: FeatureDistance | None = None

    @property
    def target(self) -> Target | None:
        """What it predicts instead of votes."""
        return self.model.design.target


def predict(
    runs: Path | str | Sequence[Path | str],
    data: Path | str,
    *,
    split: str | None = None,
    out: Path | str,
    batch_size: int = 64,
    recalibrate: bool = True,
    views: int | None = None,
    corrupt: Literal["raise", "skip"] = "raise",
    cache_dir: Path | str | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> PredictResult:
    """Predict votes or a target for a split, a folder or an archive.

    The file has `dataset_name` and `id_str` (together the key; images that are not in a dataset have only `id_str`,
    the name of the file without folder and ending); for each answer `{column}_concentration` and
    `{column}_fraction`, the predicted vote fraction; where a question allows several answers, also
    `{column}_concentration_no`: both concentrations are those of a beta distribution of the fraction; for each
    question `{question}_proportion_volunteers_asked`, null where the dataset lacks an answer that leads to it; and
    `in_training_set`. Questions on which fewer than 30 of the galaxies trained on have votes are null: the model has
    not learned them.

    For runs of `gzoo train --target`, the file has, instead of all these, `{target}_{class}_probability` for each
    class, or `{target}_mean` and `{target}_std`, mean and standard deviation of a normal distribution.

    Several runs are an ensemble: each cell of concentrations is a list with one number for each run, and the prediction
    is their mixture. An interrupted prediction resumes when the same command runs again.

    Args:
        runs: Run folders, written by `gzoo train`.
        data: Dataset with images (a folder, a campaign's name, or `owner/name` on the Hub; a commit, tag or branch may
            follow after `@`), or a folder, .tar or .zip archive of JPEG, PNG or FITS images.
        split: Split of the dataset to predict, by default test.
        out: Parquet file to write.
        batch_size: Images per batch.
        recalibrate: Apply the recalibration fitted on the validation split, or write raw model output.
        views: Number of orientations of each image to average over (test-time augmentation), 1 to 8; by default as in
            the settings of the run, 8. The first is the image as stored. One view is up to eight times as fast.
        corrupt: What to do with an image that cannot be decoded: "raise" an error that names it, or "skip" it and warn.
        cache_dir: Folder on this machine for decoded images, up to 50 GB, which later runs reuse.
        scheduler: Address of a Dask scheduler whose workers predict; they must be able to read the same files.
        overwrite: Replace an earlier prediction file.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function to call with (stage, galaxies done, galaxies in total).

    Raises:
        NotFoundError: The run, the dataset or the split does not exist.
        DatasetError: Models and dataset have different questions, or an identifier is missing or not unique.
        InputError: An argument is invalid, or a model has not learned any question.
        ImageError: An image cannot be decoded; the message names the galaxy and the file.
        OutputExistsError: `out` already exists.
        BusyError: Another run writes the same output, and `wait` is False.
        MissingExtraError: A scheduler needs Dask, and workers the same versions of packages.
    """
    check_integers(1, MAX_VIEWS, views=1 if views is None else views)
    check_integers(1, batch_size=batch_size)
    if corrupt not in {"raise", "skip"}:
        raise InputError(f"Invalid value for corrupt: '{corrupt}'.", choices(["raise", "skip"]))
    out = Path(out)
    refuse_predictions(out, overwrite, [data])
    folders = tuple(Path(one).absolute() for one in ([runs] if isinstance(runs, Path | str) else runs))
    source = str(Path(data).absolute()) if Path(data).exists() else str(data)
    request = _Request(folders, source, split, batch_size, recalibrate, views, corrupt, cache_dir and str(cache_dir))
    predicting = request.writer(progress)
    settings = {"command": "predict", **predicting.about, "batch_size": batch_size, "corrupt": corrupt}
    skipped: dict[str, str] = {}
    n_written, n_trained_on, n_unfamiliar = 0, 0, np.zeros(len(folders), np.int64)
    with files.work_on_file(out, begun=settings, overwrite=overwrite, wait=wait, progress=progress) as work:
        paths = write_parts(request, predicting, work, scheduler=scheduler, progress=progress)
        for path in paths:
            metadata = read_metadata(path)
            skipped |= cast("dict[str, str]", metadata["skipped"])
            n_unfamiliar += np.array(metadata["n_unfamiliar"], np.int64)

        def tables() -> Iterator[pl.DataFrame]:
            nonlocal n_written, n_trained_on
            if not paths:
                yield predicting.table(np.arange(0), np.empty((len(folders), 0, predicting.n_outputs)))
            for path in paths:
                part = pl.read_parquet(path, glob=False)
                n_written, n_trained_on = n_written + part.height, n_trained_on + int(part["in_training_set"].sum())
                yield part

        join_prediction_tables(out, tables(), {**predicting.about, **predicting.origin, "n_corrupt": len(skipped),
                                            "n_unfamiliar": n_unfamiliar.tolist()})  # fmt: skip
    if skipped:
        named = " ".join(list(skipped.values())[:N_NAMED])
        message = f"{len(skipped):,} images cannot be decoded; these galaxies are not in the file. {named}"
        warnings.warn(GZooWarning(message), stacklevel=2)
    unfamiliar = tuple(n_unfamiliar.tolist())
    for each, n_far in zip(predicting.members, unfamiliar, strict=True):
        if each.distance is not None and each.distance.is_surprising(n_far, n_written):
            message = (
                f"{n_far / n_written:.1%} of the images ({n_far:,} of {n_written:,}) are farther from those that the "
                f"model in '{each.run}' was trained on than {LEVEL:.0%} of those: it has not seen such images, and its "
                "predictions for them may be wrong."
            )
            warnings.warn(GZooWarning(message), stacklevel=2)
    is_other = bool(predicting.opened and other_scheme(out, predicting.opened))
    return PredictResult(out, n_written, n_trained_on, predicting.not_predicted, len(skipped), unfamiliar,
                         predicting.is_dataset, is_other)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Request:
    """What to predict, and with which runs; see `predict`."""

    runs: tuple[Path, ...]
    data: str
    split: str | None
    batch_size: int
    recalibrate: bool
    views: int | None
    corrupt: Literal["raise", "skip"]
    cache_dir: str | None

    def writer(self, progress: Progress | None = None) -> _Predicting:
        """Open runs and data."""
        members = [_member(one, self.recalibrate) for one in self.runs]
        if not members:
            raise InputError("No run is given.", "at least one run folder.")
        _require_same_questions(members)
        opened = None if holds_images(Path(self.data)) else open_dataset(self.data, progress=progress)
        if opened is None and (self.split is not None or self.cache_dir is not None):
            raise InputError("Images that are not in a dataset have no splits and no cache.", hint="Omit the option.")
        split = None if opened is None else self.split or "test"
        if opened is not None and split is not None:
            opened.require(split)
            _require_questions_of(members[0], opened, self.data)
        loaders: dict[int, Loader] = {}
        for size in sorted({each.model.design.image_size for each in members}):
            if opened is not None and split is not None:
                loaders[size] = loader(
                    opened, self.batch_size, size, split=split, cache_dir=self.cache_dir, errors=self.corrupt
                )
            else:
                loaders[size] = image_loader(Path(self.data), members[0].campaign, self.batch_size, size, self.corrupt)
        keys = next(iter(loaders.values())).keys
        check_keys(keys, self.data)
        views = self.views or max(_views(each) for each in members)
        return _Predicting(members, loaders, opened, split, views, _seen(members, opened, split, keys))


@dataclass(frozen=True, slots=True)
class _Predicting:
    """Writes the parts of a prediction file.

    Attributes:
        members: The runs.
        loaders: The galaxies, at each size that a run sees.
        opened: Dataset of the galaxies, if they are in one.
        split: Its split.
        views: Number of orientations of each image.
        is_seen: Which galaxies a run was trained on.
    """

    members: Sequence[Member]
    loaders: Mapping[int, Loader]
    opened: Dataset | None
    split: str | None
    views: int
    is_seen: pl.Series

    stage = "Predicting galaxies"

    @property
    def _galaxies(self) -> Loader:
        return next(iter(self.loaders.values()))

    @property
    def is_dataset(self) -> bool:
        """Whether the images are those of a dataset."""
        return self.opened is not None

    @property
    def n_rows(self) -> int:
        """Number of galaxies."""
        return self._galaxies.keys.height

    @property
    def n_outputs(self) -> int:
        """Number of outputs of each model."""
        return len(self.members[0].model.design.columns)

    @property
    def not_predicted(self) -> tuple[str, ...]:
        """Questions that a run has not learned."""
        return tuple(dict.fromkeys(name for each in self.members for name in each.not_predicted))

    @property
    def about(self) -> dict[str, object]:
        """What the predictions depend on, as JSON values."""
        target = self.members[0].target
        return {
            "run_sha256": _one_or_all([files.sha256(each.run / "run.json") for each in self.members]),
            "data_sha256": self.opened.digest if self.opened else self._galaxies.state_dict()["data"],
            "hub": dict(self.opened.origin) if self.opened and self.opened.origin else None,
            "split": self.split,
            "is_simulated": self.opened.is_simulated if self.opened else None,
            "views": self.views,
            "is_recalibrated": any(
                each.recalibration is not None or each.target_recalibration for each in self.members
            ),
            "not_predicted": list(self.not_predicted),
            **({"target": target.to_dict()} if target else {}),
        }

    @property
    def origin(self) -> dict[str, object]:
        """What a score needs to know of the training, as JSON values."""
        schemes = [each.training_data.get("split_scheme") for each in self.members]
        baselines = [each.metadata.get("baseline") for each in self.members]
        return {
            "trained_by_scheme": _one_or_all(list(dict.fromkeys(schemes))),
            "models": [_origin(each) for each in self.members],
            "baseline": baselines[0] if all(each == baselines[0] for each in baselines) else None,
        }

    @property
    def digest(self) -> str:
        """Checksum of all that the parts depend on."""
        return files.digest(self.about)

    def write(self, path: Path, rows: IntArray, progress: Progress | None) -> None:
        """Write the predictions of some galaxies; the metadata contain which were skipped, and why."""
        values, is_read, is_far = _predict_rows(self.members, self.loaders, rows, self.views, progress)
        lost = {one: _why(self.loaders.values(), one) for one in self._galaxies.keys["id_str"][rows[~is_read]]}
        write_prediction_table(
            path,
            self.table(rows[is_read], values[:, is_read]),
            {"skipped": lost, "n_unfamiliar": is_far.sum(axis=1).tolist()},
        )

    def table(self, rows: IntArray, values: FloatArray) -> pl.DataFrame:
        """Return the predictions of some galaxies, from the outputs of the models, shape (member, row, output)."""
        keys, target = self._galaxies.keys[rows], self.members[0].target
        if target:
            named = target_columns(keys, values, self.members, target)
        else:
            named = vote_columns(keys, values, self.members, self.not_predicted, self._galaxies.tree)
        return named.with_columns(in_training_set=self.is_seen[rows])


def vote_columns(
    keys: pl.DataFrame, values: FloatArray, members: Sequence[Member], not_predicted: Sequence[str], tree: Tree
) -> pl.DataFrame:
    """Return the columns of a prediction file: all that depends on what the heads of the models predict.

    Args:
        keys: `dataset_name` and `id_str` of each galaxy.
        values: Output of the models, shape (member, galaxy, concentration).
        members: The runs.
        not_predicted: Questions whose cells are null.
        tree: Decision tree.
    """
    final = np.array(values)
    for i, each in enumerate(members):
        if each.recalibration is not None and final.shape[1]:
            final[i] = each.recalibration.apply(values[i : i + 1], tree)[0]
    for name in not_predicted:
        final[..., tree.concentration_slice(name)] = np.nan
    return prediction_table(keys, final if len(members) > 1 else final[0], tree)


def target_columns(keys: pl.DataFrame, values: FloatArray, members: Sequence[Member], target: Target) -> pl.DataFrame:
    """Return the columns of a prediction file of a target; several runs are a mixture.

    Args:
        keys: `dataset_name` and `id_str` of each galaxy.
        values: Output of the models, shape (member, galaxy, column).
        members: The runs.
        target: What they predict.
    """
    each = np.exp(values) if target.kind == "classes" else values
    each = np.stack(
        [recalibrated(target, one, run.target_recalibration) for one, run in zip(each, members, strict=True)]
    )
    mixed = each.mean(axis=0)
    if target.kind == "value":
        mixed[:, 1] = np.sqrt((each[..., 1] ** 2 + (each[..., 0] - mixed[:, 0]) ** 2).mean(axis=0))
    return keys.with_columns(pl.Series(name, column) for name, column in zip(target.columns, mixed.T, strict=True))


def _predict_rows(
    members: Sequence[Member], loaders: Mapping[int, Loader], rows: IntArray, views: int, progress: Progress | None
) -> tuple[FloatArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the outputs of all models, shape (member, row, output); which rows have an image, shape (row,); and which
    are far from the images that a model was trained on, shape (member, row).

    Rows are always in the same batches, so that a resumed prediction gives the same numbers.
    """
    n_outputs = len(members[0].model.design.columns)
    values = np.full((len(members), len(rows), n_outputs), np.nan)
    is_far = np.zeros((len(members), len(rows)), bool)
    n_passes = np.zeros(len(rows), np.int64)
    for size, galaxies in loaders.items():
        n_batches = -(-len(rows) // galaxies.batch_size)
        for batch in galaxies.batches_of(np.array_split(rows, n_batches)):
            places = batch["index"].cpu().numpy() - rows[0]
            for i, each in enumerate(members):
                if each.model.design.image_size == size:
                    values[i, places], features = _outputs(each.model, batch, views)
                    if each.distance is not None:
                        is_far[i, places] = each.distance.is_far(features.cpu()).numpy()
            n_passes[places] += 1
            if progress:
                done = int(rows[0]) + int(n_passes.sum()) // len(loaders)
                progress("Predicting galaxies", done, len(galaxies.rows))
    return values, n_passes == len(loaders), is_far


def _why(loaders: Iterable[Loader], id_str: str) -> str:
    """Return why a galaxy was skipped."""
    return next((each.skipped[id_str] for each in loaders if id_str in each.skipped), "")


def _one_or_all(values: list[object]) -> object:
    return values[0] if len(values) == 1 else values


def _member(run: Path, recalibrate: bool) -> Member:
    """Return a run that predicts, on the fastest device.

    Raises:
        NotFoundError: The run does not exist or is not finished.
        DatasetError: It is not a valid run.
        InputError: It has not learned any question.
    """
    member = open_member(run, recalibrate=recalibrate)
    if not member.target and len(member.not_predicted) == len(member.campaign.published_tree.questions):
        raise InputError(
            f"The model in '{run}' has not learned any question: fewer than {MIN_GALAXIES_WITH_VOTES} of the galaxies "
            "that it was trained on have votes on each.",
            hint="Train it on more galaxies.",
        )
    member.model.to(fastest_device()).eval()
    return member


def open_member(run: Path, *, recalibrate: bool = True) -> Member:
    """Return a run with all that turns the output of its model into predictions, on the CPU.

    Args:
        run: Run folder.
        recalibrate: Whether to apply the recalibration fitted on the validation split.

    Raises:
        NotFoundError: The run does not exist or is not finished.
        DatasetError: It is not a valid run.
    """
    model, metadata = open_run(run)
    training_data = cast("Mapping[str, object]", metadata["data"])
    campaign = of_manifest(training_data, run / "run.json")
    target = model.design.target
    not_predicted = () if target else _unlearned_questions(run, training_data, campaign.published_tree)
    kept = metadata.get("recalibration") if recalibrate else None
    recalibration = None if kept is None or target else Recalibration.from_dict(kept, run / "run.json")
    of_target = cast("Mapping[str, float]", kept or {}) if target else {}
    distance = read_distance(run, model.n_features)
    return Member(run, model, metadata, training_data, campaign, not_predicted, recalibration, of_target, distance)


def _origin(member: Member) -> dict[str, object]:
    """Return what readers of a report want to know about a model: its encoder, its training set, and when it was made.

    A run has no date of its own, so that the same training gives the same run; the day is that of its file.
    """
    about, data, design = member.metadata, member.training_data, member.model.design
    start = cast("Mapping[str, object] | None", about.get("from"))
    hub = cast("Mapping[str, object] | None", data.get("hub"))
    is_pretrained = bool(cast("Mapping[str, object]", about.get("settings", {})).get("pretrained"))
    made = datetime.fromtimestamp((member.run / "run.json").stat().st_mtime, tz=UTC)
    return {
        "encoder": design.encoder,
        "size": design.size,
        "from": str(start.get("name", "")) if start else "weights of timm" if is_pretrained else "",
        "data": str(hub["repository"]) if hub and "repository" in hub else str(data.get("campaign", "")),
        "n_train": about.get("n_train"),
        "date": made.strftime("%Y-%m-%d"),
    }


def _views(member: Member) -> int:
    """Return the number of views that a run predicts with."""
    return int(cast("Mapping[str, int]", member.metadata.get("settings", {})).get("views", 1))


def _require_same_questions(members: Sequence[Member]) -> None:
    """Check that the models of an ensemble predict the same questions."""
    first = members[0]
    for each in members[1:]:
        if each.target != first.target:
            names = [one.target.name if one.target else "votes" for one in (first, each)]
            raise DatasetError(
                f"The models in '{first.run}' and '{each.run}' predict {names[0]} and {names[1]}.",
                "runs of one target with the same classes.",
                "Predict with each of them alone.",
            )
        if not first.target and each.campaign.published_tree.questions != first.campaign.published_tree.questions:
            raise DatasetError(
                f"The models in '{first.run}' and '{each.run}' predict the questions of {first.campaign.name} and "
                f"{each.campaign.name}.",
                "runs of one campaign.",
                "Predict with each of them alone.",
            )


def _require_questions_of(member: Member, opened: Dataset, data: str) -> None:
    """Check that a model predicts the questions of a dataset."""
    tree, campaign = opened.tree, member.campaign
    if member.target:  # which images of any dataset have
        return
    if not tree.questions:
        raise DatasetError(
            f"The model in '{member.run}' predicts the votes of {campaign.name}, but '{data}' contains labels.",
            hint="Train a model on one of the labels, with --target.",
        )
    if member.model.design.columns != tree.concentrations or campaign.published_tree.questions != tree.questions:
        other = "another definition of it" if campaign.name == opened.campaign.name else opened.campaign.name
        raise DatasetError(
            f"The model in '{member.run}' predicts the questions of {campaign.name}, but '{data}' has those of "
            f"{other}.",
            hint=f"Train a model on a dataset of {opened.campaign.name}, for example this one.",
        )


def check_keys(keys: pl.DataFrame, data: str) -> None:
    """Check that every galaxy has an identifier of its own.

    Raises:
        DatasetError: One does not.
    """
    expected, hint = "a text of its own for each galaxy.", "Rebuild the dataset with `gzoo build`."
    dtype = keys.schema["id_str"]
    if dtype != pl.String:
        raise DatasetError(f"Column 'id_str' of '{data}' has type {dtype}.", expected, hint)
    if keys["id_str"].null_count():
        row = keys["id_str"].is_null().arg_true()[0]
        raise DatasetError(f"'{data}', row {row}: id_str is null.", expected, hint)
    repeated = keys.is_duplicated()
    if repeated.any():
        row = repeated.arg_true()[0]
        raise DatasetError(
            f"'{data}', row {row}: id_str '{keys['id_str'][row]}' occurs more than once.", expected, hint
        )


def _seen(members: Sequence[Member], opened: Dataset | None, split: str | None, keys: pl.DataFrame) -> pl.Series:
    """Return which galaxies a model of the ensemble was trained on; null where that cannot be known."""
    if opened is None or split is None:
        return pl.Series("in_training_set", [None] * keys.height, dtype=pl.Boolean)
    found = pl.Series("in_training_set", [False] * keys.height, dtype=pl.Boolean)
    for each in members:
        trained_on = pl.read_parquet(each.run / "training_galaxies.parquet", glob=False)
        is_same = each.training_data["manifest_sha256"] == opened.digest
        found = found | _is_among(trained_on, keys if is_same else opened.positions(split))
    return found


def _unlearned_questions(run: Path, training_data: Mapping[str, object], tree: Tree) -> tuple[str, ...]:
    """Return the questions that a model is not asked to predict, since it saw too few galaxies with votes on them."""
    try:
        n_of = cast("Mapping[str, int]", training_data["n_galaxies_by_question"])
        return tuple(one.name for one in tree.questions if n_of[one.name] < MIN_GALAXIES_WITH_VOTES)
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"'{run / 'run.json'}' does not say how many galaxies have votes on each question.",
            "data.n_galaxies_by_question, an integer for each question.",
            "Train the model again.",
        ) from error


def _is_among(trained_on: pl.DataFrame, galaxies: pl.DataFrame) -> pl.Series:
    """Return which galaxies a model was trained on.

    Args:
        trained_on: `dataset_name`, `id_str`, `ra` and `dec` of the training galaxies.
        galaxies: The same of other galaxies. With positions, a galaxy is recognised in another dataset too, where it
            may have another identifier; within one dataset, the splits decide.
    """
    known = trained_on.select(*KEY, in_training_set=pl.lit(True))
    is_seen = galaxies.select(KEY).join(known, on=KEY, how="left", maintain_order="left")["in_training_set"]
    found = is_seen.is_not_null().to_numpy()
    if "ra" in galaxies.columns:
        found |= is_near(*(one[name].to_numpy() for one in (galaxies, trained_on) for name in ("ra", "dec")))
    return pl.Series("in_training_set", found)


def concentrations(model: Model, batch: Batch, views: int) -> FloatArray:
    """Return the predicted concentrations of a batch, shape (galaxy, concentration).

    For a model of a target, they are log probabilities, shape (galaxy, class), or mean and spread, shape (galaxy, 2).

    Args:
        model: Model to apply, on the device where it is to run.
        batch: Batch of images without augmentation.
        views: Number of orientations of each image, over which the head of the model averages; see `orientations`.
    """
    return _outputs(model, batch, views)[0]


def _outputs(model: Model, batch: Batch, views: int) -> tuple[FloatArray, torch.Tensor]:
    """Return what `concentrations` does, and the features of the images as stored."""
    image = batch["image"].to(next(model.parameters()).device)
    with torch.inference_mode():
        features = [model.features(view) for view in orientations(image, batch["id_str"], views)]
        of_views = torch.stack([model.head(each).double() for each in features])
        return model.head.average(of_views).cpu().numpy(), features[0]


def predict_concentrations(model: Model, galaxies: Loader, *, views: int = 1) -> FloatArray:
    """Return the predicted concentrations of a loader's galaxies in their order, shape (galaxy, concentration).

    Args:
        model: Model to apply.
        galaxies: Loader of the images, without augmentation.
        views: Number of orientations of each image; see `concentrations`.
    """
    model.to(fastest_device()).eval()
    return np.concatenate([concentrations(model, batch, views) for batch in galaxies])
