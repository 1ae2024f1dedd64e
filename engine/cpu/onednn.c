/* SPDX-License-Identifier: Apache-2.0 */
/* onednn: see onednn.h. */
#include "cpu/onednn.h"

#include <dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpp_new.h"
#include "cpu/cpu.h"

enum { MOST_PORTS = 4, MOST_KEY_WORDS = 28, N_SLOTS = 4096, MOST_ENTRIES = 2048 };

typedef enum kind { KIND_NONE, KIND_GEMM, KIND_CONV_FORWARD, KIND_CONV_INPUT, KIND_CONV_WEIGHT } kind_t;

/* All that a primitive is made for; compared as bytes. */
typedef struct key {
    int64_t kind;
    int64_t n_threads;
    int64_t word[MOST_KEY_WORDS];
} cache_key_t;

/*
 * One tensor of a primitive. Where the primitive wants another layout than ours, `blocked` is in that layout, in
 * scratch memory, and `reorder` copies between the two.
 */
typedef struct port {
    int arg;
    bool is_output;
    dnnl_memory_t plain;
    void *plain_handle;
    dnnl_memory_t blocked;
    void *blocked_handle;
    size_t blocked_size;
    dnnl_primitive_t reorder;
} port_t;

typedef struct entry {
    cache_key_t key;
    dnnl_primitive_t primitive;
    dnnl_memory_t scratchpad;
    void *scratchpad_handle;
    size_t scratchpad_size;
    port_t port[MOST_PORTS];
    int n_ports;
    int64_t used_at; /* by the cache's clock */
    bool was_run;
    bool is_reference; /* oneDNN has only its slow generic code for this shape */
    bool is_product;   /* it has only its own packing code for a product, or for a convolution made of products */
} entry_t;

/* A thread's stream and primitives. */
typedef struct cache {
    dnnl_stream_t stream;
    entry_t *slot[N_SLOTS];
    int n_entries;
    int64_t clock; /* a tick each time an entry is asked for */
} cache_t;

static pthread_once_t engine_once = PTHREAD_ONCE_INIT;
static dnnl_engine_t engine;
static dnnl_status_t engine_status;
static pthread_key_t cache_thread_key;
static _Thread_local cache_t *cache_own;

/* The description of an entry under construction. */
typedef struct plan {
    const_dnnl_op_desc_t desc;
    const_dnnl_primitive_desc_t hint;
    dnnl_primitive_attr_t attr;
} plan_t;

static status_t fail_dnnl(dnnl_status_t status, const char *what)
{
    const status_t code = status == dnnl_out_of_memory ? ST_ERR_NOMEM : ST_ERR_INTERNAL;
    return ST_FAIL(code, "oneDNN: %s fails with status %d", what, (int)status);
}

static void entry_release(entry_t *entry)
{
    for (int i = 0; i < entry->n_ports; i++) {
        (void)dnnl_primitive_destroy(entry->port[i].reorder);
        (void)dnnl_memory_destroy(entry->port[i].blocked);
        (void)dnnl_memory_destroy(entry->port[i].plain);
    }
    (void)dnnl_memory_destroy(entry->scratchpad);
    (void)dnnl_primitive_destroy(entry->primitive);
    free(entry);
}

/* The entry of key; where there is none, the empty slot for it. */
static entry_t **cache_find(cache_t *cache, const cache_key_t *key)
{
    uint64_t hash = (uint64_t)key->kind * 31 + (uint64_t)key->n_threads;
    for (int i = 0; i < MOST_KEY_WORDS; i++) { /* FNV-1a by words */
        hash = (hash ^ (uint64_t)key->word[i]) * UINT64_C(0x100000001b3);
    }
    size_t i = (size_t)(hash ^ (hash >> 29)) % N_SLOTS;
    while (cache->slot[i] != NULL && memcmp(&cache->slot[i]->key, key, sizeof(*key)) != 0) {
        i = (i + 1) % N_SLOTS;
    }
    return &cache->slot[i];
}

static int entry_compare(const void *a, const void *b)
{
    const int64_t x = (*(entry_t *const *)a)->used_at, y = (*(entry_t *const *)b)->used_at;
    return (x < y) - (x > y);
}

