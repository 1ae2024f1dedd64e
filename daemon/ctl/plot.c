/* SPDX-License-Identifier: Apache-2.0 */
/* plot: a curve in the terminal. A braille character holds 2 × 4 dots. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/ctl/ctl.h"

enum { HEIGHT = 12, AXIS_WIDTH = 10, MAX_WIDTH = 160, MIN_WIDTH = 20 };

typedef struct canvas {
    int width, height; /* characters */
    uint8_t *dots;     /* braille bits, width × height */
} canvas_t;

static void canvas_set(canvas_t *canvas, int x, int y)
{
    static const uint8_t bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    if (x >= 0 && y >= 0 && x < canvas->width * 2 && y < canvas->height * 4) {
        canvas->dots[y / 4 * canvas->width + x / 2] |= bits[y % 4][x % 2];
    }
}

/* Straight line between two dots. */
static void canvas_line(canvas_t *canvas, int x0, int y0, int x1, int y1)
{
    int n = abs(x1 - x0) > abs(y1 - y0) ? abs(x1 - x0) : abs(y1 - y0);
    for (int i = 0; i <= n; i++) {
        double t = n == 0 ? 0.0 : (double)i / n;
        canvas_set(canvas, x0 + (int)lround(t * (x1 - x0)), y0 + (int)lround(t * (y1 - y0)));
    }
}

static void canvas_write(const ctl_t *ctl, const canvas_t *canvas, double low, double high)
{
    for (int row = 0; row < canvas->height; row++) {
        char label[32] = "";
        if (row % 4 == 0 || row == canvas->height - 1) {
            ctl_value_format(high - (high - low) * row / (canvas->height - 1), true, label);
        }
        (void)printf("%*s %s", AXIS_WIDTH - 2, label, ctl->has_unicode ? "┤" : "|");
        for (int column = 0; column < canvas->width; column++) {
            uint8_t dots = canvas->dots[row * canvas->width + column];
            if (!ctl->has_unicode || dots == 0) {
                (void)fputc(dots != 0 ? '*' : ' ', stdout);
            } else { /* U+2800 + dots in UTF-8 */
                (void)printf("\xe2%c%c", 0xa0 | dots >> 6, 0x80 | (dots & 0x3f));
            }
        }
        (void)fputc('\n', stdout);
    }
}

void ctl_plot(const ctl_t *ctl, const char *title, const double *x, const double *y, int n_points)
{
    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
    for (int i = 0; i < n_points; i++) {
        if (isfinite(y[i])) {
            x_low = fmin(x_low, x[i]);
            x_high = fmax(x_high, x[i]);
            y_low = fmin(y_low, y[i]);
            y_high = fmax(y_high, y[i]);
        }
    }
    (void)printf("%s\n", title);
    if (x_low > x_high) {
        (void)printf("  (no values)\n");
        return;
    }
    int width = ctl->columns - AXIS_WIDTH;
    canvas_t canvas = {.width = width > MAX_WIDTH   ? MAX_WIDTH
                                : width < MIN_WIDTH ? MIN_WIDTH
                                                    : width,
                       .height = HEIGHT};
    canvas.dots = mem_calloc((size_t)canvas.width, (size_t)canvas.height);
    if (canvas.dots == NULL) {
        return;
    }
    double x_scale = x_high > x_low ? (canvas.width * 2 - 1) / (x_high - x_low) : 0.0;
    double y_scale = y_high > y_low ? (canvas.height * 4 - 1) / (y_high - y_low) : 0.0;
    int last_x = -1, last_y = -1;
    for (int i = 0; i < n_points; i++) {
        if (!isfinite(y[i])) {
            last_x = -1;
            continue;
        }
        int dot_x = (int)lround((x[i] - x_low) * x_scale);
        int dot_y = (int)lround((y_high - y[i]) * y_scale);
        canvas_line(&canvas, last_x < 0 ? dot_x : last_x, last_x < 0 ? dot_y : last_y, dot_x, dot_y);
        last_x = dot_x;
        last_y = dot_y;
    }
    canvas_write(ctl, &canvas, y_low, y_high);
    (void)printf("%*s step %.0f … %.0f\n", AXIS_WIDTH - 1, "", x_low, x_high);
    (void)fflush(stdout);
    mem_free(canvas.dots);
}
