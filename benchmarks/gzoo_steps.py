"""Steps of gzoo and of the hardware limits, each run in its own process; see `measuring.py`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from measuring import serve

from gzoo import files

if TYPE_CHECKING:
    import torch

    from gzoo.learn.loader import Batch, Loader
    from gzoo.learn.model import Model


def decode(record: str, threads: int, is_exact: bool) -> dict[str, object]:
    """Decode images in memory to RGB at full size, into memory that is reused: the limit of a loader.

    Args:
        record: Dataset folder, whose train split is decoded.
        threads: Number of threads.
        is_exact: Decode as Pillow does, to within 2 grey levels. Otherwise use the fast discrete cosine transform and
            nearest-neighbour upsampling of colours, the fastest settings of libjpeg-turbo.
    """
    import simplejpeg

    encoded = _encoded(record)

    def work(start: int) -> None:
        pixels = np.empty(3 * 424 * 424, np.uint8)
        for data in encoded[start::threads]:
            simplejpeg.decode_jpeg(data, "RGB", fastdct=not is_exact, fastupsample=not is_exact, buffer=pixels)

    with ThreadPoolExecutor(threads) as pool:
        begun = time.perf_counter()
        list(pool.map(work, range(threads)))
        return _rate(len(encoded), time.perf_counter() - begun)


def epochs(
    record: str,
    batch: int,
    size: int,
    n_epochs: int = 1,
    augment: str | None = None,
    cache: str | None = None,
    workers: int | None = None,
) -> dict[str, object]:
    """Run epochs of gzoo's loader; the first includes opening the dataset and reading its votes.

    Returns:
        Images per epoch; seconds, images per second and resident megabytes of each epoch.
    """
    from gzoo import open_dataset
    from gzoo.learn.loader import loader

    _in_page_cache(record)
    begun, batches, n = time.perf_counter(), None, 0
    seconds: list[float] = []
    resident: list[float] = []
    for _ in range(n_epochs):
        if batches is None:
            settings: dict[str, Any] = {"augment": augment, "cache_dir": cache, "workers": workers}
            batches = loader(open_dataset(record), batch, size, seed=0, **settings)
        n = 0
        for one in batches:
            n += len(one["image"])
            assert len(one["votes"]) == len(one["image"]) == len(one["totals"])
        seconds.append(time.perf_counter() - begun)
        resident.append(_resident_megabytes())
        begun = time.perf_counter()
    return {
        "images": n,
        "seconds": [round(one, 3) for one in seconds],
        "rates": [n / one for one in seconds],
        "resident megabytes": resident,
    }


def train(
    record: str,
    source: str,
    encoder: str,
    batch: int,
    size: int,
    n: int,
    n_epochs: int = 2,
    augment: str | None = "train",
    cache: str | None = None,
    device: str = "cpu",
    is_mixed: bool = False,
    is_compiled: bool = False,
    decode_on_device: bool = False,
) -> dict[str, object]:
    """Run epochs of training steps: images, loss, gradients, AdamW.

    Args:
        record: Dataset folder.
        source: "loader", or "random" for the encoder alone: one batch of random images, repeated, with votes.
        encoder: Name of the timm encoder.
        batch: Galaxies per batch.
        size: Image size in pixels.
        n: Number of galaxies of the train split.
        n_epochs: Number of epochs, of which the first compiles the model and fills the cache.
        augment: Preset of the augmentation.
        cache: Folder for decoded images.
        device: Where to train.
        is_mixed: Use bfloat16 where it is safe, with weights channels last.
        is_compiled: Use `torch.compile`.
        decode_on_device: Decode images on the device.
    """
    import torch

    from gzoo import open_dataset
    from gzoo.learn.loader import loader

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    dataset = open_dataset(record)
    _in_page_cache(record)
    batches = loader(
        dataset,
        batch,
        size,
        augment=augment,
        seed=0,
        rows=np.arange(n),
        cache_dir=cache,
        device=device,
        decode_on_device=decode_on_device,
    )
    model = _model(encoder, size, dataset.tree.columns, device, is_channels_last=is_mixed)
    take_step = _training_step(model, batches, device, is_mixed, is_compiled)
    seconds: list[float] = []
    seen = 0
    for _ in range(n_epochs):
        seen, begun = 0, time.perf_counter()
        for one in batches if source == "loader" else _random(batches):
            take_step(one)
            seen += len(one["votes"])
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    return {"images": seen, "seconds": [round(one, 3) for one in seconds], "rates": [seen / one for one in seconds]}


def _random(batches: Loader) -> Iterator[Batch]:
    """Yield as many batches as the loader, all with the votes of its first batch and the same random images."""
    import torch

    first = next(iter(batches))
    image = torch.rand_like(first["image"], dtype=torch.float32)  # in the same memory layout as the loader's images
    for n in (len(one) for one in np.array_split(np.arange(len(batches.rows)), len(batches))):
        yield {**first, "image": image[:n], "votes": first["votes"][:n], "totals": first["totals"][:n]}


def _model(encoder: str, size: int, columns: Sequence[str], device: str, *, is_channels_last: bool) -> Model:
    import torch

    from gzoo.learn.model import Design, Model

    grey = (0.1, 0.1, 0.1)
    model = Model(Design(encoder=encoder, size=size, columns=tuple(columns), mean=grey, std=grey)).to(device).train()
    return model.to(memory_format=torch.channels_last) if is_channels_last else model  # pyright: ignore


def _training_step(model: Model, batches: Loader, device: str, is_mixed: bool, is_compiled: bool) -> Any:
    import torch

    from gzoo.learn.losses import dirichlet_multinomial_nll

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    predict = torch.compile(model) if is_compiled else model
    tree, kind = batches.tree, torch.device(device).type

    def step(one: Batch) -> None:
        with torch.autocast(kind, torch.bfloat16, enabled=is_mixed):
            nll = dirichlet_multinomial_nll(one["votes"], predict(one["image"]), tree, one["totals"], check=False)
        optimizer.zero_grad(set_to_none=True)
        nll.sum(dim=1).mean().backward()
        optimizer.step()

    return step


def parts(record: str, encoder: str, batch: int, size: int, device: str, augment: str = "train") -> dict[str, object]:
    """Measure the loss and augmentation of a step, and count the floating-point operations of the model.

    Returns:
        Milliseconds of the loss (forward and backward) and of augmentation; operations per image, forward and
        backward; operations per second of a large bfloat16 matrix product.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from gzoo import open_dataset
    from gzoo.learn.augmentation import augmentation
    from gzoo.learn.loader import loader
    from gzoo.learn.losses import dirichlet_multinomial_nll

    dataset, preset = open_dataset(record), augmentation(augment)
    # `take` does not augment
    one = loader(dataset, batch, size, augment=preset, seed=0, device=device).take(np.arange(batch))
    votes, totals, tree = one["votes"], one["totals"], dataset.tree
    concentration = torch.rand(votes.shape, device=device).mul_(9).add_(1).requires_grad_()

    def loss() -> None:
        concentration.grad = None
        dirichlet_multinomial_nll(votes, concentration, tree, totals, check=False).sum(dim=1).mean().backward()

    model = _model(encoder, size, tree.columns, device, is_channels_last=True)
    few = torch.rand(min(8, batch), 3, size, size, device=device)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(few)
    return {
        "loss milliseconds": 1e3 * _seconds(loss, device),
        "augmentation milliseconds": 1e3 * _seconds(lambda: preset(one["image"], one["seed"], size), device),
        # the backward pass costs two forward passes: gradients of features and of weights
        "operations an image": 3 * counted.get_total_flops() / len(few),
        "operations a second": _matrix_speed(device),
    }


