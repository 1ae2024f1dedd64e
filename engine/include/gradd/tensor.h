/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor: strided n-dimensional arrays over counted storage.
 *
 * Ownership: gd_tensor_t is counted. Functions borrow their arguments and hand a new reference out through the last
 * argument, which is set only on success. gd_tensor_unref takes NULL and returns NULL: t = gd_tensor_unref(t).
 * Threads: a tensor may be read from several threads; it is changed and its graph is built on one.
 */
#ifndef GRADD_TENSOR_H
#define GRADD_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/strbuf.h"
#include "gradd/view.h"

typedef struct gd_tensor gd_tensor_t;

typedef enum gd_device { GD_DEVICE_CPU, GD_DEVICE_CUDA, GD_DEVICE_COUNT } gd_device_t;

/* "cpu", "cuda"; NULL when out of range. */
const char *gd_device_name(gd_device_t device);
/* "f32", … ; NULL when out of range. */
const char *gd_dtype_name(gd_dtype_t dtype);
size_t gd_dtype_size(gd_dtype_t dtype);
bool gd_dtype_is_float(gd_dtype_t dtype);
typedef enum gd_dtype_category { GD_CATEGORY_BOOL, GD_CATEGORY_INT, GD_CATEGORY_FLOAT } gd_dtype_category_t;
gd_dtype_category_t gd_dtype_category(gd_dtype_t dtype);
/*
 * What two dtypes have in common, as in PyTorch: the one of the higher category (bool < integers < floats); of two
 * integers the wider (u8 with i32: i32); of two floats the wider, bf16 with f16 being f32.
 */
gd_dtype_t gd_dtype_promote(gd_dtype_t a, gd_dtype_t b);
/*
 * The common dtype of several operands, as in torch.result_type: 0-d ones count only where their category is higher
 * than that of all others. So f32 [3] with f64 [] is f32, i32 [3] with f64 [] is f64, u8 [3] with i64 [] is u8.
 */
gd_dtype_t gd_dtype_result(const gd_dtype_t *dtypes, const int *n_dims, int n);
/* ST_ERR_NOT_FOUND for an unknown name. */
status_t gd_dtype_from_name(const char *name, gd_dtype_t *dtype_p);

/* Contiguous (row-major) tensors; memory comes from the current context's pool, 64-byte aligned.
 * shape[n_dims], sizes ≥ 0 (a zero-size dimension is allowed), n_dims 0 is a scalar. ST_ERR_DTYPE: no dtype;
 * ST_ERR_RANGE: a negative size, more than GD_MAX_DIMS dimensions, more bytes than can be counted; ST_ERR_NOMEM. */
status_t gd_tensor_new(gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p); /* uninitialised */
status_t gd_tensor_zeros(gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p);
status_t gd_tensor_full(gd_dtype_t dtype, int n_dims, const int64_t *shape, double value, gd_tensor_t **t_p);
/* Copies numel elements of dtype from data (row-major). */
status_t gd_tensor_from_data(gd_dtype_t dtype, int n_dims, const int64_t *shape, const void *data, gd_tensor_t **t_p);
/* Uses data in place; release(arg) is called when the storage dies (NULL: the caller keeps data alive). */
status_t gd_tensor_wrap(gd_dtype_t dtype, int n_dims, const int64_t *shape, void *data, void (*release)(void *arg),
                        void *arg, gd_tensor_t **t_p);
status_t gd_tensor_scalar(gd_dtype_t dtype, double value, gd_tensor_t **t_p); /* 0-d */
/* A view of base's storage from element offset on, without graph: for flat parameter buffers. Contiguous. ST_ERR_RANGE:
 * the storage ends before it. */
status_t gd_tensor_alias(gd_tensor_t *base, int64_t offset, int n_dims, const int64_t *shape, gd_tensor_t **t_p);

gd_tensor_t *gd_tensor_ref(gd_tensor_t *t);
gd_tensor_t *gd_tensor_unref(gd_tensor_t *t);

int gd_tensor_n_dims(const gd_tensor_t *t);
const int64_t *gd_tensor_shape(const gd_tensor_t *t);
const int64_t *gd_tensor_strides(const gd_tensor_t *t); /* in elements */
int64_t gd_tensor_dim(const gd_tensor_t *t, int axis);  /* axis < 0: counted from the end; -1: there is no such axis */
int64_t gd_tensor_numel(const gd_tensor_t *t);
gd_dtype_t gd_tensor_dtype(const gd_tensor_t *t);
gd_device_t gd_tensor_device(const gd_tensor_t *t);
bool gd_tensor_is_contiguous(const gd_tensor_t *t);
/* Address of the first element. */
void *gd_tensor_data(const gd_tensor_t *t);
gd_view_t gd_tensor_view(const gd_tensor_t *t);
/* Number of in-place changes so far of the storage behind t. */
uint32_t gd_tensor_version(const gd_tensor_t *t);

/* x on the device and in the dtype: x itself where it is that, else a copy; part of a graph. ST_ERR_UNSUPPORTED where
 * the build hasn't got the device, ST_ERR_INVAL: no device. */
status_t gd_tensor_to(gd_tensor_t *x, gd_device_t device, gd_dtype_t dtype, gd_tensor_t **y_p);
/* Value of a one-element tensor as double. ST_ERR_SHAPE otherwise. */
status_t gd_tensor_item(const gd_tensor_t *t, double *value_p);
/* dst[...] = src[...] with broadcasting and dtype conversion; no graph; counts as an in-place change of dst.
 * ST_ERR_SHAPE: src doesn't broadcast to dst. */
status_t gd_tensor_copy(gd_tensor_t *dst, const gd_tensor_t *src);
/* Every element is the value in t's dtype; no graph; an in-place change. */
status_t gd_tensor_fill(gd_tensor_t *t, double value);
/* Appends "[2, 3]" / the values like torch.Tensor prints them, summarised beyond 1,000 elements. */
void gd_tensor_format_shape(const gd_tensor_t *t, strbuf_t *text);
void gd_tensor_format(const gd_tensor_t *t, strbuf_t *text);

/* Live tensors of all threads, for leak checks in tests. */
int64_t gd_tensor_live_count(void);

#endif
