"""``profile.yaml`` beside two LMDBs: what ``gen-prototxt --profile FOLDER`` must know of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from caffebench.common.files import write_whole
from caffebench.datasets.arrays import LmdbResult

__all__ = ["write_profile"]

_MIRRORED = {"cifar10", "folder", "list"}
"""Kinds whose pictures stay what they are when left and right are exchanged: not digits, not letters."""
# The bundled sweeps speak of batches of 1 to 1024; of few images they take this part of it.
_SCALES = ((50_000, "1"), (1_000, "1/4"), (250, "1/8"), (0, "1/16"))


def write_profile(out: Path, made: Sequence[LmdbResult]) -> None:
    """Write ``out/profile.yaml`` for the train and the test LMDB in ``out``.

    One that is there is left alone where the LMDBs were there already: it may have been edited.
    """
    path = out / "profile.yaml"
    if path.exists() and all(one.already for one in made):
        return
    train, test = (one.summary for one in made)
    channels, height, width = (min(pair) for pair in zip(train.smallest, test.smallest, strict=True))
    largest = tuple(max(pair) for pair in zip(train.largest, test.largest, strict=True))
    side = min(height, width)
    whole = largest == (channels, side, side)
    source = train.source
    name = re.sub(r"\W", "_", out.resolve().name, flags=re.ASCII) or "data"
    title = f"{name}, {source['classes']} classes, {side} x {side} pixels"
    means = ", ".join(f"{mean:.2f}" for mean in train.means)
    kept = [bound for bound in _SCALES if train.records >= bound[0]]
    lines = [
        f"# Written by make-lmdb, for gen-prototxt --profile {json.dumps(str(out))}. Yours to change: docs/sweeps.md",
        "# says what else may stand here.",
        f"profile: {name}",
        f"title: {json.dumps(title)}",
        f"train_size: {train.records}",
        f"test_size: {test.records}",
        f"classes: {source['classes']}",
        f"channels: {channels}",
        f"image_size: {side}",
        *([] if whole else [f"crop_size: {side}  # the images are {_size(train.smallest)} to {_size(largest)}"]),
        f"mirror: {'true' if source['kind'] in _MIRRORED and not source.get('gray') else 'false'}",
        f"mean_value: [{means}]  # {source['channels']}, of the training part",
        "scale: 0.016",
        f"batch_scale: {kept[0][1]}",
    ]
    write_whole(path, "\n".join(lines) + "\n")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
