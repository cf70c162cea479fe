"""Comparison of the names in tables, workflows and trees, and names for readers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from gzoo.trees.tree import Tree

_SAME = {
    "features": "featured", "feature": "featured", "disc": "disk", "edgeon": "edge on",
    "rounded": "round", "cigarshaped": "cigar", "dustlane": "dust lane", "none": "no", "not": "no",
    "arms": "arm", "number": "count", "prominence": "size", "arrangement": "configuration", "brightest": "bright",
    "clumps": "clump", "clumpy": "clump", "or": "", "has": "", "how": "", "something": "", "the": "",
    "a": "", "is": "", "symmetrical": "symmetric", "symmetry": "symmetric", "can": "cant", "t": "", "merging": "merger",
    "embedded": "embed", "irregulars": "irregular", "artefact": "artifact",
    "neither": "no", "nothing": "no",
}  # fmt: skip


@lru_cache(100_000)  # proposals of mappings compare the same few names thousands of times
def tokens(text: str) -> tuple[str, ...]:
    """Return the distinguishing words of a name, in a uniform spelling."""
    plain = re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower()
    plain = re.sub(r"more[\W_]*than[\W_]*4|5[\W_]*(?:plus|\+)|4[\W_]*plus", "5plus", plain)
    plain = plain.replace("can't", "cant")
    words = [_SAME.get(word.group(), word.group()) for word in re.finditer(r"[^\W_]+", plain)]
    return tuple(" ".join(words).split())


@lru_cache(100_000)
def likeness(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Return the similarity of two names, 0 to 1."""
    if not one or not other:
        return float(not one and not other)
    if "".join(one) == "".join(other):
        return 1.0
    mine, theirs = set(one), set(other)
    if any(word == "no" or any(map(str.isdigit, word)) for word in mine ^ theirs):
        return 0.0  # different numbers are never similar, nor is a text to its negation
    shared = mine & theirs - {"no"}
    overlap = 2 * len(shared) / (len(mine) + len(theirs))
    if shared and shared in (mine, theirs):
        overlap = max(overlap, 0.8)
    ratio = SequenceMatcher(None, "".join(one), "".join(other)).ratio()
    return max(overlap, ratio if ratio > 0.75 else 0.0)


def answer_likeness(label: tuple[str, ...], answer: str, question: Sequence[str]) -> float:
    """Return `likeness`, but take `spiral` and `no_spiral` as yes and no to has-spiral-arms."""
    wanted = tokens(answer)
    about = {word for word in label if word != "no"}
    on_topic = not about or about <= set(question)
    if wanted == ("yes",):
        return 1.0 if tuple(label) == ("yes",) else 0.9 * (about != set() and on_topic and "no" not in label)
    if wanted == ("no",):
        return 1.0 if tuple(label) == ("no",) else 0.9 * (on_topic and "no" in label)
    return likeness(label, wanted)


def label(name: str, tree: Tree) -> str:
    """Return a question's name for readers: without the campaign's suffix and hyphens.

    >>> import gzoo
    >>> label("smooth-or-featured-gz2", gzoo.tree("gz2"))
    'smooth or featured'
    """
    endings = {question.name.rpartition("-")[2] for question in tree.questions}
    has_common = len(endings) == 1 and len(tree.questions) > 1
    return words(name.removesuffix(f"-{endings.pop() if has_common else ''}"))


def words(answer: str) -> str:
    """Return an answer's name for readers.

    >>> words("just-noticeable")
    'just noticeable'
    """
    return answer.replace("-", " ")
