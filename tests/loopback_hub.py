"""A Hugging Face Hub on this machine, for tests: the endpoints that `huggingface_hub` and `datasets` use.

    with LoopbackHub() as hub:
        hub.users["hf_alice"] = "alice"                       # token -> user
        hub.add_repo("alice/gz2", files=folder_or_bytes, gated="manual")
        hub.repos["alice/gz2"].grant("bob")                   # or .wait, .reject, .revoke
        hub.faults.append(Fault("unavailable", "GET .*/resolve/", times=2))
        ... HF_ENDPOINT=hub.endpoint, HF_HUB_DISABLE_XET=1 ...
        assert hub.log[-1].path == "/api/whoami-v2"

Refusals follow the real Hub. A private repository of others is reported as not found, with status 401 instead of 404
without a login. An unknown token gets 401 everywhere. A gated repository can be listed but not read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

SIZE_CATEGORIES = (
    *("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"),
    *("1B<n<10B", "10B<n<100B", "100B<n<1T", "n>1T"),
)
LFS_SUFFIXES = (".parquet", ".safetensors", ".jpg", ".png", ".tar", ".arrow", ".onnx", ".bin")


@dataclass
class Request:
    """A request to the Hub."""

    method: str
    path: str  # with its query
    status: int
    token: str  # sent with the request, or ""
    n_received: int  # bytes of the request's body
    n_sent: int  # bytes of the answer's body
    range: str  # the Range header, or ""


@dataclass
class Fault:
    """A failure of the Hub or of the network.

    kind:
        unavailable     503
        refused         `status`, with the sentence `said`
        cut             the connection ends in the middle of the answer
        short           half of the file, with headers that declare it complete
        flip            one byte of the file is changed
        twice           a listing contains its first file again, with another size
        escape          a listing also contains `../../evil.parquet`
        elsewhere       302 to another host, which has the file
        imposter        302 to another host, which has another file of the same size
        unstored        an uploaded file is accepted and lost
        lost answer     a commit is made, and answered with 503
        refuse later    after `times` such requests, each is refused with 403 and the sentence `said`
        killed          after `times` requests, each connection ends without an answer
        killed after    the same, but the last of these requests is still worked on, which its client never learns
        dropped         the connection ends without an answer
        silent          no answer within `seconds`, then the connection ends
        slow            the file arrives in ten parts over `seconds`
        stalled         half of the file arrives, then nothing for `seconds`
        busy            429, with Retry-After and the Hub's own header: `seconds`
        invalid card    the card's metadata are not accepted, with the sentence `said`
        unlisted        a listing says nothing of the SHA-256 of large files
    match: a regular expression, searched in "METHOD path?query".
    times: how often the failure occurs; None for always.
    """

    kind: str
    match: str = ""
    times: int | None = None
    status: int = 0
    said: str = ""
    seconds: float = 60.0


@dataclass
class Repo:
    """A repository: its commits, branches, tags and permissions."""

    name: str
    kind: str = "dataset"
    private: bool = False
    gated: str | bool = False
    granted: set[str] = field(default_factory=set[str])
    waiting: set[str] = field(default_factory=set[str])
    rejected: set[str] = field(default_factory=set[str])
    members: set[str] = field(default_factory=set[str])
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    refs: dict[str, str] = field(default_factory=dict[str, str])  # branches, by name
    tags: dict[str, str] = field(default_factory=dict[str, str])
    titles: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the newest commit."""
        return self.commits[self.refs["main"]]

    @property
    def head(self) -> str:
        """The newest commit."""
        return self.refs["main"]

    def commit(self, files: Mapping[str, bytes], title: str = "Change", branch: str = "main") -> str:
        """Add a commit that contains only these files."""
        listing = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())
        text = json.dumps([self.kind, self.name, len(self.commits), self.refs.get(branch, ""), listing])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid], self.refs[branch], self.titles[oid] = dict(files), oid, title
        return oid

    def grant(self, user: str) -> None:
        """Give a user access."""
        self.revoke(user)
        self.granted.add(user)

    def wait(self, user: str) -> None:
        """Set a user's request to pending."""
        self.revoke(user)
        self.waiting.add(user)

    def reject(self, user: str) -> None:
        """Reject a user's request."""
        self.revoke(user)
        self.rejected.add(user)

    def revoke(self, user: str) -> None:
        """Remove a user's access and requests."""
        for users in (self.granted, self.waiting, self.rejected):
            users.discard(user)

    def is_owner(self, user: str) -> bool:
        """Whether a user may see it if it is private, and change it."""
        return bool(user) and (user == self.name.partition("/")[0] or user in self.members)

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, a tag, or a commit in full or abbreviated."""
        for names in (self.refs, self.tags):
            if revision in names:
                return names[revision]
        found = [oid for oid in self.commits if len(revision) >= 7 and oid.startswith(revision)]
        return found[0] if len(found) == 1 else None


class LoopbackHub:
    """A Hub at `endpoint`, from `with LoopbackHub() as hub` until the block ends."""

    def __init__(self, page_size: int = 1000) -> None:
        self.page_size = page_size  # entries of a listing before the next page
        self.users: dict[str, str] = {}
        self.repos: dict[str, Repo] = {}
        self.private_owners: set[str] = set()  # new repositories of these are private by default
        self.renamed: dict[str, str] = {}  # old name -> present name; requests for the old one are redirected
        self.cas = ""  # address of the Xet storage, which keeps the large files of all repositories if it is not ""
        self.ended = threading.Event()  # what waits goes on when the Hub ends
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.lfs: dict[str, bytes] = {}  # large files that were uploaded, by sha256
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        other = type("Other", (_OtherHost,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), one) for one in (handler, other)]
        self.endpoint = f"http://127.0.0.1:{self._servers[0].server_port}"
        self.other_host = f"http://localhost:{self._servers[1].server_port}"  # its requests are in the same log

    def __enter__(self) -> LoopbackHub:
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add_repo(
        self,
        name: str,
        files: Mapping[str, bytes | str] | Path | None = None,
        *,
        private: bool = False,
        gated: str | bool = False,
        kind: str = "dataset",
    ) -> Repo:
        """Add a repository with one commit of the given files, or of a folder."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()
            }
        repo = Repo(name, kind, private, gated)
        repo.commit({path: data.encode() if isinstance(data, str) else data for path, data in (files or {}).items()})
        self.repos[name if kind == "dataset" else f"{kind}s/{name}"] = repo
        return repo

    def asked(self, pattern: str) -> list[Request]:
        """Requests whose "METHOD path?query" matches a pattern."""
        return [one for one in self.log if re.search(pattern, f"{one.method} {one.path}")]

    def fault(self, request: str, kinds: Iterable[str]) -> str:
        """The kind of the failure that this request meets, or ""; counts it."""
        found = self.met(request, kinds)
        return found.kind if found else ""

    def met(self, request: str, kinds: Iterable[str]) -> Fault | None:
        """The failure that this request meets, or None; counts it."""
        with self.lock:
            for fault in self.faults:
                if fault.kind in kinds and re.search(fault.match, request) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


