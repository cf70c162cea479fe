"""What commands write to the terminal: results to standard output, everything else to standard error."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_console = Console(stderr=True)

Given = Mapping[str, Any]
"""Arguments of a command, by name."""


SECONDS_BETWEEN_LINES = 10.0
SECONDS_TO_DETAILS = 1.0  # details of the last part come right after it, and need no line of their own before


@dataclass(slots=True)
class Stage:
    """A stage of a command without a terminal.

    Attributes:
        started: When it began.
        first: How much was done then.
        said: When its last line was written.
        details: The details of that line.
    """

    started: float
    first: int
    said: float
    details: str


@dataclass(slots=True)
class Bars:
    """A progress bar for each stage; plain lines without a terminal.

    Attributes:
        seconds: Seconds spent in each stage so far.
        lines: Function that writes a line, or None in a terminal.
    """

    bars: Progress
    lines: Callable[[str], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    tasks: dict[str, TaskID] = field(default_factory=dict[str, TaskID])
    stages: dict[str, Stage] = field(default_factory=dict[str, Stage])
    last: float = field(default_factory=time.monotonic)

    def report(self, stage: str, done: int, total: int) -> None:
        """Show that a part of a stage is done; a stage may end in details in brackets, which change."""
        now = time.monotonic()
        name, _, details = stage.partition(" (")
        self.seconds[name], self.last = self.seconds.get(name, 0.0) + now - self.last, now
        if self.lines is not None:
            self._write(name, details.removesuffix(")"), done, total, now)
            return
        if not self.tasks:
            self.bars.start()
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(stage, total=total)
        self.bars.update(self.tasks[name], description=stage, completed=done, total=total)

    def _write(self, name: str, details: str, done: int, total: int, now: float) -> None:
        """Write a line when details change, every ten seconds, and at the end of a stage that had lines.

        Where details are a unit, such as MB, the stage is a transfer, whose first line says how large it is.
        """
        is_transfer = details.isupper()
        if is_transfer:
            name, details = f"{name} ({details})", ""
        if name not in self.stages:
            self.stages[name] = Stage(now, done, now, details)
            if is_transfer and self.lines is not None and done < total:
                self.lines(f"{name}: {total:,}")
        stage = self.stages[name]
        is_over = done >= total and stage.said > stage.started and now - stage.said >= SECONDS_TO_DETAILS
        if details == stage.details and now - stage.said < SECONDS_BETWEEN_LINES and not is_over:
            return
        stage.said, stage.details = now, details
        words = [f"{name}: {done:,} of {total:,}", *([details] if details else [])]
        if stage.first < done < total:
            left = (now - stage.started) / (done - stage.first) * (total - done)
            words.append(f"{timedelta(seconds=round(left))} left")
        if self.lines is not None:
            self.lines(", ".join(words))


@dataclass(frozen=True, slots=True)
class Screen:
    """The terminal of a command.

    Attributes:
        is_json: Whether standard output holds one JSON object, and so nothing else.
        is_quiet: Whether standard error holds nothing but errors, warnings and what was written.
        warned: The warnings that were shown.
    """

    is_json: bool = False
    is_quiet: bool = False
    warned: list[str] = field(default_factory=list[str])

    def print(self, text: str = "") -> None:
        """Print a result."""
        if not self.is_json:
            print(text)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Print a table with aligned columns, the first row being its heading."""
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            self.print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    def say(self, text: str) -> None:
        """Write a line about the work to standard error."""
        if not self.is_quiet:
            self.result(text)

    def result(self, text: str) -> None:
        """Write a line to standard error that a quiet command keeps, such as which file was written."""
        _console.print(text, markup=False, highlight=False, soft_wrap=True)

    def next(self, *words: object) -> None:
        """Suggest the next command, which can be copied to a shell."""
        self.say(f"Next: {shlex.join(['gzoo', *map(str, words)])}")

    def warn(self, text: str) -> None:
        """Write a warning to standard error."""
        self.warned.append(text)
        self.result(f"Warning: {text}")

    def error(self, text: str) -> None:
        """Write an error to standard error."""
        _console.print("[bold red]Error:[/] ", end="")
        self.result(text)

    @contextmanager
    def progress(self) -> Generator[Bars]:
        """Show a bar for each stage that reports, until the block ends."""
        texts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        lines = None if _console.is_terminal or self.is_quiet else self.say
        bars = Bars(Progress(*texts, *times, console=_console, disable=self.is_quiet), lines)
        try:
            yield bars
        finally:
            if bars.tasks:
                bars.bars.stop()


def width() -> int | None:
    """Return the width of tables: that of the terminal, or 140 columns where there is none."""
    return None if sys.stdout.isatty() else 140
