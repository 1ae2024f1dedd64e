/* SPDX-License-Identifier: Apache-2.0 */
/* Images of every kind against Pillow, class folders, damaged files; augmentations. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "gradd/safetensors.h"
#include "tests/worker/dataset_specs.h"

enum { MAX_FILE = 8192, MAX_VALUES = 3 * 64 * 64, N_RESIZED = 6 };

static wrk_dataset_t *dataset;
static float x[MAX_VALUES];
static float y[MAX_VALUES];

static void folder_make(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), name);
    assert_int_equal(mkdir(path, 0700), 0);
}

/* Reads one of the golden images. */
static size_t golden_read(const char *name, uint8_t bytes[MAX_FILE])
{
    char path[64];
    (void)snprintf(path, sizeof(path), "images/%s", name);
    FILE *file = fopen(fixture_golden(path), "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, MAX_FILE, file);
    assert_int_equal(fclose(file), 0);
    return size;
}

/* One class folder with one golden image. */
static void image_put(const char *name, const char *as)
{
    uint8_t bytes[MAX_FILE];
    size_t size = golden_read(name, bytes);
    (void)file_write(as, bytes, size);
}

static void expect_near(const gd_safetensors_entry_t *wanted, const float *values, float tolerance)
{
    int64_t n = wanted->shape[0] * wanted->shape[1] * wanted->shape[2];
    for (int64_t i = 0; i < n; i++) {
        float value = wanted->dtype == GD_DTYPE_U8 ? (float)((const uint8_t *)wanted->data)[i] / 255.0F
                                                   : ((const float *)wanted->data)[i];
        if (!(fabsf(value - values[i]) <= tolerance)) {
            fail_msg("%s: element %lld is %g, not %g", wanted->name, (long long)i, (double)values[i], (double)value);
        }
    }
}

static void every_kind_of_file_gives_pillows_pixels(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    int64_t zero = 0;
    folder_make("f");
    folder_make("f/class");
    assert_ok(gd_safetensors_open(fixture_golden("images.safetensors"), &golden));
    int n_files = 0;
    for (int i = 0; i < gd_safetensors_count(golden); i++) {
        const gd_safetensors_entry_t *entry = gd_safetensors_at(golden, i);
        if (entry->dtype != GD_DTYPE_U8) {
            continue;
        }
        image_put(entry->name, "f/class/image.png"); /* told apart by their bytes, not by their names */
        assert_ok(dataset_open("image_folder: {path: f}", NULL, &dataset));
        const wrk_dataset_field_t *input = wrk_dataset_input(dataset);
        for (int d = 0; d < 3; d++) {
            assert_int_equal(input->shape[d], entry->shape[d]);
        }
        assert_ok(wrk_dataset_read(dataset, &zero, 1, x, NULL));
        expect_near(entry, x, strstr(entry->name, ".png") != NULL ? 1e-6F : 4.0F / 255);
        wrk_dataset_close(dataset);
        n_files++;
    }
    assert_int_equal(n_files, 19);
    gd_safetensors_close(golden);
}

static void a_grey_dataset_takes_colours(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    int64_t zero = 0;
    folder_make("f");
    folder_make("f/class");
    image_put("photo.png", "f/class/image.png");
    assert_ok(gd_safetensors_open(fixture_golden("images.safetensors"), &golden));
    assert_ok(dataset_open("image_folder: {path: f, channels: 1}", NULL, &dataset));
    assert_int_equal(wrk_dataset_input(dataset)->shape[0], 1);
    assert_ok(wrk_dataset_read(dataset, &zero, 1, x, NULL));
    gd_safetensors_entry_t grey = *gd_safetensors_find(golden, "grey.png");
    grey.shape[0] = 1;
    expect_near(&grey, x, 1e-6F);
    wrk_dataset_close(dataset);
    gd_safetensors_close(golden);
}

static void resizing_is_pillows(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    int64_t zero = 0;
    folder_make("f");
    folder_make("f/class");
    image_put("photo.png", "f/class/image.png");
    assert_ok(gd_safetensors_open(fixture_golden("images.safetensors"), &golden));
    for (int i = 0; i < N_RESIZED; i++) {
        char name[32];
        char yaml[128];
        (void)snprintf(name, sizeof(name), "resize_%d", i);
        const gd_safetensors_entry_t *entry = gd_safetensors_find(golden, name);
        (void)snprintf(yaml, sizeof(yaml), "image_folder: {path: f, augment: [{resize: {size: [%d, %d]}}]}",
                       (int)entry->shape[1], (int)entry->shape[2]);
        assert_ok(dataset_open(yaml, NULL, &dataset));
        assert_ok(wrk_dataset_read(dataset, &zero, 1, x, NULL));
        expect_near(entry, x, 1.01F / 255); /* Pillow rounds to bytes after each direction */
        wrk_dataset_close(dataset);
    }
    assert_ok(dataset_open("image_folder: {path: f, augment: [{resize: {size: 12}}, {center_crop: {size: 10}}]}", NULL,
                           &dataset));
    assert_int_equal(wrk_dataset_input(dataset)->shape[1], 10);
    assert_int_equal(wrk_dataset_input(dataset)->shape[2], 10);
    wrk_dataset_close(dataset);
    gd_safetensors_close(golden);
}

static void classes_are_the_folders_in_name_order(void **state)
{
    (void)state;
    wrk_dataset_t *validation = NULL;
    int64_t labels[4];
    folder_make("t");
    folder_make("t/cat");
    folder_make("t/bird");
    folder_make("v");
    folder_make("v/cat");
    folder_make("w");
    folder_make("w/dog");
    folder_make("e");
    folder_make("e/none");
    image_put("photo.png", "t/cat/2.png");
    image_put("photo.jpg", "t/cat/1.JPG");
    image_put("photo.png", "t/bird/x.jpeg");
    (void)file_write_text("t/bird/notes.txt", "not an image");
    image_put("photo.png", "v/cat/1.png");
    image_put("photo.png", "w/dog/1.png");
    assert_ok(dataset_open("image_folder: {path: t}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 3);
    assert_int_equal(wrk_dataset_n_classes(dataset), 2);
    static float images[3][3 * 24 * 31];
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0, 1, 2}, 3, images, labels));
    assert_int_equal(labels[0], 0);
    assert_int_equal(labels[1], 1);
    assert_int_equal(labels[2], 1);
    assert_ok(dataset_open("image_folder: {path: v}", dataset, &validation));
    assert_int_equal(wrk_dataset_n_classes(validation), 2);
    assert_ok(wrk_dataset_read(validation, (int64_t[]){0}, 1, images, labels));
    assert_int_equal(labels[0], 1);
    wrk_dataset_close(validation);
    assert_fails(dataset_open("image_folder: {path: w}", dataset, &validation), ST_ERR_DATA,
                 "class \"dog\" is not in the training data, which has \"bird\", \"cat\"");
    wrk_dataset_close(dataset);
    dataset_refused("image_folder: {path: e}", ST_ERR_DATA, "e/none: a class folder without images");
    dataset_refused("image_folder: {path: t/cat}", ST_ERR_NOT_FOUND, "no class folders");
}

