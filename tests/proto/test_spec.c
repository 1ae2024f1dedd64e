/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that are right: every form of the language, defaults, parameters, and the ways back to text and bytes. */
#include "tests/support/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/spec.h"

#define GPT_LAYERS                                                                                                     \
    "  layers:\n"                                                                                                      \
    "    - embedding: {name: wte, count: \"${vocabulary}\", width: \"${width}\"}\n"                                    \
    "    - position_embedding: {count: 64}\n"                                                                          \
    "    - repeat:\n"                                                                                                  \
    "        times: \"${layers}\"\n"                                                                                   \
    "        layers:\n"                                                                                                \
    "          - residual: [layer_norm, {attention: {heads: 4, causal: true}}]\n"                                      \
    "          - residual: [layer_norm, {linear: {out: \"${4 * width}\"}}, gelu, {linear: {out: \"${width}\"}}]\n"     \
    "    - layer_norm\n"                                                                                               \
    "    - linear: {out: \"${vocabulary}\", bias: false, tied: wte}\n"

static const char gpt_job[] =
    "name: shakespeare-char\n"
    "seed: 18446744073709551615\n"
    "resources: {workers: 2, device: cpu, threads: 3}\n"
    "model:\n"
    "  parameters: {vocabulary: 65, width: 128, layers: 4}\n" GPT_LAYERS "data:\n"
    "  train: {text: {path: /usr/share/common-licenses, tokens: characters, part: [0.0, 0.9]}}\n"
    "  validation: {text: {path: \"/usr/share/common-licenses/GPL-?\", tokens: bytes, context: 32}}\n"
    "training:\n"
    "  steps: 2000\n"
    "  batch: 12\n"
    "  microbatches: 4\n"
    "  optimizer: {adamw: {lr: 1.0e-3, betas: [0.9, 0.99], weight_decay: 0.1}}\n"
    "  schedule: {cosine: {warmup: 100, final_lr: 1.0e-4}}\n"
    "  clip_norm: 1\n"
    "  memory_budget: 1.5GiB\n"
    "evaluation: {every: 250, batches: 20}\n"
    "checkpoint: {every: 250, keep: 3}\n"
    "restart: {max: 3, backoff: 1.5s, grace: 2m}\n"
    "generate: {tokens: 100}\n";

static spec_source_t source_of(const char *text)
{
    return (spec_source_t){.text = text, .text_length = strlen(text)};
}

static spec_job_t *parse(const spec_source_t *source)
{
    spec_problems_t problems = {0};
    spec_job_t *job = NULL;
    status_t status = spec_job_parse(source, &job, &problems);
    if (status != ST_OK) {
        strbuf_t text = {0};
        spec_problems_format(&problems, &text);
        print_error("%s", strbuf_text(&text));
        strbuf_release(&text);
    }
    assert_int_equal(status, ST_OK);
    assert_int_equal(problems.n_items, 0);
    return job;
}

static spec_job_t *parse_text(const char *text)
{
    spec_source_t source = source_of(text);
    return parse(&source);
}

static void a_whole_job_is_read(void **state)
{
    (void)state;

    spec_job_t *job = parse_text(gpt_job);

    assert_string_equal(job->name, "shakespeare-char");
    assert_true(job->seed == UINT64_MAX);
    assert_int_equal(job->resources->workers, 2);
    assert_int_equal(job->resources->threads, 3);
    assert_int_equal(spec_job_slots(job), 6);
    assert_int_equal(job->training->steps, 2000);
    assert_true(job->training->optimizer->adamw->lr == 1e-3);
    assert_int_equal(job->training->optimizer->adamw->n_betas, 2);
    assert_true(job->training->optimizer->adamw->betas[1] == 0.99);
    assert_true(job->training->optimizer->adamw->epsilon == 1e-8);
    assert_true(job->training->clip_norm == 1.0);
    assert_int_equal(job->training->memory_budget, 1610612736);
    assert_int_equal(job->training->schedule->kind_case, GRADD__V1__SCHEDULE__KIND_COSINE);
    assert_int_equal(job->restart->backoff, 1500);
    assert_int_equal(job->restart->grace, 120000);
    assert_int_equal(job->data->train->text->tokens, GRADD__V1__TEXT__TOKENS__characters);
    assert_true(job->data->train->text->part[1] == 0.9);
    spec_job_free(job);
}

