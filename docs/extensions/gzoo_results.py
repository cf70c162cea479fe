"""The page of JSON output: what each key means, read from the docstrings of the classes of results."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from importlib import import_module

import gzoo

KEY = re.compile(r"^(?P<indent> *)(?P<names>`?[a-z]\w*`?(?:, `?[a-z]\w*`?)*): (?P<meaning>.*)$")
INTRODUCTION = """# JSON output
`--json` prints one object to standard output: what `to_dict()` of the function's result returns, and `warnings`, a list
of sentences. Numbers that are not finite are null. Where the type of a key below is `Value`, it is an object with the
number and the ends of its 95% confidence interval:

| key | meaning |
|---|---|
| `value` | the estimate |
| `low`, `high` | the ends of the interval |

An object whose keys are names (of questions, answers, campaigns, splits, classes, reasons or files) is written as
name → value.
"""


def page(verbs: typing.Iterable[str]) -> str:
    """Return the page, with a section for each command that prints JSON, and the parts that several have."""
    reached = {verb: list(_reached(getattr(gzoo, verb))) for verb in verbs}
    n_uses: dict[type, int] = {}
    for classes in reached.values():
        for one in classes:
            n_uses[one] = n_uses.get(one, 0) + 1
    parts = [INTRODUCTION.strip()]
    for verb, classes in reached.items():
        own = [one for one in classes if n_uses[one] == 1 or one is classes[0]]
        shared = [one for one in classes if one not in own]
        parts.append(f"## gzoo {verb}")
        parts += [_table(one, is_first=i == 0) for i, one in enumerate(own)]
        if shared:
            parts.append(f"Parts: {', '.join(f'[{one.__name__}](#{one.__name__.lower()})' for one in shared)}.")
    parts.append("## Parts of several results")
    seen: set[type] = set()
    for classes in reached.values():
        for one in classes[1:]:
            if n_uses[one] > 1 and one not in seen:
                seen.add(one)
                parts += [f"### {one.__name__}", _table(one, is_first=True)]
    return "\n\n".join(parts) + "\n"


def _reached(function: typing.Callable[..., object]) -> Iterator[type]:
    """Yield the class of a function's result, and the classes of gzoo that it consists of, each once."""
    waiting = [*_named(inspect.signature(function).return_annotation, inspect.getmodule(function))]
    seen: set[type] = set()
    while waiting:
        one = waiting.pop(0)
        if one in seen:
            continue
        seen.add(one)
        if keys(one):
            yield one
        for place, name in re.findall(r"`(gzoo[\w.]*)\.(\w+)\.to_dict`", inspect.getdoc(one) or ""):
            waiting.append(getattr(import_module(place), name))
        for base in reversed(one.__mro__):
            if base.__module__.startswith("gzoo."):
                for annotation in inspect.get_annotations(base).values():
                    waiting += _named(annotation, inspect.getmodule(base))


def _named(annotation: object, module: object) -> Iterator[type]:
    """Yield the classes with keys that an annotation names."""
    source = inspect.getsource(module)  # type: ignore[arg-type]
    text = annotation if isinstance(annotation, str) else repr(annotation)
    text = annotation.__forward_arg__ if isinstance(annotation, typing.ForwardRef) else text
    for package, name in re.findall(r"\b(?:(\w+)\.)?([A-Z]\w+)", text):
        found = getattr(getattr(module, package, module), name, None)
        if found is None:  # imported for type checkers only
            where = re.search(rf"^ *from (gzoo[\w.]*) import [^\n]*\b{name}\b", source, re.MULTILINE)
            found = getattr(import_module(where[1]), name, None) if where else None
        if inspect.isclass(found) and found.__module__.startswith("gzoo."):
            yield found
        elif found is not None and not inspect.isclass(found) and typing.get_args(found):
            yield from (one for one in typing.get_args(found) if inspect.isclass(one))


def keys(one: type) -> dict[str, str]:
    """Return the meaning of each key of a class of results: those of its docstring, its bases and its properties."""
    found: dict[str, str] = {}
    if not (dataclasses.is_dataclass(one) or typing.is_typeddict(one)):
        return found
    for base in _bases(one):
        found |= keys(base)
    name, indent = "", ""
    lines = (inspect.getdoc(one) or "").splitlines()
    if "to_dict" in vars(one):
        lines += ["", *(inspect.getdoc(one.to_dict) or "").splitlines()]  # type: ignore[attr-defined]
    for line in lines:
        start = KEY.match(line)
        if name and line.startswith(f"{indent}  "):
            found[name] += " " + line.strip()
        elif start:
            name, indent = start["names"].replace("`", ""), start["indent"]
            found[name] = start["meaning"]
        else:
            name = ""
    for attribute, value in vars(one).items():
        if isinstance(value, property) and not attribute.startswith("_"):
            found.setdefault(attribute, inspect.getdoc(value) or "")
    return found


def _bases(one: type) -> Iterator[type]:
    """Yield the classes of gzoo that a class extends; those of a TypedDict are known to its source only."""
    if typing.is_typeddict(one):
        written = re.search(r"^class \w+\((.*?)\):", inspect.getsource(one), re.MULTILINE)
        yield from _named(written[1] if written else "", inspect.getmodule(one))
    else:
        yield from (base for base in one.__mro__[1:] if base.__module__.startswith("gzoo."))


def _table(one: type, *, is_first: bool) -> str:
    about = (inspect.getdoc(one) or "").partition("\n")[0]
    rows = [
        f"| {', '.join(f'`{name}`' for name in names.split(', '))} | {_cell(meaning)} |"
        for names, meaning in keys(one).items()
    ]
    head = about if is_first else f"**{one.__name__}.** {about}"
    return "\n".join([head, "", "| key | meaning |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("->", "→")
