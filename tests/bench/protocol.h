/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol: what tests/bench/interleave.py says to the programs that it times, in lines on stdin, and their answers on
 * stdout:
 *
 *   run N     N numbers on one line: the times of N steps in ms (bench-machine: its figures instead)
 *   memory    one number: the bytes that the last run's steps held beyond what is held between steps; -1: not known
 *   quit      the end
 */
#ifndef GRADD_TESTS_BENCH_PROTOCOL_H
#define GRADD_TESTS_BENCH_PROTOCOL_H

#include <stdint.h>

enum { PROTOCOL_MAX_STEPS = 100000 };

typedef enum protocol_word { PROTOCOL_RUN, PROTOCOL_MEMORY, PROTOCOL_QUIT } protocol_word_t;

/* Waits for the next line; QUIT also at the end of stdin and for what isn't understood. *n_steps_p: RUN only,
 * 1 … PROTOCOL_MAX_STEPS. */
protocol_word_t protocol_next(int64_t *n_steps_p);
void protocol_answer(const double *numbers, int64_t n);
/* The number of threads of a program that takes `--threads N` alone (2 without it), or -1: its usage was printed, on
 * stdout where that was asked for (*code_p 0), else on stderr (2). */
int protocol_threads(int argc, char **argv, const char *program, int *code_p);
/* Thread counts and the like from a command line: a whole number of min … max, or -1. */
int protocol_number(const char *text, int min, int max);

#endif
