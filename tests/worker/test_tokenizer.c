/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizers, byte pairs and WordPiece: the tokens of Hugging Face's `tokenizers`, decoding as the inverse, and
 * files that are not taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/worker/dataset_specs.h"
#include "worker/data/pattern.h"
#include "worker/data/tokenizer.h"

enum { MAX_TEXT = 8192, MAX_LINE = 65536, N_NAMES = 9 };

static const char *const names[N_NAMES] = {"gpt2", "llama3", "llama2", "nfc", "nfkc", "meta", "bert", "cased", "words"};

static wrk_tokenizer_t *golden_open(const char *name)
{
    char file[64];
    wrk_tokenizer_t *tokenizer = NULL;
    (void)snprintf(file, sizeof(file), "tokenizer-%s.json", name);
    assert_ok(wrk_tokenizer_open(fixture_golden(file), &tokenizer));
    return tokenizer;
}

static size_t hex_read(const char *hex, char *text)
{
    size_t n = 0;
    for (; hex[0] != '-' && hex[2 * n] != '\0'; n++) {
        char digits[3] = {hex[2 * n], hex[2 * n + 1], '\0'};
        assert_true(n < MAX_TEXT);
        text[n] = (char)strtol(digits, NULL, 16);
    }
    return n;
}

/* Whether decoding gives the text: byte-level models give back anything. */
static void back_expect(const wrk_tokenizer_t *tokenizer, const char *text, size_t length)
{
    int64_t *tokens = NULL;
    int64_t n = 0;
    strbuf_t back = {0};
    assert_ok(wrk_tokens_encode(tokenizer, text, length, &tokens, &n));
    wrk_tokenizer_decode(tokenizer, tokens, n, &back);
    assert_int_equal(back.length, length);
    assert_memory_equal(strbuf_text(&back), text, length);
    strbuf_release(&back);
    mem_free(tokens);
}

/* Whether decoding gives what Hugging Face's gives. */
static void decoded_expect(const wrk_tokenizer_t *tokenizer, const wrk_ids_t *ids, const char *hex, const char *wanted)
{
    static char text[MAX_TEXT];
    int64_t tokens[MAX_TEXT];
    strbuf_t made = {0};
    const size_t length = hex_read(wanted, text);
    assert_true(ids->n <= MAX_TEXT);
    for (int64_t i = 0; i < ids->n; i++) {
        tokens[i] = ids->item[i];
    }
    wrk_tokenizer_decode(tokenizer, tokens, ids->n, &made);
    if (made.length != length || memcmp(strbuf_text(&made), text, length) != 0) {
        fail_msg("%s: decoded as \"%s\", not as %s", hex, strbuf_text(&made), wanted);
    }
    strbuf_release(&made);
}

static void line_check(wrk_tokenizer_t *const *tokenizers, char *line)
{
    static char text[MAX_TEXT];
    char *rest = NULL;
    const char *name = strtok_r(line, " \n", &rest);
    const char *hex = strtok_r(NULL, " \n", &rest);
    wrk_ids_t ids = {0};
    int which = 0;
    while (strcmp(names[which], name) != 0) {
        which++;
    }
    size_t length = hex_read(hex, text);
    assert_ok(wrk_tokenizer_encode(tokenizers[which], text, length, &ids));
    int64_t n = 0;
    const char *id = strtok_r(NULL, " \n", &rest);
    for (; id != NULL && id[0] != '-' && id[0] != '='; id = strtok_r(NULL, " \n", &rest)) {
        if (n >= ids.n || ids.item[n] != atoi(id)) {
            fail_msg("%s: \"%s\": token %lld is %d, not %s", name, hex, (long long)n, n < ids.n ? ids.item[n] : -1, id);
        }
        n++;
    }
    assert_int_equal(ids.n, n);
    id = id != NULL && id[0] == '-' ? strtok_r(NULL, " \n", &rest) : id;
    if (id != NULL) {
        decoded_expect(tokenizers[which], &ids, hex, strtok_r(NULL, " \n", &rest));
    }
    wrk_ids_release(&ids);
    if (which < 2) {
        back_expect(tokenizers[which], text, length);
    }
}

