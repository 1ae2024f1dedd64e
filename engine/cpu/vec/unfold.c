/* SPDX-License-Identifier: Apache-2.0 */
/* unfold: the windows of images as columns, and their sum back into images; a channel of a sample is one thread's. */
#include <string.h>

#include "cpu/vec/kernels.h"

typedef struct unfold {
    int64_t n_planes, height, width, out_height, out_width;
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    const void *from;
    void *to;
} unfold_t;

/* image [B,C,H,W], columns [B,C·KH·KW,L]. attrs: i0,1 kernel; i2,3 stride; i4,5 padding; i6,7 dilation. */
static unfold_t unfold_init(const gd_view_t *image, const gd_attrs_t *attrs)
{
    unfold_t u = {.n_planes = image->shape[0] * image->shape[1], .height = image->shape[2], .width = image->shape[3]};
    for (int i = 0; i < 2; i++) {
        u.kernel[i] = attrs->i[i];
        u.stride[i] = attrs->i[2 + i];
        u.padding[i] = attrs->i[4 + i];
        u.dilation[i] = attrs->i[6 + i];
    }
    u.out_height = (u.height + 2 * u.padding[0] - u.dilation[0] * (u.kernel[0] - 1) - 1) / u.stride[0] + 1;
    u.out_width = (u.width + 2 * u.padding[1] - u.dilation[1] * (u.kernel[1] - 1) - 1) / u.stride[1] + 1;
    return u;
}

/* Columns [first, last) of a row of windows whose element lies in the image. */
static void inside_get(const unfold_t *u, int64_t offset, int64_t *first_p, int64_t *last_p)
{
    const int64_t s = u->stride[1];
    *first_p = offset < 0 ? (-offset + s - 1) / s : 0;
    const int64_t last = offset < u->width ? (u->width - 1 - offset) / s + 1 : 0;
    *last_p = last < u->out_width ? last : u->out_width;
    *first_p = *first_p < *last_p ? *first_p : *last_p;
}

#define DEFINE_UNFOLD(unfold_x, fold_x, type_x)                                                                        \
    static void unfold_x(void *arg, int64_t plane, int64_t end)                                                        \
    {                                                                                                                  \
        (void)end;                                                                                                     \
        const unfold_t *u = arg;                                                                                       \
        const int64_t n_kernel = u->kernel[0] * u->kernel[1], n_out = u->out_height * u->out_width;                    \
        const type_x *x = (const type_x *)u->from + plane * u->height * u->width;                                      \
        for (int64_t k = 0; k < n_kernel; k++) {                                                                       \
            const int64_t offset = k % u->kernel[1] * u->dilation[1] - u->padding[1];                                  \
            int64_t first, last;                                                                                       \
            inside_get(u, offset, &first, &last);                                                                      \
            for (int64_t i = 0; i < u->out_height; i++) {                                                              \
                const int64_t row = i * u->stride[0] - u->padding[0] + k / u->kernel[1] * u->dilation[0];              \
                type_x *y = (type_x *)u->to + (plane * n_kernel + k) * n_out + i * u->out_width;                       \
                if (row < 0 || row >= u->height) {                                                                     \
                    memset(y, 0, (size_t)u->out_width * sizeof(type_x));                                               \
                    continue;                                                                                          \
                }                                                                                                      \
                for (int64_t j = 0; j < first; j++) {                                                                  \
                    y[j] = 0;                                                                                          \
                }                                                                                                      \
                for (int64_t j = first; j < last; j++) {                                                               \
                    y[j] = x[row * u->width + offset + j * u->stride[1]];                                              \
                }                                                                                                      \
                for (int64_t j = last; j < u->out_width; j++) {                                                        \
                    y[j] = 0;                                                                                          \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void fold_x(void *arg, int64_t plane, int64_t end)                                                          \
    {                                                                                                                  \
        (void)end;                                                                                                     \
        const unfold_t *u = arg;                                                                                       \
        const int64_t n_kernel = u->kernel[0] * u->kernel[1], n_out = u->out_height * u->out_width;                    \
        type_x *x = (type_x *)u->to + plane * u->height * u->width;                                                    \
        memset(x, 0, (size_t)(u->height * u->width) * sizeof(type_x));                                                 \
        for (int64_t k = 0; k < n_kernel; k++) {                                                                       \
            const int64_t offset = k % u->kernel[1] * u->dilation[1] - u->padding[1];                                  \
            int64_t first, last;                                                                                       \
            inside_get(u, offset, &first, &last);                                                                      \
            for (int64_t i = 0; i < u->out_height; i++) {                                                              \
                const int64_t row = i * u->stride[0] - u->padding[0] + k / u->kernel[1] * u->dilation[0];              \
                const type_x *y = (const type_x *)u->from + (plane * n_kernel + k) * n_out + i * u->out_width;         \
                for (int64_t j = first; j < last && row >= 0 && row < u->height; j++) {                                \
                    x[row * u->width + offset + j * u->stride[1]] += y[j];                                             \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_UNFOLD(unfold_f32, fold_f32, float)
DEFINE_UNFOLD(unfold_f64, fold_f64, double)

static status_t unfold_run(const char *op, const gd_kernel_args_t *args, const gd_view_t *image, gd_cpu_bodies_t bodies)
{
    unfold_t u = unfold_init(image, args->attrs);
    u.from = args->in[0].data;
    u.to = args->out[0].data;
    return gd_cpu_parallel_real(op, image->dtype, args->n_threads, u.n_planes, 1, bodies, &u);
}

CPU_KERNEL(unfold)
{
    return unfold_run("unfold", args, &args->in[0], (gd_cpu_bodies_t){unfold_f32, unfold_f64});
}

CPU_KERNEL(fold)
{
    return unfold_run("fold", args, &args->out[0], (gd_cpu_bodies_t){fold_f32, fold_f64});
}
