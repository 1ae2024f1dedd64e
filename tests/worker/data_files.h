/* SPDX-License-Identifier: Apache-2.0 */
/* data_files: small data files for the tests of the loaders. */
#ifndef GRADD_TESTS_WORKER_DATA_FILES_H
#define GRADD_TESTS_WORKER_DATA_FILES_H

#include "tests/support/fixture.h"

/* Writes a file to the test's folder; its path is in one of 16 buffers used in turn. */
const char *file_write(const char *name, const void *bytes, size_t length);
const char *file_write_text(const char *name, const char *text);
/* The same, gzipped; `drop` bytes of the packed file are cut off its end. */
const char *file_write_gzip(const char *name, const void *bytes, size_t length, size_t drop);

#endif
