/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules: one row per field of job.proto: range, unit, default and help. Validation, `gradctl explain`, the JSON Schema
 * and the reference page read it. Names are "Message.field", '*' stands for one word of a nested message's name.
 */
#include <stdio.h>
#include <string.h>

#include "proto/spec_internal.h"

#define AT_LEAST(min_x) .flags = SPEC_HAS_MIN, .min = (min_x)
#define WITHIN(min_x, max_x) .flags = SPEC_HAS_MIN | SPEC_HAS_MAX, .min = (min_x), .max = (max_x)
#define NEEDED_WITHIN(min_x, max_x) .flags = SPEC_HAS_MIN | SPEC_HAS_MAX | SPEC_REQUIRED, .min = (min_x), .max = (max_x)
#define FRACTION .flags = SPEC_HAS_MIN | SPEC_HAS_MAX | SPEC_MAX_OPEN, .min = 0, .max = 1
#define NEEDED .flags = SPEC_REQUIRED
#define MAX_SIDE 1048576
#define MAX_STEPS 1e12

const spec_rule_t spec_rules[] = {
    {"JobSpec.name", .default_text = "the file's name", .help = "Name of the job: letters, digits, . _ -, at most 63."},
    {"JobSpec.seed", .help = "Seed of every random number: initial parameters, data order, dropout."},
    {"JobSpec.resources", .help = "What the job runs on."},
    {"JobSpec.model", NEEDED, .help = "The model, as a list of layers or a model file."},
    {"JobSpec.data", NEEDED, .help = "What is learnt from, and what the model is measured with."},
    {"JobSpec.training", NEEDED, .help = "Length, batch, optimizer and loss of the training."},
    {"JobSpec.parallel", .help = "How the work is spread over the workers."},
    {"JobSpec.evaluation", .help = "When the model is measured on data.validation."},
    {"JobSpec.checkpoint", .help = "When the state is saved, and how many saved states are kept."},
    {"JobSpec.restart", .help = "What happens after a failure."},
    {"JobSpec.generate",
     .help = "Text sampled from the trained model when the job ends: for text data, what continues the prompt; for "
             "sequences whose targets are texts, the answer to it."},

    {"Resources.workers", WITHIN(1, 65536), .unit = "processes", .help = "Workers, one process per device."},
    {"Resources.device", .help = "Kind of device that the workers compute on."},
    {"Resources.threads", WITHIN(1, 1024), .unit = "threads",
     .help = "Compute threads of a worker; a worker takes that many slots."},

    {"Parallel.data", WITHIN(1, 65536), .unit = "workers", .default_text = "resources.workers",
     .help = "Data-parallel size; divides training.microbatches."},

    {"Model.file", .flags = SPEC_FILE_PATH,
     .help = "A model file with parameters and layers, relative to the job's file."},
    {"Model.with", .flags = SPEC_MAP, .help = "Values that replace the model file's parameters of the same name."},
    {"Model.parameters", .flags = SPEC_MAP, .help = "Names with values, for ${name} in the layers."},
    {"Model.layers", .help = "Layers in their order."},
    {"Model.weights", .help = "Initial parameters and buffers, by name from a safetensors file; or the file alone."},
    {"Weights.file", .flags = SPEC_REQUIRED | SPEC_FILE_PATH | SPEC_SHORT,
     .help = "A safetensors file with PyTorch's names and layouts (a state_dict), bf16, f16, f32 or f64."},
    {"Weights.strict",
     .help = "Whether every parameter must be in the file and nothing else; otherwise the rest begins as without it."},
    {"Weights.strip", .default_text = "nothing",
     .help = "What the file's names begin with and the model's don't, such as \"transformer.\"."},
    {"Weights.add", .default_text = "nothing", .help = "What the model's names begin with and the file's don't."},
    {"Weights.ignore", .n_max = 256, .default_text = "none",
     .help = "Patterns of names in the file that are passed over: * ? [a-z]; * also stands for dots."},
    {"Parameter.name", .flags = SPEC_HIDDEN, .help = "Key in the map of parameters."},
    {"Parameter.value", .flags = SPEC_HIDDEN, .help = "Value in the map of parameters."},

    {"Init.normal", .help = "Normal distribution."},
    {"Init.uniform", .help = "Uniform distribution."},
    {"Init.xavier_uniform", .help = "Uniform with bound gain · sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio)."},
    {"Init.xavier_normal", .help = "Normal with deviation gain · sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio)."},
    {"Init.kaiming_uniform", .help = "Uniform for layers before a rectifier (He et al.)."},
    {"Init.kaiming_normal", .help = "Normal for layers before a rectifier (He et al.)."},
    {"Init.constant", .help = "One value everywhere."},
    {"Init.Normal.mean", .help = "Mean."},
    {"Init.Normal.std", AT_LEAST(0), .help = "Standard deviation."},
    {"Init.Uniform.low", .help = "Lower end, included."},
    {"Init.Uniform.high", .help = "Upper end, excluded."},
    {"Init.Gain.gain", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .help = "Factor of the bound or deviation."},
    {"Init.Slope.slope", .help = "Negative slope of the rectifier that follows."},
    {"Init.Value.value", .help = "The value."},

    {"Layer.linear", .help = "y = x Wᵀ + b over the last dimension."},
    {"Layer.conv2d", .help = "Convolution over images [B, C, H, W]."},
    {"Layer.max_pool2d", .help = "Maximum over windows of an image."},
    {"Layer.avg_pool2d", .help = "Mean over windows of an image."},
    {"Layer.global_avg_pool2d", .help = "Mean over the whole image: [B, C, H, W] to [B, C, 1, 1]."},
    {"Layer.batch_norm2d", .help = "Batch normalisation per channel."},
    {"Layer.layer_norm", .help = "Layer normalisation over the last dimension."},
    {"Layer.embedding", .help = "A row of a table per token: [B, T] to [B, T, C]."},
    {"Layer.position_embedding", .help = "Adds a learnt row per position."},
    {"Layer.attention", .help = "Multi-head self-attention."},
    {"Layer.dropout", .help = "Zeroes elements at random in training."},
    {"Layer.flatten", .help = "[B, …] to [B, N]."},
    {"Layer.relu", .help = "max(x, 0)."},
    {"Layer.gelu", .help = "x Φ(x), Φ the normal distribution function."},
    {"Layer.tanh", .help = "Hyperbolic tangent."},
    {"Layer.sigmoid", .help = "1 / (1 + exp(-x))."},
    {"Layer.silu", .help = "x · sigmoid(x)."},
    {"Layer.sequential", .help = "Layers one after the other, as one layer."},
    {"Layer.residual", .help = "x + layers(x), or shortcut(x) + layers(x)."},
    {"Layer.repeat", .help = "The layers several times, each time with parameters of their own."},
    {"Layer.identity", .help = "x itself."},
    {"Layer.parallel", .help = "Several branches over the same input, whose results are combined."},
    {"Layer.select", .help = "One token: [B, T, C] to [B, C]."},
    {"Layer.mean", .help = "Mean over axes, which are gone from the result."},
    {"Layer.transpose", .help = "Two axes change places."},
    {"Layer.reshape", .help = "Samples get another shape with as many elements."},
    {"Layer.tokens", .help = "An image's places as tokens: [B, C, H, W] to [B, H·W, C]."},
    {"Layer.token_type_embedding",
     .help = "Adds row 0 of a learnt table of segment types (BERT), for data of one segment."},
    {"Layer.prepend_parameter", .help = "Learnt tokens before the others, as ViT's class token."},
    {"Layer.add_parameter", .help = "Adds a learnt value per element of a sample, as ViT's positions."},
    {"Layer.attend",
     .help = "Self-attention without its projections: queries, keys and values side by side, [B, T, 3C] to [B, T, C]."},
    {"Layer.line", .flags = SPEC_HIDDEN, .help = "Line of the layer in its file."},
    {"Layer.file", .flags = SPEC_HIDDEN, .help = "File of the layer."},
    {"Layer.*.name", .default_text = "its place in the list",
     .help = "Name of the layer, a part of its parameters' names."},
    {"Layer.Linear.out", NEEDED_WITHIN(1, MAX_SIDE * 16.0), .unit = "features", .help = "Width of the output."},
    {"Layer.Linear.bias", .help = "Whether there is a bias."},
    {"Layer.Linear.tied", .help = "Name of an embedding whose weight is shared; empty: none."},
    {"Layer.Linear.transposed",
     .help = "Whether the weight is stored as [in, out], as Hugging Face's GPT-2 does; not with tied."},
    {"Layer.Linear.init", .default_text = "kaiming_uniform, slope √5", .help = "Initial weight."},
    {"Layer.Linear.bias_init", .default_text = "uniform within ±1/√fan_in", .help = "Initial bias."},
    {"Layer.Conv2d.out", NEEDED_WITHIN(1, MAX_SIDE), .unit = "channels", .help = "Channels of the output."},
    {"Layer.Conv2d.kernel", NEEDED_WITHIN(1, 1024), .n_min = 1, .n_max = 2, .unit = "pixels",
     .help = "[height, width] of the window, or one number for both."},
    {"Layer.Conv2d.stride", WITHIN(1, 1024), .n_min = 1, .n_max = 2, .unit = "pixels", .default_text = "1",
     .help = "Step of the window."},
    {"Layer.Conv2d.padding", WITHIN(0, 1024), .n_min = 1, .n_max = 2, .unit = "pixels", .default_text = "0",
     .help = "Zeroes around the image."},
    {"Layer.Conv2d.dilation", WITHIN(1, 1024), .n_min = 1, .n_max = 2, .unit = "pixels", .default_text = "1",
     .help = "Distance of the window's elements."},
    {"Layer.Conv2d.groups", WITHIN(1, MAX_SIDE), .help = "Groups of channels that are convolved apart."},
    {"Layer.Conv2d.bias", .help = "Whether there is a bias."},
    {"Layer.Conv2d.init", .default_text = "kaiming_uniform, slope √5", .help = "Initial weight."},
    {"Layer.Pool2d.kernel", NEEDED_WITHIN(1, 1024), .n_min = 1, .n_max = 2, .unit = "pixels",
     .help = "[height, width] of the window, or one number for both."},
    {"Layer.Pool2d.stride", WITHIN(1, 1024), .n_min = 1, .n_max = 2, .unit = "pixels", .default_text = "the kernel",
     .help = "Step of the window."},
    {"Layer.Pool2d.padding", WITHIN(0, 1024), .n_min = 1, .n_max = 2, .unit = "pixels", .default_text = "0",
     .help = "Padding around the image."},
    {"Layer.BatchNorm2d.epsilon", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .help = "Added to the variance."},
    {"Layer.BatchNorm2d.affine", .help = "With a weight and a bias for each channel."},
    {"Layer.BatchNorm2d.momentum", WITHIN(0, 1), .help = "Share of a batch in the running statistics."},
    {"Layer.LayerNorm.epsilon", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .help = "Added to the variance."},
    {"Layer.LayerNorm.bias", .help = "Whether there is a bias."},
    {"Layer.Embedding.count", NEEDED_WITHIN(1, MAX_SIDE * 1024.0), .unit = "tokens", .help = "Rows of the table."},
    {"Layer.Embedding.width", NEEDED_WITHIN(1, MAX_SIDE), .unit = "features", .help = "Width of a row."},
    {"Layer.Embedding.init", .default_text = "normal, mean 0, std 1", .help = "Initial table."},
    {"Layer.PositionEmbedding.count", NEEDED_WITHIN(1, MAX_SIDE * 16.0), .unit = "positions",
     .help = "Positions, the longest context."},
    {"Layer.PositionEmbedding.init", .default_text = "normal, mean 0, std 1", .help = "Initial table."},
    {"Layer.Attention.heads", NEEDED_WITHIN(1, 65536), .help = "Heads; divide the width."},
    {"Layer.Attention.causal", .help = "Whether a position sees only itself and earlier ones."},
    {"Layer.Attention.bias", .help = "Whether the projections have biases."},
    {"Layer.Attention.dropout", WITHIN(0, 1), .help = "Share of the output that is dropped in training."},
    {"Layer.Attention.init", .default_text = "kaiming_uniform, slope √5",
     .help = "Initial weight of query, key and value."},
    {"Layer.Attention.proj_init", .default_text = "kaiming_uniform, slope √5",
     .help = "Initial weight of the output projection."},
    {"Layer.Dropout.p", WITHIN(0, 1), .help = "Share of elements that are dropped in training."},
    {"Layer.Gelu.tanh", .help = "Whether the approximation by tanh is used."},
    {"Layer.*.layers", NEEDED, .n_min = 1, .help = "Layers in their order."},
    {"Layer.*.inline",
     .help = "Whether what is in it is named as if it stood in the list around it, without this layer's own name."},
    {"Layer.*.checkpoint",
     .help = "Whether activations in it are not kept but computed once more in the backward: less memory, more time, "
             "the same numbers; in repeat, each repetition by itself."},
    {"Layer.Residual.shortcut", .n_min = 1, .default_text = "x itself",
     .help = "What is added to the layers' result; numbered on from the layers where they have no names."},
    {"Layer.Repeat.times", NEEDED_WITHIN(1, SPEC_MAX_LAYERS), .help = "How often."},
    {"Layer.Repeat.first", WITHIN(0, SPEC_MAX_LAYERS), .help = "Number that names the first; the others count on."},
    {"Layer.Parallel.combine", .help = "How the branches' results are combined."},
    {"Layer.Parallel.axis", WITHIN(1, 7),
     .help = "Axis of concat; the batch is axis 0, an image's channels are axis 1."},
    {"Layer.Parallel.branches", NEEDED, .n_min = 1, .n_max = 64,
     .help = "Lists of layers, or maps with name, inline and layers; [identity] is the input itself."},
    {"Layer.Select.index", WITHIN(-MAX_SIDE * 16.0, MAX_SIDE * 16.0), .help = "Which; below 0 from the end."},
    {"Layer.Axes.axes", NEEDED_WITHIN(1, 7), .n_min = 1, .n_max = 7,
     .help = "Axes; the batch is axis 0, two axes for transpose."},
    {"Layer.Reshape.shape", NEEDED_WITHIN(-1, MAX_SIDE * 16384.0), .n_min = 1, .n_max = 7,
     .help = "Sizes without the batch's; one of them may be -1, the rest."},
    {"Layer.Attend.heads", NEEDED_WITHIN(1, 65536), .help = "Heads; divide the width C."},
    {"Layer.Attend.causal", .help = "Whether a position sees only itself and earlier ones."},
    {"Layer.TokenTypeEmbedding.count", WITHIN(1, MAX_SIDE), .help = "Rows of the table."},
    {"Layer.PrependParameter.count", WITHIN(1, MAX_SIDE), .unit = "tokens", .help = "Learnt tokens."},
    {"Layer.TokenTypeEmbedding.init", .default_text = "normal, mean 0, std 1", .help = "Initial table."},
    {"Layer.PrependParameter.init", .default_text = "normal, std 0.02", .help = "Initial values."},
    {"Layer.AddParameter.init", .default_text = "normal, std 0.02", .help = "Initial values."},

#include "proto/rules_image.def"
#include "proto/rules_sequence.def"

    {"Data.train", NEEDED, .help = "What is learnt from."},
    {"Data.validation", .help = "What the model is measured with."},
    {"Data.prefetch", .help = "How samples are read ahead of the training."},
    {"Prefetch.threads", WITHIN(0, 256), .unit = "threads",
     .help = "Threads of a worker that read; 0: the training reads by itself. The result doesn't depend on it."},
    {"Prefetch.batches", WITHIN(1, 1024), .unit = "batches", .help = "How many batches are read ahead."},
    {"Dataset.text", .help = "Text as a stream of tokens, cut into windows."},
    {"Dataset.idx", .help = "Images and labels in IDX files, as MNIST has them."},
    {"Text.path", .flags = SPEC_REQUIRED | SPEC_FILE_PATH | SPEC_MANY_FILES,
     .help = "A file, a folder (its files in name order), or a file name with * and ?."},
    {"Text.tokens", .help = "What a token is: a byte, or a character (numbered in code point order)."},
    {"Text.part", WITHIN(0, 1), .n_min = 2, .n_max = 2, .default_text = "[0, 1]",
     .help = "Which tokens are used: [from, to) as fractions of the whole."},
    {"Text.context", WITHIN(1, MAX_SIDE * 16.0), .unit = "tokens",
     .default_text = "count of the model's position_embedding", .help = "Tokens of a sample."},
    {"Idx.images", .flags = SPEC_REQUIRED | SPEC_FILE_PATH, .help = "File of the images, plain or .gz."},
    {"Idx.labels", .flags = SPEC_REQUIRED | SPEC_FILE_PATH, .help = "File of the labels, plain or .gz."},
    {"Idx.normalize", .n_min = 2, .n_max = 2, .default_text = "[0, 1]",
     .help = "[mean, standard deviation] that pixels, scaled to 0 … 1, are normalised with."},
    {"Idx.limit", AT_LEAST(0), .unit = "samples", .default_text = "0", .help = "At most so many samples; 0: all."},
    /* worker/data: cifar, csv, tokens */
    {"Dataset.cifar", .help = "Images of CIFAR-10 or CIFAR-100 in their binary version; [3, 32, 32], 0 … 1."},
    {"Dataset.csv", .help = "Rows of a table: columns of numbers, and one or more to be predicted."},
    {"Dataset.tokens", .help = "A stream of tokens in shards of llm.c or nanoGPT, cut into windows."},
    {"Cifar.path", .flags = SPEC_REQUIRED | SPEC_FILE_PATH | SPEC_MANY_FILES,
     .help = "The unpacked folder, a file of it, or a file name with * and ?."},
    {"Cifar.labels", .help = "CIFAR-10's labels, or the fine (100) or coarse (20) ones of CIFAR-100."},
    {"Cifar.split", .help = "Which files of a folder: the training or the test images."},
    {"Cifar.augment", .n_min = 1, .n_max = 32, .help = "What is done with the images, in this order."},
    {"Idx.augment", .n_min = 1, .n_max = 32,
     .help = "What is done with the images, in this order, before they are normalised."},
    {"Dataset.image_folder", .help = "JPEG and PNG files, a folder for each class; decoded as they are needed."},
    {"ImageFolder.path", .flags = SPEC_REQUIRED | SPEC_FILE_PATH | SPEC_MANY_FILES,
     .help = "The folder that holds a folder for each class."},
    {"ImageFolder.channels", WITHIN(1, 3), .help = "3 for colours, 1 for grey; files of other kinds are converted."},
    {"ImageFolder.orientation", .help = "Whether images are turned as their Exif data says."},
    {"ImageFolder.augment", .n_min = 1, .n_max = 32, .default_text = "all images have one size",
     .help = "What is done with the images, in this order."},
    {"Dataset.npy", .help = "NumPy arrays (.npy) of inputs and targets, whose first axis counts the samples."},
    {"Dataset.wav", .help = "Sound files (WAV, FLAC), mixed to one channel of one length; decoded as they are needed."},
    {"Npy.inputs", .flags = SPEC_REQUIRED | SPEC_FILE_PATH, .help = "Array of the inputs, of any type."},
    {"Npy.targets", .flags = SPEC_REQUIRED | SPEC_FILE_PATH, .help = "Array of the targets: labels or values."},
    {"Npy.classes", .default_text = "whether the targets are integers",
     .help = "Whether the targets are classes instead of values."},
    {"Npy.tokens", .help = "Whether the inputs are token numbers instead of values."},
    {"Npy.scale", .help = "Factor of the inputs, such as 0.00392156862745098 (1/255) for bytes."},
    {"Npy.part", WITHIN(0, 1), .n_min = 2, .n_max = 2, .default_text = "[0, 1]",
     .help = "Which samples are used: [from, to) as fractions of the whole."},
    {"Npy.augment", .n_min = 1, .n_max = 32,
     .help = "What is done with the inputs, in this order, if they are images [H, W] or [C, H, W]."},
    {"Wav.path", .flags = SPEC_REQUIRED | SPEC_FILE_PATH | SPEC_MANY_FILES,
     .help = "The folder of class folders; with class_from: name a folder of files, or a file name with * and ?."},
    {"Wav.class_from", .help = "Whether a file's class is its folder, or its name's part before the first _."},
    {"Wav.match", .n_min = 1, .n_max = 256, .default_text = "all files",
     .help = "Patterns of the file names that are used: * ? [a-z]."},
    {"Wav.length", NEEDED_WITHIN(1, MAX_SIDE * 16.0), .unit = "values",
     .help = "Length of a sample, at `rate`: longer files are cut, shorter ones filled with zeroes."},
    {"Wav.keep", .help = "Whether the start or the middle of a longer file is kept."},
    {"Wav.rate", WITHIN(1, 1000000), .unit = "values a second", .default_text = "the first file's",
     .help = "Sample rate of all samples: files of another are resampled as they are read."},
    {"Wav.augment", .n_min = 1, .n_max = 32, .help = "What is done with the sound, in this order."},
    {"Augment.resize", .help = "Another size, bilinear with antialiasing, as Pillow and torchvision resize."},
    {"Augment.center_crop", .help = "The middle of the image."},
    {"Augment.random_crop", .help = "A window at random, of the image with padding around it."},
    {"Augment.random_resized_crop", .help = "A window of random size and proportions, resized."},
    {"Augment.horizontal_flip", .help = "Left and right change places."},
    {"Augment.vertical_flip", .help = "Top and bottom change places."},
    {"Augment.rotate", .help = "A turn about the middle, by a random angle to either side."},
    {"Augment.color_jitter", .help = "Random changes of the colours, in random order; before normalize."},
    {"Augment.grayscale", .help = "Colours become grey, in three channels."},
    {"Augment.normalize", .help = "(x - mean) / std for each channel; pixels are 0 … 1 before it."},
    {"Augment.random_erasing", .help = "A random window becomes one value (Zhong et al.)."},
    {"Augment.cutout", .help = "A window of fixed size, anywhere, becomes one value (DeVries and Taylor)."},
    {"Augment.noise", .help = "Adds normal noise to every value."},
    {"Augment.time_shift", .help = "Sound is shifted to either side; zeroes come in."},
    {"Augment.mixup", .help = "A weighted mean with another sample of the batch, and of their labels (Zhang et al.)."},
    {"Augment.cutmix", .help = "A window out of another sample of the batch; labels are mixed alike (Yun et al.)."},
    {"Augment.Resize.size", NEEDED_WITHIN(1, 32768), .n_min = 1, .n_max = 2, .unit = "pixels",
     .help = "[height, width]; one number: the shorter side's, the proportions stay."},
    {"Augment.*.size", NEEDED_WITHIN(1, 32768), .n_min = 1, .n_max = 2, .unit = "pixels",
     .help = "[height, width], or one number for both."},
    {"Augment.RandomCrop.padding", WITHIN(0, 32768), .n_min = 1, .n_max = 2, .unit = "pixels", .default_text = "0",
     .help = "Rows above and below, columns left and right, or one number for both."},
    {"Augment.*.fill", .help = "Value of the pixels that come in."},
    {"Augment.RandomResizedCrop.scale", WITHIN(0, 1), .n_min = 2, .n_max = 2, .default_text = "[0.08, 1]",
     .help = "Share of the image's area: [least, most]."},
    {"Augment.RandomResizedCrop.ratio", WITHIN(0, 1000), .n_min = 2, .n_max = 2, .default_text = "[0.75, 1.333333]",
     .help = "Width divided by height: [least, most]."},
    {"Augment.RandomErasing.scale", WITHIN(0, 1), .n_min = 2, .n_max = 2, .default_text = "[0.02, 0.33]",
     .help = "Share of the image's area: [least, most]."},
    {"Augment.RandomErasing.ratio", WITHIN(0, 1000), .n_min = 2, .n_max = 2, .default_text = "[0.3, 3.3]",
     .help = "Height divided by width: [least, most]."},
    {"Augment.RandomErasing.value", .help = "What the window becomes."},
    {"Augment.*.p", WITHIN(0, 1), .help = "How often, as a share of the samples."},
    {"Augment.Rotate.degrees", NEEDED_WITHIN(0, 180), .unit = "degrees", .help = "Largest angle to either side."},
    {"Augment.ColorJitter.brightness", AT_LEAST(0), .help = "The factor is drawn from 1 - this … 1 + this."},
    {"Augment.ColorJitter.contrast", AT_LEAST(0), .help = "The factor is drawn from 1 - this … 1 + this."},
    {"Augment.ColorJitter.saturation", AT_LEAST(0), .help = "The factor is drawn from 1 - this … 1 + this."},
    {"Augment.ColorJitter.hue", WITHIN(0, 0.5), .help = "The hue turns by up to this share of the circle."},
    {"Augment.Normalize.mean", NEEDED, .n_min = 1, .n_max = 16, .help = "Mean of each channel, or one for all."},
    {"Augment.Normalize.std", .flags = SPEC_REQUIRED | SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .n_min = 1, .n_max = 16,
     .help = "Standard deviation of each channel, or one for all."},
    {"Augment.Noise.std", .flags = SPEC_REQUIRED | SPEC_HAS_MIN, .min = 0, .help = "Standard deviation."},
    {"Augment.TimeShift.max", NEEDED_WITHIN(1, MAX_SIDE), .unit = "values", .help = "Largest shift to either side."},
    {"Augment.Mix.alpha", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0,
     .help = "The weight is drawn from the beta distribution of alpha and alpha."},
    {"Csv.path", .flags = SPEC_REQUIRED | SPEC_FILE_PATH | SPEC_MANY_FILES,
     .help = "A file, a folder (its files in name order), or a file name with * and ?."},
    {"Csv.target", NEEDED, .n_min = 1, .n_max = 65536,
     .help = "Columns to be predicted, by name or number (from 0; below 0 from the end)."},
    {"Csv.inputs", .n_min = 1, .n_max = 65536, .default_text = "all but the targets",
     .help = "Columns to predict from, by name or number, in this order."},
    {"Csv.classes", .help = "Whether the target column holds classes (numbers from 0, or names) instead of values."},
    {"Csv.header", .help = "Whether the first line holds the columns' names."},
    {"Csv.delimiter", .help = "Character between fields."},
    {"Csv.normalize",
     .help = "Whether inputs are brought to mean 0 and deviation 1, by the mean and deviation of data.train."},
    {"Csv.part", WITHIN(0, 1), .n_min = 2, .n_max = 2, .default_text = "[0, 1]",
     .help = "Which rows are used: [from, to) as fractions of the whole."},
    {"Tokens.path", .flags = SPEC_REQUIRED | SPEC_FILE_PATH | SPEC_MANY_FILES,
     .help = "A shard, a folder (its files in name order), or a file name with * and ?."},
    {"Tokens.format", .help = "llm.c's shards with a header, nanoGPT's without one, or told apart by the first bytes."},
    {"Tokens.vocabulary", WITHIN(1, MAX_SIDE * 4096.0), .unit = "tokens",
     .default_text = "the largest token + 1, from a pass over all",
     .help = "How many tokens there are; a larger one is an error when it is read."},
    {"Tokens.context", WITHIN(1, MAX_SIDE * 16.0), .unit = "tokens",
     .default_text = "count of the model's position_embedding", .help = "Tokens of a sample."},
    {"Tokens.tokenizer", .flags = SPEC_FILE_PATH,
     .help = "The tokenizer.json that the tokens are from: for generate, and for the size of the vocabulary."},
    {"Text.tokenizer", .flags = SPEC_FILE_PATH,
     .help = "A tokenizer.json of Hugging Face's `tokenizers` (byte-pair encoding or WordPiece), instead of "
             "tokens."},
    {"Tokens.part", WITHIN(0, 1), .n_min = 2, .n_max = 2, .default_text = "[0, 1]",
     .help = "Which tokens are used: [from, to) as fractions of the whole."},

    {"Training.steps", WITHIN(1, MAX_STEPS), .unit = "steps", .help = "Length of the training; or give epochs."},
    {"Training.epochs", WITHIN(1, 1000000), .unit = "epochs",
     .help = "Length in passes over data.train. Samples that make no whole batch are left out, in each pass others."},
    {"Training.batch", NEEDED_WITHIN(1, MAX_SIDE * 16.0), .unit = "samples",
     .help = "Samples a step, over all workers."},
    {"Training.microbatches", WITHIN(1, MAX_SIDE), .default_text = "resources.workers",
     .help = "Parts of a batch, the unit of work: the result depends on it, and not on the number of workers."},
    {"Training.optimizer", NEEDED, .help = "How gradients change the parameters."},
    {"Training.schedule", .default_text = "constant", .help = "How the learning rate changes over the steps."},
    {"Training.clip_norm", AT_LEAST(0), .help = "Gradients are scaled down to this norm over all; 0: never."},
    {"Training.loss", .default_text = "cross_entropy",
     .help = "What is minimised: a kind alone, or with its fields; all but cross_entropy, nll and multi_margin take "
             "values, or labels as one-hot values."},
    {"Training.fused_loss",
     .help =
         "Whether a last linear layer without bias and cross_entropy are computed in pieces of rows: the logits are "
         "never all in memory, nor a copy of them for their gradient; auto: where they take 1 MiB or more."},
    {"Training.memory_budget", .flags = SPEC_BYTES | SPEC_HAS_MIN | SPEC_HAS_MAX, .min = 1, .max = 1e15,
     .default_text = "none",
     .help =
         "Most bytes of activations that a worker may hold in a step: layers and repetitions of `repeat` are chosen "
         "to be computed once more in the backward, as few as are needed; the bits stay the same."},
    {"Training.label_smoothing", FRACTION, .help = "Share of the target spread over all classes."},
    {"Training.log_every", WITHIN(1, 1000000), .unit = "steps", .help = "Distance of metric points."},
    {"Training.clip_value", AT_LEAST(0), .help = "Each gradient is clamped to plus or minus this; 0: never."},
    {"Training.groups", .n_min = 1, .n_max = 256,
     .help = "Rules for parameters by name; the first that fits a name counts."},
    {"Training.anomaly",
     .help = "Whether a value that isn't finite ends the job where it is made, naming layer and op; slower."},
    {"Training.precision",
     .help = "What activations are stored and products multiplied in; parameters, gradients and optimizer stay f32."},
    {"Training.loss_scale", .default_text = "that of f16, none otherwise",
     .help = "The loss is multiplied before the backward, so that f16 doesn't lose small gradients; it adapts itself."},
    {"LossScale.init", WITHIN(1e-6, 1e30), .help = "The scale at the start."},
    {"LossScale.growth", WITHIN(1.0001, 1e6), .help = "Factor after `interval` steps in a row with finite gradients."},
    {"LossScale.backoff", WITHIN(1e-6, 0.9999),
     .help = "Factor when gradients aren't finite, and the step is skipped."},
    {"LossScale.interval", WITHIN(1, 1e9), .unit = "steps", .help = "Good steps in a row before the scale grows."},
    {"Training.average", .help = "A moving average of the parameters."},
    {"Loss.cross_entropy", .help = "Logarithm of the softmax at the label, or over shares of classes."},
    {"Loss.mse", .help = "Mean of squared differences."},
    {"Loss.l1", .help = "Mean of absolute differences."},
    {"Loss.smooth_l1", .help = "Squares up to beta, absolute differences beyond."},
    {"Loss.huber", .help = "Squares up to delta, delta times absolute differences beyond."},
    {"Loss.bce_with_logits", .help = "Binary cross-entropy of sigmoid(output)."},
    {"Loss.bce", .help = "Binary cross-entropy of probabilities."},
    {"Loss.poisson_nll", .help = "Counts, the outputs being logarithms of rates (or rates)."},
    {"Loss.soft_margin", .help = "log(1 + exp(-y x)) of targets 1 and -1."},
    {"Loss.focal", .help = "Binary cross-entropy of logits, less for what is right already (Lin et al.)."},
    {"Loss.nll", .help = "The output, a log probability, at the label."},
    {"Loss.multi_margin", .help = "How far other classes come within a margin of the label's."},
    {"Loss.gaussian_nll",
     .help = "Normal distributions: the first half of the outputs are means, the second variances, above 0."},
    {"Loss.kl_div", .help = "Kullback-Leibler divergence of log probabilities from the targets."},
    {"Loss.hinge_embedding", .help = "Distances: near for targets 1, beyond the margin for -1."},
    {"Loss.dice", .help = "1 - 2 |x y| / (|x| + |y|) of each sample's probabilities."},
    {"Loss.cosine_embedding",
     .help = "Outputs [N, 2, D], a pair each: alike for targets 1, cosine below the margin for -1 (labels: 1 and 0)."},
    {"Loss.margin_ranking",
     .help = "Outputs [N, 2]: the first above the second by the margin for targets 1, below for -1 (labels: 1 and 0)."},
    {"Loss.triplet_margin",
     .help =
         "Outputs [N, 3, D], anchor, positive and negative: the positive nearer by the margin. Targets aren't used."},
    {"Loss.info_nce", .help =
                          "Outputs [N, 2, D], query and key: the own key among those of the microbatch, whatever the "
                          "layout; training.microbatches must be given. Targets aren't used."},
    {"Loss.multilabel_margin",
     .help = "Outputs [N, C]: the labels' above the others by 1; targets are values, labels ended by -1."},
    {"Loss.multilabel_soft_margin", .help = "Binary cross-entropy of logits [N, C], targets 0 and 1 for each label."},
    {"Loss.ctc",
     .help = "Outputs [N, T, V], logits: all ways to read the target's labels off T steps, or a sample's own number of "
             "them (lengths). Means are over labels, then samples."},
    {"Loss.sum", .help = "Several losses, weighted; or the list of its parts alone."},
    {"Loss.Part.weight", AT_LEAST(0), .help = "Its factor."},
    {"Loss.*.weight", AT_LEAST(0), .n_min = 1, .n_max = MAX_SIDE, .default_text = "1 for each",
     .help = "Weight of each class (each output, for bce); or one for all."},
    {"Loss.*.ignore_index", .default_text = "none is ignored",
     .help =
         "Label that doesn't count; the mean is over the others. It needn't be a class: data of npy, csv and sequences "
         "may have -1 or 255 there."},
    {"Loss.CrossEntropy.label_smoothing", FRACTION, .default_text = "training.label_smoothing",
     .help = "Share of the target spread over all classes."},
    {"Loss.MultiMargin.p", WITHIN(1, 2), .help = "Power of what comes within the margin."},
    {"Loss.*.margin", .help = "The margin."},
    {"Loss.TripletMargin.p", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .help = "Norm of the distances."},
    {"Loss.TripletMargin.epsilon", AT_LEAST(0), .help = "Added to each difference."},
    {"Loss.TripletMargin.swap", .help = "Whether the negative's distance to the positive counts where it is less."},
    {"Loss.InfoNce.temperature", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0,
     .help = "What cosines are divided by."},
    {"Loss.Ctc.blank", AT_LEAST(0), .help = "The output that stands for no label."},
    {"Loss.Ctc.zero_infinity", .help = "Whether targets too long for T count 0, instead of being an error."},
    {"Loss.Ctc.padding", AT_LEAST(-1), .help = "What ends a target's labels; it may be the blank."},
    {"Loss.Ctc.lengths",
     .help = "How many steps of a sample's outputs count: whole, all of them; tokens, those up to its last token that "
             "model.padding isn't; given, as many as its target's first number says, whose second number is how many "
             "labels follow."},
    {"Loss.Ctc.reduction",
     .help = "mean: each loss is divided by its labels, then averaged over the samples, as PyTorch does; batch_mean: "
             "averaged over the samples; sum: that times training.batch, the sum over a step's samples."},
    {"Loss.SmoothL1.beta", AT_LEAST(0), .help = "Where squares end."},
    {"Loss.Huber.delta", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .help = "Where squares end."},
    {"Loss.BceWithLogits.pos_weight", AT_LEAST(0), .n_min = 1, .n_max = MAX_SIDE, .default_text = "1 for each",
     .help = "Weight of positive targets for each output; or one for all."},
    {"Loss.PoissonNll.log_input", .help = "Whether the outputs are logarithms of the rates."},
    {"Loss.*.full", .help = "Whether terms that don't depend on the outputs are added."},
    {"Loss.*.epsilon", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0,
     .help = "Added to the rate or to both sides of the ratio; the least variance."},
    {"Loss.KlDiv.log_target", .help = "Whether the targets are logarithms too."},
    {"Loss.KlDiv.batch_mean", .help = "Whether samples are averaged, and not values."},
    {"Loss.Focal.alpha", .flags = SPEC_HAS_MAX, .max = 1, .help = "Weight of positive targets; below 0: none."},
    {"Loss.Focal.gamma", AT_LEAST(0), .help = "How much less counts what is right already."},
    {"Loss.Sum.parts", .flags = SPEC_REQUIRED | SPEC_SHORT, .n_min = 1, .n_max = 8, .help = "The losses."},
    {"Loss.Part.loss", NEEDED, .help = "The loss; not a sum."},
    {"Loss.Part.outputs", AT_LEAST(0), .n_min = 2, .n_max = 2, .default_text = "all",
     .help = "[from, to) of the outputs' last dimension."},
    {"Loss.Part.targets", AT_LEAST(0), .n_min = 2, .n_max = 2, .default_text = "all",
     .help = "[from, to) of a target's values; one value is the label of a loss of classes."},
    {"ParameterGroup.match", NEEDED, .help = "Pattern of parameters' full names: * ? [a-z]; * also stands for dots."},
    {"ParameterGroup.lr_scale", AT_LEAST(0), .help = "Factor of the learning rate."},
    {"ParameterGroup.weight_decay", AT_LEAST(0), .default_text = "the optimizer's", .help = "Weight decay."},
    {"ParameterGroup.freeze", .help = "Whether the parameters keep their values."},
    {"ParameterGroup.adamw", .help = "With muon: whether these matrices get AdamW (embeddings, the output layer)."},
    {"Average.decay", FRACTION, .help = "Share of the average that stays at each step."},
    {"Average.evaluate", .help = "Whether the average is evaluated instead of the parameters."},
    {"Average.save", .help = "Whether checkpoints hold average.safetensors, the model with averaged parameters."},

    {"Optimizer.sgd", .help = "Stochastic gradient descent with momentum."},
    {"Optimizer.adamw", .help = "Adam with decoupled weight decay (Loshchilov and Hutter)."},
    {"Optimizer.adam", .help = "Adam (Kingma and Ba); weight decay is added to the gradient."},
    {"Optimizer.nadam", .help = "Adam with Nesterov's momentum (Dozat)."},
    {"Optimizer.radam", .help = "Rectified Adam (Liu et al.)."},
    {"Optimizer.adagrad", .help = "Adagrad (Duchi et al.)."},
    {"Optimizer.adadelta", .help = "Adadelta (Zeiler)."},
    {"Optimizer.rmsprop", .help = "RMSprop, also centred or with momentum."},
    {"Optimizer.lamb", .help = "Adam with steps scaled by each tensor's norm (You et al.), for large batches."},
    {"Optimizer.lars", .help = "Momentum with steps scaled by each tensor's norm (You et al.), for large batches."},
    {"Optimizer.lion", .help = "Sign of the momentum (Chen et al.)."},
    {"Optimizer.adafactor", .help = "Second moments by rows and columns (Shazeer and Stern): little memory."},
    {"Optimizer.muon", .help = "Orthogonalised momentum for matrices (Jordan et al.), AdamW for the rest."},
    {"Optimizer.*.lr", .flags = SPEC_REQUIRED | SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .help = "Learning rate."},
    {"Optimizer.*.momentum", FRACTION, .help = "Momentum."},
    {"Optimizer.*.nesterov", .help = "Nesterov's momentum; needs momentum."},
    {"Optimizer.*.weight_decay", AT_LEAST(0), .help = "Weight decay."},
    {"Optimizer.Sgd.dampening", WITHIN(0, 1),
     .help = "Share of the gradient kept out of the momentum; not with nesterov."},
    {"Optimizer.*.amsgrad", .help = "adam, adamw: the largest mean of squares so far divides (Reddi et al.)."},
    {"Optimizer.*.decoupled",
     .help = "nadam, radam: weight decay is taken from the parameter, not added to the gradient."},
    {"Optimizer.*.maximize", .help = "Whether the loss is made large instead of small."},
    {"Optimizer.Lion.betas", FRACTION, .n_min = 2, .n_max = 2, .default_text = "[0.9, 0.99]",
     .help = "Share of the momentum in a step, and decay of the momentum."},
    {"Optimizer.*.betas", FRACTION, .n_min = 2, .n_max = 2, .default_text = "[0.9, 0.999]",
     .help = "Decay of the running mean of gradients and of their squares."},
    {"Optimizer.Adam.epsilon", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .default_text = "1e-08, lamb's 1e-06",
     .help = "Added to the denominator."},
    {"Optimizer.*.epsilon", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .help = "Added to the denominator."},
    {"Optimizer.NAdam.momentum_decay", AT_LEAST(0), .help = "How fast the momentum's schedule rises."},
    {"Optimizer.Adagrad.lr_decay", AT_LEAST(0), .help = "The rate is divided by 1 + lr_decay · step."},
    {"Optimizer.Adagrad.initial_accumulator", AT_LEAST(0), .help = "What the sums of squares begin with."},
    {"Optimizer.Adadelta.rho", FRACTION, .help = "Decay of the means of squares."},
    {"Optimizer.RmsProp.alpha", FRACTION, .help = "Decay of the mean of squares."},
    {"Optimizer.RmsProp.centered", .help = "Whether the variance divides instead of the mean of squares."},
    {"Optimizer.Lars.trust_coefficient", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0,
     .help = "Length of a step relative to the tensor's norm."},
    {"Optimizer.Adafactor.beta2_decay", WITHIN(-10, 0), .help = "Exponent of the step in the means' weights."},
    {"Optimizer.Adafactor.scale_floor", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0,
     .help = "Least root mean square of a tensor that scales its steps."},
    {"Optimizer.Adafactor.clip_threshold", AT_LEAST(1), .help = "Largest root mean square of an update."},
    {"Optimizer.Muon.iterations", WITHIN(1, 99), .help = "Newton-Schulz iterations."},
    {"Optimizer.Muon.match_adamw", .help = "Whether steps are as long as AdamW's: 0.2 · sqrt(larger side)."},
    {"Optimizer.Muon.adamw_lr", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .default_text = "lr",
     .help = "Learning rate of AdamW for what isn't a matrix; follows the same schedule."},
    {"Optimizer.*.decay_matrices_only",
     .help = "Whether parameters of fewer than two dimensions are spared the weight decay."},

    {"Schedule.constant", .help = "The same rate, after the warm-up."},
    {"Schedule.cosine", .help = "Half a cosine from lr down to final_lr."},
    {"Schedule.linear", .help = "A line from lr down to final_lr."},
    {"Schedule.*.warmup", WITHIN(0, MAX_STEPS), .unit = "steps", .help = "Steps over which the rate rises from 0."},
    {"Schedule.*.final_lr", AT_LEAST(0), .help = "Learning rate at the end."},
    {"Schedule.step", .help = "Multiplied by gamma every so many steps."},
    {"Schedule.multi_step", .help = "Multiplied by gamma at each milestone."},
    {"Schedule.exponential", .help = "Multiplied by gamma at each step."},
    {"Schedule.cosine_restarts", .help = "Cosines from lr down to final_lr, again and again (Loshchilov and Hutter)."},
    {"Schedule.polynomial", .help = "A power of the share of steps left, from lr down to final_lr."},
    {"Schedule.one_cycle", .help = "Up to lr and down again (Smith and Topin)."},
    {"Schedule.stable_decay", .help = "Warm-up, then the same rate, and a decay over the last steps."},
    {"Schedule.plateau", .help = "Reduced when the validation loss stops falling."},
    {"Schedule.chained", .help = "The product of several schedules; or the list of them alone."},
    {"Schedule.sequence", .help = "Several schedules one after the other."},
    {"Schedule.Step.every", NEEDED_WITHIN(1, MAX_STEPS), .unit = "steps", .help = "Distance of the reductions."},
    {"Schedule.Exponential.gamma", .flags = SPEC_REQUIRED | SPEC_HAS_MIN | SPEC_HAS_MAX | SPEC_MIN_OPEN, .min = 0,
     .max = 1, .help = "Factor of each step."},
    {"Schedule.*.gamma", .flags = SPEC_HAS_MIN | SPEC_HAS_MAX | SPEC_MIN_OPEN, .min = 0, .max = 1,
     .help = "Factor of a reduction."},
    {"Schedule.MultiStep.milestones", NEEDED_WITHIN(1, MAX_STEPS), .n_min = 1, .n_max = 1000, .unit = "steps",
     .help = "Steps at which the rate is reduced, ascending."},
    {"Schedule.Restarts.length", NEEDED_WITHIN(1, MAX_STEPS), .unit = "steps", .help = "Length of the first cosine."},
    {"Schedule.Restarts.factor", WITHIN(1, 1000), .help = "How much longer each cosine is than the one before."},
    {"Schedule.Polynomial.power", .flags = SPEC_HAS_MIN | SPEC_MIN_OPEN, .min = 0, .help = "The exponent."},
    {"Schedule.OneCycle.rise", WITHIN(0, 1), .help = "Share of the steps in which the rate rises."},
    {"Schedule.OneCycle.divisor", AT_LEAST(1), .help = "The rate begins at lr divided by it."},
    {"Schedule.OneCycle.final_divisor", AT_LEAST(1), .help = "The rate ends at its beginning divided by it."},
    {"Schedule.*.shape", .help = "Form of the curve."},
    {"Schedule.StableDecay.decay", NEEDED_WITHIN(1, MAX_STEPS), .unit = "steps",
     .help = "Steps at the end in which the rate decays."},
    {"Schedule.Plateau.factor", .flags = SPEC_HAS_MIN | SPEC_HAS_MAX | SPEC_MIN_OPEN | SPEC_MAX_OPEN, .min = 0,
     .max = 1, .help = "Factor of a reduction."},
    {"Schedule.Plateau.patience", WITHIN(0, 1000000), .unit = "evaluations",
     .help = "Evaluations without progress that are let pass."},
    {"Schedule.Plateau.threshold", FRACTION, .help = "Relative fall of the loss that counts as progress."},
    {"Schedule.Plateau.cooldown", WITHIN(0, 1000000), .unit = "evaluations",
     .help = "Evaluations after a reduction that don't count."},
    {"Schedule.Plateau.min_lr", AT_LEAST(0), .help = "The peak rate isn't reduced below it."},
    {"Schedule.Parts.parts", .flags = SPEC_REQUIRED | SPEC_SHORT, .n_min = 1, .n_max = 64,
     .help = "The schedules, each counting its own steps."},
    {"Schedule.Sequence.parts", NEEDED, .n_min = 1, .n_max = 64, .help = "The schedules, each counting its own steps."},
    {"Schedule.Sequence.milestones", WITHIN(1, MAX_STEPS), .n_min = 1, .n_max = 63, .unit = "steps",
     .help = "The steps at which the second part and those after it begin, ascending."},

    {"Evaluation.every", WITHIN(1, MAX_STEPS), .unit = "steps", .default_text = "only after the last step",
     .help = "Distance of evaluations; the last step is always evaluated."},
    {"Evaluation.batches", WITHIN(0, MAX_STEPS), .unit = "batches",
     .help = "How much of data.validation is used, in batches of training.batch samples; 0: all."},
    {"Checkpoint.every", WITHIN(1, MAX_STEPS), .unit = "steps", .default_text = "only after the last step",
     .help = "Distance of checkpoints; the last step is always saved."},
    {"Checkpoint.keep", WITHIN(1, 1000000), .unit = "checkpoints", .help = "How many of the newest are kept."},
    {"Checkpoint.allow_fingerprint_change",
     .help = "Whether the job may be resumed where threads, kernels or libraries give other bits."},
    {"Restart.max", WITHIN(0, 1000000), .unit = "restarts", .help = "Restarts after failures; 0: none."},
    {"Restart.backoff", .flags = SPEC_DURATION | SPEC_HAS_MIN | SPEC_HAS_MAX, .min = 0, .max = 300000,
     .help = "Wait before the first restart; doubles with each attempt that saves no checkpoint, up to 5 minutes."},
    {"Restart.grace", .flags = SPEC_DURATION | SPEC_HAS_MIN | SPEC_HAS_MAX, .min = 0, .max = 86400000,
     .help = "Time between asking a job to stop and killing it."},

    {"Generate.prompt", .default_text = "a line break",
     .help = "Text that the sample continues; for sequences, the source that is answered (needed)."},
    {"Generate.tokens", WITHIN(1, 100000), .unit = "tokens",
     .help = "Length of the sample. An answer ends at its end, and has no more tokens than sequences.target_length."},
    {"Generate.temperature", WITHIN(0, 100), .help = "Spread of the choice; 0: always the most likely token."},
    {"Generate.top_k", WITHIN(0, MAX_SIDE * 1024.0), .unit = "tokens",
     .help = "Choose among so many of the most likely; 0: among all."},
};
const int spec_n_rules = (int)(sizeof(spec_rules) / sizeof(spec_rules[0]));

