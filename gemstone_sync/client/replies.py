"""HTTP replies -> results. Pure: bytes in, values or exceptions out.

Strict JSON-RPC 2.0 is read, and the form of gemstone 0.10.1, which has both members in every
response with ``null`` in one of them. Everything else is a `BadResponse`.
"""

from __future__ import annotations

import datetime
import email.utils
import http
from collections.abc import Sequence
from typing import Any

from ..errors import UNSET, BadResponse, ParseError, RemoteError, RpcError
from ..protocol import RequestId, decode_json
from . import exceptions
from .messages import HttpReply
from .structs import BatchResult, MethodCall, Result

__all__ = ["ReplyReader"]

#: A Retry-After that is missing or makes no sense.
_DEFAULT_WAIT = 1.0
_OVERLOADED = (-32000, "Server overloaded")


class ReplyReader:
    """Reads the replies of services.

    :param known: classes of the user's own, by their code.
    :param service: the name by which the service was found.
    """

    def __init__(self, known: Sequence[type[RpcError]] = (), service: str | None = None) -> None:
        self._known = tuple(known)
        self._service = service

    def check_status(self, reply: HttpReply, method: str | None) -> None:
        """See to it that there is a reply to read.

        :raises RemoteError: an error object that came with another status than 200; for 503
            it is a `ServerOverloaded`, whatever the body.
        :raises BadResponse: any other status that is no success.
        """
        if 200 <= reply.status < 300:
            return
        error = self._error_object_in(reply.body)
        if reply.status == 503:
            told = error or dict(zip(("code", "message"), _OVERLOADED, strict=True))
            wait = _seconds_to_wait(reply.headers.get("retry-after"))
            raise self._remote_error(told, reply, method, overloaded=True, retry_after=wait)
        if error is not None:
            raise self._remote_error(error, reply, method)
        phrase = _phrase_of(reply.status)
        if 300 <= reply.status < 400:
            # Followed, it would hand the token to whoever the Location names.
            raise self._bad_response(f"HTTP {phrase}: redirects are not followed", reply)
        raise self._bad_response(f"HTTP {phrase} without a JSON-RPC error", reply)

    def read_result(self, reply: HttpReply, call: MethodCall) -> Result:
        """Read the answer to a call.

        :raises RemoteError, BadResponse: as `check_status`.
        :raises BadResponse: when it is not the answer to this call.
        """
        self.check_status(reply, call.method_name)
        response = self._decode(reply)
        value, error = self._members_of(response, reply, call.method_name)
        found = response.get("id")
        # Of a request that it could not read, a server does not know the id (section 5).
        if not _is_same_id(found, call.id) and not (error is not None and found is None):
            raise self._bad_response(
                f"the answer has the id {found!r:.50}, not {call.id!r:.50}", reply
            )
        return Result(value, error, call.id, call)

    def read_nothing(self, reply: HttpReply, method: str) -> None:
        """Read the answer to a notification: nothing, or what some servers send instead.

        :raises RemoteError: when it tells of an error all the same.
        """
        self.check_status(reply, method)
        error = self._error_object_in(reply.body)
        if error is not None:
            raise self._remote_error(error, reply, method)

    def read_batch(self, reply: HttpReply, calls: Sequence[MethodCall]) -> BatchResult:
        """Read the answers to a batch, in the order of its calls.

        :raises RemoteError: when the service refused the batch as a whole.
        :raises BadResponse: when an answer is missing, is there twice, or to no call of the batch.
        """
        self.check_status(reply, None)
        if not calls:
            error = self._error_object_in(reply.body)
            if error is not None:
                raise self._remote_error(error, reply, None)
            return BatchResult()
        content = self._decode(reply, list)
        if type(content) is dict:
            refusal = self._members_of(content, reply, None)[1]
            raise refusal or self._bad_response("the answer to a batch is one response", reply)
        return self._match(content, reply, calls)

    def _match(self, items: Any, reply: HttpReply, calls: Sequence[MethodCall]) -> BatchResult:
        open_calls = {(type(call.id), call.id): call for call in calls}
        results: dict[int, Result] = {}
        for item in items:
            if type(item) is not dict:
                raise self._bad_response("an item of the batch's answer is no response", reply)
            found = item.get("id")
            call = open_calls.pop(_key_of(found), None)
            if call is None:
                error = self._members_of(item, reply, None)[1]
                if error is not None and found is None:
                    raise error
                raise self._bad_response(f"the batch's answer has an odd id: {found!r:.50}", reply)
            value, error = self._members_of(item, reply, call.method_name)
            results[id(call)] = Result(value, error, call.id, call)
        if open_calls:
            missing = ", ".join(repr(call.id) for call in open_calls.values())
            raise self._bad_response(f"the batch's answer lacks the ids {missing:.200}", reply)
        return BatchResult(*(results[id(call)] for call in calls))

    # Parts

    def _decode(self, reply: HttpReply, *also: type) -> Any:
        try:
            content = decode_json(reply.body)
        except ParseError:
            raise self._bad_response("the answer is no JSON", reply) from None
        if type(content) is not dict and type(content) not in also:
            raise self._bad_response("the answer is no JSON-RPC response", reply)
        return content

    def _members_of(
        self, response: dict[str, Any], reply: HttpReply, method: str | None
    ) -> tuple[Any, RemoteError | None]:
        """Result and error: one of them counts, and ``null`` in the other is gemstone's form."""
        if response.get("jsonrpc") != "2.0":
            raise self._bad_response('the answer has no "jsonrpc": "2.0"', reply)
        error = response.get("error")
        if error is None:
            if "result" not in response:
                raise self._bad_response("the answer has neither result nor error", reply)
            return response["result"], None
        if response.get("result") is not None:
            raise self._bad_response("the answer has both result and error", reply)
        if not _is_error_object(error):
            raise self._bad_response("the answer's error is no error object", reply)
        # In a batch each item tells for itself that there was no place for it.
        overloaded = (error["code"], error["message"]) == _OVERLOADED
        return None, self._remote_error(error, reply, method, overloaded)

    def _error_object_in(self, body: bytes) -> dict[str, Any] | None:
        if not body:
            return None
        try:
            content = decode_json(body)
        except ParseError:
            return None
        error = content.get("error") if type(content) is dict else None
        return error if _is_error_object(error) else None

    def _remote_error(
        self,
        error: dict[str, Any],
        reply: HttpReply,
        method: str | None,
        overloaded: bool = False,
        retry_after: float | None = None,
    ) -> RemoteError:
        return exceptions.remote_error(
            error,
            method=method,
            url=reply.url,
            service=self._service,
            overloaded=overloaded,
            retry_after=retry_after,
            known=self._known,
        )

    def _bad_response(self, message: str, reply: HttpReply) -> BadResponse:
        shown = reply.body[:60].decode("utf-8", "replace")
        start = f"; it starts with {shown!r}" if reply.body else ""
        return BadResponse(f"{reply.url}: {message}{start}", status=reply.status, body=reply.body)


def _is_error_object(error: object) -> bool:
    """Tell whether it is an error object (section 5.1)."""
    return (
        type(error) is dict and type(error.get("code")) is int and type(error.get("message")) is str
    )


def _is_same_id(found: object, sent: RequestId) -> bool:
    return type(found) is type(sent) and found == sent


def _key_of(found: object) -> Any:
    return (type(found), found) if type(found) in (str, int, float) else UNSET


def _phrase_of(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _seconds_to_wait(text: str | None) -> float:
    """Read Retry-After: seconds, or a date (RFC 9110, section 10.2.3)."""
    if text is None:
        return _DEFAULT_WAIT
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, (moment - datetime.datetime.now(datetime.timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return _DEFAULT_WAIT
