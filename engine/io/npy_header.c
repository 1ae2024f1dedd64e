/* SPDX-License-Identifier: Apache-2.0 */
/* npy_header: the Python dict in front of an array; the parser knows just the literals that NumPy writes. */
#include <stdio.h>
#include <string.h>

#include "io/npy_format.h"

static const char magic[6] = "\x93NUMPY";

static const struct {
    char word[3]; /* without the byte order */
    gd_dtype_t dtype;
    npy_item_t item;
    size_t bytes;
} types[] = {
    {"f4", GD_DTYPE_F32, NPY_ITEM_SAME, 4},  {"f8", GD_DTYPE_F64, NPY_ITEM_SAME, 8},
    {"f2", GD_DTYPE_F16, NPY_ITEM_SAME, 2},  {"i8", GD_DTYPE_I64, NPY_ITEM_SAME, 8},
    {"i4", GD_DTYPE_I32, NPY_ITEM_SAME, 4},  {"u1", GD_DTYPE_U8, NPY_ITEM_SAME, 1},
    {"b1", GD_DTYPE_BOOL, NPY_ITEM_SAME, 1}, {"i1", GD_DTYPE_I32, NPY_ITEM_I8, 1},
    {"i2", GD_DTYPE_I32, NPY_ITEM_I16, 2},   {"u2", GD_DTYPE_I32, NPY_ITEM_U16, 2},
    {"u4", GD_DTYPE_I64, NPY_ITEM_U32, 4},
};
enum { N_TYPES = sizeof(types) / sizeof(types[0]) };

/* What is left of the header's text. */
typedef struct cursor {
    const char *where;
    const char *at;
    const char *end;
} cursor_t;

static status_t cursor_fail(const cursor_t *c, const char *why)
{
    int n = c->end - c->at < 24 ? (int)(c->end - c->at) : 24;
    char near[25];
    for (int i = 0; i < n; i++) {
        near[i] = (char)(c->at[i] >= ' ' && c->at[i] < 127 ? c->at[i] : '?');
    }
    near[n] = '\0';
    return ST_FAIL(ST_ERR_CORRUPT, "%s: NumPy header: %s at \"%s\"", c->where, why, near);
}

static void cursor_skip_space(cursor_t *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t')) {
        c->at++;
    }
}

/* Takes the character if it is next. */
static bool cursor_take(cursor_t *c, char wanted)
{
    cursor_skip_space(c);
    if (c->at < c->end && *c->at == wanted) {
        c->at++;
        return true;
    }
    return false;
}

static bool cursor_take_word(cursor_t *c, const char *word)
{
    size_t n = strlen(word);
    cursor_skip_space(c);
    if ((size_t)(c->end - c->at) >= n && memcmp(c->at, word, n) == 0) {
        c->at += n;
        return true;
    }
    return false;
}

/* A string in quotes without escapes, cut to size. */
static status_t cursor_string(cursor_t *c, char *out, size_t size)
{
    cursor_skip_space(c);
    char quote = c->at < c->end ? *c->at : '\0';
    if (quote != '\'' && quote != '"') {
        return cursor_fail(c, "a string is missing");
    }
    const char *begin = c->at + 1;
    const char *stop = memchr(begin, quote, (size_t)(c->end - begin));
    if (stop == NULL) {
        return cursor_fail(c, "a string without end");
    }
    size_t n = (size_t)(stop - begin) < size - 1 ? (size_t)(stop - begin) : size - 1;
    memcpy(out, begin, n);
    out[n] = '\0';
    c->at = stop + 1;
    return ST_OK;
}

