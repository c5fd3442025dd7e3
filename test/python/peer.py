"""A node in a process of its own: commands as JSON lines on stdin."""

import json
import sys
from typing import Any

import peercache


def answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    with peercache.Node(**json.loads(sys.argv[1])) as node:
        node.wait_ready(30)
        answer("ready")
        for line in sys.stdin:
            verb, *args = json.loads(line)
            if verb == "put":
                keys, texts = args
                answer(node.put(keys, [text.encode() for text in texts]))
            elif verb == "get":
                value = node.get(args[0])
                answer(None if value is None else value.decode())
            elif verb == "stats":
                answer(node.stats())
            else:
                answer(getattr(node, verb)(*args))


if __name__ == "__main__":
    main()
