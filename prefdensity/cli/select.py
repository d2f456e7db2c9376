"""The commands `select`, `battles`, `select-study`: which pairs to ask next, how often, and whether choosing pays."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity.cli.bundles import with_bundles
from prefdensity.cli.shell import leave, require_writable, results, whole
from prefdensity.cli.table import reads_a_table
from prefdensity.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

_SETS = ("all", "within", "across")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Which pairs there are to ask."""

    candidates: Annotated[
        str | None,
        typer.Option(
            help="all; within or across the groups of --prompt, or prompts of the votes; or a file with item_a, item_b "
            "(and cost). "
            "By default within groups or prompts, and all where there are none."
        ),
    ] = None
    items: Annotated[
        Path | None,
        typer.Option(help="Table of all items, judged or not: their labels, then features as in --item-features."),
    ] = None
    group: Annotated[str | None, typer.Option("--prompt", help="Column of --items with the prompt or group.")] = None
    cost: Annotated[str | None, typer.Option(help="Column of --items with what an item costs to read.")] = None
    exclude: Annotated[Path | None, typer.Option(help="File with pairs item_a, item_b never to be asked.")] = None

    @property
    def named(self) -> bool:
        """Whether the pairs are one of the sets that have a name, not those of a file."""
        return self.candidates is None or self.candidates in _SETS

    def read(self) -> "tuple[Any, pd.DataFrame | None]":
        """Return the pairs, or the name of their set, and the table of items."""
        from prefdensity.data.feature_files import label_table
        from prefdensity.data.files import read_rows

        table = None if self.items is None else label_table(self.items)
        return self.candidates if self.named else read_rows(Path(str(self.candidates))), table

    def limits(self, data: "Comparisons", table: "pd.DataFrame | None") -> dict[str, Any]:
        """Return what is said of the pairs, given the votes and the table of items."""
        from prefdensity.data.files import read_rows
        from prefdensity.selection.candidates import prompts_of

        by_prompt = self.group is None and self.named and self.candidates != "all"
        return {
            "group": prompts_of(data) if by_prompt else _column(table, self.group, "--prompt"),
            "cost": _numbers(table, self.cost, "--cost"),
            "exclude": None if self.exclude is None else read_rows(self.exclude),
        }


@dataclass(frozen=True, kw_only=True)
class Candidates(Pool):
    """Which pairs may be asked in a batch."""

    again: Annotated[bool, typer.Option("--again", help="Pairs that were judged may be asked again.")] = False
    quota: Annotated[int | None, typer.Option(help="Most pairs that one item may be in.", min=1)] = None
    at_most: Annotated[int | None, typer.Option(help="Look at so many candidates, drawn at random.", min=1)] = None

    def limits(self, data: "Comparisons", table: "pd.DataFrame | None") -> dict[str, Any]:
        """Return what `prefdensity.select` is told of the pairs, given the votes and the table of items."""
        return super().limits(data, table) | {"again": self.again, "quota": self.quota, "at_most": self.at_most}


@dataclass(frozen=True, kw_only=True)
class Believed:
    """The fit that says what is uncertain."""

    fit: Annotated[
        Path | None, typer.Option("--fit", help="Fit of these votes; without it --model is fitted.", metavar="FIT.nc")
    ] = None
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model to fit, or the .py file of --fit.")] = None

    def posterior(
        self, data: "Comparisons", listed: Any, table: "pd.DataFrame | None", seed: int, show: bool | None
    ) -> "tuple[Posterior, Comparisons]":
        """Return the saved fit, or a new one, and its votes; with the items that nobody has judged.

        Where features tell everything of items the fit is one to the votes alone, and then asked about the others.
        """
        from prefdensity.inference import fitting
        from prefdensity.posterior.posterior import load_posterior
        from prefdensity.programs.loading import load_program
        from prefdensity.selection.candidates import with_items
        from prefdensity.selection.pools import describes, with_described

        labels = set() if table is None else set(map(str, table.index))
        if not (listed is None or isinstance(listed, str)):
            labels |= {str(label) for side in ("item_a", "item_b") if side in listed for label in listed[side].dropna()}
        unknown = not labels <= set(data.items)
        if self.fit is not None:
            post = load_posterior(self.fit, self.model)
        elif self.model is None:
            raise DataError("give --fit FIT.nc, a fit of these votes, or --model, a model to fit to them")
        else:
            program = load_program(self.model)
            if unknown and (table is None or not describes(program, data)):
                data = with_items(data, labels, table)
            post = fitting.fit_wholly(program, data, seed=seed, progress=show)
        if table is not None and not set(labels) <= set(post.items) and describes(post.program, data):
            post = with_described(post, data, table, progress=show)
        return post, data


