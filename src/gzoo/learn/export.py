"""Export of a run in formats that other programs load: its encoder as a folder for timm, the whole model as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import yaml
from safetensors.torch import save

from gzoo import files
from gzoo.dataset.card import model_licence, model_terms
from gzoo.display import Sheet, Shown
from gzoo.learn import onnx_model
from gzoo.learn.encoders import Design
from gzoo.learn.model import open_run
from gzoo.learn.onnx_model import OnnxModel
from gzoo.learn.prediction import Member, open_member
from gzoo.trees.cite import cite

MADE_BY = dict([files.SIGNS["encoder"]])
CARD = "README.md"


@dataclass(frozen=True, slots=True, repr=False)
class ExportResult(Shown):
    """Result of `gzoo.export`.

    Attributes:
        path: The folder.
        encoder: Name of the timm encoder.
        n_features: Number of features that it returns for an image.
        weights_sha256: SHA-256 of its weights.
        onnx: The ONNX file, and how much it differs from the run; None if there is none.
    """

    path: Path
    encoder: str
    n_features: int
    weights_sha256: str
    onnx: OnnxModel | None

    def sheet(self) -> Sheet:
        """Return what the folder contains."""
        facts = {"encoder": self.encoder, "features": self.n_features, "SHA-256 of its weights": self.weights_sha256}
        if self.onnx:
            facts |= {"ONNX": self.onnx.path.name, "compared with the run": self.onnx.description}
        return Sheet(f"Export in {self.path}", facts)


def export(
    run: Path | str,
    *,
    out: Path | str,
    onnx: bool = True,
    overwrite: bool = False,
    wait: bool = False,
    progress: files.Progress | None = None,
) -> ExportResult:
    """Write a run as a folder that timm and ONNX Runtime open.

    The folder contains the encoder (`model.safetensors` and `config.json`), the whole model (`model.onnx`) and a card.
    `timm.create_model("local-dir:OUT", pretrained=True)` builds the encoder, which returns features, and
    `gzoo train --from OUT` starts from it.

    The input `images` of `model.onnx` has shape (galaxy, height, width, 3): uint8, red, green and blue, of the size
    that the model was trained on. The preprocessing is in the file. The outputs are `features`, and `concentrations`
    and `fractions` as `gzoo predict --views 1` writes them; for a target, `prediction`. The card lists their columns.
    The folder gets its name only if ONNX Runtime returns the numbers of the run for 64 images, in batches of several
    sizes: within 1e-4, in the logarithm of concentrations.

    Args:
        run: Run folder, written by `gzoo train`.
        out: Folder to write.
        onnx: Write the whole model as an ONNX file, which needs the extra `onnx`.
        overwrite: Replace an earlier export.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function to call with (stage, done, total).

    Raises:
        NotFoundError: The run does not exist or is not finished.
        DatasetError: The folder is not a run folder, or its weights do not match its design.
        InputError: The model cannot be converted to ONNX, or the file returns other numbers than the run.
        MissingExtraError: The extra `onnx` is not installed, and `onnx` is True.
        OutputExistsError: `out` already exists.
        BusyError: Another run writes the same output, and `wait` is False.
    """
    run, out = Path(run), Path(out)
    if onnx:
        onnx_model.require_onnx()
    weights, config, design = encoder_files(run)
    member = open_member(run)
    origin = {
        "encoder": design.encoder,
        "run_sha256": files.sha256(run / files.MARKS["run"]),
        "data_sha256": member.training_data["manifest_sha256"],
        "licence": config["license"],
        "not_predicted": list(member.not_predicted),
    }
    begun = {"command": "export", "run": origin["run_sha256"], "onnx": onnx}
    with files.work(out, kind="encoder", begun=begun, overwrite=overwrite, wait=wait, progress=progress) as work:
        files.write_bytes(work / "model.safetensors", weights)
        checksum = files.sha256(work / "model.safetensors")
        written = onnx_model.write_onnx(work, member, origin, progress) if onnx else None
        files.write_bytes(work / CARD, _card(member, config, checksum, written).encode())
        files.write_json(work / files.MARKS["encoder"], config)
    n_features = config["num_features"]
    assert isinstance(n_features, int)
    written = replace(written, path=out / written.path.name) if written else None
    return ExportResult(out, design.encoder, n_features, checksum, written)


def _card(member: Member, config: Mapping[str, object], checksum: str, onnx: OnnxModel | None) -> str:
    """Return the card of an export: how it is opened, what goes in and comes out, where it comes from, its terms."""
    design, run, data, campaign = member.model.design, member.metadata, member.training_data, member.campaign
    is_simulated, licence = bool(data.get("is_simulated")), str(config["license"])
    header = {
        "license": licence,
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["astronomy", "galaxies", "timm", *["onnx"] * bool(onnx), *["simulated"] * is_simulated],
    }
    of_model = (
        f"{licence}. {'This model must not be cited as an observation.' if is_simulated else model_terms(licence)}"
    )
    return _template("export_card").format(
        header=yaml.safe_dump(header, sort_keys=False),
        encoder=design.encoder,
        size=design.image_size,
        n_features=config["num_features"],
        what=f"`{member.target.name}`" if member.target else "how volunteers answer questions about it",
        onnx=_about_onnx(member, config, onnx) if onnx else "",
        title=campaign.title + (" (simulated data)" if is_simulated else ""),
        data=data,
        run=run,
        checksum=checksum,
        not_predicted=_not_predicted(member),
        terms=of_model,
        citation=cite("gzoo") if is_simulated else cite(campaign, "gzoo"),
    )


def _not_predicted(member: Member) -> str:
    names = ", ".join(f"`{name}`" for name in member.not_predicted)
    return f"Not predicted, because too few galaxies have votes on them: {names}.\n\n" if names else ""


def _about_onnx(member: Member, config: Mapping[str, object], onnx: OnnxModel) -> str:
    """Return the section of a card on the ONNX file."""
    design = member.model.design
    contents = {
        "features": "features of the encoder",
        "concentrations": "concentrations of the answers, recalibrated",
        "fractions": "predicted vote fractions",
        "prediction": "probabilities of the classes, recalibrated"
        if member.target and member.target.kind == "classes"
        else "mean and standard deviation of a normal distribution, recalibrated",
    }
    n_columns = {"features": config["num_features"], **{name: len(one) for name, one in onnx.columns.items()}}
    rows = [
        f"| `{name}` | (galaxy, {n_columns[name]}) | {contents[name]} | {found:.0e} |"
        for name, found in onnx.largest_difference.items()
    ]
    columns = [f"- `{name}`: {', '.join(f'`{one}`' for one in names)}" for name, names in onnx.columns.items()]
    return _template("export_card_onnx").format(
        size=design.image_size,
        mean=", ".join(f"{one:.4f}" for one in design.mean),
        std=", ".join(f"{one:.4f}" for one in design.std),
        first=(f"cropping to the central {design.size} pixels, " if design.crop < 1 else "")
        + "division by 255, "
        + "mean of the three colours, " * (design.channels == 1),
        outputs="\n".join(rows),
        columns="\n".join(columns),
        n_images=onnx.n_images,
        batches=", ".join(map(str, onnx_model.BATCHES)),
        versions=", ".join(f"{name} {one}" for name, one in onnx.versions.items()),
        checksum=onnx.sha256,
    )


def _template(name: str) -> str:
    return (resources.files("gzoo.learn") / f"{name}.md").read_text("utf-8")


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
