"""A thousand and more changes of one line in nets of real size: each is found, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caffebench.generator.compare import compare
from caffebench.generator.meaning import Layer, PhaseNet, Prototxt, load_prototxt

ROOT = Path(__file__).parents[2]
FILES = {"bs128": 300, "googlenet": 300, "mobilenetv2_bs256": 250, "ghost_bn4_in32": 200}
ELEMENTWISE = ["ReLU", "TanH", "Sigmoid", "ELU", "BNLL", "AbsVal"]
# Fields that name or place something and have no meaning.
NAMING = {"name", "top", "source", "mean_file"}
Place = tuple[int, tuple[str | int, ...]]


def fields(message: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every single value that is written in a message: one line of its prototxt each."""
    for descriptor, value in message.ListFields():
        many = not isinstance(value, (int, float, str, bool)) and not hasattr(value, "ListFields")
        for index, one in enumerate(value if many else [value]):
            here = (*path, descriptor.name, index) if many else (*path, descriptor.name)
            if hasattr(one, "ListFields"):
                yield from fields(one, here)
            elif descriptor.name not in NAMING:
                yield here


def changed(layer: Layer, path: tuple[str | int, ...], tops: list[str], chance: random.Random) -> Layer | None:
    """The layer with another value at a path, None where the line has nothing that can be another."""
    message = type(layer.message)()
    message.CopyFrom(layer.message)
    owner, index = message, None
    names = list(path)
    if isinstance(names[-1], int):
        index = int(names.pop())
    for name in names[:-1]:
        owner = owner[name] if isinstance(name, int) else getattr(owner, name)
    field = str(names[-1])
    old = getattr(owner, field) if index is None else getattr(owner, field)[index]
    new: Any
    descriptor = owner.DESCRIPTOR.fields_by_name[field]
    if field == "bottom":
        choices = [top for top in tops if top not in message.bottom]
        new = chance.choice(choices) if choices else None
    elif field == "type" and owner is message:
        new = chance.choice([one for one in ELEMENTWISE if one != old]) if old in ELEMENTWISE else None
    elif field == "type":
        new = "msra" if old != "msra" else "xavier"
    elif descriptor.enum_type is not None:
        others = [one.number for one in descriptor.enum_type.values if one.number != old]
        new = chance.choice(others) if others and field not in ("phase", "backend", "engine") else None
    elif isinstance(old, bool):
        new = not old
    elif isinstance(old, (int, float)):
        new = old + 1 if isinstance(old, int) else old * 1.01 + 1e-3
    else:
        new = None
    if new is None or new == old:
        return None
    if index is None:
        setattr(owner, field, new)
    else:
        getattr(owner, field)[index] = new
    return replace(layer, message=message)


def with_layer(file: Prototxt, old: Layer, new: Layer) -> Prototxt:
    nets = [replace(net, layers=[new if one is old else one for one in net.layers]) for net in file.phases]
    return replace(file, phases=nets, layers=[new if one is old else one for one in file.layers])


def earlier_tops(file: Prototxt, layer: Layer) -> list[str]:
    """Blobs that a layer may read instead: made before it, in every net that has it, and not what it reads already."""
    made: list[set[str]] = []
    for net in file.phases:
        if layer in net.layers:
            tops = {top for one in net.layers[: net.layers.index(layer)] for top in one.message.top}
            made.append(tops)
    return sorted(set.intersection(*made) - set(layer.message.bottom) - {"label"}) if made else []


def has_effect(layer: Layer, path: tuple[str | int, ...]) -> bool:
    """Whether Caffe reads the line at all: no decay without a learning rate, no filler's field of another filler."""
    if path[-1] == "decay_mult":
        return bool(layer.message.param[int(path[1])].lr_mult)
    return path[-1] not in ("value", "min", "max", "mean", "std") or _filler_reads(layer, path)


def _filler_reads(layer: Layer, path: tuple[str | int, ...]) -> bool:
    owner = layer.message
    for name in path[:-1]:
        owner = owner[name] if isinstance(name, int) else getattr(owner, name)
    reads = {"constant": ("value",), "uniform": ("min", "max"), "gaussian": ("mean", "std")}
    return path[-1] in reads.get(getattr(owner, "type", ""), ())


@pytest.fixture(scope="module")
def count() -> Iterator[list[int]]:
    numbers: list[int] = []
    yield numbers
    if len(numbers) == len(FILES):
        assert sum(numbers) >= 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_change_of_a_line_is_found_and_nothing_else(name: str, count: list[int]) -> None:
    chance = random.Random(name)
    file = load_prototxt(ROOT / "prototxt" / f"{name}.prototxt")
    places = [(layer, path) for layer in file.layers for path in fields(layer.message) if has_effect(layer, path)]
    chance.shuffle(places)
    tried = 0
    for layer, path in places * 3:  # a small net's lines are changed more than once, each time otherwise
        if tried == FILES[name]:
            break
        if path[0] in ("include", "exclude"):
            continue
        new = changed(layer, path, earlier_tops(file, layer), chance)
        if new is None:
            continue
        tried += 1
        found = compare(file, with_layer(file, layer, new))
        line = f"{layer.name} ({layer.type}) {path}"
        assert found, line
        assert all(one.where.startswith(f"{layer.name} (") for one in found), (line, [str(one) for one in found])
        assert len({one.what for one in found}) == 1, (line, [str(one) for one in found])
        assert all(len(set(one.what.split(" -> "))) != 1 for one in found), "never two equal sides"
    assert tried == FILES[name]
    count.append(tried)


@pytest.mark.slow
def test_a_layer_less_or_twice_is_one_difference() -> None:
    file = load_prototxt(ROOT / "prototxt" / "googlenet.prototxt")
    for layer in [one for one in file.layers if one.type in ("ReLU", "LRN", "Dropout")][::6]:
        top, bottom = layer.message.top[0], layer.message.bottom[0]
        if top == bottom:
            less = [replace(net, layers=[one for one in net.layers if one is not layer]) for net in file.phases]
            (found,) = compare(file, replace(file, phases=less))
            assert str(found).startswith(f"{layer.name} ({layer.type}): only in A, after")
        twice = [
            replace(net, layers=[two for one in net.layers for two in ([one, again(one)] if one is layer else [one])])
            for net in file.phases
        ]
        (found,) = compare(file, replace(file, phases=twice))
        assert "only in B" in found.what


def again(layer: Layer) -> Layer:
    """The same layer once more, in place on its own top."""
    message = type(layer.message)()
    message.CopyFrom(layer.message)
    message.bottom[0] = message.top[0]
    return replace(layer, message=message)


def test_phase_nets_are_told_apart() -> None:
    file = load_prototxt(ROOT / "prototxt" / "bs128.prototxt")
    assert [type(net) for net in file.phases] == [PhaseNet, PhaseNet]
    assert compare(file, file) == []
