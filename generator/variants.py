"""A sweep on a profile, worked out: every variant with all its values.

A value is looked for in the command line's ``--set``, the variant, the sweep's settings for the profile, the sweep's
settings, the profile's for the architecture, the profile's, and the defaults; the first that has it wins.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from math import floor, isqrt
from typing import Any

from pydantic import BaseModel, ValidationError

from caffebench.common.errors import InputError
from caffebench.common.yamlfile import explain
from caffebench.generator.expressions import evaluate, fill, show
from caffebench.generator.schema import DEFAULTS, Architecture, Profile, Settings, Sweep, Variant

__all__ = ["Resolved", "ending_with_a_test", "resolve"]

# What is written down as a whole number, and text that is not an expression.
_WHOLE = {"batch_size", "iter_size", "max_iter", "stepsize", "stepvalue", "test_interval", "display", "snapshot"}
_WHOLE |= {"average_loss", "crop_size", "seed", "workers", "until", "warmup"}
# What a rounded value must not become 0 of; without one of them there is no curve, no test or no end.
_INTERVALS = {"test_interval", "display", "snapshot", "stepsize"}
_INT_MAX = 2**31 - 1
# What Caffe can work with, both ends included; names that are not here are any number that a float can be.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_WHOLE, (0, _INT_MAX)),
    **dict.fromkeys(_INTERVALS | {"batch_size", "iter_size", "max_iter", "until", "average_loss"}, (1, _INT_MAX)),
    "workers": (1, 1024),
    "seed": (0, 2**32 - 1),
    **dict.fromkeys(("base_lr", "min_lr", "weight_decay", "gamma", "delta"), (0, 1e6)),
    **dict.fromkeys(("momentum", "momentum2", "rms_decay"), (0, 1)),
    "width": (1e-6, 1e3),
}
_TEXT = {"architecture", "lr_policy", "solver_type", "data", "activation", "bn", "pool", "init", "weights", "policy"}


@dataclass(frozen=True)
class Resolved:
    """One variant on one profile: its name, its values, and what the header says of it."""

    name: str
    label: str
    comment: str
    default: bool
    source: str
    sweep: Sweep
    profile: Profile
    settings: Mapping[str, Any]
    variant: Variant = field(repr=False)

    @property
    def architecture(self) -> Architecture:
        """The profile's entry for this variant's architecture."""
        return self.profile.architectures[self.settings["architecture"]]


def resolve(sweep: Sweep, profile: Profile, overrides: Settings | None = None) -> list[Resolved]:
    """All variants of ``sweep`` on ``profile``, in the sweep's order. Raises ``InputError``."""
    if reason := sweep.refuse.get(profile.profile):
        raise InputError(f"the sweep {sweep.sweep} is not made for the profile {profile.profile}: {reason}")
    numbered = enumerate(_variants(sweep), 1)
    resolved = [_resolve(sweep, number, variant, profile, overrides or Settings()) for number, variant in numbered]
    if not any(one.default for one in resolved):
        resolved[0] = Resolved(**{**vars(resolved[0]), "default": True})
    names: dict[str, Resolved] = {}
    for one in resolved:
        if one.name in names:
            raise InputError(
                f"two variants of {sweep.sweep} on {profile.profile} are called {one.name}, "
                f"'{names[one.name].label}' and '{one.label}': put what differs between them into 'name'"
            )
        names[one.name] = one
    return resolved


def _variants(sweep: Sweep) -> list[Variant]:
    variants = list(sweep.variants)
    if sweep.grid:
        for values in itertools.product(*sweep.grid.values()):
            try:
                variants.append(Variant.model_validate(dict(zip(sweep.grid, values, strict=True))))
            except ValidationError as error:
                raise InputError(f"the grid of {sweep.sweep}: {explain(error, Variant)}") from error
    if not variants:
        raise InputError(f"the sweep {sweep.sweep} has no variants: give it 'variants' or a 'grid'")
    return variants


