/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend: what a backend of collectives/group.h implements. Internal to collectives/.
 *
 * group.c checks the arguments (pointers, dtype, ranks, tags, sizes without overflow), so a backend gets only calls
 * that are well-formed on their own; whether the ranks agree with one another is the backend's to see.
 */
#ifndef GRADD_COLLECTIVES_BACKEND_H
#define GRADD_COLLECTIVES_BACKEND_H

#include <stdbool.h>

#include "collectives/group.h"

typedef struct coll_group_ops {
    const char *name;
    void (*close)(coll_group_t *group);
    void (*abort)(coll_group_t *group, int exit_code);
    status_t (*allreduce)(coll_group_t *group, void *buffer, int64_t n, gd_dtype_t dtype, coll_op_t op);
    status_t (*reduce_scatter)(coll_group_t *group, const void *buffer, void *out, int64_t n, gd_dtype_t dtype,
                               coll_op_t op);
    status_t (*allgatherv)(coll_group_t *group, const void *in, int64_t size_bytes, void *out, const int64_t *sizes,
                           const int64_t *offsets);
    /* Optional; else allgatherv serves. */
    status_t (*allgather)(coll_group_t *group, const void *in, int64_t size_bytes, void *out);
    status_t (*alltoallv)(coll_group_t *group, const void *in, const int64_t *in_sizes, const int64_t *in_offsets,
                          void *out, const int64_t *out_sizes, const int64_t *out_offsets);
    status_t (*broadcast)(coll_group_t *group, void *buffer, int64_t size_bytes, int root);
    status_t (*barrier)(coll_group_t *group);
    status_t (*send)(coll_group_t *group, const void *buffer, int64_t size_bytes, int peer, int tag);
    status_t (*recv)(coll_group_t *group, void *buffer, int64_t size_bytes, int peer, int tag);
} coll_group_ops_t;

/* First member of a backend's own group. */
struct coll_group {
    const coll_group_ops_t *ops;
    int rank;
    int size;
    bool is_broken;     /* a call failed: every later one gives ST_ERR_COMM */
    int64_t timeout_ms; /* 0: none */
    int64_t *sizes;     /* [2·size] scratch for allgather through allgatherv; sizes, then offsets */
};

/* Bytes per element of what a reduction takes (f32 f64 i64 i32 u8), 0 for other dtypes. */
int64_t coll_dtype_size(gd_dtype_t dtype);

/* acc[n] = acc op x. */
void coll_reduce(void *acc, const void *x, int64_t n, gd_dtype_t dtype, coll_op_t op);

/* The longest message that mpi.c hands to MPI in one piece, 1 GiB unless a test makes it small. */
void coll_mpi_set_chunk(int64_t size_bytes);

/*
 * Memory that all ranks of a group on one host see: region[r] is rank r's, mapped here.
 * Collective. *shared_p is NULL (and the status ST_OK) on all ranks when one of them can't: other host, no memfd, out
 * of shared memory; the caller then sends messages. Ordering is the caller's (coll_barrier).
 */
typedef struct coll_shared {
    int size;
    int64_t size_bytes;
    void **region; /* [size], page-aligned */
} coll_shared_t;
/* size_bytes: this rank's region, the same on all ranks. */
status_t coll_shared_open(coll_group_t *group, int64_t size_bytes, coll_shared_t **shared_p);
void coll_shared_close(coll_shared_t *shared);

#endif
