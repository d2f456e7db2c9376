"""What is asked of the wrong thing is refused in one sentence, and Ctrl-C ends what goes on with a fit."""

import inspect

import numpy as np
import pandas as pd
import pytest
from contract import table
from typer.testing import CliRunner

import prefdensity
from prefdensity import DataError, FitError, PrefDensityError, ProgramError, plots
from prefdensity.cli import main
from prefdensity.cli.answer import show_costs
from prefdensity.inference.checkpoint import Checkpoint
from prefdensity.reward import compare_policies
from prefdensity.selection.rater_study import informed

DATA = table(("a", "b", "tie"), rows=60)


@pytest.fixture(scope="module")
def post():
    return prefdensity.fit("davidson", DATA, method="laplace", draws=100)


@pytest.fixture(scope="module")
def ranked():
    """Rankings of sets of two to four dishes, by three people, and a fit of them."""
    rng = np.random.default_rng(8)
    rows = [
        (answer, f"p{answer % 3}", f"dish {item}", place)
        for answer in range(24)
        for place, item in enumerate(rng.permutation(5)[: 2 + answer % 3], 1)
    ]
    frame = pd.DataFrame(rows, columns=["answer", "who", "item", "rank"])
    data = prefdensity.Choices.from_rankings(frame, answer="answer", annotator="who")
    return prefdensity.fit("plackett_luce", data, draws=100), data


@pytest.mark.parametrize(
    "ask",
    [
        lambda post, data: prefdensity.sbc("plackett_luce", data, replicates=20),
        lambda post, data: prefdensity.with_ratings(data, pd.DataFrame({"item": ["dish 1"], "rating": [2]})),
        lambda post, data: prefdensity.cost(post, data, "luce_choice+reliability"),
        lambda post, data: prefdensity.likelihood_ratios({"one": post, "two": post}, data),
        lambda post, data: prefdensity.annotate(data, post),
    ],
)
def test_what_counts_pairs_says_that_choices_from_sets_are_none(ranked, ask):
    with pytest.raises(DataError, match="is for comparisons of two, and these are choices from sets"):
        ask(*ranked)


def test_that_costs_of_rankings_are_not_told_is_said(ranked, capsys):
    assert show_costs(prefdensity.check(*ranked), *ranked) == []
    assert "--cost tells of comparisons of two" in capsys.readouterr().err


def test_a_frame_is_no_table_and_a_name_is_no_fit(post):
    frame = DATA.to_frame()
    for ask in (
        prefdensity.check, prefdensity.loo, prefdensity.audit, prefdensity.item_table, prefdensity.annotator_table,
        prefdensity.leaderboard,
    ):  # fmt: skip
        with pytest.raises(DataError, match="a table is needed, and this is a DataFrame; read it first"):
            ask(post, frame)
        with pytest.raises(DataError, match="a fit is needed, and this is a str"):
            ask("davidson", DATA)
    for ask in (
        lambda: prefdensity.describe(frame),
        lambda: prefdensity.bootstrap(frame, 3),
        lambda: prefdensity.kfold("davidson", frame),
        lambda: prefdensity.sbc("davidson", frame, replicates=20),
    ):
        with pytest.raises(DataError, match="a table is needed"):
            ask()


def test_pairs_votes_and_parts_are_told_what_they_are_not(post):
    a, b = post.items[:2]
    for ask, match in (
        (lambda: post.predict(pd.DataFrame({"left": [a], "item_b": [b]})), "lack the column 'item_a'; they have left"),
        (lambda: post.predict([3]), "3 is no pair of items"),
        (lambda: post.given([(a, b)]), "in row 1 is no judgement"),
        (lambda: prefdensity.select(post, 5), "5 is no list of pairs"),
        (lambda: prefdensity.select(post, [(a, b), 7], n=1), "7 in row 2 is not a pair"),
        (lambda: prefdensity.compose("davidson", 3), "3 is no layer"),
    ):
        with pytest.raises(PrefDensityError, match=match) as caught:
            ask()
        assert type(caught.value) in (DataError, ProgramError)


