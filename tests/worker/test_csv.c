/* SPDX-License-Identifier: Apache-2.0 */
/* Tables: columns, quotes, classes, normalisation, parts, and errors with line and column. */
#include <math.h>
#include <string.h>

#include "tests/worker/dataset_specs.h"

static wrk_dataset_t *dataset;

static void row_expect(int64_t index, const float *inputs, const float *values)
{
    float x[8];
    float y[8];
    assert_ok(wrk_dataset_read(dataset, &index, 1, x, y));
    for (int64_t i = 0; i < wrk_dataset_input(dataset)->numel; i++) {
        assert_true(x[i] == inputs[i]);
    }
    for (int64_t i = 0; i < wrk_dataset_target(dataset)->numel; i++) {
        assert_true(y[i] == values[i]);
    }
}

static int64_t label_get(const wrk_dataset_t *from, int64_t index)
{
    float x[8];
    int64_t label = -1;
    assert_ok(wrk_dataset_read(from, &index, 1, x, &label));
    return label;
}

static void columns_are_found_by_name_and_number(void **state)
{
    (void)state;
    (void)file_write_text("t.csv", "\xEF\xBB\xBF"
                                   "age,\"height, \"\"cm\"\"\",y\r\n1,2.5,-3\r\n4,\"5\n\",6e1\r\n\r\n");
    assert_ok(dataset_open("csv: {path: t.csv, target: [y]}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 2);
    assert_int_equal(wrk_dataset_n_targets(dataset), 1);
    assert_int_equal(wrk_dataset_n_classes(dataset), 0);
    row_expect(0, (float[]){1, 2.5F}, (float[]){-3});
    row_expect(1, (float[]){4, 5}, (float[]){60});
    wrk_dataset_close(dataset);
    assert_ok(
        dataset_open("csv: {path: t.csv, target: [\"-1\", age], inputs: [\"height, \\\"cm\\\"\"]}", NULL, &dataset));
    row_expect(1, (float[]){5}, (float[]){60, 4});
    wrk_dataset_close(dataset);

    (void)file_write_text("plain.csv", "1;2;3\n4;5;6");
    assert_ok(dataset_open("csv: {path: plain.csv, header: false, delimiter: ';', target: [0]}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 2);
    row_expect(1, (float[]){5, 6}, (float[]){4});
    wrk_dataset_close(dataset);
}

static void classes_are_numbers_or_names_numbered_as_in_training(void **state)
{
    (void)state;
    wrk_dataset_t *validation = NULL;
    (void)file_write_text("train.csv", "x,kind\n1,setosa\n2,virginica\n3,setosa\n4,versicolor\n");
    (void)file_write_text("val.csv", "x,kind\n1,virginica\n2,versicolor\n");
    (void)file_write_text("other.csv", "x,kind\n1,virginica\n2,rose\n");
    assert_ok(dataset_open("csv: {path: train.csv, target: [kind], classes: true}", NULL, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 3);
    assert_int_equal(wrk_dataset_target(dataset)->dtype, GD_DTYPE_I64);
    assert_int_equal(label_get(dataset, 1), 2);
    assert_ok(dataset_open("csv: {path: val.csv, target: [kind], classes: true}", dataset, &validation));
    assert_int_equal(wrk_dataset_n_classes(validation), 3);
    assert_int_equal(label_get(validation, 0), 2);
    assert_int_equal(label_get(validation, 1), 1);
    wrk_dataset_close(validation);
    assert_fails(dataset_open("csv: {path: other.csv, target: [kind], classes: true}", dataset, &validation),
                 ST_ERR_DATA, "other.csv: line 3: class \"rose\" does not occur in the training data");
    assert_fails(wrk_dataset_check_classes(dataset, 2), ST_ERR_DATA, "train.csv: line 3 has class 2; the model has");
    wrk_dataset_close(dataset);

    (void)file_write_text("n.csv", "x,kind\n1,0\n2,7\n");
    assert_ok(dataset_open("csv: {path: n.csv, target: [kind], classes: true}", NULL, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 8);
    assert_int_equal(label_get(dataset, 1), 7);
    wrk_dataset_close(dataset);
}

static void a_class_that_the_loss_ignores_is_none(void **state)
{
    (void)state;
    wrk_dataset_t *validation = NULL;
    (void)file_write_text("n.csv", "x,kind\n1,-1\n2,2\n3,0\n");
    (void)file_write_text("names.csv", "x,kind\n1,b\n2,-100\n3,a\n");
    (void)file_write_text("v.csv", "x,kind\n1,-100\n2,b\n");
    (void)file_write_text("only.csv", "x,kind\n1,-1\n2,-1\n");
    assert_ok(dataset_open_ignoring("csv: {path: n.csv, target: [kind], classes: true}", NULL, -1, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 3);
    assert_int_equal(label_get(dataset, 0), -1);
    assert_int_equal(label_get(dataset, 1), 2);
    assert_fails(wrk_dataset_check_classes(dataset, 2), ST_ERR_DATA, "n.csv: line 3 has class 2; the model has");
    wrk_dataset_close(dataset);
    assert_ok(dataset_open_ignoring("csv: {path: n.csv, target: [kind], classes: true}", NULL, 2, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 2); /* -1 and 0 are names now */
    assert_int_equal(label_get(dataset, 1), 2);
    wrk_dataset_close(dataset);
    assert_ok(dataset_open_ignoring("csv: {path: names.csv, target: [kind], classes: true}", NULL, -100, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 2);
    assert_int_equal(label_get(dataset, 0), 1);
    assert_int_equal(label_get(dataset, 1), -100);
    assert_ok(dataset_open_ignoring("csv: {path: v.csv, target: [kind], classes: true}", dataset, -100, &validation));
    assert_int_equal(label_get(validation, 0), -100);
    assert_int_equal(label_get(validation, 1), 1);
    wrk_dataset_close(validation);
    wrk_dataset_close(dataset);
    assert_fails(dataset_open_ignoring("csv: {path: only.csv, target: [kind], classes: true}", NULL, -1, &dataset),
                 ST_ERR_DATA, "only.csv: line 2: class -1 and all others are the loss's ignore_index");
}

static void normalisation_is_by_the_training_rows(void **state)
{
    (void)state;
    wrk_dataset_t *validation = NULL;
    float deviation = (float)sqrt(2.0 / 3.0);
    (void)file_write_text("t.csv", "a,b,y\n1,5,1\n2,5,2\n3,5,3\n9,9,9\n");
    assert_ok(dataset_open("csv: {path: t.csv, target: [y], normalize: true, part: [0, 0.75]}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 3);
    row_expect(0, (float[]){(float)(-1.0 / sqrt(2.0 / 3.0)), 0}, (float[]){1});
    assert_ok(dataset_open("csv: {path: t.csv, target: [y], normalize: true, part: [0.75, 1]}", dataset, &validation));
    wrk_dataset_close(dataset);
    dataset = validation;
    assert_int_equal(wrk_dataset_count(dataset), 1);
    float x[2];
    int64_t zero = 0;
    assert_ok(wrk_dataset_read(dataset, &zero, 1, x, NULL));
    assert_true(fabsf(x[0] - 7 / deviation) < 1e-5F && x[1] == 4);
    wrk_dataset_close(dataset);
}

static void several_files_are_one_table(void **state)
{
    (void)state;
    (void)file_write_text("a-1.csv", "x,y\n1,2\n");
    (void)file_write_text("a-2.csv", "x,y\n3,4\n");
    (void)file_write_text("b.csv", "x,y\n3,4\n");
    (void)file_write_text("b2.csv", "x,z\n3,4\n");
    assert_ok(dataset_open("csv: {path: \"a-*.csv\", target: [y]}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 2);
    row_expect(1, (float[]){3}, (float[]){4});
    wrk_dataset_close(dataset);
    dataset_refused("csv: {path: \"b*.csv\", target: [y]}", ST_ERR_DATA,
                    "b2.csv: line 1, column 3: \"z\": another header");
}

static void bad_tables_are_named_with_line_and_column(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        status_t code;
        const char *message;
    } cases[] = {
        {"", ST_ERR_DATA, "t.csv: an empty table"},
        {"x,y\n", ST_ERR_DATA, "t.csv: a table without rows"},
        {"x,y\n1,2\n3\n", ST_ERR_DATA, "line 3 has 1 fields; the first line has 2"},
        {"x,y\n1,2,3\n", ST_ERR_DATA, "line 2 has 3 fields"},
        {"x,y\n1,a,3\n", ST_ERR_DATA, "line 2 has 3 fields; the first line has 2"},
        {"x,y\n1,nan\n", ST_ERR_DATA, "line 2, column 3 (field 1, \"y\"): \"nan\" is not a finite number"},
        {"x,y\n1,2\n-inf,2\n", ST_ERR_DATA, "line 3, column 1 (field 0, \"x\"): \"-inf\" is not a finite number"},
        {"x,y\n1e60,2\n", ST_ERR_DATA, "is beyond what 32 bits hold"},
        {"x,y\n1,two\n", ST_ERR_DATA, "\"two\" is not a number"},
        {"x,y\n1,\n", ST_ERR_DATA, "a missing value"},
        {"x,y\n0x10,2\n", ST_ERR_DATA, "is not a number"},
        {"x,y\n\"1,2\n", ST_ERR_CORRUPT, "line 2, column 1: a quote that is not closed"},
        {"x,y\n\"1\"2,3\n", ST_ERR_CORRUPT, "line 2, column 4: text behind a closing quote"},
        {"x,z\n1,2\n", ST_ERR_DATA, "no column \"y\" among its 2: \"x\", \"z\""},
        {"y\n1\n", ST_ERR_DATA, "no column is left for the inputs"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)file_write_text("t.csv", cases[i].text);
        dataset_refused("csv: {path: t.csv, target: [y]}", cases[i].code, cases[i].message);
    }
    (void)file_write("t.csv", "x,y\n1,\0\n", 8);
    dataset_refused("csv: {path: t.csv, target: [y]}", ST_ERR_CORRUPT, "line 2, column 3: a NUL byte");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(columns_are_found_by_name_and_number),  TEST(classes_are_numbers_or_names_numbered_as_in_training),
        TEST(a_class_that_the_loss_ignores_is_none), TEST(normalisation_is_by_the_training_rows),
        TEST(several_files_are_one_table),           TEST(bad_tables_are_named_with_line_and_column),
    };
    return cmocka_run_group_tests_name("csv", tests, NULL, NULL);
}
