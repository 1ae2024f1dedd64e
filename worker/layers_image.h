/* SPDX-License-Identifier: Apache-2.0 */
/* layers_image: what layers_image.c (the table) takes from the files beside it. Private to them. */
#ifndef GRADD_WORKER_LAYERS_IMAGE_H
#define GRADD_WORKER_LAYERS_IMAGE_H

#include "gradd/modules.h"
#include "worker/model_build.h"

#define MODEL_BUILD(name_x)                                                                                            \
    status_t model_##name_x##_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,           \
                                    gd_module_t **module_p)

/* layers_arrange.c */
MODEL_BUILD(pixel_shuffle);
MODEL_BUILD(channel_shuffle);
MODEL_BUILD(unfold);
MODEL_BUILD(embedding_bag);
MODEL_BUILD(bilinear);
MODEL_BUILD(cosine_similarity);
MODEL_BUILD(unflatten);

/* layers_window.c */
MODEL_BUILD(conv);
MODEL_BUILD(conv_transpose);
MODEL_BUILD(pool);
MODEL_BUILD(adaptive_pool);
MODEL_BUILD(global_pool);
MODEL_BUILD(pad);
MODEL_BUILD(upsample);

/* layers_pointwise.c */
MODEL_BUILD(activation);
MODEL_BUILD(prelu);
MODEL_BUILD(rrelu);
MODEL_BUILD(softmax2d);
MODEL_BUILD(along);
MODEL_BUILD(dropout);

/* layers_window.c: what a convolution or pool with checked numbers gives; also for conv2d, max_pool2d, avg_pool2d. */
status_t model_conv_finish(model_build_t *build, const Gradd__V1__Layer *layer, int n_axes, const int *kernel,
                           const gd_conv_options_t *options, int64_t c_out, Gradd__V1__Layer__PadMode padding_mode,
                           bool keeps_size, bool has_bias, const Gradd__V1__Init *init, wrk_shape_t *shape,
                           gd_module_t **module_p);
status_t model_pool_finish(model_build_t *build, const Gradd__V1__Layer *layer, int n_axes, bool is_max,
                           const gd_pool_options_t *options, wrk_shape_t *shape, gd_module_t **module_p);

#endif
