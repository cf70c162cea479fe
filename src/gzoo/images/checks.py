"""Images: are these bytes an image that a model can be shown, and how is a FITS file shown?"""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from gzoo.errors import ImageError
from gzoo.trees.campaign import Stretch

FITS_SUFFIXES = (".fits", ".fit")
SUFFIXES = (".jpg", ".jpeg", ".png", *FITS_SUFFIXES)
MAX_SIDE_PIXELS = 8192
MAX_FITS_VALUES = 10_000_000  # 5 bands of 1,414 x 1,414, which take 350 MB to show
MAX_MISSING_FRACTION = 0.01
MAX_SCANS = 100  # of a JPEG image; usual ones have up to 10, and each may cost a pass over all pixels

_WHOLE = "Expected a whole JPEG or PNG."
_SMALLEST = 8  # how many times smaller than it is libjpeg decodes an image at most
_JPEG_MODES = {"Gray": "L", "CMYK": "CMYK", "YCCK": "CMYK"}
_SCAN, _END = b"\xff\xda", b"\xff\xd9"  # marks in a JPEG file
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_FITS_TYPES = {"8": "u1", "16": ">i2", "32": ">i4", "64": ">i8", "-32": ">f4", "-64": ">f8"}
_FITS_BLOCK, _FITS_CARD = 2880, 80
_MAX_FITS_CARDS, _MAX_FITS_PARTS, _MAX_FITS_SIDES = 20_000, 100, 9
_MAX_FLUX = 1e30
_BRIGHTEST_PERCENTILE = 98
_JPEG_QUALITY = 95

