"""The cases: what is done to a cluster under load, and what must hold then.

Beyond what each says, every case requires that no byte read is wrong, no call
ends later than half a second after its deadline, and no miss is without cause
(Cluster.finish).
"""

import time

from cluster import PORT, require


def case_killed_one_of_five(c):
    """kill -9 of one of five nodes"""
    *others, dead = c.hosts_with_nodes(5)
    c.start(*others, dead)
    c.begin_load()
    c.kill(dead)
    killed = time.monotonic()
    reader, putter = others[1], others[2]
    for node in others:
        c.must_find(reader, f"{node.name}.1", "first get after a death")
    miss_s = c.must_miss(reader, "e.1", "its holder is dead")
    require(miss_s < 1, f"a dead node's keys missed only after {miss_s:.2f} s")
    c.put_set(putter, "e.1", keep=False)
    for node in others:
        c.must_find(node, "e.1", "put again")
    known_s = c.death_known(4, killed)
    for node in others:
        for name in c.sets:
            c.must_find(node, name, "after the death is known")
    c.note(f"its keys miss in {miss_s * 1000:.0f} ms, death known in {known_s:.1f} s")


def case_power_off(c):
    """a host with two nodes goes off without a word"""
    nodes = c.hosts_with_nodes(3, per_host=2)
    c.start(*nodes)
    c.begin_load()
    others, dead = nodes[:4], nodes[4:]
    c.world.unplug(dead[0].host)
    for node in dead:
        c.kill(node)
    off = time.monotonic()
    for node in others:
        c.must_find(others[1], f"{node.name}.1", "first get after a power cut")
    miss_s = c.must_miss(others[1], "e.1", "its host is off")
    for node in dead:
        c.put_set(others[2], f"{node.name}.1", keep=False)
        c.must_find(others[3], f"{node.name}.1", "put again")
    known_s = c.death_known(4, off, others)
    for node in others:
        for name in c.sets:
            c.must_find(node, name, "after the power cut is known")
    c.note(f"its keys miss in {miss_s * 1000:.0f} ms, death known in {known_s:.1f} s")


def calls_beside_hung(c, node, name, stopped):
    """exists of 128 keys, half of whose records a hung node owns as well: before
    its breaker is open, and after."""
    early, late = [], []
    while time.monotonic() - stopped < 1.2:
        is_early = time.monotonic() - stopped < 0.3
        answer = c.call(node, "exists", name, 128)
        require(set(answer["items"]) == {"O"}, f"beside a hung node: {answer}")
        (early if is_early else late).append(answer["took_ns"] / 1e6)
    late.sort()
    c.note(
        f"exists of 128 keys beside it: at most {max(early):.1f} ms before its breaker"
        f" opens; after, p50 {late[len(late) // 2]:.1f}, p99 {late[len(late) * 99 // 100]:.1f} ms"
    )


def case_stopped(c):
    """SIGSTOP for 30 s, then SIGCONT"""
    *others, stopped = c.hosts_with_nodes(4)
    c.start(*others, stopped)
    kept = c.put_set(stopped, "kept", keep=False)
    c.call(others[0], "put", "wide", 128)
    c.begin_load()
    stopped.pause()
    begin = time.monotonic()
    calls_beside_hung(c, others[1], "wide", begin)
    for node in others:
        c.must_find(others[1], f"{node.name}.1", "first get after a stop")
    c.must_miss(others[1], "d.1", "its holder is stopped")
    known_s = c.death_known(3, begin, others)
    c.put_set(others[1], "d.1", keep=False)
    c.must_find(others[2], "d.1", "put again")
    c.wait("30 s", 40, lambda: time.monotonic() - begin >= 30)
    stopped.resume()
    back = time.monotonic()
    require(len(stopped.members()) == 4, "who resumes declares others dead")
    c.wait_members(4, c.ttl + 10)
    back_s = time.monotonic() - back
    for node in others:
        c.wait_all_found([node], [kept], 10)
    usable_s = time.monotonic() - back
    # Its own one-sided ways broke meanwhile: the first get may find that out.
    c.wait_all_found([stopped], c.sets, 5)
    log = stopped.log.read_text(errors="replace")
    require("is gone" not in log, f"it took others for dead: {stopped.log}")
    c.note(
        f"death known in {known_s:.1f} s; back in {back_s:.2f} s, all its keys"
        f" usable everywhere in {usable_s:.2f} s"
    )


