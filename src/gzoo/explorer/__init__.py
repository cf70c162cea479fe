"""A page to look at a dataset: galaxies, votes and predictions, served on this machine."""

from __future__ import annotations

import socket
import threading
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, overload

from gzoo.dataset.open import open_dataset
from gzoo.display import Shown
from gzoo.errors import InputError, MissingExtraError, WriteError, reason
from gzoo.files import Progress

if TYPE_CHECKING:
    import uvicorn

    from gzoo.explorer.labelling import Labelling

PORT = 8642
"""Port that is taken if it is free and no other was asked for."""
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True, repr=False)
class ExploreResult(Shown):
    """A page that is being served.

    Attributes:
        url: Its address.
        dataset: The dataset folder.
        predictions: The prediction file, or None.
        n_galaxies: Number of galaxies.
        has_images: Whether the dataset contains images.
        is_simulated: Whether the galaxies are simulated.
        labelling: The labels that are given while looking, or None.
    """

    url: str
    dataset: Path
    predictions: Path | None
    n_galaxies: int
    has_images: bool
    is_simulated: bool
    labelling: Labelling | None
    _server: uvicorn.Server = field(repr=False)
    _thread: threading.Thread = field(repr=False)

    def to_dict(self) -> dict[str, object]:
        """Return the facts as JSON values."""
        return {
            "url": self.url,
            "dataset": str(self.dataset),
            "predictions": str(self.predictions) if self.predictions else None,
            "n_galaxies": self.n_galaxies,
            "has_images": self.has_images,
            "is_simulated": self.is_simulated,
            "labels": str(self.labelling.path) if self.labelling else None,
        }

    def wait(self) -> None:
        """Wait until the server stops."""
        while self._thread.is_alive():
            self._thread.join(0.5)  # a join without a limit would keep Ctrl-C waiting on Windows

    def close(self) -> None:
        """Stop the server."""
        self._server.should_exit = True
        self._thread.join()


@dataclass(frozen=True, slots=True, repr=False)
class SiteResult(Shown):
    """A static site.

    Attributes:
        folder: The folder to copy to a host of files.
        n_galaxies: Number of its galaxies.
        n_of: Number of galaxies of the dataset that they were chosen from.
        n_bytes: Size of all its files.
    """

    folder: Path
    n_galaxies: int
    n_of: int
    n_bytes: int


