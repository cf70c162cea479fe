"""Commands in Markdown: those of fenced `console` blocks, as a reader copies them to a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

PROMPT = "$ "
FENCE = re.compile(r"^ *```(?P<language>.*)$")


def commands(text: str) -> Iterator[list[str]]:
    r"""Yield the words of each command in the `console` blocks of a page, in order.

    A command is a line after a prompt, and the lines after it while they end in a backslash. Other lines are what the
    command printed. What follows # is a comment.

    >>> list(commands("```console\n$ gzoo tree gz2 \\\n    --format svg  # draw it\nprinted\n```\n"))
    [['gzoo', 'tree', 'gz2', '--format', 'svg']]
    """
    for line in joined(text):
        if line.startswith(PROMPT):
            yield shlex.split(line.removeprefix(PROMPT), comments=True)


def joined(text: str) -> Iterator[str]:
    """Yield the lines of the `console` blocks; lines that end in a backslash together with the next."""
    language, begun = "", ""
    for line in text.splitlines():
        fence = FENCE.match(line)
        if fence:
            language = "" if language else fence["language"] or "text"
        elif language == "console":
            begun += line.strip()
            if begun.endswith("\\"):
                begun = begun.removesuffix("\\")
                continue
            yield begun
            begun = ""


def mentioned(text: str) -> Iterator[list[str]]:
    r"""Yield the words of each command that a page names: in `console` blocks, and between backticks in sentences.

    >>> list(mentioned("Run `gzoo tree gz2 --format svg` first, then `gzoo train`."))
    [['gzoo', 'tree', 'gz2', '--format', 'svg'], ['gzoo', 'train']]
    """
    yield from (words for words in commands(text) if words[0] == "gzoo")
    sentences = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`(gzoo [^`]+)`", sentences):
        yield code.replace('"', "").replace("'", "").split()
