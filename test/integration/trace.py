"""peercache-bench trace: the node's LRU is the offline LRU, hit for hit; the
default policy is no worse; the offline figures are those of another program.

Usage: trace.py PEERCACHE-BENCH

The trace is made here: conversations that grow turn by turn behind a few
system prompts, among prompts that come once.
"""

import collections
import json
import os
import random
import subprocess
import sys
import tempfile

FRACTIONS = [0.05, 0.1, 0.2, 0.5]
SEED = 4


def make_trace():
    """Requests as lists of page ids; a page's id stands for its whole prefix."""
    rng = random.Random(SEED)
    ids = {}

    def pages(prefix):
        return [ids.setdefault(tuple(prefix[: n + 1]), len(ids) * 3 + 1) for n in range(len(prefix))]

    systems = [[("system", s, n) for n in range(8)] for s in range(4)]
    talks, requests, next_block = [], [], 0
    for _ in range(700):
        if rng.random() < 0.25:
            once = [("once", next_block + n) for n in range(rng.randint(5, 40))]
            next_block += 40
            requests.append(pages(once))
            continue
        if len(talks) < 30 or rng.random() < 0.05:
            talks.append(list(rng.choice(systems)))
        talk = rng.choice(talks[-30:])
        for _ in range(rng.randint(1, 5)):
            talk.append(("said", next_block))
            next_block += 1
        requests.append(pages(talk))
    return requests


def lru(requests, capacity):
    cache, hits = collections.OrderedDict(), 0
    for page in (page for request in requests for page in request):
        if page in cache:
            hits += 1
            cache.move_to_end(page)
        else:
            if len(cache) == capacity:
                cache.popitem(last=False)
            cache[page] = True
    return hits


def belady(requests, capacity):
    asked = [page for request in requests for page in request]
    later = collections.defaultdict(list)
    for at in range(len(asked) - 1, -1, -1):
        later[asked[at]].append(at)
    cache, hits = set(), 0
    for page in asked:
        later[page].pop()
        if page in cache:
            hits += 1
            continue
        if len(cache) == capacity:
            cache.remove(max(cache, key=lambda p: later[p][-1] if later[p] else len(asked)))
        cache.add(page)
    return hits


def run(*arguments):
    return subprocess.run([sys.argv[1], "trace", *arguments], capture_output=True, text=True, timeout=100)


def report(*arguments):
    done = run("--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_report(found, requests):
    n_asked = sum(len(request) for request in requests)
    n_pages = len({page for request in requests for page in request})
    assert set(found) == {"infinite", "sizes"}
    assert abs(found["infinite"] - (1 - n_pages / n_asked)) < 1e-5
    assert [size["fraction"] for size in found["sizes"]] == FRACTIONS
    for size in found["sizes"]:
        assert set(size) == {"fraction", "pages", "hit", "lru", "belady"}
        assert size["pages"] == int(size["fraction"] * n_pages + 0.5)
        assert abs(size["lru"] - lru(requests, size["pages"]) / n_asked) < 1e-5
        assert abs(size["belady"] - belady(requests, size["pages"]) / n_asked) < 1e-5


def check_tiny(path):
    """Pools of one page and of a few."""
    requests = [[n, n + 1, n % 3, n] for n in range(12)]
    with open(path, "w", encoding="ascii") as file:
        for request in requests:
            file.write(json.dumps({"hash_ids": request}) + "\n")
    check_report(report("--exact", path), requests)
    check_report(report(path), requests)


def check_bad_input(path):
    cases = [
        ('{"hash_ids": [1, 2]}\n{"hash_ids": 3}\n', ':2: no list "hash_ids"'),
        ('{"hash_ids": [1, "2"]}\n', ":1: an id that is no whole number"),
        ('{"hash_ids": [1,\n', ":1: no JSON object"),
        ('{"hash_ids": []}\n', "no request has a page"),
    ]
    for text, words in cases:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        done = run(path)
        assert done.returncode == 1 and words in done.stderr, (text, done.stderr)
    assert run(path + "-missing").returncode == 1
    assert run().returncode == 2
    assert run(path, "--page-size", "1").returncode == 2


def main():
    requests = make_trace()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.jsonl")
        with open(path, "w", encoding="ascii") as file:
            for request in requests:
                file.write(json.dumps({"timestamp": 0, "hash_ids": request}) + "\n")
        exact = report("--exact", path)
        check_report(exact, requests)
        for size in exact["sizes"]:
            assert size["hit"] == size["lru"], size
        shipped = report(path)
        check_report(shipped, requests)
        for size in shipped["sizes"]:
            print(size)
            assert size["lru"] <= size["hit"] <= shipped["infinite"], size
        remote = report("--remote", path)
        check_report(remote, requests)
        for size in remote["sizes"]:
            print("remote", size)
            assert 0.9 * size["lru"] <= size["hit"] <= remote["infinite"], size
        check_tiny(path)
        check_bad_input(path)


if __name__ == "__main__":
    main()
