"""Trainings that are started, killed and resumed at random: every value that survives is read, and no other."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from caffebench.analysis import Run, read_runs

Write = Callable[..., Path]

ORDERS = ("start first", "BVLC")
"""Of spring 2014, when ``Starting Optimization`` came before the solver, and since."""


@dataclass
class Story:
    """One training: processes that start, train, die and resume, and what survives of them."""

    random: random.Random
    name: str
    now: datetime
    pids: str
    """``rising``, ``few`` (a container's), ``same`` or ``two`` in turn."""
    losses: dict[int, float] = field(default_factory=dict)
    """What must be read: iteration -> loss."""
    sessions: int = 0
    done: bool = False
    pid: int = 0
    snapshots: list[int] = field(default_factory=list)
    messages: list[tuple[datetime, str]] = field(default_factory=list)
    """Time and text of all that was written, a configuration with the line above it."""

    def __post_init__(self) -> None:
        """Settings that stay."""
        self.order = self.random.choice(ORDERS)
        self.display = self.random.choice([10, 20, 50, 100])
        self.snapshot = self.random.choice([50, 100, 200])
        self.most = self.random.choice([600, 1000, 2000])
        self.pace = self.random.choice([0.01, 0.5, 3.0])  # seconds of an iteration

    def say(self, message: str, severity: str = "I", seconds: float = 0.001) -> None:
        """Write a line, so many seconds later."""
        self.now += timedelta(seconds=seconds)
        stamp = f"{severity}{self.now:%m%d %H:%M:%S.%f} {self.pid:5d} solver.cpp:48] "
        self.messages.append((self.now, stamp + message))

    def session(self, *, last: bool) -> None:
        """One process, which trains to the end if it is the ``last``."""
        draw = self.random
        self.sessions += 1
        rising = (self.pid + draw.randrange(1, 2000)) % 32768 or 1
        self.pid = {"rising": rising, "few": draw.randrange(7, 10), "same": 7, "two": 14 + self.sessions % 2}[self.pids]
        started = self._start(fails=not last and draw.random() < 0.1)
        if started is not None:
            self._train(started, self.most if last or draw.random() < 0.1 else None)
        self.now += timedelta(seconds=draw.choice([1, 5, 600, 40_000]))

    def _start(self, *, fails: bool) -> int | None:
        """The iteration that a process begins at; None for one that ``fails`` before."""
        if self.order == "start first":
            self.say("Starting Optimization")
        solver = f'display: {self.display}\nmax_iter: {self.most}\nsnapshot_prefix: "snapshots/{self.name}"'
        self.say(f"Initializing solver from parameters: \n{solver}")
        if fails:
            self.say("Check failed: mdb_status == 0 (2 vs. 0) No such file or directory", "F")
            return None
        self.say(f'Initializing net from parameters: \nname: "{self.name}"\nlayer {{\n  name: "data"\n}}', seconds=0.5)
        begins = self.random.choice([*self.snapshots, self.snapshots[-1]]) if self.snapshots else 0
        state = f"snapshots/{self.name}_iter_{begins}.solverstate"
        if begins and self.order != "start first":
            self.say(f"Resuming from {state}")
        if self.order != "start first":
            self.say("Starting Optimization")
        elif begins:
            self.say(f"Restoring previous solver status from {state}")
        return begins

    def _train(self, begins: int, end: int | None) -> None:
        """From iteration ``begins`` to ``end``, or to any where it is killed."""
        stop = begins + self.random.randrange(0, self.most - begins) if end is None else end
        shown: dict[int, float] = {}
        written = [one for one in self.snapshots if one <= begins]
        for iteration in range(begins, stop, 10):
            if iteration % self.display == 0:
                shown[iteration] = float(f"{2.3 / (1 + iteration / 300) + self.sessions / 1000:.6g}")
                self.say(f"Iteration {iteration}, loss = {shown[iteration]:g}")
                self.say(f"Iteration {iteration}, lr = 0.01")
            self.now += timedelta(seconds=10 * self.pace)
            if (iteration + 10) % self.snapshot == 0 and iteration + 10 <= stop:
                path = f"snapshots/{self.name}_iter_{iteration + 10}.caffemodel"
                self.say(f"Snapshotting to binary proto file {path}", seconds=0.1)
                written.append(iteration + 10)
        self.done = end is not None
        if self.done:
            self.say("Optimization Done.")
        if shown:
            self.losses = {one: loss for one, loss in self.losses.items() if begins and one <= begins} | shown
            self.snapshots = written

    def live(self, most: int) -> Story:
        """Train to the end, in so many processes at most."""
        for number in range(most):
            if not self.done:
                self.session(last=number == most - 1)
        return self


def one_after_the_other(draw: random.Random, trainings: int, sessions: int, *, one_name: bool) -> list[Story]:
    """Trainings of one script, which may have forgotten to give each a prefix of its own."""
    now, pids = datetime(2016, 4, 6, 4, 34), draw.choice(["rising", "few", "same", "two"])
    stories: list[Story] = []
    for number in range(trainings):
        story = Story(draw, "net" if one_name else f"net{number}", now, pids).live(draw.randrange(1, sessions + 1))
        stories.append(story)
        now = story.now
    return stories


def two_workers(draw: random.Random, trainings: int) -> list[Story]:
    """A queue of trainings that two cards work off, each in one process."""
    free = [datetime(2016, 4, 6, 4, 34), datetime(2016, 4, 6, 4, 34, draw.randrange(1, 40))]
    stories: list[Story] = []
    for number in range(trainings):
        card = free.index(min(free))
        stories.append(Story(draw, f"net{number}", free[card], "rising", pid=3000 * number).live(1))
        free[card] = stories[-1].now
    return stories


def log_of(stories: list[Story]) -> str:
    """What all of them wrote into one file."""
    messages = sorted((message for story in stories for message in story.messages), key=lambda one: one[0])
    return "".join(f"{text}\n" for _, text in messages)


def losses(run: Run) -> dict[int, float]:
    rows = run.curve("loss", "train")
    return dict(zip(rows["iteration"].to_list(), rows["value"].to_list(), strict=True))


def check(path: Path, stories: list[Story]) -> list[Run]:
    runs = [run for run in read_runs([path]) if run.iteration is not None]
    assert sorted(map(str, map(losses, runs))) == sorted(str(story.losses) for story in stories)
    assert all(run.status == "done" for run in runs)
    return runs


@pytest.mark.parametrize("seed", range(40))
def test_one_training_in_one_file_or_in_parts(write: Write, seed: int) -> None:
    (story,) = one_after_the_other(random.Random(seed), 1, 8, one_name=True)
    (run,) = check(write("net.log", log_of([story])), [story])
    assert len(run.sessions) == story.sessions


@pytest.mark.parametrize("one_name", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_trainings_of_one_script(write: Write, seed: int, one_name: bool) -> None:
    stories = one_after_the_other(random.Random(seed), 3, 3, one_name=one_name)
    check(write("all.log", log_of(stories)), stories)


@pytest.mark.parametrize("seed", range(60))
def test_two_cards_write_into_one_log(write: Write, seed: int) -> None:
    stories = two_workers(random.Random(seed), 2 + seed % 5)
    check(write("all.log", log_of(stories)), stories)


@pytest.mark.parametrize("seed", range(40))
def test_two_trainings_at_once_that_are_resumed(write: Write, seed: int) -> None:
    draw = random.Random(seed)
    first = one_after_the_other(draw, 1, 3, one_name=True)
    second = Story(draw, "other", first[0].messages[0][0], "rising", pid=20_000).live(draw.randrange(1, 4))
    first[0].name = "net"
    check(write("all.log", log_of([*first, second])), [*first, second])
