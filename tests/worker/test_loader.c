/* SPDX-License-Identifier: Apache-2.0 */
/* The loader: order, threads, resume, errors, memory, and a stop at any moment. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "tests/worker/data_files.h"
#include "worker/data/loader.h"

enum { N_SAMPLES = 40, N_MAX = 3, N_ITEMS = 60 };

static wrk_dataset_t *dataset;

/* Images of one pixel, image i has the value i and the label i. */
static void dataset_make(void)
{
    uint8_t images[16 + N_SAMPLES] = {0, 0, 8, 3, 0, 0, 0, N_SAMPLES, 0, 0, 0, 1, 0, 0, 0, 1};
    uint8_t labels[8 + N_SAMPLES] = {0, 0, 8, 1, 0, 0, 0, N_SAMPLES};
    for (int i = 0; i < N_SAMPLES; i++) {
        images[16 + i] = (uint8_t)i;
        labels[8 + i] = (uint8_t)i;
    }
    Gradd__V1__Idx idx = GRADD__V1__IDX__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    idx.images = (char *)(uintptr_t)file_write("images", images, sizeof(images));
    idx.labels = (char *)(uintptr_t)file_write("labels", labels, sizeof(labels));
    spec.kind_case = GRADD__V1__DATASET__KIND_IDX;
    spec.idx = &idx;
    assert_ok(wrk_dataset_open(&spec, NULL, &dataset));
}

/* Item k: k mod 3 + 1 samples; item 13 has a sample that isn't there, item 17 no plan. */
static status_t plan_make(void *arg, int64_t item, wrk_plan_t *plan)
{
    bool has_errors = *(bool *)arg;
    if (has_errors && item == 17) {
        return ST_FAIL(ST_ERR_RANGE, "no plan for item 17");
    }
    plan->n = item % N_MAX + 1;
    for (int64_t i = 0; i < plan->n; i++) {
        plan->indices[i] = (item * 7 + i) % N_SAMPLES;
    }
    plan->indices[0] = has_errors && item == 13 ? N_SAMPLES : plan->indices[0];
    return ST_OK;
}

static wrk_loader_t *loader_open(int n_threads, int64_t n_ahead, bool *has_errors)
{
    wrk_loader_options_t options = {.dataset = dataset,
                                    .plan = plan_make,
                                    .arg = has_errors,
                                    .n_max = N_MAX,
                                    .n_threads = n_threads,
                                    .n_ahead = n_ahead};
    wrk_loader_t *loader = NULL;
    assert_ok(wrk_loader_open(&options, &loader));
    return loader;
}

static void item_expect(wrk_loader_t *loader, int64_t item)
{
    float inputs[N_MAX];
    int64_t targets[N_MAX];
    int64_t indices[N_MAX];
    assert_ok(wrk_loader_take(loader, inputs, targets, indices));
    for (int64_t i = 0; i < item % N_MAX + 1; i++) {
        int64_t sample = (item * 7 + i) % N_SAMPLES;
        assert_int_equal(targets[i], sample);
        assert_int_equal(indices[i], sample);
        assert_true(inputs[i] == (float)sample / 255.0F);
    }
}

static void items_come_in_order_whatever_the_threads(void **state)
{
    (void)state;
    static const struct {
        int n_threads;
        int64_t n_ahead;
    } cases[] = {{0, 1}, {1, 1}, {1, 4}, {3, 2}, {4, 7}, {8, 64}};
    bool has_errors = false;
    dataset_make();
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        wrk_loader_t *loader = loader_open(cases[c].n_threads, cases[c].n_ahead, &has_errors);
        wrk_loader_start(loader, 0, N_ITEMS);
        for (int64_t item = 0; item < N_ITEMS; item++) {
            item_expect(loader, item);
        }
        float inputs[N_MAX];
        int64_t targets[N_MAX];
        assert_fails(wrk_loader_take(loader, inputs, targets, NULL), ST_ERR_STATE,
                     "item 60 of a loader that ends at 60");
        wrk_loader_close(loader);
    }
    wrk_dataset_close(dataset);
}

static void it_begins_anywhere_and_begins_anew(void **state)
{
    (void)state;
    bool has_errors = false;
    dataset_make();
    wrk_loader_t *loader = loader_open(3, 5, &has_errors);
    for (int64_t first = 0; first < N_ITEMS; first += 11) {
        wrk_loader_start(loader, first, N_ITEMS); /* the last one was left in the middle */
        for (int64_t item = first; item < first + 4; item++) {
            item_expect(loader, item);
        }
    }
    wrk_loader_close(loader);
    wrk_dataset_close(dataset);
}

static void an_error_waits_for_its_item(void **state)
{
    (void)state;
    dataset_make();
    for (int n_threads = 0; n_threads < 4; n_threads++) {
        bool has_errors = true;
        float inputs[N_MAX];
        int64_t targets[N_MAX];
        wrk_loader_t *loader = loader_open(n_threads, 8, &has_errors);
        wrk_loader_start(loader, 10, 20);
        for (int64_t item = 10; item < 20; item++) {
            if (item == 13) {
                assert_fails(wrk_loader_take(loader, inputs, targets, NULL), ST_ERR_RANGE,
                             "sample 40 of a dataset of 40");
            } else if (item == 17) {
                assert_fails(wrk_loader_take(loader, inputs, targets, NULL), ST_ERR_RANGE, "no plan for item 17");
            } else {
                item_expect(loader, item);
            }
        }
        wrk_loader_close(loader);
    }
    wrk_dataset_close(dataset);
}

static void it_can_be_closed_at_any_moment(void **state)
{
    (void)state;
    bool has_errors = false;
    dataset_make();
    for (int64_t n_taken = 0; n_taken < 30; n_taken++) {
        wrk_loader_t *loader = loader_open(4, 3, &has_errors);
        if (n_taken > 0) {
            wrk_loader_start(loader, 0, N_ITEMS);
        }
        for (int64_t item = 0; item + 1 < n_taken; item++) {
            item_expect(loader, item);
        }
        wrk_loader_close(loader);
    }
    wrk_dataset_close(dataset);
}

static void nothing_is_allocated_once_it_runs(void **state)
{
    (void)state;
    bool has_errors = false;
    dataset_make();
    wrk_loader_t *loader = loader_open(3, 6, &has_errors);
    wrk_loader_start(loader, 0, 10000);
    item_expect(loader, 0);
    int64_t n_blocks = mem_total_count();
    for (int64_t item = 1; item < 3000; item++) {
        item_expect(loader, item);
    }
    assert_int_equal(mem_total_count(), n_blocks);
    wrk_loader_close(loader);
    wrk_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(items_come_in_order_whatever_the_threads),
        TEST(it_begins_anywhere_and_begins_anew),
        TEST(an_error_waits_for_its_item),
        TEST(it_can_be_closed_at_any_moment),
        TEST(nothing_is_allocated_once_it_runs),
    };
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
