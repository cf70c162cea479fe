"""Datasets: a folder of Parquet shards, or a name on the Hub, opened for reading."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise, starmap
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo import files, hub
from gzoo.dataset import schema
from gzoo.dataset.index import ImageIndex, Lengths, Offsets, images_in, indices, places, vote_columns
from gzoo.dataset.schema import KEY
from gzoo.errors import DatasetError, GZooWarning, InputError, NotFoundError
from gzoo.sky.identifier_split import PUBLISHED
from gzoo.trees import campaign as campaigns_of
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import Question, Tree
from gzoo.votes.votes import Votes

if TYPE_CHECKING:
    import datasets

    Loaded = datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict

Matrix = npt.NDArray[np.int32]


def load(
    path: Path | str,
    name: str | None = None,
    *,
    split: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Loaded:
    """What `datasets.load_dataset` returns, for a dataset folder, a campaign or a name on the Hub.

    From the Hub, what `gzoo.access` says holds: nothing is served to who may not read it, and a copy in the cache
    is served unasked only where the Hub cannot be reached, with a warning that says which. What came is compared
    with what the Hub and our manifest say of it; of a stream, each page with its checksum where gzoo wrote it.
    Columns that are missing or unknown to the campaign's tree are told in a warning. `info.homepage` of what is
    returned names the commit.

    Args:
        path: A folder made by `gzoo build`, a campaign's name (`gz2`), or `owner/name` on the Hub.
        name: Configuration, `default` or `tiny`.
        split: `train`, `validation` or `test`; all of them when None.
        revision: Branch, tag or commit on the Hub; `main` when None.
        streaming: Read as you go rather than first copying all into the cache.

    Raises:
        NotFoundError: There is no such folder, campaign, configuration or split.
        DatasetError: The folder is not a dataset.
        AccessError: The Hub does not have it, does not give it, or cannot be reached.
        HubError: It came damaged again and again.
    """
    found = _on_hub(path)
    if found:
        repository, named = found
        made, access = hub.load_dataset(repository, name, split, streaming, revision or named)
        if access.state == "cached":
            warnings.warn(access.says, GZooWarning, stacklevel=2)
        first = next(iter(made.values())) if isinstance(made, dict) else made
        known = recognised(set(first.column_names or ()))
        if first.column_names and known is None:
            warnings.warn(
                f"'{repository}' has columns of no campaign; it is loaded as it is.", GZooWarning, stacklevel=2
            )
        for note in known.notes if known else ():
            warnings.warn(f"'{repository}' {note}", GZooWarning, stacklevel=2)
        return made
    folder = Path(path)
    if revision is not None:
        raise InputError(f"{folder} is a folder, which has no revision '{revision}'.", "None.", "Leave it away.")
    facts = open_dataset(folder)
    config = name or "default"
    if config not in facts.splits_of:
        raise NotFoundError(
            f"{folder} has no config '{config}'.", f"One of {', '.join(facts.splits_of)}.", "Choose one."
        )
    for part in (split or "").split("+"):
        wanted = part.partition("[")[0].strip()
        if wanted and wanted not in facts.splits_of[config] and wanted != "all":
            raise NotFoundError(
                f"{folder} has no split '{wanted}'.", f"One of {', '.join(facts.splits_of[config])}.", "Choose one."
            )
    if not set(str(folder.resolve())).isdisjoint("*?["):
        raise DatasetError(
            f"The path of {folder} holds *, ? or [, which datasets takes for a pattern.",
            "A path without them.",
            "Move or rename the folder.",
        )
    import datasets

    return datasets.load_dataset(str(folder), name, split=split, streaming=streaming)


def _on_hub(path: Path | str) -> tuple[str, str] | None:
    """Repository and revision, where a path is a name on the Hub; None where it is a folder.

    `owner/name` is a folder if it is there, or if a folder `owner` is: that is no place to ask the Hub about.

    Raises:
        NotFoundError: It is neither.
    """
    text, folder = str(path), Path(path)
    if folder.exists() or files.partial_name(folder.absolute()).exists():
        return None
    found = hub.repository_of(text)
    if found and ("/" not in text or not folder.parent.is_dir()):
        return found
    if "/" in text or folder.is_absolute():
        return None
    raise NotFoundError(
        f"There is no folder or campaign '{text}'.",
        f"A dataset folder, owner/name, or one of {', '.join(campaigns_of.names())}.",
        "Check the path.",
    )


@dataclass(frozen=True)
class Dataset:
    """A dataset folder on this machine.

    Attributes:
        folder: Where it is.
        campaign: Whose tree its columns follow.
        splits_of: Config -> its splits.
        digest: sha256 of the manifest, or of the list of files where a published folder has none.
        is_simulated: Whether any of it was made by gzoo's simulator.
        not_collected: Questions of the record for which nobody's votes are known.
        split_scheme: Name of the rule by which it is split, such as "gzoo-1"; "published" where others split it.
        origin: `repository` and `commit` on the Hub, where it is from there.
    """

    folder: Path
    campaign: Campaign
    splits_of: Mapping[str, tuple[str, ...]]
    digest: str
    is_simulated: bool
    not_collected: tuple[str, ...]
    split_scheme: str = PUBLISHED
    origin: Mapping[str, str] | None = None

    @property
    def tree(self) -> Tree:
        """Questions that the dataset carries."""
        return self.campaign.published_tree

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the default config."""
        return self.splits_of["default"]

    def require(self, split: str) -> None:
        """Check that there is such a split.

        Raises:
            NotFoundError: There is not.
        """
        if split not in self.splits:
            raise NotFoundError(
                f"{self.folder} has no split '{split}'.", f"One of {', '.join(self.splits)}.", "Choose one."
            )

    def read_votes(self, split: str) -> tuple[pl.DataFrame, Votes]:
        """Keys and votes of a split, images untouched.

        Returns:
            A row a galaxy with `dataset_name` and `id_str`, and its votes in the same order.

        Raises:
            NotFoundError: There is no such split.
            DatasetError: A shard or its index cannot be read.
            InputError: What it holds is no votes.
        """
        keys, counts, totals = self.vote_arrays(split)
        # sums over answers are several times as fast in this order
        return keys, Votes(self.tree, counts.astype(np.int64, order="F"), totals.astype(np.int64, order="F"))

    def vote_arrays(self, split: str) -> tuple[pl.DataFrame, Matrix, Matrix]:
        """As `read_votes`, with votes as plain matrices, of which millions of rows fit into memory.

        Returns:
            Keys; counts, shape (galaxy, answer); people asked, shape (galaxy, question). Rows are whole in memory.

        Raises:
            NotFoundError: There is no such split.
            DatasetError: A shard or its index cannot be read, or holds no whole numbers.
        """
        self.require(split)
        tree, shards = self.tree, files.shards(self.folder, split)
        paths = indices(self.folder, shards) or shards
        names, columns = _columns(paths[0]), vote_columns(tree)
        not_known = {column for name in self.not_collected for column in tree.question(name).columns}
        known = [name for name in columns if name in names and name not in not_known]
        wanted = [*(name for name in KEY if name in names), *known]
        keys: list[pl.DataFrame] = []
        if len(paths) == 1:
            table = _read(paths, wanted)
            keys.append(table.select(name for name in KEY if name in names))
            counts, totals = map(np.ascontiguousarray, votes_in(table.select(known), tree, str(paths[0])))
        else:  # one after the other into their place, so that there is no second copy of all
            borders = np.cumsum([0, *(_n_rows(path) for path in paths)]).tolist()
            counts = np.empty((borders[-1], len(tree.columns)), np.int32)
            totals = np.empty((borders[-1], len(tree.questions)), np.int32)
            for path, rows in zip(paths, starmap(slice, pairwise(borders)), strict=True):
                table = _read([path], wanted)
                keys.append(table.select(name for name in KEY if name in names))
                counts[rows], totals[rows] = votes_in(table.select(known), tree, str(path))
        number = pl.int_range(len(counts)).cast(pl.String).str.zfill(7)
        missing = {  # in older layouts, and in the oldest
            "dataset_name": pl.lit(self.campaign.name),
            "id_str": pl.lit(f"{self.digest[:8]}-{split}-") + number,
        }
        key = [pl.col(name) if name in names else missing[name].alias(name) for name in KEY]
        table = pl.concat(keys) if keys[0].width else pl.select(number)
        return table.select(key), counts, totals

    def image_index(self, split: str) -> ImageIndex | None:
        """Where the images of a split lie in its shards, in the order of `read_votes`.

        Returns:
            None where there are no images, or they are not stored plainly and have to be read through Parquet.

        Raises:
            NotFoundError: There is no such split.
            DatasetError: A shard cannot be read.
        """
        self.require(split)
        shards = files.shards(self.folder, split)
        listed = indices(self.folder, shards)
        found = [places(*pair) for pair in zip(listed, shards, strict=True)] if listed else map(images_in, shards)
        plain: list[tuple[Offsets, Lengths]] = []
        for one in found:
            if one is None:
                return None
            plain.append(one)
        shard = np.repeat(np.arange(len(shards), dtype=np.int32), [len(offset) for offset, _ in plain])
        offsets, lengths = (np.concatenate(parts) for parts in zip(*plain, strict=True))
        return ImageIndex(tuple(shards), shard, offsets, lengths)

    def column(self, split: str, name: str) -> pl.DataFrame | None:
        """Keys and one column (as `value`) of a split, in the order of `read_votes`; None if it has no such column.

        Raises:
            NotFoundError: There is no such split.
            DatasetError: A shard cannot be read.
        """
        self.require(split)
        paths = files.shards(self.folder, split)
        names = _columns(paths[0])
        if name not in names or name == "image":
            return None
        keys = self.positions(split).select(KEY)
        return keys.with_columns(value=_read(paths, [name]).to_series())

    def positions(self, split: str) -> pl.DataFrame:
        """Keys and positions of a split, votes and images untouched.

        Returns:
            A row a galaxy with `dataset_name`, `id_str`, `ra` and `dec` in degrees, NaN where not known, and
            `source_id`, the survey's own identifier, '' where not known.

        Raises:
            NotFoundError: There is no such split.
            DatasetError: A shard cannot be read, or its positions are no numbers.
        """
        self.require(split)
        paths = files.shards(self.folder, split)
        wanted = ("dataset_name", "id_str", "ra", "dec", "source_id")
        names = _columns(paths[0])
        # with some answer's votes, for a table of no columns would have no rows
        votes = next(name for name in self.tree.columns if name in names)
        table = _read(paths, [*(name for name in wanted if name in names), votes])
        for name, dtype, missing in zip(
            wanted,
            (pl.String, pl.String, pl.Float64, pl.Float64, pl.String),
            (self.campaign.name, "", np.nan, np.nan, ""),
            strict=True,
        ):
            known = pl.col(name) if name in table.columns else pl.lit(missing)
            try:
                table = table.with_columns(known.cast(dtype).fill_null(missing).alias(name))
            except pl.exceptions.PolarsError as error:
                raise DatasetError(
                    f"Column {name} of split {split} in {self.folder} holds {table.schema[name]}, not {dtype}.",
                    "Identifiers as text, ra and dec as numbers.",
                    "Build or copy it again.",
                ) from error
        return table.select(wanted)


