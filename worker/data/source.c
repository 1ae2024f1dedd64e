/* SPDX-License-Identifier: Apache-2.0 */
/* source: files, scratch memory and lists of names, as all kinds of datasets use them. */
#include "worker/data/source.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { READ_PIECE = 1 << 30, MAX_LISTED = 8, MAX_CLASSES = 1 << 20 };

/* ---- files ---- */

status_t wrk_source_open(const char *path, int *descriptor_p, int64_t *size_p)
{
    /* O_NONBLOCK: a FIFO would wait for its writer; for a regular file it means nothing */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    }
    struct stat info;
    status_t status = ST_OK;
    if (fstat(descriptor, &info) != 0) {
        status = ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = ST_FAIL(ST_ERR_INVAL, "%s: not a regular file", path);
    } else if (info.st_size > WRK_DATASET_MAX_BYTES) {
        status = ST_FAIL(ST_ERR_DATA, "%s: %lld bytes; at most %lld are read", path, (long long)info.st_size,
                         (long long)WRK_DATASET_MAX_BYTES);
    }
    if (status != ST_OK) {
        (void)close(descriptor);
        return status;
    }
    *descriptor_p = descriptor;
    *size_p = info.st_size;
    return ST_OK;
}

status_t wrk_source_fill(const char *path, int descriptor, void *bytes, int64_t size_bytes)
{
    int64_t got = 0;
    while (got < size_bytes) {
        int64_t piece = size_bytes - got < READ_PIECE ? size_bytes - got : READ_PIECE;
        ssize_t n = read(descriptor, (char *)bytes + got, (size_t)piece);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return ST_FAIL(status_from_errno(errno), "%s: offset %lld: %s", path, (long long)got, strerror(errno));
        }
        if (n == 0) {
            return ST_FAIL(ST_ERR_IO, "%s: ends at offset %lld of %lld: it shrank while it was read", path,
                           (long long)got, (long long)size_bytes);
        }
        got += n;
    }
    return ST_OK;
}

status_t wrk_source_read(const char *path, int64_t max_bytes, void **bytes_p, size_t *capacity_p, int64_t *size_p)
{
    int descriptor = -1;
    int64_t size_bytes = 0;
    status_t status = wrk_source_open(path, &descriptor, &size_bytes);
    if (status != ST_OK) {
        return status;
    }
    if (size_bytes > max_bytes) {
        status = ST_FAIL(ST_ERR_DATA, "%s: %lld bytes; at most %lld are read", path, (long long)size_bytes,
                         (long long)max_bytes);
        goto close_file;
    }
    if (*bytes_p == NULL || *capacity_p < (size_t)size_bytes + 1) {
        /* one that has to grow grows by half more: the next files differ a little */
        const size_t size = (size_t)size_bytes + 1 + (*bytes_p != NULL ? (size_t)size_bytes / 2 : 0);
        mem_free(*bytes_p);
        *capacity_p = 0;
        *bytes_p = mem_alloc(size);
        if (*bytes_p == NULL) {
            status = ST_FAIL(ST_ERR_NOMEM, "%s: %lld bytes", path, (long long)size_bytes);
            goto close_file;
        }
        *capacity_p = size;
    }
    status = wrk_source_fill(path, descriptor, *bytes_p, size_bytes);
    ((char *)*bytes_p)[size_bytes] = '\0';
    *size_p = size_bytes;

close_file:
    (void)close(descriptor);
    return status;
}

