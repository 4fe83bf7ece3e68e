"""The implementation under test: chunked, or triton in the process that ``test_triton_interpreter.py`` starts.

With NONDECOUPLING_KERNEL_DEVICE=cuda every tensor that a test makes is on the GPU (``gpu_session.sh`` does that).
"""

import os

import pytest

torch = pytest.importorskip(
    "torch", reason="the kernels need torch: pip install nondecoupling[torch]"
)
# Before the test files are imported: some make their tensors then.
torch.set_default_device(os.environ.get("NONDECOUPLING_KERNEL_DEVICE"))


@pytest.fixture(scope="session")
def impl() -> str:
    return os.environ.get("NONDECOUPLING_KERNEL_UNDER_TEST", "chunked")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The tensors here are tiny: starting threads costs more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
