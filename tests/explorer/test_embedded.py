"""The map and the nearest neighbours, as the page's server answers them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import gzoo
from embedded import SOURCE, write
from gzoo.embeddings.table import open_embeddings
from gzoo.errors import InputError, NotFoundError, TableError
from gzoo.explorer.embedded import MAX_CORNERS, Embedded, inside, read_embedded, read_shape
from gzoo.explorer.labels import Labels

LEFT_HALF = "0.0.500.0.500.1000.0.1000"
UNIT = st.integers(0, 1000).map(lambda one: one / 1000)


def ids(client: TestClient, **query: object) -> set[str]:
    return set(client.get("/download/galaxies.txt", params=query).text.split())


def places(client: TestClient) -> np.ndarray:
    """x and y of all galaxies as the page reads them; NaN where it draws none."""
    steps = np.frombuffer(client.get("/map/places").content, "<u2").reshape(-1, 2)
    return np.where(steps == 65_535, np.nan, steps / 65_534)


@settings(deadline=None)
@given(st.tuples(*[st.tuples(UNIT, UNIT)] * 3), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_triangle_holds_what_is_on_one_side_of_all_its_edges(
    corners: tuple[tuple[float, float], ...], place: tuple[float, float]
) -> None:
    shape, x = np.array(corners), np.array(place)
    sides = [
        np.cross(np.append(b - a, 0), np.append(x - a, 0))[2] for a, b in zip(shape, np.roll(shape, -1, 0), strict=True)
    ]
    if min(map(abs, sides)) < 1e-9:
        return  # on an edge
    assert inside(x[None], shape)[0] == (min(sides) > 0 or max(sides) < 0)


def test_a_shape_that_crosses_itself_holds_by_the_even_odd_rule_and_unknown_places_are_outside() -> None:
    star = np.array([[0.5, 1], [0.2, 0], [1, 0.6], [0, 0.6], [0.8, 0]])
    found = inside(np.array([[0.5, 0.4], [0.5, 0.8], [np.nan, np.nan], [0.9, 0.95]]), star)
    assert found.tolist() == [False, True, False, False]


def test_a_shape_filters_galaxies_everywhere(mapped: TestClient, labels: Labels) -> None:
    x = places(mapped)[:, 0]
    names = labels.frame["id_str"].to_numpy()
    wanted = set(names[x < 0.5])
    assert 5 < len(wanted) < len(labels) - 5
    assert ids(mapped, shape=LEFT_HALF) == wanted
    view = mapped.get("/api/view", params={"shape": LEFT_HALF, "n": 400}).json()
    assert {row["id"] for row in view["rows"]} == wanted
    assert sum(view["splits"].values()) == len(wanted)
    assert mapped.get("/api/sky", params={"shape": LEFT_HALF}).json()["n"] == len(wanted)
    both = {"shape": LEFT_HALF, "q": "ra > 150"}
    assert ids(mapped, **both) == wanted & ids(mapped, q="ra > 150")
    bits = np.unpackbits(np.frombuffer(mapped.get("/map/chosen", params=both).content, np.uint8))[: len(labels)]
    assert set(names[bits == 1]) == ids(mapped, **both)
    told = mapped.get("/api/select", params=both).json()
    assert "save the rows" in told["unsaid"]
    assert mapped.get("/api/select", params={"q": "ra > 150"}).json()["unsaid"] == ""


def test_the_map_shows_every_galaxy_with_a_vector_at_its_principal_components(
    mapped: TestClient, labels: Labels, embedded: Embedded
) -> None:
    about = mapped.get("/api/about").json()["map"]
    assert about["n"] == len(labels) - 3
    assert about["axes"].startswith("The first two principal components of the features, with ")
    vectors = np.asarray(embedded.found, np.float64)
    points = (vectors - vectors.mean(0)) / vectors.std(0)
    components = points @ np.linalg.svd(points, full_matrices=False)[2][:2].T
    shown = places(mapped)[embedded.row[embedded.row >= 0]]
    middle = np.abs(shown - 0.5).max(axis=1) < 0.45  # those that are not on the edge
    for i in range(2):
        wanted, found = components[embedded.row >= 0][middle, i], shown[middle, i]
        assert abs(np.corrcoef(wanted, found)[0, 1]) > 0.9999


def test_neighbours_are_those_of_a_search_through_all(mapped: TestClient, labels: Labels, embedded: Embedded) -> None:
    vectors = np.asarray(embedded.found, np.float64)
    points = (vectors - vectors.mean(0)) / vectors.std(0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    is_there = embedded.row >= 0
    for place in np.flatnonzero(is_there)[:5].tolist():
        cosine = points[is_there] @ points[place]
        order = np.argsort(-cosine)[1:8]  # the first is the galaxy itself
        found = mapped.get("/api/neighbours", params={"row": int(embedded.row[place]), "n": 7}).json()["rows"]
        assert [one["row"] for one in found] == embedded.row[is_there][order].tolist()
        assert [one["similarity"] for one in found] == pytest.approx(cosine[order], abs=1e-3)
        assert [one["id"] for one in found] == [labels.frame["id_str"][one["row"]] for one in found]
    without = next(row for row in range(len(labels)) if row not in embedded.row)
    assert mapped.get("/api/neighbours", params={"row": without}).json() == {"rows": []}


def test_coordinates_of_the_file_are_used(labels: Labels, embeddings: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    import polars as pl

    from gzoo.embeddings.table import write_embeddings

    table = pl.read_parquet(embeddings).with_columns(
        x=pl.int_range(pl.len()).cast(pl.Float32), y=-pl.int_range(pl.len()).cast(pl.Float32)
    )
    write_embeddings(tmp_path / "e.parquet", [table], replace(SOURCE, coordinates="tsne"))
    found = read_embedded(tmp_path / "e.parquet", labels)
    shown, axes = found.map
    order = found.row[found.row >= 0]
    assert (np.diff(shown[order, 0]) > 0).all()
    assert (np.diff(shown[order, 1]) < 0).all()
    assert axes.startswith("t-SNE")


@pytest.mark.parametrize(
    "shape", ["", "1.2", "1.2.3.4", "1.2.3.4.5", "1.2.3.4.5.1001", "1.2.3.4.5.-6", "a.b.c.d.e.f", "1,2,3,4,5,6",
              ".".join(["1"] * (2 * MAX_CORNERS + 2))]
)  # fmt: skip
def test_what_is_no_shape_is_refused(mapped: TestClient, shape: str) -> None:
    with pytest.raises(InputError, match="is not a shape on the map"):
        read_shape(shape)
    if shape:
        failed = mapped.get("/api/view", params={"shape": shape})
        assert (failed.status_code, failed.json()["hint"]) == (400, "Pass a shape that was drawn on the map.")


def test_a_page_without_embeddings_has_no_map(client: TestClient) -> None:
    assert client.get("/api/about").json()["map"] is None
    assert client.get("/map/places").status_code == 404
    for path in ("/api/neighbours?row=1", f"/api/view?shape={LEFT_HALF}", f"/map/chosen?shape={LEFT_HALF}"):
        failed = client.get(path)
        assert (failed.status_code, failed.json()["hint"]) == (400, "Run `gzoo explore` with --embeddings.")


def test_embeddings_of_other_galaxies_are_refused(labels: Labels, dataset: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", np.random.default_rng(0).normal(size=(20, 4)))
    assert len(open_embeddings(path)) == 20
    with pytest.raises(TableError, match=r"20 galaxies, none of which is in .*its first is '0'"):
        read_embedded(path, labels)
    with pytest.raises(NotFoundError, match="Embedding file not found"):
        gzoo.explore(dataset, embeddings=tmp_path / "none.parquet", browser=False)
