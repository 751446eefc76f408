"""More logs of the kinds in ``cases/``, each unlike the one there, with the right reading."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import in_process
import pytest

from caffebench.analysis import Run, read_runs

Write = Callable[..., Path]

SOLVER = 'base_lr: 0.01\ndisplay: 100\nmax_iter: {most}\nsnapshot_prefix: "{prefix}"\n'
NET = """\
name: "n"
layer {{ name: "data" type: "Data" top: "data" top: "label" data_param {{ source: "l" batch_size: 10 }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param {{ num_output: {classes} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""


def stamp(seconds: float, pid: int = 4242, where: str = "solver.cpp:228") -> str:
    minutes, rest = divmod(seconds + 36_000, 60)
    return f"I0216 {int(minutes // 60):02}:{int(minutes % 60):02}:{rest:09.6f} {pid:5d} {where}] "


def training(
    shown: list[tuple[int, float]],
    *,
    at: float = 0,
    pid: int = 4242,
    prefix: str = "net",
    most: int = 1000,
    classes: int = 0,
    before: str = "",
    end: str = "Optimization Done.",
    pace: str = "",
    label: str = "",
) -> str:
    """A training that shows these iterations and losses, ten seconds for each."""
    text = stamp(at, pid, "solver.cpp:48") + "Initializing solver from parameters: \n"
    text += SOLVER.format(most=most, prefix=prefix)
    if classes:
        text += stamp(at, pid, "net.cpp:50") + "Initializing net from parameters: \n" + NET.format(classes=classes)
    text += "".join(stamp(at, pid, "caffe.cpp:200") + line + "\n" for line in before.splitlines())
    text += stamp(at + 1, pid, "caffe.cpp:251") + "Starting Optimization\n"
    for number, (iteration, loss) in enumerate(shown):
        text += stamp(at + 2 + 10 * number, pid) + f"Iteration {iteration}{pace}, loss = {loss:g}\n"
        text += stamp(at + 2 + 10 * number, pid, "sgd_solver.cpp:106") + f"Iteration {iteration}, lr = 0.01\n"
    text += stamp(at + 3 + 10 * (len(shown) - 1), pid, "caffe.cpp:254") + end + "\n" if end else ""
    return "".join(f"{label}{line}\n" for line in text.splitlines())


FALLING = [(0, 2.0), (100, 1.0), (200, 0.5), (300, 0.25)]


def a_test(at: float, iteration: int, values: str, pid: int = 4242, net: str = " (#0)") -> str:
    text = stamp(at, pid, "solver.cpp:337") + f"Iteration {iteration}, Testing net{net}\n"
    for number, value in enumerate(values.split(", ")):
        text += stamp(at + 1, pid, "solver.cpp:404") + f"    Test net output #{number}: {value}\n"
    return text


def losses(run: Run) -> list[tuple[int, float]]:
    rows = run.curve("loss", "train")
    return list(zip(rows["iteration"].to_list(), rows["value"].to_list(), strict=True))


def read(path: Path) -> Run:
    (run,) = read_runs([path])
    return run


def merge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return in_process.run("merge-logs", *arguments)


# 1. Further fields between a line's parts


@pytest.mark.parametrize(
    "pace",
    [
        pytest.param(" (3.2 iter/s, 6.2s/20 iters), mem 5.2G, epoch 0.31"),
        pytest.param(", epoch = 1.25"),
        pytest.param(" [ep 0.1, 250 img/s]"),
        pytest.param(", average 12.5 ms"),
    ],
)
def test_fields_before_the_loss(write: Write, pace: str) -> None:
    run = read(write("a.log", training(FALLING, pace=pace)))
    assert losses(run) == FALLING
    assert (run.status, run.bad_lines) == ("done", 0)
    assert run.curve("loss", "train")["lr"].to_list() == [0.01] * 4


def test_fields_after_the_rate_and_in_a_test(write: Write) -> None:
    text = training(FALLING).replace("lr = 0.01", "lr = 0.01, bs = 64, mom = 0.9 (poly)")
    text += a_test(50, 300, "accuracy = 0.5 [10000 images], loss = 0.3 (* 1 = 0.3 loss) {top}").replace(
        "300, Testing", "300, epoch 2.5, Testing"
    )
    run = read(write("a.log", text))
    assert losses(run) == FALLING
    assert run.curve("loss", "train")["lr"].to_list() == [0.01] * 4
    assert (run.accuracy, run.loss, run.bad_lines) == (0.5, 0.3, 0)


# 2. Order of the start lines, threads, old lines


def old_order(text: str) -> str:
    """Caffe up to mid 2015 says that it starts before it says the solver."""
    lines = text.splitlines(keepends=True)
    start = next(line for line in lines if "Starting Optimization" in line)
    return start + "".join(line for line in lines if line is not start)


def test_the_old_order_after_a_crash(write: Write) -> None:
    first = old_order(training(FALLING[:3], end="")) + a_test(22, 200, "accuracy = 0.1")
    state = "Restoring previous solver status from net_iter_100.solverstate"
    second = old_order(training([(100, 0.9), (200, 0.45)], at=1000, pid=99))
    second = second.replace("display: 100\n", "display: 100\n").replace(
        stamp(1002, 99), stamp(1001.5, 99, "solver.cpp:300") + state + "\n" + stamp(1002, 99), 1
    )
    run = read(write("a.log", first, second))
    assert [(one.resumed_from, one.first_iteration, one.last_iteration) for one in run.sessions] == [
        (None, 0, 200),
        (100, 100, 200),
    ]
    assert (run.crashes, run.lost_iterations) == (1, 100)
    assert losses(run) == [(0, 2.0), (100, 0.9), (200, 0.45)]


def test_tests_in_a_thread_of_their_own(write: Write) -> None:
    text = training(FALLING[:2], end="") + a_test(15, 100, "accuracy = 0.2", pid=4250)
    text += "".join(stamp(22 + 10 * k, 4243) + f"Iteration {i}, loss = {v:g}\n" for k, (i, v) in enumerate(FALLING[2:]))
    text += stamp(40, 4242, "caffe.cpp:254") + "Optimization Done.\n"
    run = read(write("a.log", text))
    assert (len(run.sessions), run.crashes, run.status) == (1, 0, "done")
    assert losses(run) == FALLING
    assert run.accuracy == 0.2


def test_two_test_nets_of_2014(write: Write) -> None:
    text = training(FALLING) + a_test(50, 300, "accuracy = 0.5").replace("Test net output", "Test score").replace(
        "accuracy = ", ""
    )
    assert read(write("a.log", text)).accuracy == 0.5


# 4. Numbers and encodings


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-007", 1e-7),
        pytest.param("0,125", 0.125),
        pytest.param("1.#INF", float("inf")),
        pytest.param("nan(ind)", float("nan")),
        pytest.param("-nan(snan)", float("nan")),
        ("1.5E+02", 150.0),
    ],
)
def test_numbers_of_other_platforms(write: Write, written: str, value: float) -> None:
    text = training([(0, 2.0), (100, 1.0), (200, 777.0)]).replace("777", written)
    run = read(write("a.log", text))
    assert losses(run)[2] == pytest.approx((200, value), nan_ok=True)
    assert run.bad_lines == 0


@pytest.mark.parametrize(
    "encoding",
    [
        pytest.param("utf-8-sig", marks=[]),
        pytest.param("utf-16-le"),
        pytest.param("utf-16-be"),
    ],
)
def test_encodings_with_a_byte_order_mark(write: Write, encoding: str) -> None:
    text = training(FALLING).replace("\n", "\r\n")
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    run = read(write("a.log", (mark + text).encode(encoding)))
    assert (losses(run), run.status, run.bad_lines, run.max_iter) == (FALLING, "done", 0, 1000)


# 5. Several speakers


def together(*texts: str) -> str:
    """Lines of several processes as they come, by their times; lines without a time stay with the one before."""
    blocks: list[tuple[str, int, str]] = []
    for speaker, text in enumerate(texts):
        for line in text.splitlines(keepends=True):
            if "I0216 " in line:
                blocks.append((line.partition("I0216 ")[2][:15], speaker, line))
            else:
                time, _, before = blocks.pop()
                blocks.append((time, speaker, before + line))
    return "".join(line for _, _, line in sorted(blocks, key=lambda one: one[:2]))


OTHER = [(iteration, loss + 1) for iteration, loss in FALLING]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(("0: ", "1: ")),
        pytest.param(("[1,0]<stderr>:", "[1,1]<stderr>:")),
    ],
)
def test_labelled_ranks_are_one_run_of_the_first(write: Write, labels: tuple[str, str]) -> None:
    first, second = training(FALLING, label=labels[0]), training(OTHER, at=0.5, pid=77, label=labels[1])
    run = read(write("a.log", together(first, second)))
    assert (losses(run), len(run.sessions), run.crashes, run.status) == (FALLING, 1, 0, "done")
    assert (run.max_iter, run.config.snapshot_prefix) == (1000, "net")


@pytest.mark.parametrize(
    "labels",
    [("trainer_1  | ", "trainer_2  | "), ("[pod/a-7f] ", "[pod/b-2c] "), ("0: ", "1: "), ("gpu0\t", "gpu1\t")],
)
@pytest.mark.parametrize("more", ["prefix", "most"])
def test_labelled_trainings_of_different_solvers(write: Write, labels: tuple[str, str], more: str) -> None:
    other = {"prefix": "other"} if more == "prefix" else {"most": 2000}
    first, second = training(FALLING, label=labels[0]), training(OTHER, at=0.5, label=labels[1], **other)
    runs = read_runs([write("a.log", together(first, second))])
    assert [losses(run) for run in runs] == [FALLING, OTHER]
    assert [(len(run.sessions), run.crashes, run.status, run.notes) for run in runs] == [(1, 0, "done", ())] * 2


def test_labelled_ranks_that_are_resumed_with_another_end(write: Write) -> None:
    texts = [
        training(FALLING[:3], label=label, at=0.1 * rank, end="")
        + training(
            [(200, 0.4), (300, 0.2)],
            label=label,
            at=60 + 0.1 * rank,
            most=2000,
            before="Resuming from net_iter_200.solverstate",
        )
        for rank, label in enumerate(("0: ", "1: "))
    ]
    run = read(write("a.log", together(*texts)))
    assert losses(run) == [(0, 2.0), (100, 1.0), (200, 0.4), (300, 0.2)]
    assert any("2 ranks speak in one log" in note for note in run.notes)


def test_ranks_without_labels_are_told_by_their_solver(write: Write) -> None:
    """As several processes say it that share one standard error: the same solver, word for word, twice at once."""
    first, second = training(FALLING), training(OTHER, at=0.5, pid=77)
    run = read(write("a.log", together(first, second)))
    assert (losses(run), len(run.sessions), run.crashes, run.status) == (FALLING, 1, 0, "done")
    assert any("only the first is read" in note for note in run.notes)


def test_two_trainings_at_once_are_two_runs(write: Write) -> None:
    first, second = training(FALLING, prefix="exp/a"), training(OTHER, at=5, pid=77, prefix="exp/b")
    runs = read_runs([write("a.log", together(first, second))])
    assert [losses(run) for run in runs] == [FALLING, OTHER]
    assert [(run.crashes, run.lost_iterations, run.status) for run in runs] == [(0, 0, "done")] * 2


def test_a_batch_system_that_ends_a_job_ends_all_its_trainings(write: Write) -> None:
    first = training(FALLING, prefix="exp/a", end="", most=900)
    second = training(OTHER, at=5, pid=77, prefix="exp/b", end="", most=900)
    third = training(FALLING, at=1, pid=78, prefix="exp/c", most=300)
    said = "slurmstepd: error: *** JOB 77 ON n1 CANCELLED AT 2026-02-16T10:05:00 DUE TO TIME LIMIT ***\n"
    runs = read_runs([write("a.log", together(first, second, third), said)])
    assert [run.status for run in runs] == ["stopped", "stopped", "done"]
    assert all("TIME LIMIT" in run.reason for run in runs[:2])


# 6. Several trainings in one file


def test_fine_tuning_from_the_run_before(write: Write) -> None:
    first = training(FALLING, prefix="snap/base")
    second = training(
        OTHER, at=100, pid=77, prefix="snap/tuned", before="Finetuning from snap/base_iter_300.caffemodel"
    )
    runs = read_runs([write("a.log", first, second)])
    assert [losses(run) for run in runs] == [FALLING, OTHER]
    assert [(run.crashes, run.lost_iterations, run.status) for run in runs] == [(0, 0, "done")] * 2
    assert "base" in runs[0].name
    assert "tuned" in runs[1].name


def test_stages_of_one_script(write: Write) -> None:
    parts = [("rpn", 1, FALLING), ("fast_rcnn", 2, OTHER), ("rpn_stage2", 3, FALLING)]
    text = "".join(training(some, at=100 * n, pid=n, prefix=f"out/{prefix}") for prefix, n, some in parts)
    runs = read_runs([write("alternating.log", text)])
    assert [run.status for run in runs] == ["done"] * 3
    assert [losses(run) for run in runs] == [FALLING, OTHER, FALLING]


def test_a_resume_in_one_file_stays_one_run(write: Write) -> None:
    first = training(FALLING[:3], end="")
    second = training(
        [(100, 0.9), (200, 0.4), (300, 0.2)], at=100, pid=77, before="Resuming from net_iter_100.solverstate"
    )
    run = read(write("a.log", first, second))
    assert losses(run) == [(0, 2.0), (100, 0.9), (200, 0.4), (300, 0.2)]
    assert (len(run.sessions), run.crashes, run.lost_iterations) == (2, 1, 100)


@pytest.mark.parametrize("pids", [(7, 8), (7, 8, 9), (8, 7, 7)])
@pytest.mark.parametrize("resumes", [True, False])
def test_containers_number_their_processes_alike(write: Write, pids: tuple[int, ...], resumes: bool) -> None:
    text = ""
    for number in range(3 * len(pids)):
        before = f"Resuming from net_iter_{100 * number}.solverstate" if resumes and number else ""
        shown = [(100 * (number * resumes + step), 2.0 - 0.1 * number - 0.01 * step) for step in range(3)]
        end = "Optimization Done." if number == 3 * len(pids) - 1 else ""
        text += training(shown, at=500 * number, pid=pids[number % len(pids)], before=before, end=end)
    run = read(write("a.log", text))
    assert (run.status, len(run.sessions), run.iteration) == ("done", 3 * len(pids), shown[-1][0])
    assert losses(run)[-3:] == shown
    assert run.lost_iterations == (3 * len(pids) - 1) * (100 if resumes else 200)


def caffe_test(at: float, accuracy: float, pid: int) -> str:
    """What ``caffe test`` says."""
    lines = ["Use CPU.", "Initializing net from parameters: \n" + NET.format(classes=10), "Running for 1 iterations."]
    lines += ["Batch 0, accuracy = 0.1", "Loss: 0.9", f"accuracy = {accuracy}"]
    return "".join(stamp(at, pid, "caffe.cpp:275") + line + "\n" for line in lines)


@pytest.mark.parametrize("pid", [4242, 77])
def test_a_test_of_the_finished_weights_in_the_log_of_the_training(write: Write, pid: int) -> None:
    trained = training(FALLING, classes=10) + a_test(60, 300, "accuracy = 0.5")
    run, tested = read_runs([write("a.log", trained, caffe_test(500, 0.65, pid))])
    assert (run.name, run.status, run.accuracy, run.seconds, len(run.sessions)) == ("a", "done", 0.5, 59.0, 1)
    assert (tested.name, tested.status, tested.accuracy) == ("a/test", "tested", 0.65)
    assert tested.curves["lr"].is_null().all()


def test_a_test_of_finished_weights_in_a_file_of_glog_has_its_year(write: Write) -> None:
    (run,) = read_runs([write("a.log", "Log file created at: 2017/02/16 10:00:00\n" + caffe_test(500, 0.65, 7))])
    assert run.status == "tested"
    assert run.sessions[0].began is not None
    assert run.sessions[0].began.year == 2017


def test_each_snapshot_tested_into_one_log(write: Write) -> None:
    runs = read_runs([write("a.log", *(caffe_test(100 * number, number / 10, 7) for number in (1, 2, 3)))])
    assert [(run.name, run.status, run.accuracy) for run in runs] == [
        ("a/test", "tested", 0.1),
        ("a/test~2", "tested", 0.2),
        ("a/test~3", "tested", 0.3),
    ]


# 7. Collapse


def curve_of(*pieces: tuple[int, float]) -> list[tuple[int, float]]:
    """So many displayed losses of a value, then so many of another."""
    flat = [loss for count, loss in pieces for _ in range(count)]
    return [(100 * number, loss + 0.001 * (number % 3)) for number, loss in enumerate(flat)]


def test_a_collapse_at_ten_classes(write: Write) -> None:
    text = training(curve_of((30, 2.3), (60, 0.9), (60, 2.3026)), classes=10, most=14_900)
    text += a_test(1600, 8000, "accuracy = 0.8") + a_test(1700, 14_900, "accuracy = 0.1")
    run = read(write("a.log", text))
    assert run.status == "not_converged"
    assert "collapsed" in run.reason
    assert any(f"{near:,}" in run.reason for near in range(8_800, 9_201, 100))
    assert run.best == (0.8, 8000)


@pytest.mark.parametrize("pieces", [((30, 2.3), (60, 0.9), (40, 2.3026), (60, 0.8)), ((30, 2.3), (60, 0.9), (60, 1.5))])
def test_what_recovers_or_only_gets_worse_has_not_collapsed(
    write: Write, pieces: tuple[tuple[int, float], ...]
) -> None:
    assert read(write("a.log", training(curve_of(*pieces), classes=10, most=19_000))).status == "done"


# 8. Clocks


@pytest.mark.parametrize("behind", [5, 180, 3600])
def test_a_resume_on_a_machine_whose_clock_is_behind(write: Write, behind: int) -> None:
    first = training(FALLING[:3], end="") + stamp(30) + "Snapshotting to binary proto file net_iter_200.caffemodel\n"
    resumed = training(
        [(200, 0.4), (300, 0.2)], at=31 - behind, pid=77, before="Resuming from net_iter_200.solverstate"
    )
    run = read(write("a.log", first, resumed))
    assert losses(run) == [(0, 2.0), (100, 1.0), (200, 0.4), (300, 0.2)]
    assert (run.status, [one.resumed_from for one in run.sessions]) == ("done", [None, 200])


def test_the_end_of_summer_time(write: Write) -> None:
    shown = [(100 * k, 2.0 / (k + 1)) for k in range(5)]
    pace = " (0.111111 iter/s, 900s/100 iters)"
    text = stamp(0, 4242, "caffe.cpp:251") + "Starting Optimization\n"
    for number, (iteration, loss) in enumerate(shown):
        at = 900 * number - (3600 if number >= 3 else 0)  # the clock is put back an hour
        text += stamp(at + 3600) + f"Iteration {iteration}{pace}, loss = {loss:g}\n"
    text = text.replace(stamp(0, 4242, "caffe.cpp:251"), stamp(3600, 4242, "caffe.cpp:251"))
    run = read(write("a.log", text))
    assert run.seconds == pytest.approx(3600, abs=1)
    assert len(run.sessions) == 1


# 9. Wrapped lines


@pytest.mark.parametrize("width", [66, 70, 72, 80])
def test_lines_that_a_terminal_folded_are_whole_again(write: Write, width: int) -> None:
    shown = [(100 * k, float(f"{1.234567 + k / 10:g}")) for k in range(100)]
    text = training(shown, most=9900)
    wrapped = "".join(line[k : k + width] + "\n" for line in text.splitlines() for k in range(0, len(line), width))
    run = read(write("wrapped.log", wrapped))
    assert losses(run) == shown
    assert run.bad_lines == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_number_that_is_wrapped_is_not_believed(write: Write, seed: int) -> None:
    """At any width, as an editor does it that breaks lines where it likes."""
    widths = Random(seed)
    shown = [(100 * k, float(f"{1.234567 + k / 10:g}")) for k in range(100)]
    wrapped = ""
    for line in training(shown, most=9900).splitlines():
        cut = widths.randint(60, 80)
        wrapped += line[:cut] + "\n" + (line[cut:] + "\n") * (len(line) > cut)
    run = read(write("wrapped.log", wrapped))
    assert set(losses(run)) <= set(shown)
    assert run.bad_lines > 0


@pytest.mark.parametrize(
    ("head", "rest"), [("1.", "#QNAN"), ("1", ".5"), ("1", "e-05"), ("1.2", "345 (* 1 = 1.2345 loss)")]
)
def test_a_number_cut_anywhere_is_not_believed(write: Write, head: str, rest: str) -> None:
    text = training(FALLING).replace("Iteration 200, loss = 0.5\n", f"Iteration 200, loss = {head}\n{rest}\n")
    assert losses(read(write("a.log", text))) == [FALLING[0], FALLING[1], FALLING[3]]


@pytest.mark.parametrize("rest", ["375", ".5", "e-05", "375 (* 1 = 0.375 loss)"])
def test_a_number_with_its_rest_further_on_in_the_line_is_not_believed(write: Write, rest: str) -> None:
    """In few lines: in many of them, see ``wrapping``, it is put together."""
    text = training(FALLING).replace("Iteration 200, loss = 0.5\n", f"Iteration 200, loss = 0{' ' * 30}{rest}\n")
    assert losses(read(write("a.log", text))) == [FALLING[0], FALLING[1], FALLING[3]]


@pytest.mark.parametrize("line", ["+", "-", "e", "done", "-5 files left", "%"])
def test_a_line_of_another_program_behind_a_number_takes_nothing_from_it(write: Write, line: str) -> None:
    text = training(FALLING).replace("Iteration 200, loss = 0.5\n", f"Iteration 200, loss = 0.5\n{line}\n")
    assert losses(read(write("a.log", text))) == FALLING


def test_a_file_of_many_bad_lines_is_named(write: Write, tmp_path: Path) -> None:
    lines = training([(100 * k, 1.234567 + k / 10) for k in range(10)]).splitlines()
    cuts = [len(line) - 1 - k % 4 if "loss = " in line else len(line) for k, line in enumerate(lines)]
    path = write("broken.log", "".join(f"{line[:cut]}\n{line[cut:]}\n" for line, cut in zip(lines, cuts, strict=True)))
    done = merge(path, "--out", tmp_path / "out")
    assert "bad lines" in done.stdout + done.stderr


# 10. Nets that glog cut


def test_a_net_cut_before_its_batch_size_is_known_by_its_set_up(write: Write) -> None:
    """As Caffe of 2014 tells shapes, four axes each; the cut is in the data layer."""
    said = (
        ("100", "Creating Layer data"), ("408", "data -> data"), ("408", "data -> label"), ("150", "Setting up data"),
        ("157", "Top shape: 48 3 32 32 (147456)"), ("157", "Top shape: 48 1 1 1 (48)"), ("434", "score <- data"),
        ("408", "score -> score"), ("150", "Setting up score"), ("157", "Top shape: 48 37 1 1 (1776)"),
        ("434", "cost <- score"), ("434", "cost <- label"), ("408", "cost -> cost"), ("150", "Setting up cost"),
        ("157", "Top shape: 1 1 1 1 (1)"), ("160", "    with loss weight 1"),
    )  # fmt: skip
    set_up = "".join(stamp(0.5, where=f"net.cpp:{line}") + text + "\n" for line, text in said)
    net = 'name: "n"\nlayer {\n  name: "data"\n  type: "Data"\n  top: "data"\n  top: "label"\n  data_par\n'
    text = training([(n * 100, 3.611) for n in range(30)], most=50_000)
    at = text.index(stamp(1, where="caffe.cpp:251"))
    header = stamp(0.2, where="net.cpp:50") + "Initializing net from parameters: \n" + net
    run = read(write("a.log", text[:at] + header + set_up + text[at:]))
    assert (run.config.batch_size, run.config.classes, run.bad_lines) == (48, 37, 0)
    assert run.status == "not_converged"
    assert "ln 37" in run.reason


# 11. Reasons of an end


@pytest.mark.parametrize(
    ("line", "word", "status"),
    [
        (
            "slurmstepd: error: *** JOB 77 ON n1 CANCELLED AT 2026-02-16T10:05:00 DUE TO TIME LIMIT ***",
            "TIME LIMIT",
            "stopped",
        ),
        (
            "slurmstepd: error: *** STEP 77.0 ON n1 CANCELLED AT 2026-02-16T10:05:00 DUE TO PREEMPTION ***",
            "PREEMPTION",
            "stopped",
        ),
        ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=77.batch.", "oom-kill", "crashed"),
        ("train.sh: line 2:  4242 Illegal instruction     (core dumped) caffe train", "Illegal instruction", "crashed"),
        ("[12345.6] Out of memory: Killed process 4242 (caffe)", "Out of memory", "crashed"),
        ("Killed", "Killed", "crashed"),
        (
            "Traceback (most recent call last):\n  File 't.py', line 7\nKeyError: 'nosuch'",
            "KeyError: 'nosuch'",
            "crashed",
        ),
        ("Traceback (most recent call last):\nlmdb.DiskError\nlmdb.MapFullError: full", "MapFullError", "crashed"),
        ("Traceback (most recent call last):\n  File 't.py', line 7\nKeyboardInterrupt", "Interrupt", "stopped"),
    ],
)
def test_the_reason_that_somebody_else_says(write: Write, line: str, word: str, status: str) -> None:
    run = read(write("a.log", training(FALLING, end=""), line + "\n"))
    assert word.lower() in run.reason.lower()
    assert run.status == status


def test_an_exception_that_was_caught_ends_nothing(write: Write) -> None:
    lines = training(FALLING).splitlines(keepends=True)
    middle = next(at for at, line in enumerate(lines) if f"Iteration {FALLING[2][0]}, loss" in line)
    lines.insert(middle, "ValueError: no picture\n")
    assert read(write("a.log", *lines)).status == "done"
    (run,) = read_runs([write("b.log", *lines[: middle + 4])])
    assert (run.status, run.crashes) == ("stopped", 0)


# 12. Other programs' figures


def test_scores_of_fcn(write: Write) -> None:
    text = training(FALLING, end="")
    for iteration in (200, 300):
        text += f">>> 2016-02-16 10:05:00.123456 Iteration {iteration} loss 0.4\n"
        for what in ("overall accuracy", "mean accuracy", "mean IU", "fwavacc"):
            text += (
                f">>> 2016-02-16 10:05:00.123456 Iteration {iteration} {what} {iteration / 1000 + len(what) / 100:g}\n"
            )
    run = read(write("a.log", text))
    assert run.curve("mean IU")["value"].to_list() == [0.27, 0.37]
    assert run.curve("overall accuracy")["iteration"].to_list() == [200, 300]


# 13. Names


@pytest.mark.parametrize("name", ["train.2016-02-16", "output", "job.e777", "log_train_1", "net.stdout"])
def test_a_log_is_found_by_what_is_in_it(write: Write, name: str) -> None:
    path = write(name, training(FALLING))
    (path.parent / "solver.prototxt").write_text(SOLVER.format(most=3, prefix="net"))
    (path.parent / "weights.caffemodel").write_bytes(bytes(range(256)) * 100)
    assert read(path.parent).status == "done"


def test_a_named_file_that_is_no_log_is_said(write: Write, tmp_path: Path) -> None:
    good, bad = write("good.log", training(FALLING)), write("notes.log", "nothing of Caffe's\n")
    done = merge(good, bad, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert "notes.log" in done.stderr


def test_files_that_the_user_says_are_one_run(write: Write, tmp_path: Path) -> None:
    first = write("monday", training(FALLING[:3], end=""))
    state = "Resuming from net_iter_200.solverstate"
    second = write("tuesday", training([(200, 0.4), (300, 0.2)], at=900, pid=7, before=state))
    done = merge("--run", f"mine={first},{second}", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "out/summary.csv").read_text().splitlines()
    assert len(rows) == 2
    assert rows[1].startswith("mine,")


# Hostile logs


def _event(content: str) -> str:
    return stamp(0.5, 4242, "_caffe.cpp:68") + f"caffebench: {content}\n"


@pytest.mark.parametrize(
    "lines",
    [
        _event('resume {"restored": 5, "not_restored": {"a": 1}, "iteration": 100}'),
        _event(
            'run {"run": 7, "header": {"label": ["x"], "classes": "many", "phases": 3, "train_size": -1}, "pid": "a"}'
        ),
        _event('end {"status": 5, "iteration": "x", "reason": {"a": []}}'),
        _event('run {"header": {"published_accuracy": {"a": 1}, "sweep": 1e400, "variant": null}}'),
        _event("run " + "[" * 2000),
        _event('run {"header": {"label": "\\ud800", "comment": "\\u0000"}}'),
        "I00000216 10:00:00.000000  4242 a.cpp:1] Iteration 100, loss = 1\n",
        "I99991231 23:59:59.999999  4242 a.cpp:1] Iteration 100, loss = 1\n",
    ],
)
def test_a_hostile_log_ends_neither_itself_nor_the_others(write: Write, tmp_path: Path, lines: str) -> None:
    write(
        "hostile.log",
        training(FALLING).replace(stamp(1, 4242, "caffe.cpp:251"), lines + stamp(1, 4242, "caffe.cpp:251"), 1),
    )
    path = write("good.log", training(FALLING))
    done = merge(path.parent, "--out", tmp_path / "out", "--table", "--sessions", "--export", "json")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "out/summary.csv").read_text().splitlines()
    assert any(row.startswith("good,") for row in rows)
    assert any(row.startswith("hostile,") for row in rows) or "hostile" in done.stderr


ENDS_OF_TIME = """\
I20261121 11:57:24.156312 28476 solver.cpp:239] Iteration 2368 (914.286 iter/s, 0.07s/64 iters), loss = 0.00208462
I20261121 11:57:24.156359 28476 solver.cpp:258]     Train net output #0: loss = 0.00208461 (* 1 = 0.00208461 loss)
I20261121 11:57:24.156365 28476 sgd_solver.cpp:112] Iteration 2368, lr = 0.001
I20261121 11:57:24.212823 28478 data_layer.cpp:73] Restarting data prefetching from start.
I0229 00:00:00.227217 28476 solver.cpp:239] Iteration 2432 (914.286 iter/s, 0.07s/64 iters), loss = 0.038013
I20261121 11:57:24.227263 28476 solver.cpp:258]     Train net output #0: loss = 0.038013 (* 1 = 0.038013 loss)
I20261121 11:57:24.227268 28476 sgd_solver.cpp:112] Iteration 2432, lr = 0.001
I20261121 11:57:27.374627 28476 sgd_solver.cpp:284] Snapshotting solver state to binary proto file s.solverstate
I20261121 11:57:27.375305 28476 solver.cpp:327] Iteration 5120, loss = 0.0218967
I99991231 23:59:59.375329 28476 solver.cpp:347] Iteration 5120, Testing net (#0)
I20261121 11:57:27.385180 28479 data_layer.cpp:73] Restarting data prefetching from start.
I20261121 11:57:27.388629 28476 solver.cpp:414]     Test net output #0: accuracy = 0.994444
"""


def test_a_clock_that_jumps_to_the_ends_of_time(write: Write, tmp_path: Path) -> None:
    write("hostile.log", ENDS_OF_TIME)
    path = write("good.log", training(FALLING))
    done = merge(path.parent, "--out", tmp_path / "out", "--sessions")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/summary.csv").read_text().splitlines()[1].startswith("good,")
