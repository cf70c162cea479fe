"""Publication of datasets and models on the Hub, checked before and verified after the upload."""

from __future__ import annotations

import hashlib
import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import cast

import yaml

from gzoo import files, hub
from gzoo.dataset import card
from gzoo.display import Sheet, Shown
from gzoo.errors import DatasetError, GZooWarning, InputError, NotFoundError, reason
from gzoo.trees.campaign import Campaign, of_manifest
from gzoo.trees.cite import cite

Contents = tuple[dict[str, Path], dict[str, str], bool]
"""The files of a repository by name, their SHA-256, and whether the data are simulated."""
RUN_FILES = ("model.safetensors", "run.json", "metrics.csv", "training_galaxies.parquet")
OPTIONAL_RUN_FILES = ("metrics_by_campaign.csv", "training_features.safetensors")
"""Files that a run has if it was trained on several campaigns, and on enough galaxies."""
SIMULATED_NOTE = (
    "> **Simulated.** Trained on images and votes that gzoo simulated, for tests and demonstrations. The model has not "
    "seen real galaxies.\n\n"
)
_GATE = "extra_gated_"
_PROMPT = f"{_GATE}prompt"
_TAG = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w.-]*(?<!\.)(?<!\.lock)")
_URL = re.compile(r"https?://[^\s/<>\"]+\.[^\s/<>\"]+(/[^\s<>\"]*)?")


@dataclass(frozen=True, slots=True, repr=False)
class PublishResult(Shown):
    """What was published.

    Attributes:
        kind: "dataset" or "model".
        sent: The files that were uploaded, or in a dry run those that would be.
        is_dry: Whether this was a dry run.
        is_simulated: Whether the data are simulated.
    """

    kind: str
    sent: hub.UploadResult
    is_dry: bool
    is_simulated: bool

    def sheet(self) -> Sheet:
        """Return what was sent, or what would be."""
        return Sheet(
            f"Dry run: nothing was sent of the {self.kind}" if self.is_dry else f"Published {self.kind}",
            {
                "page": self.sent.page,
                "commit": self.sent.commit,
                "tag": self.sent.tag,
                "files": f"{len(self.sent.files):,} ({self.sent.n_bytes:,} bytes); {self.sent.n_kept:,} are unchanged",
                "removed": self.sent.removed,
                "simulated": self.is_simulated,
            },
        )


