/* SPDX-License-Identifier: Apache-2.0 */
/* assert: ASSERT is for our own bugs only, in every build; user input, files and peers are never asserted. */
#ifndef GRADD_BASE_ASSERT_H
#define GRADD_BASE_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

#define ASSERT(condition_x)                                                                                            \
    do {                                                                                                               \
        if (!(condition_x)) {                                                                                          \
            (void)fprintf(stderr, "%s:%d: bug in gradd: ASSERT(%s) failed\n", __FILE__, __LINE__, #condition_x);       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
