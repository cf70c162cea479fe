"""Gates from votes: which answers lead to each question, found from the counts alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gzoo.trees import IntArray


@dataclass(frozen=True, slots=True)
class Gate:
    """The answers that lead to one question, as the votes have it.

    Attributes:
        question: Name of the question.
        answers: Columns of the answers of which any one leads to it; () where everyone is asked. Their votes add up
            to the question's total in most rows.
        share: In how many of the judged rows they do, 0 to 1.
        n_judged: Rows in which the question or the gate has votes (that 0 equals 0 proves nothing).
        equivalents: Other answers of which the same holds, to within half a point of a per cent.
        is_certain: Whether the rows are many and agree enough that no other answers can lead to the question, but
            `answers` and `equivalents`.
    """

    question: str
    answers: tuple[str, ...]
    share: float
    n_judged: int
    equivalents: tuple[tuple[str, ...], ...]
    is_certain: bool


def find_gates(
    counts: IntArray,
    columns: Sequence[str],
    questions: Sequence[tuple[str, Sequence[str]]],
    totals: IntArray,
) -> tuple[Gate, ...]:
    """The gate of each question, found from the votes without knowing the tree or the order of questions.

    Args:
        counts: Votes, shape (galaxy, answer).
        columns: Name of each answer.
        questions: Name of each question, and its answers' columns.
        totals: People who answered each question, shape (galaxy, question).

    Returns:
        One gate a question, in the order of `questions`.
    """
    raise NotImplementedError
