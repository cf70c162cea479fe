"""Pages made from the code: a page for each command, for each campaign, the list of public names; and formulas."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import gzoo_measured
import gzoo_results

import gzoo
from gzoo import errors
from gzoo.catalogs.columns import Column, catalogue_columns, healpix_column
from gzoo.cli import GROUPS, application, show, summary
from gzoo.dataset.schema import record
from gzoo.simulator.galaxies import Galaxy
from gzoo.trees.campaign import Campaign, campaigns
from gzoo.trees.drawing import tree_svg

if typing.TYPE_CHECKING:  # tests read the pages without Sphinx
    from docutils import nodes
    from sphinx.application import Sphinx

MODULES = {
    "gzoo.learn": "Training: loss, model and loader for training loops of one's own",
    "gzoo.scoring": "Likelihoods and scores, without torch",
    "gzoo.sky": "Positions on the sky",
}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    app.add_html_math_renderer("mathml", (inline_formula, None), (formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# ----------------------------------------------------------------------------------------------------
# Formulas as MathML, which browsers draw by themselves


def inline_formula(writer: nodes.NodeVisitor, node: nodes.math) -> None:
    """Write a formula within a sentence."""
    from docutils.nodes import SkipNode
    from docutils.utils.math.latex2mathml import tex2mathml

    writer.body.append(tex2mathml(node.astext()))  # type: ignore[attr-defined]
    raise SkipNode


def formula(writer: nodes.NodeVisitor, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    from docutils.nodes import SkipNode
    from docutils.utils.math.latex2mathml import tex2mathml

    writer.body.append(f'<div class="formula" tabindex="0">{tex2mathml(node.astext(), as_block=True)}</div>')  # type: ignore[attr-defined]
    raise SkipNode


# ----------------------------------------------------------------------------------------------------
# Pages


def write_pages(app: Sphinx) -> None:
    """Write all pages that are made from the code, below `reference/`, and parts of others, below `measured/`."""
    for path, text in pages():
        write(Path(app.srcdir) / "reference" / path, text)
    for path, text in gzoo_measured.parts():
        write(Path(app.srcdir) / "measured" / path, text)


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path below `reference/` and the text of each page."""
    verbs = [verb for group in GROUPS.values() for verb in group]
    yield "commands/index.md", _index_of_commands()
    described = _commands()
    for verb in verbs:
        yield f"commands/{verb}.md", _page_of_command(verb, described[verb])
    yield "python.md", _page_of_names(verbs)
    yield "json.md", gzoo_results.page(show.WITH_JSON)
    yield "columns.md", _page_of_columns()
    yield "errors.md", _page_of_errors()
    known = campaigns()
    yield "campaigns/index.md", _index_of_campaigns(known)
    for campaign in known:
        yield f"campaigns/{campaign.name}.md", _page_of_campaign(campaign)
        yield f"campaigns/{campaign.name}.svg", tree_svg(campaign.tree)


