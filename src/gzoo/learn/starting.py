"""Where an encoder comes from: timm's own weights, a run, a folder in the layout of timm, or either on the Hub.

Weights are read from safetensors files only. Other formats are pickles, which can run code when they are loaded.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gzoo import files, hub
from gzoo.dataset.card import UNKNOWN, model_licence
from gzoo.errors import DatasetError, GZooWarning, InputError, NotFoundError, reason
from gzoo.learn.encoders import COLOURS, Design, FeatureExtractor, Normalisation, create_encoder, read_crop
from gzoo.learn.model import read_run

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_ON_HUB = re.compile(r"hf[-_]hub:(.*)")


@dataclass(frozen=True, slots=True)
class StartingEncoder:
    """An encoder with trained weights.

    Attributes:
        encoder: Name of the timm encoder.
        size: Width and height in pixels of the images that it was trained on; None where that is not known.
        channels: 3, or 1 for grey-scale images.
        mean: Mean of each channel by which its images were normalised; None where that is not known.
        std: Standard deviation of each channel; None where that is not known.
        arguments: Further arguments of its constructor in timm.
        weights: Its state.
        origin: What run.json says of it: `kind`, `name`, `licence`, `weights_sha256` and more.
        crop: Width of the central part of images that it saw, as a fraction of theirs.
    """

    encoder: str
    size: int | None
    channels: int
    mean: Normalisation | None
    std: Normalisation | None
    arguments: Mapping[str, object]
    weights: Mapping[str, torch.Tensor]
    origin: Mapping[str, object]
    crop: float = 1.0

    def load_into(self, model: FeatureExtractor) -> None:
        """Give a model of the same encoder these weights."""
        model.encoder.load_state_dict(dict(self.weights))

    def feature_extractor(self, size: int | None = None) -> FeatureExtractor:
        """Return the encoder with its preprocessing.

        Args:
            size: Width and height of images in pixels. Default: the size that it was trained on.

        Raises:
            InputError: The size or the normalisation is not known, or the encoder takes another size only.
        """
        size = size or self.size
        if size is None or self.mean is None or self.std is None:
            raise InputError(
                f"'{self.origin['name']}' does not say which images the encoder takes.",
                "`input_size`, `mean` and `std` in the pretrained_cfg of its config.json.",
                "Add them to its config.json.",
            )
        design = Design(self.encoder, size, (), self.mean, self.std, self.arguments, crop=self.crop)
        model = FeatureExtractor(design)
        self.load_into(model)
        return model.eval()


def open_encoder(source: Path | str, progress: files.Progress | None = None) -> StartingEncoder:
    """Return a trained encoder.

    Args:
        source: A run folder of `gzoo train`, a folder in timm's layout (config.json and model.safetensors), or
            `hf_hub:OWNER/NAME`, either of them on the Hub; a revision may follow after `@`.
        progress: Called as (stage, MB done, MB in total).

    Raises:
        NotFoundError: The folder does not exist, or its run is not finished.
        DatasetError: The folder is neither a run nor in timm's layout, or its weights do not match its encoder.
        InputError: timm does not have the encoder, or it takes neither colour nor grey-scale images.
        AccessError: The repository on the Hub cannot be read.
    """
    on_hub = _ON_HUB.fullmatch(str(source))
    if on_hub:
        found = hub.repository_of(on_hub[1]) if "/" in on_hub[1] else None
        if found is None:
            raise InputError(f"'{source}' is not a model on the Hub.", "'hf_hub:OWNER/NAME'.")
        return _from_hub(*hub.copy_of_model(*found, progress=progress), name=str(source))
    folder = Path(source)
    if folder.is_file():
        raise InputError(
            f"'{folder}' is a file.{_about_pickles([folder])}",
            "a run folder of `gzoo train`, or a folder with config.json and model.safetensors.",
            "Pass the folder.",
        )
    if not folder.is_dir() and not files.partial_name(folder.absolute()).exists():
        raise NotFoundError(
            f"Encoder not found: '{source}'.",
            "a run folder, a folder with config.json and model.safetensors, or 'hf_hub:OWNER/NAME'.",
            f"Pass --encoder {source} --pretrained for timm's own weights."
            if timm.is_model(str(source))
            else f"Did you mean 'hf_hub:{source}'?"
            if hub.repository_of(str(source))
            else "Check the path.",
        )
    return _from_folder(folder, {"kind": "folder", "name": folder.resolve().name})


def open_pretrained(encoder: str, progress: files.Progress | None = None) -> StartingEncoder:
    """Return a timm encoder with its own published weights.

    Args:
        encoder: Name of a timm model, with its pretrained tag.
        progress: Called as (stage, MB done, MB in total).

    Raises:
        InputError: timm does not have the encoder.
        HubError: timm lists no weights for it, or the Hub cannot be reached.
    """
    if not timm.is_model(encoder):
        create_encoder(encoder)  # raises the error that names the nearest
    folder, access = hub.pretrained_weights(encoder, progress)
    return _from_hub(folder, access, name=encoder)


def _from_hub(folder: Path, access: hub.Access, name: str) -> StartingEncoder:
    if access.state == "cached":
        warnings.warn(access.message, GZooWarning, stacklevel=3)
    origin = {"kind": "hub", "name": name, "repository": access.repository, "commit": access.resolved_commit}
    return _from_folder(folder, origin)


def _from_folder(folder: Path, origin: Mapping[str, str]) -> StartingEncoder:
    if (folder / CONFIG).is_file():  # also where a run is published, beside its encoder
        return _from_timm(folder, origin)
    if folder.is_dir() and not (folder / files.MARKS["run"]).is_file():
        raise DatasetError(
            f"'{folder}' contains no encoder: it has neither run.json nor config.json."
            + _about_pickles(folder.iterdir()),
            "a run folder of `gzoo train`, or a folder with config.json and model.safetensors.",
        )
    return _from_run(folder, origin)


def _from_run(run: Path, origin: Mapping[str, str]) -> StartingEncoder:
    design, metadata = read_run(run)
    state = _read_weights(run / WEIGHTS)
    start = "encoder."
    weights = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    channels = _match(run, design.encoder, design.arguments, weights)
    data = cast("Mapping[str, object]", metadata["data"])
    more = {
        "run_sha256": files.sha256(run / files.MARKS["run"]),
        "campaign": data["campaign"],
        "is_simulated": data.get("is_simulated"),
        "licence": model_licence(metadata),
        "weights_sha256": files.sha256(run / WEIGHTS),
        "from": metadata.get("from"),
    }
    if len(design.mean) != channels:
        raise DatasetError(f"The weights in '{run}' do not match its run.json.", hint="Train the model again.")
    about = {**origin, **more} if origin["kind"] == "hub" else {**origin, "kind": "run", **more}
    return StartingEncoder(
        design.encoder,
        design.size,
        channels,
        design.mean,
        design.std,
        design.arguments,
        weights,
        about,
        design.crop,
    )


def _from_timm(folder: Path, origin: Mapping[str, str]) -> StartingEncoder:
    config = files.read_json(folder / CONFIG)
    cfg = config.get("pretrained_cfg", config)
    try:
        if not isinstance(cfg, dict):
            raise TypeError("pretrained_cfg is not an object")
        about = cast("dict[str, object]", cfg)
        encoder = str(config["architecture"])
        arguments = dict(cast("Mapping[str, object]", config.get("model_args") or {}))
        size = _size(about.get("input_size"))
        mean, std = (_normalisation(about.get(name), name) for name in ("mean", "std"))
        if (mean is None) != (std is None):
            raise ValueError("it has only one of mean and std")
        # the crop of encoders from elsewhere was chosen for their photographs
        key, value = files.SIGNS["encoder"]
        crop = read_crop(float(str(about.get("crop_pct", 1)))) if config.get(key) == value else 1.0
    except (KeyError, TypeError, ValueError) as error:
        why = f"it does not have {error}" if isinstance(error, KeyError) else reason(error)
        raise DatasetError(
            f"'{folder / CONFIG}' does not describe an encoder: {why}.",
            "`architecture`, and `input_size`, `mean` and `std` in pretrained_cfg, as timm writes them.",
        ) from error
    for name in ("in_chans", "num_classes"):  # the weights say the former, and no classes are needed
        arguments.pop(name, None)
    if not (folder / WEIGHTS).is_file():
        raise DatasetError(
            f"'{folder}' contains no {WEIGHTS}.{_about_pickles(folder.iterdir())}",
            "weights as a safetensors file.",
            "Save the weights with `safetensors.torch.save_file`.",
        )
    weights = _read_weights(folder / WEIGHTS)
    channels = _match(folder, encoder, arguments, weights)
    if mean is not None and std is not None and channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    card = hub.CARD if (folder / hub.CARD).is_file() else ""
    more = {
        "licence": str(config.get("license") or about.get("license") or _licence_of_card(folder / card) or UNKNOWN),
        "weights_sha256": files.sha256(folder / WEIGHTS),
    }
    return StartingEncoder(encoder, size, channels, mean, std, arguments, weights, {**origin, **more}, crop)


def _licence_of_card(card: Path) -> str:
    try:
        return str(hub.card_metadata(card.read_text("utf-8")).get("license") or "") if card.is_file() else ""
    except (InputError, UnicodeDecodeError):
        return ""


def _size(value: object) -> int | None:
    """Return the width of images from timm's `input_size`: channels, height and width."""
    if value is None:
        return None
    *_, height, width = cast("list[int]", value)
    if height != width or not 1 <= width <= 65_536:
        raise ValueError(f"input_size is {value}, not that of square images")
    return int(width)


