"""Checks of the files beside the shards: `weighted.parquet` and the dataset card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import polars as pl

from gzoo import hub
from gzoo.dataset import card
from gzoo.dataset.check_findings import FindingLog, shown
from gzoo.dataset.check_folder import Folder, has_type, read_text
from gzoo.dataset.check_parquet import read_table
from gzoo.dataset.check_rows import RowSummary
from gzoo.errors import GZooError, reason

_WEIGHTED, _CARD = "weighted.parquet", "README.md"


def check_weights(folder: Folder, seen: RowSummary, log: FindingLog) -> None:
    """Check that `weighted.parquet` has the rows of the dataset, and fractions from 0 to 1."""
    if not folder.metadata or _WEIGHTED not in folder.files:
        log.skip("weights", f"the dataset does not have {_WEIGHTED}")
        return
    if not seen.is_complete:
        log.skip("weights", "not all rows of the dataset could be read")
        return
    log.count("weights", seen.n)
    fractions = {"^.*_weighted_fraction$": pl.Float64}
    table = read_table(folder.files[_WEIGHTED], _WEIGHTED, seen.keys, fractions, "invalid weights", log)
    for column in [] if table is None else table.get_columns():
        rows = np.flatnonzero(((column < 0) | ((column > 1 + 1e-6) & ~column.is_nan())).fill_null(True).to_numpy())
        if len(rows):
            log.add("invalid weights", _WEIGHTED, column.name, rows=rows + 1, examples=column[rows.tolist()])


def check_card(folder: Folder, seen: RowSummary, log: FindingLog) -> None:
    """Compare the YAML header of the card with the manifest, or with the data if the manifest is missing."""
    if _CARD not in folder.files:
        log.skip("card", f"the folder does not have {_CARD}")
        return
    try:
        header = hub.card_metadata(read_text(folder.files[_CARD]).decode())
    except (OSError, ValueError) as error:
        log.add("unreadable card", _CARD, examples=[error.message if isinstance(error, GZooError) else reason(error)])
        return
    if not folder.metadata:
        _check_published_card(folder, seen, header, log)
        return
    if folder.listed is None:
        log.skip("card", "the manifest does not list files")
        return
    assert folder.campaign
    n_bytes: dict[str, int] = defaultdict(int)
    for name, entry in folder.listed.items():
        n_bytes["default" if name.startswith("data/") else name.partition("/")[0]] += cast(int, entry["bytes"])
    expected = card.header(folder.campaign, asdict(folder.metadata), n_bytes)
    tags = header.get("tags")
    if isinstance(tags, list):  # owners may add some
        header["tags"] = [one for one in cast("list[object]", tags) if one in cast("list[str]", expected["tags"])]
    for key in ("configs", "dataset_info", "size_categories", "tags"):
        log.count("card")
        _compare(header.get(key), expected[key], key, log)


def _check_published_card(folder: Folder, seen: RowSummary, header: Mapping[str, Any], log: FindingLog) -> None:
    """Compare splits and columns in the card with the data."""
    infos = header.get("dataset_info")
    infos = infos if isinstance(infos, list) else [infos]
    of_default: list[dict[str, Any]] = [
        one for one in infos if isinstance(one, dict) and one.get("config_name", "default") == "default"
    ]
    if not of_default or not seen.is_complete:
        log.skip("card", "not all rows could be read" if of_default else "the card does not list splits")
        return
    for key, expected in (("splits", dict(seen.n_rows)), ("features", dict.fromkeys(folder.columns))):
        entries = of_default[0].get(key)
        if entries is not None and has_type(entries, list[dict[str, object]]):
            listed = {str(one.get("name")): one.get("num_examples") if key == "splits" else None for one in entries}
            log.count("card")
            _compare(listed, expected, f"dataset_info.{key}", log)


def _compare(listed: Any, expected: Any, at: str, log: FindingLog) -> None:
    """Add a finding wherever two JSON values differ."""
    if isinstance(listed, dict) and isinstance(expected, dict):
        for key in expected | listed:
            _compare(listed.get(key), expected.get(key), f"{at}.{key}", log)
    elif isinstance(listed, list) and isinstance(expected, list):
        _compare(_by_name(listed), _by_name(expected), at, log)
    elif listed != expected:
        log.add("card mismatch", _CARD, at, examples=[f"lists {shown(str(listed))}, not {shown(str(expected))}"])


def _by_name(values: list[Any]) -> dict[str, object]:
    """Return the values of a list by their names, if they are objects that have one, otherwise by their numbers."""
    named: dict[str, object] = {}
    for i, value in enumerate(values):
        entry = value if isinstance(value, dict) else {}
        name = next((str(entry[key]) for key in ("config_name", "split", "name") if key in entry), str(i))
        named[name if name not in named else str(i)] = value
    return named
