/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_wav: a sound file from a stranger, in a class folder; every other one is resampled. */
#include "tests/fuzz/fuzz_data.h"
#include <sys/stat.h>

static char folder[64];

static void folder_remove(void)
{
    char class_folder[80];
    (void)snprintf(class_folder, sizeof(class_folder), "%s/class", folder);
    (void)rmdir(class_folder);
    (void)rmdir(folder);
}

/* A class folder in memory; made once, and removed at the end. */
static const char *folder_make(void)
{
    if (folder[0] == 0) {
        char class_folder[80];
        (void)snprintf(folder, sizeof(folder), "/dev/shm/fuzz-wav-XXXXXX");
        if (mkdtemp(folder) == NULL) {
            abort();
        }
        (void)snprintf(class_folder, sizeof(class_folder), "%s/class", folder);
        (void)mkdir(class_folder, 0700);
        (void)atexit(folder_remove);
    }
    return folder;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char path[96];
    Gradd__V1__Wav wav = GRADD__V1__WAV__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    wav.path = (char *)(uintptr_t)folder_make();
    wav.length = 100;
    wav.rate = size % 2 == 0 ? 11025 : 0; /* resampled, or as it is */
    spec.kind_case = GRADD__V1__DATASET__KIND_WAV;
    spec.wav = &wav;
    (void)snprintf(path, sizeof(path), "%s/class/a.wav", wav.path);
    FILE *file = fopen(path, "wb");
    if (file != NULL) {
        (void)fwrite(bytes, 1, size, file);
        (void)fclose(file);
        fuzz_dataset_run(&spec);
    }
    (void)unlink(path);
    return 0;
}
