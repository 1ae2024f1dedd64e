/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of a table as samples with padding, and training on them: a transformer that classifies, one that translates.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/spec.h"
#include "tests/worker/dataset_specs.h"
#include "tests/worker/session_runs.h"
#include "worker/data/tokenizer.h"

static run_t first;

static void sample_check(const wrk_dataset_t *dataset, int64_t index, const int64_t *input, const int64_t *target)
{
    int64_t x[32] = {0};
    int64_t y[32] = {0};
    const int64_t n_x = wrk_dataset_input(dataset)->numel, n_y = wrk_dataset_target(dataset)->numel;
    assert_true(n_x <= 32 && n_y <= 32);
    assert_ok(wrk_dataset_read(dataset, &index, 1, x, y));
    for (int64_t i = 0; i < n_x; i++) {
        assert_int_equal(x[i], input[i]);
    }
    for (int64_t i = 0; i < n_y; i++) {
        assert_int_equal(y[i], target[i]);
    }
}

static void texts_are_filled_up_cut_and_shifted(void **state)
{
    (void)state;
    wrk_dataset_t *train = NULL;
    wrk_dataset_t *validation = NULL;
    (void)file_write_text("t.csv", "to,from\nba,ab\n\"c,c\",acacac\n,b\n");
    (void)file_write_text("v.csv", "to,from\nax,ba\n");
    static const char shape[] = "source: from, target: to, length: 4, target_length: 3}";
    char yaml[256];

    (void)snprintf(yaml, sizeof(yaml), "sequences: {path: t.csv, %s", shape);
    assert_ok(dataset_open(yaml, NULL, &train));
    (void)snprintf(yaml, sizeof(yaml), "sequences: {path: v.csv, %s", shape);
    assert_ok(dataset_open(yaml, train, &validation));

    /* "," a b c are tokens 4 5 6 7; begin 1, end 2, unknown 3 */
    assert_int_equal(wrk_dataset_count(train), 3);
    assert_int_equal(wrk_dataset_n_classes(train), 8);
    assert_int_equal(wrk_dataset_n_targets(train), 3);
    sample_check(train, 0, (const int64_t[]){5, 6, 0, 0, 1, 6, 5}, (const int64_t[]){6, 5, 2});
    sample_check(train, 1, (const int64_t[]){5, 7, 5, 7, 1, 7, 4}, (const int64_t[]){7, 4, 2});
    sample_check(train, 2, (const int64_t[]){6, 0, 0, 0, 1, 0, 0}, (const int64_t[]){2, 0, 0});
    sample_check(validation, 0, (const int64_t[]){6, 5, 0, 0, 1, 5, 3}, (const int64_t[]){5, 3, 2});
    wrk_dataset_close(validation);
    wrk_dataset_close(train);
}

/* What a decoder is asked, and its answer read, of every kind of token. */
static void texts_are_encoded_and_answers_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *text;
        int64_t source[6], answer[4];
        const char *read;
    } cases[] = {
        {"", "ac?", {5, 7, 3, 0, 1}, {6, 3, 2, 0}, "b\xef\xbf\xbd"},
        {", marks: true", "abcab", {1, 5, 6, 2, 1}, {1, 5, 99, -1}, "a"},
        {", tokens: bytes", "\xc3\xa4", {0xc3 + 4, 0xa4 + 4, 0, 0, 1}, {'h' + 4, 0xff + 4, 2, 0}, "h\xff"},
    };
    (void)file_write_text("t.csv", "to,from\nba,ab\n\"c,c\",acacac\n,b\n");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char yaml[256];
        wrk_dataset_t *dataset = NULL;
        int64_t *tokens = NULL;
        int64_t n = 0;
        strbuf_t text = {0};
        (void)snprintf(yaml, sizeof(yaml),
                       "sequences: {path: t.csv, source: from, target: to, length: 4, target_length: 3%s}",
                       cases[i].fields);
        assert_ok(dataset_open(yaml, NULL, &dataset));
        assert_true(wrk_dataset_is_text(dataset));
        assert_int_equal(wrk_dataset_answer(dataset)->n_most, 3);

        assert_ok(wrk_dataset_encode(dataset, cases[i].text, strlen(cases[i].text), &tokens, &n));
        wrk_dataset_decode(dataset, cases[i].answer, 4, &text);

        assert_int_equal(n, 5);
        assert_memory_equal(tokens, cases[i].source, 5 * sizeof(*tokens));
        assert_string_equal(strbuf_text(&text), cases[i].read);
        mem_free(tokens);
        tokens = NULL;
        if (i == 0) {
            assert_fails(wrk_dataset_encode(dataset, "a\xff", 2, &tokens, &n), ST_ERR_DATA,
                         "offset 1 of the text: byte 0xff is not UTF-8");
        }
        strbuf_release(&text);
        wrk_dataset_close(dataset);
    }
}

