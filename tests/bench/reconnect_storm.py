"""Measures how fast clients are back after a server was killed: all of them connect again at once.

    python3 tests/bench/reconnect_storm.py [--clients 8000] [--rounds 2] SERVER [OLD_SERVER]

Each round starts a server, connects the clients, kills the server with SIGKILL, starts it again on the same port and
connects all clients at the same moment. The figure is the time from that moment until 99 % of them have their welcome.
With a second server the rounds alternate. The load runs on loopback only, and each round ends after 60 seconds.
"""

import argparse
import random
import resource
import select
import socket
import statistics
import subprocess
import time

REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ROUND_SECONDS_MAX = 60
RETRY_SECONDS = (0.5, 1.0)
SHARE_BACK = 0.99


def start(server, port):
    """Starts a server and returns its process and port."""
    flags = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen([server, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    address = process.stdout.readline().rsplit(":", 1)[-1]
    return process, int(address.strip().rstrip("/"))


class Clients:
    """Clients that connect and wait for their welcome; a failed attempt is repeated after a random time."""

    def __init__(self, port, count):
        self.port, self.count = port, count
        self.poll = select.epoll()
        self.open, self.welcomed = {}, set()
        self.retries = []

    def connect(self):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", self.port))
        self.open[client.fileno()] = client
        self.poll.register(client, select.EPOLLOUT)

    def connect_all(self):
        """Connects all clients; returns the seconds until 99 % are welcome, or None if that takes too long."""
        begin = time.monotonic()
        for _ in range(self.count):
            self.connect()
        while len(self.welcomed) < self.count * SHARE_BACK:
            now = time.monotonic()
            if now - begin > ROUND_SECONDS_MAX:
                return None
            due = [at for at in self.retries if at <= now]
            self.retries = [at for at in self.retries if at > now]
            for _ in due:
                self.connect()
            for fd, events in self.poll.poll(0.05):
                self.handle(fd, events)
        return time.monotonic() - begin

    def handle(self, fd, events):
        client = self.open[fd]
        try:
            if events & select.EPOLLOUT:
                client.send(REQUEST)
                self.poll.modify(fd, select.EPOLLIN)
                return
            received = client.recv(4096)
            if not received:
                raise ConnectionResetError
            if b'"from":"server"' in received:
                self.welcomed.add(fd)
                # It stays connected and idle.
                self.poll.unregister(fd)
        except OSError:
            self.poll.unregister(fd)
            del self.open[fd]
            client.close()
            self.retries.append(time.monotonic() + random.uniform(*RETRY_SECONDS))

    def close(self):
        for client in self.open.values():
            client.close()
        self.poll.close()


def measure(server, count):
    """Runs one round and returns its seconds."""
    process, port = start(server, 0)
    before = Clients(port, count)
    try:
        if before.connect_all() is None:
            raise SystemExit(f"{server}: the clients did not connect in {ROUND_SECONDS_MAX} s")
        process.kill()
        process.wait()
        before.close()
        process, port = start(server, port)
        after = Clients(port, count)
        seconds = after.connect_all()
        after.close()
        return seconds if seconds is not None else float("inf")
    finally:
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("servers", nargs="+", metavar="SERVER")
    parser.add_argument("--clients", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    wanted = 2 * options.clients + 100
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"{options.clients} clients need {wanted} descriptors; the limit (ulimit -Hn) is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    seconds = {server: [] for server in options.servers}
    for _ in range(options.rounds):
        for server in options.servers:
            seconds[server].append(measure(server, options.clients))
    for server, values in seconds.items():
        listed = ", ".join(f"{value:.2f}" for value in values)
        print(f"{server}: 99 % of {options.clients} clients back after {statistics.median(values):.2f} s ({listed})")


if __name__ == "__main__":
    main()
