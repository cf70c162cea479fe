"""Summaries: one word for a galaxy, where its volunteers agree on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import Votes

PUBLISHED: Mapping[str, Sequence[str]] = {
    "smooth_round": ("how-rounded_round|completely|in-between",),
    "smooth_cigar": ("how-rounded_cigar|cigar-shaped",),
    "edge_on_disk": ("disk-edge-on_yes",),
    "barred_spiral": ("has-spiral-arms_yes", "bar_yes|strong|weak"),
    "unbarred_spiral": ("has-spiral-arms_yes", "bar_no"),
    "featured_without_bar_or_spiral": ("has-spiral-arms_no", "bar_no"),
}
"""The six classes of the published `summary` column: class -> the answers that make it.

The names are those of mwalmsley/gz-evo@939e214. Which class a galaxy is in that is round "in between" is not published:
that it counts as round is inferred from the lack of a seventh class, which a GZ2 notebook had (`smooth_inbetween`).
"""

_ROOT = "smooth-or-featured"
MIN_PROPORTION_ASKED = 0.5

Texts = npt.NDArray[np.str_]


def summary(
    votes: Votes, rule: Mapping[str, Sequence[str]] = PUBLISHED, *, min_proportion_asked: float = MIN_PROPORTION_ASKED
) -> Texts:
    """The class of each galaxy, shape `(galaxy,)`; '' where there is none.

    The tree is walked from its first question ("smooth or featured?"), each time with the answer that most people gave
    (of equals the first). A question counts if it lies on this walk and more than half of those who answered the first
    question came to it. A galaxy is in the first class all of whose answers were so met. Where a dataset has several
    versions of the tree, that one counts whose first question has the most votes.

    Args:
        votes: The votes, of `gzoo.open_dataset(folder).read_votes(split)` for instance.
        rule: Class -> its answers, each as `question_answer` without the ending of the campaign's name; `|` stands
            between answers of which any will do.
        min_proportion_asked: The share of voters that a question needs more than.

    Raises:
        InputError: No version of a question has an answer of the rule.

    >>> import gzoo, numpy as np
    >>> tree = gzoo.tree("gz2").published()
    >>> counts = np.zeros((1, len(tree.columns)), np.int64)
    >>> for answer in ("smooth-or-featured-gz2_smooth", "how-rounded-gz2_cigar"):
    ...     counts[0, tree.columns.index(answer)] = 30
    >>> votes = Votes(tree, counts, tree.totals(counts))
    >>> summary(votes).tolist(), summary(votes, {"early": ("smooth-or-featured_smooth",)}).tolist()
    (['smooth_cigar'], ['early'])
    """
    names = [question.name for question in votes.tree.questions]
    roots = [i for i, name in enumerate(names) if name.startswith(f"{_ROOT}-")]
    endings = [names[root].removeprefix(_ROOT) for root in roots]
    _refuse_unknown(votes.tree, rule, endings)
    found = np.full(len(votes), "", dtype=f"U{max(map(len, rule), default=1)}")
    most = np.zeros(len(votes), np.int64)
    for root, ending in zip(roots, endings, strict=True):
        is_met = _walk(votes, root, min_proportion_asked)
        of_version = np.full_like(found, "")
        for name, answers in reversed(list(rule.items())):  # the first has the last word
            places = [_places(votes.tree, answer, ending) for answer in answers]
            of_version[np.all([is_met[:, one].any(axis=1) for one in places], axis=0)] = name
        is_chosen = votes.totals[:, root] > most
        found[is_chosen] = of_version[is_chosen]
        most = np.maximum(most, votes.totals[:, root])
    return found


def _walk(votes: Votes, root: int, min_proportion_asked: float) -> npt.NDArray[np.bool_]:
    """Whether each answer is met on the walk, shape `(galaxy, answer)`."""
    tree = votes.tree
    is_met = np.zeros(votes.counts.shape, bool)
    least = votes.totals[:, root] * min_proportion_asked
    numbers = {question.name: i for i, question in enumerate(tree.questions)}
    rows = np.arange(len(votes))
    for question in tree.ordered:
        i = numbers[question.name]
        parents = tree.parents_of_question[i]
        leads = is_met[:, parents].any(axis=1) if i != root else np.ones(len(votes), bool)
        counts = votes.counts[:, tree.slice(question.name)]
        is_asked = leads & (votes.totals[:, i] > least) & (counts.max(axis=1) > 0)
        mode: IntArray = tree.starts[i] + counts.argmax(axis=1)
        is_met[rows[is_asked], mode[is_asked]] = True
    return is_met


def _places(tree: Tree, answer: str, ending: str) -> list[int]:
    """Where the answers of a rule stand among the tree's, in the version whose questions' names end so."""
    name, _, texts = answer.partition("_")
    wanted = texts.split("|")
    return [
        tree.slice(question.name).start + i
        for question in tree.questions
        if question.name == name + ending
        for i, text in enumerate(question.answers)
        if text in wanted
    ]


def _refuse_unknown(tree: Tree, rule: Mapping[str, Sequence[str]], endings: Sequence[str]) -> None:
    for answer in (answer for answers in rule.values() for answer in answers):
        name, _, texts = answer.partition("_")
        known = {one for question in tree.questions if question.name in {name + end for end in endings}
                 for one in question.answers}  # fmt: skip
        if known and known.isdisjoint(texts.split("|")):
            raise InputError(
                f"No answer to {name} is {' or '.join(texts.split('|'))}.",
                f"One of {', '.join(sorted(known))}.",
                "Mend the rule.",
            )
