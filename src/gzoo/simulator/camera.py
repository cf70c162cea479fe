"""The camera: a picture of a galaxy as the Sloan Digital Sky Survey (SDSS) would have taken it.

Light is summed in nanomaggies per SDSS pixel in the bands i, r and g, blurred by the air, given the noise of
the sky and shown as red, green and blue with the asinh stretch of Lupton et al. (2004, PASP 116, 133). As in
GZ2, the cutout scales with the galaxy: 424 pixels of 0.02 radii each. A small galaxy is therefore an
enlarged, blurred and blotchy one.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from gzoo.simulator.galaxies import Galaxy
from gzoo.simulator.survey import SurveyView

Picture = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
"""One value per sensor pixel, shape (y, x)."""

SIZE_PIXELS = 424
RADII_PER_PIXEL = 0.02  # of the Petrosian R90, see campaign_facts/gz2.toml
SENSOR_PIXEL_ARCSEC = 0.396
JPEG_QUALITY = 90

# One value for each of i, r, g: the order of red, green, blue.
# The sky is 20.3, 21.0 and 22.0 mag per square arcsec bright; here per sensor pixel.
_SKY_NANOMAGGIES = np.array([1.20, 0.62, 0.25], np.float32)
_ELECTRONS_PER_NANOMAGGY = np.array([690.0, 940.0, 870.0], np.float32)
_READ_NOISE_ELECTRONS = np.array([9.0, 6.0, 6.0], np.float32)
_STRETCH_SCALES = np.array([0.71, 0.88, 1.38], np.float32)
_STRETCH_SOFTENING = 7.0
_STRETCH_GAIN = 1.22
# The sky is nearly black, so that half of its noise is lost as in the survey's own JPEGs.
_STRETCH_BLACK = 0.002

# Room for light from beyond the edge, and for the blur that wraps around in the Fourier transform.
_MARGIN_PIXELS = 12


def picture(galaxy: Galaxy, survey: SurveyView, rng: np.random.Generator) -> Picture:
    """Take a picture of a galaxy, with its neighbours on the sky.

    Args:
        galaxy: What to look at.
        survey: The survey that takes the picture.
        rng: The source of noise, neighbours and of the clumps that no parameter of the galaxy describes.

    Returns:
        Red, green and blue, shape (424, 424, 3).
    """
    light = scene(galaxy, rng)
    seen = _blur(light, galaxy.seeing_arcsec / SENSOR_PIXEL_ARCSEC)
    inner = seen[:, _MARGIN_PIXELS:-_MARGIN_PIXELS, _MARGIN_PIXELS:-_MARGIN_PIXELS]
    colour = _stretch(inner + _noise(inner, rng))
    # The colour picture is what gets enlarged: that is why the noise around small galaxies is blotchy.
    enlarged = Image.fromarray(colour).resize((SIZE_PIXELS, SIZE_PIXELS), Image.Resampling.BICUBIC)
    return np.asarray(enlarged)


@dataclass(frozen=True, slots=True)
class Visibility:
    """How well each part of a galaxy stands out of blur and noise in one survey's pictures.

    All are at least 0. For the parts, 1 is barely seen and 3 or more is clear: a signal over noise, lessened
    where the part is no larger than the blur. A part that the galaxy does not have has 0.

    Attributes:
        resolution: Half-light radius over the sigma of the point spread function.
        signal_to_noise: The galaxy's light within its half-light radius over the noise there.
        bar: The bar against the disk.
        arms: The spiral arms against the disk between them.
        ring: The ring against the disk.
        bulge: The bulge as a thing apart from the disk.
        clumps: The bright clumps against what they lie in.
        tails: Tidal tails and debris, disturbance included, against the sky.
        companion: A second nucleus or merging galaxy.
        dust: The lane of dust.
    """

    resolution: float
    signal_to_noise: float
    bar: float
    arms: float
    ring: float
    bulge: float
    clumps: float
    tails: float
    companion: float
    dust: float


def visible(galaxy: Galaxy, survey: SurveyView) -> Visibility:
    """How well each part of the galaxy can be seen in this survey, by a simple estimate.

    Args:
        galaxy: What is looked at.
        survey: The survey that takes the picture.
    """
    resolution = 2.355 * galaxy.half_light_radius_arcsec / galaxy.seeing_arcsec
    return Visibility(
        resolution=resolution,
        signal_to_noise=10.0 * resolution,
        bar=6 * galaxy.bar_strength,
        arms=6 * galaxy.arm_strength if galaxy.n_arms else 0.0,
        ring=6 * galaxy.ring_strength,
        bulge=6 * galaxy.bulge_fraction,
        clumps=6 * galaxy.clump_strength,
        tails=6 * max(galaxy.tail_strength, 0.6 * galaxy.disturbance),
        companion=6 * max(galaxy.companion_strength, galaxy.merger_strength),
        dust=6 * galaxy.dust_strength,
    )


def jpeg_bytes(picture: Picture) -> bytes:
    """The picture as a JPEG file; the same picture gives the same bytes.

    Args:
        picture: Red, green and blue, shape (y, x, 3).
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def scene(galaxy: Galaxy, rng: np.random.Generator) -> Plane:
    """The light above the air, before blur and noise.

    Returns:
        Nanomaggies per sensor pixel in i, r, g, shape (3, y, x), with a margin of 12 pixels on each side.
    """
    n_inner = round(SIZE_PIXELS * RADII_PER_PIXEL * galaxy.radius_arcsec / SENSOR_PIXEL_ARCSEC)
    n_pixels = n_inner + 2 * _MARGIN_PIXELS
    radius_pixels = galaxy.radius_arcsec / SENSOR_PIXEL_ARCSEC
    light = np.zeros((3, n_pixels, n_pixels), np.float32)
    if galaxy.is_artifact:
        _add_bright_star(light, n_pixels / 2, n_pixels / 2, 10 ** rng.uniform(3.6, 4.6), rng.normal(0.6, 0.3))
    else:
        _add_galaxy(light, galaxy, radius_pixels, rng)
    _add_neighbours(light, n_pixels, rng)
    return light


