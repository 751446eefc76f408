"""Reading a solver prototxt, ours or anybody's, and filling in what the launcher decides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffebench.common.caffe_facts import SOLVER_TYPES
from caffebench.common.errors import InputError
from caffebench.common.files import read_text
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.solver.netfile import NAMING, read_net

__all__ = [
    "SolverFile",
    "changed_settings",
    "names_nets",
    "parse_solver",
    "read_solver",
    "solver_settings",
    "solver_type",
    "watch_interval",
]

DATA_ROOT = "data"
"""The data root that generated files are written for."""


@dataclass
class SolverFile:
    """A solver prototxt: the parsed ``SolverParameter``, and what our header says."""

    path: Path
    solver: Any
    header: dict[str, Any]
    """What ``read_header`` found."""
    header_lines: dict[str, int]
    """The line of each key of the header."""
    net_files: tuple[Path, ...]
    """The files that its nets came from."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the file itself and of the nets that it names."""
        return tuple(dict.fromkeys(path.parent for path in (self.path, *self.net_files)))

    def header_place(self, key: str) -> str:
        """``FILE:LINE`` of a key of the header."""
        return f"{self.path}:{self.header_lines.get(key, 1)}"

    def nets(self) -> Iterator[Any]:
        """Every ``NetParameter`` inside, train and test."""
        if self.solver.HasField("net_param"):
            yield self.solver.net_param
        if self.solver.HasField("train_net_param"):
            yield self.solver.train_net_param
        yield from self.solver.test_net_param

    def move_data(self, root: Path) -> None:
        """Take what layers read under ``data/`` from ``root`` instead; all else stays as it is.

        Raises ``InputError`` for a list of files there which names some that are still under ``data/``.
        """
        for layer in (layer for net in self.nets() for layer in net.layer):
            for message, field in NAMING:
                named = getattr(getattr(layer, message), field)
                if (moved := _moved(named, root)) != named:
                    setattr(getattr(layer, message), field, moved)
                    if field == "source" and message in ("hdf5_data_param", "image_data_param"):
                        _check_list(moved, layer.image_data_param.root_folder, root)

    def text(self) -> str:
        """The solver as text, as Caffe is to read it."""
        from google.protobuf import text_format

        return str(text_format.MessageToString(self.solver))


