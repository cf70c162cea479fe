"""The one rule for JPEG and PNG images: which of them are shown, and as which pixels.

Builds, checks, the loader and so predictions all follow it, and `datasets` shows the same pixels:

- Shown are JPEG images, grey or in colour, and PNG images with up to 8 bits per channel, grey, in colour or with a
  palette, of 8 to 8192 pixels per side. Their pixels are those of Pillow, converted to RGB.
- Refused are CMYK (its colours depend on an ink), 16 bits per channel (their range depends on the camera) and images
  with a pixel that is not opaque (its colour depends on the background).
- The orientation in an image's EXIF data is applied, as `datasets` does, so that width and height are those of the
  upright image.
- Of an image that is not square, models see the central square, which has the galaxy in its middle, in its shape.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image

from gzoo.errors import ImageError, reason

FITS_SUFFIXES = (".fits", ".fit")
SUFFIXES = (".jpg", ".jpeg", ".png", *FITS_SUFFIXES)
MIN_SIDE_PIXELS = 8  # a block of JPEG; a smaller image shows no galaxy
MAX_SIDE_PIXELS = 8192
MAX_SCANS = 100  # of a JPEG image; usual ones have up to 10, and each may cost a pass over all pixels
FETCH_AGAIN = "Download the file again."
FLAT = "Every pixel of the image has the colour"
"""How the message about an image without any content begins."""

_SMALLEST = 8  # largest factor by which libjpeg reduces an image while decoding it
_CMYK = ("CMYK", "YCCK")
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_SCAN, _END = b"\xff\xda", b"\xff\xd9"  # markers of a JPEG file
_APP1 = 0xE1  # the JPEG segment that contains EXIF and XMP data
_ORIENTATION_TAGS = (b"\x01\x12", b"\x12\x01", b"rientation")  # in EXIF data of both byte orders, and in XMP
_EXIF_CHUNKS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})  # PNG chunks that may contain an orientation

Pixels = npt.NDArray[np.uint8]
READER_ERRORS = (
    *(ValueError, RuntimeError, OSError, SyntaxError, EOFError, MemoryError, KeyError, TypeError),
    *(zlib.error, struct.error),
)
"""What Pillow and simplejpeg raise for corrupt data."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Format and size in pixels of a valid image, upright; and whether it has three channels or fewer (grey, palette).

    `datasets` returns an image that is not RGB as it is stored; `.convert("RGB")` gives the pixels that models see.
    """

    format: str
    width: int
    height: int
    is_rgb: bool = True


class Scratch:
    """Reusable memory for decoded pixels (allocating it for each image costs half as much as decoding).

    Each thread needs its own.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def of(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Return memory of at least that many bytes."""
        if len(self._memory) < n_bytes:
            self._memory = np.empty(n_bytes, np.uint8)
        return self._memory


def check_image(data: bytes, *, is_decoded: bool = True, scratch: Scratch | None = None) -> ImageFacts:
    """Return the format and size of a JPEG or PNG image after checking it by the rule of this module.

    A JPEG file is decoded completely, including its colours, up to the last coefficient. The pixels follow from these
    by arithmetic that cannot fail, so only a small grey image is made from them: it reveals the same damage as decoding
    to full size, in up to a third less time.

    Args:
        data: Content of the file.
        is_decoded: Whether to decode the image, which finds damage anywhere, and images of one colour. Otherwise only
            its format, size and mode are checked, and that it has an end (for PNG also the checksums of all chunks,
            and transparency).
        scratch: Memory to decode into, for many images in turn.

    Raises:
        ImageError: Empty, not JPEG or PNG, truncated or corrupt, CMYK, more than 8 bits per channel, not opaque, of one
            colour, or smaller than 8 or larger than 8192 pixels per side. An image that declares too large a size is
            never decoded.

    >>> check_image(b"")
    Traceback (most recent call last):
        ...
    gzoo.errors.ImageError: The file is empty.
      Expected a JPEG or PNG image.
      Hint: Download the file again.
    """
    return _check_jpeg(data, is_decoded, scratch or Scratch()) if is_jpeg(data) else _check_png(data, is_decoded)


def is_jpeg(data: bytes | memoryview) -> bool:
    """Return whether the content of a file is a JPEG image, otherwise it is a PNG image.

    Raises:
        ImageError: It is neither.
    """
    if not data:
        raise ImageError("The file is empty.", "a JPEG or PNG image.", FETCH_AGAIN)
    if data[:3] == _JPEG:
        return True
    if data[:8] == _PNG:
        return False
    raise ImageError("The file is not an image.", "JPEG or PNG.", FETCH_AGAIN)


def check_size(width: int, height: int) -> None:
    """Check that an image is neither too large nor too small.

    Raises:
        ImageError: It is larger than 8192 or smaller than 8 pixels per side.
    """
    size = f"{width} x {height} pixels"
    if max(width, height) > MAX_SIDE_PIXELS:
        raise ImageError(
            f"The image is too large: {size}.",
            f"at most {MAX_SIDE_PIXELS} pixels per side.",
            "Make a cutout around the galaxy.",
        )
    if min(width, height) < MIN_SIDE_PIXELS:
        raise ImageError(
            f"The image is too small: {size}.",
            f"at least {MIN_SIDE_PIXELS} pixels per side.",
            "Make a larger cutout around the galaxy.",
        )


def n_scans(data: bytes | memoryview) -> int:
    """Return how often the marker of a JPEG scan occurs (the same as `data.count`, five times as fast)."""
    mark = int.from_bytes(_SCAN, "little")
    parts = (np.frombuffer(data, "<u2", (len(data) - at) // 2, at) for at in (0, 1))
    return sum(int(np.count_nonzero(part == mark)) for part in parts)


def jpeg_header(data: bytes | memoryview) -> tuple[int, int, bool]:
    """Return the height and width of a JPEG image as stored, and whether it has colours.

    Raises:
        ImageError: It is CMYK, or too large or too small.
        ValueError: It is corrupt.
    """
    height, width, colours, _ = cast("tuple[int, int, str, str]", simplejpeg.decode_jpeg_header(data))
    check_size(width, height)
    if colours in _CMYK:
        raise ImageError("The image has mode CMYK.", "RGB or grey with 8 bits per channel.", "Convert it to RGB.")
    return height, width, colours != "Gray"


def jpeg_orientation(data: bytes | memoryview) -> int:
    """Return the orientation of a JPEG image by its EXIF data, 1 (as stored) to 8, as Pillow reads it.

    Raises:
        ImageError: The EXIF data are corrupt.
    """
    at, n = 2, len(data)
    while at + 4 < n and data[at] == 0xFF:  # segment by segment up to the pixels; nearly all images have no EXIF data
        kind = data[at + 1]
        if kind == _SCAN[1]:
            return 1
        if kind == 0xFF:  # padding
            at += 1
            continue
        end = at + 2 + (data[at + 2] << 8 | data[at + 3])
        if kind == _APP1 and any(tag in bytes(data[at:end]) for tag in _ORIENTATION_TAGS):
            try:
                with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                    return _orientation(image)
            except ImageError:
                raise
            except READER_ERRORS as error:
                raise corrupt(reason(error)) from error
        at = end
    return 1


def is_plain_jpeg(data: bytes) -> bool:
    """Return whether a file is a JPEG image that any decoder shows by the rule of this module.

    >>> is_plain_jpeg(b"")
    False
    """
    try:
        return is_jpeg(data) and jpeg_header(data)[2] and jpeg_orientation(data) == 1
    except (ImageError, ValueError, RuntimeError):
        return False


def _orientation(image: Image.Image) -> int:
    """Return the orientation of an image, 1 (as stored) to 8."""
    try:
        found = cast(object, image.getexif().get(ExifTags.Base.Orientation))
    except READER_ERRORS as error:
        raise corrupt(f"its EXIF data cannot be read ({reason(error)})") from error
    return found if isinstance(found, int) and found in _TURNS else 1


_TURNS: Mapping[int, tuple[bool, slice, slice]] = {
    2: (False, slice(None), slice(None, None, -1)),
    3: (False, slice(None, None, -1), slice(None, None, -1)),
    4: (False, slice(None, None, -1), slice(None)),
    5: (True, slice(None), slice(None)),
    6: (True, slice(None), slice(None, None, -1)),
    7: (True, slice(None, None, -1), slice(None, None, -1)),
    8: (True, slice(None, None, -1), slice(None)),
}
"""Orientation -> whether rows and columns change places, then the order of both."""


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return an image, shape (y, x, channel), turned by its orientation in EXIF data.

    >>> upright(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), 6)[..., 0].tolist()
    [[3, 0], [4, 1], [5, 2]]
    """
    if orientation not in _TURNS:
        return pixels
    is_swapped, rows, columns = _TURNS[orientation]
    return np.ascontiguousarray((pixels.swapaxes(0, 1) if is_swapped else pixels)[rows, columns])


def central_square(height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of the square that models see of an image.

    >>> central_square(4, 9)
    (slice(0, 4, None), slice(2, 6, None))
    """
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def png_pixels(data: bytes | memoryview) -> Pixels:
    """Return all pixels of a PNG image, upright, shape (y, x, 3).

    Raises:
        ImageError: It is corrupt, has 16 bits per channel, is not opaque, or is too large or too small.
    """
    return _read_png(bytes(data), is_decoded=True)[1]


def _check_jpeg(data: bytes, is_decoded: bool, scratch: Scratch) -> ImageFacts:
    try:
        height, width, has_colours = jpeg_header(data)
        if is_decoded:
            if n_scans(data) > MAX_SCANS:
                raise corrupt(f"it has more than {MAX_SCANS} scans")
            # strict: what libjpeg repairs silently is an error; fast and small: the pixels are not used
            pixels = scratch.of((height // _SMALLEST + 1) * (width // _SMALLEST + 1))
            small = simplejpeg.decode_jpeg(
                data, "GRAY", fastdct=True, fastupsample=True, buffer=pixels, strict=True,
                min_height=1, min_width=1, min_factor=_SMALLEST,
            )  # fmt: skip
            if small.min() == small.max():  # possibly of details that a small image does not have
                _check_content(simplejpeg.decode_jpeg(data, "RGB", strict=True))
        elif not data.endswith(_END) and data.rfind(_END) < data.rfind(_SCAN):  # an earlier end is a thumbnail's
            raise corrupt("its end is missing")
        if jpeg_orientation(data) >= 5:
            height, width = width, height
    except ImageError:
        raise
    except (ValueError, RuntimeError, MemoryError) as error:
        raise corrupt(reason(error)) from error
    return ImageFacts("JPEG", width, height, has_colours)


def _check_png(data: bytes, is_decoded: bool) -> ImageFacts:
    facts, pixels = _read_png(data, is_decoded)
    if is_decoded:
        _check_content(pixels)
    return facts


def _read_png(data: bytes, is_decoded: bool) -> tuple[ImageFacts, Pixels]:
    """Return facts and pixels of a PNG image; the pixels are empty unless it is decoded."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise corrupt("its header is truncated")
    check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    if data[24] > 8:
        raise ImageError(
            f"The image has {data[24]} bits per channel.",
            "8 bits per channel.",
            "Convert it to 8 bits, or provide the image as FITS.",
        )
    chunks = _check_png_chunks(data)
    pixels = np.empty((0, 0, 3), np.uint8)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
            shown = image.convert("RGBA") if has_alpha else image
            if has_alpha and shown.getchannel("A").getextrema()[0] != 255:
                raise ImageError(
                    "The image has transparent pixels.",
                    "opaque pixels.",
                    "Convert it to RGB on a background, such as black.",
                )
            turn = _orientation(image) if chunks & _EXIF_CHUNKS else 1
            if is_decoded:
                pixels = upright(np.array(shown.convert("RGB")), turn)
            width, height = image.size if turn < 5 else image.size[::-1]
            return ImageFacts("PNG", width, height, image.mode == "RGB"), pixels
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise corrupt("its header is not valid") from error
    except READER_ERRORS as error:
        raise corrupt(reason(error)) from error


def _check_png_chunks(data: bytes) -> set[bytes]:
    """Return the kinds of all chunks after checking their checksums, because Pillow skips those of the pixels."""
    view = memoryview(data)
    at, kind, kinds = len(_PNG), b"", set[bytes]()
    while kind != b"IEND":
        stop = at + 8 + int.from_bytes(view[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if len(data) < stop + 4:
            raise corrupt("it is truncated")
        if zlib.crc32(view[at + 4 : stop]) != int.from_bytes(view[stop : stop + 4], "big"):
            raise corrupt(f"the checksum of chunk {kind.decode('ascii', 'replace')!r} does not match")
        kinds.add(kind)
        at = stop + 4
    return kinds


def _check_content(pixels: Pixels) -> None:
    first = pixels[0, 0]
    if (pixels == first).all():
        raise ImageError(
            f"Every pixel of the image has the colour ({', '.join(map(str, first.tolist()))}).",
            "an image of a galaxy.",
            "Omit the galaxy: surveys serve such tiles where they have no data.",
        )


def corrupt(how: str) -> ImageError:
    """Return the error for an image that cannot be decoded."""
    return ImageError(f"The image is corrupt: {how}.", "a complete JPEG or PNG file.", FETCH_AGAIN)
