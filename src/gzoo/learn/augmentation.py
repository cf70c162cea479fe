"""Random augmentation of galaxy images, for whole batches on the device that they are on.

Each image is resampled once: rotation, mirroring, zoom, shift, shear and the change of size are one matrix. The
parameters depend only on the galaxy's own seed, through a counter-based integer hash: they are the same on every
device, in any batch, in any order, with any number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F

from gzoo.display import Shown
from gzoo.errors import InputError, choices, suggestion

_MAX_OVERSIZE = 1.1  # images that exceed the needed size by a larger factor are reduced before resampling
_MAX_STEP = 1.5  # pixels between neighbouring samples; beyond this, several samples are averaged
_WHITE = 255  # stored value of a white pixel
_DEGREE = math.pi / 180

# constants of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195) as signed integers
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)
# a 32-bit hash without visible bias (C. Wellons, https://nullprogram.com/blog/2018/07/31/)
_FIRST_32, _SECOND_32 = 0x7FEB352D, 0x846CA68B - (1 << 32)

# Position of each parameter in a galaxy's random sequence. Positions are never reassigned, so that a seed always gives
# the same augmentation.
_ROTATION, _FLIP, _FLIP_TOP, _ZOOM, _RIGHT, _DOWN, _SHEAR_X, _SHEAR_Y = range(8)
_BLUR, _BRIGHTNESS, _PHOTON_NOISE, _SKY_NOISE, _NOISE_KEY = range(8, 13)
_ERASED = 32  # four positions for each erased rectangle
_MAX_ERASED = 56
_N_POSITIONS = _ERASED + 4 * _MAX_ERASED

Range = tuple[float, float]
_Steps = dict[str, torch.Tensor]  # `Parameters` of each galaxy in the form that the computation needs


class Parameters(NamedTuple):
    """Parameters of each galaxy's augmentation, in the order in which they are applied.

    Attributes:
        shear_degrees: Shear along x and along y, shape (galaxy, 2).
        rotation_degrees: Clockwise rotation, shape (galaxy,).
        zoom: Magnification, shape (galaxy,).
        shift: Shift to the right and down, in image widths, shape (galaxy, 2).
        flipped: Whether the image is mirrored left to right and top to bottom, shape (galaxy, 2).
        blur_pixels: Standard deviation of the blur, shape (galaxy,).
        brightness: Factor on pixel values, shape (galaxy,).
        photon_noise: Standard deviation of the noise at white, shape (galaxy,).
        sky_noise: Standard deviation of the uniform noise, shape (galaxy,).
        noise_key: Seed of the noise, shape (galaxy,).
        erased: Top, left, height and width of each rectangle in image widths, shape (galaxy, rectangle, 4).
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


