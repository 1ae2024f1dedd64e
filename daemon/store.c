/* SPDX-License-Identifier: Apache-2.0 */
/* store: the SQLite file, its schema and its transactions. */
#include "daemon/store_internal.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/files.h"

/* Each entry brings a file of that version to the next; never edited, only added to. */
static const char *const migrations[] = {
    "CREATE TABLE jobs("
    " id INTEGER PRIMARY KEY, name TEXT NOT NULL, user TEXT NOT NULL, yaml TEXT NOT NULL, spec BLOB NOT NULL,"
    " workers INTEGER NOT NULL, slots INTEGER NOT NULL, submitted_ns INTEGER NOT NULL,"
    " state INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '', attempt INTEGER NOT NULL DEFAULT 0,"
    " restarts INTEGER NOT NULL DEFAULT 0, charged INTEGER NOT NULL DEFAULT 0, is_forced INTEGER NOT NULL DEFAULT 0,"
    " queued_ns INTEGER NOT NULL DEFAULT 0, retry_ns INTEGER NOT NULL DEFAULT 0,"
    " deadline_ns INTEGER NOT NULL DEFAULT 0, started_ns INTEGER NOT NULL DEFAULT 0,"
    " first_step_ns INTEGER NOT NULL DEFAULT 0, finished_ns INTEGER NOT NULL DEFAULT 0,"
    " step INTEGER NOT NULL DEFAULT 0, steps_total INTEGER NOT NULL DEFAULT 0,"
    " parameters_sha256 TEXT NOT NULL DEFAULT '', fingerprint TEXT NOT NULL DEFAULT '',"
    " text TEXT NOT NULL DEFAULT '');"
    "CREATE INDEX jobs_state ON jobs(state, id);"
    "CREATE TABLE attempts("
    " job_id INTEGER NOT NULL, number INTEGER NOT NULL, token TEXT NOT NULL, pid INTEGER NOT NULL DEFAULT 0,"
    " starttime INTEGER NOT NULL DEFAULT 0, boot_id TEXT NOT NULL DEFAULT '', started_ns INTEGER NOT NULL,"
    " ended_ns INTEGER NOT NULL DEFAULT 0, code INTEGER, signal INTEGER, reason TEXT NOT NULL DEFAULT '',"
    " outcome INTEGER NOT NULL DEFAULT -1, message TEXT NOT NULL DEFAULT '',"
    " is_permanent INTEGER NOT NULL DEFAULT 0, last_step INTEGER NOT NULL DEFAULT 0,"
    " parameters_sha256 TEXT NOT NULL DEFAULT '', PRIMARY KEY(job_id, number)) WITHOUT ROWID;"
    "CREATE TABLE events("
    " number INTEGER PRIMARY KEY, job_id INTEGER NOT NULL, unix_ns INTEGER NOT NULL, state INTEGER NOT NULL,"
    " reason TEXT NOT NULL, attempt INTEGER NOT NULL, step INTEGER NOT NULL);"
    "CREATE INDEX events_job ON events(job_id, number);"
    "CREATE TABLE metrics("
    " job_id INTEGER NOT NULL, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL, unix_ns INTEGER NOT NULL,"
    " sequence INTEGER NOT NULL, PRIMARY KEY(job_id, step, name)) WITHOUT ROWID;"
    "CREATE INDEX metrics_sequence ON metrics(job_id, sequence);"
    "CREATE TABLE last_metrics("
    " job_id INTEGER NOT NULL, name TEXT NOT NULL, step INTEGER NOT NULL, value REAL, unix_ns INTEGER NOT NULL,"
    " PRIMARY KEY(job_id, name)) WITHOUT ROWID;"
    "CREATE TABLE checkpoints("
    " job_id INTEGER NOT NULL, step INTEGER NOT NULL, path TEXT NOT NULL, parameters_sha256 TEXT NOT NULL,"
    " size_bytes INTEGER NOT NULL, unix_ns INTEGER NOT NULL, PRIMARY KEY(job_id, step)) WITHOUT ROWID;"
    "CREATE TABLE ranks("
    " job_id INTEGER NOT NULL, rank INTEGER NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,"
    " PRIMARY KEY(job_id, rank)) WITHOUT ROWID;",
};
/* A change of state writes 30 KB, and with it whatever is large in the job's row. */
enum { RESERVE_SIZE = 4 << 20, RESERVE_STEP = 64 << 10 };
enum { N_MIGRATIONS = sizeof(migrations) / sizeof(migrations[0]) };

static bool errno_is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

