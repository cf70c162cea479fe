"""Check of a dataset folder: files, rows, splits, images and card.

Nothing in the folder is trusted, because it may be corrupt or malicious. Only regular files inside it are opened, and
defects become findings, never errors. Rows are read in batches, so that memory hardly grows with the dataset.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from gzoo import files
from gzoo.dataset.check_card import check_card, check_weights
from gzoo.dataset.check_findings import (
    CHECKING_METADATA,
    FINDING_LEAKS,
    MAX_EXAMPLES,
    Check,
    Finding,
    FindingLog,
    shown,
)
from gzoo.dataset.check_folder import Folder, check_files
from gzoo.dataset.check_images import check_images
from gzoo.dataset.check_rows import RowSummary, check_rows
from gzoo.dataset.leakage import leaks
from gzoo.display import Sheet, Shown, table_of
from gzoo.errors import GZooError, GZooWarning, NotFoundError
from gzoo.files import Progress


@dataclass(frozen=True, slots=True, repr=False)
class CheckResult(Shown):
    """Outcome of the check of a dataset folder.

    Attributes:
        folder: The folder.
        campaign: Campaign whose columns it has; "" if unknown.
        has_manifest: Whether there is a manifest to compare with; folders that gzoo did not build have none.
        is_simulated: Whether any of its galaxies are simulated.
        n_galaxies: Number of rows that were read, by split.
        checks: Every check in order.
        findings: Every defect, in the order of the checks.
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
        """Whether the list of findings is empty. Checks that could not be made do not count; see `checks`."""
        return not self.findings

    def to_polars(self) -> pl.DataFrame:
        """Return a row for each check."""
        return table_of(one.to_dict() for one in self.checks)

    def sheet(self) -> Sheet:
        """Return the verdict of each check, or the findings."""
        failed = [one.name for one in self.checks if one.verdict == "failed"]
        rows = [(one.name, one.verdict, one.n, one.unit, one.note) for one in self.checks]
        found = [(one.check, one.name, one.n, one.file, one.column) for one in self.findings]
        return Sheet(
            f"{self.folder} is {'valid' if self.is_valid else 'not valid'}",
            {
                "campaign": self.campaign,
                "galaxies": self.n_galaxies,
                "manifest": None if self.has_manifest else "missing",
                "simulated": self.is_simulated or None,
                "failed": failed,
            },
            ("check", "", "checked", "", "note") if self.is_valid else ("check", "finding", "number", "file", "column"),
            rows if self.is_valid else found,
        )

    def to_dict(self) -> dict[str, object]:
        """Return the outcome as a JSON object."""
        return {
            "is_valid": self.is_valid,
            "folder": shown(str(self.folder)),
            "campaign": self.campaign or None,
            "has_manifest": self.has_manifest,
            "is_simulated": self.is_simulated,
            "n_galaxies": dict(self.n_galaxies),
            "checks": [one.to_dict() for one in self.checks],
            "findings": [one.to_dict() for one in self.findings],
        }


def check(
    dataset: Path | str,
    *,
    headers_only: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CheckResult:
    """Check a dataset folder: files, rows, splits, images and card.

    A folder without a manifest, such as a copy of a published dataset, is checked as far as possible.
    `CheckResult.checks` lists what was not checked, and why.

    Args:
        dataset: Dataset folder made by gzoo, or a copy of a published one.
        headers_only: Check only the headers of images, without decoding them.
        report: HTML page to write, outside the dataset folder.
        overwrite: Replace an earlier page.
        progress: Function called as (stage, done, total) as the work goes on.

    Raises:
        NotFoundError: The folder does not exist.
        InputError: The page is inside the folder.
        OutputExistsError: The page already exists.
    """
    root, page = Path(dataset), Path(report) if report else None
    files.refuse_report(page, [root], overwrite)
    if not root.exists():
        files.open_folder(root)  # raises an error that mentions unfinished work
    if not root.is_dir():
        raise NotFoundError(f"'{root}' is not a folder.", "a dataset folder.", "Pass the folder that contains it.")
    log = FindingLog(progress)
    folder = Folder.of(root, log)
    check_files(folder, log)
    seen = check_rows(folder, log)
    _check_leaks(folder, seen, log)
    check_images(folder, seen, log, is_decoded=not headers_only)
    check_weights(folder, seen, log)
    check_card(folder, seen, log)
    log.report(CHECKING_METADATA, 1, 1)
    found = CheckResult(
        folder=root,
        campaign=folder.campaign.name if folder.campaign else "",
        has_manifest=folder.has_manifest,
        is_simulated=any(name.endswith(files.SIMULATED) for name in seen.names),
        n_galaxies=dict(seen.n_rows),
        checks=log.checks(),
        findings=log.findings(),
    )
    if page:
        from gzoo.reports.check import check_page

        files.write_bytes(page, check_page(found, name=shown(root.resolve().name)))
    return found


def _check_leaks(folder: Folder, seen: RowSummary, log: FindingLog) -> None:
    unusable = ("not a regular file", "invalid metadata", "unreadable manifest", "invalid shard name")
    if not seen.is_complete or log.has(*unusable):
        log.skip("leaks", "not all rows could be read")
        return
    log.report(FINDING_LEAKS, 0, 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GZooWarning)  # they are noted below
            found = leaks([folder.root], allow_bad_positions=True)
        pairs = found.pairs.filter(pl.col("matched_by") != "image")  # `check_images` compares the images themselves
    except GZooError as error:
        log.skip("leaks", shown(error.message))
        return
    log.count("leaks", seen.n)
    if found.n_without_position[0]:
        log.note("leaks", f"{found.n_without_position[0]:,} rows without a position were compared by identifier")
    for text in found.warnings:
        if "by identifier only" not in text:
            log.note("leaks", text)
    if pairs.height:
        examples = (
            " and ".join(f"{pair[f'{end}id_str']} ({pair[f'{end}split']})" for end in ("", "other_"))
            for pair in pairs.head(MAX_EXAMPLES).iter_rows(named=True)
        )
        log.add("galaxy in two splits", n=pairs.height, examples=examples)
    log.report(FINDING_LEAKS, 1, 1)
