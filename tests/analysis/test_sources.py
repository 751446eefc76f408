"""Which files make a run, and folders and files that are not as they should be."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import in_process
import pytest
import zstandard
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from caffebench.analysis import read, read_runs
from caffebench.analysis.cli import main
from caffebench.analysis.output.csv_files import with_lines, write_curves, write_summary
from caffebench.analysis.read.files import find_runs
from caffebench.common.errors import InputError

Session = Callable[..., str]
Write = Callable[..., Path]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_compressed_logs_and_cut_ones(
    make_session: Session, write: Write, tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    text = make_session(0, 2000).encode()
    packed = pack(text)
    (run,) = read_runs([write(f"net.log{suffix}", packed)])
    assert (run.name, run.iteration) == ("net", 2000)
    long = pack(make_session(0, 100_000).encode())
    whole = len(read_runs([write(f"long.log{suffix}", long)])[0].stitched)
    (cut,) = read_runs([write(f"cut.log{suffix}", long[: len(long) * 9 // 10])])
    least = 0.45 if suffix == ".bz2" else 0.6  # bzip2 packs 900 kB at a time
    assert len(cut.stitched) > least * whole, "what comes before the cut is there"
    for place in range(0, len(packed), max(1, len(packed) // 40)):
        broken = packed[:place] + bytes([packed[place] ^ 0x55]) + packed[place + 1 :]
        code = CliRunner().invoke(main, [str(write(f"broken.log{suffix}", broken)), "--out", str(tmp_path)]).exit_code
        assert code in (0, 2), "damaged files are no internal error"


def test_glogs_own_files_of_one_prefix_are_one_run(make_session: Session, write: Write) -> None:
    created = "Log file created at: 2016/12/31 23:58:00\n"
    first = write("caffe.host.me.log.INFO.20161231-235800.100", created, make_session(0, 340))
    write(
        "caffe.host.me.log.INFO.20170101-120000.200",
        created.replace("2016/12/31 23:58", "2017/01/01 12:00"),
        make_session(300, 600, pid=200, resume=True),
    )
    write("caffe.host.me.log.WARNING.20161231-235800.100", created)
    (first.parent / "caffe.INFO").symlink_to(first.name)
    (run,) = read_runs([first.parent])
    assert (run.name, len(run.sessions), run.lost_iterations) == ("net", 2, 40)
    assert [one.began.year for one in run.sessions if one.began] == [2016, 2017]


def test_links_in_a_loop_and_twice_are_read_once(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 100))
    (path.parent / "again").symlink_to(path.parent, target_is_directory=True)
    (path.parent / "same.log").symlink_to(path)
    assert [one.name for one in find_runs([path.parent])] == ["net"]


@pytest.mark.slow
def test_a_folder_of_many_files(tmp_path: Path) -> None:
    for number in range(100_000):
        (tmp_path / f"{number}.jpg").touch()
    with pytest.raises(InputError, match="no Caffe log in"):
        read_runs([tmp_path])


def test_files_of_other_programs(write: Write) -> None:
    path = write("other.log", b"2016-01-01 ERROR nothing to see\n" * 100)
    done = CliRunner().invoke(main, [str(path)])
    assert done.exit_code == 2
    assert "no Caffe log in" in done.stderr
    missing = CliRunner().invoke(main, [str(path.parent / "absent")])
    assert (missing.exit_code, "does not exist" in missing.stderr) == (2, True)


def test_what_may_not_be_read_is_left_out_and_named(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 100))
    write("other.log", make_session(0, 200))
    path.chmod(0)
    for folder in path.parents:
        if "pytest" in str(folder):  # pytest's own, one more of them where it runs on several cores
            folder.chmod(0o755)
    # As root every file can be read: so another user does the reading.
    code = f"""
import os
from caffebench.analysis.runs.reading import read_runs
read_runs([{str(path.parent)!r}])  # so that everything is imported, which another user might not read either
if os.getuid() == 0:
    os.setuid(65534)
why = []
print([run.name for run in read_runs([{str(path.parent)!r}], unreadable=why.append)], why)
try:
    read_runs([{str(path)!r}])
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        f"['other'] ['{path} cannot be read: Permission denied']",
        f"InputError {path} cannot be read: Permission denied",
    ], done.stderr


