"""One rule for images of every kind: builds, checks, loader, predictions and `datasets` agree, or refuse alike."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from PIL import Image, ImageOps

import gzoo
from gzoo.errors import GZooWarning, ImageError
from gzoo.images.checks import check_image, upright
from gzoo.learn.decoding import decode
from gzoo.learn.image_files import image_loader
from gzoo.simulator import SimulateResult

PNG = b"\x89PNG\r\n\x1a\n"


def galaxy(height: int = 64, width: int = 64, channels: int = 3) -> npt.NDArray[np.uint8]:
    """A galaxy with a spiral arm to one side, so that no two orientations look alike."""
    y, x = np.mgrid[:height, :width] - np.array([height / 2, width / 2])[:, None, None]
    light = 200 * np.exp(-np.hypot(x - 6, 2 * y) / 9) + 50 * np.exp(-np.hypot(x + 11, y + 15) / 4)
    noise = np.random.default_rng(height * width).normal(20, 4, (height, width, channels))
    return np.clip(light[..., None] * [1, 0.8, 0.6, 0.4][:channels] + noise, 0, 255).astype(np.uint8)


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def rgb(height: int = 64, width: int = 64) -> Image.Image:
    return Image.fromarray(galaxy(height, width))


def turned(orientation: object, format: str = "JPEG", height: int = 48, width: int = 64) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(rgb(height, width), format, exif=exif)


def with_xmp(orientation: int) -> bytes:
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
    return saved(rgb(48, 64), "JPEG", xmp=xmp.encode())


def raw_png(height: int, width: int, depth: int, kind: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return PNG + start + b"".join(chunk(*one) for one in chunks) + pixels + chunk(b"IEND", b"")


def grey_of(bits: int) -> bytes:
    """A grey PNG with few bits per pixel."""
    values = (galaxy()[..., 0] >> (8 - bits)).astype(np.uint8)
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(64, -1), axis=1)
    return raw_png(64, 64, bits, 0, b"".join(b"\0" + row.tobytes() for row in packed))


def rgb_16() -> bytes:
    values = galaxy().astype(">u2") * 257
    return raw_png(64, 64, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))


def with_alpha(mode: str, alpha: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]) -> bytes:
    image = rgb().convert(mode)
    image.putalpha(Image.fromarray(alpha(galaxy()[..., 0])))
    return saved(image)


def opaque(light: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.full_like(light, 255)


def palette(transparency: int | bytes | None = None, n_colours: int = 32) -> bytes:
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    return saved(rgb().quantize(n_colours), **options)


def declared(height: int, width: int, format: str) -> bytes:
    if format == "PNG":
        return raw_png(height, width, 8, 2, bytes(100))
    data = bytearray(saved(rgb(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


SHOWN: Mapping[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved(rgb(), "JPEG"),
    "jpeg 4:4:4": lambda: saved(rgb(), "JPEG", subsampling=0, quality=95),
    "jpeg progressive": lambda: saved(rgb(), "JPEG", progressive=True),
    "jpeg optimised": lambda: saved(rgb(), "JPEG", optimize=True),
    "jpeg with restart markers": lambda: saved(rgb(), "JPEG", restart_marker_blocks=3),
    "jpeg stored as rgb": lambda: saved(rgb(), "JPEG", keep_rgb=True),
    "jpeg grey": lambda: saved(rgb().convert("L"), "JPEG"),
    "jpeg with a profile": lambda: saved(rgb(), "JPEG", icc_profile=b"x" * 300),
    "jpeg with a comment": lambda: saved(rgb(), "JPEG", comment=b"Orientation"),
    "png": lambda: saved(rgb()),
    "png grey": lambda: saved(rgb().convert("L")),
    "png 1 bit": lambda: grey_of(1),
    "png 2 bits": lambda: grey_of(2),
    "png 4 bits": lambda: grey_of(4),
    "png palette": palette,
    "png palette of 1 bit": lambda: saved(rgb().quantize(2)),
    "png rgba, opaque": lambda: with_alpha("RGB", opaque),
    "png grey with alpha, opaque": lambda: with_alpha("L", opaque),
    "png palette, opaque": lambda: palette(bytes([255] * 32), 31),
    "png palette, an unused colour is transparent": lambda: palette(bytes([255] * 40 + [0])),
    "wide": lambda: saved(rgb(64, 91), "JPEG"),
    "tall": lambda: saved(rgb(91, 64), "JPEG"),
    "wide png": lambda: saved(rgb(40, 91)),
    "8 pixels": lambda: saved(rgb(8, 8)),
    "8 by 200 pixels": lambda: saved(rgb(8, 200), "JPEG"),
    **{f"exif {n}": lambda n=n: turned(n) for n in range(1, 9)},
    "exif 6, square": lambda: turned(6, height=64),
    "exif 6, png": lambda: turned(6, "PNG"),
    "exif 0": lambda: turned(0),
    "exif 6 in xmp": lambda: with_xmp(6),
    "exif without orientation": lambda: saved(rgb(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
}
REFUSED: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "jpeg cmyk": ("mode CMYK", lambda: saved(rgb().convert("CMYK"), "JPEG")),
    "png 16 bits grey": ("16 bits", lambda: saved(Image.fromarray(galaxy()[..., 0].astype(np.uint16) * 200))),
    "png 16 bits rgb": ("16 bits", rgb_16),
    "png rgba": ("transparent", lambda: with_alpha("RGB", lambda light: light)),
    "png rgba, one pixel": (
        "transparent",
        lambda: with_alpha("RGB", lambda light: np.where(light == light.max(), 254, 255).astype(np.uint8)),
    ),
    "png grey with alpha": ("transparent", lambda: with_alpha("L", lambda light: light)),
    "png palette with a transparent colour": ("transparent", lambda: palette(0)),
    "png palette with transparency": ("transparent", lambda: palette(bytes(range(32)))),
    "png rgb with a transparent colour": (
        "transparent",
        lambda: saved(rgb(), transparency=tuple(map(int, galaxy()[0, 0]))),
    ),
    "1 pixel": ("too small: 1 x 1", lambda: saved(Image.new("RGB", (1, 1)))),
    "1 pixel, jpeg": ("too small: 1 x 1", lambda: saved(Image.new("RGB", (1, 1)), "JPEG")),
    "7 pixels": ("too small: 64 x 7", lambda: saved(rgb(7, 64))),
    "20,000 pixels": ("too large: 20000 x 20000", lambda: declared(20_000, 20_000, "PNG")),
    "20,000 pixels, jpeg": ("too large: 20000 x 20000", lambda: declared(20_000, 20_000, "JPEG")),
    "gif": ("not an image", lambda: saved(rgb(), "GIF")),
    "tiff": ("not an image", lambda: saved(rgb(), "TIFF")),
    "webp": ("not an image", lambda: saved(rgb(), "WEBP")),
    "truncated": ("corrupt", lambda: saved(rgb(), "JPEG")[:-300]),
    "truncated png": ("truncated", lambda: saved(rgb())[:-300]),
    "empty": ("is empty", lambda: b""),
}


def by_datasets(data: bytes) -> npt.NDArray[np.uint8]:
    image = datasets.Image().decode_example({"path": None, "bytes": data})
    return rgb_of(image)


def rgb_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return pixels; Pillow warns of a palette with transparency unless it is converted in two steps."""
    return np.asarray((image.convert("RGBA") if "transparency" in image.info else image).convert("RGB"))


