"""Tests of the files of assets/deploy that no program here can run: Compose and Kubernetes."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

import kubernetes_validate
import runner
import yaml
from launcher import settings_free_environment

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "assets/deploy"
SECONDS = {"ms": 0.001, "s": 1, "m": 60}


def documents(path):
    return list(yaml.safe_load_all((DEPLOY / path).read_text(encoding="utf-8")))


def settings(arguments, variables):
    """The settings in effect with these arguments and variables, or the error of the program."""
    command = [os.environ["WSCAST_BIN"], *arguments, "--check-config"]
    environment = {**settings_free_environment(), **variables}
    checked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if checked.returncode != 0 or "WARN" in checked.stderr or "unknown" in checked.stderr:
        raise AssertionError(f"{command}: {checked.stderr}")
    return dict(re.findall(r"^--([\w-]+) = (.*?) *  # .*$", checked.stdout, re.MULTILINE))


def seconds(duration):
    number, unit = re.fullmatch(r"([\d.]+)(ms|s|m)", duration).groups()
    return float(number) * SECONDS[unit]


def stop_seconds(in_effect):
    """The longest that a server with these settings takes to stop."""
    return sum(seconds(in_effect[name]) for name in ("drain-delay", "shutdown-timeout"))


class Compose(unittest.TestCase):
    def test_servers_have_valid_settings_and_time_to_stop(self):
        for path, names in (("compose.yaml", ["node-a", "node-b"]), ("compose-sqlite.yaml", ["wscast"])):
            (document,) = documents(path)
            for name in names:
                with self.subTest(path, name=name):
                    service = document["services"][name]
                    # Compose itself replaces variables such as ${SECRET_KEY:-}.
                    variables = {key: value for key, value in service["environment"].items() if "$" not in value}
                    in_effect = settings(service.get("command", []), variables)
                    self.assertGreater(seconds(service["stop_grace_period"]), stop_seconds(in_effect))
                    self.assertTrue(service["read_only"])

    def test_names_that_are_used_are_defined(self):
        for path in ("compose.yaml", "compose-sqlite.yaml"):
            (document,) = documents(path)
            services = document["services"]
            for name, service in services.items():
                with self.subTest(path, name=name):
                    self.assertLessEqual(set(service.get("depends_on", {})), set(services))
                    self.assertLessEqual(set(service.get("networks", {})), set(document.get("networks", {})))
                    for needed, how in service.get("depends_on", {}).items():
                        if how["condition"] == "service_healthy" and needed == "redis":
                            self.assertIn("healthcheck", services[needed])
                    for volume in service.get("volumes", []):
                        source = volume.split(":")[0]
                        is_file = source.startswith(".")
                        self.assertTrue((DEPLOY / source).exists() if is_file else source in document["volumes"], volume)


class Image(unittest.TestCase):
    def test_build_stage_has_every_source_of_the_program(self):
        stage = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[1]
        copied = [name for line in re.findall(r"^COPY (.*) \S+$", stage, re.MULTILINE) for name in line.split()]
        (served,) = re.findall(r"const SOURCES[^=]*= \[([^]]*)\]", (ROOT / "assets/pack.rs").read_text(encoding="utf-8"))
        for source in re.findall(r'"([^"]+)"', served):
            self.assertTrue(any((Path(source) / "").is_relative_to(name) for name in copied), f"{source} of {copied}")
        # Cargo accepts the manifest without the tests that it names.
        with tempfile.TemporaryDirectory() as folder:
            for name in copied:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, Path(folder) / name)
            command = ["cargo", "metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"]
            checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            self.assertEqual(checked.returncode, 0, checked.stderr)


class Kubernetes(unittest.TestCase):
    def pods(self):
        """Each file's name, its pod and the container of the server."""
        for path in ("kubernetes/sqlite.yaml", "kubernetes/redis.yaml"):
            (workload,) = (d for d in documents(path) if d["kind"] in ("StatefulSet", "Deployment"))
            pod = workload["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            yield path, workload, pod, container

    def test_documents_fit_the_schema_of_kubernetes(self):
        version = kubernetes_validate.latest_version()
        for path in ("kubernetes/sqlite.yaml", "kubernetes/redis.yaml"):
            for document in documents(path):
                with self.subTest(path, kind=document["kind"]):
                    kubernetes_validate.validate(document, version, strict=True)

    def test_servers_have_valid_settings_and_time_to_stop(self):
        for path, _, pod, container in self.pods():
            with self.subTest(path):
                in_effect = settings([], {variable["name"]: variable["value"] for variable in container["env"]})
                self.assertGreater(pod["terminationGracePeriodSeconds"], stop_seconds(in_effect))
                # The balancer has noticed before clients are closed.
                probe = container["readinessProbe"]
                noticed = probe["periodSeconds"] * probe["failureThreshold"]
                if in_effect["redis"] != "(none)" or seconds(in_effect["drain-delay"]) > 0:
                    self.assertGreater(seconds(in_effect["drain-delay"]), noticed)
                self.assertEqual(container["ports"][0]["containerPort"], int(in_effect["port"]))

    def test_selectors_ports_and_volumes_fit(self):
        for path, workload, pod, container in self.pods():
            with self.subTest(path):
                labels = workload["spec"]["template"]["metadata"]["labels"]
                ports = {port["name"] for port in container["ports"]}
                self.assertEqual(workload["spec"]["selector"]["matchLabels"], labels)
                for document in documents(path):
                    if document["kind"] == "Service":
                        self.assertEqual(document["spec"]["selector"], labels)
                        self.assertLessEqual({port["targetPort"] for port in document["spec"]["ports"]}, ports)
                for probe in ("readinessProbe", "livenessProbe"):
                    self.assertIn(container[probe]["httpGet"]["port"], ports)
                claims = workload["spec"].get("volumeClaimTemplates", [])
                volumes = {volume["name"] for volume in pod.get("volumes", [])}
                volumes |= {claim["metadata"]["name"] for claim in claims}
                self.assertEqual({mount["name"] for mount in container.get("volumeMounts", [])}, volumes)


if __name__ == "__main__":
    runner.main()
