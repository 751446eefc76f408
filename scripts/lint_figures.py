"""How often lint is right: findings on layouts that are right and on files with one mistake each.

    python scripts/lint_figures.py [TREE]

TREE is a checkout of caffebench, this one unless told otherwise: its rooms are made the package ``caffebench`` of the
processes that lint. Good files: `tests/generator/layouts.py` and the prototxt files of Caffe's ``models`` folder in the
source package that install-caffe has downloaded. Mistakes: what each rule must find, ``generator/lint/examples.yaml``.
Prints lines of a Markdown table. Errors and warnings count, notes do not.
"""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import yaml

HERE = Path(__file__).parents[1]
FINDING = re.compile(r": (?:error|warning) ([a-z-]+):(.*)$", re.MULTILINE)
SOURCE = Path.home() / ".cache" / "caffebench" / "downloads"


def lint(tree: Path, folder: Path, names: list[str]) -> list[str]:
    """The errors and warnings that a tree's lint has on files of a folder, one text each."""
    package = folder / ".tree" / "caffebench"
    package.mkdir(parents=True, exist_ok=True)
    for room in ("common", "engine", "datasets", "generator", "templates", "launcher", "analysis"):
        if not (package / room).exists():
            (package / room).symlink_to(tree / room)
    start = (
        f"import sys; sys.path.insert(0, {str(package.parent)!r}); sys.argv[0] = 'gen-prototxt';"
        " from caffebench.generator.cli import main; main()"
    )
    command = [sys.executable, "-c", start, "--lint", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = [" ".join(match) for match in FINDING.findall(done.stdout)]
    return found + ([done.stderr.strip()] if done.returncode not in (0, 1) and not done.stdout else [])


def good(tree: Path, folder: Path) -> tuple[int, int, int]:
    """Files that are right, how many of them have a finding, and how many findings."""
    for name, write in runpy.run_path(str(HERE / "tests/generator/layouts.py"))["LAYOUTS"].items():
        (folder / f"{name}.prototxt").write_text(write())
    names = [path.name for path in sorted(folder.glob("*.prototxt"))]
    archives = sorted(SOURCE.glob("*.tar.gz"))
    for archive in archives[:1]:
        with tarfile.open(archive) as files:
            for member in files:
                inner = Path(*Path(member.name).parts[1:])
                content = files.extractfile(member) if member.isfile() and inner.suffix == ".prototxt" else None
                if content is not None and inner.parts[0] == "models":
                    (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                    (folder / inner).write_bytes(content.read())
                    names.append(str(inner))
    found = [lint(tree, folder, [name]) for name in names]
    return len(names), sum(map(bool, found)), sum(map(len, found))


def mistakes(tree: Path, folder: Path) -> tuple[int, int]:
    """Files with one mistake, and how many of them have a finding that the file without it has not."""
    examples = yaml.safe_load((HERE / "generator/lint/examples.yaml").read_text())
    severities = dict(re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", (HERE / "docs/lint.md").read_text(), re.MULTILINE))
    files = found = 0
    for rule, example in examples["rules"].items():
        if severities[rule] == "note":
            continue
        name, also = example.get("name", "a.prototxt"), example.get("also", {})
        (folder / name).write_text(examples["base"])
        for other, changes in also.items():
            (folder / other).write_text(changed(examples["base"], changes))
        before = lint(tree, folder, [name, *also]) if also else lint(tree, folder, [name])
        (folder / name).write_text(changed(examples["base"], example["fires"]))
        after = lint(tree, folder, [name, *also])
        files, found = files + 1, found + bool(set(after) - set(before))
    return files, found


def changed(base: str, changes: list[list[str | int]]) -> str:
    """The base with each ``[old, new]`` put in, as often as a third value says."""
    for old, new, *times in changes:
        base = base.replace(str(old), str(new), int(times[0]) if times else -1)
    return base


def main() -> None:
    """Print one line of the table for the good files and one for the mistakes."""
    tree = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "good").mkdir()
        (folder / "wrong").mkdir()
        tool = Path(sys.executable).parent / "make-lmdb"
        subprocess.run([str(tool), "digits", str(folder / "wrong/data/digits")], check=True, capture_output=True)
        files, wrong, findings = good(tree, folder / "good")
        print(f"| good layouts | {files} | | {findings} in {wrong} files | |")
        files, found = mistakes(tree, folder / "wrong")
        print(f"| one mistake each | {files} | {found} | | {files - found} |")


if __name__ == "__main__":
    main()