PUBLIC = {name: each for name, each in vars(plots).items() if inspect.isfunction(each) and name[0] != "_"}
PICTURES = [name for name, draw in PUBLIC.items() if {"ax", "title"} <= set(inspect.signature(draw).parameters)]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_the_wrong_thing_are_refused_in_a_sentence(post, name):
    draw = getattr(plots, name)
    asked = inspect.signature(draw).parameters
    first = next(iter(asked))
    more = (DATA,) if "data" in asked else ()
    for wrong in (3, "davidson", None):
        with pytest.raises(DataError, match=f"^{first} must be .*, and this is a {type(wrong).__name__}$"):
            draw(wrong, *more)
    if "DataFrame" in str(asked[first].annotation):
        with pytest.raises(
            DataError, match=f"^{first} has no column '.*'; it must be .* returned, and its columns are"
        ):
            draw(pd.DataFrame({"a": [1.0]}))
    with pytest.raises(TypeError):  # as of any function of Python
        draw()


def test_there_are_pictures():
    assert {"ranking", "check", "comparison", "course", "groups", "annotators"} <= set(PICTURES)


def test_how_pictures_are_drawn_is_refused_in_a_sentence(post):
    for ask, match in (
        (lambda: plots.ranking(post, most=0), "most must be a whole number of at least 1, not 0"),
        (lambda: plots.win_heatmap(post, "all"), "most must be a whole number of at least 1, not 'all'"),
        (lambda: plots.ranking(post, level=2), "level=2 must lie between 0 and 1"),
        (lambda: plots.ranking(post, ax=3), "ax=... must be axes of a grid"),
        (lambda: plots.annotators(post, 3), "a table is needed, and this is a int; read it first"),
        (lambda: plots.annotators(post, DATA.head(9)), "is not the table of this fit"),
    ):
        with pytest.raises(DataError, match=match):
            ask()


def test_annotators_whom_the_fit_does_not_know_are_asked_nothing(post, tmp_path):
    one, two, *_ = post.annotators
    items = list(zip(post.items, post.items[1:], strict=False))
    for ask, match in (
        (
            lambda: prefdensity.select(post, n=2, annotators=[one, f"{two} "]),
            f"is no annotator.*; did you mean '{two}'",
        ),
        (
            lambda: prefdensity.select(post, n=2, annotators="nobody"),
            "annotators: 'nobody' is no annotator of the fit;",
        ),
        (
            lambda: prefdensity.select(post, n=2, annotators=["?", "!"]),
            "'.' is no annotator of the fit, and 1 more; th",
        ),
        (lambda: prefdensity.select(post, n=2, annotators=[]), "annotators must be one or more distinct labels"),
        (lambda: informed(post, items[:1], [one, "?"], 1), "needs|knows no annotators"),
        (lambda: prefdensity.battle_design(post, 9, annotator="?"), "annotator: '.' is no annotator of the fit"),
        (lambda: post.predict(items, annotator="?"), "annotator: '.' is no annotator of the fit"),
    ):
        with pytest.raises(DataError, match=match):
            ask()
    DATA.to_frame().to_csv(tmp_path / "votes.csv", index=False)
    path = post.save(tmp_path / "fit.nc")
    said = CliRunner().invoke(
        main.app, ["select", f"{tmp_path / 'votes.csv'}", "--fit", f"{path}", "--judge", "zed", "--n", "2"]
    )
    assert said.exit_code == 2
    assert "prefdensity: --judge: 'zed' is no annotator of the fit" in said.stderr


def test_more_folds_than_units_are_told_what_else_may_be_left_out():
    data = table(n_annotators=1, rows=30)
    with pytest.raises(
        DataError, match="folds=3 are more than there are units to leave out, 1; ask for fewer, or leave out"
    ):
        prefdensity.kfold("bradley_terry", data, unit="annotator", folds=3)


