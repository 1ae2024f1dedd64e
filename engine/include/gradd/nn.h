/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nn: modules: named parameters, buffers and children with a forward function.
 *
 * Ownership: gd_module_t is counted; a parent owns references to its children. A module of one's own is a struct that
 * begins with gd_module_t, a gd_module_ops_t, and a constructor that calls gd_module_new and adds parameters.
 * Names are PyTorch's: "0.weight", "features.3.bias", "running_mean".
 */
#ifndef GRADD_NN_H
#define GRADD_NN_H

#include "gradd/autograd.h"
#include "gradd/ops.h"

typedef struct gd_module gd_module_t;
typedef struct gd_module_hooks gd_module_hooks_t;
typedef struct gd_sequence gd_sequence_t; /* gradd/sequence.h */

typedef struct gd_module_ops {
    const char *kind; /* "linear" */
    /* Borrows x; y_p receives a new reference. */
    status_t (*forward)(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p);
    /* The same for an x that the caller lets go of and doesn't read again: y may lie in its memory. NULL: forward. */
    status_t (*forward_last)(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p);
    /* Frees what the struct owns besides parameters, buffers and children; NULL: nothing. */
    void (*release)(gd_module_t *self);
    /* Appends "in 3, out 5" for error messages and summaries; NULL: nothing. */
    void (*describe)(const gd_module_t *self, strbuf_t *text);
} gd_module_ops_t;

typedef enum gd_init_kind {
    GD_INIT_ZEROS,
    GD_INIT_ONES,
    GD_INIT_CONSTANT,        /* a */
    GD_INIT_NORMAL,          /* mean a, standard deviation b */
    GD_INIT_UNIFORM,         /* [a, b) */
    GD_INIT_XAVIER_UNIFORM,  /* gain a */
    GD_INIT_XAVIER_NORMAL,   /* gain a */
    GD_INIT_KAIMING_UNIFORM, /* negative slope a; PyTorch's default for linear and conv is a = sqrt(5) */
    GD_INIT_KAIMING_NORMAL,  /* negative slope a, fan-in */
    GD_INIT_TRUNC_NORMAL,    /* mean a, standard deviation b, within [c, d] */
    GD_INIT_EYE,             /* matrices: 1 on the diagonal */
    GD_INIT_DIRAC,           /* convolutions: channels pass, in a groups (0: 1) */
    GD_INIT_ORTHOGONAL,      /* gain a; [rows, the rest] has orthonormal rows or columns (Saxe et al., ICLR 2014) */
    GD_INIT_SPARSE,          /* matrices: share a of each column is 0, the rest normal with deviation b */
    GD_INIT_COUNT
} gd_init_kind_t;

typedef struct gd_init {
    gd_init_kind_t kind;
    double a, b, c, d;
    double gain;       /* of kaiming: above 0, in place of that of the slope a; see gd_init_gain */
    bool uses_fan_out; /* of kaiming */
    int64_t zero_row;  /* 1 + a row that is 0 in the end, 0: none */
} gd_init_t;

/* What keeps the variance before a nonlinearity, as torch.nn.init.calculate_gain; slope of LEAKY_RELU. */
typedef enum gd_gain { GD_GAIN_LINEAR, GD_GAIN_TANH, GD_GAIN_RELU, GD_GAIN_LEAKY_RELU, GD_GAIN_SELU } gd_gain_t;
double gd_init_gain(gd_gain_t nonlinearity, double slope);

/* Embedded at the start of every module's struct. Fields are read by all, changed only through the functions. */
typedef struct gd_parameter {
    char *name; /* the own name, "weight" */
    gd_tensor_t *tensor;
    gd_init_t init;
    bool is_buffer;
    bool is_shared; /* another module's: not visited here */
} gd_parameter_t;

