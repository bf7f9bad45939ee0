"""NumPy's Philox4x64-10 in torch's integer operations: the same words on any device.

A word is a function of (key, number of the call), so any part of a random matrix can be made where
it is used, in any order, and thrown away (Salmon et al. 2011). torch has no unsigned 64-bit product
with a high half; it is put together from 32-bit limbs in int64, whose products and sums wrap.
"""

from __future__ import annotations

import numpy as np
import torch

MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
LOW = 0xFFFFFFFF


def philox_key(seed: int, block: int) -> np.ndarray:
    """Return the key that `random_words(seed, (block,), n)` draws with: uint64 `[2]`."""
    return np.random.SeedSequence([seed, block]).generate_state(2, np.uint64)


def philox_words(keys: torch.Tensor, calls: int) -> torch.Tensor:
    """Return the first `4 * calls` words of each key, in the order of NumPy's `random_raw`.

    Args:
        keys: int64 `[n, 2]`, the bits of uint64 keys.
        calls: how often each generator is called; one call gives four words.

    Returns:
        int64 `[n, 4 * calls]` with the bits of uint64 words. About ten such tensors, a quarter as
        long, live while it works, so the caller bounds `n`.
    """
    counter = torch.arange(1, calls + 1, device=keys.device)  # NumPy counts before it draws
    first, second = keys[:, :1], keys[:, 1:]
    zero = torch.zeros_like(first)
    state = [counter.expand(len(keys), calls), zero, zero, zero]
    for _ in range(ROUNDS):
        high0, low0 = _product(MULTIPLIERS[0], state[0])
        high1, low1 = _product(MULTIPLIERS[1], state[2])
        state = [high1 ^ state[1] ^ first, low1, high0 ^ state[3] ^ second, low0]
        first, second = first + _signed(WEYL[0]), second + _signed(WEYL[1])
    return torch.stack([part.expand(len(keys), calls) for part in state], 2).flatten(1)


def _product(constant: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the high and the low 64 bits of `constant * x`, both taken as unsigned."""
    m0, m1 = constant & LOW, constant >> 32
    x0, x1 = x & LOW, (x >> 32) & LOW
    middle = x0 * m1 + _upper(x0 * m0)  # at most 2^64 - 2^32: cannot wrap
    carry = x1 * m0 + (middle & LOW)
    return x1 * m1 + _upper(middle) + _upper(carry), x * _signed(constant)


def _upper(x: torch.Tensor) -> torch.Tensor:
    """Return the upper 32 bits as a number (the shift of a signed type drags the sign along)."""
    return (x >> 32) & LOW


def _signed(constant: int) -> int:
    """Return the int64 with the bits of a uint64."""
    return constant - (constant >> 63 << 64)
