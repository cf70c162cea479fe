"""A run as one ONNX file: pixels as they are stored go in, the columns of a prediction file come out.

The file is written by the TorchScript exporter of torch. On the locked torch it converts every encoder that its
successor converts and some more, a few times faster, to smaller files, and needs no further package.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import nn

from gzoo import files
from gzoo.display import Shown
from gzoo.errors import InputError, MissingExtraError, reason
from gzoo.files import Progress
from gzoo.learn.prediction import Member, concentrations, target_columns, vote_columns
from gzoo.scoring.scaling import SMALLEST
from gzoo.trees.tree import FloatArray, Question

FILE = "model.onnx"
INPUT, FEATURES = "images", "features"
OPSET = 18
MAX_BYTES = 2_000_000_000  # of a protocol buffer, in which an ONNX file is written
BATCHES = (1, 4, 7, 52)
"""Images of the batches in which the file is compared with the run: 64 in total."""
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, repr=False)
class OnnxModel(Shown):
    """An ONNX file that was compared with its run.

    Attributes:
        path: The file.
        sha256: Its checksum.
        columns: Name of each output but the features -> its columns, named as in a prediction file.
        n_images: Number of images on which it was compared with the run.
        largest_difference: Name of each output -> its largest difference to the run on these images: of concentrations
            and fractions in their logarithm, of probabilities as they are, of a value in units of its standard
            deviation, of features in units of the largest.
        versions: Version of each package that it was written and read with: gzoo, torch, timm, onnx, onnxruntime.
    """

    path: Path
    sha256: str
    columns: Mapping[str, tuple[str, ...]]
    n_images: int
    largest_difference: Mapping[str, float]
    versions: Mapping[str, str]

    @property
    def description(self) -> str:
        """The end of a sentence on its largest difference to the run."""
        units = {"concentrations": "log concentration", "prediction": "the prediction"}
        name = next((one for one in units if one in self.columns), FEATURES)
        found = self.largest_difference[name]
        return f"on {self.n_images} images it differs from the run by at most {found:.0e} in {units.get(name, name)}"


def require_onnx() -> None:
    """Check that the packages of the extra `onnx` are installed.

    Raises:
        MissingExtraError: One is not.
    """
    for name in ("onnx", "onnxruntime"):
        if find_spec(name) is None:
            raise MissingExtraError(
                f"Package '{name}' is not installed.",
                "the extra 'onnx'.",
                "Run `pip install 'gzoo[onnx]'`, or pass --no-onnx to write only what timm opens.",
            )


def write_onnx(folder: Path, member: Member, about: Mapping[str, object], progress: Progress | None) -> OnnxModel:
    """Write a run as an ONNX file, and compare it with the run on 64 images.

    The input `images` has shape (galaxy, height, width, 3), uint8, red, green and blue as decoders of images return
    them; height and width are fixed. All else is in the file: normalisation, encoder, head and recalibration. Outputs
    are float32: `features`, shape (galaxy, feature), and `concentrations` and `fractions`, or `prediction` for a
    target. Their columns are in the metadata of the file, under the key `gzoo`.

    Args:
        folder: Folder to write the file into.
        member: The run.
        about: What its metadata contains of its origin.
        progress: Function to call with (stage, images done, images in total).

    Raises:
        InputError: The encoder cannot be converted, or the file gives other numbers than the run.
    """
    encoder = member.model.design.encoder
    n_bytes = sum(one.numel() * one.element_size() for one in member.model.state_dict().values())
    if n_bytes > MAX_BYTES:
        raise InputError(
            f"The model has {n_bytes / 1e9:.1f} GB of weights, too many for an ONNX file.",
            "at most 2 GB.",
            "Pass --no-onnx to write only what timm opens.",
        )
    graph = _Graph(member).eval()
    if progress:
        progress("Converting to ONNX", 0, sum(BATCHES))
    try:
        content = _converted(graph, {**about, "size": member.model.design.image_size, "columns": graph.columns})
    except Exception as error:  # depends on the encoder
        raise InputError(
            f"The encoder '{encoder}' cannot be converted to ONNX: {reason(error)}.",
            "an encoder that torch.onnx converts.",
            "Pass --no-onnx to write only what timm opens.",
        ) from error
    path = folder / FILE
    files.write_bytes(path, content)
    difference = _compare(path, member, graph, progress)
    wrong = {name: found for name, found in difference.items() if not found <= TOLERANCE}
    if wrong:
        path.unlink()
        name, found = max(wrong.items(), key=lambda one: one[1])
        raise InputError(
            f"The ONNX file of the encoder '{encoder}' gives other {name} than the run: they differ by {found:.1e}.",
            f"differences of at most {TOLERANCE:g} on {sum(BATCHES)} images.",
            "Pass --no-onnx to write only what timm opens.",
        )
    versions = {name: version(name) for name in ("gzoo", "torch", "timm", "onnx", "onnxruntime")}
    return OnnxModel(path, files.sha256(path), graph.columns, sum(BATCHES), difference, versions)


class _Graph(nn.Module):
    """A run from stored pixels to the columns of a prediction file.

    Attributes:
        columns: Name of each output but the features -> its columns.
    """

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.model, self.member = member.model, member
        found = member.recalibration
        self.questions = [
            one
            for one in member.campaign.published_tree.questions
            if one.name not in member.not_predicted and (found is None or one.name in found.questions)
        ]
        self.columns = self._columns()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return features and predictions of images, shape (galaxy, height, width, 3)."""
        features = self.model.features(images.permute(0, 3, 1, 2))
        output = self.model.head(features)
        if self.member.target:
            return features, self._target(output)
        if not self.questions:
            return (features,)
        logs, fractions = zip(*(self._question(output.log(), one) for one in self.questions), strict=True)
        return features, torch.cat(logs, dim=1).exp(), torch.cat(fractions, dim=1)

    def _columns(self) -> dict[str, tuple[str, ...]]:
        """Return the columns of each output, in the order in which `forward` returns them."""
        tree, target = self.member.campaign.published_tree, self.member.target
        if target:
            return {"prediction": target.columns}
        if not self.questions:
            return {}
        of_concentrations = [
            f"{name.removesuffix('_no')}_concentration_no"
            if one.multiple and i >= len(one.answers)
            else f"{name}_concentration"
            for one in self.questions
            for i, name in enumerate(tree.concentrations[tree.concentration_slice(one.name)])
        ]
        of_fractions = [f"{name}_fraction" for one in self.questions for name in tree.columns[tree.slice(one.name)]]
        return {"concentrations": tuple(of_concentrations), "fractions": tuple(of_fractions)}

    def _question(self, logs: torch.Tensor, question: Question) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log concentrations and fractions of a question; see `gzoo.scoring.recalibration`."""
        own, n = logs[:, self.member.campaign.published_tree.concentration_slice(question.name)], len(question.answers)
        # shape (galaxy, choice, alternative): one choice among all answers, or whether to give each of them
        choices = own.reshape(-1, 2, n).transpose(1, 2) if question.multiple else own.reshape(-1, 1, n)
        if self.member.recalibration:
            found = self.member.recalibration.questions[question.name]
            temperature, factor = (torch.tensor(one)[:, None] for one in (found.temperature, found.factor))
            bias = torch.tensor(found.bias)
            bias = torch.stack([bias / 2, -bias / 2], dim=1) if question.multiple else bias[None]
            total = torch.logsumexp(choices, dim=2, keepdim=True)
            moved = (choices - total).clamp(min=math.log(SMALLEST)) / temperature + bias
            choices = torch.log_softmax(moved, dim=2) + total + factor.log()
            choices = choices.clamp(min=math.log(SMALLEST))
        fractions = torch.softmax(choices, dim=2)
        if question.multiple:
            return choices.transpose(1, 2).reshape(-1, 2 * n), fractions[:, :, 0]
        return choices[:, 0], fractions[:, 0]

    def _target(self, output: torch.Tensor) -> torch.Tensor:
        """Return the prediction of a target; see `gzoo.scoring.target_likelihood.recalibrated`."""
        found = self.member.target_recalibration
        if self.member.target and self.member.target.kind == "classes":
            return torch.softmax(output / found.get("temperature", 1.0), dim=1)
        return output * torch.tensor([1.0, found.get("std_factor", 1.0)])


def _converted(graph: _Graph, about: Mapping[str, object]) -> bytes:
    """Return the ONNX file of a graph."""
    import onnx

    size = graph.model.design.image_size
    names = [FEATURES, *graph.columns]
    file = io.BytesIO()
    with warnings.catch_warnings(), _without_output():
        warnings.simplefilter("ignore")  # the exporter warns of itself, and of shapes that do not change here
        torch.onnx.export(
            graph,
            (torch.zeros(2, size, size, 3, dtype=torch.uint8),),
            cast(Any, file),  # which the types of torch do not know
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=names,
            dynamic_axes={name: {0: "galaxy"} for name in (INPUT, *names)},
        )
    model = onnx.load_from_string(file.getvalue())
    onnx.helper.set_model_props(model, {"gzoo": json.dumps(about), "model_license": str(about["licence"])})
    onnx.checker.check_model(model)
    return model.SerializeToString()


@contextlib.contextmanager
def _without_output() -> Generator[None]:
    """Discard what is written to the standard output: where the exporter fails, hundreds of lines beside its error."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)  # not `sys.stdout`, because C++ writes it
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _compare(path: Path, member: Member, graph: _Graph, progress: Progress | None) -> dict[str, float]:
    """Return the largest difference of each output between an ONNX file and its run."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [FEATURES, *graph.columns]
    images = test_images(member.model.design.image_size)
    largest = dict.fromkeys(names, 0.0)
    for i, n in enumerate(BATCHES):
        start = sum(BATCHES[:i])
        batch = images[start : start + n]
        found = cast("Sequence[npt.NDArray[np.float32]]", session.run(names, {INPUT: batch}))
        wanted = _by_the_run(member, graph, batch)
        for name, one, other in zip(names, found, wanted, strict=True):
            largest[name] = max(largest[name], _difference(name, one.astype(np.float64), other, member))
        if progress:
            progress("Converting to ONNX", start + n, len(images))
    return largest


def _by_the_run(member: Member, graph: _Graph, images: npt.NDArray[np.uint8]) -> list[FloatArray]:
    """Return what a run says of images: features, and the columns that `gzoo predict` writes."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features = member.model.features(pixels).double().numpy()
    if not graph.columns:
        return [features]
    keys = pl.DataFrame({"dataset_name": "", "id_str": [str(i) for i in range(len(images))]})
    batch: Any = {"image": pixels, "id_str": keys["id_str"].to_list()}
    values = concentrations(member.model, batch, views=1)[None]
    table = (
        target_columns(keys, values, [member], member.target)
        if member.target
        else vote_columns(keys, values, [member], member.not_predicted, member.campaign.published_tree)
    )
    return [features, *(table.select(one).to_numpy() for one in graph.columns.values())]


