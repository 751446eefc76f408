"""The configuration of a run under flat names, and where the configurations of several runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caffebench.analysis.runs.text_format import Message, first

if TYPE_CHECKING:
    from caffebench.analysis.runs.model import Run

__all__ = ["FlatConfig", "differences", "net_text", "settings"]

FlatConfig = dict[str, str]
"""Name of a setting -> its value in words."""

_WORDS = {"variant", "label", "comment", "default", "published_accuracy", "published_logloss"}
"""Keys of a generated file's header that configure nothing."""


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_words, value))
    return str(value)


def _flat(message: Message, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, values in message.items():
        plain = [one for one in values if not isinstance(one, dict)]
        if plain:
            yield prefix + name, ", ".join(map(_words, plain))
        inner = [one for one in values if isinstance(one, dict)]
        for place, one in enumerate(inner, 1):
            yield from _flat(one, f"{prefix}{name}{f'[{place}]' if len(inner) > 1 else ''}.")


def settings(run: Run) -> FlatConfig:
    """What is known of how ``run`` was trained, its net apart: recovered figures, solver fields, header."""
    config = run.config
    found: dict[str, Any] = {
        "batch size": config.batch_size,
        "GPUs": config.gpus if config.gpus > 1 else None,
        "classes": run.classes,
        "images of an epoch": run.train_size,
        "images of a test": config.test_images,
        "training data": config.train_source,
    }
    flat = {name: _words(value) for name, value in found.items() if value is not None}
    flat.update(_flat({name: values for name, values in config.solver.items() if not name.endswith("net_param")}))
    flat.update({f"# {name}": _words(value) for name, value in run.header.items() if name not in _WORDS})
    return flat


def _layers(run: Run) -> dict[str, FlatConfig]:
    """Name of each layer -> its fields; layers of one name (train and test data) are told apart by their phase."""
    found: dict[str, FlatConfig] = {}
    layers = [one for name in ("layer", "layers") for one in run.config.net.get(name, []) if isinstance(one, dict)]
    for layer in layers[:-1] if run.config.cut else layers:
        name = str(first(layer, "name"))
        phase = first(layer, "include", "phase")
        name += f" ({phase})" if phase else ""
        while name in found:
            name += "'"
        found[name] = dict(_flat({key: value for key, value in layer.items() if key not in ("name", "include")}))
    return found


def differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each setting in which the runs are not all alike: ``{"group": "solver" | "net", "name", "values"}``.

    ``values`` has one of each run, None where the run lacks the setting. Of a layer that some runs lack only the type
    is listed, not its every field. What a log does not tell, as a net or the part of it that glog cut, is compared with
    nothing.
    """
    rows = [{"group": "solver", **row} for row in _unlike([settings(run) for run in runs])]
    nets = [_layers(run) for run in runs]
    told = [net for net in nets if net]
    names = list(dict.fromkeys(name for net in told for name in net))
    for name in names:
        if all(name in net or not net or run.config.cut for net, run in zip(nets, runs, strict=True)):
            inner = _unlike([net.get(name) for net in nets])
            rows += [{"group": "net", "name": f"{name}: {row['name']}", "values": row["values"]} for row in inner]
        else:
            types = [net[name].get("type", "?") if name in net else None for net in nets]
            rows.append({"group": "net", "name": name, "values": types})
    return rows


def _unlike(every: Sequence[FlatConfig | None]) -> Iterator[dict[str, Any]]:
    told = [one for one in every if one]
    for name in dict.fromkeys(name for one in told for name in one):
        if len({one.get(name) for one in told}) > 1:
            yield {"name": name, "values": [one.get(name) if one else None for one in every]}


def net_text(run: Run) -> str:
    """The net in protobuf text format, as far as the log tells it; empty where it does not."""
    return "\n".join(_lines(run.config.net, "")) if run.config.net else ""


def _lines(message: Message, indent: str) -> Iterator[str]:
    for name, values in message.items():
        for value in values:
            if isinstance(value, dict):
                inside = list(_lines(value, indent + "  "))
                yield f"{indent}{name} {{"
                yield from inside
                yield f"{indent}}}"
            elif isinstance(value, str) and not value.isupper():
                yield f'{indent}{name}: "{value}"'
            else:
                yield f"{indent}{name}: {_words(value)}"