def case_cut_and_heal(c):
    """a partition of 3 and 2 of five, cut and healed"""
    nodes = c.hosts_with_nodes(5)
    c.start(*nodes)
    c.begin_load()
    sides = nodes[:3], nodes[3:]
    cut = [node.host for node in sides[1]]
    c.world.cut(*cut)
    for side in sides:
        c.wait_members(len(side), c.ttl + 10, side)
    for side in sides:
        for reader in side:
            for holder in side:
                c.must_find(reader, f"{holder.name}.1", "on its side of the cut")
        c.put_set(side[0], f"apart.{side[0].name}")
    sent = sum(node.sum_of("directory_republishes_total") for node in nodes)
    c.world.heal(*cut)
    healed = time.monotonic()
    members_s = c.wait_members(5, 20)
    c.wait_all_found(nodes, c.sets, 20)
    usable_s = time.monotonic() - healed
    # Two heartbeats of the default settings: readers' own pauses before they try
    # a silent peer again do not shrink with the heartbeat.
    require(usable_s < 4, f"records usable only {usable_s:.1f} s after healing")
    sent = sum(node.sum_of("directory_republishes_total") for node in nodes) - sent
    c.note(
        f"healed: one view in {members_s:.2f} s, all keys usable everywhere in"
        f" {usable_s:.2f} s ({usable_s / c.heartbeat:.1f} heartbeats),"
        f" {sent:.0f} records sent again"
    )


def case_long_cut(c):
    """a cut so long that the records of the other side are purged"""
    nodes = c.hosts_with_nodes(4)
    c.start(*nodes)
    c.begin_load(pace_ms=100)
    c.world.cut(nodes[3].host)
    begin = time.monotonic()
    c.wait_members(3, c.ttl + 10, nodes[:3])
    c.wait("75 s", 80, lambda: time.monotonic() - begin >= 75)
    c.must_miss(nodes[0], "d.1", "cut off for long")
    c.world.heal(nodes[3].host)
    healed = time.monotonic()
    c.wait_members(4, 20)
    c.wait_all_found(nodes, c.sets, 20)
    c.note(f"all keys usable everywhere {time.monotonic() - healed:.2f} s after healing")


def case_kept_records(c):
    """after a cut of seconds no record is sent to an owner that kept it"""
    nodes = c.hosts_with_nodes(5)
    c.start(*nodes)
    c.wait_quiet(nodes)
    sides = nodes[:3], nodes[3:]
    c.world.cut(*(node.host for node in sides[1]))
    for side in sides:
        c.wait_members(len(side), c.ttl + 10, side)
    c.wait_quiet(nodes)
    before = sum(node.sum_of("directory_republishes_total") for node in nodes)
    c.world.heal(*(node.host for node in sides[1]))
    c.wait_members(5, 20)
    c.wait_all_found(nodes, c.sets, 20)
    c.wait_quiet(nodes)
    after = sum(node.sum_of("directory_republishes_total") for node in nodes)
    held = sum(node.sum_of("directory_records") for node in nodes)
    c.note(f"{after - before:.0f} records sent again after the cut, owners hold {held:.0f}")
    require(after == before, f"{after - before:.0f} records sent again after a cut")


