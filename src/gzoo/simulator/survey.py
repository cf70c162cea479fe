"""A survey as its camera sees the sky: pixels, blur, depth and framing, from the facts of a campaign."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gzoo.campaign import campaign

SIZE_PIXELS = 424
"""Width and height of every picture, pixels."""


@dataclass(frozen=True, slots=True)
class SurveyView:
    """What the camera must know of a survey; triples belong to red, green and blue.

    Attributes:
        campaign: The campaign whose pictures these are.
        name: The survey.
        sensor_pixel_arcsec: Pixel of the survey's images, arcsec.
        psf_fwhm_arcsec: Typical full width at half maximum of a star, arcsec.
        shown_nm: Mean wavelength of what is shown, nm.
        depth_mag: AB magnitude of a point source at 5 times the noise.
        sky_mag_arcsec2: Brightness of the sky, AB mag per square arcsec.
        radii_per_pixel: A pixel of the picture, in radii that hold 90 % of the galaxy's light.
        smallest_pixel_arcsec: But no smaller than that, arcsec.
        grey_of_noise: How bright one sigma of noise in a sensor pixel is shown, of 255.
        lupton_softening: Q of the asinh stretch: how far it is from linear.
        black_noises: The sky's mean stands this many sigmas above black.
        is_zoomed_from_jpeg: Whether it was a JPEG of the survey's own pixels that was enlarged, and not its data.
        redshifts: Lowest and highest redshift of most galaxies.
        radius_arcsec: Median radius that holds 90 % of the light, arcsec, and its scatter as a factor.
        clumpy_share: About what share of the galaxies is made of bright clumps.
    """

    campaign: str
    name: str
    sensor_pixel_arcsec: float
    psf_fwhm_arcsec: float
    shown_nm: tuple[float, float, float]
    depth_mag: tuple[float, float, float]
    sky_mag_arcsec2: tuple[float, float, float]
    radii_per_pixel: float
    smallest_pixel_arcsec: float
    grey_of_noise: float
    lupton_softening: float
    black_noises: float
    is_zoomed_from_jpeg: bool
    redshifts: tuple[float, float]
    radius_arcsec: tuple[float, float]
    clumpy_share: float

    @property
    def is_grey(self) -> bool:
        """Whether the pictures have no colour."""
        return len(set(self.shown_nm)) == 1

    @property
    def is_above_air(self) -> bool:
        """Whether the pictures are sharper than air lets any telescope on the ground be."""
        return self.psf_fwhm_arcsec < 0.3

    def picture_pixel_arcsec(self, radius_arcsec: float) -> float:
        """Pixel of the picture of a galaxy of that radius, arcsec: most surveys frame larger galaxies wider."""
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
        MissingError: There is no such campaign.

    >>> survey_view("gz2").picture_pixel_arcsec(10.0)
    0.185
    """
    survey = campaign(name).surveys[0]
    view = survey.view
    return SurveyView(
        campaign=name,
        name=survey.name,
        sensor_pixel_arcsec=survey.arcsec_per_pixel,
        psf_fwhm_arcsec=survey.psf_fwhm_arcsec,
        shown_nm=view.shown_nm,
        depth_mag=view.depth_mag,
        sky_mag_arcsec2=view.sky_mag_arcsec2,
        radii_per_pixel=view.radii_per_pixel,
        smallest_pixel_arcsec=view.smallest_pixel_arcsec,
        grey_of_noise=view.grey_of_noise,
        lupton_softening=view.lupton_softening,
        black_noises=view.black_noises,
        is_zoomed_from_jpeg=view.is_zoomed_from_jpeg,
        redshifts=view.redshifts,
        radius_arcsec=view.radius_arcsec,
        clumpy_share=view.clumpy_share,
    )
