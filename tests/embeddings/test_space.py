"""Search is exact: as sorting all galaxies by float64 arithmetic, ties apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gzoo.embeddings.space import Space, _widen
from gzoo.errors import InputError

FINITE = st.floats(-65504, 65504, width=16)
FEW = arrays.arrays(np.float16, st.tuples(st.integers(2, 12), st.integers(1, 4)), elements=FINITE)


def brute(space: Space, point: npt.NDArray[np.float64], by: str) -> npt.NDArray[np.float64]:
    """Scores of all galaxies."""
    points = (space.vectors.astype(np.float64) - space.mean) * space.scale
    if by == "distance":
        return -np.linalg.norm(points - point, axis=1)
    if by == "sum":
        return points @ point
    lengths = np.linalg.norm(points, axis=1) * np.linalg.norm(point)
    return np.divide(points @ point, lengths, out=np.zeros(len(points)), where=lengths > 0)


def found(space: Space, point: npt.NDArray[np.float64], k: int, by: str) -> npt.NDArray[np.int64]:
    if by == "sum":
        return space.highest(point, k).rows
    return (space.nearest if by == "distance" else space.most_alike)(point[None], k)[0].rows


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(FEW, st.data())
def test_search_is_that_of_float64(vectors: npt.NDArray[np.float16], data: st.DataObject) -> None:
    space = Space(vectors)
    k = data.draw(st.integers(1, len(vectors)))
    point = space.points(slice(0, 1))[0]
    for by in ("cosine", "distance", "sum"):
        scores = brute(space, point, by)
        rows = found(space, point, k, by)
        assert len(set(rows.tolist())) == k
        wanted = np.sort(scores)[::-1][:k]
        assert scores[rows] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("by", ["cosine", "distance", "sum"])
def test_galaxies_that_float32_cannot_tell_apart_are_in_order(by: str) -> None:
    rng = np.random.default_rng(1)
    vectors = (1000 + rng.standard_normal((3000, 64))).astype(np.float16)
    vectors[100:200] = vectors[100]
    vectors[100:200, 0] += np.arange(100, dtype=np.float16) / 2
    space = Space(vectors)
    point = space.points(np.array([150]))[0]
    scores = brute(space, point, by)
    assert scores[found(space, point, 200, by)] == pytest.approx(np.sort(scores)[::-1][:200], rel=1e-12, abs=1e-9)


def test_rows_are_excluded_and_k_is_limited() -> None:
    space = Space(np.random.default_rng(0).standard_normal((20, 3)).astype(np.float16))
    point = space.points(np.array([4]))
    assert space.nearest(point, 1)[0].rows.tolist() == [4]
    assert space.nearest(point, 1)[0].scores == pytest.approx([0])
    assert 4 not in space.nearest(point, 19, np.array([4, 4]))[0].rows
    with pytest.raises(InputError, match="k must be from 1 to 19"):
        space.most_alike(point, 20, np.array([4]))
    many = space.nearest(space.points(np.arange(20)), 3)
    assert [one.rows[0] for one in many] == list(range(20))


def test_distances_to_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gzoo.embeddings.space.ROWS", 64)  # several blocks
    space = Space(np.random.default_rng(2).standard_normal((50, 6)).astype(np.float16))
    points = space.points(slice(None))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert space.neighbour_distances(3, np.arange(50)) == pytest.approx(np.sort(apart, axis=1)[:, 3], rel=1e-4)
    some = np.arange(0, 50, 2)
    np.fill_diagonal(apart, np.inf)
    assert space.neighbour_distances(3, some) == pytest.approx(np.sort(apart[:, some], axis=1)[:, 2], rel=1e-4)
    assert space.projected(np.eye(6)) == pytest.approx(points, abs=1e-4)
    with pytest.raises(InputError, match="rank must be"):
        space.neighbour_distances(50, np.arange(50))


def test_principal_components_are_those_of_all_or_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gzoo.embeddings.space.ROWS", 64)
    rng = np.random.default_rng(2)
    vectors = (rng.standard_normal((3000, 6)) @ rng.standard_normal((6, 6)) + 5).astype(np.float16)
    variances, directions = Space(vectors).principal_components
    components = Space(vectors).points(slice(None)) @ directions.T
    assert np.cov(components.T, bias=True) == pytest.approx(np.diag(variances), abs=1e-4)
    assert (np.diff(variances) < 0).all()
    monkeypatch.setattr("gzoo.embeddings.space.SAMPLE", 1500)
    sampled, turned = Space(vectors).principal_components
    assert sampled == pytest.approx(variances, rel=0.1)
    assert abs(turned[0] @ directions[0]) > 0.99


def test_features_that_do_not_vary_say_nothing() -> None:
    vectors = np.random.default_rng(3).standard_normal((30, 4)).astype(np.float16)
    vectors[:, 1] = 7
    space = Space(vectors)
    assert space.scale[1] == 0
    assert np.isfinite(space.most_alike(space.points(np.array([0])), 30)[0].scores).all()
    same = Space(np.ones((5, 2), np.float16))
    assert same.most_alike(same.points(np.array([0])), 5)[0].scores.tolist() == [0.0] * 5


def test_every_finite_number_is_converted_exactly() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(1, -1)
    wide = np.empty(finite.shape, np.float32)
    _widen(finite, wide)
    assert np.array_equal(wide, finite.astype(np.float32))
