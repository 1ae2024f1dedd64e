/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op: an op is a row. One line in engine/ops/ops.def gives it an id; its family's file in engine/ops/ defines the row
 * `const gd_op_t gd_op_<name>`; each backend's table has its kernel. Dispatch, autograd, the table test, docs and
 * export read the row. Attributes (non-tensor arguments) are described in the row's .attrs text.
 */
#ifndef GRADD_OP_H
#define GRADD_OP_H

#include "gradd/tensor.h"

typedef enum gd_op_id {
#define GD_OP(ENUM, name) GD_OP_##ENUM,
#include "ops/ops.def"
#undef GD_OP
    GD_OP_COUNT
} gd_op_id_t;

enum { GD_MAX_SAMPLES = 20 };

/* What the node keeps for backward. INPUTS_FOR_OTHERS: an input only where another one's gradient is wanted. */
enum { GD_SAVE_NONE = 0, GD_SAVE_INPUTS = 1, GD_SAVE_OUTPUTS = 2, GD_SAVE_INPUTS_FOR_OTHERS = GD_SAVE_INPUTS | 4 };

/*
 * What gd_autocast_set does with an op's floating inputs. KEEP and WIDEST: nothing while they have one dtype, else all
 * get the widest; LOWER: they get the mode's dtype; F32: 16-bit ones get f32. An op whose row doesn't claim the dtype
 * that would come out computes in f32. f64 is left alone.
 */
typedef enum gd_autocast { GD_AUTOCAST_KEEP, GD_AUTOCAST_LOWER, GD_AUTOCAST_F32, GD_AUTOCAST_WIDEST } gd_autocast_t;

/* Shape and dtype of an output; strides too when is_view: the output shares the first input's storage. */
typedef struct gd_meta {
    gd_dtype_t dtype;
    int n_dims;
    int64_t shape[GD_MAX_DIMS];
    int64_t stride[GD_MAX_DIMS];
    int64_t offset; /* elements from the input's first element; views only */
} gd_meta_t;

typedef struct gd_node gd_node_t;

/*
 * A recorded application of an op; what backward functions get. in[] and out[] are there as .saves says (out[] without
 * their graph), needs[i] says whether dx[i] is wanted.
 */
struct gd_node {
    const struct gd_op *op;
    gd_op_id_t id;
    int n_in;
    int n_out;
    gd_tensor_t *in[GD_MAX_IN];
    gd_tensor_t *out[GD_MAX_OUT];
    bool needs[GD_MAX_IN];
    gd_meta_t in_meta[GD_MAX_IN];     /* shape and dtype of every input, saved or not */
    gd_dtype_t grad_dtype[GD_MAX_IN]; /* the input's; f32 where it stands for an f32 leaf: dx[i] had best be of it */
    gd_attrs_t attrs;
    /*
     * Where dx[i] may be written directly: a leaf's gradient buffer, of grad_dtype[i], or, where the row says
     * adds_to_sums, what others have contributed to the input's gradient so far. NULL: return a tensor in dx[i].
     * When a backward function uses it (adding if into_accumulates[i], overwriting otherwise), it leaves dx[i] NULL and
     * sets is_written[i]. Using it is an optimisation and never required.
     */
    gd_tensor_t *into[GD_MAX_IN];
    bool into_accumulates[GD_MAX_IN];
    bool is_written[GD_MAX_IN];
};

/* One sample of the table test. Inputs are filled with deterministic numbers in [lo, hi] (default [-1, 1]); an
 * integer input with 0 … int_limit - 1. expect: ST_OK, or the error that op must return. */
typedef struct gd_sample {
    struct {
        int n_dims;
        int64_t shape[GD_MAX_DIMS];
        gd_dtype_t dtype; /* F32 unless said: the test runs it in every floating dtype the op claims */
        int64_t int_limit;
        double lo, hi;
        bool is_absent; /* an optional input left out */
        bool no_grad;   /* not differentiable with respect to this input */
    } in[GD_MAX_IN];
    int n_in;
    gd_attrs_t attrs;
    status_t expect;
} gd_sample_t;

