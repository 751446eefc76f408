"""``edit:``: any field of any layer, by the layer's name or type, or of the solver."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.base.draft import refuse
from caffebench.generator.base.finetuning import agree, specs_of
from caffebench.generator.meaning import written
from caffebench.generator.meaning.settings import parameter_count
from caffebench.generator.variants.expressions import evaluate

__all__ = ["edit_layers", "edit_solver", "refuse_unused"]

_CHOOSES = {"layer", "type", "phase", "solver", "remove"}


def edit_solver(solver: Any, edits: list[dict[str, Any]], values: Mapping[str, Any]) -> None:
    """The entries of an ``edit`` that are of the solver. Raises ``InputError``."""
    for entry in edits:
        if not entry.keys() & {"layer", "type", "solver"}:
            raise InputError(f"edit: {_shown(entry)} says neither 'layer: NAME', 'type: TYPE' nor 'solver: true'")
        if "solver" in entry:
            if entry.keys() & {"layer", "type", "phase", "remove"}:
                raise InputError(f"edit: {_shown(entry)} is of the solver and of layers: make two of it")
            for path, value in _changes(entry):
                if path.partition(".")[0] in ("net", "net_param", "train_net", "train_net_param", "test_net_param"):
                    raise InputError(f"edit: {path}: the layers of the net are chosen with 'layer' or 'type'")
                _put(solver, path, value, values, "solver")


def edit_layers(wiring: Any, edits: list[dict[str, Any]], values: Mapping[str, Any]) -> set[int]:
    """Apply the entries that are of layers; the numbers of those for which there was a layer. Raises ``InputError``."""
    used, put = set(), set()
    for number, entry in enumerate(edits):
        if "solver" in entry:
            used.add(number)
            continue
        layers = [layer for layer in wiring.layers if _chosen(layer, entry, wiring.phases(layer))]
        if "phase" in entry:
            _see_one_phase(wiring, layers, entry)
        used |= {number} if layers else set()
        for layer in layers:
            if entry.get("remove") is True:
                if len(layer.bottom) != 1 or len(layer.top) != 1:
                    raise InputError(f"edit: layer {layer.name} has not one bottom and one top: it cannot be taken out")
                wiring.remove(layer, layers)
                continue
            for path, value in _changes(entry):
                if not path.startswith("param.") or _see_specs(layer, path):
                    _put(layer, path, value, values, f"layer {layer.name}")
                    put.add(number)
            if any(path.startswith("param.") for path in entry):
                _share(wiring, layer)
        if layers and "remove" not in entry and number not in put:
            raise InputError(f"edit: no layer that {_shown(_choice(entry))} chooses has weights of its own")
    return used


def _see_one_phase(wiring: Any, layers: list[Any], entry: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for a layer of both phases: a change that is asked for one would be made in the other."""
    for layer in layers:
        if len(wiring.phases(layer)) > 1:
            why = "it serves both phases, and 'phase' is for layers of one: leave it out, or make it two in the base"
            raise InputError(f"edit: layer {layer.name}, chosen by {_shown(_choice(entry))}: {why}")


def refuse_unused(edits: list[dict[str, Any]], used: set[int], wiring: Any) -> None:
    """Raise ``InputError`` for an entry that no layer of any net was chosen by."""
    for number, entry in enumerate(edits):
        if number not in used:
            hint = wiring.hint(str(entry.get("layer", "")))
            raise InputError(f"edit: no layer is chosen by {_shown(_choice(entry))}{hint}")


def _choice(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key in ("layer", "type", "phase")}


def _see_specs(layer: Any, path: str) -> bool:
    """Whether a layer has weights that a path into ``param`` is of; all of them have an entry then."""
    number = path.split(".")[1]
    count = len(specs_of(layer))
    if number.isdigit() and parameter_count(layer) is not None and int(number) >= count:
        raise refuse(layer, f"{path}: it has {count} blobs of weights, and they are counted from 0")
    return number.isdigit() or count > 0


def _share(wiring: Any, layer: Any) -> None:
    """The rates of weights that other layers share are theirs, too."""
    if layer.type == "BatchNorm" and any(spec.lr_mult for spec in layer.param):
        raise refuse(layer, "its statistics do not learn: Caffe takes no lr_mult but 0")
    agree(wiring, {spec.name: (spec.lr_mult, spec.decay_mult) for spec in layer.param})