# Light ------------------------------------------------------------------------------------------------------


def _band_fluxes(flux: float, colour: float) -> Plane:
    """Nanomaggies in i, r, g of a source with that flux in r and that g - r.

    r - i follows g - r along a line, as it nearly does for galaxies.
    """
    r_minus_i = 0.42 * colour + 0.05
    return np.array([flux * 10 ** (0.4 * r_minus_i), flux, flux * 10 ** (-0.4 * colour)], np.float32)


def _add(light: Plane, shape: Plane, flux: float, colour: float) -> None:
    total = float(shape.sum())
    if total > 0.0 and flux > 0.0:
        light += _band_fluxes(flux / total, colour)[:, None, None] * shape


@dataclass(frozen=True, slots=True)
class _DiskFrame:
    """Positions in the plane of the disk: lengths in radii, the angle in radians, each of shape (y, x)."""

    along: Plane
    across: Plane
    radius: Plane
    angle: Plane


def _add_galaxy(light: Plane, galaxy: Galaxy, radius_pixels: float, rng: np.random.Generator) -> None:
    """Add bulge, disk, bar, arms and whatever is odd."""
    x, y = _sky_axes(light.shape[-1], radius_pixels, galaxy)
    flux = 10 ** (0.4 * (22.5 - galaxy.magnitude))
    disk = _disk_frame(x, y, galaxy)
    clumps = _clouds(light.shape[-1], radius_pixels * 0.22, rng)
    veil = _dust_veil(x, y, galaxy)
    before = light.copy() if galaxy.dust_strength > 0.1 else None

    _add(light, _bulge(x, y, galaxy), flux * galaxy.bulge_fraction, galaxy.bulge_colour)
    bar_share = 0.42 * galaxy.bar_strength**1.5
    ring_share = 0.30 * galaxy.ring_strength**1.5
    arm_share = 0.55 * galaxy.arm_strength if galaxy.n_arms else 0.0
    clump_share = 0.75 * galaxy.irregularity**1.5
    disk_flux = flux * galaxy.disk_fraction
    smooth = _smooth_disk(x, y, disk, galaxy)
    young_colour = galaxy.disk_colour - 0.18
    for shape, share, colour in (
        (smooth * _bar(disk, galaxy), bar_share, 0.5 * (galaxy.bulge_colour + galaxy.disk_colour)),
        (_ring(disk, galaxy), ring_share * (1 - bar_share), young_colour),
        (smooth * np.maximum(clumps - 0.4, 0.0) ** 2, clump_share * (1 - bar_share), young_colour - 0.1),
    ):
        if share > 0.003:
            _add(light, shape.astype(np.float32), disk_flux * share, colour)
    rest = disk_flux * (1 - bar_share) * (1 - ring_share) * (1 - clump_share)
    # from the side arms overlap into one even band
    arm_share *= 1.0 - 0.9 * _edge_on_share(galaxy)
    if arm_share > 0.01:
        _add(light, smooth * _arms(disk, clumps, galaxy), rest * arm_share, young_colour)
    _add(light, smooth, rest * (1 - arm_share), galaxy.disk_colour)

    if before is not None:
        # dust takes more of the blue light
        for band, opacity in enumerate((0.7, 0.9, 1.15)):
            light[band] = before[band] + (light[band] - before[band]) * np.exp(-opacity * veil)
    if galaxy.disturbance > 0.15:
        _add(light, _tail(x, y, galaxy), 0.16 * flux * galaxy.disturbance, galaxy.disk_colour)
    if galaxy.companion_strength > 0.0:
        _add_companion(light, galaxy, radius_pixels, flux)
    if galaxy.arc_strength > 0.0:
        _add(light, _lens_arc(x, y), 0.10 * flux * galaxy.arc_strength, 0.15)


