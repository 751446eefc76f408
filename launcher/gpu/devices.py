"""Which device a run trains on."""

from __future__ import annotations

import ctypes

from caffebench.common.errors import InputError
from caffebench.engine.cards import cuda_driver

__all__ = ["choose_gpus", "count_gpus"]


def count_gpus() -> int:
    """The number of GPUs that answer, after ``CUDA_VISIBLE_DEVICES``; 0 without a driver."""
    driver, count = cuda_driver(), ctypes.c_int(0)
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def choose_gpus(gpu: str | None, cpu: bool, *, built: bool, present: int) -> tuple[int, ...]:
    """The GPU ids to use, none for the CPU.

    ``gpu`` is the option's value ("0", "0,1", "all") or None, ``cpu`` the other option; ``built`` says whether
    this Caffe can use a GPU, ``present`` how many GPUs there are. Raises ``InputError``.
    """
    if gpu is not None and cpu:
        raise InputError("--gpu and --cpu exclude each other: give one of them")
    if cpu or (gpu is None and not (built and present)):
        return ()
    if gpu is None:
        return (0,)
    if not built:
        raise InputError(
            "this Caffe was built for the CPU only: build one with install-caffe --cuda, or leave out --gpu"
        )
    if not present:
        raise InputError("no GPU answers on this machine (is the driver loaded?): leave out --gpu to use the CPU")
    if gpu == "all":
        return tuple(range(present))
    valid = "0" if present == 1 else f"0 to {present - 1}"
    try:
        ids = tuple(int(part) for part in gpu.split(","))
    except ValueError:
        raise InputError(f"--gpu {gpu}: give ids separated by commas ({valid}), or all") from None
    for number in ids:
        if not 0 <= number < present:
            raise InputError(f"there is no GPU {number} here: valid ids are {valid}")
    if len(set(ids)) != len(ids):
        raise InputError(f"--gpu {gpu} names a GPU twice")
    return ids
