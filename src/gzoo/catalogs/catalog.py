"""Morphology catalogues: votes and posterior vote fractions with credible intervals, one row per galaxy."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections import deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import hpgeom
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from gzoo import files, sky
from gzoo.catalogs.columns import HEALPIX, NO_HEALPIX, Column, Names, catalogue_columns, healpix_column
from gzoo.catalogs.coverage import HeldOutCoverage, held_out_coverage
from gzoo.catalogs.formats import FORMATS, Write, refuse_columns, refuse_content, refuse_text, schema, writer
from gzoo.catalogs.hats import hats
from gzoo.catalogs.image_folder import ImageFolder, open_image_folder
from gzoo.catalogs.origin import KIND, Content, origin, readme
from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.display import Shown
from gzoo.errors import GZooWarning, InputError, NotFoundError, TableError, choices, suggestion
from gzoo.files import Progress, refuse_file
from gzoo.scoring.likelihood import fit_baseline
from gzoo.scoring.posterior import HeldOut, of_votes, read_held_out
from gzoo.scoring.prediction_files import read_metadata
from gzoo.trees.tree import FloatArray, IntArray, Tree

ENDINGS = tuple(FORMATS)
ROWS = 10_000
"""Rows of a batch, which is a row group of a Parquet file."""
MAX_FITTED = 40_000
"""Galaxies that the prior of a catalogue from votes alone is fitted to."""
TEXTS = ("dataset_name", "id_str", "source_id", "split")


@dataclass(frozen=True, slots=True, repr=False)
class CatalogResult(Shown):
    """Summary of a catalogue that was written.

    Attributes:
        path: The catalogue.
        readme: Its columns, origin, licence and papers, to read.
        n_galaxies: Number of rows.
        n_with_votes: Galaxies with votes; for the others, the catalogue repeats the prediction.
        n_without_position: Galaxies without a position.
        n_in_training_set: Galaxies whose posterior is that of their votes alone, because a model was trained on them.
        n_columns: Number of columns.
        level: Probability mass of the credible intervals.
        posterior: What the posterior is made of, in a sentence.
        not_predicted: Questions of the dataset that are neither predicted nor in the catalogue.
        proportion_asked_unknown: Questions whose proportion of volunteers asked cannot be computed from the questions
            of the catalogue.
        calibration: What the held-out votes say about the intervals of each question; questions without votes are
            left out.
        is_simulated: Whether the dataset is simulated.
    """

    path: Path
    readme: Path
    n_galaxies: int
    n_with_votes: int
    n_without_position: int
    n_in_training_set: int
    n_columns: int
    level: float
    posterior: str
    not_predicted: tuple[str, ...]
    proportion_asked_unknown: tuple[str, ...]
    calibration: Mapping[str, HeldOutCoverage]
    is_simulated: bool


def catalog(
    predictions: Sequence[Path | str] | None,
    dataset: Path | str,
    *,
    out: Path | str,
    level: float = 0.9,
    positions: Path | str | None = None,
    questions: Sequence[str] = (),
    names: Names = "legal",
    include_trained_on: bool = False,
    allow_bad_positions: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CatalogResult:
    """Write a catalogue of votes and posterior vote fractions.

    It has one row per galaxy, in a format that astronomers' tools read, sorted by position on the sky, with the columns

    - `dataset_name`, `id_str`, `ra`, `dec`, `source_id`, `split`;
    - for each question, the proportion of volunteers asked with its credible interval, and the total votes;
    - for each answer, its vote count and vote fraction, and its posterior mean and credible interval: the fraction
      among the volunteers who are asked the question.

    The posterior combines predictions with the votes that their model has not seen. Without predictions, it is that of
    the votes and of a prior that is fitted to the votes of all galaxies. Units, UCDs, descriptions, origin, citation
    and licence are in the file, and in a ReadMe beside it.

    Column names differ from those of prediction files, because scoring a catalogue would use its votes twice.

    Args:
        predictions: Prediction files with concentrations; none for a catalogue of votes alone. Several files are
            merged; of each, the galaxies that its model was not trained on are used.
        dataset: Dataset with the votes: a folder, a campaign's name or `owner/name` on the Hub. With `positions`, the
            folder or archive of images that the predictions are for.
        out: Catalogue to write: `.fits`, `.vot`, `.ecsv`, `.parquet` or `.csv`; without a suffix, a folder with a HATS
            collection.
        level: Probability mass of the credible intervals, between 0 and 1.
        positions: Table with the positions of images without votes: `id_str` (the name of the file without its
            ending), `ra` and `dec`.
        questions: Question to include, of those that are predicted; by default all.
        names: "legal" for column names with underscores, which FITS, VOTable, SQL and ADQL accept without quotes;
            "published" for the names of datasets, with hyphens.
        include_trained_on: Include galaxies that all models were trained on, with the posterior of their votes alone;
            the column `in_training_set` marks them.
        allow_bad_positions: Go on where more than 10% of the dataset's positions are out of range.
        overwrite: Replace an earlier catalogue.
        progress: Called with (stage, galaxies done, galaxies in total).

    Raises:
        InputError: `level` is not between 0 and 1, `out` has another suffix or its format cannot hold the catalogue,
            or a question is unknown.
        NotFoundError: A file or folder does not exist.
        MissingExtraError: FITS needs astropy.
        TableError: A file contains no predictions that can be combined with votes, see `read_held_out`; a galaxy is
            listed twice; or more than 10% of the positions are out of range.
        OutputExistsError: `out` already exists.
    """
    out, paths = Path(out), [Path(one) for one in predictions or ()]
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level}.")
    is_folder = not out.suffix
    if is_folder:
        _refuse_inputs(out, [*paths, Path(dataset), *([Path(positions)] if positions else [])])
        files.refuse_occupied(out, kind=KIND, overwrite=overwrite)
    else:
        refuse_file(out, KIND, ENDINGS, overwrite=overwrite, inputs=[*paths, dataset, positions])
    opened = (
        open_dataset(dataset, progress=progress)
        if positions is None
        else open_image_folder(Path(dataset), positions, paths, allow_bad=allow_bad_positions)
    )
    _check_questions(questions, opened.tree)
    counted = [one.name for one in opened.tree.questions if one.name not in opened.not_collected]
    dictionary = partial(
        catalogue_columns,
        counted=counted,
        is_predicted=bool(paths),
        level=level,
        names=names,
        questions=questions,
    )
    refuse_columns(out, dictionary(_expected(paths, opened.tree)))
    prior, of_prior = _prior(opened) if include_trained_on or not paths else (None, "")
    sources = read_held_out(paths, opened, prior=prior) if paths else [_of_dataset(opened, prior)]
    tree = sources[0].votes.tree
    columns = dictionary(tree)
    if is_folder or out.suffix == ".parquet":
        columns = (*columns, healpix_column())
    rows = _rows_of(sources, opened, allow_bad=allow_bad_positions)
    held_out = [one for one in sources if not one.in_training_set]
    n_trained_on = sum(len(one) for one in sources if one.in_training_set) if paths else 0
    result = CatalogResult(
        path=out,
        readme=out / "ReadMe" if is_folder else out.with_name(f"{out.name}.ReadMe"),
        n_galaxies=rows.height,
        n_with_votes=sum(int((one.votes.totals > 0).any(axis=1).sum()) for one in sources),
        n_without_position=int(np.isnan(rows["ra"].to_numpy()).sum()),
        n_in_training_set=n_trained_on,
        n_columns=len(columns),
        level=level,
        posterior=_in_words(paths, of_prior, n_trained_on, level, has_votes=positions is None),
        not_predicted=()
        if positions
        else tuple(one.name for one in opened.tree.questions if one not in tree.questions),
        proportion_asked_unknown=tree.unreachable,
        calibration=held_out_coverage(held_out, opened, level) if paths and held_out and positions is None else {},
        is_simulated=opened.is_simulated,
    )
    _warn(result)
    content = _content(result, opened, sources, columns, rows)
    refuse_content(out, content)
    for name in TEXTS:
        refuse_text(out, name, rows[name])
    batches = _batches(sources, rows, columns, counted, level)
    with _collection(out, content, rows, overwrite) if is_folder else writer(out, content) as write:
        for done, batch in batches:
            write(batch)
            if progress:
                progress("Writing catalogue", done, result.n_galaxies)
    if not is_folder:
        files.write_bytes(result.readme, readme(content, out.name).encode())
    return result


@contextlib.contextmanager
def _collection(out: Path, content: Content, rows: pl.DataFrame, overwrite: bool) -> Generator[Write]:
    """Yield what writes a HATS collection, which appears when it is complete."""
    begun = {"command": "catalog", "about": content.about}
    with files.work(out, kind=KIND, begun=begun, overwrite=overwrite) as folder:
        for left in folder.iterdir():  # of an interrupted run, which is not resumed
            if left.is_dir():
                shutil.rmtree(left)
        with hats(folder, content, rows[HEALPIX].to_numpy()) as write:
            yield write
        files.write_bytes(folder / "ReadMe", readme(content, out.name).encode())
        files.write_json(folder / files.MARKS[KIND], content.about)


def _refuse_inputs(out: Path, inputs: Sequence[Path]) -> None:
    """Check that a folder is not, contains or is inside what is read, which would be lost or changed with it."""
    place = out.resolve()
    for one in (given.resolve() for given in inputs):
        if place == one or place.is_relative_to(one) or one.is_relative_to(place):
            said = "is also" if place == one else "contains" if one.is_relative_to(place) else "is inside"
            raise InputError(
                f"'{out}' {said} an input, '{one}'.", "a folder apart from all inputs.", "Choose another --out."
            )


def _check_questions(questions: Sequence[str], tree: Tree) -> None:
    known = [one.name for one in tree.questions]
    for name in questions:
        if name not in known:
            raise NotFoundError(
                f"Question not found: '{name}'.", choices(known, name), suggestion(known, name, "Check --questions.")
            )


def _expected(predictions: Sequence[Path], tree: Tree) -> Tree:
    """Return the questions that a catalogue will have as far as file headers tell, to refuse it before any work."""
    kept = {one.name for one in tree.questions}
    for path in predictions:
        if path.suffix != ".parquet" or not path.is_file():
            continue
        try:
            known = set(pl.scan_parquet(path, glob=False).collect_schema().names())
        except (pl.exceptions.PolarsError, OSError):  # it is explained where the file is read
            continue
        listed = read_metadata(path).get("not_predicted")
        empty = {str(one) for one in listed} if isinstance(listed, list) else set[str]()
        kept &= {
            one.name
            for one in tree.questions
            if one.name not in empty and any(name.startswith(f"{one.columns[0]}") for name in known)
        }
    questions = tuple(one for one in tree.questions if one.name in kept)
    others = [column for one in tree.questions if one not in questions for column in one.columns]
    return Tree(tree.name, questions, tree.unavailable.union(others)) if questions else tree


def _prior(dataset: Dataset) -> tuple[FloatArray, str]:
    """Return the concentrations that fit the votes of a dataset, and to whose votes they are fitted."""
    split = "train" if "train" in dataset.splits else dataset.splits[0]
    _, votes = dataset.read_votes(split)
    few = votes.take(np.arange(0, len(votes), -(-len(votes) // MAX_FITTED)))
    return fit_baseline(few), f"{len(few):,} galaxies of the {split} split"


def _of_dataset(dataset: Dataset, prior: FloatArray | None) -> HeldOut:
    """Return all galaxies of a dataset with their votes on the questions that were collected."""
    from gzoo.scoring.matching import match

    assert prior is not None
    parts = [dataset.positions(split).select(KEY) for split in dataset.splits]
    keys = pl.concat(parts)
    _refuse_twice(keys, f"'{dataset.folder}'")
    tree = dataset.tree
    if dataset.not_collected:
        questions = tuple(one for one in tree.questions if one.name not in dataset.not_collected)
        others = [column for one in tree.questions if one not in questions for column in one.columns]
        tree = Tree(tree.name, questions, tree.unavailable.union(others))
    matched = match(dataset, keys, dataset.folder, tree=tree)
    return of_votes(matched.keys, matched.votes, dataset.tree, prior, dataset.folder)


def _refuse_twice(keys: pl.DataFrame, source: str) -> None:
    twice = keys.is_duplicated()
    if twice.any():
        first = keys.row(int(twice.arg_max() or 0), named=True)
        raise TableError(
            f"{source} lists {int(twice.sum()):,} rows with an identifier that another row has, first "
            f"'{first['id_str']}' of {first['dataset_name']}.",
            "one row for each dataset_name and id_str.",
            "Correct the identifiers, and build the dataset again.",
        )


def _rows_of(sources: Sequence[HeldOut], dataset: Dataset, *, allow_bad: bool) -> pl.DataFrame:
    """Return a row for each galaxy, sorted by position: keys, position, and where its votes and predictions are."""
    theirs = pl.concat([dataset.positions(split) for split in dataset.splits])
    _refuse_twice(theirs.select(KEY), f"'{dataset.folder}'")
    place = f"'{dataset.folder}'"
    found = sky.read_positions(theirs["ra"], theirs["dec"], source=place, allow_bad=allow_bad)
    for text in found.warnings:
        warnings.warn(text, GZooWarning, stacklevel=3)
    theirs = theirs.with_columns(ra=found.ra, dec=found.dec)
    rows = pl.concat(
        one.keys.with_row_index("row").with_columns(
            source=pl.lit(i, pl.Int32), in_training_set=pl.lit(one.in_training_set)
        )
        for i, one in enumerate(sources)
    )
    rows = rows.join(theirs, on=KEY, how="left", maintain_order="left").with_columns(pl.col("source_id").fill_null(""))
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    is_known = ~np.isnan(ra)
    cell = np.full(rows.height, NO_HEALPIX, np.int64)
    cell[is_known] = hpgeom.angle_to_pixel(1 << 29, ra[is_known] % 360, dec[is_known])
    return rows.with_columns(pl.Series(HEALPIX, cell)).sort(HEALPIX, *KEY)


def _content(
    made: CatalogResult, dataset: Dataset, sources: Sequence[HeldOut], columns: tuple[Column, ...], rows: pl.DataFrame
) -> Content:
    campaign = dataset.campaign
    not_ascii = [name for name in TEXTS if rows[name].str.contains(r"[^\x00-\x7f]").any()]
    lengths = {
        name: max(len(text.encode("utf-16-be")) // 2 for text in rows[name].unique())
        if name in not_ascii
        else int(cast(int, rows[name].str.len_bytes().max()))
        for name in TEXTS
    }
    is_folder = isinstance(dataset, ImageFolder)
    about = origin(
        campaign,
        None if is_folder else dataset,
        sources,
        is_simulated=made.is_simulated,
        level=made.level,
        posterior=made.posterior,
        calibration={name: asdict(one) for name, one in made.calibration.items()},
        **({"positions": {"file": dataset.positions_file.name, "sha256": dataset.digest}} if is_folder else {}),
    )
    title = f"Morphology of {made.n_galaxies:,} galaxies from {campaign.title}"
    said = f"{title}{' (SIMULATED)' * made.is_simulated}"
    what = "Predicted" if is_folder else "Votes of volunteers and posterior"
    text = f"{what} vote fractions of {made.n_galaxies:,} galaxies. {campaign.description}"
    return Content(
        said,
        text,
        columns,
        lengths,
        rows.height,
        about,
        frozenset(not_ascii),
    )


def _in_words(predictions: Sequence[Path], of_prior: str, n_trained_on: int, level: float, *, has_votes: bool) -> str:
    votes = f"the votes of each galaxy and a prior that is the same for all, fitted to {of_prior}"
    if not predictions:
        said = f"The posterior is that of {votes}."
    elif not has_votes:
        said = "The posterior is that of the predictions alone, because nobody has voted on these galaxies."
    else:
        said = "The posterior combines predictions with the votes of galaxies that their model was not trained on."
        if n_trained_on:
            said += f" For the {n_trained_on:,} galaxies with in_training_set, it is that of {votes}."
    return f"{said} Credible intervals contain {level:.0%}, and the mean."


def _warn(made: CatalogResult) -> None:
    off = [f"{name} ({one.verdict}, {one.coverage:.0%})" for name, one in made.calibration.items() if one.is_off]
    if off:
        warnings.warn(
            f"The predictions do not agree with held-out votes for {len(off)} of {len(made.calibration)} questions "
            f"(verdict, coverage of {made.level:.0%} intervals): {', '.join(off)}. Credible intervals of "
            "these questions are as wrong as the predictions, even where coverage is right on average. "
            "`gzoo score --report` shows how they disagree, and `gzoo recalibrate` corrects predictions.",
            GZooWarning,
            stacklevel=3,
        )


# ----------------------------------------------------------------------------------------------------
# Rows


def _batches(
    sources: Sequence[HeldOut],
    rows: pl.DataFrame,
    columns: tuple[Column, ...],
    counted: Collection[str],
    level: float,
) -> Generator[tuple[int, pa.RecordBatch]]:
    """Yield the number of rows so far, and a batch of them, computed by several threads."""
    made = schema(columns)

    def batch(start: int) -> pa.RecordBatch:
        few = rows.slice(start, ROWS)
        parts = [(at, _values(sources[i], few, at, counted, level)) for i, at in _by_source(few)]
        if len(parts) == 1:
            values = parts[0][1]
        else:
            order = np.argsort(np.concatenate([at for at, _ in parts]))
            values = {name: np.concatenate([part[name] for _, part in parts])[order] for name in parts[0][1]}
        arrays = [_arrow(few, values, column) for column in columns]
        return pa.RecordBatch.from_arrays(arrays, schema=made)

    n_threads = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_threads) as threads:
        waiting: deque[tuple[int, Future[pa.RecordBatch]]] = deque()
        try:
            for start in range(0, rows.height, ROWS):
                waiting.append((min(start + ROWS, rows.height), threads.submit(batch, start)))
                if len(waiting) > n_threads:
                    done, one = waiting.popleft()
                    yield done, one.result()
            while waiting:
                done, one = waiting.popleft()
                yield done, one.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _by_source(few: pl.DataFrame) -> Iterator[tuple[int, IntArray]]:
    of = few["source"].to_numpy()
    for i in np.unique(of).tolist():
        yield i, np.flatnonzero(of == i)


def _values(
    source: HeldOut, few: pl.DataFrame, at: IntArray, counted: Collection[str], level: float
) -> dict[str, npt.NDArray[np.number]]:
    """Return the numbers of some galaxies of one source, by the published name of the column."""
    chosen = few["row"].to_numpy()[at].astype(np.int64)
    found = source.posterior(chosen)
    votes, tree = source.votes.take(chosen), source.votes.tree
    fractions = [_by_column(one) for one in (found.fractions, *found.interval(level))]
    asked = [_by_column(one) for one in (found.proportion_asked, *found.proportion_asked_interval(level))]
    observed = _by_column(votes.fractions)
    counts, totals = (np.ascontiguousarray(one.T, dtype=np.int32) for one in (votes.counts, votes.totals))
    values: dict[str, npt.NDArray[np.number]] = {}
    for i, question in enumerate(tree.questions):
        for end, one in zip(("proportion_volunteers_asked", *ASKED_ENDS), asked, strict=True):
            values[f"{question.name}_{end}"] = one[i]
        if question.name in counted:
            values[question.total_column] = totals[i]
        for j, column in enumerate(question.columns, tree.starts[i]):
            for end, one in zip(("mean", "low", "high"), fractions, strict=True):
                values[f"{column}_posterior_{end}"] = one[j]
            if question.name in counted:
                values[f"{column}_vote_count"], values[f"{column}_vote_fraction"] = counts[j], observed[j]
    return values


ASKED_ENDS = ("proportion_asked_low", "proportion_asked_high")


def _by_column(matrix: FloatArray) -> npt.NDArray[np.float32]:
    """Return the columns as contiguous rows, which Arrow takes without copying."""
    return np.ascontiguousarray(matrix.T, dtype=np.float32)


def _arrow(few: pl.DataFrame, values: Mapping[str, npt.NDArray[np.number]], column: Column) -> pa.Array:
    if column.published in values:
        return pa.array(values[column.published], from_pandas=bool(column.missing))  # NaN becomes null
    one = few[column.published]
    if column.kind == "float64":
        return pa.array(one.to_numpy(), from_pandas=True)
    return one.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema((column,)).types[0])
