/* SPDX-License-Identifier: Apache-2.0 */
/* dataset: what all kinds share: opening by kind, checks, batches, evaluation order. */
#include "worker/data/dataset.h"

#include <string.h>

#include "worker/data/source.h"

static const int64_t dtype_bytes[GD_DTYPE_COUNT] = {
#define DTYPE_BYTES(name, text, size) [GD_DTYPE_##name] = (size),
    GD_DTYPE_LIST(DTYPE_BYTES)
#undef DTYPE_BYTES
};

void wrk_dataset_field_init(wrk_dataset_field_t *field, gd_dtype_t dtype, int n_dims, const int64_t *shape)
{
    *field = (wrk_dataset_field_t){.dtype = dtype, .n_dims = n_dims, .numel = 1};
    for (int d = 0; d < n_dims; d++) {
        field->shape[d] = shape[d];
        field->numel *= shape[d];
    }
    field->size_bytes = field->numel * dtype_bytes[dtype];
}

static status_t kind_open(const Gradd__V1__Dataset *spec, const wrk_dataset_options_t *options,
                          wrk_dataset_t **dataset_p)
{
    switch (spec->kind_case) {
    case GRADD__V1__DATASET__KIND_TEXT:
        return wrk_text_open(spec->text, options, dataset_p);
    case GRADD__V1__DATASET__KIND_IDX:
        return wrk_idx_open(spec->idx, dataset_p);
    case GRADD__V1__DATASET__KIND_CIFAR:
        return wrk_cifar_open(spec->cifar, dataset_p);
    case GRADD__V1__DATASET__KIND_IMAGE_FOLDER:
        return wrk_image_folder_open(spec->image_folder, options, dataset_p);
    case GRADD__V1__DATASET__KIND_NPY:
        return wrk_npy_open(spec->npy, options, dataset_p);
    case GRADD__V1__DATASET__KIND_WAV:
        return wrk_wav_open(spec->wav, options, dataset_p);
    case GRADD__V1__DATASET__KIND_CSV:
        return wrk_csv_open(spec->csv, options, dataset_p);
    case GRADD__V1__DATASET__KIND_SEQUENCES:
        return wrk_sequences_open(spec->sequences, options, dataset_p);
    case GRADD__V1__DATASET__KIND_TOKENS:
        return wrk_tokens_open(spec->tokens, options, dataset_p);
    default:
        return ST_FAIL(
            ST_ERR_INVAL,
            "no kind of dataset is given (text, tokens, sequences, idx, cifar, image_folder, npy, csv, wav)");
    }
}

status_t wrk_dataset_open(const Gradd__V1__Dataset *spec, const wrk_dataset_options_t *options,
                          wrk_dataset_t **dataset_p)
{
    static const wrk_dataset_options_t no_options = {0};
    options = options != NULL ? options : &no_options;
    status_t status = kind_open(spec, options, dataset_p);
    if (status != ST_OK && options->name != NULL) {
        return status_add_context(status, "%s", options->name);
    }
    return status;
}

status_t wrk_dataset_augment(wrk_dataset_t *dataset, Gradd__V1__Augment *const *list, size_t n, wrk_image_t *image)
{
    status_t status = n > 0 ? wrk_augment_open(list, n, image, &dataset->augment) : ST_OK;
    if (status != ST_OK || image->height == 0) {
        return status;
    }
    int64_t shape[3] = {image->channels, image->height, image->width};
    wrk_dataset_field_init(&dataset->input, GD_DTYPE_F32, 3, shape);
    if (wrk_augment_has_mix(dataset->augment)) {
        wrk_dataset_field_init(&dataset->target, GD_DTYPE_F32, 1, &dataset->n_classes);
    } else {
        wrk_dataset_field_init(&dataset->target, GD_DTYPE_I64, 0, NULL);
    }
    return ST_OK;
}

void wrk_dataset_set_ignored(wrk_dataset_t *dataset, const wrk_dataset_options_t *options)
{
    dataset->has_ignored = options->ignored != NULL;
    dataset->ignored = options->ignored != NULL ? *options->ignored : 0;
}

bool wrk_dataset_ignores(const wrk_dataset_t *dataset, int64_t label)
{
    return dataset->has_ignored && label == dataset->ignored;
}

void wrk_dataset_release(wrk_dataset_t *dataset)
{
    wrk_augment_close(dataset->augment);
    wrk_names_release(&dataset->names);
}

void wrk_dataset_close(wrk_dataset_t *dataset)
{
    if (dataset != NULL) {
        dataset->ops->close(dataset);
    }
}

