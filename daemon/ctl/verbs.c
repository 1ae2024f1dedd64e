/* SPDX-License-Identifier: Apache-2.0 */
/* verbs: the tables of verbs and options; parsing, help and completion come from them. */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "daemon/ctl/ctl.h"

typedef struct option_row {
    char id;         /* in ctl_verb_t.options */
    char short_name; /* 0: none */
    const char *name;
    const char *argument; /* NULL: a flag */
    const char *help;
} option_row_t;

static const option_row_t options[] = {
    {'a', 0, "address", "ADDRESS", "the daemon: unix:/path or host:port (default: see gradctl --help)"},
    {'o', 'o', "output", "FORMAT", "table, json, yaml or csv (default: table)"},
    {'s', 0, "set", "KEY=VALUE", "replaces a field of the job file, or takes it out (null); repeatable"},
    {'m', 'n', "name", "NAME", "the job's name"},
    {'f', 'f', "follow", NULL, "goes on until the job has ended"},
    {'N', 0, "print", NULL, "prints the job with all defaults filled in"},
    {'S', 0, "state", "STATE", "only jobs in this state; repeatable, or with commas"},
    {'L', 0, "limit", "N", "at most N jobs (default: 100)"},
    {'A', 0, "all", NULL, "all jobs, however many"},
    {'y', 0, "spec", NULL, "prints the job file as it was submitted"},
    {'r', 0, "rank", "RANK", "whose log: a rank, or \"launcher\" (default: 0)"},
    {'O', 0, "offset", "BYTES", "from this byte on; negative: from the end"},
    {'t', 0, "tail", "LINES", "only the last lines"},
    {'n', 'n', "name", "METRIC", "only this metric; repeatable"},
    {'F', 0, "from-step", "STEP", "only from this step on"},
    {'p', 0, "plot", NULL, "draws the curves"},
    {'P', 0, "progress", NULL, "shows the progress while it waits"},
    {'T', 0, "timeout", "SECONDS", "gives up after that long"},
    {'w', 0, "workers", "N", "goes on with another number of workers"},
    {'x', 0, "force", NULL, "kills the job now, without its grace time"},
};
enum { N_OPTIONS = sizeof(options) / sizeof(options[0]), MAX_LONG = N_OPTIONS + 2, OPTION_BASE = 256 };

static int version_print(ctl_t *ctl);
static int completion_print(ctl_t *ctl);

static const ctl_verb_t verbs[] = {
    {"submit", "FILE", "hands in a job and prints its id",
     "FILE is the job's YAML; \"-\" reads it from stdin. Paths in it are relative to its folder. The values of\n"
     "environment variables that it (or its model file) names as ${NAME} are sent along.\n"
     "With --follow it then shows the progress until the job ends; Ctrl-C detaches, and the job goes on.",
     "asmf", 1, 1, ctl_submit, true},
    {"validate", "FILE", "checks a job file and says what is wrong, without submitting it",
     "Problems are written as file:line:column: message, with exit code 5.", "aosN", 1, 1, ctl_validate, true},
    {"list", "", "lists jobs, newest first", NULL, "aoSLA", 0, 0, ctl_list, true},
    {"show", "ID", "shows a job",
     "JSON fields: id name state reason attempt restarts step steps_total metrics{name: last value}\n"
     "parameters_sha256 fingerprint checkpoints[{step path parameters_sha256 size_bytes time}]\n"
     "ranks[{rank host pid}] user workers slots directory submitted started first_step finished\n"
     "submit_to_first_step_ms yaml text. States: QUEUED STARTING RUNNING PAUSING PAUSED RESTARTING\n"
     "CANCELLING SUCCEEDED FAILED CANCELLED. Times are ISO-8601, UTC; what isn't known is null.",
     "aoy", 1, 1, ctl_show, true},
    {"watch", "[ID]", "prints state changes as they happen: of one job until it ends, or of all",
     "With an ID the exit code is that of wait. With -o json, one object a line.", "ao", 0, 1, ctl_watch, true},
    {"logs", "ID", "prints a worker's log", NULL, "afrOt", 1, 1, ctl_logs, true},
    {"metrics", "ID", "prints metrics: a table of steps, or points as they come (-f)",
     "CSV and -f have one point a line: name, step, value, time. With -f -o json, one object a line.", "aonfFp", 1, 1,
     ctl_metrics, true},
    {"wait", "ID...", "waits until jobs have ended; exits 0 only if all of them succeeded",
     "Prints one line a job: state, duration, SHA-256 of the parameters. With --progress, Ctrl-C detaches.", "aPT", 1,
     1024, ctl_wait, true},
    {"pause", "ID...", "stops jobs at a checkpoint and frees their slots", NULL, "a", 1, 1024, ctl_pause, true},
    {"resume", "ID", "lets a paused job go on", NULL, "aw", 1, 1, ctl_resume, true},
    {"cancel", "ID...", "ends jobs for good", NULL, "ax", 1, 1024, ctl_cancel, true},
    {"info", "", "shows the daemon: version, slots, folder", NULL, "ao", 0, 0, ctl_info, true},
    {"explain", "[FIELD]", "explains a field of the job file, \"training.batch\"; without one, lists them", NULL, "", 0,
     1, ctl_explain, false},
    {"schema", "", "prints the JSON Schema of job files, for editors", NULL, "", 0, 0, ctl_schema, false},
    {"version", "", "prints the version", NULL, "", 0, 0, version_print, false},
    {"completion", "bash", "prints completion for a shell: source <(gradctl completion bash)", NULL, "", 1, 1,
     completion_print, false},
};
enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