def central(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    side = min(height, width)
    return pixels[(height - side) // 2 :, (width - side) // 2 :][:side, :side]


def test_the_corpus_is_large_enough() -> None:
    assert len(SHOWN) + len(REFUSED) >= 40


@pytest.mark.parametrize("kind", SHOWN)
def test_shown_images_have_the_pixels_of_pillow(kind: str) -> None:
    data = SHOWN[kind]()
    upright_image = by_datasets(data)
    for is_decoded in (True, False):
        facts = check_image(data, is_decoded=is_decoded)
        assert (facts.height, facts.width) == upright_image.shape[:2]
    expected = central(upright_image)
    off = np.abs(decode(data, len(expected)).astype(int) - expected)
    assert off.max() <= (0 if data.startswith(PNG) else 2)


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_images_are_refused_with_one_sentence(kind: str) -> None:
    words, made = REFUSED[kind]
    with pytest.raises(ImageError, match=words) as by_check:
        check_image(made())
    with pytest.raises(ImageError) as by_loader:
        decode(made(), 64)
    assert str(by_loader.value) == str(by_check.value)


@pytest.mark.parametrize("orientation", range(10))
def test_images_are_turned_as_by_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(io.BytesIO(saved(rgb(9, 13), exif=exif)))
    assert np.array_equal(upright(galaxy(9, 13), orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_a_round_galaxy_stays_round_in_an_image_that_is_not_square() -> None:
    y, x = np.mgrid[:300, :424] - np.array([150, 212])[:, None, None]
    image = np.repeat((255 * np.exp(-np.hypot(x, y) / 20)).astype(np.uint8)[..., None], 3, 2)
    seen = decode(saved(Image.fromarray(image), "JPEG"), 150)[..., 0].astype(float)
    y, x = np.mgrid[:150, :150] - 74.5
    assert (seen * y**2).sum() / (seen * x**2).sum() == pytest.approx(1, abs=0.02)


def test_every_part_agrees_on_every_kind(sky: SimulateResult, run: Path, tmp_path: Path) -> None:
    kinds: dict[str, Callable[[], bytes]] = {**SHOWN, **{name: made for name, (_, made) in REFUSED.items()}}
    images = tmp_path / "images"
    images.mkdir()
    votes = pl.read_parquet(sky.votes)
    votes = votes[[i % votes.height for i in range(len(kinds))]].with_columns(
        id_str=pl.Series(list(kinds)),
        ra=pl.Series(np.linspace(1, 350, len(kinds))),
        dec=pl.Series(np.linspace(-60, 60, len(kinds))),
    )
    names: list[str] = []
    for i, made in enumerate(kinds.values()):
        data = made()
        names.append(f"{i}.{'jpg' if data[:2] == bytes([255, 216]) else 'png'}")
        (images / names[-1]).write_bytes(data)
    votes = votes.drop("filename", strict=False).with_columns(filename=pl.Series(names))
    votes.write_parquet(tmp_path / "votes.parquet")
    with pytest.warns(GZooWarning) as warned:
        built = gzoo.build("gz2", votes=tmp_path / "votes.parquet", images=images, out=tmp_path / "dataset")
    said = [str(one.message) for one in warned]
    assert len(said) == 2
    assert "15 images are not square" in said[0]
    assert "11 images are not RGB" in said[1]
    assert built.image_doubts == tuple(said)
    dropped = pl.read_parquet(built.folder / "dropped.parquet")
    details = dict(dropped.select("id_str", "detail").iter_rows())
    assert set(details) == set(REFUSED)
    for kind, detail in details.items():
        with pytest.raises(ImageError) as caught:
            decode(REFUSED[kind][1](), 64)
        assert detail == caught.value.message
    checked = gzoo.check(built.folder)
    assert checked.is_valid, checked.findings
    assert "not square" in next(one.note for one in checked.checks if one.name == "images")
    seen: set[str] = set()
    for split in built.n_galaxies:
        table = datasets.load_dataset(str(built.folder), split=split, cache_dir=str(tmp_path / "cache"))
        theirs = {row["id_str"]: rgb_of(row["image"]) for row in table}  # type: ignore[union-attr]
        for on_device in (False, True):
            for batch in gzoo.loader(built.folder, 8, 64, split=split, decode_on_device=on_device):
                for id_str, image in zip(batch["id_str"], batch["image"], strict=True):
                    seen.add(id_str)
                    expected = central(theirs[id_str])
                    if len(expected) == 64:
                        off = image.permute(1, 2, 0).int() - torch.from_numpy(expected.copy()).int()
                        assert off.abs().max() <= 2, (id_str, on_device)
    assert seen == set(SHOWN)
    with pytest.warns(GZooWarning, match=f"{len(REFUSED)} images cannot be decoded"):
        made = gzoo.predict(run, images, out=tmp_path / "folder.parquet", corrupt="skip")
    assert (made.n_galaxies, made.n_corrupt) == (len(SHOWN), len(REFUSED))
    of_dataset: dict[str, list[float]] = {}
    for split in built.n_galaxies:
        made = gzoo.predict(run, built.folder, split=split, out=tmp_path / f"{split}.parquet")
        of_dataset |= predicted(made.path)
    kind_of = dict(zip((Path(name).stem for name in names), kinds, strict=True))
    of_folder = {kind_of[name]: values for name, values in predicted(tmp_path / "folder.parquet").items()}
    assert of_folder.keys() == of_dataset.keys() == SHOWN.keys()
    for kind, values in of_folder.items():
        assert values == pytest.approx(of_dataset[kind], rel=1e-4), kind
    reading = image_loader(images, gzoo.campaign("gz2"), 4, 32, "skip")
    assert sum(len(batch["index"]) for batch in reading.batches_of(np.arange(len(kinds))[:, None])) == len(SHOWN)
    assert reading.skipped.keys() == {name for name, kind in kind_of.items() if kind in REFUSED}
    for name, sentence in reading.skipped.items():
        assert sentence.endswith(f"galaxy '{name}': {details[kind_of[name]]}")


def predicted(path: Path) -> dict[str, list[float]]:
    table = pl.read_parquet(path)
    values = table.select(pl.selectors.ends_with("_concentration").fill_null(0)).rows()
    return dict(zip(table["id_str"], map(list, values), strict=True))
