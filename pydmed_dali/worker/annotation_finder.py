"""Annotations where chunks are read: the places of each class, and the chunk's mask."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np

from pydmed_dali.annotation.reader import digest_of
from pydmed_dali.annotation.spans import Floats, Mask, Spans, find_spans
from pydmed_dali.annotation.table import PolygonTable
from pydmed_dali.errors import AnnotationError, SlideMaskError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.plan.eligible import Eligible
from pydmed_dali.plan.place_runs import Runs
from pydmed_dali.slide.cache import Cache, file_key
from pydmed_dali.slide.slide import SlideFacts
from pydmed_dali.slide.view import View
from pydmed_dali.worker.annotation_cache import load_table
from pydmed_dali.worker.annotation_frame import AnnotationFrame, find_frame
from pydmed_dali.worker.annotation_plan import AnnotationPlan

_VERSION = 1  # of the spans that are kept
_MANY_POLYGONS = 5_000
_MOST_BYTES = 2**28  # of polygons and of places that a process keeps, beside those of one slide


class AnnotationFinder:
    """Reads the annotations of slides, one after the other; some of the last it keeps.

    They are loaded from the cache, where the source has put them. Without a cache they are parsed.
    """

    def __init__(self, plan: AnnotationPlan, crop: Size, cache: Cache) -> None:
        self._plan, self._crop, self._cache = plan, crop, cache
        self._known: OrderedDict[Path, ViewAnnotations] = OrderedDict()

    def find(self, path: Path, facts: SlideFacts, view: View) -> ViewAnnotations:
        """What is drawn on the slide at `path`.

        Raises `SlideMaskError` where its annotation file cannot be used, is another than when the
        source was made, or is that of another slide.
        """
        known = self._known.pop(path, None)
        if known is None:
            table, frame = self._load(path, facts)
            known = ViewAnnotations(path, table, frame, self._plan, view, self._crop, self._cache)
        self._known[path] = known
        # What others have grown to since they came, they are counted with now.
        held = sum(other.nbytes for other in self._known.values())
        while held > _MOST_BYTES and len(self._known) > 1:
            held -= self._known.popitem(last=False)[1].nbytes
        return known

    def _load(self, slide: Path, facts: SlideFacts) -> tuple[PolygonTable | None, AnnotationFrame]:
        file = self._plan.files.get(slide)
        if file is None:
            return None, AnnotationFrame(Point(0, 0))
        try:
            kept = load_table(file.path, self._plan.rules, self._cache)
            rule = self._plan.rules.frame
            frame = find_frame(file.path, kept.table, file.frame, facts, rule)
        except AnnotationError as error:
            raise SlideMaskError(f"{slide}: its annotations cannot be used: {error}") from error
        if kept.digest != file.digest:
            raise SlideMaskError(
                f"{slide}: its annotation file {file.path} was changed since the source was made; "
                "make the source anew"
            )
        return kept.table, frame


class ViewAnnotations:
    """What is drawn on one slide, in the pixels of a view of it."""

    def __init__(
        self,
        path: Path,
        table: PolygonTable | None,
        frame: AnnotationFrame,
        plan: AnnotationPlan,
        view: View,
        crop: Size,
        cache: Cache,
    ) -> None:
        self._path, self._table, self._plan = path, table, plan
        self._origin, self.notice = frame.origin, frame.notice
        self._view, self._crop, self._cache = view, crop, cache
        self._centres: Spans | None = None  # the classes of the centres of crops at all places
        self._runs: dict[int, Runs] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory, by now."""
        held = 0 if self._table is None else self._table.nbytes
        held += 0 if self._centres is None else self._centres.nbytes
        return held + sum(runs.nbytes for runs in self._runs.values())

    def places(self, number: int, eligible: Eligible | None) -> Eligible | Runs | None:
        """The places of crops whose centre lies in a class, and which are `eligible`.

        The centre is the crop's pixel (height // 2, width // 2). `number` is a class, 0 for the
        rest, or -1 for anywhere; None stands for every place of the slide. Raises `SlideMaskError`
        where there is none.
        """
        if number < 0 or (number == 0 and self._table is None):
            return eligible
        if number not in self._runs:
            self._runs[number] = self._find_runs(number, eligible)
        if not self._runs[number].count:
            raise self._nowhere(number, eligible)
        return self._runs[number]

    def mask(self, location: Point, size: Size) -> Mask:
        """The classes of the pixels of a region, (height, width), in view pixels."""
        if self._table is None:
            return np.zeros((size.height, size.width), np.uint8)
        xs, ys = self._points(location, size)
        return find_spans(self._table, self._plan.classes, xs, ys).to_mask()

    def at_centres(self, tile: Size, stride: Size, shape: tuple[int, int]) -> Mask:
        """The class in which the centre of each tile of a grid lies, (rows, columns); 0 for none.

        Tiles, `shape` (rows, columns) of them, are `tile` large and lie `stride` apart, in view
        pixels. The centre is the tile's pixel (height // 2, width // 2), as for crops.
        """
        if self._table is None:
            return np.zeros(shape, np.uint8)
        xs = np.arange(shape[1], dtype=np.float64) * stride.width + tile.width // 2
        ys = np.arange(shape[0], dtype=np.float64) * stride.height + tile.height // 2
        return find_spans(self._table, self._plan.classes, *self._middles(xs, ys)).to_mask()

    def _find_runs(self, number: int, eligible: Eligible | None) -> Runs:
        if self._table is None:
            return Runs.none()
        if self._centres is None:
            extent, crop = self._view.dimensions, self._crop
            wide, high = extent.width - crop.width + 1, extent.height - crop.height + 1
            xs, ys = self._points(
                Point(crop.width // 2, crop.height // 2), Size(max(wide, 1), max(high, 1))
            )
            self._centres = self._find_centres(self._table, xs, ys)
        runs = Runs.of(*self._centres.of_class(number))
        return runs if eligible is None else runs.within(eligible)

    def _find_centres(self, table: PolygonTable, xs: Floats, ys: Floats) -> Spans:
        """The classes of all centres; of many polygons, which take seconds, they are kept."""
        classes = self._plan.classes
        key = None
        if len(table) >= _MANY_POLYGONS:
            file = self._plan.files[self._path]
            points = digest_of(xs.tobytes() + ys.tobytes())
            parts = (file.digest, self._plan.rules.identity, classes, points, _VERSION)
            key = file_key(file.path, "annotated centres", *parts)
        if (data := self._cache.get(key)) is not None:
            return Spans.from_bytes(data)
        spans = find_spans(table, classes, xs, ys)
        if key is not None:
            self._cache.put(key, spans.to_bytes())
        return spans

    def _points(self, origin: Point, size: Size) -> tuple[Floats, Floats]:
        """The middles of view pixels from `origin` on, as the annotations count."""
        xs = np.arange(origin.x, origin.x + size.width, dtype=np.float64)
        ys = np.arange(origin.y, origin.y + size.height, dtype=np.float64)
        return self._middles(xs, ys)

    def _middles(self, xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
        step_x, step_y = self._view.downsample
        return (xs + 0.5) * step_x - self._origin.x, (ys + 0.5) * step_y - self._origin.y

    def _nowhere(self, number: int, eligible: Eligible | None) -> SlideMaskError:
        file = self._plan.files.get(self._path)
        return SlideMaskError(
            f"{self._path}: no crop of {self._crop} has its centre in the class "
            f"{self._plan.name_of(number)!r}"
            + (
                ""
                if eligible is None
                else " and lies where crops may (tissue for min_tissue, scan)"
            )
            + (f", by {file.path}" if file else "")
        )