static void layers_are_read_with_parameters_and_places(void **state)
{
    (void)state;

    spec_job_t *job = parse_text(gpt_job);

    assert_int_equal(job->model->n_layers, 5);
    const Gradd__V1__Layer *embedding = job->model->layers[0];
    assert_int_equal(embedding->kind_case, GRADD__V1__LAYER__KIND_EMBEDDING);
    assert_int_equal(embedding->embedding->count, 65);
    assert_int_equal(embedding->line, 7);
    assert_string_equal(embedding->file, "job.yaml");
    const Gradd__V1__Layer__Repeat *repeat = job->model->layers[2]->repeat;
    assert_int_equal(repeat->times, 4);
    assert_int_equal(repeat->n_layers, 2);
    const Gradd__V1__Layer__Residual *residual = repeat->layers[1]->residual;
    assert_int_equal(residual->n_layers, 4);
    assert_int_equal(residual->layers[1]->linear->out, 512);
    assert_true(residual->layers[1]->linear->bias);
    assert_int_equal(residual->layers[2]->kind_case, GRADD__V1__LAYER__KIND_GELU);
    assert_int_equal(residual->layers[2]->line, 13);
    assert_string_equal(job->model->layers[4]->linear->tied, "wte");
    assert_false(job->model->layers[4]->linear->bias);
    spec_job_free(job);
}

static const char small_job[] = "model: {layers: [flatten, {linear: {out: 10}}]}\n"
                                "data: {train: {idx: {images: /etc/passwd, labels: /etc/group}}}\n"
                                "training: {epochs: 1, batch: 6, optimizer: {sgd: {lr: 0.1}}}\n";

static void what_is_not_given_has_its_default(void **state)
{
    (void)state;
    spec_pair_t set[] = {{"resources.workers", "3"}};
    spec_source_t source = source_of(small_job);
    source.file_name = "jobs/My first job!.yaml";
    source.set = set;
    source.n_set = 1;

    spec_job_t *job = parse(&source);

    assert_string_equal(job->name, "My-first-job-");
    assert_int_equal(job->training->microbatches, 3);
    assert_int_equal(job->parallel->data, 3);
    assert_int_equal(job->training->schedule->kind_case, GRADD__V1__SCHEDULE__KIND_CONSTANT);
    assert_int_equal(job->restart->max, 3);
    assert_int_equal(job->checkpoint->keep, 3);
    assert_null(job->evaluation);
    assert_null(job->generate);
    spec_job_free(job);

    job = parse_text(gpt_job);
    assert_int_equal(job->data->train->text->context, 64); /* the position embedding's */
    assert_int_equal(job->data->validation->text->context, 32);
    assert_true(job->data->validation->text->part[1] == 1.0);
    assert_string_equal(job->generate->prompt, "\n");
    spec_job_free(job);
}

static void one_number_stands_for_both_sides(void **state)
{
    (void)state;
    spec_source_t source = source_of("model: {layers: [{conv2d: {out: 8, kernel: 3, padding: [1, 2]}}, flatten]}\n"
                                     "data: {train: {idx: {images: /etc/passwd, labels: /etc/group}}}\n"
                                     "training: {epochs: 1, batch: 6, optimizer: {sgd: {lr: 0.1}}}\n");

    spec_job_t *job = parse(&source);

    const Gradd__V1__Layer__Conv2d *conv = job->model->layers[0]->conv2d;
    assert_int_equal(conv->n_kernel, 1);
    assert_int_equal(conv->kernel[0], 3);
    assert_int_equal(conv->n_padding, 2);
    assert_int_equal(conv->padding[1], 2);
    spec_job_free(job);
}

