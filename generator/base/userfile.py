"""The user's solver with the nets it names, in today's form and in one message; and the recipe that it states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from caffebench.common.caffe_facts import LR_POLICIES, SolverType
from caffebench.common.errors import InputError
from caffebench.common.netstate import included, net_state
from caffebench.engine.messages import caffe_messages
from caffebench.generator.meaning import Prototxt, load_prototxt, written
from caffebench.generator.meaning.reading import find_net
from caffebench.generator.meaning.upgrade import upgrade_layers
from caffebench.generator.nets.shapes import data_shape
from caffebench.generator.variants.settings import Settings

__all__ = ["READERS", "Base", "batch_sizes", "data_layers", "load_base", "nets_of", "picture_size", "train_layers"]

# Fields that a sweep's expressions may name, and that stay what the user's solver says where a sweep leaves them.
_NUMBERS = ("base_lr", "momentum", "momentum2", "rms_decay", "delta", "weight_decay", "power", "gamma")
_INTERVALS = ("test_interval", "display", "snapshot")
READERS = {
    "Data": "data_param",
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
    "HDF5Data": "hdf5_data_param",
    "MemoryData": "memory_data_param",
}


@dataclass(frozen=True)
class Base:
    """A user's solver: the message with every net inside, the header above it, and the recipe it states."""

    path: Path
    solver: Any
    header: Mapping[str, Any]
    recipe: Mapping[str, Any]
    settings: Settings
    no_batch: str
    """Why it is not known how many pictures are read at once, which then cannot be varied; empty where it is."""


def load_base(path: Path) -> Base:
    """Read a solver and its nets (in it or in files, old forms too). Raises ``InputError``."""
    file = load_prototxt(path)
    if file.solver is None:
        raise InputError(f"--base {path} is a net: give the solver that names it")
    for name, node in file.missing:
        raise InputError(f"{path}:{node.line}: no net file {name}, from the working folder or beside it")
    for place, name, node in file.unknown:
        raise InputError(f"{place}:{node.line}: BVLC Caffe knows no {name}: --base changes what it understands")
    solver = _with_nets_inside(file)
    nets = nets_of(solver)
    if not nets:
        raise InputError(f"{path} names no net: --base needs net, net_param, train_net or train_net_param")
    if not solver.max_iter:
        raise InputError(f"{path} says no max_iter, from which the iterations of the variants are worked out")
    sizes = batch_sizes(train_layers(nets))
    batch = sizes[0][1] if sizes else 1
    recipe = {
        "batch_size": batch * solver.iter_size,
        "base_lr": Fraction(written(solver.base_lr)),
        "max_iter": solver.max_iter,
    }
    no_batch = "" if sizes else "no layer of its training net reads data and says a batch_size"
    if len({size for _, size in sizes}) > 1:
        said = ", ".join(f"{name} {size}" for name, size in sizes)
        no_batch = f"its training net reads batches of different sizes ({said})"
    return Base(path, solver, file.header, recipe, _settings(solver, file.header, batch), no_batch)


def nets_of(solver: Any) -> list[tuple[Any, list[Any]]]:
    """Each net of a solver that has them inside, with the states in which Caffe's solver builds it.

    A net for both phases without tests counts as tested: ``caffe test`` may do it.
    """
    pb, tests, found = caffe_messages(), list(solver.test_net_param), []

    def tested(net: Any, number: int) -> Any:
        return net_state(pb, "TEST", net.state, *solver.test_state[number : number + 1])

    for name in ("net_param", "train_net_param"):
        if solver.HasField(name):
            net = getattr(solver, name)
            found.append((net, [net_state(pb, "TRAIN", net.state, solver.train_state)]))
    if solver.HasField("net_param"):
        count = max(len(solver.test_iter), 0 if tests else 1)
        for state in (tested(solver.net_param, number) for number in range(len(tests), count)):
            found[0][1].extend([] if state in found[0][1] else [state])
    return found + [(net, [tested(net, number)]) for number, net in enumerate(tests)]


def train_layers(nets: list[tuple[Any, list[Any]]]) -> list[Any]:
    """The layers of the net that Caffe's solver trains, of ``nets_of`` it."""
    net, states = nets[0]
    return [layer for layer in net.layer if included(layer, states[0])]


