"""What a command says of its progress without a terminal."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from gzoo.cli import screen
from gzoo.cli.screen import Bars


def test_plain_lines_say_what_is_done_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = [0.0], list[str]()
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    bars = Bars(Progress(disable=True), lines.append)
    for second in range(0, 41):
        now[0] = float(second)
        bars.report("Drawing galaxies", 100 * second, 4_000)
    assert lines == [
        "Drawing galaxies: 1,000 of 4,000, 0:00:30 left",
        "Drawing galaxies: 2,000 of 4,000, 0:00:20 left",
        "Drawing galaxies: 3,000 of 4,000, 0:00:10 left",
        "Drawing galaxies: 4,000 of 4,000",
    ]
    lines.clear()
    bars.report("Reading", 0, 2)  # a short stage says nothing
    bars.report("Reading", 2, 2)
    bars.report("Training model", 0, 4)
    bars.report("Training model (epoch 1 of 2: loss 3)", 2, 4)
    bars.report("Training model (epoch 1 of 2: loss 3)", 3, 4)
    bars.report("Training model (epoch 2 of 2: loss 2)", 4, 4)
    assert [line.partition(", ")[2].partition(",")[0] for line in lines] == [
        "epoch 1 of 2: loss 3",
        "epoch 2 of 2: loss 2",
    ]
    assert bars.seconds["Training model"] == 0.0


def test_a_transfer_begins_with_its_size() -> None:
    lines = list[str]()
    bars = Bars(Progress(disable=True), lines.append)
    for done in (0, 1, 2_000):
        bars.report("Downloading owner/name from the Hub (MB)", done, 2_000)
    assert lines == ["Downloading owner/name from the Hub (MB): 2,000"]
