"""What every client asks a service of ours; each package calls in its own way."""

VALUE = {"value": [None, True, 0, 2**70, 2.5, "h\u00e9 \U0001d11e", [], {}]}

CALLS = {
    "by position": ("subtract", [42, 23]),
    "by name": ("subtract", {"minuend": 42, "subtrahend": 23}),
    "value": ("echo", [VALUE]),
    "nothing": ("nothing", None),
    "unknown": ("unknown", None),
    "too few": ("subtract", [1]),
    "unknown name": ("subtract", {"minuend": 1, "subtrahend": 2, "other": 3}),
    "wrong type": ("subtract", ["a", "b"]),
    "application error": ("fail", None),
    "private": ("secret", None),
}


def answers(call):
    """Each answer: ``{"result": ...}``, or an error with its ``code``."""
    return {name: call(method, params) for name, (method, params) in CALLS.items()}
