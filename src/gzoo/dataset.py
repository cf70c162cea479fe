"""Datasets: a folder of Parquet shards, or a name on the Hub, opened for reading."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl

from gzoo import campaign as campaigns_of
from gzoo import hub, store
from gzoo.campaign import Campaign
from gzoo.errors import DatasetError, MissingError
from gzoo.splits import PUBLISHED
from gzoo.trees import Tree
from gzoo.votes import Votes

if TYPE_CHECKING:
    import datasets

    Loaded = datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict

KEY = ("dataset_name", "id_str")


def load(path: Path | str, name: str | None = None, *, split: str | None = None, streaming: bool = False) -> Loaded:
    """What `datasets.load_dataset` returns, for a dataset folder, a campaign or a name on the Hub.

    Args:
        path: A folder made by `gzoo build`, a campaign's name (`gz2`), or `owner/name` on the Hub.
        name: Configuration, `default` or `tiny`.
        split: `train`, `validation` or `test`; all of them when None.
        streaming: Read as you go rather than first copying all into the cache.

    Raises:
        MissingError: There is no such folder, campaign, configuration or split.
        DatasetError: The folder is not a dataset.
        HubError: The Hub does not have it, does not give it, or cannot be reached.
    """
    folder = Path(path)
    if store.partial_name(folder.absolute()).exists() and not folder.exists():
        store.open_folder(folder)  # says that it is not finished
    if folder.is_dir():
        facts = open_dataset(folder)
        config = name or "default"
        if config not in facts.splits_of:
            raise MissingError(
                f"{folder} has no config '{config}'.", f"One of {', '.join(facts.splits_of)}.", "Choose one."
            )
        for part in (split or "").split("+"):
            wanted = part.partition("[")[0].strip()
            if wanted and wanted not in facts.splits_of[config] and wanted != "all":
                raise MissingError(
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
    text = str(path)
    if text in campaigns_of.names():
        repository = campaigns_of.campaign(text).hub.repository
        if not repository:
            raise MissingError(
                f"Campaign '{text}' has no dataset on the Hub that gzoo knows of.",
                "A published campaign.",
                "Build one.",
            )
        return hub.load_dataset(repository, name, split, streaming)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")) and not text.endswith("/"):
        return hub.load_dataset(text, name, split, streaming)
    raise MissingError(
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
    """

    folder: Path
    campaign: Campaign
    splits_of: Mapping[str, tuple[str, ...]]
    digest: str
    is_simulated: bool
    not_collected: tuple[str, ...]
    split_scheme: str = PUBLISHED

    @property
    def tree(self) -> Tree:
        """Questions that the dataset carries."""
        return self.campaign.carried

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the default config."""
        return self.splits_of["default"]

    def require(self, split: str) -> None:
        """Check that there is such a split.

        Raises:
            MissingError: There is not.
        """
        if split not in self.splits:
            raise MissingError(
                f"{self.folder} has no split '{split}'.", f"One of {', '.join(self.splits)}.", "Choose one."
            )

    def galaxies(self, split: str) -> tuple[pl.DataFrame, Votes]:
        """Keys and votes of a split, pictures untouched.

        Returns:
            A row a galaxy with `dataset_name` and `id_str`, and its votes in the same order.
        """
        self.require(split)
        paths = store.shards(self.folder, split)
        names = _columns(paths[0])
        tree = self.tree
        totals = {question.name: question.total_column for question in tree.questions if question.multiple}
        wanted = ["id_str", *(["dataset_name"] if "dataset_name" in names else []), *tree.columns, *totals.values()]
        table = _read(paths, wanted).with_columns(pl.col(*tree.columns, *totals.values()).fill_null(0))
        if "dataset_name" not in names:  # older layouts
            table = table.with_columns(dataset_name=pl.lit(self.campaign.name))
        counts = table.select(tree.columns).to_numpy().astype(np.int64)
        people = tree.totals(counts)
        for i, question in enumerate(tree.questions):
            if question.multiple:
                people[:, i] = table[question.total_column].to_numpy()
        return table.select(KEY), Votes(tree, counts, people)

    def places(self, split: str) -> pl.DataFrame:
        """Keys and positions of a split, votes and pictures untouched.

        Returns:
            A row a galaxy with `dataset_name`, `id_str`, and `ra` and `dec` in degrees, NaN where not known.

        Raises:
            MissingError: There is no such split.
            DatasetError: A shard cannot be read, or its positions are no numbers.
        """
        self.require(split)
        paths = store.shards(self.folder, split)
        wanted = ("dataset_name", "id_str", "ra", "dec")
        table = _read(paths, [name for name in wanted if name in _columns(paths[0])])
        for name, dtype, missing in zip(
            wanted,
            (pl.String, pl.String, pl.Float64, pl.Float64),
            (self.campaign.name, "", np.nan, np.nan),
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


def open_dataset(folder: Path | str) -> Dataset:
    """A dataset folder: one that gzoo built, or a copy of a published one, recognised by its columns.

    Raises:
        MissingError: There is no such folder.
        DatasetError: It is not a dataset.
    """
    folder = Path(folder)
    splits_of = {
        config: tuple(split for split in store.SPLITS if store.shards(folder, split, config))
        for config in ("default", "tiny")
    }
    splits_of = {config: splits for config, splits in splits_of.items() if splits}
    if not (folder / store.MANIFEST).is_file() and "default" in splits_of:
        campaign = _recognised(folder, store.shards(folder, splits_of["default"][0])[0])
        files = sorted((path.name, path.stat().st_size) for path in folder.glob("*/*.parquet"))
        paths = [path for split in splits_of["default"] for path in store.shards(folder, split)]
        named = _read(paths, ["dataset_name"])["dataset_name"] if "dataset_name" in _columns(paths[0]) else pl.Series()
        is_simulated = any(str(name).endswith(store.SIMULATED) for name in named.unique())
        return Dataset(folder, campaign, splits_of, store.digest(files), is_simulated, ())
    manifest = store.open_folder(folder)
    if "default" not in splits_of:
        raise DatasetError(f"{folder} has a manifest but no shards.", "data/*.parquet.", "Build it again.")
    try:
        return Dataset(
            folder=folder,
            campaign=campaigns_of.campaign(str(manifest["campaign"])),
            splits_of=splits_of,
            digest=store.sha256(folder / store.MANIFEST),
            is_simulated=bool(manifest["is_simulated"]),
            not_collected=tuple(cast("list[str]", manifest["not_collected"])),
            split_scheme=str(manifest["split_scheme"]),
        )
    except KeyError as error:
        raise DatasetError(
            f"{folder / store.MANIFEST} has no {error}.", "A manifest as gzoo wrote it.", "Build it again."
        ) from error


def _recognised(folder: Path, shard: Path) -> Campaign:
    campaign = recognised(_columns(shard))
    if campaign is None:
        raise DatasetError(
            f"{folder} has no manifest, and its columns are no campaign's.",
            "A folder made by `gzoo build`, or a copy of a published dataset with id_str.",
            "Build it with `gzoo build`.",
        )
    return campaign


def recognised(columns: Set[str]) -> Campaign | None:
    """The campaign whose published dataset has such columns: of several the one with most."""
    fitting = [one for one in campaigns_of.campaigns() if columns >= set(one.carried.columns)]
    return max(fitting, key=lambda one: len(one.carried.columns)) if "id_str" in columns and fitting else None


def _columns(shard: Path) -> set[str]:
    with _readable(shard):
        return set(pl.scan_parquet(shard, glob=False).collect_schema().names())


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
