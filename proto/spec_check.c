/* SPDX-License-Identifier: Apache-2.0 */
/* spec_check: defaults that depend on other fields, and what must hold between fields. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "proto/spec_internal.h"

enum { MAX_LAYER_NAMES = 4096 };

typedef struct checker {
    spec_context_t *context;
    spec_job_t *job;
    const char *embeddings[MAX_LAYER_NAMES];
    int n_embeddings;
    double n_layers; /* with repeats written out */
    int64_t first_context;
} checker_t;

/* ---- places ---- */

/* The place of "model.layers[2].linear.out": the value's, or its nearest ancestor's. */
static spec_place_t place_of(const spec_context_t *context, const char *path, bool wants_key)
{
    const spec_node_t *node = context->root;
    spec_place_t place = node != NULL ? node->place : (spec_place_t){0};
    while (node != NULL && *path != '\0') {
        char word[64];
        size_t length = strcspn(path, ".[");
        if (*path == '[') {
            long index = strtol(path + 1, NULL, 10);
            length = strcspn(path, "]") + 1;
            const spec_node_t *child = node->kind == SPEC_NODE_LIST ? node->first : NULL;
            while (child != NULL && index-- > 0) {
                child = child->next;
            }
            node = child;
        } else {
            (void)snprintf(word, sizeof(word), "%.*s", (int)length, path);
            bool is_shorthand = node->kind == SPEC_NODE_LIST &&
                                (strcmp(word, "layers") == 0 || strcmp(word, "parts") == 0); /* residual: [...] */
            node = is_shorthand ? node : spec_node_child(node, word);
        }
        path += length;
        path += *path == '.';
        if (node != NULL) {
            place = wants_key && node->key != NULL && *path == '\0' ? node->key_place : node->place;
        }
    }
    return place;
}

