/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A training step after the first allocates nothing: every call of malloc and its kin is counted, of any size, those of
 * libraries (C++'s operator new among them) and of other threads (readers, OpenMP's) too, as this program's own
 * definitions come before the C library's. See Note [oneDNN's blocks] in engine/cpu/cpp_new.h.
 */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/worker/heap_jobs.h"
#include "tests/worker/loss_arrays.h"
#include "tests/worker/session_runs.h"
#include "worker/files.h"

/* 1 × 1 convolutions of many channels: products of oneDNN's and AMX's */
static const char MODEL_BOTTLENECK[] =
    "[{conv2d: {out: 32, kernel: [3], padding: [1]}}, relu, {conv2d: {out: 128, kernel: [1], bias: false}}, "
    "batch_norm2d, relu, {conv2d: {out: 64, kernel: [1], stride: [2]}}, flatten, {linear: {out: 5}}]";

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define HEAP_IS_COUNTED 0
static int64_t heap_count(void)
{
    return 0;
}
#else
#define HEAP_IS_COUNTED 1

/* The C library's own, by their other names. */
extern void *libc_malloc(size_t size_bytes) __asm__("__libc_malloc");
extern void *libc_calloc(size_t n, size_t size_bytes) __asm__("__libc_calloc");
extern void *libc_realloc(void *pointer, size_t size_bytes) __asm__("__libc_realloc");
extern void *libc_memalign(size_t alignment, size_t size_bytes) __asm__("__libc_memalign");

static atomic_int_fast64_t n_calls;

static int64_t heap_count(void)
{
    return (int64_t)atomic_load(&n_calls);
}

static void *call_counted(void *pointer)
{
    atomic_fetch_add_explicit(&n_calls, 1, memory_order_relaxed);
    return pointer;
}

void *malloc(size_t size_bytes)
{
    return call_counted(libc_malloc(size_bytes));
}

void *calloc(size_t n, size_t size_bytes)
{
    return call_counted(libc_calloc(n, size_bytes));
}

void *realloc(void *pointer, size_t size_bytes)
{
    return call_counted(libc_realloc(pointer, size_bytes));
}

void *memalign(size_t alignment, size_t size_bytes)
{
    return call_counted(libc_memalign(alignment, size_bytes));
}

void *aligned_alloc(size_t alignment, size_t size_bytes)
{
    return memalign(alignment, size_bytes);
}

int posix_memalign(void **pointer_p, size_t alignment, size_t size_bytes)
{
    void *pointer = memalign(alignment, size_bytes);
    if (pointer == NULL) {
        return ENOMEM;
    }
    *pointer_p = pointer;
    return 0;
}
#endif

/* Runs the job, of 2 lists of pairs "path=value"; fails when a step after the first called the heap, and says which. */
static void assert_no_call_after_the_first(const char *model, int microbatches, const char *const *set,
                                           const char *const *more)
{
    static run_t run;
    const char *all[2 + 2 * HEAP_JOB_MAX_SET + 1] = {"evaluation.every=100", "checkpoint.every=100"};
    int n = 2;
    for (int i = 0; set != NULL && i < HEAP_JOB_MAX_SET && set[i] != NULL; i++) {
        all[n++] = set[i];
    }
    for (int i = 0; more != NULL && i < HEAP_JOB_MAX_SET && more[i] != NULL; i++) {
        all[n++] = more[i];
    }
    spec_job_t *job = run_job(model, microbatches, all);
    memset(&run, 0, sizeof(run));
    run.heap_count = heap_count;
    run_ok(job, 1, &run);
    for (int step = 2; step < 12; step++) {
        if (run.heap_at[step] != run.heap_at[1]) {
            fail_msg("%lld calls of the heap in step %d of %s, %s, %s",
                     (long long)(run.heap_at[step] - run.heap_at[step - 1]), step, model, n > 2 ? all[2] : "",
                     n > 3 ? all[3] : "");
        }
    }
    spec_job_free(job);
    run_folder_clear();
}

static void assert_none_allocates(const heap_job_t *jobs, const char *const *more)
{
    for (int i = 0; jobs[i].model != NULL; i++) {
        assert_no_call_after_the_first(jobs[i].model, 2, jobs[i].set, more);
    }
}

static const char *const in_bf16[] = {"training.precision=bf16", NULL};
static const char *const on_two_threads[] = {"resources.threads=2", NULL};
static const char *const on_four_threads[] = {"resources.threads=4", NULL};

static void calls_of_the_heap_are_counted(void **state)
{
    (void)state;
    if (!HEAP_IS_COUNTED) {
        FIXTURE_SKIP("a sanitizer has its own heap");
    }
    const int64_t before = heap_count();

    char *text = strdup("the C library's own calls too");

    assert_true(heap_count() > before);
    free(text);
}

static void a_step_of_any_model_allocates_nothing(void **state)
{
    (void)state;
    static const char *const models[] = {MODEL_MLP, MODEL_CNN, MODEL_BOTTLENECK, MODEL_GPT, MODEL_LLAMA, MODEL_LSTM};
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        assert_no_call_after_the_first(models[i], 1, NULL, NULL);
        assert_no_call_after_the_first(models[i], 4, NULL, NULL);
        assert_no_call_after_the_first(models[i], 2, in_bf16, NULL);
        assert_no_call_after_the_first(models[i], 2, on_two_threads, NULL);
    }
    assert_no_call_after_the_first(MODEL_CNN, 2, on_four_threads, NULL);
    assert_no_call_after_the_first(MODEL_CNN, 2, on_four_threads, in_bf16);
}