def _sky_axes(n_pixels: int, radius_pixels: float, galaxy: Galaxy) -> tuple[Plane, Plane]:
    """Positions along the galaxy's long and short axis, in radii; disturbed galaxies get a bent frame."""
    line = ((np.arange(n_pixels) + 0.5 - n_pixels / 2) / radius_pixels).astype(np.float32)
    angle = np.radians(galaxy.position_angle)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x = line[None, :] * cosine + line[:, None] * sine
    y = line[:, None] * cosine - line[None, :] * sine
    if galaxy.disturbance > 0.1:
        bend = np.float32(0.2 * galaxy.disturbance)
        y = y + bend * (x * np.abs(x) / (1 + x * x) + 0.8 * x * x / (1 + x * x))
        x = x + bend * 0.6 * y
    return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)


def _disk_frame(x: Plane, y: Plane, galaxy: Galaxy) -> _DiskFrame:
    across = y / np.float32(_disk_axis_ratio(galaxy))
    if not galaxy.arm_winds_left:
        across = -across
    return _DiskFrame(x, across, np.hypot(x, across) + np.float32(1e-4), np.arctan2(across, x))


def _disk_axis_ratio(galaxy: Galaxy) -> float:
    """Apparent short over long axis of a disk that is as thick as it is, seen at that inclination."""
    return float(np.hypot(np.cos(np.radians(galaxy.inclination)), 0.7 * galaxy.disk_thickness))


def _bulge(x: Plane, y: Plane, galaxy: Galaxy) -> Plane:
    """A Sersic profile; its outline goes from an ellipse to a box."""
    power = 2.0 + 1.6 * galaxy.bulge_boxiness
    outline = np.abs(x) ** power + np.abs(y / np.float32(galaxy.bulge_axis_ratio)) ** power
    # Half a pixel of softening, so that a steep cusp does not depend on where pixel centres happen to fall.
    softening = 0.5 * SENSOR_PIXEL_ARCSEC / galaxy.radius_arcsec
    radius = (outline ** np.float32(2.0 / power) + np.float32(softening**2)) ** np.float32(0.5)
    in_half_light_radii = radius.astype(np.float32, copy=False) / np.float32(galaxy.bulge_radius)
    return _sersic(in_half_light_radii, galaxy.bulge_sersic)


def _sersic(radius: Plane, index: float) -> Plane:
    """Sersic profile against radius in half-light radii (approximation of Ciotti & Bertin 1999)."""
    steepness = 2.0 * index - 1.0 / 3.0 + 0.009876 / index
    return np.exp(-np.float32(steepness) * (radius ** np.float32(1.0 / index)))


def _smooth_disk(x: Plane, y: Plane, disk: _DiskFrame, galaxy: Galaxy) -> Plane:
    """An exponential disk; near edge-on it turns into the profile of a thick one seen through its side."""
    scale = np.float32(galaxy.disk_scale)
    tilted = np.exp(-disk.radius / scale)
    edge_on_share = _edge_on_share(galaxy)
    if edge_on_share < 0.02:
        return tilted
    along = np.abs(x) / scale
    height = np.abs(y) / np.float32(galaxy.disk_scale * max(_disk_axis_ratio(galaxy), 0.06))
    # The integral through an exponential disk is r K1(r); this closed form is within 3 % of it.
    column = np.sqrt(1 + np.float32(np.pi / 2) * along) * np.exp(-along)
    side = column / np.cosh(np.minimum(height, 40.0)) ** 2
    return ((1 - edge_on_share) * tilted + edge_on_share * side).astype(np.float32)


