/* SPDX-License-Identifier: Apache-2.0 */
/* group: checks the arguments of a collective and hands it to the group's backend. */
#include "collectives/group.h"

#include <string.h>

#include "collectives/backend.h"

enum { MAX_TAG = 32767 };

static const int64_t MAX_BYTES = INT64_C(1) << 46;

static status_t group_check(const coll_group_t *group, const char *call)
{
    if (group->is_broken) {
        return ST_FAIL(ST_ERR_COMM, "%s on rank %d: the group is broken by an earlier failure", call, group->rank);
    }
    return ST_OK;
}

static status_t bytes_check(const char *call, const void *buffer, int64_t size_bytes)
{
    if (size_bytes < 0 || size_bytes > MAX_BYTES) {
        return ST_FAIL(ST_ERR_INVAL, "%s: %lld bytes", call, (long long)size_bytes);
    }
    if (buffer == NULL && size_bytes > 0) {
        return ST_FAIL(ST_ERR_INVAL, "%s: no buffer", call);
    }
    return ST_OK;
}

static status_t reduction_check(const coll_group_t *group, const char *call, const void *buffer, int64_t n,
                                gd_dtype_t dtype, coll_op_t op)
{
    int64_t element_bytes = coll_dtype_size(dtype);
    if (element_bytes == 0) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: dtype %d can't be reduced (f32, f64, i64, i32 and u8 can)", call, (int)dtype);
    }
    if ((int)op < 0 || op >= COLL_OP_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%s: op %d", call, (int)op);
    }
    if (n < 0 || n > MAX_BYTES / element_bytes) {
        return ST_FAIL(ST_ERR_INVAL, "%s: %lld elements", call, (long long)n);
    }
    status_t status = bytes_check(call, buffer, n * element_bytes);
    return status != ST_OK ? status : group_check(group, call);
}

static status_t parts_check(const coll_group_t *group, const char *call, const void *buffer, const int64_t *sizes,
                            const int64_t *offsets)
{
    for (int r = 0; r < group->size; r++) {
        status_t status = bytes_check(call, buffer, sizes[r]);
        if (status != ST_OK) {
            return status;
        }
        if (offsets[r] < 0 || offsets[r] > MAX_BYTES) {
            return ST_FAIL(ST_ERR_INVAL, "%s: part of rank %d at offset %lld", call, r, (long long)offsets[r]);
        }
    }
    return ST_OK;
}

static status_t peer_check(const coll_group_t *group, const char *call, int peer, int tag)
{
    if (peer < 0 || peer >= group->size || peer == group->rank) {
        return ST_FAIL(ST_ERR_INVAL, "%s on rank %d of %d: peer %d", call, group->rank, group->size, peer);
    }
    if (tag < 0 || tag > MAX_TAG) {
        return ST_FAIL(ST_ERR_INVAL, "%s: tag %d is not in 0 … %d", call, tag, (int)MAX_TAG);
    }
    return group_check(group, call);
}

/* What failed on the wire leaves the ranks out of step: no later call may pretend otherwise. */
static status_t group_result(coll_group_t *group, status_t status)
{
    if (status != ST_OK) {
        group->is_broken = true;
    }
    return status;
}

void coll_group_close(coll_group_t *group)
{
    if (group != NULL) {
        group->ops->close(group);
    }
}

void coll_group_abort(coll_group_t *group, int exit_code)
{
    group->is_broken = true;
    group->ops->abort(group, exit_code);
}

void coll_group_set_timeout(coll_group_t *group, int64_t timeout_ms)
{
    group->timeout_ms = timeout_ms > 0 ? timeout_ms : 0;
}

int coll_group_rank(const coll_group_t *group)
{
    return group->rank;
}

int coll_group_size(const coll_group_t *group)
{
    return group->size;
}

const char *coll_group_backend(const coll_group_t *group)
{
    return group->ops->name;
}

status_t coll_allreduce(coll_group_t *group, void *buffer, int64_t n, gd_dtype_t dtype, coll_op_t op)
{
    status_t status = reduction_check(group, "allreduce", buffer, n, dtype, op);
    if (status != ST_OK) {
        return status;
    }
    return group_result(group, group->ops->allreduce(group, buffer, n, dtype, op));
}

status_t coll_reduce_scatter(coll_group_t *group, const void *buffer, void *out, int64_t n, gd_dtype_t dtype,
                             coll_op_t op)
{
    status_t status = reduction_check(group, "reduce_scatter", buffer, n, dtype, op);
    if (status != ST_OK) {
        return status;
    }
    if (out == NULL && n > 0) {
        return ST_FAIL(ST_ERR_INVAL, "reduce_scatter: no output buffer");
    }
    return group_result(group, group->ops->reduce_scatter(group, buffer, out, n, dtype, op));
}

