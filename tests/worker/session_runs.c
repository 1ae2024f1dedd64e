/* SPDX-License-Identifier: Apache-2.0 */
/* session_runs: synthetic data, jobs from YAML, ranks as threads. */
#include "tests/worker/session_runs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "worker/files.h"

enum { N_TRAIN = 96, N_VALIDATION = 30, SIDE = 8, N_CLASSES = 5, N_TEXT = 4000 };

const char MODEL_MLP[] = "[flatten, {linear: {out: 16}}, relu, {dropout: {p: 0.25}}, {linear: {out: 5}}]";
const char MODEL_CNN[] = "[{conv2d: {out: 4, kernel: [3], padding: [1], bias: false}}, batch_norm2d, relu, "
                         "{max_pool2d: {kernel: [2]}}, {dropout: {p: 0.1}}, flatten, {linear: {out: 5}}]";
const char MODEL_GPT[] =
    "[{embedding: {name: wte, count: 27, width: 16}}, {position_embedding: {count: 16}}, "
    "{repeat: {times: 2, layers: [{residual: [layer_norm, {attention: {heads: 2, causal: true, dropout: 0.1}}]}, "
    "{residual: [layer_norm, {linear: {out: 32}}, gelu, {linear: {out: 16}}]}]}}, layer_norm, "
    "{linear: {out: 27, bias: false, tied: wte}}]";
const char MODEL_LSTM[] = "[{embedding: {count: 27, width: 12}}, {lstm: {width: 20, depth: 2, dropout: 0.1}}, "
                          "{linear: {out: 27}}]";
const char MODEL_LLAMA[] = "[{embedding: {count: 27, width: 16}}, {repeat: {times: 2, layers: ["
                           "{residual: [rms_norm, {attention: {heads: 4, kv_heads: 2, names: [q, k, v, o], rope: {}, "
                           "causal: true, bias: false, "
                           "weight_dropout: 0.1}}]}, {residual: [rms_norm, {gated_mlp: {hidden: 24}}]}]}}, rms_norm, "
                           "{linear: {out: 27, bias: false}}]";

/* A small generator of the test's own: the data needn't be the engine's. */
static uint32_t noise(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 16;
}

static void big_endian_put(unsigned char *out, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        out[i] = (unsigned char)(value >> (24 - 8 * i));
    }
}

/* Images whose label is where the bright row is; some noise. */
static void idx_write(const char *name, int n, uint32_t seed)
{
    char path[256];
    size_t pixels = (size_t)n * SIDE * SIDE;
    unsigned char *images = mem_zalloc(16 + pixels);
    unsigned char *labels = mem_zalloc(8 + (size_t)n);
    assert_non_null(images);
    assert_non_null(labels);
    big_endian_put(images, 0x803);
    big_endian_put(images + 4, (uint32_t)n);
    big_endian_put(images + 8, SIDE);
    big_endian_put(images + 12, SIDE);
    big_endian_put(labels, 0x801);
    big_endian_put(labels + 4, (uint32_t)n);
    for (int i = 0; i < n; i++) {
        uint32_t label = noise(&seed) % N_CLASSES;
        labels[8 + i] = (unsigned char)label;
        for (uint32_t p = 0; p < SIDE * SIDE; p++) {
            images[16 + i * SIDE * SIDE + (int)p] = (unsigned char)(noise(&seed) % 64 + (p / SIDE == label ? 150 : 0));
        }
    }
    (void)snprintf(path, sizeof(path), "%s/%s-images", fixture_folder(), name);
    assert_ok(wrk_file_write(path, images, 16 + pixels));
    (void)snprintf(path, sizeof(path), "%s/%s-labels", fixture_folder(), name);
    assert_ok(wrk_file_write(path, labels, 8 + (size_t)n));
    mem_free(images);
    mem_free(labels);
}