/* Every line of the golden file. */
static void lines_check(const char *golden, int n_lines_min)
{
    static char line[MAX_LINE];
    wrk_tokenizer_t *tokenizers[N_NAMES];
    int n_lines = 0;
    for (int i = 0; i < N_NAMES; i++) {
        tokenizers[i] = golden_open(names[i]);
    }
    FILE *file = fopen(fixture_golden(golden), "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        line_check(tokenizers, line);
        n_lines++;
    }
    assert_int_equal(fclose(file), 0);
    assert_true(n_lines >= n_lines_min);
    for (int i = 0; i < N_NAMES; i++) {
        wrk_tokenizer_close(tokenizers[i]);
    }
}

static void tokens_are_those_of_hugging_face(void **state)
{
    (void)state;
    lines_check("tokenizer-ids.txt", 300);
}

static void word_pieces_are_those_of_hugging_face(void **state)
{
    (void)state;
    lines_check("tokenizer-wordpiece-ids.txt", 4000);
}

/* Numbers of a line behind its text. */
static int64_t numbers_read(char **rest, int64_t *numbers)
{
    int64_t n = 0;
    for (const char *word = strtok_r(NULL, " \n", rest); word != NULL; word = strtok_r(NULL, " \n", rest)) {
        assert_true(n < MAX_TEXT);
        numbers[n++] = atoll(word);
    }
    return n;
}

static void tokens_expect(const wrk_tokenizer_t *tokenizer, int line, const char *text, size_t length,
                          const int64_t *wanted, int64_t n_wanted)
{
    int64_t *tokens = NULL;
    int64_t n = 0;
    if (wrk_tokens_encode(tokenizer, text, length, &tokens, &n) != ST_OK) {
        fail_msg("line %d: %s", line, status_message());
    }
    if (n != n_wanted || memcmp(tokens, wanted, (size_t)n * sizeof(*wanted)) != 0) {
        fail_msg("line %d: other tokens of \"%s\"", line, text);
    }
    mem_free(tokens);
}

static void cuts_expect(const wrk_pattern_t *pattern, int line, const char *text, size_t length, const int64_t *wanted,
                        int64_t n_wanted)
{
    wrk_matcher_t matcher = {0};
    int64_t n = 0;
    assert_ok(wrk_matcher_init(&matcher));
    for (size_t at = 0; at < length;) {
        size_t start = 0;
        size_t end = 0;
        assert_ok(wrk_pattern_find(pattern, &matcher, text, length, at, &start, &end));
        const size_t ends[2] = {start > at ? start : 0, end > start ? end : 0};
        for (int i = 0; i < 2; i++) {
            if (ends[i] > 0 && (n == n_wanted || wanted[n++] != (int64_t)ends[i])) {
                fail_msg("line %d: \"%s\" is cut at %zu", line, text, ends[i]);
            }
        }
        at = end;
    }
    if (n != n_wanted) {
        fail_msg("line %d: \"%s\" isn't cut at %lld", line, text, (long long)wanted[n]);
    }
    wrk_matcher_release(&matcher);
}

/* tests/golden/make_tokenizer_edges.py says what the lines are. */
static void edges_are_those_of_hugging_face(void **state)
{
    (void)state;
    static char line[MAX_LINE];
    static char text[MAX_TEXT];
    static int64_t numbers[MAX_TEXT];
    wrk_tokenizer_t *tokenizer = NULL;
    wrk_pattern_t *pattern = NULL;
    int n_lines = 0;
    FILE *file = fopen(fixture_golden("tokenizer-edges.txt"), "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        char *rest = NULL;
        const char kind = strtok_r(line, " \n", &rest)[0];
        const size_t length = hex_read(strtok_r(NULL, " \n", &rest), text);
        const int64_t n = numbers_read(&rest, numbers);
        text[length] = '\0';
        n_lines++;
        if (kind == 'T') {
            wrk_tokenizer_close(tokenizer);
            assert_ok(wrk_tokenizer_open(file_write_text("edge.json", text), &tokenizer));
        } else if (kind == 'R') {
            wrk_pattern_close(pattern);
            assert_ok(wrk_pattern_open(text, false, &pattern));
        } else if (kind == 'E') {
            tokens_expect(tokenizer, n_lines, text, length, numbers, n);
        } else {
            cuts_expect(pattern, n_lines, text, length, numbers, n);
        }
    }
    assert_int_equal(fclose(file), 0);
    assert_true(n_lines > 400);
    wrk_tokenizer_close(tokenizer);
    wrk_pattern_close(pattern);
}

