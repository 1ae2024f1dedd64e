/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_table: walks the rows of all ops: complete; forward against float64 loops in every dtype, contiguous and not;
 * gradients against central differences; subsets of inputs that need gradients; gradient buffers; must-fail samples.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/ops.h"
#include "gradd/rng.h"
#include "tests/engine/reference.h"
#include "tests/support/fixture.h"

/* How inputs lie in memory. */
typedef enum layout { LAYOUT_DENSE, LAYOUT_TRANSPOSED, LAYOUT_STEPPED, LAYOUT_COUNT } layout_t;
static const char *const layout_name[LAYOUT_COUNT] = {"dense", "transposed", "stepped"};

/* What is being checked, for messages. */
typedef struct place {
    const gd_op_t *op;
    gd_op_id_t id;
    int sample;
    gd_dtype_t dtype;
    layout_t layout;
    const char *what;
} place_t;

static place_t place;

static void fail_at(const char *text)
{
    print_error("%s, sample %d, %s, %s: %s: %s\n", place.op->name, place.sample, gd_dtype_name(place.dtype),
                layout_name[place.layout], place.what, text);
    fail();
}

static void check(status_t status)
{
    if (status != ST_OK) {
        fail_at(status_message());
    }
}

static double dtype_epsilon(gd_dtype_t dtype)
{
    switch (dtype) {
    case GD_DTYPE_F64:
        return 0x1p-52;
    case GD_DTYPE_F32:
        return 0x1p-23;
    case GD_DTYPE_F16:
        return 0x1p-10;
    case GD_DTYPE_BF16:
        return 0x1p-7;
    default:
        return 0;
    }
}

static void tensor_read(gd_tensor_t *t, double *out)
{
    gd_tensor_t *wide = NULL;
    check(gd_tensor_new(GD_DTYPE_F64, gd_tensor_n_dims(t), gd_tensor_shape(t), &wide));
    check(gd_tensor_copy(wide, t));
    memcpy(out, gd_tensor_data(wide), (size_t)gd_tensor_numel(t) * sizeof(double));
    (void)gd_tensor_unref(wide);
}

/* A tensor of dtype with the given values, lying as layout says. */
static gd_tensor_t *tensor_make(gd_dtype_t dtype, int n_dims, const int64_t *shape, const double *values,
                                layout_t layout)
{
    gd_tensor_t *wide = NULL;
    gd_tensor_t *base = NULL;
    gd_tensor_t *t = NULL;
    check(gd_tensor_from_data(GD_DTYPE_F64, n_dims, shape, values, &wide));
    if (layout == LAYOUT_TRANSPOSED && n_dims > 1) {
        int64_t reversed[GD_MAX_DIMS];
        int order[GD_MAX_DIMS];
        for (int d = 0; d < n_dims; d++) {
            reversed[d] = shape[n_dims - 1 - d];
            order[d] = n_dims - 1 - d;
        }
        check(gd_tensor_new(dtype, n_dims, reversed, &base));
        check(gd_permute(base, order, &t));
    } else if (layout != LAYOUT_DENSE && n_dims > 0) {
        int64_t doubled[GD_MAX_DIMS];
        memcpy(doubled, shape, (size_t)n_dims * sizeof(int64_t));
        doubled[n_dims - 1] = 2 * shape[n_dims - 1] + 1;
        check(gd_tensor_new(dtype, n_dims, doubled, &base));
        check(gd_slice(base, n_dims - 1, 1, doubled[n_dims - 1], 2, &t));
    } else {
        check(gd_tensor_new(dtype, n_dims, shape, &t));
    }
    check(gd_tensor_copy(t, wide));
    (void)gd_tensor_unref(base);
    (void)gd_tensor_unref(wide);
    return t;
}

/* False: a view that these strides don't have (reshape of a transposed tensor), which the op says. */
static bool op_run(gd_tensor_t **in, int n_in, const gd_attrs_t *attrs, gd_tensor_t **out)
{
    status_t status = gd_op_apply(place.id, in, n_in, attrs, out);
    if (place.op->is_view && place.layout != LAYOUT_DENSE && status == ST_ERR_UNSUPPORTED) {
        return false;
    }
    check(status);
    return true;
}

