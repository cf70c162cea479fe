"""A gallery of simulated galaxies: one row per campaign, one column per answer of a tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gzoo import files
from gzoo.simulator.camera import draw_image, image_file, visible
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.perception import Appearance, careful_log_odds
from gzoo.simulator.survey import SIZE_PIXELS, SurveyView, survey_view
from gzoo.simulator.volunteers import careful_probabilities
from gzoo.trees.campaign import campaigns as all_campaigns
from gzoo.trees.campaign import tree
from gzoo.trees.tree import FloatArray, Tree

_TREES = ("gz2", "gz_candels")
_THUMBNAIL_PIXELS = 72
_SHOWN_FRACTION = 0.6  # the central part of each image
_LEFT_PIXELS, _TOP_PIXELS, _GAP_PIXELS = 120, 190, 16
_N_DRAWN = 700
_BACKGROUND, _INK = (255, 255, 255), (30, 30, 30)


def gallery(
    campaigns: Sequence[str] | None = None,
    out: Path | str = "gallery.jpg",
    seed: int = 0,
    *,
    overwrite: bool = False,
) -> Path:
    """Write an image of typical simulated galaxies, as each campaign would show them.

    One block of columns shows the answers of Galaxy Zoo 2, another those of CANDELS. Each cell shows the galaxy, of
    several hundred drawn for that campaign, for which a careful volunteer is most likely to give that answer. No galaxy
    is shown twice for one question.

    Args:
        campaigns: Names of the campaigns to show; by default all campaigns with images of their own.
        out: Image to write, .png or .jpg.
        seed: Seed of all random numbers.
        overwrite: Replace an earlier gallery.

    Returns:
        The path of the image.

    Raises:
        InputError: The name of the file ends neither in .png nor in .jpg.
        NotFoundError: A campaign or the folder of `out` does not exist.
        OutputExistsError: `out` already exists.
    """
    out = Path(out)
    files.refuse_file(out, "gallery", (".png", ".jpg", ".jpeg"), overwrite=overwrite)
    rows = [one.name for one in all_campaigns() if not one.members] if campaigns is None else list(campaigns)
    trees = [tree(name) for name in _TREES]
    block_height = _TOP_PIXELS + len(rows) * _THUMBNAIL_PIXELS + _GAP_PIXELS
    width = _LEFT_PIXELS + max(len(asked.columns) for asked in trees) * _THUMBNAIL_PIXELS
    sheet = Image.new("RGB", (width, block_height * len(trees)), _BACKGROUND)
    for i, asked in enumerate(trees):
        _write_labels(sheet, asked, rows, i * block_height)
    for j, name in enumerate(rows):
        view = survey_view(name)
        drawn = [draw_galaxy(np.random.default_rng([seed, j, i]), view) for i in range(_N_DRAWN)]
        oddness = np.array([_oddness(galaxy) for galaxy in drawn])
        appearance = Appearance.of(drawn, [visible(galaxy, view) for galaxy in drawn])
        for i, asked in enumerate(trees):
            probabilities = careful_probabilities(asked, careful_log_odds(asked, appearance))
            top = i * block_height + _TOP_PIXELS + j * _THUMBNAIL_PIXELS
            for column, galaxy in enumerate(_typical(asked, probabilities, oddness)):
                thumbnail = _thumbnail(drawn[galaxy], view, np.random.default_rng([seed, j, galaxy, 1]))
                sheet.paste(thumbnail, (_LEFT_PIXELS + column * _THUMBNAIL_PIXELS, top))
    files.write_bytes(out, image_file(np.asarray(sheet), out.suffix, files.mark("gallery")))
    return out


def _oddness(galaxy: Galaxy) -> float:
    """Return the strength of the features that most questions do not ask about."""
    encounter = max(galaxy.companion_strength, galaxy.tail_strength, galaxy.disturbance, galaxy.overlap_strength)
    return encounter + galaxy.clump_strength + float(galaxy.is_artifact)


def _typical(asked: Tree, probabilities: FloatArray, oddness: FloatArray) -> list[int]:
    """Return for each answer the index of a galaxy that is likely to get it and is otherwise ordinary."""
    question_of_answer = list(asked.question_of_answer)
    likely = asked.proportion_asked(probabilities)[:, question_of_answer] * probabilities
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
    return middle.resize((_THUMBNAIL_PIXELS - 2, _THUMBNAIL_PIXELS - 2), Image.Resampling.LANCZOS)


def _write_labels(sheet: Image.Image, asked: Tree, rows: Sequence[str], top: int) -> None:
    """Write the questions and answers above the columns, and the campaigns beside the rows."""
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
            corner = _LEFT_PIXELS + column * _THUMBNAIL_PIXELS + _THUMBNAIL_PIXELS // 2 - 9, top + 72
            sheet.paste(label.rotate(90, expand=True), corner)
            column += 1
    for j, name in enumerate(rows):
        pen.text((4, top + _TOP_PIXELS + (j + 0.4) * _THUMBNAIL_PIXELS), name, _INK, font=large)
