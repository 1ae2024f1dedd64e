/* SPDX-License-Identifier: Apache-2.0 */
/* The store: what it says is stored is stored, whatever is killed. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "daemon/store.h"
#include "tests/daemon/support.h"

static uint8_t spec[] = {1, 2, 3, 0, 5};
static char empty[] = "";

static dmn_job_t job_make(dmn_store_t *store)
{
    static char name[] = "name";
    static char yaml[] = "name: name\n";
    static char reason[] = "submitted";
    return (dmn_job_t){.id = dmn_store_id_reserve(store),
                       .name = name,
                       .user = empty,
                       .yaml = yaml,
                       .spec = spec,
                       .spec_size = sizeof(spec),
                       .workers = 2,
                       .slots = 4,
                       .submitted_ns = 123,
                       .queued_ns = 123,
                       .steps_total = 77,
                       .state = DMN_STATE_QUEUED,
                       .reason = reason};
}

static void a_job_reads_back_as_it_was_stored(void **state)
{
    (void)state;
    dmn_store_t *store = NULL;
    assert_ok(dmn_store_open(support_path("db"), &store));
    dmn_job_t job = job_make(store);
    assert_ok(dmn_store_job_add(store, &job));
    job.state = DMN_STATE_STARTING;
    job.attempt = 1;
    job.restarts = 2;
    job.charged = 1;
    job.is_forced = true;
    job.retry_ns = 5;
    job.deadline_ns = 6;
    job.started_ns = 7;
    job.first_step_ns = 8;
    assert_ok(dmn_store_job_save(store, &job, "text of the event"));
    dmn_store_close(store);
    assert_ok(dmn_store_open(support_path("db"), &store));

    dmn_job_t row = {0};
    assert_ok(dmn_store_job_get(store, job.id, DMN_JOB_ALL, &row));

    assert_string_equal(row.name, "name");
    assert_string_equal(row.yaml, "name: name\n");
    assert_int_equal(row.spec_size, sizeof(spec));
    assert_memory_equal(row.spec, spec, sizeof(spec));
    assert_int_equal(row.workers, 2);
    assert_int_equal(row.slots, 4);
    assert_int_equal(row.steps_total, 77);
    assert_int_equal(row.state, DMN_STATE_STARTING);
    assert_int_equal(row.attempt, 1);
    assert_int_equal(row.restarts, 2);
    assert_int_equal(row.charged, 1);
    assert_true(row.is_forced);
    assert_int_equal(row.retry_ns, 5);
    assert_int_equal(row.deadline_ns, 6);
    assert_int_equal(row.started_ns, 7);
    assert_int_equal(row.first_step_ns, 8);
    assert_true(dmn_store_id_reserve(store) > job.id);
    assert_fails(dmn_store_job_get(store, 99, DMN_JOB_ROW, &row), ST_ERR_NOT_FOUND, "no job 99");
    dmn_job_release(&row);
    dmn_store_close(store);
}

static void lists_go_down_by_pages_and_filter_by_state(void **state)
{
    (void)state;
    dmn_store_t *store = NULL;
    dmn_job_t *jobs = NULL;
    int n = 0;
    assert_ok(dmn_store_open(support_path("db"), &store));
    for (int i = 0; i < 5; i++) {
        dmn_job_t job = job_make(store);
        job.state = i == 2 ? DMN_STATE_FAILED : DMN_STATE_QUEUED;
        assert_ok(dmn_store_job_add(store, &job));
    }

    assert_ok(dmn_store_job_list(store, 0, 0, 2, &jobs, &n));
    assert_int_equal(n, 2);
    assert_int_equal(jobs[1].id, 4);
    dmn_jobs_release(jobs, n);
    assert_ok(dmn_store_job_list(store, 0, 4, 10, &jobs, &n));
    assert_int_equal(n, 3);
    assert_int_equal(jobs[0].id, 3);
    dmn_jobs_release(jobs, n);
    assert_ok(dmn_store_job_list(store, 1U << DMN_STATE_FAILED, 0, 10, &jobs, &n));
    assert_int_equal(n, 1);
    assert_int_equal(jobs[0].id, 3);
    dmn_jobs_release(jobs, n);
    dmn_store_close(store);
}

static void points_replace_and_come_in_order(void **state)
{
    (void)state;
    dmn_store_t *store = NULL;
    char loss[] = "loss";
    char accuracy[] = "accuracy";
    assert_ok(dmn_store_open(support_path("db"), &store));
    dmn_job_t job = job_make(store);
    assert_ok(dmn_store_job_add(store, &job));
    dmn_point_t first[] = {{.name = loss, .step = 1, .value = 3},
                           {.name = loss, .step = 2, .value = 2},
                           {.name = accuracy, .step = 2, .value = 0.5},
                           {.name = loss, .step = 3, .value = (double)NAN}};
    dmn_point_t again[] = {{.name = loss, .step = 2, .value = 2.5}};
    dmn_report_t report = {.job_id = job.id,
                           .has_progress = true,
                           .step = 3,
                           .steps_total = 9,
                           .points = first,
                           .n_points = 4,
                           .fingerprint = "f"};
    assert_ok(dmn_store_report(store, &report));
    int64_t sequence = dmn_store_points_sequence(store);
    report = (dmn_report_t){.job_id = job.id, .points = again, .n_points = 1};
    assert_ok(dmn_store_report(store, &report));
    assert_ok(dmn_store_report(store, &report));

    dmn_point_t *points = NULL;
    int n = 0;
    assert_ok(dmn_store_points_get(store, job.id, INT64_MIN, NULL, 3, &points, &n));
    assert_int_equal(n, 3);
    assert_int_equal(points[0].step, 1);
    assert_string_equal(points[1].name, "accuracy");
    assert_true(points[2].value == 2.5);
    dmn_points_release(points, n);
    assert_ok(dmn_store_points_get(store, job.id, 2, "loss", 3, &points, &n));
    assert_int_equal(n, 1);
    assert_true(isnan(points[0].value));
    dmn_points_release(points, n);
    assert_ok(dmn_store_points_after(store, job.id, 0, sequence, 10, &points, &n));
    assert_int_equal(n, 1);
    assert_int_equal(points[0].step, 2);
    dmn_points_release(points, n);
    assert_ok(dmn_store_last_points(store, job.id, &points, &n));
    assert_int_equal(n, 2);
    assert_int_equal(points[1].step, 3);
    dmn_points_release(points, n);
    dmn_job_t row = {0};
    assert_ok(dmn_store_job_get(store, job.id, DMN_JOB_ROW, &row));
    assert_int_equal(row.step, 3);
    assert_string_equal(row.fingerprint, "f");
    dmn_job_release(&row);
    dmn_store_close(store);
}

static void checkpoints_ranks_and_attempts_read_back(void **state)
{
    (void)state;
    dmn_store_t *store = NULL;
    char path[] = "/p";
    char host[] = "h";
    char message[] = "bad data";
    assert_ok(dmn_store_open(support_path("db"), &store));
    dmn_job_t job = job_make(store);
    assert_ok(dmn_store_job_add(store, &job));
    dmn_checkpoint_t two[] = {{.step = 5, .path = path, .parameters_sha256 = empty, .size_bytes = 10},
                              {.step = 10, .path = path, .parameters_sha256 = empty}};
    dmn_report_t report = {.job_id = job.id, .checkpoints = two, .n_checkpoints = 2};
    assert_ok(dmn_store_report(store, &report));
    report.checkpoints = two + 1;
    report.n_checkpoints = 1;
    assert_ok(dmn_store_report(store, &report));
    dmn_attempt_t attempt = {.number = 1, .token = "t", .started_ns = 4, .pid = 12, .starttime = 34, .boot_id = "b"};
    assert_ok(dmn_store_attempt_begin(store, job.id, &attempt));
    assert_ok(dmn_store_attempt_shim(store, job.id, &attempt));
    dmn_rank_t rank = {.rank = 1, .host = host, .pid = 99};
    assert_ok(dmn_store_rank_set(store, job.id, &rank));
    dmn_goodbye_t goodbye = {.outcome = DMN_OUTCOME_FAILED, .message = message, .is_permanent = true, .step = 3};
    assert_ok(dmn_store_attempt_goodbye(store, job.id, 1, &goodbye));

    dmn_checkpoint_t *checkpoints = NULL;
    dmn_rank_t *ranks = NULL;
    dmn_attempt_t read = {0};
    int n = 0;
    assert_ok(dmn_store_checkpoints_get(store, job.id, &checkpoints, &n));
    assert_int_equal(n, 1);
    assert_int_equal(checkpoints[0].step, 10);
    dmn_checkpoints_release(checkpoints, n);
    assert_ok(dmn_store_ranks_get(store, job.id, &ranks, &n));
    assert_int_equal(n, 1);
    assert_int_equal(ranks[0].pid, 99);
    dmn_ranks_release(ranks, n);
    assert_ok(dmn_store_attempt_get(store, job.id, 1, &read));
    assert_string_equal(read.token, "t");
    assert_int_equal(read.pid, 12);
    assert_int_equal(read.starttime, 34);
    assert_string_equal(read.goodbye.message, "bad data");
    assert_true(read.goodbye.is_permanent);
    assert_fails(dmn_store_attempt_get(store, job.id, 2, &read), ST_ERR_NOT_FOUND, "has no attempt 2");
    assert_ok(dmn_store_attempt_end(store, job.id, 1, 5, 0, "why"));
    assert_ok(dmn_store_ranks_get(store, job.id, &ranks, &n));
    assert_int_equal(n, 0);
    dmn_ranks_release(ranks, n);
    dmn_attempt_release(&read);
    dmn_store_close(store);
}

static void a_broken_or_newer_file_is_refused(void **state)
{
    (void)state;
    dmn_store_t *store = NULL;
    FILE *file = fopen(support_path("garbage"), "we");
    assert_non_null(file);
    for (int i = 0; i < 2000; i++) {
        assert_true(fputs("not a database ", file) >= 0);
    }
    assert_int_equal(fclose(file), 0);

    assert_fails(dmn_store_open(support_path("garbage"), &store), ST_ERR_CORRUPT, "not a database");
    assert_fails(dmn_store_open("/nowhere/db", &store), ST_ERR_NOT_FOUND, "/nowhere/db");

    assert_ok(dmn_store_open(support_path("db"), &store));
    dmn_store_close(store);
    /* user_version is the 32-bit big-endian number at byte 60 of the file */
    file = fopen(support_path("db"), "r+e");
    assert_non_null(file);
    assert_int_equal(fseek(file, 60, SEEK_SET), 0);
    assert_int_equal(fwrite("\0\0\0\x63", 1, 4, file), 4);
    assert_int_equal(fclose(file), 0);
    assert_fails(dmn_store_open(support_path("db"), &store), ST_ERR_UNSUPPORTED, "its schema is 99");
}

