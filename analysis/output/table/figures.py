"""Figures as people read them, on the terminal, in tables and reports."""

from __future__ import annotations

import math

__all__ = ["clock", "rounded_accuracy", "rounded_loss", "truncated"]


def clock(seconds: float | None) -> str:
    """``12:32:51`` for so many seconds, hours first; ``-`` for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def truncated(value: float | None, digits: int) -> str:
    """``value`` with ``digits`` decimals, cut and not rounded; ``-`` for None, ``n/c`` for what is no number."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "n/c"
    from decimal import Decimal  # 2 ms that a call without a table does not pay

    # Twelve digits are more than a log has: 0.47 shall be 0.470 although the float nearest to it is below.
    whole, _, rest = f"{Decimal(f'{value:.12g}'):f}".partition(".")
    return f"{whole}.{rest[:digits]:0<{digits}}" if digits else whole


def rounded_accuracy(value: float | None) -> str:
    """Three decimals; ``-`` for None, ``n/c`` for what is no number."""
    return _figure(value, ".3f")


def rounded_loss(value: float | None) -> str:
    """Three significant digits, in plain figures where those are not too long; else as ``rounded_accuracy``."""
    plain = value is None or 1e-4 <= abs(value) < 1e6 or value == 0
    if plain and value is not None and abs(float(f"{value:.3g}")) >= 100:
        return _figure(value, ".0f")
    return _figure(value, "#.3g") if plain else _figure(value, ".2e")


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form) if math.isfinite(value) else "n/c"
