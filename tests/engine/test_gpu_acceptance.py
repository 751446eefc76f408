"""`scripts/gpu-acceptance` as far as it goes without a card: the same code, CPU against CPU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow
sys.path.insert(0, str(ROOT / "scripts"))

from acceptance.layers import CASES, TOLERANCE, compare, layer_rows  # noqa: E402
from acceptance.rows import Row  # noqa: E402


def acceptance(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "gpu-acceptance"), *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.caffe
def test_a_dry_run_says_what_would_be_measured_and_what_is_missing():
    done = acceptance("--dry-run", "--devices", "cpu,gpu:99")
    assert done.returncode == 0, done.stderr
    for check in ("layers", "own", "lsuv", "sweep", "resume", "sharing", "cards", "refusal", "speed"):
        assert re.search(rf"^{check} ", done.stdout, re.MULTILINE)
    assert "cannot be measured here: gpu:99: " in done.stdout


def test_without_the_card_nothing_is_passed_off_as_measured():
    done = acceptance("--devices", "cpu,gpu:99")
    assert done.returncode == 1
    assert "cannot be measured here" in done.stdout
    assert "|" not in done.stdout


@pytest.mark.caffe
def test_several_cards_that_are_not_there_are_no_failure():
    """Their row says why nothing was measured. With two cards it is in ``tests/launcher/test_ranks.py``."""
    done = acceptance("--devices", "cpu,cpu", "--only", "cards")
    assert done.returncode == 0, done.stdout + done.stderr
    if "not measured" not in done.stdout:
        pytest.skip("two cards answer here, and were measured")
    assert re.search(
        r"^\| cards \| one run on GPUs 0,1 \| not measured: .*(cards that answer|without NCCL)", done.stdout, re.M
    )
    assert done.stdout.endswith("1 rows, 0 failed\n")


@pytest.mark.parametrize("options", [["--devices", "cpu"], ["--devices", "cpu,cuda"], ["--only", "layer"]])
def test_wrong_usage(options):
    assert acceptance(*options).returncode == 2


@pytest.mark.caffe
def test_all_but_the_long_checks_pass_cpu_against_cpu():
    done = acceptance("--devices", "cpu,cpu", "--only", "layers,lsuv,resume,refusal,speed", "--iterations", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d\d rows, 0 failed$", done.stdout, re.MULTILINE)
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert {row[0] for row in rows} == {"check", "layer", "lsuv", "resume", "refusal", "speed"}
    assert ["resume", "killed and resumed", "done, 2 sessions", "done, 2 sessions", "ok"] in rows
    assert any(re.fullmatch(r"\d+ images/s", row[2]) for row in rows)


def test_a_difference_is_found():
    one = {"t0 forward": np.array([1.0, -4.0]), "b0 backward": np.array([2.0])}
    other = {"t0 forward": np.array([1.0, -4.4]), "b0 backward": np.array([2.0])}
    assert compare(one, other, "forward") == pytest.approx(0.1)
    assert compare(one, other, "backward") == 0
    # Not a number, and nothing but zeros compared, are no agreement.
    for wanted, got in (([1.0], [np.nan]), ([0.0], [0.0])):
        found = compare({"t0 forward": np.array(wanted)}, {"t0 forward": np.array(got)}, "forward")
        assert not found <= TOLERANCE


@pytest.mark.caffe
def test_a_layer_that_computes_something_else_fails(monkeypatch):
    """As a card with other arithmetic would: the tested side gets the inputs of another seed."""
    from acceptance import layers

    run, calls = layers._run, []

    def other_seed(case, phase, device, engine, seed):
        calls.append(device)
        return run(case, phase, device, engine, seed + len(calls) % 2)

    monkeypatch.setattr(layers, "_run", other_seed)
    rows = list(layer_rows("cpu", "cpu", [case for case in CASES if case.name == "Scale"]))
    assert [row.verdict for row in rows if row.what == "Scale"] == ["FAILED"]
    assert Row("a", "b", "c").verdict == ""


def test_a_caffe_for_the_cpu_is_not_packed_for_a_card(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "gpu-travel"), str(tmp_path / "travel")]
    done = subprocess.run(command, capture_output=True, text=True)
    if "MiB packed" in done.stdout:
        pytest.skip("the Caffe of this environment is for CUDA, and was packed")
    assert done.returncode == 1
    assert done.stderr.startswith("gpu-travel: the Caffe of this Python is not for CUDA: run install-caffe")
    assert not (tmp_path / "travel").exists()


def test_every_layer_type_of_our_nets_has_a_case(tmp_path):
    gen_prototxt = Path(sys.executable).parent / "gen-prototxt"
    done = subprocess.run([gen_prototxt, "--all", "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = set()
    for file in tmp_path.glob("*.prototxt"):
        used |= set(re.findall(r'^\s+type: "(\w+)"\n\s+(?:bottom|top)', file.read_text(), re.MULTILINE))
    assert {"Convolution", "InnerProduct", "SoftmaxWithLoss"} <= used
    covered = {re.findall(r'type: "(\w+)"', case.layer)[0] for case in CASES}
    used = {kind for kind in used if not kind.endswith("Data")}  # these compute on the CPU in either mode
    assert used <= covered