def read_solver(path: Path) -> SolverFile:
    """Read a solver prototxt; nets that it names as files are taken in, so that the result stands alone.

    Raises ``InputError``: no such file, not prototxt, or a net where a solver belongs.
    """
    from caffebench.common.header import header_lines, read_header  # YAML, of which the child needs nothing

    try:
        text = read_text(path)
    except FileNotFoundError:
        raise InputError(
            f"no such file: {path} (generated files: gen-prototxt SWEEP writes them to prototxt/)"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    header = read_header(text, path)
    solver = parse_solver(text, path)
    return SolverFile(path, solver, header, header_lines(text), _take_in_nets(solver, path))


def _moved(named: str, root: Path) -> str:
    """What a layer of a generated file names, with another data root; a root folder is put before names as it is."""
    first, _, rest = os.path.normpath(named).partition("/")
    slash = "/" if named.endswith("/") else ""
    return f"{root / rest}{slash}" if first == DATA_ROOT and (rest or slash) else named


def _check_list(path: str, folder: str, root: Path) -> None:
    """Refuse a list of files, by its first line, that names what the old data root has."""
    try:
        with open(path, errors="replace") as lines:
            first = folder + lines.readline(4096).strip()
    except OSError:
        return  # a list that is not there is refused with all else that is not
    if _moved(first, root) != first:
        raise InputError(
            f"{path} lists {first}, which --data-root {root} does not move: write into it where its files are, or "
            "leave --data-root out"
        )


def parse_solver(text: str, path: Path | str) -> Any:
    """Parse the text of a solver into a ``SolverParameter``; ``path`` is for messages. Raises ``InputError``."""
    from google.protobuf import text_format

    pb2 = caffe_pb2()
    try:
        solver = text_format.Parse(text, pb2.SolverParameter())
    except text_format.ParseError as error:
        if _parses(text, pb2.NetParameter()):
            raise InputError(
                f"{path} is a net, not a solver: give a solver prototxt that names it with "
                f'net: "{path}" and says base_lr, lr_policy and max_iter'
            ) from None
        raise InputError(f"{path} is not a solver prototxt that Caffe can read: line {error}") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deep: it is not a solver prototxt") from None
    nets = ("net", "net_param", "train_net", "train_net_param")
    named = [field for field in nets if solver.HasField(field)]
    if len(named) != 1:
        found = " and ".join(named) or "none of them"
        raise InputError(f"{path} must name its training net in exactly one of {', '.join(nets)}; it has {found}")
    return solver


def solver_settings(solver: Any) -> str:
    """The text of a ``SolverParameter`` without its nets."""
    from google.protobuf import text_format

    settings = type(solver)()
    settings.CopyFrom(solver)
    for field in ("net_param", "train_net_param", "test_net_param"):
        settings.ClearField(field)
    return str(text_format.MessageToString(settings))


def _parses(text: str, message: Any) -> bool:
    from google.protobuf import text_format

    try:
        text_format.Parse(text, message)
    except text_format.ParseError:
        return False
    return bool(message.ListFields())


def _take_in_nets(solver: Any, path: Path) -> tuple[Path, ...]:
    """Replace ``net: FILE`` and its like by the file's content, so that a run's log and records say it all.

    All that comes later sees nets of today's form, inside the solver. Returns the files of the nets.
    """
    files = []

    def taken_in(name: str) -> Any:
        file, net = read_net(name, path)
        files.append(file)
        return net

    for name, inline in (("net", "net_param"), ("train_net", "train_net_param")):
        if solver.HasField(name):
            getattr(solver, inline).CopyFrom(taken_in(getattr(solver, name)))
            solver.ClearField(name)
    solver.test_net_param.extend([taken_in(name) for name in solver.test_net])
    solver.ClearField("test_net")
    return tuple(files)


def solver_type(solver: Any) -> str:
    """The type of a ``SolverParameter``: one of ``SOLVER_TYPES``, also where the old ``solver_type`` names it."""
    if not solver.HasField("solver_type"):
        return str(solver.type)
    old = solver.SolverType.Name(solver.solver_type)
    return next(name for name in SOLVER_TYPES if name.upper() == old)


LOOKS = 100
"""Checks of the loss in a run whose solver displays nothing."""


def watch_interval(parameter: Any) -> int:
    """Iterations between two looks at the loss: those of ``display`` of a ``SolverParameter``, which may be 0."""
    return int(parameter.display) or max(1, parameter.max_iter // LOOKS)


_NET_FIELDS = ("net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param")


def names_nets(solver: Any) -> bool:
    """Whether a solver has nets as files; in a record, of an earlier version, which left nets of an old form there."""
    return bool(solver.net or solver.train_net or solver.test_net)


def changed_settings(old: Any, new: Any) -> list[str]:
    """``_changed_fields`` of two solvers; of nets only where the old one, in a record, has them inside."""
    if names_nets(old):
        old, new = (_without_nets(one) for one in (old, new))
    return _changed_fields(old, new)


def _without_nets(solver: Any) -> Any:
    found = type(solver)()
    found.CopyFrom(solver)
    for field in _NET_FIELDS:
        found.ClearField(field)
    return found


def _changed_fields(old: Any, new: Any, where: str = "") -> list[str]:
    """What differs between two protobuf messages of one type, as ``field: old -> new``, in field order."""
    found = []
    for one in old.DESCRIPTOR.fields:
        a, b = getattr(old, one.name), getattr(new, one.name)
        name = f"{where}{one.name}"
        if a == b:
            continue
        if one.message_type is None:
            shown = [_show(one, value) for value in (a, b)]
            found.append(f"{name}: {shown[0]} -> {shown[1]}")
        elif isinstance(a, type(old)) or hasattr(a, "DESCRIPTOR"):
            found += _changed_fields(a, b, f"{name}.")
        elif len(a) != len(b):
            found.append(f"{name}: {len(a)} -> {len(b)} of them")
        else:
            for index, (x, y) in enumerate(zip(a, b, strict=True)):
                label = getattr(x, "name", "") or str(index)
                found += _changed_fields(x, y, f"{name}[{label}].")
    return found


def _show(field: Any, value: Any) -> str:
    if field.enum_type is not None and isinstance(value, int):
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if isinstance(value, str | int) else str(list(value))
