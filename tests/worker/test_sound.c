/* SPDX-License-Identifier: Apache-2.0 */
/* Sound files as datasets; the values of every kind of file are libsndfile's own. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <sndfile.h>

#include "base/mem.h"
#include "gradd/safetensors.h"
#include "tests/worker/dataset_specs.h"

enum { MAX_SOUND = 3000, MAX_FRAMES = 12000, MAX_CHANNELS = 8, MAX_FILE = 1 << 17 };

static wrk_dataset_t *dataset;
static float x[MAX_FRAMES];

/* One class, f/one. */
static void folder_make(void)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/f", fixture_folder());
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/f/one", fixture_folder());
    assert_int_equal(mkdir(path, 0700), 0);
}

static void number_put(uint8_t *out, uint32_t value, int n)
{
    for (int i = 0; i < n; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

/* A WAV file of 16-bit frames 0, 1, 2, … times 256 in every channel; format 3: of floats. */
static size_t wav_make(uint8_t *bytes, uint32_t rate, uint16_t n_channels, uint32_t n_frames, uint16_t format)
{
    uint16_t width = format == 3 ? 4 : 2;
    uint32_t size = n_frames * n_channels * width;
    static const char head[16] = "RIFF----WAVEfmt ";
    memcpy(bytes, head, sizeof(head));
    number_put(bytes + 4, 36 + size, 4);
    number_put(bytes + 16, 16, 4);
    number_put(bytes + 20, format, 2);
    number_put(bytes + 22, n_channels, 2);
    number_put(bytes + 24, rate, 4);
    number_put(bytes + 28, rate * n_channels * width, 4);
    number_put(bytes + 32, (uint32_t)(n_channels * width), 2);
    number_put(bytes + 34, (uint32_t)(width * 8), 2);
    number_put(bytes + 36, 0x61746164, 4); /* "data" */
    number_put(bytes + 40, size, 4);
    for (uint32_t i = 0; i < n_frames * n_channels; i++) {
        float value = (float)i;
        if (format == 3) {
            memcpy(bytes + 44 + 4 * i, &value, 4);
        } else {
            number_put(bytes + 44 + 2 * i, i / n_channels * 256, 2);
        }
    }
    return 44 + size;
}

/* Ten frames, with sizes of 64 bits (EBU Tech 3306). */
static size_t rf64_make(uint8_t *bytes)
{
    enum { OLD = 12, CHUNK = 36 };
    static const uint8_t START[] = {'R', 'F', '6', '4', 0xff, 0xff, 0xff, 0xff, 'W', 'A', 'V', 'E', 'd', 's', '6', '4'};
    uint8_t plain[1024];
    const size_t size = wav_make(plain, 8000, 1, 10, 1) + CHUNK;
    memcpy(bytes, START, sizeof(START));
    memset(bytes + 16, 0, CHUNK - 4);
    number_put(bytes + 16, CHUNK - 8, 4);
    number_put(bytes + 20, (uint32_t)size - 8, 4);
    number_put(bytes + 28, 20, 4);
    number_put(bytes + 36, 10, 4);
    memcpy(bytes + OLD + CHUNK, plain + OLD, size - OLD - CHUNK);
    number_put(bytes + CHUNK + 40, UINT32_MAX, 4);
    return size;
}

/* The same as Sony's Wave64: chunks named by 16 bytes, whose sizes count them. */
static size_t wave64_make(uint8_t *bytes)
{
    static const uint8_t riff[12] = {0x2E, 0x91, 0xCF, 0x11, 0xA5, 0xD6, 0x28, 0xDB, 0x04, 0xC1};
    static const uint8_t other[12] = {0xF3, 0xAC, 0xD3, 0x11, 0x8C, 0xD1, 0, 0xC0, 0x4F, 0x8E, 0xDB, 0x8A};
    static const struct {
        int at;
        const char *name;
        uint32_t size;
    } chunks[] = {{0, "riff", 124}, {24, "wave", 0}, {40, "fmt ", 40}, {80, "data", 44}};
    uint8_t plain[1024];
    (void)wav_make(plain, 8000, 1, 10, 1);
    memset(bytes, 0, 124);
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        memcpy(bytes + chunks[i].at, chunks[i].name, 4);
        memcpy(bytes + chunks[i].at + 4, i == 0 ? riff : other, 12);
        number_put(bytes + chunks[i].at + 16, chunks[i].size, 4);
    }
    memcpy(bytes + 64, plain + 20, 16);
    memcpy(bytes + 104, plain + 44, 20);
    return 124;
}

static void wav_write(const char *name, uint32_t rate, uint16_t n_channels, uint32_t n_frames, uint16_t format)
{
    uint8_t bytes[1024];
    (void)file_write(name, bytes, wav_make(bytes, rate, n_channels, n_frames, format));
}

static void sound_is_mixed_cut_and_filled(void **state)
{
    (void)state;
    int64_t labels[3];
    wav_write("7_a_0.wav", 8000, 1, 10, 1);
    wav_write("7_b_1.wav", 8000, 2, 4, 1);
    wav_write("9_a_0.wav", 8000, 1, 6, 1);
    (void)file_write_text("notes.txt", "");
    assert_ok(dataset_open("wav: {path: ., class_from: name, length: 6}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 3);
    assert_int_equal(wrk_dataset_n_classes(dataset), 2);
    assert_int_equal(wrk_dataset_input(dataset)->shape[2], 6);
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0, 1, 2}, 3, x, labels));
    assert_true(labels[0] == 0 && labels[1] == 0 && labels[2] == 1);
    for (int i = 0; i < 6; i++) {
        assert_true(x[i] == (float)i / 128);
        assert_true(x[6 + i] == (i < 4 ? (float)i / 128 : 0));
    }
    wrk_dataset_close(dataset);
    assert_ok(dataset_open("wav: {path: ., class_from: name, length: 6, keep: middle, match: [\"7_[ab]_[01].wav\"]}",
                           NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 2);
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0, 1}, 2, x, labels));
    assert_true(x[0] == 2.0F / 128 && x[6] == 0 && x[8] == 1.0F / 128 && x[11] == 0);
    wrk_dataset_close(dataset);
}

