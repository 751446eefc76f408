"""The graphics cards of this machine, asked of the driver; nothing of Caffe or CUDA's toolkit is needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

__all__ = ["Card", "cards", "cuda_driver"]

# CUdevice_attribute of cuda.h
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Card:
    """One card, after ``CUDA_VISIBLE_DEVICES``."""

    name: str
    arch: str
    """Its compute capability without the dot, "90" for 9.0."""
    memory: int
    """Bytes in all."""


def cuda_driver() -> ctypes.CDLL | None:
    """CUDA's driver library, ready to be called; None without a driver or a card."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None


def cards() -> list[Card]:
    """The cards that answer, in the driver's order; none without a driver."""
    driver = cuda_driver()
    count = ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = []
    for number in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
        failed = (
            driver.cuDeviceGet(ctypes.byref(device), number)
            or driver.cuDeviceGetName(name, len(name), device)
            or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
            or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
            or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
        )
        if not failed:
            found.append(Card(name.value.decode(), f"{major.value}{minor.value}", memory.value))
    return found
