"""The variants of a sweep on a user's solver: what each sets, worked out over the recipe that the solver states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.base.userfile import Base, nets_of, picture_size
from caffebench.generator.variants.resolve import ending_with_a_test, facts, titles, variants_of
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


@dataclass(frozen=True)
class BaseVariant:
    """One variant on a user's solver: all that expressions may name, and which settings the sweep has ``given``."""

    name: str
    label: str
    comment: str
    default: bool
    source: str
    sweep: Sweep
    variant: Variant
    values: Mapping[str, Any]
    given: frozenset[str]


def resolve_on_base(sweep: Sweep, base: Base, profile: Profile | None, overrides: Settings) -> list[BaseVariant]:
    """All variants of ``sweep`` on ``base``; those that come out the same are one. Raises ``InputError``."""
    variants = variants_of(sweep)
    architectures = {one.architecture or sweep.settings.architecture for one in variants} - {None}
    if len(architectures) > 1:
        raise InputError(
            f"{sweep.sweep} compares architectures ({', '.join(sorted(map(str, architectures)))}): {base.path} is one"
        )
    found: dict[str, BaseVariant] = {}
    for number, variant in enumerate(variants, 1):
        try:
            one = _resolve(sweep, variant, base, profile, overrides)
        except InputError as error:
            raise InputError(f"{sweep.sweep}, variant {number} on {base.path}: {error}") from error
        before = found.setdefault(one.name, one)
        if _said(before) != _said(one):
            raise InputError(
                f"two variants of {sweep.sweep} on {base.path} are called {one.name}, '{before.label}' and "
                f"'{one.label}': put what differs between them into 'name'"
            )
    if not any(one.default for one in found.values()):
        first = next(iter(found))
        found[first] = BaseVariant(**{**vars(found[first]), "default": True})
    return list(found.values())


def _resolve(sweep: Sweep, variant: Variant, base: Base, profile: Profile | None, overrides: Settings) -> BaseVariant:
    asked = [overrides, variant, sweep.settings]
    given = {key for one in asked for key in one.model_fields_set & Settings.model_fields.keys()}
    given = {key for key in given if any(getattr(one, key) is not None for one in asked)}
    if any(one.factorize for one in asked):
        raise InputError("'factorize' is made for the template of GoogLeNet128, it cannot be applied to another net")
    if "data" in given:
        raise InputError(
            "'data' chooses a folder for our templates; your net says where its data are (or edit: source)"
        )
    if base.no_batch and (unknown := sorted(given & _OF_BATCHES)):
        raise InputError(f"{base.no_batch}, so nothing can be made of {' and '.join(unknown)}")
    own = base.settings
    if "batch" in given and "batch_size" not in given:
        own = own.model_copy(update={"batch_size": "max(1, batch * profile.batch_scale / iter_size)"})
    if "epochs" in given and "max_iter" not in given:
        own = own.model_copy(update={"max_iter": "epochs * profile.train_size / (batch_size * iter_size)"})
    layers = [*asked, own, _DEFAULTS]
    groups = {"profile": _facts(base, profile), "recipe": dict(base.recipe)}
    values = Values([one.model_copy(update={"architecture": base.path.stem}) for one in layers], groups)
    changed = values["max_iter"] != base.recipe["max_iter"] or "test_interval" in given
    if changed and base.solver.test_iter and "test_interval" in values:
        number = next((one.max_iter for one in asked if one.max_iter is not None), None)
        tested = ending_with_a_test(values, isinstance(number, int | float))
        values = Values([tested, *(one.model_copy(update={"architecture": base.path.stem}) for one in layers)], groups)
    worked_out = {**groups, **{key: values[key] for key in values}}
    name, label, comment = titles(sweep, variant, values)
    source = variant.source or sweep.source
    settings = frozenset(given - _OF_TEMPLATES)
    return BaseVariant(name, label, comment, variant.default, source, sweep, variant, worked_out, settings)


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
