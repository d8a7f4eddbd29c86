"""StaticDiscoveryStrategy: what is wrong with its table is said when it is made.

What all strategies do is in test_contract.py.
"""

from typing import Any

import pytest

from gemstone_sync import ServiceConfigurationError
from gemstone_sync.discovery.static import StaticDiscoveryStrategy

URL = "http://127.0.0.1:8000/api"


def test_a_name_has_one_url_or_several() -> None:
    strategy = StaticDiscoveryStrategy({"one": URL, "two": ["http://a/api", "https://b/x"]})

    assert strategy.locate("one") == [URL]
    assert strategy.locate("two") == ["http://a/api", "https://b/x"]


def test_pings_and_goodbyes_change_nothing() -> None:
    strategy = StaticDiscoveryStrategy({"one": URL})

    strategy.ping("one", "http://a/api", instance="i", interval=1)
    strategy.goodbye("one", URL, instance="i")

    assert strategy.locate("*") == [URL]


def test_the_table_given_can_be_changed_afterwards() -> None:
    urls = [URL]
    table = {"one": urls}
    strategy = StaticDiscoveryStrategy(table)

    urls.append("http://a/api")
    table["two"] = ["http://b/api"]
    strategy.locate("one").append("http://c/api")

    assert strategy.locate("*") == [URL]


@pytest.mark.parametrize(
    ("services", "told"),
    [
        pytest.param([("one", URL)], "list", id="no dict"),
        pytest.param(None, "NoneType", id="nothing"),
        pytest.param({1: URL}, "1", id="a number for a name"),
        pytest.param({"": URL}, "''", id="an empty name"),
        pytest.param({"orders.*": URL}, "'orders.*' is a pattern", id="a pattern for a name"),
        pytest.param({"one": None}, "'one'", id="no URL"),
        pytest.param({"one": []}, "'one'", id="an empty list"),
        pytest.param({"one": {URL}}, "'one'", id="a set, which has no order"),
        pytest.param({"one": [URL, 8000]}, "8000", id="a number for a URL"),
        pytest.param({"one": "127.0.0.1:8000"}, "'127.0.0.1:8000'", id="no scheme"),
        pytest.param({"one": "javascript:alert(1)"}, "'javascript:alert(1)'", id="no http"),
        pytest.param({"one": "http:///api"}, "'http:///api'", id="no host"),
        pytest.param({"one": "http://a:0/api"}, "'http://a:0/api'", id="port 0"),
        pytest.param({"one": "http://a b/api"}, "'http://a b/api'", id="a space"),
    ],
)
def test_a_table_that_cannot_be_used(services: Any, told: str) -> None:
    with pytest.raises(ServiceConfigurationError) as caught:
        StaticDiscoveryStrategy(services)

    assert told in str(caught.value)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ServiceConfigurationError) as caught:
        StaticDiscoveryStrategy({"one": "http://user:hunter2@a/api"})

    assert "without a user and password" in str(caught.value)
    assert "hunter2" not in str(caught.value)
