"""Everything that users meet by name is explained on a page of the reference: lists from the code and from pages."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import gzoo
from gzoo import cli, errors
from gzoo.catalogs.crossmatch import FATES
from gzoo.errors import GZooError
from gzoo.files import SPLITS
from gzoo.hub.permissions import EXIT_CODES
from gzoo.votes.summary import PUBLISHED

DOCS = Path(__file__).parents[2] / "docs"
VERBS = [verb for verbs in cli.GROUPS.values() for verb in verbs]
MODULES = ("gzoo.learn", "gzoo.scoring", "gzoo.sky")
DIRECTIVE = re.compile(r"auto(class|function):: (\S+)")


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """Path below `docs/reference` -> text, with the docstrings that Sphinx puts in."""
    sys.path.insert(0, str(DOCS / "extensions"))
    try:
        made = importlib.import_module("gzoo_pages").pages()
    finally:
        sys.path.pop(0)
    written = {path.name: path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md")}
    found = written | {path: text for path, text in made if path.endswith(".md")}
    return {path: text + "".join(map(described, DIRECTIVE.findall(text))) for path, text in found.items()}


def described(directive: tuple[str, str]) -> str:
    kind, dotted = directive
    module, _, name = dotted.rpartition(".")
    thing = getattr(importlib.import_module(module), name)
    text = f"\n{inspect.getdoc(thing) or ''}"
    if kind == "class":
        members = ((name, one) for name, one in vars(thing).items() if not name.startswith("_"))
        text += "".join(f"\n{name}: {inspect.getdoc(one) or ''}" for name, one in members)
    return text


def is_named(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w])", text) is not None


def test_public_names_are_documented(pages: dict[str, str]) -> None:
    named = {dotted for text in pages.values() for _, dotted in DIRECTIVE.findall(text)}
    public = {f"gzoo.{name}" for name in gzoo.__all__}
    for module in MODULES:
        listed = importlib.import_module(module)
        objects = {name: getattr(listed, name) for name in listed.__all__ if name not in gzoo.__all__}
        public |= {
            f"{module}.{name}"
            for name, one in objects.items()
            if inspect.isfunction(one) or inspect.isclass(one)  # others are types of arguments and constants
        }
    assert public - named == set()


@pytest.mark.parametrize("verb", VERBS)
def test_commands_options_and_arguments_are_documented(verb: str, pages: dict[str, str]) -> None:
    page = pages[f"commands/{verb}.md"]
    assert f"gzoo {verb}" in pages["commands/index.md"]
    for name, one in inspect.signature(cli.command(verb)).parameters.items():
        about = one.annotation.__metadata__[0]
        options = [*(about.name or ()), *(about.negative or ())]
        if one.kind is one.KEYWORD_ONLY and not about.name:
            options.append(f"--{name.replace('_', '-')}")
        for option in options:
            missing = [word for word in option.split() if not is_named(word, page)]
            assert not missing, (verb, option)
    documented = inspect.getdoc(getattr(gzoo, verb)) or ""
    for name in inspect.signature(getattr(gzoo, verb)).parameters:
        assert re.search(rf"^ +{name}: ", documented, re.MULTILINE), f"{verb}: {name}"


def test_exit_codes_and_errors_are_documented(pages: dict[str, str]) -> None:
    page = pages["exit-codes.md"]
    for state, code in EXIT_CODES.items():
        assert f"| {code} | `{state}` |" in page
    for code in (0, 1, 2, 130):
        assert f"| {code} |" in page
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, GZooError)]
    assert [one.__name__ for one in classes if not is_named(one.__name__, pages["errors.md"])] == []


# What commands print and write


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The JSON of each command, by name, and the folder with all that they wrote."""
    folder, found = tmp_path_factory.mktemp("reference"), dict[str, Any]()
    small = {"encoder": "mobilenetv3_small_050", "size": 32, "epochs": 1}

    def keep(name: str, result: Any) -> None:
        found[name] = result.to_dict()

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.GZooWarning)
        patch.chdir(folder)
        for seed, name in ((1, "sky"), (2, "other")):
            keep("simulate", gzoo.simulate("gz2", n_galaxies=100, seed=seed, workers=1, out=name))
        export = {"classifications": "sky/classifications.csv", "workflows": "sky/workflows.csv"}
        keep("campaigns", gzoo.campaigns())
        keep("access", gzoo.access("gz2"))
        keep("mapping", gzoo.mapping("sky/votes.parquet", "gz2"))
        keep("mapping of an export", gzoo.mapping(export["classifications"], "gz2", workflows=export["workflows"]))
        keep("audit", gzoo.audit("sky/votes.parquet", "gz2"))
        options: dict[str, Any] = {"volunteers": "volunteers.csv", "weights": True}
        keep("count", gzoo.count("gz2", **export, out="counted.parquet", **options))
        keep("build of an export", gzoo.build("gz2", **export, images="sky/images", out="counted", weights=True))
        for source, out in (("sky", "galaxies"), ("other", "others")):
            keep("build", gzoo.build("gz2", votes=f"{source}/votes.parquet", images=f"{source}/images", out=out))
        labels = pl.read_parquet("sky/votes.parquet").select("id_str").with_row_index("n")
        labels.select("id_str", kind=pl.when(pl.col("n") % 3 == 0).then(pl.lit("a")).otherwise(pl.lit("b")),
                      size=pl.col("n") / 7 + 0.1).write_csv("labels.csv")  # fmt: skip
        keep("check", gzoo.check("galaxies"))
        keep("leaks", gzoo.leaks(["galaxies", "counted"], out="leaks.parquet"))
        keep("union", gzoo.union(["galaxies", "others"], out="merged"))
        keep("train", gzoo.train("galaxies", out="run", **small))
        keep("train on a union", gzoo.train("merged", out="run_of_union", probe=False, **small))
        keep("train of a head", gzoo.train("galaxies", out="run_of_head", from_="run", learn="head"))
        keep("export", gzoo.export("run", out="encoder"))
        keep("predict", gzoo.predict(["run"], "galaxies", out="p.parquet"))
        keep("embed", gzoo.embed("run", "galaxies", out="embeddings.parquet", coordinates="pca"))
        examples = pl.read_parquet("embeddings.parquet", columns=["id_str"])["id_str"].to_list()
        keep("similar", gzoo.similar("embeddings.parquet", examples[:1], k=5, out="one.csv", sheet="one.html"))
        several = gzoo.similar("embeddings.parquet", examples[:3], unlike=examples[3:5], k=5, out="several.parquet")
        keep("similar to several", several)
        keep("outliers", gzoo.outliers("embeddings.parquet", k=5, out="odd.parquet", sheet="odd.html"))
        gzoo.predict(["run"], "galaxies", split="validation", out="validation.parquet")
        for target in ("kind", "size"):
            gzoo.train("galaxies", target=target, labels="labels.csv", out=f"run_{target}", probe=False, **small)
            gzoo.predict([f"run_{target}"], "galaxies", out=f"p_{target}.parquet")
            keep(f"score of {target}", gzoo.score(f"p_{target}.parquet", "galaxies", labels="labels.csv"))
        keep("score", gzoo.score("p.parquet", "galaxies", slices=["summary"]))
        keep("score of labels", gzoo.score("p.parquet", "galaxies", label="summary"))
        for protocol in ("gz-evo", "decals-confident"):
            keep(f"score {protocol}", gzoo.score("p.parquet", "galaxies", protocol=protocol))
        keep("recalibrate", gzoo.recalibrate("p.parquet", "galaxies", validation="validation.parquet", out="r.parquet"))
        keep("compare", gzoo.compare(["p.parquet", "r.parquet"], "galaxies"))
        for criterion in ("information", "error"):
            out = f"next_{criterion}.parquet"
            keep("prioritize", gzoo.prioritize(["p.parquet"], "galaxies", criterion=criterion, out=out))
        condition = "smooth-or-featured-gz2.smooth.posterior > 0.5"
        keep("select", gzoo.select(["p.parquet"], "galaxies", where=condition, out="selected.parquet"))
        keep("catalog", gzoo.catalog(["p.parquet"], "galaxies", out="catalogue.parquet"))
        keep("match", gzoo.match("galaxies", "catalogue.parquet", out="matches.parquet"))
        keep("demo", gzoo.demo(out="demo", n_galaxies=100, workers=1, **small))
    return json.loads(json.dumps(found)), folder


