/* SPDX-License-Identifier: Apache-2.0 */
/* reference_image: references of the ops for images and general use, for the table in reference.c. */
#ifndef GRADD_TESTS_ENGINE_REFERENCE_IMAGE_H
#define GRADD_TESTS_ENGINE_REFERENCE_IMAGE_H

#include "tests/engine/reference.h"

#define REFERENCE_IMAGE_LIST(X)                                                                                        \
    X(RMS_NORM, rms_norm)                                                                                              \
    X(RMS_NORM_BACKWARD, rms_norm_backward)                                                                            \
    X(GROUP_NORM, group_norm)                                                                                          \
    X(GROUP_NORM_BACKWARD, group_norm_backward)

#define DECLARE(enum_x, name_x) void ref_##name_x(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
REFERENCE_IMAGE_LIST(DECLARE)
#undef DECLARE

#endif