static status_t descr_parse(cursor_t *c, npy_header_t *header)
{
    char word[32];
    cursor_skip_space(c);
    if (c->at < c->end && *c->at == '[') {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: structured arrays aren't read", c->where);
    }
    status_t status = cursor_string(c, word, sizeof(word));
    if (status != ST_OK) {
        return status;
    }
    if (strchr("<>|=", word[0]) != NULL && word[0] != '\0') {
        for (int i = 0; i < N_TYPES; i++) {
            if (strcmp(word + 1, types[i].word) == 0) {
                header->dtype = types[i].dtype;
                header->item = types[i].item;
                header->item_bytes = types[i].bytes;
                header->is_swapped = word[0] == '>' && types[i].bytes > 1;
                return ST_OK;
            }
        }
    }
    return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: NumPy type %s isn't one of f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 b1%s", c->where,
                   word, strchr(word, 'O') != NULL ? " (pickled objects are never read)" : "");
}

static status_t shape_parse(cursor_t *c, npy_header_t *header)
{
    if (!cursor_take(c, '(')) {
        return cursor_fail(c, "a shape (…) is missing");
    }
    header->n_dims = 0;
    while (!cursor_take(c, ')')) {
        cursor_skip_space(c);
        const char *begin = c->at;
        int64_t size = 0;
        while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
            if (__builtin_mul_overflow(size, 10, &size) || __builtin_add_overflow(size, *c->at - '0', &size)) {
                return cursor_fail(c, "a size beyond 64 bits");
            }
            c->at++;
        }
        if (c->at == begin) {
            return cursor_fail(c, "the shape has something that is no size");
        }
        (void)cursor_take(c, 'L'); /* Python 2 */
        if (header->n_dims == GD_MAX_DIMS) {
            return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: more than %d dimensions", c->where, GD_MAX_DIMS);
        }
        header->shape[header->n_dims++] = size;
        if (!cursor_take(c, ',') && (c->at == c->end || *c->at != ')')) {
            return cursor_fail(c, "a comma or ) is missing");
        }
    }
    return ST_OK;
}

static status_t dict_parse(cursor_t *c, npy_header_t *header)
{
    enum { HAS_DESCR = 1, HAS_ORDER = 2, HAS_SHAPE = 4, HAS_ALL = 7 };
    unsigned seen = 0;
    if (!cursor_take(c, '{')) {
        return cursor_fail(c, "a { is missing");
    }
    while (!cursor_take(c, '}')) {
        char key[16];
        unsigned has = 0;
        status_t status = cursor_string(c, key, sizeof(key));
        if (status == ST_OK && !cursor_take(c, ':')) {
            status = cursor_fail(c, "a : is missing");
        }
        if (status == ST_OK && strcmp(key, "descr") == 0) {
            has = HAS_DESCR;
            status = descr_parse(c, header);
        } else if (status == ST_OK && strcmp(key, "shape") == 0) {
            has = HAS_SHAPE;
            status = shape_parse(c, header);
        } else if (status == ST_OK && strcmp(key, "fortran_order") == 0) {
            has = HAS_ORDER;
            header->is_fortran = cursor_take_word(c, "True");
            if (!header->is_fortran && !cursor_take_word(c, "False")) {
                status = cursor_fail(c, "fortran_order is neither True nor False");
            }
        } else if (status == ST_OK) {
            status = ST_FAIL(ST_ERR_CORRUPT, "%s: NumPy header: unknown key '%s'", c->where, key);
        }
        if (status != ST_OK) {
            return status;
        }
        if ((seen & has) != 0) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: NumPy header: '%s' twice", c->where, key);
        }
        seen |= has;
        if (!cursor_take(c, ',') && (c->at == c->end || *c->at != '}')) {
            return cursor_fail(c, "a comma or } is missing");
        }
    }
    cursor_skip_space(c);
    if (c->at != c->end) {
        return cursor_fail(c, "something follows the }");
    }
    if (seen != HAS_ALL) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: NumPy header: descr, fortran_order and shape are needed", c->where);
    }
    return ST_OK;
}