def _matrix_speed(device: str) -> float:
    """Return the operations per second of the fastest of some products of random bfloat16 matrices."""
    import torch

    best = 0.0
    for width in (4096, 8192, 16384) if device != "cpu" else (512,):
        a, b = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * width**3 / _seconds(lambda a=a, b=b: a @ b, device, n=10))
    return best


def device_decode(record: str, batch: int, n: int, device: str) -> dict[str, object]:
    """Return images per second of the device's own JPEG decoder, and its difference from Pillow in grey levels."""
    import io

    import torch
    from PIL import Image
    from torchvision.io import ImageReadMode, decode_jpeg

    encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in _encoded(record)[:n]]

    def decoded(start: int) -> list[torch.Tensor]:
        return decode_jpeg(encoded[start : start + batch], ImageReadMode.RGB, device)

    differences: list[np.ndarray[Any, Any]] = []
    for data, image in zip(encoded[:batch], decoded(0), strict=True):
        wanted = np.asarray(Image.open(io.BytesIO(data.numpy().tobytes())).convert("RGB")).astype(np.int16)
        differences.append(np.abs(image.permute(1, 2, 0).cpu().numpy().astype(np.int16) - wanted))
    _wait(device)
    begun = time.perf_counter()
    for start in range(0, len(encoded), batch):
        decoded(start)
    _wait(device)
    return {
        **_rate(len(encoded), time.perf_counter() - begun),
        "largest difference from Pillow": int(max(one.max() for one in differences)),
        "mean difference from Pillow": round(float(np.mean([one.mean() for one in differences])), 3),
    }


def gpu() -> dict[str, object]:
    """Return the name of the GPU, or None if torch finds none."""
    import torch

    is_there = torch.cuda.is_available()
    return {"name": torch.cuda.get_device_name() if is_there else None, "cuda": torch.version.cuda}


def _seconds(work: Any, device: str, n: int = 20) -> float:
    """Return the median seconds of repeated work, after a warm-up."""
    for _ in range(3):
        work()
    taken: list[float] = []
    for _ in range(n):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def _rate(n: int, seconds: float) -> dict[str, object]:
    return {"images": n, "seconds": round(seconds, 3), "rate": n / seconds}


def _encoded(record: str) -> list[bytes]:
    """Return the image files of the train split."""
    parts = [pl.read_parquet(path, columns=["image"], glob=False) for path in files.shards(Path(record), "train")]
    return pl.concat(parts)["image"].struct.field("bytes").to_list()


def _in_page_cache(record: str) -> None:
    for path in sorted(Path(record).rglob("*.parquet")):
        path.read_bytes()


def _resident_megabytes() -> float:
    """Return the resident memory of this process and its children."""
    import psutil

    me = psutil.Process(os.getpid())
    return round(sum(one.memory_info().rss for one in (me, *me.children(recursive=True))) / 1e6, 1)


if __name__ == "__main__":
    serve([decode, epochs, train, parts, device_decode, gpu])
