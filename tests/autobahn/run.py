"""Runs the Autobahn test suite against `wscast --echo` and counts its results.

    WSCAST_BIN=target/release/wscast python3 tests/autobahn/run.py target/autobahn [CASE…]

The folder holds the suite (venv/, see tests/setup/autobahn.sh) and receives its reports. Without a CASE, all
cases run except those of compression (12.* and 13.*), which the server does not support. Exits with 0 only if
every case that the suite announced ran and none failed.
"""

import collections
import json
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))
from server import Server  # noqa: E402

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
AGENT = "wscast"
SUITE_SECONDS = 30 * 60

# Case 9.1.6 echoes 16 MiB in one message, which the limits must allow.
SERVER_ARGUMENTS = ["--echo", "--max-message-bytes", "33554432", "--outbox-bytes", "67108864"]

GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
"""Results that break no rule of RFC 6455. Any other is a failure."""


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    cases = sys.argv[2:] or CASES
    reports = folder / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    with Server(*SERVER_ARGUMENTS) as server:
        announced = run_suite(folder, reports, f"ws://127.0.0.1:{server.port}/echo", cases)
        exit_code = server.process.poll()
    if exit_code is not None:
        print(f"the server exited during the suite with code {exit_code}")
        return 1

    index = reports / "index.json"
    results = json.loads(index.read_text())[AGENT] if index.exists() else {}
    behaviours = collections.Counter(result["behavior"] for result in results.values())
    closes = collections.Counter(result["behaviorClose"] for result in results.values())
    failed = {
        case: result
        for case, result in results.items()
        if not {result["behavior"], result["behaviorClose"]} <= GOOD
    }
    for case in sorted(failed, key=case_numbers):
        result = failed[case]
        print(f"{case}: {result['behavior']}, close {result['behaviorClose']}", end="")
        print(f" (see {(reports / result['reportfile']).with_suffix('.html')})")
    print("behaviour:", counts_text(behaviours))
    print("close:    ", counts_text(closes))
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    if not results or len(results) != announced:
        print(f"the suite announced {announced} cases, but only {len(results)} have a result")
        return 1
    return 1 if failed else 0


def run_suite(folder, reports, url, cases):
    """Runs the suite's fuzzing client and returns the number of cases that it announced."""
    spec = folder / "fuzzingclient.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(reports),
                "servers": [{"agent": AGENT, "url": url}],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            },
            indent=2,
        )
    )
    log = folder / "wstest.log"
    # Runs wstest through Python: its first line is wrong when the folder was moved or its name has a space.
    command = [folder / "venv/bin/python", folder / "venv/bin/wstest"]
    command += ["--mode", "fuzzingclient", "--spec", spec]
    print(f"running the Autobahn suite against {url} (takes some minutes; log: {log})", flush=True)
    with log.open("w") as out:
        try:
            subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=SUITE_SECONDS,
                check=True,
            )
        except subprocess.SubprocessError as error:
            sys.exit(f"the suite failed: {error}")
    found = re.search(r"Ok, will run (\d+) test cases", log.read_text(errors="replace"))
    return int(found[1]) if found else 0


def case_numbers(case):
    return [int(number) for number in case.split(".")]


def counts_text(counter):
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"


if __name__ == "__main__":
    sys.exit(main())
