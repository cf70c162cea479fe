"""The colour of starlight, from ultraviolet to infrared, at any redshift."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# AB magnitudes with respect to r of two stellar populations, a young one (g - r 0.35) and an old one (0.80). Rounded
# from what galaxies commonly show in GALEX, Sloan, UKIDSS and WISE bands; populations between lie on the line.
_NM = (100.0, 153.0, 230.0, 355.0, 469.0, 617.0, 750.0, 893.0, 1250.0, 1640.0, 2200.0, 3400.0, 4600.0)
_YOUNG = (2.9, 2.4, 2.0, 1.4, 0.35, 0.0, -0.20, -0.30, -0.50, -0.65, -0.45, 0.10, 0.55)
_OLD = (9.0, 7.0, 5.5, 2.6, 0.80, 0.0, -0.38, -0.68, -1.20, -1.50, -1.30, -0.60, -0.05)
_YOUNG_COLOUR, _OLD_COLOUR = 0.35, 0.80


def dimming(redshift: float) -> float:
    """Magnitudes by which surface brightness falls with redshift.

    It falls as (1 + z)^4 over the whole spectrum. Per unit of frequency, as AB magnitudes count, one factor
    comes back, for the light arrives in a narrower band.

    >>> round(dimming(1.0), 2)
    2.26
    """
    return 7.5 * math.log10(1.0 + redshift)


def band_fluxes(flux: float, colour: float, redshift: float, shown_nm: Sequence[float]) -> npt.NDArray[np.float32]:
    """Light of a source in each band shown.

    Args:
        flux: Its light in r as it left the source, in any unit.
        colour: Its g - r as it left the source, mag.
        redshift: Its redshift: a band shows bluer light than its own.
        shown_nm: Wavelengths of the bands, nm.

    Returns:
        One value for each band, in the unit of `flux`.

    >>> band_fluxes(1.0, 0.8, 0.0, (617.0, 469.0)).astype(float).round(2).tolist()
    [1.0, 0.48]
    """
    left_nm = np.log(np.asarray(shown_nm, float) / (1.0 + redshift))
    # No starlight is much bluer than the youngest, whatever the colour between two optical bands says.
    age = max((colour - _YOUNG_COLOUR) / (_OLD_COLOUR - _YOUNG_COLOUR), -0.25)
    young, old = np.interp(left_nm, np.log(_NM), _YOUNG), np.interp(left_nm, np.log(_NM), _OLD)
    # Far off the line, as cool stars are, the ultraviolet of the extrapolation is beyond belief.
    magnitude = np.clip(young + age * (old - young), -3.0, 9.0)
    return (flux * 10 ** (-0.4 * magnitude)).astype(np.float32)
