/* SPDX-License-Identifier: Apache-2.0 */
/* reference: what each op computes, as plain loops over float64. A new op adds its function and its line in the table.
 */
#ifndef GRADD_TESTS_ENGINE_REFERENCE_H
#define GRADD_TESTS_ENGINE_REFERENCE_H

#include "gradd/op.h"

/* Dense, row-major. data NULL: an absent optional input. */
typedef struct ref_tensor {
    gd_dtype_t dtype;
    int n_dims;
    int64_t shape[GD_MAX_DIMS];
    int64_t numel;
    double *data;
} ref_tensor_t;

/* out[n_out of the row] have their shapes already and are full of NaN; auxiliary outputs left so aren't compared. */
typedef void (*reference_func_t)(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);

extern const reference_func_t reference_table[GD_OP_COUNT];

/* Element of t at index[n_dims] of a shape with n_dims dimensions that t is broadcast to. */
double ref_at(const ref_tensor_t *t, int n_dims, const int64_t *index);
/* value as dtype keeps it: bool asks for ≠ 0, u8 wraps. */
double ref_as(gd_dtype_t dtype, double value);
/* Index of the flat element. */
void ref_index(const ref_tensor_t *t, int64_t flat, int64_t *index_p);

#endif