static void bad_sound_is_named(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    folder_make();
    wav_write("f/one/a.wav", 8000, 1, 10, 1);
    wav_write("f/one/b.wav", 8000 * 257, 1, 10, 1);
    assert_ok(dataset_open("wav: {path: f, length: 6}", NULL, &dataset));
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_DATA,
                 "b.wav: 2056000 values a second can't become 8000: at most 256 times as many or as few");
    size_t size = wav_make(bytes, 8000, 1, 10, 1);
    for (size_t keep = 0; keep < size; keep++) {
        (void)file_write("f/one/b.wav", bytes, keep);
        assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_CORRUPT, "b.wav");
    }
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 0xA5;
        (void)file_write("f/one/b.wav", bytes, size);
        status_t status = wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL);
        assert_true(status == ST_OK || status == ST_ERR_CORRUPT || status == ST_ERR_DATA);
        bytes[at] ^= 0xA5;
    }
    for (int kind = 0; kind < 2; kind++) {
        size = kind == 0 ? rf64_make(bytes) : wave64_make(bytes);
        for (size_t keep = 1; keep <= size; keep++) {
            (void)file_write("f/one/b.wav", bytes, keep);
            status_t status = wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL);
            assert_int_equal(status, keep < size ? ST_ERR_CORRUPT : ST_OK);
        }
        assert_true(x[1] == 1.0F / 128 && x[5] == 5.0F / 128);
    }
    size = wav_make(bytes, 8000, 1, 10, 3);
    number_put(bytes + 44 + 8, 0x7FC00000, 4);
    (void)file_write("f/one/b.wav", bytes, size);
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_DATA,
                 "b.wav: frame 2, channel 0 is not a finite number");
    size = wav_make(bytes, 8000, 2, 10, 3);
    number_put(bytes + 44 + 8, 0x7F7FFFFF, 4);
    number_put(bytes + 44 + 12, 0x7F7FFFFF, 4);
    (void)file_write("f/one/b.wav", bytes, size);
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_DATA,
                 "b.wav: frame 1: the sum of its channels is beyond 32 bits");
    wav_write("f/one/b.wav", 8000, 65, 1, 1);
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_DATA,
                 "b.wav: 65 channels; 1 … 64 are read");
    wav_write("f/one/b.wav", 8000, 1, 0, 1);
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_DATA,
                 "b.wav: 0 frames: there is no sound in it");
    wav_write("f/one/b.wav", 0, 1, 10, 1);
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_DATA,
                 "b.wav: a rate of 0 values a second");
    wrk_dataset_close(dataset);
    dataset_refused("wav: {path: f/one, length: 6, class_from: name}", ST_ERR_DATA, "a.wav: the name has no class");
    dataset_refused("wav: {path: f, length: 6, match: c*}", ST_ERR_DATA,
                    "one: a class folder without sound files (.wav, .flac) that `match` fits");
}

