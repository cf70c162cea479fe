"""Coordinates of a map: principal components of standardised features, or t-SNE."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from gzoo.embeddings.space import Space
from gzoo.errors import InputError, MissingExtraError
from gzoo.files import Progress

METHODS = ("pca", "tsne")
N_COMPONENTS = 50  # principal components that t-SNE works on; the others are mostly noise
MIN_GALAXIES = 10
SEED = 0


def require_extra(method: str) -> None:
    """Check that what a method needs is installed.

    Raises:
        MissingExtraError: It is not.
    """
    if method == "tsne" and find_spec("openTSNE") is None:
        raise MissingExtraError(
            "Package 'openTSNE' is not installed.",
            "the extra 'tsne'.",
            "Run `pip install 'gzoo[tsne]'`, or pass --coordinates pca.",
        )


def coordinates_of(
    vectors: npt.NDArray[np.float16], method: str, progress: Progress | None = None
) -> tuple[npt.NDArray[np.float32], tuple[float, ...] | None]:
    """Return coordinates of galaxies, shape (galaxy, 2), and the fraction of the variance along each, for "pca".

    Args:
        vectors: Vectors, shape (galaxy, feature).
        method: "pca" or "tsne".
        progress: Function to call with (stage, galaxies done, galaxies in total).

    Raises:
        InputError: There are fewer than 10 galaxies.
    """
    n = len(vectors)
    if n < MIN_GALAXIES:
        raise InputError(f"A map of {n} galaxies has no meaning.", f"{MIN_GALAXIES} galaxies or more.",
                         "Omit the option --coordinates.")  # fmt: skip
    if progress:
        progress("Computing coordinates", 0, n)
    space = Space(vectors)
    variances, directions = space.principal_components
    components = space.projected(directions[: N_COMPONENTS if method == "tsne" else 2])
    if method == "pca":
        found, variance = components, tuple(float(one) for one in variances[:2] / max(variances.sum(), 1e-300))
    else:
        import openTSNE

        made: Any = openTSNE.TSNE(
            perplexity=min(30, (n - 1) // 3), initialization="pca", random_state=SEED, n_jobs=1, verbose=False
        )
        found, variance = np.asarray(made.fit(components), np.float32), None
    if progress:
        progress("Computing coordinates", n, n)
    return found, variance
