"""What ``gen-prototxt --list`` prints."""

from __future__ import annotations

from caffebench.common.terminal import wrapped
from caffebench.generator.variants.catalog import load_profile, load_sweep, profile_names, sweep_names
from caffebench.generator.variants.resolve import resolve
from caffebench.generator.variants.schema import Profile

__all__ = ["listing"]


def listing(profile: Profile) -> str:
    """Every sweep with its number of variants on ``profile``, what it studies and its source; then the profiles."""
    lines = []
    for name in sweep_names():
        sweep = load_sweep(name)
        refused = profile.profile in sweep.refuse
        count = f"not on {profile.profile}" if refused else f"{len(resolve(sweep, profile))} variants"
        lines.append(f"{name}: {sweep.title} ({count})")
        lines.append(wrapped(f"    {sweep.studies}", indent=""))
        lines.append(wrapped(f"    source: {sweep.source}", indent=""))
    lines.append(f"\nProfiles (--profile; shown for {profile.profile}):")
    lines += [wrapped(f"    {name}: {load_profile(name).title}") for name in profile_names()]
    return "\n".join(lines)