def test_a_log_that_grows_between_two_reads(make_session: Session, write: Write) -> None:
    text = make_session(0, 400)
    for size in range(0, len(text), 1501):
        path = write("net.log", text[:size])
        if size > 3000:
            shown = read(path).filter(phase="train", metric="loss")["value"].to_list()
            whole = [round(2.3 / (1 + iteration / 100), 5) for iteration in range(0, 401, 20)]
            assert shown == pytest.approx(whole[: len(shown)], abs=1e-5)


def test_a_named_pipe_in_a_folder_is_passed_over(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 200))
    os.mkfifo(path.with_name("pipe.log"))
    assert [run.name for run in read_runs([path.parent])] == ["net"]


@pytest.mark.slow
def test_many_runs_are_shared_among_processes(make_session: Session, write: Write, tmp_path: Path) -> None:
    for number in range(20):
        folder = write(f"net{number}.log", make_session(0, 200)).parent
    done = CliRunner().invoke(main, [str(folder), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    names = [line.split(",")[0] for line in (tmp_path / "summary.csv").read_text().splitlines()[1:]]
    assert names == [f"net{number}" for number in range(20)]


@pytest.mark.slow
def test_what_reading_processes_print_is_what_is_printed_alone(
    make_session: Session, write: Write, tmp_path: Path
) -> None:
    """Small runs come with their lines, large ones as columns; a run of both kinds of logs has the same files."""
    for number in range(18):
        write(f"run{number}.log", make_session(0, 100 + 40 * number), make_session(100, 300, pid=7, resume=True))
    write("long.log", make_session(0, 60_000))
    folder = tmp_path / "logs"
    several = read_runs([folder], workers=2, finish=with_lines)
    alone = read_runs([folder])
    assert [run.csv_lines is None for run in several] == [run.name == "long" for run in several]
    for place, runs in (("several", several), ("alone", alone)):
        write_curves(runs, tmp_path / place / "curves.csv")
        write_summary(runs, tmp_path / place / "summary.csv")
    command = [
        Path(sys.executable).parent / "merge-logs",
        folder,
        "--out",
        tmp_path / "command",
    ]  # whose processes fork
    subprocess.run(command, check=True, capture_output=True)
    for name in ("curves.csv", "summary.csv"):
        assert (tmp_path / "several" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
        assert (tmp_path / "command" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    for one, other in zip(several, alone, strict=True):
        assert_frame_equal(one.curves, other.curves)
        assert (one.sessions, one.config, one.status) == (other.sessions, other.config, other.status)


def test_processes_are_forked_where_there_is_one_thread() -> None:
    """Polars, which the tests use, has threads of its own."""
    code = "import threading\nfrom caffebench.analysis.runs.reading import _start_method\nprint(_start_method())\n"
    code += "threading.Thread(target=threading.Event().wait, daemon=True).start()\nprint(_start_method())"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["fork", "spawn"]


def test_a_reading_process_that_is_killed_is_said_in_one_line(tmp_path: Path) -> None:
    """The logs are pipes that nobody writes into: the processes wait until one of them is killed."""
    pipes = [str(tmp_path / f"net{number}.log") for number in range(20)]
    for pipe in pipes:
        os.mkfifo(pipe)
    code = "from pathlib import Path\nfrom caffebench.analysis.read.files import RunFiles\n"
    code += f"from caffebench.analysis.runs.reading import _each\npipes = {pipes}\n"
    code += "list(_each([RunFiles(one, (Path(one),)) for one in pipes], None, 2))"
    script = tmp_path / "script.py"
    script.write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}\n")
    with subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True) as reading:
        children = Path(f"/proc/{reading.pid}/task/{reading.pid}/children")
        readers: list[int] = []
        while len(readers) < 2:
            assert reading.poll() is None, reading.communicate()
            time.sleep(0.05)
            readers = [
                int(one)
                for one in (children.read_text().split() if children.exists() else ())
                if b"resource_tracker" not in Path(f"/proc/{one}/cmdline").read_bytes()
            ]
        os.kill(readers[0], signal.SIGKILL)
        _, said = reading.communicate(timeout=60)
    assert (
        said.strip()
        .splitlines()[-1]
        .endswith("a process that read logs was killed, perhaps for want of memory: merge fewer logs at a time")
    )


@pytest.mark.parametrize("name", ["logs.tar", "logs.tar.gz", "logs.tgz", "LOGS.ZIP", "logs.tar.zst"])
def test_an_archive_is_refused_as_it_may_hold_many_runs(
    make_session: Session, write: Write, tmp_path: Path, name: str
) -> None:
    archive = write(name, make_session(0, 200))
    result = CliRunner().invoke(main, [str(archive), "--out", str(tmp_path)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "unpack it" in result.stderr
    write("net.log", make_session(0, 200))
    assert [run.name for run in read_runs([archive.parent])] == ["net"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    for path in (tmp_path / "pipe.log", Path("/dev/null")):
        done = CliRunner().invoke(main, [str(path), "--out", str(tmp_path / "out")])
        assert done.exit_code == 2
        assert "neither a file nor a folder" in done.stderr


@pytest.mark.slow
def test_a_compressed_file_that_expands_without_end_is_left_out(make_session: Session, write: Write) -> None:
    good = write("good.log", make_session(0, 100))
    write("bomb.log.gz", gzip.compress(b"\0" * (100 << 20)))
    why: list[str] = []
    (run,) = read_runs([good.parent], unreadable=why.append)
    assert run.name == "good"
    assert "expands to more than" in why[0]


def test_a_name_that_is_not_utf_8_is_printable(make_session: Session, write: Write, tmp_path: Path) -> None:
    good = write("good.log", make_session(0, 100))
    os.rename(good, os.fsdecode(os.fsencode(good.parent) + b"/n\xffet.log"))
    done = CliRunner().invoke(main, [str(good.parent), "--out", str(tmp_path / "out"), "--sessions"])
    assert done.exit_code == 0, done.output
    assert "n\\xffet" in (tmp_path / "out/summary.csv").read_text()


@pytest.mark.parametrize("name", ["m010_events.log", "m035_year_utf.log", "50_sessions.log"])
def test_hostile_logs_do_not_end_the_others(shared: Path, write: Write, make_session: Session, name: str) -> None:
    write("hostile.log", (shared / "cases/hostile" / name).read_bytes())
    good = write("good.log", make_session(0, 100))
    why: list[str] = []
    names = {run.name for run in read_runs([good.parent], unreadable=why.append)}
    assert "good" in names
    assert any(one.startswith("hostile") for one in names) or "hostile" in why[0]


def test_logs_of_one_name_are_told_apart_by_their_folders(make_session: Session, write: Write) -> None:
    for folder in ("exp1", "exp2", "exp10"):
        path = write(f"{folder}/logs/train.log", make_session(0, 40))
    write("other/net.log", make_session(0, 40))
    names = [run.name for run in read_runs([path.parents[2]])]
    assert names == ["exp1/logs/train", "exp2/logs/train", "exp10/logs/train", "net"]


def test_a_run_that_is_named_keeps_its_name(make_session: Session, write: Write, tmp_path: Path) -> None:
    write("a.log", make_session(0, 40))
    nights = [write("nights/1.txt", make_session(0, 340)), write("nights/2.txt", make_session(300, 400, resume=True))]
    runs = read_runs([nights[0].parents[1] / "a.log"], named={"a": nights})
    assert [(run.name, len(run.sessions)) for run in runs] == [("a", 2), ("a~2", 1)]


def test_one_path_is_taken_as_it_is(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 40))
    assert [run.name for one in (path, str(path), [path]) for run in read_runs(one)] == ["net"] * 3


def test_files_with_commas_in_their_names_are_joined(make_session: Session, write: Write, tmp_path: Path) -> None:
    first = write("lr=0.01,wd=5e-4.night1.log", make_session(0, 340))
    later = make_session(300, 400, pid=7, at=datetime(2016, 4, 7), resume=True)
    paths = [first, write("lr=0.01,wd=5e-4.night2.log", later)]
    said = in_process.run("merge-logs", *paths, "--out", tmp_path / "out").stderr
    command = shlex.split(said[said.index("--run") : said.index(" makes one run")])
    done = in_process.run("merge-logs", *command, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader((tmp_path / "out/summary.csv").open())
    assert (row["sessions"], row["iteration"]) == ("2", "400")
