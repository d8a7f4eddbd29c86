import random

import pytest

from .endurance import endure


@pytest.mark.slow  # so that enough goes wrong; for longer: python -m tests.integration.endurance
@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("broker", "minutes"),
    [
        ("rabbitmq", 2),
        ("redis", 1),
        ("sqlite", 1),
    ],
)
def test_events_outlive_what_goes_wrong(tmp_path, broker, minutes):
    endure(tmp_path, broker, minutes, seed=random.randrange(1000))
