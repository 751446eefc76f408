"""Each rule on a small prototxt that triggers it and on a near-twin that does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from caffebench.generator.lint import RULES, Finding, lint
from caffebench.generator.meaning import load_prototxt

CLEAN = """# caffebench: train_size: 1600
# caffebench: test_size: 400
test_iter: 10
test_interval: 100
base_lr: 0.01
lr_policy: "step"
gamma: 0.1
stepsize: 500
max_iter: 1000
iter_size: 1
snapshot_prefix: "snapshots/net"
net_param {
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { scale: 0.5 mean_value: 78 }
  data_param { source: "data/some/train_lmdb" backend: LMDB batch_size: 16 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.5 mean_value: 78 }
  data_param { source: "data/some/test_lmdb" backend: LMDB batch_size: 40 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "scale" top: "relu" }
layer { name: "drop" type: "Dropout" bottom: "relu" top: "drop" dropout_param { dropout_ratio: 0.2 } }
layer { name: "fc" type: "InnerProduct" bottom: "drop" top: "fc" inner_product_param { num_output: 10 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
}
"""
Write = Callable[..., list[Finding]]


def with_(*changes: tuple[str, str]) -> str:
    text = CLEAN
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def own(text: str, name: str) -> str:
    """The text with a snapshot prefix of its own."""
    return text.replace("snapshots/net", f"snapshots/{name}")


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Lint files given as name=text, in a working folder of their own."""
    monkeypatch.chdir(tmp_path)

    def run(files: dict[str, str]) -> list[Finding]:
        for name, text in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        return lint([load_prototxt(Path(name)) for name in files if not name.startswith("net/")])

    return run


BN = '{ name: "bn" type: "BatchNorm" '
STUDY = {
    f"net_{batch}.prototxt": own(
        with_(
            ("batch_size: 16", f"batch_size: {batch}"),
            ("max_iter: 1000", f"max_iter: {16000 // batch}"),
            ("stepsize: 500", f"stepsize: {8000 // batch}"),
        ),
        f"net_{batch}",
    )
    for batch in (8, 16, 32)
}
# rule: (layer, what the finding says, files that trigger it, near-twins that don't)
CASES: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "test-iter": (
        "",
        "test_iter 11 x batch_size 40 = 440 of 400 test images",
        {"a.prototxt": with_(("test_iter: 10", "test_iter: 11"))},
        {"a.prototxt": with_(("test_iter: 10", "test_iter: 20"), ("batch_size: 40", "batch_size: 20"))},
    ),
    "epochs": (
        "",
        "16 images an iteration for 99 iterations are 0.99 epochs of 1,600 images",
        {"a.prototxt": with_(("max_iter: 1000", "max_iter: 99"))},
        {"a.prototxt": with_(("max_iter: 1000", "max_iter: 100"), ('"step"', '"fixed"'))},
    ),
    "batch-over-data": (
        "",
        "batch x iter_size = 1,616 of 1,600 training images",
        {"a.prototxt": with_(("iter_size: 1", "iter_size: 101"))},
        {"a.prototxt": with_(("iter_size: 1", "iter_size: 100"))},
    ),
    "step-scale": (
        "",
        "stepsize 1,000 is not before max_iter 1,000",
        {"a.prototxt": with_(("stepsize: 500", "stepsize: 1000"))},
        {"a.prototxt": with_(("stepsize: 500", "stepsize: 999"))},
    ),
    "epochs-differ": (
        "",
        "1,000 iterations x 32 images are 2 times the images",
        STUDY | {"net_32.prototxt": own(with_(("batch_size: 16", "batch_size: 32")), "net_32")},
        STUDY,
    ),
    "steps-differ": (
        "",
        "stepsize is 0.8 of max_iter, 0.5 in most files of this net",
        STUDY | {"net_32.prototxt": STUDY["net_32.prototxt"].replace("stepsize: 250", "stepsize: 400")},
        STUDY,
    ),
    "mean-differs": (
        "data",
        "mean_value 78 in TRAIN, 77 in TEST",
        {"a.prototxt": CLEAN.replace("78", "77", 2).replace("77", "78", 1)},
        {"a.prototxt": CLEAN.replace("mean_value: 78", "mean_value: 78 mean_value: 78 mean_value: 78", 1)},
    ),
    "scale-differs": (
        "data",
        "scale 0.25 in TRAIN, 0.5 in TEST",
        {"a.prototxt": CLEAN.replace("scale: 0.5", "scale: 0.25", 1)},
        {"a.prototxt": with_(("scale: 0.5", "scale: 0.25"))},
    ),
    "missing-data": (
        "data",
        "no database at train_lmdb",
        {"a.prototxt": with_(("data/some/train_lmdb", "train_lmdb"))},
        {"a.prototxt": CLEAN},
    ),
    "missing-net": (
        "",
        "no net file net/none.prototxt",
        {"a.prototxt": 'net: "net/none.prototxt" base_lr: 0.1'},
        {"net/some.prototxt": 'layer { type: "Input" top: "x" }', "a.prototxt": 'net: "net/some.prototxt"'},
    ),
    "deprecated": (
        "",
        "SolverParameter.solver_type",
        {"a.prototxt": with_(("base_lr", "solver_type: SGD base_lr"))},
        {"a.prototxt": with_(("base_lr", 'type: "SGD" base_lr'))},
    ),
    "unknown-allow": (
        "",
        "allow: no-such-rule is no rule",
        {"a.prototxt": "# caffebench: allow: {no-such-rule: because}\n" + CLEAN},
        {"a.prototxt": "# caffebench: allow: {test-iter: because}\n" + CLEAN},
    ),
    "batchnorm-scale": (
        "bn",
        "no Scale with bias_term: true",
        {"a.prototxt": with_(('"Scale"', '"ReLU"'), ("scale_param { bias_term: true }", ""))},
        {
            "a.prototxt": with_(
                ('"Scale"', '"Dropout"'), ("scale_param { bias_term: true }", ""), ('"ReLU"', '"Flatten"')
            )
        },
    ),
    "batchnorm-learns": (
        "bn",
        "lr_mult of the statistics is not 0",
        {"a.prototxt": with_((BN, BN + "param { lr_mult: 0 } param { decay_mult: 0 } param { lr_mult: 0 } "))},
        {"a.prototxt": with_((BN, BN + "param { lr_mult: 0 } param { lr_mult: 0.0 } param { lr_mult: 0 } "))},
    ),
    "batchnorm-statistics": (
        "bn",
        "use_global_stats is false in TEST",
        {"a.prototxt": with_((BN, BN + "batch_norm_param { use_global_stats: false } "))},
        {
            "a.prototxt": with_(
                (
                    "layer " + BN + 'bottom: "conv" top: "bn" }',
                    "".join(
                        f'layer {BN}bottom: "conv" top: "bn" include {{ phase: {phase} }}'
                        f" batch_norm_param {{ use_global_stats: {stats} }} }}\n"
                        for phase, stats in (("TRAIN", "false"), ("TEST", "true"))
                    ),
                )
            )
        },
    ),
    "dropout-after-batchnorm": (
        "drop",
        "dropout_ratio 0.5 behind a BatchNorm",
        {"a.prototxt": with_(("dropout_ratio: 0.2", "dropout_ratio: 0.5"))},
        {
            "a.prototxt": with_(
                ("dropout_ratio: 0.2", "dropout_ratio: 0.5"),
                (
                    'bottom: "relu" top: "drop"',
                    'bottom: "fc0" top: "drop"',
                ),
                (
                    'layer { name: "drop"',
                    'layer { name: "fc0" type: "InnerProduct" bottom: "relu" top: "fc0"'
                    ' inner_product_param { num_output: 9 } }\nlayer { name: "drop"',
                ),
            )
        },
    ),
    "duplicate-name": (
        "fc",
        "Dropout has the name of the",
        {"a.prototxt": with_(('name: "drop"', 'name: "fc"'), ('layer { name: "relu"', 'layer { name: "fc"'))},
        {"a.prototxt": CLEAN},  # its two data layers have one name, each in its own phase
    ),
    "duplicate-top": (
        "relu",
        "top 'conv' is made by conv already",
        {"a.prototxt": with_(('"scale" top: "relu"', '"scale" top: "conv"'), ('bottom: "relu"', 'bottom: "conv"'))},
        {"a.prototxt": with_(('"scale" top: "relu"', '"scale" top: "scale"'), ('bottom: "relu"', 'bottom: "scale"'))},
    ),
    "missing-bottom": (
        "relu",
        "bottom 'scalle': no layer makes it",
        {"a.prototxt": with_(('bottom: "scale"', 'bottom: "scalle"'))},
        {"a.prototxt": with_(('bottom: "scale"', 'bottom: "scalle"'), ('top: "scale"', 'top: "scalle"'))},
    ),
    "unread-top": (
        "relu",
        "no layer of TRAIN or TEST reads top 'relu'",
        {"a.prototxt": with_(('bottom: "relu"', 'bottom: "scale"'))},
        {"a.prototxt": with_(('bottom: "relu"', 'bottom: "scale"'), ('type: "ReLU"', 'type: "Softmax"'))},
    ),
    "unknown-type": (
        "relu",
        "type 'RReLU' is not in BVLC Caffe",
        {"a.prototxt": with_(('"ReLU"', '"RReLU"'))},
        {"a.prototxt": with_(('"ReLU"', '"PReLU"'))},
    ),
    "unknown-field": (
        "",
        "no field net_param.layer.convolution_param.kernel in caffe.proto",
        {"a.prototxt": with_(("kernel_size: 3", "kernel_size: 3 kernel: 3"))},
        {"a.prototxt": with_(("kernel_size: 3", "kernel_h: 3 kernel_w: 3"))},
    ),
    "idle-settings": (
        "relu",
        "elu_param in a layer of type ReLU",
        {"a.prototxt": with_(('type: "ReLU"', 'type: "ReLU" elu_param { alpha: 0.5 }'))},
        {"a.prototxt": with_(('type: "ReLU"', 'type: "ReLU" relu_param { negative_slope: 0.5 }'))},
    ),
    "file-name": (
        "",
        "the file's name says bs256, the file holds batch_size 16",
        {"net_bs256.prototxt": CLEAN},
        {"net_bs16.prototxt": CLEAN},
    ),
    "snapshot-name": (
        "",
        "snapshot_prefix 'snapshots/a_tanh' says tanh, the file holds ReLU, no TanH",
        {"a.prototxt": with_(("snapshots/net", "snapshots/a_tanh"))},
        {"a.prototxt": with_(("snapshots/net", "snapshots/a_tanh"), ('"ReLU"', '"TanH"'))},
    ),
    "snapshot-shared": (
        "",
        "snapshot_prefix 'snapshots/net' is that of b.prototxt too",
        {"a.prototxt": CLEAN, "b.prototxt": with_(("base_lr: 0.01", "base_lr: 0.02"))},
        {"a.prototxt": own(CLEAN, "a"), "b.prototxt": own(with_(("base_lr: 0.01", "base_lr: 0.02")), "b")},
    ),
    "same-content": (
        "",
        "is byte for byte b.prototxt",
        {"a.prototxt": CLEAN, "b.prototxt": CLEAN},
        {"a.prototxt": CLEAN, "b.prototxt": own(CLEAN, "second_try")},
    ),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(RULES)


def test_every_rule_is_in_the_docs() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "lint.md").read_text()
    table = [line for line in docs.splitlines() if line.startswith("| `")]
    assert table == [f"| `{r.id}` | {r.severity} | {r.doc.replace('``', '`')} |" for r in RULES.values()]


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_what_it_is_for(found: Write, name: str) -> None:
    layer, what, files, _ = CASES[name]
    findings = [one for one in found(files) if one.rule == name]
    assert findings, f"{name} found nothing"
    assert any(what in one.what and one.layer == layer for one in findings), findings
    assert all(one.severity == RULES[name].severity and one.why and one.fix for one in findings)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_quiet_on_the_near_twin(found: Write, name: str) -> None:
    assert [str(one) for one in found(CASES[name][3]) if one.rule == name] == []


def test_a_clean_file_has_no_findings(found: Write) -> None:
    assert [str(one) for one in found({"net.prototxt": CLEAN})] == []
    assert [str(one) for one in found(STUDY)] == []


MORE = {
    "rate in the name": ("a_lr0005.prototxt", CLEAN, "file-name", "says lr0005, the file holds base_lr 0.01"),
    "rate in digits": ("a_lr0.005.prototxt", CLEAN, "file-name", "says lr0.005"),
    "batch of an update": ("a_bs32.prototxt", with_(("iter_size: 1", "iter_size: 2")), "file-name", None),
    "activation in CamelCase": ("NetAfterELU.prototxt", CLEAN, "file-name", "says ELU, the file holds ReLU, no ELU"),
    "relu is no elu": ("net_relu.prototxt", CLEAN, "file-name", None),
    "folder": ("tanh/net.prototxt", CLEAN, "file-name", "the folder's name says tanh"),
    "no LRN": ("a_no_lrn.prototxt", with_(('"ReLU"', '"LRN"')), "file-name", "no LRN, the file holds LRN layers"),
    "no BN": ("a_noBN.prototxt", CLEAN, "file-name", "no BatchNorm, the file holds BatchNorm layers"),
    "BN": ("a_bn.prototxt", CLEAN, "file-name", None),
    "BN without one": ("a_bn.prototxt", with_(('"BatchNorm"', '"ReLU"')), "file-name", "bn, the file holds no BatchN"),
    "dropout": ("a_drop0.5.prototxt", CLEAN, "file-name", "drop0.5, the file holds dropout_ratio 0.2"),
    "no dropout": ("a_drop0.prototxt", with_(('"Dropout"', '"Flatten"')), "file-name", None),
    "a phase's batch": (
        "grow_bs64.prototxt",
        "# caffebench: phases: [{until: 500, batch_size: 16}, {until: 1000, batch_size: 64}]\n" + CLEAN,
        "file-name",
        None,
    ),
    "another file's prefix": ("net2.prototxt", CLEAN, "snapshot-name", "is the name of net.prototxt"),
    "steps below an epoch": (
        "a.prototxt",
        with_(("stepsize: 500", "stepsize: 90")),
        "step-scale",
        "stepsize 90 x 16 images is 0.9 of an epoch",
    ),
    "too many steps": ("a.prototxt", with_(("stepsize: 500", "stepsize: 105")), "step-scale", "9 drops by 0.1"),
    "steps that descend": (
        "a.prototxt",
        with_(('"step"', '"multistep" stepvalue: 700 stepvalue: 600')),
        "step-scale",
        "does not ascend",
    ),
    "step without a size": ("a.prototxt", with_(("stepsize: 500", "")), "step-scale", "without a stepsize above 0"),
    "many epochs": ("a.prototxt", with_(("max_iter: 1000", "max_iter: 1000000")), "epochs", "1e+04 epochs"),
    "ImageNet by its classes": (
        "a.prototxt",
        with_(("num_output: 10 ", "num_output: 1000 "), ("# caffebench: test_size: 400\n", "")),
        "test-iter",
        "= 400 of 50,000 test images",
    ),
    "missing absolute path": (
        "a.prototxt",
        with_(("data/some/train_lmdb", "/no/such/place/train_lmdb")),
        "missing-data",
        "no database at /no/such/place/train_lmdb",
    ),
    "missing mean file": (
        "a.prototxt",
        with_(("mean_value: 78", 'mean_file: "mean.binaryproto"')),
        "missing-data",
        "no file mean.binaryproto",
    ),
    "statistics in TRAIN": (
        "a.prototxt",
        with_((BN, BN + "batch_norm_param { use_global_stats: true } ")),
        "batchnorm-statistics",
        "use_global_stats is true in TRAIN",
    ),
    "Scale without shift": (
        "a.prototxt",
        with_(("bias_term: true", "bias_term: false")),
        "batchnorm-scale",
        "no Scale with bias_term",
    ),
    "old net inside a solver": (
        "a.prototxt",
        'base_lr: 1 net_param { layers { type: RELU bottom: "a" top: "b" } }',
        "deprecated",
        "inside a solver it is left out",
    ),
    "ignored transformation": (
        "a.prototxt",
        with_(("batch_size: 16", "batch_size: 16 mirror: true")),
        "deprecated",
        "DataParameter.mirror",
    ),
    "made later": (
        "a.prototxt",
        with_(('bottom: "conv" top: "bn"', 'bottom: "fc" top: "bn"')),
        "missing-bottom",
        "only a later layer makes it",
    ),
    "made in the other phase": (
        "a.prototxt",
        CLEAN.replace('top: "label" include { phase: TEST }', "include { phase: TEST }"),
        "missing-bottom",
        "no layer makes it in TEST",
    ),
    "end of a net without loss": ("a.prototxt", 'layer { name: "x" type: "Input" top: "x" }', "unread-top", None),
    "stages that only a solver names": (
        "a.prototxt",
        'layer { name: "a" type: "Input" top: "a" include { stage: "x" } }\n'
        'layer { name: "b" type: "ReLU" bottom: "a" top: "b" }',
        "missing-bottom",
        None,
    ),
    "stages that the solver names": (
        "a.prototxt",
        'test_iter: 1 test_state { stage: "y" } net_param { layer { name: "a" type: "Input" top: "a" include {'
        ' phase: TRAIN } }\nlayer { name: "b" type: "ReLU" bottom: "a" top: "b" include { stage: "y" } } }',
        "missing-bottom",
        "bottom 'a': no layer makes it in TEST",
    ),
    "allowed": (
        "net_bs256.prototxt",
        "# caffebench: allow: {file-name: counts four machines}\n" + CLEAN,
        "file-name",
        None,
    ),
}


@pytest.mark.parametrize("case", MORE)
def test_finer_points(found: Write, case: str) -> None:
    name, text, rule, what = MORE[case]
    files = {name: text} | ({"net.prototxt": own(CLEAN, "first")} if case == "another file's prefix" else {})
    findings = [one.what for one in found(files) if one.rule == rule]
    assert bool(findings) == (what is not None), findings
    assert what is None or any(what in one for one in findings), findings


def test_size_of_a_real_lmdb(found: Write, digits_root: Path) -> None:
    text = CLEAN.split("\n", 2)[2].replace("data/some", str(digits_root / "digits"))
    findings = found({"a.prototxt": text})
    assert [one.what for one in findings] == ["test_iter 10 x batch_size 40 = 400 of 360 test images"]
    assert findings[0].fix == "test_iter: 9 with a TEST batch_size of 40"
    assert findings[0].line == 1


def test_a_net_given_beside_its_solver_is_told_once(found: Write) -> None:
    net = 'layer { name: "x" type: "Input" top: "x" }\nlayer { name: "r" type: "Relu" bottom: "x" top: "r" }'
    findings = found({"net.prototxt": net, "solver.prototxt": 'net: "net.prototxt"'})
    assert [(str(one.path), one.line, one.rule) for one in findings] == [("net.prototxt", 2, "unknown-type")]


def test_a_finding_says_where_why_and_what_to_do(found: Write) -> None:
    (finding,) = found({"net_bs256.prototxt": CLEAN.replace("78", "77", 1)})[1:]
    assert str(finding).splitlines() == [
        "net_bs256.prototxt:17: warning mean-differs: layer data: mean_value 77 in TRAIN, 78 in TEST",
        f"  why: {RULES['mean-differs'].why}",
        "  fix: the same mean_value in both",
    ]