static void one_name_and_one_list_stand_alone(void **state)
{
    (void)state;
    spec_job_t *job = parse_text("model: {layers: [relu]}\n"
                                 "data: {train: {csv: {path: /dev/null, target: y, inputs: 3}}}\n"
                                 "training: {steps: 1, batch: 1, optimizer: {sgd: {lr: 1}},\n"
                                 "  schedule: {chained: [{constant: {warmup: 2}}, linear]}}\n");

    const Gradd__V1__Csv *csv = job->data->train->csv;
    assert_int_equal(csv->n_target, 1);
    assert_string_equal(csv->target[0], "y");
    assert_string_equal(csv->inputs[0], "3");
    assert_int_equal(job->training->schedule->chained->n_parts, 2);
    spec_job_free(job);
}

static void set_changes_fields_before_they_are_checked(void **state)
{
    (void)state;
    spec_pair_t set[] = {{"training.steps", "100"},        {"training.optimizer.adamw.betas", "[0.8, 0.9]"},
                         {"model.parameters.width", "32"}, {"model.layers.1.position_embedding.count", "16"},
                         {"generate.prompt", ""},          {"restart.backoff", "250ms"}};
    spec_source_t source = source_of(gpt_job);
    source.set = set;
    source.n_set = 6;

    spec_job_t *job = parse(&source);

    assert_int_equal(job->training->steps, 100);
    assert_true(job->training->optimizer->adamw->betas[0] == 0.8);
    assert_true(job->training->optimizer->adamw->lr == 1e-3);
    assert_int_equal(job->model->layers[0]->embedding->width, 32);
    assert_int_equal(job->data->train->text->context, 16);
    assert_string_equal(job->generate->prompt, "");
    assert_int_equal(job->restart->backoff, 250);
    spec_job_free(job);
}

static void a_field_set_to_null_is_not_given(void **state)
{
    (void)state;
    spec_pair_t set[] = {{"training.steps", "null"}, {"training.epochs", "3"}, {"generate", "null"}};
    spec_source_t source = source_of(gpt_job);
    source.set = set;
    source.n_set = 3;

    spec_job_t *job = parse(&source);

    assert_false(job->training->has_steps);
    assert_int_equal(job->training->epochs, 3);
    assert_null(job->generate);
    spec_job_free(job);
}

static void a_model_file_takes_the_jobs_parameters(void **state)
{
    (void)state;
    (void)fixture_write_text("mlp.yaml",
                             "parameters: {hidden: 64, wide: \"${2 * hidden}\", p: 0.5, is_biased: true, kind: relu}\n"
                             "layers:\n"
                             "  - flatten\n"
                             "  - linear: {out: \"${wide}\", bias: \"${is_biased}\"}\n"
                             "  - \"${kind}\"\n"
                             "  - dropout: {p: \"${p / 2}\"}\n");
    (void)fixture_write_text("train.images", "x");
    spec_pair_t environment[] = {{"WHERE", "train"}, {"HIDDEN", "8"}};
    spec_source_t source = source_of("model: {file: mlp.yaml, with: {hidden: \"${HIDDEN}\"}}\n"
                                     "data: {train: {idx: {images: \"${WHERE}.images\", labels: /etc/group}}}\n"
                                     "training: {epochs: 1, batch: 6, optimizer: {sgd: {lr: 0.1}}}\n");
    source.directory = fixture_folder();
    source.environment = environment;
    source.n_environment = 2;

    spec_job_t *job = parse(&source);

    char path[512];
    (void)snprintf(path, sizeof(path), "%s/train.images", fixture_folder());
    assert_string_equal(job->data->train->idx->images, path);
    assert_null(job->model->file);
    assert_int_equal(job->model->n_with, 0);
    assert_int_equal(job->model->layers[1]->linear->out, 16);
    assert_true(job->model->layers[1]->linear->bias);
    assert_int_equal(job->model->layers[2]->kind_case, GRADD__V1__LAYER__KIND_RELU);
    assert_true(job->model->layers[3]->dropout->p == 0.25);
    assert_string_equal(job->model->layers[3]->file, "mlp.yaml");
    assert_int_equal(job->model->layers[3]->line, 6);
    spec_job_free(job);
}

