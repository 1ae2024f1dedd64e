/* SPDX-License-Identifier: Apache-2.0 */
/* State: listing, files under PyTorch's names, what is refused and how it is said, freezing by pattern. */
#include "gradd/state.h"

#include <stdio.h>
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/chain.h"
#include "gradd/context.h"
#include "gradd/flat.h"
#include "gradd/optim.h"
#include "gradd/safetensors.h"
#include "tests/support/fixture.h"

static const char *path_of(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), name);
    return path;
}

/* wte [5, 3], then norm (3 channels of an image), then head, tied to wte. */
static gd_module_t *model_new(uint64_t seed)
{
    gd_module_t *root = NULL;
    gd_module_t *wte = NULL;
    gd_module_t *norm = NULL;
    gd_module_t *head = NULL;
    assert_ok(gd_sequential_new(&root));
    assert_ok(gd_embedding_new(5, 3, &wte));
    assert_ok(gd_batch_norm2d_new(3, 1e-5, 0.1, &norm));
    assert_ok(gd_linear_tied_new(wte->parameters[0].tensor, true, &head));
    assert_ok(gd_module_add_child(root, "wte", wte));
    assert_ok(gd_module_add_child(root, "norm", norm));
    assert_ok(gd_module_add_child(root, "head", head));
    (void)gd_module_unref(wte);
    (void)gd_module_unref(norm);
    (void)gd_module_unref(head);
    assert_ok(gd_module_set_paths(root));
    assert_ok(gd_module_initialise(root, seed));
    return root;
}

static const gd_state_entry_t *entry_of(const gd_state_t *state, const char *name)
{
    for (int i = 0; i < state->n_entries; i++) {
        if (strcmp(state->entries[i].name, name) == 0) {
            return &state->entries[i];
        }
    }
    fail_msg("no entry %s", name);
    return NULL;
}

static float first_of(gd_module_t *root, const char *name)
{
    gd_state_t state = {0};
    assert_ok(gd_module_list_state(root, &state));
    float value = *(const float *)gd_tensor_data(entry_of(&state, name)->tensor);
    gd_state_release(&state);
    return value;
}

static void the_state_lists_parameters_buffers_and_shared_ones(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"wte.weight",       "norm.weight", "norm.bias", "norm.running_mean",
                                        "norm.running_var", "head.weight", "head.bias"};
    gd_module_t *root = model_new(1);
    gd_state_t list = {0};

    assert_ok(gd_module_list_state(root, &list));

    assert_int_equal(list.n_entries, 7);
    for (int i = 0; i < 7; i++) {
        assert_string_equal(list.entries[i].name, NAMES[i]);
        assert_int_equal(list.entries[i].is_buffer, i == 3 || i == 4);
        assert_int_equal(list.entries[i].is_shared, i == 5);
    }
    assert_ptr_equal(list.entries[5].tensor, list.entries[0].tensor);
    gd_state_release(&list);
    (void)gd_module_unref(root);
}

static void what_is_saved_is_loaded_before_and_after_flattening(void **state)
{
    (void)state;
    gd_module_t *from = model_new(1);
    gd_module_t *to = model_new(2);
    gd_flat_t *flat = NULL;
    const char *path = path_of("model.safetensors");
    const float wanted = first_of(from, "wte.weight");
    assert_true(first_of(to, "wte.weight") != wanted);

    assert_ok(gd_module_save(from, path));
    assert_ok(gd_module_load(to, path, NULL, NULL));
    assert_true(first_of(to, "head.weight") == wanted);

    assert_ok(gd_module_initialise(to, 3));
    assert_ok(gd_flat_open(to, &flat));
    assert_ok(gd_module_load(to, path, NULL, NULL));
    assert_true(first_of(to, "head.weight") == wanted);
    assert_true(flat->parameters[0] == wanted);

    gd_flat_close(flat);
    (void)gd_module_unref(from);
    (void)gd_module_unref(to);
}