status_t coll_allgather(coll_group_t *group, const void *in, int64_t size_bytes, void *out)
{
    status_t status = bytes_check("allgather", in, size_bytes);
    if (status == ST_OK) {
        status = bytes_check("allgather", out, size_bytes);
    }
    if (status == ST_OK) {
        status = group_check(group, "allgather");
    }
    if (status != ST_OK) {
        return status;
    }
    if (group->ops->allgather != NULL) {
        return group_result(group, group->ops->allgather(group, in, size_bytes, out));
    }
    int64_t *sizes = group->sizes;
    int64_t *offsets = group->sizes + group->size;
    for (int r = 0; r < group->size; r++) {
        sizes[r] = size_bytes;
        offsets[r] = size_bytes * r;
    }
    return group_result(group, group->ops->allgatherv(group, in, size_bytes, out, sizes, offsets));
}

status_t coll_allgatherv(coll_group_t *group, const void *in, int64_t size_bytes, void *out, const int64_t *sizes,
                         const int64_t *offsets)
{
    status_t status = bytes_check("allgatherv", in, size_bytes);
    if (status == ST_OK) {
        status = parts_check(group, "allgatherv", out, sizes, offsets);
    }
    if (status == ST_OK) {
        status = group_check(group, "allgatherv");
    }
    if (status != ST_OK) {
        return status;
    }
    if (sizes[group->rank] != size_bytes) {
        return ST_FAIL(ST_ERR_INVAL, "allgatherv on rank %d: gives %lld bytes and expects %lld of itself", group->rank,
                       (long long)size_bytes, (long long)sizes[group->rank]);
    }
    return group_result(group, group->ops->allgatherv(group, in, size_bytes, out, sizes, offsets));
}

status_t coll_alltoallv(coll_group_t *group, const void *in, const int64_t *in_sizes, const int64_t *in_offsets,
                        void *out, const int64_t *out_sizes, const int64_t *out_offsets)
{
    status_t status = parts_check(group, "alltoallv", in, in_sizes, in_offsets);
    if (status == ST_OK) {
        status = parts_check(group, "alltoallv", out, out_sizes, out_offsets);
    }
    if (status == ST_OK) {
        status = group_check(group, "alltoallv");
    }
    if (status != ST_OK) {
        return status;
    }
    if (in_sizes[group->rank] != out_sizes[group->rank]) {
        return ST_FAIL(ST_ERR_INVAL, "alltoallv on rank %d: gives itself %lld bytes and expects %lld", group->rank,
                       (long long)in_sizes[group->rank], (long long)out_sizes[group->rank]);
    }
    return group_result(group, group->ops->alltoallv(group, in, in_sizes, in_offsets, out, out_sizes, out_offsets));
}

status_t coll_broadcast(coll_group_t *group, void *buffer, int64_t size_bytes, int root)
{
    status_t status = bytes_check("broadcast", buffer, size_bytes);
    if (status == ST_OK && (root < 0 || root >= group->size)) {
        status = ST_FAIL(ST_ERR_INVAL, "broadcast: root %d of %d ranks", root, group->size);
    }
    if (status == ST_OK) {
        status = group_check(group, "broadcast");
    }
    if (status != ST_OK) {
        return status;
    }
    return group_result(group, group->ops->broadcast(group, buffer, size_bytes, root));
}

status_t coll_barrier(coll_group_t *group)
{
    status_t status = group_check(group, "barrier");
    return status != ST_OK ? status : group_result(group, group->ops->barrier(group));
}

status_t coll_send(coll_group_t *group, const void *buffer, int64_t size_bytes, int peer, int tag)
{
    status_t status = bytes_check("send", buffer, size_bytes);
    if (status == ST_OK) {
        status = peer_check(group, "send", peer, tag);
    }
    return status != ST_OK ? status : group_result(group, group->ops->send(group, buffer, size_bytes, peer, tag));
}

status_t coll_recv(coll_group_t *group, void *buffer, int64_t size_bytes, int peer, int tag)
{
    status_t status = bytes_check("recv", buffer, size_bytes);
    if (status == ST_OK) {
        status = peer_check(group, "recv", peer, tag);
    }
    return status != ST_OK ? status : group_result(group, group->ops->recv(group, buffer, size_bytes, peer, tag));
}
