"""StaticDiscoveryStrategy: what is wrong with its table is said when it is made."""

import pytest

from gemstone_sync import ServiceConfigurationError
from gemstone_sync.discovery.static import StaticDiscoveryStrategy

from .support import A, B


def test_a_name_has_one_url_or_several():
    strategy = StaticDiscoveryStrategy({"one": A, "two": [B, "https://b/x"]})

    assert strategy.locate("one") == [A]
    assert strategy.locate("two") == [B, "https://b/x"]


def test_neither_pings_nor_changes_of_the_table_given_change_it():
    urls = [A]
    table = {"one": urls}
    strategy = StaticDiscoveryStrategy(table)

    urls.append(B)
    table["two"] = [B]
    strategy.ping("one", B, instance="i", interval=1)
    strategy.goodbye("one", A, instance="i")

    assert strategy.locate("*") == [A]


@pytest.mark.parametrize(
    ("services", "told"),
    [
        pytest.param([("one", A)], "list", id="no dict"),
        pytest.param(None, "NoneType", id="nothing"),
        pytest.param({1: A}, "1", id="a number for a name"),
        pytest.param({"": A}, "''", id="an empty name"),
        pytest.param({"orders.*": A}, "'orders.*' is a pattern", id="a pattern for a name"),
        pytest.param({"one": None}, "'one'", id="no URL"),
        pytest.param({"one": []}, "'one'", id="an empty list"),
        pytest.param({"one": {A}}, "'one'", id="a set, which has no order"),
        pytest.param({"one": [A, 8000]}, "8000", id="a number for a URL"),
        pytest.param({"one": "127.0.0.1:8000"}, "'127.0.0.1:8000'", id="no scheme"),
        pytest.param({"one": "javascript:alert(1)"}, "'javascript:alert(1)'", id="no http"),
        pytest.param({"one": "http:///api"}, "'http:///api'", id="no host"),
        pytest.param({"one": "http://a:0/api"}, "'http://a:0/api'", id="port 0"),
        pytest.param({"one": "http://a b/api"}, "'http://a b/api'", id="a space"),
        pytest.param(
            {"one": "http://user:hunter2@a/api"}, "without a user and password", id="a password"
        ),
    ],
)
def test_a_table_that_cannot_be_used(services, told):
    with pytest.raises(ServiceConfigurationError) as caught:
        StaticDiscoveryStrategy(services)

    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
