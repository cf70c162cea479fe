"""Requests to the Hub: repeated after temporary failures, with progress, and without tokens in error messages."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gzoo import files
from gzoo.errors import HubError, reason
from gzoo.files import Progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

MAX_ATTEMPTS = 5
PAUSE_SECONDS = 1.0  # before the second attempt; each further pause is twice as long
MAX_FILES = 200_000  # in a repository
Answer = TypeVar("Answer")


def request(repository: str, call: Callable[[HfApi], Answer]) -> Answer:
    """Return the answer to a call of the Hub's API, repeated after temporary failures.

    Args:
        repository: `owner/name`, for the error message.
        call: The call, which receives the API.

    Raises:
        HubError: The network failed in every attempt. Errors that the Hub itself reports keep their class.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    why = ""
    for attempt in range(MAX_ATTEMPTS):
        pause(attempt)
        try:
            return call(HfApi())
        except Exception as error:  # the client's HTTP library raises classes that are not public
            is_last = attempt == MAX_ATTEMPTS - 1
            if not _is_temporary(error) or (is_last and isinstance(error, HfHubHTTPError)):
                raise
            why = safe_reason(error.__cause__ or error)
    raise HubError(
        f"The Hub does not answer requests for '{repository}' ({MAX_ATTEMPTS} attempts): {why}.",
        hint="Check the network connection and rerun the command; completed files are kept.",
    )


def pause(attempt: int) -> None:
    """Wait before an attempt; the first one (0) starts at once."""
    if attempt:
        time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))


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


def silent_bar(advance: Callable[[int], None]) -> type:
    """Return a class of progress bars for the client that shows nothing and calls `advance` with numbers of bytes."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> None:
            advance(int(n or 0))

    return Bar
