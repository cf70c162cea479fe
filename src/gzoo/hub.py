"""The only module that talks to another machine: the Hugging Face Hub.

Copies are kept where the Hub's own client keeps them, and are the same to it. Three rules are added. Before anything
is read the Hub is asked whether it may be: a copy in the cache is served without that only where the Hub cannot be
reached, and then that is said. Each file is compared with what the Hub's listing says of it, and with our manifest
where there is one: what differs is removed. A name such as `main` is tied to a commit only when all of it is there.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import math
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gzoo import files
from gzoo.errors import AccessError, DatasetError, GZooError, HubError, InputError, NotFoundError
from gzoo.trees.campaign import campaign, names

if TYPE_CHECKING:
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    Loaded = datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict

EXIT_CODES = {
    "public": 0,
    "granted": 0,
    "cached": 0,
    "gated": 3,
    "waiting": 4,
    "missing": 5,
    "login missing": 6,
    "login wrong": 7,
    "refused": 8,
    "unreachable": 9,
}
TRIES = 5
PAUSE_SECONDS = 1.0  # before the second try; each further pause is twice as long
MAX_LISTING = 200_000  # files
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_RECORDS = "gzoo"  # folder inside a repository's folder of the cache
_BESIDES = ("README.md", files.MANIFEST)  # files that are read with every config

Progress = Callable[[str, int, int], None]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Access:
    """Whether a dataset on the Hub may be read, and which copy of it is here.

    Attributes:
        repository: `owner/name`.
        revision: The branch, tag or commit that was asked for.
        state: A key of `EXIT_CODES`: "public", "granted" (gated or private, and you may), "gated" (you have not
            asked), "waiting", "missing", "login missing", "login wrong", "refused" (or taken back), "cached" (the Hub
            was not reached, a copy is here) or "unreachable".
        says: The same in a sentence or two, with what to do.
        page: Where to look, and to ask.
        commit: What the Hub has under that revision, or "" where it does not say.
        cached: The commit of the copy in the cache under that revision, or "".
    """

    repository: str
    revision: str
    state: str
    says: str
    page: str
    commit: str = ""
    cached: str = ""

    @property
    def is_readable(self) -> bool:
        """Whether `gzoo.load` would give it."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """Exit code of `gzoo access`."""
        return EXIT_CODES[self.state]

    @property
    def serves(self) -> str:
        """The commit that `gzoo.load` would give, or ""."""
        return self.cached if self.state == "cached" else self.commit if self.is_readable else ""

    def to_dict(self) -> dict[str, object]:
        """What `gzoo access --json` prints."""
        return {
            "repository": self.repository,
            "revision": self.revision,
            "state": self.state,
            "is_readable": self.is_readable,
            "says": self.says,
            "page": self.page,
            "commit": self.commit,
            "cached": self.cached,
            "serves": self.serves,
        }


@dataclass(frozen=True, slots=True)
class Copy:
    """A dataset of the Hub on this machine.

    Attributes:
        folder: Where it is, as the Hub's own client keeps it.
        access: How it was come by.
        commit: Which commit it is, whole in what was asked for.
    """

    folder: Path
    access: Access
    commit: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the Hub says of a file."""

    path: str
    size: int
    blob: str  # git's identifier, a sha1
    sha256: str  # of a large file, else ""

    def is_of(self, path: Path) -> bool:
        """Whether a file has the content that the Hub says."""
        if path.stat().st_size != self.size:
            return False
        if self.sha256:
            return files.sha256(path) == self.sha256
        found = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        found.update(path.read_bytes())
        return found.hexdigest() == self.blob


def repository_of(name: str) -> tuple[str, str] | None:
    """Repository and revision that a text names, or None where it is no name on the Hub.

    Args:
        name: A campaign's name or `owner/name`; either may end in `@` and a branch, tag or commit.

    Raises:
        NotFoundError: The campaign has no dataset on the Hub.

    >>> repository_of("gz2"), repository_of("mwalmsley/gz_candels@v1"), repository_of("./gz2")
    (('mwalmsley/gz2', 'main'), ('mwalmsley/gz_candels', 'v1'), None)
    """
    text, _, revision = name.partition("@")
    if text in names():
        repository = campaign(text).hub.repository
        if not repository:
            raise NotFoundError(
                f"Campaign '{text}' has no dataset on the Hub that gzoo knows of.",
                "A published campaign.",
                "Build one.",
            )
        return repository, revision or "main"
    return (text, revision or "main") if _NAME.fullmatch(text) and ".." not in text else None


def access(name: str, *, revision: str | None = None) -> Access:
    """Whether a dataset on the Hub may be read, before anything is downloaded.

    Args:
        name: A campaign's name (`gz2`), or `owner/name`.
        revision: Branch, tag or commit; `main` when None.

    Raises:
        NotFoundError: It is no name of a dataset on the Hub.
    """
    found = repository_of(name)
    if found is None:
        raise NotFoundError(
            f"'{name}' is no name of a dataset on the Hub.",
            f"owner/name, or one of {', '.join(names())}.",
            "See `gzoo campaigns`.",
        )
    repository, named = found
    return _asked(repository, revision or named)


