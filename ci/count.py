#!/usr/bin/env python3
"""Add up what the tests said, from JUnit files of ctest and pytest.

usage: count.py FILE ...                one line a kind: kind passed failed skipped
       count.py --failed FILE ...       the names of failed tests

A ctest test that is a CMocka program counts as the tests in it, which are read
from its output. A program that fails without a failed test in it (it crashed,
ran too long, leaked) counts as one failed test. The kind is what stands before
the first dot of the name in ctest, and "python" for pytest.
"""

import collections
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

PASSED = re.compile(r"^\[\s+OK\s+\] (\S+)", re.M)
FAILED = re.compile(r"^\[\s+(?:FAILED|ERROR)\s+\] (\S+)$", re.M)
SKIPPED = re.compile(r"^\[\s+SKIPPED\s+\] (\S+)$", re.M)
NUMBER = re.compile(r"^\d+$")


class Case:
    """One test of ctest or pytest, with what is in it."""

    def __init__(self, element):
        self.name = element.get("name", "?")
        self.classname = element.get("classname", "")
        self.is_ctest = element.get("status") is not None
        output = element.findtext("system-out") or ""
        skipped = element.find("skipped") is not None or element.get("status") in (
            "notrun",
            "disabled",
        )
        bad = element.find("failure") is not None or element.find("error") is not None
        if element.get("status") == "fail":
            bad = True
        # A suite that runs over several carriers says a name several times;
        # CMocka repeats those that failed or were skipped at its end.
        self.passed = self._names(PASSED, output)
        self.failed = sorted(set(self._names(FAILED, output)))
        self.skipped = sorted(set(self._names(SKIPPED, output)))
        if bad and not self.failed:
            self.failed = [self.name]
        elif not bad and skipped:
            self.passed, self.skipped = [], [self.name]
        elif not bad and not self.passed and not self.skipped:
            self.passed = [self.name]

    def _names(self, pattern, output):
        if not self.is_ctest:
            return []
        # "[ FAILED ] 2 test(s)" is CMocka's sum, not a test.
        return [name for name in pattern.findall(output) if not NUMBER.match(name)]

    @property
    def kind(self):
        return self.name.split(".")[0] if self.is_ctest else "python"

    @property
    def full_name(self):
        return self.name if self.is_ctest else f"{self.classname}.{self.name}"


def cases(paths):
    for path in paths:
        if pathlib.Path(path).is_file():
            for element in ElementTree.parse(path).iter("testcase"):
                yield Case(element)


def main(arguments):
    if arguments[:1] == ["--failed"]:
        for case in cases(arguments[1:]):
            for name in case.failed:
                print(case.full_name if name == case.name else f"{case.full_name}: {name}")
        return 0
    sums = collections.defaultdict(lambda: [0, 0, 0])
    for case in cases(arguments):
        for i, names in enumerate((case.passed, case.failed, case.skipped)):
            sums[case.kind][i] += len(names)
    for kind in sorted(sums):
        print(kind, *sums[kind])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
