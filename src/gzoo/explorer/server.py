"""The server of the page: on this machine, without a path that comes from a request, and read-only but for one table.

Every answer is one of four: a file of the page, JSON about the labels, an image by row number, or a table to download.
The table of labels that are given while looking is written only if it was asked for, see `gzoo.explorer.labelling`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gzoo import files
from gzoo.dataset.images import Images, content_type
from gzoo.errors import DatasetError, ExpressionError, GZooError, InputError, NotFoundError, reason
from gzoo.explorer.downloads import download, select_command
from gzoo.explorer.embedded import Embedded
from gzoo.explorer.labelling import Labelling
from gzoo.explorer.labels import Labels
from gzoo.explorer.measures import Kept
from gzoo.explorer.query import MAX_HISTOGRAMS, Engine, Filter
from gzoo.explorer.views import Views
from gzoo.palette import tokens_css

PAGES = ("/", "/gallery", "/overview", "/model", "/map", "/galaxy/{id:path}")
MEDIA = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
CHECK_SECONDS = 1.0
BYTES = "application/octet-stream"
MAX_NEIGHBOURS = 100
PAGE_HEADER = "x-gzoo-page"
TOKEN_HEADER = "x-gzoo-token"
LABELS_PATH = "/api/labels"
MAX_BODY = 100_000  # bytes of a request
KEPT_ANSWERS = 32
LASTING = {"view", "rows", "galaxy", "overview", "sky", "select", "neighbours"}  # the scores of "model" come later
FOREVER = "private, max-age=31536000, immutable"


class Gate:
    """Refuses what a page of another origin may send, and adds the headers that keep this page to itself.

    A name of the attacker that resolves to this machine (DNS rebinding) is not among the hosts.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str = "") -> None:
        self.app, self.hosts, self.token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (_failed(*refusal) if refusal else self.app)(scope, receive, with_headers)

    def _refusal(self, method: str, path: str, headers: Headers) -> tuple[int, GZooError] | None:
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name.lower() not in self.hosts:
            return 421, InputError(f"Host '{name[:80]}' is not served.", f"one of: {', '.join(sorted(self.hosts))}.")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, InputError(f"Requests from '{origin[:80]}' are refused.", "requests from this page.")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return 403, InputError("Requests from another site are refused.", "requests from this page.")
        if method == "POST" and path == LABELS_PATH and self.token:
            # the origin of a page is not a secret, its token is: a browser shows it to this page alone
            given = headers.get(TOKEN_HEADER, "").encode()
            if origin is None or not secrets.compare_digest(given, self.token.encode()):
                return 403, InputError("Labels are given by this page only.", "the token of this page.")
        elif method not in {"GET", "HEAD"}:
            return 405, InputError(f"Method {method[:20]} is not allowed.", "GET.")
        return None


