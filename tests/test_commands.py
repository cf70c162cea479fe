"""Commands: exit codes, one message and no traceback, and what another program may read on standard output."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from gzoo import __version__, cli, files
from gzoo.dataset.open import open_dataset
from gzoo.display import Shown
from gzoo.errors import GZooWarning
from gzoo.learn import heads, prediction, training
from gzoo.simulator import SimulateResult

SMALL = ["--encoder", "mobilenetv3_small_050", "--size", "32", "--epochs", "1"]


@dataclass(frozen=True)
class Said:
    """What a command ended with."""

    code: int
    out: str
    err: str


class Command:
    """Runs a command as the shell would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        monkeypatch.setenv("COLUMNS", "300")

    def __call__(self, *words: str | Path) -> Said:
        self.monkeypatch.setattr(sys, "argv", ["gzoo", *map(str, words)])
        self.capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        out, err = self.capsys.readouterr()
        return Said(code, out, err)

    def fails(self, *words: str | Path) -> str:
        """The one message of a command that must fail."""
        said = self(*words)
        assert said.code == 1, said
        assert said.out == ""
        assert "Traceback" not in said.err
        assert said.err.count("Error:") == 1
        message = said.err.partition("Error:")[2].strip()
        assert all(line.startswith(("  Expected ", "  Hint: ")) for line in message.splitlines()[1:]), message
        return message


@pytest.fixture
def gzoo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_version_and_help(gzoo: Command) -> None:
    assert gzoo("--version") == Said(0, f"gzoo {__version__}\n", "")
    said = gzoo("--help")
    assert said.code == 0
    for verb in ("simulate", "build", "train", "predict", "score", "demo", "audit", "tree", "campaigns"):
        assert verb in said.out


def test_campaigns_and_trees(gzoo: Command) -> None:
    said = gzoo("campaigns")
    assert said.code == 0
    assert "gz_candels" in said.out
    assert "smooth-or-featured-gz2" in gzoo("tree", "gz2").out
    assert gzoo("tree", "gz2", "--format", "mermaid").out.startswith("flowchart")
    assert json.loads(gzoo("tree", "gz2", "--format", "json").out)["name"] == "gz2"
    assert gzoo("tree", "gz2", "--format", "svg").out.startswith("<svg")
    assert gzoo("tree", "gz2", "--format", "yaml").code == 2
    assert "one of: gz2" in gzoo.fails("tree", "gz9")