static void text_write(void)
{
    char path[256];
    char text[N_TEXT];
    uint32_t seed = 5;
    for (int i = 0; i < N_TEXT; i++) {
        /* every letter, and a rhythm to learn */
        text[i] = i < 27 ? " abcdefghijklmnopqrstuvwxyz"[i] : i % 5 == 4 ? ' ' : (char)('a' + noise(&seed) % 26);
    }
    (void)snprintf(path, sizeof(path), "%s/text", fixture_folder());
    assert_ok(wrk_file_write(path, text, sizeof(text)));
}

spec_job_t *run_job(const char *model, int microbatches, const char *const *set)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/text", fixture_folder());
    if (access(path, F_OK) != 0) {
        text_write();
        idx_write("train", N_TRAIN, 1);
        idx_write("validation", N_VALIDATION, 2);
    }
    strbuf_t yaml = {0};
    strbuf_appendf(&yaml, "name: test\nseed: 7\nmodel: {layers: %s}\n", model);
    if (strstr(model, "{embedding:") != NULL) {
        strbuf_append(&yaml, "data:\n  train: {text: {path: text, tokens: characters, part: [0, 0.9], context: 16}}\n"
                             "  validation: {text: {path: text, tokens: characters, part: [0.9, 1], context: 16}}\n");
    } else {
        strbuf_append(&yaml, "data:\n  train: {idx: {images: train-images, labels: train-labels}}\n"
                             "  validation: {idx: {images: validation-images, labels: validation-labels}}\n");
    }
    strbuf_appendf(&yaml,
                   "training: {steps: 12, batch: 12, microbatches: %d, clip_norm: 1, optimizer: {adamw: {lr: 0.01}}, "
                   "schedule: {cosine: {warmup: 3, final_lr: 0.001}}}\n"
                   "evaluation: {every: 5}\ncheckpoint: {every: 5, keep: 2}\n",
                   microbatches);
    spec_job_t *job = job_text_parse(strbuf_text(&yaml), NULL, fixture_folder(), set);
    strbuf_release(&yaml);
    return job;
}

const char *run_path(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof(path), "%s/job/%s", fixture_folder(), name);
    return path;
}

void run_folder_clear(void)
{
    assert_ok(wrk_tree_remove(run_path("")));
}

/* ---- ranks ---- */

typedef struct rank_run {
    const spec_job_t *job;
    coll_group_t *group;
    run_t *run;
    status_t status;
    char message[1024];
    wrk_result_t result;
    wrk_session_t *session;
    bool is_command_given;
} rank_run_t;

static void progress_keep(void *arg, int64_t step, int64_t steps_total, const char *phase)
{
    rank_run_t *rank = arg;
    run_t *run = rank->run;
    if (coll_group_rank(rank->group) != 0) {
        return;
    }
    run->steps_total = steps_total;
    if (strcmp(phase, "training") == 0 && step < RUN_MAX_STEPS && run->heap_count != NULL) {
        run->heap_at[step] = run->heap_count();
    }
}

static void points_keep(void *arg, const wrk_point_t *points, int n)
{
    run_t *run = ((rank_run_t *)arg)->run;
    for (int i = 0; i < n && run->n_points < RUN_MAX_POINTS; i++) {
        run->points[run->n_points++] = points[i];
    }
}

static void checkpoints_keep(void *arg, const wrk_checkpoint_t *list, int n, const char *directory)
{
    run_t *run = ((rank_run_t *)arg)->run;
    (void)directory;
    run->n_checkpoints = n;
    memcpy(run->checkpoints, list, (size_t)n * sizeof(*list));
}

static void fingerprint_keep(void *arg, const char *fingerprint)
{
    run_t *run = ((rank_run_t *)arg)->run;
    (void)snprintf(run->fingerprint, sizeof(run->fingerprint), "%s", fingerprint);
}

static void note_keep(void *arg, const char *text)
{
    run_t *run = ((rank_run_t *)arg)->run;
    if (run->n_notes < RUN_MAX_NOTES) {
        (void)snprintf(run->notes[run->n_notes++], sizeof(run->notes[0]), "%s", text);
    }
}

static void text_keep(void *arg, const char *text)
{
    run_t *run = ((rank_run_t *)arg)->run;
    (void)snprintf(run->text, sizeof(run->text), "%s", text);
}