static const float TEN[16] = {0.5F, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#define ENTRY(name_x, dims_x, ...)                                                                                     \
    {                                                                                                                  \
        .name = (name_x), .dtype = GD_DTYPE_F32, .n_dims = (dims_x), .shape = {__VA_ARGS__}, .data = TEN               \
    }

/* All of model_new, the tied weight under both names, PyTorch's counter; `n` of them are written. */
static gd_safetensors_entry_t entries[] = {
    ENTRY("net.norm.weight", 1, 3),
    ENTRY("net.norm.bias", 1, 3),
    ENTRY("net.norm.running_mean", 1, 3),
    ENTRY("net.norm.running_var", 1, 3),
    ENTRY("net.norm.num_batches_tracked", 0, 0),
    ENTRY("net.head.bias", 1, 5),
    ENTRY("net.head.weight", 2, 5, 3),
    ENTRY("net.wte.weight", 2, 5, 3),
};

static void a_tied_weight_may_have_either_name_or_both(void **state)
{
    (void)state;
    gd_module_t *root = model_new(1);
    const gd_load_options_t options = {.strip = "net."};
    const char *path = path_of("model.safetensors");

    for (int n = 7; n <= 8; n++) { /* 7: by the head's name alone */
        assert_ok(gd_module_initialise(root, 1));
        assert_ok(gd_safetensors_write(path, entries, n, NULL, 0, NULL));
        assert_ok(gd_module_load(root, path, &options, NULL));
        assert_true(first_of(root, "wte.weight") == 0.5F);
    }

    gd_safetensors_entry_t changed[8];
    memcpy(changed, entries, sizeof(entries));
    changed[7].data = TEN + 1;
    assert_ok(gd_safetensors_write(path, changed, 8, NULL, 0, NULL));
    assert_fails(gd_module_load(root, path, &options, NULL), ST_ERR_SHAPE,
                 "\"wte.weight\" and \"head.weight\" are one parameter in the model and differ in the file");
    (void)gd_module_unref(root);
}

static void gaps_and_misfits_are_all_reported_and_change_nothing(void **state)
{
    (void)state;
    gd_module_t *root = model_new(1);
    const float before = first_of(root, "wte.weight");
    gd_safetensors_entry_t wrong[] = {ENTRY("wte.weight", 2, 5, 3), ENTRY("norm.weight", 1, 3),
                                      ENTRY("norm.bias", 1, 4),     ENTRY("old.weight", 2, 2, 2),
                                      ENTRY("rotary.cache", 1, 3),  ENTRY("norm.running_var", 1, 3)};
    const char *path = path_of("model.safetensors");
    strbuf_t report = {0};

    assert_ok(gd_safetensors_write(path, wrong, 6, NULL, 0, NULL));
    assert_fails(gd_module_load(root, path, NULL, &report), ST_ERR_SHAPE,
                 "(6 tensors): 2 missing, 2 unexpected, 1 that don't fit; doesn't fit: \"norm.bias\" is [4] f32 in the "
                 "file, [3] in the model; missing: \"");
    assert_non_null(strstr(strbuf_text(&report), "unexpected: \"old.weight\" [2, 2] f32\n"));
    assert_non_null(strstr(strbuf_text(&report), "missing: \"head.bias\" [5]\n"));
    assert_true(first_of(root, "wte.weight") == before);

    const char *const ignore[] = {"rotary.*"};
    gd_load_options_t options = {.ignore = ignore, .n_ignore = 1};
    wrong[2].shape[0] = 3;
    assert_ok(gd_safetensors_write(path, wrong, 6, NULL, 0, NULL));
    assert_fails(gd_module_load(root, path, &options, NULL), ST_ERR_NOT_FOUND, "2 missing, 1 unexpected");
    options.allows_gaps = true;
    strbuf_clear(&report);
    assert_ok(gd_module_load(root, path, &options, &report));
    assert_null(strstr(strbuf_text(&report), "rotary"));
    assert_true(first_of(root, "wte.weight") == 0.5F);
    strbuf_release(&report);
    (void)gd_module_unref(root);
}

static void other_float_dtypes_are_converted_and_integers_refused(void **state)
{
    (void)state;
    static const uint16_t HALVES[3] = {0x3e00, 0x3e00, 0x3e00}; /* f16: 1.5 */
    static const uint16_t BRAINS[3] = {0x3fc0, 0x3fc0, 0x3fc0}; /* bf16: 1.5 */
    static const double DOUBLES[3] = {1.5, 1.5, 1.5};
    static const int64_t INTEGERS[3] = {1, 1, 1};
    const struct {
        gd_dtype_t dtype;
        const void *data;
    } kinds[] = {{GD_DTYPE_F16, HALVES}, {GD_DTYPE_BF16, BRAINS}, {GD_DTYPE_F64, DOUBLES}};
    gd_module_t *root = NULL;
    assert_ok(gd_layer_norm_new(3, 1e-5, false, &root));
    gd_safetensors_entry_t entry = ENTRY("weight", 1, 3);
    const char *path = path_of("model.safetensors");

    for (int i = 0; i < 3; i++) {
        assert_ok(gd_module_initialise(root, 1));
        entry.dtype = kinds[i].dtype;
        entry.data = kinds[i].data;
        assert_ok(gd_safetensors_write(path, &entry, 1, NULL, 0, NULL));
        assert_ok(gd_module_load(root, path, NULL, NULL));
        assert_true(first_of(root, "weight") == 1.5F);
    }
    entry.dtype = GD_DTYPE_I64;
    entry.data = INTEGERS;
    assert_ok(gd_safetensors_write(path, &entry, 1, NULL, 0, NULL));
    assert_fails(gd_module_load(root, path, NULL, NULL), ST_ERR_SHAPE, "\"weight\" is [3] i64 in the file");
    (void)gd_module_unref(root);
}

static void a_model_without_memory_is_neither_saved_nor_loaded(void **state)
{
    (void)state;
    bool before = gd_meta_set_enabled(true);
    gd_module_t *root = NULL;
    assert_ok(gd_layer_norm_new(3, 1e-5, false, &root));
    (void)gd_meta_set_enabled(before);

    assert_fails(gd_module_save(root, path_of("a")), ST_ERR_STATE, "\"weight\" has no memory of its own");
    assert_fails(gd_module_load(root, path_of("a"), NULL, NULL), ST_ERR_STATE, "has no memory of its own");
    (void)gd_module_unref(root);
}

/* One step of SGD on the sum of the outputs. */
static void step_run(gd_module_t *root, gd_flat_t *flat)
{
    gd_optimizer_options_t options;
    gd_optimizer_t *optimizer = NULL;
    gd_optimizer_defaults(GD_OPTIMIZER_SGD, &options);
    options.weight_decay = 0.1;
    options.decay_matrices_only = false;
    assert_ok(gd_optimizer_open(&options, flat, &optimizer));
    _Alignas(64) float gradients[64];
    assert_in_range(flat->numel, 1, 64);
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *sum = NULL;
    const int64_t shape[2] = {2, 3};
    assert_ok(gd_flat_set_gradients(flat, gradients));
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 2, shape, 1, &x));
    bool grad = gd_grad_set_enabled(true);
    assert_ok(gd_module_forward(root, x, &y));
    assert_ok(gd_sum(y, 0, NULL, false, &sum));
    assert_ok(gd_backward(sum, NULL, false));
    (void)gd_grad_set_enabled(grad);
    gd_flat_finish_gradients(flat);
    gd_optimizer_next(optimizer);
    assert_ok(gd_optimizer_update(optimizer, gradients, 0.1, 1, 0, flat->numel));
    gd_optimizer_close(optimizer);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(sum);
}

