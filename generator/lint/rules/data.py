"""Rules on what a file reads: means and scales of both phases, data that is not there, deprecated fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from caffebench.engine.messages import caffe_messages
from caffebench.generator.lint.facts import (
    data_layers,
    database_kind,
    find,
    first_datum,
    is_here,
    known_layers,
    sources,
)
from caffebench.generator.lint.registry import Hit, of_layer, rule
from caffebench.generator.meaning import Node, Prototxt, layer_settings, written

_DEPRECATED = {
    ("SolverParameter", "solver_type"): 'type: "SGD" and so on, a string',
    ("NetParameter", "layers"): 'layer with a type in quotes: layer { type: "Convolution" }',
    ("NetParameter", "input"): 'a layer of type "Input" with input_param { shape { ... } }',
    ("NetParameter", "input_dim"): 'a layer of type "Input" with input_param { shape { ... } }',
    ("NetParameter", "input_shape"): 'a layer of type "Input" with input_param { shape { ... } }',
    ("DataParameter", "rand_skip"): "nothing: each solver reads its own part",
    ("ConcatParameter", "concat_dim"): "axis",
    ("SliceParameter", "slice_dim"): "axis",
    ("LossParameter", "normalize"): "normalization",
    ("PythonParameter", "share_in_parallel"): "nothing",
    ("DummyDataParameter", "num"): "shape",
    ("DummyDataParameter", "channels"): "shape",
    ("DummyDataParameter", "height"): "shape",
    ("DummyDataParameter", "width"): "shape",
}


def _transform(file: Prototxt, field: str) -> Iterator[tuple[str, str, Any]]:
    """A field of ``transform_param`` in TRAIN and in TEST, with the TEST layer."""
    train, test = file.phase("TRAIN"), file.phase("TEST")
    if train is None or test is None:
        return
    pairs = zip(data_layers(train), data_layers(test), strict=False)
    for (one, _), (other, _) in pairs:
        if one is not other:
            values = (layer_settings(layer, "TRAIN").get(f"transform_param.{field}") for layer in (one, other))
            a, b = (written(value) for value in values)
            yield a, b, other


@rule(
    "mean-differs",
    "warning",
    why="the net is tested on images shifted against those it learned from",
)
def mean_differs(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """TRAIN and TEST subtract different means."""
    for field in ("mean_value", "mean_file"):
        for train, test, layer in _transform(file, field):
            if train != test:
                yield Hit(
                    f"{field} {train} in TRAIN, {test} in TEST",
                    f"the same {field} in both",
                    layer.name,
                    layer.node.at(f"transform_param.{field}"),
                    layer.path,
                )


@rule("scale-differs", "error", why="the net is tested on another range of values than it learned from")
def scale_differs(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """TRAIN and TEST scale the images differently."""
    for train, test, layer in _transform(file, "scale"):
        if train != test:
            yield Hit(
                f"scale {train} in TRAIN, {test} in TEST",
                f"scale: {train} in both",
                layer.name,
                layer.node.at("transform_param.scale"),
                layer.path,
            )


@rule("mirror", "warning", why="a test must give each image the same every time: mirrored at random it does not")
def mirror(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """TEST mirrors its images at random."""
    for net in file.phases:
        for layer, _ in data_layers(net) if net.phase == "TEST" else ():
            if layer.message.transform_param.mirror:
                field = "transform_param.mirror"
                yield of_layer(layer, "mirror in TEST", "mirror in the layer of TRAIN only", field)


@rule("crop-differs", "warning", why="the net sees images of another size: Caffe stops where a layer has fixed weights")
def crop_differs(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """TRAIN and TEST crop to different sizes, or only one of them crops."""
    for train, test, layer in _transform(file, "crop_size"):
        if train != test:
            what = f"crop_size {train} in TRAIN, {test} in TEST"
            yield of_layer(layer, what, "the same crop_size in both", "transform_param.crop_size")


@rule(
    "backend", "error", why="Caffe stops when it opens the database: without backend it is LevelDB, with LMDB it is not"
)
def backend(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``data_param.backend`` is not that of the database: left out it is LevelDB."""
    for layer in known_layers(file):
        if layer.type != "Data":
            continue
        data = layer.message.data_param
        says = data.DESCRIPTOR.fields_by_name["backend"].enum_type.values_by_number[data.backend].name
        place = find(file, data.source) if data.source else None
        holds = database_kind(place) if place is not None else None
        if holds is None and "lmdb" in data.source.lower():
            holds = "LMDB"
        if holds is not None and holds != says:
            written = f"backend {says}" if data.HasField("backend") else "no backend, which is LEVELDB"
            yield of_layer(layer, f"{written}, for the {holds} {data.source}", f"backend: {holds}", "data_param")


