"""What PEFT puts into a model: methods that cannot be scored, and the adapters that take part in the law.

PEFT is not imported: its layers and configurations are told by their attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from nondecoupling.lm.errors import ModelError

__all__ = ["Adapters", "adapters_of", "refuse_adapted_head", "refuse_unscorable"]

MIXTURES = ("XLORA", "POLY")
LAST_FACTORS = ("lora_B", "lora_embedding_B")
SAVED = "modules_to_save"


def refuse_unscorable(model: nn.Module) -> None:
    """
    Raises:
        ModelError: an adapter acts in the wrapper, and would be passed over where the model inside is asked.
    """
    for name, config in (getattr(model, "peft_config", None) or {}).items():
        method = str(getattr(config.peft_type, "value", config.peft_type))
        if config.is_prompt_learning:
            reason = "puts tokens or keys before the prompt"
        elif getattr(config, "alora_invocation_tokens", None) is not None:
            reason, method = "acts only behind its invocation tokens (activated LoRA)", "aLoRA"
        elif method in MIXTURES:
            reason = "mixes adapters by the input"
        else:
            continue
        raise ModelError(
            f"the adapter {name!r} of {type(model).__name__} is of the method {method}, which {reason}: scores would "
            "be those of the model without it; use LoRA, or a method that can be merged into the weights"
        )


def refuse_adapted_head(head: nn.Module) -> None:
    """
    Raises:
        ModelError: scores would take the weight below the adapter.
    """
    if any(hasattr(module, "get_base_layer") for module in head.modules()):
        raise ModelError(
            f"the output embeddings are a {type(head).__name__} with an adapter, and scores would pass it over; leave "
            "the head out of target_modules, or merge the adapters with merge_and_unload"
        )


@dataclass(frozen=True)
class Adapters:
    """What the adapters of a model are to its law: ``idle`` names, or starts the name of, each tensor without a part.

    ``facts`` are lines that say what else the others compute with.
    """

    idle: frozenset[str]
    facts: tuple[str, ...]

    def counts(self, name: str) -> bool:
        """Whether the tensor of this name takes part."""
        parts = name.split(".")
        return not any(".".join(parts[:end]) in self.idle for end in range(1, len(parts) + 1))


def adapters_of(model: nn.Module) -> Adapters:
    """Adapters that are disabled, merged into the weights, or not chosen have no part in the law.

    Nor have those of LoRA that add nothing yet: they add B A, with B = 0 at first.
    """
    idle: set[str] = set()
    facts: list[str] = []
    for name, layer in model.named_modules():
        if not isinstance(getattr(type(layer), "adapter_layer_names", None), tuple):
            continue
        on = not layer.disable_adapters and not layer.merged_adapters
        active = [one for one in layer.active_adapters if on and not _adds_nothing(layer, one)]
        for kind in (*layer.adapter_layer_names, *layer.other_param_names):
            idle |= {f"{name}.{kind}.{one}" for one in _of(layer, kind) if one not in active}
        if any(one in _of(layer, SAVED) for one in active):
            idle.add(f"{name}.original_module")
        scaling, variants = _of(layer, "scaling"), _of(layer, "lora_variant")
        facts += [
            f"{name} {one} {float(scaling[one]):.6g} {type(variants.get(one)).__name__}"
            for one in active
            if one in scaling
        ]
    return Adapters(frozenset(idle), tuple(facts))


def _of(layer: nn.Module, kind: str) -> Any:
    """What a layer has of one kind, by adapter."""
    found: Any = layer
    for part in kind.split("."):
        found = getattr(found, part, {})
    return found if hasattr(found, "keys") else {}


def _adds_nothing(layer: nn.Module, adapter: str) -> bool:
    last = [_of(layer, kind)[adapter] for kind in LAST_FACTORS if adapter in _of(layer, kind)]
    tensors = [
        tensor
        for factor in last
        for tensor in (factor.parameters() if isinstance(factor, nn.Module) else [factor])
    ]
    return bool(tensors) and not any(bool(tensor.any()) for tensor in tensors)
