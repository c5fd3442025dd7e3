/*
 * msgpack-c's own unpacker cannot be used here: when it meets an array it
 * allocates what the sender claims (array32: up to 96 GiB) before any element
 * has arrived, and offers no limit. Its parsing template, which that unpacker
 * is made of, does no allocation: it calls back for each object, and an error
 * from the callback ends the parse. So we instantiate the template with
 * callbacks that note one token; those for arrays and maps stop at their
 * header, and the elements are read one by one by whoever knows what they
 * must be. Nothing nests in the template, so its stack has one level.
 */
#include "reader.h"

#include "wire.h"

#include <string.h>

#include <msgpack/unpack.h>

#undef MSGPACK_EMBED_STACK_SIZE
#define MSGPACK_EMBED_STACK_SIZE 1
#include <msgpack/unpack_define.h>

enum token_kind {
    TOKEN_OTHER, /* nil, float: nothing that we use, but can skip. */
    TOKEN_NUMBER,
    TOKEN_NEGATIVE,
    TOKEN_BOOL,
    TOKEN_TEXT,
    TOKEN_BINARY,
    TOKEN_ARRAY,
    TOKEN_MAP
};

struct token
{
    enum token_kind kind;
    uint64_t number; /* Value, as two's complement; count; length of data. */
    const char *data;
};

/* The template's "user" gets the token of a header at which we stop. */
struct stop
{
    struct token token;
};

#define STOPPED (-100) /* Unlike any of msgpack's own errors. */

static inline int set_token(struct token *o, enum token_kind kind,
                            uint64_t number, const char *data)
{
    o->kind = kind;
    o->number = number;
    o->data = data;
    return 0;
}

static inline struct token on_root(struct stop *u)
{
    (void)u;
    return (struct token){TOKEN_OTHER, 0, NULL};
}

#define NUMBER_CALLBACK(name, type)                                            \
    static inline int on_##name(struct stop *u, type d, struct token *o)       \
    {                                                                          \
        (void)u;                                                               \
        return set_token(o, TOKEN_NUMBER, d, NULL);                            \
    }
#define SIGNED_CALLBACK(name, type)                                            \
    static inline int on_##name(struct stop *u, type d, struct token *o)       \
    {                                                                          \
        (void)u;                                                               \
        return set_token(o, d < 0 ? TOKEN_NEGATIVE : TOKEN_NUMBER,             \
                         (uint64_t)(int64_t)d, NULL);                          \
    }
#define OTHER_CALLBACK(name, type)                                             \
    static inline int on_##name(struct stop *u, type d, struct token *o)       \
    {                                                                          \
        (void)u;                                                               \
        (void)d;                                                               \
        return set_token(o, TOKEN_OTHER, 0, NULL);                             \
    }
#define DATA_CALLBACK(name, kind)                                              \
    static inline int on_##name(struct stop *u, const char *base,              \
                                const char *at, unsigned len, struct token *o) \
    {                                                                          \
        (void)u;                                                               \
        (void)base;                                                            \
        return set_token(o, kind, len, at);                                    \
    }
#define HEADER_CALLBACK(name, kind)                                            \
    static inline int on_##name(struct stop *u, unsigned n, struct token *o)   \
    {                                                                          \
        (void)o;                                                               \
        (void)set_token(&u->token, kind, n, NULL);                             \
        return STOPPED;                                                        \
    }

NUMBER_CALLBACK(uint8, uint8_t)
NUMBER_CALLBACK(uint16, uint16_t)
NUMBER_CALLBACK(uint32, uint32_t)
NUMBER_CALLBACK(uint64, uint64_t)
SIGNED_CALLBACK(int8, int8_t)
SIGNED_CALLBACK(int16, int16_t)
SIGNED_CALLBACK(int32, int32_t)
SIGNED_CALLBACK(int64, int64_t)
OTHER_CALLBACK(float, float)
OTHER_CALLBACK(double, double)
DATA_CALLBACK(str, TOKEN_TEXT)
DATA_CALLBACK(bin, TOKEN_BINARY)
HEADER_CALLBACK(array, TOKEN_ARRAY)
HEADER_CALLBACK(map, TOKEN_MAP)

static inline int on_nil(struct stop *u, struct token *o)
{
    (void)u;
    return set_token(o, TOKEN_OTHER, 0, NULL);
}

static inline int on_true(struct stop *u, struct token *o)
{
    (void)u;
    return set_token(o, TOKEN_BOOL, 1, NULL);
}

static inline int on_false(struct stop *u, struct token *o)
{
    (void)u;
    return set_token(o, TOKEN_BOOL, 0, NULL);
}