def open_dataset(folder: Path | str, *, progress: hub.Progress | None = None) -> Dataset:
    """A dataset: a folder that gzoo built, a copy of a published one, or a name on the Hub.

    What has no manifest is recognised by its columns: the campaign with most of its questions there. Questions that
    are not there count as not collected, and that is told in a warning; of what is from the Hub, whatever is missing
    or unknown.

    Args:
        folder: A folder, a campaign's name or `owner/name`; the latter two may end in `@` and a branch, tag or commit.
        progress: Called as (stage, MB done, MB) while it is downloaded.

    Raises:
        NotFoundError: There is no such folder.
        DatasetError: It is not a dataset.
        AccessError: The Hub does not have it, does not give it, or cannot be reached.
        HubError: It came damaged again and again.
    """
    found = _on_hub(folder)
    if found is None:
        return _opened(Path(folder))
    copied = hub.copy_of(*found, progress=progress)
    if copied.access.state == "cached":
        warnings.warn(copied.access.says, GZooWarning, stacklevel=2)
    opened = _opened(copied.folder, copied.access.repository)
    return replace(opened, origin={"repository": copied.access.repository, "commit": copied.commit})


def _opened(folder: Path, repository: str = "") -> Dataset:
    splits_of = {
        config: tuple(split for split in files.SPLITS if files.shards(folder, split, config))
        for config in ("default", "tiny")
    }
    splits_of = {config: splits for config, splits in splits_of.items() if splits}
    if not (folder / files.MANIFEST).is_file() and "default" in splits_of:
        columns = _columns(files.shards(folder, splits_of["default"][0])[0])
        known = recognised(columns)
        if known is None:
            raise DatasetError(
                f"{folder} has no manifest, and its columns are no campaign's.",
                "A folder made by `gzoo build`, or a copy of a published dataset.",
                "Build it with `gzoo build`.",
            )
        if repository or known.not_collected:  # in a folder of one's own only what changes the votes is news
            for note in known.notes:
                warnings.warn(f"'{repository or folder}' {note}", GZooWarning, stacklevel=3)
        contents = sorted((path.name, path.stat().st_size) for path in folder.glob("*/*.parquet"))
        paths = [path for split in splits_of["default"] for path in files.shards(folder, split)]
        named = _read(paths, ["dataset_name"])["dataset_name"] if "dataset_name" in columns else pl.Series()
        is_simulated = any(str(name).endswith(files.SIMULATED) for name in named.unique())
        return Dataset(folder, known.campaign, splits_of, files.digest(contents), is_simulated, known.not_collected)
    manifest = files.open_folder(folder)
    if "default" not in splits_of:
        raise DatasetError(f"{folder} has a manifest but no shards.", "data/*.parquet.", "Build it again.")
    try:
        return Dataset(
            folder=folder,
            campaign=campaigns_of.campaign(str(manifest["campaign"])),
            splits_of=splits_of,
            digest=files.sha256(folder / files.MANIFEST),
            is_simulated=bool(manifest["is_simulated"]),
            not_collected=tuple(cast("list[str]", manifest["not_collected"])),
            split_scheme=str(manifest["split_scheme"]),
        )
    except KeyError as error:
        raise DatasetError(
            f"{folder / files.MANIFEST} has no {error}.", "A manifest as gzoo wrote it.", "Build it again."
        ) from error


