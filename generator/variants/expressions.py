"""Arithmetic in sweeps: ``profile.max_iter * profile.batch_size / batch_size``, evaluated without ``eval``.

Numbers are exact fractions until they are shown, so that ``0.01 / 8`` is 0.00125 on every machine.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any

from caffebench.common.errors import InputError

__all__ = ["evaluate", "fill", "show"]

_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_MAX_BITS = 4096
"""Of a numerator or denominator: values that multiply each other must not grow without end."""
_ROUNDING = Context(prec=5, rounding=ROUND_HALF_UP)


def kilo(number: Fraction) -> str:
    """Iterations as tables write them: 80000 is 80K, 1437 stays 1437."""
    return f"{show(number / 1000)}K" if number >= 1000 and number % 1000 == 0 else show(number)


_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "round": round, "kilo": kilo}


def evaluate(expression: str, names: Mapping[str, Any]) -> Any:
    """The value of ``expression``, in which ``names`` are known; a number is a ``Fraction``.

    Numbers, names, dotted names into mappings, ``+ - * / //``, parentheses and ``min max round kilo``; nothing else.
    Raises ``InputError`` that says what is not allowed or not known.
    """
    if len(expression) > 200:
        raise InputError(f"the expression '{expression[:40]}...' is longer than 200 characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _value(tree.body, names)
    except ZeroDivisionError as error:  # a fraction's own words would be "Fraction(1, 0)"
        raise InputError(f"cannot evaluate '{expression}': it divides by 0") from error
    except (SyntaxError, ArithmeticError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"cannot evaluate '{expression}': {error.args[0] if error.args else error}") from error


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    value = _bare_value(node, names)
    # A float is taken for what its text says: 0.1 is one tenth, not the binary fraction nearest to it.
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = Fraction(value) if isinstance(value, int) else Fraction(str(value))
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise InputError(f"'{ast.unparse(node)[:60]}' is a number of more than {_MAX_BITS} bits")
    return value


def _bare_value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, names), _value(right, names))
        case ast.Name(id=name):
            return _look_up(name, names)
        case ast.Attribute(value=inner, attr=name):
            return _look_up(name, _value(inner, names))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
    allowed = f"numbers, names, + - * / // and {', '.join(_FUNCTIONS)}"
    raise InputError(f"'{ast.unparse(node)}' is not allowed in an expression: only {allowed} are")


def _look_up(name: str, names: Any) -> Any:
    if not isinstance(names, Mapping):
        raise InputError(f"'{name}' is asked of something that is no group of values")
    if name not in names:
        near = difflib.get_close_matches(name, list(names), 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(names))}"
        raise InputError(f"'{name}' is not known here: {hint}")
    return names[name]


def fill(template: str, names: Mapping[str, Any]) -> str:
    """``bs{batch_size}`` with every ``{expression}`` replaced by its value. Raises ``InputError``."""
    return re.sub(r"\{([^{}]*)\}", lambda found: show(evaluate(found[1], names)), template)


def show(value: Any) -> str:
    """A value as it stands in a file or a name: whole numbers plainly, others to five significant digits.

    Five are what the published tables give (3.9063e-05 is 0.01 / 256), rounded half up.
    """
    if isinstance(value, list):
        return "-".join(map(show, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, int | float | Fraction):
        return str(value)
    exact = Fraction(value) if isinstance(value, int | Fraction) else Fraction(str(value))
    if exact.denominator == 1:
        return str(exact.numerator)
    rounded = _ROUNDING.divide(Decimal(exact.numerator), Decimal(exact.denominator))
    return f"{float(rounded):.5g}"
