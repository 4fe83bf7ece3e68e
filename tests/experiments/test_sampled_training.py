"""The trainers optimise what they are said to: expected gradients, by enumerating every batch of rollouts.

A model with five tokens and responses of at most two of them has 21 responses. With two rollouts per prompt the
gradient that a trainer expects is a sum over 21 x 21 pairs, each weighted by its probability, and it is compared
with the gradient of the objective itself. No sampling, no tolerance for noise.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from trl import GRPOTrainer
from validate.configuration import SampledConfiguration, configuration
from validate.sampled import training
from validate.sampled.rewards import CheckedReward
from validate.sampled.task import Question

from nondecoupling import bounds
from nondecoupling.lm import LanguageModel
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.sampling import draw
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tiny import word_tokenizer
from nondecoupling.lm.tokens import PromptResponse

PROMPT, WORDS, LENGTH, BETA, WEIGHT = " b a", " a b", 2, 0.3, 0.7
CONFIG = configuration(
    {
        "protocol": "sampled",
        "beta": BETA,
        "weight": WEIGHT,
        "generations": 2,
        "rl_prompts": 1,
        "max_tokens": LENGTH,
    }
)
assert isinstance(CONFIG, SampledConfiguration)


def small_model(seed=0):
    tokenizer = word_tokenizer([WORDS])
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
    torch.manual_seed(seed)
    language_model = LanguageModel(Qwen3ForCausalLM(config).float().eval(), tokenizer, "small")
    language_model.model.generation_config = language_model.plain_sampling(LENGTH)
    return language_model


def reward_of_tokens(prompts, completions, completion_ids, **columns):
    """Something that differs between all responses."""
    return [(7 * sum(ids) + 3 * len(ids) + ids[0] ** 2) % 11 / 10 for ids in completion_ids]


def all_responses(tokenizer):
    """Every response: ended by the end-of-sequence token, or cut off after ``LENGTH`` tokens."""
    end, others = (
        tokenizer.eos_token_id,
        [t for t in range(len(tokenizer)) if t != tokenizer.eos_token_id],
    )
    found = []
    for size in range(LENGTH):
        found += [[*prefix, end] for prefix in itertools.product(others, repeat=size)]
    return found + [list(prefix) for prefix in itertools.product(others, repeat=LENGTH)]


class Enumerated:
    """A policy away from its ref, with every response and its probability under both."""

    def __init__(self, language_model, place, rl="rloo", experts=None, **asked):
        self.language_model = language_model
        self.responses = all_responses(language_model.tokenizer)
        self.prompt = language_model.tokenizer(PROMPT)["input_ids"]
        question = Question(PROMPT, "", "here", ("",), (1.0,))
        pairs = [PromptResponse(self.prompt, expert) for expert in experts or []]
        rows = training.rl_rows([question], [pairs] if pairs else None)
        config = replace(CONFIG, rl=rl, **asked)
        reward = CheckedReward("of_tokens", reward_of_tokens)
        self.trainer = training.rl_trainer(
            language_model, rows, reward, config, place, 1, Processes()
        )
        self.row = {"prompt": PROMPT, "label": "", "place": "here"}
        if pairs:
            self.row["experts"] = rows[0]["experts"]
        self.log_ref = self.log_probs().detach()
        self.ref_steps = self.steps()[0].detach()
        with torch.no_grad():  # RL has moved the policy: KL(p||ref) > 0
            generator = torch.Generator().manual_seed(1)
            for p in language_model.model.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
        self.reward = torch.tensor(reward_of_tokens(None, None, self.responses))

    def steps(self):
        """log p of every token after each prefix of a response, the responses, and which of them count."""
        rows = [[*self.prompt, *y] for y in self.responses]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        logits = self.language_model.model(input_ids=tokens).logits
        steps = torch.log_softmax(logits[:, len(self.prompt) - 1 : -1], dim=-1)
        mask = torch.tensor([[i < len(y) for i in range(steps.shape[1])] for y in self.responses])
        return steps, tokens[:, len(self.prompt) :], mask

    def log_probs(self):
        """log p of every response, differentiable, from the model's own logits."""
        steps, tokens, mask = self.steps()
        return (steps.gather(2, tokens[..., None])[..., 0] * mask).sum(dim=1)

    def gradient_of(self, objective):
        model = self.language_model.model
        model.zero_grad()
        objective().backward()
        return torch.cat([p.grad.flatten().clone() for p in model.parameters()])

    def regularized_reward(self):
        log_p = self.log_probs()
        return (log_p.exp() * (self.reward - BETA * (log_p - self.log_ref))).sum()

    def with_a_leash_on_tokens(self, rl):
        """The reward, of which GRPO's mean takes off 1/G, less beta times a KL of each next token where p goes."""
        steps, _, mask = self.steps()
        visited = self.log_probs().detach().exp()
        if rl == "k3-in-loss":
            kl = (self.ref_steps.exp() * (self.ref_steps - steps)).sum(dim=2)
        else:
            kl = (steps.exp() * (steps - self.ref_steps)).sum(dim=2)
        leash = (visited * (kl * mask).sum(dim=1)).sum()
        reward = (self.log_probs().exp() * self.reward).sum()
        return (reward * (1 - 1 / CONFIG.generations) - BETA * leash) / LENGTH

    def sft_loss(self, expert):
        return -self.log_probs()[self.responses.index(expert)]

    def expected_gradient(self):
        """Minus the gradient of the trainer's loss, averaged over all pairs of rollouts."""
        trainer, model = self.trainer, self.language_model.model
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1  # set by the training loop
        probability = self.log_probs().detach().exp()
        assert probability.sum() == pytest.approx(1, abs=1e-5)
        total = 0.0
        for i, j in itertools.product(range(len(self.responses)), repeat=2):
            rollouts = [self.responses[i], self.responses[j]]
            texts = self.language_model.tokenizer.batch_decode(rollouts)
            generated: tuple = ([self.prompt] * 2, rollouts, texts)
            if isinstance(
                trainer, GRPOTrainer
            ):  # no tools, no sampler's log-probabilities, no images
                generated = ([self.prompt] * 2, rollouts, None, texts, None, {}, None, None)
            trainer._generate = lambda prompts, g=generated: g
            inputs = [dict(self.row), dict(self.row)]
            batch = trainer._generate_and_score_completions(inputs)
            weight = probability[i] * probability[j]
            gradient = self.gradient_of(lambda b=batch: trainer._compute_loss(model, b))
            total = total - weight * gradient
        return total