@dataclass(frozen=True, slots=True)
class Recognised:
    """Whose columns a table's are.

    Attributes:
        campaign: The campaign.
        not_collected: Its questions that have no columns, or not all.
        notes: What is missing or unknown, in sentences without their subject.
    """

    campaign: Campaign
    not_collected: tuple[str, ...]
    notes: tuple[str, ...]


def recognised(columns: Set[str]) -> Recognised | None:
    """The campaign that columns are of: the one with most of its questions there, and fewest others."""

    def there(one: Campaign) -> list[Question]:
        return [question for question in one.published_tree.questions if columns >= set(question.columns)]

    campaign = max(
        campaigns_of.campaigns(),
        key=lambda one: (sum(len(question.columns) for question in there(one)), -len(one.published_tree.columns)),
    )
    questions = there(campaign)
    if not any(not question.parents for question in questions):
        return None
    unavailable = tuple(one.name for one in campaign.published_tree.questions if one not in questions)
    record = schema.record(campaign)
    expected = [name for name in record.names if name != "image"]
    missing = [name for name in expected if name not in columns]
    notes: list[str] = []
    told = [name for name in missing if name in {"id_str", "dataset_name", "ra", "dec", "summary"}]
    for what, ends in (("fractions", "_fraction"), ("totals", "_total-votes")):
        n = sum(name.endswith(ends) for name in missing)
        told += [f"{n} {what}"] if n else []
    if told:
        notes.append(f"is read as {campaign.name}; it has no {', '.join(told)} (an older layout).")
    if unavailable:
        notes.append(f"is read as {campaign.name}; it has no votes for {', '.join(unavailable)}.")
    unknown = sorted(columns - set(expected) - {"image", "source_id"})
    if unknown:
        most = f"{', '.join(unknown[:6])}{', ...' if len(unknown) > 6 else ''}"
        notes.append(f"has {len(unknown)} columns that are no part of {campaign.name} as published: {most}.")
    return Recognised(campaign, unavailable, tuple(notes))