/* Commits jobs, events and points without end; tells each acknowledged number through the pipe. */
static void commit_without_end(const char *path, int pipe_fd)
{
    dmn_store_t *store = NULL;
    char loss[] = "loss";
    if (dmn_store_open(path, &store) != ST_OK) {
        _exit(1);
    }
    for (;;) {
        dmn_job_t job = job_make(store);
        dmn_point_t point = {.name = loss, .step = job.id, .value = (double)job.id};
        dmn_report_t report = {.job_id = job.id, .has_progress = true, .step = job.id, .points = &point, .n_points = 1};
        if (dmn_store_job_add(store, &job) != ST_OK || dmn_store_report(store, &report) != ST_OK) {
            _exit(1);
        }
        if (write(pipe_fd, &job.id, sizeof(job.id)) != (ssize_t)sizeof(job.id)) {
            _exit(1);
        }
    }
}

static void what_was_acknowledged_survives_kill_9(void **state)
{
    (void)state;
    enum { ROUNDS = 5, PER_ROUND = 40, MAX_IDS = 100000 };
    static bool is_acknowledged[MAX_IDS];
    char path[512];
    (void)snprintf(path, sizeof(path), "%s", support_path("db"));
    int64_t last = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            commit_without_end(path, ends[1]);
        }
        (void)close(ends[1]);
        int64_t id = 0;
        for (int i = 0; i < PER_ROUND + 7 * round; i++) {
            assert_int_equal(read(ends[0], &id, sizeof(id)), sizeof(id));
            assert_true(id > last && id < MAX_IDS);
            is_acknowledged[id] = true;
            last = id;
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read(ends[0], &id, sizeof(id)) == (ssize_t)sizeof(id)) {
            assert_true(id > last && id < MAX_IDS);
            is_acknowledged[id] = true;
            last = id;
        }
        (void)close(ends[0]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }

    dmn_store_t *store = NULL;
    assert_ok(dmn_store_open(path, &store));
    for (int64_t id = 1; id <= last; id++) {
        dmn_job_t row = {0};
        assert_ok(dmn_store_job_get(store, id, DMN_JOB_ALL, &row));
        /* one that was killed between its two commits was not acknowledged */
        assert_true(row.step == id || (row.step == 0 && !is_acknowledged[id]));
        dmn_job_release(&row);
    }
    dmn_event_t *events = NULL;
    int n = 0;
    assert_ok(dmn_store_events_get(store, 0, 0, 100000, &events, &n));
    assert_true(n >= last);
    for (int i = 0; i < n; i++) {
        assert_int_equal(events[i].number, i + 1);
    }
    dmn_events_release(events, n);
    dmn_store_close(store);
}

