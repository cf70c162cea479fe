"""Commands as the shell runs them; failed requests are repeated without pauses."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable

import pytest

from gzoo.cli import main


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command; return its exit code and all that it wrote."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gzoo", *words])
        capfd.readouterr()
        with warnings.catch_warnings(), pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), "".join(capfd.readouterr())

    return run
