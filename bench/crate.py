"""The crate: an axum hello server with the library's primary and workers, beside the same server by hand
(`bench/run --only crate`).

All candidates stand ready at the same time, and short loads take turns among them: what disturbs the machine for a
second disturbs all of them. Ratios are taken within a turn; medians over all turns. Each round has new processes.

Every process has a session of its own, the load client, too. Where `kernel.sched_autogroup_enabled` is 1, Linux divides
the CPUs among sessions first: servers that share one with others get less. everup gives each worker its own, as systemd
gives each service; so the processes that are started by hand have theirs here, but for those of `shell`.
"""

import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import time

from proc import busy, children, cpu, free_port

COUNT = 2  # workers, processes or threads
CONCURRENCY = 64
TURNS = 8  # of each round
ASIDE = 2.0  # seconds for another try of one load: a turn is of use only if it is short
QUIET = 0.2  # of one CPU, taken by processes that have nothing to do with this
KINDS = {"keep": ("keep-alive requests", ["--keep-alive"]), "fresh": ("fresh connections", [])}

CANDIDATES = {
    "by-hand": ("`SO_REUSEPORT` processes by hand", ["reuseport"]),
    "shell": ("the same, in one session", ["reuseport"]),
    "one": ("one process, 2 threads", ["one"]),
    "reuseport": ("everup, `reuseport`", ["everup", "reuseport"]),
    "shared": ("everup, `shared`", ["everup", "shared"]),
    "least": ("everup, hand-over, least-connections", ["everup", "least-connections"]),
    "rr": ("everup, hand-over, round-robin", ["everup", "round-robin"]),
}
AIMS = {"reuseport": 0.98, "shared": 0.98, "least": 0.95, "rr": 0.95}  # keep-alive requests/s, × by hand
FEATURES = {"default (`tokio`)": [], "none": ["--no-default-features"], "all": ["--all-features"]}


