"""The variants of a sweep on a user's solver: what each sets, worked out over the recipe that the solver states."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.base.userfile import Base, nets_of, picture_size
from caffebench.generator.variants.agreement import agreeing, see_iterations
from caffebench.generator.variants.resolve import ending_with_a_test, facts, name_of, titles, variants_of
from caffebench.generator.variants.schema import Profile, Sweep
from caffebench.generator.variants.settings import Settings, Variant
from caffebench.generator.variants.values import Values

__all__ = ["BaseVariant", "resolve_on_base"]

USUAL_BATCH = 256
"""The batch size that bundled sweeps speak of: ``batch: 512`` is twice the user's own."""

# Where a sweep chooses a policy or a layer and the user's files say nothing of what it needs.
_DEFAULTS = Settings(
    gamma=0.1,
    power=1,
    stepsize="max(1, max_iter * 5 / 16)",
    momentum=0,
    weight_decay=0,
    width=1,
    bn_scale=False,
    batch="recipe.batch_size / profile.batch_scale",
)
_OF_BATCHES = {"batch", "batch_size", "epochs", "phases"}
_OF_TEMPLATES = {"architecture", "factorize"}
# What changes nothing, or not what it says, where a phase in the user's header says the key.
_IN_PHASES = {
    "batch_size": {"batch", "batch_size", "epochs"},
    "iter_size": {"iter_size", "epochs"},
    "base_lr": {"base_lr"},
}


@dataclass(frozen=True)
class BaseVariant:
    """One variant on a user's solver: all that expressions may name, and which settings the sweep has ``given``.

    One that has no place there has neither, but says why it is ``refused``.
    """

    name: str
    label: str
    comment: str
    default: bool
    source: str
    sweep: Sweep
    variant: Variant
    values: Mapping[str, Any]
    given: frozenset[str]
    refused: str = ""


def resolve_on_base(sweep: Sweep, base: Base, profile: Profile | None, overrides: Settings) -> list[BaseVariant]:
    """All variants of ``sweep`` on ``base``; a small net's that come out the same for several ``batch`` are one.

    Raises ``InputError``.
    """
    if overrides.architecture:
        raise InputError(_architecture(base))
    variants = variants_of(sweep)
    architectures = {one.architecture or sweep.settings.architecture for one in variants} - {None}
    if len(architectures) > 1:
        raise InputError(
            f"{sweep.sweep} compares architectures ({', '.join(sorted(map(str, architectures)))}): {base.path} is one"
        )
    found: dict[str, BaseVariant] = {}
    for number, variant in enumerate(variants, 1):
        one = _resolve(sweep, number, variant, base, profile, overrides)
        before = found.setdefault(one.name, one)
        again = before is not one and not one.refused and before.values["batch"] == one.values["batch"]
        if again or _said(before) != _said(one):
            raise InputError(
                f"two variants of {sweep.sweep} on {base.path} are called {one.name}, '{before.label}' and "
                f"'{one.label}': put what differs between them into 'name'"
            )
    if not any(one.default for one in found.values()):
        first = next(iter(found))
        found[first] = replace(found[first], default=True)
    return list(found.values())


def _architecture(base: Base) -> str:
    return f"architecture: the net is that of {base.path}: leave out the one or the other"


def _resolve(
    sweep: Sweep, number: int, variant: Variant, base: Base, profile: Profile | None, overrides: Settings
) -> BaseVariant:
    layers: list[Settings] = [overrides, variant, sweep.settings]
    groups = {"profile": _facts(base, profile), "recipe": dict(base.recipe)}
    rest = [base.settings, _DEFAULTS]
    try:
        if variant.architecture:
            raise InputError(_architecture(base))
        asked, rest = agreeing(layers, rest)
        given = _given(asked)
        _see(given, [*asked, sweep.name, sweep.label, sweep.comment], base, groups["profile"])
        values = _values(asked, rest, base, groups)
        see_iterations(values)
        name, label, comment = titles(sweep, variant, values)
    except InputError as error:
        try:
            name = name_of(sweep, variant, Values(_layers(layers, rest, base), groups))
        except InputError:
            name = f"{sweep.sweep}, variant {number}"
        return BaseVariant(name, name, "", variant.default, "", sweep, variant, {}, frozenset(), str(error))
    worked_out = {**groups, **{key: values[key] for key in values}}
    settings, source = frozenset(given - _OF_TEMPLATES), variant.source or sweep.source
    return BaseVariant(name, label, comment, variant.default, source, sweep, variant, worked_out, settings)