def data_layers(layers: Iterable[Any]) -> list[tuple[Any, Any]]:
    """The layers that read data, each with its message that says the batch size."""
    return [(layer, getattr(layer, READERS[layer.type])) for layer in layers if layer.type in READERS]


def _with_nets_inside(file: Prototxt) -> Any:
    """A copy of the solver whose nets stand in it, with layers of today's form."""
    solver = type(file.solver)()
    solver.CopyFrom(file.solver)
    pb = caffe_messages()
    for name in ("net", "train_net"):
        if solver.HasField(name):
            _take_in(getattr(solver, f"{name}_param"), file, getattr(solver, name), pb)
            solver.ClearField(name)
    for name in solver.test_net:
        _take_in(solver.test_net_param.add(), file, name, pb)
    solver.ClearField("test_net")
    for net, _ in nets_of(solver):
        layers = [layer for layer, _ in upgrade_layers(net, pb)]
        for old in ("layers", "layer", "input", "input_dim", "input_shape"):
            net.ClearField(old)
        net.layer.extend(layers)
    return solver


def _take_in(net: Any, file: Prototxt, name: str, pb: Any) -> None:
    from google.protobuf import text_format

    path, _ = find_net(file.path, name)
    text_format.Parse(path.read_text(encoding="utf-8", errors="replace"), net, allow_unknown_field=True)


def batch_sizes(layers: list[Any]) -> list[tuple[str, int]]:
    """The layers that say a batch size in training, and the size; none where a Python layer reads the data, say."""
    return [(layer.name, int(said.batch_size)) for layer, said in data_layers(layers)] or [
        (layer.name, int(layer.input_param.shape[0].dim[0]))
        for layer in layers
        if layer.type == "Input" and layer.input_param.shape
    ]


def _settings(solver: Any, header: Mapping[str, Any], batch: int) -> Settings:
    """What solver and header say, under the names that sweeps use; numbers to the digits that a float has."""
    said: dict[str, Any] = {"iter_size": solver.iter_size, "average_loss": solver.average_loss}
    for name in _NUMBERS:
        if solver.HasField(name):
            said[name] = written(getattr(solver, name))
    if solver.lr_policy in LR_POLICIES:
        said["lr_policy"] = solver.lr_policy
    if solver.type in SolverType.__args__:  # type: ignore[attr-defined]
        said["solver_type"] = solver.type
    said |= {name: header[name] for name in ("init", "weights") if name in header}
    # Iterations are held in epochs: with another batch they are scaled like max_iter.
    said["batch_size"] = batch
    said["max_iter"] = "recipe.max_iter * recipe.batch_size / (batch_size * iter_size)"
    for name in (*_INTERVALS, "stepsize"):
        if getattr(solver, name):
            said[name] = _in_epochs(getattr(solver, name))
    if solver.stepvalue:
        said["stepvalue"] = [_in_epochs(value) for value in solver.stepvalue]
    if solver.lr_policy in ("inv", "sigmoid") and solver.HasField("gamma"):
        said["gamma"] = f"{written(solver.gamma)} * recipe.max_iter / max_iter"
    if "lr_schedule" in header:
        said["lr_policy"] = "fixed"  # as run-caffe reads it
        said["lr_schedule"] = _scaled(header["lr_schedule"], "warmup")
    if "phases" in header:
        said["phases"] = [_scaled(phase, "until") for phase in header["phases"]]
    if solver.random_seed >= 0:
        said["seed"] = solver.random_seed
    return Settings.model_validate(said)


def _in_epochs(iterations: int) -> str:
    return f"{iterations} * max_iter / recipe.max_iter"


def _scaled(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of the header in which ``name`` is a number of iterations."""
    return {**part, name: _in_epochs(part[name])} if name in part else dict(part)


def picture_size(nets: list[tuple[Any, list[Any]]]) -> int:
    """The pixels a side of what the training net sees; 0 where that cannot be known."""
    for layer, _ in data_layers(train_layers(nets)):
        if layer.transform_param.crop_size:
            return int(layer.transform_param.crop_size)
        shape = data_shape(layer)
        if shape is not None and len(shape) == 4:
            return shape[2]
    return 0
