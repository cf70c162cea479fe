"""What Lightning's training loop knows of a loader and does not tell it.

Lightning saves and loads the state of a loader, but

- from a loader without a length it fetches a batch ahead, so that the state is one batch ahead of the training;
- if a batch fails, it repeats that batch after resuming, although the loader has handed it over;
- with `limit_train_batches`, an epoch of training ends before that of the loader;
- if `trainer.estimated_stepping_batches` is read before the checkpoint is, the state is not loaded at all (Lightning
  issue 20550), and the batches of the epoch's start are trained on again.

So the loader looks for the loop among its callers. These names of Lightning are private; a test with Lightning's own
loop fails if they change.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

_LOOPS = ("lightning.pytorch.loops.fit_loop", "pytorch_lightning.loops.fit_loop")


@dataclass(frozen=True, slots=True)
class TrainingLoop:
    """Lightning's training loop, as it runs now.

    Attributes:
        n_processed: Number of batches of this epoch on which the model was trained.
        n_unused: Number of batches that the loader has handed over, but on which the model was not trained.
        is_ahead: Whether Lightning fetches a batch ahead.
        is_done: Whether it has trained on each batch that it has begun.
        is_last: Whether the last of these was the last one of the epoch.
        is_training: Whether it asks for a batch to train on, not yet preparing to.
        is_resumed: Whether it continues from a checkpoint.
        unread_state: State of the loader in the checkpoint, if Lightning has not loaded it.
    """

    n_processed: int
    n_unused: int
    is_ahead: bool
    is_done: bool
    is_last: bool
    is_training: bool
    is_resumed: bool
    unread_state: Mapping[str, object] | None


def training_loop(loader: object, *, takes_state: bool = False) -> TrainingLoop | None:
    """Return the loop that calls a loader now, if it trains on that loader alone.

    Args:
        loader: The loader.
        takes_state: Whether the caller loads `unread_state`, which is then gone.
    """
    if not any(name in sys.modules for name in _LOOPS):
        return None
    frame, is_training = sys._getframe(1), False  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        owner: Any = frame.f_locals.get("self") if "loops" in frame.f_code.co_filename else None
        kind = type(owner).__name__
        if kind == "_EvaluationLoop":
            return None
        is_training |= kind == "_TrainingEpochLoop" and frame.f_code.co_name == "advance"
        if kind == "_FitLoop":
            return _described(owner, loader, is_training, takes_state)
        frame = frame.f_back
    return None


def _described(loop: Any, loader: object, is_training: bool, takes_state: bool) -> TrainingLoop | None:
    if loop._combined_loader is None or [id(one) for one in loop._combined_loader.flattened] != [id(loader)]:
        return None
    batches, fetcher = loop.epoch_loop.batch_progress.current, loop._data_fetcher
    unread = cast("list[Mapping[str, object]]", loop._combined_loader_states_to_load)
    if unread and takes_state:
        loop._combined_loader_states_to_load = []
    return TrainingLoop(
        n_processed=batches.processed,
        n_unused=len(getattr(fetcher, "batches", ())) + batches.ready - batches.processed,
        is_ahead=fetcher is not None and fetcher.length is None,
        is_done=batches.ready == batches.processed,
        is_last=batches.ready > 0 and loop.epoch_loop._num_ready_batches_reached(),
        is_training=is_training,
        is_resumed=loop.trainer.ckpt_path is not None,
        unread_state=unread[0] if unread else None,
    )