def case_short_cut(c):
    """a cut shorter than member_ttl: nobody dies of it"""
    nodes = c.hosts_with_nodes(4)
    c.start(*nodes)
    c.begin_load()
    c.world.cut(nodes[3].host)
    begin = time.monotonic()
    c.wait("half of member_ttl", c.ttl, lambda: time.monotonic() - begin >= c.ttl / 2)
    c.world.heal(nodes[3].host)
    healed = time.monotonic()
    c.wait_all_found(nodes, c.sets, 20)
    usable_s = time.monotonic() - healed
    c.wait_members(4, 5)
    for node in nodes:
        log = node.log.read_text(errors="replace")
        require("is gone" not in log, f"a death in a short cut: {node.log}")
    c.note(f"all keys usable everywhere in {usable_s:.2f} s")


def case_one_way(c):
    """a host that is mute, then deaf"""
    nodes = c.hosts_with_nodes(4)
    c.start(*nodes)
    c.begin_load()
    host = nodes[3].host
    for name, fail in (("mute", c.world.make_mute), ("deaf", c.world.make_deaf)):
        fail(host)
        c.wait_members(3, c.ttl + 15, nodes[:3])
        for node in nodes[:3]:
            c.must_find(nodes[0], f"{node.name}.1", f"a host is {name}")
        fail(host, False)
        healed = time.monotonic()
        c.wait_members(4, 20)
        c.wait_all_found(nodes, c.sets, 20)
        c.note(f"{name}: usable again in {time.monotonic() - healed:.2f} s")


def case_same_id(c):
    """restart with the same id, after kill -9 and in good order"""
    nodes = c.hosts_with_nodes(3)
    c.start(*nodes)
    c.begin_load()
    node = nodes[2]
    for way in (c.kill, c.end):
        old = f"c.{node.starts}"
        incarnation = nodes[0].members()["c"]
        way(node)
        begin = time.monotonic()
        c.restart(node)
        c.sets.remove(old)
        c.put_set(node)
        c.all_must_find(nodes[:2], "of the restarted node")
        c.wait(
            "one new incarnation",
            c.ttl + 10,
            lambda before=incarnation: all(
                len(seen := one.members()) == 3 and seen["c"] != before
                for one in nodes
            ),
        )
        took = time.monotonic() - begin
        c.must_miss(nodes[0], old, "of the incarnation before")
        c.all_must_find(nodes, "after the restart")
        c.note(f"{way.__name__}: a member again everywhere in {took:.1f} s")


def case_seed_restarts(c):
    """the only seed is killed and comes back with the same id"""
    seed, *others = c.hosts_with_nodes(4)
    c.start(seed, *others)
    c.begin_load()
    c.kill(seed)
    killed = time.monotonic()
    for node in others:
        c.must_find(others[0], f"{node.name}.1", "the seed is dead")
    c.death_known(3, killed, others)
    c.sets.remove("a.1")
    answer = seed.start()
    require(answer == "OK", f"the seed does not start again: {answer}")
    begin = time.monotonic()
    fewest = 3

    def all_back():
        nonlocal fewest
        seen = [len(node.members()) for node in others]
        fewest = min(fewest, *seen)
        return min(seen) == 4 and len(seed.members()) == 4

    c.wait("4 members", 20, all_back)
    took = time.monotonic() - begin
    require(fewest == 3, f"a restarted seed shrank a view to {fewest}")
    c.all_must_find([seed], "by the restarted seed")
    c.note(f"back in everybody's view in {took:.2f} s")


def case_silent_seed(c):
    """one of two seeds is silent from the start"""
    silent, *hosts = [c.world.add_host() for _ in range(6)]
    c.world.make_deaf(silent)
    c.seeds = f"{silent.ip}:{PORT},{hosts[0].ip}:{PORT}"
    nodes = [c.add_node(host, name) for host, name in zip(hosts, "abcde")]
    begin = time.monotonic()
    c.start(*nodes[:4])
    took = time.monotonic() - begin
    c.begin_load()
    begin = time.monotonic()
    seen = set()

    def looked_long_enough():
        seen.update(len(node.members()) for node in nodes[:4])
        return time.monotonic() - begin > 3 * c.ttl

    c.wait("three times member_ttl", 4 * c.ttl + 10, looked_long_enough)
    require(seen == {4}, f"the four see {sorted(seen)} members")
    begin = time.monotonic()
    c.start(nodes[4])
    joined_s = time.monotonic() - begin
    c.all_must_find(nodes, "with a silent seed")
    c.note(f"4 nodes are one cluster in {took:.1f} s, a fifth joins in {joined_s:.1f} s")


