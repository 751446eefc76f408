"""Caffe as a wheel: built on one machine, installed by pip on others, without root and without a compiler.

`make` puts the built Caffe, its `caffe` tool and every library that it needs into one file; `install` puts such a file
into the current Python environment. What is inside is Caffe as `engine.build` built it: nothing is compiled anew but
the tool, which becomes a library that the interpreter loads (`caffe_script`).
"""

from __future__ import annotations

__all__ = ["DISTRIBUTION"]

DISTRIBUTION = "caffebench-caffe"
"""The name under which pip knows the wheel; the package in it is ``caffe``."""
