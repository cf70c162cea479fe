"""The camera: images of galaxies as a survey would take them.

Flux is in nanomaggies per sensor pixel, in the three bands that the survey displays as red, green and blue. GalSim
draws plain bulges, disks and companions in Fourier space, where blurring is a multiplication. Bars, arms and other
structure that GalSim does not offer (`gzoo.simulator.light`) are added there. The noise of the sky and the asinh
stretch of Lupton et al. (2004, PASP 116, 133) from astropy follow. As in the real campaigns, the cutout scales with the
galaxy and the finished colour image is enlarged to 424 pixels: small galaxies are blurred and their noise is blotchy.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from scipy import fft

from gzoo.errors import MissingExtraError
from gzoo.simulator import light as lights
from gzoo.simulator.galaxies import Galaxy
from gzoo.simulator.light import Plane, Sensor
from gzoo.simulator.spectrum import band_fluxes, dimming
from gzoo.simulator.survey import SIZE_PIXELS, SurveyView

try:
    import galsim
    from astropy.visualization import make_lupton_rgb as _make_lupton_rgb
except ImportError as error:
    raise MissingExtraError(f"{error.name} is not installed.", "", "Run `pip install 'gzoo[simulate]'`.") from error

Pixels = npt.NDArray[np.uint8]
"""Red, green and blue, shape (424, 424, 3)."""

# The type annotations of astropy allow integers only; the function accepts floats.
make_lupton_rgb = cast(Callable[..., npt.NDArray[np.uint8]], _make_lupton_rgb)

Waves = npt.NDArray[np.complex64]
"""Fourier transform of planes, the last axis halved."""

JPEG_QUALITY = 75
_SURVEY_JPEG_QUALITY = 83
_COMMENT = "A simulated galaxy, by gzoo"

# A margin for light from beyond the edge, and for blur that wraps around in the Fourier transform.
_MARGIN_PIXELS = 12
# A galaxy with this g - r, at this position in the redshift range of the survey, is displayed as grey.
_REFERENCE_COLOUR, _REFERENCE_DISTANCE = 0.40, 0.3


@dataclass(frozen=True, slots=True)
class Visibility:
    """How well each part of a galaxy is visible despite blur and noise in one survey's images.

    All values are 0 or more. For the parts, a value is a signal-to-noise ratio, reduced if the part is not larger than
    the blur: 1 is barely visible, 3 or more is clear, and 0 means that the galaxy lacks the part.

    Attributes:
        resolution: Half-light radius divided by the sigma of the point spread function.
        signal_to_noise: Flux within the half-light radius divided by its noise.
        bar: The bar against the disk.
        arms: The spiral arms against the disk between them.
        ring: The ring against the disk.
        bulge: The bulge against the disk.
        clumps: The bright clumps against their surroundings.
        tails: Tidal tails, debris and disturbance against the sky.
        companion: A second nucleus or merging galaxy.
        dust: The dust lane.
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


def draw_image(galaxy: Galaxy, survey: SurveyView, rng: np.random.Generator) -> Pixels:
    """Draw the image of a galaxy, with its neighbours on the sky.

    Args:
        galaxy: The galaxy.
        survey: The survey that takes the image.
        rng: Random number generator for noise, neighbours and scatter that the galaxy's parameters do not describe.

    Returns:
        Red, green and blue, shape (424, 424, 3).
    """
    pixel_arcsec = survey.image_pixel_arcsec(galaxy.aperture_radius_arcsec)
    if galaxy.artifact == "bad-zoom":
        pixel_arcsec *= float(rng.choice((0.12, 0.2, 6.0)))
    n_inner = min(max(round(SIZE_PIXELS * pixel_arcsec / survey.sensor_pixel_arcsec), 16), _MAX_SENSOR_PIXELS)
    n_pixels = n_inner + 2 * _MARGIN_PIXELS
    drawn, profiles = np.zeros((3, n_pixels, n_pixels), np.float32), []
    if galaxy.artifact not in {"star", "saturation"}:
        drawn, profiles = _galaxy(galaxy, survey, n_pixels, rng)
    _add_neighbours(drawn, survey, rng)
    _add_artifact(drawn, galaxy, survey, rng)
    inner = slice(_MARGIN_PIXELS, -_MARGIN_PIXELS)
    clean = _develop(drawn, profiles, galaxy, survey)[:, inner, inner]
    colour = _stretch(_spoil(_expose(clean, survey, rng), galaxy, survey, rng), survey)
    if survey.is_zoomed_from_jpeg:
        colour = _through_jpeg(colour)
    # As in the real campaigns the colour image is enlarged, which makes the noise around small galaxies blotchy.
    enlarged = Image.fromarray(colour).resize((SIZE_PIXELS, SIZE_PIXELS), Image.Resampling.BICUBIC)
    return np.asarray(enlarged)