static void a_tokenizers_answers_are_decoded(void **state)
{
    (void)state;
    char yaml[600];
    wrk_dataset_t *dataset = NULL;
    int64_t *tokens = NULL;
    int64_t n = 0;
    int64_t x[20];
    const int64_t index = 0;
    strbuf_t text = {0};
    (void)file_write_text("t.csv", "from,to\nthe king,\"good, my lord!\"\n");
    (void)snprintf(
        yaml, sizeof(yaml),
        "sequences: {path: t.csv, source: from, target: to, length: 6, target_length: 14, tokenizer: \"%s\"}",
        fixture_golden("tokenizer-bert.json"));
    assert_ok(dataset_open(yaml, NULL, &dataset));
    assert_ok(wrk_dataset_encode(dataset, "The King", 8, &tokens, &n));
    int64_t target[14];
    assert_ok(wrk_dataset_read(dataset, &index, 1, x, target));
    assert_int_equal(n, 7);
    assert_memory_equal(tokens, x, 7 * sizeof(*x));
    wrk_dataset_decode(dataset, target, 14, &text);
    assert_string_equal(strbuf_text(&text), "good, my lord!");
    strbuf_release(&text);
    mem_free(tokens);
    wrk_dataset_close(dataset);
}

static void classes_and_marks(void **state)
{
    (void)state;
    wrk_dataset_t *dataset = NULL;
    (void)file_write_text("t.csv", "ab;yes\nc;no\nabcdef;yes\n");
    assert_ok(dataset_open("sequences: {path: t.csv, source: 0, target: -1, classes: true, length: 5, marks: true, "
                           "header: false, delimiter: \";\", tokens: bytes, part: [0.3, 1]}",
                           NULL, &dataset));

    assert_int_equal(wrk_dataset_count(dataset), 3);
    assert_int_equal(wrk_dataset_n_classes(dataset), 2);
    sample_check(dataset, 0, (const int64_t[]){1, 4 + 'a', 4 + 'b', 2, 0}, (const int64_t[]){1});
    sample_check(dataset, 1, (const int64_t[]){1, 4 + 'c', 2, 0, 0}, (const int64_t[]){0});
    sample_check(dataset, 2, (const int64_t[]){1, 4 + 'a', 4 + 'b', 4 + 'c', 2}, (const int64_t[]){1});
    wrk_dataset_close(dataset);
}

static void tokens_of_a_tokenizer(void **state)
{
    (void)state;
    wrk_dataset_t *dataset = NULL;
    char yaml[1024];
    (void)file_write_text("t.csv", "text,label\nthe,0\n");
    (void)snprintf(yaml, sizeof(yaml),
                   "sequences: {path: t.csv, source: text, target: label, classes: true, length: 6, "
                   "tokenizer: \"%s\", padding: \"<|endoftext|>\"}",
                   fixture_golden("tokenizer-gpt2.json"));
    assert_ok(dataset_open(yaml, NULL, &dataset));
    int64_t x[6];
    int64_t y = 0;
    const int64_t index = 0;
    assert_ok(wrk_dataset_read(dataset, &index, 1, x, &y));
    assert_true(x[0] != x[5] && x[4] == x[5]);
    wrk_dataset_close(dataset);
    (void)snprintf(yaml, sizeof(yaml),
                   "sequences: {path: t.csv, source: text, target: label, classes: true, length: 6, tokenizer: \"%s\"}",
                   fixture_golden("tokenizer-gpt2.json"));
    dataset_refused(yaml, ST_ERR_INVAL, "sequences.padding: the tokenizer's token is to be named");
    (void)snprintf(yaml, sizeof(yaml),
                   "sequences: {path: t.csv, source: text, target: label, classes: true, length: 6, "
                   "tokenizer: \"%s\", padding: \"[PAD] and more\"}",
                   fixture_golden("tokenizer-gpt2.json"));
    dataset_refused(yaml, ST_ERR_DATA, "sequences.padding: \"[PAD] and more\" is no token of the tokenizer");
}