/* Releases the half of a full cache that was not used for longest, so that what shapes vary in doesn't last. */
static void cache_halve(cache_t *cache)
{
    entry_t *all[MOST_ENTRIES];
    int n = 0;
    for (int i = 0; i < N_SLOTS; i++) {
        if (cache->slot[i] != NULL) {
            all[n++] = cache->slot[i];
            cache->slot[i] = NULL;
        }
    }
    qsort(all, (size_t)n, sizeof(entry_t *), entry_compare);
    cache->n_entries = n / 2;
    for (int i = 0; i < n; i++) {
        if (i < cache->n_entries) {
            *cache_find(cache, &all[i]->key) = all[i];
        } else {
            entry_release(all[i]);
        }
    }
}

static void cache_release(void *arg)
{
    cache_t *cache = arg;
    for (int i = 0; i < N_SLOTS; i++) {
        if (cache->slot[i] != NULL) {
            entry_release(cache->slot[i]);
        }
    }
    (void)dnnl_stream_destroy(cache->stream);
    free(cache);
    cache_own = NULL;
}

static void engine_open(void)
{
    /* GRADD_ISA lowers oneDNN's instruction set too, so that a run can be repeated on a lesser machine. */
    static const dnnl_cpu_isa_t most[] = {
        [GD_CPU_ISA_BASE] = dnnl_cpu_isa_all, [GD_CPU_ISA_V2] = dnnl_cpu_isa_sse41,
        [GD_CPU_ISA_V3] = dnnl_cpu_isa_avx2,  [GD_CPU_ISA_V4] = dnnl_cpu_isa_avx512_core_bf16,
        [GD_CPU_ISA_AMX] = dnnl_cpu_isa_all,
    };
    (void)gd_cpp_parallel_is_replaced(); /* what the linker sees no use of, it leaves away */
    (void)dnnl_set_max_cpu_isa(most[gd_cpu_isa()]);
    (void)dnnl_set_primitive_cache_capacity(0);
    engine_status = dnnl_engine_create(&engine, dnnl_cpu, 0);
    (void)pthread_key_create(&cache_thread_key, cache_release);
}

/* Plain calloc, not mem_alloc: the cache lives as long as its thread, which is no leak. */
static status_t cache_get(cache_t **cache_p)
{
    if (cache_own == NULL) {
        (void)pthread_once(&engine_once, engine_open);
        if (engine_status != dnnl_success) {
            return fail_dnnl(engine_status, "opening the CPU engine");
        }
        cache_t *cache = calloc(1, sizeof(*cache));
        if (cache == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "oneDNN: primitive cache");
        }
        dnnl_status_t status = dnnl_stream_create(&cache->stream, engine, dnnl_stream_default_flags);
        if (status != dnnl_success) {
            free(cache);
            return fail_dnnl(status, "opening a stream");
        }
        (void)pthread_setspecific(cache_thread_key, cache);
        cache_own = cache;
    }
    *cache_p = cache_own;
    return ST_OK;
}

static dnnl_status_t port_add(entry_t *entry, const_dnnl_primitive_desc_t pd, int arg, bool is_output,
                              const dnnl_memory_desc_t *plain)
{
    port_t *port = &entry->port[entry->n_ports++];
    port->arg = arg;
    port->is_output = is_output;
    const dnnl_memory_desc_t *wanted = dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, arg);
    dnnl_status_t status = dnnl_memory_create(&port->plain, plain, engine, DNNL_MEMORY_NONE);
    if (status != dnnl_success || dnnl_memory_desc_equal(wanted, plain)) {
        return status;
    }
    port->blocked_size = dnnl_memory_desc_get_size(wanted);
    status = dnnl_memory_create(&port->blocked, wanted, engine, DNNL_MEMORY_NONE);
    if (status != dnnl_success) {
        return status;
    }
    dnnl_primitive_desc_t reorder_pd = NULL;
    status = dnnl_reorder_primitive_desc_create(&reorder_pd, is_output ? wanted : plain, engine,
                                                is_output ? plain : wanted, engine, NULL);
    if (status == dnnl_success) {
        status = dnnl_primitive_create(&port->reorder, reorder_pd);
        (void)dnnl_primitive_desc_destroy(reorder_pd);
    }
    return status;
}

