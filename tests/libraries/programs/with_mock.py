"""Mocks and hostile objects at the top of a program."""

import time
from unittest import mock

patient = mock.MagicMock(side_effect=time.sleep)
specified = mock.Mock(spec=["read"])


class Hostile:
    @property
    def __class__(self):
        raise RuntimeError("asked for its class")

    def __getattr__(self, name):
        raise RuntimeError(f"asked for {name}")


hostile = Hostile()


def work(n):
    patient(0.3)
    return n
