"""The quick way to ``import caffe`` leaves out nothing for good."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from caffebench.engine.pycaffe import import_caffe
caffe = import_caffe()
assert caffe.SGDSolver and caffe.Net and caffe.Layer
assert "skimage" not in sys.modules and "scipy" not in sys.modules
transformer = caffe.io.Transformer({"data": (1, 1, 8, 8)})
assert "skimage" in sys.modules
from caffe.io import load_image
import caffe.io
assert caffe.io.load_image is load_image
assert import_caffe() is caffe
"""


@pytest.mark.caffe
def test_caffe_io_comes_when_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