/* One class folder with one sound file of floats, mono. */
static void sound_put(const char *name, uint32_t rate, const float *values, int64_t n)
{
    uint8_t *bytes = mem_alloc((size_t)(44 + 4 * n));
    assert_non_null(bytes);
    size_t size = wav_make(bytes, rate, 1, (uint32_t)n, 3);
    memcpy(bytes + 44, values, (size_t)(4 * n));
    (void)file_write(name, bytes, size);
    mem_free(bytes);
}

static void sound_read(int rate, int64_t length, const char *more, float *out)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "wav: {path: f, rate: %d, length: %d%s}", rate, (int)length, more);
    assert_ok(dataset_open(text, NULL, &dataset));
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0}, 1, out, NULL));
    wrk_dataset_close(dataset);
}

/* The largest difference, as a share of the largest value. */
static double difference(const float *got, const float *wanted, int64_t n)
{
    double largest = 0;
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)wanted[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)wanted[i]));
    }
    return worst / largest;
}

static void a_sound_of_another_rate_becomes_scipys(void **state)
{
    static const int rates[][2] = {{8000, 16000}, {16000, 8000}, {44100, 16000},
                                   {22050, 8000}, {8000, 11025}, {48000, 4000}};
    static float whole[MAX_SOUND];
    gd_safetensors_t *golden = NULL;
    (void)state;
    folder_make();
    assert_ok(gd_safetensors_open(fixture_golden("resample.safetensors"), &golden));
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        char name[64];
        int to = rates[i][1];
        (void)snprintf(name, sizeof(name), "from_%d_to_%d.source", rates[i][0], to);
        const gd_safetensors_entry_t *source = gd_safetensors_find(golden, name);
        (void)snprintf(name, sizeof(name), "from_%d_to_%d.result", rates[i][0], to);
        const gd_safetensors_entry_t *result = gd_safetensors_find(golden, name);
        assert_true(source != NULL && result != NULL && result->shape[0] <= MAX_SOUND);
        int64_t n = result->shape[0];
        sound_put("f/one/a.wav", (uint32_t)rates[i][0], source->data, source->shape[0]);

        /* of the largest value; 2e-6 here at most */
        sound_read(to, n, "", whole);
        double worst = difference(whole, result->data, n);
        print_message("%d to %d a second: %.1e\n", rates[i][0], to, worst);
        assert_true(worst < 1e-5);

        /* a window is that of the whole, wherever it begins */
        for (int64_t length = n % 2 + 2; length < n; length += 2 * (n / 7)) {
            sound_read(to, length, ", keep: middle", x);
            assert_true(difference(x, whole + (n - length) / 2, length) < 1e-6);
        }
    }
    gd_safetensors_close(golden);
}

static void the_first_sound_gives_the_rate(void **state)
{
    float values[200];
    (void)state;
    folder_make();
    for (int i = 0; i < 200; i++) {
        values[i] = sinf((float)i * 0.05F);
    }
    sound_put("f/one/a.wav", 8000, values, 100);
    sound_put("f/one/b.wav", 16000, values, 200);
    assert_ok(dataset_open("wav: {path: f, length: 110}", NULL, &dataset));
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0, 1}, 2, x, NULL));
    for (int i = 0; i < 100; i++) {
        assert_true(x[i] == values[i]);
        assert_true(i < 20 || i >= 80 || fabsf(x[110 + i] - values[2 * i]) < 2e-3F); /* its ends ring */
    }
    for (int i = 100; i < 110; i++) {
        assert_true(x[110 + i] == 0);
    }
    wrk_dataset_close(dataset);
}

