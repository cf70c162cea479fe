"""Valid images pass, corrupt ones are rejected, and FITS cutouts become colour images that show the galaxy."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gzoo.errors import ImageError
from gzoo.images.checks import ImageFacts, Scratch, check_image
from gzoo.images.fits import render
from gzoo.trees.campaign import campaign, campaigns
from gzoo.trees.definition import Stretch

Array = npt.NDArray[np.float64]

PLAIN = Stretch(scales=(1, 1, 1), noise=0.05, softening=0.01, black=0.0, grade="", source="")
"""Linear from 0 to 1, to within 1 part in 10,000."""
BY_NOISE = replace(PLAIN, scales=(), softening=7.0, black=0.06)


def encoded(image: npt.NDArray[np.uint8] | None = None, format: str = "JPEG", **options: object) -> bytes:
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, format, **options)
    return file.getvalue()


def png_part(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def declared(width: int, height: int, format: str) -> bytes:
    """An image that declares this size and has almost no data."""
    if format == "PNG":
        start = png_part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + start + png_part(b"IDAT", zlib.compress(bytes(100))) + png_part(b"IEND", b"")
    data = bytearray(encoded())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def fits_file(bands: npt.NDArray[np.generic], *before: object, **cards: object) -> bytes:
    part = (fits.ImageHDU if before else fits.PrimaryHDU)(bands)
    part.header.update(cards)
    file = io.BytesIO()
    fits.HDUList([*before, part]).writeto(file)
    return file.getvalue()


def galaxy(n_bands: int = 3, side: int = 64, noise: float = 0.01, seed: int = 0) -> Array:
    y, x = np.mgrid[:side, :side] - side / 2
    light = np.exp(-np.hypot(x, 2 * y) / side * 12)
    return light * np.arange(1, n_bands + 1)[:, None, None] + np.random.default_rng(seed).normal(
        0, noise, (n_bands, side, side)
    )


def pixels(data: bytes) -> npt.NDArray[np.int64]:
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        return np.asarray(image).astype(np.int64)


def why_not(data: bytes, stretch: Stretch = PLAIN, name: str = "g.fits") -> str:
    with pytest.raises(ImageError) as caught:
        render(data, name, stretch)
    return str(caught.value)


# --- JPEG and PNG -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_decoded", [True, False])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}, {"optimize": True}])
def test_valid_images_pass(options: dict[str, Any], is_decoded: bool) -> None:
    assert check_image(encoded(**options), is_decoded=is_decoded) == ImageFacts("JPEG", 50, 40)
    assert check_image(encoded(format="PNG"), is_decoded=is_decoded) == ImageFacts("PNG", 50, 40)


@pytest.mark.parametrize("is_decoded", [True, False])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_truncated_images_are_rejected(format: str, is_decoded: bool) -> None:
    whole = encoded(format=format)
    for length in {*range(0, len(whole), 7), *range(len(whole) - 20, len(whole) - 1)}:
        with pytest.raises(ImageError):
            check_image(whole[:length], is_decoded=is_decoded)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_overwritten_pixels_are_found_by_decoding(format: str) -> None:
    whole = encoded(format=format)
    half = len(whole) // 2
    gone = whole[:half] + bytes(200) + whole[half + 200 :]
    with pytest.raises(ImageError, match="corrupt"):
        check_image(gone)
    if format == "JPEG":  # has no checksums, so only its header is checked
        assert check_image(gone, is_decoded=False) == ImageFacts("JPEG", 50, 40)


def test_png_checksums_are_verified_without_decoding() -> None:
    data = bytearray(encoded(format="PNG"))
    data[data.index(b"IDAT") + 50] ^= 1
    with pytest.raises(ImageError, match=r"checksum of chunk 'IDAT' does not match"):
        check_image(bytes(data), is_decoded=False)


def test_missing_png_pixels_are_found_by_decoding() -> None:
    data = declared(50, 40, "PNG")
    assert check_image(data, is_decoded=False) == ImageFacts("PNG", 50, 40)
    with pytest.raises(ImageError, match="corrupt"):
        check_image(data)


@pytest.mark.parametrize("is_decoded", [True, False])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(20_000, 20_000), (8193, 1), (1, 65_500)])
def test_too_large_images_are_rejected_before_decoding(size: tuple[int, int], format: str, is_decoded: bool) -> None:
    with pytest.raises(ImageError, match=rf"too large: {size[0]} x {size[1]} pixels"):
        check_image(declared(*size, format), is_decoded=is_decoded)


def test_a_complete_image_of_20000_pixels_per_side_is_rejected() -> None:
    # one compressed block of 100 black rows, repeated, with the checksum of all zeros
    rows = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    block = rows.compress(bytes(100 * 60_001)) + rows.flush(zlib.Z_FULL_FLUSH)
    content = b"\x78\x9c" + 200 * block + b"\x03\x00" + struct.pack(">HH", 20_000 * 60_001 % 65_521, 1)
    start = png_part(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + start + png_part(b"IDAT", content) + png_part(b"IEND", b"")
    assert len(bomb) < 2_000_000
    with pytest.raises(ImageError, match="too large: 20000 x 20000 pixels"):
        check_image(bomb)


@pytest.mark.parametrize("is_decoded", [True, False])
@pytest.mark.parametrize(
    ("mode", "format", "words"),
    [
        ("CMYK", "JPEG", "mode CMYK"),
        ("I;16", "PNG", "16 bits per channel"),
        ("RGBA", "PNG", "transparent pixels"),
        ("LA", "PNG", "transparent pixels"),
    ],
)
def test_images_of_other_modes_are_rejected(mode: str, format: str, words: str, is_decoded: bool) -> None:
    file = io.BytesIO()
    Image.new(mode, (9, 9)).save(file, format)
    with pytest.raises(ImageError, match=words):
        check_image(file.getvalue(), is_decoded=is_decoded)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_image_of_one_colour_is_rejected(mode: str, format: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (424, 300), 32 if mode == "L" else (32, 40, 90)).save(file, format)
    with pytest.raises(ImageError, match=r"Every pixel of the image has the colour \(\d+, \d+, \d+\)"):
        check_image(file.getvalue())
    assert check_image(file.getvalue(), is_decoded=False).width == 424, "only its header is read"


def test_details_smaller_than_a_block_are_not_taken_for_one_colour() -> None:
    chequered = np.indices((64, 64)).sum(0) % 2 * np.uint8(80) + np.uint8(60)
    for image in (np.stack([chequered] * 3, 2).astype(np.uint8), chequered.astype(np.uint8)):
        assert check_image(encoded(image, quality=95)) == ImageFacts("JPEG", 64, 64, image.ndim == 3)


def test_an_image_of_many_scans_is_rejected_before_decoding() -> None:
    whole = encoded(progressive=True)
    at = whole.index(b"\xff\xda")
    with pytest.raises(ImageError, match="more than 100 scans"):
        check_image(whole[:at] + whole[at:-2] * 40 + whole[-2:])


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + bytes(50), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"<svg/>", bytes(9)]
)
def test_other_files_are_rejected(data: bytes) -> None:
    for is_decoded in (True, False):
        with pytest.raises(ImageError):
            check_image(data, is_decoded=is_decoded)


@given(st.data(), st.sampled_from(["JPEG", "PNG"]), st.booleans())
def test_any_bytes_pass_or_raise_an_image_error(data: st.DataObject, format: str, is_decoded: bool) -> None:
    image = bytearray(encoded(format=format))
    for _ in range(data.draw(st.integers(0, 4))):
        image[data.draw(st.integers(0, min(700, len(image) - 1)))] = data.draw(st.integers(0, 255))
    try:
        facts = check_image(bytes(image), is_decoded=is_decoded)
    except ImageError:
        return
    assert facts.width <= 8192
    assert facts.height <= 8192


@given(st.data(), st.sampled_from([{}, {"progressive": True}, {"restart_marker_blocks": 3}]))
def test_the_small_grey_decode_finds_the_same_damage_as_full_colour(
    data: st.DataObject, options: dict[str, Any]
) -> None:
    """The check decodes to a small grey image, which is faster; it must not miss damage."""
    image = bytearray(encoded(**options))
    for _ in range(data.draw(st.integers(1, 3))):
        image[data.draw(st.integers(2, len(image) - 1))] = data.draw(st.integers(0, 255))
    image = bytes(image[: data.draw(st.just(len(image)) | st.integers(2, len(image)))])
    try:
        check_image(image, scratch=Scratch())
    except ImageError:
        return
    simplejpeg.decode_jpeg(image, fastdct=True, fastupsample=True, strict=True)


def test_scratch_memory_is_reused() -> None:
    scratch = Scratch()
    memory = scratch.of(50 * 40)
    assert check_image(encoded(), scratch=scratch) == ImageFacts("JPEG", 50, 40)
    assert scratch.of(10) is memory
    assert len(scratch.of(5000)) == 5000


def test_real_images_pass_and_the_corrupt_one_is_rejected(shared_data: Path) -> None:
    folders = ("gz2_sample", "goods_images", "hubble_ferengi")
    paths = [path for folder in folders for path in (shared_data / folder).rglob("*.jpg*")]
    assert len(paths) > 800
    for is_decoded in (True, False):
        rejected: list[str] = []
        for path in paths:
            try:
                check_image(path.read_bytes(), is_decoded=is_decoded)
            except ImageError:
                rejected.append(path.suffix)
        assert rejected == [".corrupt"]


# --- FITS ---------------------------------------------------------------------------------------------------------


def test_jpeg_and_png_stay_unchanged() -> None:
    for format, name in (("JPEG", "g.jpg"), ("PNG", "g.PNG")):
        assert render(encoded(format=format), name, PLAIN) == encoded(format=format)


def test_real_cutouts_are_rendered_except_the_two_incomplete_ones(shared_data: Path) -> None:
    paths = sorted((shared_data / "fits").glob("*.fits"))
    assert len(paths) == 15
    for name in ("gz_desi", "gz2", "gz_hubble"):
        rejected: dict[str, str] = {}
        for path in paths:
            try:
                image = render(path.read_bytes(), path.name, campaign(name).stretch)
            except ImageError as error:
                rejected[path.name] = str(error)
                continue
            check_image(image)
            rgb = pixels(image).mean(axis=2)
            middle = len(rgb) // 2
            sky, centre = np.median(rgb), rgb[middle - 12 : middle + 12, middle - 12 : middle + 12].mean()
            assert 5 < sky < 100  # the sky is dark, but not clipped
            assert centre > 1.7 * sky  # the galaxy stands out
            assert (rgb > 250).mean() < 0.05  # and is not washed out
        assert list(rejected) == ["willettk_example_bad_pix.fits", "willettk_example_incomplete.fits"]
        assert "75.7% of the pixels of band 1 of 3 are missing" in rejected["willettk_example_bad_pix.fits"]
        assert "truncated (1,389,044 of 2,160,192 bytes)" in rejected["willettk_example_incomplete.fits"]


def test_real_cutouts_look_as_in_the_surveys_viewer(shared_data: Path) -> None:
    """Against the formula of the Legacy Surveys viewer: sky + 0.03, Q = 20, each colour up to 1."""
    data = (shared_data / "fits" / "willettk_example_e.fits").read_bytes()
    with fits.open(io.BytesIO(data)) as parts:
        g, r, z = parts[0].data.astype(float)  # pyright: ignore[reportAttributeAccessIssue]
    rgb = np.maximum(0, np.stack([z * 2.2, r * 3.4, g * 6.0], axis=2) + 0.03)
    mean = rgb.mean(axis=2, keepdims=True) + 1e-9
    expected = 255 * np.clip(rgb * np.arcsinh(20 * mean) / np.sqrt(20) / mean, 0, 1)[::-1]
    off = np.abs(pixels(render(data, "e.fits", campaign("gz_desi").stretch)) - expected)
    assert off.mean() < 3  # the loss of JPEG


def test_rendering_is_reproducible() -> None:
    data = fits_file(galaxy())
    assert render(data, "g.fits", BY_NOISE) == render(data, "g.FIT", BY_NOISE)


def test_bands_are_colours_by_wavelength_and_the_first_row_is_the_lowest() -> None:
    bands = np.full((3, 32, 48), 0.1)
    bands[0, :8], bands[1, 8:16], bands[2, 16:24] = 0.9, 0.9, 0.9
    rgb = pixels(render(fits_file(bands), "g.fits", PLAIN))
    assert rgb.shape == (32, 48, 3)
    assert [int(rgb[row].mean(axis=0).argmax()) for row in (28, 20, 12)] == [2, 1, 0]  # blue at the bottom
    np.testing.assert_allclose(rgb[28].mean(axis=0), [25.5, 25.5, 229.5], atol=4)


@pytest.mark.parametrize(
    ("n_bands", "colour_of_band"),
    [
        (2, [[0, 128, 255], [255, 128, 0]]),
        (3, [[0, 0, 255], [0, 255, 0], [255, 0, 0]]),
        (4, [[0, 0, 255], [0, 128, 0], [0, 128, 0], [255, 0, 0]]),
        (5, [[0, 0, 128], [0, 0, 128], [0, 255, 0], [128, 0, 0], [128, 0, 0]]),
    ],
)
def test_each_band_has_its_colour(n_bands: int, colour_of_band: Sequence[Sequence[int]]) -> None:
    for i, colour in enumerate(colour_of_band):
        bands = np.zeros((n_bands, 32, 32))
        bands[i, 16:] = 1
        bands[[j for j in range(n_bands) if j != i], 0, 0] = 1  # no band is empty
        rgb = pixels(render(fits_file(bands), "g.fits", replace(PLAIN, scales=(1,) * n_bands)))
        np.testing.assert_allclose(rgb[4:12].mean(axis=(0, 1)), colour, atol=4)


@pytest.mark.parametrize("n_bands", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_a_galaxy_is_visible_for_any_number_of_bands_and_unit(n_bands: int, unit: float) -> None:
    rgb = pixels(render(fits_file(galaxy(n_bands) * unit + 7 * unit), "g.fits", BY_NOISE))
    centre, corner = rgb[28:36, 28:36].mean(axis=(0, 1)), rgb[:16, :16].mean(axis=(0, 1))
    assert centre.min() > 90
    assert corner.max() < 40
    assert np.ptp(centre) < 25  # bands are balanced: no colour from the unit of one


def test_a_band_without_light_is_not_amplified_to_noise() -> None:
    bands = galaxy(3)
    bands[0] = np.random.default_rng(1).normal(0, 0.01, bands[0].shape)
    rgb = pixels(render(fits_file(bands), "g.fits", BY_NOISE))
    assert rgb[:16, :16, 2].std() < 30
    assert rgb[28:36, 28:36, 0].mean() > 3 * rgb[28:36, 28:36, 2].mean()


def test_one_band_of_two_axes_is_grey() -> None:
    rgb = pixels(render(fits_file(galaxy(1)[0]), "g.fits", BY_NOISE))
    assert np.ptp(rgb, axis=2).max() <= 2


@given(
    st.sampled_from(["u1", "i2", "i4", "i8", "f4", "f8"]),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, (0.5, 100.0), (2.0, 32768.0)]),
    st.booleans(),
)
def test_values_are_read_as_by_astropy(
    kind: str, n_bands: int, seed: int, scaling: tuple[float, float] | None, is_extension: bool
) -> None:
    rng = np.random.default_rng(seed)
    bands = rng.integers(1, 200 if kind == "u1" else 30_000, (n_bands, 17, 23)).astype(kind)
    cards: dict[str, object] = {} if scaling is None else {"BSCALE": scaling[0], "BZERO": scaling[1]}
    part = fits.ImageHDU(bands)
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), part] if is_extension else [fits.PrimaryHDU(bands)]).writeto(file)
    data = file.getvalue()
    for key, value in cards.items():  # as written by others: astropy would scale on writing
        at = data.index(b"END".ljust(80), 2880 if is_extension else 0)
        data = data[:at] + f"{key:8}= {value:20}".ljust(80).encode() + b"END".ljust(80) + data[at + 160 :]
    with fits.open(io.BytesIO(data)) as parts:
        expected = parts[-1].data.astype(np.float64)  # pyright: ignore[reportAttributeAccessIssue]
    again = fits_file(expected)
    least, ptp = float(expected.min()), float(np.ptp(expected))
    stretch = replace(PLAIN, scales=(1 / ptp,) * n_bands, black=-least / ptp)
    assert render(data, "g.fits", stretch) == render(again, "g.fits", stretch)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf, 1e37, 0.0])
def test_a_few_missing_pixels_take_the_nearest_value(hole: float) -> None:
    bands = galaxy()
    whole = pixels(render(fits_file(bands), "g.fits", BY_NOISE))
    bands[1, 30:34, 30:34] = hole
    filled = pixels(render(fits_file(bands), "g.fits", BY_NOISE))
    assert np.abs(filled - whole)[28:36, 28:36].max() < 120
    assert np.abs(filled - whole).mean() < 4


def test_blank_values_are_missing() -> None:
    numbers = np.round(galaxy() * 1000).astype(">i2")
    numbers[0, :32] = -999
    assert "50.0% of the pixels of band 1 of 3 are missing" in why_not(fits_file(numbers, BLANK=-999))


def test_zero_is_a_value_where_there_is_no_noise() -> None:
    light = np.zeros((3, 32, 32))
    light[:, 10:20, 10:20] = 0.7
    assert pixels(render(fits_file(light), "g.fits", PLAIN))[0, 0].max() < 10


def with_holes(fraction: float) -> Array:
    bands = galaxy()
    bands[2, : int(64 * fraction)] = np.nan
    return bands


@pytest.mark.parametrize(
    ("bands", "reason"),
    [
        (with_holes(0.5), "50.0% of the pixels of band 3 of 3 are missing"),
        (np.full((3, 9, 9), np.nan), "100.0% of the pixels of band 1 of 3 are missing"),
        (np.full((3, 9, 9), 4.0), "Band 1 of 3 is 4 in every pixel"),
        (galaxy() * 1e6 + 1e6, "almost entirely white"),
        (galaxy() * 1e-6, "almost entirely dark"),
        (galaxy(6), "has shape (6, 64, 64)"),
        (np.zeros((2, 2, 3, 9)), "has shape (2, 2, 3, 9)"),
        (np.zeros(50), "has shape (50)"),
        (np.zeros((1, 8193)), "too large: 8193 x 1 pixels"),
        (np.zeros((5, 1500, 1500), np.uint8), "has 11,250,000 values"),
    ],
)
def test_unusable_images_are_rejected_with_the_reason(bands: Array, reason: str) -> None:
    assert reason in why_not(fits_file(bands))


def test_an_axis_of_length_one_is_ignored() -> None:
    assert render(fits_file(galaxy()[None]), "g.fits", PLAIN) == render(fits_file(galaxy()), "g.fits", PLAIN)


def test_truncated_fits_files_are_rejected() -> None:
    data = fits_file(galaxy().astype(">f4"))
    for length in (0, 8, 9, 79, 80, 500, 2879, 2880, 2881, 20_000, 2880 + 3 * 64 * 64 * 4 - 1):
        assert "corrupt" in why_not(data[:length]) or "not a FITS file" in why_not(data[:length])
    assert render(data[: 2880 + 3 * 64 * 64 * 4], "g.fits", PLAIN)  # only the padding is missing


def test_the_first_hdu_with_an_image_is_used() -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(5))])
    data = fits_file(galaxy(), fits.PrimaryHDU(), table)
    assert render(data, "g.fits", PLAIN) == render(fits_file(galaxy()), "g.fits", PLAIN)


def test_files_without_a_plain_image_are_rejected() -> None:
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(galaxy(1)[0].astype("f4"))]).writeto(file)
    assert "compressed" in why_not(file.getvalue())
    file = io.BytesIO()
    fits.PrimaryHDU().writeto(file)
    assert "does not contain an image" in why_not(file.getvalue())
    assert "not a FITS file" in why_not(encoded(format="PNG"))
    assert "not a FITS file" in why_not(zlib.compress(fits_file(galaxy())))


def with_card(card: str) -> bytes:
    """A valid file with one card of its header replaced."""
    data = fits_file(galaxy().astype(">f4"), BSCALE=1.0, BZERO=0.0)
    key = card[:8].encode()
    at = next(at for at in range(0, 2880, 80) if data[at : at + 8] == key)
    return data[:at] + card.ljust(80).encode("latin-1") + data[at + 80 :]


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("NAXIS   = 999", "NAXIS is 999"),
        ("NAXIS   = T", "NAXIS is 'T'"),
        ("NAXIS1  = 999999999999999999", "truncated"),
        ("NAXIS1  = " + "9" * 60, "NAXIS1 is '99"),
        ("NAXIS2  = -4", "NAXIS2 is '-4'"),
        ("NAXIS2  =", "NAXIS2 is ''"),
        ("BITPIX  = 7", "BITPIX is '7'"),
        ("BITPIX  = 'x'", "BITPIX is 'x'"),
        ("BSCALE  = 'much'", "BSCALE, BZERO or BLANK is not a number"),
        ("BSCALE  = NaN", "100.0% of the pixels"),
        ("BSCALE  = 1E300", "100.0% of the pixels"),
        ("BZERO   = -INF", "100.0% of the pixels"),
        ("BSCALE  = 0", "is 0 in every pixel"),
        ("BZERO   = \xe9", "its header is not text"),
    ],
)
def test_invalid_headers_are_rejected(card: str, reason: str) -> None:
    assert reason in why_not(with_card(card))


@given(st.data())
def test_any_fits_bytes_are_rendered_or_raise_an_image_error(data: st.DataObject) -> None:
    file = bytearray(fits_file(galaxy(side=16).astype(">f4")))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.one_of(st.integers(0, 800), st.integers(2880, len(file) - 1)))
        file[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b"0123456789-ET ="))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(ImageError):
            check_image(render(bytes(file), "g.fits", data.draw(st.sampled_from([PLAIN, BY_NOISE]))))


@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.floats(-1e30, 1e30), st.integers(0, 99))
def test_any_flux_is_rendered_or_raises_an_image_error(n: int, height: int, width: int, flux: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bands = flux * rng.choice(
        [0, 1, -1, 1e-320, 1e-3, 1e8, np.nan], (n, height, width), p=[0.1, 0.5, 0.1, 0.1, 0.1, 0.09, 0.01]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for stretch in (BY_NOISE, replace(PLAIN, scales=(1,) * n)):
            with contextlib.suppress(ImageError):
                check_image(render(fits_file(bands), "g.fits", stretch))


def test_the_stretch_of_every_campaign_shows_a_galaxy() -> None:
    data = fits_file(galaxy(1)[0])
    for one in campaigns():
        for survey in campaign(one.name).surveys:
            rgb = pixels(render(data, "g.fits", survey.stretch)).mean(axis=2)
            assert rgb[28:36, 28:36].mean() > 60, one.name
            assert 5 < np.median(rgb) < 60, one.name
