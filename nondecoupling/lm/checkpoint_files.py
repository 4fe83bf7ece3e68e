"""What lies in a model's folder before it is loaded: files that would load as something else than they seem."""

from __future__ import annotations

from pathlib import Path

from nondecoupling.lm.errors import ModelError

__all__ = ["check_folder", "check_not_a_pointer"]

POINTER = b"version https://git-lfs.github.com/spec/"
MERGE = (
    "python -c \"from peft import AutoPeftModelForCausalLM as M; m = M.from_pretrained('{folder}'); "
    "m.merge_and_unload().save_pretrained('MERGED')\""
)
CONVERT = (
    "python -c \"import torch; from safetensors.torch import save_file; s = torch.load('{file}', weights_only=True); "
    "save_file({{k: v.clone() for k, v in s.items()}}, '{folder}/model.safetensors', {{'format': 'pt'}})\""
)


def check_folder(folder: Path) -> None:
    """
    Raises:
        ModelError: there is no configuration, an adapter, a Git-LFS pointer, or weights are pickled.
    """
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"the folder {str(folder)!r} holds an adapter (adapter_config.json), which would be trained and scored "
            f"in place of the whole model; merge it, and pass the folder MERGED with the tokenizer in it: "
            f"{MERGE.format(folder=folder)}"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"the folder {str(folder)!r} has no config.json; pass a folder written by save_pretrained "
            "(config.json, model.safetensors, tokenizer.json)"
        )
    for file in sorted(folder.iterdir()):
        if file.is_file():
            check_not_a_pointer(file)
    pickled = sorted(folder.glob("pytorch_model*.bin"))
    if pickled and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"the weights in {str(folder)!r} are pickled ({pickled[0].name}), and loading a pickle may run its code; "
            f"convert them where you trust the file: {CONVERT.format(file=pickled[0], folder=folder)}"
        )


def check_not_a_pointer(file: Path) -> None:
    """
    Raises:
        ModelError: Git LFS left a pointer in place of the file.
    """
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            raise ModelError(
                f"{file} is a Git-LFS pointer, not the file itself; fetch it with `git lfs pull` in its repository"
            )
