/* SPDX-License-Identifier: Apache-2.0 */
/* heap_jobs: the lists. Images are [1, 8, 8] of 5 classes, texts 16 tokens of 27: see session_runs.h. */
#include "tests/worker/heap_jobs.h"

#include <stddef.h>

#define IMAGE_END ", flatten, {linear: {out: 5}}]"

const heap_job_t heap_convolutions[] = {
    {"[{conv2d: {out: 6, kernel: [3], padding: [2], dilation: [2]}}, relu, {conv2d: {out: 9, kernel: [3], groups: 3, "
     "padding: [1], stride: [2]}}, relu, {conv2d: {out: 9, kernel: [3], groups: 9}}" IMAGE_END,
     {NULL}},
    {"[{conv2d: {out: 8, kernel: [1], bias: false}}, {conv2d: {out: 16, kernel: [3], groups: 8, dilation: [2], "
     "padding: "
     "[2]}}, relu, {conv2d: {out: 16, kernel: [5], groups: 16, dilation: [2], padding: [4], bias: false}}, "
     "{conv2d: {out: 4, kernel: [3, 1], stride: [2, 1], groups: 2}}" IMAGE_END,
     {NULL}},
    {"[{conv2d: {out: 64, kernel: [3], padding: [1]}}, relu, {conv2d: {out: 64, kernel: [3], groups: 64, dilation: "
     "[2], "
     "padding: [2]}}, {conv2d: {out: 96, kernel: [1], groups: 4}}, relu, {conv2d: {out: 128, kernel: [3], groups: 32, "
     "padding: [1]}}, {conv2d: {out: 10, kernel: [5], padding: [2]}}, {conv2d: {out: 33, kernel: [3], dilation: [3], "
     "padding: [3]}}" IMAGE_END,
     {NULL}},
    {"[{conv_transpose2d: {out: 5, kernel: [3], stride: [2], padding: [1], output_padding: [1]}}, relu, "
     "{conv_transpose2d: {out: 10, kernel: [3], dilation: [2], groups: 5}}, relu, {conv_transpose2d: {out: 4, kernel: "
     "[2], stride: [2], bias: false}}" IMAGE_END,
     {NULL}},
    {"[{reshape: {shape: [2, 32]}}, {conv1d: {out: 8, kernel: [5], padding: [4], dilation: [2], groups: 2}}, relu, "
     "{conv_transpose1d: {out: 6, kernel: [4], stride: [2], groups: 2, bias: false}}, relu, {conv1d: {out: 6, kernel: "
     "[3], groups: 6, stride: [2]}}, {conv1d: {out: 17, kernel: [7], padding: [3]}}" IMAGE_END,
     {NULL}},
    {"[{reshape: {shape: [2, 4, 4, 2]}}, {conv3d: {out: 6, kernel: [3], padding: [1]}}, relu, {conv3d: {out: 8, "
     "kernel: "
     "[3], padding: [2], dilation: [2], groups: 2, bias: false}}, batch_norm3d, relu, {conv_transpose3d: {out: 4, "
     "kernel: "
     "[2], stride: [2], groups: 4}}, {conv3d: {out: 4, kernel: [1], groups: 4}}, {conv3d: {out: 4, kernel: [2], "
     "stride: "
     "[2], groups: 4}}" IMAGE_END,
     {NULL}},
    {"[{conv2d: {out: 6, kernel: [3], padding: [1], padding_mode: reflect}}, {conv2d: {out: 6, kernel: [3], same: "
     "true, "
     "dilation: [2]}}, relu, {conv2d: {out: 12, kernel: [1], stride: [2]}}" IMAGE_END,
     {NULL}},
    {NULL, {NULL}},
};

#define IMAGE_BEGIN "[{conv2d: {out: 6, kernel: [3], padding: [1]}}, "

