"""A survey as its camera sees the sky: pixels, blur, depth and framing, from the facts of a campaign."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from gzoo.trees.campaign import View, campaign

SIZE_PIXELS = 424
"""Width and height of every image, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyView(View):
    """What the camera must know of a survey: the facts of its view, and its pixels and blur.

    Attributes:
        campaign: The campaign whose images these are.
        name: The survey.
        sensor_pixel_arcsec: Pixel of the survey's images, arcsec.
        psf_fwhm_arcsec: Typical full width at half maximum of a star, arcsec.
    """

    campaign: str
    name: str
    sensor_pixel_arcsec: float
    psf_fwhm_arcsec: float

    @property
    def is_grey(self) -> bool:
        """Whether the images have no colour."""
        return len(set(self.shown_nm)) == 1

    @property
    def is_above_air(self) -> bool:
        """Whether the images are sharper than air lets any telescope on the ground be."""
        return self.psf_fwhm_arcsec < 0.3

    def image_pixel_arcsec(self, radius_arcsec: float) -> float:
        """Pixel of the image of a galaxy of that radius, arcsec: most surveys frame larger galaxies wider."""
        return max(self.radii_per_pixel * radius_arcsec, self.smallest_pixel_arcsec)

    def noise_nanomaggies(self) -> tuple[float, ...]:
        """One sigma of the sky's noise in a sensor pixel, nanomaggies.

        A point source measured with its own profile as weight gathers the noise of 4 pi sigma^2 pixels.
        """
        sigma_pixels = self.psf_fwhm_arcsec / 2.3548 / self.sensor_pixel_arcsec
        n_pixels = 4 * math.pi * max(sigma_pixels, 0.5) ** 2
        return tuple(10 ** (0.4 * (22.5 - depth)) / 5 / math.sqrt(n_pixels) for depth in self.depth_mag)

    def sky_nanomaggies(self) -> tuple[float, ...]:
        """Light of the sky in a sensor pixel, nanomaggies."""
        return tuple(10 ** (0.4 * (22.5 - sky)) * self.sensor_pixel_arcsec**2 for sky in self.sky_mag_arcsec2)


def survey_view(name: str) -> SurveyView:
    """The camera of a campaign's (first) survey.

    Args:
        name: A campaign.

    Raises:
        NotFoundError: There is no such campaign.

    >>> survey_view("gz2").image_pixel_arcsec(10.0)
    0.185
    """
    survey = campaign(name).surveys[0]
    return SurveyView(
        campaign=name,
        name=survey.name,
        sensor_pixel_arcsec=survey.arcsec_per_pixel,
        psf_fwhm_arcsec=survey.psf_fwhm_arcsec,
        **{field.name: getattr(survey.view, field.name) for field in fields(View)},
    )
