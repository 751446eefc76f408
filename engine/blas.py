"""Which processor Caffe's OpenBLAS computes for: it takes those that are newer than itself for one of 2004.

Debian 12's (0.3.21) falls back to the kernels of Prescott on a Xeon of 2023, and plain Caffe trains there at a third of
its pace. OpenBLAS obeys ``OPENBLAS_CORETYPE``, which it reads when it is loaded, so it has to be told beforehand.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from caffebench.common.errors import CaffebenchError
from caffebench.engine.locate import caffe_folder

__all__ = ["CORE_TYPE", "blas_environment", "chosen_core_type", "fitting_core_type"]

CORE_TYPE = "OPENBLAS_CORETYPE"
"""The environment variable."""
_BEFORE_AVX = {"prescott", "core2", "penryn", "dunnington", "nehalem", "atom", "nano"}
_BEFORE_AVX |= {"athlon", "opteron", "opteron_sse3", "barcelona", "bobcat"}
_FITTING = (("SkylakeX", {"avx512f", "avx512bw", "avx512dq", "avx512vl"}), ("Haswell", {"avx2", "fma"}))
_ASK = """
import ctypes, sys
ask = ctypes.CDLL(sys.argv[1]).openblas_get_corename  # found in what the library needs
ask.restype = ctypes.c_char_p
print(ask().decode())
"""


def fitting_core_type(features: set[str]) -> str | None:
    """The widest kernels of OpenBLAS for a processor with these ``flags`` of /proc/cpuinfo; None before AVX2."""
    return next((name for name, needed in _FITTING if needed <= features), None)


def chosen_core_type() -> str | None:
    """What OpenBLAS takes this processor for, of its own accord or told to; None where Caffe's BLAS is another one."""
    try:
        library = next(iter(caffe_folder().glob("libcaffe.so*")), None)
    except CaffebenchError:
        return None
    if library is None:
        return None
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-I", "-S", "-c", _ASK, str(library)]  # a process of its own: 0.04 s
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.stdout.strip() or None


@cache
def blas_environment() -> dict[str, str]:
    """The variables that a process which computes with Caffe needs: none, where OpenBLAS knows what it runs on."""
    fitting = fitting_core_type(_features())
    if CORE_TYPE in os.environ or fitting is None or (chosen_core_type() or "").lower() not in _BEFORE_AVX:
        return {}
    return {CORE_TYPE: fitting}


def _features() -> set[str]:
    try:
        found = re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        return set()
    return set(found[1].split()) if found else set()
