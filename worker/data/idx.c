/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idx: images and labels in the IDX format of MNIST, gzipped or plain.
 *
 * The file: bytes 0 0, element type (0x08: unsigned byte), number of dimensions; each dimension as a big-endian 32-bit
 * number; then the elements, last dimension fastest, and nothing behind them.
 * (http://yann.lecun.com/exdb/mnist/, "The IDX file format")
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/mem.h"
#include "worker/data/source.h"

enum { MAX_IDX_DIMS = 4, TYPE_U8 = 0x08, READ_PIECE = 1 << 30, GZIP_BUFFER = 1 << 17 };

/* deflate's best ratio: what a gzipped file of n bytes can at most expand to */
static const int64_t GZIP_MAX_RATIO = 1032;

static const int64_t MAX_LABEL = 255;

typedef struct idx_array {
    uint8_t *data; /* [n, shape[1] … ] */
    int64_t n;     /* kept: the file's, or the limit */
    int64_t n_file;
    int n_dims;
    int64_t shape[MAX_IDX_DIMS];
    int64_t sample_bytes;
    int64_t data_offset; /* in the unpacked file */
} idx_array_t;

typedef struct idx_dataset {
    wrk_dataset_t base;
    idx_array_t images, labels;
    float pixel[256]; /* normalised value of each byte */
    char *labels_path;
} idx_dataset_t;

/* An open file, unpacked on the way. */
typedef struct idx_file {
    const char *path;
    gzFile handle;
    int64_t size_bytes; /* packed */
    int64_t offset;     /* unpacked bytes read */
} idx_file_t;

static status_t file_open(const char *path, idx_file_t *file)
{
    int descriptor = -1;
    int64_t size_bytes = 0;
    status_t status = wrk_source_open(path, &descriptor, &size_bytes);
    if (status != ST_OK) {
        return status;
    }
    gzFile handle = gzdopen(descriptor, "rb");
    if (handle == NULL) {
        (void)close(descriptor);
        return ST_FAIL(ST_ERR_NOMEM, "%s: no memory to unpack it", path);
    }
    (void)gzbuffer(handle, GZIP_BUFFER);
    *file = (idx_file_t){.path = path, .handle = handle, .size_bytes = size_bytes};
    return ST_OK;
}

static status_t file_fail(const idx_file_t *file, const char *what, int64_t wanted, int64_t got)
{
    int code = Z_OK;
    const char *text = gzerror(file->handle, &code);
    if (code == Z_ERRNO) {
        return ST_FAIL(status_from_errno(errno), "%s: offset %lld: %s", file->path, (long long)(file->offset + got),
                       strerror(errno));
    }
    if (code == Z_DATA_ERROR) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: damaged gzip data at offset %lld of the unpacked file (%s)", file->path,
                       (long long)(file->offset + got), text);
    }
    if (code == Z_MEM_ERROR) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: no memory to unpack it", file->path);
    }
    return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated: %s at offset %lld: %lld bytes are wanted, %lld are there",
                   file->path, what, (long long)file->offset, (long long)wanted, (long long)got);
}

/* Reads exactly `wanted` bytes. */
static status_t file_read(idx_file_t *file, const char *what, void *buffer, int64_t wanted)
{
    int64_t got = 0;
    while (got < wanted) {
        unsigned piece = (unsigned)(wanted - got < READ_PIECE ? wanted - got : READ_PIECE);
        int n = gzread(file->handle, (char *)buffer + got, piece);
        if (n <= 0) {
            return file_fail(file, what, wanted, got);
        }
        got += n;
    }
    file->offset += wanted;
    return ST_OK;
}

/* Nothing may follow; also makes zlib check the checksum at the end. */
static status_t file_expect_end(const idx_file_t *file)
{
    char extra = 0;
    int n = gzread(file->handle, &extra, 1);
    if (n > 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: more bytes follow at offset %lld, where its header says that it ends",
                       file->path, (long long)file->offset);
    }
    int code = Z_OK;
    (void)gzerror(file->handle, &code);
    return n < 0 || code != Z_OK ? file_fail(file, "the gzip trailer", 8, 0) : ST_OK;
}