def test_items_that_a_mapping_names_are_items(post):
    one, two, *_ = post.items
    every = dict.fromkeys(post.items, 1.0)
    names = "'nobody' is no item of the table"
    for ask, match in (
        (lambda: prefdensity.as_one(DATA, 3), "same=3 must be a mapping from items, as in"),
        (lambda: prefdensity.as_one(DATA, [one, two]), "same=.* must be a mapping from items"),
        (lambda: prefdensity.as_one(3, {one: two}), "a table is needed, and this is a int"),
        (lambda: prefdensity.as_one(DATA, {"nobody": one}), f"same: {names}"),
        (lambda: prefdensity.as_one(DATA, {one: ["nobody"]}), "same: .'nobody'. is no item of the table"),
        (lambda: prefdensity.leaderboard(post, DATA, organisation={"nobody": "us"}), f"organisation: {names}"),
        (lambda: prefdensity.leaderboard(post, DATA, organisation={f"{one} ": "us"}), f"did you mean '{one}'"),
        (lambda: prefdensity.leaderboard(post, DATA, organisation="us"), "organisation='us' must be a mapping"),
        (lambda: prefdensity.select(post, n=1, group=every | {"nobody": "x"}), f"group: {names}"),
        (lambda: prefdensity.select(post, n=1, group=3), "group=3 must be a mapping"),
        (lambda: prefdensity.select(post, n=1, cost=every | {"nobody": 2.0}), f"cost: {names}"),
        (lambda: prefdensity.battle_design(post, 9, cost={one: 2.0}), "cost lacks .* items, first"),
        (lambda: prefdensity.cost(post, DATA, post, labels={"nobody": 2.0}), f"labels: {names}"),
        (lambda: compare_policies(post, DATA, reference=every | {"nobody": 2.0}), f"reference: {names}"),
        (lambda: compare_policies(post, DATA, reference=every | {one: "x"}), "must hold a positive number for every"),
    ):
        with pytest.raises(DataError, match=match):
            ask()
    assert prefdensity.as_one(DATA, {}) is DATA
    board = prefdensity.leaderboard(post, DATA, organisation=pd.Series({one: "us"}))
    assert board.set_index("item")["organisation"].to_dict() == dict.fromkeys(post.items, "") | {one: "us"}


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"seed": 1.5}, 0),
        ({"draws": 150.5}, 100),
        ({"threads": 0}, 1),
        ({"chains": 0, "method": "nuts"}, 1),
        ({"warmup": -1, "method": "nuts"}, 0),
        ({"max_steps": 0, "method": "svi"}, 1),
    ],
)
def test_settings_are_whole_numbers(settings, least):
    name, value = next(iter(settings.items()))
    with pytest.raises(FitError, match=f"{name}={value}.*use a whole number of {least} or more"):
        prefdensity.fit("davidson", DATA, **settings)
    prefdensity.fit("davidson", DATA, method="map", seed=np.int64(3))  # numpy's count, too


def test_counts_levels_and_anchors_are_numbers(post):
    for ask, match in (
        (lambda: prefdensity.bootstrap(DATA, -2), "replicates must be a whole number of at least 1, not -2"),
        (lambda: prefdensity.bootstrap(DATA, 2, seed=-1), "seed must be a whole number of at least 0, not -1"),
        (lambda: prefdensity.kfold("davidson", DATA, folds=2.5), "folds must be a whole number of at least 2, not 2.5"),
        (lambda: prefdensity.sbc("davidson", DATA, replicates="many"), "a whole number of at least 20, not 'many'"),
        (lambda: post.summary(level="0.9"), "level='0.9' must lie between 0 and 1"),
        (lambda: prefdensity.leaderboard(post, DATA, anchor={post.items[0]: "x"}), "must give one item .* its rating"),
    ):
        with pytest.raises(DataError, match=match):
            ask()


