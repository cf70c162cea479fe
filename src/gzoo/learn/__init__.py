"""Training and prediction. Only this package imports torch; it needs the `learn` extra."""

from importlib.util import find_spec

from gzoo.errors import MissingExtraError

for _name in ("timm", "torch", "torchvision", "safetensors"):
    if find_spec(_name) is None:  # an import would take seconds
        raise MissingExtraError(
            f"Package '{_name}' is not installed.", hint="Install the `learn` extra: pip install 'gzoo[learn]'."
        )
