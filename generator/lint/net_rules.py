"""Rules on the wiring of a net: names, tops and bottoms, types and fields that Caffe does not know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caffebench.generator.lint.registry import Hit, rule
from caffebench.generator.meaning import LAYER_TYPES, Layer, PhaseNet, Prototxt

# Layers whose top is the net's result: nobody needs to read it.
_RESULTS = {"Accuracy", "ArgMax", "Softmax", "Silence", "Python", "HDF5Output"}


def _built(file: Prototxt) -> list[PhaseNet]:
    """The nets whose wiring can be judged: not a bare net with stages, which a solver would have to name."""
    return [] if file.staged else file.phases


@rule(
    "duplicate-name",
    "warning",
    why="Caffe finds weights by layer name: both layers load the same ones, and a snapshot keeps only one's",
)
def duplicate_name(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Two layers of one phase have one name."""
    for net in _built(file):
        seen: dict[str, Layer] = {}
        for layer in net.layers:
            if layer.name and layer.name in seen:
                first = seen[layer.name]
                yield Hit(
                    f"{layer.type} has the name of the {first.type} of line {first.node.line}",
                    "a name of its own",
                    layer.name,
                    layer.node,
                    layer.path,
                )
            seen.setdefault(layer.name, layer)


@rule("duplicate-top", "error", why="Caffe refuses the net: 'Top blob produced by multiple sources'")
def duplicate_top(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Two layers of one phase make tops of one name, and the second is not in-place."""
    for net in _built(file):
        made: dict[str, Layer] = {}
        for layer in net.layers:
            for index, top in enumerate(layer.message.top):
                in_place = index < len(layer.message.bottom) and layer.message.bottom[index] == top
                if top in made and not in_place:
                    yield Hit(
                        f"top {top!r} is made by {made[top].name} already",
                        "a top of its own, or the same bottom to work in place",
                        layer.name,
                        layer.node,
                        layer.path,
                    )
                made[top] = layer


@rule("missing-bottom", "error", why="Caffe refuses the net: 'Unknown bottom blob'")
def missing_bottom(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A bottom that no layer before makes, in a phase that has the layer."""
    for net in _built(file):
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
                    yield Hit(f"bottom {bottom!r}: {how}", fix, layer.name, layer.node, layer.path)
            made |= set(layer.message.top)


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
    """A top that no layer reads and that is no result (loss, accuracy, the end of a net without loss)."""
    unread: dict[tuple[Layer, str], list[str]] = {}
    for net in _built(file):
        trained = any(layer.type.endswith("Loss") or any(layer.message.loss_weight) for layer in net.layers)
        for layer, top in _unread(net):
            result = layer.type.endswith("Loss") or layer.type in _RESULTS or any(layer.message.loss_weight)
            if not result and (trained or layer is not net.layers[-1]):
                unread.setdefault((layer, top), []).append(net.name)
    for (layer, top), phases in unread.items():
        yield Hit(
            f"no layer of {' or '.join(phases)} reads top {top!r}",
            'connect it, delete it, or give it to a layer of type "Silence"',
            layer.name,
            layer.node,
            layer.path,
        )


@rule("unknown-type", "error", why="Caffe refuses the net: 'Unknown layer type'")
def unknown_type(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A layer type that BVLC Caffe 1.0 does not have."""
    known = {name.lower(): name for name in LAYER_TYPES}
    for layer in file.layers:
        if layer.type not in LAYER_TYPES:
            near = known.get(layer.type.lower())
            fix = f'type: "{near}"' if near else "compose it from stock layers, or build the fork that has it"
            yield Hit(f"type {layer.type!r} is not in BVLC Caffe", fix, layer.name, layer.node, layer.path)


@rule("unknown-field", "error", why="Caffe refuses the whole file: its text parser knows no such field")
def unknown_field(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A field that BVLC Caffe's caffe.proto does not have (a fork's, or misspelt)."""
    places: dict[str, list[int]] = {}
    for _, name, node in file.unknown:
        places.setdefault(name, []).append(node.line)
    told = set()
    for path, name, node in file.unknown:
        if name not in told:
            told.add(name)
            lines = places[name]
            more = f" (also in line {', '.join(map(str, lines[1:]))})" if len(lines) > 1 else ""
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
