"""The datasets that are merged into one: they are opened, compared and verified before anything is written."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset.index import vote_columns
from gzoo.dataset.open import Dataset, open_dataset, reading
from gzoo.errors import DatasetError, InputError
from gzoo.files import Progress
from gzoo.sky import identifier_split
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import Tree

DEFAULT = "gz_evo"
"""Campaign of merged datasets of campaigns of gzoo."""


@dataclass(frozen=True, slots=True)
class Member:
    """A dataset that is merged with others.

    Attributes:
        dataset: The dataset.
        manifest: Its manifest; None for a published copy.
        scheme: Its split scheme.
        has_images: Whether its rows contain images.
        n_by_id: Number of rows that are split by identifier.
        n_in_table: Number of rows of the table that it was built from; None for a published copy.
        files: SHA-256 of each file that is read, by name.
        digest: SHA-256 of all of these and the campaign, which identifies the dataset wherever it is.
    """

    dataset: Dataset
    manifest: Mapping[str, object] | None
    scheme: str
    has_images: bool
    n_by_id: int
    n_in_table: int | None
    files: Mapping[str, str]
    digest: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the dataset."""
        return self.dataset.folder

    @property
    def shards(self) -> list[tuple[str, Path]]:
        """Split and path of each shard, in order."""
        return [(split, path) for split in self.dataset.splits for path in files.shards(self.folder, split)]

    @property
    def collected(self) -> tuple[str, ...]:
        """Questions with known votes."""
        return tuple(one.name for one in self.dataset.tree.questions if one.name not in self.dataset.not_collected)


