"""Runs the tests of a file and records the skipped ones for the summary of `make test`."""

import os
import unittest


class SkipRecordingResult(unittest.TextTestResult):
    """Appends "name: reason" for each skipped test to the file that WSCAST_SKIPPED names."""

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        path = os.environ.get("WSCAST_SKIPPED")
        if path:
            with open(path, "a") as file:
                file.write(f"{test.id()}: {reason}\n")


class Runner(unittest.TextTestRunner):
    resultclass = SkipRecordingResult


def main():
    unittest.main(testRunner=Runner)