static void frozen_parameters_get_no_gradient_and_keep_their_values(void **state)
{
    (void)state;
    gd_build_t b = gd_build_sequential();
    gd_module_t *root = NULL;
    gd_flat_t *flat = NULL;
    int n = 0;
    gd_build_child(&b, "a", gd_linear_new(3, 3, true, gd_build_slot(&b)));
    gd_build_child(&b, "b", gd_linear_new(3, 2, true, gd_build_slot(&b)));
    assert_ok(gd_build_end(&b, &root));
    assert_ok(gd_module_initialise(root, 1));
    assert_ok(gd_module_freeze(root, "a.*", true, &n));
    assert_int_equal(n, 2);
    assert_ok(gd_flat_open(root, &flat));
    const float frozen = first_of(root, "a.weight");
    const float learnt = first_of(root, "b.weight");

    step_run(root, flat);

    assert_true(first_of(root, "a.weight") == frozen);
    assert_true(first_of(root, "b.weight") != learnt);
    assert_true(gd_tensor_grad_is_fresh(flat->segments[0].parameter));
    assert_fails(gd_module_freeze(root, "c.*", true, NULL), ST_ERR_NOT_FOUND, "\"c.*\"");
    assert_ok(gd_module_freeze(root, "a.*", false, NULL));
    step_run(root, flat);
    assert_true(first_of(root, "a.weight") != frozen);
    gd_flat_close(flat);
    (void)gd_module_unref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_state_lists_parameters_buffers_and_shared_ones),
        TEST(what_is_saved_is_loaded_before_and_after_flattening),
        TEST(a_tied_weight_may_have_either_name_or_both),
        TEST(gaps_and_misfits_are_all_reported_and_change_nothing),
        TEST(other_float_dtypes_are_converted_and_integers_refused),
        TEST(a_model_without_memory_is_neither_saved_nor_loaded),
        TEST(frozen_parameters_get_no_gradient_and_keep_their_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
