/* SPDX-License-Identifier: Apache-2.0 */
/* reference_nn: references of the neural-network ops, for the table in reference.c. */
#ifndef GRADD_TESTS_ENGINE_REFERENCE_NN_H
#define GRADD_TESTS_ENGINE_REFERENCE_NN_H

#include "tests/engine/reference.h"

void ref_layer_norm(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_layer_norm_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_batch_norm(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_batch_norm_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_conv2d(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_conv2d_backward_input(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_conv2d_backward_weight(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_max_pool2d(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_max_pool2d_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_avg_pool2d(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_avg_pool2d_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_attention(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_attention_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_embedding(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_embedding_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_cross_entropy(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_cross_entropy_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_cross_entropy_slope(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_mse(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_mse_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);

#endif
