"""The decision tree as a figure of a report: boxes and edges on a wide page, a list of questions on a narrow one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from markupsafe import Markup

from gzoo import reports
from gzoo.reports.parts import Figure, slug
from gzoo.trees.drawing import tree_svg
from gzoo.trees.labels import label, words
from gzoo.trees.tree import Tree


def tree_figure(tree: Tree, proportion_asked: Mapping[str, float], *, greyed: Collection[str] = ()) -> Figure:
    """Return the figure of a decision tree.

    Args:
        tree: Any tree.
        proportion_asked: Mean proportion of volunteers asked, 0..1, by question name.
        greyed: Names of questions to draw in grey, such as those that are not predicted.
    """
    name_of = {
        column: f"{words(answer)} ({label(question.name, tree)})"
        for question in tree.questions
        for answer, column in zip(question.answers, question.columns, strict=True)
    }
    questions = [
        {
            "label": label(question.name, tree),
            "after": [name_of[parent] for parent in question.parents if parent in name_of],
            "answers": [words(answer) for answer in question.answers],
            "proportion_asked": proportion_asked.get(question.name),
            "is_published": question.is_published,
            "is_grey": question.name in greyed,
        }
        for question in tree.ordered
    ]
    numbers = [
        {
            "question": question.name,
            "answer": column,
            "parent_answers": " ".join(question.parents),
            "proportion_volunteers_asked": proportion_asked.get(question.name),
        }
        for question in tree.ordered
        for column in question.columns
    ]
    wide = Markup(tree_svg(tree, proportion_asked, greyed=greyed))
    narrow = reports.fragment("stack", questions=questions)
    return Figure(f"tree-{slug(tree.name)}", f"Decision tree of {tree.name}", wide, narrow, numbers)
