"""One term for each concept, and one shape for errors, in everything that people read."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import gzoo
from gzoo import errors

ROOT = Path(gzoo.__file__).parents[2]
SOURCES = sorted(
    [path for path in (ROOT / "src").rglob("*") if path.suffix in {".py", ".jinja", ".toml"}]
    + list((ROOT / "benchmarks").glob("*.py"))
)
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

# pattern -> what to write instead
BANNED = {
    r"\bmend\w*": "fix",
    r"\banew\b": "again",
    r"\bbears?\b": "has",
    r"\bleave away\b|\bleft away\b": "omit",
    r"\bfor want of\b": "because of",
    r"\bspeaks? against\b": "contradicts",
    r"\bneed be\b": "if needed",
    r"\bshall\b": "must",
    r"\bMind:": "Warning:",
    r"\b(is|are|was|were) no (?!longer\b|more\b)": "is not a, no ... found",
    r"\b[Pp]ictur\w+": "image",
    r"\b([Pp]eople|[Pp]ersons?)\b": "volunteers",
    r"\bclick\w*": "classification, annotation",
    r"\b[Rr]obots?\b": "bot",
    r"\b(the|an?|each|of|whose|their|expected|true|mean|same|largest|smallest) shares?\b": "fraction",
    r"\bshares? of\b|\b(voted|predicted) shares?\b": "fraction",
    r"\b[Ss]ides? of (the|a) split|\btwo sides\b|\bsame side\b|\bother side\b": "split",
    r"\bskill\b": "gain",
    r"\blog scores?\b": "log-likelihood",
    r"\b[Uu]nit(e|es|ed|ing) (data|camp|two|several|them|all)": "merge",
    r"\btold\b": "reported",
    r"\b(too|as|how|not) sure\b": "overconfident, uncertainty",
    r"\bchances? of being asked\b": "proportion of volunteers asked",
    r"\bgates?\b": "parent answers",
}
# A word of the list may be quoted: `column`, 'value'. A name such as gz_picture is one word to the pattern.
QUOTED = re.compile(r"``[^`]*``|`[^`\n]*`|(?<!\w)'[^'\n]{1,60}'(?!\w)|^\s*(?:>>>|\.\.\.).*$|https?://\S+", re.MULTILINE)

HINT_VERBS = frozenset(
    """
    Add Adjust Apply Ask Build Check Choose Close Combine Compare Convert Copy Correct Create Crop Decrease Delete Did
    Download Enter Export Finish Fix Free Give Increase Install List Load Log Lower Make Merge Move Name Omit Open Pass
    Pin Predict Publish Put Raise Read Rebuild Recreate Reduce Remove Rename Replace Report Request Rerun Reset Restart
    Retrain Retry Rewrite Run Save Score See Select Send Set Simulate Sort Split Start Stop Store Train Try Unset Update
    Upgrade Use Verify Wait Write
    """.split()  # noqa: SIM905
)
FAMILY = {
    name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, errors.GZooError)
}
PLACEHOLDER = "{}"


def is_prose(text: str) -> bool:
    return " " in text.strip()


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of all that people may read in a file."""
    source = path.read_text("utf-8")
    if path.suffix != ".py":
        text = re.sub(r"\{[{%#].*?[}%#]\}|<style.*?</style>|<[^>]*>", "", source, flags=re.DOTALL)
        if path.suffix == ".md":
            text = re.sub(
                r"^```.*?^```", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE
            )
        yield from enumerate(text.split("\n"), 1)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_prose(node.value):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_terms(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: '{match[0]}' (write: {instead}) in: {text.strip()[:90]!r}"
        for line, text in texts_of(path)
        for pattern, instead in BANNED.items()
        if (match := re.search(pattern, QUOTED.sub(" ", text)))
    ]
    assert not found, "\n" + "\n".join(found)


def said(node: ast.expr) -> str | None:
    """A message as far as the source shows it, with {} for values; None where it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values)  # type: ignore[misc]
    if isinstance(node, ast.BinOp):
        both = said(node.left), said(node.right)
        return None if None in both else "".join(both)  # type: ignore[arg-type]
    if isinstance(node, ast.IfExp):
        return said(node.body)
    return None


def errors_of(path: Path) -> Iterator[tuple[int, list[str | None]]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FAMILY:
            parts: dict[str, ast.expr] = dict(zip(("message", "expected", "hint"), node.args, strict=False))
            parts |= {word.arg: word.value for word in node.keywords if word.arg}
            yield node.lineno, [said(parts[name]) if name in parts else "" for name in ("message", "expected", "hint")]


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.suffix == ".py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_errors_have_one_shape(path: Path) -> None:
    wrong: list[str] = []
    for line, (message, expected, hint) in errors_of(path):
        where = f"{path.relative_to(ROOT)}:{line}: "
        if message is not None and not message.endswith((".", "?", PLACEHOLDER)):
            wrong.append(f"{where}the message is not a sentence: {message!r}")
        if message is not None and len(message.split()) < 3:
            wrong.append(f"{where}the message is too short: {message!r}")
        if expected:
            if not expected.endswith((".", PLACEHOLDER)):
                wrong.append(f"{where}`expected` does not end with a full stop: {expected!r}")
            if re.match(r"Expected|An? |The |One |At |No |Some\b", expected):
                wrong.append(f"{where}`expected` does not continue 'Expected ...': {expected!r}")
        if hint:
            if hint.split()[0] not in HINT_VERBS:
                wrong.append(f"{where}the hint does not start with a verb of the list: {hint!r}")
            if len(hint.split()) < 3:
                wrong.append(f"{where}the hint is too short to act on: {hint!r}")
    assert not wrong, "\n" + "\n".join(wrong)
