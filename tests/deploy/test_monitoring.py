"""Tests of assets/deploy/monitoring: each metric exists, each query runs in a real Prometheus, and alerts fire."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

import runner
import yaml
from server import DEADLINE_SECONDS, Server, stop

MONITORING = Path(__file__).resolve().parents[2] / "assets/deploy/monitoring"
ALERT_TESTS = Path(__file__).with_name("alerts_test.yaml")
METRIC = re.compile(r"\bwscast_[a-z_]+\b")

DASHBOARD = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]

OF_REDIS = {"wscast_nodes", "wscast_store_lag_seconds", "wscast_store_reconnects_total", "wscast_store_gap_fills_total"}
"""Metrics that only a server with Redis has."""


def get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as response:
        return response.read().decode()


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries():
    """Each query of the dashboard, with a value for each of Grafana's variables."""
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"].replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "1m")
            yield panel["title"], query


def redis_program():
    return next(filter(None, map(shutil.which, ("redis-server", "redis-check-rdb", "valkey-server"))), None)


class Redis:
    """A Redis on a Unix socket, for one `with` block: `with Redis() as url`."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        path = f"{self._folder.name}/redis.sock"
        # Debian's redis-check-rdb is the server under another name, which it looks at.
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", self._folder.name]
        self._process = subprocess.Popen(command, executable=redis_program(), stdout=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(path))
        return f"unix://{path}"

    def __exit__(self, *_):
        stop(self._process)
        self._folder.cleanup()


def wait_for(condition):
    """Waits until the condition has a result that is true, and returns it."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError("waited too long")
        time.sleep(0.05)
    return result


class Metrics(unittest.TestCase):
    def test_every_name_in_alerts_and_dashboard_is_a_metric_of_the_server(self):
        with tempfile.TemporaryDirectory() as folder, Server("--db", f"{folder}/history.db") as server:
            known = set(METRIC.findall(get(f"{server.http}/metrics")))
        if redis_program():
            with Redis() as url, Server("--redis", url) as server:
                known |= set(METRIC.findall(get(f"{server.http}/metrics")))
        else:
            known |= OF_REDIS
        text = "\n".join([query for _, query in queries()] + [rule["expr"] for rule in ALERTS])
        used = set(METRIC.findall(text))
        self.assertGreater(len(used), 40)
        self.assertEqual(used - known, set())
        # A counter that nobody would see.
        shown = {name.removesuffix("_bucket") for name in used}
        unseen = {name for name in known if name.endswith("_total")} - shown
        self.assertLessEqual(unseen, {"wscast_http_requests_total", "wscast_requests_total", "wscast_messages_pruned_total"})


class Dashboard(unittest.TestCase):
    def test_panels_are_distinct_and_do_not_overlap(self):
        taken, identifiers = set(), set()
        for panel in DASHBOARD["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertFalse(taken & cells, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], 24)
            self.assertNotIn(panel["id"], identifiers)
            taken |= cells
            identifiers.add(panel["id"])

    def test_panels_have_words_units_and_the_chosen_data_source(self):
        for panel in panels():
            with self.subTest(panel["title"]):
                self.assertTrue(panel["description"])
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                self.assertEqual(panel["datasource"]["uid"], "${datasource}")
                for target in panel["targets"]:
                    self.assertIn('job=~"$job"', target["expr"])


@unittest.skipUnless(shutil.which("promtool"), "no promtool")
class Rules(unittest.TestCase):
    def promtool(self, *arguments):
        checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_files_are_valid(self):
        self.promtool("check", "rules", str(MONITORING / "alerts.yaml"))
        self.promtool("check", "config", "--syntax-only", str(MONITORING / "prometheus.yaml"))

    def test_each_alert_fires_and_says_why(self):
        tested = set(re.findall(r"alertname: (\w+)", ALERT_TESTS.read_text(encoding="utf-8")))
        self.assertEqual(tested, {rule["alert"] for rule in ALERTS})
        self.promtool("test", "rules", str(ALERT_TESTS))


class Prometheus:
    """A real Prometheus that scrapes these servers, for one `with` block."""

    def __init__(self, *targets):
        self.targets = targets

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text(encoding="utf-8"))
        (job,) = config["scrape_configs"]
        job["scrape_interval"] = job["scrape_timeout"] = "500ms"
        job["static_configs"] = [{"targets": list(self.targets)}]
        config["global"] = {"evaluation_interval": "500ms"}
        config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        # Prometheus cannot inherit a socket, so another process may take the port in between: then it ends.
        for _ in range(5):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.port = listener.getsockname()[1]
            command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
            command.append(f"--web.listen-address=127.0.0.1:{self.port}")
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if wait_for(lambda: self._is_ready() or self._process.poll() is not None) and self._process.poll() is None:
                return self
        raise AssertionError("Prometheus does not start")

    def __exit__(self, *_):
        stop(self._process)
        self._folder.cleanup()

    def _is_ready(self):
        try:
            get(f"http://127.0.0.1:{self.port}/-/ready")
            return True
        except OSError:
            return False

    def result(self, query):
        parameters = urllib.parse.urlencode({"query": query})
        return json.loads(get(f"http://127.0.0.1:{self.port}/api/v1/query?{parameters}"))["data"]["result"]

    def rules(self):
        groups = json.loads(get(f"http://127.0.0.1:{self.port}/api/v1/rules"))["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@unittest.skipUnless(shutil.which("prometheus"), "no prometheus")
class RealPrometheus(unittest.TestCase):
    @unittest.skipUnless(redis_program(), "no redis-server")
    def test_every_query_of_the_dashboard_has_a_result(self):
        with tempfile.TemporaryDirectory() as folder, Redis() as url:
            with Server("--db", f"{folder}/history.db") as single, Server("--redis", url) as node:
                addresses = [f"127.0.0.1:{server.port}" for server in (single, node)]
                with Prometheus(*addresses) as prometheus:
                    # A rate needs two samples of each server.
                    wait_for(lambda: len(prometheus.result("rate(wscast_clients[1m])")) == 2)
                    for title, query in queries():
                        with self.subTest(title, query=query):
                            self.assertTrue(prometheus.result(query), "no result")
                    wait_for(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()))
                    self.assertEqual(len(prometheus.rules()), len(ALERTS))


if __name__ == "__main__":
    runner.main()
