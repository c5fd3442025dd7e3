/*
 * slot.pml - the memory protocol of a pool: reserve, write, seal, publish,
 * evict, remove, promote, and one reader.
 *
 * Two slots share one extent of two words, so that a place is used again as
 * soon as possible. Key A is put and, after an eviction, promoted from disk;
 * key B is put. The reader takes A's record at some time, which may be long
 * ago when it reads (a location cache), and reads in one MODE:
 * MAPPED, ONE_SIDED or SERVED.
 *
 * The switches (see README.md) take one rule out each.
 */
#if !defined(MAPPED) && !defined(ONE_SIDED) && !defined(SERVED)
#define MAPPED
#endif

#define A 1
#define B 2
#define NOBODY 9

mtype = { FREE, RESERVED, SEALED, DYING };

mtype state[2] = FREE;
byte gen[2];     /* In the header: even while sealed. */
byte digest[2];  /* In the header. */
byte word[2];    /* The bytes of the extent. */
byte pins[2];
bool evicting[2];
byte user = NOBODY; /* Slot that has the extent. */
byte next = 4;      /* The node's counter of generations. */
byte found[3] = NOBODY; /* The index: slot of a key. */
byte record_gen[3], record_slot[3];
bool used[16]; /* Generations that were sealed (I3). */
bool on_disk;
bool lock; /* The store's, where it is held over several steps. */

inline say_key(key)
{
    if
    :: key == A -> printf("A")
    :: else -> printf("B")
    fi
}

/* Under the store's lock. */
inline give_back(s)
{
    user = NOBODY;
    state[s] = FREE;
    evicting[s] = false
}

inline drop_pin(s)
{
    atomic {
        pins[s]--;
        last = pins[s] == 0 && state[s] == DYING
    };
    if
    :: last ->
        atomic {
            !lock;
            if
            :: state[s] == DYING && pins[s] == 0 && !evicting[s] ->
                printf("the last pin of slot %d ends it\n", s);
                give_back(s)
            :: else /* Its end was seen to. */
            fi
        }
    :: else
    fi
}

inline reserve(key, s)
{
    atomic {
        user == NOBODY && !lock;
        if
        :: state[0] == FREE -> s = 0
        :: state[1] == FREE -> s = 1
        fi;
        state[s] = RESERVED;
        user = s;
        printf("writer of "); say_key(key);
        printf(": reserves slot %d\n", s)
    }
}

inline write_word(key, i)
{
    atomic {
#if !defined(TIMED_RELEASE) && !defined(NO_ODD)
        /* I2: whoever writes to the extent finds no even slot of it. */
        assert(state[0] != SEALED && state[1] != SEALED);
        assert(gen[0] % 2 == 1 && gen[1] % 2 == 1);
#endif
        word[i] = key;
        printf("writer of "); say_key(key);
        printf(": writes word %d\n", i)
    }
}

inline seal(key, s, g)
{
    atomic { !lock; lock = true; pins[s]++; digest[s] = key };
    atomic {
        lock = false;
#ifdef PROMOTE_OLD
        if
        :: key == A && on_disk -> g = record_gen[A]
        :: else -> g = next; next = next + 2
        fi;
#else
        g = next;
        next = next + 2;
        assert(!used[g]); /* I3 */
#endif
        used[g] = true;
#ifndef TIMED_RELEASE
        /* I1: what is sealed is one value. */
        assert(word[0] == key && word[1] == key);
#endif
        gen[s] = g;
        state[s] = SEALED;
        found[key] = s;
        printf("writer of "); say_key(key);
        printf(": seals slot %d, generation %d, words %d %d\n", s, g,
               word[0], word[1])
    }
}

inline publish(key, s, g)
{
    atomic {
#if !defined(PROMOTE_OLD) && !defined(TIMED_RELEASE)
        /* I1: sealed; it may have been removed since, but is still pinned. */
        assert(user == s && (gen[s] == g || gen[s] == g + 1));
#endif
        record_gen[key] = g;
        record_slot[key] = s;
        printf("writer of "); say_key(key);
        printf(": publishes generation %d at slot %d\n", g, s)
    };
    drop_pin(s)
}

proctype Writer(byte key; byte times)
{
    byte s, g;
    bool last;
    do
    :: times > 0 ->
        times--;
        reserve(key, s);
        write_word(key, 0);
        write_word(key, 1);
        seal(key, s, g);
        publish(key, s, g);
        /* The next one is a promotion of what was evicted. */
        if
        :: times > 0 ->
            atomic {
                state[s] == FREE && key == A ->
                on_disk = true;
                printf("A is to be promoted from disk\n")
            }
        :: else
        fi
    :: else -> break
    od
}

#ifdef TIMED_RELEASE
proctype Timer()
{
    atomic {
        user != NOBODY && state[user] == RESERVED ->
        printf("timer: the reservation of slot %d is too old\n", user);
        state[user] = FREE;
        user = NOBODY
    }
}
#endif