def jpeg_bytes(image: Pixels) -> bytes:
    """Return an image as a JPEG file marked as simulated; the same image gives the same bytes.

    Args:
        image: Red, green and blue, shape (y, x, 3).
    """
    return image_file(image, ".jpg")


def image_file(image: Pixels, suffix: str, software: str = "") -> bytes:
    """Return an image as a file marked as simulated.

    Args:
        image: Red, green and blue, shape (y, x, 3).
        suffix: ".png", or any other suffix for JPEG.
        software: What made the file, for its metadata.
    """
    buffer = io.BytesIO()
    options: dict[str, Image.Exif] = {}
    if software:
        options["exif"] = Image.Exif()
        options["exif"][ExifTags.Base.Software] = software
    if suffix == ".png":
        metadata = PngInfo()
        metadata.add_text("Comment", _COMMENT)
        Image.fromarray(image).save(buffer, "PNG", pnginfo=metadata, optimize=True, **options)
    else:
        Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, comment=_COMMENT, **options)
    return buffer.getvalue()


def _through_jpeg(image: Pixels) -> Pixels:
    """Return an image as compressed by the survey's own JPEG, which removes most of the colour of the noise."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_SURVEY_JPEG_QUALITY)
    return np.asarray(Image.open(buffer))


# Without a limit, images of type "bad-zoom" would need thousands of pixels.
_MAX_SENSOR_PIXELS = 900


def clean_image(galaxy: Galaxy, survey: SurveyView, n_pixels: int) -> Plane:
    """Return the image of a galaxy alone, blurred but without noise, neighbours or artifacts, for tests.

    Args:
        galaxy: The galaxy.
        survey: The survey that takes the image.
        n_pixels: Width and height in sensor pixels.

    Returns:
        Nanomaggies per sensor pixel, shape (3, y, x).
    """
    return _develop(*_galaxy(galaxy, survey, n_pixels, np.random.default_rng(0)), galaxy, survey)


# The galaxy ------------------------------------------------------------------------------------------------

# The classes of GalSim lack type annotations.
_Profile = Any
_Profiles = list[tuple[_Profile, Plane]]


def _galaxy(galaxy: Galaxy, survey: SurveyView, n_pixels: int, rng: np.random.Generator) -> tuple[Plane, _Profiles]:
    """Return the light of a galaxy before it is blurred: bulge, disk, bar, arms and irregular features.

    Returns:
        Light drawn by gzoo, nanomaggies per sensor pixel, shape (3, y, x); and GalSim profiles of unit flux, in sensor
        pixels from the centre, with their flux in each band.
    """
    radius_pixels = galaxy.radius_arcsec / survey.sensor_pixel_arcsec
    place = lights.sensor(n_pixels, radius_pixels, galaxy)
    drawn = np.zeros((3, n_pixels, n_pixels), np.float32)
    profiles: _Profiles = []
    flux = observed_flux(galaxy)

    def fluxes(fraction: float, colour: float) -> Plane:
        return band_fluxes(flux * fraction, colour, galaxy.redshift, survey.shown_nm)

    def add(shape: Plane, fraction: float, colour: float) -> None:
        total = float(shape.sum())
        if total > 0.0:
            drawn[:] += (fluxes(fraction, colour) / np.float32(total))[:, None, None] * shape

    bare = galaxy.clump_strength and 1.0 - (1.0 - galaxy.clump_strength) * galaxy.clump_embedding
    body = 1.0 - bare
    bar, ring, clouds, arms, plain = _fractions(galaxy)
    young_colour = galaxy.disk_colour - 0.18
    turn = galaxy.position_angle * galsim.degrees

    in_disk = body * galaxy.disk_fraction
    needs_shape = max(arms, bar, clouds, galaxy.dust_strength - 0.1) > 0.01 or lights.is_bent(galaxy)
    smooth = lights.disk(place, galaxy) if needs_shape else None
    if galaxy.bulge_boxiness > 0.15:
        add(lights.bulge(place, galaxy), body * galaxy.bulge_fraction, galaxy.bulge_colour)
    elif galaxy.bulge_fraction > 0.003:
        # Rounded, because GalSim caches a table for each index and a new one costs milliseconds.
        index = round(galaxy.bulge_sersic * 5) / 5
        profile = galsim.Sersic(index, galaxy.bulge_radius * radius_pixels)
        # GalSim preserves the area of the ellipse; here the half-light radius is measured along the long axis.
        profile = profile.shear(q=galaxy.bulge_axis_ratio, beta=turn).dilate(galaxy.bulge_axis_ratio**0.5)
        profiles.append((profile, fluxes(body * galaxy.bulge_fraction, galaxy.bulge_colour)))
    if smooth is None or not lights.is_bent(galaxy):
        profile = galsim.InclinedExponential(
            galaxy.inclination * galsim.degrees,
            scale_radius=galaxy.disk_scale * radius_pixels,
            scale_h_over_r=galaxy.disk_thickness,
        ).rotate(turn)
        profiles.append((profile, fluxes(in_disk * plain, galaxy.disk_colour)))
    else:
        add(smooth, in_disk * plain, galaxy.disk_colour)

    if smooth is not None:
        clumpiness = lights.clouds(n_pixels, radius_pixels * 0.22, rng)
        if bar > 0.003:
            mixed = 0.5 * (galaxy.bulge_colour + galaxy.disk_colour)
            add(smooth * lights.bar(place, galaxy), in_disk * bar, mixed)
        if clouds > 0.003:
            patchy = smooth * np.maximum(clumpiness - np.float32(0.4), 0) ** 2
            add(patchy, in_disk * clouds, young_colour - 0.1)
        if arms > 0.003:
            add(smooth * lights.arms(place, clumpiness, galaxy), in_disk * arms, young_colour)
    if ring > 0.003:
        add(lights.ring(place, galaxy), in_disk * ring, young_colour)
    for clump in lights.clumps(galaxy, rng):
        x, y = _on_sensor(clump.x, clump.y, place, galaxy.position_angle)
        light = fluxes(bare * clump.fraction, galaxy.disk_colour - 0.15)
        lights.add_blob(drawn, x, y, clump.radius * radius_pixels, 0.9, 0.0, light)
    if galaxy.dust_strength > 0.1 and smooth is not None:
        light, veil = fluxes(in_disk * 0.9, galaxy.disk_colour), lights.dust_veil(place, galaxy)
        behind = smooth / np.float32(smooth.sum())
        for band, opacity in enumerate((0.7, 0.9, 1.15)):  # dust absorbs more in the blue
            drawn[band] -= light[band] * behind * (1 - np.exp(-np.float32(opacity) * veil))

    tails = 0.10 * galaxy.disturbance * (galaxy.disturbance > 0.15) + 0.20 * galaxy.tail_strength
    if tails > 0.02:
        add(lights.tail(place, galaxy), tails, galaxy.disk_colour)
    if galaxy.companion_strength > 0.0:
        if galaxy.merger_strength > 0.05:
            add(lights.bridge(place, galaxy), 0.16 * galaxy.merger_strength * galaxy.companion_strength, young_colour)
        light = fluxes(galaxy.companion_strength, 0.5 * (galaxy.bulge_colour + galaxy.disk_colour))
        size = 0.19 * radius_pixels * (0.55 + 0.45 * galaxy.companion_strength)
        where = galaxy.companion_distance, galaxy.companion_angle
        turn = galaxy.companion_angle + 60
        profiles.extend(_companion(place, where, size, turn, light, galaxy.position_angle))
    if galaxy.overlap_strength > 0.0:
        light = fluxes(galaxy.overlap_strength, galaxy.bulge_colour)
        where = rng.uniform(0.45, 0.95), rng.uniform(0.0, 360.0)
        profiles.extend(_companion(place, where, 0.2 * radius_pixels, rng.uniform(0.0, 180.0), light, 0.0))
    if galaxy.arc_strength > 0.0:
        add(lights.lens_arc(place), 0.10 * galaxy.arc_strength, 0.15)
    return drawn, profiles


def observed_flux(galaxy: Galaxy) -> float:
    """Return the flux of a galaxy in the band to which its rest-frame r light is shifted, dimmed, in nanomaggies."""
    return 10 ** (0.4 * (22.5 - galaxy.magnitude - dimming(galaxy.redshift)))


def _fractions(galaxy: Galaxy) -> tuple[float, float, float, float, float]:
    """Return the fractions of the disk's light in bar, ring, clouds, arms and the plain disk; they sum to 1."""
    bar = 0.42 * galaxy.bar_strength**1.5
    ring = 0.30 * galaxy.ring_strength**1.5 * (1 - bar)
    clouds = 0.75 * galaxy.irregularity**1.5 * (1 - bar)
    rest = 1 - bar - ring - clouds
    # Seen edge-on, arms overlap into one even band.
    arms = 0.55 * galaxy.arm_strength * (1.0 - 0.9 * lights.edge_on_fraction(galaxy)) if galaxy.n_arms else 0.0
    return bar, ring, clouds, rest * arms, rest * (1 - arms)