def _edge_on_share(galaxy: Galaxy) -> float:
    """How much of the side view a disk shows: 1 edge-on, 0.5 at 78 degrees, 0 face-on."""
    return float(1.0 / (1.0 + np.exp((np.cos(np.radians(galaxy.inclination)) - 0.2) / 0.04)))


def _bar(disk: _DiskFrame, galaxy: Galaxy) -> Plane:
    """Contrast of a bar against the disk: a long box with soft ends."""
    angle = np.radians(galaxy.bar_angle)
    along = disk.along * np.float32(np.cos(angle)) + disk.across * np.float32(np.sin(angle))
    across = disk.across * np.float32(np.cos(angle)) - disk.along * np.float32(np.sin(angle))
    length = np.float32(galaxy.bar_length)
    outline = (along / length) ** 4 + (across / (np.float32(0.24) * length)) ** 2
    # undo part of the disk's fall, for bars are flat along their length
    return np.exp(-outline + np.minimum(disk.radius / np.float32(galaxy.disk_scale), 2.0) * np.float32(0.7))


def _arms(disk: _DiskFrame, clumps: Plane, galaxy: Galaxy) -> Plane:
    """Contrast of logarithmic spiral arms against the disk; they leave from the ends of a bar."""
    start = galaxy.bar_length * (0.9 if galaxy.bar_strength > 0.25 else 0.5)
    winding = np.float32(1.0 / np.tan(np.radians(galaxy.arm_pitch)))
    unwound = winding * np.log(disk.radius / np.float32(start))
    turn = disk.angle - np.float32(np.radians(galaxy.bar_angle)) - unwound
    wobble = np.float32(1.2 + 2.6 * galaxy.arm_patchiness) * (clumps - np.float32(0.5))
    phase = np.float32(galaxy.n_arms) * turn + wobble
    # A crest narrower than a cosine; with more arms there is less room, so they get broader in phase.
    crest = np.exp(np.float32(4.0 / max(1.0, galaxy.n_arms / 2) ** 0.5) * (np.cos(phase) - 1))
    begin = 1 / (1 + np.exp(-(disk.radius - np.float32(start)) / np.float32(0.05)))
    rise = np.exp(np.minimum(disk.radius, 1.1) / np.float32(galaxy.disk_scale * 2.6))
    patches = 1 + np.float32(galaxy.arm_patchiness) * (2.4 * clumps**2 - np.float32(0.7))
    return (crest * begin * rise * np.maximum(patches, 0.05)).astype(np.float32)


def _ring(disk: _DiskFrame, galaxy: Galaxy) -> Plane:
    return np.exp(-(((disk.radius - np.float32(galaxy.ring_radius)) / np.float32(0.085)) ** 2))


def _dust_veil(x: Plane, y: Plane, galaxy: Galaxy) -> Plane:
    """Optical depth of a lane of dust along the long axis; it shows where the disk is seen from its side."""
    slant = np.cos(np.radians(galaxy.inclination))
    width = np.float32(0.055 + 0.05 * slant)
    depth = np.float32(3.2 * galaxy.dust_strength * max(0.25, 1.0 - slant))
    lane = np.exp(-(((y - np.float32(0.25 * slant * galaxy.disk_scale)) / width) ** 2))
    return depth * lane * np.exp(-((x / np.float32(0.9)) ** 4))


def _tail(x: Plane, y: Plane, galaxy: Galaxy) -> Plane:
    """A tidal tail that leaves along a wide spiral and fades."""
    radius = np.hypot(x, y) + np.float32(1e-3)
    turn = np.arctan2(y, x) - np.float32(np.radians(galaxy.companion_angle)) - np.float32(0.9) * np.log(radius)
    crest = np.exp(np.float32(9.0) * (np.cos(turn) - 1))
    return crest * np.exp(-(((radius - np.float32(1.05)) / np.float32(0.42)) ** 2))


def _lens_arc(x: Plane, y: Plane) -> Plane:
    radius = np.hypot(x, y)
    return np.exp(-(((radius - np.float32(0.8)) / np.float32(0.05)) ** 2) + 3 * (np.cos(np.arctan2(y, x)) - 1))


