/* SPDX-License-Identifier: Apache-2.0 */
/* probe: host facts from the kernel and the engine. */
#include "worker/probe.h"

#include <jansson.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "gradd/context.h"

/* The widest vector instructions of this processor. */
static const char *isa_name(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        return "avx512";
    }
    if (__builtin_cpu_supports("avx2")) {
        return "avx2";
    }
    return "x86-64";
#elif defined(__aarch64__)
    return "aarch64";
#else
    return "generic";
#endif
}

status_t wrk_probe(strbuf_t *json)
{
    char host[256] = "localhost";
    (void)gethostname(host, sizeof(host) - 1);
    cpu_set_t cores;
    CPU_ZERO(&cores);
    int n_cores =
        sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    json_int_t memory = (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    strbuf_t fingerprint = {0};
    gd_numerics_fingerprint(&fingerprint);
    strbuf_appendf(&fingerprint, " gradd-%s", GRADD_VERSION);
    json_t *root = json_pack("{s:s, s:i, s:I, s:s, s:s, s:[{s:s, s:i, s:I}]}", "host", host, "cores", n_cores,
                             "memory_bytes", memory, "isa", isa_name(), "fingerprint", strbuf_text(&fingerprint),
                             "devices", "kind", "cpu", "index", 0, "memory_bytes", memory);
    strbuf_release(&fingerprint);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (text == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "probe");
    }
    strbuf_append(json, text);
    strbuf_append_char(json, '\n');
    free(text);
    return ST_OK;
}