/* Makes the primitive and its scratchpad; the ports are added by the caller with *pd_p, which it destroys. */
static dnnl_status_t entry_build(entry_t *entry, const plan_t *plan, dnnl_primitive_desc_t *pd_p)
{
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(plan->attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success) {
        status = dnnl_primitive_desc_create(pd_p, plan->desc, plan->attr, engine, plan->hint);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_create(&entry->primitive, *pd_p);
    }
    if (status != dnnl_success) {
        return status;
    }
    const char *implementation = "";
    (void)dnnl_primitive_desc_query(*pd_p, dnnl_query_impl_info_str, 0, &implementation);
    entry->is_reference = strncmp(implementation, "ref", 3) == 0;
    entry->is_product = strstr(implementation, "gemm") != NULL;
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(*pd_p, dnnl_query_scratchpad_md, 0);
    entry->scratchpad_size = md != NULL ? dnnl_memory_desc_get_size(md) : 0;
    if (entry->scratchpad_size > 0) {
        status = dnnl_memory_create(&entry->scratchpad, md, engine, DNNL_MEMORY_NONE);
    }
    return status;
}

static dnnl_status_t memory_point(dnnl_memory_t memory, void **handle_p, void *handle)
{
    if (*handle_p == handle) {
        return dnnl_success;
    }
    *handle_p = handle;
    return dnnl_memory_set_data_handle(memory, handle);
}

/* primitive: of the entry. See Note [oneDNN's blocks]. */
static dnnl_status_t primitive_execute(const entry_t *entry, dnnl_primitive_t primitive, dnnl_stream_t stream,
                                       int n_args, const dnnl_exec_arg_t *args)
{
    gd_cpp_new_begin(!entry->was_run);
    const dnnl_status_t status = dnnl_primitive_execute(primitive, stream, n_args, args);
    gd_cpp_new_end();
    return status;
}

static dnnl_status_t port_reorder(const entry_t *entry, const port_t *port, dnnl_stream_t stream)
{
    const dnnl_exec_arg_t args[2] = {
        {DNNL_ARG_FROM, port->is_output ? port->blocked : port->plain},
        {DNNL_ARG_TO, port->is_output ? port->plain : port->blocked},
    };
    return primitive_execute(entry, port->reorder, stream, 2, args);
}

/* handle[i]: our memory for port i. */
static status_t entry_execute(entry_t *entry, cache_t *cache, void *const *handle)
{
    dnnl_exec_arg_t args[MOST_PORTS + 1];
    dnnl_status_t status = dnnl_success;
    int n_args = 0;
    for (int i = 0; i < entry->n_ports && status == dnnl_success; i++) {
        port_t *port = &entry->port[i];
        status = memory_point(port->plain, &port->plain_handle, handle[i]);
        if (port->blocked != NULL && status == dnnl_success) {
            void *blocked = gd_cpu_scratch((gd_cpu_slot_t)(GD_CPU_SLOT_REORDER + i), port->blocked_size);
            if (blocked == NULL) {
                return ST_FAIL(ST_ERR_NOMEM, "oneDNN: %zu bytes for a blocked copy", port->blocked_size);
            }
            status = memory_point(port->blocked, &port->blocked_handle, blocked);
            if (!port->is_output && status == dnnl_success) {
                status = port_reorder(entry, port, cache->stream);
            }
        }
        args[n_args++] = (dnnl_exec_arg_t){port->arg, port->blocked != NULL ? port->blocked : port->plain};
    }
    if (entry->scratchpad != NULL && status == dnnl_success) {
        void *scratchpad = gd_cpu_scratch(GD_CPU_SLOT_ONEDNN, entry->scratchpad_size);
        if (scratchpad == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "oneDNN: %zu bytes of scratchpad", entry->scratchpad_size);
        }
        status = memory_point(entry->scratchpad, &entry->scratchpad_handle, scratchpad);
        args[n_args++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, entry->scratchpad};
    }
    if (status == dnnl_success) {
        status = primitive_execute(entry, entry->primitive, cache->stream, n_args, args);
    }
    for (int i = 0; i < entry->n_ports && status == dnnl_success; i++) {
        if (entry->port[i].blocked != NULL && entry->port[i].is_output) {
            status = port_reorder(entry, &entry->port[i], cache->stream);
        }
    }
    entry->was_run = true;
    return status == dnnl_success ? ST_OK : fail_dnnl(status, "a primitive");
}