/* The inputs of one sample. */
typedef struct inputs {
    int n_in;
    ref_tensor_t ref[GD_MAX_IN];
    gd_dtype_t dtype[GD_MAX_IN];
    bool has_gradient[GD_MAX_IN];
} inputs_t;

static double *values_new(int64_t n)
{
    double *values = mem_calloc((size_t)(n > 0 ? n : 1), sizeof(double));
    assert_non_null(values);
    return values;
}

/* One of lo … hi where the sample says them (from 0 on in an unsigned dtype), else of 0 … int_limit - 1. */
static double integer_make(const gd_sample_t *sample, int i, gd_dtype_t dtype, uint32_t word)
{
    double lo = ceil(sample->in[i].lo);
    double hi = floor(sample->in[i].hi);
    if ((sample->in[i].lo == 0 && sample->in[i].hi == 0) || sample->in[i].int_limit > 0 || hi < lo) {
        int64_t limit = sample->in[i].int_limit > 0 ? sample->in[i].int_limit : 3;
        return (double)((int64_t)word % limit);
    }
    lo = (dtype == GD_DTYPE_U8 || dtype == GD_DTYPE_BOOL) && lo < 0 ? 0 : lo;
    return lo + (double)(word % (uint32_t)(hi - lo + 1));
}

static void inputs_make(const gd_sample_t *sample, gd_dtype_t dtype, inputs_t *inputs)
{
    *inputs = (inputs_t){.n_in = sample->n_in};
    for (int i = 0; i < sample->n_in; i++) {
        ref_tensor_t *ref = &inputs->ref[i];
        if (sample->in[i].is_absent) {
            continue;
        }
        bool is_float = sample->in[i].dtype == GD_DTYPE_F32;
        bool is_f32 = (place.op->f32_in >> i & 1u) != 0 && dtype_epsilon(dtype) > dtype_epsilon(GD_DTYPE_F32);
        inputs->dtype[i] = !is_float ? sample->in[i].dtype : is_f32 ? GD_DTYPE_F32 : dtype;
        inputs->has_gradient[i] = is_float && gd_dtype_is_float(dtype) && !sample->in[i].no_grad;
        ref->dtype = inputs->dtype[i];
        ref->n_dims = sample->in[i].n_dims;
        ref->numel = 1;
        for (int d = 0; d < ref->n_dims; d++) {
            ref->shape[d] = sample->in[i].shape[d];
            ref->numel *= ref->shape[d];
        }
        ref->data = values_new(ref->numel);
        double lo = sample->in[i].lo;
        double hi = sample->in[i].hi;
        if (lo == 0 && hi == 0) {
            lo = -1;
            hi = 1;
        }
        const gd_rng_key_t key = {.seed = 1, .layer = (uint32_t)i, .purpose = 5};
        for (int64_t j = 0; j < ref->numel; j++) {
            uint32_t word[4];
            gd_philox(&key, (uint32_t)j, word);
            double value = lo + (hi - lo) * (double)gd_rng_unit(word[0]);
            ref->data[j] = is_float && gd_dtype_is_float(dtype) ? value : integer_make(sample, i, ref->dtype, word[1]);
        }
        /* as the dtype holds them */
        gd_tensor_t *rounded = tensor_make(ref->dtype, ref->n_dims, ref->shape, ref->data, LAYOUT_DENSE);
        tensor_read(rounded, ref->data);
        (void)gd_tensor_unref(rounded);
    }
}

static void inputs_free(inputs_t *inputs)
{
    for (int i = 0; i < inputs->n_in; i++) {
        mem_free(inputs->ref[i].data);
    }
}

static void tensors_make(const inputs_t *inputs, layout_t layout, gd_tensor_t **in)
{
    for (int i = 0; i < inputs->n_in; i++) {
        const ref_tensor_t *ref = &inputs->ref[i];
        in[i] = ref->data != NULL ? tensor_make(ref->dtype, ref->n_dims, ref->shape, ref->data, layout) : NULL;
    }
}

