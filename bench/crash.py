"""From the crash of the only active worker to the next answer, with a spare and without (`bench/run --only spare`)."""

import collections
import json
import os
import signal
import socket
import statistics
import subprocess
import threading
import time

KILLS = 8  # of one everup: more than ten deaths of a slot within ten seconds are answered with a delay
ASKED = 20  # requests before each kill, for comparison
LIMIT = 20.0


def measure(everup, script, rounds):
    """Milliseconds: `request` (on a fresh connection, nobody dead), and from kill to answer: `spare`, `warm` (a spare that
    has answered its liveness probe some times, as with `--health http=/`) and `none`. `first` is the first request
    that a worker answers, which a spare's is, too."""
    result = collections.defaultdict(list)
    for _ in range(rounds):
        probed = ("--health", "http=/", "--health-interval", "100ms")
        for kind, spares, extra in (("spare", 1, ()), ("warm", 1, probed), ("none", 0, ())):
            with Everup(everup, script, spares, extra) as primary:
                for _ in range(KILLS):
                    primary.settle()
                    requests = [primary.ask() for _ in range(ASKED)]
                    result["request"] += [took for took, _ in requests]
                    result[kind].append(primary.crash(requests[-1][1]))
        for _ in range(KILLS):
            with Everup(everup, script, 0, ()) as primary:
                primary.settle()
                result["first"].append(primary.ask()[0])
    return result


def lines(result):
    median = {kind: statistics.median(times) for kind, times in result.items()}
    worst = {kind: max(times) for kind, times in result.items()}
    more = median["spare"] - median["request"]
    warm = median["warm"] - median["request"]
    switch = median["spare"] - median["first"]
    return [
        f"From `kill -9` of the only active worker to the next answer, on a connection that is opened right after the kill;"
        f" {len(result['spare'])} kills each, medians (most):",
        "",
        "| | ms |",
        "|---|---|",
        f"| one request, nobody dead | {median['request']:.2f} ({worst['request']:.1f}) |",
        f"| the first request of a worker, nobody dead | {median['first']:.2f} ({worst['first']:.1f}) |",
        f"| crash to answer with `--spare 1` | {median['spare']:.2f} ({worst['spare']:.1f}) |",
        f"| the same, with `--health http=/` | {median['warm']:.2f} ({worst['warm']:.1f}) |",
        f"| crash to answer without | {median['none']:.1f} ({worst['none']:.1f}) |",
        f"| with a spare, more than one request: aim < 2 ms | {more:.2f} {'✓' if more < 2 else '✗'} |",
        f"| the same, more than the first request of a worker | {switch:.2f} {'✓' if switch < 2 else '✗'} |",
        f"| with `--health http=/`, more than one request | {warm:.2f} {'✓' if warm < 2 else '✗'} |",
    ]


class Everup:
    """`everup run` with one active worker, heard by its events."""

    def __init__(self, everup, script, spares, extra):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
        words = [everup, "run", "--events", "json", "-i", "1", "--spare", str(spares), *extra, str(script)]
        quiet = subprocess.DEVNULL
        environment = dict(os.environ, PORT=str(self.port))
        self.process = subprocess.Popen(words, env=environment, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE)
        self.wanted = 1 + spares
        self.pids, self.ready = {}, set()
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()

    def read(self):
        for line in self.process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a worker's own words
            with self.news:
                if event["event"] == "fork":
                    self.pids[event["slot"]] = event["pid"]
                elif event["event"] == "ready":
                    self.ready.add(event["pid"])
                elif event["event"] == "exit":
                    self.ready.discard(event["pid"])
                self.news.notify_all()

    def settle(self):
        """Everybody is ready, and has been long enough to have nothing else to do."""
        with self.news:
            if not self.news.wait_for(lambda: len(self.ready) == self.wanted, LIMIT):
                raise RuntimeError(f"not {self.wanted} ready workers but {self.ready}")
        time.sleep(0.1)

    def ask(self):
        """Milliseconds to an answer on a fresh connection, and the slot that gave it."""
        began = time.perf_counter()
        slot = self.once()
        return (time.perf_counter() - began) * 1e3, slot

    def once(self):
        with socket.create_connection(("127.0.0.1", self.port), LIMIT) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = client.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"no answer but {answer!r}")
            head = answer.split(b"\r\n\r\n")[0].lower()
            return int(head.split(b"x-worker:")[1].split(b"\r\n")[0])

    def crash(self, slot):
        """Kills the worker of this slot. Milliseconds to the next answer."""
        with self.news:
            victim = self.pids[slot]
            self.ready.discard(victim)
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        while True:
            try:
                self.once()
                return (time.perf_counter() - began) * 1e3
            except ConnectionError:
                if time.perf_counter() - began > LIMIT:
                    raise