def case_slow_link(c):
    """one host behind 40 ms each way, 1 % loss, 20 Mbit/s"""
    hosts = [c.world.add_host() for _ in range(3)]
    hosts.append(c.world.add_host(slow=(40, 1, 20)))
    c.seeds = f"{hosts[0].ip}:{PORT}"
    nodes = [c.add_node(host, name) for host, name in zip(hosts, "abcd")]
    c.start(*nodes, n_warm=8)
    c.begin_load(pace_ms=60)
    begin = time.monotonic()
    seen = set()

    def looked_long_enough():
        seen.update(len(node.members()) for node in nodes)
        return time.monotonic() - begin > 4 * c.ttl

    c.wait("four times member_ttl", 5 * c.ttl + 10, looked_long_enough)
    require(seen == {4}, f"a slow link makes views of {sorted(seen)} members")
    fast_s = max(c.must_find(nodes[0], f"{n.name}.1", "fast") for n in nodes[:3])
    for node in nodes:
        node.ask("quiet", 30)
    c.wait_all_found(nodes, c.sets, 30)
    c.note(f"members stay; sets of the fast hosts in {fast_s * 1000:.0f} ms at most")


def case_rolling(c):
    """every node is restarted, one after the other, under load"""
    nodes = c.hosts_with_nodes(4)
    c.start(*nodes)
    c.begin_load()
    begin = time.monotonic()
    for i, node in enumerate(nodes):
        name = f"{node.name}.1"
        (c.end if i % 2 == 0 else c.kill)(node)
        c.sets.remove(name)
        reader = nodes[(i + 1) % 4]
        c.all_must_find([reader], f"while {node.name} restarts")
        c.restart(node)
        c.wait_members(4, c.ttl + 10)
        c.put_set(node)
    c.all_must_find(nodes, "after all were restarted")
    c.note(f"all four in {time.monotonic() - begin:.1f} s")


def case_seeds_gone(c):
    """all seeds die; running nodes go on, a new one joins when one is back"""
    nodes = c.hosts_with_nodes(5, seeds=2)
    seeds, others = nodes[:2], nodes[2:]
    c.start(*nodes)
    c.begin_load()
    for seed in seeds:
        c.kill(seed)
        c.sets.remove(f"{seed.name}.1")
    # Two nodes at once may have been all owners of a record: its holder tells
    # others as soon as it knows.
    begin = time.monotonic()
    c.wait_all_found(others, c.sets, c.ttl + 10)
    found_s = time.monotonic() - begin
    c.death_known(3, begin, others)
    c.all_must_find(others, "all seeds are dead")
    late = c.add_node(c.world.add_host(), "f")
    require(late.start() == "OK", "a new node does not start without seeds")
    answer = late.ask(f"ready {2 * c.heartbeat}")
    require(answer == "TIMED_OUT", f"a new node without seeds is {answer}")
    name = c.put_set(late)
    c.must_find(late, name, "alone")
    require(seeds[0].start() == "OK", "a seed does not start again")
    begin = time.monotonic()
    fewest = 3

    def all_joined():
        nonlocal fewest
        seen = [len(node.members()) for node in c.up()]
        fewest = min(fewest, *(len(node.members()) for node in others))
        return set(seen) == {5}

    c.wait("5 members", 30, all_joined)
    took = time.monotonic() - begin
    require(fewest == 3, f"a restarted seed shrank a view to {fewest}")
    c.wait_all_found(c.up(), c.sets, 10)
    usable_s = time.monotonic() - begin
    c.note(
        f"keys of the living found by all in {found_s:.1f} s; one cluster"
        f" {took:.1f} s after a seed is back, keys in {usable_s:.1f} s"
    )