static void images_of_several_sizes_have_to_be_cropped(void **state)
{
    (void)state;
    int64_t one = 1;
    folder_make("f");
    folder_make("f/class");
    image_put("photo.png", "f/class/1.png");
    image_put("turn-6.jpg", "f/class/2.jpg");
    assert_ok(dataset_open("image_folder: {path: f}", NULL, &dataset));
    assert_fails(wrk_dataset_read(dataset, &one, 1, x, NULL), ST_ERR_DATA,
                 "2.jpg: an image of 3 x 31 x 24, where the others are 3 x 24 x 31");
    wrk_dataset_close(dataset);
    assert_ok(dataset_open("image_folder: {path: f, augment: [{random_crop: {size: [26, 20]}}]}", NULL, &dataset));
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){0}, 1, x, NULL), ST_ERR_DATA,
                 "1.png: an image of 24 x 31 pixels is too small for a crop of 26 x 20");
    assert_ok(wrk_dataset_read(dataset, &one, 1, x, NULL));
    wrk_dataset_close(dataset);
}

/* Every way of cutting or breaking a file is an error, or at worst wrong pixels. */
static void damaged_files_are_errors(void **state)
{
    (void)state;
    static const char *const names[] = {"photo.png", "palette.png", "photo.jpg", "progressive.jpg", "cmyk.jpg"};
    uint8_t bytes[MAX_FILE];
    int64_t zero = 0;
    folder_make("f");
    folder_make("f/class");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t size = golden_read(names[i], bytes);
        image_put(names[i], "f/class/image.png");
        assert_ok(dataset_open("image_folder: {path: f}", NULL, &dataset));
        for (size_t keep = 0; keep < size - 2; keep += 7) {
            (void)file_write("f/class/image.png", bytes, keep);
            assert_fails(wrk_dataset_read(dataset, &zero, 1, x, NULL), ST_ERR_CORRUPT, "f/class/image.png");
        }
        for (size_t at = 0; at < size; at += 3) {
            bytes[at] ^= 0x55;
            (void)file_write("f/class/image.png", bytes, size);
            status_t status = wrk_dataset_read(dataset, &zero, 1, x, NULL);
            assert_true(status == ST_OK || status == ST_ERR_CORRUPT || status == ST_ERR_DATA);
            bytes[at] ^= 0x55;
        }
        wrk_dataset_close(dataset);
    }
    (void)file_write_text("f/class/image.png", "GIF89a");
    dataset_refused("image_folder: {path: f}", ST_ERR_CORRUPT, "neither JPEG nor PNG: 6 bytes that begin with 47 49");
    (void)file_write_text("f/class/image.png", "");
    dataset_refused("image_folder: {path: f}", ST_ERR_CORRUPT, "image.png: an empty file");
}

