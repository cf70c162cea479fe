"""The command line. Each command is made from the signature and the docstring of the public function of its name.

Nothing about an option is written here: its name, type, default and help are those of the function's parameter. What a
command prints about a result is in `gzoo.cli.show`. Modules are imported when their command runs, so help is quick.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import sys
import time
import traceback
import types
import typing
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

import gzoo
from gzoo.cli import show
from gzoo.cli.screen import Screen
from gzoo.errors import GZooError, GZooWarning, InputError, suggestion

GROUPS = {
    "Start": ("demo", "campaigns", "tree"),
    "Prepare": ("simulate", "count", "mapping", "audit", "build", "union", "check", "leaks"),
    "Publish": ("access", "publish", "cite"),
    "Learn": ("train", "predict", "embed", "export", "augmentations"),
    "Judge": ("score", "compare", "recalibrate", "prioritize"),
    "Use": ("explore", "select", "similar", "outliers", "catalog", "match"),
}
LOADS_TORCH = frozenset({"train", "predict", "embed", "export", "augmentations"})
EPILOGUE = (
    "Exit codes: 0 done; 1 an error, or a check that failed; 2 a wrong command line; 130 interrupted. "
    "`gzoo access` has codes of its own. Start with: gzoo demo"
)


def main() -> None:
    """Run the command in `sys.argv`; a deliberate error becomes one message and its exit code."""
    if "--offline" in sys.argv[1:]:  # the Hub's client reads these when it is imported
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    screen = Screen()
    warnings.simplefilter("always", GZooWarning)
    warnings.showwarning = _shown_by(screen, warnings.showwarning)
    try:
        _refuse_unknown_command(sys.argv[1:], screen)
        sys.exit(application()(sys.argv[1:], result_action="return_value") or 0)
    except GZooError as error:
        if "--verbose" in sys.argv:
            traceback.print_exc()
        screen.error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        screen.say("Interrupted. Rerun the same command to resume.")
        sys.exit(130)
    except BrokenPipeError:  # whoever reads our output has enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if "--verbose" in sys.argv:
            traceback.print_exc()
        where = f": '{error.filename}'" if error.filename else ""
        screen.error(f"{error.strerror or error}{where}.")
        sys.exit(1)


def _refuse_unknown_command(words: Sequence[str], screen: Screen) -> None:
    """Exit if the first word is not a command: cyclopts would import all commands to say so."""
    verbs = [verb for group in GROUPS.values() for verb in group]
    if words and not words[0].startswith("-") and words[0] not in verbs:
        hint = suggestion(verbs, words[0], "Run `gzoo --help` to list the commands.")
        screen.error(str(GZooError(f"Unknown command: '{words[0]}'.", hint=hint)))
        sys.exit(2)


@cache
def application() -> App:
    """Return the application, whose commands are loaded when they are used."""
    app = App(
        name="gzoo",
        help="Datasets, models and evaluation for Galaxy Zoo vote counts.",
        version=f"gzoo {gzoo.__version__}",
        help_epilogue=EPILOGUE,
        help_format="markdown",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable="", negative_none=""),
    )
    for i, (title, verbs) in enumerate(GROUPS.items()):
        group = Group(title, sort_key=i)
        for j, verb in enumerate(verbs):
            app.command(f"{__name__}:command_{verb}", name=verb, group=group, help=summary(verb), sort_key=j)
    app.register_install_completion_command(name="--install-completion", help="Install completion for this shell.")
    return app


def __getattr__(name: str) -> Any:
    verb = name.removeprefix("command_")
    if name == verb or not any(verb in verbs for verbs in GROUPS.values()):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return command(verb)


def summary(verb: str) -> str:
    """Return the first line of a public function's docstring, without importing its module."""
    module = gzoo.HOME[verb].replace(".", "/")
    folder = resources.files("gzoo")
    path = folder / f"{module}.py"
    source = (path if path.is_file() else folder / module / "__init__.py").read_text("utf-8")
    found = re.search(rf'^def {verb}\(.*?"""(.*?)(?:\n|""")', source, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""


def command(verb: str) -> Callable[..., int]:
    """Return the function that cyclopts runs for a command.

    Args:
        verb: Name of a public function.

    Returns:
        A function with the parameters of the public one, less `progress`, more `as_json` where a command has facts to
        print. It returns the exit code.
    """
    if verb in LOADS_TORCH and {"--help", "-h", "--quiet"}.isdisjoint(sys.argv):
        Screen().say("Loading torch ...")
    if verb == "build":  # before polars and pyarrow are loaded, so that memory they no longer need is given back
        os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    function = getattr(gzoo, verb)
    own = inspect.signature(function, eval_str=True)
    text, meanings = _described(function, own)
    parameters = [_option(one, meanings.get(name, "")) for name, one in own.parameters.items() if name != "progress"]
    last = _last_of_several(own)
    if last:
        parameters = [_with_last(*parameters[:2]), *parameters[2:]]
    signature = inspect.Signature([*parameters, *show.OPTIONS.get(verb, ()), *show.OF_ALL])

    def run(*positional: Any, **given: Any) -> int:
        bound = signature.bind(*positional, **given)
        bound.apply_defaults()
        if last:
            positional = positional[0][:-1], positional[0][-1]
            bound.arguments |= dict(zip(own.parameters, positional, strict=False))
        is_follower = int(os.environ.get("RANK", "0")) > 0  # of torchrun: the first process reports for all
        is_quiet, is_verbose, _ = (bound.arguments.pop(name) for name in ("quiet", "verbose", "offline"))
        if is_quiet and is_verbose:
            raise InputError("--quiet and --verbose exclude each other.", hint="Omit one of them.")
        screen = Screen(bound.arguments.get("as_json", False), is_quiet)
        started = time.monotonic()
        named = {name: value for name, value in given.items() if name in own.parameters}
        if is_follower:
            function(*positional, **named)
            return 0
        with screen.progress() as bars, _warnings() as warned, _notices(screen):
            if "progress" in own.parameters:
                named["progress"] = bars.report
            result = function(*positional, **named)
        arguments = {**bound.arguments, "seconds": bars.seconds}
        if is_verbose:
            for stage, seconds in {**bars.seconds, "In total": time.monotonic() - started}.items():
                screen.say(f"{stage}: {seconds:.1f} s")
        if arguments.get("report"):
            screen.result(f"Wrote {arguments['report']}. Open it in a browser.")
        exit_code = int(getattr(show, verb)(result, arguments, screen) or 0)
        if screen.is_json:
            facts = result.to_dict()
            facts = {**facts, "warnings": [*dict.fromkeys([*facts.get("warnings", ()), *warned, *screen.warned])]}
            print(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False))
        return exit_code

    run.__name__, run.__doc__ = verb, text
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