/* BERT's: [CLS], the pieces, [SEP] and [PAD] are those that the tokenizer's file names, unless the job does. */
static void marks_are_those_of_the_tokenizer(void **state)
{
    (void)state;
    (void)file_write_text("t.csv", "text,label\n\"The  K\xc3\xadng,\",x\n\"\xe4\xb8\xad\xe6\x96\x87\",y\n");
    static const char *const named[] = {"", ", padding: \"[MASK]\", begin: \"[SEP]\", end: \"[CLS]\""};
    static const int64_t special[2][3] = {{0, 2, 3}, {4, 3, 2}};
    const int64_t index = 0;
    for (int i = 0; i < 2; i++) {
        wrk_dataset_t *dataset = NULL;
        wrk_ids_t ids = {0};
        wrk_tokenizer_t *tokenizer = NULL;
        char yaml[600];
        int64_t x[8];
        int64_t y = -1;
        (void)snprintf(yaml, sizeof(yaml),
                       "sequences: {path: t.csv, source: text, target: label, classes: true, length: 8, marks: true, "
                       "tokenizer: \"%s\"%s}",
                       fixture_golden("tokenizer-bert.json"), named[i]);
        assert_ok(wrk_tokenizer_open(fixture_golden("tokenizer-bert.json"), &tokenizer));
        assert_ok(wrk_tokenizer_encode(tokenizer, "the king ,", 10, &ids));
        assert_ok(dataset_open(yaml, NULL, &dataset));

        assert_ok(wrk_dataset_read(dataset, &index, 1, x, &y));

        assert_true(ids.n >= 3 && ids.n < 6);
        assert_int_equal(x[0], special[i][1]);
        for (int64_t k = 0; k < ids.n; k++) {
            assert_int_equal(x[1 + k], ids.item[k]);
        }
        assert_int_equal(x[1 + ids.n], special[i][2]);
        assert_int_equal(x[7], special[i][0]);
        wrk_dataset_close(dataset);
        wrk_tokenizer_close(tokenizer);
        wrk_ids_release(&ids);
    }
}

/* A tokenizer of three letters and two special tokens, with this template around a text. */
static const char *letters_write(const char *name, const char *letters, const char *single)
{
    strbuf_t json = {0};
    strbuf_appendf(
        &json,
        "{\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {\"%c\": 0, \"%c\": 1, \"%c\": 2, \"<\": 3, "
        "\">\": 4}}, \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [%s], "
        "\"special_tokens\": {\"two\": {\"ids\": [3, 4]}, \"end\": {\"ids\": [4]}}}}",
        letters[0], letters[1], letters[2], single);
    const char *path = file_write_text(name, strbuf_text(&json));
    strbuf_release(&json);
    return path;
}

