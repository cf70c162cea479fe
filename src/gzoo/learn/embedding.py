"""Embedding: from an encoder and images to a Parquet file with a vector for each galaxy."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from gzoo import files
from gzoo.dataset.open import open_dataset
from gzoo.display import Shown
from gzoo.embeddings.coordinates import METHODS, coordinates_of, require_extra
from gzoo.embeddings.table import (
    COORDINATES,
    KIND,
    POSITION,
    VECTOR,
    Source,
    embedding_table,
    refuse_embeddings,
    write_embeddings,
)
from gzoo.errors import DatasetError, GZooWarning, ImageError, InputError, NotFoundError, choices, raise_passing, reason
from gzoo.files import Progress
from gzoo.images.fits import is_fits, render
from gzoo.learn.decoding import decode
from gzoo.learn.encoders import FeatureExtractor
from gzoo.learn.image_files import holds_images, image_loader
from gzoo.learn.inputs import check_integers
from gzoo.learn.loader import Batch, Loader, loader
from gzoo.learn.model import fastest_device, read_run
from gzoo.learn.orientations import MAX_VIEWS, orientations
from gzoo.learn.parts import write_parts
from gzoo.learn.prediction import N_NAMED, check_keys
from gzoo.learn.starting import StartingEncoder, open_encoder
from gzoo.scoring.prediction_files import read_metadata
from gzoo.trees.campaign import Campaign, names, of_manifest
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.definition import Stretch
from gzoo.trees.tree import IntArray

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, repr=False)
class EmbedResult(Shown):
    """Result of `gzoo.embed`.

    Attributes:
        path: Embedding file.
        n_galaxies: Number of galaxies in it.
        n_features: Length of a vector.
        n_corrupt: Number of galaxies that are not in the file, because their image cannot be decoded.
        encoder: Name of the timm encoder.
        coordinates: How `x` and `y` were computed; None if they are not in the file.
        variance: Fraction of the variance of the standardised features along `x` and `y`, for "pca".
        example: Identifier of the first galaxy; "" if there is none.
    """

    path: Path
    n_galaxies: int
    n_features: int
    n_corrupt: int
    encoder: str
    coordinates: str | None
    variance: tuple[float, ...] | None
    example: str


def embed(
    run: Path | str,
    data: Path | str,
    *,
    out: Path | str,
    split: str | None = None,
    views: int = MAX_VIEWS,
    coordinates: Literal["pca", "tsne"] | None = None,
    batch_size: int = 64,
    corrupt: Literal["raise", "skip"] = "raise",
    campaign: Path | str | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> EmbedResult:
    """Compute a vector for each galaxy of a dataset, folder or archive.

    A vector has the features that the encoder sees in the image, averaged over its eight orientations, as float16.
    `gzoo similar` and `gzoo outliers` search among them; `gzoo.open_embeddings` opens them as a NumPy array. The file
    has `dataset_name` and `id_str`, `vector`, `ra` and `dec` where positions are known, and says which encoder and
    preprocessing made it. An interrupted embedding resumes when the same command runs again.

    Args:
        run: Run folder of `gzoo train`, a folder in timm's layout (such as `gzoo export` writes), or
            `hf_hub:OWNER/NAME`.
        data: Dataset with images (a folder, a campaign's name, or `owner/name` on the Hub), or a folder, .tar or .zip
            archive of JPEG, PNG or FITS images.
        out: Parquet file to write.
        split: Split of the dataset to embed, by default all.
        views: Number of orientations of each image to average over, 1 to 8.
        coordinates: Coordinates `x` and `y` of a map to add: "pca", principal components, or "tsne" (needs the extra
            `tsne`). They need all vectors in memory.
        batch_size: Images per batch.
        corrupt: What to do with an image that cannot be decoded: "raise" an error that names it, or "skip" it and warn.
        campaign: Campaign whose survey says how FITS images of a folder are shown, by default that of the run.
        scheduler: Address of a Dask scheduler whose workers embed; they must be able to read the same files.
        overwrite: Replace an earlier embedding file.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function to call with (stage, galaxies done, galaxies in total).

    Raises:
        NotFoundError: The encoder, the dataset or the split does not exist.
        DatasetError: The encoder cannot be read, or an identifier is missing or not unique.
        InputError: An argument is invalid.
        ImageError: An image cannot be decoded; the message names the galaxy and the file.
        OutputExistsError: `out` already exists.
        BusyError: Another run writes the same output, and `wait` is False.
        MissingExtraError: A scheduler needs Dask, "tsne" needs openTSNE.

    >>> gzoo.embed("run", "gz2", out="embeddings.parquet").n_features  # doctest: +SKIP
    480
    """
    check_integers(1, MAX_VIEWS, views=views)
    check_integers(1, batch_size=batch_size)
    for name, value, allowed in (("corrupt", corrupt, ["raise", "skip"]), ("coordinates", coordinates, METHODS)):
        if value is not None and value not in allowed:
            raise InputError(f"Invalid value for {name}: '{value}'.", choices(allowed, value))
    out = Path(out)
    refuse_embeddings(out, overwrite, [data])
    if coordinates:
        require_extra(coordinates)
    where, encoder = (str(Path(one).absolute()) if Path(one).exists() else str(one) for one in (data, run))
    request = _Request(encoder, where, split, views, batch_size, corrupt, None if campaign is None else str(campaign))
    embedding = request.writer(progress)
    begun = {"command": "embed", "digest": embedding.digest, "batch_size": batch_size, "corrupt": corrupt}
    begun |= {"views": views, "split": split, "coordinates": coordinates}
    skipped: dict[str, str] = {}
    n_written, example = 0, ""
    with files.work_on_file(out, begun=begun, overwrite=overwrite, wait=wait, progress=progress) as work:
        paths = write_parts(request, embedding, work, scheduler=scheduler, progress=progress)
        for path in paths:
            skipped |= cast("dict[str, str]", read_metadata(path)["skipped"])
        source = replace(embedding.source, n_corrupt=len(skipped))
        on_map = None
        if coordinates:
            parts = [pl.read_parquet(path, columns=[VECTOR], glob=False)[VECTOR].to_numpy() for path in paths]
            on_map, variance = coordinates_of(
                np.concatenate([one for one in parts if len(one)] or [np.empty((0, embedding.n_features), np.float16)]),
                coordinates,
                progress,
            )
            source = replace(source, coordinates=coordinates, variance=variance)

        def tables() -> Iterator[pl.DataFrame]:
            nonlocal n_written, example
            for path in paths or [None]:
                part = pl.read_parquet(path, glob=False) if path else embedding.nothing
                if on_map is not None:
                    own = on_map[n_written : n_written + part.height]
                    part = part.with_columns(pl.Series(name, own[:, i]) for i, name in enumerate(COORDINATES))
                example = example or (part["id_str"][0] if part.height else "")
                n_written += part.height
                yield part

        write_embeddings(out, tables(), source)
    if skipped:
        named = " ".join(list(skipped.values())[:N_NAMED])
        message = f"{len(skipped):,} images cannot be decoded; these galaxies are not in the file. {named}"
        warnings.warn(GZooWarning(message), stacklevel=2)
    return EmbedResult(
        out, n_written, embedding.n_features, len(skipped), source.encoder, coordinates, source.variance, example
    )


def embed_images(run: Path | str, images: Sequence[Path], like: Source, path: Path) -> Vectors:
    """Return the vectors of image files, made as those of an embedding file.

    Args:
        run: Run, folder or name on the Hub of the encoder.
        images: JPEG, PNG or FITS files.
        like: What made the vectors of the file.
        path: The file, for messages.

    Returns:
        Vectors, shape (image, feature).

    Raises:
        DatasetError: Another encoder or preprocessing made the file.
        NotFoundError: An image or the encoder does not exist.
        ImageError: A file is not an image that can be decoded.
    """
    encoder = open_encoder(run)
    views = cast(int, like.preprocessing.get("views", MAX_VIEWS))
    model, own = _opened(encoder, str(run), views, like.campaign)
    difference = own.difference(like)
    if difference:
        raise DatasetError(
            f"'{path}' was made {difference}, so its vectors cannot be compared with those of '{run}'.",
            "the encoder that made the file.",
            f"Pass --run {like.run}, or embed the galaxies again.",
        )
    known = like.campaign if like.campaign in names() else None
    stretch = campaign_of(known).stretch if known else None
    pixels = np.stack([_decoded(one, model.design.image_size, stretch) for one in images])
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return _features(model, batch, [one.stem for one in images], views).numpy()


def _decoded(path: Path, size: int, stretch: Stretch | None) -> npt.NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise_passing(path, error)
        raise NotFoundError(f"Cannot read the image '{path}': {reason(error)}.", hint="Check the path.") from error
    try:
        if is_fits(path.name):
            data = render(data, path.name, stretch)
        return decode(data, size)
    except ImageError as error:
        raise ImageError(f"Image '{path}' cannot be an example: {error.message}", error.expected, error.hint) from error


@dataclass(frozen=True, slots=True)
class _Request:
    """What to embed, and with which encoder; see `embed`."""

    run: str
    data: str
    split: str | None
    views: int
    batch_size: int
    corrupt: Literal["raise", "skip"]
    campaign: str | None

    def writer(self, progress: Progress | None = None) -> _Embedding:
        """Open encoder and data."""
        encoder = open_encoder(self.run, progress)
        loaded: list[Loader] = []
        if holds_images(Path(self.data)):
            if self.split is not None:
                raise InputError("Images that are not in a dataset have no splits.", hint="Omit the option --split.")
            shown = campaign_of(self.campaign) if self.campaign else _campaign_of(self.run, encoder)
            model, source = _opened(encoder, self.run, self.views, shown.name if shown else None)
            loaded.append(image_loader(Path(self.data), shown, self.batch_size, model.design.image_size, self.corrupt))
            fingerprint = str(loaded[0].state_dict()["data"])
            source = replace(source, data=self.data, data_sha256=fingerprint)
            return _Embedding(model.to(fastest_device()), source, loaded, None)
        if self.campaign is not None:
            raise InputError(
                "--campaign says how FITS images are shown; those of a dataset are not FITS.", hint="Omit the option."
            )
        opened = open_dataset(self.data, progress=progress)
        if self.split is not None:
            opened.require(self.split)
        splits = (self.split,) if self.split is not None else opened.splits
        model, source = _opened(encoder, self.run, self.views, opened.campaign.name)
        for split in splits:
            loaded.append(loader(opened, self.batch_size, model.design.image_size, split=split, errors=self.corrupt))
        positions = pl.concat([opened.positions(split).select(POSITION) for split in splits])
        has_positions = bool(positions.select(pl.all().is_finite().any()).row(0)[0])
        origin = opened.origin
        source = replace(
            source,
            data=f"{origin['repository']}@{origin['commit']}" if origin else self.data,
            data_sha256=opened.digest,
            splits=splits,
            is_simulated=opened.is_simulated,
        )
        return _Embedding(model.to(fastest_device()), source, loaded, positions if has_positions else None)


@dataclass(frozen=True, slots=True)
class _Embedding:
    """Writes the parts of an embedding file.

    Attributes:
        model: The encoder.
        source: What the file says of its origin.
        loaders: The galaxies, split by split.
        positions: `ra` and `dec` of all galaxies, if any is known.
        keys: `dataset_name` and `id_str` of all galaxies.
    """

    model: FeatureExtractor
    source: Source
    loaders: Sequence[Loader]
    positions: pl.DataFrame | None
    keys: pl.DataFrame = field(init=False)

    stage = "Embedding galaxies"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", pl.concat([one.keys for one in self.loaders]))
        check_keys(self.keys, self.source.data)

    @property
    def n_rows(self) -> int:
        """Number of galaxies."""
        return self.keys.height

    @property
    def n_features(self) -> int:
        """Length of a vector."""
        return self.model.n_features

    @property
    def nothing(self) -> pl.DataFrame:
        """The file without rows."""
        return self.table(np.arange(0), np.empty((0, self.n_features), np.float32))

    @property
    def digest(self) -> str:
        """Checksum of all that the parts depend on."""
        about = [self.source.encoder_sha256, dict(self.source.preprocessing), self.source.data_sha256]
        return files.digest([*about, list(self.source.splits)])

    def write(self, path: Path, rows: IntArray, progress: Progress | None) -> None:
        """Write the vectors of some galaxies; the metadata contain which were skipped, and why."""
        vectors, is_read = np.zeros((len(rows), self.n_features), np.float32), np.zeros(len(rows), bool)
        first = 0
        for galaxies in self.loaders:
            own = rows[(rows >= first) & (rows < first + len(galaxies.rows))]
            if len(own):
                # always in the same batches, so that a resumed embedding gives the same numbers
                for batch in galaxies.batches_of(np.array_split(own - first, -(-len(own) // galaxies.batch_size))):
                    places = batch["index"].numpy() + first - rows[0]
                    vectors[places] = self._vectors(batch)
                    is_read[places] = True
                    if progress:
                        progress(self.stage, int(rows[0] + is_read.sum()), self.n_rows)
            first += len(galaxies.rows)
        why = {id_str: text for galaxies in self.loaders for id_str, text in galaxies.skipped.items()}
        lost = {one: why.get(one, "") for one in self.keys["id_str"][rows[~is_read]]}
        files.write_table(path, self.table(rows[is_read], vectors[is_read]), KIND, {"skipped": lost})

    def table(self, rows: IntArray, vectors: Vectors) -> pl.DataFrame:
        """Return the rows of the file for some galaxies."""
        return embedding_table(self.keys[rows], vectors, None if self.positions is None else self.positions[rows])

    def _vectors(self, batch: Batch) -> Vectors:
        views = cast(int, self.source.preprocessing["views"])
        return _features(self.model, batch["image"], batch["id_str"], views).numpy()


def _features(model: FeatureExtractor, image: torch.Tensor, ids: Sequence[str], views: int) -> torch.Tensor:
    """Return the mean of the features over orientations, shape (galaxy, feature), float32."""
    image = image.to(next(model.parameters()).device)
    with torch.inference_mode():
        total = torch.zeros(len(image), model.n_features, device=image.device)
        for view in orientations(image, ids, views):
            total += model.features(view).float()
        return (total / views).cpu()


def _opened(encoder: StartingEncoder, run: str, views: int, campaign: str | None) -> tuple[FeatureExtractor, Source]:
    """Return the model of an encoder, and what an embedding file says of it."""
    model = encoder.feature_extractor()
    design = model.design
    preprocessing: Mapping[str, object] = {
        "size": design.size,
        "crop": design.crop,
        "mean": list(design.mean),
        "std": list(design.std),
        "views": views,
    }
    source = Source(
        encoder=design.encoder,
        encoder_sha256=_checksum(encoder),
        run=run,
        run_sha256=cast("str | None", encoder.origin.get("run_sha256")),
        preprocessing=preprocessing,
        data="",
        data_sha256="",
        splits=(),
        is_simulated=None,
        campaign=campaign,
    )
    return model, source


def _checksum(encoder: StartingEncoder) -> str:
    """Return the checksum of an encoder, which does not depend on the file that its weights are in."""
    found = hashlib.sha256(files.digest([encoder.encoder.partition(".")[0], dict(encoder.arguments)]).encode())
    for name, value in sorted(encoder.weights.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _campaign_of(run: str, encoder: StartingEncoder) -> Campaign | None:
    """Return the campaign that an encoder was trained on, if it says so."""
    if (Path(run) / files.MARKS["run"]).is_file():
        _, metadata = read_run(Path(run))
        return of_manifest(cast("Mapping[str, object]", metadata["data"]), Path(run) / files.MARKS["run"])
    name = encoder.origin.get("campaign")
    return campaign_of(str(name)) if name in names() else None
