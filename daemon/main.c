/* SPDX-License-Identifier: Apache-2.0 */
/* gradd: arguments, signals, readiness. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon.h"
#include "daemon/files.h"

enum { EXIT_USAGE = 2, CLOSE_GRACE_MS = 500 };

static const char help[] =
    "gradd: runs training jobs given as YAML over gRPC (see gradctl)\n"
    "\n"
    "usage: gradd [--state-dir DIR] [--listen ADDRESS] [--slots N] [options]\n"
    "\n"
    "  --state-dir DIR         jobs, checkpoints, logs; default $XDG_STATE_HOME/gradd, else /var/lib/gradd\n"
    "  --listen ADDRESS        unix:/path or 127.0.0.1:port (0: any); default unix:DIR/gradd.sock, which is always "
    "served\n"
    "  --slots N               worker threads at a time; default: this machine's cores\n"
    "  --heartbeat SECONDS     a silent rank is given up after this time; default 60\n"
    "  --insecure-listen       allow a TCP address that other machines can reach (no encryption, no authentication)\n"
    "  --help, --version\n"
    "\n"
    "SIGTERM or SIGINT ends the daemon and leaves jobs running; the next gradd on the same folder takes them up "
    "again.\n"
    "Environment: GRADD_LOG=error|warn|info|debug; GRADD_LAUNCHER, a program to run instead of mpirun with its "
    "arguments.\n";

static char *default_state_folder(void)
{
    const char *home = getenv("XDG_STATE_HOME");
    return home != NULL && home[0] == '/' ? dmn_format("%s/gradd", home) : mem_strdup("/var/lib/gradd");
}

static bool number_parse(const char *text, long lowest, long highest, long *number_p)
{
    char *end = NULL;
    errno = 0;
    *number_p = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *number_p >= lowest && *number_p <= highest;
}

/* Exit code, or -1 to go on. */
static int arguments_parse(int argc, char **argv, dmn_options_t *options)
{
    static const struct option names[] = {
        {"state-dir", required_argument, NULL, 's'}, {"listen", required_argument, NULL, 'l'},
        {"slots", required_argument, NULL, 'n'},     {"heartbeat", required_argument, NULL, 'b'},
        {"insecure-listen", no_argument, NULL, 'i'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},         {NULL, 0, NULL, 0},
    };
    int letter;
    long number = 0;
    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (letter) {
        case 's':
            options->state_folder = optarg;
            break;
        case 'l':
            options->listen = optarg;
            break;
        case 'n':
            if (!number_parse(optarg, 1, 1000000, &number)) {
                (void)fprintf(stderr, "gradd: --slots %s: must be a number from 1 to 1000000\n", optarg);
                return EXIT_USAGE;
            }
            options->slots = (int)number;
            break;
        case 'b':
            if (!number_parse(optarg, 1, 86400, &number)) {
                (void)fprintf(stderr, "gradd: --heartbeat %s: must be a number of seconds from 1 to 86400\n", optarg);
                return EXIT_USAGE;
            }
            options->heartbeat_ms = number * 1000;
            break;
        case 'i':
            options->is_insecure_listen_allowed = true;
            break;
        case 'h':
            (void)fputs(help, stdout);
            return 0;
        case 'v':
            (void)puts("gradd " GRADD_VERSION);
            return 0;
        default:
            (void)fputs("gradd: see gradd --help\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "gradd: unexpected argument %s; see gradd --help\n", argv[optind]);
        return EXIT_USAGE;
    }
    return -1;
}

/* Tells systemd (Type=notify) that we serve. */
static void readiness_notify(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof(address.sun_path)) {
        return;
    }
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (fd >= 0) {
        static const char ready[] = "READY=1";
        if (sendto(fd, ready, sizeof(ready) - 1, MSG_NOSIGNAL, (const struct sockaddr *)&address, length) < 0) {
            log_warn("NOTIFY_SOCKET %s: %s", path, strerror(errno));
        }
        (void)close(fd);
    }
}

int main(int argc, char **argv)
{
    dmn_options_t options = {0};
    int code = arguments_parse(argc, argv, &options);
    if (code >= 0) {
        return code;
    }
    char *folder = default_state_folder();
    if (options.state_folder == NULL) {
        options.state_folder = folder;
    }
    log_set_name("gradd");
    (void)umask(0077);
    (void)signal(SIGPIPE, SIG_IGN);
    /* Before any thread: they inherit the mask, so that the signals wait for sigwait below. */
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);

    dmn_daemon_t *daemon = NULL;
    status_t status =
        options.state_folder == NULL ? ST_FAIL(ST_ERR_NOMEM, "state folder") : dmn_daemon_open(&options, &daemon);
    if (status != ST_OK) {
        log_error("%s", status_message());
        mem_free(folder);
        return EXIT_FAILURE;
    }
    log_info("listening on %s, state in %s, %d slots", dmn_daemon_address(daemon), options.state_folder,
             dmn_daemon_slots(daemon));
    readiness_notify();
    int signal_number = 0;
    (void)sigwait(&signals, &signal_number);
    log_info("%s: leaving; jobs go on", strsignal(signal_number));
    dmn_daemon_close(daemon, CLOSE_GRACE_MS);
    mem_free(folder);
    return 0;
}
