"""``gen-prototxt``: write the files of a sweep, and look at prototxt files: what is wrong, what differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffebench.common.cli import command

if TYPE_CHECKING:
    from caffebench.generator.schema import Profile, Settings, Sweep

__all__ = ["main"]

EXAMPLES = """
gen-prototxt --list                          the sweeps, how many variants each has, what it studies
gen-prototxt batch_size                      write its files to prototxt/
gen-prototxt batch_size --profile digits     the same study on the data set that is always at hand
gen-prototxt batch_size --only 'bs128*' --set momentum=0.95
gen-prototxt my_sweep.yaml                   a sweep of your own
gen-prototxt batch_size --base solver.prototxt   the study on your own solver and net
gen-prototxt --all --check                   are the files on disk what would be written?
gen-prototxt --lint old/*.prototxt           what is wrong with these, ours or not
gen-prototxt --compare a.prototxt b.prototxt what differs in meaning
"""


@command("gen-prototxt", examples=EXAMPLES)
@click.argument("sweep", nargs=-1)
@click.option("--list", "show_list", is_flag=True, help="List the sweeps and the profiles.")
@click.option("--all", "every", is_flag=True, help="All sweeps that come with caffebench.")
@click.option("--base", metavar="SOLVER", type=click.Path(path_type=Path), help="Apply the sweep to this solver's net.")
@click.option("--profile", metavar="NAME|FILE|FOLDER", help="The data set.  [default: imagenet128, or the base's own]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("prototxt"), show_default=True)
@click.option("--only", metavar="GLOB", help="Only the variants whose names match.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting that beats the sweep's.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the files on disk differ.")
@click.option("--lint", "lint_files", is_flag=True, help="Take the arguments for prototxt files; say what is wrong.")
@click.option("--compare", "compare_files", is_flag=True, help="Take them for two files; say what differs in meaning.")
def main(
    sweep: tuple[str, ...],
    show_list: bool,
    every: bool,
    base: Path | None,
    profile: str | None,
    out: Path,
    only: str | None,
    assignments: tuple[str, ...],
    check: bool,
    lint_files: bool,
    compare_files: bool,
) -> int:
    """Write one self-contained solver prototxt for each variant of each SWEEP, a name or a file of your own."""
    if lint_files or compare_files:
        return _look_at([Path(one) for one in sweep], lint_files, compare_files)
    from caffebench.generator import catalog
    from caffebench.generator.generate import generate

    data = catalog.load_profile(profile or "imagenet128")
    if show_list:
        from caffebench.generator.listing import listing

        click.echo(listing(data))
        return 0
    if bool(sweep) == every:
        raise click.UsageError("give the names of sweeps, or --all and no names (--list shows what there is)")
    sweeps = [catalog.load_sweep(name) for name in (catalog.sweep_names() if every else sweep)]
    settings = catalog.parse_settings(assignments)
    base = base or catalog.base_of(sweeps, sweep)
    if base is not None:
        return _on_base(sweeps, base, data if profile else None, out, only, settings, check)
    if every:
        for one in [one for one in sweeps if data.profile in one.refuse]:
            click.echo(f"{one.sweep}: not made for {data.profile}: {one.refuse[data.profile]}", err=True)
            sweeps.remove(one)
    texts = generate(sweeps, data, only=only, overrides=settings)
    return _hand_over(texts, out, check, every and only is None)


def _on_base(
    sweeps: list[Sweep],
    base: Path,
    data: Profile | None,
    out: Path,
    only: str | None,
    settings: Settings,
    check: bool,
) -> int:
    """Write what the user's net has a place for; name the rest. 1 where some, 2 where all had none."""
    from caffebench.generator.base import generate_on_base, load_base

    made = generate_on_base(sweeps, load_base(base), profile=data, only=only, overrides=settings)
    for name, why in made.refused.items():
        click.echo(f"gen-prototxt: {name}: {why}", err=True)
    if not made.texts:
        return 2
    return _hand_over(made.texts, out, check, False) or int(bool(made.refused))


def _hand_over(texts: dict[str, str], out: Path, check: bool, whole: bool) -> int:
    """Write the files, or say what differs on disk; ``whole``: no other generated file should be there."""
    from caffebench.generator.generate import outdated, write

    if check:
        wrong = outdated(texts, out, every=whole)
        for line in wrong:
            click.echo(line)
        if wrong:
            click.echo(f"{len(wrong)} of {len(texts)} files are not what would be written: run it without --check")
        else:
            click.echo(f"{len(texts)} files in {out} are what would be written")
        return int(bool(wrong))
    changed = write(texts, out)
    click.echo(f"{len(texts)} files in {out}, {changed} of them new or changed: {_some(list(texts))}")
    return 0


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])}, ..., {names[-1]}"


def _look_at(paths: list[Path], lint_files: bool, compare_files: bool) -> int:
    from caffebench.generator.meaning import load_prototxt

    if lint_files and compare_files:
        raise click.UsageError("--lint and --compare are two questions: ask one at a time")
    if compare_files and len(paths) != 2:
        raise click.UsageError(f"--compare needs two prototxt files, not {len(paths)}")
    if not paths:
        raise click.UsageError("--lint needs the names of prototxt files")
    files = [load_prototxt(path) for path in paths]
    if lint_files:
        from caffebench.generator.lint import lint

        findings = lint(files)
        for finding in findings:
            click.echo(finding)
        click.echo(f"{_count(findings, 'finding')} in {_count(files, 'file')}")
        return int(bool(findings))
    from caffebench.generator.compare import compare

    differences = compare(*files)
    for place, name, node in [unknown for file in files for unknown in file.unknown]:
        click.echo(f"note: {place}:{node.line}: BVLC Caffe knows no {name}, it is compared as written", err=True)
    for difference in differences:
        click.echo(difference)
    click.echo(_count(differences, "difference") if differences else "the same in meaning")
    return int(bool(differences))


def _count(things: Sequence[object], what: str) -> str:
    return f"{len(things)} {what}" + ("" if len(things) == 1 else "s")
