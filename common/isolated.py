"""Child processes of ours that import from where Python packages are installed, and never from the current folder.

``python -m`` looks for modules in the current folder first: a ``random.py`` or ``json.py`` of the user's would be run
in the place of Python's own. This file, run as a script by ``python -I``, runs a module without that. ``-I`` also
leaves out ``PYTHONPATH`` and the user's site-packages, which are put back here.
"""

from __future__ import annotations

import os
import sys

__all__ = ["module_command", "python_path"]

_USER_SITE = "--user-site"


def module_command(module: str = "", *arguments: str) -> list[str]:
    """The command line that runs ``module`` as ``python -m`` does; without one, what stands before ``-m``."""
    import site

    user = [_USER_SITE] if site.getusersitepackages() in sys.path else []
    return [sys.executable, "-I", __file__, *user, *(["-m", module, *arguments] if module else [])]


def python_path() -> list[str]:
    """The folders that ``PYTHONPATH`` names. Not the current one for an entry that was left empty, as by ``:/opt``."""
    return [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _main() -> None:
    """Run ``[--user-site] [-u] -m MODULE ARGUMENT...``, which stand in ``sys.argv``."""
    import runpy
    import site

    arguments = sys.argv[1:]
    if arguments[0] == _USER_SITE:
        site.addsitedir(site.getusersitepackages())
        del arguments[0]
    if path := python_path():
        sys.path[:0] = path
        # The module sitecustomize may be in one of them; Debian's Python has one of its own, which has run by now.
        sys.modules.pop("sitecustomize", None)
        site.execsitecustomize()
    module = arguments.index("-m") + 1
    sys.argv[1:] = arguments[module + 1 :]  # run_module puts the module's file before them
    runpy.run_module(arguments[module], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
