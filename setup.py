"""Maps the rooms of this repository into the one namespace ``caffebench.*``.

Everything else about the package is declared in ``pyproject.toml``. The mapping
lives here because it is computed: a sub-package added to a room needs no edit.
"""

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
    "page/*",
    "*.cpp",
    "*.hpp",
]

folders = {f"caffebench.{room}": room for room in ROOMS}
for room in ROOMS:
    for inner in find_packages(room):
        folders[f"caffebench.{room}.{inner}"] = f"{room}/{inner.replace('.', '/')}"

# The inner loops of reading and writing curves: analysis/read/_rows.pyx is caffebench.analysis.read._rows.
sources = sorted(Path("analysis").rglob("*.pyx"))
compiled = [Extension(".".join(("caffebench", *one.with_suffix("").parts)), [str(one)]) for one in sources]

setup(
    packages=list(folders),
    package_dir=folders,
    package_data={"": DATA},
    include_package_data=False,  # the list above is all
    ext_modules=cythonize(compiled),
)
