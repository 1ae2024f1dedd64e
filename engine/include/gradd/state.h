/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state: what a module is made of, by name: PyTorch's state_dict, listed, written to safetensors files and read from
 * them, and frozen by name. Names and layouts are PyTorch's where it has the same module.
 */
#ifndef GRADD_STATE_H
#define GRADD_STATE_H

#include "gradd/nn.h"

typedef struct gd_state_entry {
    char *name;
    gd_tensor_t *tensor; /* borrowed from the module: gd_flat_open puts another in its place */
    bool is_buffer;
    bool is_shared; /* another entry's tensor under a second name (a tied head's weight) */
} gd_state_entry_t;

/* Embedded: {0}, gd_state_release. In order of registration. */
typedef struct gd_state {
    gd_state_entry_t *entries;
    int n_entries;
} gd_state_t;

status_t gd_module_list_state(gd_module_t *root, gd_state_t *state_p);
void gd_state_release(gd_state_t *state);

/* Parameters and buffers, a shared one once under its owner's name, as safetensors.torch.save_model does. The file is
 * written and synced as gd_safetensors_write does. */
status_t gd_module_save(gd_module_t *root, const char *path);

typedef struct gd_load_options {
    const char *strip;         /* what the file's names begin with and the module's don't ("transformer."); NULL */
    const char *add;           /* what the module's names begin with and the file's don't; NULL */
    const char *const *ignore; /* [n_ignore] patterns (* ? [a-z]; * also stands for dots) of names in the file */
    int n_ignore;
    bool allows_gaps; /* names that only the file or only the module has are reported, not refused */
} gd_load_options_t;

/*
 * Sets parameters and buffers to those of the same name in a safetensors file, converted to their dtype from bf16, f16,
 * f32 or f64, in place: before or after gd_flat_open. A shared parameter may stand in the file under any of its names,
 * or all of them with the same numbers. num_batches_tracked of PyTorch's norms is passed over. options may be NULL.
 * report (may be NULL) gets a line for each name that only one side has or that doesn't fit. Nothing is changed unless
 * all fits. ST_ERR_SHAPE: a shape or dtype doesn't; ST_ERR_NOT_FOUND: names are missing or unexpected; both say which,
 * as many as fit into a message. ST_ERR_STATE: a module without memory (gd_meta_set_enabled).
 */
status_t gd_module_load(gd_module_t *root, const char *path, const gd_load_options_t *options, strbuf_t *report);

/*
 * Parameters whose full name fits the pattern (as above) need no gradient from now on, or need one again: backward
 * doesn't compute it, and an optimizer that is opened afterwards leaves them as they are. n_p (may be NULL): how many.
 * ST_ERR_NOT_FOUND: none fits.
 */
status_t gd_module_freeze(gd_module_t *root, const char *pattern, bool is_frozen, int *n_p);

#endif
