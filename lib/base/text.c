#include "text.h"

#include "mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FIRST_CAPACITY = 128, LONGEST_WORD = 64 };

void pc_text_init(struct pc_text *text)
{
    *text = (struct pc_text){.data = NULL};
}

void pc_text_fini(struct pc_text *text)
{
    pc_free(text->data);
    pc_text_init(text);
}

void pc_text_clear(struct pc_text *text)
{
    text->len = 0;
    text->failed = false;
    if (text->data != NULL) {
        text->data[0] = '\0';
    }
}

/* Room for n more bytes and the NUL. */
static bool grow(struct pc_text *text, size_t n)
{
    if (text->failed) {
        return false;
    }
    if (n < text->capacity - text->len) {
        return true;
    }
    size_t capacity = text->capacity == 0 ? FIRST_CAPACITY : text->capacity;
    while (capacity - text->len <= n && capacity <= SIZE_MAX / 2) {
        capacity *= 2;
    }
    char *data = capacity - text->len > n
                     ? pc_realloc(text->data, capacity, sizeof(char))
                     : NULL;
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void pc_text_add_bytes(struct pc_text *text, const void *data, size_t len)
{
    if (!grow(text, len)) {
        return;
    }
    if (len > 0) {
        memcpy(text->data + text->len, data, len);
    }
    text->len += len;
    text->data[text->len] = '\0';
}

void pc_text_add(struct pc_text *text, const char *format, ...)
{
    va_list args;
    va_list again;
    va_start(args, format);
    va_copy(again, args);
    char line[256];
    int len = vsnprintf(line, sizeof(line), format, args);
    if (len < 0) {
        text->failed = true;
    } else if ((size_t)len < sizeof(line)) {
        pc_text_add_bytes(text, line, (size_t)len);
    } else if (grow(text, (size_t)len)) {
        vsnprintf(text->data + text->len, (size_t)len + 1, format, again);
        text->len += (size_t)len;
    }
    va_end(again);
    va_end(args);
}

/* Bytes of the UTF-8 character at the start of `p`; 0 if it is none: cut off,
 * longer than needed, a surrogate, or beyond U+10FFFF. */
static size_t utf8_length(const unsigned char *p, size_t len)
{
    if (p[0] < 0x80) {
        return 1;
    }
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > len) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90)) {
        return 0;
    }
    return n;
}

static void add_json_ascii(struct pc_text *text, char c)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char letter[] = "\"\\bfnrt";
    const char *special = c != '\0' ? strchr(plain, c) : NULL;
    if (special != NULL) {
        char escape[2] = {'\\', letter[special - plain]};
        pc_text_add_bytes(text, escape, sizeof(escape));
    } else if ((unsigned char)c < 0x20 || c == 0x7f) {
        pc_text_add(text, "\\u%04x", (unsigned)(unsigned char)c);
    } else {
        pc_text_add_bytes(text, &c, 1);
    }
}

void pc_text_add_json(struct pc_text *text, const char *value, size_t len)
{
    pc_text_add_bytes(text, "\"", 1);
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length((const unsigned char *)value + i, len - i);
        if (n == 0) {
            pc_text_add_bytes(text, "\\ufffd", 6);
            i++;
            continue;
        }
        if (n == 1) {
            add_json_ascii(text, value[i]);
        } else {
            pc_text_add_bytes(text, value + i, n);
        }
        i += n;
    }
    pc_text_add_bytes(text, "\"", 1);
}

char *pc_text_take(struct pc_text *text)
{
    char *data = text->data;
    if (text->failed) {
        pc_free(data);
        data = NULL;
    } else if (data == NULL) {
        data = pc_strndup("", 0);
    }
    pc_text_init(text);
    return data;
}

static const char *skip_blanks(const char *text)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    return text;
}

/* The text without surrounding blanks: its start and length. */
static const char *trim(const char *text, size_t *len_p)
{
    text = skip_blanks(text);
    size_t len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1])) {
        len--;
    }
    *len_p = len;
    return text;
}

