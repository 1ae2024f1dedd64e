/* SPDX-License-Identifier: Apache-2.0 */
/* store: jobs, their events and their attempts. */
#include <inttypes.h>
#include <sqlite3.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "daemon/store_internal.h"

void dmn_job_release(dmn_job_t *job)
{
    mem_free(job->name);
    mem_free(job->user);
    mem_free(job->yaml);
    mem_free(job->spec);
    mem_free(job->reason);
    mem_free(job->parameters_sha256);
    mem_free(job->fingerprint);
    mem_free(job->text);
    memset(job, 0, sizeof(*job));
}

void dmn_jobs_release(dmn_job_t *jobs, int n)
{
    for (int i = 0; i < n; i++) {
        dmn_job_release(&jobs[i]);
    }
    mem_free(jobs);
}

void dmn_events_release(dmn_event_t *events, int n)
{
    for (int i = 0; i < n; i++) {
        mem_free(events[i].reason);
    }
    mem_free(events);
}

void dmn_goodbye_release(dmn_goodbye_t *goodbye)
{
    mem_free(goodbye->message);
    mem_free(goodbye->parameters_sha256);
    *goodbye = (dmn_goodbye_t){.outcome = DMN_OUTCOME_NONE};
}

void dmn_attempt_release(dmn_attempt_t *attempt)
{
    dmn_goodbye_release(&attempt->goodbye);
}

int64_t dmn_store_id_reserve(dmn_store_t *store)
{
    (void)pthread_mutex_lock(&store->lock);
    int64_t id = store->next_id++;
    (void)pthread_mutex_unlock(&store->lock);
    return id;
}

static status_t event_add(dmn_store_t *store, const dmn_job_t *job, const char *reason)
{
    return store_run(store,
                     "INSERT INTO events(number, job_id, unix_ns, state, reason, attempt, step)"
                     " SELECT (SELECT COALESCE(MAX(number), 0) + 1 FROM events), id, ?2, ?3, ?4, ?5, step FROM jobs"
                     " WHERE id = ?1",
                     "iiiti", job->id, clock_wall_ns(), (int64_t)job->state, reason, (int64_t)job->attempt);
}

status_t dmn_store_job_add(dmn_store_t *store, const dmn_job_t *job)
{
    status_t status = store_begin(store);
    if (status != ST_OK) {
        return status;
    }
    status = store_run(store,
                       "INSERT INTO jobs(id, name, user, yaml, spec, workers, slots, submitted_ns, state, reason,"
                       " queued_ns, steps_total) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       "itttbiiiitii", job->id, job->name, job->user, job->yaml, job->spec, job->spec_size,
                       (int64_t)job->workers, (int64_t)job->slots, job->submitted_ns, (int64_t)job->state, job->reason,
                       job->queued_ns, job->steps_total);
    if (status == ST_OK) {
        status = event_add(store, job, job->reason);
    }
    return store_end(store, status);
}

#define ROW_COLUMNS                                                                                                    \
    "id, name, user, workers, slots, submitted_ns, state, reason, attempt, restarts, charged, is_forced, queued_ns,"   \
    " retry_ns, deadline_ns, started_ns, first_step_ns, finished_ns, step, steps_total, parameters_sha256, "           \
    "fingerprint"
enum { N_ROW_COLUMNS = 22 };

static void job_row(sqlite3_stmt *statement, void *item)
{
    dmn_job_t *job = item;
    int64_t n[N_ROW_COLUMNS];
    for (int i = 0; i < N_ROW_COLUMNS; i++) {
        n[i] = sqlite3_column_int64(statement, i);
    }
    *job = (dmn_job_t){.id = n[0],
                       .name = store_text(statement, 1),
                       .user = store_text(statement, 2),
                       .workers = (int)n[3],
                       .slots = (int)n[4],
                       .submitted_ns = n[5],
                       .state = (dmn_state_t)n[6],
                       .reason = store_text(statement, 7),
                       .attempt = (int)n[8],
                       .restarts = (int)n[9],
                       .charged = (int)n[10],
                       .is_forced = n[11] != 0,
                       .queued_ns = n[12],
                       .retry_ns = n[13],
                       .deadline_ns = n[14],
                       .started_ns = n[15],
                       .first_step_ns = n[16],
                       .finished_ns = n[17],
                       .step = n[18],
                       .steps_total = n[19],
                       .parameters_sha256 = store_text(statement, 20),
                       .fingerprint = store_text(statement, 21)};
}

