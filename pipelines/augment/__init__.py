"""Building blocks for pipelines: each takes an image node, and gives back one that is augmented.

Images are HWC, uint8, RGB, on the CPU or the GPU; what is drawn is drawn anew for every crop, by
`fn.random`, so the pipeline's seed decides it. All run inside
`pipeline_def(enable_conditionals=True)`, where a block can be left to chance:

    if fn.random.coin_flip(probability=0.5, dtype=types.BOOL):
        image = blur(image)

What each costs: `benchmarks/augmentation.py`.
"""

from pydmed_dali.pipelines.augment.blur import blur
from pydmed_dali.pipelines.augment.colour import colour_jitter
from pydmed_dali.pipelines.augment.cutout import cutout
from pydmed_dali.pipelines.augment.jpeg import jpeg
from pydmed_dali.pipelines.augment.noise import noise
from pydmed_dali.pipelines.augment.normal_stain import macenko, reinhard
from pydmed_dali.pipelines.augment.rotate import (
    crop_size_to_rotate,
    rotate,
    rotate_together,
)
from pydmed_dali.pipelines.augment.stain import restain, stain_jitter
from pydmed_dali.pipelines.augment.turn import turn, turn_together

__all__ = [
    "blur",
    "colour_jitter",
    "crop_size_to_rotate",
    "cutout",
    "jpeg",
    "macenko",
    "noise",
    "reinhard",
    "restain",
    "rotate",
    "rotate_together",
    "stain_jitter",
    "turn",
    "turn_together",
]
