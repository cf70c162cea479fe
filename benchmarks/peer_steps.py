"""What the peers do, each step a process of its own in their environment; see `measuring.py`.

Needs zoobot and galaxy-datasets (`benchmarks/peers.txt`), and nothing of gzoo. Rates are of a second pass, when workers
run already and files are known: the best that a long epoch can come to.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")


def _rows(parquet: str, cache: str, n: int | None = None) -> Any:
    """The rows of a Parquet file as `datasets` has them; converted to its own format on the first call only."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files={"train": parquet}, split="train", cache_dir=cache)
    return rows if n is None else rows.select(range(min(n, len(rows))))


def prepare(parquet: str, cache: str) -> dict[str, object]:
    from importlib.metadata import version

    rows = _rows(parquet, cache)
    names = ("zoobot", "galaxy-datasets", "torch", "torchvision", "timm", "datasets", "pyarrow", "numpy", "pillow")
    return {"n": len(rows), "columns": len(rows.column_names), "versions": {name: version(name) for name in names}}


def usual(parquet: str, cache: str, n: int, batch: int, workers: int, size: int | None = None) -> dict[str, object]:
    """`set_format("torch")` and a DataLoader, all columns, shuffled; resized in the worker if a size is given."""
    rows = _rows(parquet, cache, n).with_format("torch")
    loader = DataLoader(
        rows,
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=None if size is None else _Resized(size),
    )
    return _rate(loader)


class _Resized:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        from torchvision.transforms.v2.functional import resize

        for row in rows:
            row["image"] = resize(row["image"], [self.size, self.size], antialias=True)
        return default_collate(rows)


def module(
    parquet: str, cache: str, n: int, batch: int, workers: int, view: str, size: int = 224, columns: str = "all"
) -> dict[str, object]:
    """galaxy-datasets' data module."""
    return _rate(_module(_some(_rows(parquet, cache, n), columns), batch, workers, view, size))


def _some(rows: Any, columns: str) -> Any:
    """All columns, or no more than the peers' loss looks at."""
    return rows if columns == "all" else rows.select_columns(["image", "id_str", *_answers()])


def _module(rows: Any, batch: int, workers: int, view: str, size: int) -> Iterable[dict[str, Any]]:
    import datasets
    from galaxy_datasets import transforms
    from galaxy_datasets.pytorch.galaxy_datamodule import HuggingFaceDataModule

    settings = {"crop": transforms.fast_view_config, "default": transforms.default_view_config}[view]()
    settings.output_size = size
    transform = transforms.get_galaxy_transform(settings)
    few = rows.select(range(min(8, len(rows))))
    splits = datasets.DatasetDict({"train": rows, "validation": few, "test": few})
    made = HuggingFaceDataModule(
        splits, train_transform=transform, test_transform=transform, batch_size=batch, num_workers=workers
    )
    made.setup("fit")
    return made.train_dataloader()


def _answers() -> Sequence[str]:
    from galaxy_datasets.shared import label_metadata

    return label_metadata.gz_evo_v1_public_label_cols


def _rate(loader: Iterable[dict[str, Any]]) -> dict[str, object]:
    """Pictures a second of the second pass."""
    n, seconds = 0, 0.0
    for _ in range(2):
        n, begun = 0, time.perf_counter()
        for batch in loader:
            n += len(batch["image"])
        seconds = time.perf_counter() - begun
    return {"pictures": n, "seconds": round(seconds, 3), "rate": n / seconds}


if __name__ == "__main__":
    steps = {one.__name__: one for one in (prepare, usual, module)}
    result = steps[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(result), flush=True)
    os._exit(0)  # without waiting for workers