def publish(
    folder: Path | str,
    repository: str,
    *,
    private: bool | None = None,
    gated: str | None = None,
    tag: str | None = None,
    source: str | None = None,
    gate_terms: Path | str | None = None,
    verify: bool = True,
    dry_run: bool = False,
    progress: files.Progress | None = None,
) -> PublishResult:
    """Publish a dataset, or a run as a model, in a repository of the Hub.

    A dataset is checked first (`gzoo.check`), and refused if the check finds a problem. Only changed files are sent; an
    interrupted upload can be resumed. Up to 100 of them become one commit, so that nobody sees a part of them. More
    become several: until the last one, the repository is marked as unfinished, and gzoo does not read it. The checksums
    that the Hub reports are compared with the manifest before the last commit gets its tag.

    What owners wrote into the card on the Hub is kept: keys of its header that gzoo does not write, such as
    `extra_gated_prompt`, further tags, and further sections.

    A model is published in the format of timm (`model.safetensors` and `config.json`, the encoder), with the run
    (`run/`) and a card. The licence cc-by-nc-sa-4.0 of data requires that the training code is released with the
    model: without `source` only models of simulated data are published.

    Args:
        folder: Dataset folder (from `gzoo build` or `gzoo union`) or run folder (from `gzoo train`).
        repository: `owner/name` on the Hub. The repository is created if it does not exist.
        private: Make the repository visible to its owners only, or to everyone. Default: the repository's setting;
            a new repository gets the default of its owner.
        gated: "auto" or "manual": how readers' requests for access are approved. Default: the repository's setting; a
            new repository is not gated.
        tag: Name of this version, such as v1. It must be new.
        source: Address of the training code, for a model.
        gate_terms: File with the terms that readers of a gated repository agree to: YAML with the Hub's keys, such as
            `extra_gated_prompt` and `extra_gated_fields`, or text, which becomes the prompt.
        verify: Download the files whose checksum the Hub does not report, to compare them.
        dry_run: Report what would be sent without sending it.
        progress: Called as (stage, done, total).

    Raises:
        NotFoundError: The folder, or a file in it, does not exist.
        DatasetError: The folder is not a dataset or run of gzoo, or the check found a problem.
        InputError: An argument is invalid, a model lacks its source, or the Hub does not accept the card's metadata.
        AccessError: You are not logged in (which `dry_run` does not need), or may not write to the repository.
        HubError: The Hub cannot be reached, or its files differ from those that were sent.
    """
    root, progress = Path(folder), progress or hub.ignore_progress
    is_run = (root / files.MARKS["run"]).is_file() and not (root / files.MANIFEST).is_file()
    _check_arguments(repository, gated, tag, source, is_run)
    terms = _gate_terms(Path(gate_terms)) if gate_terms is not None else {}
    kind = "model" if is_run else "dataset"
    with tempfile.TemporaryDirectory(prefix="gzoo-") as temporary:
        if is_run:
            paths, checksums, is_simulated = _model_files(root, repository, source or "", Path(temporary))
        else:
            paths, checksums, is_simulated = _dataset_files(root, repository, progress, dry_run)
        upload = hub.Upload(
            paths,
            checksums,
            repository,
            kind,
            private=private,
            gated=gated,
            tag=tag,
            card=partial(_merged_card, paths[hub.CARD].read_text("utf-8"), terms, repository),
            verify=verify,
            progress=progress,
        )
        return PublishResult(kind, upload.run(dry_run=dry_run), dry_run, is_simulated)


def _check_arguments(repository: str, gated: str | None, tag: str | None, source: str | None, is_run: bool) -> None:
    if hub.repository_of(repository) != (repository, "main"):
        raise InputError(f"Invalid value for repository: '{repository}'.", "'owner/name', such as 'alice/galaxies'.")
    if gated not in (None, "auto", "manual"):
        raise InputError(f"Invalid value for gated: '{gated}'.", "'auto' or 'manual'.")
    if tag is not None and not _TAG.fullmatch(tag):
        raise InputError(f"Invalid value for tag: '{tag}'.", "letters, digits, points and hyphens, such as 'v1'.")
    if source is not None and not _URL.fullmatch(source):
        raise InputError(f"Invalid value for source: '{source}'.", "a complete address that starts with https://.")
    if source and not is_run:
        raise InputError(
            "A dataset does not have a source of its training.",
            "a run folder with --source.",
            "Omit the --source option.",
        )


def _gate_terms(path: Path) -> dict[str, object]:
    """Return the entries of a card's header that a file of terms contains."""
    if not path.is_file():
        raise NotFoundError(f"File of terms not found: '{path}'.", hint="Check the path passed to `--gate-terms`.")
    try:
        text = path.read_text("utf-8")
        found: object = yaml.safe_load(text) if path.suffix.lower() in {".yaml", ".yml"} else {_PROMPT: text.strip()}
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise InputError(f"Cannot parse '{path}': {reason(error)}.", "YAML, or a text in UTF-8.") from error
    entries = cast("dict[object, object]", found if isinstance(found, dict) else {})
    wrong = [str(key) for key in entries if not str(key).startswith(_GATE)]
    if not entries or wrong or entries.get(_PROMPT) == "":
        what = f"key '{wrong[0]}'" if wrong else "no terms"
        raise InputError(f"'{path}' contains {what}.", f"keys that start with `{_GATE}`, such as `{_PROMPT}`.")
    return {str(key): value for key, value in entries.items()}


