/* SPDX-License-Identifier: Apache-2.0 */
/* context: one per thread; the default one is made at a thread's first call and released at its end. */
#include "gradd/context.h"

#include <pthread.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

#include "autograd/anomaly.h"
#include "base/assert.h"
#include "cpu/cpu.h"
#include "cpu/onednn.h"
#include "gradd/amp.h"
#include "tensor/internal.h"

enum { MAX_THREADS = 1024 };

/* Raised whenever a kernel changes so that its results may differ in bits. */
enum { KERNELS_VERSION = 19 };

static _Thread_local gd_context_t *current;
static _Thread_local gd_context_t *thread_default;
static pthread_key_t default_key;
static pthread_once_t default_once = PTHREAD_ONCE_INIT;

static void context_free(gd_context_t *context)
{
    tape_anomaly_free(context->anomaly);
    gd_pool_close(context->pool);
    free(context);
}

static void default_release(void *arg)
{
    if (current == thread_default) {
        current = NULL;
    }
    thread_default = NULL;
    context_free(arg);
}

static void default_key_make(void)
{
    ASSERT(pthread_key_create(&default_key, default_release) == 0);
}

static gd_context_t *context_new(void)
{
    /* Not through mem_: the default context lives as long as its thread, and would look like a leak in tests. */
    gd_context_t *context = calloc(1, sizeof(*context));
    if (context == NULL) {
        return NULL;
    }
    context->pool = gd_pool_open();
    if (context->pool == NULL) {
        free(context);
        return NULL;
    }
    context->n_threads = 1;
    context->is_grad_enabled = true;
    return context;
}

static gd_context_t *default_get(void)
{
    if (thread_default == NULL) {
        ASSERT(pthread_once(&default_once, default_key_make) == 0);
        thread_default = context_new();
        ASSERT(thread_default != NULL);
        ASSERT(pthread_setspecific(default_key, thread_default) == 0);
    }
    return thread_default;
}

const char *gd_device_name(gd_device_t device)
{
    static const char *const names[] = {[GD_DEVICE_CPU] = "cpu", [GD_DEVICE_CUDA] = "cuda"};
    return (unsigned)device < GD_DEVICE_COUNT ? names[device] : NULL;
}

status_t gd_device_check(gd_device_t device)
{
    if ((unsigned)device >= GD_DEVICE_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%d is no device", (int)device);
    }
    return device == GD_DEVICE_CPU
               ? ST_OK
               : ST_FAIL(ST_ERR_UNSUPPORTED, "device %s: this build has no kernels for it; device cpu is there",
                         gd_device_name(device));
}

status_t gd_context_open(const gd_context_options_t *options, gd_context_t **context_p)
{
    int n_threads = options != NULL && options->n_threads != 0 ? options->n_threads : 1;
    if (n_threads < 1 || n_threads > MAX_THREADS) {
        return ST_FAIL(ST_ERR_RANGE, "a context with %d threads: 1 to %d are possible", n_threads, MAX_THREADS);
    }
    status_t status = gd_device_check(options != NULL ? options->device : GD_DEVICE_CPU);
    if (status != ST_OK) {
        return status;
    }
    gd_context_t *context = context_new();
    if (context == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a context");
    }
    context->n_threads = n_threads;
    *context_p = context;
    return ST_OK;
}

void gd_context_close(gd_context_t *context)
{
    if (context == NULL) {
        return;
    }
    if (current == context) {
        current = NULL;
    }
    context_free(context);
}

gd_context_t *gd_context_set_current(gd_context_t *context)
{
    gd_context_t *before = gd_context_get();
    current = context != NULL ? context : default_get();
    return before;
}

gd_context_t *gd_context_get(void)
{
    if (__builtin_expect(current == NULL, 0)) {
        current = default_get();
    }
    return current;
}

gd_pool_t *gd_context_pool(void)
{
    return gd_context_get()->pool;
}

int gd_context_n_threads(void)
{
    return gd_context_get()->n_threads;
}

status_t gd_context_set_n_threads(int n_threads)
{
    if (n_threads < 1 || n_threads > MAX_THREADS) {
        return ST_FAIL(ST_ERR_RANGE, "%d threads: 1 to %d are possible", n_threads, MAX_THREADS);
    }
    gd_context_get()->n_threads = n_threads;
    return ST_OK;
}

bool gd_grad_set_enabled(bool is_enabled)
{
    gd_context_t *context = gd_context_get();
    bool before = context->is_grad_enabled;
    context->is_grad_enabled = is_enabled;
    return before;
}

bool gd_grad_is_enabled(void)
{
    return gd_context_get()->is_grad_enabled;
}

bool gd_training_set(bool is_training)
{
    gd_context_t *context = gd_context_get();
    bool before = context->is_training;
    context->is_training = is_training;
    return before;
}

bool gd_training_is_on(void)
{
    return gd_context_get()->is_training;
}

gd_dtype_t gd_autocast_set(gd_dtype_t dtype)
{
    gd_context_t *context = gd_context_get();
    gd_dtype_t before = context->autocast;
    context->autocast = dtype == GD_DTYPE_BF16 || dtype == GD_DTYPE_F16 ? dtype : GD_DTYPE_F32;
    return before;
}

gd_dtype_t gd_autocast_get(void)
{
    return gd_context_get()->autocast;
}

void gd_rng_set_position(uint64_t seed, uint32_t step, uint32_t microbatch)
{
    gd_context_t *context = gd_context_get();
    context->rng_seed = seed;
    context->rng_step = step;
    context->rng_microbatch = microbatch;
}

gd_rng_key_t gd_rng_key(uint32_t layer, uint32_t purpose)
{
    const gd_context_t *context = gd_context_get();
    return (gd_rng_key_t){.seed = context->rng_seed,
                          .step = context->rng_step,
                          .microbatch = context->rng_microbatch,
                          .layer = layer,
                          .purpose = purpose};
}

gd_context_modes_t gd_context_get_modes(void)
{
    const gd_context_t *context = gd_context_get();
    return (gd_context_modes_t){.is_training = context->is_training,
                                .autocast = context->autocast,
                                .rng_seed = context->rng_seed,
                                .rng_step = context->rng_step,
                                .rng_microbatch = context->rng_microbatch};
}

void gd_context_set_modes(const gd_context_modes_t *modes)
{
    gd_context_t *context = gd_context_get();
    context->is_training = modes->is_training;
    context->autocast = modes->autocast;
    context->rng_seed = modes->rng_seed;
    context->rng_step = modes->rng_step;
    context->rng_microbatch = modes->rng_microbatch;
}

gd_memory_stats_t gd_memory_get_stats(void)
{
    return gd_pool_get_stats(gd_context_pool());
}

void gd_memory_reset_peak(void)
{
    gd_pool_reset_peak(gd_context_pool());
}

/* logf, exp, cos and their like differ in the last bit from one C library to the next. */
static const char *libc_version(void)
{
#ifdef __GLIBC__
    return gnu_get_libc_version();
#else
    return "other";
#endif
}

void gd_numerics_fingerprint(strbuf_t *text)
{
    const gd_dtype_t autocast = gd_autocast_get();
    strbuf_appendf(text, "cpu %s onednn-%s libc-%s kernels-%d threads-%d", gd_cpu_isa_name(), gd_onednn_version(),
                   libc_version(), KERNELS_VERSION, gd_context_n_threads());
    if (autocast == GD_DTYPE_BF16) {
        strbuf_appendf(text, " bf16-%s", gd_onednn_bf16_name());
    } else if (autocast != GD_DTYPE_F32) {
        strbuf_appendf(text, " %s", gd_dtype_name(autocast));
    }
}