class Unchanged:
    """Notices that files were changed or removed since they were opened."""

    def __init__(self, dataset: Path, paths: Iterable[Path]) -> None:
        self._dataset, self._was = dataset, {path: _identity(path) for path in paths}
        self._checked = time.monotonic()
        self._changed: Path | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Check all files, at most once a second.

        Raises:
            DatasetError: A file is not the one that was opened.
        """
        with self._lock:
            if self._changed is None and time.monotonic() - self._checked > CHECK_SECONDS:
                self._changed = next((path for path, was in self._was.items() if _identity(path) != was), None)
                self._checked = time.monotonic()
        if self._changed is not None:
            what = "changed" if self._changed.exists() else "was removed"
            raise DatasetError(
                f"'{self._changed}' {what} after this page opened the dataset.",
                hint="Stop the server with Ctrl-C and run `gzoo explore` again.",
            )


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


class Server:
    """The application for one dataset."""

    def __init__(
        self, labels: Labels, images: Images, labelling: Labelling | None = None, embedded: Embedded | None = None
    ) -> None:
        self.labels, self.images, self.labelling, self.embedded = labels, images, labelling, embedded
        self.engine = Engine(labels, embedded)
        self.views = Views(self.engine, images.are_there)
        # labels do not change, so the same question has the same answer; more threads than cores slow each other
        self._answers, self._at_work = Kept(KEPT_ANSWERS), threading.BoundedSemaphore(os.cpu_count() or 1)
        dataset = labels.dataset
        shards = [path for split in dataset.splits for path in files.shards(dataset.folder, split)]
        manifest = dataset.folder / files.MANIFEST
        self.unchanged = Unchanged(dataset.folder, [*shards, *([manifest] if manifest.is_file() else [])])

    def application(self, hosts: Iterable[str]) -> ASGIApp:
        """Return the ASGI application.

        Args:
            hosts: Names under which it may be called.
        """
        page = page_files()
        shell = page["index.html"]
        json_routes: dict[str, Callable[[Request], Mapping[str, Any]]] = {
            "about": self._about,
            "names": lambda _: {"names": self.names},
            "check": self._check,
            "view": self._view,
            "rows": self._rows,
            "row": self._row,
            "galaxy": self._galaxy,
            "overview": lambda _: self.views.overview,
            "sky": lambda request: self.views.sky(_filter(request)),
            "model": self._model,
            "select": self._select,
            "neighbours": self._neighbours,
        }
        # every route is made here once; the names of files come from the package, never from a request
        routes = [Route(path, self._file(shell, "index.html")) for path in PAGES]
        routes += [Route(f"/page/{name}", self._file(data, name)) for name, data in page.items()]
        routes += [Route(f"/api/{name}", self._json(name, make)) for name, make in json_routes.items()]
        routes += [
            Route("/image/{row:int}", self._guarded(self._image)),
            Route("/thumbnail/{row:int}", self._guarded(self._thumbnail)),
            Route("/map/places", self._guarded(self._places)),
            Route("/map/chosen", self._guarded(self._chosen)),
        ]
        routes += [
            Route(f"/download/galaxies.{format}", self._guarded(self._download(format)))
            for format in ("txt", "csv", "parquet")
        ]
        if self.labelling is not None:
            routes.append(Route(LABELS_PATH, self._labels, methods=["GET", "POST"]))
        token = self.labelling.token if self.labelling else ""
        return Gate(Starlette(routes=routes, exception_handlers={404: _not_found}), hosts, token)

    # ------------------------------------------------------------------------------------------------
    # Answers

    @staticmethod
    def _file(data: bytes, name: str) -> Callable[[Request], Response]:
        tag = f'"{hashlib.sha256(data).hexdigest()[:20]}"'
        media = MEDIA[Path(name).suffix]

        def answer(request: Request) -> Response:
            headers = {"etag": tag, "cache-control": "no-cache"}
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            return Response(data, media_type=media, headers=headers)

        return answer

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def guarded(request: Request) -> Response:
            try:
                self.unchanged.check()
                return answer(request)
            except GZooError as error:
                status = 404 if isinstance(error, NotFoundError) else 409 if isinstance(error, DatasetError) else 400
                # a browser lists every other status in its console, also for an expression that is half typed
                return _failed(status, error, shown_as=200 if PAGE_HEADER in request.headers else status)

        return guarded

    def _json(self, name: str, make: Callable[[Request], Mapping[str, Any]]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            def made() -> bytes:
                with self._at_work:
                    return _encoded(make(request))

            return _json(self._answers.get((name, request.url.query), made) if name in LASTING else made())

        return self._guarded(answer)

    def _about(self, _: Request) -> Mapping[str, Any]:
        found = self.labelling
        labelling: Mapping[str, Any] | None = found and {
            "token": found.token,
            "target": found.target,
            "classes": found.classes,
            "file": found.path.name,
        }
        return {**self.views.about, "labelling": labelling}

    async def _labels(self, request: Request) -> Response:
        """Say which galaxies have a label or, as a POST, give some of them one."""
        labelling = self.labelling
        assert labelling is not None
        try:
            if request.method == "GET":
                return _json(_encoded(labelling.to_dict()))
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise InputError("The request is too long.", f"at most {MAX_BODY:,} bytes.")
            asked = json.loads(body)
            if not isinstance(asked, dict):
                raise InputError("The request is not a JSON object.")
            wanted = cast("Mapping[str, object]", asked)
            found = await run_in_threadpool(labelling.label, wanted.get("rows"), wanted.get("class"))
        except GZooError as error:
            return _failed(404 if isinstance(error, NotFoundError) else 400, error)
        except (ValueError, RecursionError):
            return _failed(400, InputError("The request is not JSON.", "a JSON object."))
        return _json(_encoded(found))

    @cached_property
    def names(self) -> list[dict[str, str]]:
        """Names for completion: the shortest spelling, and what it means."""
        measures = self.engine.measures
        return [{"name": measures.spelling(one.name), "kind": one.kind} for one in measures.names.known]

    def _check(self, request: Request) -> Mapping[str, Any]:
        """Say whether an expression can be read, without evaluating it."""
        return {"n_parts": len(self.engine.parts(request.query_params.get("q", "")))}

    def _view(self, request: Request) -> Mapping[str, Any]:
        wanted, engine = _filter(request), self.engine
        rows = engine.rows(wanted)
        counts, totals = engine.votes(rows)
        conditions = engine.conditions(wanted.expression)
        others = [name.strip("`") for name in request.query_params.get("cards", "").split(",") if name]
        of_conditions = [one["limits"]["name"] for one in conditions if one["limits"]]
        of_conditions, others = ([*map(engine.measures.canonical, names)] for names in (of_conditions, others))
        names = list(dict.fromkeys(of_conditions + others))[:MAX_HISTOGRAMS]
        # cards stay while conditions come and go: in this order, each is counted with the same neighbours again
        steady = [name for name in dict.fromkeys(others + of_conditions) if name in names]
        histograms = {one["name"]: one for one in engine.histograms(steady, wanted, rows)}
        first = engine.first(wanted, rows, _number(request, "from", 0), _number(request, "n", 60))
        bound = [engine.measures.bound(part) for part in engine.parts(wanted.expression)]
        return {
            "count": len(self.labels) if rows is None else len(rows),
            "counts": counts.tolist(),
            "totals": totals.tolist(),
            "conditions": conditions,
            "notes": list(dict.fromkeys(note for one in bound for note in one.notes)),
            "cards": [{**histograms[name], "spelling": engine.measures.spelling(name)} for name in names],
            "splits": engine.n_by_split(wanted, rows),
            "campaigns": engine.n_by_campaign(wanted, rows) if len(self.labels.campaigns) > 1 else {},
            "rows": self.views.tiles(first, _shown(request, wanted)),
        }

    def _rows(self, request: Request) -> Mapping[str, Any]:
        wanted = _filter(request)
        rows = self.engine.rows(wanted)
        first = self.engine.first(wanted, rows, _number(request, "from", 0), _number(request, "n", 60))
        return {"rows": self.views.tiles(first, _shown(request, wanted))}

    def _row(self, request: Request) -> Mapping[str, Any]:
        row = _number(request, "row", 0)
        if row >= len(self.labels):
            raise NotFoundError(f"Row {row} not found.", f"0 to {len(self.labels) - 1:,}.")
        return {"rows": self.views.tiles(np.array([row]), "")}

    def _galaxy(self, request: Request) -> Mapping[str, Any]:
        given, wanted = request.query_params, _filter(request)
        row = self.views.row_of(given.get("id", ""), given.get("of", ""))
        rows = self.engine.rows(wanted)
        place, before, after = self.engine.neighbours(wanted, rows, row)
        ids = self.labels.frame["id_str"]
        return {
            **self.views.galaxy(row),
            "place": place,
            "n": len(self.labels) if rows is None else len(rows),
            "previous": None if before is None else {"row": before, "id": str(ids[before])},
            "next": None if after is None else {"row": after, "id": str(ids[after])},
        }

    def _model(self, request: Request) -> Mapping[str, Any]:
        given = request.query_params
        chosen = _number(request, "bin", 0) if "bin" in given else None
        return self.views.model(given.get("question", ""), given.get("answer", ""), chosen, _filter(request))

    def _select(self, request: Request) -> Mapping[str, Any]:
        wanted = _filter(request)
        command = select_command(self.engine, wanted)
        without = "The command of the filter; it does not know the shape on the map, so save the rows instead:"
        return {"command": command, "unsaid": without if wanted.shape else ""}

    def _neighbours(self, request: Request) -> Mapping[str, Any]:
        row, n = _number(request, "row", 0), _number(request, "n", 12)
        if row >= len(self.labels):
            raise NotFoundError(f"Row {row} not found.", f"0 to {len(self.labels) - 1:,}.")
        if self.embedded is None:
            raise InputError("Neighbours are not known.", hint="Run `gzoo explore` with --embeddings.")
        ids, campaigns = (self.labels.frame[name] for name in ("id_str", "dataset_name"))
        return {
            "rows": [
                {"row": other, "id": str(ids[other]), "campaign": str(campaigns[other]), "similarity": round(score, 4)}
                for other, score in self.embedded.neighbours(row, min(n, MAX_NEIGHBOURS))
            ]
        }

    def _places(self, request: Request) -> Response:
        if self.embedded is None:
            raise NotFoundError("The page has no map.", hint="Run `gzoo explore` with --embeddings.")
        return Response(self.embedded.places, media_type=BYTES, headers={"cache-control": FOREVER})

    def _chosen(self, request: Request) -> Response:
        rows = self.engine.rows(_filter(request))
        chosen = np.ones(len(self.labels), np.bool_)
        if rows is not None:
            chosen[:] = False
            chosen[rows] = True
        return Response(np.packbits(chosen).tobytes(), media_type=BYTES, headers={"cache-control": "no-store"})

    def _image(self, request: Request) -> Response:
        return _image(self.images.read(request.path_params["row"]))

    def _thumbnail(self, request: Request) -> Response:
        return _image(self.images.thumbnail(request.path_params["row"]))

    def _download(self, format: str) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            wanted = _filter(request)
            rows = self.engine.ordered(wanted, self.engine.rows(wanted))
            return download(self.labels, rows, format)

        return answer


def page_files() -> dict[str, bytes]:
    """Return the files of the page by name."""
    folder = resources.files("gzoo.explorer") / "page"
    found = {one.name: one.read_bytes() for one in folder.iterdir() if Path(one.name).suffix in MEDIA}
    return {**found, "tokens.css": tokens_css().encode()}


def _filter(request: Request) -> Filter:
    given = request.query_params
    splits, campaigns = (
        tuple(name for name in given.get(what, "").split(",") if name) for what in ("split", "campaign")
    )
    return Filter(given.get("q", ""), splits, campaigns, given.get("sort", ""), given.get("shape", ""))


def _shown(request: Request, wanted: Filter) -> str:
    return request.query_params.get("show", "") or wanted.sort.removeprefix("-")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"Parameter '{name}' is '{text[:40]}'.", "an integer.")
    return int(text)


def _encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _json(data: bytes, status: int = 200) -> Response:
    return Response(data, status, {"cache-control": "no-store"}, "application/json")


def _image(data: bytes) -> Response:
    return Response(data, media_type=content_type(data), headers={"cache-control": FOREVER})


def _failed(status: int, error: GZooError, *, shown_as: int = 0) -> Response:
    about: dict[str, str | int] = {
        "refused": status,
        "message": error.message,
        "expected": error.expected,
        "hint": error.hint,
    }
    if isinstance(error, ExpressionError):
        about["position"] = error.position
    return _json(_encoded(about), shown_as or status)


async def _not_found(request: Request, error: Exception) -> Response:
    return _failed(404, NotFoundError(f"Nothing is served under '{request.url.path[:80]}'.", hint=reason(error)))


def image_suffix(data: bytes) -> str:
    """Return the ending of the name of an image file."""
    return ".png" if content_type(data) == "image/png" else ".jpg"


def hosts_of(host: str) -> tuple[str, ...]:
    """Return the names under which a server that listens on `host` may be called."""
    own = f"[{host}]" if ":" in host else host.lower()
    return LOOPBACK if own in LOOPBACK else (*LOOPBACK, own, platform.node().lower())