status_t wrk_source_map(const char *path, const uint8_t **data_p, int64_t *size_p)
{
    int descriptor = -1;
    int64_t size_bytes = 0;
    status_t status = wrk_source_open(path, &descriptor, &size_bytes);
    if (status != ST_OK) {
        return status;
    }
    if (size_bytes == 0) {
        (void)close(descriptor);
        return ST_FAIL(ST_ERR_DATA, "%s: an empty file", path);
    }
    void *data = mmap(NULL, (size_t)size_bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    int reason = errno;
    (void)close(descriptor);
    if (data == MAP_FAILED) {
        return ST_FAIL(status_from_errno(reason), "%s: %s", path, strerror(reason));
    }
    *data_p = data;
    *size_p = size_bytes;
    return ST_OK;
}

/* ---- scratch ---- */

void *wrk_scratch_reserve(wrk_scratch_t *scratch, int block, size_t size_bytes)
{
    if (scratch->block[block] == NULL || scratch->size_bytes[block] < size_bytes) {
        mem_free(scratch->block[block]);
        scratch->block[block] = mem_alloc_aligned(64, size_bytes);
        scratch->size_bytes[block] = scratch->block[block] != NULL ? size_bytes : 0;
    }
    return scratch->block[block];
}

void *wrk_scratch_get(wrk_scratch_t *scratch, int block, size_t size_bytes)
{
    /* one that has to grow grows by half more: the next samples differ a little */
    const bool grows = scratch->block[block] != NULL && scratch->size_bytes[block] < size_bytes;
    return wrk_scratch_reserve(scratch, block, size_bytes + (grows ? size_bytes / 2 : 0));
}

void *wrk_scratch_tool(wrk_scratch_t *scratch, int tool, const wrk_tool_ops_t *ops)
{
    if (scratch->tool[tool] == NULL) {
        scratch->tool[tool] = ops->open();
        scratch->tool_ops[tool] = ops;
    }
    return scratch->tool[tool];
}

void wrk_scratch_release(wrk_scratch_t *scratch)
{
    for (int i = 0; i < WRK_SCRATCH_COUNT; i++) {
        mem_free(scratch->block[i]);
    }
    for (int i = 0; i < WRK_TOOL_COUNT; i++) {
        if (scratch->tool[i] != NULL) {
            scratch->tool_ops[i]->close(scratch->tool[i]);
        }
    }
    *scratch = (wrk_scratch_t){0};
}

/* ---- names ---- */

status_t wrk_names_add(wrk_names_t *names, const char *name)
{
    if (names->n == names->n_allocated) {
        int64_t n = names->n > 0 ? names->n * 2 : 16;
        char **grown = mem_realloc(names->item, (size_t)n * sizeof(*grown));
        if (grown == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%lld names", (long long)n);
        }
        names->item = grown;
        names->n_allocated = n;
    }
    char *copy = mem_strdup(name);
    if (copy == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a name");
    }
    names->item[names->n++] = copy;
    return ST_OK;
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void wrk_names_sort(wrk_names_t *names)
{
    int64_t n = 0;
    if (names->n > 1) {
        qsort(names->item, (size_t)names->n, sizeof(*names->item), name_compare);
    }
    for (int64_t i = 0; i < names->n; i++) {
        if (n > 0 && strcmp(names->item[i], names->item[n - 1]) == 0) {
            mem_free(names->item[i]);
        } else {
            names->item[n++] = names->item[i];
        }
    }
    names->n = n;
}

int64_t wrk_names_find(const wrk_names_t *names, const char *name)
{
    int64_t low = 0;
    int64_t high = names->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (strcmp(names->item[middle], name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < names->n && strcmp(names->item[low], name) == 0 ? low : -1;
}

status_t wrk_names_copy(const wrk_names_t *names, wrk_names_t *copy)
{
    status_t status = ST_OK;
    for (int64_t i = 0; i < names->n && status == ST_OK; i++) {
        status = wrk_names_add(copy, names->item[i]);
    }
    return status;
}

void wrk_names_release(wrk_names_t *names)
{
    for (int64_t i = 0; i < names->n; i++) {
        mem_free(names->item[i]);
    }
    mem_free(names->item);
    *names = (wrk_names_t){0};
}

void wrk_names_format(const wrk_names_t *names, strbuf_t *text)
{
    for (int64_t i = 0; i < names->n && i < MAX_LISTED; i++) {
        strbuf_appendf(text, "%s\"%.60s\"", i > 0 ? ", " : "", names->item[i]);
    }
    if (names->n > MAX_LISTED) {
        strbuf_appendf(text, " and %lld more", (long long)(names->n - MAX_LISTED));
    }
}

/* ---- classes ---- */

/* A class that is its own number, or -1. */
static int64_t number_of(const char *name)
{
    char *end = NULL;
    long number = strtol(name, &end, 10);
    return isdigit((unsigned char)name[0]) && *end == '\0' && number < MAX_CLASSES ? number : -1;
}

/* Whether a class is the number of the dataset's ignored label. */
static bool is_ignored(const wrk_dataset_t *dataset, const char *name)
{
    char *end = NULL;
    const long number = strtol(name, &end, 10);
    const bool is_number = isdigit((unsigned char)name[0]) || (name[0] == '-' && isdigit((unsigned char)name[1]));
    return is_number && *end == '\0' && number >= INT32_MIN && number <= INT32_MAX &&
           wrk_dataset_ignores(dataset, number);
}

/* The names of all rows' classes, or those of `like`. */
static status_t names_take(wrk_dataset_t *dataset, const wrk_names_t *rows, const wrk_dataset_t *like)
{
    status_t status = ST_OK;
    if (like != NULL) {
        status = wrk_names_copy(&like->names, &dataset->names);
    }
    for (int64_t i = 0; like == NULL && i < rows->n && status == ST_OK; i++) {
        status = is_ignored(dataset, rows->item[i]) ? ST_OK : wrk_names_add(&dataset->names, rows->item[i]);
    }
    wrk_names_sort(&dataset->names);
    return status;
}

status_t wrk_classes_number(wrk_dataset_t *dataset, const wrk_names_t *rows, const wrk_dataset_t *like,
                            int32_t **labels_p, int64_t *bad_row_p)
{
    bool are_numbers = like != NULL ? like->names.n == 0 : true;
    status_t status = ST_OK;
    *bad_row_p = -1;
    for (int64_t i = 0; like == NULL && i < rows->n && are_numbers; i++) {
        are_numbers = number_of(rows->item[i]) >= 0 || is_ignored(dataset, rows->item[i]);
    }
    int32_t *labels = mem_calloc((size_t)rows->n + 1, sizeof(*labels));
    *labels_p = labels;
    if (labels == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld labels", (long long)rows->n);
    }
    if (!are_numbers) {
        status = names_take(dataset, rows, like);
    }
    dataset->n_classes = dataset->names.n;
    for (int64_t i = 0; i < rows->n && status == ST_OK; i++) {
        const char *name = rows->item[i];
        if (is_ignored(dataset, name)) {
            labels[i] = (int32_t)dataset->ignored;
            continue;
        }
        int64_t label = are_numbers ? number_of(name) : wrk_names_find(&dataset->names, name);
        if (label < 0) {
            *bad_row_p = i;
            return ST_FAIL(ST_ERR_DATA, "class \"%.60s\" does not occur in the training data", name);
        }
        labels[i] = (int32_t)label;
        if (are_numbers && label >= dataset->n_classes) {
            dataset->n_classes = label + 1;
        }
    }
    if (status == ST_OK && dataset->n_classes == 0) {
        *bad_row_p = 0;
        return ST_FAIL(ST_ERR_DATA, "class %lld and all others are the loss's ignore_index: nothing is left",
                       (long long)dataset->ignored);
    }
    return status == ST_OK && dataset->names.n > MAX_CLASSES
               ? ST_FAIL(ST_ERR_DATA, "%lld classes; at most %d", (long long)dataset->names.n, (int)MAX_CLASSES)
               : status;
}
