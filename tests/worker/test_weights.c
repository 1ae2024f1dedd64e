/* SPDX-License-Identifier: Apache-2.0 */
/* model.weights: PyTorch's files by name, and jobs that begin with them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gradd/context.h"
#include "gradd/safetensors.h"
#include "gradd/state.h"
#include "tests/worker/session_runs.h"
#include "worker/model.h"

/* A model file with PyTorch's weights (tests/golden/make_weights.py) gives PyTorch's logits. */
static void compare_with_pytorch(const char *name, const char *file, const char *with, const char *options)
{
    const char *source = getenv("GRADD_SOURCE");
    source = source != NULL ? source : ".";
    char yaml[2048];
    char key[64];
    char path[256];
    (void)snprintf(path, sizeof(path), "weights_%s.safetensors", name);
    (void)snprintf(yaml, sizeof(yaml),
                   "model:\n  file: %s/configs/models/%s\n  with: {%s}\n  weights: {file: %s%s}\n"
                   "data: {train: {text: {path: %s/README.md, context: 8}}}\n"
                   "training: {steps: 1, batch: 2, optimizer: {sgd: {lr: 1}}}\n",
                   source, file, with, fixture_golden(path), options, source);
    spec_job_t *job = job_text_parse(yaml, NULL, NULL, NULL);
    gd_safetensors_t *golden = NULL;
    gd_module_t *root = NULL;
    gd_tensor_t *x = NULL;
    gd_tensor_t *logits = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("weights_io.safetensors"), &golden));
    (void)snprintf(key, sizeof(key), "%s.x", name);
    const gd_safetensors_entry_t *in = gd_safetensors_find(golden, key);
    (void)snprintf(key, sizeof(key), "%s.logits", name);
    const gd_safetensors_entry_t *wanted = gd_safetensors_find(golden, key);
    assert_non_null(in);
    assert_non_null(wanted);
    assert_ok(wrk_model_build(job, in->dtype, in->n_dims - 1, in->shape + 1, &root));
    assert_ok(gd_module_set_paths(root));
    assert_ok(gd_tensor_from_data(in->dtype, in->n_dims, in->shape, in->data, &x));

    assert_ok(wrk_model_load_weights(job->model->weights, root, NULL));
    bool training = gd_training_set(false);
    assert_ok(gd_module_forward(root, x, &logits));
    (void)gd_training_set(training);

    const float *ours = gd_tensor_data(logits);
    const float *theirs = wanted->data;
    for (int64_t i = 0; i < gd_tensor_numel(logits); i++) {
        if (!(fabs((double)ours[i] - (double)theirs[i]) <= 1e-5)) {
            fail_msg("%s: logit %lld is %.9g, PyTorch has %.9g", name, (long long)i, (double)ours[i],
                     (double)theirs[i]);
        }
    }
    (void)gd_tensor_unref(logits);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(root);
    gd_safetensors_close(golden);
    spec_job_free(job);
}

static void weights_of_hugging_face_s_gpt2_give_its_logits(void **state)
{
    (void)state;
    compare_with_pytorch("gpt2", "gpt2.yaml", "vocabulary: 29, context: 16, width: 16, heads: 2, layers: 2",
                         ", strip: \"transformer.\"");
}

static void weights_of_torchvision_s_resnet50_give_its_logits(void **state)
{
    (void)state;
    compare_with_pytorch("resnet50", "resnet50.yaml", "classes: 10, width: 2", "");
}

/* What a finished run left becomes the other's beginning. */
static const char *weights_make(const char *model)
{
    static char path[256];
    static run_t run;
    memset(&run, 0, sizeof(run));
    spec_job_t *job = run_job(model, 4, NULL);
    run_ok(job, 1, &run);
    spec_job_free(job);
    (void)snprintf(path, sizeof(path), "%s/weights.safetensors", fixture_folder());
    assert_int_equal(rename(run_path("checkpoints/step-00000012/model.safetensors"), path), 0);
    run_folder_clear();
    return path;
}