/* Any number of tokens on either side of a text: T5's has one end, Whisper's texts begin with four. */
static void several_marks_stand_around_a_text(void **state)
{
    (void)state;
#define TEXT_A "{\"Sequence\": {\"id\": \"A\"}}"
#define SPECIAL(name) "{\"SpecialToken\": {\"id\": \"" name "\"}}"
    static const char YAML[] = "sequences: {path: t.csv, source: text, target: label, classes: true, length: %d, "
                               "marks: true, padding: c, tokenizer: t.json%s}";
    static const struct {
        const char *single, *more;
        int64_t x[6];
    } cases[] = {
        {SPECIAL("two") ", " TEXT_A ", " SPECIAL("end"), "", {3, 4, 0, 1, 4, 2}},
        {TEXT_A ", " SPECIAL("end"), "", {0, 1, 4, 2, 2, 2}},
        {SPECIAL("end") ", " SPECIAL("two") ", " TEXT_A, "", {4, 3, 4, 0, 1, 2}},
        {SPECIAL("two") ", " TEXT_A ", " SPECIAL("end"), ", begin: b", {1, 0, 1, 4, 2, 2}},
    };
    char yaml[300];
    wrk_dataset_t *dataset = NULL;
    (void)file_write_text("t.csv", "text,label\nab,x\na,y\n");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)letters_write("t.json", "abc", cases[i].single);
        (void)snprintf(yaml, sizeof(yaml), YAML, 6, cases[i].more);
        assert_ok(dataset_open(yaml, NULL, &dataset));
        sample_check(dataset, 0, cases[i].x, (const int64_t[]){0});
        wrk_dataset_close(dataset);
    }
    (void)letters_write("t.json", "abc", cases[0].single);
    (void)snprintf(yaml, sizeof(yaml), YAML, 3, "");
    dataset_refused(yaml, ST_ERR_INVAL, "sequences.length 3: 3 tokens stand around a text");
    (void)letters_write("t.json", "abc", TEXT_A);
    (void)snprintf(yaml, sizeof(yaml), YAML, 6, "");
    dataset_refused(yaml, ST_ERR_INVAL, "sequences.marks: the tokenizer's file puts nothing around a text");
}

/* As many tokens, but with other numbers. */
static void another_tokenizer_does_not_fit_the_training_data(void **state)
{
    (void)state;
    static const char *const kinds[][3] = {
        {"sequences: {path: t.csv, source: text, target: label, classes: true, length: 4, padding: c, tokenizer: "
         "a.json}",
         "sequences: {path: t.csv, source: text, target: label, classes: true, length: 4, padding: c, tokenizer: "
         "b.json}",
         "t.csv: the tokens have other numbers than in the training data"},
        {"text: {path: t.txt, context: 2, tokenizer: a.json}", "text: {path: t.txt, context: 2, tokenizer: b.json}",
         "t.txt: text.tokenizer numbers tokens otherwise"},
    };
    (void)file_write_text("t.csv", "text,label\nab,x\na,y\n");
    (void)file_write_text("t.txt", "abcabc");
    (void)letters_write("a.json", "abc", TEXT_A);
    (void)letters_write("b.json", "bac", TEXT_A);
    for (int i = 0; i < 2; i++) {
        wrk_dataset_t *train = NULL;
        wrk_dataset_t *validation = NULL;
        assert_ok(dataset_open(kinds[i][0], NULL, &train));
        assert_fails(dataset_open(kinds[i][1], train, &validation), ST_ERR_INVAL, kinds[i][2]);
        assert_ok(dataset_open(kinds[i][0], train, &validation));
        wrk_dataset_close(validation);
        wrk_dataset_close(train);
    }
}

static void tables_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    (void)file_write_text("t.csv", "text,label\nab,x\nc\n");
    (void)file_write_text("bad.csv", "text,label\nab,x\n\xff,y\n");
    (void)file_write_text("empty.csv", "text,label\n");
    (void)file_write_text("good.csv", "text,label\nab,x\n");
    dataset_refused("sequences: {path: t.csv, source: text, target: label, classes: true, length: 4}", ST_ERR_DATA,
                    "t.csv: line 3 has 1 fields; the first line has 2");
    dataset_refused("sequences: {path: bad.csv, source: text, target: label, classes: true, length: 4}", ST_ERR_DATA,
                    "bad.csv: line 3: byte 0xff is not UTF-8");
    dataset_refused("sequences: {path: empty.csv, source: text, target: label, classes: true, length: 4}", ST_ERR_DATA,
                    "a table without rows");
    dataset_refused("sequences: {path: good.csv, source: words, target: label, classes: true, length: 4}", ST_ERR_DATA,
                    "sequences.source: no column \"words\" among its 2: \"text\", \"label\"");
    dataset_refused("sequences: {path: good.csv, source: text, target: label, classes: true, length: 4, begin: x}",
                    ST_ERR_INVAL, "sequences.begin: only with a tokenizer; it is token 1 here");
    dataset_refused(
        "sequences: {path: good.csv, source: text, target: label, classes: true, length: 4, part: [0, 0.5]}",
        ST_ERR_DATA, "part [0, 0.5) of its 1 rows has none");
    wrk_dataset_t *train = NULL;
    wrk_dataset_t *validation = NULL;
    (void)file_write_text("v.csv", "text,label\nab,y\n");
    assert_ok(dataset_open("sequences: {path: good.csv, source: text, target: label, classes: true, length: 4}", NULL,
                           &train));
    assert_fails(dataset_open("sequences: {path: v.csv, source: text, target: label, classes: true, length: 4}", train,
                              &validation),
                 ST_ERR_DATA, "v.csv: line 2: class \"y\" does not occur in the training data");
    assert_fails(dataset_open("sequences: {path: good.csv, source: text, target: label, classes: true, length: 5}",
                              train, &validation),
                 ST_ERR_INVAL, "must be those of the training data");
    wrk_dataset_close(train);
}

