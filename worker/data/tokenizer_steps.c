/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_steps: what stands around a tokenizer.json's model: normalizer, pre_tokenizer, decoder, post_processor. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "worker/data/tokenizer_internal.h"

/* regex of ByteLevel with use_regex: tokenizers/src/pre_tokenizers/byte_level.rs */
static const char GPT2_PATTERN[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const char *wrk_json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

bool wrk_json_is_true(const json_t *object, const char *key, bool fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

bool wrk_json_is_absent(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

status_t wrk_text_copy(const char *text, char **copy_p)
{
    *copy_p = mem_strdup(text);
    return *copy_p != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "a text of %zu bytes", strlen(text));
}

/* ---- normaliser and pre-tokenizers ---- */

/* Calls `read` for a component, or for each one of a Sequence. */
static status_t each_component(wrk_tokenizer_t *tokenizer, const json_t *component, const char *list, const char *name,
                               status_t (*read)(wrk_tokenizer_t *, const json_t *, const char *))
{
    json_t *part = NULL;
    size_t i = 0;
    status_t status = ST_OK;
    if (component == NULL || json_is_null(component)) {
        return ST_OK;
    }
    if (strcmp(wrk_json_text(component, "type"), "Sequence") != 0) {
        return read(tokenizer, component, name);
    }
    json_array_foreach(json_object_get(component, list), i, part)
    {
        char place[64];
        (void)snprintf(place, sizeof(place), "%s.%s[%zu]", name, list, i);
        if (status == ST_OK) {
            status = read(tokenizer, part, place);
        }
    }
    return status;
}

/* NFC, NFD, NFKC, NFKD; WRK_NORMAL_FORM_COUNT: none of them. */
static wrk_normal_form_t form_find(const char *type)
{
    static const char *const forms[WRK_NORMAL_FORM_COUNT] = {
        [WRK_NFC] = "NFC", [WRK_NFD] = "NFD", [WRK_NFKC] = "NFKC", [WRK_NFKD] = "NFKD"};
    int form = 0;
    while (form < WRK_NORMAL_FORM_COUNT && strcmp(forms[form], type) != 0) {
        form++;
    }
    return (wrk_normal_form_t)form;
}

static status_t rewrite_add(wrk_tokenizer_t *tokenizer, wrk_rewrite_t rewrite, const char *name)
{
    if (tokenizer->n_rewrites == TOKENIZER_MAX_STEPS) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: more than %d steps", name, (int)TOKENIZER_MAX_STEPS);
    }
    tokenizer->rewrites[tokenizer->n_rewrites++] = rewrite;
    return ST_OK;
}

/* BertNormalizer is up to five steps; strip_accents follows lowercase where the file leaves it open. */
static status_t bert_read(wrk_tokenizer_t *tokenizer, const json_t *part, const char *name)
{
    const bool has_lowercase = wrk_json_is_true(part, "lowercase", true);
    const bool strips = wrk_json_is_true(part, "strip_accents", has_lowercase);
    const struct {
        bool is_wanted;
        wrk_rewrite_t rewrite;
    } steps[] = {
        {wrk_json_is_true(part, "clean_text", true), {.kind = WRK_REWRITE_MAP, .map = WRK_MAP_CLEAN}},
        {wrk_json_is_true(part, "handle_chinese_chars", true), {.kind = WRK_REWRITE_MAP, .map = WRK_MAP_SPACE_CHINESE}},
        {strips, {.kind = WRK_REWRITE_FORM, .form = WRK_NFD}},
        {strips, {.kind = WRK_REWRITE_MAP, .map = WRK_MAP_STRIP_NONSPACING}},
        {has_lowercase, {.kind = WRK_REWRITE_MAP, .map = WRK_MAP_LOWERCASE}},
    };
    status_t status = ST_OK;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && status == ST_OK; i++) {
        status = steps[i].is_wanted ? rewrite_add(tokenizer, steps[i].rewrite, name) : ST_OK;
    }
    return status;
}

