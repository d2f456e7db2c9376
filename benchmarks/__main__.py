"""All benchmarks: `python -m benchmarks` writes results.md and results.csv; `--only NAME` renews some of them.

    python -m benchmarks --make-environments FOLDER     # peers, each in an environment of its own
    python -m benchmarks --environments FOLDER          # everything, with those peers
    python -m benchmarks --only whole curves

Every measurement has a process of its own on one core. A peer that is missing, or does not end within `--limit` CPU
seconds and `--memory` GB, is listed with the reason. Ctrl-C keeps what was measured.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import curves, suite
from benchmarks.measuring import make_environments
from benchmarks.results import Results

RUNS: dict[str, Callable[[suite.Runner], str]] = {
    "bradley-terry": suite.bradley_terry,
    "annotators": suite.annotators,
    "chains": suite.chains,
    "svi": suite.svi,
    "curves": curves.curves,
    "whole": suite.whole,
    "larger-than-memory": suite.larger_than_memory,
    "many-fits": suite.many_fits,
    "pcal": suite.pcal,
    "selection": suite.selection,
    "reward": suite.reward,
    "gpu": suite.gpu,
}
METHODS = {"bradley-terry": list(suite.PLAIN), "annotators": list(suite.ANNOTATED), "whole": list(suite.JOBS)}


def size(text: str) -> str:
    """Return the size if it is one."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not ITEMSxROWS, like 1000x1000000")
    return text


def arguments() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=list(RUNS), default=None, metavar="NAME", help=", ".join(RUNS))
    add(
        "--environments",
        type=lambda text: Path(text).absolute(),
        metavar="FOLDER",
        help="where the peers' environments are",
    )
    add("--make-environments", type=Path, metavar="FOLDER", help="make them, and stop")
    add("--sizes", nargs="+", type=size, metavar="ITEMSxROWS", help="of bradley-terry; default four, to 10000x10000000")
    add("--methods", nargs="+", metavar="METHOD", help=f"renew these rows only, of {', '.join(METHODS)}")
    add("--limit", type=int, default=300, metavar="S", help="CPU seconds of one measurement (default 300)")
    add("--memory", type=float, default=16, metavar="GB", help="memory of one measurement (default 16)")
    add("--out", type=Path, default=Path(__file__).parent, metavar="FOLDER", help="of results.csv and results.md")
    return parser


def main() -> None:
    parser = arguments()
    said = parser.parse_args()
    if said.make_environments:
        make_environments(said.make_environments)
        return
    chosen = said.only or (list(METHODS) if said.methods else list(RUNS))
    known = [method for name in chosen for method in METHODS.get(name, [])]
    for method in said.methods or []:
        if method not in known:
            parser.error(f"{', '.join(chosen)}: no method {method!r}; there are {', '.join(known) or 'none to choose'}")
    results = Results(said.out)
    try:
        for name in chosen:
            runner = suite.Runner(name, results, said.environments, said.limit, said.memory, said.sizes, said.methods)
            results.section(name, RUNS[name](runner))
    except KeyboardInterrupt:
        sys.exit(f"stopped: what was measured is in {results.table}")


if __name__ == "__main__":
    main()