/* ---- help ---- */

static void general_help(FILE *file)
{
    (void)fprintf(file, "usage: gradctl [--address ADDRESS] VERB [options] [arguments]\n\nverbs:\n");
    for (int i = 0; i < N_VERBS; i++) {
        (void)fprintf(file, "  %-10s %-9s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].summary);
    }
    (void)fprintf(file, "\ngradctl VERB --help explains a verb.\n\n"
                        "The daemon's address is --address, else GRADD_ADDRESS, else the first that exists of\n"
                        "unix:$XDG_RUNTIME_DIR/gradd.sock, unix:/run/gradd/gradd.sock,\n"
                        "unix:$XDG_STATE_HOME/gradd/gradd.sock and unix:/var/lib/gradd/gradd.sock.\n"
                        "Colours and bars are for terminals only; NO_COLOR in the environment turns colours off.\n\n"
                        "exit codes:\n"
                        "  0    done; for wait, watch ID and submit --follow: the job succeeded\n"
                        "  1    the job didn't succeed, or not within --timeout\n"
                        "  2    wrong usage of gradctl\n"
                        "  3    the daemon refused: no such job, not possible in its state\n"
                        "  4    the daemon can't be reached\n"
                        "  5    the job file is invalid\n"
                        "  130  interrupted; the job goes on\n");
}

static void verb_help(const ctl_verb_t *verb)
{
    (void)printf("usage: gradctl %s%s%s%s\n\n%s\n", verb->name, verb->options[0] != '\0' ? " [options]" : "",
                 verb->arguments[0] != '\0' ? " " : "", verb->arguments, verb->summary);
    if (verb->details != NULL) {
        (void)printf("\n%s\n", verb->details);
    }
    for (const char *id = verb->options; *id != '\0'; id++) {
        for (int i = 0; i < N_OPTIONS; i++) {
            if (options[i].id == *id) {
                char left[48];
                char short_name[8] = "    ";
                if (options[i].short_name != 0) {
                    (void)snprintf(short_name, sizeof(short_name), "-%c, ", options[i].short_name);
                }
                (void)snprintf(left, sizeof(left), "%s--%s%s%s", short_name, options[i].name,
                               options[i].argument != NULL ? " " : "",
                               options[i].argument != NULL ? options[i].argument : "");
                (void)printf("%s  %-26s %s\n", id == verb->options ? "\n" : "", left, options[i].help);
            }
        }
    }
}

static int version_print(ctl_t *ctl)
{
    (void)ctl;
    (void)printf("gradctl %s\n", GRADD_VERSION);
    return CTL_OK;
}

static int completion_print(ctl_t *ctl)
{
    if (strcmp(ctl->args[0], "bash") != 0) {
        (void)fprintf(stderr, "gradctl: completion is there for bash only, not for \"%s\"\n", ctl->args[0]);
        return CTL_USAGE;
    }
    (void)printf(
        "_gradctl() {\n"
        "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb= i\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        case ${COMP_WORDS[i]} in --address) ((i++)) ;; -*) ;; *) verb=${COMP_WORDS[i]}; break ;; esac\n"
        "    done\n"
        "    COMPREPLY=()\n"
        "    case $previous in\n"
        "        -o|--output) COMPREPLY=($(compgen -W 'table json yaml csv' -- \"$current\")); return ;;\n"
        "        --state) COMPREPLY=($(compgen -W '");
    for (unsigned i = 0; i < gradd__v1__state__descriptor.n_values; i++) {
        (void)printf("%s%s", i > 0 ? " " : "", gradd__v1__state__descriptor.values[i].name);
    }
    (void)printf("' -- \"$current\")); return ;;\n"
                 "    esac\n"
                 "    case $verb in\n");
    for (int v = 0; v < N_VERBS; v++) {
        (void)printf("        %s) words='--help", verbs[v].name);
        for (int i = 0; i < N_OPTIONS; i++) {
            if (strchr(verbs[v].options, options[i].id) != NULL) {
                (void)printf(" --%s", options[i].name);
            }
        }
        bool has_ids = strstr(verbs[v].arguments, "ID") != NULL;
        (void)printf("'%s ;;\n", has_ids
                                     ? "; [[ $current == -* ]] || words=$(gradctl list -o csv 2>/dev/null | tail -n +2 "
                                       "| cut -d, -f1)"
                                     : "");
    }
    (void)printf("        *) words='--address --help");
    for (int v = 0; v < N_VERBS; v++) {
        (void)printf(" %s", verbs[v].name);
    }
    (void)printf("' ;;\n    esac\n"
                 "    [[ $verb =~ ^(submit|validate)$ && $current != -* ]] || COMPREPLY=($(compgen -W \"$words\" -- "
                 "\"$current\"))\n"
                 "}\ncomplete -o default -F _gradctl gradctl\n");
    return CTL_OK;
}

/* ---- parsing ---- */

static int usage_fail(const ctl_verb_t *verb, const char *what, const char *value)
{
    (void)fprintf(stderr, "gradctl %s: %s \"%s\"\n", verb->name, what, value);
    return CTL_USAGE;
}

static bool list_add(ctl_list_t *list, const char *item)
{
    const char **items = mem_realloc(list->items, ((size_t)list->n_items + 1) * sizeof(*items));
    if (items == NULL) {
        return false;
    }
    list->items = items;
    list->items[list->n_items++] = item;
    return true;
}

static bool integer_parse(const char *text, int64_t low, int64_t high, int64_t *value_p)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        return false;
    }
    *value_p = value;
    return true;
}

