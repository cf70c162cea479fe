"""Light that GalSim does not draw: bars, arms, rings, clumps, tails, dust, lens arcs, and artifacts.

All light is unblurred, in planes of sensor pixels. Plain bulges, disks and companions are drawn by GalSim in
`gzoo.simulator.camera`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from gzoo.simulator.galaxies import Galaxy

Plane = npt.NDArray[np.float32]
"""One value per sensor pixel, shape (y, x); or red, green and blue, shape (3, y, x)."""

_EDGE_ON = 0.2
"""Cosine of the inclination at which a disk is half edge-on and half face-on."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """Positions of the sensor's pixels relative to the galaxy in the middle; lengths in radii.

    Attributes:
        n_pixels: Width and height in pixels.
        radius_pixels: Radius of the galaxy in sensor pixels.
        x: Along the galaxy's long axis, which is the tilt axis of its disk, shape (y, x).
        y: Along its short axis, shape (y, x).
        across: In the plane of the disk, perpendicular to the long axis, shape (y, x).
        radius: Distance from the centre in the plane of the disk, shape (y, x).
    """

    n_pixels: int
    radius_pixels: float
    x: Plane
    y: Plane
    across: Plane
    radius: Plane


def sensor(n_pixels: int, radius_pixels: float, galaxy: Galaxy) -> Sensor:
    """Return the sensor in front of a galaxy; the coordinates of a disturbed galaxy are bent."""
    line = ((np.arange(n_pixels) + 0.5 - n_pixels / 2) / radius_pixels).astype(np.float32)
    x, y = _turned(line[None, :], line[:, None], galaxy.position_angle)
    if is_bent(galaxy):
        bend = np.float32(0.28 * galaxy.disturbance)
        far = 1 + x * x
        y = y + bend * (x * np.abs(x) + np.float32(0.8) * x * x) / far
        x = x + bend * np.float32(0.8) * y
    x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
    across = y / np.float32(galaxy.disk_axis_ratio if galaxy.arm_winds_left else -galaxy.disk_axis_ratio)
    across, radius = (one.astype(np.float32, copy=False) for one in (across, np.hypot(x, across) + np.float32(1e-4)))
    return Sensor(n_pixels, radius_pixels, x, y, across, radius)


def _turned(x: Plane, y: Plane, angle: float) -> tuple[Plane, Plane]:
    """Return the positions along and across a direction, given in degrees."""
    cosine, sine = np.float32(math.cos(math.radians(angle))), np.float32(math.sin(math.radians(angle)))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return along.astype(np.float32, copy=False), across.astype(np.float32, copy=False)


def is_bent(galaxy: Galaxy) -> bool:
    """Return whether a galaxy is too disturbed for a symmetric profile."""
    return galaxy.disturbance > 0.12


def edge_on_fraction(galaxy: Galaxy) -> float:
    """Return how edge-on a disk is: 1 edge-on, 0.5 at 78 degrees, 0 face-on."""
    return 1.0 / (1.0 + math.exp((math.cos(math.radians(galaxy.inclination)) - _EDGE_ON) / 0.04))


# The body of a galaxy --------------------------------------------------------------------------------------


def bulge(place: Sensor, galaxy: Galaxy) -> Plane:
    """Return a Sersic profile whose outline ranges from an ellipse to a box and a peanut."""
    power = 2.0 + 1.8 * galaxy.bulge_boxiness
    outline = np.abs(place.x) ** power + np.abs(place.y / np.float32(galaxy.bulge_axis_ratio)) ** power
    # Soften by half a pixel, so that a steep cusp does not depend on the positions of pixel centres.
    softening = 0.5 / place.radius_pixels
    radius = (outline ** np.float32(2.0 / power) + np.float32(softening**2)) ** np.float32(0.5)
    return sersic(radius.astype(np.float32, copy=False) / np.float32(galaxy.bulge_radius), galaxy.bulge_sersic)


def sersic(radius: Plane, index: float) -> Plane:
    """Return a Sersic profile at a radius in half-light radii; it is 1 in the centre."""
    return np.exp(-np.float32(sersic_steepness(index)) * (radius ** np.float32(1.0 / index)))


def sersic_steepness(index: float) -> float:
    """Return the steepness b of a Sersic profile (series of Ciotti and Bertin 1999)."""
    return 2.0 * index - 1.0 / 3.0 + 0.009876 / index


def sersic_integral(index: float) -> float:
    """Return the integral over the plane of a round profile `sersic` with a half-light radius of 1."""
    return 2 * math.pi * index * math.gamma(2 * index) / sersic_steepness(index) ** (2 * index)


def disk(place: Sensor, galaxy: Galaxy) -> Plane:
    """Return an exponential disk; near edge-on it becomes the profile of a thick disk seen from its side."""
    scale = np.float32(galaxy.disk_scale)
    tilted = np.exp(-place.radius / scale)
    fraction = np.float32(edge_on_fraction(galaxy))
    if fraction < 0.02:
        return tilted
    along = np.abs(place.x) / scale
    height = np.abs(place.y) / np.float32(galaxy.disk_scale * max(galaxy.disk_axis_ratio, 0.06))
    # The integral through an exponential disk is r K1(r); this closed form is accurate to 3%.
    column = np.sqrt(1 + np.float32(math.pi / 2) * along) * np.exp(-along)
    side = column / np.cosh(np.minimum(height, 40.0)) ** 2
    return ((1 - fraction) * tilted + fraction * side).astype(np.float32, copy=False)


# Structure in the disk -------------------------------------------------------------------------------------


def clouds(n_pixels: int, size_pixels: float, rng: np.random.Generator) -> Plane:
    """Return smooth random structure of a given size, between 0 and 1, shape (y, x)."""
    n_cells = max(6, round(n_pixels / size_pixels))
    coarse = Image.fromarray(rng.random((n_cells, n_cells), np.float32))
    fine = Image.fromarray(rng.random((2 * n_cells, 2 * n_cells), np.float32))
    smooth, shape = Image.Resampling.BICUBIC, (n_pixels, n_pixels)
    mixed = 0.6 * np.asarray(coarse.resize(shape, smooth)) + 0.4 * np.asarray(fine.resize(shape, smooth))
    return np.clip(mixed, 0.0, 1.0).astype(np.float32)


def bar(place: Sensor, galaxy: Galaxy) -> Plane:
    """Return the contrast of a bar against the disk: a long box with soft ends."""
    along, across = _turned(place.x, place.across, galaxy.bar_angle)
    length = np.float32(galaxy.bar_length)
    outline = (along / length) ** 4 + (across / (np.float32(0.24) * length)) ** 2
    # Bars are flat along their length, so part of the decline of the disk is undone.
    return np.exp(-outline + np.minimum(place.radius / np.float32(galaxy.disk_scale), 2.0) * np.float32(0.7))


def arms(place: Sensor, clumpiness: Plane, galaxy: Galaxy) -> Plane:
    """Return the contrast of logarithmic spiral arms against the disk; they start at the ends of a bar."""
    start = galaxy.bar_length * (0.9 if galaxy.bar_strength > 0.25 else 0.5)
    winding = np.float32(1.0 / math.tan(math.radians(galaxy.arm_pitch)))
    unwound = winding * np.log(place.radius / np.float32(start))
    turn = np.arctan2(place.across, place.x) - np.float32(math.radians(galaxy.bar_angle)) - unwound
    wobble = np.float32(1.2 + 2.6 * galaxy.arm_patchiness) * (clumpiness - np.float32(0.5))
    phase = np.float32(galaxy.n_arms) * turn + wobble
    # The crest is narrower than a cosine. More arms have less space, so they are broader in phase.
    crest = np.exp(np.float32(4.0 / max(1.0, galaxy.n_arms / 2) ** 0.5) * (np.cos(phase) - 1))
    begin = 1 / (1 + np.exp(-(place.radius - np.float32(start)) / np.float32(0.05)))
    rise = np.exp(np.minimum(place.radius, np.float32(1.1)) / np.float32(galaxy.disk_scale * 3.3))
    patches = 1 + np.float32(galaxy.arm_patchiness) * (2.4 * clumpiness**2 - np.float32(0.7))
    return (crest * begin * rise * np.maximum(patches, np.float32(0.05))).astype(np.float32, copy=False)


def ring(place: Sensor, galaxy: Galaxy) -> Plane:
    """Return a ring in the plane of the disk."""
    return np.exp(-(((place.radius - np.float32(galaxy.ring_radius)) / np.float32(0.085)) ** 2))


def dust_veil(place: Sensor, galaxy: Galaxy) -> Plane:
    """Return the optical depth of a dust lane along the long axis, which is visible if the disk is edge-on."""
    slant = math.cos(math.radians(galaxy.inclination))
    width = np.float32(0.055 + 0.05 * slant)
    depth = np.float32(3.2 * galaxy.dust_strength * max(0.25, 1.0 - slant))
    lane = np.exp(-(((place.y - np.float32(0.25 * slant * galaxy.disk_scale)) / width) ** 2))
    return depth * lane * np.exp(-((place.x / np.float32(0.9)) ** 4))


# Encounters ------------------------------------------------------------------------------------------------


def tail(place: Sensor, galaxy: Galaxy) -> Plane:
    """Return two tidal tails, a long and a short one, and the debris between them."""
    radius = np.hypot(place.x, place.y) + np.float32(1e-3)
    turn = np.arctan2(place.y, place.x) - np.float32(math.radians(galaxy.companion_angle))
    turn = turn - np.float32(0.9) * np.log(radius)
    crest = np.exp(np.float32(14.0) * (np.cos(turn) - 1)) + np.float32(0.4) * np.exp(
        np.float32(10.0) * (np.cos(turn - np.float32(2.6)) - 1)
    )
    extent = np.float32(0.3 + 0.35 * galaxy.tail_strength)
    return crest * np.exp(-(((radius - np.float32(1.0)) / extent) ** 2))


def bridge(place: Sensor, galaxy: Galaxy) -> Plane:
    """Return a bridge of light between a galaxy and its interacting companion."""
    length = np.float32(galaxy.companion_distance)
    along, across = _turned(place.x, place.y, galaxy.companion_angle)
    along = along - length / 2
    across = across + np.float32(0.12) * np.cos(np.float32(math.pi) * along / length)
    return np.exp(-((along / (np.float32(0.62) * length)) ** 4) - (across / np.float32(0.11)) ** 2)


def lens_arc(place: Sensor) -> Plane:
    """Return an arc around the centre, and the small counter-image opposite."""
    radius = np.hypot(place.x, place.y)
    angle = np.arctan2(place.y, place.x)
    thin = np.exp(-(((radius - np.float32(0.8)) / np.float32(0.05)) ** 2) + 3 * (np.cos(angle) - 1))
    counter = np.exp(-(((radius - np.float32(0.55)) / np.float32(0.06)) ** 2) - 25 * (np.cos(angle) + 1))
    return thin + np.float32(0.6) * counter


class Clump(NamedTuple):
    """A bright clump.

    Attributes:
        x: Position along the long axis, in radii of the galaxy.
        y: Position along the short axis, in radii of the galaxy.
        fraction: Fraction of the light of all clumps.
        radius: Half-light radius, in radii of the galaxy.
    """

    x: float
    y: float
    fraction: float
    radius: float


def clumps(galaxy: Galaxy, rng: np.random.Generator) -> list[Clump]:
    """Return the positions and brightnesses of the clumps of a galaxy.

    Number, arrangement and order of brightness are parameters of the galaxy; only the small scatter is random.
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
            # Clumps alternate between opposite arms; the first one is in the middle.
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
    return [Clump(*one) for one in np.stack([x, y, fraction, radius], axis=1).tolist()]