def _normalisation(value: object, name: str) -> Normalisation | None:
    if value is None:
        return None
    numbers = tuple(float(one) for one in cast("list[float]", value))
    is_valid = all(math.isfinite(one) and (one > 0 or name == "mean") for one in numbers)
    if len(numbers) not in {1, COLOURS} or not is_valid:
        raise ValueError(f"{name} is {value}")
    return numbers


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file."""
    try:
        weights = load_file(path)
    except SafetensorError as error:
        with path.open("rb") as file:
            start = file.read(2)
        is_pickle = start in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}
        raise DatasetError(
            f"'{path}' is not a safetensors file: "
            + ("it is a pickle, which is never loaded, because it can run code." if is_pickle else f"{reason(error)}."),
            "weights as a safetensors file.",
            "Save the weights with `safetensors.torch.save_file`.",
        ) from error
    bad = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise DatasetError(f"'{bad[0]}' in '{path}' contains NaN or infinite values.", "finite weights.")
    return weights


def _match(folder: Path, encoder: str, arguments: Mapping[str, object], weights: dict[str, torch.Tensor]) -> int:
    """Return the number of channels that the weights take; remove those of a classifier.

    The weights say it, not the configuration: grey-scale encoders are published under one that says 3 channels.
    """
    module = create_encoder(encoder, COLOURS, arguments)
    expected = module.state_dict()
    missing = [name for name in expected if name not in weights]
    if missing:
        raise DatasetError(
            f"'{folder / WEIGHTS}' lacks '{missing[0]}' of the encoder '{encoder}' ({len(missing)} of "
            f"{len(expected)} tensors are missing).",
            "the weights of this encoder, with timm's names.",
        )
    channels = COLOURS
    for name, value in expected.items():
        found, wanted = tuple(weights[name].shape), tuple(value.shape)
        if found == wanted:
            continue
        is_first = (
            len(found) == len(wanted) == 4
            and wanted[1] == COLOURS
            and found[:1] + found[2:] == (wanted[:1] + wanted[2:])
        )
        if not is_first:
            raise DatasetError(
                f"'{name}' in '{folder / WEIGHTS}' has shape {found}.",
                f"shape {wanted}, as in the encoder '{encoder}'.",
            )
        channels = found[1]
    if channels not in {1, COLOURS}:
        raise InputError(
            f"The encoder in '{folder}' takes images of {channels} channels.",
            "3 channels (colour) or 1 (grey-scale).",
            "Choose another encoder: gzoo's images have three colours.",
        )
    classifier = cast("dict[str, object]", getattr(module, "pretrained_cfg", {})).get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))  # type: ignore[union-attr]
    unused = [name for name in weights if name not in expected]
    foreign = [name for name in unused if not name.startswith(prefixes)]
    if foreign:
        warnings.warn(
            f"{len(foreign)} tensors in '{folder / WEIGHTS}' are not part of the encoder '{encoder}' and are not used; "
            f"the first is '{foreign[0]}'.",
            GZooWarning,
            stacklevel=5,
        )
    for name in unused:
        del weights[name]
    return channels


def _about_pickles(paths: Iterable[Path]) -> str:
    """Return a sentence on the first file that is a pickle by its name, or ""."""
    names = sorted(path.name for path in paths if path.name.endswith(hub.PICKLES))
    return f" Pickles such as '{names[0]}' are never loaded, because they can run code." if names else ""
