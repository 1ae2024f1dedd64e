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

#include "tests/worker/session_runs.h"

/* 1 × 1 convolutions of many channels: products of oneDNN's and AMX's */
static const char MODEL_BOTTLENECK[] =
    "[{conv2d: {out: 32, kernel: [3], padding: [1]}}, relu, {conv2d: {out: 128, kernel: [1], bias: false}}, "
    "batch_norm2d, relu, {conv2d: {out: 64, kernel: [1], stride: [2]}}, flatten, {linear: {out: 5}}]";

/* convolutions that oneDNN makes products of */
static const char MODEL_GROUPED[] =
    "[{conv2d: {out: 6, kernel: [3], padding: [2], dilation: [2]}}, relu, {conv2d: {out: 9, kernel: [3], groups: 3, "
    "padding: [1], stride: [2]}}, relu, {conv2d: {out: 9, kernel: [3], groups: 9}}, flatten, {linear: {out: 5}}]";

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

/* Runs the job; fails when a step after the first called the heap, and says which. */
static void assert_no_call_after_the_first(const char *model, int microbatches, const char *const *more)
{
    static run_t run;
    const char *set[8] = {"evaluation.every=100", "checkpoint.every=100", NULL};
    for (int i = 0; more != NULL && more[i] != NULL; i++) {
        set[2 + i] = more[i];
        set[3 + i] = NULL;
    }
    spec_job_t *job = run_job(model, microbatches, set);
    memset(&run, 0, sizeof(run));
    run.heap_count = heap_count;
    run_ok(job, 1, &run);
    for (int step = 2; step < 12; step++) {
        if (run.heap_at[step] != run.heap_at[1]) {
            fail_msg("%lld calls of the heap in step %d", (long long)(run.heap_at[step] - run.heap_at[step - 1]), step);
        }
    }
    spec_job_free(job);
    run_folder_clear();
}

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

static void a_step_of_an_mlp_allocates_nothing(void **state)
{
    (void)state;
    assert_no_call_after_the_first(MODEL_MLP, 1, NULL);
    assert_no_call_after_the_first(MODEL_MLP, 4, NULL);
}

/* Token 0, a frequent character, is padding: masks, lengths, packed steps and a decoder's memory. */
static void a_step_with_padding_and_a_decoder_allocates_nothing(void **state)
{
    (void)state;
    static const char *const padded[] = {"model.padding=0", "training.loss={cross_entropy: {ignore_index: 0}}", NULL};
    assert_no_call_after_the_first("[{embedding: {count: 27, width: 16}}, {transformer_encoder_layer: {heads: 2, "
                                   "feedforward: 16}}, {lstm: {width: 8, bidirectional: true, packed: true}}, "
                                   "{linear: {out: 27}}]",
                                   2, padded);
    assert_no_call_after_the_first("[{encoder_decoder: {source: 4, encoder: [{embedding: {count: 27, width: 16}}], "
                                   "decoder: [{embedding: {count: 27, "
                                   "width: 16}}, {transformer_decoder_layer: {heads: 2, feedforward: 16}}, {mean: "
                                   "{axes: [1], skip_padding: true}}, "
                                   "{linear: {out: 432}}, {reshape: {shape: [16, 27]}}]}}]",
                                   2, padded);
}

static void a_step_of_a_cnn_allocates_nothing(void **state)
{
    (void)state;
    assert_no_call_after_the_first(MODEL_CNN, 1, NULL);
    assert_no_call_after_the_first(MODEL_CNN, 4, NULL);
    assert_no_call_after_the_first(MODEL_BOTTLENECK, 1, NULL);
    assert_no_call_after_the_first(MODEL_BOTTLENECK, 4, NULL);
    assert_no_call_after_the_first(MODEL_GROUPED, 2, NULL);
    assert_no_call_after_the_first(MODEL_GROUPED, 2, (const char *const[]){"resources.threads=2", NULL});
}

static void a_step_of_a_gpt_allocates_nothing(void **state)
{
    (void)state;
    assert_no_call_after_the_first(MODEL_GPT, 1, NULL);
    assert_no_call_after_the_first(MODEL_GPT, 4, NULL);
}

static void a_step_of_an_lstm_or_a_llama_allocates_nothing(void **state)
{
    (void)state;
    assert_no_call_after_the_first(MODEL_LSTM, 4, NULL);
    assert_no_call_after_the_first(MODEL_LLAMA, 4, NULL);
}

static void a_step_on_two_threads_allocates_nothing(void **state)
{
    (void)state;
    const char *const set[] = {"resources.threads=2", NULL};
    assert_no_call_after_the_first(MODEL_CNN, 2, set);
    assert_no_call_after_the_first(MODEL_BOTTLENECK, 2, set);
    assert_no_call_after_the_first(MODEL_GPT, 2, set);
    assert_no_call_after_the_first(MODEL_LSTM, 2, set);
}

static void a_step_in_bf16_allocates_nothing(void **state)
{
    (void)state;
    const char *const set[] = {"training.precision=bf16", NULL};
    assert_no_call_after_the_first(MODEL_GPT, 2, set);
    assert_no_call_after_the_first(MODEL_LLAMA, 2, set);
    assert_no_call_after_the_first(MODEL_CNN, 2, set);
    assert_no_call_after_the_first(MODEL_GROUPED, 2, set);
}

static void samples_are_augmented_without_allocating(void **state)
{
    (void)state;
    const char *const set[] = {
        "data.train={idx: {images: train-images, labels: train-labels, augment: [{random_crop: {size: 8, padding: 2}}, "
        "horizontal_flip, {noise: {std: 0.1}}, {mixup: {alpha: 1}}, {normalize: {mean: 0.4, std: 0.2}}]}}",
        "data.prefetch={threads: 1, batches: 2}", NULL};
    assert_no_call_after_the_first(MODEL_CNN, 2, set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(calls_of_the_heap_are_counted),
        TEST(a_step_of_an_mlp_allocates_nothing),
        TEST(a_step_with_padding_and_a_decoder_allocates_nothing),
        TEST(a_step_of_a_cnn_allocates_nothing),
        TEST(a_step_of_a_gpt_allocates_nothing),
        TEST(a_step_of_an_lstm_or_a_llama_allocates_nothing),
        TEST(a_step_on_two_threads_allocates_nothing),
        TEST(samples_are_augmented_without_allocating),
        TEST(a_step_in_bf16_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