struct gd_module {
    const gd_module_ops_t *ops;
    int n_refs;
    char *path;                 /* "transformer.h.0.attn", set by gd_module_set_paths; "" before */
    uint32_t layer;             /* hash of path: the random-number layer */
    gd_parameter_t *parameters; /* and buffers, in order of registration */
    int n_parameters;
    char **child_names;
    gd_module_t **children;
    int n_children;
    /* Batch statistics: see gd_module_statistics_size. Set by modules that have running buffers. */
    gd_tensor_t *batch_mean, *batch_var;
    double momentum;
    int64_t statistics_channels; /* C; 0: a module without running buffers */
    int64_t statistics_count;    /* elements per channel behind batch_var */
    bool has_parent;
    gd_module_hooks_t *hooks; /* NULL: none */
    bool is_checkpointed;
    char *place; /* "gpt.yaml:12", for messages; NULL: not built from a file */
};

/* A zeroed struct of `size` bytes that begins with gd_module_t. */
status_t gd_module_new(const gd_module_ops_t *ops, size_t size, gd_module_t **module_p);
gd_module_t *gd_module_ref(gd_module_t *module);
gd_module_t *gd_module_unref(gd_module_t *module);

/* f32, requires grad (parameters), zero until gd_module_initialise. *tensor_p (may be NULL): borrowed from the module.
 * gd_flat_open puts other tensors in their place: forward functions read module->parameters[i].tensor. Own names have
 * no dots and are unique among a module's parameters, buffers and children (ST_ERR_INVAL, ST_ERR_EXISTS). */
status_t gd_module_add_parameter(gd_module_t *module, const char *name, int n_dims, const int64_t *shape,
                                 gd_init_t init, gd_tensor_t **tensor_p);
status_t gd_module_add_buffer(gd_module_t *module, const char *name, int n_dims, const int64_t *shape, double value,
                              gd_tensor_t **tensor_p);
/* Shares another module's parameter (a tied head): same tensor, listed once, under its first owner's name. */
status_t gd_module_share_parameter(gd_module_t *module, const char *name, gd_tensor_t *tensor);
/* Takes a reference of its own to child, which may have one parent only (ST_ERR_STATE). A child's name may have dots
 * ("output.dense"), as if modules in between held it. */
status_t gd_module_add_child(gd_module_t *module, const char *name, gd_module_t *child);
/* The same for a child without a name: what is in it is named as if it were the module's own. Add it when it is
 * complete: its names are checked against the module's now (ST_ERR_EXISTS). */
status_t gd_module_add_inline_child(gd_module_t *module, gd_module_t *child);

/*
 * While on, modules made on this thread have parameters and buffers with shapes but without memory for them (all
 * elements are one): to count and to list what doesn't fit into memory, as PyTorch's device "meta". Such modules can't
 * be initialised or trained (ST_ERR_STATE). Returns what was set before.
 */
bool gd_meta_set_enabled(bool is_enabled);

/*
 * From now on gd_module_forward keeps the module's input alone and its backward runs the forward once more: see
 * gd_checkpoint, also for what stays the same. Hooks on the module itself run once.
 */
void gd_module_set_checkpoint(gd_module_t *module, bool is_checkpointed);

/* Where the module stands in a model file, for messages. */
status_t gd_module_set_place(gd_module_t *module, const char *file, int line);

/* Calls forward; an error gets the path and kind of the innermost module in front. */
status_t gd_module_forward(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p);
/* The same for an x that the caller lets go of and doesn't read again: y may lie in its memory. */
status_t gd_module_forward_last(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p);

/*
 * Hooks on modules, as in PyTorch: to look at activations and gradients, or to change them, without touching the model.
 * They run within gd_module_forward, and the backward ones within gd_backward and gd_grad; several run in order of
 * being added. What a hook gives (a new reference through _p, NULL before the call) takes the value's place; an error
 * ends the forward or backward with it. arg is borrowed. hook_p (may be NULL: as long as the module): see
 * gd_hook_remove.
 */
/* Before forward; *x_p: another input. */
typedef status_t (*gd_module_forward_pre_hook_func_t)(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **x_p,
                                                      void *arg);