def case_two_ids(c):
    """a second node with the id of a living one"""
    nodes = c.hosts_with_nodes(3)
    c.start(*nodes)
    c.begin_load()
    elder = nodes[1]
    incarnation = elder.members()["b"]
    double = c.add_node(c.world.add_host(), "b")
    double.start()
    begin = time.monotonic()
    seen = set()

    def looked_long_enough():
        for node in nodes:
            members = node.members()
            seen.add((len(members), members.get("b")))
        return time.monotonic() - begin > 2 * c.ttl

    c.wait("twice member_ttl", 4 * c.ttl, looked_long_enough)
    require(seen == {(3, incarnation)}, f"views with a double: {seen}")
    require(not double.is_joined(), "the double is a member")
    c.all_must_find(nodes, "beside a double")
    log = double.log.read_text(errors="replace")
    require(" ERROR " in log or " WARN " in log, f"no word of it: {double.log}")
    c.kill(elder)
    c.sets.remove("b.1")
    c.wait(
        "the double is let in when the elder is dead",
        c.ttl + 20,
        lambda: len(double.members()) == 3 and double.is_joined(),
    )
    c.wait_members(3, 10)
    c.wait_all_found(c.up(), c.sets, 10)
    c.note("the newcomer is refused while the elder lives, let in after")


def case_take_over(c):
    """the process that serves a host's discovery port is killed"""
    hosts = [c.world.add_host() for _ in range(3)]
    c.seeds = f"{hosts[0].ip}:{PORT}"
    nodes = [c.add_node(hosts[0], name) for name in "abc"]
    nodes.append(c.add_node(hosts[1], "d"))
    c.start(*nodes)
    c.begin_load()
    holder = next(node for node in nodes if node.serves_discovery())
    c.kill(holder)
    c.sets.remove(f"{holder.name}.1")
    heirs = [node for node in nodes[:3] if node.is_up]
    took = c.wait(
        "another process serves the port",
        15,
        lambda: any(node.serves_discovery() for node in heirs),
    )
    newcomer = c.add_node(hosts[2], "e")
    require(newcomer.start() == "OK", "a newcomer does not start")
    c.wait_ready(newcomer, 15)
    c.wait_members(4, c.ttl + 10)
    c.put_set(newcomer)
    c.all_must_find(c.up(), "after the port was taken over")
    c.restart(holder)
    c.put_set(holder)
    c.wait_members(5, 5)
    c.all_must_find(c.up(), "after its former holder is back")
    c.note(f"the port is served again after {took:.2f} s")


def case_seed_names(c):
    """a name with two addresses is the seed list, and is looked up again"""
    silent, *hosts = [c.world.add_host() for _ in range(6)]
    c.world.make_deaf(silent)
    c.world.name("seeds.test", silent, hosts[0])
    c.seeds = f"seeds.test:{PORT}"
    nodes = [c.add_node(host, name) for host, name in zip(hosts, "abcde")]
    begin = time.monotonic()
    c.start(*nodes[:3])
    took = time.monotonic() - begin
    # The seed moves: the name means another host.
    c.world.name("seeds.test", hosts[3])
    c.kill(nodes[0])
    c.sets.remove("a.1")
    c.wait_members(2, c.ttl + 10)
    c.start(nodes[3])
    c.start(nodes[4])
    c.all_must_find(nodes[1:], "after the seed's name moved")
    c.note(f"one cluster by a name in {took:.1f} s; all found the seed where it moved")


CASES = {
    name[len("case_") :]: function
    for name, function in list(globals().items())
    if name.startswith("case_")
}
# Only run with --long, or by name.
LONG = ("long_cut",)
# Cases with several nodes on a host, which then also read by mapping.
ALSO_AUTO = ("power_off", "take_over")