static status_t header_read(idx_file_t *file, int min_dims, int max_dims, idx_array_t *array)
{
    uint8_t magic[4];
    uint8_t sizes[MAX_IDX_DIMS * 4];
    status_t status = file_read(file, "the header", magic, 4);
    if (status != ST_OK) {
        return status;
    }
    if (magic[0] != 0 || magic[1] != 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: not an IDX file: it begins with %02x %02x instead of 00 00", file->path,
                       magic[0], magic[1]);
    }
    if (magic[2] != TYPE_U8) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: offset 2: element type 0x%02x; only 0x08, unsigned bytes, is read",
                       file->path, magic[2]);
    }
    array->n_dims = magic[3];
    if (array->n_dims < min_dims || array->n_dims > max_dims) {
        return ST_FAIL(ST_ERR_DATA, "%s: offset 3: %d dimensions; %s have %d%s", file->path, array->n_dims,
                       max_dims == 1 ? "labels" : "images", min_dims, min_dims < max_dims ? " or 4" : "");
    }
    status = file_read(file, "the header", sizes, array->n_dims * 4);
    if (status != ST_OK) {
        return status;
    }
    array->sample_bytes = 1;
    for (int d = 0; d < array->n_dims; d++) {
        const uint8_t *s = sizes + d * 4;
        array->shape[d] = (int64_t)s[0] << 24 | (int64_t)s[1] << 16 | (int64_t)s[2] << 8 | s[3];
        if (array->shape[d] == 0) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: offset %d: dimension %d is 0", file->path, 4 + d * 4, d);
        }
        if (d > 0 && array->sample_bytes > WRK_DATASET_MAX_BYTES / array->shape[d]) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: offset %d: a sample of more than %lld bytes", file->path, 4 + d * 4,
                           (long long)WRK_DATASET_MAX_BYTES);
        }
        array->sample_bytes *= d > 0 ? array->shape[d] : 1;
    }
    array->n_file = array->shape[0];
    array->data_offset = file->offset;
    return ST_OK;
}

/* A header's claim that no such file could keep is refused before memory is taken for it. */
static status_t claim_check(const idx_file_t *file, const idx_array_t *array)
{
    bool is_plain = gzdirect(file->handle) != 0;
    int64_t most = is_plain ? file->size_bytes - array->data_offset : file->size_bytes * GZIP_MAX_RATIO;
    if (array->n_file > most / array->sample_bytes) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated: its header says %lld samples of %lld bytes, the file has %lld%s",
                       file->path, (long long)array->n_file, (long long)array->sample_bytes,
                       (long long)file->size_bytes, is_plain ? " bytes in all" : " (gzipped)");
    }
    return ST_OK;
}

/* Reads a whole file, or its first `limit` samples (0: all). array->data is the caller's also after a failure. */
static status_t array_read(const char *path, int min_dims, int max_dims, int64_t limit, idx_array_t *array)
{
    idx_file_t file = {0};
    status_t status = file_open(path, &file);
    if (status != ST_OK) {
        return status;
    }
    status = header_read(&file, min_dims, max_dims, array);
    if (status == ST_OK) {
        status = claim_check(&file, array);
    }
    if (status != ST_OK) {
        goto close_file;
    }
    array->n = limit > 0 && limit < array->n_file ? limit : array->n_file;
    array->data = mem_alloc((size_t)(array->n * array->sample_bytes));
    if (array->data == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: %lld samples of %lld bytes", path, (long long)array->n,
                         (long long)array->sample_bytes);
        goto close_file;
    }
    status = file_read(&file, max_dims == 1 ? "the labels" : "the images", array->data, array->n * array->sample_bytes);
    if (status == ST_OK && array->n == array->n_file) {
        status = file_expect_end(&file);
    }

close_file:
    (void)gzclose_r(file.handle);
    return status;
}

static void idx_close(wrk_dataset_t *dataset)
{
    idx_dataset_t *idx = (idx_dataset_t *)dataset;
    mem_free(idx->images.data);
    mem_free(idx->labels.data);
    mem_free(idx->labels_path);
    wrk_dataset_release(dataset);
    mem_free(idx);
}

static status_t idx_read(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, void *input, void *target)
{
    (void)scratch;
    const idx_dataset_t *idx = (const idx_dataset_t *)dataset;
    const uint8_t *image = idx->images.data + index * idx->images.sample_bytes;
    float *pixels = input;
    for (int64_t i = 0; i < idx->images.sample_bytes; i++) {
        pixels[i] = idx->pixel[image[i]];
    }
    if (target != NULL) {
        *(int64_t *)target = idx->labels.data[index];
    }
    return ST_OK;
}

/* With augmentations: pixels 0 … 1, normalised by the last step. */
static status_t idx_decode(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, wrk_image_t *image,
                           int64_t *label_p)
{
    const idx_dataset_t *idx = (const idx_dataset_t *)dataset;
    const idx_array_t *images = &idx->images;
    const int64_t *size = images->shape + images->n_dims - 2;
    size_t n_bytes = (size_t)images->sample_bytes * sizeof(float);
    *image = (wrk_image_t){wrk_scratch_get(scratch, WRK_BLOCK_IMAGE, n_bytes),
                           images->n_dims == 3 ? 1 : images->shape[1], size[0], size[1]};
    if (image->data == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "an image of %zu bytes", n_bytes);
    }
    return idx_read(dataset, index, scratch, image->data, label_p);
}

static status_t idx_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const idx_dataset_t *idx = (const idx_dataset_t *)dataset;
    for (int64_t i = 0; i < idx->labels.n; i++) {
        if (idx->labels.data[i] >= n_classes) {
            return ST_FAIL(ST_ERR_DATA, "%s: sample %lld (offset %lld) has label %d; the model has classes 0 … %lld",
                           idx->labels_path, (long long)i, (long long)(idx->labels.data_offset + i),
                           idx->labels.data[i], (long long)(n_classes - 1));
        }
    }
    return ST_OK;
}

