"""Who may read a dataset on the Hub, and which copy of it is cached."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gzoo.display import Sheet, Shown, field_values
from gzoo.errors import AccessError, HubError, NotFoundError, choices, suggestion
from gzoo.hub.cache import COMMIT, find_copy
from gzoo.hub.client import MAX_ATTEMPTS, is_refusal, page_of, request, safe_reason, server_sentence
from gzoo.trees.campaign import campaign, names

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

EXIT_CODES = {
    "public": 0,
    "granted": 0,
    "cached": 0,
    "gated": 3,
    "pending": 4,
    "not found": 5,
    "authentication required": 6,
    "invalid token": 7,
    "denied": 8,
    "offline": 9,
}
"""State of a dataset -> exit code of `gzoo access`."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True, repr=False)
class Access(Shown):
    """Whether a dataset on the Hub can be read, and which copy of it is cached.

    Attributes:
        repository: `owner/name`, the present one if the repository was renamed.
        revision: The requested branch, tag or commit.
        state: A key of `EXIT_CODES`: "public", "granted" (gated or private, and you have access), "gated" (you have
            not requested access), "pending", "not found", "authentication required", "invalid token", "denied" (or
            revoked), "cached" (the Hub cannot be reached, but a copy is cached) or "offline".
        message: The state in one or two sentences.
        hint: What to do about it, or "".
        page: Address of the dataset's page, where access is requested.
        commit: The Hub's commit of that revision, or "" if it is not known.
        cached: Commit of the complete cached copy of that revision, or "".
        requested: `owner/name` that was asked for, under which files are cached.
    """

    repository: str
    revision: str
    state: str
    message: str
    hint: str
    page: str
    commit: str = ""
    cached: str = ""
    requested: str = ""

    @property
    def is_readable(self) -> bool:
        """Whether `gzoo.load` can load it."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """Exit code of `gzoo access`."""
        return EXIT_CODES[self.state]

    @property
    def resolved_commit(self) -> str:
        """The commit that `gzoo.load` would load, or ""."""
        return self.cached if self.state == "cached" else self.commit if self.is_readable else ""

    def to_dict(self) -> dict[str, object]:
        """Return the object that `gzoo access --json` prints."""
        return {**field_values(self), "is_readable": self.is_readable, "resolved_commit": self.resolved_commit}

    def sheet(self) -> Sheet:
        """Return the state, and what to do about it."""
        return Sheet(
            f"{self.repository}: {self.state}",
            {
                "state": f"{self.message} {self.hint}",
                "page": self.page,
                "commit": self.commit,
                "cached copy": self.cached,
            },
        )

    def require(self) -> None:
        """Check that the dataset can be read.

        Raises:
            AccessError: It cannot.
        """
        if not self.is_readable:
            raise AccessError(self.message, "", self.hint, exit_code=self.exit_code, state=self.state)


def repository_of(name: str) -> tuple[str, str] | None:
    """Return the repository and the revision that a string names, or None if it is not a name on the Hub.

    Args:
        name: A campaign, the path of its TOML file, or `owner/name`; each may end in `@` and a branch, tag or commit.

    Raises:
        NotFoundError: The campaign has not been published on the Hub.

    >>> repository_of("gz2"), repository_of("mwalmsley/gz_candels@v1"), repository_of("./gz2")
    (('mwalmsley/gz2', 'main'), ('mwalmsley/gz_candels', 'v1'), None)
    """
    text, _, revision = name.partition("@")
    if text in names() or text.lower().endswith(".toml"):
        repository = campaign(text).hub.repository
        if not repository:
            raise NotFoundError(
                f"Campaign '{text}' has not been published on the Hub.",
                "a published campaign, whose definition has a `repository`.",
                "Run `gzoo campaigns` to list the published ones, or build the dataset with `gzoo build`.",
            )
        return repository, revision or "main"
    return (text, revision or "main") if _NAME.fullmatch(text) and ".." not in text else None


def access(name: str, *, revision: str | None = None) -> Access:
    """Check whether a dataset on the Hub can be read.

    Args:
        name: A campaign (`gz2`), the path of its TOML file, or `owner/name` on the Hub.
        revision: Branch, tag or commit. Default: `main`.

    Raises:
        NotFoundError: `name` is not the name of a dataset on the Hub.
    """
    found = repository_of(name)
    if found is None:
        raise NotFoundError(
            f"'{name}' is not the name of a dataset on the Hub.",
            f"'owner/name' or {choices(names(), name)}",
            suggestion(names(), name, "Run `gzoo campaigns` to list the published datasets."),
        )
    repository, named = found
    return check_access(repository, revision or named)


def check_access(repository: str, revision: str, kind: str = "dataset", *configs: str | None) -> Access:
    """Return what the Hub permits, and the cached copy, which is used if the Hub cannot be reached.

    Args:
        repository: `owner/name`.
        revision: Branch, tag or commit.
        kind: "dataset" or "model".
        configs: Configs of which a cached copy is looked for; any if there are none.
    """
    copy = find_copy(repository, revision, kind, *configs)
    found = _ask_hub(repository, revision, kind, attempts=1 if copy.is_whole else MAX_ATTEMPTS)
    cached = copy.commit if copy.is_whole else ""
    of = f"{cached or copy.commit} (config '{copy.config}')" if copy.config else cached or copy.commit
    state, message, hint = found.state, found.message, found.hint
    if found.is_readable and not cached:
        message += f" The cache contains {'an incomplete' if copy.commit else 'no'} copy."
    elif found.is_readable and cached == found.commit:
        message += f" The cache contains this commit{f' (config {copy.config!r})' if copy.config else ''}."
    elif found.is_readable:
        message += f" The cache contains another copy, commit {of}, which is not up to date."
    elif state == "offline" and cached:
        state, message, hint = "cached", f"{message} '{repository}' is read from the cache, commit {of}.", ""
    elif state == "offline" and copy.commit:
        message += f" The cached copy, commit {of}, is incomplete: {copy.missing} is missing."
        hint = "Load the config once with a network connection."
    elif state == "offline":
        message += f" The cache contains no copy of '{repository}' at '{revision}'."
    elif copy.commit:
        if state == "gated":
            state, message = "denied", f"'{repository}' is gated, and your access was revoked."
        message += f" The cache contains a copy, commit {of}, which is not used."
    return replace(found, state=state, message=message, hint=hint, cached=cached)


def _ask_hub(repository: str, revision: str, kind: str, attempts: int) -> Access:
    """Return what the Hub answers, whatever is cached."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    commit, hint, name = "", "", repository
    try:
        is_set = os.environ.get("HF_DATASETS_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES
        if constants.is_offline_mode() or is_set:
            variable = "HF_HUB_OFFLINE" if constants.is_offline_mode() else "HF_DATASETS_OFFLINE"
            state, message = "offline", f"The Hub is not contacted because {variable} is set."
            hint = f"Omit --offline, or unset {variable}, to download the {kind}."
        else:
            try:
                request(repository, lambda api: api.auth_check(repository, repo_type=kind), attempts=attempts)
            except HfHubHTTPError as error:  # mirrors have no such check; they say with the repository if it is missing
                if error.response.status_code != 404:
                    raise
            info = request(
                repository,
                lambda api: api.repo_info(repository, revision=revision, repo_type=kind),
                attempts=attempts,
            )
            commit, name = str(info.sha), str(info.id or repository)
            renamed = "" if name.lower() == repository.lower() else f" '{repository}' was renamed to '{name}'."
            if not COMMIT.fullmatch(commit):
                state, message, commit = "offline", "The Hub does not report a valid commit.", ""
            elif info.private or info.gated:
                what = "private" if info.private else "gated"
                state, message = "granted", f"'{name}' is {what}, and you have access to it, commit {commit}.{renamed}"
            else:
                state, message = "public", f"'{name}' is public, commit {commit}.{renamed}"
    except HfHubHTTPError as error:
        state, message, hint = _refusal(error, repository, revision, kind)
    except Exception as error:  # the client's HTTP library raises classes that are not public
        # an error of gzoo is a sentence that says so already
        state, message = "offline", f"The Hub cannot be reached ({safe_reason(error)})."
        if isinstance(error, HubError):
            message = error.message
        hint = "Check the network connection and rerun the command."
    return Access(name, revision, state, message, hint, page_of(name, kind), commit, requested=repository)


@contextlib.contextmanager
def refusals_worded(found: Access, kind: str = "dataset") -> Generator[None]:
    """Explain what the Hub answers while files are read that may be read.

    Raises:
        AccessError: The Hub refuses to go on.
        HubError: The Hub fails.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except Exception as error:  # the client wraps some of its errors in others
        cause = error if isinstance(error, HfHubHTTPError) else error.__cause__
        if not isinstance(cause, HfHubHTTPError):
            raise
        if is_refusal(cause.response.status_code):
            state, message, hint = _refusal(cause, found.requested, found.revision, kind)
            message += " The download was stopped; completed files are kept."
            raise AccessError(message, "", hint, exit_code=EXIT_CODES[state], state=state) from None
        raise HubError(
            f"The Hub failed while '{found.repository}' was downloaded ({safe_reason(cause)}).",
            hint="Rerun the command later; completed files are kept.",
        ) from None


def _refusal(error: HfHubHTTPError, repository: str, revision: str, kind: str) -> tuple[str, str, str]:
    """Return state, message and hint for a refusal.

    The Hub distinguishes pending and rejected requests only by the words of its message.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    token, page = get_token(), page_of(repository, kind)
    status, said = error.response.status_code, (error.server_message or "").lower()
    if isinstance(error, RevisionNotFoundError):
        state, message = "not found", f"'{repository}' does not have a branch, tag or commit '{revision}'."
        hint = f"Choose one of those at {page}/tree/main."
    elif status == 403 and "fine-grained" in said:
        state, message = "denied", f"The Hub refuses access to '{repository}' (403): {server_sentence(error)}."
        hint = "Allow your token to read gated repositories at https://huggingface.co/settings/tokens."
    elif isinstance(error, GatedRepoError) and not token:
        state, message = "authentication required", f"'{repository}' is gated, and you are not logged in."
        hint = f"Request access at {page}, then run `hf auth login`."
    elif isinstance(error, GatedRepoError) and ("awaiting" in said or "pending" in said):
        state, message = "pending", f"Your request for access to '{repository}' has not been answered."
        hint = f"Wait for the owners' decision; see {page}."
    elif isinstance(error, GatedRepoError) and "reject" in said:
        state, message = "denied", f"Your request for access to '{repository}' was rejected."
        hint = f"See {page} for the terms of access."
    elif isinstance(error, GatedRepoError):
        state, message = "gated", f"'{repository}' is gated, and you do not have access."
        hint = f"Request access at {page}."
    elif status in {401, 403} and token and is_invalid(token):
        state, message = "invalid token", "Your Hub token is invalid or was revoked."
        hint = f"Run `hf auth login` again, or `hf auth logout` to read public {kind}s."
    elif isinstance(error, RepositoryNotFoundError):
        state, message = "not found", f"{kind.capitalize()} '{repository}' not found on the Hub, or it is private."
        hint = f"Check the name{'' if token else f'; for a private {kind}, run `hf auth login`'}."
    elif is_refusal(status):
        state, message = "denied", f"The Hub refuses access to '{repository}' ({status}): {server_sentence(error)}."
        hint = f"Check the settings of your token and of your proxy, and see {page}."
    elif status == 429:
        state, message = "offline", f"The Hub is busy (429): {server_sentence(error)}."
        hint = "Rerun the command later; the limit is per token, so run fewer jobs at once."
    else:
        state, message = "offline", f"The Hub returned an unexpected answer ({safe_reason(error)})."
        hint = "Retry the command later."
    return state, message, hint


def is_invalid(token: str) -> bool:
    """Return whether the Hub does not know a token."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().whoami(token=token)
    except Exception as error:  # nothing is known of the token if the Hub cannot be reached
        return isinstance(error, HfHubHTTPError) and error.response.status_code == 401
    return False
