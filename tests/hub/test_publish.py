"""Publication: only valid data, only changed files, verified on the Hub."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from huggingface_hub import DatasetCard, ModelCard

import gzoo
from gzoo import files
from gzoo.errors import AccessError, DatasetError, GZooError, GZooWarning, HubError, InputError, NotFoundError
from gzoo.hub import EXIT_CODES
from gzoo.learn.model import open_run
from gzoo.publication import OPTIONAL_RUN_FILES, RUN_FILES, model_card, publish
from gzoo.trees.campaign import campaign, campaigns
from loopback_hub import Client, Fault, LoopbackHub, Repo, environment

TOKEN = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
NAME = "alice/gz2"
SOURCE = "https://example.org/alice/training"


@pytest.fixture
def alice(hub: LoopbackHub, client: Client) -> Client:
    hub.users[TOKEN] = "alice"
    client.login(TOKEN)
    return client


@pytest.fixture(scope="session")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "run"
    return gzoo.train(dataset, out=out, encoder="mobilenetv3_small_050", size=32, epochs=1, probe=False).run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(repo: Repo) -> dict[str, bytes]:
    return {name: data for name, data in repo.files.items() if name != ".gitattributes"}


def n_uploaded(hub: LoopbackHub) -> int:
    """Bytes in the bodies of requests that bring files."""
    return sum(one.n_received for one in hub.asked(r"^PUT /lfs/|^POST .*/commit/"))


# Datasets


def test_publish_and_publish_again(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    made = publish(dataset, NAME, tag="v1")
    repo = hub.repos[NAME]
    assert stored(repo) == contents(dataset)
    assert (made.sent.commit, made.sent.is_new, made.sent.n_kept) == (repo.head, True, 0)
    assert set(made.sent.files) == set(contents(dataset))
    assert made.sent.n_bytes == sum(map(len, contents(dataset).values()))
    assert repo.tags == {"v1": repo.head}
    assert len(repo.commits) == 2  # the Hub's own and one with all files: nobody sees a part of them
    n, n_bytes = len(hub.log), n_uploaded(hub)
    again = publish(dataset, NAME, tag="v1").sent
    assert (again.commit, again.is_new, again.files, again.n_bytes) == (made.sent.commit, False, (), 0)
    assert again.n_kept == len(made.sent.files)
    assert n_uploaded(hub) == n_bytes
    assert {one.method for one in hub.log[n:]} == {"GET", "HEAD"}


def test_a_published_dataset_can_be_loaded(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    made = publish(dataset, NAME)
    ours, theirs = (cast(Any, gzoo.load(one, split="test")) for one in (dataset, NAME))
    assert theirs["id_str"][:] == ours["id_str"][:]
    opened = gzoo.open_dataset(NAME)
    assert opened.origin["commit"] == made.sent.commit  # type: ignore[index]
    names = sorted(path.name for path in (dataset / "index").iterdir())
    assert sorted(path.name for path in (opened.folder / "index").iterdir()) == names
    index, expected = opened.image_index("test"), gzoo.open_dataset(dataset).image_index("test")
    assert index
    assert expected
    assert index.offset.tolist() == expected.offset.tolist()


def earlier_version(repo: Repo, names: list[str]) -> None:
    """Commit an earlier version, whose manifest lists other files."""
    manifest = json.loads(repo.files["manifest.json"])
    manifest["files"] |= {name: {"bytes": 4, "sha256": hashlib.sha256(b"gone").hexdigest()} for name in names}
    repo.commit({**repo.files, **dict.fromkeys(names, b"gone"), "manifest.json": json.dumps(manifest).encode()})


def test_only_changed_files_are_sent_and_only_listed_files_are_removed(
    hub: LoopbackHub, alice: Client, dataset: Path, tmp_path: Path
) -> None:
    publish(dataset, NAME)
    repo = hub.repos[NAME]
    earlier = ["data/train-00000-of-00009.parquet", "index/train-00000-of-00009.parquet", "weighted.parquet"]
    earlier_version(repo, earlier)
    foreign = ("LICENSE", "notes/a.txt", "catalogue.parquet", "notes.parquet", "index/mine.parquet")
    repo.commit({**repo.files, **dict.fromkeys(foreign, b"mine")})
    folder = tmp_path / "changed"
    shutil.copytree(dataset, folder)
    with (folder / "README.md").open("a") as file:
        file.write("\nMore.\n")
    manifest = files.read_json(folder / "manifest.json")
    kept = {key: value for key, value in manifest.items() if key not in {"files", "format", files.OWN_DIGEST}}
    files.write_manifest(folder, kept)
    made = publish(folder, NAME)
    assert made.sent.files == ("README.md", "manifest.json")
    assert made.sent.removed == tuple(earlier)
    assert stored(repo) == {**contents(folder), **dict.fromkeys(foreign, b"mine")}


def test_a_file_of_others_among_the_shards_is_refused(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    name = "data/train-00000-of-00009.parquet"
    head = hub.add_repo(NAME, {name: b"mine"}).head
    with pytest.raises(InputError, match=name):
        publish(dataset, NAME)
    assert hub.repos[NAME].head == head


@pytest.mark.parametrize(("private", "expected"), [(None, True), (False, False), (True, True)])
def test_the_default_of_the_owner_holds(
    hub: LoopbackHub, alice: Client, dataset: Path, private: bool | None, expected: bool
) -> None:
    hub.private_owners.add("alice")
    publish(dataset, NAME, **({} if private is None else {"private": private}))
    assert hub.repos[NAME].private == expected


def test_a_dry_run_needs_no_login(hub: LoopbackHub, client: Client, dataset: Path) -> None:
    made = publish(dataset, NAME, dry_run=True)
    assert (made.sent.is_new, set(made.sent.files)) == (True, set(contents(dataset)))
    assert hub.repos == {}
    with pytest.raises(AccessError, match="not logged in"):
        publish(dataset, NAME)


def test_a_dry_run_changes_nothing(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    made = publish(dataset, NAME, private=True, gated="auto", tag="v1", dry_run=True)
    assert (made.is_dry, made.sent.is_new, set(made.sent.files)) == (True, True, set(contents(dataset)))
    assert hub.repos == {}
    assert {one.method for one in hub.log} == {"GET"}
    publish(dataset, NAME)
    n = len(hub.log)
    assert publish(dataset, NAME, dry_run=True).sent.files == ()
    assert {one.method for one in hub.log[n:]} == {"GET", "HEAD"}


@pytest.mark.parametrize("damage", ["flipped", "missing", "no manifest", "unfinished", "nothing"])
def test_invalid_datasets_are_refused_before_anything_is_sent(
    hub: LoopbackHub, alice: Client, dataset: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "folder"
    if damage not in {"nothing", "unfinished"}:
        shutil.copytree(dataset, folder)
    if damage == "flipped":
        path = folder / "data" / "test-00000-of-00001.parquet"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    elif damage == "missing":
        (folder / "tree.svg").unlink()
    elif damage == "no manifest":
        (folder / "manifest.json").unlink()
    elif damage == "unfinished":
        (tmp_path / ".folder.gzoo-partial").mkdir()
    with pytest.raises((DatasetError, NotFoundError)) as found:
        publish(folder, NAME)
    said = {
        "flipped": "gzoo check",
        "missing": "tree.svg",
        "no manifest": "manifest.json",
        "unfinished": "not finished",
    }
    assert said.get(damage, "not found") in str(found.value)
    assert [one.path for one in hub.log if one.path != "/api/whoami-v2"] == []


def test_a_killed_upload_is_resumed(hub: LoopbackHub, alice: Client, dataset: Path, tmp_path: Path) -> None:
    sizes = {name: len(data) for name, data in contents(dataset).items() if name.endswith(".parquet")}
    stuck = sorted(sizes)[4]
    oid = hashlib.sha256((dataset / stuck).read_bytes()).hexdigest()
    hub.faults.append(Fault("cut", f"PUT /lfs/{oid}"))
    script = "import sys; from gzoo.publication import publish; publish(sys.argv[1], sys.argv[2], private=True)"
    source = {"PATH": "", "PYTHONPATH": str(Path(gzoo.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(dataset), NAME],
        env={**environment(hub, tmp_path / "home", TOKEN), **source},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    until = time.monotonic() + 200
    while not hub.asked(f"PUT /lfs/{oid}") and process.poll() is None and time.monotonic() < until:
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    first = {one.path for one in hub.asked("^PUT /lfs/") if one.status == 200}
    assert 0 < len(first) < len(sizes), output.decode()
    assert set(stored(hub.repos[NAME])) == set()  # nothing is visible yet
    hub.faults.clear()
    n = len(hub.log)
    publish(dataset, NAME, private=True)
    second = {one.path for one in hub.log[n:] if one.method == "PUT"}
    assert second
    assert not first & second
    assert stored(hub.repos[NAME]) == contents(dataset)
    assert TOKEN not in output.decode()


def test_private_and_gated_before_anything_is_sent(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    publish(dataset, NAME, private=True, gated="manual")
    repo = hub.repos[NAME]
    assert (repo.private, repo.gated) == (True, "manual")
    first_file = next(i for i, one in enumerate(hub.log) if one.method == "PUT" and "/lfs/" in one.path)
    settings = next(i for i, one in enumerate(hub.log) if one.path.endswith("/settings"))
    assert settings < first_file
    hub.users["hf_bob"] = "bob"
    alice.login("hf_bob")
    assert gzoo.access(NAME).state == "not found"
    alice.login(TOKEN)
    publish(dataset, NAME)
    assert (repo.private, repo.gated) == (True, "manual")  # settings that are not passed stay


def test_a_tag_is_never_moved(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    publish(dataset, NAME, tag="v1")
    repo = hub.repos[NAME]
    first = repo.head
    repo.commit({**repo.files, "LICENSE": b"other"})
    n_bytes = n_uploaded(hub)
    with pytest.raises(InputError, match="Tag 'v1'"):
        publish(dataset, NAME, tag="v1")
    assert repo.tags == {"v1": first}
    assert n_uploaded(hub) == n_bytes
    publish(dataset, NAME, tag="v2")
    assert repo.tags == {"v1": first, "v2": repo.head}


def test_files_are_verified_by_the_checksums_of_the_hub(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    publish(dataset, NAME, tag="v1")
    assert not hub.asked("/resolve/"), "nothing is downloaded that the Hub vouches for"


def test_files_without_a_checksum_on_the_hub_are_downloaded_and_compared(
    hub: LoopbackHub, alice: Client, dataset: Path
) -> None:
    name = "data/test-00000-of-00001.parquet"
    hub.faults += [Fault("unlisted", "/tree/"), Fault("flip", f"GET .*/resolve/.*/{name}", 1)]
    with pytest.raises(HubError, match=f"differs from the local files: {name}"):
        publish(dataset, NAME, tag="v1")
    repo = hub.repos[NAME]
    assert repo.tags == {}
    n = len(hub.asked("GET .*/resolve/.*parquet"))
    made = publish(dataset, NAME, verify=False)
    assert name in made.sent.unverified
    assert len(hub.asked("GET .*/resolve/.*parquet")) == n
    assert publish(dataset, NAME).sent.unverified == ()


def test_a_file_that_the_hub_loses_is_detected(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    hub.faults.append(Fault("unstored", "PUT /lfs/", 1))
    with pytest.raises(HubError):
        publish(dataset, NAME)
    assert "data" not in {name.partition("/")[0] for name in stored(hub.repos[NAME])}


def test_temporary_failures_do_not_matter(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    hub.faults += [
        Fault("unavailable", "POST /api/repos/create", 2),
        Fault("unavailable", "POST .*/commit/", 1),
        Fault("cut", "GET .*/resolve/.*README", 1),
    ]
    publish(dataset, NAME)
    assert stored(hub.repos[NAME]) == contents(dataset)


def test_a_commit_whose_answer_is_lost_is_not_made_again(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    hub.faults.append(Fault("lost answer", "POST .*/commit/"))
    made = publish(dataset, NAME, tag="v1")
    repo = hub.repos[NAME]
    assert (repo.tags["v1"], made.sent.commit) == (repo.head, repo.head)
    assert len(repo.commits) == 2


def test_missing_permission_to_write_is_reported(hub: LoopbackHub, client: Client, dataset: Path) -> None:
    hub.users[TOKEN] = "alice"
    for token, state, repository in (
        ("", "authentication required", NAME),
        ("hf_nobodyknowsthisone", "invalid token", NAME),
        (TOKEN, "denied", "bob/gz2"),
    ):
        client.login(token)
        with pytest.raises(AccessError) as found:
            publish(dataset, repository)
        assert (found.value.state, found.value.exit_code) == (state, EXIT_CODES[state])
        assert "hf auth login" in str(found.value)
        assert not token or token not in str(found.value)
    assert hub.repos == {}


@pytest.mark.parametrize("said", ["Private repository storage limit reached", "Your storage patterns tripped a limit"])
def test_a_refused_upload_is_reported_in_the_words_of_the_hub(
    hub: LoopbackHub, alice: Client, dataset: Path, said: str
) -> None:
    hub.faults.append(Fault("refused", "POST .*/commit/", status=403, said=said))
    with pytest.raises(HubError, match=said) as found:
        publish(dataset, NAME)
    assert "token" not in str(found.value)


@pytest.mark.parametrize(
    "options",
    [
        *({"repository": one} for one in ("gz2", "a/b/c", f"{NAME}@v1", "../x")),
        {"gated": "yes"},
        {"tag": "a b"},
        {"tag": "../x"},
        {"source": SOURCE},
    ],
)
def test_invalid_arguments_are_refused(hub: LoopbackHub, alice: Client, dataset: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        publish(dataset, **{"repository": NAME, **options})
    assert hub.log == []


def test_the_command_reports_its_work_and_never_the_token(
    hub: LoopbackHub, alice: Client, dataset: Path, command: Callable[..., tuple[int, str]]
) -> None:
    _, dry = command("publish", str(dataset), NAME, "--dry-run")
    assert "nothing was sent" in dry
    code, said = command("publish", str(dataset), NAME, "--tag", "v1")
    assert code == 0, said
    for words in ("SIMULATED", hub.repos[NAME].head, "tag v1", f"https://huggingface.co/datasets/{NAME}"):
        assert words in said
    assert f"Next: gzoo access {NAME}" in said
    _, again = command("publish", str(dataset), NAME, "--tag", "v1")
    assert "is up to date" in again
    assert TOKEN not in dry + said + again
    assert not any(TOKEN.encode() in data for data in hub.repos[NAME].files.values())


# Models


def real(run: Path, place: Path) -> Path:
    """The same run, as if it had been trained on real galaxies."""
    folder = place / "run"
    shutil.copytree(run, folder)
    facts = files.read_json(folder / "run.json")
    data = cast(dict[str, object], facts["data"])
    data |= {"is_simulated": False, "licence": "cc-by-nc-sa-4.0", "dataset_names": ["gz2"]}
    data["hub"] = {"repository": "mwalmsley/gz2", "commit": "a" * 40}
    files.write_json(folder / "run.json", facts)
    return folder


def test_a_model_is_published_and_timm_loads_it(
    hub: LoopbackHub, alice: Client, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run"))
    (run / "metrics_by_campaign.csv").write_text("epoch,dataset_name\n")  # as a run on several campaigns has it
    made = publish(run, "alice/model", tag="v1")
    repo = hub.repos["models/alice/model"]
    assert made.kind == "model"
    assert set(stored(repo)) == {
        "README.md",
        "config.json",
        "model.safetensors",
        *(f"run/{name}" for name in (*RUN_FILES, *OPTIONAL_RUN_FILES)),
    }
    images = torch.rand(2, 3, 32, 32)
    expected = open_run(run)[0].encoder(images)
    folder = alice.home / "copy"
    for name, data in repo.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for name in (f"local-dir:{folder}", "hf-hub:alice/model"):
        loaded = timm.create_model(name, pretrained=True).eval()
        assert torch.equal(loaded(images), expected), name
        config = timm.data.resolve_model_data_config(loaded)
        assert config["input_size"] == (3, 32, 32)
        assert list(config["mean"]) == list(open_run(run)[0].design.mean)
    assert torch.equal(
        open_run(folder / "run")[0](torch.zeros(1, 3, 32, 32)), open_run(run)[0](torch.zeros(1, 3, 32, 32))
    )
    card = ModelCard((folder / "README.md").read_text("utf-8"))
    assert card.data.to_dict()["license"] == "cc0-1.0"
    assert "> **Simulated.**" in card.text
    n = n_uploaded(hub)
    assert publish(run, "alice/model", tag="v1").sent.files == ()
    assert n_uploaded(hub) == n


def test_a_model_of_real_data_needs_its_source(hub: LoopbackHub, alice: Client, run: Path, tmp_path: Path) -> None:
    folder = real(run, tmp_path)
    with pytest.raises(InputError, match=r"cc-by-nc-sa-4\.0, requires that the training code"):
        publish(folder, "alice/model")
    for wrong in ("", "my laptop", "ftp://example.org", "https://x", "https://example.org/<script>"):
        with pytest.raises(InputError):
            publish(folder, "alice/model", source=wrong)
    assert hub.log == []
    publish(folder, "alice/model", source=SOURCE)
    text = hub.repos["models/alice/model"].files["README.md"].decode()
    card = ModelCard(text).data.to_dict()
    assert (card["license"], card["library_name"], card["datasets"]) == ("cc-by-nc-sa-4.0", "timm", ["mwalmsley/gz2"])
    facts = json.loads((folder / "run.json").read_text("utf-8"))
    for words in (
        SOURCE,
        "a" * 40,
        facts["data"]["manifest_sha256"],
        "This model is under the same licence",
        "Willett2013",
    ):
        assert words in text
    assert "imulated" not in text


def test_every_campaign_has_a_model_card(run: Path) -> None:
    facts = files.read_json(run / "run.json")
    for one in campaigns():
        data = {**cast(dict[str, object], facts["data"]), "is_simulated": False, "licence": one.hub.licence}
        text = model_card(one, {**facts, "data": data}, "a/b", SOURCE, "0" * 64)
        assert ModelCard(text).data.to_dict()["license"] == one.hub.licence
        for paper in one.papers:
            assert f"{{{paper.key}," in text


def test_a_run_that_was_changed_is_refused(hub: LoopbackHub, alice: Client, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="differ from the checksum"):
        publish(tmp_path / "run", "alice/model")
    (tmp_path / "run" / "training_galaxies.parquet").unlink()
    with pytest.raises(NotFoundError, match="galaxies"):
        publish(tmp_path / "run", "alice/model")
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(GZooError):
        publish(tmp_path / "run", "alice/model")
    assert hub.log == []


def test_cards_of_real_datasets_name_their_licence() -> None:
    assert DatasetCard("---\nlicense: unknown\n---\n").data.to_dict()["license"] == "unknown"
    assert campaign("gz_euclid").hub.licence == "unknown"


def test_the_card_names_the_encoder_that_training_started_from_and_keeps_its_licence(run: Path) -> None:
    facts = files.read_json(run / "run.json")
    start = {"name": "hf_hub:a/b", "commit": "c" * 40, "licence": "cc-by-nc-sa-4.0", "weights_sha256": "5" * 64}
    text = model_card(campaign("gz2"), {**facts, "from": start, "n_epochs": 0}, "a/b", SOURCE, "0" * 64)
    assert "license: cc-by-nc-sa-4.0\n" in text
    assert f"started from the encoder of `hf_hub:a/b`, commit `{'c' * 40}`, licence cc-by-nc-sa-4.0" in text
    assert "(only the head was trained)" in text
    assert str(facts["floors"]["description"]).replace("`", "") in text  # type: ignore[index]


# Cards that owners edited

TERMS = """extra_gated_prompt: Use the data for research only.
extra_gated_fields:
  Affiliation: text
  I agree: checkbox
