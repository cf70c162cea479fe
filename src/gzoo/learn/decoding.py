"""Decoding of JPEG and PNG images to pixels at the size that a model takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import simplejpeg
import torch

from gzoo.errors import ImageError, reason
from gzoo.images.checks import (
    MAX_SCANS,
    READER_ERRORS,
    Pixels,
    Scratch,
    central_square,
    corrupt,
    is_jpeg,
    is_plain_jpeg,
    jpeg_header,
    jpeg_orientation,
    n_scans,
    png_pixels,
    upright,
)

RULE = "decode-3"
"""Version of the rule that turns bytes into pixels; part of the name of cache files."""
MANY_PIXELS = 1_000_000  # larger images are rejected if they need hundreds of passes over their pixels

_FAST_EIGHTHS = (1, 2, 3, 4, 5, 6, 8)  # seven eighths take longer than decoding all pixels and resizing


def decode(data: bytes | memoryview, size: int) -> Pixels:
    """Return a JPEG or PNG image as red, green and blue, shape (size, size, 3).

    Raises:
        ImageError: The image is truncated, corrupt, or refused by the rule of `gzoo.images.checks`.
    """
    out = np.empty((size, size, 3), np.uint8)
    decode_into(data, out, Scratch())
    return out


def decode_into(data: bytes | memoryview, out: Pixels, scratch: Scratch) -> None:
    """Write the pixels of an image into `out`, shape (size, size, 3) and contiguous.

    An image of that size is decoded directly, to the same pixels as with Pillow. So is a JPEG if the size is one to
    six eighths of its own: libjpeg then computes the pixels from fewer frequencies. Any other JPEG is decoded to a
    half, a quarter or an eighth of its size where that is still large enough, then resized by area-weighted bilinear
    interpolation. Images are turned upright, and of an image that is not square only the central square is used (see
    `gzoo.images.checks`).

    Args:
        data: Content of the image file.
        out: Array for the pixels.
        scratch: Buffer for decoding, one per thread.

    Raises:
        ImageError: The image is truncated, corrupt, or refused by the rule of `gzoo.images.checks`.
    """
    size = len(out)
    try:
        if not is_jpeg(data):
            pixels = png_pixels(data)
        else:
            height, width, _ = jpeg_header(data)
            turn = jpeg_orientation(data)
            if width * height > MANY_PIXELS and n_scans(data) > MAX_SCANS:
                raise corrupt(f"it has more than {MAX_SCANS} scans")
            if height == width and size in _fast_sizes(height):
                simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size, buffer=out, strict=True)
                if turn > 1:
                    out[:] = upright(out, turn)
                return
            part = next(n for n in (8, 4, 2, 1) if n == 1 or min(-(-height // n), -(-width // n)) >= size)
            rows, columns = -(-height // part), -(-width // part)
            buffer = scratch.of(rows * columns * 3)
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=rows, min_width=columns, buffer=buffer, strict=True)
            pixels = upright(pixels, turn)
    except ImageError:
        raise
    except READER_ERRORS as error:
        raise corrupt(reason(error)) from error
    if pixels.shape[0] != pixels.shape[1]:
        pixels = np.ascontiguousarray(pixels[central_square(*pixels.shape[:2])])
    if pixels.shape == out.shape:
        out[:] = pixels
        return
    # a batch whose memory order is that of the pixels: otherwise the result has another order, and copying it costs as
    # much as resizing
    batch = torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(batch, (size, size), mode="bilinear", antialias=True)
    out[:] = resized.permute(0, 2, 3, 1)[0].numpy()


def decode_on_device(
    encoded: Mapping[int, bytes],
    n_and_size: tuple[int, int],
    device: torch.device,
    scratch: Scratch,
    on_error: Callable[[int, ImageError], None],
) -> torch.Tensor:
    """Return the images of a batch, uint8, shape (image, 3, size, size), decoded on a device by torchvision.

    All are decoded on the CPU, by `decode_into`, if that fails for one.

    Args:
        encoded: Content of the image files, by their place in the batch; places without one are black.
        n_and_size: Number of images in the batch, and their width and height in pixels.
        device: Device to decode on.
        scratch: Buffer for decoding.
        on_error: Function to call with the place and the error of an image that cannot be decoded, which is black.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    n, size = n_and_size
    image = torch.zeros(n, 3, size, size, dtype=torch.uint8, device=device)
    # the decoder on the device knows neither other formats than JPEG nor EXIF data
    order = [i for i in sorted(encoded) if is_plain_jpeg(encoded[i])]
    on_cpu = sorted(encoded.keys() - set(order))
    try:
        data = [torch.frombuffer(bytearray(encoded[i]), dtype=torch.uint8) for i in order]
        decoded = cast("list[torch.Tensor]", decode_jpeg(data, ImageReadMode.RGB, device) if data else [])
        # A truncated or corrupt image either raises or ends in one colour; an image that does may still be valid.
        doubtful = [_ends_in_one_colour(pixels) for pixels in decoded]
        doubtful = torch.stack(doubtful).tolist() if doubtful else []
        for i, pixels, is_doubtful in zip(order, decoded, doubtful, strict=True):
            if is_doubtful:
                decode(encoded[i], size)
            rows, columns = central_square(*pixels.shape[1:])
            wide = pixels[None, :, rows, columns]
            if wide.shape[2:] != (size, size):
                wide = torch.nn.functional.interpolate(wide.float(), (size, size), mode="bilinear", antialias=True)
                wide = wide.round_().clamp_(0, 255).to(torch.uint8)
            image[i] = wide[0]
    except (RuntimeError, ImageError):  # one of them is corrupt
        on_cpu = sorted(encoded)
    pixels = np.zeros((size, size, 3), np.uint8)
    for i in on_cpu:
        try:
            decode_into(encoded[i], pixels, scratch)
        except ImageError as error:
            on_error(i, error)
        else:
            image[i] = torch.from_numpy(pixels).permute(2, 0, 1).to(device)
    return image


def fast_size(data: bytes | memoryview, min_size: int, max_size: int) -> int:
    """Return the smallest size within limits to which a JPEG is decoded without resizing; else `min_size`."""
    try:
        height, width, _, _ = cast("tuple[int, int, str, str]", simplejpeg.decode_jpeg_header(data))
    except (ValueError, RuntimeError):  # corrupt images are reported when they are decoded
        return min_size
    sizes = _fast_sizes(height) if height == width else []
    return next((size for size in sizes if min_size <= size <= max_size), min_size)


def _fast_sizes(side: int) -> list[int]:
    """Return the sizes to which decoding a JPEG is faster than decoding all pixels and resizing, ascending."""
    return [-(-side * n // 8) for n in _FAST_EIGHTHS]


def _ends_in_one_colour(image: torch.Tensor) -> torch.Tensor:
    """Return whether the last rows of an image, shape (3, y, x), have one colour."""
    last = image[:, -8:].flatten(1)
    return (last.amax(1) == last.amin(1)).all()
