"""Images per second and core: gzoo's camera against GalSim on its own, on the same plain galaxies.

    python benchmarks/simulator_speed.py [--n 40]

Both give the same galaxies (bulge + disk, no neighbours on GalSim's side) as 424 x 424 pixels in three bands, once as
colour images without noise and file, once with noise, Lupton RGB and JPEG. GalSim draws with its default GSParams:

- "at 424 pixels": each band drawn straight onto the 424 x 424 pixels of the image, what the target asks for;
- "as the survey": each band drawn onto the survey's own pixels and the image enlarged, as gzoo's camera does.

Then gzoo's camera draws other kinds of galaxies, and the images of each campaign. Everything is timed in processor
seconds of one thread, the contestants taking turns. Writes benchmarks/results/simulator_speed.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import galsim
import numpy as np
import numpy.typing as npt
from astropy.visualization import make_lupton_rgb
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
    """Only a bulge and a disk."""
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
    """The same bulge and disk, drawn by GalSim band by band."""
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
    """Image and file by gzoo: neighbours, uneven sky and all."""
    return jpeg_bytes(draw_image(galaxy, survey, rng))


Draw = Callable[[Galaxy], object]


def rates(galaxies: list[Galaxy], contestants: dict[str, Draw]) -> dict[str, float]:
    """Images per processor second of each contestant, who take turns galaxy by galaxy."""
    spent = dict.fromkeys(contestants, 0.0)
    for draw in contestants.values():
        draw(galaxies[0])  # tables are made once
    for galaxy in galaxies:
        for name, draw in contestants.items():
            started = time.process_time()
            draw(galaxy)
            spent[name] += time.process_time() - started
    return {name: len(galaxies) / seconds for name, seconds in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "simulator_speed.json")
    arguments = parser.parse_args()
    survey, rng = survey_view("gz2"), np.random.default_rng(0)
    drawn = [draw_galaxy(np.random.default_rng([1, i]), survey) for i in range(arguments.n)]
    galaxies = [plain(galaxy) for galaxy in drawn]

    whole = rates(
        galaxies,
        {
            "gzoo": lambda galaxy: by_gzoo(galaxy, survey, rng),
            "galsim at 424 pixels": lambda galaxy: by_galsim(galaxy, survey, rng, whole=True, as_survey=False),
            "galsim as the survey": lambda galaxy: by_galsim(galaxy, survey, rng, whole=True, as_survey=True),
            "galsim at 424 pixels, light only": lambda galaxy: by_galsim(
                galaxy, survey, rng, whole=False, as_survey=False
            ),
        },
    )
    print("plain bulge + disk, Galaxy Zoo 2, with noise, RGB and JPEG; images per second and core")
    for name, rate in whole.items():
        print(f"  {name:34s}{rate:8.1f}   gzoo is {whole['gzoo'] / rate:.2f} x")
    kinds: dict[str, dict[str, float]] = {}
    print("kinds of galaxies, over GalSim on the plain galaxy at 424 pixels")
    for kind, changes in KINDS.items():
        some = galaxies[: max(8, arguments.n // 4)]
        kinds[kind] = rates(
            some,
            {
                "gzoo": lambda galaxy, changes=changes: by_gzoo(replace(galaxy, **changes), survey, rng),
                "galsim": lambda galaxy: by_galsim(galaxy, survey, rng, whole=True, as_survey=False),
            },
        )
        print(f"  {kind:34s}{kinds[kind]['gzoo']:8.1f}   {kinds[kind]['gzoo'] / kinds[kind]['galsim']:.2f} x")

    surveys: dict[str, dict[str, float]] = {}
    print("campaigns, galaxies as drawn, over GalSim on that campaign's plain ones at 424 pixels")
    for one in campaigns():
        view = survey_view(one.name)
        some = [draw_galaxy(np.random.default_rng([2, i]), view) for i in range(max(10, arguments.n // 3))]
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
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("galsim", "astropy", "numpy", "scipy", "pillow")},
        "python": platform.python_version(),
    }
    print(f"plain {record['ratio_plain']:.2f} x (target 1)")
    print(f"slowest kind {record['ratio_slowest_kind']:.2f} x (target 0.5)")
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
