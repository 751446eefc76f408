"""The settings of one variant, worked out: every expression evaluated, every value in its range."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from math import floor
from typing import Any

from pydantic import BaseModel

from caffebench.common.errors import InputError
from caffebench.generator.variants.expressions import evaluate, show
from caffebench.generator.variants.settings import Settings

__all__ = ["Values"]

# What is written down as a whole number, and text that is not an expression.
_WHOLE = {"batch_size", "iter_size", "max_iter", "stepsize", "stepvalue", "test_interval", "display", "snapshot"}
_WHOLE |= {"classes", "average_loss", "crop_size", "resize", "input_size", "seed", "workers", "until", "warmup"}
# What a rounded value must not become 0 of; without one of them there is no curve, no test or no end.
_INTERVALS = {"test_interval", "display", "snapshot", "stepsize"}
_INT_MAX = 2**31 - 1
# What Caffe can work with, both ends included; names that are not here are any number that a float can be.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_WHOLE, (0, _INT_MAX)),
    **dict.fromkeys(_INTERVALS | {"batch_size", "iter_size", "max_iter", "until", "average_loss"}, (1, _INT_MAX)),
    "workers": (1, 1024),
    "classes": (2, _INT_MAX),
    "lr_mults": (0, 1e6),
    "seed": (0, 2**32 - 1),
    **dict.fromkeys(("base_lr", "min_lr", "scale", "weight_decay", "gamma", "delta"), (0, 1e6)),
    **dict.fromkeys(("momentum", "momentum2", "rms_decay"), (0, 1)),
    "width": (1e-6, 1e3),
    "epochs": (1e-9, 1e9),
}
_TEXT = {
    "architecture",
    "lr_policy",
    "solver_type",
    "data",
    "mean_file",
    "activation",
    "bn",
    "pool",
    "init",
    "weights",
    "policy",
    "filler",
    "classifier",
    "freeze",
}


class Values(Mapping[str, Any]):
    """The settings of a variant by name, worked out when asked for; also what an expression may name."""

    def __init__(self, layers: Iterable[Settings], groups: Mapping[str, Mapping[str, Any]]) -> None:
        """``layers``: the first that has a value wins; ``groups``: ``profile`` and ``recipe``, for dotted names."""
        self._raw: dict[str, Any] = {}
        for layer in reversed(list(layers)):
            given = {key: getattr(layer, key) for key in layer.model_fields_set if key in Settings.model_fields}
            self._raw |= {key: value for key, value in given.items() if value is not None}
        self._known: dict[str, Any] = {name: dict(group) for name, group in groups.items()}
        self._open: list[str] = []

    def __getitem__(self, name: str) -> Any:
        """The value of a setting or a group. Raises ``InputError`` where it cannot be worked out."""
        if name in self._known:
            return self._known[name]
        if name not in self._raw:
            raise KeyError(name)
        if name in self._open:
            raise InputError(f"{' needs '.join([*self._open, name])}: expressions must not go round in a circle")
        self._open.append(name)
        try:
            self._known[name] = self._work_out(name, self._raw[name])
        except InputError as error:
            # Told once, of the value that stands at the bottom of it.
            raise error if str(error).startswith("in '") else InputError(f"in '{name}': {error}") from error
        self._open.pop()
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is such a setting or group."""
        return name in self._known or name in self._raw

    def __iter__(self) -> Iterator[str]:
        """The names of the settings."""
        return iter(self._raw)

    def __len__(self) -> int:
        """How many settings there are."""
        return len(self._raw)

    def _work_out(self, name: str, raw: Any) -> Any:
        if name == "edit":  # what it changes is worked out where the old values are known
            return raw
        if isinstance(raw, BaseModel):
            return {key: self._work_out(key, value) for key, value in raw if key in raw.model_fields_set}
        if isinstance(raw, dict):
            return {key: self._work_out(name, value) for key, value in raw.items()}
        if isinstance(raw, list):
            return [self._work_out(name, one) for one in raw]
        if isinstance(raw, bool) or name in _TEXT:
            return raw
        value = evaluate(str(raw), self)
        if not isinstance(value, Fraction):
            raise InputError(f"'{raw}' is no number")
        if name in _WHOLE:
            exact, value = value, Fraction(floor(value + Fraction(1, 2)))
            if name in _INTERVALS and exact > 0:
                value = max(value, Fraction(1))
        low, high = _RANGES.get(name, (-1e30, 1e30))
        if not low <= value <= high:
            bounds = f"at least {low:g}" if value < low else f"at most {high:g}"
            hint = ", max_iter for once at the end" if name in _INTERVALS and not value else ""
            raise InputError(f"'{raw}' is {show(value) if abs(value) < 1e30 else 'huge'}, and must be {bounds}{hint}")
        if name == "dropout" and not 0 <= value < 1:
            raise InputError(f"'{raw}' must be at least 0 and less than 1")
        return value
