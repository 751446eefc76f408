"""A net of one phase as a graph of layers without names: who feeds whom, in an order that names don't change.

In-place layers become plain ones (a bottom is what its name meant at that line, as in Caffe's ``Net::Init``);
``Split`` and ``Silence``, which compute nothing, vanish. A name counts in two places only: a layer of a test net has
the weights of the training net's layer of its name (``Net::ShareTrainedLayersWith``), and a layer is filled from a file
of weights by its name.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field

from caffebench.generator.meaning.forms import FieldValues
from caffebench.generator.meaning.reading import Layer, PhaseNet
from caffebench.generator.meaning.settings import has_weights, layer_settings

__all__ = ["Graph", "Vertex", "build_graph"]


@dataclass(eq=False)
class Vertex:
    """A layer: type, settings in effect, and its bottoms as (layer that makes it, number of that layer's top).

    ``shared`` are the parameters that belong to another layer, which and which of its. ``trained`` is, in a test net,
    the layer of the training net whose weights it has; ``reads`` is the shape of its first bottom, where somebody has
    worked it out. ``layer`` is None for a bottom that no layer makes.
    """

    type: str
    name: str
    settings: FieldValues
    bottoms: list[tuple[Vertex, int]] = field(default_factory=list)
    layer: Layer | None = None
    number: int = -1
    shared: dict[int, tuple[Vertex, int]] = field(default_factory=dict)
    trained: Vertex | None = None
    reads: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """How messages call the layer: ``conv1 (Convolution)``."""
        return f"{self.name} ({self.type})"


@dataclass(eq=False)
class Graph:
    """The layers of a net, each after those that feed it, in an order that neither names nor lines change."""

    vertices: list[Vertex]

    @property
    def form(self) -> list[object]:
        """The whole graph as plain values: two nets mean the same exactly when these are equal."""
        return [
            (
                v.type,
                sorted(v.settings.items(), key=lambda item: item[0]),
                [(b.number, i) for b, i in v.bottoms],
                [(index, owner.number, at) for index, (owner, at) in v.shared.items()],
                None if v.trained is None else v.trained.number,
            )
            for v in self.vertices
        ]


def build_graph(net: PhaseNet, training: Graph | None = None, *, loaded: bool = False) -> Graph:
    """The graph of a net; unknown fields of a layer count among its settings, as they were written.

    ``training`` is for a test net that of the training net, ``loaded`` whether weights are loaded into the net, so
    that the names of layers with weights count.
    """
    trained = (
        {one.name: one for one in training.vertices if one.layer and has_weights(one.layer.message)}
        if training is not None
        else {}
    )
    made: dict[str, tuple[Vertex, int]] = {}
    vertices: list[Vertex] = []
    shares: dict[str, list[tuple[Vertex, int]]] = defaultdict(list)
    for layer in net.layers:
        bottoms = [made.get(name, (Vertex("?", name, {}), 0)) for name in layer.message.bottom]
        if layer.type == "Split" and bottoms:
            made |= dict.fromkeys(layer.message.top, bottoms[0])
            continue
        if layer.type == "Silence":
            continue
        settings = layer_settings(layer, net.phase)
        settings |= {f"{path} (unknown to Caffe)": node.written() for path, node in layer.unknown}
        vertex = Vertex(layer.type, layer.name, settings, bottoms, layer)
        if has_weights(layer.message):
            vertex.trained = trained.get(layer.name)
            settings |= {"name": layer.name} if loaded else {}
        vertices.append(vertex)
        made |= {name: (vertex, index) for index, name in enumerate(layer.message.top)}
        for index, spec in enumerate(layer.message.param):
            if spec.name:
                shares[spec.name].append((vertex, index))
    for users in shares.values():
        _say_alike(users)
    graph = Graph(_ordered(vertices))
    for users in shares.values():
        first = min(users, key=lambda user: (user[0].number, user[1]))
        for vertex, index in users:
            if (vertex, index) != first:
                vertex.shared[index] = first
    return graph


def _say_alike(users: list[tuple[Vertex, int]]) -> None:
    """Let all layers of a shared parameter say of it what counts: the first filler in the file, a multiplier of any.

    ``users`` are the layers, in the order of the file, with the number of the parameter in each (``AppendParam`` in
    ``net.cpp``).
    """
    specs = [vertex.layer.message.param[index] for vertex, index in users if vertex.layer is not None]
    lr = next((spec.lr_mult for spec in specs if spec.HasField("lr_mult")), 1.0)
    decay = next((spec.decay_mult for spec in specs if spec.HasField("decay_mult")), 1.0) if lr else 0.0
    fillers = [_filler(vertex, index) for vertex, index in users]
    for (vertex, index), filler in zip(users, fillers, strict=True):
        vertex.settings |= {f"param[{index}].lr_mult": lr, f"param[{index}].decay_mult": decay}
        if filler and fillers[0]:
            vertex.settings[filler] = users[0][0].settings[fillers[0]]


def _filler(vertex: Vertex, index: int) -> str:
    """The setting that says how a parameter is filled; of recurrent layers, where one fills several, none."""
    names = [name for name in vertex.settings if name.endswith("filler")]
    return names[index] if index < len(names) and vertex.type not in ("LSTM", "RNN") else ""


def _ordered(vertices: list[Vertex]) -> list[Vertex]:
    """Depth first from the outputs, bottoms in order; outputs by type, depth, own settings, then all that feeds them.

    What feeds them comes last: a difference far below must not change the order in which outputs are compared.
    """
    own = {vertex: repr(sorted(vertex.settings.items(), key=lambda item: item[0])) for vertex in vertices}
    digests: dict[Vertex, str] = {}
    depths: dict[Vertex, int] = {}
    for vertex in vertices:  # bottoms come first in any list of layers
        parts = [vertex.type, own[vertex]]
        parts += [f"{digests.get(bottom, '?')}:{index}" for bottom, index in vertex.bottoms]
        digests[vertex] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        depths[vertex] = 1 + max((depths.get(bottom, 0) for bottom, _ in vertex.bottoms), default=0)
    used = {bottom for vertex in vertices for bottom, _ in vertex.bottoms}
    outputs = [vertex for vertex in vertices if vertex not in used]
    order: list[Vertex] = []
    seen: set[Vertex] = set()
    for output in sorted(outputs, key=lambda v: (v.type, depths[v], own[v], digests[v])):
        stack = [(output, False)]
        while stack:
            vertex, done = stack.pop()
            if done:
                vertex.number = len(order)
                order.append(vertex)
            elif vertex not in seen:
                seen.add(vertex)
                stack.append((vertex, True))
                stack.extend((bottom, False) for bottom, _ in reversed(vertex.bottoms))
    return order