static status_t job_is_whole(const dmn_job_t *job, bool has_all)
{
    bool has_row = job->name != NULL && job->user != NULL && job->reason != NULL && job->parameters_sha256 != NULL &&
                   job->fingerprint != NULL;
    bool has_rest = !has_all || (job->yaml != NULL && job->text != NULL && job->spec != NULL);
    return has_row && has_rest ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "reading job %" PRId64, job->id);
}

static void job_all_row(sqlite3_stmt *statement, void *item)
{
    job_row(statement, item);
    dmn_job_t *job = item;
    job->yaml = store_text(statement, N_ROW_COLUMNS);
    job->text = store_text(statement, N_ROW_COLUMNS + 1);
    const void *bytes = sqlite3_column_blob(statement, N_ROW_COLUMNS + 2);
    job->spec_size = (size_t)sqlite3_column_bytes(statement, N_ROW_COLUMNS + 2);
    job->spec = mem_alloc(job->spec_size);
    if (job->spec != NULL && job->spec_size > 0) {
        memcpy(job->spec, bytes, job->spec_size);
    }
}

static status_t jobs_collect(dmn_store_t *store, sqlite3_stmt *statement, bool has_all, dmn_job_t **jobs_p, int *n_p)
{
    dmn_job_t *jobs = NULL;
    int n = 0;
    status_t status = store_collect(store, statement, sizeof(*jobs), has_all ? job_all_row : job_row, &jobs, &n);
    for (int i = 0; status == ST_OK && i < n; i++) {
        status = job_is_whole(&jobs[i], has_all);
    }
    if (status != ST_OK) {
        dmn_jobs_release(jobs, n);
        return status;
    }
    *jobs_p = jobs;
    *n_p = n;
    return ST_OK;
}

status_t dmn_store_job_get(dmn_store_t *store, int64_t id, dmn_job_part_t part, dmn_job_t *job_p)
{
    sqlite3_stmt *statement = NULL;
    dmn_job_t *jobs = NULL;
    int n = 0;
    (void)pthread_mutex_lock(&store->lock);
    status_t status =
        store_query(store, &statement,
                    part == DMN_JOB_ALL ? "SELECT " ROW_COLUMNS ", yaml, text, spec FROM jobs WHERE id = ?"
                                        : "SELECT " ROW_COLUMNS " FROM jobs WHERE id = ?",
                    "i", id);
    if (status == ST_OK) {
        status = jobs_collect(store, statement, part == DMN_JOB_ALL, &jobs, &n);
    }
    (void)pthread_mutex_unlock(&store->lock);
    if (status == ST_OK && n == 0) {
        status = ST_FAIL(ST_ERR_NOT_FOUND, "no job %" PRId64, id);
    }
    if (status == ST_OK) {
        *job_p = jobs[0];
    }
    mem_free(jobs);
    return status;
}

status_t dmn_store_job_list(dmn_store_t *store, unsigned states, int64_t before, int limit, dmn_job_t **jobs_p,
                            int *n_p)
{
    sqlite3_stmt *statement = NULL;
    (void)pthread_mutex_lock(&store->lock);
    status_t status = store_query(store, &statement,
                                  "SELECT " ROW_COLUMNS " FROM jobs WHERE id < ?1 AND (?2 = 0 OR ((1 << state) & ?2))"
                                  " ORDER BY id DESC LIMIT ?3",
                                  "iii", before <= 0 ? INT64_MAX : before, (int64_t)states, (int64_t)limit);
    if (status == ST_OK) {
        status = jobs_collect(store, statement, false, jobs_p, n_p);
    }
    (void)pthread_mutex_unlock(&store->lock);
    return status;
}

typedef struct save {
    const dmn_job_t *job;
    const char *reason;
} save_t;

static status_t save_do(dmn_store_t *store, const void *arg)
{
    const save_t *save = arg;
    const dmn_job_t *job = save->job;
    status_t status = store_run(store,
                                "UPDATE jobs SET state = ?2, reason = ?3, attempt = ?4, restarts = ?5, charged = ?6,"
                                " is_forced = ?7, queued_ns = ?8, retry_ns = ?9, deadline_ns = ?10, started_ns = ?11,"
                                " first_step_ns = ?12, finished_ns = ?13 WHERE id = ?1",
                                "iitiiiiiiiiii", job->id, (int64_t)job->state, job->reason, (int64_t)job->attempt,
                                (int64_t)job->restarts, (int64_t)job->charged, (int64_t)job->is_forced, job->queued_ns,
                                job->retry_ns, job->deadline_ns, job->started_ns, job->first_step_ns, job->finished_ns);
    if (status == ST_OK && sqlite3_changes(store->db) != 1) {
        status = ST_FAIL(ST_ERR_NOT_FOUND, "no job %" PRId64, job->id);
    }
    return status == ST_OK ? event_add(store, job, save->reason) : status;
}

