/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors: round trip, files of the reference implementation, and what a damaged or hostile file is told. */
#include "tests/support/fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gradd/safetensors.h"

static const char *file_path(void)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/x.safetensors", fixture_folder());
    return path;
}

/* A file of a header (its length as given, or its own when 0) and n_data bytes 0, 1, 2, …; returns its path. */
static const char *file_make(const char *header, uint64_t length, size_t n_data)
{
    FILE *file = fopen(file_path(), "wb");
    assert_non_null(file);
    if (length == 0) {
        length = strlen(header);
    }
    for (int i = 0; i < 8; i++) {
        (void)fputc((int)(length >> (8 * i) & 0xff), file);
    }
    (void)fputs(header, file);
    for (size_t i = 0; i < n_data; i++) {
        (void)fputc((int)i, file);
    }
    assert_int_equal(fclose(file), 0);
    return file_path();
}

static const char *const metadata[][2] = {{"format", "pt"}, {"step", "12 \"quoted\""}};

static void what_was_written_is_read_back(void **state)
{
    (void)state;
    const float weights[6] = {1, 2, 3, 4, 5, 6};
    const int64_t count = 77;
    const uint8_t bytes[3] = {9, 8, 7};
    const double precise[2] = {0.1, 0.2};
    const gd_safetensors_entry_t entries[] = {
        {.name = "w", .dtype = GD_DTYPE_F32, .n_dims = 2, .shape = {2, 3}, .data = weights},
        {.name = "bytes", .dtype = GD_DTYPE_U8, .n_dims = 1, .shape = {3}, .data = bytes},
        {.name = "precise", .dtype = GD_DTYPE_F64, .n_dims = 1, .shape = {2}, .data = precise},
        {.name = "count", .dtype = GD_DTYPE_I64, .n_dims = 0, .data = &count},
        {.name = "empty", .dtype = GD_DTYPE_BF16, .n_dims = 2, .shape = {0, 4}, .data = NULL},
    };
    char hex[65];

    assert_ok(gd_safetensors_write(file_path(), entries, 5, metadata, 2, hex));
    gd_safetensors_t *file = NULL;
    assert_ok(gd_safetensors_open(file_path(), &file));

    assert_int_equal(gd_safetensors_count(file), 5);
    assert_string_equal(gd_safetensors_at(file, 0)->name, "bytes");
    assert_string_equal(gd_safetensors_at(file, 4)->name, "w");
    assert_null(gd_safetensors_at(file, 5));
    const gd_safetensors_entry_t *w = gd_safetensors_find(file, "w");
    assert_non_null(w);
    assert_int_equal(w->n_dims, 2);
    assert_int_equal(w->shape[0], 2);
    assert_int_equal(w->shape[1], 3);
    assert_int_equal((uintptr_t)w->data % 64, 0);
    assert_memory_equal(w->data, weights, sizeof(weights));
    const gd_safetensors_entry_t *misaligned = gd_safetensors_find(file, "precise"); /* at byte 27 of the data */
    assert_int_equal((uintptr_t)misaligned->data % sizeof(double), 0);
    assert_memory_equal(misaligned->data, precise, sizeof(precise));
    assert_memory_equal(gd_safetensors_find(file, "count")->data, &count, sizeof(count));
    assert_int_equal(gd_safetensors_find(file, "count")->n_dims, 0);
    assert_int_equal(gd_safetensors_find(file, "empty")->shape[1], 4);
    assert_null(gd_safetensors_find(file, "nothing"));
    assert_string_equal(gd_safetensors_metadata(file, "step"), "12 \"quoted\"");
    assert_null(gd_safetensors_metadata(file, "nothing"));
    assert_int_equal(strlen(hex), 64);
    gd_safetensors_close(file);
}

