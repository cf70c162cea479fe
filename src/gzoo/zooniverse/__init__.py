"""Zooniverse: exports of classifications and workflows become votes, with every row accounted for."""

from __future__ import annotations

from gzoo.zooniverse.counting import (
    CountResult,
    Source,
    count,
    ingest,
    page,
    refuse_occupied,
    write_votes,
    write_weighted,
)
from gzoo.zooniverse.export_mapping import propose
from gzoo.zooniverse.tasks import Tasks

__all__ = [
    "CountResult",
    "Source",
    "Tasks",
    "count",
    "ingest",
    "page",
    "propose",
    "refuse_occupied",
    "write_votes",
    "write_weighted",
]