const heap_job_t heap_image_layers[] = {
    {IMAGE_BEGIN "batch_norm2d, {group_norm: {groups: 3}}, {instance_norm: {affine: true, track: true}}, {layer_norm: "
                 "{axes: 3}}, {layer_norm: {bias: false}}, rms_norm, {batch_norm2d: {affine: false}}" IMAGE_END,
     {NULL}},
    {IMAGE_BEGIN
     "{max_pool2d: {kernel: [3], stride: [1], padding: [1], dilation: [2]}}, {avg_pool2d: {kernel: [3], "
     "stride: [2], padding: [1], count_padding: false}}, {parallel: {branches: [{layers: [{adaptive_avg_pool: "
     "{out: [2, 3]}}]}, {layers: [{adaptive_max_pool: {out: [2, 3]}}]}]}}" IMAGE_END,
     {NULL}},
    {"[{reshape: {shape: [4, 16]}}, {max_pool1d: {kernel: [2]}}, {avg_pool1d: {kernel: [3], round_up: true}}" IMAGE_END,
     {NULL}},
    {"[{reshape: {shape: [2, 4, 4, 2]}}, {parallel: {branches: [{layers: [{max_pool3d: {kernel: [2]}}]}, {layers: "
     "[{avg_pool3d: {kernel: [2]}}]}]}}" IMAGE_END,
     {NULL}},
    {IMAGE_BEGIN
     "relu6, leaky_relu, {prelu: {per_channel: true}}, elu, selu, celu, hardtanh, hardsigmoid, hardswish, softplus, "
     "softsign, {softshrink: {width: 0.01}}, {hardshrink: {width: 0.01}}, tanhshrink, log_sigmoid, mish, {threshold: "
     "{threshold: -5}}, {glu: {axis: 1}}, rrelu, gelu, {gelu: {tanh: true}}, silu, tanh, sigmoid, softmax2d" IMAGE_END,
     {NULL}},
    {IMAGE_BEGIN "{dropout: {p: 0.1}}, {dropout2d: {p: 0.1}}, {alpha_dropout: {p: 0.1}}, {feature_alpha_dropout: {p: "
                 "0.1}}, {residual: [relu, {drop_path: {p: 0.2}}]}, softmax, log_softmax, softmin" IMAGE_END,
     {NULL}},
    {IMAGE_BEGIN
     "{pad: {padding: [1, 1, 2, 1], mode: reflect}}, {pad: {padding: [1, 1, 1, 1], mode: replicate}}, {pad: "
     "{padding: [1, 0, 0, 1], mode: circular}}, {pad: {padding: [1, 1, 1, 1]}}, {upsample: {scale: [1.5]}}, "
     "{upsample: {size: [15, 14], mode: linear}}, {upsample: {size: [8, 9], mode: cubic}}" IMAGE_END,
     {NULL}},
    {IMAGE_BEGIN
     "{pixel_unshuffle: {factor: 2}}, {channel_shuffle: {groups: 3}}, {pixel_shuffle: {factor: 2}}, "
     "{add_parameter: {name: p}}, {transpose: {axes: [1, 3]}}, {unfold: {kernel: [3], padding: [1]}}, {mean: "
     "{axes: [2]}}, {unflatten: {axis: 1, sizes: [8, 9]}}, {select: {index: 2}}, {linear: {out: 12}}, relu, "
     "{bilinear: {out: 7, left: 5}}" IMAGE_END,
     {NULL}},
    {IMAGE_BEGIN
     "{residual: {layers: [{conv2d: {out: 8, kernel: [3], stride: [2], padding: [1]}}, batch_norm2d], shortcut: "
     "[{conv2d: "
     "{out: 8, kernel: [1], stride: [2]}}]}}, {parallel: {branches: [{layers: [{conv2d: {out: 3, kernel: [1]}}]}, "
     "{layers: [identity]}, {layers: [{conv2d: {out: 5, kernel: [3], padding: [1]}}]}]}}, {parallel: {combine: "
     "multiply, "
     "branches: [{layers: [sigmoid]}, {layers: [tanh]}]}}" IMAGE_END,
     {NULL}},
    {IMAGE_BEGIN
     "{residual: {layers: [{conv2d: {out: 6, kernel: [3], padding: [1]}}, batch_norm2d], checkpoint: true}}, {repeat: "
     "{times: 2, checkpoint: true, layers: [{conv2d: {out: 6, kernel: [3], padding: [1], groups: 2}}, relu, {dropout: "
     "{p: "
     "0.1}}]}}" IMAGE_END,
     {NULL}},
    {"[{conv2d: {out: 16, kernel: [2], stride: [2]}}, tokens, {prepend_parameter: {name: cls}}, {position_embedding: "
     "{count: 17}}, {repeat: {times: 2, layers: [{residual: [layer_norm, {attention: {heads: 2}}]}, {residual: "
     "[layer_norm, {gated_mlp: {hidden: 24}}]}]}}, select, {linear: {out: 5}}]",
     {NULL}},
    {NULL, {NULL}},
};

