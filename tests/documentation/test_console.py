"""The commands of README and of the how-to pages, run as a reader would, in a folder with what the page assumes."""

from __future__ import annotations

import inspect
import io
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import gzoo
from documentation.console import commands, mentioned
from gzoo import cli
from gzoo.simulator import SimulateResult
from loopback_hub import Client, LoopbackHub

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
TOKEN = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
SMALL = ("--encoder", "mobilenetv3_small_050", "--size", "32", "--epochs", "1")
"""What makes a training take a second; the rest of each command is as the page has it."""
SHORTER = {"train": (*SMALL, "--no-probe"), "explore": ("--no-browser",)}
VERBS = [verb for verbs in cli.GROUPS.values() for verb in verbs]


def markdown() -> list[Path]:
    made = ("commands", "campaigns", "build", ".ipynb_checkpoints")
    return [ROOT / "README.md", *(one for one in sorted((ROOT / "docs").rglob("*.md")) if not {*made} & {*one.parts})]


@pytest.mark.parametrize("page", markdown(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_that_pages_name_exist(page: Path) -> None:
    for words in mentioned(page.read_text("utf-8")):
        if words[1:2] == ["COMMAND"] or words[1].startswith("--"):
            continue
        assert words[1] in VERBS, " ".join(words)
        parameters = inspect.signature(cli.command(words[1])).parameters.values()
        about = [one.annotation.__metadata__[0] for one in parameters]
        known = {name for one in about for name in (*(one.name or ()), *(one.negative or ()))}
        known |= {f"--{one.name.replace('_', '-')}" for one in parameters} | {"--help", "--no-probe"}
        for word in words[2:]:
            assert not word.startswith("--") or word.rstrip(".,").partition("=")[0] in known, f"{words[1]}: {word}"


def run(words: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Run a command of gzoo in this process."""
    short = [word for word in SHORTER.get(words[1], ()) if word not in words]
    if "--encoder" in words or "--from" in words:
        short = [word for word in short if word not in {"--encoder", "mobilenetv3_small_050"}]
    patch.setattr(sys, "argv", [*words, *short])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code, " ".join(words)


# What pages assume to be there, made of the galaxies of the other tests


def write_table(sky: SimulateResult, folder: Path) -> None:
    """Votes and images under names of their own: no column is called as in the dataset."""
    votes = pl.read_parquet(sky.votes).rename({"id_str": "objid"})
    votes.rename(lambda name: name.replace("-gz2_", "_").replace("-", "_")).write_csv(folder / "votes.csv")
    (folder / "images").symlink_to(sky.images)


def write_export(sky: SimulateResult, folder: Path) -> None:
    for path in (sky.classifications, sky.workflows):
        assert path is not None
        (folder / path.name).symlink_to(path)
    if not (folder / "images").exists():
        (folder / "images").symlink_to(sky.images)


def write_labels(sky: SimulateResult, folder: Path) -> None:
    (folder / "images").symlink_to(sky.images)
    names = sorted(path.name for path in sky.images.iterdir())
    labels = ["ring" if i % 3 else "no ring" for i in range(len(names))]
    pl.DataFrame({"file": names, "label": labels, "redshift": np.linspace(0.01, 0.2, len(names))}).write_csv(
        folder / "rings.csv"
    )


def write_own_campaign(folder: Path) -> None:
    """The example of the page, and votes of 80 galaxies on its tree."""
    text = (HOW_TO / "add-a-campaign.md").read_text("utf-8")
    (folder / "dust_zoo.toml").write_text(text.partition("```toml\n")[2].partition("```")[0], "utf-8")
    n, rng = 80, np.random.default_rng(0)
    columns = gzoo.tree(folder / "dust_zoo.toml").columns
    first = rng.multinomial(20, [0.4, 0.5, 0.1], n)
    lane = rng.binomial(first[:, 1], 0.3)
    odd = rng.binomial(first[:, 1, None], [0.2, 0.1, 0.1])
    counts = np.column_stack([first, lane, first[:, 1] - lane, odd])
    names = [f"g{i}" for i in range(n)]
    (folder / "images").mkdir()
    for name in names:
        data = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(data, "JPEG")
        (folder / "images" / f"{name}.jpg").write_bytes(data.getvalue())
    place = {"id_str": names, "ra": rng.uniform(0, 360, n), "dec": rng.uniform(-60, 60, n)}
    table = pl.DataFrame(place | {column: counts[:, i] for i, column in enumerate(columns)})
    table.write_csv(folder / "votes.csv")


@pytest.fixture(scope="session")
def predicted(run: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the test and validation splits, and fractions of another program; look, do not touch."""
    folder = tmp_path_factory.mktemp("predicted")
    gzoo.predict([run], dataset, out=folder / "predictions.parquet")
    gzoo.predict([run], dataset, split="validation", out=folder / "theirs_validation.csv.parquet")
    for name, split in (("theirs.csv", "test"), ("theirs_validation.csv", "validation")):
        source = folder / ("predictions.parquet" if split == "test" else "theirs_validation.csv.parquet")
        kept = pl.read_parquet(source).select("dataset_name", "id_str", "^.*_fraction$")
        kept.select(one.name for one in kept if one.null_count() < len(one)).write_csv(folder / name)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands are run in."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "200")
    return work


@pytest.fixture
def given(
    sky: SimulateResult, dataset: Path, run: Path, predicted: Path, folder: Path, request: pytest.FixtureRequest
) -> Callable[[str], None]:
    """Return a function that puts a file that a page assumes into the folder."""

    def another_survey(seed: int, out: str) -> None:
        other = gzoo.simulate(
            "gz2", n_galaxies=40, seed=seed, workers=1, export=False, out=folder.parent / f"sky{seed}"
        )
        gzoo.build("gz2", votes=other.votes, images=other.images, out=out)

    def of_redshifts() -> None:
        from astropy.table import Table

        votes = pl.read_parquet(sky.votes)
        columns = {"ra": votes["ra"].to_numpy(), "dec": votes["dec"].to_numpy() + 1e-4}
        Table(columns | {"redshift": np.linspace(0.01, 0.2, len(votes))}).write(folder / "redshifts.fits")

    def of_cutouts() -> None:
        with zipfile.ZipFile(folder / "cutouts.zip", "w") as archive:
            for path in sorted(sky.images.iterdir())[:5]:
                archive.write(path, f"cutouts/{path.name}")

    def of_their_galaxies() -> None:
        (folder / "their-galaxies" / "data").mkdir(parents=True)
        for shard in (dataset / "data").glob("test-*"):
            shutil.copy(shard, folder / "their-galaxies" / "data")

    def of_hub() -> None:
        hub, client = request.getfixturevalue("hub"), request.getfixturevalue("client")
        assert isinstance(hub, LoopbackHub)
        assert isinstance(client, Client)
        hub.users[TOKEN] = "OWNER"
        client.login(TOKEN)

    def of_published_candels() -> None:
        of_hub()
        hub = request.getfixturevalue("hub")
        hub.users[TOKEN] = "mwalmsley"
        made = gzoo.simulate(
            "gz_candels", n_galaxies=40, seed=3, workers=1, export=False, out=folder.parent / "candels"
        )
        gzoo.build("gz_candels", votes=made.votes, images=made.images, out=folder.parent / "gz_candels")
        gzoo.publish(folder.parent / "gz_candels", "mwalmsley/gz_candels", private=False)

    makers: dict[str, Callable[[], object]] = {
        "a vote table": lambda: write_table(sky, folder),
        "its mapping": lambda: gzoo.mapping("votes.csv", "gz2", out="mapping.toml"),
        "an export": lambda: write_export(sky, folder),
        "labels": lambda: write_labels(sky, folder),
        "a campaign": lambda: write_own_campaign(folder),
        "galaxies": lambda: (folder / "galaxies").symlink_to(dataset),
        "run": lambda: (folder / "run").symlink_to(run),
        "run2, run3": lambda: [(folder / name).symlink_to(run) for name in ("run2", "run3")],
        "more_galaxies": lambda: another_survey(2, "more_galaxies"),
        "published_copy": lambda: another_survey(3, "published_copy"),
        "their-galaxies": of_their_galaxies,
        "redshifts.fits": of_redshifts,
        "cutouts.zip": of_cutouts,
        "a login": of_hub,
        "mwalmsley/gz_candels": of_published_candels,
        **{
            name: lambda name=name: (folder / name).symlink_to(predicted / name)
            for name in ("predictions.parquet", "theirs.csv", "theirs_validation.csv")
        },
    }

    return lambda what: makers[what]()


def test_readme(given: Callable[[str], None], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    given("a vote table")
    targets = (ROOT / "Makefile").read_text("utf-8")
    n_run = 0
    for words in commands(text):
        if words[0] == "make":
            assert f"\n{words[1]}: " in targets
        elif words[1] != "demo":  # tests/test_demo.py runs it
            run(words, monkeypatch)
            n_run += 1
    assert n_run >= 5
    exec(text.partition("```python\n")[2].partition("```")[0], {})


PAGES = {
    "adapt-an-encoder": ("galaxies", "run"),
    "add-a-campaign": ("a campaign",),
    "augment": ("galaxies",),
    "build-from-a-vote-table": ("a vote table",),
    "catalogue": ("galaxies", "predictions.parquet"),
    "match-catalogues": ("galaxies", "redshifts.fits"),
    "merge-campaigns": ("galaxies", "more_galaxies", "published_copy"),
    "plan-a-survey": ("a vote table", "its mapping"),
    "predict": ("galaxies", "run", "run2, run3", "cutouts.zip"),
    "publish": ("galaxies", "a login"),
    "read-from-the-hub": ("mwalmsley/gz_candels",),
    "score-your-model": (
        *("galaxies", "run", "predictions.parquet", "theirs.csv", "theirs_validation.csv", "their-galaxies"),
    ),
    "select": ("galaxies", "predictions.parquet"),
    "train": ("galaxies",),
    "train-on-your-own-labels": ("labels",),
    "zooniverse-classifications": ("an export",),
}
"""Page -> what it assumes to be there."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_how_to(page: str, given: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    for what in PAGES[page]:
        given(what)
    found = list(commands((HOW_TO / f"{page}.md").read_text("utf-8")))
    assert found
    for words in found:
        run(words, monkeypatch)


def test_every_page_with_commands_is_run() -> None:
    served = {"explore"}  # its command serves until it is stopped; tests/explorer runs it
    with_commands = {one.stem for one in HOW_TO.glob("*.md") if list(commands(one.read_text("utf-8")))}
    assert with_commands == PAGES.keys() | served