/* Sizes against each other and the file. */
static status_t extent_check(const char *where, size_t size, npy_header_t *header)
{
    int64_t numel = 1;
    int64_t product = 1; /* with empty dimensions counted as 1: strides must not overflow either */
    bool is_over = false;
    for (int i = 0; i < header->n_dims; i++) {
        int64_t n = header->shape[i];
        is_over = is_over || __builtin_mul_overflow(product, n > 0 ? n : 1, &product);
        numel = is_over ? 0 : numel * n;
    }
    int64_t limit = INT64_MAX / (int64_t)(2 * gd_dtype_size(header->dtype));
    if (is_over || product > limit) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: NumPy header: the shape is too large", where);
    }
    uint64_t needed = (uint64_t)numel * header->item_bytes;
    uint64_t have = size - header->data_offset;
    if (needed != have) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: its shape and type need %llu bytes, the file has %llu%s", where,
                       (unsigned long long)needed, (unsigned long long)have, have < needed ? " (truncated?)" : "");
    }
    header->numel = numel;
    return ST_OK;
}

status_t npy_header_parse(const char *where, const uint8_t *bytes, size_t size, npy_header_t *header_p)
{
    if (size < 10 || memcmp(bytes, magic, sizeof(magic)) != 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: not a NumPy file: it doesn't begin with \\x93NUMPY", where);
    }
    unsigned version = bytes[6];
    if (version < 1 || version > 3 || bytes[7] != 0) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: version %u.%u of the format; 1.0, 2.0 and 3.0 are known", where,
                       version, (unsigned)bytes[7]);
    }
    size_t prefix = version == 1 ? 10 : 12;
    uint32_t length = bytes[8] | (uint32_t)bytes[9] << 8;
    if (version > 1 && size >= prefix) {
        length |= (uint32_t)bytes[10] << 16 | (uint32_t)bytes[11] << 24;
    }
    if (length > NPY_MAX_HEADER_BYTES || size < prefix || length > size - prefix) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: a NumPy header of %u bytes in a file of %zu (limit %d)", where, length,
                       size, NPY_MAX_HEADER_BYTES);
    }
    npy_header_t header = {.data_offset = prefix + length};
    cursor_t c = {.where = where, .at = (const char *)bytes + prefix, .end = (const char *)bytes + prefix + length};
    status_t status = dict_parse(&c, &header);
    if (status == ST_OK) {
        status = extent_check(where, size, &header);
    }
    if (status == ST_OK) {
        *header_p = header;
    }
    return status;
}

status_t npy_header_format(const char *where, const gd_tensor_t *t, uint8_t out[NPY_MAX_WRITTEN_HEADER],
                           size_t *length_p)
{
    const char *word = NULL;
    for (int i = 0; i < N_TYPES && word == NULL; i++) {
        word = types[i].dtype == gd_tensor_dtype(t) && types[i].item == NPY_ITEM_SAME ? types[i].word : NULL;
    }
    if (word == NULL) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: NumPy has no type for %s; cast it to f32 first", where,
                       gd_dtype_name(gd_tensor_dtype(t)));
    }
    char text[NPY_MAX_WRITTEN_HEADER - 10];
    size_t n = (size_t)snprintf(text, sizeof(text), "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                                word[1] == '1' ? '|' : '<', word);
    for (int i = 0; i < gd_tensor_n_dims(t); i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, i > 0 ? ", %lld" : "%lld", (long long)gd_tensor_shape(t)[i]);
    }
    n += (size_t)snprintf(text + n, sizeof(text) - n, gd_tensor_n_dims(t) == 1 ? ",), }" : "), }");
    size_t length = (10 + n + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
    memset(out, ' ', length);
    memcpy(out, magic, sizeof(magic));
    out[6] = 1;
    out[7] = 0;
    out[8] = (uint8_t)((length - 10) & 0xff);
    out[9] = (uint8_t)((length - 10) >> 8);
    memcpy(out + 10, text, n);
    out[length - 1] = '\n';
    *length_p = length;
    return ST_OK;
}