def _shown(entry: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in entry.items()) + "}"


def _changes(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    changes = [(path, value) for path, value in entry.items() if path not in _CHOOSES]
    if not changes:
        raise InputError(f"edit: {_shown(entry)} changes nothing: give a field, as in convolution_param.num_output: 32")
    return iter(changes)


def _chosen(layer: Any, entry: Mapping[str, Any], phases: frozenset[str]) -> bool:
    patterns = entry.get("layer", "*")
    patterns = patterns if isinstance(patterns, list) else [patterns]
    return (
        any(fnmatchcase(layer.name, str(pattern)) for pattern in patterns)
        and entry.get("type", layer.type) == layer.type
        and entry.get("phase", next(iter(sorted(phases)), "")) in phases
    )


def _put(message: Any, path: str, value: Any, values: Mapping[str, Any], where: str) -> None:
    """Set the field at a dotted path; a number in it chooses one of a list, without one all of the list are set."""
    name, _, rest = path.partition(".")
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        near = difflib.get_close_matches(name, message.DESCRIPTOR.fields_by_name, 1)
        hint = f": did you mean '{near[0]}'?" if near else ""
        raise InputError(f"edit: {where} has no field '{name}' in a {message.DESCRIPTOR.name}{hint}")
    inner = getattr(message, name)
    repeated = not isinstance(inner, int | float | str | bytes | bool) and not hasattr(inner, "DESCRIPTOR")
    if value is None and not rest:
        message.ClearField(name)
    elif field.message_type is not None:
        _put_inside(inner, repeated, rest, value, values, f"{where}: {name}")
    elif rest:
        raise InputError(f"edit: {where}: {name} is a value, there is nothing called '{rest}' in it")
    elif repeated:
        new = value if isinstance(value, list) else [value]
        old = list(inner)
        old = old if len(old) == len(new) else [old[0] if len(old) == 1 else None] * len(new)
        inner[:] = [_value(field, was, one, values, f"{where}: {name}") for was, one in zip(old, new, strict=True)]
    else:
        setattr(message, name, _value(field, inner, value, values, f"{where}: {name}"))


def _put_inside(inner: Any, repeated: bool, rest: str, value: Any, values: Mapping[str, Any], where: str) -> None:
    if not rest:
        raise InputError(f"edit: {where} has fields of its own: name one, as in {where.rpartition(' ')[2]}.FIELD")
    if not repeated:
        _put(inner, rest, value, values, where)
        return
    number, _, after = rest.partition(".")
    if number.isdigit() and after:
        while len(inner) <= int(number) < 64:
            inner.add()
        if int(number) >= 64:
            raise InputError(f"edit: {where}.{number}: there are not that many")
        _put(inner[int(number)], after, value, values, where)
        return
    if not inner:
        inner.add()
    for one in inner:
        _put(one, rest, value, values, where)


def _value(field: Any, old: Any, value: Any, values: Mapping[str, Any], where: str) -> Any:
    """A new value of the field's kind; ``"* 2"`` and its like are worked out from the old one."""
    if field.enum_type is not None:
        known = field.enum_type.values_by_name
        if str(value) not in known:
            raise InputError(f"edit: {where} must be one of {', '.join(known)}, not {value}")
        return known[str(value)].number
    kinds = {field.CPPTYPE_BOOL: bool, field.CPPTYPE_STRING: str}
    kinds |= dict.fromkeys((field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE), float)
    kind = kinds.get(field.cpp_type, int)
    if kind is bool or kind is str:
        if not isinstance(value, kind):
            raise InputError(f"edit: {where} must be {'true or false' if kind is bool else 'a text'}, not {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"edit: {where} must be a number, not {value!r}")
    text = str(value).strip()
    if re.match(r"[*/+]|- ", text):
        if old is None:
            raise InputError(f"edit: {where}: '{text}' needs one old value, and there is none")
        text = f"{written(old)} {text}"
    number = evaluate(text, values)
    if not isinstance(number, Fraction):
        raise InputError(f"edit: {where}: '{value}' is no number")
    if kind is int:
        number = Fraction(round(number))
        if not -(2**31) <= number < 2**32:
            raise InputError(f"edit: {where}: {number} is no number of 32 bits")
        return int(number)
    return float(number)
