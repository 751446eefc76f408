"""Packages that the base installation does without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from caffebench.common.errors import InputError

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(extra: str, why: str) -> Iterator[None]:
    """Around the imports of what ``extra`` of this package brings: ``InputError`` that says ``why`` and the command.

    >>> with needs_extra("frames", "tables in Python need Polars"):
    ...     import polars
    """
    try:
        yield
    except ImportError as error:
        raise InputError(f"{why}: pip install 'caffebench[{extra}]'") from error
