"""The demo: one command, resumable at every stage, whose files are marked as simulated and contain no local data."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from gzoo import cli, files
from gzoo.demonstration import DemoResult, demo
from gzoo.errors import InputError, OutputExistsError

STAGES = ("Drawing", "Reading", "Planning", "Writing", "Training", "Predicting", "Scoring")  # first words of the stages
TOKEN = "hf_secretOfThisTestAndNoOther"
ENCODER, SIZE = "mobilenetv3_small_050", 32


def small(out: Path, **settings: object) -> DemoResult:
    chosen = {"n_galaxies": 100, "epochs": 1, "encoder": ENCODER, "size": SIZE, "workers": 1} | settings
    return demo(out=out, **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of a user who runs the command in its parent folder."""
    folder = tmp_path_factory.mktemp("demo") / "home of a user"
    folder.mkdir()
    return folder


@dataclass(frozen=True)
class Said:
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def command(home: Path) -> Said:
    """The finished command, the same demo as `small`."""
    words = ["demo", "--out", "made", "--n-galaxies", "100", "--epochs", "1", "--encoder", ENCODER, "--size", str(SIZE)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name, value in {"HOME": str(home), "HF_TOKEN": TOKEN, "COLUMNS": "200"}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["gzoo", *words, "--workers", "1"])
        patch.chdir(home.parent)
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Said(code or 0, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file, of metrics.csv without the columns of times."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    metrics = pl.read_csv(found["run/metrics.csv"]).drop("images_per_second", "seconds")
    return found | {"run/metrics.csv": metrics.write_csv().encode()}


@pytest.mark.slow
def test_a_demo_interrupted_at_every_stage_gives_the_same_files(tmp_path: Path, home: Path, command: Said) -> None:
    waiting = list(STAGES)

    def stop(stage: str, done: int, total: int) -> None:
        if waiting and stage.startswith(waiting[0]) and done >= total / 2:
            waiting.pop(0)
            raise KeyboardInterrupt

    out = tmp_path / "interrupted"
    for stage in STAGES:
        with pytest.raises(KeyboardInterrupt):
            small(out, progress=stop)
        assert stage not in waiting
        assert not out.exists()
    stages: set[str] = set()
    small(out, progress=lambda stage, done, total: stages.add(stage.split()[0]))
    assert stages == {"Scoring"}
    assert command.returncode == 0, command.stderr
    interrupted, uninterrupted = contents(out), contents(home.parent / "made")
    assert interrupted.keys() == uninterrupted.keys()
    assert [name for name in interrupted if interrupted[name] != uninterrupted[name]] == []
    assert {path.name for path in tmp_path.iterdir()} == {"interrupted"}


def test_invalid_demos_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got 99"):
        small(tmp_path / "out", n_galaxies=99)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo.json").write_text('{"name": "of someone else"}')
    with pytest.raises(OutputExistsError, match="out"):
        small(tmp_path / "out", overwrite=True)


def text_of(path: Path) -> str:
    """Return the content of a file as text, including the strings that Parquet compresses."""
    text = path.read_bytes().decode("latin-1")
    if path.suffix == ".parquet":
        text += str(pq.read_schema(path).metadata)
        text += str(pl.read_parquet(path).select(pl.col(pl.String)).to_dict(as_series=False))
    return text


def test_the_command_writes_all_files_without_local_data(home: Path, command: Said) -> None:
    assert command.returncode == 0, command.stderr
    assert command.stdout == ""
    made = home.parent / "made"
    for name in (
        "simulation",
        "dataset",
        "run",
        "predictions.parquet",
        "catalogue.parquet",
        "matches.parquet",
        "scores.json",
        "report.html",
    ):
        assert (made / name).exists()
        assert f"made/{name}" in command.stderr
    assert command.stderr.splitlines()[-1] == "Next: gzoo explore made/predictions.parquet made/dataset"
    assert "imulated" in command.stderr

    secrets = {str(home.parent), str(home), TOKEN, str(Path.cwd()), str(Path(sys.executable).parent), ".gzoo-partial"}
    secrets |= {name for name in (socket.gethostname(), str(Path.home())) if len(name) > 5}
    written = [path for path in made.rglob("*") if path.is_file()]
    assert len(written) > 100
    for path in written:
        text = text_of(path)
        assert [secret for secret in secrets if secret in text] == [], path
        if path.suffix in {".json", ".md", ".html", ".csv"}:
            assert not re.search(r"(?<![\w.])/(?:home|root|tmp|Users|work)/", text), path
    assert TOKEN not in command.stderr
    assert str(home.parent) not in command.stderr
    assert {path.name for path in home.parent.iterdir()} == {"home of a user", "made"}

    for name in ("dataset/manifest.json", "run/run.json"):
        assert '"is_simulated": true' in (made / name).read_text("utf-8")
    for name in ("dataset/README.md", "report.html", "simulation/simulation.json"):
        assert "imulat" in (made / name).read_text("utf-8")
    predictions = pl.read_parquet(made / "predictions.parquet")
    assert set(predictions["dataset_name"]) == {"gz2_simulated"}
    scores = json.loads((made / "scores.json").read_text("utf-8"))
    assert scores["n_galaxies"] == predictions.height
    matched = pl.read_parquet(made / "matches.parquet").filter(fate="matched")
    assert sorted(matched["a_row"]) == list(range(predictions.height)) == list(range(scores["n_galaxies"]))
    assert files.read_json(made / "demo.json")["n_galaxies"] == 100