def _difference(name: str, found: FloatArray, wanted: FloatArray, member: Member) -> float:
    """Return the largest difference between two outputs in the units of `OnnxModel`; infinite if one is not finite."""
    if name == FEATURES:
        difference = (found - wanted) / max(np.abs(wanted).max(), np.finfo(np.float32).tiny)
    elif not member.target:
        with np.errstate(all="ignore"):
            difference = np.log(found) - np.log(wanted)
    elif member.target.kind == "value":
        difference = (found - wanted) / wanted[:, 1:]
    else:
        difference = found - wanted
    return float(np.abs(np.where(np.isfinite(difference), difference, np.inf)).max())


def test_images(size: int) -> npt.NDArray[np.uint8]:
    """Return 64 images that look like galaxies or like none: discs of all sizes and colours on noise, and extremes.

    Args:
        size: Width and height in pixels.

    Returns:
        Shape (64, size, size, 3).
    """
    rng = np.random.default_rng(64)
    n = sum(BATCHES)
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle, ratio, radius = rng.uniform(0, np.pi, n), rng.uniform(0.2, 1, n), np.exp(rng.uniform(-4, -1, n))
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    across = (np.cos(angle)[:, None, None] * y - np.sin(angle)[:, None, None] * x) / ratio[:, None, None]
    light = np.exp(-np.hypot(along, across) / radius[:, None, None])
    brightness, sky = rng.uniform(0, 300, (n, 3)), rng.uniform(0, 40, n)
    images = light[..., None] * brightness[:, None, None] + sky[:, None, None, None] * rng.random((n, size, size, 3))
    images[-3:] = 0, 255, 0
    images[-1] = rng.integers(0, 256, images[-1].shape)
    return images.clip(0, 255).astype(np.uint8)
