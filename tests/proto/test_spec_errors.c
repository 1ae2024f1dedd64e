/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that are wrong: every class of mistake, with its whole message and place. */
#include "tests/support/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "proto/spec.h"

#define MODEL "model: {layers: [flatten, {linear: {out: 10}}]}\n"
#define DATA "data: {train: {idx: {images: /etc/passwd, labels: /etc/group}}}\n"
#define TRAINING "training: {steps: 1, batch: 6, optimizer: {sgd: {lr: 0.1}}}\n"

static void assert_source(const spec_source_t *source, const char *expected)
{
    spec_problems_t problems = {0};
    spec_job_t *job = NULL;
    strbuf_t text = {0};

    status_t status = spec_job_parse(source, &job, &problems);

    spec_problems_format(&problems, &text);
    assert_string_equal(strbuf_text(&text), expected);
    assert_int_equal(status, ST_ERR_PARSE);
    assert_null(job);
    size_t first_line = strcspn(expected, "\n");
    assert_int_equal(strlen(status_message()), first_line);
    assert_memory_equal(status_message(), expected, first_line);
    strbuf_release(&text);
    spec_problems_release(&problems);
}

static void assert_problems(const char *yaml, const char *expected)
{
    spec_source_t source = {.text = yaml, .text_length = strlen(yaml), .directory = "/etc"};
    assert_source(&source, expected);
}

static void a_syntax_error_has_its_place(void **state)
{
    (void)state;
    assert_problems("name: x\nmodel: {layers: [relu\ndata: 1\n",
                    "job.yaml:3:5: YAML: did not find expected ',' or ']', while parsing a flow sequence that begins "
                    "at 2:17\n");
    assert_problems("name: x\n\tseed: 1\n",
                    "job.yaml:2:1: YAML: found a tab character that violates indentation, while scanning a plain "
                    "scalar that begins at 1:7 (a tab; indent with spaces)\n");
    assert_problems("name: \xff\n", "job.yaml:1:7: YAML: invalid leading UTF-8 octet\n");
    assert_problems("", "job.yaml: the file is empty\n");
    assert_problems("- name\n", "job.yaml:1:1: the job: expected a map, got a list\n");
    assert_problems("name: \"a\\0b\"\n", "job.yaml:1:7: text with a NUL character\n");
}

static void an_unknown_key_suggests_the_nearest(void **state)
{
    (void)state;
    assert_problems(MODEL DATA "training:\n"
                               "  steps: 1\n"
                               "  batch: 6\n"
                               "  optimzer: {sgd: {lr: 0.1}}\n",
                    "job.yaml:4:3: missing key \"optimizer\" in training\n"
                    "job.yaml:6:3: unknown key \"optimzer\" in training; did you mean \"optimizer\"?\n");
    assert_problems("naem: x\n" MODEL DATA TRAINING,
                    "job.yaml:1:1: unknown key \"naem\" in the job; did you mean \"name\"?\n");
    assert_problems("something_else: x\n" MODEL DATA TRAINING,
                    "job.yaml:1:1: unknown key \"something_else\" in the job\n");
    assert_problems("model: {layers: [{liner: {out: 1}}, rleu]}\n" DATA TRAINING,
                    "job.yaml:1:19: unknown layer \"liner\" in model.layers[0]; did you mean \"linear\"?\n"
                    "job.yaml:1:37: unknown layer \"rleu\" in model.layers[1]; did you mean \"relu\"?\n");
    assert_problems(
        "model: {layers: [{conv1d: {out: 1, kernel_size: 3}}, {linear: 10}, {dropout: 0.5}]}\n" DATA TRAINING,
        "job.yaml:1:27: missing key \"kernel\" in model.layers[0].conv1d\n"
        "job.yaml:1:36: unknown key \"kernel_size\" in model.layers[0].conv1d; did you mean \"kernel\"?\n"
        "job.yaml:1:63: model.layers[1].linear: expected a map such as {out: 10}, got \"10\"\n"
        "job.yaml:1:78: model.layers[2].dropout: expected a map such as {p: 0.5}, got \"0.5\"\n");
    assert_problems("model: {layers: [{linear: {out: 1, line: 3}}]}\n" DATA TRAINING,
                    "job.yaml:1:36: unknown key \"line\" in model.layers[0].linear\n");
}

