"""How the real votes in shared/data are named."""

from __future__ import annotations

# shared/data/gz2_sample/votes.csv: its counts on the first question, which are whole
REAL_MAPPING = """\
id_str = "id_str"
image = "filename"
ignore = [
    "t[01]*", "score_*", "objid", "sample", "asset_id", "dr7objid", "gz2_class", "total_*", "derived_label", "split",
]
[answers]
"smooth-or-featured-gz2_smooth" = "smooth-or-featured-gz2_smooth"
"smooth-or-featured-gz2_featured-or-disk" = "smooth-or-featured-gz2_featured-or-disk"
"smooth-or-featured-gz2_artifact" = "smooth-or-featured-gz2_artifact"
"""