static status_t point_report(dmn_store_t *store, int64_t job_id, int64_t step)
{
    char loss[] = "loss";
    dmn_point_t point = {.name = loss, .step = step, .value = 1};
    return dmn_store_report(store, &(dmn_report_t){.job_id = job_id, .points = &point, .n_points = 1});
}

/* A cancel, a word and an end are kept with not a byte free, also across a restart; nothing else takes their room. */
static void changes_of_state_have_room_on_a_full_disk(void **state)
{
    (void)state;
    enum { DISK = 8 << 20, RESERVE = 4 << 20 };
    if (!support_mounts_apart()) {
        print_message("mounting a small disk isn't permitted\n");
        skip();
    }
    support_disk(support_path("disk"), DISK);
    dmn_store_t *store = NULL;
    assert_ok(dmn_store_open(support_path("disk/db"), &store));
    dmn_job_t job = job_make(store);
    assert_ok(dmn_store_job_add(store, &job));
    dmn_attempt_t attempt = {.number = 1, .token = "token", .started_ns = 1};
    assert_ok(dmn_store_attempt_begin(store, job.id, &attempt));
    support_disk_fill(support_path("disk/ballast"));
    int64_t step = 0;
    while (point_report(store, job.id, step) == ST_OK) { /* until the journal has no room left */
        step++;
    }

    dmn_goodbye_t goodbye = {.outcome = DMN_OUTCOME_CANCELLED, .step = 7};
    for (int i = 0; i < 20; i++) {
        job.state = DMN_STATE_CANCELLING;
        job.attempt = i;
        assert_ok(dmn_store_job_save(store, &job, "asked to leave"));
        support_disk_fill(support_path("disk/ballast")); /* others take what was given for it */
        assert_fails(point_report(store, job.id, step), ST_ERR_NOSPACE, "the disk is full");
        dmn_job_t next = job_make(store);
        assert_fails(dmn_store_job_add(store, &next), ST_ERR_NOSPACE, "kept for the states of the jobs");
    }
    dmn_store_close(store);
    support_disk_fill(support_path("disk/ballast"));
    assert_ok(dmn_store_open(support_path("disk/db"), &store));
    assert_ok(dmn_store_attempt_goodbye(store, job.id, 1, &goodbye));
    assert_ok(dmn_store_attempt_end(store, job.id, 1, 0, 0, "cancelled"));
    assert_fails(point_report(store, job.id, step), ST_ERR_NOSPACE, "the disk is full");

    dmn_job_t row = {0};
    assert_ok(dmn_store_job_get(store, job.id, DMN_JOB_ROW, &row));
    assert_int_equal(row.state, DMN_STATE_CANCELLING);
    assert_int_equal(row.attempt, 19);
    dmn_job_release(&row);
    struct stat info;
    assert_int_equal(stat(support_path("disk/db-reserve"), &info), 0);
    assert_true(info.st_size < RESERVE);
    assert_int_equal(unlink(support_path("disk/ballast")), 0);
    assert_ok(point_report(store, job.id, step));
    assert_int_equal(stat(support_path("disk/db-reserve"), &info), 0);
    assert_int_equal(info.st_size, RESERVE);
    assert_int_equal(info.st_blocks * 512, RESERVE);
    dmn_store_close(store);
    assert_int_equal(umount2(support_path("disk"), MNT_DETACH), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_job_reads_back_as_it_was_stored),         TEST(lists_go_down_by_pages_and_filter_by_state),
        TEST(points_replace_and_come_in_order),          TEST(checkpoints_ranks_and_attempts_read_back),
        TEST(a_broken_or_newer_file_is_refused),         TEST(what_was_acknowledged_survives_kill_9),
        TEST(changes_of_state_have_room_on_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