def test_the_verbs_in_a_row(gzoo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command's advice on what comes next is true."""
    monkeypatch.chdir(tmp_path)
    said = gzoo("simulate", "gz2", "--n-galaxies", "60", "--out", "sky")
    steps = ["build gz2 --votes sky/votes.parquet --images sky/images --out dataset", "train dataset --out run"]
    assert f"Next: gzoo {steps[0]}" in said.err
    assert "60 of 60 rows" in gzoo("audit", "sky/votes.parquet", "gz2").err
    said = gzoo(*steps[0].split())
    assert said.code == 0, said.err
    assert "60 galaxies" in said.err
    assert f"Next: gzoo {steps[1]}" in said.err
    said = gzoo(*steps[1].split(), *SMALL)
    assert said.code == 0, said.err
    assert "Next: gzoo predict run dataset --split test --out predictions.parquet" in said.err
    said = gzoo("predict", "run", "dataset", "--split", "test", "--out", "predictions.parquet")
    assert said.code == 0, said.err
    assert "Next: gzoo score predictions.parquet dataset" in said.err
    said = gzoo("score", "predictions.parquet", "dataset", "--json", "--report", "report.html")
    assert said.code == 0, said.err
    scores = json.loads(said.out)
    assert scores["n_galaxies"] == pl.read_parquet("predictions.parquet").height
    assert "imulated" in Path("report.html").read_text("utf-8")
    table = gzoo("score", "predictions.parquet", "dataset", "--slices", "summary").out
    assert "overall" in table
    assert "summary: " in table
    assert "'nope'" in gzoo.fails("score", "predictions.parquet", "dataset", "--slices", "nope")
    assert "'nope.csv'" in gzoo.fails("score", "predictions.parquet", "dataset", "--table", "nope.csv")
    assert "report.html" in gzoo.fails("score", "predictions.parquet", "dataset", "--report", "report.html")
    both = ("--label", "summary", "--report", "other.html")
    assert "--label" in gzoo.fails("score", "predictions.parquet", "dataset", *both)
    assert "accuracy" in gzoo("score", "predictions.parquet", "dataset", "--label", "summary").out
    assert "RMSE" in gzoo("score", "predictions.parquet", "dataset", "--protocol", "gz-evo").out
    said = gzoo("catalog", "predictions.parquet", "dataset", "--out", "catalogue.fits")
    assert f"Wrote catalogue.fits ({scores['n_galaxies']} galaxies" in said.err
    assert "SIMULATED" in said.err
    said = gzoo("prioritize", "predictions.parquet", "dataset", "-n", "1", "--json")
    assert len(json.loads(said.out)["galaxies"]) == 1
    said = gzoo("prioritize", "predictions.parquet", "dataset", "-n", "1")
    assert len(said.out.splitlines()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "sky", "dataset", "run", "predictions.parquet", "report.html", "catalogue.fits", "catalogue.fits.ReadMe",
    }  # fmt: skip


def test_build_says_what_it_left_out(gzoo: Command, sky: SimulateResult, tmp_path: Path) -> None:
    shutil.copytree(sky.images, tmp_path / "images")
    first, second = sorted((tmp_path / "images").iterdir())[:2]
    first.unlink()
    second.write_bytes(b"")
    said = gzoo("build", "gz2", "--votes", sky.votes, "--images", tmp_path / "images", "--out", tmp_path / "d")
    assert said.code == 0
    assert "58 galaxies" in said.err
    assert "Dropped 2 galaxies: image missing (1), image unusable (1)." in said.err


@pytest.mark.parametrize("spoil", ["no rows", "strange column", "no images", "no table", "text", "no folder"])
def test_build_fails_with_one_message_and_leaves_nothing(
    gzoo: Command, sky: SimulateResult, tmp_path: Path, spoil: str
) -> None:
    votes, images = tmp_path / "votes.parquet", sky.images
    table = pl.read_parquet(sky.votes)
    if spoil == "no rows":
        table = table.head(0)
    if spoil == "strange column":
        table = table.with_columns(colour=pl.lit("blue"))
    if spoil == "no images":
        images = tmp_path / "empty"
        images.mkdir()
    if spoil == "no folder":
        images = tmp_path / "nowhere"
    if spoil != "no table":
        table.write_parquet(votes)
    if spoil == "text":
        votes.write_text("not Parquet")
    before = set(tmp_path.iterdir())
    words = {
        "no rows": "does not contain any rows",
        "strange column": "colour",
        "no images": "60 x image missing",
        "no table": "Vote table not found",
        "text": "Cannot read",
        "no folder": "Folder or archive not found",
    }
    message = gzoo.fails("build", "gz2", "--votes", votes, "--images", images, "--out", tmp_path / "d")
    assert words[spoil] in message
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("what", ["empty folder", "file", "nothing", "unfinished", "damaged"])
def test_a_folder_that_is_no_dataset_is_refused_by_every_command(
    gzoo: Command, run: Path, dataset: Path, tmp_path: Path, what: str
) -> None:
    folder, predictions = tmp_path / "folder", tmp_path / "predictions.parquet"
    prediction.predict(run, dataset, out=predictions)
    if what == "empty folder":
        folder.mkdir()
    elif what == "file":
        folder.write_text("a file")
    elif what == "unfinished":
        (tmp_path / ".folder.gzoo-partial").mkdir()
    elif what == "damaged":
        shutil.copytree(dataset, folder)
        for shard in folder.glob("*/*.parquet"):
            shard.write_bytes(shard.read_bytes()[:100])
    before = set(tmp_path.iterdir())
    messages = {
        gzoo.fails("train", folder, "--out", tmp_path / "run", *SMALL),
        gzoo.fails("score", predictions, folder),
        gzoo.fails("catalog", predictions, folder, "--out", tmp_path / "catalogue.fits"),
        gzoo.fails("prioritize", predictions, folder),
    }
    said = gzoo.fails("predict", run, folder, "--out", tmp_path / "other.parquet")  # which takes a folder of images
    if what == "empty folder":
        assert "none of its 0 files is an image" in said
    else:
        messages.add(said)
    wanted = {"nothing": "not found", "unfinished": "not finished", "damaged": "Cannot read"}
    lacking = wanted.get(what, "not a dataset folder")
    assert [message for message in messages if lacking not in message] == []
    assert set(tmp_path.iterdir()) == before


def test_what_is_no_run_is_refused(gzoo: Command, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.parquet"
    assert "not found" in gzoo.fails("predict", tmp_path / "run", dataset, "--out", out)
    assert "not a run folder" in gzoo.fails("predict", dataset, dataset, "--out", out)
    (tmp_path / ".run.gzoo-partial").mkdir()
    assert "not finished" in gzoo.fails("predict", tmp_path / "run", dataset, "--out", out)


def test_an_unknown_split_is_refused(gzoo: Command, run: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.parquet"
    assert "'dev' not found" in gzoo.fails("predict", run, dataset, "--split", "dev", "--out", out)
    assert not out.exists()


def test_scores_of_seen_and_of_other_galaxies(gzoo: Command, run: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.parquet"
    n = len(open_dataset(dataset).read_votes("train")[0])
    assert f"trained on {n} of these" in gzoo("predict", run, dataset, "--split", "train", "--out", out).err
    assert "--include-trained-on" in gzoo.fails("score", out, dataset)
    said = gzoo("score", out, dataset, "--include-trained-on")
    assert said.code == 0
    assert f"trained on {n} of these" in said.err
    pl.read_parquet(out).with_columns(id_str=pl.lit("?") + pl.col("id_str")).write_parquet(out)
    assert f"that are not in '{dataset}'" in gzoo.fails("score", out, dataset)


def test_results_are_kept_without_overwrite(
    gzoo: Command, sky: SimulateResult, run: Path, dataset: Path, tmp_path: Path
) -> None:
    commands: dict[str, list[str | Path]] = {
        "simulate": ["simulate", "gz2", "--n-galaxies", "3"],
        "build": ["build", "gz2", "--votes", sky.votes, "--images", sky.images],
        "train": ["train", dataset, *SMALL],
        "predict": ["predict", run, dataset],
    }
    for name, words in commands.items():
        ending = ".parquet" if name == "predict" else ""
        out = tmp_path / f"{name}{ending}"
        assert gzoo(*words, "--out", out).code == 0
        assert "already" in gzoo.fails(*words, "--out", out)
        assert gzoo(*words, "--out", out, "--overwrite").code == 0
        foreign = tmp_path / f"foreign {name}{ending}"
        foreign.mkdir()
        (foreign / "notes.txt").write_text("mine")
        assert "that gzoo made" in gzoo.fails(*words, "--out", foreign, "--overwrite")
        assert [path.name for path in foreign.iterdir()] == ["notes.txt"]


def test_a_nan_loss_ends_the_command(
    gzoo: Command, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = heads.dirichlet_multinomial_nll
    monkeypatch.setattr(
        heads, "dirichlet_multinomial_nll", lambda *given, **named: real(*given, **named) * float("nan")
    )
    message = gzoo.fails("train", dataset, "--out", tmp_path / "run", *SMALL)
    assert "simulated-gz2-1-" in message
    assert not (tmp_path / "run").exists()


def test_brackets_in_a_message_are_shown(gzoo: Command, tmp_path: Path) -> None:
    """Rich would take them for markup."""
    assert "[red]x" in gzoo.fails("train", tmp_path / "[red]x", "--out", tmp_path / "run")


def test_ctrl_c_ends_with_a_hint(gzoo: Command, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "predict_concentrations", interrupt)  # after the last epoch
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        said = gzoo("train", dataset, "--out", tmp_path / "run", *SMALL)
    finally:
        signal.signal(signal.SIGINT, before)
    assert said.code == 130
    assert "Rerun the same command to resume" in said.err
    assert not (tmp_path / "run").exists()
    assert files.partial_name(tmp_path / "run").exists()


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    # a shell that runs tests in the background may have made them deaf to Ctrl-C
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import gzoo.cli; gzoo.cli.main()"
    words = [sys.executable, "-c", start, "train", dataset, "--out", out, *SMALL[:4], "--epochs", "5000"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=dict(os.environ))
    partial = files.partial_name(out)
    until = time.monotonic() + 120
    while not (partial / "last.ckpt").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Rerun the same command to resume" in err
    assert "Traceback" not in err
    assert not out.exists()


@dataclass(frozen=True, repr=False)
class Found(Shown):
    n_rows: int


def test_json_carries_each_warning_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def audited(table: Path) -> Found:
        """Audit."""
        for text in ("ids are rounded", "ids are rounded", "a title line was skipped"):
            warnings.warn(text, GZooWarning, stacklevel=1)
        return Found(1)

    monkeypatch.setattr("gzoo.audit", audited)
    monkeypatch.setattr(cli.show, "audit", lambda found, given, screen: screen.warn("two questions have no votes"))
    shown: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *rest, **more: shown.append(str(message)))
        cli.command("audit")(Path("votes.csv"), as_json=True)
    expected = ["ids are rounded", "a title line was skipped"]
    with_those_of_the_screen = [*expected, "two questions have no votes"]
    assert json.loads(capsys.readouterr().out) == {"n_rows": 1, "warnings": with_those_of_the_screen}
    assert shown == expected


# ----------------------------------------------------------------------------------------------------
# Quiet, verbose, and what to do next


def test_offline_refuses_to_read_from_the_hub(tmp_path: Path) -> None:
    """In a process of its own, since the Hub's client reads its settings when it is imported."""
    words = [sys.executable, "-m", "gzoo", "score", "predictions.parquet", "gz2", "--offline"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment.pop("HF_HUB_OFFLINE", None)
    said = subprocess.run(words, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert said.returncode == 9, said.stderr
    assert "The Hub is not contacted" in said.stderr
    assert "Omit --offline" in said.stderr
    assert "Traceback" not in said.stderr


def test_quiet_prints_the_result_and_verbose_the_time_of_each_step(
    gzoo: Command, sky: SimulateResult, tmp_path: Path
) -> None:
    words = ("build", "gz2", "--votes", sky.votes, "--no-images", "--out")
    usual, quiet, verbose = (
        gzoo(*words, tmp_path / f"built{option}", *[option] * bool(option)) for option in ("", "--quiet", "--verbose")
    )
    assert [said.code for said in (usual, quiet, verbose)] == [0, 0, 0]
    kept = [line for line in quiet.err.splitlines() if not line.startswith("Warning: ")]
    assert len(kept) == 1
    assert kept[0].startswith("Wrote ")
    assert re.search(r"^In total: \d+\.\d s$", verbose.err, re.MULTILINE)
    assert "In total" not in usual.err
    assert "exclude each other" in gzoo(*words, tmp_path / "x", "--quiet", "--verbose").err
    said = gzoo("score", "nothing.parquet", tmp_path / "built", "--quiet")
    assert (said.code, said.out) == (1, "")
    assert "Prediction file not found" in said.err
    assert "Traceback" not in said.err
    assert "Traceback" in gzoo("score", "nothing.parquet", tmp_path / "built", "--verbose").err


@pytest.mark.parametrize("verb", sorted(cli.LOADS_TORCH))
def test_help_does_not_announce_torch(gzoo: Command, verb: str) -> None:
    said = gzoo(verb, "--help")
    assert said.code == 0
    assert "--out" in said.out
    assert "Loading torch" not in said.out + said.err


def next_of(said: Said) -> list[str]:
    [line] = [line for line in said.err.splitlines() if line.startswith("Next: ")]
    return shlex.split(line.removeprefix("Next: gzoo "))


def test_the_next_command_that_is_suggested_works(gzoo: Command, sky: SimulateResult, tmp_path: Path) -> None:
    folder = tmp_path / "a name with 'quotes'"
    folder.mkdir()
    built = gzoo("build", "gz2", "--votes", sky.votes, "--no-images", "--out", folder / "votes")
    assert next_of(built) == ["check", str(folder / "votes")]  # it cannot be trained on
    assert gzoo(*next_of(built)).code == 0
    table = folder / "test.parquet"
    pl.read_parquet(sky.votes).with_columns(split=pl.lit("test")).write_parquet(table)
    words = ("--votes", table, "--images", sky.images, "--split-column", "split", "--out", folder / "test")
    assert next_of(gzoo("build", "gz2", *words))[0] == "check"
    built = gzoo("build", "gz2", "--votes", sky.votes, "--images", sky.images, "--out", folder / "galaxies")
    trained = gzoo(*next_of(built), *SMALL)
    predicted = gzoo(*next_of(trained))
    assert gzoo(*next_of(predicted)).code == 0
    for split in ("validation", "train"):
        predicted = gzoo(
            "predict", folder / "run", folder / "galaxies", "--split", split, "--out", folder / f"{split}.parquet"
        )
        assert next_of(predicted)[-1] == "--include-trained-on"
        assert gzoo(*next_of(predicted)).code == 0
    votes = pl.read_parquet(sky.votes)
    splits = pl.Series(["train", "test"] * votes.height).head(votes.height)
    votes.with_columns(id_str="other-" + pl.col("id_str"), ra=pl.col("ra") % 359 + 1, split=splits).write_parquet(table)
    words = ("--votes", table, "--images", sky.images, "--split-column", "split", "--out", folder / "published")
    assert gzoo("build", "gz2", *words).code == 0
    predicted = gzoo("predict", folder / "run", folder / "published", "--out", folder / "published.parquet")
    assert "split by another scheme" in predicted.err
    assert gzoo(*next_of(predicted)).code == 0
    mapped = gzoo("mapping", sky.classifications, "gz2", "--workflows", sky.workflows, "--out", folder / "mapping.toml")
    line = next(one for one in mapped.err.splitlines() if one.startswith("Next: "))
    places = {"IMAGES": str(sky.images), "OUT": str(folder / "counted")}
    named = [places.get(word, word) for word in shlex.split(line.partition("then run gzoo ")[2])]
    assert gzoo(*named).code == 0