static void tensors_free(int n, gd_tensor_t **tensors)
{
    for (int i = 0; i < n; i++) {
        tensors[i] = gd_tensor_unref(tensors[i]);
    }
}

static void compare(const double *got, const double *expected, int64_t n, double tolerance)
{
    for (int64_t i = 0; i < n; i++) {
        if (got[i] == expected[i] || (isnan(got[i]) && isnan(expected[i]))) {
            continue; /* infinities too */
        }
        double scale = fmax(1, fabs(expected[i]));
        if (!(fabs(got[i] - expected[i]) <= tolerance * scale)) {
            char text[128];
            (void)snprintf(text, sizeof(text), "element %lld is %.9g, expected %.9g", (long long)i, got[i],
                           expected[i]);
            fail_at(text);
        }
    }
}

static void forward_check(const gd_sample_t *sample, const inputs_t *inputs)
{
    gd_tensor_t *in[GD_MAX_IN] = {NULL};
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    ref_tensor_t ref[GD_MAX_OUT] = {0};
    tensors_make(inputs, place.layout, in);

    if (!op_run(in, inputs->n_in, &sample->attrs, out)) {
        tensors_free(inputs->n_in, in);
        return;
    }

    for (int i = 0; i < place.op->n_out; i++) {
        ref[i].dtype = gd_tensor_dtype(out[i]);
        ref[i].n_dims = gd_tensor_n_dims(out[i]);
        ref[i].numel = gd_tensor_numel(out[i]);
        memcpy(ref[i].shape, gd_tensor_shape(out[i]), (size_t)ref[i].n_dims * sizeof(int64_t));
        ref[i].data = values_new(ref[i].numel);
        for (int64_t j = 0; j < ref[i].numel; j++) {
            ref[i].data[j] = NAN;
        }
    }
    reference_table[place.id](inputs->ref, &sample->attrs, ref);
    for (int i = 0; i < place.op->n_out; i++) {
        if (i == 0 || (ref[i].numel > 0 && !isnan(ref[i].data[0]))) {
            double *got = values_new(ref[i].numel);
            tensor_read(out[i], got);
            compare(got, ref[i].data, ref[i].numel, 100 * dtype_epsilon(ref[i].dtype));
            mem_free(got);
        }
        mem_free(ref[i].data);
    }
    tensors_free(place.op->n_out, out);
    tensors_free(inputs->n_in, in);
}

/* sum of y · weights, for the given values of the inputs, without a graph */
static double loss_of(const gd_sample_t *sample, const inputs_t *inputs, const double *weights)
{
    gd_tensor_t *in[GD_MAX_IN] = {NULL};
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    tensors_make(inputs, LAYOUT_DENSE, in);
    check(gd_op_apply(place.id, in, inputs->n_in, &sample->attrs, out));
    double *y = values_new(gd_tensor_numel(out[0]));
    tensor_read(out[0], y);
    double loss = 0;
    for (int64_t i = 0; i < gd_tensor_numel(out[0]); i++) {
        loss += y[i] * weights[i];
    }
    mem_free(y);
    tensors_free(place.op->n_out, out);
    tensors_free(inputs->n_in, in);
    return loss;
}

enum { NEEDS_ALL = -1 };

/*
 * Runs forward and backward; gradient[i] receives the gradients. needs: the one input that requires one, or all.
 * has_buffers: into buffers given as fresh, twice, so that the sum must come out. False: op_run's.
 */
