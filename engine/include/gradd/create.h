/* SPDX-License-Identifier: Apache-2.0 */
/*
 * create: tensors from rules and from random numbers. Part of gradd/ops.h.
 *
 * Random tensors are a pure function of the key, the shape's order of elements and the dtype: element i has the same
 * number wherever and whenever it is drawn. Take a key by gd_rng_key(layer, purpose), and another one (another layer or
 * step) for the next tensor. New references; ST_ERR_RANGE, ST_ERR_DTYPE name the function.
 */
#ifndef GRADD_CREATE_H
#define GRADD_CREATE_H

#include "gradd/rng.h"
#include "gradd/tensor.h"

status_t gd_ones(gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p);
/* start, start + step, … up to and without end; step may be negative. */
status_t gd_arange(gd_dtype_t dtype, double start, double end, double step, gd_tensor_t **t_p);
/* n numbers from start to end, both in it. */
status_t gd_linspace(gd_dtype_t dtype, double start, double end, int64_t n, gd_tensor_t **t_p);
/* 1 on the diagonal */
status_t gd_eye(gd_dtype_t dtype, int64_t rows, int64_t columns, gd_tensor_t **t_p);

/* x's shape and dtype, contiguous: uninitialised, 0, 1, a value. */
status_t gd_empty_like(const gd_tensor_t *x, gd_tensor_t **t_p);
status_t gd_zeros_like(const gd_tensor_t *x, gd_tensor_t **t_p);
status_t gd_ones_like(const gd_tensor_t *x, gd_tensor_t **t_p);
status_t gd_full_like(const gd_tensor_t *x, double value, gd_tensor_t **t_p);

/* Floats: uniform in [0, 1); normal with mean 0 and variance 1. */
status_t gd_rand(const gd_rng_key_t *key, gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p);
status_t gd_randn(const gd_rng_key_t *key, gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p);
/* Uniform integers of [lo, hi), in any dtype. */
status_t gd_randint(const gd_rng_key_t *key, int64_t lo, int64_t hi, gd_dtype_t dtype, int n_dims, const int64_t *shape,
                    gd_tensor_t **t_p);
/* 0 … n-1 in random order, i64. */
status_t gd_randperm(const gd_rng_key_t *key, int64_t n, gd_tensor_t **t_p);
/* 1 with the probability p[i], else 0; of p's dtype (a float). ST_ERR_DATA: a p outside [0, 1]. */
status_t gd_bernoulli(const gd_rng_key_t *key, const gd_tensor_t *p, gd_tensor_t **t_p);
/* weights[K] or [N, K] (floats ≥ 0) → [n_samples] or [N, n_samples] of i64: indices drawn with these weights.
 * ST_ERR_DATA: a weight that is negative or not finite, weights that are all 0, or too few that aren't. */
status_t gd_multinomial(const gd_rng_key_t *key, const gd_tensor_t *weights, int64_t n_samples, bool with_replacement,
                        gd_tensor_t **t_p);

#endif
