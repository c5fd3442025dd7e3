/*
 * settings.h - the one table of settings.
 *
 * Each row says what people see (name, type, range, default, help), where the
 * value goes in struct pc_settings, and how texts are checked. The range that
 * people read is the one that is applied: "1 to 255" or the list of words of a
 * choice. Constant; any thread.
 */
#ifndef PC_NODE_SETTINGS_H
#define PC_NODE_SETTINGS_H

#include <peercache/peercache.h>

#include "config.h"

#include <stdbool.h>
#include <stddef.h>

enum pc_setting_type {
    PC_SETTING_SIZE,
    PC_SETTING_SECONDS,
    PC_SETTING_BOOL,
    PC_SETTING_INT,
    PC_SETTING_TEXT,
    PC_SETTING_CHOICE
};

struct pc_setting
{
    peercache_setting_t public; /* What tools see. */
    enum pc_setting_type type;
    size_t offset; /* Of the field in struct pc_settings. */
    /* TEXT: whether the text is allowed; NULL: any text of that length. */
    bool (*is_allowed)(const char *text);
    bool may_be_auto; /* TEXT: "auto" is allowed and resolves to "". */
};

/* Row number index, or NULL after the last. */
const struct pc_setting *pc_setting_at(size_t index);
/* By name (any case, dash for underscore); -1: there is none. */
int pc_setting_find(const char *name);
/* The known name most like an unknown one, or NULL if none is near. */
const char *pc_setting_nearest(const char *name);

/* Parse and check one text into the setting's field of *settings; false leaves
 * *settings as it was. settings may be NULL: only check. */
bool pc_setting_parse(const struct pc_setting *setting, const char *text,
                      struct pc_settings *settings);

#endif /* PC_NODE_SETTINGS_H */
