"""Series at which each alert of the template fires, and series like them at which it does not.

Each is ``(alert, series, minutes, labels of what fires)``: a series is its name with labels, and
its values, one a minute, in promtool's notation. The job is added.
"""

CALLS = "rpc_server_call_duration_seconds"

FIRES = [
    ("InstanceDown", [('up{instance="a:1"}', "0x10")], 5, [{"instance": "a:1"}]),
    (
        "CallsFail",
        [
            (f'{CALLS}_count{{error_type="", rpc_method="m"}}', "0+90x20"),
            (f'{CALLS}_count{{error_type="-32603", rpc_method="m"}}', "0+10x20"),
        ],
        15,
        [{}],
    ),
    (
        "CallsAreSlow",
        [
            (f'{CALLS}_bucket{{le="1.0", rpc_method="m"}}', "0+80x30"),
            (f'{CALLS}_bucket{{le="2.5", rpc_method="m"}}', "0+100x30"),
            (f'{CALLS}_bucket{{le="+Inf", rpc_method="m"}}', "0+100x30"),
        ],
        25,
        [{"rpc_method": "m"}],
    ),
    ("Overloaded", [('gemstone_calls_refused_total{error_type="-32000"}', "0+5x20")], 15, [{}]),
    (
        "HubBlocked",
        [('gemstone_hub_blocked_total{held_by="m"}', "0+1x20")],
        15,
        [{"held_by": "m"}],
    ),
    (
        "WorkersDie",
        [('gemstone_worker_restarts_total{instance="a:1"}', "0+1x20")],
        18,
        [{"instance": "a:1"}],
    ),
    (
        "DeadLetters",
        # The first of all: there is no series before it.
        [('gemstone_event_dead_letters_total{messaging_destination_name="e"}', "_x5 1x10")],
        8,
        [{"messaging_destination_name": "e"}],
    ),
    (
        "DeadLetters",
        [('gemstone_event_dead_letters_total{messaging_destination_name="e"}', "3x40 4x10")],
        45,
        [{"messaging_destination_name": "e"}],
    ),
    ("EventsWait", [('gemstone_event_backlog{queue="q"}', "1001x30")], 20, [{"queue": "q"}]),
    (
        "OutboxStuck",
        [('gemstone_outbox_age_seconds{instance="a:1"}', "0+60x20")],
        15,
        [{"instance": "a:1"}],
    ),
]

IS_QUIET = [
    # Away for a moment: it is restarted.
    ("InstanceDown", [('up{instance="a:1"}', "1x3 0 1x6")], 5),
    # Callers' own faults, and errors that methods mean.
    (
        "CallsFail",
        [
            (f'{CALLS}_count{{error_type="-32602", rpc_method="m"}}', "0+50x20"),
            (f'{CALLS}_count{{error_type="1001", rpc_method="m"}}', "0+50x20"),
            (f'{CALLS}_count{{error_type="-32603", rpc_method="m"}}', "0+1x20"),
        ],
        15,
    ),
    (
        "CallsAreSlow",
        [
            (f'{CALLS}_bucket{{le="1.0", rpc_method="m"}}', "0+96x30"),
            (f'{CALLS}_bucket{{le="+Inf", rpc_method="m"}}', "0+100x30"),
        ],
        25,
    ),
    ("Overloaded", [('gemstone_calls_refused_total{error_type="-32601"}', "0+5x20")], 15),
    ("HubBlocked", [('gemstone_hub_blocked_total{held_by="m"}', "0x5 1x20")], 15),
    ("WorkersDie", [('gemstone_worker_restarts_total{instance="a:1"}', "0x5 2x20")], 15),
    (
        "DeadLetters",
        [('gemstone_event_dead_letters_total{messaging_destination_name="e"}', "3x60")],
        45,
    ),
    ("EventsWait", [('gemstone_event_backlog{queue="q"}', "1001x5 10x30")], 20),
    ("OutboxStuck", [('gemstone_outbox_age_seconds{instance="a:1"}', "0x3 400x3 0x20")], 15),
]
