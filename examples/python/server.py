#!/usr/bin/env python3
"""A Python server that takes its listening sockets from whoever started it.

    python3 server.py                                       binds PORT (3000) itself
    everup run server.py -i 4 --listen tcp://127.0.0.1:3000 four of these behind one port
    ... --ready notify                                      and everup knows when each of them is ready

The convention is systemd's: LISTEN_FDS sockets wait for us from descriptor 3 on, LISTEN_PID says that they are
meant for this very process, LISTEN_FDNAMES names them. Standard library only.
"""

import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIRST_FD = 3
STOP = {signal.SIGTERM, signal.SIGINT}


def inherited_sockets():
    """The listening sockets that were passed to this process, with their names."""
    # Not for our children: a program that we start must not take them for its own.
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    pid = os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()):
        return []
    found = []
    for number in range(count):
        listener = socket.socket(fileno=FIRST_FD + number)
        listener.set_inheritable(False)
        name = names[number] if number < len(names) and names[number] else "unknown"
        if listener.type == socket.SOCK_STREAM:
            found.append((name, listener))
    return found


def own_socket():
    """A listening socket of our own, for a start without everup."""
    port = int(os.environ.get("PORT") or 3000)
    return socket.create_server(("", port), backlog=511)


def notify(text):
    """Tells whoever started us how we are (sd_notify), if they want to know."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect("\0" + path[1:] if path[0] == "@" else path)
            sender.send(text.encode())


class Handler(BaseHTTPRequestHandler):
    # A client that connects and says nothing does not hold up the end of the process.
    timeout = 10

    def do_GET(self):
        body = f"Hello from Python, pid {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Worker-Pid", str(os.getpid()))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


class Server(ThreadingHTTPServer):
    # server_close() then waits for the requests that are still being answered.
    daemon_threads = False

    def __init__(self, listener):
        super().__init__(None, Handler, bind_and_activate=False)
        self.socket.close()
        # Other workers wait on the same socket: whoever comes second must get EAGAIN, not sleep in accept().
        listener.setblocking(False)
        self.socket = listener


def address(listener):
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"http://localhost:{name[1]}"


def main():
    # These are waited for below. A handler would run between two steps of the main thread: while that sleeps in a lock
    # and the kernel gives the signal to another thread, never. Before the first thread, which inherits it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)

    listeners = inherited_sockets() or [("own", own_socket())]
    servers = [Server(listener) for _, listener in listeners]
    # How often each looks whether it is to end: the shorter, the sooner it ends.
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    for name, listener in listeners:
        print(f"pid {os.getpid()} listening on {address(listener)} ({name})", flush=True)
    # With `--ready notify` everup sends the old process away only now.
    notify("READY=1")

    signal.sigwait(STOP)
    print(f"pid {os.getpid()} stopping", flush=True)
    # No new connections: what is in the socket's queue is for the other processes. Then wait for the open requests.
    for server in servers:
        server.shutdown()
    for server in servers:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
