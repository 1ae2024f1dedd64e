/* SPDX-License-Identifier: Apache-2.0 */
/* Calls without the tensors or axes that they need: an error that names the function, and nothing is made. */
#include "tests/support/fixture.h"

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/inplace.h"
#include "gradd/nn.h"
#include "gradd/ops.h"

/* x[3, 4], where a call needs one that is there. */
typedef status_t (*call_func_t)(gd_tensor_t *x, gd_tensor_t **y_p);

#define CALL(name_x, call_x)                                                                                           \
    static status_t name_x##_call(gd_tensor_t *x, gd_tensor_t **y_p)                                                   \
    {                                                                                                                  \
        (void)x;                                                                                                       \
        (void)y_p;                                                                                                     \
        return call_x;                                                                                                 \
    }
CALL(add, gd_add(x, NULL, y_p))
CALL(neg, gd_neg(NULL, y_p))
CALL(sum, gd_sum(NULL, 0, NULL, false, y_p))
CALL(softmax, gd_softmax(NULL, 0, y_p))
CALL(reshape, gd_reshape(NULL, 1, (const int64_t[]){12}, y_p))
CALL(permute, gd_permute(NULL, (const int[]){1, 0}, y_p))
CALL(order, gd_permute(x, NULL, y_p))
CALL(unsqueeze, gd_unsqueeze(NULL, 0, y_p))
CALL(contiguous, gd_contiguous(NULL, y_p))
CALL(cast, gd_cast(NULL, GD_DTYPE_F64, y_p))
CALL(to, gd_tensor_to(NULL, GD_DEVICE_CPU, GD_DTYPE_F64, y_p))
CALL(matmul, gd_matmul(x, NULL, y_p))
CALL(where, gd_where(x, x, NULL, y_p))
CALL(cat, gd_cat((gd_tensor_t *const[]){NULL, x}, 2, 0, y_p))
CALL(cat_none, gd_cat(NULL, 2, 0, y_p))
CALL(stack, gd_stack((gd_tensor_t *const[]){x, NULL}, 2, 0, y_p))
CALL(gather, gd_gather(x, 0, NULL, y_p))
CALL(index, gd_index_get(x, NULL, 1, y_p))
CALL(detach, gd_detach(NULL, y_p))
CALL(number, gd_with_number(gd_add, NULL, gd_int(1), y_p))
CALL(backward, gd_backward(NULL, NULL, false))
CALL(grad, gd_grad(&x, NULL, 1, (gd_tensor_t *const[]){NULL}, 1, true, true, y_p))
CALL(add_inplace, gd_add_inplace(NULL, x))
CALL(copy_inplace, gd_copy_inplace(x, NULL))
CALL(copy, gd_tensor_copy(x, NULL))
CALL(item, gd_tensor_item(NULL, &(double){0}))
CALL(forward, gd_module_forward(NULL, x, y_p))
CALL(no_op, gd_op_apply((gd_op_id_t)GD_OP_COUNT, &x, 1, NULL, y_p))

static const struct {
    call_func_t call;
    const char *message;
} calls[] = {
    {add_call, "add: input 1 is missing"},
    {neg_call, "neg: input 0 is missing"},
    {sum_call, "sum: input 0 is missing"},
    {softmax_call, "softmax: input 0 is missing"},
    {reshape_call, "reshape: input 0 is missing"},
    {permute_call, "permute: input 0 is missing"},
    {order_call, "permute: the order is missing"},
    {unsqueeze_call, "unsqueeze: input 0 is missing"},
    {contiguous_call, "contiguous: input 0 is missing"},
    {cast_call, "cast: input 0 is missing"},
    {to_call, "to: input 0 is missing"},
    {matmul_call, "matmul: input 1 is missing"},
    {where_call, "where: input 1 is missing"},
    {cat_call, "cat: input 0 is missing"},
    {cat_none_call, "cat: 2 tensors"},
    {stack_call, "stack: input 1 is missing"},
    {gather_call, "gather: the index is missing"},
    {index_call, "index: the indices are missing"},
    {detach_call, "detach: input 0 is missing"},
    {number_call, "number: input 0 is missing"},
    {backward_call, "gd_backward: there is no root"},
    {grad_call, "gd_grad: input 0 is missing"},
    {add_inplace_call, "add: input 0 is missing"},
    {copy_inplace_call, "copy: input 1 is missing"},
    {copy_call, "copy: the source is missing"},
    {item_call, "item: the tensor is missing"},
    {forward_call, "gd_module_forward: the module is missing"},
    {no_op_call, "is no op"},
};

static void what_is_missing_is_named(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (const int64_t[]){3, 4}, &x));
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        gd_tensor_t *y = NULL;

        assert_fails(calls[i].call(x, &y), ST_ERR_INVAL, calls[i].message);

        assert_null(y);
    }
    (void)gd_tensor_unref(x);
}

static void axes_that_there_are_not_are_refused(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (const int64_t[]){3, 4}, &x));

    assert_fails(gd_sum(x, -1, NULL, false, &y), ST_ERR_RANGE, "sum: -1 axes");
    assert_fails(gd_sum(x, 1, NULL, false, &y), ST_ERR_INVAL, "sum: the 1 axes are missing");
    assert_fails(gd_flip(x, 2, (const int[]){0, -2}, &y), ST_ERR_INVAL, "flip: axis 0 is given twice");
    assert_int_equal(gd_tensor_dim(x, -1), 4);
    assert_int_equal(gd_tensor_dim(x, 2), -1);
    assert_int_equal(gd_tensor_dim(x, -3), -1);
    (void)gd_tensor_unref(x);
}

/* As in PyTorch: a view that is taken while nothing is recorded has no graph, be it of the same shape. */
static void a_reshape_without_recording_has_no_graph(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (const int64_t[]){3, 4}, &x));
    assert_ok(gd_tensor_set_requires_grad(x, true));

    const bool was_enabled = gd_grad_set_enabled(false);
    assert_ok(gd_reshape(x, 2, (const int64_t[]){3, 4}, &y));
    (void)gd_grad_set_enabled(was_enabled);

    assert_false(gd_tensor_requires_grad(y));
    assert_ptr_equal(gd_tensor_data(y), gd_tensor_data(x));
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_missing_is_named),
        TEST(axes_that_there_are_not_are_refused),
        TEST(a_reshape_without_recording_has_no_graph),
    };
    return cmocka_run_group_tests_name("bad_call", tests, NULL, NULL);
}