static void a_wrong_type_says_what_was_expected(void **state)
{
    (void)state;
    /* a long text is cut between two characters: a message is UTF-8, or no client can read it */
    assert_problems(
        "seed: a\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
        "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\n" MODEL DATA TRAINING,
        "job.yaml:1:7: seed: expected an integer, got \"a\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
        "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u2026\"\n");
    assert_problems(MODEL DATA "training: {steps: many, batch: \"6\", optimizer: {sgd: {lr: fast, nesterov: yes}}}\n",
                    "job.yaml:3:19: training.steps: expected an integer, got \"many\"\n"
                    "job.yaml:3:32: training.batch: expected an integer, got \"6\"\n"
                    "job.yaml:3:59: training.optimizer.sgd.lr: expected a number, got \"fast\"\n"
                    "job.yaml:3:75: training.optimizer.sgd.nesterov: expected true or false, got \"yes\"\n");
    assert_problems("resources: 2\nrestart: {backoff: 5}\nname: [x]\n" MODEL DATA TRAINING,
                    "job.yaml:1:12: resources: expected a map such as {workers: 2}, got \"2\"\n"
                    "job.yaml:2:20: restart.backoff: expected a duration such as 500ms, 1s or 2m, got \"5\"\n"
                    "job.yaml:3:7: name: expected text, got a list\n");
    assert_problems(MODEL DATA "training: {steps: 1, batch: 6, memory_budget: 2GB, optimizer: {sgd: {lr: 1}}}\n",
                    "job.yaml:3:47: training.memory_budget: expected bytes such as 512MiB or 2GiB, got \"2GB\"\n");
    assert_problems(MODEL DATA "training: {steps: 1, batch: 6, memory_budget: 0KiB, optimizer: {sgd: {lr: 1}}}\n",
                    "job.yaml:3:47: training.memory_budget: 0KiB is out of range: 1 to 1e+15 bytes\n");
    assert_problems("resources: {device: cdua, workers: 010}\nseed: -1\n" MODEL DATA TRAINING,
                    "job.yaml:1:21: resources.device: expected one of cpu, cuda, got \"cdua\"; did you mean \"cuda\"?\n"
                    "job.yaml:1:36: resources.workers: expected an integer, got \"010\"\n"
                    "job.yaml:2:7: seed: -1 is out of range: 0 to 18446744073709551615\n");
    assert_problems("model: {layers: relu}\n" DATA "training: {steps: , batch: 6, optimizer: {}}\n",
                    "job.yaml:1:17: model.layers: expected a list, got \"relu\"\n"
                    "job.yaml:3:19: training.steps: expected an integer, got nothing\n"
                    "job.yaml:3:42: training.optimizer: expected one of sgd, adamw, adam, nadam, radam, adagrad, "
                    "adadelta, rmsprop, lamb, lars, lion, "
                    "adafactor, muon, got an empty map\n");
}

static void a_value_out_of_range_says_the_range(void **state)
{
    (void)state;
    assert_problems(
        "resources: {workers: 0, threads: 99999999999}\n" MODEL DATA
        "training: {steps: 0, batch: 6, label_smoothing: 1.0, optimizer: {adamw: {lr: 0, betas: [0.9, 1]}}}\n"
        "restart: {backoff: 10m}\n",
        "job.yaml:1:22: resources.workers: 0 is out of range: 1 to 65536\n"
        "job.yaml:1:34: resources.threads: 99999999999 is out of range: 1 to 1024\n"
        "job.yaml:4:19: training.steps: 0 is out of range: 1 to 1000000000000\n"
        "job.yaml:4:49: training.label_smoothing: 1.0 is out of range: 0 to less than 1\n"
        "job.yaml:4:78: training.optimizer.adamw.lr: 0 is out of range: more than 0\n"
        "job.yaml:4:94: training.optimizer.adamw.betas[1]: 1 is out of range: 0 to less than 1\n"
        "job.yaml:5:20: restart.backoff: 10m is out of range: 0 to 300000 ms\n");
    assert_problems("model: {layers: [{conv2d: {out: 1, kernel: [1, 2, 3]}}]}\n" DATA
                    "training: {steps: 1, batch: 6, clip_norm: 1e999, optimizer: {adamw: {lr: 1, betas: 0.9}}}\n",
                    "job.yaml:1:44: model.layers[0].conv2d.kernel: expected 1 to 2 values, got 3\n"
                    "job.yaml:3:43: training.clip_norm: 1e999 doesn't fit into a double\n"
                    "job.yaml:3:84: training.optimizer.adamw.betas: expected a list of two numbers, got \"0.9\"\n");
}

