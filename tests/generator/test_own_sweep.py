"""A user's own sweep: grids, rules, what is refused and how; the evaluator behind it."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from caffebench.common.errors import InputError
from caffebench.common.header import read_header
from caffebench.engine.messages import caffe_messages
from caffebench.generator.cli import main
from caffebench.generator.generate import generate
from caffebench.generator.variants.catalog import load_profile, load_sweep, parse_settings
from caffebench.generator.variants.expressions import evaluate, fill, show
from caffebench.generator.variants.schema import Sweep
from caffebench.generator.variants.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))
from architectures import ARCHITECTURES

ROOT = Path(__file__).parents[2]
HEAD = "sweep: mine\ntitle: t\nstudies: s\nsource: me\nlabel: l\n"


def sweep(folder: Path, text: str, profile: str = "digits", **options: object) -> dict[str, str]:
    path = folder / "mine.yaml"
    path.write_text(HEAD + text)
    return generate([load_sweep(str(path))], load_profile(profile), **options)  # type: ignore[arg-type]


def refused(folder: Path, text: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        sweep(folder, text, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def solver(text: str) -> object:
    return text_format.Parse(text, caffe_messages().SolverParameter())


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    made = sweep(
        tmp_path,
        "settings: {architecture: caffenet}\nname: m{momentum}_{bn}\ngrid: {momentum: [0.9, 0], bn: [none, after]}\n",
    )
    assert list(made) == ["m0.9_none", "m0.9_after", "m0_none", "m0_after"]
    assert [name for name, text in made.items() if read_header(text).get("default")] == ["m0.9_none"]
    assert ["BatchNorm" in text for text in made.values()] == [False, True, False, True]
    assert [solver(text).momentum for text in made.values()] == pytest.approx([0.9, 0.9, 0, 0])  # type: ignore[attr-defined]


def test_a_rule_ties_one_value_to_another(tmp_path: Path) -> None:
    made = sweep(
        tmp_path,
        "settings: {architecture: caffenet, max_iter: 320000 * 256 / batch_size, stepsize: max_iter // 3}\n"
        "name: b{batch_size}\ngrid: {batch_size: [256, 24]}\n",
    )
    assert [(solver(t).max_iter, solver(t).stepsize) for t in made.values()] == [  # type: ignore[attr-defined]
        (320000, 106666),
        (3413333, 1137777),
    ]


def test_the_nearest_value_wins(tmp_path: Path) -> None:
    text = (
        "settings: {architecture: caffenet, momentum: 0.1, gamma: 0.1, weight_decay: 0.1}\n"
        "on_profile: {digits: {momentum: 0.2, gamma: 0.2}}\nname: n\nvariants: [{momentum: 0.3}]\n"
    )
    made = solver(sweep(tmp_path, text)["n"])
    assert (made.momentum, made.gamma, made.weight_decay) == pytest.approx((0.3, 0.2, 0.1))  # type: ignore[attr-defined]
    made = solver(sweep(tmp_path, text, overrides=parse_settings(("momentum=0.4",)))["n"])
    assert made.momentum == pytest.approx(0.4)  # type: ignore[attr-defined]
    made = solver(sweep(tmp_path, text, profile="cifar10")["n"])
    assert made.gamma == pytest.approx(0.1)  # type: ignore[attr-defined]


def test_what_caffe_cannot_say_stands_in_the_header(tmp_path: Path) -> None:
    text = sweep(
        tmp_path,
        "settings: {architecture: caffenet}\nname: n\nvariants:\n"
        "  - lr_schedule: {policy: cosine, warmup: max_iter / 10}\n"
        "    seed: 7\n    workers: 4\n    deterministic: true\n    weights: w.caffemodel\n    init: none\n"
        "    phases: [{until: max_iter / 2, batch_size: batch_size * 2}, {until: max_iter, base_lr: base_lr / 10}]\n",
    )["n"]
    header = read_header(text)
    assert header["lr_schedule"] == {"policy": "cosine", "warmup": 128}
    assert (header["seed"], header["deterministic"], header["weights"]) == (7, True, "w.caffemodel")
    assert header["loader"] == {"workers": 4}
    assert header["phases"] == [{"until": 640, "batch_size": 128}, {"until": 1280, "base_lr": 0.001}]
    assert "init" not in header
    assert (solver(text).lr_policy, solver(text).random_seed) == ("fixed", 7)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variants: [{lr_policy: cosine}]", "Caffe has no policy 'cosine', only fixed, step"),
        ("variants: [{lr_policy: cosine}]", "lr_schedule: {policy: cosine}"),
        ("variants: [{activation: rellu}]", "Input should be 'relu'"),
        ("variants: [{base_lr: [1]}]", "a number or an expression is wanted"),
        ("variants: [{base_lr: true}]", "a number or an expression is wanted, not True"),
        (
            "variants: [{base_lr: momentun}]",
            "mine, variant 1 on digits: in 'base_lr': 'momentun' is not known here: did you mean 'momentum'?",
        ),
        ("variants: [{base_lr: base_lr * 2}]", "base_lr needs base_lr: expressions must not go round"),
        ("variants: [{base_lr: momentum, momentum: base_lr}]", "expressions must not go round"),
        ("variants: [{base_lr: 1 / 0}]", "cannot evaluate '1 / 0'"),
        ("variants: [{}, {}]", "two variants of mine on digits are called n"),
        ("variants: []", "has no variants"),
        ("grid: {bach: [1]}", "unknown key 'bach': did you mean 'batch'?"),
        ("grid: {bn: [befor]}", "the grid of mine: bn: Input should be 'none'"),
        ("variants: [{name: ../n}]", "'../n' cannot be a variant's name"),
        ("variants: [{name: .n}]", "'.n' cannot be a variant's name"),
        ("variants: [{name: n/m}]", "cannot be a variant's name"),
        ("variants: [{architecture: alexnet}]", "has no architecture 'alexnet', but caffenet, googlenet128"),
        ("variants: [{published: {accuracy: 0.470}}]", "mine.yaml:8: variants.0.published.accuracy"),
        ("refuse: {digits: too small}\nvariants: [{}]", "not made for the profile digits: too small"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, f"settings: {{architecture: caffenet}}\nname: n\n{text}\n")


def test_what_is_no_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    assert "mine.yaml:7: this is not YAML" in refused(tmp_path, "name: n\n  - what: [\n")


@pytest.mark.slow
def test_the_same_text_whatever_the_machine_says(tmp_path: Path) -> None:
    """As the files that are kept, which other tests make again in this process's own locale and time zone."""
    command = [sys.executable, "-c", "from caffebench.generator.cli import main; main()", "--all", "--out", "out"]
    settings = {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=settings)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == sorted(path.name for path in (ROOT / "prototxt").iterdir())
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (ROOT / "prototxt" / name).read_bytes()


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom caffebench.generator.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'yaml', 'jinja2', 'pydantic', 'google', 'numpy'}\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--compare" in done.stdout
    assert done.stdout.splitlines()[-1] == ""