status_t store_fail(dmn_store_t *store, const char *what)
{
    int code = sqlite3_errcode(store->db);
    status_t status = ST_ERR_IO;
    switch (code & 0xff) {
    case SQLITE_FULL:
        status = ST_ERR_NOSPACE;
        break;
    case SQLITE_NOMEM:
        status = ST_ERR_NOMEM;
        break;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
        status = ST_ERR_PERMISSION;
        break;
    case SQLITE_IOERR:
        status =
            code == SQLITE_IOERR_SHMSIZE || errno_is_full(sqlite3_system_errno(store->db)) ? ST_ERR_NOSPACE : ST_ERR_IO;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        status = ST_ERR_CORRUPT;
        break;
    case SQLITE_CONSTRAINT:
        status = ST_ERR_EXISTS;
        break;
    default:
        break;
    }
    return ST_FAIL(status, "%s: %s: %s", store->path, what, sqlite3_errmsg(store->db));
}

static int arguments_bind(sqlite3_stmt *statement, const char *types, va_list args)
{
    int code = SQLITE_OK;
    for (int i = 1; *types != '\0' && code == SQLITE_OK; types++, i++) {
        if (*types == 'i') {
            code = sqlite3_bind_int64(statement, i, va_arg(args, int64_t));
        } else if (*types == 'd') {
            code = sqlite3_bind_double(statement, i, va_arg(args, double));
        } else if (*types == 't') {
            const char *text = va_arg(args, const char *);
            code = sqlite3_bind_text(statement, i, text == NULL ? "" : text, -1, SQLITE_STATIC);
        } else {
            const void *bytes = va_arg(args, const void *);
            size_t size = va_arg(args, size_t);
            code = sqlite3_bind_blob64(statement, i, size == 0 ? "" : bytes, size, SQLITE_STATIC);
        }
    }
    return code;
}

static status_t query_open(dmn_store_t *store, sqlite3_stmt **statement_p, const char *sql, const char *types,
                           va_list args)
{
    if (sqlite3_prepare_v2(store->db, sql, -1, statement_p, NULL) != SQLITE_OK ||
        arguments_bind(*statement_p, types, args) != SQLITE_OK) {
        status_t status = store_fail(store, sql);
        (void)sqlite3_finalize(*statement_p);
        *statement_p = NULL;
        return status;
    }
    return ST_OK;
}

status_t store_query(dmn_store_t *store, sqlite3_stmt **statement_p, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    status_t status = query_open(store, statement_p, sql, types, args);
    va_end(args);
    return status;
}

status_t store_step(dmn_store_t *store, sqlite3_stmt *statement, bool *has_row_p)
{
    int code = sqlite3_step(statement);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        return store_fail(store, sqlite3_sql(statement));
    }
    *has_row_p = code == SQLITE_ROW;
    return ST_OK;
}

status_t store_run(dmn_store_t *store, const char *sql, const char *types, ...)
{
    sqlite3_stmt *statement = NULL;
    va_list args;
    va_start(args, types);
    status_t status = query_open(store, &statement, sql, types, args);
    va_end(args);
    bool has_row = true;
    while (status == ST_OK && has_row) {
        status = store_step(store, statement, &has_row);
    }
    (void)sqlite3_finalize(statement);
    return status;
}

status_t store_begin(dmn_store_t *store)
{
    (void)pthread_mutex_lock(&store->lock);
    status_t status = dmn_reserve_fill(&store->reserve)
                          ? store_run(store, "BEGIN IMMEDIATE", "")
                          : ST_FAIL(ST_ERR_NOSPACE,
                                    "%s: the disk is full: what is left is kept for the states of the jobs that are "
                                    "there",
                                    store->path);
    if (status != ST_OK) {
        (void)pthread_mutex_unlock(&store->lock);
    }
    return status;
}