static void complain(checker_t *checker, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void complain(checker_t *checker, const char *path, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    spec_report(&checker->context->report, place_of(checker->context, path, false), "%s: %s", path, text);
}

static bool is_given(const checker_t *checker, const char *parent, const char *key)
{
    return spec_node_child(spec_node_child(checker->context->root, parent), key) != NULL;
}

/* ---- defaults ---- */

static void *message_fill(checker_t *checker, const ProtobufCMessageDescriptor *descriptor, void *member)
{
    ProtobufCMessage **message = member;
    if (*message == NULL) {
        *message = mem_zalloc(descriptor->sizeof_message);
        if (*message == NULL) {
            checker->context->report.is_out_of_memory = true;
            return NULL;
        }
        descriptor->message_init(*message);
    }
    return *message;
}

static void list_fill(checker_t *checker, double first, double second, size_t *n_p, double **items_p)
{
    if (*n_p > 0) {
        return;
    }
    mem_free(*items_p);
    *items_p = mem_calloc(2, sizeof(**items_p));
    if (*items_p == NULL) {
        checker->context->report.is_out_of_memory = true;
        return;
    }
    (*items_p)[0] = first;
    (*items_p)[1] = second;
    *n_p = 2;
}

static void text_fill(checker_t *checker, const char *value, char **text_p)
{
    if (*text_p == NULL) {
        *text_p = mem_strdup(value);
        checker->context->report.is_out_of_memory |= *text_p == NULL;
    }
}

/* "dir/My job.yaml" → "My-job". */
static void name_fill(checker_t *checker)
{
    const char *file = checker->context->report.main_file;
    const char *slash = strrchr(file, '/');
    char name[64];
    size_t length = 0;
    file = slash != NULL ? slash + 1 : file;
    const char *end = strrchr(file, '.');
    end = end != NULL && end > file ? end : file + strlen(file);
    while (file < end && !isalnum((unsigned char)*file)) {
        file++;
    }
    for (; file < end && length < sizeof(name) - 1; file++) {
        bool is_good = isalnum((unsigned char)*file) || strchr("._-", *file) != NULL;
        name[length++] = is_good ? *file : '-';
    }
    name[length] = '\0';
    text_fill(checker, length > 0 ? name : "job", &checker->job->name);
}

/* The fields of a dataset's kind; NULL: none is given. */
static char *dataset_fields(const Gradd__V1__Dataset *dataset, const ProtobufCFieldDescriptor **kind_p)
{
    *kind_p = dataset != NULL ? protobuf_c_message_descriptor_get_field(&gradd__v1__dataset__descriptor,
                                                                        (unsigned)dataset->kind_case)
                              : NULL;
    return *kind_p != NULL ? *(char *const *)((const char *)dataset + (*kind_p)->offset) : NULL;
}

/* The default part, and the model's context. */
static void dataset_fill(checker_t *checker, const Gradd__V1__Dataset *dataset)
{
    const ProtobufCFieldDescriptor *kind = NULL;
    char *fields = dataset_fields(dataset, &kind);
    if (fields == NULL) {
        return;
    }
    const ProtobufCFieldDescriptor *part = protobuf_c_message_descriptor_get_field_by_name(kind->descriptor, "part");
    const ProtobufCFieldDescriptor *context =
        protobuf_c_message_descriptor_get_field_by_name(kind->descriptor, "context");
    if (part != NULL) {
        list_fill(checker, 0, 1, (size_t *)(void *)(fields + part->quantifier_offset),
                  (double **)(void *)(fields + part->offset));
    }
    if (context != NULL && checker->first_context > 0) {
        protobuf_c_boolean *has_context = (protobuf_c_boolean *)(void *)(fields + context->quantifier_offset);
        int32_t *value = (int32_t *)(void *)(fields + context->offset);
        *value = *has_context ? *value : (int32_t)checker->first_context;
        *has_context = 1;
    }
}

/* Every kind that has betas. */
static void betas_fill(checker_t *checker, Gradd__V1__Optimizer *optimizer)
{
    const ProtobufCFieldDescriptor *kind =
        optimizer != NULL
            ? protobuf_c_message_descriptor_get_field(&gradd__v1__optimizer__descriptor, (unsigned)optimizer->kind_case)
            : NULL;
    char *fields = kind != NULL ? *(char **)((char *)optimizer + kind->offset) : NULL;
    const ProtobufCFieldDescriptor *betas =
        fields != NULL ? protobuf_c_message_descriptor_get_field_by_name(kind->descriptor, "betas") : NULL;
    if (betas != NULL) {
        double second = optimizer->kind_case == GRADD__V1__OPTIMIZER__KIND_LION ? 0.99 : 0.999;
        list_fill(checker, 0.9, second, (size_t *)(void *)(fields + betas->quantifier_offset),
                  (double **)(void *)(fields + betas->offset));
    }
}

static void loss_fill(checker_t *checker, Gradd__V1__Training *training)
{
    if (training == NULL || training->loss != NULL) {
        return;
    }
    Gradd__V1__Loss *loss = message_fill(checker, &gradd__v1__loss__descriptor, (void *)&training->loss);
    if (loss != NULL) {
        loss->kind_case = GRADD__V1__LOSS__KIND_CROSS_ENTROPY;
        (void)message_fill(checker, &gradd__v1__loss__cross_entropy__descriptor, (void *)&loss->cross_entropy);
    }
}

static void check_defaults(checker_t *checker)
{
    spec_job_t *job = checker->job;
    name_fill(checker);
    loss_fill(checker, job->training);
    Gradd__V1__Resources *resources = message_fill(checker, &gradd__v1__resources__descriptor, (void *)&job->resources);
    Gradd__V1__Parallel *parallel = message_fill(checker, &gradd__v1__parallel__descriptor, (void *)&job->parallel);
    (void)message_fill(checker, &gradd__v1__checkpoint__descriptor, (void *)&job->checkpoint);
    (void)message_fill(checker, &gradd__v1__restart__descriptor, (void *)&job->restart);
    if (job->data != NULL && job->data->validation != NULL) {
        (void)message_fill(checker, &gradd__v1__evaluation__descriptor, (void *)&job->evaluation);
    }
    if (resources == NULL || parallel == NULL) {
        return;
    }
    if (!parallel->has_data) {
        parallel->has_data = 1;
        parallel->data = resources->workers;
    }
    if (job->data != NULL) {
        dataset_fill(checker, job->data->train);
        dataset_fill(checker, job->data->validation);
    }
    if (job->generate != NULL) {
        text_fill(checker, "\n", &job->generate->prompt);
    }
    Gradd__V1__Training *training = job->training;
    if (training == NULL) {
        return;
    }
    if (!training->has_microbatches) {
        training->has_microbatches = 1;
        training->microbatches = resources->workers;
    }
    Gradd__V1__Schedule *schedule =
        message_fill(checker, &gradd__v1__schedule__descriptor, (void *)&training->schedule);
    if (schedule != NULL && schedule->kind_case == GRADD__V1__SCHEDULE__KIND__NOT_SET) {
        schedule->kind_case = GRADD__V1__SCHEDULE__KIND_CONSTANT;
        (void)message_fill(checker, &gradd__v1__schedule__constant__descriptor, (void *)&schedule->constant);
    }
    betas_fill(checker, training->optimizer);
}

/* ---- the model ---- */

/* A layer's own fields, as all kinds have them. */
static const char *layer_name(const Gradd__V1__Layer *layer, const ProtobufCFieldDescriptor **kind_p,
                              const ProtobufCMessage **fields_p)
{
    const ProtobufCFieldDescriptor *kind =
        protobuf_c_message_descriptor_get_field(&gradd__v1__layer__descriptor, (unsigned)layer->kind_case);
    *kind_p = kind;
    *fields_p = NULL;
    if (kind == NULL) {
        return NULL;
    }
    const ProtobufCMessage *fields = *(ProtobufCMessage *const *)((const char *)layer + kind->offset);
    *fields_p = fields;
    const ProtobufCFieldDescriptor *name = protobuf_c_message_descriptor_get_field_by_name(kind->descriptor, "name");
    return fields != NULL && name != NULL ? *(char *const *)((const char *)fields + name->offset) : NULL;
}

/* Words of letters, digits and _ between dots. */
static bool name_is_good(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < 64 && name[0] != '.' && name[length - 1] != '.' && strstr(name, "..") == NULL &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.") == length;
}

static void check_layer_name(checker_t *checker, const char *path, Gradd__V1__Layer **layers, size_t index,
                             const char *name)
{
    if (!name_is_good(name)) {
        complain(checker, path, "\"%.40s\" isn't a layer's name: letters, digits and _, with dots between words", name);
        return;
    }
    for (size_t i = 0; i < index; i++) {
        const ProtobufCFieldDescriptor *kind = NULL;
        const ProtobufCMessage *fields = NULL;
        const char *other = layer_name(layers[i], &kind, &fields);
        if (other != NULL && strcmp(other, name) == 0) {
            complain(checker, path, "another layer of this list is named \"%.40s\" too", name);
            return;
        }
    }
}

static void check_tied(checker_t *checker, const char *path, const char *tied)
{
    for (int i = 0; i < checker->n_embeddings; i++) {
        if (strcmp(checker->embeddings[i], tied) == 0) {
            return;
        }
    }
    char hint[128];
    spec_suggest(tied, checker->embeddings, checker->n_embeddings, hint);
    complain(checker, path, "no embedding before it is named \"%.40s\"%s", tied, hint);
}

static void check_nested(checker_t *checker, const char *path, const ProtobufCMessage *message, double times);

static void check_layers(checker_t *checker, const char *path, Gradd__V1__Layer **layers, size_t n_layers, double times)
{
    for (size_t i = 0; i < n_layers && layers[i] != NULL; i++) {
        const ProtobufCFieldDescriptor *kind = NULL;
        const ProtobufCMessage *fields = NULL;
        const char *name = layer_name(layers[i], &kind, &fields);
        if (kind == NULL || fields == NULL) {
            continue; /* reported when it was read */
        }
        char layer_path[1024];
        char field_path[1100];
        (void)snprintf(layer_path, sizeof(layer_path), "%.900s[%zu].%s", path, i, kind->name);
        checker->n_layers += times;
        if (name != NULL) {
            (void)snprintf(field_path, sizeof(field_path), "%s.name", layer_path);
            check_layer_name(checker, field_path, layers, i, name);
        }
        const Gradd__V1__Layer *layer = layers[i];
        if (layer->kind_case == GRADD__V1__LAYER__KIND_EMBEDDING && name != NULL &&
            checker->n_embeddings < MAX_LAYER_NAMES) {
            checker->embeddings[checker->n_embeddings++] = name;
        } else if (layer->kind_case == GRADD__V1__LAYER__KIND_POSITION_EMBEDDING && checker->first_context == 0) {
            checker->first_context = layer->position_embedding->count;
        } else if (layer->kind_case == GRADD__V1__LAYER__KIND_LINEAR && layer->linear->tied != NULL &&
                   layer->linear->tied[0] != '\0') { /* empty: not tied */
            (void)snprintf(field_path, sizeof(field_path), "%s.tied", layer_path);
            check_tied(checker, field_path, layer->linear->tied);
        }
        check_nested(checker, layer_path, fields,
                     layer->kind_case == GRADD__V1__LAYER__KIND_REPEAT ? times * layer->repeat->times : times);
    }
}

/* The layers in a message's fields: lists of layers, and lists of messages that have them (branches). */
static void check_nested(checker_t *checker, const char *path, const ProtobufCMessage *message, double times)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        char field_path[1100];
        size_t n_items = *(const size_t *)((const char *)message + field->quantifier_offset);
        void *items = *(void *const *)((const char *)message + field->offset);
        (void)snprintf(field_path, sizeof(field_path), "%.1000s.%s", path, field->name);
        if (field->descriptor == &gradd__v1__layer__descriptor) {
            check_layers(checker, field_path, items, n_items, times);
            continue;
        }
        for (size_t k = 0; k < n_items; k++) {
            const ProtobufCMessage *item = ((ProtobufCMessage *const *)items)[k];
            char item_path[1100];
            (void)snprintf(item_path, sizeof(item_path), "%.1000s[%zu]", field_path, k);
            if (item != NULL) {
                check_nested(checker, item_path, item, times);
            }
        }
    }
}