/* Names in a comma-separated list; the text is cut up. */
static int states_parse(ctl_t *ctl, const ctl_verb_t *verb, char *text)
{
    char *rest = NULL;
    for (char *word = strtok_r(text, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        if (ctl_state_parse(word) == 0) {
            return usage_fail(verb, "no such state:", word);
        }
        if (!list_add(&ctl->states, word)) {
            return CTL_USAGE;
        }
    }
    return CTL_OK;
}

static int format_parse(ctl_t *ctl, const ctl_verb_t *verb, const char *text)
{
    static const char *const names[] = {
        [CTL_TABLE] = "table", [CTL_JSON] = "json", [CTL_YAML] = "yaml", [CTL_CSV] = "csv"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            ctl->format = (ctl_format_t)i;
            return CTL_OK;
        }
    }
    return usage_fail(verb, "--output is table, json, yaml or csv, not", text);
}

static int option_apply(ctl_t *ctl, const ctl_verb_t *verb, char id, char *text)
{
    bool is_good = true;
    switch (id) {
    case 'a':
        ctl->address = text;
        break;
    case 'o':
        return format_parse(ctl, verb, text);
    case 's':
        if (strchr(text, '=') == NULL || text[0] == '=') {
            return usage_fail(verb, "--set takes KEY=VALUE, not", text);
        }
        is_good = list_add(&ctl->set, text);
        break;
    case 'm':
        ctl->name = text;
        break;
    case 'n':
        is_good = list_add(&ctl->names, text);
        break;
    case 'f':
        ctl->is_follow = true;
        break;
    case 'N':
        ctl->is_print = true;
        break;
    case 'S':
        return states_parse(ctl, verb, text);
    case 'L':
        is_good = integer_parse(text, 1, 1000000, &ctl->limit);
        break;
    case 'A':
        ctl->is_all = true;
        break;
    case 'y':
        ctl->is_spec = true;
        break;
    case 'r':
        ctl->rank = -1;
        is_good = strcmp(text, "launcher") == 0 || integer_parse(text, -1, INT32_MAX, &ctl->rank);
        break;
    case 'O':
        ctl->has_offset = true;
        is_good = integer_parse(text, INT64_MIN, INT64_MAX, &ctl->offset);
        break;
    case 't':
        ctl->has_tail = true;
        is_good = integer_parse(text, 0, 1000000, &ctl->tail);
        break;
    case 'F':
        is_good = integer_parse(text, 0, INT64_MAX, &ctl->from_step);
        break;
    case 'p':
        ctl->is_plot = true;
        break;
    case 'P':
        ctl->is_progress = true;
        break;
    case 'T': {
        char *end = NULL;
        ctl->timeout_s = strtod(text, &end);
        is_good = end != text && *end == '\0' && isfinite(ctl->timeout_s) && ctl->timeout_s > 0 && ctl->timeout_s < 1e9;
        break;
    }
    case 'w':
        is_good = integer_parse(text, 1, 65536, &ctl->workers);
        break;
    case 'x':
        ctl->is_force = true;
        break;
    default:
        return CTL_USAGE;
    }
    return is_good ? CTL_OK : usage_fail(verb, "bad value of an option:", text);
}

