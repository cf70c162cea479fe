"""Verified downloads into the cache of the Hub's client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gzoo import files
from gzoo.errors import DatasetError, HubError, NotFoundError
from gzoo.hub import cache, client, transfers, waiting
from gzoo.hub.card import SHARED_FILES, data_files, files_of_config
from gzoo.hub.permissions import Access, check_access, refusals_worded

WEIGHTS, CONFIGS = "model.safetensors", {"config.json", "run.json"}
N_THREADS = 4  # that download at once
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")

if TYPE_CHECKING:
    import datasets
    from huggingface_hub.hf_api import RepoFile

    Loaded = datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict


def copy_of(
    repository: str, revision: str = "main", config: str | None = None, progress: client.Progress | None = None
) -> tuple[Path, Access]:
    """Download the missing files of one config of a dataset and verify them.

    Args:
        repository: `owner/name`.
        revision: Branch, tag or commit.
        config: Name of the config. Default: the dataset's default config.
        progress: Called as (stage, MB done, MB in total), in place of the client's progress bars.

    Returns:
        The folder of the commit's files in the cache of the Hub's client, and the permission under which it was read.

    Raises:
        AccessError: The dataset cannot be read, or the Hub cannot be reached and no complete copy is cached.
        NotFoundError: The dataset does not have the config.
        HubError: The Hub's listing is invalid, or every download of a file had the wrong content.
    """
    found = check_access(repository, revision, "dataset", config)
    return _copy(found, config, progress), found


def load_dataset(
    repository: str, name: str | None, split: str | None, streaming: bool, revision: str
) -> tuple[Loaded, Access]:
    """Return a dataset from the Hub as `datasets` represents it, and the permission under which it was read.

    Args:
        repository: `owner/name`.
        name: Name of the config. Default: the dataset's default config.
        split: Name of the split. Default: all splits.
        streaming: Read rows over the network instead of downloading files.
        revision: Branch, tag or commit.

    Raises:
        AccessError: The dataset cannot be read, or the Hub cannot be reached and no complete copy is cached.
        NotFoundError: The dataset does not have the config or the split.
        HubError: The dataset cannot be loaded.
    """
    import datasets

    found = check_access(repository, revision, "dataset", name)
    options: dict[str, Any] = {"split": split, "streaming": streaming}
    try:
        if streaming and found.state != "cached":
            found.require()
            with refusals_worded(found):
                folder, path = _Download(repository, found.commit).folder, repository
            data_files(folder, name, repository)
            options |= {"revision": found.commit, **_page_verification(folder)}
        else:
            folder = _copy(found, name, None)
            # without explicit files, `datasets` looks for those of the first config, whichever is requested
            path = str(folder)
            options["data_files"] = data_files(folder, name, repository) or None
        loaded = client.repeated(repository, lambda: cast("Loaded", datasets.load_dataset(path, name, **options)))
    except (HubError, NotFoundError):
        raise
    except Exception as error:  # `datasets` and the client raise many classes that are not public
        why = client.safe_reason(error)
        if isinstance(error, ValueError) and "split" in why:
            raise NotFoundError(f"Split '{split}' not found in '{repository}': {why}.") from None
        raise HubError(
            f"Cannot load '{repository}': {why}.",
            "a dataset that `datasets` can read.",
            f"See its files at {found.page}.",
        ) from None
    for one in loaded.values() if isinstance(loaded, dict) else (loaded,):
        one.info.homepage = one.info.homepage or f"{found.page}/tree/{found.resolved_commit}"
    return loaded, found


def _page_verification(folder: Path) -> dict[str, Any]:
    """Return options that verify the checksums of Parquet pages, because a stream is not verified as a file."""
    if not (folder / files.MANIFEST).is_file():
        return {}
    import pyarrow.dataset as parquet

    return {"fragment_scan_options": parquet.ParquetFragmentScanOptions(page_checksum_verification=True)}


def pretrained_weights(encoder: str, progress: client.Progress | None = None) -> tuple[Path, Access]:
    """Return the folder of a timm encoder's own weights, downloaded, and the permission; see `copy_of_model`.

    Args:
        encoder: Name of a timm model, with its pretrained tag.
        progress: See `copy_of`.

    Raises:
        HubError: timm lists no weights for the encoder, they are not a safetensors file, or the Hub cannot be reached.
    """
    import timm

    config = timm.get_pretrained_cfg(encoder)
    if config is None or not config.hf_hub_id:
        raise HubError(
            f"timm lists no pretrained weights on the Hub for encoder '{encoder}'.",
            hint="Choose an --encoder such as convnext_nano.in12k, or omit --pretrained.",
        )
    return copy_of_model(str(config.hf_hub_id), progress=progress)


def copy_of_model(
    repository: str, revision: str = "main", progress: client.Progress | None = None
) -> tuple[Path, Access]:
    """Download the configuration, the safetensors weights and the card of a model, and verify them.

    Nothing else of the repository is downloaded: no other format of weights, because pickles can run code.

    Args:
        repository: `owner/name`.
        revision: Branch, tag or commit.
        progress: See `copy_of`.

    Returns:
        The folder of the commit's files in the cache of the Hub's client, and the permission under which it was read.

    Raises:
        AccessError: The model cannot be read, or the Hub cannot be reached and no complete copy is cached.
        HubError: The repository has no safetensors weights, or every download of a file had the wrong content.
    """
    found = check_access(repository, revision, "model")
    found.require()
    folder = cache.snapshot_folder(repository, found.resolved_commit, "model")
    is_cached = found.state == "cached"
    with refusals_worded(found, "model"):
        download = None if is_cached else _Download(repository, found.resolved_commit, "model")
        listed = download.entries if download else cache.cached_files(repository, found.resolved_commit, "model")
        if WEIGHTS not in listed or not CONFIGS & set(listed):
            pickles = [name for name in listed if name.endswith(PICKLES)]
            raise HubError(
                f"'{repository}' contains no {WEIGHTS} beside a config.json or run.json."
                + (f" Pickles such as '{pickles[0]}' are never loaded, because they can run code." if pickles else ""),
                "a model in the format of timm, or a run of `gzoo train`.",
                f"See its files at {found.page}/tree/main.",
            )
        if download:
            download.fetch([name for name in (*sorted(CONFIGS), WEIGHTS) if name in listed], {}, progress)
            cache.record_copy(repository, found.revision, None, found.resolved_commit, "model")
    return folder, found


def _copy(found: Access, config: str | None, progress: client.Progress | None) -> Path:
    """Return the folder of a complete copy in the cache."""
    found.require()
    repository, commit = found.requested, found.resolved_commit
    folder = cache.snapshot_folder(repository, commit)
    if found.state == "cached":
        return folder
    with refusals_worded(found):
        download = _Download(repository, commit)
        wanted = files_of_config(download.entries, folder, config, repository)
        try:
            listed = cast("dict[str, dict[str, object]]", files.open_folder(folder)["files"])
            checksums = {name: str(one["sha256"]) for name, one in listed.items()}
        except (DatasetError, NotFoundError, KeyError, TypeError, AttributeError):
            checksums = {}  # no manifest, or one of another program
        download.fetch([name for name in wanted if name not in SHARED_FILES], checksums, progress)
    cache.record_copy(repository, found.revision, config, commit)
    return folder


class _Download:
    """Verified download of files of one commit; its card and manifest come first.

    Attributes:
        entries: The Hub's listing of the commit.
        folder: The folder of its files in the cache.
    """

    def __init__(self, repository: str, commit: str, kind: str = "dataset") -> None:
        self.repository, self.commit, self._kind = repository, commit, kind
        self.entries = client.list_files(repository, commit, kind)
        self.folder = cache.snapshot_folder(repository, commit, kind)
        if files.BEGUN in self.entries:
            raise HubError(
                f"The publication of '{repository}' is not finished at commit {commit}.",
                "a commit that contains all files.",
                "Retry later, or name an earlier version with its tag or commit.",
            )
        verified = cache.read_record(repository, commit, kind)  # spares computing checksums of large files again
        self._record = {name: verified.get(name) for name in self.entries}
        self.fetch([name for name in SHARED_FILES if name in self.entries], {}, client.ignore_progress)

    def fetch(self, names: Iterable[str], checksums: Mapping[str, str], progress: client.Progress | None) -> None:
        """Download those files that are not in the cache, and verify them.

        Args:
            names: Names in the listing.
            checksums: SHA-256 of the files that the manifest lists.
            progress: See `copy_of`.

        Raises:
            HubError: A listed file differs from the manifest, or every download of it had the wrong content.
        """
        entries = {name: self.entries[name] for name in names}
        for name, entry in entries.items():
            if entry.lfs and entry.lfs.sha256 != checksums.get(name, entry.lfs.sha256):
                raise HubError(
                    f"'{name}' of '{self.repository}' at commit {self.commit} differs from the manifest.",
                    f"SHA-256 {checksums[name]}.",
                    "Report this to the dataset's owners: a file was changed, or the upload was incomplete.",
                )
        missing = [name for name in entries if self._record[name] != cache.stamp(self.folder / name)]
        total = sum(entry.size for entry in entries.values())
        done = total - sum(entries[name].size for name in missing)

        def advance(n: int) -> None:
            nonlocal done
            done = min(done + n, total)
            if progress:
                client.report_bytes(progress, f"Downloading {self.repository} from the Hub", done, total)

        def download(name: str) -> None:
            options = {"kind": self._kind, "checksum": checksums.get(name, "")}
            bar = client.progress_bar(advance, is_shown=progress is None)
            path = download_verified(self.repository, self.commit, entries[name], way, **options, tqdm_class=bar)
            self._record[name] = cache.stamp(path)

        if missing:
            advance(0)  # says where from and how much before anything is fetched
        try:
            with transfers.begin() as way:
                waiting.attend(
                    download,
                    missing,
                    f"'{self.repository}'",
                    n_threads=N_THREADS,
                    rescue=way.leave,
                    stop=transfers.abort if transfers.is_used() else None,
                )
        finally:
            cache.write_record(self.repository, self.commit, dict(self._record), self._kind)


def download_verified(
    repository: str,
    commit: str,
    entry: RepoFile,
    way: transfers.Way,
    *,
    kind: str = "dataset",
    checksum: str = "",
    **options: Any,
) -> Path:
    """Return the path of one downloaded file that has the listed content.

    Args:
        repository: `owner/name`.
        commit: Commit.
        entry: The file in the Hub's listing.
        way: What decides between Xet and plain HTTP.
        kind: "dataset" or "model".
        checksum: SHA-256 that the file must also have, or "".
        options: Of `HfApi.hf_hub_download`.

    Raises:
        HubError: Every download had the wrong content; none is kept.
    """
    sha256 = entry.lfs.sha256 if entry.lfs else ""
    options |= {"repo_type": kind, "revision": commit}
    for attempt in range(client.MAX_ATTEMPTS):
        client.pause(attempt)
        was_used = transfers.is_used()
        try:
            got = client.request(repository, lambda api: str(api.hf_hub_download(repository, entry.path, **options)))
        except (Exception, KeyboardInterrupt) as error:  # the latter from Xet, because this is not the main thread
            if way.takes(error, was_used=was_used):
                continue
            raise
        path = Path(got)
        if client.has_content(path, entry) and (checksum in {"", sha256} or files.sha256(path) == checksum):
            return path
        path.resolve().unlink(missing_ok=True)  # the blob, which the cache takes for the listed content
        path.unlink(missing_ok=True)
    raise HubError(
        f"'{entry.path}' of '{repository}' had the wrong content in {client.MAX_ATTEMPTS} downloads; none was kept.",
        f"{entry.size:,} bytes, {f'SHA-256 {sha256}' if sha256 else f'Git blob {entry.blob_id}'}.",
        "Check the network connection (a proxy?) and rerun the command; completed files are kept.",
    )