static void check_model(checker_t *checker)
{
    const Gradd__V1__Model *model = checker->job->model;
    if (model == NULL || checker->context->has_bad_model) {
        return;
    }
    if (model->n_layers == 0 && !is_given(checker, "model", "layers")) {
        complain(checker, "model", "neither layers nor file are given");
        return;
    }
    if (model->n_layers == 0 &&
        spec_node_child(spec_node_child(checker->context->root, "model"), "layers")->kind == SPEC_NODE_LIST) {
        complain(checker, "model.layers", "a model has at least one layer");
        return;
    }
    check_layers(checker, "model.layers", model->layers, model->n_layers, 1);
    if (checker->n_layers > SPEC_MAX_LAYERS) {
        complain(checker, "model.layers", "%.0f layers when repeats are written out; at most %d", checker->n_layers,
                 SPEC_MAX_LAYERS);
    }
}

/* ---- data ---- */

/* NULL when path is a file that can be read; else the reason. What can't be looked at is left to the workers. */
static const char *file_problem(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return errno == ENOENT || errno == ENOTDIR ? "no such file" : NULL;
    }
    if (S_ISDIR(info.st_mode)) {
        return "a folder; a file is wanted";
    }
    return access(path, R_OK) != 0 && errno == EACCES ? "no permission to read it" : NULL;
}

