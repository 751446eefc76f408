"""What a check finds: one row of the table."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """One measurement; ``passed`` is None where there is nothing to pass, or where it could not be measured."""

    check: str
    what: str
    measured: str
    wanted: str = ""
    passed: bool | None = None

    @property
    def verdict(self) -> str:
        """The last column."""
        return {True: "ok", False: "FAILED", None: ""}[self.passed]
