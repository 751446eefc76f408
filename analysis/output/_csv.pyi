from typing import Any

def print_rows(
    places: dict[tuple[int, int, int], int],
    heads: list[bytes],
    names: list[bytes],
    kinds: Any,
    metrics: Any,
    nets: Any,
    iterations: Any,
    epochs: Any,
    seconds: Any,
    session: int,
    rates: Any,
    values: Any,
) -> bytearray: ...
