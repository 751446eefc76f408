"""Caffe's own tests, of its source package, on the card: its layers', its solvers' and cuDNN's among them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from caffetests.known import reason, reasons
from caffetests.programme import Programme, build
from caffetests.running import cpp_tests

from acceptance.rows import Row
from caffebench.engine.locate import caffe_folder

__all__ = ["own_test_rows", "programme"]

LIMIT = 240  # seconds for the tests of one class: a card in trouble must not take the other checks' time


def programme() -> Programme:
    """The programme that travelled with us, else the one of the cache, built where it is not there."""
    if travelled := os.environ.get("CAFFEBENCH_OWN_TESTS"):
        return Programme(Path(travelled) / "caffe-tests", Path(travelled) / "source")
    return build(caffe_folder(), _cores(), lambda text: print(text, file=sys.stderr))


def own_test_rows(device: str) -> Iterator[Row]:
    """How many tests passed, and a row for each that did not.

    On a card those of layers on the CPU are left out, on the CPU those that need a card.
    """
    gpu = None if device == "cpu" else int(device.removeprefix("gpu:"))
    # More processes than that take turns on a card, and each waits longer than it computes.
    jobs = _cores() if gpu is None else min(_cores(), 8)
    outcomes = cpp_tests(programme(), caffe_folder(), jobs, gpu=gpu, card_only=gpu is not None, limit=LIMIT)
    known = reasons("caffe" if gpu is None else "card")
    failed = {name: said for name, said in outcomes.items() if said is not None}
    unknown = [name for name in failed if reason(known, name) is None]
    good = bool(outcomes) and not unknown
    measured = f"{len(outcomes) - len(failed)} passed, {len(failed)} failed"
    wanted = "none fails without a reason"
    yield Row("own tests", f"{len(outcomes)} of Caffe's own", measured, wanted, good)
    for name, said in failed.items():
        why = reason(known, name)
        yield Row("own tests", name, said if why is None else f"known: {why}", "", False if why is None else None)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
