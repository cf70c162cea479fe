"""Check: everything that a dataset folder promises, held against what is in it.

Nothing in the folder is trusted: it may be damaged, or made to harm. Only plain files that lie in it are opened, and
whatever is wrong with them becomes a finding, never an error. Rows are read part by part, so that memory hardly grows
with the dataset.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gzoo import files, hub, sky, zooniverse
from gzoo.dataset import card, schema
from gzoo.dataset.finalize import DROPPED_ARROW, DROPPED_OF_UNION, IMAGES_ARROW, n_tiny
from gzoo.dataset.index import PLACES, SHARD_BYTES, index_schema
from gzoo.dataset.leakage import leaks
from gzoo.dataset.open import recognised
from gzoo.dataset.shards import Spread, in_turn
from gzoo.errors import GZooError, ImageError, InputError, NotFoundError
from gzoo.images.checks import Scratch, check_image
from gzoo.sky import identifier_split
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.campaign import names as campaign_names
from gzoo.trees.tree import IntArray
from gzoo.votes.summary import summary
from gzoo.votes.votes import Votes

N_EXAMPLES = 5
MAX_ALIKE = 20
"""Findings of one name; what is found of that name in more files or columns is counted in one more."""
ROWS_AT_ONCE = 10_000
MAX_TEXT_BYTES = 64_000_000
"""Of manifest or card; a larger one is no such thing."""
MAX_SHOWN = 120
IMAGES_IN_TASK = 32  # which one thread looks at in turn
FRACTION_TOLERANCE = 1e-4
"""Of fractions that others computed, in whatever precision."""

PASSED, FAILED, NOT_CHECKED = "passed", "failed", "not checked"

CHECKS: Mapping[str, tuple[str, str, str]] = {
    "manifest": ("files", "facts", "manifest.json is whole, and says what is in the data"),
    "files": ("files", "files", "every file that the manifest lists has its size and sha256, and there is no other"),
    "shards": ("rows", "shards", "shards are complete, sound to the last page, and have the columns of the record"),
    "identifiers": ("rows", "rows", "each row has an identifier, unique within its dataset_name"),
    "positions": ("rows", "rows", "ra and dec are places on the sky, or NaN"),
    "votes": ("rows", "rows", "votes are whole counts of people, and totals are their sums"),
    "fractions": ("rows", "rows", "fractions are votes as a share of the total, NaN where nobody was asked"),
    "summaries": ("rows", "rows", "the one-word class follows from the votes"),
    "tree": ("rows", "rows", "no more rows have votes against the tree than the manifest tells"),
    "splits": ("rows", "rows", "each row is on the side that the scheme says"),
    "order": ("rows", "rows", "rows stand in the order of the hash of their identifier"),
    "index": ("rows", "rows", "the index has each row's identifier and votes, and the place of its image's bytes"),
    "tiny": ("tiny", "rows", "config tiny is the first rows of each split"),
    "leaks": ("leaks", "rows", "no galaxy is on two sides of the split"),
    "images": ("images", "images", "each image is sound, and the one that images.parquet lists"),
    "left out": ("tables", "rows", "dropped.parquet has each row and image that the manifest counts"),
    "weights": ("tables", "rows", "weighted.parquet has the rows of the dataset, and fractions from 0 to 1"),
    "card": ("tables", "facts", "the card's YAML and tables agree with the data"),
}
"""Each check: the stage it is part of, what it looks at, and what it says."""

KINDS: Mapping[str, tuple[str, str]] = {
    "no dataset": ("manifest", "Shards data/*.parquet, and manifest.json beside them."),
    "build not finished": ("manifest", "A finished one: give the command that began it again."),
    "manifest unreadable": ("manifest", "JSON as gzoo writes it, of this version of the format."),
    "manifest changed": ("manifest", "The very bytes that gzoo wrote, and the digest of them."),
    "fact missing": ("manifest", "Every fact that a build writes, in its form."),
    "fact wrong": ("manifest", "What stands in the data."),
    "path refused": ("files", "Names of files inside the folder, plainly written."),
    "link refused": ("files", "Plain files and folders, for a link may lead elsewhere. Copy the files themselves."),
    "file missing": ("files", "Every file that the manifest lists."),
    "file not listed": ("files", "No file but those that the manifest lists."),
    "file unreadable": ("files", "Files and folders that may be read."),
    "size differs": ("files", "As many bytes as the manifest says."),
    "sha256 differs": ("files", "The very bytes that were built."),
    "shard name unknown": ("shards", "Names such as train-00000-of-00001.parquet, of train, validation, test, border."),
    "shard missing": ("shards", "All shards of a split, from 00000 on."),
    "shard unreadable": ("shards", "A Parquet file, each page with its checksum."),
    "columns differ": ("shards", "The columns of the campaign's record, in its order and types."),
    "row groups differ": ("shards", "Row groups of 100 rows with images, of 10,000 without; only the last is less."),
    "value missing": ("shards", "No nulls: counts 0, fractions and positions NaN, texts ''."),
    "value of another type": ("shards", "Values that fit the column's type."),
    "text unreadable": ("shards", "Text in UTF-8."),
    "identifier empty": ("identifiers", "An identifier in each row."),
    "identifier twice": ("identifiers", "Each identifier once within its dataset_name."),
    "position off the sky": ("positions", "Degrees: ra from 0 to 360, dec from -90 to 90; or NaN."),
    "votes below zero": ("votes", "Counts of people: 0 or more."),
    "total wrong": ("votes", "The sum of the answers; where several are allowed, at least each answer."),
    "fraction wrong": ("fractions", "votes / total as float32; NaN where nobody was asked."),
    "summary wrong": ("summaries", "What gzoo.summary says of the row's votes."),
    "scheme unknown": ("splits", "A split scheme that this version of gzoo knows."),
    "wrong side": ("splits", "Each row on the side that the scheme says."),
    "out of order": ("order", "Rows of a split in the order of gzoo.sky.identifier_split.place, dataset_name, id_str."),
    "index differs": (
        "index",
        "A row for each row of the shard of that name: what stands there, and its image's place.",
    ),
    "tiny differs": ("tiny", "The first rows of the split, and as many as the rule says."),
    "galaxy on two sides": ("leaks", "Each galaxy in one of train, validation and test; see `gzoo leaks`."),
    "image damaged": ("images", "A whole JPEG or PNG image, RGB, up to 8192 pixels a side."),
    "image differs": ("images", "The sha256, size and name that images.parquet says."),
    "image list differs": ("images", "A row for each row of the dataset, in the same order."),
    "dropped rows differ": ("left out", "Columns id_str, row, image, reason, detail; a row each that was left out."),
    "weights differ": ("weights", "A row for each row of the dataset, in order; fractions from 0 to 1, or NaN."),
    "card unreadable": ("card", "README.md with YAML that the Hub reads."),
    "card wrong": ("card", "What manifest and data say."),
}
"""Name of each thing that can be found: the check that finds it, and what was expected."""

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        check: Which check found it.
        name: What it is: a key of `KINDS`.
        file: Name of the file inside the folder; "" for several, or for the whole.
        column: Column, or the key of a fact; "" where none is meant.
        row: The first row concerned, where 1 is the first row of the file; None where no row is.
        n: How many rows are concerned; of files or facts, how many of them.
        examples: Some of them.
    """

    check: str
    name: str
    file: str
    column: str
    row: int | None
    n: int
    examples: tuple[str, ...]

    @property
    def expected(self) -> str:
        """What was expected instead."""
        return KINDS[self.name][1]

    def __str__(self) -> str:
        where = self.file + (f", {self.column}" if self.column else "")
        rows = f" ({self.n:,})" if self.n > 1 else ""
        if self.row:
            rows = f" (row {self.row:,})" if self.n == 1 else f" ({self.n:,} rows, the first is {self.row:,})"
        such = f": {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.name}{' in ' if where else ''}{where}{rows}{such}"


