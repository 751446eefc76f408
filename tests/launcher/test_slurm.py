"""``--executor slurm`` on a real Slurm: munge, a controller and one node, on loopback, started here."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.launcher.many.slurm import parse_settings
from caffebench.launcher.many.slurm_task import SlurmTask
from caffebench.launcher.plan.options import RunOptions

PACKAGES = ["munge", "slurmctld", "slurmd", "slurm-client"]
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
# A requeued job waits for as long before it starts again; the least that Slurm takes.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# Nothing that needs cgroups, so that it runs in a container too.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""

# A layer that only takes time, as long on a fast machine as on a slow one.
PAUSE = """
import time
import caffe

class Pause(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): pass
    def forward(self, bottom, top): time.sleep(0.05)
    def backward(self, top, propagate_down, bottom): pass
"""
PAUSE_LAYER = """
  layer { name: "pause" type: "Python" bottom: "conv1" top: "conv1" include { phase: TRAIN }
          python_param { module: "pause" layer: "Pause" } }
  layer { name: "relu1" """


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def slurm_version() -> tuple[int, ...]:
    found = re.search(r"(\d+)\.(\d+)", ask("slurmd", "-V"))
    assert found, "slurmd does not say its version"
    return tuple(map(int, found.groups()))


@pytest.fixture(scope="module")
def cluster(have_programs: Callable[[Sequence[str], Sequence[str]], None]) -> Iterator[None]:
    """A Slurm that every command finds, until the tests of this file are over."""
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one's own takes root")
    have_programs(("munged", "slurmctld", "slurmd", "sbatch"), PACKAGES)
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # short: the path of a socket has at most 107 bytes
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    if slurm_version() >= (23, 11):
        # Newer ones end at once where no cgroups are mounted, wanted or not; older ones do not know this setting.
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    configuration = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    configuration.write_text(
        CONFIGURATION.format(host=host, folder=folder, controller_port=free_port(), node_port=free_port())
    )
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    munged = ["munged", "--foreground", "--force", *(f"--{name}={folder}/munge.{end}" for name, end in files.items())]
    daemons = []
    with (folder / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        try:
            for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
                daemons.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
                time.sleep(0.5)
            wait_until(lambda: "idle" in ask("sinfo", "--noheader"), 60, lambda: (folder / "log").read_text())
            yield
        finally:
            subprocess.run(["scancel", "--user=root"], capture_output=True)
            wait_until(lambda: not ask("squeue", "--noheader"), 60)
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait()
            shutil.rmtree(folder)


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_until(condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.3)


def slow_solver(bench: Any, name: str, **values: object) -> Path:
    (bench.folder / "pause.py").write_text(PAUSE)
    path: Path = bench.solver(name, test_interval=100, snapshot=100000, **values)
    whole = bench.folder / path
    text = whole.read_text()
    assert text.count('layer { name: "relu1"') == 1
    whole.write_text(text.replace('layer { name: "relu1"', PAUSE_LAYER.lstrip()))
    return path


def submit(bench: Any, *arguments: object) -> str:
    """Submit; the number of Slurm's job. What lies in the folder must take no module's place in a task."""
    for name in ("json", "pickle", "random", "signal", "submitit", "cloudpickle", "yaml", "caffebench"):
        (bench.folder / f"{name}.py").write_text("raise SystemExit('hijacked')")
    child = bench.start(*arguments, "--executor", "slurm", "--allow-python-layers")
    output, error = child.communicate(timeout=60)
    assert child.returncode == 0, error
    match = re.search(r"Slurm job (\d+)", output)
    assert match, output
    return match[1]


def job_log(bench: Any) -> str:
    return "\n".join(path.read_text() for path in sorted((bench.folder / "logs" / ".slurm").glob("*_log.*")))


def ends(bench: Any, run: str) -> list[dict[str, Any]]:
    """How the sessions of a run ended, in order."""
    found = []
    for path in sorted((bench.folder / "logs").glob(f"{run}.*.log")):
        lines = re.findall(r"caffebench: end (\{.*\})", path.read_text())
        found += [json.loads(line) for line in lines]
    return found


def test_a_sweep_whose_time_is_too_short_finishes_by_itself(cluster: None, bench: Any) -> None:
    names = [f"lr{i}" for i in range(4)]
    files = [slow_solver(bench, name, max_iter=900, base_lr=0.001 * (i + 1)) for i, name in enumerate(names)]
    job = submit(bench, *files, "--slurm", "time=1")
    assert sorted(ask("squeue", "--noheader", "--array", "--format=%i").split()) == [f"{job}_{i}" for i in range(4)]
    # 900 pauses of 50 ms take 45 s. With a limit of a minute Slurm sends its signal after at most 40.
    wait_until(lambda: not ask("squeue", "--noheader"), 300, lambda: job_log(bench))

    for name in names:
        *stopped, done = ends(bench, name)
        assert done == {"status": "done", "iteration": 900, "reason": ""}, job_log(bench)
        assert stopped, f"{name} was never requeued"
        assert {end["status"] for end in stopped} == {"stopped"}
    merge = [Path(sys.executable).parent / "merge-logs", "logs", "--out", "results"]
    merged = subprocess.run(merge, cwd=bench.folder, capture_output=True, text=True)
    assert merged.returncode == 0, merged.stderr
    with (bench.folder / "results" / "summary.csv").open() as file:
        summary = {row["run"]: row for row in csv.DictReader(file)}
    assert sorted(summary) == names
    for name, row in summary.items():
        assert (row["status"], row["iteration"], row["max_iter"], row["crashes"]) == ("done", "900", "900", "0"), name
        assert int(row["sessions"]) == len(ends(bench, name))
        assert row["lost_iterations"] == "0"
    with (bench.folder / "results" / "curves.csv").open() as file:
        curve = [row for row in csv.DictReader(file) if row["phase"] == "test" and row["metric"] == "accuracy"]
    for name in names:
        tested = [int(row["iteration"]) for row in curve if row["run"] == name]
        assert tested == sorted(set(tested))
        assert {0, 100, 200, 300, 400, 500, 600, 700, 800, 900} <= set(tested)


def test_a_preempted_run_goes_on_when_there_is_room_again(cluster: None, bench: Any) -> None:
    job = submit(bench, slow_solver(bench, "small", max_iter=200), "--slurm", "time=1h", "--slurm", "partition=main")
    wait_until(lambda: "Iteration 20 " in bench.log(), 60, lambda: job_log(bench))
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--time=1", "--output=/dev/null", "--wrap=sleep 1"]
    subprocess.run(urgent, cwd=bench.folder, check=True, capture_output=True)
    wait_until(lambda: job not in ask("squeue", "--noheader"), 120, lambda: job_log(bench))
    assert [end["status"] for end in ends(bench, "small")] == ["stopped", "done"], job_log(bench)
    assert "this job is preempted" in job_log(bench)


def test_a_requeued_run_does_not_start_over_again(cluster: None, bench: Any) -> None:
    """As after the failure of a node: the task is started as it was submitted, with --fresh."""
    job = submit(bench, slow_solver(bench, "small", max_iter=200), "--fresh")
    wait_until(lambda: "Iteration 20 " in bench.log(), 60, lambda: job_log(bench))
    subprocess.run(["scontrol", "requeue", job], check=True)
    wait_until(lambda: not ask("squeue", "--noheader"), 120, lambda: job_log(bench))
    assert [end["status"] for end in ends(bench, "small")] == ["stopped", "done"], job_log(bench)


def test_a_cancelled_run_stops_with_a_snapshot_and_stays_away(cluster: None, bench: Any) -> None:
    job = submit(bench, slow_solver(bench, "small", max_iter=2000))
    wait_until(lambda: "Iteration 20 " in bench.log(), 60, lambda: job_log(bench))
    subprocess.run(["scancel", job], check=True)
    wait_until(lambda: not ask("squeue", "--noheader"), 60, lambda: job_log(bench))
    (end,) = ends(bench, "small")
    assert end["status"] == "stopped", job_log(bench)
    assert (bench.folder / "snapshots" / f"small_iter_{end['iteration']}.solverstate").is_file()


def test_a_run_that_fails_is_a_failed_job(cluster: None, bench: Any) -> None:
    job = submit(bench, slow_solver(bench, "small", max_iter=2000), "--init", "lsuv", "--slurm", "begin=now+3")
    (bench.folder / "small.prototxt").unlink()
    wait_until(lambda: "FAILED" in ask("scontrol", "show", "job", job), 60, lambda: job_log(bench))
    assert "no such file" in job_log(bench).lower()


def test_a_task_that_gets_nowhere_is_not_started_again() -> None:
    task = SlurmTask(RunOptions((Path("prototxt/bs128.prototxt"),), fresh=True))
    for _ in range(2):
        task = task.checkpoint().function
        assert not task.options.fresh
    with pytest.raises(CaffebenchError, match=r"bs128.prototxt: no iteration done in 3 sessions.*--slurm time=TIME"):
        task.checkpoint()


def test_what_slurm_refuses_is_said_in_one_line(cluster: None, bench: Any) -> None:
    error = bench.run(bench.solver(), "--executor", "slurm", "--slurm", "partition=nowhere", code=1)
    assert re.fullmatch(r"run-caffe: Slurm refused the job: .*nvalid partition.*\n", error)


def test_wrong_input_is_refused_before_it_is_submitted(cluster: None, bench: Any) -> None:
    (bench.folder / "data").unlink()
    error = bench.run(bench.solver(), "--executor", "slurm", code=2)
    assert "train_lmdb" in error
    assert not ask("squeue", "--noheader")


def test_without_slurm_the_error_says_so(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = bench.run(bench.solver(), "--executor", "slurm", code=2)
    assert error.startswith("run-caffe: --executor slurm: there is no Slurm here (sbatch and srun are not in PATH)")


def test_a_time_limit_is_slurms_own(bench: Any) -> None:
    error = bench.run(bench.solver(), "--executor", "slurm", "--time-limit", "1h", code=2)
    assert "use --slurm time=TIME" in error


def test_settings_for_slurm_without_slurm(bench: Any) -> None:
    assert "--slurm time=1 needs --executor slurm" in bench.run(bench.solver(), "--slurm", "time=1", code=2)


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("8h", 480),
        ("1h30m", 90),
        ("61s", 2),
        ("90", 90),
        ("2:30", 3),
        ("08:00:00", 480),
        ("1-12", 2160),
        ("1-0:30", 1470),
    ],
)
def test_times_as_ours_and_as_sbatch_has_them(time: str, minutes: int) -> None:
    assert parse_settings([f"time={time}"])["time"] == minutes


def test_any_option_of_sbatch_is_passed_on() -> None:
    parameters = parse_settings(["partition=gpu", "gres=gpu:1", "cpus_per_task=2", "--mem=8G"])
    assert parameters["time"] == 240
    assert parameters["srun_args"] == ["--cpus-per-task=2"]
    assert parameters["additional_parameters"] == {
        "partition": "gpu",
        "gres": "gpu:1",
        "cpus-per-task": "2",
        "mem": "8G",
        "requeue": True,
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gpu", "write key=value"),
        ("partition=", "write key=value"),
        ("time=soon", "write a time such as 8h"),
        ("array=0-3", "is set by run-caffe itself"),
    ],
)
def test_settings_that_cannot_be_used(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings([setting])
