"""Nets as a list of layers that can be changed: who reads what, what may work in place, layers put in and taken out.

A blob's name means, at each line, what the last layer above wrote under it (``Net::Init`` in ``src/caffe/net.cpp``). A
layer *works in place* where it writes under the name that it reads. A list holds the layers of all nets that a solver
builds. Layers of one name in several of them are *twins*: Caffe gives them the same weights, so they are one layer.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from caffebench.common.errors import InputError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.meaning.backward import in_place, spoils
from caffebench.generator.nets.presence import Presence

__all__ = ["LEARNS", "LINEAR", "Wiring", "in_place", "is_upsampling", "retitled"]

LINEAR = {"Convolution", "Deconvolution", "InnerProduct"}
_LEARNS_ON = LINEAR | {"LSTM", "RNN", "Embed"}
LEARNS = _LEARNS_ON | {"BatchNorm", "Bias", "PReLU", "Scale"}
"""What has weights, or statistics, of its own."""


class Wiring:
    """The layers of a solver's nets, in order, as ``LayerParameter`` messages that are changed in place."""

    def __init__(self, layers: Iterable[Any], new_layer: Any) -> None:
        """One net for both phases. ``layers`` may be changed from now on; ``new_layer`` is ``LayerParameter``."""
        state = caffe_messages().NetState
        self._begin([(list(layers), [state(phase=0), state(phase=1)])], new_layer)

    @classmethod
    def of_nets(cls, parts: Sequence[tuple[Sequence[Any], Sequence[Any]]], new_layer: Any) -> Wiring:
        """Several nets, each with the states in which the solver builds it; their layers are one list."""
        wiring = cls.__new__(cls)
        wiring._begin(parts, new_layer)
        return wiring

    def _begin(self, parts: Sequence[tuple[Sequence[Any], Sequence[Any]]], new_layer: Any) -> None:
        self._new_layer = new_layer
        self._presence = Presence(parts, caffe_messages().NetState)
        self._whole = [layer for layers, _ in parts for layer in layers]
        self._wrong_before = {(layer.name, blob) for layer, blob in self._wrongly_in_place()}

    @property
    def layers(self) -> list[Any]:
        """The layers that the solver builds; those of other stages stay as they are."""
        return [layer for layer in self._whole if self._presence.nets(layer)]

    @layers.setter
    def layers(self, layers: Iterable[Any]) -> None:
        self._whole = list(layers)

    def part(self, number: int) -> list[Any]:
        """All layers of one of the files, also those that the solver does not build."""
        return [layer for layer in self._whole if self._presence.part(layer) == number]

    def nets(self, layer: Any) -> frozenset[int]:
        """The nets with this layer that the solver builds, by number."""
        return self._presence.nets(layer)

    def built(self) -> Iterator[tuple[str, list[Any]]]:
        """The nets that the solver builds: the phase and the layers of each."""
        for net in self._presence.built:
            yield self._presence.phase(net), [layer for layer in self._whole if net in self.nets(layer)]

    def phases(self, layer: Any) -> frozenset[str]:
        """The phases of the nets that a layer is in."""
        return frozenset(map(self._presence.phase, self.nets(layer)))

    def twins(self, layer: Any) -> list[Any]:
        """The layers that are this one in one of the nets, itself too."""
        same = [one for one in self.layers if one.name == layer.name and one.type == layer.type]
        return [one for one in same if one is layer or not self.nets(one) & self.nets(layer)]

    def named(self, name: str) -> Any:
        """The first layer called ``name``, None if there is none."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def hint(self, name: str) -> str:
        """What to say of a name that no layer has: the nearest that one has."""
        names = [layer.name for layer in self.layers]
        if name in {layer.name for layer in self._whole}.difference(names):
            return ": it is of a stage or level that the solver does not build"
        near = difflib.get_close_matches(name, names, 1)
        return f": did you mean '{near[0]}'?" if near else ""

    def unique(self, name: str, like: Any = None) -> str:
        """``name``, or the first of ``name_2``, ``name_3``, ... that is no layer's and no blob's.

        With ``like``, in no net that this layer is in: what is put behind each of two twins may have one name.
        """
        of, nets = self._presence.everywhere, None if like is None else self._presence.everywhere(like)
        others = [layer for layer in self._whole if nets is None or nets & of(layer)]
        taken = {layer.name for layer in others} | {top for layer in others for top in layer.top}
        return next(one for one in [name, *(f"{name}_{n}" for n in range(2, len(taken) + 3))] if one not in taken)

    def new(self, name: str, kind: str, bottoms: Iterable[str], tops: Iterable[str], like: Any = None) -> Any:
        """A layer that is not in the net yet; to be in the nets of ``like`` where that is given."""
        layer = self._new_layer(name=name, type=kind, bottom=list(bottoms), top=list(tops))
        if like is not None:
            layer.include.extend(like.include)
            layer.exclude.extend(like.exclude)
        return layer

    def replace(self, layer: Any, new: Iterable[Any]) -> None:
        """Put layers in the place of one."""
        new, place = list(new), self._index(layer)
        self._presence.add(new, layer)
        self._whole[place : place + 1] = new

    def insert_after(self, layer: Any, new: Iterable[Any]) -> None:
        """Put layers in right behind one."""
        self.replace(layer, [layer, *new])

    def insert_before(self, layer: Any, new: Iterable[Any]) -> None:
        """Put layers in right before one."""
        self.replace(layer, [*new, layer])

    def remove(self, layer: Any, going: Sequence[Any] | None = None) -> None:
        """Take out a layer of one bottom and one top; who read it reads what it read.

        ``going`` are all that are taken out, by default its twins. Raises ``InputError`` where another net has another
        layer there, which would write over a blob that is read further on.
        """
        if not in_place(layer):
            blob, everywhere = layer.bottom[0], self._presence.everywhere
            gone = {id(one) for one in (layer, *(self.twins(layer) if going is None else going))}
            writers, readers = self._version(layer, 0)
            over = [one for one in writers if id(one) not in gone and self._below(one, blob, everywhere)]
            for one in over:
                if not any(one is reader for reader in readers):
                    raise InputError(_cannot_stay(one))
            if not over:
                self.rename(layer, 0, blob)
            for one in self._below(layer, layer.top[0], everywhere) if over else ():  # no more in place
                one.bottom[:] = [blob if bottom == layer.top[0] else bottom for bottom in one.bottom]
        self.replace(layer, [])

    def sources(self, layer: Any, number: int = 0) -> list[Any]:
        """The layers that write what ``layer`` reads as its bottom ``number``, the last above it in each net."""
        return self._above(layer, layer.bottom[number], self.nets)

    def writers(self, layer: Any) -> list[Any]:
        """All whose values ``layer`` writes over in place: the layer above it, and those above that one wrote over."""
        found: list[Any] = []
        for source in self.sources(layer):
            found += [source, *(self.writers(source) if in_place(source) else [])]
        return found

    def readers(self, layer: Any, number: int = 0, within: Collection[int] | None = None) -> list[tuple[Any, int]]:
        """Who reads top ``number`` of ``layer``, as (layer, index of its bottom), until another writes over it.

        ``within``: in these nets alone.
        """
        name = layer.top[number]
        below = self._below(layer, name, lambda one: self.nets(one).intersection(within or self.nets(one)))
        return [(one, index) for one in below for index, bottom in enumerate(one.bottom) if bottom == name]

    def after(self, layer: Any) -> list[Any]:
        """The layers that read any top of ``layer``, each once."""
        found = {id(one): one for number in range(len(layer.top)) for one, _ in self.readers(layer, number)}
        return list(found.values())

    def rename(self, layer: Any, number: int, name: str) -> None:
        """Give top ``number`` of a layer another name, for all who read it and write on over it in place.

        Who reads it may read another layer in another net: that one's top is renamed, too.
        """
        old = layer.top[number]
        writers, readers = self._version(layer, number)
        for one in writers:
            one.top[:] = [name if top == old else top for top in one.top]
        for one in readers:
            one.bottom[:] = [name if bottom == old else bottom for bottom in one.bottom]

    def _version(self, layer: Any, number: int) -> tuple[list[Any], list[Any]]:
        """Who writes and who reads under one name what is read for top ``number`` of ``layer`` in any net."""
        old, everywhere = layer.top[number], self._presence.everywhere
        writers, readers, left = {id(layer): layer}, dict[int, Any](), [layer]
        while left:
            for reader in self._below(left.pop(), old, everywhere):
                if id(reader) in readers:
                    continue
                readers[id(reader)] = reader
                for one in (*self._above(reader, old, everywhere), *([reader] if old in reader.top else [])):
                    if id(one) not in writers:
                        writers[id(one)] = one
                        left.append(one)
        return list(writers.values()), list(readers.values())

    def _index(self, layer: Any) -> int:
        return next(number for number, one in enumerate(self._whole) if one is layer)

    def _above(self, layer: Any, blob: str, nets: Callable[[Any], frozenset[int]]) -> list[Any]:
        """The last layer above that writes ``blob``, in each of the nets of ``layer``."""
        found: dict[int, Any] = {}
        above = self._whole[: self._index(layer)]
        for net in sorted(nets(layer)):
            last = next((one for one in reversed(above) if blob in one.top and net in nets(one)), None)
            found |= {} if last is None else {id(last): last}
        return list(found.values())

    def _below(self, layer: Any, blob: str, nets: Callable[[Any], frozenset[int]]) -> list[Any]:
        """Who reads ``blob`` below ``layer``, in each of its nets until another writes over it."""
        left, found = set(nets(layer)), []
        for one in self._whole[self._index(layer) + 1 :]:
            if blob in one.bottom and left & nets(one):
                found.append(one)
            if blob in one.top:
                left -= nets(one)
        return found

    def leads_to_linear(self) -> set[int]:
        """The layers, by ``id``, behind which another layer with weights follows, in any net: all but the outputs'."""
        found: set[int] = set()
        after = {id(layer): self.after(layer) for layer in self.layers}
        same = defaultdict[Any, list[Any]](list)
        for layer in self.layers:
            same[layer.name, layer.type].append(layer)
        count = -1
        while count < len(found):
            count = len(found)
            for layer in reversed(self.layers):
                follows = any(id(one) in found or _learns_on(one) for one in after[id(layer)])
                if follows and id(layer) not in found:
                    found |= {id(layer), *map(id, self.twins(layer) if len(same[layer.name, layer.type]) > 1 else [])}
        return found

    def heads(self) -> list[Any]:
        """The linear layers behind which none follows: those of the outputs. Upsampling has no outputs of its own."""
        hidden = self.leads_to_linear()
        linear = [layer for layer in self.layers if layer.type in LINEAR and not is_upsampling(layer)]
        return [layer for layer in linear if id(layer) not in hidden]

    def chain_above(self, layer: Any, through: set[str]) -> Any:
        """The layer that feeds ``layer``, seen through layers of the types ``through``; None where it is not one."""
        return next(iter(self.all_above(layer, through)), None)

    def all_above(self, layer: Any, through: set[str]) -> list[Any]:
        """The same as one layer for each net: of one kind on one blob they are one layer here."""
        found = [layer]
        while found and all(one.bottom for one in found):
            found = list({id(source): source for one in found for source in self.sources(one)}.values())
            if len({(one.type, *one.bottom) for one in found}) != 1:
                return []
            if found[0].type not in through:
                return found
        return []

    def repair(self) -> None:
        """Give a blob of its own to each layer that works in place where that has become wrong."""
        wrong: list[Any] = []
        for _ in range(len(self.layers) + 1):
            wrong = [layer for layer, blob in self._wrongly_in_place() if (layer.name, blob) not in self._wrong_before]
            if not wrong:
                return
            for layer in [one for one in wrong if in_place(one)]:  # with one, its twin gets a blob
                blobs = {top for one in self.layers for top in one.top}
                self.rename(layer, 0, self.unique(layer.name) if layer.name in blobs else layer.name)
        raise InputError(_cannot_stay(wrong[0]))

    def _wrongly_in_place(self) -> Iterator[tuple[Any, str]]:
        for layer in self.layers:
            if not in_place(layer):
                continue
            for source in self.sources(layer):
                readers = self.readers(source, list(source.top).index(layer.bottom[0]), self.nets(layer))
                if any(one is not layer for one, _ in readers):
                    yield layer, layer.bottom[0]
                    break
                if any(spoils(layer, one) for one in self.writers(layer)):
                    yield layer, layer.bottom[0]
                    break


def is_upsampling(layer: Any) -> bool:
    """Whether a layer enlarges what it reads and finds nothing in it: a bilinear or frozen Deconvolution."""
    frozen = bool(layer.param) and not layer.param[0].lr_mult
    return layer.type == "Deconvolution" and (frozen or layer.convolution_param.weight_filler.type == "bilinear")


def _cannot_stay(layer: Any) -> str:
    why = "it would write over what others read, where the other phase has no such layer any more"
    return f"layer {layer.name} ({layer.type}): {why}: change the layer of the other phase alike"


def _learns_on(layer: Any) -> bool:
    return layer.type in _LEARNS_ON and not is_upsampling(layer)


def retitled(name: str, old: str, new: str) -> str:
    """``relu1`` as ``tanh1``: the word for the layer's type in its name exchanged, where it is there."""
    return re.sub(re.escape(old), new.lower(), name, count=1, flags=re.IGNORECASE)