@dataclass(frozen=True, slots=True)
class Check:
    """What one check came to.

    Attributes:
        name: A key of `CHECKS`.
        verdict: "passed", "failed" or "not checked".
        n: How many were looked at.
        note: Why it was not checked, or what else is to be told.
    """

    name: str
    verdict: str
    n: int
    note: str

    @property
    def stage(self) -> str:
        """The stage of the work that it is part of, as told to `progress`."""
        return CHECKS[self.name][0]

    @property
    def unit(self) -> str:
        """What it looks at."""
        return CHECKS[self.name][1]

    @property
    def says(self) -> str:
        """What holds if it passes."""
        return CHECKS[self.name][2]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found in a dataset folder.

    Attributes:
        folder: The folder.
        campaign: Whose tree its columns follow; "" where that cannot be told.
        has_manifest: Whether there is a manifest to hold the data against; published folders have none.
        is_simulated: Whether any of it was made by gzoo's simulator.
        n_galaxies: Rows read, by split.
        checks: Every check in order.
        findings: Everything that is wrong, in the order of the checks.
    """

    folder: Path
    campaign: str
    has_manifest: bool
    is_simulated: bool
    n_galaxies: Mapping[str, int]
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]

    @property
    def is_valid(self) -> bool:
        """Whether nothing is wrong. What could not be checked does not count: see `checks`."""
        return not self.findings

    def to_dict(self) -> dict[str, object]:
        """As one JSON object."""
        return {
            "is_valid": self.is_valid,
            "folder": _shown(str(self.folder)),
            "campaign": self.campaign or None,
            "has_manifest": self.has_manifest,
            "is_simulated": self.is_simulated,
            "n_galaxies": dict(self.n_galaxies),
            "checks": [
                {"name": one.name, "verdict": one.verdict, "n": one.n, "of": one.unit, "note": one.note}
                for one in self.checks
            ],
            "findings": [
                {
                    "check": one.check,
                    "name": one.name,
                    "file": one.file or None,
                    "column": one.column or None,
                    "row": one.row,
                    "n": one.n,
                    "examples": list(one.examples),
                    "expected": one.expected,
                }
                for one in self.findings
            ],
        }


def check(
    folder: Path | str,
    *,
    headers_only: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CheckResult:
    """What is wrong with a dataset folder, if anything: files, rows, splits, images and card.

    Of a published folder, which has no manifest, that is checked which can be; the rest is told in `CheckResult.checks`.

    Args:
        folder: A folder made by gzoo, or a copy of a published one.
        headers_only: Check only the headers of images, and do not decode them.
        report: HTML page to write.
        overwrite: Replace an earlier page.
        progress: Called as the work goes on.

    Raises:
        NotFoundError: There is no such folder.
        InputError: The page would lie in the folder.
        OutputExistsError: The page is there already.
    """
    root, page = Path(folder), Path(report) if report else None
    if not root.exists():
        files.open_folder(root)  # says that there is nothing, or nothing finished
    if not root.is_dir():
        raise NotFoundError(f"{root} is no folder.", "A dataset folder.", "Name the folder.")
    if page:
        if page.resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"The page {page} would lie in the dataset.", "A place beside it.", "Choose another --report."
            )
        zooniverse.refuse_occupied(page, overwrite=overwrite)
    ledger = _Ledger(progress or _silent)
    inside = _Folder.of(root, ledger)
    _check_files(inside, ledger)
    seen = _check_rows(inside, ledger)
    _check_tiny(inside, seen, ledger)
    _check_leaks(inside, seen, ledger)
    _check_images(inside, seen, ledger, is_decoded=not headers_only)
    _check_dropped(inside, seen, ledger)
    _check_weights(inside, seen, ledger)
    _check_card(inside, seen, ledger)
    ledger.say("tables", 1, 1)
    found = CheckResult(
        folder=root,
        campaign=inside.campaign.name if inside.campaign else "",
        has_manifest=inside.has_manifest,
        is_simulated=any(name.endswith(files.SIMULATED) for name in seen.names),
        n_galaxies=dict(seen.n_rows),
        checks=ledger.checks(),
        findings=ledger.findings(),
    )
    if page:
        from gzoo import reports

        name = _shown(root.resolve().name)
        files.write_bytes(page, reports.render("check", title=f"Check of {name}", found=found, name=name))
    return found


def _silent(stage: str, done: int, total: int) -> None:
    pass


# ---- what is found ---------------------------------------------------------------------------------------------------


@dataclass
class _Open:
    """A finding that may still grow."""

    row: int | None
    n: int = 0
    examples: list[str] = field(default_factory=list[str])


class _Ledger:
    """Findings, and what was looked at."""

    def __init__(self, say: Progress) -> None:
        self.say = say
        self._found: dict[tuple[str, str, str, str], _Open] = {}
        self._n_alike: dict[str, int] = defaultdict(int)
        self._n: dict[str, int] = defaultdict(int)
        self._notes: dict[str, str] = {}
        self._skipped: set[str] = set()

    def add(
        self,
        name: str,
        file: str = "",
        column: str = "",
        *,
        check: str = "",
        rows: npt.NDArray[np.integer] | None = None,
        row: int | None = None,
        n: int = 1,
        examples: Iterable[object] = (),
    ) -> None:
        """Something is wrong: in these rows (1 is the first of the file), in `n` rows from `row` on, or `n` times."""
        key = (check or KINDS[name][0], name, _shown(file), _shown(column))
        if key not in self._found:
            self._n_alike[name] += 1
            if self._n_alike[name] > MAX_ALIKE:
                key, examples = (key[0], name, "", ""), (key[2] + (f", {key[3]}" if key[3] else ""),)
        row = int(rows[0]) if rows is not None and len(rows) else row
        one = self._found.setdefault(key, _Open(row if key[2] else None))
        one.n += n if rows is None else len(rows)
        one.examples += [_shown(str(example)) for example in islice(examples, N_EXAMPLES - len(one.examples))]

    def differs(self, key: str, said: object, found: object, *, check: str = "manifest") -> None:
        """A fact of the manifest, held against what was found."""
        self._n["manifest"] += 1
        if said != found:
            self.add(
                "fact wrong", files.MANIFEST, key, check=check, examples=[f"says {_brief(said)}, found {_brief(found)}"]
            )

    def looked(self, check: str, n: int = 1) -> None:
        """So many more were looked at."""
        self._n[check] += n

    def skip(self, check: str, why: str) -> None:
        """A check, or the rest of it, is not made."""
        self._skipped.add(check)
        self.note(check, why)

    def note(self, check: str, text: str) -> None:
        """Something to tell of a check."""
        before = self._notes.get(check, "")
        if text not in before:
            self._notes[check] = f"{before}; {text}" if before else text

    def has(self, *names: str) -> bool:
        """Whether anything of these names was found."""
        return any(self._n_alike[name] for name in names)

    def checks(self) -> tuple[Check, ...]:
        failed = {check for check, *_ in self._found}
        return tuple(
            Check(
                name,
                FAILED if name in failed else NOT_CHECKED if name in self._skipped else PASSED,
                self._n[name],
                self._notes.get(name, ""),
            )
            for name in CHECKS
        )

    def findings(self) -> tuple[Finding, ...]:
        order = {name: i for i, name in enumerate(CHECKS)}
        found = [Finding(*key, one.row, one.n, tuple(one.examples)) for key, one in self._found.items()]
        return tuple(sorted(found, key=lambda one: order[one.check]))  # stable: else as they were met


def _shown(text: str) -> str:
    """A name or text from the folder, such that it can be shown anywhere."""
    plain = "".join(one if one.isprintable() else one.encode("unicode_escape", "replace").decode() for one in text)
    return plain if len(plain) <= MAX_SHOWN else f"{plain[:MAX_SHOWN]} ..."


def _brief(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _said(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]


# ---- the folder and its manifest -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a manifest must say, apart from the list of files; the types are those of JSON."""

    campaign: str
    columns: list[str]
    dataset_names: list[str]
    is_simulated: bool
    has_images: bool
    split_scheme: str
    n_split_by_id: int
    n_rows_in_table: int
    n_dropped: dict[str, int]
    n_rows_breaking_tree: int
    splits: dict[str, dict[str, int]]
    image_bytes: dict[str, dict[str, int]]
    image_sizes: list[list[int]]
    questions: dict[str, dict[str, int]]
    not_collected: list[str]
    not_asked: list[str]
    proportion_asked_not_known: list[str]

    @classmethod
    def of(cls, manifest: Mapping[str, object], ledger: _Ledger) -> _Facts | None:
        """The facts, if all are there in their form."""
        hints = get_type_hints(cls)
        names = [one.name for one in fields(cls)]
        wrong = [name for name in names if not _fits(manifest.get(name), hints[name])]
        ledger.looked("manifest", len(names))
        for name in wrong:
            what = f"is {_brief(manifest[name])}" if name in manifest else "is not there"
            ledger.add("fact missing", files.MANIFEST, name, examples=[what])
        if wrong:
            return None
        facts = cls(**{name: cast(Any, manifest[name]) for name in names})
        for key, of in (("splits", facts.splits), ("image_bytes", facts.image_bytes)):
            if set(of) != {"default", "tiny"} or any(set(one) != set(facts.splits["default"]) for one in of.values()):
                ledger.add("fact missing", files.MANIFEST, key, examples=["not the same splits in default and tiny"])
                return None
        for name, of in facts.questions.items():
            if set(of) != {"n_votes", "n_galaxies", "n_breaks", "n_well_voted", "median_votes"}:
                ledger.add("fact missing", files.MANIFEST, f"questions.{name}", examples=[f"has {', '.join(of)}"])
                return None
        if facts.campaign not in campaign_names():
            ledger.add("fact wrong", files.MANIFEST, "campaign", examples=[f"{facts.campaign} is none that gzoo knows"])
            return None
        return replace(  # in the order that a build has them in; a manifest is sorted by name
            facts,
            splits=_in_order(facts.splits),
            image_bytes=_in_order(facts.image_bytes),
            questions=_first(
                facts.questions, [one.name for one in campaign_of(facts.campaign).published_tree.questions]
            ),
        )


_Value = TypeVar("_Value")