def _resolve(sweep: Sweep, number: int, variant: Variant, profile: Profile, overrides: Settings) -> Resolved:
    layers: list[Settings] = [overrides, variant, sweep.on_profile.get(profile.profile, Settings()), sweep.settings]
    architecture = next((layer.architecture for layer in layers if layer.architecture), None)
    if architecture not in profile.architectures:
        known = ", ".join(profile.architectures)
        raise InputError(
            f"{sweep.sweep}: the profile {profile.profile} has no architecture '{architecture}', but {known}"
        )
    entry = profile.architectures[architecture]
    layers += [entry.settings, profile.settings, DEFAULTS]
    where = f"{sweep.sweep}, variant {number} on {profile.profile}"
    try:
        iterations = next(one.max_iter for one in layers if one.max_iter is not None)
        given = isinstance(iterations, int | float)
        tested = ending_with_a_test(_Values(layers, profile, entry), given)
        values = _Values([tested, *layers], profile, entry)
        settings = {key: values[key] for key in values}
        name = fill(variant.name or sweep.name, values)
        where = name
        label, comment = (fill(one, values) for one in (variant.label or sweep.label, variant.comment or sweep.comment))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        raise InputError(f"'{name}' cannot be a variant's name, it names files: use letters, digits and _ . + -")
    if variant.published and variant.published.comment and sweep.published_on == profile.profile:
        comment = variant.published.comment
    source = variant.source or sweep.source
    return Resolved(name, label, comment, variant.default, source, sweep, profile, settings, variant)


def ending_with_a_test(values: Mapping[str, Any], given: bool) -> Settings:
    """``max_iter`` and ``test_interval`` so that the one is a multiple of the other: the last weights are tested.

    The interval becomes the divisor of ``max_iter`` that is nearest to it. Where none is within a factor of two,
    ``max_iter`` is rounded to whole intervals, unless it was ``given`` as a number: then it stays, and the nearest
    divisor is taken, whatever it is.
    """
    max_iter, interval = int(values["max_iter"]), int(values["test_interval"])
    if interval >= max_iter:
        return Settings(max_iter=max_iter, test_interval=max_iter)
    if max_iter % interval:
        near = _divisor_near(max_iter, interval)
        if given or interval / 2 <= near <= interval * 2:
            interval = near
        else:
            max_iter = max(1, round(Fraction(max_iter, interval))) * interval
    return Settings(max_iter=max_iter, test_interval=interval)


@cache
def _divisor_near(number: int, wanted: int) -> int:
    """The divisor of ``number`` whose ratio to ``wanted`` is nearest to 1."""
    small = [one for one in range(1, isqrt(number) + 1) if number % one == 0]
    return min({*small, *(number // one for one in small)}, key=lambda one: max(one / wanted, wanted / one))


class _Values(Mapping[str, Any]):
    """The settings of a variant by name, worked out when asked for; also what an expression may name."""

    def __init__(self, layers: list[Settings], profile: Profile, entry: Architecture) -> None:
        self._raw: dict[str, Any] = {}
        for layer in reversed(layers):
            given = {key: getattr(layer, key) for key in layer.model_fields_set if key in Settings.model_fields}
            self._raw |= {key: value for key, value in given.items() if value is not None}
        self._known: dict[str, Any] = {
            "profile": _facts(profile),
            "recipe": dict(entry.recipe),
        }
        self._open: list[str] = []

    def __getitem__(self, name: str) -> Any:
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
        return name in self._known or name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def _work_out(self, name: str, raw: Any) -> Any:
        if isinstance(raw, BaseModel):
            return {key: self._work_out(key, value) for key, value in raw if key in raw.model_fields_set}
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


def _facts(profile: Profile) -> dict[str, Any]:
    """A profile's numbers, for expressions."""
    scale = profile.batch_scale
    numbers = {key: value for key, value in profile if isinstance(value, int | float)}
    return numbers | {"batch_scale": evaluate(scale, {}) if isinstance(scale, str) else scale}
