"""Reading LMDBs back, through Caffe's own Data layer and directly, and the command that is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from caffebench.datasets.cli import main

Pixels = NDArray[np.float32]


@pytest.fixture
def read_by_caffe(tmp_path: Path) -> Callable[..., tuple[Pixels, Pixels]]:
    """``read(lmdb, count, transform="")``: the first ``count`` images and labels as a Data layer gives them."""
    import caffe

    def read(lmdb: Path, count: int, transform: str = "") -> tuple[Pixels, Pixels]:
        prototxt = tmp_path / "read.prototxt"
        prototxt.write_text(
            f"""
            layer {{
              name: "data" type: "Data" top: "data" top: "label"
              transform_param {{ {transform} }}
              data_param {{ source: "{lmdb}" batch_size: {count} backend: LMDB }}
            }}
            """
        )
        net = caffe.Net(str(prototxt), caffe.TEST)
        net.forward()
        return net.blobs["data"].data.copy(), net.blobs["label"].data.copy()

    return read


@pytest.fixture
def records() -> Callable[[Path], dict[bytes, bytes]]:
    """``records(lmdb)``: all keys and values, in the order in which Caffe reads them."""

    def read(path: Path) -> dict[bytes, bytes]:
        with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
            return {bytes(key): bytes(value) for key, value in transaction.cursor()}

    return read


@pytest.fixture
def refused() -> Callable[..., str]:
    """``refused(*arguments)``: run make-lmdb, expect wrong input, return the one line that it says."""

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 2, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1
        assert result.stdout == ""
        assert lines[0].startswith("make-lmdb: ")
        return lines[0].removeprefix("make-lmdb: ")

    return run


@pytest.fixture
def have_debian_package() -> Callable[[str], None]:
    """Sees to it that a package is installed, as root; skips the test, saying why, where it cannot be had."""
    from caffebench.common.errors import CaffebenchError
    from caffebench.engine.system import require_system_packages

    def have(package: str) -> None:
        try:
            require_system_packages(lambda _: None, [package])
        except CaffebenchError as error:
            pytest.skip(str(error))

    return have