static status_t rewrite_read(wrk_tokenizer_t *tokenizer, const json_t *part, const char *name)
{
    const char *type = wrk_json_text(part, "type");
    const char *wanted = wrk_json_text(json_object_get(part, "pattern"), "String");
    wrk_rewrite_t rewrite = {.kind = WRK_REWRITE_FORM, .form = form_find(type)};
    if (strcmp(type, "BertNormalizer") == 0) {
        return bert_read(tokenizer, part, name);
    }
    if (strcmp(type, "Lowercase") == 0 || strcmp(type, "StripAccents") == 0) {
        rewrite.kind = WRK_REWRITE_MAP;
        rewrite.map = type[0] == 'L' ? WRK_MAP_LOWERCASE : WRK_MAP_STRIP_MARKS;
    } else if (strcmp(type, "Prepend") == 0) {
        rewrite.kind = WRK_REWRITE_PREPEND;
    } else if (strcmp(type, "Replace") == 0 && wanted[0] != '\0') {
        rewrite.kind = WRK_REWRITE_REPLACE;
    } else if (rewrite.form == WRK_NORMAL_FORM_COUNT) {
        return ST_FAIL(ST_ERR_UNSUPPORTED,
                       "%s: \"%.40s\"; NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, BertNormalizer, Prepend and "
                       "Replace of a text are known",
                       name, type);
    }
    status_t status = rewrite_add(tokenizer, rewrite, name);
    if (status != ST_OK || (rewrite.kind != WRK_REWRITE_PREPEND && rewrite.kind != WRK_REWRITE_REPLACE)) {
        return status;
    }
    wrk_rewrite_t *own = &tokenizer->rewrites[tokenizer->n_rewrites - 1];
    const bool is_prepend = rewrite.kind == WRK_REWRITE_PREPEND;
    status = wrk_text_copy(wrk_json_text(part, is_prepend ? "prepend" : "content"), &own->text);
    return status == ST_OK && !is_prepend ? wrk_text_copy(wanted, &own->wanted) : status;
}

/* "replacement" and how it is put before a text, of the pre-tokenizer and of the decoder; older files say
 * add_prefix_space. */
static status_t metaspace_read(const json_t *part, const char *name, char **space_p, wrk_prepend_t *prepend_p)
{
    const char *space = wrk_json_text(part, "replacement");
    const char *scheme = wrk_json_text(part, "prepend_scheme");
    if (space[0] == '\0' || wrk_utf8_length(space, strlen(space)) != strlen(space)) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s.replacement: one character is wanted", name);
    }
    if (strcmp(scheme, "first") == 0) {
        *prepend_p = WRK_PREPEND_FIRST;
    } else if (strcmp(scheme, "always") == 0 ||
               (scheme[0] == '\0' && wrk_json_is_true(part, "add_prefix_space", true))) {
        *prepend_p = WRK_PREPEND_ALWAYS;
    } else if (strcmp(scheme, "never") == 0 || scheme[0] == '\0') {
        *prepend_p = WRK_PREPEND_NEVER;
    } else {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s.prepend_scheme: \"%.40s\"", name, scheme);
    }
    return wrk_text_copy(space, space_p);
}

/* Cuts before every replacement. */
static status_t metaspace_step_read(wrk_tokenizer_t *tokenizer, wrk_step_t *step, const json_t *part, const char *name)
{
    char pattern[48];
    for (int i = 0; i < tokenizer->n_steps; i++) {
        if (tokenizer->steps[i].kind == WRK_STEP_METASPACE) {
            return ST_FAIL(ST_ERR_UNSUPPORTED, "%s.type: a second \"Metaspace\"", name);
        }
    }
    step->kind = WRK_STEP_METASPACE;
    tokenizer->n_steps++;
    status_t status = metaspace_read(part, name, &step->space, &step->prepend);
    if (status == ST_OK && wrk_json_is_true(part, "split", true)) {
        (void)snprintf(pattern, sizeof(pattern), "[%s%s][^%s%s]*", ispunct((unsigned char)step->space[0]) ? "\\" : "",
                       step->space, ispunct((unsigned char)step->space[0]) ? "\\" : "", step->space);
        status = wrk_pattern_open(pattern, false, &step->pattern);
    }
    return status == ST_OK ? ST_OK : status_add_context(status, "%s", name);
}

/* The pre-tokenizers that cut by what characters are; false: it is none of them, or not one that is known. */
static bool cut_read(wrk_step_t *step, const json_t *part, const char *type)
{
    const char *behavior = wrk_json_text(part, "behavior");
    step->kind = WRK_STEP_CUT;
    if (strcmp(type, "Whitespace") == 0) {
        step->cut = WRK_CUT_WORDS;
        step->drops_rest = true;
        return true;
    }
    if (strcmp(type, "WhitespaceSplit") == 0) {
        step->cut = WRK_CUT_SPACES;
        step->drops_places = true;
        return true;
    }
    step->cut = WRK_CUT_PUNCTUATION;
    step->drops_places = strcmp(behavior, "Removed") == 0;
    return strcmp(type, "Punctuation") == 0 &&
           (step->drops_places || behavior[0] == '\0' || strcmp(behavior, "Isolated") == 0);
}

/* Split; false: it does something else with what it finds. */
static bool split_read(wrk_step_t *step, const json_t *part)
{
    const char *behavior = wrk_json_text(part, "behavior");
    const bool removes = strcmp(behavior, "Removed") == 0;
    const bool is_inverted = wrk_json_is_true(part, "invert", false);
    step->drops_places = removes && !is_inverted;
    step->drops_rest = removes && is_inverted;
    return removes || strcmp(behavior, "Isolated") == 0;
}

