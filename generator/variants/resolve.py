"""A sweep on a profile, worked out: every variant with all its values.

A value is looked for in the command line's ``--set``, the variant, the sweep's settings for the profile, the sweep's
settings, the profile's for the architecture, the profile's, and the defaults; the first that has it wins.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from caffebench.common.errors import InputError
from caffebench.common.yamlfile import explain
from caffebench.generator.variants.agreement import agreeing, see_fall, see_iterations
from caffebench.generator.variants.architectures import ENDING, architecture_names, implied_settings, recipe_on, size_on
from caffebench.generator.variants.expressions import evaluate, fill
from caffebench.generator.variants.schema import Profile, Sweep
from caffebench.generator.variants.settings import DEFAULTS, Settings, Variant
from caffebench.generator.variants.values import Values

__all__ = ["Resolved", "ending_with_a_test", "facts", "name_of", "resolve", "titles", "variants_of"]


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
    templates: Path | None = None

    @property
    def side(self) -> int:
        """Pixels a side that the net sees."""
        return int(self.settings["resize"] or self.settings["crop_size"] or self.profile.image_size)

    @property
    def size(self) -> Mapping[str, Any]:
        """What the template asks for under ``size``. Raises ``InputError``."""
        return size_on(self.profile, self.settings["architecture"], self.side, self.templates)


def resolve(
    sweep: Sweep, profile: Profile, overrides: Settings | None = None, templates: Path | None = None
) -> list[Resolved]:
    """All variants of ``sweep`` on ``profile``, in the sweep's order; ``templates`` is a folder of the user's.

    Raises ``InputError``.
    """
    if reason := sweep.refuse.get(profile.profile):
        raise InputError(f"the sweep {sweep.sweep} is not made for the profile {profile.profile}: {reason}")
    numbered = enumerate(variants_of(sweep), 1)
    given = overrides or Settings()
    resolved = [_resolve(sweep, number, variant, profile, given, templates) for number, variant in numbered]
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


def variants_of(sweep: Sweep) -> list[Variant]:
    """The variants of a sweep: those listed, and every combination of its grid. Raises ``InputError``."""
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


def _resolve(
    sweep: Sweep, number: int, variant: Variant, profile: Profile, overrides: Settings, templates: Path | None
) -> Resolved:
    layers: list[Settings] = [overrides, variant, sweep.on_profile.get(profile.profile, Settings()), sweep.settings]
    architecture = next((layer.architecture for layer in layers if layer.architecture), None)
    known_names = architecture_names(profile, templates)
    names = ", ".join(known_names)
    if architecture is None:
        raise InputError(
            f"{sweep.sweep}: no architecture is said: give it 'settings: {{architecture: ...}}', of {names}, or a net "
            "of yours with --base SOLVER or 'base: SOLVER'"
        )
    if architecture not in known_names:
        raise InputError(
            f"{sweep.sweep}: the profile {profile.profile} has no architecture '{architecture}', but {names}"
            + (f" (nor is there a {templates / architecture}{ENDING})" if templates else "")
        )
    where = f"{sweep.sweep}, variant {number} on {profile.profile}"
    try:
        asked, rest = agreeing(layers, [*implied_settings(profile, architecture, templates), DEFAULTS])
        layers = [*asked, *rest]
        iterations = next(one.max_iter for one in layers if one.max_iter is not None)
        given = isinstance(iterations, int | float)
        known = facts(profile)
        groups = {"profile": known, "recipe": recipe_on(profile, architecture, known, templates)}
        tested = ending_with_a_test(Values(layers, groups), given)
        values = Values([tested, *layers], groups)
        see_iterations(values)
        if values["lr_policy"] == "exp" and "lr_schedule" not in values:
            see_fall(float(values["gamma"]), int(values["max_iter"]))
        settings = {key: values[key] for key in values}
        name, label, comment = titles(sweep, variant, values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if variant.published and variant.published.comment and sweep.published_on == profile.profile:
        comment = variant.published.comment
    source = variant.source or sweep.source
    return Resolved(name, label, comment, variant.default, source, sweep, profile, settings, variant, templates)


def titles(sweep: Sweep, variant: Variant, values: Values) -> tuple[str, str, str]:
    """Name, label and comment of a variant, filled in. Raises ``InputError``."""
    name = name_of(sweep, variant, values)
    label = fill(variant.label or sweep.label or variant.shown("{key}={value}", ", ") or name, values)
    return name, label, fill(variant.comment or sweep.comment, values)


def name_of(sweep: Sweep, variant: Variant, values: Values) -> str:
    """The name of a variant, which is that of its file, filled in. Raises ``InputError``."""
    name = fill(variant.name or sweep.name or variant.shown("{key}{value}", "_") or sweep.sweep, values)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        raise InputError(f"'{name}' cannot be a variant's name, it names files: use letters, digits and _ . + -")
    return name


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


def facts(profile: Profile) -> dict[str, Any]:
    """A profile's numbers, for expressions."""
    scale = profile.batch_scale
    numbers = {key: value for key, value in profile if isinstance(value, int | float)}
    return numbers | {"batch_scale": evaluate(scale, {}) if isinstance(scale, str) else scale}
