"""The public surface: one thing in Python and on the command line, and quick to import."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import gzoo
from gzoo import cli

SOURCE = Path(gzoo.__file__).parent


def sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top(dotted: str) -> str:
    """The part of gzoo that a module belongs to: gzoo.learn.model -> learn, gzoo -> __init__."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_datasets_are_loaded_by_name_only_in_hub(path: Path) -> None:
    """Elsewhere load_dataset gets a local path, spelled str(...), or the name of a file format."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("datasets.load_dataset"):
            continue
        first = ast.unparse(node.args[0])
        is_local = first.startswith("str(") or first in {"'parquet'", "'imagefolder'"}
        assert top(module_of(path)) == "hub" or is_local, f"{path.name}:{node.lineno}: load_dataset({first})"


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_only_the_commands_print(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not calls or module_of(path).startswith("gzoo.cli"), f"{path.name}: print in lines {calls}"


def test_public_names_are_sorted_and_resolve() -> None:
    assert gzoo.__all__ == sorted(gzoo.__all__)
    for name in gzoo.__all__:
        thing = getattr(gzoo, name)
        assert thing.__module__.split(".")[0] == "gzoo"
        assert thing.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = gzoo.nonsense


def test_no_module_bears_the_name_of_a_public_function() -> None:
    """`import gzoo.tree` would otherwise hide gzoo.tree()."""
    assert not {module.name for module in pkgutil.iter_modules(gzoo.__path__)} & set(gzoo.__all__)


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys, json\nprint('MODULES', json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return set(json.loads(done.stdout.rpartition("MODULES ")[2]))


def test_importing_gzoo_is_quick() -> None:
    heavy = {"torch", "lightning", "timm", "datasets", "polars", "pyarrow", "scipy", "huggingface_hub"}
    assert not loaded_after("import gzoo") & heavy


def test_help_is_quick() -> None:
    code = """
import sys
sys.argv = ["gzoo", "--help"]
from gzoo.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not loaded_after(code) & {"torch", "lightning", "timm", "datasets", "polars", "pyarrow", "scipy"}


VERBS = sorted(verb for verbs in cli.GROUPS.values() for verb in verbs)


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_has_the_parameters_and_defaults_of_its_function(verb: str) -> None:
    function = inspect.signature(getattr(gzoo, verb)).parameters
    command = inspect.signature(cli.command(verb)).parameters
    assert set(command) - set(function) <= {"as_json", "format", "offline", "quiet", "verbose"}
    # after files that may be none at all, the last word is the dataset
    assert set(function) - set(command) <= ({"progress", "dataset"} if verb in {"catalog", "select"} else {"progress"})
    for name in set(function) & set(command):
        assert command[name].default == function[name].default, name


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_help(verb: str) -> None:
    assert cli.summary(verb) == (inspect.getdoc(getattr(gzoo, verb)) or "").partition("\n")[0]
    assert len(cli.summary(verb)) <= 70
    for name, one in inspect.signature(cli.command(verb)).parameters.items():
        text = one.annotation.__metadata__[0].help
        assert text, f"{verb}: {name} has no help"
        assert text[0].isupper() or text[0] in '`"', f"{verb}: {name}: {text}"
        assert text.endswith("."), f"{verb}: {name}: {text}"


def test_each_verb_is_a_command_and_a_function() -> None:
    assert set(VERBS) <= set(gzoo.__all__)
    for verb in VERBS:
        module = importlib.import_module(getattr(gzoo, verb).__module__)
        assert getattr(module, verb) is getattr(gzoo, verb)
        assert hasattr(cli.show, verb)


def test_an_unknown_command_is_refused_at_once() -> None:
    code = """
import sys
sys.argv = ["gzoo", "buidl"]
from gzoo.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 2, end.code
"""
    assert not loaded_after(code) & {"torch", "polars", "datasets"}