const char *spec_message_name(const ProtobufCMessageDescriptor *message)
{
    size_t length = strlen(message->package_name);
    return strncmp(message->name, message->package_name, length) == 0 ? message->name + length + 1 : message->name;
}

/* Compares one word up to '.' or the end; '*' in the pattern fits any. */
static bool word_fits(const char **pattern, const char **text)
{
    size_t pattern_length = strcspn(*pattern, ".");
    size_t text_length = strcspn(*text, ".");
    bool fits = (pattern_length == 1 && **pattern == '*') ||
                (pattern_length == text_length && strncmp(*pattern, *text, text_length) == 0);
    *pattern += pattern_length;
    *text += text_length;
    return fits;
}

static bool rule_fits(const char *pattern, const char *message, const char *field)
{
    while (*message != '\0') {
        if (!word_fits(&pattern, &message) || *pattern != '.') {
            return false;
        }
        pattern++;
        message += *message == '.';
    }
    return strcmp(pattern, field) == 0;
}

const spec_rule_t *spec_rule_find(const ProtobufCMessageDescriptor *message, const ProtobufCFieldDescriptor *field)
{
    for (int i = 0; i < spec_n_rules; i++) {
        if (rule_fits(spec_rules[i].field, spec_message_name(message), field->name)) {
            return &spec_rules[i];
        }
    }
    return NULL;
}

