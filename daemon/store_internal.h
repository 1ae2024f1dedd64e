/* SPDX-License-Identifier: Apache-2.0 */
/* store_internal: statements and transactions, shared by store*.c. */
#ifndef GRADD_DAEMON_STORE_INTERNAL_H
#define GRADD_DAEMON_STORE_INTERNAL_H

#include <pthread.h>

#include "daemon/reserve.h"
#include "daemon/store.h"

/* sqlite3.h stays in store*.c. */
typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;

struct dmn_store {
    sqlite3 *db;
    char *path;
    pthread_mutex_t lock; /* of everything below, and of the connection */
    dmn_reserve_t reserve;
    int64_t next_id;
    int64_t points_sequence;
};

/* Records SQLite's message under the fitting code. */
status_t store_fail(dmn_store_t *store, const char *what);
/* Prepares and binds; types has a letter an argument: i int64_t, d double, t const char * or NULL, b pointer and
 * size_t. */
status_t store_query(dmn_store_t *store, sqlite3_stmt **statement_p, const char *sql, const char *types, ...);
/* The same, runs it to its end and finalizes. */
status_t store_run(dmn_store_t *store, const char *sql, const char *types, ...);
/* One row: ST_OK with *has_row_p. */
status_t store_step(dmn_store_t *store, sqlite3_stmt *statement, bool *has_row_p);

/* Locks and begins; ends with commit when status is ST_OK, else with rollback, and unlocks. ST_ERR_NOSPACE also when
 * the disk has room for nothing but changes of state. */
status_t store_begin(dmn_store_t *store);
status_t store_end(dmn_store_t *store, status_t status);
/* A change of state as a transaction, made again with more of the reserve for as long as the disk is full. */
typedef status_t (*store_change_func_t)(dmn_store_t *store, const void *arg);
status_t store_change(dmn_store_t *store, store_change_func_t change, const void *arg);

/* Copy of a column, "" for NULL; NULL when memory is out. */
char *store_text(sqlite3_stmt *statement, int column);
/* Calls row for each row of a query into an array that grows; *items_p: mem_free. Finalizes the statement. */
typedef void (*store_row_func_t)(sqlite3_stmt *statement, void *item);
status_t store_collect(dmn_store_t *store, sqlite3_stmt *statement, size_t item_size, store_row_func_t row,
                       void *items_p, int *n_p);

#endif
