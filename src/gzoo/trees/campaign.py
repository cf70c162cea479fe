"""Metadata of the Galaxy Zoo campaigns: decision trees, surveys, Hub repositories and papers.

Each campaign is one TOML file, which names the source of every value: those of gzoo under `trees/facts/`, others
anywhere. A new campaign needs a new file, and no changes in Python.

Datasets, runs and simulations of a user's campaign contain the text of its file (`Campaign.to_manifest`), so that they
can be read without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gzoo.display import Sheet, Shown, field_values, table_of
from gzoo.errors import DatasetError, InputError, NotFoundError, TreeError, choices, suggestion
from gzoo.trees.definition import AskedTree, Decision, Definition, Hub, Label, Paper, Stretch, Survey, TreeSource
from gzoo.trees.reading import GUIDE, Place, read, read_text
from gzoo.trees.tree import Question, Tree, union

if TYPE_CHECKING:
    import polars as pl

RESERVED = ("gzoo",)
"""Names that mean something else where a campaign is named."""
TAKEN_ANSWERS = ("total-votes", "effective-votes", "fraction")
TAKEN_COLUMNS = ("id_str", "dataset_name", "source_id", "vote_row")
TAKEN_LABELS = ("image", *TAKEN_COLUMNS, "ra", "dec", "split", "summary")
"""Answers, columns and labels that tables of votes or datasets have for another purpose."""


@dataclass(frozen=True, eq=False, repr=False)
class Campaign(Shown):
    """A Galaxy Zoo campaign: its decision tree, surveys, Hub repository and papers.

    Attributes:
        name: Name of the campaign.
        title: Title.
        description: What its images show.
        tree: Its decision tree.
        surveys: The observations that its images were made from.
        hub: Its dataset on the Hub.
        papers: Papers to cite.
        tree_sources: Source and evidence grade of each tree.
        decisions: What was decided where sources disagree.
        members: Names of the campaigns that it merges.
        labels: Columns of a dataset that was built from labels instead of votes, whose tree has no questions.
        definitions: Name -> text of the TOML file, for itself and its members, as far as they are not part of gzoo.
        source: What to pass where a campaign is named: the name, or the path of the TOML file.

    >>> import gzoo
    >>> gzoo.campaign("gz2").hub.repository
    'mwalmsley/gz2'
    """

    name: str
    title: str
    description: str
    tree: Tree
    surveys: tuple[Survey, ...] = ()
    hub: Hub = field(default_factory=Hub)
    papers: tuple[Paper, ...] = ()
    tree_sources: tuple[TreeSource, ...] = ()
    decisions: tuple[Decision, ...] = ()
    members: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    source: str = ""

    def __reduce__(self) -> tuple[Callable[..., Campaign], tuple[object, ...]]:
        # a process reads each campaign once, however often it is sent there, and caches keyed by campaigns stay small
        return _recall, (self.name, tuple(self.definitions.items()), self.source)

    def to_dict(self) -> dict[str, object]:
        """Return everything that is known of the campaign as JSON values."""
        return {name: value for name, value in field_values(self).items() if name != "definitions"}

    def sheet(self) -> Sheet:
        """Return what a reader needs first."""
        n_published = len(self.published_tree.questions)
        return Sheet(
            f"{self.title} ({self.name})",
            {
                "images": self.description,
                "decision tree": f"{len(self.tree.questions)} questions, {len(self.tree.columns)} answers; "
                f"{n_published} questions are published",
                "merges": self.members,
                "surveys": [f"{one.name} ({one.telescope})" for one in self.surveys],
                "on the Hub": self.hub.repository,
                "galaxies": self.hub.n_galaxies or None,
                "gated": self.hub.gated,
                "licence": self.hub.licence,
            },
            ("paper", "title", "doi or arXiv") if self.papers else (),
            [
                (f"{one.authors[0].partition(',')[0]} ({one.year})", one.title, one.doi or one.arxiv)
                for one in self.papers
            ],
        )

    @cached_property
    def published_tree(self) -> Tree:
        """The tree of the questions in the published dataset."""
        return self.tree.published()

    @property
    def stretch(self) -> Stretch | None:
        """Conversion of FITS files to colour images: the stretch of the first survey that has one."""
        return next((survey.stretch for survey in self.surveys if survey.stretch), None)

    def member(self, name: str) -> Campaign:
        """Return one of the campaigns that it merges."""
        return _member(name, self.definitions, self.source)

    def to_manifest(self) -> dict[str, object]:
        """Return the entries of a manifest that identify the campaign, with the text of its file if it is not of gzoo.

        >>> import gzoo
        >>> gzoo.campaign("gz2").to_manifest()
        {'campaign': 'gz2'}
        """
        if not self.definitions:
            return {"campaign": self.name}
        texts = {name: {"sha256": _sha256(text), "toml": text} for name, text in sorted(self.definitions.items())}
        return {"campaign": self.name, "campaign_definitions": texts}


@dataclass(frozen=True, slots=True, repr=False)
class Campaigns(Shown):
    """Campaigns in a fixed order; iterate over them, or take one by its position."""

    known: tuple[Campaign, ...]

    def __len__(self) -> int:
        return len(self.known)

    def __iter__(self) -> Iterator[Campaign]:
        return iter(self.known)

    def __getitem__(self, i: int) -> Campaign:
        return self.known[i]

    def to_dict(self) -> dict[str, object]:
        """Return the facts in `to_polars` as JSON values.

        campaigns: Facts of each campaign.
        name, title: Its name in commands, and in words.
        n_questions, n_published: Number of questions, and of those that the published dataset has.
        repository, gated: Its dataset on the Hub, and whether access must be requested there.
        """
        return {"campaigns": [self._facts(one) for one in self.known]}

    def to_polars(self) -> pl.DataFrame:
        """Return a row for each campaign."""
        return table_of(map(self._facts, self.known))

    def sheet(self) -> Sheet:
        """Return a row for each campaign."""
        heading = ("name", "campaign", "questions", "published", "on the Hub", "gated")
        rows = [tuple(self._facts(one).values()) for one in self.known]
        return Sheet(f"{len(self)} campaigns", {}, heading, rows, "One of them: gzoo.campaign(name).")

    @staticmethod
    def _facts(one: Campaign) -> dict[str, object]:
        return {
            "name": one.name,
            "title": one.title,
            "n_questions": len(one.tree.questions),
            "n_published": len(one.published_tree.questions),
            "repository": one.hub.repository,
            "gated": one.hub.gated,
        }


def campaigns() -> Campaigns:
    """List the campaigns, sorted by name.

    >>> import gzoo
    >>> "gz_candels" in [campaign.name for campaign in gzoo.campaigns()]
    True
    """
    return Campaigns(tuple(campaign(name) for name in names()))


@cache
def names() -> tuple[str, ...]:
    """Return the names of all campaigns, sorted."""
    folder = resources.files("gzoo") / "trees" / "facts"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def campaign(name: Path | str | Campaign) -> Campaign:
    """Get a campaign: its decision tree, surveys, Hub repository and papers.

    Args:
        name: Name of the campaign, or path of the TOML file that defines it.

    Raises:
        NotFoundError: No campaign has this name, or the file does not exist.
        InputError: A key of the file is missing, unknown or wrong.

    >>> import gzoo
    >>> gzoo.campaign("gz2").title
    'Galaxy Zoo 2'
    """
    if isinstance(name, Campaign):
        return name
    text = str(name)
    if text.lower().endswith(".toml"):
        return _of_file(Path(name))
    return _of_name(text)


def of_manifest(entries: Mapping[str, object], path: Path) -> Campaign:
    """Return the campaign that a manifest names, as `Campaign.to_manifest` wrote it.

    Args:
        entries: The manifest.
        path: Its file, for error messages.

    Raises:
        KeyError: The manifest does not name a campaign.
        DatasetError: The definition of the campaign was changed, or is not valid.
        NotFoundError: The campaign is not known.
    """
    name, given = str(entries["campaign"]), entries.get("campaign_definitions")
    if given is None:
        return _of_name(name)  # never a path: a manifest does not lead to other files
    try:
        texts = {one: about["toml"] for one, about in cast("dict[str, dict[str, str]]", given).items()}
        is_same = all(given[one]["sha256"] == _sha256(text) for one, text in texts.items())  # type: ignore[index]
    except (AttributeError, KeyError, TypeError):
        is_same, texts = False, {}
    if not is_same or name not in texts:
        raise DatasetError(
            f"Entry 'campaign_definitions' of '{path}' was changed.",
            f"the TOML text that defines campaign '{name}', and its SHA-256.",
            "Copy or make the folder again.",
        )
    try:
        return _recall(name, tuple(sorted(texts.items())), name)
    except InputError as error:
        raise DatasetError(f"Invalid manifest '{path}': {error.message}", error.expected, error.hint) from error


def tree(name: Path | str | Campaign) -> Tree:
    """Get the decision tree of a campaign.

    Args:
        name: Name of the campaign, or path of the TOML file that defines it.

    >>> import gzoo
    >>> len(gzoo.tree("gz_candels").questions)
    17
    """
    return campaign(name).tree


def _of_name(text: str) -> Campaign:
    if text in names():
        return _recall(text, (), text)
    hint = suggestion(names(), text, "Run `gzoo campaigns` to list them.")
    if Path(f"{text}.toml").is_file():
        hint = f"Pass '{text}.toml' to use that file."
    raise NotFoundError(f"Campaign not found: '{text}'.", f"the path of a TOML file, or {choices(names(), text)}", hint)


def _of_file(path: Path) -> Campaign:
    """Return the campaign that a file defines; the files of its members are beside it."""
    text, label = read_text(path), f"Campaign file '{path}'"
    definition = read(Definition, text, label)
    if definition.name in names():
        if text == _own_text(definition.name):
            return campaign(definition.name)  # a copy of our file
        raise Place(label).wrong(
            "name", definition.name, "a name that no campaign of gzoo has.", "Choose another name for your campaign."
        )
    texts = {definition.name: text}
    for member in definition.union:
        if member not in names():
            beside = path.with_name(f"{member}.toml")
            if not beside.is_file():
                expected = f"campaigns of gzoo, or of a file beside this one, here '{beside}'."
                raise Place(label).wrong("union", member, expected, suggestion(names(), member))
            texts[member] = read_text(beside)
    return _recall(definition.name, tuple(sorted(texts.items())), str(path))


def _own_text(name: str) -> str:
    return (resources.files("gzoo") / "trees" / "facts" / f"{name}.toml").read_text("utf-8")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _recall(name: str, definitions: tuple[tuple[str, str], ...], source: str) -> Campaign:
    """Return the campaign of a name.

    Args:
        name: Name of the campaign.
        definitions: Name and text of the files that define it and its members, as far as they are not part of gzoo.
        source: `Campaign.source`.

    Raises:
        InputError: A file is not valid.
    """
    texts = dict(definitions)
    is_file = source.lower().endswith(".toml")
    label = f"Campaign file '{source}'" if is_file else f"The definition of campaign '{name}'"
    found = read(Definition, texts[name] if name in texts else _own_text(name), label)
    top = Place(label)
    if found.name != name:
        raise top.wrong("name", found.name, f"'{name}', as the file is named.")
    if name in RESERVED or name.endswith("_simulated"):
        raise top.wrong("name", name, f"another name than {' or '.join(RESERVED)}, and none that ends in _simulated.")
    if not found.trees and not found.union and not found.labels:
        raise InputError(
            f"{label}: key 'trees' is missing.",
            "one or more tables, [[trees]].",
            f"Correct the file; {GUIDE} has an example.",
        )
    trees = [_tree(one, one.name or name, label) for one in found.trees]
    surveys, papers, decisions = list(found.surveys), list(found.papers), list(found.decisions)
    sources = [TreeSource(name=one.name or name, grade=one.grade, source=one.source) for one in found.trees]
    decisions += [decision for one in found.trees for decision in one.decisions]
    for member in found.union:
        if member == name or found.union.count(member) > 1:
            raise top.wrong("union", list(found.union), "other campaigns, each once.")
        one = _member(member, texts, source)
        if one.members:
            raise top.wrong("union", member, f"campaigns that do not merge others: {', '.join(one.members)}.")
        trees.append(one.tree)
        surveys += one.surveys
        papers += [paper for paper in one.papers if paper not in papers]
        sources += one.tree_sources
        decisions += one.decisions
    try:
        whole = trees[0] if len(trees) == 1 else union(name, trees)  # without questions for labels alone
    except TreeError as error:
        raise TreeError(f"{label} is contradictory: {error.message}", error.expected, error.hint) from error
    asked = [question.name for question in whole.questions]
    for question in found.unpublished:
        if question not in asked:
            raise top.wrong("unpublished", question, choices(asked, question), suggestion(asked, question))
    if found.unpublished:
        kept = [replace(one, is_published=False) if one.name in found.unpublished else one for one in whole.questions]
        whole = replace(whole, questions=tuple(kept))
    _check_labels(found, top)
    if not found.labels and not any(question.is_published for question in whole.questions):
        raise InputError(
            f"{label}: no question is published.",
            "a question with is_published = true.",
            f"Correct the file; {GUIDE} has an example.",
        )
    return Campaign(
        name=name,
        title=found.title,
        description=found.description,
        tree=whole,
        surveys=tuple(surveys),
        hub=found.hub,
        papers=tuple(papers),
        tree_sources=tuple(sources),
        decisions=tuple(decisions),
        members=found.union,
        labels=found.labels,
        definitions=texts,
        source=source,
    )


def _check_labels(found: Definition, top: Place) -> None:
    if found.labels and (found.trees or found.union):
        raise top.wrong("labels", [one.name for one in found.labels], "labels or trees, not both.")
    for label in found.labels:
        at = Place(top.source, "[[labels]]", f"'{label.name}'")
        if label.name in TAKEN_LABELS or sum(label.name == other.name for other in found.labels) > 1:
            raise at.wrong("name", label.name, "each column once, with a name that has no other meaning.")
        if bool(label.classes) != (label.kind == "class") or len(set(label.classes)) < len(label.classes):
            raise at.wrong("classes", list(label.classes), "each class once, for columns of classes only.")


def of_labels(name: str, title: str, description: str, labels: Sequence[Label]) -> Campaign:
    """Return the definition of a dataset that was built from labels, without a campaign.

    Args:
        name: Name of the dataset.
        title: Its title.
        description: What it contains, in a sentence.
        labels: Its columns.
    """
    lines = [f"{key} = {_toml(text)}" for key, text in (("name", name), ("title", title), ("description", description))]
    for one in labels:
        lines += ["", "[[labels]]", f"name = {_toml(one.name)}", f"kind = {_toml(one.kind)}"]
        lines += [f"classes = [{', '.join(map(_toml, one.classes))}]"] if one.classes else []
        lines += [f"meaning = {_toml(one.meaning)}"] if one.meaning else []
    text = "\n".join(lines) + "\n"
    return _recall(name, ((name, text),), name)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # printable text, for which TOML has the same rules as JSON


def _member(name: str, definitions: Mapping[str, str], source: str) -> Campaign:
    """Return a campaign that another one merges, from the definitions and the source of that one."""
    if name not in definitions:
        return _of_name(name)
    is_file = source.lower().endswith(".toml")
    own = ((name, definitions[name]),)
    return _recall(name, own, str(Path(source).with_name(f"{name}.toml")) if is_file else name)


def _tree(asked: AskedTree, name: str, label: str) -> Tree:
    """Return the tree of a definition, whose questions get its suffix."""
    ending = f"-{asked.suffix}" if asked.suffix else ""
    answers = [f"{one.name}_{answer}" for one in asked.questions for answer in one.answers]
    questions: list[Question] = []
    for one in asked.questions:
        at = Place(label, "[[trees.questions]]", f"'{one.name}'")
        if sum(one.name == other.name for other in asked.questions) > 1:
            raise at.wrong("name", one.name, "each question once: this one is there twice.")
        for parent in one.parents:
            if parent not in answers:
                expected = f"answers of this tree, as question_answer; {choices(answers, parent)}"
                raise at.wrong("parents", parent, expected, suggestion(answers, parent))
        columns = tuple(f"{one.name}{ending}_{answer}" for answer in one.answers)
        if len(set(one.answers)) < len(one.answers):
            raise at.wrong("answers", list(one.answers), "each answer once.")
        for answer, column in zip(one.answers, columns, strict=True):
            if answer in TAKEN_ANSWERS or column in TAKEN_COLUMNS:
                raise at.wrong("answers", answer, f"another name, because column '{column}' has its own meaning.")
        if one.ordered and (one.multiple or len(set(one.ordered) & set(one.answers)) < max(len(one.ordered), 3)):
            expected = (
                "three or more answers of this single-choice question, each once, in the order of their quantity."
            )
            raise at.wrong("ordered", list(one.ordered), expected)
        parents = tuple(parent.replace("_", f"{ending}_", 1) for parent in one.parents)
        questions.append(
            Question(
                f"{one.name}{ending}",
                one.answers,
                columns,
                parents,
                one.multiple,
                one.is_published,
                one.grade or asked.grade,
                one.ordered,
            )
        )
    try:
        return Tree(name, tuple(questions))
    except TreeError as error:
        raise TreeError(f"{label} is contradictory: {error.message}", error.expected, error.hint) from error
