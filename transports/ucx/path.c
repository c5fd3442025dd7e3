/*
 * path.c - what an endpoint really runs on. UCX chooses by itself, and its own
 * query exists in newer versions only, so its description for people is read.
 */
#include "ucx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "   lane[0]:  2:rc_verbs/mlx5_0:1.0 md[1]  -> md[1]/... rma_bw#0 am wireup":
 * the transport and device without UCX's path number. */
static bool parse_lane(const char *line, char *carrier, size_t carrier_len)
{
    const char *lane = strstr(line, "lane[");
    const char *at = lane != NULL ? strstr(lane, "]:") : NULL;
    if (at == NULL) {
        return false;
    }
    at += 2;
    at += strspn(at, " ");
    at += strspn(at, "0123456789");
    if (*at == ':') {
        at++;
    }
    size_t len = strcspn(at, " \n");
    const char *dot = memrchr(at, '.', len);
    if (dot != NULL) {
        len = (size_t)(dot - at);
    }
    if (len == 0 || len >= carrier_len) {
        return false;
    }
    memcpy(carrier, at, len);
    carrier[len] = '\0';
    return true;
}

/* Transports that read remote memory in hardware. */
static bool reads_alone(const char *carrier)
{
    return strncmp(carrier, "rc_", 3) == 0 || strncmp(carrier, "dc_", 3) == 0;
}

/* The lane that gets use: one for bulk reads where there is one, else (gets
 * are emulated) the one for messages. */
static void choose_lane(char *text, char *carrier, size_t carrier_len,
                        bool *native_p)
{
    char *rest;
    bool found = false;
    *native_p = false;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char name[48];
        if (!parse_lane(line, name, sizeof(name))) {
            continue;
        }
        bool native = reads_alone(name) && strstr(line, " rma") != NULL;
        if (!found || (native && !*native_p)) {
            snprintf(carrier, carrier_len, "%s", name);
            *native_p = native;
            found = true;
        }
    }
}

void pc_ucx_path_add(ucp_ep_h ep, struct pc_fabric_path *path)
{
    char *text = NULL;
    size_t len = 0;
    char carrier[48] = "ucx";
    path->native = false;
    FILE *stream = open_memstream(&text, &len);
    if (stream != NULL) {
        ucp_ep_print_info(ep, stream);
        if (fclose(stream) == 0 && text != NULL) {
            choose_lane(text, carrier, sizeof(carrier), &path->native);
        }
    }
    free(text);
    size_t used = strlen(path->carrier);
    snprintf(path->carrier + used, sizeof(path->carrier) - used, "%s%s",
             used > 0 ? " " : "", carrier);
}
