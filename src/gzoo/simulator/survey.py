"""The view of a survey: pixels, blur, depth and framing, from the metadata of a campaign."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from gzoo.errors import InputError
from gzoo.trees.campaign import Campaign, campaign
from gzoo.trees.definition import View

SIZE_PIXELS = 424
"""Width and height of every image, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyView(View):
    """The properties of a survey that the camera needs.

    Attributes:
        sensor_pixel_arcsec: Pixel size of the survey's images, arcsec.
        psf_fwhm_arcsec: Typical full width at half maximum of a star, arcsec.
    """

    sensor_pixel_arcsec: float
    psf_fwhm_arcsec: float

    @property
    def is_above_air(self) -> bool:
        """Whether the images are too sharp for a telescope on the ground."""
        return self.psf_fwhm_arcsec < 0.3

    def image_pixel_arcsec(self, radius_arcsec: float) -> float:
        """Return the pixel size of the image of a galaxy, arcsec; in most surveys it grows with the radius."""
        return max(self.radii_per_pixel * radius_arcsec, self.smallest_pixel_arcsec)

    def noise_nanomaggies(self) -> tuple[float, ...]:
        """Return the standard deviation of the sky noise in a sensor pixel, nanomaggies.

        The flux of a point source, weighted with its profile, has the noise of 4 pi sigma^2 pixels.
        """
        sigma_pixels = self.psf_fwhm_arcsec / 2.3548 / self.sensor_pixel_arcsec
        n_pixels = 4 * math.pi * max(sigma_pixels, 0.5) ** 2
        return tuple(10 ** (0.4 * (22.5 - depth)) / 5 / math.sqrt(n_pixels) for depth in self.depth_mag)

    def sky_nanomaggies(self) -> tuple[float, ...]:
        """Return the flux of the sky in a sensor pixel, nanomaggies."""
        return tuple(10 ** (0.4 * (22.5 - sky)) * self.sensor_pixel_arcsec**2 for sky in self.sky_mag_arcsec2)


def survey_view(name: Path | str | Campaign) -> SurveyView:
    """Return the view of a campaign's first survey.

    Args:
        name: Name of the campaign, or path of its TOML file.

    Raises:
        NotFoundError: The campaign does not exist.
        InputError: It does not describe its survey.

    >>> survey_view("gz2").image_pixel_arcsec(10.0)
    0.185
    """
    facts = campaign(name)
    survey = next(iter(facts.surveys), None)
    if survey is None or survey.view is None:
        raise InputError(
            f"Campaign '{facts.name}' does not describe its images: it lacks the table "
            f"{'[[surveys]]' if survey is None else '[surveys.view] of its first survey'}.",
            "the depth, pixels and framing of its survey, as a simulation needs them.",
            "Add the table to the campaign's TOML file; gz2.toml of gzoo is an example.",
        )
    return SurveyView(
        sensor_pixel_arcsec=survey.arcsec_per_pixel,
        psf_fwhm_arcsec=survey.psf_fwhm_arcsec,
        **{field.name: getattr(survey.view, field.name) for field in fields(View)},
    )