#define TEXT_BEGIN "[{embedding: {count: 27, width: 16}}, "
#define TEXT_END ", {linear: {out: 27}}]"
#define MARK "model.padding=0", "training.loss={cross_entropy: {ignore_index: 0}}"

const heap_job_t heap_sequence_layers[] = {
    {TEXT_BEGIN
     "{rnn: {width: 12, depth: 2, bidirectional: true, activation: relu, dropout: 0.1}}, {gru: {width: 10, depth: "
     "2, dropout: 0.1}}, {lstm: {width: 12, projection: 7}}, {lstm: {width: 33, bias: false}}" TEXT_END,
     {NULL}},
    {TEXT_BEGIN
     "{rnn: {width: 12, packed: true, bidirectional: true}}, {gru: {width: 20, packed: true}}, {lstm: {width: 9, "
     "packed: true, bidirectional: true}}" TEXT_END,
     {MARK}},
    {TEXT_BEGIN "{attention: {heads: 4, kv_heads: 2, names: [q, k, v, o], rope: {}, causal: true, weight_dropout: "
                "0.1}}, {attention: "
                "{heads: 2, alibi: true, causal: true}}, {attention: {heads: 2, window: 4, causal: true, dropout: "
                "0.1}}, {attention: "
                "{heads: 2, head_width: 5}}, {multihead_attention: {heads: 2, dropout: 0.1}}, {linear: {out: 48}}, "
                "{attend: {heads: "
                "4, causal: true}}" TEXT_END,
     {NULL}},
    {TEXT_BEGIN "{transformer_encoder_layer: {heads: 2, feedforward: 24, norm_first: true, activation: gelu, causal: "
                "true}}, {transformer_encoder_layer: {heads: 2, feedforward: 24}}" TEXT_END,
     {MARK}},
    {TEXT_BEGIN
     "sinusoidal_positions, token_type_embedding, {linear: {out: 24, transposed: true}}, {gated_mlp: {hidden: "
     "24, gate: gelu, bias: true}}, {parallel: {axis: 2, branches: [{layers: [{lstm: {width: 5}}]}, {layers: "
     "[{linear: {out: 6}}]}]}}, {dropout1d: {p: 0.2}}" TEXT_END,
     {NULL}},
    {TEXT_BEGIN
     "{repeat: {times: 2, checkpoint: true, layers: [{residual: [layer_norm, {attention: {heads: 2, causal: true, "
     "dropout: 0.1}}]}, {residual: [layer_norm, {linear: {out: 32}}, gelu, {linear: {out: 16}}]}]}}" TEXT_END,
     {NULL}},
    /* a rare letter is padding: some microbatches have none, and take other kernels */
    {TEXT_BEGIN "{attention: {heads: 2, causal: true}}, {multihead_attention: {heads: 1}}" TEXT_END,
     {"model.padding=25"}},
    {"[{embedding_bag: {count: 27, width: 33, mode: max}}, relu, {linear: {out: 432}}, {reshape: {shape: [16, 27]}}]",
     {"data.train={text: {path: text, tokens: characters, part: [0, 0.9], context: 16}}",
      "data.validation={text: {path: text, tokens: characters, part: [0.9, 1], context: 16}}"}},
    {"[{embedding_bag: {count: 27, width: 12, padding: 0}}, {linear: {out: 432}}, {reshape: {shape: [16, 27]}}]",
     {"data.train={text: {path: text, tokens: characters, part: [0, 0.9], context: 16}}",
      "data.validation={text: {path: text, tokens: characters, part: [0.9, 1], context: 16}}"}},
    {"[{embedding: {name: wte, count: 27, width: 16}}, layer_norm, {linear: {out: 27, bias: false, tied: wte}}]",
     {"training.fused_loss=on"}},
    {NULL, {NULL}},
};

