"""How a run ended, and the exit codes that say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caffebench.common.errors import ExitCode

__all__ = ["EXIT_CODES", "Outcome", "Status", "exit_code"]

Status = Literal["done", "stopped", "crashed", "not_converged", "refused"]
EXIT_CODES: dict[Status, ExitCode] = {
    "done": ExitCode.DONE,
    "stopped": ExitCode.STOPPED,
    "crashed": ExitCode.FAILED,
    "not_converged": ExitCode.FAILED,
    "refused": ExitCode.INPUT,
}
"""Of a run's training process, and of a command with that run alone."""
_WORST_FIRST = (ExitCode.FAILED, ExitCode.INPUT, ExitCode.STOPPED)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``refused`` is an error in what was asked for, found when the run was to start."""

    run: str
    status: Status
    iteration: int
    reason: str
    log: Path | None = None
    accuracy: float | None = None
    """Of the test of the final weights, where the run is done."""
    test_loss: float | None = None

    @property
    def score(self) -> str:
        """What a finished run has come to, in words; empty where it was not tested."""
        if self.accuracy is not None:
            return f"accuracy {self.accuracy:.4f}"
        return "" if self.test_loss is None else f"test loss {self.test_loss:.4g}"

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that this outcome alone stands for."""
        return EXIT_CODES[self.status]


def exit_code(outcomes: Iterable[Outcome]) -> ExitCode:
    """The command's exit code: a failure counts more than wrong input, and that more than a stop."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in _WORST_FIRST if code in codes), ExitCode.DONE)