static void the_reported_hash_is_that_of_the_file(void **state)
{
    (void)state;
    const float x[4] = {1, 2, 3, 4};
    const gd_safetensors_entry_t entry = {.name = "x", .dtype = GD_DTYPE_F32, .n_dims = 1, .shape = {4}, .data = x};
    char hex[65];
    assert_ok(gd_safetensors_write(file_path(), &entry, 1, NULL, 0, hex));
    char command[256];
    (void)snprintf(command, sizeof(command), "sha256sum %s", file_path());

    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    char text[65] = {0};
    assert_int_equal(fread(text, 1, 64, pipe), 64);
    (void)pclose(pipe);

    assert_string_equal(text, hex);
}

static void a_file_of_the_reference_implementation_is_read(void **state)
{
    (void)state;
    gd_safetensors_t *file = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("foreign.safetensors"), &file));

    assert_int_equal(gd_safetensors_count(file), 9);
    const float f32[6] = {0, 0.25F, 0.5F, 0.75F, 1, 1.25F};
    const double f64 = -1.5;
    const uint16_t bf16[3] = {0x3f80, 0xc000, 0x3f00};
    const uint16_t f16[2] = {0x3400, 0xc800};
    const int64_t i64[3] = {1, -2, INT64_C(1) << 40};
    const int32_t i32[2] = {7, -9};
    const uint8_t u8[3] = {0, 128, 255};
    const uint8_t boolean[2] = {1, 0};
    const struct {
        const char *name;
        gd_dtype_t dtype;
        const void *bytes;
        size_t size;
    } expected[] = {
        {"a.f64", GD_DTYPE_F64, &f64, sizeof(f64)},    {"b.f32", GD_DTYPE_F32, f32, sizeof(f32)},
        {"c.bf16", GD_DTYPE_BF16, bf16, sizeof(bf16)}, {"d.f16", GD_DTYPE_F16, f16, sizeof(f16)},
        {"e.i64", GD_DTYPE_I64, i64, sizeof(i64)},     {"f.i32", GD_DTYPE_I32, i32, sizeof(i32)},
        {"g.u8", GD_DTYPE_U8, u8, sizeof(u8)},         {"h.bool", GD_DTYPE_BOOL, boolean, sizeof(boolean)},
    };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const gd_safetensors_entry_t *entry = gd_safetensors_at(file, (int)i);
        assert_string_equal(entry->name, expected[i].name);
        assert_int_equal(entry->dtype, expected[i].dtype);
        assert_memory_equal(entry->data, expected[i].bytes, expected[i].size);
    }
    assert_int_equal(gd_safetensors_find(file, "i.empty")->shape[1], 5);
    assert_string_equal(gd_safetensors_metadata(file, "note"), "hällo");
    gd_safetensors_close(file);
}