/* We never write one, and the template's length of an ext32 can wrap. */
static inline int on_ext(struct stop *u, const char *base, const char *at,
                         unsigned len, struct token *o)
{
    (void)u;
    (void)base;
    (void)at;
    (void)len;
    (void)o;
    return MSGPACK_UNPACK_PARSE_ERROR;
}

/* Named by the template, but headers stop it before it gets here. */
static inline int on_array_item(struct stop *u, struct token *c, struct token o)
{
    (void)u;
    (void)c;
    (void)o;
    return MSGPACK_UNPACK_PARSE_ERROR;
}

static inline int on_map_item(struct stop *u, struct token *c, struct token k,
                              struct token v)
{
    (void)k;
    return on_array_item(u, c, v);
}

#define msgpack_unpack_struct(name)    struct token##name
#define msgpack_unpack_func(ret, name) static inline ret token##name
#define msgpack_unpack_callback(name)  on##name
#define msgpack_unpack_object          struct token
#define msgpack_unpack_user            struct stop
#include <msgpack/unpack_template.h>

static bool next_token(struct pc_reader *r, struct token *token)
{
    struct token_context context;

    if (r->status != PEERCACHE_OK) {
        return false;
    }
    token_init(&context);
    int rc = token_execute(&context, r->bytes.data, r->bytes.len, &r->at);
    if (rc == 1) {
        *token = token_data(&context);
        return true;
    }
    if (rc == STOPPED) {
        r->at++; /* The template stands on the header's last byte. */
        *token = context.user.token;
        return true;
    }
    pc_reader_fail(r, PEERCACHE_PROTOCOL);
    return false;
}

/* The next token, of this kind; false fails the reader. */
static bool expect(struct pc_reader *r, enum token_kind kind,
                   struct token *token)
{
    if (!next_token(r, token)) {
        return false;
    }
    if (token->kind != kind) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return false;
    }
    return true;
}

void pc_reader_init(struct pc_reader *r, struct pc_blob bytes,
                    struct pc_arena *arena)
{
    r->bytes = bytes;
    r->at = 0;
    r->arena = arena;
    r->status = PEERCACHE_OK;
}

void pc_reader_fail(struct pc_reader *r, peercache_status_t status)
{
    if (r->status == PEERCACHE_OK) {
        r->status = status;
    }
}

uint32_t pc_reader_open(struct pc_reader *r, uint32_t n_known)
{
    struct token token;

    if (!expect(r, TOKEN_ARRAY, &token)) {
        return 0;
    }
    if (token.number < n_known) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return 0;
    }
    return (uint32_t)token.number - n_known;
}

void pc_reader_close(struct pc_reader *r, uint32_t n_unknown)
{
    struct token token;
    uint64_t left = n_unknown;

    /* Not recursive, so depth costs nothing; and every object takes a byte,
     * so the bytes that are left bound what a header can claim. */
    while (left > 0) {
        if (left > r->bytes.len - r->at) {
            pc_reader_fail(r, PEERCACHE_PROTOCOL);
        }
        if (!next_token(r, &token)) {
            return;
        }
        left--;
        if (token.kind == TOKEN_ARRAY) {
            left += token.number;
        } else if (token.kind == TOKEN_MAP) {
            left += 2 * token.number;
        }
    }
}

uint32_t pc_reader_list(struct pc_reader *r, uint32_t max, size_t item_min)
{
    struct token token;

    if (!expect(r, TOKEN_ARRAY, &token)) {
        return 0;
    }
    if (token.number > max ||
        token.number > (r->bytes.len - r->at) / item_min) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return 0;
    }
    return (uint32_t)token.number;
}

uint64_t pc_reader_number(struct pc_reader *r, uint64_t max)
{
    struct token token;

    if (!expect(r, TOKEN_NUMBER, &token)) {
        return 0;
    }
    if (token.number > max) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return 0;
    }
    return token.number;
}

uint64_t pc_reader_u64(struct pc_reader *r)
{
    return pc_reader_number(r, UINT64_MAX);
}

uint32_t pc_reader_u32(struct pc_reader *r)
{
    return (uint32_t)pc_reader_number(r, UINT32_MAX);
}

bool pc_reader_bool(struct pc_reader *r)
{
    struct token token;

    return expect(r, TOKEN_BOOL, &token) && token.number == 1;
}

int32_t pc_reader_error(struct pc_reader *r)
{
    struct token token;

    /* Errors are negative. */
    if (!expect(r, TOKEN_NEGATIVE, &token)) {
        return 0;
    }
    if (!pc_wire_is_status((int64_t)token.number)) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return 0;
    }
    return (int32_t)(int64_t)token.number;
}