/* After forward; *y_p: another output. */
typedef status_t (*gd_module_forward_hook_func_t)(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *y,
                                                  gd_tensor_t **y_p, void *arg);
/* When the gradient dx of the input is complete; dx is NULL where the input requires none, and the hook then runs when
 * the gradient dy of the output is complete. *dx_p: another gradient, of dx's shape and dtype. */
typedef status_t (*gd_module_backward_hook_func_t)(gd_module_t *module, gd_tensor_t *dx, gd_tensor_t *dy,
                                                   gd_tensor_t **dx_p, void *arg);
status_t gd_module_add_forward_pre_hook(gd_module_t *module, gd_module_forward_pre_hook_func_t func, void *arg,
                                        gd_hook_t **hook_p);
status_t gd_module_add_forward_hook(gd_module_t *module, gd_module_forward_hook_func_t func, void *arg,
                                    gd_hook_t **hook_p);
status_t gd_module_add_backward_hook(gd_module_t *module, gd_module_backward_hook_func_t func, void *arg,
                                     gd_hook_t **hook_p);

/* Sets path and layer in the whole tree; call once after building, before training. */
status_t gd_module_set_paths(gd_module_t *root);
/* Draws every parameter by its init from (seed, hash of its full name): independent of order and of other layers. */
status_t gd_module_initialise(gd_module_t *root, uint64_t seed);

/* Calls visit for each parameter and buffer once, depth first, in order of registration; stops at the first error.
 * The visitor may change parameter, full_name is its own only for the call. */
typedef status_t (*gd_parameter_visit_func_t)(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner,
                                              void *arg);
status_t gd_module_visit(gd_module_t *root, gd_parameter_visit_func_t visit, void *arg);
/* The same with shared parameters under each of their names. */
status_t gd_module_visit_shared(gd_module_t *root, gd_parameter_visit_func_t visit, void *arg);

/*
 * Batch statistics. In training, batch_norm leaves its batch's mean and variance (biased) in the module. The size of
 * all of them together is 2·ΣC floats. A step's microbatches export theirs, and every rank applies all of them in
 * microbatch order: running = (1 - momentum) running + momentum · batch, with the unbiased variance. So the running
 * buffers don't depend on the layout. A record, record_p[size], holds mean and unbiased variance; export hands a
 * forward's statistics out once (ST_ERR_STATE when there was none since).
 */
int64_t gd_module_statistics_size(gd_module_t *root);
status_t gd_module_statistics_export(gd_module_t *root, float *record_p);
/* For forward functions: takes a batch's mean[C] and biased variance[C], each over `count` elements, into the module;
 * drops them in the second run of a checkpointed segment. */
void gd_module_statistics_keep(gd_module_t *module, gd_tensor_t *mean, gd_tensor_t *var, int64_t count);
/* Moves the running buffers by one microbatch's record; once for each, in order. */
status_t gd_module_statistics_apply(gd_module_t *root, const float *record);

/*
 * Constructors. Weights, layouts and initialisations are those of PyTorch's modules of the same name; *module_p: a new
 * reference. ST_ERR_RANGE, ST_ERR_INVAL, ST_ERR_SHAPE: a number that is impossible or doesn't fit another;
 * ST_ERR_NOMEM. What doesn't fit an input is said by gd_module_forward.
 */
/* x[…,n_in] → y[…,n_out]: weight[n_out,n_in], bias[n_out]. */
status_t gd_linear_new(int64_t n_in, int64_t n_out, bool has_bias, gd_module_t **module_p);
/* A linear layer over another module's weight[n_out, n_in] (an embedding's: a tied head), which stays its owner. */
status_t gd_linear_tied_new(gd_tensor_t *weight, bool has_bias, gd_module_t **module_p);
/* x[B,c_in,H,W] → y[B,c_out,H',W']: weight[c_out,c_in/groups,KH,KW], bias[c_out]; options as in gd_conv2d. */
status_t gd_conv2d_new(int64_t c_in, int64_t c_out, const int kernel[2], const gd_conv2d_options_t *options,
                       bool has_bias, gd_module_t **module_p);
