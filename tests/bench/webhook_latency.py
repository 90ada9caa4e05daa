"""Measures whether webhooks that hang delay messages.

    python3 tests/bench/webhook_latency.py [--rounds 5] [--seconds 4] SERVER

Each round measures the server without and with a webhook, in turn first. The webhook accepts connections and never
answers. Meanwhile clients come to rooms of their own and go, so that there is always something to report. The server runs
on one core, and the load on another. Prints the p99 latency of `wscast bench` and the ratio within each round.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import threading
import urllib.parse

REQUEST = (
    "GET /ws?room={room} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SERVER_CORE, LOAD_CORE = 0, 1
CLIENTS = 200
VISITS_PER_SECOND = 50


class HangingWebhook:
    """Accepts every connection and answers none."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.connections = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            self.connections.append(self.listener.accept()[0])


def on_core(core, command):
    """Returns the command, to run on one core where there are several."""
    return ["taskset", "-c", str(core), *command] if os.cpu_count() > 1 else command


def visit(port, stop):
    """Visits a new room again and again."""
    number = 0
    while not stop.wait(1 / VISITS_PER_SECOND):
        number += 1
        with socket.create_connection(("127.0.0.1", port)) as visitor:
            visitor.sendall(REQUEST.format(room=f"visited-{number}").encode())
            visitor.recv(4096)


def p99_ms(server, seconds, flags):
    """Starts a server with these flags and returns the p99 latency of messages to its clients."""
    command = [server, "--host", "127.0.0.1", "--port", "0", "--log-level", "off", "--max-connection-rate", "0", *flags]
    process = subprocess.Popen(on_core(SERVER_CORE, command), stdout=subprocess.PIPE, text=True)
    stop = threading.Event()
    try:
        address = process.stdout.readline().split()[-1]
        port = urllib.parse.urlsplit(address).port
        visitor = threading.Thread(target=visit, args=(port, stop))
        visitor.start()
        bench = [server, "bench", "--json", "--clients", str(CLIENTS), "--duration", f"{seconds}s", f"ws://127.0.0.1:{port}"]
        printed = subprocess.run(on_core(LOAD_CORE, bench), stdout=subprocess.PIPE, check=True, timeout=seconds + 60)
        stop.set()
        visitor.join()
        return json.loads(printed.stdout)["latency_ms"]["p99"]
    finally:
        stop.set()
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    webhook = HangingWebhook()
    sides = [("without", []), ("with", ["--webhook", webhook.url])]
    ratios = []
    for number in range(options.rounds):
        figures = {}
        for name, flags in sides if number % 2 == 0 else reversed(sides):
            figures[name] = p99_ms(options.server, options.seconds, flags)
        ratios.append(figures["with"] / figures["without"])
        print(f"round {number + 1}: p99 {figures['without']:.2f} ms without, {figures['with']:.2f} ms with a webhook: {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}, {len(webhook.connections)} webhook connections hang")


if __name__ == "__main__":
    main()
