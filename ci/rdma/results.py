#!/usr/bin/env python3
"""Say what the tests in the guest said: a table, JUnit, and an exit status.

usage: results.py [--junit FILE] LOG ...

A program of tests stands between two lines, which guest/lib.sh writes:
"== begin WHAT CARRIER UCX" and "== end WHAT CARRIER UCX status N after N ms".
Of programs that ran side by side, each line begins with its lane: "LANE| ".
One that ran twice counts as its second run said. A program that never ended
(the guest hung, crashed or ran out of time) has failed.
"""

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree

BEGIN = re.compile(r"== begin (.+)$")
END = re.compile(r"== end (.+) status (\d+) after (\d+) ms$")
TEST = re.compile(r"\[\s+(OK|FAILED|ERROR|SKIPPED)\s+\] ([a-z]\w+)$")
TIME = re.compile(r"^\s*\d+\.\d ")
LANE = re.compile(r"^(\w+)\| ")
SIGNS = {"OK": "+", "FAILED": "FAILED", "ERROR": "FAILED", "SKIPPED": "-"}


class Program:
    """One run of a program: what it printed, and how it ended."""

    def __init__(self, name):
        self.name = name
        self.lines = []
        self.status = None
        self.ms = 0
        self.again = False

    def tests(self):
        found = {}
        for line in self.lines:
            match = TEST.search(line)
            # CMocka repeats at its end which ones failed or were skipped.
            if match and found.get(match[2]) != "FAILED":
                found[match[2]] = SIGNS[match[1]]
        return found


def read(path, programs):
    current = {}  # By lane.
    with open(path, errors="replace") as log:
        for line in log:
            line = TIME.sub("", line.rstrip(), count=1)
            match = LANE.search(line)
            lane = match[1] if match else ""
            line = LANE.sub("", line, count=1)
            program = current.get(lane)
            if match := BEGIN.search(line):
                program = current[lane] = Program(match[1])
                program.again = match[1] in programs
                programs[match[1]] = program
            elif (match := END.search(line)) and program is not None:
                program.status = int(match[2])
                program.ms = int(match[3])
                del current[lane]
            elif program is not None:
                program.lines.append(line)


def write_junit(path, programs):
    """As ctest writes it, which is what ci/count.py reads."""
    suite = ElementTree.Element("testsuite", name="rdma")
    for program in programs:
        good = program.status == 0
        case = ElementTree.SubElement(
            suite,
            "testcase",
            name="rdma." + program.name.replace(" ", "_"),
            time=str(program.ms / 1000),
            status="run" if good else "fail",
        )
        if not good:
            ElementTree.SubElement(case, "failure", message=str(program.status))
        text = "\n".join(program.lines)
        printable = re.sub(r"[^\t\n\x20-\x7e]", "?", text)
        ElementTree.SubElement(case, "system-out").text = printable
    ElementTree.ElementTree(suite).write(path)


def show(programs):
    kinds = {}
    for program in programs:
        what, carrier, version = program.name.split(" ")
        kinds.setdefault(what, []).append((f"{carrier} {version}", program))
    for what, columns in kinds.items():
        columns.sort(key=lambda column: column[0])
        names = {name: None for _, program in columns for name in program.tests()}
        width = max([len(what), *map(len, names)])
        print(f"\n{what:{width}}  " + "  ".join(head for head, _ in columns))
        for name in names:
            signs = (
                f"{program.tests().get(name, '?'):{len(head)}}"
                for head, program in columns
            )
            print(f"{name:{width}}  " + "  ".join(signs))
    print("\n+ passed, - has no meaning there, ? not reached")
    for program in programs:
        ended = "never ended" if program.status is None else f"status {program.status}"
        again = ", run again" if program.again else ""
        print(f"{program.name}: {ended}, {program.ms / 1000:.1f} s{again}")
        for line in program.lines:
            if re.search(r"\b(pages|noticed after|broken off)\b", line) and ":" in line:
                print("    " + line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--junit")
    parser.add_argument("logs", nargs="+")
    options = parser.parse_args()
    found = {}
    for path in options.logs:
        read(path, found)
    programs = list(found.values())
    verbs = [program for program in programs if " verbs " in program.name]
    if not verbs:
        # The guest did not come up at all: that is a failure, too.
        programs.append(Program("conformance verbs none"))
    if options.junit:
        write_junit(options.junit, programs)
    show(programs)
    bad = [program.name for program in programs if program.status != 0]
    if bad:
        print("failed: " + ", ".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