def _merged_card(own: str, terms: Mapping[str, object], repository: str, there: str, checksum: str) -> str:
    """Return a card with what owners added to the one on the Hub, and with terms of access.

    Args:
        own: The card.
        terms: Further entries of its header.
        repository: `owner/name`.
        there: The card on the Hub, or "".
        checksum: SHA-256 that the manifest there lists for its card, or "".
    """
    if not there:
        return hub.with_additions(own, hub.Additions(terms))
    try:
        published, additions = hub.split_card(there, own)
    except InputError as error:
        raise InputError(
            f"Cannot keep what the card of '{repository}' contains: {error.message}", hint="Fix the card on the Hub."
        ) from error
    is_same = hashlib.sha256(published.encode()).hexdigest() == checksum
    replaced = [] if is_same else hub.replaced_parts(there, own)
    if replaced and (checksum or "'introduction'" in replaced):  # else it may be an earlier version's card of a model
        warnings.warn(
            f"The card of '{repository}' was edited in parts that gzoo writes, which are replaced: "
            f"{', '.join(replaced)}.",
            GZooWarning,
            stacklevel=2,
        )
    return hub.with_additions(own, replace(additions, keys={**additions.keys, **terms}))


def _dataset_files(folder: Path, repository: str, progress: files.Progress, dry_run: bool) -> Contents:
    """Return the files of a dataset that passes its check."""
    from gzoo.dataset.check import check

    manifest = files.open_folder(folder)
    if not dry_run:
        hub.require_login(repository)  # the check may take an hour
    checksum = files.sha256(folder / files.MANIFEST)
    found = check(folder, progress=progress)
    if not found.is_valid:
        first, n = found.findings[0], len(found.findings)
        raise DatasetError(
            f"{folder} is not valid: {first.check}: {first}{f', and {n - 1:,} more findings' if n > 1 else ''}.",
            first.expected,
            f"Run `gzoo check {folder}` to list all findings, fix them by copying or building again, then publish.",
        )
    if files.sha256(folder / files.MANIFEST) != checksum:
        raise DatasetError(f"{folder} changed during its check.", hint="Publish it again when no program writes to it.")
    listed = cast("dict[str, dict[str, str]]", manifest["files"])
    checksums = {**{name: one["sha256"] for name, one in listed.items()}, files.MANIFEST: checksum}
    return {name: folder / name for name in checksums}, checksums, found.is_simulated


def _model_files(run: Path, repository: str, source: str, temporary: Path) -> Contents:
    """Return the files of a model's repository; those that are not in the run are written to a temporary folder."""
    metadata = files.read_json(run / files.MARKS["run"])
    key, value = files.SIGNS["run"]
    if metadata.get(key) != value:
        raise DatasetError(f"Run {run} has {key} {metadata.get(key)!r}.", f"{value}.", "Train the model again.")
    try:
        data = cast("Mapping[str, object]", metadata["data"])
        campaign, licence = of_manifest(data, run / "run.json"), card.model_licence(metadata)
        is_simulated = bool(data["is_simulated"])
    except KeyError as error:
        raise DatasetError(f"{run / 'run.json'} does not have {error}.", hint="Train the model again.") from error
    if not (source or licence == "cc0-1.0"):
        requires = "requires" if licence == card.SHARE_ALIKE else "may require"
        raise InputError(
            f"The licence of the data, {licence}, {requires} that the training code is released with the model.",
            "the address of the code and settings that trained it.",
            "Pass --source https://... to name it.",
        )
    missing = [name for name in RUN_FILES if not (run / name).is_file()]
    if missing:
        raise NotFoundError(f"File '{missing[0]}' not found in run {run}.", "a finished run.", "Train the model again.")
    if files.sha256(run / "model.safetensors") != metadata.get("weights_sha256"):
        raise DatasetError(
            f"The weights in {run} differ from the checksum in its run.json.", hint="Copy the run or train it again."
        )
    from gzoo.learn.export import encoder_files

    weights, config, _ = encoder_files(run)
    files.write_bytes(temporary / "model.safetensors", weights)
    files.write_json(temporary / "config.json", {**config, "license": licence})
    checksum = files.sha256(temporary / "model.safetensors")
    card_text = model_card(campaign, metadata, repository, source, checksum)
    files.write_bytes(temporary / "README.md", card_text.encode())
    paths = {name: temporary / name for name in ("README.md", "config.json", "model.safetensors")}
    paths |= {f"run/{name}": run / name for name in RUN_FILES}
    paths |= {f"run/{name}": run / name for name in OPTIONAL_RUN_FILES if (run / name).is_file()}
    return paths, {name: files.sha256(path) for name, path in paths.items()}, is_simulated


