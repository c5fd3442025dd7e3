#include "metrics.h"

#include <string.h>

struct metric
{
    const char *kind;
    const char *name;
    const char *labels;
    const char *help;
};

#define COUNTER "counter"
#define GAUGE   "gauge"

static const struct metric table[] = {
#define ROW(id, kind, name, labels, help)                                      \
    {kind, "peercache_" name, labels, help},
    PC_METRIC_MAP(ROW)
#undef ROW
};

void pc_metrics_text(const struct pc_metrics *m, const char *labels,
                     struct pc_text *text)
{
    const char *family = "";
    for (size_t i = 0; i < PC_METRIC_N; i++) {
        const struct metric *metric = &table[i];
        bool own = *metric->labels != '\0';
        bool given = *labels != '\0';
        if (strcmp(metric->name, family) != 0) {
            family = metric->name;
            pc_text_add(text, "# HELP %s %s\n# TYPE %s %s\n", family,
                        metric->help, family, metric->kind);
        }
        pc_text_add(text, "%s%s%s%s%s%s %llu\n", metric->name,
                    own || given ? "{" : "", labels, own && given ? "," : "",
                    metric->labels, own || given ? "}" : "",
                    (unsigned long long)pc_metrics_get(m, (enum pc_metric)i));
    }
}

void pc_metrics_label(struct pc_text *text, const char *name, const char *value)
{
    pc_text_add(text, "%s=\"", name);
    for (; *value != '\0'; value++) {
        if (*value == '\n') {
            pc_text_add_bytes(text, "\\n", 2);
            continue;
        }
        if (*value == '\\' || *value == '"') {
            pc_text_add_bytes(text, "\\", 1);
        }
        pc_text_add_bytes(text, value, 1);
    }
    pc_text_add(text, "\"");
}
