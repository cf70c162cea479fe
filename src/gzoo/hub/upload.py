"""Verified uploads, in one commit or, of many files, in several."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gzoo import files
from gzoo.display import Shown
from gzoo.errors import AccessError, DatasetError, GZooError, HubError, InputError, NotFoundError
from gzoo.hub import client, transfers
from gzoo.hub.card import CARD
from gzoo.hub.download import download_verified
from gzoo.hub.permissions import EXIT_CODES, is_invalid

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.hf_api import RepoFile


FILES_IN_COMMIT = 100  # the Hub advises 50 to 100, and ends a commit after 60 s
_OF_THE_HUB = frozenset({".gitattributes"})
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
        n_commits: Number of commits that were made.
        unverified: Names of files whose checksum the Hub does not report, and that were not downloaded to compare them.
    """

    page: str
    commit: str
    is_new: bool
    files: tuple[str, ...]
    n_bytes: int
    n_kept: int
    removed: tuple[str, ...]
    tag: str
    n_commits: int = 0
    unverified: tuple[str, ...] = ()


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
        card: Function that returns the card to send, given the one on the Hub and the SHA-256 that the manifest there
            lists for it; both are "" if there is none.
        verify: Download those files whose checksum the Hub does not report, to compare them.
        progress: Called as (stage, MB done, MB in total).
    """

    paths: Mapping[str, Path]
    checksums: Mapping[str, str]
    repository: str
    kind: str
    private: bool | None = None
    gated: str | None = None
    tag: str | None = None
    card: Callable[[str, str], str] | None = None
    verify: bool = True
    progress: client.Progress = client.ignore_progress

    def run(self, *, dry_run: bool = False) -> UploadResult:
        """Upload the files, and verify them on the Hub.

        Up to `FILES_IN_COMMIT` files become one commit, so that nobody sees a part of them. More are sent in several
        commits: the first one adds a mark by which readers tell that the upload is not finished; the manifest and, in
        the last one, the card follow everything else.

        Files that the Hub has already are not sent again. It recognises a large file by its SHA-256 as soon as that
        file is complete, so that an interrupted upload can be resumed. The metadata of the card are validated before
        the repository is created, made private or gated, and that before any file is sent. A new repository is removed
        if the Hub refuses to take the files. In the end, the files are compared with the checksums that the Hub lists.

        Args:
            dry_run: Return what would be sent without sending it.

        Raises:
            AccessError: You are not logged in, the token is invalid, or you may not write to the repository.
            HubError: The Hub cannot be reached, it refuses the files, or they differ from those that were sent.
            InputError: A file differs from its checksum, the tag is used for another commit, or the card is not valid.
        """
        if not dry_run:
            require_login(self.repository)
        with _write_errors(self.repository), tempfile.TemporaryDirectory(prefix="gzoo-") as folder:
            head = self._head()
            return self._with_card(head, Path(folder))._run(head, dry_run)

    def _with_card(self, head: str, folder: Path) -> Upload:
        """Return the same upload with the card that is to be sent, which is written to a folder."""
        if not self.card:
            return self
        entries = self._entries(head)
        text = self._read(head, entries[CARD]).decode() if CARD in entries else ""
        listed = self._earlier_files(head, entries).get(CARD, "") if text else ""
        files.write_bytes(folder / CARD, self.card(text, listed).encode())
        checksum = files.sha256(folder / CARD)
        return replace(
            self, paths={**self.paths, CARD: folder / CARD}, checksums={**self.checksums, CARD: checksum}, card=None
        )

    def _run(self, head: str, dry_run: bool) -> UploadResult:
        is_new, tagged = not head, self._tagged_commit() if head else ""
        changed, obsolete = self._differences(head)
        n_commits, unverified = 0, list[str]()
        if not dry_run:
            if tagged and (tagged != head or changed or obsolete):
                raise InputError(
                    f"Tag '{self.tag}' of '{self.repository}' already exists, for commit {tagged}.",
                    "a new tag, because a published version must not change.",
                    "Choose another --tag.",
                )
            if CARD in changed:
                self._validate_card()
            with self._removed_if_refused(is_new), _hidden_bars():
                head = self._prepare(head)
                for message, names, removed in self._steps(changed, obsolete):
                    head, n_commits = self._commit(head, names, removed, message), n_commits + 1
            unverified = self._verify(head, changed)
            if not tagged:
                self._set_tag(head)
        return UploadResult(
            page=client.page_of(self.repository, self.kind),
            commit=head,
            is_new=is_new,
            files=tuple(changed),
            n_bytes=self._n_bytes(changed),
            n_kept=len(self.paths) - len(changed),
            removed=tuple(name for name in obsolete if name != files.BEGUN),
            tag=self.tag or "",
            n_commits=n_commits,
            unverified=tuple(unverified),
        )

    def _request(self, method: str, *, upload: str = "", **options: Any) -> Any:
        """Return the answer to a call of the Hub's API about the repository."""
        options["repo_type"] = self.kind
        stop = transfers.abort if upload and transfers.is_used() else None
        return client.request(
            self.repository, lambda api: getattr(api, method)(self.repository, **options), upload=upload, stop=stop
        )

    def _validate_card(self) -> None:
        """Ask the Hub whether it accepts the metadata of the card.

        Raises:
            InputError: It does not.
        """
        from huggingface_hub import RepoCard
        from huggingface_hub.errors import HfHubHTTPError

        text = self.paths[CARD].read_text("utf-8")
        try:
            client.request(self.repository, lambda _: RepoCard(text).validate(repo_type=self.kind))
        except ValueError as error:
            raise InputError(
                f"The Hub does not accept the metadata of the card: {_reasons(error)}.",
                "metadata of which the Hub knows the values.",
                f"Fix the header of {CARD}; if the values are from the card on the Hub, edit it there.",
            ) from None
        except HfHubHTTPError as error:
            if error.response.status_code != 404:  # a mirror that validates nothing
                raise

    @contextlib.contextmanager
    def _removed_if_refused(self, is_new: bool) -> Generator[None]:
        """Remove a repository that was created for this upload if the Hub refuses the first commit."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            yield
        except HfHubHTTPError as error:
            if is_new and client.is_refusal(error.response.status_code):
                with contextlib.suppress(Exception):  # what matters is the refusal
                    if set(self._entries(self._head())) <= _OF_THE_HUB:
                        self._request("delete_repo", missing_ok=True)
            raise

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

    def _entries(self, commit: str) -> dict[str, RepoFile]:
        return client.list_files(self.repository, commit, self.kind) if commit else {}

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
        """Return the names of files to send and of files to remove.

        Those that only the earlier manifest lists are removed, and the mark of an unfinished upload.

        Raises:
            InputError: A file of others would be read as a shard of the new version.
        """
        entries = self._entries(commit)
        changed = [name for name, path in self.paths.items() if not self._is_same(path, name, entries.get(name))]
        others = [name for name in entries if name not in self.paths and name not in _OF_THE_HUB]
        listed = self._earlier_files(commit, entries) if others else dict[str, str]()
        starts = tuple({found[1] for name in self.paths if (found := _SHARD.fullmatch(name))})
        mixed = [name for name in others if name not in listed and starts and name.startswith(starts)]
        if mixed:
            raise InputError(
                f"'{mixed[0]}' in '{self.repository}' would be read as a part of the dataset.",
                "files that the manifest of the earlier version there lists, under names of shards.",
                "Delete or rename the file on the Hub, or publish to another repository.",
            )
        return sorted(changed), sorted({*listed, files.BEGUN}.intersection(others))

    def _earlier_files(self, commit: str, entries: Mapping[str, RepoFile]) -> dict[str, str]:
        """Return name -> SHA-256 of the files in the manifest of a commit, none if it has no manifest of gzoo."""
        if files.MANIFEST not in entries:
            return {}
        with tempfile.TemporaryDirectory(prefix="gzoo-") as folder:
            path = Path(folder) / files.MANIFEST
            files.write_bytes(path, self._read(commit, entries[files.MANIFEST]))
            try:
                listed = cast("dict[str, dict[str, object]]", files.open_folder(path.parent)["files"])
                return {name: str(one["sha256"]) for name, one in listed.items()}
            except (DatasetError, NotFoundError, KeyError, TypeError, AttributeError):
                return {}

    def _read(self, commit: str, entry: RepoFile) -> bytes:
        """Return the content of a card or manifest on the Hub."""
        with transfers.begin() as way, tempfile.TemporaryDirectory(prefix="gzoo-") as folder:
            options: dict[str, Any] = {"kind": self.kind, "cache_dir": folder}
            return download_verified(self.repository, commit, entry, way, **options).read_bytes()

    def _is_same(self, path: Path, name: str, entry: RepoFile | None) -> bool:
        if entry and entry.lfs:
            return entry.lfs.sha256 == self.checksums[name]
        return entry is not None and client.has_content(path, entry)

    def _n_bytes(self, names: Iterable[str]) -> int:
        return sum(self.paths[name].stat().st_size for name in names)

    def _steps(self, changed: list[str], obsolete: list[str]) -> Generator[tuple[str, list[str], list[str]]]:
        """Yield message, names of files to send and of files to remove of each commit."""
        total = len(changed)
        if total + len(obsolete) <= FILES_IN_COMMIT:
            if changed or obsolete:
                yield f"{total} files by gzoo", changed, obsolete
            return
        last = [name for name in (files.MANIFEST, CARD) if name in changed]
        early = [name for name in changed if name not in last]
        removed = [name for name in obsolete if name != files.BEGUN]
        for start in range(0, max(len(early), len(removed)), FILES_IN_COMMIT):
            some = slice(start, start + FILES_IN_COMMIT)
            message = f"Files {start + 1} to {start + len(early[some])} of {total} by gzoo (not finished)"
            yield message, early[some], removed[some]
        for name in last[:-1]:
            yield f"{name} of {total} files by gzoo (not finished)", [name], []
        yield f"{total} files by gzoo", last[-1:], [files.BEGUN]

    def _commit(self, head: str, names: list[str], removed: list[str], message: str) -> str:
        """Send files and return the commit that contains all of them."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        is_unfinished = message.endswith("(not finished)")
        entries = self._entries(head) if is_unfinished or files.BEGUN in removed else {}
        operations: list[Any] = [
            CommitOperationDelete(name) for name in removed if name != files.BEGUN or name in entries
        ]
        if is_unfinished and files.BEGUN not in entries:
            mark = files.json_bytes({"kind": "publication", "n_files": len(self.paths)})
            operations.append(CommitOperationAdd(files.BEGUN, mark))
        with transfers.begin() as way:
            for name in self._each(names, "Uploading files"):
                operations.append(self._send(name, way))

        def commit(api: HfApi) -> str:
            try:
                made = api.create_commit(
                    self.repository, operations, commit_message=message, repo_type=self.kind, parent_commit=head
                )
            except Exception:
                newest = self._head()  # the Hub may have made the commit although its answer was lost
                if newest != head and self._has(newest, names, removed):
                    return newest
                raise
            return str(made.oid)

        return client.request(self.repository, commit, upload=f"a commit of {len(operations)} files")

    def _has(self, commit: str, names: list[str], removed: list[str]) -> bool:
        entries = self._entries(commit)
        return all(self._is_same(self.paths[name], name, entries.get(name)) for name in names) and not (
            set(removed) & set(entries)
        )

    def _send(self, name: str, way: transfers.Way) -> CommitOperationAdd:
        """Send a large file ahead of its commit; return what is to be done in that."""
        from huggingface_hub import CommitOperationAdd

        addition = CommitOperationAdd(name, str(self.paths[name]))
        if addition.upload_info.sha256.hex() != self.checksums[name]:
            raise InputError(
                f"'{self.paths[name]}' changed after it was checked (checksum mismatch).",
                f"SHA-256 {self.checksums[name]}.",
                "Close the program that writes to it, then rerun `gzoo publish`.",
            )
        upload = f"'{name}' ({self._n_bytes([name]):,} bytes)"
        for _ in range(client.MAX_ATTEMPTS):
            was_used = transfers.is_used()
            try:
                self._request("preupload_lfs_files", additions=[addition], num_threads=1, upload=upload)
            except Exception as error:
                if not way.takes(error, was_used=was_used):
                    raise
            else:
                break
        return addition

    def _each(self, names: list[str], stage: str) -> Generator[str]:
        """Yield the names and report the progress in bytes."""
        total, done = self._n_bytes(names), 0
        for name in names:
            client.report_bytes(self.progress, stage, done, total)
            yield name
            done += self._n_bytes([name])
        client.report_bytes(self.progress, stage, total, total)

    def _verify(self, commit: str, sent: list[str]) -> list[str]:
        """Compare the files on the Hub with the local ones, by the checksums that the Hub lists.

        Returns:
            Names of files without such a checksum that were not downloaded either.

        Raises:
            HubError: They differ.
        """
        entries = self._entries(commit)
        different = [name for name, path in self.paths.items() if not self._is_same(path, name, entries.get(name))]
        unknown = [name for name in different if name in sent and self._is_unlisted(name, entries.get(name))]
        different = [name for name in different if name not in unknown] + self._differences(commit)[1]
        if not different and self.verify:
            different = [
                name
                for name in self._each(unknown, "Verifying files")
                if self._checksum_of(commit, name) != self.checksums[name]
            ]
            unknown = []
        if different:
            raise HubError(
                f"Commit {commit} of '{self.repository}' differs from the local files: {', '.join(different[:5])}.",
                "files with the checksums that the manifest lists.",
                "Check whether others write to the repository, then rerun the command; do not use that commit.",
            )
        return unknown

    def _is_unlisted(self, name: str, entry: RepoFile | None) -> bool:
        """Return whether a file may be the local one although the Hub lists no SHA-256 for it, as some mirrors do."""
        return entry is not None and not entry.lfs and entry.size == self._n_bytes([name])

    def _checksum_of(self, commit: str, name: str) -> str:
        """Return the SHA-256 of a file on the Hub, which is downloaded."""
        with tempfile.TemporaryDirectory(prefix="gzoo-") as folder:
            path = self._request("hf_hub_download", filename=name, revision=commit, cache_dir=folder)
            return files.sha256(Path(path))


def _reasons(error: ValueError) -> str:
    """Return why the Hub does not accept a card: its sentences, or the first line of another error."""
    try:
        return "; ".join(str(one["message"]).rstrip(".") for one in json.loads(str(error))["errors"])
    except (ValueError, KeyError, TypeError):
        return client.safe_reason(error)


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