/* ---- training ---- */

/* A job of configs/jobs with changes, "path=value", NULL-terminated. */
static spec_job_t *job_open(const char *name, const char *const *set)
{
    char directory[512];
    const char *source_folder = getenv("GRADD_SOURCE");
    (void)snprintf(directory, sizeof(directory), "%s/configs/jobs", source_folder != NULL ? source_folder : ".");
    return job_text_read(directory, name, set);
}

/* The first steps. Takes the job. */
static void layouts_compare(spec_job_t *job)
{
    run_layouts(job, (const int[]){1, 2, 4, 0}, &first);
    spec_job_free(job);
}

/* Also where the encoder's and the decoder's layers run twice, with the memory between them. */
static void the_bits_do_not_depend_on_the_layout(void **state)
{
    (void)state;
    static const char *const classes[] = {"training.steps=6", NULL};
    static const char *const pairs[] = {"training.steps=6", "training.microbatches=4", NULL};
    layouts_compare(job_open("text-classes.yaml", classes));
    layouts_compare(job_open("digits-backwards.yaml", pairs));
    char without[65];
    (void)snprintf(without, sizeof(without), "%s", first.result.parameters_sha256);
    spec_job_t *job = job_open("digits-backwards.yaml", pairs);
    const Gradd__V1__Layer__EncoderDecoder *parts = job->model->layers[0]->encoder_decoder;
    assert_int_equal(parts->encoder[2]->kind_case, GRADD__V1__LAYER__KIND_REPEAT);
    assert_int_equal(parts->decoder[2]->kind_case, GRADD__V1__LAYER__KIND_REPEAT);
    parts->encoder[2]->repeat->checkpoint = true;
    parts->decoder[2]->repeat->checkpoint = true;
    layouts_compare(job);
    assert_string_equal(first.result.parameters_sha256, without);
}

/* The layers on both sides of an encoder_decoder are picked one by one, and leave the same bits. */
static void a_memory_budget_reaches_encoder_and_decoder(void **state)
{
    (void)state;
    static const char *const plain[] = {"training.steps=6", NULL};
    spec_job_t *job = job_open("digits-backwards.yaml", plain);
    char budget[64];
    char without[HASH_SHA256_HEX_SIZE];
    memset(&first, 0, sizeof(first));
    run_ok(job, 1, &first);
    run_folder_clear();
    spec_job_free(job);
    memcpy(without, first.result.parameters_sha256, sizeof(without));
    const double limit = 0.8 * run_point(&first, "activation_bytes", first.result.step);
    (void)snprintf(budget, sizeof(budget), "training.memory_budget=%lld", (long long)limit);
    job = job_open("digits-backwards.yaml", (const char *const[]){"training.steps=6", budget, NULL});
    for (int ranks = 1; ranks <= 2; ranks++) {
        memset(&first, 0, sizeof(first));
        run_ok(job, ranks, &first);
        assert_true(run_point(&first, "activation_bytes", first.result.step) <= limit);
        assert_string_equal(first.result.parameters_sha256, without);
        assert_non_null(strstr(first.notes[0], "encoder."));
        run_folder_clear();
    }
    spec_job_free(job);
}