def _on_sensor(x: float, y: float, place: Sensor, position_angle: float) -> tuple[float, float]:
    """Return the pixel of a position given along the galaxy's axes, in radii."""
    cosine, sine = math.cos(math.radians(position_angle)), math.sin(math.radians(position_angle))
    right, down = x * cosine - y * sine, x * sine + y * cosine
    middle = place.n_pixels / 2
    return middle + right * place.radius_pixels, middle + down * place.radius_pixels


def _companion(
    place: Sensor, where: tuple[float, float], radius: float, turn: float, fluxes: Plane, position_angle: float
) -> list[tuple[_Profile, Plane]]:
    """Return another galaxy with a half-light radius in pixels, at a (distance, angle) in radii and degrees."""
    distance, angle = where[0] * place.radius_pixels, math.radians(where[1] + position_angle)
    shift = distance * math.cos(angle), distance * math.sin(angle)
    disk = galsim.Exponential(half_light_radius=1.25 * radius).shear(q=0.6, beta=turn * galsim.degrees)
    bulge = galsim.DeVaucouleurs(half_light_radius=0.45 * radius)
    half = np.float32(0.5)
    return [(disk.shift(*shift), half * fluxes), (bulge.shift(*shift), half * fluxes)]


# The surrounding sky --------------------------------------------------------------------------------------------