def environment(hub: LoopbackHub, home: Path, token: str = "") -> dict[str, str]:
    """Variables for another process that uses this Hub, with its caches in `home`."""
    settings = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return {**settings, "HF_TOKEN": token} if token else settings


class XetStorage:
    """A Xet storage at `address` that answers every request with one status, or not at all (0)."""

    def __init__(self, status: int) -> None:
        self.log: list[str] = []
        self._ended = threading.Event()
        storage = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                storage.log.append(f"{self.command} {self.path}")
                if not status:
                    storage._ended.wait(60)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> XetStorage:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


class Client:
    """This process as a user of the Hub: its login and its network."""

    def __init__(self, hub: LoopbackHub, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home, self.cache, self._patch = home, home / "hub", patch
        import datasets
        from huggingface_hub import HfFileSystem, constants

        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": hub.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(self.cache),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }.items():
            patch.setattr(constants, name, value)
        patch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
        patch.delenv("HF_TOKEN", raising=False)
        patch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        HfFileSystem.clear_instance_cache()

    def login(self, token: str) -> None:
        """Do what `hf auth login` does; "" logs out."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "token").write_text(token)

    def use_xet(self) -> None:
        """Do what unsetting HF_HUB_DISABLE_XET does."""
        from huggingface_hub import constants

        self._patch.setattr(constants, "HF_HUB_DISABLE_XET", False)

    def set_offline(self, is_offline: bool = True) -> None:
        """Do what HF_HUB_OFFLINE does."""
        import datasets
        from huggingface_hub import constants

        self._patch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
        self._patch.setattr(datasets.config, "HF_HUB_OFFLINE", is_offline)


class _Answer(Exception):  # noqa: N818 - not an error
    """An answer that ends the handling of a request."""

    def __init__(self, status: int, body: Any = None, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def _refusal(status: int, code: str, message: str) -> _Answer:
    return _Answer(status, {"error": message}, **{"X_Error_Code": code} if code else {}, X_Error_Message=message)


def _is_large(path: str, data: bytes) -> bool:
    return path.endswith(LFS_SUFFIXES) or len(data) > 10_000_000


def _blob_id(path: str, data: bytes) -> str:
    """Git's identifier of a file, or of the pointer to a large file."""
    if _is_large(path, data):
        data = _pointer(data)
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _pointer(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


class _Base(BaseHTTPRequestHandler):
    hub: ClassVar[LoopbackHub]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the body of each answer waits 40 ms for the client to acknowledge the header
    request_body = b""
    is_mute = False  # the connection ends in place of the answer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _note(self, status: int, n_sent: int) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        n_received = len(self.request_body)
        with self.hub.lock:
            self.hub.log.append(
                Request(self.command, self.path, status, token, n_received, n_sent, self.headers.get("Range", ""))
            )

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], *, cut: bool = False, slow: Fault | None = None
    ) -> None:
        is_head = self.command == "HEAD"
        if self.is_mute:
            self._note(status, 0)
            self.close_connection = True
            return
        sent = b"" if is_head else body[: len(body) // 2] if cut else body
        self._note(status, len(sent))
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        parts = 10 if slow else 1
        for i in range(parts):
            self.wfile.write(sent[i * len(sent) // parts : (i + 1) * len(sent) // parts])
            if slow and (slow.kind == "slow" or i == parts // 2):
                self.wfile.flush()
                self.hub.ended.wait(slow.seconds / (parts if slow.kind == "slow" else 1))
        if cut and not is_head:
            self.wfile.flush()
            self.close_connection = True

    def _send_file(
        self, data: bytes, headers: Mapping[str, str], *, cut: bool = False, slow: Fault | None = None
    ) -> None:
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted or self.command == "HEAD":
            self._send(200, data, headers, cut=cut, slow=slow)
            return
        first, last = wanted.groups()
        start = int(first) if first else max(len(data) - int(last), 0)
        end = min(int(last), len(data) - 1) if first and last else len(data) - 1
        if start >= len(data):
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        self._send(206, data[start : end + 1], headers, cut=cut, slow=slow)


class _OtherHost(_Base):
    """Storage of large files, which requires no login."""

    def do_GET(self) -> None:
        oid = self.path.rpartition("/")[2]
        data = next(
            data
            for repo in self.hub.repos.values()
            for files in repo.commits.values()
            for data in files.values()
            if hashlib.sha256(data).hexdigest() == oid
        )
        self._send_file(_flipped(data) if "/imposter/" in self.path else data, {"ETag": f'"{oid}"'})

    do_HEAD = do_GET  # noqa: N815 - what http.server looks for


class _Handler(_Base):
    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.request_body = b""
        if length:
            self.request_body = self.rfile.read(length)
        try:
            self._handle()
        except _Answer as answer:
            self._send(answer.status, answer.body, answer.headers)
        except _Silence:
            pass

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    # Permissions

    def _user(self) -> str:
        header = self.headers.get("Authorization", "")
        if not header:
            return ""
        user = self.hub.users.get(header.removeprefix("Bearer "))
        if user is None:
            raise _refusal(401, "", "Invalid credentials in Authorization header")
        return user

    def _repo(self, kind: str, name: str, *, write: bool = False) -> Repo:
        user = self._user()
        repo = self.hub.repos.get(name if kind == "datasets" else f"{kind}/{name}")
        if repo is None or (repo.private and not repo.is_owner(user)):
            if not user:
                raise _refusal(401, "RepoNotFound", "Invalid username or password.")
            raise _refusal(404, "RepoNotFound", "Repository not found")
        if write and not repo.is_owner(user):
            raise _refusal(403 if user else 401, "", "You don't have the rights to write to this repository.")
        return repo

    def _check_gate(self, repo: Repo) -> None:
        user = self._user()
        if not repo.gated or repo.is_owner(user) or user in repo.granted:
            return
        what = f"{repo.kind} {repo.name}"
        if not user:
            said = f"Access to {what} is restricted. You must have access to it and be authenticated to access it."
            raise _refusal(401, "GatedRepo", f"{said} Please log in.")
        if user in repo.waiting:
            said = f"Your request to access {what} is awaiting a review from the repo authors."
        elif user in repo.rejected:
            said = f"Your request to access {what} has been rejected by the repo's authors."
        else:
            said = f"Access to {what} is restricted and you are not in the authorized list."
            said += f" Visit https://huggingface.co/{what.replace(' ', 's/')} to ask for access."
        raise _refusal(403, "GatedRepo", said)

    def _commit(self, repo: Repo, revision: str) -> str:
        oid = repo.resolve(unquote(revision))
        if oid is None:
            raise _refusal(404, "RevisionNotFound", f"Invalid rev id: {unquote(revision)}")
        return oid

    # Requests

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self._end_or_refuse()
        found = self.hub.met(f"{self.command} {self.path}", ("unavailable", "dropped", "silent", "busy"))
        if found and found.kind == "unavailable":
            raise _refusal(503, "", "Service Unavailable")
        if found and found.kind == "busy":
            refusal = _refusal(429, "", "Too Many Requests")
            refusal.headers |= {"Retry-After": f"{found.seconds:.0f}", "RateLimit": f'"api";r=0;t={found.seconds:.0f}'}
            raise refusal
        if found:
            self._note(0, 0)
            self.hub.ended.wait(found.seconds if found.kind == "silent" else 0)
            self.close_connection = True
            raise _Silence
        for one in self.hub.faults:
            if one.kind == "refused" and re.search(one.match, f"{self.command} {self.path}"):
                raise _refusal(one.status, "", one.said)
        for old, new in self.hub.renamed.items():
            if re.search(rf"/{re.escape(old)}(/|$)", parts.path):
                raise _Answer(307, b"", Location=self.hub.endpoint + self.path.replace(old, new, 1))
        if parts.path == "/api/whoami-v2":
            user = self._user()
            if not user:
                raise _refusal(401, "", "Invalid username or password.")
            auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
            raise _Answer(200, {"type": "user", "name": user, "fullname": user, "orgs": [], "auth": auth})
        if parts.path in {"/api/repos/create", "/api/repos/delete"}:
            self._create_or_delete(parts.path.endswith("create"))
        if parts.path == "/api/validate-yaml":
            self._validate(json.loads(self.request_body)["content"])
        if parts.path.startswith("/lfs/"):
            self._take_large(parts.path)
        found = re.fullmatch(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", parts.path)
        if found:
            self._batch(self._repo(found[1] or "models", found[2], write=True))
        found = re.fullmatch(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", parts.path)
        if found:
            self._resolve(self._repo(found[1] or "models", found[2]), found[3], unquote(found[4]))
            return
        found = re.fullmatch(r"/api/(datasets|models|spaces)/([^/]+/[^/]+)(?:/(.*))?", parts.path)
        if found:
            self._api(found[1], found[2], found[3] or "", query)
        raise _refusal(404, "", f"Nothing is at {self.path}")

    def _end_or_refuse(self) -> None:
        """Play the failures that begin after some requests."""
        for one in self.hub.faults:
            if one.kind not in {"refuse later", "killed", "killed after"}:
                continue
            if not re.search(one.match, f"{self.command} {self.path}"):
                continue
            with self.hub.lock:
                n, one.times = one.times or 0, max((one.times or 0) - 1, -1)
            if n == 0 and one.kind == "killed after":
                self.is_mute = True
            elif n <= 0 and one.kind == "refuse later":
                one.times = 0
                raise _refusal(403, "", one.said)
            elif n <= 0:
                self._note(0, 0)
                self.close_connection = True
                raise _Silence

    def _api(self, kind: str, name: str, rest: str, query: Mapping[str, str]) -> None:
        what, _, more = rest.partition("/")
        writes = {"preupload", "commit", "tag", "branch", "settings"}
        repo = self._repo(kind, name, write=what in writes or rest == "auth-check/write")
        if what == "auth-check":
            self._check_gate(repo)
            raise _Answer(200, {})
        if what in {"", "revision"}:
            raise _Answer(200, self._info(repo, self._commit(repo, more or "main")))
        if what == "refs":
            named = [("branches", "heads", repo.refs), ("tags", "tags", repo.tags)]
            refs: dict[str, object] = {
                key: [{"name": one, "ref": f"refs/{ref}/{one}", "targetCommit": oid} for one, oid in names.items()]
                for key, ref, names in named
            }
            raise _Answer(200, {**refs, "converts": [], "pullRequests": []})
        if what == "commits":
            date = "2026-01-01T00:00:00.000Z"
            listed = [
                {"id": oid, "title": repo.titles[oid], "message": "", "date": date, "authors": []}
                for oid in reversed(repo.commits)
            ]
            raise _Answer(200, listed)
        if what == "xet-read-token" and self.hub.cas:
            until = str(int(time.time()) + 3600)
            about = {"X_Xet_Cas_Url": self.hub.cas, "X_Xet_Access_Token": "xet", "X_Xet_Token_Expiration": until}
            raise _Answer(200, {}, **about)
        if what == "xet-write-token" and self.hub.cas:
            found = {"casUrl": self.hub.cas, "accessToken": "xet", "exp": int(time.time()) + 3600}
            raise _Answer(200, found)
        if what == "tree":
            revision, _, folder = more.partition("/")
            self._tree(repo, self._commit(repo, revision), unquote(folder), query)
        if what == "paths-info":
            self._paths_info(repo, self._commit(repo, more))
        if what == "settings":
            asked = json.loads(self.request_body)
            repo.gated = asked.get("gated", repo.gated)
            if "private" in asked or "visibility" in asked:
                repo.private = asked.get("private", asked.get("visibility") == "private")
            raise _Answer(200, {})
        if what == "preupload":
            self._preupload(repo, self._commit(repo, more))
        if what == "commit":
            self._take_commit(repo, unquote(more))
        if what in {"tag", "branch"}:
            self._name_commit(repo, what, unquote(more))
        raise _refusal(404, "", f"Nothing is at {self.path}")

    # Reading

    def _info(self, repo: Repo, oid: str) -> dict[str, object]:
        return {
            "_id": "0",
            "id": repo.name,
            "author": repo.name.partition("/")[0],
            "sha": oid,
            "private": repo.private,
            "gated": repo.gated,
            "disabled": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in sorted(repo.commits[oid])],
        }

    def _entry(self, path: str, data: bytes) -> dict[str, object]:
        entry: dict[str, object] = {
            "type": "file",
            "path": path,
            "size": len(data),
            "oid": _blob_id(path, data),
        }
        if _is_large(path, data):
            entry["lfs"] = {
                "oid": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "pointerSize": len(_pointer(data)),
            }
        return entry

    def _tree(self, repo: Repo, oid: str, folder: str, query: Mapping[str, str]) -> None:
        files = repo.commits[oid]
        start = f"{folder}/" if folder else ""
        inside = {path: data for path, data in sorted(files.items()) if path.startswith(start)}
        if folder and not inside:
            raise _refusal(404, "EntryNotFound", f"{folder} does not exist on {oid}")
        entries: list[dict[str, object]] = []
        seen: set[str] = set()
        is_recursive = query.get("recursive", "false").lower() == "true"
        for path, data in inside.items():
            parts = path.removeprefix(start).split("/")
            for depth in range(1, len(parts)):
                parent = start + "/".join(parts[:depth])
                if parent not in seen and (is_recursive or depth == 1):
                    seen.add(parent)
                    tree = hashlib.sha1(f"{oid}{parent}".encode()).hexdigest()
                    entries.append({"type": "directory", "path": parent, "size": 0, "oid": tree})
            if is_recursive or len(parts) == 1:
                entries.append(self._entry(path, data))
        if self.hub.fault(f"{self.command} {self.path}", ("unlisted",)):
            for one in entries:
                one.pop("lfs", None)
        for kind in ("twice", "escape"):
            if self.hub.fault(f"{self.command} {self.path}", (kind,)):
                first = next(one for one in entries if one["type"] == "file")
                other = {"size": int(str(first["size"])) + 1} if kind == "twice" else {"path": "../../evil.parquet"}
                entries.append({**first, **other})
        first = int(query.get("cursor", "0"))
        headers: dict[str, str] = {}
        if first + self.hub.page_size < len(entries):
            following = {**query, "cursor": str(first + self.hub.page_size)}
            url = f"{self.hub.endpoint}{urlsplit(self.path).path}?" + "&".join(f"{k}={v}" for k, v in following.items())
            headers["Link"] = f'<{url}>; rel="next"'
        raise _Answer(200, entries[first : first + self.hub.page_size], **headers)

    def _paths_info(self, repo: Repo, oid: str) -> None:
        body = self.request_body.decode()
        is_json = "json" in self.headers.get("Content-Type", "")
        paths: list[str] = json.loads(body)["paths"] if is_json else parse_qs(body).get("paths", [])
        files, found = repo.commits[oid], list[dict[str, object]]()
        for path in paths:
            if path in files:
                found.append(self._entry(path, files[path]))
            elif any(one.startswith(f"{path}/") for one in files):
                found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        raise _Answer(200, found)

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        self._check_gate(repo)
        oid = self._commit(repo, revision)
        data = repo.commits[oid].get(path)
        if data is None:
            refusal = _refusal(404, "EntryNotFound", "Entry not found")
            refusal.headers["X-Repo-Commit"] = oid
            raise refusal
        etag = hashlib.sha256(data).hexdigest() if _is_large(path, data) else _blob_id(path, data)
        kinds = ("elsewhere", "imposter", "short") + (("cut", "flip") if self.command == "GET" else ())
        fault = self.hub.fault(f"{self.command} {self.path}", kinds)
        slow = self.hub.met(f"{self.command} {self.path}", ("slow", "stalled")) if self.command == "GET" else None
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": oid}
        if self.hub.cas and _is_large(path, data):
            route = f"{self.hub.endpoint}/api/{repo.kind}s/{repo.name}/xet-read-token/{oid}"
            headers |= {"X-Xet-Hash": hashlib.sha256(data).hexdigest(), "Link": f'<{route}>; rel="xet-auth"'}
        if fault in {"elsewhere", "imposter"}:
            place = f"{self.hub.other_host}/{fault}/{hashlib.sha256(data).hexdigest()}"
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data)), "Location": place}
            self._send(302, b"", {**headers, **linked})
            return
        if fault == "short":
            data = data[: len(data) // 2]
        elif fault == "flip":
            data = _flipped(data)
        self._send_file(data, headers, cut=fault == "cut", slow=slow)

    # Writing

    def _validate(self, card: str) -> None:
        found = self.hub.met("", ("invalid card",))
        if found:
            raise _Answer(400, {"errors": [{"message": found.said}], "warnings": []})
        header = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
        unknown = [one for one in header.get("size_categories", []) if one not in SIZE_CATEGORIES]
        if unknown:
            message = f'"size_categories[0]" must be one of [{", ".join(SIZE_CATEGORIES)}]'
            raise _Answer(400, {"errors": [{"message": message}], "warnings": []})
        raise _Answer(200, {"errors": [], "warnings": []})

    def _create_or_delete(self, create: bool) -> None:
        user = self._user()
        if not user:
            raise _refusal(401, "", "Invalid username or password.")
        asked = json.loads(self.request_body)
        kind = asked.get("type") or "model"
        owner = asked.get("organization") or user
        name = f"{owner}/{asked['name']}"
        key = name if kind == "dataset" else f"{kind}s/{name}"
        repo = self.hub.repos.get(key)
        if owner != user and not (repo and repo.is_owner(user)):
            raise _refusal(403, "", f"You don't have the rights to create a {kind} under the namespace {owner}")
        url = f"{self.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
        if not create:
            if repo is None:
                raise _refusal(404, "RepoNotFound", "Repository not found")
            del self.hub.repos[key]
            raise _Answer(200, {})
        if repo:
            raise _Answer(409, {"error": f"You already created this {kind} repo", "url": url})
        is_default = owner in self.hub.private_owners and "visibility" not in asked
        is_private = asked.get("private", is_default or asked.get("visibility") == "private")
        self.hub.add_repo(name, {".gitattributes": "*.parquet filter=lfs\n"}, private=bool(is_private), kind=kind)
        raise _Answer(200, {"url": url, "name": name, "id": "0"})

    def _preupload(self, repo: Repo, oid: str) -> None:
        answers: list[dict[str, object]] = []
        for one in json.loads(self.request_body)["files"]:
            path = one["path"]
            is_large = path.endswith(LFS_SUFFIXES) or one["size"] > 10_000_000
            there = repo.commits[oid].get(path)
            # the real one gives the sha256 of what it has of a large file, git's identifier of a small one
            known = None
            if there is not None:
                known = hashlib.sha256(there).hexdigest() if is_large else _blob_id(path, there)
            mode = "lfs" if is_large else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known})
        raise _Answer(200, {"files": answers})

    def _batch(self, repo: Repo) -> None:
        objects: list[dict[str, object]] = []
        stored = {hashlib.sha256(data).hexdigest() for files in repo.commits.values() for data in files.values()}
        for one in json.loads(self.request_body)["objects"]:
            entry: dict[str, object] = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.lfs and one["oid"] not in stored:
                entry["actions"] = {
                    "upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}"},
                    "verify": {"href": f"{self.hub.endpoint}/lfs/verify"},
                }
            objects.append(entry)
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def _take_large(self, path: str) -> None:
        if path == "/lfs/verify":
            asked = json.loads(self.request_body)
            data = self.hub.lfs.get(asked["oid"])
            is_there = data is not None and len(data) == asked["size"]
            raise _Answer(200 if is_there else 404, {} if is_there else {"error": "not there"})
        oid = path.removeprefix("/lfs/")
        fault = self.hub.fault(f"{self.command} {self.path}", ("cut", "unstored"))
        if fault == "cut":
            self._note(0, 0)
            self.close_connection = True
            raise _Silence
        if hashlib.sha256(self.request_body).hexdigest() != oid:
            raise _refusal(400, "", "The content does not have this sha256.")
        self.hub.lfs[oid] = b"" if fault == "unstored" else self.request_body
        raise _Answer(200, {})

    def _take_commit(self, repo: Repo, branch: str) -> None:
        lines = [json.loads(line) for line in self.request_body.splitlines() if line.strip()]
        with self.hub.lock:
            if branch not in repo.refs:
                raise _refusal(404, "RevisionNotFound", f"Invalid rev id: {branch}")
            files = dict(repo.commits[repo.refs[branch]])
            stored = {hashlib.sha256(one).hexdigest(): one for old in repo.commits.values() for one in old.values()}
            title = "Change"
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    title = value["summary"]
                    if value.get("parentCommit") not in (None, repo.refs[branch]):
                        raise _refusal(412, "", "A commit has happened since. Please refresh and try again.")
                elif line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    data = self.hub.lfs.get(value["oid"], stored.get(value["oid"]))
                    if data is None:
                        raise _refusal(400, "", f"LFS object {value['oid']} was not uploaded.")
                    files[value["path"]] = data
                elif line["key"] == "deletedFile":
                    files.pop(value["path"], None)
                elif line["key"] == "deletedFolder":
                    start = value["path"].rstrip("/") + "/"
                    files = {path: data for path, data in files.items() if not path.startswith(start)}
            oid = repo.commit(files, title, branch)
        if self.hub.fault(f"{self.command} {self.path}", ("lost answer",)):
            raise _refusal(503, "", "Service Unavailable")
        url = f"{self.hub.endpoint}/{'' if repo.kind == 'model' else repo.kind + 's/'}{repo.name}/commit/{oid}"
        raise _Answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _name_commit(self, repo: Repo, what: str, name: str) -> None:
        names = repo.tags if what == "tag" else repo.refs
        if self.command == "DELETE":
            if names.pop(name, None) is None:
                raise _refusal(404, "RevisionNotFound", f"There is no {what} {name}")
            raise _Answer(200, {})
        asked = json.loads(self.request_body or b"{}")
        revision = name if what == "tag" else asked.get("startingPoint", "main")
        new = asked["tag"] if what == "tag" else name
        if new in names:
            raise _refusal(409, "", f"{what.capitalize()} {new} exists already")
        names[new] = self._commit(repo, revision)
        raise _Answer(200, {})


class _Silence(Exception):  # noqa: N818 - not an error
    """The connection ends without an answer."""
