/* SPDX-License-Identifier: Apache-2.0 */
/* probe: what this host offers, as JSON: {"host", "cores", "memory_bytes", "isa", "fingerprint", "devices": [{"kind":
 * "cpu", "index": 0, "memory_bytes"}]}. How the daemon learns of devices without linking the engine. */
#ifndef GRADD_WORKER_PROBE_H
#define GRADD_WORKER_PROBE_H

#include "base/status.h"
#include "base/strbuf.h"

status_t wrk_probe(strbuf_t *json);

#endif
