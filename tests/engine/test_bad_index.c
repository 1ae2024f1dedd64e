/* SPDX-License-Identifier: Apache-2.0 */
/* Every function that takes indices or labels refuses those outside, naming the op, the value, where it is and what is
 * possible; and gives its results of nothing for an empty batch. */
#include "tests/support/fixture.h"

#include <stdio.h>
#include <string.h>

#include "gradd/loss.h"
#include "gradd/ops.h"

typedef struct set {
    gd_tensor_t *x;      /* [n, 4] */
    gd_tensor_t *one;    /* ids or labels [n] */
    gd_tensor_t *rows;   /* the same as [n, 1] */
    gd_tensor_t *source; /* [n, 1] */
    gd_tensor_t *weight; /* [4, 2] */
} set_t;

typedef status_t (*apply_func_t)(const set_t *s, gd_tensor_t **y_p);

#define APPLY(name_x, call_x)                                                                                          \
    static status_t name_x##_apply(const set_t *s, gd_tensor_t **y_p)                                                  \
    {                                                                                                                  \
        return call_x;                                                                                                 \
    }
APPLY(embedding, gd_embedding(s->one, s->weight, y_p))
APPLY(embedding_bag, gd_embedding_bag(s->rows, NULL, s->weight, GD_BAG_SUM, -1, y_p))
APPLY(gather, gd_gather(s->x, 1, s->rows, y_p))
APPLY(take_along_dim, gd_take_along_dim(s->x, 1, s->rows, y_p))
APPLY(scatter, gd_scatter(s->x, 1, s->rows, s->source, y_p))
APPLY(scatter_add, gd_scatter_add(s->x, 1, s->rows, s->source, y_p))
APPLY(index_select, gd_index_select(s->weight, 0, s->one, y_p))
APPLY(cross_entropy, gd_cross_entropy(s->x, s->one, 1, -100, 0, y_p, NULL))
APPLY(cross_entropy_loss, gd_cross_entropy_loss(s->x, s->one, NULL, -100, 0, GD_REDUCTION_SUM, y_p))
APPLY(nll, gd_nll_loss(s->x, s->one, NULL, -100, GD_REDUCTION_SUM, y_p))
APPLY(multi_margin, gd_multi_margin_loss(s->x, s->one, NULL, 1, 1, GD_REDUCTION_SUM, y_p))

static const struct {
    const char *name;
    apply_func_t apply;
    status_t code;
    const char *before, *after; /* the message around the value */
} functions[] = {
    {"embedding", embedding_apply, ST_ERR_DATA, "embedding: id ", " at position 2 is outside 0 … 3"},
    {"embedding_bag", embedding_bag_apply, ST_ERR_DATA, "embedding_bag: id ", " at position 2 is outside 0 … 3"},
    {"gather", gather_apply, ST_ERR_RANGE, "gather: index ", " (element 2 of the index) for axis 1 of size 4"},
    {"take_along_dim", take_along_dim_apply, ST_ERR_RANGE, "gather: index ",
     " (element 2 of the index) for axis 1 of size 4"},
    {"scatter", scatter_apply, ST_ERR_RANGE, "scatter: index ", " (element 2 of the index) for axis 1 of size 4"},
    {"scatter_add", scatter_add_apply, ST_ERR_RANGE, "scatter: index ",
     " (element 2 of the index) for axis 1 of size 4"},
    {"index_select", index_select_apply, ST_ERR_RANGE, "gather: index ",
     " (element 2 of the index) for axis 0 of size 4"},
    {"cross_entropy", cross_entropy_apply, ST_ERR_DATA, "cross_entropy: label ", " of row 2 is outside 0 … 3"},
    {"cross_entropy_loss", cross_entropy_loss_apply, ST_ERR_DATA, "cross_entropy: label ",
     " of row 2 is outside 0 … 3"},
    {"nll", nll_apply, ST_ERR_DATA, "class_loss: label ", " of row 2 is outside 0 … 3"},
    {"multi_margin", multi_margin_apply, ST_ERR_DATA, "class_loss: label ", " of row 2 is outside 0 … 3"},
};

