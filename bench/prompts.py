"""Prompts of one length that share no prefix, so that no run finds another's in a cache."""

from __future__ import annotations

import random

THINGS = """caravan desert camel merchant water song star dune oasis tent fire map wind sand salt
silk spice moon guide well rope knife bread tea carpet lamp horse falcon drum bell gate tower"""
WORDS = THINGS.split()


def prompt(seed: int, *, words: int = 24) -> str:
    """A request for a story about `words` words, other ones for each seed."""
    chosen = random.Random(seed)
    return " ".join(chosen.choice(WORDS) for _ in range(words)) + ". Tell a long story with these."
