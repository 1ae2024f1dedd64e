/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate: text sampled token by token from the trained model, with a context that slides; of data whose samples are
 * texts and their answers, the answer to the prompt, which an encoder reads, up to the token that ends it. Random
 * numbers are of purpose 4 at (seed, last step): the same text from the same parameters.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "gradd/ops.h"
#include "gradd/rng.h"
#include "worker/session_internal.h"
#include "worker/text.h"

enum { PURPOSE_SAMPLING = 4, MAX_GENERATED = 1 << 20 };

static int descending_compare(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Draws a token from softmax(logits / temperature) over the top_k largest; unit in [0, 1). scratch: [n]. */
static int64_t token_draw(const float *logits, int64_t n, const Gradd__V1__Generate *generate, float unit,
                          float *scratch)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    if (generate->temperature <= 0) {
        return best;
    }
    float threshold = -INFINITY;
    if (generate->top_k > 0 && generate->top_k < n) {
        memcpy(scratch, logits, (size_t)n * sizeof(float));
        qsort(scratch, (size_t)n, sizeof(float), descending_compare);
        threshold = scratch[generate->top_k - 1];
    }
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        double z = ((double)logits[i] - (double)logits[best]) / generate->temperature;
        scratch[i] = logits[i] >= threshold ? (float)exp(z) : 0.0F;
        total += (double)scratch[i];
    }
    double left = (double)unit * total;
    for (int64_t i = 0; i < n; i++) {
        left -= (double)scratch[i];
        if (left < 0) {
            return i;
        }
    }
    return best;
}

/* logits of the last position of tokens[n] → out[n_outputs]. */
static status_t logits_get(const wrk_session_t *session, const int64_t *tokens, int64_t n, float *out)
{
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    int64_t shape[2] = {1, n};
    status_t status = gd_tensor_from_data(GD_DTYPE_I64, 2, shape, tokens, &x);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_t *outputs = NULL;
    status = gd_module_forward(session->model, x, &outputs);
    (void)gd_tensor_unref(x);
    if (status == ST_OK) {
        status = gd_cast(outputs, GD_DTYPE_F32, &y); /* bf16 under training.precision */
    }
    (void)gd_tensor_unref(outputs);
    if (status != ST_OK) {
        return status;
    }
    const int64_t n_rows = gd_tensor_numel(y) / session->n_outputs; /* a decoder's are fewer than the tokens */
    if (n_rows < 1 || gd_tensor_dim(y, -1) != session->n_outputs) {
        strbuf_t text = {0};
        gd_tensor_format_shape(y, &text);
        status = ST_FAIL(ST_ERR_SHAPE, "the model makes %s of %lld tokens, no logits [1, T, %lld]", strbuf_text(&text),
                         (long long)n, (long long)session->n_outputs);
        strbuf_release(&text);
    } else {
        const float *data = gd_tensor_data(y);
        memcpy(out, data + (n_rows - 1) * session->n_outputs, (size_t)session->n_outputs * sizeof(float));
    }
    (void)gd_tensor_unref(y);
    return status;
}

/* The prompt's tokens with room for n_new more (mem_free); where the job gives none, which proto fills with a line
 * break: that, or else token 0. (Of an answer's job it is given: see proto/spec_check.c.) */
static status_t prompt_encode(const wrk_session_t *session, const char *prompt, int64_t n_new, int64_t **tokens_p,
                              int64_t *n_p)
{
    static const int64_t FIRST = 0;
    int64_t *own = NULL;
    int64_t n = 0;
    bool is_given = prompt != NULL && prompt[0] != '\0' && strcmp(prompt, "\n") != 0;
    status_t status =
        wrk_dataset_encode(session->train, is_given ? prompt : "\n", is_given ? strlen(prompt) : 1, &own, &n);
    if (status != ST_OK && is_given) {
        return status;
    }
    bool is_first = status != ST_OK || n == 0;
    n = is_first ? 1 : n;
    int64_t *tokens = mem_calloc((size_t)(n + n_new), sizeof(*tokens));
    if (tokens != NULL) {
        memcpy(tokens, is_first ? &FIRST : own, (size_t)n * sizeof(*tokens));
    }
    mem_free(own);
    if (tokens == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld tokens", (long long)(n + n_new));
    }
    *tokens_p = tokens;
    *n_p = n;
    return ST_OK;
}

