"""Labels that are given while looking: the table, who may write it, and that `train --labels` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

import gzoo
from gzoo.dataset.images import Images
from gzoo.dataset.open import open_dataset
from gzoo.dataset.targets import read_labels as read_targets
from gzoo.errors import InputError, NotFoundError, TableError
from gzoo.explorer.labelling import Labelling
from gzoo.explorer.labels import Labels
from gzoo.explorer.server import Server, hosts_of

ORIGIN = "http://127.0.0.1:8642"
CLASSES = ("ring", "no ring")


@pytest.fixture
def labelling(labels: Labels, tmp_path: Path) -> Labelling:
    return Labelling(tmp_path / "labels.csv", labels, "shape", CLASSES)


@pytest.fixture
def asking(labels: Labels, labelling: Labelling) -> TestClient:
    server = Server(labels, Images(labels.dataset), labelling)
    return TestClient(server.application(hosts_of("127.0.0.1")), base_url=ORIGIN)


def posted(asking: TestClient, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
    token = asking.get("/api/about").json()["labelling"]["token"]
    return asking.post("/api/labels", json=body, headers={"origin": ORIGIN, "x-gzoo-token": token, **(headers or {})})


def sent(asking: TestClient, rows: list[int], name: str) -> Any:
    return posted(asking, {"rows": rows, "class": name}).json()


def test_labels_are_written_and_taken_away(asking: TestClient, labels: Labels, labelling: Labelling) -> None:
    assert not labelling.path.exists()
    assert sent(asking, [4, 2], "ring") == {"labels": {"4": "ring", "2": "ring"}, "n": 2}
    assert sent(asking, [2, 3], "no ring")["n"] == 3
    assert sent(asking, [4], "")["labels"] == asking.get("/api/labels").json()["labels"]
    table = pl.read_csv(labelling.path, infer_schema=False)
    assert table.columns == ["dataset_name", "id_str", "shape"]
    names = labels.frame["id_str"]
    assert dict(table.select("id_str", "shape").iter_rows()) == {names[2]: "no ring", names[3]: "no ring"}


def test_training_reads_them_and_a_later_session_continues(
    asking: TestClient, labels: Labels, labelling: Labelling, dataset: Path
) -> None:
    sent(asking, list(range(6)), "ring")
    sent(asking, list(range(6, 12)), "no ring")
    again = Labelling(labelling.path, labels, "shape", ["other"])
    assert again.to_dict() == labelling.to_dict()
    again.label([0], "other")
    found = read_targets(open_dataset(dataset), "shape", labelling.path)
    assert found.target.classes == ("no ring", "other", "ring")


@pytest.mark.parametrize(
    "headers",
    [{"x-gzoo-token": "wrong"}, {"x-gzoo-token": ""}, {"origin": "http://evil.example"}, {"host": "evil.example"}],
)
def test_only_this_page_gives_labels(asking: TestClient, labelling: Labelling, headers: dict[str, str]) -> None:
    assert posted(asking, {"rows": [0], "class": "ring"}, headers).status_code in {403, 421}
    token = {"x-gzoo-token": labelling.token}
    assert asking.post("/api/labels", json={}, headers=token).status_code == 403  # without an origin
    assert asking.post("/api/view", headers={**token, "origin": ORIGIN}).status_code == 405
    assert asking.request("OPTIONS", "/api/labels").status_code == 405
    assert not labelling.path.exists()


@pytest.mark.parametrize(
    "body",
    [
        {"rows": [0], "class": "unknown"},
        {"rows": [0], "class": None},
        {"rows": [], "class": "ring"},
        {"rows": [True], "class": "ring"},
        {"rows": ["0"], "class": "ring"},
        {"rows": [-1], "class": "ring"},
        {"rows": [10**9], "class": "ring"},
        {"rows": [0] * 401, "class": "ring"},
        {},
    ],
)
def test_other_requests_change_nothing(asking: TestClient, labelling: Labelling, body: dict[str, Any]) -> None:
    assert posted(asking, body).status_code in {400, 404}
    headers = {"origin": ORIGIN, "x-gzoo-token": labelling.token}
    for content in (b"", b"[]", b"[" * 5000, b"{" + b" " * 200_000 + b"}", b"\xff"):
        assert asking.post("/api/labels", content=content, headers=headers).status_code == 400
    assert not labelling.path.exists()


def test_a_page_without_labelling_is_read_only(client: TestClient) -> None:
    assert client.get("/api/about").json()["labelling"] is None
    assert client.get("/api/labels").status_code == 404
    assert client.post("/api/labels", json={}, headers={"origin": ORIGIN, "x-gzoo-token": ""}).status_code == 405


def test_wrong_arguments_are_refused_before_serving(labels: Labels, dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    for classes in ((), ("a", "a"), ("a", " "), tuple("abcdefghij")):
        with pytest.raises(InputError, match="classes"):
            Labelling(path, labels, "shape", classes)
    with pytest.raises(InputError, match="--labels"):
        Labelling(tmp_path / "labels.parquet", labels, "shape", CLASSES)
    with pytest.raises(InputError, match="--target"):
        Labelling(path, labels, "id_str", CLASSES)
    with pytest.raises(NotFoundError, match="Folder not found"):
        Labelling(tmp_path / "none" / "labels.csv", labels, "shape", CLASSES)
    path.write_text("something,else\n1,2\n")
    with pytest.raises(TableError, match="has the columns something, else"):
        Labelling(path, labels, "shape", CLASSES)
    assert path.read_text() == "something,else\n1,2\n"
    with pytest.raises(InputError, match="--classes requires --labels"):
        gzoo.explore(dataset, classes=["ring"], browser=False, port=0)
