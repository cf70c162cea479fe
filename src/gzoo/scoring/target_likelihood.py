"""Likelihood of labels given predicted classes or values, their baseline, and their recalibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from gzoo.dataset.targets import Target
from gzoo.trees.tree import FloatArray

MIN_RECALIBRATED = 30
"""With fewer galaxies, predictions are not recalibrated: chance would decide."""
MAX_LOG_TEMPERATURE = 3.0


def target_log_likelihood(target: Target, prediction: FloatArray, labels: FloatArray) -> FloatArray:
    """Return the log probability (of a value: density) of each label, in nats, shape (galaxy,).

    Minus infinity where the class has probability 0.

    Args:
        target: What is predicted.
        prediction: Probabilities of the classes, shape (galaxy, class), or mean and standard deviation of a normal
            distribution, shape (galaxy, 2).
        labels: Number of the class, or value, shape (galaxy,).
    """
    if target.kind == "classes":
        with np.errstate(divide="ignore"):
            return np.log(prediction[np.arange(len(labels)), labels.astype(np.int64)])
    mean, std = prediction.T
    return -(((labels - mean) / std) ** 2) / 2 - np.log(std) - np.log(2 * np.pi) / 2


def fit_target_baseline(target: Target, labels: FloatArray) -> FloatArray:
    """Return what to predict for every galaxy: frequencies of the classes, or mean and standard deviation.

    >>> fit_target_baseline(Target("ring", "classes", ("no", "yes")), np.array([0.0, 0.0, 0.0, 1.0]))
    array([0.75, 0.25])
    """
    if target.kind == "classes":
        counts = np.bincount(labels.astype(np.int64), minlength=len(target.classes))
        return counts / counts.sum()
    return np.array([labels.mean(), labels.std()])


def fit_target_recalibration(target: Target, prediction: FloatArray, labels: FloatArray) -> dict[str, float]:
    """Return the recalibration that fits the labels of held-out galaxies best.

    Classes have a temperature, to whose inverse probabilities are raised; values have a factor on their spread. Nothing
    is fitted to fewer than 30 galaxies.
    """
    if len(labels) < MIN_RECALIBRATED:
        return {}
    if target.kind == "value":
        mean, std = prediction.T
        return {"std_factor": float(np.sqrt((((labels - mean) / std) ** 2).mean()))}

    def nll(log_temperature: float) -> float:
        tempered = recalibrated(target, prediction, {"temperature": float(np.exp(log_temperature))})
        return -float(target_log_likelihood(target, tempered, labels).mean())

    found: Any = minimize_scalar(nll, bounds=(-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE), method="bounded")
    return {"temperature": float(np.exp(found.x))}


def recalibrated(target: Target, prediction: FloatArray, recalibration: Mapping[str, float]) -> FloatArray:
    """Return predictions after a recalibration.

    >>> recalibrated(Target("ring", "classes", ("no", "yes")), np.array([[0.8, 0.2]]), {"temperature": 2.0}).round(3)
    array([[0.667, 0.333]])
    """
    if target.kind == "value":
        return prediction * np.array([1.0, recalibration.get("std_factor", 1.0)])
    with np.errstate(divide="ignore"):
        logs = np.log(prediction) / recalibration.get("temperature", 1.0)
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
