"""Scores, calibration, comparison and posteriors of predictions, without torch."""

from gzoo.scoring.classification import Classification, classify, published
from gzoo.scoring.comparison import Comparison, compare
from gzoo.scoring.likelihood import dirichlet_multinomial_nll, expected_fractions, fit_baseline
from gzoo.scoring.scores import Score, Scores, Value, score

__all__ = [
    "Classification",
    "Comparison",
    "Score",
    "Scores",
    "Value",
    "classify",
    "compare",
    "dirichlet_multinomial_nll",
    "expected_fractions",
    "fit_baseline",
    "published",
    "score",
]
