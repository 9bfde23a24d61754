"""How a slide is stained, in a handful of numbers, found by the methods of Macenko and of Reinhard.

M. Macenko et al., "A method for normalizing histology slides for quantitative analysis", IEEE
International Symposium on Biomedical Imaging, 2009, pp. 1107-1110. E. Reinhard et al., "Color
transfer between images", IEEE Computer Graphics and Applications 21(5), 2001, pp. 34-41.

Sums are taken over whole numbers or pairwise, and products by no BLAS: the same pixels give the
same numbers in every process, whatever its number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydmed_dali.errors import OptionError
from pydmed_dali.slide.slide import Pixels

METHODS = ("macenko", "reinhard")

METHOD = "stain 2"
"""Version of what is done here and in `stain_sample.py`: it decides images, so states keep it."""

Floats = NDArray[np.float64]
Triple = tuple[float, float, float]

DENSITIES: Floats = np.log(256 / (np.arange(256) + 1.0))
"""Optical density, to the base e, of each grey value: white is 0, black 5.5."""
LEAST_DENSITY = 0.15
"""Below it a pixel is glass: with 0.15 to the base e, brighter than 219 of 255 (Macenko's beta)."""
_OUTER = (1.0, 99.0)
"""Percentiles of the angles between which a slide's colours lie (Macenko's alpha), and, the upper
one, of the amounts of stain."""
_FEWEST = 1000
"""Pixels with stain; of fewer, nothing is said of a slide."""
_DARKEST = 2.5
"""Half of a slide's tissue is not as dark as this (20 of 255), unless its ground is black."""
_NARROWEST = math.radians(4.0)
"""Angle between two stains; hematoxylin and eosin are about 20 degrees apart."""
_FAINTEST = 0.05
"""Amount of a stain, and, of the deviations of Reinhard's method, a tenth of it."""

_FINENESS = 4096
_WHOLE_DENSITIES = np.rint(DENSITIES * _FINENESS).astype(np.int64)

LMS: Floats = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)
"""The eye's cones' answers to red, green and blue (Reinhard et al.)."""
LAB: Floats = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ [[1, 1, 1], [1, 1, -2], [1, -1, 0]]
"""l, alpha and beta of the logarithms of the cones' answers (Ruderman; Reinhard et al.)."""


