/*
 * views.pml - one key while the membership changes: a hand-over by
 * re-publishing, readers under other views, the settle window.
 *
 * In view 1 the owner is P; then Q joins, and owns the key in view 2; then Q
 * drains, and P owns it again in view 3. Nodes learn of views at any time, and
 * may skip one. A holder puts, evicts and puts again; a reader looks up; a
 * newcomer joins and looks up. A former view stays asked until everybody has
 * left it and nobody re-publishes: this is what `settle` (10 s) stands for.
 *
 * The switches (see README.md) take one rule out each.
 */
#define NONE 0
#define P 0
#define Q 1
#define H 2
#define R 3
#ifndef VIEWS
#define VIEWS 3
#endif
#define OWNER(v) ((v) == 2) /* P is 0, Q is 1. */
#define NAME(n) (n == P -> 80 : (n == Q -> 81 : (n == H -> 72 : 82)))

mtype = { PUBLISH, RETRACT, POSITIVE, ABSENT, WRONG_VIEW };

byte newest = 1;
byte view[4] = 1;
byte oldest[4] = 1; /* Views from here on are still asked. */
byte record[2];     /* Of P and of Q. */

byte held = NONE;
byte acked = NONE; /* Ghosts: the acknowledged generation, */
byte acked_in;     /* and the holder's view then. */
byte n_sealed;
bool reading; /* A lookup is under way. */

/* The holder's re-publishing, as in publish.c. */
byte base = 1;   /* Its owners have all records. */
byte to = NONE;  /* Being moved to that view; NONE: nothing to do. */
bool everything; /* The base does not say who has what. */
#ifdef NO_BUSY
#define BUSY false
#else
#define BUSY (to != NONE)
#endif

chan to_p = [3] of { mtype, byte };
chan to_q = [3] of { mtype, byte };

inline queue(o, kind, g)
{
    if
    :: o == P -> to_p ! kind, g
    :: else -> to_q ! kind, g
    fi
}

/* When a former view may be left: everybody knows the newest one (a view takes
 * two heartbeats to be known everywhere, which is well below settle), and
 * nobody re-publishes. */
#ifdef SLOW_NEWS
#define ALL_LEFT(v) (view[P] > v && view[Q] > v && view[H] > v && view[R] > v)
#else
#define ALL_LEFT(v) (view[P] == newest && view[Q] == newest && \
    view[H] == newest && view[R] == newest)
#endif

inline learn(n, v)
{
    view[n] = v;
    printf("%c: learns view %d\n", NAME(n), view[n])
}

proctype Holder()
{
    do
    :: atomic {
            held == NONE && n_sealed < 2 && nfull(to_p) && nfull(to_q) ->
            n_sealed++;
            held = n_sealed;
            printf("H: puts generation %d under view %d\n", held, view[H]);
            queue(OWNER(view[H]), PUBLISH, held)
        }
    :: atomic {
            held != NONE && n_sealed < 2 && nfull(to_p) && nfull(to_q) ->
            printf("H: evicts generation %d\n", held);
            /* To the owners of this view, of the base and of all that are
             * still asked. */
            if
            :: OWNER(view[H]) == P || OWNER(base) == P || oldest[H] == 1 ->
                to_p ! RETRACT, held
            :: else
            fi;
            if
            :: OWNER(view[H]) == Q || OWNER(base) == Q ||
                (oldest[H] <= 2 && view[H] >= 2) ->
                to_q ! RETRACT, held
            :: else
            fi;
            held = NONE
        }
    :: atomic {
            view[H] < newest && nfull(to_p) && nfull(to_q) ->
            if
            :: learn(H, view[H] + 1)
            :: view[H] + 1 < newest -> learn(H, newest)
            fi;
#ifndef NO_EVERYTHING
            everything = everything || to != NONE;
#endif
            to = view[H];
            if
            :: held != NONE && (everything || OWNER(base) != OWNER(to)) ->
                printf("H: moves the record to %c\n", NAME(OWNER(to)));
                queue(OWNER(to), PUBLISH, held)
            :: else
            fi
        }
    /* Its barrier: what was queued has been taken. */
    :: atomic {
            to != NONE && empty(to_p) && empty(to_q) ->
            base = to;
            to = NONE;
            everything = false;
            printf("H: has moved its records to view %d\n", base)
        }
    od
}

/* One message arrives, and its answer. */
inline deliver(o, box)
{
    box ? <kind, g>;
    if
    :: kind == PUBLISH ->
        if
        :: g > record[o] -> record[o] = g
        :: else
        fi;
        if
#ifdef NO_NAMES
        :: true ->
#else
        :: OWNER(view[o]) == o ->
#endif
            box ? kind, g;
            printf("%c: has the record %d, acknowledged\n", NAME(o), g);
            if
            :: g == held -> acked = g; acked_in = view[H]
            :: else
            fi
#ifndef NO_NAMES
        :: OWNER(view[o]) != o && OWNER(view[H]) != o ->
            box ? kind, g;
            printf("%c: has the record %d, but is no owner\n", NAME(o), g)
        /* It does not know yet that it is an owner: again, later. */
        :: OWNER(view[o]) != o && OWNER(view[H]) == o
#endif
        fi
    :: kind == RETRACT ->
        box ? kind, g;
        if
        :: record[o] != NONE && record[o] <= g -> record[o] = NONE
        :: else
        fi;
        printf("%c: retracts %d\n", NAME(o), g)
    fi;
    kind = 0;
    g = 0
}