static wrk_command_t command_take(void *arg)
{
    rank_run_t *rank = arg;
    run_t *run = rank->run;
    if (rank->is_command_given || run->command == WRK_COMMAND_NONE ||
        wrk_session_step(rank->session) + 1 < run->command_step) {
        return WRK_COMMAND_NONE;
    }
    rank->is_command_given = true;
    return run->command;
}

static void *rank_main(void *arg)
{
    rank_run_t *rank = arg;
    char directory[256];
    (void)snprintf(directory, sizeof(directory), "%s/job", fixture_folder());
    wrk_session_options_t options = {
        .directory = rank->run->directory != NULL ? rank->run->directory : directory,
        .attempt = rank->run->attempt > 0 ? rank->run->attempt : 1,
        .last_step = rank->run->last_step,
        .events = {.arg = rank,
                   .progress = progress_keep,
                   .points = points_keep,
                   .checkpoints = checkpoints_keep,
                   .fingerprint = fingerprint_keep,
                   .note = note_keep,
                   .text = text_keep,
                   .take_command = command_take},
    };
    rank->status = wrk_session_open(rank->job, rank->group, &options, &rank->session);
    if (rank->status == ST_OK) {
        rank->status = wrk_session_run(rank->session, &rank->result);
    }
    (void)snprintf(rank->message, sizeof(rank->message), "%s", status_message());
    wrk_session_close(rank->session);
    coll_group_close(rank->group);
    return NULL;
}

void run_ranks(const spec_job_t *job, int n_ranks, run_t *run)
{
    coll_group_t *groups[RUN_MAX_RANKS];
    rank_run_t ranks[RUN_MAX_RANKS];
    pthread_t threads[RUN_MAX_RANKS];
    assert_true(n_ranks <= RUN_MAX_RANKS);
    assert_ok(coll_loopback_open(n_ranks, groups));
    (void)fixture_folder();
    memset(ranks, 0, sizeof(ranks));
    for (int r = 0; r < n_ranks; r++) {
        ranks[r] = (rank_run_t){.job = job, .group = groups[r], .run = run};
        assert_int_equal(pthread_create(&threads[r], NULL, rank_main, &ranks[r]), 0);
    }
    for (int r = 0; r < n_ranks; r++) {
        (void)pthread_join(threads[r], NULL);
    }
    run->status = ranks[0].status;
    run->result = ranks[0].result;
    memcpy(run->message, ranks[0].message, sizeof(run->message));
    run->other_status = ranks[n_ranks - 1].status;
    run->other_result = ranks[n_ranks - 1].result;
}

void run_ok(const spec_job_t *job, int n_ranks, run_t *run)
{
    run_ranks(job, n_ranks, run);
    if (run->status != ST_OK) {
        fail_msg("run on %d ranks: %s: %s", n_ranks, status_name(run->status), run->message);
    }
    assert_int_equal(run->other_status, ST_OK);
    assert_string_equal(run->other_result.parameters_sha256, run->result.parameters_sha256);
}

double run_point(const run_t *run, const char *name, int64_t step)
{
    for (int i = run->n_points - 1; i >= 0; i--) {
        if (run->points[i].step == step && strcmp(run->points[i].name, name) == 0) {
            return run->points[i].value;
        }
    }
    fail_msg("no point %s at step %lld", name, (long long)step);
    return 0;
}

void run_layouts(const spec_job_t *job, const int *n_ranks, run_t *run)
{
    static run_t other;
    memset(run, 0, sizeof(*run));
    run_ok(job, n_ranks[0], run);
    run_folder_clear();
    const int64_t last = run->result.step;
    for (int i = 1; n_ranks[i] > 0; i++) {
        memset(&other, 0, sizeof(other));
        run_ok(job, n_ranks[i], &other);
        run_folder_clear();
        assert_string_equal(other.result.parameters_sha256, run->result.parameters_sha256);
        assert_true(run_point(&other, "validation_loss", last) == run_point(run, "validation_loss", last));
    }
}
