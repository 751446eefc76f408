"""The pages of the studies say what the logs that are kept say: made again, without training, they are the same."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffebench.analysis import read_runs

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from studying import timed, training  # noqa: E402
from studying.declared import LOGS, PAGES, Claim, studies, study  # noqa: E402
from studying.keeping import is_kept, keep_logs, left_to_train, thinned  # noqa: E402
from studying.numbers import Difference, versus  # noqa: E402
from studying.page import clearly_best, read_arms  # noqa: E402
from studying.training import commands  # noqa: E402

DONE = [study for study in studies() if (PAGES / f"{study.name}.md").is_file()]


@pytest.mark.slow
def test_the_pages_are_what_the_logs_give() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "studies", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("study", DONE, ids=lambda one: one.name)
def test_a_page_has_its_pictures_and_seeds(study) -> None:
    page = (PAGES / f"{study.name}.md").read_text()
    for picture in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (PAGES / picture).is_file()
    counts = [len(arm.group.runs) for arm in read_arms(study)] if not study.times else []
    counts += [len(arm.runs) for arm in timed.read_timed(study)] if study.times else []
    assert counts
    assert min(counts) >= max(study.seeds, 3)


@pytest.mark.slow
def test_a_changed_log_is_noticed(tmp_path: Path) -> None:
    """A copy of the project in which one kept log tells another accuracy."""
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    shutil.copytree(ROOT / "docs" / "studies", copy / "docs" / "studies")
    shutil.copytree(LOGS, copy / "logs" / "studies")
    shutil.copytree(ROOT / "prototxt", copy / "prototxt")
    shutil.copy(ROOT / "README.md", copy)
    command = [sys.executable, copy / "scripts" / "studies", "--check"]
    path = sorted((copy / "logs" / "studies" / DONE[0].name).glob("*.log.gz"))[0]
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(re.sub(rb"accuracy = 0\.8", b"accuracy = 0.5", text)))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    changed = re.findall(r"docs/studies/(\w+)\.md is not what the logs give", done.stdout)
    assert changed == [DONE[0].name, "index"], "its own page and the overview, and no other"


def test_the_logs_are_small() -> None:
    assert sum(path.stat().st_size for path in LOGS.rglob("*") if path.is_file()) < 12e6


def test_what_is_thrown_away_of_a_log_tells_no_result() -> None:
    lines = [
        b"I0101 00:00:00.000000 1 layer_factory.hpp:77] Creating layer data\n",
        b"I0101 00:00:00.000000 1 net.cpp:84] Creating Layer data\n",
        b"I0101 00:00:00.000000 1 net.cpp:53] Initializing net from parameters: \n",
        b'name: "net"\n',
        b"I0101 00:00:00.000000 1 solver.cpp:347] Iteration 0, Testing net (#0)\n",
    ]
    assert thinned(b"".join(lines)) == b"".join(lines[2:])


def generate(name: str, folder: Path) -> list[Path]:
    """The files of a study, as its commands write them, with data where their shape is not known without."""
    work = folder / ".cache" / "studies"
    work.mkdir(parents=True)
    for part in ("scripts", "docs"):
        (folder / part).symlink_to(ROOT / part)
    one = study(name)
    made = commands(one, 1)[: len(one.data) + 1]
    for program, *words in made if one.profile.startswith("data/") else made[-1:]:
        tool = [sys.executable, program] if "/" in program else [Path(sys.executable).parent / program]
        subprocess.run([*tool, *words], cwd=work, check=True)
    return sorted((work / "prototxt" / name).glob("*.prototxt"))


@pytest.mark.parametrize("study", DONE, ids=lambda one: one.name)
def test_what_is_on_a_page_is_not_trained_again(study, tmp_path: Path) -> None:
    """Its kept logs are of the nets and solvers that the sweep gives now, also where the whole logs are lost."""
    files, kept = generate(study.name, tmp_path), LOGS / study.name
    if study.times:
        assert all(is_kept(path, f"{path.stem}_repeat{n + 1}", kept) for path in files for n in range(study.seeds))
        return
    left = left_to_train(files, range(1, study.seeds + 1), kept)
    assert not {path.stem for paths in left.values() for path in paths} & {arm.name for arm in read_arms(study)}


def test_only_ended_runs_of_the_same_file_are_left_out(tmp_path: Path) -> None:
    shutil.copytree(LOGS / "bn_dropout", kept := tmp_path / "kept")
    half, other, longer = generate("bn_dropout", tmp_path)
    other.write_text(other.read_text().replace("num_output: 48", "num_output: 40", 1))
    longer.write_text(longer.read_text().replace("max_iter: 2880", "max_iter: 5760"))
    log = kept / f"{half.stem}_seed2.001.log.gz"
    log.write_bytes(
        gzip.compress(gzip.decompress(log.read_bytes()).replace(b'{"status": "done"', b'{"status": "stopped"'))
    )
    left = left_to_train([half, other, longer], [1, 2, 3], kept)
    assert left == {"2,": [half], "1,2,3,": [other, longer]}


def test_a_changed_header_is_another_training(tmp_path: Path) -> None:
    files = generate("bn_dropout", tmp_path)
    files[0].write_text(files[0].read_text().replace("init: lsuv", "init: ortho"))
    assert left_to_train(files, [1], LOGS / "bn_dropout") == {"1,": [files[0]]}


def test_logs_are_kept_of_runs_that_ended(tmp_path: Path) -> None:
    """Of a run's newest file alone, and with what the sessions before its end wrote."""
    whole, kept = tmp_path / "whole", tmp_path / "kept"
    whole.mkdir()
    kept.mkdir()
    (kept / "a_seed1.003.log.gz").write_bytes(b"of an earlier file")
    said = {"a_seed1.001": "stopped", "a_seed1.002": "done", "b_seed1.001": "not_converged", "c_seed1.001": "crashed"}
    for name, status in said.items():
        (whole / f"{name}.log").write_text(f'I0101 00:00:00.0 1 x.cpp:1] caffebench: end {{"status": "{status}"}}\n')
    keep_logs(whole, kept)
    names = ["a_seed1.001.log.gz", "a_seed1.002.log.gz", "b_seed1.001.log.gz"]
    assert sorted(path.name for path in kept.iterdir()) == names