def write(path: Path, text: str) -> None:
    """Write a file if its text has changed, so that Sphinx reads only what is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def _toctree(names: typing.Iterable[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])


def _autodoc(directive: str, name: str, *options: str) -> str:
    return "\n".join(["```{eval-rst}", f".. {directive}:: {name}", *(f"   :{one}:" for one in options), "```"])


def _index_of_commands() -> str:
    parts = ["# Commands", "Each command is the function of the same name: `gzoo build` is `gzoo.build`."]
    for title, verbs in GROUPS.items():
        rows = [f"- [`gzoo {verb}`]({verb}.md): {summary(verb)}" for verb in verbs]
        parts += [f"## {title}", "\n".join(rows)]
    verbs = [verb for group in GROUPS.values() for verb in group]
    parts += ["Exit codes are on [a page of their own](../exit-codes.md).", _toctree(verbs)]
    return "\n\n".join(parts) + "\n"


def _commands() -> dict[str, str]:
    """Return the usage and options of each command, in Markdown."""
    text = application().generate_docs(heading_level=1, usage_name="gzoo")
    found = re.split(r"^## gzoo (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def _page_of_command(verb: str, described: str) -> str:
    usage, _, options = described.strip().partition("\n```\n")
    _, found, options = options.partition("**Arguments**")
    options = (found or "**Parameters**") + (options if found else described.partition("**Parameters**")[2])
    parts = [
        f"# gzoo {verb}",
        summary(verb),
        f"{usage}\n```",
        "## Arguments and options",
        options.replace("**Arguments**:", "**Arguments**").replace("**Parameters**:", "**Options**"),
        "## In Python",
        _autodoc("autofunction", f"gzoo.{verb}"),
    ]
    result = _result_of(verb)
    if result:
        parts += ["## Result", _autodoc("autoclass", result, "members")]
    return "\n\n".join(parts) + "\n"


def _result_of(verb: str) -> str:
    """Return the name of the class of a command's result, or "" if it is not one of gzoo's."""
    found = inspect.signature(getattr(gzoo, verb), eval_str=True).return_annotation
    is_own = inspect.isclass(found) and found.__module__.startswith("gzoo.")
    return f"{found.__module__}.{found.__qualname__}" if is_own and found.__name__ not in gzoo.__all__ else ""


def _page_of_names(verbs: list[str]) -> str:
    parts = [
        "# Python",
        "The functions of commands are on the pages of [commands](commands/index.md). Importing `gzoo` is quick: what "
        "a name needs is imported when it is first used.",
    ]
    for name in gzoo.__all__:
        if name not in verbs:
            is_class = inspect.isclass(getattr(gzoo, name))
            options = ("members",) if is_class else ()
            parts += [_autodoc("autoclass" if is_class else "autofunction", f"gzoo.{name}", *options)]
    for module, title in MODULES.items():
        names = [
            f"{module}.{name}"
            for name in import_module(module).__all__
            if name not in gzoo.__all__ and _is_described(getattr(import_module(module), name))
        ]
        parts += [f"## {module}", f"{title}."]
        for name in names:
            is_class = inspect.isclass(getattr(import_module(module), name.rpartition(".")[2]))
            parts += [_autodoc("autoclass" if is_class else "autofunction", name)]
    return "\n\n".join(parts) + "\n"


def _page_of_errors() -> str:
    """Return the family of errors, and the warning."""
    tree = inspect.cleandoc(errors.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    known = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, Exception)]
    parts = [
        "# Errors",
        "Every deliberate error of gzoo is a `GZooError`, and also the error of Python that it refines, so that "
        "`except ValueError` works too. Commands print it and end with its [exit code](exit-codes.md).",
        f"```text\n{textwrap.dedent(tree)}\n```",
        *(_autodoc("autoclass", f"gzoo.errors.{one.__name__}") for one in known if one is not errors.GZooError),
        "`gzoo.GZooError` is among the [names in Python](python.md).",
    ]
    return "\n\n".join(parts) + "\n"


def _page_of_columns() -> str:
    """Return the columns of datasets, catalogues and simulated galaxies, as the code defines them."""
    known = gzoo.campaign("gz_rings")
    question = known.tree.questions[0]
    answer, column, other = question.answers[0], *question.columns

    def row(name: str, kind: str, meaning: str) -> str:
        return f"| `{name}` | {kind} | {' '.join(meaning.split())} |"

    def rows(columns: typing.Iterable[tuple[str, str, str]]) -> str:
        found = ["| column | type | contents |", "|---|---|---|"]
        for name, kind, meaning in columns:
            if not name.startswith(other):
                general = re.sub(f"^{question.name}_", "{question}_", re.sub(f"^{column}", "{column}", name))
                text = meaning.replace(f"answered '{answer}' to {question.name}", "gave this answer")
                text = text.replace(f"'{answer}'", "this answer").replace(question.name, "the question")
                found.append(row(general, kind, text))
        return "\n".join(found)

    datasets = record(known, source_id=True).fields
    tree = known.published_tree
    catalogues = (*catalogue_columns(tree, counted=[question.name], is_predicted=True), healpix_column())
    kinds = {one.name: one.type for one in fields(Galaxy)}
    parts = [
        "# Columns of datasets, catalogues and simulations",
        "`{question}` is the name of a question and `{column}` that of an answer: `{question}_{answer}`. What other "
        "tables contain is listed under [tables](tables.md).",
        "## Datasets",
        rows((one.name, one.dtype, one.meaning) for one in datasets),
        "## Catalogues",
        "Names of questions and answers have underscores in place of hyphens. Numbers may be unknown for the reason in "
        "brackets.",
        rows((one.name, one.kind, _of_catalogue(one)) for one in catalogues),
        "## Ground truth of simulated galaxies",
        "`truth.parquet` of a simulation: `id_str`, the probabilities of [answers](other-files.md), and",
        "\n".join(
            ["| column | type | contents |", "|---|---|---|"]
            + [row(name, kinds[name], meaning) for name, meaning in gzoo_results.keys(Galaxy).items() if name in kinds]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _of_catalogue(column: Column) -> str:
    unit = f", {column.unit}" if column.unit else ""
    return f"{column.description}{unit}{f' ({column.missing})' if column.missing else ''}"


def _is_described(value: object) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("gzoo.")


def _index_of_campaigns(known: typing.Iterable[Campaign]) -> str:
    rows = [f"- [{one.title}]({one.name}.md) (`{one.name}`): {len(one.tree.questions)} questions" for one in known]
    parts = [
        "# Campaigns",
        "A campaign is one TOML file; [adding your own](../../how-to/add-a-campaign.md) needs no change of gzoo.",
        "\n".join(rows),
        _toctree(one.name for one in known),
    ]
    return "\n\n".join(parts) + "\n"


def _page_of_campaign(campaign: Campaign) -> str:
    rows = ["| question | answer | column |", "|---|---|---|"]
    for question in campaign.tree.questions:
        for i, (answer, column) in enumerate(zip(question.answers, question.columns, strict=True)):
            rows.append(f"| {'`' + question.name + '`' if not i else ''} | {answer} | `{column}` |")
    parts = [
        f"# {campaign.title}",
        campaign.description,
        f"Name: `{campaign.name}`. Licence of the data: {campaign.hub.licence or 'unknown'}.",
        "## Decision tree",
        f"```{{image}} {campaign.name}.svg\n:alt: Decision tree of {campaign.title}\n:class: tree\n```",
        "## Columns",
        "\n".join(rows),
    ]
    if campaign.papers:
        papers = [f"- {paper.authors} ({paper.year}): {paper.title}" for paper in campaign.papers]
        parts += ["## Papers", "\n".join(papers), f"`gzoo cite {campaign.name}` prints the BibTeX entries."]
    return "\n\n".join(parts) + "\n"
