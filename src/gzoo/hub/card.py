"""Dataset cards: their metadata, and the files that each config needs."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from gzoo import files
from gzoo.errors import HubError, InputError, NotFoundError, choices, suggestion
from gzoo.hub.client import is_safe_path, safe_reason

CARD = "README.md"
SHARED_FILES = (CARD, files.MANIFEST)  # belong to every config


def card_metadata(text: str) -> dict[str, object]:
    """Return the YAML metadata of a dataset card as the Hub reads it; nothing is sent.

    Args:
        text: The whole card.

    Raises:
        InputError: The card does not start with a YAML header, or the header is invalid.
    """
    from huggingface_hub import DatasetCard

    if not text.startswith("---"):
        raise InputError("The dataset card does not start with a YAML header.", "metadata between two lines of '---'.")
    try:
        return DatasetCard(text).data.to_dict()
    except Exception as error:  # from the client, its YAML library, or Python if the header is nested too deeply
        raise InputError(f"Cannot parse the YAML header of the dataset card: {safe_reason(error)}.") from error


def data_files(folder: Path, config: str | None, repository: str) -> dict[str, list[str]]:
    """Return the file patterns of each split of a config, empty if the card in a folder lists none.

    Args:
        folder: Folder of the dataset.
        config: Name of the config. Default: the one that `datasets` takes.
        repository: `owner/name`, for error messages.

    Raises:
        NotFoundError: The card does not have the config.
        HubError: The card lists files outside the folder, which `datasets` would read.
    """
    configs = _read_configs(folder)
    default = next((name for name, one in configs.items() if one.get("default") or len(configs) == 1), "default")
    chosen, known = config or default, list(configs or ["default"])
    if chosen not in known:
        raise NotFoundError(
            f"Config '{chosen}' not found in '{repository}'.",
            choices(known, chosen),
            suggestion(known, chosen, "Choose one of these configs."),
        )
    return _by_split(configs[chosen].get("data_files")) if configs else {}


def _read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the configs in the card of a folder by name, empty if the card lists none that can be read."""
    from huggingface_hub import DatasetCard

    if not (folder / CARD).is_file():
        return {}
    try:
        listed: Any = DatasetCard.load(folder / CARD).data.get("configs") or []
        configs: dict[str, dict[str, Any]] = {str(one["config_name"]): dict(one) for one in listed}
    except Exception:  # the YAML is invalid or not a list of configs; `datasets` reports that
        return {}
    for name, one in configs.items():
        try:
            by_split = [*_by_split(one.get("data_files")).values(), *_by_split(one.get("data_dir")).values()]
            outside = [pattern for pattern in chain(*by_split) if not is_safe_path(pattern.rstrip("/"))]
        except (TypeError, KeyError, AttributeError):
            outside = [str(one)]
        if outside:
            raise HubError(
                f"The card in {folder} lists {outside[0]!a} for config '{name}'; nothing was read.",
                "names of files inside the dataset's folder.",
                "Report this to the owners of the dataset.",
            )
    return configs


def _by_split(value: Any) -> dict[str, list[str]]:
    """Return split -> file patterns for any form that cards allow: one pattern, a list, or either by split."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        pairs = [(one["split"], one["path"]) for one in value]
    else:
        pairs = [("train", value)] if value else []
    by_split: dict[str, list[str]] = {}
    for split, patterns in pairs:
        listed: list[str] = [patterns] if isinstance(patterns, str) else list(patterns)
        by_split.setdefault(str(split), []).extend(pattern.removeprefix("./") for pattern in listed)
    return by_split


def files_of_config(listed: Iterable[str], folder: Path, config: str | None, repository: str) -> list[str]:
    """Return those files of a repository that a config needs; for arguments and errors see `data_files`."""
    visible = sorted(name for name in listed if not Path(name).name.startswith("."))
    patterns = {one for patterns in data_files(folder, config, repository).values() for one in patterns}
    if not patterns:
        return visible
    needed = {name for name in visible if any(fnmatch.fnmatchcase(name, one) for one in patterns)}
    needed |= {files.index_name(name) for name in needed if name.startswith("data/")} | set(SHARED_FILES)
    return [name for name in visible if name in needed]


def unmatched_patterns(listed: Iterable[str], folder: Path, config: str | None, repository: str) -> list[str]:
    """Return the patterns of a config that match no listed file; for arguments and errors see `data_files`."""
    names = list(listed)
    patterns = [one for patterns in data_files(folder, config, repository).values() for one in patterns]
    return [one for one in patterns if not any(fnmatch.fnmatchcase(name, one) for name in names)]