/* x[B,channels,H,W], weight and bias [channels], buffers running_mean and running_var [channels], which take momentum
 * of a batch's statistics: see gd_module_statistics_size. epsilon above 0. */
status_t gd_batch_norm2d_new(int64_t channels, double epsilon, double momentum, gd_module_t **module_p);
/* Over the last axis of x[…,width]: weight and bias [width]; epsilon above 0. */
status_t gd_layer_norm_new(int64_t width, double epsilon, bool has_bias, gd_module_t **module_p);
/* ids[…] (i64, i32 or u8) in 0 … count-1 → […,width]: weight[count,width]. */
status_t gd_embedding_new(int64_t count, int64_t width, gd_module_t **module_p);
/* y[B,T,C] = x[B,T,C] + weight[0 … T-1]; ST_ERR_SHAPE when T > count. */
status_t gd_position_embedding_new(int64_t count, int64_t width, gd_module_t **module_p);
/* x[B,T,C] → [B,T,C], C = width, which n_heads divide. Children "qkv" (linear C → 3C) and "proj" (linear C → C);
 * dropout, in [0, 1], acts on the output of proj. */
status_t gd_attention_new(int64_t width, int n_heads, bool is_causal, bool has_bias, double dropout,
                          gd_module_t **module_p);
/* [B,C,H,W] → [B,C,H',W']: see gd_max_pool2d. */
status_t gd_max_pool2d_new(const gd_pool2d_options_t *options, gd_module_t **module_p);
status_t gd_avg_pool2d_new(const gd_pool2d_options_t *options, gd_module_t **module_p);
status_t gd_global_avg_pool2d_new(gd_module_t **module_p); /* [B,C,H,W] → [B,C,1,1] */
/* In training: zero with the probability p, in [0, 1], the rest divided by 1 - p; the input itself in evaluation. */
status_t gd_dropout_new(double p, gd_module_t **module_p);
status_t gd_flatten_new(gd_module_t **module_p); /* [B,…] → [B,rest] */
typedef enum gd_activation {
    GD_ACTIVATION_RELU,
    GD_ACTIVATION_GELU,
    GD_ACTIVATION_GELU_TANH,
    GD_ACTIVATION_TANH,
    GD_ACTIVATION_SIGMOID,
    GD_ACTIVATION_SILU,
    GD_ACTIVATION_RELU6,
    GD_ACTIVATION_LEAKY_RELU, /* slope 0.01 */
    GD_ACTIVATION_ELU,        /* alpha 1 */
    GD_ACTIVATION_SELU,
    GD_ACTIVATION_CELU,     /* alpha 1 */
    GD_ACTIVATION_HARDTANH, /* lowest -1, highest 1 */
    GD_ACTIVATION_HARDSIGMOID,
    GD_ACTIVATION_HARDSWISH,
    GD_ACTIVATION_SOFTPLUS, /* beta 1, threshold 20 */
    GD_ACTIVATION_SOFTSIGN,
    GD_ACTIVATION_SOFTSHRINK, /* width 0.5 */
    GD_ACTIVATION_HARDSHRINK, /* width 0.5 */
    GD_ACTIVATION_TANHSHRINK,
    GD_ACTIVATION_LOG_SIGMOID,
    GD_ACTIVATION_MISH,
    GD_ACTIVATION_THRESHOLD, /* threshold 0, value 0 */
    GD_ACTIVATION_COUNT
} gd_activation_t;
status_t gd_activation_new(gd_activation_t activation, gd_module_t **module_p);
/* With other numbers than the defaults that stand beside the kinds, in their order: ELU's alpha is a, SOFTPLUS' beta a
 * and its threshold b; where a kind has fewer they aren't read. */
