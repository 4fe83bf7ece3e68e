"""Why a monitor refuses a training, before its first step. Both are ``ValueError``."""

from __future__ import annotations


class SamplesOfAnotherModel(ValueError):
    """The samples were collected from another model, or with another tokenizer, than the training starts from."""


class SamplingDiffers(ValueError):
    """The training draws its rollouts from another law than that of the policy that the samples were drawn from."""
