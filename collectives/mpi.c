/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mpi: ranks are processes started by mpirun or srun. The only file that includes mpi.h.
 *
 * MPI counts are int, so long buffers go in pieces. Everything that moves parts of different sizes is pairwise
 * exchange in pieces of at most chunk_bytes: no count, displacement or piece can overflow.
 */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "collectives/backend.h"

enum { TAG_EXCHANGE = 0 };

/* An all-reduce goes in pieces of this size: with single-copy shared memory a long buffer is faster that way. */
static const int64_t REDUCE_PIECE_BYTES = INT64_C(8) << 20;

static int64_t chunk_bytes = INT64_C(1) << 30;

typedef struct mpi_group {
    coll_group_t base;
    MPI_Comm comm;
    MPI_Comm exchange; /* the pieces of pair_exchange: never matched with a coll_send */
} mpi_group_t;

static MPI_Comm comm_of(const coll_group_t *group)
{
    return ((const mpi_group_t *)group)->comm;
}

void coll_mpi_set_chunk(int64_t size_bytes)
{
    chunk_bytes = size_bytes;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static status_t mpi_check(const coll_group_t *group, const char *call, int result)
{
    if (result == MPI_SUCCESS) {
        return ST_OK;
    }
    char text[MPI_MAX_ERROR_STRING] = "unknown MPI error";
    int length = 0;
    (void)MPI_Error_string(result, text, &length);
    return ST_FAIL(ST_ERR_COMM, "%s on rank %d of %d: %s", call, group->rank, group->size, text);
}

static MPI_Datatype mpi_dtype(gd_dtype_t dtype)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        return MPI_FLOAT;
    case GD_DTYPE_F64:
        return MPI_DOUBLE;
    case GD_DTYPE_I64:
        return MPI_INT64_T;
    case GD_DTYPE_I32:
        return MPI_INT32_T;
    default:
        return MPI_UINT8_T;
    }
}

static MPI_Op mpi_op(coll_op_t op)
{
    return op == COLL_OP_SUM ? MPI_SUM : op == COLL_OP_MIN ? MPI_MIN : MPI_MAX;
}

static status_t mpi_allreduce(coll_group_t *group, void *buffer, int64_t n, gd_dtype_t dtype, coll_op_t op)
{
    int64_t element_bytes = coll_dtype_size(dtype);
    int64_t piece = min64(chunk_bytes, REDUCE_PIECE_BYTES) / element_bytes;
    piece = piece > 0 ? piece : 1;
    for (int64_t i = 0; i < n; i += piece) {
        int result = MPI_Allreduce(MPI_IN_PLACE, (char *)buffer + i * element_bytes, (int)min64(piece, n - i),
                                   mpi_dtype(dtype), mpi_op(op), comm_of(group));
        if (result != MPI_SUCCESS) {
            return mpi_check(group, "allreduce", result);
        }
    }
    return ST_OK;
}

static status_t mpi_reduce_scatter(coll_group_t *group, const void *buffer, void *out, int64_t n, gd_dtype_t dtype,
                                   coll_op_t op)
{
    int64_t element_bytes = coll_dtype_size(dtype);
    if (n * element_bytes <= chunk_bytes / group->size) {
        return mpi_check(group, "reduce_scatter",
                         MPI_Reduce_scatter_block(buffer, out, (int)n, mpi_dtype(dtype), mpi_op(op), comm_of(group)));
    }
    int64_t piece = chunk_bytes / element_bytes > 0 ? chunk_bytes / element_bytes : 1;
    for (int root = 0; root < group->size; root++) {
        for (int64_t i = 0; i < n; i += piece) {
            const char *from = (const char *)buffer + (root * n + i) * element_bytes;
            char *to = root == group->rank ? (char *)out + i * element_bytes : NULL;
            int result =
                MPI_Reduce(from, to, (int)min64(piece, n - i), mpi_dtype(dtype), mpi_op(op), root, comm_of(group));
            if (result != MPI_SUCCESS) {
                return mpi_check(group, "reduce_scatter", result);
            }
        }
    }
    return ST_OK;
}

/* Sends `size_bytes` to one rank while receiving `from_bytes` of another, in pieces. Both sides of a pair post exactly
 * the pieces that the size has; piece k of anyone waits only for pieces below k of others, so it always ends. */
