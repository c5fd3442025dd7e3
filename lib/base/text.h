/*
 * text.h - growing text, and parsing of what people write in settings.
 *
 * A pc_text remembers that memory ran out; look once at the end. Not
 * thread-safe.
 */
#ifndef PC_BASE_TEXT_H
#define PC_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pc_text
{
    char *data; /* NUL-terminated; NULL while empty. */
    size_t len;
    size_t capacity;
    bool failed; /* Memory ran out; data is cut. */
};

void pc_text_init(struct pc_text *text);
void pc_text_fini(struct pc_text *text);
void pc_text_clear(struct pc_text *text);
void pc_text_add(struct pc_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void pc_text_add_bytes(struct pc_text *text, const void *data, size_t len);
/* A JSON string with its quotes; bytes that are no UTF-8 become \ufffd. */
void pc_text_add_json(struct pc_text *text, const char *value, size_t len);
/* The text, allocated by pc_alloc ("" for an empty one), the struct is reset;
 * NULL if memory ran out. */
char *pc_text_take(struct pc_text *text);

/* Each: whole text or false, surrounding blanks allowed, *_p only on success.
 * Sizes: "4096", "4kb", "4KiB", "1.5gb", "2T": powers of 1024, any case. */
bool pc_parse_size(const char *text, uint64_t *bytes_p);
/* Seconds: "2", "0.5", also "500ms", "50us", "3s", "2m". */
bool pc_parse_seconds(const char *text, uint64_t *ns_p);
/* true/yes/on/1, false/no/off/0, any case. */
bool pc_parse_bool(const char *text, bool *value_p);
bool pc_parse_int(const char *text, int64_t *value_p);
/* "host:port" or "[v6]:port"; host is cut into host_p. */
bool pc_parse_host_port(const char *text, char *host, size_t host_len,
                        uint16_t *port_p);
/* Steps between two words (Levenshtein), for "did you mean". */
size_t pc_text_distance(const char *a, const char *b);

#endif /* PC_BASE_TEXT_H */
