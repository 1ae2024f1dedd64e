/* SPDX-License-Identifier: Apache-2.0 */
/* submit: sends a job file, with its folder and the environment values that it names. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "daemon/ctl/ctl.h"

enum { MAX_FILE_BYTES = 256 * 1024, MAX_NAME_BYTES = 128, MAX_VALUES = 256 };

/* The request with all that it points to. */
typedef struct submission {
    Gradd__V1__SubmitRequest request;
    Gradd__V1__Entry **set, **environment;
    strbuf_t text;
    char directory[PATH_MAX];
    char user[64];
} submission_t;

/* Reads at most 256 KiB; the daemon takes no more. */
static status_t file_read(const char *path, strbuf_t *text)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (file == NULL) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    }
    char block[16384];
    size_t n;
    errno = 0;
    while (text->length <= MAX_FILE_BYTES && (n = fread(block, 1, sizeof(block), file)) > 0) {
        strbuf_append_bytes(text, block, n);
    }
    int error = ferror(file) != 0 ? errno : 0;
    if (file != stdin) {
        (void)fclose(file);
    }
    if (error != 0) {
        return ST_FAIL(status_from_errno(error), "%s: %s", path, strerror(error));
    }
    if (text->length > MAX_FILE_BYTES) {
        return ST_FAIL(ST_ERR_RANGE, "%s: larger than %d KiB", path, MAX_FILE_BYTES / 1024);
    }
    if (memchr(strbuf_text(text), '\0', text->length) != NULL) {
        return ST_FAIL(ST_ERR_PARSE, "%s: not a text file", path);
    }
    return text->is_failed ? ST_FAIL(ST_ERR_NOMEM, "%s", path) : ST_OK;
}

static status_t entry_add(Gradd__V1__Entry ***list, size_t *n, const char *key, size_t key_length, const char *value)
{
    Gradd__V1__Entry **grown = mem_realloc(*list, (*n + 1) * sizeof(**list));
    if (grown == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s", "submission");
    }
    *list = grown;
    Gradd__V1__Entry *entry = mem_zalloc(sizeof(*entry));
    char *key_copy = mem_strndup(key, key_length);
    char *value_copy = mem_strdup(value);
    if (entry == NULL || key_copy == NULL || value_copy == NULL) {
        mem_free(entry);
        mem_free(key_copy);
        mem_free(value_copy);
        return ST_FAIL(ST_ERR_NOMEM, "%s", "submission");
    }
    gradd__v1__entry__init(entry);
    entry->key = key_copy;
    entry->value = value_copy;
    grown[(*n)++] = entry;
    return ST_OK;
}

static void entries_free(Gradd__V1__Entry **list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mem_free(list[i]->key);
        mem_free(list[i]->value);
        mem_free(list[i]);
    }
    mem_free(list);
}

/* Adds the value of each ${NAME} in text that our environment has. */
static status_t environment_collect(submission_t *submission, const char *text)
{
    Gradd__V1__SubmitRequest *request = &submission->request;
    for (const char *at = strstr(text, "${"); at != NULL; at = strstr(at + 2, "${")) {
        const char *name = at + 2;
        size_t length = 0;
        while (isalnum((unsigned char)name[length]) || name[length] == '_') {
            length++;
        }
        if (length == 0 || length >= MAX_NAME_BYTES || isdigit((unsigned char)name[0]) ||
            (name[length] != '}' && name[length] != ':')) {
            continue;
        }
        char copy[MAX_NAME_BYTES];
        (void)snprintf(copy, sizeof(copy), "%.*s", (int)length, name);
        const char *value = getenv(copy);
        bool is_there = value == NULL || request->n_environment >= MAX_VALUES;
        for (size_t i = 0; i < request->n_environment && !is_there; i++) {
            is_there = strcmp(submission->environment[i]->key, copy) == 0;
        }
        if (!is_there) {
            status_t status = entry_add(&submission->environment, &request->n_environment, copy, length, value);
            if (status != ST_OK) {
                return status;
            }
        }
    }
    return ST_OK;
}

