/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_decode: tokens → text. */
#include <string.h>

#include "worker/data/tokenizer_internal.h"

int64_t wrk_tokenizer_size(const wrk_tokenizer_t *tokenizer)
{
    return tokenizer->size;
}

const wrk_marks_t *wrk_tokenizer_marks(const wrk_tokenizer_t *tokenizer, wrk_mark_t mark)
{
    return &tokenizer->marks[mark];
}

bool wrk_tokenizer_is_alike(const wrk_tokenizer_t *tokenizer, const wrk_tokenizer_t *other)
{
    bool is_alike = tokenizer->size == other->size;
    for (int64_t id = 0; id < tokenizer->size && is_alike; id++) {
        const wrk_piece_t *a = &tokenizer->pieces[id];
        const wrk_piece_t *b = &other->pieces[id];
        is_alike = (a->bytes == NULL) == (b->bytes == NULL) && a->length == b->length &&
                   (a->bytes == NULL || memcmp(a->bytes, b->bytes, a->length) == 0);
    }
    return is_alike;
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The byte that "<0x0A>" names; -1: it is no such token. */
static int byte_of(const wrk_piece_t *piece)
{
    const char *c = piece->bytes;
    bool is_named = piece->length == 6 && memcmp(c, "<0x", 3) == 0 && c[5] == '>';
    return is_named && digit_of(c[3]) >= 0 && digit_of(c[4]) >= 0 ? digit_of(c[3]) * 16 + digit_of(c[4]) : -1;
}

/* `tokenizers`' cleanup, in its order. *text is changed; `other` is room. */
static void words_tidy(strbuf_t *text, strbuf_t *other)
{
    static const char *const change[][2] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (size_t i = 0; i < sizeof(change) / sizeof(change[0]); i++) {
        if (text->length > 0 && strstr(strbuf_text(text), change[i][0]) != NULL) {
            strbuf_clear(other);
            wrk_text_replace(strbuf_text(text), text->length, change[i][0], change[i][1], other);
            strbuf_t swapped = *text;
            *text = *other;
            *other = swapped;
        }
    }
}

/* WordPiece: a token that goes on with a word loses what says so; before another stands a space. */
static void words_join(const wrk_tokenizer_t *tokenizer, const wrk_piece_t *piece, bool is_first, strbuf_t *word,
                       strbuf_t *room)
{
    const size_t n = strlen(tokenizer->decode_from);
    const bool goes_on =
        !is_first && n > 0 && n <= piece->length && memcmp(piece->bytes, tokenizer->decode_from, n) == 0;
    strbuf_clear(word);
    strbuf_append(word, is_first || goes_on ? "" : " ");
    strbuf_append_bytes(word, piece->bytes + (goes_on ? n : 0), piece->length - (goes_on ? n : 0));
    if (tokenizer->decodes_cleanly) {
        words_tidy(word, room);
    }
}

void wrk_tokenizer_decode(const wrk_tokenizer_t *tokenizer, const int64_t *tokens, int64_t n, strbuf_t *text)
{
    strbuf_t own = {0};
    strbuf_t word = {0};
    strbuf_t room = {0};
    bool is_first = true;
    for (int64_t i = 0; i < n; i++) {
        const wrk_piece_t *piece = tokens[i] >= 0 && tokens[i] < tokenizer->size ? &tokenizer->pieces[tokens[i]] : NULL;
        if (piece == NULL || piece->bytes == NULL) {
            continue;
        }
        int byte = tokenizer->decodes_bytes ? byte_of(piece) : -1;
        if (byte >= 0) {
            strbuf_append_char(&own, (char)byte);
        } else if (tokenizer->decodes_words) {
            words_join(tokenizer, piece, is_first, &word, &room);
            strbuf_append_bytes(&own, strbuf_text(&word), word.length);
            own.is_failed |= word.is_failed || room.is_failed;
        } else if (tokenizer->decode_from != NULL) {
            const bool is_bare = is_first && tokenizer->decode_first_is_bare;
            wrk_text_replace(piece->bytes, piece->length, tokenizer->decode_from, is_bare ? "" : tokenizer->decode_to,
                             &own);
        } else {
            strbuf_append_bytes(&own, piece->bytes, piece->length);
        }
        is_first = false;
    }
    size_t start = 0;
    while (start < own.length && start < (size_t)tokenizer->decode_strip && strbuf_text(&own)[start] == ' ') {
        start++;
    }
    strbuf_append_bytes(text, strbuf_text(&own) + start, own.length - start);
    text->is_failed |= own.is_failed;
    strbuf_release(&own);
    strbuf_release(&word);
    strbuf_release(&room);
}