status_t gd_activation_with_new(gd_activation_t activation, double a, double b, gd_module_t **module_p);
/* Runs its children in order of being added. */
status_t gd_sequential_new(gd_module_t **module_p);
/* x + children in order (x). Shapes must agree: ST_ERR_SHAPE names both. */
status_t gd_residual_new(gd_module_t **module_p);
/* Children that are added to the residual from now on are its shortcut: shortcut(x) + children (x). */
void gd_residual_begin_shortcut(gd_module_t *residual);
typedef enum gd_combine { GD_COMBINE_CAT, GD_COMBINE_ADD, GD_COMBINE_MUL, GD_COMBINE_COUNT } gd_combine_t;
/* Runs each child on x and combines what they give: concatenated along axis (CAT), summed or multiplied in order. */
status_t gd_parallel_new(gd_combine_t combine, int axis, gd_module_t **module_p);
status_t gd_identity_new(gd_module_t **module_p);
/* y = x W + b with weight[n_in, n_out]: how Hugging Face's GPT-2 stores its linear layers (Conv1D). */
status_t gd_linear_transposed_new(int64_t n_in, int64_t n_out, bool has_bias, gd_module_t **module_p);
bool gd_module_linear_is_transposed(const gd_module_t *module);
/* qkv[B,T,3C] → [B,T,C]: attention without its projections. */
status_t gd_attend_new(int n_heads, bool is_causal, gd_module_t **module_p);
/* x[B,T,…] → x[:, index]; index < 0 counts from the end. */
status_t gd_select_new(int64_t index, gd_module_t **module_p);
/* Mean over the axes (≥ 1, the batch is axis 0), which are gone from the result. */
status_t gd_mean_over_new(int n_axes, const int *axes, gd_module_t **module_p);
status_t gd_transpose_axes_new(int axis_a, int axis_b, gd_module_t **module_p);
/* Samples get this shape; one size may be -1. */
status_t gd_reshape_samples_new(int n_dims, const int64_t *shape, gd_module_t **module_p);
status_t gd_tokens_new(gd_module_t **module_p); /* [B,C,H,W] → [B,H·W,C]: an image's places as tokens */
/* y[B,T,C] = x[B,T,C] + weight[0]: the type of the first segment, for data that have no second one (BERT). */
status_t gd_token_type_embedding_new(int64_t count, int64_t width, gd_module_t **module_p);
/* y[B,count+T,C]: the parameter `name`[1,count,C] before x[B,T,C], as ViT's class token. */
status_t gd_prepend_parameter_new(const char *name, int64_t count, int64_t width, gd_module_t **module_p);
/* y = x + the parameter `name`[1, shape of a sample]. */
status_t gd_add_parameter_new(const char *name, int n_dims, const int64_t *sample, gd_module_t **module_p);
/* Sets how a parameter added by a constructor is initialised; ST_ERR_NOT_FOUND for an unknown own name. */
status_t gd_module_set_init(gd_module_t *module, const char *name, gd_init_t init);

/* ---- attention.c ---- */
/* Names of the parameters. PACKED: children qkv and proj. TORCH: in_proj_weight[3C,C], in_proj_bias[3C], out_proj, as
 * torch.nn.MultiheadAttention. SEPARATE: four linear children. */
typedef enum gd_multihead_layout {
    GD_MULTIHEAD_PACKED,
    GD_MULTIHEAD_TORCH,
    GD_MULTIHEAD_SEPARATE,
    GD_MULTIHEAD_COUNT
} gd_multihead_layout_t;
typedef struct gd_multihead_options {
    gd_multihead_layout_t layout;
    const char *names[4]; /* SEPARATE: queries, keys, values, output; NULL: q_proj k_proj v_proj o_proj; borrowed */
    int64_t width;        /* C of x and of the result */
    int n_heads;
    int n_key_heads;    /* 0: n_heads; fewer: grouped-query attention (Ainslie et al., 2023) */
    int64_t head_width; /* 0: width / n_heads */
    bool has_bias;
    bool is_causal;
    bool has_alibi;
    int64_t window;    /* 0: none; see gd_sdpa_options_t */
    double scale;      /* 0: 1/sqrt(head_width) */
    double rope_theta; /* 0: no rope */
    int rope_rotated;  /* features of a head; 0: all */
    bool is_rope_interleaved;
    double rope_scaling; /* this and the next: see gd_rope_options_t */
    int64_t rope_old_context;
    double rope_low_factor, rope_high_factor;
    double weight_dropout; /* of the attention's weights */
    double dropout;        /* of the result */
} gd_multihead_options_t;
status_t gd_multihead_new(const gd_multihead_options_t *options, gd_module_t **module_p);
/* Borrowed; see gd_sdpa_options_t. */
typedef struct gd_multihead_masks {
    gd_tensor_t *mask;
    gd_tensor_t *lengths;
} gd_multihead_masks_t;
/* gd_module_forward of such a module with masks (NULL: none), or with keys and values of another sequence: x[B,T,C],
 * memory[B,S,C] (NULL: x itself; not for PACKED) → y[B,T,C]. */
