/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: the history and the stream of a job's metrics, as tables, points and curves. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "daemon/ctl/ctl.h"

enum { MAX_SERIES = 64, REDRAW_MS = 1000 };

typedef struct point {
    int64_t step, unix_ns;
    double value;
} point_t;

typedef struct series {
    char *name;
    point_t *points;
    int n_points, capacity;
} series_t;

/* All that came, by name in the order of their coming. */
typedef struct history {
    series_t series[MAX_SERIES];
    int n_series;
} history_t;

static series_t *series_get(history_t *history, const char *name)
{
    for (int i = 0; i < history->n_series; i++) {
        if (strcmp(history->series[i].name, name) == 0) {
            return &history->series[i];
        }
    }
    char *copy = history->n_series < MAX_SERIES ? mem_strdup(name) : NULL;
    if (copy == NULL) {
        return NULL;
    }
    series_t *series = &history->series[history->n_series++];
    *series = (series_t){.name = copy};
    return series;
}

/* False for a point that was there already (a resumed stream starts at the last step) and when memory is out. */
static bool history_add(history_t *history, const Gradd__V1__MetricPoint *point)
{
    series_t *series = series_get(history, point->name != NULL ? point->name : "");
    if (series == NULL) {
        return false;
    }
    for (int i = series->n_points - 1; i >= 0 && series->points[i].unix_ns >= point->unix_ns; i--) {
        if (series->points[i].step == point->step && series->points[i].unix_ns == point->unix_ns) {
            return false;
        }
    }
    if (series->n_points == series->capacity) {
        int capacity = series->capacity == 0 ? 64 : 2 * series->capacity;
        point_t *points = mem_realloc(series->points, (size_t)capacity * sizeof(*points));
        if (points == NULL) {
            return false;
        }
        series->points = points;
        series->capacity = capacity;
    }
    series->points[series->n_points++] = (point_t){point->step, point->unix_ns, point->value};
    return true;
}

static void history_release(history_t *history)
{
    for (int i = 0; i < history->n_series; i++) {
        mem_free(history->series[i].name);
        mem_free(history->series[i].points);
    }
    mem_free(history);
}

static int step_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Rows are steps, columns are metrics; of a step that was done again, the last value counts. */
static void history_tabulate(const ctl_t *ctl, const history_t *history)
{
    size_t n_steps = 0;
    for (int i = 0; i < history->n_series; i++) {
        n_steps += (size_t)history->series[i].n_points;
    }
    int64_t *steps = mem_calloc(n_steps + 1, sizeof(*steps));
    double *values = mem_calloc((n_steps + 1) * (size_t)(history->n_series + 1), sizeof(*values));
    if (steps == NULL || values == NULL) {
        mem_free(steps);
        mem_free(values);
        return;
    }
    size_t n = 0;
    for (int i = 0; i < history->n_series; i++) {
        for (int p = 0; p < history->series[i].n_points; p++) {
            steps[n++] = history->series[i].points[p].step;
        }
    }
    qsort(steps, n, sizeof(*steps), step_compare);
    n_steps = 0;
    for (size_t i = 0; i < n; i++) {
        if (n_steps == 0 || steps[i] != steps[n_steps - 1]) {
            steps[n_steps++] = steps[i];
        }
    }
    size_t n_columns = (size_t)history->n_series;
    for (size_t i = 0; i < n_steps * n_columns; i++) {
        values[i] = NAN;
    }
    ctl_table_t table = {.n_columns = (int)n_columns + 1};
    ctl_table_add(&table, "STEP");
    for (int i = 0; i < history->n_series; i++) {
        ctl_table_add(&table, history->series[i].name);
        for (int p = 0; p < history->series[i].n_points; p++) {
            const int64_t *found =
                bsearch(&history->series[i].points[p].step, steps, n_steps, sizeof(*steps), step_compare);
            values[(size_t)(found - steps) * n_columns + (size_t)i] = history->series[i].points[p].value;
        }
    }
    for (size_t row = 0; row < n_steps; row++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "%lld", (long long)steps[row]);
        ctl_table_add(&table, text);
        for (size_t column = 0; column < n_columns; column++) {
            text[0] = '\0';
            if (!isnan(values[row * n_columns + column])) {
                ctl_value_format(values[row * n_columns + column], false, text);
            }
            ctl_table_add(&table, text);
        }
    }
    ctl_table_write(ctl, &table);
    ctl_table_release(&table);
    mem_free(steps);
    mem_free(values);
}

static void history_plot(const ctl_t *ctl, const history_t *history)
{
    for (int i = 0; i < history->n_series; i++) {
        const series_t *series = &history->series[i];
        size_t n = (size_t)series->n_points;
        double *xy = mem_calloc(2 * n + 1, sizeof(*xy));
        if (xy == NULL) {
            return;
        }
        for (size_t p = 0; p < n; p++) {
            xy[p] = (double)series->points[p].step;
            xy[n + p] = series->points[p].value;
        }
        ctl_plot(ctl, series->name, xy, xy + n, series->n_points);
        mem_free(xy);
    }
}

