"""Settings that speak of one thing, of the sweep and of the user's header: one counts, or the variant is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from caffebench.common.errors import InputError
from caffebench.common.header import read_header
from caffebench.generator.base import generate_on_base, load_base
from caffebench.generator.generate import generate
from caffebench.generator.variants.catalog import load_profile, load_sweep

sys.path.insert(0, str(Path(__file__).parent))
from architectures import ARCHITECTURES
from base_matrix import make_pictures, two_steps
from test_base import on, solver, sweep, written

BIN = Path(sys.executable).parent
COSINE = "# caffebench: lr_schedule: {policy: cosine, warmup: 10, min_lr: 0.001}\n"
PHASES = "# caffebench: phases: [{until: 5000, batch_size: 32}, {until: 10000, batch_size: 64}]\n"
RATES = "# caffebench: phases: [{until: 5000, base_lr: 0.1}, {until: 10000, base_lr: 0.01}]\n"


def base_of(folder: Path, header: str = "", old: str = "", new: str = "") -> Path:
    return written(folder, "base", header + ARCHITECTURES["lenet"]().replace(old, new, 1 if old else 0))


def bundled(*variants: dict[str, object], **settings: object) -> list[str]:
    study = sweep(*variants, **{"architecture": "caffenet", "max_iter": 20, "test_interval": 20, **settings})
    return list(generate([study], load_profile("digits")).values())


@pytest.mark.parametrize("filling", [{"filler": "msra"}, {"filler_std": 0.02}])
def test_a_filler_is_not_written_over_by_an_init_that_nobody_asked_for(
    filling: dict[str, object], tmp_path: Path
) -> None:
    base = base_of(tmp_path, "# caffebench: init: lsuv\n")
    for kept, filled in (bundled({}, filling), on(base, {}, filling).texts.values()):
        assert read_header(kept)["init"] == "lsuv"
        assert "init" not in read_header(filled)


ASKED: list[tuple[str, dict[str, object], str]] = [
    ("", {"filler": "msra", "init": "ortho"}, "init: ortho writes over the weights that 'filler' fills"),
    (
        "# caffebench: init: lsuv\n",
        {"edit": [{"layer": "conv1", "convolution_param.weight_filler.type": "msra"}]},
        "init: lsuv writes over the weights that a weight_filler fills: say init: none, too",
    ),
    ("# caffebench: weights: w.caffemodel\n", {"init": "lsuv"}, "training starts from the weights of w.caffemodel"),
    ("", {"solver_type": "AdaGrad", "momentum": 0.5}, "solver_type: AdaGrad takes no momentum"),
    (PHASES, {"batch_size": 16}, "batch_size: the phases in the header of"),
    (PHASES, {"batch": 128}, "say a batch_size of their own"),
    (RATES, {"base_lr": 0.5}, "say a base_lr of their own: set 'phases' too, or take them out there"),
    (COSINE, {"base_lr": 0.0005}, "lr_schedule: its min_lr of 0.001 is more than base_lr, 0.0005"),
    (COSINE, {"max_iter": 10, "lr_schedule": {"policy": "cosine", "warmup": 10}}, "must be below max_iter, 10"),
    (PHASES, {"max_iter": 1}, "phases: the one up to 1 has no iteration"),
]


@pytest.mark.parametrize(("header", "settings", "why"), ASKED)
def test_what_would_do_nothing_is_refused_and_the_others_are_written(
    header: str, settings: dict[str, object], why: str, tmp_path: Path
) -> None:
    made = on(base_of(tmp_path, header), {}, settings, {"weight_decay": 0})
    assert list(made.texts) == ["v0", "v2"]
    assert why in made.refused["v1"]
    assert "\n" not in made.refused["v1"]


def test_bundled_files_refuse_it_too() -> None:
    with pytest.raises(InputError, match="variant 1 on digits: init: lsuv writes over the weights"):
        bundled({"filler": "msra", "init": "lsuv"})
    with pytest.raises(InputError, match="say init: none, too"):
        bundled({"edit": [{"layer": "conv1", "convolution_param.weight_filler.type": "msra"}]})


def test_a_policy_takes_the_place_of_a_schedule_further_away(tmp_path: Path) -> None:
    base = base_of(tmp_path, COSINE)
    step, cosine = on(base, {"lr_policy": "step"}, {}).texts.values()
    assert ("lr_schedule" in read_header(step), solver(step).lr_policy) == (False, "step")
    assert read_header(cosine)["lr_schedule"] == {"policy": "cosine", "warmup": 10, "min_lr": 0.001}
    for text, policy in zip(
        bundled({"lr_policy": "poly"}, {}, lr_schedule={"policy": "cosine"}), ("poly", "fixed"), strict=True
    ):
        assert solver(text).lr_policy == policy
        assert ("lr_schedule" in read_header(text)) == (policy == "fixed")
    with pytest.raises(ValueError, match="lr_policy: step and an lr_schedule: leave out one of them"):
        sweep({"lr_policy": "step", "lr_schedule": {"policy": "cosine"}})


def test_iterations_in_the_header_follow_the_number_of_iterations(tmp_path: Path) -> None:
    half, own = on(base_of(tmp_path, COSINE + RATES), {"batch_size": 128}, {"phases": [{"until": 7}]}).texts.values()
    assert read_header(half)["lr_schedule"]["warmup"] == 5
    assert read_header(half)["phases"] == [{"until": 2500, "base_lr": 0.1}, {"until": 5000, "base_lr": 0.01}]
    assert read_header(own)["phases"] == [{"until": 7}]
    (same,) = on(base_of(tmp_path, PHASES), {"batch_size": 16, "phases": [{"until": 7}]}).texts.values()
    assert solver(same).max_iter == 40000


def test_solvers_without_momentum_have_none(tmp_path: Path) -> None:
    study = [{"solver_type": kind, "comment": "{momentum}"} for kind in ("SGD", "AdaGrad", "RMSProp", "Adam")]
    for texts in (bundled(*study), list(on(base_of(tmp_path), *study).texts.values())):
        said = [(solver(text).momentum, read_header(text)["comment"]) for text in texts]
        assert [(round(momentum, 6), told) for momentum, told in said] == [
            (0.9, "0.9"),
            (0, "0"),
            (0, "0"),
            (0.9, "0.9"),
        ]
    made = on(base_of(tmp_path), *study, momentum=0.8)
    assert made.refused.keys() == {"v1", "v2"}


def test_a_fall_that_floats_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Read from the file as Caffe reads it, the rate ends where that of the base does."""
    exp = 'lr_policy: "exp"\ngamma: 0.999995\nmax_iter: 450000'
    text = re.sub("(power|gamma): .*\n", "", ARCHITECTURES["lenet"]().replace("max_iter: 10000", ""))
    base = written(tmp_path, "base", text.replace('lr_policy: "inv"', exp))
    sizes = [128, 16, 4, 1]
    made = on(base, *[{"batch_size": size} for size in sizes], {"gamma": 0.99999999, "max_iter": 115200000})
    assert made.refused.keys() == {"v2", "v3", "v4"}
    assert "which Caffe's float rounds to 0.99999994: choose another lr_policy" in made.refused["v3"]
    falls = [said.gamma**said.max_iter for said in map(solver, made.texts.values())]
    assert falls == pytest.approx([0.999995**450000] * 2, rel=0.11)
    with pytest.raises(InputError, match="Caffe's float rounds to 1: choose another lr_policy"):
        bundled({"lr_policy": "exp", "gamma": "1 - 1 / 100000000", "max_iter": 100000000})


