"""What may happen to an image of a galaxy before a model sees it, for whole batches on the device they are on.

The image of a galaxy is resampled once: turn, mirror, zoom, shift, shear and the change of size are one matrix. What
happens to it follows from its own seed alone, by a counter-based hash in whole numbers: the same on every device, in
any batch, in any order, with any number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F

from gzoo.errors import InputError

_FINER = 1.1  # an image this much finer than what is drawn is made smaller first
_COARSEST_STEP = 1.5  # pixels from one sample to the next; beyond, several are averaged
_WHITE = 255  # of stored pixels
_DEGREE = math.pi / 180

# SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195), its constants as signed numbers
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)
# a 32-bit hash without visible bias (C. Wellons, https://nullprogram.com/blog/2018/07/31/)
_FIRST_32, _SECOND_32 = 0x7FEB352D, 0x846CA68B - (1 << 32)

# Which chance is whose; a place is never given to another, so that seeds keep their meaning.
_ROTATION, _FLIP, _FLIP_TOP, _ZOOM, _RIGHT, _DOWN, _SHEAR_X, _SHEAR_Y = range(8)
_BLUR, _BRIGHTNESS, _PHOTON_NOISE, _SKY_NOISE, _NOISE_KEY = range(8, 13)
_ERASED = 32  # and four more for each erased rectangle
_MAX_ERASED = 56
_CHANCES = _ERASED + 4 * _MAX_ERASED

Range = tuple[float, float]


class Parameters(NamedTuple):
    """What happens to each galaxy's image, in the order in which it happens.

    Attributes:
        shear_degrees: Shape (galaxy, 2), along x and along y.
        rotation_degrees: Clockwise, shape (galaxy,).
        zoom: Shape (galaxy,).
        shift: To the right and down, in widths of the image, shape (galaxy, 2).
        flipped: Whether left and right, top and bottom change places, shape (galaxy, 2).
        blur_pixels: Shape (galaxy,).
        brightness: Shape (galaxy,).
        photon_noise: Shape (galaxy,).
        sky_noise: Shape (galaxy,).
        noise_key: Where each galaxy's noise comes from, shape (galaxy,).
        erased: Top, left, height and width in widths of the image, shape (galaxy, rectangle, 4).
    """

    shear_degrees: torch.Tensor
    rotation_degrees: torch.Tensor
    zoom: torch.Tensor
    shift: torch.Tensor
    flipped: torch.Tensor
    blur_pixels: torch.Tensor
    brightness: torch.Tensor
    photon_noise: torch.Tensor
    sky_noise: torch.Tensor
    noise_key: torch.Tensor
    erased: torch.Tensor


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What may happen to an image. Each range is drawn from evenly; the defaults leave the image alone.

    Called with images and seeds, it gives augmented images; see `__call__`.

    Attributes:
        flips: Chances that left and right, and that top and bottom change places.
        rotation_degrees: Clockwise, about the middle.
        quarter_turns: Round rotations down to multiples of 90 degrees.
        zoom: How much larger the galaxy becomes; what no longer fits is cut off.
        shift: Farthest way to the right or left, and up or down, in widths of the image.
        shear_degrees: Along x, and as much at the most along y.
        blur_pixels: Standard deviation of the Gaussian by which seeing widens the image, in pixels of the result.
        brightness: Factor.
        photon_noise: Standard deviation of the noise at white; elsewhere its square goes with brightness.
        sky_noise: Standard deviation of the noise that is everywhere. White is 1.
        erasings: How many rectangles are made black.
        erased_area: Of each, as a share of the image.
        erased_ratio: Of its height and width, evenly in the logarithm.

    Raises:
        InputError: A value that cannot be.

    >>> import torch
    >>> turn = Augmentation(rotation_degrees=(90, 90))
    >>> turn(torch.tensor([[1, 0], [0, 0]], dtype=torch.uint8).expand(1, 3, 2, 2) * 255, torch.tensor([7]))[0, 0]
    tensor([[0., 1.],
            [0., 0.]])
    """

    flips: Range = (0.0, 0.0)
    rotation_degrees: Range = (0.0, 0.0)
    quarter_turns: bool = False
    zoom: Range = (1.0, 1.0)
    shift: float = 0.0
    shear_degrees: Range = (0.0, 0.0)
    blur_pixels: Range = (0.0, 0.0)
    brightness: Range = (1.0, 1.0)
    photon_noise: Range = (0.0, 0.0)
    sky_noise: Range = (0.0, 0.0)
    erasings: int = 0
    erased_area: Range = (0.002, 0.007)
    erased_ratio: Range = (0.5, 2.0)

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            ends = value if isinstance(value, tuple) else (value, value)
            is_valid = len(ends) == 2 and all(low <= end <= high for end in ends)
            if not is_valid or (name != "flips" and ends[0] > ends[1]):
                kind = "Two numbers" if name == "flips" else "A lowest and a highest value"
                kind = kind if isinstance(_DEFAULTS[name], tuple) else "A number"
                raise InputError(
                    f"{name} of an augmentation is {value}.", f"{kind} within {low:g} and {high:g}.", "Give it so."
                )

    def __call__(
        self,
        images: torch.Tensor,
        seeds: torch.Tensor,
        size: int | None = None,
        *,
        view: int = 0,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images as a model is to see them, on the device where they are.

        Where nothing but quarter turns and mirroring can happen and the size stays, pixels change places and keep
        their values. Outside of the image it is black. On a CPU it works image by image without any state of
        its own, so threads may share the galaxies of a batch.

        Args:
            images: uint8, or floats from 0 to 1; shape (galaxy, 3, side, side).
            seeds: int64, shape (galaxy,).
            size: Width and height of the result in pixels; by default that of the images.
            view: Which of several views of the same galaxies, to average over. Their angles are spread evenly: views
                0 to 7 of `augmentation("average")` are the eight orientations.
            out: Where to put the result; new memory by default.

        Returns:
            float32 from 0 to 1, shape (galaxy, 3, size, size).

        Raises:
            InputError: Images, seeds or `out` of another shape or type, or a size below 1.
        """
        size = _checked(images, seeds, size, view, out)
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            with torch.no_grad():
                steps = self._steps(self.parameters(seeds.to(images.device), view), images.shape[3], size)
                made = self._augmented(images, steps, size)
                made = made * _kept(steps.erased, size) if self.erasings else made
                return made if out is None else out.copy_(made)
        out = torch.empty(len(images), 3, size, size) if out is None else out
        plan = self.plan(seeds, images.shape[3], size, view=view)
        # one by one, so that all is done while an image is in the cache
        for place in range(len(images)):
            plan.draw(place, images[place : place + 1], out[place : place + 1])
        return out

    def plan(self, seeds: torch.Tensor, side: int, size: int, *, view: int = 0) -> Plan:
        """What is done to images with these seeds, to be drawn on a CPU one by one.

        Args:
            seeds: int64, shape (galaxy,).
            side: Width and height of the images in pixels.
            size: The same of what is drawn of them.
            view: See `__call__`.

        >>> import torch
        >>> plan, out = augmentation("train").plan(torch.tensor([4, 2]), side=8, size=4), torch.zeros(1, 3, 4, 4)
        >>> plan.draw(1, torch.full((1, 3, 8, 8), 255, dtype=torch.uint8), out)
        >>> bool((out[0, :, 1:3, 1:3] > 0.8).all())
        True
        """
        with torch.no_grad():
            steps = self._steps(self.parameters(seeds, view), side, size)
        return Plan(self._augmented, steps, size)

    def parameters(self, seeds: torch.Tensor, view: int = 0) -> Parameters:
        """What happens to the images of galaxies with these seeds.

        Args:
            seeds: int64, shape (galaxy,).
            view: See `__call__`.

        >>> import torch
        >>> Augmentation(rotation_degrees=(0, 360)).parameters(torch.tensor([1, 2])).rotation_degrees
        tensor([269.9094,  91.5170])
        """
        places = torch.arange(_ERASED + 4 * self.erasings, device=seeds.device)
        if view:  # angles and mirroring keep the galaxy's chance, shifted from view to view; all else is drawn anew
            places = places + (places >= _ZOOM) * (view * _CHANCES)
        words = _words(seeds, places)
        chance = ((words >> 40) & 0xFFFFFF).to(torch.float32) * 2**-24
        turn, flip = _spread(view)
        angle = _within((chance[:, _ROTATION] + turn) % 1, self.rotation_degrees)
        flipped = torch.stack([(chance[:, _FLIP] + flip) % 1 < self.flips[0], chance[:, _FLIP_TOP] < self.flips[1]], 1)
        both_ways = (-self.shift, self.shift)
        return Parameters(
            shear_degrees=_within(chance[:, _SHEAR_X : _SHEAR_Y + 1], self.shear_degrees),
            rotation_degrees=torch.floor(angle / 90) * 90 if self.quarter_turns else angle,
            zoom=_within(chance[:, _ZOOM], self.zoom),
            shift=_within(chance[:, _RIGHT : _DOWN + 1], both_ways),
            flipped=flipped,
            blur_pixels=_within(chance[:, _BLUR], self.blur_pixels),
            brightness=_within(chance[:, _BRIGHTNESS], self.brightness),
            photon_noise=_within(chance[:, _PHOTON_NOISE], self.photon_noise),
            sky_noise=_within(chance[:, _SKY_NOISE], self.sky_noise),
            noise_key=words[:, _NOISE_KEY],
            erased=self._rectangles(chance[:, _ERASED:]),
        )

    def source_pixels(self, size: int) -> int:
        """How wide an image has to be for nothing to be lost that could be seen at a size.

        >>> augmentation("galaxy-datasets").source_pixels(224)
        314
        """
        return math.ceil(size * self.zoom[1])

    def source_range(self, size: int) -> tuple[int, int]:
        """How wide images are best given: no less than is needed, no more than is used without being resized.

        >>> augmentation("galaxy-datasets").source_range(224)
        (314, 345)
        """
        wanted = self.source_pixels(size)
        return wanted, wanted if self.is_exact else int(_FINER * wanted)

    @property
    def is_exact(self) -> bool:
        """Whether pixels only ever change places, as long as the size stays."""
        angles = (0.0,) if self.quarter_turns else self.rotation_degrees
        is_square = angles[0] == angles[-1] and angles[0] % 90 == 0
        return is_square and self.zoom == (1, 1) and not self.shift and self.shear_degrees == (0, 0)

    def _rectangles(self, chance: torch.Tensor) -> torch.Tensor:
        area, ratio, top, left = chance.view(len(chance), self.erasings, 4).unbind(2)
        area = _within(area, self.erased_area)
        low, high = self.erased_ratio
        root = _within(ratio, (math.log(low) / 2, math.log(high) / 2)).exp()
        height, width = (area.sqrt() * root).clamp(max=1), (area.sqrt() / root).clamp(max=1)
        return torch.stack([top * (1 - height), left * (1 - width), height, width], 2)

    def _drawn(self, side: int, size: int) -> tuple[int, int]:
        """How wide an image is made before it is resampled, and how many samples a pixel is across."""
        wanted, most = self.source_range(size)
        side = wanted if side > most else side
        return side, math.ceil(side / (size * self.zoom[0]) / _COARSEST_STEP)

    def _steps(self, found: Parameters, side: int, size: int) -> _Steps:
        """What is done to images of that size."""
        none = found.zoom  # stands for what is not needed
        n_samples = size * self._drawn(side, size)[1]
        columns, rows = (none, none) if self.is_exact else _places(_matrix(found), n_samples)
        turns = torch.round(found.rotation_degrees / 90) % 4 if self.is_exact else none
        return _Steps(
            columns=columns,
            rows=rows,
            is_on_its_side=turns % 2 == 1 if self.is_exact else none,
            is_mirrored=_mirrored(found.flipped, turns) if self.is_exact else none,
            blur=_weights(found.blur_pixels, math.ceil(3 * self.blur_pixels[1])) if self.blur_pixels[1] else none,
            brightness=found.brightness,
            photon_variance=found.photon_noise.square(),
            sky_variance=found.sky_noise.square(),
            noise_key=found.noise_key,
            erased=_pixels(found.erased, size),
        )

    def _augmented(
        self, images: torch.Tensor, steps: _Steps, size: int, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """All but that parts are erased."""
        is_stored = images.dtype == torch.uint8
        images = images if is_stored else images.to(torch.float32)
        moved = self._turned(images, steps, size) if self.is_exact else self._resampled(images, steps, size)
        white = _WHITE if is_stored else 1
        if self._changes_light:
            moved, white = self._lit(moved.to(torch.float32) / white, steps), 1
        if white != 1:
            moved = torch.div(moved, white, out=out)
        return torch.clamp(moved, 0, 1, out=out)

    @property
    def _changes_light(self) -> bool:
        """Whether anything happens to pixels other than that they move or are erased."""
        return bool(self.blur_pixels[1] or self.photon_noise[1] or self.sky_noise[1] or self.brightness != (1, 1))

    def _lit(self, images: torch.Tensor, steps: _Steps) -> torch.Tensor:
        """Images, from 0 to 1, blurred, brighter or darker, and with noise."""
        if self.blur_pixels[1]:
            images = _blurred(images, steps.blur)
        if self.brightness != (1, 1):
            images = images * _each(steps.brightness)
        if self.photon_noise[1] or self.sky_noise[1]:
            variance = torch.addcmul(_each(steps.sky_variance), images, _each(steps.photon_variance))
            images = torch.addcmul(images, variance.sqrt(), _normal(steps.noise_key, images))
        return images

    def _turned(self, images: torch.Tensor, steps: _Steps, size: int) -> torch.Tensor:
        """Images in one of their eight orientations."""
        moved = _resized(images, size)
        if not self.quarter_turns and self.rotation_degrees == (0, 0) and self.flips == (0, 0):
            return moved
        moved = torch.where(_each(steps.is_on_its_side), moved.transpose(2, 3), moved)
        moved = torch.where(_each(steps.is_mirrored[:, 0]), moved.flip(3), moved)
        return torch.where(_each(steps.is_mirrored[:, 1]), moved.flip(2), moved)

    def _resampled(self, images: torch.Tensor, steps: _Steps, size: int) -> torch.Tensor:
        side, finer = self._drawn(images.shape[3], size)
        grid = (steps.columns + steps.rows).permute(0, 2, 3, 1)
        drawn = F.grid_sample(_resized(images, side).to(torch.float32), grid, align_corners=False)
        return F.avg_pool2d(drawn, finer) if finer > 1 else drawn


_DEFAULTS = {one.name: one.default for one in fields(Augmentation)}
_LIMITS: dict[str, Range] = {
    "flips": (0, 1),
    "rotation_degrees": (-360, 360),
    "zoom": (0.1, 10),
    "shift": (0, 1),
    "shear_degrees": (-60, 60),
    "blur_pixels": (0, 10),
    "brightness": (0, 10),
    "photon_noise": (0, 1),
    "sky_noise": (0, 1),
    "erasings": (0, _MAX_ERASED),
    "erased_area": (0, 1),
    "erased_ratio": (0.01, 100),
}

PRESETS = {
    "train": Augmentation(
        flips=(0.5, 0.0),
        rotation_degrees=(0, 360),
        zoom=(0.9, 1.15),
        shift=0.03,
        blur_pixels=(0.0, 0.6),
        brightness=(0.9, 1.1),
        photon_noise=(0.0, 0.03),
        sky_noise=(0.0, 0.015),
    ),
    "test": Augmentation(),
    "average": Augmentation(flips=(0.5, 0.0), rotation_degrees=(0, 360), quarter_turns=True),
    "galaxy-datasets": Augmentation(
        flips=(0.5, 0.5),
        rotation_degrees=(-90, 90),
        zoom=(1.2, 1.4),
        shift=0.1,
        shear_degrees=(0, 20),
        erasings=5,
    ),
}


def augmentation(name: str | Augmentation) -> Augmentation:
    """An augmentation by name; what is one already is handed back.

    - `train`: for long training. The sky has no up and no handedness, so any rotation and mirroring; zoom, shift,
      brightness, seeing and noise by as little as images of one survey differ in. No shear, for it changes how
      round a galaxy is, and nothing erased: volunteers were asked about what would be hidden.
    - `test`: nothing but the size.
    - `average`: one of the eight orientations; views 0 to 7 are all of them.
    - `galaxy-datasets`: the same distribution as the default of the package of that name, 0.0.25.

    Raises:
        InputError: There is none of that name.

    >>> augmentation("test") == Augmentation()
    True
    """
    if isinstance(name, Augmentation):
        return name
    if name not in PRESETS:
        raise InputError(f"There is no augmentation '{name}'.", f"One of {', '.join(PRESETS)}.", "Choose one.")
    return PRESETS[name]


# --- Chance -----------------------------------------------------------------------------------------------------------


def _hashed(x: torch.Tensor) -> torch.Tensor:
    """Whole numbers of 64 bits, each changed into one that looks like chance: the end of SplitMix64."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _words(seeds: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The sequence of SplitMix64 that begins at each galaxy's hashed seed, at some places; shape (galaxy, place)."""
    steps = (places + 1) & 0x7FFFFFFF  # which changes none, and keeps torch.compile from multiplying beyond 64 bits
    return _hashed(_hashed(seeds)[:, None] + _GOLDEN * steps)


def _within(chance: torch.Tensor, ends: Range) -> torch.Tensor:
    return ends[0] + (ends[1] - ends[0]) * chance


def _spread(view: int) -> tuple[float, float]:
    """How far a view's chances of angle and mirroring are from those of view 0.

    Four views are a quarter of the circle apart, the next four are mirrored, and so on with angles in between.
    """
    turn, step = 0.0, 0.5
    for bit in (0, 1, *range(3, view.bit_length())):
        turn += step * (view >> bit & 1)
        step /= 2
    return turn, 0.5 * (view >> 2 & 1)


def _normal(keys: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Normal deviates, each from its galaxy's key and its place in the image alone: quantiles of 16-bit numbers."""
    n = like[0].numel()
    pairs = torch.arange((n + 1) // 2, dtype=torch.int32, device=like.device)
    drawn = _hashed_32(pairs + keys.to(torch.int32)[:, None]).view(torch.int16)
    even = (drawn[:, :n].to(torch.float32) + 0.5) * 2**-15  # from -1 to 1
    return (torch.erfinv(even) * math.sqrt(2)).view(like.shape)


def _hashed_32(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ ((x >> 16) & 0xFFFF)) * _FIRST_32
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _SECOND_32
    return x ^ ((x >> 16) & 0xFFFF)


# --- Pixels -----------------------------------------------------------------------------------------------------------


class _Steps(NamedTuple):
    """What is done to the pixels of each galaxy: `Parameters` as the arithmetic wants them."""

    columns: torch.Tensor
    rows: torch.Tensor
    is_on_its_side: torch.Tensor
    is_mirrored: torch.Tensor
    blur: torch.Tensor
    brightness: torch.Tensor
    photon_variance: torch.Tensor
    sky_variance: torch.Tensor
    noise_key: torch.Tensor
    erased: torch.Tensor


class Plan:
    """What is done to some images of one size; made by `Augmentation.plan`. Threads may share it."""

    def __init__(self, augmented: Callable[..., torch.Tensor], steps: _Steps, size: int) -> None:
        self._augmented, self._size = augmented, size
        self._erased = cast("list[list[tuple[int, int, int, int]]]", steps.erased.tolist())
        self._steps = [_Steps(*one) for one in zip(*(each.split(1) for each in steps), strict=True)]

    def draw(self, place: int, image: torch.Tensor, out: torch.Tensor) -> None:
        """Draw one of the images.

        Args:
            place: Which of the seeds is its own.
            image: uint8, or floats from 0 to 1; shape (1, 3, side, side).
            out: Where to put the result, float32 from 0 to 1, shape (1, 3, size, size).
        """
        with torch.no_grad():
            self._augmented(image, self._steps[place], self._size, out)
        pixels = out.numpy()[0]  # whose parts NumPy fills in a tenth of the time
        for top, bottom, left, right in self._erased[place]:
            pixels[:, top:bottom, left:right] = 0


def _each(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images of another size, without aliasing."""
    if images.shape[-1] == size:
        return images
    if images.dtype == torch.uint8 and images.device.type == "cpu":
        images = images.contiguous(memory_format=torch.channels_last)  # for which there is a fast way
    elif not images.is_floating_point():
        images = images.to(torch.float32)
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def _mirrored(flipped: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Whether left and right, top and bottom change places once a quarter turn has swapped rows and columns."""
    by_turning = torch.stack([(turns == 1) | (turns == 2), (turns == 2) | (turns == 3)], 1)
    return flipped ^ by_turning


def _matrix(found: Parameters) -> torch.Tensor:
    """From places in the result to places in the image, shape (galaxy, 2, 3)."""
    angle = found.rotation_degrees * _DEGREE
    cos, sin = angle.cos() / found.zoom, angle.sin() / found.zoom
    tan_x, tan_y = (found.shear_degrees * _DEGREE).tan().unbind(1)
    # the way back: unturned and unzoomed, then unsheared along y, then along x
    lower = torch.stack([tan_y * cos - sin, tan_y * sin + cos], 1)
    linear = torch.stack([torch.stack([cos, sin], 1) + tan_x[:, None] * lower, lower], 1)
    origin = -2 * (linear * found.shift[:, None]).sum(2, keepdim=True)
    mirror = 1 - 2 * found.flipped.to(torch.float32)
    return torch.cat([linear * mirror[:, None], origin], 2)


def _places(matrix: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the pixels of the result lie in the image, from -1 to 1 in x and y: what columns and rows add to it.

    Shapes (galaxy, 2, 1, size) and (galaxy, 2, size, 1).
    """
    places = (torch.arange(size, device=matrix.device) * 2 + 1) / size - 1
    columns = matrix[:, :, 0, None] * places
    rows = torch.addcmul(matrix[:, :, 2, None], matrix[:, :, 1, None], places)
    return columns[:, :, None, :], rows[:, :, :, None]


def _weights(width: torch.Tensor, radius: int) -> torch.Tensor:
    """Of a Gaussian, from its middle outwards; shape (galaxy, radius + 1)."""
    steps = torch.arange(radius + 1, device=width.device)
    weights = torch.exp(-0.5 * (steps / width.clamp(min=1e-3)[:, None]).square())
    return weights / (2 * weights.sum(1, keepdim=True) - 1)


def _blurred(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Images under a Gaussian each; beyond their border they go on as they end."""
    radius = weights.shape[1] - 1
    for dimension, margins in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        n = images.shape[dimension]
        wide = F.pad(images, margins, mode="replicate")
        images = images * _each(weights[:, 0])
        for step in range(1, radius + 1):
            for start in (radius - step, radius + step):
                images = torch.addcmul(images, wide.narrow(dimension, start, n), _each(weights[:, step]))
    return images


def _pixels(rectangles: torch.Tensor, size: int) -> torch.Tensor:
    """First row, the row behind the last, and the same of columns, of the pixels whose middles are in rectangles.

    Args:
        rectangles: Top, left, height and width in widths of the image, shape (galaxy, rectangle, 4).
        size: Width and height of the image in pixels.
    """
    start, length = rectangles[..., :2], rectangles[..., 2:]
    ends = torch.stack([start, start + length], 3)
    return torch.ceil(ends * size - 0.5).to(torch.int64).flatten(2)


def _kept(erased: torch.Tensor, size: int) -> torch.Tensor:
    """0 for each pixel in a rectangle of its galaxy, else 1; shape (galaxy, 1, size, size)."""
    places = torch.arange(size, device=erased.device)
    first, behind = erased[..., 0::2, None], erased[..., 1::2, None]
    rows, columns = ((places >= first) & (places < behind)).to(torch.float32).unbind(2)
    return (torch.matmul(rows.transpose(1, 2), columns) < 0.5).to(torch.float32)[:, None]


def _checked(images: torch.Tensor, seeds: torch.Tensor, size: int | None, view: int, out: torch.Tensor | None) -> int:
    """The size of the result, if all arguments fit together."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not shape[3]:
        raise InputError(
            f"Images of shape {shape} to augment.",
            "Shape (galaxy, 3, side, side).",
            "Cut them square, and put colours before rows and columns.",
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise InputError(
            f"Images of type {images.dtype} to augment.", "torch.uint8, or floats from 0 to 1.", "Convert them."
        )
    if seeds.shape != shape[:1] or seeds.dtype != torch.int64:
        raise InputError(
            f"Seeds of shape {tuple(seeds.shape)} and type {seeds.dtype} for {shape[0]} images.",
            f"Shape ({shape[0]},) and type torch.int64.",
            "Give each galaxy a seed.",
        )
    size = shape[3] if size is None else size
    if size < 1 or view < 0:
        wrong = f"view {view}" if view < 0 else f"size {size}"
        raise InputError(f"Images with {wrong}.", "A size of at least 1, a view of at least 0.", "Give one.")
    wanted = (shape[0], 3, size, size)
    if out is not None and (tuple(out.shape) != wanted or out.dtype != torch.float32 or out.device != images.device):
        raise InputError(
            f"Memory of shape {tuple(out.shape)} and type {out.dtype} on {out.device} for augmented images.",
            f"Shape {wanted} and type torch.float32 on {images.device}.",
            "Leave it out, or give such.",
        )
    return size