static status_t step_room_check(const wrk_tokenizer_t *tokenizer, int n, const char *name)
{
    return tokenizer->n_steps + n <= TOKENIZER_MAX_STEPS && !tokenizer->is_byte_level
               ? ST_OK
               : ST_FAIL(ST_ERR_UNSUPPORTED, "%s: a step behind ByteLevel, or more than %d", name,
                         (int)TOKENIZER_MAX_STEPS);
}

static status_t step_read(wrk_tokenizer_t *tokenizer, const json_t *part, const char *name)
{
    const char *type = wrk_json_text(part, "type");
    const json_t *pattern = json_object_get(part, "pattern");
    const char *text = NULL;
    bool is_literal = false;
    const bool is_bert = strcmp(type, "BertPreTokenizer") == 0;
    status_t status = step_room_check(tokenizer, is_bert ? 2 : 1, name);
    if (status != ST_OK) {
        return status;
    }
    wrk_step_t *step = &tokenizer->steps[tokenizer->n_steps];
    if (strcmp(type, "Metaspace") == 0) {
        return metaspace_step_read(tokenizer, step, part, name);
    }
    if (is_bert) {
        step[0] = (wrk_step_t){.kind = WRK_STEP_CUT, .cut = WRK_CUT_SPACES, .drops_places = true};
        step[1] = (wrk_step_t){.kind = WRK_STEP_CUT, .cut = WRK_CUT_PUNCTUATION};
        tokenizer->n_steps += 2;
        return ST_OK;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        step->kind = WRK_STEP_BYTES;
        step->has_prefix_space = wrk_json_is_true(part, "add_prefix_space", true);
        text = wrk_json_is_true(part, "use_regex", true) ? GPT2_PATTERN : NULL;
        tokenizer->is_byte_level = true;
    } else if (strcmp(type, "Digits") == 0) {
        text = wrk_json_is_true(part, "individual_digits", false) ? "\\p{N}" : "\\p{N}+";
    } else if (strcmp(type, "Split") == 0) {
        is_literal = json_object_get(pattern, "String") != NULL;
        text = wrk_json_text(pattern, is_literal ? "String" : "Regex");
        if (!split_read(step, part) || text[0] == '\0') {
            return ST_FAIL(ST_ERR_UNSUPPORTED, "%s.behavior: \"%.40s\"; Isolated and Removed are known", name,
                           wrk_json_text(part, "behavior"));
        }
    } else if (!cut_read(step, part, type)) {
        return ST_FAIL(ST_ERR_UNSUPPORTED,
                       "%s.type: \"%.40s\"; ByteLevel, Metaspace, Split, Digits, BertPreTokenizer, Whitespace, "
                       "WhitespaceSplit, Punctuation (isolated or removed) and Sequence are known",
                       name, type);
    }
    tokenizer->n_steps++;
    status = text != NULL ? wrk_pattern_open(text, is_literal, &step->pattern) : ST_OK;
    return status == ST_OK ? ST_OK : status_add_context(status, "%s", name);
}

/* ---- decoder ---- */

static status_t decoder_read(wrk_tokenizer_t *tokenizer, const json_t *part, const char *name)
{
    const char *type = wrk_json_text(part, "type");
    const char *from = wrk_json_text(json_object_get(part, "pattern"), "String");
    if (strcmp(type, "ByteLevel") == 0 && tokenizer->is_byte_level) {
        return ST_OK;
    }
    if (strcmp(type, "Metaspace") == 0 && tokenizer->decode_from == NULL) {
        wrk_prepend_t prepend = WRK_PREPEND_NEVER;
        status_t status = metaspace_read(part, name, &tokenizer->decode_from, &prepend);
        tokenizer->decode_first_is_bare = prepend != WRK_PREPEND_NEVER;
        return status == ST_OK ? wrk_text_copy(" ", &tokenizer->decode_to) : status;
    }
    if (strcmp(type, "WordPiece") == 0 && tokenizer->decode_from == NULL) {
        const char *prefix = wrk_json_text(part, "prefix");
        tokenizer->decodes_words = true;
        tokenizer->decodes_cleanly = wrk_json_is_true(part, "cleanup", true);
        return wrk_text_copy(json_object_get(part, "prefix") != NULL ? prefix : "##", &tokenizer->decode_from);
    }
    if (strcmp(type, "ByteFallback") == 0 && !tokenizer->is_byte_level) {
        tokenizer->decodes_bytes = true;
        return ST_OK;
    }
    if (strcmp(type, "Fuse") == 0) {
        return ST_OK;
    }
    if (strcmp(type, "Strip") == 0 && strcmp(wrk_json_text(part, "content"), " ") == 0 &&
        wrk_json_is_absent(part, "stop")) {
        json_int_t start = json_integer_value(json_object_get(part, "start"));
        tokenizer->decode_strip = start > 0 && start < TOKENIZER_MAX_TEXT ? (int)start : 0;
        return ST_OK;
    }
    if (strcmp(type, "Replace") == 0 && from[0] != '\0' && tokenizer->decode_from == NULL) {
        status_t status = wrk_text_copy(from, &tokenizer->decode_from);
        return status == ST_OK ? wrk_text_copy(wrk_json_text(part, "content"), &tokenizer->decode_to) : status;
    }
    return ST_FAIL(ST_ERR_UNSUPPORTED, "%s.type: \"%.40s\"", name, type);
}

