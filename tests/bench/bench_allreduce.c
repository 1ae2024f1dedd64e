/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-allreduce: sums of float vectors over the ranks of an MPI job, four ways, interleaved in one run:
 *   mpi       bare MPI_Allreduce, in place, one call
 *   coll      coll_allreduce
 *   tree      coll_tree_finish through shared memory (one microbatch a rank)
 *   messages  coll_tree_finish through messages
 * A time is that of the slowest rank; medians, in milliseconds, and their ratios to the bare call.
 *
 *   mpirun -np 2 --bind-to none bench-allreduce [ROUNDS]
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "collectives/tree.h"

enum { N_WAYS = 4, MAX_ROUNDS = 1000 };

static const char *const way_names[N_WAYS] = {"mpi", "coll", "tree", "messages"};

typedef struct bench {
    coll_group_t *group;
    coll_tree_t *tree[2];
    float *buffer;
    int64_t numel;
} bench_t;

static int double_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static status_t bench_open(bench_t *bench, int64_t numel)
{
    int size = coll_group_size(bench->group);
    bench->numel = numel;
    bench->buffer = mem_alloc_aligned(64, (size_t)numel * sizeof(float));
    status_t status = bench->buffer != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "buffer");
    for (int path = 0; status == ST_OK && path < 2; path++) {
        status = coll_tree_open_path(bench->group, numel, size, (coll_tree_path_t)path, &bench->tree[path]);
    }
    return status;
}

static void bench_close(bench_t *bench)
{
    mem_free(bench->buffer);
    coll_tree_close(bench->tree[0]);
    coll_tree_close(bench->tree[1]);
    bench->tree[0] = bench->tree[1] = NULL;
}

/* One timed sum of ones; *ms_p: of the slowest rank. */
static status_t way_run(bench_t *bench, int way, double *ms_p)
{
    float *data = bench->buffer;
    coll_tree_t *tree = way >= 2 ? bench->tree[way - 2] : NULL;
    status_t status = ST_OK;
    if (tree != NULL) {
        data = coll_tree_slot(tree);
    }
    for (int64_t i = 0; i < bench->numel; i++) {
        data[i] = 1.0f;
    }
    status = coll_barrier(bench->group);
    int64_t start_ns = clock_now_ns();
    if (status != ST_OK) {
        return status;
    }
    if (way == 0) {
        int result = MPI_Allreduce(MPI_IN_PLACE, data, (int)bench->numel, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        status = result == MPI_SUCCESS ? ST_OK : ST_FAIL(ST_ERR_COMM, "MPI_Allreduce gave %d", result);
    } else if (way == 1) {
        status = coll_allreduce(bench->group, data, bench->numel, GD_DTYPE_F32, COLL_OP_SUM);
    } else {
        status = coll_tree_push(tree);
        status = status == ST_OK ? coll_tree_finish(tree, &data) : status;
    }
    double ms = (double)(clock_now_ns() - start_ns) / (double)CLOCK_NS_PER_MS;
    if (status == ST_OK) {
        status = coll_allreduce(bench->group, &ms, 1, GD_DTYPE_F64, COLL_OP_MAX);
    }
    for (int64_t i = 0; status == ST_OK && i < bench->numel; i += 997) {
        if (data[i] != (float)coll_group_size(bench->group)) {
            status = ST_FAIL(ST_ERR_COMM, "%s: element %lld is wrong", way_names[way], (long long)i);
        }
    }
    *ms_p = ms;
    return status;
}

static status_t size_run(bench_t *bench, int64_t size_bytes, int n_rounds)
{
    static double ms[N_WAYS][MAX_ROUNDS];
    status_t status = bench_open(bench, size_bytes / (int64_t)sizeof(float));
    for (int round = -2; status == ST_OK && round < n_rounds; round++) { /* two to warm up */
        for (int way = 0; status == ST_OK && way < N_WAYS; way++) {
            status = way_run(bench, way, &ms[way][round > 0 ? round : 0]);
        }
    }
    bool is_shared = status == ST_OK && coll_tree_is_shared(bench->tree[0]);
    bench_close(bench);
    if (status != ST_OK) {
        return status;
    }
    double median[N_WAYS];
    for (int way = 0; way < N_WAYS; way++) {
        qsort(ms[way], (size_t)n_rounds, sizeof(double), double_compare);
        median[way] = ms[way][n_rounds / 2];
    }
    if (coll_group_rank(bench->group) == 0) {
        (void)printf("%9.1f", (double)size_bytes / 1e6);
        for (int way = 0; way < N_WAYS; way++) {
            (void)printf(" %9.3f", median[way]);
        }
        for (int way = 1; way < N_WAYS; way++) {
            (void)printf(" %9.2f", median[way] / median[0]);
        }
        (void)printf("%s\n", is_shared ? "" : "  (no shared memory)");
    }
    return ST_OK;
}

int main(int argc, char **argv)
{
    static const int64_t sizes[] = {1 << 20, 3200000, 4 << 20, 16 << 20, 64 << 20};
    int n_rounds = argc > 1 ? atoi(argv[1]) : 30;
    n_rounds = n_rounds < 1 ? 1 : n_rounds > MAX_ROUNDS ? MAX_ROUNDS : n_rounds;
    bench_t bench = {0};
    status_t status = coll_mpi_open(&bench.group);
    if (status == ST_OK && strcmp(coll_group_backend(bench.group), "mpi") != 0) {
        coll_group_close(bench.group);
        status = ST_FAIL(ST_ERR_STATE, "start me with mpirun");
        bench.group = NULL;
    }
    if (status == ST_OK && coll_group_rank(bench.group) == 0) {
        (void)printf("%d ranks, median of %d, milliseconds; then ratios to mpi\n%9s", coll_group_size(bench.group),
                     n_rounds, "MB");
        for (int way = 0; way < N_WAYS * 2 - 1; way++) {
            (void)printf(" %9s", way_names[way < N_WAYS ? way : way - N_WAYS + 1]);
        }
        (void)printf("\n");
    }
    for (size_t i = 0; status == ST_OK && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        status = size_run(&bench, sizes[i], n_rounds);
    }
    if (status != ST_OK) {
        (void)fprintf(stderr, "bench-allreduce: %s: %s\n", status_text(status), status_message());
        if (bench.group != NULL) {
            coll_group_abort(bench.group, 1);
        }
        return 1;
    }
    coll_group_close(bench.group);
    return 0;
}
