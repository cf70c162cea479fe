"""Checks of the rows of a dataset: shards, identifiers, positions, votes and splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files, sky
from gzoo.dataset.check_findings import CHECKING_ROWS, CHECKS, FindingLog
from gzoo.dataset.check_folder import Folder, Metadata, Shard
from gzoo.dataset.check_parquet import BoolArray, Hashes, Rows, hash_keys, open_shard, read_batches
from gzoo.dataset.tally import Spread, Tally
from gzoo.sky import identifier_split
from gzoo.votes.summary import summary
from gzoo.votes.votes import Votes

ROWS_AT_ONCE = 10_000
_ROW_CHECKS = [name for name, (stage, unit, _) in CHECKS.items() if (stage, unit) == (CHECKING_ROWS, "rows")]
FRACTION_TOLERANCE = 1e-4
"""Allowed difference of fractions in folders that gzoo did not build, whose precision is not known."""


@dataclass
class RowSummary:
    """Sums over the rows of config `default`.

    Attributes:
        n_rows: Number of rows by split.
        starts: Number of rows before the first row of each shard.
        batches: Hashes of dataset_name and id_str, by batch; see `keys`.
        names: Every dataset_name.
        is_complete: Whether every row was read.
        has_valid_votes: Whether the votes of every row are valid.
    """

    n_rows: dict[str, int] = field(default_factory=dict[str, int])
    starts: dict[str, int] = field(default_factory=dict[str, int])
    batches: list[Hashes] = field(default_factory=list[Hashes])
    names: set[str] = field(default_factory=set[str])
    is_complete: bool = True
    has_valid_votes: bool = True

    @property
    def n(self) -> int:
        """Number of all rows."""
        return sum(self.n_rows.values())

    @cached_property
    def keys(self) -> Hashes:
        """Hash of dataset_name and id_str of each row, in order."""
        return np.concatenate([np.empty(0, np.uint64), *self.batches])


def check_rows(folder: Folder, log: FindingLog) -> RowSummary:
    """Check every shard, and every row of config `default`."""
    seen = RowSummary(is_complete=not log.has("missing file", "missing shard", "not a dataset"))
    checker = _RowChecker(folder, seen, log) if folder.record else None
    if checker is None and folder.columns and folder.metadata is None:
        log.add("schema mismatch", folder.shards[0].name, examples=["columns of no known campaign"])
    n_expected = sum(folder.metadata.splits["default"].values()) if folder.metadata else 0
    n_tiny: Counter[str] = Counter()
    for shard in folder.shards:
        log.count("shards")
        file = open_shard(shard, log)
        columns = _usable_columns(folder, shard, file, log) if file and folder.record else []
        is_default = shard.config == "default"
        if file is None or not columns or checker is None:
            seen.is_complete &= not is_default
            continue
        if not is_default:
            for _ in read_batches(shard, file, columns, files.ROWS_IN_GROUP, log):
                pass  # reading verifies the page checksums
            n_tiny[shard.split] += file.metadata.num_rows
            continue
        seen.starts[shard.name] = seen.n
        seen.n_rows.setdefault(shard.split, 0)
        without_image = [name for name in columns if name != "image"]
        for first, batch in read_batches(shard, file, without_image, ROWS_AT_ONCE, log):
            checker.check(shard, first, batch)
            log.report(CHECKING_ROWS, seen.n, max(n_expected, seen.n))
        seen.is_complete &= not log.has("unreadable shard")
    if checker:
        checker.finish()
        if folder.metadata and seen.is_complete and not log.has("unreadable shard"):
            for split, n in folder.metadata.splits["tiny"].items():
                log.compare(f"splits.tiny.{split}", n, n_tiny[split], check="splits")
    else:
        for name in _ROW_CHECKS:
            log.skip(name, "no row could be read")
    log.report(CHECKING_ROWS, seen.n, seen.n)
    return seen


def _usable_columns(folder: Folder, shard: Shard, file: pq.ParquetFile, log: FindingLog) -> list[str]:
    """Return the columns of a shard that can be checked; none if identifiers or votes are not among them."""
    assert folder.record
    assert folder.campaign
    wanted, there = folder.record.arrow(), file.schema_arrow
    usable = [name for name in wanted.names if there.names.count(name) == 1]
    missing = sorted({"id_str", *folder.campaign.published_tree.columns} - set(usable))
    if folder.metadata and not there.equals(wanted, check_metadata=True):
        kinds = {name: ", ".join(str(one.type) for one in there if one.name == name) for name in wanted.names}
        differing = [name for name in wanted.names if kinds[name] != str(wanted.field(name).type)]
        for name in differing:
            example = f"{kinds[name] or 'missing'}, not {wanted.field(name).type}"
            log.add("schema mismatch", shard.name, name, examples=[example])
        unknown = [f"unknown {name}" for name in there.names if name not in wanted.names]
        if unknown or not differing:
            examples = unknown or ["different order of columns, or features for `datasets`"]
            log.add("schema mismatch", shard.name, n=len(examples), examples=examples)
    elif missing and not folder.metadata:
        log.add("schema mismatch", shard.name, n=len(missing), examples=[f"{one} is missing" for one in missing])
    return [] if missing else usable


class _RowChecker:
    """Checks of rows, one batch after the other, and of their sums."""

    def __init__(self, folder: Folder, seen: RowSummary, log: FindingLog) -> None:
        assert folder.record
        assert folder.campaign
        self._folder, self._seen, self._log = folder, seen, log
        self._campaign, self._record, self._metadata = folder.campaign, folder.record, folder.metadata
        self._tree = folder.campaign.published_tree
        self._dtypes = {one.name: one.dtype for one in self._record.fields}
        not_collected = folder.metadata.not_collected if folder.metadata else []
        self._collected = tuple(one.name for one in self._tree.questions if one.name not in not_collected)
        self._tally = Tally(self._tree)
        self._n_voted = np.zeros(len(self._tree.questions), np.int64)
        self._empty_keys: set[int] = set()
        self._scheme = self._split_scheme()

    def _split_scheme(self) -> str:
        """Return the name of the split scheme; "" if splits cannot be checked."""
        name = self._metadata.split_scheme if self._metadata else ""
        if not name:
            self._log.skip("splits", "the split scheme is unknown without a manifest")
        elif name == identifier_split.PUBLISHED:
            self._log.skip("splits", "the splits are those of the source table")
        elif name.removesuffix(identifier_split.WITHOUT_VALIDATION) not in {identifier_split.SCHEME, *sky.SCHEMES}:
            self._log.add("unknown split scheme", files.MANIFEST, "split_scheme", examples=[name])
        else:
            return name
        return ""

    def check(self, shard: Shard, first: int, batch: pa.RecordBatch) -> None:
        """Check rows of which the number `first` (from 0) is the first in the shard."""
        rows = Rows(self._log, shard.name, first, batch, self._dtypes, is_strict=self._metadata is not None)
        n = batch.num_rows
        self._seen.n_rows[shard.split] += n
        for name in _ROW_CHECKS:
            self._log.count(name, n)
        ids = rows.strings("id_str") or [""] * n
        names = rows.strings("dataset_name") or [self._campaign.name] * n
        keys = hash_keys(names, ids)
        is_empty = np.array([not one for one in ids], bool)
        rows.report("empty identifier", "id_str", is_empty)
        self._empty_keys.update(keys[is_empty].tolist())
        self._seen.names.update(names)
        self._seen.batches.append(keys)
        self._check_positions(rows, shard.split, ids)
        self._check_votes(rows, n)
        for one in self._record.fields:
            values = rows.numbers(one.name) if one.classes else None
            if values is not None:
                is_wrong = (values < -1) | (values >= len(one.classes))
                rows.report("unknown class", one.name, is_wrong, "{}", values)
        for label in self._campaign.labels:
            values = rows.numbers(label.name) if label.kind == "number" else None
            if values is not None:
                rows.report("infinite label", label.name, np.isinf(values), "{}", values)
        if self._metadata and "source_id" in self._dtypes:
            rows.strings("source_id")

    def _check_positions(self, rows: Rows, split: str, ids: list[str]) -> None:
        is_doubtful = np.zeros(len(ids), bool)
        degrees: list[sky.FloatArray] = []
        for name, low, high in (("ra", 0 if self._metadata else -180, 360), ("dec", -90, 90)):
            values = rows.numbers(name)
            if values is None:
                if not self._metadata:
                    self._log.skip("positions", f"the dataset has columns without {name}")
                values = np.full(len(ids), np.nan)
            is_wrong = ~(np.isnan(values) | ((values >= low) & (values <= high)))
            rows.report("position out of range", name, is_wrong, "{:g}", values)
            is_doubtful |= is_wrong | rows.is_null(name)
            degrees.append(values)
        if self._scheme and ids:
            splits = self._expected_splits(ids, *degrees)
            is_wrong = (splits != split) & ~is_doubtful
            rows.report("wrong split", "", is_wrong, f"{{}} is in {split}, not {{}}", ids, splits)

    def _expected_splits(self, ids: list[str], ra: sky.FloatArray, dec: sky.FloatArray) -> npt.NDArray[np.str_]:
        base = self._scheme.removesuffix(identifier_split.WITHOUT_VALIDATION)
        is_known = sky.is_position(ra, dec) & (base in sky.SCHEMES)
        places = [
            0 if known else identifier_split.place(one) for one, known in zip(ids, is_known.tolist(), strict=True)
        ]
        splits = identifier_split.split_at(np.array(places, float))
        if is_known.any():
            splits[is_known] = sky.split(ra[is_known], dec[is_known], sky.SCHEMES[base])
        if base != self._scheme:
            splits[splits == "validation"] = "train"
        return splits

    def _check_votes(self, rows: Rows, n: int) -> None:
        tree = self._tree
        counts = np.empty((n, len(tree.columns)), np.int64, order="F")  # sums over answers are several times faster
        is_valid = np.ones(n, bool)
        for i, column in enumerate(tree.columns):
            values = rows.numbers(column)
            if values is None:
                self._seen.has_valid_votes = False
                return
            counts[:, i] = values
            rows.report("negative vote count", column, values < 0, "{}", values)
            is_valid &= values >= 0
        totals = tree.totals(counts)
        for i, question in enumerate(tree.questions):
            own = counts[:, tree.slice(question.name)]
            self._n_voted[i] += int(own.any(axis=1).sum())
            given = rows.numbers(question.total_column)
            if given is None:
                continue
            is_wrong = given < own.max(axis=1) if question.multiple else given != totals[:, i]
            is_wrong = is_wrong & (is_valid | (given < 0))
            example = f"{{}} for {' + '.join(['{}'] * own.shape[1])}"
            rows.report("wrong total", question.total_column, is_wrong, example, given, *own.T)
            totals[:, i] = given
            is_valid &= ~is_wrong
        if not is_valid.all():
            self._seen.has_valid_votes = False
            counts, totals = counts[is_valid], totals[is_valid]
        votes = Votes(tree, counts, totals, self._collected)
        self._tally.add(votes)
        self._check_labels(rows, votes, is_valid)

    def _check_labels(self, rows: Rows, votes: Votes, is_valid: BoolArray) -> None:
        """Check fractions and summaries, which follow from the votes; `votes` has the rows with valid ones."""
        for i, column in enumerate(self._tree.columns):
            name = f"{column}_fraction"
            given = rows.numbers(name)
            if given is None:
                continue
            wanted = np.full(len(given), np.nan, np.float32)
            wanted[is_valid] = votes.fractions[:, i]
            differs = given != wanted if self._metadata else ~(np.abs(given - wanted) <= FRACTION_TOLERANCE)
            is_wrong = differs & ~(np.isnan(given) & np.isnan(wanted)) & is_valid
            rows.report("wrong fraction", name, is_wrong, "{:g}, not {:g}", given, wanted)
        if "summary" in rows.columns and self._metadata:
            given = np.array(rows.strings("summary"), np.str_)
            wanted = np.full(len(given), "", np.dtype("U64"))
            wanted[is_valid] = summary(votes)
            rows.report("wrong summary", "summary", (given != wanted) & is_valid, "'{}', not '{}'", given, wanted)

    def finish(self) -> None:
        """Check what follows from all rows together, and compare it with the manifest."""
        seen, log, metadata = self._seen, self._log, self._metadata
        columns = {name for name in self._dtypes if name in self._folder.columns}
        if seen.is_complete:
            self._check_duplicates()
        if self._campaign.labels:
            for name in ("votes", "fractions", "summaries", "tree"):
                log.skip(name, "the dataset contains labels, not votes")
        else:
            log.skip("labels", "the dataset contains votes")
            self._note_missing(columns)
        if not metadata:
            log.skip(
                "tree", f"{self._tally.n_breaking:,} rows contradict it, but the manifest to compare with is missing"
            )
        elif not seen.is_complete:
            log.note("manifest", "its numbers of rows and votes were not compared, because some rows are unreadable")
        else:
            for split in metadata.splits["default"]:
                n = seen.n_rows.get(split, 0)
                log.compare(f"splits.default.{split}", metadata.splits["default"][split], n, check="splits")
            if unknown := seen.names - set(metadata.dataset_names):
                log.compare("dataset_names", ", ".join(metadata.dataset_names), ", ".join(sorted(unknown)))
            is_simulated = any(one.endswith(files.SIMULATED) for one in seen.names)
            log.compare("is_simulated", metadata.is_simulated, is_simulated)
            log.compare("columns", metadata.columns, list(self._record.names))
            log.compare("has_images", metadata.has_images, "image" in self._record.names)
            if seen.has_valid_votes:
                self._compare_votes(metadata)
            else:
                log.note("manifest", "its sums of votes were not compared, because some votes are invalid")

    def _note_missing(self, columns: set[str]) -> None:
        """Say which columns of votes the dataset does not have."""
        if not any(name.endswith("_fraction") for name in columns):
            self._log.skip("fractions", "the dataset has columns of counts only")
        if not any(name.endswith("_total-votes") for name in columns):
            self._log.note("votes", "the dataset has columns without totals")
        if "summary" not in columns:
            self._log.skip("summaries", "the dataset does not have the column `summary`")
        elif not self._metadata:
            self._log.skip("summaries", "their rule is unknown without a manifest")

    def _compare_votes(self, metadata: Metadata) -> None:
        log, tree, sums, spread = self._log, self._tree, self._tally.questions(), self._tally.spread()
        log.compare("questions", sorted(metadata.questions), sorted(one.name for one in tree.questions))
        for i, question in enumerate(tree.questions):
            figures = metadata.questions.get(question.name)
            if figures is None:
                continue
            n_votes, n_galaxies, n_breaks = sums[question.name]
            found = {"n_breaks": n_breaks} if tree.unavailable.isdisjoint(question.parents) else {}
            if self._campaign.hub.layout == "full" or not question.multiple:  # otherwise total votes are not published
                one = Spread(1)
                one.merge(0, spread[question.name])
                names = ("n_votes", "n_galaxies", "n_well_voted", "median_votes")
                found |= dict(zip(names, (n_votes, n_galaxies, *one.figures(0)), strict=True))
            for key, value in found.items():
                check = "tree" if key == "n_breaks" else "votes"
                log.compare(f"questions.{question.name}.{key}", figures[key], value, check=check)
                if figures[key] != value:
                    break  # the others differ for the same reason
            if question.name in metadata.not_collected and self._n_voted[i]:
                example = f"votes on {question.name} in {self._n_voted[i]:,} rows"
                log.compare("not_collected", question.name, example, check="votes")
        # rows may also contradict the tree in questions that are not in the dataset
        n_breaking = self._tally.n_breaking
        if not tree.unavailable or n_breaking > metadata.n_rows_breaking_tree:
            log.compare("n_rows_breaking_tree", metadata.n_rows_breaking_tree, n_breaking, check="tree")

    def _check_duplicates(self) -> None:
        rows = pl.DataFrame({"key": self._seen.keys}).with_row_index("row").filter(pl.col("key").is_duplicated())
        earlier_rows = rows.with_columns(earlier=pl.col("row").shift().over("key")).drop_nulls()
        for row, key, earlier in earlier_rows.iter_rows():
            if key not in self._empty_keys:
                (file, n), (other, m) = self._locate(row), self._locate(earlier)
                example = f"row {n:,} repeats row {m:,}{f' of {other}' if other != file else ''}"
                self._log.add("duplicate identifier", file, "id_str", row=n, examples=[example])

    def _locate(self, index: int) -> tuple[str, int]:
        """Return the shard of a row of the dataset, and its number there (from 1)."""
        shard, start = [one for one in self._seen.starts.items() if one[1] <= index][-1]
        return shard, index - start + 1