static void a_packed_job_comes_back_the_same(void **state)
{
    (void)state;
    spec_job_t *job = parse_text(gpt_job);
    uint8_t *bytes = NULL;
    size_t size = 0;
    spec_job_t *copy = NULL;

    assert_ok(spec_job_pack(job, &bytes, &size));
    assert_ok(spec_job_unpack(bytes, size, &copy));

    strbuf_t a = {0};
    strbuf_t b = {0};
    assert_ok(spec_job_format(job, &a));
    assert_ok(spec_job_format(copy, &b));
    assert_string_equal(strbuf_text(&a), strbuf_text(&b));
    assert_int_equal(copy->model->layers[0]->line, 7);
    assert_fails(spec_job_unpack(bytes, size - 1, &copy), ST_ERR_PARSE, "damaged");
    strbuf_release(&a);
    strbuf_release(&b);
    mem_free(bytes);
    spec_job_free(job);
    spec_job_free(copy);
}

/* JobSpec.training = 6, with steps = 1 and one more field. */
static spec_job_t *training_unpack(status_t wanted, const char *message, uint8_t tag, uint8_t value)
{
    uint8_t bytes[] = {0x32, 4, 0x08, 7, tag, value};
    spec_job_t *job = NULL;
    if (wanted == ST_OK) {
        assert_ok(spec_job_unpack(bytes, sizeof(bytes), &job));
        assert_int_equal(job->training->steps, 7);
    } else {
        assert_fails(spec_job_unpack(bytes, sizeof(bytes), &job), wanted, message);
    }
    return job;
}

static void a_loss_stored_by_an_older_gradd_stays(void **state)
{
    (void)state;
    /* the enum of number 8, in its order */
    static const Gradd__V1__Loss__KindCase kinds[] = {
        GRADD__V1__LOSS__KIND_CROSS_ENTROPY, GRADD__V1__LOSS__KIND_MSE,         GRADD__V1__LOSS__KIND_L1,
        GRADD__V1__LOSS__KIND_SMOOTH_L1,     GRADD__V1__LOSS__KIND_HUBER,       GRADD__V1__LOSS__KIND_BCE_WITH_LOGITS,
        GRADD__V1__LOSS__KIND_BCE,           GRADD__V1__LOSS__KIND_POISSON_NLL, GRADD__V1__LOSS__KIND_SOFT_MARGIN,
        GRADD__V1__LOSS__KIND_FOCAL,         GRADD__V1__LOSS__KIND_NLL,         GRADD__V1__LOSS__KIND_MULTI_MARGIN};

    for (uint8_t value = 0; value < 12; value++) {
        spec_job_t *job = training_unpack(ST_OK, NULL, 8 << 3, value);
        assert_int_equal(job->training->loss->kind_case, kinds[value]);
        spec_job_free(job);
    }
    spec_job_t *job = training_unpack(ST_OK, NULL, 8 << 3, 4);
    assert_true(job->training->loss->huber->delta == 1.0);
    spec_job_free(job);
    (void)training_unpack(ST_ERR_PARSE, "a stored job's loss 12 is not known", 8 << 3, 12);
}

static void a_job_stored_by_a_newer_gradd_is_refused(void **state)
{
    (void)state;
    (void)training_unpack(ST_ERR_PARSE, "field 15 in Training, which gradd", 15 << 3, 1);
}