def copy_of(
    repository: str, revision: str = "main", config: str | None = None, progress: Progress | None = None
) -> Copy:
    """A dataset of the Hub on this machine: the files of one config, downloaded where need be and verified.

    Args:
        repository: `owner/name`.
        revision: Branch, tag or commit.
        config: Which config; the default one when None.
        progress: Called as (stage, MB done, MB) in place of the client's own bars.

    Raises:
        AccessError: It may not be read, is not there, or the Hub cannot be reached and no whole copy is here.
        NotFoundError: It has no such config.
        HubError: What came is not what the Hub says it is, again and again, or its listing cannot be right.
    """
    found = _asked(repository, revision)
    return _copied(found, config, progress)


def load_dataset(
    repository: str, name: str | None, split: str | None, streaming: bool, revision: str
) -> tuple[Loaded, Access]:
    """A dataset from the Hub as `datasets` has it, and how it was come by.

    Raises:
        AccessError: It may not be read, is not there, or the Hub cannot be reached and no whole copy is here.
        NotFoundError: It has no such config or split.
        HubError: It cannot be loaded.
    """
    import datasets

    found = _asked(repository, revision)
    try:
        if streaming and found.state != "cached":
            _require(found)
            folder = _card_alone(found)
            _named_files(folder, name, repository)
            how = _page_checks(folder)
            made = _patiently(
                lambda: datasets.load_dataset(
                    repository, name, split=split, streaming=True, revision=found.commit, **how
                ),
                repository,
            )
        else:
            copied = _copied(found, name, None)
            # with its files named, for else those of the first config are looked for, whichever is wanted
            contents = _by_split(copied.folder, name)
            made = datasets.load_dataset(
                str(copied.folder), name, data_files=contents, split=split, streaming=streaming
            )
    except (HubError, NotFoundError):
        raise
    except Exception as error:  # the client's libraries have errors of their own, of no public family
        said = _said(error)
        if isinstance(error, ValueError) and "split" in said:
            raise NotFoundError(f"'{repository}': {said}", "A split that it has.", "Choose one.") from None
        raise HubError(
            f"'{repository}' could not be loaded: {said}", "A dataset that `datasets` can read.", f"See {found.page}."
        ) from None
    for one in made.values() if isinstance(made, dict) else (made,):
        one.info.homepage = one.info.homepage or f"{found.page}/tree/{found.serves}"
    return made, found


def card_facts(text: str) -> dict[str, object]:
    """What the YAML at the head of a dataset card says, as the Hub reads it; nothing is sent.

    Raises:
        InputError: There is no YAML, or the Hub could not read it.
    """
    from huggingface_hub import DatasetCard

    if not text.startswith("---"):
        raise InputError("The card has no YAML.", "A first line of ---, and facts behind it.", "Write it again.")
    try:
        return DatasetCard(text).data.to_dict()
    except Exception as error:  # of the client, of its YAML library, or of Python where it is nested too deeply
        raise InputError(
            f"The card's YAML cannot be read: {_said(error)}.", "YAML that the Hub reads.", "Write it again."
        ) from error


def pretrained_weights(encoder: str) -> tuple[str, Mapping[str, str]]:
    """Weights of a timm encoder from the Hub, as a safetensors file.

    Returns:
        Path of the file on this machine, and where it is from: `repository`, `commit`, `licence`.

    Raises:
        HubError: timm names no weights for it, there is no safetensors file, or the Hub cannot be reached.
    """
    import timm
    from huggingface_hub import hf_hub_download

    config = timm.get_pretrained_cfg(encoder)
    repository = config.hf_hub_id if config is not None else None
    if config is None or not repository:
        raise HubError(
            f"timm knows no pretrained weights for encoder '{encoder}' on the Hub.",
            "An encoder such as convnext_nano.in12k.",
            "Choose another --encoder, or train without --pretrained.",
        )
    try:
        path = hf_hub_download(str(repository), "model.safetensors")
    except Exception as error:  # the client's HTTP library has errors of its own, of no public family
        raise HubError(
            f"Weights of '{repository}' could not be fetched from the Hugging Face Hub: {_said(error)}",
            "A repository with model.safetensors, and a network.",
            "Check the network, or train without --pretrained.",
        ) from error
    commit = Path(path).parent.name  # the cache keeps each commit's files in a folder of its name
    return path, {"repository": str(repository), "commit": commit, "licence": str(config.license or "unknown")}


# Giving


@dataclass(frozen=True, slots=True)
class Sent:
    """What was given to the Hub.

    Attributes:
        repository: `owner/name`.
        page: Where to look at it.
        commit: The commit that holds it; "" where nothing was made yet.
        is_new: Whether the repository is new.
        files: Those that were sent, in order.
        n_bytes: How many bytes they are.
        n_kept: Files that were there already.
        removed: Files of an earlier version that were removed.
        tag: The commit's tag, or "".
    """

    repository: str
    page: str
    commit: str
    is_new: bool
    files: tuple[str, ...]
    n_bytes: int
    n_kept: int
    removed: tuple[str, ...]
    tag: str


