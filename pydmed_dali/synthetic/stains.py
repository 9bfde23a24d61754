"""How much light hematoxylin and eosin take away.

Beer-Lambert: the share of light that passes is 10 ** -(amount of hematoxylin * its density + amount
of eosin * its density), channel by channel. The densities are those of A. C. Ruifrok and D. A.
Johnston, "Quantification of histochemical staining by color deconvolution", Anal. Quant. Cytol.
Histol. 23 (2001) 291-299, and, since laboratories differ, a second pair published with the ImageJ
plugin that follows it (G. Landini, "Colour Deconvolution", H&E 2): each slide lies between the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUND = 243
"""Grey value of the empty glass, in every channel."""

HEMATOXYLIN_FULL = 1.6
"""Amount of hematoxylin that a layer's 255 stands for, in units of optical density."""
EOSIN_FULL = 1.0
"""Amount of eosin that a layer's 255 stands for, in units of optical density."""

MOST_ABSORBED = 200
"""Limit of the absorbed grey values, so that a gain of 1.2 still leaves light."""

_HEMATOXYLIN = ((0.650, 0.704, 0.286), (0.490, 0.769, 0.410))
_EOSIN = ((0.072, 0.990, 0.105), (0.046, 0.842, 0.537))


@dataclass(frozen=True, slots=True)
class Stain:
    """One laboratory's staining of one slide."""

    hue: float
    """0 is the first pair of densities, 1 the second."""
    hematoxylin: float
    """Strength of the hematoxylin; 1 is usual."""
    eosin: float
    """Strength of the eosin; 1 is usual."""

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Stain:
        """A staining as laboratories vary."""
        hue, hematoxylin, eosin = rng.uniform((0.25, 0.75, 0.7), (0.85, 1.25, 1.3))
        return cls(float(hue), float(hematoxylin), float(eosin))

    def absorbed(self) -> NDArray[np.uint8]:
        """Grey values taken from `GROUND`: (256, 256, 3) uint8 by hematoxylin, eosin, channel.

        The indices are the layers' bytes, of which 255 means `HEMATOXYLIN_FULL`, `EOSIN_FULL`.
        """
        amounts = np.arange(256) / 255
        hematoxylin = self.hematoxylin * HEMATOXYLIN_FULL * amounts[:, None, None]
        eosin = self.eosin * EOSIN_FULL * amounts[:, None]
        density = hematoxylin * self._between(_HEMATOXYLIN) + eosin * self._between(_EOSIN)
        absorbed = np.rint(GROUND * (1 - 10**-density))
        return np.minimum(absorbed, MOST_ABSORBED).astype(np.uint8)

    def _between(self, pair: tuple[tuple[float, ...], tuple[float, ...]]) -> NDArray[np.float64]:
        first, second = np.asarray(pair)
        between: NDArray[np.float64] = first + self.hue * (second - first)
        return between