def open_members(folders: Sequence[Path | str], out: Path, campaign: Campaign | None) -> tuple[list[Member], Campaign]:
    """Open datasets that are to be merged, and check that they fit together.

    Args:
        folders: Dataset folders.
        out: The folder of the merged dataset.
        campaign: The campaign of the merged dataset; None for that of all datasets if it is not one of gzoo, otherwise
            `gz_evo`.

    Returns:
        The datasets, and the campaign of the merged dataset.

    Raises:
        NotFoundError: A folder does not exist.
        DatasetError: A folder is not a dataset.
        InputError: The datasets do not fit together.
    """
    if not folders:
        raise InputError("No datasets to merge.", "one or more dataset folders.", "Pass the folders to merge.")
    paths = [Path(folder).resolve() for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        if paths.count(path) > 1:
            raise InputError(f"Dataset '{folder}' was passed twice.", hint="Omit one of the two.")
        if out.resolve() == path or path in out.resolve().parents:
            raise InputError(
                f"The output folder '{out}' is '{folder}' or inside it.",
                "a folder outside of the datasets that are read.",
                "Choose another --out.",
            )
    datasets = [_open(Path(folder)) for folder in folders]
    own = {one.campaign.name: one.campaign for one in datasets}
    if campaign is None:
        campaign = next(iter(own.values()))
        if len(own) > 1 or not campaign.definitions:
            campaign = campaign_of(DEFAULT)
    members = [_open_member(dataset, campaign) for dataset in datasets]
    first = members[0]
    for other in members[1:]:
        _refuse_different(first, other)
    return members, campaign


def _open(folder: Path) -> Dataset:
    is_begun = (folder / files.BEGUN).exists() and not (folder / files.MANIFEST).is_file()
    if is_begun or folder.absolute().name.endswith(".gzoo-partial"):
        raise DatasetError(f"Dataset '{folder}' is not finished.", hint="Rerun the command that started it.")
    return open_dataset(folder)


def _open_member(dataset: Dataset, campaign: Campaign) -> Member:
    folder = dataset.folder
    known = (campaign.name, *campaign.members)
    if dataset.campaign.name not in known:
        raise InputError(
            f"'{folder}' is a dataset of {dataset.campaign.name}, which is not part of {campaign.name}.",
            f"datasets of {', '.join(known)}.",
            "Omit the dataset, or pass another --campaign, for example a TOML file that lists both in `union`.",
        )
    part = campaign if dataset.campaign.name == campaign.name else campaign.member(dataset.campaign.name)
    if part.tree != dataset.campaign.tree:
        raise InputError(
            f"'{folder}' has another decision tree of the name '{part.name}' than campaign '{campaign.name}'.",
            "one decision tree for each name.",
            f"Compare the definition of '{part.name}' with 'campaign_definitions' in the manifest of '{folder}'.",
        )
    if not (folder / files.MANIFEST).is_file():
        member = Member(dataset, None, identifier_split.PUBLISHED, False, 0, None, {})
        with reading(first := member.shards[0][1]):
            has_images = "image" in pq.read_schema(first).names
        names = [path.relative_to(folder).as_posix() for _, path in member.shards]
        member = replace(member, has_images=has_images, files=dict.fromkeys(names, ""))
    else:
        member = _built_member(dataset, files.open_folder(folder))
    _require_columns(member, dataset.tree)
    return member


def _built_member(dataset: Dataset, manifest: Mapping[str, object]) -> Member:
    try:
        member = Member(
            dataset,
            manifest,
            scheme=str(manifest["split_scheme"]),
            has_images=bool(manifest["has_images"]),
            n_by_id=int(cast(int, manifest["n_split_by_id"])),
            n_in_table=int(cast(int, manifest["n_rows_in_table"])),
            files={},
        )
        listed = cast("dict[str, dict[str, str]]", manifest["files"])
        names = [path.relative_to(dataset.folder).as_posix() for _, path in member.shards]
        names += ["dropped.parquet", *["images.parquet"] * member.has_images]
        checksums = {name: str(listed[name]["sha256"]) for name in names}
        missing = {name for name in listed if name.startswith("data/")}.difference(names)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DatasetError(
            f"'{dataset.folder / files.MANIFEST}' is incomplete: {error}.",
            "a manifest written by gzoo.",
            "Rebuild the dataset or copy it again.",
        ) from error
    if missing:
        raise DatasetError(
            f"File '{min(missing)}' not found in '{dataset.folder}', although its manifest lists it.",
            hint="Rebuild the dataset or copy it again.",
        )
    return replace(member, files=checksums)


def _require_columns(member: Member, tree: Tree) -> None:
    wanted = ["id_str", *vote_columns(tree), *["image"] * member.has_images]
    for _, path in member.shards:
        with reading(path):
            known = set(pq.read_schema(path).names)
        missing = [name for name in wanted if name not in known]
        if missing:
            raise DatasetError(
                f"Column '{missing[0]}' not found in '{path}'.",
                "the columns of the dataset's campaign.",
                "Rebuild the dataset or copy it again.",
            )


def _refuse_different(first: Member, other: Member) -> None:
    if other.scheme != first.scheme:
        raise InputError(
            f"Split schemes differ: '{first.scheme}' in '{first.folder}', '{other.scheme}' in '{other.folder}'.",
            "one scheme, because otherwise galaxies can leak from train to test.",
            "Rebuild the datasets with the same scheme.",
        )
    if other.dataset.is_simulated != first.dataset.is_simulated:
        real, simulated = sorted((first, other), key=lambda member: member.dataset.is_simulated)
        raise InputError(
            f"'{simulated.folder}' contains simulated galaxies, '{real.folder}' contains real ones.",
            "either only real or only simulated galaxies.",
            "Omit the simulated datasets.",
        )
    if other.has_images != first.has_images:
        without, images = sorted((first, other), key=lambda member: member.has_images)
        raise InputError(
            f"'{images.folder}' contains images, '{without.folder}' does not.",
            "datasets that all contain images, or all do not.",
            "Rebuild one of them with --images or --no-images.",
        )


def verify_members(members: Sequence[Member], say: Progress) -> list[Member]:
    """Compare the files of datasets with their manifests.

    Returns:
        The datasets with the checksums of their files, in an order that does not depend on the order of `members`.

    Raises:
        DatasetError: A file cannot be read, or its checksum differs.
        InputError: Two datasets are copies of each other.
    """
    wanted = [(i, name) for i, member in enumerate(members) for name in member.files]
    found: list[dict[str, str]] = [{} for _ in members]

    def checksum(task: tuple[int, str]) -> str:
        path = members[task[0]].folder / task[1]
        with reading(path):
            return files.sha256(path)

    say("Verifying checksums", 0, len(wanted))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for n, ((i, name), sha256) in enumerate(zip(wanted, pool.map(checksum, wanted), strict=True), 1):
            listed = members[i].files[name]
            if listed not in ("", sha256):
                raise DatasetError(
                    f"'{members[i].folder / name}' is corrupt: its SHA-256 is {sha256}, the manifest lists {listed}.",
                    hint="Rebuild the dataset or copy it again.",
                )
            found[i][name] = sha256
            say("Verifying checksums", n, len(wanted))
    verified = [
        replace(
            member,
            files=contents,
            digest=files.digest([member.dataset.campaign.name, contents, member.manifest and member.dataset.digest]),
        )
        for member, contents in zip(members, found, strict=True)
    ]
    verified.sort(key=lambda member: (member.dataset.campaign.name, member.digest))
    for one, other in itertools.pairwise(verified):
        if one.files == other.files:
            raise InputError(
                f"'{one.folder}' and '{other.folder}' are copies of one dataset.", hint="Omit one of them."
            )
    return verified