def page_of(repository: str, kind: str) -> str:
    """The page of a repository on the Hub."""
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repository}"


def give(
    files: Mapping[str, Path],
    digests: Mapping[str, str],
    repository: str,
    *,
    kind: str,
    owned: str,
    private: bool = False,
    gated: str | None = None,
    tag: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Sent:
    """Files in a repository of the Hub, in one commit, and verified there.

    What the Hub has already is not sent again: large files are known by their sha256 as soon as each of them has
    arrived, so that a call that was stopped goes on where it was. A repository is made, closed or gated before anything
    is sent. What was sent is read back and compared; the rest is compared by what the Hub lists.

    Args:
        files: Name in the repository -> the file.
        digests: Sha256 of each.
        repository: `owner/name`.
        kind: "dataset" or "model".
        owned: Regular expression of the names that are ours to remove where `files` lacks them.
        private: Let only the owners see it.
        gated: "auto" or "manual": who wants to read it has to ask.
        tag: Name for the commit.
        dry_run: Send nothing, and say what would be.
        progress: Called as (stage, bytes done, bytes).

    Raises:
        AccessError: Nobody is logged in, the login is wrong, or may not write there.
        HubError: The Hub cannot be reached, or has something else than what was sent.
        InputError: A file is another than `digests` say, or the tag names another commit.
    """
    gift = _Gift(files, digests, repository, kind, owned, progress or _silent)
    require_login(repository)
    with _welcomed(repository):
        return gift.give(private=private, gated=gated, tag=tag, dry_run=dry_run)


def require_login(repository: str) -> None:
    """Check that somebody is logged in, before what takes long is done to a repository's files.

    Raises:
        AccessError: Nobody is, or the Hub does not know the token.
        HubError: The Hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise _not_logged_in("login missing", "You are not logged in to the Hub.")
    with _welcomed(repository):
        _patiently(lambda: bool(HfApi().whoami()), repository)


@contextlib.contextmanager
def _welcomed(repository: str) -> Generator[None]:
    """The client's errors as ours, where something is to be written."""
    try:
        yield
    except (GZooError, OSError) as error:
        if isinstance(error, GZooError) or type(error).__module__ == "builtins":
            raise
        raise _unwelcome(error, repository) from None
    except Exception as error:  # the client's HTTP library has errors of its own, of no public family
        raise _unwelcome(error, repository) from None


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _unwelcome(error: Exception, repository: str) -> HubError:
    """What an error of the client comes to, where something is to be written."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status, token = error.response.status_code, get_token()
        if status in {401, 403} and token and _is_wrong(token):
            return _not_logged_in("login wrong", "The Hub does not know your login: its token is wrong, or withdrawn.")
        if status in {401, 403, 404}:
            return AccessError(
                f"You may not write to '{repository}' on the Hub.",
                "A repository of your own or of your organisation, and a token with the right to write.",
                "Check the name, and run `hf auth login` with such a token.",
                exit_code=EXIT_CODES["refused"],
                state="refused",
            )
    return HubError(
        f"'{repository}' could not be written to: {_said(error)}",
        "A network, and a Hub that answers.",
        "Give the same command again: what has arrived is not sent again.",
    )


def _not_logged_in(state: str, says: str) -> AccessError:
    return AccessError(
        says,
        "A token with the right to write.",
        "Run `hf auth login`.",
        exit_code=EXIT_CODES[state],
        state=state,
    )


@contextlib.contextmanager
def _quietly() -> Generator[None]:
    """Without the client's progress bars, where gzoo shows its own, and its doubts about tables beside a model."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    was_quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            yield
    finally:
        if not was_quiet:
            enable_progress_bars()


@dataclass(frozen=True, slots=True)
class _Gift:
    """Files on their way into a repository."""

    files: Mapping[str, Path]
    digests: Mapping[str, str]
    repository: str
    kind: str
    owned: str
    say: Progress

    def give(self, *, private: bool, gated: str | None, tag: str | None, dry_run: bool) -> Sent:
        from huggingface_hub import HfApi

        head = self._head()
        is_new = not head
        tagged = self._tagged(tag) if tag and head else ""
        if dry_run:
            wanted, gone = self._differences(head)
            return self._said(head, is_new, wanted, gone, tag)
        if is_new:
            _patiently(
                lambda: HfApi().create_repo(self.repository, repo_type=self.kind, private=private, exist_ok=True),
                self.repository,
            )
            head = self._head()
        settings: dict[str, Any] = {**({"private": True} if private else {}), **({"gated": gated} if gated else {})}
        if settings:
            _patiently(
                lambda: HfApi().update_repo_settings(self.repository, repo_type=self.kind, **settings), self.repository
            )
        wanted, gone = self._differences(head)
        if tagged and (tagged != head or wanted or gone):
            raise InputError(
                f"'{self.repository}' has a tag '{tag}' already, for commit {tagged}.",
                "A tag that is not taken: whoever loads it must always get the same.",
                "Choose another --tag.",
            )
        with _quietly():
            head = self._commit(head, wanted, gone)
            self._verify(head, wanted)
        if tag and not tagged:
            _patiently(
                lambda: HfApi().create_tag(self.repository, tag=tag, revision=head, repo_type=self.kind, exist_ok=True),
                self.repository,
            )
            if self._tagged(tag) != head:
                raise HubError(f"The tag '{tag}' of '{self.repository}' names another commit than {head}.")
        return self._said(head, is_new, wanted, gone, tag)

    def _said(self, head: str, is_new: bool, wanted: list[str], gone: list[str], tag: str | None) -> Sent:
        return Sent(
            repository=self.repository,
            page=page_of(self.repository, self.kind),
            commit=head,
            is_new=is_new,
            files=tuple(wanted),
            n_bytes=sum(self.files[name].stat().st_size for name in wanted),
            n_kept=len(self.files) - len(wanted),
            removed=tuple(gone),
            tag=tag or "",
        )

    def _head(self) -> str:
        """The newest commit, or "" where there is no such repository."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = _patiently(lambda: HfApi().repo_info(self.repository, repo_type=self.kind), self.repository)
        except RepositoryNotFoundError:
            return ""
        return str(info.sha)

    def _tagged(self, tag: str) -> str:
        """The commit that a tag names, or ""."""
        from huggingface_hub import HfApi

        refs = _patiently(lambda: HfApi().list_repo_refs(self.repository, repo_type=self.kind), self.repository)
        return next((str(one.target_commit) for one in refs.tags if one.name == tag), "")

    def _differences(self, commit: str) -> tuple[list[str], list[str]]:
        """Files to send, and files to remove."""
        entries = _listing(self.repository, commit, self.kind) if commit else {}
        wanted = [name for name in sorted(self.files) if name not in entries or not self._is_same(entries[name])]
        gone = [name for name in sorted(entries) if name not in self.files and re.fullmatch(self.owned, name)]
        return wanted, gone

    def _is_same(self, entry: _Entry) -> bool:
        """Whether the Hub lists a file as it is here."""
        if entry.sha256:
            return entry.sha256 == self.digests[entry.path]
        return entry.is_of(self.files[entry.path])

    def _commit(self, head: str, wanted: list[str], gone: list[str]) -> str:
        """The commit that holds all files."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        if not wanted and not gone:
            return head
        total, done = sum(self.files[name].stat().st_size for name in wanted), 0
        additions: list[CommitOperationAdd] = []
        for name in wanted:
            self.say("sending", done, total)
            addition = CommitOperationAdd(name, str(self.files[name]))
            if addition.upload_info.sha256.hex() != self.digests[name]:
                raise InputError(
                    f"{self.files[name]} was changed since it was checked.",
                    f"sha256 {self.digests[name]}.",
                    "Stop that.",
                )
            _patiently(
                lambda addition=addition: HfApi().preupload_lfs_files(
                    self.repository, [addition], repo_type=self.kind, num_threads=1
                ),
                self.repository,
            )
            additions.append(addition)
            done += self.files[name].stat().st_size
        self.say("sending", done, total)
        removals = [CommitOperationDelete(name) for name in gone]
        title = f"{len(wanted)} files by gzoo"
        for trial in range(TRIES):
            _pause(trial)
            try:
                made = HfApi().create_commit(
                    self.repository,
                    [*additions, *removals],
                    commit_message=title,
                    repo_type=self.kind,
                    parent_commit=head,
                )
                return str(made.oid)
            except Exception as error:  # see give
                if not _is_passing(error) or trial == TRIES - 1:
                    raise
                newest = self._head()
                if newest != head and self._differences(newest) == ([], []):  # it was made, and the answer was lost
                    return newest
        raise AssertionError("unreachable")

    def _verify(self, commit: str, sent: list[str]) -> None:
        """Compare every file with what the Hub has under a commit.

        Raises:
            HubError: It has something else.
        """
        wrong, gone = self._differences(commit)
        if not wrong and not gone:
            done, total = 0, sum(self.files[name].stat().st_size for name in sent)
            for name in sent:
                self.say("verifying", done, total)
                if not any(self._read_back(name, commit) for _ in range(2)):  # what is only damaged on the way passes
                    wrong.append(name)
                done += self.files[name].stat().st_size
            self.say("verifying", done, total)
        if wrong or gone:
            raise HubError(
                f"'{self.repository}' has at commit {commit} not what was sent: {', '.join([*wrong, *gone][:5])}.",
                "The sha256 of each file that the manifest lists.",
                "Do not use that commit. Look whether others write there too, and give the same command again.",
            )

    def _read_back(self, name: str, commit: str) -> bool:
        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory(prefix="gzoo-") as folder:
            path = _patiently(
                lambda: HfApi().hf_hub_download(
                    self.repository, name, repo_type=self.kind, revision=commit, cache_dir=folder
                ),
                self.repository,
            )
            return files.sha256(Path(path)) == self.digests[name]


# Who may read


def _asked(repository: str, revision: str) -> Access:
    """What the Hub says of a repository, or the cache where the Hub cannot be reached."""
    page = f"https://huggingface.co/datasets/{repository}"
    state, says, commit = _answered(repository, revision, page)
    cached = _cached(repository, revision)
    if state == "unreachable":
        if cached:
            state, says = "cached", f"{says} '{repository}' is taken from the cache, commit {cached}."
        else:
            says = f"{says} No copy of '{repository}' at {revision} is in the cache."
    elif EXIT_CODES[state] == 0:
        if cached == commit:
            says += " The cache has it."
        elif cached:
            says += f" The cache has another copy, commit {cached}, which would be replaced."
        else:
            says += " The cache has no copy."
    elif cached:
        if state == "gated":
            state = "refused"
            says = f"'{repository}' is gated, and you may not read it any more. Ask for access at {page}."
        says += f" A copy of it, commit {cached}, is in the cache; it is not used."
    return Access(repository, revision, state, says, page, commit, cached)


def _answered(repository: str, revision: str, page: str) -> tuple[str, str, str]:
    """State, sentence and commit that the Hub's answer comes to, whatever is in the cache."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.is_offline_mode():
        return "unreachable", "The Hub is not asked, for HF_HUB_OFFLINE is set.", ""
    try:
        _patiently(lambda: HfApi().auth_check(repository, repo_type="dataset"), repository)
        info = _patiently(lambda: HfApi().dataset_info(repository, revision=revision), repository)
    except HfHubHTTPError as error:
        return *_refusal(error, repository, revision, page), ""
    except Exception as error:  # the client's HTTP library has errors of its own, of no public family
        return "unreachable", f"The Hub cannot be reached ({_said(error)}).", ""
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        return "unreachable", "The Hub does not say which commit it has.", ""
    if info.private or info.gated:
        kind = "private" if info.private else "gated"
        return "granted", f"'{repository}' is {kind}, and you may read it, commit {commit}.", commit
    return "public", f"'{repository}' is public, commit {commit}.", commit


def _refusal(error: HfHubHTTPError, repository: str, revision: str, page: str) -> tuple[str, str]:
    """State and sentence that the Hub's refusal comes to.

    The Hub tells waiting and rejected people apart only by the words of its message.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    token = get_token()
    status, message = error.response.status_code, (error.server_message or "").lower()
    if isinstance(error, RevisionNotFoundError):
        state, says = "missing", f"'{repository}' has no branch, tag or commit '{revision}'; see {page}/tree/main."
    elif isinstance(error, GatedRepoError) and not token:
        state, says = "login missing", f"'{repository}' is gated, and you are not logged in."
        says += f" Ask for access at {page}, then run `hf auth login`."
    elif isinstance(error, GatedRepoError) and ("awaiting" in message or "pending" in message):
        state, says = "waiting", f"Your request to read '{repository}' waits for its owners; see {page}."
    elif isinstance(error, GatedRepoError) and "reject" in message:
        state, says = "refused", f"Your request to read '{repository}' was turned down; see {page}."
    elif isinstance(error, GatedRepoError):
        state, says = "gated", f"'{repository}' is gated, and you have no access yet. Ask for it at {page}."
    elif status in {401, 403} and token and _is_wrong(token):
        state, says = "login wrong", "The Hub does not know your login: its token is wrong, or was withdrawn."
        says += " Run `hf auth login` again, or `hf auth logout` to read what is public."
    elif isinstance(error, RepositoryNotFoundError) and token:
        state, says = "missing", f"There is no dataset '{repository}' on the Hub, or it is private and not yours."
    elif isinstance(error, RepositoryNotFoundError):
        state, says = "missing", f"There is no dataset '{repository}' on the Hub that all may see."
        says += " If it is a private one, run `hf auth login`."
    else:
        state, says = "unreachable", f"The Hub does not answer as it should ({_said(error)})."
    return state, says


def _is_wrong(token: str) -> bool:
    """Whether the Hub knows nobody with this token."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().whoami(token=token)
    except HfHubHTTPError as error:
        return error.response.status_code == 401
    except Exception:  # the client's HTTP library has errors of its own, of no public family
        return False
    return False


def _require(found: Access) -> None:
    if not found.is_readable:
        raise AccessError(found.says, exit_code=found.exit_code, state=found.state)


# What is in the cache


def _storage(repository: str) -> Path:
    """The folder of a repository in the cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"datasets--{repository.replace('/', '--')}"


def _snapshot(repository: str, commit: str) -> Path:
    return _storage(repository) / "snapshots" / commit


def _cached(repository: str, revision: str) -> str:
    """The commit of the copy in the cache, or "". What was begun and is not whole is none."""
    refs = _storage(repository) / "refs"
    if _COMMIT.fullmatch(revision):
        commit = revision
        is_tied = any(_commit_in(path) == commit for path in refs.rglob("*"))
        if not is_tied and _record(repository, commit).exists():
            return ""
    else:
        commit = _commit_in(refs / revision) if _is_safe(revision) else ""
    if not commit or not any(path.is_file() for path in _snapshot(repository, commit).rglob("*.*")):
        return ""
    return commit


def _commit_in(reference: Path) -> str:
    try:
        commit = reference.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
    return commit if _COMMIT.fullmatch(commit) else ""


def _record(repository: str, commit: str) -> Path:
    return _storage(repository) / _RECORDS / f"{commit}.json"


def _read_record(repository: str, commit: str) -> dict[str, dict[str, Any]]:
    """The Hub's listing of a commit, as it was when downloaded, and which files were found to be right."""
    try:
        return cast("dict[str, dict[str, Any]]", files.read_json(_record(repository, commit))["files"])
    except (DatasetError, KeyError):
        return {}


# Downloading


def _copied(found: Access, config: str | None, progress: Progress | None) -> Copy:
    _require(found)
    repository, commit = found.repository, found.serves
    folder = _snapshot(repository, commit)
    if found.state == "cached":
        listed = list(_read_record(repository, commit)) or [
            path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()
        ]
        wanted = _selected(listed, folder, config, repository)
        missing = [name for name in wanted if not (folder / name).is_file()] or _missing_shards(wanted)
        if missing:
            raise AccessError(
                f"{found.says} But that copy is not whole: {missing[0]} is not there.",
                "All files of the config.",
                "Load it once with a network.",
                exit_code=EXIT_CODES["unreachable"],
                state="unreachable",
            )
        return Copy(folder, found, commit)
    entries = _listing(repository, commit)
    checked = _Checked(repository, commit, entries)
    checked.fetch([name for name in _BESIDES if name in entries], {}, _unseen if progress else None)
    wanted = _selected(entries, folder, config, repository)
    checked.fetch([name for name in wanted if name not in _BESIDES], _promised(folder), progress)
    reference = _storage(repository) / "refs" / found.revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(reference, commit.encode())
    return Copy(folder, found, commit)


def _unseen(stage: str, done: int, total: int) -> None:
    """Progress that is not worth a bar, where the caller shows its own."""


def _card_alone(found: Access) -> Path:
    """The folder of the commit in the cache, with its card."""
    entries = _listing(found.repository, found.commit)
    _Checked(found.repository, found.commit, entries).fetch([name for name in _BESIDES if name in entries], {})
    return _snapshot(found.repository, found.commit)


def _listing(repository: str, commit: str, kind: str = "dataset") -> dict[str, _Entry]:
    """What the Hub says of each file of a commit.

    Raises:
        HubError: It says something that cannot be.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    def ask() -> list[_Entry]:
        made: list[_Entry] = []
        for one in HfApi().list_repo_tree(repository, recursive=True, revision=commit, repo_type=kind):
            if isinstance(one, RepoFile):
                sha256 = one.lfs.sha256 if one.lfs else ""
                made.append(_Entry(one.path, one.lfs.size if one.lfs else one.size, one.blob_id, sha256))
            if len(made) > MAX_LISTING:
                raise _impossible(repository, f"more than {MAX_LISTING:,} files")
        return made

    entries: dict[str, _Entry] = {}
    for entry in _patiently(ask, repository):
        if not _is_safe(entry.path):
            raise _impossible(repository, f"a file {entry.path!a}, which leads out of its folder")
        if entry.path in entries:
            raise _impossible(repository, f"the file {entry.path} twice")
        entries[entry.path] = entry
    return entries


def _impossible(repository: str, what: str) -> HubError:
    return HubError(
        f"The Hub's listing of '{repository}' has {what}.",
        "Each file once, inside the dataset's folder.",
        "Nothing was downloaded. Try again later; if it stays so, tell the dataset's owners.",
    )


def _is_safe(name: str) -> bool:
    """Whether a name from elsewhere stays inside the folder that it is joined to."""
    parts = name.split("/")
    return name.isprintable() and not any(part in {"", ".", ".."} or set(part) & set("\\:") for part in parts)


class _Checked:
    """Files of one commit on their way into the cache, each compared with what is said of it."""

    def __init__(self, repository: str, commit: str, entries: Mapping[str, _Entry]) -> None:
        self.repository, self.commit, self.entries = repository, commit, entries
        self.folder = _snapshot(repository, commit)
        self.known = _read_record(repository, commit)  # so that large files are not digested each time

    def fetch(self, names: Iterable[str], promised: Mapping[str, str], progress: Progress | None = None) -> None:
        """Have these files in the cache, right.

        Args:
            names: Of files in the listing.
            promised: Sha256 of files that our manifest names.
            progress: See `copy_of`.
        """
        names = list(names)
        for name in names:
            if name in promised and self.entries[name].sha256 not in {"", promised[name]}:
                raise HubError(
                    f"{name} of '{self.repository}' at {self.commit} is not the file that its manifest names.",
                    f"sha256 {promised[name]}.",
                    "Tell the dataset's owners: it was changed, or not all of it was published.",
                )
        total, done = sum(self.entries[name].size for name in names), 0
        wanted = [name for name in names if not self._is_here(name)]
        done = total - sum(self.entries[name].size for name in wanted)

        def say(n: int) -> None:
            nonlocal done
            done = min(done + n, total)
            if progress:
                progress("downloading (MB)", done // 1_000_000, math.ceil(total / 1_000_000))

        try:
            with ThreadPoolExecutor(4) as pool:
                jobs = [
                    pool.submit(self._fetch, name, promised.get(name), say if progress else None) for name in wanted
                ]
                try:
                    for job in jobs:
                        job.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        finally:
            self._write_record()

    def _is_here(self, name: str) -> bool:
        """Whether the file is in the cache, and was found to be right, and was not touched since."""
        path = self.folder / name
        return path.is_file() and self.known.get(name, {}).get("right") == _stamp(path)

    def _fetch(self, name: str, promised: str | None, say: Callable[[int], None] | None) -> None:
        entry = self.entries[name]
        bars: dict[str, Any] = {"tqdm_class": _silent_bar(say)} if say else {}
        for trial in range(TRIES):
            _pause(trial)
            path = Path(_patiently(lambda: self._download(name, bars), self.repository))
            if entry.is_of(path) and (promised is None or entry.sha256 == promised or files.sha256(path) == promised):
                self.known[name] = {"right": _stamp(path)}
                return
            path.resolve().unlink(missing_ok=True)  # of what the cache calls a blob, the name of which is a promise
            path.unlink(missing_ok=True)
        raise HubError(
            f"{name} of '{self.repository}' came with other content than the Hub says, {TRIES} times.",
            f"{entry.size:,} bytes, {'sha256 ' + entry.sha256 if entry.sha256 else 'git blob ' + entry.blob}.",
            "Nothing of it was kept. Check the network (a proxy?), and run the same again: what came right stays.",
        )

    def _download(self, name: str, bars: Mapping[str, Any]) -> str:
        from huggingface_hub import HfApi

        return HfApi().hf_hub_download(self.repository, name, repo_type="dataset", revision=self.commit, **bars)

    def _write_record(self) -> None:
        contents = {
            name: {**self.known.get(name, {}), "bytes": entry.size, "sha256": entry.sha256, "blob": entry.blob}
            for name, entry in self.entries.items()
        }
        path = _record(self.repository, self.commit)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {"commit": self.commit, "files": contents})


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _silent_bar(say: Callable[[int], None]) -> type:
    """A progress bar for the client that shows nothing and tells us."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            say(int(n or 0))
            return None

    return Bar


def _promised(folder: Path) -> dict[str, str]:
    """Sha256 of each file that our manifest names; nothing where there is none."""
    if not (folder / files.MANIFEST).is_file():
        return {}
    try:
        manifest = files.open_folder(folder)
        contents = cast("dict[str, dict[str, object]]", manifest["files"])
        return {name: str(one["sha256"]) for name, one in contents.items()}
    except (DatasetError, KeyError, TypeError, AttributeError):
        return {}  # a manifest of something else


# Which files


def _selected(listed: Iterable[str], folder: Path, config: str | None, repository: str) -> list[str]:
    """The files that a config needs, of those of the repository."""
    listed = sorted(name for name in listed if not Path(name).name.startswith("."))
    patterns = _named_files(folder, config, repository)
    if patterns is None:
        return listed
    named = {name for name in listed if any(fnmatch.fnmatchcase(name, one) for one in patterns)}
    indices = {files.index_name(name) for name in named if name.startswith("data/")}
    return [name for name in listed if name in {*_BESIDES, *named, *indices}]


def _named_files(folder: Path, config: str | None, repository: str) -> list[str] | None:
    """The patterns of a config's files in the card, None where the card has no configs.

    Raises:
        NotFoundError: The card has configs, and not this one.
    """
    configs = _configs(folder)
    if not configs:
        if config not in {None, "default"}:
            raise NotFoundError(f"'{repository}' has no config '{config}'.", "Its only one.", "Leave it away.")
        return None
    chosen = _chosen(configs, config)
    if chosen not in configs:
        raise NotFoundError(f"'{repository}' has no config '{chosen}'.", f"One of {', '.join(configs)}.", "Choose one.")
    return _patterns(configs[chosen].get("data_files")) or None


def _by_split(folder: Path, config: str | None) -> dict[str, list[str]] | None:
    """Split -> patterns of a config's files, None where the card does not say it so."""
    configs = _configs(folder)
    listed: Any = configs[_chosen(configs, config)].get("data_files") if configs else None
    by_split: dict[str, list[str]] = {}
    if not isinstance(listed, list):
        return None
    for one in cast("list[Any]", listed):
        if not isinstance(one, dict) or not {"split", "path"} <= set(cast("dict[str, Any]", one)):
            return None
        by_split.setdefault(str(one["split"]), []).extend(_patterns(one["path"]))
    return by_split or None


def _chosen(configs: Mapping[str, Mapping[str, Any]], config: str | None) -> str:
    """The name of the config that is meant, as `datasets` understands it."""
    if config is None and len(configs) == 1:
        return next(iter(configs))
    return config or next((name for name, one in configs.items() if one.get("default")), "default")


def _configs(folder: Path) -> dict[str, dict[str, Any]]:
    """What the card says of each config.

    Raises:
        HubError: It names files outside the dataset's folder, which `datasets` would read.
    """
    from huggingface_hub import DatasetCard

    if not (folder / "README.md").is_file():
        return {}
    try:
        listed: Any = DatasetCard.load(folder / "README.md").data.get("configs") or []
        configs: dict[str, dict[str, Any]] = {str(one["config_name"]): one for one in listed}
    except Exception:  # yaml's own, and whatever comes of YAML that is something else; `datasets` will say so
        return {}
    for name, one in configs.items():
        for pattern in (*_patterns(one.get("data_files")), *_patterns(one.get("data_dir"))):
            if not _is_safe(pattern.rstrip("/")):
                raise HubError(
                    f"The card in {folder} says that config '{name}' has files {pattern!a}.",
                    "Files inside the dataset's folder.",
                    "Nothing of it was read. Tell the dataset's owners.",
                )
    return configs


def _patterns(value: Any) -> list[str]:
    """Patterns in what a card may say: one, a list, by split, or a list by split."""
    if isinstance(value, str):
        return [value.removeprefix("./")]
    if isinstance(value, dict):
        inside = cast("dict[str, Any]", value)
        return _patterns(inside["path"]) if "path" in inside else _patterns(list(inside.values()))
    if isinstance(value, list):
        return [pattern for one in cast("list[Any]", value) for pattern in _patterns(one)]
    return []


def _missing_shards(present: Iterable[str]) -> list[str]:
    """Shards that are not there, told from the names of those that are: `train-00000-of-00003.parquet`."""
    present = set(present)
    missing: list[str] = []
    for name in sorted(present):
        found = re.fullmatch(r"(.*-)(\d{5})(-of-)(\d{5})(\.\w+)", name)
        if found:
            start, _, middle, n, end = found.groups()
            shards = (f"{start}{i:05d}{middle}{n}{end}" for i in range(min(int(n), 10_000)))
            missing += [shard for shard in shards if shard not in present]
    return missing


def _page_checks(folder: Path) -> dict[str, Any]:
    """How to have each page's checksum looked at, for a stream has no file to digest."""
    if not (folder / files.MANIFEST).is_file():
        return {}
    import pyarrow.dataset as parquet

    return {"fragment_scan_options": parquet.ParquetFragmentScanOptions(page_checksum_verification=True)}


# Passing faults, and what is said of them


def _patiently(ask: Callable[[], Answer], repository: str) -> Answer:
    """The answer, asked for again after faults that pass, with longer and longer pauses.

    Raises:
        HubError: They did not pass.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for trial in range(TRIES):
        _pause(trial)
        try:
            return ask()
        except Exception as error:  # the client's HTTP library has errors of its own, of no public family
            if not _is_passing(error):
                raise
            if trial == TRIES - 1:
                if isinstance(error, HfHubHTTPError):
                    raise
                raise HubError(
                    f"'{repository}' could not be had from the Hub in {TRIES} tries: {_said(error)}",
                    "A network, and a Hub that answers.",
                    "Run the same again: what came right stays.",
                ) from None
    raise AssertionError("unreachable")


def _is_passing(error: BaseException) -> bool:
    """Whether the same request may well be answered a little later."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in {408, 429} or error.response.status_code >= 500
    if isinstance(error, LocalEntryNotFoundError):  # what the client makes of an answer that did not come
        return error.__cause__ is None or _is_passing(error.__cause__)
    kinds = {one.__name__ for one in type(error).__mro__}
    return "TransportError" in kinds or "Consistency check failed" in str(error)


def _pause(trial: int) -> None:
    if trial:
        time.sleep(PAUSE_SECONDS * 2 ** (trial - 1))


def _said(error: BaseException) -> str:
    """The first line of what an error says."""
    return _clean((str(error).strip().splitlines() or [type(error).__name__])[0])


def _clean(text: str) -> str:
    """A text from elsewhere without tokens, and short."""
    from huggingface_hub import get_token

    token = get_token()
    if token:
        text = text.replace(token, "***")
    text = re.sub(r"hf_[A-Za-z0-9]{8,}", "***", text)
    return "".join(one for one in text if one.isprintable())[:500]