/* A PNG whose header claims 30,000 x 30,000 pixels. */
static void an_image_that_is_too_large_is_refused_before_memory_is_taken(void **state)
{
    (void)state;
    static uint8_t png[] = {0x89, 'P', 'N',  'G',  '\r', '\n', 0x1A, '\n', 0,   0, 0, 13, 'I', 'H',  'D',  'R',
                            0,    0,   0x75, 0x30, 0,    0,    0x75, 0x30, 8,   2, 0, 0,  0,   0xE1, 0x46, 0x42,
                            0x3D, 0,   0,    0,    1,    'I',  'D',  'A',  'T', 0, 0, 0,  0,   0};
    folder_make("f");
    folder_make("f/class");
    (void)file_write("f/class/image.png", png, sizeof(png));
    dataset_refused("image_folder: {path: f}", ST_ERR_DATA, "image.png: an image of 30000 x 30000 pixels; at most");
    png[16] = 0x7F; /* more than libpng takes */
    (void)file_write("f/class/image.png", png, sizeof(png));
    dataset_refused("image_folder: {path: f}", ST_ERR_DATA, "an image of 30000 x 2130736432 pixels; at most 32768 a");
}

/* ---- augmentations ---- */

enum { SIDE = 4, N_IMAGES = 8 };

/* Images of 4 x 4: image i has the values 16 i + place, label i. */
static void idx_make(void)
{
    uint8_t images[16 + N_IMAGES * SIDE * SIDE] = {0, 0, 8, 3, 0, 0, 0, N_IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
    uint8_t labels[8 + N_IMAGES] = {0, 0, 8, 1, 0, 0, 0, N_IMAGES};
    for (int i = 0; i < N_IMAGES * SIDE * SIDE; i++) {
        images[16 + i] = (uint8_t)i;
    }
    for (int i = 0; i < N_IMAGES; i++) {
        labels[8 + i] = (uint8_t)i;
    }
    (void)file_write("images", images, sizeof(images));
    (void)file_write("labels", labels, sizeof(labels));
}

static void idx_open(const char *augment)
{
    char yaml[512];
    (void)snprintf(yaml, sizeof(yaml),
                   "idx: {images: images, labels: labels, normalize: [0, 0.00392156862745098], augment: [%s]}",
                   augment);
    assert_ok(dataset_open(yaml, NULL, &dataset));
}

/* Reads a sample as (seed, epoch) says. */
static void sample_read(uint64_t seed, int64_t epoch, int64_t index, float *image, void *target)
{
    wrk_plan_t plan = {.indices = &index, .n = 1, .seed = seed, .epoch = epoch, .partner = (index + 1) % N_IMAGES};
    assert_ok(wrk_dataset_read_plan(dataset, &plan, NULL, image, target));
}

static void flips_and_crops_move_pixels(void **state)
{
    (void)state;
    idx_make();
    idx_open("{horizontal_flip: {p: 1}}");
    sample_read(1, 0, 1, x, NULL);
    assert_true(fabsf(x[0] - 19) < 1e-3F && fabsf(x[3] - 16) < 1e-3F && fabsf(x[4] - 23) < 1e-3F);
    wrk_dataset_close(dataset);
    idx_open("{vertical_flip: {p: 1}}");
    sample_read(1, 0, 0, x, NULL);
    assert_true(fabsf(x[0] - 12) < 1e-3F && fabsf(x[15] - 3) < 1e-3F);
    wrk_dataset_close(dataset);
    idx_open("{center_crop: {size: 2}}");
    sample_read(1, 0, 0, x, NULL);
    assert_true(fabsf(x[0] - 5) < 1e-3F && fabsf(x[3] - 10) < 1e-3F);
    wrk_dataset_close(dataset);
    idx_open("{random_crop: {size: 4, padding: 1, fill: -1}}, {random_crop: {size: [2, 3]}}");
    assert_int_equal(wrk_dataset_input(dataset)->shape[1], 2);
    assert_int_equal(wrk_dataset_input(dataset)->shape[2], 3);
    wrk_dataset_close(dataset);
    idx_open("{rotate: {degrees: 0}}");
    sample_read(1, 0, 0, x, NULL);
    for (int i = 0; i < 16; i++) {
        assert_true(fabsf(x[i] - (float)i) < 1e-3F);
    }
    wrk_dataset_close(dataset);
}

/* What each change of colours leaves as it is. */
static void changed_colours_keep_what_they_should(void **state)
{
    (void)state;
    enum { PLANE = 24 * 31 };
    static const char *const steps[] = {"hue: 0.5", "saturation: 0.9", "brightness: 0.5", "contrast: 0.5"};
    int64_t zero = 0;
    folder_make("f");
    folder_make("f/class");
    image_put("photo.png", "f/class/image.png");
    assert_ok(dataset_open("image_folder: {path: f}", NULL, &dataset));
    assert_ok(wrk_dataset_read(dataset, &zero, 1, y, NULL));
    wrk_dataset_close(dataset);
    for (int s = 0; s < 4; s++) {
        char yaml[128];
        float ratio = 0;
        (void)snprintf(yaml, sizeof(yaml), "image_folder: {path: f, augment: [{color_jitter: {%s}}]}", steps[s]);
        assert_ok(dataset_open(yaml, NULL, &dataset));
        sample_read(5, 2, 0, x, NULL);
        wrk_dataset_close(dataset);
        assert_true(memcmp(x, y, 3 * PLANE * sizeof(float)) != 0);
        for (int i = 0; i < PLANE; i++) {
            const float *a = x + i;
            const float *b = y + i;
            bool is_clamped = false;
            for (int c = 0; c < 3; c++) {
                is_clamped |= a[c * PLANE] <= 0 || a[c * PLANE] >= 1;
            }
            float high_a = fmaxf(a[0], fmaxf(a[PLANE], a[2 * PLANE]));
            float high_b = fmaxf(b[0], fmaxf(b[PLANE], b[2 * PLANE]));
            float low_a = fminf(a[0], fminf(a[PLANE], a[2 * PLANE]));
            float low_b = fminf(b[0], fminf(b[PLANE], b[2 * PLANE]));
            float grey_a = 0.2989F * a[0] + 0.587F * a[PLANE] + 0.114F * a[2 * PLANE];
            float grey_b = 0.2989F * b[0] + 0.587F * b[PLANE] + 0.114F * b[2 * PLANE];
            if (s == 0) { /* value and chroma */
                assert_true(fabsf(high_a - high_b) < 1e-5F && fabsf(low_a - low_b) < 1e-5F);
            } else if (s == 1 && !is_clamped) { /* brightness; the weights' sum is 0.9999 */
                assert_true(fabsf(grey_a - grey_b) < 1e-3F);
            } else if (s == 2 && !is_clamped) { /* one factor for all */
                ratio = ratio > 0 ? ratio : a[0] / b[0];
                assert_true(fabsf(a[PLANE] - ratio * b[PLANE]) < 1e-5F);
            } else if (s == 3 && !is_clamped && high_b - low_b > 0.1F) { /* one factor of all differences */
                ratio = ratio > 0 ? ratio : (high_a - low_a) / (high_b - low_b);
                assert_true(fabsf((high_a - low_a) - ratio * (high_b - low_b)) < 1e-5F);
            }
        }
    }
}

/* Each crop of 4 x 4 out of 6 x 6 comes about as often. */
static void crops_are_drawn_evenly_by_seed_epoch_and_sample(void **state)
{
    (void)state;
    int count[9] = {0};
    idx_make();
    idx_open("{random_crop: {size: 4, padding: 1, fill: 4}}");
    for (int64_t epoch = 0; epoch < 900; epoch++) {
        sample_read(3, epoch, 0, x, NULL);
        sample_read(3, epoch, 0, y, NULL);
        assert_memory_equal(x, y, 16 * sizeof(float));
        /* pixel (2, 2) shows where the window is: 10 is itself, one less a column, four less a row */
        int value = (int)lroundf(x[10]);
        int at[9] = {5, 6, 7, 9, 10, 11, 13, 14, 15};
        for (int i = 0; i < 9; i++) {
            count[i] += value == at[i];
        }
    }
    for (int i = 0; i < 9; i++) {
        assert_in_range(count[i], 60, 140);
    }
    wrk_dataset_close(dataset);
}

static void random_steps_change_with_seed_epoch_and_sample_only(void **state)
{
    (void)state;
    static const char *const steps[] = {
        "{random_resized_crop: {size: 4}}",
        "{rotate: {degrees: 90}}",
        "{noise: {std: 0.1}}",
        "{cutout: {size: 2}}",
        "{random_erasing: {p: 1, scale: [0.1, 0.4]}}",
        "{color_jitter: {brightness: 0.5, contrast: 0.5}}",
        "{time_shift: {max: 2}}",
        "{mixup: {alpha: 0.4}}",
    };
    idx_make();
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        float target[N_IMAGES];
        int n_other_seed = 0;
        int n_other_epoch = 0;
        idx_open(steps[i]);
        for (int64_t epoch = 0; epoch < 8; epoch++) {
            sample_read(1, epoch, 5, x, target);
            sample_read(1, epoch, 5, y, target);
            assert_memory_equal(x, y, 16 * sizeof(float));
            sample_read(2, epoch, 5, y, target);
            n_other_seed += memcmp(x, y, 16 * sizeof(float)) != 0;
            sample_read(1, epoch + 1, 5, y, target);
            n_other_epoch += memcmp(x, y, 16 * sizeof(float)) != 0;
        }
        assert_true(n_other_seed >= 3);
        assert_true(n_other_epoch >= 3);
        wrk_dataset_close(dataset);
    }
}