def _described(function: Callable[..., Any], own: inspect.Signature) -> tuple[str, dict[str, str]]:
    """Return the text of a docstring in Google style, and the meaning of each argument."""
    text = inspect.getdoc(function) or ""
    sections = re.split(r"^(Args|Returns|Raises|Yields|Example|Examples|>>>.*):?\s*$", text, flags=re.MULTILINE)
    named = dict(zip(sections[1::2], sections[2::2], strict=False))
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", named.get("Args", ""), re.MULTILINE)
    options = {
        one.name.rstrip("_"): f"{'-' * min(len(one.name), 2)}{_spelled(one.name)}"
        for one in own.parameters.values()
        if one.kind is one.KEYWORD_ONLY
    }

    def joined(meaning: str) -> str:
        return re.sub(r"`(\w+)`", lambda one: f"`{options.get(one[1], one[1])}`", " ".join(meaning.split()))

    return sections[0].strip(), {name: joined(meaning) for name, meaning in found}


def _option(one: inspect.Parameter, meaning: str) -> inspect.Parameter:
    is_flag, typed = one.annotation is bool, _typed(one.annotation)
    is_repeated = one.kind is one.KEYWORD_ONLY and "list[" in str(typed)
    negative = f"--no-{_spelled(one.name)}" if is_flag and one.default is True else ""
    negative = "--public" if one.name == "private" else negative  # a third state, the Hub's default, is neither
    about = Parameter(
        name=f"{'-' * min(len(one.name), 2)}{_spelled(one.name)}" if one.kind is one.KEYWORD_ONLY else None,
        help=f"{meaning} Repeat the option for several." if is_repeated else meaning,
        negative=negative,
        show_default=None if not is_flag and one.default not in (None, (), one.empty) else False,
    )
    kind = one.POSITIONAL_ONLY if one.kind is one.POSITIONAL_OR_KEYWORD else one.kind
    return one.replace(kind=kind, annotation=Annotated[typed, about])


def _last_of_several(own: inspect.Signature) -> str:
    """Return the name of a positional argument after several that may be none at all, or "".

    The words of both are one list for the parser, which would otherwise leave none for the last.
    """
    positional = [one for one in own.parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    if len(positional) != 2:
        return ""
    kinds = typing.get_args(positional[0].annotation)
    is_optional = type(None) in kinds and any(typing.get_origin(one) is Sequence for one in kinds)
    return positional[1].name if is_optional else ""


def _with_last(several: inspect.Parameter, last: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter of a command for the words of two."""
    about = [one.annotation.__metadata__[0] for one in (several, last)]
    name = f"[{several.name.upper()}...] {last.name.upper()}"
    text = f"{several.name.upper()}: {about[0].help} {last.name.upper()}: {about[1].help}"
    return several.replace(annotation=Annotated[list[Path], Parameter(help=text, name=name)])


def _spelled(name: str) -> str:
    """Return the name of an option, less the final underscore of a name that Python reserves, such as `from_`."""
    return name.rstrip("_").replace("_", "-")


def _typed(annotation: Any) -> Any:
    """The type in which words of a command line are handed over: one path where a function takes paths and strings."""
    is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    kinds = typing.get_args(annotation) if is_union else (annotation,)
    several = [one for one in kinds if typing.get_origin(one) is Sequence]
    if several:
        chosen = list[_typed(typing.get_args(several[0])[0])]
    else:
        chosen = next(one for one in (Path, str, *kinds) if one in kinds)
    return chosen | None if type(None) in kinds else chosen


@contextmanager
def _warnings() -> Generator[list[str]]:
    """Yield the messages of our warnings that are shown until the block ends; none is shown twice."""
    warned: list[str] = []
    shown = warnings.showwarning

    def say(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, GZooWarning):
            if str(message) in warned:
                return
            warned.append(str(message))
        shown(message, category, *place, **more)

    warnings.showwarning = say
    try:
        yield warned
    finally:
        warnings.showwarning = shown


class _Notices(logging.Handler):
    """Writes what the package logs to the terminal."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.INFO)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage())


@contextmanager
def _notices(screen: Screen) -> Generator[None]:
    """Show what the package logs until the block ends."""
    logger, handler = logging.getLogger("gzoo"), _Notices(screen)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _shown_by(screen: Screen, show: Callable[..., None]) -> Callable[..., None]:
    """Return what shows a warning: ours on one line, without its place in the code."""

    def say(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, GZooWarning):
            screen.warn(str(message))
        else:
            show(message, category, *place, **more)

    return say