/*
 * Looks into the files that the job names as "file: PATH", as its model is. Only the daemon parses YAML: this finds
 * every such value, and a file that isn't a model costs nothing but a look.
 */
static status_t models_collect(submission_t *submission)
{
    const char *text = strbuf_text(&submission->text);
    for (const char *at = strstr(text, "file:"); at != NULL; at = strstr(at + 1, "file:")) {
        const char *value = at + 5 + strspn(at + 5, " \t");
        char quote = *value == '"' || *value == '\'' ? *value++ : '\0';
        size_t length = quote != '\0' ? strcspn(value, quote == '"' ? "\"\n" : "'\n") : strcspn(value, ",}\n#");
        while (length > 0 && isspace((unsigned char)value[length - 1])) {
            length--;
        }
        if (length == 0 || length >= PATH_MAX) {
            continue;
        }
        strbuf_t path = {0};
        strbuf_t model = {0};
        if (value[0] != '/') {
            strbuf_appendf(&path, "%s/", submission->directory);
        }
        strbuf_append_bytes(&path, value, length);
        status_t status = ST_OK;
        if (file_read(strbuf_text(&path), &model) == ST_OK) { /* otherwise the daemon says what is wrong */
            status = environment_collect(submission, strbuf_text(&model));
        }
        strbuf_release(&path);
        strbuf_release(&model);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

static status_t directory_find(submission_t *submission, const char *path)
{
    char *copy = mem_strdup(strcmp(path, "-") == 0 ? "." : path);
    if (copy == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s", path);
    }
    char *slash = strrchr(copy, '/');
    const char *folder = slash == NULL ? "." : copy;
    if (slash != NULL) {
        slash[slash == copy ? 1 : 0] = '\0';
    }
    bool is_found = realpath(folder, submission->directory) != NULL;
    mem_free(copy);
    return is_found ? ST_OK : ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
}

static status_t submission_build(const ctl_t *ctl, submission_t *submission)
{
    const char *path = ctl->args[0];
    Gradd__V1__SubmitRequest *request = &submission->request;
    gradd__v1__submit_request__init(request);
    status_t status = file_read(path, &submission->text);
    status = status == ST_OK ? directory_find(submission, path) : status;
    for (int i = 0; i < ctl->set.n_items && status == ST_OK; i++) {
        const char *item = ctl->set.items[i];
        const char *equals = strchr(item, '=');
        status = entry_add(&submission->set, &request->n_set, item, (size_t)(equals - item), equals + 1);
        status = status == ST_OK ? environment_collect(submission, equals + 1) : status;
    }
    if (ctl->name != NULL && status == ST_OK) {
        status = entry_add(&submission->set, &request->n_set, "name", 4, ctl->name);
    }
    status = status == ST_OK ? environment_collect(submission, strbuf_text(&submission->text)) : status;
    status = status == ST_OK ? models_collect(submission) : status;
    const struct passwd *user = getpwuid(getuid());
    if (user != NULL) {
        (void)snprintf(submission->user, sizeof(submission->user), "%s", user->pw_name);
    } else {
        (void)snprintf(submission->user, sizeof(submission->user), "%u", (unsigned)getuid());
    }
    request->yaml = (char *)(uintptr_t)strbuf_text(&submission->text);
    request->file_name = (char *)(uintptr_t)(strcmp(path, "-") == 0 ? "stdin" : path);
    request->directory = submission->directory;
    request->user = submission->user;
    request->set = submission->set;
    request->environment = submission->environment;
    return status;
}

static void submission_release(submission_t *submission)
{
    entries_free(submission->set, submission->request.n_set);
    entries_free(submission->environment, submission->request.n_environment);
    strbuf_release(&submission->text);
}

/* Reads the file and sends it; on failure has printed and gives the exit code. */
static int submission_send(ctl_t *ctl, const char *path, const ProtobufCMessageDescriptor *response,
                           ProtobufCMessage **response_p)
{
    submission_t *submission = mem_zalloc(sizeof(*submission));
    if (submission == NULL) {
        return CTL_REFUSED;
    }
    int result = CTL_OK;
    rpc_code_t code = RPC_OK;
    status_t status = submission_build(ctl, submission);
    if (status != ST_OK) {
        (void)fprintf(stderr, "gradctl: %s\n", status_message());
        result = CTL_BAD_JOB;
    } else {
        status =
            rpc_channel_call(ctl->channel, path, &submission->request.base, response, CTL_CALL_MS, response_p, &code);
        if (status != ST_OK && code == RPC_INVALID_ARGUMENT) {
            ctl_write_clean(stderr, status_message(), true);
            (void)fputs(status_message()[0] != '\0' && status_message()[strlen(status_message()) - 1] == '\n' ? ""
                                                                                                              : "\n",
                        stderr);
            result = CTL_BAD_JOB;
        } else if (status != ST_OK) {
            result = ctl_fail(ctl, status, code);
        }
    }
    submission_release(submission);
    mem_free(submission);
    return result;
}

int ctl_submit(ctl_t *ctl)
{
    ProtobufCMessage *message = NULL;
    int result = submission_send(ctl, "/gradd.v1.Gradd/Submit", &gradd__v1__submit_response__descriptor, &message);
    if (result != CTL_OK) {
        return result;
    }
    const Gradd__V1__SubmitResponse *response = (const Gradd__V1__SubmitResponse *)message;
    for (size_t i = 0; i < response->n_warnings; i++) {
        (void)fputs("warning: ", stderr);
        ctl_write_clean(stderr, response->warnings[i], false);
        (void)fputc('\n', stderr);
    }
    (void)printf("%s\n", response->id);
    (void)fflush(stdout);
    if (ctl->is_follow) {
        ctl_catch_interrupts();
        result = ctl_follow(ctl, response->id, true, 0);
    }
    ctl_message_free(message);
    return result;
}

int ctl_validate(ctl_t *ctl)
{
    ProtobufCMessage *message = NULL;
    int result = submission_send(ctl, "/gradd.v1.Gradd/Validate", &gradd__v1__validate_response__descriptor, &message);
    if (result != CTL_OK) {
        return result;
    }
    const Gradd__V1__ValidateResponse *response = (const Gradd__V1__ValidateResponse *)message;
    json_t *problems = json_array();
    for (size_t i = 0; i < response->n_problems; i++) {
        const Gradd__V1__Problem *p = response->problems[i];
        if (ctl->format == CTL_TABLE) {
            (void)fprintf(stderr, "%s:", p->file != NULL ? p->file : ctl->args[0]);
            if (p->line > 0) {
                (void)fprintf(stderr, "%d:%d:", p->line, p->column);
            }
            (void)fputc(' ', stderr);
            ctl_write_clean(stderr, p->message != NULL ? p->message : "", false);
            (void)fputc('\n', stderr);
        }
        (void)json_array_append_new(problems, json_pack("{s:o, s:i, s:i, s:o}", "file", ctl_text(p->file), "line",
                                                        p->line, "column", p->column, "message", ctl_text(p->message)));
    }
    if (ctl->format != CTL_TABLE) {
        ctl_render(ctl, problems);
    } else if (response->n_problems == 0 && ctl->is_print) {
        (void)fputs(response->normalized_yaml != NULL ? response->normalized_yaml : "", stdout);
    } else if (response->n_problems == 0) {
        (void)printf("%s: valid\n", ctl->args[0]);
    }
    result = response->n_problems == 0 ? CTL_OK : CTL_BAD_JOB;
    json_decref(problems);
    ctl_message_free(message);
    return result;
}