static bool backward_run(const gd_sample_t *sample, const inputs_t *inputs, int needs, bool has_buffers,
                         const double *weights, double **gradient)
{
    gd_tensor_t *in[GD_MAX_IN] = {NULL};
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    tensors_make(inputs, place.layout, in);
    for (int i = 0; i < inputs->n_in; i++) {
        if (in[i] != NULL && inputs->has_gradient[i] && (needs == NEEDS_ALL || needs == i)) {
            check(gd_tensor_set_requires_grad(in[i], true));
            if (has_buffers) {
                gd_tensor_t *buffer = NULL;
                check(gd_tensor_full(inputs->dtype[i], inputs->ref[i].n_dims, inputs->ref[i].shape, 1e9, &buffer));
                check(gd_tensor_set_grad(in[i], buffer, true));
                (void)gd_tensor_unref(buffer);
            }
        }
    }
    if (!op_run(in, inputs->n_in, &sample->attrs, out)) {
        tensors_free(inputs->n_in, in);
        return false;
    }
    gd_tensor_t *dy =
        tensor_make(gd_tensor_dtype(out[0]), gd_tensor_n_dims(out[0]), gd_tensor_shape(out[0]), weights, place.layout);
    check(gd_backward(out[0], dy, has_buffers));
    if (has_buffers) {
        check(gd_backward(out[0], dy, false));
    }
    for (int i = 0; i < inputs->n_in; i++) {
        gd_tensor_t *grad = in[i] != NULL ? gd_tensor_grad(in[i]) : NULL;
        bool is_wanted = inputs->has_gradient[i] && (needs == NEEDS_ALL || needs == i);
        if ((grad != NULL) != is_wanted) {
            fail_at(is_wanted ? "a gradient is missing" : "an input that needs no gradient got one");
        }
        if (grad != NULL) {
            tensor_read(grad, gradient[i]);
        }
    }
    (void)gd_tensor_unref(dy);
    tensors_free(place.op->n_out, out);
    tensors_free(inputs->n_in, in);
    return true;
}

/* Central differences of the loss for input i. */
static void difference_run(const gd_sample_t *sample, inputs_t *inputs, int i, const double *weights, double *out)
{
    double step = place.dtype == GD_DTYPE_F64 ? 1e-6 : 0x1p-7;
    for (int64_t j = 0; j < inputs->ref[i].numel; j++) {
        double value = inputs->ref[i].data[j];
        inputs->ref[i].data[j] = value + step;
        double above = loss_of(sample, inputs, weights);
        inputs->ref[i].data[j] = value - step;
        double below = loss_of(sample, inputs, weights);
        inputs->ref[i].data[j] = value;
        out[j] = (above - below) / (2 * step);
    }
}

enum { MAX_DIFFERENCES = 400 }; /* an input with more elements is left to smaller samples */

static void gradient_variants(const gd_sample_t *sample, inputs_t *inputs, const double *weights, double **gradient)
{
    double *other[GD_MAX_IN];
    double tolerance = 200 * dtype_epsilon(place.dtype);
    for (int i = 0; i < inputs->n_in; i++) {
        other[i] = values_new(inputs->ref[i].numel);
    }
    for (int needs = 0; needs < inputs->n_in; needs++) {
        if (inputs->has_gradient[needs]) {
            place.what = "gradient of one input alone";
            (void)backward_run(sample, inputs, needs, false, weights, other);
            compare(other[needs], gradient[needs], inputs->ref[needs].numel, tolerance);
        }
    }
    for (place.layout = LAYOUT_DENSE; place.layout < LAYOUT_COUNT; place.layout++) {
        place.what = "gradient in this layout";
        if (!backward_run(sample, inputs, NEEDS_ALL, false, weights, other)) {
            continue;
        }
        for (int i = 0; i < inputs->n_in; i++) {
            if (inputs->has_gradient[i]) {
                compare(other[i], gradient[i], inputs->ref[i].numel, tolerance);
            }
        }
    }
    place.layout = LAYOUT_DENSE;
    place.what = "gradient accumulated in a buffer";
    (void)backward_run(sample, inputs, NEEDS_ALL, true, weights, other);
    for (int i = 0; i < inputs->n_in; i++) {
        if (inputs->has_gradient[i]) {
            for (int64_t j = 0; j < inputs->ref[i].numel; j++) {
                other[i][j] /= 2;
            }
            compare(other[i], gradient[i], inputs->ref[i].numel, tolerance);
        }
        mem_free(other[i]);
    }
}