/* What no answer has isn't drawn. */
static void answer_mask(const wrk_answer_t *answer, float *logits, int64_t n_outputs)
{
    const int64_t never[2] = {answer->padding, answer->begin};
    for (int i = 0; i < 2; i++) {
        if (never[i] >= 0 && never[i] < n_outputs && never[i] != answer->end) {
            logits[never[i]] = -INFINITY;
        }
    }
}

/* Draws up to *n_new_p tokens behind tokens[n]; *n_new_p: those before the end of an answer. */
static status_t tokens_generate(wrk_session_t *session, const Gradd__V1__Generate *generate, int64_t *tokens, int64_t n,
                                int64_t *n_new_p)
{
    const wrk_answer_t *answer = wrk_dataset_answer(session->train);
    int64_t context = wrk_dataset_input(session->train)->numel;
    float *logits = mem_alloc(2 * (size_t)session->n_outputs * sizeof(float));
    if (logits == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "logits of %lld tokens", (long long)session->n_outputs);
    }
    gd_rng_set_position(session->job->seed, (uint32_t)session->step, 0);
    gd_rng_key_t key = gd_rng_key((uint32_t)hash_fnv1a_text("generate"), PURPOSE_SAMPLING);
    status_t status = ST_OK;
    int64_t i = 0;
    for (; i < *n_new_p && status == ST_OK; i++) {
        int64_t length = n + i < context ? n + i : context;
        status = logits_get(session, tokens + n + i - length, length, logits);
        if (status == ST_OK) {
            uint32_t word[4];
            gd_philox(&key, (uint32_t)i, word);
            if (answer != NULL) {
                answer_mask(answer, logits, session->n_outputs);
            }
            tokens[n + i] =
                token_draw(logits, session->n_outputs, generate, gd_rng_unit(word[0]), logits + session->n_outputs);
        }
        if (status == ST_OK && answer != NULL && tokens[n + i] == answer->end) {
            break;
        }
    }
    *n_new_p = i;
    mem_free(logits);
    return status;
}

status_t wrk_session_generate_check(const wrk_session_t *session)
{
    int64_t context = wrk_dataset_input(session->train)->numel;
    int64_t n = 0;
    int64_t *tokens = NULL;
    float *logits = mem_alloc((size_t)session->n_outputs * sizeof(float));
    status_t status = logits != NULL ? prompt_encode(session, session->job->generate->prompt, 0, &tokens, &n)
                                     : ST_FAIL(ST_ERR_NOMEM, "%lld logits", (long long)session->n_outputs);
    if (status == ST_OK) {
        bool was_recording = gd_grad_set_enabled(false);
        int64_t length = n < context ? n : context;
        status = logits_get(session, tokens + n - length, length, logits);
        (void)gd_grad_set_enabled(was_recording);
    }
    mem_free(logits);
    mem_free(tokens);
    return status == ST_OK ? ST_OK : status_add_context(status, "generate.prompt");
}

status_t wrk_session_generate(wrk_session_t *session, char **text_p)
{
    const Gradd__V1__Generate *generate = session->job->generate;
    const wrk_answer_t *answer = wrk_dataset_answer(session->train);
    const int64_t most = answer != NULL ? answer->n_most : MAX_GENERATED;
    int64_t n_new = generate->tokens < 0 ? 0 : generate->tokens > most ? most : generate->tokens;
    int64_t n = 0;
    int64_t *tokens = NULL;
    bool was_training = gd_training_set(false);
    bool was_recording = gd_grad_set_enabled(false);
    status_t status = prompt_encode(session, generate->prompt, n_new, &tokens, &n);
    if (status == ST_OK) {
        status = tokens_generate(session, generate, tokens, n, &n_new);
    }
    (void)gd_grad_set_enabled(was_recording);
    (void)gd_training_set(was_training);
    if (status == ST_OK) {
        strbuf_t raw = {0};
        strbuf_t text = {0};
        if (answer != NULL) {
            wrk_dataset_decode(session->train, tokens + n, n_new, &raw);
        } else {
            wrk_dataset_decode(session->train, tokens, n + n_new, &raw);
        }
        wrk_text_append(&text, strbuf_text(&raw), raw.length);
        *text_p = raw.is_failed ? NULL : strbuf_detach(&text);
        if (*text_p == NULL) {
            status = ST_FAIL(ST_ERR_NOMEM, "text of %lld tokens", (long long)n_new);
        }
        strbuf_release(&raw);
        strbuf_release(&text);
    }
    mem_free(tokens);
    return status;
}
