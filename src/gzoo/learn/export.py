"""Export of a trained encoder in the format that timm loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from gzoo import files
from gzoo.dataset.card import model_licence
from gzoo.display import Shown
from gzoo.learn.encoders import Design
from gzoo.learn.model import open_run

MADE_BY = dict([files.SIGNS["encoder"]])


@dataclass(frozen=True, slots=True, repr=False)
class ExportResult(Shown):
    """Result of `gzoo.export`.

    Attributes:
        path: The folder.
        encoder: Name of the timm encoder.
        n_features: Number of features that it returns for an image.
        weights_sha256: SHA-256 of its weights.
    """

    path: Path
    encoder: str
    n_features: int
    weights_sha256: str


def export(
    run: Path | str,
    *,
    out: Path | str,
    overwrite: bool = False,
    wait: bool = False,
    progress: files.Progress | None = None,
) -> ExportResult:
    """Write the encoder of a run as a folder that timm opens.

    The folder has `model.safetensors` and `config.json`. `timm.create_model("local-dir:OUT", pretrained=True)` builds
    the encoder, which returns features, and `gzoo train --from OUT` starts from it. The head, which answers questions,
    stays in the run.

    Args:
        run: Run folder, written by `gzoo train`.
        out: Folder to write.
        overwrite: Replace an earlier export.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function to call with (stage, done, total).

    Raises:
        NotFoundError: The run does not exist or is not finished.
        DatasetError: The folder is not a run folder, or its weights do not match its design.
        OutputExistsError: `out` already exists.
        BusyError: Another run writes the same output, and `wait` is False.
    """
    run, out = Path(run), Path(out)
    weights, config, design = encoder_files(run)
    begun = {"command": "export", "run": files.sha256(run / files.MARKS["run"])}
    with files.work(out, kind="encoder", begun=begun, overwrite=overwrite, wait=wait, progress=progress) as work:
        files.write_bytes(work / "model.safetensors", weights)
        files.write_json(work / files.MARKS["encoder"], config)
        checksum = files.sha256(work / "model.safetensors")
    n_features = config["num_features"]
    assert isinstance(n_features, int)
    return ExportResult(out, design.encoder, n_features, checksum)


def encoder_files(run: Path) -> tuple[bytes, dict[str, object], Design]:
    """Return the encoder's weights of a run, as a safetensors file, timm's `config.json` for them, and the design.

    From these two files, `timm.create_model("hf-hub:owner/name")` or `timm.create_model("local-dir:FOLDER")` builds
    the encoder, which returns features.

    Args:
        run: Run folder.

    Raises:
        NotFoundError: The run does not exist or is not finished.
        DatasetError: The folder is not a run folder, or its weights do not match its design.
    """
    model, metadata = open_run(run)
    design = model.design
    weights = {name: value.cpu().contiguous() for name, value in model.encoder.state_dict().items()}
    architecture, _, tag = design.encoder.partition(".")
    config: dict[str, object] = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": model.n_features,
        "model_args": {**design.arguments, "in_chans": design.channels},
        "pretrained_cfg": {
            "tag": tag,
            "input_size": [design.channels, design.size, design.size],
            "interpolation": "bilinear",
            "crop_pct": design.crop,
            "crop_mode": "squash" if design.crop == 1 else "center",
            "mean": list(design.mean),
            "std": list(design.std),
            "num_classes": 0,
        },
        "license": model_licence(metadata),
        **MADE_BY,
    }
    return save(weights, metadata={"format": "pt"}), config, design