def cosine_and_ratio(a, b):
    return float(a @ b / a.norm() / b.norm()), float(a.norm() / b.norm())


@pytest.mark.slow  # enumerates every group of responses
def test_rloo_follows_the_gradient_of_the_regularised_reward(tmp_path):
    world = Enumerated(small_model(), tmp_path, "rloo")
    exact = world.gradient_of(world.regularized_reward)
    cosine, ratio = cosine_and_ratio(world.expected_gradient(), exact)
    assert cosine == pytest.approx(1, abs=1e-5)
    assert ratio == pytest.approx(1, rel=1e-3)


@pytest.mark.slow  # enumerates every group of responses
def test_grpo_follows_another_gradient(tmp_path):
    world = Enumerated(small_model(), tmp_path, "grpo")
    exact = world.gradient_of(world.regularized_reward)
    cosine, _ = cosine_and_ratio(world.expected_gradient(), exact)
    assert cosine == pytest.approx(0.82, abs=0.01)  # the figure of docs/validate.md


@pytest.mark.slow  # enumerates every group of responses
@pytest.mark.parametrize(
    ("rl", "other"), [("k3-in-loss", "k3-with-ratio"), ("k3-with-ratio", "k3-in-loss")]
)
def test_each_k3_pulls_every_token_by_its_own_divergence(rl, other, tmp_path):
    world = Enumerated(small_model(), tmp_path, rl)
    found = world.expected_gradient()
    exact = world.gradient_of(lambda: world.with_a_leash_on_tokens(rl))
    cosine, ratio = cosine_and_ratio(found, exact)
    assert cosine == pytest.approx(1, abs=1e-5)
    assert ratio == pytest.approx(1, rel=1e-3)
    wrong = world.gradient_of(lambda: world.with_a_leash_on_tokens(other))
    assert cosine_and_ratio(found, wrong)[0] < 1 - 1e-4


