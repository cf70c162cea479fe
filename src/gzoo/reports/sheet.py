"""Sheets of galaxies: their images in a grid, as one page that loads nothing and whose size is limited."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gzoo import files, reports
from gzoo.dataset.images import reduced
from gzoo.dataset.schema import KEY
from gzoo.embeddings.identifiers import names_of
from gzoo.embeddings.images import Shown, show
from gzoo.embeddings.outliers import Outliers
from gzoo.embeddings.similarity import Similar
from gzoo.embeddings.table import POSITION, Embeddings
from gzoo.errors import ImageError
from gzoo.trees.tree import IntArray

MAX_BYTES = 12_000_000
"""Size of all images of a page, in bytes; a third more as text."""
MAX_PIXELS, MIN_PIXELS = 220, 96
BYTES_OF_PIXEL = 0.35
"""Bytes of a JPEG per pixel, at most: images with more detail are stored at a lower quality."""
QUALITIES = (82, 65, 45, 25)
MAX_IMAGES = int(MAX_BYTES / (BYTES_OF_PIXEL * MIN_PIXELS**2))
VIEWERS = (
    ("Legacy Survey", "https://www.legacysurvey.org/viewer?ra={ra:.6f}&dec={dec:.6f}&zoom=14&layer=ls-dr10"),
    ("Aladin", "https://aladin.cds.unistra.fr/AladinLite/?target={ra:.6f}%20{dec:.6f}&fov=0.05"),
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A galaxy on a sheet.

    Attributes:
        image: JPEG in Base64; "" if there is none.
        name: Its identifier.
        facts: Lines of text below.
        links: Names and addresses of pages of its place on the sky.
    """

    image: str
    name: str
    facts: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """Galaxies below one heading.

    Attributes:
        heading: The heading.
        note: What is in it.
        rows: Galaxies; with neighbours, each is followed by its own.
        has_neighbours: Whether they are.
    """

    heading: str
    note: str
    rows: tuple[tuple[Tile, ...], ...]
    has_neighbours: bool = False


def write_similar(
    path: Path,
    made: Similar,
    found: Embeddings,
    rows: tuple[IntArray, IntArray, IntArray],
    images: Sequence[Path],
    data: Path | str | None,
) -> None:
    """Write the sheet of a search by example.

    Args:
        path: HTML file to write; an existing file is replaced.
        made: Result of `gzoo.similar`.
        found: The embeddings.
        rows: Rows of the examples, of the galaxies that are not wanted, and of those found.
        images: Image files that are examples.
        data: Where the images are now; by default as the embedding file says.
    """
    like, unlike, best = rows[0], rows[1], rows[2][:MAX_IMAGES]
    named = np.concatenate([like, unlike, best])
    pixels = _pixels(len(named) + len(images))
    unit = "similarity" if made.method == "cosine similarity" else made.method
    scores = ["", *[""] * (len(named) - 1)]
    scores[len(like) + len(unlike) :] = [f"{unit} {one:.3f}" for one in made.table["score"][: len(best)]]
    tiles = _tiles(found, named, [(one,) if one else () for one in scores], pixels, data)
    own = [
        Tile(_encoded(Shown(one.read_bytes(), ()), pixels, _central(found)), one.name, ("image file",))
        for one in images
    ]
    wanted, unwanted = tiles[: len(like)], tiles[len(like) : len(like) + len(unlike)]
    sections = [Section("Examples", "Galaxies like these were searched for.", _each([*own, *wanted]))]
    if unwanted:
        sections.append(Section("Not wanted", "And unlike these.", _each(unwanted)))
    note = f"Of {made.n_galaxies:,} galaxies, the most similar first. Score: {made.method}."
    sections.append(Section("Found", note, _each(tiles[len(like) + len(unlike) :])))
    _write(
        path,
        found,
        sections,
        pixels,
        title=f"Galaxies like {', '.join(made.like[:3])}{', ...' * (len(made.like) > 3)}",
        lead=f"{made.table.height:,} of {made.n_galaxies:,} galaxies in {found.path.name}",
        next="Add identifiers of good galaxies to the command, those of bad ones with --unlike, and run it again.",
        n_not_shown=made.table.height - len(best),
        n_neighbours=0,
    )


