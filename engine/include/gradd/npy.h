/* SPDX-License-Identifier: Apache-2.0 */
/*
 * npy: NumPy's array files.
 *
 *   .npy   "\x93NUMPY", major, minor, header length (2 bytes in version 1, 4 in 2 and 3, little-endian), header: a
 *          Python dict {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, then the elements
 *   .npz   a zip archive of members NAME.npy, stored or deflated
 *
 * Read: versions 1 to 3, both byte orders, C and Fortran order, archives with and without zip64. NumPy's f4 f8 f2 i8 i4
 * u1 b1 become f32 f64 f16 i64 i32 u8 bool; i1 i2 u2 are widened to i32 and u4 to i64, without loss. Refused as
 * ST_ERR_UNSUPPORTED: other types (u8 = uint64, complex, structured, strings, pickled objects), more than 8 dimensions,
 * encrypted archives, other compressions. Headers over 1 MiB, sizes that the file hasn't got, bytes after the last
 * element, wrong checksums: ST_ERR_CORRUPT. Every message names the file (and the member).
 * Written: version 1, little-endian, C order; bf16, which NumPy has no type for, is ST_ERR_UNSUPPORTED.
 */
#ifndef GRADD_NPY_H
#define GRADD_NPY_H

#include "gradd/tensor.h"

/*
 * Owned handle of one array: opening reads the header only, the elements stay in the mapped file (a deflated member of
 * an archive is inflated). Several threads may read from one handle.
 */
typedef struct gd_npy gd_npy_t;
status_t gd_npy_open(const char *path, gd_npy_t **npy_p);
void gd_npy_close(gd_npy_t *npy); /* NULL is fine */
gd_dtype_t gd_npy_dtype(const gd_npy_t *npy);
int gd_npy_n_dims(const gd_npy_t *npy);
const int64_t *gd_npy_shape(const gd_npy_t *npy); /* borrowed */
/* The elements in place, row-major; NULL where they have to be converted or aligned first: read them instead. */
const void *gd_npy_data(const gd_npy_t *npy);
/*
 * Elements [begin, end) of the first axis, row-major, as gd_npy_dtype, into out (room for (end - begin) rows). A
 * 0-d array has the one row 0. ST_ERR_RANGE unless 0 ≤ begin ≤ end ≤ rows.
 */
status_t gd_npy_read_rows(const gd_npy_t *npy, int64_t begin, int64_t end, void *out);
/* The whole array as a tensor. */
status_t gd_npy_read(const gd_npy_t *npy, gd_tensor_t **t_p);

/* A whole .npy file as a tensor, and back (created or truncated, fsynced; any strides). */
status_t gd_npy_load(const char *path, gd_tensor_t **t_p);
status_t gd_npy_save(const char *path, const gd_tensor_t *t);

/* Owned handle of an archive; its arrays, in the archive's order, have their names without ".npy". Members that aren't
 * arrays are left out. */
typedef struct gd_npz gd_npz_t;
status_t gd_npz_open(const char *path, gd_npz_t **npz_p);
void gd_npz_close(gd_npz_t *npz); /* NULL is fine */
int gd_npz_count(const gd_npz_t *npz);
const char *gd_npz_name(const gd_npz_t *npz, int index); /* NULL when out of range */
/* One array, to be closed before the archive. Its checksum is verified. ST_ERR_NOT_FOUND names the arrays there are. */
status_t gd_npz_get(const gd_npz_t *npz, const char *name, gd_npy_t **npy_p);
/* names[n] and tensors[n] into an archive like numpy.savez's, or savez_compressed's. ST_ERR_INVAL: a name given twice
 * or empty. */
status_t gd_npz_save(const char *path, const char *const *names, gd_tensor_t *const *tensors, int n,
                     bool is_compressed);

#endif
