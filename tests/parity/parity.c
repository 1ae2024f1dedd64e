/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parity: gradd's side of the comparisons with PyTorch.
 *
 *   parity forward JOB.yaml IN.safetensors OUT.safetensors
 *
 * writes "logits", what the job's model gives for "x" with its model.weights.
 *
 *   parity train JOB.yaml FOLDER STEPS [KEY=VALUE...]
 *
 * trains the first STEPS steps in this process, on as many loopback ranks as the job has workers, and leaves in FOLDER:
 * init.safetensors (the initial parameters), batches.safetensors ("x.0", "y.0", "x.1" … of each step), losses (one a
 * line), points (every metric point: step, name, value), sha256 of the parameters afterwards, and the job's folder with
 * a checkpoint.
 *
 *   parity modules IN.safetensors OUT.safetensors THREADS f32|bf16
 *
 * runs cases of layers: see modules.h.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/context.h"
#include "gradd/safetensors.h"
#include "gradd/state.h"
#include "tests/parity/modules.h"
#include "tests/support/job_file.h"
#include "worker/data/dataset.h"
#include "worker/loss.h"
#include "worker/model.h"
#include "worker/session.h"

enum { MAX_SET = 32, MAX_RANKS = 16 };

static status_t job_load(const char *path, char **sets, int n_set, spec_job_t **job_p)
{
    spec_pair_t set[MAX_SET];
    if (n_set > MAX_SET) {
        return ST_FAIL(ST_ERR_INVAL, "KEY=VALUE at most %d times", (int)MAX_SET);
    }
    for (int i = 0; i < n_set; i++) {
        status_t status = job_file_pair(sets[i], &set[i]);
        if (status != ST_OK) {
            return status;
        }
    }
    return job_file_read(path, set, n_set, job_p);
}

/* ---- forward ---- */

static status_t logits_write(const char *path, const gd_tensor_t *logits)
{
    gd_safetensors_entry_t entry = {.name = "logits",
                                    .dtype = gd_tensor_dtype(logits),
                                    .n_dims = gd_tensor_n_dims(logits),
                                    .data = gd_tensor_data(logits)};
    memcpy(entry.shape, gd_tensor_shape(logits), (size_t)entry.n_dims * sizeof(int64_t));
    return gd_safetensors_write(path, &entry, 1, NULL, 0, NULL);
}

static status_t forward_run(const spec_job_t *job, const gd_safetensors_entry_t *input, const char *to)
{
    gd_module_t *model = NULL;
    gd_tensor_t *x = NULL;
    gd_tensor_t *logits = NULL;
    strbuf_t report = {0};
    status_t status = wrk_model_build(job, input->dtype, input->n_dims - 1, input->shape + 1, &model);
    if (status == ST_OK) {
        status = gd_module_set_paths(model);
    }
    if (status == ST_OK) {
        status = wrk_model_load_weights(job->model->weights, model, &report);
        (void)fputs(strbuf_text(&report), stderr);
        strbuf_release(&report);
    }
    if (status == ST_OK) {
        status = gd_tensor_from_data(input->dtype, input->n_dims, input->shape, input->data, &x);
    }
    if (status == ST_OK) {
        (void)gd_training_set(false);
        (void)gd_grad_set_enabled(false);
        status = gd_module_forward(model, x, &logits);
    }
    if (status == ST_OK) {
        status = logits_write(to, logits);
    }
    (void)gd_tensor_unref(logits);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(model);
    return status;
}

static status_t forward_command(const spec_job_t *job, const char *from, const char *to)
{
    gd_safetensors_t *file = NULL;
    gd_context_t *context = NULL;
    gd_context_t *before = NULL;
    const gd_context_options_t options = {.n_threads = job->resources->threads};
    if (job->model->weights == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "the job has no model.weights");
    }
    status_t status = gd_safetensors_open(from, &file);
    if (status == ST_OK) {
        status = gd_context_open(&options, &context);
    }
    if (status == ST_OK) {
        before = gd_context_set_current(context);
        const gd_safetensors_entry_t *x = gd_safetensors_find(file, "x");
        status =
            x != NULL && x->n_dims > 1 ? forward_run(job, x, to) : ST_FAIL(ST_ERR_INVAL, "%s has no batch \"x\"", from);
        (void)gd_context_set_current(before);
        gd_context_close(context);
    }
    gd_safetensors_close(file);
    return status;
}

/* ---- train ---- */

