"""Passwords in URLs, wherever they are shown."""

import pytest

from gemstone_sync.config.masks import without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://ada:pw@h:6379/0", "redis://ada:********@h:6379/0"),
        ("redis://:p@ss@h", "redis://:********@h"),
        ("amqp://ada:p/w@h", "amqp://ada:********@h"),  # it should be written %2F
        ("http://a:x@h1,http://b:y@h2", "http://a:********@h1,http://b:********@h2"),
        ('["http://h:80","http://b:y@h2"]', '["http://h:80","http://b:********@h2"]'),
        ("http://h:8000/api?to=ada@example.org", "http://h:8000/api?to=ada@example.org"),
        ("http://ada@h/api", "http://ada@h/api"),
        ("at 10:30 ada@example.org", "at 10:30 ada@example.org"),
    ],
)
def test_the_password_is_masked_and_nothing_else(text, shown):
    assert without_passwords(text) == shown
