"""Silent, slow, busy and broken connections: a line, an end, and Ctrl-C at any time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

import gzoo
from gzoo import hub as gzoo_hub
from gzoo.errors import AccessError, GZooWarning, HubError
from gzoo.hub import client as hub_client
from gzoo.hub import transfers, waiting
from loopback_hub import Client, Fault, LoopbackHub, Repo, XetStorage, environment

NAME = "alice/small"
CARD = (
    "---\nconfigs:\n"
    "- config_name: default\n  data_files: [{split: train, path: data/train-*}]\n"
    "- config_name: tiny\n  data_files: [{split: train, path: tiny/train-*}]\n---\n"
)
SHARDS = [f"data/train-{i:05d}-of-00004.parquet" for i in range(4)]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, forty times as short."""
    for name in ("CONNECT", "READ", "WRITE", "LINE", "RESCUE", "MAX"):
        monkeypatch.setattr(waiting, f"{name}_SECONDS", getattr(waiting, f"{name}_SECONDS") / 40)


@pytest.fixture
def repo(hub: LoopbackHub, client: Client) -> Repo:
    content = {name: name.encode() * 40_000 for name in [*SHARDS, "tiny/train-00000-of-00001.parquet"]}
    return hub.add_repo(NAME, {"README.md": CARD, **content})


def is_whole(folder: Path, repo: Repo) -> bool:
    return all((folder / name).read_bytes() == repo.files[name] for name in SHARDS)


@pytest.mark.parametrize("kind", ["dropped", "silent"])
def test_a_connection_without_answers_ends_soon_and_says_so(hub: LoopbackHub, repo: Repo, kind: str) -> None:
    hub.faults.append(Fault(kind, "/api/"))
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GZooWarning)
        found = gzoo.access(NAME)
    assert (found.state, found.exit_code) == ("offline", 9)
    assert time.monotonic() - started < 5
    assert caught or kind == "dropped"
    assert all(re.match(r"Waiting for the Hub \('alice/small'\): no answer for", str(one.message)) for one in caught)


@pytest.mark.parametrize("kind", ["dropped", "silent", "unavailable"])
def test_where_a_whole_copy_is_cached_there_is_one_try(hub: LoopbackHub, repo: Repo, kind: str) -> None:
    gzoo_hub.copy_of(NAME)
    hub.faults.append(Fault(kind, "/api/"))
    n = len(hub.log)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GZooWarning)
        found = gzoo.access(NAME)
    assert (found.state, len(hub.log) - n) == ("cached", 1)
    assert f"read from the cache, commit {repo.head}" in found.message


def test_a_slow_shard_is_waited_for_without_a_line(hub: LoopbackHub, repo: Repo) -> None:
    hub.faults.append(Fault("slow", SHARDS[1], seconds=0.6))  # a part each 0.06 s; a line after 0.25 s of silence
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder, _ = gzoo_hub.copy_of(NAME)
    assert is_whole(folder, repo)


@pytest.mark.slow
def test_a_download_that_stalls_says_so_and_ends(hub: LoopbackHub, repo: Repo, client: Client) -> None:
    hub.faults.append(Fault("stalled", SHARDS[1]))
    with pytest.warns(GZooWarning, match="no answer for"), pytest.raises(HubError, match=r"sent nothing for \d s"):
        gzoo_hub.copy_of(NAME)
    hub.ended.set()  # ends the thread that still reads
    hub.faults.clear()
    folder, _ = gzoo_hub.copy_of(NAME)
    assert is_whole(folder, repo)
    assert len([one for one in hub.asked("GET .*00000-of-00004") if one.status == 200]) == 1


