"""Maps the rooms of this repository into the one package ``caffebench``, whose own file is ``package/__init__.py``.

Everything else about the package is declared in ``pyproject.toml``. The mapping
lives here because it is computed: a sub-package added to a room needs no edit.

With ``CAFFEBENCH_ABI3`` set (``make wheel``) the compiled loops keep to CPython's stable interface, and one wheel does
for every Python from 3.10 on; without it they are compiled for the Python at hand.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

ROOMS = ("common", "engine", "datasets", "generator", "templates", "launcher", "analysis")
DATA = [
    "py.typed",
    "*.j2",
    "*/*.j2",
    "*.yaml",
    "sweeps/*.yaml",
    "profiles/*.yaml",
    "include/*",
    "include/*/*",
    "include/*/*/*/*",
    "page/*",
    "*.binpb",
    "*.cpp",
    "*.hpp",
]

folders = {"caffebench": "package"} | {f"caffebench.{room}": room for room in ROOMS}
for room in ROOMS:
    for inner in find_packages(room):
        folders[f"caffebench.{room}.{inner}"] = f"{room}/{inner.replace('.', '/')}"

# The inner loops of reading and writing curves: analysis/read/_rows.pyx is caffebench.analysis.read._rows.
stable = bool(os.environ.get("CAFFEBENCH_ABI3"))
options = {
    "py_limited_api": stable,
    "define_macros": [("Py_LIMITED_API", "0x030A0000")] if stable else [],
    "extra_compile_args": ["-include", os.path.abspath("scripts/limited_api.h")] if stable else [],
}
compiled = [
    Extension(".".join(("caffebench", *source.with_suffix("").parts)), [str(source)], **options)
    for source in sorted(Path("analysis").rglob("*.pyx"))
]

setup(
    packages=list(folders),
    package_dir=folders,
    package_data={"": DATA},
    include_package_data=False,  # the list above is all
    ext_modules=cythonize(compiled),
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if stable else {},
)
