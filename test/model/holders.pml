/*
 * holders.pml - two owners, two holders, a reader: replicas of the directory,
 * absence, dedupe, the unknown, and a stale record beside a good one.
 *
 * H puts the key and may evict it. W does so, too, but does not store it if H
 * confirms that it holds it. The words of each holder to each owner are one FIFO; each FIFO is
 * as slow as it likes, so a put may be OK with one owner (rule 5). R, which may
 * not have met W, gets it.
 *
 * The switches (see README.md) take one rule out each.
 */
#define H 0
#define W 1

/* A FIFO of a holder that puts once and evicts once. */
#define NOTHING 0
#define PUBLISH 1
#define BOTH 2 /* A publish, and behind it a retract. */
#define RETRACT 3
typedef holder {
    bool held;
    bool published; /* An owner has acknowledged it. */
    byte fifo[2];   /* To each owner. */
};
holder hold[2];
typedef owner {
    bool record[2]; /* Of each holder. */
};
owner own[2];
bool known[2]; /* R has met the holder. */

/* Ghosts: a put was acknowledged that relies on the holder, which has not
 * evicted since. A holder that confirms a put of another may evict before that
 * is acknowledged: then nothing is promised. */
bool promised[2];
bool want[2]; /* The promises to the get under way. */

#define NAME(h) (h == H -> 72 : 87)

inline seal(h)
{
    hold[h].held = true;
    hold[h].fifo[0] = PUBLISH;
    hold[h].fifo[1] = PUBLISH;
    printf("%c: seals, its publishes are queued\n", NAME(h))
}

/* Or not. */
inline evict(h)
{
    if
    :: atomic {
            true ->
            hold[h].held = false;
            promised[h] = false;
            want[h] = false;
            printf("%c: evicts\n", NAME(h));
            hold[h].fifo[0] = (hold[h].fifo[0] == PUBLISH -> BOTH : RETRACT);
            hold[h].fifo[1] = (hold[h].fifo[1] == PUBLISH -> BOTH : RETRACT)
        }
    :: true
    fi
}

proctype Network()
{
    byte h, o;
    do
    :: atomic {
            if
            :: h = H
            :: h = W
            fi;
            if
            :: o = 0
            :: o = 1
            fi;
            if
            :: hold[h].fifo[o] == PUBLISH || hold[h].fifo[o] == BOTH ->
                own[o].record[h] = true;
                hold[h].published = true;
                hold[h].fifo[o] =
                    (hold[h].fifo[o] == BOTH -> RETRACT : NOTHING);
                printf("owner %d: has a record of %c\n", o, NAME(h))
            :: hold[h].fifo[o] == RETRACT ->
                own[o].record[h] = false;
                hold[h].fifo[o] = NOTHING;
                printf("owner %d: the record of %c is retracted\n", o, NAME(h))
            fi;
            h = 0;
            o = 0
        }
    od
}

proctype HolderH()
{
    atomic { seal(H) };
    atomic {
        hold[H].published ->
        promised[H] = true;
        printf("H: its put is OK\n")
    };
    evict(H)
}

/* A second put on H while the first is under way: it joins that publish. */
proctype Again()
{
    atomic {
        hold[H].held ->
        printf("H: a second put finds the slot\n")
    };
#ifdef SKIP_UNPUBLISHED
    atomic {
        promised[H] = hold[H].held;
        printf("H: the second put is OK\n")
    }
#else
    atomic {
        hold[H].published ->
        promised[H] = hold[H].held;
        printf("H: the second put is OK\n")
    }
#endif
}

proctype HolderW()
{
    byte o;
    bool confirmed;
    if
    :: atomic {
            if
            :: o = 0
            :: o = 1
            fi;
            own[o].record[H] ->
            printf("W: owner %d says that H holds it\n", o)
        };
        atomic {
#ifdef DEDUPE_BY_RECORD
            confirmed = true
#else
            confirmed = hold[H].held && hold[H].published;
            if
            :: confirmed -> promised[H] = true; printf("W: H confirms\n")
            :: else -> printf("W: H does not confirm\n")
            fi
#endif
        }
    :: true /* Nobody holds it, as far as it can see. */
    fi;
    if
    :: confirmed ->
        atomic {
#ifdef DEDUPE_BY_RECORD
            promised[H] = true;
#endif
            printf("W: its put is OK, not stored\n")
        }
    :: else ->
        atomic { seal(W) };
        atomic {
            hold[W].published ->
            promised[W] = true;
            printf("W: its put is OK\n")
        };
        evict(W)
    fi
}

#ifdef UNKNOWN_IS_DEAD
#define TAKES(h) (own[o].record[h] && known[h])
#else
#define TAKES(h) (own[o].record[h])
#endif

/* What is read: at the holder, by digest. */
inline read_at(h)
{
    if
    :: hold[h].held -> ok = true; printf("R: reads it from %c: OK\n", NAME(h))
    :: else -> printf("R: reads from %c: gone\n", NAME(h))
    fi
}

inline ask(who)
{
    o = who;
    atomic {
        found[H] = TAKES(H);
        found[W] = TAKES(W);
        printf("R: asks owner %d:", o);
        if
        :: found[H] -> printf(" H")
        :: else
        fi;
        if
        :: found[W] -> printf(" W")
        :: else
        fi;
        printf("\n")
    }
}

inline read_all()
{
    if
    :: found[H] && !ok -> atomic { read_at(H) }
    :: else
    fi;
    if
    :: found[W] && !ok -> atomic { read_at(W) }
    :: else
    fi
}

/* The first positive answer wins; absence needs both owners. */
inline look_up(one)
{
    ask(one);
#ifndef ABSENCE_OF_ONE
    if
    :: !found[H] && !found[W] -> ask(1 - one)
    :: else
    fi
#endif
}

proctype Reader()
{
    byte o, one;
    bool found[2];
    bool ok;
    atomic {
        promised[H] || promised[W] ->
        want[H] = promised[H];
        want[W] = promised[W];
        printf("R: gets\n");
        if
        :: one = 0
        :: one = 1
        fi
    };
    look_up(one);
    if
    :: found[H] || found[W] ->
        read_all();
        if
        :: !ok ->
            /* One fresh lookup: of all owners, for the first one's records
             * have just proved stale. */
#ifdef RELOOK_FIRST
            look_up(one);
            read_all()
#else
            ask(one);
            read_all();
            if
            :: !ok -> ask(1 - one); read_all()
            :: else
            fi
#endif
        :: else
        fi
    :: else
    fi;
    atomic {
        if
        :: ok
        :: else ->
            printf("R: NOT_FOUND\n");
            /* I8: one holder that stays is enough. */
            assert(!want[H] && !want[W])
        fi
    }
}

init {
    atomic {
        known[H] = true;
        run HolderH();
        run HolderW();
        run Again();
        run Network();
        run Reader()
    }
}
