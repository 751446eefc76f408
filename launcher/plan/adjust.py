"""What a solver asks for and the launcher does otherwise: changed here, and said."""

from __future__ import annotations

from caffebench.launcher.solver.solverfile import SolverFile, watch_interval

__all__ = ["adjust_solver"]

CPU, GPU = 0, 1
BINARYPROTO = 1


def adjust_solver(file: SolverFile, *, snapshots: str, on_gpu: bool) -> list[str]:
    """Put into the solver what the launcher decides: a sentence for each wish of the file that it overrules.

    ``snapshots`` is the path of the run's snapshots without ``_iter_N``.
    """
    solver, said = file.solver, []
    if solver.snapshot_prefix not in ("", snapshots, f"snapshots/{file.path.stem}"):
        said.append(f"snapshots go to {snapshots}_iter_N.*, not to its snapshot_prefix {solver.snapshot_prefix}")
    if solver.HasField("snapshot_format") and solver.snapshot_format != BINARYPROTO:
        said.append("snapshots are written as BINARYPROTO, which can be checked, not as HDF5")
    solver.snapshot_format = BINARYPROTO
    if solver.HasField("solver_mode") and solver.solver_mode == GPU and not on_gpu:
        said.append("it trains on the CPU, not on the GPU that its solver_mode names")
    if solver.HasField("solver_mode") and solver.solver_mode == CPU and on_gpu:
        said.append("it trains on a GPU, not on the CPU that its solver_mode names")
    solver.solver_mode = GPU if on_gpu else CPU
    if solver.HasField("device_id") and solver.device_id > 0:
        said.append(f"its device_id {solver.device_id} is not used: --gpu chooses the GPU")
    solver.ClearField("device_id")  # which one is decided when the run starts
    if not solver.snapshot_after_train:
        said.append("as its snapshot_after_train says, there will be no snapshot of its final weights")
    if solver.test_iter and solver.test_interval <= 0:
        solver.test_interval = solver.max_iter
        said.append("it is tested at its end (and start), although it has no test_interval, with which Caffe refuses")
    sentences = [f"{file.path} is not done to the letter: {'; '.join(said)}"] if said else []
    if solver.display <= 0:
        sentences.append(
            f"{file.path} has display: 0, so its log has no training curve; its loss is watched every "
            f"{watch_interval(solver)} iterations all the same"
        )
    if not solver.test_iter and not solver.test_net and not solver.test_net_param:
        sentences.append(f"{file.path} has no test_iter, so nothing is tested and there will be no accuracy")
    return sentences