def _add_neighbours(drawn: Plane, survey: SurveyView, rng: np.random.Generator) -> None:
    """Add stars and small galaxies, as many as the area contains down to the survey's depth."""
    n_pixels = drawn.shape[-1]
    area_square_arcmin = (n_pixels * survey.sensor_pixel_arcsec / 60) ** 2
    faintest, farthest = survey.depth_mag[1], max(0.5, survey.redshifts[1])
    # Counts per magnitude rise by 10^0.2 for stars and by 10^0.38 for galaxies.
    for _ in range(rng.poisson(min(2.8 * 10 ** (0.2 * (faintest - 22.9)) * area_square_arcmin, 60.0))):  # stars
        x, y = rng.uniform(0, n_pixels, 2)
        # Most stars are either blue or red dwarfs.
        colour = rng.normal(0.35, 0.15) if rng.random() < 0.45 else rng.normal(1.3, 0.15)
        flux = 10 ** (0.4 * (22.5 - faintest) + rng.uniform(0.3, 2.75))
        lights.add_point(drawn, x, y, band_fluxes(flux, colour, 0.0, survey.shown_nm))
    for _ in range(rng.poisson(min(6.0 * 10 ** (0.38 * (faintest - 22.9)) * area_square_arcmin, 60.0))):  # galaxies
        x, y = rng.uniform(0, n_pixels, 2)
        flux = 10 ** (0.4 * (22.5 - faintest) + rng.normal(0.9, 0.4))
        radius = rng.lognormal(math.log(0.9 * 10 ** (-0.07 * (faintest - 22.9))), 0.3)
        light = band_fluxes(flux, rng.normal(0.55, 0.2), rng.uniform(0.1, farthest), survey.shown_nm)
        shape = rng.uniform(0.35, 1.0), rng.uniform(0, 180)
        lights.add_blob(drawn, x, y, max(radius / survey.sensor_pixel_arcsec, 0.8), *shape, light)
    if rng.random() < 0.09 * area_square_arcmin:
        # Near the border, because a star in the middle would have excluded the galaxy from the catalogue.
        x, y = rng.uniform(0, n_pixels), rng.choice((0.04, 0.96)) * n_pixels
        x, y = (x, y) if rng.random() < 0.5 else (y, x)
        _add_bright_star(drawn, x, y, 10 ** rng.uniform(3.0, 4.0), rng.normal(0.7, 0.4), survey, rng)


