"""Random seeds that depend on where a run is, and on nothing else.

Caffe keeps no random state in a snapshot. A run whose generator is seeded anew from (seed, iteration) at known
iterations needs none: whoever arrives at that iteration, by training or by resuming, draws the same numbers.
"""

from __future__ import annotations

import hashlib
import secrets

__all__ = ["derive_seed", "new_seed"]


def new_seed() -> int:
    """A seed for a run whose file and user name none: 31 bits, so that ``random_seed`` prints short."""
    return secrets.randbits(31)


def derive_seed(seed: int, iteration: int, rank: int = 0) -> int:
    """The seed of Caffe's generator from ``iteration`` on: 32 bits, spread by BLAKE2 so that neighbours differ.

    Each ``rank`` of several processes that train one net draws numbers of its own.
    """
    digest = hashlib.blake2b(f"{seed}/{iteration}/{rank}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
