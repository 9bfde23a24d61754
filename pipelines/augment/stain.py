"""Other amounts of stain: what differs most between laboratories.

A. C. Ruifrok and D. A. Johnston, "Quantification of histochemical staining by color deconvolution",
Anal. Quant. Cytol. Histol. 23 (2001) 291-299: the optical density of a pixel is a sum of the
densities of its stains, so amounts of stain follow from a 3x3 matrix. D. Tellez et al.,
"Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference to train distilled
stain-invariant convolutional networks", IEEE Trans. Med. Imaging 37 (2018) 2126-2136, vary those
amounts; in D. Tellez et al., "Quantifying the effects of data augmentation and stain color
normalization in convolutional neural networks for computational pathology", Med. Image Anal. 58
(2019) 101544, this augmentation did best.
"""

from __future__ import annotations

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical densities of hematoxylin, eosin and DAB in red, green and blue (Ruifrok, Johnston)."""

_AMOUNTS = np.linalg.inv(HED)
_DENSITIES = np.log10(256 / (np.arange(256) + 1.0))
"""Optical density of each grey value; black is 2.41 and white 0."""
_STEPS = 4096
"""Densities told apart on the way back: at most half a grey value lies between two of them."""
_SCALE = _STEPS / np.log10(256)
_GREYS = np.rint(256 * 10 ** (-np.arange(_STEPS) / _SCALE) - 1)

_TO_MATRIX = (_SCALE * np.einsum("ki,jk->kij", HED, _AMOUNTS)).astype(np.float32)
"""(3, 3, 3): summed with the stains' factors, the matrix from old densities to new ones."""
_TO_SHIFT = (_SCALE * HED).astype(np.float32)
"""(3, 3): summed with the stains' additions, the shift of the densities."""


def stain_jitter(image: DataNode, sigma: float = 0.15, addition: float = 0.02) -> DataNode:
    """The amount of each stain times 1 +- `sigma`, plus +- `addition`, all values as likely.

    Tellez et al. draw both within one limit, 0.05 in the light and 0.2 in the strong form (2019).
    Here the addition has its own, because it tints empty glass too: it is an optical density to the
    base of ten, of which 0.02 takes away a twentieth of the light, and 0.2 a third, which gives
    yellow glass, and tissue washed out. A `sigma` of 0 leaves the image as it is.
    """
    if sigma == 0:
        return image
    factors = fn.random.uniform(range=[1 - sigma, 1 + sigma], shape=[3])
    additions = fn.random.uniform(range=[-addition, addition], shape=[3])
    return restain(image, factors, additions)


def restain(image: DataNode, factors: DataNode, additions: DataNode) -> DataNode:
    """The amount of each stain of `HED` times its factor, plus its addition.

    Both are (3,) float32, on the CPU. From grey values to optical densities by a table, to new ones
    by one matrix, and back by a table: within one grey value of the same in floating point, at half
    its cost.
    """
    factors = fn.reshape(factors, shape=[3, 1, 1])
    additions = fn.reshape(additions, shape=[3, 1])
    matrix = fn.reductions.sum(types.Constant(_TO_MATRIX) * factors, axes=[0])
    shift = fn.reductions.sum(types.Constant(_TO_SHIFT) * additions, axes=[0])
    densities = fn.lookup_table(
        image, keys=list(range(256)), values=_DENSITIES.tolist(), dtype=types.FLOAT
    )
    steps = fn.cast(fn.coord_transform(densities, M=matrix, T=shift), dtype=types.UINT16)
    return fn.lookup_table(
        steps, keys=list(range(_STEPS)), values=_GREYS.tolist(), dtype=types.UINT8
    )
