"""How the Hub's client transfers files: through Xet, its storage of large files, or by plain HTTP if that fails."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from importlib.util import find_spec

from gzoo.hub import waiting

MAX_FAULTS = 2  # of Xet before plain HTTP
CHUNK_BYTES = 65_536  # after which plain HTTP reports progress: the client's own 10 MB look like silence on a slow line
_FAULTS = (RuntimeError, ValueError, ConnectionError, TimeoutError, KeyboardInterrupt)
"""What hf_xet raises, also in threads that `abort` ends, and the client where Xet's own headers are wrong."""


def is_used() -> bool:
    """Return whether the Hub's client would use Xet now."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def abort() -> None:
    """End all transfers through Xet, which run in threads of their own."""
    from huggingface_hub.utils._xet import abort_xet_session  # the only way; nothing public does it

    abort_xet_session()


@dataclass
class Way:
    """The way of several transfers: through Xet until it has failed too often.

    Attributes:
        n_faults: Number of faults so far.
    """

    n_faults: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, error: BaseException, *, was_used: bool) -> bool:
        """Count a fault of a transfer, and return whether to repeat the transfer.

        Args:
            error: What the transfer raised.
            was_used: Whether Xet was used when it began.
        """
        if not was_used or type(error) not in _FAULTS:
            return False
        if isinstance(error, KeyboardInterrupt) and not waiting.current():
            return False  # Ctrl-C, which reaches only the main thread
        with self._lock:
            self.n_faults += 1
            if self.n_faults >= MAX_FAULTS:
                self.leave()
        return True

    def leave(self) -> bool:
        """Use plain HTTP from now on; return False if that was so already."""
        from huggingface_hub import constants

        if not is_used():
            return False
        constants.HF_HUB_DISABLE_XET = True
        abort()
        waiting.show(
            "The Hub's Xet storage does not answer, so plain HTTP is used. Set HF_HUB_DISABLE_XET=1 to use it at once."
        )
        return True


@contextlib.contextmanager
def begin() -> Generator[Way]:
    """Yield the way of transfers; afterwards the client's settings are as before."""
    from huggingface_hub import constants

    names = ("HF_HUB_DISABLE_XET", "DOWNLOAD_CHUNK_SIZE")
    before = {name: getattr(constants, name) for name in names}
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    try:
        yield Way()
    finally:
        for name, value in before.items():
            setattr(constants, name, value)
