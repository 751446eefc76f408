"""Each rule on the example that it must find and on the near-twin that it must not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from caffebench.common.errors import CaffebenchError
from caffebench.engine.features import caffe_has_leveldb, caffe_has_opencv, caffe_is_there
from caffebench.engine.messages import caffe_messages
from caffebench.generator.lint import RULES, Finding, lint
from caffebench.generator.lint.asking import asking_caffe
from caffebench.generator.lint.command import lint_paths
from caffebench.generator.lint.page import changed, examples, page
from caffebench.generator.meaning import load_prototxt

BASE, EXAMPLES = examples()["base"], examples()["rules"]
CAFFES = {"caffe", "caffe-without"}  # rules that ask the Caffe that is here, or look into it
NAMES = [
    pytest.param(name, marks=pytest.mark.caffe if name in CAFFES else ()) for name in EXAMPLES if name != "unreadable"
]
Write = Callable[..., list[Finding]]


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits_root: Path) -> Write:
    """Lint files given as name=text, in a working folder that has the digits."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(digits_root)

    def run(files: dict[str, str], judged: str = "", *, ask: bool = False) -> list[Finding]:
        for name, text in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        loaded = [load_prototxt(Path(name)) for name in files if not name.startswith("net/")]
        if not ask:
            return [one for one in lint(loaded) if not judged or str(one.path) == judged]
        with asking_caffe():
            return lint(loaded)

    return run


def files_of(name: str, side: str) -> tuple[dict[str, str], str]:
    example = EXAMPLES[name]
    judged = example.get("name", "a.prototxt")
    files = {judged: changed(BASE, example[side])}
    return files | {other: changed(BASE, changes) for other, changes in example.get("also", {}).items()}, judged


def test_every_rule_has_an_example() -> None:
    assert set(EXAMPLES) == set(RULES)


def test_the_page_is_made_from_the_rules() -> None:
    path = Path(__file__).parents[2] / "docs" / "lint.md"
    assert page(path.read_text()) == path.read_text(), "run python -m caffebench.generator.lint.page"


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_finds_what_it_is_for(found: Write, name: str) -> None:
    if name == "caffe-without" and (not caffe_is_there() or caffe_has_opencv()):
        pytest.skip("there is no Caffe here that was built without OpenCV")
    files, judged = files_of(name, "fires")
    findings = [one for one in found(files, judged, ask=name == "caffe") if one.rule == name]
    assert findings, f"{name} found nothing"
    assert all(one.why and one.fix and one.path.name == judged for one in findings)
    assert any(one.severity == RULES[name].severity for one in findings)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_is_quiet_on_the_near_twin(found: Write, name: str) -> None:
    files, judged = files_of(name, "quiet")
    assert [str(one) for one in found(files, judged, ask=name == "caffe") if one.rule == name] == []


def test_the_base_has_no_findings(found: Write) -> None:
    assert [str(one) for one in found({"a.prototxt": BASE}, ask=True)] == []