@pytest.mark.slow  # enumerates every group of responses
def test_joint_training_adds_the_gradient_of_the_sft_loss(tmp_path):
    language_model = small_model()
    expert = [3, language_model.tokenizer.eos_token_id]
    world = Enumerated(language_model, tmp_path, "rloo", experts=[expert])
    exact = world.gradient_of(lambda: world.regularized_reward() - WEIGHT * world.sft_loss(expert))
    found = world.expected_gradient()
    cosine, ratio = cosine_and_ratio(found, exact)
    assert cosine == pytest.approx(1, abs=1e-5)
    assert ratio == pytest.approx(1, rel=1e-3)
    without = world.gradient_of(world.regularized_reward)
    assert cosine_and_ratio(found, without)[0] < 0.99


def by_turns(place):
    """Three RL steps and one of SFT, on two experts' responses of unlike length."""
    language_model = small_model()
    end = language_model.tokenizer.eos_token_id
    asked = {"order": "alternate", "rl_steps": 4, "cycles": 1, "sft_share": 0.25}
    return Enumerated(language_model, place, experts=[[3, end], [end]], **asked), [[3, end], [end]]


@pytest.mark.slow  # enumerates every group of responses
def test_alternation_has_rl_without_a_leash(tmp_path):
    world, _ = by_turns(tmp_path)
    for step in (0, 2, 4):
        world.trainer.state.global_step = step
        found = world.expected_gradient()
        exact = world.gradient_of(lambda: (world.log_probs().exp() * world.reward).sum())
        cosine, ratio = cosine_and_ratio(found, exact)
        assert cosine == pytest.approx(1, abs=1e-5)
        assert ratio == pytest.approx(1, rel=1e-3)


def test_in_its_turn_sft_takes_every_expert_response_and_draws_none(tmp_path):
    world, experts = by_turns(tmp_path)
    world.trainer.state.global_step = 3
    world.trainer._generate = lambda prompts: pytest.fail("drew responses")
    batch = world.trainer._generate_and_score_completions([dict(world.row), dict(world.row)])
    found = world.gradient_of(
        lambda: world.trainer._compute_loss(world.language_model.model, batch)
    )
    exact = world.gradient_of(lambda: sum(map(world.sft_loss, experts)) / len(experts))
    torch.testing.assert_close(found, exact)


def test_the_rate_of_alternation_stays_and_its_gradients_are_not_clipped(tmp_path):
    args = by_turns(tmp_path)[0].trainer.args
    assert args.lr_scheduler_type == "constant_with_warmup" and args.max_grad_norm == 0
    assert args.beta == 0 and not list(tmp_path.iterdir()), "it writes a ref that it has no use for"


def test_processes_share_the_experts_responses_of_a_group():
    """Four rows of two prompts with two responses each, over two processes: every response once."""
    rows = [{"experts": [[[1], [10 * prompt + one]] for one in (2, 3)]} for prompt in (1, 2)]
    local = [[rows[0], rows[0]], [rows[1], rows[1]]]
    for share in (local, [[row] for pair in local for row in pair]):
        seen = []
        for rank, inputs in enumerate(share):
            accelerator = SimpleNamespace(process_index=rank, device="cpu")
            found = training._WithSft._experts(SimpleNamespace(accelerator=accelerator), inputs)
            assert found["asked_ids"].tolist() == [[1]] * len(inputs)
            seen += found["expert_ids"].flatten().tolist()
        assert seen == [12, 13, 22, 23]


@pytest.mark.slow  # enumerates every group of responses
def test_a_wrong_kl_weight_would_be_noticed(tmp_path):
    world = Enumerated(small_model(), tmp_path, "rloo")
    world.trainer.beta = 0.9 * BETA
    exact = world.gradient_of(world.regularized_reward)
    cosine, ratio = cosine_and_ratio(world.expected_gradient(), exact)
    assert cosine < 1 - 1e-5 or abs(ratio - 1) > 1e-3


