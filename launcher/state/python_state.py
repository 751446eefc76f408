"""What Python layers keep between iterations: told by checksums of their attributes, and by Python's random generators.

A layer's class may keep what it likes, and how to bring that back nobody else knows. But its attributes tell whether it
came back, as what ``setup`` makes anew or as what running the data forward led to. They are looked at behind
``reshape``, which Caffe calls before every pass and which makes many a layer's buffers anew; what only ``forward`` adds
to them is taken for a buffer, too. The generators of ``random`` and NumPy are seeded, kept and put back.
"""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from caffebench.launcher.state.data_fast_forward import LOADER
from caffebench.launcher.state.record import PythonLayerState, by_layer

__all__ = [
    "PythonKeeper",
    "has_python_layers",
    "other_states",
    "seed_random",
    "set_random_state",
]

LARGEST = 1 << 26
"""Bytes of an attribute that is looked at; one that is larger, a whole data set say, is not."""
CAFFE_S_OWN = {"param_str", "phase"}
"""Attributes that Caffe sets."""


def has_python_layers(solver: Any) -> bool:
    """Whether a solver's nets have Python layers; ours aside."""
    return any(_python_layers(net) for net in _named_nets(solver).values())


def _python_layers(net: Any) -> list[tuple[int, Any]]:
    """The Python layers of a net, which are objects of their classes, with their places in it; ours aside."""
    found = enumerate(net.layers)
    return [(place, one) for place, one in found if one.type == "Python" and type(one).__module__ != LOADER]


def _named_nets(solver: Any) -> dict[str, Any]:
    """The nets of a solver by the names that they have in the records of snapshots."""
    tests = {f"TEST#{number}" if number else "TEST": net for number, net in enumerate(solver.test_nets)}
    return {"TRAIN": solver.net, **tests}


def _states(nets: Mapping[str, Any]) -> tuple[PythonLayerState, ...]:
    return tuple(
        PythonLayerState(name, str(net._layer_names[index]), _attributes(net, index, layer))
        for name, net in nets.items()
        for index, layer in _python_layers(net)
    )


def _attributes(net: Any, index: int, layer: Any) -> dict[str, str]:
    own, before = vars(layer), dict(vars(layer))
    try:
        if len(net._bottom_ids(index)):  # one that reads data may take its next record then
            layer.reshape(*([net._blobs[one] for one in ids(index)] for ids in (net._bottom_ids, net._top_ids)))
        return {name: _checksum(value) for name, value in own.items() if name not in CAFFE_S_OWN}
    except Exception:  # it wants more than these lists, which stand in for Caffe's own: then nothing is known
        return {}
    finally:  # training is to go on as if nobody had looked
        own.clear()
        own.update(before)


class PythonKeeper:
    """Looks at what a solver's Python layers keep, for the records of its snapshots."""

    def __init__(self, solver: Any) -> None:
        """It has nothing to do where there are none."""
        self.watches = has_python_layers(solver)
        self._random: list[Any] | None = None

    def before_tests(self) -> None:
        """Take note of the generators: a run that resumes where it was tested repeats the test."""
        if self.watches:
            self._random = _random_state()

    def look(self, solver: Any, *, tested: bool) -> tuple[tuple[PythonLayerState, ...], list[Any] | None]:
        """The layers' states and that of the generators; before the test, where there was one at this iteration."""
        if not self.watches:
            return (), None
        nets = {name: net for name, net in _named_nets(solver).items() if name == "TRAIN" or not tested}
        now = _random_state()
        states = _states(nets)
        set_random_state(now)  # a layer may draw in ``reshape``
        return states, self._random if tested else now


class _Sum:
    """A file that keeps nothing but the checksum of what is written to it."""

    def __init__(self) -> None:
        self.sum, self.left = hashlib.sha256(), LARGEST

    def write(self, part: Any) -> None:
        self.left -= memoryview(part).nbytes
        if self.left < 0:
            raise OverflowError
        self.sum.update(part)


def _checksum(value: Any) -> str:
    """The checksum of any object; nothing where it cannot be written down (an open file) or is too large."""
    found = _Sum()
    if isinstance(value, set | frozenset):
        value = sorted(map(repr, value))  # their order varies from process to process
    try:
        pickle.Pickler(found, 5, buffer_callback=lambda buffer: found.write(buffer.raw())).dump(value)
    except Exception:  # whatever an object raises that is not made for it
        return ""
    return found.sum.hexdigest()[:16]


def other_states(solver: Any, before: Iterable[PythonLayerState]) -> list[str]:
    """The layers of a solver whose attributes are not as they were ``before``, in words."""
    old, found = by_layer(before), []
    for key, one in by_layer(_states(_named_nets(solver))).items():
        was = old[key].attributes if key in old else {}
        other = [name for name, value in one.attributes.items() if value and was.get(name) and was[name] != value]
        if other:
            where = "" if one.net == "TRAIN" else " of a test net"
            found.append(
                f"state of the Python layer {one.layer}{where} (as far as it is not made anew: {', '.join(other)})"
            )
    return found


def seed_random(seed: int) -> None:
    """Seed the generators that Python layers may draw from."""
    random.seed(seed)
    np.random.seed(seed)


def _random_state() -> list[Any]:
    """The states of these generators, as JSON can hold them."""
    version, own, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    return [[version, list(own), gauss], [name, [int(key) for key in keys], *rest]]


def set_random_state(state: list[Any]) -> None:
    """Set the generators to what a record has."""
    (version, own, gauss), numpys = state
    random.setstate((version, tuple(own), gauss))
    np.random.set_state(tuple(numpys))
