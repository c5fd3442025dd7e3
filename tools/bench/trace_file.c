/*
 * trace_file.c - reads a trace, and gives its pages numbers in a row.
 */
#include "trace.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 64 << 20 };

struct reader
{
    struct trace *trace;
    size_t pages_room, ids_room, first_room;
    uint32_t *index; /* Hash table of page numbers + 1. */
    size_t index_room;
};

/* Room for one more of n; false: no memory, and the array is as it was. */
static bool make_room(void *array_p, size_t n, size_t *room, size_t size)
{
    if (n < *room) {
        return true;
    }
    void *array;
    memcpy(&array, array_p, sizeof(array));
    size_t wanted = *room == 0 ? 1024 : 2 * *room;
    void *more = realloc(array, wanted * size);
    if (more == NULL) {
        return false;
    }
    memcpy(array_p, &more, sizeof(more));
    *room = wanted;
    return true;
}

static size_t home_of(const struct reader *r, uint64_t id)
{
    return (size_t)(id * 0x9e3779b97f4a7c15u >> 20) & (r->index_room - 1);
}

static bool grow_index(struct reader *r)
{
    size_t room = r->index_room == 0 ? 4096 : 2 * r->index_room;
    uint32_t *index = calloc(room, sizeof(*index));
    if (index == NULL) {
        return false;
    }
    free(r->index);
    r->index = index;
    r->index_room = room;
    for (uint32_t i = 0; i < r->trace->n_pages; i++) {
        size_t at = home_of(r, r->trace->ids[i]);
        while (index[at] != 0) {
            at = (at + 1) & (room - 1);
        }
        index[at] = i + 1;
    }
    return true;
}

/* The number of a page; a new one for a new id. */
static bool number_of(struct reader *r, uint64_t id, uint32_t *number_p)
{
    struct trace *trace = r->trace;
    if (2 * ((size_t)trace->n_pages + 1) > r->index_room && !grow_index(r)) {
        return false;
    }
    size_t at = home_of(r, id);
    for (; r->index[at] != 0; at = (at + 1) & (r->index_room - 1)) {
        if (trace->ids[r->index[at] - 1] == id) {
            *number_p = r->index[at] - 1;
            return true;
        }
    }
    if (trace->n_pages == UINT32_MAX - 1 ||
        !make_room(&trace->ids, trace->n_pages, &r->ids_room,
                   sizeof(*trace->ids))) {
        return false;
    }
    trace->ids[trace->n_pages] = id;
    r->index[at] = trace->n_pages + 1;
    *number_p = trace->n_pages++;
    return true;
}

/* NULL, or what is wrong. */
static const char *add_request(struct reader *r, const json_t *ids)
{
    struct trace *trace = r->trace;
    size_t n = json_array_size(ids);
    if (!json_is_array(ids)) {
        return "no list \"hash_ids\"";
    }
    if (n > UINT32_MAX / 2) {
        return "too many pages";
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);
        uint32_t number;
        if (!json_is_integer(id)) {
            return "an id that is no whole number";
        }
        if (!number_of(r, (uint64_t)json_integer_value(id), &number) ||
            !make_room(&trace->pages, trace->n_asked, &r->pages_room,
                       sizeof(*trace->pages))) {
            return "out of memory";
        }
        trace->pages[trace->n_asked++] = number;
    }
    if (!make_room(&trace->first, trace->n_requests + 1, &r->first_room,
                   sizeof(*trace->first))) {
        return "out of memory";
    }
    trace->first[++trace->n_requests] = trace->n_asked;
    trace->longest = n > trace->longest ? (uint32_t)n : trace->longest;
    return NULL;
}

static const char *read_line(struct reader *r, const char *line, size_t len)
{
    if (strspn(line, " \t\r\n") == len) {
        return NULL;
    }
    if (len > LINE_MAX_BYTES) {
        return "the line is too long";
    }
    json_error_t error;
    json_t *root = json_loadb(line, len, 0, &error);
    if (root == NULL) {
        return "no JSON object";
    }
    const char *wrong = add_request(r, json_object_get(root, "hash_ids"));
    json_decref(root);
    return wrong;
}

static bool read_lines(struct reader *r, FILE *file, const char *path,
                       char *why)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    size_t number = 0;
    const char *wrong = NULL;
    if (!make_room(&r->trace->first, 0, &r->first_room,
                   sizeof(*r->trace->first))) {
        wrong = "out of memory";
    } else {
        r->trace->first[0] = 0;
    }
    while (wrong == NULL && (len = getline(&line, &room, file)) >= 0) {
        number++;
        wrong = read_line(r, line, (size_t)len);
    }
    free(line);
    if (wrong != NULL) {
        (void)snprintf(why, TRACE_WHY_MAX, "%.300s:%zu: %s", path, number,
                       wrong);
    } else if (ferror(file) != 0) {
        (void)snprintf(why, TRACE_WHY_MAX, "%.300s: %s", path, strerror(errno));
    } else if (r->trace->n_asked == 0) {
        (void)snprintf(why, TRACE_WHY_MAX, "%.300s: no request has a page",
                       path);
    } else {
        return true;
    }
    return false;
}

bool trace_read(struct trace *trace, const char *path, char *why)
{
    struct reader r = {.trace = trace};
    *trace = (struct trace){.pages = NULL};
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        (void)snprintf(why, TRACE_WHY_MAX, "%.300s: %s", path, strerror(errno));
        return false;
    }
    bool ok = read_lines(&r, file, path, why);
    (void)fclose(file);
    free(r.index);
    if (!ok) {
        trace_free(trace);
    }
    return ok;
}

void trace_free(struct trace *trace)
{
    free(trace->pages);
    free(trace->ids);
    free(trace->first);
    *trace = (struct trace){.pages = NULL};
}
