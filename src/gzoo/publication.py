"""Publishing: a dataset folder or a trained model onto the Hub, checked before and after."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from gzoo import files, hub
from gzoo.dataset import card
from gzoo.errors import DatasetError, InputError, NotFoundError
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.cite import cite

OWNED = {
    "dataset": r"(data|tiny|index)/.*\.parquet|[a-z_]+\.parquet|croissant\.json|tree\.svg",
    "model": r"run/.*|config\.json|model\.safetensors",
}
"""What an earlier version may have left in a repository, and is removed where the new one lacks it."""
RUN_FILES = ("model.safetensors", "run.json", "metrics.csv", "training_galaxies.parquet")

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What was published.

    Attributes:
        kind: "dataset" or "model".
        sent: Which files went where; of a dry run, which would.
        is_dry: Whether nothing was done.
        is_simulated: Whether no telescope and no person was involved.
    """

    kind: str
    sent: hub.Sent
    is_dry: bool
    is_simulated: bool


def publish(
    folder: Path | str,
    repository: str,
    *,
    private: bool = False,
    gated: str | None = None,
    tag: str | None = None,
    source: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PublishResult:
    """A dataset folder, or a run folder as a model, in a repository of the Hub.

    A dataset is checked first (`gzoo.check`), and refused if anything is wrong with it. Only what changed is sent, in
    one commit, so that nobody ever sees half of it; a call that was stopped goes on where it was. What arrived is
    compared with the manifest, then the commit gets its tag.

    A model becomes what timm loads (`model.safetensors` and `config.json`, the encoder), the run as gzoo reads it
    (`run/`), and a card. Data under cc-by-nc-sa-4.0 ask that the source of the training is released with the model:
    without `source` only models of simulated data are published.

    Args:
        folder: Made by gzoo: a dataset (`gzoo build`, `gzoo union`) or a run (`gzoo train`).
        repository: `owner/name`; it is made if it is not there.
        private: Let only its owners see it.
        gated: "auto" or "manual": who wants to read it has to ask, and is let in at once or by its owners.
        tag: Name for this version, such as v1; it must not be taken.
        source: Of a model: where the source of its training is.
        dry_run: Only say what would be sent.
        progress: Called as the work goes on.

    Raises:
        NotFoundError: There is no such folder.
        DatasetError: It is no folder of gzoo's, or something is wrong with it.
        InputError: An argument cannot be used, or a model lacks its source.
        AccessError: Nobody is logged in, or may not write there.
        HubError: The Hub cannot be reached, or has something else than what was sent.
    """
    root, say = Path(folder), progress or _silent
    if hub.repository_of(repository) != (repository, "main"):
        raise InputError(f"'{repository}' is no name of a repository on the Hub.", "owner/name.", "Choose such a name.")
    if gated not in (None, "auto", "manual"):
        raise InputError(f"gated is '{gated}'.", "auto or manual.", "Choose one, or leave it out.")
    if tag is not None and (
        not re.fullmatch(r"[A-Za-z0-9][\w.-]*", tag) or tag.endswith((".", ".lock")) or ".." in tag
    ):
        raise InputError(f"The tag is '{tag}'.", "Letters, digits, points and hyphens, such as v1.", "Choose another.")
    if not root.exists():
        files.open_folder(root)  # says that there is nothing, or nothing finished
    is_run = (root / files.MARKS["run"]).is_file() and not (root / files.MANIFEST).is_file()
    kind = "model" if is_run else "dataset"
    if source and not is_run:
        raise InputError(
            "--source says where the source of a training is, and this is a dataset.",
            "--source only with a run folder.",
            "Leave it out.",
        )
    with tempfile.TemporaryDirectory(prefix="gzoo-") as place:
        contents = _model(root, repository, source, Path(place)) if is_run else _dataset(root, repository, say)
        sent = hub.give(
            contents.paths,
            contents.digests,
            repository,
            kind=kind,
            owned=OWNED[kind],
            private=private,
            gated=gated,
            tag=tag,
            dry_run=dry_run,
            progress=say,
        )
    return PublishResult(kind, sent, dry_run, contents.is_simulated)


def _silent(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Files:
    """What goes into a repository: by name there the file and its sha256."""

    paths: Mapping[str, Path]
    digests: Mapping[str, str]
    is_simulated: bool


def _dataset(folder: Path, repository: str, say: Progress) -> _Files:
    """The files of a dataset that is sound."""
    from gzoo.dataset.check import check

    manifest = files.open_folder(folder)
    hub.require_login(repository)  # the check may take an hour
    before = files.sha256(folder / files.MANIFEST)
    found = check(folder, progress=say)
    if not found.is_valid:
        first, n = found.findings[0], len(found.findings)
        raise DatasetError(
            f"{folder} is not sound: {first.check}: {first}{f', and {n - 1} more findings' if n > 1 else ''}.",
            first.expected,
            f"See all with `gzoo check {folder}`; copy or build it again, then publish.",
        )
    if files.sha256(folder / files.MANIFEST) != before:
        raise DatasetError(f"{folder} was changed while it was checked.", "One that stays.", "Publish it again.")
    listed = cast("dict[str, dict[str, str]]", manifest["files"])
    digests = {**{name: one["sha256"] for name, one in listed.items()}, files.MANIFEST: before}
    return _Files({name: folder / name for name in digests}, digests, found.is_simulated)


# ---- models ----------------------------------------------------------------------------------------------------------


def _model(run: Path, repository: str, source: str | None, place: Path) -> _Files:
    """The files of a model's repository, of which the new ones are written to a folder."""
    facts = files.read_json(run / files.MARKS["run"])
    key, value = files.SIGNS["run"]
    if facts.get(key) != value:
        raise DatasetError(f"{run} says {key} {facts.get(key)!r}.", f"{value}.", "Train it again.")
    try:
        data = cast("Mapping[str, object]", facts["data"])
        campaign, licence = campaign_of(str(data["campaign"])), str(data["licence"])
        is_simulated = bool(data["is_simulated"])
    except KeyError as error:
        raise DatasetError(
            f"{run / 'run.json'} has no {error}.", "What `gzoo train` writes.", "Train again."
        ) from error
    _require_source(licence, is_simulated, source)
    missing = [name for name in RUN_FILES if not (run / name).is_file()]
    if missing:
        raise NotFoundError(f"{run} has no {missing[0]}.", "A finished run.", "Train it again.")
    from gzoo.learn.export import encoder_files

    if files.sha256(run / "model.safetensors") != facts.get("weights_sha256"):
        raise DatasetError(
            f"The weights in {run} are not those of its run.json.",
            "The sha256 written there.",
            "Copy or train it again.",
        )
    weights, config = encoder_files(run)
    (place / "model.safetensors").write_bytes(weights)
    config["license"] = licence
    files.write_json(place / "config.json", config)
    text = model_card(campaign, facts, repository, source or "", hashlib.sha256(weights).hexdigest())
    (place / "README.md").write_text(text, "utf-8")
    paths = {name: place / name for name in ("README.md", "config.json", "model.safetensors")}
    paths |= {f"run/{name}": run / name for name in RUN_FILES}
    return _Files(paths, {name: files.sha256(path) for name, path in paths.items()}, is_simulated)


def _require_source(licence: str, is_simulated: bool, source: str | None) -> None:
    if source is not None and not re.fullmatch(r"https?://[^\s/<>\"]+\.[^\s/<>\"]+(/[^\s<>\"]*)?", source):
        raise InputError(f"--source is '{source}'.", "An address that starts with https://.", "Give the whole address.")
    if source or is_simulated or licence == "cc0-1.0":
        return
    asks = "which asks" if licence == card.SHARE_ALIKE else "which may ask"
    raise InputError(
        f"The model's data are under licence {licence}, {asks} that the source of the training is released with it.",
        "The address of that source: the code and settings that trained it.",
        "Give it with --source https://...",
    )


def model_card(campaign: Campaign, facts: Mapping[str, object], repository: str, source: str, weights: str) -> str:
    """The card of a model: what it is, from which data, under which licence, and how it is cited.

    Args:
        campaign: Of the data.
        facts: What `run.json` says.
        repository: `owner/name` of the model.
        source: Where the source of the training is, or "".
        weights: Sha256 of the encoder's weights.
    """
    data, design, settings = (cast("Mapping[str, object]", facts[key]) for key in ("data", "design", "settings"))
    origin = cast("Mapping[str, str]", data.get("hub") or {})
    is_simulated, licence = bool(data["is_simulated"]), str(data["licence"])
    pretrained = cast("Mapping[str, str] | None", facts.get("pretrained"))
    encoder, size = str(design["encoder"]), cast(int, design["size"])
    title = f"{campaign.title}: {encoder}{' (simulated data)' if is_simulated else ''}"
    header: dict[str, object] = {
        "license": licence,
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["galaxy zoo", "astronomy", "galaxies", "timm", *(["simulated"] if is_simulated else [])],
        **({"datasets": [origin["repository"]]} if origin else {}),
    }
    if not is_simulated:
        header["tags"] = [
            *cast("list[str]", header["tags"]),
            *(f"arxiv:{paper.arxiv}" for paper in campaign.papers if paper.arxiv),
        ]
    names = ", ".join(f"`{name}`" for name in cast("list[str]", data["dataset_names"]))
    where = (
        f"`{origin['repository']}` on the Hub, commit `{origin['commit']}`" if origin else "a folder, not from the Hub"
    )
    lines = [f"# {title}", ""]
    if is_simulated:
        lines += [
            "> **Simulated.** Trained on images and votes that gzoo drew, for tests and demonstrations. It knows "
            "nothing of real galaxies.",
            "",
        ]
    lines += [
        f"A `{encoder}` that looks at images of {size} x {size} pixels and says how volunteers of {campaign.title} "
        f"would answer: for each of {len(cast('list[str]', design['columns']))} answers a concentration, that is, not "
        "only which share to expect but how sure of it one can be.",
        "",
        "## Use",
        "",
        "Features of galaxies, with timm alone:",
        "```python",
        "import timm",
        "",
        f'encoder = timm.create_model("hf-hub:{repository}", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder))",
        "```",
        "What volunteers would say, with gzoo:",
        "```sh",
        f"hf download {repository} --include 'run/*' --local-dir model",
        "gzoo predict model/run DATASET --split test --out predictions.parquet",
        "```",
        "",
        "## Data",
        "",
        f"- Dataset: {names} of {campaign.title} (`{campaign.name}`), from {where}.",
        f"- sha256 of its manifest: `{data['manifest_sha256']}`.",
        f"- Trained on {facts['n_train']:,} galaxies, validated on {facts['n_validation']:,} ({data['validation']}); "
        f"split scheme `{data.get('split_scheme')}`. `run/training_galaxies.parquet` lists them; `gzoo score` refuses them.",
        "",
        "## Training",
        "",
        "Dirichlet-multinomial loss on counts of votes, all questions at once.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in settings.items()),
        "",
        f"Validation loss {facts['validation_loss']:.4f} nats per galaxy (best of {facts['n_epochs']} epochs: "
        f"{facts['best_epoch']}); knowing only the training votes gives {facts['baseline_validation_loss']:.4f}.",
        "",
    ]
    if pretrained:
        lines += [
            f"It started from the weights of `{pretrained['repository']}`, commit `{pretrained['commit']}`, licence "
            f"{pretrained['licence']}.",
            "",
        ]
    lines += [
        f"sha256 of the encoder's weights: `{weights}`; of the whole model's: `{facts['weights_sha256']}`.",
        "",
        "## Limits",
        "",
        "- It repeats what volunteers say of images, biases included: faint, small or distant galaxies look smooth.",
        "- It knows the images of its data, cut and coloured in one way. On others it errs, and is sure of itself.",
        "- Score it on galaxies that it has not seen (`gzoo score`) before you rely on it.",
        "",
        "## Licence and citation",
        "",
    ]
    if is_simulated:
        lines.append(f"{licence}. Nothing here may be cited as an observation.")
        if source:
            lines.append(f"Source of the training: <{source}>.")
        lines += ["", "```bibtex", cite("gzoo"), "```", ""]
    else:
        lines += [
            f"The data are under {licence}. {card.model_terms(licence)}"
            + (" This model is under the same licence." if licence == card.SHARE_ALIKE else ""),
            "",
            f"Source of the training: <{source}>.",
            "",
            "Please cite the papers of the data:",
            "",
            "```bibtex",
            cite(campaign.name, "gzoo"),
            "```",
            "",
        ]
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=110)}---\n\n" + "\n".join(lines)
