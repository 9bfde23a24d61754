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

from pydmed_dali.pipelines.augment.check import require_rgb8
from pydmed_dali.pipelines.augment.densities import SCALE, change_densities

HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical densities of hematoxylin, eosin and DAB in red, green and blue (Ruifrok, Johnston)."""

_AMOUNTS = np.linalg.inv(HED)
_TO_MATRIX = (SCALE * np.einsum("ki,jk->kij", HED, _AMOUNTS)).astype(np.float32)
"""(3, 3, 3): summed with the stains' factors, the matrix from old densities to new ones."""
_TO_SHIFT = (SCALE * HED).astype(np.float32)
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

    Both are (3,) float32, on the CPU. One matrix for all of it, within one grey value of the same
    in floating point: see `change_densities`.
    """
    require_rgb8(image, "stain_jitter")
    factors = fn.reshape(factors, shape=[3, 1, 1])
    additions = fn.reshape(additions, shape=[3, 1])
    matrix = fn.reductions.sum(types.Constant(_TO_MATRIX) * factors, axes=[0])
    shift = fn.reductions.sum(types.Constant(_TO_SHIFT) * additions, axes=[0])
    return change_densities(image, matrix, shift)
