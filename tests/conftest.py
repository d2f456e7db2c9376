from pathlib import Path

import pandas as pd
import pytest


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