def _add_bright_star(
    drawn: Plane, x: float, y: float, noises: float, colour: float, survey: SurveyView, rng: np.random.Generator
) -> None:
    """Add a star with halo and diffraction spikes; its flux is in units of the noise of the sky."""
    flux = 30.0 * noises * survey.noise_nanomaggies()[1]
    lights.add_point(drawn, x, y, band_fluxes(flux, colour, 0.0, survey.shown_nm))
    lights.add_halo(drawn, x, y, 5.0, band_fluxes(0.04 * flux, colour + 0.3, 0.0, survey.shown_nm))
    length = 4 + 0.10 * noises**0.6
    turn = 45.0 + rng.normal(0.0, 3.0)
    lights.add_spikes(drawn, x, y, length, turn, band_fluxes(0.02 * flux, colour, 0.0, survey.shown_nm))


def _add_artifact(drawn: Plane, galaxy: Galaxy, survey: SurveyView, rng: np.random.Generator) -> None:
    """Add artifacts that are blurred by air and telescope."""
    n_pixels = drawn.shape[-1]
    middle = n_pixels / 2
    noise = np.array(survey.noise_nanomaggies(), np.float32)
    match galaxy.artifact:
        case "star":
            _add_bright_star(drawn, middle, middle, 10 ** rng.uniform(2.4, 3.5), rng.normal(0.6, 0.3), survey, rng)
        case "saturation":
            _add_bright_star(drawn, middle, middle, 10 ** rng.uniform(3.8, 4.4), rng.normal(0.6, 0.3), survey, rng)
            strength = np.array([0.9, 1.0, 0.8], np.float32) * 900 * noise
            lights.add_bleed(drawn, middle, middle, rng.uniform(0.2, 0.6) * n_pixels, strength)
        case "spikes":
            x, y = middle + rng.uniform(0.15, 0.4, 2) * n_pixels * rng.choice((-1, 1), 2)
            _add_bright_star(drawn, x, y, 10 ** rng.uniform(4.3, 4.8), rng.normal(0.6, 0.3), survey, rng)
            light = band_fluxes(3e3 * n_pixels * float(noise[1]), 0.5, 0.0, survey.shown_nm)
            lights.add_spikes(drawn, x, y, 0.3 * n_pixels, 45.0 + rng.normal(0.0, 8.0), light)
        case "scattered":
            x, y = middle + rng.uniform(0.5, 0.8, 2) * n_pixels * rng.choice((-1, 1), 2)
            area = 2 * math.pi * (0.25 * n_pixels) ** 2
            tint = np.exp(rng.normal(0.0, 0.4, 3)).astype(np.float32)
            lights.add_halo(drawn, x, y, 0.25 * n_pixels, tint * noise * np.float32(rng.uniform(40, 160) * area))
        case "ghost":
            x, y = middle + rng.uniform(-0.2, 0.2, 2) * n_pixels
            tint = np.exp(rng.normal(0.0, 0.7, 3)).astype(np.float32)
            lights.add_ghost(drawn, x, y, rng.uniform(0.15, 0.3) * n_pixels, tint * noise * np.float32(8.0))
        case "trail":
            # Surveys observe one filter after another, so a moving object appears in only one of them.
            tint = np.zeros(3, np.float32)
            tint[int(rng.integers(3))] = 1.0
            x, y = middle + rng.uniform(-0.12, 0.12, 2) * n_pixels
            brightness = (tint + np.float32(0.05)) * noise * np.float32(rng.uniform(15, 80))
            lights.add_line(drawn, x, y, rng.uniform(0, 180), rng.uniform(0.8, 2.0), brightness)
        case _:
            pass


