"""Position-biased judges on real data: the fitted liking for the first place orders them as the raw counts do."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import prefdensity

FILE = Path(__file__).parents[2] / "shared" / "data" / "llmbar.csv.gz"


@pytest.mark.slow
def test_ai_judges_are_separated_by_their_liking_for_the_first_place():
    if not FILE.is_file():
        pytest.skip("the LLMBar judgements are not here")
    table = pd.read_csv(FILE)
    data = prefdensity.Comparisons.from_frame(table, annotator="annotator", context=None, ordered=True)
    post = prefdensity.fit("position_bias(by='annotator')", data, method="map")
    liking = pd.Series(post.point["annotator_position_bias"], index=list(post.annotators))
    share = (table["outcome"] == "a").groupby(table["annotator"]).mean()  # every pair was shown in both orders
    assert len(share) == 58
    assert stats.spearmanr(liking[share.index], share).statistic >= 0.95
    assert np.ptp(share) > 0.3  # there is something to separate
