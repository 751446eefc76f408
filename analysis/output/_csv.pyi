from typing import Any

def room_for(rows: int, heads: list[bytes], names: list[bytes]) -> int: ...
def print_rows(
    buffer: bytearray,
    at: int,
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
) -> int: ...
