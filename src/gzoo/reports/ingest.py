"""The page that shows how an export of classifications was counted."""

from __future__ import annotations

from gzoo import reports
from gzoo.zooniverse.consistency import RULES as BOT_RULES
from gzoo.zooniverse.counting import IngestResult
from gzoo.zooniverse.reading import ANNOTATION_RULES, RULES


def ingest_page(found: IngestResult) -> bytes:
    """Return the report of an ingest as an HTML page, without data about single volunteers.

    Args:
        found: Result of `gzoo.zooniverse.ingest`.
    """
    return reports.render(
        "ingest",
        title=f"From classifications to votes: {found.ingest.campaign}",
        ingest=found.ingest,
        is_simulated=found.is_simulated,
        max_votes=max(found.ingest.n_votes_of.values(), default=0),
        rules=RULES,
        annotation_rules=ANNOTATION_RULES,
        bot_rules=BOT_RULES,
    )
