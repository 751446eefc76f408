"""The libraries that come into a wheel from the system: where they are from, and under which licenses."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["needed_libraries", "write_licenses"]


def needed_libraries(files: Sequence[Path]) -> list[Path]:
    """The shared libraries, libpython apart, that the loader takes from the system for ``files``."""
    found: set[Path] = set()
    for file in files:
        told = subprocess.run(["ldd", str(file)], capture_output=True, text=True).stdout
        found.update(Path(path).parent.resolve() / Path(path).name for path in re.findall(r"=> (/\S+) \(", told))
    beside = {file.parent.resolve() for file in files}
    return sorted(path for path in found if path.parent not in beside and not path.name.startswith("libpython"))


def write_licenses(folder: Path, files: Sequence[Path]) -> None:
    """What Debian says of the copyright of every library that ``files`` need, into ``folder``: a file a package.

    ``LIBRARIES.txt`` lists all of them, each with its package and version. On a system without dpkg it is all there is.
    """
    folder.mkdir(parents=True)
    lines = [
        "What this Caffe needs, and where it was taken from; what every Linux has (manylinux) is not in the wheel."
    ]
    for library in needed_libraries(files):
        package = _package(library)
        lines.append(f"{library.name}: {package or 'not from a package of the system'}")
        said = Path("/usr/share/doc") / (package or "-").partition(" ")[0] / "copyright"
        if said.is_file():
            shutil.copyfile(said, folder / f"{said.parent.name}.txt")
    (folder / "LIBRARIES.txt").write_text("\n".join(lines) + "\n")


def _package(library: Path) -> str | None:
    """``library``'s package and version."""
    if shutil.which("dpkg-query") is None:
        return None
    for path in _names(library):
        owner = subprocess.run(["dpkg-query", "-S", path], capture_output=True, text=True).stdout
        if owner:
            name = owner.split(": ")[0].split(", ")[0]
            shown = ["dpkg-query", "-W", "-f=${Package} ${Version}", name]
            return subprocess.run(shown, capture_output=True, text=True).stdout
    return None


def _names(library: Path) -> Iterable[str]:
    """Under which dpkg may know it: links followed, and with and without the /usr that /lib has become a link to."""
    for path in (library.resolve(), library):
        yield str(path)
        yield str(path).removeprefix("/usr") if str(path).startswith("/usr/") else f"/usr{path}"
