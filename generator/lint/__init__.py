"""What is wrong with a prototxt: small rules in one registry, for files of ours and of anybody's."""

from caffebench.generator.lint import (
    asking,
    batchnorm_rules,
    build_rules,
    code_rules,
    data_rules,
    layer_rules,
    learning_rules,
    name_rules,
    net_rules,
    solver_rules,
    startup_rules,
)
from caffebench.generator.lint.registry import RULES, Finding, Rule, lint

__all__ = ["RULES", "Finding", "Rule", "lint"]

_REGISTERING = (
    asking,
    startup_rules,
    layer_rules,
    net_rules,
    data_rules,
    build_rules,
    learning_rules,
    solver_rules,
    batchnorm_rules,
    name_rules,
    code_rules,
)