status_t dmn_store_job_save(dmn_store_t *store, const dmn_job_t *job, const char *reason)
{
    return store_change(store, save_do, &(save_t){job, reason});
}

status_t dmn_store_job_note(dmn_store_t *store, const dmn_job_t *job, const char *text)
{
    status_t status = store_begin(store);
    return status == ST_OK ? store_end(store, event_add(store, job, text)) : status;
}

status_t dmn_store_job_respec(dmn_store_t *store, int64_t id, const uint8_t *spec, size_t spec_size, int workers,
                              int slots)
{
    status_t status = store_begin(store);
    if (status != ST_OK) {
        return status;
    }
    return store_end(store, store_run(store, "UPDATE jobs SET spec = ?2, workers = ?3, slots = ?4 WHERE id = ?1",
                                      "ibii", id, spec, spec_size, (int64_t)workers, (int64_t)slots));
}

/* ---- attempts ---- */

status_t dmn_store_attempt_begin(dmn_store_t *store, int64_t job_id, const dmn_attempt_t *attempt)
{
    status_t status = store_begin(store);
    if (status != ST_OK) {
        return status;
    }
    status = store_run(store, "INSERT OR REPLACE INTO attempts(job_id, number, token, started_ns) VALUES(?, ?, ?, ?)",
                       "iiti", job_id, (int64_t)attempt->number, attempt->token, attempt->started_ns);
    if (status == ST_OK) {
        status = store_run(store, "DELETE FROM ranks WHERE job_id = ?", "i", job_id);
    }
    return store_end(store, status);
}

status_t dmn_store_attempt_shim(dmn_store_t *store, int64_t job_id, const dmn_attempt_t *attempt)
{
    status_t status = store_begin(store);
    if (status != ST_OK) {
        return status;
    }
    status = store_run(
        store, "UPDATE attempts SET pid = ?3, starttime = ?4, boot_id = ?5 WHERE job_id = ?1 AND number = ?2", "iiiit",
        job_id, (int64_t)attempt->number, attempt->pid, (int64_t)attempt->starttime, attempt->boot_id);
    return store_end(store, status);
}

/* How an attempt ended: the workers' word, or its processes' code, signal and the reason. */
typedef struct word {
    int64_t job_id;
    int number;
    const dmn_goodbye_t *goodbye;
    int code, signal_number;
    const char *reason;
} word_t;

static status_t goodbye_do(dmn_store_t *store, const void *arg)
{
    const word_t *word = arg;
    const dmn_goodbye_t *goodbye = word->goodbye;
    status_t status =
        store_run(store,
                  "UPDATE attempts SET outcome = ?3, message = ?4, is_permanent = ?5, last_step = ?6,"
                  " parameters_sha256 = ?7 WHERE job_id = ?1 AND number = ?2",
                  "iiitiit", word->job_id, (int64_t)word->number, (int64_t)goodbye->outcome, goodbye->message,
                  (int64_t)goodbye->is_permanent, goodbye->step, goodbye->parameters_sha256);
    if (status == ST_OK && goodbye->parameters_sha256 != NULL && goodbye->parameters_sha256[0] != '\0') {
        status = store_run(store, "UPDATE jobs SET parameters_sha256 = ?2 WHERE id = ?1", "it", word->job_id,
                           goodbye->parameters_sha256);
    }
    return status;
}

status_t dmn_store_attempt_goodbye(dmn_store_t *store, int64_t job_id, int number, const dmn_goodbye_t *goodbye)
{
    return store_change(store, goodbye_do, &(word_t){.job_id = job_id, .number = number, .goodbye = goodbye});
}

static status_t end_do(dmn_store_t *store, const void *arg)
{
    const word_t *word = arg;
    status_t status = store_run(store,
                                "UPDATE attempts SET ended_ns = ?3, code = ?4, signal = ?5, reason = ?6"
                                " WHERE job_id = ?1 AND number = ?2",
                                "iiiiit", word->job_id, (int64_t)word->number, clock_wall_ns(), (int64_t)word->code,
                                (int64_t)word->signal_number, word->reason);
    return status == ST_OK ? store_run(store, "DELETE FROM ranks WHERE job_id = ?", "i", word->job_id) : status;
}

status_t dmn_store_attempt_end(dmn_store_t *store, int64_t job_id, int number, int code, int signal_number,
                               const char *reason)
{
    const word_t word = {
        .job_id = job_id, .number = number, .code = code, .signal_number = signal_number, .reason = reason};
    return store_change(store, end_do, &word);
}

