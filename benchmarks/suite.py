"""The benchmarks by name: which measurements each consists of, and the section of results.md it makes."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import svi_steps
from benchmarks.annotators import METHODS as ANNOTATED
from benchmarks.bradley_terry import METHODS as PLAIN, SIZES
from benchmarks.chains import METHODS as CHAINED, SETTINGS
from benchmarks.end_to_end import JOBS
from benchmarks.measuring import ENVIRONMENT, ROOT, fresh, one_core
from benchmarks.results import Results
from benchmarks.worlds import ANNOTATORS

# what is filed of a measurement beside its time and memory: accuracy, the state of a fit, and of steps (seconds)
FACTS = ("correlation", "rmse", "utility", "reliability", "type accuracy", "k_hat", "method", "step", "pair", "floor",
         "seconds", "steps", "gap", "worst contrast", "worst contrast / CPU s", "spread", "spread / CPU s")  # fmt: skip


@dataclass(frozen=True)
class Runner:
    """Runs the measurements of one benchmark and files them."""

    benchmark: str
    results: Results
    environments: Path | None
    limit: int
    memory: float
    sizes: list[str] | None = None
    methods: list[str] | None = None

    def measure(
        self, module: str, method: str, setting: str, *, package: str = "prefdensity", uncertainty: str = ""
    ) -> dict[str, Any]:
        """Measure in a fresh process, file the row, and return what was found; what was not asked for is skipped."""
        if self.methods and method not in self.methods:
            return {"skipped": "not asked for"}
        found = fresh(
            module, method, setting, package=package, folder=self.environments, limit=self.limit, memory=self.memory
        )
        row = {"benchmark": self.benchmark, "setting": setting, "method": method, "uncertainty": uncertainty}
        if "skipped" in found:
            self.results.add(row | {"accuracy": f"skipped: {found['skipped']}"})
            return found
        if "fit" in found:
            row |= {"prep CPU s": f"{found['prep']:.2f}", "fit CPU s": _seconds(found["fit"]),
                    "wall s": _seconds(found["wall"])}  # fmt: skip
        facts = [f"{name} {_short(found[name])}" for name in FACTS if name in found]
        self.results.add(row | {
            "peak MB": f"{found['memory']:.0f}", "accuracy": ", ".join(facts), "version": found["version"],
        })  # fmt: skip
        return found

    def table(self) -> str:
        """Return the table of this benchmark as filed."""
        return self.results.table_of(self.benchmark)

    def script(self, module: str, *arguments: str) -> str:
        """Run an existing benchmark; return what it prints, and file what it cost."""
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments], cwd=ROOT, env=ENVIRONMENT,
                              capture_output=True, text=True, check=False, preexec_fn=one_core)  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        row = {"benchmark": self.benchmark, "setting": " ".join(arguments) or "-", "method": module}
        if done.returncode:
            reason = f"skipped: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
            self.results.add(row | {"accuracy": reason})
            return reason
        self.results.add(row | {"fit CPU s": _seconds(spent), "wall s": _seconds(time.time() - began)})
        command = " ".join(["python -m", f"benchmarks.{module}", *arguments])
        return f"`{command}`, {spent:.0f} CPU s:\n\n{done.stdout.strip()}"


def _short(value: Any) -> str:
    return str(value) if not isinstance(value, float) else f"{value:.4f}" if value >= 0.01 else f"{value:.3g}"


def _seconds(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def bradley_terry(run: Runner) -> str:
    """Plain Bradley-Terry beside its peers."""
    for size in run.sizes or SIZES:
        for name, (_, uncertainty, package, _) in PLAIN.items():
            run.measure("bradley_terry", name, size, package=package, uncertainty=uncertainty)
    return (
        "Plain Bradley-Terry, items x comparisons, from arrays of integers. prep makes cells, labels or designs and "
        "imports; fit starts there and includes compilation. 100 refits are 3, scaled up.\n\n" + run.table()
    )


def annotators(run: Runner) -> str:
    """Annotators who differ in reliability, or are of three types."""
    for what in ("reliability", "types"):
        for name, (package, uncertainty) in ANNOTATED.items():
            setting = f"{what}:1000x1000000x{ANNOTATORS}"
            run.measure("annotators", name, setting, package=package, uncertainty=uncertainty)
    return (
        "Items x comparisons x annotators; correlations of posterior means with the truth (of types: the worst "
        "type's), and the share of annotators given their true type. NumPyro takes 2,000 steps; its guide has "
        "independent coordinates. `utilities known` is the exact posterior of annotators given the true utilities: no "
        "method recovers annotators better.\n\n" + run.table()
    )


def chains(run: Runner) -> str:
    """Hamiltonian chains: effective draws of the worst contrast of utilities, and of their spread."""
    for setting in SETTINGS:
        for name, package in CHAINED.items():
            run.measure("chains", name, setting, package=package, uncertainty="draws")
    return (
        "Program, items x comparisons x annotators; four chains of 500 draws after 500 steps of warm-up, in double "
        "precision, compilation included. Effective draws of the worst contrast of two utilities and of the spread of "
        "utilities.\n\n" + run.table()
    )


def svi(run: Runner) -> str:
    """A step of variational inference, and the way to the optimum."""
    return svi_steps.report(run)


def whole(run: Runner) -> str:
    """Import, and files to rankings and reports."""
    for name, (package, setting) in JOBS.items():
        run.measure("end_to_end", name, setting, package=package)
    return (
        "Jobs in a fresh process; fit includes the import. `prefdensity` alone reads nothing heavy; naming "
        "`prefdensity.fit` imports torch and Pyro. Parquet is items x comparisons.\n\n" + run.table()
    )


def larger_than_memory(run: Runner) -> str:
    """100M rows streamed into counts, and fitted."""
    return run.script("larger_than_memory")


def many_fits(run: Runner) -> str:
    """2,000 fits in a batch."""
    return run.script("many_fits")


def pcal(run: Runner) -> str:
    """Preference-calibrated intervals beside networks."""
    return run.script("pcal", "--peer", "1")


def selection(run: Runner) -> str:
    """Choosing pairs, beside the published algorithm."""
    return run.script("selection", "--sizes", "200", "500", "--largest", "130000")


def reward(run: Runner) -> str:
    """Variance-reduced reward learning beside maximum likelihood."""
    return run.script("reward", "--replicates", "200", "--worlds", "cyclic", "annotator", "--layouts", "fresh:6400")


def gpu(run: Runner) -> str:
    """A step on an accelerator, and the posterior of the CPU."""
    return run.script("gpu")
