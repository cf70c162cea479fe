"""Light that no library draws: bars, arms, rings, clumps, tails, dust, lens arcs, and what spoils an image.

Everything here is light above the air, in planes of sensor pixels. Plain bulges, disks and companions are not
here: `gzoo.simulator.camera` takes them from GalSim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from gzoo.simulator.galaxies import Galaxy

Plane = npt.NDArray[np.float32]
"""One value per sensor pixel, shape (y, x); or red, green and blue, shape (3, y, x)."""

_EDGE_ON = 0.2
"""Cosine of the inclination at which a disk shows its side as much as its face."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """Positions of the sensor's pixels with respect to the galaxy in the middle; lengths in radii.

    Attributes:
        n_pixels: Width and height.
        radius_pixels: The galaxy's radius, sensor pixels.
        x: Along the galaxy's long axis, shape (y, x).
        y: Along its short axis, shape (y, x).
        along: In the plane of the disk, along the line about which it is tilted, shape (y, x).
        across: In the plane of the disk, perpendicular to that, shape (y, x).
        radius: Distance from the centre in the plane of the disk, shape (y, x).
    """

    n_pixels: int
    radius_pixels: float
    x: Plane
    y: Plane
    along: Plane
    across: Plane
    radius: Plane


def sensor(n_pixels: int, radius_pixels: float, galaxy: Galaxy) -> Sensor:
    """The sensor before a galaxy; a disturbed galaxy bends the lines on it."""
    line = ((np.arange(n_pixels) + 0.5 - n_pixels / 2) / radius_pixels).astype(np.float32)
    angle = math.radians(galaxy.position_angle)
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    x = line[None, :] * cosine + line[:, None] * sine
    y = line[:, None] * cosine - line[None, :] * sine
    if is_bent(galaxy):
        bend = np.float32(0.28 * galaxy.disturbance)
        far = 1 + x * x
        y = y + bend * (x * np.abs(x) + np.float32(0.8) * x * x) / far
        x = x + bend * np.float32(0.8) * y
    x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
    across = y / np.float32(galaxy.disk_axis_ratio)
    if not galaxy.arm_winds_left:
        across = -across
    radius = (np.hypot(x, across) + 1e-4).astype(np.float32, copy=False)
    return Sensor(n_pixels, radius_pixels, x, y, x, across.astype(np.float32, copy=False), radius)


def is_bent(galaxy: Galaxy) -> bool:
    """Whether a galaxy is so disturbed that no symmetric profile describes it."""
    return galaxy.disturbance > 0.12


def edge_on_fraction(galaxy: Galaxy) -> float:
    """How much of its side a disk shows: 1 edge-on, 0.5 at 78 degrees, 0 face-on."""
    return 1.0 / (1.0 + math.exp((math.cos(math.radians(galaxy.inclination)) - _EDGE_ON) / 0.04))


# The body of a galaxy --------------------------------------------------------------------------------------


def bulge(place: Sensor, galaxy: Galaxy) -> Plane:
    """A Sersic profile whose outline goes from an ellipse to a box or, at full strength, a peanut."""
    power = 2.0 + 1.8 * galaxy.bulge_boxiness
    outline = np.abs(place.x) ** power + np.abs(place.y / np.float32(galaxy.bulge_axis_ratio)) ** power
    # Half a pixel of softening, so that a steep cusp does not depend on where pixel centres happen to fall.
    softening = 0.5 / place.radius_pixels
    radius = (outline ** np.float32(2.0 / power) + np.float32(softening**2)) ** np.float32(0.5)
    return sersic(radius.astype(np.float32, copy=False) / np.float32(galaxy.bulge_radius), galaxy.bulge_sersic)


def sersic(radius: Plane, index: float) -> Plane:
    """Sersic profile against radius in half-light radii, 1 in the centre."""
    return np.exp(-np.float32(sersic_steepness(index)) * (radius ** np.float32(1.0 / index)))


def sersic_steepness(index: float) -> float:
    """How fast a Sersic profile falls at its half-light radius (series of Ciotti and Bertin 1999)."""
    return 2.0 * index - 1.0 / 3.0 + 0.009876 / index


def sersic_integral(index: float) -> float:
    """Integral over the plane of a round profile `sersic` with a half-light radius of 1."""
    return 2 * math.pi * index * math.gamma(2 * index) / sersic_steepness(index) ** (2 * index)


def disk(place: Sensor, galaxy: Galaxy) -> Plane:
    """An exponential disk; near edge-on it turns into the profile of a thick one seen from its side."""
    scale = np.float32(galaxy.disk_scale)
    tilted = np.exp(-place.radius / scale)
    fraction = np.float32(edge_on_fraction(galaxy))
    if fraction < 0.02:
        return tilted
    along = np.abs(place.x) / scale
    height = np.abs(place.y) / np.float32(galaxy.disk_scale * max(galaxy.disk_axis_ratio, 0.06))
    # The integral through an exponential disk is r K1(r); this closed form is within 3 % of it.
    column = np.sqrt(1 + np.float32(math.pi / 2) * along) * np.exp(-along)
    side = column / np.cosh(np.minimum(height, 40.0)) ** 2
    return ((1 - fraction) * tilted + fraction * side).astype(np.float32, copy=False)


# Structure in the disk -------------------------------------------------------------------------------------


def clouds(n_pixels: int, size_pixels: float, rng: np.random.Generator) -> Plane:
    """Smooth random structure between 0 and 1 at about that size, shape (y, x)."""
    n_cells = max(6, round(n_pixels / size_pixels))
    coarse = Image.fromarray(rng.random((n_cells, n_cells), np.float32))
    fine = Image.fromarray(rng.random((2 * n_cells, 2 * n_cells), np.float32))
    smooth, shape = Image.Resampling.BICUBIC, (n_pixels, n_pixels)
    mixed = 0.6 * np.asarray(coarse.resize(shape, smooth)) + 0.4 * np.asarray(fine.resize(shape, smooth))
    return np.clip(mixed, 0.0, 1.0).astype(np.float32)


def bar(place: Sensor, galaxy: Galaxy) -> Plane:
    """Contrast of a bar against the disk: a long box with soft ends."""
    angle = math.radians(galaxy.bar_angle)
    along = place.along * np.float32(math.cos(angle)) + place.across * np.float32(math.sin(angle))
    across = place.across * np.float32(math.cos(angle)) - place.along * np.float32(math.sin(angle))
    length = np.float32(galaxy.bar_length)
    outline = (along / length) ** 4 + (across / (np.float32(0.24) * length)) ** 2
    # undo part of the disk's fall, for bars are flat along their length
    return np.exp(-outline + np.minimum(place.radius / np.float32(galaxy.disk_scale), 2.0) * np.float32(0.7))


def arms(place: Sensor, clumpiness: Plane, galaxy: Galaxy) -> Plane:
    """Contrast of logarithmic spiral arms against the disk; they leave from the ends of a bar."""
    start = galaxy.bar_length * (0.9 if galaxy.bar_strength > 0.25 else 0.5)
    winding = np.float32(1.0 / math.tan(math.radians(galaxy.arm_pitch)))
    unwound = winding * np.log(place.radius / np.float32(start))
    turn = np.arctan2(place.across, place.along) - np.float32(math.radians(galaxy.bar_angle)) - unwound
    wobble = np.float32(1.2 + 2.6 * galaxy.arm_patchiness) * (clumpiness - np.float32(0.5))
    phase = np.float32(galaxy.n_arms) * turn + wobble
    # A crest narrower than a cosine; with more arms there is less room, so they get broader in phase.
    crest = np.exp(np.float32(4.0 / max(1.0, galaxy.n_arms / 2) ** 0.5) * (np.cos(phase) - 1))
    begin = 1 / (1 + np.exp(-(place.radius - np.float32(start)) / np.float32(0.05)))
    rise = np.exp(np.minimum(place.radius, np.float32(1.1)) / np.float32(galaxy.disk_scale * 3.3))
    patches = 1 + np.float32(galaxy.arm_patchiness) * (2.4 * clumpiness**2 - np.float32(0.7))
    return (crest * begin * rise * np.maximum(patches, np.float32(0.05))).astype(np.float32, copy=False)


def ring(place: Sensor, galaxy: Galaxy) -> Plane:
    """A ring in the plane of the disk."""
    return np.exp(-(((place.radius - np.float32(galaxy.ring_radius)) / np.float32(0.085)) ** 2))


def dust_veil(place: Sensor, galaxy: Galaxy) -> Plane:
    """Optical depth of a lane of dust along the long axis; it shows where the disk is seen from its side."""
    slant = math.cos(math.radians(galaxy.inclination))
    width = np.float32(0.055 + 0.05 * slant)
    depth = np.float32(3.2 * galaxy.dust_strength * max(0.25, 1.0 - slant))
    lane = np.exp(-(((place.y - np.float32(0.25 * slant * galaxy.disk_scale)) / width) ** 2))
    return depth * lane * np.exp(-((place.x / np.float32(0.9)) ** 4))


# Encounters ------------------------------------------------------------------------------------------------


def tail(place: Sensor, galaxy: Galaxy) -> Plane:
    """Two tidal tails, a long one and a short one, and the shreds between them."""
    radius = np.hypot(place.x, place.y) + np.float32(1e-3)
    turn = np.arctan2(place.y, place.x) - np.float32(math.radians(galaxy.companion_angle))
    turn = turn - np.float32(0.9) * np.log(radius)
    crest = np.exp(np.float32(14.0) * (np.cos(turn) - 1)) + np.float32(0.4) * np.exp(
        np.float32(10.0) * (np.cos(turn - np.float32(2.6)) - 1)
    )
    proportion_asked = np.float32(0.3 + 0.35 * galaxy.tail_strength)
    return crest * np.exp(-(((radius - np.float32(1.0)) / proportion_asked) ** 2))


def bridge(place: Sensor, galaxy: Galaxy) -> Plane:
    """Light between a galaxy and the companion that it touches."""
    angle = math.radians(galaxy.companion_angle)
    length = np.float32(galaxy.companion_distance)
    along = place.x * np.float32(math.cos(angle)) + place.y * np.float32(math.sin(angle)) - length / 2
    across = place.y * np.float32(math.cos(angle)) - place.x * np.float32(math.sin(angle))
    across = across + np.float32(0.12) * np.cos(np.float32(math.pi) * along / length)
    return np.exp(-((along / (np.float32(0.62) * length)) ** 4) - (across / np.float32(0.11)) ** 2)


def lens_arc(place: Sensor) -> Plane:
    """An arc around the centre, and opposite it the small second image."""
    radius = np.hypot(place.x, place.y)
    angle = np.arctan2(place.y, place.x)
    thin = np.exp(-(((radius - np.float32(0.8)) / np.float32(0.05)) ** 2) + 3 * (np.cos(angle) - 1))
    counter = np.exp(-(((radius - np.float32(0.55)) / np.float32(0.06)) ** 2) - 25 * (np.cos(angle) + 1))
    return thin + np.float32(0.6) * counter


@dataclass(frozen=True, slots=True)
class Clump:
    """A bright clump.

    Attributes:
        x: Place along the long axis, in radii.
        y: Place along the short axis, in radii.
        fraction: Its part of the light of all clumps.
        radius: Its half-light radius, in radii.
    """

    x: float
    y: float
    fraction: float
    radius: float


def clumps(galaxy: Galaxy, rng: np.random.Generator) -> list[Clump]:
    """Where the clumps of a galaxy lie and how bright they are.

    Their number, arrangement and order of brightness are the galaxy's; only the small scatter is chance.
    """
    n = galaxy.n_clumps
    if n == 0:
        return []
    t = np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1)
    scatter = rng.normal(0.0, 1.0, (2, n))
    lopsided = 1.0 - galaxy.clump_symmetry
    match galaxy.clump_arrangement:
        case "line":
            x, y = 0.75 * t, 0.03 * scatter[0]
        case "chain":
            x, y = 0.75 * t, 0.32 * np.cos(2.2 * t) - 0.2 + 0.04 * scatter[0]
        case "spiral":
            # Every other clump on the opposite arm; the first one in the middle.
            order = np.arange(n)
            radius = 0.12 + 0.62 * np.sqrt(order / max(n - 1, 1)) * (order > 0)
            angle = math.pi * (order % 2) + 2.6 * np.log(radius / 0.12)
            x, y = radius * np.cos(angle) * (order > 0), radius * np.sin(angle) * (order > 0)
        case _:
            angle = 2 * math.pi * (np.arange(n) / n + 0.06 * scatter[0])
            radius = 0.42 * np.abs(1 + lopsided * 0.5 * scatter[1]) * (n > 1)
            x, y = radius * np.cos(angle), 0.8 * radius * np.sin(angle)
    x = x + lopsided * (0.22 * x**2 + 0.06 * scatter[1])
    y = y + lopsided * 0.06 * scatter[0]
    lead = int(np.argmin(x**2 + y**2)) if galaxy.clump_lead_is_central else int(np.argmax(x**2 + y**2))
    if galaxy.clump_lead_is_central:
        x[lead], y[lead] = 0.0, 0.0
    weight = 1.0 + 0.5 * lopsided * (rng.random(n) - 0.5)
    weight[lead] *= 1.0 + 5.0 * galaxy.clump_lead
    fraction = weight / weight.sum()
    radius = 0.085 * (n * fraction) ** 0.33
    return [Clump(*(float(value) for value in one)) for one in zip(x, y, fraction, radius, strict=True)]


# Stars and whatever spoils an image -----------------------------------------------------------------------


def add_point(light: Plane, x: float, y: float, fluxes: Plane) -> None:
    """Share a point source among the four nearest pixels, so that stars do not sit on a grid."""
    column, row = int(x - 0.5), int(y - 0.5)
    if not (0 <= column < light.shape[2] - 1 and 0 <= row < light.shape[1] - 1):
        return
    right, below = x - 0.5 - column, y - 0.5 - row
    weights = np.outer([1 - below, below], [1 - right, right]).astype(np.float32)
    light[:, row : row + 2, column : column + 2] += fluxes[:, None, None] * weights


def add_blob(light: Plane, x: float, y: float, radius: float, axis_ratio: float, angle: float, fluxes: Plane) -> None:
    """Add a small Sersic galaxy (index 1.3) in a window around it.

    Args:
        light: Where to add it, shape (3, y, x).
        x: Its centre, pixels from the left border.
        y: Its centre, pixels from the first row's border.
        radius: Half-light radius, pixels.
        axis_ratio: Short over long axis.
        angle: Direction of the long axis, degrees.
        fluxes: Its light in red, green and blue, which belongs to the whole profile even where the frame cuts it.
    """
    index = 1.3
    proportion_asked = int(5 * radius) + 3
    left, top = max(0, int(x) - proportion_asked), max(0, int(y) - proportion_asked)
    window = light[:, top : max(0, int(y) + proportion_asked), left : max(0, int(x) + proportion_asked)]
    across, down = _offsets(window, x - left, y - top)
    cosine, sine = np.float32(math.cos(math.radians(angle))), np.float32(math.sin(math.radians(angle)))
    long, short = across * cosine + down * sine, (down * cosine - across * sine) / np.float32(axis_ratio)
    # Softened by a third of a pixel: the smallest ones would else depend on where pixel centres fall.
    distance = np.sqrt(long**2 + short**2 + np.float32(0.1)).astype(np.float32, copy=False)
    profile = sersic(distance / np.float32(radius), index)
    window += (fluxes / np.float32(sersic_integral(index) * radius**2 * axis_ratio))[:, None, None] * profile


def add_halo(light: Plane, x: float, y: float, core_pixels: float, fluxes: Plane) -> None:
    """Add the wide halo of a bright star, or of one beyond the border of the image."""
    across, down = _offsets(light, x, y)
    halo = (1 + (across**2 + down**2) / np.float32(core_pixels**2)) ** np.float32(-1.5)
    light += (fluxes / np.float32(2 * math.pi * core_pixels**2))[:, None, None] * halo


def add_spikes(light: Plane, x: float, y: float, reach_pixels: float, turn: float, fluxes: Plane) -> None:
    """Add the cross that the four-armed spider before the mirror draws through a bright star.

    Args:
        light: Where to add it, shape (3, y, x).
        x: The star's place, pixels.
        y: The star's place, pixels.
        reach_pixels: Length over which a spike fades, pixels.
        turn: Direction of the cross, degrees.
        fluxes: Light of the whole cross in red, green and blue.
    """
    across, down = _offsets(light, x, y)
    cosine, sine = np.float32(math.cos(math.radians(turn))), np.float32(math.sin(math.radians(turn)))
    first, second = across * cosine + down * sine, down * cosine - across * sine
    fade = np.exp(-np.hypot(across, down) / np.float32(reach_pixels))
    cross = (np.exp(-((first / np.float32(0.8)) ** 2)) + np.exp(-((second / np.float32(0.8)) ** 2))) * fade
    light += (fluxes / np.float32(5.7 * reach_pixels))[:, None, None] * cross


def add_line(light: Plane, x: float, y: float, turn: float, width_pixels: float, brightness: Plane) -> None:
    """Add a straight line through a place: the trail of a satellite, aeroplane or asteroid.

    Args:
        light: Where to add it, shape (3, y, x).
        x: A place on the line, pixels.
        y: A place on the line, pixels.
        turn: Its direction, degrees.
        width_pixels: Its half width, pixels.
        brightness: Light per pixel on its ridge in red, green and blue.
    """
    across, down = _offsets(light, x, y)
    cosine, sine = np.float32(math.cos(math.radians(turn))), np.float32(math.sin(math.radians(turn)))
    distance = down * cosine - across * sine
    light += brightness[:, None, None] * np.exp(-((distance / np.float32(width_pixels)) ** 2))


def add_ghost(light: Plane, x: float, y: float, radius_pixels: float, brightness: Plane) -> None:
    """Add the out-of-focus reflection of a bright star: an even disk with the shadow of the secondary mirror."""
    across, down = _offsets(light, x, y)
    distance = np.hypot(across, down) / np.float32(radius_pixels)
    edge = np.float32(20.0)
    outer = 1 / (1 + np.exp(np.minimum((distance - 1) * edge, 60)))
    inner = 1 / (1 + np.exp(np.minimum((distance - np.float32(0.35)) * edge, 60)))
    light += brightness[:, None, None] * (outer - inner)


def add_bleed(light: Plane, x: float, y: float, length_pixels: float, brightness: Plane) -> None:
    """Add the charge that spilled along a column from a saturated star."""
    across, down = _offsets(light, x, y)
    column = np.exp(-((across / np.float32(1.1)) ** 4)) * np.exp(-((down / np.float32(length_pixels)) ** 6))
    light += brightness[:, None, None] * column


def _offsets(light: Plane, x: float, y: float) -> tuple[Plane, Plane]:
    """Distances of pixel centres from a place, across of shape (1, x) and down of shape (y, 1), pixels."""
    _, height, width = light.shape
    across = np.arange(width, dtype=np.float32) + np.float32(0.5 - x)
    down = np.arange(height, dtype=np.float32) + np.float32(0.5 - y)
    return across[None, :], down[:, None]
