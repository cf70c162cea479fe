"""The figure of learning curves."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from gzoo.reports.learning_curves import DrawnCurve, learning_curves
from gzoo.scoring.learning_curve import fit_learning_curve


def test_every_training_is_a_point_in_both_drawings_and_a_row_of_the_table() -> None:
    n = np.repeat([100, 400, 1600], 2)
    curves = [
        DrawnCurve(name, fit_learning_curve(n, 2 + scale * n**-0.5, floor=2.0), [(6400, 2.05)])
        for name, scale in (("a <b>", 4.0), ("c", 9.0))
    ]
    figure = learning_curves("curves", curves, description="Losses")
    assert len(figure.numbers) == 14
    assert sum(not row["is_fitted"] for row in figure.numbers) == 2
    for drawing in (figure.wide, figure.narrow):
        root = ElementTree.fromstring(drawing)
        circles = [one for one in root.iter() if one.tag.endswith("circle")]
        assert len(circles) == 14
        assert "a <b>" in "".join(root.itertext())
        numbers = [float(one) for one in re.findall(r"(?:cx|cy|x|y|x1|y1|x2|y2)=\"(-?[\d.]+)\"", drawing)]
        box = [float(one) for one in root.attrib["viewBox"].split()]
        assert min(numbers) >= 0
        assert max(numbers) <= max(box[2:])
