"""Reading an LMDB back through Caffe's own Data layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

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
