/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture: what every test of the project stands in. A test that logs an unexpected warning or error, leaks a file
 * descriptor or a counted block of memory fails.
 */
#ifndef GRADD_TESTS_SUPPORT_FIXTURE_H
#define GRADD_TESTS_SUPPORT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"

/* cmocka's setup and teardown for each test: TEST(name_of_the_function). */
int fixture_setup(void **state);
int fixture_teardown(void **state);
#define TEST(function_x) cmocka_unit_test_setup_teardown(function_x, fixture_setup, fixture_teardown)

/* The running test may log lines that contain text (at most 8 such). */
void fixture_expect_log(const char *text);

/* A fresh folder for the running test, removed at its end. */
const char *fixture_folder(void);
/* Writes fixture_folder()/<name>. The path: borrowed, until 16 more were written. */
const char *fixture_write(const char *name, const void *bytes, size_t length);
const char *fixture_write_text(const char *name, const char *text);

/* $GRADD_DATA or ../shared/data beside the source tree; NULL when `name` is not in it (the caller then skips). */
const char *fixture_data(const char *name);

/* tests/golden/<name>, borrowed until the next call; the scripts beside the files make them. */
const char *fixture_golden(const char *name);

/* Prints the reason and skips the running test. */
#define FIXTURE_SKIP(...)                                                                                              \
    do {                                                                                                               \
        print_message("[  SKIPPED ] " __VA_ARGS__);                                                                    \
        print_message("\n");                                                                                           \
        skip();                                                                                                        \
    } while (0)

/* Asserts ST_OK, printing the message otherwise; asserts a code and a part of its message. */
#define assert_ok(call_x) fixture_assert_ok((call_x), #call_x, __FILE__, __LINE__)
#define assert_fails(call_x, code_x, text_x)                                                                           \
    fixture_assert_fails((call_x), (code_x), (text_x), #call_x, __FILE__, __LINE__)
void fixture_assert_ok(status_t status, const char *call, const char *file, int line);
void fixture_assert_fails(status_t status, status_t code, const char *text, const char *call, const char *file,
                          int line);

#endif