static const wrk_dataset_ops_t idx_ops = {.close = idx_close, .read = idx_read, .check_classes = idx_check_classes};
static const wrk_dataset_ops_t idx_image_ops = {
    .close = idx_close, .decode = idx_decode, .check_classes = idx_check_classes};

static status_t spec_check(const Gradd__V1__Idx *spec)
{
    if (spec->images == NULL || spec->labels == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "idx.%s is missing", spec->images == NULL ? "images" : "labels");
    }
    if (spec->n_normalize != 0 && spec->n_normalize != 2) {
        return ST_FAIL(ST_ERR_INVAL, "idx.normalize has %zu values; it is [mean, standard deviation]",
                       spec->n_normalize);
    }
    if (spec->n_normalize == 2 && !(spec->normalize[1] > 0.0)) {
        return ST_FAIL(ST_ERR_INVAL, "idx.normalize: standard deviation %g is not above 0", spec->normalize[1]);
    }
    if (spec->limit < 0) {
        return ST_FAIL(ST_ERR_INVAL, "idx.limit is %lld", (long long)spec->limit);
    }
    return ST_OK;
}

static void fields_init(idx_dataset_t *idx)
{
    const idx_array_t *images = &idx->images;
    int64_t shape[3] = {1, 0, 0};
    memcpy(shape + (images->n_dims == 3), images->shape + 1, (size_t)(images->n_dims - 1) * sizeof(int64_t));
    wrk_dataset_field_init(&idx->base.input, GD_DTYPE_F32, 3, shape);
    wrk_dataset_field_init(&idx->base.target, GD_DTYPE_I64, 0, NULL);
    idx->base.count = images->n;
    idx->base.n_classes = 1;
    for (int64_t i = 0; i < idx->labels.n && idx->base.n_classes <= MAX_LABEL; i++) {
        int64_t n = (int64_t)idx->labels.data[i] + 1;
        idx->base.n_classes = n > idx->base.n_classes ? n : idx->base.n_classes;
    }
}

/* In float, step by step, as torchvision's ToTensor and Normalize compute it. */
static void pixels_init(idx_dataset_t *idx, const Gradd__V1__Idx *spec)
{
    float mean = spec->n_normalize == 2 ? (float)spec->normalize[0] : 0.0f;
    float deviation = spec->n_normalize == 2 ? (float)spec->normalize[1] : 1.0f;
    for (int i = 0; i < 256; i++) {
        idx->pixel[i] = ((float)i / 255.0f - mean) / deviation;
    }
}

/* The job's list, with its `normalize` as the last step. */
static status_t augment_open(idx_dataset_t *idx, const Gradd__V1__Idx *spec)
{
    Gradd__V1__Augment__Normalize normalize = GRADD__V1__AUGMENT__NORMALIZE__INIT;
    Gradd__V1__Augment last = GRADD__V1__AUGMENT__INIT;
    const int64_t *shape = idx->base.input.shape;
    wrk_image_t image = {NULL, shape[0], shape[1], shape[2]};
    size_t n = spec->n_augment;
    Gradd__V1__Augment **list = mem_calloc(n + 1, sizeof(*list));
    if (list == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    memcpy(list, spec->augment, n * sizeof(*list));
    if (spec->n_normalize == 2) {
        normalize.n_mean = 1;
        normalize.mean = spec->normalize;
        normalize.n_std = 1;
        normalize.std = spec->normalize + 1;
        last.kind_case = GRADD__V1__AUGMENT__KIND_NORMALIZE;
        last.normalize = &normalize;
        list[n++] = &last;
    }
    idx->base.ops = &idx_image_ops;
    for (int i = 0; i < 256; i++) {
        idx->pixel[i] = (float)i / 255.0F;
    }
    status_t status = wrk_dataset_augment(&idx->base, list, n, &image);
    mem_free(list);
    return status;
}

status_t wrk_idx_open(const Gradd__V1__Idx *spec, wrk_dataset_t **dataset_p)
{
    status_t status = spec_check(spec);
    if (status != ST_OK) {
        return status;
    }
    idx_dataset_t *idx = mem_zalloc(sizeof(*idx));
    if (idx == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    idx->base.ops = &idx_ops;
    idx->labels_path = mem_strdup(spec->labels);
    status = idx->labels_path != NULL ? array_read(spec->images, 3, 4, spec->limit, &idx->images)
                                      : ST_FAIL(ST_ERR_NOMEM, "dataset");
    if (status == ST_OK) {
        status = array_read(spec->labels, 1, 1, spec->limit, &idx->labels);
    }
    if (status == ST_OK && idx->images.n_file != idx->labels.n_file) {
        status = ST_FAIL(ST_ERR_DATA, "%s has %lld images (offset 4) and %s has %lld labels (offset 4)", spec->images,
                         (long long)idx->images.n_file, spec->labels, (long long)idx->labels.n_file);
    }
    if (status != ST_OK) {
        idx_close(&idx->base);
        return status;
    }
    pixels_init(idx, spec);
    fields_init(idx);
    if (spec->n_augment > 0) {
        status = augment_open(idx, spec);
    }
    if (status != ST_OK) {
        idx_close(&idx->base);
        return status;
    }
    *dataset_p = &idx->base;
    return ST_OK;
}