static void set_make(int64_t n, int64_t value, set_t *s)
{
    const int64_t ids[3] = {0, 3, value};
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (int64_t[]){n, 4}, &s->x));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 1, &n, ids, &s->one));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 2, (int64_t[]){n, 1}, ids, &s->rows));
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (int64_t[]){n, 1}, &s->source));
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (int64_t[]){4, 2}, &s->weight));
}

static void set_release(set_t *s)
{
    (void)gd_tensor_unref(s->x);
    (void)gd_tensor_unref(s->one);
    (void)gd_tensor_unref(s->rows);
    (void)gd_tensor_unref(s->source);
    (void)gd_tensor_unref(s->weight);
}

static void an_index_outside_is_named_with_its_place(void **state)
{
    (void)state;
    static const int64_t values[] = {-7, 4, INT64_MAX, INT64_MIN};
    int n_wrong = 0;
    for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
        set_t s = {0};
        set_make(3, values[v], &s);
        for (size_t f = 0; f < sizeof(functions) / sizeof(functions[0]); f++) {
            gd_tensor_t *y = NULL;
            char expected[256];
            (void)snprintf(expected, sizeof(expected), "%s%lld%s", functions[f].before, (long long)values[v],
                           functions[f].after);

            status_t status = functions[f].apply(&s, &y);

            if (status != functions[f].code || y != NULL || strcmp(status_message(), expected) != 0) {
                print_error("%s: %s: %s\n", functions[f].name, status_name(status), status_message());
                n_wrong++;
            }
            (void)gd_tensor_unref(y);
        }
        set_release(&s);
    }
    assert_int_equal(n_wrong, 0);
}

static void an_empty_batch_gives_an_empty_result_or_a_sum_of_nothing(void **state)
{
    (void)state;
    set_t s = {0};
    set_make(0, 0, &s);
    for (size_t f = 0; f < sizeof(functions) / sizeof(functions[0]); f++) {
        gd_tensor_t *y = NULL;
        double sum = 1;

        status_t status = functions[f].apply(&s, &y);

        if (status != ST_OK) {
            fail_msg("%s: %s", functions[f].name, status_message());
        }
        if (gd_tensor_numel(y) != 0 && (gd_tensor_item(y, &sum) != ST_OK || sum != 0)) {
            fail_msg("%s of nothing isn't 0", functions[f].name);
        }
        (void)gd_tensor_unref(y);
    }
    set_release(&s);
}

static void a_ctc_label_outside_is_named_with_its_sample(void **state)
{
    (void)state;
    const int64_t labels[2][1] = {{1}, {4}};
    const int64_t lengths[2] = {3, 3}, ones[2] = {1, 1}, long_ones[2] = {1, 2};
    gd_tensor_t *x = NULL, *targets = NULL, *n_in = NULL, *n_out = NULL, *n_long = NULL, *loss = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 3, (int64_t[]){3, 2, 4}, &x));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 2, (int64_t[]){2, 1}, labels, &targets));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 1, (int64_t[]){2}, lengths, &n_in));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 1, (int64_t[]){2}, ones, &n_out));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 1, (int64_t[]){2}, long_ones, &n_long));

    assert_fails(gd_ctc_loss(x, targets, n_in, n_out, 0, false, GD_REDUCTION_SUM, &loss), ST_ERR_DATA,
                 "ctc: label 4 of sample 1 is outside 0 … 3, or the blank 0");
    assert_fails(gd_ctc_loss(x, targets, n_in, n_long, 0, false, GD_REDUCTION_SUM, &loss), ST_ERR_DATA,
                 "ctc: lengths 3 and 2 of sample 1 are outside 0 … 3 and 0 … 1");
    assert_fails(gd_ctc_loss(x, targets, n_in, n_out, 4, false, GD_REDUCTION_SUM, &loss), ST_ERR_RANGE,
                 "ctc: blank 4 is outside 0 … 3");

    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(targets);
    (void)gd_tensor_unref(n_in);
    (void)gd_tensor_unref(n_out);
    (void)gd_tensor_unref(n_long);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_index_outside_is_named_with_its_place),
        TEST(an_empty_batch_gives_an_empty_result_or_a_sum_of_nothing),
        TEST(a_ctc_label_outside_is_named_with_its_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