# Stars and artifacts -----------------------------------------------------------------------


def add_point(light: Plane, x: float, y: float, fluxes: Plane) -> None:
    """Add a point source, distributed among the four nearest pixels, so that stars are not aligned with the grid."""
    column, row = int(x - 0.5), int(y - 0.5)
    if not (0 <= column < light.shape[2] - 1 and 0 <= row < light.shape[1] - 1):
        return
    right, below = x - 0.5 - column, y - 0.5 - row
    weights = np.outer([1 - below, below], [1 - right, right]).astype(np.float32)
    light[:, row : row + 2, column : column + 2] += fluxes[:, None, None] * weights


def add_blob(light: Plane, x: float, y: float, radius: float, axis_ratio: float, angle: float, fluxes: Plane) -> None:
    """Add a small Sersic galaxy (index 1.3) in a window around it.

    Args:
        light: Image to change, shape (3, y, x).
        x: Centre, pixels from the left border.
        y: Centre, pixels from the border of the first row.
        radius: Half-light radius, pixels.
        axis_ratio: Short axis over long axis.
        angle: Direction of the long axis, degrees.
        fluxes: Total flux in red, green and blue, including light outside the image.
    """
    index = 1.3
    extent = int(5 * radius) + 3
    left, top = max(0, int(x) - extent), max(0, int(y) - extent)
    window = light[:, top : max(0, int(y) + extent), left : max(0, int(x) + extent)]
    across, down = _offsets(window, x - left, y - top)
    long, short = _turned(across, down, angle)
    # Soften by a third of a pixel, so that small galaxies do not depend on the positions of pixel centres.
    distance = np.sqrt(long**2 + (short / np.float32(axis_ratio)) ** 2 + np.float32(0.1)).astype(np.float32, copy=False)
    profile = sersic(distance / np.float32(radius), index)
    window += (fluxes / np.float32(sersic_integral(index) * radius**2 * axis_ratio))[:, None, None] * profile


