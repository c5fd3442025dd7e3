/*
 * fifo.pml - one holder, one owner, one key: publish, retract, replay,
 * promotion, repair, a connection that breaks, a death that is refuted.
 *
 * The holder puts, promotes (from disk; a newer value under the same key does
 * the same: the new slot is published before the old one is retracted) and
 * evicts. Its words to the owner are one FIFO; one message is under way at a
 * time, and is sent again on the next connection if it was not acknowledged. A
 * cut is SHORT (below member_ttl), MIDDLE (each holds the other dead, for less
 * than 60 s), or LONG.
 *
 * The switches (see README.md) take one rule out each.
 */
#define NONE 0
#ifndef PUTS
#define PUTS 3
#endif

mtype = { PUBLISH, RETRACT, SHORT, MIDDLE, LONG };

/* The holder. */
byte held = NONE;  /* Generation of the key in its live store. */
byte given = NONE; /* Of a slot given up, whose retract is not queued yet. */
byte acked = NONE; /* Newest publish that the owner has acknowledged. */
byte n_sealed;
chan box = [4] of { mtype, byte };
bool under_way; /* The head of the FIFO is on the wire, */
bool lane_under_way; /* or what moves. */
byte n_moves = 1;
bool moving; /* The key is in the lane of what moves to the owner. */
#ifdef LANE_OLD
byte moved; /* What it was when it was put there. */
#endif
bool repairing; /* A comparison is owed or running. */
byte n_repairs = 1;

/* The wire. */
bool connected = true;
chan wire = [1] of { mtype, byte };
chan acks = [1] of { byte };
chan summary = [1] of { byte };
chan extras = [1] of { byte };
#ifdef NO_REPLACE
chan old_wire = [1] of { mtype, byte }; /* Written, not read, and then cut. */
#endif
#ifdef NO_FIFO
chan aside = [1] of { byte }; /* Retracts go by themselves. */
#endif

/* The owner. */
byte record = NONE;
bool dead; /* It holds the holder dead. */
bool owner_dead; /* The holder holds the owner dead. */

/* The world. */
mtype cut;
byte n_cuts = 1;

/* I8, for this owner: what it acknowledged, and what the holder still holds, is
 * found while nobody is cut off or taken for dead. A purge after 60 s takes
 * the acknowledgement back. I4: a record is of a sealed generation. */
inline check()
{
    assert(!(held != NONE && acked == held && cut == 0 && !dead) ||
           record == held);
    assert(record <= 2 * n_sealed)
}

/* A holder that refutes its own death compares at once, and so does one whose
 * owner comes back. */
inline refute()
{
    if
    :: dead ->
        dead = false;
        printf("owner: the holder is alive after all\n");
#ifndef NO_REPAIR
        repairing = true
#endif
    :: else
    fi;
    if
    :: owner_dead ->
        owner_dead = false;
        printf("holder: the owner is alive after all\n");
#ifndef NO_COMPARE
        repairing = true
#endif
    :: else
    fi
}

inline queue_publish(g)
{
    box ! PUBLISH, g
}

proctype Holder()
{
    mtype kind;
    byte g;
    do
    :: atomic {
            held == NONE && given == NONE && n_sealed < PUTS && len(box) < 3 ->
            n_sealed++;
            held = 2 * n_sealed;
            printf("holder: puts generation %d\n", held);
            queue_publish(held);
            check()
        }
    :: atomic {
            held != NONE && given == NONE && n_sealed < PUTS && len(box) < 3 ->
            given = held;
#ifdef PROMOTE_OLD
            n_sealed = PUTS;
#else
            n_sealed++;
            held = 2 * n_sealed;
#endif
            printf("holder: promotes the key, generation %d\n", held);
            queue_publish(held);
            check()
        }
    :: atomic {
            given != NONE && len(box) < 3 ->
            printf("holder: its old slot is given up, retracts %d\n", given);
            box ! RETRACT, given;
            given = NONE
        }
    :: atomic {
            held != NONE && given == NONE && len(box) < 3 ->
            printf("holder: evicts, retracts %d\n", held);
#ifdef NO_FIFO
            aside ! held;
#else
            box ! RETRACT, held;
#endif
            held = NONE
        }
    /* The FIFO. */
    :: atomic {
            connected && !under_way && !lane_under_way && nempty(box) ->
            box ? <kind, g>;
            wire ! kind, g;
            under_way = true;
            printf("holder: sends %e %d\n", kind, g)
        }
    :: atomic {
            under_way && nempty(acks) ->
            acks ? g;
            box ? kind, g;
            under_way = false;
            if
            :: kind == PUBLISH && g > acked -> acked = g
            :: else
            fi;
            printf("holder: %e %d is acknowledged\n", kind, g);
            check()
        }
    /* The lane beside it, in which a key moves to a new owner: what the store
     * holds is looked up when the message is made. */
    :: atomic {
            n_moves > 0 && held != NONE ->
            n_moves--;
            moving = true;
#ifdef LANE_OLD
            moved = held;
#endif
            printf("holder: the key is to move\n")
        }
    :: atomic {
            connected && !under_way && !lane_under_way && moving ->
#ifdef LANE_OLD
            lane_under_way = true;
            wire ! PUBLISH, moved;
            printf("holder: moves %d\n", moved)
#else
            if
            :: held == NONE -> moving = false
            :: else ->
                lane_under_way = true;
                wire ! PUBLISH, held;
                printf("holder: moves %d\n", held)
            fi
#endif
        }
    :: atomic {
            lane_under_way && nempty(acks) ->
            acks ? g;
            lane_under_way = false;
            moving = false;
            if
            :: g > acked -> acked = g
            :: else
            fi;
            printf("holder: what moved is acknowledged: %d\n", g);
            check()
        }
    /* Repair. */
    :: atomic {
            connected && !dead && empty(summary) && empty(extras) &&
            (repairing || n_repairs > 0) ->
            if
            :: !repairing -> n_repairs--
            :: else
            fi;
            repairing = true;
            summary ! held;
            printf("holder: sends a summary, holds %d\n", held)
        }
    :: atomic {
            len(box) < 3 && nempty(extras) ->
            extras ? g;
            repairing = false;
            printf("holder: the owner has %d, the live store %d\n", g, held);
            if
            :: held != NONE && held != g -> queue_publish(held)
            :: else
            fi;
            if
            :: g != NONE && g != held -> box ! RETRACT, g
            :: else
            fi
        }
    od
}

