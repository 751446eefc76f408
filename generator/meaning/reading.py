"""Reading any prototxt, ours or a stranger's: solver, net, or solver with its net in another file.

What Caffe would build of it is here too: the layers of each phase after ``include`` and ``exclude``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caffebench.common.errors import InputError
from caffebench.common.files import read_text
from caffebench.common.netstate import included, net_state
from caffebench.generator.meaning.positions import Node, PrototxtSyntaxError, read_positions, unknown_fields
from caffebench.generator.meaning.upgrade import upgrade_layers, upgrade_solver

__all__ = ["Layer", "PhaseNet", "Prototxt", "find_net", "load_prototxt", "net_in_state"]

_PHASES = ("TRAIN", "TEST")


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer as today's ``LayerParameter``, with the place where it was written.

    ``node`` holds what was written, old forms included; ``unknown`` are the fields in it that Caffe has not,
    as (dotted path, field).
    """

    message: Any
    node: Node
    path: Path
    unknown: tuple[tuple[str, Node], ...] = ()

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.message.name)

    @property
    def type(self) -> str:
        """The layer's type, as the current Caffe calls it."""
        return str(self.message.type)


@dataclass(frozen=True, eq=False)
class PhaseNet:
    """The net that Caffe builds for one phase: ``TRAIN``, ``TEST``, ``TEST#1`` for a second test net.

    In a state that is no solver's it is called ``TEST (stage x, level 2)``.

    ``test_iter`` is the number of batches of one test, None where no solver says it; ``path`` is the file that
    the net is written in, and ``state`` the ``NetState`` that it is built in.
    """

    name: str
    layers: list[Layer]
    test_iter: int | None = None
    path: Path = Path()
    state: Any = None

    @property
    def phase(self) -> str:
        """``TRAIN`` or ``TEST``."""
        return self.name.partition("#")[0].partition(" ")[0]


@dataclass(eq=False)
class Prototxt:
    """A prototxt file as Caffe understands it. ``solver`` is None for a bare net.

    ``unknown`` are the fields that BVLC Caffe has not, as (file, dotted path, field); ``missing`` are the
    net files that the solver names and that are not there. ``home`` is the folder that a solver is run from, from
    which its net files are where it says; None where there is no such folder.
    """

    path: Path
    text: str
    header: dict[str, Any]
    root: Node
    solver: Any = None
    phases: list[PhaseNet] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    unknown: list[tuple[Path, str, Node]] = field(default_factory=list)
    missing: list[tuple[str, Node]] = field(default_factory=list)
    home: Path | None = Path()

    @property
    def staged(self) -> bool:
        """Whether this is a bare net with layers for stages or levels, which only its solver could tell."""
        rules = (rule for layer in self.layers for rule in (*layer.message.include, *layer.message.exclude))
        return self.solver is None and any(
            rule.stage or rule.not_stage or rule.HasField("min_level") or rule.HasField("max_level") for rule in rules
        )

    @property
    def loads_weights(self) -> bool:
        """Whether training starts from a file of weights, which fills layers by their names."""
        return bool(self.header.get("weights") or (self.solver is not None and self.solver.weights))

    def phase(self, phase: str) -> PhaseNet | None:
        """The first net of a phase, where there is one."""
        return next((net for net in self.phases if net.phase == phase), None)


@dataclass(frozen=True, eq=False)
class _Net:
    """A net of a file, before any phase is chosen."""

    state: Any
    layers: list[Layer]
    path: Path


def load_prototxt(path: Path) -> Prototxt:
    """Read a solver (net inside, or in a file of its own) or a bare net.

    A net file is looked for as Caffe does, from the working folder, then from the solver's folder and those above it
    (it may be meant to be run from there), and last by its bare name beside the solver. Raises
    ``InputError`` in one line, with the position, for a file that is missing, no text, or no prototxt.
    """
    from caffebench.common.header import read_header
    from caffebench.engine.messages import caffe_messages

    pb = caffe_messages()
    text = _read_text(path)
    root = _positions(path, text)
    names = set(root.fields)
    of_solver = len(names & set(pb.SolverParameter.DESCRIPTOR.fields_by_name))
    of_net = len(names & set(pb.NetParameter.DESCRIPTOR.fields_by_name))
    message = _parse(path, text, pb.NetParameter() if of_net > of_solver else pb.SolverParameter())
    if not of_solver and not of_net:
        raise InputError(f"{path}: no field of a Caffe solver or net in it: give a solver or net prototxt")
    file = Prototxt(path, text, read_header(text, path), root)
    _note_unknown(file, path, root, message.DESCRIPTOR)
    if of_net > of_solver:
        net = _net(file, message, root, path, pb)
        states = [net_state(pb, phase, net.state) for phase in ("TRAIN", "TEST")]
        file.phases = [net_in_state(net.layers, state, path, _PHASES[index]) for index, state in enumerate(states)]
    else:
        upgrade_solver(message)
        file.solver = message
        file.phases = list(_phases(file, pb))
    return file


