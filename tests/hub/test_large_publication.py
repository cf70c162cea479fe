"""Publications in several commits: told from finished ones, refused or killed anywhere, resumed, nothing sent twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from gzoo import files
from gzoo import hub as gzoo_hub
from gzoo.errors import GZooError, GZooWarning, HubError
from gzoo.hub import upload as upload_module
from gzoo.hub.upload import Upload, UploadResult
from loopback_hub import Client, Fault, LoopbackHub, Repo, XetStorage

TOKEN = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
NAME = "alice/large"
CARD = (
    "---\nlicense: cc0-1.0\nconfigs:\n"
    "- config_name: default\n  data_files: [{split: train, path: data/train-*}]\n---\n\n# Large\n\n## Load\n\nEasily.\n"
)
FOREIGN = {"LICENSE": b"mine", "notes/catalogue.parquet": b"mine", "catalogue.parquet": b"mine"}


@pytest.fixture(autouse=True)
def _steps_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "FILES_IN_COMMIT", 3)


@pytest.fixture
def alice(hub: LoopbackHub, client: Client) -> Client:
    hub.users[TOKEN] = "alice"
    client.login(TOKEN)
    return client


def folder_of(place: Path, version: int, n_shards: int = 7) -> Path:
    """A small dataset of gzoo, as far as uploads look at it."""
    for i in range(n_shards):
        path = place / files.shard_name("train", i, n_shards)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"shard {i}, version {version if i else 0}".encode())
    (place / "tree.svg").write_text("<svg/>")
    (place / "README.md").write_text(CARD)
    files.write_manifest(place, {"version": version})
    return place


def publish(folder: Path, **options: object) -> UploadResult:
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    checksums = {name: files.sha256(path) for name, path in paths.items()}
    own = (folder / "README.md").read_text()

    def card(there: str, checksum: str) -> str:
        return gzoo_hub.with_additions(own, gzoo_hub.split_card(there, own)[1]) if there else own

    return Upload(paths, checksums, NAME, "dataset", card=card, **options).run()  # type: ignore[arg-type]


def stored(repo: Repo) -> dict[str, bytes]:
    return {name: data for name, data in repo.files.items() if name != ".gitattributes"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_many_files_are_committed_in_steps_with_manifest_and_card_last(
    hub: LoopbackHub, alice: Client, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "v1", 1)
    made = publish(folder, tag="v1")
    repo = hub.repos[NAME]
    assert stored(repo) == contents(folder)
    _, *commits = repo.commits.values()
    assert len(commits) == made.n_commits == 5  # 8 files in 3 commits, the manifest, the card
    assert all(files.BEGUN in one for one in commits[:-1])
    assert ["manifest.json" in one for one in commits] == [False, False, False, True, True]
    assert ["README.md" in one for one in commits] == [False, False, False, False, True]
    assert repo.tags == {"v1": repo.head}
    for oid, commit in list(repo.commits.items())[1:-1]:
        assert commit
        with pytest.raises(HubError, match="is not finished at commit"):
            gzoo_hub.copy_of(NAME, oid)
    assert gzoo_hub.copy_of(NAME)[1].commit == made.commit
    n = len(hub.log)
    assert publish(folder, tag="v1").files == ()
    assert {one.method for one in hub.log[n:]} == {"GET", "HEAD"}


def test_a_commit_refused_at_any_step_leaves_an_upload_that_resumes(
    hub: LoopbackHub, alice: Client, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "v1", 1)
    for step in range(5):
        hub.repos.clear()
        hub.lfs.clear()
        hub.faults = [Fault("refuse later", "POST .*/commit/", step, said="Your storage patterns tripped a limit")]
        with pytest.raises(HubError, match="Your storage patterns tripped a limit"):
            publish(folder)
        assert (NAME in hub.repos) == (step > 0), "no empty repository is left"
        n = len(hub.log)
        hub.faults.clear()
        publish(folder)
        assert stored(hub.repos[NAME]) == contents(folder)
        assert len([one for one in hub.log[n:] if "/commit/" in one.path]) <= 5 - step


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("killed after", (9, 24)),
        pytest.param("killed", range(1000), marks=pytest.mark.slow),
        pytest.param("killed after", range(1000), marks=pytest.mark.slow),
    ],
)
def test_killed_at_each_request_and_run_again(
    hub: LoopbackHub, alice: Client, tmp_path: Path, kind: str, some: Sequence[int]
) -> None:
    """Over an earlier version with foreign files and an edited card, whose additions are kept."""
    first, second = folder_of(tmp_path / "v1", 1), folder_of(tmp_path / "v2", 2, n_shards=8)
    text = CARD.replace("license", "extra_gated_prompt: Be kind.\nlicense") + "\n## Thanks\n\nTo all.\n"
    expected = {**contents(second), **FOREIGN}
    n_requests = 0
    for n_requests in some:
        hub.repos.clear()
        hub.lfs.clear()
        publish(first)
        repo = hub.repos[NAME]
        repo.commit({**repo.files, **FOREIGN, "README.md": text.encode()})
        n = len(hub.log)
        hub.faults = [Fault(kind, "", n_requests)]
        try:
            publish(second, tag="v2")
        except GZooError:
            is_over = False
        else:
            is_over = True
        hub.faults.clear()
        made = publish(second, tag="v2")
        found = stored(repo)
        card = found.pop("README.md").decode()
        assert found == {name: data for name, data in expected.items() if name != "README.md"}, n_requests
        assert "extra_gated_prompt: Be kind." in card
        assert card.endswith("## Thanks\n\nTo all.\n")
        assert repo.tags == {"v2": made.commit} == {"v2": repo.head}
        sent = Counter(one.path for one in hub.log[n:] if one.method == "PUT" and one.status == 200)
        assert set(sent.values()) <= {1}, n_requests
        known = set(contents(first).values())
        new = [data for name, data in contents(second).items() if "data/" in name and data not in known]
        assert set(sent) == {f"/lfs/{hashlib.sha256(data).hexdigest()}" for data in new}
        if is_over:
            break
    assert n_requests > 20, "or this test shows nothing"


def test_files_that_xet_does_not_take_are_sent_by_plain_http(
    hub: LoopbackHub, alice: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_module, "FILES_IN_COMMIT", 100)
    folder = folder_of(tmp_path / "v1", 1, n_shards=2)
    alice.use_xet()
    with XetStorage(404) as storage:
        hub.cas = storage.address
        with pytest.warns(GZooWarning, match="HF_HUB_DISABLE_XET=1"):
            publish(folder)
        assert storage.log, "or this test shows nothing"
    hub.cas = ""
    assert stored(hub.repos[NAME]) == contents(folder)