static void a_step_of_convolutions_allocates_nothing(void **state)
{
    (void)state;
    assert_none_allocates(heap_convolutions, NULL);
    assert_none_allocates(heap_convolutions, in_bf16);
    assert_none_allocates(heap_convolutions, on_two_threads);
}

static void a_step_of_image_layers_allocates_nothing(void **state)
{
    (void)state;
    assert_none_allocates(heap_image_layers, NULL);
    assert_none_allocates(heap_image_layers, in_bf16);
}

/* Token 0, a frequent character, is padding: masks, lengths, packed steps and a decoder's memory. */
static void a_step_with_padding_and_a_decoder_allocates_nothing(void **state)
{
    (void)state;
    static const char *const padded[] = {"model.padding=0", "training.loss={cross_entropy: {ignore_index: 0}}", NULL};
    assert_no_call_after_the_first("[{embedding: {count: 27, width: 16}}, {transformer_encoder_layer: {heads: 2, "
                                   "feedforward: 16}}, {lstm: {width: 8, bidirectional: true, packed: true}}, "
                                   "{linear: {out: 27}}]",
                                   2, padded, NULL);
    assert_no_call_after_the_first("[{encoder_decoder: {source: 4, encoder: [{embedding: {count: 27, width: 16}}], "
                                   "decoder: [{embedding: {count: 27, "
                                   "width: 16}}, {transformer_decoder_layer: {heads: 2, feedforward: 16}}, {mean: "
                                   "{axes: [1], skip_padding: true}}, "
                                   "{linear: {out: 432}}, {reshape: {shape: [16, 27]}}]}}]",
                                   2, padded, NULL);
}

static void a_step_of_sequence_layers_allocates_nothing(void **state)
{
    (void)state;
    assert_none_allocates(heap_sequence_layers, NULL);
    assert_none_allocates(heap_sequence_layers, in_bf16);
}

static void a_step_of_any_loss_allocates_nothing(void **state)
{
    (void)state;
    enum { N = 96, WIDTH = 20, N_LABELS = 5 };
    static float x[N * WIDTH], y[N], labels[N * N_LABELS];
    uint32_t seed = 3;
    for (int i = 0; i < N * WIDTH; i++) {
        x[i] = noise(&seed);
    }
    for (int i = 0; i < N; i++) {
        y[i] = i % 3 == 0 ? 1.0F : -1.0F;
        for (int k = 0; k < N_LABELS; k++) {
            labels[i * N_LABELS + k] = (float)(1 + (i + k) % 4);
        }
    }
    array_write("x.npy", GD_DTYPE_F32, 2, (const int64_t[2]){N, WIDTH}, x);
    array_write("y.npy", GD_DTYPE_F32, 2, (const int64_t[2]){N, 1}, y);
    array_write("values.npy", GD_DTYPE_F32, 2, (const int64_t[2]){N, N_LABELS}, x);
    array_write("labels.npy", GD_DTYPE_I64, 2, (const int64_t[2]){N, N_LABELS}, labels);

    assert_none_allocates(heap_losses, NULL);
}

static void a_step_of_any_optimizer_and_precision_allocates_nothing(void **state)
{
    (void)state;
    assert_none_allocates(heap_settings, NULL);
}

/* A file of the source's tests/, as folder/name in the test's folder; a sound gets another rate (0: its own). */
static void file_copy(const char *source, const char *folder, const char *name, uint32_t rate)
{
    enum { WAV_RATE = 24 };
    uint8_t bytes[1 << 14];
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/tests/%s", getenv("GRADD_SOURCE"), source);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size = fread(bytes, 1, sizeof(bytes), file);
    assert_int_equal(fclose(file), 0);
    if (rate > 0) {
        memcpy(bytes + WAV_RATE, &rate, sizeof(rate));
    }
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), folder);
    assert_ok(wrk_folder_make(path));
    (void)snprintf(path, sizeof(path), "%s/%s/%s", fixture_folder(), folder, name);
    assert_ok(wrk_file_write(path, bytes, size));
}

static void samples_are_read_without_allocating(void **state)
{
    (void)state;
    static const char *const images[] = {"golden/images/photo.png", "golden/images/photo.jpg",
                                         "golden/images/progressive.jpg", "golden/images/grey.jpg"};
    static const struct {
        const char *source;
        uint32_t rate;
    } sounds[] = {{"fuzz/corpus/wav/mono", 0},
                  {"fuzz/corpus/wav/flac", 0},
                  {"fuzz/corpus/wav/stereo", 16000},
                  {"fuzz/corpus/wav/alaw", 0},
                  {"fuzz/corpus/wav/mono", 11025}};
    char name[32];
    for (int i = 0; i < 12; i++) {
        char folder[32];
        (void)snprintf(folder, sizeof(folder), "pictures/%d", i % 2);
        (void)snprintf(name, sizeof(name), "%d.image.png", i);
        file_copy(images[i % 4], folder, name, 0);
    }
    for (int i = 0; i < 30; i++) {
        (void)snprintf(name, sizeof(name), "%d_%d.%s", i % 5, i, i % 5 == 1 ? "flac" : "wav");
        file_copy(sounds[i % 5].source, "sounds", name, sounds[i % 5].rate);
    }

    assert_none_allocates(heap_readers, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(calls_of_the_heap_are_counted),
        TEST(a_step_of_any_model_allocates_nothing),
        TEST(a_step_of_convolutions_allocates_nothing),
        TEST(a_step_of_image_layers_allocates_nothing),
        TEST(a_step_with_padding_and_a_decoder_allocates_nothing),
        TEST(a_step_of_sequence_layers_allocates_nothing),
        TEST(a_step_of_any_loss_allocates_nothing),
        TEST(a_step_of_any_optimizer_and_precision_allocates_nothing),
        TEST(samples_are_read_without_allocating),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
