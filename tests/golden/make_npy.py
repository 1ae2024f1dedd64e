#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes npy/ with NumPy: what tests/engine/test_npy.c reads, and compares its own files with. Needs: numpy"""
import io
import pathlib
import zipfile

import numpy as np

here = pathlib.Path(__file__).parent / "npy"
here.mkdir(exist_ok=True)
ramp = np.arange(24).reshape(2, 3, 4)
arrays = {
    "f32": (ramp / 4 - 1).astype("<f4"),
    "f64": (ramp / 4 - 1).astype("<f8"),
    "f16": (ramp / 4 - 1).astype("<f2"),
    "i64": (ramp * 2**33 - 7).astype("<i8"),
    "i32": (ramp * 1000 - 7).astype("<i4"),
    "u8": (ramp * 10).astype("u1"),
    "bool": ramp % 3 == 0,
    "scalar": np.array(2.5, "<f4"),
    "row": np.array([1, 2, 3], "<f4"),
    "empty": np.zeros((3, 0, 2), "<f4"),
}
np.savez(here / "stored.npz", **arrays)
np.savez_compressed(here / "deflated.npz", **arrays)
# what is read but never written: other byte orders, Fortran order, types that are widened
foreign = {
    "big_f4": arrays["f32"].astype(">f4"),
    "big_i8": arrays["i64"].astype(">i8"),
    "fortran": np.asfortranarray(arrays["f32"]),
    "fortran_big": np.asfortranarray(arrays["f64"].astype(">f8")),
    "i1": (ramp - 12).astype("i1"),
    "i2": (ramp * 1000 - 12000).astype("<i2"),
    "big_u2": (ramp * 2500).astype(">u2"),
    "u4": (ramp * 170000000).astype("<u4"),
}
np.savez(here / "foreign.npz", **foreign)


def version(array, number):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=number)
    return file.getvalue()


(here / "v1.npy").write_bytes(version(arrays["f32"], (1, 0)))
(here / "v2.npy").write_bytes(version(arrays["f32"], (2, 0)))
(here / "v3.npy").write_bytes(version(arrays["f32"], (3, 0)))
(here / "complex.npy").write_bytes(version(arrays["f32"].astype("<c8"), (1, 0)))
(here / "structured.npy").write_bytes(version(np.zeros(2, [("a", "<f4"), ("b", "<i4")]), (1, 0)))
np.save(here / "object.npy", np.array([{}, None]), allow_pickle=True)

corpus = here.parents[1] / "fuzz" / "corpus" / "npy"
corpus.mkdir(exist_ok=True)
for name in ("v1.npy", "v2.npy", "stored.npz", "deflated.npz", "foreign.npz"):
    (corpus / name).write_bytes((here / name).read_bytes())
with zipfile.ZipFile(corpus / "zip64.npz", "w", zipfile.ZIP_DEFLATED) as archive:
    with archive.open("x.npy", "w", force_zip64=True) as member:
        member.write(version(arrays["u8"], (1, 0)))
