/* SPDX-License-Identifier: Apache-2.0 */
/* The model files: as many parameters as published, under the published names; PyTorch's numbers at toy sizes. */
#include "tests/worker/model_jobs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gradd/nn.h"
#include "worker/model.h"

static gd_module_t *config_build(const char *file, const char *with, const wrk_shape_t *input, wrk_shape_t *output_p)
{
    spec_job_t *job = model_config_parse(file, with);
    gd_module_t *root = NULL;
    assert_ok(wrk_model_build_layers(job->model, input, &root, output_p));
    spec_job_free(job);
    return root;
}

static const wrk_shape_t photo = {.dtype = GD_DTYPE_F32, .n_dims = 3, .size = {3, 224, 224}};
static const wrk_shape_t tokens = {.dtype = GD_DTYPE_I64, .n_dims = 1, .size = {64}};

/* torchvision: the weights' pages (num_params); GPT-2, TinyLlama, BERT: what transformers' num_parameters() gives for
 * the published checkpoints; lstm_lm: the sizes of Zaremba et al., 2014; timm: its results table; U-Net:
 * milesial/Pytorch-UNet with transposed convolutions. */
static void every_model_has_its_published_number_of_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *file, *with;
        const wrk_shape_t *input;
        int64_t n_parameters, n_outputs;
    } models[] = {
        {"gpt2.yaml", "", &tokens, 124439808, 50257},
        {"gpt2.yaml", "width: 1024, heads: 16, layers: 24", &tokens, 354823168, 50257},
        {"gpt2.yaml", "width: 1280, heads: 20, layers: 36", &tokens, 774030080, 50257},
        {"gpt2.yaml", "width: 1600, heads: 25, layers: 48", &tokens, 1557611200, 50257},
        {"bert_base.yaml", "", &tokens, 109482240, 768},
        {"bert_base.yaml", "width: 1024, hidden: 4096, heads: 16, layers: 24", &tokens, 335141888, 1024},
        {"llama.yaml", "", &tokens, 1100048384, 32000},
        {"llama.yaml", "width: 4096, hidden: 11008, heads: 32, kv_heads: 32, layers: 32", &tokens, 6738415616, 32000},
        {"llama.yaml",
         "vocabulary: 128256, width: 4096, hidden: 14336, heads: 32, kv_heads: 8, layers: 32, theta: 500000", &tokens,
         8030261248, 128256},
        {"llama.yaml",
         "vocabulary: 128256, width: 2048, hidden: 8192, heads: 32, kv_heads: 8, layers: 16, theta: 500000, "
         "tied: embed_tokens",
         &tokens, 1235814400, 128256},
        {"lstm_lm.yaml", "", &tokens, 13987678, 33278},
        {"lstm_lm.yaml", "vocabulary: 10000, width: 650", &tokens, 19780400, 10000},
        {"lstm_lm.yaml", "vocabulary: 10000, width: 1500", &tokens, 66034000, 10000},
        {"resnet18.yaml", "", &photo, 11689512, 1000},
        {"resnet50.yaml", "", &photo, 25557032, 1000},
        {"vgg11.yaml", "", &photo, 132863336, 1000},
        {"mobilenet_v2.yaml", "", &photo, 3504872, 1000},
        {"unet.yaml", "", &photo, 31037698, 224},
        {"unet.yaml", "classes: 1", &photo, 31037633, 224},
        {"vit_s.yaml", "", &photo, 22050664, 1000},
    };
    bool before = gd_meta_set_enabled(true);
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        wrk_shape_t output = {0};
        gd_module_t *root = config_build(models[i].file, models[i].with, models[i].input, &output);
        const int64_t n = model_numel(root);
        if (n != models[i].n_parameters || output.size[output.n_dims - 1] != models[i].n_outputs) {
            fail_msg("%s {%s}: %lld parameters, %lld outputs", models[i].file, models[i].with, (long long)n,
                     (long long)output.size[output.n_dims - 1]);
        }
        (void)gd_module_unref(root);
    }
    (void)gd_meta_set_enabled(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_model_has_its_published_number_of_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
