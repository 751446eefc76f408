"""Rules on what a file reads: means and scales of both phases, data that is not there, deprecated fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from caffebench.engine.messages import caffe_messages
from caffebench.generator.lint.facts import data_layers, sources
from caffebench.generator.lint.registry import Hit, rule
from caffebench.generator.meaning import Node, Prototxt, layer_settings, written

_TRANSFORM_ADVICE = "transform_param has it now: here today's layers ignore it"
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
} | {
    (message, field): _TRANSFORM_ADVICE
    for message in ("DataParameter", "ImageDataParameter", "WindowDataParameter")
    for field in ("scale", "mean_file", "crop_size", "mirror")
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


@rule("missing-data", "warning", why="Caffe stops at this layer when it builds the net")
def missing_data(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A database, list or mean file that is not there.

    A relative path is looked for from the working folder, as Caffe does; where not even its folder is there
    the file is for another machine or working folder, and nothing is said.
    """
    for layer, field, name, database in sources(file):
        path = Path(name)
        there = (path / "data.mdb").is_file() or (path / "CURRENT").is_file() if database else path.is_file()
        if there or not (path.is_absolute() or path.parent.is_dir()):
            continue
        what = f"no database at {name}" if database else f"no file {name}"
        if path.exists():
            what = f"{name} is no database" if database else f"{name} is no file"
        yield Hit(
            what,
            "make-lmdb makes one" if database else "correct the path",
            layer.name,
            layer.node.at(field),
            layer.path,
        )


@rule("missing-net", "error", why="Caffe stops before it builds anything")
def missing_net(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A net file that the solver names and that is not there."""
    for name, node in file.missing:
        yield Hit(f"no net file {name}", "correct the path: it counts from the working folder", node=node)


@rule("deprecated", "warning", why="Caffe reads it only to upgrade it, warns at every start, and will drop it")
def deprecated(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A field that caffe.proto calls deprecated."""
    pb = caffe_messages()
    message = pb.NetParameter if file.solver is None else pb.SolverParameter
    found: dict[tuple[str, str], list[Node]] = {}
    for key, node in _old_fields(file.root, message.DESCRIPTOR):
        found.setdefault(key, []).append(node)
    for (kind, name), nodes in found.items():
        times = f", {len(nodes)} times" if len(nodes) > 1 else ""
        inside = ""
        if kind == "NetParameter" and file.solver is not None:
            inside = ": Caffe upgrades a net in a file of its own only, inside a solver it is left out"
        yield Hit(f"{kind}.{name}{times}{inside}", _DEPRECATED[kind, name], node=nodes[0])


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
