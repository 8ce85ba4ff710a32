"""Tests, one folder a package. What they share, and that no fixture can give, is here."""

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
"""`default`, which every run takes, or `thorough`."""


def examples(usual: int) -> int:
    """How many examples a property is tried on: `usual` by default, ten times as many in the thorough profile."""
    return usual * 10 if PROFILE == "thorough" else usual
