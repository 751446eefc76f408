"""`gen-prototxt`: what it writes, and what it refuses."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

from caffebench.common.header import read_header
from caffebench.engine.messages import caffe_messages
from caffebench.generator.cli import main
from caffebench.generator.generate import generate, outdated
from caffebench.generator.variants.catalog import load_profile, load_sweep, profile_names
from caffebench.generator.variants.resolve import ending_with_a_test

ROOT = Path(__file__).parent.parent.parent
PROFILES = profile_names()


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def texts(profile: str, *sweeps: str) -> dict[str, str]:
    return generate([load_sweep(name) for name in sweeps], load_profile(profile))


def parse(text: str):
    return text_format.Parse(text, caffe_messages().SolverParameter())


@pytest.mark.slow
def test_the_files_checked_in_are_what_would_be_written(every_file):
    assert outdated(every_file("imagenet128"), ROOT / "prototxt", every=True) == []


def test_check_names_what_differs(tmp_path, capsys):
    assert run("batch_size", "--out", tmp_path) == 0
    (tmp_path / "bs64.prototxt").write_text("edited")
    (tmp_path / "bs32.prototxt").unlink()
    capsys.readouterr()
    assert run("batch_size", "--out", tmp_path, "--check") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [f"{tmp_path}/bs64.prototxt differs", f"{tmp_path}/bs32.prototxt is missing"]


@pytest.mark.slow
def test_every_published_variant_is_there_with_its_figures_label_and_comment(shared, every_file):
    ours = {name: read_header(text) for name, text in every_file("imagenet128").items()}
    with (shared / "published.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 51
    for row in rows:
        header = ours[row["variant"]]
        assert header["sweep"] == row["sweep"]
        assert header["label"] == row["label"]
        assert header.get("comment", "") == row["comment"]
        assert ("later edition" in header["source"]) == (row["seed"] == "later edition")
        assert header["published_accuracy"] == row["accuracy"]
        assert header["published_logloss"] == row["logloss"]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_epochs_are_the_same_for_every_batch_size(profile):
    seen = set()
    for text in texts(profile, "batch_size").values():
        solver = parse(text)
        train = solver.net_param.layer[0].data_param.batch_size * solver.iter_size
        seen.add((train * solver.max_iter, train * solver.stepsize))
    assert len(seen) == 1
    if profile == "imagenet128":
        assert seen == {(256 * 320_000, 256 * 100_000)}


@pytest.mark.parametrize("profile", PROFILES)
def test_names_prefixes_and_tests_are_true(profile):
    files = texts(profile, "batch_size")
    assert len(files) == 12
    for name, text in files.items():
        solver, header = parse(text), read_header(text)
        batch, rate = re.fullmatch(r"bs(\d+)(?:_lr(\S+))?", name).groups()
        train, test = solver.net_param.layer[:2]
        assert train.data_param.batch_size == int(batch)
        assert solver.base_lr == pytest.approx(float(rate or 0.01), rel=1e-4)
        assert solver.snapshot_prefix == f"snapshots/{name}"
        assert solver.test_iter[0] * test.data_param.batch_size == header["test_size"]
        assert train.data_param.source == f"data/{profile}/train_lmdb"
        assert test.data_param.source == f"data/{profile}/test_lmdb"
        assert list(train.transform_param.mean_value) == list(test.transform_param.mean_value)
        assert ("published_accuracy" in header) == (profile == "imagenet128")
    defaults = [name for name, text in files.items() if read_header(text).get("default")]
    assert defaults == [{"imagenet128": "bs256", "cifar10": "bs256"}.get(profile, "bs64")]


def test_a_misspelt_key_is_refused_with_its_line(tmp_path, capsys):
    text = (ROOT / "generator" / "sweeps" / "batch_size.yaml").read_text()
    own = tmp_path / "own.yaml"
    for wrong, right, message in [
        ("settings: {architecture: caffenet, momentun: 0.8}", "settings: {architecture: caffenet}", "momentum"),
        ("studeis: what", "studies: what", "studies"),
        ("  - {bacth: 512,", "  - {batch: 512,", "batch"),
        ('published: {acuracy: "0.455"', 'published: {accuracy: "0.455"', "accuracy"),
    ]:
        assert right in text
        own.write_text(text.replace(right, wrong))
        line = next(number for number, one in enumerate(own.read_text().splitlines(), 1) if wrong in one)
        assert run(own, "--out", tmp_path / "out") == 2
        stderr = capsys.readouterr().err
        assert f"{own}:{line}: unknown key" in stderr
        assert f"did you mean '{message}'?" in stderr
    own.write_text(text.replace("recipe.base_lr / 2", "recipy.base_lr / 2"))
    assert run(own, "--out", tmp_path / "out") == 2
    assert "'recipy' is not known here" in capsys.readouterr().err
    own.write_text(text.replace("title:", "title: a title\ntitle:"))
    assert run(own, "--out", tmp_path / "out") == 2
    assert f"{own}:3: the key 'title' stands here a second time" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch_sise"], "did you mean batch_size?"),
        (["nowhere.yaml"], "cannot read nowhere.yaml: No such file"),
        ([], "give the names of sweeps"),
        (["batch_size", "--profile", "digit"], "did you mean digits?"),
        (["batch_size", "--set", "base_rl=1"], "did you mean 'base_lr'?"),
        (["batch_size", "--set", "base_lr"], "write KEY=VALUE"),
        (["batch_size", "--set", "base_lr=__import__('os')"], "not allowed in an expression"),
        (["batch_size", "--only", "nothing*"], "no variant's name matches --only 'nothing*'"),
    ],
)
def test_wrong_input_is_one_clear_line(arguments, message, tmp_path, capsys):
    assert run(*arguments, "--out", tmp_path / "out") == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_name_that_leaves_the_folder_is_refused(tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text((ROOT / "generator" / "sweeps" / "batch_size.yaml").read_text().replace("name: bs{", "name: ../bs{"))
    assert run(own, "--out", tmp_path / "out") == 2
    assert "cannot be a variant's name" in capsys.readouterr().err


def test_set_beats_the_sweep(tmp_path):
    assert run("batch_size", "--only", "bs128", "--set", "max_iter=7", "--out", tmp_path) == 0
    assert parse((tmp_path / "bs128.prototxt").read_text()).max_iter == 7


def test_generating_needs_no_caffe():
    code = (
        "import sys; sys.modules['caffe'] = None\n"
        "from caffebench.generator.cli import main; main(['batch_size', '--check', '--out', 'prototxt'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.caffe
def test_the_default_digits_variant_learns(digits_root, tmp_path):
    """At least 95 % of the 360 test images, with plain `caffe train`; with LSUV see the launcher's tests."""
    (tmp_path / "data").symlink_to(digits_root)
    (tmp_path / "snapshots").mkdir(exist_ok=True)

    assert run("batch_size", "--profile", "digits", "--only", "bs64", "--set", "seed=1", "--out", tmp_path) == 0
    command = [str(Path(sys.executable).parent / "caffe"), "train", "-solver", "bs64.prototxt"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    accuracies = [float(value) for value in re.findall(r"accuracy = ([\d.]+)", done.stderr)]
    assert accuracies[-1] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_every_run_ends_with_a_test_and_no_interval_is_0(profile, every_file):
    for name, text in every_file(profile).items():
        solver = parse(text)
        assert solver.max_iter % solver.test_interval == 0, name
        assert min(solver.test_interval, solver.display, solver.snapshot, solver.average_loss) >= 1, name
        assert solver.max_iter / solver.test_interval >= 3 or name.startswith("workers"), name


@pytest.mark.parametrize(
    ("max_iter", "interval", "expected"),
    [
        (1000, 100, (1000, 100)),
        (9792, 196, (9792, 192)),
        (15, 1000, (15, 15)),
        (1, 1, (1, 1)),
        (9767, 195, (9750, 195)),
        (2**31 - 1, 1000, (2_147_484_000, 1000)),
        (1437, 100, (1400, 100)),
    ],
)
def test_the_interval_becomes_a_divisor_or_the_run_whole_intervals(max_iter, interval, expected):
    tested = ending_with_a_test({"max_iter": max_iter, "test_interval": interval}, given=False)
    assert (tested.max_iter, tested.test_interval) == expected
    kept = ending_with_a_test({"max_iter": max_iter, "test_interval": interval}, given=True)
    assert kept.max_iter == max_iter
    assert max_iter % kept.test_interval == 0


@pytest.mark.parametrize("max_iter", [1, 2, 9, 15, 61, 1437])
def test_a_short_run_has_a_curve_and_a_test_at_its_end(max_iter, tmp_path):
    short = ["--only", "bs128", "--set", f"max_iter={max_iter}", "--out", tmp_path]
    assert run("batch_size", "--profile", "cifar10", *short) == 0
    solver = parse((tmp_path / "bs128.prototxt").read_text())
    assert solver.max_iter == max_iter
    assert max_iter % solver.test_interval == 0
    assert min(solver.test_interval, solver.display, solver.snapshot) >= 1


@pytest.mark.parametrize("key", ["display", "test_interval", "snapshot"])
def test_an_interval_of_0_is_refused(key, tmp_path, capsys):
    assert run("batch_size", "--set", f"{key}=0", "--out", tmp_path / "out") == 2
    assert f"in '{key}': '0' is 0, and must be at least 1, max_iter for once at the end" in capsys.readouterr().err