/* libgomp's thread count is per calling thread; oneDNN reads it when it makes and when it runs a primitive. */
static void threads_set(int n_threads)
{
    const int n = n_threads > 1 ? n_threads : 1;
    if (omp_get_max_threads() != n) {
        omp_set_num_threads(n);
    }
}

/* The cached entry of key, made by build(argument) at first use. */
typedef dnnl_status_t (*build_func_t)(entry_t *entry, const void *argument);
static status_t entry_get(cache_t *cache, const cache_key_t *key, build_func_t build, const void *argument,
                          const char *what, entry_t **entry_p)
{
    threads_set((int)key->n_threads);
    entry_t **slot = cache_find(cache, key);
    if (*slot == NULL) {
        if (cache->n_entries >= MOST_ENTRIES) {
            cache_halve(cache);
            slot = cache_find(cache, key);
        }
        entry_t *entry = calloc(1, sizeof(*entry));
        if (entry == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "oneDNN: cached primitive");
        }
        entry->key = *key;
        gd_cpp_new_begin(true);
        dnnl_status_t status = build(entry, argument);
        gd_cpp_new_end();
        if (status != dnnl_success) {
            entry_release(entry);
            return fail_dnnl(status, what);
        }
        *slot = entry;
        cache->n_entries++;
    }
    (*slot)->used_at = ++cache->clock;
    *entry_p = *slot;
    return ST_OK;
}

/* What a product's primitive is made from. */
typedef struct gemm_plan {
    const gd_gemm_t *gemm;
    dnnl_data_type_t factor; /* of a and b */
    dnnl_data_type_t result;
} gemm_plan_t;

static dnnl_status_t gemm_build(entry_t *entry, const void *argument)
{
    const gemm_plan_t *gemm_plan = argument;
    const gd_gemm_t *g = gemm_plan->gemm;
    const dnnl_data_type_t factor = gemm_plan->factor;
    const int first = g->n_batch > 1 ? 0 : 1; /* without a batch: 2-d */
    const int n_dims = 3 - first;
    const dnnl_dims_t a_dims = {g->n_batch, g->m, g->k}, a_strides = {g->a_batch, g->a_row, g->a_col};
    const dnnl_dims_t b_dims = {g->n_batch, g->k, g->n}, b_strides = {g->b_batch, g->b_row, g->b_col};
    const dnnl_dims_t c_dims = {g->n_batch, g->m, g->n}, c_strides = {g->c_batch, g->c_row, 1};
    const dnnl_dims_t bias_dims = {1, 1, g->n}, bias_strides = {g->n, g->n, 1};
    dnnl_memory_desc_t a, b, c, bias;
    dnnl_status_t status = dnnl_memory_desc_init_by_strides(&a, n_dims, a_dims + first, factor, a_strides + first);
    if (status == dnnl_success) {
        status = dnnl_memory_desc_init_by_strides(&b, n_dims, b_dims + first, factor, b_strides + first);
    }
    if (status == dnnl_success) {
        status = dnnl_memory_desc_init_by_strides(&c, n_dims, c_dims + first, gemm_plan->result, c_strides + first);
    }
    if (status == dnnl_success) {
        status = dnnl_memory_desc_init_by_strides(&bias, n_dims, bias_dims + first, dnnl_f32, bias_strides + first);
    }
    dnnl_matmul_desc_t desc;
    if (status == dnnl_success) {
        status = dnnl_matmul_desc_init(&desc, &a, &b, g->bias != NULL ? &bias : NULL, &c);
    }
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post_ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    if (status == dnnl_success) {
        status = dnnl_primitive_attr_create(&attr);
    }
    if (status == dnnl_success && g->is_accumulating) {
        status = dnnl_post_ops_create(&post_ops);
        if (status == dnnl_success) {
            status = dnnl_post_ops_append_sum(post_ops, 1.0F);
        }
        if (status == dnnl_success) {
            status = dnnl_primitive_attr_set_post_ops(attr, post_ops);
        }
    }
    if (status == dnnl_success) {
        const plan_t plan = {.desc = &desc, .attr = attr};
        status = entry_build(entry, &plan, &pd);
    }
    if (status == dnnl_success) {
        status = port_add(entry, pd, DNNL_ARG_SRC, false, &a);
    }
    if (status == dnnl_success) {
        status = port_add(entry, pd, DNNL_ARG_WEIGHTS, false, &b);
    }
    if (status == dnnl_success) {
        status = port_add(entry, pd, DNNL_ARG_DST, true, &c);
    }
    if (status == dnnl_success && g->bias != NULL) {
        status = port_add(entry, pd, DNNL_ARG_BIAS, false, &bias);
    }
    (void)dnnl_primitive_desc_destroy(pd);
    (void)dnnl_post_ops_destroy(post_ops);
    (void)dnnl_primitive_attr_destroy(attr);
    return status;
}

