"""Verified uploads, in one commit."""

from __future__ import annotations

import contextlib
import re
import tempfile
import warnings
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gzoo import files
from gzoo.display import Shown
from gzoo.errors import AccessError, DatasetError, GZooError, HubError, InputError, NotFoundError
from gzoo.hub import client
from gzoo.hub.download import download_verified
from gzoo.hub.permissions import EXIT_CODES, is_invalid

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile


_ABOUT_RIGHTS = re.compile(r"right|permission|token|authori|forbidden", re.IGNORECASE)
_SHARD = re.compile(r"((?:data|tiny)/\w+-)\d{5}-of-\d{5}\.parquet")


@dataclass(frozen=True, slots=True, repr=False)
class UploadResult(Shown):
    """What was uploaded to the Hub.

    Attributes:
        page: Address of the repository's page.
        commit: The commit that contains all files, or "" if the repository does not exist yet.
        is_new: Whether the repository is new.
        files: Names of the uploaded files, sorted.
        n_bytes: Their size in bytes.
        n_kept: Number of files that were on the Hub already.
        removed: Names of files of an earlier version that were removed.
        tag: The commit's tag, or "".
    """

    page: str
    commit: str
    is_new: bool
    files: tuple[str, ...]
    n_bytes: int
    n_kept: int
    removed: tuple[str, ...]
    tag: str


def require_login(repository: str) -> None:
    """Check the login, before time is spent on a repository's files.

    Raises:
        AccessError: You are not logged in, or the token is invalid.
        HubError: The Hub cannot be reached.
    """
    from huggingface_hub import get_token

    if not get_token():
        raise _access_error("authentication required", "You are not logged in to the Hub.")
    with _write_errors(repository):
        client.request(repository, lambda api: bool(api.whoami()))


def _access_error(state: str, message: str) -> AccessError:
    hint = "Run `hf auth login` with such a token, and check the name of the repository."
    expected = "a token with permission to write to the repository."
    return AccessError(message, expected, hint, exit_code=EXIT_CODES[state], state=state)


