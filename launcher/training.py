"""Training one solver to its end, in the child process: Caffe's own ``Solve``, with our say before each iteration.

Caffe calls back before every iteration. There the random generator is seeded, the learning rate set and a request
to stop obeyed, by an exception that passes through Caffe's loop; so the log is the one that ``caffe train`` writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from caffebench.launcher.paths import RunPaths
from caffebench.launcher.seeds import derive_seed
from caffebench.launcher.snapshots import Record, publish

__all__ = ["TIME_IS_UP", "Stop", "StopRequest", "StopSign", "Training"]


class Stop(BaseException):
    """Leave Caffe's loop now, between two iterations or in the middle of a test."""


@dataclass(frozen=True)
class StopRequest:
    """Why a run is to stop, and whether its state is worth a snapshot."""

    status: str = "stopped"
    reason: str = "asked to stop"
    snapshot: bool = True


TIME_IS_UP = StopRequest(reason="the time limit is reached")


@dataclass
class StopSign:
    """The one place where a request to stop is left, by whoever has it, and read, between two iterations."""

    request: StopRequest | None = None
    deadline: float | None = None
    """``time.monotonic()``, the same in all processes, at which the state must be safe."""


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
    batch_size: int
    keep: int | None = None
    learning_rate: Callable[[int], float] | None = None
    start: int = 0
    """The iteration that this training begins at."""
    rank: int = 0
    """Which of several GPUs' processes this is."""
    sign: StopSign = field(default_factory=StopSign)

    def begin(self) -> None:
        """Hook into the solver; call it once the solver stands where training is to begin."""
        self._published = self.start
        self._batches_at_start = self.train_batches
        self._tests = list(self.test_batches)
        self._reserve, self._longest, self._looked = 0.5, 0.0, time.monotonic()
        self.solver.add_callback(self._before_iteration, _nothing)
        for number, net in enumerate(self.solver.test_nets):
            net.before_forward(self._test_watch(number))

    def solve(self, until: int) -> bool:
        """Train up to iteration ``until``: True when it was reached, False after a stop (``sign`` says why).

        At the solver's end that is Caffe's own ``Solve``, with its last snapshot and test; before, a snapshot.
        """
        last = until >= self.parameter.max_iter
        try:
            if last:
                self.solver.solve()
            else:
                self.solver.step(until - self.solver.iter)
        except Stop:
            request = self.sign.request or StopRequest()
            if request.snapshot and self.solver.iter > self._published:
                self._snapshot()
            self.caffe.log("Optimization stopped early.")
            return False
        self._settle()
        if last:
            self.caffe.log("Optimization Done.")  # the caffe tool says it once more after Solve has
        elif self._published < until:
            self._snapshot()
        return True

    def close(self) -> None:
        """Let go of the solver and its memory: Caffe keeps our callbacks, and through them all that we hold."""
        self.solver = None

    def _before_iteration(self) -> None:
        iteration = self.solver.iter
        self._settle()
        self._obey()
        self.test_batches = list(self._tests)
        self.prepare(iteration)

    def prepare(self, iteration: int) -> None:
        """Set the random generator and the learning rate as they are to be at an iteration."""
        if iteration % self.stride == 0 or iteration == self.start:
            self.caffe.set_random_seed(derive_seed(self.seed, iteration, self.rank))
        if self.learning_rate is not None:
            self.solver.param.base_lr = self.learning_rate(iteration)

    def _test_watch(self, number: int) -> Callable[[int], None]:
        def before_layer(layer: int) -> None:
            if layer == 0:
                self._settle()
                self._obey()
                self._tests[number] += 1

        return before_layer

    def _obey(self) -> None:
        if self.sign.deadline is not None:
            now = time.monotonic()
            self._longest = max(self._longest, now - self._looked)
            self._looked = now
            if now + self._longest + self._reserve > self.sign.deadline:
                self.sign.request = self.sign.request or TIME_IS_UP
        if self.sign.request is not None:
            raise Stop

    def _settle(self) -> None:
        """Publish the snapshot that Caffe has written at this iteration, if it has."""
        iteration = self.solver.iter
        if iteration == self._published:
            return
        every = self.parameter.snapshot
        due = (every and iteration % every == 0) or iteration == self.parameter.max_iter
        if due and self.paths.unfinished(iteration).state.is_file():
            self._publish()

    def _snapshot(self) -> None:
        self.solver.snapshot()
        self._publish()

    def _publish(self) -> None:
        iteration, start = int(self.solver.iter), time.monotonic()
        publish(
            self.paths,
            Record(
                iteration=iteration,
                seed=self.seed,
                train_batches=self._batches_at_start + (iteration - self.start) * self.parameter.iter_size,
                test_batches=tuple(self.test_batches),
                batch_size=self.batch_size,
                state_bytes=0,
                model_bytes=0,
                solver=self.text,
            ),
            keep=self.keep,
        )
        self._published = iteration
        # Reading both files back takes about as long as writing them did: room for one more at the time limit.
        self._reserve = max(self._reserve, 4 * (time.monotonic() - start))


def _nothing() -> None:
    """Caffe wants a second callback, for when the gradients are ready."""
