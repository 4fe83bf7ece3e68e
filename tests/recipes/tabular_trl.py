"""TRL's own trainers on a model that is a table: expected gradients over all groups of responses.

A tiny Qwen3 whose last hidden states, one per prefix, are linearly independent: its head can give every
prefix any logits. Only the sampler is replaced, by each group in turn; rewards, advantages and the loss
are computed by TRL.
"""

from __future__ import annotations

import copy
import itertools
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from nondecoupling.formulas.trees import TokenTree
from nondecoupling.lm.tiny import word_tokenizer

PROMPT, WORDS = " b a", " a b"


def small_model(tokenizer: Any) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.3,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config).double().eval()


def all_responses(tokens: int, end: int, length: int) -> list[list[int]]:
    """Every response: ended by the end-of-sequence token, or cut off after ``length`` tokens."""
    others = [t for t in range(tokens) if t != end]
    ended = [[*p, end] for k in range(length) for p in itertools.product(others, repeat=k)]
    return ended + [list(p) for p in itertools.product(others, repeat=length)]


class TabularTrainer:
    """One of TRL's trainers, with its reference, on every response of up to ``length`` tokens."""

    def __init__(
        self, options: dict[str, Any], place: Path, *, rloo: bool = False, length: int = 1
    ) -> None:
        tokenizer = word_tokenizer([WORDS])
        self.model = small_model(tokenizer)
        self.prompt = tokenizer(PROMPT)["input_ids"]
        self.responses = all_responses(len(tokenizer), tokenizer.eos_token_id, length)
        self.tree = TokenTree(tuple(map(tuple, self.responses)))
        self.texts = tokenizer.batch_decode(self.responses)
        self.reward = np.zeros(len(self.responses))
        size = options["num_generations"]
        Config, Trainer = (RLOOConfig, RLOOTrainer) if rloo else (GRPOConfig, GRPOTrainer)
        self.config = Config(
            output_dir=str(place),
            per_device_train_batch_size=size,
            max_completion_length=length,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
            **options,
        )
        self.model.save_pretrained(place / "ref")  # where TRL looks for the reference
        self.model.config._name_or_path = str(place / "ref")
        self.trainer = Trainer(
            model=self.model,
            reward_funcs=self._rewards,
            args=self.config,
            train_dataset=Dataset.from_list([{"prompt": PROMPT}]),
            processing_class=tokenizer,
        )
        if self.trainer.ref_model is not None:
            self.trainer.ref_model = copy.deepcopy(self.model)  # in double precision
        self.trainer.model.train()
        self.trainer.current_gradient_accumulation_steps = 1  # set by the training loop
        self.log_ref = self.log_probs().detach().numpy()

    def _rewards(
        self, prompts: Any, completions: Any, completion_ids: Any, **_: Any
    ) -> list[float]:
        return [float(self.reward[self.responses.index(list(ids))]) for ids in completion_ids]

    def log_probs(self) -> Tensor:
        """log p of every response, differentiable, from the model's own logits."""
        width = max(map(len, self.responses))
        rows = [[*self.prompt, *y] + [0] * (width - len(y)) for y in self.responses]
        tokens = torch.tensor(rows)
        logits = self.model(input_ids=tokens).logits
        steps = torch.log_softmax(logits[:, len(self.prompt) - 1 : -1], dim=-1)
        picked = steps.gather(2, tokens[:, len(self.prompt) :, None])[..., 0]
        mask = torch.tensor([[k < len(y) for k in range(width)] for y in self.responses])
        return (picked * mask).sum(dim=1)

    def gradient_of(self, value: Tensor) -> Tensor:
        """In all parameters of the model, in one row."""
        self.model.zero_grad()
        value.backward()
        grads = (p.grad for p in self.model.parameters())
        return torch.cat([g.flatten() for g in grads if g is not None])

    def expected_gradient(self) -> Tensor:
        """What TRL's loss descends, with the sign of an ascent: a sum over all groups, in any order."""
        probability = self.log_probs().detach().exp().tolist()
        assert abs(sum(probability) - 1) < 1e-12
        size = self.config.num_generations
        total = torch.zeros(())
        for group in itertools.combinations_with_replacement(range(len(self.responses)), size):
            orders = math.factorial(size)
            for i in set(group):
                orders //= math.factorial(group.count(i))
            weight = orders * math.prod(probability[i] for i in group)
            total = total - weight * self.gradient_of(self._loss(group))
        return total

    def _loss(self, group: tuple[int, ...]) -> Tensor:
        responses, texts = ([x[i] for i in group] for x in (self.responses, self.texts))
        prompts = [self.prompt] * len(group)
        sampled: tuple[Any, ...] = (prompts, responses, texts)
        if isinstance(self.trainer, GRPOTrainer):  # no tools, sampler's log-probabilities, images
            sampled = (prompts, responses, None, texts, None, {}, None, None)
        self.trainer._generate = lambda _: sampled
        batch = self.trainer._generate_and_score_completions([{"prompt": PROMPT} for _ in group])
        return self.trainer._compute_loss(self.model, batch)

    # --- the table: logits of each prefix -----------------------------------------------------

    @cached_property
    def states(self) -> Tensor:
        """The last hidden state at each prefix of the tree, [prefixes, width]."""
        rows = [[*self.prompt, *prefix] for prefix in self.tree.prefixes]
        with torch.no_grad():
            found = [self.model.model(torch.tensor([row])).last_hidden_state[0, -1] for row in rows]
        return torch.stack(found)

    def set_law(self, log_p: np.ndarray) -> None:
        """Make this the law of the responses, by the model's head alone."""
        mass, tokens = np.exp(log_p), len(self.model.lm_head.weight)
        table = np.zeros((len(self.tree.prefixes), tokens))
        for k, prefix in enumerate(self.tree.prefixes):
            for token, leaves in self.tree.continuations(prefix).items():
                table[k, token] = np.log(mass[list(leaves)].sum())
        with torch.no_grad():
            self.model.lm_head.weight.copy_(
                (torch.linalg.pinv(self.states) @ torch.tensor(table)).T
            )

    def logit_gradient(self) -> np.ndarray:
        """The expected gradient in the logits of the first token, from that of the head."""
        (state,) = self.states
        count = self.model.lm_head.weight.numel()
        assert [name for name, _ in self.model.named_parameters()][-1] == "lm_head.weight"
        head = self.expected_gradient()[-count:].reshape(self.model.lm_head.weight.shape)
        in_logits = head @ state / (state @ state)
        # The head's gradient has no other direction; TRL's rewards are in single precision.
        assert (head - torch.outer(in_logits, state)).norm() < 1e-6
        return in_logits[torch.tensor([y[0] for y in self.responses])].numpy()
