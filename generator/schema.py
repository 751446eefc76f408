"""What a sweep and a profile may say. Both are YAML; `yamlfile` reads them against these models."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from caffebench.common.caffe_facts import LR_POLICIES, InitMethod, SolverType

__all__ = [
    "DEFAULTS",
    "Architecture",
    "Expression",
    "Profile",
    "Published",
    "Recipe",
    "Settings",
    "Sweep",
    "Template",
    "Variant",
]


def _expression(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"a number or an expression is wanted, not {value!r}")
    return value


Expression = Annotated[Any, PlainValidator(_expression)]
Finite = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]

MAX_VARIANTS = 10_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Strict):
    """A learning-rate schedule that Caffe lacks; run-caffe applies it."""

    policy: Literal["cosine"]
    warmup: Expression = 0
    min_lr: Expression = 0


class Phase(_Strict):
    """A stretch of training up to iteration ``until``; weights and momentum are handed on to the next."""

    until: Expression
    batch_size: Expression | None = None
    iter_size: Expression | None = None
    base_lr: Expression | None = None


class Settings(_Strict):
    """What can be set of a variant; each value may be an expression over the others, ``profile`` and ``recipe``."""

    architecture: Identifier | None = None
    # The solver, in Caffe's names.
    batch: Expression | None = Field(default=None, description="batch size before the profile scales it")
    batch_size: Expression | None = None
    iter_size: Expression | None = None
    base_lr: Expression | None = None
    epochs: Expression | None = None
    max_iter: Expression | None = None
    lr_policy: str | None = None
    gamma: Expression | None = None
    power: Expression | None = None
    stepsize: Expression | None = None
    stepvalue: list[Expression] | None = None
    momentum: Expression | None = None
    momentum2: Expression | None = None
    rms_decay: Expression | None = None
    delta: Expression | None = None
    weight_decay: Expression | None = None
    solver_type: SolverType | None = None
    average_loss: Expression | None = None
    test_interval: Expression | None = None
    test_initialization: StrictBool | None = None
    display: Expression | None = None
    snapshot: Expression | None = None
    # The data.
    data: Identifier | None = Field(default=None, description="folder below the data root (the profile's name)")
    crop_size: Expression | None = None
    resize: Expression | None = Field(
        default=None, description="pixels a side that crops are reduced to; 0: as they are"
    )
    mirror: StrictBool | None = None
    scale: Expression | None = None
    mean_file: str | None = Field(default=None, description="in the place of the profile's mean_value, or none")
    # The net.
    activation: Literal["relu", "rrelu", "prelu", "elu", "maxout", "sigmoid", "tanh", "none"] | None = None
    bn: Literal["none", "before", "after"] | None = Field(
        default=None, description="BatchNorm before or after the activation"
    )
    bn_scale: StrictBool | None = Field(default=None, description="a Scale layer behind each BatchNorm")
    pool: Literal["max", "ave", "max_ave"] | None = None
    dropout: Expression | None = None
    width: Expression | None = Field(default=None, description="every layer's number of outputs is multiplied by this")
    lrn: StrictBool | None = Field(default=None, description="false: local response normalisation is taken out")
    factorize: StrictBool | None = Field(default=None, description="5x5 as 3x3 and 3x3, 3x3 as 3x1 and 1x3 (GoogLeNet)")
    filler: Literal["gaussian", "msra", "xavier"] | None = Field(
        default=None, description="how the weights of all linear layers are filled"
    )
    filler_std: Expression | None = Field(default=None, description="standard deviation of a gaussian filler")
    input_size: Expression | None = Field(default=None, description="pixels a side that the net sees")
    classifier: Literal["new", "keep"] | None = Field(
        default=None, description="new: another name and the data's classes, for weights of another task"
    )
    classes: Expression | None = Field(default=None, description="of a new classifier (the profile's)")
    freeze: str | None = Field(default=None, description="this layer, and all before it, keep their weights; or none")
    lr_mults: dict[str, Expression] | None = Field(
        default=None, max_length=100, description="rates of layers by name: {conv*: 0.1, fc8: 10}"
    )
    edit: list[dict[str, Any]] | None = Field(
        default=None,
        max_length=100,
        description="changes to layers by name or type, or to the solver: any field of Caffe's",
    )
    # What Caffe's format cannot say; it stands in the header, for run-caffe.
    init: InitMethod | None = None
    weights: str | None = None
    seed: Expression | None = None
    deterministic: StrictBool | None = None
    lr_schedule: Schedule | None = None
    phases: list[Phase] | None = None
    workers: Expression | None = Field(
        default=None, description="processes that load data, in the place of Caffe's one thread"
    )

    @field_validator("lr_policy")
    @classmethod
    def _caffe_has_it(cls, value: str | None) -> str | None:
        if value is not None and value not in LR_POLICIES:
            hint = " (run-caffe has it: lr_schedule: {policy: cosine})" if "cos" in value.lower() else ""
            raise ValueError(f"Caffe has no policy '{value}', only {', '.join(LR_POLICIES)}{hint}")
        return value


DEFAULTS = Settings(
    # The same number of epochs for every batch size: those of the recipe.
    batch="recipe.batch_size / profile.batch_scale",
    batch_size="max(1, batch * profile.batch_scale)",
    iter_size=1,
    base_lr="recipe.base_lr",
    epochs="recipe.epochs",
    max_iter="epochs * profile.train_size / (batch_size * iter_size)",
    lr_policy="step",
    gamma=0.1,
    power=1,
    stepsize="max(1, max_iter * 5 / 16)",
    momentum=0.9,
    weight_decay=0.0005,
    solver_type="SGD",
    average_loss=1,
    test_initialization=True,
    crop_size="profile.crop_size",
    resize=0,
    scale="profile.scale",
    mean_file="none",
    activation="relu",
    bn="none",
    bn_scale=False,
    pool="max",
    dropout=0.5,
    width=1,
    factorize=False,
    init="lsuv",
)


class Published(_Strict):
    """Figures of the published work, to the letter: quote them, 0.470 is not 0.47."""

    accuracy: StrictStr
    logloss: StrictStr = "-"
    comment: str | None = None


class Variant(Settings):
    """One file: what it sets differently from its sweep."""

    name: str | None = None
    label: str | None = None
    comment: str | None = None
    default: StrictBool = False
    source: str | None = None
    allow: dict[str, str] = Field(default={}, description="lint rules that it breaks on purpose, with the reason")
    published: Published | None = None

    def shown(self, item: str, link: str) -> str:
        """What this variant sets, to be filled in: each setting as ``item``, a format of ``key`` and ``value``."""
        keys = [key for key in Settings.model_fields if key in self.model_fields_set]
        plain = [key for key in keys if not isinstance(getattr(self, key), list | BaseModel)]
        names = ["batch_size" if key == "batch" else key for key in plain]  # what stands in the file
        return link.join(item.format(key=name, value=f"{{{name}}}") for name in names)


class Sweep(_Strict):
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
    variants: list[Variant] = []

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


Size = Annotated[dict[str, Any], AfterValidator(lambda size: _nothing_that_ends_a_value(size))]
"""What a template asks for under ``size``."""


class Recipe(_Strict):
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


class Architecture(_Strict):
    """What a profile says of one architecture; what it leaves out is as the file beside the template has it."""

    recipe: Recipe | None = None
    settings: Settings = Settings()
    size: Size = {}


class Template(_Strict):
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


class Profile(_Strict):
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
    mean_value: list[Finite] = []
    scale: Finite = 0.016
    batch_scale: Expression = 1
    settings: Settings = Settings()
    architectures: dict[Identifier, Architecture] = {}
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
