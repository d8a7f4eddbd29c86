"""Batches: several calls and notifications in one request, against a service that runs."""

import random
from typing import Any

import pytest

from gemstone_sync import BatchResult, MethodCall, Notification, RemoteService, Result, errors
from tests.support.faulty_server import FaultyServer, body
from tests.support.waiting import wait_until

from .shop import Shop

SERVICE = Shop


def test_everything_there_is_in_one_request(service: Shop, client: RemoteService) -> None:
    calls = [
        MethodCall("echo", (1,)),
        MethodCall("nonsense"),
        MethodCall("echo", {"value": 2}),
        MethodCall("echo", (1, 2, 3)),
        MethodCall("crash"),
    ]
    notifications = [Notification("echo", ["a"]), Notification("nonsense"), Notification("crash")]

    batch = client.call_batch(notifications[0], *calls, *notifications[1:])

    assert isinstance(batch, BatchResult)
    assert len(batch) == 5
    assert [response.method_call for response in batch] == calls
    assert [response.result for response in batch] == [1, None, 2, None, None]
    nonsense, wrong, crash = (batch.responses[place].error for place in (1, 3, 4))
    assert isinstance(nonsense, errors.MethodNotFound)
    assert isinstance(wrong, errors.InvalidParams)
    assert isinstance(crash, errors.InternalError)
    assert (nonsense.method, crash.method) == ("nonsense", "crash")
    assert nonsense.url == crash.url == client.url
    with pytest.raises(errors.MethodNotFound):
        batch.responses[1].value()
    assert batch.responses[2].value() == 2
    assert "a" in service.calls


def test_the_answer_to_a_call_is_found_by_the_call(client: RemoteService) -> None:
    calls = [MethodCall("echo", [number]) for number in range(50)]
    sent = random.sample(calls, 50)

    batch = client.call_batch(*sent)

    for number, call in enumerate(calls):
        response = batch.get_response_for_call(call)
        assert response is not None
        assert (response.result, response.id, response.method_call) == (number, call.id, call)
    assert batch.get_response_for_call(MethodCall("echo", [1])) is None
    assert [response.method_call for response in batch.responses] == sent
    assert [response.id for response in batch] == [call.id for call in sent]


def test_a_batch_of_notifications_has_no_answers(service: Shop, client: RemoteService) -> None:
    batch = client.call_batch(Notification("echo", [1]), Notification("echo", [2]))

    assert list(batch) == []
    assert len(batch) == 0
    wait_until(lambda: sorted(service.calls) == [1, 2], "the notifications")


def test_an_empty_batch_is_not_sent() -> None:
    with FaultyServer() as server, RemoteService(server.url) as client:
        assert list(client.call_batch()) == []
        assert server.connections == 0


def test_a_batch_that_is_too_large_is_refused(service: Shop, client: RemoteService) -> None:
    for item in (MethodCall, Notification):
        with pytest.raises(errors.InvalidRequest) as caught:
            client.call_batch(*[item("echo", [number]) for number in range(51)])
        assert caught.value.method is None
    assert service.calls == []


@pytest.mark.parametrize("item", ["echo", ("echo", [1]), None, {"method": "echo"}])
def test_what_belongs_into_a_batch(service: Shop, client: RemoteService, item: Any) -> None:
    with pytest.raises(TypeError, match="a batch holds MethodCalls and Notifications, not"):
        client.call_batch(Notification("echo", [1]), item)
    assert service.calls == []


def test_an_id_is_there_once(service: Shop, client: RemoteService) -> None:
    call = MethodCall("echo", [1])
    for second in (call, MethodCall("echo", [2], id=call.id)):
        with pytest.raises(ValueError, match="same id"):
            client.call_batch(call, second)
    assert service.calls == []


def test_ids_of_the_users_own(client: RemoteService) -> None:
    # Python takes some of them for equal.
    ids = ["1", 1, 1.0, "x" * 128, -7, 2.5, 10**30, "ü", ""]
    calls = [MethodCall("echo", [number], id=own) for number, own in enumerate(ids)]

    batch = client.call_batch(*calls)

    for number, call in enumerate(calls):
        response = batch.get_response_for_call(call)
        assert response is batch.responses[number]
        assert (response.id, response.result) == (ids[number], number)


RESULT = '{"jsonrpc":"2.0","result":1,"id":%s}'
CALLS = [MethodCall("echo", [1], id=1), MethodCall("echo", [2], id=2)]


@pytest.mark.parametrize(
    "answer",
    [
        "[]",
        "{}",
        "null",
        '"x"',
        *[f"[{RESULT % 1}{second}]" for second in ("", f",{RESULT % 1}", ",7")],
        *[f"[{RESULT % 1},{RESULT % 2},{RESULT % third}]" for third in (2, 3)],
        *[f"[{RESULT % 1},{RESULT % id}]" for id in ("true", '"2"', "null", "[2]")],
        f'[{RESULT % 1},{{"jsonrpc":"2.0","id":2}}]',
        RESULT % 1,
    ],
)
def test_an_answer_that_does_not_match_the_batch(answer: str) -> None:
    with FaultyServer(body(answer)) as server, RemoteService(server.url) as client:
        with pytest.raises(errors.BadResponse):
            client.call_batch(*CALLS)
        assert server.received["echo"] == 2


def test_answers_in_any_order() -> None:
    backwards = '[{"jsonrpc":"2.0","result":"b","id":2},{"jsonrpc":"2.0","result":"a","id":1}]'
    with FaultyServer(body(backwards)) as server, RemoteService(server.url) as client:
        assert [response.result for response in client.call_batch(*CALLS)] == ["a", "b"]


def test_a_batch_result_can_be_made_by_hand() -> None:
    call = MethodCall("echo", [1])
    batch = BatchResult()
    assert batch.responses == []
    batch.add_response(Result(2, None, call.id, call))

    assert batch.get_response_for_call(call) is batch.responses[0]
    assert "result=2" in repr(batch)