static void a_packed_job_that_nests_without_end_is_refused(void **state)
{
    (void)state;
    /* model { layers { residual { layers { residual { … built from the inside out */
    static uint8_t bytes[4096];
    size_t at = sizeof(bytes);
    static const uint8_t tags[][2] = {{0x22, 1}, {0x9a, 2}}; /* layers of Model and Group; residual = 19 */
    size_t size = 0;
    for (int level = 0; level < 201; level++) {
        bool is_residual = level % 2 == 0;
        uint8_t head[8];
        size_t n_head = 0;
        if (is_residual) {
            head[n_head++] = tags[1][0];
            head[n_head++] = 0x01;
        } else {
            head[n_head++] = 0x12; /* Group.layers = 2 */
        }
        if (size >= 128) {
            head[n_head++] = (uint8_t)(0x80u | (size & 0x7fu));
            head[n_head++] = (uint8_t)(size >> 7);
        } else {
            head[n_head++] = (uint8_t)size;
        }
        at -= n_head;
        memcpy(bytes + at, head, n_head);
        size += n_head;
    }
    uint8_t job[4200];
    size_t n_job = 0;
    size_t inner = size + 3; /* the Layer with its own head, inside Model.layers = 4, inside JobSpec.model = 4 */
    job[n_job++] = 0x22;
    job[n_job++] = (uint8_t)(0x80u | (inner & 0x7fu));
    job[n_job++] = (uint8_t)(inner >> 7);
    job[n_job++] = 0x22;
    job[n_job++] = (uint8_t)(0x80u | (size & 0x7fu));
    job[n_job++] = (uint8_t)(size >> 7);
    memcpy(job + n_job, bytes + at, size);
    spec_job_t *copy = NULL;

    assert_fails(spec_job_unpack(job, n_job + size, &copy), ST_ERR_PARSE, "nested deeper than");

    assert_null(copy);
}

static void a_formatted_job_reads_back_the_same(void **state)
{
    (void)state;
    spec_job_t *job = parse_text(gpt_job);
    strbuf_t first = {0};
    strbuf_t second = {0};
    assert_ok(spec_job_format(job, &first));

    spec_job_t *again = parse_text(strbuf_text(&first));

    assert_ok(spec_job_format(again, &second));
    assert_string_equal(strbuf_text(&first), strbuf_text(&second));
    assert_non_null(strstr(strbuf_text(&first), "  backoff: 1500ms\n"));
    assert_non_null(strstr(strbuf_text(&first), "prompt: \"\\n\"\n"));
    strbuf_release(&first);
    strbuf_release(&second);
    spec_job_free(job);
    spec_job_free(again);
}

static void another_number_of_workers_keeps_the_microbatches(void **state)
{
    (void)state;
    spec_job_t *job = parse_text(gpt_job);
    spec_problems_t problems = {0};

    assert_ok(spec_job_set(job, "resources.workers", "4", &problems));

    assert_int_equal(job->resources->workers, 4);
    assert_int_equal(job->parallel->data, 4);
    assert_int_equal(job->training->microbatches, 4);
    assert_int_equal(job->model->n_layers, 5);
    assert_int_equal(job->model->layers[0]->line, 7);
    assert_int_equal(problems.n_items, 0);

    assert_fails(spec_job_set(job, "resources.workers", "3", &problems), ST_ERR_PARSE,
                 "--set resources.workers: resources.workers: 3 doesn't divide training.microbatches 4");
    assert_int_equal(job->resources->workers, 4);
    assert_int_equal(job->model->n_layers, 5);
    spec_problems_release(&problems);

    assert_ok(spec_job_set(job, "model.layers.0.embedding.width", "16", &problems));
    assert_int_equal(job->model->layers[0]->embedding->width, 16);
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_job_is_read),
        TEST(layers_are_read_with_parameters_and_places),
        TEST(what_is_not_given_has_its_default),
        TEST(one_number_stands_for_both_sides),
        TEST(one_name_and_one_list_stand_alone),
        TEST(set_changes_fields_before_they_are_checked),
        TEST(a_field_set_to_null_is_not_given),
        TEST(a_model_file_takes_the_jobs_parameters),
        TEST(a_packed_job_comes_back_the_same),
        TEST(a_loss_stored_by_an_older_gradd_stays),
        TEST(a_job_stored_by_a_newer_gradd_is_refused),
        TEST(a_packed_job_that_nests_without_end_is_refused),
        TEST(a_formatted_job_reads_back_the_same),
        TEST(another_number_of_workers_keeps_the_microbatches),
    };
    return cmocka_run_group_tests_name("spec", tests, NULL, NULL);
}
