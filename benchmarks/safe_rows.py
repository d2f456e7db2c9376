"""Whether rows marked safe are: fits of real sets against long NUTS, `python -m benchmarks.safe_rows FOLDER [SET ...]`.

FOLDER holds the real sets (csv). Each set is fitted by laplace, whether or not it holds the posterior, and by auto, and
every row of `summary()` and `parameters()` is compared with that of long chains: Pyro's NUTS, one chain after the
other, or with `--lockstep` our own 64 chains, which are cheaper by far and four times as long as those of auto. Printed
are, for each fit and all together, how many rows marked safe have a mean within .1 posterior standard deviations of the
chains' (and both interval ends within .2), and how many of the rows that are within .1 are marked. With `--keep FOLDER`
the chains' rows are saved there and not run again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd

WITHIN, ENDS_WITHIN = 0.1, 0.2
SEED = 11
PYRO = {"method": "nuts", "chains": 4, "warmup": 400, "draws": 1500, "seed": SEED}
LOCKSTEP = 12_800  # draws

# name -> file, program, how it is read, the first so many rows of it (None: all)
SETS: dict[str, tuple[str, str, dict[str, Any], int | None]] = {
    "pandalm": ("pandalm", "davidson+position_bias+reliability", {"ordered": True}, None),
    "sounds": ("sounds", "reliability", {}, None),
    "heaviness": ("heaviness", "bradley_terry+position_bias", {"ordered": True}, None),
    "llmfao": ("llmfao", "davidson+position_bias+reliability", {"ordered": True}, 1500),
    "citations": ("citations", "thurstone_case3", {}, None),
    "beaches": ("beaches", "reliability", {}, None),
    "first_names": ("first_names", "position_bias(by='annotator')", {"ordered": True}, 900),
    "physical_strength": ("physical_strength", "reliability", {}, 1500),
    "pudding": ("pudding", "davidson", {}, None),
    "baseball": ("baseball", "bradley_terry+position_bias", {"ordered": True}, None),
    "sound_quality": ("sound_quality", "crowd_bt", {}, 3000),
    "cems": ("cems", "davidson+ties", {}, 1500),
}  # fmt: skip


def rows(post: Any) -> pd.DataFrame:
    """Return what a posterior says of every item and parameter, by name: mean, sd, lower, upper, safe."""
    items, others = post.summary(), post.parameters()
    items.index = "utility " + items["item"]
    others.index = others["parameter"] + " " + others["index"].astype(str)
    columns = ["mean", "sd", "lower", "upper", "safe"]
    return pd.concat([items[columns], others[columns]])


def against(found: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return for each row whether it is marked safe, and whether mean and interval are near the known ones."""
    known = known.loc[found.index]
    off = found[["mean", "lower", "upper"]].sub(known[["mean", "lower", "upper"]]).abs().div(known["sd"], axis=0)
    ends = off[["lower", "upper"]].max(axis=1)
    return pd.DataFrame({"safe": found["safe"], "near": off["mean"] <= WITHIN, "ends": ends <= ENDS_WITHIN})


def counted(table: pd.DataFrame) -> str:
    """Return the shares in words."""
    safe, near = table["safe"], table["near"]
    right = f"{(safe & near).sum()} of {safe.sum()} safe rows near"
    ends = f"{(safe & table['ends']).sum()} with both ends"
    return f"{len(table)} rows: {right}, {ends}; {(safe & near).sum()} of {near.sum()} near rows safe"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="*", help=f"default all: {', '.join(SETS)}")
    parser.add_argument("--keep", type=Path, help="folder for the chains")
    parser.add_argument("--lockstep", action="store_true", help="our own chains in the place of Pyro's")
    parser.add_argument("--methods", nargs="+", default=["laplace", "auto"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    said = parser.parse_args()
    unknown = [name for name in said.sets if name not in SETS]
    if unknown:
        parser.error(f"no set {unknown[0]!r}; there are {', '.join(SETS)}")
    everything: dict[str, list[pd.DataFrame]] = {method: [] for method in said.methods}
    for name in said.sets or SETS:
        print(f"{name}, {SETS[name][1]}:", flush=True)
        known = _known(said.folder, name, said.keep, said.lockstep)
        for method in said.methods:
            for seed in said.seeds:
                everything[method].append(_one(said.folder, name, method, seed, known))
    for method, tables in everything.items():
        print(f"{method}, all: {counted(pd.concat(tables))}")


def _one(folder: Path, name: str, method: str, seed: int, known: pd.DataFrame) -> pd.DataFrame:
    started = time.process_time()
    post = _fit(folder, name, method=method, seed=seed)
    seconds = time.process_time() - started
    table, s = against(rows(post), known), post.status
    k_hat = "" if s.k_hat is None else f", k-hat {s.k_hat:.2f}, power {s.tempering:.2f}"
    print(f"  {method} {seed} ({s.method}, {seconds:.1f} CPU s{k_hat}) {counted(table)}", flush=True)
    return table


def _fit(folder: Path, name: str, **how: Any) -> Any:
    import prefdensity as pf

    return pf.fit(SETS[name][1], _data(folder, name), **how)


def _data(folder: Path, name: str) -> Any:
    import prefdensity as pf

    file, _, how, few = SETS[name]
    return pf.read(pd.read_csv(folder / f"{file}.csv", dtype=str, keep_default_na=False).head(few or 10**9), **how)


def _known(folder: Path, name: str, keep: Path | None, lockstep: bool) -> pd.DataFrame:
    """Return rows by long chains, after saying how well these mixed."""
    path = None if keep is None else keep / f"{name}.csv"
    if path is not None and path.exists():
        return pd.read_csv(path, index_col=0)
    post = _chains(folder, name) if lockstep else _fit(folder, name, **PYRO)
    s = post.status
    print(f"  {s.message}: {s.steps} draws, R-hat {s.r_hat:.3f}, effective {s.effective:.0f}", flush=True)
    found = rows(post)
    if path is not None:
        found.to_csv(path)
    return found


def _chains(folder: Path, name: str) -> Any:
    """Return the posterior of long chains in lockstep."""
    from prefdensity.inference.engines import Settings, by_laplace
    from prefdensity.inference.fitting import _posterior, viewed
    from prefdensity.inference.methods import by_short_chains
    from prefdensity.posterior.status import FitStatus
    from prefdensity.programs.loading import load_program

    data = _data(folder, name)
    view = viewed(load_program(SETS[name][1]), data)
    settings = Settings(
        draws=LOCKSTEP, restarts=1, seed=SEED, guide=None, max_steps=0, chains=0, warmup=0, checkpoint=None, key={}
    )
    quiet = lambda *said: None  # noqa: E731
    answer = by_short_chains(by_laplace(view, settings, quiet), view, settings, quiet)
    return _posterior(view, data, answer, FitStatus(seed=SEED, seconds=0.0, log_likelihood=0.0, **answer.facts))


if __name__ == "__main__":
    main()
