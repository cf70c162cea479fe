"""Processes that train one model together, each on its own device: of one command, or started by `torchrun`.

All of them run the same function. The first one also writes files and reports; the others take part in the steps, and
end with the same result. Each step trains on the batches of all processes, as one process would with a larger batch.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from gzoo.errors import GZooError, InputError

T = TypeVar("T")
_WAIT = timedelta(days=7)  # the others wait while the first one reads, judges and writes


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a training.

    Attributes:
        rank: Number of this process; that of the first one is 0.
        size: Number of processes.
        size_here: Number of them on this machine.
    """

    rank: int = 0
    size: int = 1
    size_here: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def of_first(self, value: T) -> T:
        """Return the value that the first process has."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def of_all(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their numbers."""
        if self.size == 1:
            return [value]
        boxes: list[Any] = [None] * self.size
        distributed.all_gather_object(boxes, value)
        return boxes

    def sums(self, *numbers: float) -> list[float]:
        """Return the sum of each number over all processes."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(sums)
        return sums.tolist()

    def with_shared_gradients(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the model for training steps, whose gradients are averaged over all processes."""
        return model if self.size == 1 else DistributedDataParallel(model)

    def share_state(self, model: torch.nn.Module) -> None:
        """Set parameters and buffers to those of the first process."""
        if self.size > 1:
            for value in model.state_dict().values():
                distributed.broadcast(value, src=0)

    def meeting_place(self, device: torch.device) -> torch.device:
        """Return where values that all processes get can be: each has a device of its own."""
        return device if self.size == 1 else torch.device("cpu")

    def all_batches(self, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the batches of all processes."""
        if self.size == 1:
            return batches
        return [each for part in self.of_all([(one.cpu(), other.cpu()) for one, other in batches]) for each in part]

    def mean(self, losses: torch.Tensor, n_together: float) -> torch.Tensor:
        """Return what to differentiate, so that gradients are those of the mean loss over the batches of all processes.

        Args:
            losses: Loss of each galaxy in the batch of this process.
            n_together: Number of galaxies in the batches of all.
        """
        return losses.mean() if self.size == 1 else losses.sum() * (self.size / n_together)


ALONE = Processes()


def current() -> Processes:
    """Return the processes that this one belongs to: those of torch.distributed, which `torchrun` starts."""
    if not distributed.is_available():
        return ALONE
    if distributed.is_torchelastic_launched() and not distributed.is_initialized():
        device = distributed.get_node_local_rank()  # pyright: ignore[reportPrivateImportUsage]
        _join("env://", device)
        atexit.register(distributed.destroy_process_group)
    if not distributed.is_initialized():
        return ALONE
    size = distributed.get_world_size()
    return Processes(distributed.get_rank(), size, min(size, torch.cuda.device_count() or size))


def run_together(function: Callable[..., T], arguments: Mapping[str, Any], n: int) -> T:
    """Call a function in this process, as the first, and in n - 1 others; return what it returns here.

    Args:
        function: Function of a module.
        arguments: Its arguments; `progress` stays in this process.
        n: Number of processes.

    Raises:
        InputError: There are fewer devices.
        GZooError: What the function raises in any process, or a process was killed.
    """
    if torch.cuda.is_available() and n > torch.cuda.device_count():
        raise InputError(f"devices is {n}, but this machine has {torch.cuda.device_count()} GPUs.")
    context = multiprocessing.get_context("spawn")
    others: list[tuple[BaseProcess, Connection]] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        meeting = f"file://{Path(folder).as_posix()}/processes"
        for rank in range(1, n):
            ours, theirs = context.Pipe()
            given = (theirs, meeting, rank, n, function, {**arguments, "progress": None})
            other = context.Process(target=_follow, args=given, daemon=True)
            other.start()
            theirs.close()
            others.append((other, ours))
        try:
            for rank, (other, pipe) in enumerate(others, 1):
                _receive(rank, other, pipe)  # after which it joins within a moment
            _join(meeting, 0, 0, n)
            return function(**arguments)
        except RuntimeError as error:  # torch has lost the connection to another process
            for rank, (other, pipe) in enumerate(others, 1):
                other.join(5)
                if not other.is_alive():
                    try:
                        _receive(rank, other, pipe)
                    except GZooError as cause:
                        raise cause from error
            raise
        finally:
            for other, _ in others:
                other.terminate()
                other.join()
            if distributed.is_initialized():
                distributed.destroy_process_group()


def _receive(rank: int, other: BaseProcess, pipe: Connection) -> None:
    """Wait for a process to say that it is well.

    Raises:
        GZooError: Its error, or that it was killed.
    """
    while not pipe.poll(0.1):
        if not other.is_alive():
            code = other.exitcode
            raise GZooError(
                f"Process {rank} of the training was killed" + (f" by signal {-code}." if code and code < 0 else "."),
                hint="Rerun the same command to resume, with fewer --devices if memory was short.",
            )
    try:
        error = pipe.recv()
    except EOFError:
        error = GZooError(f"Process {rank} of the training ended with exit code {other.exitcode}.")
    if error is not None:
        raise error


def _follow(
    pipe: Connection, meeting: str, rank: int, n: int, function: Callable[..., object], arguments: Mapping[str, Any]
) -> None:
    """Take part, as another process than the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    warnings.simplefilter("ignore")  # the first process shows them
    pipe.send(None)
    try:
        _join(meeting, rank, rank, n)
        function(**arguments)
    except GZooError as error:
        pipe.send(error)
        raise SystemExit(error.exit_code) from None


def _join(meeting: str, device: int, rank: int = -1, n: int = -1) -> None:
    """Join the other processes."""
    is_cuda = torch.cuda.is_available()
    if is_cuda:
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if is_cuda else "gloo"
    # of memory that depthwise filters have in another order; it costs little, and is nothing that a user could change
    warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=n, timeout=_WAIT)
