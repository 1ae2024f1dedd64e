/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group: collectives over a fixed set of ranks 0 … size-1. Backends: loopback (ranks are threads of this process) and
 * MPI (ranks are processes; collectives/mpi.c is the only user of mpi.h).
 *
 * Owned handle. All ranks call the same collectives in the same order, from one thread each. Buffers are plain host
 * memory. Errors: ST_ERR_COMM, ST_ERR_PEER (a rank is gone), ST_ERR_TIMEOUT; after one the group is broken.
 */
#ifndef GRADD_COLLECTIVES_GROUP_H
#define GRADD_COLLECTIVES_GROUP_H

#include <stdint.h>

#include "base/status.h"
#include "gradd/view.h"

typedef struct coll_group coll_group_t;
typedef enum coll_op { COLL_OP_SUM, COLL_OP_MIN, COLL_OP_MAX, COLL_OP_COUNT } coll_op_t;

/* n_ranks handles, group_p[rank], to be used by one thread each and closed by each. */
status_t coll_loopback_open(int n_ranks, coll_group_t **group_p);
/* Initialises MPI (once a process); rank and size come from the launcher; without one: a world of one, with no MPI
 * behind it (backend "loopback"). Needs to be called on the thread that uses it. close finalises MPI. */
status_t coll_mpi_open(coll_group_t **group_p);
/* NULL is fine. Loopback: ranks that wait for this one get ST_ERR_PEER. MPI: finalises, which waits for all ranks;
 * after a failed call it doesn't (the rank then ends with a non-zero exit code, and the launcher ends the others). */
void coll_group_close(coll_group_t *group);
/* Ends all ranks of the job at once with this exit code; does not return for MPI. For a rank that cannot go on.
 * Loopback: breaks the group (ST_ERR_PEER for all others) and returns. */
void coll_group_abort(coll_group_t *group, int exit_code);
/* How long a call may wait for the other ranks before it gives ST_ERR_TIMEOUT naming them; 0: forever. Loopback only,
 * default 10 minutes: MPI has no deadlines (there a lost rank ends the job through the launcher, and a stuck one is
 * found by its missing heartbeats). */
void coll_group_set_timeout(coll_group_t *group, int64_t timeout_ms);

int coll_group_rank(const coll_group_t *group);
int coll_group_size(const coll_group_t *group);
const char *coll_group_backend(const coll_group_t *group); /* "loopback", "mpi" */

/* In place over n elements of dtype (f32, f64, i64, i32, u8). The order of additions is the backend's own: exact for
 * integers; for floats that must not depend on the layout use coll_tree. */
status_t coll_allreduce(coll_group_t *group, void *buffer, int64_t n, gd_dtype_t dtype, coll_op_t op);
/* buffer[size·n] reduced; out[n] gets this rank's part. */
status_t coll_reduce_scatter(coll_group_t *group, const void *buffer, void *out, int64_t n, gd_dtype_t dtype,
                             coll_op_t op);
/* out[size·size_bytes]: rank r's `size_bytes` of in at r·size_bytes; in may be out's own part. */
status_t coll_allgather(coll_group_t *group, const void *in, int64_t size_bytes, void *out);
/* Parts of different sizes, bytes and displacements per rank. */
status_t coll_allgatherv(coll_group_t *group, const void *in, int64_t size_bytes, void *out, const int64_t *sizes,
                         const int64_t *offsets);
status_t coll_alltoallv(coll_group_t *group, const void *in, const int64_t *in_sizes, const int64_t *in_offsets,
                        void *out, const int64_t *out_sizes, const int64_t *out_offsets);
status_t coll_broadcast(coll_group_t *group, void *buffer, int64_t size_bytes, int root);
status_t coll_barrier(coll_group_t *group);
/* Blocking; matched by (peer, tag), tag 0 … 32767. */
status_t coll_send(coll_group_t *group, const void *buffer, int64_t size_bytes, int peer, int tag);
status_t coll_recv(coll_group_t *group, void *buffer, int64_t size_bytes, int peer, int tag);

/* Rank's contiguous share of n_microbatches: [*first_p, *first_p + *n_p); sizes differ by at most one. */
void coll_share(int64_t n_microbatches, int size, int rank, int64_t *first_p, int64_t *n_p);

#endif
