"""Exit codes that users' scripts rely on."""

from __future__ import annotations

from caffebench.common.errors import CaffebenchError, InputError, StoppedError


def test_exit_codes() -> None:
    assert [error.exit_code for error in (CaffebenchError, InputError, StoppedError)] == [1, 2, 3]


def test_who_catches_the_library_catches_all() -> None:
    assert issubclass(InputError, CaffebenchError)
    assert issubclass(StoppedError, CaffebenchError)
    # a bug, Ctrl-C or a full disk is none of them
    assert not issubclass(CaffebenchError, (OSError, ValueError, KeyboardInterrupt))
