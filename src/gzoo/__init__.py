"""gzoo: crowd-labelled galaxy pictures as datasets, models and catalogues that scientists can trust.

Every verb is a function here and a command of the same name: see `gzoo --help` and GUIDE.md. Importing gzoo is quick;
what a verb needs is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gzoo.auditing import audit
    from gzoo.builder import build
    from gzoo.campaign import campaigns, tree
    from gzoo.checking import check
    from gzoo.citing import cite
    from gzoo.dataset import load, open_dataset
    from gzoo.demonstration import demo
    from gzoo.errors import GZooError
    from gzoo.hub import access
    from gzoo.leaking import leaks
    from gzoo.learn.augmentation import Augmentation, augmentation
    from gzoo.learn.loading import loader
    from gzoo.learn.prediction import predict
    from gzoo.learn.sheet import augmentations
    from gzoo.learn.training import train
    from gzoo.mappings import mapping
    from gzoo.publishing import publish
    from gzoo.scoring.choosing import next  # noqa: A004  the verb
    from gzoo.scoring.comparison import compare
    from gzoo.scoring.metrics import score
    from gzoo.scoring.posterior import combine
    from gzoo.scoring.recalibration import recalibrate
    from gzoo.simulator import simulate
    from gzoo.summaries import summary
    from gzoo.trees import Question, Tree
    from gzoo.uniting import union
    from gzoo.votes import Votes, read_votes
    from gzoo.zooniverse import count

__all__ = [
    "Augmentation",
    "GZooError",
    "Question",
    "Tree",
    "Votes",
    "access",
    "audit",
    "augmentation",
    "augmentations",
    "build",
    "campaigns",
    "check",
    "cite",
    "combine",
    "compare",
    "count",
    "demo",
    "leaks",
    "load",
    "loader",
    "mapping",
    "next",
    "open_dataset",
    "predict",
    "publish",
    "read_votes",
    "recalibrate",
    "score",
    "simulate",
    "summary",
    "train",
    "tree",
    "union",
]
__version__ = "0.1.0"

_HOME = {
    "Augmentation": "learn.augmentation",
    "GZooError": "errors",
    "Question": "trees",
    "Tree": "trees",
    "Votes": "votes",
    "access": "hub",
    "audit": "auditing",
    "augmentation": "learn.augmentation",
    "augmentations": "learn.sheet",
    "build": "builder",
    "campaigns": "campaign",
    "check": "checking",
    "cite": "citing",
    "combine": "scoring.posterior",
    "compare": "scoring.comparison",
    "count": "zooniverse",
    "demo": "demonstration",
    "leaks": "leaking",
    "load": "dataset",
    "loader": "learn.loading",
    "mapping": "mappings",
    "next": "scoring.choosing",
    "open_dataset": "dataset",
    "predict": "learn.prediction",
    "publish": "publishing",
    "read_votes": "votes",
    "recalibrate": "scoring.recalibration",
    "score": "scoring.metrics",
    "simulate": "simulator",
    "summary": "summaries",
    "train": "learn.training",
    "tree": "campaign",
    "union": "uniting",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(import_module(f"gzoo.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in {"scoring", "learn", "simulator", "sky"}:
        return import_module(f"gzoo.{name}")
    raise AttributeError(f"module 'gzoo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