/* Options and arguments of a verb; argv[0] is the verb. -1: go on and run it. */
static int verb_parse(ctl_t *ctl, const ctl_verb_t *verb, int argc, char **argv)
{
    struct option longs[MAX_LONG] = {{"help", no_argument, NULL, 'h'}};
    char shorts[3 * N_OPTIONS + 4] = ":h";
    int n_longs = 1;
    for (int i = 0; i < N_OPTIONS; i++) {
        const option_row_t *row = &options[i];
        if (strchr(verb->options, row->id) == NULL) {
            continue;
        }
        longs[n_longs++] =
            (struct option){row->name, row->argument != NULL ? required_argument : no_argument, NULL, OPTION_BASE + i};
        if (row->short_name != 0) {
            size_t length = strlen(shorts);
            (void)snprintf(shorts + length, sizeof(shorts) - length, "%c%s", row->short_name,
                           row->argument != NULL ? ":" : "");
        }
    }
    opterr = 0;
    optind = 0;
    int found;
    while ((found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        int index = found - OPTION_BASE;
        for (int i = 0; found < OPTION_BASE && i < N_OPTIONS; i++) {
            index = options[i].short_name == found && strchr(verb->options, options[i].id) != NULL ? i : index;
        }
        if (found == 'h' && index < 0) {
            verb_help(verb);
            return CTL_OK;
        }
        if (found == '?' || found == ':') {
            (void)fprintf(stderr, "gradctl %s: %s %s; see gradctl %s --help\n", verb->name,
                          found == ':' ? "a value is missing after" : "unknown option", argv[optind - 1], verb->name);
            return CTL_USAGE;
        }
        int result = option_apply(ctl, verb, options[index].id, optarg);
        if (result != CTL_OK) {
            return result;
        }
    }
    ctl->args = argv + optind;
    ctl->n_args = argc - optind;
    if (ctl->n_args < verb->min_args || ctl->n_args > verb->max_args) {
        (void)fprintf(stderr, "usage: gradctl %s%s%s%s\n", verb->name, verb->options[0] != '\0' ? " [options]" : "",
                      verb->arguments[0] != '\0' ? " " : "", verb->arguments);
        return CTL_USAGE;
    }
    return -1;
}

/* ---- running ---- */

static void surroundings_look(ctl_t *ctl)
{
    const char *no_color = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    const char *locale = setlocale(LC_CTYPE, "");
    ctl->is_terminal = isatty(STDOUT_FILENO) != 0;
    ctl->has_color = ctl->is_terminal && (no_color == NULL || no_color[0] == '\0') &&
                     (terminal == NULL || strcmp(terminal, "dumb") != 0);
    ctl->has_unicode = locale != NULL && (strcasestr(locale, "utf-8") != NULL || strcasestr(locale, "utf8") != NULL);
    struct winsize size;
    ctl->columns =
        ctl->is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static int edit_distance(const char *a, const char *b)
{
    int row[32];
    int n = (int)strlen(b);
    for (int j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (int i = 1; a[i - 1] != '\0'; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j];
            int best = diagonal + (a[i - 1] != b[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[n];
}

static const ctl_verb_t *verb_find(const char *name)
{
    int nearest = -1, distance = 3;
    for (int i = 0; i < N_VERBS; i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
        int d = strlen(name) < 24 ? edit_distance(name, verbs[i].name) : 99;
        if (d < distance) {
            distance = d;
            nearest = i;
        }
    }
    (void)fprintf(stderr, "gradctl: no verb \"%s\"%s%s%s; see gradctl --help\n", name,
                  nearest >= 0 ? "; did you mean \"" : "", nearest >= 0 ? verbs[nearest].name : "",
                  nearest >= 0 ? "\"?" : "");
    return NULL;
}

static int verb_run(ctl_t *ctl, const ctl_verb_t *verb, int argc, char **argv)
{
    int result = verb_parse(ctl, verb, argc, argv);
    if (result >= 0) {
        return result;
    }
    surroundings_look(ctl);
    result = verb->needs_daemon ? ctl_connect(ctl) : CTL_OK;
    if (result == CTL_OK) {
        result = verb->run(ctl);
    }
    rpc_channel_close(ctl->channel);
    mem_free(ctl->found_address);
    if (fflush(stdout) != 0 && result == CTL_OK) {
        (void)fprintf(stderr, "gradctl: cannot write the output: %s\n", strerror(errno));
        result = CTL_REFUSED;
    }
    return result;
}

int ctl_main(int argc, char **argv)
{
    ctl_t ctl = {.limit = 100};
    int first = 1;
    while (first < argc && argv[first][0] == '-') {
        const char *word = argv[first];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            general_help(stdout);
            return CTL_OK;
        }
        if (strcmp(word, "--version") == 0) {
            return version_print(&ctl);
        }
        if (strncmp(word, "--address=", 10) == 0) {
            ctl.address = word + 10;
        } else if (strcmp(word, "--address") == 0 && first + 1 < argc) {
            ctl.address = argv[++first];
        } else {
            (void)fprintf(stderr, "gradctl: unknown option %s; see gradctl --help\n", word);
            return CTL_USAGE;
        }
        first++;
    }
    if (first >= argc) {
        general_help(stderr);
        return CTL_USAGE;
    }
    if (strcmp(argv[first], "help") == 0) {
        const ctl_verb_t *verb = first + 1 < argc ? verb_find(argv[first + 1]) : NULL;
        if (verb == NULL && first + 1 < argc) {
            return CTL_USAGE;
        }
        if (verb != NULL) {
            verb_help(verb);
        } else {
            general_help(stdout);
        }
        return CTL_OK;
    }
    const ctl_verb_t *verb = verb_find(argv[first]);
    int result = verb != NULL ? verb_run(&ctl, verb, argc - first, argv + first) : CTL_USAGE;
    mem_free((void *)ctl.set.items);
    mem_free((void *)ctl.names.items);
    mem_free((void *)ctl.states.items);
    return result;
}