@pytest.mark.parametrize(("side", "code"), [("fires", 1), ("quiet", 0)])
def test_what_cannot_be_read_is_a_finding(
    found: Write, side: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found({"other.prototxt": BASE.replace('"net"', '"other"')})
    Path("a.prototxt").write_text(files_of("unreadable", side)[0]["a.prototxt"])
    assert lint_paths([Path("a.prototxt"), Path("other.prototxt"), Path("none.prototxt")][: code + 2]) in (1, code)
    printed = capsys.readouterr().out
    assert ("a.prototxt:9: error unreadable" in printed) == bool(code)
    assert "other.prototxt: solver with its net inside, judged in TRAIN and TEST" in printed


def test_a_net_that_cannot_be_read_is_named(found: Write, capsys: pytest.CaptureFixture[str]) -> None:
    found({"net/n.prototxt": 'layer {\n  name "x" }\n'} | {"other.prototxt": BASE})
    Path("s.prototxt").write_text(SOLVER + 'net: "net/n.prototxt"')
    assert lint_paths([Path("s.prototxt"), Path("other.prototxt")]) == 1
    assert "net/n.prototxt:2: error unreadable: 2:8: no ':' between name and its value" in capsys.readouterr().out


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(CaffebenchError):
        load_prototxt(tmp_path / "none.prototxt")
    assert lint_paths([tmp_path / "none.prototxt"]) == 2


def with_(*changes: tuple[str, str]) -> str:
    return changed(BASE, changes)


SIX_CLASSES = """layer { name: "six" type: "InnerProduct" bottom: "drop" top: "six"
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "loss6" type: "SoftmaxWithLoss" bottom: "six" bottom: "label" top: "loss6" }
"""
ODD = """layer { name: "odd" type: "Data" top: "pixels" top: "odd"
  data_param { source: "gone" backend: LMDB batch_size: 16 } }
layer { name: "hush" type: "Silence" bottom: "pixels" }
"""
FLAT = 'layer { name: "flat" type: "Flatten" bottom: "fc" top: "flat" }\n'
BN_2 = (
    'layer { name: "bn_2" type: "BatchNorm" include { phase: TEST } bottom: "conv" top: "bn" }\nlayer { name: "scale"'
)
TEST_ONLY = """layer { name: "blur" type: "Convolution" include { phase: TEST } bottom: "data" top: "blur"
  convolution_param { num_output: 1 kernel_size: 3 bias_term: false weight_filler { type: "constant" value: 0.11 } } }
layer { name: "hush" type: "Silence" include { phase: TEST } bottom: "blur" }
"""
SEEN = """layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST stage: "seen" }
  transform_param { scale: 0.5 mean_value: 78 }
  data_param { source: "data/digits/train_lmdb" backend: LMDB batch_size: 479 } }
"""
HALF = "layer {".join(
    part for number, part in enumerate(BASE.split("net_param {\n")[1].rsplit("}", 1)[0].split("layer {")) if number != 2
)
HALF = HALF.replace("include { phase: TRAIN }", "", 1)
# name: (file's name, text, rule, what it says or None, severity)
MORE: dict[str, tuple[str, str, str, str | None, str]] = {
    "rate in the name": ("a_lr0005.prototxt", BASE, "file-name", "says lr0005, the file holds base_lr 0.01", "warning"),
    "batch of an update": (
        "a_bs32.prototxt",
        with_(("iter_size: 1", "iter_size: 2")),
        "file-name",
        None,
        "",
    ),
    "activation in CamelCase": ("NetAfterELU.prototxt", BASE, "file-name", "says ELU, the file holds ReLU", "warning"),
    "relu is no elu": ("net_relu.prototxt", BASE, "file-name", None, ""),
    "folder": ("tanh/net.prototxt", BASE, "file-name", "the folder's name says tanh", "warning"),
    "no BN": ("a_noBN.prototxt", BASE, "file-name", "no BatchNorm, the file holds BatchNorm layers", "warning"),
    "dropout": ("a_drop0.5.prototxt", BASE, "file-name", "drop0.5, the file holds dropout_ratio 0.2", "warning"),
    "steps below an epoch": (
        "a.prototxt",
        with_(("stepsize: 500", "stepsize: 80")),
        "step-scale",
        "stepsize 80 x 16 images is 0.89 of an epoch",
        "warning",
    ),
    "a whole batch twice": (
        "a.prototxt",
        with_(("test_iter: 9", "test_iter: 10")),
        "test-iter",
        "= 400 of 360 test images",
        "warning",
    ),
    "a last batch that is not full": (
        "a.prototxt",
        with_(("test_iter: 9", "test_iter: 8"), ("batch_size: 40", "batch_size: 50")),
        "test-iter",
        None,
        "",
    ),
    "a test that is not at the end": (
        "a.prototxt",
        with_(("test_interval: 100", "test_interval: 300")),
        "test-interval",
        "the last test is 100 iterations before the end",
        "note",
    ),
    "no test_iter": ("a.prototxt", with_(("test_iter: 9", "")), "test-interval", "without a test_iter", "warning"),
    "multistep without steps": (
        "a.prototxt",
        with_(('"step"', '"multistep"')),
        "rate-steps",
        "without a stepvalue",
        "warning",
    ),
    "statistics of the data in TRAIN": (
        "a.prototxt",
        with_(('type: "BatchNorm"', 'type: "BatchNorm" batch_norm_param { use_global_stats: true }')),
        "batchnorm-statistics",
        "use_global_stats is true in TRAIN",
        "warning",
    ),
    "frozen to be fine-tuned": (
        "a.prototxt",
        with_(
            ('type: "BatchNorm"', 'type: "BatchNorm" batch_norm_param { use_global_stats: true }'),
            ('type: "Scale"', 'type: "Scale" param { lr_mult: 0 } param { lr_mult: 0 }'),
        ),
        "batchnorm-statistics",
        "use_global_stats is true in TRAIN",
        "note",
    ),
    "data of another machine": (
        "a.prototxt",
        with_(("data/digits", "/no/such/place")),
        "missing-data",
        "no database at /no/such/place/train_lmdb",
        "note",
    ),
    "a folder for another machine": (
        "a.prototxt",
        with_(("data/digits", "/no/such/place"), ('"net"', '"nowhere/net"')),
        "snapshot-folder",
        "no folder nowhere",
        "note",
    ),
    "ours are run by run-caffe": (
        "a.prototxt",
        "# caffebench: sweep: some\n" + with_(('"net"', '"nowhere/net"')),
        "snapshot-folder",
        None,
        "",
    ),
    "allowed": (
        "a.prototxt",
        "# caffebench: allow: {no-display: meant}\n" + with_(("display: 100", "")),
        "no-display",
        None,
        "",
    ),
    "a ReLU before the loss": (
        "a.prototxt",
        with_(('layer { name: "loss"', 'layer { name: "r" type: "ReLU" bottom: "fc" top: "fc" } layer { name: "loss"')),
        "loss-input",
        "ReLU r before SoftmaxWithLoss",
        "warning",
    ),
    "one last layer may start at 0": (
        "a.prototxt",
        with_(('weight_filler { type: "xavier" }', "")),
        "zero-weights",
        None,
        "",
    ),
    "zero weights before a ReLU": (
        "a.prototxt",
        with_(('weight_filler { type: "msra" }', "")),
        "zero-weights",
        "weights start at 0",
        "warning",
    ),
    "weights that a sweep of ours fills": (
        "a.prototxt",
        "# caffebench: init: lsuv\n" + with_(('weight_filler { type: "msra" }', "")),
        "zero-weights",
        None,
        "",
    ),
    "a proposal layer of a net fed from outside, whose tools say where its modules are": (
        "a.prototxt",
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 2, 3, 3] } } }'
        ' layer { name: "p" type: "Python" bottom: "x" top: "p" python_param { module: "rpn.own" layer: "P" } }',
        "python-module",
        "the Python module rpn.own is not installed here",
        "note",
    ),
    "a module of a net that makes its own data": (
        "a.prototxt",
        'layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: [1, 2, 3, 3] } } }'
        ' layer { name: "p" type: "Python" bottom: "x" top: "p" python_param { module: "rpn.own" layer: "P" } }',
        "python-module",
        "the Python module rpn.own is not installed here",
        "error",
    ),
    "labels for the smaller of two heads": (
        "a.prototxt",
        with_(('layer { name: "loss"', SIX_CLASSES + 'layer { name: "loss"')),
        "labels",
        "labels up to 9 in data/digits/train_lmdb, 6 outputs of six",
        "error",
    ),
    "labels for the larger of two heads": (
        "a.prototxt",
        with_(('layer { name: "loss"', SIX_CLASSES.replace("6", "60") + 'layer { name: "loss"')),
        "labels",
        None,
        "",
    ),
    "labels for one output": (
        "a.prototxt",
        with_(("num_output: 10", "num_output: 1")),
        "labels",
        "labels up to 9 in data/digits/train_lmdb, 1 outputs of fc",
        "error",
    ),
    "labels for a hinge loss": (
        "a.prototxt",
        with_(('"SoftmaxWithLoss"', '"HingeLoss"'), ("num_output: 10", "num_output: 9")),
        "labels",
        "9 outputs of fc",
        "error",
    ),
    "a head whose labels are its own": (
        "a.prototxt",
        with_(
            ('layer { name: "loss"', SIX_CLASSES.replace('"label"', '"odd"') + 'layer { name: "loss"'),
            ('layer { name: "conv"', ODD + 'layer { name: "conv"'),
        ),
        "labels",
        None,
        "",
    ),
    "a label that is ignored": (
        "a.prototxt",
        with_(
            ("num_output: 10", "num_output: 9"),
            ('"SoftmaxWithLoss"', '"SoftmaxWithLoss" loss_param { ignore_label: 9 }'),
            ('"Accuracy"', '"Accuracy" accuracy_param { ignore_label: 9 }'),
        ),
        "labels",
        None,
        "",
    ),
    "scores of every pixel": (
        "a.prototxt",
        with_(
            ('layer { name: "fc" type: "InnerProduct"', 'layer { name: "fc" type: "Convolution"'),
            ("inner_product_param { num_output: 10", "convolution_param { kernel_size: 1 num_output: 3"),
            ('layer { name: "loss"', FLAT + 'layer { name: "loss"'),
            ('bottom: "fc" bottom: "label"', 'bottom: "flat" bottom: "label"'),
        ),
        "labels",
        None,
        "",
    ),
    "more than all classes": (
        "a.prototxt",
        with_(('"Accuracy"', '"Accuracy" accuracy_param { top_k: 11 }')),
        "top-k",
        "top_k 11 of the 10 outputs of fc",
        "error",
    ),
    "a BatchNorm of another name in TEST": (
        "a.prototxt",
        with_(
            ('layer { name: "bn" type', 'layer { name: "bn" include { phase: TRAIN } type'),
            ('layer { name: "scale"', BN_2),
        ),
        "untrained-layer",
        "weights that no layer of TRAIN has",
        "error",
    ),
    "weights of a test that are loaded": (
        "a.prototxt",
        'weights: "a.prototxt"\n'
        + with_(
            ('layer { name: "bn" type', 'layer { name: "bn" include { phase: TRAIN } type'),
            ('layer { name: "scale"', BN_2),
        ),
        "untrained-layer",
        None,
        "",
    ),
    "weights of a test that are written out": (
        "a.prototxt",
        with_(('layer { name: "loss"', TEST_ONLY + 'layer { name: "loss"')),
        "untrained-layer",
        None,
        "",
    ),
    "a test of the training data beside one of others": (
        "a.prototxt",
        with_(
            ("test_iter: 9", 'test_iter: 9 test_iter: 1 test_state { stage: "new" } test_state { stage: "seen" }'),
            ('top: "label" include { phase: TEST }', 'top: "label" include { phase: TEST stage: "new" }'),
            ('layer { name: "conv"', SEEN + 'layer { name: "conv"'),
        ),
        "test-data",
        None,
        "",
    ),
    "a net with one data layer, of which it is half": ("net.prototxt", HALF, "test-data", None, ""),
    "a solver whose net has one data layer": (
        "a.prototxt",
        BASE.split("net_param")[0] + "net_param {\n" + HALF + "}",
        "test-data",
        "data/digits/train_lmdb is what TRAIN reads",
        "warning",
    ),
    "three rates of statistics that Caffe sets to 0": (
        "a.prototxt",
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 2, 3, 3] } } }'
        ' layer { name: "b" type: "BatchNorm" bottom: "x" top: "b" param {} param {} param {} }',
        "batchnorm-learns",
        None,
        "",
    ),
}


