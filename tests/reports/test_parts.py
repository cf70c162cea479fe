"""What every report is made of."""

from __future__ import annotations

import base64

from gzoo.palette import PALETTE
from gzoo.reports.parts import Figure, Markup, badge, bar, provenance, slug


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_in_every_colour_can_be_read_on_page_and_panel() -> None:
    shapes = {"page", "panel", "line", "track", "all", "selected", "sky", "warning"}
    for role in PALETTE.keys() - shapes:
        for i in (0, 1):
            for ground in ("page", "panel"):
                low, high = sorted((luminance(PALETTE[role][i]), luminance(PALETTE[ground][i])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (role, ground, i)


def test_files_to_save_are_complete_and_run_nothing() -> None:
    svg = Markup('<svg xmlns="http://www.w3.org/2000/svg"><text>é</text></svg>')
    one = Figure(
        "f", "", svg, Markup(""), [{"question": "=HYPERLINK(1)", "gain": -0.5}, {"question": "a,b", "gain": None}]
    )
    saved = [base64.b64decode(uri.partition(",")[2]).decode() for uri in (one.svg, one.csv)]
    assert saved[0].startswith('<svg xmlns="http://www.w3.org/2000/svg"><rect')
    assert "é" in saved[0]
    assert saved[1] == 'question,gain\n\'=HYPERLINK(1),-0.5\n"a,b",\n'


def test_texts_are_escaped() -> None:
    assert badge("<b>") == '<span class="badge open">&lt;b&gt;</span>'
    assert "NaN" not in bar(0, 0)
    assert slug('a "<b>" / é') == "a-b-é"
    assert slug("<>") == "figure"


def test_provenance_is_said_once_for_equal_models() -> None:
    one = {"encoder": "resnet18", "size": 64, "from": "", "data": "gz2", "n_train": 1009, "date": "2026-11-29"}
    assert provenance({}) == {}
    assert provenance({"models": [one, {**one, "from": "mwalmsley/baseline"}]}) == {
        "Encoder": "resnet18, 64 x 64 pixels, from random weights; resnet18, 64 x 64 pixels, from mwalmsley/baseline",
        "Training set": "1,009 galaxies of gz2",
        "Trained on": "2026-11-29",
    }
