"""The nets that Caffe's solver builds from a file: which layers each has, and how many channels its blobs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from caffebench.common.netstate import included, net_state
from caffebench.engine.locate import caffe_pb2

__all__ = [
    "BuiltNet",
    "built_layers",
    "built_nets",
    "channels",
    "data_layers",
    "numbered",
    "parameters_of",
    "train_data_layers",
]


@dataclass(frozen=True)
class BuiltNet:
    """One net of a solver."""

    number: int | None
    """Of a test net, from 0; None for the train net."""
    layers: tuple[Any, ...]
    """Its layers, ``LayerParameter``, in order."""

    @property
    def name(self) -> str:
        """What people call it."""
        return "the train net" if self.number is None else f"test net {self.number}"


def built_nets(solver: Any) -> Iterator[BuiltNet]:
    """The nets of a ``SolverParameter``, the train net first, as ``InitTrainNet`` and ``InitTestNets`` build them.

    Those inside it: ``read_solver`` takes in those that are files.
    """
    pb2 = caffe_pb2()
    both = _net(solver, "net_param")
    train = both or _net(solver, "train_net_param")
    if train is not None:
        yield _built(None, train, net_state(pb2, "TRAIN", train.state, solver.train_state))
    tests = list(solver.test_net_param)
    if both is not None:
        tests += [both] * (len(solver.test_iter) - len(tests))
    for number, net in enumerate(tests):
        own = solver.test_state[number] if number < len(solver.test_state) else None
        yield _built(number, net, net_state(pb2, "TEST", net.state, own))


def built_layers(solver: Any, test: int | None = None) -> tuple[Any, ...]:
    """The layers of a solver's train net, or of its test net number ``test``."""
    return next((net.layers for net in built_nets(solver) if net.number == test), ())


def numbered(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each name with how often it came before: layers of one net may be called alike."""
    before: Counter[str] = Counter()
    for name in names:
        yield name, before[name]
        before[name] += 1


def parameters_of(net: Any, layers: Sequence[Any]) -> list[Any]:
    """For each layer of a net that Caffe built from ``layers`` the one that it is; None for Caffe's own Splits."""
    written = dict(zip(numbered(layer.name for layer in layers), layers, strict=True))
    return [written.get(key) for key in numbered(net._layer_names)]


def data_layers(solver: Any, phase: str, kind: str = "Data") -> list[Any]:
    """The layers of type ``kind``, Data being one with a database, in the nets of ``phase`` ("TRAIN" or "TEST").

    Those that Caffe builds: by phase, level and stages, and of tests where there are some. What is set in them is set
    in the solver.
    """
    nets = [net for net in built_nets(solver) if (net.number is None) == (phase == "TRAIN")]
    found = {id(layer): layer for net in nets for layer in net.layers if layer.type == kind}
    return list(found.values())


def train_data_layers(solver: Any) -> list[Any]:
    """The Data layers of the train net, to be changed: tests that read the same ones are given nets of their own."""
    layers, tests = data_layers(solver, "TRAIN"), data_layers(solver, "TEST")
    if not {id(layer) for layer in layers} & {id(layer) for layer in tests}:
        return layers
    while len(solver.test_net_param) < len(solver.test_iter):
        solver.test_net_param.add().CopyFrom(solver.net_param)
    solver.train_net_param.CopyFrom(solver.net_param)
    solver.ClearField("net_param")
    return data_layers(solver, "TRAIN")


def _net(solver: Any, field: str) -> Any:
    """The ``NetParameter`` that a solver has in ``field``; None where it has none."""
    return getattr(solver, field) if solver.HasField(field) else None


def _built(number: int | None, net: Any, state: Any) -> BuiltNet:
    return BuiltNet(number, tuple(layer for layer in net.layer if included(layer, state)))


SAME = re.compile(
    "AbsVal|BNLL|BatchNorm|Bias|Clip|Dropout|ELU|Eltwise|Exp|LRN|Log|MVN|PReLU|Pooling|Power|ReLU|Scale|Sigmoid|Softmax|"
    "Split|Swish|TanH|Threshold"
)
"""Layer types whose tops have as many channels as their first bottom."""


def channels(layers: tuple[Any, ...]) -> Iterator[dict[str, int]]:
    """For each layer what is known, when it is its turn, of the channels (axis 1) of blobs that have no other axes.

    Or of those whose further axes do not matter to a loss: a count is missing where it cannot be told from the
    prototxt alone.
    """
    known: dict[str, int] = {}
    for layer in layers:
        yield known
        found = [known.get(name) for name in layer.bottom]
        out: list[int | None] = [None] * len(layer.top)
        if layer.type == "InnerProduct" and layer.inner_product_param.axis == 1:
            out = [layer.inner_product_param.num_output]
        elif layer.type in ("Convolution", "Deconvolution"):
            out = [layer.convolution_param.num_output] * len(layer.top)
        elif found and SAME.fullmatch(layer.type):
            out = [found[0]] * len(layer.top)
        elif layer.type == "Concat" and layer.concat_param.axis == 1 and layer.concat_param.concat_dim == 1:
            out = [sum(count or 0 for count in found) if all(found) else None]
        for name, count in zip(layer.top, out, strict=False):
            if count is None:
                known.pop(name, None)
            else:
                known[name] = count