/* The example of the safetensors crate's documentation. */
static void a_header_without_padding_is_legal(void **state)
{
    (void)state;
    gd_safetensors_t *file = NULL;
    assert_ok(gd_safetensors_open(
        file_make("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 0, 16), &file));
    const int32_t *data = gd_safetensors_find(file, "test")->data;
    assert_int_equal(data[1], 0x07060504);
    gd_safetensors_close(file);
}

static void damaged_files_are_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t length;
        size_t n_data;
        status_t code;
        const char *text;
    } cases[] = {
        {"{}", 0, 1, ST_ERR_CORRUPT, "the file at 1"},
        {"{}", 3, 0, ST_ERR_CORRUPT, "does not fit into the file's 10 (truncated?)"},
        {"{}", 100000001, 0, ST_ERR_CORRUPT, "header length 100000001 is over the limit of 100000000 bytes"},
        {"{}", UINT64_MAX, 0, ST_ERR_CORRUPT, "over the limit"},
        {"{\"a\":", 0, 0, ST_ERR_CORRUPT, "header, byte"},
        {"[]", 0, 0, ST_ERR_CORRUPT, "not a JSON map"},
        {" {}", 0, 0, ST_ERR_CORRUPT, "not a JSON map"},
        {"{\"a\":3}", 0, 0, ST_ERR_CORRUPT, "tensor \"a\": needs dtype, shape and data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 0, 4, ST_ERR_CORRUPT, "needs dtype"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", 0, 4, ST_ERR_UNSUPPORTED,
         "dtype F8_E4M3 is not one of"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 0, 4, ST_ERR_UNSUPPORTED,
         "9 dimensions, more than 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 0, 4, ST_ERR_CORRUPT,
         "dimension 0 of its shape is not a size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 0, 4, ST_ERR_CORRUPT, "not a size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 0, 4, ST_ERR_CORRUPT,
         "need 8 bytes, data_offsets give 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 0, 4, ST_ERR_CORRUPT,
         "its shape overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 4, ST_ERR_CORRUPT,
         "data_offsets [0, 8] are not inside the file's 4 data bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 0, 4, ST_ERR_CORRUPT, "[-4, 0]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]}}", 0, 8, ST_ERR_CORRUPT, "[8, 4]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         0, 12, ST_ERR_CORRUPT, "tensor \"b\": begins at byte 4, inside another tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         0, 12, ST_ERR_CORRUPT, "tensor \"b\": begins at byte 8, after a hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 8, ST_ERR_CORRUPT,
         "tensors end at data byte 4, the file at 8"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         0, 1, ST_ERR_CORRUPT, "duplicate"},
        {"{\"__metadata__\":[]}", 0, 0, ST_ERR_CORRUPT, "__metadata__ is not a map"},
        {"{\"__metadata__\":{\"k\":1}}", 0, 0, ST_ERR_CORRUPT, "__metadata__ \"k\" is not a string"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gd_safetensors_t *file = NULL;
        const char *path = file_make(cases[i].header, cases[i].length, cases[i].n_data);
        assert_fails(gd_safetensors_open(path, &file), cases[i].code, cases[i].text);
        assert_non_null(strstr(status_message(), path));
        assert_null(file);
    }
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    const float x[40] = {1};
    const gd_safetensors_entry_t entry = {.name = "x", .dtype = GD_DTYPE_F32, .n_dims = 1, .shape = {40}, .data = x};
    assert_ok(gd_safetensors_write(file_path(), &entry, 1, NULL, 0, NULL));
    struct stat info;
    assert_int_equal(stat(file_path(), &info), 0);

    for (off_t size = info.st_size - 1; size >= 0; size--) {
        assert_int_equal(truncate(file_path(), size), 0);
        gd_safetensors_t *file = NULL;
        assert_fails(gd_safetensors_open(file_path(), &file), ST_ERR_CORRUPT, file_path());
    }
}

/* Reads every byte that an accepted file claims to have. */
static unsigned bytes_sum(const gd_safetensors_t *file)
{
    unsigned sum = 0;
    for (int i = 0; i < gd_safetensors_count(file); i++) {
        const gd_safetensors_entry_t *entry = gd_safetensors_at(file, i);
        size_t n = gd_dtype_size(entry->dtype);
        for (int d = 0; d < entry->n_dims; d++) {
            n *= (size_t)entry->shape[d];
        }
        for (size_t j = 0; j < n; j++) {
            sum += ((const uint8_t *)entry->data)[j];
        }
    }
    return sum;
}

