/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place: the source line that anomaly mode names. Calls through gradd/chain.h say theirs by themselves; a file that
 * includes gradd/places.h (made by the build from the headers of the ops) does so for every op and for
 * gd_module_forward, at the cost of two stores a call.
 */
#ifndef GRADD_PLACE_H
#define GRADD_PLACE_H

#include "base/status.h"

#define GD_PLACE_TEXT(line_x) #line_x
#define GD_PLACE_LINE(line_x) GD_PLACE_TEXT(line_x)
/* "file.c:12", a constant. */
#define GD_PLACE __FILE__ ":" GD_PLACE_LINE(__LINE__)

/* Where this thread's next op is called; a constant, or NULL: unknown. */
void gd_place_set(const char *place);
/* Unknown again; returns status. */
status_t gd_place_leave(status_t status);

#endif
