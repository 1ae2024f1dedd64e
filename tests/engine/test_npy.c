/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy's files: those that NumPy wrote are read, ours are NumPy's to the byte, and what damaged ones are told. */
#include "tests/support/fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "gradd/npy.h"
#include "gradd/ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char *file_path(const char *name)
{
    static char path[160];
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), name);
    return path;
}

static const char *golden(const char *name)
{
    static char path[64];
    (void)snprintf(path, sizeof(path), "npy/%s", name);
    return fixture_golden(path);
}

/* The file's bytes: mem_free. */
static uint8_t *file_read(const char *path, size_t *size_p)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    enum { MOST = 1 << 18 };
    uint8_t *bytes = mem_alloc(MOST);
    assert_non_null(bytes);
    *size_p = fread(bytes, 1, MOST, file);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void file_write(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* The arrays of make_npy.py: element i of [2, 3, 4] as factor i + offset. */
static const struct {
    const char *name;
    gd_dtype_t dtype;
    double factor, offset;
} written[] =
    {
        {"f32", GD_DTYPE_F32, 0.25, -1},         {"f64", GD_DTYPE_F64, 0.25, -1}, {"f16", GD_DTYPE_F16, 0.25, -1},
        {"i64", GD_DTYPE_I64, 8589934592.0, -7}, {"i32", GD_DTYPE_I32, 1000, -7}, {"u8", GD_DTYPE_U8, 10, 0},
},
  foreign[] = {
      {"big_f4", GD_DTYPE_F32, 0.25, -1},  {"big_i8", GD_DTYPE_I64, 8589934592.0, -7},
      {"fortran", GD_DTYPE_F32, 0.25, -1}, {"fortran_big", GD_DTYPE_F64, 0.25, -1},
      {"i1", GD_DTYPE_I32, 1, -12},        {"i2", GD_DTYPE_I32, 1000, -12000},
      {"big_u2", GD_DTYPE_I32, 2500, 0},   {"u4", GD_DTYPE_I64, 170000000.0, 0},
};
enum { N_WRITTEN = sizeof(written) / sizeof(written[0]), N_FOREIGN = sizeof(foreign) / sizeof(foreign[0]) };

static void assert_ramp(gd_tensor_t *t, gd_dtype_t dtype, double factor, double offset)
{
    assert_int_equal(gd_tensor_dtype(t), dtype);
    assert_int_equal(gd_tensor_n_dims(t), 3);
    gd_tensor_t *flat = NULL;
    gd_tensor_t *one = NULL;
    assert_ok(gd_reshape(t, 1, (const int64_t[]){24}, &flat));
    for (int64_t i = 0; i < 24; i++) {
        double value = 0;
        assert_ok(gd_slice(flat, 0, i, i + 1, 1, &one));
        assert_ok(gd_tensor_item(one, &value));
        assert_true(value == factor * (double)i + offset);
        one = gd_tensor_unref(one);
    }
    (void)gd_tensor_unref(flat);
}

static void arrays_of_numpy_are_read(void **state)
{
    (void)state;
    const char *const files[] = {"stored.npz", "deflated.npz"};
    for (int f = 0; f < 2; f++) {
        gd_npz_t *npz = NULL;
        assert_ok(gd_npz_open(golden(files[f]), &npz));
        assert_int_equal(gd_npz_count(npz), 10);
        assert_string_equal(gd_npz_name(npz, 0), "f32");
        assert_null(gd_npz_name(npz, 10));
        for (int i = 0; i < N_WRITTEN; i++) {
            gd_npy_t *npy = NULL;
            gd_tensor_t *t = NULL;
            assert_ok(gd_npz_get(npz, written[i].name, &npy));
            assert_ok(gd_npy_read(npy, &t));
            assert_ramp(t, written[i].dtype, written[i].factor, written[i].offset);
            (void)gd_tensor_unref(t);
            gd_npy_close(npy);
        }
        gd_npy_t *npy = NULL;
        gd_tensor_t *t = NULL;
        assert_ok(gd_npz_get(npz, "bool", &npy));
        assert_ok(gd_npy_read(npy, &t));
        for (int i = 0; i < 24; i++) {
            assert_int_equal(((const uint8_t *)gd_tensor_data(t))[i], i % 3 == 0);
        }
        (void)gd_tensor_unref(t);
        gd_npy_close(npy);
        assert_ok(gd_npz_get(npz, "scalar", &npy));
        assert_int_equal(gd_npy_n_dims(npy), 0);
        float value = 0;
        assert_ok(gd_npy_read_rows(npy, 0, 1, &value));
        assert_true(value == 2.5F);
        gd_npy_close(npy);
        assert_ok(gd_npz_get(npz, "empty", &npy));
        assert_int_equal(gd_npy_shape(npy)[1], 0);
        assert_ok(gd_npy_read_rows(npy, 0, 3, NULL));
        gd_npy_close(npy);
        assert_fails(gd_npz_get(npz, "f31", &npy), ST_ERR_NOT_FOUND, "no array \"f31\"; it has: f32, f64");
        gd_npz_close(npz);
    }
}

static void other_byte_orders_layouts_and_types_are_converted(void **state)
{
    (void)state;
    gd_npz_t *npz = NULL;
    assert_ok(gd_npz_open(golden("foreign.npz"), &npz));
    for (int i = 0; i < N_FOREIGN; i++) {
        gd_npy_t *npy = NULL;
        gd_tensor_t *t = NULL;
        assert_ok(gd_npz_get(npz, foreign[i].name, &npy));
        assert_null(gd_npy_data(npy));
        assert_ok(gd_npy_read(npy, &t));
        assert_ramp(t, foreign[i].dtype, foreign[i].factor, foreign[i].offset);
        double row[24];
        assert_ok(gd_npy_read_rows(npy, 1, 2, row));
        size_t half = (size_t)gd_tensor_numel(t) / 2 * gd_dtype_size(gd_tensor_dtype(t));
        assert_memory_equal(row, (const char *)gd_tensor_data(t) + half, half);
        (void)gd_tensor_unref(t);
        gd_npy_close(npy);
    }
    gd_npz_close(npz);
}

static void all_versions_are_read(void **state)
{
    (void)state;
    const char *const files[] = {"v1.npy", "v2.npy", "v3.npy"};
    for (int i = 0; i < 3; i++) {
        gd_npy_t *npy = NULL;
        assert_ok(gd_npy_open(golden(files[i]), &npy));
        const float *data = gd_npy_data(npy);
        assert_non_null(data);
        assert_true(data[23] == 4.75F);
        assert_fails(gd_npy_read_rows(npy, 1, 3, NULL), ST_ERR_RANGE, ": rows 1 to 3 of an array of 2 rows");
        gd_npy_close(npy);
    }
}

static void what_is_written_is_what_numpy_writes(void **state)
{
    (void)state;
    size_t size = 0;
    size_t expected_size = 0;
    gd_tensor_t *t = NULL;
    gd_tensor_t *turned = NULL;
    gd_tensor_t *back = NULL;
    assert_ok(gd_npy_load(golden("v1.npy"), &t));

    assert_ok(gd_npy_save(file_path("x.npy"), t));
    uint8_t *bytes = file_read(file_path("x.npy"), &size);
    uint8_t *expected = file_read(golden("v1.npy"), &expected_size);
    assert_int_equal(size, expected_size);
    assert_memory_equal(bytes, expected, size);

    assert_ok(gd_permute(t, (const int[]){2, 0, 1}, &turned)); /* other strides */
    assert_ok(gd_npy_save(file_path("x.npy"), turned));
    assert_ok(gd_npy_load(file_path("x.npy"), &back));
    assert_int_equal(gd_tensor_dim(back, 0), 4);
    assert_true(((const float *)gd_tensor_data(back))[1] == 0.0F); /* turned[0, 0, 1] = t[0, 1, 0] */

    mem_free(bytes);
    mem_free(expected);
    (void)gd_tensor_unref(t);
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(back);
}

/* Both archives have the same arrays, and each is the same file to the byte. */
static void assert_same_members(const char *path, const char *path_golden)
{
    gd_npz_t *a = NULL;
    gd_npz_t *b = NULL;
    assert_ok(gd_npz_open(path, &a));
    assert_ok(gd_npz_open(path_golden, &b));
    assert_int_equal(gd_npz_count(a), gd_npz_count(b));
    for (int i = 0; i < gd_npz_count(a); i++) {
        gd_npy_t *x = NULL;
        gd_npy_t *y = NULL;
        gd_tensor_t *t = NULL;
        gd_tensor_t *u = NULL;
        assert_string_equal(gd_npz_name(a, i), gd_npz_name(b, i));
        assert_ok(gd_npz_get(a, gd_npz_name(a, i), &x));
        assert_ok(gd_npz_get(b, gd_npz_name(a, i), &y));
        assert_ok(gd_npy_read(x, &t));
        assert_ok(gd_npy_read(y, &u));
        assert_int_equal(gd_tensor_dtype(t), gd_tensor_dtype(u));
        assert_int_equal(gd_tensor_numel(t), gd_tensor_numel(u));
        assert_memory_equal(gd_tensor_data(t), gd_tensor_data(u),
                            (size_t)gd_tensor_numel(t) * gd_dtype_size(gd_tensor_dtype(t)));
        (void)gd_tensor_unref(t);
        (void)gd_tensor_unref(u);
        gd_npy_close(x);
        gd_npy_close(y);
    }
    gd_npz_close(a);
    gd_npz_close(b);
}

static void archives_go_round(void **state)
{
    (void)state;
    gd_npz_t *npz = NULL;
    gd_tensor_t *tensors[16] = {NULL};
    const char *names[16] = {NULL};
    assert_ok(gd_npz_open(golden("stored.npz"), &npz));
    int n = gd_npz_count(npz);
    for (int i = 0; i < n; i++) {
        gd_npy_t *npy = NULL;
        names[i] = gd_npz_name(npz, i);
        assert_ok(gd_npz_get(npz, names[i], &npy));
        assert_ok(gd_npy_read(npy, &tensors[i]));
        gd_npy_close(npy);
    }

    assert_ok(gd_npz_save(file_path("x.npz"), names, tensors, n, false));
    assert_same_members(file_path("x.npz"), golden("stored.npz"));
    gd_npz_t *again = NULL;
    gd_npy_t *npy = NULL;
    assert_ok(gd_npz_open(file_path("x.npz"), &again));
    assert_ok(gd_npz_get(again, "f64", &npy));
    assert_int_equal((uintptr_t)gd_npy_data(npy) % 64, 0); /* stored members lie aligned in the file */
    gd_npy_close(npy);
    gd_npz_close(again);
    assert_ok(gd_npz_save(file_path("x.npz"), names, tensors, n, true));
    assert_same_members(file_path("x.npz"), golden("stored.npz"));

    names[1] = names[0];
    assert_fails(gd_npz_save(file_path("y.npz"), names, tensors, 2, false), ST_ERR_INVAL, "\"f32\" is given twice");
    names[1] = "";
    assert_fails(gd_npz_save(file_path("y.npz"), names, tensors, 2, false), ST_ERR_INVAL, "array 1 has an empty name");
    for (int i = 0; i < n; i++) {
        (void)gd_tensor_unref(tensors[i]);
    }
    gd_npz_close(npz);
}

static void what_numpy_has_no_type_for_is_not_written(void **state)
{
    (void)state;
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_BF16, 1, (const int64_t[]){3}, &t));
    assert_fails(gd_npy_save(file_path("x.npy"), t), ST_ERR_UNSUPPORTED, "NumPy has no type for bf16; cast it to f32");
    assert_int_equal(access(file_path("x.npy"), F_OK), -1);
    const char *name = "w";
    assert_fails(gd_npz_save(file_path("x.npz"), &name, &t, 1, false), ST_ERR_UNSUPPORTED, "array \"w\"");
    (void)gd_tensor_unref(t);
}