@reads_a_table
@with_bundles
def select(
    data: "Comparisons",
    pairs: Candidates,
    believed: Believed,
    n: Annotated[int, typer.Option("--n", "-n", help="Size of the batch.", min=1)] = 50,
    rule: Annotated[
        str,
        typer.Option(
            help="eig, greedy_d_optimal, batch_bald, bald, d_optimal, past_aware_d_optimal, xtx, coreset, entropy, "
            "max_difference or random."
        ),
    ] = "eig",
    judge: Annotated[
        list[str] | None, typer.Option("--judge", help="Somebody to share the batch by lot; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="csv to write; otherwise it is printed.", metavar="FILE.csv")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Page to write about the batch: which pairs and why.", metavar="FILE.html")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Choose the pairs to ask next, with the reason for each; FILE holds the votes so far."""
    from prefdensity.selection import select

    show = False if quiet else None
    listed, table = pairs.read()
    post, data = believed.posterior(data, listed, table, seed, show)
    judge = select.known_people(post, judge, "--judge") if judge else None
    batch = select.select(
        post, listed, n, rule, data=data, annotators=judge, seed=seed, progress=show, **pairs.limits(data, table)
    )
    _write(batch, out)
    if report is not None:
        from prefdensity.reporting.selection_report import write_batch_report

        typer.echo(f"wrote {write_batch_report(batch, report, Path(data.source).name)}", err=out is None)


@reads_a_table
@with_bundles
def battles(
    data: "Comparisons",
    pairs: Pool,
    believed: Believed,
    n: Annotated[float, typer.Option("--n", "-n", help="Battles to hold; with --cost, what to spend.", min=1)] = 1000,
    top: Annotated[
        int | None, typer.Option(help="Settle which items are so many best; otherwise the order of all.", min=1)
    ] = None,
    floor: Annotated[float, typer.Option(help="Share of the battles dealt to all pairs alike.", min=0, max=1)] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="csv to write; otherwise it is printed.", metavar="FILE.csv")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Say how often each pair should meet in the next battles of an arena; FILE holds the votes so far."""
    from prefdensity.selection.battles import battle_design, outlook

    show = False if quiet else None
    listed, table = pairs.read()
    post, data = believed.posterior(data, listed, table, seed, show)
    limits = pairs.limits(data, table)
    design = battle_design(post, n, top=top, candidates=listed, floor=floor, seed=seed, progress=show, **limits)
    if out is None:
        typer.echo(design.to_csv(index=False), nl=False)
    else:
        with whole(out) as path:
            design.to_csv(path, index=False)
    typer.echo(outlook(design), err=out is None)
    if out is not None:
        typer.echo(f"wrote {out}")
    for note in design.attrs["notes"]:
        typer.echo(f"warning: {note}", err=True)


def _column(table: "pd.DataFrame | None", name: str | None, flag: str) -> "dict[str, Any] | None":
    if name is None:
        return None
    if table is None:
        raise DataError(f"{flag} {name} names a column of --items, and there is no --items")
    if name not in table:
        raise DataError(f"--items has no column {name!r} ({flag}); its columns are {', '.join(map(str, table))}")
    return {str(label): value for label, value in table[name].items()}


def _numbers(table: "pd.DataFrame | None", name: str | None, flag: str) -> dict[str, float] | None:
    found = _column(table, name, flag)
    if found is None:
        return None
    try:
        return {label: float(value) for label, value in found.items()}
    except ValueError as error:
        raise DataError(f"{flag} {name} must hold numbers: {error}") from None


def _write(batch: "pd.DataFrame", out: Path | None) -> None:
    said = batch.attrs
    if out is None:
        typer.echo(batch.to_csv(index=False), nl=False)
    else:
        with whole(out) as path:
            batch.to_csv(path, index=False)
    beside = ", ".join(f"{name} {said[f'gain_{name}']:.3f}" for name in ("entropy", "random"))
    judged = f" ({said['judged']} pairs were judged and are left out; --again)" if said["judged"] else ""
    typer.echo(
        f"{said['rule']}: {len(batch)} of {said['candidates']} candidates{judged}, expected to tell "
        f"{said['gain']:.3f} nats; as many chosen by {beside}",
        err=out is None,
    )
    if out is not None:
        typer.echo(f"wrote {out}")
    for note in said["notes"]:
        typer.echo(f"warning: {note}", err=True)


def select_study(
    saved: Annotated[
        Path | None,
        typer.Argument(metavar="[FIT.nc]", help="A fit whose draws are the truths; without it a world of --world."),
    ] = None,
    world: Annotated[str, typer.Option(help="linear, three_well, prompts or items.")] = "linear",
    rules: Annotated[str, typer.Option(help="Rules, with commas; entropy and random are always there.")] = (
        "eig,greedy_d_optimal,d_optimal"
    ),
    budgets: Annotated[str, typer.Option(help="Labels after each round, with commas.")] = "50,100,150,200,300,400",
    seeds: Annotated[int, typer.Option(help="Number of simulations.", min=2)] = 20,
    candidates: Annotated[str, typer.Option(help="all; in the world of prompts also within, across.")] = "all",
    draws: Annotated[int | None, typer.Option(help="Posterior draws to use; default: Laplace.", min=8)] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder for curves.csv, table.csv, a picture and a report.")] = Path(
        "select-study"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Simulate rounds of choosing, answering and refitting, to see whether choosing pairs pays."""
    from prefdensity.posterior.posterior import load_posterior
    from prefdensity.reporting import selection_plots
    from prefdensity.reporting.selection_report import write_selection_study_report
    from prefdensity.selection import study

    try:
        steps = [int(text) for text in budgets.split(",")]
    except ValueError:
        raise DataError(f"--budgets {budgets} must be whole numbers with commas, like 50,100,200") from None
    require_writable(out)
    found = study.selection_study(
        world if saved is None else load_posterior(saved),
        [name.strip() for name in rules.split(",")],
        budgets=steps,
        seeds=seeds,
        candidates=candidates,
        draws=draws,
        seed=seed,
        progress=False if quiet else None,
    )
    typer.echo(str(found))
    with results(out) as folder:
        found.curves.to_csv(folder / "curves.csv", index=False)
        found.table.to_csv(folder / "table.csv", index=False)
        name = world if saved is None else saved.name
        write_selection_study_report(found, folder / "report.html", f"Which pairs to ask: {name}")
        selection_plots.learning_curves(found).savefig(folder / "learning_curves.svg")
    leave(found.notes)
