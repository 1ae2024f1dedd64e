/* SPDX-License-Identifier: Apache-2.0 */
/* Every job and every model file of configs/ is read without a problem. The data need not be there: stand-ins are. */
#include "tests/support/fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/spec.h"

static const char *const data_files[] = {
    "shakespeare/input.txt",
    "mnist/train-images-idx3-ubyte.gz",
    "mnist/train-labels-idx1-ubyte.gz",
    "mnist/t10k-images-idx3-ubyte.gz",
    "mnist/t10k-labels-idx1-ubyte.gz",
    "cifar10/cifar-10-batches-bin/data_batch_1.bin",
    "fsdd/0_jackson_0.wav",
    "california/housing.csv",
    "images/train",
    "images/val",
};

static const char *source_folder(void)
{
    const char *folder = getenv("GRADD_SOURCE");
    assert_non_null(folder);
    return folder;
}

static void make_data(void)
{
    char path[512];
    static const char *const folders[] = {"shakespeare", "mnist",      "cifar10", "cifar10/cifar-10-batches-bin",
                                          "fsdd",        "california", "images"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    for (size_t i = 0; i < sizeof(data_files) / sizeof(data_files[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), data_files[i]);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(close(fd), 0);
    }
}

static void assert_job(const char *text, size_t length, const char *name, const char *directory)
{
    spec_pair_t environment[] = {{"GRADD_DATA", fixture_folder()}};
    spec_source_t source = {.text = text,
                            .text_length = length,
                            .file_name = name,
                            .directory = directory,
                            .environment = environment,
                            .n_environment = 1};
    spec_problems_t problems = {0};
    spec_job_t *job = NULL;
    status_t status = spec_job_parse(&source, &job, &problems);
    strbuf_t report = {0};
    spec_problems_format(&problems, &report);
    assert_string_equal(strbuf_text(&report), "");
    assert_int_equal(status, ST_OK);
    assert_true(job->model->n_layers > 0);

    strbuf_t yaml = {0};
    spec_job_t *again = NULL;
    assert_ok(spec_job_format(job, &yaml));
    source = (spec_source_t){.text = strbuf_text(&yaml), .text_length = yaml.length};
    assert_ok(spec_job_parse(&source, &again, &problems));
    assert_int_equal(again->model->n_layers, job->model->n_layers);
    spec_job_free(again);
    spec_job_free(job);
    strbuf_release(&yaml);
    strbuf_release(&report);
    spec_problems_release(&problems);
}

static size_t read_file(const char *folder, const char *name, char text[SPEC_MAX_TEXT_BYTES])
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t length = fread(text, 1, SPEC_MAX_TEXT_BYTES, file);
    assert_int_equal(fclose(file), 0);
    return length;
}

/* Calls for every *.yaml of a folder of configs/; returns how many. */
static int each_file(const char *kind, void (*check)(const char *folder, const char *name))
{
    char folder[512];
    int n_files = 0;
    (void)snprintf(folder, sizeof(folder), "%s/configs/%s", source_folder(), kind);
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot != NULL && strcmp(dot, ".yaml") == 0) {
            check(folder, entry->d_name);
            n_files++;
        }
    }
    assert_int_equal(closedir(directory), 0);
    return n_files;
}

static void check_job(const char *folder, const char *name)
{
    static char text[SPEC_MAX_TEXT_BYTES];
    size_t length = read_file(folder, name, text);
    assert_job(text, length, name, folder);
}

static void check_model(const char *folder, const char *name)
{
    char text[1024];
    int length = snprintf(text, sizeof(text),
                          "model: {file: %s}\n"
                          "data: {train: {idx: {images: \"${GRADD_DATA}/mnist/train-images-idx3-ubyte.gz\", "
                          "labels: \"${GRADD_DATA}/mnist/train-labels-idx1-ubyte.gz\"}}}\n"
                          "training: {steps: 1, batch: 1, optimizer: {sgd: {lr: 0.1}}}\n",
                          name);
    assert_job(text, (size_t)length, name, folder);
}

static void every_job_of_configs_is_right(void **state)
{
    (void)state;
    make_data();
    assert_in_range(each_file("jobs", check_job), 4, 1000);
}

static void every_model_file_of_configs_is_right_with_its_defaults(void **state)
{
    (void)state;
    make_data();
    assert_in_range(each_file("models", check_model), 3, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_job_of_configs_is_right),
        TEST(every_model_file_of_configs_is_right_with_its_defaults),
    };
    return cmocka_run_group_tests_name("configs", tests, NULL, NULL);
}