/* Evict: alone with the slot first. Remove: whoever pins it ends it. */
proctype Evictor(byte times)
{
    byte s;
    do
    :: times > 0 ->
        times--;
        atomic {
            !lock && (state[0] == SEALED || state[1] == SEALED);
            lock = true;
            if
            :: state[0] == SEALED -> s = 0
            :: state[1] == SEALED -> s = 1
            fi
        };
        if
        :: atomic { pins[s] == 0 -> evicting[s] = true };
            atomic {
#ifndef NO_ODD
                gen[s] = gen[s] + 1;
#endif
                found[digest[s]] = NOBODY;
                state[s] = DYING;
                printf("evictor: evicts slot %d, generation is %d\n", s, gen[s])
            };
            atomic { give_back(s); lock = false }
        :: atomic {
                true;
#ifndef NO_ODD
                gen[s] = gen[s] + 1;
#endif
                found[digest[s]] = NOBODY;
                state[s] = DYING;
                printf("remove: slot %d, generation is %d\n", s, gen[s])
            };
            atomic {
                if
                :: pins[s] == 0 -> give_back(s)
                :: else -> printf("remove: slot %d is pinned\n", s)
                fi;
                lock = false
            }
        fi
    :: else -> break
    od
}

#ifdef MAPPED
proctype Reader()
{
    byte s, g, b0, b1;
    bool same;
    atomic {
        record_gen[A] != 0 ->
        s = record_slot[A];
        g = record_gen[A];
        printf("reader: remembers A at slot %d, generation %d\n", s, g)
    };
    atomic {
        same = gen[s] == g;
        printf("reader: first look, generation %d\n", gen[s])
    };
    atomic { same = same && digest[s] == A };
    if
    :: same ->
        atomic { b0 = word[0]; printf("reader: copies word 0: %d\n", b0) };
        atomic { b1 = word[1]; printf("reader: copies word 1: %d\n", b1) };
#ifndef NO_SECOND_LOOK
        atomic {
            same = gen[s] == g;
            printf("reader: second look, generation %d\n", gen[s])
        };
#endif
        if
        :: same ->
            printf("reader: OK, words %d %d\n", b0, b1);
            assert(b0 == A && b1 == A) /* I5 */
        :: else -> printf("reader: miss, stale\n")
        fi
    :: else -> printf("reader: miss, stale\n")
    fi
}
#endif

#ifdef ONE_SIDED
/* What a get fetches is what is there when it is carried out; gets of one page
 * are carried out in any order. At the deadline the peer is detached: then
 * nothing is under way any more. */
proctype Reader()
{
    byte s, g, hg, hd, b[2];
    bool got[2], header, ended;
    atomic {
        record_gen[A] != 0 ->
        s = record_slot[A];
        g = record_gen[A];
        printf("reader: posts gets of A at slot %d, generation %d\n", s, g)
    };
    do
    :: atomic { !got[0] -> got[0] = true; b[0] = word[0];
            printf("fabric: word 0 lands: %d\n", b[0]);
            assert(!ended) /* I6 */ }
    :: atomic { !got[1] -> got[1] = true; b[1] = word[1];
            printf("fabric: word 1 lands: %d\n", b[1]);
            assert(!ended) /* I6 */ }
    :: atomic {
#ifdef HEADER_EARLY
            !header ->
#else
            got[0] && got[1] && !header ->
#endif
            header = true; hg = gen[s]; hd = digest[s];
            printf("fabric: the header lands, generation %d\n", hg) }
    :: atomic { got[0] && got[1] && header && !ended ->
            if
            :: hg == g && hd == A ->
                printf("reader: OK, words %d %d\n", b[0], b[1]);
                assert(b[0] == A && b[1] == A) /* I5 */
            :: else -> printf("reader: miss, stale\n")
            fi }
        break
    :: atomic { !ended && !header ->
            ended = true;
            printf("reader: the deadline has come, the operation ends\n") };
#ifndef NO_DETACH
        break
#endif
    od
}
#endif

#ifdef SERVED
/* The owner, in the thread that serves; other threads evict. */
proctype Reader()
{
    byte s, g, b0, b1;
    bool good, last;
    atomic {
        found[A] != NOBODY ->
        s = found[A];
        g = gen[s];
        printf("server: finds A at slot %d, generation %d\n", s, g)
    };
    atomic {
        good = !evicting[s];
        pins[s]++;
        printf("server: pins slot %d\n", s)
    };
#ifndef NO_LOOK
    atomic {
        good = good && gen[s] == g;
        printf("server: looks at the generation: %d\n", gen[s])
    };
#endif
    if
    :: good ->
#ifdef UNPIN_EARLY
        drop_pin(s);
#endif
        atomic { b0 = word[0]; printf("kernel: sends word 0: %d\n", b0) };
        atomic { b1 = word[1]; printf("kernel: sends word 1: %d\n", b1) };
        printf("reader: OK, words %d %d\n", b0, b1);
        assert(b0 == A && b1 == A); /* I5 */
#ifndef UNPIN_EARLY
        drop_pin(s)
#endif
    :: else ->
        printf("server: not found\n");
        drop_pin(s)
    fi
}
#endif

init {
    atomic {
        gen[0] = 1;
        gen[1] = 3;
        run Writer(A, 2);
        run Writer(B, 1);
        run Evictor(2);
        run Reader();
#ifdef TIMED_RELEASE
        run Timer();
#endif
    }
}
