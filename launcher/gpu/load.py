"""How busy GPUs are while runs train on them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

__all__ = ["GpuLoad"]


class GpuLoad:
    """How busy some GPUs are, as NVIDIA's management library says; says nothing where there is none."""

    def __init__(self, gpus: Sequence[int]) -> None:
        """Find the cards: that library numbers them all, CUDA only the visible ones, so they are matched by bus id."""
        self._handles: list[tuple[int, ctypes.c_void_p]] = []
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1") if gpus else None
            driver = ctypes.CDLL("libcuda.so.1") if gpus else None
        except OSError:
            return
        if self._library is None or driver is None or self._library.nvmlInit_v2() != 0 or driver.cuInit(0) != 0:
            return
        for gpu in gpus:
            name, device, handle = ctypes.create_string_buffer(32), ctypes.c_int(), ctypes.c_void_p()
            failed = (
                driver.cuDeviceGet(ctypes.byref(device), gpu)
                or driver.cuDeviceGetPCIBusId(name, len(name), device)
                or self._library.nvmlDeviceGetHandleByPciBusId_v2(name, ctypes.byref(handle))
            )
            if not failed:
                self._handles.append((gpu, handle))

    def line(self) -> str:
        """As in ``GPU 0 87 %, 3.1 of 139.8 GiB``; empty where nothing is known."""
        told = []
        for gpu, handle in self._handles:
            rates, memory = (ctypes.c_uint * 2)(), (ctypes.c_ulonglong * 3)()  # gpu, memory; total, free, used
            assert self._library is not None  # noqa: S101 - for the type checker: there is no handle without it
            if self._library.nvmlDeviceGetUtilizationRates(handle, rates) != 0:
                continue
            if self._library.nvmlDeviceGetMemoryInfo(handle, memory) != 0:
                continue
            told.append(f"GPU {gpu} {rates[0]} %, {memory[2] / 2**30:.1f} of {memory[0] / 2**30:.1f} GiB")
        return "; ".join(told)
