/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status: one error convention for every library and program of gradd.
 *
 * Whoever first sees an error records its message with ST_FAIL (per thread) and returns the code; everyone above
 * returns the code unchanged. The outermost loop or the RPC handler prints or sends status_message() once.
 */
#ifndef GRADD_BASE_STATUS_H
#define GRADD_BASE_STATUS_H

/* X(name, text): codes are grouped by what must be made anew after the error. */
#define ST_CODE_LIST(X)                                                                                                \
    X(OK, "ok")                                                                                                        \
    /* the argument: the caller can correct it and call again */                                                       \
    X(ERR_INVAL, "invalid argument")                                                                                   \
    X(ERR_SHAPE, "shape mismatch")                                                                                     \
    X(ERR_DTYPE, "dtype mismatch")                                                                                     \
    X(ERR_RANGE, "out of range")                                                                                       \
    X(ERR_UNSUPPORTED, "unsupported")                                                                                  \
    X(ERR_PARSE, "parse error")                                                                                        \
    X(ERR_NOT_FOUND, "not found")                                                                                      \
    X(ERR_EXISTS, "already exists")                                                                                    \
    X(ERR_PERMISSION, "permission denied")                                                                             \
    /* the step: data or numbers of this step are bad */                                                               \
    X(ERR_DATA, "bad data")                                                                                            \
    X(ERR_NONFINITE, "non-finite value")                                                                               \
    /* the communicator: the group of ranks is broken */                                                               \
    X(ERR_COMM, "communication failed")                                                                                \
    X(ERR_PEER, "peer lost")                                                                                           \
    X(ERR_TIMEOUT, "timed out")                                                                                        \
    /* the rank: this process cannot go on */                                                                          \
    X(ERR_NOMEM, "out of memory")                                                                                      \
    X(ERR_IO, "i/o error")                                                                                             \
    X(ERR_NOSPACE, "no space left")                                                                                    \
    X(ERR_CORRUPT, "corrupt file")                                                                                     \
    X(ERR_DEVICE, "device error")                                                                                      \
    /* the job: its state forbids it */                                                                                \
    X(ERR_STATE, "not possible in this state")                                                                         \
    X(ERR_CANCELLED, "cancelled")                                                                                      \
    X(ERR_BUSY, "busy")                                                                                                \
    X(ERR_INTERNAL, "internal error")

typedef enum status {
#define ST_ENUM(name, text) ST_##name,
    ST_CODE_LIST(ST_ENUM)
#undef ST_ENUM
        ST_COUNT
} status_t;

/* Records "message" for this thread and returns code. The format is printf's. The comma lets the compiler see that the
 * result isn't ST_OK where code is a constant. */
#define ST_FAIL(code_x, ...) (status_fail(__FILE__, __LINE__, __VA_ARGS__), (status_t)(code_x))

void status_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * Puts "context: " before the recorded message (a module path, a file name) and returns code unchanged.
 * For the few places that know something that the first detector could not.
 */
status_t status_add_context(status_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The message of this thread's last failure, without the code's text; "" when none. Valid until the next failure. */
const char *status_message(void);

/* "shape mismatch", … ; never NULL. */
const char *status_text(status_t code);

/* "ERR_SHAPE", … ; never NULL. */
const char *status_name(status_t code);

/* Source place of the last failure, "file.c:12"; "" when none. For debug logs. */
const char *status_place(void);

/* Forgets the recorded message. */
void status_clear(void);

/* Maps errno to a code: ENOENT → ERR_NOT_FOUND, ENOSPC → ERR_NOSPACE, EACCES → ERR_PERMISSION, … else ERR_IO. */
status_t status_from_errno(int error_number);

#endif