def test_work_beside_the_training_stays_said(tmp_path: Path, monkeypatch) -> None:
    said = []
    for load in (0.0, 99.0, 0.0):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, load, load))
        training.note_machine(tmp_path)
        said.append("did other work" in (tmp_path / "machine.txt").read_text())
    assert said == [False, True, True]
    assert len((tmp_path / "machine.txt").read_text().splitlines()) == 1
    monkeypatch.setattr(training, "machine_words", lambda: "another machine")
    training.note_machine(tmp_path)
    assert (tmp_path / "machine.txt").read_text().splitlines()[1:] == ["another machine"]


def test_intervals_are_welchs() -> None:
    """Against scipy's own interval, and on both sides of what an interval can say."""
    from scipy import stats

    one, other = [0.86, 0.87, 0.88], [0.80, 0.84, 0.83]
    found = versus(one, other)
    assert found is not None
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert versus(one, [0.8]) is None
    assert [Difference(0.01, low, 0.02, said).verdict for low, said in ((0.005, 0.1), (0.005, -0.1), (-0.01, 0.1))] == [
        "agrees",
        "disagrees",
        "inside the spread",
    ]


def test_bold_is_what_is_clearly_best() -> None:
    arms = {arm.name: arm for arm in read_arms(study("batch_size"))}
    assert clearly_best([arms["bs256"], arms["bs32"]]) is arms["bs32"]
    assert clearly_best([arms["bs16"], arms["bs32"]]) is None
    assert clearly_best([arms["bs32"]]) is None


def timed_arm(variant: str, seconds: tuple[float, ...], *weights: str) -> timed.Timed:
    runs = tuple(run for run in read_runs([LOGS / "bn_dropout"]) if run.variant == variant)
    return timed.Timed(runs, seconds, frozenset(weights))


def test_a_claim_about_times_holds_where_its_interval_says_so() -> None:
    fast, slow = timed_arm("bn_drop0", (1.0, 1.01, 0.99), "aa"), timed_arm("bn_drop0.5", (2.0, 2.02, 1.98), "bb", "cc")
    says = Claim("Faster.", "bn_drop0", "bn_drop0.5")
    same = Claim("As fast.", "bn_drop0", "bn_drop0.5", equal=True)
    assert timed.claim_words(says, [fast, slow]).endswith("-50 % (-52 to -48) of the time. **Here: holds.**")
    assert "does not hold" in timed.claim_words(same, [fast, slow])
    other = Claim("Faster.", "bn_drop0.5", "bn_drop0")
    assert "does not hold: it takes longer" in timed.claim_words(other, [fast, slow])
    wide = timed_arm("bn_drop0.5", (1.0, 3.0, 2.0))
    assert "not decided" in timed.claim_words(says, [fast, wide])
    told = " ".join(timed.weight_words([fast, slow, wide]))
    assert "the same weights, bit for bit" in told
    assert "2 different sets of weights" in told


def test_the_time_of_a_batch_is_that_between_the_lines_of_a_log() -> None:
    (run,) = (one for one in read_runs([LOGS / "bn_dropout"]) if one.name == "bn_drop0_seed1")
    text = gzip.decompress((LOGS / "bn_dropout" / "bn_drop0_seed1.001.log.gz").read_bytes()).decode()
    lines = re.findall(r"^I\d+ (\d+):(\d+):([\d.]+) .*\] Iteration (\d+) \(.*loss =", text, re.MULTILINE)
    (first, began), (last, ended) = (
        (int(n), 3600 * int(hour) + 60 * int(minute) + float(second))
        for hour, minute, second, n in (lines[0], lines[-1])
    )
    assert timed.seconds_of(run, "batch") == pytest.approx((ended - began) / (last - first), rel=1e-3)