@dataclass(frozen=True, slots=True, repr=False)
class Augmentation(Shown):
    """Distribution of random augmentations; call it with images and seeds (see `__call__`).

    Values are uniformly distributed within each range (lowest, highest). The defaults do not change the image.

    Attributes:
        flips: Probabilities of mirroring left to right and top to bottom.
        rotation_degrees: Range of the clockwise rotation about the centre.
        quarter_turns: Whether rotations are rounded down to multiples of 90 degrees.
        zoom: Range of the magnification; parts that no longer fit are cropped.
        shift: Maximum shift in each direction, in image widths.
        shear_degrees: Range of the shear, along x and along y.
        blur_pixels: Range of the standard deviation of a Gaussian blur (seeing), in pixels of the result.
        brightness: Range of a factor on pixel values.
        photon_noise: Range of the standard deviation of the noise at white (1); its variance is proportional to
            brightness.
        sky_noise: Range of the standard deviation of noise that does not depend on brightness; white is 1.
        erasings: Number of rectangles that are set to black.
        erased_area: Range of the area of each rectangle, as a fraction of the image.
        erased_ratio: Range of the ratio of height to width, uniform in the logarithm.

    Raises:
        InputError: A value is out of range.

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
                kind = _KINDS.get(name, "a lowest and a highest value")
                raise InputError(f"Invalid value for {name}: {value}.", f"{kind} from {low:g} to {high:g}.")

    def __call__(
        self,
        images: torch.Tensor,
        seeds: torch.Tensor,
        size: int | None = None,
        *,
        view: int = 0,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return augmented images, on the same device.

        If only quarter turns and mirroring are possible and the size does not change, pixels are moved without
        changing their values. Pixels outside the original image are black. On a CPU, images are processed one by one
        without shared state, so threads may divide a batch among them.

        Args:
            images: uint8, or floats from 0 to 1; shape (galaxy, 3, side, side).
            seeds: int64, shape (galaxy,).
            size: Width and height of the result in pixels; by default that of the images.
            view: Number of the view, for test-time augmentation. The angles of successive views are evenly spaced:
                views 0 to 7 of `augmentation("average")` are the eight orientations.
            out: Tensor for the result; a new one by default.

        Returns:
            float32 from 0 to 1, shape (galaxy, 3, size, size).

        Raises:
            InputError: Images, seeds or `out` have a wrong shape or type, or the size is below 1.
        """
        size = _check(images, seeds, size, view, out)
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            with torch.no_grad():
                steps = self._steps(self.parameters(seeds.to(images.device), view), images.shape[3], size)
                augmented = self._apply(images, steps, size)
                augmented = augmented * _erasure_mask(steps["erased"], size) if self.erasings else augmented
                return augmented if out is None else out.copy_(augmented)
        out = torch.empty(len(images), 3, size, size) if out is None else out
        plan = self.plan(seeds, images.shape[3], size, view=view)
        # one by one, so that an image stays in the CPU cache for all steps
        for place in range(len(images)):
            plan.draw(place, images[place : place + 1], out[place : place + 1])
        return out

    def plan(self, seeds: torch.Tensor, side: int, size: int, *, view: int = 0) -> Plan:
        """Return the augmentation of images with these seeds, to apply on a CPU one by one.

        Args:
            seeds: int64, shape (galaxy,).
            side: Width and height of the images in pixels.
            size: Width and height of the results in pixels.
            view: Number of the view; see `__call__`.

        >>> import torch
        >>> plan, out = augmentation("train").plan(torch.tensor([4, 2]), side=8, size=4), torch.zeros(1, 3, 4, 4)
        >>> plan.draw(1, torch.full((1, 3, 8, 8), 255, dtype=torch.uint8), out)
        >>> bool((out[0, :, 1:3, 1:3] > 0.8).all())
        True
        """
        with torch.no_grad():
            steps = self._steps(self.parameters(seeds, view), side, size)
        return Plan(self._apply, steps, size)

    def parameters(self, seeds: torch.Tensor, view: int = 0) -> Parameters:
        """Return the parameters of galaxies with these seeds.

        Args:
            seeds: int64, shape (galaxy,).
            view: Number of the view; see `__call__`.

        >>> import torch
        >>> Augmentation(rotation_degrees=(0, 360)).parameters(torch.tensor([1, 2])).rotation_degrees
        tensor([269.9094,  91.5170])
        """
        places = torch.arange(_ERASED + 4 * self.erasings, device=seeds.device)
        if view:  # angles and mirroring keep the galaxy's random numbers, shifted per view; the rest get new ones
            places = places + (places >= _ZOOM) * (view * _N_POSITIONS)
        words = _random_words(seeds, places)
        uniform = ((words >> 40) & 0xFFFFFF).to(torch.float32) * 2**-24
        turn, flip = _view_offsets(view)
        angle = _scaled((uniform[:, _ROTATION] + turn) % 1, self.rotation_degrees)
        left_right = (uniform[:, _FLIP] + flip) % 1 < self.flips[0]
        return Parameters(
            shear_degrees=_scaled(uniform[:, _SHEAR_X : _SHEAR_Y + 1], self.shear_degrees),
            rotation_degrees=torch.floor(angle / 90) * 90 if self.quarter_turns else angle,
            zoom=_scaled(uniform[:, _ZOOM], self.zoom),
            shift=_scaled(uniform[:, _RIGHT : _DOWN + 1], (-self.shift, self.shift)),
            flipped=torch.stack([left_right, uniform[:, _FLIP_TOP] < self.flips[1]], 1),
            blur_pixels=_scaled(uniform[:, _BLUR], self.blur_pixels),
            brightness=_scaled(uniform[:, _BRIGHTNESS], self.brightness),
            photon_noise=_scaled(uniform[:, _PHOTON_NOISE], self.photon_noise),
            sky_noise=_scaled(uniform[:, _SKY_NOISE], self.sky_noise),
            noise_key=words[:, _NOISE_KEY],
            erased=self._rectangles(uniform[:, _ERASED:]),
        )

    def source_pixels(self, size: int) -> int:
        """Return the image size at which no detail is lost that a result of `size` pixels could show.

        >>> augmentation("galaxy-datasets").source_pixels(224)
        314
        """
        return math.ceil(size * self.zoom[1])

    def source_range(self, size: int) -> tuple[int, int]:
        """Return the smallest image size that loses no detail, and the largest that is not reduced first.

        >>> augmentation("galaxy-datasets").source_range(224)
        (314, 345)
        """
        wanted = self.source_pixels(size)
        return wanted, wanted if self.is_exact else int(_MAX_OVERSIZE * wanted)

    @property
    def is_exact(self) -> bool:
        """Whether pixels are only moved, if the size does not change."""
        angles = (0.0,) if self.quarter_turns else self.rotation_degrees
        is_square = angles[0] == angles[-1] and angles[0] % 90 == 0
        return is_square and self.zoom == (1, 1) and not self.shift and self.shear_degrees == (0, 0)

    def _rectangles(self, uniform: torch.Tensor) -> torch.Tensor:
        area, ratio, top, left = uniform.view(len(uniform), self.erasings, 4).unbind(2)
        area = _scaled(area, self.erased_area)
        low, high = self.erased_ratio
        root = _scaled(ratio, (math.log(low) / 2, math.log(high) / 2)).exp()
        height, width = (area.sqrt() * root).clamp(max=1), (area.sqrt() / root).clamp(max=1)
        return torch.stack([top * (1 - height), left * (1 - width), height, width], 2)

    def _sampling(self, side: int, size: int) -> tuple[int, int]:
        """Return the size to which an image is reduced before resampling, and the samples per pixel and dimension."""
        wanted, largest = self.source_range(size)
        side = wanted if side > largest else side
        return side, math.ceil(side / (size * self.zoom[0]) / _MAX_STEP)

    def _steps(self, found: Parameters, side: int, size: int) -> _Steps:
        """Return the parameters in the form that the computation needs."""
        steps = {
            "brightness": found.brightness,
            "photon_variance": found.photon_noise.square(),
            "sky_variance": found.sky_noise.square(),
            "noise_key": found.noise_key,
            "erased": _pixel_ranges(found.erased, size),
        }
        if self.is_exact:
            turns = torch.round(found.rotation_degrees / 90) % 4
            steps |= {"is_transposed": turns % 2 == 1, "is_mirrored": _mirrored(found.flipped, turns)}
        else:
            n_samples = size * self._sampling(side, size)[1]
            steps["columns"], steps["rows"] = _coordinates(_matrix(found), n_samples)
        if radius := math.ceil(3 * self.blur_pixels[1]):
            steps["blur"] = _gaussian_weights(found.blur_pixels, radius)
        return steps

    def _apply(self, images: torch.Tensor, steps: _Steps, size: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return augmented images, apart from erased rectangles."""
        is_stored = images.dtype == torch.uint8
        images = images if is_stored else images.to(torch.float32)
        moved = self._reorient(images, steps, size) if self.is_exact else self._resample(images, steps, size)
        white = _WHITE if is_stored else 1
        if self._changes_light:
            moved, white = self._change_light(moved.to(torch.float32) / white, steps), 1
        if white != 1:
            moved = torch.div(moved, white, out=out)
        return torch.clamp(moved, 0, 1, out=out)

    @property
    def _changes_light(self) -> bool:
        """Whether pixel values change other than by moving or erasing pixels."""
        return bool(self.blur_pixels[1] or self.photon_noise[1] or self.sky_noise[1] or self.brightness != (1, 1))

    def _change_light(self, images: torch.Tensor, steps: _Steps) -> torch.Tensor:
        """Return images, from 0 to 1, with blur, brightness and noise applied."""
        if self.blur_pixels[1]:
            images = _blurred(images, steps["blur"])
        if self.brightness != (1, 1):
            images = images * _each(steps["brightness"])
        if self.photon_noise[1] or self.sky_noise[1]:
            variance = torch.addcmul(_each(steps["sky_variance"]), images, _each(steps["photon_variance"]))
            images = torch.addcmul(images, variance.sqrt(), _normal(steps["noise_key"], images))
        return images

    def _reorient(self, images: torch.Tensor, steps: _Steps, size: int) -> torch.Tensor:
        """Return images in one of their eight orientations."""
        moved = _resized(images, size)
        if not self.quarter_turns and self.rotation_degrees == (0, 0) and self.flips == (0, 0):
            return moved
        moved = torch.where(_each(steps["is_transposed"]), moved.transpose(2, 3), moved)
        moved = torch.where(_each(steps["is_mirrored"][:, 0]), moved.flip(3), moved)
        return torch.where(_each(steps["is_mirrored"][:, 1]), moved.flip(2), moved)

    def _resample(self, images: torch.Tensor, steps: _Steps, size: int) -> torch.Tensor:
        side, n_samples = self._sampling(images.shape[3], size)
        grid = (steps["columns"] + steps["rows"]).permute(0, 2, 3, 1)
        sampled = F.grid_sample(_resized(images, side).to(torch.float32), grid, align_corners=False)
        return F.avg_pool2d(sampled, n_samples) if n_samples > 1 else sampled


_KINDS = {"flips": "two probabilities", "shift": "a number", "erasings": "a number"}
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
    """Return a preset augmentation by name; an `Augmentation` is returned unchanged.

    - `train`: for long training. Any rotation and mirroring, because all directions on the sky are equivalent; zoom,
      shift, brightness, seeing and noise within the variation of one survey. No shear, which would change how round a
      galaxy is, and no erased parts, which volunteers could see.
    - `test`: only the change of size.
    - `average`: one of the eight orientations; views 0 to 7 are all of them.
    - `galaxy-datasets`: the distribution of the default of the package galaxy-datasets, version 0.0.25.

    Raises:
        InputError: The preset does not exist.

    >>> augmentation("test") == Augmentation()
    True
    """
    if isinstance(name, Augmentation):
        return name
    if name not in PRESETS:
        raise InputError(f"Augmentation '{name}' not found.", choices(PRESETS, name), suggestion(PRESETS, name))
    return PRESETS[name]


# --- Random numbers ---------------------------------------------------------------------------------------------------


def _hashed(x: torch.Tensor) -> torch.Tensor:
    """Return pseudo-random 64-bit integers: the output function of SplitMix64."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _random_words(seeds: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the SplitMix64 sequence from each galaxy's hashed seed at some positions; shape (galaxy, position)."""
    steps = (places + 1) & 0x7FFFFFFF  # changes nothing, but keeps torch.compile from multiplying beyond 64 bits
    return _hashed(_hashed(seeds)[:, None] + _GOLDEN * steps)


def _scaled(uniform: torch.Tensor, ends: Range) -> torch.Tensor:
    return ends[0] + (ends[1] - ends[0]) * uniform


def _view_offsets(view: int) -> tuple[float, float]:
    """Return the offsets of a view's random numbers for angle and mirroring from those of view 0.

    The first four views are a quarter turn apart, the next four are mirrored, and further ones have angles in between.
    """
    turn, step = 0.0, 0.5
    for bit in (0, 1, *range(3, view.bit_length())):
        turn += step * (view >> bit & 1)
        step /= 2
    return turn, 0.5 * (view >> 2 & 1)


def _normal(keys: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return normal deviates that depend only on the galaxy's key and the pixel: quantiles of 16-bit numbers."""
    n = like[0].numel()
    pairs = torch.arange((n + 1) // 2, dtype=torch.int32, device=like.device)
    words = _hashed_32(pairs + keys.to(torch.int32)[:, None]).view(torch.int16)
    uniform = (words[:, :n].to(torch.float32) + 0.5) * 2**-15  # from -1 to 1
    return (torch.erfinv(uniform) * math.sqrt(2)).view(like.shape)


def _hashed_32(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ ((x >> 16) & 0xFFFF)) * _FIRST_32
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _SECOND_32
    return x ^ ((x >> 16) & 0xFFFF)


# --- Pixels -----------------------------------------------------------------------------------------------------------


class Plan:
    """Augmentation of a batch of images of one size, made by `Augmentation.plan`; threads may share it."""

    def __init__(self, apply: Callable[..., torch.Tensor], steps: _Steps, size: int) -> None:
        self._apply, self._size = apply, size
        self._erased = cast("list[list[tuple[int, int, int, int]]]", steps["erased"].tolist())
        of_each = zip(*(values.split(1) for values in steps.values()), strict=True)
        self._steps: list[_Steps] = [dict(zip(steps, values, strict=True)) for values in of_each]

    def draw(self, place: int, image: torch.Tensor, out: torch.Tensor) -> None:
        """Augment one of the images.

        Args:
            place: Position of its seed in the batch.
            image: uint8, or floats from 0 to 1; shape (1, 3, side, side).
            out: Tensor for the result, float32 from 0 to 1, shape (1, 3, size, size).
        """
        with torch.no_grad():
            self._apply(image, self._steps[place], self._size, out)
        pixels = out.numpy()[0]  # NumPy fills rectangles in a tenth of the time
        for top, bottom, left, right in self._erased[place]:
            pixels[:, top:bottom, left:right] = 0


def _each(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Return images of another size, without aliasing."""
    if images.shape[-1] == size:
        return images
    if images.dtype == torch.uint8 and images.device.type == "cpu":
        images = images.contiguous(memory_format=torch.channels_last)  # this layout has a fast implementation
    elif not images.is_floating_point():
        images = images.to(torch.float32)
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def _mirrored(flipped: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Return whether to mirror left to right and top to bottom after a quarter turn has swapped rows and columns."""
    by_turning = torch.stack([(turns == 1) | (turns == 2), (turns == 2) | (turns == 3)], 1)
    return flipped ^ by_turning


def _matrix(found: Parameters) -> torch.Tensor:
    """Return the matrix from result to image coordinates, shape (galaxy, 2, 3)."""
    angle = found.rotation_degrees * _DEGREE
    cos, sin = angle.cos() / found.zoom, angle.sin() / found.zoom
    tan_x, tan_y = (found.shear_degrees * _DEGREE).tan().unbind(1)
    # the inverse: undo rotation and zoom, then shear along y, then along x
    lower = torch.stack([tan_y * cos - sin, tan_y * sin + cos], 1)
    linear = torch.stack([torch.stack([cos, sin], 1) + tan_x[:, None] * lower, lower], 1)
    origin = -2 * (linear * found.shift[:, None]).sum(2, keepdim=True)
    mirror = 1 - 2 * found.flipped.to(torch.float32)
    return torch.cat([linear * mirror[:, None], origin], 2)


def _coordinates(matrix: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image coordinates of result pixels, -1 to 1 in x and y, as contributions of columns and of rows.

    Shapes (galaxy, 2, 1, size) and (galaxy, 2, size, 1).
    """
    centres = (torch.arange(size, device=matrix.device) * 2 + 1) / size - 1
    columns = matrix[:, :, 0, None] * centres
    rows = torch.addcmul(matrix[:, :, 2, None], matrix[:, :, 1, None], centres)
    return columns[:, :, None, :], rows[:, :, :, None]


def _gaussian_weights(width: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the weights of a Gaussian kernel from its centre outwards; shape (galaxy, radius + 1)."""
    steps = torch.arange(radius + 1, device=width.device)
    weights = torch.exp(-0.5 * (steps / width.clamp(min=1e-3)[:, None]).square())
    return weights / (2 * weights.sum(1, keepdim=True) - 1)


def _blurred(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return images convolved with their Gaussians; border pixels are repeated beyond the border."""
    radius = weights.shape[1] - 1
    for dimension, margins in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        n = images.shape[dimension]
        wide = F.pad(images, margins, mode="replicate")
        images = images * _each(weights[:, 0])
        for step in range(1, radius + 1):
            for start in (radius - step, radius + step):
                images = torch.addcmul(images, wide.narrow(dimension, start, n), _each(weights[:, step]))
    return images


def _pixel_ranges(rectangles: torch.Tensor, size: int) -> torch.Tensor:
    """Return the first row, last row + 1, first column and last column + 1 of the pixels centred in rectangles.

    Args:
        rectangles: Top, left, height and width in image widths, shape (galaxy, rectangle, 4).
        size: Width and height of the image in pixels.
    """
    start, length = rectangles[..., :2], rectangles[..., 2:]
    ends = torch.stack([start, start + length], 3)
    return torch.ceil(ends * size - 0.5).to(torch.int64).flatten(2)


def _erasure_mask(erased: torch.Tensor, size: int) -> torch.Tensor:
    """Return 0 for each pixel in a rectangle of its galaxy, else 1; shape (galaxy, 1, size, size)."""
    pixels = torch.arange(size, device=erased.device)
    first, end = erased[..., 0::2, None], erased[..., 1::2, None]
    rows, columns = ((pixels >= first) & (pixels < end)).to(torch.float32).unbind(2)
    return (torch.matmul(rows.transpose(1, 2), columns) < 0.5).to(torch.float32)[:, None]


def _check(images: torch.Tensor, seeds: torch.Tensor, size: int | None, view: int, out: torch.Tensor | None) -> int:
    """Check that the arguments fit together, and return the size of the result."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not shape[3]:
        raise InputError(f"Cannot augment images of shape {shape}.", "shape (galaxy, 3, side, side).")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise InputError(f"Cannot augment images of type {images.dtype}.", "torch.uint8, or floats from 0 to 1.")
    if seeds.shape != shape[:1] or seeds.dtype != torch.int64:
        raise InputError(
            f"Seeds have shape {tuple(seeds.shape)} and type {seeds.dtype}.",
            f"shape ({shape[0]},) and type torch.int64.",
        )
    size = shape[3] if size is None else size
    if size < 1 or view < 0:
        raise InputError(f"size must be at least 1 and view at least 0, got {size} and {view}.")
    wanted = (shape[0], 3, size, size)
    if out is not None and (tuple(out.shape) != wanted or out.dtype != torch.float32 or out.device != images.device):
        raise InputError(
            f"`out` has shape {tuple(out.shape)} and type {out.dtype} on {out.device}.",
            f"shape {wanted} and type torch.float32 on {images.device}.",
        )
    return size
