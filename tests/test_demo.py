"""Demo: the main job in one command, stopped anywhere and gone on with, saying what it is and not where it was made."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from gzoo import files
from gzoo.demonstration import DemoResult, demo
from gzoo.errors import InputError, OutputExistsError

STAGES = ("drawing", "reading votes", "planning", "writing shards", "training", "predicting", "scoring")
TOKEN = "hf_secretOfThisTestAndNoOther"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small(out: Path, **settings: object) -> DemoResult:
    chosen = {"n": 100, "epochs": 1, "encoder": "mobilenetv3_small_050", "size": 32, "workers": 1} | settings
    return demo(out=out, **chosen)  # type: ignore[arg-type]


def test_stopped_at_every_stage_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    waiting = list(STAGES)

    def stop(stage: str, done: int, total: int) -> None:
        if waiting and stage.startswith(waiting[0]) and done >= total / 2:
            waiting.pop(0)
            raise KeyboardInterrupt

    out = tmp_path / "stopped"
    for stage in STAGES:
        with pytest.raises(KeyboardInterrupt):
            small(out, progress=stop)
        assert stage not in waiting
        assert not out.exists()
    drawn: list[str] = []
    small(out, progress=lambda stage, done, total: drawn.append(stage))
    assert set(drawn) == {"scoring"}
    small(tmp_path / "undisturbed")
    stopped, undisturbed = contents(out), contents(tmp_path / "undisturbed")
    assert stopped.keys() == undisturbed.keys()
    assert [name for name in stopped if stopped[name] != undisturbed[name]] == []
    assert {path.name for path in tmp_path.iterdir()} == {"stopped", "undisturbed"}


def test_demos_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="n is 99"):
        small(tmp_path / "out", n=99)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo.json").write_text('{"name": "of someone else"}')
    with pytest.raises(OutputExistsError, match="did not make"):
        small(tmp_path / "out", overwrite=True)


def words_in(path: Path) -> str:
    """All that a file says, what Parquet keeps compressed too."""
    text = path.read_bytes().decode("latin-1")
    if path.suffix == ".parquet":
        text += str(pq.read_schema(path).metadata)
        text += str(pl.read_parquet(path).select(pl.col(pl.String)).to_dict(as_series=False))
    return text


def test_the_command_makes_it_all_and_tells_nothing_of_this_machine(tmp_path: Path) -> None:
    home = tmp_path / "home of a user"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "gzoo.cli", "demo", "--out", "made", "--n", "100", "--epochs", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    made = tmp_path / "made"
    for name in ("simulation", "dataset", "run", "predictions.parquet", "scores.json", "report.html"):
        assert (made / name).exists()
        assert f"made/{name}" in done.stderr
    assert "Next: " in done.stderr.splitlines()[-1]
    assert "imulated" in done.stderr

    secrets = {str(tmp_path), str(home), TOKEN, str(Path.cwd()), str(Path(sys.executable).parent), ".gzoo-partial"}
    secrets |= {name for name in (socket.gethostname(), str(Path.home())) if len(name) > 5}
    contents = [path for path in made.rglob("*") if path.is_file()]
    assert len(contents) > 100
    for path in files:
        said = words_in(path)
        assert [secret for secret in secrets if secret in said] == [], path
        if path.suffix in {".json", ".md", ".html", ".csv"}:
            assert not re.search(r"(?<![\w.])/(?:home|root|tmp|Users|work)/", said), path
    assert TOKEN not in done.stderr
    assert str(tmp_path) not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"home of a user", "made"}

    for name in ("dataset/manifest.json", "run/run.json"):
        assert '"is_simulated": true' in (made / name).read_text("utf-8")
    for name in ("dataset/README.md", "report.html", "simulation/simulation.json"):
        assert "imulat" in (made / name).read_text("utf-8")
    predictions = pl.read_parquet(made / "predictions.parquet")
    assert set(predictions["dataset_name"]) == {"gz2_simulated"}
    scores = json.loads((made / "scores.json").read_text("utf-8"))
    assert scores["n_galaxies"] == predictions.height
    assert files.read_json(made / "demo.json")["n"] == 100
