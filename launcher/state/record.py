"""The record beside a snapshot: what Caffe's own two files do not keep, and the checksums of all three.

A record is taken at its word when a run is resumed, so it is either whole or no record at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from caffebench.common.files import write_whole
from caffebench.launcher.solver.identity import Identity, read_identity
from caffebench.launcher.solver.nets import numbered
from caffebench.launcher.state.paths import BrokenSnapshotError

__all__ = ["DataState", "PythonLayerState", "SnapshotMetadata", "by_layer", "checksum", "read_record", "write_record"]

OWN_SUM = "record_sha256"
_BEFORE_SUMS = {"iteration", "seed", "train_batches", "test_batches", "batch_size", "solver"}
_BEFORE_SUMS |= {"state_bytes", "model_bytes"}


@dataclass(frozen=True)
class DataState:
    """The data that a layer reads, to tell whether a resumed run still has them."""

    net: str
    """``TRAIN``, ``TEST`` or ``TEST#1`` for a second test net."""
    layer: str
    source: str
    batch_size: int
    records: int
    """0 where they cannot be counted."""
    fingerprint: str
    """Of some of the content; empty where nothing is known."""


@dataclass(frozen=True)
class PythonLayerState:
    """What a Python layer keeps between iterations, to tell whether a resume has brought it back."""

    net: str
    """As in ``DataState``."""
    layer: str
    attributes: dict[str, str]
    """A checksum of each; empty where there is none."""


_State = TypeVar("_State", DataState, PythonLayerState)


def by_layer(states: Iterable[_State]) -> dict[tuple[str, int], _State]:
    """States by net and layer, and by their order where layers of one net are called alike."""
    found = list(states)
    return dict(zip(numbered(f"{one.net} {one.layer}" for one in found), found, strict=True))


@dataclass(frozen=True)
class SnapshotMetadata:
    """What a snapshot's files do not keep of a run's state."""

    iteration: int
    seed: int
    train_batches: int
    """Batches that the train net's data layers have given out."""
    test_batches: tuple[int, ...]
    """The same for each test net, not counting a test at this very iteration: a resumed run repeats that one."""
    solver: str
    """The solver prototxt that was trained."""
    layers: Literal["caffe", "fast"] = "caffe"
    """Whose layers computed."""
    data: tuple[DataState, ...] = ()
    python_layers: tuple[PythonLayerState, ...] = ()
    python_random: list[Any] | None = None
    """State of Python's generators; None where there are no Python layers, and in snapshots of before."""
    identity: Identity | None = None
    """What the run is of; None in snapshots of before."""
    state_bytes: int = 0
    model_bytes: int = 0
    state_sha256: str = ""
    model_sha256: str = ""


def checksum(content: bytes | str) -> str:
    """The SHA-256 of a file's content, as ``sha256sum`` prints it: 1.8 GB/s where the CPU has instructions for it."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def write_record(path: Path, record: SnapshotMetadata) -> None:
    """Write ``record`` with its own checksum. Raises ``OSError``."""
    content = asdict(record)
    write_whole(path, json.dumps({**content, OWN_SUM: _own_sum(content)}))


def read_record(path: Path) -> SnapshotMetadata | None:
    """The record that ``write_record`` wrote; None where there is no file (a snapshot of ``caffe train``, say).

    Raises ``BrokenSnapshotError`` for any other content, and ``OSError``.
    """
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and content.keys() == _BEFORE_SUMS:
            raise BrokenSnapshotError(
                f"{path} was written by a caffebench without checksums: remove it, and its snapshot is taken for one "
                "of plain Caffe"
            )
        if not isinstance(content, dict) or content.pop(OWN_SUM, None) != _own_sum(content):
            raise BrokenSnapshotError(f"{path} is damaged: its content does not fit its checksum, it was cut or edited")
        for name, of_before in (("layers", "caffe"), ("python_layers", ()), ("python_random", None)):
            content.setdefault(name, of_before)
        if content.keys() != {field.name for field in fields(SnapshotMetadata)}:
            raise BrokenSnapshotError(f"{path} is the record of another version of caffebench")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise BrokenSnapshotError(f"{path} is damaged: it is no JSON, it was cut or edited") from None
    data = tuple(DataState(**one) for one in content.pop("data"))
    python_layers = tuple(PythonLayerState(**one) for one in content.pop("python_layers"))
    identity = read_identity(content.pop("identity"))
    tests = tuple(content.pop("test_batches"))
    return SnapshotMetadata(**content, data=data, python_layers=python_layers, identity=identity, test_batches=tests)


def _own_sum(content: Mapping[str, Any]) -> str:
    return checksum(json.dumps(content, sort_keys=True))