static void types_that_are_not_ours_are_named(void **state)
{
    (void)state;
    gd_npy_t *npy = NULL;
    assert_fails(gd_npy_open(golden("complex.npy"), &npy), ST_ERR_UNSUPPORTED, "NumPy type <c8 isn't one of f2 f4 f8");
    assert_fails(gd_npy_open(golden("structured.npy"), &npy), ST_ERR_UNSUPPORTED, "structured arrays");
    assert_fails(gd_npy_open(golden("object.npy"), &npy), ST_ERR_UNSUPPORTED, "pickled objects are never read");
    assert_fails(gd_npy_open("/nonexistent/x.npy", &npy), ST_ERR_NOT_FOUND, "/nonexistent/x.npy");
    assert_fails(gd_npy_open("/dev/null", &npy), ST_ERR_INVAL, "not a regular file");
}

static void damaged_headers_are_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        status_t code;
        const char *message;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 8, ST_OK, ""},
        {"{\"shape\":(2L,),\"fortran_order\":True,\"descr\":\"<f4\"}", 8, ST_OK, ""},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 7, ST_ERR_CORRUPT,
         "need 8 bytes, the file has 7"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 9, ST_ERR_CORRUPT,
         "need 8 bytes, the file has 9"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }\n", 8, ST_ERR_CORRUPT, "no size at \"-2,), }"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }\n", 8, ST_ERR_CORRUPT,
         "64 bits"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 8, ST_ERR_CORRUPT,
         "too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904, 8), }", 0, ST_ERR_CORRUPT,
         "too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 4, ST_ERR_UNSUPPORTED,
         "more than 8"},
        {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,), }\n", 8, ST_ERR_CORRUPT, "neither True nor False"},
        {"{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }\n", 8, ST_ERR_CORRUPT, "'descr' twice"},
        {"{'descr': '<f4', 'shape': (2,), }\n", 8, ST_ERR_CORRUPT, "are needed"},
        {"{'descr': '<f4', 'color': 'red', 'shape': (2,), }\n", 8, ST_ERR_CORRUPT, "unknown key 'color'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2", 8, ST_ERR_CORRUPT, "a comma or ) is missing"},
        {"{'descr': '<f4, 'fortran_order'", 8, ST_ERR_CORRUPT, "isn't one of"},
        {"{'descr", 8, ST_ERR_CORRUPT, "a string without end"},
        {"", 8, ST_ERR_CORRUPT, "a { is missing"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[400] = "\x93NUMPY\x01";
        size_t n = strlen(cases[i].header);
        gd_npy_t *npy = NULL;
        bytes[8] = (uint8_t)n;
        memcpy(bytes + 10, cases[i].header, n);
        file_write(file_path("x.npy"), bytes, 10 + n + cases[i].n_data);
        if (cases[i].code == ST_OK) {
            assert_ok(gd_npy_open(file_path("x.npy"), &npy));
            gd_npy_close(npy);
        } else {
            status_t status = gd_npy_open(file_path("x.npy"), &npy);
            assert_true(status == cases[i].code || (i == 14 && status == ST_ERR_UNSUPPORTED));
            assert_non_null(strstr(status_message(), cases[i].message));
            assert_non_null(strstr(status_message(), "x.npy"));
        }
    }
}

