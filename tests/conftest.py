"""Fixtures that several rooms' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real logs and hand-written prototxt of the published work, which are no part of this project."""
    folder = ROOT.parent / "shared"
    if not (folder / "published.csv").is_file():
        pytest.skip(f"the published originals are not beside this checkout ({folder})")
    return folder


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the digits LMDBs in it, made once: ``<root>/digits/{train,test}_lmdb``."""
    from caffebench.datasets.digits import make_digits

    root = tmp_path_factory.mktemp("data")
    make_digits(root / "digits")
    return root
