"""What a sweep asks for and nothing would read, or more than one would: refused, not written under another name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from caffebench.common.errors import InputError
from caffebench.common.header import read_header
from caffebench.generator.base import generate_on_base, load_base
from caffebench.generator.cli import main
from caffebench.generator.generate import generate
from caffebench.generator.variants.catalog import load_profile, load_sweep, parse_settings

sys.path.insert(0, str(Path(__file__).parent))
from architectures import ARCHITECTURES
from test_base import layers, on, solver, sweep, written


def base_of(folder: Path, name: str = "caffenet") -> Path:
    return written(folder, "base", ARCHITECTURES[name]())


def bundled(*variants: dict[str, object], given: tuple[str, ...] = (), **settings: object) -> dict[str, str]:
    study = sweep(*variants, **{"architecture": "caffenet", **settings})
    return generate([study], load_profile("digits"), overrides=parse_settings(given))


def own(folder: Path, text: str) -> dict[str, str]:
    path = folder / "mine.yaml"
    path.write_text(f"settings: {{architecture: caffenet}}\n{text}\n")
    return generate([load_sweep(str(path))], load_profile("digits"))


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out + told.err


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "Convolution", "phase": "TEST", "convolution_param.stride": 1},
        {"type": "Dropout", "phase": "TEST", "remove": True},
        {"layer": "fc*", "phase": "TRAIN", "param.lr_mult": 0},
    ],
)
def test_an_edit_of_one_phase_leaves_layers_of_both_alone(entry: dict[str, object], tmp_path: Path) -> None:
    made = on(base_of(tmp_path), {}, {"edit": [entry]})
    assert list(made.texts) == ["v0"]
    assert "it serves both phases, and 'phase' is for layers of one" in made.refused["v1"]


def test_an_edit_of_one_phase_changes_the_layers_of_it(tmp_path: Path) -> None:
    (text,) = on(
        base_of(tmp_path), {"edit": [{"type": "Data", "phase": "TEST", "data_param.batch_size": 5}]}
    ).texts.values()
    sizes = [layers(text, phase)["data"].data_param.batch_size for phase in (0, 1)]
    assert sizes == [256, 5]


UNREAD: list[tuple[dict[str, object], str]] = [
    ({"power": 2}, "power: lr_policy: step does not read it: lr_policy inv or poly would"),
    ({"gamma": 0.5, "lr_policy": "fixed"}, "gamma: lr_policy: fixed does not read it"),
    ({"stepsize": 9, "lr_policy": "poly"}, "stepsize: lr_policy: poly does not read it: lr_policy step or sigmoid"),
    ({"stepvalue": [9], "lr_schedule": {"policy": "cosine"}}, "stepvalue: an lr_schedule does not read it"),
    ({"momentum2": 0.9}, "momentum2: solver_type: SGD does not read it: solver_type Adam would"),
    ({"rms_decay": 0.9, "solver_type": "Adam"}, "rms_decay: solver_type: Adam does not read it"),
    ({"delta": 1}, "delta: solver_type: SGD does not read it: solver_type AdaGrad or"),
    ({"classes": 7}, "classes: the outputs stay as they are: classifier: new"),
    ({"init": "lsuv", "weights": "x.caffemodel"}, "init: lsuv would do nothing: training starts from the weights of x"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "why"), UNREAD)
def test_what_nothing_reads_is_refused(settings: dict[str, object], why: str, tmp_path: Path) -> None:
    made = on(base_of(tmp_path), {}, settings)
    assert list(made.texts) == ["v0"]
    assert why in made.refused["v1"]
    with pytest.raises(InputError) as caught:
        bundled({}, settings)
    assert why in str(caught.value)


def test_what_variants_share_need_not_be_read_by_each(tmp_path: Path) -> None:
    shared = {"gamma": 0.2, "stepsize": 100, "init": "lsuv", "classes": 7}
    variants: list[dict[str, object]] = [
        {"lr_policy": "fixed"},
        {"lr_policy": "step"},
        {"weights": "w.caffemodel", "classifier": "new"},
        {"power": 3, "base_lr": "power / 100"},
    ]
    assert len(bundled(*variants, **shared)) == len(variants)
    assert on(base_of(tmp_path), *variants, **shared).refused == {}
    assert len(bundled(*variants, given=("gamma=0.3", "power=2"))) == len(variants)


@pytest.mark.parametrize(("given", "key"), [(("classes=7",), "classes"), (("power=2", "lr_policy=fixed"), "power")])
def test_what_the_command_line_sets_for_nobody_is_refused(given: tuple[str, ...], key: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^--set {key}: "):
        bundled({}, {"bn": "after"}, given=given)
    with pytest.raises(InputError, match=f"^--set {key}: "):
        generate_on_base([sweep({})], load_base(base_of(tmp_path)), overrides=parse_settings(given))


@pytest.mark.parametrize(
    ("architecture", "settings", "why"),
    [
        ("caffenet", {"factorize": True}, "factorize: the template of caffenet does not read it here: that of"),
        ("googlenet128", {"pool": "ave"}, "sweep a file of googlenet128, with --base, to change it"),
        ("caffenet", {"bn_scale": True}, "bn_scale: the template of caffenet does not read it here: with bn: before"),
    ],
)  # fmt: skip
def test_what_a_template_does_not_know_is_refused(architecture: str, settings: dict[str, object], why: str) -> None:
    with pytest.raises(InputError) as caught:
        bundled({}, settings, architecture=architecture)
    assert why in str(caught.value)
    assert len(bundled({"factorize": False, "pool": "max"}, architecture=architecture)) == 1


def test_an_architecture_beside_a_base_is_refused(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    made = on(base, {"architecture": "caffenet"}, {})
    assert "architecture: the net is that of" in made.refused["v0"]
    with pytest.raises(InputError, match="architecture: the net is that of"):
        generate_on_base([sweep({})], load_base(base), overrides=parse_settings(("architecture=caffenet",)))


def test_the_header_has_the_classes_of_a_new_classifier() -> None:
    for settings, classes in (({"classes": 7}, 7), ({}, 10), ({"classes": "profile.classes * 2"}, 20)):
        (text,) = bundled({"classifier": "new", **settings}).values()
        (output,) = [one for name, one in layers(text).items() if name.startswith("fc8")]
        assert read_header(text)["classes"] == output.inner_product_param.num_output == classes


def test_a_list_can_be_in_a_grid(tmp_path: Path) -> None:
    made = own(tmp_path, "grid: {lr_policy: [multistep], stepvalue: [[100, 200], [max_iter / 4]]}")
    assert list(made) == ["lr_policymultistep_stepvalue100-200", "lr_policymultistep_stepvalue320"]
    assert [list(solver(text).stepvalue) for text in made.values()] == [[100, 200], [320]]
    assert list(own(tmp_path, "name: at{stepvalue}\nvariants: [{lr_policy: multistep, stepvalue: [50]}]")) == ["at50"]
    assert list(own(tmp_path, "variants: [{lr_mults: {conv*: 0.1}, base_lr: 0.1}]")) == ["base_lr0.1"]


@pytest.mark.parametrize("text", ["grid: {base_lr: [1/0]}", "variants: [{momentum: 1 // (2 - 2)}]"])
def test_a_division_by_0_is_called_so(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot evaluate '.*': it divides by 0$"):
        own(tmp_path, text)


def test_two_variants_are_never_one_file(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    for rate in (0.1, "1 / 10"):
        with pytest.raises(InputError, match=r"two variants of mine on .* are called a"):
            on(base, {"name": "a", "base_lr": 0.1}, {"name": "a", "base_lr": rate})
    made = on(base, *({"name": "b{batch_size}", "batch": size} for size in (0.1, 0.2)))
    assert (list(made.texts), made.refused) == (["b1"], {})
    with pytest.raises(ValueError, match="the variants 1 and 3 are marked 'default': one is the study's"):
        sweep({"default": True}, {}, {"default": True})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--lint", "--summary"], "are two questions: ask one at a time"),
        (["--lint", "--deploy"], "are two questions: ask one at a time"),
        (["--compare", "--summary"], "are two questions: ask one at a time"),
        (["--summary", "--deploy"], "are two questions: ask one at a time"),
        (["--as", "deploy"], "--as deploy says how to compare"),
        (["--lint", "--as", "deploy"], "--as deploy says how to compare"),
        (["--deploy", "--check"], "--check is of sweeps, and --deploy of prototxt files"),
    ],
)
def test_a_question_is_not_passed_over(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = asked(capsys, base_of(tmp_path), *options, "--out", tmp_path / "out")
    assert code == 2
    assert says in told
    assert not (tmp_path / "out").exists()


def test_one_file_is_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["batch_size", "--profile", "digits", "--only", "bs64", "--out", tmp_path]
    assert asked(capsys, *one) == (0, f"1 file in {tmp_path}, 1 of them new or changed: bs64\n")
    assert asked(capsys, *one, "--check") == (0, f"1 file in {tmp_path} is what would be written\n")
    path = tmp_path / "mine.yaml"
    path.write_text("variants: [{edit: [{layer: conv1, remove: true}]}]\n")
    assert "or a net of yours with --base SOLVER or 'base: SOLVER'" in asked(capsys, path)[1]


LITTLE = "profile: mine\ntrain_size: 900\ntest_size: 100\nclasses: 3\nimage_size: 128\n"


@pytest.mark.parametrize(
    ("size", "lacks"),
    [
        ("hidden: [{std: 0.1}]", "{'std': 0.1} has no 'num_output'"),
        ("hidden: [256]", "256 has no 'num_output'"),
        ("convolutions: [{num_output: 16}]", "{'num_output': 16} has no 'kernel_size'"),
    ],
)
def test_an_entry_of_a_size_that_lacks_a_key_is_named(size: str, lacks: str, tmp_path: Path) -> None:
    path = tmp_path / "mine_profile.yaml"
    path.write_text(f"{LITTLE}architectures: {{caffenet: {{size: {{{size}}}}}}}\n")
    with pytest.raises(InputError, match="asks for a value that is not there") as caught:
        generate([load_sweep("bn_order")], load_profile(str(path)))
    assert lacks in str(caught.value)


def test_a_size_without_a_deviation_has_one(tmp_path: Path) -> None:
    path = tmp_path / "mine_profile.yaml"
    sizes = "hidden: [{num_output: 256}], convolutions: [{num_output: 16, kernel_size: 3}]"
    path.write_text(f"{LITTLE}architectures: {{caffenet: {{size: {{{sizes}}}}}}}\n")
    text = generate([load_sweep("batch_size")], load_profile(str(path)), only="bs256")["bs256"]
    found = layers(text)
    fillers = [found["conv1"].convolution_param.weight_filler, found["fc6"].inner_product_param.weight_filler]
    assert [(one.type, round(one.std, 6)) for one in fillers] == [("gaussian", 0.01)] * 2
