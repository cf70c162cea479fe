"""What owners add to a card on the Hub: separated from what gzoo writes, and carried over to the next version."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

import yaml

from gzoo.errors import InputError
from gzoo.hub.card import card_metadata

_TAGS = "tags"
_TRUE_FACTS = frozenset({"simulated", "citizen science"})
"""Tags that gzoo writes where they are true, so an earlier version's are not carried over."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a card from one heading of level 1 or 2 to the next.

    Attributes:
        heading: The line of the heading, "" for the part before the first section.
        text: All of it, without empty lines around.
    """

    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Additions:
    """What owners add to a card.

    Attributes:
        keys: Entries of the header that gzoo does not write.
        tags: Entries of its list of tags that gzoo does not write.
        sections: Sections that gzoo does not write, each with the heading that it follows.
    """

    keys: Mapping[str, object] = field(default_factory=dict[str, object])
    tags: tuple[str, ...] = ()
    sections: tuple[tuple[str, Section], ...] = ()


def split_card(
    card: str, own: str | Mapping[str, object], headings: Collection[str] | None = None
) -> tuple[str, Additions]:
    """Return the part of a card that gzoo writes, and what owners added.

    Args:
        card: The whole card.
        own: The card that gzoo writes today, or its header.
        headings: Lines of the headings of level 2 that gzoo writes; those of `own` by default.

    Raises:
        InputError: The header of a card cannot be read.
    """
    if isinstance(own, str):
        own, written = _parts(own)
        headings = [one.heading for one in written]
    known = {"", *(headings or ())}
    tags = cast("list[object]", own.get(_TAGS) or [])
    header, sections = _parts(card)
    own_header = {key: header[key] for key in own if key in header}
    listed = header.get(_TAGS)
    more = [one for one in cast("list[object]", listed) if one not in tags] if isinstance(listed, list) else []
    if more:
        own_header[_TAGS] = [one for one in cast("list[object]", listed) if one in tags]
    kept: list[Section] = []
    added: list[tuple[str, Section]] = []
    for section in sections:
        if section.heading in known and section.heading not in {one.heading for one in kept}:
            kept.append(section)
        else:
            added.append((kept[-1].heading if kept else "", section))
    others = {key: value for key, value in header.items() if key not in own}
    carried = tuple(str(one) for one in more if one not in _TRUE_FACTS)
    return card_text(own_header, _joined(kept)), Additions(others, carried, tuple(added))


def replaced_parts(card: str, own: str) -> list[str]:
    """Return the names of the parts of a card on the Hub that gzoo writes too, and otherwise in the card `own`."""
    (there, sections), (header, written) = _parts(card), _parts(own)
    keys = [key for key in header if key != _TAGS and key in there and there[key] != header[key]]
    texts = {one.heading: one.text for one in written}
    named = [one.heading for one in sections if texts.get(one.heading, one.text) != one.text]
    return [*(f"`{key}`" for key in keys), *(f"'{name.lstrip('# ') or 'introduction'}'" for name in named)]


def with_additions(card: str, additions: Additions) -> str:
    r"""Return a card of gzoo with what owners added to another version of it.

    >>> card = "---\ntags:\n- galaxies\n---\n\n# Galaxies\n\n## Images\n\nSmall.\n"
    >>> theirs = card.replace("---\n\n#", "language: en\n---\n\n#") + "\n## Thanks\n\nTo all.\n"
    >>> with_additions(card, split_card(theirs, card)[1]) == theirs
    True
    """
    if additions == Additions():
        return card
    header, sections = _parts(card)
    if additions.tags:
        header[_TAGS] = [*cast("list[object]", header.get(_TAGS) or []), *additions.tags]
    known, placed = {one.heading for one in sections}, list[Section]()
    for i, section in enumerate(sections):
        placed.append(section)
        is_last = i == len(sections) - 1
        placed += [
            one for after, one in additions.sections if after == section.heading or (is_last and after not in known)
        ]
    return card_text({**header, **additions.keys}, _joined(placed))


def card_text(header: Mapping[str, object], body: str) -> str:
    """Return the text of a card."""
    return f"---\n{yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True, width=110)}---\n\n{body}"


def _parts(card: str) -> tuple[dict[str, object], list[Section]]:
    """Return the header of a card and its sections; the first one is what is before any heading of level 2."""
    text = card.replace("\r\n", "\n").removeprefix("\ufeff")
    found = re.match(r"---[ \t]*\n(.*?\n)---[ \t]*(\n|$)", text, re.DOTALL)
    header: object = {}
    if found:
        card_metadata(text)  # explains what is wrong with it
        header = yaml.safe_load(found[1]) or {}  # in its own order, unlike that of the client
    if not isinstance(header, dict):
        raise InputError("The YAML header of the card is not a mapping.", "metadata between two lines of '---'.")
    sections: list[Section] = []
    heading, lines, fence, has_title = "", list[str](), "", False

    def close() -> None:
        sections.append(Section(heading, "\n".join(lines).strip("\n")))

    for line in text[found.end() if found else 0 :].split("\n"):
        mark = re.match(r" {0,3}(```+|~~~+)", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""
        is_title = line.startswith("# ") and not has_title
        has_title |= is_title
        if not fence and not is_title and line.startswith(("# ", "## ")):
            close()
            heading, lines = line.rstrip(), []
        lines.append(line)
    close()
    return cast("dict[str, object]", header), sections


def _joined(sections: list[Section]) -> str:
    return "\n\n".join(one.text for one in sections if one.text) + "\n"