static bool same_word(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

struct unit
{
    const char *name;
    uint64_t scale;
};

static bool find_unit(const struct unit *units, const char *text, size_t len,
                      uint64_t *scale_p)
{
    for (; units->name != NULL; units++) {
        if (same_word(text, len, units->name)) {
            *scale_p = units->scale;
            return true;
        }
    }
    return false;
}

static size_t count_digits(const char *text, size_t len)
{
    size_t n = 0;
    while (n < len && isdigit((unsigned char)text[n])) {
        n++;
    }
    return n;
}

/* A decimal number and a unit, in the unit's scale, exact and rounded down.
 * By hand: strtod rounds, takes hexadecimal and "inf", and its decimal point
 * depends on the locale that the user's program set. */
static bool parse_scaled(const char *text, const struct unit *units,
                         uint64_t *value_p)
{
    size_t len;
    text = trim(text, &len);
    size_t n_whole = count_digits(text, len);
    size_t unit_at = n_whole;
    size_t n_part = 0;
    const char *part = text + n_whole + 1;
    if (n_whole < len && text[n_whole] == '.') {
        n_part = count_digits(part, len - n_whole - 1);
        unit_at += 1 + n_part;
    }
    uint64_t scale;
    if (n_whole == 0 || (unit_at > n_whole && n_part == 0) ||
        !find_unit(units, text + unit_at, len - unit_at, &scale) ||
        (n_part > 0 && scale == 1)) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < n_whole; i++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value)) {
            return false;
        }
    }
    uint64_t rest = 0;
    for (size_t i = n_part; i > 0; i--) {
        rest = (rest + (uint64_t)(part[i - 1] - '0') * scale) / 10;
    }
    if (__builtin_mul_overflow(value, scale, &value) ||
        __builtin_add_overflow(value, rest, &value)) {
        return false;
    }
    *value_p = value;
    return true;
}

bool pc_parse_size(const char *text, uint64_t *bytes_p)
{
    static const struct unit units[] = {
        {"", 1},
        {"b", 1},
        {"k", 1ull << 10},
        {"kb", 1ull << 10},
        {"kib", 1ull << 10},
        {"m", 1ull << 20},
        {"mb", 1ull << 20},
        {"mib", 1ull << 20},
        {"g", 1ull << 30},
        {"gb", 1ull << 30},
        {"gib", 1ull << 30},
        {"t", 1ull << 40},
        {"tb", 1ull << 40},
        {"tib", 1ull << 40},
        {"p", 1ull << 50},
        {"pb", 1ull << 50},
        {"pib", 1ull << 50},
        {NULL, 0},
    };
    return parse_scaled(text, units, bytes_p);
}

bool pc_parse_seconds(const char *text, uint64_t *ns_p)
{
    static const struct unit units[] = {
        {"", 1000000000ull},
        {"s", 1000000000ull},
        {"ms", 1000000ull},
        {"us", 1000ull},
        {"ns", 1ull},
        {"m", 60000000000ull},
        {"min", 60000000000ull},
        {"h", 3600000000000ull},
        {NULL, 0},
    };
    return parse_scaled(text, units, ns_p);
}

bool pc_parse_bool(const char *text, bool *value_p)
{
    static const struct unit words[] = {
        {"true", 1}, {"yes", 1}, {"on", 1}, {"1", 1},  {"false", 0},
        {"no", 0},   {"off", 0}, {"0", 0},  {NULL, 0},
    };
    size_t len;
    uint64_t value;
    text = trim(text, &len);
    if (!find_unit(words, text, len, &value)) {
        return false;
    }
    *value_p = value != 0;
    return true;
}

bool pc_parse_int(const char *text, int64_t *value_p)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || errno != 0 || *skip_blanks(end) != '\0') {
        return false;
    }
    *value_p = value;
    return true;
}

static bool parse_port(const char *text, size_t len, uint16_t *port_p)
{
    unsigned port = 0;
    if (len == 0 || len > 5 || count_digits(text, len) != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        port = 10 * port + (unsigned)(text[i] - '0');
    }
    if (port > UINT16_MAX) {
        return false;
    }
    *port_p = (uint16_t)port;
    return true;
}

bool pc_parse_host_port(const char *text, char *host, size_t host_len,
                        uint16_t *port_p)
{
    size_t len;
    text = trim(text, &len);
    const char *end = text + len;
    const char *colon = memrchr(text, ':', len);
    if (colon == NULL) {
        return false;
    }
    const char *name_end = colon;
    if (text[0] == '[') {
        text++;
        name_end--;
        if (name_end <= text || *name_end != ']') {
            return false;
        }
    } else if (memchr(text, ':', (size_t)(colon - text)) != NULL) {
        return false; /* An IPv6 address without brackets is ambiguous. */
    }
    size_t name_len = (size_t)(name_end - text);
    uint16_t port;
    if (name_len == 0 || name_len >= host_len ||
        memchr(text, ']', name_len) != NULL ||
        !parse_port(colon + 1, (size_t)(end - colon - 1), &port)) {
        return false;
    }
    memcpy(host, text, name_len);
    host[name_len] = '\0';
    *port_p = port;
    return true;
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

size_t pc_text_distance(const char *a, const char *b)
{
    size_t a_len = strlen(a);
    size_t b_len = strlen(b);
    /* No setting has so long a name: nothing is like it. */
    if (a_len > LONGEST_WORD || b_len > LONGEST_WORD) {
        return strcmp(a, b) == 0 ? 0 : (a_len > b_len ? a_len : b_len);
    }
    size_t row[LONGEST_WORD + 1]; /* Distances of a's start to starts of b. */
    for (size_t j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t changed = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = min3(changed, row[j] + 1, row[j - 1] + 1);
        }
    }
    return row[b_len];
}
