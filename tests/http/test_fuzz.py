"""A bounded run of fuzz.py: a stated number of inputs for each target."""

import pytest

from . import fuzz

INPUTS = 3000


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_fuzz(target):
    fuzzed = fuzz.fuzz(target, INPUTS)
    # Mutations that are all refused would show little.
    assert fuzzed.ran > INPUTS / 10
    assert len(fuzzed.statuses) > 2