/* NULL when path, a file, a folder or a file name with * and ?, holds something; else the reason. */
static const char *path_problem(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    struct stat info;
    bool is_pattern = strpbrk(slash, "*?") != NULL;
    if (!is_pattern && (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))) {
        return file_problem(path);
    }
    size_t length = is_pattern ? (size_t)(slash - path) : strlen(path);
    if (length >= sizeof(folder)) {
        return "the path is too long";
    }
    (void)snprintf(folder, sizeof(folder), "%.*s/", (int)length, path);
    DIR *directory = opendir(folder);
    if (directory == NULL) {
        return errno == ENOENT || errno == ENOTDIR ? "no such folder" : NULL;
    }
    const char *problem = is_pattern ? "no file fits" : "an empty folder";
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (entry->d_name[0] != '.' && (!is_pattern || fnmatch(slash + 1, entry->d_name, FNM_PERIOD) == 0)) {
            problem = NULL;
            break;
        }
    }
    (void)closedir(directory);
    return problem;
}

static void check_path(checker_t *checker, const char *field, const char *path,
                       const char *(*find_problem)(const char *))
{
    if (path == NULL || path[0] != '/') {
        return; /* reported when it was read */
    }
    const char *problem = find_problem(path);
    if (problem != NULL) {
        complain(checker, field, "%s: %s", path, problem);
    }
}