static int64_t type_size(dnnl_data_type_t type)
{
    return type == dnnl_bf16 ? 2 : 4;
}

/* oneDNN takes pointers to mutable memory for inputs too; it doesn't write to them */
static void *gemm_at(const void *base, int64_t offset, dnnl_data_type_t type)
{
    return (char *)(uintptr_t)base + offset * type_size(type);
}

static status_t gemm_run(const gemm_plan_t *plan, bool *is_declined_p)
{
    const gd_gemm_t *gemm = plan->gemm;
    cache_t *cache = NULL;
    status_t status = cache_get(&cache);
    if (status != ST_OK) {
        return status;
    }
    const bool is_batched = gemm->n_batch > 1;
    const cache_key_t key = {
        .kind = KIND_GEMM,
        .n_threads = gemm->n_threads > 1 ? gemm->n_threads : 1,
        .word = {gemm->n_batch, gemm->m, gemm->n, gemm->k, is_batched ? gemm->a_batch : 0, gemm->a_row, gemm->a_col,
                 is_batched ? gemm->b_batch : 0, gemm->b_row, gemm->b_col, is_batched ? gemm->c_batch : 0, gemm->c_row,
                 gemm->bias != NULL, gemm->is_accumulating, plan->factor, plan->result},
    };
    entry_t *entry = NULL;
    status = entry_get(cache, &key, gemm_build, plan, "making a matrix product", &entry);
    if (status != ST_OK) {
        return status;
    }
    if (is_declined_p != NULL) {
        *is_declined_p = entry->is_product;
        if (entry->is_product) {
            return ST_OK;
        }
    }
    if (!entry->is_reference || !is_batched) {
        void *handle[MOST_PORTS] = {gemm_at(gemm->a, 0, plan->factor), gemm_at(gemm->b, 0, plan->factor), gemm->c,
                                    gemm_at(gemm->bias, 0, dnnl_f32)};
        return entry_execute(entry, cache, handle);
    }
    /* the members of the batch one by one: oneDNN has no fast code for all at once */
    gd_gemm_t one = *gemm;
    const gemm_plan_t one_plan = {.gemm = &one, .factor = plan->factor, .result = plan->result};
    one.n_batch = 1;
    for (int64_t i = 0; i < gemm->n_batch && status == ST_OK; i++) {
        one.a = gemm_at(gemm->a, i * gemm->a_batch, plan->factor);
        one.b = gemm_at(gemm->b, i * gemm->b_batch, plan->factor);
        one.c = gemm_at(gemm->c, i * gemm->c_batch, plan->result);
        status = gemm_run(&one_plan, NULL);
    }
    return status;
}

status_t gd_onednn_gemm(const gd_gemm_t *gemm, bool *is_declined_p)
{
    const gemm_plan_t plan = {.gemm = gemm, .factor = dnnl_f32, .result = dnnl_f32};
    return gemm_run(&plan, is_declined_p);
}

status_t gd_onednn_gemm_bf16(const gd_gemm_t *gemm, bool is_c_bf16, bool *is_declined_p)
{
    const gemm_plan_t plan = {.gemm = gemm, .factor = dnnl_bf16, .result = is_c_bf16 ? dnnl_bf16 : dnnl_f32};
    return gemm_run(&plan, is_declined_p);
}

