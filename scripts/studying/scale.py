"""What the published study would take on ImageNet, at the speed measured on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from studying.declared import ROOT, Study
from studying.training import full_scale

__all__ = ["full_scale_words", "images_of"]


def images_of(path: Path) -> int:
    """Images that the run of a generated file trains on, over all its phases."""
    text = path.read_text("utf-8")

    def number(field: str, otherwise: int) -> int:
        found = re.search(rf"^ *{field}: (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else otherwise

    last, passes = number("max_iter", 0), number("iter_size", 1)
    phases = re.search(r"^# caffebench: phases: (.*)", text, re.MULTILINE)
    if not phases:
        return last * passes * number("batch_size", 1)
    done = images = 0
    for phase in json.loads(phases[1]):
        images += (phase["until"] - done) * passes * phase["batch_size"]
        done = phase["until"]
    return images


def full_scale_words(study: Study) -> Iterator[str]:
    """The part of the page; nothing where no speed was measured."""
    rate = full_scale(study)
    if rate is None:
        return
    files = sorted(ROOT.glob("prototxt/*.prototxt"))
    own = [path for path in files if f"# caffebench: sweep: {study.sweep}\n" in path.read_text("utf-8")]
    images = sum(images_of(path) for path in own)
    hours = images / rate / 3600
    yield "## At full scale"
    yield ""
    yield (
        f"On ImageNet at 128 pixels the sweep's {len(own)} files train on {images / 1e6:,.0f} million images. "
        f"`run-caffe --dry-run` measured {rate:.3g} images a second here with `{study.full_scale}`: "
        f"one seed of all would take {hours:,.0f} hours ({hours / 24 / 365:.1f} years), were all as fast as that one. "
        "No card was measured."
    )
    yield ""
