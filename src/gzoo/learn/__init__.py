"""Training and prediction: the only place with torch. Needs the `learn` extra."""

from gzoo.errors import MissingExtraError

try:
    import lightning as _lightning
    import timm as _timm
    import torch as _torch
except ImportError as error:
    raise MissingExtraError(
        f"{error.name} is not installed.", "The `learn` extra.", "Type: pip install 'gzoo[learn]'"
    ) from error

del _lightning, _timm, _torch
