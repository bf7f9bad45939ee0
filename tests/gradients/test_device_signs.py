"""The dense projection's signs on a device are NumPy's, bit by bit, in torch and in Triton."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections.base import random_words
from icons_repro.gradients.projections.philox import philox_key, philox_words
from icons_repro.gradients.projections.rademacher import BLOCK, Rademacher

CPU = torch.device("cpu")
DEVICES = [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

INTERPRETED = """
import numpy as np, torch
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections.fused_signs import add_signed, fits
from icons_repro.gradients.projections.rademacher import BLOCK, Rademacher

for dim, rows, blocks in [(256, 1, 1), (200, 5, 3), (500, 17, 4), (1024, 3, 2), (961, 35, 1)]:
    projection = Rademacher(ParameterLayout(("a",), ((6 * BLOCK,),)), dim, seed=dim)
    assert fits(dim, BLOCK), dim
    first = 6 - blocks
    signs = projection.signs(first, blocks, torch.zeros(1))
    keys = projection._drawn_keys(torch.device("cpu"))[first:]
    whole = torch.randint(-1000, 1000, (rows, blocks * BLOCK)).float()
    out = torch.ones(rows, dim)
    add_signed(out, whole, keys, BLOCK, 0.5)
    assert torch.equal(out, 1 + 0.5 * (whole @ signs)), (dim, rows, blocks)  # exact in float32
    real = torch.randn(rows, 2 * blocks * BLOCK)[:, ::2]  # a view, not contiguous
    out = torch.zeros(rows, dim)
    add_signed(out, real, keys, BLOCK, 1.0)
    error = (out.double() - real.double() @ signs.double()).abs().max()
    assert error < 1e-5 * (blocks * BLOCK) ** 0.5, error
assert not fits(257, BLOCK)
print("same")
"""


def as_keys(seed: int, blocks: range, device: torch.device) -> torch.Tensor:
    keys = np.stack([philox_key(seed, block) for block in blocks])
    return torch.from_numpy(keys.view(np.int64)).to(device)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    block=st.integers(0, 2**31),
    count=st.integers(1, 4),
    calls=st.integers(1, 90),
)
def test_torch_words_are_numpys(
    device: torch.device, seed: int, block: int, count: int, calls: int
) -> None:
    blocks = range(block, block + count)
    drawn = philox_words(as_keys(seed, blocks, device), calls).cpu().numpy().view(np.uint64)
    for row, b in zip(drawn, blocks, strict=True):
        np.testing.assert_array_equal(row, random_words(seed, (b,), 4 * calls))


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("dim", [1, 63, 64, 65, 127, 200, 256, 300, 1000])
def test_bits_drawn_on_a_device_are_the_numpy_twins(device: torch.device, dim: int) -> None:
    projection = Rademacher(ParameterLayout(("a",), ((7 * BLOCK + 11,),)), dim, seed=3)
    for first, count in ((0, 1), (2, 3), (7, 1), (0, 8)):
        found = projection.device_bits(first, count, device).cpu().numpy()
        twin = np.concatenate([projection._bits(first + i) for i in range(count)])
        np.testing.assert_array_equal(found, twin)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dim", [65, 256, 5120])
def test_a_device_projects_as_the_cpu_does(dim: int) -> None:
    projection = Rademacher(ParameterLayout(("a", "b"), ((3000,), (70, 41))), dim)
    rows = torch.randint(-100, 100, (19, projection.layout.dim)).float() * dim**0.5
    on_cpu, on_device = projection.project(rows), projection.project(rows.cuda()).cpu()
    torch.testing.assert_close(on_device, on_cpu, rtol=1e-5, atol=1e-2)
    assert torch.equal(projection.project(rows.cuda()).cpu(), on_device)


@needs_triton
def test_the_fused_kernel_multiplies_with_the_same_signs() -> None:
    """Triton's interpreter must be asked for before Triton is imported, hence the process."""
    source = Path(__file__).parents[2] / "src"
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(source)}
    command = [sys.executable, "-W", "ignore", "-c", INTERPRETED]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
def test_the_fused_kernel_compiles_and_draws_each_word_once(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's code needs no GPU: 19 high products are one Philox call a thread and step."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # said aloud, it warns of nothing
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from icons_repro.gradients.projections import fused_signs as fused

    kernel = fused._partial_products
    types = {"parts": "*fp32", "terms": "*bf16", "keys": "*i64"}
    fixed = {"BLOCK": BLOCK, "ROWS": fused.ROWS, "DEPTH": fused.DEPTH}
    signature = {n: "constexpr" if n in fixed else types.get(n, "i32") for n in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in fixed.items()}
    source = ASTSource(kernel, signature, places)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert built.asm["ptx"].count("mul.hi.u64") <= 20
    assert built.asm["cubin"]
