"""Tests of `--listen systemd`: sockets that a service manager keeps open while the server restarts."""

import os
import shutil
import socket
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

import runner
from launcher import DEADLINE_SECONDS, ConnectingClients, Process, Sockets, request, settings_free_environment

RESTARTS = 8


class InheritedSockets(unittest.TestCase):
    def setUp(self):
        self.sockets = Sockets().__enter__()
        self.addCleanup(self.sockets.__exit__)

    def start(self, *flags, sockets=None, **options):
        process = Process(sockets or [self.sockets.tcp, self.sockets.unix], *flags, **options)
        self.addCleanup(lambda: process.process.poll() is None and process.stop())
        return process

    def test_tcp_and_unix_sockets_serve_and_outlive_the_server(self):
        server = self.start()
        port = self.sockets.address[1]
        self.assertEqual(
            server.printed(), f"page    http://127.0.0.1:{port}/\nsocket  ws://127.0.0.1:{port}/ws\n"
        )
        for family in (socket.AF_INET, socket.AF_UNIX):
            self.assertEqual(request(self.sockets.connect(family)), 200)
        self.assertEqual(server.stop(), 0, server.log())
        self.assertIn(f"listening on 127.0.0.1:{port} and {self.sockets.path}", server.log())
        self.assertTrue(Path(self.sockets.path).is_socket(), "the file belongs to the service manager")
        # The next server answers connections that were made while there was none.
        waiting = [self.sockets.connect(family) for family in (socket.AF_INET, socket.AF_UNIX)]
        self.start()
        self.assertEqual([request(client) for client in waiting], [200, 200])

    def test_unix_socket_alone_is_enough(self):
        server = self.start(sockets=[self.sockets.unix])
        self.assertEqual(request(self.sockets.connect(socket.AF_UNIX)), 200)
        self.assertEqual(server.stop(), 0, server.log())

    def test_restarts_refuse_and_cut_off_no_client(self):
        for family in (socket.AF_INET, socket.AF_UNIX):
            with self.subTest(family=family.name):
                server = self.start("--drain=0")
                with ConnectingClients(lambda family=family: self.sockets.connect(family)) as clients:
                    for _ in range(RESTARTS):
                        server.printed()
                        clients.wait_for_more(40)
                        self.assertEqual(server.stop(), 0, server.log())
                        server = self.start("--drain=0")
                    clients.wait_for_more(40)
                print(f"{RESTARTS} restarts, {family.name}: {clients.outcomes}")
                self.assertEqual(list(clients.outcomes), ["answered"])
                server.stop()

    def test_server_that_replaces_another_refuses_and_cuts_off_no_client(self):
        """Both accept from the same sockets for a while."""
        server = self.start("--drain=0", "--drain-delay=100ms")
        with ConnectingClients(self.sockets.connect) as clients:
            for _ in range(RESTARTS):
                clients.wait_for_more(40)
                following = self.start("--drain=0", "--drain-delay=100ms")
                following.printed()
                self.assertEqual(server.stop(), 0, server.log())
                server = following
            clients.wait_for_more(40)
        print(f"{RESTARTS} replacements: {clients.outcomes}")
        self.assertEqual(list(clients.outcomes), ["answered"])

    def test_start_without_usable_sockets_fails_with_one_line(self):
        with socket.socket(type=socket.SOCK_DGRAM) as datagram, self.sockets.connect() as connected:
            cases = [
                ({"listen_pid": "1"}, "systemd has passed no socket"),
                ({"sockets": [self.sockets.tcp, datagram]}, "socket 2 of the .socket unit is neither"),
                ({"sockets": [connected]}, "write Accept=no"),
            ]
            for options, reason in cases:
                with self.subTest(reason):
                    server = self.start(**options)
                    self.assertEqual(server.wait(), 1)
                    line = server.log().splitlines()[-1]
                    self.assertTrue(line.startswith('wscast: --listen "systemd": '), line)
                    self.assertIn(reason, line)

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "no systemd-socket-activate")
    def test_systemd_itself_passes_the_sockets(self):
        path = self.sockets.path + ".activated"
        command = ["systemd-socket-activate", "--listen", path, os.environ["WSCAST_BIN"], "--listen", "systemd"]
        activator = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=settings_free_environment(),
        )  # fmt: skip
        try:
            line = activator.stderr.readline()
            self.assertRegex(line, "Listening on")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(DEADLINE_SECONDS)
                client.connect(path)
                # This connection starts the server.
                self.assertEqual(request(client), 200)
        finally:
            activator.terminate()
            activator.wait(DEADLINE_SECONDS)
            activator.stderr.close()


if __name__ == "__main__":
    runner.main()
