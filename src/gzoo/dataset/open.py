"""Datasets opened for reading: a folder of Parquet shards, or a name on the Hub."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, starmap
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from gzoo import files, hub
from gzoo.dataset import schema
from gzoo.dataset.index import ImageIndex, indices, read_locations, vote_columns
from gzoo.dataset.schema import KEY
from gzoo.display import Sheet, Shown
from gzoo.errors import DatasetError, GZooWarning, InputError, NotFoundError, choices, raise_passing, reason, suggestion
from gzoo.sky.identifier_split import PUBLISHED
from gzoo.trees import campaign as campaigns_of
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import Question, Tree
from gzoo.votes.votes import Votes

if TYPE_CHECKING:
    import datasets

    Loaded = datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict

MAX_COLUMNS_SHOWN = 6
ROWS_AT_ONCE = 200_000
"""Rows of votes that are in memory as a table, beside the arrays that they are read into."""

Matrix = npt.NDArray[np.int32]


def load(
    dataset: Path | str,
    name: str | None = None,
    *,
    split: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Loaded:
    """Load a dataset folder, a campaign or a name on the Hub as `datasets.load_dataset` does.

    For the Hub, the rules of `gzoo.access` apply: nobody gets what they may not read, and a cached copy is used only if
    the Hub cannot be reached, with a warning. Downloaded files are verified against the checksums of the Hub and of
    our manifest; in a stream, each page is verified where gzoo wrote it. A warning lists columns that are missing or
    unknown. `info.homepage` of the result contains the commit.

    Args:
        dataset: Dataset folder, campaign name (`gz2`), or `owner/name` on the Hub.
        name: Config, `default` or `tiny`.
        split: Split, such as `train`, `validation` or `test`; all of them if None.
        revision: Branch, tag or commit on the Hub; `main` if None.
        streaming: Read rows as they are needed, without copying the dataset to the cache.

    Raises:
        NotFoundError: The folder, campaign, config or split does not exist.
        DatasetError: The folder is not a dataset.
        AccessError: The dataset on the Hub does not exist, may not be read, or cannot be reached.
        HubError: Downloaded files were corrupt after several attempts.
    """
    found = _on_hub(dataset)
    if found:
        repository, named = found
        loaded, access = hub.load_dataset(repository, name, split, streaming, revision or named)
        if access.state == "cached":
            warnings.warn(access.message, GZooWarning, stacklevel=2)
        first = next(iter(loaded.values())) if isinstance(loaded, dict) else loaded
        match = match_campaign(set(first.column_names or ()))
        notes = match.notes if match else ()
        if first.column_names and match is None:
            notes = ("does not have the columns of any campaign. It is loaded unchanged.",)
        for note in notes:
            warnings.warn(f"'{repository}' {note}", GZooWarning, stacklevel=2)
        return loaded
    folder = Path(dataset)
    _refuse_revision(folder, revision)
    splits_of = open_dataset(folder).splits_of
    config = name or "default"
    if config not in splits_of:
        raise NotFoundError(
            f"Config '{config}' not found in '{folder}'.", choices(splits_of, config), suggestion(splits_of, config)
        )
    for part in (split or "").split("+"):
        wanted = part.partition("[")[0].strip()
        if wanted and wanted != "all":
            _require_split(folder, splits_of[config], wanted)
    if not set(str(folder.resolve())).isdisjoint("*?["):
        raise DatasetError(
            f"The path of '{folder}' contains *, ? or [, which `datasets` takes for a pattern.",
            hint="Rename or move the folder.",
        )
    import datasets

    return datasets.load_dataset(str(folder), name, split=split, streaming=streaming)


def _refuse_revision(folder: Path | str, revision: str | None) -> None:
    if revision is not None:
        raise InputError(f"'{folder}' is a folder, so revision '{revision}' does not exist.", hint="Omit the revision.")


def _on_hub(path: Path | str) -> tuple[str, str] | None:
    """Return repository and revision if a path is a name on the Hub, and None if it is a folder.

    `owner/name` is a folder if it exists or if a folder `owner` exists, because then a typing error is more likely.

    Raises:
        NotFoundError: It is neither.
    """
    text, folder = str(path), Path(path)
    if text.lower().endswith(".toml") and not folder.is_dir():
        return hub.repository_of(text)
    if folder.exists() or files.partial_name(folder.absolute()).exists():
        return None
    found = hub.repository_of(text)
    if found and ("/" not in text or not folder.parent.is_dir()):
        return found
    if "/" in text or folder.is_absolute():
        return None
    names = campaigns_of.names()
    raise NotFoundError(
        f"Dataset folder or campaign not found: '{text}'.",
        f"a dataset folder, owner/name on the Hub, or {choices(names, text)}",
        suggestion(names, text, "Check the path, or run `gzoo campaigns`."),
    )


def _require_split(folder: Path, splits: Sequence[str], split: str) -> None:
    if split not in splits:
        raise NotFoundError(
            f"Split '{split}' not found in '{folder}'.", choices(splits, split), suggestion(splits, split)
        )


@dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """A dataset folder on this machine.

    Attributes:
        folder: The folder.
        campaign: The campaign whose tree its columns follow.
        splits_of: Config -> its splits.
        digest: SHA-256 of the manifest. For a published folder without a manifest, of the list of its files with the
            checksums that the Hub lists or, outside of the Hub's cache, with size, modification time and inode.
        is_simulated: Whether it contains simulated galaxies.
        not_collected: Questions of the tree without known votes.
        split_scheme: Name of the split scheme, such as "gzoo-1"; "published" if others split it.
        origin: `repository` and `commit` on the Hub, or None.
    """

    folder: Path
    campaign: Campaign
    splits_of: Mapping[str, tuple[str, ...]]
    digest: str
    is_simulated: bool
    not_collected: tuple[str, ...]
    split_scheme: str = PUBLISHED
    origin: Mapping[str, str] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return what the dataset is as JSON values."""
        return {
            "folder": str(self.folder),
            "campaign": self.campaign.name,
            "n_galaxies": dict(self.n_galaxies),
            "configs": list(self.splits_of),
            "n_questions": len(self.tree.questions),
            "n_answers": len(self.tree.columns),
            "not_collected": list(self.not_collected),
            "labels": [one.name for one in self.campaign.labels],
            "is_simulated": self.is_simulated,
            "split_scheme": self.split_scheme,
            "digest": self.digest,
            "origin": dict(self.origin) if self.origin else None,
        }

    def sheet(self) -> Sheet:
        """Return what the dataset is, and the number of galaxies in each split."""
        return Sheet(
            f"Dataset {self.folder}{' (simulated)' * self.is_simulated}",
            {
                **(self._of_labels if self.campaign.labels else self._of_votes),
                "without votes": self.not_collected,
                "configs": list(self.splits_of) if len(self.splits_of) > 1 else None,
                "split scheme": self.split_scheme,
                "from the Hub": self.origin,
            },
            ("split", "galaxies"),
            list(self.n_galaxies.items()),
        )

    @property
    def _of_votes(self) -> dict[str, object]:
        return {
            "campaign": f"{self.campaign.title} ({self.campaign.name})",
            "decision tree": f"{len(self.tree.questions)} questions, {len(self.tree.columns)} answers",
        }

    @property
    def _of_labels(self) -> dict[str, object]:
        return {
            "labels": [
                f"{one.name} ({f'{len(one.classes)} classes' if one.classes else one.kind})"
                for one in self.campaign.labels
            ]
        }

    @cached_property
    def n_galaxies(self) -> Mapping[str, int]:
        """Number of galaxies of each split of the default config."""
        paths = {split: files.shards(self.folder, split) for split in self.splits}
        return {split: sum(map(_n_rows, indices(self.folder, shards) or shards)) for split, shards in paths.items()}

    @property
    def tree(self) -> Tree:
        """The questions of the dataset."""
        return self.campaign.published_tree

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the default config."""
        return self.splits_of["default"]

    def require(self, split: str) -> None:
        """Check that a split exists.

        Raises:
            NotFoundError: It does not.
        """
        _require_split(self.folder, self.splits, split)

    def read_votes(self, split: str) -> tuple[pl.DataFrame, Votes]:
        """Return the keys and votes of a split without reading images.

        Returns:
            Columns `dataset_name` and `id_str`, one row for each galaxy, and the votes in the same order.

        Raises:
            NotFoundError: The split does not exist.
            DatasetError: A shard or its index cannot be read.
            InputError: The votes are not valid.
        """
        keys, counts, totals = self.vote_arrays(split)
        # column-major order makes sums over answers several times as fast
        return keys, Votes(self.tree, counts.astype(np.int64, order="F"), totals.astype(np.int64, order="F"))

    def vote_arrays(self, split: str, tree: Tree | None = None) -> tuple[pl.DataFrame, Matrix, Matrix]:
        """Return the keys and votes of a split as 32-bit arrays, so that millions of rows fit into memory.

        Args:
            split: The split.
            tree: The questions to read, a part of those of the dataset; by default all.

        Returns:
            Keys; vote counts, shape (galaxy, answer), and total votes, shape (galaxy, question), in row-major order.

        Raises:
            NotFoundError: The split does not exist.
            DatasetError: A shard or its index cannot be read, or contains values that are not integers.
        """
        self.require(split)
        tree, shards = tree or self.tree, files.shards(self.folder, split)
        paths = indices(self.folder, shards) or shards
        names = _columns(paths[0])
        unknown = {column for name in self.not_collected for column in self.tree.question(name).columns}
        known = [name for name in vote_columns(tree) if name in names and name not in unknown]
        wanted = [*(name for name in KEY if name in names), *known]
        keys: list[pl.DataFrame] = []
        borders = np.cumsum([0, *(_n_rows(path) for path in paths)]).tolist()
        counts = np.empty((borders[-1], len(tree.columns)), np.int32)
        totals = np.empty((borders[-1], len(tree.questions)), np.int32)
        for path, rows in zip(paths, starmap(slice, pairwise(borders)), strict=True):
            # a shard may be the whole dataset, or have no rows but columns
            for start in range(rows.start, max(rows.stop, rows.start + 1), ROWS_AT_ONCE):
                few = slice(start, min(start + ROWS_AT_ONCE, rows.stop))
                table = _read([path], wanted, few.start - rows.start, few.stop - few.start)
                keys.append(table.select(name for name in KEY if name in names))
                if tree.columns:  # a dataset of labels has no votes
                    counts[few], totals[few] = votes_in(table.select(known), tree, str(path))
        number = pl.int_range(len(counts)).cast(pl.String).str.zfill(7)
        missing = {  # old layouts lack the first, the oldest both
            "dataset_name": pl.lit(self.campaign.name),
            "id_str": pl.lit(f"{self._listing_digest()[:8]}-{split}-") + number,
        }
        key = [pl.col(name) if name in names else missing[name].alias(name) for name in KEY]
        table = pl.concat(keys) if keys[0].width else pl.select(number)
        return table.select(key), counts, totals

    def _listing_digest(self) -> str:
        """Return the digest of the names and sizes of the shards, which are the same in every copy of the folder."""
        return files.digest(sorted((path.name, path.stat().st_size) for path in self.folder.glob("*/*.parquet")))

    def image_index(self, split: str) -> ImageIndex | None:
        """Return the locations of the images of a split, in the order of `read_votes`.

        Returns:
            None without images, or if another program wrote the shards, whose images are read through Parquet.

        Raises:
            NotFoundError: The split does not exist.
            DatasetError: An index cannot be read or does not fit its shard.
        """
        self.require(split)
        shards = files.shards(self.folder, split)
        paths = indices(self.folder, shards)
        if paths is None:
            return None
        found = list(map(read_locations, paths, shards))
        shard = np.repeat(np.arange(len(shards), dtype=np.int32), [len(offset) for offset, _ in found])
        offsets, lengths = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return ImageIndex(tuple(shards), shard, offsets, lengths)

    def column(self, split: str, name: str) -> pl.DataFrame | None:
        """Return keys and one column (as `value`) of a split, in the order of `read_votes`.

        Returns:
            None if the column does not exist.

        Raises:
            NotFoundError: The split does not exist.
            DatasetError: A shard cannot be read.
        """
        self.require(split)
        paths = files.shards(self.folder, split)
        if name == "image" or name not in _columns(paths[0]):
            return None
        return self.positions(split).select(KEY).with_columns(value=_read(paths, [name]).to_series())

    @cached_property
    def column_types(self) -> Mapping[str, pl.DataType]:
        """Type of each column of the default config except the images."""
        shard = files.shards(self.folder, self.splits[0])[0]
        with reading(shard):
            types = pl.scan_parquet(shard, glob=False).collect_schema()
        return {name: dtype for name, dtype in types.items() if name != "image"}

    def table(self, split: str, columns: Sequence[str]) -> pl.DataFrame:
        """Return keys and some columns of a split, in the order of `read_votes`, without reading others.

        Args:
            split: The split.
            columns: Some of `column_types`.

        Raises:
            NotFoundError: The split does not exist.
            DatasetError: A shard cannot be read.
        """
        self.require(split)
        shards = files.shards(self.folder, split)
        names = _columns(shards[0])
        if not names.issuperset(KEY):
            keys = self.read_votes(split)[0]  # old layouts, whose keys are made there
            return keys.with_columns(_read(shards, [name for name in columns if name not in KEY]))
        return _read(shards, list(dict.fromkeys([*KEY, *columns])))

    def positions(self, split: str) -> pl.DataFrame:
        """Return the keys and positions of a split without reading votes and images.

        Returns:
            One row for each galaxy with `dataset_name`, `id_str`, `ra` and `dec` (ICRS, degrees; NaN if unknown), and
            `source_id`, the survey's own identifier ('' if unknown).

        Raises:
            NotFoundError: The split does not exist.
            DatasetError: A shard cannot be read, or its positions are not numbers.
        """
        self.require(split)
        paths = files.shards(self.folder, split)
        unknown: dict[str, tuple[pl.DataType | type[pl.DataType], str | float]] = {
            "dataset_name": (pl.String, self.campaign.name),
            "id_str": (pl.String, ""),
            "ra": (pl.Float64, np.nan),
            "dec": (pl.Float64, np.nan),
            "source_id": (pl.String, ""),
        }
        names = _columns(paths[0])
        # with one column of votes, because a table without columns does not have rows either
        votes = [name for name in self.tree.columns if name in names][:1]
        table = _read(paths, [*(name for name in unknown if name in names), *votes])
        for name, (dtype, missing) in unknown.items():
            known = pl.col(name) if name in table.columns else pl.lit(missing)
            try:
                table = table.with_columns(known.cast(dtype).fill_null(missing).alias(name))
            except pl.exceptions.PolarsError as error:
                raise DatasetError(
                    f"Column '{name}' of split '{split}' in '{self.folder}' has type {table.schema[name]}.",
                    f"type {dtype}.",
                    "Rebuild the dataset or copy it again.",
                ) from error
        return table.select(list(unknown))


def open_dataset(
    dataset: Path | str, *, revision: str | None = None, progress: files.Progress | None = None
) -> Dataset:
    """Open a folder that gzoo built, a copy of a published dataset, or a name on the Hub.

    A folder without a manifest is identified by its columns: the campaign with most of its questions there. Questions
    without columns count as not collected, and a warning lists them; for a dataset from the Hub, a warning lists all
    columns that are missing or unknown.

    Args:
        dataset: Dataset folder, campaign name, or `owner/name` on the Hub; the latter two may be followed by `@` and a
            branch, tag or commit.
        revision: Branch, tag or commit on the Hub, instead of one after `@`.
        progress: Function that is called as (stage, MB done, MB) during the download.

    Raises:
        NotFoundError: The folder does not exist.
        InputError: A folder has no revision.
        DatasetError: The folder is not a dataset.
        AccessError: The dataset on the Hub does not exist, may not be read, or cannot be reached.
        HubError: Downloaded files were corrupt after several attempts.
    """
    found = _on_hub(dataset)
    if found is None:
        _refuse_revision(dataset, revision)
        return _open_folder(Path(dataset))
    repository, named = found
    folder, access = hub.copy_of(repository, revision or named, progress=progress)
    if access.state == "cached":
        warnings.warn(access.message, GZooWarning, stacklevel=2)
    opened = _open_folder(folder, access.repository)
    return replace(opened, origin={"repository": access.repository, "commit": access.resolved_commit})


def _open_folder(folder: Path, repository: str = "") -> Dataset:
    splits_of = {
        config: splits
        for config in ("default", "tiny")
        if (splits := tuple(split for split in files.SPLITS if files.shards(folder, split, config)))
    }
    if not (folder / files.MANIFEST).is_file() and "default" in splits_of:
        return _open_without_manifest(folder, splits_of, repository)
    manifest = files.open_folder(folder)
    if "default" not in splits_of:
        raise DatasetError(
            f"Dataset '{folder}' does not contain any shards.",
            "files data/*.parquet.",
            "Rebuild the dataset or copy it again.",
        )
    try:
        return Dataset(
            folder=folder,
            campaign=campaigns_of.of_manifest(manifest, folder / files.MANIFEST),
            splits_of=splits_of,
            digest=files.sha256(folder / files.MANIFEST),
            is_simulated=bool(manifest["is_simulated"]),
            not_collected=tuple(cast("list[str]", manifest["not_collected"])),
            split_scheme=str(manifest["split_scheme"]),
        )
    except KeyError as error:
        raise DatasetError(
            f"Key {error} not found in '{folder / files.MANIFEST}'.",
            "a manifest written by gzoo.",
            "Rebuild the dataset or copy it again.",
        ) from error


def _open_without_manifest(folder: Path, splits_of: Mapping[str, tuple[str, ...]], repository: str) -> Dataset:
    paths = [path for split in splits_of["default"] for path in files.shards(folder, split)]
    columns = _columns(paths[0])
    match = match_campaign(columns)
    if match is None:
        raise DatasetError(
            f"'{folder}' has neither a manifest nor the columns of any campaign.",
            "a folder made by `gzoo build`, or a copy of a published dataset.",
            "Build a dataset with `gzoo build`.",
        )
    if repository or match.not_collected:  # a local folder needs a warning only if votes are missing
        for note in match.notes:
            warnings.warn(f"'{repository or folder}' {note}", GZooWarning, stacklevel=4)
    contents = sorted((path.name, *hub.identity_of(path)) for path in folder.glob("*/*.parquet"))
    named = _read(paths, ["dataset_name"])["dataset_name"] if "dataset_name" in columns else pl.Series()
    is_simulated = any(str(name).endswith(files.SIMULATED) for name in named.unique())
    return Dataset(folder, match.campaign, splits_of, files.digest(contents), is_simulated, match.not_collected)


@dataclass(frozen=True, slots=True)
class CampaignMatch:
    """The campaign that fits the columns of a table.

    Attributes:
        campaign: The campaign.
        not_collected: Its questions whose columns are missing or incomplete.
        notes: Missing and unknown columns, as sentences without their subject.
    """

    campaign: Campaign
    not_collected: tuple[str, ...]
    notes: tuple[str, ...]


def match_campaign(columns: Set[str], among: Sequence[Campaign] = ()) -> CampaignMatch | None:
    """Return the campaign with most of its questions among some columns, and fewest others; None if none fits.

    Args:
        columns: Names of the columns.
        among: The campaigns to choose from; those of gzoo if there are none.
    """

    def present(one: Campaign) -> list[Question]:
        return [question for question in one.published_tree.questions if columns >= set(question.columns)]

    campaign = max(
        among or campaigns_of.campaigns(),
        key=lambda one: (sum(len(question.columns) for question in present(one)), -len(one.published_tree.columns)),
    )
    questions = present(campaign)
    if all(question.parents for question in questions):
        return None
    unavailable = tuple(one.name for one in campaign.published_tree.questions if one not in questions)
    expected = [name for name in schema.record(campaign).names if name != "image"]
    missing = [name for name in expected if name not in columns]
    lacking = [name for name in missing if name in {"id_str", "dataset_name", "ra", "dec", "summary"}]
    for what, suffix in (("fractions", "_fraction"), ("total votes", "_total-votes")):
        n = sum(name.endswith(suffix) for name in missing)
        lacking += [f"{n} columns of {what}"] if n else []
    notes: list[str] = []
    if lacking:
        notes.append(f"is read as {campaign.name} in an older layout. Missing columns: {', '.join(lacking)}.")
    if unavailable:
        notes.append(f"is read as {campaign.name}. Questions without votes: {', '.join(unavailable)}.")
    unknown = sorted(columns - set(expected) - {"image", "source_id"})
    if unknown:
        dots = ", ..." if len(unknown) > MAX_COLUMNS_SHOWN else ""
        notes.append(
            f"has {len(unknown)} columns that are not in {campaign.name} as published: "
            f"{', '.join(unknown[:MAX_COLUMNS_SHOWN])}{dots}."
        )
    return CampaignMatch(campaign, unavailable, tuple(notes))


def _columns(shard: Path) -> set[str]:
    with reading(shard):
        return set(pl.scan_parquet(shard, glob=False).collect_schema().names())


def _n_rows(path: Path) -> int:
    with reading(path):
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def votes_in(table: pl.DataFrame, tree: Tree, where: str) -> tuple[Matrix, Matrix]:
    """Return the votes in some rows of a dataset.

    Args:
        table: Their vote columns; missing counts are 0.
        tree: The questions.
        where: Name of the table for error messages.

    Returns:
        Vote counts, shape (galaxy, answer), in column-major order; total votes, shape (galaxy, question).

    Raises:
        DatasetError: A count is not an integer.
    """
    unavailable = {name: pl.lit(0, pl.Int32) for name in vote_columns(tree) if name not in table.columns}
    votes = table.with_columns(pl.all().fill_null(0)).with_columns(**unavailable)
    counts = _integers(votes.select(tree.columns), where)
    totals = tree.totals(counts).astype(np.int32)
    for i, question in enumerate(tree.questions):
        if question.multiple:
            totals[:, i] = _integers(votes.select(question.total_column), where)[:, 0]
    return counts, totals


def _integers(votes: pl.DataFrame, where: str) -> Matrix:
    numbers = votes.to_numpy()
    if numbers.dtype != np.int32:
        try:
            whole = numbers.astype(np.int32)
        except (TypeError, ValueError):
            whole = numbers = np.full(1, np.nan)
        if (whole != numbers).any():
            raise DatasetError(
                f"The votes of '{where}' are not integers.",
                "vote counts up to 2,147,483,647.",
                "Rebuild the dataset or copy it again.",
            )
        numbers = whole
    return cast(Matrix, numbers)


def _read(shards: Sequence[Path], columns: Sequence[str], start: int = 0, n_rows: int | None = None) -> pl.DataFrame:
    parts: list[pl.DataFrame] = []
    for shard in shards:
        with reading(shard):
            parts.append(pl.scan_parquet(shard, glob=False).select(columns).slice(start, n_rows).collect())
    return pl.concat(parts)


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """Disable the progress bars of `datasets` where gzoo shows its own."""
    import datasets

    was_quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not was_quiet:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def reading(path: Path) -> Generator[None]:
    """Explain errors of reading a file of a dataset.

    Raises:
        DatasetError: The file does not exist or is damaged.
        ReadError: The file cannot be read now.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError) as error:
        raise_passing(path, error)
        raise DatasetError(
            f"Cannot read '{path}': {reason(error)}.",
            "a Parquet file with the columns of the dataset.",
            "Rebuild the dataset or copy it again.",
        ) from error