@pytest.mark.parametrize("case", MORE)
def test_finer_points(found: Write, case: str) -> None:
    name, text, rule, what, severity = MORE[case]
    findings = [one for one in found({name: text}) if one.rule == rule]
    assert bool(findings) == (what is not None), findings
    assert what is None or any(what in one.what and one.severity == severity for one in findings), findings


NET = BASE.split("net_param {\n")[1].rsplit("}", 1)[0]
_, TRAIN, TEST, REST = NET.split("layer {", 3)
TRAIN, TEST, REST = ("layer {" + part for part in (TRAIN, TEST, REST))
SOLVER = BASE.split("net_param")[0]
DEPLOY = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3, 8, 8] } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" batch_norm_param { use_global_stats: true } }
layer { name: "boxes" type: "InnerProduct" bottom: "c" top: "boxes" inner_product_param { num_output: 4 } }
layer { name: "prob" type: "Softmax" bottom: "c" top: "prob" }
"""
# The files, and for each what it is read as; none of them has a finding.
ROLES: dict[str, dict[str, tuple[str, str]]] = {
    "deploy net": {"deploy.prototxt": (DEPLOY, "deploy net, judged in TEST")},
    "net alone": {"net.prototxt": (NET, "train_val net, judged in TRAIN and TEST")},
    "solver and net": {
        "s.prototxt": (SOLVER + 'net: "n.prototxt"', "solver with n.prototxt, judged in TRAIN and TEST"),
        "n.prototxt": (NET, "net of s.prototxt, judged in TRAIN and TEST"),
    },
    "run from a folder above": {
        "models/m/s.prototxt": (
            SOLVER + 'net: "models/m/n.prototxt"',
            "solver with models/m/n.prototxt, judged in TRAIN and TEST",
        ),
        "models/m/n.prototxt": (NET, "net of models/m/s.prototxt, judged in TRAIN and TEST"),
    },
    "a pair of halves": {
        "s.prototxt": (
            SOLVER + 'train_net: "train.prototxt" test_net: "test.prototxt"',
            "solver with train.prototxt and test.prototxt, judged in TRAIN and TEST",
        ),
        "train.prototxt": (TRAIN + REST, "net of s.prototxt, judged in TRAIN"),
        "test.prototxt": (TEST + REST, "net of s.prototxt, judged in TEST"),
    },
    "one half alone": {
        "test.prototxt": (TEST + REST, "test net, judged in TEST"),
    },
    "stages": {
        "net.prototxt": (
            NET.replace("include { phase: TRAIN }", 'include { phase: TRAIN stage: "learn" }').replace(
                'top: "label" include { phase: TEST }', 'top: "label" include { phase: TEST stage: "val" }'
            ),
            "train_val net, judged in TRAIN (stage learn) and TEST (stage val)",
        ),
    },
}


@pytest.mark.parametrize("case", ROLES)
def test_roles(found: Write, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    found({name: text for name, (text, _) in ROLES[case].items()})
    assert lint_paths([Path(name) for name in ROLES[case]]) == 0
    printed = capsys.readouterr().out
    for name, (_, role) in ROLES[case].items():
        assert f"{name}: {role}\n" in printed


def test_each_test_net_has_a_size_of_its_own(found: Write) -> None:
    layer = 'layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST stage: "seen" }'
    source = ' data_param { source: "data/digits/train_lmdb" backend: LMDB batch_size: 479 }'
    both = with_(
        ("include { phase: TEST }\n  transform", 'include { phase: TEST stage: "new" }\n  transform'),
        ('layer { name: "conv"', layer + source + ' }\nlayer { name: "conv"'),
        ("test_iter: 9", 'test_iter: 9 test_state { stage: "new" } test_iter: 3 test_state { stage: "seen" }'),
    )  # fmt: skip
    assert [one.what for one in found({"a.prototxt": both}) if one.rule == "test-iter"] == []
    wrong = both.replace("test_iter: 3", "test_iter: 2")
    assert [one.what for one in found({"a.prototxt": wrong}) if one.rule == "test-iter"] == [
        "test_iter 2 x batch_size 479 = 958 of 1,437 test images"
    ]


@pytest.mark.parametrize(("old", "same"), [('name: "fc"', True), ('name: "fc" include { phase: TEST }', False)])
def test_files_whose_tests_have_other_weights_are_not_the_same(found: Write, old: str, same: bool) -> None:
    fc = BASE[BASE.index('layer { name: "fc"') : BASE.index('layer { name: "loss"')]
    twins = fc.replace("type", "include { phase: TEST } type", 1) + fc.replace(
        "type", "include { phase: TRAIN } type", 1
    )
    text = with_((fc, twins))
    other = changed(text, [(old, old.replace("fc", "score"))])
    findings = found({"a.prototxt": text, "b.prototxt": other}, "a.prototxt")
    assert ("same-content" in {one.rule for one in findings}) == same


WITHOUT_OPENCV = pytest.mark.skipif(caffe_is_there() and caffe_has_opencv(), reason="this Caffe has OpenCV")
WITHOUT_LEVELDB = pytest.mark.skipif(caffe_is_there() and caffe_has_leveldb(), reason="this Caffe has LevelDB")


def caffe_lacks(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.severity, one.what) for one in findings if one.rule == "caffe-without"]


@pytest.mark.caffe
@WITHOUT_OPENCV
def test_records_that_this_caffe_cannot_decode(found: Write) -> None:
    import lmdb

    with lmdb.open("jpegs") as environment, environment.begin(write=True) as writing:
        writing.put(b"0", caffe_messages().Datum(data=b"JPEG", encoded=True, label=1).SerializeToString())
    encoded = with_(("data/digits/train_lmdb", "jpegs"))
    said = ("error", "the images in jpegs are stored as files (JPEG, PNG)")
    assert caffe_lacks(found({"a.prototxt": encoded})) == [said]
    loaded = "# caffebench: loader: {workers: 2}\n"  # decodes the images of TRAIN, not those of TEST
    assert caffe_lacks(found({"a.prototxt": loaded + encoded})) == []
    tested = loaded + with_(("data/digits/test_lmdb", "jpegs"))
    assert caffe_lacks(found({"a.prototxt": tested})) == [said]


@pytest.mark.caffe
@WITHOUT_OPENCV
def test_windows_of_another_machine_are_a_note(found: Write) -> None:
    window = with_(("data/digits", "/no/such/place"), ('type: "Data"', 'type: "WindowData"', 1))
    assert caffe_lacks(found({"a.prototxt": window})) == [("note", "WindowData reads image files")]


@pytest.mark.caffe
@WITHOUT_LEVELDB
def test_a_leveldb_that_this_caffe_cannot_read(found: Write) -> None:
    Path("old").mkdir()
    Path("old/CURRENT").write_text("MANIFEST-000002\n")
    for backend, said in (("backend: LEVELDB", "backend LEVELDB"), ("", "no backend, which is LEVELDB")):
        read = with_(('"data/digits/train_lmdb" backend: LMDB', f'"old" {backend}'))
        assert caffe_lacks(found({"a.prototxt": read})) == [("error", said)]
    no_backend = with_(("backend: LMDB batch_size: 16", "batch_size: 16"))  # for an LMDB: `backend` tells it
    assert caffe_lacks(found({"a.prototxt": no_backend})) == []


def test_a_net_given_beside_its_solver_is_told_once(found: Write) -> None:
    net = 'layer { name: "x" type: "Input" top: "x" }\nlayer { name: "r" type: "Relu" bottom: "x" top: "r" }'
    findings = found({"net.prototxt": net, "solver.prototxt": 'net: "net.prototxt"'})
    assert [(str(one.path), one.line) for one in findings if one.rule == "unknown-type"] == [("net.prototxt", 2)]


def test_a_forks_layers_are_one_line_for_each_type(found: Write) -> None:
    more = "".join(
        f'layer {{ name: "p{i}" type: "Permute" bottom: "fc" top: "p{i}" permute_param {{ order: {i} }} }}\n'
        for i in range(5)
    )
    findings = found({"a.prototxt": with_(('layer { name: "loss"', more + 'layer { name: "loss"'))})
    assert [(one.rule, one.layer) for one in findings] == [("unknown-type", "p0, p1 and 3 more")]


def test_python_layers_are_not_executed(found: Write, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('executed', 'w')\nclass L: pass\n")
    layer = 'layer { name: "py" type: "Python" bottom: "relu" top: "py" python_param { module: "evil" layer: "L" } }'
    text = with_(
        ('layer { name: "drop"', layer + ' layer { name: "drop"'),
        ('bottom: "relu" top: "drop"', 'bottom: "py" top: "drop"'),
    )
    assert [one for one in found({"a.prototxt": text}, ask=True) if one.severity != "note"] == []
    assert not (tmp_path / "executed").exists()


@pytest.mark.caffe
def test_what_caffe_says_is_told_once_and_at_its_layer(found: Write) -> None:
    text = with_(("kernel_size: 3", "kernel_size: 9"), ('"xavier"', '"Xavier"'))
    findings = found({"a.prototxt": text}, ask=True)
    assert [(one.rule, one.layer) for one in findings] == [("caffe", "conv"), ("filler-type", "fc")]
    (said,) = (one for one in findings if one.rule == "caffe")
    assert "Check failed" in said.what
    assert said.line == text[: text.index('name: "conv"')].count("\n") + 1


@pytest.mark.caffe
def test_a_warning_at_its_layer_does_not_hide_where_caffe_stops(found: Write) -> None:
    text = with_(("kernel_size: 3", "kernel_size: 9"), ('type: "msra"', 'type: "constant" value: 0'))
    findings = found({"a.prototxt": text}, ask=True)
    assert [(one.rule, one.layer) for one in findings] == [("caffe", "conv"), ("zero-weights", "conv")]


def test_a_finding_says_where_why_and_what_to_do(found: Write) -> None:
    (finding,) = found({"a.prototxt": BASE.replace("78 }", "77 }", 1)})
    assert str(finding).splitlines() == [
        "a.prototxt:18: warning mean-differs: layer data: mean_value 77 in TRAIN, 78 in TEST",
        f"  why: {RULES['mean-differs'].why}",
        "  fix: the same mean_value in both",
    ]


ALONE = (
    'layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "gone" batch_size: 4 } }\n'
    "%s\n"
    'layer { name: "fc" type: "InnerProduct" bottom: "last" top: "fc"\n'
    '  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }\n'
    'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
)
NOISE = 'layer { name: "noise" type: "DummyData" top: "noise" dummy_data_param { shape { %s } } }\n'
SIX = 'num_output: 6 kernel_size: 1 weight_filler { type: "xavier" }'
CONV = 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { %s } }\n'
SUM = 'layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "noise" top: "last" }'
FIT_SOME_DATA = {
    "noise of the batch": CONV % SIX + NOISE % "dim: 4 dim: 6 dim: 28 dim: 28" + SUM,
    "noise of a size that no guess has": CONV % SIX + NOISE % "dim: 4 dim: 6 dim: 8 dim: 8" + SUM,
    "channels in two halves": 'layer { name: "cut" type: "Slice" bottom: "data" top: "last" top: "b" }\n'
    'layer { name: "silence" type: "Silence" bottom: "b" }',
    "groups of the data's channels": CONV.replace('top: "c"', 'top: "last"') % (SIX + " group: 2"),
    "pixels in rows": 'layer { name: "rows" type: "Reshape" bottom: "data" top: "last"\n'
    "  reshape_param { shape { dim: 0 dim: 0 dim: 9 dim: 13 } } }",
}
FIT_NO_DATA = {
    "channels that differ": (
        CONV % SIX + (CONV % SIX).replace('"c"', '"noise"').replace(": 6", ": 7") + SUM,
        "sum",
    ),
    "groups of a layer's channels": (
        CONV % SIX
        + 'layer { name: "d" type: "Convolution" bottom: "c" top: "last"\n'
        + '  convolution_param { num_output: 4 kernel_size: 1 group: 4 weight_filler { type: "xavier" } } }',
        "d",
    ),
    "scores against noise": (
        'layer { name: "ten" type: "InnerProduct" bottom: "data" top: "c"\n'
        '  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }\n' + NOISE % "dim: 4 dim: 9" + SUM,
        "sum",
    ),
}


@pytest.mark.caffe
@pytest.mark.parametrize("case", FIT_SOME_DATA)
def test_a_net_whose_data_are_not_here_gets_the_benefit_of_the_doubt(found: Write, case: str) -> None:
    findings = found({"a.prototxt": ALONE % FIT_SOME_DATA[case]}, ask=True)
    assert [str(one) for one in findings if one.rule == "caffe"] == []


@pytest.mark.caffe
@pytest.mark.parametrize("case", FIT_NO_DATA)
def test_what_fits_data_of_no_size_is_found_without_them(found: Write, case: str) -> None:
    text, layer = FIT_NO_DATA[case]
    findings = found({"a.prototxt": ALONE % text}, ask=True)
    assert [one.layer for one in findings if one.rule == "caffe"] == [layer]