static status_t pair_exchange(coll_group_t *group, const char *call, const char *in, int64_t size_bytes, int to,
                              char *out, int64_t from_bytes, int from)
{
    MPI_Comm comm = ((const mpi_group_t *)group)->exchange;
    int64_t sent = 0;
    int64_t received = 0;
    while (sent < size_bytes || received < from_bytes) {
        MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
        MPI_Status statuses[2];
        int64_t n_in = min64(chunk_bytes, from_bytes - received);
        int64_t n_out = min64(chunk_bytes, size_bytes - sent);
        int result = MPI_SUCCESS;
        if (n_in > 0) {
            result = MPI_Irecv(out + received, (int)n_in, MPI_BYTE, from, TAG_EXCHANGE, comm, &requests[0]);
        }
        if (result == MPI_SUCCESS && n_out > 0) {
            result = MPI_Isend(in + sent, (int)n_out, MPI_BYTE, to, TAG_EXCHANGE, comm, &requests[1]);
        }
        if (result == MPI_SUCCESS) {
            result = MPI_Waitall(2, requests, statuses);
            for (int i = 0; result == MPI_ERR_IN_STATUS && i < 2; i++) {
                result = statuses[i].MPI_ERROR != MPI_SUCCESS && statuses[i].MPI_ERROR != MPI_ERR_PENDING
                             ? statuses[i].MPI_ERROR
                             : result;
            }
        }
        if (result != MPI_SUCCESS) {
            return mpi_check(group, call, result);
        }
        int count = 0;
        if (n_in > 0 && MPI_Get_count(&statuses[0], MPI_BYTE, &count) == MPI_SUCCESS && count != n_in) {
            return ST_FAIL(ST_ERR_COMM, "%s on rank %d: %d bytes from rank %d, expected %lld", call, group->rank, count,
                           from, (long long)n_in);
        }
        sent += n_out;
        received += n_in;
    }
    return ST_OK;
}

