"""Settings that nothing reads: a variant that asks for one would be another variant under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.meaning.settings import RATE_READS, TYPE_READS
from caffebench.generator.variants.settings import Settings, Variant

__all__ = ["see_overrides_read", "see_read"]

_OF_RATES = {name for names in RATE_READS.values() for name in names}
# Momentum is not here: what takes none says so by itself, and 0 is how a variant leaves it out.
_OF_TYPES = {name for names in TYPE_READS.values() for name in names} - {"momentum"}


def see_read(variant: Variant, beside: Sequence[Settings], values: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for what a variant itself sets and its solver, which has ``values``, does not read.

    What all variants share (``beside``: the sweep's settings, the command line's) need not be read by each. A setting
    that another one's expression names is read there.
    """
    for name in _set_by(variant):
        why = _unread(name, values)
        if why and not any(_names(name, one) for one in (variant, *beside)):
            raise InputError(f"{name}: {why} (what only some variants read stands in 'settings')")


def see_overrides_read(overrides: Settings, variants: Sequence[tuple[Sequence[Settings], Mapping[str, Any]]]) -> None:
    """Raise ``InputError`` for what ``--set`` gives and no variant reads; of each, its settings and its values."""
    for name in _set_by(overrides):
        reasons = [_unread(name, values) for _, values in variants]
        named = any(_names(name, one) for beside, _ in variants for one in (overrides, *beside))
        if reasons and all(reasons) and not named:
            raise InputError(f"--set {name}: {reasons[0]}")


def _set_by(settings: Settings) -> list[str]:
    return [name for name in Settings.model_fields if getattr(settings, name) is not None]


def _unread(name: str, values: Mapping[str, Any]) -> str:
    """Why nothing reads a setting where these ``values`` are, and what would; empty where something does."""
    if name in _OF_RATES:
        if "lr_schedule" in values:
            return _but("an lr_schedule", name, "lr_policy", RATE_READS)
        policy = values.get("lr_policy")
        return _but(f"lr_policy: {policy}", name, "lr_policy", RATE_READS, policy)
    if name in _OF_TYPES:
        kind = values.get("solver_type")
        return _but(f"solver_type: {kind}", name, "solver_type", TYPE_READS, kind)
    if name == "classes" and values.get("classifier") != "new":
        return "the outputs stay as they are: classifier: new gives them another number"
    return ""


def _but(what: str, name: str, key: str, reads: Mapping[str, Sequence[str]], chosen: str | None = None) -> str:
    if chosen is not None and name in reads.get(chosen, (name,)):  # what is not Caffe's may read anything
        return ""
    return f"{what} does not read it: {key} {' or '.join(one for one in reads if name in reads[one])} would"


def _names(name: str, settings: Settings) -> bool:
    """Whether an expression of another setting names this one; ``profile.classes`` is not ``classes``."""
    others = (str(getattr(settings, key)) for key in _set_by(settings) if key != name)
    return any(re.search(rf"(?<![\w.]){name}\b", text) for text in others)
