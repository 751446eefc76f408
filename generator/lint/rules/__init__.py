"""The rules, one module a subject. Importing this package enters them in the registry."""

from caffebench.generator.lint.rules import (
    batchnorm,
    build,
    code,
    data,
    layer,
    learning,
    name,
    net,
    solver,
    startup,
    testing,
)

__all__ = ["batchnorm", "build", "code", "data", "layer", "learning", "name", "net", "solver", "startup", "testing"]
