"""What a profile need not say of an architecture: the file beside its template has a recipe, settings and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from caffebench.common.errors import InputError
from caffebench.common.yamlfile import read_yaml
from caffebench.generator.variants.expressions import evaluate
from caffebench.generator.variants.schema import Architecture, Profile, Template
from caffebench.generator.variants.settings import Settings

__all__ = ["ENDING", "architecture_names", "implied_settings", "recipe_on", "size_on"]


ENDING = ".prototxt.j2"
_RECIPE = {"batch_size": 64, "base_lr": 0.01, "epochs": 50}  # of an architecture that says none


def architecture_names(profile: Profile, templates: Path | None = None) -> list[str]:
    """Every architecture that ``profile`` can be trained with: its own, those of ``templates``, the bundled ones."""
    bundled = (one.name for one in files("caffebench.templates").iterdir())
    stems = sorted(name.removesuffix(".yaml") for name in bundled if name.endswith(".yaml"))
    own = sorted(path.name.removesuffix(ENDING) for path in templates.glob(f"*{ENDING}")) if templates else []
    return list(dict.fromkeys([*profile.architectures, *own, *stems]))


def recipe_on(profile: Profile, name: str, facts: Mapping[str, Any], templates: Path | None = None) -> dict[str, Any]:
    """Batch size, rate, iterations and epochs that ``profile`` trains an architecture with, worked out.

    ``facts`` are the profile's numbers. Raises ``InputError``.
    """
    recipe = _entry(profile, name).recipe
    if recipe is None:
        recipe = _template(name, templates).recipe
    names: dict[str, Any] = {"profile": facts}
    where = f"the recipe of {name} on {profile.profile}"
    try:
        for key in ("batch_size", "base_lr"):
            names[key] = evaluate(str(getattr(recipe, key)), names)
        names["batch_size"] = max(1, round(names["batch_size"]))
        if recipe.max_iter is None:
            names["epochs"] = evaluate(str(recipe.epochs), names)
            names["max_iter"] = max(1, round(names["epochs"] * profile.train_size / names["batch_size"]))
        else:
            names["max_iter"] = round(evaluate(str(recipe.max_iter), names))
            names["epochs"] = evaluate("max_iter * batch_size / profile.train_size", names)
    except (InputError, TypeError) as error:
        raise InputError(f"{where}: {error}") from error
    del names["profile"]
    if wrong := [f"{key} is {float(value):.5g}" for key, value in names.items() if not 0 < value < 2**31]:
        raise InputError(f"{where}: {wrong[0]}, and must be more than 0 and less than {2**31}")
    return names


def implied_settings(profile: Profile, name: str, templates: Path | None = None) -> list[Settings]:
    """The settings that ``profile`` has for an architecture; the first that has a value wins."""
    of_data = Settings(
        mirror=profile.mirror,
        scale="profile.scale",
        mean_file="none",
        resize=0,
        test_interval="max_iter / 20",  # each divides the others, so that a run ends with a test
        display="max_iter / 80",
        snapshot="max_iter / 4",
    )
    return [_entry(profile, name).settings, profile.settings, _template(name, templates).settings, of_data]


def size_on(profile: Profile, name: str, side: int, templates: Path | None = None) -> dict[str, Any]:
    """What the template asks for under ``size``, for pictures of ``side`` pixels; the profile's word beats it.

    Raises ``InputError`` where the pictures are smaller than any that there are sizes for.
    """
    own, sizes = _entry(profile, name).size, _template(name, templates).sizes
    fitting = [least for least in sizes if least <= side]
    if sizes and not fitting and not own:
        raise InputError(f"pictures of {side} pixels a side are too small for {name}: it wants {min(sizes)} at least")
    return {**(sizes[max(fitting)] if fitting else {}), **own}


def _entry(profile: Profile, name: str) -> Architecture:
    return profile.architectures.get(name, Architecture())


@cache
def _template(name: str, templates: Path | None) -> Template:
    if templates is not None and (templates / f"{name}{ENDING}").is_file():
        beside = templates / f"{name}.yaml"
        return read_yaml(beside, Template) if beside.is_file() else Template.model_validate({"recipe": _RECIPE})
    path = files("caffebench.templates") / f"{name}.yaml"
    if not path.is_file():
        return Template.model_validate({"recipe": _RECIPE})
    with as_file(path) as file:
        return read_yaml(file, Template)
