#!/usr/bin/env python3
"""Fail on a link in a Markdown file whose file or heading is not there.

One line per finding; addresses of other hosts are not looked up.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```", re.DOTALL)


def files():
    """The Markdown files of the tree, without what was built in it."""
    for path in sorted(ROOT.rglob("*.md")):
        folders = path.relative_to(ROOT).parts[:-1]
        if not any(name.startswith((".", "build", "dist")) for name in folders):
            yield path


def anchors(path):
    """The names that a heading can be linked by."""
    found = set()
    for line in CODE.sub("", path.read_text()).splitlines():
        match = re.match(r"#+\s+(.*)", line)
        if match:
            words = re.sub(r"[^\w\- ]", "", match.group(1).lower()).strip()
            found.add(words.replace(" ", "-"))
    return found


def check(source):
    findings = []
    for link in LINK.findall(CODE.sub("", source.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = source.parent / name if name else source
        where = source.relative_to(ROOT)
        if not target.exists():
            findings.append(f"{where}: {link} is not there")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            findings.append(f"{where}: {link} has no such heading")
    return findings


def main():
    findings = [finding for source in files() for finding in check(source)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
