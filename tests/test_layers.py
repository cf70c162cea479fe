"""What may import what, and that the public surface is one thing in Python and on the command line."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import gzoo
from gzoo import cli

SOURCE = Path(gzoo.__file__).parent
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("trees",),
    ("campaign",),
    ("columns", "store", "tables", "wording"),
    ("citing", "schema", "votes", "images", "pages", "sky", "sources", "splits", "hub", "gates"),
    ("indexing",),
    ("card", "dataset", "clicks", "summaries"),
    ("croissant", "shards", "volunteers"),
    ("cluster", "finishing", "zooniverse"),
    ("auditing", "leaking", "mappings"),
    ("builder", "simulator", "scoring", "uniting"),
    ("checking", "learn"),
    ("demonstration", "publishing"),
    ("__init__",),
    ("cli",),
)
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}

ONLY_IN_LEARN = {"torch", "torchvision", "lightning", "safetensors"}
NETWORK = {"huggingface_hub", "requests", "httpx", "urllib", "socket", "http", "aiohttp", "fsspec"}

Import = tuple[str, int]  # dotted name, line


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top(dotted: str) -> str:
    """The part of gzoo that a module belongs to: gzoo.learn.model -> learn, gzoo -> __init__."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.orelse:
            yield from without_type_checking(child)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from without_type_checking(child)


MODULES = {module_of(path) for path in files()}


def imports(path: Path) -> list[Import]:
    """All imports that run, those inside functions too; `from gzoo import store` counts as gzoo.store."""
    found: list[Import] = []
    for node in without_type_checking(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            base = node.module or ""
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.append((whole if whole in MODULES or base == "datasets" else base, node.lineno))
    return found


def test_each_module_has_its_layer() -> None:
    assert {top(module) for module in MODULES} == set(RANK)


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_imports_point_down(path: Path) -> None:
    mine = top(module_of(path))
    for name, line in imports(path):
        if name.split(".")[0] != "gzoo" or top(name) == mine:
            continue
        assert RANK[top(name)] < RANK[mine], f"{path.name}:{line}: {mine} imports {name}, which stands above it"


def test_no_cycle_among_modules() -> None:
    """Inside a layer too: gzoo.learn.model and gzoo.learn.training, card and dataset."""
    edges = {
        module_of(path): {name for name, _ in imports(path) if name in MODULES and name != "gzoo"} for path in files()
    }
    # a page's module is imported only when a page is wanted, and needs what its verb's module defines
    edges["gzoo.scoring.metrics"].discard("gzoo.scoring.report")
    edges["gzoo.scoring.comparison"].discard("gzoo.scoring.comparison_report")
    done: set[str] = set()
    while len(done) < len(edges):
        ready = {module for module, needs in edges.items() if module not in done and needs - {module} <= done}
        assert ready, f"a cycle among {sorted(set(edges) - done)}"
        done |= ready


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_heavy_and_network_libraries_stay_in_their_place(path: Path) -> None:
    mine = top(module_of(path))
    for name, line in imports(path):
        library = name.split(".")[0]
        where = f"{path.name}:{line}: {name}"
        if library in ONLY_IN_LEARN:
            assert mine == "learn", where
        if library == "timm":
            assert mine in {"learn", "hub"}, where
        if library in NETWORK:
            assert mine == "hub", where


def test_hub_imports_the_slow_libraries_only_when_called() -> None:
    tree = ast.parse((SOURCE / "hub.py").read_text("utf-8"))
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not {ast.unparse(node) for node in at_import} & {"import timm", "import datasets", "import huggingface_hub"}


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_datasets_are_loaded_by_name_only_in_hub(path: Path) -> None:
    """Elsewhere load_dataset gets a local path, spelled str(...), or the name of a file format."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("datasets.load_dataset"):
            continue
        first = ast.unparse(node.args[0])
        is_local = first.startswith("str(") or first in {"'parquet'", "'imagefolder'"}
        assert top(module_of(path)) == "hub" or is_local, f"{path.name}:{node.lineno}: load_dataset({first})"


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_only_the_commands_print(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not calls or module_of(path) == "gzoo.cli", f"{path.name}: print in lines {calls}"


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


# Parameters of a function that its command leaves at their defaults.
VERBS = (
    "access",
    "audit",
    "augmentations",
    "build",
    "check",
    "cite",
    "combine",
    "compare",
    "count",
    "demo",
    "leaks",
    "mapping",
    "next",
    "predict",
    "publish",
    "recalibrate",
    "score",
    "simulate",
    "train",
    "union",
)


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_has_the_parameters_of_its_function(verb: str) -> None:
    function = set(inspect.signature(getattr(gzoo, verb)).parameters)
    command = set(inspect.signature(getattr(cli, verb)).parameters)
    assert command - function <= {"as_json"}
    assert function - command - {"progress"} == set()


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_has_the_defaults_of_its_function(verb: str) -> None:
    function = inspect.signature(getattr(gzoo, verb)).parameters
    command = inspect.signature(getattr(cli, verb)).parameters
    for name in set(function) & set(command):
        if function[name].default is not inspect.Parameter.empty:
            said = command[name].default
            assert (str(said) if isinstance(said, Path) else said) == function[name].default, name


def test_each_verb_is_a_command_and_a_function() -> None:
    commands = set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    assert commands == {*VERBS, "campaigns", "tree"}
    assert commands <= set(gzoo.__all__)
    for verb in commands:
        module = importlib.import_module(getattr(gzoo, verb).__module__)
        assert getattr(module, verb) is getattr(gzoo, verb)
