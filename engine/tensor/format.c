/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format: tensors as text, in the way of torch.Tensor: four decimals, integers as "1.", scientific notation when the
 * range asks for it, columns aligned, three items at each end of an axis beyond 1,000 elements, lines of 80 characters.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/node.h"
#include "tensor/internal.h"

enum { EDGE = 3, SUMMARY_ABOVE = 1000, LINE_WIDTH = 80, PREFIX = 7 }; /* "tensor(" */

void gd_shape_format(int n_dims, const int64_t *shape, strbuf_t *text)
{
    strbuf_append_char(text, '[');
    for (int i = 0; i < n_dims; i++) {
        strbuf_appendf(text, i > 0 ? ", %lld" : "%lld", (long long)shape[i]);
    }
    strbuf_append_char(text, ']');
}

void gd_tensor_format_shape(const gd_tensor_t *t, strbuf_t *text)
{
    gd_shape_format(t->n_dims, t->shape, text);
}

typedef struct printer {
    const gd_tensor_t *t;
    strbuf_t *text;
    bool is_summary;
    bool is_integer; /* i64, i32, u8 */
    bool is_whole;   /* floats without fraction */
    bool is_scientific;
    int width;
    /* while the format is being found */
    double min, max; /* of the finite non-zero magnitudes */
    bool has_finite;
} printer_t;

static double element_get(const gd_tensor_t *t, int64_t offset)
{
    gd_tensor_t one = *t;
    one.n_dims = 0;
    one.numel = 1;
    one.offset = offset;
    double value = 0;
    (void)gd_tensor_item(&one, &value);
    return value;
}

static int64_t integer_get(const gd_tensor_t *t, int64_t offset)
{
    const void *data = t->storage->data;
    switch (t->dtype) {
    case GD_DTYPE_I64:
        return ((const int64_t *)data)[offset];
    case GD_DTYPE_I32:
        return ((const int32_t *)data)[offset];
    default:
        return ((const uint8_t *)data)[offset];
    }
}

static int element_format(const printer_t *p, int64_t offset, char *out, size_t size)
{
    if (p->t->dtype == GD_DTYPE_BOOL) {
        return snprintf(out, size, "%s", integer_get(p->t, offset) != 0 ? "True" : "False");
    }
    if (p->is_integer) {
        return snprintf(out, size, "%lld", (long long)integer_get(p->t, offset));
    }
    double value = element_get(p->t, offset);
    if (value != value) {
        return snprintf(out, size, "nan");
    }
    if (isinf(value)) {
        return snprintf(out, size, value < 0 ? "-inf" : "inf");
    }
    if (p->is_scientific) {
        return snprintf(out, size, "%.4e", value);
    }
    return snprintf(out, size, p->is_whole ? "%.0f." : "%.4f", value);
}

/* Calls visit for each element that is shown. */
static void elements_visit(printer_t *p, int axis, int64_t offset, void (*visit)(printer_t *p, int64_t offset))
{
    const gd_tensor_t *t = p->t;
    if (axis == t->n_dims) {
        visit(p, offset);
        return;
    }
    int64_t n = t->shape[axis];
    for (int64_t i = 0; i < n; i++) {
        if (p->is_summary && n > 2 * EDGE && i == EDGE) {
            i = n - EDGE;
        }
        elements_visit(p, axis + 1, offset + i * t->stride[axis], visit);
    }
}

static void range_visit(printer_t *p, int64_t offset)
{
    double value = element_get(p->t, offset);
    double magnitude = fabs(value);
    if (value != value || isinf(value)) {
        return;
    }
    p->is_whole = p->is_whole && magnitude == ceil(magnitude);
    if (value != 0) {
        p->min = !p->has_finite || magnitude < p->min ? magnitude : p->min;
        p->max = !p->has_finite || magnitude > p->max ? magnitude : p->max;
        p->has_finite = true;
    }
}

/* As in torch, zeros and non-finite numbers don't count. */
static void width_visit(printer_t *p, int64_t offset)
{
    char word[400];
    if (!p->is_integer) {
        double value = element_get(p->t, offset);
        if (value == 0 || value - value != 0) {
            return;
        }
    }
    int width = element_format(p, offset, word, sizeof(word));
    p->width = width > p->width ? width : p->width;
}

static void row_format(printer_t *p, int64_t offset, int indent)
{
    const gd_tensor_t *t = p->t;
    int axis = t->n_dims - 1;
    int64_t n = t->shape[axis];
    int per_line = (LINE_WIDTH - indent) / (p->width + 2);
    per_line = per_line > 1 ? per_line : 1;
    int column = 0;
    char word[400];
    strbuf_append_char(p->text, '[');
    for (int64_t i = 0; i < n; i++) {
        if (i > 0) {
            strbuf_append(p->text, column == per_line ? "," : ", ");
        }
        if (column == per_line) {
            strbuf_appendf(p->text, "\n%*s", indent + 1, "");
            column = 0;
        }
        column++;
        if (p->is_summary && n > 2 * EDGE && i == EDGE) {
            strbuf_append(p->text, " ...");
            i = n - EDGE - 1;
            continue;
        }
        (void)element_format(p, offset + i * t->stride[axis], word, sizeof(word));
        strbuf_appendf(p->text, "%*s", p->width, word);
    }
    strbuf_append_char(p->text, ']');
}