static void entry_set(gd_safetensors_entry_t *entry, char *name, int64_t n, const wrk_dataset_field_t *field,
                      const void *data)
{
    *entry = (gd_safetensors_entry_t){
        .name = name, .dtype = field->dtype, .n_dims = field->n_dims + 1, .shape = {n}, .data = data};
    memcpy(entry->shape + 1, field->shape, (size_t)field->n_dims * sizeof(int64_t));
}

/* Every step's batch, in the order of training. */
static status_t batches_write(const spec_job_t *job, wrk_dataset_t *data, int64_t n_steps, const char *path)
{
    const wrk_dataset_field_t *fields[2] = {wrk_dataset_input(data), wrk_dataset_target(data)};
    const int64_t batch = job->training->batch;
    wrk_order_t *order = NULL;
    int64_t *indices = mem_calloc((size_t)batch, sizeof(*indices));
    char(*names)[24] = mem_calloc((size_t)n_steps * 2, sizeof(*names));
    gd_safetensors_entry_t *entries = mem_calloc((size_t)n_steps * 2, sizeof(*entries));
    char *bytes[2] = {mem_alloc((size_t)(n_steps * batch * fields[0]->size_bytes)),
                      mem_alloc((size_t)(n_steps * batch * fields[1]->size_bytes))};
    status_t status = wrk_order_open(data, job->seed, batch, &order);
    for (int64_t s = 0; s < n_steps && status == ST_OK; s++) {
        void *at[2];
        for (int k = 0; k < 2; k++) {
            const int64_t e = 2 * s + k;
            at[k] = bytes[k] + s * batch * fields[k]->size_bytes;
            (void)snprintf(names[e], sizeof(names[e]), "%c.%lld", k == 0 ? 'x' : 'y', (long long)s);
            entry_set(&entries[e], names[e], batch, fields[k], at[k]);
        }
        status = wrk_order_get(order, s, 0, batch, indices);
        if (status == ST_OK) {
            status = wrk_dataset_read(data, indices, batch, at[0], at[1]);
        }
    }
    if (status == ST_OK) {
        status = gd_safetensors_write(path, entries, (int)n_steps * 2, NULL, 0, NULL);
    }
    if (order != NULL) {
        wrk_order_close(order);
    }
    mem_free(indices);
    mem_free(names);
    mem_free(entries);
    mem_free(bytes[0]);
    mem_free(bytes[1]);
    return status;
}

static status_t start_write(const spec_job_t *job, int64_t n_steps, const char *folder)
{
    char path[512];
    wrk_dataset_t *data = NULL;
    gd_module_t *model = NULL;
    int64_t ignored = 0;
    const bool has_ignored = wrk_loss_ignores(job->training, &ignored);
    const wrk_dataset_options_t options = {
        .context = (int32_t)wrk_model_context(job), .ignored = has_ignored ? &ignored : NULL, .name = "data.train"};
    status_t status = wrk_dataset_open(job->data->train, &options, &data);
    if (status == ST_OK) {
        (void)snprintf(path, sizeof(path), "%s/batches.safetensors", folder);
        status = batches_write(job, data, n_steps, path);
    }
    if (status == ST_OK) {
        const wrk_dataset_field_t *input = wrk_dataset_input(data);
        status = wrk_model_build(job, input->dtype, input->n_dims, input->shape, &model);
    }
    if (status == ST_OK) {
        status = gd_module_initialise(model, job->seed);
    }
    if (status == ST_OK) {
        (void)snprintf(path, sizeof(path), "%s/init.safetensors", folder);
        status = gd_module_save(model, path);
    }
    (void)gd_module_unref(model);
    wrk_dataset_close(data);
    return status;
}

typedef struct rank_run {
    const spec_job_t *job;
    coll_group_t *group;
    char folder[512];
    FILE *losses, *points; /* rank 0's; else NULL */
    const wrk_session_t *session;
    int64_t n_steps;
    status_t status;
    char message[1024];
    wrk_result_t result;
} rank_run_t;

/* After so many steps the session saves and leaves. */
static wrk_command_t command_take(void *arg)
{
    const rank_run_t *run = arg;
    return wrk_session_step(run->session) + 1 >= run->n_steps ? WRK_COMMAND_PAUSE : WRK_COMMAND_NONE;
}

static void points_write(void *arg, const wrk_point_t *points, int n)
{
    const rank_run_t *run = arg;
    for (int i = 0; i < n && run->losses != NULL; i++) {
        (void)fprintf(run->points, "%lld %s %.17g\n", (long long)points[i].step, points[i].name, points[i].value);
        if (strcmp(points[i].name, "loss") == 0) {
            (void)fprintf(run->losses, "%.17g\n", points[i].value);
        }
    }
}