def _given(asked: Sequence[Settings]) -> set[str]:
    return {key for one in asked for key in Settings.model_fields if getattr(one, key) is not None}


def _see(given: set[str], asked: Sequence[Settings | str], base: Base, known: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for what is made for templates, or needs to know what the user's files do not say."""
    if any(isinstance(one, Settings) and one.factorize for one in asked):
        raise InputError("'factorize' is made for the template of GoogLeNet128, it cannot be applied to another net")
    if "data" in given:
        raise InputError(
            "'data' chooses a folder for our templates; your net says where its data are (or edit: source)"
        )
    if base.no_batch and (unknown := sorted(given & _OF_BATCHES)):
        raise InputError(f"{base.no_batch}, so nothing can be made of {' and '.join(unknown)}")
    phases = () if "phases" in given else base.header.get("phases", ())
    for key in [key for key in _IN_PHASES if any(key in phase for phase in phases)]:
        if changed := sorted(given & _IN_PHASES[key]):
            raise InputError(
                f"{' and '.join(changed)}: the phases in the header of {base.path} say a {key} of their own: "
                "set 'phases' too, or take them out there"
            )
    if "epochs" in given and "max_iter" not in given and "train_size" not in known:
        raise InputError(
            "epochs: how many pictures an epoch has is not known: give --profile, or a train_size in the base's header"
        )
    for name in re.findall(r"\bprofile\.(\w+)", " ".join(map(str, asked))):
        if name in Profile.model_fields and name not in known:
            raise InputError(f"profile.{name} is not known of your net: give --profile")


def _values(
    asked: Sequence[Settings], rest: Sequence[Settings], base: Base, groups: Mapping[str, Mapping[str, Any]]
) -> Values:
    """All that a variant sets, worked out when asked for; a run of another length than the user's ends with a test."""
    layers = _layers(asked, rest, base)
    values = Values(layers, groups)
    changed = values["max_iter"] != base.recipe["max_iter"] or "test_interval" in _given(asked)
    if changed and base.solver.test_iter and "test_interval" in values:
        number = next((one.max_iter for one in asked if one.max_iter is not None), None)
        tested = ending_with_a_test(values, isinstance(number, int | float))
        values = Values([tested, *layers], groups)
    return values


def _layers(asked: Sequence[Settings], rest: Sequence[Settings], base: Base) -> list[Settings]:
    given = _given(asked)
    own: dict[str, Any] = {}
    if "batch" in given and "batch_size" not in given:
        own["batch_size"] = "max(1, batch * profile.batch_scale / iter_size)"
    if "epochs" in given and "max_iter" not in given:
        own["max_iter"] = "epochs * profile.train_size / (batch_size * iter_size)"
    layers = [*asked, Settings(**own), *rest]
    return [one.model_copy(update={"architecture": base.path.stem}) for one in layers]


def _said(variant: BaseVariant) -> dict[str, Any]:
    """What stands in a variant's file: small nets come out the same for several of a large net's batch sizes."""
    return {key: value for key, value in variant.values.items() if key != "batch"}


def _facts(base: Base, profile: Profile | None) -> dict[str, Any]:
    """What expressions may name as ``profile.``: of the profile given, else of the user's header and net."""
    if profile is not None:
        known = facts(profile)
    else:
        known = {key: base.header[key] for key in ("train_size", "test_size", "classes") if key in base.header}
        if side := picture_size(nets_of(base.solver)):
            known |= {"image_size": side, "crop_size": side}
    return known | {"batch_scale": base.recipe["batch_size"] / USUAL_BATCH}
