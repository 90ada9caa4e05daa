"""A small service manager: passes listening sockets to the server, as sd_listen_fds(3) describes, and restarts it."""

import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

DEADLINE_SECONDS = 20
"""The longest that a test waits for anything."""

START = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
"""A program that becomes the server. The variable must name the server's own process."""


def settings_free_environment():
    """The environment without settings of the server."""
    names = ("HOST", "PORT", "LISTEN_FDS", "LISTEN_PID")
    return {name: value for name, value in os.environ.items() if name not in names and not name.startswith("WSCAST_")}


class Process:
    """A running server that got these sockets. Its log is read by a thread, so that it never blocks."""

    def __init__(self, sockets, *flags, listen_pid=None):
        descriptors = [listener.fileno() for listener in sockets]
        # The descriptors begin at 3. They are moved there one by one, from copies above that range.
        moves = [f"exec {3 + n}<&{fd}" for n, fd in enumerate(descriptors)]
        environment = {**settings_free_environment(), "LISTEN_FDS": str(len(sockets))}
        start = START if listen_pid is None else START.replace("str(os.getpid())", repr(listen_pid))
        command = ["bash", "-c", "; ".join([*moves, 'exec "$@"']), "bash", "python3", "-c", start]
        self.process = subprocess.Popen(
            [*command, os.environ["WSCAST_BIN"], "--listen", "systemd", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=descriptors,
            env=environment,
        )
        self._log = []
        self._reader = threading.Thread(target=lambda: self._log.extend(self.process.stderr), daemon=True)
        self._reader.start()

    def printed(self):
        """The first lines of stdout, once the server has printed them."""
        if not select.select([self.process.stdout], [], [], DEADLINE_SECONDS)[0]:
            raise AssertionError("the server prints nothing")
        return os.read(self.process.stdout.fileno(), 4096).decode()

    def stop(self):
        """Ends the server as a service manager does, and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        code = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def log(self):
        return "".join(self._log)


class Sockets:
    """A TCP and a Unix socket that listen, for one `with` block."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self._folder.name) / "wscast.sock")
        self.tcp = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.path)
        self.unix.listen(4096)
        self.address = self.tcp.getsockname()
        return self

    def __exit__(self, *_):
        self.tcp.close()
        self.unix.close()
        self._folder.cleanup()

    def connect(self, family=socket.AF_INET):
        client = socket.socket(family)
        client.settimeout(DEADLINE_SECONDS)
        client.connect(self.address if family == socket.AF_INET else self.path)
        return client


def request(client, path="/"):
    """The status of a request on a connected socket, which is closed afterwards. None if it was cut off."""
    with client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: wscast\r\nConnection: close\r\n\r\n".encode())
        response = b""
        while part := client.recv(4096):
            response += part
    return int(response.split(b" ", 2)[1]) if response.startswith(b"HTTP/1.1 ") else None


class ConnectingClients:
    """Threads that connect, request and close, one connection after the other, and count the outcomes."""

    def __init__(self, connect, threads=4):
        self.connect = connect
        self.outcomes = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)

    def count(self):
        with self._lock:
            return sum(self.outcomes.values())

    def wait_for_more(self, requests):
        """Waits until this many further requests have an outcome."""
        wanted, end = self.count() + requests, time.monotonic() + DEADLINE_SECONDS
        while self.count() < wanted:
            if time.monotonic() > end:
                raise AssertionError(f"requests hang: {self.outcomes}")
            self._stop.wait(0.005)

    def _run(self):
        while not self._stop.is_set():
            try:
                status = request(self.connect())
                outcome = "answered" if status == 200 else f"status {status}"
            except OSError as error:
                outcome = type(error).__name__
            with self._lock:
                self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
