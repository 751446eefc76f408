from typing import Any

def settle(
    base: int,
    index_of: Any,
    starts: Any,
    kinds: Any,
    times: Any,
    iterations: Any,
    values: Any,
    pids: Any,
    metrics: Any,
    nets: Any,
    rates: Any,
) -> tuple[int, int]: ...
def unique(iterations: Any, kinds: Any, metrics: Any, nets: Any) -> bool: ...
def pairs(kinds: Any, metrics: Any, nets: Any) -> list[tuple[int, int, int]]: ...
