"""Images per second and core of gzoo's camera and of GalSim alone, on the same simple galaxies.

    python benchmarks/simulator_speed.py [--n 40] [--quick]

Both draw the same galaxies (bulge and disk; GalSim without neighbours) as 424 x 424 pixels in three bands: as RGB JPEG
files with noise, and, for GalSim, also as pixel values without noise. GalSim uses its default GSParams:

- "at 424 pixels": each band is drawn on the 424 x 424 pixels of the image; the targets refer to this one;
- "as the survey": each band is drawn on the survey's own pixels and the image is enlarged, as gzoo's camera does.

Then gzoo's camera draws other kinds of galaxies, and the images of each campaign. All times are CPU seconds of one
thread, and the programs take turns.

Writes benchmarks/results/simulator_speed.json.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import galsim
import numpy as np
import numpy.typing as npt
from astropy.visualization import make_lupton_rgb
from measuring import arguments, save
from PIL import Image

from gzoo.simulator.camera import blur, draw_image, jpeg_bytes, observed_flux
from gzoo.simulator.galaxies import ARTIFACTS, Galaxy, draw_galaxy
from gzoo.simulator.spectrum import band_fluxes
from gzoo.simulator.survey import SIZE_PIXELS, SurveyView, survey_view
from gzoo.trees.campaign import campaigns

KINDS: dict[str, dict[str, object]] = {
    "spiral": {"n_arms": 2, "arm_strength": 0.8, "inclination": 30.0},
    "barred": {"bar_strength": 0.9, "inclination": 30.0},
    "ringed": {"ring_strength": 0.9},
    "edge-on with dust": {"inclination": 88.0, "dust_strength": 0.9},
    "boxy edge-on": {"inclination": 88.0, "bulge_boxiness": 0.9},
    "merger": {"companion_strength": 0.7, "merger_strength": 0.8, "tail_strength": 0.8, "disturbance": 0.6},
    "irregular": {"irregularity": 0.8},
    "clumpy": {"n_clumps": 6, "clump_strength": 0.7, "clump_arrangement": "spiral", "clump_embedding": 0.6},
    "lensed": {"arc_strength": 1.0},
    **{f"artifact {name}": {"artifact": name} for name in ARTIFACTS[1:]},
}


def plain(galaxy: Galaxy) -> Galaxy:
    """Return the galaxy with only a bulge and a disk."""
    nothing = dict.fromkeys(
        ("n_arms", "n_clumps", "bar_strength", "ring_strength", "dust_strength", "disturbance", "irregularity"), 0
    )
    nothing |= dict.fromkeys(("companion_strength", "tail_strength", "overlap_strength", "arc_strength"), 0)
    return replace(
        galaxy,
        artifact="",
        bulge_boxiness=0.0,
        clump_strength=0.0,
        merger_strength=0.0,
        clump_arrangement="",
        **nothing,
    )


def by_galsim(galaxy: Galaxy, survey: SurveyView, rng: np.random.Generator, *, whole: bool, as_survey: bool) -> object:
    """Draw the same bulge and disk with GalSim, band by band."""
    scale = survey.image_pixel_arcsec(galaxy.aperture_radius_arcsec)
    if as_survey:
        n_pixels, scale = round(SIZE_PIXELS * scale / survey.sensor_pixel_arcsec), survey.sensor_pixel_arcsec
    else:
        n_pixels = SIZE_PIXELS
    turn = galaxy.position_angle * galsim.degrees
    fluxes = [
        band_fluxes(observed_flux(galaxy) * fraction, colour, galaxy.redshift, survey.shown_nm)
        for fraction, colour in (
            (galaxy.bulge_fraction, galaxy.bulge_colour),
            (galaxy.disk_fraction, galaxy.disk_colour),
        )
    ]
    psf = blur(galaxy.seeing_arcsec / survey.sensor_pixel_arcsec * scale, replace(survey, sensor_pixel_arcsec=1.0))
    planes: list[npt.NDArray[np.float32]] = []
    for band in range(3):
        bulge = galsim.Sersic(
            round(galaxy.bulge_sersic * 5) / 5,
            half_light_radius=galaxy.bulge_radius * galaxy.radius_arcsec,
            flux=float(fluxes[0][band]),
        ).shear(q=galaxy.bulge_axis_ratio, beta=turn)
        disk = galsim.InclinedExponential(
            galaxy.inclination * galsim.degrees,
            scale_radius=galaxy.disk_scale * galaxy.radius_arcsec,
            scale_h_over_r=galaxy.disk_thickness,
            flux=float(fluxes[1][band]),
        ).rotate(turn)
        image = galsim.Convolve(bulge + disk, psf).drawImage(nx=n_pixels, ny=n_pixels, scale=scale)
        planes.append(image.array)
    if not whole:
        return planes
    for band, noise in enumerate(survey.noise_nanomaggies()):
        planes[band] = planes[band] + np.float32(noise) * rng.standard_normal(planes[band].shape, np.float32)
    with np.errstate(invalid="ignore"):
        colour = make_lupton_rgb(*planes, stretch=0.5, Q=8)
    shown = Image.fromarray(colour).resize((SIZE_PIXELS, SIZE_PIXELS), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def by_gzoo(galaxy: Galaxy, survey: SurveyView, rng: np.random.Generator) -> object:
    """Draw the image and file with gzoo, including neighbours and an uneven sky background."""
    return jpeg_bytes(draw_image(galaxy, survey, rng))


Draw = Callable[[Galaxy], object]


def rates(galaxies: list[Galaxy], programs: dict[str, Draw]) -> dict[str, float]:
    """Return images per CPU second of each program; they take turns for each galaxy."""
    spent = dict.fromkeys(programs, 0.0)
    for draw in programs.values():
        draw(galaxies[0])  # the first image includes the set-up of tables
    for galaxy in galaxies:
        for name, draw in programs.items():
            started = time.process_time()
            draw(galaxy)
            spent[name] += time.process_time() - started
    return {name: len(galaxies) / seconds for name, seconds in spent.items()}


def main() -> None:
    parser = arguments(__doc__, "simulator_speed.json")
    parser.add_argument("--n", type=int, default=40, help="number of galaxies (default: 40)")
    parser.add_argument("--quick", action="store_true", help="draw few galaxies, and write only to --out")
    options = parser.parse_args()
    n, n_kind, n_campaign = options.n, max(8, options.n // 4), max(10, options.n // 3)
    if options.quick:
        n, n_kind, n_campaign = 4, 1, 1
    survey, rng = survey_view("gz2"), np.random.default_rng(0)
    drawn = [draw_galaxy(np.random.default_rng([1, i]), survey) for i in range(n)]
    galaxies = [plain(galaxy) for galaxy in drawn]

    whole = rates(
        galaxies,
        {
            "gzoo": lambda galaxy: by_gzoo(galaxy, survey, rng),
            "galsim at 424 pixels": lambda galaxy: by_galsim(galaxy, survey, rng, whole=True, as_survey=False),
            "galsim as the survey": lambda galaxy: by_galsim(galaxy, survey, rng, whole=True, as_survey=True),
            "galsim at 424 pixels, without noise and file": lambda galaxy: by_galsim(
                galaxy, survey, rng, whole=False, as_survey=False
            ),
        },
    )
    print("images per second and core, and speed of gzoo relative to it: bulge and disk, as JPEG files")
    for name, rate in whole.items():
        print(f"  {name:34s}{rate:8.1f}   {whole['gzoo'] / rate:.2f} x")
    kinds: dict[str, dict[str, float]] = {}
    print("images per second and core of gzoo, and speed relative to GalSim on bulge and disk: kinds of galaxies")
    for kind, changes in KINDS.items():
        some = galaxies[:n_kind]
        kinds[kind] = rates(
            some,
            {
                "gzoo": lambda galaxy, changes=changes: by_gzoo(replace(galaxy, **changes), survey, rng),
                "galsim": lambda galaxy: by_galsim(galaxy, survey, rng, whole=True, as_survey=False),
            },
        )
        print(f"  {kind:34s}{kinds[kind]['gzoo']:8.1f}   {kinds[kind]['gzoo'] / kinds[kind]['galsim']:.2f} x")

    surveys: dict[str, dict[str, float]] = {}
    print("images per second and core of gzoo, and speed relative to GalSim on bulge and disk: campaigns")
    for one in campaigns():
        view = survey_view(one.name)
        some = [draw_galaxy(np.random.default_rng([2, i]), view) for i in range(n_campaign)]
        surveys[one.name] = rates(
            some,
            {
                "gzoo": lambda galaxy, view=view: by_gzoo(galaxy, view, rng),
                "galsim": lambda galaxy, view=view: by_galsim(plain(galaxy), view, rng, whole=True, as_survey=False),
            },
        )
        rate, other = surveys[one.name]["gzoo"], surveys[one.name]["galsim"]
        print(f"  {one.name:34s}{rate:8.1f}   {rate / other:.2f} x")

    record = {
        "plain": whole,
        "kinds": kinds,
        "campaigns": surveys,
        "ratio_plain": whole["gzoo"] / whole["galsim at 424 pixels"],
        "ratio_slowest_kind": min(one["gzoo"] / one["galsim"] for one in kinds.values()),
    }
    print(f"bulge and disk: {record['ratio_plain']:.2f} x (target 1)")
    print(f"slowest kind: {record['ratio_slowest_kind']:.2f} x (target 0.5)")
    save(options, record)


if __name__ == "__main__":
    main()
