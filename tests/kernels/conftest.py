"""The implementation under test: chunked, or triton in the process that ``test_triton_interpreter.py`` starts."""

import os

import pytest

pytest.importorskip("torch", reason="the kernels need torch: pip install nondecoupling[torch]")


@pytest.fixture(scope="session")
def impl() -> str:
    return os.environ.get("NONDECOUPLING_KERNEL_UNDER_TEST", "chunked")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The tensors here are tiny: starting threads costs more than they save."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
