/* SPDX-License-Identifier: Apache-2.0 */
/* reference_sequence: references of the ops for sequences, for the table in reference.c. */
#ifndef GRADD_TESTS_ENGINE_REFERENCE_SEQUENCE_H
#define GRADD_TESTS_ENGINE_REFERENCE_SEQUENCE_H

#include "tests/engine/reference.h"

/* X(enum, name) */
#define REFERENCE_SEQUENCE_LIST(X)                                                                                     \
    X(RNN, rnn)                                                                                                        \
    X(RNN_BACKWARD, rnn_backward)                                                                                      \
    X(SDPA, sdpa)                                                                                                      \
    X(SDPA_BACKWARD, sdpa_backward)                                                                                    \
    X(ROPE, rope)                                                                                                      \
    X(GATED, gated)                                                                                                    \
    X(GATED_BACKWARD, gated_backward)                                                                                  \
    X(RRELU, rrelu)                                                                                                    \
    X(RRELU_BACKWARD, rrelu_backward)

#define DECLARE(enum_x, name_x) void ref_##name_x(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
REFERENCE_SEQUENCE_LIST(DECLARE)
#undef DECLARE

#endif
