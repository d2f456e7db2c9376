import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of workers and of what they start: threads of several would spin

import numpy as np
import pandas as pd
import pytest


def _global_state() -> dict[str, object]:
    """What a library must leave as it found it; empty of torch and Pyro while nobody has imported them."""
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    state: dict[str, object] = {"numpy's random state": (numpy_state["key"].tobytes(), numpy_state["pos"])}
    torch, pyro = sys.modules.get("torch"), sys.modules.get("pyro")
    if torch is not None and hasattr(torch, "get_rng_state"):
        state |= {
            "torch's random state": torch.get_rng_state().numpy().tobytes(),
            "torch's default dtype": torch.get_default_dtype(),
            "torch's gradient mode": torch.is_grad_enabled(),
            "torch's number of threads": torch.get_num_threads(),
        }
    if pyro is not None and hasattr(pyro, "get_param_store"):
        state |= {f"Pyro's setting {name}": value for name, value in pyro.settings.get().items()}
        state["Pyro's parameters"] = sorted(pyro.get_param_store().keys())
    return state


@pytest.fixture(autouse=True)
def no_global_state_is_left_behind():
    """Fail a test after which the process is not as it was: seeds, dtype, threads, Pyro's stores and flags."""
    before = _global_state()
    yield
    after = _global_state()
    if "pyro" in sys.modules:
        sys.modules["pyro"].clear_param_store()  # one leak is one failure
    changed = [name for name, value in before.items() if after[name] != value]
    changed += ["Pyro's parameters"] if after.get("Pyro's parameters") and "Pyro's parameters" not in before else []
    assert not changed, f"this test changed {', '.join(changed)}"


@pytest.fixture
def torch_as_it_was():
    """For trainers, which set seeds that the process must not keep."""
    import torch

    before, state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    yield
    torch.set_rng_state(before)
    np.random.set_state(state)  # noqa: NPY002


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real tables that is not part of the package."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real data is not here")
    return folder


@pytest.fixture
def votes() -> pd.DataFrame:
    """Six judgements of three items by two annotators."""
    return pd.DataFrame(
        {
            "item_a": ["x", "y", "z", "x", "y", "z"],
            "item_b": ["y", "z", "x", "y", "z", "x"],
            "outcome": ["a", "b", "tie", "b", "a", "a"],
            "annotator": ["ann", "bob", "ann", "bob", "ann", "bob"],
        }
    )
