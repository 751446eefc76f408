"""What is wrong with a prototxt: small rules in one registry, for files of ours and of anybody's."""

from caffebench.generator.lint import batchnorm_rules, data_rules, name_rules, net_rules, solver_rules
from caffebench.generator.lint.registry import RULES, Finding, Rule, lint

__all__ = ["RULES", "Finding", "Rule", "lint"]

_REGISTERING = (solver_rules, data_rules, batchnorm_rules, net_rules, name_rules)
