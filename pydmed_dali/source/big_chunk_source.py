"""The source: resident BigChunks as an endless, or finite, stream of batches of SmallChunks."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pydmed_dali.annotation.defaults import EXCLUSIONS, MOST_BYTES
from pydmed_dali.dali.device import choose_device, current_gpu
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError, StateError
from pydmed_dali.geometry import Size
from pydmed_dali.plan.depth import Depth
from pydmed_dali.plan.saved_values import part
from pydmed_dali.plan.weights import read_weights
from pydmed_dali.pool.annotation_files import Classes, plan_annotations
from pydmed_dali.pool.companion_files import CompanionFiles
from pydmed_dali.pool.mask_files import Masks, mask_rules, plan_tissue
from pydmed_dali.slide.cache import cache_folder
from pydmed_dali.slide.frame import check_frame
from pydmed_dali.slide.tissue_values import GivenValues
from pydmed_dali.source.base import BaseSource, usual_workers
from pydmed_dali.source.engine import Engine
from pydmed_dali.source.feedback import TrainingFeedback
from pydmed_dali.source.options import Options
from pydmed_dali.source.pipeline_binding import PipelineBinding
from pydmed_dali.source.provenance import InfoColumn, to_numpy
from pydmed_dali.source.ranks import choose_rank
from pydmed_dali.source.saved_state import check_state, make_state, read_progress
from pydmed_dali.source.schedule import crop_schedule, make_sampler, slides_left_out
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader


class BigChunkSource(BaseSource):
    """Keep BigChunks of slides resident, and feed batches of SmallChunks to one DALI pipeline.

    A BigChunk is a large region of a slide, which worker processes read into shared memory. A
    SmallChunk is a crop of a BigChunk. Each BigChunk gives `crops_per_chunk` crops; then another
    one takes its place. The dataset, the options and the seed decide every crop, whatever the
    number of workers.

    A source is a context manager: leaving its block ends the workers. A source serves one pipeline.

    The options come in groups:

    - What to read: `dataset`, `chunk_size`, `crop_size`, `batch_size`, `loader`, `crop_depth`,
      `chunk_depth`.
    - Resolution: `level`, `mpp`, `magnification`, `default_mpp`, `mpp_override`.
    - What to sample, tissue: `min_tissue`, `masks`, `tissue_values`.
    - What to sample, annotations: `annotations`, `classes`, `exclusions`, `frame`,
      `max_annotation_bytes`.
    - What to sample, order: `seed`, `balance`, `weights`, `passes`, `stain_statistics`.
    - Ring: `resident`, `crops_per_chunk`, `device`, `residency`, `gpu_memory_share`,
      `prefetch_depth`.
    - Workers and failures: `num_workers`, `on_error`, `read_timeout`, `cache_dir`.
    - Several processes: `rank`, `world_size`.

    Args:
        dataset: The patients and their slides.
        chunk_size: Width and height of a BigChunk in pixels of the resolution that is read, or a
            `Size`. A worker reads one BigChunk at a time.
        crop_size: Width and height of a SmallChunk in the same pixels, or a `Size`.
        batch_size: Crops in a batch.
        loader: An instance of a `BigChunkLoader` subclass, which opens and reads slides of other
            formats, or places chunks and crops. None reads everything that OpenSlide opens. See
            docs/user_code.md.
        crop_depth: Slices of a crop, for volumes; None for slides. See docs/volumes.md.
        chunk_depth: Slices of a BigChunk, for volumes. None takes `crop_depth`.
        level: The level of the slides to read, 0 is the finest. The default is 0, unless `mpp` or
            `magnification` is given.
        mpp: Micrometres per pixel to read at, instead of `level`. A level within 5% is used
            without resampling; otherwise the next finer level is resampled. Slides that are
            coarser, or that do not tell their mpp, are skipped and reported.
        magnification: Magnification to read at, such as 20, instead of `level` or `mpp`. The
            objective power in the slide's file counts, else 10 / mpp. See docs/sampling.md.
        default_mpp: Micrometres per level-0 pixel of slides whose file does not tell any. The log
            names each such slide once.
        mpp_override: Micrometres per level-0 pixel of every slide, for files that tell a wrong
            value.
        min_tissue: The least fraction of each crop that must be tissue, above 0 and at most 1; 0.5
            is usual. None samples the whole slide, glass included. Slides without any such crop
            are skipped and reported. See docs/sampling.md.
        masks: Tissue masks of your own, for `min_tissue`: a folder of images whose names match the
            slides, a function from a slide's path to its mask's path or to None for a computed
            mask, or the mask of a dataset's only slide. An image covers the slide at any
            resolution. Pixels that are not 0 (black) are tissue, and must have one value or colour.
        tissue_values: The values of masks that are tissue, for masks of several values: whole
            numbers, or colours such as "#ff0000"; `[1, 3]`, `range(128, 256)` or "1, 3-5".
        annotations: Annotation files (GeoJSON, or XML of ASAP, ImageScope or HALO): a folder whose
            files' names match the slides, a function from a slide's path to its file's path or to
            None, or the file of a dataset's only slide. Crops then have a `mask` and a
            `class_number`. See docs/sampling.md.
        classes: Names of annotation classes, which get the numbers 1, 2, ... in this order; where
            classes overlap, the later one counts. A mapping from names to fractions, such as
            `{"tumor": 0.5}`, samples crops by class: each value is the fraction of crops whose
            centre lies in that class, and the remainder is sampled outside all classes. None takes
            all classes that are found, sorted, and samples everywhere.
        exclusions: Annotation classes whose regions are cut out of all other classes, whatever the
            case of their letters; `["_2"]` for CAMELYON16. The default is `Exclusion` and QuPath's
            `Ignore*`.
        frame: The frame of annotations and masks on slides with scanned bounds (MIRAX, Leica and
            others): `bounds` counts from the scanned rectangle, as QuPath exports it; `slide`
            counts from the whole slide. `auto` chooses by the program that wrote the file and by
            the proportions of a mask, and logs the choice once. See docs/datasets.md.
        max_annotation_bytes: The largest annotation file that is read, in bytes. A larger file is
            an error.
        seed: The number that, with dataset and options, decides every crop. Timing and
            `num_workers` do not affect results. One exception: the moment at which a slide that
            crashes or blocks workers is skipped.
        balance: Which visits are equally frequent: those of each `patient`, of each `label` (and
            of each patient within a label), or of each `slide`; `tissue` visits slides in
            proportion to their tissue, which `measure_tissue` must have measured. None takes
            `slide` for a finite source without `weights`, else `patient`.
        weights: A positive number for each patient id; patients that are not named have 1. Visits
            are shared in proportion, within each label if `balance` is `label`. See `set_weights`
            and docs/sampling.md.
        passes: None makes an endless source, for training. 1 makes a finite source, for validation:
            it visits every slide once, then raises StopIteration, and can run again. A larger
            number visits as often. With another `balance` a run may leave slides out, which a
            warning and `report()` name. Finite sources of several ranks may differ in length by
            some batches.
        stain_statistics: `macenko` or `reinhard` computes the stain of each slide, which the blocks
            `augment.macenko` and `augment.reinhard` require. None computes nothing. See
            docs/pipelines.md.
        resident: BigChunks from which the crops of a batch are mixed.
        crops_per_chunk: Crops that each BigChunk gives before another one takes its place.
        device: Where crops are cut and augmented: `cpu`, `gpu`, or `auto` for torch's current GPU
            where there is one.
        residency: Where BigChunks lie: `host` in shared memory, cropped on the CPU; `device` in GPU
            memory, cropped there; `mapped` in shared memory, cropped by the GPU; `auto` takes
            `device` where there is a GPU and the ring fits, else `host`. See docs/gpu.md.
        gpu_memory_share: The fraction of the GPU's free memory that the ring may take with
            `residency="device"`.
        prefetch_depth: The largest `prefetch_queue_depth` that the pipeline may have, in batches.
        num_workers: Worker processes; 0 reads in the calling process. None takes one less than the
            cores, at most 8.
        on_error: `skip` replaces what cannot be read, logs it, and lists it in `report()`; `raise`
            stops at the first error.
        read_timeout: Seconds after which a worker that reads one BigChunk counts as hanging.
        cache_dir: The folder where facts of slides, masks and annotations are cached. None takes
            the folder that PYDMED_DALI_CACHE names, else `pydmed-dali` in the user's cache folder.
        rank: The number of this process among those that share the dataset, as in
            torch.distributed. None for both `rank` and `world_size` takes torch.distributed where
            it is initialised, else the launcher's environment (torchrun, srun, mpirun), else 0 of
            1. `report()` tells which. See docs/training.md.
        world_size: The number of those processes.

    Raises:
        OptionError: An option cannot work. No process was started.
        RingMemoryError: The ring does not fit in free memory. No process was started.

    Example:
        >>> from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
        >>> from pydmed_dali.pipelines.classification import classification
        >>> dataset = Dataset.from_folder("slides/", label=lambda path: path.parent.name)
        >>> with BigChunkSource(dataset, chunk_size=2048, batch_size=64, min_tissue=0.5) as source:
        ...     for batch in SmallChunkIterator(classification(source)):
        ...         image, label = batch["image"], batch["label"]
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        chunk_size: int | Size = 4096,
        crop_size: int | Size = 224,
        batch_size: int = 256,
        loader: BigChunkLoader | None = None,
        crop_depth: int | None = None,
        chunk_depth: int | None = None,
        level: int | None = None,
        mpp: float | None = None,
        magnification: float | None = None,
        default_mpp: float | None = None,
        mpp_override: float | None = None,
        min_tissue: float | None = None,
        masks: Masks | None = None,
        tissue_values: GivenValues | None = None,
        annotations: CompanionFiles | None = None,
        classes: Classes | None = None,
        exclusions: Collection[str] = EXCLUSIONS,
        frame: str = "auto",
        max_annotation_bytes: int = MOST_BYTES,
        seed: int = 0,
        balance: str | None = None,
        weights: Mapping[str, float] | None = None,
        passes: int | None = None,
        stain_statistics: str | None = None,
        resident: int = 32,
        crops_per_chunk: int = 512,
        device: str = "auto",
        residency: str = "auto",
        gpu_memory_share: float = 0.5,
        prefetch_depth: int = 2,
        num_workers: int | None = None,
        on_error: str = "skip",
        read_timeout: float = 300.0,
        cache_dir: str | os.PathLike[str] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise OptionError(
                f"dataset must be a Dataset, not {dataset!r}; Dataset.from_folder makes one"
            )
        if loader is not None and not isinstance(loader, BigChunkLoader):
            raise OptionError(f"loader must be an instance of a BigChunkLoader, not {loader!r}")
        loader = loader or BigChunkLoader()
        if crop_depth is None and chunk_depth is not None:
            raise OptionError("chunk_depth is for volumes: give a crop_depth too")
        if crop_depth is not None and (annotations is not None or masks is not None):
            raise OptionError("annotations and masks are for slides, crop_depth is for volumes")
        if level is None and mpp is None and magnification is None:
            level = 0
        self._ranks = choose_rank(rank, world_size)
        if balance is None:
            balance = "slide" if passes is not None and weights is None else "patient"
        if num_workers is None:
            num_workers = usual_workers()
        self.options = Options(
            chunk=Size.of(chunk_size, "chunk_size"),
            crop=Size.of(crop_size, "crop_size"),
            batch_size=batch_size,
            level=level,
            mpp=mpp,
            magnification=magnification,
            default_mpp=default_mpp,
            mpp_override=mpp_override,
            min_tissue=min_tissue,
            tissue_rules=mask_rules(min_tissue, masks, tissue_values, check_frame(frame)),
            computes_masks=min_tissue is not None and masks is None,
            resident=resident,
            crops_per_chunk=crops_per_chunk,
            num_workers=num_workers,
            seed=seed,
            balance=balance,
            weights=None if weights is None else read_weights(dataset, weights),
            passes=passes,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            prefetch_depth=prefetch_depth,
            residency=residency,
            gpu_memory_share=gpu_memory_share,
            on_error=on_error,
            read_timeout=read_timeout,
            stain_statistics=stain_statistics,
            pixel=loader.pixel_format,
            depth=None if crop_depth is None else Depth(chunk_depth or crop_depth, crop_depth),
        )
        self.dataset = dataset
        self.device = choose_device(device)
        self._gpu = current_gpu() if self.device == "gpu" else None
        self._binding = PipelineBinding(batch_size, prefetch_depth, self._gpu)
        tissue = plan_tissue(dataset, min_tissue, masks, tissue_values, frame)
        folder = cache_folder(cache_dir)
        annotated = plan_annotations(
            dataset, annotations, classes, folder, exclusions, max_annotation_bytes, frame
        )
        if annotated is not None:
            self.options = replace(self.options, annotated=annotated.identity)
        sampler = make_sampler(self.options, dataset, annotated)
        self._left_out = slides_left_out(self.options, dataset, annotated)
        self._engine = Engine(
            self.options,
            crop_schedule(self.options, sampler),
            dataset,
            loader,
            tissue,
            folder,
            self.device,
            self._gpu,
            annotated,
        )
        self._feedback = TrainingFeedback(self._engine, sampler, dataset)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a finite run, or, endless, those in which every patient is visited once."""
        if self._engine.window.batches is not None:
            return self._engine.window.batches
        crops = self._engine.visits_per_pass * self.options.crops_per_chunk
        return -(-crops // (self.options.world_size * self.options.batch_size))

    @property
    def is_finite(self) -> bool:
        """Whether the source ends with StopIteration after `passes` visits of every patient."""
        return self._engine.window.chunks is not None

    def _crops_in_batch(self, batch: int) -> int:
        """Crops of a batch without the copies that fill a finite run's last one."""
        if self._engine.window.chunks is None:
            return self.batch_size
        crops = self._engine.window.chunks * self.options.crops_per_chunk
        return min(self.batch_size, crops - batch * self.batch_size)

    def state_dict(self, after: ArrayLike | None = None) -> dict[str, Any]:
        """The place behind the last batch that the training loop has: plain values only.

        `after` is that batch's `info`: DALI runs some batches ahead of the loop, so the source by
        itself does not know. Without `after`, the source must not have been asked for a batch yet.
        Raises `StateError` for a batch that is too long ago.

        What the pipeline's random operators draw next is DALI's, and `SmallChunkIterator`'s state
        holds both. With DALI's own iterator, take its checkpoint too, right behind the batch,

            saved = source.state_dict(after=batch["info"]), iterator.checkpoints()[0]

        and give it to the new pipeline: `classification(source, checkpoint=saved[1])`, after
        `source.load_state_dict(saved[0])`. A checkpoint is bytes, which DALI reads as protobuf.
        """
        if after is not None:
            batch = int(np.atleast_2d(to_numpy(after))[-1, InfoColumn.BATCH])
            return self._state_after(batch + 1)
        if self._engine.batch_builder.has_begun:
            raise StateError(
                "state_dict needs the info of the last batch that you have used: "
                'state_dict(after=batch["info"]), or take SmallChunkIterator.state_dict()'
            )
        return self._state_after(self._position)

    def _state_after(self, batches: int) -> dict[str, Any]:
        """The place behind the first `batches` batches, of the present run in a finite source."""
        self._refuse_fork()
        places = self._engine.batch_builder.places_from(batches)
        skipped = self._engine.scheduler.bad_slides
        told = self._feedback.state(batches)
        return make_state(self.options, self.dataset, batches, places, skipped, told)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue a saved run: the next batch is the one behind the saved place.

        Before the first batch is asked for (a plain DALIGenericIterator asks when it is made).
        `num_workers`, `prefetch_depth`, `on_error`, `read_timeout`, `cache_dir`, `device`,
        `residency` and `gpu_memory_share` may differ from the saved run's. Raises `StateError`, and
        changes nothing, where anything else does, saying what, and where the state is damaged.
        """
        self._refuse_fork()
        self._refuse_begun()
        check_state(state, self.options, self.dataset)
        most, slides = self._engine.window.batches, len(self.dataset.slides)
        batches, places, skipped = read_progress(state, most, slides)
        told = part(state, "told", "state")
        self._feedback.check(told)
        self._feedback.restore(told, batches)
        self._engine.scheduler.restore(places, skipped)
        self._engine.batch_builder.begin_at(batches)

    def _refuse_begun(self) -> None:
        """Raise `StateError` where it is too late to load a state."""
        if self._engine.batch_builder.has_begun:
            raise StateError(
                "load_state_dict must come before the first batch is asked for: make a new source, "
                "load the state, then make its pipeline and iterator"
            )

    def set_weights(self, weights: Mapping[str, float], *, after: ArrayLike) -> None:
        """Share visits by new `weights`, as given to the constructor, soon `after` a batch.

        `after` is the `info` of the last batch that the training loop has. The weights act from the
        BigChunk on that lies a fixed number ahead of it (see docs/user_code.md), and a saved state
        holds them. With several ranks, call it on all of them after the same batch with the same
        weights. Raises `OptionError` for weights that cannot be, `SourceError` for a finite source
        and for a batch before the latest one.
        """
        self._refuse_if_over()
        self._feedback.set_weights(weights, after)

    def send(self, patient: str, message: Any, *, after: ArrayLike) -> None:
        """Send a message, of JSON's kinds, to one of the next visits of the patient of this id.

        A loader with a `place_chunk` of its own finds it in `Visit.messages`, at the patient's
        first BigChunk that lies at least a fixed number ahead of the batch `after`: as
        `set_weights`. Each rank has visits, and messages, of its own. Raises `OptionError` for an
        unknown patient and for a message that JSON cannot hold or that is too long, `SourceError`
        for a finite source, one whose loader has no policy, and a batch before the latest one.
        """
        self._refuse_if_over()
        self._feedback.send(patient, message, after)