class Server:
    """One of CANDIDATES, running. `primary` is None where there is none."""

    def __init__(self, name, programs, load):
        self.name, self.load, self.port = name, load, free_port()
        command = [programs["bench-axum"], *CANDIDATES[name][1], str(self.port)]
        if name in ("by-hand", "shell"):
            self.started = [start(command, own_session=name == "by-hand") for _ in range(COUNT)]
        else:
            self.started = [start([*command, str(COUNT)], own_session=True)]
        self.primary = self.started[0].pid if CANDIDATES[name][1][0] == "everup" else None

    def servers(self):
        return children(self.primary) if self.primary else [process.pid for process in self.started]

    def warm_up(self):
        """Until every process has answered."""
        limit = time.monotonic() + 30
        expected = 1 if self.name == "one" else COUNT
        answered = []
        while time.monotonic() < limit:
            answered = self.load(self.port, 0.25, [])["workers"]
            if len(answered) == expected:
                self.load(self.port, 0.25, KINDS["keep"][1])
                return
        raise RuntimeError(f"{self.name}: only {len(answered)} of {expected} processes answered")

    def measure(self, seconds, more):
        servers, primaries = self.servers(), [self.primary] if self.primary else []
        began, machine, primary, work = time.monotonic(), busy(), sum(map(cpu, primaries)), sum(map(cpu, servers))
        load = self.load(self.port, seconds, more)
        primary, work = sum(map(cpu, primaries)) - primary, sum(map(cpu, servers)) - work
        others = (busy() - machine - primary - work - load["cpu"]) / (time.monotonic() - began)
        answers = max(load["ok"], 1)
        return {
            "rate": load["rate"],
            "p99": load["p99"],
            "primary_us": primary / answers * 1e6,
            "work_us": work / answers * 1e6,
            "client_cpus": load["cpu"] / load["elapsed"],
            "busiest": max(load["workers"].values(), default=0) / answers * 100,
            "failed": load["failed"],
            "others": others,
        }

    def stop(self):
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(command, own_session):
    """In a session of its own, or in ours."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, start_new_session=own_session)


class Crate:
    """The whole measurement. `load(port, seconds, more)` is the load client."""

    def __init__(self, programs, load, rounds, seconds, patience):
        self.programs, self.load = programs, load
        self.rounds, self.seconds, self.patience = rounds, seconds, patience
        self.results = {}
        self.load_averages = []

    def measure(self):
        for turn in range(self.rounds):
            servers = []
            try:
                for name in CANDIDATES:
                    servers.append(Server(name, self.programs, self.load))
                for server in servers:
                    server.warm_up()
                self.round(turn, servers)
            finally:
                for server in servers:
                    server.stop()
        return self

    def round(self, turn, servers):
        for number in range(TURNS):
            for kind, (_, more) in KINDS.items():
                # Not in a circle: nobody shall always follow the same one.
                order = random.Random(f"{turn} {number} {kind}").sample(servers, len(servers))
                for server in order:
                    self.results.setdefault((server.name, kind), []).append(self.one(server, more))
        self.load_averages.append(os.getloadavg()[0])
        rates = {name: self.ratio(name, "by-hand", "keep", "rate") for name in CANDIDATES}
        text = ", ".join(f"{name} {value:.3f}" for name, value in rates.items())
        print(f"crate, round {turn + 1}: keep-alive × by hand so far: {text}", file=sys.stderr)

    def one(self, server, more):
        """Again, while there is patience, if other processes took a part of the machine; the quietest one counts."""
        began = time.monotonic()
        best = server.measure(self.seconds, more)
        while best["others"] > QUIET and time.monotonic() - began < min(self.patience, ASIDE):
            found = server.measure(self.seconds, more)
            best = min(best, found, key=lambda one: one["others"])
        self.patience -= time.monotonic() - began - self.seconds
        return best

    # --- the report ---

    def values(self, name, kind, field):
        return [result[field] for result in self.results[name, kind]]

    def median(self, name, kind, field):
        return statistics.median(self.values(name, kind, field))

    def ratios(self, name, base, kind, field):
        pairs = zip(self.results[name, kind], self.results[base, kind])
        return [mine[field] / theirs[field] for mine, theirs in pairs]

    def ratio(self, name, base, kind, field):
        return statistics.median(self.ratios(name, base, kind, field))

    def lines(self, root):
        lines = self.circumstances()
        for kind, (title, _) in KINDS.items():
            lines += ["", f"### {title[0].upper()}{title[1:]}", "", *self.table(kind)]
        return [*lines, "", "### Aims of the crate", "", *self.aims(), "", "### Dependencies of the crate", "", *dependencies(root)]

    def circumstances(self):
        others = [result["others"] for results in self.results.values() for result in results]
        client = [self.median(name, "keep", "client_cpus") for name in CANDIDATES]
        count = len(self.results["one", "keep"])
        return [
            f"An axum server ([bench/axum](axum)) with {COUNT} workers of one thread each. {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())},"
            f" {self.rounds} rounds of new processes, {count} interleaved turns of {self.seconds:g} s in all for each candidate and kind of load;"
            " medians; ratios are taken within a turn, with the middle half of them in brackets.",
            "Every process has a session of its own, as everup's workers and systemd's services have, but for those \"in one session\":"
            f" with `kernel.sched_autogroup_enabled`, {autogroup()} here, Linux divides the CPUs among sessions first.",
            f"{CONCURRENCY} connections at a time. Client and servers share {os.cpu_count()} CPUs (the client takes"
            f" {min(client):.2f}–{max(client):.2f} of one on keep-alive); loopback; µs are CPU time per request or connection.",
            f"Taken by other processes meanwhile: median {statistics.median(others):.2f}, at most {max(others):.2f} CPUs; load average"
            f" (which counts this, too) at the ends of the rounds {min(self.load_averages):.1f}–{max(self.load_averages):.1f}."
            + ("" if statistics.median(others) <= QUIET else " **The machine was not quiet: do not rely on these numbers.**"),
        ]

    def table(self, kind):
        head = ["", f"{KINDS[kind][0]}/s", "× by hand", "× one process", "p99 ms", "p99 × by hand", "p99 × one process"]
        head += ["servers µs", "× by hand", "primary µs", "busiest process", "failed"]
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for name, (title, command) in CANDIDATES.items():
            cells = [
                title,
                f"{self.median(name, kind, 'rate'):,.0f}",
                self.spread(name, "by-hand", kind, "rate"),
                self.spread(name, "one", kind, "rate"),
                f"{self.median(name, kind, 'p99'):.2f}",
                self.spread(name, "by-hand", kind, "p99"),
                self.spread(name, "one", kind, "p99"),
                f"{self.median(name, kind, 'work_us'):.2f}",
                self.spread(name, "by-hand", kind, "work_us"),
                f"{self.median(name, kind, 'primary_us'):.1f}" if command[0] == "everup" else "–",
                f"{self.median(name, kind, 'busiest'):.0f} %",
                str(sum(self.values(name, kind, "failed"))),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return lines

    def spread(self, name, base, kind, field):
        if name == base:
            return "1"
        low, middle, high = statistics.quantiles(self.ratios(name, base, kind, field), n=4)
        return f"{middle:.2f} ({low:.2f}–{high:.2f})"

    def aims(self):
        lines = ["| aim: keep-alive requests/s | × by hand | × by hand, in one session |", "|---|---|---|"]
        for name, aim in AIMS.items():
            found = [self.ratio(name, base, "keep", "rate") for base in ("by-hand", "shell")]
            cells = [f"{value:.3f} {'✓' if value >= aim else '✗'}" for value in found]
            lines.append(f"| {CANDIDATES[name][0]}: ≥ {aim} | {' | '.join(cells)} |")
        return lines


def autogroup():
    setting = pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled")
    return setting.read_text().strip() if setting.exists() else "which is not there"


def dependencies(root):
    """How many packages the crate `everup` is built of."""
    lines = ["Packages in `cargo tree -p everup -e normal`, the crate itself and `everup-core` among them:", ""]
    lines += ["| features | packages | without procedural macros and what only they need |", "|---|---|---|"]
    for title, flags in FEATURES.items():
        counts = [tree(root, edges, flags) for edges in ("normal", "normal,no-proc-macro")]
        lines.append(f"| {title} | {counts[0]} | {counts[1]} |")
    return lines


def tree(root, edges, flags):
    # Without --no-dedupe a package that is named twice has a second line, which ends with "(*)".
    command = ["cargo", "tree", "-p", "everup", "-e", edges, "--prefix", "none", "--no-dedupe", *flags]
    text = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return len(set(filter(None, text.splitlines())))


# --- RESULTS.md --------------------------------------------------------------------------------------------------


def placed(text, old, lines):
    """`text` with our section at its end: of these lines, or the old one. What somebody wrote there stays."""
    section = section_of(old)
    if lines:
        at = section.find(READING)
        section = "\n".join([HEADING, "", *lines, "", section[at:] if at >= 0 else ""])
    return f"{text.replace(section_of(text), '').rstrip()}\n\n{section.rstrip()}\n" if section else text


def section_of(text):
    begin = text.find(HEADING)
    if begin < 0:
        return ""
    end = text.find("\n## ", begin + 1)
    return text[begin:] if end < 0 else text[begin : end + 1]


HEADING = "## The crate (`bench/run --only crate`)"
READING = "### How to read it"
