"""Method names: exposed ones, reserved ones, and those that must reach nothing."""

from tests.support.cases import ANY, Contains, Error, Object, result

from .calls import Call, call, call_text

#: Names that must reach nothing. Each is called with no parameters.
HIDDEN_NAMES = """
_secret_method __init__ __class__ __dict__ __call__ __del__ a.__class__ subtract.__func__
subtract.__globals__ subtract.__class__ self.subtract SubjectService.subtract
microservice.subtract undecorated explosive_property python_name sum_three start stop configure
get_logger get_executor start_thread register_plugin get_current_configuration make_flask_app
on_service_stop before_method_call authenticate_request api_token_is_valid app name modules
_touched rpc.x rpc. rpc rpc.subtract rpc.__class__ RPC.x Subtract SUBTRACT subtract() subtract/
../subtract .subtract subtract. v2.tools v2.tools.sum_3.x v2..tools.sum_3 . * méthode 😀
{0.__class__} %s%n
"""
#: As those, with what is no part of a name.
ODD_NAMES = [" subtract", "subtract ", "subtract\n", "subtract\x00", "subtr\u0430ct", ""]

METHODS = Object({"touch": Contains("Leave a mark"), "subtract": ANY})
SPECS = Object(
    {"name": "subject", "methods": METHODS, "event_transports": [], "events_handled": {}}
)

CASES = [
    Call(f"name-{index:02}-{name!a}", call(name), Error(-32601, id=1))
    for index, name in enumerate([*HIDDEN_NAMES.split(), *ODD_NAMES])
] + [
    Call("name-of-100000-characters", call("x" * 100_000), Error(-32601, id=1)),
    Call("name-hidden-with-parameters", call("__init__", {"port": 1}), Error(-32601, id=1)),
    Call("name-escaped", call_text(r"\u0073ubtract", "[42,23]"), result(19)),
    Call("name-chosen", call("public.name"), result("renamed")),
    Call("name-dotted-from-a-module", call("v2.tools.sum_3", [1, 2, 3]), result(6)),
    Call("name-deeply-dotted", call("deep.er.nested.owner"), result("subject")),
    Call("name-inherited", call("half_typed", [1, 2]), result([1, 2, "c"])),
    Call("name-built-in", call("get_service_specs"), result(SPECS)),
]
