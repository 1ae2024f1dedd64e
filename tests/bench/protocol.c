/* SPDX-License-Identifier: Apache-2.0 */
/* protocol: lines in, lines out. */
#include "tests/bench/protocol.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

protocol_word_t protocol_next(int64_t *n_steps_p)
{
    char line[64];
    if (fgets(line, sizeof(line), stdin) == NULL) {
        return PROTOCOL_QUIT;
    }
    if (strncmp(line, "memory", 6) == 0) {
        return PROTOCOL_MEMORY;
    }
    if (strncmp(line, "run ", 4) != 0) {
        return PROTOCOL_QUIT;
    }
    char *end = NULL;
    long long n = strtoll(line + 4, &end, 10);
    if (n < 1 || n > PROTOCOL_MAX_STEPS || (*end != '\n' && *end != '\0')) {
        return PROTOCOL_QUIT;
    }
    *n_steps_p = n;
    return PROTOCOL_RUN;
}

void protocol_answer(const double *numbers, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        (void)printf("%.4f%c", numbers[i], i + 1 < n ? ' ' : '\n');
    }
    (void)fflush(stdout);
}

int protocol_number(const char *text, int min, int max)
{
    char *end = NULL;
    const long number = strtol(text, &end, 10);
    return end != text && *end == '\0' && number >= min && number <= max ? (int)number : -1;
}

int protocol_threads(int argc, char **argv, const char *program, int *code_p)
{
    enum { DEFAULT = 2, MAX_THREADS = 256 };
    const bool is_help = argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0);
    if (argc == 1) {
        return DEFAULT;
    }
    const int n = argc == 3 && strcmp(argv[1], "--threads") == 0 ? protocol_number(argv[2], 1, MAX_THREADS) : -1;
    if (n < 0) {
        (void)fprintf(is_help ? stdout : stderr, "usage: %s [--threads N]\n", program);
        *code_p = is_help ? 0 : 2;
    }
    return n;
}
