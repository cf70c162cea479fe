"""gzoo: crowd-labelled galaxy images as datasets, models and catalogues that scientists can trust.

Every verb is a function here and a command of the same name: see `gzoo --help` and `docs/`. Importing gzoo is quick;
what a verb needs is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gzoo.catalogs.catalog import catalog
    from gzoo.catalogs.crossmatch import match
    from gzoo.catalogs.selection import select
    from gzoo.dataset.audit import audit
    from gzoo.dataset.build import build
    from gzoo.dataset.check import check
    from gzoo.dataset.leakage import leaks
    from gzoo.dataset.merge import union
    from gzoo.dataset.open import load, open_dataset
    from gzoo.demonstration import demo
    from gzoo.embeddings.outliers import outliers
    from gzoo.embeddings.similarity import similar
    from gzoo.embeddings.table import open_embeddings
    from gzoo.errors import GZooError
    from gzoo.explorer import explore
    from gzoo.hub import access
    from gzoo.learn.augmentation import Augmentation, augmentation
    from gzoo.learn.contact_sheet import augmentations
    from gzoo.learn.embedding import embed
    from gzoo.learn.export import export
    from gzoo.learn.loader import loader
    from gzoo.learn.prediction import predict
    from gzoo.learn.training import train
    from gzoo.publication import publish
    from gzoo.scoring.acquisition import prioritize
    from gzoo.scoring.comparison import compare
    from gzoo.scoring.prediction_files import write_predictions
    from gzoo.scoring.recalibration import recalibrate
    from gzoo.scoring.scores import score
    from gzoo.simulator import simulate
    from gzoo.trees.campaign import Campaign, campaign, campaigns, tree
    from gzoo.trees.cite import cite
    from gzoo.trees.tree import Question, Tree
    from gzoo.votes.reading import read_votes
    from gzoo.votes.summary import summary
    from gzoo.votes.votes import Votes
    from gzoo.zooniverse import count
    from gzoo.zooniverse.mapping import mapping

__all__ = [
    "Augmentation",
    "Campaign",
    "GZooError",
    "Question",
    "Tree",
    "Votes",
    "access",
    "audit",
    "augmentation",
    "augmentations",
    "build",
    "campaign",
    "campaigns",
    "catalog",
    "check",
    "cite",
    "compare",
    "count",
    "demo",
    "embed",
    "explore",
    "export",
    "leaks",
    "load",
    "loader",
    "mapping",
    "match",
    "open_dataset",
    "open_embeddings",
    "outliers",
    "predict",
    "prioritize",
    "publish",
    "read_votes",
    "recalibrate",
    "score",
    "select",
    "similar",
    "simulate",
    "summary",
    "train",
    "tree",
    "union",
    "write_predictions",
]
__version__ = "0.1.0"

HOME = {
    "Augmentation": "learn.augmentation",
    "Campaign": "trees.campaign",
    "GZooError": "errors",
    "Question": "trees.tree",
    "Tree": "trees.tree",
    "Votes": "votes.votes",
    "access": "hub.permissions",
    "audit": "dataset.audit",
    "augmentation": "learn.augmentation",
    "augmentations": "learn.contact_sheet",
    "build": "dataset.build",
    "campaign": "trees.campaign",
    "campaigns": "trees.campaign",
    "catalog": "catalogs.catalog",
    "check": "dataset.check",
    "cite": "trees.cite",
    "compare": "scoring.comparison",
    "count": "zooniverse.counting",
    "demo": "demonstration",
    "embed": "learn.embedding",
    "explore": "explorer",
    "export": "learn.export",
    "leaks": "dataset.leakage",
    "load": "dataset.open",
    "loader": "learn.loader",
    "mapping": "zooniverse.mapping",
    "match": "catalogs.crossmatch",
    "open_dataset": "dataset.open",
    "open_embeddings": "embeddings.table",
    "outliers": "embeddings.outliers",
    "predict": "learn.prediction",
    "prioritize": "scoring.acquisition",
    "publish": "publication",
    "read_votes": "votes.reading",
    "recalibrate": "scoring.recalibration",
    "score": "scoring.scores",
    "select": "catalogs.selection",
    "similar": "embeddings.similarity",
    "simulate": "simulator",
    "summary": "votes.summary",
    "train": "learn.training",
    "tree": "trees.campaign",
    "union": "dataset.merge",
    "write_predictions": "scoring.prediction_files",
}


def __getattr__(name: str) -> object:
    if name in HOME:
        value = getattr(import_module(f"gzoo.{HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in {"scoring", "learn", "simulator", "sky"}:
        return import_module(f"gzoo.{name}")
    raise AttributeError(f"module 'gzoo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