def _add_companion(light: Plane, galaxy: Galaxy, radius_pixels: float, flux: float) -> None:
    angle = np.radians(galaxy.companion_angle)
    centre = light.shape[-1] / 2
    distance = galaxy.companion_distance * radius_pixels
    colour = 0.5 * (galaxy.bulge_colour + galaxy.disk_colour)
    size = 0.16 * radius_pixels * (0.6 + galaxy.companion_strength)
    place = centre + distance * np.cos(angle), centre + distance * np.sin(angle)
    _add_blob(light, *place, size, 0.75, galaxy.companion_angle + 60, galaxy.companion_strength * flux, colour)


def _clouds(n_pixels: int, size_pixels: float, rng: np.random.Generator) -> Plane:
    """Smooth random structure between 0 and 1 at about that size, shape (y, x)."""
    n_cells = max(6, round(n_pixels / size_pixels))
    coarse = Image.fromarray(rng.random((n_cells, n_cells), np.float32))
    fine = Image.fromarray(rng.random((2 * n_cells, 2 * n_cells), np.float32))
    bicubic, shape = Image.Resampling.BICUBIC, (n_pixels, n_pixels)
    mixed = 0.6 * np.asarray(coarse.resize(shape, bicubic)) + 0.4 * np.asarray(fine.resize(shape, bicubic))
    return np.clip(mixed, 0.0, 1.0).astype(np.float32)


# The sky around ---------------------------------------------------------------------------------------------


def _add_neighbours(light: Plane, n_pixels: int, rng: np.random.Generator) -> None:
    """Stars and small galaxies, as many as the area of sky holds."""
    area_square_arcmin = (n_pixels * SENSOR_PIXEL_ARCSEC / 60) ** 2
    for _ in range(rng.poisson(2.2 * area_square_arcmin)):
        x, y = rng.uniform(0, n_pixels, 2)
        # Stars are blue dwarfs or red dwarfs; few lie between.
        colour = rng.normal(0.35, 0.15) if rng.random() < 0.45 else rng.normal(1.3, 0.15)
        _add_point(light, x, y, 10 ** rng.uniform(0.2, 2.6), colour)
    for _ in range(rng.poisson(4.0 * area_square_arcmin)):
        x, y = rng.uniform(0, n_pixels, 2)
        size, ratio, angle = (
            float(rng.lognormal(math.log(2.2), 0.3)),
            rng.uniform(0.35, 1.0),
            rng.uniform(0, 180),
        )
        _add_blob(light, x, y, size, ratio, angle, 10 ** rng.normal(0.75, 0.4), rng.normal(0.75, 0.3))
    if rng.random() < 0.06 * area_square_arcmin:
        # near the border, for in the middle it would have kept the galaxy out of the catalogue
        x, y = rng.uniform(0, n_pixels), rng.choice((0.06, 0.94)) * n_pixels
        x, y = (x, y) if rng.random() < 0.5 else (y, x)
        _add_bright_star(light, x, y, 10 ** rng.uniform(3.2, 4.2), rng.normal(0.7, 0.4))


def _add_point(light: Plane, x: float, y: float, flux: float, colour: float) -> None:
    """Share a point source among the four nearest pixels, so that stars do not sit on a grid."""
    column, row = int(x - 0.5), int(y - 0.5)
    if not (0 <= column < light.shape[2] - 1 and 0 <= row < light.shape[1] - 1):
        return
    right, below = x - 0.5 - column, y - 0.5 - row
    weights = np.outer([1 - below, below], [1 - right, right]).astype(np.float32)
    light[:, row : row + 2, column : column + 2] += _band_fluxes(flux, colour)[:, None, None] * weights


def _offsets(light: Plane, x: float, y: float) -> tuple[Plane, Plane]:
    """Distances of pixel centres from a place, across of shape (1, x) and down of shape (y, 1), pixels."""
    _, height, width = light.shape
    across = np.arange(width, dtype=np.float32) + np.float32(0.5 - x)
    down = np.arange(height, dtype=np.float32) + np.float32(0.5 - y)
    return across[None, :], down[:, None]


