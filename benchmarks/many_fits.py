"""2,000 bootstrap fits in one batch against a loop of single fits, and the same numbers from both."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

import prefdensity as pf
from prefdensity.inference.laplace import laplace
from prefdensity.inference.view import View
from prefdensity.programs.tabulate import cells_of

FITS, LOOPED = 2000, 20


def main() -> None:
    torch.set_num_threads(1)
    print(f"| program | {FITS:,} in a batch, CPU s | a loop of `fit`, CPU s | a loop of modes and covariances, CPU s "
          "| times faster than `fit` | largest difference of a mode |")  # fmt: skip
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, ties in (("bradley_terry", None), ("davidson", 0.5), ("davidson+position_bias", 0.5)):
        data, _ = pf.simulate.population(20, 10, 4000, seed=1, tie_strength=ties)
        counts = pf.bootstrap(data, FITS, seed=2)
        began = time.process_time()
        many = pf.fit_many(name, data, counts, progress=False)
        batch = time.process_time() - began
        program, spent, bare, worst = pf.load_program(name), 0.0, 0.0, 0.0
        for k in range(LOOPED):
            table = replace(data, count=counts[k]).take(counts[k] > 0)
            began = time.process_time()
            pf.fit(program, table, method="laplace", progress=False)
            spent += time.process_time() - began
            began = time.process_time()
            alone = laplace(View(program, cells_of(table, program.outcomes, program.needs)))
            bare += time.process_time() - began
            worst = max(worst, float(np.abs(alone.mode.z.numpy() - many.z[k]).max()))
        scale = FITS / LOOPED
        print(f"| {name} | {batch:.2f} | {spent * scale:.0f} | {bare * scale:.0f} | {spent * scale / batch:.0f} "
              f"| {worst:.0e} |")  # fmt: skip
    print(f"\nThe loops are {LOOPED} fits each, scaled up; `fit` also checks its approximation and draws from it.")


if __name__ == "__main__":
    main()
