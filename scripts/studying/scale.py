"""What the published study would take on ImageNet, at the speed measured on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

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
    for phase in yaml.safe_load(phases[1]):
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
    one = images_of(ROOT / "prototxt" / f"{study.full_scale}.prototxt")
    yield "## At full scale"
    yield ""
    yield (
        f"On ImageNet at 128 pixels the sweep's {len(own)} files train on {images / 1e6:,.0f} million images. "
        f"`run-caffe --dry-run` on `{study.full_scale}` came to {one / seconds:,.3g} images a second, "
        f"tests included, at a load average of {load}: one seed of all files would take "
        f"{images * seconds / one / 3600:,.0f} hours, were all as fast as that one."
    )
    yield ""
    card = full_scale(study, "full_scale_card.txt")
    if card is None:
        yield "No card was measured."
    else:
        seconds, name = card
        yield (
            f"On one {name}, `run-caffe --gpu 0 --dry-run` on the same file came to {one / seconds:,.0f} images a "
            f"second, tests included: {images * seconds / one / 3600:,.0f} hours. Neither figure has the loading of "
            "pictures in it."
        )
    yield ""
