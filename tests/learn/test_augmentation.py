"""Augmentation: exact quarter turns, conserved flux, results that depend only on the galaxy's seed."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision

from gzoo.dataset.build import build
from gzoo.dataset.open import open_dataset
from gzoo.errors import DatasetError, ImageError, InputError, NotFoundError, OutputExistsError
from gzoo.learn import contact_sheet as sheet
from gzoo.learn.augmentation import PRESETS, Augmentation, augmentation
from gzoo.learn.contact_sheet import augmentations
from gzoo.learn.loader import loader
from gzoo.simulator import SimulateResult

MANY = 20_000
ANY_ANGLE = Augmentation(rotation_degrees=(0, 360))


def random_images(n: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def seeds(n: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + n)


def unit(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32) / 255


def circle(size: int) -> torch.Tensor:
    """Pixels inside the inscribed circle."""
    places = torch.arange(size) - (size - 1) / 2
    return places[:, None] ** 2 + places**2 <= (size / 2) ** 2


def places(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of each pixel, from the middle of the image."""
    one = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return one.expand(size, size), one[:, None].expand(size, size)


def blob(size: int, x: float = 0, y: float = 0, width: float = 3, ratio: float = 1) -> torch.Tensor:
    """An image of an elliptical Gaussian, shape (1, 3, size, size)."""
    across, down = places(size)
    light = torch.exp(-((across - x) ** 2 / 2 + ((down - y) / ratio) ** 2 / 2) / width**2)
    return light.to(torch.float32).expand(1, 3, size, size)


# --- Quarter turns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 64, 224])
@pytest.mark.parametrize("one", [augmentation("test"), Augmentation(rotation_degrees=(360, 360))])
def test_the_default_does_not_change_pixels(size: int, one: Augmentation) -> None:
    images = random_images(3, size)
    assert torch.equal(one(images, seeds(3)), unit(images))
    assert torch.equal(one(unit(images), seeds(3)), unit(images))
    assert torch.equal(one(images.contiguous(memory_format=torch.channels_last), seeds(3), size), unit(images))


