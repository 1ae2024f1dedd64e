/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer: a tokenizer.json from a stranger; what it makes of a text is decoded again. */
#include "base/mem.h"
#include "tests/fuzz/fuzz_data.h"
#include "worker/data/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char TEXT[] = "Hello, w\xc3\xb6rld! It's 12345 <|endoftext|>\n\n  \xf0\x9f\x98\x80 \xff"
                               "\xe4\xb8\xad\xe6\x96\x87 e\xcc\x81 \xc4\xb0 \x01 unbelievably";
    fuzz_file_t file = fuzz_file_make(bytes, size);
    wrk_tokenizer_t *tokenizer = NULL;
    if (wrk_tokenizer_open(file.path, &tokenizer) == ST_OK) {
        int64_t *tokens = NULL;
        int64_t n = 0;
        strbuf_t text = {0};
        if (wrk_tokens_encode(tokenizer, TEXT, sizeof(TEXT) - 1, &tokens, &n) == ST_OK) {
            wrk_tokenizer_decode(tokenizer, tokens, n, &text);
        }
        for (int mark = 0; mark < WRK_MARK_COUNT; mark++) {
            const wrk_marks_t *marks = wrk_tokenizer_marks(tokenizer, (wrk_mark_t)mark);
            wrk_tokenizer_decode(tokenizer, marks->id, marks->n, &text);
        }
        strbuf_release(&text);
        mem_free(tokens);
        wrk_tokenizer_close(tokenizer);
    }
    (void)close(file.fd);
    return 0;
}
