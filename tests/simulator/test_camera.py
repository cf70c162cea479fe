"""The camera draws galaxies according to their parameters, reproducibly, and as GalSim draws them."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from pathlib import Path

import galsim
import numpy as np
import pytest
from PIL import Image

from gzoo.errors import InputError
from gzoo.reports.gallery import gallery
from gzoo.simulator import light
from gzoo.simulator.camera import Visibility, blur, clean_image, draw_image, jpeg_bytes, observed_flux, visible
from gzoo.simulator.galaxies import ARTIFACTS, CLUMP_ARRANGEMENTS, Galaxy, draw_galaxy
from gzoo.simulator.spectrum import band_fluxes, dimming
from gzoo.simulator.survey import SurveyView, survey_view
from gzoo.trees.campaign import names

GZ2 = survey_view("gz2")


STRENGTHS = tuple(field.name for field in fields(Galaxy) if field.name.endswith("_strength"))
WITHOUT_A_STRENGTH = {"disturbance": 0.0, "irregularity": 0.0}


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def galaxy(**changes: object) -> Galaxy:
    """Return a large, bright, plain galaxy with some changes."""
    plain = replace(
        draw_galaxy(rng(2), GZ2),
        radius_arcsec=14.0,
        redshift=0.05,
        surface_brightness=20.2,
        seeing_arcsec=1.2,
        artifact="",
        bulge_fraction=0.2,
        bulge_radius=0.1,
        bulge_sersic=2.0,
        bulge_axis_ratio=0.85,
        bulge_boxiness=0.0,
        bulge_colour=0.85,
        disk_scale=0.3,
        disk_thickness=0.15,
        disk_colour=0.55,
        inclination=35.0,
        position_angle=30.0,
        n_arms=0,
        arm_pitch=15.0,
        arm_patchiness=0.2,
        bar_length=0.35,
        ring_radius=0.6,
        n_clumps=0,
        clump_arrangement="",
        companion_distance=0.6,
        **dict.fromkeys(STRENGTHS, 0.0),
        **WITHOUT_A_STRENGTH,
    )
    return replace(plain, **changes)  # pyright: ignore[reportArgumentType]


FEATURES: dict[str, dict[str, object]] = {
    "arms": {"n_arms": 2, "arm_strength": 0.8},
    "more arms": {"n_arms": 5, "arm_strength": 0.8},
    "bar": {"bar_strength": 0.9},
    "ring": {"ring_strength": 0.9},
    "irregular": {"irregularity": 0.8},
    "minor disturbance": {"disturbance": 0.3},
    "major disturbance": {"disturbance": 0.8},
    "tails": {"tail_strength": 0.9},
    "companion": {"companion_strength": 0.6},
    "merger": {"companion_strength": 0.6, "merger_strength": 0.9},
    "overlap": {"overlap_strength": 0.6},
    "arc": {"arc_strength": 1.0},
    "edge-on": {"inclination": 88.0, "bulge_fraction": 0.3},
    "edge-on, boxy": {"inclination": 88.0, "bulge_fraction": 0.3, "bulge_boxiness": 1.0},
    "edge-on, no bulge": {"inclination": 88.0, "bulge_fraction": 0.01},
    "edge-on, dust": {"inclination": 88.0, "dust_strength": 0.9},
    **{
        f"clumps, {arrangement}": {
            "n_clumps": 5,
            "clump_strength": 0.8,
            "clump_arrangement": arrangement,
            "clump_symmetry": 1.0,
        }
        for arrangement in CLUMP_ARRANGEMENTS[1:]
    },
}


def test_images_depend_only_on_galaxy_and_seed() -> None:
    one = galaxy(n_arms=2, arm_strength=0.8, irregularity=0.5)
    assert jpeg_bytes(draw_image(one, GZ2, rng(0))) == jpeg_bytes(draw_image(one, GZ2, rng(0)))
    assert jpeg_bytes(draw_image(one, GZ2, rng(0))) != jpeg_bytes(draw_image(one, GZ2, rng(1)))


@pytest.mark.parametrize("campaign", names())
def test_every_campaign_shows_galaxies_on_a_dark_sky(campaign: str) -> None:
    view = survey_view(campaign)
    drawn = [draw_galaxy(rng(4, i), view) for i in range(40)]
    seen = [visible(one, view) for one in drawn]
    for one in seen:
        values = [getattr(one, field.name) for field in fields(Visibility)]
        assert np.isfinite(values).all()
        assert min(values) >= 0.0
    assert 1.0 < np.median([one.resolution for one in seen]) < 40.0
    assert np.median([one.signal_to_noise for one in seen]) > 10.0
    best = [drawn[i] for i in np.argsort([one.signal_to_noise for one in seen]) if not drawn[i].is_artifact][-3:]
    for i, one in enumerate(best):
        shown = draw_image(one, view, rng(i))
        assert shown.shape == (424, 424, 3)
        assert shown.dtype == np.uint8
        assert np.median(shown[:60]) < 25
        assert shown[204:220, 204:220].max() > 60


def test_each_feature_changes_the_light() -> None:
    shown = {name: clean_image(galaxy(**changes), GZ2, 240)[1] for name, changes in FEATURES.items()}
    shown |= {"face-on": clean_image(galaxy(), GZ2, 240)[1]}
    kinds = list(shown)
    for i, first in enumerate(kinds):
        for second in kinds[:i]:
            apart = np.abs(shown[first] - shown[second]).sum() / shown["face-on"].sum()
            assert apart > 0.02, (first, second)


@pytest.mark.parametrize("artifact", ARTIFACTS[1:])
def test_each_artifact_changes_the_image(artifact: str) -> None:
    clean = draw_image(galaxy(), GZ2, rng(3)).astype(int)
    spoilt = draw_image(galaxy(artifact=artifact), GZ2, rng(3)).astype(int)
    assert np.abs(spoilt - clean).max() > 60


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("arrangement", CLUMP_ARRANGEMENTS[1:])
def test_clumps_have_the_stated_number_and_brightness(n: int, arrangement: str) -> None:
    made = light.clumps(
        galaxy(
            n_clumps=n, clump_strength=0.8, clump_arrangement=arrangement, clump_lead=1.0, clump_lead_is_central=True
        ),
        rng(0),
    )
    assert len(made) == n
    assert sum(one.fraction for one in made) == pytest.approx(1.0)
    brightest = max(made, key=lambda one: one.fraction)
    assert (brightest.x, brightest.y) == (0.0, 0.0)
    assert max(np.hypot(one.x, one.y) for one in made) < 1.5


def by_galsim(one: Galaxy, view: SurveyView, n_pixels: int) -> np.ndarray:
    """Return bulge and disk in the middle band as drawn by GalSim alone, nanomaggies per pixel."""
    fluxes = [
        float(band_fluxes(observed_flux(one) * fraction, colour, one.redshift, view.shown_nm)[1])
        for fraction, colour in ((one.bulge_fraction, one.bulge_colour), (one.disk_fraction, one.disk_colour))
    ]
    turn, scale = one.position_angle * galsim.degrees, one.radius_arcsec / view.sensor_pixel_arcsec
    # The half-light radius of our bulge is along its long axis; GalSim's shear keeps the area.
    bulge = galsim.Sersic(one.bulge_sersic, half_light_radius=one.bulge_radius * scale, flux=fluxes[0])
    bulge = bulge.shear(q=one.bulge_axis_ratio, beta=turn).dilate(one.bulge_axis_ratio**0.5)
    disk = galsim.InclinedExponential(
        one.inclination * galsim.degrees,
        scale_radius=one.disk_scale * scale,
        scale_h_over_r=one.disk_thickness,
        flux=fluxes[1],
    ).rotate(turn)
    both = galsim.Convolve(bulge + disk, blur(one.seeing_arcsec, view))
    return both.drawImage(nx=n_pixels, ny=n_pixels, scale=1.0).array


@pytest.mark.parametrize("inclination", [0.0, 35.0, 70.0, 85.0])
@pytest.mark.parametrize("bulge_fraction", [0.01, 0.3, 0.99])
def test_plain_galaxies_agree_with_galsim(inclination: float, bulge_fraction: float) -> None:
    one = galaxy(inclination=inclination, bulge_fraction=bulge_fraction, bulge_radius=0.2)
    ours, theirs = clean_image(one, GZ2, 240)[1], by_galsim(one, GZ2, 240)
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.01)
    assert half_light_pixels(ours) == pytest.approx(half_light_pixels(theirs), rel=0.02)
    assert np.abs(ours - theirs).max() < 0.01 * theirs.max()


def half_light_pixels(image: np.ndarray) -> float:
    down, across = np.indices(image.shape) - (image.shape[0] - 1) / 2
    distance = np.hypot(down, across).ravel()
    order = np.argsort(distance)
    growth = np.cumsum(image.ravel()[order])
    return float(distance[order][np.searchsorted(growth, growth[-1] / 2)])


@pytest.mark.parametrize("inclination", [0.0, 60.0, 88.0])
def test_light_drawn_without_galsim_agrees_with_it(inclination: float) -> None:
    """Bent and boxy galaxies are not drawn by GalSim, but must agree with it if they are almost regular."""
    one = galaxy(inclination=inclination, bulge_fraction=0.4, bulge_radius=0.2, bulge_sersic=1.4)
    place = light.sensor(240, one.radius_arcsec / GZ2.sensor_pixel_arcsec, one)
    theirs = by_galsim(replace(one, bulge_fraction=1e-6), GZ2, 240)
    assert half_light_pixels(light.disk(place, one)) == pytest.approx(half_light_pixels(theirs), rel=0.12)
    theirs = by_galsim(replace(one, bulge_fraction=1 - 1e-6), GZ2, 240)
    assert half_light_pixels(light.bulge(place, one)) == pytest.approx(half_light_pixels(theirs), rel=0.12)


def test_features_preserve_the_flux_of_the_galaxy() -> None:
    plain = clean_image(galaxy(), GZ2, 300)[1].sum()
    for name in ("arms", "bar", "ring", "irregular", "clumps, cluster"):
        same_colour = FEATURES[name] | {"bulge_colour": 0.6, "disk_colour": 0.6}
        assert clean_image(galaxy(**same_colour), GZ2, 300)[1].sum() == pytest.approx(plain, rel=0.15), name


def test_noise_has_the_depth_of_the_survey() -> None:
    """A star at the stated depth has five times the noise in an aperture of its own profile."""
    for campaign in ("gz2", "gz_candels"):
        view = survey_view(campaign)
        profile = galsim.Gaussian(fwhm=view.psf_fwhm_arcsec / view.sensor_pixel_arcsec).drawImage(nx=41, ny=41, scale=1)
        for depth, noise in zip(view.depth_mag, view.noise_nanomaggies(), strict=True):
            signal = 10 ** (0.4 * (22.5 - depth)) * np.sqrt((profile.array**2).sum())
            assert signal / noise == pytest.approx(5.0, rel=0.15)


def test_distance_dims_and_reddens() -> None:
    near, far = galaxy(redshift=0.02), galaxy(redshift=0.4)
    assert observed_flux(near) / observed_flux(far) == pytest.approx(10 ** (0.4 * (dimming(0.4) - dimming(0.02))))
    colours = [band_fluxes(1.0, 0.6, z, GZ2.shown_nm) for z in (0.0, 0.2, 0.4)]
    assert colours[0][0] / colours[0][2] < colours[1][0] / colours[1][2] < colours[2][0] / colours[2][2]


def test_blur_and_noise_reduce_visibility() -> None:
    spiral = galaxy(n_arms=2, arm_strength=0.8, bar_strength=0.8, bulge_fraction=0.3)
    clear = visible(spiral, GZ2)
    assert clear.arms > 3
    assert clear.bar > 2
    assert (clear.clumps, clear.dust, clear.companion, clear.tails) == (0.0, 0.0, 0.0, 0.0)
    for worse in (
        replace(spiral, radius_arcsec=3.0),
        replace(spiral, surface_brightness=23.5),
        replace(spiral, redshift=0.8),
        replace(spiral, seeing_arcsec=5.0),
        replace(spiral, inclination=88.0),
    ):
        seen = visible(worse, GZ2)
        assert seen.arms < 0.8 * clear.arms
        assert seen.bar < clear.bar


def test_files_are_marked_as_simulated(tmp_path: Path) -> None:
    with Image.open(io.BytesIO(jpeg_bytes(draw_image(galaxy(), GZ2, rng(0))))) as image:
        assert b"simulated" in image.info["comment"]
    with pytest.raises(InputError, match="Cannot write"):
        gallery(("gz2",), tmp_path / "gallery.gif")
    assert not any(tmp_path.iterdir())
