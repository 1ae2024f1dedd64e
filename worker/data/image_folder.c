/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_folder: a folder for each class, with JPEG and PNG files in it. Classes are numbered by their folders' names in
 * ascending order of bytes (a validation set: as the training set's), the images follow folder by folder in the order
 * of their names. A file is opened and decoded when its sample is read, by the thread that reads it.
 */
#include "base/mem.h"
#include "worker/data/files_by_class.h"
#include "worker/data/image.h"

typedef struct folder_dataset {
    wrk_dataset_t base;
    wrk_class_files_t files;
    int channels;
    bool turns;
} folder_dataset_t;

static void folder_close(wrk_dataset_t *dataset)
{
    folder_dataset_t *folder = (folder_dataset_t *)dataset;
    wrk_class_files_release(&folder->files);
    wrk_dataset_release(dataset);
    mem_free(folder);
}

static status_t folder_decode(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, wrk_image_t *image,
                              int64_t *label_p)
{
    const folder_dataset_t *folder = (const folder_dataset_t *)dataset;
    int64_t size = 0;
    const char *path = folder->files.path[index];
    status_t status = wrk_source_read(path, WRK_IMAGE_MAX_BYTES, &scratch->block[WRK_BLOCK_FILE],
                                      &scratch->size_bytes[WRK_BLOCK_FILE], &size);
    if (status != ST_OK) {
        return status;
    }
    *label_p = folder->files.label[index];
    return wrk_image_decode(path, scratch->block[WRK_BLOCK_FILE], size, folder->channels, folder->turns, scratch,
                            image);
}

static void folder_locate(const wrk_dataset_t *dataset, int64_t index, strbuf_t *place)
{
    strbuf_append(place, ((const folder_dataset_t *)dataset)->files.path[index]);
}

static status_t folder_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const folder_dataset_t *folder = (const folder_dataset_t *)dataset;
    return ST_FAIL(ST_ERR_DATA, "%s: %lld class folders; the model has %lld classes", folder->files.root,
                   (long long)dataset->n_classes, (long long)n_classes);
}

static const wrk_dataset_ops_t folder_ops = {
    .close = folder_close,
    .decode = folder_decode,
    .locate = folder_locate,
    .check_classes = folder_check_classes,
};

/* Where the augmentations don't fix the size, that of the first image is everyone's. */
static status_t size_find(folder_dataset_t *folder, const Gradd__V1__ImageFolder *spec)
{
    wrk_image_t size = {NULL, folder->channels, 0, 0};
    status_t status = wrk_dataset_augment(&folder->base, spec->augment, spec->n_augment, &size);
    if (status != ST_OK || size.height > 0) {
        return status;
    }
    wrk_scratch_t scratch = {0};
    int64_t label = 0;
    status = folder_decode(&folder->base, 0, &scratch, &size, &label);
    wrk_scratch_release(&scratch);
    if (status == ST_OK) {
        wrk_augment_close(folder->base.augment);
        folder->base.augment = NULL;
        status = wrk_dataset_augment(&folder->base, spec->augment, spec->n_augment, &size);
    }
    return status;
}

status_t wrk_image_folder_open(const Gradd__V1__ImageFolder *spec, const wrk_dataset_options_t *options,
                               wrk_dataset_t **dataset_p)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png"};
    wrk_name_filter_t filter = {endings, 3, NULL, 0, "images (.jpg, .jpeg, .png)"};
    if (spec->path == NULL || (spec->channels != 1 && spec->channels != 3)) {
        return ST_FAIL(ST_ERR_INVAL, "image_folder.path is missing, or channels %d are not 1 or 3", spec->channels);
    }
    folder_dataset_t *folder = mem_zalloc(sizeof(*folder));
    if (folder == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    folder->base.ops = &folder_ops;
    folder->channels = spec->channels;
    folder->turns = spec->orientation;
    status_t status = wrk_class_files_find(spec->path, &filter, &folder->files);
    if (status == ST_OK) {
        status = wrk_class_files_number(&folder->files, options->like, &folder->base);
    }
    if (status == ST_OK) {
        status = size_find(folder, spec);
    }
    if (status != ST_OK) {
        folder_close(&folder->base);
        return status;
    }
    *dataset_p = &folder->base;
    return ST_OK;
}
