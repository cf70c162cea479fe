"""Sharing: a trained encoder in the form that timm itself loads."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from gzoo.learn.model import open_run


def encoder_files(run: Path) -> tuple[bytes, dict[str, object]]:
    """Weights of a run's encoder, as a safetensors file, and timm's `config.json` for them.

    `timm.create_model("hf-hub:owner/name")`, or `local-dir:FOLDER`, makes of both the encoder that gives features.

    Args:
        run: The run folder.

    Raises:
        NotFoundError: There is no such run, or it is not finished.
        DatasetError: It is not a run folder, or its weights do not fit.
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
            "custom_load": False,
            "input_size": [3, design.size, design.size],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(design.mean),
            "std": list(design.std),
            "num_classes": 0,
            "pool_size": None,
        },
    }
    return save(weights, metadata={"format": "pt"}), config