static void spoken_digits_are_read(void **state)
{
    (void)state;
    if (fixture_data("fsdd") == NULL) {
        FIXTURE_SKIP("no fsdd");
    }
    char yaml[512];
    (void)snprintf(yaml, sizeof(yaml), "wav: {path: %s, class_from: name, length: 4000, match: [\"*_[0-4].wav\"]}",
                   fixture_data("fsdd"));
    assert_ok(dataset_open(yaml, NULL, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 10);
    assert_int_equal(wrk_dataset_count(dataset), 300);
    for (int64_t i = 0; i < 300; i += 50) {
        assert_ok(wrk_dataset_read(dataset, &i, 1, x, NULL));
    }
    wrk_dataset_close(dataset);
}

/* ---- kinds of files ---- */

/* Noise as a file f/one/NAME of libsndfile's format; what libsndfile reads of it, [frames, n_channels]. Returns frames,
 * which some formats fill up to a whole block. */
static int64_t file_make(const char *name, int format, int n_channels, int64_t n_frames, float *values)
{
    SF_INFO info = {.samplerate = 8000, .channels = n_channels, .format = format};
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/f/one/%s", fixture_folder(), name);
    uint32_t seed = (uint32_t)(format + n_channels) * 7919 + (uint32_t)n_frames;
    for (int64_t i = 0; i < n_frames * n_channels; i++) {
        seed = seed * 1664525 + 1013904223;
        values[i] = (float)(int32_t)seed * (1.0F / (1U << 31));
    }
    SNDFILE *sound = sf_open(path, SFM_WRITE, &info);
    assert_non_null(sound);
    assert_int_equal(sf_writef_float(sound, values, n_frames), n_frames);
    assert_int_equal(sf_close(sound), 0);
    sound = sf_open(path, SFM_READ, &info);
    assert_non_null(sound);
    assert_true(info.frames >= n_frames && info.frames <= MAX_FRAMES);
    assert_int_equal(sf_readf_float(sound, values, info.frames), info.frames);
    assert_int_equal(sf_close(sound), 0);
    return info.frames;
}

/* The only file of the folder f gives the middle of these values, mixed. */
static void middle_compare(const float *values, int n_channels, int64_t n_frames, int64_t length)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "wav: {path: f, length: %d, keep: middle}", (int)length);
    assert_ok(dataset_open(text, NULL, &dataset));
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0}, 1, x, NULL));
    wrk_dataset_close(dataset);
    for (int64_t i = 0; i < length; i++) {
        const int64_t frame = (n_frames - length) / 2 + i;
        float sum = 0;
        for (int c = 0; c < n_channels; c++) {
            sum += values[frame * n_channels + c];
        }
        assert_true(x[i] == sum / (float)n_channels);
    }
}

static const int WAV_FORMATS[] = {SF_FORMAT_WAV, SF_FORMAT_WAVEX, SF_FORMAT_RF64, SF_FORMAT_W64};
static const int WAV_VALUES[] = {SF_FORMAT_PCM_U8, SF_FORMAT_PCM_16, SF_FORMAT_PCM_24,
                                 SF_FORMAT_PCM_32, SF_FORMAT_FLOAT,  SF_FORMAT_DOUBLE};
static float noise_values[MAX_FRAMES * MAX_CHANNELS];

static void every_kind_of_wav_has_libsndfiles_values(void **state)
{
    static const int others[] = {SF_FORMAT_WAV | SF_FORMAT_ULAW,      SF_FORMAT_WAV | SF_FORMAT_ALAW,
                                 SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM, SF_FORMAT_WAV | SF_FORMAT_MS_ADPCM,
                                 SF_FORMAT_AIFF | SF_FORMAT_PCM_16,   SF_FORMAT_WAV | SF_FORMAT_GSM610};
    (void)state;
    folder_make();
    for (int n_channels = 1; n_channels <= MAX_CHANNELS; n_channels *= 2) {
        for (size_t i = 0; i < sizeof(WAV_FORMATS) / sizeof(int) * sizeof(WAV_VALUES) / sizeof(int); i++) {
            (void)file_make("a.wav", WAV_FORMATS[i % 4] | WAV_VALUES[i / 4], n_channels, MAX_FRAMES, noise_values);

            middle_compare(noise_values, n_channels, MAX_FRAMES, MAX_FRAMES);
            middle_compare(noise_values, n_channels, MAX_FRAMES, 333);
        }
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        const int64_t n = file_make("a.wav", others[i], 1, MAX_FRAMES - 1000, noise_values);

        middle_compare(noise_values, 1, n, 4000);
    }
}

static void every_kind_of_flac_has_libsndfiles_values(void **state)
{
    static const int values[] = {SF_FORMAT_PCM_S8, SF_FORMAT_PCM_16, SF_FORMAT_PCM_24};
    (void)state;
    folder_make();
    for (int n_channels = 1; n_channels <= MAX_CHANNELS; n_channels++) {
        for (int i = 0; i < 3; i++) {
            const int64_t n = n_channels == 4 ? 37 : MAX_FRAMES;
            (void)file_make("a.flac", SF_FORMAT_FLAC | values[i], n_channels, n, noise_values);

            middle_compare(noise_values, n_channels, n, n);
            middle_compare(noise_values, n_channels, n, 33);
        }
    }
}

static size_t file_take(const char *name, uint8_t *bytes)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/f/one/%s", fixture_folder(), name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size = fread(bytes, 1, MAX_FILE, file);
    assert_int_equal(fclose(file), 0);
    return size;
}

