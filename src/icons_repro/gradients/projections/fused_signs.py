"""One Triton kernel that draws random signs in registers and multiplies with them.

    out[b, :] += sum over k of values[b, k] * sign(k, :)

A program owns 256 columns (the four words of one Philox call) and a stretch of coordinates; the
matrix exists for 128 coordinates at a time, and nowhere in memory. Values are cut into three
bfloat16 parts, which together hold all 24 bits of a float32, since signs are exact in bfloat16: the
products are as good as float32's and run on tensor cores. Stretches are added in a fixed order
afterwards, without atomics, so that every run gives the same bits.

`TRITON_INTERPRET=1` runs it on a CPU, which is how it is tested where there is no GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

COLUMNS = 256
"""Columns of one program: four words of 64 signs."""
DEPTH = 128
"""Coordinates whose signs exist at once; one Philox call a thread with four warps."""
ROWS = 16
"""Samples of one program: what a matrix product of tensor cores has at least."""
PROGRAMS = 1024
"""Programs wanted: a few for each multiprocessor of a large GPU."""


def fits(dim: int, block: int) -> bool:
    """Return whether each coordinate's signs begin at a new Philox call, as the kernel needs."""
    return -(-dim // 64) % 4 == 0 and block % DEPTH == 0


def add_signed(
    out: torch.Tensor, values: torch.Tensor, keys: torch.Tensor, block: int, scale: float
) -> None:
    """Add `scale * values @ signs` to `out`.

    Args:
        out: float32 `[B, dim]`, changed in place.
        values: float32 `[B, n * block]`.
        keys: int64 `[n, 2]`, one Philox key for each block of coordinates.
        block: coordinates drawn with one key.
        scale: factor of the product.
    """
    rows, length = values.shape
    terms = _exact_terms(values, torch.bfloat16 if out.is_cuda else torch.float32)
    dim = out.shape[1]
    tiles = triton.cdiv(dim, COLUMNS)
    steps = length // DEPTH
    groups = triton.cdiv(rows, ROWS)
    each = triton.cdiv(steps, max(1, min(steps, PROGRAMS // (tiles * groups))))
    splits = triton.cdiv(steps, each)
    parts = torch.empty(splits, rows, dim, device=out.device, dtype=torch.float32)
    _partial_products[(tiles, splits, groups)](
        parts, terms, keys, rows, dim, steps, each, length, block, ROWS, DEPTH
    )
    out.add_(parts.sum(dim=0), alpha=scale)


def _exact_terms(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return three terms whose sum is `values`, `[3, B, K]`; Triton's interpreter takes float32."""
    terms, rest = [], values
    for _ in range(3):
        terms.append(rest.to(dtype))
        rest = rest - terms[-1].to(values.dtype)
    return torch.stack(terms)


@triton.jit
def _times_signs(
    total: tl.tensor, v0: tl.tensor, v1: tl.tensor, v2: tl.tensor, half: tl.tensor
) -> tl.tensor:
    """Add (v0 + v1 + v2) @ signs to `total`: bit j of uint32 `[K]` is the sign of column j."""
    up = 31 - tl.arange(0, 32)[None, :]
    sign = ((half ^ 0xFFFFFFFF)[:, None] << up.to(tl.uint32)) & 0x80000000
    signs = (sign | 0x3F800000).to(tl.float32, bitcast=True).to(v0.dtype)
    return tl.dot(v0, signs, tl.dot(v1, signs, tl.dot(v2, signs, total)))


@triton.jit
def _times_word(
    low: tl.tensor,
    high: tl.tensor,
    v0: tl.tensor,
    v1: tl.tensor,
    v2: tl.tensor,
    word: tl.tensor,
) -> tuple[tl.tensor, tl.tensor]:
    """Add the products with one word's 64 columns to the totals of its halves."""
    low = _times_signs(low, v0, v1, v2, (word & 0xFFFFFFFF).to(tl.uint32))
    high = _times_signs(high, v0, v1, v2, (word >> 32).to(tl.uint32))
    return low, high


@triton.jit
def _store(
    to: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    column: tl.tensor,
    rows_left: tl.tensor,
    dim: tl.tensor,
) -> None:
    """Write one word's 64 columns."""
    tl.store(to, low, mask=rows_left & (column < dim))
    tl.store(to + 32, high, mask=rows_left & (column + 32 < dim))


@triton.jit
def _philox(
    key0: tl.tensor, key1: tl.tensor, counter: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """The four words of Philox4x64-10 for counters uint64 `[K]`."""
    zero = counter ^ counter
    c0, c1, c2, c3 = counter, zero, zero, zero
    m0 = zero + 0xD2E7470EE14C6C93
    m1 = zero + 0xCA5A826395121157
    for _ in tl.static_range(10):
        high0 = tl.umulhi(c0, m0)
        high1 = tl.umulhi(c2, m1)
        low0 = c0 * m0
        c0 = high1 ^ c1 ^ key0
        c1 = c2 * m1
        c2 = high0 ^ c3 ^ key1
        c3 = low0
        key0 += 0x9E3779B97F4A7C15
        key1 += 0xBB67AE8584CAA73B
    return c0, c1, c2, c3


@triton.jit
def _partial_products(
    parts: tl.tensor,
    terms: tl.tensor,
    keys: tl.tensor,
    rows: tl.tensor,
    dim: tl.tensor,
    steps: tl.tensor,
    each: tl.tensor,
    length: tl.tensor,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """parts[split] = (sum of the terms)[:, stretch] @ signs[stretch, tile]."""
    tile, split, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    b = (group * ROWS + tl.arange(0, ROWS))[:, None]
    k = tl.arange(0, DEPTH)
    calls = (dim + 255) // 256
    term = tl.cast(rows, tl.int64) * length
    zero = tl.zeros((ROWS, 32), tl.float32)
    a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
    for step in range(split * each, tl.minimum(split * each + each, steps)):
        start = tl.cast(step, tl.int64) * DEPTH
        at = terms + b.to(tl.int64) * length + start + k[None, :]
        v0 = tl.load(at, mask=b < rows, other=0.0)
        v1 = tl.load(at + term, mask=b < rows, other=0.0)
        v2 = tl.load(at + 2 * term, mask=b < rows, other=0.0)
        block = start // BLOCK
        key0 = tl.load(keys + 2 * block).to(tl.uint64, bitcast=True)
        key1 = tl.load(keys + 2 * block + 1).to(tl.uint64, bitcast=True)
        counter = ((start % BLOCK).to(tl.int32) + k) * calls + tile + 1
        w0, w1, w2, w3 = _philox(key0, key1, counter.to(tl.uint64))
        a0, a1 = _times_word(a0, a1, v0, v1, v2, w0)
        b0, b1 = _times_word(b0, b1, v0, v1, v2, w1)
        c0, c1 = _times_word(c0, c1, v0, v1, v2, w2)
        d0, d1 = _times_word(d0, d1, v0, v1, v2, w3)
    column = tile * 256 + tl.arange(0, 32)[None, :]
    to = parts + (split * rows + b).to(tl.int64) * dim + column
    _store(to, a0, a1, column, b < rows, dim)
    _store(to + 64, b0, b1, column + 64, b < rows, dim)
    _store(to + 128, c0, c1, column + 128, b < rows, dim)
    _store(to + 192, d0, d1, column + 192, b < rows, dim)
