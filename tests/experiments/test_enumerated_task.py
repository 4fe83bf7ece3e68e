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


def test_the_format_earns_its_reward_and_the_right_answer_its_own():
    """Read off the text: " Final answer: ..." is the format, whatever follows."""
    task = embedded_task(6)
    for prompt, right in zip(task.prompts, ("Paris", "4", "Rome", "7", "Madrid", "6"), strict=True):
        for text, reward in zip(prompt.responses, prompt.reward, strict=True):
            is_right = text.rstrip(".").split()[-1] == right
            assert reward == is_right + 0.5 * text.startswith(" Final answer: "), text
    for name, worth in (("right", (1.0, 0.0)), ("format", (0.0, 1.0))):
        levels = {sum(prompt.reward) for prompt in embedded_task(6, name).prompts}
        assert levels == {3 * worth[0] + 2 * worth[1]}
