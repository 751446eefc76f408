"""Making batches out of an LMDB, as Caffe's Data layer does.

The process is ``python -m caffebench.launcher.data.batches TASK MEMORY``, two file descriptors. It reads its
``BatchTask`` from the first, then from standard input a byte for every free slot of the shared memory that is the
second; it answers with a byte for every batch. It ends when standard input does, so it never outlives its parent.
"""

from __future__ import annotations

import io
import mmap
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffebench.common.child_process import ignore_stop_signals, read_task
from caffebench.common.errors import InputError
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.data.records import open_lmdb

__all__ = ["BatchMaker", "BatchRecipe", "BatchTask", "main"]

FloatArray = np.ndarray[Any, np.dtype[np.float32]]
ByteArray = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class BatchRecipe:
    """Caffe's ``data_param`` and ``transform_param``, as far as they concern a batch."""

    source: str
    batch_size: int
    crop_size: int = 0
    mirror: bool = False
    scale: float = 1.0
    mean_values: tuple[float, ...] = ()
    mean_file: str = ""
    random_crop: bool = True
    """Crop at random places, as in the phase TRAIN, or in the middle."""
    seed: int = 0


@dataclass(frozen=True)
class BatchTask:
    """What one process is to make: every ``step``-th batch, from number ``first`` on, into that many slots in turn."""

    recipe: BatchRecipe
    first: int
    step: int
    slots: int


class BatchMaker:
    """Makes any batch of a recipe: batch n holds the records from n times the batch size on, round and round."""

    def __init__(self, recipe: BatchRecipe) -> None:
        """Open the database. Raises ``InputError`` for a mean that does not fit the images."""
        self.recipe = recipe
        self._environment = open_lmdb(recipe.source, readahead=False)
        self._transaction = self._environment.begin(buffers=True)
        self._cursor = self._transaction.cursor()
        self._records = self._environment.stat()["entries"]
        self._position = 0
        self._cursor.first()
        channels, self._height, self._width = _decode(self._cursor.value())[0].shape
        crop = recipe.crop_size
        self.shape = (recipe.batch_size, channels, crop or self._height, crop or self._width)
        self._mean = self._read_mean(channels)

    def close(self) -> None:
        """Close the database: LMDB allows a process to have it open once only."""
        self._transaction.abort()
        self._environment.close()

    def _read_mean(self, channels: int) -> FloatArray:
        """The mean to subtract, in a shape that broadcasts over a whole image."""
        recipe = self.recipe
        if recipe.mean_file:
            blob = caffe_pb2().BlobProto.FromString(Path(recipe.mean_file).read_bytes())
            mean = np.asarray(blob.data, np.float32)
            if mean.size != channels * self._height * self._width:
                raise InputError(f"{recipe.mean_file} is the mean of images of another size than in {recipe.source}")
            return mean.reshape(channels, self._height, self._width)
        if recipe.mean_values and len(recipe.mean_values) not in (1, channels):
            raise InputError(f"{recipe.source} has {channels} channels, not {len(recipe.mean_values)} as the means")
        return np.asarray(recipe.mean_values or (0.0,), np.float32).reshape(-1, 1, 1)

    def _seek(self, position: int) -> None:
        """Bring the cursor to a record, by its place in the order of keys: LMDB knows keys, not places."""
        if position < self._position:
            self._cursor.first()
            self._position = 0
        while self._position < position:
            self._cursor.next()
            self._position += 1

    def _take(self, count: int) -> Iterator[tuple[ByteArray | FloatArray, int]]:
        """The images and labels of the next ``count`` records, beginning anew after the last."""
        for _ in range(count):
            yield _decode(self._cursor.value())
            if self._cursor.next():
                self._position += 1
            else:
                self._cursor.first()
                self._position = 0

    def make(self, number: int, data: FloatArray, labels: FloatArray) -> None:
        """Write batch ``number`` into ``data``, of shape ``self.shape``, and ``labels``, of shape (batch,)."""
        recipe = self.recipe
        random = np.random.default_rng([recipe.seed, number])
        top, left = self._height - self.shape[2], self._width - self.shape[3]
        if recipe.random_crop:
            tops = random.integers(0, top + 1, recipe.batch_size)
            lefts = random.integers(0, left + 1, recipe.batch_size)
        else:
            tops, lefts = (np.full(recipe.batch_size, space // 2) for space in (top, left))
        mirrors = random.integers(0, 2, recipe.batch_size) if recipe.mirror else np.zeros(recipe.batch_size, int)
        self._seek(number * recipe.batch_size % self._records)
        whole_mean = self._mean.shape[1] > 1
        for index, (image, label) in enumerate(self._take(recipe.batch_size)):
            rows = slice(tops[index], tops[index] + self.shape[2])
            columns = slice(lefts[index], lefts[index] + self.shape[3])
            out = data[index, :, :, ::-1] if mirrors[index] else data[index]
            np.subtract(image[:, rows, columns], self._mean[:, rows, columns] if whole_mean else self._mean, out=out)
            labels[index] = label
        if recipe.scale != 1:
            data *= np.float32(recipe.scale)


def _decode(value: Any) -> tuple[ByteArray | FloatArray, int]:
    """The image of a ``Datum``, of shape (channels, height, width), and its label."""
    datum = caffe_pb2().Datum.FromString(bytes(value))
    if datum.encoded:
        from PIL import Image

        pixels = np.asarray(Image.open(io.BytesIO(datum.data)))
        # Caffe decodes with OpenCV, which orders the channels blue, green, red.
        image = pixels[np.newaxis] if pixels.ndim == 2 else pixels[:, :, 2::-1].transpose(2, 0, 1)
        return image, datum.label
    shape = (datum.channels, datum.height, datum.width)
    if datum.data:
        return np.frombuffer(datum.data, np.uint8).reshape(shape), datum.label
    return np.asarray(datum.float_data, np.float32).reshape(shape), datum.label


def main() -> None:
    """Make batches for as long as there are free slots."""
    ignore_stop_signals()
    task = read_task(BatchTask, int(sys.argv[1]))
    with open(0, "rb", buffering=0) as free, open(1, "wb", buffering=0) as full:
        maker = BatchMaker(task.recipe)
        size = int(np.prod(maker.shape))
        memory = mmap.mmap(int(sys.argv[2]), 0)
        slots = np.frombuffer(memory, np.float32).reshape(task.slots, size + maker.shape[0])
        turn = 0
        while free.read(1):
            slot = slots[turn % task.slots]
            maker.make(task.first + turn * task.step, slot[:size].reshape(maker.shape), slot[size:])
            full.write(b"\1")
            turn += 1


if __name__ == "__main__":
    main()
