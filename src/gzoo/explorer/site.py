"""A static site of a small part of a dataset, which any host of files serves without gzoo."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gzoo import files
from gzoo.dataset.images import Images
from gzoo.errors import ExpressionError, InputError, NotFoundError
from gzoo.explorer import SiteResult
from gzoo.explorer.labels import Labels, Predicted, Rows
from gzoo.explorer.measures import DISAGREEMENT, Measures
from gzoo.explorer.query import Engine, Filter
from gzoo.explorer.server import Server, image_suffix, page_files
from gzoo.explorer.views import N_RELIABILITY_BINS, Views, mollweide
from gzoo.files import Progress

MAX_GALAXIES = 2_000
DEFAULT_GALAXIES = 500
STAGE = "Writing site"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'"
)


def write_site(
    out: Path,
    labels: Labels,
    images: Images,
    *,
    where: str = "",
    limit: int = DEFAULT_GALAXIES,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SiteResult:
    """Write a static site.

    Args:
        out: Folder to write.
        labels: Labels of all galaxies.
        images: Their images.
        where: Filter expression that its galaxies meet; '' for all.
        limit: Greatest number of galaxies; of more, a random sample is shown.
        overwrite: Replace an earlier site.
        progress: Called with (stage, galaxies done, galaxies in total).

    Raises:
        InputError: The limit is not between 1 and 2,000, or no galaxy meets the expression.
        ExpressionError: The expression cannot be read.
        OutputExistsError: `out` already exists.
    """
    if not 1 <= limit <= MAX_GALAXIES:
        raise InputError(
            f"limit must be between 1 and {MAX_GALAXIES:,}, got {limit}.",
            hint="Pass --limit with another number of galaxies.",
        )
    found = Engine(labels).rows(Filter(where))
    rows = np.arange(len(labels)) if found is None else found
    n_of = len(rows)
    if not n_of:
        raise InputError("No galaxy meets the expression.", hint="Pass another condition with --where.")
    if n_of > limit:
        rows = np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))
    part = _part(labels, rows)
    begun: dict[str, object] = {"command": "explore", "data": labels.dataset.digest, "where": where, "limit": limit}
    if labels.predicted:
        begun["predictions"] = files.sha256(labels.predicted.read.source)
    with files.work(out, kind="site", begun=begun, overwrite=overwrite, progress=progress) as folder:
        _write(folder, part, images, rows, progress)
        files.write_json(folder / files.MARKS["site"], {"kind": "site", **begun})
        n_bytes = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    return SiteResult(out, len(rows), n_of, n_bytes)


def _part(labels: Labels, rows: Rows) -> Labels:
    """Return the labels of some galaxies, in their order."""
    predicted = labels.predicted
    if predicted is not None:
        place = np.full(len(labels), -1)
        place[rows] = np.arange(len(rows))
        kept = np.flatnonzero(place[predicted.row] >= 0)
        row = place[predicted.row[kept]]
        predicted = Predicted(predicted.read.take(kept), row, predicted.is_seen[kept])
    return Labels(
        labels.dataset,
        labels.frame[rows],
        np.asfortranarray(labels.counts[rows]),
        np.asfortranarray(labels.totals[rows]),
        labels.split[rows],
        predicted,
    )


def _write(folder: Path, labels: Labels, images: Images, rows: Rows, progress: Progress | None) -> None:
    views = Server(labels, images).views
    for name, data in page_files().items():
        if name != "index.html":
            _put(folder / "page" / name, data)
    shell = page_files()["index.html"].decode()
    policy = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    shell = shell.replace('<html lang="en">', '<html lang="en" data-static>').replace('"/page/', '"page/')
    _put(folder / "index.html", shell.replace('<meta charset="utf-8">', policy).encode())
    suffixes: list[str] = []
    for i, row in enumerate(rows.tolist()):
        if progress:
            progress(STAGE, i, len(rows))
        suffix = ""
        if images.are_there:
            try:
                data = images.thumbnail(row)
            except NotFoundError:
                data = b""
            if data:
                suffix = image_suffix(data)
                _put(folder / "image" / f"{i}{suffix}", data)
        suffixes.append(suffix)
        _json(folder / "data" / "galaxy" / f"{i}.json", views.galaxy(i))
    _json(folder / "data" / "site.json", {**_site(labels, views), "about": _about(views, suffixes)})
    if labels.predicted is not None:
        _models(folder, labels, views)
    if progress:
        progress(STAGE, len(rows), len(rows))


def _about(views: Views, suffixes: list[str]) -> Mapping[str, Any]:
    """Return what stays the same, without the paths of this machine."""
    about = views.about
    predictions = about["predictions"]
    return {
        **about,
        "folder": about["name"],
        "predictions": predictions and {**predictions, "file": Path(predictions["file"]).name},
        "labelling": None,
        "images": suffixes,
    }


def _site(labels: Labels, views: Views) -> Mapping[str, Any]:
    measures = views.engine.measures
    ra, dec = labels.position
    known = np.isfinite(ra) & np.isfinite(dec)
    x, y = (np.full(len(labels), np.nan) for _ in "xy")
    x[known], y[known] = mollweide(ra[known], dec[known])
    names = [_name(measures, one.name, one.kind) for one in measures.names.known]
    if labels.predicted is not None:
        values = _values(measures.column(DISAGREEMENT))
        low, high = measures.limits(DISAGREEMENT, measures.numbers(DISAGREEMENT))
        about = {"name": DISAGREEMENT, "spelling": DISAGREEMENT, "spellings": [DISAGREEMENT], "kind": "number"}
        names.append({**about, "answer": -1, "isFloat32": True, "values": values, "low": low, "high": high})
    return {
        "overview": views.overview,
        "ids": [str(one) for one in labels.frame["id_str"].to_list()],
        "split": labels.split.tolist(),
        "campaign": labels.campaign.tolist(),
        "counts": labels.counts.T.tolist(),
        "totals": labels.totals.T.tolist(),
        "names": names,
        "x": [None if math.isnan(one) else round(one, 4) for one in x.tolist()],
        "y": [None if math.isnan(one) else round(one, 4) for one in y.tolist()],
    }


def _name(measures: Measures, name: str, kind: str) -> dict[str, Any]:
    """Return a measure: how it may be spelled, and its values."""
    spelling, column = measures.spelling(name), measures.column(name)
    stem = spelling.strip("`")
    found: dict[str, Any] = {
        "name": name,
        "spelling": spelling,
        "spellings": list(dict.fromkeys([name, stem])) if _means(measures, stem, name) else [name],
        "kind": kind,
        "answer": -1 if (answer := measures.answer_of(name)) is None else answer,
        "isFloat32": column.dtype == pl.Float32 and measures.names.is_float32(measures.find(name)),
        "isKnown": True,
        "isSaved": kind in {"text", "number", "votes", "asked"} and "." not in name.removeprefix("gz."),
        "values": _values(column),
    }
    if column.dtype.is_numeric():
        found["low"], found["high"] = measures.limits(name, measures.numbers(name))
    return found


def _means(measures: Measures, text: str, name: str) -> bool:
    try:
        return measures.canonical(text) == name
    except ExpressionError:
        return False


def _values(column: pl.Series) -> list[Any]:
    """Return values as JSON, of 32-bit floats the shortest text that gives the same number again."""
    if column.dtype == pl.Float32:
        return [None if one is None or not math.isfinite(one) else float(str(np.float32(one))) for one in column]
    if column.dtype.is_float():
        return [None if one is None or not math.isfinite(one) else one for one in column.to_list()]
    return [one if one is None or isinstance(one, int | str) else str(one) for one in column.to_list()]


def _models(folder: Path, labels: Labels, views: Views) -> None:
    """Write the reliability of each predicted answer, with the galaxies of each bin."""
    assert labels.predicted is not None
    views.score_now()
    for question in labels.collected:
        if question.name not in labels.predicted.read.questions:
            continue
        for answer, column in zip(question.answers, question.columns, strict=True):
            bins: dict[str, Any] = {}
            for i in range(N_RELIABILITY_BINS):
                found = views.model(question.name, answer, i, Filter())
                bins[str(i)] = {name: found[name] for name in ("listed", "n_listed")}
            whole = views.model(question.name, answer, None, Filter())
            _json(folder / "data" / "model" / f"{labels.answer(column)}.json", {**whole, "bins": bins})


def _json(path: Path, value: object) -> None:
    _put(path, json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
