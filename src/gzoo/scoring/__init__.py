"""How good predictions are: likelihoods, scores with intervals, the report. Needs no torch."""

from gzoo.scoring.likelihood import dirichlet_multinomial_nll, expected_fractions, fit_baseline
from gzoo.scoring.metrics import Score, Scores, Value, score

__all__ = [
    "Score",
    "Scores",
    "Value",
    "dirichlet_multinomial_nll",
    "expected_fractions",
    "fit_baseline",
    "score",
]
