/* SPDX-License-Identifier: Apache-2.0 */
/* reference_loss: references of the losses. */
#ifndef GRADD_TESTS_ENGINE_REFERENCE_LOSS_H
#define GRADD_TESTS_ENGINE_REFERENCE_LOSS_H

#include "tests/engine/reference.h"

void ref_pointwise_loss(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_pointwise_loss_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_class_loss(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_class_loss_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_ctc(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_ctc_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);

#endif
