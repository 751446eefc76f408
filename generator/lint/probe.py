"""The process in which Caffe is asked: it builds solvers and nets, each in a child of its own that may die of it.

Run with ``python -I -m caffebench.generator.lint.probe FOLDER``: one job per line on standard input,
``{"solver": text}`` or ``{"nets": [[phase, text], ...]}``, and one answer per line on standard output,
``{"status": ..., "log": what Caffe printed}``.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

__all__ = ["main"]

SECONDS = 20
MEMORY = 6 << 30
_LOG_TAIL = 20_000


def main(folder: Path) -> None:
    """Answer jobs until standard input ends."""
    os.environ |= {"GLOG_logtostderr": "1", "GLOG_minloglevel": "0", "OPENBLAS_NUM_THREADS": "1"}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Caffe or Python print is no answer
    warnings.simplefilter("ignore")
    from caffebench.engine.pycaffe import import_caffe

    caffe = import_caffe()
    for line in sys.stdin:
        print(json.dumps(_answer(caffe, json.loads(line), folder)), file=answers, flush=True)


def _answer(caffe: Any, job: dict[str, Any], folder: Path) -> dict[str, str]:
    log = folder / "log"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _limit()
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            _build(caffe, job, folder)
            code = 0
        except MemoryError:
            code = 3
        except BaseException as error:
            os.write(2, f"\n{error}\n".encode())
        finally:
            os._exit(code)
    deadline = time.monotonic() + 3 * SECONDS  # the limit proper is one of CPU time
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(ended[1])
    text = log.read_text(errors="replace")[-_LOG_TAIL:] if log.exists() else ""
    if code == 0:
        return {"status": "built", "log": ""}
    if code in (3, -signal.SIGKILL, -signal.SIGXCPU) or "bad_alloc" in text or "host allocation" in text:
        return {"status": "limit", "log": text}
    return {"status": "stopped", "log": text}


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _build(caffe: Any, job: dict[str, Any], folder: Path) -> None:
    caffe.set_mode_cpu()
    path = folder / "asked.prototxt"
    if "solver" in job:
        path.write_text(job["solver"])
        solver = caffe.get_solver(str(path))
        for net in solver.test_nets:
            net.share_with(solver.net)  # what each test begins with
        return
    for phase, text in job["nets"]:
        path.write_text(text)
        caffe.Net(str(path), getattr(caffe, phase))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
