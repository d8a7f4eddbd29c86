"""What an event costs: publishing with confirms and consuming beside other libraries, in one run.

    python tests/benchmarks/events.py [--seconds 2] [--rounds 3] [--only publish,consume] [--quick]

Over RabbitMQ beside py-amqp, kombu, pika and nameko; over SQLite and Redis alone; and what a call
over HTTP takes while events pass through the same process (fairness.py). eventing.py says what is
measured, event_peers/ how each peer does it. The machine's broker is used, under names of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import eventing
import fairness
import loadgen
import process
import report
import rpc
import venvs
from eventing import CONSUMERS, OURS, PACKAGES, PUBLISHERS, Broker, Peer, PeerFault

SECTIONS = ("publish", "consume", "latency", "sqlite", "redis", "fairness")
#: Events a second, and how many, when latency is measured.
LATENCY_RATE = 100
LATENCY_COUNT = 500


@dataclass
class Run:
    """All that one run found out.

    :ivar samples: by section and row, of each round.
    :ivar faults: why a row has none, or not all.
    """

    options: dict[str, Any]
    samples: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    fairness: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    load_average: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def value(self, section: str, row: str, quantity: str) -> float | None:
        values = [s[quantity] for s in self.samples.get(section, {}).get(row, [])]
        return median(values) if values else None

    def measure(self, section: str, row: str, work: Callable[[], dict[str, float]]) -> None:
        """Note what it returns, or why it failed; what has failed is not tried again."""
        if f"{section} {row}" in self.faults:
            return
        try:
            sample = work()
        except (PeerFault, OSError) as fault:
            self.faults[f"{section} {row}"] = f"failed: {fault}"
        else:
            self.samples.setdefault(section, {}).setdefault(row, []).append(sample)


# Measuring


class Bench:
    """One round after the other."""

    def __init__(self, options: argparse.Namespace, run: Run, broker: Broker, folder: Path) -> None:
        self._options = options
        self._run = run
        self._broker = broker
        self._folder = folder
        self._core = {options.core}
        self._pythons: dict[str, str] = {}

    def python(self, peer: Peer) -> str:
        """The interpreter of a peer; its versions are noted."""
        key = peer.package or "this environment"
        if key not in self._pythons:
            try:
                self._pythons[key] = peer.python()
            except venvs.VenvFault as fault:
                raise PeerFault(f"no venv: {fault}") from None
            own = ("gemstone_sync", "gevent", "kombu", "amqp", "redis")
            shown = PACKAGES[peer.package].shown if peer.package else own
            self._run.versions[key] = venvs.versions(self._pythons[key], list(shown))
        return self._pythons[key]

    def rounds(self, peers: tuple[Peer, ...], section: str, work: Any) -> None:
        """Measure every peer once a round, so that a slow minute hits all; the order rotates."""
        chosen = [peer for peer in peers if peer.name in self._options.peers]
        for number in range(self._options.rounds):
            print(f"{section}: round {number + 1} of {self._options.rounds}", file=sys.stderr)
            shift = number * len(chosen) // self._options.rounds
            for peer in chosen[shift:] + chosen[:shift]:
                self._run.measure(section, peer.name, lambda peer=peer: work(peer))

    def publish(self, peer: Peer) -> dict[str, Any]:
        with self._broker.scene(self._options.queue, queue=True) as job:
            job = {**job, **peer.extra, "seconds": self._options.seconds}
            return eventing.run(peer, self.python(peer), self._core, job)

    def consume(self, peer: Peer) -> dict[str, Any]:
        with self._broker.scene(self._options.queue, queue=not peer.declares) as job:
            job = {**job, "count": self._options.messages, "skip": self._options.messages // 10}
            if peer.declares:
                eventing.run(peer, self.python(peer), self._core, job, peer.declares)
            self._broker.fill(job, self._options.messages)
            return eventing.run(peer, self.python(peer), self._core, job)

    def latency(self, job: dict[str, Any]) -> dict[str, Any]:
        """From emit to handler between two processes, which share no core where there are two."""
        job = {**job, "rate": LATENCY_RATE, "count": LATENCY_COUNT}
        cores = os.sched_getaffinity(0)
        starting = eventing.RunningPeer(
            OURS, self.python(OURS), self._core, job, "receive_for_latency"
        )
        with starting as receiver:
            receiver.answer()
            eventing.run(OURS, self.python(OURS), cores, job, "emit_for_latency")
            return receiver.answer()

    def latency_of_broker(self) -> None:
        for _ in range(self._options.rounds):
            with self._broker.scene(self._options.queue, queue=False) as job:
                self._run.measure("latency", "RabbitMQ", lambda job=job: self.latency(job))

    def store(self, kind: str, title: str) -> None:
        """Publishing by 50 greenlets to a queue that is there, and latency."""
        for number in range(self._options.rounds):
            print(f"{kind}: round {number + 1} of {self._options.rounds}", file=sys.stderr)
            with eventing.store_scene(kind, self._folder) as job:

                def publish(job: dict[str, Any] = job) -> dict[str, Any]:
                    eventing.run(OURS, self.python(OURS), self._core, job, "declare")
                    more = {"greenlets": 50, "seconds": self._options.seconds}
                    return eventing.run(
                        OURS, self.python(OURS), self._core, {**job, **more}, "publish"
                    )

                self._run.measure("stores", title, publish)
            with eventing.store_scene(kind, self._folder) as job:
                self._run.measure("latency", title, lambda job=job: self.latency(job))

    def fairness(self) -> None:
        print("fairness", file=sys.stderr)
        self.python(OURS)
        with self._broker.scene(self._options.queue, queue=True) as job:
            try:
                for row in fairness.rows(job, self._core, max(3.0, self._options.seconds)):
                    self._run.fairness.append(asdict(row))
            except (PeerFault, loadgen.BadAnswer, OSError) as fault:
                self._run.faults["fairness"] = f"failed: {fault}"

    def everything(self) -> None:
        only = self._options.only
        if "publish" in only:
            self.rounds(PUBLISHERS, "publish", self.publish)
        if "consume" in only:
            self.rounds(CONSUMERS, "consume", self.consume)
        if "latency" in only:
            self.latency_of_broker()
        if "sqlite" in only:
            self.store("sqlite", "SQLite")
        if "redis" in only:
            self.store("redis", "Redis")
        if "fairness" in only:
            self.fairness()


# Showing


def ratios(run: Run) -> list[report.Ratio]:
    """Return the rows: quotients of the medians of one run; none of what was not asked for."""

    def quotient(
        label: str, section: str, peer: str, reach: str = "", ours: str = "ours"
    ) -> report.Ratio | None:
        above, below = run.value(section, ours, "rate"), run.value(section, peer, "rate")
        return None if above is None or not below else report.Ratio(label, above / below, reach, "")

    def absolute(
        label: str, section: str, row: str, quantity: str, reach: str
    ) -> report.Ratio | None:
        value = run.value(section, row, quantity)
        return None if value is None else report.Ratio(label, value, reach, "")

    pools = [run.value("publish", name, "rate") or 0.0 for name in ("kombu", "kombu-10")]
    better = "kombu" if pools[0] >= pools[1] else "kombu-10"
    rows = [
        quotient("publish/s, ours ÷ kombu, one producer", "publish", "kombu-single", ">= 6"),
        quotient("publish/s, ours ÷ kombu, the better pool", "publish", better, ">= 6"),
        quotient("publish/s, ours ÷ py-amqp, window of 100", "publish", "raw-windowed", ">= 0.8"),
        quotient("the same, py-amqp in an unpatched process", "publish", "raw-plain"),
        quotient("publish/s, ours ÷ pika", "publish", "pika"),
        quotient("publish/s, ours ÷ nameko", "publish", "nameko"),
        quotient("consume/s, ours ÷ ConsumerMixin", "consume", "kombu", ">= 1"),
        quotient("consume/s, ours ÷ py-amqp", "consume", "raw"),
        quotient("consume/s, ours ÷ nameko", "consume", "nameko"),
        absolute("SQLite: durable publishes/s", "stores", "SQLite", "rate", ">= 5000"),
        absolute("SQLite: median latency, ms", "latency", "SQLite", "p50", "<= 10"),
    ]
    busiest = [row for row in run.fairness if row["asked"] == max(fairness.RATES)]
    for row in busiest:
        label = f"p99 of a call, ms, {row['reached']:,.0f} of {row['asked']:,} {row['way']}/s"
        # Fewer events than asked for prove nothing: no mark, so no verdict.
        reach = "<= 50" if row["reached"] >= 0.9 * row["asked"] else ""
        rows.append(report.Ratio(label, row["p99"], reach, ""))
    return [row for row in rows if row is not None]


def peers_table(run: Run, section: str, title: str, peers: tuple[Peer, ...]) -> str:
    columns = ("msgs/s", "spread", "ours ÷ it", "CPU µs/msg", "it ÷ ours")
    lines = [f"{title:44}" + "".join(f"{column:>12}" for column in columns)]
    our_rate, our_cpu = (run.value(section, "ours", quantity) for quantity in ("rate", "cpu"))
    for peer in peers:
        samples = run.samples.get(section, {}).get(peer.name)
        if not samples:
            continue
        rates = [sample["rate"] for sample in samples]
        rate, cpu = median(rates), median(sample["cpu"] for sample in samples)
        cells = (
            f"{rate:,.0f}",
            f"{(max(rates) - min(rates)) / rate:.0%}",
            _number(our_rate / rate if our_rate else None, ".2f"),
            f"{cpu:.1f}",
            _number(cpu / our_cpu if our_cpu else None, ".2f"),
        )
        lines.append(f"{peer.title:44}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def latency_table(run: Run) -> str:
    columns = ("publishes/s", "CPU µs/msg", "p50 ms", "p99 ms")
    title = f"50 greenlets; latency at {LATENCY_RATE}/s"
    lines = [f"{title:44}" + "".join(f"{column:>12}" for column in columns)]
    for row in ("SQLite", "Redis", "RabbitMQ"):
        section, name = ("publish", "ours") if row == "RabbitMQ" else ("stores", row)
        cells = (
            _number(run.value(section, name, "rate"), ",.0f"),
            _number(run.value(section, name, "cpu"), ".1f"),
            _number(run.value("latency", row, "p50"), ".2f"),
            _number(run.value("latency", row, "p99"), ".2f"),
        )
        if any(cell != "-" for cell in cells):
            lines.append(f"{row:44}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def fairness_table(run: Run) -> str:
    columns = ("sent/s", "passed/s", "p50 ms", "p99 ms", "max ms", "CPU %")
    lines = [f"{'a call over HTTP, while events are':44}" + "".join(f"{c:>12}" for c in columns)]
    for row in run.fairness:
        cells = (
            f"{row['sent']:,.0f}",
            f"{row['reached']:,.0f}",
            *(f"{row[quantity]:.2f}" for quantity in ("p50", "p99", "max")),
            f"{row['cpu']:.0f}",
        )
        title = f"{row['way']} at {row['asked']:,}/s" if row["asked"] else "none"
        lines.append(f"{title:44}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def ratio_table(run: Run) -> str:
    lines = [f"{'reach':52}{'value':>10}{'reach':>10}"]
    for row in ratios(run):
        verdict = row.verdict if row.reach else ""
        lines.append(f"{row.label:52}{_number(row.value, ',.2f'):>10}{row.reach:>10}  {verdict}")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def header(run: Run, version: str) -> str:
    options = run.options
    load = " ".join(f"{average:.2f}" for average in os.getloadavg())
    before = " ".join(f"{average:.2f}" for average in run.load_average)
    listed = [
        f"  {name:18} {', '.join(f'{package} {version}' for package, version in found.items())}"
        for name, found in run.versions.items()
    ]
    return "\n".join(
        [
            f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} "
            f"{platform.machine()}, {os.cpu_count()} cores, RabbitMQ {version}, "
            f"load average {before} before and {load} after",
            f"Pinned: every client has core {options['core']}, the broker what it likes. Medians "
            f"of {options['rounds']} interleaved rounds: {options['seconds']:g} s of publishing, "
            f"{options['messages']:,} messages consumed at prefetch {eventing.PREFETCH}.",
            f"Persistent messages, each confirmed, to a durable {options['queue']} queue.",
            "CPU: user + system of the client's process.",
            "",
            *listed,
        ]
    )


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's values, checked."""
    names = list(dict.fromkeys(peer.name for peer in (*PUBLISHERS, *CONSUMERS)))
    parser = argparse.ArgumentParser(description="Events per second, and CPU per event.")
    parser.add_argument("--seconds", type=float, help="of publishing, per peer; default 2")
    parser.add_argument("--messages", type=int, help="to consume, per peer; default 10000")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--quick", action="store_true", help="one short round, a first look")
    parser.add_argument("--only", help="sections, with commas: " + ",".join(SECTIONS))
    parser.add_argument("--peers", help="names, with commas: " + ",".join(names))
    parser.add_argument("--queue", choices=("quorum", "classic"), default="quorum")
    parser.add_argument("--private", action="store_true", help="start a RabbitMQ of its own")
    parser.add_argument("--folder", type=Path, help="for SQLite's files; default: a temporary one")
    parser.add_argument("--core", type=int, help="the core to pin to; default: the last allowed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (1.0 if options.quick else 2.0)
    options.messages = options.messages or (3000 if options.quick else 10_000)
    if not (0 < options.rounds <= 100 and 0 < options.seconds <= 60):
        parser.error("--rounds is 1 to 100, --seconds up to 60")
    if not 1000 <= options.messages <= 100_000:
        parser.error("--messages is 1000 to 100000")
    allowed = os.sched_getaffinity(0)
    options.core = max(allowed) if options.core is None else options.core
    if options.core not in allowed:
        parser.error(f"--core is one of {sorted(allowed)}")
    for name, known in (("only", SECTIONS), ("peers", names)):
        given = getattr(options, name)
        setattr(options, name, given.split(",") if given else list(known))
        if unknown := set(getattr(options, name)) - set(known):
            parser.error(f"--{name}: unknown {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Run, print, write the file asked for."""
    if platform.system() != "Linux":
        print("this benchmark needs Linux (affinity)", file=sys.stderr)
        return 2
    options = arguments()
    rpc.stop_on_signals()
    shown = {name: value for name, value in vars(options).items() if name not in ("json", "folder")}
    run = Run(shown)
    allowed = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        try:
            with eventing.broker(options.private, Path(folder)) as broker:
                version = broker.version()
                # This process only looks on; a broker of its own has been started before.
                os.sched_setaffinity(0, allowed - {options.core} or allowed)
                Bench(options, run, broker, Path(folder)).everything()
        except (OSError, process.ServerFault) as error:
            print(f"no RabbitMQ: {error}", file=sys.stderr)
            return 1
    tables = [header(run, version)]
    if run.samples.get("publish"):
        tables.append(peers_table(run, "publish", "publish with confirms", PUBLISHERS))
    if run.samples.get("consume"):
        tables.append(peers_table(run, "consume", "consume", CONSUMERS))
    if run.samples.get("latency") or run.samples.get("stores"):
        tables.append(latency_table(run))
    if run.fairness:
        tables.append(fairness_table(run))
    tables.append(ratio_table(run))
    print(*(f"{table}\n" for table in tables), sep="\n")
    for name, fault in run.faults.items():
        print(f"{name}: {fault}")
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(run), indent=1) + "\n")
    return 0 if run.samples or run.fairness else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
