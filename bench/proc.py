"""What the system knows about processes and the machine (`/proc`), and a free port."""

import os
import pathlib
import socket


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        found += [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def cpu(pid):
    """CPU seconds of all threads, to the nanosecond."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            total += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        except FileNotFoundError:
            pass  # the thread has just ended
    return total / 1e9


def busy():
    """CPU seconds that the whole machine has worked."""
    user, nice, system, _idle, _wait, irq, soft, *_ = map(int, open("/proc/stat").readline().split()[1:])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """VmRSS, VmHWM and Pss in KiB."""
    fields = {}
    for name in ("status", "smaps_rollup"):
        for line in pathlib.Path(f"/proc/{pid}/{name}").read_text().splitlines():
            key, _, value = line.partition(":")
            fields[key] = value
    return {key: int(fields[key].split()[0]) for key in ("VmRSS", "VmHWM", "Pss")}


def resident(pids):
    """Resident memory of some processes together, in KiB: of a file that several have mapped, what the one has that has most."""
    private, files = 0, {}
    for pid in pids:
        mine = {}
        for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                name = " ".join(words[5:]) if words[4] != "0" else None
            elif words[0] == "Rss:" and name:
                mine[name] = mine.get(name, 0) + int(words[1])
            elif words[0] == "Rss:":
                private += int(words[1])
        files = {name: max(mine.get(name, 0), files.get(name, 0)) for name in mine | files}
    return private + sum(files.values())


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]
