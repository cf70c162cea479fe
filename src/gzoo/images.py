"""Pictures: are these bytes a picture that a model can be shown?"""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from gzoo.errors import PictureError

SUFFIXES = (".jpg", ".jpeg", ".png")
LARGEST_SIDE_PIXELS = 8192


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a sound picture is: its format and its size in pixels."""

    format: str
    width: int
    height: int


def check_picture(data: bytes) -> PictureFacts:
    """Facts of a JPEG or PNG picture, decoded to its last byte.

    Args:
        data: The file's content.

    Raises:
        PictureError: Empty, not JPEG or PNG, truncated or damaged, not RGB, or larger than 8192 pixels a side.

    >>> check_picture(b"")
    Traceback (most recent call last):
        ...
    gzoo.errors.PictureError: The file is empty. Expected a JPEG or PNG picture. Fetch it again.
    """
    if not data:
        raise PictureError("The file is empty.", "Expected a JPEG or PNG picture.", "Fetch it again.")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            width, height = picture.size
            if max(width, height) > LARGEST_SIDE_PIXELS:
                raise PictureError(
                    f"The picture has {width} x {height} pixels.",
                    f"At most {LARGEST_SIDE_PIXELS} a side.",
                    "Cut out the galaxy.",
                )
            if picture.mode != "RGB":
                raise PictureError(
                    f"The picture is of mode {picture.mode}.", "Expected RGB, 8 bits a colour.", "Convert it."
                )
            picture.load()
            return PictureFacts(str(picture.format), width, height)
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(
            "The picture is too large to decode.", f"At most {LARGEST_SIDE_PIXELS} pixels a side.", "Cut it out."
        ) from error
    except Image.UnidentifiedImageError as error:
        raise PictureError("The file is not a picture.", "Expected JPEG or PNG.", "Fetch it again.") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # Pillow's words for damage
        raise PictureError(
            f"The picture is damaged: {error}.", "Expected a whole JPEG or PNG.", "Fetch it again."
        ) from error
