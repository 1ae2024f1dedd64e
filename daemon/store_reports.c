/* SPDX-License-Identifier: Apache-2.0 */
/* store: what workers report: metrics, progress, checkpoints, ranks. */
#include <math.h>
#include <sqlite3.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/store_internal.h"

void dmn_points_release(dmn_point_t *points, int n)
{
    for (int i = 0; i < n; i++) {
        mem_free(points[i].name);
    }
    mem_free(points);
}

void dmn_checkpoints_release(dmn_checkpoint_t *checkpoints, int n)
{
    for (int i = 0; i < n; i++) {
        mem_free(checkpoints[i].path);
        mem_free(checkpoints[i].parameters_sha256);
    }
    mem_free(checkpoints);
}

void dmn_ranks_release(dmn_rank_t *ranks, int n)
{
    for (int i = 0; i < n; i++) {
        mem_free(ranks[i].host);
    }
    mem_free(ranks);
}

/* SQLite keeps no NaN: it becomes NULL, and NULL is read as NaN. */
static status_t point_bind(dmn_store_t *store, sqlite3_stmt *statement, int64_t job_id, const dmn_point_t *point,
                           int64_t sequence)
{
    (void)sqlite3_reset(statement);
    bool has_row = false;
    if (sqlite3_bind_int64(statement, 1, job_id) != SQLITE_OK ||
        sqlite3_bind_int64(statement, 2, point->step) != SQLITE_OK ||
        sqlite3_bind_text(statement, 3, point->name, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_bind_double(statement, 4, point->value) != SQLITE_OK ||
        sqlite3_bind_int64(statement, 5, point->unix_ns) != SQLITE_OK ||
        (sequence > 0 && sqlite3_bind_int64(statement, 6, sequence) != SQLITE_OK)) {
        return store_fail(store, "storing a metric");
    }
    return store_step(store, statement, &has_row);
}

static status_t points_store(dmn_store_t *store, const dmn_report_t *report, int64_t *sequence)
{
    sqlite3_stmt *all = NULL;
    sqlite3_stmt *last = NULL;
    status_t status = store_query(store, &all,
                                  "INSERT OR REPLACE INTO metrics(job_id, step, name, value, unix_ns, sequence)"
                                  " VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
                                  "");
    if (status == ST_OK) {
        status = store_query(store, &last,
                             "INSERT INTO last_metrics(job_id, step, name, value, unix_ns) VALUES(?1, ?2, ?3, ?4, ?5)"
                             " ON CONFLICT(job_id, name) DO UPDATE SET step = excluded.step, value = excluded.value,"
                             " unix_ns = excluded.unix_ns WHERE excluded.step >= last_metrics.step",
                             "");
    }
    for (int i = 0; status == ST_OK && i < report->n_points; i++) {
        status = point_bind(store, all, report->job_id, &report->points[i], ++*sequence);
        if (status == ST_OK) {
            status = point_bind(store, last, report->job_id, &report->points[i], 0);
        }
    }
    (void)sqlite3_finalize(all);
    (void)sqlite3_finalize(last);
    return status;
}

static status_t checkpoints_store(dmn_store_t *store, const dmn_report_t *report)
{
    status_t status = store_run(store, "DELETE FROM checkpoints WHERE job_id = ?", "i", report->job_id);
    for (int i = 0; status == ST_OK && i < report->n_checkpoints; i++) {
        const dmn_checkpoint_t *checkpoint = &report->checkpoints[i];
        status = store_run(store,
                           "INSERT OR REPLACE INTO checkpoints(job_id, step, path, parameters_sha256, size_bytes,"
                           " unix_ns) VALUES(?, ?, ?, ?, ?, ?)",
                           "iittii", report->job_id, checkpoint->step, checkpoint->path, checkpoint->parameters_sha256,
                           checkpoint->size_bytes, checkpoint->unix_ns);
    }
    return status;
}

status_t dmn_store_report(dmn_store_t *store, const dmn_report_t *report)
{
    status_t status = store_begin(store);
    if (status != ST_OK) {
        return status;
    }
    int64_t sequence = store->points_sequence;
    if (report->n_points > 0) {
        status = points_store(store, report, &sequence);
    }
    if (status == ST_OK && report->n_checkpoints > 0) {
        status = checkpoints_store(store, report);
    }
    if (status == ST_OK && report->has_progress) {
        status = store_run(store, "UPDATE jobs SET step = ?2, steps_total = ?3 WHERE id = ?1", "iii", report->job_id,
                           report->step, report->steps_total);
    }
    if (status == ST_OK && report->fingerprint != NULL) {
        status = store_run(store, "UPDATE jobs SET fingerprint = ?2 WHERE id = ?1", "it", report->job_id,
                           report->fingerprint);
    }
    if (status == ST_OK && report->text != NULL) {
        status = store_run(store, "UPDATE jobs SET text = ?2 WHERE id = ?1", "it", report->job_id, report->text);
    }
    /* The number is used up even if the commit fails: it only has to grow. */
    store->points_sequence = sequence;
    return store_end(store, status);
}

int64_t dmn_store_points_sequence(dmn_store_t *store)
{
    (void)pthread_mutex_lock(&store->lock);
    int64_t sequence = store->points_sequence;
    (void)pthread_mutex_unlock(&store->lock);
    return sequence;
}

static void point_row(sqlite3_stmt *statement, void *item)
{
    *(dmn_point_t *)item = (dmn_point_t){
        .name = store_text(statement, 0),
        .step = sqlite3_column_int64(statement, 1),
        .value = sqlite3_column_type(statement, 2) == SQLITE_NULL ? (double)NAN : sqlite3_column_double(statement, 2),
        .unix_ns = sqlite3_column_int64(statement, 3),
        .sequence = sqlite3_column_int64(statement, 4)};
}

/* Takes the lock's statement over: unlocks at the end. */
static status_t points_finish(dmn_store_t *store, status_t status, sqlite3_stmt *statement, dmn_point_t **points_p,
                              int *n_p)
{
    dmn_point_t *points = NULL;
    int n = 0;
    if (status == ST_OK) {
        status = store_collect(store, statement, sizeof(*points), point_row, &points, &n);
    }
    (void)pthread_mutex_unlock(&store->lock);
    for (int i = 0; status == ST_OK && i < n; i++) {
        status = points[i].name == NULL ? ST_FAIL(ST_ERR_NOMEM, "reading metrics") : ST_OK;
    }
    if (status != ST_OK) {
        dmn_points_release(points, n);
        return status;
    }
    *points_p = points;
    *n_p = n;
    return ST_OK;
}

status_t dmn_store_points_get(dmn_store_t *store, int64_t job_id, int64_t from_step, const char *after_name, int limit,
                              dmn_point_t **points_p, int *n_p)
{
    sqlite3_stmt *statement = NULL;
    (void)pthread_mutex_lock(&store->lock);
    status_t status = store_query(store, &statement,
                                  "SELECT name, step, value, unix_ns, sequence FROM metrics WHERE job_id = ?1"
                                  " AND (step, name) > (?2, ?3) ORDER BY step, name LIMIT ?4",
                                  "iiti", job_id, from_step, after_name, (int64_t)limit);
    return points_finish(store, status, statement, points_p, n_p);
}

status_t dmn_store_points_after(dmn_store_t *store, int64_t job_id, int64_t from_step, int64_t sequence, int limit,
                                dmn_point_t **points_p, int *n_p)
{
    sqlite3_stmt *statement = NULL;
    (void)pthread_mutex_lock(&store->lock);
    status_t status = store_query(store, &statement,
                                  "SELECT name, step, value, unix_ns, sequence FROM metrics WHERE job_id = ?1"
                                  " AND sequence > ?2 AND step >= ?3 ORDER BY sequence LIMIT ?4",
                                  "iiii", job_id, sequence, from_step, (int64_t)limit);
    return points_finish(store, status, statement, points_p, n_p);
}

status_t dmn_store_last_points(dmn_store_t *store, int64_t job_id, dmn_point_t **points_p, int *n_p)
{
    sqlite3_stmt *statement = NULL;
    (void)pthread_mutex_lock(&store->lock);
    status_t status = store_query(
        store, &statement, "SELECT name, step, value, unix_ns, 0 FROM last_metrics WHERE job_id = ?1 ORDER BY name",
        "i", job_id);
    return points_finish(store, status, statement, points_p, n_p);
}

static void checkpoint_row(sqlite3_stmt *statement, void *item)
{
    *(dmn_checkpoint_t *)item = (dmn_checkpoint_t){.step = sqlite3_column_int64(statement, 0),
                                                   .path = store_text(statement, 1),
                                                   .parameters_sha256 = store_text(statement, 2),
                                                   .size_bytes = sqlite3_column_int64(statement, 3),
                                                   .unix_ns = sqlite3_column_int64(statement, 4)};
}

status_t dmn_store_checkpoints_get(dmn_store_t *store, int64_t job_id, dmn_checkpoint_t **checkpoints_p, int *n_p)
{
    sqlite3_stmt *statement = NULL;
    dmn_checkpoint_t *checkpoints = NULL;
    int n = 0;
    (void)pthread_mutex_lock(&store->lock);
    status_t status = store_query(store, &statement,
                                  "SELECT step, path, parameters_sha256, size_bytes, unix_ns FROM checkpoints"
                                  " WHERE job_id = ? ORDER BY step",
                                  "i", job_id);
    if (status == ST_OK) {
        status = store_collect(store, statement, sizeof(*checkpoints), checkpoint_row, &checkpoints, &n);
    }
    (void)pthread_mutex_unlock(&store->lock);
    for (int i = 0; status == ST_OK && i < n; i++) {
        bool is_whole = checkpoints[i].path != NULL && checkpoints[i].parameters_sha256 != NULL;
        status = is_whole ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "reading checkpoints");
    }
    if (status != ST_OK) {
        dmn_checkpoints_release(checkpoints, n);
        return status;
    }
    *checkpoints_p = checkpoints;
    *n_p = n;
    return ST_OK;
}