typedef struct gd_op {
    const char *name;    /* "matmul" */
    const char *formula; /* "y[m,n] = sum_k a[m,k] b[k,n]" */
    const char *attrs;   /* "i0 axis; f0 epsilon"; NULL: none */
    int n_in;            /* most inputs; optional ones at the end may be NULL */
    int n_in_required;
    int n_out; /* outputs past the first are auxiliary: saved statistics, indices; no gradient flows through them */
    unsigned dtypes; /* bit per gd_dtype_t of the first input that the op computes in; 0: f32 and f64 */
    bool promotes;   /* inputs may have several dtypes, and .dtypes is about what they have in common */
    unsigned saves;
    unsigned saves_in;  /* the inputs that GD_SAVE_INPUTS is about, a bit each; 0: all */
    unsigned saves_out; /* the outputs that GD_SAVE_OUTPUTS is about */
    gd_autocast_t autocast;
    bool is_view; /* no kernel: infer gives strides and offset */
    bool is_random;
    bool is_elementwise; /* element i of the result comes from elements i of the inputs: it may be written over one */
    unsigned contiguous_in; /* inputs, a bit each, that the kernel wants contiguous: others are copied before */
    unsigned f32_in; /* inputs, a bit each, that the kernel gets as f32 beside 16-bit ones: parameters, statistics */
    bool has_bf16_products; /* bf16 isn't converted where the processor multiplies it */
    unsigned by_conversion; /* a bit per gd_dtype_t that the kernel gets and gives as f32 copies: correct, not fast */
    /* Checks inputs and fills out[0 … n_out-1]. Errors name the op and the shapes: "matmul: a [3, 4] and b [5, 2]: …"
     */
    status_t (*infer)(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out);
    /* dx[i] for each needs[i]: new references, of in_meta[i]'s shape and any floating dtype. dy[0] is there; NULL: not
     * differentiable. */
    status_t (*backward)(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx);
    bool adds_to_sums; /* backward adds to into[i] with the bits that add would give */
    float grad_tol;    /* relative, for f32 finite differences where the op has no f64 kernel; 0: 1e-2 */
    const char *onnx;  /* ONNX operator, NULL: none by itself */
    gd_sample_t sample[GD_MAX_SAMPLES];
} gd_op_t;

/* A kernel's arguments. Absent optional inputs have data NULL and n_dims 0. Outputs are contiguous unless the kernel
 * is called to write into a gradient buffer (also contiguous). */
typedef struct gd_kernel_args {
    const gd_view_t *in;
    int n_in;
    gd_view_t *out;
    int n_out;
    const gd_attrs_t *attrs;
    int n_threads;
} gd_kernel_args_t;

typedef status_t (*gd_kernel_func_t)(const gd_kernel_args_t *args);

const gd_op_t *gd_op_get(gd_op_id_t id);
/* ST_ERR_NOT_FOUND for an unknown name. */
status_t gd_op_find(const char *name, gd_op_id_t *id_p);

/*
 * Runs an op: checks, allocates, computes, records. in[n_in]: borrowed, NULL for absent optional ones. out_p[n_out of
 * the row]: new references, auxiliary outputs too. attrs may be NULL (all zero).
 * Errors: infer's; ST_ERR_UNSUPPORTED naming op, dtype and device where the backend has no kernel.
 */
status_t gd_op_apply(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t **out_p);
/*
 * The same of an elementwise op; spare: one of its inputs, of which the caller is about to let go, or NULL. Where
 * nobody else sees it and backward doesn't need it, the first output takes its memory.
 */
status_t gd_op_apply_reusing(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                             const gd_tensor_t *spare, gd_tensor_t **out_p);
/* gd_op_apply with the first output computed into a given contiguous tensor of the right shape and dtype; no graph. */
status_t gd_op_apply_into(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t *out);
/* The same with out_p[n_out of the row]: the first one is given, others where not NULL; those left NULL are made, new
 * references. On failure none is left that was made here. */
status_t gd_op_apply_outputs(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                             gd_tensor_t **out_p);

/* Helpers for infer functions. gd_meta_broadcast: the shape that a and b broadcast to, and their common dtype. */
void gd_meta_like(const gd_tensor_t *t, gd_meta_t *meta_p);
status_t gd_meta_broadcast(const char *op, const gd_tensor_t *a, const gd_tensor_t *b, gd_meta_t *meta_p);

#endif
