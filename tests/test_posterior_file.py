"""Files of posteriors: nothing in them runs, damage is one clear error, and a failed save loses nothing."""

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from contract import table

import prefdensity
from prefdensity.errors import DataError, ProgramError
from prefdensity.simulate import population

BASEBALL = prefdensity.read("example:baseball")


@pytest.fixture(scope="module")
def simple():
    return prefdensity.fit("bradley_terry", BASEBALL, method="laplace")


class Bomb:
    def __reduce__(self):
        return os.abort, ()


def foreign(path):
    xr.Dataset({"x": ("t", np.arange(3.0))}).to_netcdf(path, engine="h5netcdf")


def without(path, change):
    """Rewrite a saved posterior after `change` (tree) -> tree."""
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        kept = tree.load()
    path.unlink()
    change(kept).to_netcdf(path, engine="h5netcdf")


def broken_schema(tree):
    tree.attrs["schema"] = tree.attrs["schema"][:-40]
    return tree


def lesser_schema(tree):
    tree.attrs["schema"] = tree.attrs["schema"].replace('"dims"', '"dimz"')
    return tree


def no_draws(tree):
    return tree.drop_nodes("posterior")


def later_version(tree):
    tree.attrs["format"] = "prefdensity-posterior-2"
    return tree


def cut(share):
    def damage(path):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])

    return damage


def overwritten(path):
    whole = bytearray(path.read_bytes())
    whole[: len(whole) // 3] = b"\x5a" * (len(whole) // 3)
    path.write_bytes(bytes(whole))


DAMAGE = {
    "cut at half": cut(0.5),
    "cut at the end": cut(0.99),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("item,mean\nx,1\n"),
    "overwritten": overwritten,
    "pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "foreign netCDF": foreign,
    "broken schema": lambda path: without(path, broken_schema),
    "lesser schema": lambda path: without(path, lesser_schema),
    "no draws": lambda path: without(path, no_draws),
    "later version": lambda path: without(path, later_version),
    "directory": lambda path: (path.unlink(), path.mkdir()),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_clear_error(simple, tmp_path, damage):
    path = simple.save(tmp_path / "fit.nc")
    DAMAGE[damage](path)
    with pytest.raises(DataError) as caught:
        prefdensity.load_posterior(path)
    text = str(caught.value)
    assert "fit.nc" in text
    assert "\n" not in text
    assert len(text) < 300


FILE = '''"""A user's program."""
from pathlib import Path
from prefdensity import compose
with Path({trace!r}).open("a") as file:
    file.write("ran ")
PROGRAM = compose("bradley_terry")
'''


def test_loading_runs_nothing(tmp_path):
    trace, path = tmp_path / "trace.txt", tmp_path / "mine.py"
    path.write_text(FILE.format(trace=str(trace)))
    post = prefdensity.fit(path, BASEBALL, method="laplace")
    saved = post.save(tmp_path / "fit.nc")
    assert trace.read_text() == "ran "
    prefdensity.load_posterior(saved).summary()
    with pytest.raises(ProgramError, match="files are not run unasked; pass program="):
        prefdensity.load_posterior(saved).predict([("Boston", "Detroit")])
    assert trace.read_text() == "ran "
    path.unlink()
    again = prefdensity.load_posterior(saved)
    np.testing.assert_array_equal(again.draws["utility"], post.draws["utility"])
    # the program itself may be given
    given = again.predict([("Boston", "Detroit")], program=prefdensity.load_program("bradley_terry"))
    assert 0 < given["p_a"][0] < 1
    with pytest.raises(ProgramError, match="files are not run unasked"):
        again.win_probabilities()


FULL_DISK = """
import resource, signal, sys
import prefdensity
post = prefdensity.load_posterior(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    post.save(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
    sys.exit(3)
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(simple, tmp_path):
    pytest.importorskip("resource")
    path = simple.save(tmp_path / "fit.nc")
    before = path.read_bytes()
    assert len(before) > 40_000
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["fit.nc"]
    assert prefdensity.load_posterior(path).n_draws == simple.n_draws


def test_a_save_into_nowhere_is_an_error_that_names_it(simple, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        simple.save(tmp_path / "nowhere" / "fit.nc")


@pytest.fixture
def arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # arviz 0.23 announces its next version when imported
        return pytest.importorskip("arviz")


def posterior_group(tree):
    return tree["posterior"].dataset if hasattr(tree["posterior"], "dataset") else tree["posterior"]


def test_arviz_gets_named_axes(arviz):
    data = population(5, 4, 500, seed=2, tie_strength=0.6, n_types=2)[0]
    post = prefdensity.fit("annotator_types+davidson", data, method="laplace", draws=200)
    exported = posterior_group(post.to_arviz())
    assert exported["utility"].dims == ("chain", "draw", "type", "item")
    assert list(exported["utility"].coords["item"].values) == list(data.items)
    assert exported["type_probability"].dims == ("chain", "draw", "annotator", "type")
    assert list(exported.coords["annotator"].values) == list(data.annotators)
    assert exported["tie_strength"].dims == ("chain", "draw")
    assert exported.attrs["sampler"] == "guide"
    np.testing.assert_array_equal(exported["utility"].values[0], post.draws["utility"])


def test_arviz_summarises_what_it_gets(arviz):
    post = prefdensity.fit("bradley_terry", BASEBALL, method="nuts", draws=200, warmup=100, chains=2)
    exported = post.to_arviz()
    frame = arviz.summary(exported, var_names=["utility"])
    assert len(frame) == 7
    assert any("Boston" in row for row in frame.index)
    assert float(arviz.rhat(exported)["utility"].max()) < 1.2
    assert posterior_group(exported).attrs["sampler"] == "nuts"
    assert posterior_group(exported)["utility"].shape == (2, 200, 7)
    mean = frame["mean"].astype(float).to_numpy()
    np.testing.assert_allclose(mean, post.draws["utility"].mean(0), atol=0.006)  # arviz rounds


def test_draws_of_features_are_named(arviz):
    post = prefdensity.fit("linear", table(rows=60), method="laplace", draws=100)
    exported = posterior_group(post.to_arviz())
    assert exported["weight"].dims == ("chain", "draw", "feature")
    assert list(exported.coords["feature"].values) == ["f", "g"]
