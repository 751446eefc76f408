"""Running a test programme of Caffe's and pycaffe's own tests: the name and the outcome of every test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from caffetests.programme import Programme

__all__ = ["cpp_tests", "python_tests"]

Outcomes = dict[str, str | None]
"""Test -> None where it passed, else what its first failure said."""

# googletest's own words.
_BEGUN = re.compile(r"^\[ RUN {6}\] (\S+)$")
_ENDED = re.compile(r"^\[ {7}(OK) \] (\S+) \(|^\[  (FAILED)  \] (\S+?),? .*\(\d+ ms\)$")

_PYTHON = """
import json, sys, unittest
suite = unittest.defaultTestLoader.discover(sys.argv[1], top_level_dir=sys.argv[1])
def every(tests):
    for test in tests:
        yield from every(test) if isinstance(test, unittest.TestSuite) else [test]
names = [test.id() for test in every(suite)]
result = unittest.TextTestRunner(stream=sys.stderr).run(suite)
said = {test.id(): text.strip().splitlines()[-1] for test, text in [*result.failures, *result.errors]}
said |= {test.id(): f"skipped: {why}" for test, why in result.skipped}
print(json.dumps({name: said.get(name) for name in {**dict.fromkeys(names), **said}}))
"""


def cpp_tests(
    programme: Programme,
    caffe: Path,
    jobs: int,
    *,
    preload: Sequence[Path] = (),
    gpu: int | None = None,
    card_only: bool = False,
    limit: float = 1800,
    told: Callable[[Outcomes], None] = lambda _: None,
) -> Outcomes:
    """Run every test of ``programme`` with the libraries in ``caffe``, those of a class in a process of its own.

    A test that ends its process counts as failed, as does one at which its class is not over after ``limit`` seconds,
    and those behind it are run all the same. ``preload`` are libraries that are loaded first. ``gpu`` is the card for
    the tests that need one; None leaves out those that say so in their name (a Caffe for the CPU alone has no others).
    """
    folders = filter(None, [str(caffe), os.environ.get("LD_LIBRARY_PATH")])
    environment = os.environ | {"LD_LIBRARY_PATH": ":".join(folders), "GLOG_minloglevel": "2"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if preload:
        # Memory that is never freed is Caffe's own, and glog's: it is not looked for.
        environment |= {"LD_PRELOAD": " ".join(map(str, preload)), "ASAN_OPTIONS": "detect_leaks=0"}
    listed = subprocess.run(
        [programme.file, "--gtest_list_tests"], env=environment, capture_output=True, text=True, check=True
    )
    groups: dict[str, list[str]] = {}
    suite = ""
    for line in listed.stdout.splitlines():
        if not line.startswith(" "):
            suite = line.split("#")[0].strip()
        elif gpu is not None or "GPU" not in f"{suite}{line}":
            groups.setdefault(suite, []).append(suite + line.split("#")[0].strip())
    if card_only:
        groups = {suite: tests for suite, tests in groups.items() if _on_card(suite, groups)}
    outcomes: Outcomes = {}
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(_run_group, programme, tests, environment, gpu or 0, limit) for tests in groups.values()]
        for ended in as_completed(running):
            told(ended.result())
            outcomes |= ended.result()
    return outcomes


def _on_card(suite: str, suites: Iterable[str]) -> bool:
    """Whether a class is not for the CPU; one for both devices is there four times, for the CPU 0 and 1."""
    base, _, number = suite.rstrip(".").partition("/")
    return f"{base}/2." not in suites or number in ("2", "3")


def _run_group(
    programme: Programme, tests: Sequence[str], environment: dict[str, str], gpu: int, limit: float
) -> Outcomes:
    outcomes: Outcomes = {}
    left = list(tests)
    while left:
        with tempfile.TemporaryDirectory() as folder:
            code, out, errors = _run(
                # A programme for the CPU takes no notice of the number of a card.
                [str(programme.file), str(gpu), f"--gtest_filter={':'.join(left)}"],
                programme.source,
                environment | {"TMPDIR": folder},
                limit,
            )
        found = dict(_outcomes(out.splitlines()))
        if not found:
            why = (errors.strip().splitlines() or ["no word"])[0]
            return outcomes | dict.fromkeys(left, f"the programme {code}: {why}")
        for name, said in found.items():
            fatal = [line.partition("] ")[2] for line in errors.splitlines() if line.startswith("F")]
            outcomes[name] = (fatal or [code])[0] if said == "" else said
        left = [name for name in left if name not in outcomes]
    return outcomes


def _run(command: Sequence[str], folder: Path, environment: dict[str, str], limit: float) -> tuple[str, str, str]:
    """How the programme ended, in words, what it printed, and its errors."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            out, errors = process.communicate(timeout=limit)
            return f"ends with {process.returncode}", out, errors
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            return f"was not over after {limit:g} s", out, errors


def _outcomes(lines: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Each test that began, with what is wrong; "" for one that did not end."""
    running, said = "", ""
    for line in lines:
        if begun := _BEGUN.match(line):
            running, said = begun[1], ""
        elif running and (ended := _ENDED.match(line)):
            yield running, None if ended[1] else said or "failed"
            running = ""
        elif running and not said and line.strip():
            said = line.strip()
    if running:
        yield running, ""


def python_tests(programme: Programme, python: str = sys.executable) -> Outcomes:
    """Run pycaffe's own tests with the Caffe that is installed for ``python``."""
    folder = programme.source / "python" / "caffe" / "test"
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [python, "-c", _PYTHON, str(folder)], cwd=elsewhere, capture_output=True, text=True,
            env=os.environ | {"GLOG_minloglevel": "2", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return {"pycaffe's tests": f"end with {done.returncode}: {last}"}
    outcomes: Outcomes = json.loads(done.stdout.splitlines()[-1])
    return outcomes
