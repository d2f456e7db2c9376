"""The statistics of predictive checks against loops over judgements, and the tables that they are set beside."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from truths import fitted, table

import prefdensity
from prefdensity.checking import discrepancies as of
from prefdensity.checking.discrepancies import Directions
from prefdensity.checking.replication import Design, replications, triads

SCORE = np.array([1.0, 0.0, 0.5])


def small(ties=True, seed=3, rows=240):
    """Four items, three annotators who repeat pairs, a covariate."""
    rng = np.random.default_rng(seed)
    a = rng.integers(4, size=rows)
    b = (a + rng.integers(1, 4, size=rows)) % 4
    outcome = rng.choice(3 if ties else 2, size=rows).astype(np.int8)
    more = {"covariate_names": ("length",), "covariates": rng.normal(size=(rows, 1)).round(1)}
    return table(rng.integers(3, size=rows), a, b, outcome, **more)


class Twin:
    """The statistics of one draw by loops over judgements."""

    def __init__(self, r, data, draw):
        cells = {}
        c = r.design.cells
        for index in range(len(c)):
            key = (int(c.item_a[index]), int(c.item_b[index]), int(c.annotator[index]))
            x = float(c.covariates[index, 0] * c.covariate_scale[0])
            cells[(*key, float(c.first[index]), round(x, 6))] = index
        self.rows = []
        for n in range(len(data)):
            a, b, outcome = int(data.item_a[n]), int(data.item_b[n]), int(data.outcome[n])
            sign = 1 if a < b else -1
            if sign < 0:
                a, b, outcome = b, a, (1, 0, 2)[outcome]
            x = float(data.covariates[n, 0]) * sign
            p = r.expected.p[:, cells[a, b, int(data.annotator[n]), sign * int(data.first[n]), round(x, 6)], draw]
            values = SCORE[: len(p)]
            mean = values @ p
            self.rows.append(
                {
                    "a": a,
                    "b": b,
                    "who": int(data.annotator[n]),
                    "first": sign * int(data.first[n]),
                    "x": x,
                    "outcome": outcome,
                    "e": values[outcome] - mean,
                    "v": values**2 @ p - mean**2,
                    "m": np.log(p[0] / p[1]),
                    "t": (outcome == 2) - (p[2] if len(p) == 3 else 0),
                    "tv": p[2] * (1 - p[2]) if len(p) == 3 else 0,
                }
            )

    def total(self, value, *keys):
        sums = Counter()
        for row in self.rows:
            sums[tuple(row[key] for key in keys)] += value(row)
        return sums

    def squares(self, e, v, *keys):
        top, bottom = self.total(e, *keys), self.total(v, *keys)
        return sum(top[key] ** 2 / bottom[key] for key in top)


def residuals(program, data, seed=0):
    post = prefdensity.fit(program, data, draws=100)
    design = Design(data, post.outcomes)
    ((observed, replicated),) = replications(post, design, 50, seed)
    return observed, replicated, Directions(observed.expected)


@pytest.mark.parametrize("program", ["bradley_terry", "davidson+position_bias", "davidson+reliability"])
@pytest.mark.parametrize("draw", [0, 7])
def test_squared_statistics_equal_loops(program, draw):
    data = small(ties="davidson" in program)
    r, _, d = residuals(program, data)
    twin = Twin(r, data, draw)
    e, v = (lambda row: row["e"]), (lambda row: row["v"])

    def ours(statistic):
        return statistic(r, d).sum(0)[draw]

    def margin(row):
        return row["e"] * row["m"]

    def weight(row):
        return row["v"] * row["m"] ** 2

    assert ours(of.slopes) == pytest.approx(twin.squares(margin, weight, "who"))
    assert ours(of.accuracy) == pytest.approx(twin.squares(lambda row: row["e"] * np.sign(row["m"]), v, "who"))
    totals = [
        sum(row["e"] * ((row["a"] == i) - (row["b"] == i)) for row in twin.rows if row["who"] == j)
        for j, i in itertools.product(range(3), range(4))
    ]
    all_v = sum(map(v, twin.rows))
    assert ours(of.tastes) == pytest.approx(np.sum(np.square(totals)) / (2 * all_v))
    items = [[row for row in twin.rows if i in (row["a"], row["b"])] for i in range(4)]
    signed = [sum(row["e"] * (1 if row["a"] == i else -1) for row in rows) for i, rows in enumerate(items)]
    expected = sum(s**2 / sum(map(v, rows)) for s, rows in zip(signed, items, strict=True))
    assert ours(of.item_totals) == pytest.approx(expected)
    habits = twin.squares(lambda row: row["e"] * row["first"], v, "who")
    overall = sum(row["e"] * row["first"] for row in twin.rows) ** 2 / all_v
    assert ours(of.order_habits) == pytest.approx(habits - overall)
    repeated = twin.total(e, "who", "a", "b")
    apart = sum(s**2 for s in repeated.values()) - sum(row["e"] ** 2 for row in twin.rows)
    meetings = sum(n * (n - 1) for n in twin.total(lambda row: 1, "who", "a", "b").values())
    assert ours(of.self_agreement) == pytest.approx(apart / meetings / (all_v / len(data)))
    if "davidson" in program:
        ties = twin.squares(lambda row: row["t"], lambda row: row["tv"], "who")
        pooled = sum(row["t"] for row in twin.rows) ** 2 / sum(row["tv"] for row in twin.rows)
        assert ours(of.tie_habits) == pytest.approx(ties - pooled)


def test_own_tastes_are_blind_to_slopes():
    data = small(ties=False)
    r, _, d = residuals("bradley_terry", data)
    twin = Twin(r, data, 0)
    total = 0.0
    for j in range(3):
        rows = [row for row in twin.rows if row["who"] == j]
        x = np.array([[(row["a"] == i) - (row["b"] == i) for i in range(4)] for row in rows], float)
        e, v, m = (np.array([row[key] for row in rows]) for key in "evm")
        slope = (e @ m) / (v @ m**2)
        total += np.sum((x.T @ (e - slope * v * m)) ** 2)
    assert of.own_tastes(r, d).sum(0)[0] == pytest.approx(total / 2 / sum(row["v"] for row in twin.rows))


def test_directions_and_refitted_residuals_are_blind_to_utilities():
    data = small(ties=False)
    r, _, d = residuals("bradley_terry", data)
    sides, weight = r.design.sides.toarray(), d.tangent.weight
    assert set(d.along) == {"calibration", "order", "covariate length"}
    for name, direction in d.along.items():
        left = sides.T @ (weight[:, None] * direction)
        assert left == pytest.approx(np.zeros((4, direction.shape[1])), abs=1e-6), name
    margin = r.expected.margin[:, 7]
    design = np.c_[sides, margin**3] * np.sqrt(weight)[:, None]
    rest = margin**3 - sides @ np.linalg.lstsq(design[:, :4], design[:, 4])[0]
    assert d.along["calibration"][:, 7] == pytest.approx(rest, abs=1e-6)
    step = np.linalg.lstsq(sides.T @ (weight[:, None] * sides), sides.T @ r.e[:, :1])[0]
    assert d.tangent.refitted(r)[:, 0] == pytest.approx(r.e[:, 0] - r.v[:, 0] * (sides @ step)[:, 0], abs=1e-6)
    h = d.along["order"][:, 0]
    assert of.leaning("order")(r, d).sum(0)[0] == pytest.approx(r.e[:, 0] @ h / np.sqrt(r.v[:, 0] @ h**2))


def test_fit_by_pairs_is_told_without_the_curve_of_choice():
    """What a cube of the margins explains is taken off every pair alike; without a cube there is nothing to take."""
    r, _, d = residuals("bradley_terry", small(ties=False))
    refitted, h = d.tangent.refitted(r), d.along["calibration"]
    pairs = {}
    for cell, pair in enumerate(zip(r.design.cells.item_a.tolist(), r.design.cells.item_b.tolist(), strict=True)):
        pairs.setdefault(pair, []).append(cell)
    chi2 = np.array([refitted[cells].sum(0) ** 2 / r.v[cells].sum(0) for cells in pairs.values()])
    curve = (r.e * h).sum(0) ** 2 / (r.v * h**2).sum(0)
    assert of.pair_fit(r, d).sum(0) == pytest.approx(chi2.sum(0))
    found = of.form_fit(r, d)
    assert found.sum(0) == pytest.approx(chi2.sum(0) - curve)
    assert curve.min() > 0
    assert found / of.pair_fit(r, d) == pytest.approx(np.tile(1 - curve / chi2.sum(0), (len(found), 1)))
    del d.along["calibration"]
    np.testing.assert_array_equal(of.form_fit(r, d), of.pair_fit(r, d))


def test_agreement_is_of_two_people_about_one_pair():
    """Products of refitted residuals of judgements by different annotators, over how many such there are."""
    data = small(ties=False)
    r, _, d = residuals("bradley_terry", data)
    refitted, cells = d.tangent.refitted(r)[:, 4], r.design.cells
    pair, who, total = (each.numpy() for each in (cells.item_a * 4 + cells.item_b, cells.annotator, cells.total))
    products, meetings = 0.0, 0.0
    for i, j in itertools.product(range(len(pair)), repeat=2):
        if pair[i] == pair[j] and who[i] != who[j]:
            products += refitted[i] * refitted[j]
            meetings += total[i] * total[j]
    assert of.shared(r.design) == pytest.approx(meetings)
    unit = r.v[:, 4].sum() / total.sum()
    assert of.agreement(r, d).sum(0)[4] == pytest.approx(products / meetings / unit)


def test_cycles_equal_counting_triads():
    data = small()
    r, _, d = residuals("davidson", data)
    wins = data.wins() - data.wins().T
    total = np.zeros((4, 4))
    np.add.at(total, (data.item_a, data.item_b), 1)
    total += total.T
    circular = clear = decided = 0
    for i, j, k in itertools.combinations(range(4), 3):
        edges = [(i, j), (j, k), (k, i)]
        if all(wins[x, y] for x, y in edges):
            decided += 1
            signs = [np.sign(wins[x, y]) for x, y in edges]
            circular += abs(sum(signs)) == 3
            clear += abs(sum(signs)) == 3 and all(abs(wins[x, y]) >= total[x, y] ** 0.5 for x, y in edges)
    assert of.cycles(r, d).sum(0) == pytest.approx([circular / max(decided, 1)])
    assert of.clear_cycles(r, d).sum(0) == pytest.approx([clear / max(decided, 1)])


def test_all_triads_are_found_and_many_are_sampled():
    edges = np.array([(i, j) for i in range(9) for j in range(i + 1, 9) if (i + j) % 4])
    found = {tuple(row) for row in triads(edges)}
    position = {tuple(edge): n for n, edge in enumerate(edges.tolist())}
    wanted = {
        (position[i, j], position[j, k], position[i, k])
        for i, j, k in itertools.combinations(range(9), 3)
        if {(i, j), (j, k), (i, k)} <= set(position)
    }
    assert found == wanted
    everything = np.array(list(itertools.combinations(range(100), 2)))
    assert 50_000 < len(triads(everything)) <= 100_000


@pytest.mark.parametrize("program", ["bradley_terry", "davidson+position_bias", "annotator_types+davidson"])
def test_replications_follow_the_program(program):
    data = small(ties="davidson" in program)
    post = prefdensity.fit(program, data, draws=100, method="laplace")
    design = Design(data, post.outcomes)
    ((observed, replicated),) = replications(post, design, 400, 1)
    assert (replicated.count.sum(0) == design.total[:, None]).all()
    assert observed.count.shape == (len(post.outcomes), len(design.cells), 1)
    z = replicated.e.sum(0) / np.sqrt(replicated.v.sum(0))
    assert stats.kstest(z, "norm").pvalue > 1e-4
    p = replicated.expected.p
    assert p.sum(0) == pytest.approx(np.ones(p.shape[1:]))
    expected = (design.total[:, None] * p).sum((1, 2))
    assert np.abs(replicated.count.sum((1, 2)) - expected).max() < 5 * np.sqrt(expected.max())


def test_types_of_known_annotators_are_used():
    post, data = fitted("types by annotator", 2, "annotator_types")
    design = Design(data, post.outcomes)
    ((observed, _),) = replications(post, design, 50, 0)
    assert np.square(of.tastes(observed, None)).sum() < np.square(of.tastes(*_plain(data))).sum() / 4


def _plain(data):
    post = prefdensity.fit("bradley_terry", data, draws=100)
    ((observed, _),) = replications(post, Design(data, post.outcomes), 50, 0)
    return observed, None
