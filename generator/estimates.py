"""What the variants of a sweep would take here: epochs, images a second, hours, memory, disk of their snapshots."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from caffebench.common.caffe_facts import DATA_LAYERS
from caffebench.common.errors import InputError
from caffebench.common.header import read_header
from caffebench.common.terminal import Column, table, wrapped
from caffebench.engine.messages import caffe_messages
from caffebench.engine.speed import images_per_second
from caffebench.generator.base.userfile import data_layers, nets_of, train_layers
from caffebench.generator.nets.shapes import data_shape, infer
from caffebench.generator.nets.summary import count, training_bytes

__all__ = ["Estimate", "estimates", "estimates_table"]

_MEASURED_BATCH = 16
"""Nets are measured at this batch size or their own, whichever is smaller: images a second hardly depend on it."""


@dataclass(frozen=True)
class Estimate:
    """One variant; what is not known is None. ``memory`` and ``disk`` are in bytes."""

    name: str
    iterations: int
    images: int
    epochs: float | None
    speed: float | None
    memory: int | None
    disk: int | None

    @property
    def hours(self) -> float | None:
        """The time of the training steps alone, tests not counted."""
        return None if not self.speed else self.images / self.speed / 3600


def estimates(
    texts: Mapping[str, str], measure: Callable[[Any, int], float | None] = images_per_second
) -> list[Estimate]:
    """An estimate of each file; nets that are the same but for their batch size are measured once."""
    from google.protobuf import text_format

    measured: dict[str, float | None] = {}
    found = []
    for name, text in texts.items():
        header = read_header(text, name)
        solver = text_format.Parse(text, caffe_messages().SolverParameter())
        layers = train_layers(nets_of(solver))
        shape = header.get("shape")
        records = {layer.name: shape for layer in layers if layer.type == "Data"} if shape else {}
        batch = next((int(message.batch_size) for _, message in data_layers(layers)), 1)
        images = _images(header, solver, batch)
        shapes = infer(layers, records)
        weights = count(shapes).parameters
        dummy = _without_data(layers, records, min(batch, _MEASURED_BATCH))
        speed = None
        if dummy is not None:
            key = str(dummy)
            if key not in measured:
                measured[key] = measure(dummy, min(batch, _MEASURED_BATCH))
            speed = measured[key]
        kept = -(-solver.max_iter // solver.snapshot) if solver.snapshot else 1
        found.append(
            Estimate(
                name=name,
                iterations=solver.max_iter,
                images=images,
                epochs=images / header["train_size"] if "train_size" in header else None,
                speed=speed,
                memory=training_bytes(shapes, solver.type),
                disk=None if weights is None else 8 * weights * kept,  # weights, and the solver's history of each
            )
        )
    return found


def estimates_table(found: list[Estimate]) -> str:
    """The estimates as a table, and what its columns mean."""
    columns = [
        Column("variant", text=True),
        Column("iterations"),
        Column("epochs", rank=1),
        Column("images/s", rank=2),
        Column("hours"),
        Column("memory MB", rank=3),
        Column("snapshots MB", rank=4),
    ]
    rows = [
        (
            one.name,
            str(one.iterations),
            _number(one.epochs, 1),
            _number(one.speed, 0 if (one.speed or 0) >= 10 else 2),
            _number(one.hours, _digits(one.hours)),
            _number(one.memory, 0, 1e6),
            _number(one.disk, 0, 1e6),
        )
        for one in found
    ]
    meaning = (
        f"images/s: measured here, a few training steps on one core of the CPU at a batch of {_MEASURED_BATCH} or the "
        "variant's own; hours: the training steps alone; ?: not known"
    )
    return f"{table(columns, rows)}\n{wrapped(meaning, indent='')}"


def _digits(hours: float | None) -> int:
    """So many that seconds show as well, two of them."""
    if not hours or hours >= 0.1:
        return 0 if (hours or 0) >= 100 else 2
    return 1 - math.floor(math.log10(hours))


def _number(value: float | None, digits: int, unit: float = 1) -> str:
    return "?" if value is None else f"{value / unit:,.{digits}f}"


def _images(header: Mapping[str, Any], solver: Any, batch: int) -> int:
    """The images that a run trains on, through all its phases."""
    images, before = 0, 0
    for phase in header.get("phases") or []:
        size = phase.get("batch_size", batch) * phase.get("iter_size", solver.iter_size)
        images += (min(phase["until"], solver.max_iter) - before) * size
        before = min(phase["until"], solver.max_iter)
    return int(images + (solver.max_iter - before) * batch * solver.iter_size)


def _without_data(layers: list[Any], records: Mapping[str, Any], batch: int) -> Any:
    """The training net with made-up data of the right shape, None where that is not known."""
    net = caffe_messages().NetParameter()
    for layer in layers:
        if layer.type not in DATA_LAYERS:
            copy = net.layer.add()
            copy.CopyFrom(layer)
            for shape in copy.dummy_data_param.shape:  # slopes of RReLU, one for each value of a batch
                shape.dim[0] = batch
            continue
        try:
            shape = data_shape(layer, records.get(layer.name))
        except InputError:
            shape = None
        if shape is None:
            return None
        dummy = net.layer.add(name=layer.name, type="DummyData", top=layer.top)
        dummy.dummy_data_param.shape.add(dim=(batch, *shape[1:]))
        dummy.dummy_data_param.data_filler.add(type="constant", value=1)  # drawn once: no time of the steps
        for _ in layer.top[1:]:
            dummy.dummy_data_param.shape.add(dim=(batch,))
            dummy.dummy_data_param.data_filler.add(type="constant")
    return net