def add_halo(light: Plane, x: float, y: float, core_pixels: float, fluxes: Plane) -> None:
    """Add the wide halo of a bright star, which may be outside the image."""
    across, down = _offsets(light, x, y)
    halo = (1 + (across**2 + down**2) / np.float32(core_pixels**2)) ** np.float32(-1.5)
    light += (fluxes / np.float32(2 * math.pi * core_pixels**2))[:, None, None] * halo


def add_spikes(light: Plane, x: float, y: float, length_pixels: float, turn: float, fluxes: Plane) -> None:
    """Add the diffraction spikes of a bright star, a cross caused by the supports of the secondary mirror.

    Args:
        light: Image to change, shape (3, y, x).
        x: Position of the star, pixels.
        y: Position of the star, pixels.
        length_pixels: Length over which a spike fades, pixels.
        turn: Direction of the cross, degrees.
        fluxes: Total flux of the cross in red, green and blue.
    """
    across, down = _offsets(light, x, y)
    first, second = _turned(across, down, turn)
    fade = np.exp(-np.hypot(across, down) / np.float32(length_pixels))
    cross = (np.exp(-((first / np.float32(0.8)) ** 2)) + np.exp(-((second / np.float32(0.8)) ** 2))) * fade
    light += (fluxes / np.float32(5.7 * length_pixels))[:, None, None] * cross