#define MLP "[flatten, {linear: {out: 16}}, relu, {linear: {out: 5}}]"
#define LOSS(loss_x) "training.loss={" loss_x ": {}}"
#define ARRAYS(targets_x)                                                                                              \
    "data.train={npy: {inputs: x.npy, targets: " targets_x ".npy}}",                                                   \
        "data.validation={npy: {inputs: x.npy, targets: " targets_x ".npy}}"

const heap_job_t heap_losses[] = {
    {MLP, {LOSS("mse")}},
    {MLP, {LOSS("l1")}},
    {MLP, {LOSS("smooth_l1")}},
    {MLP, {LOSS("huber")}},
    {MLP, {"training.loss={bce_with_logits: {pos_weight: [1, 2, 1, 1, 1]}}"}},
    {"[flatten, {linear: {out: 5}}, sigmoid]", {LOSS("bce")}},
    {"[flatten, {linear: {out: 5}}, sigmoid]", {LOSS("dice")}},
    {MLP, {LOSS("poisson_nll")}},
    {MLP, {LOSS("soft_margin")}},
    {MLP, {LOSS("focal")}},
    {"[flatten, {linear: {out: 5}}, log_softmax]", {LOSS("nll")}},
    {"[flatten, {linear: {out: 5}}, log_softmax]", {LOSS("kl_div")}},
    {MLP, {LOSS("multi_margin")}},
    {MLP, {LOSS("hinge_embedding")}},
    {MLP, {LOSS("multilabel_soft_margin")}},
    {"[flatten, {linear: {out: 10}}]", {LOSS("gaussian_nll")}},
    {MLP, {"training.loss={cross_entropy: {weight: [1, 2, 1, 1, 3], label_smoothing: 0.1, ignore_index: 2}}"}},
    {"[{linear: {out: 5}}]",
     {"training.loss={sum: {parts: [{loss: {mse: {}}, outputs: [0, 2], targets: [0, 2]}, {loss: {l1: {}}, weight: 0.5, "
      "outputs: [2, 5], targets: [2, 5]}]}}",
      ARRAYS("values")}},
    {"[{linear: {out: 16}}, {reshape: {shape: [2, 8]}}]", {LOSS("cosine_embedding"), ARRAYS("y")}},
    {"[{linear: {out: 2}}]", {LOSS("margin_ranking"), ARRAYS("y")}},
    {"[{linear: {out: 24}}, {reshape: {shape: [3, 8]}}]",
     {"training.loss={triplet_margin: {swap: true}}", ARRAYS("y")}},
    {"[{linear: {out: 16}}, {reshape: {shape: [2, 8]}}]", {LOSS("info_nce"), ARRAYS("y")}},
    {"[{linear: {out: 80}}, {reshape: {shape: [16, 5]}}]", {LOSS("ctc"), ARRAYS("labels")}},
    {"[{linear: {out: 5}}]", {LOSS("multilabel_margin"), ARRAYS("labels")}},
    {NULL, {NULL}},
};

#define CNN                                                                                                            \
    "[{conv2d: {out: 4, kernel: [3], padding: [1], bias: false}}, batch_norm2d, relu, {max_pool2d: {kernel: [2]}}, "   \
    "{dropout: {p: 0.1}}" IMAGE_END
#define OPTIMIZER(optimizer_x) "training.optimizer={" optimizer_x "}"