/* A picture, and a table of places to seek that point nowhere. */
static void metadata_of_a_flac_file_is_passed_over(void **state)
{
    enum { INFO = 42, TABLE = 4 + 18 * 100, PICTURE = 4 + 70000 };
    static uint8_t bytes[MAX_FILE];
    static uint8_t more[MAX_FILE + TABLE + PICTURE];
    (void)state;
    folder_make();
    (void)file_make("a.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 1, MAX_FRAMES, noise_values);
    const size_t size = file_take("a.flac", bytes);
    memcpy(more, bytes, INFO);
    more[4] &= 0x7F;
    memset(more + INFO, 0x5A, TABLE + PICTURE);
    memcpy(more + INFO, (const uint8_t[]){3, 0, (TABLE - 4) >> 8, (TABLE - 4) & 0xFF}, 4);
    memcpy(more + INFO + TABLE, (const uint8_t[]){6, 70000 >> 16, 70000 >> 8 & 0xFF, 70000 & 0xFF}, 4);
    memcpy(more + INFO + TABLE + PICTURE, bytes + INFO, size - INFO);

    (void)file_write("f/one/a.flac", more, size + TABLE + PICTURE);

    middle_compare(noise_values, 1, MAX_FRAMES, MAX_FRAMES);
    middle_compare(noise_values, 1, MAX_FRAMES, 100);
}

static void a_damaged_flac_file_is_named(void **state)
{
    static uint8_t bytes[MAX_FILE];
    int n_refused = 0;
    int n_flips = 0;
    (void)state;
    folder_make();
    wav_write("f/one/0.wav", 8000, 1, 10, 1);
    (void)file_make("a.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 2, MAX_FRAMES, noise_values);
    const size_t size = file_take("a.flac", bytes);
    assert_ok(dataset_open("wav: {path: f, length: 12000}", NULL, &dataset));

    for (size_t keep = 0; keep < size; keep += keep < 200 ? 1 : 997) {
        (void)file_write("f/one/a.flac", bytes, keep);
        assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_CORRUPT, "a.flac");
    }
    for (size_t at = 0; at < size; at += at < 200 ? 1 : 997) {
        bytes[at] ^= 0x24;
        (void)file_write("f/one/a.flac", bytes, size);
        status_t status = wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL);
        assert_true(status == ST_OK || status == ST_ERR_CORRUPT || status == ST_ERR_DATA);
        n_refused += at >= 200 && status == ST_ERR_CORRUPT;
        n_flips += at >= 200;
        bytes[at] ^= 0x24;
    }
    wrk_dataset_close(dataset);

    assert_true(n_flips > 20 && n_refused == n_flips); /* every block has a checksum */
    memset(bytes + 21, bytes[21] & 0xF0, 1);
    memset(bytes + 22, 0, 4);
    (void)file_write("f/one/0.wav", bytes, size);
    dataset_refused("wav: {path: f, length: 10}", ST_ERR_DATA, "0.wav: its header doesn't say how many frames it has");
}

/* Who writes WAV to a pipe knows no size. */
static void a_wav_file_from_a_pipe_is_read_to_its_end(void **state)
{
    uint8_t bytes[1024];
    (void)state;
    folder_make();
    const size_t size = wav_make(bytes, 8000, 1, 10, 1);
    memset(bytes + 4, 0xFF, 4);
    memset(bytes + 40, 0xFF, 4);
    (void)file_write("f/one/a.wav", bytes, size);
    assert_ok(dataset_open("wav: {path: f, length: 12}", NULL, &dataset));

    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0}, 1, x, NULL));

    assert_true(x[9] == 9.0F / 128 && x[10] == 0);
    number_put(bytes + 4, 0x7FFFF024, 4); /* as SoX writes it */
    number_put(bytes + 40, 0x7FFFF000, 4);
    (void)file_write("f/one/a.wav", bytes, size);
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0}, 1, x, NULL));
    assert_true(x[9] == 9.0F / 128 && x[10] == 0);
    number_put(bytes + 40, 21, 4); /* it says now what it doesn't have */
    (void)file_write("f/one/a.wav", bytes, size);
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){0}, 1, x, NULL), ST_ERR_CORRUPT,
                 "a.wav: truncated: its data (offset 36) say 21 bytes, the file has 20");
    wrk_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sound_is_mixed_cut_and_filled),
        TEST(bad_sound_is_named),
        TEST(a_sound_of_another_rate_becomes_scipys),
        TEST(the_first_sound_gives_the_rate),
        TEST(spoken_digits_are_read),
        TEST(every_kind_of_wav_has_libsndfiles_values),
        TEST(every_kind_of_flac_has_libsndfiles_values),
        TEST(metadata_of_a_flac_file_is_passed_over),
        TEST(a_damaged_flac_file_is_named),
        TEST(a_wav_file_from_a_pipe_is_read_to_its_end),
    };
    return cmocka_run_group_tests_name("sound", tests, NULL, NULL);
}
