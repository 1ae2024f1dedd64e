/* SPDX-License-Identifier: Apache-2.0 */
/* The rules table against the descriptors; explain, schema, reference; expressions. */
#include "tests/support/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/spec_internal.h"

enum { MAX_MESSAGES = 192, MAX_RULES = 1024 };

static void every_field_has_one_row_and_every_row_a_field(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *messages[MAX_MESSAGES];
    bool is_used[MAX_RULES] = {false};
    int n_messages = spec_messages(messages, MAX_MESSAGES);
    assert_in_range(n_messages, 40, MAX_MESSAGES - 1);
    assert_in_range(spec_n_rules, 100, MAX_RULES);

    for (int m = 0; m < n_messages; m++) {
        for (unsigned i = 0; i < messages[m]->n_fields; i++) {
            const spec_rule_t *rule = spec_rule_find(messages[m], &messages[m]->fields[i]);
            if (rule == NULL) {
                fail_msg("%s.%s has no row in rules.c", messages[m]->name, messages[m]->fields[i].name);
            }
            is_used[rule - spec_rules] = true;
        }
    }

    for (int r = 0; r < spec_n_rules; r++) {
        if (!is_used[r]) {
            fail_msg("the row %s fits no field", spec_rules[r].field);
        }
    }
}

static bool type_has_a_yaml_form(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_INT32 || field->type == PROTOBUF_C_TYPE_INT64 ||
           field->type == PROTOBUF_C_TYPE_UINT64 || field->type == PROTOBUF_C_TYPE_DOUBLE ||
           field->type == PROTOBUF_C_TYPE_BOOL || field->type == PROTOBUF_C_TYPE_ENUM ||
           field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE;
}

static void a_row_is_complete_and_fits_its_fields(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *messages[MAX_MESSAGES];
    int n_messages = spec_messages(messages, MAX_MESSAGES);

    for (int m = 0; m < n_messages; m++) {
        for (unsigned i = 0; i < messages[m]->n_fields; i++) {
            const ProtobufCFieldDescriptor *field = &messages[m]->fields[i];
            const spec_rule_t *rule = spec_rule_find(messages[m], field);
            bool is_message = field->type == PROTOBUF_C_TYPE_MESSAGE;
            assert_non_null(rule->help);
            assert_true(strlen(rule->help) > 3 && rule->help[strlen(rule->help) - 1] == '.');
            assert_true(type_has_a_yaml_form(field));
            assert_true((rule->flags & SPEC_HAS_MIN) == 0 || (!is_message && field->type != PROTOBUF_C_TYPE_STRING));
            assert_true((rule->flags & SPEC_DURATION) == 0 || field->type == PROTOBUF_C_TYPE_INT64);
            assert_true(rule->n_max == 0 || field->label == PROTOBUF_C_LABEL_REPEATED);
            if ((rule->flags & SPEC_HAS_MIN) != 0 && (rule->flags & SPEC_HAS_MAX) != 0) {
                assert_true(rule->min < rule->max);
            }
        }
    }
}

static void explain_tells_type_range_and_default(void **state)
{
    (void)state;
    strbuf_t text = {0};

    assert_ok(spec_explain("resources.workers", &text));
    assert_string_equal(strbuf_text(&text), "resources.workers: integer, 1 to 65536 processes, default 1\n\n"
                                            "  Workers, one process per device.\n");
    strbuf_clear(&text);
    assert_ok(spec_explain("restart.backoff", &text));
    assert_string_equal(
        strbuf_text(&text),
        "restart.backoff: duration, 0 to 300000 ms, default 1s\n\n"
        "  Wait before the first restart; doubles with each attempt that saves no checkpoint, up to 5 minutes.\n");
    strbuf_clear(&text);
    assert_ok(spec_explain("training.memory_budget", &text));
    assert_non_null(strstr(strbuf_text(&text), "size such as 512MiB or 2GiB, 1 to 1e+15 bytes, default none\n"));
    strbuf_clear(&text);
    assert_ok(spec_explain("training.optimizer", &text));
    assert_string_equal(
        strbuf_text(&text),
        "training.optimizer: one kind of, required\n\n"
        "  How gradients change the parameters.\n\n"
        "Kinds:\n"
        "  sgd                      Stochastic gradient descent with momentum.\n"
        "  adamw                    Adam with decoupled weight decay (Loshchilov and Hutter).\n"
        "  adam                     Adam (Kingma and Ba); weight decay is added to the gradient.\n"
        "  nadam                    Adam with Nesterov's momentum (Dozat).\n"
        "  radam                    Rectified Adam (Liu et al.).\n"
        "  adagrad                  Adagrad (Duchi et al.).\n"
        "  adadelta                 Adadelta (Zeiler).\n"
        "  rmsprop                  RMSprop, also centred or with momentum.\n"
        "  lamb                     Adam with steps scaled by each tensor's norm (You et al.), for large "
        "batches.\n"
        "  lars                     Momentum with steps scaled by each tensor's norm (You et al.), for "
        "large batches.\n"
        "  lion                     Sign of the momentum (Chen et al.).\n"
        "  adafactor                Second moments by rows and columns (Shazeer and Stern): little "
        "memory.\n"
        "  muon                     Orthogonalised momentum for matrices (Jordan et al.), AdamW for the "
        "rest.\n");
    strbuf_clear(&text);
    assert_ok(spec_explain("", &text));
    assert_non_null(strstr(strbuf_text(&text), "  checkpoint "));
    strbuf_clear(&text);
    assert_ok(spec_explain("model.layers.repeat.layers.linear.out", &text));
    assert_non_null(strstr(strbuf_text(&text), "required"));
    assert_fails(spec_explain("training.optimizer.adamv.lr", &text), ST_ERR_NOT_FOUND,
                 "no field \"training.optimizer.adamv\"; did you mean \"training.optimizer.adamw\"?");
    assert_fails(spec_explain("seed.x", &text), ST_ERR_NOT_FOUND, "no field \"seed.x\"");
    strbuf_release(&text);
}