def write_outliers(
    path: Path,
    made: Outliers,
    found: Embeddings,
    rows: IntArray,
    neighbours: Sequence[IntArray],
    data: Path | str | None,
) -> None:
    """Write the sheet of outliers, each with its neighbours; likely artifacts are in a section of their own.

    Args:
        path: HTML file to write; an existing file is replaced.
        made: Result of `gzoo.outliers`.
        found: The embeddings.
        rows: Rows of the outliers.
        neighbours: Rows of the nearest galaxies of each.
        data: Where the images are now; by default as the embedding file says.
    """
    width = 1 + max(map(len, neighbours))
    n = min(len(rows), MAX_IMAGES // width)
    together = [np.concatenate([[row], near]) for row, near in zip(rows[:n], neighbours[:n], strict=True)]
    values = made.table.select("distance", "mahalanobis").rows()
    facts: list[tuple[str, ...]] = []
    for (distance, mahalanobis), one in zip(values, together, strict=False):
        facts += [(f"distance {distance:.1f}, Mahalanobis {mahalanobis:.1f}",), *[()] * (len(one) - 1)]
    pixels = _pixels(n * width)
    tiles = iter(_tiles(found, np.concatenate(together), facts, pixels, data))
    lines = [tuple(next(tiles) for _ in one) for one in together]
    is_artifact = made.table["is_likely_artifact"].to_list()
    _write(
        path,
        found,
        [
            Section(
                heading,
                note,
                tuple(line for line, one in zip(lines, is_artifact, strict=False) if one == wanted),
                has_neighbours=True,
            )
            for wanted, heading, note in (
                (False, "Outliers", "Each galaxy with the nearest ones beside it, the most distant galaxy first."),
                (True, "Likely artifacts", "They are very far from the mean of all galaxies (Mahalanobis distance)."),
            )
        ],
        pixels,
        title="Outliers",
        lead=f"The {made.table.height:,} of {made.n_galaxies:,} galaxies in {found.path.name} that are most unlike the "
        "others",
        next="To find more galaxies like one of these, pass its identifier to gzoo similar.",
        n_not_shown=len(rows) - n,
        n_neighbours=width - 1,
    )


def _write(
    path: Path, found: Embeddings, sections: Sequence[Section], pixels: int, *, title: str, lead: str, **words: object
) -> None:
    page = reports.render(
        "sheet",
        title=title,
        lead=lead,
        sections=[one for one in sections if one.rows],
        pixels=pixels,
        central=_central(found),
        is_simulated=bool(found.source.is_simulated),
        embeddings=str(found.path),
        run=found.source.run,
        **words,
    )
    files.write_bytes(path, page)


def _pixels(n: int) -> int:
    """Return the width at which so many images fit on a page."""
    return int(np.clip((MAX_BYTES / (BYTES_OF_PIXEL * max(n, 1))) ** 0.5, MIN_PIXELS, MAX_PIXELS))


def _tiles(
    found: Embeddings, rows: IntArray, facts: Sequence[tuple[str, ...]], pixels: int, data: Path | str | None
) -> list[Tile]:
    table = found.table[rows]
    shown = show(found.source, table.select(KEY), data)
    has_position = set(POSITION) <= set(table.columns)
    places = table.select(POSITION).rows() if has_position else [(None, None)] * len(rows)
    return [
        Tile(_encoded(one, pixels, _central(found)), name, (*own, *one.facts), _links(*place))
        for one, name, own, place in zip(shown, names_of(found, rows), facts, places, strict=True)
    ]


def _links(ra: float | None, dec: float | None) -> tuple[tuple[str, str], ...]:
    if ra is None or dec is None:
        return ()
    return tuple((name, address.format(ra=ra, dec=dec)) for name, address in VIEWERS)


def _central(found: Embeddings) -> float:
    """Return the fraction of the width of an image that the encoder saw: a page shows the same part."""
    crop = found.source.preprocessing.get("crop")
    return float(crop) if isinstance(crop, int | float) and 0 < crop <= 1 else 1.0


def _encoded(one: Shown, pixels: int, central: float) -> str:
    try:
        return _jpeg(one.image, pixels, central) if one.image else ""
    except ImageError:
        return ""


def _jpeg(data: bytes, pixels: int, central: float) -> str:
    """Return the central part of an image as a small JPEG in Base64."""
    image = Image.open(io.BytesIO(reduced(data)), formats=["JPEG"]).convert("RGB")
    side = max(round(min(image.size) * central), 1)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    small = image.crop((left, top, left + side, top + side))
    if side > pixels:
        small = small.resize((pixels, pixels), Image.Resampling.LANCZOS)
    encoded = b""
    for quality in QUALITIES:
        memory = io.BytesIO()
        small.save(memory, "JPEG", quality=quality)
        encoded = memory.getvalue()
        if len(encoded) <= BYTES_OF_PIXEL * pixels**2:
            break
    return base64.b64encode(encoded).decode("ascii")


def _each(tiles: Iterable[Tile]) -> tuple[tuple[Tile, ...], ...]:
    return tuple((one,) for one in tiles)
