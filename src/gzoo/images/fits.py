"""Colour images from FITS cutouts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import simplejpeg

from gzoo.errors import ImageError
from gzoo.images.checks import FETCH_AGAIN, FITS_SUFFIXES, check_size
from gzoo.trees.definition import Stretch

MAX_FITS_VALUES = 10_000_000  # 5 bands of 1,414 x 1,414, which take 350 MB to render
MAX_MISSING_FRACTION = 0.01

_FITS_TYPES = {"8": "u1", "16": ">i2", "32": ">i4", "64": ">i8", "-32": ">f4", "-64": ">f8"}
_FITS_BLOCK, _FITS_CARD = 2880, 80
_MAX_FITS_CARDS, _MAX_FITS_PARTS, _MAX_FITS_AXES = 20_000, 100, 9
_MAX_FLUX = 1e30
_BRIGHTEST_PERCENTILE = 98
_JPEG_QUALITY = 95

_Bands = npt.NDArray[np.float64]


def is_fits(name: str) -> bool:
    """Return whether a file of that name is converted by `render`.

    >>> is_fits("g1.fits"), is_fits("g1.jpg")
    (True, False)
    """
    return name.lower().endswith(FITS_SUFFIXES)


def render(data: bytes, name: str, stretch: Stretch | None) -> bytes:
    """Return the image to store: JPEG and PNG bytes unchanged, FITS bands as a colour image.

    The first HDU with data must contain the image, of shape (band, y, x) or (y, x). Its bands are in order of
    wavelength, shortest first, and its first row is shown at the bottom.

    - Blue, green and red are bands 1, 2 and 3 of three; of two 1, their mean, 2; of four 1, the mean of 2 and 3, 4; of
      five the mean of 1 and 2, 3, the mean of 4 and 5. A single band is shown in grey.
    - Flux is scaled to display intensity by the scales of `stretch` if it has one for each band. Otherwise the sky,
      measured along the border of the image, is set to 0, the brightest 2% of the image to grey, and the noise to the
      intensity in `stretch`, or less if the brightest parts would exceed white.
    - The mean I of the three colours becomes asinh(softening I) / softening, and colours keep their ratios to it
      (Lupton et al. 2004, doi:10.1086/382245), up to white: bright cores are white, as in the surveys' own viewers.
    - Pixels without data (not finite; or exactly 0 in a band of floats that has values below 0, because noise is never
      exactly 0) take the value of the nearest pixel with data, if they are at most 1% of the band.

    The result is a JPEG of quality 95 without chroma subsampling: about a quarter of the bytes of a PNG, and the format
    that volunteers saw and that models read fastest. The same library versions give the same bytes.

    Args:
        data: Content of the file.
        name: Name of the file, whose suffix says whether it is FITS.
        stretch: Conversion from flux to display intensity; None if there is none, so that FITS images are refused.

    Raises:
        ImageError: The FITS file is truncated or corrupt, contains no image or one of an unsupported shape or size,
            lacks too many pixels, or would be shown as a blank image.
    """
    if not is_fits(name):
        return data
    if stretch is None:
        raise ImageError(
            "The campaign does not define how FITS images are shown in colour.",
            "a table [surveys.stretch] in its TOML file.",
            "Add the table, or provide the image as JPEG or PNG.",
        )
    image = _stretched(_filled(_read_bands(data)), stretch)
    if np.ptp(image) < 8 or (image.min(axis=2) > 250).mean() > 0.5:
        raise ImageError(
            f"The FITS image would be almost entirely {'white' if image.mean() > 127 else 'dark'}.",
            "flux in the unit of the campaign's survey.",
            "Check the unit, or provide the image as JPEG or PNG.",
        )
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image[::-1]), _JPEG_QUALITY, "RGB", "444")


def _read_bands(data: bytes) -> _Bands:
    """Return the flux, shape (band, y, x), NaN where data are missing."""
    if not data.startswith(b"SIMPLE  ="):
        raise ImageError("The file is not a FITS file.", "a file that starts with SIMPLE.", FETCH_AGAIN)
    at = 0
    for _ in range(_MAX_FITS_PARTS):
        if at and not data.startswith(b"XTENSION", at):
            break
        header, at = _header(data, at)
        n_axes = _integer(header, "NAXIS")
        if n_axes > _MAX_FITS_AXES:
            raise _corrupt(f"NAXIS is {n_axes}")
        axes = [_integer(header, f"NAXIS{i + 1}") for i in range(n_axes)]
        n_values = math.prod(axes) if axes else 0
        kind = _FITS_TYPES.get(header.get("BITPIX", ""))
        if kind is None:
            raise _corrupt(f"BITPIX is {header.get('BITPIX')!r}")
        n_bytes = np.dtype(kind).itemsize * _integer(header, "GCOUNT", 1) * (_integer(header, "PCOUNT", 0) + n_values)
        if at + n_bytes > len(data):
            raise _corrupt(f"it is truncated ({len(data):,} of {at + n_bytes:,} bytes)")
        if header.get("ZIMAGE") == "T":
            raise ImageError(
                "The FITS image is compressed.", "an uncompressed image.", "Convert it, for example with funpack."
            )
        if header.get("XTENSION", "IMAGE") == "IMAGE" and "GROUPS" not in header and n_values:
            shape = _shape(axes[::-1])
            return _flux(header, np.frombuffer(data, kind, n_values, at).reshape(shape))
        at += _padded(n_bytes)
    raise ImageError("The FITS file does not contain an image.", "an image of 1 to 5 bands.", "Check the file's HDUs.")


def _header(data: bytes, at: int) -> tuple[dict[str, str], int]:
    """Return the values of a header as strings, and the offset of its data."""
    header: dict[str, str] = {}
    for i in range(_MAX_FITS_CARDS):
        card = data[at + i * _FITS_CARD : at + (i + 1) * _FITS_CARD].decode("latin-1")
        if len(card) < _FITS_CARD:
            break
        if not (card.isascii() and card.isprintable()):
            raise _corrupt("its header is not text")
        key = card[:8].rstrip()
        if key == "END":
            return header, at + _padded((i + 1) * _FITS_CARD)
        if card[8:10] == "= ":
            header.setdefault(key, card[10:].split("/")[0].strip(" '"))
    raise _corrupt("the end of its header is missing")


def _integer(header: Mapping[str, str], key: str, default: int | None = None) -> int:
    text = header.get(key, str(default))
    if not re.fullmatch(r"\+?\d{1,18}", text):
        raise _corrupt(f"{key} is {text!r}")
    return int(text)


def _flux(header: Mapping[str, str], stored: npt.NDArray[np.generic]) -> _Bands:
    """Return flux from stored values, shape (band, y, x), NaN where data are missing."""
    is_integer = stored.dtype.kind != "f"
    try:
        scale, zero = (float(header.get(key, n).replace("D", "E")) for key, n in (("BSCALE", "1"), ("BZERO", "0")))
        blank = int(header["BLANK"]) if is_integer and "BLANK" in header else None
    except ValueError as error:
        raise _corrupt(f"BSCALE, BZERO or BLANK is not a number ({error})") from error
    with np.errstate(all="ignore"):  # values that overflow count as missing
        bands = stored.astype(np.float64)
        bands *= scale
        bands += zero
        bands[~(np.abs(bands) < _MAX_FLUX)] = np.nan
    if blank is not None:
        bands[stored == blank] = np.nan
    if not is_integer:
        has_noise = np.nanmin(bands, axis=(1, 2), initial=0) < 0
        bands[(stored == 0) & has_noise[:, None, None]] = np.nan
    return bands


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // _FITS_BLOCK) * _FITS_BLOCK


def _shape(axes: list[int]) -> tuple[int, int, int]:
    """Return the shape as (band, y, x)."""
    while len(axes) > 3 and axes[0] == 1:  # a single polarisation or frequency
        del axes[0]
    if len(axes) == 2:
        axes.insert(0, 1)
    if len(axes) != 3 or axes[0] > 5:
        raise ImageError(
            f"The FITS image has shape ({', '.join(map(str, axes))}).",
            "(y, x), or (band, y, x) with 1 to 5 bands.",
            "Write the bands of one galaxy along the first axis.",
        )
    bands, height, width = axes
    check_size(width, height)
    if bands * height * width > MAX_FITS_VALUES:
        raise ImageError(
            f"The FITS image has {bands * height * width:,} values.",
            f"at most {MAX_FITS_VALUES:,}.",
            "Make a cutout around the galaxy.",
        )
    return bands, height, width


def _corrupt(how: str) -> ImageError:
    return ImageError(f"The FITS file is corrupt: {how}.", "a complete file.", FETCH_AGAIN)


def _filled(bands: _Bands) -> _Bands:
    """Return the bands with a value in each pixel."""
    missing = np.isnan(bands)
    for i, (band, holes) in enumerate(zip(bands, missing, strict=True), 1):
        fraction = float(holes.mean())
        if fraction > MAX_MISSING_FRACTION:
            raise ImageError(
                f"{fraction:.1%} of the pixels of band {i} of {len(bands)} are missing.",
                f"at most {MAX_MISSING_FRACTION:.0%}.",
                "Omit the galaxy, or choose a cutout where all bands were observed.",
            )
        if np.ptp(band[~holes]) < 1 / _MAX_FLUX:
            raise ImageError(
                f"Band {i} of {len(bands)} is {band[~holes][0]:g} in every pixel.",
                "varying flux.",
                "Download it again, or omit the galaxy.",
            )
    if not missing.any():
        return bands
    from scipy import ndimage

    filled = bands.copy()
    for band, holes in zip(filled, missing, strict=True):
        nearest = cast(
            npt.NDArray[np.intp], ndimage.distance_transform_edt(holes, return_distances=False, return_indices=True)
        )
        band[:] = band[tuple(nearest)]
    return filled


def _stretched(bands: _Bands, stretch: Stretch) -> npt.NDArray[np.uint8]:
    """Return red, green and blue intensities of 0 to 255, shape (y, x, 3)."""
    if len(stretch.scales) == len(bands):
        intensity = bands * np.array(stretch.scales)[:, None, None]
    else:
        intensity = _balanced(bands, stretch)
    colours = np.tensordot(_MIXES[len(bands)], intensity + stretch.black, 1)
    bent = stretch.softening * np.maximum(colours, 0).mean(axis=0)
    slope = np.ones_like(bent)  # asinh(x) / x approaches 1 at 0
    np.divide(np.arcsinh(bent), bent, out=slope, where=bent > 0)
    return np.rint(np.clip(colours * slope, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


_MIXES = {
    1: np.ones((3, 1)),
    2: np.array([[0, 1], [0.5, 0.5], [1, 0]]),
    3: np.eye(3)[::-1].copy(),
    4: np.array([[0, 0, 0, 1], [0, 0.5, 0.5, 0], [1, 0, 0, 0]]),
    5: np.array([[0, 0, 0, 0.5, 0.5], [0, 0, 1, 0, 0], [0.5, 0.5, 0, 0, 0]]),
}
"""Number of bands -> weight of each band in red, green and blue."""


def _balanced(bands: _Bands, stretch: Stretch) -> _Bands:
    """Return the display intensity of bands in unknown units, by their brightest parts and their noise."""
    sky, noise = _sky_and_noise(bands)
    flux = bands - sky[:, None, None]
    peak = np.abs(flux).max(axis=(1, 2))
    noise = np.where(noise > 1e-12 * peak, noise, peak / 1000)  # simulated images may have none
    snr = flux / noise[:, None, None]
    together = snr.mean(axis=0)
    of_brightest = np.median(snr[:, together >= np.percentile(together, _BRIGHTEST_PERCENTILE)], axis=1)
    # without this floor a band without light would be amplified noise, with the wrong sign
    of_brightest = np.maximum(of_brightest, max(float(of_brightest.max()) / 4, 1))
    grey = snr / of_brightest[:, None, None]
    brightest = max(float(np.percentile(grey.mean(axis=0), 99.5)), 1e-9)  # about 1, where anything is above the sky
    white = float(np.sinh(stretch.softening)) / stretch.softening / brightest
    return grey * min(stretch.noise / float((1 / of_brightest).mean()), white)


def _sky_and_noise(bands: _Bands) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the sky level and noise of each band, measured along the border of the image."""
    height, width = bands.shape[1:]
    margin = max(1, min(height, width) // 10)
    is_border = np.ones((height, width), bool)
    is_border[margin : height - margin, margin : width - margin] = False
    border = bands[:, is_border]
    sky = np.median(border, axis=1)
    below = np.where(
        border < sky[:, None], sky[:, None] - border, np.nan
    )  # stars and neighbours are only above the sky
    below[np.isnan(below).all(axis=1)] = 0
    return sky, 1.4826 * np.nanmedian(below, axis=1)
