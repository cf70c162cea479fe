"""Summary labels: one class for each galaxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError, choices
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
"""The six classes of the published `summary` column: class -> the answers that define it.

The names are those of mwalmsley/gz-evo@939e214. The class of a galaxy with the answer "in between" is not published:
that it counts as round is inferred from the lack of a seventh class, which a GZ2 notebook had (`smooth_inbetween`).
"""

_ROOT = "smooth-or-featured"
MIN_PROPORTION_ASKED = 0.5

StringArray = npt.NDArray[np.str_]


def summary(
    votes: Votes, rule: Mapping[str, Sequence[str]] = PUBLISHED, *, min_proportion_asked: float = MIN_PROPORTION_ASKED
) -> StringArray:
    """Return the summary label of each galaxy, shape `(galaxy,)`; '' if no class applies.

    The tree is followed from its first question ("smooth or featured?"), at each step along the answer with the most
    votes (among equals the first). A question counts if it is on this path and was answered by more than half of the
    volunteers who answered the first question. A galaxy is in the first class all of whose answers are on the path. If
    a dataset has several versions of the tree, the one whose first question has the most votes is used.

    Args:
        votes: Votes, for example from `gzoo.open_dataset(dataset).read_votes(split)`.
        rule: Class -> its answers, each as `question_answer` without the campaign's suffix; `|` separates alternative
            answers.
        min_proportion_asked: Proportion of volunteers that a question must exceed.

    Raises:
        InputError: An answer of the rule does not exist in any version of its question.

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
    suffixes = [names[root].removeprefix(_ROOT) for root in roots]
    _check_rule(votes.tree, rule, suffixes)
    found = np.full(len(votes), "", dtype=f"U{max(map(len, rule), default=1)}")
    most = np.zeros(len(votes), np.int64)
    for root, suffix in zip(roots, suffixes, strict=True):
        is_on_path = _path(votes, root, min_proportion_asked)
        of_version = np.full_like(found, "")
        for name, answers in reversed(list(rule.items())):  # earlier classes overwrite later ones
            indices = [_answer_indices(votes.tree, answer, suffix) for answer in answers]
            of_version[np.all([is_on_path[:, one].any(axis=1) for one in indices], axis=0)] = name
        is_chosen = votes.totals[:, root] > most
        found[is_chosen] = of_version[is_chosen]
        most = np.maximum(most, votes.totals[:, root])
    return found


def _path(votes: Votes, root: int, min_proportion_asked: float) -> npt.NDArray[np.bool_]:
    """Return whether each answer is on the path, shape `(galaxy, answer)`."""
    tree = votes.tree
    is_on_path = np.zeros(votes.counts.shape, bool)
    minimum = votes.totals[:, root] * min_proportion_asked
    numbers = {question.name: i for i, question in enumerate(tree.questions)}
    rows = np.arange(len(votes))
    for question in tree.ordered:
        i = numbers[question.name]
        parents = tree.parents_of_question[i]
        leads = is_on_path[:, parents].any(axis=1) if i != root else np.ones(len(votes), bool)
        counts = votes.counts[:, tree.slice(question.name)]
        is_asked = leads & (votes.totals[:, i] > minimum) & (counts.max(axis=1) > 0)
        mode: IntArray = tree.starts[i] + counts.argmax(axis=1)
        is_on_path[rows[is_asked], mode[is_asked]] = True
    return is_on_path


def _answer_indices(tree: Tree, answer: str, suffix: str) -> list[int]:
    """Return the column indices of a rule's answers, in the version of the tree with this suffix."""
    name, _, texts = answer.partition("_")
    wanted = texts.split("|")
    return [
        tree.slice(question.name).start + i
        for question in tree.questions
        if question.name == name + suffix
        for i, text in enumerate(question.answers)
        if text in wanted
    ]


def _check_rule(tree: Tree, rule: Mapping[str, Sequence[str]], suffixes: Sequence[str]) -> None:
    for answer in (answer for answers in rule.values() for answer in answers):
        name, _, texts = answer.partition("_")
        known = {one for question in tree.questions if question.name in {name + end for end in suffixes}
                 for one in question.answers}  # fmt: skip
        if known and known.isdisjoint(texts.split("|")):
            raise InputError(
                f"Answer '{texts}' not found for question '{name}'.",
                choices(sorted(known), texts),
                "Correct the rule.",
            )
