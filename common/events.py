"""Our own lines in a log: ``caffebench: NAME {...}``, the name of an event and one JSON object.

The launcher and the training process write them in glog's format between Caffe's own, so that a log carries with it
what Caffe does not say: which file was trained, what a resume restored, how the session ended and why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeVar

from caffebench.common.glog import EVENT_MARK

__all__ = [
    "CopiedWeights",
    "EndEvent",
    "Event",
    "InitEvent",
    "PhaseEvent",
    "RankEvent",
    "ResumeEvent",
    "RunEvent",
    "SkippedInitEvent",
    "SnapshotEvent",
    "WeightsEvent",
    "event_message",
    "read_event",
]


@dataclass(frozen=True)
class Event:
    """What one line says; its fields are the keys of the JSON object."""

    name: ClassVar[str]


@dataclass(frozen=True)
class RunEvent(Event):
    """The first line of a session: what is trained."""

    name = "run"
    run: str
    session: int
    version: str
    prototxt: str
    header: Mapping[str, Any]
    seed: int
    layers: str = "caffe"
    identity: Mapping[str, Any] = field(default_factory=dict)
    solver: str = ""
    """The solver's settings in text format, without its nets: glog cuts what Caffe prints of them all at 30,000
    characters, and what stands behind the net, as ``iter_size``, is lost."""
    train_size: int | None = None
    """Images of an epoch, as counted in the data; None where these do not tell."""
    phases: tuple[tuple[int, int], ...] = ()
    """Of a run in phases: the iteration up to which each goes, and the images of an iteration in it, on all GPUs."""
    notes: tuple[str, ...] = ()
    pid: int = 0
    host: str = ""


@dataclass(frozen=True)
class PhaseEvent(Event):
    """A stretch of training with settings of its own begins."""

    name = "phase"
    iteration: int
    until: int
    batch_size: int | None
    iter_size: int | None
    base_lr: float | None


@dataclass(frozen=True)
class SnapshotEvent(Event):
    """All lines up to this iteration precede its snapshot."""

    name = "snapshot"
    iteration: int


@dataclass(frozen=True)
class InitEvent(Event):
    """A layer was initialised. Variances and scale are those of LSUV, None without it."""

    name = "init"
    method: str
    layer: str
    type: str
    shape: tuple[int, ...]
    variance_before: float | None
    variance_after: float | None
    scale: float | None


@dataclass(frozen=True)
class SkippedInitEvent(Event):
    """A layer with weights was not initialised, and why."""

    name = "init"
    method: str
    layer: str
    type: str
    skipped: str


@dataclass(frozen=True)
class CopiedWeights:
    """What was taken from one ``.caffemodel``: names of layers."""

    file: str
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    """Of which the net has no layer."""


@dataclass(frozen=True)
class WeightsEvent(Event):
    """Training starts from the weights of files."""

    name = "weights"
    files: tuple[CopiedWeights, ...]
    at_start: tuple[str, ...]
    """Layers that no file has."""


@dataclass(frozen=True)
class ResumeEvent(Event):
    """A session resumes at a snapshot: what is as it was in words, and what is not."""

    name = "resume"
    iteration: int
    snapshot: str
    restored: tuple[str, ...]
    not_restored: tuple[str, ...]
    changed: tuple[str, ...]
    """Settings of the file that differ from those of the snapshot."""


@dataclass(frozen=True)
class RankEvent(Event):
    """A process of a run on several GPUs has ended early, and how."""

    name = "rank"
    rank: int
    gpu: int
    how: str


@dataclass(frozen=True)
class EndEvent(Event):
    """The last line of a session: its status, the iteration that it came to, and the reason."""

    name = "end"
    status: str
    iteration: int
    reason: str


E = TypeVar("E", bound=Event)


def event_message(event: Event) -> str:
    """The line of an event, without glog's prefix."""
    return f"{EVENT_MARK}{event.name} {json.dumps(asdict(event), default=str)}"  # YAML knows dates


_ADAPTERS: dict[type[Event], Any] = {}


def read_event(kind: type[E], content: Mapping[str, Any] | None) -> E | None:
    """The event of type ``kind`` in the JSON object of a line; None where it is none, of another version say."""
    from pydantic import TypeAdapter, ValidationError

    if content is None:
        return None
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    try:
        found: E = _ADAPTERS[kind].validate_python(content)
    except ValidationError:
        return None
    return found
