"""Random sequences of what happens to a repository, its reader and the cache: what is served is one whole commit."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import gzoo
from gzoo import hub as gzoo_hub
from gzoo.errors import AccessError, GZooWarning
from loopback_hub import Client, LoopbackHub, Repo

NAME = "alice/moving"
CARD = (
    "---\nconfigs:\n"
    "- config_name: default\n  default: true\n  data_files: [{split: train, path: data/train-*}]\n"
    "- config_name: tiny\n  data_files: [{split: train, path: tiny/train-*}]\n---\n"
)
FOLDERS = {None: "data", "tiny": "tiny"}


def contents(version: int) -> dict[str, bytes]:
    shards = ["tiny/train-00000-of-00001.parquet", *(f"data/train-{i:05d}-of-00003.parquet" for i in range(3))]
    return {"README.md": f"{CARD}{version}".encode(), **{name: f"{name} {version}".encode() for name in shards}}


def play(hub: LoopbackHub, client: Client, repo: Repo, seed: int) -> Iterator[str]:
    """Yield what was done or served in each step; any wrong service is an assertion."""
    rng = random.Random(seed)
    version, is_offline, is_refused = 0, False, False
    for _ in range(rng.randint(4, 12)):
        match rng.choice(["default", "tiny", "default", "tiny", "moves", "offline", "refuse", "delete"]):
            case "moves":
                version += 1
                repo.commit(contents(version))
            case "offline":
                is_offline = not is_offline
                client.set_offline(is_offline)
            case "refuse":
                is_refused = not is_refused
                repo.reject("bob") if is_refused else repo.grant("bob")
            case "delete":
                found = sorted(path for path in client.cache.rglob("snapshots/*/*/*") if path.is_symlink())
                for path in rng.sample(found, min(len(found), 1)):
                    (path.resolve() if rng.random() < 0.5 else path).unlink(missing_ok=True)
            case config:
                name = None if config == "default" else config
                yield served(repo, name, is_offline, is_refused)


def served(repo: Repo, config: str | None, is_offline: bool, is_refused: bool) -> str:
    """Return how a config was served, or that it was not."""
    state = ""
    try:
        folder, access = gzoo_hub.copy_of(NAME, config=config)
    except AccessError as error:
        state = error.state
    if state:
        assert state == ("offline" if is_offline else "denied" if is_refused else "")
        return state
    assert is_offline or not is_refused, "a refused reader is not served"
    commit = access.resolved_commit
    assert folder.name == commit
    assert commit in access.message, "the commit is said"
    assert commit == repo.head or is_offline
    files = repo.commits[commit]
    start = FOLDERS[config]
    expected = {name: data for name, data in files.items() if name.startswith(start)}
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in (folder / start).iterdir()}
    assert found == expected, "one whole commit"
    return access.state


@pytest.mark.parametrize("n", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_what_is_served_is_one_whole_commit(hub: LoopbackHub, client: Client, n: int) -> None:
    hub.users["hf_bob"] = "bob"
    states: list[str] = []
    for seed in range(n):
        shutil.rmtree(client.cache, ignore_errors=True)
        client.login("hf_bob")
        client.set_offline(False)
        repo = hub.add_repo(NAME, contents(0), gated="manual")  # type: ignore[arg-type]
        repo.grant("bob")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GZooWarning)
            states += play(hub, client, repo, seed)
    assert {"granted", "cached", "offline", "denied"} <= set(states), "or this test shows nothing"


def test_a_newer_tiny_config_does_not_unhook_the_older_full_copy(hub: LoopbackHub, client: Client) -> None:
    repo = hub.add_repo(NAME, contents(0))  # type: ignore[arg-type]
    old = repo.head
    gzoo_hub.copy_of(NAME)
    new = repo.commit(contents(1))
    gzoo_hub.copy_of(NAME, config="tiny")
    client.set_offline()
    assert gzoo_hub.copy_of(NAME)[1].resolved_commit == old
    assert gzoo_hub.copy_of(NAME, config="tiny")[1].resolved_commit == new
    found = gzoo.access(NAME)
    assert (found.state, found.resolved_commit) == ("cached", old)
    [shard] = client.cache.rglob(f"snapshots/{old}/data/train-00001*")
    shard.unlink()
    found = gzoo.access(NAME)
    assert (found.state, found.resolved_commit) == ("cached", new)
    assert f"commit {new} (config 'tiny')" in found.message
    with pytest.raises(AccessError, match=r"is incomplete: 'data/train-0000\d-of-00003.parquet' is missing"):
        gzoo_hub.copy_of(NAME)


def test_a_renamed_repository_is_recorded_by_its_new_name(hub: LoopbackHub, client: Client, dataset: Path) -> None:
    repo = hub.add_repo("alice/old", dataset)
    assert gzoo.open_dataset("alice/old").origin == {"repository": "alice/old", "commit": repo.head}
    n = len(hub.asked("GET .*/resolve/"))
    hub.repos["alice/new"] = hub.repos.pop("alice/old")
    repo.name, hub.renamed["alice/old"] = "alice/new", "alice/new"
    assert gzoo.open_dataset("alice/old").origin == {"repository": "alice/new", "commit": repo.head}
    assert len(hub.asked("GET .*/resolve/")) == n, "what is cached under the old name is not downloaded again"
    assert "'alice/old' was renamed to 'alice/new'." in gzoo.access("alice/old").message
    client.set_offline()
    with pytest.warns(GZooWarning, match="from the cache"):
        assert gzoo.open_dataset("alice/old").origin
