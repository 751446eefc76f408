"""A sweep on a user's own solver and net: what it varies is changed in the parsed net, the rest stays as it was."""

from caffebench.generator.base.apply import generate_on_base
from caffebench.generator.base.userfile import Base, load_base

__all__ = ["Base", "generate_on_base", "load_base"]