# Atmosphere, sensor, display ----------------------------------------------------------------------------------------


def blur(seeing_arcsec: float, survey: SurveyView) -> _Profile:
    """Return the point spread function in sensor pixels: the atmosphere's, or the diffraction of a space telescope."""
    fwhm_pixels = seeing_arcsec / survey.sensor_pixel_arcsec
    if survey.is_above_air:
        # The secondary mirror obscures the primary one; jitter and charge diffusion soften the rings.
        airy = galsim.Airy(lam_over_diam=0.85 * fwhm_pixels / 1.03, obscuration=0.3)
        return galsim.Convolve(airy, galsim.Gaussian(fwhm=0.5 * fwhm_pixels))
    return galsim.Kolmogorov(fwhm=fwhm_pixels)


def _develop(drawn: Plane, profiles: _Profiles, galaxy: Galaxy, survey: SurveyView) -> Plane:
    """Return the light of `_galaxy`, blurred."""
    n_pixels = drawn.shape[-1]
    n_fast = 2 * cast(int, fft.next_fast_len((n_pixels + 1) // 2, real=True))
    transfer = _waves(galsim.Convolve(blur(galaxy.seeing_arcsec, survey), galsim.Pixel(1.0)), n_fast)
    waves = cast(Waves, fft.rfft2(drawn, (n_fast, n_fast)))
    if profiles:
        # Profiles of GalSim are centred on the corner of the first pixel; move them to the middle of the sensor.
        line = fft.fftfreq(n_fast), fft.rfftfreq(n_fast)
        shift = (n_pixels - 1) / 2
        down, across = (np.exp(-2j * np.pi * shift * one).astype(np.complex64) for one in line)
        centred = np.zeros_like(waves)
        for profile, fluxes in profiles:
            centred += fluxes[:, None, None] * _waves(profile, n_fast)
        waves += centred * (down[:, None] * across[None, :])
    seen = cast(Plane, fft.irfft2(waves * transfer, (n_fast, n_fast)))[:, :n_pixels, :n_pixels]
    return np.maximum(seen, np.float32(0.0))


def _waves(profile: _Profile, n_pixels: int) -> Waves:
    """Return the Fourier transform of a GalSim profile, in the order of `scipy.fft.rfft2`."""
    half = n_pixels // 2
    image = galsim.ImageCF(galsim.BoundsI(0, half, -half, half - 1), scale=2 * math.pi / n_pixels)
    profile.drawKImage(image=image, recenter=False)
    return fft.ifftshift(image.array, axes=0)


def _expose(light: Plane, survey: SurveyView, rng: np.random.Generator) -> Plane:
    """Return the light with residuals of the sky subtraction and with photon noise of sky and galaxy.

    The noise is Gaussian: even a pixel of dark sky collects hundreds of electrons, where this is accurate to 1%.
    """
    noise = np.array(survey.noise_nanomaggies(), np.float32)[:, None, None]
    sky = np.array(survey.sky_nanomaggies(), np.float32)[:, None, None]
    noise = noise * np.float32(rng.lognormal(0.0, 0.15))
    standard = rng.standard_normal(light.shape, np.float32)
    line = np.linspace(-0.5, 0.5, light.shape[-1], dtype=np.float32)
    slope = (0.25 * rng.standard_normal((2, 3), np.float32))[:, :, None, None]
    left = (0.25 * rng.standard_normal(3, np.float32))[:, None, None]
    uneven = left + slope[0] * line[None, None, :] + slope[1] * line[None, :, None]
    return light + noise * (standard * np.sqrt(1 + np.maximum(light, 0) / sky) + uneven)


def _spoil(image: Plane, galaxy: Galaxy, survey: SurveyView, rng: np.random.Generator) -> Plane:
    """Add artifacts of the sensor and of processing, which are not blurred."""
    n_pixels = image.shape[-1]
    if galaxy.artifact == "ray":
        noise = survey.noise_nanomaggies()
        for _ in range(int(rng.integers(3, 9))):
            x, y = rng.uniform(0.25, 0.75, 2) * n_pixels
            angle, length, band = rng.uniform(0, 2 * math.pi), rng.uniform(3, 0.25 * n_pixels), int(rng.integers(3))
            steps = np.arange(0.0, length, 0.5)
            columns = np.clip(x + steps * math.cos(angle), 0, n_pixels - 1).astype(int)
            rows = np.clip(y + steps * math.sin(angle), 0, n_pixels - 1).astype(int)
            image[band, rows, columns] += rng.uniform(50, 300) * noise[band]
    elif galaxy.artifact == "other":
        # One band is missing in part of the image, and another one is misaligned.
        cut = int(rng.uniform(0.35, 0.65) * n_pixels)
        image[int(rng.integers(3)), :, :cut] = 0.0
        band, shift = int(rng.integers(3)), max(2, round(0.03 * n_pixels))
        image[band] = np.roll(image[band], (shift, -shift), (0, 1))
    return image


def _stretch(light: Plane, survey: SurveyView) -> Pixels:
    """Return red, green and blue, shape (y, x, 3); the asinh stretch compresses intensity and preserves colour."""
    nearest, farthest = survey.redshifts
    redshift = nearest + _REFERENCE_DISTANCE * (farthest - nearest)
    reference = band_fluxes(1.0, _REFERENCE_COLOUR, redshift, survey.shown_nm)
    noise = survey.noise_nanomaggies()[1]
    scaled = light * (reference[1] / reference / np.float32(noise))[:, None, None]
    softening = survey.lupton_softening
    # At low intensity the slope of the curve is 255 x 0.1 Q / (stretch x asinh(0.1 Q)).
    stretch = 255 * 0.1 * softening / math.asinh(0.1 * softening) / survey.grey_of_noise
    minimum = -survey.black_noises
    with np.errstate(invalid="ignore"):  # pixels without light give 0 / 0, which astropy replaces by 0
        return make_lupton_rgb(*scaled, minimum=minimum, stretch=stretch, Q=softening)


# Visibility ------------------------------------------------------------------------------------------

# Contrast below which nothing is visible, however bright the image is.
_FAINTEST_CONTRAST = 0.07


def visible(galaxy: Galaxy, survey: SurveyView) -> Visibility:
    """Estimate how well each part of a galaxy is visible in a survey.

    The visibility of a part depends on its contrast: its surface brightness relative to its surroundings, reduced if it
    is narrower than the blur. The contrast is compared with the noise averaged over the area, and with the smallest
    contrast that volunteers notice.

    Args:
        galaxy: The galaxy.
        survey: The survey that takes the image.
    """
    radius = galaxy.radius_arcsec
    half_light = galaxy.half_light_radius_arcsec
    sigma = galaxy.seeing_arcsec / 2.3548
    tilt = galaxy.disk_axis_ratio
    face_on = 1.0 - 0.9 * lights.edge_on_fraction(galaxy)
    bar, ring, _, arms, _ = _fractions(galaxy)
    flux = float(band_fluxes(observed_flux(galaxy), galaxy.disk_colour, galaxy.redshift, survey.shown_nm)[1])
    noise_per_arcsec = survey.noise_nanomaggies()[1] / survey.sensor_pixel_arcsec
    sky_per_square_arcsec = survey.sky_nanomaggies()[1] / survey.sensor_pixel_arcsec**2

    disk_light = flux * galaxy.disk_fraction
    scale = galaxy.disk_scale * radius
    bulge_area = 2 * math.pi * (galaxy.bulge_radius * radius) ** 2 * galaxy.bulge_axis_ratio

    def surface(distance: float) -> float:
        """Return the surface brightness at a distance in radii, nanomaggies per square arcsec."""
        of_disk = disk_light / (2 * math.pi * scale**2 * max(tilt, 0.05)) * math.exp(-distance / galaxy.disk_scale)
        steepness = lights.sersic_steepness(galaxy.bulge_sersic)
        fall = math.exp(-steepness * ((distance / galaxy.bulge_radius) ** (1 / galaxy.bulge_sersic) - 1))
        return of_disk + flux * galaxy.bulge_fraction / bulge_area * fall

    def stands_out(light: float, width: float, length: float, around: float) -> float:
        """Return how well light within width x length (arcsec) stands out from a surface brightness."""
        if light <= 0.0:
            return 0.0
        spread_width, spread_length = math.hypot(width, 2.0 * sigma), math.hypot(length, 2.0 * sigma)
        area = max(spread_width * spread_length, survey.sensor_pixel_arcsec**2)
        own = light / area
        # Volunteers average over patches a few times as large as the blur, not over a whole arm.
        patch = min(area, (6.0 * sigma) ** 2)
        graininess = noise_per_arcsec / math.sqrt(patch) * math.sqrt(1 + (around + own) / sky_per_square_arcsec)
        return own / math.hypot(graininess, _FAINTEST_CONTRAST * (around + 0.5 * own))

    bar_length = galaxy.bar_length * radius
    # Distance between the turns of a logarithmic spiral at half the radius.
    pitch = math.radians(galaxy.arm_pitch)
    turns = 0.5 * (math.exp(2 * math.pi * math.tan(pitch) / max(galaxy.n_arms, 1)) - 1) * math.cos(pitch)
    arm_spacing = radius * min(turns, 1.0)
    # Blurring reduces a wave by the transfer function at its wavelength.
    arm_modulation = math.exp(-2.0 * (math.pi * sigma / (arm_spacing * max(tilt, 0.3))) ** 2)
    bare = galaxy.clump_strength and 1.0 - (1.0 - galaxy.clump_strength) * galaxy.clump_embedding
    clump_width = 0.2 * radius
    tails = 0.10 * galaxy.disturbance + 0.20 * galaxy.tail_strength
    companion_width = 0.5 * radius * (0.55 + 0.45 * galaxy.companion_strength)
    veil = 1.0 - math.exp(-2.9 * galaxy.dust_strength * max(0.25, 1.0 - math.cos(math.radians(galaxy.inclination))))
    lane = 0.12 * radius
    signal = 0.5 * flux / (noise_per_arcsec * math.sqrt(math.pi) * half_light)
    bulge_width = 2 * galaxy.bulge_radius * radius
    around_bulge = disk_light / (2 * math.pi * scale**2 * max(tilt, 0.05))
    ring_length = 2 * math.pi * galaxy.ring_radius * radius
    shown_companion = flux * galaxy.companion_strength * (0.4 + 0.6 * min(1.0, 2 * galaxy.companion_distance))
    absorbed = veil * 0.5 * surface(0.2) * lane * radius * lights.edge_on_fraction(galaxy) ** 0.5
    in_bar, in_ring, in_arms = disk_light * bar * face_on, disk_light * ring * face_on, disk_light * arms * face_on
    in_arms /= max(galaxy.n_arms, 1)
    return Visibility(
        resolution=half_light / sigma,
        signal_to_noise=signal / math.sqrt(1 + 0.5 * flux / (math.pi * half_light**2) / sky_per_square_arcsec),
        bar=stands_out(in_bar, 0.48 * bar_length * tilt, 2 * bar_length, surface(galaxy.bar_length / 2)),
        arms=stands_out(in_arms, 0.4 * arm_spacing * tilt, 0.9 * radius, surface(0.5)) * arm_modulation,
        ring=stands_out(in_ring, 0.2 * radius * tilt, ring_length, surface(galaxy.ring_radius)),
        bulge=stands_out(flux * galaxy.bulge_fraction * 0.5, bulge_width, bulge_width, around_bulge),
        clumps=stands_out(flux * bare / max(galaxy.n_clumps, 1), clump_width, clump_width, (1 - bare) * surface(0.4)),
        tails=stands_out(flux * tails, 0.3 * radius, 1.6 * radius, surface(1.0)),
        companion=stands_out(shown_companion, companion_width, companion_width, surface(galaxy.companion_distance)),
        dust=stands_out(absorbed, lane, radius, surface(0.2)),
    )
