"""Whole small logs of each kind that is out there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from caffebench.analysis import read_runs
from caffebench.analysis.runs.model import Run

Write = Callable[..., Path]
P = "I0411 08:54:06.202049 10647 solver.cpp:237] "


def log(write: Write, *lines: str) -> Run:
    (run,) = read_runs([write("net.log", "\n".join(lines) + "\n")])
    return run


def rows(run: Run) -> list[tuple[object, ...]]:
    return run.curves.select("phase", "net", "iteration", "metric", "value").rows()


def test_caffe_of_today_prints_its_pace(write: Write) -> None:
    new = "I20261121 03:50:02.245851 10633 solver.cpp:239] "
    run = log(
        write,
        new + "Iteration 0 (-4.2e-45 iter/s, 0.01s/100 iters), loss = 2.35",
        new + "    Train net output #0: loss = 2.35 (* 1 = 2.35 loss)",
        new + "Iteration 0, lr = 0.01",
    )
    assert rows(run) == [("train", None, 0, "loss", 2.35), ("train", None, 0, "batch_loss", 2.35)]
    assert run.curves["lr"].to_list() == [0.01, 0.01]


@pytest.mark.parametrize("pace", ["(2.25 iter/s, 21.292s/48 iter)", "(3.8928 s)", "(241.076/s)"])
def test_nvcaffe(write: Write, pace: str) -> None:
    run = log(write, f"{P}Iteration 56 {pace}, loss = 1.5", f"{P}Iteration 56 {pace}, lr = 0.01, m = 0.9, wd = 0.0005")
    assert rows(run) == [("train", None, 56, "loss", 1.5)]
    assert run.curves["lr"].to_list() == [0.01]


@pytest.mark.parametrize("front", ["[0] ", " rank = 0 "])
def test_mpi_ranks_in_front(write: Write, front: str) -> None:
    run = log(write, f"{front}{P}Iteration 20, loss = 1.5", f"{P}{front}Iteration 40, loss = 1.25")
    assert [(row[2], row[4]) for row in rows(run)] == [(20, 1.5), (40, 1.25)]


def test_several_test_nets(write: Write) -> None:
    run = log(
        write,
        P + "Iteration 100, Testing net (#0)",
        P + "    Test net output #0: accuracy = 0.5",
        P + "Iteration 100, Testing net (#1)",
        P + "    Test net output #0: accuracy = 0.25",
    )
    assert rows(run) == [("test", 0, 100, "accuracy", 0.5), ("test", 1, 100, "accuracy", 0.25)]
    assert run.accuracy == 0.5


def test_googlenet_has_three_losses_and_top_1_is_before_top_5(write: Write) -> None:
    run = log(
        write,
        P + "Iteration 4000, Testing net (#0)",
        P + "    Test net output #0: loss1/loss1 = 3.1 (* 0.3 = 0.93 loss)",
        P + "    Test net output #1: loss1/top-1 = 0.31",
        P + "    Test net output #2: loss1/top-5 = 0.55",
        P + "    Test net output #3: loss3/loss3 = 2.5 (* 1 = 2.5 loss)",
        P + "    Test net output #4: loss3/top-1 = 0.44",
        P + "    Test net output #5: loss3/top-5 = 0.7",
    )
    assert (run.accuracy, run.loss) == (0.44, 2.5)


def test_a_vector_is_numbered(write: Write) -> None:
    run = log(
        write,
        P + "Iteration 0, Testing net (#0)",
        P + "    Test net output #0: accuracy = 0.5",
        P + "    Test net output #1: per_class = 0.25",
        P + "    Test net output #2: per_class = 0.75",
    )
    assert [row[3:] for row in rows(run)] == [("accuracy", 0.5), ("per_class[0]", 0.25), ("per_class[1]", 0.75)]


def test_test_nets_with_other_outputs_have_no_vectors(write: Write) -> None:
    run = log(
        write,
        P + "Iteration 0, Testing net (#0)",
        P + "    Test net output #0: acc_top5 = 0.9",
        P + "    Test net output #1: accuracy = 0.5",
        P + "    Test net output #2: loss = 2 (* 1 = 2 loss)",
        P + "    Test net output #3: part = 0.25",
        P + "    Test net output #4: part = 0.75",
        P + "Iteration 0, Testing net (#1)",
        P + "    Test net output #0: accuracy = 0.6",
        P + "    Test net output #1: loss = 1 (* 1 = 1 loss)",
        P + "    Test net output #3: part = 0.125",
    )
    assert (run.accuracy, run.loss) == (0.5, 2.0)
    assert run.curve("loss", net=1)["value"].to_list() == [1.0]
    assert [name for name, _ in run.stitched.named("test", 0)][3:] == ["part[0]", "part[1]"]
    assert run.curve("part", net=1)["value"].to_list() == [0.125]


def test_a_vector_of_a_test_of_finished_weights_is_numbered(write: Write) -> None:
    said = [P + "Running for 2 iterations.", P + "Batch 0, part = 0.1", P + "Batch 0, part = 0.2", P + "Loss: 0.3"]
    said += [P + "accuracy = 0.5", P + "part = 0.25", P + "part = 0.75", P + "loss = 0.3 (* 1 = 0.3 loss)"]
    expected = [("accuracy", 0.5), ("part[0]", 0.25), ("part[1]", 0.75), ("loss", 0.3)]
    for run in read_runs([write("net.log", "\n".join([*said, *said]))]):
        assert [row[3:] for row in rows(run)] == expected
        assert (run.accuracy, run.loss) == (0.5, 0.3)


def test_every_value_of_a_blob_that_nobody_reads_is_one(write: Write) -> None:
    values = [f"    Test net output #{at}: features = {at / 7:g}" for at in range(36_000)]
    said = ["Iteration 100, Testing net (#0)", *values, "    Test net output #36000: loss = 0.5 (* 1 = 0.5 loss)"]
    run = log(write, *(P + one for one in said))
    assert (len(run.stitched), run.loss, run.bad_lines) == (36_001, 0.5, 0)
    assert run.curve("features[35999]")["value"].to_list() == [5142.71]


def test_ssd_and_early_2014(write: Write) -> None:
    ssd = log(write, P + "Iteration 0, Testing net (#0)", P + "    Test net output #0: detection_eval = 0.7")
    assert ssd.accuracy == 0.7
    old = log(write, P + "Iteration 0, Testing net", P + "Iteration 9, Testing net (#0)", P + "Test score #0: 0.41")
    assert rows(old) == [("test", 0, 9, "score0", 0.41)]


@pytest.mark.parametrize("prefix", [P, "I1203 solver.cpp:84] ", "    " + P])
def test_2013_says_no_iteration_with_its_tests(write: Write, prefix: str) -> None:
    tests = [f"{prefix}Testing net", f"{prefix}Test score #0: 0.9785", f"{prefix}Test score #1: 0.06"]
    lost = [*tests[1:], f"{prefix}Snapshotting to lenet_iter_500"]
    shown = [f"{prefix}Iteration 600, lr = 0.01", f"{prefix}Iteration 600, loss = 0.26"]
    run = log(write, *tests, *lost, *shown, *tests)
    assert run.bad_lines == 4, "of what comes before an iteration is told"
    assert rows(run) == [
        ("train", None, 600, "loss", 0.26),
        ("test", 0, 600, "score0", 0.9785),
        ("test", 0, 600, "score1", 0.06),
    ]


def test_what_several_gpus_say_twice_counts_once(write: Write) -> None:
    other = P.replace("10647", "10650")
    run = log(
        write,
        P + "Iteration 0, loss = 2",
        P + "Iteration 0, lr = 0.01",
        other + "Iteration 0, lr = 0.01",
        P + "Iteration 20, loss = 1",
        P + "Iteration 20, lr = 0.01",
        other + "Iteration 20, lr = 0.01",
        P + "Iteration 40, loss = 0.5",
    )
    assert [row[2:] for row in rows(run)] == [(0, "loss", 2.0), (20, "loss", 1.0), (40, "loss", 0.5)]
    assert len(run.sessions) == 1


def test_other_lines_that_say_iteration(write: Write) -> None:
    run = log(write, P + "MultiStep Status: Iteration 50000, step = 1", P + "Iteration 50000, loss = 1")
    assert rows(run) == [("train", None, 50_000, "loss", 1.0)]
    assert run.bad_lines == 0


def test_carriage_returns_colours_and_cut_lines(write: Write) -> None:
    run = log(
        write,
        "\x1b[32m" + P + "Iteration 0, loss = 3\x1b[0m\r",
        "progress 1%\rprogress 2%\r" + P + "Iteration 20, loss = 2\r",
        P + "Iteration 40, lo" + P + "Iteration 60, loss = 1",
        P + "Iteration 80, loss = 0.",
        P + "Iteration 100, loss = 0.5x",
    )
    assert [row[2:] for row in rows(run)][:3] == [(0, "loss", 3.0), (20, "loss", 2.0), (60, "loss", 1.0)]
    assert run.bad_lines == 1


def test_the_end_of_a_log_that_is_cut_in_a_number_is_no_value(write: Write) -> None:
    path = write("net.log", f"{P}Iteration 0, loss = 3\n{P}Iteration 20, loss = 2.4")
    (run,) = read_runs([path])
    assert [row[2:] for row in rows(run)] == [(0, "loss", 3.0)]


def test_a_rate_whose_loss_is_lost_is_kept(write: Write) -> None:
    run = log(write, P + "Iteration 0, loss = 3", P + "Iteration 0, lr = 0.01", P + "Iteration 20, lr = 0.005")
    assert [row[2:] for row in rows(run)] == [(0, "loss", 3.0), (20, "lr", 0.005)]


@pytest.mark.parametrize(
    ("source", "option", "said"),
    [
        ("/data/ilsvrc12_train_lmdb", None, False),
        ("/data/ImageNet/train", None, False),
        ("/data/celebrities/train_lmdb", None, True),
        ("/data/celebrities/train_lmdb", 5000, False),
    ],
)
def test_a_thousand_classes_of_other_data_are_taken_for_imagenet_aloud(
    make_session: Callable[..., str], write: Write, source: str, option: int | None, said: bool
) -> None:
    text = make_session(0, 100).replace("num_output: 10", "num_output: 1000")
    (run,) = read_runs([write("net.log", text.replace("batch_size: 32", f'source: "{source}" batch_size: 32'))], option)
    assert run.epochs == pytest.approx(100 * 32 / (option or 1_281_167), abs=1e-6)
    assert [source in one and "--train-size" in one for one in run.notes] == [True] * said


@pytest.mark.parametrize(("option", "images"), [(None, 2000), (500, 500)])
def test_an_imagedata_layer_counts_the_images_of_an_epoch(
    make_session: Callable[..., str], write: Write, option: int | None, images: int
) -> None:
    built = ["Initializing net from parameters: ", "state {\n  phase: TRAIN\n}", 'layer {\n  name: "data"\n}']
    said = [f"{P}{built[0]}", *built[1:], f"{P}Creating Layer data"]
    counts = P.replace("solver", "image_data_layer")
    for count, phase in ((2000, "TRAIN"), (300, "TEST")):
        said += [f"{counts}A total of {count} images.", f"{P}Network initialization done."]
        said += [f"{P}{built[0]}", f"state {{\n  phase: {phase}\n}}", f"{P}Creating Layer data"] * (phase == "TRAIN")
    text = make_session(0, 100).replace("I0406 04:34:55", "\n".join(said) + "\nI0406 04:34:55", 1)
    (run,) = read_runs([write("net.log", text)], option)
    assert (run.train_size, run.epochs) == (images, 100 * 32 / images)


def test_leap_days(write: Write) -> None:
    lines = [
        f"I{day} 12:00:00.000000 7 solver.cpp:1] Iteration {n}, loss = 1" for n, day in enumerate(["0228", "0301"])
    ]
    lines = [lines[0].replace("12:00", "23:59"), lines[0].replace("12:00", "23:59").replace("n 0", "n 1")]
    lines.append("I0301 00:00:00.000000 7 solver.cpp:1] Iteration 2, loss = 1")
    assert log(write, *lines).seconds == 60.0
    leap = "I0229 12:00:00.000000 7 solver.cpp:1] Iteration 2, loss = 1"
    lines[2:] = [leap, "I0301 00:00:00.000000 7 solver.cpp:1] Iteration 3, loss = 1"]
    assert log(write, *lines).seconds == 86_460.0


def test_parsenet_and_a_failure_after_the_end(write: Write) -> None:
    run = log(
        write,
        P + "Iteration 20000, Testing net (#0)",
        P + "    Test net output #0 evaluation: per_pixel_acc = 0.890146",
        P + "    Test net output #0 evaluation: iou_acc = 0.554773",
        P + "Optimization Done.",
        "F" + P[1:] + "Check failed: error == cudaSuccess (29 vs. 0)  driver shutting down",
    )
    assert (run.accuracy, run.bad_lines) == (0.890146, 0)
    assert (run.status, run.crashes) == ("done", 0)


def test_an_output_that_is_called_batch_loss_stays_itself(write: Write) -> None:
    run = log(
        write,
        P + "Iteration 0, loss = 3",
        P + "    Train net output #0: batch_loss = 1 (* 1 = 1 loss)",
        P + "    Train net output #1: loss = 2 (* 1 = 2 loss)",
    )
    assert [row[3:] for row in rows(run)] == [("loss", 3.0), ("batch_loss", 1.0), ("batch_loss~2", 2.0)]
