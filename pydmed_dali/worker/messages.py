"""What the parent and a worker say to each other.

    parent -> worker   Job, Job, ..., and between jobs, Reconfigure; the channel's end means: finish
    worker -> parent   Hello, then per job: Started, and Loaded or Failed; of a survey, in the place
                       of Loaded, AnswerPart and Surveyed

One channel a worker, with one writer at each end: a Unix socket of whole messages (SOCK_SEQPACKET),
so that a process killed while it writes leaves either its message or nothing.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydmed_dali.errors import SlideError, UserCodeError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.depth import Depth
from pydmed_dali.plan.placement import Placer
from pydmed_dali.ring.arena import Layout
from pydmed_dali.slide.file_identity import FileIdentity
from pydmed_dali.slide.mask_image import MaskFile
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.stain import Stain
from pydmed_dali.slide.view import View
from pydmed_dali.worker.annotation_plan import AnnotationPlan
from pydmed_dali.worker.patient_context import PatientContext
from pydmed_dali.worker.stain_finder import StainPlan
from pydmed_dali.worker.tile_filter import TilesPlan
from pydmed_dali.worker.tissue_places import TissuePlan

_LONGEST = 1 << 16
_MOST_DESCRIPTORS = 2
_PIECE = 1 << 15
_LONGEST_TRACEBACK = 4096
_LONGEST_REASON = 2048


@dataclass(frozen=True, slots=True)
class SurveyPlan:
    """What to find out of slides where nothing is loaded."""

    masks: Mapping[Path, MaskFile] | None = None
    """The user's own tissue masks, by the slide's path; None where the tissue is not asked for."""
    tiles: TilesPlan | None = None
    """The tiles that are wanted; None where they are not asked for."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What every chunk of a source has in common."""

    layout: Layout
    """The arena's shape."""
    placer: Placer
    """Where chunks and crops lie."""
    scale: Scale
    """The resolution to read."""
    tissue: TissuePlan | None
    """How much tissue crops must have; None draws from the whole slide."""
    cache: Path | None
    """The folder where what is found out of slides is kept; None keeps nothing."""
    annotated: AnnotationPlan | None = None
    """Annotations, for masks and for crops drawn by class; None for neither."""
    stain: StainPlan | None = None
    """What to find out of the slides' stain; None asks for nothing."""
    depth: Depth | None = None
    """Slices of chunks and crops, of volumes; None for slides."""
    survey: SurveyPlan | None = None
    """Jobs are to look at their slide, and load nothing; None loads chunks."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Handed to a worker when it starts, and when it goes on with other work."""

    plan: ReadPlan
    """What to read."""
    loader: bytes
    """The `BigChunkLoader`, pickled by cloudpickle."""
    parent: int
    """The parent's process id."""


@dataclass(frozen=True, slots=True)
class Job:
    """Load one chunk into one slot."""

    chunk: int
    """Loading number; its slot follows from it."""
    slot: int
    """Slot of the ring: nobody else touches it until the job is answered."""
    visit: int
    """Number of the plan's visit, over all ranks."""
    candidate: Candidate
    """Which slide to take."""
    path: Path
    """That slide's file."""
    patient: str
    """That slide's patient, by id."""
    context: PatientContext | None = None
    """What a chunk policy is told, None where it is not asked."""


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """The worker is to go on in another arena, by another `Setup`: their descriptors come along."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker is ready for jobs."""