static void a_file_with_any_byte_changed_is_read_or_refused(void **state)
{
    (void)state;
    static uint8_t bytes[4096];
    FILE *from = fopen(fixture_golden("foreign.safetensors"), "rb");
    assert_non_null(from);
    size_t size = fread(bytes, 1, sizeof(bytes), from);
    (void)fclose(from);
    assert_in_range(size, 600, sizeof(bytes) - 1);
    static const uint8_t values[] = {0, 0xff, '"', '0', '9', '-', '{', ']', ',', 'e', ' '};
    unsigned sum = 0;
    int n_refused = 0;
    FILE *file = fopen(file_path(), "wb");
    assert_non_null(file);
    for (size_t at = 0; at < 600; at++) {
        for (size_t v = 0; v < sizeof(values); v++) {
            const uint8_t before = bytes[at];
            bytes[at] = values[v];
            rewind(file);
            assert_int_equal(fwrite(bytes, 1, size, file), size);
            assert_int_equal(fflush(file), 0);
            bytes[at] = before;

            gd_safetensors_t *read = NULL;
            status_t status = gd_safetensors_open(file_path(), &read);

            assert_true(status == ST_OK || status == ST_ERR_CORRUPT || status == ST_ERR_UNSUPPORTED);
            if (status == ST_OK) {
                sum += bytes_sum(read);
                gd_safetensors_close(read);
            } else {
                n_refused++;
            }
        }
    }
    (void)fclose(file);
    assert_in_range(n_refused, 2000, 6600);
    assert_true(sum > 0);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    static char header[100001];
    memset(header, '[', sizeof(header) - 1);
    for (int i = 0; i < 5; i++) {
        header[i] = "{\"a\":"[i];
    }
    gd_safetensors_t *file = NULL;
    assert_fails(gd_safetensors_open(file_make(header, 0, 0), &file), ST_ERR_CORRUPT, "maximum parsing depth");
}

static void what_is_no_file_is_named(void **state)
{
    (void)state;
    gd_safetensors_t *file = NULL;
    assert_fails(gd_safetensors_open("/nonexistent/x", &file), ST_ERR_NOT_FOUND, "/nonexistent/x: No such file");
    assert_fails(gd_safetensors_open(fixture_folder(), &file), ST_ERR_INVAL, "not a regular file");
    assert_fails(gd_safetensors_write("/nonexistent/x", NULL, 0, NULL, 0, NULL), ST_ERR_NOT_FOUND, "/nonexistent/x");
}

static void a_full_disk_is_named(void **state)
{
    (void)state;
    const float x[4] = {1, 2, 3, 4};
    const gd_safetensors_entry_t entry = {.name = "x", .dtype = GD_DTYPE_F32, .n_dims = 1, .shape = {4}, .data = x};
    assert_fails(gd_safetensors_write("/dev/full", &entry, 1, NULL, 0, NULL), ST_ERR_NOSPACE, "/dev/full: No space");
}

static void bad_entries_are_not_written(void **state)
{
    (void)state;
    const float x[4] = {1, 2, 3, 4};
    const gd_safetensors_entry_t entry = {.name = "x", .dtype = GD_DTYPE_F32, .n_dims = 1, .shape = {4}, .data = x};
    gd_safetensors_entry_t bad = entry;

    const gd_safetensors_entry_t twice[2] = {entry, entry};
    assert_fails(gd_safetensors_write(file_path(), twice, 2, NULL, 0, NULL), ST_ERR_INVAL, "name \"x\" is taken");
    bad.name = "__metadata__";
    assert_fails(gd_safetensors_write(file_path(), &bad, 1, NULL, 0, NULL), ST_ERR_INVAL, "is taken");
    bad.name = "\xff";
    assert_fails(gd_safetensors_write(file_path(), &bad, 1, NULL, 0, NULL), ST_ERR_INVAL, "cannot be written as JSON");
    bad = entry;
    bad.shape[0] = -1;
    assert_fails(gd_safetensors_write(file_path(), &bad, 1, NULL, 0, NULL), ST_ERR_INVAL, "bad dtype, shape or data");
    assert_int_equal(access(file_path(), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_read_back),
        TEST(the_reported_hash_is_that_of_the_file),
        TEST(a_file_of_the_reference_implementation_is_read),
        TEST(a_header_without_padding_is_legal),
        TEST(damaged_files_are_refused_with_the_reason),
        TEST(a_file_cut_anywhere_is_refused),
        TEST(a_file_with_any_byte_changed_is_read_or_refused),
        TEST(deep_nesting_is_refused),
        TEST(what_is_no_file_is_named),
        TEST(a_full_disk_is_named),
        TEST(bad_entries_are_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
