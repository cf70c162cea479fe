"""Training and prediction: the only place with torch. Needs the `learn` extra."""

from importlib.util import find_spec

from gzoo.errors import MissingExtraError

for _name in (
    "lightning",
    "timm",
    "torch",
    "torchvision",
    "safetensors",
):  # looked for, not imported: that takes seconds
    if find_spec(_name) is None:
        raise MissingExtraError(f"{_name} is not installed.", "The `learn` extra.", "Type: pip install 'gzoo[learn]'")