proctype Owners()
{
    mtype kind;
    byte g;
    do
    :: atomic { nempty(to_p) -> deliver(P, to_p) }
    :: atomic { nempty(to_q) -> deliver(Q, to_q) }
    /* What a shard has not owned for twice the settle window. */
#ifdef DROP_EARLY
    :: atomic { record[P] != NONE && OWNER(view[P]) != P ->
#else
    :: atomic { record[P] != NONE && OWNER(view[P]) != P && !reading && !BUSY &&
            oldest[P] == 2 && oldest[Q] >= 2 && oldest[H] >= 2 &&
            oldest[R] >= 2 ->
#endif
            record[P] = NONE;
            printf("P: drops what it does not own\n") }
#if VIEWS > 2
#ifdef DROP_EARLY
    :: atomic { record[Q] != NONE && view[Q] == 3 ->
#else
    :: atomic { record[Q] != NONE && view[Q] == 3 && !reading && !BUSY &&
            oldest[P] == 3 && oldest[Q] == 3 && oldest[H] == 3 &&
            oldest[R] == 3 ->
#endif
            record[Q] = NONE;
            printf("Q: drops what it does not own\n") }
#endif
    od
}

/* Views come, nodes learn of them, and former ones are asked no more. */
proctype World()
{
    byte n;
    do
    :: atomic { newest < VIEWS ->
            newest++;
            printf("view %d: the owner is %c\n", newest, NAME(OWNER(newest))) }
    :: atomic {
            if
            :: view[P] < newest -> n = P
            :: view[Q] < newest -> n = Q
            :: view[R] < newest -> n = R
            fi;
            if
            :: learn(n, view[n] + 1)
            :: view[n] + 1 < newest -> learn(n, newest)
            fi;
            n = 0 }
#ifndef NO_WINDOW
    :: atomic {
            if
            :: n = P
            :: n = Q
            :: n = H
            :: n = R
            fi;
            oldest[n] < view[n] && ALL_LEFT(oldest[n]) && !BUSY ->
            oldest[n]++;
            printf("%c: asks view %d no more\n", NAME(n), oldest[n] - 1);
            n = 0 }
#endif
    od
}

/* The answer of an owner, or of a former one. */
inline ask(o, former)
{
    if
    :: record[o] != NONE -> answer = POSITIVE
#ifdef NO_NAMES
    :: record[o] == NONE -> answer = ABSENT
#else
    :: record[o] == NONE && OWNER(view[o]) != o && !former ->
        answer = WRONG_VIEW
    :: record[o] == NONE && (OWNER(view[o]) == o || former) -> answer = ABSENT
#endif
    fi;
    printf("R: asks %c, whose view is %d: %e\n", NAME(o), view[o], answer)
}

inline end_lookup()
{
    reading = false;
    promised = NONE;
    o = 0;
    v = 0;
    old = 0;
    answer = 0;
    first = 0
}

/* Whether the other one owned the key in a former view that is asked. */
#ifdef NO_WINDOW
#define ASK_FORMER false
#else
#define ASK_FORMER (o == Q && old == 1 || o == P && v == 3 && old <= 2)
#endif

/* I8. A put under a view that is news to the reader is inside a settle window:
 * it is promised only if the owner that the reader asks knows that it is none
 * any more (which, with three views, it may be again). */
#define ASKED OWNER(view[R])
#ifdef EVERY_PUT
#define PROMISED (held != NONE && acked == held)
#else
#define PROMISED (held != NONE && acked == held && \
    (acked_in <= view[R] || VIEWS == 2 && acked_in <= view[ASKED]))
#endif

proctype Reader()
{
    byte o, v, old, promised;
    mtype answer, first;
#ifdef NEWCOMER
    /* The answer to its join carries the views that are still asked. */
    atomic {
        if
        :: o = P
        :: o = Q
        :: o = H
        fi;
        view[R] = view[o];
#ifdef JOIN_WITHOUT_FORMER
        oldest[R] = view[o];
#else
        oldest[R] = oldest[o];
#endif
        printf("R: joins, %c tells it of view %d\n", NAME(o), view[R])
    };
#endif
    do
    :: atomic {
            reading = true;
            promised = NONE;
            if
            :: PROMISED -> promised = held
            :: else
            fi;
            v = view[R];
            old = oldest[R];
            o = OWNER(v);
            printf("R: looks up under view %d\n", v)
        };
        atomic {
            ask(o, false);
            if
            :: answer == POSITIVE -> printf("R: found\n"); end_lookup()
            :: else -> first = answer; answer = 0
            fi
        };
        atomic {
            if
            :: first != 0 && ASK_FORMER -> o = 1 - o; ask(o, true)
            :: else
            fi;
            if
            :: first == 0
            :: first != 0 && answer == POSITIVE -> printf("R: found\n")
#ifndef NO_NAMES
            :: answer != POSITIVE && first == WRONG_VIEW ->
                printf("R: another view, so this is no absence\n")
#endif
            :: answer != POSITIVE && first == ABSENT ->
                printf("R: NOT_FOUND\n");
                assert(promised == NONE || promised != held) /* I8 */
            fi;
            end_lookup()
        }
    od
}

/* At rest the owner of the newest view has what the holder holds. (It may have
 * more: an owner that comes back may still have a record of its first time,
 * whose retract it was not sent. Repair finds that: README.md.) */
proctype Rest()
{
    atomic {
        n_sealed > 0 && newest == VIEWS && view[P] == VIEWS &&
        view[Q] == VIEWS && view[H] == VIEWS && !BUSY && empty(to_p) &&
        empty(to_q) ->
        printf("at rest: held %d, records %d %d\n", held, record[P], record[Q]);
        assert(held == NONE || record[OWNER(VIEWS)] == held)
    }
}

init {
    atomic {
        run Holder();
        run Owners();
        run World();
        run Reader();
        run Rest()
    }
}
