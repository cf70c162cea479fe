"""From the bytes of an image to pixels at the size that a model sees."""

from __future__ import annotations

import io
import zlib
from typing import cast

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image

from gzoo.errors import ImageError
from gzoo.images.checks import MAX_SCANS, MAX_SIDE_PIXELS, Scratch, n_scans

RULE = "decode-2"
"""Names how pixels follow from bytes: kept pixels of another rule are other pixels."""
MANY_PIXELS = 1_000_000  # an image of more is refused if it asks for hundreds of passes over them

_QUICK_EIGHTHS = (1, 2, 3, 4, 5, 6, 8)  # of its size; seven of them take longer than all pixels and a resize

Pixels = npt.NDArray[np.uint8]


def decode(data: bytes | memoryview, size: int) -> Pixels:
    """A JPEG or PNG image as red, green and blue, shape (size, size, 3).

    Raises:
        ImageError: The image is cut off, damaged, or larger than 8192 pixels a side.
    """
    out = np.empty((size, size, 3), np.uint8)
    decode_into(data, out, Scratch())
    return out


def decode_into(data: bytes | memoryview, out: Pixels, scratch: Scratch) -> None:
    """Write an image's pixels into `out`, shape (size, size, 3) and contiguous.

    An image of that size is decoded straight into it, to the same pixels as Pillow's; so is a JPEG of which that size
    is one to six eighths, to pixels that libjpeg makes of fewer frequencies. Another JPEG is decoded to a half, a
    quarter or an eighth of its size where that is still large enough, then resized by area-weighted bilinear
    interpolation.

    Args:
        data: The file's content.
        out: Where the pixels go.
        scratch: Memory to decode in, the thread's own.

    Raises:
        ImageError: The image is cut off, damaged, or larger than 8192 pixels a side.
    """
    size = len(out)
    try:
        if data[:3] != b"\xff\xd8\xff":
            pixels = _by_pillow(data)
        else:
            height, width, colours, _ = cast("tuple[int, int, str, str]", simplejpeg.decode_jpeg_header(data))
            _check(data, width, height)
            if colours in {"CMYK", "YCCK"}:
                pixels = _by_pillow(data)
            elif height == width and size in _eighths(height):
                simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size, buffer=out, strict=True)
                return
            else:
                part = next(n for n in (8, 4, 2, 1) if n == 1 or min(-(-height // n), -(-width // n)) >= size)
                rows, columns = -(-height // part), -(-width // part)
                pixels = simplejpeg.decode_jpeg(
                    data,
                    "RGB",
                    min_height=rows,
                    min_width=columns,
                    buffer=scratch.of(rows * columns * 3),
                    strict=True,
                )
    except ImageError:
        raise
    # simplejpeg's and Pillow's words for damage
    except (ValueError, RuntimeError, OSError, SyntaxError, EOFError, MemoryError, zlib.error) as error:
        raise _damaged(str(error)) from error
    if pixels.shape == out.shape:
        out[:] = pixels
        return
    # as one of a batch whose memory is in the order that pixels have; else the result's is not, and costs as much again
    batch = torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(batch, (size, size), mode="bilinear", antialias=True)
    out[:] = resized.permute(0, 2, 3, 1)[0].numpy()


def quick_size(data: bytes | memoryview, least: int, most: int) -> int:
    """The least size within limits that a JPEG image is decoded to without a resize; `least` if there is none."""
    try:
        height, width, _, _ = cast("tuple[int, int, str, str]", simplejpeg.decode_jpeg_header(data))
    except (ValueError, RuntimeError):  # what is damaged is told when it is decoded
        return least
    found = _eighths(height) if height == width else []
    return next((size for size in found if least <= size <= most), least)


def _eighths(side: int) -> list[int]:
    """Sizes that a JPEG image is decoded to in less time than to all pixels and resized, ascending."""
    return [-(-side * n // 8) for n in _QUICK_EIGHTHS]


def _check(data: bytes | memoryview, width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE_PIXELS:
        raise ImageError(f"It is {width} x {height} pixels.", f"At most {MAX_SIDE_PIXELS} a side.")
    if width * height > MANY_PIXELS and n_scans(data) > MAX_SCANS:
        raise _damaged(f"it has more than {MAX_SCANS} scans")


def _by_pillow(data: bytes | memoryview) -> Pixels:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            _check(data, *image.size)
            return np.array(image.convert("RGB"))
    except Image.UnidentifiedImageError as error:
        raise _damaged("it is neither JPEG nor PNG") from error
    except Image.DecompressionBombError as error:
        raise _damaged(str(error)) from error


def _damaged(how: str) -> ImageError:
    return ImageError(f"It is damaged: {how}.", "A whole JPEG or PNG image.")