int64_t wrk_dataset_count(const wrk_dataset_t *dataset)
{
    return dataset->count;
}

const wrk_dataset_field_t *wrk_dataset_input(const wrk_dataset_t *dataset)
{
    return &dataset->input;
}

const wrk_dataset_field_t *wrk_dataset_target(const wrk_dataset_t *dataset)
{
    return &dataset->target;
}

int64_t wrk_dataset_n_classes(const wrk_dataset_t *dataset)
{
    return dataset->n_classes;
}

bool wrk_dataset_is_stream(const wrk_dataset_t *dataset)
{
    return dataset->n_tokens > 0;
}

bool wrk_dataset_is_text(const wrk_dataset_t *dataset)
{
    return dataset->ops->encode_text != NULL;
}

int64_t wrk_dataset_n_tokens(const wrk_dataset_t *dataset)
{
    return dataset->n_tokens;
}

int64_t wrk_dataset_n_targets(const wrk_dataset_t *dataset)
{
    const wrk_dataset_field_t *target = &dataset->target;
    bool has_rows = target->dtype == GD_DTYPE_F32 && target->n_dims > 0;
    return has_rows ? target->numel / target->shape[target->n_dims - 1] : target->numel;
}

status_t wrk_dataset_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const wrk_dataset_field_t *target = &dataset->target;
    if (target->dtype != GD_DTYPE_F32) {
        return dataset->n_classes <= n_classes ? ST_OK : dataset->ops->check_classes(dataset, n_classes);
    }
    int64_t n_values = target->n_dims > 0 ? target->shape[target->n_dims - 1] : 1;
    return n_values == n_classes
               ? ST_OK
               : ST_FAIL(ST_ERR_DATA, "a target has %lld values; the last dimension of the model's output is %lld",
                         (long long)n_values, (long long)n_classes);
}

static wrk_draw_key_t draw_key(const wrk_plan_t *plan, int64_t index)
{
    return (wrk_draw_key_t){plan->seed, plan->epoch, index};
}

/* One image, decoded and augmented; it lies in the scratch, in the shape of the input field. */
static status_t image_make(const wrk_dataset_t *dataset, const wrk_plan_t *plan, int64_t index, wrk_scratch_t *scratch,
                           wrk_image_t *image, int64_t *label_p)
{
    const int64_t *shape = dataset->input.shape;
    status_t status = dataset->ops->decode(dataset, index, scratch, image, label_p);
    if (status != ST_OK) {
        return status;
    }
    if (dataset->augment != NULL) {
        status = wrk_augment_apply(dataset->augment, draw_key(plan, index), scratch, image);
    }
    if (status == ST_OK && (image->channels != shape[0] || image->height != shape[1] || image->width != shape[2])) {
        status = ST_FAIL(ST_ERR_DATA,
                         "an image of %lld x %lld x %lld, where the others are %lld x %lld x %lld: let "
                         "augment crop them, or resize them to a height and a width (one number keeps proportions)",
                         (long long)image->channels, (long long)image->height, (long long)image->width,
                         (long long)shape[0], (long long)shape[1], (long long)shape[2]);
    }
    if (status != ST_OK) {
        strbuf_t place = {0};
        strbuf_appendf(&place, "sample %lld", (long long)index);
        if (dataset->ops->locate != NULL) {
            strbuf_clear(&place);
            dataset->ops->locate(dataset, index, &place);
        }
        status = status_add_context(status, "%s", strbuf_text(&place));
        strbuf_release(&place);
    }
    return status;
}

static status_t image_read(const wrk_dataset_t *dataset, const wrk_plan_t *plan, int64_t i, wrk_scratch_t *scratch,
                           void *input, void *target)
{
    wrk_image_t image = {0};
    int64_t label = 0;
    status_t status = image_make(dataset, plan, plan->indices[i], scratch, &image, &label);
    if (status != ST_OK) {
        return status;
    }
    memcpy(input, image.data, (size_t)dataset->input.size_bytes);
    if (target != NULL && dataset->target.dtype == GD_DTYPE_I64) {
        *(int64_t *)target = label;
    } else if (target != NULL) {
        memset(target, 0, (size_t)dataset->target.size_bytes);
        ((float *)target)[label] = 1;
    }
    return ST_OK;
}