static void a_duplicate_key_names_both_places(void **state)
{
    (void)state;
    assert_problems("name: x\n" MODEL DATA TRAINING "name: y\n",
                    "job.yaml:5:1: duplicate key \"name\": already given at 1:1\n");
    assert_problems(MODEL DATA "training: {steps: 1, batch: 6, optimizer: {sgd: {lr: 0.1, lr: [0.2]}}}\n",
                    "job.yaml:3:59: duplicate key \"lr\": already given at 3:50\n");
}

static void yaml_that_hides_what_it_means_is_refused(void **state)
{
    (void)state;
    assert_problems("name: &a x\n" MODEL DATA TRAINING,
                    "job.yaml:1:7: anchors aren't allowed here: write the value out instead of \"&a\"\n");
    assert_problems("name: *a\n", "job.yaml:1:7: aliases aren't allowed here: write the value out instead of \"*a\"\n");
    assert_problems("name: !!str x\n" MODEL DATA TRAINING,
                    "job.yaml:1:7: tags aren't allowed here: \"tag:yaml.org,2002:str\"\n");
    assert_problems("name: x\n---\nname: y\n", "job.yaml:2:1: a second document: one file holds one document\n");
    assert_problems("[a, b]: x\n", "job.yaml:1:1: a key must be text, not a list\n");
}

static void all_errors_are_reported_in_their_order(void **state)
{
    (void)state;
    assert_problems(
        "name: \"-x\"\n"
        "modle: {}\n"
        "data: {train: {text: {path: /etc, part: [0.5, 0.2], context: 8}}}\n"
        "training:\n"
        "  batch: 12\n"
        "  microbatches: 5\n"
        "  optimizer: {adamw: {lr: 1}, sgd: {lr: 1}}\n"
        "evaluation: {every: 10}\n",
        "job.yaml:1:1: missing key \"model\" in the job\n"
        "job.yaml:1:7: name: \"-x\" isn't a job's name: letters, digits, . _ -, first a letter or digit, at "
        "most 63\n"
        "job.yaml:2:1: unknown key \"modle\" in the job; did you mean \"model\"?\n"
        "job.yaml:3:41: data.train.text.part: [0.5, 0.2] is empty: the first must be less than the second\n"
        "job.yaml:5:3: training: either steps or epochs are needed\n"
        "job.yaml:6:17: training.microbatches: 5 doesn't divide training.batch 12\n"
        "job.yaml:7:31: training.optimizer: exactly one kind, but both \"adamw\" and \"sgd\"\n"
        "job.yaml:8:13: evaluation: needs data.validation\n");
}

static void at_most_fifty_problems_are_kept(void **state)
{
    (void)state;
    strbuf_t yaml = {0};
    strbuf_append(&yaml, "model:\n  layers:\n");
    for (int i = 0; i < 80; i++) {
        strbuf_append(&yaml, "    - nonsense_layer\n");
    }
    spec_source_t source = {.text = strbuf_text(&yaml), .text_length = yaml.length};
    spec_problems_t problems = {0};
    spec_job_t *job = NULL;

    assert_fails(spec_job_parse(&source, &job, &problems), ST_ERR_PARSE, "job.yaml:1:1: missing key \"data\"");

    assert_int_equal(problems.n_items, SPEC_MAX_PROBLEMS);
    assert_int_equal(problems.items[49].line, 50);
    strbuf_release(&yaml);
    spec_problems_release(&problems);
}