@rule("image-size", "error", why="Caffe stops at the first batch: it checks every image against the transformation")
def image_size(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """The images of an LMDB do not fit the transformation: smaller than ``crop_size``, other channels than means."""
    for layer in known_layers(file):
        source = layer.message.data_param.source if layer.type == "Data" else ""
        place = find(file, source) if source and is_here(file) else None
        shape = first_datum(place) if place is not None else None
        if shape is None:
            continue
        transform, (channels, height, width) = layer.message.transform_param, shape
        if transform.crop_size > min(height, width):
            what = f"crop_size {transform.crop_size}, the images of {source} are {height} x {width}"
            yield of_layer(layer, what, f"crop_size: {min(height, width)} or less", "transform_param.crop_size")
        means = len(transform.mean_value)
        if means > 1 and means != channels:
            what = f"{means} mean_value, the images of {source} have {channels} channel{'s' if channels != 1 else ''}"
            yield of_layer(layer, what, "one mean_value, or one for each channel", "transform_param.mean_value")


@rule(
    "ignored-transform", "warning", why="Caffe reads it from transform_param only: here it does nothing, without a word"
)
def ignored_transform(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``scale``, ``mean_file``, ``crop_size`` or ``mirror`` in the data message of a layer of today's form."""
    for layer in dict.fromkeys(layer for net in file.phases for layer in net.layers):
        for name in ("data_param", "image_data_param", "window_data_param"):
            inner = getattr(layer.message, name)
            for field in ("scale", "mean_file", "crop_size", "mirror"):
                # The messages of V0 and V1 layers are upgraded by now. WindowData still reads its own.
                if inner.HasField(field) and layer.type != "WindowData":
                    fix = f"transform_param {{ {field}: {getattr(inner, field)} }}"
                    yield of_layer(layer, f"{name}.{field} is ignored", fix, f"{name}.{field}")


@rule("missing-data", "error", why="Caffe stops at this layer when it builds the net")
def missing_data(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A database, list or mean file that is not there.

    Looked for from the folder that the file is run from. Where none of its data is there the file is for another
    machine: a note, as of a layer for tests that the solver does not ask for, or of a stage that it does not build.
    """
    away = not is_here(file)
    built = {layer for net in file.phases for layer in net.layers}
    for layer, field, name, database in sources(file):
        path = find(file, name)
        if path is None:
            if away and not (Path(name).is_absolute() or Path(name).parent.is_dir()):
                continue
            what = f"no database at {name}" if database else f"no file {name}"
        elif database and database_kind(path) is None:
            what = f"{name} is no database"
        elif not database and path.is_dir():
            what = f"{name} is no file"
        else:
            continue
        fix = "make-lmdb makes one" if database else "correct the path"
        what += "" if layer in built else ", for a net that is not built"
        yield of_layer(layer, what, fix, field, severity="note" if away or layer not in built else None)


@rule("unreadable", "error", why="Caffe cannot read it either: it stops before it builds anything")
def unreadable(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A file that is no prototxt, or is not there: the others are judged all the same."""
    return iter(())  # found when a file is loaded, so that there is none to judge here


@rule("missing-net", "error", why="Caffe stops before it builds anything")
def missing_net(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A net file that the solver names and that is not there; a note where it lies beside the solver."""
    for name, node in file.missing:
        yield Hit(f"no net file {name}", "correct the path: it counts from the working folder", node=node)
    if file.solver is not None and file.home is None and not file.missing:
        node = next(file.root.at(name) for name in ("train_net", "net", "test_net") if file.root.all(name))
        yield Hit(
            f"net file {node.text}: read beside the solver",
            "run it from the folder from which that path is right",
            node=node,
            severity="note",
            why="Caffe looks for it from the working folder",
        )


@rule("old-in-solver", "error", why="Caffe upgrades old layers in a net file only: inside a solver they are left out")
def old_in_solver(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Layers of the old forms (``layers``) or ``input`` fields in a net inside a solver."""
    for name in ("net_param", "train_net_param", "test_net_param") if file.solver is not None else ():
        for node in file.root.all(name):
            for old in ("layers", "input"):
                if node.all(old):
                    fix = 'put the net into a file of its own (net: "..."), or write layer { type: "Convolution" ... }'
                    yield Hit(f"old {old} in {name}: an empty net is trained", fix, node=node.all(old)[0])


@rule("deprecated", "note", why="Caffe reads it only to upgrade it, warns at every start, and will drop it")
def deprecated(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A field that caffe.proto calls deprecated."""
    pb = caffe_messages()
    message = pb.NetParameter if file.solver is None else pb.SolverParameter
    found: dict[tuple[str, str], list[Node]] = {}
    for key, node in _old_fields(file.root, message.DESCRIPTOR):
        found.setdefault(key, []).append(node)
    for (kind, name), nodes in found.items():
        times = f", {len(nodes)} times" if len(nodes) > 1 else ""
        yield Hit(f"{kind}.{name}{times}", _DEPRECATED[kind, name], node=nodes[0])


def _old_fields(node: Node, descriptor: Any) -> Iterator[tuple[tuple[str, str], Node]]:
    for name, nodes in node.fields.items():
        field = descriptor.fields_by_name.get(name)
        for inner in nodes if field is not None else ():
            if (descriptor.name, name) in _DEPRECATED:
                yield (descriptor.name, name), inner
            if field.message_type is not None:
                yield from _old_fields(inner, field.message_type)


@rule("unknown-allow", "warning", why="the comment allows nothing, so a finding that was meant to be allowed is not")
def unknown_allow(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """The ``allow`` comment names a rule that does not exist."""
    from caffebench.generator.lint.registry import RULES

    for name in file.header.get("allow") or {}:
        if name not in RULES:
            yield Hit(f"allow: {name} is no rule", f"one of {', '.join(RULES)}")
