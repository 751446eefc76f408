"""What can be set of a variant, and what is taken where nothing is set: the part of the schema that has the values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictStr,
    field_validator,
    model_validator,
)

from caffebench.common.caffe_facts import LR_POLICIES, InitMethod, SolverType

__all__ = ["DEFAULTS", "Expression", "Identifier", "Published", "Settings", "Strict", "Variant"]


def _expression(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"a number or an expression is wanted, not {value!r}")
    return value


Expression = Annotated[Any, PlainValidator(_expression)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


class Strict(BaseModel):
    """A part of a YAML file: no unknown keys, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Strict):
    """A learning-rate schedule that Caffe lacks; run-caffe applies it."""

    policy: Literal["cosine"]
    warmup: Expression = 0
    min_lr: Expression = 0


class Phase(Strict):
    """A stretch of training up to iteration ``until``; weights and momentum are handed on to the next."""

    until: Expression
    batch_size: Expression | None = None
    iter_size: Expression | None = None
    base_lr: Expression | None = None


class Settings(Strict):
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

    @model_validator(mode="after")
    def _one_fall_of_the_rate(self) -> Settings:
        if self.lr_schedule is not None and self.lr_policy not in (None, "fixed"):
            raise ValueError(f"lr_policy: {self.lr_policy} and an lr_schedule: leave out one of them")
        return self


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


class Published(Strict):
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
        plain = [
            key for key in keys if key == "stepvalue" or not isinstance(getattr(self, key), list | dict | BaseModel)
        ]
        names = ["batch_size" if key == "batch" else key for key in plain]  # what stands in the file
        return link.join(item.format(key=name, value=f"{{{name}}}") for name in names)
