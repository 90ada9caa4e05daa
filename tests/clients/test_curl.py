"""Tests of the documented HTTP interface: curl sends requests to the real binary."""

import json
import re
import shutil
import subprocess
import tempfile
import time
import unittest

import runner
from server import DEADLINE_SECONDS, Certificate, Server


class Response:
    """A response: `status`, `headers` (names in lower case) and `body`."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def json(self):
        return json.loads(self.body)


def curl(*arguments):
    """Runs curl and returns its output. The test fails when curl fails."""
    command = [shutil.which("curl") or "curl", "-sS", "--noproxy", "*"]
    command += ["--max-time", str(DEADLINE_SECONDS), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise AssertionError(f"{command} exited {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


class HttpInterface(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags())
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__)

    @classmethod
    def flags(cls):
        return ()

    def fetch(self, path, *arguments):
        output = curl("-i", *arguments, self.server.http + path)
        head, body = output.split("\r\n\r\n", 1)
        if head.startswith("HTTP/1.1 100"):
            head, body = body.split("\r\n\r\n", 1)
        status, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Response(int(status.split()[1]), {k.lower(): v for k, v in headers.items()}, body)

    def assert_json(self, response):
        self.assertEqual(response.headers["content-type"].split(";")[0], "application/json")
        return response.json()

    def assert_error(self, response, status):
        self.assertEqual(response.status, status)
        error = self.assert_json(response)["error"]
        self.assertIsInstance(error["code"], str)
        self.assertIsInstance(error["message"], str)

    def test_health_has_the_documented_fields(self):
        health = json.loads(curl(self.server.http + "/health"))

        self.assertEqual(health["status"], "healthy")
        self.assertEqual(health["connected_clients"], 0)
        self.assertIsInstance(health["message"], str)
        self.assertIsInstance(health["version"], str)
        self.assertGreaterEqual(health["uptime_seconds"], 0)
        self.assert_json(self.fetch("/health"))

    def test_body_in_chunks_is_published(self):
        small = '{"type":"message","payload":"small"}'
        # More than 1 MiB makes curl wait for 100 Continue; more than 64 KiB is refused.
        large = '{"type":"message","payload":"' + "x" * 2_000_000 + '"}'
        json_type = ("-H", "Content-Type: application/json; charset=utf-8")
        chunked = ("-H", "Transfer-Encoding: chunked")
        with tempfile.NamedTemporaryFile("w") as file:
            for body, status in ((small, 201), (large, 413)):
                file.seek(0)
                file.truncate()
                file.write(body)
                file.flush()
                for arguments in (
                    ("--data-binary", "@" + file.name),
                    ("-X", "POST", "-T", file.name),
                    ("--data-binary", "@" + file.name, "-H", "Expect: 100-continue"),
                ):
                    response = self.fetch("/rooms/chunks/messages", *json_type, *chunked, *arguments)
                    self.assertEqual(response.status, status, response.body)

    def test_stats_has_the_documented_fields(self):
        stats = json.loads(curl(self.server.http + "/stats"))

        self.assertEqual(stats["connected_clients"], 0)
        self.assertAlmostEqual(stats["server_time"], time.time(), delta=60)
        self.assert_json(self.fetch("/stats"))

    def test_every_origin_may_read_every_response(self):
        for path in ["/", "/health", "/stats", "/nope"]:
            for origin in [(), ("-H", "Origin: https://other.example")]:
                with self.subTest(path=path, origin=origin):
                    response = self.fetch(path, *origin)
                    self.assertEqual(response.headers["access-control-allow-origin"], "*")

    def test_preflight_request_is_allowed(self):
        response = self.fetch(
            "/health",
            *("-X", "OPTIONS"),
            *("-H", "Origin: https://other.example"),
            *("-H", "Access-Control-Request-Method: GET"),
        )

        self.assertIn(response.status, (200, 204))
        self.assertEqual(response.headers["access-control-allow-origin"], "*")
        self.assertIn("GET", response.headers["access-control-allow-methods"])

    def test_page_is_html_and_its_files_are_served(self):
        page = self.fetch("/")

        self.assertEqual(page.status, 200)
        self.assertEqual(page.headers["content-type"].split(";")[0], "text/html")
        self.assertRegex(page.body, r"(?i)^\s*<!doctype html>")
        files = re.findall(r"""(?:src|href)=["'](/?assets/[^"']+)["']""", page.body)
        self.assertTrue(files, "the page links its style and its script")
        kinds = {"css": "text/css", "js": "text/javascript"}
        for file in files:
            with self.subTest(file=file):
                response = self.fetch("/" + file.lstrip("/"))
                self.assertEqual(response.status, 200)
                ending = file.rsplit(".", 1)[-1]
                if ending in kinds:
                    self.assertEqual(response.headers["content-type"].split(";")[0], kinds[ending])

    def test_head_returns_the_headers_of_get_without_a_body(self):
        for path in ["/", "/health", "/stats"]:
            with self.subTest(path=path):
                get, head = self.fetch(path), self.fetch(path, "-I")
                self.assertEqual(head.status, 200)
                self.assertEqual(head.body, "")
                self.assertEqual(head.headers["content-type"], get.headers["content-type"])
        self.assertEqual(self.fetch("/", "-I").headers["content-length"], str(len(self.fetch("/").body.encode())))

    def test_ws_without_upgrade_returns_426(self):
        response = self.fetch("/ws")

        self.assert_error(response, 426)
        self.assertEqual(response.headers["upgrade"].lower(), "websocket")

    def test_unknown_path_returns_404(self):
        for path in ["/nope", "/assets/nope", "/assets/../Cargo.toml", "/echo"]:
            with self.subTest(path=path):
                self.assert_error(self.fetch(path, "--path-as-is"), 404)

    def test_wrong_method_returns_405_with_allowed_methods(self):
        response = self.fetch("/health", "-X", "POST", "-d", "x")

        self.assert_error(response, 405)
        allowed = {method.strip() for method in response.headers["allow"].split(",")}
        self.assertLessEqual({"GET", "HEAD"}, allowed)
        self.assertNotIn("POST", allowed)

    def test_one_connection_serves_many_requests(self):
        urls = [self.server.http + path for path in ["/health", "/nope", "/stats", "/"]]
        outputs = [part for url in urls for part in ("-o", "/dev/null", url)]

        connections = curl("-w", "%{num_connects} ", *outputs).split()

        self.assertEqual(connections, ["1", "0", "0", "0"])


class HttpInterfaceOverTls(HttpInterface):
    """The same tests over https."""

    @classmethod
    def flags(cls):
        cls.certificate = Certificate().__enter__()
        cls.addClassCleanup(cls.certificate.__exit__)
        return cls.certificate.flags

    def test_tls_1_2_and_1_3_are_accepted_and_older_versions_are_not(self):
        for version in ["1.2", "1.3"]:
            health = curl("--tlsv" + version, "--tls-max", version, self.server.http + "/health")
            self.assertEqual(json.loads(health)["status"], "healthy")
        with self.assertRaises(AssertionError):
            curl("--tlsv1.0", "--tls-max", "1.1", self.server.http + "/health")

    def test_tls_renegotiation_is_refused(self):
        address = f"127.0.0.1:{self.server.port}"
        command = ["openssl", "s_client", "-connect", address, "-tls1_2"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, **pipes) as client:
            client.stdin.write(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
            client.stdin.flush()
            response = b""
            while b"healthy" not in response:
                response += client.stdout.read1() or self.fail(response)
            # s_client reads a line "R" as the command to renegotiate.
            output = client.communicate(b"R\n", timeout=DEADLINE_SECONDS)[0]

        self.assertIn(b"no renegotiation", output)
        self.assertEqual(json.loads(curl(self.server.http + "/health"))["status"], "healthy")

    def test_plain_http_on_a_tls_port_returns_an_explanation(self):
        response = json.loads(curl(f"http://127.0.0.1:{self.server.port}/health"))

        self.assertEqual(response["error"]["code"], "tls_required")


class HttpInterfaceOnUnixSocket(unittest.TestCase):
    def test_curl_reaches_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/wscast.sock"
            with Server("--listen", "unix:" + path):
                health = curl("--unix-socket", path, "http://wscast/health")

        self.assertEqual(json.loads(health)["status"], "healthy")


if __name__ == "__main__":
    runner.main()