static status_t mpi_alltoallv(coll_group_t *group, const void *in, const int64_t *in_sizes, const int64_t *in_offsets,
                              void *out, const int64_t *out_sizes, const int64_t *out_offsets)
{
    int own = group->rank;
    if (in_sizes[own] > 0) {
        memcpy((char *)out + out_offsets[own], (const char *)in + in_offsets[own], (size_t)in_sizes[own]);
    }
    for (int step = 1; step < group->size; step++) {
        int to = (own + step) % group->size;
        int from = (own + group->size - step) % group->size;
        status_t status =
            pair_exchange(group, "alltoallv", in_sizes[to] > 0 ? (const char *)in + in_offsets[to] : NULL, in_sizes[to],
                          to, out_sizes[from] > 0 ? (char *)out + out_offsets[from] : NULL, out_sizes[from], from);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

static status_t mpi_allgatherv(coll_group_t *group, const void *in, int64_t size_bytes, void *out, const int64_t *sizes,
                               const int64_t *offsets)
{
    int own = group->rank;
    if (size_bytes > 0 && (const char *)in != (char *)out + offsets[own]) {
        memcpy((char *)out + offsets[own], in, (size_t)size_bytes);
    }
    for (int step = 1; step < group->size; step++) {
        int to = (own + step) % group->size;
        int from = (own + group->size - step) % group->size;
        status_t status = pair_exchange(group, "allgatherv", in, size_bytes, to,
                                        sizes[from] > 0 ? (char *)out + offsets[from] : NULL, sizes[from], from);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

static status_t mpi_allgather(coll_group_t *group, const void *in, int64_t size_bytes, void *out)
{
    if (size_bytes <= chunk_bytes / group->size) {
        bool is_in_place = (const char *)in == (char *)out + group->rank * size_bytes;
        return mpi_check(group, "allgather",
                         MPI_Allgather(is_in_place ? MPI_IN_PLACE : in, (int)size_bytes, MPI_BYTE, out, (int)size_bytes,
                                       MPI_BYTE, comm_of(group)));
    }
    int64_t *sizes = group->sizes;
    int64_t *offsets = group->sizes + group->size;
    for (int r = 0; r < group->size; r++) {
        sizes[r] = size_bytes;
        offsets[r] = size_bytes * r;
    }
    return mpi_allgatherv(group, in, size_bytes, out, sizes, offsets);
}

static status_t mpi_broadcast(coll_group_t *group, void *buffer, int64_t size_bytes, int root)
{
    for (int64_t i = 0; i < size_bytes; i += chunk_bytes) {
        int result =
            MPI_Bcast((char *)buffer + i, (int)min64(chunk_bytes, size_bytes - i), MPI_BYTE, root, comm_of(group));
        if (result != MPI_SUCCESS) {
            return mpi_check(group, "broadcast", result);
        }
    }
    return ST_OK;
}

static status_t mpi_barrier(coll_group_t *group)
{
    return mpi_check(group, "barrier", MPI_Barrier(comm_of(group)));
}

static status_t mpi_send(coll_group_t *group, const void *buffer, int64_t size_bytes, int peer, int tag)
{
    int64_t sent = 0;
    do {
        int64_t n = min64(chunk_bytes, size_bytes - sent);
        int result = MPI_Send((const char *)buffer + sent, (int)n, MPI_BYTE, peer, tag, comm_of(group));
        if (result != MPI_SUCCESS) {
            return mpi_check(group, "send", result);
        }
        sent += n;
    } while (sent < size_bytes);
    return ST_OK;
}

static status_t mpi_recv(coll_group_t *group, void *buffer, int64_t size_bytes, int peer, int tag)
{
    int64_t received = 0;
    do {
        int64_t n = min64(chunk_bytes, size_bytes - received);
        MPI_Status status;
        int count = 0;
        int result = MPI_Recv((char *)buffer + received, (int)n, MPI_BYTE, peer, tag, comm_of(group), &status);
        if (result == MPI_SUCCESS) {
            result = MPI_Get_count(&status, MPI_BYTE, &count);
        }
        if (result != MPI_SUCCESS) {
            return mpi_check(group, "recv", result);
        }
        if (count != n) {
            return ST_FAIL(ST_ERR_COMM, "rank %d sends %lld bytes with tag %d to rank %d, which expects %lld", peer,
                           (long long)(received + count), tag, group->rank, (long long)size_bytes);
        }
        received += n;
    } while (received < size_bytes);
    return ST_OK;
}

static void mpi_close(coll_group_t *group)
{
    mpi_group_t *self = (mpi_group_t *)group;
    if (!group->is_broken) {
        (void)MPI_Comm_free(&self->exchange);
        (void)MPI_Comm_free(&self->comm);
        (void)MPI_Finalize();
    }
    mem_free(group->sizes);
    mem_free(group);
}

static void mpi_abort(coll_group_t *group, int exit_code)
{
    (void)MPI_Abort(comm_of(group), exit_code);
    _Exit(exit_code);
}

static const coll_group_ops_t mpi_ops = {
    .name = "mpi",
    .close = mpi_close,
    .abort = mpi_abort,
    .allreduce = mpi_allreduce,
    .reduce_scatter = mpi_reduce_scatter,
    .allgather = mpi_allgather,
    .allgatherv = mpi_allgatherv,
    .alltoallv = mpi_alltoallv,
    .broadcast = mpi_broadcast,
    .barrier = mpi_barrier,
    .send = mpi_send,
    .recv = mpi_recv,
};

/* Whether a launcher (Open MPI, PMIx, Slurm's PMI) started this process. Without one MPI_Init would spawn a daemon of
 * its own to serve a world of one. */
static bool has_launcher(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (getenv(names[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* Parameters of Open MPI, unless the user has set them. */
static void defaults_set(void)
{
    /* A waiting rank gives its core away. Open MPI else spins, and where ranks outnumber free cores one all-reduce of
     * 1 MiB takes 16 ms instead of 0.5. */
    (void)setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    /* All ranks on one host: no search for network hardware, which takes 200 ms of MPI_Init's 250. */
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    const char *local_size = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (size != NULL && local_size != NULL && strcmp(size, local_size) == 0) {
        (void)setenv("OMPI_MCA_pml", "ob1", 0);
    }
}

status_t coll_mpi_open(coll_group_t **group_p)
{
    if (!has_launcher()) {
        return coll_loopback_open(1, group_p);
    }
    int is_initialized = 0;
    (void)MPI_Initialized(&is_initialized);
    if (is_initialized) {
        return ST_FAIL(ST_ERR_STATE, "MPI is initialised already: one MPI group a process");
    }
    mpi_group_t *self = mem_zalloc(sizeof(*self));
    if (self == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "MPI group");
    }
    self->base.ops = &mpi_ops;
    defaults_set();
    int provided = MPI_THREAD_SINGLE;
    status_t status =
        mpi_check(&self->base, "MPI_Init_thread", MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided));
    if (status == ST_OK && provided < MPI_THREAD_FUNNELED) {
        status = ST_FAIL(ST_ERR_UNSUPPORTED, "this MPI has no MPI_THREAD_FUNNELED (it provides level %d)", provided);
    }
    if (status != ST_OK) {
        goto err_free;
    }
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &self->base.rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &self->base.size);
    status = mpi_check(&self->base, "MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &self->comm));
    if (status != ST_OK) {
        goto err_free;
    }
    status = mpi_check(&self->base, "MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &self->exchange));
    if (status != ST_OK) {
        goto err_free;
    }
    (void)MPI_Comm_set_errhandler(self->comm, MPI_ERRORS_RETURN);
    (void)MPI_Comm_set_errhandler(self->exchange, MPI_ERRORS_RETURN);
    self->base.sizes = mem_calloc((size_t)self->base.size * 2, sizeof(int64_t));
    if (self->base.sizes == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "MPI group of %d ranks", self->base.size);
        goto err_free;
    }
    *group_p = &self->base;
    return ST_OK;

err_free:
    mem_free(self);
    return status;
}