static void block_format(printer_t *p, int axis, int64_t offset, int indent)
{
    const gd_tensor_t *t = p->t;
    if (axis == t->n_dims - 1) {
        row_format(p, offset, indent);
        return;
    }
    int64_t n = t->shape[axis];
    strbuf_append_char(p->text, '[');
    for (int64_t i = 0; i < n; i++) {
        if (i > 0) {
            strbuf_append_char(p->text, ',');
            for (int line = 0; line < t->n_dims - 1 - axis; line++) {
                strbuf_append_char(p->text, '\n');
            }
            strbuf_appendf(p->text, "%*s", indent + 1, "");
        }
        if (p->is_summary && n > 2 * EDGE && i == EDGE) {
            strbuf_append(p->text, "...");
            i = n - EDGE - 1;
            continue;
        }
        block_format(p, axis + 1, offset + i * t->stride[axis], indent + 1);
    }
    strbuf_append_char(p->text, ']');
}

static void format_find(printer_t *p)
{
    const gd_tensor_t *t = p->t;
    p->is_integer = !gd_dtype_is_float(t->dtype);
    if (!p->is_integer) {
        p->is_whole = true;
        elements_visit(p, 0, t->offset, range_visit);
        p->is_scientific = p->has_finite && (p->max / p->min > 1000.0 || p->max > 1.0e8 || p->min < 1.0e-4);
        if (p->is_whole) {
            p->is_scientific = p->has_finite && (p->max / p->min > 1000.0 || p->max > 1.0e8);
        }
    }
    elements_visit(p, 0, t->offset, width_visit);
}

/* What follows the values: on their last line if it fits. *used: characters of that line, and two more as in torch. */
static void suffix_add(strbuf_t *text, size_t *used, const strbuf_t *suffix)
{
    if (*used + suffix->length + 2 > LINE_WIDTH) {
        strbuf_appendf(text, ",\n%*s%s", PREFIX, "", strbuf_text(suffix));
        *used = PREFIX + suffix->length;
    } else {
        strbuf_appendf(text, ", %s", strbuf_text(suffix));
        *used += suffix->length + 2;
    }
}

static void suffixes_format(const gd_tensor_t *t, strbuf_t *text, size_t begin)
{
    strbuf_t suffix = {0};
    const char *line = strbuf_text(text) + begin;
    const char *next = NULL;
    while ((next = strchr(line, '\n')) != NULL) {
        line = next + 1;
    }
    size_t used = strlen(line) + 2;
    if (t->numel == 0 && t->n_dims != 1) {
        strbuf_append(&suffix, "size=(");
        for (int i = 0; i < t->n_dims; i++) {
            strbuf_appendf(&suffix, i > 0 ? ", %lld" : "%lld", (long long)t->shape[i]);
        }
        strbuf_append_char(&suffix, ')');
        suffix_add(text, &used, &suffix);
        strbuf_clear(&suffix);
    }
    const bool is_shown = t->dtype == GD_DTYPE_I64 || t->dtype == GD_DTYPE_BOOL; /* by the elements themselves */
    if (t->dtype != GD_DTYPE_F32 && (!is_shown || t->numel == 0)) {
        strbuf_appendf(&suffix, "dtype=%s", gd_dtype_name(t->dtype));
        suffix_add(text, &used, &suffix);
        strbuf_clear(&suffix);
    }
    if (t->node != NULL || t->requires_grad) {
        if (t->node != NULL) {
            strbuf_appendf(&suffix, "grad_fn=<%s>", t->node->base.op->name);
        } else {
            strbuf_append(&suffix, "requires_grad=True");
        }
        suffix_add(text, &used, &suffix);
    }
    strbuf_release(&suffix);
}

void gd_tensor_format(const gd_tensor_t *t, strbuf_t *text)
{
    printer_t p = {.t = t, .text = text, .is_summary = t->numel > SUMMARY_ABOVE, .width = 1};
    const size_t begin = text->length;
    strbuf_append(text, "tensor(");
    if (t->numel == 0) {
        strbuf_append(text, "[]");
    } else {
        format_find(&p);
        if (t->n_dims == 0) {
            char word[400];
            (void)element_format(&p, t->offset, word, sizeof(word));
            strbuf_append(text, word);
        } else {
            block_format(&p, 0, t->offset, PREFIX);
        }
    }
    suffixes_format(t, text, begin);
    strbuf_append_char(text, ')');
}