static status_t transaction_end(dmn_store_t *store, status_t status)
{
    if (status == ST_OK) {
        status = store_run(store, "COMMIT", "");
    }
    if (status != ST_OK && sqlite3_get_autocommit(store->db) == 0) {
        (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}

status_t store_end(dmn_store_t *store, status_t status)
{
    status = transaction_end(store, status);
    (void)pthread_mutex_unlock(&store->lock);
    return status;
}

status_t store_change(dmn_store_t *store, store_change_func_t change, const void *arg)
{
    status_t status = ST_OK;
    (void)pthread_mutex_lock(&store->lock);
    do {
        status = store_run(store, "BEGIN IMMEDIATE", "");
        if (status == ST_OK) {
            status = transaction_end(store, change(store, arg));
        }
    } while (status == ST_ERR_NOSPACE && dmn_reserve_give(&store->reserve, RESERVE_STEP));
    (void)pthread_mutex_unlock(&store->lock);
    return status;
}

char *store_text(sqlite3_stmt *statement, int column)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return mem_strdup(text == NULL ? "" : text);
}

status_t store_collect(dmn_store_t *store, sqlite3_stmt *statement, size_t item_size, store_row_func_t row,
                       void *items_p, int *n_p)
{
    char *items = NULL;
    int n = 0;
    int capacity = 0;
    bool has_row = true;
    status_t status = store_step(store, statement, &has_row);
    while (status == ST_OK && has_row) {
        if (n == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            char *grown = mem_realloc(items, (size_t)capacity * item_size);
            if (grown == NULL) {
                status = ST_FAIL(ST_ERR_NOMEM, "%d rows of %s", capacity, store->path);
                break;
            }
            items = grown;
        }
        char *item = items + (size_t)n * item_size;
        memset(item, 0, item_size);
        row(statement, item);
        n++;
        status = store_step(store, statement, &has_row);
    }
    (void)sqlite3_finalize(statement);
    /* Also after a failure: the caller's release function frees what the rows hold. */
    memcpy(items_p, &items, sizeof(items));
    *n_p = n;
    return status;
}

/* ---- opening ---- */

static status_t number_read(dmn_store_t *store, const char *sql, int64_t *number_p)
{
    sqlite3_stmt *statement = NULL;
    bool has_row = false;
    status_t status = store_query(store, &statement, sql, "");
    if (status == ST_OK) {
        status = store_step(store, statement, &has_row);
    }
    if (status == ST_OK) {
        *number_p = has_row ? sqlite3_column_int64(statement, 0) : 0;
    }
    (void)sqlite3_finalize(statement);
    return status;
}

static status_t schema_migrate(dmn_store_t *store)
{
    int64_t version = 0;
    status_t status = number_read(store, "PRAGMA user_version", &version);
    if (status == ST_OK && version > N_MIGRATIONS) {
        status = ST_FAIL(ST_ERR_UNSUPPORTED, "%s was made by a newer gradd: its schema is %lld, this gradd knows %d",
                         store->path, (long long)version, (int)N_MIGRATIONS);
    }
    for (; status == ST_OK && version < N_MIGRATIONS; version++) {
        char mark[64];
        (void)sqlite3_snprintf(sizeof(mark), mark, "PRAGMA user_version=%lld", (long long)version + 1);
        status = store_begin(store);
        if (status != ST_OK) {
            break;
        }
        if (sqlite3_exec(store->db, migrations[version], NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(store->db, mark, NULL, NULL, NULL) != SQLITE_OK) {
            status = store_fail(store, "bringing the schema up to date");
        }
        status = store_end(store, status);
    }
    return status;
}

/* The connection, with the file's schema as it should be. */
static status_t database_open(dmn_store_t *store)
{
    status_t status = ST_OK;
    if (sqlite3_open_v2(store->path, &store->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                        NULL) != SQLITE_OK) {
        status = store->db == NULL ? ST_FAIL(ST_ERR_NOMEM, "opening %s", store->path) : store_fail(store, "opening");
    }
    if (status == ST_OK) {
        (void)sqlite3_busy_timeout(store->db, 5000);
        status = store_run(store, "PRAGMA journal_mode=WAL", "");
    }
    if (status == ST_OK) {
        status = store_run(store, "PRAGMA synchronous=FULL", "");
    }
    if (status == ST_OK) {
        status = schema_migrate(store);
    }
    if (status == ST_OK) {
        status = number_read(store, "SELECT COALESCE(MAX(id), 0) + 1 FROM jobs", &store->next_id);
    }
    if (status == ST_OK) {
        status = number_read(store, "SELECT COALESCE(MAX(sequence), 0) FROM metrics", &store->points_sequence);
    }
    return status;
}

static status_t reserve_open(dmn_store_t *store)
{
    char *path = dmn_format("%s-reserve", store->path);
    status_t status = path == NULL ? ST_FAIL(ST_ERR_NOMEM, "opening %s", store->path)
                                   : dmn_reserve_open(path, RESERVE_SIZE, &store->reserve);
    mem_free(path);
    return status;
}

status_t dmn_store_open(const char *path, dmn_store_t **store_p)
{
    dmn_store_t *store = mem_zalloc(sizeof(*store));
    if (store == NULL || (store->path = mem_strdup(path)) == NULL) {
        mem_free(store);
        return ST_FAIL(ST_ERR_NOMEM, "opening %s", path);
    }
    (void)pthread_mutex_init(&store->lock, NULL);
    store->reserve = (dmn_reserve_t){.fd = -1};
    status_t status = reserve_open(store);
    if (status == ST_OK) {
        status = database_open(store);
        while (status == ST_ERR_NOSPACE && dmn_reserve_give(&store->reserve, RESERVE_STEP)) {
            (void)sqlite3_close_v2(store->db);
            store->db = NULL;
            status = database_open(store);
        }
    }
    if (status != ST_OK) {
        dmn_store_close(store);
        return status;
    }
    (void)dmn_reserve_fill(&store->reserve);
    *store_p = store;
    return ST_OK;
}

void dmn_store_close(dmn_store_t *store)
{
    if (store == NULL) {
        return;
    }
    (void)sqlite3_close_v2(store->db);
    dmn_reserve_release(&store->reserve);
    (void)pthread_mutex_destroy(&store->lock);
    mem_free(store->path);
    mem_free(store);
}