static void gradient_check(const gd_sample_t *sample, inputs_t *inputs)
{
    double *gradient[GD_MAX_IN];
    double *weights = NULL;
    int64_t largest = 0;
    int n_wanted = 0;
    for (int i = 0; i < inputs->n_in; i++) {
        gradient[i] = values_new(inputs->ref[i].numel);
        largest = inputs->ref[i].numel > largest ? inputs->ref[i].numel : largest;
        n_wanted += inputs->has_gradient[i];
    }
    gd_tensor_t *in[GD_MAX_IN] = {NULL};
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    tensors_make(inputs, LAYOUT_DENSE, in);
    check(gd_op_apply(place.id, in, inputs->n_in, &sample->attrs, out));
    int64_t n_out = gd_tensor_numel(out[0]);
    weights = values_new(n_out);
    const gd_rng_key_t key = {.seed = 2, .purpose = 5};
    for (int64_t i = 0; i < n_out; i++) {
        uint32_t word[4];
        gd_philox(&key, (uint32_t)i, word);
        weights[i] = (double)(2 * gd_rng_unit(word[0]) - 1);
    }
    tensors_free(place.op->n_out, out);
    tensors_free(inputs->n_in, in);
    if (n_wanted > 0) {
        place.layout = LAYOUT_DENSE;
        place.what = "gradient";
        (void)backward_run(sample, inputs, NEEDS_ALL, false, weights, gradient);
        double tolerance = place.op->grad_tol > 0 ? (double)place.op->grad_tol : 1e-2;
        tolerance = place.dtype == GD_DTYPE_F64 ? 1e-6 : tolerance;
        for (int i = 0; i < inputs->n_in; i++) {
            if (inputs->has_gradient[i] && inputs->ref[i].numel <= MAX_DIFFERENCES) {
                double *difference = values_new(inputs->ref[i].numel);
                difference_run(sample, inputs, i, weights, difference);
                compare(gradient[i], difference, inputs->ref[i].numel, tolerance);
                mem_free(difference);
            }
        }
        gradient_variants(sample, inputs, weights, gradient);
    }
    for (int i = 0; i < inputs->n_in; i++) {
        mem_free(gradient[i]);
    }
    mem_free(weights);
}

static bool sample_is_used(const gd_sample_t *sample)
{
    return sample->n_in > 0;
}

/* Calls run for each sample that must succeed and each dtype that the row claims. */
static void samples_walk(void (*run)(const gd_sample_t *sample, inputs_t *inputs), unsigned dtypes_wanted)
{
    for (int id = 0; id < GD_OP_COUNT; id++) {
        const gd_op_t *op = gd_op_get((gd_op_id_t)id);
        unsigned dtypes = op->dtypes != 0 ? op->dtypes : 1u << GD_DTYPE_F32 | 1u << GD_DTYPE_F64;
        for (int s = 0; s < GD_MAX_SAMPLES; s++) {
            const gd_sample_t *sample = &op->sample[s];
            if (!sample_is_used(sample) || sample->expect != ST_OK) {
                continue;
            }
            bool is_first_float = sample->in[0].dtype == GD_DTYPE_F32;
            for (int dtype = 0; dtype < GD_DTYPE_COUNT; dtype++) {
                bool is_claimed = is_first_float ? (dtypes >> dtype & 1u) != 0 : dtype == GD_DTYPE_F32;
                if (!is_claimed || (dtypes_wanted >> dtype & 1u) == 0) {
                    continue;
                }
                place = (place_t){.op = op, .id = (gd_op_id_t)id, .sample = s, .dtype = (gd_dtype_t)dtype};
                place.what = "making inputs";
                inputs_t inputs;
                inputs_make(sample, (gd_dtype_t)dtype, &inputs);
                run(sample, &inputs);
                inputs_free(&inputs);
            }
        }
    }
}