def model_card(campaign: Campaign, metadata: Mapping[str, object], repository: str, source: str, weights: str) -> str:
    """Return the card of a model: its data, training, licence and citation.

    Args:
        campaign: Campaign of the data.
        metadata: Contents of `run.json`.
        repository: `owner/name` of the model.
        source: Address of the training code, or "".
        weights: SHA-256 of the encoder's weights.
    """
    data, design, settings = (cast("Mapping[str, object]", metadata[key]) for key in ("data", "design", "settings"))
    origin = cast("Mapping[str, str]", data.get("hub") or {})
    from_ = cast("Mapping[str, str]", metadata.get("from") or {})
    is_simulated, licence = bool(data["is_simulated"]), card.model_licence(metadata)
    papers = [] if is_simulated else [f"arxiv:{paper.arxiv}" for paper in campaign.papers if paper.arxiv]
    header: dict[str, object] = {
        "license": licence,
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["galaxy zoo", "astronomy", "galaxies", "timm", *(["simulated"] if is_simulated else papers)],
        **({"datasets": [origin["repository"]]} if origin else {}),
    }
    start = (
        f"Training started from the encoder of `{from_['name']}`"
        + (f", commit `{from_['commit']}`" if "commit" in from_ else "")
        + f", licence {from_['licence']}, SHA-256 of its weights `{from_['weights_sha256']}`.\n\n"
        if from_
        else ""
    )
    terms = (
        f"{licence}. This model must not be cited as an observation."
        if is_simulated
        else f"The data are under {data['licence']}. {card.model_terms(licence)}"
        + (" This model is under the same licence." if licence == data["licence"] == card.SHARE_ALIKE else "")
        + ("" if licence == data["licence"] else f" The encoder that it started from puts this model under {licence}.")
    )
    template = (resources.files("gzoo") / "model_card.md").read_text("utf-8")
    body = template.format(
        title=campaign.title,
        campaign=campaign.name,
        design=design,
        suffix=" (simulated data)" if is_simulated else "",
        note=SIMULATED_NOTE if is_simulated else "",
        n_answers=len(cast("list[str]", design["columns"])),
        repository=repository,
        names=", ".join(f"`{name}`" for name in cast("list[str]", data["dataset_names"])),
        where=f"`{origin['repository']}` on the Hub, commit `{origin['commit']}`" if origin else "a local folder",
        data=data,
        split_scheme=data.get("split_scheme"),
        run=metadata,
        table="\n".join(f"| {name} | {value} |" for name, value in settings.items()),
        epochs=f"best of {metadata['n_epochs']} epochs: {metadata['best_epoch']}"
        if metadata["n_epochs"]
        else "only the head was trained",
        floors=cast("Mapping[str, str]", metadata["floors"])["description"].replace("`", ""),
        start=start,
        weights=weights,
        terms=terms,
        code=f"Training code: <{source}>.\n\n" if source else "",
        request="" if is_simulated else "Please cite the papers of the data:\n\n",
        citation=cite("gzoo") if is_simulated else cite(campaign, "gzoo"),
    )
    return hub.card_text(header, body)