@dataclass(frozen=True, slots=True)
class Started:
    """The worker began with a job."""

    chunk: int
    """Its loading number."""
    at: float
    """When, by the machine's monotonic clock (the same in all processes), in seconds."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The slot's pixels and its table of crops are complete."""

    chunk: int
    """Loading number."""
    origin: Point
    """The chunk's top left corner, in view pixels."""
    size: Size
    """What of the chunk lies on the slide, in view pixels."""
    first_slice: int
    """The chunk's first slice, of a volume; 0 of a slide."""
    level: int
    """The level of the file that was read."""
    downsample: tuple[float, float]
    """Level-0 pixels per view pixel (x, y)."""
    mpp: tuple[float, float] | None
    """Effective micrometres per view pixel (x, y)."""
    decoded_pixels: int
    """Pixels of the level that had to be decoded: those of the tiles that some crop touches,
    each counted as a whole, though of a JPEG tile the rows below the last wanted are left out."""
    seconds: float
    """Wall time of opening, reading and decoding."""
    file: FileIdentity | None
    """The slide's file while it was read, None where there is none to be seen."""
    tissue: float | None = None
    """Part of the slide that is tissue, 0 to 1; None where that was not asked for."""
    state: str | None = None
    """The patient's state, as JSON, where a chunk policy was asked."""
    remarks: tuple[str, ...] = ()
    """What a user should know of the slide's file, see `SlideFacts`, and of its resolution."""
    stain: Stain | None = None
    """How the slide is stained; None where that was not asked for, or could not be found."""
    notices: tuple[str, ...] = ()
    """What was chosen of the slide's masks and annotations, for the log; see `Notices`."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What was found of a slide; nothing was loaded."""

    chunk: int
    """The job's loading number."""
    dimensions: Size
    """The slide, in level-0 pixels."""
    mpp: tuple[float, float] | None
    """Micrometres per level-0 pixel (x, y), as the file tells them or the source's options do."""
    view: View
    """What chunks and tiles lie in."""
    tissue: float | None
    """Part of the slide that is tissue, 0 to 1; None where that was not asked for."""
    wanted: bytes | None
    """Which tiles are wanted, row after row, eight to a byte; None where that was not asked for, or
    all are."""
    file: FileIdentity | None
    """The slide's file, None where there is none to be seen."""
    bounds: Region | None = None
    """What of the slide was scanned, in level-0 pixels; None for all of it."""
    notices: tuple[str, ...] = ()
    """What was chosen of the slide's masks and annotations, for the log; see `Notices`."""


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A part of `Surveyed.wanted`, which comes afterwards: a message could not hold it."""

    bits: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The chunk could not be loaded as asked."""

    chunk: int
    """Loading number."""
    error: SlideError | UserCodeError
    """What went wrong, in words for the user."""
    traceback: str
    """The worker's traceback, for the log and as a cause."""
    whole_slide: bool
    """Whether no other place of the slide is worth trying."""


Answer = Loaded | Surveyed | Failed
FromWorker = Hello | Started | AnswerPart | Answer


def send(channel: socket.socket, message: object, descriptors: Sequence[int] = ()) -> None:
    """Send one message, and descriptors; raises OSError where the other end is gone."""
    socket.send_fds(channel, [pickle.dumps(message, pickle.HIGHEST_PROTOCOL)], descriptors)


def messages_of(answer: Answer) -> Iterator[AnswerPart | Answer]:
    """What a worker sends for an answer: pieces, of one that is too long, and then the rest."""
    if isinstance(answer, Surveyed) and answer.wanted is not None:
        for begin in range(0, len(answer.wanted), _PIECE):
            yield AnswerPart(answer.wanted[begin : begin + _PIECE])
        answer = replace(answer, wanted=b"")
    yield answer


def receive(channel: socket.socket) -> object | None:
    """The next message, or None at the channel's end. Only our own processes write to a channel."""
    return receive_all(channel)[0]


def receive_all(channel: socket.socket) -> tuple[object | None, list[int]]:
    """The next message as by `receive`, and the descriptors that came along: the caller's now."""
    try:
        data, descriptors, _, _ = socket.recv_fds(
            channel, _LONGEST, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return None, []
    return (pickle.loads(data) if data else None), descriptors


def last_lines(traceback: str) -> str:
    """The end of a traceback, within what a message holds."""
    return traceback[-_LONGEST_TRACEBACK:]


def first_words(reason: str) -> str:
    """The beginning of an error's text, within what a message holds."""
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + " ..."