@pytest.mark.parametrize("turns", range(-4, 5))
@pytest.mark.parametrize("flips", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_quarter_turns_and_mirroring_only_move_pixels(turns: int, flips: tuple[int, int]) -> None:
    images = random_images(2, 9)
    wanted = torch.rot90(unit(images), -turns, (2, 3))  # torch turns counterclockwise
    wanted = wanted.flip([dimension for dimension, flip in zip((3, 2), flips, strict=True) if flip])
    exact = Augmentation(rotation_degrees=(90 * turns, 90 * turns), flips=flips)
    assert exact.is_exact
    assert torch.equal(exact(images, seeds(2)), wanted)
    sampled = dataclasses.replace(exact, shift=1e-9)
    assert not sampled.is_exact
    assert torch.allclose(sampled(images, seeds(2)), wanted, atol=1e-5)


def test_views_0_to_7_are_the_eight_orientations() -> None:
    images = random_images(20, 6)
    one = augmentation("average")
    turned = [torch.rot90(unit(images), turns, (2, 3)) for turns in range(4)]
    wanted = torch.stack([*turned, *(image.flip(3) for image in turned)], 1)
    views = torch.stack([one(images, seeds(20), view=view) for view in range(8)], 1)
    order = [list(map(tuple, galaxy.flatten(1).tolist())) for galaxy in views]
    assert [sorted(galaxy) for galaxy in order] == [sorted(map(tuple, each.flatten(1).tolist())) for each in wanted]
    first = (views[:, None, 0] == wanted).flatten(2).all(2).to(torch.int64).argmax(1)
    assert len(set(first.tolist())) > 4  # the first one depends on the seed


def test_views_of_any_angle_are_spread_evenly() -> None:
    found = torch.stack([ANY_ANGLE.parameters(seeds(50), view).rotation_degrees for view in range(4)], 1)
    gaps = found.sort(1).values.diff(dim=1)
    assert torch.allclose(gaps, torch.full_like(gaps, 90), atol=0.001)
    finer = torch.stack([ANY_ANGLE.parameters(seeds(50), view).rotation_degrees for view in range(16)], 1)
    assert torch.allclose(
        finer[:, [*range(4), *range(8, 12)]].sort(1).values.diff(dim=1), torch.tensor(45.0), atol=0.001
    )


# --- Resampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 41])
def test_resampling_agrees_with_torchvision(size: int) -> None:
    """Rotation, shift, zoom and shear in sequence; torchvision shifts by whole pixels."""
    one = Augmentation(
        rotation_degrees=(-180, 180), zoom=(0.7, 1.6), shift=0.2, shear_degrees=(-25, 25), flips=(0.5, 0.5)
    )
    images = torch.rand(16, 3, size, size, generator=torch.Generator().manual_seed(3))
    found = one.parameters(seeds(16))
    drawn = one(images, seeds(16))
    for i, image in enumerate(images):
        wanted = torchvision.affine(
            image[None],
            angle=found.rotation_degrees[i].item(),
            translate=(found.shift[i] * size).tolist(),
            scale=found.zoom[i].item(),
            shear=found.shear_degrees[i].tolist(),
            interpolation=InterpolationMode.BILINEAR,
        )
        wanted = wanted.flip([dimension for dimension, flip in zip((3, 2), found.flipped[i], strict=True) if flip])
        # torchvision treats the border in another way, so compare only pixels inside
        inside = torchvision.affine(
            torch.ones(1, 1, size, size),
            angle=found.rotation_degrees[i].item(),
            translate=(found.shift[i] * size).tolist(),
            scale=found.zoom[i].item(),
            shear=found.shear_degrees[i].tolist(),
            interpolation=InterpolationMode.BILINEAR,
        ).flip([dimension for dimension, flip in zip((3, 2), found.flipped[i], strict=True) if flip])
        is_inside = (inside > 0.999).expand(1, 3, size, size)
        assert is_inside.sum() > size
        assert torch.allclose(drawn[i : i + 1][is_inside], wanted[is_inside], atol=2e-4)


def moments(image: torch.Tensor) -> tuple[float, float, float]:
    """Centroid and mean variance of the light, in pixels from the centre of the image."""
    light = image[0, 0].to(torch.float64)
    across, down = places(light.shape[0])
    total = light.sum()
    x, y = float((light * across).sum() / total), float((light * down).sum() / total)
    variance = (light * ((across - x) ** 2 + (down - y) ** 2)).sum() / total / 2
    return x, y, float(variance)


def test_a_galaxy_is_zoomed_rotated_and_shifted_by_its_parameters() -> None:
    turned = Augmentation(rotation_degrees=(90.5, 90.5))(blob(101, x=20), seeds(1))
    x, y, _ = moments(turned)
    assert (x, y) == pytest.approx((20 * math.cos(math.radians(90.5)), 20 * math.sin(math.radians(90.5))), abs=0.01)
    for zoom in (0.5, 0.8, 1.3, 2.0):
        wide = moments(Augmentation(zoom=(zoom, zoom))(blob(101, width=6), seeds(1)))[2]
        assert math.sqrt(wide) == pytest.approx(6 * zoom, rel=0.02)
    shifted = Augmentation(shift=0.1)
    x, y, _ = moments(shifted(blob(101), seeds(1)))
    assert (x, y) == pytest.approx(tuple((shifted.parameters(seeds(1)).shift[0] * 101).tolist()), abs=0.01)


@pytest.mark.parametrize("size", [64, 106, 212, 224, 300])
def test_position_and_width_do_not_depend_on_the_size_of_the_result(size: int) -> None:
    """As fractions of the image, at any size."""
    for one in (augmentation("test"), Augmentation(rotation_degrees=(0, 0.001))):
        x, y, variance = moments(one(blob(424, x=60, y=-40, width=24), seeds(1), size))
        assert (x / size, y / size) == pytest.approx((60 / 424, -40 / 424), abs=0.001)
        assert math.sqrt(variance) / size == pytest.approx(24 / 424, rel=0.03)


@pytest.mark.parametrize(
    "one", [augmentation("test"), ANY_ANGLE, *(Augmentation(zoom=(z, z)) for z in (0.25, 0.5, 0.95))]
)
@pytest.mark.parametrize("size", [64, 224])
def test_fine_stripes_become_grey(one: Augmentation, size: int) -> None:
    stripes = torch.zeros(1, 3, 424, 424, dtype=torch.uint8)
    stripes[..., ::2] = 255
    middle = slice(size // 2 - size // 16, size // 2 + size // 16)
    drawn = one(stripes, seeds(1), size)[..., middle, middle]
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    assert drawn.std() < 0.08


@given(
    galaxies=st.lists(
        st.tuples(st.floats(0, 0.7), st.floats(0, 6.2), st.floats(1.3, 8), st.floats(0.3, 1), st.floats(0.1, 1)),
        min_size=1,
        max_size=4,
    ),
    angle=st.floats(0, 360),
    sky=st.floats(0, 0.1),
    size=st.sampled_from([63, 64, 128]),
)
@settings(max_examples=60, deadline=None)
def test_flux_in_the_inscribed_circle_stays_within_one_percent(
    galaxies: list[tuple[float, float, float, float, float]], angle: float, sky: float, size: int
) -> None:
    """For galaxies anywhere in it, under seeing of 3 pixels (full width at half maximum)."""
    image = torch.full((1, 3, size, size), sky)
    for radius, where, width, ratio, brightness in galaxies:
        far = radius * (size / 2 - 4 * width)
        if far < 0:
            continue
        x, y = far * math.cos(where), far * math.sin(where)
        image = image + 0.2 * brightness * blob(size, x, y, width, max(ratio, 1.3 / width))
    turned = Augmentation(rotation_degrees=(angle, angle))(image, seeds(1))
    inside = circle(size)
    before, after = (image.clamp(0, 1) * inside).sum((2, 3)), (turned * inside).sum((2, 3))
    assert torch.allclose(after, before, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("size", [424, 212, 64])
def test_flux_of_real_galaxies_stays_within_one_percent(shared_data: Path, size: int) -> None:
    inside = circle(size)
    for path in sorted((shared_data / "gz2_sample" / "images").glob("*.jpg"))[::60]:
        pixels = np.array(Image.open(path).convert("RGB").resize((size, size)))
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        before = (unit(image) * inside).sum((2, 3))
        after = (ANY_ANGLE(image.expand(4, 3, size, size), seeds(4)) * inside).sum((2, 3))
        assert torch.allclose(after, before.expand(4, 3), rtol=0.01), path.name


def test_pixels_outside_the_image_are_black() -> None:
    white = torch.full((1, 3, 50, 50), 255, dtype=torch.uint8)
    shown = Augmentation(zoom=(0.5, 0.5))(white, seeds(1))
    assert (shown[..., 14:36, 14:36] == 1).all()
    assert (shown[..., :11, :] == 0).all()


# --- Random numbers ---------------------------------------------------------------------------------------------------


def splitmix64(state: int) -> list[int]:
    """The first numbers of SplitMix64, in Python integers."""
    mask, found = (1 << 64) - 1, []
    for i in range(1, 20):
        z = (state + i * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        found.append(z ^ z >> 31)
    return found


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63), 1234567])
def test_random_numbers_are_splitmix64(seed: int) -> None:
    """In its reference implementation, 6457827717110365317 is the first number from state 1234567."""
    assert splitmix64(1234567)[0] == 6457827717110365317
    mask = (1 << 64) - 1
    z = ((seed & mask) ^ (seed & mask) >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    rotation = splitmix64(z ^ z >> 31)[0] >> 40
    found = Augmentation(rotation_degrees=(0, 1)).parameters(torch.tensor([seed])).rotation_degrees
    assert found.item() == rotation / 2**24


@given(start=st.integers(-(2**62), 2**62), order=st.permutations(range(6)), name=st.sampled_from(sorted(PRESETS)))
@settings(max_examples=25, deadline=None)
def test_a_galaxy_looks_the_same_in_any_batch(start: int, order: list[int], name: str) -> None:
    one, images, of = augmentation(name), random_images(6, 20), seeds(6, start)
    whole = one(images, of, 16)
    assert torch.equal(one(images[order], of[order], 16), whole[order])
    assert torch.equal(torch.cat([one(images[i:], of[i:], 16)[:1] for i in range(6)]), whole)


@pytest.mark.parametrize("name", PRESETS)
def test_threads_may_share_a_batch_and_the_global_generator_is_not_used(name: str) -> None:
    one, images, of = augmentation(name), random_images(32, 60), seeds(32)
    before = torch.get_rng_state()
    whole = one(images, of, 48)
    out = torch.full((32, 3, 48, 48), math.nan)
    parts = [slice(i, i + 4) for i in range(0, 32, 4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda part: one(images[part], of[part], 48, out=out[part]), parts))
    assert torch.equal(out, whole)
    assert made[1].data_ptr() == out[4:].data_ptr()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", PRESETS)
def test_values_are_never_read_on_other_devices(name: str) -> None:
    """On the meta device, tensors have no values: reading one raises an error."""
    made = augmentation(name)(random_images(5, 424).to("meta"), seeds(5).to("meta"), 224)
    assert (made.shape, made.device.type, made.dtype) == ((5, 3, 224, 224), "meta", torch.float32)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_at_once_is_the_same_as_one_by_one(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, the whole batch is processed at once."""
    one, of = augmentation(name), seeds(7)
    images = random_images(7, 60) if dtype == torch.uint8 else unit(random_images(7, 60))
    alone = one(images, of, 48)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.allclose(one(images, of, 48), alone, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PRESETS)
def test_the_compiled_augmentation_is_the_same(name: str) -> None:
    one, images, of = augmentation(name), random_images(4, 60), seeds(4, -2)
    assert torch.allclose(torch.compile(one)(images, of, 48), one(images, of, 48), atol=1e-4)


def test_autocast_changes_nothing() -> None:
    images = random_images(3, 40)
    with torch.autocast("cpu", torch.bfloat16):
        inside = augmentation("train")(images, seeds(3), 32)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, augmentation("train")(images, seeds(3), 32))


def is_uniform(drawn: torch.Tensor, ends: Sequence[float]) -> bool:
    """Kolmogorov-Smirnov test at a level of one in a million; values come close to both ends and stay within them."""
    low, high = ends
    scaled = (drawn.flatten().to(torch.float64) - low) / (high - low)
    is_near = scaled.min() < 0.001 and scaled.max() > 0.999
    return (
        bool(is_near and scaled.min() >= 0 and scaled.max() <= 1 + 1e-6)
        and stats.kstest(scaled.numpy(), "uniform", method="asymp").pvalue > 1e-6
    )


@pytest.mark.parametrize("view", [0, 5])
@pytest.mark.parametrize("name", ["train", "galaxy-datasets"])
def test_parameters_are_uniform_over_their_ranges(name: str, view: int) -> None:
    one = augmentation(name)
    found = one.parameters(seeds(MANY), view)
    for field in ("rotation_degrees", "zoom", "blur_pixels", "brightness", "photon_noise", "sky_noise"):
        ends = getattr(one, field)
        assert (
            is_uniform(getattr(found, field), ends) if ends[0] < ends[1] else (getattr(found, field) == ends[0]).all()
        )
    assert is_uniform(found.shift, (-one.shift, one.shift))
    if one.shear_degrees != (0, 0):
        assert is_uniform(found.shear_degrees, one.shear_degrees)
    n_flipped = found.flipped.sum(0).tolist()
    for n, chance in zip(n_flipped, one.flips, strict=True):
        assert stats.binomtest(n, MANY, chance).pvalue > 1e-6 if chance else n == 0


def test_parameters_are_uncorrelated_with_each_other_and_the_next_seed() -> None:
    one = Augmentation(
        flips=(0.5, 0.5),
        rotation_degrees=(0, 360),
        zoom=(1, 2),
        shift=0.5,
        shear_degrees=(0, 20),
        blur_pixels=(0, 1),
        brightness=(1, 2),
        photon_noise=(0, 1),
        sky_noise=(0, 1),
        erasings=2,
    )
    found = one.parameters(seeds(MANY))
    drawn = torch.cat([each.reshape(MANY, -1).to(torch.float64) for each in found[:9]], 1)
    # area and ratio of a rectangle are drawn first, then its position in the remaining range
    top, left, height, width = found.erased.to(torch.float64).unbind(2)
    drawn = torch.cat([drawn, top / (1 - height), left / (1 - width), height * width, (height / width).log()], 1)
    n = drawn.shape[1]
    assert n == 12 + 8
    everything = torch.cat([drawn[:-1], drawn[1:]], 1).numpy()
    correlation = np.corrcoef(everything, rowvar=False) - np.eye(2 * n)
    assert np.abs(correlation).max() < 5.5 / math.sqrt(MANY)


def test_the_preset_galaxy_datasets_has_the_ranges_of_that_package() -> None:
    """Ranges as observed in the package; `benchmarks/augmentation_speed.py` compares the images."""
    one = augmentation("galaxy-datasets")
    found = one.parameters(seeds(MANY))
    assert found.erased.shape == (MANY, 5, 4)
    height, width = found.erased[..., 2], found.erased[..., 3]
    assert is_uniform(height * width, (0.002, 0.007))
    assert is_uniform((height / width).log(), (math.log(0.5), math.log(2)))
    pixels = (found.erased[..., 2:] * 224).round()
    assert (pixels.min().item(), pixels.max().item()) == (7, 26)  # as observed there
    assert (found.erased[..., :2] >= 0).all()
    assert (found.erased[..., :2] + found.erased[..., 2:] <= 1 + 1e-6).all()
    assert (one.rotation_degrees, one.zoom, one.shift, one.shear_degrees) == ((-90, 90), (1.2, 1.4), 0.1, (0, 20))
    assert one.flips == (0.5, 0.5)


# --- Erasing, blur, brightness, noise ---------------------------------------------------------------------------------


def test_erased_rectangles_have_their_position_and_area() -> None:
    one = Augmentation(erasings=1, erased_area=(0.02, 0.05))
    white = torch.full((200, 3, 100, 100), 255, dtype=torch.uint8)
    shown = one(white, seeds(200))
    assert set(shown.unique().tolist()) == {0.0, 1.0}
    is_erased = shown[:, 0] == 0
    found = one.parameters(seeds(200)).erased[:, 0]
    fraction = is_erased.to(torch.float64).mean((1, 2))
    assert torch.allclose(fraction, (found[:, 2] * found[:, 3]).to(torch.float64), atol=0.006)
    assert fraction.mean() == pytest.approx(0.035, abs=0.002)
    for mask, (top, left, height, width) in zip(is_erased, (found * 100).tolist(), strict=True):
        rows, columns = mask.nonzero().unbind(1)
        assert rows.min() == pytest.approx(top, abs=0.51)
        assert columns.max() + 1 == pytest.approx(left + width, abs=0.51)
        assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert height > 0
    assert (Augmentation(erasings=56, erased_area=(1, 1))(white[:2], seeds(2)) == 0).all()


@pytest.mark.parametrize("brightness", [0.1, 0.5, 0.8])
def test_noise_is_normal_and_grows_with_brightness(brightness: float) -> None:
    one = Augmentation(photon_noise=(0.05, 0.05), sky_noise=(0.02, 0.02))
    grey = torch.full((6, 3, 100, 100), brightness)
    noise = (one(grey, seeds(6)) - grey).to(torch.float64)
    wanted = math.sqrt(0.05**2 * brightness + 0.02**2)
    n = noise.numel()
    scaled = noise.flatten() / wanted
    assert abs(scaled.mean()) < 5 / math.sqrt(n)
    assert scaled.std() == pytest.approx(1, abs=5 / math.sqrt(2 * n))
    assert stats.kstest(scaled.numpy(), "norm", method="asymp").pvalue > 1e-6
    assert abs(stats.kurtosis(scaled.numpy())) < 5 * math.sqrt(24 / n)
    # uncorrelated between pixels, colours and galaxies
    for first, second in (
        (noise[..., 1:], noise[..., :-1]),
        (noise[..., 1:, :], noise[..., :-1, :]),
        (noise[:, 1:], noise[:, :-1]),
        (noise[1:], noise[:-1]),
        (noise.flatten()[: n // 2], noise.flatten()[n // 2 :]),
    ):
        assert abs((first * second).mean() / wanted**2) < 5 / math.sqrt(first.numel())
    assert not torch.equal(one(grey, seeds(6), view=1), one(grey, seeds(6)))


@pytest.mark.parametrize("width", [0.7, 1.0, 2.5])
def test_blur_widens_a_galaxy_and_conserves_flux(width: float) -> None:
    one = Augmentation(blur_pixels=(width, width))
    galaxy = blob(81, width=4)
    seen = one(galaxy, seeds(1))
    assert seen.sum() == pytest.approx(galaxy.sum().item(), rel=1e-4)
    assert moments(seen)[2] == pytest.approx(16 + width**2, rel=0.01)
    assert torch.allclose(seen, seen.flip(2), atol=1e-6)
    assert torch.allclose(seen, seen.transpose(2, 3), atol=1e-6)
    even = torch.full((1, 3, 30, 30), 0.3)
    assert torch.allclose(one(even, seeds(1)), even, atol=1e-6)


def test_zero_blur_does_not_change_an_image() -> None:
    images = unit(random_images(40, 12))
    one = Augmentation(blur_pixels=(0, 0.5))
    shown, found = one(images, seeds(40)), one.parameters(seeds(40)).blur_pixels
    change = (shown - images).abs().amax((1, 2, 3))
    assert change[found.argmin()] < 1e-6
    assert change[found.argmax()] > 0.05
    assert found.min() < 0.1


def test_brightness_is_a_factor_limited_at_white() -> None:
    one = Augmentation(brightness=(0.5, 2))
    images = unit(random_images(20, 8))
    factor = one.parameters(seeds(20)).brightness[:, None, None, None]
    assert torch.allclose(one(images, seeds(20)), (images * factor).clamp(0, 1))


@given(
    name=st.sampled_from(sorted(PRESETS)),
    side=st.integers(1, 70),
    size=st.integers(1, 70),
    start=st.integers(-(2**62), 2**62),
    view=st.integers(0, 40),
    kind=st.sampled_from(["uint8", "float32", "float16", "black", "white"]),
)
@settings(max_examples=80, deadline=None)
def test_results_are_from_0_to_1(name: str, side: int, size: int, start: int, view: int, kind: str) -> None:
    images = random_images(2, side, seed=side)
    if kind in {"black", "white"}:
        images = torch.full_like(images, 255 * (kind == "white"))
    elif kind != "uint8":
        images = unit(images).to(getattr(torch, kind))
    shown = augmentation(name)(images, seeds(2, start), size, view=view)
    assert (shown.shape, shown.dtype) == ((2, 3, size, size), torch.float32)
    assert shown.isfinite().all()
    assert 0 <= shown.min() <= shown.max() <= 1


def test_an_empty_batch_stays_empty() -> None:
    assert augmentation("train")(random_images(0, 8), seeds(0), 4).shape == (0, 3, 4, 4)


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"zoom": (0, 1)},
            "Invalid value for zoom: (0, 1).",
        ),
        ({"zoom": (1.4, 1.2)}, "a lowest and a highest value from 0.1 to 10"),
        ({"zoom": (1, math.nan)}, "zoom: (1, nan)"),
        ({"flips": (0.5, 1.5)}, "two probabilities from 0 to 1"),
        ({"flips": (0.5,)}, "two probabilities from 0 to 1"),
        ({"shift": -0.1}, "shift: -0.1."),
        ({"shear_degrees": (0, 90)}, "from -60 to 60"),
        ({"erasings": 57}, "a number from 0 to 56"),
        ({"erased_area": (0, 1.1)}, "from 0 to 1"),
        ({"erased_ratio": (0, 2)}, "from 0.01 to 100"),
        ({"sky_noise": (-0.1, 0)}, "from 0 to 1"),
    ],
)
def test_invalid_settings_are_rejected(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Augmentation(**values)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_an_unknown_preset_is_rejected_with_a_list_of_presets() -> None:
    with pytest.raises(InputError, match=r"'strong' not found(.|\n)*one of: .*galaxy-datasets"):
        augmentation("strong")
    own = Augmentation(shift=0.1)
    assert augmentation(own) is own


@pytest.mark.parametrize(
    ("images", "of", "size", "message"),
    [
        (torch.zeros(2, 8, 8, 3), seeds(2), None, r"images of shape \(2, 8, 8, 3\)"),
        (torch.zeros(2, 3, 8, 9), seeds(2), None, r"images of shape \(2, 3, 8, 9\)"),
        (torch.zeros(3, 8, 8), seeds(3), None, r"shape \(galaxy, 3, side, side\)"),
        (torch.tensor(1.0), seeds(1), None, r"images of shape \(\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), seeds(2), None, "torch.uint8, or floats from 0 to 1"),
        (torch.zeros(2, 3, 8, 8), seeds(3), None, r"Seeds have shape \(3,\)"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), None, "type torch.float32"),
        (torch.zeros(2, 3, 8, 8), seeds(2), 0, "size must be at least 1"),
    ],
)
def test_invalid_images_seeds_and_sizes_are_rejected(
    images: torch.Tensor, of: torch.Tensor, size: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        augmentation("train")(images, of, size)


def test_an_invalid_result_tensor_or_view_is_rejected() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 3, 4, 4\) and type torch.float32 on cpu"):
        augmentation("test")(torch.zeros(2, 3, 8, 8), seeds(2), 4, out=torch.zeros(2, 3, 8, 8))
    with pytest.raises(InputError, match="view at least 0, got 8 and -1"):
        augmentation("test")(torch.zeros(2, 3, 8, 8), seeds(2), view=-1)


# --- Contact sheet ----------------------------------------------------------------------------------------------------


def cell(path: Path, column: int, row: int, size: int, group: int) -> np.ndarray:
    """An image of a contact sheet; `group` is the number of wide gaps to its left."""
    left = group * sheet._WIDE_GAP_PIXELS + column * (size + sheet._GAP_PIXELS)
    top = 2 * sheet._TEXT_PIXELS + row * (size + 2 * sheet._GAP_PIXELS + sheet._TEXT_PIXELS)
    return np.asarray(Image.open(path))[top : top + size, left : left + size]


def test_a_sheet_shows_galaxies_as_stored_and_augmented(dataset: Path, tmp_path: Path) -> None:
    made = augmentations(dataset, out=tmp_path / "all.png", n_galaxies=3, size=48)
    assert made == tmp_path / "all.png"
    images = loader(dataset, 3, 68).take(np.arange(3))["image"].split(1)  # as large as the largest zoom needs
    for row, image in enumerate(images):
        stored = cell(made, 0, row, 48, 1)
        wanted = augmentation("test")(image, seeds(1), 48)[0].permute(1, 2, 0).numpy() * 255
        assert np.abs(stored - wanted).max() <= 0.5001
        assert np.array_equal(cell(made, 5, row, 48, 3), stored)  # test
        assert not np.array_equal(cell(made, 1, row, 48, 2), stored)  # train
        turned = [cell(made, column, row, 48, 4) for column in range(6, 10)]  # average
        assert {np.sort(one, axis=None).tobytes() for one in turned} == {np.sort(stored, axis=None).tobytes()}
        assert len({one.tobytes() for one in turned}) == 4


def test_the_same_seed_draws_the_same_sheet(dataset: Path, published: Path, tmp_path: Path) -> None:
    first, same, other, theirs = (tmp_path / f"{name}.png" for name in ("first", "same", "other", "theirs"))
    for folder, out, seed in ((dataset, first, 1), (dataset, same, 1), (dataset, other, 2), (published, theirs, 1)):
        augmentations(folder, out=out, augment="train", n_galaxies=2, size=32, seed=seed)
    assert first.read_bytes() == same.read_bytes() != other.read_bytes()
    assert Image.open(theirs).size == Image.open(first).size
    with pytest.raises(OutputExistsError, match="--overwrite"):
        augmentations(dataset, out=first, n_galaxies=1)
    augmentations(dataset, out=first, augment="test", n_galaxies=2, size=32, overwrite=True)
    assert Image.open(first).width < Image.open(same).width


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"augment": "nix"}, InputError, "'nix' not found"),
        ({"n_galaxies": 0}, InputError, "n_galaxies must be from 1 to 100, got 0"),
        ({"size": 5000}, InputError, "size must be from 1 to 1,024, got 5000"),
        ({"seed": -1}, InputError, "seed must be from 0"),
        ({"out": "sheet.jpg"}, InputError, "ends in .png"),
        ({"out": "nowhere/augmentations.png"}, NotFoundError, "nowhere"),
        ({"split": "all"}, NotFoundError, "'all'"),
    ],
)
def test_invalid_arguments_of_a_sheet_are_rejected(
    wrong: dict[str, object], error: type[Exception], message: str, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / str(wrong.pop("out", "sheet.png"))
    with pytest.raises(error, match=message):
        augmentations(dataset, out=out, **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_sheet_names_a_corrupt_image_and_needs_images(sky: SimulateResult, dataset: Path, tmp_path: Path) -> None:
    corrupt, bare, out = tmp_path / "corrupt", tmp_path / "bare", tmp_path / "sheet.png"
    shutil.copytree(dataset, corrupt)
    opened = open_dataset(corrupt)
    index = opened.image_index("train")
    assert index is not None
    with index.paths[0].open("r+b") as file:
        file.seek(int(index.offset[0]))
        file.write(b"no image")
    with pytest.raises(ImageError, match=f"galaxy '{opened.read_votes('train')[0]['id_str'][0]}': The (image|file)"):
        augmentations(corrupt, out=out)
    build("gz2", votes=sky.votes, no_images=True, out=bare)
    with pytest.raises(DatasetError, match="contains no images"):
        augmentations(bare, out=out)
    assert not out.exists()
