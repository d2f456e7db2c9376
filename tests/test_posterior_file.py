"""Files of posteriors: nothing in them runs, damage is one clear error, and a failed save loses nothing."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import prefdensity
from prefdensity.errors import DataError, ProgramError
from prefdensity.judged.simulate import JudgedWorld
from prefdensity.posterior.files import seal, write_tree
from prefdensity.posterior.signature import signature_of

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
    write_tree(change(kept), path)


def edited(change):
    """Return what changes the HDF5 file itself by `change` (h5py.File), and seals it again."""

    def damage(path):
        bare = path.read_bytes()
        path.write_bytes(bare[: -len(seal(b""))])
        with h5py.File(path, "r+") as file:
            change(file)
        path.write_bytes(path.read_bytes() + seal(path.read_bytes()))

    return damage


def schema(change):
    """Return what changes the schema of a file by `change` (dict)."""

    def damage(tree):
        found = json.loads(tree.attrs["schema"])
        change(found)
        tree.attrs["schema"] = json.dumps(found)
        return tree

    return lambda path: without(path, damage)


def attribute(name, value):
    """Return what changes an attribute of the file."""
    return lambda path: without(path, lambda tree: (tree.attrs.update({name: value}), tree)[1])


def replaced(name, **settings):
    """Return what puts another dataset in the place of posterior/utility."""

    def change(file):
        del file[name]
        file.create_dataset(name, **settings)

    return edited(change)


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("/etc/hostname", "data", (3,))
    file.create_virtual_dataset("posterior/other", layout)


def own_parent(file):
    file["posterior/posterior"] = file["posterior"]


def broken_schema(tree):
    tree.attrs["schema"] = tree.attrs["schema"][:-40]
    return tree


def lesser_schema(tree):
    tree.attrs["schema"] = tree.attrs["schema"].replace('"dims"', '"dimz"')
    return tree


def no_draws(tree):
    return tree.drop_nodes("posterior")


def later_version(tree):
    tree.attrs["format"] = "prefdensity-posterior-9"
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
    "external link": edited(lambda file: file.__setitem__("fit/x", h5py.ExternalLink("/etc/hostname", "/x"))),
    "soft link": edited(lambda file: file.__setitem__("fit/x", h5py.SoftLink("/posterior/utility"))),
    "data elsewhere": replaced("posterior/utility", shape=(1, 100, 7), dtype="u1", external="/etc/hostname"),
    "virtual data": edited(virtual),
    "packed data": replaced("posterior/utility", data=np.zeros((1, 1000, 7)), compression="gzip"),
    "a terabyte of nothing": replaced("posterior/utility", shape=(1, 1000, 1 << 27), chunks=(1, 1, 1024), dtype="f8"),
    "a group in itself": edited(own_parent),
    "text for draws": replaced("posterior/utility", data=np.full((1, 1000, 7), b"x")),
    "draws that are not finite": edited(lambda file: file["posterior/utility"].__setitem__((0, 5, 2), np.nan)),
    "a flipped bit": edited(lambda file: file["posterior/utility"].__setitem__((0, 5, 2), np.inf)),
    "schema is a list": attribute("schema", "[1]"),
    "schema is deep": attribute("schema", "[" * 60_000),
    "schema is a number": attribute("schema", 3),
    "format is an array": attribute("format", [1, 2]),
    "a number for the program": schema(lambda found: found.update(program_name=3)),
    "a signature of another shape": schema(lambda found: found["signature"].update(trial="yes")),
    "a signature without families": schema(lambda found: found["signature"].pop("families")),
    "labels that are numbers": schema(lambda found: found.update(items=[1, 2, 3, 4, 5, 6, 7])),
    "two equal labels": schema(lambda found: found["items"].__setitem__(0, found["items"][1])),
    "an item too many": schema(lambda found: found["items"].append("Oakland")),
    "dims of another name": schema(lambda found: found["dims"].update(utility=["annotator"])),
    "one dim too many": schema(lambda found: found["dims"].update(utility=["item", "item"])),
    "dims of nothing": schema(lambda found: found["dims"].update(worth=["item"])),
    "negative event dims": schema(lambda found: found["event_dims"].update(utility=-1)),
    "status is no table": schema(lambda found: found.update(status=[])),
    "text for k-hat": schema(lambda found: found["status"].update(k_hat="good")),
    "no seed": schema(lambda found: found["status"].pop("seed")),
    "an unknown field": schema(lambda found: found["status"].update(colour="red")),
    "no chains": schema(lambda found: found["status"].update(chains=0)),
    "warnings in one text": schema(lambda found: found["status"].update(warnings="beware")),
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


def test_no_damage_to_the_bytes_goes_unseen(simple, tmp_path):
    """HDF5 itself loops on some of these, so the seal has to be looked at first."""
    whole, path = simple.save(tmp_path / "fit.nc").read_bytes(), tmp_path / "fit.nc"
    rng = np.random.default_rng(5)
    for _ in range(200):
        changed = bytearray(whole)
        start, length = rng.integers(len(whole)), rng.integers(1, 200)
        kind = rng.integers(4)
        part = changed[start : start + length]
        if kind == 0:
            changed[start] ^= 1 << rng.integers(8)
        elif kind == 1:
            changed[start : start + length] = bytes(len(part)) if any(part) else b"\1" * len(part)
        elif kind == 2:
            changed[start:start] = rng.bytes(length)
        else:
            del changed[start : start + length]
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"fit\.nc is not as prefdensity saved it"):
            prefdensity.load_posterior(path)


def test_other_readers_of_netcdf_pass_over_the_seal(simple, tmp_path):
    path = simple.save(tmp_path / "fit.nc")
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        np.testing.assert_array_equal(tree["posterior"]["utility"].values[0], simple.draws["utility"])


def test_what_could_not_be_read_again_is_not_saved(simple, tmp_path):
    draws = simple.draws["utility"].copy()
    draws[3, 4] = np.nan
    with pytest.raises(DataError, match="cannot be saved, for the draws of utility are not all finite"):
        replace(simple, draws=simple.draws | {"utility": draws}).save(tmp_path / "fit.nc")
    assert not list(tmp_path.iterdir())


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
    read = prefdensity.load_posterior(saved)
    pd.testing.assert_frame_equal(read.summary(), post.summary())
    pd.testing.assert_frame_equal(read.parameters(), post.parameters())
    with pytest.raises(ProgramError, match="files are not run unasked; give it once, when loading .*fit.nc: program="):
        read.predict([("Boston", "Detroit")])
    assert trace.read_text() == "ran "
    given = prefdensity.load_posterior(saved, path)  # asked to
    assert trace.read_text() == "ran ran "
    pd.testing.assert_frame_equal(given.win_probabilities(), post.win_probabilities())
    path.unlink()
    again = prefdensity.load_posterior(saved, prefdensity.load_program("bradley_terry"))
    np.testing.assert_array_equal(again.draws["utility"], post.draws["utility"])
    pd.testing.assert_frame_equal(again.win_probabilities(), post.win_probabilities())
    with pytest.raises(ProgramError, match="files are not run unasked"):
        prefdensity.load_posterior(read.save(tmp_path / "again.nc")).win_probabilities()


def questions(post, simple):
    """What cannot be answered without the program."""
    return (
        lambda: post.predict([("Boston", "Detroit")]),
        lambda: post.win_probabilities(),
        lambda: prefdensity.check(post, BASEBALL, replicates=20),
        lambda: prefdensity.compare({"x": post, "y": simple}, BASEBALL, progress=False),
        lambda: prefdensity.density.of(post),
        lambda: prefdensity.loo(post, BASEBALL),
    )


SPELLINGS = ["{}", "{} ", " {}", "{}\n", "{}\t", "{}\u00a0", "{}\u2003", "{}\x0b", "{}+davidson", "davidson+{}", "./{}"]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("form", ["{}", "{!r}", "items+{!r}", "type_weight({})"])
def test_no_name_in_a_file_has_a_file_run(simple, tmp_path, monkeypatch, spelling, form):
    trace = tmp_path / "trace.txt"
    (tmp_path / "mine.py").write_text(FILE.format(trace=str(trace)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    signature = replace(signature_of(simple, simple.program), by_name=True)  # a lie: nobody could have saved this
    named = replace(simple, program_name=form.format(spelling.format("mine.py")), fitted=None, signature=signature)
    again = prefdensity.load_posterior(named.save(tmp_path / "fit.nc"))
    for ask in questions(again, simple):
        with pytest.raises(ProgramError):
            ask()
    assert not trace.exists()


@pytest.mark.parametrize("name", ["mine.py", "mine.py ", "mine.py\n", "\u00a0mine.py"])
def test_loading_a_judge_runs_nothing(tmp_path, monkeypatch, name):
    units = JudgedWorld.draw(seed=3).units(60, seed=3)
    fit = prefdensity.fit_judge("gaussian+distance", units, method="map", progress=False)
    trace = tmp_path / "trace.txt"
    (tmp_path / "mine.py").write_text(FILE.format(trace=str(trace)))
    monkeypatch.chdir(tmp_path)
    of_file = replace(fit.posterior, program_name=name, fitted=replace(fit.program, name=name))
    saved = replace(fit, posterior=of_file).save(tmp_path / "judge.nc")
    read = prefdensity.load_judge(saved)
    with pytest.raises(ProgramError, match="files are not run unasked"):
        read.expect(units, lambda y: y)
    assert not trace.exists()
    given = prefdensity.load_judge(saved, program=fit.program)
    np.testing.assert_array_equal(given.expect(units, lambda y: y)[0], fit.expect(units, lambda y: y)[0])
    with pytest.raises(ProgramError, match="other probabilities"):
        prefdensity.load_judge(saved, program="gaussian+squared_distance")
    with pytest.raises(ProgramError, match="a program of comparisons"):
        prefdensity.load_judge(saved, program="davidson")


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


def test_rows_come_back_in_their_order(tmp_path):
    """Also those of sites that follow from others, which stand where the program has them."""
    votes = pd.DataFrame({"item_a": list("aabbca"), "item_b": list("bccaab"), "outcome": list("ababab")})
    votes = votes.assign(strength=[2, 1, 1, 2, 1, 2], annotator=list("xyxyxy"))
    data = prefdensity.read(votes, strength="strength", annotator="annotator")
    post = prefdensity.fit("graded+strengths", data, method="laplace", draws=100)
    again = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    assert list(again.draws) == list(post.draws)
    pd.testing.assert_frame_equal(again.parameters(), post.parameters())


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
