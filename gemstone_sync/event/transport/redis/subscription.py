"""Hearing from a Redis that something has changed, for about a microsecond a question."""

from __future__ import annotations

import contextlib
import os
import select
import ssl
from typing import Any

from gevent import monkey

__all__ = ["Subscription"]

#: The real one: a question that does not wait need not go through an event loop.
_poll = monkey.get_original("select", "poll")


class Subscription:
    """A connection of redis-py that has subscribed to one channel, and is for nothing else.

    :raises redis.RedisError: when Redis does not want it.

    What the messages say is of no interest, so they are thrown away unread: redis-py's parser takes
    ten times as long to say the same.
    """

    def __init__(self, connection: Any, channel: bytes) -> None:
        self._connection = connection
        #: True once it is broken: nothing will be heard any more.
        self.is_over = False
        try:
            connection.send_command("SUBSCRIBE", channel)
            connection.read_response()
            self._socket = connection._sock
            self._socket.settimeout(0)
            #: What can be read once there is news.
            self.descriptor: int = self._socket.fileno()
            self._poll = _poll()
            self._poll.register(self.descriptor, select.POLLIN)
        except BaseException:
            self.close()
            raise
        self._process = os.getpid()

    def has_news(self) -> bool:
        """Tell whether something was said since this was asked last; True as well when it is over.

        It never waits.
        """
        if not self._poll.poll(0):
            return self.is_over
        try:
            # At most so much at a time, so that whoever shouts does not stop this process.
            for _ in range(16):
                if not self._socket.recv(1 << 16):
                    self.is_over = True
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            self.is_over = True
        return True

    def close(self) -> None:
        """Disconnect. Never raises."""
        self.is_over = True
        with contextlib.suppress(Exception):
            self._connection.disconnect()