static void mixing_mixes_pixels_and_labels_alike(void **state)
{
    (void)state;
    idx_make();
    for (int is_cut = 0; is_cut < 2; is_cut++) {
        double mean = 0;
        idx_open(is_cut ? "{cutmix: {alpha: 1}}" : "{mixup: {alpha: 0.5}}");
        assert_int_equal(wrk_dataset_target(dataset)->numel, N_IMAGES);
        assert_int_equal(wrk_dataset_n_targets(dataset), 1);
        for (int64_t epoch = 0; epoch < 300; epoch++) {
            int64_t indices[3] = {2, 4, 6};
            float images[3][16];
            float targets[3][N_IMAGES];
            static const int64_t after[3] = {4, 6, 7};
            wrk_plan_t plan = {.indices = indices, .n = 3, .seed = 9, .epoch = epoch, .partner = 7};
            assert_ok(wrk_dataset_read_plan(dataset, &plan, NULL, images, targets));
            for (int i = 0; i < 3; i++) {
                float share = targets[i][indices[i]];
                assert_true(share >= 0 && share <= 1 && fabsf(share + targets[i][after[i]] - 1) < 1e-6F);
                double sum = 0;
                for (int p = 0; p < 16; p++) {
                    sum += (double)images[i][p];
                }
                double own = 16.0 * (double)indices[i] + 7.5;
                double other = 16.0 * (double)after[i] + 7.5;
                double wanted = 16 * ((double)share * own + (1 - (double)share) * other);
                /* a window's pixels differ from the mean by up to 7.5 each */
                assert_true(fabs(sum - wanted) < (is_cut ? 130 : 1));
                mean += (double)share / 900;
            }
        }
        assert_true(is_cut ? mean > 0.5 : fabs(mean - 0.5) < 0.05);
        wrk_dataset_close(dataset);
    }
}

