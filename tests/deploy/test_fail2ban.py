"""Tests of assets/deploy/fail2ban with lines that the server really logs."""

import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

import runner
from server import DEADLINE_SECONDS, Server

FAIL2BAN = Path(__file__).resolve().parents[2] / "assets/deploy/fail2ban"
LINE = "sends too many wrong tokens"


@unittest.skipUnless(shutil.which("fail2ban-regex"), "no fail2ban-regex")
class Filter(unittest.TestCase):
    def matched(self, lines):
        """The addresses that the filter finds in these lines."""
        with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
            log.write("\n".join(lines) + "\n")
            log.flush()
            command = ["fail2ban-regex", "--out", "ip", log.name, str(FAIL2BAN / "filter.conf")]
            checked = subprocess.run(command, capture_output=True, text=True, check=False)
        # It fails if no line matches.
        self.assertFalse(checked.stderr, checked.stderr)
        return checked.stdout.split()

    def logged(self, *addresses):
        """The log of a server to which clients of these addresses send wrong tokens."""
        with tempfile.NamedTemporaryFile("w") as secret:
            secret.write("a secret of thirty-two characters or more")
            secret.flush()
            # The clients have the addresses that the proxy, which is this test, writes.
            with Server("--secret-key-file", secret.name, "--trusted-proxies", "127.0.0.1") as server:
                for address in addresses:
                    self.send_wrong_tokens(server, address)
                return server.log().splitlines()

    def send_wrong_tokens(self, server, address):
        """Sends wrong tokens until a line of the log is about the address."""
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": address}
        end = time.monotonic() + DEADLINE_SECONDS
        logged_as = address.replace("::1", "::/64") if ":" in address else address
        while f"{logged_as} {LINE}" not in server.log():
            self.assertLess(time.monotonic(), end, server.log())
            request = urllib.request.Request(f"{server.http}/stats", headers=headers)
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=DEADLINE_SECONDS)
            self.assertIn(refused.exception.code, (401, 429))
            refused.exception.close()

    def test_addresses_of_wrong_tokens_are_found(self):
        lines = self.logged("203.0.113.7", "2001:db8:1:2::1")
        found = self.matched(lines)
        self.assertIn("203.0.113.7", found)
        self.assertTrue(any(address.startswith("2001:db8:1:2::") for address in found), found)
        self.assertEqual(len(found), len([line for line in lines if LINE in line]))

    def test_lines_of_the_journal_are_found(self):
        lines = [line for line in self.logged("203.0.113.7") if LINE in line]
        stamp = "Nov 29 17:19:18 host wscast[4711]: "
        self.assertEqual(self.matched([stamp + line for line in lines]), ["203.0.113.7"] * len(lines))

    def test_text_of_a_client_bans_no_one_else(self):
        forged = f"[WARN] (connection) 198.51.100.1 {LINE}"
        date = "2026-11-29T17:19:18.266963562Z"
        lines = [f"{date} [WARN] (connection) origin {forged} is refused", f"{date} [DEBUG] (x) 203.0.113.9 {forged}"]
        self.assertEqual(self.matched(lines), [])


if __name__ == "__main__":
    runner.main()