static json_t *point_json(const char *name, const point_t *point)
{
    return json_pack("{s:s, s:I, s:o, s:o}", "name", name, "step", (json_int_t)point->step, "value",
                     ctl_number(point->value), "time", ctl_time(point->unix_ns));
}

static void point_write(const ctl_t *ctl, const Gradd__V1__MetricPoint *p)
{
    point_t point = {p->step, p->unix_ns, p->value};
    if (ctl->format == CTL_JSON || ctl->format == CTL_YAML) {
        json_t *object = point_json(p->name, &point);
        ctl_render_line(object);
        json_decref(object);
        return;
    }
    char text[64];
    if (ctl->format == CTL_CSV) {
        ctl_csv_cell(stdout, p->name, false);
        (void)printf("%lld,%.10g,", (long long)p->step, p->value);
        ctl_time_format(p->unix_ns, text);
        ctl_csv_cell(stdout, text, true);
    } else {
        ctl_value_format(p->value, false, text);
        (void)printf("step %lld  %s %s\n", (long long)p->step, p->name, text);
    }
    (void)fflush(stdout);
}

static void history_render(const ctl_t *ctl, const history_t *history)
{
    json_t *rows = json_array();
    for (int i = 0; i < history->n_series; i++) {
        for (int p = 0; p < history->series[i].n_points; p++) {
            (void)json_array_append_new(rows, point_json(history->series[i].name, &history->series[i].points[p]));
        }
    }
    ctl_render(ctl, rows);
    json_decref(rows);
}

static void batch_take(const ctl_t *ctl, history_t *history, const Gradd__V1__MetricBatch *batch, bool is_live,
                       Gradd__V1__MetricsRequest *request)
{
    for (size_t i = 0; i < batch->n_points; i++) {
        const Gradd__V1__MetricPoint *point = batch->points[i];
        if (history_add(history, point) && is_live) {
            point_write(ctl, point);
        }
        request->has_from_step = 1;
        request->from_step = point->step; /* where a broken stream goes on */
    }
}

int ctl_metrics(ctl_t *ctl)
{
    ctl_job_t *job = NULL;
    int result = ctl_get(ctl, ctl->args[0], &job);
    if (result != CTL_OK) {
        return result;
    }
    ctl_message_free(job);
    history_t *history = mem_zalloc(sizeof(*history));
    if (history == NULL) {
        return CTL_REFUSED;
    }
    ctl_catch_interrupts();
    Gradd__V1__MetricsRequest request = GRADD__V1__METRICS_REQUEST__INIT;
    request.id = ctl->args[0];
    request.n_names = (size_t)ctl->names.n_items;
    request.names = (char **)(uintptr_t)ctl->names.items;
    request.has_from_step = 1;
    request.from_step = ctl->from_step;
    request.has_follow = 1;
    request.follow = ctl->is_follow;
    ctl_feed_t feed = {
        .ctl = ctl, .method = "Metrics", .request = &request.base, .response = &gradd__v1__metric_batch__descriptor};
    bool is_live = ctl->is_follow && !ctl->is_plot, is_end = false, is_changed = false;
    if (is_live && ctl->format == CTL_CSV) {
        (void)puts("name,step,value,time");
    }
    status_t status = ST_OK;
    int64_t drawn_ns = 0;
    while (!is_end && !ctl_is_interrupted() && (status == ST_OK || status == ST_ERR_TIMEOUT)) {
        ProtobufCMessage *message = NULL;
        status = ctl_feed_read(&feed, CTL_TICK_MS, &message);
        is_end = status == ST_OK && message == NULL;
        if (status == ST_OK && message != NULL) {
            batch_take(ctl, history, (const Gradd__V1__MetricBatch *)message, is_live, &request);
            ctl_message_free(message);
            is_changed = true;
        }
        bool is_due = is_changed && clock_now_ns() - drawn_ns > REDRAW_MS * CLOCK_NS_PER_MS;
        if (ctl->is_plot && ctl->is_follow && ctl->is_terminal && is_due) {
            (void)fputs("\033[H\033[2J", stdout);
            history_plot(ctl, history);
            drawn_ns = clock_now_ns();
            is_changed = false;
        }
    }
    ctl_feed_close(&feed);
    result = ctl_is_interrupted() ? CTL_INTERRUPTED : is_end ? CTL_OK : ctl_fail(ctl, status, feed.code);
    if (result == CTL_OK && ctl->is_plot) {
        (void)fputs(ctl->is_follow && ctl->is_terminal ? "\033[H\033[2J" : "", stdout);
        history_plot(ctl, history);
    } else if (result == CTL_OK && !is_live && ctl->format == CTL_TABLE) {
        history_tabulate(ctl, history);
    } else if (result == CTL_OK && !is_live) {
        history_render(ctl, history);
    }
    history_release(history);
    return result;
}