/* What Oniguruma reads as something that PCRE2 has no word for. */
static void patterns_that_would_mean_something_else_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[a-z&&[^aeiou]]", "offset 4: \"&&\" in a set"},
        {"[a[bc]]", "offset 2: \"[\" in a set"},
        {"[[:alpha:]]", "offset 1: \"[\" in a set"},
        {"[^\\W_]+", "offset 2: \"\\W\" in a set"},
        {"\\p{N}{1,3}+", "offset 5: \"{1,3}+\""},
        {"a{2}?", "offset 1: \"{2}?\""},
        {"(?m:.+)", "offset 0: \"(?m\""},
        {"x(?i-m:a)", "offset 1: \"(?i-m\""},
        {"\\X", "offset 0: \"\\X\""},
        {"\\u12", "offset 0: \"\\u\""},
        {"\\Qa\\E", "offset 0: \"\\Q\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        wrk_pattern_t *pattern = NULL;
        assert_fails(wrk_pattern_open(cases[i][0], false, &pattern), ST_ERR_UNSUPPORTED, cases[i][1]);
    }
}

static void marks_are_those_of_the_file(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t mark[WRK_MARK_COUNT];
    } cases[] = {{"bert", {0, 2, 3}}, {"cased", {-1, 2, 3}}, {"words", {-1, -1, -1}}, {"gpt2", {-1, -1, -1}}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        wrk_tokenizer_t *tokenizer = golden_open(cases[i].name);
        for (int mark = 0; mark < WRK_MARK_COUNT; mark++) {
            const wrk_marks_t *marks = wrk_tokenizer_marks(tokenizer, (wrk_mark_t)mark);
            assert_int_equal(marks->n, cases[i].mark[mark] >= 0);
            assert_true(marks->n == 0 || marks->id[0] == cases[i].mark[mark]);
        }
        wrk_tokenizer_close(tokenizer);
    }
}

/* Bytes that are no UTF-8 make the word that they are in unknown, and hurt no other. */
static void bytes_that_are_no_text_are_unknown(void **state)
{
    (void)state;
    static const char *const texts[] = {"\xff", "the \xff\xfe the", "\xe4\xb8", "a\xf0\x9f\x98"};
    for (int which = 6; which < N_NAMES; which++) {
        wrk_tokenizer_t *tokenizer = golden_open(names[which]);
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
            wrk_ids_t ids = {0};
            assert_ok(wrk_tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), &ids));
            bool has_unknown = false;
            for (int64_t k = 0; k < ids.n; k++) {
                has_unknown |= ids.item[k] == 1;
            }
            assert_true(has_unknown);
            wrk_ids_release(&ids);
        }
        wrk_tokenizer_close(tokenizer);
    }
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    static char bytes[2000];
    uint32_t seed = 1;
    for (int which = 0; which < 2; which++) {
        wrk_tokenizer_t *tokenizer = golden_open(names[which]);
        for (int round = 0; round < 200; round++) {
            size_t length = (size_t)round * 10;
            for (size_t i = 0; i < length; i++) {
                seed = seed * 1664525U + 1013904223U;
                bytes[i] = (char)(seed >> 24);
            }
            back_expect(tokenizer, bytes, length);
        }
        back_expect(tokenizer, "caf\xc3", 4);
        back_expect(tokenizer, "a\xffz \xf0\x9f\x98", 7);
        wrk_tokenizer_close(tokenizer);
    }
}

static void llama2_text_comes_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"hello there", "a  b", "\xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80", "x"};
    wrk_tokenizer_t *tokenizer = golden_open("llama2");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        back_expect(tokenizer, texts[i], strlen(texts[i]));
    }
    wrk_tokenizer_close(tokenizer);
}

/* One word of two million letters takes n log n, not n². */
static void a_word_without_end_is_encoded_in_time(void **state)
{
    (void)state;
    enum { LENGTH = 2000000 };
    char *text = mem_alloc(LENGTH);
    assert_non_null(text);
    wrk_tokenizer_t *tokenizer = golden_open("gpt2");
    memset(text, 'e', LENGTH);
    int64_t start = clock_now_ns();
    back_expect(tokenizer, text, LENGTH);
    assert_true(clock_now_ns() - start < INT64_C(20000000000));
    mem_free(text);
    wrk_tokenizer_close(tokenizer);
}

static void tokenizer_refused(const char *json, status_t code, const char *message)
{
    wrk_tokenizer_t *tokenizer = NULL;
    const char *path = file_write_text("tokenizer.json", json);
    status_t status = wrk_tokenizer_open(path, &tokenizer);
    if (status == ST_OK) {
        wrk_tokenizer_close(tokenizer);
    }
    fixture_assert_fails(status, code, message, json, __FILE__, __LINE__);
}