def test_the_sft_loss_is_that_of_whole_responses_over_the_tokens_of_the_batch(tmp_path):
    """Not a mean over responses of their mean token losses, however they differ in length."""
    language_model = small_model()
    world_model = language_model.model
    end = language_model.tokenizer.eos_token_id
    prompt = language_model.tokenizer(PROMPT)["input_ids"]
    pairs = [PromptResponse(prompt, y) for y in ([3, 4, 3, end], [end], [4, end])]
    config = replace(CONFIG, sft_batch=len(pairs))
    rows = training.sft_rows(pairs)
    trainer = training.sft_trainer(language_model, rows, config, tmp_path, 1, Processes())
    batch = next(iter(trainer.get_train_dataloader()))
    tokens = sum(len(pair.response) for pair in pairs)
    with torch.no_grad():
        loss = float(
            trainer.compute_loss(world_model, dict(batch), num_items_in_batch=torch.tensor(tokens))
        )
    assert loss * tokens == pytest.approx(-log_probs(language_model, pairs).sum(), rel=1e-5)


def test_the_weighted_loss_is_the_cross_entropy_to_the_weighted_law(tmp_path):
    """Every response once, with its probability under p* as its weight: the gradient is that of CE(p*, p)."""
    language_model = small_model()
    language_model.model.double()
    world = Enumerated(language_model, tmp_path / "rl", "rloo")
    law = bounds.forward_leash_optimum(world.log_ref.numpy(), world.reward.double().numpy(), BETA)
    pairs = [PromptResponse(world.prompt, y) for y in world.responses]
    rows = training.sft_rows(pairs, (len(pairs) * np.exp(law)).tolist())
    trainer = training.sft_trainer(language_model, rows, CONFIG, tmp_path, 1, Processes())
    (batch,) = trainer.get_train_dataloader()
    assert trainer.args.learning_rate == CONFIG.rl_rate

    def log_probs(input_ids, attention_mask, labels, **options):
        """As the fused head has them, whose sums are in float32 whatever the model's are."""
        logits = language_model.model(input_ids=input_ids, attention_mask=attention_mask).logits
        steps, labels = torch.log_softmax(logits[:, :-1], dim=-1), labels[:, 1:]
        each = steps.gather(2, labels.clamp(min=0)[..., None])[..., 0]
        return SimpleNamespace(log_probs=torch.where(labels >= 0, each, 0.0))

    def cross_entropy():
        log_p = log_probs(**{name: batch[name] for name in batch if name != "weight"}).log_probs
        return -(torch.from_numpy(np.exp(law)) * log_p.sum(dim=1)).sum()

    exact = world.gradient_of(cross_entropy)
    assert exact.dtype == torch.float64 and exact.norm() > 0.1
    in_float64 = world.gradient_of(lambda: trainer.compute_loss(log_probs, dict(batch)))
    torch.testing.assert_close(in_float64, exact, rtol=1e-10, atol=1e-14)
    fused = world.gradient_of(lambda: trainer.compute_loss(language_model.model, dict(batch)))
    torch.testing.assert_close(fused, exact, rtol=1e-4, atol=1e-6)


def test_the_sampler_draws_from_the_law_that_it_scores():
    """21 responses: frequencies against exact probabilities, by a chi-squared test at level 1e-4."""
    from scipy import stats

    language_model = small_model(3)
    responses = all_responses(language_model.tokenizer)
    prompt = language_model.tokenizer(PROMPT)["input_ids"]
    count = 20_000
    chances = np.exp(log_probs(language_model, [PromptResponse(prompt, y) for y in responses]))
    assert chances.sum() == pytest.approx(1, abs=1e-6)
    drawn = draw(language_model, [prompt] * count, LENGTH, seed=0, rows_at_once=4096)
    counts = np.array([drawn.count(y) for y in responses])
    assert counts.sum() == count
    assert stats.chisquare(counts, count * chances / chances.sum()).pvalue > 1e-4
    assert stats.chisquare(counts, count * _hotter(chances)).pvalue < 1e-4


def _hotter(chances):
    """The same law at another temperature, as a sampler that does not match its scorer would have."""
    return chances**0.9 / (chances**0.9).sum()
