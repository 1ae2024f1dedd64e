/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source: what a kind of dataset implements, and what the kinds share: files, lists of names, scratch memory. Internal
 * to worker/data/.
 *
 * dataset.c checks indices and hands a read to its kind sample by sample. A kind has either `read`, which fills a
 * sample, or `decode`, which makes an image (or sound, an image of height 1) of any size: dataset.c then
 * applies the dataset's augmentations and stores the result, which must have the shape of the input field.
 */
#ifndef GRADD_WORKER_DATA_SOURCE_H
#define GRADD_WORKER_DATA_SOURCE_H

#include "base/strbuf.h"
#include "worker/data/augment.h"
#include "worker/data/dataset.h"

typedef struct wrk_dataset_ops {
    void (*close)(wrk_dataset_t *dataset);
    /* The index is in range; target may be NULL. Any number of threads may be in it, each with a scratch of its own. */
    status_t (*read)(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, void *input, void *target);
    /* The same for images: image->data lies in the scratch's block WRK_BLOCK_IMAGE. */
    status_t (*decode)(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, wrk_image_t *image,
                       int64_t *label_p);
    /* The file of a sample, for errors of augmentations; NULL: its number alone is named. */
    void (*locate)(const wrk_dataset_t *dataset, int64_t index, strbuf_t *place);
    /* Always fails: n_classes is more than the model has. */
    status_t (*check_classes)(const wrk_dataset_t *dataset, int64_t n_classes);
    /* Tokens that stand for text; both or none. See wrk_dataset_encode, wrk_dataset_decode. */
    status_t (*encode_text)(const wrk_dataset_t *dataset, const char *text, size_t length, int64_t **tokens_p,
                            int64_t *n_tokens_p);
    void (*decode_text)(const wrk_dataset_t *dataset, const int64_t *tokens, int64_t n, strbuf_t *text);
} wrk_dataset_ops_t;

/* Embedded: {0}, wrk_names_release. Ascending order of bytes once sorted. */
typedef struct wrk_names {
    char **item;
    int64_t n, n_allocated;
} wrk_names_t;

/* First member of each kind's own struct. */
struct wrk_dataset {
    const wrk_dataset_ops_t *ops;
    int64_t count;
    int64_t n_classes;          /* 0: targets are values */
    int64_t n_tokens;           /* of a stream, whose samples are windows; else 0 */
    wrk_augment_t *augment;     /* NULL: nothing is done with its images */
    wrk_names_t names;          /* of classes; none: they are numbers */
    const wrk_answer_t *answer; /* in the kind's own struct; NULL: see wrk_dataset_answer */
    bool has_ignored;           /* a label that is no class: see wrk_dataset_options_t */
    int64_t ignored;
    wrk_dataset_field_t input, target;
};

status_t wrk_idx_open(const Gradd__V1__Idx *spec, wrk_dataset_t **dataset_p);
status_t wrk_text_open(const Gradd__V1__Text *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p);
status_t wrk_tokens_open(const Gradd__V1__Tokens *spec, const wrk_dataset_options_t *options,
                         wrk_dataset_t **dataset_p);
status_t wrk_cifar_open(const Gradd__V1__Cifar *spec, wrk_dataset_t **dataset_p);
status_t wrk_image_folder_open(const Gradd__V1__ImageFolder *spec, const wrk_dataset_options_t *options,
                               wrk_dataset_t **dataset_p);
status_t wrk_npy_open(const Gradd__V1__Npy *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p);
status_t wrk_wav_open(const Gradd__V1__Wav *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p);
status_t wrk_sequences_open(const Gradd__V1__Sequences *spec, const wrk_dataset_options_t *options,
                            wrk_dataset_t **dataset_p);
status_t wrk_csv_open(const Gradd__V1__Csv *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p);

/* Sets numel and size_bytes from dtype and shape. */
void wrk_dataset_field_init(wrk_dataset_field_t *field, gd_dtype_t dtype, int n_dims, const int64_t *shape);
/*
 * For kinds that decode images: takes the list of augmentations and sets the input field and, by n_classes, the target
 * field. *image: the channels and size of the images (0 x 0: they differ), then what the list makes of them; is that
 * 0 x 0 too, the fields aren't set. ST_ERR_INVAL names what doesn't fit.
 */
status_t wrk_dataset_augment(wrk_dataset_t *dataset, Gradd__V1__Augment *const *list, size_t n, wrk_image_t *image);
/* Takes the label that is no class. */
void wrk_dataset_set_ignored(wrk_dataset_t *dataset, const wrk_dataset_options_t *options);
bool wrk_dataset_ignores(const wrk_dataset_t *dataset, int64_t label);
/* What every kind's close does with the common members. */
void wrk_dataset_release(wrk_dataset_t *dataset);

/* ---- source.c ---- */

/* Opens a regular file for reading: its descriptor and size. */
status_t wrk_source_open(const char *path, int *descriptor_p, int64_t *size_p);
/* Reads the descriptor's next bytes[size_bytes], which the path is named for in errors. */
status_t wrk_source_fill(const char *path, int descriptor, void *bytes, int64_t size_bytes);
/* Reads a whole file of at most max_bytes into memory that is already there or grows. *bytes_p: the caller's mem_free
 * also after a failure; *capacity_p bytes of it are allocated, and one NUL follows the file's. */
status_t wrk_source_read(const char *path, int64_t max_bytes, void **bytes_p, size_t *capacity_p, int64_t *size_p);
/* Maps a file that isn't empty. *data_p: munmap. */
status_t wrk_source_map(const char *path, const uint8_t **data_p, int64_t *size_p);

/* At least so many bytes of a block; their old content is lost when it grows. NULL when memory is out. */
void *wrk_scratch_get(wrk_scratch_t *scratch, int block, size_t size_bytes);
/* The same; a block that grows gets no spare room: for sizes that come from another block, or another thread. */
void *wrk_scratch_reserve(wrk_scratch_t *scratch, int block, size_t size_bytes);
/* A tool, opened when it is first taken. NULL when memory is out. */
void *wrk_scratch_tool(wrk_scratch_t *scratch, int tool, const wrk_tool_ops_t *ops);

/* Adds a copy. ST_ERR_NOMEM. */
status_t wrk_names_add(wrk_names_t *names, const char *name);
/* Sorts and drops duplicates. */
void wrk_names_sort(wrk_names_t *names);
/* Place of a name in a sorted list; -1: not in it. */
int64_t wrk_names_find(const wrk_names_t *names, const char *name);
status_t wrk_names_copy(const wrk_names_t *names, wrk_names_t *copy);
void wrk_names_release(wrk_names_t *names);
/*
 * Labels for the classes of all rows, *labels_p[rows.n] (mem_free, on failure too), into dataset->names and n_classes:
 * whole numbers from 0 stand for themselves, other names are numbered in ascending order, or as `like` numbers them
 * (NULL: own); the dataset's ignored label stays itself. *bad_row_p: the row that an error is about, -1: none.
 */
status_t wrk_classes_number(wrk_dataset_t *dataset, const wrk_names_t *rows, const wrk_dataset_t *like,
                            int32_t **labels_p, int64_t *bad_row_p);
/* "a", "b" and 3 more. */
void wrk_names_format(const wrk_names_t *names, strbuf_t *text);

#endif
