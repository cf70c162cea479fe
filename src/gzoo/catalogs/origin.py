"""Where a catalogue comes from: what every format says of its origin, and the ReadMe beside it."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import PurePath

from gzoo import files
from gzoo.catalogs.columns import NO_VALUE, Column
from gzoo.dataset.card import licence_of
from gzoo.dataset.open import Dataset
from gzoo.scoring.posterior import HeldOut
from gzoo.scoring.prediction_files import read_metadata
from gzoo.trees.campaign import Campaign
from gzoo.trees.cite import SOFTWARE, cite

KIND = "catalogue"
"""What `files.refuse_file` calls a catalogue."""
SIMULATED = "SIMULATED: no telescope and no volunteer was involved."
RUN_FACTS = ("run_sha256", "data_sha256", "views", "is_recalibrated", "trained_by_scheme")
WIDTH = 80
"""Characters of a line of a ReadMe, as CDS asks."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file of a catalogue contains beside its rows.

    Attributes:
        title: What it is, in a line.
        description: The same in a paragraph.
        columns: Its columns.
        widths: Longest text of each column of text, in 16-bit units, which are characters in nearly all texts.
        n_rows: Its rows.
        about: Where it comes from, as JSON values.
        not_ascii: Names of the columns of text that is not all ASCII.
    """

    title: str
    description: str
    columns: tuple[Column, ...]
    widths: Mapping[str, int]
    n_rows: int
    about: Mapping[str, object]
    not_ascii: frozenset[str] = frozenset()

    @property
    def facts(self) -> dict[str, str]:
        """What a reader of the file should see first, name -> text."""
        about = self.about
        found = {
            "creator": files.mark(KIND),
            "gzoo_version": about["gzoo_version"],
            "simulated": about["simulated"],
            "campaign": about["campaign"],
            "licence": about["licence"],
            "citation": "\n".join(map(str, _listed(about["citation"]))),
            "posterior": about["posterior"],
            "coordinate_frame": about["coordinate_frame"],
        }
        return {name: str(value) for name, value in found.items() if value}


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def origin(
    campaign: Campaign,
    dataset: Dataset | None,
    sources: Sequence[HeldOut],
    *,
    is_simulated: bool,
    **more: object,
) -> dict[str, object]:
    """Return where a catalogue comes from, as JSON values.

    Args:
        campaign: Campaign of the questions.
        dataset: Dataset with the votes, if there is one.
        sources: Predictions and votes.
        is_simulated: Whether the galaxies are simulated.
        more: Other facts.
    """
    predicted = {one.source: one for one in sources if dataset is None or one.source != dataset.folder}
    predictions = [
        {
            "file": path.name,
            "sha256": files.sha256(path),
            **{name: value for name, value in read_metadata(path).items() if name in RUN_FACTS},
        }
        for path in predicted
    ]
    names = list(map(campaign.member, campaign.members))
    has_papers = any(one.papers or one.hub.repository for one in (campaign, *names))
    cited = cite(campaign, SOFTWARE, format="text") if has_papers else cite(SOFTWARE, format="text")
    return {
        "kind": KIND,
        "gzoo_version": version(SOFTWARE),
        "campaign": campaign.name,
        "dataset": dataset.folder.resolve().name if dataset else None,
        "data_sha256": dataset.digest if dataset else None,
        "hub": dict(dataset.origin) if dataset and dataset.origin else None,
        "predictions": predictions,
        "is_simulated": is_simulated,
        "simulated": SIMULATED if is_simulated else "",
        "licence": licence_of(campaign, is_simulated=is_simulated),
        "citation": cited.splitlines(),
        "coordinate_frame": "ICRS",
        **more,
    }


def readme(content: Content, name: str) -> str:
    """Return the ReadMe of a catalogue, in the layout that CDS asks for.

    Args:
        content: The catalogue.
        name: Name of its file or folder.
    """
    about = content.about
    parts = [
        _line(content.title),
        "=" * WIDTH,
        f"Keywords: {'; '.join(['Galaxies', 'Morphology', 'Citizen science', 'Surveys'])}",
        "",
        "Abstract:",
        *_indented(content.description),
    ]
    if about["simulated"]:
        parts += ["", *_indented(str(about["simulated"]))]
    parts += ["", "Description:", *_indented(str(about["posterior"]))]
    columns = f"{len(content.columns)} columns, in this order"
    parts += [
        "",
        "File Summary:",
        "-" * WIDTH,
        f" {'FileName':<30} {'Records':>10}   Explanations",
        "-" * WIDTH,
        f" {'ReadMe':<30} {'.':>10}   This file",
        f" {name:<30} {content.n_rows:>10}   The catalogue, {len(content.columns)} columns",
        "-" * WIDTH,
        "",
        f"Column-by-column Description of file: {name} ({columns})",
        "-" * WIDTH,
        " Format Units  Label / Explanations (?= what stands for an unknown value, and why)",
        "-" * WIDTH,
    ]
    for column in content.columns:
        form = {"string": f"A{content.widths.get(column.name, 0)}", "bool": "L1", "int32": "I10", "int64": "I19"}.get(
            column.kind, "F10.7" if column.kind == "float32" else "F13.9"
        )
        parts.append(f" {form:<6} {column.unit or '---':<6} {column.name}")
        ends = f"[{column.ends[0]:g},{column.ends[1]:g}] " if column.ends else ""
        null = "''" if column.kind == "string" else NO_VALUE.get(PurePath(name).suffix, "null")
        missing = f"?={null} ({column.missing}) " if column.missing else ""
        parts += _indented(f"{ends}{missing}{column.description}; UCD {column.ucd}", 15)
    parts += ["-" * WIDTH, "", "Origin:", *_indented(f"gzoo {about['gzoo_version']}, campaign {about['campaign']}.")]
    if about["data_sha256"]:
        parts += _indented(f"Votes: dataset {about['dataset']}, SHA-256 {about['data_sha256']}.")
    for one in _listed(about.get("positions", ())):
        if isinstance(one, dict):
            parts += _indented(f"Positions: {one['file']}, SHA-256 {one['sha256']}.")
    for one in _listed(about["predictions"]):
        if isinstance(one, dict):
            run = f", run {one['run_sha256']}" if "run_sha256" in one else ""
            parts += _indented(f"Predictions: {one['file']}, SHA-256 {one['sha256']}{run}.")
    parts += ["", "Licence:", *_indented(str(about["licence"])), "", "References:"]
    for one in _listed(about["citation"]):
        parts += _indented(str(one))
    return "\n".join([*parts, "=" * WIDTH, ""])


def ascii_text(text: str) -> str:
    """Return text without accents, for headers that hold ASCII alone.

    >>> ascii_text("Géron, T.")
    'Geron, T.'
    """
    plain = unicodedata.normalize("NFKD", text)
    return "".join(one if one.isascii() else "" if unicodedata.combining(one) else "?" for one in plain)


def _line(text: str) -> str:
    return text[:WIDTH]


def _indented(text: str, n: int = 2) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * n, subsequent_indent=" " * n, break_long_words=False, break_on_hyphens=False
    )
