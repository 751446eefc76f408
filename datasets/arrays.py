"""From arrays of images to a train and a test LMDB."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffebench.datasets.datum import Image, raw_record
from caffebench.datasets.lmdb_writer import LmdbWriter, Summary, finished

__all__ = ["LmdbResult", "Part", "make_from_arrays"]

Part = tuple[Image, Image]
"""Images of shape (N, channels, height, width) and their labels, of shape (N,)."""


@dataclass(frozen=True)
class LmdbResult:
    """An LMDB that is now complete."""

    path: Path
    summary: Summary
    already: bool
    """It was complete before and has not been touched."""


def make_from_arrays(
    out: Path, about: Mapping[str, Any], parts: Mapping[str, Part], *, force: bool
) -> list[LmdbResult]:
    """Write ``out/<name>_lmdb`` for each part, ``train`` and ``test``, its records in the order given.

    ``about`` says what this is; with a digest of the pixels it becomes the source in the summaries. Raises
    ``InputError`` where something else is in the way, before anything is written.
    """
    targets = {name: out / f"{name}_lmdb" for name in parts}
    sources = {name: {**about, "part": name, "sha256": _digest(*part)} for name, part in parts.items()}
    found = {name: finished(targets[name], sources[name], force=force) for name in parts}
    made = []
    for name, part in parts.items():
        summary = found[name] or _write(targets[name], sources[name], *part)
        made.append(LmdbResult(targets[name], summary, already=found[name] is not None))
    return made


def _write(target: Path, source: Mapping[str, Any], images: Image, labels: Image) -> Summary:
    with LmdbWriter(target, source) as writer:
        for position, (image, label) in enumerate(zip(images, labels, strict=True)):
            if position not in writer.done:
                writer.put(position, raw_record(image, int(label)))
        return writer.finish()


def _digest(images: Image, labels: Image) -> str:
    digest = hashlib.sha256(labels.tobytes())
    digest.update(images.tobytes())
    return digest.hexdigest()
