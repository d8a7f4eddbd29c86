"""What an event costs: publishing with confirms and consuming beside other libraries, in one run.

    python tests/benchmarks/events.py [--seconds 2] [--rounds 3] [--only publish,consume] [--quick]

Over RabbitMQ beside py-amqp, kombu, pika and nameko; over SQLite and Redis alone; and what a call
over HTTP takes while events pass through the same process (fairness.py). eventing.py says what is
measured, event_peers/ how each peer does it. The machine's broker is used, under names of its own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eventing
import fairness
from eventing import CONSUMERS, OURS, PUBLISHERS, Broker, EventPeer
from loadgen import Fault
from program import (
    Options,
    Ratio,
    Run,
    between,
    interleaved,
    look_on,
    number,
    quotient,
    ratio_table,
    some_of,
    start,
    table,
)

SECTIONS = ("publish", "consume", "latency", "sqlite", "redis", "fairness")
STORES = {"sqlite": "SQLite", "redis": "Redis"}
#: Events a second, and how many, when latency is measured.
LATENCY_RATE = 100
LATENCY_COUNT = 500


class Bench:
    """Measures section after section."""

    def __init__(self, options: argparse.Namespace, run: Run, broker: Broker, folder: Path) -> None:
        self._options, self._run, self._broker, self._folder = options, run, broker, folder
        self._core = {options.core}
        chosen = [peer for peer in (*PUBLISHERS, *CONSUMERS) if peer.name in options.peers]
        self._there = run.prepare([OURS, *chosen])

    def rounds(self, peers: tuple[EventPeer, ...], section: str, work: Any) -> None:
        chosen = [p for p in peers if p.name in self._options.peers and p.name in self._there]
        for peer in interleaved(chosen, self._options.rounds, f"{section}: "):
            self._run.measure(section, peer.name, lambda peer=peer: work(peer), section)

    def publish(self, peer: EventPeer) -> dict[str, Any]:
        with self._broker.scene(self._options.queue, queue=True) as job:
            return peer.run(self._core, {**job, **peer.extra, "seconds": self._options.seconds})

    def consume(self, peer: EventPeer) -> dict[str, Any]:
        count = self._options.messages
        with self._broker.scene(self._options.queue, queue=not peer.declares) as job:
            job = {**job, "count": count, "skip": count // 10}
            if peer.declares:
                peer.run(self._core, job, peer.declares)
            self._broker.fill(job, count)
            return peer.run(self._core, job)

    def latency(self, scene: Any) -> dict[str, Any]:
        """From emit to handler between two processes, which share no core where there are two."""
        with scene() as job, OURS.runner(self._core) as receiver:
            job = {**job, "rate": LATENCY_RATE, "count": LATENCY_COUNT}
            receiver.run("receive_for_latency", job)
            OURS.run(os.sched_getaffinity(0), job, "emit_for_latency")
            return receiver.hear()

    def store(self, kind: str) -> dict[str, Any]:
        """Publish by 50 greenlets to a queue that is there."""
        with eventing.store_scene(kind, self._folder) as job:
            OURS.run(self._core, job, "declare")
            job |= {"greenlets": 50, "seconds": self._options.seconds}
            return OURS.run(self._core, job, "publish")

    def everything(self) -> None:
        only, run, kind = self._options.only, self._run, self._options.queue
        if "publish" in only:
            self.rounds(PUBLISHERS, "publish", self.publish)
        if "consume" in only:
            self.rounds(CONSUMERS, "consume", self.consume)
        scenes: dict[str, Callable[[], Any]] = {
            name: lambda store=store: eventing.store_scene(store, self._folder)
            for store, name in STORES.items()
            if store in only
        }
        for store, name in STORES.items():
            for _ in interleaved([name] if store in only else [], self._options.rounds):
                run.measure("stores", name, lambda store=store: self.store(store), "stores")
        if "latency" in only:
            scenes["RabbitMQ"] = lambda: self._broker.scene(kind, queue=False)
        for name in interleaved(list(scenes), self._options.rounds, "latency: "):
            run.measure("latency", name, lambda n=name: self.latency(scenes[n]), "latency")
        if "fairness" in only:
            with self._broker.scene(kind, queue=True) as job:
                try:
                    for row in fairness.rows(job, self._core, max(3.0, self._options.seconds)):
                        run.add("fairness", f"{row['way']} at {row['asked']:,}/s", row)
                except (Fault, OSError) as fault:
                    run.faults["fairness"] = f"failed: {fault}"


# Showing


def ratios(run: Run) -> list[Ratio]:
    """Return the rows: quotients of the medians of one run; none of what was not asked for."""
    pools = [run.value("publish", name, "rate") or 0.0 for name in ("kombu", "kombu-10")]
    better = "kombu" if pools[0] >= pools[1] else "kombu-10"
    rows = []
    for label, section, peer, reach in (
        ("publish/s, ours ÷ kombu, one producer", "publish", "kombu-single", ">= 6"),
        ("publish/s, ours ÷ kombu, the better pool", "publish", better, ">= 6"),
        ("publish/s, ours ÷ py-amqp, window of 100", "publish", "raw-windowed", ">= 0.8"),
        ("the same, py-amqp in an unpatched process", "publish", "raw-plain", ""),
        ("publish/s, ours ÷ pika", "publish", "pika", ""),
        ("publish/s, ours ÷ nameko", "publish", "nameko", ""),
        ("consume/s, ours ÷ ConsumerMixin", "consume", "kombu", ">= 1"),
        ("consume/s, ours ÷ py-amqp", "consume", "raw", ""),
        ("consume/s, ours ÷ nameko", "consume", "nameko", ""),
    ):
        ours = run.value(section, "ours", "rate")
        rows.append(Ratio(label, quotient(ours, run.value(section, peer, "rate")), reach))
    published = run.value("stores", "SQLite", "rate")
    rows.append(Ratio("SQLite: durable publishes/s", published, ">= 5000"))
    rows.append(Ratio("SQLite: median latency, ms", run.value("latency", "SQLite", "p50"), "<= 10"))
    for [row] in run.samples.get("fairness", {}).values():
        if row["asked"] == max(fairness.RATES):
            label = f"p99 of a call, {row['reached']:,.0f} of {row['asked']:,} {row['way']}/s"
            # Fewer events than asked for prove nothing: no mark, so no verdict.
            reach = "<= 50" if row["reached"] >= 0.9 * row["asked"] else ""
            rows.append(Ratio(label, row["p99"], reach))
    return [row for row in rows if row.value is not None]


def peers_table(run: Run, section: str, title: str, peers: tuple[EventPeer, ...]) -> str:
    columns = ("msgs/s", "spread", "ours ÷ it", "CPU µs/msg", "it ÷ ours")
    our_rate, our_cpu = (run.value(section, "ours", quantity) for quantity in ("rate", "cpu"))
    rows = {}
    for peer in peers:
        rate, cpu = (run.value(section, peer.name, quantity) for quantity in ("rate", "cpu"))
        if rate is not None:
            rows[peer.title] = (
                f"{rate:,.0f}",
                run.spread(section, peer.name, "rate"),
                number(quotient(our_rate, rate), ".2f"),
                f"{cpu:.1f}",
                number(quotient(cpu, our_cpu), ".2f"),
            )
    return table(title, columns, rows)


def latency_table(run: Run) -> str:
    columns = ("publishes/s", "CPU µs/msg", "p50 ms", "p99 ms")
    rows = {}
    for row in (*STORES.values(), "RabbitMQ"):
        section, name = ("publish", "ours") if row == "RabbitMQ" else ("stores", row)
        cells = (
            number(run.value(section, name, "rate"), ",.0f"),
            number(run.value(section, name, "cpu"), ".1f"),
            number(run.value("latency", row, "p50"), ".2f"),
            number(run.value("latency", row, "p99"), ".2f"),
        )
        if any(cell != "-" for cell in cells):
            rows[row] = cells
    return table(f"50 greenlets; latency at {LATENCY_RATE}/s", columns, rows)


def fairness_table(run: Run) -> str:
    columns = ("sent/s", "passed/s", "p50 ms", "p99 ms", "max ms", "CPU %")
    rows = {
        title if row["asked"] else "none": (
            *(f"{row[what]:,.0f}" for what in ("sent", "reached")),
            *(f"{row[what]:.2f}" for what in ("p50", "p99", "max")),
            f"{row['cpu']:.0f}",
        )
        for title, [row] in run.samples["fairness"].items()
    }
    return table("a call over HTTP, while events are", columns, rows)


def main() -> int:
    """Run, print, write the file asked for."""
    short = {"rounds": 1, "seconds": 1.0, "messages": 3000}
    parser = Options("Events per second, and CPU per event.", 3, ("one short round", short))
    parser.add_number("--seconds", 2.0, between(0.1, 60, float), "of publishing, per peer")
    parser.add_number("--messages", 10_000, between(1000, 100_000), "to consume, per peer")
    names = list(dict.fromkeys(peer.name for peer in (*PUBLISHERS, *CONSUMERS)))
    parser.add_argument("--only", **some_of(SECTIONS))
    parser.add_argument("--peers", **some_of(names))
    parser.add_argument("--queue", choices=("quorum", "classic"), default="quorum")
    parser.add_argument("--private", action="store_true", help="start a RabbitMQ of its own")
    parser.add_argument("--folder", type=Path, help="for SQLite's files; default: a temporary one")
    options = parser.read()
    run = Run(options)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        eventing.broker(options.private, Path(folder)) as broker,
    ):
        version = broker.version()
        look_on(options.core)  # a broker of its own has been started before
        Bench(options, run, broker, Path(folder)).everything()
    load = " ".join(f"{average:.2f}" for average in os.getloadavg())
    tables = [
        run.header(
            f"RabbitMQ {version}, load average after {load}",
            f"Pinned: every client has core {options.core}, the broker what it likes. Medians "
            f"of {options.rounds} interleaved rounds: {options.seconds:g} s of publishing, "
            f"{options.messages:,} messages consumed at prefetch {eventing.PREFETCH}.",
            f"Persistent messages, each confirmed, to a durable {options.queue} queue.",
            "CPU: user + system of the client's process.",
        )
    ]
    if "publish" in run.samples:
        tables.append(peers_table(run, "publish", "publish with confirms", PUBLISHERS))
    if "consume" in run.samples:
        tables.append(peers_table(run, "consume", "consume", CONSUMERS))
    if "latency" in run.samples or "stores" in run.samples:
        tables.append(latency_table(run))
    if "fairness" in run.samples:
        tables.append(fairness_table(run))
    found = ratios(run)
    tables += [ratio_table(found)] if found else []
    print(*(f"{shown}\n" for shown in tables), sep="\n")
    for name, fault in run.faults.items():
        print(f"{name}: {fault}")
    run.write(found)
    return 0 if run.samples else 1


if __name__ == "__main__":
    start(main)
