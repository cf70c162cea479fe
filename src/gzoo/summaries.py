"""Summaries: one word for a galaxy, where its volunteers agree on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.trees import IntArray, Tree
from gzoo.votes import Votes

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
LEAST_REACH = 0.5

Texts = npt.NDArray[np.str_]


def summary(
    votes: Votes, rule: Mapping[str, Sequence[str]] = PUBLISHED, *, least_reach: float = LEAST_REACH
) -> Texts:
    """The class of each galaxy, shape `(galaxy,)`; '' where there is none.

    The tree is walked from its first question ("smooth or featured?"), each time with the answer that most people gave
    (of equals the first). A question counts if it lies on this walk and more than half of those who answered the first
    question came to it. A galaxy is in the first class all of whose answers were so met. Where a dataset has several
    versions of the tree, that one counts whose first question has the most votes.

    Args:
        votes: The votes, of `gzoo.open_dataset(folder).galaxies(split)` for instance.
        rule: Class -> its answers, each as `question_answer` without the ending of the campaign's name; `|` stands
            between answers of which any will do.
        least_reach: The share of voters that a question needs more than.

    Raises:
        InputError: An answer of the rule is in none of the trees' questions, though the question is.

    >>> import gzoo, numpy as np
    >>> tree = gzoo.tree("gz2").carried()
    >>> counts = np.zeros((1, len(tree.columns)), np.int64)
    >>> for answer in ("smooth-or-featured-gz2_smooth", "how-rounded-gz2_cigar"):
    ...     counts[0, tree.columns.index(answer)] = 30
    >>> votes = Votes(tree, counts, tree.totals(counts))
    >>> summary(votes).tolist(), summary(votes, {"early": ("smooth-or-featured_smooth",)}).tolist()
    (['smooth_cigar'], ['early'])
    """
    found = np.full(len(votes), "", dtype=f"U{max(map(len, rule), default=1)}")
    most = np.zeros(len(votes), np.int64)
    names = [question.name for question in votes.tree.questions]
    for root, name in enumerate(names):
        if not name.startswith(f"{_ROOT}-"):
            continue
        of_version = _classes(votes, root, name.removeprefix(_ROOT), rule, least_reach)
        is_chosen = votes.totals[:, root] > most
        found[is_chosen] = of_version[is_chosen]
        most = np.maximum(most, votes.totals[:, root])
    return found


def _classes(votes: Votes, root: int, ending: str, rule: Mapping[str, Sequence[str]], least_reach: float) -> Texts:
    """The classes by one version of the tree, whose questions' names end so."""
    tree = votes.tree
    is_met = _walk(votes, root, least_reach)
    found = np.full(len(votes), "", dtype=f"U{max(map(len, rule), default=1)}")
    for name, answers in reversed(rule.items()):  # the first has the last word
        columns = [_columns(tree, answer, ending) for answer in answers]
        is_in = np.all([is_met[:, one].any(axis=1) for one in columns], axis=0) if columns else np.zeros(len(votes), bool)
        found[is_in] = name
    return found


def _walk(votes: Votes, root: int, least_reach: float) -> npt.NDArray[np.bool_]:
    """Whether each answer is met on the walk, shape `(galaxy, answer)`."""
    tree = votes.tree
    is_met = np.zeros(votes.counts.shape, bool)
    least = votes.totals[:, root] * least_reach
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


def _columns(tree: Tree, answer: str, ending: str) -> list[int]:
    """Places of the answers of a rule; none where the tree lacks the question."""
    question, _, texts = answer.partition("_")
    known = [one for one in tree.questions if one.name == question + ending]
    if not known:
        return []
    wanted = set(texts.split("|"))
    start = tree.slice(known[0].name).start
    places = [start + i for i, text in enumerate(known[0].answers) if text in wanted]
    if not places:
        raise InputError(
            f"No answer of {known[0].name} is {' or '.join(sorted(wanted))}.",
            f"One of {', '.join(known[0].answers)}.",
            "Mend the rule.",
        )
    return places
