#!/usr/bin/env python3
"""Fail on an #include that points up or sideways between the layers.

The layers are the folders; what each may use is the table below. Libraries
that only one folder may know are in the second table. One line per finding.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Folder: other folders whose headers it may include. None: any.
USES = {
    "lib/base": [],
    "lib/seam": ["lib/base"],
    "lib/proto": ["lib/base", "lib/seam"],
    "lib/place": ["lib/base"],
    "lib/store": ["lib/base"],
    "lib/disk": ["lib/base"],
    "lib/directory": ["lib/base", "lib/proto"],
    "lib/cluster": ["lib/base", "lib/proto"],
    "lib/net": ["lib/base", "lib/seam", "lib/proto"],
    "lib/obs": ["lib/base"],
    "lib/node": None,
    "transports/socket": ["lib/base", "lib/seam"],
    "transports/sim": ["lib/base", "lib/seam"],
    "transports/ucx": ["lib/base", "lib/seam"],
    "lib/include/peercache": [],
    "bindings": ["bindings"],
    "examples": [],
}

# Header (a regular expression): the only folders that may include it.
ONLY = {
    r"(ucp|uct|ucs|ucm)/": ["transports/ucx"],
    r"(sys/socket|sys/un|netdb|arpa/inet|ifaddrs)\.h": ["transports/socket"],
    r"(netinet|linux/tls|net)/": ["transports/socket"],
    r"openssl/": ["transports/socket"],
    r"msgpack": ["lib/proto"],
    r"microhttpd": ["lib/obs"],
    r"hwloc": ["lib/place"],
    r"xxh": ["lib/base"],
    r"cmocka": ["test"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
PUBLIC = "lib/include/peercache"


def folder_of(path):
    """The longest known folder that the path lies in, or None."""
    known = [f for f in USES if path.startswith(f + "/")]
    return max(known, key=len) if known else None


def resolve(source, name):
    """The included file, relative to the root; None: not one of ours."""
    for base in (source.parent, ROOT / "lib", ROOT, ROOT / "lib/include"):
        target = (base / name).resolve()
        if target.is_file() and ROOT in target.parents:
            return target.relative_to(ROOT).as_posix()
    return None


def check_own(folder, target):
    """What is wrong with including one of our files, or None."""
    if folder is None or target.startswith(PUBLIC + "/"):
        return None
    allowed = USES[folder]
    to = folder_of(target)
    if allowed is None or to == folder or to in allowed:
        return None
    return f"{folder} may not use {to or target}"


def check_foreign(path, name):
    """What is wrong with including a library's file, or None."""
    for pattern, folders in ONLY.items():
        if re.match(pattern, name):
            if not any(path.startswith(f + "/") for f in folders):
                return f"only {', '.join(folders)} may use <{name}>"
    return None


def check_file(source):
    path = source.relative_to(ROOT).as_posix()
    folder = folder_of(path)
    findings = []
    for number, line in enumerate(source.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        target = resolve(source, name)
        if target is not None:
            wrong = check_own(folder, target)
        elif quote == '"':
            wrong = f'"{name}" is not there'
        elif path.startswith(("lib/", "transports/")):
            wrong = check_foreign(path, name)
        else:
            wrong = None
        if wrong:
            findings.append(f"{path}:{number}: {wrong}")
    return findings


def main():
    findings = []
    for top in ("lib", "transports", "tools", "bindings", "examples"):
        for source in sorted((ROOT / top).rglob("*.[ch]")):
            findings += check_file(source)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
