"""What the header of a solver asks for and this solver cannot do: asked before anything runs."""

from __future__ import annotations

from caffebench.common.caffe_facts import DATA_LAYERS
from caffebench.common.errors import InputError
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.solver.nets import built_layers
from caffebench.launcher.solver.schedule import learning_rate, parse_phases
from caffebench.launcher.solver.solverfile import SolverFile

__all__ = ["check_header"]


def check_header(file: SolverFile) -> None:
    """Raise ``InputError``, with the line in the file, for the first thing that cannot be done."""
    for key, check in (("phases", _check_phases), ("lr_schedule", _check_schedule), ("loader", _check_loader)):
        try:
            check(file)
        except InputError as error:
            raise InputError(f"{file.header_place(key)}: {error}") from None


def _check_schedule(file: SolverFile) -> None:
    learning_rate(file.header, file.solver.base_lr, file.solver.max_iter)


def _check_phases(file: SolverFile) -> None:
    phases = parse_phases(file.header, file.solver.max_iter)
    if not any(phase.batch_size for phase in phases):
        return
    sources = [layer for layer in built_layers(file.solver) if layer.type in DATA_LAYERS]
    ways_out = "leave batch_size out of the phases (iter_size and base_lr may vary), or read LMDBs"
    for layer in sources:
        if layer.type != "Data":
            raise InputError(
                f"a phase has a batch_size, and only Data layers take one: {layer.name} ({layer.type}) would go on "
                f"with its own: {ways_out}"
            )
    sizes = {layer.data_param.batch_size: layer.name for layer in sources}
    if not sizes:
        raise InputError(f"a phase has a batch_size, and the train net has no Data layer to take it: {ways_out}")
    if len(sizes) > 1:
        (one, first), (other, second), *_ = sizes.items()
        raise InputError(
            f"a phase has one batch_size, and the train net has several: {first} reads {one} images, {second} {other}: "
            "leave batch_size out of the phases (iter_size and base_lr may vary)"
        )


def _check_loader(file: SolverFile) -> None:
    if not file.header.get("loader"):
        return
    layers = [layer for layer in built_layers(file.solver) if layer.type == "Data"]
    if not layers:
        raise InputError("loading workers read LMDBs for Data layers, and the train net has none: leave loader out")
    for layer in layers:
        if layer.data_param.backend != caffe_pb2().DataParameter.LMDB:
            raise InputError(f"loading workers read LMDBs, and {layer.name} reads a LevelDB: leave loader out")
        for name in ("force_color", "force_gray"):
            if getattr(layer.transform_param, name):
                raise InputError(f"loading workers know no {name}, which {layer.name} has: leave one of the two out")
