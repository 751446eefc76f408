"""The declaration of a study: `docs/studies/NAME.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["LOGS", "PAGES", "ROOT", "WORK", "Claim", "Study", "studies", "study"]

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ROOT / "docs" / "studies"
LOGS = ROOT / "logs" / "studies"
"""The logs that are kept, a folder a study."""
WORK = ROOT / ".cache" / "studies"
"""Where studies are trained: data, prototxt files, whole logs and snapshots."""


@dataclass(frozen=True)
class Claim:
    """What a source without a table of figures says, as two variants between which it is decided."""

    says: str
    one: str
    other: str
    equal: bool = False
    """``one`` is said to be as good as ``other``; else it is said to be better."""


@dataclass(frozen=True)
class Study:
    """A sweep that is trained with several seeds, and what is asked of it."""

    name: str
    order: int
    """Its place among the studies."""
    title: str
    question: str
    source: str
    sweep: str
    only: str = "*"
    """The variants that are trained, of the names that they have on ``profile``."""
    left_out: str = ""
    """Why not all."""
    profile: str = "fashion"
    seeds: int = 3
    layers: str = "fast"
    other_layers: bool = False
    """Train it a second time, with Caffe's own layers, and compare."""
    claims: tuple[Claim, ...] = ()
    full_scale: str = ""
    """The file of the sweep on ImageNet whose speed is measured."""
    note: str = ""
    """What a reader should know who compares ours with the published figures."""
    data: tuple[str, ...] = ("make-lmdb fashion-mnist data/fashion",)
    """The commands that make its data, the folder `data/PROFILE`."""
    times: str = ""
    """What is timed, where that is what is asked: a ``run`` or a ``batch``. Then ``seeds`` are repeats."""
    weights: bool = False
    """Of a study of times: are the weights that runs end with the same, bit for bit?"""


def study(name: str) -> Study:
    """The study that `docs/studies/NAME.yaml` declares."""
    path = PAGES / f"{name}.yaml"
    said: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    said["claims"] = tuple(Claim(**claim) for claim in said.get("claims", ()))
    if "data" in said:
        said["data"] = tuple(said["data"])
    return Study(name=name, **said)


def studies() -> list[Study]:
    """All that are declared, in their order."""
    return sorted((study(path.stem) for path in PAGES.glob("*.yaml")), key=lambda one: one.order)