static void a_job_begins_with_its_weights_on_any_number_of_ranks(void **state)
{
    (void)state;
    static run_t run;
    char set[300];
    char hash[HASH_SHA256_HEX_SIZE] = "";
    const char *models[] = {MODEL_GPT, MODEL_CNN}; /* a tied head; running statistics */
    for (int i = 0; i < 2; i++) {
        (void)snprintf(set, sizeof(set), "model.weights=%s", weights_make(models[i]));
        spec_job_t *plain = run_job(models[i], 4, NULL);
        spec_job_t *job = run_job(models[i], 4, (const char *const[]){set, "training.average.decay=0.5", NULL});
        memset(&run, 0, sizeof(run));
        run_ok(plain, 1, &run);
        const double begun = run_point(&run, "loss", 1);
        run_folder_clear();
        for (int n = 1; n <= 4; n *= 2) {
            memset(&run, 0, sizeof(run));
            run_ok(job, n, &run);
            assert_true(run_point(&run, "loss", 1) < begun);
            if (n > 1) {
                assert_string_equal(run.result.parameters_sha256, hash);
            }
            memcpy(hash, run.result.parameters_sha256, sizeof(hash));
            run_folder_clear();
        }
        spec_job_free(plain);
        spec_job_free(job);
    }
}

static void a_resumed_job_needs_its_weights_no_more(void **state)
{
    (void)state;
    static run_t run;
    char set[300];
    char hash[HASH_SHA256_HEX_SIZE];
    const char *path = weights_make(MODEL_MLP);
    (void)snprintf(set, sizeof(set), "model.weights=%s", path);
    spec_job_t *job = run_job(MODEL_MLP, 4, (const char *const[]){set, NULL});
    memset(&run, 0, sizeof(run));
    run_ok(job, 2, &run);
    memcpy(hash, run.result.parameters_sha256, sizeof(hash));
    run_folder_clear();

    memset(&run, 0, sizeof(run));
    run.last_step = 7;
    run_ranks(job, 2, &run);
    assert_int_equal(unlink(path), 0);
    memset(&run, 0, sizeof(run));
    run.attempt = 2;
    run_ok(job, 1, &run);

    assert_string_equal(run.result.parameters_sha256, hash);
    spec_job_free(job);
}

static void weights_of_another_model_end_the_job_naming_what_differs(void **state)
{
    (void)state;
    static run_t run;
    char set[300];
    (void)snprintf(set, sizeof(set), "model.weights=%s", weights_make(MODEL_MLP));
    spec_job_t *job = run_job(MODEL_CNN, 4, (const char *const[]){set, NULL});
    memset(&run, 0, sizeof(run));
    run_ranks(job, 2, &run);
    assert_int_equal(run.status, ST_ERR_SHAPE);
    assert_int_equal(run.other_status, ST_ERR_SHAPE);
    assert_true(wrk_status_is_permanent(run.status));
    assert_non_null(strstr(run.message, "doesn't fit: \"1.weight\" is [16, 64] f32 in the file, [4] in the model"));
    assert_non_null(strstr(run.message, "model.weights: "));
    assert_non_null(strstr(run.message, "missing: \"0.weight\" [4, 1, 3, 3]"));
    assert_non_null(strstr(run.message, "unexpected: \"4.weight\" [5, 16] f32"));
    spec_job_free(job);

    job = run_job(MODEL_CNN, 4,
                  (const char *const[]){"model.weights.file=weights.safetensors", "model.weights.strict=false",
                                        "model.weights.add=old.", NULL});
    run_folder_clear();
    memset(&run, 0, sizeof(run));
    run_ok(job, 2, &run);
    assert_non_null(strstr(run.notes[0], "missing: \"0.weight\" [4, 1, 3, 3]"));
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(weights_of_hugging_face_s_gpt2_give_its_logits),
        TEST(weights_of_torchvision_s_resnet50_give_its_logits),
        TEST(a_job_begins_with_its_weights_on_any_number_of_ranks),
        TEST(a_resumed_job_needs_its_weights_no_more),
        TEST(weights_of_another_model_end_the_job_naming_what_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
