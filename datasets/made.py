"""From arrays of images to a train and a test LMDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffebench.datasets.datum import Image, raw_record
from caffebench.datasets.lmdb_writer import LmdbWriter, Summary, finished

__all__ = ["Made", "make_from_array"]


@dataclass(frozen=True)
class Made:
    """An LMDB that is now complete."""

    path: Path
    summary: Summary
    already: bool
    """It was complete before and has not been touched."""


def make_from_array(
    out: Path,
    source: Mapping[str, Any],
    load: Callable[[], Mapping[str, tuple[Image, Image]]],
    force: bool,
) -> list[Made]:
    """Write ``out/train_lmdb`` and ``out/test_lmdb``; ``load``, called only where one of them is missing, gives
    images of shape (N, channels, height, width) and labels of shape (N,) for ``train`` and ``test``.

    Raises ``InputError`` where something else is in the way.
    """
    sources = {part: {**source, "part": part} for part in ("train", "test")}
    found = {part: finished(out / f"{part}_lmdb", sources[part], force=force) for part in sources}
    parts = load() if None in found.values() else {}
    made = []
    for part, summary in found.items():
        target = out / f"{part}_lmdb"
        if summary is None:
            images, labels = parts[part]
            with LmdbWriter(target, sources[part]) as writer:
                for position, (image, label) in enumerate(zip(images, labels, strict=True)):
                    if position not in writer.done:
                        writer.put(position, raw_record(image, int(label)), image)
                made.append(Made(target, writer.finish(), already=False))
        else:
            made.append(Made(target, summary, already=True))
    return made
