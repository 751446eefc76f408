"""What a sweep and a profile may say. Both are YAML; `yamlfile` reads them against these models."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, ValidationInfo, field_validator, model_validator

from caffebench.generator.variants.settings import Expression, Identifier, Settings, Strict, Variant

__all__ = ["Architecture", "Profile", "Recipe", "Sweep", "Template"]

Finite = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]

MAX_VARIANTS = 10_000


class Sweep(Strict):
    """A study: what is held, what varies, and how the variants are called."""

    sweep: Identifier = Field(default="", description="its name; where a file gives none, the file's")
    title: str = ""
    studies: str = Field(default="", description="the question")
    source: str = ""
    published_on: Identifier = Field(default="imagenet128", description="the profile that the published figures are of")
    settings: Settings = Settings()
    on_profile: dict[Identifier, Settings] = Field(default={}, description="settings for one profile")
    refuse: dict[Identifier, str] = Field(
        default={}, description="profiles on which the study makes no sense, with the reason"
    )
    allow: dict[str, str] = Field(
        default={}, description="lint rules that the study breaks on purpose, with the reason"
    )
    base: str | None = Field(default=None, description="a solver of the user's, in the place of an architecture")
    name: str = Field(default="", description="of a variant; where it is not given, what the variant sets")
    label: str = ""
    comment: str = ""
    grid: dict[str, list[Any]] = Field(default={}, description="axes: every combination is a variant")
    variants: list[Variant] = Field(default=[])

    @field_validator("grid")
    @classmethod
    def _axes_are_settings(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key in grid.keys() - Settings.model_fields.keys():
            near = difflib.get_close_matches(key, Settings.model_fields, 1)
            raise ValueError(f"unknown key '{key}'" + (f": did you mean '{near[0]}'?" if near else ""))
        count = math.prod(len(values) for values in grid.values())
        if count > MAX_VARIANTS:
            raise ValueError(f"{' x '.join(grid)} are {count} combinations, more than {MAX_VARIANTS}")
        return grid

    @field_validator("variants", mode="before")
    @classmethod
    def _not_too_many(cls, variants: Any) -> Any:
        if isinstance(variants, list) and len(variants) > MAX_VARIANTS:
            raise ValueError(f"{len(variants)} variants are more than {MAX_VARIANTS}")
        return variants

    @field_validator("variants")
    @classmethod
    def _one_default(cls, variants: list[Variant]) -> list[Variant]:
        marked = [str(number) for number, one in enumerate(variants, 1) if one.default]
        if len(marked) > 1:
            raise ValueError(f"the variants {' and '.join(marked)} are marked 'default': one is the study's")
        return variants


Size = Annotated[dict[str, Any], AfterValidator(lambda size: _nothing_that_ends_a_value(size))]
"""What a template asks for under ``size``."""


class Recipe(Strict):
    """The training that expressions start from; numbers, or expressions over ``profile``."""

    batch_size: Expression
    base_lr: Expression
    max_iter: Expression | None = None
    epochs: Expression | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Recipe:
        if (self.max_iter is None) == (self.epochs is None):
            raise ValueError("a recipe says how long: max_iter or epochs, one of them")
        return self


class Architecture(Strict):
    """What a profile says of one architecture; what it leaves out is as the file beside the template has it."""

    recipe: Recipe | None = None
    settings: Settings = Settings()
    size: Size = Field(default={})


class Template(Strict):
    """The file beside an architecture's template: what a profile need not say."""

    recipe: Recipe
    settings: Settings = Settings()
    sizes: dict[Annotated[int, Field(gt=0)], Size] = Field(
        default={}, description="by the least number of pixels a side that they are for"
    )


def _nothing_that_ends_a_value(size: dict[str, Any]) -> dict[str, Any]:
    for text in _texts(size):
        if not re.fullmatch(r"[^\x00-\x1f\x7f\x85\u2028\u2029\"'\\:;,{}<>\[\]#]*", text):
            raise ValueError(f"{text!r} would end the value it is in: no quotes, brackets, colons, line breaks")
    return size


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested values, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield str(key)
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


class Profile(Strict):
    """A data set, and what suits it of every architecture where that is not what suits most."""

    profile: Identifier
    title: str = ""
    train_size: int = Field(gt=0, lt=2**31)
    test_size: int = Field(gt=0, lt=2**31)
    test_batch_size: int = Field(
        default=0, ge=0, lt=2**31, validate_default=True, description="0: the largest up to 256 that divides test_size"
    )
    classes: int = Field(gt=1, lt=2**31)
    channels: int = Field(default=3, gt=0, lt=2**31)
    image_size: int = Field(gt=0, lt=2**31, description="pixels a side of the pictures, or of crops from them")
    crop_size: int = Field(default=0, ge=0, lt=2**31, description="0: pictures are taken whole")
    mirror: StrictBool = False
    force_color: StrictBool = Field(default=False, description="decode grey pictures as colour; not for raw records")
    mean_value: list[Finite] = Field(default=[])
    scale: Finite = 0.016
    batch_scale: Expression = 1
    settings: Settings = Settings()
    architectures: dict[Identifier, Architecture] = Field(default={})
    folder: str = Field(default="", max_length=4096, description="of the two LMDBs; data/PROFILE where none is given")

    @field_validator("test_batch_size")
    @classmethod
    def _tests_see_every_picture_once(cls, value: int, info: ValidationInfo) -> int:
        size = info.data.get("test_size", value)
        if not value:
            return next(one for one in range(256, 0, -1) if size % one == 0)
        if size % value:
            raise ValueError(f"a test of whole batches cannot see {size} pictures once: {value} does not divide it")
        return value
