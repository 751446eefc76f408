"""Rules on the wiring of a net: names, tops and bottoms, types and fields that Caffe does not know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from caffebench.generator.lint.facts import learns
from caffebench.generator.lint.registry import Hit, named, rule
from caffebench.generator.lint.roles import has_loss
from caffebench.generator.meaning import LAYER_TYPES, Layer, Node, PhaseNet, Prototxt, parameter_count

# Layers whose top is the net's result: nobody needs to read it.
_RESULTS = {"Accuracy", "ArgMax", "Softmax", "Silence", "Sigmoid", "Python", "HDF5Output"}


@rule(
    "duplicate-name",
    "warning",
    why="Caffe finds weights by layer name: both layers load the same ones, and a snapshot keeps only one's",
)
def duplicate_name(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Two layers of one phase have one name."""
    for net in file.phases:
        seen: dict[str, Layer] = {}
        for layer in net.layers:
            if layer.name and layer.name in seen:
                first = seen[layer.name]
                bare = [parameter_count(one.message) == 0 for one in (first, layer)]
                yield Hit(
                    f"{layer.type} has the name of the {first.type} of line {first.node.line}",
                    "a name of its own",
                    layer.name,
                    layer.node.at("name"),
                    layer.path,
                    severity="note" if all(bare) else None,
                    why="neither has weights: only logs and messages name both alike" if all(bare) else "",
                )
            seen.setdefault(layer.name, layer)


@rule("duplicate-top", "error", why="Caffe refuses the net: 'Top blob produced by multiple sources'")
def duplicate_top(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Two layers of one phase make tops of one name, and the second is not in-place."""
    for net in file.phases:
        made: dict[str, Layer] = {}
        for layer in net.layers:
            for index, top in enumerate(layer.message.top):
                in_place = index < len(layer.message.bottom) and layer.message.bottom[index] == top
                if top in made and not in_place:
                    yield Hit(
                        f"top {top!r} is made by {made[top].name} already",
                        "a top of its own, or the same bottom to work in place",
                        layer.name,
                        _written(layer, "top", top),
                        layer.path,
                    )
                made[top] = layer


@rule("missing-bottom", "error", why="Caffe refuses the net: 'Unknown bottom blob'")
def missing_bottom(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A bottom that no layer before makes, in a phase that has the layer."""
    for net in file.phases:
        made: set[str] = set()
        later = {top for layer in net.layers for top in layer.message.top}
        elsewhere = {top for other in file.phases for layer in other.layers for top in layer.message.top}
        for layer in net.layers:
            for bottom in layer.message.bottom:
                if bottom not in made:
                    if bottom in later:
                        how = "only a later layer makes it"
                    elif bottom in elsewhere:
                        how = f"no layer makes it in {net.phase}"
                    else:
                        how = "no layer makes it"
                    fix = "correct the name of the bottom, or put the layer that makes it before"
                    node = _written(layer, "bottom", bottom)
                    yield Hit(f"bottom {bottom!r}: {how}", fix, layer.name, node, layer.path)
            made |= set(layer.message.top)


def _written(layer: Layer, field: str, name: str) -> Node:
    """Where a bottom or top is written in a layer."""
    return next((node for node in layer.node.all(field) if node.text.strip("\"'") == name), layer.node)


def _unread(net: PhaseNet) -> Iterator[tuple[Layer, str]]:
    """Every top that no layer of the net reads, with its layer."""
    waiting: dict[str, Layer] = {}
    for layer in net.layers:
        for bottom in layer.message.bottom:
            waiting.pop(bottom, None)
        for top in layer.message.top:
            waiting[top] = layer
    for top, layer in waiting.items():
        yield layer, top


@rule("unread-top", "warning", why="the layer is computed for nothing, and mostly the next layer's bottom is misspelt")
def unread_top(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A layer of a training net that no layer reads and that is no result (loss, accuracy, probabilities).

    What a net for inference leaves unread is its output, and so is what only a TEST net has.
    """
    unread: dict[tuple[Layer, str], list[str]] = {}
    trained = learns(file)
    elsewhere = {id(layer) for net in file.phases if net.phase == "TRAIN" for layer in net.layers}
    for net in file.phases if trained is not None else ():
        waiting: dict[Layer, list[str]] = {}
        for layer, top in _unread(net):
            waiting.setdefault(layer, []).append(top)
        for layer, tops in waiting.items():
            result = layer.type in _RESULTS or layer.type not in LAYER_TYPES or has_loss([layer])
            if not result and len(tops) == len(layer.message.top) and id(layer) in elsewhere and has_loss(net.layers):
                unread.setdefault((layer, tops[0]), []).append(net.name)
    for (layer, top), phases in unread.items():
        yield Hit(
            f"no layer of {' or '.join(phases)} reads top {top!r}",
            'connect it, delete it, or give it to a layer of type "Silence"',
            layer.name,
            _written(layer, "top", top),
            layer.path,
        )


@rule("unknown-type", "error", why="Caffe refuses the net: 'Unknown layer type'")
def unknown_type(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Layer types that BVLC Caffe 1.0 does not have, one line for each type."""
    known = {name.lower(): name for name in LAYER_TYPES}
    found: dict[str, list[Layer]] = {}
    for layer in file.layers:
        if layer.type not in LAYER_TYPES:
            found.setdefault(layer.type, []).append(layer)
    for kind, layers in found.items():
        near = known.get(kind.lower())
        fix = f'type: "{near}"' if near else "compose it from stock layers, or build the fork that has it"
        first = layers[0]
        what = f"type {kind!r} is not in BVLC Caffe" if kind else "no type"
        yield Hit(what, fix, named(layers), first.node.at("type"), first.path)


@rule("unknown-field", "error", why="Caffe refuses the whole file: its text parser knows no such field")
def unknown_field(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A field that BVLC Caffe's caffe.proto does not have (a fork's, or misspelt), but in layers that it has."""
    own = {id(node) for layer in file.layers if layer.type not in LAYER_TYPES for _, node in layer.unknown}
    places: dict[str, list[tuple[Path, Node]]] = {}
    for path, name, node in file.unknown:
        if id(node) not in own:
            places.setdefault(name, []).append((path, node))
    for name, found in places.items():
        path, node = found[0]
        lines = list(dict.fromkeys(other.line for place, other in found if place == path))[1:]
        shown = ", ".join(map(str, lines[:5])) + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")
        more = f" (also in line {shown})" if lines else ""
        yield Hit(f"no field {name} in caffe.proto{more}", "correct or delete it", node=node, path=path)


@rule(
    "idle-settings", "warning", why="Caffe reads only the message of the layer's own type: what is written does nothing"
)
def idle_settings(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Settings of another layer type in a layer."""
    for layer in file.layers:
        reads = LAYER_TYPES.get(layer.type)
        for descriptor, _ in layer.message.ListFields() if reads is not None else ():
            if descriptor.name.endswith("_param") and descriptor.name not in (reads or ()):
                yield Hit(
                    f"{descriptor.name} in a layer of type {layer.type}",
                    "delete it, or correct the type",
                    layer.name,
                    layer.node.at(descriptor.name),
                    layer.path,
                )
