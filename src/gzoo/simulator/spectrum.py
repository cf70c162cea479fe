"""The colour of starlight, from ultraviolet to infrared, at any redshift."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# AB magnitudes with respect to r of two stellar populations, a young one (g - r 0.35) and an old one (0.80). Rounded
# typical values of galaxies in GALEX, Sloan, UKIDSS and WISE bands; other populations are interpolated.
_NM = (100.0, 153.0, 230.0, 355.0, 469.0, 617.0, 750.0, 893.0, 1250.0, 1640.0, 2200.0, 3400.0, 4600.0)
_YOUNG = (2.9, 2.4, 2.0, 1.4, 0.35, 0.0, -0.20, -0.30, -0.50, -0.65, -0.45, 0.10, 0.55)
_OLD = (9.0, 7.0, 5.5, 2.6, 0.80, 0.0, -0.38, -0.68, -1.20, -1.50, -1.30, -0.60, -0.05)
_YOUNG_COLOUR, _OLD_COLOUR = 0.35, 0.80


def dimming(redshift: float) -> float:
    """Return the dimming of surface brightness with redshift, mag.

    Surface brightness falls as (1 + z)^4 over the whole spectrum. AB magnitudes are per unit of frequency, where one
    factor is regained because the light arrives in a narrower band.

    >>> round(dimming(1.0), 2)
    2.26
    """
    return 7.5 * math.log10(1.0 + redshift)


def band_fluxes(flux: float, colour: float, redshift: float, shown_nm: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return the flux of a source in each displayed band.

    Args:
        flux: Flux in the rest-frame r band, in any unit.
        colour: Rest-frame g - r, mag.
        redshift: Redshift; the bands contain light of bluer rest-frame wavelengths.
        shown_nm: Wavelengths of the bands, nm.

    Returns:
        One value per band, in the unit of `flux`.

    >>> band_fluxes(1.0, 0.8, 0.0, (617.0, 469.0)).astype(float).round(2).tolist()
    [1.0, 0.48]
    """
    left_nm = np.log(np.asarray(shown_nm, float) / (1.0 + redshift))
    # Stellar populations are not much bluer than the youngest one, whatever their optical colour is.
    age = max((colour - _YOUNG_COLOUR) / (_OLD_COLOUR - _YOUNG_COLOUR), -0.25)
    young, old = np.interp(left_nm, np.log(_NM), _YOUNG), np.interp(left_nm, np.log(_NM), _OLD)
    # For sources far from the line, such as cool stars, the extrapolation to the ultraviolet is unrealistic.
    magnitude = np.clip(young + age * (old - young), -3.0, 9.0)
    return (flux * 10 ** (-0.4 * magnitude)).astype(np.float32)