static void *rank_main(void *arg)
{
    rank_run_t *run = arg;
    wrk_session_t *session = NULL;
    const wrk_session_options_t options = {
        .directory = run->folder,
        .attempt = 1,
        .events = {.arg = run, .points = points_write, .take_command = command_take}};
    run->status = wrk_session_open(run->job, run->group, &options, &session);
    if (run->status == ST_OK) {
        run->session = session;
        run->status = wrk_session_run(session, &run->result);
    }
    (void)snprintf(run->message, sizeof(run->message), "%s", status_message());
    wrk_session_close(session);
    coll_group_close(run->group);
    return NULL;
}

static status_t file_open(const char *folder, const char *name, FILE **file_p)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    *file_p = fopen(path, "w");
    return *file_p != NULL ? ST_OK : ST_FAIL(ST_ERR_IO, "%s can't be written", path);
}

static status_t ranks_run(const spec_job_t *job, const char *folder, int64_t n_steps, FILE *files[3])
{
    const int n_ranks = job->resources->workers;
    coll_group_t *groups[MAX_RANKS];
    rank_run_t ranks[MAX_RANKS] = {0};
    pthread_t threads[MAX_RANKS];
    if (n_ranks > MAX_RANKS) {
        return ST_FAIL(ST_ERR_INVAL, "%d ranks; at most %d", n_ranks, (int)MAX_RANKS);
    }
    status_t status = coll_loopback_open(n_ranks, groups);
    if (status != ST_OK) {
        return status;
    }
    for (int r = 0; r < n_ranks; r++) {
        ranks[r] = (rank_run_t){.job = job, .group = groups[r], .n_steps = n_steps};
        (void)snprintf(ranks[r].folder, sizeof(ranks[r].folder), "%s/job", folder);
    }
    ranks[0].losses = files[0];
    ranks[0].points = files[1];
    for (int r = 1; r < n_ranks; r++) {
        if (pthread_create(&threads[r], NULL, rank_main, &ranks[r]) != 0) {
            return ST_FAIL(ST_ERR_NOMEM, "no thread for rank %d", r);
        }
    }
    (void)rank_main(&ranks[0]);
    for (int r = 1; r < n_ranks; r++) {
        (void)pthread_join(threads[r], NULL);
    }
    (void)fprintf(files[2], "%s\n", ranks[0].result.parameters_sha256);
    return ranks[0].status == ST_OK ? ST_OK : ST_FAIL(ranks[0].status, "%s", ranks[0].message);
}

static status_t train_command(const spec_job_t *job, const char *folder, int64_t n_steps)
{
    static const char *const names[] = {"losses", "points", "sha256"};
    FILE *files[3] = {NULL};
    status_t status = start_write(job, n_steps, folder);
    for (int i = 0; i < 3 && status == ST_OK; i++) {
        status = file_open(folder, names[i], &files[i]);
    }
    if (status == ST_OK) {
        status = ranks_run(job, folder, n_steps, files);
    }
    for (int i = 0; i < 3; i++) {
        if (files[i] != NULL) {
            (void)fclose(files[i]);
        }
    }
    return status;
}

static status_t job_command(int argc, char **argv)
{
    const bool is_train = strcmp(argv[1], "train") == 0;
    spec_job_t *job = NULL;
    status_t status = job_load(argv[2], argv + 5, argc - 5, &job);
    if (status == ST_OK) {
        status = is_train ? train_command(job, argv[3], atoll(argv[4])) : forward_command(job, argv[3], argv[4]);
    }
    spec_job_free(job);
    return status;
}

static status_t modules_command(char **argv)
{
    return modules_run(argv[2], argv[3], atoi(argv[4]), strcmp(argv[5], "bf16") == 0 ? GD_DTYPE_BF16 : GD_DTYPE_F32);
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    const bool is_modules = argc == 6 && strcmp(command, "modules") == 0;
    if (!is_modules && !(argc == 5 && strcmp(command, "forward") == 0) &&
        !(argc >= 5 && strcmp(command, "train") == 0 && atoll(argv[4]) > 0)) {
        (void)fputs("usage: parity forward JOB.yaml IN.safetensors OUT.safetensors\n"
                    "       parity train JOB.yaml FOLDER STEPS [KEY=VALUE...]\n"
                    "       parity modules IN.safetensors OUT.safetensors THREADS f32|bf16\n",
                    stderr);
        return 2;
    }
    status_t status = is_modules ? modules_command(argv) : job_command(argc, argv);
    if (status != ST_OK) {
        (void)fprintf(stderr, "parity: %s: %s\n", status_text(status), status_message());
    }
    return status == ST_OK ? 0 : 1;
}
