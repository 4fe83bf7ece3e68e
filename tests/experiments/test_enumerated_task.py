"""The embedded prompts of the enumerated protocol."""

import numpy as np
from validate.enumerated.facts import MAXIMUM_PROMPTS, embedded_task


def test_the_data_law_has_spread_and_the_reward_several_levels():
    task = embedded_task(MAXIMUM_PROMPTS)
    law = np.exp(task.log_d)
    np.testing.assert_allclose(law.sum(axis=1), 1, atol=1e-15)
    assert (law[:, -1] == 0).all()
    assert law[:, :-1].min() > 0.01
    assert all(len(set(row[:-1])) == 4 for row in task.reward)
    assert len({tuple(row) for row in law.round(12)}) == 12
