"""Steps of the peers, each run in its own process in their environment; see `measuring.py`.

Needs zoobot and galaxy-datasets (`benchmarks/peers.txt`), and not gzoo. Rates are those of a second pass, when workers
are running and files are open: the best rate of a long epoch.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch.utils.data import DataLoader, default_collate

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")


def _rows(parquet: str, cache: str, n: int | None = None) -> Any:
    """Return the rows of a Parquet file, loaded by `datasets`, which converts them to Arrow on the first call only."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files={"train": parquet}, split="train", cache_dir=cache)
    return rows if n is None else rows.select(range(min(n, len(rows))))


def prepare(parquet: str, cache: str) -> dict[str, object]:
    """Convert the rows, and return their number and the versions of the peers."""
    from importlib.metadata import version

    rows = _rows(parquet, cache)
    names = ("zoobot", "galaxy-datasets", "torch", "torchvision", "timm", "datasets", "pyarrow", "numpy", "pillow")
    return {"n": len(rows), "columns": len(rows.column_names), "versions": {name: version(name) for name in names}}


def usual(parquet: str, cache: str, n: int, batch: int, workers: int, size: int | None = None) -> dict[str, object]:
    """Measure `set_format("torch")` and a DataLoader with all columns, shuffled, resized to `size` if it is given."""
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
    """Measure the data module of galaxy-datasets."""
    return _rate(_module(_some(_rows(parquet, cache, n), columns), batch, workers, view, size))


def _some(rows: Any, columns: str) -> Any:
    """Return all columns, or only those that the peers' loss needs."""
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


def train(
    parquet: str,
    cache: str,
    encoder: str,
    batch: int,
    size: int,
    n: int,
    workers: int,
    device: str = "cpu",
    is_mixed: bool = False,
) -> dict[str, object]:
    """Run training steps of Zoobot's model and loss on the data module, with its default augmentation and vote counts.

    Args:
        parquet: File with the rows.
        cache: Cache folder of `datasets`.
        encoder: Name of the timm encoder.
        batch: Galaxies per batch.
        size: Image size in pixels.
        n: Number of galaxies.
        workers: Processes that load images.
        device: Where to train.
        is_mixed: Use float16 with scaled gradients, as gz-evo does.
    """
    import torch
    from galaxy_datasets.shared import label_metadata as labels
    from zoobot.pytorch.estimators.define_model import ZoobotTree

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    rows = _some(_rows(parquet, cache, n), "counts")
    batches = _module(rows, batch, workers, "default", size)
    pairs, dependencies = labels.gz_evo_v1_public_pairs, labels.gz_evo_v1_public_dependencies
    model = ZoobotTree(
        output_dim=len(_answers()), question_answer_pairs=pairs, dependencies=dependencies, architecture_name=encoder
    )
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    scaler = torch.amp.GradScaler(device, enabled=is_mixed)

    def take_step(one: dict[str, Any], number: int) -> None:
        there = {name: each.to(device, non_blocking=True) for name, each in one.items() if hasattr(each, "to")}
        with torch.autocast(device, torch.float16, enabled=is_mixed):
            loss = model.training_step(there, number)["loss"]
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        scaler.step(optimizer)
        scaler.update()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    return _rate(batches, take_step, wait)


def _answers() -> Sequence[str]:
    from galaxy_datasets.shared import label_metadata

    return label_metadata.gz_evo_v1_public_label_cols


def _rate(
    loader: Iterable[dict[str, Any]],
    use: Callable[[dict[str, Any], int], None] = lambda batch, number: None,
    wait: Callable[[], None] = lambda: None,
) -> dict[str, object]:
    """Return the images per second of the second pass."""
    n, seconds = 0, 0.0
    for _ in range(2):
        n, begun = 0, time.perf_counter()
        for number, batch in enumerate(loader):
            use(batch, number)
            n += len(batch["image"])
        wait()
        seconds = time.perf_counter() - begun
    return {"images": n, "seconds": round(seconds, 3), "rate": n / seconds}


if __name__ == "__main__":
    steps = {one.__name__: one for one in (prepare, usual, module, train)}
    result = steps[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(result), flush=True)
    os._exit(0)  # without waiting for workers
