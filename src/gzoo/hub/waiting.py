"""Waiting for another machine: a line while it is silent, an end to silence, and Ctrl-C at any time.

Requests run in threads that end with the process. The thread that needs their answers waits for messages, so that an
interrupt reaches it wherever a request hangs, in the sockets of Python or in the code of another library.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from gzoo.errors import GZooWarning, HubError

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # without a byte of an answer
WRITE_SECONDS = 120.0  # the same, for what the other machine has to work on, such as a commit
LINE_SECONDS = 10.0  # of silence before the first line; before each further one it is twice as long
RESCUE_SECONDS = 25.0  # of silence before another way is tried, if there is one
MAX_SECONDS = 90.0  # of silence before a download counts as failed
STOP_SECONDS = 2.0  # that threads have to end in after an interrupt
POLL_SECONDS = 0.25

Task = TypeVar("Task")
Answer = TypeVar("Answer")
_Result = tuple[int, Any, BaseException | None]


class Stopped(BaseException):
    """Ends a thread whose answer nobody waits for any more."""


@dataclass
class Watch:
    """The signs of life of another machine while somebody waits for it.

    Attributes:
        read_seconds: Seconds without a byte after which one request fails.
        last: When the last sign was seen; in the future while the other machine has asked for a pause.
        is_stopped: Whether nobody waits any more.
        messages: Sentences to show; results (number of the task, answer, error); None for each thread that ended.
    """

    read_seconds: float = READ_SECONDS
    last: float = field(default_factory=time.monotonic)
    is_stopped: bool = False
    messages: SimpleQueue[str | _Result | None] = field(default_factory=SimpleQueue)

    def note(self) -> None:
        """Take a sign of life.

        Raises:
            Stopped: Nobody waits any more.
        """
        if self.is_stopped:
            raise Stopped
        self.last = max(self.last, time.monotonic())

    def pause(self, seconds: float) -> None:
        """Take a request of the other machine not to be asked for a while."""
        self.last = max(self.last, time.monotonic() + seconds)
        self.say(f"The Hub is busy (429) and asks for a pause: the next request is in {seconds:,.0f} s.")

    def say(self, text: str) -> None:
        """Show a sentence in the thread that waits."""
        self.messages.put(text)


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


def current() -> Watch | None:
    """Return the watch of whoever waits for this thread, if somebody does."""
    return _WATCH.get()


def attend(
    work: Callable[[Task], Answer],
    tasks: Sequence[Task],
    what: str,
    *,
    n_threads: int = 1,
    is_upload: bool = False,
    rescue: Callable[[], bool] | None = None,
    stop: Callable[[], None] | None = None,
) -> list[Answer]:
    """Return the answers to tasks, in their order, while threads wait for another machine.

    After an error no further task is started, and those that run are waited for. After an interrupt they are not.

    Args:
        work: Function of one task.
        tasks: The tasks.
        what: What is waited for, for the lines.
        n_threads: Number of tasks that run at once.
        is_upload: Whether silence is not a failure, because the other machine has to work or to receive.
        rescue: Function that is called once after a long silence, to try another way; it returns whether there is one.
        stop: Function that ends what runs outside of Python's threads, after an interrupt.

    Raises:
        HubError: The other machine was silent for too long.
    """
    watch, waiting = Watch(WRITE_SECONDS if is_upload else READ_SECONDS), SimpleQueue[tuple[int, Task]]()
    for pair in enumerate(tasks):
        waiting.put(pair)
    is_failed = threading.Event()

    def run() -> None:
        _WATCH.set(watch)
        while not (is_failed.is_set() or watch.is_stopped or waiting.empty()):
            with contextlib.suppress(Empty):
                i, task = waiting.get_nowait()
                try:
                    watch.messages.put((i, work(task), None))
                except BaseException as error:
                    is_failed.set()
                    if isinstance(error, KeyboardInterrupt):  # an abort of Xet: Ctrl-C reaches only the main thread
                        error = RuntimeError(str(error))
                    watch.messages.put((i, None, error))
        watch.messages.put(None)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(n_threads, len(tasks)))]
    for thread in threads:
        thread.start()
    answers: list[Answer | None] = [None] * len(tasks)
    error: BaseException | None = None
    rescues, n_running = [rescue] if rescue else [], len(threads)
    try:
        with _quiet_client():
            while n_running:
                found = _next(watch, what, rescues, None if is_upload else MAX_SECONDS)
                if found is None:
                    n_running -= 1
                else:
                    i, answers[i], failed = found
                    error = error or failed
    except BaseException:
        watch.is_stopped = True
        if stop:
            stop()
        until = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0))
        raise
    if error is not None:
        raise error
    return cast("list[Answer]", answers)


@contextlib.contextmanager
def _quiet_client() -> Generator[None]:
    """Hide the client's own lines about repeated requests, unless its user asked for more of them."""
    logger = logging.getLogger("huggingface_hub")
    is_usual = logger.level == logging.WARNING
    if is_usual:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if is_usual:
            logger.setLevel(logging.WARNING)


def _next(watch: Watch, what: str, rescues: list[Callable[[], bool]], max_seconds: float | None) -> _Result | None:
    """Return the next result, or None if a thread has ended; show what there is to show until then."""
    line, seen = LINE_SECONDS, watch.last
    while True:
        with contextlib.suppress(Empty):
            message = watch.messages.get(timeout=min(POLL_SECONDS, LINE_SECONDS / 4))
            if not isinstance(message, str):
                return message
            show(message)
        silent = time.monotonic() - watch.last
        if watch.last != seen:
            line, seen = LINE_SECONDS, watch.last
        if silent >= RESCUE_SECONDS and rescues and rescues.pop()():
            watch.last = time.monotonic()
        elif max_seconds is not None and silent >= max_seconds:
            raise HubError(
                f"The Hub has sent nothing for {silent:.0f} s ({what}).",
                hint="Check the network connection and rerun the command; completed files are kept.",
            )
        elif silent >= line:
            show(f"Waiting for the Hub ({what}): no answer for {line:.0f} s.")
            line *= 2


def show(text: str) -> None:
    """Show a sentence: in the thread that waits if there is one, because warnings are for the caller."""
    watch = current()
    if watch:
        watch.say(text)
    else:
        warnings.warn(text, GZooWarning, stacklevel=2)