/* Enough of JSON to see that brackets and quotes pair up. */
static void assert_is_json(const char *json)
{
    char open[128];
    int depth = 0;
    bool is_text = false;
    for (const char *c = json; *c != '\0'; c++) {
        if (is_text) {
            c += *c == '\\';
            is_text = *c != '"';
        } else if (*c == '"') {
            is_text = true;
        } else if (*c == '{' || *c == '[') {
            assert_in_range(depth, 0, 127);
            open[depth++] = *c;
        } else if (*c == '}' || *c == ']') {
            assert_in_range(depth, 1, 128);
            assert_int_equal(open[--depth], *c == '}' ? '{' : '[');
        } else if (*c == ',') {
            const char *next = c + 1 + strspn(c + 1, " \n");
            assert_true(strchr("\"{[-0123456789", *next) != NULL);
        }
    }
    assert_int_equal(depth, 0);
    assert_false(is_text);
}

static void the_schema_is_json_and_has_every_field(void **state)
{
    (void)state;
    strbuf_t json = {0};

    assert_ok(spec_schema(&json));

    assert_is_json(strbuf_text(&json));
    const ProtobufCMessageDescriptor *messages[MAX_MESSAGES];
    int n_messages = spec_messages(messages, MAX_MESSAGES);
    for (int m = 0; m < n_messages; m++) {
        char name[96];
        (void)snprintf(name, sizeof(name), "\n    \"%s\": {", spec_message_name(messages[m]));
        assert_non_null(strstr(strbuf_text(&json), name));
    }
    assert_non_null(strstr(strbuf_text(&json),
                           "\"label_smoothing\": {\"description\": \"Share of the target spread over "
                           "all classes.\", \"allOf\": [{\"anyOf\": [{\"type\": \"number\", "
                           "\"minimum\": 0, \"exclusiveMaximum\": 1}, "));
    strbuf_release(&json);
}

static void the_reference_has_a_table_per_message(void **state)
{
    (void)state;
    strbuf_t markdown = {0};

    assert_ok(spec_reference(&markdown));

    assert_non_null(strstr(strbuf_text(&markdown), "\n## Optimizer.AdamW\n"));
    assert_non_null(strstr(strbuf_text(&markdown),
                           "| `workers` | integer | 1 to 65536 processes | 1 | Workers, one process per device. |\n"));
    assert_null(strstr(strbuf_text(&markdown), "## Parameter\n"));
    strbuf_release(&markdown);
}

static const char *lookup(void *arg, const char *name)
{
    (void)arg;
    return strcmp(name, "width") == 0    ? "128"
           : strcmp(name, "p") == 0      ? "0.1"
           : strcmp(name, "kind") == 0   ? "relu"
           : strcmp(name, "folder") == 0 ? "007"
                                         : NULL;
}

static void assert_expression(const char *text, const char *expected, bool is_whole_expected)
{
    static const char *const names[] = {"width", "p", "kind", "folder"};
    spec_scope_t scope = {lookup, NULL, names, 4};
    strbuf_t result = {0};
    bool is_whole = false;
    assert_ok(spec_expr_substitute(text, &scope, &result, &is_whole));
    assert_string_equal(strbuf_text(&result), expected);
    assert_int_equal(is_whole, is_whole_expected);
    strbuf_release(&result);
}

