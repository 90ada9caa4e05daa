"""Tests of the server behind real proxies: nginx, HAProxy and Caddy, mostly with their settings in assets/deploy."""

import asyncio
import http.client
import json
import re
import socket
import time
import unittest
import urllib.request

import websockets

import caddy
import haproxy
import nginx
import runner
from launcher import ConnectingClients, Process, Sockets
from server import DEADLINE_SECONDS, Server

# On Linux, all of 127.0.0.0/8 is loopback, so these clients have different addresses.
ALICE, BOB, MALLORY = "127.0.0.2", "127.0.0.3", "127.0.0.4"

SHORT_SECONDS = 2
"""The time-outs of a proxy in a test of idle connections."""
IDLE_PINGS = 12
"""Pings of a server during more than SHORT_SECONDS, at two a second and twice that for safety."""
RESTARTS = 5


class Client:
    """A WebSocket client that keeps its welcome."""

    def __init__(self, websocket):
        self.websocket = websocket
        self.welcome = None

    async def frame(self):
        return json.loads(await asyncio.wait_for(self.websocket.recv(), DEADLINE_SECONDS))


class BehindProxy:
    """The promises of every proxy. Not a TestCase, so that only the classes of the proxies are run."""

    ends_idle_connections = True
    streamed_with = {}
    """The headers of a request for an event stream."""

    def config(self, *nodes):
        """The settings of assets/deploy with these nodes."""
        raise NotImplementedError

    def with_short_timeouts(self, config):
        """The settings, with SHORT_SECONDS for each time-out of idle connections. Unchanged if the proxy has none."""
        raise NotImplementedError

    def proxy(self, config):
        """Starts the proxy and returns the port of its site."""
        raise NotImplementedError

    def start(self, *flags):
        """Starts a server that trusts 127.0.0.1, the address that the proxy connects from, and the proxy before it."""
        self.server = self.enterContext(Server("--trusted-proxies", "127.0.0.1", *flags))
        self.start_proxy(self.config(f"127.0.0.1:{self.server.port}"))

    def start_proxy(self, config):
        self.address = f"127.0.0.1:{self.proxy(config)}"

    def enterContext(self, manager):
        # unittest has this method since Python 3.11.
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value

    async def connect(self, client_address, **options):
        """Connects a WebSocket through the proxy and reads the welcome."""
        options["local_addr"] = (client_address, 0)
        connecting = websockets.connect(f"ws://{self.address}/ws", proxy=None, **options)
        websocket = await asyncio.wait_for(connecting, DEADLINE_SECONDS)
        self.addAsyncCleanup(websocket.close)
        client = Client(websocket)
        client.welcome = await client.frame()
        return client

    def assert_logged_address(self, welcome, address):
        """Checks that the server's log has this address for the client of the welcome."""
        lines = [line for line in self.server.log().splitlines() if welcome["client"] in line]
        self.assertTrue(lines, self.server.log())
        for line in lines:
            self.assertRegex(line, rf"\b{re.escape(address)}\b")

    async def test_websocket_clients_receive_each_others_messages(self):
        self.start()
        alice, bob = await self.connect(ALICE), await self.connect(BOB)

        await alice.websocket.send('{"type":"message","payload":"hello from alice"}')

        for client in (alice, bob):
            self.assertEqual((await client.frame())["payload"], "hello from alice")

    async def test_event_stream_delivers_each_message_at_once(self):
        self.start()
        await self.assert_event_stream_delivers_at_once()

    async def assert_event_stream_delivers_at_once(self):
        connection = http.client.HTTPConnection(self.address, timeout=DEADLINE_SECONDS)
        self.addCleanup(connection.close)
        connection.request("GET", "/rooms/lobby/events", headers=self.streamed_with)
        stream = connection.getresponse()
        self.assertEqual(stream.status, 200)
        self.assertEqual(stream.headers["Content-Type"].split(";")[0], "text/event-stream")

        # The head arrives before the server has joined the stream to the room.
        await asyncio.to_thread(self.wait_for_event, stream, "joined")
        # The next message is published only after the stream has delivered the one before.
        for number in range(3):
            await asyncio.to_thread(self.publish, number)
            message = await asyncio.to_thread(self.next_message, stream)
            self.assertEqual(message["payload"], number)

    def publish(self, payload):
        request = urllib.request.Request(
            f"http://{self.address}/rooms/lobby/messages",
            data=json.dumps({"type": "message", "payload": payload}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            self.assertEqual(response.status, 201)

    def wait_for_event(self, stream, name):
        """Reads the stream up to the line that names this event."""
        while line := stream.readline().decode():
            if line.strip() == f"event: {name}":
                return
        self.fail(f"the stream ended: {self.proxy_log()}")

    def next_message(self, stream):
        """Reads the stream up to the next message, and skips events that are not messages."""
        while True:
            line = stream.readline().decode()
            self.assertTrue(line, f"the stream ended: {self.proxy_log()}")
            if line.startswith("data:"):
                message = json.loads(line.removeprefix("data:"))
                if message.get("type") == "message" and message.get("from") != "server":
                    return message

    async def test_server_sees_the_address_of_the_client(self):
        self.start("--log-level", "debug")

        for address in (ALICE, BOB):
            client = await self.connect(address)
            self.assert_logged_address(client.welcome, address)

    async def test_client_cannot_choose_its_address(self):
        self.start("--log-level", "debug")

        for name, value in [
            ("X-Forwarded-For", ALICE),
            ("X-Forwarded-For", f"{ALICE}, 127.0.0.1"),
            ("Forwarded", f"for={ALICE}"),
            ("X-Real-IP", ALICE),
        ]:
            with self.subTest(header=name, value=value):
                client = await self.connect(MALLORY, additional_headers={name: value})
                self.assert_logged_address(client.welcome, MALLORY)

    async def test_connection_refused_by_a_node_goes_to_the_next(self):
        self.start()
        with Server() as stopped_node:
            stopped = stopped_node.port
        self.start_proxy(self.config(f"127.0.0.1:{stopped}", f"127.0.0.1:{self.server.port}"))

        for _ in range(4):
            await self.connect(ALICE)

    async def test_idle_connections_outlive_the_time_outs_of_the_proxy(self):
        self.start("--ping-interval", "500ms")
        self.start_proxy(self.with_short_timeouts(self.config(f"127.0.0.1:{self.server.port}")))

        for path in ("/ws", "/rooms/lobby/events"):
            with self.subTest(path):
                self.assertEqual(await asyncio.to_thread(self.pings_of_idle_client, path), IDLE_PINGS)
        if self.ends_idle_connections:
            # Without pings, each of them is ended: the time-outs are those that count.
            silent = self.enterContext(Server("--trusted-proxies", "127.0.0.1", "--ping-interval", "1h"))
            self.start_proxy(self.with_short_timeouts(self.config(f"127.0.0.1:{silent.port}")))
            for path in ("/ws", "/rooms/lobby/events"):
                self.assertEqual(await asyncio.to_thread(self.pings_of_idle_client, path), 0)

    def pings_of_idle_client(self, path):
        """Connects, sends nothing but pongs, and counts pings, IDLE_PINGS at most."""
        with socket.create_connection(self.address.split(":"), DEADLINE_SECONDS) as client:
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            is_socket = path == "/ws"
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n{upgrade if is_socket else ''}\r\n".encode())
            received = b""
            # An empty ping, or a comment of an event stream.
            ping = b"\x89\x00" if is_socket else b"\n:"
            while received.count(ping) < IDLE_PINGS and (part := client.recv(4096)):
                received += part
                if is_socket and ping in part:
                    client.sendall(b"\x8a\x80abcd")
        return received.count(ping)

    def test_restarted_server_refuses_no_request_through_the_proxy(self):
        sockets = self.enterContext(Sockets())
        start = lambda: Process([sockets.tcp], "--drain=0", "--trusted-proxies=127.0.0.1")
        server = start()
        server.printed()
        self.start_proxy(self.config("%s:%s" % sockets.address))
        connect = lambda: socket.create_connection(self.address.split(":"), DEADLINE_SECONDS)
        with ConnectingClients(connect) as clients:
            for _ in range(RESTARTS):
                clients.wait_for_more(30)
                self.assertEqual(server.stop(), 0, server.log())
                server = start()
                server.printed()
            clients.wait_for_more(30)
        server.stop()
        print(f"{RESTARTS} restarts: {clients.outcomes}")
        self.assertEqual(list(clients.outcomes), ["answered"], self.proxy_log())


@unittest.skipUnless(nginx.find_program(), "no nginx")
class BehindNginx(BehindProxy, unittest.IsolatedAsyncioTestCase):
    def config(self, *nodes):
        return nginx.deployed_config(*nodes)

    def with_short_timeouts(self, config):
        return replaced(config, "proxy_read_timeout 60s", f"proxy_read_timeout {SHORT_SECONDS}s")

    def proxy(self, config):
        self.nginx = self.enterContext(nginx.Nginx(config))
        return self.nginx.ports[80]

    def proxy_log(self):
        return self.nginx.log()

    async def test_everything_works_below_a_path_prefix(self):
        for prefix in ("/chat/", "/a/b-c/"):
            with self.subTest(prefix):
                server = self.enterContext(Server("--trusted-proxies", "127.0.0.1"))
                config = nginx.deployed_config(f"127.0.0.1:{server.port}")
                below = config.replace("location / {", f"location {prefix} {{")
                below = below.replace("proxy_pass http://nodes;", "proxy_pass http://nodes/;")
                self.assertNotEqual(config, below)
                self.address = f"127.0.0.1:{self.proxy(below)}{prefix.rstrip('/')}"

                page = self.get(prefix)
                addresses = re.findall(r'(?:href|src)="([^"#]+)"', page)
                addresses = [address for address in addresses if not address.startswith("data:")]
                self.assertTrue(any(address.endswith(".js") for address in addresses), page)
                for address in addresses:
                    self.assertNotRegex(address, "^/", "an absolute address leaves the prefix")
                    self.get(prefix + address)

                client = await self.connect(ALICE)
                await client.websocket.send('{"type":"message","payload":"hello"}')
                self.assertEqual((await client.frame())["payload"], "hello")

    def get(self, path):
        """The text of a page of nginx."""
        host = self.address.split("/")[0]
        with urllib.request.urlopen(f"http://{host}{path}", timeout=DEADLINE_SECONDS) as response:
            return response.read().decode()

    def start_stream(self, *directives):
        """Starts nginx's stream module before the server, with these directives in its server block."""
        block = " ".join([f"listen 1000; proxy_pass 127.0.0.1:{self.server.port};", *directives])
        proxy = self.enterContext(nginx.Nginx(f"events {{}}\nstream {{\nserver {{ {block} }}\n}}\n"))
        self.address = f"127.0.0.1:{proxy.ports[1000]}"

    async def test_websocket_works_through_the_stream_module(self):
        self.start()
        self.start_stream()

        client = await self.connect(ALICE)
        await client.websocket.send('{"type":"message","payload":"hello"}')

        self.assertEqual((await client.frame())["payload"], "hello")

    async def test_stream_module_names_the_client_with_the_proxy_protocol(self):
        self.start("--proxy-protocol", "--log-level", "debug")
        self.start_stream("proxy_protocol on;")

        for address in (ALICE, BOB):
            client = await self.connect(address)
            self.assert_logged_address(client.welcome, address)

    async def test_stream_module_without_the_proxy_protocol_is_logged(self):
        self.start("--proxy-protocol")
        self.start_stream()

        with self.assertRaises((OSError, websockets.InvalidMessage)):
            await self.connect(ALICE)

        self.assertRegex(self.server.log(), "127.0.0.1.*proxy_protocol on")


@unittest.skipUnless(haproxy.find_program(), "no haproxy")
class BehindHAProxy(BehindProxy, unittest.IsolatedAsyncioTestCase):
    def config(self, *nodes):
        return haproxy.deployed_config(*nodes)

    def with_short_timeouts(self, config):
        for name in ("client", "server", "tunnel"):
            config = replaced(config, f"timeout {name} 60s", f"timeout {name} {SHORT_SECONDS}s")
        return config

    def proxy(self, config):
        self.haproxy = self.enterContext(haproxy.HAProxy(config))
        return self.haproxy.port

    def proxy_log(self):
        return self.haproxy.log()

    async def test_proxy_protocol_names_the_client_and_the_probe(self):
        self.start("--proxy-protocol", "--log-level", "debug")
        plain = f"127.0.0.1:{self.server.port}\n"
        with_header = plain.replace("\n", " send-proxy-v2 check-send-proxy\n")
        config = replaced(self.config(plain.strip()), "    http-request set-header X-Forwarded-For %[src]\n", "")
        self.start_proxy(replaced(config, plain, with_header))

        for address in (ALICE, BOB):
            client = await self.connect(address)
            self.assert_logged_address(client.welcome, address)

    async def test_client_cannot_choose_its_address_if_the_header_is_added(self):
        """Many sites use this option, which leaves the header of the client in place."""
        self.start("--log-level", "debug")
        config = self.config(f"127.0.0.1:{self.server.port}")
        config = replaced(config, "http-request set-header X-Forwarded-For %[src]", "option forwardfor")
        self.start_proxy(config)

        client = await self.connect(MALLORY, additional_headers={"X-Forwarded-For": ALICE})
        self.assert_logged_address(client.welcome, MALLORY)

    async def test_token_is_not_logged(self):
        self.start()
        await asyncio.to_thread(self.get, "/health?token=a-secret-token")
        await asyncio.to_thread(self.wait_for_line, "/health")
        self.assertNotIn("a-secret-token", self.proxy_log())

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=DEADLINE_SECONDS) as response:
            return response.read()

    def wait_for_line(self, text):
        """Waits until the proxy's log has a request for this path."""
        end = time.monotonic() + DEADLINE_SECONDS
        while not re.search(rf"nodes/\S+ 200 .*{text}$", self.proxy_log(), re.MULTILINE):
            self.assertLess(time.monotonic(), end, self.proxy_log())
            time.sleep(0.02)


@unittest.skipUnless(caddy.find_program(), "no caddy")
class BehindCaddy(BehindProxy, unittest.IsolatedAsyncioTestCase):
    ends_idle_connections = False

    def config(self, *nodes):
        return caddy.deployed_config(*nodes)

    def with_short_timeouts(self, config):
        return config

    def proxy(self, config):
        self.caddy = self.enterContext(caddy.Caddy(config))
        return self.caddy.port

    def proxy_log(self):
        return self.caddy.log()

    async def test_compression_holds_back_no_event(self):
        """Many sites add this line."""
        self.start()
        config = self.config(f"127.0.0.1:{self.server.port}")
        self.start_proxy(replaced(config, "\treverse_proxy", "\tencode gzip\n\treverse_proxy"))
        self.streamed_with = {"Accept-Encoding": "gzip"}
        await self.assert_event_stream_delivers_at_once()


def replaced(text, before, after):
    """The text with this part replaced, which must be there."""
    assert before in text, before
    return text.replace(before, after)


if __name__ == "__main__":
    runner.main()
