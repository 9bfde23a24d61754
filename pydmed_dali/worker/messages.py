"""What the parent and a worker say to each other.

    parent -> worker   LoadChunk, LoadChunk, ..., or SurveySlide, SurveySlide, ...; between tasks,
                       Reconfigure; the channel's end means: finish
    worker -> parent   Hello, then for each LoadChunk: Started, and Loaded or Failed; for each
                       SurveySlide: Started, and AnswerPart, ..., Surveyed or Failed

One channel a worker, with one writer at each end: a Unix socket of whole messages (SOCK_SEQPACKET),
so that a process killed while it writes leaves either its message or nothing.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydmed_dali.errors import SlideError, UserCodeError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.slide.file_identity import FileIdentity
from pydmed_dali.slide.stain import Stain
from pydmed_dali.slide.view import View
from pydmed_dali.worker.patient_context import PatientContext
from pydmed_dali.worker.read_plan import ReadPlan, SurveyPlan

_LONGEST = 1 << 16
_MOST_DESCRIPTORS = 2
_PIECE = 1 << 15
_LONGEST_TRACEBACK = 4096
_LONGEST_REASON = 2048


@dataclass(frozen=True, slots=True)
class Setup:
    """Handed to a worker when it starts, and when it goes on with other work."""

    plan: ReadPlan | SurveyPlan
    """What the worker's tasks have in common, and so their kind."""
    loader: bytes
    """The `BigChunkLoader`, pickled by cloudpickle."""
    parent: int
    """The parent's process id."""


@dataclass(frozen=True, slots=True)
class LoadChunk:
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

    @property
    def number(self) -> int:
        """The loading number."""
        return self.chunk


@dataclass(frozen=True, slots=True)
class SurveySlide:
    """Find out what a plan asks of one slide; nothing is loaded."""

    number: int
    """The slide's number."""
    path: Path
    """The slide's file."""


Task = LoadChunk | SurveySlide


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Go on by another `Setup`, in another arena; both descriptors come along."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker is ready for tasks."""


@dataclass(frozen=True, slots=True)
class Started:
    """The worker began with a task."""

    number: int
    """The task's number."""
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

    @property
    def number(self) -> int:
        """The task's number."""
        return self.chunk


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What was found of a slide; nothing was loaded."""

    number: int
    """The slide's number."""
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
    """The task could not be done as asked."""

    number: int
    """The task's number."""
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