static void every_row_is_complete(void **state)
{
    (void)state;
    for (int id = 0; id < GD_OP_COUNT; id++) {
        const gd_op_t *op = gd_op_get((gd_op_id_t)id);
        gd_op_id_t found = GD_OP_COUNT;
        assert_non_null(op);
        place = (place_t){.op = op, .what = "row"};
        check(gd_op_find(op->name, &found));
        int n_good = 0;
        int n_bad = 0;
        for (int s = 0; s < GD_MAX_SAMPLES; s++) {
            n_good += sample_is_used(&op->sample[s]) && op->sample[s].expect == ST_OK;
            n_bad += sample_is_used(&op->sample[s]) && op->sample[s].expect != ST_OK;
        }
        bool has_rules = op->infer != NULL && op->formula != NULL && op->formula[0] != '\0';
        bool has_counts = op->n_in_required >= 1 && op->n_in_required <= op->n_in && op->n_in <= GD_MAX_IN &&
                          op->n_out >= 1 && op->n_out <= GD_MAX_OUT;
        if ((int)found != id || !has_rules || !has_counts || n_good < 2 || reference_table[id] == NULL) {
            fail_at("name, formula, infer, counts, two samples or the reference is missing");
        }
        if (n_bad == 0 && op->infer != gd_op_get(GD_OP_CONTIGUOUS)->infer) {
            fail_at("no sample that must fail");
        }
    }
    gd_op_id_t id = GD_OP_COUNT;
    assert_fails(gd_op_find("no_such_op", &id), ST_ERR_NOT_FOUND, "no_such_op");
}

static void forward_walk(const gd_sample_t *sample, inputs_t *inputs)
{
    place.what = "forward";
    for (place.layout = LAYOUT_DENSE; place.layout < LAYOUT_COUNT; place.layout++) {
        forward_check(sample, inputs);
    }
}

static void forward_agrees_with_float64_loops(void **state)
{
    (void)state;
    samples_walk(forward_walk, ~0u);
}

static void gradient_walk(const gd_sample_t *sample, inputs_t *inputs)
{
    unsigned dtypes = place.op->dtypes != 0 ? place.op->dtypes : 1u << GD_DTYPE_F32 | 1u << GD_DTYPE_F64;
    bool has_f64 = (dtypes >> GD_DTYPE_F64 & 1u) != 0 && sample->in[0].dtype == GD_DTYPE_F32;
    if (place.op->backward == NULL || (has_f64 && place.dtype != GD_DTYPE_F64)) {
        return;
    }
    gradient_check(sample, inputs);
}

static void gradients_agree_with_differences(void **state)
{
    (void)state;
    samples_walk(gradient_walk, 1u << GD_DTYPE_F32 | 1u << GD_DTYPE_F64);
}

/* The same values in f64. */
static inputs_t inputs_widen(const inputs_t *inputs)
{
    inputs_t wide = *inputs;
    for (int i = 0; i < wide.n_in; i++) {
        if (gd_dtype_is_float(wide.dtype[i])) {
            wide.dtype[i] = GD_DTYPE_F64;
            wide.ref[i].dtype = GD_DTYPE_F64;
        }
    }
    return wide;
}

