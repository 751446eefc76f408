"""Studies of times: the same files are run several times, in turn, and what is compared is how long they take.

Times mean something only where nothing else computes, so what other programs took of the cores meanwhile is kept
beside the logs, and stands on the page.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import resource
import time
from pathlib import Path

from studying.declared import LOGS, WORK, Study
from studying.keeping import is_kept, keep_logs
from studying.training import generated, machine_words, run_command, time_command

__all__ = ["BUSY", "measure", "others", "weights"]

BUSY = 0.2
"""Cores that others may keep busy before times are called upper bounds."""
PR_SET_CHILD_SUBREAPER = 36
"""Of linux/prctl.h."""
TICKS = os.sysconf("SC_CLK_TCK")


def measure(study: Study) -> bool:
    """Run what is left of a study's repeats, each file once before any again; false where one did not end well."""
    files = generated(study)
    if files is None:
        return False
    kept, whole = LOGS / study.name, WORK / "logs" / study.name
    for repeat in range(1, study.seeds + 1):
        left = [path for path in files if not is_kept(path, f"{path.stem}_repeat{repeat}", kept)]
        if not left:
            continue
        print(f"{study.name}: times are measured now; what else this machine does is in them")
        _adopt_orphans()
        before = _used()
        code = run_command(time_command(study, repeat, [str(path.relative_to(WORK)) for path in left]))
        _bury_orphans()
        after = _used()
        if code:
            return False
        keep_logs(whole, kept)
        note_weights(study)
        busy, own, wall = (late - early for late, early in zip(after, before, strict=True))
        words = f"repeat {repeat}: others kept {max(0.0, busy - own) / wall:.2f} cores busy\n"
        with (kept / "others.txt").open("a") as file:
            file.write(words)
        (kept / "machine.txt").write_text(f"{machine_words()}\n")
        print(words, end="")
    return True


def _adopt_orphans() -> None:
    """Become the parent of processes whose own has ended, as those that load data are: their time is ours, too."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _bury_orphans() -> None:
    """Wait for all of them, which counts their time."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _used() -> tuple[float, float, float]:
    """Seconds: of all cores that were busy, of those that our commands took, and of the clock."""
    user, nice, system, _, _, irq, soft = (int(word) for word in Path("/proc/stat").read_text().split()[1:8])
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (user + nice + system + irq + soft) / TICKS, own.ru_utime + own.ru_stime, time.monotonic()


def note_weights(study: Study) -> None:
    """Keep the fingerprints of the weights that the runs ended with."""
    if not study.weights:
        return
    known = weights(study)
    for log in sorted((WORK / "logs" / study.name).glob("*.001.log")):
        run = log.name.rsplit(".", 2)[0]
        found = sorted((WORK / "snapshots" / study.name).glob(f"{run}_iter_*.caffemodel"))
        if found:
            known[run] = hashlib.sha256(found[-1].read_bytes()).hexdigest()
    text = "".join(f"{digest}  {run}\n" for run, digest in sorted(known.items()))
    (LOGS / study.name / "weights.txt").write_text(text)


def weights(study: Study) -> dict[str, str]:
    """What was kept of that: the fingerprint of each run."""
    path = LOGS / study.name / "weights.txt"
    if not path.is_file():
        return {}
    return {run: digest for digest, run in (line.split() for line in path.read_text().splitlines())}


def others(study: Study) -> float | None:
    """How many cores others kept busy during the repeat in which they did most; None where that was not counted."""
    path = LOGS / study.name / "others.txt"
    found = re.findall(r"kept ([\d.]+) cores", path.read_text()) if path.is_file() else []
    return max(map(float, found), default=None)
