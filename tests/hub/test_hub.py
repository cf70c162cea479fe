"""From the Hub: who may read, which copy is served, and what happens when things go wrong on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import gzoo
from gzoo import hub as module
from gzoo.cli import app, main
from gzoo.dataset.open import open_dataset
from gzoo.errors import AccessError, GZooError, GZooWarning, HubError, InputError, NotFoundError
from gzoo.learn.loader import Loader
from gzoo.trees.campaign import campaign
from loopback_hub import Client, Fault, LoopbackHub, Repo, environment

NAME = "mwalmsley/gz2"
SHARD = "data/train-00000-of-00001.parquet"
TOKEN = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)


@pytest.fixture
def repo(hub: LoopbackHub, client: Client, dataset: Path) -> Repo:
    hub.users |= {TOKEN: "bob", "hf_owner": "mwalmsley"}
    return hub.add_repo(NAME, dataset)


def train_of(name: str, **options: Any) -> datasets.Dataset:
    return cast(datasets.Dataset, gzoo.load(name, split="train", **options))


def ids_of(folder: Path, split: str = "train", config: str = "data") -> list[str]:
    return pl.read_parquet(folder / config / f"{split}-00000-of-00001.parquet")["id_str"].to_list()


def bytes_in(cache: Path) -> set[bytes]:
    return {path.read_bytes() for path in cache.rglob("blobs/*")}


# Loading


def test_load_by_campaign_config_split_tag_and_commit(hub: LoopbackHub, repo: Repo, dataset: Path) -> None:
    first = repo.head
    repo.tags["v1"] = first
    repo.commit({**repo.files, "README.md": repo.files["README.md"] + b"\nNewer.\n"})
    loaded = train_of("gz2")
    assert loaded["id_str"][:] == ids_of(dataset)
    assert loaded.info.homepage == f"https://huggingface.co/datasets/{NAME}/tree/{repo.head}"
    tiny = cast(datasets.Dataset, gzoo.load(NAME, "tiny", split="test"))
    assert tiny["id_str"][:] == ids_of(dataset, "test", "tiny")
    for revision in ("v1", first):
        assert str(train_of(NAME, revision=revision).info.homepage).endswith(first)
    assert set(gzoo.load(f"{NAME}@v1")) == set(open_dataset(dataset).splits)
    n = len(hub.asked("GET .*/resolve/.*parquet"))
    train_of("gz2")
    assert len(hub.asked("GET .*/resolve/.*parquet")) == n, "what is in the cache is not downloaded again"


@pytest.mark.parametrize("kind", ["torch", "numpy", "jax", "tf"])
def test_formats(repo: Repo, dataset: Path, kind: str) -> None:
    if kind == "tf":
        pytest.importorskip("tensorflow")
    column = "smooth-or-featured-gz2_smooth"
    row = train_of("gz2", revision=repo.head).with_format(kind)[:3]
    expected = pl.read_parquet(dataset / SHARD)[column][:3].to_list()
    assert [int(one) for one in row[column]] == expected
    assert tuple(row["image"][0].shape) == ((3, 424, 424) if kind == "torch" else (424, 424, 3))


def test_streaming_reads_ranges_and_copies_no_shard(
    hub: LoopbackHub, repo: Repo, client: Client, dataset: Path
) -> None:
    stream = gzoo.load(NAME, "tiny", split="train", streaming=True)
    assert [row["id_str"] for row in stream] == ids_of(dataset, "train", "tiny")
    assert any(one.range for one in hub.asked("GET .*/resolve/.*parquet"))
    assert not {path.suffix for path in client.cache.rglob("snapshots/*/*/*")}


def test_a_loader_streams_from_the_hub_and_goes_on_there(repo: Repo, client: Client, dataset: Path) -> None:
    def fresh() -> Loader:
        return gzoo.loader(NAME, 5, 32, seed=1, streaming=True, augment="train")

    wanted = [(batch["id"], batch["seed"].tolist(), batch["votes"].tolist()) for batch in fresh()]
    assert sorted(one for ids, *_ in wanted for one in ids) == sorted(ids_of(dataset))
    assert not {path.suffix for path in client.cache.rglob("snapshots/*/*/*")}
    stopped, found = fresh(), []
    for batch in stopped:
        found.append((batch["id"], batch["seed"].tolist(), batch["votes"].tolist()))
        if len(found) == 3:
            break
    resumed = fresh()
    resumed.load_state_dict(stopped.state_dict())
    found += [(batch["id"], batch["seed"].tolist(), batch["votes"].tolist()) for batch in resumed]
    assert found == wanted


def test_a_loader_of_a_name_on_the_hub_reads_its_copy_by_place(repo: Repo, dataset: Path) -> None:
    pairs = zip(gzoo.loader(NAME, 5, 32, seed=1), gzoo.loader(dataset, 5, 32, seed=1), strict=True)
    assert all(there["id"] == here["id"] and (there["image"] == here["image"]).all() for there, here in pairs)


def test_a_flipped_byte_in_a_stream_is_noticed(hub: LoopbackHub, repo: Repo) -> None:
    stream = gzoo.load(NAME, "tiny", split="train", streaming=True)
    hub.faults.append(Fault("flip", "GET .*/resolve/.*parquet"))
    with pytest.raises(Exception, match=r"CRC|checksum|Corrupt|footer|magic|thrift"):
        list(stream)


def test_wrong_names_are_told_with_the_right_ones(repo: Repo) -> None:
    with pytest.raises(NotFoundError, match="One of default, tiny"):
        gzoo.load(NAME, "huge")
    with pytest.raises(NotFoundError, match="Unknown split"):
        gzoo.load(NAME, split="dev")
    with pytest.raises(AccessError, match="no branch, tag or commit 'v9'"):
        gzoo.load(NAME, revision="v9")
    with pytest.raises(AccessError, match="no dataset 'mwalmsley/gz3' on the Hub that all may see"):
        gzoo.load("mwalmsley/gz3")
    with pytest.raises(NotFoundError, match="no name of a dataset"):
        gzoo.access("gz9")


def test_a_folder_goes_before_a_name_and_has_no_revision(
    repo: Repo, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset.parent)
    assert open_dataset(dataset.name).origin is None
    with pytest.raises(InputError, match="has no revision 'v1'"):
        gzoo.load(dataset.name, revision="v1")
    with pytest.raises(NotFoundError, match="There is no folder dataset/typo"):
        open_dataset("dataset/typo")  # beside folders of that name the Hub is not asked


# Who may read


def say_state(client: Client, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["access", *arguments])
    return done.exit_code, done.output


def make_private(repo: Repo) -> None:
    repo.private = True


STATES: dict[str, tuple[str, str, Callable[[Repo], None], int, str]] = {
    # token, gate, what happens, exit code, what is said
    "public": ("", "", lambda repo: None, 0, "is public, commit"),
    "granted": (TOKEN, "manual", lambda repo: repo.grant("bob"), 0, "is gated, and you may read it"),
    "gated": (TOKEN, "manual", lambda repo: None, 3, f"Ask for it at https://huggingface.co/datasets/{NAME}"),
    "waiting": (TOKEN, "manual", lambda repo: repo.wait("bob"), 4, "waits for its owners"),
    "missing": (TOKEN, "", make_private, 5, "private and not yours"),
    "private without login": ("", "", make_private, 5, "If it is a private one, run `hf auth login`"),
    "private of mine": ("hf_owner", "", make_private, 0, "is private, and you may read it"),
    "login missing": ("", "auto", lambda repo: None, 6, "you are not logged in. Ask for access at https://"),
    "login wrong": ("hf_withdrawn000", "manual", lambda repo: None, 7, "token is wrong, or was withdrawn"),
    "login wrong, public": ("hf_withdrawn000", "", lambda repo: None, 7, "`hf auth logout` to read what is public"),
    "refused": (TOKEN, "manual", lambda repo: repo.reject("bob"), 8, "was turned down"),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_its_sentence_and_exit_code(hub: LoopbackHub, repo: Repo, client: Client, state: str) -> None:
    token, repo.gated, happen, code, says = STATES[state]
    client.login(token)
    happen(repo)
    exit_code, output = say_state(client, NAME)
    assert exit_code == code, output
    assert says in output
    assert output.count("\n") == 1
    assert not hub.asked("/resolve/|/tree/"), "nothing is downloaded to find out"
    found = gzoo.access("gz2")
    assert (found.exit_code, found.is_readable) == (code, code == 0)
    assert found.serves == (repo.head if code == 0 else "")
    if code:
        with pytest.raises(AccessError) as caught:
            gzoo.load(NAME, "tiny", split="train")
        assert says in str(caught.value)
        assert (caught.value.exit_code, caught.value.state) == (code, found.state)
        assert "not found" not in str(caught.value).lower()
        assert not hub.asked("GET .*/resolve/.*parquet")
    else:
        assert len(cast(datasets.Dataset, gzoo.load(NAME, "tiny", split="train")))


@pytest.mark.parametrize("streaming", [False, True])
def test_revoked_with_a_warm_cache_says_so_and_serves_nothing(
    repo: Repo, client: Client, dataset: Path, streaming: bool
) -> None:
    repo.gated = "manual"
    client.login(TOKEN)
    repo.grant("bob")
    assert train_of(NAME)["id_str"][:] == ids_of(dataset)
    old = repo.head
    repo.revoke("bob")
    for token, code, says in (
        (TOKEN, 8, "you may not read it any more"),
        ("", 6, "you are not logged in"),
        ("hf_withdrawn000", 7, "token is wrong"),
    ):
        client.login(token)
        with pytest.raises(AccessError, match=says) as caught:
            gzoo.load(NAME, split="train", streaming=streaming)
        assert f"A copy of it, commit {old}, is in the cache; it is not used." in str(caught.value)
        assert caught.value.exit_code == code
        with pytest.raises(AccessError, match=says):
            open_dataset(NAME)
    client.login(TOKEN)
    repo.reject("bob")
    assert say_state(client, NAME)[0] == 8
    repo.grant("bob")
    assert len(train_of(NAME)) == len(ids_of(dataset))


def test_access_says_which_copy_the_cache_would_serve(repo: Repo, client: Client) -> None:
    assert "The cache has no copy." in gzoo.access(NAME).says
    gzoo.load(NAME, "tiny", split="train")
    assert "The cache has it." in gzoo.access(NAME).says
    old = repo.head
    new = repo.commit({**repo.files, "notes.txt": b"x"})
    code, output = say_state(client, NAME, "--json")
    facts = json.loads(output)
    assert (code, facts["commit"], facts["cached"], facts["serves"]) == (0, new, old, new)
    assert f"another copy, commit {old}, which would be replaced" in facts["says"]
    assert gzoo.access(NAME, revision=old).serves == old
    gzoo.load(NAME, "tiny", split="train")
    assert gzoo.access(NAME).cached == new


def test_offline_the_cache_is_served_and_says_so(repo: Repo, client: Client, hub: LoopbackHub, dataset: Path) -> None:
    gzoo.load(NAME, split="train")
    client.set_offline()
    n = len(hub.log)
    with pytest.warns(
        GZooWarning, match=f"HF_HUB_OFFLINE is set. '{NAME}' is taken from the cache, commit {repo.head}"
    ):
        assert train_of(NAME)["id_str"][:] == ids_of(dataset)
    with pytest.warns(GZooWarning, match="from the cache"):
        stream = gzoo.load(NAME, split="train", streaming=True)
    assert [row["id_str"] for row in stream] == ids_of(dataset)
    with pytest.warns(GZooWarning, match="from the cache"):
        assert open_dataset("gz2").origin == {"repository": NAME, "commit": repo.head}
    with pytest.raises(AccessError, match=r"not whole: tiny/.* Load it once with a network"):
        gzoo.load(NAME, "tiny")
    with pytest.raises(AccessError, match="No copy of 'mwalmsley/gz_desi' at main is in the cache") as caught:
        gzoo.load("gz_desi")
    assert caught.value.exit_code == 9
    assert say_state(client, NAME)[0] == 0
    assert say_state(client, NAME)[1].startswith("cached: ")
    assert len(hub.log) == n


def test_a_hub_that_cannot_be_reached_is_as_no_network(repo: Repo, hub: LoopbackHub, dataset: Path) -> None:
    assert len(train_of(NAME))
    hub.faults.append(Fault("unavailable"))
    with pytest.warns(GZooWarning, match=r"503 .*is taken from the cache, commit"):
        assert train_of(NAME)["id_str"][:] == ids_of(dataset)
    with pytest.raises(AccessError, match="503"):
        gzoo.load("gz_desi")


def test_errors_cross_processes_whole() -> None:
    error = AccessError("a", "b", "c", exit_code=7, state="login wrong")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.exit_code, again.state) == ("a b c", 7, "login wrong")


# Things go wrong


GOOD = ("unavailable twice", "cut once", "short once", "flip once", "elsewhere")
FAULTS = {
    "unavailable twice": Fault("unavailable", "/resolve/.*parquet", 2),
    "unavailable at first": Fault("unavailable", "auth-check|/tree/", 2),
    "cut once": Fault("cut", "GET .*train.*parquet", 1),
    "cut again and again": Fault("cut", "GET .*train.*parquet"),
    "short once": Fault("short", "GET .*train.*parquet", 1),
    "short": Fault("short", "train.*parquet"),
    "flip once": Fault("flip", "train.*parquet", 1),
    "flip": Fault("flip", "train.*parquet"),
    "flip in the card": Fault("flip", "README"),
    "elsewhere": Fault("elsewhere", "parquet"),
    "imposter": Fault("imposter", "train.*parquet"),
    "twice": Fault("twice", "/tree/"),
    "escape": Fault("escape", "/tree/"),
    "unavailable": Fault("unavailable", "/resolve/.*train.*parquet"),
}
ENDS = {
    "cut again and again": "could not be had",
    "short": "other content",
    "flip": "other content",
    "flip in the card": "other content",
    "imposter": "other content",
    "twice": "twice",
    "escape": "leads out of its folder",
    "unavailable": "could not be",
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_end_in_right_data_or_a_clear_error(
    hub: LoopbackHub, repo: Repo, client: Client, dataset: Path, name: str
) -> None:
    right = {path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    client.login(TOKEN)
    hub.faults.append(dataclasses.replace(FAULTS[name]))
    if name in ENDS:
        with pytest.raises(HubError, match=ENDS[name]) as caught:
            gzoo.load(NAME, split="train")
        assert len(str(caught.value).splitlines()) == 1
        assert bytes_in(client.cache) <= right, "nothing bad stays"
        for revision in ("main", repo.head):
            assert not gzoo.access(NAME, revision=revision).cached, "a copy that is not whole is none"
        assert not list(client.home.parent.rglob("evil*"))
    hub.faults.clear() if name in ENDS else None
    assert train_of(NAME)["id_str"][:] == ids_of(dataset)
    assert bytes_in(client.cache) <= right
    assert not list(client.cache.rglob("*.incomplete"))
    assert all(not one.token for one in hub.asked("/elsewhere/|/imposter/"))


def test_a_download_that_was_stopped_goes_on(hub: LoopbackHub, repo: Repo, dataset: Path) -> None:
    hub.faults.append(Fault("unavailable", "/resolve/.*test.*parquet"))
    with pytest.raises(HubError):
        gzoo.load(NAME)
    hub.faults.clear()
    gzoo.load(NAME)
    assert len([one for one in hub.asked("GET .*/resolve/.*/data/train") if one.status == 200]) == 1


def test_a_cache_that_was_damaged_is_mended(repo: Repo, client: Client, dataset: Path) -> None:
    gzoo.load(NAME, "tiny", split="train")
    [shard] = client.cache.rglob("tiny/train-*")
    data = shard.read_bytes()
    blob = shard.resolve()
    blob.write_bytes(data[:100] + b"?" + data[101:])
    assert open_dataset(NAME).splits  # of another config
    gzoo.load(NAME, "tiny", split="train")
    assert shard.read_bytes() == data


def test_a_shard_that_is_not_the_manifests_is_refused(repo: Repo) -> None:
    repo.commit({**repo.files, SHARD: repo.files["data/test-00000-of-00001.parquet"]})
    with pytest.raises(HubError, match=f"{SHARD} of '{NAME}' .* not the file that its manifest names"):
        gzoo.load(NAME)


def test_listings_with_pages_are_read_to_their_end(hub: LoopbackHub, repo: Repo, dataset: Path) -> None:
    hub.page_size = 2
    assert len(cast(datasets.DatasetDict, gzoo.load(NAME))) == len(open_dataset(dataset).splits)


@pytest.mark.parametrize("place", ["../../../secret.parquet", "{tmp}/secret.parquet", "https://example.org/x.parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_card_that_points_elsewhere_is_refused(
    hub: LoopbackHub, repo: Repo, tmp_path: Path, place: str, streaming: bool
) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "secret.parquet")
    place = place.format(tmp=tmp_path)
    for files in (f"{place}", f"[{{split: train, path: '{place}'}}]", f"{{train: ['{place}']}}"):
        card = f"---\nconfigs:\n- config_name: default\n  data_files: {files}\n---\n"
        hub.add_repo("evil/card", {"README.md": card, "data/train.csv": "a\n1\n"})
        with pytest.raises(HubError, match="Files inside the dataset's folder"):
            gzoo.load("evil/card", streaming=streaming)


# Layouts


def layouts(dataset: Path) -> dict[str, Callable[[pl.DataFrame], pl.DataFrame]]:
    tree = campaign("gz2").published_tree

    def june(table: pl.DataFrame) -> pl.DataFrame:
        counts = table.select("image", "id_str", "ra", "dec", *tree.columns)
        return counts.with_columns(pl.lit(3, pl.Int32).alias("clump-count-gz2_1"))

    return {
        "may": lambda table: table.select("image", *tree.columns),
        "june": june,
        "today": lambda table: table,
    }


@pytest.mark.parametrize("layout", ["may", "june", "today"])
def test_every_layout_loads_to_the_same_votes(
    hub: LoopbackHub, repo: Repo, published: Path, tmp_path: Path, layout: str
) -> None:
    change = layouts(published)[layout]
    (tmp_path / "old" / "data").mkdir(parents=True)
    for path in (published / "data").iterdir():
        change(pl.read_parquet(path)).write_parquet(tmp_path / "old" / "data" / path.name)
    hub.add_repo("owner/old", tmp_path / "old")
    said = {
        "may": "has no id_str, dataset_name, ra, dec, summary, 30 fractions, 10 totals",
        "june": "has no dataset_name, summary, 30 fractions, 10 totals",
    }
    if layout in said:
        with pytest.warns(GZooWarning, match="owner/old") as notices:
            loaded = train_of("owner/old")
        text = " ".join(str(one.message) for one in notices)
        assert said[layout] in text
        assert ("1 columns that are no part of gz2 as published: clump-count-gz2_1" in text) == (layout == "june")
        with pytest.warns(GZooWarning):
            opened = open_dataset("owner/old")
    else:
        loaded, opened = train_of("owner/old"), open_dataset("owner/old")
    assert opened.campaign.name == "gz2"
    reference = open_dataset(published)
    for split in ("train", "test"):
        keys, votes = opened.read_votes(split)
        expected = reference.read_votes(split)
        assert np.array_equal(votes.counts, expected[1].counts)
        assert np.array_equal(votes.totals, expected[1].totals)
        assert keys["id_str"].n_unique() == keys.height == opened.positions(split).height
        if layout != "may":
            assert keys["id_str"].equals(expected[0]["id_str"])
    assert loaded.num_rows == len(open_dataset(published).read_votes("train")[1])


def test_questions_that_are_not_there_are_told_and_count_as_not_collected(
    hub: LoopbackHub, repo: Repo, published: Path, tmp_path: Path
) -> None:
    (tmp_path / "old" / "data").mkdir(parents=True)
    for path in (published / "data").iterdir():
        pl.read_parquet(path).drop("bar-gz2_yes").write_parquet(tmp_path / "old" / "data" / path.name)
    with pytest.warns(GZooWarning, match="no votes for bar-gz2"):
        opened = open_dataset(tmp_path / "old")
    assert opened.not_collected == ("bar-gz2",)
    _, votes = opened.read_votes("test")
    assert not votes.counts[:, votes.tree.slice("bar-gz2")].any()
    assert votes.counts[:, votes.tree.slice("smooth-or-featured-gz2")].any()


def test_other_peoples_data_are_loaded_as_they_are(hub: LoopbackHub, repo: Repo, tmp_path: Path) -> None:
    pl.DataFrame({"price": [1, 2]}).write_parquet(tmp_path / "train.parquet")
    hub.add_repo("shop/prices", {"train.parquet": (tmp_path / "train.parquet").read_bytes()})
    with pytest.warns(GZooWarning, match="columns of no campaign"):
        assert train_of("shop/prices")["price"][:] == [1, 2]


# A whole run


def test_a_run_records_its_commit_and_no_token_is_written_anywhere(
    hub: LoopbackHub,
    repo: Repo,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    repo.gated = "manual"
    repo.grant("bob")
    client.login(TOKEN)
    hub.faults += [Fault("unavailable", "/resolve/.*README", 2), Fault("cut", "GET .*train", 1)]
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    caplog.set_level("DEBUG")

    def gzoo_does(*arguments: str, code: int = 0) -> None:
        monkeypatch.setattr(sys, "argv", ["gzoo", *arguments])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as end:
            main()
        assert (end.value.code or 0) == code

    small = ("--epochs", "1", "--size", "32", "--encoder", "mobilenetv3_small_050")
    gzoo_does("access", NAME, "--json")
    gzoo_does("train", f"{NAME}@main", "--out", "run", *small)
    gzoo_does("predict", "run", "gz2", "--out", "predictions.parquet")
    repo.revoke("bob")
    gzoo_does("predict", "run", "gz2", "--out", "more.parquet", code=8)
    client.set_offline()
    gzoo_does("score", "predictions.parquet", "gz2", "--report", "page.html")
    client.set_offline(False)
    client.login(f"{TOKEN}x")
    gzoo_does("access", NAME, code=7)
    said = "".join(capfd.readouterr()) + caplog.text
    assert "you may not read it any more" in said
    assert "downloading (MB)" in said
    assert f"Mind: The Hub is not asked, for HF_HUB_OFFLINE is set. '{NAME}' is taken from the cache" in said
    facts = json.loads(Path("run/run.json").read_text())
    assert facts["data"]["hub"] == {"repository": NAME, "commit": repo.head}
    about = json.loads(pl.read_parquet_metadata("predictions.parquet")["gzoo"])
    assert about["hub"] == facts["data"]["hub"]
    assert any(one.token == TOKEN for one in hub.log), "or this test shows nothing"
    assert TOKEN not in said
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != client.home / "token"]
    assert len(written) > 10
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_another_process_with_the_hub_in_its_environment(hub: LoopbackHub, repo: Repo, tmp_path: Path) -> None:
    repo.gated = "auto"
    source = str(Path(gzoo.__file__).parents[1])
    for token, code in ((TOKEN, 3), ("", 6)):
        done = subprocess.run(
            [sys.executable, "-m", "gzoo.cli", "access", NAME],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment(hub, tmp_path, token), "PYTHONPATH": source},
        )
        assert done.returncode == code, done.stderr
        assert TOKEN not in done.stdout + done.stderr


def test_no_error_holds_the_token(
    hub: LoopbackHub, repo: Repo, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    import traceback

    client.login(TOKEN)
    for name, fault in FAULTS.items():
        hub.faults[:] = [dataclasses.replace(fault)] if name in ENDS else []
        shutil.rmtree(client.cache, ignore_errors=True)
        with pytest.raises(GZooError) as caught:
            gzoo.load(NAME, split="train" if name in ENDS else "dev")
        assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert module._said(ValueError(f"at {TOKEN}: no")) == "at ***: no"  # pyright: ignore[reportPrivateUsage]
    assert TOKEN not in caplog.text
