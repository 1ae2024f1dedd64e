/* SPDX-License-Identifier: Apache-2.0 */
/*
 * npy: two NumPy arrays, inputs and targets, whose first axis counts the samples. They stay mapped; a sample is
 * converted when it is read, and must be finite.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/npy.h"
#include "worker/data/source.h"

enum { MAX_CLASSES = 1 << 24 };

static const int64_t MAX_SAMPLE = INT64_C(1) << 31; /* elements */

typedef struct array {
    char *path;
    gd_npy_t *npy;
    gd_dtype_t dtype;
    int64_t n;     /* samples */
    int64_t numel; /* of a sample */
    int n_dims;    /* of a sample */
    int64_t shape[GD_MAX_DIMS];
    int64_t row_bytes;
} array_t;

typedef struct npy_dataset {
    wrk_dataset_t base;
    array_t inputs, targets;
    int64_t from; /* where the part begins */
    float scale;
    bool has_tokens;
    bool has_left_out; /* labels that the loss ignores */
} npy_dataset_t;

static void array_close(array_t *array)
{
    gd_npy_close(array->npy);
    mem_free(array->path);
}

static void npy_close(wrk_dataset_t *dataset)
{
    npy_dataset_t *npy = (npy_dataset_t *)dataset;
    array_close(&npy->inputs);
    array_close(&npy->targets);
    wrk_dataset_release(dataset);
    mem_free(npy);
}

/* ---- elements ---- */

static float half_value(uint16_t half)
{
    int exponent = half >> 10 & 31;
    float fraction = (float)(half & 1023) / 1024.0F;
    float value = exponent == 0    ? ldexpf(fraction, -14)
                  : exponent == 31 ? (fraction > 0 ? NAN : INFINITY)
                                   : ldexpf(1 + fraction, exponent - 15);
    return (half & 0x8000) != 0 ? -value : value;
}

static double value_get(gd_dtype_t dtype, const void *row, int64_t i)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        return (double)((const float *)row)[i];
    case GD_DTYPE_F64:
        return ((const double *)row)[i];
    case GD_DTYPE_F16:
        return (double)half_value(((const uint16_t *)row)[i]);
    case GD_DTYPE_I64:
        return (double)((const int64_t *)row)[i];
    case GD_DTYPE_I32:
        return ((const int32_t *)row)[i];
    default: /* u8, bool */
        return ((const uint8_t *)row)[i];
    }
}

static int64_t integer_get(gd_dtype_t dtype, const void *row, int64_t i)
{
    return dtype == GD_DTYPE_I64 ? ((const int64_t *)row)[i] : (int64_t)value_get(dtype, row, i);
}

static bool is_integer(gd_dtype_t dtype)
{
    return dtype == GD_DTYPE_I64 || dtype == GD_DTYPE_I32 || dtype == GD_DTYPE_U8 || dtype == GD_DTYPE_BOOL;
}

/* A sample's elements as they lie in the file, in the scratch. */
static status_t row_get(const array_t *array, int64_t index, wrk_scratch_t *scratch, const void **row_p)
{
    const char *data = gd_npy_data(array->npy);
    if (data != NULL) {
        *row_p = data + index * array->row_bytes;
        return ST_OK;
    }
    void *row = wrk_scratch_get(scratch, WRK_BLOCK_ROWS, (size_t)array->row_bytes);
    if (row == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: a sample of %lld bytes", array->path, (long long)array->row_bytes);
    }
    *row_p = row;
    return gd_npy_read_rows(array->npy, index, index + 1, row);
}

static status_t values_read(const array_t *array, int64_t index, float scale, wrk_scratch_t *scratch, float *out)
{
    const void *row = NULL;
    status_t status = row_get(array, index, scratch, &row);
    for (int64_t i = 0; i < array->numel && status == ST_OK; i++) {
        out[i] = (float)value_get(array->dtype, row, i) * scale;
        if (!isfinite(out[i])) {
            status = ST_FAIL(ST_ERR_DATA, "%s: row %lld, element %lld is %g, not a finite number of 32 bits",
                             array->path, (long long)index, (long long)i, value_get(array->dtype, row, i));
        }
    }
    return status;
}

static status_t integers_read(const array_t *array, int64_t index, wrk_scratch_t *scratch, int64_t *out)
{
    const void *row = NULL;
    status_t status = row_get(array, index, scratch, &row);
    for (int64_t i = 0; i < array->numel && status == ST_OK; i++) {
        out[i] = integer_get(array->dtype, row, i);
    }
    return status;
}

/* ---- samples ---- */

static status_t target_read(const npy_dataset_t *npy, int64_t index, wrk_scratch_t *scratch, void *target)
{
    return npy->base.n_classes > 0 ? integers_read(&npy->targets, npy->from + index, scratch, target)
                                   : values_read(&npy->targets, npy->from + index, 1, scratch, target);
}