const char *spec_rule_range(const spec_rule_t *rule, char buffer[96])
{
    char min[32];
    char max[32];
    bool has_min = (rule->flags & SPEC_HAS_MIN) != 0;
    bool has_max = (rule->flags & SPEC_HAS_MAX) != 0;
    const char *unit = (rule->flags & SPEC_DURATION) != 0 ? " ms" : (rule->flags & SPEC_BYTES) != 0 ? " bytes" : "";
    spec_format_double(rule->min, min);
    spec_format_double(rule->max, max);
    buffer[0] = '\0';
    if (has_min && has_max) {
        (void)snprintf(buffer, 96, "%s%s to %s%s%s", (rule->flags & SPEC_MIN_OPEN) != 0 ? "more than " : "", min,
                       (rule->flags & SPEC_MAX_OPEN) != 0 ? "less than " : "", max, unit);
    } else if (has_min) {
        (void)snprintf(buffer, 96, "%s %s%s", (rule->flags & SPEC_MIN_OPEN) != 0 ? "more than" : "at least", min, unit);
    }
    return buffer;
}

bool spec_is_union(const ProtobufCMessageDescriptor *message)
{
    for (unsigned i = 0; i < message->n_fields; i++) {
        if ((message->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            return true;
        }
    }
    return false;
}

const ProtobufCFieldDescriptor *spec_list_field(const ProtobufCMessageDescriptor *message)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(message, "layers");
    bool takes_list = field != NULL && strcmp(spec_message_name(message), "Model") != 0;
    return takes_list && field->label == PROTOBUF_C_LABEL_REPEATED ? field : NULL;
}

const ProtobufCFieldDescriptor *spec_short_field(const ProtobufCMessageDescriptor *message)
{
    for (unsigned i = 0; i < message->n_fields; i++) {
        const spec_rule_t *rule = spec_rule_find(message, &message->fields[i]);
        if (rule != NULL && (rule->flags & SPEC_SHORT) != 0) {
            return &message->fields[i];
        }
    }
    return NULL;
}
