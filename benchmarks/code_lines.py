"""Count the lines of code in each part of gzoo, without blank lines, comments and docstrings.

python benchmarks/code_lines.py [FOLDER]      (default: src/gzoo)
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import Counter
from inspect import cleandoc
from pathlib import Path

NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def n_code_lines(source: str) -> int:
    """Return the number of lines that contain code."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            docstrings |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def main() -> None:
    text = cleandoc(__doc__ or "")
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parent.parent / "src" / "gzoo"
    parser.add_argument("folder", nargs="?", type=Path, default=default, help="folder to count (default: src/gzoo)")
    folder = parser.parse_args().folder
    n_of: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        n_of[parts[0] if len(parts) > 1 else "(top level)"] += n_code_lines(path.read_text("utf-8"))
    for name, n in sorted(n_of.items()):
        print(f"{name:<14}{n:>7,}")
    print(f"{'all':<14}{sum(n_of.values()):>7,}")


if __name__ == "__main__":
    main()