/* Time that this thread has had a CPU. */
static int64_t cpu_now_ns(void)
{
    struct timespec now = {0};
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void what_would_take_long_ends_at_once(void **state)
{
    (void)state;
    size_t length = 100 * 1000;
    char *brackets = mem_alloc(length + 1);
    memset(brackets, '[', length);
    brackets[length] = '\0';
    int64_t best_ns = INT64_MAX;

    for (int i = 0; i < 5; i++) { /* the CPU's time, not the clock's, and the best: other programs don't count */
        int64_t begin_ns = cpu_now_ns();
        assert_problems(brackets, "job.yaml:1:33: nested deeper than 32 levels\n");
        int64_t took_ns = cpu_now_ns() - begin_ns;
        best_ns = took_ns < best_ns ? took_ns : best_ns;
    }

    assert_true(best_ns < 50 * 1000 * 1000);
    for (size_t i = 0; i + 1 < length; i += 2) {
        memcpy(brackets + i, "x ", 2);
    }
    mem_free(brackets);

    strbuf_t yaml = {0};
    strbuf_append(&yaml, "name: [");
    for (int i = 0; i < 30000; i++) {
        strbuf_append(&yaml, "1,");
    }
    strbuf_append(&yaml, "]\n");
    assert_problems(strbuf_text(&yaml), "job.yaml:1:40004: more than 20000 values in one file\n");
    strbuf_clear(&yaml);
    for (int i = 0; i < 300 * 1024; i++) {
        strbuf_append_char(&yaml, '#');
    }
    assert_problems(strbuf_text(&yaml), "job.yaml: larger than 256 KiB\n");
    strbuf_release(&yaml);
}

static void microbatches_must_fit_the_batch_and_the_workers(void **state)
{
    (void)state;
    assert_problems(
        "resources: {workers: 4}\n" MODEL DATA "training: {steps: 1, batch: 6, optimizer: {sgd: {lr: 0.1}}}\n",
        "job.yaml:4:29: training.batch: 6 isn't divisible by 4 microbatches, the default: one per worker\n");
    assert_problems("resources: {workers: 3}\n" MODEL DATA
                    "training: {steps: 1, batch: 12, microbatches: 4, optimizer: {sgd: {lr: 0.1}}}\n",
                    "job.yaml:1:22: resources.workers: 3 doesn't divide training.microbatches 4\n");
    assert_problems("parallel: {data: 2}\n" MODEL DATA TRAINING,
                    "job.yaml:1:18: parallel.data: 2 must equal resources.workers 1\n");
    assert_problems(MODEL DATA
                    "training: {steps: 1, epochs: 2, batch: 6, optimizer: {sgd: {lr: 0.1, nesterov: true}}}\n",
                    "job.yaml:3:30: training.epochs: give either steps or epochs, not both\n"
                    "job.yaml:3:80: training.optimizer.sgd.nesterov: needs momentum more than 0\n");
}

static void schedules_and_groups_are_checked(void **state)
{
    (void)state;
    assert_problems(
        MODEL DATA
        "training:\n"
        "  steps: 9\n"
        "  batch: 6\n"
        "  optimizer: {muon: {lr: 0.1, momentum: 0}}\n"
        "  schedule: {sequence: {parts: [{multi_step: {milestones: [5, 5]}}, plateau], milestones: [3, 2]}}\n",
        "job.yaml:6:21: training.optimizer.muon.nesterov: needs momentum more than 0\n"
        "job.yaml:7:59: training.schedule.sequence.parts[0].multi_step.milestones: 5 comes after 5: the "
        "steps must rise\n"
        "job.yaml:7:69: training.schedule.sequence.parts[1].plateau: only as the schedule, or as one part "
        "of a chained one\n"
        "job.yaml:7:91: training.schedule.sequence.milestones: 2 comes after 3: the steps must rise\n"
        "job.yaml:7:91: training.schedule.sequence.milestones: 2 for 2 parts: each part but the first "
        "needs one\n");
    assert_problems(MODEL DATA
                    "training: {steps: 9, batch: 6, optimizer: {sgd: {lr: 1}}, loss: huber, label_smoothing: 0.1}\n",
                    "job.yaml:3:89: training.label_smoothing: only with the loss cross_entropy\n");
    assert_problems(MODEL DATA "training: {steps: 9, batch: 6, optimizer: {lion: {lr: 1, betas: [0.9, 1.1]}},\n"
                               "  schedule: plateau, groups: [{match: \"*\", adamw: true}, {lr_scale: -1}]}\n",
                    "job.yaml:3:71: training.optimizer.lion.betas[1]: 1.1 is out of range: 0 to less than 1\n"
                    "job.yaml:4:13: training.schedule.plateau: needs data.validation, whose loss it watches\n"
                    "job.yaml:4:51: training.groups[0].adamw: only with the optimizer muon\n"
                    "job.yaml:4:58: missing key \"match\" in training.groups[1]\n"
                    "job.yaml:4:69: training.groups[1].lr_scale: -1 is out of range: at least 0\n");
}

static void losses_are_checked_with_their_parameters(void **state)
{
    (void)state;
    assert_problems(MODEL DATA "training: {steps: 1, batch: 6, optimizer: {sgd: {lr: 1}}, loss: {huber: {delta: 0}}}\n",
                    "job.yaml:3:81: training.loss.huber.delta: 0 is out of range: more than 0\n");
    assert_problems(MODEL DATA "training: {steps: 1, batch: 6, optimizer: {sgd: {lr: 1}}, loss: hubber}\n",
                    "job.yaml:3:65: unknown kind \"hubber\" in training.loss; did you mean \"huber\"?\n");
    assert_problems(MODEL DATA
                    "training: {steps: 1, batch: 6, optimizer: {sgd: {lr: 1}},\n"
                    "  loss: {sum: [{loss: mse, outputs: [3, 3]}, {weight: 2}, {loss: {sum: [{loss: l1}]}}]}}\n",
                    "job.yaml:4:37: training.loss.sum.parts[0].outputs: [3, 3) is empty: the first must be less than "
                    "the second\n"
                    "job.yaml:4:46: missing key \"loss\" in training.loss.sum.parts[1]\n"
                    "job.yaml:4:66: training.loss.sum.parts[2].loss: a sum in a sum: put its parts here\n");
    assert_problems(MODEL DATA
                    "training: {steps: 9, batch: 6, optimizer: {sgd: {lr: 1}}, loss: {ctc: {lengths: tokens}}}\n",
                    "job.yaml:3:81: training.loss.ctc.lengths: tokens: needs model.padding, the token that a sample is "
                    "filled up with\n");
    assert_problems(MODEL DATA "resources: {workers: 3}\n"
                               "training: {steps: 9, batch: 6, optimizer: {sgd: {lr: 1}}, loss: {info_nce: {}}}\n",
                    "job.yaml:4:11: training.microbatches: training.loss.info_nce compares a sample with the others of "
                    "its microbatch, so that the result depends on their number: it must be given (left out, it is "
                    "resources.workers, now 3)\n");
    assert_problems(MODEL DATA "training: {steps: 9, batch: 6, optimizer: {sgd: {lr: 1}},\n"
                               "  loss: {sum: [{loss: mse}, {loss: info_nce}]}}\n",
                    "job.yaml:3:11: training.microbatches: training.loss.sum.parts[1].loss.info_nce compares a sample "
                    "with the others of its microbatch, so that the result depends on their number: it must be given "
                    "(left out, it is resources.workers, now 1)\n");
    assert_problems(MODEL DATA "training: {steps: 9, batch: 6, microbatches: 1, optimizer: {sgd: {lr: 1}},\n"
                               "  loss: info_nce, label_smoothing: 0.1}\n",
                    "job.yaml:4:36: training.label_smoothing: only with the loss cross_entropy\n");
}

static void data_that_is_not_there_is_missed_at_submit(void **state)
{
    (void)state;
    assert_problems(MODEL "data:\n"
                          "  train: {idx: {images: no/images.gz, labels: /etc/passwd/x}}\n"
                          "  validation: {text: {path: /etc/passw?, context: 8}}\n" TRAINING "generate: {}\n",
                    "job.yaml:3:25: data.train.idx.images: /etc/no/images.gz: no such file\n"
                    "job.yaml:3:47: data.train.idx.labels: /etc/passwd/x: no such file\n"
                    "job.yaml:4:15: data.validation: must be of the same kind as data.train\n"
                    "job.yaml:6:11: generate: only for text data, tokens with a tokenizer, or sequences "
                    "whose targets are texts\n");
    assert_problems(MODEL "data:\n"
                          "  train: {text: {path: \"nothing-*.txt\"}}\n" TRAINING,
                    "job.yaml:3:17: data.train.text: context is needed, for the model has no position_embedding\n"
                    "job.yaml:3:24: data.train.text.path: /etc/nothing-*.txt: no file fits\n");
    assert_problems("model: {weights: no.safetensors, layers: [{linear: {out: 1}}]}\n" DATA TRAINING,
                    "job.yaml:1:18: model.weights.file: /etc/no.safetensors: no such file\n");
    assert_problems("model: {weights: {file: /etc, ignore: {}}, layers: [{linear: {out: 1}}]}\n" DATA TRAINING,
                    "job.yaml:1:25: model.weights.file: /etc: a folder; a file is wanted\n"
                    "job.yaml:1:39: model.weights.ignore: expected a list, got a map\n");
    assert_problems(MODEL "data: {train: {image_folder: {path: /etc, channels: 2}}}\n" TRAINING,
                    "job.yaml:2:53: data.train.image_folder.channels: 2 is neither 3 (colours) nor 1 (grey)\n");
    assert_problems(MODEL "data: {train: {csv: {path: /dev/null, target: y, delimiter: ;;}}}\n" TRAINING,
                    "job.yaml:2:61: data.train.csv.delimiter: \";;\" is not one character between fields\n");
    assert_problems(MODEL "data: {train: {sequences: {path: /dev/null, source: a, target: b, length: 3}}}\n" TRAINING,
                    "job.yaml:2:27: data.train.sequences.target_length: missing; only with classes: true there is "
                    "none\n");
    assert_problems(MODEL "data: {train: {idx: {images: /etc, labels: /etc/group}}}\n" TRAINING,
                    "job.yaml:2:30: data.train.idx.images: /etc: a folder; a file is wanted\n");
    assert_problems(MODEL
                    "data: {train: {sequences: {path: /dev/null, source: a, target: b, length: 3, target_length: 3}}}\n"
                    "training: {steps: 9, batch: 6, optimizer: {sgd: {lr: 1}}}\n"
                    "generate: {temperature: 0}\n",
                    "job.yaml:4:11: generate.prompt: is needed: the text that the encoder reads\n");
}

static void layers_are_checked_among_each_other(void **state)
{
    (void)state;
    assert_problems(
        "model:\n"
        "  layers:\n"
        "    - embedding: {name: wte, count: 8, width: 8}\n"
        "    - linear: {name: head, out: 8, tied: wtf}\n"
        "    - residual: [{linear: {name: x., out: 8}}]\n"
        "    - linear: {name: head, out: 8}\n"
        "    - repeat: {times: 200, layers: [{repeat: {times: 100, layers: [relu]}}]}\n" DATA TRAINING,
        "job.yaml:3:5: model.layers: 20206 layers when repeats are written out; at most 10000\n"
        "job.yaml:4:42: model.layers[1].linear.tied: no embedding before it is named \"wtf\"; did you mean "
        "\"wte\"?\n"
        "job.yaml:5:34: model.layers[2].residual.layers[0].linear.name: \"x.\" isn't a layer's name: letters, "
        "digits and _, with dots between words\n"
        "job.yaml:6:22: model.layers[3].linear.name: another layer of this list is named \"head\" too\n");
    assert_problems("model: {layers: [linear, {repeat: [relu]}]}\n" DATA TRAINING,
                    "job.yaml:1:18: missing key \"out\" in model.layers[0].linear\n"
                    "job.yaml:1:35: missing key \"times\" in model.layers[1].repeat\n");
    assert_problems("model: {}\n" DATA TRAINING, "job.yaml:1:8: model: neither layers nor file are given\n");
    assert_problems("model: {layers: []}\n" DATA TRAINING,
                    "job.yaml:1:17: model.layers: a model has at least one layer\n");
}

static void a_model_file_has_errors_of_its_own(void **state)
{
    (void)state;
    const char *yaml = "model: {file: models/m.yaml, with: {widht: 3}}\n" DATA TRAINING "naem: x\n";
    spec_source_t source = {.text = yaml, .text_length = strlen(yaml), .directory = fixture_folder()};
    char expected[1024];
    (void)snprintf(expected, sizeof(expected),
                   "job.yaml:1:15: model.file: %s/models/m.yaml: No such file or directory\n"
                   "job.yaml:4:1: unknown key \"naem\" in the job; did you mean \"name\"?\n",
                   fixture_folder());
    assert_source(&source, expected);

    yaml = "model: {file: m.yaml, with: {widht: 3}}\n" DATA TRAINING "naem: x\n";
    source.text = yaml;
    source.text_length = strlen(yaml);
    (void)fixture_write_text("m.yaml", "parameters: {width: 4}\n"
                                       "layer: []\n"
                                       "layers:\n"
                                       "  - linear: {out: \"${widht}\"}\n"
                                       "  - linear: {out: \"${width / 8}\"}\n");
    assert_source(&source, "job.yaml:1:30: model.with: the model has no parameter \"widht\"; did you mean \"width\"?\n"
                           "job.yaml:4:1: unknown key \"naem\" in the job; did you mean \"name\"?\n"
                           "m.yaml:2:1: unknown key \"layer\" in the model file; did you mean \"layers\"?\n"
                           "m.yaml:4:19: ${widht}: unknown name \"widht\"; did you mean \"width\"?\n"
                           "m.yaml:5:19: model.layers[1].linear.out: expected an integer, got \"0.5\"\n");
    yaml = "model: {file: m.yaml, with: {width: 3}}\n" DATA TRAINING;
    source.text = yaml;
    source.text_length = strlen(yaml);
    (void)fixture_write_text("m.yaml", "parameters: [width, depth]\nlayers: [relu]\n");
    assert_source(&source, "m.yaml:1:13: parameters of the model file: expected a map of names and values\n");
    (void)fixture_write_text("m.yaml", "parameters: {width: 4}\n");
    yaml = "model: {file: m.yaml}\n" DATA TRAINING;
    source.text = yaml;
    source.text_length = strlen(yaml);
    assert_source(&source, "m.yaml:1:1: missing key \"layers\" in the model file\n");
    yaml = "model: {file: \".\", layers: [relu]}\n" DATA TRAINING;
    source.text = yaml;
    source.text_length = strlen(yaml);
    assert_source(&source, "job.yaml:1:20: model: give either file or layers, not both\n");
    yaml = "model: {file: /dev/zero}\n" DATA TRAINING;
    source.text = yaml;
    source.text_length = strlen(yaml);
    assert_source(&source, "job.yaml:1:15: model.file: /dev/zero: not a file\n");
}

static void set_names_itself_in_errors(void **state)
{
    (void)state;
    spec_pair_t set[] = {{"training.stepz", "5"},
                         {"training.batch", "many"},
                         {"resources.workers", "[1"},
                         {"a..b", "1"},
                         {"model.layers.7.linear.out", "1"}};
    const char *yaml = MODEL DATA TRAINING;
    spec_source_t source = {.text = yaml, .text_length = strlen(yaml), .file_name = "x.yaml", .set = set, .n_set = 5};
    assert_source(&source, "--set resources.workers: YAML: did not find expected ',' or ']'\n"
                           "--set a..b: expected a path of names with points between, such as training.steps\n"
                           "--set model.layers.7.linear.out: \"7\" isn't the number of an element: 0 to 1\n"
                           "--set training.batch: training.batch: expected an integer, got \"many\"\n"
                           "--set training.stepz: unknown key \"stepz\" in training; did you mean \"steps\"?\n");
}

static void a_name_that_is_not_known_is_an_error(void **state)
{
    (void)state;
    assert_problems("name: \"${HOME}\"\n" MODEL
                    "data: {train: {idx: {images: \"${GRADD_NO_SUCH}/x\", labels: /etc/group}}}\n" TRAINING,
                    "job.yaml:1:7: ${HOME}: unknown name \"HOME\"\n"
                    "job.yaml:3:30: ${GRADD_NO_SUCH}: unknown name \"GRADD_NO_SUCH\"\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_syntax_error_has_its_place),
        TEST(an_unknown_key_suggests_the_nearest),
        TEST(a_wrong_type_says_what_was_expected),
        TEST(a_value_out_of_range_says_the_range),
        TEST(a_duplicate_key_names_both_places),
        TEST(yaml_that_hides_what_it_means_is_refused),
        TEST(all_errors_are_reported_in_their_order),
        TEST(at_most_fifty_problems_are_kept),
        TEST(what_would_take_long_ends_at_once),
        TEST(microbatches_must_fit_the_batch_and_the_workers),
        TEST(schedules_and_groups_are_checked),
        TEST(losses_are_checked_with_their_parameters),
        TEST(data_that_is_not_there_is_missed_at_submit),
        TEST(layers_are_checked_among_each_other),
        TEST(a_model_file_has_errors_of_its_own),
        TEST(set_names_itself_in_errors),
        TEST(a_name_that_is_not_known_is_an_error),
    };
    return cmocka_run_group_tests_name("spec_errors", tests, NULL, NULL);
}
