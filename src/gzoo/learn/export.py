"""Export of a trained encoder in the format that timm loads."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from gzoo.learn.model import open_run


def encoder_files(run: Path) -> tuple[bytes, dict[str, object]]:
    """Return the encoder's weights of a run, as a safetensors file, and timm's `config.json` for them.

    From these two files, `timm.create_model("hf-hub:owner/name")` or `timm.create_model("local-dir:FOLDER")` builds
    the encoder, which returns features.

    Args:
        run: Run folder.

    Raises:
        NotFoundError: The run does not exist or is not finished.
        DatasetError: The folder is not a run folder, or its weights do not match its design.
    """
    model, _ = open_run(run)
    design = model.design
    weights = {name: value.cpu().contiguous() for name, value in model.encoder.state_dict().items()}
    architecture, _, tag = design.encoder.partition(".")
    config: dict[str, object] = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": int(model.head.in_features),
        "model_args": {"in_chans": 3},
        "pretrained_cfg": {
            "tag": tag,
            "input_size": [3, design.size, design.size],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(design.mean),
            "std": list(design.std),
            "num_classes": 0,
        },
    }
    return save(weights, metadata={"format": "pt"}), config