def _add_blob(
    light: Plane, x: float, y: float, size: float, axis_ratio: float, angle: float, flux: float, colour: float
) -> None:
    """Add a small exponential galaxy of that half-light radius in pixels, in a window around it."""
    reach = int(5 * size) + 2
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    window = light[:, top : int(y) + reach, left : int(x) + reach]
    across, down = _offsets(window, x - left, y - top)
    cosine, sine = np.float32(np.cos(np.radians(angle))), np.float32(np.sin(np.radians(angle)))
    long, short = across * cosine + down * sine, (down * cosine - across * sine) / np.float32(axis_ratio)
    profile = _sersic(np.hypot(long, short).astype(np.float32, copy=False) / np.float32(size), 1.3)
    # the flux belongs to the whole profile, even where the frame cuts it
    whole = 2 * np.pi * size**2 * axis_ratio * 0.22
    window += _band_fluxes(flux / whole, colour)[:, None, None] * profile


def _add_bright_star(light: Plane, x: float, y: float, flux: float, colour: float) -> None:
    """Add a star with the halo and the diffraction spikes of the telescope's four-armed spider."""
    _add_point(light, x, y, flux, colour)
    across, down = _offsets(light, x, y)
    distance = np.hypot(across, down)
    halo = (1 + (distance / 5) ** 2) ** np.float32(-1.5)
    reach = np.float32(6 + 0.12 * flux**0.6)
    turned = np.stack((across + down, across - down)) * np.float32(np.sqrt(0.5))
    spikes = np.exp(-((turned / np.float32(0.8)) ** 2)).sum(axis=0) * np.exp(-distance / reach)
    # Both are scaled by their integral over the whole plane, for the star may stand at the border.
    light += _band_fluxes(0.04 * flux / (50 * np.pi), colour + 0.3)[:, None, None] * halo
    light += _band_fluxes(0.02 * flux / (5.7 * float(reach)), colour)[:, None, None] * spikes


# Air, sensor, print -----------------------------------------------------------------------------------------


def _blur(light: Plane, fwhm_pixels: float) -> Plane:
    """Convolve with a Moffat profile (beta 3, the wings of a real point source), shape (3, y, x)."""
    n_pixels = light.shape[-1]
    n_fast = _fast_size(n_pixels)
    line = np.fft.fftfreq(n_fast, 1 / n_fast).astype(np.float32)
    beta = 3.0
    core = fwhm_pixels / (2 * np.sqrt(2 ** (1 / beta) - 1))
    spread = (1 + (line[None, :] ** 2 + line[:, None] ** 2) / np.float32(core**2)) ** np.float32(-beta)
    transfer = np.fft.rfft2(spread / spread.sum())
    blurred = np.fft.irfft2(np.fft.rfft2(light, (n_fast, n_fast)) * transfer, (n_fast, n_fast))
    return np.maximum(blurred[:, :n_pixels, :n_pixels], 0.0).astype(np.float32)


def _fast_size(n_pixels: int) -> int:
    """The next size without prime factors above 5, where the Fourier transform is fast."""
    size = n_pixels
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def _noise(light: Plane, rng: np.random.Generator) -> Plane:
    """Noise of the photons and of the read-out, nanomaggies, shape (3, y, x).

    The sky alone gives over 200 electrons in every pixel, where Poisson counts are Gaussian to a percent.
    """
    electrons = (light + _SKY_NANOMAGGIES[:, None, None]) * _ELECTRONS_PER_NANOMAGGY[:, None, None]
    deviation = np.sqrt(electrons + _READ_NOISE_ELECTRONS[:, None, None] ** 2)
    standard = rng.standard_normal(light.shape, np.float32)
    return standard * deviation / _ELECTRONS_PER_NANOMAGGY[:, None, None]


def _stretch(light: Plane) -> Picture:
    """Red, green and blue, shape (y, x, 3); the asinh stretch compresses light and keeps its colour."""
    scaled = light * _STRETCH_SCALES[:, None, None] + np.float32(_STRETCH_BLACK)
    intensity = np.maximum(scaled.mean(axis=0), np.float32(1e-6))
    softened = np.float32(_STRETCH_SOFTENING) * intensity
    shown = scaled * (np.float32(_STRETCH_GAIN) * np.arcsinh(softened) / softened)
    # A saturated pixel whitens the more light it got: cores of stars are white, their rims coloured.
    peak = np.maximum(shown.max(axis=0), 1.0)
    shown = 1 - (1 - shown / peak) / peak ** np.float32(1.5)
    return (np.clip(shown, 0.0, 1.0) * 255).astype(np.uint8).transpose(1, 2, 0)