def test_labels_asked_for_as_numbers_are_told_how_they_are_read():
    frame = DATA.to_frame().assign(date=np.arange(len(DATA.to_frame())), kind=["x", "y"] * (len(DATA.to_frame()) // 2))
    data = prefdensity.read(frame, numbers=["date"], groups=["kind"])
    for layer in ("tastes(by='date')", "drift(over='kind')"):
        with pytest.raises(ProgramError, match=r"groups=\[...\] \(--group\) makes labels and numbers=\[...\]"):
            prefdensity.fit(f"davidson+{layer}", data)


def test_one_fit_of_many_has_no_spread_and_folds_have_no_k_hat(recwarn):
    many = prefdensity.fit_many("davidson", DATA, DATA.count[None]).summary()
    assert many["sd"].isna().all()
    assert not recwarn.list
    said = str(prefdensity.kfold("davidson", DATA, folds=2, unit="comparison", method="map"))
    assert said.endswith("by refits without them")


def test_sbc_keeps_the_replicates_that_there_are(monkeypatch):
    done = []

    def interrupted(*args, **settings):
        done.append(1)
        if len(done) == 22:
            raise KeyboardInterrupt
        return prefdensity.fit(*args, **settings)

    monkeypatch.setattr("prefdensity.checking.sbc.fit_wholly", interrupted)
    assert len(prefdensity.sbc("bradley_terry", DATA, replicates=30).ranks) == 21


def test_a_checkpoint_that_cannot_be_written_is_known_before_the_work(tmp_path):
    for path in (tmp_path / "nowhere" / "state.npz", tmp_path):
        with pytest.raises(FitError, match="cannot be written: .* is"):
            prefdensity.fit("davidson", DATA, method="svi", checkpoint=path)


@pytest.mark.parametrize("method", ["laplace", "ep", "variational", "nuts", "map", "mle"])
def test_a_checkpoint_is_refused_by_methods_that_keep_none(tmp_path, monkeypatch, method):
    with pytest.raises(FitError, match=f"checkpoint='.*state.npz' would stay empty: method='{method}' keeps none"):
        prefdensity.fit("davidson", DATA, method=method, checkpoint=tmp_path / "state.npz")
    monkeypatch.chdir(tmp_path)
    asked = ["fit", "example:puddings", "--model", "davidson", "--method", method, "--checkpoint", "state.npz", "-q"]
    result = CliRunner().invoke(main.app, asked)
    assert result.exit_code == 2
    assert f"--checkpoint state.npz would stay empty: --method {method} keeps none; --method svi does" in result.output
    assert list(tmp_path.iterdir()) == []


def test_that_auto_came_to_a_method_without_checkpoint_is_said(tmp_path):
    kept = {"checkpoint": tmp_path / "state.npz", "draws": 100}
    told = [each for each in prefdensity.fit("davidson", DATA, **kept).status.warnings if "checkpoint" in each]
    assert len(told) == 1
    assert "auto came to laplace, which keeps none" in told[0]
    assert not any("checkpoint" in each for each in prefdensity.fit("davidson", DATA, draws=100).status.warnings)
    network = prefdensity.Comparisons.from_frame(
        DATA.to_frame(), item_features=pd.DataFrame({"size": range(len(DATA.items))}, index=list(DATA.items))
    )
    for method in ("laplace", "auto"):  # which keep the modes of an ensemble
        found = prefdensity.fit("neural(width=2, depth=1)+davidson", network, method=method, restarts=1, **kept)
        assert not any("checkpoint" in each for each in found.status.warnings)


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C after the first window of every svi run."""

    def interrupt(self, run, guide):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "keep", interrupt)


def test_ctrl_c_ends_what_goes_on_with_a_fit(interrupted, post):
    assert prefdensity.fit("davidson", DATA, method="svi").status.interrupted  # what there is so far
    for ask in (
        lambda: prefdensity.kfold("davidson", DATA, method="svi", folds=2, unit="comparison"),
        lambda: prefdensity.sbc("davidson", DATA, replicates=20, method="svi"),
        lambda: prefdensity.cost(prefdensity.fit("davidson", DATA, method="svi"), DATA, "davidson+lapse"),
    ):
        with pytest.raises(KeyboardInterrupt):
            ask()
    assert not post.status.interrupted


def test_ctrl_c_ends_a_comparison_at_the_command_line(interrupted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["compare", "example:baseball", "--models", "bradley_terry", "--method", "svi", "--out", "found", "-q"]
    result = CliRunner().invoke(main.app, asked)
    assert result.exit_code == 130
    assert "interrupted, so nothing was written" in result.output
    assert list(tmp_path.iterdir()) == []
