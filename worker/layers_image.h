/* SPDX-License-Identifier: Apache-2.0 */
/* layers_image: what layers_image.c (the table) takes from the files beside it. Private to them. */
#ifndef GRADD_WORKER_LAYERS_IMAGE_H
#define GRADD_WORKER_LAYERS_IMAGE_H

#include "gradd/modules.h"
#include "worker/model_build.h"

#define MODEL_BUILD(name_x)                                                                                            \
    status_t model_##name_x##_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,           \
                                    gd_module_t **module_p)

/* layers_pointwise.c */
MODEL_BUILD(activation);
MODEL_BUILD(prelu);
MODEL_BUILD(along);
MODEL_BUILD(dropout);

#endif
