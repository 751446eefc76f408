"""What is wrong with a prototxt: small rules in one registry, for files of ours and of anybody's."""

from caffebench.generator.lint import asking, rules
from caffebench.generator.lint.registry import RULES, Finding, Rule, lint

__all__ = ["RULES", "Finding", "Rule", "asking", "lint", "rules"]
