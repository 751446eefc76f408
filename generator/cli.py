"""``gen-prototxt``: write the files of a sweep, and examine prototxt files: what is wrong, what differs."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffebench.common.cli import command
from caffebench.common.errors import InputError
from caffebench.common.messages import announce, detail
from caffebench.common.terminal import wrapped

if TYPE_CHECKING:
    from caffebench.generator.variants.schema import Profile, Sweep
    from caffebench.generator.variants.settings import Settings

__all__ = ["main"]

EXAMPLES = """
gen-prototxt --list                          the bundled sweeps and what each studies
gen-prototxt --list batch_size               its variants: epochs, images per second here, hours, memory, disk
gen-prototxt batch_size                      write its files to prototxt/
gen-prototxt batch_size --profile digits     the same sweep on scikit-learn's digits
gen-prototxt batch_size --only 'bs128*' --set momentum=0.95
gen-prototxt my_sweep.yaml                   a sweep of your own
gen-prototxt batch_size --base solver.prototxt   the same sweep on your own solver and net
gen-prototxt --all --check                   are the files on disk up to date?
gen-prototxt batch_size --split              solver and net as two files
gen-prototxt --deploy prototxt/bs128.prototxt    the net for inference
gen-prototxt --summary my_solver.prototxt    layers, shapes, parameters, multiply-adds, memory
gen-prototxt --lint old/*.prototxt           errors and warnings, for any prototxt file
gen-prototxt --compare a.prototxt b.prototxt what differs in meaning
gen-prototxt --compare train_val.prototxt deploy.prototxt --as deploy   is it the net that was trained?
"""


@command("gen-prototxt", examples=EXAMPLES)
@click.argument("sweep", nargs=-1)
@click.option(
    "--list", "show_list", is_flag=True, help="List the sweeps; with SWEEP, its variants and what training them takes."
)
@click.option("--all", "every", is_flag=True, help="Use all bundled sweeps.")
@click.option(
    "--base", metavar="SOLVER", type=click.Path(path_type=Path), help="Apply the sweep to this solver and its net."
)
@click.option("--profile", metavar="NAME|FILE|FOLDER", help="Data set.  [default: imagenet128, or that of --base]")
@click.option(
    "--templates",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Folder of your own Jinja templates.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("prototxt"),
    show_default=True,
    help="Output folder.",
)
@click.option("--only", metavar="GLOB", help="Only variants whose name matches.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting of the sweep.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the files on disk differ.")
@click.option(
    "--split", "apart", is_flag=True, help="Write solver and net as two files, NAME.prototxt and NAME.net.prototxt."
)
@click.option(
    "--deploy",
    "deploy_files",
    is_flag=True,
    help="The arguments are prototxt files: write their nets for inference.",
)
@click.option(
    "--summary",
    "sum_up",
    is_flag=True,
    help="The arguments are prototxt files: show layers, shapes, parameters, memory.",
)
@click.option(
    "--lint", "lint_files", is_flag=True, help="The arguments are prototxt files: report errors and warnings."
)
@click.option(
    "--compare",
    "compare_files",
    is_flag=True,
    help="The arguments are two prototxt files: show what differs in meaning.",
)
@click.option(
    "--as",
    "as_what",
    type=click.Choice(["deploy"]),
    help="With --compare: compare only what both compute for an image.",
)
def main(
    sweep: tuple[str, ...],
    show_list: bool,
    every: bool,
    base: Path | None,
    profile: str | None,
    templates: Path | None,
    out: Path,
    only: str | None,
    assignments: tuple[str, ...],
    check: bool,
    apart: bool,
    deploy_files: bool,
    sum_up: bool,
    lint_files: bool,
    compare_files: bool,
    as_what: str | None,
) -> int:
    """Write one self-contained solver prototxt per variant of each SWEEP: a bundled name, or a YAML file of yours."""
    questions = {"--deploy": deploy_files, "--summary": sum_up, "--lint": lint_files, "--compare": compare_files}
    _see_one_question([name for name, asked in questions.items() if asked], check, show_list, as_what)
    if deploy_files or sum_up:
        return _each([Path(one) for one in sweep], out if deploy_files else None)
    if lint_files or compare_files:
        return _examine([Path(one) for one in sweep], lint_files, as_what)
    from caffebench.generator.generate import generate
    from caffebench.generator.variants import catalog

    data = catalog.load_profile(profile or "imagenet128")
    if show_list and not sweep:
        from caffebench.generator.variants.listing import listing

        click.echo(listing(data))
        return 0
    if bool(sweep) == every:
        raise click.UsageError("give the names of sweeps, or --all and no names (--list shows what there is)")
    sweeps = [catalog.load_sweep(name) for name in (catalog.sweep_names() if every else sweep)]
    settings = catalog.parse_settings(assignments)
    base = base or catalog.base_of(sweeps, sweep)
    if base is not None:
        return _on_base(sweeps, base, data if profile else None, out, only, settings, check, apart, show_list)
    if every:
        for one in [one for one in sweeps if data.profile in one.refuse]:
            announce(f"{one.sweep}: not made for {data.profile}: {one.refuse[data.profile]}")
            sweeps.remove(one)
    texts = generate(sweeps, data, only=only, overrides=settings, templates=templates)
    if show_list:
        return _list_variants(texts)
    return _hand_over(texts, out, check, apart, every and only is None)


def _see_one_question(asked: list[str], check: bool, show_list: bool, as_what: str | None) -> None:
    """Raise a usage error where an option would be passed over, as a lint that finds nothing would look."""
    if len(asked) > 1:
        raise click.UsageError(f"{asked[0]} and {asked[1]} are two questions: ask one at a time")
    if asked and (check or show_list):
        raise click.UsageError(f"{'--check' if check else '--list'} is of sweeps, and {asked[0]} of prototxt files")
    if as_what and asked != ["--compare"]:
        raise click.UsageError(f"--as {as_what} says how to compare: give --compare and two prototxt files")


def _on_base(
    sweeps: list[Sweep],
    base: Path,
    data: Profile | None,
    out: Path,
    only: str | None,
    settings: Settings,
    check: bool,
    apart: bool,
    show_list: bool,
) -> int:
    """Write what the user's net has a place for; name the rest. 1 where some, 2 where all had none."""
    from caffebench.generator.base import generate_on_base, load_base

    made = generate_on_base(sweeps, load_base(base), profile=data, only=only, overrides=settings)
    for name, why in made.refused.items():
        click.echo(f"gen-prototxt: {name}: {why}", err=True)
    if not made.texts:
        return 2
    if show_list:
        return _list_variants(made.texts)
    return _hand_over(made.texts, out, check, apart, False) or int(bool(made.refused))


def _list_variants(texts: dict[str, str]) -> int:
    from caffebench.generator.estimates import estimates, estimates_table

    click.echo(estimates_table(estimates(texts)))
    return 0


def _hand_over(texts: dict[str, str], out: Path, check: bool, apart: bool, whole: bool) -> int:
    """Write the files, or say what differs on disk; ``whole``: no other generated file should be there."""
    from caffebench.generator.generate import outdated, write
    from caffebench.generator.split import split

    names = list(texts)
    texts = split(texts, out) if apart else texts
    if check:
        wrong = outdated(texts, out, every=whole)
        for line in wrong:
            click.echo(line)
        if wrong:
            click.echo(f"{len(wrong)} of {_count(texts, 'file')} are not what would be written: run it without --check")
        else:
            click.echo(f"{_count(texts, 'file')} in {out} {_are(texts)} what would be written")
        return int(bool(wrong))
    for line in outdated(texts, out, every=False):
        detail(f"{line}: written")
    changed = write(texts, out)
    click.echo(wrapped(f"{_count(texts, 'file')} in {out}, {changed} of them new or changed: {_some(names)}"))
    return 0


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])}, ..., {names[-1]}"


def _each(paths: list[Path], out: Path | None) -> int:
    """Write the net for inference of each file to ``out``, or print its summary; a bad file does not end the others."""
    from caffebench.common.files import write_whole
    from caffebench.generator.meaning import load_prototxt
    from caffebench.generator.nets.deploy import deploy
    from caffebench.generator.nets.summary import summary

    if not paths:
        raise click.UsageError("give the names of prototxt files, with --deploy or with --summary")
    failed = 0
    for path in paths:
        try:
            file = load_prototxt(path)
            if out is None:
                click.echo(f"{path}\n{summary(file)}" if len(paths) > 1 else summary(file))
            else:
                target = out / f"{path.stem}.deploy.prototxt"
                write_whole(target, deploy(file))
                click.echo(target)
        except InputError as error:
            failed += 1
            click.echo(f"gen-prototxt: {error}", err=True)
    return 0 if not failed else 2 if failed == len(paths) else 1


def _examine(paths: list[Path], lint_files: bool, as_what: str | None) -> int:
    from caffebench.generator.meaning import load_prototxt

    if not lint_files and len(paths) != 2:
        raise click.UsageError(f"--compare needs two prototxt files, not {len(paths)}")
    if not paths:
        raise click.UsageError("--lint needs the names of prototxt files")
    if lint_files:
        from caffebench.generator.lint.command import lint_paths

        return lint_paths(paths)
    files = [load_prototxt(path) for path in paths]
    from caffebench.generator.compare import compare, compare_as_deploy

    differences = compare_as_deploy(*files) if as_what == "deploy" else compare(*files)
    for place, name, node in [unknown for file in files for unknown in file.unknown]:
        announce(f"note: {place}:{node.line}: BVLC Caffe knows no {name}, it is compared as written")
    for difference in differences:
        click.echo(wrapped(str(difference)))
    click.echo(_count(differences, "difference") if differences else "the same in meaning")
    return int(bool(differences))


def _are(things: Sized) -> str:
    return "is" if len(things) == 1 else "are"


def _count(things: Sized, what: str) -> str:
    return f"{len(things)} {what}" + ("" if len(things) == 1 else "s")
