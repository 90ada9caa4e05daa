"""Tests of the server behind a real nginx, mostly with the settings of assets/deploy/nginx.conf."""

import asyncio
import http.client
import json
import re
import unittest
import urllib.request

import websockets

import runner
from nginx import Nginx, deployed_config, find_program
from server import DEADLINE_SECONDS, Server

# On Linux, all of 127.0.0.0/8 is loopback, so these clients have different addresses.
ALICE, BOB, MALLORY = "127.0.0.2", "127.0.0.3", "127.0.0.4"


class Client:
    """A WebSocket client that keeps its welcome."""

    def __init__(self, websocket):
        self.websocket = websocket
        self.welcome = None

    async def frame(self):
        return json.loads(await asyncio.wait_for(self.websocket.recv(), DEADLINE_SECONDS))


@unittest.skipUnless(find_program(), "no nginx")
class BehindNginx(unittest.IsolatedAsyncioTestCase):
    def start(self, *flags):
        """Starts a server that trusts 127.0.0.1, the address that nginx connects from, and nginx before it."""
        self.server = self.enterContext(Server("--trusted-proxies", "127.0.0.1", *flags))
        self.nginx = self.enterContext(Nginx(deployed_config(f"127.0.0.1:{self.server.port}")))
        self.address = f"127.0.0.1:{self.nginx.ports[80]}"

    def enterContext(self, manager):
        # unittest has this method since Python 3.11.
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value

    async def connect(self, client_address, **options):
        """Connects a WebSocket through nginx and reads the welcome."""
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
        connection = http.client.HTTPConnection(self.address, timeout=DEADLINE_SECONDS)
        self.addCleanup(connection.close)
        connection.request("GET", "/rooms/lobby/events")
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
        self.fail(f"the stream ended: {self.nginx.log()}")

    def next_message(self, stream):
        """Reads the stream up to the next message, and skips events that are not messages."""
        while True:
            line = stream.readline().decode()
            self.assertTrue(line, f"the stream ended: {self.nginx.log()}")
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
        nodes = [f"127.0.0.1:{stopped}", f"127.0.0.1:{self.server.port}"]
        nginx = self.enterContext(Nginx(deployed_config(*nodes)))
        self.address = f"127.0.0.1:{nginx.ports[80]}"

        for _ in range(4):
            await self.connect(ALICE)

    async def test_everything_works_below_a_path_prefix(self):
        for prefix in ("/chat/", "/a/b-c/"):
            with self.subTest(prefix):
                server = self.enterContext(Server("--trusted-proxies", "127.0.0.1"))
                config = deployed_config(f"127.0.0.1:{server.port}")
                below = config.replace("location / {", f"location {prefix} {{")
                below = below.replace("proxy_pass http://nodes;", "proxy_pass http://nodes/;")
                self.assertNotEqual(config, below)
                nginx = self.enterContext(Nginx(below))
                self.address = f"127.0.0.1:{nginx.ports[80]}{prefix.rstrip('/')}"

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
        nginx = self.enterContext(Nginx(f"events {{}}\nstream {{\nserver {{ {block} }}\n}}\n"))
        self.address = f"127.0.0.1:{nginx.ports[1000]}"

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


if __name__ == "__main__":
    runner.main()