static dnnl_cpu_isa_t isa_effective(void)
{
    (void)pthread_once(&engine_once, engine_open);
    return dnnl_get_effective_cpu_isa();
}

bool gd_onednn_has_bf16(void)
{
    return (isa_effective() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

const char *gd_onednn_bf16_name(void)
{
    const bool has_amx = (isa_effective() & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
    return has_amx ? "amx" : gd_onednn_has_bf16() ? "avx512_bf16" : "none";
}

/* What a convolution's primitive is made from. */
typedef struct conv_plan {
    const gd_conv_t *conv;
    kind_t kind;
    bool has_bias;
} conv_plan_t;

typedef struct conv_descs {
    dnnl_memory_desc_t x, weight, bias, y;                 /* ours */
    dnnl_memory_desc_t any_x, any_weight, any_bias, any_y; /* the layout is oneDNN's choice */
} conv_descs_t;

static dnnl_data_type_t type_of(int32_t dtype)
{
    return dtype == GD_DTYPE_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* first[n_first], then the sizes along the spatial axes as they lie in memory; returns how many. */
static int conv_dims(const gd_conv_t *c, const int64_t *sizes, int n_first, const int64_t *first, dnnl_dims_t dims)
{
    int n = 0;
    while (n < n_first) {
        dims[n] = first[n];
        n++;
    }
    if (c->in[2] > 0) {
        dims[n++] = sizes[2];
    }
    dims[n++] = sizes[0];
    dims[n++] = sizes[1];
    return n;
}

/* kind: of the primitive that the descriptions are for. */
static dnnl_status_t conv_describe(const gd_conv_t *c, kind_t kind, conv_descs_t *d)
{
    const dnnl_data_type_t data = type_of(c->dtype);
    const dnnl_data_type_t weight = kind == KIND_CONV_WEIGHT ? type_of(c->dweight_dtype) : data;
    dnnl_dims_t x, y, w, wg;
    const dnnl_dims_t bias = {c->c_out};
    const bool is_grouped = c->groups > 1, is_3d = c->in[2] > 0;
    const int n = conv_dims(c, c->in, 2, (const int64_t[2]){c->batch, c->c_in}, x);
    (void)conv_dims(c, c->out, 2, (const int64_t[2]){c->batch, c->c_out}, y);
    (void)conv_dims(c, c->kernel, 2, (const int64_t[2]){c->c_out, c->c_in}, w);
    (void)conv_dims(c, c->kernel, 3, (const int64_t[3]){c->groups, c->c_out / c->groups, c->c_in / c->groups}, wg);
    const dnnl_format_tag_t plain = is_3d ? dnnl_ncdhw : dnnl_nchw;
    const dnnl_format_tag_t grouped = is_3d ? dnnl_goidhw : dnnl_goihw;
    const dnnl_format_tag_t ungrouped = is_3d ? dnnl_oidhw : dnnl_oihw;
    const struct {
        dnnl_memory_desc_t *md;
        int n_dims;
        const dnnl_dim_t *dims;
        dnnl_format_tag_t tag;
        dnnl_data_type_t type;
    } all[] = {
        {&d->x, n, x, plain, data},
        {&d->y, n, y, plain, data},
        {&d->weight, n + is_grouped, is_grouped ? wg : w, is_grouped ? grouped : ungrouped, weight},
        {&d->bias, 1, bias, dnnl_a, dnnl_f32},
        {&d->any_x, n, x, dnnl_format_tag_any, data},
        {&d->any_y, n, y, dnnl_format_tag_any, data},
        {&d->any_weight, n + is_grouped, is_grouped ? wg : w, dnnl_format_tag_any, weight},
        {&d->any_bias, 1, bias, dnnl_a, dnnl_f32},
    };
    dnnl_status_t status = dnnl_success;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]) && status == dnnl_success; i++) {
        status = dnnl_memory_desc_init_by_tag(all[i].md, all[i].n_dims, all[i].dims, all[i].type, all[i].tag);
    }
    return status;
}

static dnnl_status_t conv_desc_init(const conv_plan_t *plan, kind_t kind, const conv_descs_t *d,
                                    dnnl_convolution_desc_t *desc)
{
    const gd_conv_t *c = plan->conv;
    dnnl_dims_t stride, dilate, pad;
    (void)conv_dims(c, c->stride, 0, NULL, stride);
    (void)conv_dims(c, c->padding, 0, NULL, pad);
    const int n = conv_dims(c, c->dilation, 0, NULL, dilate);
    for (int i = 0; i < n; i++) {
        dilate[i]--;
    }
    const dnnl_memory_desc_t *bias = plan->has_bias ? &d->any_bias : NULL;
    switch (kind) {
    case KIND_CONV_INPUT:
        return dnnl_dilated_convolution_backward_data_desc_init(desc, dnnl_convolution_direct, &d->any_x,
                                                                &d->any_weight, &d->any_y, stride, dilate, pad, pad);
    case KIND_CONV_WEIGHT:
        return dnnl_dilated_convolution_backward_weights_desc_init(
            desc, dnnl_convolution_direct, &d->any_x, &d->any_weight, bias, &d->any_y, stride, dilate, pad, pad);
    default:
        return dnnl_dilated_convolution_forward_desc_init(desc, dnnl_forward_training, dnnl_convolution_direct,
                                                          &d->any_x, &d->any_weight, bias, &d->any_y, stride, dilate,
                                                          pad, pad);
    }
}

static dnnl_status_t conv_ports(entry_t *entry, const conv_plan_t *plan, const conv_descs_t *d,
                                dnnl_primitive_desc_t pd)
{
    dnnl_status_t status = dnnl_success;
    switch (plan->kind) {
    case KIND_CONV_INPUT:
        status = port_add(entry, pd, DNNL_ARG_DIFF_DST, false, &d->y);
        if (status == dnnl_success) {
            status = port_add(entry, pd, DNNL_ARG_WEIGHTS, false, &d->weight);
        }
        return status == dnnl_success ? port_add(entry, pd, DNNL_ARG_DIFF_SRC, true, &d->x) : status;
    case KIND_CONV_WEIGHT:
        status = port_add(entry, pd, DNNL_ARG_DIFF_DST, false, &d->y);
        if (status == dnnl_success) {
            status = port_add(entry, pd, DNNL_ARG_SRC, false, &d->x);
        }
        if (status == dnnl_success) {
            status = port_add(entry, pd, DNNL_ARG_DIFF_WEIGHTS, true, &d->weight);
        }
        return status == dnnl_success && plan->has_bias ? port_add(entry, pd, DNNL_ARG_DIFF_BIAS, true, &d->bias)
                                                        : status;
    default:
        status = port_add(entry, pd, DNNL_ARG_SRC, false, &d->x);
        if (status == dnnl_success) {
            status = port_add(entry, pd, DNNL_ARG_WEIGHTS, false, &d->weight);
        }
        if (status == dnnl_success) {
            status = port_add(entry, pd, DNNL_ARG_DST, true, &d->y);
        }
        return status == dnnl_success && plan->has_bias ? port_add(entry, pd, DNNL_ARG_BIAS, false, &d->bias) : status;
    }
}

static dnnl_status_t conv_build(entry_t *entry, const void *argument)
{
    const conv_plan_t *plan = argument;
    conv_descs_t d;
    dnnl_convolution_desc_t forward_desc;
    dnnl_convolution_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t forward_pd = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = conv_describe(plan->conv, plan->kind, &d);
    if (status == dnnl_success) {
        status = conv_desc_init(plan, plan->kind, &d, &desc);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_attr_create(&attr);
    }
    if (status == dnnl_success && plan->kind != KIND_CONV_FORWARD) { /* backward needs forward's as a hint */
        conv_descs_t forward;
        status = conv_describe(plan->conv, KIND_CONV_FORWARD, &forward);
        if (status == dnnl_success) {
            status = conv_desc_init(plan, KIND_CONV_FORWARD, &forward, &forward_desc);
        }
        if (status == dnnl_success) {
            status = dnnl_primitive_desc_create(&forward_pd, &forward_desc, NULL, engine, NULL);
        }
    }
    if (status == dnnl_success) {
        const plan_t primitive_plan = {.desc = &desc, .attr = attr, .hint = forward_pd};
        status = entry_build(entry, &primitive_plan, &pd);
    }
    if (status == dnnl_success) {
        status = conv_ports(entry, plan, &d, pd);
    }
    (void)dnnl_primitive_desc_destroy(pd);
    (void)dnnl_primitive_desc_destroy(forward_pd);
    (void)dnnl_primitive_attr_destroy(attr);
    return status;
}

static status_t conv_get(const conv_plan_t *plan, int n_threads, cache_t **cache_p, entry_t **entry_p)
{
    const gd_conv_t *conv = plan->conv;
    status_t status = cache_get(cache_p);
    if (status != ST_OK) {
        return status;
    }
    const cache_key_t key = {
        .kind = plan->kind,
        .n_threads = n_threads > 1 ? n_threads : 1,
        .word = {conv->batch,       conv->c_in,      conv->c_out,      conv->groups,        conv->in[0],
                 conv->in[1],       conv->out[0],    conv->out[1],     conv->kernel[0],     conv->kernel[1],
                 conv->stride[0],   conv->stride[1], conv->padding[0], conv->padding[1],    conv->dilation[0],
                 conv->dilation[1], plan->has_bias,  conv->dtype,      conv->dweight_dtype, conv->in[2],
                 conv->out[2],      conv->kernel[2], conv->stride[2],  conv->padding[2],    conv->dilation[2]},
    };
    return entry_get(*cache_p, &key, conv_build, plan, "making a convolution", entry_p);
}

static status_t conv_run(const gd_conv_t *conv, kind_t kind, bool has_bias, int n_threads, void *const *handle)
{
    const conv_plan_t plan = {.conv = conv, .kind = kind, .has_bias = has_bias};
    cache_t *cache = NULL;
    entry_t *entry = NULL;
    status_t status = conv_get(&plan, n_threads, &cache, &entry);
    return status == ST_OK ? entry_execute(entry, cache, handle) : status;
}

bool gd_onednn_conv_is_product(const gd_conv_t *conv, gd_conv_kind_t kind, bool has_bias, int n_threads)
{
    static const kind_t kinds[] = {
        [GD_CONV_FORWARD] = KIND_CONV_FORWARD, [GD_CONV_INPUT] = KIND_CONV_INPUT, [GD_CONV_WEIGHT] = KIND_CONV_WEIGHT};
    const conv_plan_t plan = {.conv = conv, .kind = kinds[kind], .has_bias = has_bias};
    cache_t *cache = NULL;
    entry_t *entry = NULL;
    return conv_get(&plan, n_threads, &cache, &entry) == ST_OK && entry->is_product;
}

status_t gd_onednn_conv_forward(const gd_conv_t *conv, const void *x, const void *weight, const float *bias, void *y,
                                int n_threads)
{
    void *handle[MOST_PORTS] = {(void *)(uintptr_t)x, (void *)(uintptr_t)weight, y, (void *)(uintptr_t)bias};
    return conv_run(conv, KIND_CONV_FORWARD, bias != NULL, n_threads, handle);
}

status_t gd_onednn_conv_backward_input(const gd_conv_t *conv, const void *dy, const void *weight, void *dx,
                                       int n_threads)
{
    void *handle[MOST_PORTS] = {(void *)(uintptr_t)dy, (void *)(uintptr_t)weight, dx, NULL};
    return conv_run(conv, KIND_CONV_INPUT, false, n_threads, handle);
}

status_t gd_onednn_conv_backward_weight(const gd_conv_t *conv, const void *dy, const void *x, void *dweight,
                                        float *dbias, int n_threads)
{
    void *handle[MOST_PORTS] = {(void *)(uintptr_t)dy, (void *)(uintptr_t)x, dweight, dbias};
    return conv_run(conv, KIND_CONV_WEIGHT, dbias != NULL, n_threads, handle);
}

const char *gd_onednn_version(void)
{
    static _Thread_local char text[32];
    const dnnl_version_t *version = dnnl_version();
    (void)snprintf(text, sizeof(text), "%d.%d.%d", version->major, version->minor, version->patch);
    return text;
}