status_t gd_multihead_attend(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *memory,
                             const gd_multihead_masks_t *masks, gd_tensor_t **y_p);

/* ---- transformer.c ---- */
typedef struct gd_transformer_options {
    int64_t width;
    int n_heads;
    int64_t feedforward;        /* width of the hidden layer */
    double dropout;             /* where PyTorch has it: attention's weights, hidden layer, each branch's result */
    gd_activation_t activation; /* RELU, GELU, GELU_TANH or SILU */
    bool is_norm_first;
    bool has_bias;
    bool is_causal; /* of the attention to the own sequence */
    double epsilon; /* of the norms; 0: 1e-5 */
} gd_transformer_options_t;
/* As torch.nn.TransformerEncoderLayer and TransformerDecoderLayer with batch_first, parameters too: self_attn,
 * multihead_attn, linear1, linear2, norm1, norm2, norm3. x[B,T,C] → y[B,T,C]. */
status_t gd_transformer_encoder_layer_new(const gd_transformer_options_t *options, gd_module_t **module_p);
status_t gd_transformer_decoder_layer_new(const gd_transformer_options_t *options, gd_module_t **module_p);
/* gd_module_forward with masks (NULL: none). */
status_t gd_transformer_encoder_layer_run(gd_module_t *module, gd_tensor_t *x, const gd_multihead_masks_t *masks,
                                          gd_tensor_t **y_p);
/* memory[B,S,C]: what the encoder gave; masks: of x, memory_masks: of the memory; NULL: none. */
status_t gd_transformer_decoder_layer_run(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *memory,
                                          const gd_multihead_masks_t *masks, const gd_multihead_masks_t *memory_masks,
                                          gd_tensor_t **y_p);
/* down(f(gate(x)) · up(x)): SwiGLU with SILU, GEGLU with GELU. names (NULL: gate_proj, up_proj, down_proj): of the
 * three linear children. */
status_t gd_gated_mlp_new(int64_t width, int64_t hidden, gd_gate_t gate, bool has_bias, const char *const names[3],
                          gd_module_t **module_p);
/* y[B,T,C] = x[B,T,C] + sines and cosines of the position (Vaswani et al., 2017); no parameters. */
status_t gd_sinusoidal_positions_new(gd_module_t **module_p);

/* ---- recurrent.c ---- */
typedef struct gd_recurrent_options {
    gd_rnn_kind_t kind;
    int64_t width; /* hidden units, PyTorch's hidden_size */
    int layers;    /* 0: 1 */
    bool is_bidirectional;
    bool has_bias;
    double dropout;     /* between layers */
    int64_t projection; /* lstm: outputs and states of this width, below `width`; 0: none */
} gd_recurrent_options_t;
/* x[B,T,input] → y[B,T,R], R the width (or the projection), twice that where bidirectional; states begin as zeros. As
 * torch.nn.RNN, LSTM and GRU with batch_first, parameters too: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0,
 * weight_hr_l0, weight_ih_l0_reverse, … For other first states see gd_rnn. */
status_t gd_recurrent_new(int64_t input, const gd_recurrent_options_t *options, gd_module_t **module_p);

#endif
