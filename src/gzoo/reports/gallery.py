"""A gallery of simulated galaxies: for each campaign a row, for each answer of a tree a column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gzoo import files
from gzoo.errors import InputError
from gzoo.simulator.camera import draw_image, image_file, visible
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.survey import SIZE_PIXELS, SurveyView, survey_view
from gzoo.simulator.volunteers import Sights, careful_chances, careful_log_odds
from gzoo.trees.campaign import names, tree
from gzoo.trees.tree import FloatArray, Tree

_TREES = ("gz2", "gz_candels")
_THUMBNAIL_PIXELS = 72
_SHOWN_FRACTION = 0.6  # the middle of each image
_LEFT_PIXELS, _TOP_PIXELS, _GAP_PIXELS = 120, 190, 16
_N_DRAWN = 700
_BACKGROUND, _INK = (255, 255, 255), (30, 30, 30)

# The union of other campaigns: its images are theirs.
_LEFT_OUT = ("gz_evo",)


def gallery(campaigns: Sequence[str] | None = None, out: Path | str = "gallery.jpg", seed: int = 0) -> Path:
    """An image of typical simulated galaxies, as each campaign would show them.

    There is one block of columns for the answers of Galaxy Zoo 2 and one for those of CANDELS. In each place stands the
    galaxy, of some hundreds drawn for that campaign, for which a careful volunteer most likely comes to give that
    answer; no galaxy stands twice for one question.

    Args:
        campaigns: Names of the rows; by default all campaigns with images of their own.
        out: The file to write, .png or .jpg.
        seed: What all chance comes from.

    Returns:
        The file.

    Raises:
        InputError: The file's ending is neither of a PNG nor of a JPEG.
        NotFoundError: There is no such campaign.
    """
    out = Path(out)
    if out.suffix not in {".png", ".jpg", ".jpeg"}:
        raise InputError(f"A gallery cannot be written to {out}.", "A name that ends in .png or .jpg.", "Rename it.")
    rows = [name for name in names() if name not in _LEFT_OUT] if campaigns is None else list(campaigns)
    blocks = [(name, tree(name)) for name in _TREES]
    block_height = _TOP_PIXELS + len(rows) * _THUMBNAIL_PIXELS + _GAP_PIXELS
    width = _LEFT_PIXELS + max(len(asked.columns) for _, asked in blocks) * _THUMBNAIL_PIXELS
    sheet = Image.new("RGB", (width, block_height * len(blocks)), _BACKGROUND)
    for i, (_, asked) in enumerate(blocks):
        _write_labels(sheet, asked, rows, i * block_height)
    for j, name in enumerate(rows):
        view = survey_view(name)
        drawn = [draw_galaxy(np.random.default_rng([seed, j, i]), view) for i in range(_N_DRAWN)]
        oddness = np.array([_oddness(galaxy) for galaxy in drawn])
        sights = Sights.of(drawn, [visible(galaxy, view) for galaxy in drawn])
        for i, (_, asked) in enumerate(blocks):
            chances = careful_chances(asked, careful_log_odds(asked, sights))
            top = i * block_height + _TOP_PIXELS + j * _THUMBNAIL_PIXELS
            for column, galaxy in enumerate(_typical(asked, chances, oddness)):
                thumbnail = _thumbnail(drawn[galaxy], view, np.random.default_rng([seed, j, galaxy, 1]))
                sheet.paste(thumbnail, (_LEFT_PIXELS + column * _THUMBNAIL_PIXELS, top))
    files.write_bytes(out, image_file(np.asarray(sheet), out.suffix))
    return out


def _oddness(galaxy: Galaxy) -> float:
    """How much there is in an image that most questions do not ask about."""
    encounter = max(galaxy.companion_strength, galaxy.tail_strength, galaxy.disturbance, galaxy.overlap_strength)
    return encounter + galaxy.clump_strength + float(galaxy.is_artifact)


def _typical(asked: Tree, chances: FloatArray, oddness: FloatArray) -> list[int]:
    """For each answer the galaxy that stands for it, as an index: likely to get it, and else nothing special."""
    question_of_answer = list(asked.question_of_answer)
    likely = asked.proportion_asked(chances)[:, question_of_answer] * chances
    chosen: list[int] = []
    for column in range(len(asked.columns)):
        siblings = [chosen[k] for k in range(column) if question_of_answer[k] == question_of_answer[column]]
        score = likely[:, column] / likely[:, column].max() - 0.3 * oddness
        score[siblings] = -np.inf
        chosen.append(int(score.argmax()))
    return chosen


def _thumbnail(galaxy: Galaxy, view: SurveyView, rng: np.random.Generator) -> Image.Image:
    cut = round(SIZE_PIXELS * (1 - _SHOWN_FRACTION) / 2)
    middle = Image.fromarray(draw_image(galaxy, view, rng)).crop((cut, cut, SIZE_PIXELS - cut, SIZE_PIXELS - cut))
    side = _THUMBNAIL_PIXELS - 2
    return middle.resize((side, side), Image.Resampling.LANCZOS)


def _write_labels(sheet: Image.Image, asked: Tree, rows: Sequence[str], top: int) -> None:
    """Write questions and answers over the columns, and campaigns before the rows."""
    pen = ImageDraw.Draw(sheet)
    small, large = ImageFont.load_default(13), ImageFont.load_default(15)
    column = 0
    for question in asked.questions:
        left = _LEFT_PIXELS + column * _THUMBNAIL_PIXELS
        pen.line([(left, top), (left, top + _TOP_PIXELS)], fill=(190, 190, 190))
        words = question.name.split("-")
        for k, start in enumerate(range(0, len(words), 2)):
            pen.text((left + 3, top + 2 + 16 * k), " ".join(words[start : start + 2]), _INK, font=small)
        for answer in question.answers:
            label = Image.new("RGB", (_TOP_PIXELS - 74, 18), _BACKGROUND)
            ImageDraw.Draw(label).text((0, 0), answer, _INK, font=small)
            place = _LEFT_PIXELS + column * _THUMBNAIL_PIXELS + _THUMBNAIL_PIXELS // 2 - 9, top + 72
            sheet.paste(label.rotate(90, expand=True), place)
            column += 1
    for j, name in enumerate(rows):
        pen.text((4, top + _TOP_PIXELS + (j + 0.4) * _THUMBNAIL_PIXELS), name, _INK, font=large)
