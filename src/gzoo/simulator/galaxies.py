"""Physical parameters of galaxies, drawn from a joint distribution that resembles that of each survey.

Galaxies do not belong to classes. Bulge, disk, bar, arms and disturbances are present in degrees;
`gzoo.simulator.perception` determines what a volunteer would call "smooth" or "spiral".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gzoo.simulator.survey import SurveyView

ARTIFACTS = ("", "star", "trail", "saturation", "spikes", "scattered", "ghost", "ray", "bad-zoom", "other")
"""Artifacts that replace a galaxy in an image, or disturb it."""

CLUMP_ARRANGEMENTS = ("", "line", "chain", "cluster", "spiral")
"""Arrangements of clumps."""


@dataclass(frozen=True, slots=True)
class Galaxy:
    """The physical parameters of one galaxy, which determine images and answers.

    Lengths are in units of `radius_arcsec`, angles in degrees; strengths range from 0 (absent) to 1.

    Attributes:
        ra: Right ascension, degrees.
        dec: Declination, degrees.
        radius_arcsec: Half of the long axis of the outline that contains about 90% of the light, arcsec.
        redshift: Redshift.
        surface_brightness: Mean within the half-light radius in r, mag per square arcsec (smaller is brighter),
            without cosmological dimming, which the camera applies.
        seeing_arcsec: Full width at half maximum of the point spread function, arcsec.
        artifact: Artifact that replaces or disturbs the image: one of `ARTIFACTS`; "" for none.
        bulge_fraction: Fraction of the light in the bulge; near 1 for an elliptical.
        bulge_radius: Half-light radius of the bulge.
        bulge_sersic: Sersic index of the bulge: 1 shallow, 4 cuspy.
        bulge_axis_ratio: Apparent short axis over long axis of the bulge.
        bulge_boxiness: 0 for elliptical outlines, 1 for a box (or peanut).
        bulge_colour: g - r of the bulge, mag.
        disk_scale: Exponential scale length of the disk.
        disk_thickness: Height over scale length of the disk.
        disk_colour: g - r of the disk between the arms, mag.
        inclination: Tilt of the disk: 0 face-on, 90 edge-on.
        position_angle: Direction of the long axis on the sky, 0 to 180.
        n_arms: Number of spiral arms; 0 for none.
        arm_strength: Contrast of the arms.
        arm_pitch: Pitch angle: 7 tightly wound, 35 open.
        arm_winds_left: Whether the arms wind counter-clockwise.
        arm_patchiness: 0 for smooth arms, 1 for flocculent ones.
        bar_strength: Light and contrast of the bar.
        bar_length: Half length of the bar.
        bar_angle: Direction of the bar in the plane of the disk.
        ring_strength: A ring of young stars.
        ring_radius: Radius of that ring.
        dust_strength: A dust lane in front of the bulge.
        disturbance: Lopsidedness and tails.
        irregularity: Clumps without a pattern.
        n_clumps: Number of bright clumps; 0 for none, at most 8.
        clump_strength: Fraction of the light in the clumps.
        clump_arrangement: Arrangement: one of `CLUMP_ARRANGEMENTS`; "" without clumps.
        clump_lead: 0 if all are equally bright, 1 if one is much brighter than the others.
        clump_lead_is_central: Whether the brightest clump is the middle one.
        clump_symmetry: 0 if all clumps are on one side, 1 if each has a counterpart.
        clump_embedding: 0 for bare clumps, 1 for clumps within the light of a larger galaxy.
        merger_strength: Contact with the companion: two nuclei and a bridge of light between them.
        tail_strength: Tidal tails and debris.
        overlap_strength: Light of an unrelated galaxy on the same line of sight, relative to this galaxy.
        companion_strength: Light of a second nucleus or merging galaxy, relative to this galaxy.
        companion_distance: Distance of the companion.
        companion_angle: Direction of the companion on the sky.
        arc_strength: A gravitational arc or lens around the centre.
    """

    ra: float
    dec: float
    radius_arcsec: float
    redshift: float
    surface_brightness: float
    seeing_arcsec: float
    artifact: str
    bulge_fraction: float
    bulge_radius: float
    bulge_sersic: float
    bulge_axis_ratio: float
    bulge_boxiness: float
    bulge_colour: float
    disk_scale: float
    disk_thickness: float
    disk_colour: float
    inclination: float
    position_angle: float
    n_arms: int
    arm_strength: float
    arm_pitch: float
    arm_winds_left: bool
    arm_patchiness: float
    bar_strength: float
    bar_length: float
    bar_angle: float
    ring_strength: float
    ring_radius: float
    dust_strength: float
    disturbance: float
    irregularity: float
    n_clumps: int
    clump_strength: float
    clump_arrangement: str
    clump_lead: float
    clump_lead_is_central: bool
    clump_symmetry: float
    clump_embedding: float
    merger_strength: float
    tail_strength: float
    overlap_strength: float
    companion_strength: float
    companion_distance: float
    companion_angle: float
    arc_strength: float

    @property
    def is_artifact(self) -> bool:
        """Whether an artifact replaces or disturbs the image."""
        return self.artifact != ""

    @property
    def disk_fraction(self) -> float:
        """Fraction of the light in the disk."""
        return 1.0 - self.bulge_fraction

    @property
    def half_light_radius_arcsec(self) -> float:
        """Radius that contains half of the light, arcsec; for a cuspy bulge far smaller than `radius_arcsec`."""
        return self.radius_arcsec / (1.85 + 0.65 * self.bulge_fraction)

    @property
    def disk_axis_ratio(self) -> float:
        """Apparent short axis over long axis of the disk, from its thickness and inclination."""
        return math.hypot(math.cos(math.radians(self.inclination)), 0.7 * self.disk_thickness)

    @property
    def axis_ratio(self) -> float:
        """Short axis over long axis of the outline, without blur."""
        return self.bulge_fraction * self.bulge_axis_ratio + self.disk_fraction * self.disk_axis_ratio

    @property
    def aperture_radius_arcsec(self) -> float:
        """Radius of the circle that contains about 90% of the light, arcsec; smaller than the long axis if edge-on.

        Images are framed by this radius, because catalogues measure in circular apertures.
        """
        return self.radius_arcsec * (0.67 + 0.33 * self.axis_ratio)

    @property
    def magnitude(self) -> float:
        """Apparent r magnitude."""
        area = 2.0 * np.pi * self.half_light_radius_arcsec**2
        return float(self.surface_brightness - 2.5 * np.log10(area))


# Two arms are by far the most common in GZ2; 5 and 6 are what volunteers call "more than 4".
_ARM_COUNTS = (1, 2, 3, 4, 5, 6)
_ARM_COUNT_FRACTIONS = (0.06, 0.60, 0.14, 0.08, 0.06, 0.06)

# Most images without a galaxy show a star; the others are common on the campaigns' Talk pages.
_ARTIFACT_FRACTIONS = (0.40, 0.08, 0.10, 0.08, 0.08, 0.07, 0.07, 0.06, 0.06)
_ARTIFACT_FRACTION = 0.025

_BRIGHTNESS = 19.65
"""Median surface brightness of a nearby elliptical, mag per square arcsec."""

_YOUNG_UNIVERSE = 0.2
"""Redshift beyond which galaxies look younger: bluer, smaller, more irregular."""


def draw_galaxy(rng: np.random.Generator, survey: SurveyView) -> Galaxy:
    """Draw one galaxy.

    At low redshift, about half of the galaxies are dominated by a disk. Bulges are redder and rounder, disks bluer,
    with realistic scatter: there are blue ellipticals and red spirals, so colour alone does not determine the answers.
    With larger bulges arms are rarer and more tightly wound; bars occur in disks; irregular galaxies are faint and
    blue. At high redshift, galaxies are smaller and brighter for their size, more of them are disturbed or clumpy, and
    fewer have bars and arms.

    Args:
        rng: Random number generator.
        survey: The survey, which determines the sizes and redshifts of the galaxies.

    Returns:
        The galaxy.
    """
    median_radius, scatter = survey.radius_arcsec
    size = float(np.clip(rng.normal(), -2.2, 2.2))
    radius_arcsec = median_radius * scatter**size
    nearest, farthest = survey.redshifts
    # Galaxies with small angular sizes are mostly at high redshift.
    redshift = nearest + (farthest - nearest) * rng.beta(2.0, 2.0 * math.exp(0.35 * size))
    youth = min(max((redshift - _YOUNG_UNIVERSE) / 1.3, 0.0), 1.0)

    has_disk = rng.random() < 0.62 + 0.1 * youth
    bulge_fraction = rng.beta(1.3 - 0.4 * youth, 2.8) * 0.9 if has_disk else rng.beta(9.0, 0.9)
    lateness = 1.0 - bulge_fraction  # 1 for a pure disk

    # Passive disks (S0) lack arms, and are more frequent with larger bulges.
    is_star_forming = has_disk and rng.random() < 0.30 + 0.6 * lateness
    has_arms = is_star_forming and rng.random() < 1.0 - 0.5 * youth
    arm_strength = rng.beta(2.6, 1.7) if has_arms else rng.beta(1.0, 12.0)
    bar_strength = rng.beta(2.5, 1.8) if has_disk and rng.random() < 0.38 - 0.25 * youth else rng.beta(1.0, 12.0)
    is_clumpy = (has_disk or rng.random() < 0.2) and rng.random() < 1.4 * survey.clumpy_fraction
    is_irregular = is_star_forming and not is_clumpy and rng.random() < 0.06
    encounter = rng.random()
    is_merging = encounter < 0.07 + 0.05 * youth
    is_touching = is_merging and rng.random() < 0.6
    is_disturbed = encounter < 0.12 + 0.1 * youth

    bulge_colour = rng.normal(0.785 - 0.2 * youth, 0.075)
    disk_colour = 0.84 - 0.30 * lateness if is_star_forming else 0.78
    disk_colour = rng.normal(disk_colour - 0.1 * youth, 0.08) - 0.12 * is_irregular - 0.1 * is_clumpy
    if not has_disk and rng.random() < 0.06:
        bulge_colour -= rng.uniform(0.15, 0.4)  # a blue elliptical

    # Young galaxies were brighter for their size, which compensates for part of the dimming.
    surface_brightness = rng.normal(_BRIGHTNESS + 0.85 * lateness + 0.5 * is_irregular - 3.0 * youth, 0.45)
    inclination = math.degrees(math.acos(rng.random()))
    # The dust in a star-forming disk absorbs a third or more of the light if it is edge-on.
    surface_brightness += 0.6 * lateness * (1.0 - math.cos(math.radians(inclination))) ** 2
    n_arms = int(rng.choice(_ARM_COUNTS, p=_ARM_COUNT_FRACTIONS)) if has_arms else 0
    n_clumps = int(1 + rng.binomial(7, 0.35)) if is_clumpy else 0
    arrangement = str(rng.choice(CLUMP_ARRANGEMENTS[1:], p=(0.2, 0.2, 0.4, 0.2))) if n_clumps else ""
    blur = float(np.clip(rng.lognormal(0.0, 0.02 if survey.is_above_air else 0.12), 0.7, 1.5))
    return Galaxy(
        ra=float(rng.uniform(110.0, 260.0)),
        # uniform on the sphere, not in declination
        dec=math.degrees(math.asin(rng.uniform(math.sin(math.radians(-2.0)), math.sin(math.radians(65.0))))),
        radius_arcsec=float(radius_arcsec),
        redshift=float(redshift),
        surface_brightness=float(np.clip(surface_brightness, _BRIGHTNESS - 4.0, _BRIGHTNESS + 2.6)),
        seeing_arcsec=survey.psf_fwhm_arcsec * blur,
        artifact=str(rng.choice(ARTIFACTS[1:], p=_ARTIFACT_FRACTIONS)) if rng.random() < _ARTIFACT_FRACTION else "",
        bulge_fraction=float(np.clip(bulge_fraction, 0.01, 0.995)),
        bulge_radius=float(rng.uniform(0.06, 0.14) if has_disk else rng.uniform(0.35, 0.52)),
        bulge_sersic=float(rng.uniform(1.0, 2.5) if has_disk else np.clip(rng.normal(3.4, 0.7), 1.5, 5.0)),
        bulge_axis_ratio=float(np.clip(rng.normal(0.85, 0.08) if has_disk else 1 - rng.beta(1.7, 3.6), 0.3, 1)),
        bulge_boxiness=float(rng.beta(1.0, 2.0) if has_disk and rng.random() < 0.5 else rng.beta(1.0, 12.0)),
        bulge_colour=float(bulge_colour),
        disk_scale=float(rng.uniform(0.235, 0.35)),
        disk_thickness=float(rng.uniform(0.13, 0.27) * (1.0 + 0.6 * youth)),
        disk_colour=float(np.clip(disk_colour, 0.1, 1.0)),
        inclination=inclination,
        position_angle=float(rng.uniform(0.0, 180.0)),
        n_arms=n_arms,
        arm_strength=float(arm_strength * (0.35 if is_irregular else 1.0)),
        arm_pitch=float(np.clip(rng.normal(11.0 + 13.0 * lateness, 5.0), 7.0, 38.0)),
        arm_winds_left=bool(rng.random() < 0.5),
        arm_patchiness=float(rng.beta(4.0, 2.0) if n_arms >= 5 else rng.beta(1.5, 3.0)),
        bar_strength=float(bar_strength),
        bar_length=float(rng.uniform(0.22, 0.48)),
        bar_angle=float(rng.uniform(0.0, 180.0)),
        ring_strength=float(rng.beta(4.0, 2.0) if has_disk and rng.random() < 0.07 else rng.beta(1.0, 25.0)),
        ring_radius=float(rng.uniform(0.45, 0.75)),
        dust_strength=float(rng.beta(4.0, 2.0) if is_star_forming and rng.random() < 0.15 else rng.beta(1.0, 25.0)),
        # Minor disturbances are about 0.3, major ones above 0.6.
        disturbance=float(
            rng.beta(3.0, 2.0) if is_touching else rng.uniform(0.15, 0.7) if is_disturbed else rng.beta(1.0, 15.0)
        ),
        irregularity=float(rng.beta(5.0, 2.0) if is_irregular else rng.beta(1.0, 20.0)),
        n_clumps=n_clumps,
        clump_strength=float(rng.beta(3.0, 2.5)) if n_clumps else 0.0,
        clump_arrangement=arrangement,
        clump_lead=float(rng.beta(0.8, 0.8)) if n_clumps > 1 else float(n_clumps),
        clump_lead_is_central=bool(n_clumps == 1 or (n_clumps > 1 and rng.random() < 0.45)),
        clump_symmetry=float(rng.beta(0.9, 0.9)) if n_clumps else 0.0,
        clump_embedding=float(rng.beta(1.2, 0.8)) if n_clumps else 0.0,
        merger_strength=float(rng.uniform(0.35, 1.0) if is_touching else 0.0),
        tail_strength=float(rng.beta(2.0, 1.6) if is_touching else rng.beta(1.0, 6.0) * is_disturbed),
        overlap_strength=float(rng.uniform(0.1, 0.6) if rng.random() < 0.03 else 0.0),
        companion_strength=float(rng.uniform(0.06, 1.0) if is_merging else 0.0),
        companion_distance=float(rng.uniform(0.08, 0.7) if is_touching else rng.uniform(0.35, 1.8)),
        companion_angle=float(rng.uniform(0.0, 360.0)),
        arc_strength=float(rng.uniform(0.4, 1.0) if rng.random() < 0.004 else 0.0),
    )