static void files_that_are_not_understood_are_refused(void **state)
{
    (void)state;
#define MODEL "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}"
    static const struct {
        const char *json;
        status_t code;
        const char *message;
    } cases[] = {
        {"", ST_ERR_CORRUPT, "tokenizer.json: line 1"},
        {"{\"model\": ", ST_ERR_CORRUPT, "line 1, column 10"},
        {"[]", ST_ERR_CORRUPT, "not the file of a tokenizer"},
        {"{\"model\": {\"type\": \"Unigram\"}}", ST_ERR_UNSUPPORTED,
         "model.type: \"Unigram\"; BPE and WordPiece are read"},
        {"{\"model\": {\"type\": \"WordPiece\"}}", ST_ERR_CORRUPT, "model.vocab: an object"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}}", ST_ERR_CORRUPT,
         "model.unk_token: \"[UNK]\" is not in model.vocab"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}, \"max_input_chars_per_word\": 0}}",
         ST_ERR_CORRUPT, "model.max_input_chars_per_word: a number from 1 is wanted"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}, \"continuing_subword_prefix\": 2}}",
         ST_ERR_CORRUPT, "model.continuing_subword_prefix: a text is wanted"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}}",
         ST_ERR_UNSUPPORTED, "model.type: \"WordPiece\" behind ByteLevel"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}", ST_ERR_CORRUPT, "model.vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", ST_ERR_CORRUPT,
         "model.vocab: \"a\": not a token's number"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 99999999999}, \"merges\": []}}", ST_ERR_CORRUPT, "\"a\""},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1, \"b\": 1}, \"merges\": []}}", ST_ERR_CORRUPT,
         "number 1 is another token's too"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a x\"]}}", ST_ERR_CORRUPT,
         "model.merges[0]: \"a\", \"x\" or both together are not in model.vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}}", ST_ERR_CORRUPT,
         "model.merges[0]: two texts are wanted"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [], \"end_of_word_suffix\": \"</w>\"}}",
         ST_ERR_UNSUPPORTED, "model.end_of_word_suffix"},
        {"{\"normalizer\": {\"type\": \"Nmt\"}, " MODEL "}", ST_ERR_UNSUPPORTED,
         "normalizer: \"Nmt\"; NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, BertNormalizer, Prepend and Replace"},
        {"{\"pre_tokenizer\": {\"type\": \"UnicodeScripts\"}, " MODEL "}", ST_ERR_UNSUPPORTED,
         "pre_tokenizer.type: \"UnicodeScripts\""},
        {"{\"pre_tokenizer\": {\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}, " MODEL "}",
         ST_ERR_UNSUPPORTED, "pre_tokenizer.type: \"Punctuation\""},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": "
         "\"MergedWithNext\"}, " MODEL "}",
         ST_ERR_UNSUPPORTED, "pre_tokenizer.behavior: \"MergedWithNext\"; Isolated and Removed are known"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a\"}, \"behavior\": "
         "\"Isolated\"}, " MODEL "}",
         ST_ERR_PARSE, "pre_tokenizer: the pattern \"(a\": offset 2"},
        {"{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"ab\"}, " MODEL "}", ST_ERR_CORRUPT,
         "pre_tokenizer.replacement: one character is wanted"},
        {"{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"x\"}, " MODEL "}",
         ST_ERR_UNSUPPORTED, "pre_tokenizer.prepend_scheme: \"x\""},
        {"{\"decoder\": {\"type\": \"Metaspace\"}, " MODEL "}", ST_ERR_CORRUPT, "decoder.replacement"},
        {"{\"added_tokens\": [{\"id\": 0, \"content\": \"\"}], " MODEL "}", ST_ERR_CORRUPT, "added_tokens[0].content"},
        {"{\"decoder\": {\"type\": \"CTC\"}, " MODEL "}", ST_ERR_UNSUPPORTED, "decoder.type: \"CTC\""},
        {"{\"post_processor\": {\"type\": \"BertProcessing\", \"cls\": [\"a\", 0], \"sep\": [\"b\"]}, " MODEL "}",
         ST_ERR_CORRUPT, "post_processor: not the number of a token"},
        {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"a\"}}], "
         "\"special_tokens\": {\"a\": {\"ids\": [0, 3]}}}, " MODEL "}",
         ST_ERR_CORRUPT, "post_processor.special_tokens[\"a\"].ids: not the number of a token"},
        {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
         "\"a\"}}]}, " MODEL "}",
         ST_ERR_CORRUPT, "post_processor.special_tokens[\"a\"].ids: a list of tokens is wanted"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tokenizer_refused(cases[i].json, cases[i].code, cases[i].message);
    }
}

