"""Scripts of pycaffe that make several solvers, and step them by turns: real Caffe writes the logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caffebench.analysis import read_runs

NET = """
name: "{name}"
layer {{ name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {{
  shape {{ dim: 16 dim: 8 }} shape {{ dim: 16 }} data_filler {{ type: "gaussian" std: 1 }}
  data_filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "train" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "{output}"
  include {{ phase: TRAIN }} }}
layer {{ name: "test" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "tested" include {{ phase: TEST }} }}
"""
SOLVER = """
net: "{name}.net" base_lr: {rate} lr_policy: "fixed" display: {display} max_iter: 60 test_iter: 1 test_interval: 25
snapshot: 30 snapshot_prefix: "{name}" solver_mode: CPU random_seed: 1
"""
SCRIPT = """
import caffe, json
trained = {trained!r}
solvers = {{name: caffe.get_solver(f"{{name}}.solver") for name in ("D", "G")}}
said = {{name: {{}} for name in trained}}
for iteration in range(60):
    for name, output in trained.items():
        solvers[name].step(1)
        said[name][iteration] = float(solvers[name].net.blobs[output].data)
json.dump(said, open("said.json", "w"))
"""


def write_log(script: str, folder: Path, path: Path) -> None:
    """Run ``script`` in ``folder``, and keep what Caffe says in ``path``."""
    with path.open("wb") as log:
        loud = {**os.environ, "GLOG_minloglevel": "0"}  # other tests ask Caffe to say less
        subprocess.run([sys.executable, "-c", script], cwd=folder, env=loud, stderr=log, check=True)


def trained(
    folder: Path, outputs: dict[str, str], trained: str, rate_of_g: float = 0.01
) -> tuple[Path, dict[str, dict[str, float]]]:
    """The log of a script that makes the solvers D and G and steps those of ``trained``, and their losses."""
    for name, output, rate, display in (("D", outputs["D"], 0.02, 5), ("G", outputs["G"], rate_of_g, 10)):
        (folder / f"{name}.net").write_text(NET.format(name=name, output=output))
        (folder / f"{name}.solver").write_text(SOLVER.format(name=name, rate=rate, display=display))
    script = SCRIPT.format(trained={name: outputs[name] for name in trained})
    write_log(script, folder, folder / "script.log")
    return folder / "script.log", json.loads((folder / "said.json").read_text())


@pytest.mark.parametrize("outputs", [{"D": "d_loss", "G": "g_loss"}, {"D": "loss", "G": "loss"}])
def test_solvers_that_train_by_turns_are_told_apart(tmp_path: Path, outputs: dict[str, str]) -> None:
    path, said = trained(tmp_path, outputs, "GD")
    g, d = read_runs([path])
    assert [run.name for run in (d, g)] == ["script/D", "script/G"]
    for run, rate, display in ((d, 0.02, 5), (g, 0.01, 10)):
        losses = run.curve("loss", "train")
        assert losses["iteration"].to_list() == list(range(0, 60, display))
        assert losses["value"].to_list() == pytest.approx(
            [said[run.name[-1]][f"{at}"] for at in losses["iteration"]], rel=1e-5
        )
        assert set(losses["lr"]) == {rate}
        assert run.curve("tested")["iteration"].to_list() == [0, 25, 50]
        assert run.config.display == display
        assert run.notes == ()


@pytest.mark.parametrize("outputs", [{"D": "d_loss", "G": "g_loss"}, {"D": "loss", "G": "loss"}])
@pytest.mark.parametrize("one", ["D", "G"])
def test_what_one_of_two_solvers_says_is_its_own(tmp_path: Path, one: str, outputs: dict[str, str]) -> None:
    path, said = trained(tmp_path, outputs, one)
    (run,) = (run for run in read_runs([path]) if run.status != "empty")
    losses = run.curve("loss", "train")
    assert run.name == f"script/{one}"
    assert run.config.base_lr == {"D": 0.02, "G": 0.01}[one]
    assert losses["value"].to_list() == pytest.approx([said[one][f"{at}"] for at in losses["iteration"]], rel=1e-5)


def test_solvers_that_only_their_turns_tell_apart_are_reported(tmp_path: Path) -> None:
    path, _ = trained(tmp_path, {"D": "loss", "G": "loss"}, "DG", rate_of_g=0.02)
    runs = read_runs([path])
    assert sorted(len(run.curve("loss", "train")) for run in runs) == [6, 12]
    notes = [note for run in runs for note in run.notes]
    assert len(notes) == 1
    assert "2 solvers of one process say the same outputs: told apart by their turns alone" in notes[0]


def test_steps_of_other_lengths(tmp_path: Path) -> None:
    path, _ = trained(tmp_path, {"D": "loss", "G": "loss"}, "D")
    script = SCRIPT.format(trained={"G": "loss", "D": "loss"}).replace("step(1)", "step(5 if name == 'D' else 1)")
    write_log(script, tmp_path, path)
    last = {run.name: (run.iteration, run.bad_lines) for run in read_runs([path])}
    assert last == {"script/D": (295, 0), "script/G": (50, 0)}


def test_a_script_trains_one_solver_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "D.net").write_text(NET.format(name="D", output="loss"))
    (tmp_path / "D.solver").write_text(SOLVER.format(name="D", rate=0.02, display=5).replace("random_seed: 1", ""))
    script = """
import caffe
for _ in range(3):
    solver = caffe.get_solver("D.solver")
    solver.step(41)
solver.restore("D_iter_30.solverstate")
solver.step(20)
"""
    write_log(script, tmp_path, tmp_path / "script.log")
    runs = read_runs([tmp_path / "script.log"])
    assert [(run.name, run.iteration) for run in runs] == [("script/D", 40), ("script/D~2", 40), ("script/D~3", 45)]
    assert [run.crashes for run in runs] == [0, 0, 0]