_Bands = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a sound image is: its format and its size in pixels."""

    format: str
    width: int
    height: int


class Scratch:
    """Memory for pixels that are thrown away: to take it anew for each image costs half as much as decoding does.

    Each thread needs its own.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def of(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Memory of at least that many bytes."""
        if len(self._memory) < n_bytes:
            self._memory = np.empty(n_bytes, np.uint8)
        return self._memory


def check_image(data: bytes, *, is_decoded: bool = True, scratch: Scratch | None = None) -> ImageFacts:
    """Facts of a JPEG or PNG image, decoded to its last byte.

    All that a JPEG file holds is decoded, colours too, to the last coefficient. Of the pixels, which follow from these
    by arithmetic that nothing can go wrong in, a small grey image is made: each damage that shows up in decoding to
    full size shows up in this too, and it takes up to a third less time.

    Args:
        data: The file's content.
        is_decoded: Whether to decode the image, so that damage anywhere is found; otherwise its format, size, mode,
            and that it has an end (for PNG also the checksums of all its parts).
        scratch: Memory to decode in, for many images in turn.

    Raises:
        ImageError: Empty, not JPEG or PNG, truncated or damaged, not RGB, or larger than 8192 pixels a side. An
            image that declares too large a size is never decoded.

    >>> check_image(b"")
    Traceback (most recent call last):
        ...
    gzoo.errors.ImageError: The file is empty. Expected a JPEG or PNG image. Fetch it again.
    """
    if not data:
        raise ImageError("The file is empty.", "Expected a JPEG or PNG image.", "Fetch it again.")
    if data.startswith(b"\xff\xd8\xff"):
        return _check_jpeg(data, is_decoded, scratch or Scratch())
    if data.startswith(_PNG):
        return _check_png(data, is_decoded)
    raise ImageError("The file is not an image.", "Expected JPEG or PNG.", "Fetch it again.")


def is_fits(name: str) -> bool:
    """Whether a file of that name is shown by `shown`, and not as it is.

    >>> is_fits("g1.fits"), is_fits("g1.jpg")
    (True, False)
    """
    return name.lower().endswith(FITS_SUFFIXES)


def shown(data: bytes, name: str, stretch: Stretch) -> bytes:
    """The image to store: JPEG and PNG bytes as they are, FITS bands as a colour image.

    A FITS file holds one image in its first part that has one, of shape (band, y, x) or (y, x). Its bands stand in
    order of wavelength, shortest first, and its first row is the lowest, which is shown at the bottom.

    - Blue, green and red are bands 1, 2 and 3 of three; of two 1, their mean, 2; of four 1, the mean of 2 and 3, 4; of
      five the mean of 1 and 2, 3, the mean of 4 and 5. A single band is shown grey.
    - Bands are scaled to brightness by `stretch`: by its scales where it has one for each band; otherwise so that the
      sky, measured along the image's border, is at 0, the brightest 2 % of the image are grey, and noise is as it
      says, or less where the brightest parts would else be beyond white.
    - The mean I of the three colours becomes asinh(softening I) / softening, and colours keep their ratios to it
      (Lupton et al. 2004, doi:10.1086/382245), up to white: bright cores are white, as in the surveys' own viewers.
    - Pixels without data (not finite; or exactly 0 in a band of floats that has values below 0, for noise is never
      exactly 0) take the value of the nearest with data, if they are at most 1 % of the band.

    The result is a JPEG of quality 95 without subsampled colours: about a quarter of the bytes of a PNG, and the format
    that volunteers saw and that models read fastest. The same library versions give the same bytes.

    Args:
        data: The file's content.
        name: The file's name, which says whether it is FITS.
        stretch: How flux becomes brightness.

    Raises:
        ImageError: The FITS file is cut off or damaged, holds no image or one of another shape or too large, lacks
            more data than that, or shows nothing.
    """
    if not is_fits(name):
        return data
    bands = _filled(_fits_bands(data))
    image = _stretched(bands, stretch)
    _refuse_blank(image)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image[::-1]), _JPEG_QUALITY, "RGB", "444")


# --- JPEG and PNG -------------------------------------------------------------------------------------------------


def _check_jpeg(data: bytes, is_decoded: bool, scratch: Scratch) -> ImageFacts:
    try:
        height, width, colours, _ = cast(tuple[int, int, str, str], simplejpeg.decode_jpeg_header(data))
        _check_size(width, height)
        _check_mode(_JPEG_MODES.get(colours, "RGB"))
        if is_decoded:
            if n_scans(data) > MAX_SCANS:
                raise _damaged(f"it has more than {MAX_SCANS} scans")
            # strict: what libjpeg would mend in silence is an error; fast, small: pixels are thrown away
            pixels = scratch.of((height // _SMALLEST + 1) * (width // _SMALLEST + 1))
            small: dict[str, Any] = {"min_height": 1, "min_width": 1, "min_factor": _SMALLEST}
            simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, fastupsample=True, buffer=pixels, strict=True, **small)
        elif not data.endswith(_END) and data.rfind(_END) < data.rfind(_SCAN):  # an earlier end is a thumbnail's
            raise _damaged("it has no end")
    except ImageError:
        raise
    except (ValueError, RuntimeError, MemoryError) as error:
        raise _damaged(str(error)) from error
    return ImageFacts("JPEG", width, height)


def n_scans(data: bytes | memoryview) -> int:
    """How often a scan may begin: as `data.count`, five times as fast."""
    mark = int.from_bytes(_SCAN, "little")
    parts = (np.frombuffer(data, "<u2", (len(data) - at) // 2, at) for at in (0, 1))
    return sum(int(np.count_nonzero(part == mark)) for part in parts)


def _check_png(data: bytes, is_decoded: bool) -> ImageFacts:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise _damaged("its header is cut off")
    _check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    _check_mode(_PNG_MODES.get(data[25], "unknown"))
    _check_png_parts(data)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            _check_mode(image.mode)
            if is_decoded:
                image.load()
            return ImageFacts("PNG", *image.size)
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise _damaged("its header is damaged") from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, zlib.error) as error:  # Pillow's words for damage
        raise _damaged(str(error)) from error


def _check_png_parts(data: bytes) -> None:
    """Checksums of all parts, which Pillow skips for the pixels themselves."""
    view = memoryview(data)
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        stop = at + 8 + int.from_bytes(view[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if len(data) < stop + 4:
            raise _damaged("it is cut off")
        if zlib.crc32(view[at + 4 : stop]) != int.from_bytes(view[stop : stop + 4], "big"):
            raise _damaged(f"the checksum of its part {kind.decode('ascii', 'replace')!r} is another")
        at = stop + 4


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE_PIXELS:
        raise ImageError(
            f"The image is too large: {width} x {height} pixels.",
            f"At most {MAX_SIDE_PIXELS} a side.",
            "Cut out the galaxy.",
        )


def _check_mode(mode: str) -> None:
    if mode != "RGB":
        raise ImageError(f"The image is of mode {mode}.", "Expected RGB, 8 bits a colour.", "Convert it.")


def _damaged(how: str) -> ImageError:
    return ImageError(f"The image is damaged: {how}.", _WHOLE, "Fetch it again.")


# --- FITS ---------------------------------------------------------------------------------------------------------


def _fits_bands(data: bytes) -> _Bands:
    """Flux, shape (band, y, x), NaN where there is none."""
    if not data.startswith(b"SIMPLE  ="):
        raise ImageError("The file is no FITS file.", "Expected one that begins with SIMPLE.", "Fetch it again.")
    at = 0
    for _ in range(_MAX_FITS_PARTS):
        if at and not data.startswith(b"XTENSION", at):
            break
        header, at = _header(data, at)
        n_sides = _whole(header, "NAXIS")
        if n_sides > _MAX_FITS_SIDES:
            raise _damaged_fits(f"NAXIS is {n_sides}")
        sides = [_whole(header, f"NAXIS{i + 1}") for i in range(n_sides)]
        n_values = math.prod(sides) if sides else 0
        kind = _FITS_TYPES.get(header.get("BITPIX", ""))
        if kind is None:
            raise _damaged_fits(f"BITPIX is {header.get('BITPIX')!r}")
        n_bytes = np.dtype(kind).itemsize * _whole(header, "GCOUNT", 1) * (_whole(header, "PCOUNT", 0) + n_values)
        if at + n_bytes > len(data):
            raise _damaged_fits(f"it is cut off: {at + n_bytes:,} bytes are needed, {len(data):,} are there")
        if header.get("ZIMAGE") == "T":
            raise ImageError(
                "The FITS image is compressed.", "Expected plain numbers.", "Unpack it, for instance with funpack."
            )
        if header.get("XTENSION", "IMAGE") == "IMAGE" and "GROUPS" not in header and n_values:
            shape = _shape(sides[::-1])
            return _flux(header, np.frombuffer(data, kind, n_values, at).reshape(shape))
        at += _padded(n_bytes)
    raise ImageError("The FITS file holds no image.", "Expected one, of 1 to 5 bands.", "Check the file.")


def _header(data: bytes, at: int) -> tuple[dict[str, str], int]:
    """The values of a header, as they are written, and where its data begin."""
    header: dict[str, str] = {}
    for i in range(_MAX_FITS_CARDS):
        card = data[at + i * _FITS_CARD : at + (i + 1) * _FITS_CARD].decode("latin-1")
        if len(card) < _FITS_CARD:
            break
        if not (card.isascii() and card.isprintable()):
            raise _damaged_fits("its header is no text")
        key = card[:8].rstrip()
        if key == "END":
            return header, at + _padded((i + 1) * _FITS_CARD)
        if card[8:10] == "= ":
            header.setdefault(key, card[10:].split("/")[0].strip(" '"))
    raise _damaged_fits("its header has no end")


def _whole(header: Mapping[str, str], key: str, default: int | None = None) -> int:
    text = header.get(key, str(default))
    if not re.fullmatch(r"\+?\d{1,18}", text):
        raise _damaged_fits(f"{key} is {text!r}")
    return int(text)


def _flux(header: Mapping[str, str], stored: npt.NDArray[np.generic]) -> _Bands:
    """What the stored numbers, shape (band, y, x), say, NaN where they say nothing."""
    is_whole = stored.dtype.kind != "f"
    try:
        scale, zero = (float(header.get(key, n).replace("D", "E")) for key, n in (("BSCALE", "1"), ("BZERO", "0")))
        blank = int(header["BLANK"]) if is_whole and "BLANK" in header else None
    except ValueError as error:
        raise _damaged_fits(f"its BSCALE, BZERO or BLANK is no number ({error})") from error
    with np.errstate(all="ignore"):  # what overflows here has no data
        bands = stored.astype(np.float64)
        bands *= scale
        bands += zero
        bands[~(np.abs(bands) < _MAX_FLUX)] = np.nan
    if blank is not None:
        bands[stored == blank] = np.nan
    if not is_whole:
        has_noise = np.nanmin(bands, axis=(1, 2), initial=0) < 0
        bands[(stored == 0) & has_noise[:, None, None]] = np.nan
    return bands


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // _FITS_BLOCK) * _FITS_BLOCK


def _shape(sides: list[int]) -> tuple[int, int, int]:
    """(band, y, x), where that is what the sides are."""
    while len(sides) > 3 and sides[0] == 1:  # an axis of one polarisation, or of one frequency
        del sides[0]
    if len(sides) == 2:
        sides.insert(0, 1)
    if len(sides) != 3 or sides[0] > 5:
        raise ImageError(
            f"The FITS image has the shape ({', '.join(map(str, sides))}).",
            "Expected (y, x), or (band, y, x) with 1 to 5 bands.",
            "Write the bands of one galaxy as the first axis.",
        )
    bands, height, width = sides
    _check_size(width, height)
    if bands * height * width > MAX_FITS_VALUES:
        raise ImageError(
            f"The FITS image has {bands * height * width:,} values.",
            f"At most {MAX_FITS_VALUES:,}.",
            "Cut out the galaxy.",
        )
    return bands, height, width


def _damaged_fits(how: str) -> ImageError:
    return ImageError(f"The FITS file is damaged: {how}.", "Expected a whole one.", "Fetch it again.")


def _filled(bands: _Bands) -> _Bands:
    """The bands with a value in each pixel."""
    missing = np.isnan(bands)
    for i, (band, holes) in enumerate(zip(bands, missing, strict=True), 1):
        fraction = float(holes.mean())
        if fraction > MAX_MISSING_FRACTION:
            raise ImageError(
                f"{fraction:.1%} of the pixels of band {i} of {len(bands)} have no data.",
                f"At most {MAX_MISSING_FRACTION:.0%}.",
                "Leave the galaxy out, or cut it out where all bands were observed.",
            )
        if np.ptp(band[~holes]) < 1 / _MAX_FLUX:
            raise ImageError(
                f"Band {i} of {len(bands)} is {band[~holes][0]:g} in every pixel.",
                "An image of something.",
                "Fetch it again, or leave the galaxy out.",
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
    """Red, green and blue, shape (y, x, 3)."""
    if len(stretch.scales) == len(bands):
        bright = bands * np.array(stretch.scales)[:, None, None]
    else:
        bright = _balanced(bands, stretch)
    colours = np.tensordot(_MIXES[len(bands)], bright + stretch.black, 1)
    bent = stretch.softening * np.maximum(colours, 0).mean(axis=0)
    slope = np.ones_like(bent)  # the curve begins as a straight line
    np.divide(np.arcsinh(bent), bent, out=slope, where=bent > 0)
    return np.rint(np.clip(colours * slope, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


_MIXES = {
    1: np.ones((3, 1)),
    2: np.array([[0, 1], [0.5, 0.5], [1, 0]]),
    3: np.eye(3)[::-1].copy(),
    4: np.array([[0, 0, 0, 1], [0, 0.5, 0.5, 0], [1, 0, 0, 0]]),
    5: np.array([[0, 0, 0, 0.5, 0.5], [0, 0, 1, 0, 0], [0.5, 0.5, 0, 0, 0]]),
}
"""By number of bands: the share of each band in red, green and blue."""


def _balanced(bands: _Bands, stretch: Stretch) -> _Bands:
    """Brightness of bands whose unit is not known: their brightest parts are grey, and their noise is as asked."""
    sky, noise = _sky_and_noise(bands)
    flux = bands - sky[:, None, None]
    peak = np.abs(flux).max(axis=(1, 2))
    noise = np.where(noise > 1e-12 * peak, noise, peak / 1000)  # simulated images may have none
    snr = flux / noise[:, None, None]
    together = snr.mean(axis=0)
    of_brightest = np.median(snr[:, together >= np.percentile(together, _BRIGHTEST_PERCENTILE)], axis=1)
    # a band without light would else be all noise, and with the wrong sign
    of_brightest = np.maximum(of_brightest, max(float(of_brightest.max()) / 4, 1))
    grey = snr / of_brightest[:, None, None]
    brightest = max(float(np.percentile(grey.mean(axis=0), 99.5)), 1e-9)  # about 1, where anything is above the sky
    white = float(np.sinh(stretch.softening)) / stretch.softening / brightest
    return grey * min(stretch.noise / float((1 / of_brightest).mean()), white)


def _sky_and_noise(bands: _Bands) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of each band, measured along the image's border."""
    height, width = bands.shape[1:]
    margin = max(1, min(height, width) // 10)
    is_border = np.ones((height, width), bool)
    is_border[margin : height - margin, margin : width - margin] = False
    border = bands[:, is_border]
    sky = np.median(border, axis=1)
    below = np.where(border < sky[:, None], sky[:, None] - border, np.nan)  # stars and neighbours stand above only
    below[np.isnan(below).all(axis=1)] = 0
    return sky, 1.4826 * np.nanmedian(below, axis=1)


def _refuse_blank(image: npt.NDArray[np.uint8]) -> None:
    if np.ptp(image) < 8 or (image.min(axis=2) > 250).mean() > 0.5:
        raise ImageError(
            f"The FITS image would be shown almost all {'white' if image.mean() > 127 else 'dark'}.",
            "Flux in the unit of the campaign's survey.",
            "Check the unit, or give the image as JPEG or PNG.",
        )
