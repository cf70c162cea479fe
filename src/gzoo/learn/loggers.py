"""Loggers of other tools: they get the numbers of each epoch that metrics.csv has."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gzoo import files
from gzoo.errors import InputError, MissingExtraError, choices

LOGGERS = ("tensorboard", "wandb")

Log = Callable[[int, Mapping[str, float]], None]
"""Takes the number of an epoch, and numbers by their names."""


def require_logger(logger: str | None) -> None:
    """Check that a logger can be used.

    Raises:
        InputError: It is not the name of a logger.
        MissingExtraError: Its package is not installed.
    """
    if logger is None:
        return
    if logger not in LOGGERS:
        raise InputError(f"Invalid value for logger: '{logger}'.", choices(LOGGERS))
    if importlib.util.find_spec(logger) is None:
        raise MissingExtraError(
            f"Logging to {logger} requires the package {logger}.", hint=f'Run `pip install "gzoo[{logger}]"`.'
        )


@contextmanager
def epoch_logger(logger: str | None, work: Path, name: str, settings: Mapping[str, object]) -> Generator[Log]:
    """Yield the function that logs an epoch.

    Args:
        logger: "tensorboard", "wandb" or None.
        work: Folder of the run while it is trained; TensorBoard's files go to `tensorboard` in it.
        name: Name of the run.
        settings: What determines the training. The same training resumes the same run of Weights & Biases.
    """
    if logger == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(work / "tensorboard")) as writer:

            def write(step: int, row: Mapping[str, float]) -> None:
                for key, value in row.items():
                    writer.add_scalar(key, value, step)
                writer.flush()

            yield write
    elif logger == "wandb":
        wandb: Any = importlib.import_module("wandb")
        kept = {key: value for key, value in settings.items() if isinstance(value, str | int | float | None)}
        about: dict[str, Any] = {"project": "gzoo", "name": name, "id": files.digest(settings)[:32], "config": kept}
        with wandb.init(**about, resume="allow") as run:

            def send(step: int, row: Mapping[str, float]) -> None:
                run.log(dict(row), step=step)

            yield send
    else:
        yield lambda step, row: None