static void check_weights(checker_t *checker, bool has_files)
{
    const Gradd__V1__Model *model = checker->job->model;
    if (has_files && model != NULL && model->weights != NULL) {
        check_path(checker, "model.weights.file", model->weights->file, file_problem);
    }
}

/* What fields of the same name mean in every kind of dataset. */
static void check_dataset_field(checker_t *checker, const char *path, const char *fields,
                                const ProtobufCFieldDescriptor *field, const spec_rule_t *rule, bool has_files)
{
    const void *member = fields + field->offset;
    size_t n_items = field->label == PROTOBUF_C_LABEL_REPEATED
                         ? *(const size_t *)(const void *)(fields + field->quantifier_offset)
                         : 0;
    if (strcmp(field->name, "part") == 0 && n_items == 2) {
        const double *part = *(double *const *)member;
        if (part[0] >= part[1]) {
            complain(checker, path, "[%g, %g] is empty: the first must be less than the second", part[0], part[1]);
        }
    } else if (strcmp(field->name, "context") == 0 && checker->job->model != NULL && !checker->context->has_bad_model &&
               !*(const protobuf_c_boolean *)(fields + field->quantifier_offset)) {
        char kind[128];
        (void)snprintf(kind, sizeof(kind), "%.*s", (int)(strlen(path) - strlen(".context")), path);
        complain(checker, kind, "context is needed, for the model has no position_embedding");
    } else if (strcmp(field->name, "augment") == 0 && strncmp(path, "data.validation.", 16) == 0) {
        Gradd__V1__Augment *const *list = *(Gradd__V1__Augment *const *const *)member;
        for (size_t i = 0; i < n_items && list[i] != NULL; i++) {
            if (list[i]->kind_case == GRADD__V1__AUGMENT__KIND_MIXUP ||
                list[i]->kind_case == GRADD__V1__AUGMENT__KIND_CUTMIX) {
                complain(checker, path, "mixup and cutmix are for data.train");
            }
        }
    } else if ((rule->flags & SPEC_FILE_PATH) != 0 && has_files) {
        check_path(checker, path, *(char *const *)member,
                   (rule->flags & SPEC_MANY_FILES) != 0 ? path_problem : file_problem);
    }
}

static void check_delimiter(checker_t *checker, const char *path, const char *delimiter)
{
    if (strlen(delimiter) != 1 || strchr("\"\n\r", delimiter[0]) != NULL) {
        complain(checker, path, "\"%.20s\" is not one character between fields", delimiter);
    }
}

/* What no rule of one field says. */
static void check_dataset_values(checker_t *checker, const char *name, const Gradd__V1__Dataset *dataset)
{
    char path[128];
    if (dataset->kind_case == GRADD__V1__DATASET__KIND_IDX && dataset->idx->n_normalize == 2 &&
        dataset->idx->normalize[1] <= 0) {
        (void)snprintf(path, sizeof(path), "data.%s.idx.normalize", name);
        complain(checker, path, "the standard deviation %g must be more than 0", dataset->idx->normalize[1]);
    } else if (dataset->kind_case == GRADD__V1__DATASET__KIND_IMAGE_FOLDER && dataset->image_folder->channels == 2) {
        (void)snprintf(path, sizeof(path), "data.%s.image_folder.channels", name);
        complain(checker, path, "2 is neither 3 (colours) nor 1 (grey)");
    } else if (dataset->kind_case == GRADD__V1__DATASET__KIND_CSV) {
        (void)snprintf(path, sizeof(path), "data.%s.csv.delimiter", name);
        check_delimiter(checker, path, dataset->csv->delimiter);
    } else if (dataset->kind_case == GRADD__V1__DATASET__KIND_SEQUENCES) {
        (void)snprintf(path, sizeof(path), "data.%s.sequences.delimiter", name);
        check_delimiter(checker, path, dataset->sequences->delimiter);
        (void)snprintf(path, sizeof(path), "data.%s.sequences.target_length", name);
        if (!dataset->sequences->classes && !dataset->sequences->has_target_length) {
            complain(checker, path, "missing; only with classes: true there is none");
        }
    }
}