def names_in_data() -> set[str]:
    """Names of questions, answers, campaigns and the like, which are keys and columns because the data have them."""
    found: set[str] = set()
    for name in ("gz2", "gz_evo"):
        tree = gzoo.tree(name)
        found |= {*tree.columns, *(question.name for question in tree.questions)}
    return found | {one.replace("-", "_") for one in found}


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from keys(one)
    elif isinstance(value, list):
        for one in value:
            yield from keys(one)


@pytest.mark.slow
def test_json_keys_are_documented(work: tuple[dict[str, Any], Path], pages: dict[str, str]) -> None:
    known = {*names_in_data(), *SPLITS, *FATES, *PUBLISHED, "a", "b", "gz2_simulated", "p", "r"}
    text = pages["json.md"]
    missing = {
        (command, key)
        for command, found in work[0].items()
        for key in keys(found)
        if re.fullmatch(r"[a-z]\w*", key) and key not in known and not is_named(key, text)
    }
    assert not missing, sorted(missing)


@pytest.mark.slow
def test_columns_of_files_are_documented(work: tuple[dict[str, Any], Path], pages: dict[str, str]) -> None:
    text = "".join(pages[name] for name in ("columns.md", "tables.md", "other-files.md", "dataset-folder.md"))
    data = sorted(names_in_data(), key=len, reverse=True)
    missing: set[tuple[str, str]] = set()
    for path in sorted(work[1].rglob("*")):
        if path.suffix == ".parquet":
            columns = list(pl.read_parquet_schema(path))
        elif path.suffix == ".csv" and path.name not in {"classifications.csv", "workflows.csv", "labels.csv"}:
            columns = path.read_text("utf-8").partition("\n")[0].split(",")
        else:
            continue
        for column in columns:
            owner = next((one for one in data if column.startswith(one)), "")
            rest = column.removeprefix(owner)
            patterns = [f"{{{kind}}}{rest}" for kind in ("column", "question")] if owner else [column]
            patterns.append(re.sub("^(kind|size)_", "{target}_", column).replace("_a_", "_{class}_"))
            patterns.append(patterns[-1].replace("_b_", "_{class}_"))
            is_value = rest.startswith(".")  # a value of an expression, as the user wrote it
            if not is_value and not any(f"`{one}`" in text or is_named(one, text) for one in patterns):
                missing.add((path.relative_to(work[1]).as_posix(), column))
    assert not missing, sorted(missing)
