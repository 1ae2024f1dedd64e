/* SPDX-License-Identifier: Apache-2.0 */
/* ranks: runs a test's body on every rank: threads of a loopback group, or this process of an MPI job. */
#ifndef GRADD_TESTS_COLLECTIVES_RANKS_H
#define GRADD_TESTS_COLLECTIVES_RANKS_H

#include "collectives/group.h"
#include "tests/support/fixture.h"

/* What a rank does. No cmocka asserts in here (they jump): EXPECT. */
typedef void (*ranks_body_func_t)(coll_group_t *group, void *arg);

/* Opens a loopback group, runs body on n_ranks threads and fails the test if an EXPECT failed on any. */
void ranks_run(int n_ranks, ranks_body_func_t body, void *arg);
/* Runs body on an open group in this thread and fails the test likewise. */
void ranks_run_here(coll_group_t *group, ranks_body_func_t body, void *arg);

/* Counts a failure and prints where. */
#define EXPECT(condition_x) ranks_expect((condition_x), #condition_x, __FILE__, __LINE__)
#define EXPECT_OK(call_x) ranks_expect_ok((call_x), #call_x, __FILE__, __LINE__)
#define EXPECT_FAILS(call_x, code_x, text_x)                                                                           \
    ranks_expect_fails((call_x), (code_x), (text_x), #call_x, __FILE__, __LINE__)
void ranks_expect(bool is_met, const char *what, const char *file, int line);
void ranks_expect_ok(status_t status, const char *call, const char *file, int line);
void ranks_expect_fails(status_t status, status_t code, const char *text, const char *call, const char *file, int line);

#endif
