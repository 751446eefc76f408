"""Running a test programme of Caffe's and pycaffe's own tests: the name and the outcome of every test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    programme: Programme, caffe: Path, jobs: int, *, preload: Sequence[Path] = (), gpu: bool = False
) -> Outcomes:
    """Run every test of ``programme`` with the libraries in ``caffe``, those of a class in a process of its own.

    A test that ends its process counts as failed, and those behind it are run all the same. ``preload`` are libraries
    that are loaded first.
    """
    environment = os.environ | {"LD_LIBRARY_PATH": str(caffe), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"GLOG_minloglevel": "2"}
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
        elif gpu or "GPU" not in f"{suite}{line}":
            groups.setdefault(suite.split("/")[0], []).append(suite + line.split("#")[0].strip())
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda tests: _run_group(programme, tests, environment), groups.values())
        return {name: said for outcomes in results for name, said in outcomes.items()}


def _run_group(programme: Programme, tests: Sequence[str], environment: dict[str, str]) -> Outcomes:
    outcomes: Outcomes = {}
    left = list(tests)
    while left:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [programme.file, f"--gtest_filter={':'.join(left)}"], cwd=programme.source,
                env=environment | {"TMPDIR": folder}, capture_output=True, text=True, errors="replace",
            )  # fmt: skip
        found = dict(_outcomes(done.stdout.splitlines()))
        if not found:
            why = (done.stderr.strip().splitlines() or ["no word"])[0]
            return outcomes | dict.fromkeys(left, f"the programme ends with {done.returncode}: {why}")
        for name, said in found.items():
            fatal = [line.partition("] ")[2] for line in done.stderr.splitlines() if line.startswith("F")]
            outcomes[name] = (fatal or [f"ends with {done.returncode}"])[0] if said == "" else said
        left = [name for name in left if name not in outcomes]
    return outcomes


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
