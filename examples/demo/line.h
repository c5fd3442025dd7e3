/*
 * line.h - the JSON lines that workers tell the driver: flat objects of numbers
 * and of texts without quotes. Numbers are whole.
 */
#ifndef DEMO_LINE_H
#define DEMO_LINE_H

#include <stddef.h>
#include <stdint.h>

/* 0 if the line has no such number. */
uint64_t line_number(const char *line, const char *name);
/* Where the text begins, and its length; "" if there is none. */
const char *line_text(const char *line, const char *name, size_t *len_p);

#endif /* DEMO_LINE_H */
