"""What two servers over one cluster must show, step by step.

A and B are SGLang servers, the bystander is a plain node. It starts first and
so serves the discovery port and owns a share of the directory: its death is the
worst that a third node can do to the two.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Optional

from bystander import Bystander
from processes import LateError, StepError, wait_for
from server import END_S, PAGE_TOKENS, Answer, Launch, Server, Setup
from tiny_model import VOCAB

Prompt = list[int]
# Answers of B, how many of them from the storage, seconds of the slowest.
Outage = tuple[int, int, float]

PROMPT = 200
# Whole pages of a prompt: its last page is not full and is never stored.
STORED = PROMPT // PAGE_TOKENS * PAGE_TOKENS
MORE = 64
# The last token of a page is computed from the first ones, in another order of
# additions when the prompt is computed in two parts; 32-bit floats.
LOGPROB_ERROR = 1e-3
# Longest answer while a member dies and after it: the store's longest waits
# (0.5 s for exists, 2 s for a get), and some for two busy cores.
USUAL_S = 6.0
# The shortest of the store's waits, after which it answers a miss.
MISS_S = 0.5
# From the death of a member until nobody asks it any more: member_ttl is 6 s.
OUTAGE_S = 9.0
GONE_S = 20.0
STORED_METRIC = "sglang:backuped_tokens_total"
# The adapter's line where the library has no call for it.
NO_CLEAR = "this version of the library cannot drop values"
# The adapter's one line of what makes it slower.
NO_V1 = 'extra config has no "interface_v1": 1'
# Lines of SGLang's log that tell of a storage thread that met an exception.
FAULTS = (
    "HiCache storage query failed",
    "HiCache prefetch transfer failed",
    "HiCache sidecar prefetch failed",
    "HiCache backup failed",
    "Scheduler hit an exception",
)


def check(holds: bool, text: str) -> None:
    if not holds:
        raise StepError(text)


def in_time(what: str, seconds: float) -> None:
    if seconds > USUAL_S:
        raise LateError(f"{what} took {seconds:.1f} s")


def same(what: str, answer: Answer, truth: Answer) -> None:
    """The text of `answer` is that of `truth`, which was computed without cache."""
    check(
        answer.tokens == truth.tokens,
        f"{what}: tokens {answer.tokens}, without cache {truth.tokens}",
    )
    error = max(abs(a - b) for a, b in zip(answer.logprobs, truth.logprobs))
    check(error <= LOGPROB_ERROR, f"{what}: log probabilities differ by {error:g}")


def cached(what: str, answer: Answer, *, device: int = 0, storage: int = 0) -> None:
    """So many tokens came from there, and none from anywhere else. Nothing from
    the storage, in an answer that took as long as the store waits, is late."""
    found = (answer.device, answer.storage, answer.cached)
    if found == (device, storage, device + storage):
        return
    text = f"{what}: {answer}; expected device {device}, storage {storage}"
    if found == (device, 0, device) and answer.seconds >= MISS_S:
        raise LateError(text)
    raise StepError(text)


class Proof:
    """One case: two servers, the bystander, and the prompts they have seen."""

    def __init__(self, name: str, setup: Setup, launch: Launch, discovery: Optional[str]) -> None:
        """`discovery`: where the bystander serves; None leaves it out."""
        self.name = name
        self.setup = setup
        self.launch = launch
        self.discovery = discovery
        self.draw = random.Random(name)
        self.bystander: Optional[Bystander] = None
        self.servers: list[Server] = []
        self.truths: list[tuple[Prompt, Answer]] = []
        self.notes: list[str] = []

    # ---- Start and end ----------------------------------------------------

    def _server(self, letter: str) -> Server:
        server = Server(f"{self.name}-{letter}", self.setup, self.launch)
        self.servers.append(server)
        return server

    def start(self) -> None:
        if self.discovery is not None:
            self.bystander = Bystander(f"{self.name}-bystander", self.setup, self.discovery)
        self.a = self._server("a")
        self.b = self._server("b")
        self.a.wait_up()
        self.b.wait_up()
        if self.bystander is not None:
            self.bystander.wait_members(3, 30)

    def end(self) -> None:
        """Who still runs leaves when asked to. No storage thread met an exception,
        and the missing "interface_v1" was said once where it is missing."""
        running = [server for server in self.servers if server.child.alive]
        for server in running:
            server.child.ask_to_end()
        for server in running:
            check(server.child.end(END_S), f"{server.name} did not end when asked to")
        ours = self.launch.backend == "dynamic"
        expected = int(ours and "interface_v1" not in self.launch.extra)
        for server in self.servers:
            log = server.log()
            found = [fault for fault in FAULTS if fault in log]
            check(not found, f"{server.name} logged: {', '.join(found)}")
            count = log.count(NO_V1)
            check(count == expected, f"{server.name} logged {count} times: {NO_V1}")

    def kill_all(self) -> None:
        for server in self.servers:
            server.child.kill()
        if self.bystander is not None:
            self.bystander.child.end(0)

    def tails(self) -> str:
        tails = [server.tail() for server in self.servers]
        if self.bystander is not None:
            tails.append(self.bystander.child.tail())
        return "\n".join(tails)

    # ---- Parts of steps ---------------------------------------------------

    def prompt(self, length: int = PROMPT) -> Prompt:
        return [self.draw.randrange(3, VOCAB) for _ in range(length)]

    def store(self, server: Server, prompt: Prompt, tokens: int = STORED) -> Answer:
        """Let `server` compute `prompt` and wait until `tokens` of it are stored."""
        target = server.metric(STORED_METRIC) + tokens
        answer = server.ask(prompt)
        wait_for(f"{server.name} has stored {tokens} tokens", 10,
                 lambda: server.metric(STORED_METRIC) >= target)  # fmt: skip
        return answer

    def truth(self, server: Server) -> tuple[Prompt, Answer]:
        """A new prompt, computed and stored by `server`."""
        prompt = self.prompt()
        answer = self.store(server, prompt)
        cached(f"{server.name}, new prompt", answer)
        self.truths.append((prompt, answer))
        return prompt, answer

    def fetched(self, what: str, server: Server, prompt: Prompt, truth: Answer) -> Answer:
        """`server` answers with all whole pages from the storage, rightly."""
        answer = server.ask(prompt)
        cached(what, answer, storage=STORED)
        same(what, answer, truth)
        return answer

    # ---- The steps --------------------------------------------------------

    def step_share(self) -> None:
        """What one computed the other takes from the storage, both ways."""
        prompt, truth = self.truth(self.a)
        answer = self.fetched("B, prompt of A", self.b, prompt, truth)
        self.notes.append(f"{answer.storage} of {PROMPT} from storage")
        check(bool(answer.backend), "cached_tokens_details names no storage backend")
        prompt, truth = self.truth(self.b)
        self.fetched("A, prompt of B", self.a, prompt, truth)

    def step_meaning(self) -> None:
        """Another first page gives another text: the bytes that were fetched
        matter, so that equal texts prove them right."""
        prompt, truth = self.truths[0]
        other = self.prompt(PAGE_TOKENS) + prompt[PAGE_TOKENS:]
        answer = self.b.ask(other)
        cached("B, other first page", answer)
        check(answer.tokens != truth.tokens, "the text does not depend on the first page")

    def step_extend(self) -> None:
        """A longer prompt: what is new in it comes from the storage."""
        longer = self.truths[0][0] + self.prompt(MORE)
        truth = self.store(self.a, longer, MORE)
        cached("A, longer prompt", truth, device=STORED)
        answer = self.b.ask(longer)
        cached("B, longer prompt", answer, device=STORED, storage=MORE)
        same("B, longer prompt", answer, truth)

    def step_flush(self) -> None:
        """A server that has forgotten everything has it from the storage."""
        self.a.flush()
        self.fetched("A after flush_cache", self.a, *self.truths[0])

    def step_bystander_dies(self) -> None:
        """The bystander is killed while both answer, and they go on until every
        deadline of the cluster has passed: each text is right and comes in the
        usual time, and at the end the storage works as before."""
        if self.bystander is None:
            return
        numbers = self.bystander.numbers()
        check(int(numbers["records"]) > 0, "the bystander keeps no directory record")
        begun = threading.Event()
        outage = _in_background(lambda: self._answer_for(OUTAGE_S, begun))
        check(begun.wait(30), "B gave no first answer")
        self.bystander.child.kill()
        count, hits, slowest = outage()
        self.notes.append(
            f"bystander killed: {hits} hits in {count}, slowest answer {slowest:.1f} s"
        )
        in_time("an answer while the bystander died", slowest)
        prompt, truth = self.truth(self.a)
        self.fetched("B after the bystander's death", self.b, prompt, truth)

    def _answer_for(self, seconds: float, begun: threading.Event) -> Outage:
        """New prompts, first to A, then to B, for so long. Whether B's come from
        the storage is counted; they may be computed again, but rightly."""
        count, hits, slowest = 0, 0, 0.0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            prompt = self.prompt()
            stored = self.a.metric(STORED_METRIC) + STORED
            truth = self.a.ask(prompt)
            cached("A while the bystander dies", truth)
            until = min(deadline, time.monotonic() + 3)
            while self.a.metric(STORED_METRIC) < stored and time.monotonic() < until:
                time.sleep(0.05)
            answer = self.b.ask(prompt)
            begun.set()
            same("B while the bystander dies", answer, truth)
            count += 1
            hits += answer.storage == STORED
            slowest = max(slowest, truth.seconds, answer.seconds)
        return count, hits, slowest

    def step_b_dies(self) -> None:
        """B is killed, and A notices nothing."""
        self.b.child.kill()
        answer = self.a.ask(self.truths[0][0])
        same("A after B was killed", answer, self.truths[0][1])
        in_time("A's answer after B was killed", answer.seconds)

    def restart(self) -> None:
        """B is started again."""
        self.b = self._server("b-again")
        self.b.wait_up()

    def step_again(self) -> None:
        """The new B takes from A's storage what the old one had computed there."""
        self.fetched("B again", self.b, *self.truths[0])

    def step_clear(self) -> None:
        """A gives up what it stored, and B finds nothing of it."""
        if self.bystander is None:
            return
        self.a.clear_storage()
        if NO_CLEAR in self.a.log():
            self.notes.append("clear: not in this version of the library")
            return
        self.recomputed("B after A's storage was cleared", self.truths[0])

    def step_holder_dies(self) -> None:
        """A is killed, and what it stored is gone: it was A's storage that had
        answered. B computes it again, in the usual time, and stores it itself."""
        if self.bystander is None:
            return
        self.a.child.kill()
        self.recomputed("B after A was killed", self.truths[-1])
        self.b.flush()
        self.fetched("B, from its own storage", self.b, *self.truths[-1])

    def recomputed(self, what: str, known: tuple[Prompt, Answer]) -> None:
        """B finds nothing of a known prompt any more, computes and stores it.

        Not at once: memory of a killed process that B has mapped is there until
        B lets go of it, when the process counts as dead.
        """
        prompt, truth = known
        deadline = time.monotonic() + GONE_S
        while True:
            self.b.flush()
            stored = self.b.metric(STORED_METRIC) + STORED
            answer = self.b.ask(prompt)
            same(what, answer, truth)
            in_time(what, answer.seconds)
            if answer.storage == 0:
                break
            check(time.monotonic() < deadline, f"{what}: {answer}")
        cached(what, answer)
        wait_for(f"{what}, stored", 10, lambda: self.b.metric(STORED_METRIC) >= stored)


def _in_background(work: Callable[[], Outage]) -> Callable[[], Outage]:
    """Start `work` in a thread; the result waits for it and passes on its error."""
    results: list[Outage] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # Raised again where it is waited for.
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Outage:
        thread.join(120)
        check(not thread.is_alive(), "the requests did not end")
        if errors:
            raise errors[0]
        return results[0]

    return result