@dataclass(frozen=True, slots=True)
class MacenkoStain:
    """Two stains and how strong they are. Raises `OptionError` for numbers that cannot be those."""

    vectors: tuple[Triple, Triple]
    """Optical densities of hematoxylin and of eosin in red, green and blue, each of length 1."""
    strongest: tuple[float, float]
    """Amounts of the two that 99% of the stained pixels do not exceed, to the base e."""

    def __post_init__(self) -> None:
        vectors, strongest = np.array(self.vectors, float), np.array(self.strongest, float)
        numbers = np.concatenate([vectors.ravel(), strongest.ravel()])
        if vectors.shape != (2, 3) or strongest.shape != (2,) or not np.isfinite(numbers).all():
            raise OptionError(f"a Macenko stain has two vectors of three and two amounts: {self}")
        if _angle(*vectors) < _NARROWEST or min(strongest) < _FAINTEST:
            raise OptionError(
                f"the two stains must differ by {math.degrees(_NARROWEST):g} degrees and have "
                f"amounts of at least {_FAINTEST}: {self}"
            )

    @property
    def densities(self) -> Floats:
        """(3, 2): optical densities in red, green and blue of one strongest amount of each."""
        return np.array(self.vectors).T * self.strongest

    def numbers(self) -> NDArray[np.float32]:
        """(5, 3), for a pipeline: from a pixel's optical densities to the amounts of the two stains
        in parts of the strongest (2 rows), and to densities that are kept as they are (3 rows, 0).
        """
        return np.vstack([np.linalg.pinv(self.densities), np.zeros((3, 3))]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ReinhardStain:
    """Colours of tissue in Ruderman's l, alpha, beta, of grey values plus one, to the base e.

    Raises `OptionError` for numbers that cannot be those.
    """

    mean: Triple
    """Mean of l, alpha and beta."""
    deviation: Triple
    """Standard deviation of l, alpha and beta."""

    def __post_init__(self) -> None:
        mean, deviation = np.array(self.mean, float), np.array(self.deviation, float)
        if mean.shape != (3,) or deviation.shape != (3,) or not np.isfinite(mean).all():
            raise OptionError(f"a Reinhard stain has three means and three deviations: {self}")
        if not (deviation >= _FAINTEST / 10).all():
            raise OptionError(f"the deviations must be at least {_FAINTEST / 10}: {self}")

    def numbers(self) -> NDArray[np.float32]:
        """(3, 3), for a pipeline: one by the deviations; means by deviations; 0, for the part of
        an image that is kept as it is.
        """
        deviation = np.array(self.deviation)
        return np.array([1 / deviation, self.mean / deviation, np.zeros(3)], np.float32)


Stain = MacenkoStain | ReinhardStain

UNKNOWN: dict[str, NDArray[np.float32]] = {
    "macenko": np.vstack([np.zeros((2, 3)), np.eye(3)]).astype(np.float32),
    "reinhard": np.array([[0] * 3, [0] * 3, [1] * 3], np.float32),
}
"""By method, the numbers for a slide whose stain is not known: its images stay as they are."""


def find_stain(method: str, pixels: Pixels) -> Stain | None:
    """The stain of (n, 3) uint8 RGB pixels of tissue, by `macenko` or `reinhard`.

    None where there is none to speak of: fewer than 1,000 pixels are darker than glass, all are of
    one colour, or most are nearly black, as in fluorescence.
    """
    if not len(pixels) or np.median(DENSITIES[pixels].mean(axis=1)) > _DARKEST:
        return None
    try:
        return macenko_stain(pixels) if method == "macenko" else reinhard_stain(pixels)
    except OptionError:
        return None


def stain_from_dict(method: str, values: Mapping[str, Any] | None) -> Stain | None:
    """What `dataclasses.asdict` made of a stain, be it by way of JSON; None of None."""
    if values is None:
        return None
    kind = MacenkoStain if method == "macenko" else ReinhardStain
    return kind(**{name: _plain(value) for name, value in values.items()})


def macenko_stain(pixels: Pixels) -> MacenkoStain | None:
    """As the authors do it: the plane of the two strongest directions of the optical densities,
    of pixels with 0.15 in every channel; in it the outermost two colours, less 1% at each side.
    """
    whole = _WHOLE_DENSITIES[pixels]
    whole = whole[whole.min(axis=1) >= LEAST_DENSITY * _FINENESS]
    if len(whole) < _FEWEST:
        return None
    densities = whole / _FINENESS
    plane = np.linalg.eigh(_covariance(whole))[1][:, :0:-1]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    first, second = (_along(densities, axis) for axis in plane.T)
    angles = np.percentile(np.arctan2(second, first), _OUTER)
    one, other = (plane[:, 0] * math.cos(angle) + plane[:, 1] * math.sin(angle) for angle in angles)
    # Hematoxylin takes away more of the red.
    vectors = np.array([one, other] if one[0] > other[0] else [other, one])
    if _angle(*vectors) < _NARROWEST:
        return None
    inverse = np.linalg.pinv(vectors.T)
    strongest = [np.percentile(_along(densities, row), _OUTER[1]) for row in inverse]
    return MacenkoStain(_plain(vectors), _plain(strongest))


def reinhard_stain(pixels: Pixels) -> ReinhardStain | None:
    """Means and deviations of the pixels that are darker than glass in some channel."""
    stained = pixels[DENSITIES[pixels].max(axis=1) >= LEAST_DENSITY]
    if len(stained) < _FEWEST:
        return None
    grey = stained + 1.0
    cones = np.stack([_along(grey, row) for row in LMS], axis=1)
    lab = [_along(np.log(cones), row) for row in LAB]
    return ReinhardStain(_plain([v.mean() for v in lab]), _plain([v.std() for v in lab]))


def _covariance(values: NDArray[np.int64]) -> Floats:
    """(3, 3), of (n, 3) densities in whole numbers, whose sums are exact."""
    mean = values.sum(axis=0) / len(values)
    products = np.einsum("ni,nj->ij", values, values) / len(values)
    covariance: Floats = (products - np.outer(mean, mean)) / _FINENESS**2
    return covariance


def _along(values: Floats, direction: Floats) -> Floats:
    """(n,): the (n, 3) values' share of a direction."""
    found: Floats = (
        values[:, 0] * direction[0] + values[:, 1] * direction[1] + values[:, 2] * direction[2]
    )
    return found


def _angle(one: Floats, other: Floats) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return math.acos(min(float(one @ other) / lengths, 1.0)) if lengths else 0.0


def _plain(values: ArrayLike) -> tuple[Any, ...]:
    """Plain numbers, in tuples, to seven digits: enough for any image."""
    rounded = np.asarray(values, np.float32).astype(float).tolist()
    return tuple(tuple(value) if isinstance(value, list) else value for value in rounded)


MACENKO_REFERENCE = MacenkoStain(
    vectors=((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)), strongest=(1.9705, 1.0308)
)
"""The target of the authors' own program, which most others have taken over."""
