"""The daemon beside pm2's (`bench/run --only daemon`): memory, `list`, starts, restarts, crashes, idling.

Both get the same files and the same words; each round has new daemons with homes of their own, in turns. A trivial app
is `sleep`: nothing of the app itself is measured.
"""

import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import tempfile
import time

from proc import free_port, memory, resident

HERE = pathlib.Path(__file__).resolve().parent
NODE_MODULES = HERE / "node_modules"
MANY = 100
SINGLE = 20
LOOKS = 10
KILLS = 4
IDLE = 30.0
LIMIT = 120.0
TRY = 0.5
RESTS = 6.0  # until memory is weighed
SETTLED = 1.5  # after this long an app that dies is started again at once, by both
HUGE = 1000

# Figure: title, unit, ratio to pm2 that is aimed at.
RATIOS = {
    "rss0": ("memory without apps (resident)", "MiB", 1 / 5),
    "rss10": ("memory with 10 apps", "MiB", 1 / 5),
    "rss100": ("memory with 100 apps", "MiB", 1 / 5),
    "pss0": ("the same without apps, as PSS", "MiB", None),
    "pss10": ("the same with 10 apps", "MiB", None),
    "pss100": ("the same with 100 apps", "MiB", None),
    "list": ("`list` of 100", "ms", 1 / 20),
    "jlist": ("`jlist` of 100", "ms", 1 / 20),
    "start": ("start of 100 from a file", "ms", 1 / 3),
    "restart": ("`restart all` of 100", "ms", 1 / 10),
    "single": ("20 single `start` calls", "ms", 1 / 10),
    "delete": ("`delete all` of 100", "ms", None),
    "crash": ("crash to the next answer, default mode", "ms", None),
    "crash_cluster": ("crash to the next answer, `-i 1` (cluster)", "ms", None),
    "idle": ("CPU of 30 s idle with 100 apps", "ms", None),
}


class Manager:
    """One of the two, with a home of its own."""

    def __init__(self, name, program, scratch):
        self.name = name
        self.words = [program] if name == "everup" else [str(NODE_MODULES / ".bin/pm2")]
        self.home = tempfile.mkdtemp(dir=scratch)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("EVERUP", "PM2"))}
        key = "EVERUP_HOME" if name == "everup" else "PM2_HOME"
        self.environment = kept | {key: self.home, "NO_UPDATE_NOTIFIER": "1"}

    def __enter__(self):
        self.call("start", "/bin/sleep", "--interpreter", "none", "--name", "first", "--", "1000")
        self.call("delete", "first")
        return self

    def __exit__(self, *_):
        self.call("kill", check=False)

    def call(self, *words, check=True, more=None):
        """What it says, and how many ms that took."""
        began = time.perf_counter()
        done = subprocess.run(
            [*self.words, *map(str, words)], env=self.environment | (more or {}), capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL
        )
        took = (time.perf_counter() - began) * 1e3
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name} {words}: {done.returncode} {done.stderr.decode()[-2000:]}")
        return done.stdout, took

    def took(self, *words, **more):
        return self.call(*words, **more)[1]

    def processes(self):
        """The daemon, and whoever else stays for its sake."""
        if self.name == "pm2":
            return [int(pathlib.Path(self.home, "pm2.pid").read_text())]
        daemon = int(pathlib.Path(self.home, "daemon.pid").read_text())
        stat = pathlib.Path(f"/proc/{daemon}/stat").read_text()
        return [daemon, int(stat.rpartition(")")[2].split()[1])]

    def pss(self):
        return sum(memory(pid)["Pss"] for pid in self.processes()) / 1024

    def cpu(self):
        return sum(map(cpu_of_all, self.processes()))

    def apps(self):
        words = ("--pm2", "jlist") if self.name == "everup" else ("jlist",)
        return json.loads(self.call(*words)[0])

    def expect(self, count):
        apps = self.apps()
        online = [app for app in apps if app["pm2_env"]["status"] == "online"]
        if len(online) != count:
            raise RuntimeError(f"{self.name}: {len(online)} of {count} are online, of {len(apps)}")


def file_of(scratch, apps):
    path = pathlib.Path(tempfile.mkdtemp(dir=scratch), "ecosystem.config.json")
    path.write_text(json.dumps({"apps": apps}))
    return path


def sleepers(scratch, count, instances=1):
    more = {"instances": instances, "exec_mode": "fork"} if instances > 1 else {}
    app = lambda at: {"name": f"app{at}", "script": "/bin/sleep", "args": "100000", "interpreter": "none", **more}
    return file_of(scratch, [app(at) for at in range(count)])


def answered(port):
    """Whether it answers soon. pm2 in cluster mode may give a connection to a worker that was just killed: there it stays."""
    try:
        with socket.create_connection(("127.0.0.1", port), TRY) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return client.recv(4096).startswith(b"HTTP/1.1 200")
    except (ConnectionError, TimeoutError):
        return False


def answer_after(port):
    """Milliseconds until it answers."""
    began = time.perf_counter()
    while not answered(port):
        if time.perf_counter() - began > LIMIT:
            raise RuntimeError("no answer")
        time.sleep(0.0005)
    return (time.perf_counter() - began) * 1e3


