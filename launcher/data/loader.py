"""A Data layer with worker processes: a Caffe Python layer that is put in the place of ``Data``.

Caffe's own layer reads, crops and converts in one thread. Here as many processes as asked for prepare whole batches
in shared memory, worker w the batches w, w + W, w + 2W...; the layer takes them in that order, so the order of
records is the one of the database, as with Caffe, and does not depend on timing. Random crops and mirrors are drawn
from (seed, batch), so that any batch can be made without those before it: a resume costs nothing.
"""

from __future__ import annotations

import mmap
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import caffe
import numpy as np

from caffebench.common.child_process import block_sigterm, memory_file, task_file
from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.isolated import module_command
from caffebench.launcher.data.batches import BatchMaker, BatchRecipe, BatchTask

__all__ = ["DataLoader", "replace_data_layer"]

SLOTS = 2
"""Batches that each worker may be ahead."""


@dataclass(frozen=True)
class _LayerTask:
    """What a layer is to load: every ``step``-th batch of a recipe, from number ``first`` on."""

    recipe: BatchRecipe
    workers: int
    first: int
    step: int


_TASKS: dict[str, _LayerTask] = {}
"""By the layer's first blob, which is its own, as its name need not be. Caffe keeps a layer's parameters in the
``.caffemodel``, where it must not stand at which batch a session began, nor with how many workers."""


def replace_data_layer(layer: Any, *, workers: int, seed: int, start: int, rank: int = 0, ranks: int = 1) -> None:
    """Turn a ``LayerParameter`` of type Data, of the phase TRAIN, into this layer, to begin with batch ``start``.

    Of several processes that train one net, ``rank`` takes every batch whose number leaves it over ``ranks``.
    Raises ``InputError`` for a transformation that this layer does not know.
    """
    if workers < 1:
        raise InputError(f"loader: workers must be at least 1, not {workers}")
    data, transform = layer.data_param, layer.transform_param
    recipe = BatchRecipe(
        source=data.source,
        batch_size=data.batch_size,
        crop_size=transform.crop_size,
        mirror=transform.mirror,
        scale=transform.scale,
        mean_values=tuple(transform.mean_value),
        mean_file=transform.mean_file,
        random_crop=True,
        seed=seed,
    )
    layer.type = "Python"
    layer.python_param.module = __name__
    layer.python_param.layer = DataLoader.__name__
    layer.python_param.param_str = layer.top[0]
    _TASKS[layer.top[0]] = _LayerTask(recipe, workers, first=start * ranks + rank, step=ranks)
    layer.ClearField("data_param")
    layer.ClearField("transform_param")


@dataclass
class _Worker:
    """One process and the shared memory that it fills; a byte each way says that a slot is full or free."""

    process: subprocess.Popen[bytes]
    slots: np.ndarray[Any, np.dtype[np.float32]]
    free: IO[bytes]
    full: IO[bytes]


class DataLoader(caffe.Layer):  # type: ignore[misc]
    """The layer: tops data, of shape (batch, channels, height, width), and label, of shape (batch,)."""

    def setup(self, bottom: Any, top: Any) -> None:
        """Start the workers."""
        task = _TASKS[self.param_str]
        self.turn = 0
        maker = BatchMaker(task.recipe)
        self.shape = maker.shape
        maker.close()
        self.workers = [
            _start(task.recipe, self.shape, task.first + number * task.step, task.workers * task.step)
            for number in range(task.workers)
        ]

    def reshape(self, bottom: Any, top: Any) -> None:
        """Shape the tops; the shapes never change."""
        top[0].reshape(*self.shape)
        if len(top) > 1:
            top[1].reshape(self.shape[0])

    def forward(self, bottom: Any, top: Any) -> None:
        """Hand out the next batch."""
        worker = self.workers[self.turn % len(self.workers)]
        if worker.full.read(1) != b"\1":
            raise CaffebenchError(f"a data-loading worker died, with code {worker.process.wait()}: see the lines above")
        slot = worker.slots[self.turn // len(self.workers) % SLOTS]
        size = int(np.prod(self.shape))
        top[0].data[...] = slot[:size].reshape(self.shape)
        if len(top) > 1:
            top[1].data[...] = slot[size:]
        with suppress(BrokenPipeError):  # told by the next read
            worker.free.write(b"\1")
        self.turn += 1

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        """Nothing flows back into data."""


def _start(recipe: BatchRecipe, shape: tuple[int, ...], first: int, step: int) -> _Worker:
    """Start the process that makes batches ``first``, ``first + step``... of the recipe."""
    size = int(np.prod(shape)) + shape[0]
    task = BatchTask(recipe, first, step, SLOTS)
    with memory_file("batches", b"") as memory_descriptor, task_file(task) as descriptor:
        os.ftruncate(memory_descriptor, SLOTS * size * 4)
        with block_sigterm():
            process = subprocess.Popen(
                module_command("caffebench.launcher.data.batches", str(descriptor), str(memory_descriptor)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(descriptor, memory_descriptor),
                bufsize=0,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # it ends with the pipe, not with a signal to the group
            )
        memory = mmap.mmap(memory_descriptor, SLOTS * size * 4)
    assert process.stdin is not None  # noqa: S101 - for the type checker: both are pipes
    assert process.stdout is not None  # noqa: S101
    process.stdin.write(b"\1" * SLOTS)
    slots = np.frombuffer(memory, np.float32).reshape(SLOTS, size)
    return _Worker(process, slots, process.stdin, process.stdout)