@contextlib.contextmanager
def _write_errors(repository: str) -> Generator[None]:
    """Turn the client's errors into those of gzoo, for requests that write."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except Exception as error:  # the client's HTTP library raises classes that are not public
        if isinstance(error, GZooError) or (isinstance(error, OSError) and type(error).__module__ == "builtins"):
            raise
        status, token = error.response.status_code if isinstance(error, HfHubHTTPError) else 0, get_token()
        if status in {401, 403} and token and is_invalid(token):
            raise _access_error("invalid token", "Your Hub token is invalid or was revoked.") from None
        if isinstance(error, HfHubHTTPError) and client.is_refusal(status):
            said = client.server_sentence(error)
            if status in {401, 404} or (status == 403 and _ABOUT_RIGHTS.search(said)):
                message = f"You do not have permission to write to '{repository}': {said}."
                raise _access_error("denied", message) from None
            raise HubError(
                f"The Hub refuses to write to '{repository}' ({status}): {said}.",
                hint="Check the settings and limits of the repository and its owner, then rerun the command.",
            ) from None
        raise HubError(
            f"Cannot write to '{repository}' on the Hub: {client.safe_reason(error)}.",
            hint="Check the network connection and rerun the command; uploaded files are not sent again.",
        ) from None


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload of files to a repository of the Hub.

    Attributes:
        paths: Name in the repository -> local file.
        checksums: Name in the repository -> SHA-256.
        repository: `owner/name`.
        kind: "dataset" or "model".
        private: Make the repository visible to its owners only, or to everyone. None: leave it as it is; a new one
            gets the default of its owner.
        gated: "auto" or "manual": readers must request access.
        tag: Name for the commit.
        progress: Called as (stage, MB done, MB in total).
    """

    paths: Mapping[str, Path]
    checksums: Mapping[str, str]
    repository: str
    kind: str
    private: bool | None = None
    gated: str | None = None
    tag: str | None = None
    progress: client.Progress = client.ignore_progress

    def run(self, *, dry_run: bool = False) -> UploadResult:
        """Upload the files in one commit, and verify them on the Hub.

        Files that the Hub has already are not sent again. It recognises a large file by its SHA-256 as soon as that
        file is complete, so that an interrupted upload can be resumed. The repository is created, made private or
        gated before any file is sent. Uploaded files are downloaded again and compared; the others are compared with
        the Hub's listing.

        Args:
            dry_run: Return what would be sent without sending it.

        Raises:
            AccessError: You are not logged in, the token is invalid, or you may not write to the repository.
            HubError: The Hub cannot be reached, or its files differ from those that were sent.
            InputError: A file differs from its checksum, or the tag is used for another commit.
        """
        if not dry_run:
            require_login(self.repository)
        with _write_errors(self.repository):
            head = self._head()
            is_new, tagged = not head, self._tagged_commit() if head else ""
            if not dry_run:
                head = self._prepare(head)
            changed, obsolete = self._differences(head)
            if not dry_run:
                if tagged and (tagged != head or changed or obsolete):
                    raise InputError(
                        f"Tag '{self.tag}' of '{self.repository}' already exists, for commit {tagged}.",
                        "a new tag, because a published version must not change.",
                        "Choose another --tag.",
                    )
                with _hidden_bars():
                    head = self._commit(head, changed, obsolete)
                    self._verify(head, changed)
                if not tagged:
                    self._set_tag(head)
        return UploadResult(
            page=client.page_of(self.repository, self.kind),
            commit=head,
            is_new=is_new,
            files=tuple(changed),
            n_bytes=self._n_bytes(changed),
            n_kept=len(self.paths) - len(changed),
            removed=tuple(obsolete),
            tag=self.tag or "",
        )

    def _request(self, method: str, **options: Any) -> Any:
        """Return the answer to a call of the Hub's API about the repository."""
        options["repo_type"] = self.kind
        return client.request(self.repository, lambda api: getattr(api, method)(self.repository, **options))

    def _prepare(self, head: str) -> str:
        """Create the repository if there is none, restrict access to it, and return its newest commit."""
        if not head:
            self._request("create_repo", private=self.private, exist_ok=True)
            head = self._head()
        if self.private is not None or self.gated:
            self._request("update_repo_settings", private=self.private, gated=self.gated)
        return head

    def _head(self) -> str:
        """Return the newest commit, or "" if the repository does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return str(self._request("repo_info").sha)
        except RepositoryNotFoundError:
            return ""

    def _tagged_commit(self) -> str:
        """Return the commit of the tag, or "" if the tag does not exist."""
        tags = self._request("list_repo_refs").tags if self.tag else ()
        return next((str(one.target_commit) for one in tags if one.name == self.tag), "")

    def _set_tag(self, commit: str) -> None:
        if self.tag:
            self._request("create_tag", tag=self.tag, revision=commit, exist_ok=True)
            if self._tagged_commit() != commit:
                raise HubError(f"Tag '{self.tag}' of '{self.repository}' does not refer to commit {commit}.")

    def _differences(self, commit: str) -> tuple[list[str], list[str]]:
        """Return the names of files to send and of files to remove: those that only the earlier manifest lists.

        Raises:
            InputError: A file of others would be read as a shard of the new version.
        """
        entries = client.list_files(self.repository, commit, self.kind) if commit else {}
        changed = [name for name, path in self.paths.items() if not self._is_same(path, name, entries.get(name))]
        others = [name for name in entries if name not in self.paths and name != ".gitattributes"]
        listed = self._earlier_files(commit, entries) if others else set[str]()
        starts = tuple({found[1] for name in self.paths if (found := _SHARD.fullmatch(name))})
        mixed = [name for name in others if name not in listed and starts and name.startswith(starts)]
        if mixed:
            raise InputError(
                f"'{mixed[0]}' in '{self.repository}' would be read as a part of the dataset.",
                "files that the manifest of the earlier version there lists, under names of shards.",
                "Delete or rename the file on the Hub, or publish to another repository.",
            )
        return sorted(changed), sorted(listed.intersection(others))

    def _earlier_files(self, commit: str, entries: Mapping[str, RepoFile]) -> set[str]:
        """Return the names that the manifest of a commit lists, none if it has no manifest of gzoo."""
        if files.MANIFEST not in entries:
            return set()
        with tempfile.TemporaryDirectory(prefix="gzoo-") as folder:
            options = {"kind": self.kind, "cache_dir": folder}
            path = download_verified(self.repository, commit, entries[files.MANIFEST], **options)
            try:
                return set(cast("dict[str, object]", files.open_folder(path.parent)["files"]))
            except (DatasetError, NotFoundError, KeyError, TypeError):
                return set()

    def _is_same(self, path: Path, name: str, entry: RepoFile | None) -> bool:
        if entry and entry.lfs:
            return entry.lfs.sha256 == self.checksums[name]
        return entry is not None and client.has_content(path, entry)

    def _n_bytes(self, names: Iterable[str]) -> int:
        return sum(self.paths[name].stat().st_size for name in names)

    def _each(self, names: list[str], stage: str) -> Generator[str]:
        """Yield the names and report the progress in bytes."""
        total, done = self._n_bytes(names), 0
        for name in names:
            client.report_bytes(self.progress, stage, done, total)
            yield name
            done += self._n_bytes([name])
        client.report_bytes(self.progress, stage, total, total)

    def _commit(self, head: str, changed: list[str], obsolete: list[str]) -> str:
        """Send the files and return the commit that contains all of them."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        if not changed and not obsolete:
            return head
        operations: list[Any] = [CommitOperationDelete(name) for name in obsolete]
        for name in self._each(changed, "Uploading files"):
            addition = CommitOperationAdd(name, str(self.paths[name]))
            if addition.upload_info.sha256.hex() != self.checksums[name]:
                raise InputError(
                    f"'{self.paths[name]}' changed after it was checked (checksum mismatch).",
                    f"SHA-256 {self.checksums[name]}.",
                    "Close the program that writes to it, then rerun `gzoo publish`.",
                )
            self._request("preupload_lfs_files", additions=[addition], num_threads=1)
            operations.append(addition)

        def commit(api: HfApi) -> str:
            message = f"{len(changed)} files by gzoo"
            try:
                made = api.create_commit(
                    self.repository, operations, commit_message=message, repo_type=self.kind, parent_commit=head
                )
            except Exception:
                newest = self._head()  # the Hub may have made the commit although its answer was lost
                if newest != head and self._differences(newest) == ([], []):
                    return newest
                raise
            return str(made.oid)

        return client.request(self.repository, commit)

    def _verify(self, commit: str, sent: list[str]) -> None:
        """Compare the files on the Hub with the local ones.

        Raises:
            HubError: They differ.
        """
        different = [name for names in self._differences(commit) for name in names]
        if different:
            raise HubError(
                f"Commit {commit} of '{self.repository}' differs from the local files: {', '.join(different[:5])}.",
                "files with the checksums that the manifest lists.",
                "Check whether others write to the repository, then rerun the command; do not use that commit.",
            )
        entries = client.list_files(self.repository, commit, self.kind) if sent else {}
        for name in self._each(sent, "Verifying files"):
            with tempfile.TemporaryDirectory(prefix="gzoo-") as folder:
                options = {"kind": self.kind, "checksum": self.checksums[name], "cache_dir": folder}
                download_verified(self.repository, commit, entries[name], **options)


@contextlib.contextmanager
def _hidden_bars() -> Generator[None]:
    """Hide the client's progress bars, and its warning that a model's repository contains tables."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    was_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            yield
    finally:
        if not was_disabled:
            enable_progress_bars()
