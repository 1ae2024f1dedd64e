/* SPDX-License-Identifier: Apache-2.0 */
/* reference_image: references of the ops for images and general use, for the table in reference.c. */
#ifndef GRADD_TESTS_ENGINE_REFERENCE_IMAGE_H
#define GRADD_TESTS_ENGINE_REFERENCE_IMAGE_H

#include "tests/engine/reference.h"

#define REFERENCE_IMAGE_LIST(X)                                                                                        \
    X(CONV3D, conv3d)                                                                                                  \
    X(CONV3D_BACKWARD_INPUT, conv3d_backward_input)                                                                    \
    X(CONV3D_BACKWARD_WEIGHT, conv3d_backward_weight)                                                                  \
    X(CONV_TRANSPOSE, conv_transpose)                                                                                  \
    X(MAX_POOL, max_pool)                                                                                              \
    X(MAX_POOL_BACKWARD, max_pool_backward)                                                                            \
    X(AVG_POOL, avg_pool)                                                                                              \
    X(AVG_POOL_BACKWARD, avg_pool_backward)                                                                            \
    X(PAD_WITH, pad_with)                                                                                              \
    X(PAD_WITH_BACKWARD, pad_with_backward)                                                                            \
    X(UPSAMPLE, upsample)                                                                                              \
    X(UPSAMPLE_BACKWARD, upsample_backward)                                                                            \
    X(UNFOLD, unfold)                                                                                                  \
    X(FOLD, fold)                                                                                                      \
    X(EMBEDDING_BAG, embedding_bag)                                                                                    \
    X(EMBEDDING_BAG_BACKWARD, embedding_bag_backward)                                                                  \
    X(RMS_NORM, rms_norm)                                                                                              \
    X(RMS_NORM_BACKWARD, rms_norm_backward)                                                                            \
    X(GROUP_NORM, group_norm)                                                                                          \
    X(GROUP_NORM_BACKWARD, group_norm_backward)                                                                        \
    X(LEAKY_RELU, leaky_relu)                                                                                          \
    X(LEAKY_RELU_BACKWARD, leaky_relu_backward)                                                                        \
    X(ELU, elu)                                                                                                        \
    X(ELU_BACKWARD, elu_backward)                                                                                      \
    X(SELU, selu)                                                                                                      \
    X(SELU_BACKWARD, selu_backward)                                                                                    \
    X(CELU, celu)                                                                                                      \
    X(CELU_BACKWARD, celu_backward)                                                                                    \
    X(HARDTANH, hardtanh)                                                                                              \
    X(HARDTANH_BACKWARD, hardtanh_backward)                                                                            \
    X(HARDSIGMOID, hardsigmoid)                                                                                        \
    X(HARDSIGMOID_BACKWARD, hardsigmoid_backward)                                                                      \
    X(HARDSWISH, hardswish)                                                                                            \
    X(HARDSWISH_BACKWARD, hardswish_backward)                                                                          \
    X(SOFTPLUS, softplus)                                                                                              \
    X(SOFTPLUS_BACKWARD, softplus_backward)                                                                            \
    X(SOFTSIGN, softsign)                                                                                              \
    X(SOFTSIGN_BACKWARD, softsign_backward)                                                                            \
    X(SOFTSHRINK, softshrink)                                                                                          \
    X(SOFTSHRINK_BACKWARD, softshrink_backward)                                                                        \
    X(HARDSHRINK, hardshrink)                                                                                          \
    X(HARDSHRINK_BACKWARD, hardshrink_backward)                                                                        \
    X(TANHSHRINK, tanhshrink)                                                                                          \
    X(TANHSHRINK_BACKWARD, tanhshrink_backward)                                                                        \
    X(LOG_SIGMOID, log_sigmoid)                                                                                        \
    X(LOG_SIGMOID_BACKWARD, log_sigmoid_backward)                                                                      \
    X(MISH, mish)                                                                                                      \
    X(MISH_BACKWARD, mish_backward)                                                                                    \
    X(THRESHOLD, threshold)                                                                                            \
    X(THRESHOLD_BACKWARD, threshold_backward)                                                                          \
    X(GLU, glu)                                                                                                        \
    X(GLU_BACKWARD, glu_backward)                                                                                      \
    X(PRELU, prelu)                                                                                                    \
    X(PRELU_BACKWARD, prelu_backward)

#define DECLARE(enum_x, name_x) void ref_##name_x(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
REFERENCE_IMAGE_LIST(DECLARE)
#undef DECLARE

#endif