static void attempt_row(sqlite3_stmt *statement, void *item)
{
    dmn_attempt_t *attempt = item;
    attempt->number = sqlite3_column_int(statement, 0);
    const char *token = (const char *)sqlite3_column_text(statement, 1);
    const char *boot_id = (const char *)sqlite3_column_text(statement, 4);
    (void)sqlite3_snprintf(sizeof(attempt->token), attempt->token, "%s", token == NULL ? "" : token);
    attempt->pid = sqlite3_column_int64(statement, 2);
    attempt->starttime = (uint64_t)sqlite3_column_int64(statement, 3);
    (void)sqlite3_snprintf(sizeof(attempt->boot_id), attempt->boot_id, "%s", boot_id == NULL ? "" : boot_id);
    attempt->started_ns = sqlite3_column_int64(statement, 5);
    attempt->ended_ns = sqlite3_column_int64(statement, 6);
    attempt->goodbye = (dmn_goodbye_t){.outcome = (dmn_outcome_t)sqlite3_column_int(statement, 7),
                                       .message = store_text(statement, 8),
                                       .is_permanent = sqlite3_column_int(statement, 9) != 0,
                                       .step = sqlite3_column_int64(statement, 10),
                                       .parameters_sha256 = store_text(statement, 11)};
}

status_t dmn_store_attempt_get(dmn_store_t *store, int64_t job_id, int number, dmn_attempt_t *attempt_p)
{
    sqlite3_stmt *statement = NULL;
    dmn_attempt_t *attempts = NULL;
    int n = 0;
    (void)pthread_mutex_lock(&store->lock);
    status_t status = store_query(store, &statement,
                                  "SELECT number, token, pid, starttime, boot_id, started_ns, ended_ns, outcome,"
                                  " message, is_permanent, last_step, parameters_sha256 FROM attempts"
                                  " WHERE job_id = ? AND number = ?",
                                  "ii", job_id, (int64_t)number);
    if (status == ST_OK) {
        status = store_collect(store, statement, sizeof(*attempts), attempt_row, &attempts, &n);
    }
    (void)pthread_mutex_unlock(&store->lock);
    if (status == ST_OK && n == 0) {
        status = ST_FAIL(ST_ERR_NOT_FOUND, "job %" PRId64 " has no attempt %d", job_id, number);
    }
    if (status == ST_OK) {
        *attempt_p = attempts[0];
    } else {
        for (int i = 0; i < n; i++) {
            dmn_attempt_release(&attempts[i]);
        }
    }
    mem_free(attempts);
    return status;
}

/* ---- events ---- */

static void event_row(sqlite3_stmt *statement, void *item)
{
    *(dmn_event_t *)item = (dmn_event_t){.number = sqlite3_column_int64(statement, 0),
                                         .job_id = sqlite3_column_int64(statement, 1),
                                         .unix_ns = sqlite3_column_int64(statement, 2),
                                         .state = (dmn_state_t)sqlite3_column_int(statement, 3),
                                         .reason = store_text(statement, 4),
                                         .attempt = sqlite3_column_int(statement, 5),
                                         .step = sqlite3_column_int64(statement, 6)};
}

status_t dmn_store_events_get(dmn_store_t *store, int64_t job_id, int64_t after, int limit, dmn_event_t **events_p,
                              int *n_p)
{
    sqlite3_stmt *statement = NULL;
    dmn_event_t *events = NULL;
    int n = 0;
    (void)pthread_mutex_lock(&store->lock);
    status_t status =
        store_query(store, &statement,
                    job_id == 0 ? "SELECT number, job_id, unix_ns, state, reason, attempt, step FROM events"
                                  " WHERE ?1 = 0 AND number > ?2 ORDER BY number LIMIT ?3"
                                : "SELECT number, job_id, unix_ns, state, reason, attempt, step FROM events"
                                  " WHERE job_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
                    "iii", job_id, after, (int64_t)limit);
    if (status == ST_OK) {
        status = store_collect(store, statement, sizeof(*events), event_row, &events, &n);
    }
    (void)pthread_mutex_unlock(&store->lock);
    for (int i = 0; status == ST_OK && i < n; i++) {
        status = events[i].reason == NULL ? ST_FAIL(ST_ERR_NOMEM, "reading events") : ST_OK;
    }
    if (status != ST_OK) {
        dmn_events_release(events, n);
        return status;
    }
    *events_p = events;
    *n_p = n;
    return ST_OK;
}