/* ---- tokens around a text ---- */

/* What isn't the number of a token of the vocabulary is refused: `place` names it. */
static status_t mark_add(wrk_tokenizer_t *tokenizer, wrk_mark_t mark, const json_t *id, const char *place)
{
    wrk_marks_t *marks = &tokenizer->marks[mark];
    const json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
    if (number < 0 || number >= tokenizer->size || tokenizer->pieces[number].bytes == NULL) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: not the number of a token", place);
    }
    if (marks->n == WRK_MAX_MARKS) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: more than %d tokens on a side of the text", place, (int)WRK_MAX_MARKS);
    }
    marks->id[marks->n++] = number;
    return ST_OK;
}

/* What `single` has around its one text. A special token may stand for several. */
static status_t template_read(wrk_tokenizer_t *tokenizer, const json_t *part, const char *name)
{
    const json_t *item = NULL;
    size_t i = 0;
    wrk_mark_t side = WRK_MARK_BEGIN;
    status_t status = ST_OK;
    json_array_foreach(json_object_get(part, "single"), i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        const char *text = wrk_json_text(special, "id");
        const json_t *ids = json_object_get(json_object_get(json_object_get(part, "special_tokens"), text), "ids");
        char place[160];
        (void)snprintf(place, sizeof(place), "%s.special_tokens[\"%.60s\"].ids", name, text);
        side = special == NULL ? WRK_MARK_END : side;
        if (status == ST_OK && special != NULL && json_array_size(ids) == 0) {
            status = ST_FAIL(ST_ERR_CORRUPT, "%s: a list of tokens is wanted", place);
        }
        for (size_t k = 0; special != NULL && k < json_array_size(ids) && status == ST_OK; k++) {
            status = mark_add(tokenizer, side, json_array_get(ids, k), place);
        }
    }
    return status;
}

static status_t post_read(wrk_tokenizer_t *tokenizer, const json_t *part, const char *name)
{
    const char *type = wrk_json_text(part, "type");
    if (strcmp(type, "TemplateProcessing") == 0) {
        return template_read(tokenizer, part, name);
    }
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        status_t status = mark_add(tokenizer, WRK_MARK_BEGIN, json_array_get(json_object_get(part, "cls"), 1), name);
        return status == ST_OK
                   ? mark_add(tokenizer, WRK_MARK_END, json_array_get(json_object_get(part, "sep"), 1), name)
                   : status;
    }
    return ST_OK; /* one that isn't known puts nothing there that a job could ask for */
}

/* ---- the file's members ---- */

status_t wrk_tokenizer_read_before(wrk_tokenizer_t *tokenizer, const json_t *root)
{
    status_t status =
        each_component(tokenizer, json_object_get(root, "normalizer"), "normalizers", "normalizer", rewrite_read);
    return status == ST_OK ? each_component(tokenizer, json_object_get(root, "pre_tokenizer"), "pretokenizers",
                                            "pre_tokenizer", step_read)
                           : status;
}

status_t wrk_tokenizer_read_behind(wrk_tokenizer_t *tokenizer, const json_t *root)
{
    const json_t *padding = json_object_get(json_object_get(root, "padding"), "pad_id");
    status_t status = each_component(tokenizer, json_object_get(root, "decoder"), "decoders", "decoder", decoder_read);
    if (status == ST_OK && tokenizer->is_word_piece && wrk_json_is_absent(root, "decoder")) {
        tokenizer->decodes_words = true; /* as `tokenizers` joins tokens without a decoder */
        status = wrk_text_copy("", &tokenizer->decode_from);
    }
    if (status == ST_OK) { /* without one that is a token a job names its own */
        (void)mark_add(tokenizer, WRK_MARK_PADDING, padding, "padding.pad_id");
    }
    return status == ST_OK ? each_component(tokenizer, json_object_get(root, "post_processor"), "processors",
                                            "post_processor", post_read)
                           : status;
}
