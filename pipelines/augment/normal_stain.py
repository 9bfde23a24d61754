"""Stain normalisation: images as if their slides had been stained and scanned as a target was.

M. Macenko et al., "A method for normalizing histology slides for quantitative analysis", IEEE
International Symposium on Biomedical Imaging, 2009, pp. 1107-1110. E. Reinhard et al., "Color
transfer between images", IEEE Computer Graphics and Applications 21(5), 2001, pp. 34-41.

Both need to know how a crop's slide is stained: the source finds that out, of the whole slide, with
`stain_statistics="macenko"` or `"reinhard"`, and gives it as `crops.stain`. Crops of a slide whose
stain is not known (next to no tissue, a dark ground) stay as they are.
"""

from __future__ import annotations

import numpy as np
from nvidia.dali import fn, math, types
from nvidia.dali.data_node import DataNode

from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.augment.check import require_rgb8, require_stain
from pydmed_dali.pipelines.augment.densities import SCALE, change_densities
from pydmed_dali.slide.stain import LAB, LMS, MacenkoStain, ReinhardStain

_FROM_LMS, _FROM_LAB = np.linalg.inv(LMS), np.linalg.inv(LAB)
_BY_ROW = np.einsum("ik,kj->kij", _FROM_LAB, LAB).astype(np.float32)
"""(3, 3, 3): summed with the scales of l, alpha and beta, the matrix between logarithms."""
_TO_SHIFT = _FROM_LAB.T.astype(np.float32)
"""(3, 3): summed with the shifts of l, alpha and beta, the shift of the logarithms."""


def macenko(image: DataNode, stain: DataNode | None, target: MacenkoStain) -> DataNode:
    """The amounts of hematoxylin and eosin as if both had been the target's.

    Amounts, in parts of the slide's own strongest, become the same parts of the target's strongest.
    What of a colour is of neither stain is lost, as in the paper. One matrix between optical
    densities, for each crop its slide's own: within one grey value of the same in floating point.
    """
    require_stain("macenko")
    require_rgb8(image, "macenko")
    stain = _given(stain)
    # (3, 5): the target's colours, and what is kept as it is
    colours = np.hstack([target.densities, np.eye(3)]) * SCALE
    matrix = fn.reductions.sum(
        types.Constant(colours[:, :, None].astype(np.float32)) * fn.reshape(stain, shape=[1, 5, 3]),
        axes=[1],
    )
    return change_densities(image, matrix)


def reinhard(image: DataNode, stain: DataNode | None, target: ReinhardStain) -> DataNode:
    """Mean and deviation of Ruderman's l, alpha and beta as the target's.

    Of the logarithms of grey values plus one, since black has none; in floating point, rounded once
    at the end. The dearest block but for noise on the CPU: tables for the logarithms save nothing.
    """
    require_stain("reinhard")
    require_rgb8(image, "reinhard")
    stain = fn.reshape(_given(stain), shape=[3, 3])
    inverse, shifted, kept = (fn.squeeze(stain[n : n + 1], axes=[0]) for n in range(3))
    mean, deviation = (
        types.Constant(np.array(values, np.float32)) for values in (target.mean, target.deviation)
    )
    scale = inverse * deviation + kept
    shift = mean * (1.0 - kept) - shifted * deviation
    matrix = types.Constant(_BY_ROW) * fn.reshape(scale, shape=[3, 1, 1])
    moved = types.Constant(_TO_SHIFT) * fn.reshape(shift, shape=[3, 1])
    ones = LMS.sum(axis=1).tolist()
    cones = fn.coord_transform(image, M=LMS.ravel().tolist(), T=ones, dtype=types.FLOAT)
    logarithms = fn.coord_transform(
        math.log(cones),
        M=fn.reductions.sum(matrix, axes=[0]),
        T=fn.reductions.sum(moved, axes=[0]),
    )
    grey = fn.coord_transform(math.exp(logarithms), M=_FROM_LMS.ravel().tolist(), T=-1.0)
    return fn.cast(grey, dtype=types.UINT8)


def _given(stain: DataNode | None) -> DataNode:
    if stain is None:
        raise OptionError(
            "the source gives no statistics of its slides' stain; make it with "
            'stain_statistics="macenko" or "reinhard", whichever the pipeline uses'
        )
    return stain
