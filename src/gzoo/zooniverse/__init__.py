"""Zooniverse: exports of classifications and workflows are aggregated to votes, with every row accounted for."""

from __future__ import annotations

from gzoo.zooniverse.counting import CountResult as CountResult
from gzoo.zooniverse.counting import ExportFiles as ExportFiles
from gzoo.zooniverse.counting import count as count
from gzoo.zooniverse.counting import ingest as ingest
from gzoo.zooniverse.counting import page as page
from gzoo.zooniverse.counting import write_votes as write_votes
from gzoo.zooniverse.counting import write_weighted as write_weighted
from gzoo.zooniverse.export_mapping import propose as propose
from gzoo.zooniverse.tasks import Tasks as Tasks
