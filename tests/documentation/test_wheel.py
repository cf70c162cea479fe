"""The package as users install it: the wheel, in an environment without anything else, and with all extras."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
SMALL = ("--n-galaxies", "100", "--epochs", "1", "--encoder", "mobilenetv3_small_050", "--size", "32", "--workers", "1")
Gzoo = Callable[..., subprocess.CompletedProcess[str]]


def uv(*words: str | Path) -> None:
    if not Path(UV).exists():
        pytest.skip("uv is not installed; make .venv/ready installs it into .uv")
    done = subprocess.run([UV, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--wheel", "--out-dir", out, ROOT)
    (found,) = out.glob("*.whl")
    return found


def installed(wheel: Path, folder: Path, extra: str) -> Gzoo:
    """Return what runs `gzoo` of a fresh environment, in a folder of its own."""
    uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    constraint = ("--constraint", ROOT / "requirements.lock")
    uv("pip", "install", "--quiet", "--python", python, *constraint, f"gzoo{extra} @ {wheel.as_uri()}")
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}

    def gzoo(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "venv" / "bin" / "gzoo"), *words]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    return gzoo


def test_without_extras(wheel: Path, tmp_path: Path) -> None:
    gzoo = installed(wheel, tmp_path, "")
    assert "Datasets, models and evaluation" in gzoo("--help").stdout
    assert "gz2" in gzoo("campaigns").stdout
    assert "smooth-or-featured" in gzoo("tree", "gz2").stdout
    for extra, words in {
        "simulate": ("simulate", "gz2", "--n-galaxies", "4", "--out", "sky"),
        "learn": ("train", "galaxies", "--out", "run"),
        "explore": ("explore", "galaxies"),
    }.items():
        done = gzoo(*words)
        assert done.returncode == 1, words
        assert re.search(rf"pip install '?gzoo\[{extra}\]'?", done.stderr), done.stderr
        assert "Traceback" not in done.stderr


def test_with_all_extras(wheel: Path, tmp_path: Path) -> None:
    gzoo = installed(wheel, tmp_path, "[all]")
    assert "Datasets, models and evaluation" in gzoo("--help").stdout
    assert "gz2" in gzoo("campaigns").stdout
    done = gzoo("demo", "--out", "made", *SMALL)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / "report.html").exists()