static void assert_bad_expression(const char *text, const char *message)
{
    static const char *const names[] = {"width", "p", "kind", "folder"};
    spec_scope_t scope = {lookup, NULL, names, 4};
    strbuf_t result = {0};
    bool is_whole = false;
    assert_int_equal(spec_expr_substitute(text, &scope, &result, &is_whole), ST_ERR_PARSE);
    assert_string_equal(status_message(), message);
    strbuf_release(&result);
}

static void integers_stay_integers_in_expressions(void **state)
{
    (void)state;
    assert_expression("${4 * width}", "512", true);
    assert_expression("${width / 4}", "32", true);
    assert_expression("${width / 3 }", "42.666666666666664", true);
    assert_expression("${width // 3}", "42", true);
    assert_expression("${-7 // 2}", "-4", true);
    assert_expression("${1 + 2 * (3 - 1) - -1}", "6", true);
    assert_expression("${max(width, 200) + min(1, 2, -3)}", "197", true);
    assert_expression("${sqrt(16)}", "4", true);
    assert_expression("${0.02 / sqrt(2 * 8)}", "0.005", true);
    assert_expression("${p * 2}", "0.2", true);
    assert_expression("${7.5 // 2}", "3", true);
    assert_expression("${kind}", "relu", true);
    assert_expression("${folder}", "007", true);
    assert_expression("/data/${folder}/${width + 1}.txt", "/data/007/129.txt", false);
    assert_expression("$${width} costs $5", "${width} costs $5", false);
}

static void a_bad_expression_says_why(void **state)
{
    (void)state;
    assert_bad_expression("${widht}", "${widht}: unknown name \"widht\"; did you mean \"width\"?");
    assert_bad_expression("${1 +}", "${1 +}: a value is missing at its end");
    assert_bad_expression("${}", "${}: a value is missing at its end");
    assert_bad_expression("${(1}", "${(1}: expected \")\" at its end");
    assert_bad_expression("${1 2}", "${1 2}: unexpected \"2\"");
    assert_bad_expression("${1 / 0}", "${1 / 0}: division by zero");
    assert_bad_expression("${1 // (2 - 2)}", "${1 // (2 - 2)}: division by zero");
    assert_bad_expression("${kind * 2}", "${kind * 2}: \"relu\" isn't a number");
    assert_bad_expression("${9223372036854775807 + 1}",
                          "${9223372036854775807 + 1}: the result doesn't fit into 64 bits");
    assert_bad_expression("${sqrt(0 - 1)}", "${sqrt(0 - 1)}: sqrt of a negative number");
    assert_bad_expression("${sin(1)}", "${sin(1)}: unknown function \"sin\": min, max and sqrt are known");
    assert_bad_expression("${width", "\"${width\" has no closing }");
    assert_bad_expression("${((((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))))))}",
                          "${((((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))))))}: nested deeper "
                          "than 32");
}

static void the_nearest_word_is_near_enough_to_be_meant(void **state)
{
    (void)state;
    static const char *const words[] = {"optimizer", "schedule", "steps", "lr"};

    assert_string_equal(spec_nearest("optimzer", words, 4), "optimizer");
    assert_string_equal(spec_nearest("shcedule", words, 4), "schedule");
    assert_string_equal(spec_nearest("step", words, 4), "steps");
    assert_null(spec_nearest("momentum", words, 4));
    assert_null(spec_nearest("x", words, 4));
}

static void a_double_is_written_so_that_it_reads_back(void **state)
{
    (void)state;
    static const double values[] = {0.1, 1e-8, 1.0 / 3, 123456789.123456789, 5e-324, 1.7976931348623157e308, 0, -2.5};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[32];
        spec_format_double(values[i], text);
        assert_true(strtod(text, NULL) == values[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_field_has_one_row_and_every_row_a_field),
        TEST(a_row_is_complete_and_fits_its_fields),
        TEST(explain_tells_type_range_and_default),
        TEST(the_schema_is_json_and_has_every_field),
        TEST(the_reference_has_a_table_per_message),
        TEST(integers_stay_integers_in_expressions),
        TEST(a_bad_expression_says_why),
        TEST(the_nearest_word_is_near_enough_to_be_meant),
        TEST(a_double_is_written_so_that_it_reads_back),
    };
    return cmocka_run_group_tests_name("spec_rules", tests, NULL, NULL);
}