/* Mixes each sample with the one after it, which is still as it was read; the last one with the plan's partner. */
static status_t samples_mix(const wrk_dataset_t *dataset, const wrk_plan_t *plan, wrk_scratch_t *scratch, float *inputs,
                            float *targets)
{
    int64_t size = dataset->input.numel;
    int64_t n_classes = dataset->n_classes;
    wrk_image_t partner = {0};
    int64_t label = 0;
    if (plan->partner < 0 || plan->partner >= dataset->count) {
        return ST_FAIL(ST_ERR_RANGE, "sample %lld of a dataset of %lld", (long long)plan->partner,
                       (long long)dataset->count);
    }
    status_t status = image_make(dataset, plan, plan->partner, scratch, &partner, &label);
    for (int64_t i = 0; i < plan->n && status == ST_OK; i++) {
        bool is_last = i == plan->n - 1;
        float share = 1;
        wrk_image_t image = {inputs + i * size, dataset->input.shape[0], dataset->input.shape[1],
                             dataset->input.shape[2]};
        wrk_augment_mix(dataset->augment, draw_key(plan, plan->indices[i]), &image,
                        is_last ? partner.data : inputs + (i + 1) * size, &share);
        for (int64_t c = 0; c < n_classes && targets != NULL; c++) {
            float other = is_last ? (float)(c == label) : targets[(i + 1) * n_classes + c];
            targets[i * n_classes + c] = share * targets[i * n_classes + c] + (1 - share) * other;
        }
    }
    return status;
}

status_t wrk_dataset_read_plan(const wrk_dataset_t *dataset, const wrk_plan_t *plan, wrk_scratch_t *scratch,
                               void *inputs, void *targets)
{
    wrk_scratch_t own = {0};
    status_t status = ST_OK;
    for (int64_t i = 0; i < plan->n; i++) {
        if (plan->indices[i] < 0 || plan->indices[i] >= dataset->count) {
            return ST_FAIL(ST_ERR_RANGE, "sample %lld of a dataset of %lld", (long long)plan->indices[i],
                           (long long)dataset->count);
        }
    }
    scratch = scratch != NULL ? scratch : &own;
    for (int64_t i = 0; i < plan->n && status == ST_OK; i++) {
        char *input = (char *)inputs + i * dataset->input.size_bytes;
        char *target = targets != NULL ? (char *)targets + i * dataset->target.size_bytes : NULL;
        status = dataset->ops->read != NULL ? dataset->ops->read(dataset, plan->indices[i], scratch, input, target)
                                            : image_read(dataset, plan, i, scratch, input, target);
    }
    if (status == ST_OK && plan->n > 0 && wrk_augment_has_mix(dataset->augment)) {
        status = samples_mix(dataset, plan, scratch, inputs, targets);
    }
    wrk_scratch_release(&own);
    return status;
}

status_t wrk_dataset_read(const wrk_dataset_t *dataset, const int64_t *indices, int64_t n, void *inputs, void *targets)
{
    wrk_plan_t plan = {
        .indices = (int64_t *)(uintptr_t)indices, .n = n, .partner = n > 0 ? indices[0] : 0}; /* they are only read */
    return wrk_dataset_read_plan(dataset, &plan, NULL, inputs, targets);
}

const wrk_answer_t *wrk_dataset_answer(const wrk_dataset_t *dataset)
{
    return dataset->answer;
}

void wrk_dataset_decode(const wrk_dataset_t *dataset, const int64_t *tokens, int64_t n, strbuf_t *text)
{
    if (wrk_dataset_is_text(dataset)) {
        dataset->ops->decode_text(dataset, tokens, n, text);
    }
}

status_t wrk_dataset_encode(const wrk_dataset_t *dataset, const char *text, size_t length, int64_t **tokens_p,
                            int64_t *n_tokens_p)
{
    if (!wrk_dataset_is_text(dataset)) {
        return ST_FAIL(ST_ERR_STATE,
                       "only text, tokens with a tokenizer and sequences with texts as targets encode text");
    }
    return dataset->ops->encode_text(dataset, text, length, tokens_p, n_tokens_p);
}

int64_t wrk_dataset_eval_count(const wrk_dataset_t *dataset)
{
    return wrk_dataset_is_stream(dataset) ? (dataset->n_tokens - 1) / dataset->input.shape[0] : dataset->count;
}

int64_t wrk_dataset_eval_index(const wrk_dataset_t *dataset, int64_t i, int64_t n)
{
    int64_t count = wrk_dataset_eval_count(dataset);
    int64_t place = i * (count / n) + i * (count % n) / n; /* i · count / n without overflow */
    return wrk_dataset_is_stream(dataset) ? place * dataset->input.shape[0] : place;
}
