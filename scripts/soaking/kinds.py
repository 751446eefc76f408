"""The kinds of runs that are put to the test: small nets on the digits, with everything that has a state."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "Kind"]

NET = """\
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  transform_param {{ {transform} mean_value: 78 scale: 0.02 }}
  data_param {{ source: "data/digits/train_lmdb" backend: LMDB batch_size: {batch} }} }}
{tests}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: 8 kernel_size: 3 weight_filler {{ type: "msra" }} }} }}
{middle}
layer {{ name: "fc1" type: "InnerProduct" bottom: "conv1" top: "fc1"
  inner_product_param {{ num_output: {hidden} weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "fc1" top: "fc1" }}
{dropout}
layer {{ name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"
  inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "fc2" bottom: "label" top: "accuracy" include {{ phase: TEST }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss" }}
"""
TEST = """\
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST {stage} }}
  transform_param {{ {crop} mean_value: 78 scale: 0.02 }}
  data_param {{ source: "data/digits/{source}_lmdb" backend: LMDB batch_size: 50 }} }}
"""
BATCHNORM = """\
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }"""
PRELU = 'layer { name: "prelu1" type: "PReLU" bottom: "conv1" top: "conv1" }'
RELU = 'layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }'
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "fc1" top: "fc1" dropout_param { dropout_ratio: 0.3 } }'


@dataclass(frozen=True)
class Kind:
    """A kind of run: its solver's fields, its header, its net."""

    name: str
    what: str
    """What there is to lose of it, for the table."""
    solver: str
    header: tuple[str, ...] = ()
    middle: str = RELU
    dropout: str = ""
    mirror: bool = False
    crop: int = 0
    hidden: int = 32
    """Outputs of the layer before the last; many have LSUV take long enough to be killed in."""
    two_tests: bool = False
    runs: int = 1
    """So many at a time, side by side."""

    def text(self, iterations: int, snapshot: int, seed: int) -> str:
        """The solver prototxt."""
        crop = f"crop_size: {self.crop}" if self.crop else ""
        stages = [("test", 'stage: "all"'), ("train", 'stage: "other"')] if self.two_tests else [("test", "")]
        net = NET.format(
            transform=f"{'mirror: true' if self.mirror else ''} {crop}",
            batch=32,
            tests="".join(TEST.format(stage=stage, crop=crop, source=source) for source, stage in stages),
            hidden=self.hidden,
            middle=self.middle,
            dropout=self.dropout,
        )
        lines = [f"# caffebench: {line}" for line in self.header]
        lines += [self.solver, f"max_iter: {iterations}", f"snapshot: {snapshot}", f"random_seed: {seed}"]
        lines += ["test_iter: 40", "test_interval: 200", "display: 20", "weight_decay: 0.0005", "solver_mode: CPU"]
        if self.two_tests:
            lines += ["test_iter: 3", 'test_state { stage: "all" }', 'test_state { stage: "other" }']
        return "\n".join([*lines, 'snapshot_prefix: "snapshots/x"', "net_param {", net, "}\n"])


STEP = 'base_lr: 0.01 lr_policy: "step" gamma: 0.3 stepsize: 500'
KINDS = (
    Kind(
        "sgd",
        "SGD, LSUV, BatchNorm, dropout, mirror",
        f'type: "SGD" momentum: 0.9 {STEP}',
        ("init: lsuv",),
        middle=BATCHNORM,
        dropout=DROPOUT,
        mirror=True,
        hidden=1500,
    ),
    Kind(
        "nesterov",
        "Nesterov, iter_size 3, crop, mirror",
        f'type: "Nesterov" momentum: 0.9 iter_size: 3 {STEP}',
        mirror=True,
        crop=6,
    ),
    Kind(
        "adam",
        "Adam, ortho, PReLU, dropout, two test nets",
        'type: "Adam" momentum: 0.9 momentum2: 0.999 base_lr: 0.001 lr_policy: "fixed"',
        ("init: ortho",),
        middle=PRELU,
        dropout=DROPOUT,
        two_tests=True,
    ),
    Kind("adagrad", "AdaGrad, BatchNorm", f'type: "AdaGrad" {STEP}', middle=BATCHNORM),
    Kind(
        "adadelta",
        "AdaDelta, mirror, dropout",
        'type: "AdaDelta" momentum: 0.95 delta: 1e-6 base_lr: 1 lr_policy: "fixed"',
        dropout=DROPOUT,
        mirror=True,
    ),
    Kind(
        "rmsprop",
        "RMSProp, multistep",
        'type: "RMSProp" rms_decay: 0.98 base_lr: 0.001 lr_policy: "multistep" gamma: 0.3 stepvalue: [300, 700]',
        middle=BATCHNORM,
    ),
    Kind(
        "phases",
        "phases of batch size and rate, LSUV",
        'type: "SGD" momentum: 0.9 base_lr: 0.01 lr_policy: "fixed"',
        (
            "init: lsuv",
            "phases: [{until: 300, batch_size: 16}, {until: 700, batch_size: 48, base_lr: 0.02}, "
            "{until: 1000, batch_size: 32, iter_size: 2}]",
        ),
        middle=BATCHNORM,
        dropout=DROPOUT,
        mirror=True,
        hidden=1500,
    ),
    Kind(
        "workers",
        "2 data-loading workers, cosine, crop, mirror",
        'type: "SGD" momentum: 0.9 base_lr: 0.02 lr_policy: "fixed"',
        ("init: ortho-lsuv", "loader: {workers: 2}", "lr_schedule: {policy: cosine, warmup: 50}"),
        dropout=DROPOUT,
        mirror=True,
        crop=6,
    ),
    Kind(
        "jobs",
        "--jobs 2: two runs of one launcher",
        f'type: "SGD" momentum: 0.9 {STEP}',
        ("init: lsuv",),
        middle=BATCHNORM,
        dropout=DROPOUT,
        runs=2,
    ),
)