const heap_job_t heap_settings[] = {
    {CNN, {OPTIMIZER("sgd: {lr: 0.01, momentum: 0.9, nesterov: true}"), "training.schedule={step: {every: 3}}"}},
    {CNN, {OPTIMIZER("adam: {lr: 0.01, amsgrad: true}"), "training.schedule={multi_step: {milestones: [3, 6]}}"}},
    {CNN, {OPTIMIZER("nadam: {lr: 0.01}"), "training.schedule={exponential: {gamma: 0.9}}"}},
    {CNN, {OPTIMIZER("radam: {lr: 0.01}"), "training.schedule={cosine_restarts: {length: 4}}"}},
    {CNN, {OPTIMIZER("adagrad: {lr: 0.01}"), "training.schedule={polynomial: {power: 2}}"}},
    {CNN, {OPTIMIZER("adadelta: {lr: 0.1}"), "training.schedule={one_cycle: {}}"}},
    {CNN, {OPTIMIZER("rmsprop: {lr: 0.01, momentum: 0.9, centered: true}"), "training.schedule={plateau: {}}"}},
    {CNN, {OPTIMIZER("lamb: {lr: 0.01}"), "training.schedule={stable_decay: {decay: 5}}"}},
    {CNN, {OPTIMIZER("lars: {lr: 0.01}"), "training.schedule={linear: {}}"}},
    {CNN, {OPTIMIZER("lion: {lr: 0.001}"), "training.average={decay: 0.9}"}},
    {CNN, {OPTIMIZER("adafactor: {lr: 0.01}"), "training.clip_value=0.1"}},
    {CNN,
     {OPTIMIZER("muon: {lr: 0.01}"), "training.groups=[{match: '*bias', lr_scale: 2}, {match: '*', freeze: false}]"}},
    {CNN, {"training.precision=f16", "training.average={decay: 0.9}"}},
    {CNN, {"training.precision=f16", "training.loss_scale={init: 1.0e+30}"}}, /* steps are skipped */
    {CNN, {"training.anomaly=true", "training.precision=bf16"}},
    {CNN, {"training.memory_budget=48KiB"}},
    {NULL, {NULL}},
};

#define AUGMENT(list_x) "data.train={idx: {images: train-images, labels: train-labels, augment: [" list_x "]}}"
#define PICTURES(list_x)                                                                                               \
    "data.train={image_folder: {path: pictures, channels: 1, augment: [" list_x "]}}",                                 \
        "data.validation={image_folder: {path: pictures, channels: 1, augment: [{resize: {size: [8, 8]}}]}}"

#define SOUNDS(more_x)                                                                                                 \
    "data.train={wav: {path: sounds, class_from: name, rate: 8000, length: 200" more_x "}}",                           \
        "data.validation={wav: {path: sounds, class_from: name, length: 200}}"

const heap_job_t heap_readers[] = {
    {CNN,
     {AUGMENT("{random_crop: {size: 8, padding: 2}}, horizontal_flip, {noise: {std: 0.1}}, {mixup: {alpha: 1}}, "
              "{normalize: {mean: 0.4, std: 0.2}}"),
      "data.prefetch={threads: 1, batches: 2}"}},
    {CNN,
     {AUGMENT(
          "{random_resized_crop: {size: 8}}, vertical_flip, {rotate: {degrees: 20}}, random_erasing, {cutout: {size: "
          "3}}, {cutmix: {alpha: 1}}"),
      "data.prefetch={threads: 3, batches: 4}"}},
    {CNN,
     {AUGMENT("{resize: {size: [10, 9]}}, {random_resized_crop: {size: 12}}, {center_crop: {size: 8}}, {color_jitter: "
              "{brightness: 0.2, contrast: 0.2}}")}},
    {TEXT_BEGIN "{linear: {out: 27}}]", {"data.prefetch={threads: 4, batches: 3}"}},
    {CNN, {PICTURES("{resize: {size: [8, 8]}}"), "data.prefetch={threads: 2, batches: 2}"}},
    {CNN, {PICTURES("{random_resized_crop: {size: 8}}"), "data.prefetch={threads: 0}"}},
    {MLP, {SOUNDS(", augment: [{time_shift: {max: 40}}, {noise: {std: 0.01}}]"), "data.prefetch={threads: 1}"}},
    {MLP, {SOUNDS(", keep: middle"), "data.prefetch={threads: 3, batches: 4}"}},
    {MLP, {SOUNDS(""), "data.prefetch={threads: 0}"}},
    {NULL, {NULL}},
};
