/* SPDX-License-Identifier: Apache-2.0 */
/* reference_sequence: references of the ops for sequences, for the table in reference.c. */
#ifndef GRADD_TESTS_ENGINE_REFERENCE_SEQUENCE_H
#define GRADD_TESTS_ENGINE_REFERENCE_SEQUENCE_H

#include "tests/engine/reference.h"

void ref_rnn(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
void ref_rnn_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);

#endif
