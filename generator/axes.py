"""Settings that say the same of blobs of a known shape: axes counted from the end, points that cut equal parts."""

from __future__ import annotations

from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.meaning import Graph, PhaseNet, Vertex
from caffebench.generator.nets.shapes import infer

__all__ = ["note_shapes", "settings_of"]


def note_shapes(graph: Graph, net: PhaseNet) -> None:
    """Tell each layer of a net's graph the shape of its first bottom; none where layers do not fit each other."""
    try:
        found = infer([layer.message for layer in net.layers])
    except InputError:
        return
    shapes = {id(one.layer): one.bottoms[0] for one in found if one.bottoms}
    for vertex in graph.vertices:
        vertex.reads = shapes.get(id(vertex.layer.message)) if vertex.layer is not None else None


def settings_of(a: Vertex, b: Vertex) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of two layers, those in one spelling that are written in two and are the same for what they read."""
    ours, theirs = dict(a.settings), dict(b.settings)
    for name in ours.keys() & theirs.keys() if a.reads is not None and b.reads is not None else ():
        if ours[name] != theirs[name]:
            ours[name], theirs[name] = _of_shape(name, a), _of_shape(name, b)
    return ours, theirs


def _of_shape(name: str, vertex: Vertex) -> Any:
    value, shape = vertex.settings[name], vertex.reads
    if shape is None or vertex.layer is None:
        return value
    if name.endswith("axis") and isinstance(value, int) and value < 0:
        return len(shape) + value + (name == "reshape_param.axis")
    if name == "slice_param.slice_point" and not value:
        parts, size = len(vertex.layer.message.top), shape[vertex.settings["slice_param.axis"]]
        return tuple(size * part // parts for part in range(1, parts))
    return value
