"""Catalogues as HATS collections: Parquet files for tiles of the sky, and a margin around each.

A collection is a folder with `collection.properties`, a catalogue, and a margin catalogue that repeats the rows near
the border of each tile, so that neighbours are found across it. Tiles are HEALPix cells of different orders, none with
more than `MAX_TILE_ROWS` rows. Rows arrive sorted by `_healpix_29`, so tiles are written one after another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hpgeom
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.catalogs.columns import HEALPIX
from gzoo.catalogs.formats import Write, parquet_options, parquet_schema
from gzoo.catalogs.origin import Content
from gzoo.errors import DatasetError
from gzoo.sky.coordinates import IntArray

MAX_TILE_ROWS = 200_000
MARGIN_ARCSEC = 10.0
MARGIN_ORDER = 12
"""Order of the cells, 51 arcsec wide, in which rows near a border are looked for: far wider than the margin."""
ORDER = 29
CATALOGUE, MARGIN = "catalogue", f"catalogue_{MARGIN_ARCSEC:g}arcs"
UNPLACED = "without_position.parquet"


@dataclass(frozen=True, slots=True)
class Tile:
    """A HEALPix cell and its rows.

    Attributes:
        order: Its order.
        cell: Its number, nested.
        rows: Rows in it, in the order of `_healpix_29`.
    """

    order: int
    cell: int
    rows: slice

    @property
    def name(self) -> str:
        """Path of its file in the folder `dataset`."""
        return f"Norder={self.order}/Dir={self.cell // 10_000 * 10_000}/Npix={self.cell}.parquet"

    @property
    def ends(self) -> tuple[int, int]:
        """First cell of order 29 inside, and first beyond."""
        shift = 2 * (ORDER - self.order)
        return self.cell << shift, (self.cell + 1) << shift


def tiles(cells: IntArray) -> list[Tile]:
    """Return the tiles of some rows, each with at most `MAX_TILE_ROWS`.

    Args:
        cells: `_healpix_29` of each row, sorted.

    >>> [tile.name for tile in tiles(np.array([0, 5, 1 << 58]))]
    ['Norder=0/Dir=0/Npix=0.parquet', 'Norder=0/Dir=0/Npix=1.parquet']
    """
    found: list[Tile] = []
    waiting = [(0, cell) for cell in range(11, -1, -1)]
    while waiting:
        order, cell = waiting.pop()
        start, stop = np.searchsorted(cells, Tile(order, cell, slice(0)).ends).tolist()
        if stop - start > MAX_TILE_ROWS and order < MARGIN_ORDER:
            waiting += [(order + 1, 4 * cell + i) for i in (3, 2, 1, 0)]
        elif stop > start:
            found.append(Tile(order, cell, slice(start, stop)))
    return found


@contextlib.contextmanager
def hats(folder: Path, content: Content, cells: IntArray) -> Generator[Write]:
    """Yield a function that writes one batch of rows, which arrive sorted, to a HATS collection.

    Args:
        folder: The folder, which exists.
        content: What it contains.
        cells: `_healpix_29` of each row, sorted; negative without a position.
    """
    placed = cells[int(np.searchsorted(cells, 0)) :]
    layout = tiles(placed)
    schema, options = parquet_schema(content), parquet_options(content.columns)
    unplaced: list[pa.RecordBatch] = []
    opened = _Tiles(folder / CATALOGUE, schema, options)
    n_done = 0
    remaining = iter(layout)
    tile = next(remaining, None)

    def write(batch: pa.RecordBatch) -> None:
        nonlocal n_done, tile
        n_unplaced = int((batch[HEALPIX].to_numpy() < 0).sum())
        if n_unplaced:
            unplaced.append(batch.slice(0, n_unplaced))
        batch = batch.slice(n_unplaced)
        while batch.num_rows and tile is not None:
            few = batch.slice(0, tile.rows.stop - n_done)
            opened.write(tile, few)
            n_done, batch = n_done + few.num_rows, batch.slice(few.num_rows)
            if n_done == tile.rows.stop:
                tile = next(remaining, None)

    yield write
    opened.finish(layout, f"dataproduct_type=object\nhats_col_healpix={HEALPIX}\nhats_col_healpix_order={ORDER}\n")
    if unplaced:
        files.write_bytes(folder / UNPLACED, _bytes(pa.Table.from_batches(unplaced), schema, options))
    margins = _Tiles(folder / MARGIN, schema, options)
    near = _near_borders(placed, layout)
    margin_tiles: list[Tile] = []
    for tile_of, rows in zip(layout, near, strict=True):
        if len(rows):
            margins.write(tile_of, _gathered(folder / CATALOGUE / "dataset", layout, rows, schema))
            margin_tiles.append(Tile(tile_of.order, tile_of.cell, slice(0, len(rows))))
    about = f"dataproduct_type=margin\nhats_primary_table_url={CATALOGUE}\nhats_margin_threshold={MARGIN_ARCSEC}\n"
    margins.finish(margin_tiles, about)
    listed = f"all_margins={MARGIN}\ndefault_margin={MARGIN}\n" if margin_tiles else ""
    text = f"#HATS Collection\nobs_collection={CATALOGUE}\nhats_primary_table_url={CATALOGUE}\n{listed}"
    files.write_bytes(folder / "collection.properties", text.encode())


class _Tiles:
    """A catalogue of a collection, whose tiles are written in turn."""

    def __init__(self, folder: Path, schema: pa.Schema, options: dict[str, Any]) -> None:
        self.folder, self.schema, self.options = folder, schema, options
        self.metadata: list[Any] = []
        self._writer: pq.ParquetWriter | None = None
        self._name = ""

    def write(self, tile: Tile, rows: pa.RecordBatch | pa.Table) -> None:
        """Add rows to the file of a tile."""
        if tile.name != self._name:
            self._close()
            path = self.folder / "dataset" / tile.name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, self.schema, metadata_collector=self.metadata, **self.options)
            self._name = tile.name
        assert self._writer is not None
        self._writer.write(rows.cast(self.schema))

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self.metadata[-1].set_file_path(self._name)

    def finish(self, written: Sequence[Tile], properties: str) -> None:
        """Write what describes the catalogue, or nothing if it has no tiles."""
        self._close()
        if not written:
            return
        ordered = sorted(range(len(written)), key=lambda i: (written[i].order, written[i].cell))
        dataset = self.folder / "dataset"
        pq.write_metadata(self.schema, dataset / "_common_metadata")
        pq.write_metadata(self.schema, dataset / "_metadata", metadata_collector=[self.metadata[i] for i in ordered])
        lines = [f"{written[i].order},{written[i].cell}" for i in ordered]
        files.write_bytes(self.folder / "partition_info.csv", ("\n".join(["Norder,Npix", *lines]) + "\n").encode())
        sizes = [tile.rows.stop - tile.rows.start for tile in written]
        kilobytes = sum(path.stat().st_size for path in dataset.rglob("*.parquet")) // 1024
        sky = sum(1 / (12 * 4**tile.order) for tile in written)
        text = (
            f"#HATS catalog\nobs_collection={self.folder.name}\n{properties}hats_nrows={sum(sizes)}\n"
            f"hats_col_ra=ra\nhats_col_dec=dec\nhats_npix_suffix=.parquet\nhats_max_rows={max(sizes)}\n"
            f"hats_order={max(tile.order for tile in written)}\nhats_estsize={kilobytes}\nmoc_sky_fraction={sky:.6g}\n"
            f"hats_builder=gzoo {version('gzoo')}\nhats_version=v1.0\n"
        )
        for name in ("hats.properties", "properties"):
            files.write_bytes(self.folder / name, text.encode())


def _near_borders(cells: IntArray, layout: Sequence[Tile]) -> list[IntArray]:
    """Return for each tile the rows outside that may be within the margin of it: those in cells that touch it."""
    coarse = cells >> 2 * (ORDER - MARGIN_ORDER)
    unique, of_row = np.unique(coarse, return_inverse=True)
    around = hpgeom.neighbors(1 << MARGIN_ORDER, unique) if len(unique) else np.empty((0, 8), np.int64)
    first = np.array([tile.ends[0] for tile in layout], np.int64)
    beyond = np.array([tile.ends[1] for tile in layout], np.int64)

    def tile_of(numbers: IntArray) -> IntArray:
        start = numbers << 2 * (ORDER - MARGIN_ORDER)
        at = np.searchsorted(first, start, side="right") - 1
        return np.where((numbers >= 0) & (at >= 0) & (start < beyond[at]), at, -1)

    own, others = tile_of(unique), tile_of(around)
    is_near = (others >= 0) & (others != own[:, None])
    pairs = np.unique(np.stack([np.broadcast_to(np.arange(len(unique))[:, None], others.shape)[is_near],
                                others[is_near]], axis=1), axis=0)  # fmt: skip
    found: list[IntArray] = []
    for i in range(len(layout)):
        is_cell = np.zeros(len(unique), bool)
        is_cell[pairs[pairs[:, 1] == i, 0]] = True
        found.append(np.flatnonzero(is_cell[of_row]) if is_cell.any() else np.empty(0, np.int64))
    return found


def _gathered(dataset: Path, layout: Sequence[Tile], rows: IntArray, schema: pa.Schema) -> pa.Table:
    """Return some rows of the catalogue, read from the tiles that they are in."""
    parts: list[pa.Table] = []
    for tile in layout:
        few = rows[(rows >= tile.rows.start) & (rows < tile.rows.stop)] - tile.rows.start
        if len(few):
            parts.append(pq.ParquetFile(dataset / tile.name).read().take(pa.array(few)))
    return pa.concat_tables(parts).cast(schema)


def _bytes(table: pa.Table, schema: pa.Schema, options: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(schema), sink, **options)
    return sink.getvalue().to_pybytes()


def check_hats(folder: Path) -> int:
    """Check a HATS collection against its own files: every tile, its rows, and where they are on the sky.

    Args:
        folder: The collection.

    Returns:
        The number of rows of the catalogue.

    Raises:
        DatasetError: A tile is missing, a number of rows is wrong, a row is in a tile that does not contain it, or a
            column of positions does not exist.
    """
    n_rows = 0
    for part in (CATALOGUE, MARGIN):
        place = folder / part
        if not place.is_dir():
            continue
        lines = (place / "hats.properties").read_text("utf-8").splitlines()
        about = {line.partition("=")[0]: line.partition("=")[2] for line in lines}
        listed = [tuple(map(int, line.split(","))) for line in (place / "partition_info.csv").read_text().split()[1:]]
        n = 0
        for order, cell in listed:
            tile = Tile(order, cell, slice(0))
            path = place / "dataset" / tile.name
            if not path.is_file():
                raise _wrong(f"tile '{path}' does not exist")
            names = pq.read_schema(path).names
            wanted = [about.get("hats_col_ra", ""), about.get("hats_col_dec", ""), HEALPIX]
            missing = [name for name in wanted if name not in names]
            if missing:
                raise _wrong(f"column '{missing[0]}' of positions not found in '{path}'")
            table = pq.ParquetFile(path).read(columns=wanted)
            ra, dec, healpix = (table[name].to_numpy() for name in wanted)
            n += len(ra)
            is_inside = (healpix >= tile.ends[0]) & (healpix < tile.ends[1])
            is_same = hpgeom.angle_to_pixel(1 << ORDER, ra % 360, dec) == healpix
            if not is_same.all() or (part == CATALOGUE and not is_inside.all()):
                raise _wrong(f"rows of '{path}' are not where the tile is on the sky")
        if n != int(about["hats_nrows"]):
            raise _wrong(f"'{place / 'hats.properties'}' says {about['hats_nrows']} rows, but the tiles have {n}")
        n_rows = n if part == CATALOGUE else n_rows
    return n_rows


def _wrong(what: str) -> DatasetError:
    return DatasetError(
        f"The HATS collection is damaged: {what}.",
        "a collection as `gzoo catalog` wrote it.",
        "Write or copy the collection again.",
    )
