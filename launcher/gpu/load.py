"""How busy GPUs are while runs train on them, as NVIDIA's management library (NVML) knows it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from caffebench.engine.cards import cuda_driver

__all__ = ["GpuLoad"]


class GpuLoad:
    """The load of some GPUs; unknown without the package nvidia-ml-py (``caffebench[gpu]``) or without a driver."""

    def __init__(self, gpus: Sequence[int]) -> None:
        """Find the cards: NVML numbers them all, CUDA only the visible ones, so they are matched by bus id."""
        self._handles: list[tuple[int, Any]] = []
        driver = cuda_driver() if gpus else None
        if driver is None:
            return
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return
        for gpu in gpus:
            name, device = ctypes.create_string_buffer(32), ctypes.c_int()
            if driver.cuDeviceGet(ctypes.byref(device), gpu) or driver.cuDeviceGetPCIBusId(name, len(name), device):
                continue
            try:
                self._handles.append((gpu, pynvml.nvmlDeviceGetHandleByPciBusId(name.value)))
            except pynvml.NVMLError:
                continue

    def line(self) -> str:
        """As in ``GPU 0 87 %, 3.1 of 139.8 GiB``; empty where nothing is known."""
        if not self._handles:
            return ""
        import pynvml

        found = []
        for gpu, handle in self._handles:
            try:
                busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            except pynvml.NVMLError:
                continue
            found.append(f"GPU {gpu} {busy} %, {memory.used / 2**30:.1f} of {memory.total / 2**30:.1f} GiB")
        return "; ".join(found)