static status_t npy_read(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, void *input, void *target)
{
    const npy_dataset_t *npy = (const npy_dataset_t *)dataset;
    status_t status = npy->has_tokens ? integers_read(&npy->inputs, npy->from + index, scratch, input)
                                      : values_read(&npy->inputs, npy->from + index, npy->scale, scratch, input);
    return status == ST_OK && target != NULL ? target_read(npy, index, scratch, target) : status;
}

/* With augmentations: samples [H, W] or [C, H, W]. */
static status_t npy_decode(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, wrk_image_t *image,
                           int64_t *label_p)
{
    const npy_dataset_t *npy = (const npy_dataset_t *)dataset;
    const array_t *inputs = &npy->inputs;
    const int64_t *size = inputs->shape + inputs->n_dims - 2;
    *image = (wrk_image_t){wrk_scratch_get(scratch, WRK_BLOCK_IMAGE, (size_t)inputs->numel * sizeof(float)),
                           inputs->n_dims == 3 ? inputs->shape[0] : 1, size[0], size[1]};
    if (image->data == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: a sample of %lld elements", inputs->path, (long long)inputs->numel);
    }
    status_t status = values_read(inputs, npy->from + index, npy->scale, scratch, image->data);
    return status == ST_OK ? target_read(npy, index, scratch, label_p) : status;
}

/* ---- labels ---- */

/* *n_classes_p: the largest label of all samples + 1, without the one that the loss ignores. */
static status_t labels_scan(const npy_dataset_t *npy, int64_t most, int64_t *n_classes_p, bool *has_left_out_p)
{
    wrk_scratch_t scratch = {0};
    const array_t *targets = &npy->targets;
    int64_t n_classes = 0;
    bool has_left_out = false;
    int64_t *row = mem_calloc((size_t)targets->numel, sizeof(*row));
    status_t status = row != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%s: a row of labels", targets->path);
    for (int64_t r = 0; r < targets->n && status == ST_OK; r++) {
        status = integers_read(targets, r, &scratch, row);
        for (int64_t i = 0; i < targets->numel && status == ST_OK; i++) {
            if (wrk_dataset_ignores(&npy->base, row[i])) {
                has_left_out = true;
                continue;
            }
            if (row[i] < 0 || row[i] > most) {
                status = ST_FAIL(ST_ERR_DATA,
                                 "%s: row %lld, element %lld: label %lld is not in 0 … %lld (one that doesn't count is "
                                 "told by ignore_index in training.loss)",
                                 targets->path, (long long)r, (long long)i, (long long)row[i], (long long)most);
            } else if (row[i] >= n_classes) {
                n_classes = row[i] + 1;
            }
        }
    }
    if (status == ST_OK && n_classes == 0) {
        status = ST_FAIL(ST_ERR_DATA, "%s: all labels are %lld, the loss's ignore_index: nothing is left",
                         targets->path, (long long)npy->base.ignored);
    }
    wrk_scratch_release(&scratch);
    mem_free(row);
    *n_classes_p = n_classes;
    *has_left_out_p = has_left_out;
    return status;
}

static status_t npy_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const npy_dataset_t *npy = (const npy_dataset_t *)dataset;
    int64_t n_found = 0;
    bool has_left_out = false;
    return labels_scan(npy, n_classes - 1, &n_found, &has_left_out);
}

static const wrk_dataset_ops_t npy_ops = {.close = npy_close, .read = npy_read, .check_classes = npy_check_classes};
static const wrk_dataset_ops_t npy_image_ops = {
    .close = npy_close, .decode = npy_decode, .check_classes = npy_check_classes};

/* ---- opening ---- */

static status_t array_open(const char *path, array_t *array)
{
    array->path = mem_strdup(path);
    status_t status = array->path != NULL ? gd_npy_open(path, &array->npy) : ST_FAIL(ST_ERR_NOMEM, "dataset");
    if (status != ST_OK) {
        return status;
    }
    int n_dims = gd_npy_n_dims(array->npy);
    const int64_t *shape = gd_npy_shape(array->npy);
    array->dtype = gd_npy_dtype(array->npy);
    if (n_dims < 1 || n_dims > GD_MAX_DIMS - 1) {
        return ST_FAIL(ST_ERR_DATA, "%s: an array of %d dimensions; 1 … %d are read, the first counts the samples",
                       path, n_dims, GD_MAX_DIMS - 1);
    }
    array->n = shape[0];
    array->n_dims = n_dims - 1;
    array->numel = 1;
    for (int d = 0; d < array->n_dims; d++) {
        array->shape[d] = shape[d + 1];
        if (array->shape[d] < 1 || array->numel > MAX_SAMPLE / array->shape[d]) {
            return ST_FAIL(ST_ERR_DATA, "%s: axis %d of a sample has %lld elements: none, or too many", path, d,
                           (long long)array->shape[d]);
        }
        array->numel *= array->shape[d];
    }
    array->row_bytes = array->numel * (int64_t)gd_dtype_size(array->dtype);
    return array->n > 0 ? ST_OK : ST_FAIL(ST_ERR_DATA, "%s: an array without samples", path);
}

