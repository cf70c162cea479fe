"""Zooniverse: exports of classifications and workflows become votes, with every row accounted for."""

from __future__ import annotations

from gzoo.zooniverse.counting import Counted, Source, count, ingest
from gzoo.zooniverse.proposing import propose
from gzoo.zooniverse.tasks import Tasks

__all__ = ["Counted", "Source", "Tasks", "count", "ingest", "propose"]
