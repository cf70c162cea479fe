"""Requests to the Hub: repeated after temporary failures, with progress, and without tokens in error messages."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gzoo import files
from gzoo.errors import HubError, reason
from gzoo.files import Progress
from gzoo.hub import waiting

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

MAX_ATTEMPTS = 5
PAUSE_SECONDS = 1.0  # before the second attempt; each further pause is twice as long
MAX_PAUSE_SECONDS = 600.0  # that the Hub may ask for; its windows are 300
DEFAULT_PAUSE_SECONDS = 30.0  # where it does not say how long
MAX_FILES = 200_000  # in a repository
Answer = TypeVar("Answer")


def request(
    repository: str,
    call: Callable[[HfApi], Answer],
    *,
    attempts: int = MAX_ATTEMPTS,
    upload: str = "",
    stop: Callable[[], None] | None = None,
) -> Answer:
    """Return the answer to a call of the Hub's API, repeated after temporary failures.

    Args:
        repository: `owner/name`, for messages.
        call: The call, which receives the API. It runs in another thread, which is left behind by Ctrl-C.
        attempts: Number of attempts.
        upload: What is sent, if the call sends something, for messages.
        stop: Function that ends what runs outside of Python's threads, after an interrupt.

    Raises:
        HubError: The network failed in every attempt. Errors that the Hub itself reports keep their class.
    """

    def work(_: None) -> Answer:
        return repeated(repository, lambda: call(_api()), attempts)

    if waiting.current():
        return work(None)
    what = f"sending {upload} to '{repository}'" if upload else f"'{repository}'"
    return waiting.attend(work, [None], what, is_upload=bool(upload), stop=stop)[0]


def repeated(repository: str, call: Callable[[], Answer], attempts: int = MAX_ATTEMPTS) -> Answer:
    """Return the answer to a call, repeated after temporary failures; see `request`."""
    from huggingface_hub.errors import HfHubHTTPError

    started = time.monotonic()
    asked = 0.0  # seconds that the Hub wants us to wait
    for attempt in range(attempts):
        pause(attempt, asked)
        try:
            return call()
        except Exception as error:  # the client's HTTP library raises classes that are not public
            asked = _pause_asked(error)
            started += asked
            is_last = attempt == attempts - 1 or asked > MAX_PAUSE_SECONDS
            is_last |= time.monotonic() - started > waiting.MAX_SECONDS
            if not _is_temporary(error) or (is_last and isinstance(error, HfHubHTTPError)):
                raise
            if is_last:
                why, tried = safe_reason(error.__cause__ or error), attempt + 1
                raise HubError(
                    f"The Hub does not answer requests for '{repository}' ({tried} attempt{'s' * (tried > 1)}): {why}.",
                    hint="Check the network connection and rerun the command; completed files are kept.",
                ) from None
    raise AssertionError("the last attempt returns or raises")


def _api() -> HfApi:
    """Return the API, whose requests by this thread tell how long to wait and give signs of life."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import get_session

    session = get_session()
    hooks = session.event_hooks
    if _limit not in hooks["request"]:
        session.event_hooks = {"request": [*hooks["request"], _limit], "response": [*hooks["response"], _note]}
    return HfApi()


def _limit(asked: Any) -> None:
    """Limit the time of a request that somebody waits for, since the client sets no limits to most of them."""
    watch = waiting.current()
    if watch:
        watch.note()
        usual = dict.fromkeys(("read", "write", "pool"), watch.read_seconds)
        given = {name: limit for name, limit in asked.extensions.get("timeout", {}).items() if limit is not None}
        connect = min(given.get("connect", waiting.CONNECT_SECONDS), waiting.CONNECT_SECONDS)
        asked.extensions["timeout"] = {**usual, **given, "connect": connect}


def _note(response: Any) -> None:
    """Take an answer for a sign of life, and heed its request for a pause."""
    watch = waiting.current()
    if watch:
        watch.note()
        if response.status_code == 429:
            watch.pause(_pause_of(response.headers))


def _pause_asked(error: BaseException) -> float:
    """Return the seconds that the Hub wants us to wait, 0 if it did not say so."""
    from huggingface_hub.errors import HfHubHTTPError

    cause = error if isinstance(error, HfHubHTTPError) else error.__cause__
    if not isinstance(cause, HfHubHTTPError) or cause.response.status_code != 429:
        return 0.0
    return _pause_of(cause.response.headers)