void pc_reader_text(struct pc_reader *r, char *text, size_t size)
{
    struct token token;

    /* The template has no address for an empty text. */
    if (!expect(r, TOKEN_TEXT, &token) || token.number == 0) {
        return;
    }
    if (token.number >= size ||
        memchr(token.data, '\0', (size_t)token.number) != NULL) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return;
    }
    memcpy(text, token.data, (size_t)token.number);
}

struct pc_blob pc_reader_blob(struct pc_reader *r, size_t max)
{
    struct token token;

    if (!expect(r, TOKEN_BINARY, &token)) {
        return (struct pc_blob){NULL, 0};
    }
    if (token.number > max) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return (struct pc_blob){NULL, 0};
    }
    if (token.number == 0) {
        return (struct pc_blob){NULL, 0};
    }
    return (struct pc_blob){token.data, (size_t)token.number};
}

const uint8_t *pc_reader_packed(struct pc_reader *r, size_t item_size,
                                struct pc_bounds bounds, uint32_t *n_p)
{
    struct pc_blob blob = pc_reader_blob(r, bounds.max * item_size);

    *n_p = 0;
    if (r->status != PEERCACHE_OK) {
        return NULL;
    }
    if (blob.len % item_size != 0 || blob.len / item_size < bounds.min) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return NULL;
    }
    *n_p = (uint32_t)(blob.len / item_size);
    return blob.data;
}

void *pc_reader_alloc(struct pc_reader *r, uint32_t n, size_t size)
{
    if (r->status != PEERCACHE_OK || n == 0) {
        return NULL;
    }
    void *items = pc_arena_alloc(r->arena, n, size);
    if (items == NULL) {
        pc_reader_fail(r, PEERCACHE_NO_MEMORY);
    }
    return items;
}

uint8_t *pc_reader_bytes(struct pc_reader *r, struct pc_bounds bounds,
                         uint8_t value_max, uint32_t *n_p)
{
    const uint8_t *packed = pc_reader_packed(r, 1, bounds, n_p);
    uint8_t *bytes = pc_reader_alloc(r, *n_p, 1);

    if (bytes == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < *n_p; i++) {
        if (packed[i] > value_max) {
            pc_reader_fail(r, PEERCACHE_PROTOCOL);
            return NULL;
        }
        bytes[i] = packed[i];
    }
    return bytes;
}

int8_t *pc_reader_statuses(struct pc_reader *r, uint32_t *n_p)
{
    struct pc_bounds bounds = {0, PC_KEYS_PER_REQUEST};
    const uint8_t *packed = pc_reader_packed(r, 1, bounds, n_p);
    int8_t *statuses = pc_reader_alloc(r, *n_p, 1);

    if (statuses == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < *n_p; i++) {
        statuses[i] = (int8_t)packed[i];
        if (!pc_wire_is_status(statuses[i])) {
            pc_reader_fail(r, PEERCACHE_PROTOCOL);
            return NULL;
        }
    }
    return statuses;
}

uint64_t *pc_reader_u64s(struct pc_reader *r, struct pc_bounds bounds)
{
    uint32_t n;
    const uint8_t *packed = pc_reader_packed(r, 8, bounds, &n);
    uint64_t *numbers = pc_reader_alloc(r, n, sizeof(*numbers));

    if (numbers == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        numbers[i] = pc_wire_get64(packed + 8 * (size_t)i);
    }
    return numbers;
}

struct pc_digest *pc_reader_digests(struct pc_reader *r,
                                    struct pc_bounds bounds, uint32_t *n_p)
{
    const uint8_t *packed = pc_reader_packed(r, 16, bounds, n_p);
    struct pc_digest *digests = pc_reader_alloc(r, *n_p, sizeof(*digests));

    if (digests == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < *n_p; i++) {
        digests[i].lo = pc_wire_get64(packed + 16 * (size_t)i);
        digests[i].hi = pc_wire_get64(packed + 16 * (size_t)i + 8);
    }
    return digests;
}

struct pc_record *pc_reader_records(struct pc_reader *r,
                                    struct pc_bounds bounds, uint32_t *n_p)
{
    const uint8_t *packed = pc_reader_packed(r, PC_RECORD_SIZE, bounds, n_p);
    struct pc_record *records = pc_reader_alloc(r, *n_p, sizeof(*records));

    if (records == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < *n_p; i++) {
        if (!pc_record_decode(packed + PC_RECORD_SIZE * (size_t)i,
                              &records[i])) {
            pc_reader_fail(r, PEERCACHE_PROTOCOL);
            return NULL;
        }
    }
    return records;
}
