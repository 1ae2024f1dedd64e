/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cifar: the binary versions of CIFAR-10 and CIFAR-100.
 *
 * A file is a row of records: one label byte (CIFAR-100: two, the coarse and the fine label), then 3,072 bytes of
 * pixels: 32 x 32 of red, of green, of blue. (https://www.cs.toronto.edu/~kriz/cifar.html, "binary version")
 */
#include <string.h>

#include "base/mem.h"
#include "worker/data/paths.h"
#include "worker/data/source.h"

enum { SIDE = 32, N_CHANNELS = 3, PIXEL_BYTES = N_CHANNELS * SIDE * SIDE };

/* By Gradd__V1__Cifar__Labels. */
static const struct {
    int label_bytes, label_at, n_classes;
} layouts[] = {{1, 0, 10}, {2, 1, 100}, {2, 0, 20}};

typedef struct cifar_dataset {
    wrk_dataset_t base;
    uint8_t *records; /* [count, record_bytes] */
    int64_t record_bytes;
    int label_bytes, label_at;
    char *path;
} cifar_dataset_t;

static void cifar_close(wrk_dataset_t *dataset)
{
    cifar_dataset_t *cifar = (cifar_dataset_t *)dataset;
    mem_free(cifar->records);
    mem_free(cifar->path);
    wrk_dataset_release(dataset);
    mem_free(cifar);
}

static status_t cifar_decode(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, wrk_image_t *image,
                             int64_t *label_p)
{
    const cifar_dataset_t *cifar = (const cifar_dataset_t *)dataset;
    const uint8_t *record = cifar->records + index * cifar->record_bytes;
    *image =
        (wrk_image_t){wrk_scratch_get(scratch, WRK_BLOCK_IMAGE, PIXEL_BYTES * sizeof(float)), N_CHANNELS, SIDE, SIDE};
    if (image->data == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "an image of %d pixels", SIDE * SIDE);
    }
    for (int i = 0; i < PIXEL_BYTES; i++) {
        image->data[i] = (float)record[cifar->label_bytes + i] / 255.0F;
    }
    *label_p = record[cifar->label_at];
    return ST_OK;
}

static status_t cifar_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const cifar_dataset_t *cifar = (const cifar_dataset_t *)dataset;
    return ST_FAIL(ST_ERR_DATA, "%s: %lld classes; the model has %lld", cifar->path, (long long)dataset->n_classes,
                   (long long)n_classes);
}

static const wrk_dataset_ops_t cifar_ops = {
    .close = cifar_close,
    .decode = cifar_decode,
    .check_classes = cifar_check_classes,
};

/* Appends a file's records. */
static status_t file_add(cifar_dataset_t *cifar, const char *path)
{
    void *bytes = NULL;
    size_t capacity = 0;
    int64_t size_bytes = 0;
    int64_t record = cifar->record_bytes;
    status_t status = wrk_source_read(path, WRK_DATASET_MAX_BYTES, &bytes, &capacity, &size_bytes);
    if (status == ST_OK && (size_bytes == 0 || size_bytes % record != 0)) {
        status = ST_FAIL(ST_ERR_CORRUPT,
                         "%s: %lld bytes, not a whole number of records of %lld bytes: truncated at offset "
                         "%lld, or of another kind of labels",
                         path, (long long)size_bytes, (long long)record, (long long)(size_bytes / record * record));
    }
    for (int64_t i = 0; status == ST_OK && i < size_bytes / record; i++) {
        int label = ((const uint8_t *)bytes)[i * record + cifar->label_at];
        if (label >= cifar->base.n_classes) {
            status = ST_FAIL(ST_ERR_CORRUPT, "%s: offset %lld: label %d of %lld classes", path,
                             (long long)(i * record + cifar->label_at), label, (long long)cifar->base.n_classes);
        }
    }
    size_t have = (size_t)(cifar->base.count * record);
    uint8_t *grown = status == ST_OK ? mem_realloc(cifar->records, have + (size_t)size_bytes) : NULL;
    if (status == ST_OK && grown == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: %lld bytes", path, (long long)size_bytes);
    }
    if (status == ST_OK) {
        memcpy(grown + have, bytes, (size_t)size_bytes);
        cifar->records = grown;
        cifar->base.count += size_bytes / record;
    }
    mem_free(bytes);
    return status;
}

/* In a folder as it is published, the files of a split; a path to a file or a pattern stands for itself. */
static status_t paths_find(const Gradd__V1__Cifar *spec, wrk_paths_t *paths)
{
    static const char *const patterns[][2] = {{"data_batch_*.bin", "train.bin"}, {"test_batch.bin", "test.bin"}};
    bool is_test = spec->split == GRADD__V1__CIFAR__SPLIT__test;
    strbuf_t path = {0};
    if (!wrk_path_is_folder(spec->path)) {
        return wrk_paths_find(spec->path, paths);
    }
    status_t status = ST_ERR_NOT_FOUND;
    for (int i = 0; i < 2 && status == ST_ERR_NOT_FOUND; i++) {
        strbuf_clear(&path);
        strbuf_appendf(&path, "%s/%s", spec->path, patterns[is_test][i]);
        status = path.is_failed ? ST_FAIL(ST_ERR_NOMEM, "a path") : wrk_paths_find(strbuf_text(&path), paths);
    }
    strbuf_release(&path);
    return status != ST_ERR_NOT_FOUND ? status
                                      : ST_FAIL(status, "%s: neither %s nor %s in this folder", spec->path,
                                                patterns[is_test][0], patterns[is_test][1]);
}

status_t wrk_cifar_open(const Gradd__V1__Cifar *spec, wrk_dataset_t **dataset_p)
{
    wrk_image_t size = {NULL, N_CHANNELS, SIDE, SIDE};
    wrk_paths_t paths = {0};
    if (spec->path == NULL || (unsigned)spec->labels >= sizeof(layouts) / sizeof(layouts[0])) {
        return ST_FAIL(ST_ERR_INVAL, "cifar.path is missing, or cifar.labels unknown");
    }
    cifar_dataset_t *cifar = mem_zalloc(sizeof(*cifar));
    if (cifar == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    cifar->base.ops = &cifar_ops;
    cifar->base.n_classes = layouts[spec->labels].n_classes;
    cifar->label_bytes = layouts[spec->labels].label_bytes;
    cifar->label_at = layouts[spec->labels].label_at;
    cifar->record_bytes = cifar->label_bytes + PIXEL_BYTES;
    cifar->path = mem_strdup(spec->path);
    status_t status = cifar->path != NULL ? paths_find(spec, &paths) : ST_FAIL(ST_ERR_NOMEM, "dataset");
    for (int i = 0; i < paths.n_items && status == ST_OK; i++) {
        status = file_add(cifar, paths.item[i]);
    }
    wrk_paths_release(&paths);
    if (status == ST_OK) {
        status = wrk_dataset_augment(&cifar->base, spec->augment, spec->n_augment, &size);
    }
    if (status != ST_OK) {
        cifar_close(&cifar->base);
        return status;
    }
    *dataset_p = &cifar->base;
    return ST_OK;
}
