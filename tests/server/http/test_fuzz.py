"""A bounded run of fuzz.py: a stated number of inputs for each target."""

import pytest

from . import fuzz

#: The dispatcher's inputs take longer to make than to answer.
INPUTS = {"connection": 3000, "dispatcher": 2000}


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_fuzz(target):
    fuzzed = fuzz.fuzz(target, INPUTS[target])
    # Mutations that are all refused would show little.
    assert fuzzed.ran > INPUTS[target] / 10
    assert len(fuzzed.statuses) > 2