def test_list_names_sweeps_counts_and_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--list"])
    printed = capsys.readouterr().out
    assert "batch_size: Batch size, ReLU (12 variants)" in printed
    assert "source: ducha-aiki/caffenet-benchmark, BatchSize.md" in printed
    assert "cifar10: CIFAR-10, 32 x 32 pixels" in printed


NUMBERS = st.integers(0, 10**6) | st.floats(0, 1e6, allow_nan=False)


@given(a=NUMBERS, b=NUMBERS, c=st.integers(1, 1000))
def test_arithmetic_is_exact(a: float, b: float, c: int) -> None:
    x, y = Fraction(str(a)), Fraction(str(b))
    names = {"a": a, "g": {"b": b}}
    assert evaluate(f"(a + g.b) * 2 - {c}", names) == (x + y) * 2 - c
    assert evaluate(f"a / {c}", names) == x / c
    assert evaluate("max(a, g.b, 3)", names) == max(x, y, 3)


@given(st.text(max_size=60))
def test_any_text_is_evaluated_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(evaluate(text, {"a": 1, "g": {"b": 2}}), Fraction | dict)


@pytest.mark.parametrize(
    "text",
    [
        *("1e999", "'a'", "'a' + 1", "-'a'", "'x' * 9999999", "f'{a}'", "True + True", "[1]", "1j"),
        *("__import__('os')", "a.__class__", "(lambda: 1)()", "2 ** 99999", "a if a else 1"),
        *("max()", "max(key=1)", "round(1, 10**9)", "(" * 150 + "1" + ")" * 150, "9" * 500),
    ],
)
def test_nothing_but_arithmetic(text: str) -> None:
    with pytest.raises(InputError):
        evaluate(text, {"a": 1})


def test_numbers_in_names_are_those_of_the_published_tables() -> None:
    assert [show(Fraction(1, 100) / n) for n in (1, 2, 8, 256)] == ["0.01", "0.005", "0.00125", "3.9063e-05"]
    assert fill("{kilo(n)} {kilo(n / 64)} {kilo(1437)}", {"n": 81920000}) == "81920K 1280K 1437"


@pytest.mark.slow
def test_the_page_builds_a_sweep_as_it_says(tmp_path: Path) -> None:
    """Every command of docs/sweeps.md is run, in order, and prints what the page shows."""
    page = (ROOT / "docs" / "sweeps.md").read_text()
    examples = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    (study,) = [one for one in examples if "rate{base_lr}" in one]
    (edits,) = [one for one in examples if "edit:" in one]
    (tmp_path / "bn_rate.yaml").write_text(study)
    (tmp_path / "edits.yaml").write_text(edits)
    (tmp_path / "wrong.yaml").write_text(study.replace("dropout", "dropuot"))
    (tmp_path / "solver.prototxt").write_text(ARCHITECTURES["caffenet"]())
    (tmp_path / "residual.prototxt").write_text(ARCHITECTURES["resnet20"]())
    lines = page.splitlines()
    commands = [number for number, line in enumerate(lines) if line.startswith("    $ ")]
    assert len(commands) == 10
    for number in commands:
        shown = list(
            itertools.takewhile(lambda line: line.startswith("    ") and "$ " not in line, lines[number + 1 :])
        )
        command = f"{Path(sys.executable).parent}/{lines[number].removeprefix('    $ ')}"
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)  # noqa: S602
        assert (done.stdout + done.stderr).splitlines() == [line.strip() for line in shown]
    assert f"{len(list((ROOT / 'generator' / 'sweeps').iterdir()))} sweeps" in page
    assert f"{len(list((ROOT / 'prototxt').iterdir()))} variants" in page


