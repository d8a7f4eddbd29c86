"""Calls the service in all the ways there are: in turn, at once, with callbacks, without answer."""

from __future__ import annotations

import sys

import gemstone_sync
from gemstone_sync import MethodCall, MethodNotFound, Notification, RemoteError, RemoteService


class NobodyToGreet(gemstone_sync.RpcError):
    """What the service calls error 1001; the name is this program's own affair."""

    code = 1001


def main(url: str) -> None:
    with RemoteService(url, errors=[NobodyToGreet]) as greeter:
        call_and_wait(greeter)
        tell(greeter)
        call_several_at_once(greeter)
        have_callbacks_called(greeter)
        send_a_batch(greeter)
        see_what_goes_wrong(greeter)


def call_and_wait(greeter: RemoteService) -> None:
    print("name:       ", greeter.name)
    print("by position:", greeter.methods.say_hello("world"))
    print("by name:    ", greeter.methods.say_hello(name="world"))


def tell(greeter: RemoteService) -> None:
    """A notification has no answer, and no error either."""
    print("notified:   ", greeter.notifications.say_hello("silence"))


def call_several_at_once(greeter: RemoteService) -> None:
    call = greeter.methods.slow_method.async_(0.2)
    print("running:    ", call)
    print("its result: ", call.result(wait=True))

    calls = [greeter.methods.slow_method.async_(seconds) for seconds in (0.9, 0.1, 0.5)]
    print("first:      ", gemstone_sync.first_completed(*calls).result())
    for call in gemstone_sync.as_completed(*calls):
        print("completed:  ", call.result())


def have_callbacks_called(greeter: RemoteService) -> None:
    calls = [greeter.methods.slow_method.async_(seconds) for seconds in (0.5, "long")]
    gemstone_sync.make_callbacks(
        calls,
        on_result=lambda result: print("on_result:  ", result),
        on_error=lambda error: print("on_error:   ", error.message),
    )


def send_a_batch(greeter: RemoteService) -> None:
    """One request with several calls in it."""
    ada, grace = MethodCall("say_hello", ["ada"]), MethodCall("say_hello", {"name": "grace"})
    answers = greeter.call_batch(ada, Notification("say_hello", ["alan"]), grace)
    for answer in answers:
        print("in a batch: ", answer.result)
    if of_grace := answers.get_response_for_call(grace):
        print("of grace:   ", of_grace.value())


def see_what_goes_wrong(greeter: RemoteService) -> None:
    try:
        greeter.methods.say_goodbye("world")
    except MethodNotFound as error:
        print("MethodNotFound:", error.message)
    try:
        greeter.methods.say_hello("")
    except NobodyToGreet as error:
        print("NobodyToGreet: ", error.message)
    try:
        greeter.methods.say_hello(7)
    except RemoteError as error:  # any error that a service answers with
        print("RemoteError:   ", error.code, error.message)
    try:
        greeter.with_options(timeout=0.1).methods.slow_method(5)
    except gemstone_sync.Timeout:
        print("Timeout:        no answer within 0.1 s")

    # call_method raises none of the service's errors: it hands them over.
    print("a result:      ", greeter.call_method("say_hello", ["world"]).result)
    if failure := greeter.call_method("say_hello", [""]).error:
        print("an error:      ", failure.message)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000/api")
