"""A language model as a law over responses: load and check a model, score, sample, collect, enumerate.

What is true of any language model belongs here, whatever is trained or tested with it. Works on a model of your own
(``from_transformers``), your own prompts and your own candidate lists. Losses and log-probabilities are in nats; a
response ends in the end-of-sequence token, which counts. Needs ``pip install 'nondecoupling[lm]'``.

>>> model = tiny_qwen3(["Is it red?", " Yes.", " No."], seed=0)   # or load_model("Qwen/Qwen3-0.6B")
>>> score_responses(model, ["Is it red?"] * 2, [" Yes.", " No."]).round(2)
array([-6.61, -5.12])
>>> law = enumerate_law(model, ["Is it red?"], [[" Yes.", " No."]])   # the last column is everything else
>>> law.measured().round(2)
array([[-6.61, -5.12, -0.01]])
"""

from __future__ import annotations

from nondecoupling.lm.collecting import collect
from nondecoupling.lm.digests import model_digest, tokenizer_digest
from nondecoupling.lm.enumerated_law import EnumeratedLaw, enumerate_law
from nondecoupling.lm.errors import (
    CollectError,
    LanguageModelError,
    ModelError,
    ProcessesError,
    ResponseError,
    RewardFunctionError,
)
from nondecoupling.lm.language_model import LanguageModel, from_transformers
from nondecoupling.lm.later_checkpoints import score
from nondecoupling.lm.loading import load_model, with_lora
from nondecoupling.lm.sampling import sample_responses
from nondecoupling.lm.scoring import Scores, compare_models, score_responses
from nondecoupling.lm.tiny import tiny_model, tiny_qwen3

__all__ = [
    "CollectError",
    "EnumeratedLaw",
    "LanguageModel",
    "LanguageModelError",
    "ModelError",
    "ProcessesError",
    "ResponseError",
    "RewardFunctionError",
    "Scores",
    "collect",
    "compare_models",
    "enumerate_law",
    "from_transformers",
    "load_model",
    "model_digest",
    "sample_responses",
    "score",
    "score_responses",
    "tiny_model",
    "tiny_qwen3",
    "tokenizer_digest",
    "with_lora",
]