def _in_order(of_configs: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {config: _first(of, files.SPLITS) for config, of in _first(of_configs, ("default", "tiny")).items()}


def _first(values: dict[str, _Value], keys: Sequence[str]) -> dict[str, _Value]:
    """The same with these keys in front."""
    return {key: values[key] for key in [*keys, *values] if key in values}


def _fits(value: object, hint: object) -> bool:
    """Whether a JSON value has a type such as `dict[str, list[int]]`."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if not isinstance(value, cast(type, kind)) or (kind is int and isinstance(value, bool)):
        return False
    if isinstance(value, dict):
        return all(_fits(one, inner[1]) for one in cast("dict[str, object]", value).values())
    return not isinstance(value, list) or all(_fits(one, inner[0]) for one in cast("list[object]", value))


@dataclass(frozen=True, slots=True)
class _Shard:
    """One file of rows."""

    name: str
    path: Path
    config: str
    split: str


_SHARD = re.compile(r"(data|tiny)/(train|validation|test|border)-(\d{5})-of-(\d{5})(-[0-9a-z]+)?\.parquet", re.ASCII)


@dataclass(frozen=True)
class _Folder:
    """What is to be checked.

    Attributes:
        root: The folder.
        files: Every plain file in it, by its name there.
        has_manifest: Whether there is one, good or bad.
        listed: The files that the manifest lists, if it has a list.
        facts: What it says besides, if it says all that it must.
        shards: The shards, in order: those of the list, or without one all that are there.
    """

    root: Path
    files: Mapping[str, Path]
    has_manifest: bool
    listed: Mapping[str, Mapping[str, object]] | None
    facts: _Facts | None
    shards: tuple[_Shard, ...]

    @classmethod
    def of(cls, root: Path, ledger: _Ledger) -> _Folder:
        contents = _walk(root, ledger)
        has_manifest = files.MANIFEST in contents
        manifest = _manifest(contents[files.MANIFEST], ledger) if has_manifest else None
        listed = _listed(manifest, ledger) if manifest is not None else None
        facts = _Facts.of(manifest, ledger) if manifest is not None else None
        known = listed if listed is not None else contents
        shards = _shards(known, contents, facts, ledger)
        if files.BEGUN in contents and not has_manifest:
            ledger.add("build not finished", files.BEGUN)
        elif not has_manifest:
            ledger.skip("manifest", "there is none, as in folders that gzoo did not make")
        if not shards and not ledger.has("build not finished", "file missing"):
            ledger.add("no dataset")
        return cls(root, contents, has_manifest, listed, facts, shards)

    @cached_property
    def campaign(self) -> Campaign | None:
        """Whose dataset it is: as the manifest says, else by the columns."""
        if self.facts:
            return campaign_of(self.facts.campaign)
        found = recognised(set(self.names))
        return found.campaign if found and "id_str" in self.names and not found.not_collected else None

    @cached_property
    def names(self) -> list[str]:
        """Columns of the first shard that can be read."""
        for shard in self.shards:
            try:
                return pq.read_schema(shard.path).names
            except Exception:  # whatever a damaged file brings a reader to raise; it is told where shards are checked
                continue
        return []

    @cached_property
    def record(self) -> schema.Record | None:
        """What a row should hold."""
        names = self.facts.columns if self.facts else self.names
        if self.campaign is None:
            return None
        return schema.record(self.campaign, image="image" in names, source_id="source_id" in names)

    def of_config(self, config: str, split: str = "") -> list[_Shard]:
        """The shards of a config, or of one split of it."""
        return [one for one in self.shards if one.config == config and split in ("", one.split)]


def _walk(root: Path, ledger: _Ledger) -> dict[str, Path]:
    """Every plain file of a folder, by its name there; links are not followed."""
    found: dict[str, Path] = {}
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            ledger.add("file unreadable", prefix.rstrip("/"), examples=[error.strerror or _said(error)])
            continue
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append((folder / entry.name, f"{name}/"))
            elif entry.is_file(follow_symlinks=False):
                found[name] = folder / entry.name
            else:
                ledger.add("link refused", name, examples=["a link" if entry.is_symlink() else "no plain file"])
    return dict(sorted(found.items()))


def _manifest(path: Path, ledger: _Ledger) -> dict[str, object] | None:
    """What the manifest says, if it is one."""
    file = files.MANIFEST
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        data = path.read_bytes()
        read: object = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        ledger.add("manifest unreadable", file, examples=[_said(error)])
        return None
    key, value = files.SIGNS["dataset"]
    if not isinstance(read, dict) or cast("dict[str, object]", read).get(key) != value:
        ledger.add("manifest unreadable", file, examples=[f"no object with {key} {value}"])
        return None
    manifest = cast("dict[str, object]", read)
    said = manifest.pop(files.OWN_DIGEST, None)
    try:
        is_same = files.json_bytes({**manifest, files.OWN_DIGEST: said}) == data and files.digest(manifest) == said
    except (ValueError, RecursionError):  # a text that is none, numbers without end
        is_same = False
    if not is_same:
        ledger.add("manifest changed", file)
    return manifest


def _listed(manifest: Mapping[str, object], ledger: _Ledger) -> dict[str, Mapping[str, object]] | None:
    """The files that the manifest lists, without names that might lead elsewhere."""
    listed = manifest.get("files")
    if not _fits(listed, dict[str, dict[str, object]]):
        ledger.add("fact missing", files.MANIFEST, "files", examples=["is no list of files"])
        return None
    kept: dict[str, Mapping[str, object]] = {}
    for name, facts in cast("dict[str, dict[str, object]]", listed).items():
        if not _is_plain(name):
            ledger.add("path refused", files.MANIFEST, f"files.{name}")
        elif not _fits(facts.get("sha256"), str) or not _fits(facts.get("bytes"), int):
            ledger.add("fact missing", files.MANIFEST, f"files.{name}", examples=["has no sha256 and bytes"])
        else:
            kept[name] = facts
    return kept


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    is_inside = not path.is_absolute() and ".." not in path.parts and ":" not in name and "\\" not in name
    return is_inside and name.isprintable() and bool(path.parts) and str(path) == name and name != files.MANIFEST


def _shards(
    known: Iterable[str], contents: Mapping[str, Path], facts: _Facts | None, ledger: _Ledger
) -> tuple[_Shard, ...]:
    """The shards that are there, in order; and which are missing by their numbers."""
    found: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    for name in known:
        match = _SHARD.fullmatch(name)
        if match:
            folder, split, number, n = match.group(1, 2, 3, 4)
            found[{"data": "default"}.get(folder, folder), split].append((int(number), int(n), name))
        elif name.startswith(("data/", "tiny/")) and name.endswith(".parquet"):
            ledger.add("shard name unknown", name)
    for config, of in (facts.splits if facts else {}).items():
        for split in of:
            if split not in files.SPLITS:
                ledger.add("fact wrong", files.MANIFEST, f"splits.{config}", examples=[f"{split} is no split"])
            elif (config, split) not in found:
                ledger.add("shard missing", files.shard_name(split, 0, 1, config))
    ordered: list[_Shard] = []
    for config in ("default", "tiny"):
        for split in files.SPLITS:
            of_split = sorted(found[config, split])
            n = max((n for _, n, _ in of_split), default=0)
            numbers = [number for number, _, _ in of_split]
            unavailable = sorted(set(range(n)) - set(numbers))
            first = files.shard_name(split, unavailable[0] if unavailable else 0, n, config)
            if unavailable:
                named = (files.shard_name(split, i, n, config) for i in unavailable[1:])
                ledger.add("shard missing", first, n=len(unavailable), examples=named)
            if (
                len(set(numbers)) < len(numbers)
                or any(one != n for _, one, _ in of_split)
                or max(numbers, default=-1) >= n > 0
            ):
                ledger.add("shard name unknown", of_split[-1][2], examples=["numbers that do not fit each other"])
            ordered += [_Shard(name, contents[name], config, split) for _, _, name in of_split if name in contents]
    return tuple(ordered)


def _check_files(folder: _Folder, ledger: _Ledger) -> None:
    """Every listed file there with its bytes, and no other."""
    if folder.listed is None:
        why = "the manifest has no list of files" if folder.has_manifest else "nothing says which files belong to it"
        ledger.skip("files", why)
        return
    n_bytes = sum(path.stat().st_size for name, path in folder.files.items() if name in folder.listed)
    done = 0
    for name, facts in folder.listed.items():
        ledger.say("files", done, n_bytes)
        ledger.looked("files")
        path = folder.files.get(name)
        if path is None:
            ledger.add("file missing", name)
            continue
        size = path.stat().st_size
        done += size
        if size != facts["bytes"]:
            ledger.add("size differs", name, examples=[f"{size:,} bytes, not {_brief(facts['bytes'])}"])
            continue
        try:
            found = files.sha256(path)
        except OSError as error:
            ledger.add("file unreadable", name, examples=[error.strerror or _said(error)])
            continue
        if found != facts["sha256"]:
            ledger.add("sha256 differs", name, examples=[f"{found[:16]} ..., not {str(facts['sha256'])[:16]} ..."])
    for name in folder.files:
        if name not in folder.listed and name != files.MANIFEST:
            is_left = name == files.BEGUN or name.startswith(f"{files.WORK}/") or name.endswith(".writing")
            ledger.add("file not listed", name, examples=["left over by a command that was stopped"] * is_left)
    ledger.say("files", n_bytes, n_bytes)


# ---- rows ------------------------------------------------------------------------------------------------------------


_Keys = npt.NDArray[np.uint64]
_Truths = npt.NDArray[np.bool_]


@dataclass
class _Seen:
    """What the rows of a dataset add up to.

    Attributes:
        n_rows: Rows by split.
        starts: Of each shard, how many rows stand in those before it.
        keys: A hash of dataset_name and id_str of each row, in order.
        names: Every dataset_name.
        sums: Of each question its votes, galaxies and rows against the tree, shape (3, question).
        spread: How many galaxies have how many votes on each question.
        n_breaking: Rows against the tree.
        n_by_id: Rows without a known position.
        is_whole: Whether every row was read.
        is_counted: Whether the votes of every row are sound.
        places: Of each shard, offset and length of its images, as its index says.
    """

    sums: IntArray
    spread: Spread
    n_rows: dict[str, int] = field(default_factory=dict[str, int])
    starts: dict[str, int] = field(default_factory=dict[str, int])
    keys: list[_Keys] = field(default_factory=list[_Keys])
    names: set[str] = field(default_factory=set[str])
    n_breaking: int = 0
    n_by_id: int = 0
    is_whole: bool = True
    is_counted: bool = True
    places: dict[str, tuple[IntArray, IntArray]] = field(default_factory=dict[str, tuple[IntArray, IntArray]])

    @property
    def n(self) -> int:
        """All rows."""
        return sum(self.n_rows.values())

    @cached_property
    def key(self) -> _Keys:
        """`keys` as one."""
        return np.concatenate([np.empty(0, np.uint64), *self.keys])


def _check_rows(folder: _Folder, ledger: _Ledger) -> _Seen:
    """Every shard, and every row of config `default`."""
    n_questions = len(folder.campaign.published_tree.questions) if folder.campaign else 0
    seen = _Seen(np.zeros((3, n_questions), np.int64), Spread(n_questions))
    seen.is_whole = not ledger.has("file missing", "shard missing", "no dataset")
    judge = _Judge(folder, seen, ledger) if folder.record else None
    if judge is None and folder.shards and folder.facts is None and folder.names:
        ledger.add("columns differ", folder.shards[0].name, examples=["they are those of no campaign that gzoo knows"])
    n_all = sum(folder.facts.splits["default"].values()) if folder.facts else 0
    for shard in folder.shards:
        ledger.looked("shards")
        file = _opened(shard, ledger)
        columns = _columns(folder, shard, file, ledger) if file and folder.record else []
        is_default = shard.config == "default"
        if file is None or not columns or judge is None:
            seen.is_whole &= not is_default
            continue
        _check_groups(folder, shard, file, ledger)
        if not is_default:
            continue
        seen.starts[shard.name] = seen.n
        seen.n_rows.setdefault(shard.split, 0)
        wanted = [name for name in columns if name != "image"]
        index = _Index.of(folder, shard, ledger)
        for first, batch in _batches(shard, file, wanted, ROWS_AT_ONCE, ledger):
            judge.look(shard, first, batch)
            if index:
                index.look(first, batch)
            ledger.say("rows", seen.n, max(n_all, seen.n))
        seen.is_whole &= not ledger.has("shard unreadable")
        if index:
            seen.places[shard.name] = index.finish(file.metadata.num_rows)
    if judge:
        judge.sum_up()
        if not seen.places and not ledger.has("index differs"):
            ledger.skip("index", "there is none: votes are read from the shards")
    else:
        for name, (stage, _, _) in CHECKS.items():
            if stage == "rows" and name != "shards":
                ledger.skip(name, "no row could be read")
    ledger.say("rows", seen.n, seen.n)
    return seen


def _opened(shard: _Shard, ledger: _Ledger) -> pq.ParquetFile | None:
    try:
        file = pq.ParquetFile(shard.path, page_checksum_verification=True, pre_buffer=False)
        sizes = _group_sizes(file)
        if min(sizes, default=0) < 0 or sum(sizes) != file.metadata.num_rows:
            raise ValueError("its row groups do not add up")
        _ = file.schema_arrow
    except Exception as error:  # whatever a damaged file brings a reader to raise
        ledger.add("shard unreadable", shard.name, examples=[_said(error)])
        return None
    return file


def _group_sizes(file: pq.ParquetFile) -> list[int]:
    """Rows of each row group."""
    return [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]


def _columns(folder: _Folder, shard: _Shard, file: pq.ParquetFile, ledger: _Ledger) -> list[str]:
    """The columns of a shard that can be looked into; none if identifiers or votes are not among them."""
    assert folder.record
    assert folder.campaign
    wanted, there = folder.record.arrow(), file.schema_arrow
    usable = [name for name in wanted.names if there.names.count(name) == 1]
    needed = {"id_str", *folder.campaign.published_tree.columns}
    if folder.facts and not there.equals(wanted, check_metadata=True):
        for name in wanted.names:
            if name not in usable:
                ledger.add(
                    "columns differ", shard.name, name, examples=[f"stands there {there.names.count(name)} times"]
                )
            elif there.field(name) != wanted.field(name):
                kinds = f"{there.field(name).type}, not {wanted.field(name).type}"
                ledger.add("columns differ", shard.name, name, examples=[kinds])
        strangers = [name for name in there.names if name not in wanted.names]
        if strangers:
            ledger.add("columns differ", shard.name, n=len(strangers), examples=[f"{one} is none" for one in strangers])
        elif there.names != wanted.names and len(usable) == len(wanted.names):
            ledger.add("columns differ", shard.name, examples=["they stand in another order"])
        elif there.names == wanted.names and there.metadata != wanted.metadata:
            ledger.add("columns differ", shard.name, examples=["the features for `datasets` are not theirs"])
    if not needed.issubset(usable):
        if not folder.facts:
            missing = sorted(needed - set(usable))
            ledger.add("columns differ", shard.name, n=len(missing), examples=[f"{one} is missing" for one in missing])
        return []
    return usable


def _check_groups(folder: _Folder, shard: _Shard, file: pq.ParquetFile, ledger: _Ledger) -> None:
    """Row groups of the size that makes one row quick to find."""
    if not folder.facts:
        return
    assert folder.record
    size = files.ROWS_IN_GROUP if "image" in folder.record.names else files.ROWS_IN_LARGE_GROUP
    sizes = _group_sizes(file)
    wrong = [
        i for i, n in enumerate(sizes) if n > size or (shard.config == "default" and n != size and i < len(sizes) - 1)
    ]
    if wrong or not sum(sizes):
        such = [f"group {i} has {sizes[i]:,} rows" for i in wrong] or ["it has no rows"]
        ledger.add("row groups differ", shard.name, n=max(1, len(wrong)), examples=such)


def _batches(
    shard: _Shard, file: pq.ParquetFile, columns: Sequence[str], size: int, ledger: _Ledger
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Rows of a shard, some at a time, and the number (from 0) of the first of them."""
    for groups, first, n in _runs(_group_sizes(file), size):
        row = first
        try:
            batches = file.iter_batches(size, groups, list(columns), use_threads=False)
            for batch in batches:
                yield row, batch
                row += batch.num_rows
            if row != first + n:
                raise ValueError(f"{n:,} rows are announced, and {row - first:,} are there")
        except Exception as error:  # whatever a damaged file brings a reader to raise
            _locate(shard, file, columns, groups, first, ledger, error)


def _runs(sizes: Sequence[int], most: int) -> Iterator[tuple[list[int], int, int]]:
    """Row groups that are read together: which, their first row, and how many rows."""
    run: list[int] = []
    first = n = 0
    for i, size in enumerate(sizes):
        run.append(i)
        n += size
        if n >= most or i == len(sizes) - 1:
            yield run, first, n
            run, first, n = [], first + n, 0


def _locate(
    shard: _Shard,
    file: pq.ParquetFile,
    columns: Sequence[str],
    groups: Sequence[int],
    first: int,
    ledger: _Ledger,
    error: Exception,
) -> None:
    """Which columns of which row groups cannot be read."""
    sizes = _group_sizes(file)
    is_found = False
    for group in groups:
        if _reading_error(file, group, columns) is not None:
            for column in columns:
                said = _reading_error(file, group, [column])
                if said is not None:
                    is_found = True
                    ledger.add("shard unreadable", shard.name, column, row=first + 1, n=sizes[group], examples=[said])
        first += sizes[group]
    if not is_found:
        ledger.add("shard unreadable", shard.name, examples=[_said(error)])


def _reading_error(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> str | None:
    try:
        file.read_row_group(group, list(columns), use_threads=False)
    except Exception as error:  # whatever a damaged file brings a reader to raise
        return _said(error)
    return None


class _Judge:
    """Looks at rows, in their order, and at what they add up to."""

    def __init__(self, folder: _Folder, seen: _Seen, ledger: _Ledger) -> None:
        assert folder.record
        assert folder.campaign
        self._folder, self._seen, self._ledger = folder, seen, ledger
        self._campaign, self._record, self._facts = folder.campaign, folder.record, folder.facts
        self._tree = folder.campaign.published_tree
        self._dtypes = {one.name: one.dtype for one in self._record.fields}
        not_collected = folder.facts.not_collected if folder.facts else []
        self._collected = tuple(one.name for one in self._tree.questions if one.name not in not_collected)
        self._last: dict[str, tuple[float, str, str]] = {}  # of each split: place, dataset_name and id_str
        self._n_voted = np.zeros(len(self._tree.questions), np.int64)
        self._n_alike = 0
        self._side_of = self._sides()

    # what decides a row's side: positions, places, and whether each position is known
    def _sides(
        self,
    ) -> Callable[[sky.FloatArray, sky.FloatArray, sky.FloatArray, _Truths], npt.NDArray[np.str_]] | None:
        if not self._facts:
            self._ledger.skip("splits", "nothing says by which scheme galaxies were split")
            self._ledger.skip("order", "nothing says how rows are ordered")
            return None
        name = self._facts.split_scheme
        if name == card.PUBLISHED:
            self._ledger.skip("splits", "the splits are those of the source table, which no rule decides")
            return None
        base = name.removesuffix(card.WITHOUT_VALIDATION)
        if base != identifier_split.SCHEME and base not in sky.SCHEMES:
            self._ledger.add("scheme unknown", files.MANIFEST, "split_scheme", examples=[name])
            return None

        def side_of(
            ra: sky.FloatArray, dec: sky.FloatArray, places: sky.FloatArray, is_known: _Truths
        ) -> npt.NDArray[np.str_]:
            sides = identifier_split.split_at(places)
            if base != identifier_split.SCHEME and is_known.any():
                sides[is_known] = sky.split(ra[is_known], dec[is_known], sky.SCHEMES[base])
            if base != name:
                sides[sides == "validation"] = "train"
            return sides

        return side_of

    def look(self, shard: _Shard, first: int, batch: pa.RecordBatch) -> None:
        """Everything that one row alone, or with those before it, can tell."""
        part = _Part(self._ledger, shard.name, first, batch, self._dtypes, is_strict=self._facts is not None)
        n = batch.num_rows
        self._seen.n_rows[shard.split] = self._seen.n_rows.get(shard.split, 0) + n
        for name in (
            "shards",
            "identifiers",
            "positions",
            "votes",
            "fractions",
            "summaries",
            "tree",
            "splits",
            "order",
        ):
            if name != "shards":
                self._ledger.looked(name, n)
        ids, names = self._identifiers(part, n)
        ra, dec, is_doubtful = self._positions(part, n)
        self._sided(shard, part, ids, names, ra, dec, is_doubtful)
        self._votes(part, n)
        if self._facts and "source_id" in self._dtypes:
            part.texts("source_id")

    def _identifiers(self, part: _Part, n: int) -> tuple[list[str], list[str]]:
        ids = part.texts("id_str") or [""] * n
        names = part.texts("dataset_name") or [self._campaign.name] * n
        part.wrong("identifier empty", "id_str", np.array([not one for one in ids], bool))
        self._seen.names.update(names)
        self._seen.keys.append(_hashes(names, ids))
        return ids, names

    def _positions(self, part: _Part, n: int) -> tuple[sky.FloatArray, sky.FloatArray, _Truths]:
        """Positions, and which of them are neither places nor said to be unknown."""
        is_doubtful = np.zeros(n, bool)
        degrees: list[sky.FloatArray] = []
        for name, low, high in (("ra", 0 if self._facts else -180, 360), ("dec", -90, 90)):
            values = part.numbers(name)
            if values is None:
                if not self._facts:
                    self._ledger.skip("positions", f"there is no column {name}")
                values = np.full(n, np.nan)
            is_wrong = ~(np.isnan(values) | ((values >= low) & (values <= high)))
            part.wrong("position off the sky", name, is_wrong, lambda i, values=values: f"{values[i]:g}")
            is_doubtful |= is_wrong | part.is_null(name)
            degrees.append(values)
        return degrees[0], degrees[1], is_doubtful

    def _sided(
        self,
        shard: _Shard,
        part: _Part,
        ids: list[str],
        names: list[str],
        ra: sky.FloatArray,
        dec: sky.FloatArray,
        is_doubtful: _Truths,
    ) -> None:
        is_known = sky.is_position(ra, dec)
        self._seen.n_by_id += int((~is_known).sum())
        if not self._facts or not ids:
            return
        places = np.array([identifier_split.place(one) for one in ids])
        if self._side_of:
            sides = self._side_of(ra, dec, places, is_known)
            part.wrong(
                "wrong side",
                "",
                (sides != shard.split) & ~is_doubtful,
                lambda i: f"{ids[i]} is in {shard.split}, not {sides[i]}",
            )
        before = self._last.get(shard.split, (-1.0, "", ""))
        steps = np.diff(places, prepend=before[0])
        is_wrong = steps < 0
        for i in np.flatnonzero(steps == 0):
            one = (names[i - 1], ids[i - 1]) if i else before[1:]
            is_wrong[i] = one > (names[i], ids[i])
        part.wrong("out of order", "id_str", is_wrong, lambda i: ids[i])
        self._last[shard.split] = places[-1], names[-1], ids[-1]

    def _votes(self, part: _Part, n: int) -> None:
        tree = self._tree
        counts = np.empty((n, len(tree.columns)), np.int64, order="F")  # sums over answers are several times as fast so
        is_valid = np.ones(n, bool)
        for i, column in enumerate(tree.columns):
            values = part.numbers(column)
            if values is None:
                self._seen.is_counted = False
                return
            counts[:, i] = values
            is_valid &= ~part.wrong("votes below zero", column, values < 0, lambda i, values=values: str(values[i]))
        totals = tree.totals(counts)
        for i, question in enumerate(tree.questions):
            self._n_voted[i] += int(counts[:, tree.slice(question.name)].any(axis=1).sum())
            given = part.numbers(question.total_column)
            if given is None:
                continue
            own = counts[:, tree.slice(question.name)]
            is_wrong = given < own.max(axis=1) if question.multiple else given != totals[:, i]
            is_wrong = is_wrong & (is_valid | (given < 0))

            def such(row: int, given: IntArray = given, own: IntArray = own) -> str:
                return f"{given[row]} of {' + '.join(map(str, own[row]))}"

            part.wrong("total wrong", question.total_column, is_wrong, such)
            totals[:, i] = given
            is_valid &= ~is_wrong
        self._fractions(part, counts, totals, is_valid)
        if not is_valid.all():
            self._seen.is_counted = False
            counts, totals = counts[is_valid], totals[is_valid]
        votes = Votes(tree, counts, totals, self._collected)
        breaks = votes.breaks
        self._seen.sums += [totals.sum(axis=0), (totals > 0).sum(axis=0), breaks.sum(axis=0)]
        self._seen.spread.add(totals)
        self._seen.n_breaking += int(breaks.any(axis=1).sum())
        self._summaries(part, votes, is_valid)

    def _fractions(self, part: _Part, counts: IntArray, totals: IntArray, is_valid: _Truths) -> None:
        asked = totals[:, list(self._tree.question_of_answer)]
        fractions = np.divide(counts, asked, out=np.full(counts.shape, np.nan), where=asked > 0).astype(np.float32)
        for i, column in enumerate(self._tree.columns):
            name = f"{column}_fraction"
            given = part.numbers(name)
            if given is None:
                continue
            wanted = fractions[:, i]
            off = given != wanted if self._facts else ~(np.abs(given - wanted) <= FRACTION_TOLERANCE)
            is_wrong = off & ~(np.isnan(given) & np.isnan(wanted)) & is_valid
            part.wrong("fraction wrong", name, is_wrong, lambda i, a=given, b=wanted: f"{a[i]:g}, not {b[i]:g}")

    def _summaries(self, part: _Part, votes: Votes, is_valid: _Truths) -> None:
        if "summary" not in part.columns:
            return
        given = np.array(part.texts("summary"), np.str_)
        wanted = np.full(len(given), "", np.dtype("U64"))
        wanted[is_valid] = summary(votes)
        differs = (given != wanted) & is_valid
        self._n_alike += int((~differs).sum())
        if self._facts:
            part.wrong("summary wrong", "summary", differs, lambda i: f"'{given[i]}', not '{wanted[i]}'")

    def sum_up(self) -> None:
        """What only all rows together can tell, and what the manifest says of them."""
        seen, ledger, facts = self._seen, self._ledger, self._facts
        self._twice()
        columns = {name for name in self._dtypes if name in self._folder.names}
        if not any(name.endswith("_fraction") for name in columns):
            ledger.skip("fractions", "there are no such columns")
        if not any(name.endswith("_total-votes") for name in columns):
            ledger.note("votes", "there are no totals")
        if "summary" not in columns:
            ledger.skip("summaries", "there is no such column")
        elif not facts:
            ledger.skip(
                "summaries", f"by which rule is not told; gzoo's gives the same in {self._n_alike:,} of {seen.n:,} rows"
            )
        if not facts:
            ledger.skip("tree", f"{seen.n_breaking:,} rows have votes against it, and nothing says how many there were")
            return
        if not seen.is_whole:
            ledger.note("manifest", "what it says of the rows was not compared, for not all could be read")
            return
        for split in facts.splits["default"]:
            ledger.differs(
                f"splits.default.{split}", facts.splits["default"][split], seen.n_rows.get(split, 0), check="splits"
            )
        if strangers := seen.names - set(facts.dataset_names):
            ledger.differs("dataset_names", ", ".join(facts.dataset_names), ", ".join(sorted(strangers)))
        ledger.differs("is_simulated", facts.is_simulated, any(one.endswith(files.SIMULATED) for one in seen.names))
        ledger.differs("columns", facts.columns, list(self._record.names))
        ledger.differs("has_images", facts.has_images, "image" in self._record.names)
        ledger.differs("proportion_asked_not_known", facts.proportion_asked_not_known, list(self._tree.unreachable))
        self._compare_by_id(facts)
        if seen.is_counted:
            self._compare_votes(facts)
        else:
            ledger.note("manifest", "sums of votes were not compared, for some rows have none")

    def _compare_by_id(self, facts: _Facts) -> None:
        """Rows split by their identifier; those whose image was of no use were counted too."""
        if self._ledger.has("position off the sky", "value missing"):
            return
        if facts.split_scheme == card.PUBLISHED:
            self._ledger.differs("n_split_by_id", facts.n_split_by_id, 0, check="splits")
            return
        n_gone = facts.n_dropped.get("image unusable", 0)
        if not 0 <= facts.n_split_by_id - self._seen.n_by_id <= n_gone:
            self._ledger.differs("n_split_by_id", facts.n_split_by_id, self._seen.n_by_id, check="splits")

    def _compare_votes(self, facts: _Facts) -> None:
        seen, ledger, tree = self._seen, self._ledger, self._tree
        ledger.differs("questions", list(facts.questions), [one.name for one in tree.questions])
        has_totals = self._campaign.hub.layout == "full"
        carried = {question.name for question in tree.questions}
        for i, question in enumerate(tree.questions):
            said = facts.questions.get(question.name)
            if said is None:
                continue
            n_votes, n_galaxies, n_breaks = (int(one) for one in seen.sums[:, i])
            if has_totals or not question.multiple:
                ledger.differs(f"questions.{question.name}.n_votes", said["n_votes"], n_votes, check="votes")
                ledger.differs(f"questions.{question.name}.n_galaxies", said["n_galaxies"], n_galaxies, check="votes")
                if (said["n_votes"], said["n_galaxies"]) == (n_votes, n_galaxies):  # else these say the same again
                    at, n_well, median = f"questions.{question.name}", *seen.spread.figures(i)
                    ledger.differs(f"{at}.n_well_voted", said["n_well_voted"], n_well, check="votes")
                    ledger.differs(f"{at}.median_votes", said["median_votes"], median, check="votes")
            if tree.unavailable.isdisjoint(question.parents):
                ledger.differs(f"questions.{question.name}.n_breaks", said["n_breaks"], n_breaks, check="tree")
            if question.name in facts.not_collected and self._n_voted[i]:
                found = f"votes on {question.name} in {self._n_voted[i]:,} rows"
                ledger.differs("not_collected", question.name, found, check="votes")
        for name in facts.not_collected:
            if name not in carried:
                ledger.differs("not_collected", name, "no such question", check="votes")
        # questions that the dataset does not carry may be broken in further rows
        if not tree.unavailable or seen.n_breaking > facts.n_rows_breaking_tree:
            ledger.differs("n_rows_breaking_tree", facts.n_rows_breaking_tree, seen.n_breaking, check="tree")

    def _twice(self) -> None:
        """Identifiers that stand there twice; two that only share a hash do not."""
        keys = np.sort(self._seen.key)
        twice = np.unique(keys[1:][keys[1:] == keys[:-1]])
        if not len(twice):
            return
        known: dict[tuple[str, str], str] = {}
        quiet = _Ledger(_silent)
        for shard in self._folder.of_config("default"):
            file = _opened(shard, quiet)
            columns = _columns(self._folder, shard, file, quiet) if file else []
            if file is None or not columns:
                continue
            wanted = [name for name in columns if name in _KEY]
            for first, batch in _batches(shard, file, wanted, ROWS_AT_ONCE, quiet):
                part = _Part(quiet, shard.name, first, batch, self._dtypes, is_strict=False)
                ids = part.texts("id_str") or [""] * batch.num_rows
                names = part.texts("dataset_name") or [self._campaign.name] * batch.num_rows
                is_twice = np.zeros(batch.num_rows, bool)
                for i in np.flatnonzero(np.isin(_hashes(names, ids), twice)):
                    is_twice[i] = bool(ids[i]) and (names[i], ids[i]) in known
                    known.setdefault((names[i], ids[i]), shard.name)
                rows = first + 1 + np.flatnonzero(is_twice)
                if len(rows):
                    such = [f"{ids[i]} of {names[i]}" for i in np.flatnonzero(is_twice)[:N_EXAMPLES]]
                    self._ledger.add("identifier twice", shard.name, "id_str", rows=rows, examples=such)


_KEY = schema.KEY


def _hashes(names: Sequence[str], ids: Sequence[str]) -> _Keys:
    """A hash of each dataset_name and id_str, the same within one run of the program."""
    return (
        pl.DataFrame({"dataset_name": names, "id_str": ids}, schema=dict.fromkeys(_KEY, pl.String))
        .hash_rows()
        .to_numpy()
    )


class _Part:
    """Some rows of a shard, and findings in them."""

    def __init__(
        self,
        ledger: _Ledger,
        file: str,
        first: int,
        batch: pa.RecordBatch,
        dtypes: Mapping[str, str],
        *,
        is_strict: bool,
    ) -> None:
        self._ledger, self._file, self._first, self._batch = ledger, file, first, batch
        self._dtypes, self._is_strict = dtypes, is_strict
        self.columns = frozenset(batch.schema.names)

    def wrong(self, name: str, column: str, is_wrong: _Truths, such: Callable[[int], str] | None = None) -> _Truths:
        """Add a finding where rows are wrong; hands them back."""
        if is_wrong.any():
            rows = np.flatnonzero(is_wrong)
            examples = [such(int(i)) for i in rows[:N_EXAMPLES]] if such else []
            self._ledger.add(name, self._file, column, rows=rows + self._first + 1, examples=examples)
        return is_wrong

    def numbers(self, name: str) -> npt.NDArray[Any] | None:
        """A column of numbers: whole ones as int64, the others as they are; None where there is no such column."""
        array = self._column(name)
        if array is None:
            return None
        values = array.to_numpy(zero_copy_only=False)
        return values.astype(np.int64) if self._dtypes[name] == "int32" else values

    def texts(self, name: str) -> list[str] | None:
        """A column of texts; None where there is no such column."""
        array = self._column(name)
        if array is None:
            return None
        try:
            return cast("list[str]", array.to_pylist())
        except UnicodeDecodeError:
            raw = cast("list[bytes]", array.cast(pa.binary()).to_pylist())
            texts = [one.decode("utf-8", "replace") for one in raw]
            is_wrong = np.array([text.encode() != one for text, one in zip(texts, raw, strict=True)], bool)
            self.wrong("text unreadable", name, is_wrong)
            return texts

    def is_null(self, name: str) -> _Truths:
        """Where a column has no value."""
        if name not in self.columns or not self._batch.column(name).null_count:
            return np.zeros(self._batch.num_rows, bool)
        return np.asarray(self._batch.column(name).is_null().to_numpy(zero_copy_only=False), bool)

    def _column(self, name: str) -> pa.Array | None:
        if name not in self.columns:
            return None
        array = self._batch.column(name)
        kind = schema.ARROW_TYPES[self._dtypes[name]]
        try:
            array = array.cast(kind) if array.type != kind else array
        except pa.ArrowException as error:
            if not self._is_strict:  # else it was said where columns are checked
                self._ledger.add("value of another type", self._file, name, examples=[_said(error)])
            return None
        if array.null_count:
            if self._is_strict or name == "id_str":
                self.wrong("value missing", name, self.is_null(name))
            else:
                self._ledger.note("shards", "there are nulls, as gzoo never writes; they count as 0, NaN or ''")
            missing = {"string": "", "int32": 0}.get(self._dtypes[name], np.nan)
            array = cast(pa.Array, pc.fill_null(array, pa.scalar(missing, kind)))
        return array


# ---- what follows from rows ------------------------------------------------------------------------------------------


class _Rows:
    """Rows of several shards in turn, as many at a time as are asked for, up to the first that cannot be read."""

    def __init__(
        self, shards: Sequence[_Shard], columns: Sequence[str], ledger: _Ledger, size: int = files.ROWS_IN_GROUP
    ) -> None:
        self.is_cut = False
        self._batches = self._read(shards, columns, ledger, size)
        self._left: pa.RecordBatch | None = None

    def _read(
        self, shards: Sequence[_Shard], columns: Sequence[str], ledger: _Ledger, size: int
    ) -> Iterator[pa.RecordBatch]:
        for shard in shards:
            file, n = _opened(shard, ledger), 0
            for first, batch in _batches(shard, file, columns, size, ledger) if file else ():
                if first == n and not self.is_cut:
                    yield batch
                    n += batch.num_rows
            if file is None or n != file.metadata.num_rows:
                self.is_cut = True

    def take(self, n: int) -> pa.RecordBatch | None:
        """The next rows, at most so many; None after the last."""
        while self._left is None or not self._left.num_rows:
            self._left = next(self._batches, None)
            if self._left is None:
                return None
        taken, self._left = self._left.slice(0, n), self._left.slice(n)
        return taken


class _Index:
    """The index of a shard, row by row, held against the shard."""

    def __init__(self, shard: _Shard, file: pq.ParquetFile, ledger: _Ledger) -> None:
        self._name, self._ledger = shard.name, ledger
        self._rows = _Rows([shard], file.schema_arrow.names, _Ledger(_silent), ROWS_AT_ONCE)
        self._n_read = 0
        self._places: list[pa.RecordBatch] = []

    @classmethod
    def of(cls, folder: _Folder, shard: _Shard, ledger: _Ledger) -> _Index | None:
        """The index of a shard, if there is one that can be read."""
        name = files.index_name(shard.name)
        if name not in folder.files:
            return None
        assert folder.record
        assert folder.campaign
        index = _Shard(name, folder.files[name], "", "")
        file = _opened(index, _Ledger(_silent))
        wanted = index_schema(folder.record, folder.campaign.published_tree, shard.path.stat().st_size)
        if file is None or not file.schema_arrow.equals(wanted):
            ledger.add("index differs", name, examples=["its columns are others" if file else "it cannot be read"])
            return None
        if (file.schema_arrow.metadata or {}).get(SHARD_BYTES) != wanted.metadata[SHARD_BYTES]:
            ledger.add("index differs", name, examples=["it is of another shard"])
            return None
        return cls(index, file, ledger)

    def _take(self, n: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The next rows, and the number (from 0) of the first of each part."""
        while n and (part := self._rows.take(n)) is not None:
            yield self._n_read, part
            self._places.append(part.select(list(PLACES)))
            self._n_read += part.num_rows
            n -= part.num_rows

    def look(self, first: int, batch: pa.RecordBatch) -> None:
        """Compare some rows of the shard, of which `first` (from 0) is the first; those before may be left out."""
        for _ in self._take(first - self._n_read):
            pass
        for at, part in self._take(batch.num_rows):
            self._ledger.looked("index", part.num_rows)
            others = batch.slice(at - first, part.num_rows)
            for name in part.schema.names:
                if name in others.schema.names and others.schema.field(name).type == part.schema.field(name).type:
                    rows_off = _unlike(part.column(name), others.column(name))
                    if len(rows_off):
                        self._ledger.add("index differs", self._name, name, rows=at + rows_off + 1)

    def finish(self, n: int) -> tuple[IntArray, IntArray]:
        """Say if there are more or fewer rows than the shard's; offset and length of each row's image."""
        for _ in self._take(n - self._n_read):  # to the end of a shard that cannot be read to its end
            pass
        is_more = self._rows.take(1) is not None
        if self._rows.is_cut:
            self._ledger.add("index differs", self._name, examples=["it cannot be read to its end"])
        elif is_more or self._n_read < n:
            such = [f"{'more' if is_more else f'{self._n_read:,}'} rows, not {n:,}"]
            self._ledger.add("index differs", self._name, examples=such)
        columns = (
            [np.asarray(part.column(name).fill_null(-1).to_numpy(), np.int64) for part in self._places]
            for name in PLACES
        )
        offset, length = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in columns)
        return offset, length


def _check_places(
    seen: _Seen, shard: _Shard, first: int, images: Sequence[bytes], file: BinaryIO, ledger: _Ledger
) -> None:
    """The bytes at the places that the index names, which must be those of the images."""
    if shard.name not in seen.places:
        return
    offset, length = (of_all[first : first + len(images)] for of_all in seen.places[shard.name])
    is_off = np.zeros(len(offset), bool)
    for i, (at, n, data) in enumerate(zip(offset.tolist(), length.tolist(), images, strict=False)):
        is_off[i] = n != len(data) or at < 0 or os.pread(file.fileno(), n, at) != data
    if is_off.any():
        ledger.add("index differs", files.index_name(shard.name), "offset", rows=first + 1 + np.flatnonzero(is_off))


def _check_tiny(folder: _Folder, seen: _Seen, ledger: _Ledger) -> None:
    """Config `tiny` against the first rows of config `default`."""
    if not folder.facts or not folder.record:
        ledger.skip("tiny", "nothing says which rows it should have")
        return
    if ledger.has("file missing", "shard missing", "shard unreadable", "columns differ"):
        ledger.skip("tiny", "not all shards can be read")
        return
    names = folder.record.names
    for split, n_said in folder.facts.splits["tiny"].items():
        tiny = folder.of_config("tiny", split)
        # of the others it is said elsewhere what cannot be read
        rows, others = _Rows(tiny, names, ledger), _Rows(folder.of_config("default", split), names, _Ledger(_silent))
        n = 0
        while (part := rows.take(ROWS_AT_ONCE)) is not None:
            while part.num_rows and (other := others.take(part.num_rows)) is not None:
                mine, part = part.slice(0, other.num_rows), part.slice(other.num_rows)
                for name in names:
                    rows_off = _unlike(mine.column(name), other.column(name))
                    if len(rows_off):
                        ledger.add("tiny differs", tiny[0].name, name, rows=n + rows_off + 1)
                n += mine.num_rows
            n += part.num_rows
        ledger.looked("tiny", n)
        if rows.is_cut or others.is_cut:
            ledger.skip("tiny", "not all rows can be read")
            continue
        ledger.differs(f"splits.tiny.{split}", n_said, n, check="tiny")
        wanted = n_tiny(seen.n_rows.get(split, 0))
        if n != wanted:
            ledger.add("tiny differs", tiny[0].name if tiny else "", examples=[f"{n:,} rows, not {wanted:,}"])
    ledger.say("tiny", 1, 1)


def _unlike(one: pa.Array, other: pa.Array) -> IntArray:
    """Rows in which two columns of one type differ; NaN is like NaN."""
    if pa.types.is_floating(one.type):
        a, b = (column.to_numpy(zero_copy_only=False) for column in (one, other))
        return np.flatnonzero((a != b) & ~(np.isnan(a) & np.isnan(b)))
    if one.equals(other):
        return np.empty(0, np.int64)
    return np.array([i for i, (a, b) in enumerate(zip(one, other, strict=True)) if not a.equals(b)], np.int64)


def _check_leaks(folder: _Folder, seen: _Seen, ledger: _Ledger) -> None:
    """No galaxy on two sides of the split."""
    if not seen.is_whole or ledger.has("link refused", "fact missing", "manifest unreadable", "shard name unknown"):
        ledger.skip("leaks", "not all rows could be read")
        return
    ledger.say("leaks", 0, 1)
    try:
        found = leaks([folder.root])
    except GZooError as error:
        ledger.skip("leaks", _shown(f"{error.message}"))
        return
    ledger.looked("leaks", seen.n)
    if found.n_without_position[0]:
        ledger.note("leaks", f"{found.n_without_position[0]:,} rows have no position and were compared by identifier")
    such = (
        " and ".join(f"{pair[f'{end}id_str']} ({pair[f'{end}split']})" for end in ("", "other_"))
        for pair in found.pairs.head(N_EXAMPLES).iter_rows(named=True)
    )
    if not found.is_clean:
        ledger.add("galaxy on two sides", n=found.pairs.height, examples=such)
    ledger.say("leaks", 1, 1)


# ---- images --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Image:
    """One image, and what it turned out to be."""

    shard: _Shard
    row: int  # the first is 1
    id_str: str
    name: str
    data: bytes
    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    problem: str = ""


def _check_images(folder: _Folder, seen: _Seen, ledger: _Ledger, *, is_decoded: bool) -> None:
    """Every image, alone and against `images.parquet`."""
    if not folder.record or "image" not in folder.record.names:
        ledger.skip("images", "there are none" if folder.record else "no row could be read")
        return
    if not is_decoded:
        ledger.note("images", "their headers only")

    def work(task: Sequence[_Image]) -> list[_Image]:
        scratch = Scratch()
        return [_looked_at(one, is_decoded, scratch) for one in task]

    quiet = _Ledger(_silent)  # for all columns but the image, damage was told before
    source = folder.files.get("images.parquet") if folder.facts else None
    lines = _Lines.of(source, ledger) if source else None
    if not folder.facts:
        ledger.note("images", "nothing says what they should be")
    n_bytes: dict[str, int] = defaultdict(int)
    sizes: set[tuple[int, int]] = set()
    n = 0
    is_whole = seen.is_whole
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for done in in_turn(work, _tasks(folder, seen, ledger, quiet), pool, ahead=2 * threads + 2):
            for one in done:
                n += 1
                n_bytes[one.shard.split] += len(one.data)
                sizes.add(one.size)
                row = np.array([one.row])
                if one.problem:
                    ledger.add(
                        "image damaged", one.shard.name, "image", rows=row, examples=[f"{one.id_str}: {one.problem}"]
                    )
                if lines and is_whole:
                    place = seen.starts[one.shard.name] + one.row - 1
                    _compare(one, lines.at(place), int(seen.key[place]), ledger)
            ledger.say("images", n, max(n, seen.n))
    ledger.looked("images", n)
    if lines and is_whole:
        lines.finish(seen.n)
    is_whole = is_whole and n == seen.n
    if is_whole and folder.facts and not ledger.has("image damaged", "image differs", "image list differs"):
        for split, said in folder.facts.image_bytes["default"].items():
            ledger.differs(f"image_bytes.default.{split}", said, n_bytes[split], check="images")
        found = sorted([width, height] for width, height in sizes)
        ledger.differs("image_sizes", folder.facts.image_sizes, found, check="images")


def _tasks(folder: _Folder, seen: _Seen, ledger: _Ledger, quiet: _Ledger) -> Iterator[list[_Image]]:
    """The images of all rows in order, some at a time."""
    for shard in folder.of_config("default"):
        file = _opened(shard, quiet)
        if file is None or file.schema_arrow.names.count("image") != 1:
            continue
        kind = file.schema_arrow.field("image").type
        if not _is_of_images(kind):
            if not folder.facts:  # else it was told with the columns
                ledger.add("value of another type", shard.name, "image", examples=[str(kind)])
            continue
        with shard.path.open("rb", buffering=0) as plain:
            for first, batch in _batches(shard, file, ["image", "id_str"], files.ROWS_IN_GROUP, ledger):
                images = batch.column("image")
                column, names = images.field("bytes"), images.field("path")
                part = _Part(quiet, shard.name, first, batch, {"id_str": "string"}, is_strict=False)
                ids = part.texts("id_str") or [""] * batch.num_rows
                for start in range(0, batch.num_rows, IMAGES_IN_TASK):
                    rows = range(start, min(start + IMAGES_IN_TASK, batch.num_rows))
                    data = [column[i].as_py() or b"" for i in rows]
                    _check_places(seen, shard, first + start, data, plain, ledger)
                    yield [
                        _Image(shard, first + i + 1, ids[i], _text(names[i]), one)
                        for i, one in zip(rows, data, strict=True)
                    ]


def _is_of_images(kind: pa.DataType) -> bool:
    """Whether a column holds images as `datasets` stores them, with their bytes."""
    if not pa.types.is_struct(kind) or sorted(kind.field(i).name for i in range(kind.num_fields)) != ["bytes", "path"]:
        return False
    return kind.field("bytes").type in (pa.binary(), pa.large_binary())


def _text(value: pa.Scalar) -> str:
    try:
        return str(value.as_py() or "")
    except UnicodeDecodeError:
        return "?"


def _looked_at(one: _Image, is_decoded: bool, scratch: Scratch) -> _Image:
    digest = hashlib.sha256(one.data).hexdigest()
    try:
        facts = check_image(one.data, is_decoded=is_decoded, scratch=scratch)
    except ImageError as error:
        return _Image(one.shard, one.row, one.id_str, one.name, one.data, digest, problem=error.message.rstrip("."))
    return _Image(one.shard, one.row, one.id_str, one.name, one.data, digest, (facts.width, facts.height))


class _Lines:
    """`images.parquet`, line by line."""

    _FILE = "images.parquet"

    def __init__(self, shard: _Shard, file: pq.ParquetFile, ledger: _Ledger) -> None:
        self._shard, self._file, self._ledger = shard, file, ledger
        self._lines = self._read()
        self._n_read = 0

    @classmethod
    def of(cls, path: Path, ledger: _Ledger) -> _Lines | None:
        """The list, if it can be read."""
        quiet = _Ledger(_silent)
        shard = _Shard(cls._FILE, path, "", "")
        file = _opened(shard, quiet)
        if file is None or not file.schema_arrow.equals(IMAGES_ARROW):
            why = "its columns are others" if file else "it cannot be read"
            ledger.add("image list differs", cls._FILE, examples=[why])
            return None
        return cls(shard, file, ledger)

    def _read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        quiet = _Ledger(_silent)
        for _, batch in _batches(self._shard, self._file, IMAGES_ARROW.names, ROWS_AT_ONCE, quiet):
            try:
                lines = cast("list[dict[str, Any]]", batch.to_pylist())
            except UnicodeDecodeError:
                self._ledger.add("image list differs", self._FILE, examples=["a text is not UTF-8"])
                return
            keys = _hashes(*([line[name] for line in lines] for name in _KEY))
            yield from zip(keys.tolist(), lines, strict=True)
        if quiet.has("shard unreadable"):
            self._ledger.add("image list differs", self._FILE, examples=["it cannot be read to its end"])

    def at(self, place: int) -> tuple[int, int, dict[str, Any]] | None:
        """Number of the line (the first is 1) at a place, the first is 0; hash of its identifiers, and what it says."""
        while (line := next(self._lines, None)) is not None:
            self._n_read += 1
            if self._n_read > place:  # those before, whose image could not be read, are passed over
                return self._n_read, *line
        return None

    def finish(self, n: int) -> None:
        """Say if there are more lines than rows of the dataset."""
        more = self._n_read + sum(1 for _ in self._lines) - n
        if more > 0:
            self._ledger.add("image list differs", self._FILE, row=n + 1, n=more, examples=["more rows than images"])


def _compare(one: _Image, line: tuple[int, int, dict[str, Any]] | None, key: int, ledger: _Ledger) -> None:
    """An image against what is listed of it."""
    if line is None:
        ledger.add(
            "image list differs", one.shard.name, rows=np.array([one.row]), examples=[f"{one.id_str} is not in it"]
        )
        return
    number, said_key, said = line
    if said_key != key:
        such = [f"{said['id_str']}, not {one.id_str}"]
        ledger.add("image list differs", "images.parquet", "id_str", rows=np.array([number]), examples=such)
        return
    facts = {"sha256": one.sha256, "bytes": len(one.data), "image": one.name}
    if not one.problem:
        facts |= {"width": one.size[0], "height": one.size[1]}
    for name, found in facts.items():
        wanted = PurePosixPath(str(said[name])).name if name == "image" else said[name]
        if found != wanted:
            such = [f"{one.id_str}: {_shown(str(found))[:20]}, not {str(wanted)[:20]}"]
            ledger.add("image differs", one.shard.name, name, rows=np.array([one.row]), examples=such)


# ---- the other files -------------------------------------------------------------------------------------------------


def _table(folder: _Folder, name: str, finding: str, ledger: _Ledger) -> tuple[_Shard, pq.ParquetFile] | None:
    """A table of the folder, if it can be read."""
    shard = _Shard(name, folder.files[name], "", "")
    file = _opened(shard, _Ledger(_silent))
    if file is None:
        ledger.add(finding, name, examples=["it cannot be read"])
        return None
    return shard, file


def _check_dropped(folder: _Folder, seen: _Seen, ledger: _Ledger) -> None:
    """`dropped.parquet` against what the manifest counts."""
    name, finding = "dropped.parquet", "dropped rows differ"
    if not folder.facts or name not in folder.files:
        ledger.skip("left out", "there is no such list" if name not in folder.files else "nothing says what is in it")
        return
    opened = _table(folder, name, finding, ledger)
    if opened is None:
        return
    shard, file = opened
    is_union = file.schema_arrow.equals(DROPPED_OF_UNION)  # where each dataset has a table of its own
    if not is_union and not file.schema_arrow.equals(DROPPED_ARROW):
        ledger.add(finding, name, examples=["its columns are others"])
        return
    counted: dict[str, int] = defaultdict(int)
    rows: set[tuple[str, int]] = set()
    quiet = _Ledger(_silent)
    for _, batch in _batches(shard, file, ["row", "reason", *["dataset_name"] * is_union], ROWS_AT_ONCE, quiet):
        part = _Part(quiet, name, 0, batch, {"reason": "string", "dataset_name": "string"}, is_strict=False)
        for reason in part.texts("reason") or []:
            counted[reason] += 1
        of = (part.texts("dataset_name") or []) if is_union else [""] * batch.num_rows
        rows.update(
            (one, row) for one, row in zip(of, batch.column("row").to_pylist(), strict=False) if row is not None
        )
    ledger.looked("left out", sum(counted.values()))
    if quiet.has("shard unreadable"):
        ledger.add(finding, name, examples=["it cannot be read to its end"])
        return
    for reason in sorted({*counted, *folder.facts.n_dropped}):
        said, found = folder.facts.n_dropped.get(reason, 0), counted.get(reason, 0)
        ledger.differs(f"n_dropped.{reason}", said, found, check="left out")
    if seen.is_whole:
        n = seen.n + len(rows)
        ledger.differs("n_rows_in_table", folder.facts.n_rows_in_table, n, check="left out")


def _check_weights(folder: _Folder, seen: _Seen, ledger: _Ledger) -> None:
    """`weighted.parquet`: the same rows, and shares of volunteers."""
    name, finding = "weighted.parquet", "weights differ"
    if not folder.facts or name not in folder.files:
        ledger.skip("weights", "there are none")
        return
    opened = _table(folder, name, finding, ledger)
    if opened is None:
        return
    shard, file = opened
    names = file.schema_arrow.names
    fractions = [one for one in names if one.endswith("_weighted_fraction") and names.count(one) == 1]
    texts = (pa.string(), pa.large_string())
    if any(names.count(one) != 1 or file.schema_arrow.field(one).type not in texts for one in _KEY) or not all(
        pa.types.is_floating(file.schema_arrow.field(one).type) for one in fractions
    ):
        ledger.add(finding, name, examples=["its columns are others"])
        return
    quiet = _Ledger(_silent)
    n = 0
    for first, batch in _batches(shard, file, [*_KEY, *fractions], ROWS_AT_ONCE, quiet):
        part = _Part(ledger, name, first, batch, dict.fromkeys(_KEY, "string"), is_strict=False)
        keys = pl.DataFrame({one: part.texts(one) for one in _KEY}, schema=dict.fromkeys(_KEY, pl.String)).hash_rows()
        mine = seen.key[n : n + batch.num_rows]
        if seen.is_whole:
            is_off = np.ones(batch.num_rows, bool)
            is_off[: len(mine)] = keys.to_numpy()[: len(mine)] != mine
            part.wrong(finding, "id_str", is_off)
        for column in fractions:
            values = cast("sky.FloatArray", batch.column(column).to_numpy(zero_copy_only=False))
            is_off = (values < 0) | (values > 1 + 1e-6)
            part.wrong(finding, column, is_off, lambda i, values=values: f"{values[i]:g}")
        n += batch.num_rows
    ledger.looked("weights", n)
    if quiet.has("shard unreadable"):
        ledger.add(finding, name, examples=["it cannot be read to its end"])
    elif seen.is_whole and n < seen.n:
        ledger.add(finding, name, n=seen.n - n, examples=[f"{n:,} rows, not {seen.n:,}"])


def _check_card(folder: _Folder, seen: _Seen, ledger: _Ledger) -> None:
    """The card against manifest and data."""
    name = "README.md"
    if name not in folder.files:
        ledger.skip("card", "there is no README.md")
        return
    try:
        if folder.files[name].stat().st_size > MAX_TEXT_BYTES:
            raise ValueError("it is too large")
        text = folder.files[name].read_bytes().decode()
        said = hub.card_facts(text)
    except (OSError, ValueError) as error:
        ledger.add("card unreadable", name, examples=[error.message if isinstance(error, GZooError) else _said(error)])
        return
    if not folder.facts:
        _check_published_card(folder, seen, said, ledger)
        return
    assert folder.campaign
    facts: dict[str, object] = {one.name: getattr(folder.facts, one.name) for one in fields(folder.facts)}
    sizes: dict[str, int] = defaultdict(int)
    known = folder.listed or {path: {"bytes": file.stat().st_size} for path, file in folder.files.items()}
    for path, listed in known.items():
        sizes["default" if path.startswith("data/") else path.partition("/")[0]] += cast(int, listed["bytes"])
    wanted = card.header(folder.campaign, facts, sizes)
    for key in ("configs", "dataset_info", "size_categories", "tags"):
        ledger.looked("card")
        for at, mine, other in _differences(said.get(key), wanted[key], key):
            ledger.add("card wrong", name, at, examples=[f"says {_shown(str(mine))}, not {_shown(str(other))}"])
    lines = set(text.splitlines())
    for line in (*card.split_rows(facts), *card.question_rows(facts)):
        ledger.looked("card")
        if line not in lines:
            ledger.add("card wrong", name, "text", examples=[f"has no line {line}"])


def _check_published_card(folder: _Folder, seen: _Seen, said: Mapping[str, object], ledger: _Ledger) -> None:
    """What the card of a published folder says of its splits and columns."""
    infos = said.get("dataset_info")
    listed = cast("list[object]", infos if isinstance(infos, list) else [infos])
    of_default = [
        cast("dict[str, object]", one)
        for one in listed
        if isinstance(one, dict) and cast("dict[str, object]", one).get("config_name", "default") == "default"
    ]
    if not of_default or not seen.is_whole:
        ledger.skip("card", "it says nothing of the splits" if not of_default else "not all rows could be read")
        return
    for key, wanted in (("splits", dict(seen.n_rows)), ("features", dict.fromkeys(folder.names))):
        entries = of_default[0].get(key)
        if not _fits(entries, list[dict[str, object]]):
            continue
        ledger.looked("card")
        rows = cast("list[dict[str, object]]", entries)
        told = {str(one.get("name")): one.get("num_examples") if key == "splits" else None for one in rows}
        for at, mine, other in _differences(told, wanted, f"dataset_info.{key}"):
            ledger.add("card wrong", "README.md", at, examples=[f"says {_shown(str(mine))}, not {_shown(str(other))}"])


def _differences(said: object, wanted: object, at: str) -> Iterator[tuple[str, object, object]]:
    """Where two JSON values differ, and what stands there in either."""
    if isinstance(said, dict) and isinstance(wanted, dict):
        one, other = cast("dict[str, object]", said), cast("dict[str, object]", wanted)
        for key in [*other, *(key for key in one if key not in other)]:
            yield from _differences(one.get(key), other.get(key), f"{at}.{key}")
    elif isinstance(said, list) and isinstance(wanted, list):
        yield from _differences(_by_name(cast("list[object]", said)), _by_name(cast("list[object]", wanted)), at)
    elif said != wanted:
        yield at, said, wanted


def _by_name(values: list[object]) -> dict[str, object]:
    """The values of a list by their names, if they are objects that have one, else by their numbers."""
    named: dict[str, object] = {}
    for i, value in enumerate(values):
        facts = cast("dict[str, object]", value) if isinstance(value, dict) else {}
        name = next((str(facts[key]) for key in ("config_name", "split", "name") if key in facts), str(i))
        named[name if name not in named else str(i)] = value
    return named