static void memory_is_bounded_by_the_largest_image(void **state)
{
    (void)state;
    int64_t indices[3] = {0, 1, 2};
    wrk_scratch_t scratch = {0};
    folder_make("f");
    folder_make("f/class");
    image_put("bits.png", "f/class/a.png");
    image_put("photo.png", "f/class/b.png");
    image_put("turn-6.jpg", "f/class/c.png");
    assert_ok(dataset_open("image_folder: {path: f, augment: [{resize: {size: [40, 50]}}, {rotate: {degrees: 9}}, "
                           "{resize: {size: [31, 8]}}, {center_crop: {size: 4}}]}",
                           NULL, &dataset));

    for (int64_t epoch = 0; epoch < 50; epoch++) {
        const wrk_plan_t plan = {.indices = indices, .n = 3, .seed = 1, .epoch = epoch};
        assert_ok(wrk_dataset_read_plan(dataset, &plan, &scratch, x, NULL));
    }

    for (int i = 0; i < WRK_SCRATCH_COUNT; i++) {
        assert_true(scratch.size_bytes[i] <= 4 * sizeof(x));
    }
    wrk_scratch_release(&scratch);
    wrk_dataset_close(dataset);
}

static void settings_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    idx_make();
#define IDX(list) "idx: {images: images, labels: labels, augment: [" list "]}"
    dataset_refused(IDX("{mixup: {alpha: 1}}, horizontal_flip"), ST_ERR_INVAL,
                    "augment[1].horizontal_flip: behind mixup");
    dataset_refused(IDX("horizontal_flip, grayscale"), ST_ERR_INVAL,
                    "augment[1].grayscale: takes images of 3 channels");
    dataset_refused(IDX("{normalize: {mean: [1, 2], std: 1}}"), ST_ERR_INVAL, "mean has 2 values and std 1");
    dataset_refused(IDX("{center_crop: {size: 9}}"), ST_ERR_DATA, "too small for a crop of 9 x 9");
    dataset_refused(IDX("{random_resized_crop: {size: 2, scale: [0.9, 0.1]}}"), ST_ERR_INVAL, "[least, most]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kind_of_file_gives_pillows_pixels),
        TEST(a_grey_dataset_takes_colours),
        TEST(resizing_is_pillows),
        TEST(classes_are_the_folders_in_name_order),
        TEST(images_of_several_sizes_have_to_be_cropped),
        TEST(damaged_files_are_errors),
        TEST(an_image_that_is_too_large_is_refused_before_memory_is_taken),
        TEST(flips_and_crops_move_pixels),
        TEST(changed_colours_keep_what_they_should),
        TEST(crops_are_drawn_evenly_by_seed_epoch_and_sample),
        TEST(random_steps_change_with_seed_epoch_and_sample_only),
        TEST(mixing_mixes_pixels_and_labels_alike),
        TEST(memory_is_bounded_by_the_largest_image),
        TEST(settings_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests_name("images", tests, NULL, NULL);
}