def test_the_page_knows_every_setting() -> None:
    page = (ROOT / "docs" / "sweeps.md").read_text()
    table = page.split("## Settings")[1].split("## The header")[0]
    assert [name for name in Settings.model_fields if f"`{name}`" not in table] == []


def test_a_profile_whose_test_set_is_no_whole_number_of_batches_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (ROOT / "generator" / "profiles" / "digits.yaml").read_text()
    path.write_text(text.replace("test_batch_size: 120", "test_batch_size: 100"))
    with pytest.raises(InputError, match=r"mine.yaml:6: test_batch_size: .* 100 does not divide it"):
        load_profile(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variants: [{base_lr: -1}]", "in 'base_lr': '-1' is -1, and must be at least 0"),
        ("variants: [{max_iter: 9999999999}]", "and must be at most 2.14748e+09"),
        ("variants: [{momentum: 1.5}]", "and must be at most 1"),
        ("variants: [{workers: 0}]", "and must be at least 1"),
        ("variants: [{width: 0}]", "'0' is 0, and must be at least 1e-06"),
        (f"variants: [{{base_lr: {'9' * 150} * {'9' * 40}}}]", "is huge, and must be at most 1e+06"),
        (
            "settings: {architecture: caffenet, gamma: 0.999999999999999, "
            + ", ".join(
                f"{one}: {other} * {other}"
                for one, other in itertools.pairwise(
                    [
                        "base_lr",
                        "power",
                        "momentum",
                        "momentum2",
                        "rms_decay",
                        "delta",
                        "weight_decay",
                        "width",
                        "gamma",
                    ]
                )
            )
            + "}\nvariants: [{}]",
            "is a number of more than 4096 bits",
        ),
        ("grid: {base_lr: [" + "0.1, " * 200 + "], gamma: [" + "0.1, " * 51 + "]}", "are 10200 combinations"),
        ("variants: [" + "{}, " * 10_001 + "]", "10001 variants are more than 10000"),
    ],
)
def test_what_grows_without_end_or_out_of_range_is_refused_at_once(tmp_path: Path, text: str, message: str) -> None:
    head = "" if text.startswith("settings") else "settings: {architecture: caffenet}\n"
    start = time.process_time()
    assert message in refused(tmp_path, f"{head}name: n\n{text}\n")
    assert time.process_time() - start < 3  # a third of a second where nothing else runs


HOSTILE = st.text(st.sampled_from("ab \"'\\\n\r\x85\u2028{}[]:#;,é\x00\t"), min_size=1, max_size=12)


@pytest.mark.caffe
@trying(deadline=None)
@given(label=HOSTILE, comment=HOSTILE, reason=HOSTILE, source=HOSTILE)
def test_texts_of_a_sweep_stay_in_their_comment(label: str, comment: str, reason: str, source: str) -> None:
    texts = {"label": label, "comment": comment}
    fields = {name: re.sub("[{}]", "", text) or "x" for name, text in texts.items()}  # braces hold expressions
    made = Sweep(
        sweep="s", title="t", studies="s", name="n", variants=[{"source": source}], source="us",  # type: ignore[list-item]
        settings=Settings(architecture="caffenet"), allow={"epochs": reason}, **fields,
    )  # fmt: skip
    (text,) = generate([made], load_profile("digits")).values()
    header = read_header(text)
    assert {name: header[name] for name in texts} == fields
    assert (header["allow"], header["source"]) == ({"epochs": reason}, source)
    plain = made.model_copy(update={"label": "l", "comment": "", "allow": {}})
    assert solver(text) == solver(*generate([plain], load_profile("digits")).values())


@pytest.mark.parametrize(
    "filler", ['msra" } weight_filler { type: "x', "a\nb", "a\u2028b", "a'b", "3 stride: 2", "a#b"]
)
def test_a_size_that_would_leave_its_quotes_is_refused(tmp_path: Path, filler: str) -> None:
    profile = yaml.safe_load((ROOT / "generator" / "profiles" / "digits.yaml").read_text())
    profile["architectures"]["caffenet"]["size"] = {"filler": filler}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(profile))
    with pytest.raises(InputError, match=r"mine.yaml:\d+: architectures.caffenet.size: .* would end the value"):
        load_profile(str(path))


def test_a_size_of_the_wrong_kind_is_told_in_one_line(tmp_path: Path) -> None:
    text = (ROOT / "generator" / "profiles" / "digits.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("max_iter: 1280}\n", "max_iter: 1280}\n    size: {hidden: [{num_output: many}]}\n"))
    with pytest.raises(InputError, match="bs256: the template of caffenet: can't multiply") as caught:
        generate([load_sweep("batch_size")], load_profile(str(path)))
    assert "\n" not in str(caught.value)