"""
SECTION = "## Thanks\n\nTo all volunteers.\n\n```text\n## no heading\n```"


def edited(card: bytes) -> bytes:
    """A card as an owner edits it on the Hub: more keys, another tag, a section in the middle and one at the end."""
    text = card.decode().replace("\ntags:\n", f"\nlanguage: en\n{TERMS}tags:\n- DESI\n", 1)
    text = text.replace("\n## Splits\n", f"\n{SECTION}\n\n\n## Splits\n", 1)
    return f"{text}\n\n## Funding\n\nNone.\n".encode()


def test_what_owners_add_to_the_card_is_kept_and_valid(
    hub: LoopbackHub, alice: Client, dataset: Path, tmp_path: Path
) -> None:
    publish(dataset, NAME)
    repo = hub.repos[NAME]
    own = repo.files["README.md"].decode()
    repo.commit({**repo.files, "README.md": edited(repo.files["README.md"])})
    copied = tmp_path / "copied"
    for name, data in stored(repo).items():
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes(data)
    assert gzoo.check(copied).is_valid, gzoo.check(copied).findings
    (copied / "README.md").write_bytes((copied / "README.md").read_bytes().replace(b"Small, distant", b"Far"))
    (copied / "README.md").write_bytes(repo.files["README.md"].replace(b"Each row is a galaxy", b"Each row is a star"))
    assert not gzoo.check(copied).is_valid, "an edited part of gzoo's own is no addition"

    publish(dataset, NAME, tag="v2")
    text = repo.files["README.md"].decode()
    data = DatasetCard(text).data.to_dict()
    assert data["extra_gated_fields"] == {"Affiliation": "text", "I agree": "checkbox"}
    assert (data["language"], "DESI" in data["tags"]) == ("en", True)
    assert text.index(SECTION) < text.index("## Splits") < text.index("## Funding")
    for line in own.splitlines():
        assert line in text
    assert publish(dataset, NAME, tag="v2").sent.files == ()
    assert len(cast(Any, gzoo.load(NAME, "tiny", split="train")))


def test_edits_of_what_gzoo_writes_are_replaced_with_a_warning(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    publish(dataset, NAME)
    repo = hub.repos[NAME]
    text = repo.files["README.md"].decode()
    repo.commit({**repo.files, "README.md": text.replace("license: cc0-1.0", "license: mit").encode()})
    with pytest.warns(GZooWarning, match="edited in parts that gzoo writes, which are replaced: `license`"):
        publish(dataset, NAME)
    assert repo.files["README.md"].decode() == text


def test_a_card_of_others_is_kept_beside_that_of_gzoo(hub: LoopbackHub, alice: Client, dataset: Path) -> None:
    hub.add_repo(NAME, {"README.md": "# Mine\n\nAbout it.\n\n## History\n\nOld.\n"})
    with pytest.warns(GZooWarning, match="'introduction'"):
        publish(dataset, NAME)
    assert "## History\n\nOld.\n" in hub.repos[NAME].files["README.md"].decode()


@pytest.mark.parametrize("suffix", [".yaml", ".md"])
def test_terms_of_a_gated_dataset_are_in_its_card(
    hub: LoopbackHub, alice: Client, dataset: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"terms{suffix}"
    path.write_text(TERMS if suffix == ".yaml" else "Use the data for research only.\n")
    publish(dataset, NAME, gated="manual", gate_terms=path)
    data = DatasetCard(hub.repos[NAME].files["README.md"].decode()).data.to_dict()
    assert data["extra_gated_prompt"] == "Use the data for research only."
    assert ("extra_gated_fields" in data) == (suffix == ".yaml")
    assert publish(dataset, NAME).sent.files == ()


@pytest.mark.parametrize("content", ["license: mit\n", "", "- a\n", "a: [\n"])
def test_terms_that_are_none_are_refused(
    hub: LoopbackHub, alice: Client, dataset: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "terms.yaml").write_text(content)
    for path in (tmp_path / "terms.yaml", tmp_path / "missing.yaml"):
        with pytest.raises((InputError, NotFoundError), match=path.name):
            publish(dataset, NAME, gate_terms=path)
    assert hub.log == []


# Refusals before and during an upload


def test_a_card_that_the_hub_does_not_accept_stops_the_upload_before_it_begins(
    hub: LoopbackHub, alice: Client, dataset: Path
) -> None:
    message = '"license" must be one of [...]'
    hub.faults.append(Fault("invalid card", said=message))
    with pytest.raises(InputError, match='does not accept the metadata of the card: "license" must be one of'):
        publish(dataset, NAME)
    assert hub.repos == {}
    assert not hub.asked("^(PUT|POST) (?!/api/validate-yaml)")


@pytest.mark.parametrize(
    "request_",
    [
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("POST .*/preupload", "POST .*/lfs/objects/batch")),
        *("PUT .*/settings", "POST .*/commit/"),
    ],
)
def test_no_empty_repository_is_left_by_a_refusal(
    hub: LoopbackHub, alice: Client, dataset: Path, request_: str
) -> None:
    hub.faults.append(Fault("refused", request_, status=403, said="Private repository storage limit reached"))
    with pytest.raises(HubError, match="storage limit"):
        publish(dataset, NAME, private=True)
    assert hub.repos == {}
    hub.faults.clear()
    repo = hub.add_repo(NAME, {"LICENSE": b"mine"})
    hub.faults.append(Fault("refused", request_, status=403, said="Private repository storage limit reached"))
    with pytest.raises(HubError, match="storage limit"):
        publish(dataset, NAME, private=True)
    assert stored(repo) == {"LICENSE": b"mine"}
