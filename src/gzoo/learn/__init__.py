"""Training and prediction. Only this package imports torch; it needs the `learn` extra.

For models of one's own: `gzoo.loader` makes batches, `dirichlet_multinomial_nll` is the loss, `Model` the model that
`gzoo.train` trains, and `gzoo.write_predictions` writes what `gzoo.score` reads. `examples/own_model.py` uses them in a
plain loop and in Lightning's.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gzoo.errors import MissingExtraError

if TYPE_CHECKING:
    from gzoo.learn.losses import asked_questions, dirichlet_multinomial_nll
    from gzoo.learn.model import Design, Model, open_run

__all__ = ["Design", "Model", "asked_questions", "dirichlet_multinomial_nll", "open_run"]

for _name in ("timm", "torch", "torchvision", "safetensors"):
    if find_spec(_name) is None:  # an import would take seconds
        raise MissingExtraError(
            f"Package '{_name}' is not installed.", hint="Install the `learn` extra: pip install 'gzoo[learn]'."
        )


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'gzoo.learn' has no attribute '{name}'")
    home = "losses" if name in {"asked_questions", "dirichlet_multinomial_nll"} else "model"
    return getattr(import_module(f"gzoo.learn.{home}"), name)