def test_what_only_a_profile_knows_is_said_to_need_one(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    made = on(base, {"epochs": 2, "name": "e{epochs}"}, {"max_iter": "profile.train_size / 10"}, {"dropout": 0.1})
    assert list(made.texts) == ["v2"]
    assert made.refused == {
        "e2": "epochs: how many pictures an epoch has is not known: "
        "give --profile, or a train_size in the base's header",
        "v1": "profile.train_size is not known of your net: give --profile",
    }
    digits = load_profile("digits")
    (text,) = generate_on_base([sweep({"epochs": 2})], load_base(base), profile=digits).texts.values()
    assert solver(text).max_iter == pytest.approx(2 * 1500 / 64, rel=0.1)


def test_a_sweep_that_cannot_be_applied_does_not_keep_others_back(tmp_path: Path) -> None:
    made = generate_on_base([load_sweep("bn_init"), load_sweep("pooling")], load_base(base_of(tmp_path)))
    assert list(made.refused) == ["bn_init"]
    assert list(made.texts) == ["pool_max", "pool_ave", "pool_max_ave"]


@pytest.mark.caffe
@pytest.mark.slow
def test_caffe_takes_every_solver_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path)
    (tmp_path / "snapshots").mkdir()
    kinds = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]
    made = on(base_of(tmp_path), *[{"solver_type": kind} for kind in kinds], base_lr=1e-4)
    paths = [written(tmp_path, name, text) for name, text in made.texts.items()]
    assert {path.name: wrong for path, wrong in two_steps(paths, tmp_path).items() if wrong} == {}
    assert len(paths) == len(kinds)


@pytest.mark.caffe
@pytest.mark.slow
def test_run_caffe_trains_what_the_file_says(tmp_path: Path, digits_root: Path) -> None:
    """Fillers begin with losses of their own; a policy gives the rates, not the cosine that the base had."""
    (tmp_path / "data").symlink_to(digits_root)
    (cosine,) = bundled({"init": "none"}, lr_schedule={"policy": "cosine", "warmup": 10}, display=5, seed=3)
    filled = bundled({"filler": "gaussian"}, {"filler": "xavier"}, lr_policy="fixed", display=5, seed=3)
    texts = dict(zip(("gaussian", "xavier"), filled, strict=True))
    texts |= on(written(tmp_path, "cosine", cosine), {"lr_policy": "fixed", "name": "fixed"}).texts
    begins = {}
    for name, text in texts.items():
        command = [str(BIN / "run-caffe"), "--cpu", str(written(tmp_path, name, text))]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        log = (tmp_path / "logs" / f"{name}.001.log").read_text()
        begins[name] = re.findall(r"Iteration 0.*, loss = (\S+)", log)[0]
        rates = {float(rate) for rate in re.findall(r"Iteration \d+, lr = (\S+)", log)}
        assert len(rates) == 1, (name, rates)
    assert begins["gaussian"] != begins["xavier"]