static void check_dataset(checker_t *checker, const char *name, const Gradd__V1__Dataset *dataset, bool has_files)
{
    const ProtobufCFieldDescriptor *kind = NULL;
    const char *fields = dataset_fields(dataset, &kind);
    char path[128];
    const ProtobufCMessageDescriptor *message = fields != NULL ? kind->descriptor : NULL;
    for (unsigned i = 0; message != NULL && i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        (void)snprintf(path, sizeof(path), "data.%s.%s.%s", name, kind->name, field->name);
        check_dataset_field(checker, path, fields, field, spec_rule_find(message, field), has_files);
    }
    if (fields != NULL) {
        check_dataset_values(checker, name, dataset);
    }
}

static void check_data(checker_t *checker, bool has_files)
{
    const spec_job_t *job = checker->job;
    const Gradd__V1__Data *data = job->data;
    if (data == NULL) {
        return;
    }
    check_dataset(checker, "train", data->train, has_files);
    check_dataset(checker, "validation", data->validation, has_files);
    bool both = data->train != NULL && data->validation != NULL;
    if (both && data->train->kind_case != data->validation->kind_case &&
        data->train->kind_case != GRADD__V1__DATASET__KIND__NOT_SET &&
        data->validation->kind_case != GRADD__V1__DATASET__KIND__NOT_SET) {
        complain(checker, "data.validation", "must be of the same kind as data.train");
    }
    if (job->evaluation != NULL && data->validation == NULL) {
        complain(checker, "evaluation", "needs data.validation");
    }
    const Gradd__V1__Dataset *train = data->train;
    bool is_text = train == NULL || train->kind_case == GRADD__V1__DATASET__KIND__NOT_SET ||
                   train->kind_case == GRADD__V1__DATASET__KIND_TEXT ||
                   (train->kind_case == GRADD__V1__DATASET__KIND_TOKENS && train->tokens->tokenizer != NULL);
    const bool has_answers = train != NULL && train->kind_case == GRADD__V1__DATASET__KIND_SEQUENCES &&
                             train->sequences != NULL && !train->sequences->classes;
    if (job->generate != NULL && !is_text && !has_answers) {
        complain(checker, "generate",
                 "only for text data, tokens with a tokenizer, or sequences whose targets are texts");
    }
    if (job->generate != NULL && has_answers && !is_given(checker, "generate", "prompt")) {
        complain(checker, "generate.prompt", "is needed: the text that the encoder reads");
    }
}

/* ---- training ---- */

static void check_batch(checker_t *checker)
{
    const Gradd__V1__Training *training = checker->job->training;
    int workers = checker->job->resources->workers;
    bool is_own = is_given(checker, "training", "microbatches");
    int batch = training->batch;
    int microbatches = training->microbatches;
    if (batch < 1 || microbatches < 1 || workers < 1) {
        return; /* reported as out of range */
    }
    if (batch % microbatches != 0 && is_own) {
        complain(checker, "training.microbatches", "%d doesn't divide training.batch %d", microbatches, batch);
    } else if (batch % microbatches != 0) {
        complain(checker, "training.batch", "%d isn't divisible by %d microbatches, the default: one per worker", batch,
                 microbatches);
    }
    int data = checker->job->parallel->data;
    bool has_data = is_given(checker, "parallel", "data");
    if (has_data && data != workers) {
        complain(checker, "parallel.data", "%d must equal resources.workers %d", data, workers);
    } else if (data >= 1 && microbatches % data != 0) {
        complain(checker, has_data ? "parallel.data" : "resources.workers",
                 "%d doesn't divide training.microbatches %d", data, microbatches);
    }
}

/* Whether the steps rise; path is the list's. */
static void check_milestones(checker_t *checker, const char *path, const int64_t *milestones, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (milestones[i] <= milestones[i - 1]) {
            complain(checker, path, "%lld comes after %lld: the steps must rise", (long long)milestones[i],
                     (long long)milestones[i - 1]);
            return;
        }
    }
}