status_t dmn_store_rank_set(dmn_store_t *store, int64_t job_id, const dmn_rank_t *rank)
{
    status_t status = store_begin(store);
    if (status != ST_OK) {
        return status;
    }
    return store_end(store, store_run(store, "INSERT OR REPLACE INTO ranks(job_id, rank, host, pid) VALUES(?, ?, ?, ?)",
                                      "iiti", job_id, (int64_t)rank->rank, rank->host, rank->pid));
}

static void rank_row(sqlite3_stmt *statement, void *item)
{
    *(dmn_rank_t *)item = (dmn_rank_t){.rank = sqlite3_column_int(statement, 0),
                                       .host = store_text(statement, 1),
                                       .pid = sqlite3_column_int64(statement, 2)};
}

status_t dmn_store_ranks_get(dmn_store_t *store, int64_t job_id, dmn_rank_t **ranks_p, int *n_p)
{
    sqlite3_stmt *statement = NULL;
    dmn_rank_t *ranks = NULL;
    int n = 0;
    (void)pthread_mutex_lock(&store->lock);
    status_t status =
        store_query(store, &statement, "SELECT rank, host, pid FROM ranks WHERE job_id = ? ORDER BY rank", "i", job_id);
    if (status == ST_OK) {
        status = store_collect(store, statement, sizeof(*ranks), rank_row, &ranks, &n);
    }
    (void)pthread_mutex_unlock(&store->lock);
    for (int i = 0; status == ST_OK && i < n; i++) {
        status = ranks[i].host == NULL ? ST_FAIL(ST_ERR_NOMEM, "reading ranks") : ST_OK;
    }
    if (status != ST_OK) {
        dmn_ranks_release(ranks, n);
        return status;
    }
    *ranks_p = ranks;
    *n_p = n;
    return ST_OK;
}
