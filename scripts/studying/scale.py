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
    measured = full_scale(study)
    if measured is None:
        return
    seconds, load = measured
    files = sorted(ROOT.glob("prototxt/*.prototxt"))
    own = [path for path in files if f"# caffebench: sweep: {study.sweep}\n" in path.read_text("utf-8")]
    images = sum(images_of(path) for path in own)
    rate = images_of(ROOT / "prototxt" / f"{study.full_scale}.prototxt") / seconds
    hours = images / rate / 3600
    yield "## At full scale"
    yield ""
    yield (
        f"On ImageNet at 128 pixels the sweep's {len(own)} files train on {images / 1e6:,.0f} million images. "
        f"`run-caffe --dry-run` on `{study.full_scale}` came to {rate:.2g} images a second on this machine, tests "
        f"included, "
        f"at a load average of {load:.0f}: one seed of all files would take {hours:,.0f} hours, were all as fast as "
        f"that "
        "one; where the machine did other work, that is an upper bound. No card was measured."
    )
    yield ""
