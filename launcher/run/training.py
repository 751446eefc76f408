"""Training one solver to its end, in the child process: Caffe's own ``Solve``, with our say before each iteration.

Caffe calls back before every iteration. There the random generator is seeded, the learning rate set and a request
to stop obeyed, by an exception that passes through Caffe's loop; so the log is the one that ``caffe train`` writes.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from caffebench.launcher.run.divergence import Divergence, LossReader, TestLoss, layer_not_finite
from caffebench.launcher.run.final_test import run_tests
from caffebench.launcher.run.stopping import TIME_IS_UP, StopReason, StopTraining, TrainingStop
from caffebench.launcher.solver.identity import Identity
from caffebench.launcher.solver.solverfile import watch_interval
from caffebench.launcher.state.paths import RunPaths
from caffebench.launcher.state.python_state import PythonKeeper
from caffebench.launcher.state.record import DataState, SnapshotMetadata
from caffebench.launcher.state.seeds import derive_seed
from caffebench.launcher.state.snapshots import finalize

__all__ = ["Training"]


@dataclass
class Training:
    """One solver being trained, from where it stands to ``max_iter`` or a stop."""

    caffe: Any
    solver: Any
    parameter: Any
    """The ``SolverParameter`` that the solver was built from."""
    text: str
    paths: RunPaths
    seed: int
    stride: int
    """Seed the generator at every iteration that this divides."""
    train_batches: int
    """Batches that the train net's data layers have given out so far."""
    test_batches: list[int]
    data: tuple[DataState, ...] = ()
    """The data that the nets read."""
    keep: int | None = None
    learning_rate: Callable[[int], float] | None = None
    identity: Identity | None = None
    """What the run is of, for the records of its snapshots."""
    layers: Literal["caffe", "fast"] = "caffe"
    """Whose layers compute, for the same."""
    divergence: Divergence | None = None
    """None: a run that diverges is not stopped."""
    start: int = 0
    """The iteration that this training begins at."""
    rank: int = 0
    """Which of several GPUs' processes this is."""
    before_snapshot: Callable[[int], None] = field(default=lambda _iteration: None)
    """Called before the snapshot of an iteration counts: what was logged up to it must be safe by then."""
    stop: TrainingStop = field(default_factory=TrainingStop)

    @property
    def batch_size(self) -> int:
        """Records in a batch of the train net; 0 where that is not known."""
        return next((one.batch_size for one in self.data if one.net == "TRAIN"), 0)

    def begin(self) -> None:
        """Hook into the solver; call it once the solver stands where training is to begin."""
        self._finalized = self.start
        self._batches_at_start = self.train_batches
        self._tests = list(self.test_batches)
        self._python = PythonKeeper(self.solver)
        self._reserve, self._longest, self._last_check = 0.5, 0.0, time.monotonic()
        self._train_loss = LossReader(self.solver.net)
        self._test_losses = [TestLoss(net) for net in self.solver.test_nets]
        self._losses: deque[float] = deque(maxlen=max(self.parameter.average_loss, 1))
        self._watched_every = watch_interval(self.parameter)
        self.solver.add_callback(self._before_iteration, _nothing)
        if self._python.watches:  # before Caffe runs the net once more, for the last display
            self.solver.net.before_forward(lambda layer: None if layer else self._finalize_if_written())
        for number, net in enumerate(self.solver.test_nets):
            net.before_forward(self._test_watch(number))

    def solve(self, until: int) -> bool:
        """Train up to iteration ``until``: True when it was reached, False after a stop (``stop`` has the reason).

        At the solver's end that is Caffe's own ``Solve``, with its last snapshot, and a test of the final weights;
        before, a snapshot.
        """
        try:
            if until >= self.parameter.max_iter:
                return self._solve()
            self.solver.step(until - self.solver.iter)
            self._finalize_if_written()
            if self._finalized < until:
                self._snapshot()
        except StopTraining:
            reason = self.stop.reason or StopReason()
            if reason.snapshot and self.solver.iter > self._finalized:
                with suppress(StopTraining):  # weights that are not worth a snapshot
                    self._snapshot()
            self.caffe.log("Optimization stopped early.")
            return False
        return True

    def _solve(self) -> bool:
        self.solver.solve()
        self._finalize_if_written()
        # Of a run that was resumed at its end Caffe has written the last snapshot once more.
        self.paths.unfinished(self.solver.iter).remove()
        every = self.parameter.test_interval
        if not every or self.solver.iter % every:
            run_tests(self.caffe, self.solver, self.parameter)
        self.caffe.log("Optimization Done.")  # the caffe tool says it once more after Solve has
        reason = self._not_converged()
        if reason is not None:
            self.paths.snapshot(self.solver.iter).remove()
            self.stop.reason = StopReason("not_converged", reason, snapshot=False)
        return reason is None

    def close(self) -> None:
        """Let go of the solver and its memory: Caffe keeps our callbacks, and through them all that we hold."""
        self.solver = None

    def _before_iteration(self) -> None:
        iteration = self.solver.iter
        self._finalize_if_written()
        if iteration > self.start and (reason := self._diverged(iteration - 1)):
            self._give_up(reason)
        self._check_stop()
        self.test_batches = list(self._tests)
        self.prepare(iteration)

    def _diverged(self, iteration: int) -> str | None:
        """Why the run is beyond hope by the loss of ``iteration``, the last one; None if it is not."""
        loss = self._train_loss.read()
        self._losses.append(loss)
        if self.divergence is None:
            return None
        if not math.isfinite(loss) and layer_not_finite(self.solver.net):
            return f"the loss is {loss} at iteration {iteration}"
        if iteration % self._watched_every == 0:
            return self.divergence.update(iteration, sum(self._losses) / len(self._losses))
        return None

    def _not_converged(self) -> str | None:
        """Why a run that has come to its end is not converged all the same; None where it is."""
        iteration, display = int(self.solver.iter), self.parameter.display
        shown = display and iteration % display == 0  # then Caffe has run the net once more, on the final weights
        if reason := self._diverged(iteration if shown else iteration - 1):
            return reason
        if layer := layer_not_finite(self.solver.net):
            return f"the weights of layer {layer} are not finite numbers at the end, iteration {iteration}"
        if not math.isfinite(self._losses[-1]):
            return f"the loss is {self._losses[-1]} at the end, iteration {iteration}"
        if not all(watch.finite_at(iteration) for watch in self._test_losses):
            return f"the loss of the last test, at iteration {iteration}, is not a finite number"
        return None

    def _give_up(self, reason: str) -> None:
        self.stop.reason = StopReason("not_converged", reason, snapshot=False)
        raise StopTraining

    def prepare(self, iteration: int) -> None:
        """Set the random generator and the learning rate as they are to be at an iteration."""
        if iteration % self.stride == 0 or iteration == self.start:
            self.caffe.set_random_seed(derive_seed(self.seed, iteration, self.rank))
        if self.learning_rate is not None:
            self.solver.param.base_lr = self.learning_rate(iteration)

    def _test_watch(self, number: int) -> Callable[[int], None]:
        def before_layer(layer: int) -> None:
            if layer == 0:
                self._finalize_if_written()
                self._check_stop()
                if self._tests == self.test_batches:
                    self._python.before_tests()
                self._tests[number] += 1
                self._test_losses[number].before_batch(self.solver.iter)

        return before_layer

    def _check_stop(self) -> None:
        if self.stop.deadline is not None:
            now = time.monotonic()
            self._longest = max(self._longest, now - self._last_check)
            self._last_check = now
            if now + self._longest + self._reserve > self.stop.deadline:
                self.stop.request(TIME_IS_UP)
        if self.stop.reason is not None:
            raise StopTraining

    def _finalize_if_written(self) -> None:
        """Make final the snapshot that Caffe has written at this iteration, if it has."""
        iteration = self.solver.iter
        if iteration == self._finalized:
            return
        every = self.parameter.snapshot
        due = (every and iteration % every == 0) or iteration == self.parameter.max_iter
        if due and self.paths.unfinished(iteration).state.is_file() and self._worth_keeping(iteration):
            self._finalize_snapshot()

    def _snapshot(self) -> None:
        if self._worth_keeping(int(self.solver.iter)):
            self.solver.snapshot()
            self._finalize_snapshot()

    def _worth_keeping(self, iteration: int) -> bool:
        """Whether all weights are numbers; where they are not, a run that is watched is given up."""
        layer = layer_not_finite(self.solver.net)
        if layer is None:
            return True
        self.paths.unfinished(iteration).remove()
        self._finalized = iteration
        if self.divergence is not None:
            self._give_up(f"the weights of layer {layer} are not finite numbers at iteration {iteration}")
        return False

    def _finalize_snapshot(self) -> None:
        iteration, start = int(self.solver.iter), time.monotonic()
        self.before_snapshot(iteration)
        python_layers, python_random = self._python.look(self.solver, tested=self._tests != self.test_batches)
        finalize(
            self.paths,
            SnapshotMetadata(
                iteration=iteration,
                seed=self.seed,
                train_batches=self._batches_at_start + (iteration - self.start) * self.parameter.iter_size,
                test_batches=tuple(self.test_batches),
                solver=self.text,
                layers=self.layers,
                data=self.data,
                python_layers=python_layers,
                python_random=python_random,
                identity=self.identity,
            ),
            keep=self.keep,
        )
        self._finalized = iteration
        # Reading both files back takes about as long as writing them did: room for one more at the time limit.
        self._reserve = max(self._reserve, 4 * (time.monotonic() - start))


def _nothing() -> None:
    """Caffe wants a second callback, for when the gradients are ready."""