def add_line(light: Plane, x: float, y: float, turn: float, width_pixels: float, brightness: Plane) -> None:
    """Add a straight line through a position: the trail of a satellite, aeroplane or asteroid.

    Args:
        light: Image to change, shape (3, y, x).
        x: A position on the line, pixels.
        y: A position on the line, pixels.
        turn: Direction of the line, degrees.
        width_pixels: Half width of the line, pixels.
        brightness: Flux per pixel at the centre of the line in red, green and blue.
    """
    across, down = _offsets(light, x, y)
    _, distance = _turned(across, down, turn)
    light += brightness[:, None, None] * np.exp(-((distance / np.float32(width_pixels)) ** 2))


def add_ghost(light: Plane, x: float, y: float, radius_pixels: float, brightness: Plane) -> None:
    """Add the out-of-focus reflection of a bright star: a disk with the shadow of the secondary mirror."""
    across, down = _offsets(light, x, y)
    distance = np.hypot(across, down) / np.float32(radius_pixels)
    edge = np.float32(20.0)
    outer = 1 / (1 + np.exp(np.minimum((distance - 1) * edge, 60)))
    inner = 1 / (1 + np.exp(np.minimum((distance - np.float32(0.35)) * edge, 60)))
    light += brightness[:, None, None] * (outer - inner)


def add_bleed(light: Plane, x: float, y: float, length_pixels: float, brightness: Plane) -> None:
    """Add the charge that a saturated star spilled along a column."""
    across, down = _offsets(light, x, y)
    column = np.exp(-((across / np.float32(1.1)) ** 4)) * np.exp(-((down / np.float32(length_pixels)) ** 6))
    light += brightness[:, None, None] * column


def _offsets(light: Plane, x: float, y: float) -> tuple[Plane, Plane]:
    """Return the distances of pixel centres from a position: across, shape (1, x), and down, shape (y, 1), pixels."""
    _, height, width = light.shape
    across = np.arange(width, dtype=np.float32) + np.float32(0.5 - x)
    down = np.arange(height, dtype=np.float32) + np.float32(0.5 - y)
    return across[None, :], down[:, None]