def bare(script):
    """The same for a node that nobody manages, from its start."""
    port = free_port()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(["node", str(script)], env=dict(os.environ, PORT=str(port)), stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        return answer_after(port)
    finally:
        process.kill()
        process.wait()


class Daemons:
    """The measurement. `results`: lists of values by (manager, figure)."""

    def __init__(self, programs, scratch, script):
        self.everup = programs["everup"]
        self.load = programs["e2e-load"]
        self.scratch, self.script = scratch, script
        self.results = {}
        self.huge_results = {}

    def note(self, who, figure, value):
        self.results.setdefault((who, figure), []).append(value)

    def measure(self, rounds, tell):
        for turn in range(rounds):
            for who in ("everup", "pm2") if turn % 2 == 0 else ("pm2", "everup"):
                self.one(who)
                tell(f"daemon, round {turn + 1}, {who}: " + ", ".join(f"{figure} {values[-1]:.4g}" for (name, figure), values in self.results.items() if name == who))
            self.kept()
        for apps, instances in ((10, HUGE // 10), (HUGE, 1)):
            self.huge("everup", apps, instances)
        tell(str(self.huge_results))
        return self

    def one(self, who):
        with Manager(who, self.everup, self.scratch) as manager:
            self.weigh(manager, 0)
            manager.call("start", sleepers(self.scratch, 10))
            self.weigh(manager, 10)
            manager.call("delete", "all")
            start = lambda at: manager.took("start", "/bin/sleep", "--interpreter", "none", "--name", f"one{at}", "--", "100000")
            self.note(who, "single", sum(start(at) for at in range(SINGLE)))
            manager.expect(SINGLE)
            manager.call("delete", "all")
            self.many(manager)
            self.crashes(manager, "crash")
            self.crashes(manager, "crash_cluster", "-i", "1")
        self.note("node", "crash", statistics.median(bare(self.script) for _ in range(KILLS)))

    def many(self, manager):
        who = manager.name
        self.note(who, "start", manager.took("start", sleepers(self.scratch, MANY)))
        manager.expect(MANY)
        for words in ("list", "jlist"):
            self.note(who, words, statistics.median(manager.took(words) for _ in range(LOOKS)))
        before = {app["pid"] for app in manager.apps()}
        time.sleep(SETTLED)
        self.note(who, "restart", manager.took("restart", "all"))
        manager.expect(MANY)
        if before & {app["pid"] for app in manager.apps()}:
            raise RuntimeError(f"{who}: not all were restarted")
        self.weigh(manager, MANY)
        manager.call("list")  # now everup looks at them every second for a minute
        time.sleep(1)
        used = manager.cpu()
        time.sleep(IDLE)
        self.note(who, "idle", (manager.cpu() - used) * 1e3)
        self.note(who, "delete", manager.took("delete", "all"))

    def weigh(self, manager, apps):
        time.sleep(RESTS)
        self.note(manager.name, f"pss{apps}", manager.pss())
        self.note(manager.name, f"rss{apps}", resident(manager.processes()) / 1024)

    def crashes(self, manager, figure, *words):
        port = free_port()
        manager.call("start", self.script, "--name", figure, *words, more={"PORT": str(port)})
        answer_after(port)
        took = []
        for _ in range(KILLS):
            time.sleep(SETTLED)
            pid = next(app["pid"] for app in manager.apps() if app["name"] == figure)
            os.kill(pid, signal.SIGKILL)
            took.append(answer_after(port))
        manager.call("delete", figure)
        self.note(manager.name, figure, statistics.median(took))

    def kept(self):
        """Fresh connections/s of an engine whose state is written down for a successor, beside one whose is not."""
        with Manager("everup", self.everup, self.scratch) as manager:
            port = free_port()
            manager.call("start", self.script, "-i", "2", "--name", "kept", more={"PORT": str(port)})
            quiet = subprocess.DEVNULL
            other = free_port()
            words = [self.everup, "run", "-i", "2", str(self.script)]
            alone = subprocess.Popen(words, env=dict(os.environ, PORT=str(other)), stdin=quiet, stdout=quiet, stderr=quiet)
            try:
                self.race({"kept": (port, manager.processes()[:1]), "run": (other, [alone.pid])})
            finally:
                alone.terminate()
                alone.wait()

    def race(self, who):
        for port, _ in who.values():
            answer_after(port)
            self.fresh(port, 1)
        for _ in range(4):
            for name, (port, pids) in who.items():
                used = sum(map(cpu_of_all, pids))
                found = self.fresh(port, 1)
                used = sum(map(cpu_of_all, pids)) - used
                self.note(name, "fresh", found["rate"])
                self.note(name, "primary_us", used / max(found["ok"], 1) * 1e6)

    def fresh(self, port, seconds):
        words = [self.load, f"127.0.0.1:{port}", "--targets", "8", "--concurrency", "64", "--seconds", str(seconds)]
        return json.loads(subprocess.run(words, check=True, capture_output=True).stdout)

    def huge(self, who, apps, instances):
        with Manager(who, self.everup, self.scratch) as manager:
            start = manager.took("start", sleepers(self.scratch, apps, instances))
            manager.expect(apps * instances)
            looks = [manager.took("list") for _ in range(LOOKS)]
            time.sleep(RESTS)
            daemon = memory(manager.processes()[0])
            found = {"start": start, "list": statistics.median(looks), "rss": daemon["VmRSS"] / 1024, "pss": daemon["Pss"] / 1024}
            self.huge_results[who, apps, instances] = found
            found["delete"] = manager.took("delete", "all")

    # --- the report ---

    def median(self, who, figure):
        return statistics.median(self.results[who, figure])

    def ratio(self, figure):
        pairs = zip(self.results["everup", figure], self.results["pm2", figure])
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def lines(self):
        rounds = len(self.results["everup", "list"])
        lines = [HEADING, "", f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {rounds} interleaved rounds, medians (least–most);"]
        lines += ["ratios are taken within a round. The apps are `sleep`. Memory is of keeper and daemon together: resident, what both have of a"]
        lines += ["file counted once; and as PSS, which is less for node's pages when other nodes run on the machine."]
        lines += ["", "| | everup | pm2 | everup / pm2 | aim | |", "|---|---|---|---|---|---|"]
        lines += [self.row(figure, *about) for figure, about in RATIOS.items()]
        lines += ["", *self.others(), ""]
        return lines

    def row(self, figure, title, unit, aim):
        ratio = self.ratio(figure)
        shown = f"≤ 1/{round(1 / aim)}" if aim else "–"
        met = mark(ratio <= aim) if aim else ""
        cells = [self.spread(who, figure, unit) for who in ("everup", "pm2")]
        return f"| {title} | {cells[0]} | {cells[1]} | 1/{1 / ratio:.1f} | {shown} | {met} |"

    def spread(self, who, figure, unit):
        values = self.results[who, figure]
        show = lambda value: f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
        return f"{show(statistics.median(values))} {unit} ({show(min(values))}–{show(max(values))})"

    def others(self):
        node = self.median("node", "crash")
        more = [self.median("everup", figure) - node for figure in ("crash", "crash_cluster")]
        idle = self.median("everup", "idle")
        size, theirs = os.stat(self.everup).st_size / 1e6, folder(NODE_MODULES) / 1e6
        yield from ["| other aims | | |", "|---|---|---|"]
        yield f"| crash to the next answer, more than a bare node's start ({node:.1f} ms): ≤ 10 ms | {more[0]:+.1f} ms; with `-i 1` {more[1]:+.1f} ms | {mark(max(more) <= 10)} |"
        yield f"| idle with 100 apps, a sample every second: ≤ 60 ms CPU per 30 s | {idle:.0f} ms | {mark(idle <= 60)} |"
        yield f"| one binary: ≤ 15 MB (pm2's `node_modules`: {theirs:.1f} MB, and node) | {size:.1f} MB | {mark(size <= 15)} |"
        for (_, apps, instances), found in self.huge_results.items():
            title = f"{HUGE:,} processes, {apps:,} apps of {instances}"
            yield f"| {title}: `list` < 50 ms | {found['list']:.1f} ms | {mark(found['list'] < 50)} |"
            yield f"| {title}: daemon < 40 MiB | RSS {found['rss']:.1f}, PSS {found['pss']:.1f} MiB | {mark(found['rss'] < 40)} |"
            yield f"| {title}: start, `delete all` | {found['start'] / 1e3:.1f} s, {found['delete'] / 1e3:.1f} s | |"
        rate = statistics.median(mine / theirs for mine, theirs in zip(self.results["kept", "fresh"], self.results["run", "fresh"]))
        kept, run = self.median("kept", "primary_us"), self.median("run", "primary_us")
        yield f"| fresh connections/s of an app of the daemon, whose state is written down at each step, × `everup run`: ≥ 0.95 | {rate:.3f} ({kept:.1f} and {run:.1f} µs of the primary's CPU) | {mark(rate >= 0.95)} |"


def cpu_of_all(pid):
    """CPU seconds of a process, those of its threads that have ended included."""
    by_scheduler = 2
    return time.clock_gettime((~pid << 3) | by_scheduler)


def mark(good):
    return "✓" if good else "✗"


def folder(path):
    return sum(entry.lstat().st_size for entry in pathlib.Path(path).resolve().rglob("*") if entry.is_file())


# --- RESULTS.md --------------------------------------------------------------------------------------------------


def placed(text, old, lines):
    """`text` with our section at its end: of these lines, or the old one. What somebody wrote under READING stays."""
    section = section_of(old)
    if lines:
        at = section.find(READING)
        section = "\n".join([*lines, section[at:] if at >= 0 else ""])
    return f"{text.replace(section_of(text), '').rstrip()}\n\n{section.rstrip()}\n" if section else text


def section_of(text):
    begin = text.find(HEADING)
    if begin < 0:
        return ""
    end = text.find("\n## ", begin + 1)
    return text[begin:] if end < 0 else text[begin : end + 1]


HEADING = "## Daemon (`bench/run --only daemon`)"
READING = "### How to read the daemon's"
