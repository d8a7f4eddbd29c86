"""RemoteService against servers that others wrote: what their users get, ours get too."""

import pytest

from gemstone_sync import (
    AccessDenied,
    HeaderToken,
    InternalError,
    InvalidParams,
    MethodCall,
    MethodNotFound,
    Notification,
    RemoteError,
    RemoteService,
    RpcError,
)
from tests.support.waiting import LIMIT, gather, wait_until

from .packages import MARKS, server_of

pytestmark = MARKS

OLD = "old-gemstone"
OTHERS = ["flask-jsonrpc", "pjrpc"]


def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with (
        server_of(request.param, folder) as url,
        # Not the time-outs of production: the machine may be busy.
        RemoteService(url, timeout=LIMIT, total_timeout=LIMIT) as client,
    ):
        yield client


any_server = pytest.fixture(scope="module", params=[OLD, *OTHERS], name="client")(served)
old_server = pytest.fixture(scope="module", params=[OLD], name="old")(served)
other_server = pytest.fixture(scope="module", params=OTHERS, name="other")(served)


class TestCalls:
    def test_by_position_and_by_name(self, client):
        assert client.methods.subtract(42, 23) == 19
        assert client.methods.subtract(subtrahend=23, minuend=42) == 19

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            0,
            "",
            2**70,
            -2.5e-3,
            'h\u00e9 \u2603 \U0001d11e " \\ \n',
            [],
            {},
            [[{}, None]],
        ],
        ids=ascii,
    )
    def test_values_come_back_as_they_went(self, client, value):
        found = client.methods.echo({"value": value})
        assert found == {"value": value}
        assert type(found["value"]) is type(value)

    def test_a_method_without_parameters_or_result(self, client):
        assert client.methods.nothing() is None
        assert client.call_method("nothing").error is None

    def test_in_the_background(self, client):
        handles = [client.methods.echo.async_(number) for number in range(20)]
        assert [handle.result(wait=True) for handle in handles] == list(range(20))

    def test_many_greenlets_at_once(self, client):
        calls = [lambda number=number: client.methods.echo(number) for number in range(100)]
        assert gather(calls) == list(range(100))


class TestErrors:
    def test_an_unknown_method(self, client):
        with pytest.raises(MethodNotFound) as caught:
            client.methods.unknown(1)
        assert isinstance(caught.value, RemoteError)
        assert (caught.value.code, caught.value.method) == (-32601, "unknown")

    @pytest.mark.parametrize("params", [(1,), {"minuend": 1}, {"minuend": 1, "other": 2}], ids=str)
    def test_parameters_that_do_not_fit(self, client, params):
        result = client.call_method("subtract", params)
        assert isinstance(result.error, InvalidParams)
        assert result.error.code == -32602

    def test_a_call_after_an_error_works(self, client):
        assert client.call_method("fail").error is not None
        assert client.methods.subtract(3, 1) == 2

    def test_an_error_of_the_application(self, other):
        with pytest.raises(RemoteError) as caught:
            other.methods.fail()
        assert (caught.value.code, caught.value.message) == (1001, "Out of stock")
        assert caught.value.data == {"left": 0}

    def test_an_error_of_the_application_as_a_class_of_ours(self, other):
        class OutOfStock(RpcError):
            code = 1001

        with pytest.raises(OutOfStock):
            other.with_options(errors=[OutOfStock]).methods.fail()

    def test_an_exception_in_a_method_of_old_gemstone(self, old):
        with pytest.raises(InternalError) as caught:
            old.methods.fail()
        assert caught.value.code == -32603
        assert caught.value.data == {"class": "ValueError", "info": "out of stock"}


class TestNotifications:
    def test_it_arrives(self, client):
        assert client.notifications.note("by itself") is None
        # Old gemstone answers a notification before it runs the method.
        wait_until(lambda: "by itself" in client.methods.noted(), "the notification")

    def test_the_connection_goes_on_after_it(self, client):
        for number in range(5):
            client.notifications.note(f"note {number}")
            assert client.methods.echo(number) == number


class TestBatches:
    def test_results_and_errors_in_the_order_of_the_calls(self, client):
        calls = [
            MethodCall("subtract", (5, 3)),
            MethodCall("unknown"),
            MethodCall("subtract", {"minuend": 1, "subtrahend": 2}, id="named"),
            MethodCall("fail"),
        ]
        batch = client.call_batch(calls[0], Notification("note", ["in a batch"]), *calls[1:])
        assert [result.method_call for result in batch] == calls
        assert [result.result for result in batch] == [2, None, -1, None]
        codes = [result.error and result.error.code for result in batch]
        assert codes[:3] == [None, -32601, None]
        assert codes[3] in (1001, -32603)
        named = batch.get_response_for_call(calls[2])
        assert (named.id, named.value()) == ("named", -1)
        wait_until(lambda: "in a batch" in client.methods.noted(), "the batch's notification")

    def test_notifications_only(self, client):
        words = ["first of two", "second of two"]
        assert len(client.call_batch(*[Notification("note", [word]) for word in words])) == 0
        wait_until(lambda: set(words) <= set(client.methods.noted()), "both notifications")


class TestOldGemstone:
    def test_its_name(self, old):
        assert old.name == "peer.old_gemstone"

    def test_its_specs(self, old):
        specs = old.methods.get_service_specs()
        assert specs["accessible_at"] == old.url
        assert specs["methods"]["subtract"] == "Return the difference."

    def test_a_private_method_with_a_token(self, old):
        with RemoteService(old.url, authentication_method=HeaderToken("right")) as trusted:
            assert trusted.methods.secret() == "the secret"

    @pytest.mark.parametrize("token", [None, HeaderToken("wrong")], ids=["none", "wrong"])
    def test_a_private_method_without_the_token(self, old, token):
        with (
            RemoteService(old.url, authentication_method=token) as stranger,
            pytest.raises(AccessDenied) as caught,
        ):
            stranger.methods.secret()
        assert caught.value.code == -32001


def test_others_have_no_name_to_ask_for(other):
    with pytest.raises(MethodNotFound, match="get_service_specs"):
        _ = other.name