static status_t part_set(npy_dataset_t *npy, const Gradd__V1__Npy *spec)
{
    double from = spec->n_part == 2 ? spec->part[0] : 0.0;
    double to = spec->n_part == 2 ? spec->part[1] : 1.0;
    int64_t n = npy->inputs.n;
    if (!(from >= 0.0 && from < to && to <= 1.0)) {
        return ST_FAIL(ST_ERR_INVAL, "npy.part [%g, %g) is not inside [0, 1)", from, to);
    }
    npy->from = (int64_t)floor(from * (double)n);
    npy->base.count = (int64_t)floor(to * (double)n) - npy->from;
    return npy->base.count > 0 ? ST_OK
                               : ST_FAIL(ST_ERR_DATA, "%s: part [%g, %g) of its %lld samples has none",
                                         npy->inputs.path, from, to, (long long)n);
}

static status_t targets_set(npy_dataset_t *npy, const Gradd__V1__Npy *spec)
{
    const array_t *targets = &npy->targets;
    bool has_classes = spec->has_classes ? spec->classes : is_integer(targets->dtype);
    if (npy->inputs.n != targets->n) {
        return ST_FAIL(ST_ERR_DATA, "%s has %lld samples and %s has %lld", npy->inputs.path, (long long)npy->inputs.n,
                       targets->path, (long long)targets->n);
    }
    if (has_classes && !is_integer(targets->dtype)) {
        return ST_FAIL(ST_ERR_DATA, "%s: npy.classes: an array of integers is wanted", targets->path);
    }
    if (has_classes) {
        wrk_dataset_field_init(&npy->base.target, GD_DTYPE_I64, targets->n_dims, targets->shape);
        return labels_scan(npy, MAX_CLASSES - 1, &npy->base.n_classes, &npy->has_left_out);
    }
    static const int64_t ONE = 1;
    wrk_dataset_field_init(&npy->base.target, GD_DTYPE_F32, targets->n_dims > 0 ? targets->n_dims : 1,
                           targets->n_dims > 0 ? targets->shape : &ONE);
    return ST_OK;
}

static status_t inputs_set(npy_dataset_t *npy, const Gradd__V1__Npy *spec)
{
    const array_t *inputs = &npy->inputs;
    static const int64_t ONE = 1;
    if (npy->has_tokens && !is_integer(inputs->dtype)) {
        return ST_FAIL(ST_ERR_DATA, "%s: npy.tokens: an array of integers is wanted", inputs->path);
    }
    wrk_dataset_field_init(&npy->base.input, npy->has_tokens ? GD_DTYPE_I64 : GD_DTYPE_F32,
                           inputs->n_dims > 0 ? inputs->n_dims : 1, inputs->n_dims > 0 ? inputs->shape : &ONE);
    if (spec->n_augment == 0) {
        return ST_OK;
    }
    if (npy->has_tokens || (inputs->n_dims != 2 && inputs->n_dims != 3) || npy->base.n_classes == 0 ||
        npy->targets.n_dims > 0) {
        return ST_FAIL(ST_ERR_INVAL, "npy.augment: for images [H, W] or [C, H, W] with one class each");
    }
    const int64_t *size = inputs->shape + inputs->n_dims - 2;
    wrk_image_t image = {NULL, inputs->n_dims == 3 ? inputs->shape[0] : 1, size[0], size[1]};
    npy->base.ops = &npy_image_ops;
    status_t status = wrk_dataset_augment(&npy->base, spec->augment, spec->n_augment, &image);
    return status == ST_OK && wrk_augment_has_mix(npy->base.augment) && npy->has_left_out
               ? ST_FAIL(ST_ERR_INVAL,
                         "npy.augment: mixup and cutmix mix classes; label %lld, which the loss ignores, is "
                         "none",
                         (long long)npy->base.ignored)
               : status;
}

status_t wrk_npy_open(const Gradd__V1__Npy *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p)
{
    if (spec->inputs == NULL || spec->targets == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "npy.%s is missing", spec->inputs == NULL ? "inputs" : "targets");
    }
    npy_dataset_t *npy = mem_zalloc(sizeof(*npy));
    if (npy == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    npy->base.ops = &npy_ops;
    wrk_dataset_set_ignored(&npy->base, options);
    npy->scale = (float)spec->scale;
    npy->has_tokens = spec->tokens;
    status_t status = array_open(spec->inputs, &npy->inputs);
    if (status == ST_OK) {
        status = array_open(spec->targets, &npy->targets);
    }
    if (status == ST_OK) {
        status = targets_set(npy, spec);
    }
    if (status == ST_OK) {
        status = part_set(npy, spec);
    }
    if (status == ST_OK) {
        status = inputs_set(npy, spec);
    }
    if (status != ST_OK) {
        npy_close(&npy->base);
        return status;
    }
    *dataset_p = &npy->base;
    return ST_OK;
}