/* Gradients in 16 bits, alone and into f32 or 16-bit buffers, against those of f64 at the same values. */
static void half_gradient_walk(const gd_sample_t *sample, inputs_t *inputs)
{
    unsigned dtypes = place.op->dtypes;
    if (place.op->backward == NULL || (dtypes >> GD_DTYPE_F64 & 1u) == 0 || sample->in[0].dtype != GD_DTYPE_F32 ||
        place.op->is_random) {
        return;
    }
    inputs_t wide = inputs_widen(inputs);
    double *expected[GD_MAX_IN];
    double *gradient[GD_MAX_IN];
    gd_tensor_t *in[GD_MAX_IN] = {NULL};
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    place.layout = LAYOUT_DENSE;
    tensors_make(inputs, LAYOUT_DENSE, in);
    check(gd_op_apply(place.id, in, inputs->n_in, &sample->attrs, out));
    int64_t n_out = gd_tensor_numel(out[0]);
    bool is_float = gd_dtype_is_float(gd_tensor_dtype(out[0]));
    tensors_free(place.op->n_out, out);
    tensors_free(inputs->n_in, in);
    double *weights = values_new(n_out);
    for (int64_t i = 0; i < n_out; i++) {
        weights[i] = (double)(i * 7 % 17 - 8) / 8; /* exact in 16 bits */
    }
    for (int i = 0; i < inputs->n_in; i++) {
        expected[i] = values_new(inputs->ref[i].numel);
        gradient[i] = values_new(inputs->ref[i].numel);
    }
    for (int has_buffers = 0; has_buffers < 2 && is_float; has_buffers++) {
        place.what = has_buffers != 0 ? "gradient in 16 bits, in a buffer" : "gradient in 16 bits";
        (void)backward_run(sample, &wide, NEEDS_ALL, has_buffers != 0, weights, expected);
        (void)backward_run(sample, inputs, NEEDS_ALL, has_buffers != 0, weights, gradient);
        for (int i = 0; i < inputs->n_in; i++) {
            if (inputs->has_gradient[i]) {
                compare(gradient[i], expected[i], inputs->ref[i].numel, 16 * dtype_epsilon(place.dtype));
            }
        }
    }
    for (int i = 0; i < inputs->n_in; i++) {
        mem_free(expected[i]);
        mem_free(gradient[i]);
    }
    mem_free(weights);
}

static void gradients_in_16_bits_agree_with_f64(void **state)
{
    (void)state;
    samples_walk(half_gradient_walk, 1u << GD_DTYPE_BF16 | 1u << GD_DTYPE_F16);
}

static bool has_dtype_name(const char *text)
{
    bool has_one = strstr(text, "dtype") != NULL;
    for (int dtype = 0; dtype < GD_DTYPE_COUNT; dtype++) {
        has_one = has_one || strstr(text, gd_dtype_name((gd_dtype_t)dtype)) != NULL;
    }
    return has_one;
}

static void samples_that_must_fail_do_so_and_name_the_op(void **state)
{
    (void)state;
    int n_unclear = 0;
    for (int id = 0; id < GD_OP_COUNT; id++) {
        const gd_op_t *op = gd_op_get((gd_op_id_t)id);
        for (int s = 0; s < GD_MAX_SAMPLES; s++) {
            const gd_sample_t *sample = &op->sample[s];
            if (!sample_is_used(sample) || sample->expect == ST_OK) {
                continue;
            }
            place = (place_t){.op = op, .id = (gd_op_id_t)id, .sample = s, .what = "must fail"};
            inputs_t inputs;
            gd_tensor_t *in[GD_MAX_IN] = {NULL};
            gd_tensor_t *out[GD_MAX_OUT] = {NULL};
            inputs_make(sample, GD_DTYPE_F32, &inputs);
            tensors_make(&inputs, LAYOUT_DENSE, in);

            status_t status = gd_op_apply((gd_op_id_t)id, in, inputs.n_in, &sample->attrs, out);

            if (status != sample->expect) {
                fail_at(status_name(status));
            }
            if (strncmp(status_message(), op->name, strlen(op->name)) != 0) {
                fail_at(status_message());
            }
            if (sample->expect == ST_ERR_SHAPE && strchr(status_message(), '[') == NULL) {
                print_error("%s\n", status_message());
                n_unclear++; /* without a shape */
            }
            if (sample->expect == ST_ERR_DTYPE && !has_dtype_name(status_message())) {
                print_error("%s\n", status_message());
                n_unclear++; /* without a dtype */
            }
            assert_null(out[0]);
            tensors_free(inputs.n_in, in);
            inputs_free(&inputs);
        }
    }
    assert_int_equal(n_unclear, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_row_is_complete),
        TEST(forward_agrees_with_float64_loops),
        TEST(gradients_agree_with_differences),
        TEST(gradients_in_16_bits_agree_with_f64),
        TEST(samples_that_must_fail_do_so_and_name_the_op),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
