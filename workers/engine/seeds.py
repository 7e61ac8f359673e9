"""Random numbers as a function of (seed, position), so that any worker can go on with a stream."""

from __future__ import annotations

_WORD = (1 << 64) - 1
_LIBRARY_RANDOM = 0xFFFFFFFF  # llama.cpp reads this seed as "take any"


def mix(seed: int, number: int) -> int:
    """A 64-bit hash of two numbers (the finaliser of splitmix64)."""
    z = (seed + 0x9E3779B97F4A7C15 * (number + 1)) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)


def sampler_seed(seed: int, position: int) -> int:
    """A 32-bit seed for the sampler that draws the token at `position`."""
    return mix(seed, position) % _LIBRARY_RANDOM