def test_a_busy_hub_is_asked_again_when_it_says(hub: LoopbackHub, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    hub.faults += [Fault("busy", "auth-check", 1, seconds=280), Fault("busy", f"GET .*{SHARDS[1]}", 1, seconds=120)]
    with pytest.warns(GZooWarning) as caught:
        folder, _ = gzoo_hub.copy_of(NAME)
    assert is_whole(folder, repo)
    assert {281.0, 121.0} <= set(slept)
    said = [str(one.message) for one in caught]
    for seconds in (281, 121):
        assert f"The Hub is busy (429) and asks for a pause: the next request is in {seconds} s." in said


def test_a_busy_hub_is_not_waited_for_where_a_copy_is_cached_or_the_pause_is_long(
    hub: LoopbackHub, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.append(Fault("busy", "auth-check", seconds=3600))
    with pytest.warns(GZooWarning, match="busy"):
        found = gzoo.access(NAME)
    assert found.state == "offline"
    assert found.message.startswith("The Hub is busy (429)")
    hub.faults.clear()
    gzoo_hub.copy_of(NAME)
    hub.faults.append(Fault("busy", "auth-check", seconds=280))
    n = len(hub.log)
    with pytest.warns(GZooWarning, match="busy"):
        assert gzoo_hub.copy_of(NAME)[1].state == "cached"
    assert len(hub.log) == n + 1


def test_the_pause_may_be_a_date_or_unknown() -> None:
    pauses = {"Wed, 21 Oct 2015 07:28:00 GMT": 1.0, "7": 8.0, "soon": hub_client.DEFAULT_PAUSE_SECONDS}
    for text, seconds in pauses.items():
        assert hub_client._pause_of({"Retry-After": text}) == seconds  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("status", [404, pytest.param(500, marks=pytest.mark.slow), 0])
def test_faults_of_xet_end_in_plain_http(hub: LoopbackHub, repo: Repo, client: Client, status: int) -> None:
    client.use_xet()
    with XetStorage(status) as storage:
        hub.cas = storage.address
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GZooWarning)
            folder, _ = gzoo_hub.copy_of(NAME)
        assert any("HF_HUB_DISABLE_XET=1" in str(one.message) for one in caught)
        assert storage.log, "or this test shows nothing"
    assert is_whole(folder, repo)
    assert transfers.is_used(), "the client's setting is as before"


def test_a_refusal_during_the_download_is_worded(hub: LoopbackHub, repo: Repo) -> None:
    said = "Access to this resource is disabled."
    hub.faults.append(Fault("refused", f"/resolve/.*{SHARDS[2]}", status=403, said=said))
    with pytest.raises(AccessError, match=r"Access to this resource is disabled.*The download was stopped") as caught:
        gzoo_hub.copy_of(NAME)
    assert (caught.value.state, caught.value.exit_code) == ("denied", 8)
    assert not gzoo.access(NAME).cached


SCRIPT = """
import sys
from gzoo import hub
try:
    hub.copy_of(sys.argv[1])
except KeyboardInterrupt:
    print("stopped")
    sys.exit(130)
"""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("stalled shard", marks=pytest.mark.slow),
        pytest.param("silent Hub", marks=pytest.mark.slow),
        "silent Xet",
    ],
)
def test_an_interrupt_ends_within_five_seconds_and_keeps_files(
    hub: LoopbackHub, repo: Repo, tmp_path: Path, kind: str
) -> None:
    if kind == "stalled shard":
        hub.faults.append(Fault("stalled", SHARDS[3]))
    elif kind == "silent Hub":
        hub.faults.append(Fault("silent", "/tree/"))
    settings = {**os.environ, **environment(hub, tmp_path / "home"), "PYTHONPATH": str(Path(gzoo.__file__).parents[1])}
    with XetStorage(0) as storage:
        if kind == "silent Xet":
            hub.cas = storage.address
            del settings["HF_HUB_DISABLE_XET"]
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, NAME],
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 100
        while time.monotonic() < until and process.poll() is None:
            arrived = {path.name for path in (tmp_path / "home").rglob("train-*.parquet")}
            if len(arrived) == 3 or (kind == "silent Hub" and hub.asked("/tree/")) or storage.log:
                break
            threading.Event().wait(0.05)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert time.monotonic() - started < 5
    assert (process.returncode, output) == (130, "stopped\n"), errors
    kept = {path.name for path in (tmp_path / "home").rglob("train-*.parquet")}
    assert len(kept) == (3 if kind == "stalled shard" else 0)


def test_one_interrupt_ends_a_wait_in_this_process(hub: LoopbackHub, repo: Repo) -> None:
    hub.faults.append(Fault("silent", "/tree/"))
    threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        gzoo_hub.copy_of(NAME)
    hub.ended.set()
