"""The local Hub answers real clients as the Hugging Face Hub does."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from loopback_hub import Client, Fault, LoopbackHub

BIG = bytes(range(256)) * 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "up" / "data").mkdir(parents=True)
    (tmp_path / "up" / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n# Hello\n")
    (tmp_path / "up" / "data" / "weights.safetensors").write_bytes(BIG)
    return tmp_path / "up"


def test_publish_publish_again_and_tag(hub: LoopbackHub, client: Client, folder: Path) -> None:
    hub.users["hf_alice"] = "alice"
    client.login("hf_alice")
    api = HfApi()
    assert api.whoami()["name"] == "alice"
    for kind in ("dataset", "model"):
        api.create_repo("alice/gz2", repo_type=kind, private=True, exist_ok=True)
        api.create_repo("alice/gz2", repo_type=kind, private=True, exist_ok=True)
        first = api.upload_folder(repo_id="alice/gz2", repo_type=kind, folder_path=folder)
        n = sum(one.n_received for one in hub.log)
        again = api.upload_folder(repo_id="alice/gz2", repo_type=kind, folder_path=folder)
        assert again.oid == first.oid
        assert sum(one.n_received for one in hub.log) - n < 5_000
        api.create_tag("alice/gz2", repo_type=kind, tag="v1", revision=first.oid)
        with pytest.raises(HfHubHTTPError, match="409"):
            api.create_tag("alice/gz2", repo_type=kind, tag="v1")
        (folder / "README.md").write_text("# Other\n")
        second = api.upload_folder(repo_id="alice/gz2", repo_type=kind, folder_path=folder, delete_patterns="*.md")
        refs = api.list_repo_refs("alice/gz2", repo_type=kind)
        assert [(one.name, one.target_commit) for one in refs.tags] == [("v1", first.oid)]
        assert refs.branches[0].target_commit == second.oid
        assert Path(api.hf_hub_download("alice/gz2", "README.md", repo_type=kind)).read_text() == "# Other\n"
        old = api.hf_hub_download("alice/gz2", "README.md", repo_type=kind, revision="v1")
        assert "Hello" in Path(old).read_text()
        (folder / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n# Hello\n")
        found = api.snapshot_download("alice/gz2", repo_type=kind)
        assert (Path(found) / "data" / "weights.safetensors").read_bytes() == BIG
        [info] = api.get_paths_info("alice/gz2", ["data/weights.safetensors"], repo_type=kind)
        assert info.lfs is not None
        assert info.lfs.size == len(BIG)
        api.update_repo_settings("alice/gz2", repo_type=kind, gated="manual", private=False)
        assert api.repo_info("alice/gz2", repo_type=kind).gated == "manual"


def test_listings_are_paged(hub: LoopbackHub, client: Client) -> None:
    hub.page_size = 3
    names = [f"data/{i}.txt" for i in range(10)] + ["README.md"]
    hub.add_repo("a/b", dict.fromkeys(names, "x"))
    found = [one.path for one in HfApi().list_repo_tree("a/b", repo_type="dataset", recursive=True)]
    assert sorted(found) == sorted([*names, "data"])


def test_private_and_gated_repositories(hub: LoopbackHub, client: Client) -> None:
    hub.users |= {"hf_alice": "alice", "hf_bob": "bob"}
    hub.add_repo("alice/secret", {"README.md": "x"}, private=True)
    gated = hub.add_repo("alice/gated", {"README.md": "x"}, gated="manual")
    api = HfApi()
    with pytest.raises(GatedRepoError, match="Please log in"):
        api.auth_check("alice/gated", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError, match="401"):
        api.auth_check("alice/secret", repo_type="dataset")
    client.login("hf_nobody")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        api.auth_check("alice/gated", repo_type="dataset")
    client.login("hf_bob")
    with pytest.raises(RepositoryNotFoundError, match="404"):
        api.auth_check("alice/secret", repo_type="dataset")
    for change, said in ((gated.wait, "awaiting"), (gated.reject, "rejected"), (gated.revoke, "authorized list")):
        change("bob")
        with pytest.raises(GatedRepoError, match=said):
            api.auth_check("alice/gated", repo_type="dataset")
        with pytest.raises(GatedRepoError, match=said):
            api.hf_hub_download("alice/gated", "README.md", repo_type="dataset")
    gated.grant("bob")
    api.auth_check("alice/gated", repo_type="dataset")
    api.hf_hub_download("alice/gated", "README.md", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info("alice/gated", revision="v9")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("alice/gated", "other.md", repo_type="dataset")


def test_large_files_come_from_another_host_which_gets_no_token(hub: LoopbackHub, client: Client) -> None:
    hub.users["hf_alice"] = "alice"
    client.login("hf_alice")
    hub.add_repo("a/b", {"x.parquet": BIG})
    hub.faults.append(Fault("elsewhere", "resolve"))
    path = HfApi().hf_hub_download("a/b", "x.parquet", repo_type="dataset")
    assert Path(path).read_bytes() == BIG
    [other] = hub.asked("GET /elsewhere/")
    assert not other.token
    assert hub.asked("HEAD .*resolve")[0].token == "hf_alice"


def test_a_cut_connection_is_resumed(hub: LoopbackHub, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    hub.add_repo("a/b", {"x.parquet": BIG})
    hub.faults.append(Fault("cut", "resolve", times=1))
    path = HfApi().hf_hub_download("a/b", "x.parquet", repo_type="dataset")
    assert Path(path).read_bytes() == BIG
    assert [one.range for one in hub.asked("GET .*resolve")] == ["", f"bytes={len(BIG) // 2}-"]