static void a_pattern_without_end_is_an_error(void **state)
{
    (void)state;
    wrk_tokenizer_t *tokenizer = NULL;
    wrk_ids_t ids = {0};
    char text[64];
    memset(text, 'a', sizeof(text));
    assert_ok(wrk_tokenizer_open(
        file_write_text("t.json",
                        "{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a+)+(a+)+[bc]\"}, "
                        "\"behavior\": \"Isolated\"}, " MODEL "}"),
        &tokenizer));
    assert_fails(wrk_tokenizer_encode(tokenizer, text, sizeof(text), &ids), ST_ERR_DATA, "match limit exceeded");
    assert_fails(wrk_tokenizer_encode(tokenizer, "abc", 3, &ids), ST_ERR_DATA, "\"c\" has no token");
    wrk_ids_release(&ids);
    wrk_tokenizer_close(tokenizer);
}

static void text_and_tokens_take_a_tokenizer(void **state)
{
    (void)state;
    wrk_dataset_t *dataset = NULL;
    char yaml[512];
    strbuf_t text = {0};
    int64_t x[20];
    int64_t zero = 0;
    char path[256];
    (void)snprintf(path, sizeof(path), "%s", fixture_golden("tokenizer-gpt2.json"));
    (void)file_write_text("a.txt", "First Citizen: Before we proceed any further, hear me speak. All: Speak, speak. "
                                   "First Citizen: You are all resolved rather to die than to famish?");
    (void)snprintf(yaml, sizeof(yaml), "text: {path: a.txt, tokenizer: %s, context: 20}", path);
    assert_ok(dataset_open(yaml, NULL, &dataset));
    assert_true(wrk_dataset_is_text(dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 640);
    assert_ok(wrk_dataset_read(dataset, &zero, 1, x, NULL));
    wrk_dataset_decode(dataset, x, 20, &text);
    assert_memory_equal(strbuf_text(&text), "First Citizen: Before we", 20);
    assert_true(text.length > 30);
    strbuf_release(&text);
    wrk_dataset_close(dataset);

    (void)file_write("a.bin", "\1\0\2\0\3\0\4\0", 8);
    (void)snprintf(yaml, sizeof(yaml), "tokens: {path: a.bin, tokenizer: %s, context: 2}", path);
    assert_ok(dataset_open(yaml, NULL, &dataset));
    assert_true(wrk_dataset_is_text(dataset));
    wrk_dataset_decode(dataset, (int64_t[]){0, 39}, 2, &text);
    assert_string_equal(strbuf_text(&text), "<|endoftext|>E");
    strbuf_release(&text);
    wrk_dataset_close(dataset);
}

static void the_worker_shows_tokens_and_text(void **state)
{
    (void)state;
    char command[1024];
    char line[256] = "";
    assert_non_null(getenv("GRADD_BIN"));
    (void)file_write_text("text", "hello\n");
    (void)snprintf(
        command, sizeof(command),
        "cd %s && b=%s/grad-worker && t=%s && $b --tokenize $t text > ids && $b --detokenize $t ids | cmp - text && "
        "$b --tokenize $t nothing 2>&1; echo 99999 | $b --detokenize $t 2>&1",
        fixture_folder(), getenv("GRADD_BIN"), fixture_golden("tokenizer-gpt2.json"));
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof(line), pipe));
    assert_string_equal(line, "grad-worker: nothing: No such file or directory\n");
    assert_non_null(fgets(line, sizeof(line), pipe));
    assert_non_null(strstr(line, "is not a token's number"));
    assert_int_equal(WEXITSTATUS(pclose(pipe)), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tokens_are_those_of_hugging_face),
        TEST(word_pieces_are_those_of_hugging_face),
        TEST(edges_are_those_of_hugging_face),
        TEST(patterns_that_would_mean_something_else_are_refused),
        TEST(marks_are_those_of_the_file),
        TEST(bytes_that_are_no_text_are_unknown),
        TEST(any_bytes_come_back),
        TEST(llama2_text_comes_back),
        TEST(a_word_without_end_is_encoded_in_time),
        TEST(files_that_are_not_understood_are_refused),
        TEST(a_pattern_without_end_is_an_error),
        TEST(text_and_tokens_take_a_tokenizer),
        TEST(the_worker_shows_tokens_and_text),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