def _pause_of(headers: Mapping[str, str]) -> float:
    """Return the seconds until the next request is welcome, as the headers of an answer with status 429 say."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limits, after = parse_ratelimit_headers(headers), headers.get("Retry-After", "")
    if limits and not limits.remaining:
        return limits.reset_in_seconds + 1.0
    if after.isdigit():
        return float(after) + 1.0
    with contextlib.suppress(ValueError):
        return max((parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds(), 0.0) + 1.0
    return DEFAULT_PAUSE_SECONDS


def pause(attempt: int, asked: float = 0.0) -> None:
    """Wait before an attempt, at least for the seconds that the Hub asks for; the first one (0) starts at once."""
    if attempt:
        time.sleep(max(PAUSE_SECONDS * 2 ** (attempt - 1), asked))


def _is_temporary(error: BaseException) -> bool:
    """Return whether the same request may succeed a little later."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in {408, 429} or error.response.status_code >= 500
    if isinstance(error, LocalEntryNotFoundError):  # the client raises it when a request got no answer
        return error.__cause__ is None or _is_temporary(error.__cause__)
    classes = {one.__name__ for one in type(error).__mro__}
    return "TransportError" in classes or "Consistency check failed" in str(error)


def safe_reason(error: BaseException) -> str:
    """Return the first line of another library's error without tokens, at most 500 characters."""
    from huggingface_hub import get_token

    text = reason(error)
    if token := get_token():
        text = text.replace(token, "***")
    text = re.sub(r"hf_[A-Za-z0-9]{8,}", "***", text)
    return "".join(filter(str.isprintable, text))[:500]


def server_sentence(error: HfHubHTTPError) -> str:
    """Return what the server says about a request that it refused, without tokens and without the final stop."""
    return safe_reason(Exception(error.server_message) if error.server_message else error).rstrip(".")


def is_refusal(status: int) -> bool:
    """Return whether an HTTP status is a decision of the server, which no second attempt changes."""
    return 400 <= status < 500 and status not in {408, 429}


def page_of(repository: str, kind: str = "dataset") -> str:
    """Return the address of a repository's page on the Hub."""
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repository}"


def list_files(repository: str, commit: str, kind: str = "dataset") -> dict[str, RepoFile]:
    """Return the Hub's listing of a commit: name -> size, Git blob, and SHA-256 of a large file.

    Raises:
        HubError: The listing names a file twice or outside the repository, or is too long.
    """
    from huggingface_hub.hf_api import RepoFile

    def listed(api: HfApi) -> dict[str, RepoFile]:
        entries: dict[str, RepoFile] = {}
        for one in api.list_repo_tree(repository, recursive=True, revision=commit, repo_type=kind):
            if one.path in entries:
                why = f"{one.path!a} twice"
            elif not is_safe_path(one.path):
                why = f"{one.path!a}, which is outside the repository"
            else:
                why = f"more than {MAX_FILES:,} files" if len(entries) >= MAX_FILES else ""
            if why:
                raise HubError(
                    f"The Hub's listing of '{repository}' contains {why}; nothing was downloaded.",
                    "each file once, inside the repository.",
                    "Retry later; if the error persists, report it to the owners of the repository.",
                )
            if isinstance(one, RepoFile):
                entries[one.path] = one
        return entries

    return request(repository, listed)


def is_safe_path(name: str) -> bool:
    """Return whether a name from elsewhere stays inside the folder that it is joined to."""
    parts = name.split("/")
    return name.isprintable() and not any(part in {"", ".", ".."} or set(part) & set("\\:") for part in parts)


def has_content(path: Path, entry: RepoFile) -> bool:
    """Return whether a local file has the content that the Hub lists."""
    from huggingface_hub.utils.sha import git_hash

    if path.stat().st_size != entry.size:
        return False
    return files.sha256(path) == entry.lfs.sha256 if entry.lfs else git_hash(path.read_bytes()) == entry.blob_id


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Report no progress."""


def report_bytes(progress: Progress, stage: str, done: int, total: int) -> None:
    """Report a number of bytes in megabytes, rounded up."""
    progress(f"{stage} (MB)", -(-done // 1_000_000), -(-total // 1_000_000))


def progress_bar(advance: Callable[[int], None], *, is_shown: bool) -> type:
    """Return a class of progress bars for the client that calls `advance` with numbers of bytes that arrived.

    Whoever waits for this thread gets a sign of life with each, from whichever thread the client reports.
    """
    from huggingface_hub.utils import tqdm

    watch = waiting.current()

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **(settings if is_shown else {**settings, "disable": True}))

        def update(self, n: float | None = 1) -> None:
            if watch:
                watch.note()
            advance(int(n or 0))
            super().update(n)

        def update_transfer(self, n: float | None = 1) -> None:
            """Take bytes that Xet received and has not written yet, for which the client has a second bar otherwise."""
            if watch:
                watch.note()

        def set_transfer_postfix_str(self, text: str = "", refresh: bool = True) -> None:
            """Show no speed of Xet's transfer."""

    return Bar
