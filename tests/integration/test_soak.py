import pytest

from .soak import soak


@pytest.mark.slow  # what leaks shows after a while; for longer: python -m tests.integration.soak
@pytest.mark.timeout(400)
def test_nothing_grows_and_all_is_counted_with_everything_on(tmp_path):
    soak(tmp_path, minutes=2)