/* where: the path of the schedule. can_reduce: a plateau may stand there. */
static void check_schedule(checker_t *checker, const char *where, const Gradd__V1__Schedule *schedule, bool can_reduce)
{
    char path[1024];
    Gradd__V1__Schedule **parts = NULL;
    size_t n_parts = 0;
    if (schedule == NULL) {
        return;
    }
    bool is_sequence = schedule->kind_case == GRADD__V1__SCHEDULE__KIND_SEQUENCE && schedule->sequence != NULL;
    if (schedule->kind_case == GRADD__V1__SCHEDULE__KIND_MULTI_STEP && schedule->multi_step != NULL) {
        (void)snprintf(path, sizeof(path), "%.900s.multi_step.milestones", where);
        check_milestones(checker, path, schedule->multi_step->milestones, schedule->multi_step->n_milestones);
    } else if (schedule->kind_case == GRADD__V1__SCHEDULE__KIND_PLATEAU) {
        (void)snprintf(path, sizeof(path), "%.900s.plateau", where);
        if (!can_reduce) {
            complain(checker, path, "only as the schedule, or as one part of a chained one");
        } else if (checker->job->data != NULL && checker->job->data->validation == NULL) {
            complain(checker, path, "needs data.validation, whose loss it watches");
        }
    } else if (schedule->kind_case == GRADD__V1__SCHEDULE__KIND_CHAINED && schedule->chained != NULL) {
        parts = schedule->chained->parts;
        n_parts = schedule->chained->n_parts;
    } else if (is_sequence) {
        parts = schedule->sequence->parts;
        n_parts = schedule->sequence->n_parts;
        (void)snprintf(path, sizeof(path), "%.900s.sequence.milestones", where);
        check_milestones(checker, path, schedule->sequence->milestones, schedule->sequence->n_milestones);
        if (n_parts > 0 && schedule->sequence->n_milestones + 1 != n_parts) {
            complain(checker, path, "%zu for %zu parts: each part but the first needs one",
                     schedule->sequence->n_milestones, n_parts);
        }
    }
    bool is_free = can_reduce && !is_sequence;
    for (size_t i = 0; i < n_parts && parts[i] != NULL; i++) {
        (void)snprintf(path, sizeof(path), "%.900s.%s.parts[%zu]", where, is_sequence ? "sequence" : "chained", i);
        check_schedule(checker, path, parts[i], is_free);
        is_free &= parts[i]->kind_case != GRADD__V1__SCHEDULE__KIND_PLATEAU;
    }
}

static void check_optimizer(checker_t *checker, const Gradd__V1__Training *training)
{
    const Gradd__V1__Optimizer *optimizer = training->optimizer;
    if (optimizer == NULL) {
        return;
    }
    if (optimizer->kind_case == GRADD__V1__OPTIMIZER__KIND_SGD && optimizer->sgd != NULL && optimizer->sgd->nesterov &&
        optimizer->sgd->momentum <= 0) {
        complain(checker, "training.optimizer.sgd.nesterov", "needs momentum more than 0");
    }
    if (optimizer->kind_case == GRADD__V1__OPTIMIZER__KIND_MUON && optimizer->muon != NULL &&
        optimizer->muon->nesterov && optimizer->muon->momentum <= 0) {
        complain(checker, "training.optimizer.muon.nesterov", "needs momentum more than 0");
    }
    for (size_t i = 0; i < training->n_groups && training->groups[i] != NULL; i++) {
        if (training->groups[i]->adamw && optimizer->kind_case != GRADD__V1__OPTIMIZER__KIND_MUON) {
            char path[64];
            (void)snprintf(path, sizeof(path), "training.groups[%zu].adamw", i);
            complain(checker, path, "only with the optimizer muon");
        }
    }
}

static void check_loss_part(checker_t *checker, size_t index, const Gradd__V1__Loss__Part *part)
{
    char path[96];
    const struct {
        const char *name;
        const int64_t *range;
        size_t n;
    } ranges[] = {{"outputs", part->outputs, part->n_outputs}, {"targets", part->targets, part->n_targets}};
    if (part->loss != NULL && part->loss->kind_case == GRADD__V1__LOSS__KIND_SUM) {
        (void)snprintf(path, sizeof(path), "training.loss.sum.parts[%zu].loss", index);
        complain(checker, path, "a sum in a sum: put its parts here");
    }
    for (int i = 0; i < 2; i++) {
        if (ranges[i].n == 2 && ranges[i].range[0] >= ranges[i].range[1]) {
            (void)snprintf(path, sizeof(path), "training.loss.sum.parts[%zu].%s", index, ranges[i].name);
            complain(checker, path, "[%lld, %lld) is empty: the first must be less than the second",
                     (long long)ranges[i].range[0], (long long)ranges[i].range[1]);
        }
    }
}

