# SPDX-License-Identifier: Apache-2.0
# cmake -D INPUT=file -D OUTPUT=file.c -D NAME=symbol -P embed.cmake: the bytes of a file as a C array.
file(READ "${INPUT}" hex HEX)
string(LENGTH "${hex}" length)
math(EXPR size "${length} / 2")
string(REPEAT "." 40 row)
string(REGEX REPLACE "(${row})" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE "${OUTPUT}" "/* generated from ${INPUT} */
#include <stddef.h>
#include <stdint.h>
extern const uint8_t ${NAME}[];
extern const size_t ${NAME}_size;
const uint8_t ${NAME}[] = {
${bytes}
};
const size_t ${NAME}_size = ${size};
")
