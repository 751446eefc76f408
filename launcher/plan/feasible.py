"""What Caffe would give up on, or worse not notice, asked of the files alone: one line before anything runs."""

from __future__ import annotations

from typing import Any

from caffebench.common.caffe_facts import LR_POLICIES, SOLVER_TYPES
from caffebench.common.errors import InputError
from caffebench.engine.features import caffe_has_leveldb, caffe_has_opencv
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.solver.netfile import old_form
from caffebench.launcher.solver.nets import built_nets
from caffebench.launcher.solver.solverfile import SolverFile, solver_type

__all__ = ["check_feasible"]

IMAGE_LAYERS = ("ImageData", "WindowData", "VideoData")
OPENCV = (
    "and this Caffe was built without OpenCV: make an LMDB of the images with make-lmdb folder SRC OUT, "
    "or build OpenCV in: install-caffe --opencv"
)


def check_feasible(file: SolverFile) -> None:
    """Raise ``InputError`` for the first thing in a solver or its nets that no Caffe, or this one, can do."""
    solver = file.solver
    if "lr_schedule" not in file.header and solver.lr_policy not in LR_POLICIES:
        named = f"has an unknown lr_policy {solver.lr_policy!r}" if solver.lr_policy else "has no lr_policy"
        raise InputError(f"{file.path} {named}: choose one of {', '.join(LR_POLICIES)}")
    if "lr_schedule" not in file.header and solver.lr_policy == "step" and solver.stepsize <= 0:
        raise InputError(
            f"{file.path} has lr_policy step and no stepsize above 0, by which Caffe divides: add stepsize"
        )
    if solver_type(solver) not in SOLVER_TYPES:
        raise InputError(
            f"{file.path} has an unknown solver type {solver.type!r}: choose one of {', '.join(SOLVER_TYPES)}"
        )
    for net in file.nets():
        if old := old_form(net):
            raise InputError(
                f"{file.path} holds a net {old}, which Caffe upgrades in files only: move it to a file of its own and "
                'name that with net: "FILE"'
            )
    for built in built_nets(file.solver):
        for layer in built.layers:
            _check_layer(layer, file)


def _check_layer(layer: Any, file: SolverFile) -> None:
    if layer.type in IMAGE_LAYERS and not caffe_has_opencv():
        raise InputError(f"layer {layer.name} of {file.path} ({layer.type}) reads image files, {OPENCV}")
    if layer.type == "Data" and layer.data_param.backend == caffe_pb2().DataParameter.LEVELDB:
        if caffe_has_leveldb():
            return
        if not layer.data_param.HasField("backend"):
            raise InputError(
                f"layer {layer.name} of {file.path} has no backend, so Caffe takes {layer.data_param.source} for a "
                "LevelDB, and this Caffe was built without: for an LMDB add backend: LMDB, for a LevelDB "
                "install-caffe --leveldb"
            )
        raise InputError(
            f"layer {layer.name} of {file.path} reads a LevelDB ({layer.data_param.source}), and this Caffe was built "
            "without: build it in with install-caffe --leveldb, or make an LMDB with make-lmdb and set backend: LMDB"
        )