static void drawn_slopes_do_not_depend_on_the_layout(void **state)
{
    (void)state;
    spec_job_t *job = run_job("[flatten, {linear: {out: 16}}, rrelu, {linear: {out: 5}}]", 4, NULL);
    run_layouts(job, (const int[]){1, 4, 0}, &first);
    spec_job_free(job);
}

static void a_text_is_classified_by_what_is_no_padding(void **state)
{
    (void)state;
    static const char *const set[] = {NULL};
    spec_job_t *job = job_open("text-classes.yaml", set);
    memset(&first, 0, sizeof(first));
    run_ok(job, 2, &first);
    print_message("text-classes: accuracy %.4f\n", run_point(&first, "validation_accuracy", first.result.step));
    assert_true(run_point(&first, "validation_accuracy", first.result.step) > 0.95);
    run_folder_clear();
    spec_job_free(job);
}

/* And its answers are greedy, or drawn: the same on any number of ranks. */
static void a_decoder_learns_to_read_backwards(void **state)
{
    (void)state;
    static const char *const set[] = {"generate={prompt: \"3145926\", temperature: 0}", NULL};
    spec_job_t *job = job_open("digits-backwards.yaml", set);
    memset(&first, 0, sizeof(first));
    run_ok(job, 2, &first);
    print_message("digits-backwards: loss %.4f, accuracy %.4f\n",
                  run_point(&first, "validation_loss", first.result.step),
                  run_point(&first, "validation_accuracy", first.result.step));
    assert_true(run_point(&first, "validation_loss", first.result.step) < 0.1);
    assert_true(run_point(&first, "validation_accuracy", first.result.step) > 0.97);
    assert_string_equal(first.text, "6295413");
    run_folder_clear();
    spec_job_free(job);
}

static void answers_are_drawn_alike_on_any_number_of_ranks(void **state)
{
    (void)state;
    static const char *const greedy[] = {"training.steps=20", "generate={prompt: \"12\", temperature: 0}", NULL};
    static const char *const hot[] = {"training.steps=20", "generate={prompt: \"12\", temperature: 20, top_k: 5}",
                                      NULL};
    static const char *const one[] = {"training.steps=20", "generate={prompt: \"12\", temperature: 20, tokens: 1}",
                                      NULL};
    static const char *const *const sets[] = {greedy, hot, one};
    char texts[3][64];
    for (int i = 0; i < 3; i++) {
        spec_job_t *job = job_open("digits-backwards.yaml", sets[i]);
        for (int ranks = 1; ranks <= 2; ranks++) {
            memset(&first, 0, sizeof(first));
            run_ok(job, ranks, &first);
            assert_true(strlen(first.text) < sizeof(texts[0]));
            if (ranks == 2) {
                assert_string_equal(first.text, texts[i]);
            }
            (void)snprintf(texts[i], sizeof(texts[0]), "%s", first.text);
            run_folder_clear();
        }
        spec_job_free(job);
    }
    assert_true(strlen(texts[0]) <= 8 && strlen(texts[2]) <= 3);
    assert_string_not_equal(texts[0], texts[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(texts_are_filled_up_cut_and_shifted),
        TEST(texts_are_encoded_and_answers_decoded),
        TEST(a_tokenizers_answers_are_decoded),
        TEST(classes_and_marks),
        TEST(tokens_of_a_tokenizer),
        TEST(marks_are_those_of_the_tokenizer),
        TEST(several_marks_stand_around_a_text),
        TEST(another_tokenizer_does_not_fit_the_training_data),
        TEST(tables_that_do_not_fit_are_refused),
        TEST(the_bits_do_not_depend_on_the_layout),
        TEST(a_memory_budget_reaches_encoder_and_decoder),
        TEST(drawn_slopes_do_not_depend_on_the_layout),
        TEST(a_text_is_classified_by_what_is_no_padding),
        TEST(a_decoder_learns_to_read_backwards),
        TEST(answers_are_drawn_alike_on_any_number_of_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