/* One loss, alone or a sum's part. */
static void check_loss_kind(checker_t *checker, const char *path, const Gradd__V1__Loss *loss)
{
    const Gradd__V1__Model *model = checker->job->model;
    char field[128];
    if (loss->kind_case == GRADD__V1__LOSS__KIND_CTC && loss->ctc != NULL &&
        loss->ctc->lengths == GRADD__V1__LOSS__CTC__LENGTHS__tokens && (model == NULL || model->padding < 0)) {
        (void)snprintf(field, sizeof(field), "%s.ctc.lengths", path);
        complain(checker, field, "tokens: needs model.padding, the token that a sample is filled up with");
    }
    if (loss->kind_case == GRADD__V1__LOSS__KIND_INFO_NCE && !is_given(checker, "training", "microbatches")) {
        complain(
            checker, "training.microbatches",
            "%.80s.info_nce compares a sample with the others of its microbatch, so that the result depends on their "
            "number: it must be given (left out, it is resources.workers, now %d)",
            path, checker->job->training->microbatches);
    }
}

static void check_loss(checker_t *checker, const Gradd__V1__Training *training)
{
    const Gradd__V1__Loss *loss = training->loss;
    bool has_smoothing = loss == NULL || loss->kind_case == GRADD__V1__LOSS__KIND_CROSS_ENTROPY;
    const bool is_sum = loss != NULL && loss->kind_case == GRADD__V1__LOSS__KIND_SUM && loss->sum != NULL;
    for (size_t i = 0; is_sum && i < loss->sum->n_parts && loss->sum->parts[i] != NULL; i++) {
        const Gradd__V1__Loss__Part *part = loss->sum->parts[i];
        check_loss_part(checker, i, part);
        has_smoothing |= part->loss != NULL && part->loss->kind_case == GRADD__V1__LOSS__KIND_CROSS_ENTROPY;
        if (part->loss != NULL) {
            char path[96];
            (void)snprintf(path, sizeof(path), "training.loss.sum.parts[%zu].loss", i);
            check_loss_kind(checker, path, part->loss);
        }
    }
    if (loss != NULL && !is_sum) {
        check_loss_kind(checker, "training.loss", loss);
    }
    if (training->label_smoothing > 0 && !has_smoothing) {
        complain(checker, "training.label_smoothing", "only with the loss cross_entropy");
    }
}

static void check_training(checker_t *checker)
{
    const Gradd__V1__Training *training = checker->job->training;
    if (training == NULL || checker->job->resources == NULL || checker->job->parallel == NULL) {
        return;
    }
    if (training->has_steps && training->has_epochs) {
        complain(checker, "training.epochs", "give either steps or epochs, not both");
    }
    if (!training->has_steps && !training->has_epochs) {
        complain(checker, "training", "either steps or epochs are needed");
    }
    check_batch(checker);
    check_loss(checker, training);
    check_optimizer(checker, training);
    check_schedule(checker, "training.schedule", training->schedule, true);
}

static void check_name(checker_t *checker)
{
    const char *name = checker->job->name;
    if (name == NULL) {
        return;
    }
    size_t length = strlen(name);
    bool is_good = length >= 1 && length <= 63 && isalnum((unsigned char)name[0]);
    for (size_t i = 0; i < length && is_good; i++) {
        is_good = isalnum((unsigned char)name[i]) || strchr("._-", name[i]) != NULL;
    }
    if (!is_good) {
        complain(checker, "name",
                 "\"%.70s\" isn't a job's name: letters, digits, . _ -, first a letter or digit, at most 63", name);
    }
}

void spec_check(spec_context_t *context, spec_job_t *job, bool has_data_files)
{
    checker_t *checker = mem_zalloc(sizeof(*checker));
    if (checker == NULL) {
        context->report.is_out_of_memory = true;
        return;
    }
    checker->context = context;
    checker->job = job;
    check_model(checker);
    check_defaults(checker);
    check_name(checker);
    check_weights(checker, has_data_files);
    check_data(checker, has_data_files);
    check_training(checker);
    mem_free(checker);
}
