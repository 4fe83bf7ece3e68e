"""Per-token log-probability, logsumexp, entropy and exact two-model KL, without storing logits.

Main definitions
    token_stats       log-probability, logsumexp and entropy per token, the logsumexp outside a list, and for
                      tests of a sampler the log-sums at other temperatures and the ranks of the targets
    token_kl          KL(p || q) per token of two models, over the whole vocabulary
    sequence_logprob  log-probabilities of masked sequences

Needs torch. Triton is imported only by ``impl="triton"``.
"""

from nondecoupling.kernels.ranks import Ranks
from nondecoupling.kernels.token_stats import TokenStats, sequence_logprob, token_kl, token_stats

__all__ = ["Ranks", "TokenStats", "sequence_logprob", "token_kl", "token_stats"]