/* Cut anywhere and with any byte changed: read or refused; read rightly when the checksum says so. */
static void damaged_archives_are_refused(void **state)
{
    (void)state;
    const char *const files[] = {"stored.npz", "deflated.npz"};
    for (int f = 0; f < 2; f++) {
        size_t size = 0;
        uint8_t *bytes = file_read(golden(files[f]), &size);
        gd_npz_t *npz = NULL;
        for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : 37) {
            file_write(file_path("cut.npz"), bytes, cut);
            assert_fails(gd_npz_open(file_path("cut.npz"), &npz), ST_ERR_CORRUPT, "cut.npz");
        }
        for (size_t i = 0; i < size; i += 3) {
            bytes[i] ^= 0x5a;
            assert_int_equal(LLVMFuzzerTestOneInput(bytes, size), 0);
            bytes[i] ^= 0x5a;
        }
        /* a byte of the first array's elements: its checksum tells */
        bytes[f == 0 ? 200 : 120] ^= 1;
        file_write(file_path("bad.npz"), bytes, size);
        gd_npy_t *npy = NULL;
        assert_ok(gd_npz_open(file_path("bad.npz"), &npz));
        assert_int_equal(gd_npz_get(npz, "f32", &npy), ST_ERR_CORRUPT);
        assert_non_null(strstr(status_message(), "member f32"));
        gd_npz_close(npz);
        mem_free(bytes);
    }
}

static void the_corpus_crashes_nothing(void **state)
{
    (void)state;
    char folder[512];
    int n_files = 0;
    assert_non_null(getenv("GRADD_SOURCE"));
    (void)snprintf(folder, sizeof(folder), "%s/tests/fuzz/corpus/npy", getenv("GRADD_SOURCE"));
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char path[1024];
        size_t size = 0;
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        uint8_t *bytes = file_read(path, &size);
        assert_int_equal(LLVMFuzzerTestOneInput(bytes, size), 0);
        mem_free(bytes);
        n_files++;
    }
    assert_int_equal(closedir(directory), 0);
    assert_in_range(n_files, 6, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(arrays_of_numpy_are_read),
        TEST(other_byte_orders_layouts_and_types_are_converted),
        TEST(all_versions_are_read),
        TEST(what_is_written_is_what_numpy_writes),
        TEST(archives_go_round),
        TEST(what_numpy_has_no_type_for_is_not_written),
        TEST(types_that_are_not_ours_are_named),
        TEST(damaged_headers_are_refused_with_the_reason),
        TEST(damaged_archives_are_refused),
        TEST(the_corpus_crashes_nothing),
    };
    return cmocka_run_group_tests_name("npy", tests, NULL, NULL);
}