@overload
def explore(
    *inputs: Path | str,
    embeddings: Path | str | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    browser: bool = True,
    labels: Path | str | None = None,
    target: str = "label",
    classes: Sequence[str] | None = None,
    export: None = None,
    where: str | None = None,
    limit: int = 500,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExploreResult: ...
@overload
def explore(
    *inputs: Path | str,
    embeddings: Path | str | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    browser: bool = True,
    labels: Path | str | None = None,
    target: str = "label",
    classes: Sequence[str] | None = None,
    export: Path | str,
    where: str | None = None,
    limit: int = 500,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SiteResult: ...
def explore(
    *inputs: Path | str,
    embeddings: Path | str | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    browser: bool = True,
    labels: Path | str | None = None,
    target: str = "label",
    classes: Sequence[str] | None = None,
    export: Path | str | None = None,
    where: str | None = None,
    limit: int = 500,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExploreResult | SiteResult:
    """Serve a page to look at a dataset, its votes and its predictions.

    The page filters galaxies by votes and predictions, shows each galaxy with its decision tree, and compares the model
    with the volunteers. With `embeddings`, it has a map of the galaxies, and the nearest neighbours of each. With
    `labels`, Shift+1 to Shift+9 give the galaxies in view a class, for `gzoo train --labels`. It reads the dataset and
    never writes to it. Only this machine can open it, unless `host` is another.

    Args:
        inputs: Prediction file, if there is one, then the dataset: a folder, a campaign's name or `owner/name` on the
            Hub.
        embeddings: File of `gzoo embed` with galaxies of the dataset.
        port: Port to listen on; by default 8642, or any other if that is taken.
        host: Address to listen on. Whoever can reach another address than 127.0.0.1 can see the dataset.
        browser: Open the page in the browser.
        labels: CSV table to write with the labels that are given while looking; an earlier one is continued.
        target: Name of its column of labels.
        classes: Names of the classes that Shift+1 to Shift+9 give, in their order.
        export: Folder to write with a static site of some galaxies, instead of serving the page: any host of files
            shows it, without gzoo.
        where: Filter expression that the galaxies of `export` meet; by default all galaxies.
        limit: Greatest number of galaxies of `export`, at most 2,000; of more, it shows a random sample.
        overwrite: Replace an earlier site.
        progress: Called with (stage, done, total).

    Raises:
        InputError: Neither one nor two inputs were given, or `labels` came without `classes`.
        MissingExtraError: The server is not installed.
        NotFoundError: The dataset, the prediction file or the embedding file does not exist.
        DatasetError: The dataset or the embedding file cannot be read.
        TableError: The predictions cannot be read, or predictions or embeddings are of other galaxies.
        WriteError: The port is taken.
        OutputExistsError: The folder of `export` already exists.
    """
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise MissingExtraError(
                f"Package '{name}' is not installed.", hint="Install the `explore` extra: pip install 'gzoo[explore]'."
            )
    import uvicorn

    from gzoo.dataset.images import Images
    from gzoo.explorer.embedded import read_embedded
    from gzoo.explorer.labelling import Labelling
    from gzoo.explorer.labels import read_labels
    from gzoo.explorer.server import Server, hosts_of
    from gzoo.explorer.site import write_site

    if not 1 <= len(inputs) <= 2:
        raise InputError(
            f"gzoo explore takes one or two inputs, got {len(inputs)}.", "a prediction file, if any, then a dataset."
        )
    predictions = Path(inputs[0]) if len(inputs) == 2 else None
    dataset = open_dataset(inputs[-1], progress=progress)
    read = read_labels(dataset, predictions, progress)
    if classes and labels is None:
        raise InputError("--classes requires --labels.", hint="Pass --labels with the table to write.")
    labelling = Labelling(Path(labels), read, target, classes or ()) if labels is not None else None
    images = Images(dataset)
    if export is not None:
        if labels is not None:
            raise InputError("--export and --labels exclude each other.", hint="Omit one of them.")
        if embeddings is not None:
            raise InputError(
                "--export and --embeddings exclude each other.", "a site without a map.", "Omit one of them."
            )
        return write_site(
            Path(export), read, images, where=where or "", limit=limit, overwrite=overwrite, progress=progress
        )
    if where is not None:
        raise InputError("--where requires --export.", hint="Write the condition into the page's expression box.")
    embedded = read_embedded(Path(embeddings), read, progress) if embeddings is not None else None
    listening = _listen(host, port)
    address = listening.getsockname()
    shown = f"[{host}]" if ":" in host else host
    serving = Server(read, images, labelling, embedded)
    # the first galaxy needs tables of quantiles, which take a second to make
    threading.Thread(target=serving.views.galaxy, args=(0,), daemon=True).start()
    config = uvicorn.Config(
        serving.application(hosts_of(host)),
        log_level="critical",
        access_log=False,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    end = time.monotonic() + START_SECONDS
    while not server.started and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.005)
    url = f"http://{shown}:{address[1]}/"
    if browser:
        webbrowser.open(url)
    return ExploreResult(
        url, dataset.folder, predictions, len(read), images.are_there, dataset.is_simulated, labelling, server, thread
    )


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem = ""
    for wanted in (PORT, 0) if port is None else (port,):
        # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named; otherwise each costs 40 ms
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, wanted))
        except (OSError, OverflowError) as error:
            listening.close()
            problem = getattr(error, "strerror", "") or reason(error)
        else:
            listening.listen(128)
            return listening
    raise WriteError(f"Cannot listen on {host}, port {port or PORT}: {problem}.", hint="Choose another --port.")
