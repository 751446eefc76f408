"""A net as a list of layers that can be changed: who reads what, what may work in place, layers put in and taken out.

A blob's name means, at each line, what the last layer above wrote under it (``Net::Init`` in ``src/caffe/net.cpp``). A
layer *works in place* where it writes under the name that it reads. A list holds the layers of both phases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from caffebench.generator.meaning.backward import in_place, spoils

__all__ = ["LINEAR", "PHASES", "Wiring", "in_place", "phases_of", "retitled"]

PHASES = ("TRAIN", "TEST")
LINEAR = {"Convolution", "Deconvolution", "InnerProduct"}
_LEARNS_ON = LINEAR | {"LSTM", "RNN", "Embed"}


def phases_of(layer: Any) -> frozenset[str]:
    """The phases in which a layer may be part of the net."""
    found = set()
    for number, phase in enumerate(PHASES):
        included = any(not rule.HasField("phase") or rule.phase == number for rule in layer.include)
        if layer.include and not included:
            continue
        if any(rule.phase == number and _only_phase(rule) for rule in layer.exclude if rule.HasField("phase")):
            continue
        found.add(phase)
    return frozenset(found)


def _only_phase(rule: Any) -> bool:
    return [field.name for field, _ in rule.ListFields()] == ["phase"]


class Wiring:
    """The layers of one net, in order, as ``LayerParameter`` messages that are changed in place."""

    def __init__(self, layers: Iterable[Any], new_layer: Any) -> None:
        """``layers`` may be changed from now on; ``new_layer`` is the class ``LayerParameter``."""
        self.layers = list(layers)
        self._new_layer = new_layer
        self._phases: dict[int, tuple[Any, frozenset[str]]] = {}
        self._wrong_before = {(layer.name, blob) for layer, blob in self._wrongly_in_place()}

    def phases(self, layer: Any) -> frozenset[str]:
        """The phases that a layer is in; asked often, so it is kept."""
        if id(layer) not in self._phases:
            self._phases[id(layer)] = (layer, phases_of(layer))  # the layer too, or its id could come again
        return self._phases[id(layer)][1]

    def index(self, layer: Any) -> int:
        """Where the layer stands."""
        return next(number for number, one in enumerate(self.layers) if one is layer)

    def named(self, name: str) -> Any:
        """The first layer called ``name``, None if there is none."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def unique(self, name: str) -> str:
        """``name``, or the first of ``name_2``, ``name_3``, ... that is no layer's and no blob's."""
        taken = {layer.name for layer in self.layers} | {top for layer in self.layers for top in layer.top}
        return next(one for one in [name, *(f"{name}_{n}" for n in range(2, len(taken) + 3))] if one not in taken)

    def new(self, name: str, kind: str, bottoms: Iterable[str], tops: Iterable[str], like: Any = None) -> Any:
        """A layer that is not in the net yet; in the phases of ``like`` where that is given."""
        layer = self._new_layer(name=name, type=kind, bottom=list(bottoms), top=list(tops))
        if like is not None:
            layer.include.extend(like.include)
            layer.exclude.extend(like.exclude)
        return layer

    def insert_after(self, layer: Any, new: Iterable[Any]) -> None:
        """Put layers in right behind one."""
        place = self.index(layer) + 1
        self.layers[place:place] = list(new)

    def insert_before(self, layer: Any, new: Iterable[Any]) -> None:
        """Put layers in right before one."""
        place = self.index(layer)
        self.layers[place:place] = list(new)

    def sources(self, layer: Any, number: int = 0) -> list[Any]:
        """The layers that write what ``layer`` reads as its bottom ``number``, the last above it in each phase."""
        found: list[Any] = []
        above = self.layers[: self.index(layer)]
        for phase in sorted(self.phases(layer)):
            for one in reversed(above):
                if phase in self.phases(one) and layer.bottom[number] in one.top:
                    found += [one] if not any(one is other for other in found) else []
                    break
        return found

    def writers(self, layer: Any) -> list[Any]:
        """All whose values ``layer`` writes over in place: the layer above it, and those above that one wrote over."""
        found: list[Any] = []
        for source in self.sources(layer):
            found += [source, *(self.writers(source) if in_place(source) else [])]
        return found

    def readers(self, layer: Any, number: int = 0) -> list[tuple[Any, int]]:
        """Who reads top ``number`` of ``layer``, as (layer, index of its bottom), until another writes over it."""
        name, phases = layer.top[number], set(self.phases(layer))
        found = []
        for one in self.layers[self.index(layer) + 1 :]:
            common = phases & self.phases(one)
            if not common:
                continue
            found += [(one, index) for index, bottom in enumerate(one.bottom) if bottom == name]
            if name in one.top:
                phases -= common
        return found

    def after(self, layer: Any) -> list[Any]:
        """The layers that read any top of ``layer``, each once."""
        found: list[Any] = []
        for number in range(len(layer.top)):
            for one, _ in self.readers(layer, number):
                found += [one] if not any(one is other for other in found) else []
        return found

    def rename(self, layer: Any, number: int, name: str) -> None:
        """Give top ``number`` of a layer another name, for all who read it and write on over it in place."""
        old, phases = layer.top[number], set(self.phases(layer))
        layer.top[number] = name
        for one in self.layers[self.index(layer) + 1 :]:
            common = phases & self.phases(one)
            reads = old in one.bottom
            if common and reads:
                one.bottom[:] = [name if bottom == old else bottom for bottom in one.bottom]
            if common and old in one.top:
                if reads:
                    one.top[:] = [name if top == old else top for top in one.top]
                else:
                    phases -= common

    def remove(self, layer: Any) -> None:
        """Take out a layer of one bottom and one top; who read it reads what it read."""
        if not in_place(layer):
            self.rename(layer, 0, layer.bottom[0])
        del self.layers[self.index(layer)]

    def leads_to_linear(self) -> set[int]:
        """The layers, by ``id``, behind which another layer with weights follows: all but the outputs' own."""
        found: set[int] = set()
        for layer in reversed(self.layers):
            if any(one.type in _LEARNS_ON or id(one) in found for one in self.after(layer)):
                found.add(id(layer))
        return found

    def heads(self) -> list[Any]:
        """The linear layers behind which none follows: those of the outputs."""
        hidden = self.leads_to_linear()
        return [layer for layer in self.layers if layer.type in LINEAR and id(layer) not in hidden]

    def chain_above(self, layer: Any, through: set[str]) -> Any:
        """The layer that feeds ``layer``, seen through layers of the types ``through``; None where it is not one."""
        while layer.bottom:
            sources = self.sources(layer)
            # A layer for each phase, of one kind on one blob, is one layer here: BatchNorm was often written so.
            if len({(one.type, *one.bottom) for one in sources}) != 1:
                return None
            layer = sources[0]
            if layer.type not in through:
                return layer
        return None

    def replace(self, layer: Any, new: Iterable[Any]) -> None:
        """Put layers in the place of one."""
        place = self.index(layer)
        self.layers[place : place + 1] = list(new)

    def repair(self) -> None:
        """Give a blob of its own to each layer that works in place where that has become wrong."""
        for _ in self.layers:
            wrong = [layer for layer, blob in self._wrongly_in_place() if (layer.name, blob) not in self._wrong_before]
            if not wrong:
                return
            for layer in wrong:
                blobs = {top for one in self.layers for top in one.top}
                self.rename(layer, 0, self.unique(layer.name) if layer.name in blobs else layer.name)

    def _wrongly_in_place(self) -> Iterator[tuple[Any, str]]:
        for layer in self.layers:
            if not in_place(layer):
                continue
            for source in self.sources(layer):
                top = list(source.top).index(layer.bottom[0])
                if len(self.readers(source, top)) > 1 and any(
                    one is not layer and self.phases(one) & self.phases(layer) for one, _ in self.readers(source, top)
                ):
                    yield layer, layer.bottom[0]
                    break
                if any(spoils(layer, one) for one in self.writers(layer)):
                    yield layer, layer.bottom[0]
                    break


def retitled(name: str, old: str, new: str) -> str:
    """``relu1`` as ``tanh1``: the word for the layer's type in its name exchanged, where it is there."""
    return re.sub(re.escape(old), new.lower(), name, count=1, flags=re.IGNORECASE)
