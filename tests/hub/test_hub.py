"""Reading from the Hub: permissions, the cache, and failures of network and server."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import datasets
import huggingface_hub
import numpy as np
import polars as pl
import pytest

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.errors import AccessError, GZooError, GZooWarning, HubError, InputError, NotFoundError
from gzoo.hub.cache import identity_of
from gzoo.hub.client import safe_reason
from gzoo.learn.loader import Loader
from gzoo.trees.campaign import campaign
from loopback_hub import Client, Fault, LoopbackHub, Repo, environment

Command = Callable[..., tuple[int, str]]
NAME = "mwalmsley/gz2"
SHARD = "data/train-00000-of-00001.parquet"
TOKEN = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"


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


def test_a_loader_that_streams_from_the_hub_resumes(repo: Repo, client: Client, dataset: Path) -> None:
    def fresh() -> Loader:
        return gzoo.loader(NAME, 5, 32, seed=1, streaming=True, augment="train")

    wanted = [(batch["id_str"], batch["seed"].tolist(), batch["votes"].tolist()) for batch in fresh()]
    assert sorted(one for ids, *_ in wanted for one in ids) == sorted(ids_of(dataset))
    assert not {path.suffix for path in client.cache.rglob("snapshots/*/*/*")}
    stopped, found = fresh(), []
    for batch in stopped:
        found.append((batch["id_str"], batch["seed"].tolist(), batch["votes"].tolist()))
        if len(found) == 3:
            break
    resumed = fresh()
    resumed.load_state_dict(stopped.state_dict())
    found += [(batch["id_str"], batch["seed"].tolist(), batch["votes"].tolist()) for batch in resumed]
    assert found == wanted


def test_a_loader_of_a_name_on_the_hub_reads_its_cached_copy(repo: Repo, dataset: Path) -> None:
    pairs = zip(gzoo.loader(NAME, 5, 32, seed=1), gzoo.loader(dataset, 5, 32, seed=1), strict=True)
    assert all(there["id_str"] == here["id_str"] and (there["image"] == here["image"]).all() for there, here in pairs)


def test_a_flipped_byte_in_a_stream_is_detected(hub: LoopbackHub, repo: Repo) -> None:
    stream = gzoo.load(NAME, "tiny", split="train", streaming=True)
    hub.faults.append(Fault("flip", "GET .*/resolve/.*parquet"))
    with pytest.raises(Exception, match=r"CRC|checksum|Corrupt|footer|magic|thrift"):
        list(stream)


def test_errors_of_wrong_names_list_the_right_ones(repo: Repo) -> None:
    with pytest.raises(NotFoundError, match="one of: default, tiny"):
        gzoo.load(NAME, "huge")
    with pytest.raises(NotFoundError, match="Split 'dev' not found"):
        gzoo.load(NAME, split="dev")
    with pytest.raises(AccessError, match="branch, tag or commit 'v9'"):
        gzoo.load(NAME, revision="v9")
    with pytest.raises(AccessError, match="Dataset 'mwalmsley/gz3' not found"):
        gzoo.load("mwalmsley/gz3")
    with pytest.raises(NotFoundError, match="not the name of a dataset"):
        gzoo.access("gz9")


def test_a_folder_takes_precedence_over_a_name_and_lacks_revisions(
    repo: Repo, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset.parent)
    assert open_dataset(dataset.name).origin is None
    with pytest.raises(InputError, match="v1"):
        gzoo.load(dataset.name, revision="v1")
    with pytest.raises(NotFoundError, match="dataset/typo"):
        open_dataset("dataset/typo")  # next to folders of that name the Hub is not asked


# Who may read


def make_private(repo: Repo) -> None:
    repo.private = True


STATES: dict[str, tuple[str, str, Callable[[Repo], None], str, str]] = {
    # token, gate, what happens, state, words of message and hint
    "public": ("", "", lambda repo: None, "public", "is public, commit"),
    "granted": (TOKEN, "manual", lambda repo: repo.grant("bob"), "granted", "is gated, and you have access"),
    "gated": (TOKEN, "manual", lambda repo: None, "gated", f"Request access at https://huggingface.co/datasets/{NAME}"),
    "pending": (TOKEN, "manual", lambda repo: repo.wait("bob"), "pending", "has not been answered"),
    "not found": (TOKEN, "", make_private, "not found", "or it is private"),
    "private without login": ("", "", make_private, "not found", "for a private dataset, run `hf auth login`"),
    "private of mine": ("hf_owner", "", make_private, "granted", "is private, and you have access"),
    "no login": ("", "auto", lambda repo: None, "authentication required", "you are not logged in. Request access at"),
    "revoked token": ("hf_withdrawn000", "manual", lambda repo: None, "invalid token", "is invalid or was revoked"),
    "revoked token, public": ("hf_withdrawn000", "", lambda repo: None, "invalid token", "`hf auth logout`"),
    "denied": (TOKEN, "manual", lambda repo: repo.reject("bob"), "denied", "was rejected"),
}
CODES = {
    "public": 0,
    "granted": 0,
    "gated": 3,
    "pending": 4,
    "not found": 5,
    "authentication required": 6,
    "invalid token": 7,
    "denied": 8,
}


@pytest.mark.parametrize("case", STATES)
def test_each_state_has_its_message_and_exit_code(
    hub: LoopbackHub, repo: Repo, client: Client, command: Command, case: str
) -> None:
    token, repo.gated, happen, state, words = STATES[case]
    code = CODES[state]
    client.login(token)
    happen(repo)
    exit_code, output = command("access", NAME)
    assert exit_code == code, output
    assert output.startswith(f"{state}: ")
    assert words in output
    assert output.count("\n") == 1
    assert not hub.asked("/resolve/|/tree/"), "nothing is downloaded to find out"
    found = gzoo.access("gz2")
    assert (found.state, found.exit_code, found.is_readable) == (state, code, code == 0)
    assert found.resolved_commit == (repo.head if code == 0 else "")
    if code:
        with pytest.raises(AccessError) as caught:
            gzoo.load(NAME, "tiny", split="train")
        assert words in f"{caught.value.message} {caught.value.hint}"
        assert (caught.value.exit_code, caught.value.state) == (code, state)
        assert ("not found" in str(caught.value)) == (state == "not found")
        assert not hub.asked("GET .*/resolve/.*parquet")
    else:
        assert len(cast(datasets.Dataset, gzoo.load(NAME, "tiny", split="train")))


@pytest.mark.parametrize("streaming", [False, True])
def test_revoked_access_is_reported_and_the_cached_copy_is_not_used(
    repo: Repo, client: Client, command: Command, dataset: Path, streaming: bool
) -> None:
    repo.gated = "manual"
    client.login(TOKEN)
    repo.grant("bob")
    assert train_of(NAME)["id_str"][:] == ids_of(dataset)
    old = repo.head
    repo.revoke("bob")
    for token, code, words in (
        (TOKEN, 8, "your access was revoked"),
        ("", 6, "you are not logged in"),
        ("hf_withdrawn000", 7, "token is invalid"),
    ):
        client.login(token)
        with pytest.raises(AccessError, match=words) as caught:
            gzoo.load(NAME, split="train", streaming=streaming)
        assert f"The cache contains a copy, commit {old}, which is not used." in caught.value.message
        assert caught.value.exit_code == code
        with pytest.raises(AccessError, match=words):
            open_dataset(NAME)
    client.login(TOKEN)
    repo.reject("bob")
    assert command("access", NAME)[0] == 8
    repo.grant("bob")
    assert len(train_of(NAME)) == len(ids_of(dataset))


def test_access_reports_which_copy_is_cached(repo: Repo, command: Command) -> None:
    assert "The cache contains no copy." in gzoo.access(NAME).message
    gzoo.load(NAME, "tiny", split="train")
    assert "The cache contains this commit (config 'tiny')." in gzoo.access(NAME).message
    old = repo.head
    new = repo.commit({**repo.files, "notes.txt": b"x"})
    code, output = command("access", NAME, "--json")
    facts = json.loads(output)
    assert (code, facts["commit"], facts["cached"], facts["resolved_commit"]) == (0, new, old, new)
    assert f"another copy, commit {old} (config 'tiny'), which is not up to date" in facts["message"]
    assert gzoo.access(NAME, revision=old).resolved_commit == old
    gzoo.load(NAME, "tiny", split="train")
    assert gzoo.access(NAME).cached == new


def test_offline_the_cached_copy_is_used_with_a_warning(
    repo: Repo, client: Client, hub: LoopbackHub, command: Command, dataset: Path
) -> None:
    gzoo.load(NAME, split="train")
    client.set_offline()
    n = len(hub.log)
    with pytest.warns(GZooWarning, match=f"HF_HUB_OFFLINE is set. '{NAME}' is read from the cache, commit {repo.head}"):
        assert train_of(NAME)["id_str"][:] == ids_of(dataset)
    with pytest.warns(GZooWarning, match="from the cache"):
        stream = gzoo.load(NAME, split="train", streaming=True)
    assert [row["id_str"] for row in stream] == ids_of(dataset)
    with pytest.warns(GZooWarning, match="from the cache"):
        assert open_dataset("gz2").origin == {"repository": NAME, "commit": repo.head}
    with pytest.raises(AccessError, match=r"incomplete: 'tiny/"):
        gzoo.load(NAME, "tiny")
    with pytest.raises(AccessError, match="The cache contains no copy of 'mwalmsley/gz_desi' at 'main'") as caught:
        gzoo.load("gz_desi")
    assert (caught.value.exit_code, caught.value.state) == (9, "offline")
    assert command("access", NAME)[0] == 0
    assert command("access", NAME)[1].startswith("cached: ")
    assert len(hub.log) == n


def test_without_an_answer_of_the_hub_the_cached_copy_is_used(repo: Repo, hub: LoopbackHub, dataset: Path) -> None:
    assert len(train_of(NAME))
    hub.faults.append(Fault("unavailable"))
    with pytest.warns(GZooWarning, match=r"503 .*is read from the cache, commit"):
        assert train_of(NAME)["id_str"][:] == ids_of(dataset)
    with pytest.raises(AccessError, match="503"):
        gzoo.load("gz_desi")


def test_errors_keep_their_parts_between_processes() -> None:
    error = AccessError("a", "b", "c", exit_code=7, state="invalid token")
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.expected, again.hint) == ("a", "b", "c")
    assert (str(again), again.exit_code, again.state) == (str(error), 7, "invalid token")


# Failures


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
    "cut again and again": "does not answer",
    "short": "wrong content",
    "flip": "wrong content",
    "flip in the card": "wrong content",
    "imposter": "wrong content",
    "twice": "twice",
    "escape": "outside the repository",
    "unavailable": "503",
}


@pytest.mark.parametrize("name", FAULTS)
def test_failures_end_in_right_data_or_a_clear_error(
    hub: LoopbackHub, repo: Repo, client: Client, dataset: Path, name: str
) -> None:
    right = {path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    client.login(TOKEN)
    hub.faults.append(dataclasses.replace(FAULTS[name]))
    if name in ENDS:
        with pytest.raises(HubError, match=ENDS[name]) as caught:
            gzoo.load(NAME, split="train")
        assert len(str(caught.value).splitlines()) <= 3
        assert bytes_in(client.cache) <= right, "nothing bad stays"
        for revision in ("main", repo.head):
            assert not gzoo.access(NAME, revision=revision).cached, "an incomplete copy does not count"
        assert not list(client.home.parent.rglob("evil*"))
    hub.faults.clear() if name in ENDS else None
    assert train_of(NAME)["id_str"][:] == ids_of(dataset)
    assert bytes_in(client.cache) <= right
    assert not list(client.cache.rglob("*.incomplete"))
    assert all(not one.token for one in hub.asked("/elsewhere/|/imposter/"))


def test_an_interrupted_download_is_resumed(hub: LoopbackHub, repo: Repo, dataset: Path) -> None:
    hub.faults.append(Fault("unavailable", "/resolve/.*test.*parquet"))
    with pytest.raises(HubError):
        gzoo.load(NAME)
    hub.faults.clear()
    gzoo.load(NAME)
    assert len([one for one in hub.asked("GET .*/resolve/.*/data/train") if one.status == 200]) == 1


def test_a_corrupt_file_in_the_cache_is_downloaded_again(repo: Repo, client: Client, dataset: Path) -> None:
    gzoo.load(NAME, "tiny", split="train")
    [shard] = client.cache.rglob("tiny/train-*")
    data = shard.read_bytes()
    blob = shard.resolve()
    blob.write_bytes(data[:100] + b"?" + data[101:])
    assert open_dataset(NAME).splits  # of another config
    gzoo.load(NAME, "tiny", split="train")
    assert shard.read_bytes() == data


def test_a_cached_copy_is_identified_by_the_checksums_of_the_hub(repo: Repo, client: Client) -> None:
    gzoo.load(NAME, split="train")
    [shard] = client.cache.rglob("data/train-*")
    blob = shard.resolve()
    assert identity_of(shard) == [hashlib.sha256(blob.read_bytes()).hexdigest()]
    blob.write_bytes(blob.read_bytes())  # may be other content of equal size
    changed = identity_of(shard)
    assert changed[0] == blob.stat().st_size
    copy = blob.with_name("copy")
    copy.write_bytes(blob.read_bytes())
    os.utime(copy, ns=(0, blob.stat().st_mtime_ns))
    copy.replace(blob)
    assert identity_of(shard) != changed


def test_a_shard_that_differs_from_the_manifest_is_refused(repo: Repo) -> None:
    repo.commit({**repo.files, SHARD: repo.files["data/test-00000-of-00001.parquet"]})
    with pytest.raises(HubError, match=f"'{SHARD}' of '{NAME}' .* differs from the manifest"):
        gzoo.load(NAME)


def test_all_pages_of_a_listing_are_read(hub: LoopbackHub, repo: Repo, dataset: Path) -> None:
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
        with pytest.raises(HubError, match="files inside the dataset's folder"):
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
        "may": "columns: id_str, dataset_name, ra, dec, summary, 30 columns of fractions, 10 columns of total",
        "june": "columns: dataset_name, summary, 30 columns of fractions, 10 columns of total",
    }
    if layout in said:
        with pytest.warns(GZooWarning, match="owner/old") as notices:
            loaded = train_of("owner/old")
        text = " ".join(str(one.message) for one in notices)
        assert said[layout] in text
        assert ("clump-count-gz2_1" in text) == (layout == "june")
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


def test_missing_questions_are_reported_and_count_as_not_collected(
    hub: LoopbackHub, repo: Repo, published: Path, tmp_path: Path
) -> None:
    (tmp_path / "old" / "data").mkdir(parents=True)
    for path in (published / "data").iterdir():
        pl.read_parquet(path).drop("bar-gz2_yes").write_parquet(tmp_path / "old" / "data" / path.name)
    with pytest.warns(GZooWarning, match="without votes: bar-gz2"):
        opened = open_dataset(tmp_path / "old")
    assert opened.not_collected == ("bar-gz2",)
    _, votes = opened.read_votes("test")
    assert not votes.counts[:, votes.tree.slice("bar-gz2")].any()
    assert votes.counts[:, votes.tree.slice("smooth-or-featured-gz2")].any()


def test_data_of_other_projects_are_loaded_unchanged(hub: LoopbackHub, repo: Repo, tmp_path: Path) -> None:
    pl.DataFrame({"price": [1, 2]}).write_parquet(tmp_path / "train.parquet")
    hub.add_repo("shop/prices", {"train.parquet": (tmp_path / "train.parquet").read_bytes()})
    with pytest.warns(GZooWarning, match="columns of any campaign"):
        assert train_of("shop/prices")["price"][:] == [1, 2]


# A whole run


def test_a_run_records_its_commit_and_no_token_is_written_anywhere(
    hub: LoopbackHub,
    repo: Repo,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    caplog: pytest.LogCaptureFixture,
) -> None:
    repo.gated = "manual"
    repo.grant("bob")
    client.login(TOKEN)
    hub.faults += [Fault("unavailable", "/resolve/.*README", 2), Fault("cut", "GET .*train", 1)]
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    caplog.set_level("DEBUG")

    outputs: list[str] = []

    def gzoo_does(*words: str, code: int = 0) -> None:
        found, output = command(*words)
        outputs.append(output)
        assert found == code, output

    small = ("--epochs", "1", "--size", "32", "--encoder", "mobilenetv3_small_050")
    gzoo_does("access", NAME, "--json")
    gzoo_does("train", NAME, "--revision", "main", "--out", "run", *small)
    assert f"To train on the same, pass --revision {repo.head}" in outputs[-1]
    gzoo_does("predict", "run", "gz2", "--out", "predictions.parquet")
    repo.revoke("bob")
    gzoo_does("predict", "run", "gz2", "--out", "more.parquet", code=8)
    client.set_offline()
    gzoo_does("score", "predictions.parquet", "gz2", "--report", "page.html")
    client.set_offline(False)
    client.login(f"{TOKEN}x")
    gzoo_does("access", NAME, code=7)
    said = "".join(outputs) + caplog.text
    assert "your access was revoked" in said
    assert f"Downloading {NAME} from the Hub (MB)" in said
    assert f"HF_HUB_OFFLINE is set. '{NAME}' is read from the cache" in said
    facts = json.loads(Path("run/run.json").read_text())
    assert facts["data"]["hub"] == {"repository": NAME, "commit": repo.head}
    about = json.loads(pl.read_parquet_metadata("predictions.parquet")["gzoo"])
    assert about["hub"] == facts["data"]["hub"]
    assert any(one.token == TOKEN for one in hub.log), "or this test shows nothing"
    assert TOKEN not in said
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != client.home / "token"]
    assert len(written) > 10
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


@pytest.mark.slow
def test_another_process_with_the_hub_in_its_environment(hub: LoopbackHub, repo: Repo, tmp_path: Path) -> None:
    repo.gated = "auto"
    source = str(Path(gzoo.__file__).parents[1])
    for token, code in ((TOKEN, 3), ("", 6)):
        done = subprocess.run(
            [sys.executable, "-m", "gzoo", "access", NAME],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment(hub, tmp_path, token), "PYTHONPATH": source},
        )
        assert done.returncode == code, done.stderr
        assert TOKEN not in done.stdout + done.stderr


def test_errors_never_contain_the_token(
    hub: LoopbackHub, repo: Repo, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    import traceback

    client.login(TOKEN)
    for name in ("", *ENDS):
        hub.faults[:] = [dataclasses.replace(FAULTS[name])] if name else []
        shutil.rmtree(client.cache, ignore_errors=True)
        with pytest.raises(GZooError) as caught:
            gzoo.load(NAME, split="train" if name else "dev")
        assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert safe_reason(ValueError(f"at {TOKEN}: no")) == "at ***: no"
    assert TOKEN not in caplog.text


# Refusals


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "Please enable access to public gated repositories in your fine-grained token settings."),
        (403, "Access to this resource is disabled."),
        (403, "Blocked by the proxy of the university"),
        (451, "Unavailable For Legal Reasons"),
        (400, "Bad request"),
    ],
)
def test_a_refusal_never_serves_the_cached_copy(
    repo: Repo, client: Client, hub: LoopbackHub, status: int, said: str
) -> None:
    gzoo.load(NAME, split="train")
    hub.faults.append(Fault("refused", "/api/datasets/", status=status, said=said))
    found = gzoo.access(NAME)
    assert (found.state, found.exit_code, found.resolved_commit) == ("denied", 8, "")
    assert said.rstrip(".") in found.message
    with pytest.raises(AccessError):
        gzoo.load(NAME, split="train")


def test_a_mirror_without_access_check_is_asked_for_the_repository(
    repo: Repo, client: Client, hub: LoopbackHub
) -> None:
    hub.faults.append(Fault("refused", "/auth-check", status=404, said="Not Found"))
    found = gzoo.access(NAME)
    assert (found.state, found.commit) == ("public", repo.head)


@pytest.mark.parametrize("patterns", [["README.md", "data/train*"], ["data/train*"]])
def test_a_partial_cache_of_another_program_is_not_whole(repo: Repo, client: Client, patterns: list[str]) -> None:
    huggingface_hub.snapshot_download(NAME, repo_type="dataset", allow_patterns=patterns)
    client.set_offline()
    with pytest.raises(AccessError, match="incomplete"):
        open_dataset(NAME)


def test_the_offline_variable_of_datasets_counts(
    repo: Repo, client: Client, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    n = len(hub.log)
    found = gzoo.access(NAME)
    assert (found.state, len(hub.log)) == ("offline", n)
    assert "HF_DATASETS_OFFLINE" in found.message


def test_records_are_not_needed_in_a_read_only_cache(
    repo: Repo, client: Client, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub.snapshot_download(NAME, repo_type="dataset")
    make = Path.mkdir

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
        if client.cache in path.parents and path.name in {"gzoo", "refs"}:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert train_of(NAME)["id_str"][:] == ids_of(dataset)


def test_an_interrupted_training_resumes_on_the_commit_that_it_began_with(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gzoo.learn import training

    out, small = tmp_path / "run", {"size": 32, "encoder": "mobilenetv3_small_050", "epochs": 1, "probe": False}
    old = repo.head

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            gzoo.train(NAME, out=out, **small)
    repo.commit({**repo.files, "tree.svg": b"<svg/>"})
    run = gzoo.train(NAME, out=out, **small).run
    assert json.loads((run / "run.json").read_text())["data"]["hub"] == {"repository": NAME, "commit": old}
    with pytest.raises(InputError, match="is a folder, so revision"):
        gzoo.train(tmp_path, out=tmp_path / "other", revision="main")
