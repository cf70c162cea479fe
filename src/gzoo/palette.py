"""Colours of all pages and figures, by role: reports, the page of `gzoo explore`, drawings of decision trees."""

from __future__ import annotations

from collections.abc import Mapping

PALETTE: Mapping[str, tuple[str, str]] = {
    "page": ("#fbfaf7", "#0d0f14"),
    "panel": ("#f1efe9", "#151922"),
    "line": ("#dfdbd1", "#262c38"),
    "ink": ("#1d2026", "#e9e7e1"),
    "muted": ("#62666d", "#9aa1ad"),
    "volunteers": ("#0072b2", "#5ab4ea"),
    "model": ("#b84900", "#f29a55"),
    "track": ("#e4e0d6", "#252b37"),
    "all": ("#cdc8bb", "#39414f"),
    "selected": ("#dcebf5", "#16314a"),
    "sky": ("#0b0d12", "#07080b"),
    "good": ("#1f7044", "#63c78d"),
    "bad": ("#b3261e", "#ff8a80"),
    "warning": ("#e69f00", "#e69f00"),
    # Models beside each other. Blue and orange mean volunteers and model elsewhere.
    "first": ("#00746a", "#3cc9b7"),
    "second": ("#8a3f9e", "#d194e3"),
    "third": ("#7a6400", "#d6bd4a"),
    "fourth": ("#a8325e", "#f08bb0"),
}
"""Role -> colour on a light page, on a dark page. Text in ink, muted, or a colour has a contrast of 4.5 or more."""

COMPARED = ("first", "second", "third", "fourth")
"""Roles of models that are compared with each other, in their order; a fifth has the first again."""

ON_SKY = ("ink", "muted", "track", "volunteers", "model")
"""Roles of text on an image or on the sky map, which are dark on both pages."""


def tokens_css() -> str:
    """Return style rules that set `--role` to each colour: `data-theme` of the page decides, or else the system."""
    light, dark = (
        "".join(f"--{role}:{colours[i]};" for role, colours in PALETTE.items()) + f"color-scheme:{scheme};"
        for i, scheme in enumerate(("light", "dark"))
    )
    on_sky = "".join(f"--sky-{role}:{PALETTE[role][1]};" for role in ON_SKY)
    return (
        f':root{{{on_sky}{light}}}:root[data-theme="dark"]{{{dark}}}'
        f'@media(prefers-color-scheme:dark){{:root:not([data-theme="light"]){{{dark}}}}}'
    )


def figure_css() -> str:
    """Return style rules by which figures (`gzoo.trees.drawing`) inside a page follow its colours."""
    return "".join(f".fill-{role}{{fill:var(--{role})}}.line-{role}{{stroke:var(--{role})}}" for role in PALETTE)
