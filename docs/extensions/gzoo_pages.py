"""Pages made from the code: a page for each command, for each campaign, the list of public names; and formulas."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import gzoo
from gzoo.cli import GROUPS, application, summary
from gzoo.trees.campaign import Campaign, campaigns
from gzoo.trees.drawing import tree_svg

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
    writer.body.append(tex2mathml(node.astext()))  # type: ignore[attr-defined]
    raise nodes.SkipNode


def formula(writer: nodes.NodeVisitor, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    writer.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')  # type: ignore[attr-defined]
    raise nodes.SkipNode


# ----------------------------------------------------------------------------------------------------
# Pages


def write_pages(app: Sphinx) -> None:
    """Write all pages that are made from the code, below `reference/`."""
    for path, text in pages():
        write(Path(app.srcdir) / "reference" / path, text)


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path below `reference/` and the text of each page."""
    verbs = [verb for group in GROUPS.values() for verb in group]
    yield "commands/index.md", _index_of_commands()
    described = _commands()
    for verb in verbs:
        yield f"commands/{verb}.md", _page_of_command(verb, described[verb])
    yield "python.md", _page_of_names(verbs)
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