def _positions(path: Path, text: str) -> Node:
    try:
        return read_positions(text)
    except PrototxtSyntaxError as error:
        raise InputError(f"{path}:{error.line}:{error.column}: {error} (not a prototxt of Caffe's)") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deep (not a prototxt of Caffe's)") from None


def _parse(path: Path, text: str, message: Any) -> Any:
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, message, allow_unknown_field=True)
    except text_format.ParseError as error:
        place = f"{path}:" if error.GetLine() else f"{path}: "
        raise InputError(f"{place}{' '.join(str(error).split())} (not a prototxt of Caffe's)") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deep (not a prototxt of Caffe's)") from None


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None


def _note_unknown(file: Prototxt, path: Path, root: Node, descriptor: Any) -> None:
    file.unknown += [(path, name, node) for name, node in unknown_fields(root, descriptor)]


def _net(file: Prototxt, net: Any, node: Node, path: Path, pb: Any) -> _Net:
    if net.layers and net.layer:
        raise InputError(f"{path}: holds both 'layer' and the old 'layers', which Caffe refuses: keep 'layer'")
    nodes = node.all("layers") if net.layers else node.all("layer")
    descriptor = (pb.V1LayerParameter if net.layers else pb.LayerParameter).DESCRIPTOR
    layers = [
        Layer(message, node, path)
        if index is None
        else Layer(message, nodes[index], path, tuple(unknown_fields(nodes[index], descriptor)))
        for message, index in upgrade_layers(net, pb)
    ]
    file.layers += layers
    return _Net(net.state, layers, path)


def find_net(solver: Path, name: str) -> tuple[Path, Path | None]:
    """Where the net file is that a solver names, and the folder that the solver is run from.

    That folder is None where the net lies beside the solver and its name says otherwise. The path need not exist.
    """
    homes = [Path(), *solver.parents, *solver.absolute().parents]
    home = next((home for home in homes if _is_file(home / name)), None)
    return (solver.parent / Path(name).name if home is None else home / name), home


def _net_file(file: Prototxt, name: str, node: Node, pb: Any) -> _Net | None:
    path, home = find_net(file.path, name)
    if not _is_file(path):
        file.missing.append((name, node))
        return None
    file.home = home
    text = _read_text(path)
    root = _positions(path, text)
    net = _parse(path, text, pb.NetParameter())
    _note_unknown(file, path, root, net.DESCRIPTOR)
    return _net(file, net, root, path, pb)


def _is_file(path: Path) -> bool:
    return path.exists() and not path.is_dir()


def _phases(file: Prototxt, pb: Any) -> Iterator[PhaseNet]:
    """The nets that Caffe's solver builds: one of TRAIN, one of TEST for each ``test_iter``."""
    solver, root = file.solver, file.root
    both = None
    if solver.HasField("net_param"):
        both = _net(file, solver.net_param, root.all("net_param")[-1], file.path, pb)
    elif solver.HasField("net"):
        both = _net_file(file, solver.net, root.all("net")[-1], pb)
    train = both
    if solver.HasField("train_net_param"):
        train = _net(file, solver.train_net_param, root.all("train_net_param")[-1], file.path, pb)
    elif solver.HasField("train_net"):
        train = _net_file(file, solver.train_net, root.all("train_net")[-1], pb)
    tests: list[_Net | None] = [
        _net(file, net, node, file.path, pb)
        for net, node in zip(solver.test_net_param, root.all("test_net_param"), strict=True)
    ]
    tests += [_net_file(file, name, node, pb) for name, node in zip(solver.test_net, root.all("test_net"), strict=True)]
    tests += [both] * (len(solver.test_iter) - len(tests))
    if train is not None:
        state = net_state(pb, "TRAIN", train.state, solver.train_state)
        yield net_in_state(train.layers, state, train.path, "TRAIN")
    for index, test in enumerate(tests):
        if test is not None:
            own = solver.test_state[index] if index < len(solver.test_state) else None
            state = net_state(pb, "TEST", test.state, own)
            iterations = solver.test_iter[index] if index < len(solver.test_iter) else None
            yield net_in_state(test.layers, state, test.path, f"TEST#{index}" if index else "TEST", iterations)


def net_in_state(layers: list[Layer], state: Any, path: Path, name: str, test_iter: int | None = None) -> PhaseNet:
    """The net that Caffe builds of a file's layers in a ``NetState``."""
    return PhaseNet(name, _included(layers, state), test_iter, path, state)


def _included(layers: list[Layer], state: Any) -> list[Layer]:
    return [layer for layer in layers if included(layer.message, state)]