def _columns(shard: Path) -> set[str]:
    with _readable(shard):
        return set(pl.scan_parquet(shard, glob=False).collect_schema().names())


def _n_rows(path: Path) -> int:
    with _readable(path):
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def votes_in(table: pl.DataFrame, tree: Tree, where: str) -> tuple[Matrix, Matrix]:
    """Votes and people asked, of rows of a dataset.

    Args:
        table: Their vote columns; counts of those that it lacks are 0.
        tree: The questions.
        where: What to call it in errors.

    Returns:
        Counts, shape (galaxy, answer), column by column in memory; people asked, shape (galaxy, question).

    Raises:
        DatasetError: Counts are no whole numbers.
    """
    columns = vote_columns(tree)
    unavailable = {name: pl.lit(0, pl.Int32) for name in columns if name not in table.columns}
    votes = table.with_columns(pl.all().fill_null(0)).with_columns(**unavailable)
    counts = _whole(votes.select(tree.columns), where)
    totals = tree.totals(counts).astype(np.int32)
    for i, question in enumerate(tree.questions):
        if question.multiple:
            totals[:, i] = _whole(votes.select(question.total_column), where)[:, 0]
    return counts, totals


def _whole(votes: pl.DataFrame, where: str) -> Matrix:
    """Whole numbers of 32 bits, column by column in memory."""
    numbers = votes.to_numpy()
    if numbers.dtype != np.int32:
        try:
            whole = numbers.astype(np.int32)
        except (TypeError, ValueError):
            whole = numbers = np.full(1, np.nan)
        if (whole != numbers).any():
            raise DatasetError(
                f"The votes of {where} are no whole numbers.",
                "Counts of people, up to 2,147,483,647.",
                "Build it again.",
            )
        numbers = whole
    return cast(Matrix, numbers)


def _read(shards: Sequence[Path], columns: Sequence[str]) -> pl.DataFrame:
    parts: list[pl.DataFrame] = []
    for shard in shards:
        with _readable(shard):
            parts.append(pl.read_parquet(shard, columns=list(columns), glob=False))
    return pl.concat(parts)


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """Without the progress bars of `datasets`, where gzoo shows its own."""
    import datasets

    was_quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not was_quiet:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _readable(shard: Path) -> Generator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        said = (str(error).splitlines() or ["damaged"])[0]
        raise DatasetError(
            f"{shard} cannot be read: {said}", "A Parquet shard with the dataset's columns.", "Build or copy it again."
        ) from error