inline take(kind, g)
{
    if
    :: kind == PUBLISH && g > record -> record = g
    :: kind == PUBLISH && g <= record
#ifdef RETRACT_ANY
    :: kind == RETRACT -> record = NONE
#else
    :: kind == RETRACT && g >= record -> record = NONE
    :: kind == RETRACT && g < record
#endif
    fi;
    printf("owner: takes %e %d, its record is %d\n", kind, g, record)
}

proctype Owner()
{
    mtype kind;
    byte g;
    do
    :: atomic { connected && wire ? [kind, g] ->
            wire ? kind, g;
            take(kind, g);
            acks ! g;
            check()
        }
#ifdef NO_REPLACE
    :: atomic { old_wire ? kind, g ->
            printf("owner: reads what was left of the old connection\n");
            take(kind, g);
            check()
        }
#endif
#ifdef NO_FIFO
    :: atomic { aside ? g -> take(RETRACT, g); check() }
#endif
    :: atomic { summary ? g ->
            printf("owner: the summary says %d, its record is %d\n", g, record);
#ifdef REPAIR_DROPS
            if
            :: record != g -> record = NONE;
                printf("owner: drops what the summary has not\n")
            :: else
            fi;
#endif
            extras ! record;
            check()
        }
    /* The purge. */
#ifdef PURGE_EARLY
    :: atomic { dead && record != NONE ->
#else
    :: atomic { dead && cut == LONG && record != NONE ->
#endif
            if
            :: cut == LONG -> acked = NONE
            :: else
            fi;
            record = NONE;
            printf("owner: purges the records of the dead holder\n")
        }
    od
}

inline disconnect()
{
    connected = false;
#ifdef NO_REPLACE
    if
    :: len(wire) > 0 && len(old_wire) == 0 -> wire ? kind, g; old_wire ! kind, g
    :: else
    fi;
#endif
    if
    :: len(wire) > 0 -> wire ? kind, g
    :: else
    fi;
    if
    :: len(acks) > 0 -> acks ? g
    :: else
    fi;
    if
    :: len(summary) > 0 -> summary ? g
    :: else
    fi;
    if
    :: len(extras) > 0 -> extras ? g
    :: else
    fi;
#ifdef NO_REPLAY
    if
    :: under_way -> box ? kind, g
    :: else
    fi;
#endif
    under_way = false;
    lane_under_way = false
}

proctype World()
{
    mtype kind;
    byte g;
    do
    :: atomic {
            n_cuts > 0 ->
            n_cuts--;
            if
            :: cut = SHORT
            :: cut = MIDDLE
            :: cut = LONG
            fi;
            printf("world: a cut, %e\n", cut);
            disconnect()
        }
    :: atomic {
            (cut == MIDDLE || cut == LONG) && !dead ->
            dead = true;
            printf("owner: holds the holder dead\n")
        }
    :: atomic {
            (cut == MIDDLE || cut == LONG) && !owner_dead ->
            owner_dead = true;
            printf("holder: holds the owner dead, drops its FIFO\n");
            do
            :: len(box) > 0 -> box ? kind, g
            :: else -> break
            od
        }
    :: atomic {
            cut == SHORT || (cut != 0 && (dead || owner_dead)) ->
            cut = 0;
            connected = true;
            printf("world: the cut heals\n");
            refute()
            /* Nothing to check: comparisons have yet to run. */
        }
    od
}

/* At rest the record is the live store's word. */
proctype Rest()
{
    atomic {
        n_sealed > 0 && given == NONE && empty(box) && empty(acks) && !moving &&
        connected && cut == 0 && !dead && !repairing &&
#ifdef NO_REPLACE
        empty(old_wire) &&
#endif
#ifdef NO_FIFO
        empty(aside) &&
#endif
        empty(summary) && empty(extras) ->
        printf("at rest: held %d, record %d\n", held, record);
        assert(record == held)
    }
}

init {
    atomic {
        run Holder();
        run Owner();
        run World();
        run Rest()
    }
}
