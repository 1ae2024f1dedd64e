/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank tells is numbered, kept until it is acknowledged, and said again after a lost connection. */
#include <stdio.h>
#include <string.h>

#include "tests/support/fixture.h"
#include "worker/outbox.h"
#include "worker/text.h"

static void point_put(wrk_outbox_t *outbox, int64_t step)
{
    wrk_point_t point = {"loss", step, (double)step / 2, step * 10};
    (void)wrk_outbox_points(outbox, &point, 1);
}

static void messages_are_numbered_from_one(void **state)
{
    (void)state;
    wrk_outbox_t *outbox = NULL;
    assert_ok(wrk_outbox_open(&outbox));
    point_put(outbox, 1);

    const Gradd__V1__Telemetry *first = wrk_outbox_next(outbox);
    assert_non_null(first);
    assert_int_equal(first->sequence, 1);
    assert_int_equal(first->n_points, 1);
    assert_string_equal(first->points[0]->name, "loss");
    assert_int_equal(first->points[0]->step, 1);
    assert_true(first->points[0]->value == 0.5);
    assert_int_equal(first->points[0]->unix_ns, 10);
    assert_null(wrk_outbox_next(outbox));
    point_put(outbox, 2);
    const Gradd__V1__Telemetry *second = wrk_outbox_next(outbox);
    assert_non_null(second);
    assert_int_equal(second->sequence, 2);

    wrk_outbox_close(outbox);
}

static void what_is_not_acknowledged_goes_out_again_under_its_number(void **state)
{
    (void)state;
    wrk_outbox_t *outbox = NULL;
    assert_ok(wrk_outbox_open(&outbox));
    for (int64_t step = 1; step <= 3; step++) {
        point_put(outbox, step);
        assert_non_null(wrk_outbox_next(outbox));
    }
    (void)wrk_outbox_note(outbox, "a note");
    assert_non_null(wrk_outbox_next(outbox));
    wrk_outbox_acknowledge(outbox, 1);
    point_put(outbox, 5);

    wrk_outbox_rewind(outbox);

    for (int64_t sequence = 2; sequence <= 3; sequence++) {
        const Gradd__V1__Telemetry *again = wrk_outbox_next(outbox);
        assert_int_equal(again->sequence, sequence);
        assert_int_equal(again->n_points, 1);
        assert_int_equal(again->points[0]->step, sequence);
    }
    const Gradd__V1__Telemetry *note = wrk_outbox_next(outbox);
    assert_int_equal(note->sequence, 4);
    assert_string_equal(note->note, "a note");
    const Gradd__V1__Telemetry *newest = wrk_outbox_next(outbox);
    assert_int_equal(newest->sequence, 5);
    assert_int_equal(newest->points[0]->step, 5);
    assert_false(wrk_outbox_is_drained(outbox));
    wrk_outbox_acknowledge(outbox, 5);
    assert_true(wrk_outbox_is_drained(outbox));

    wrk_outbox_close(outbox);
}

static void without_acknowledgements_points_wait_and_lose_only_the_oldest(void **state)
{
    (void)state;
    wrk_outbox_t *outbox = NULL;
    assert_ok(wrk_outbox_open(&outbox));
    int n_messages = 0;
    for (int64_t step = 1; step <= WRK_OUTBOX_IN_FLIGHT + 10; step++) {
        point_put(outbox, step);
        n_messages += wrk_outbox_next(outbox) != NULL;
    }
    assert_int_equal(n_messages, WRK_OUTBOX_IN_FLIGHT);
    for (int64_t step = WRK_OUTBOX_IN_FLIGHT + 11; step <= WRK_OUTBOX_POINTS + 100; step++) {
        point_put(outbox, step);
    }
    assert_int_equal(wrk_outbox_n_dropped(outbox), 100);

    int64_t expected = 101;
    wrk_outbox_acknowledge(outbox, WRK_OUTBOX_IN_FLIGHT);
    /* the numbered messages' points were the oldest */
    const Gradd__V1__Telemetry *message = NULL;
    while ((message = wrk_outbox_next(outbox)) != NULL) {
        assert_true(message->n_points <= WRK_OUTBOX_MESSAGE_POINTS);
        for (size_t i = 0; i < message->n_points; i++) {
            assert_int_equal(message->points[i]->step, expected);
            expected++;
        }
        wrk_outbox_acknowledge(outbox, message->sequence);
    }

    assert_int_equal(expected, WRK_OUTBOX_POINTS + 101);
    assert_true(wrk_outbox_is_drained(outbox));
    wrk_outbox_close(outbox);
}

static void the_newest_step_phase_and_checkpoints_are_in_each_message(void **state)
{
    (void)state;
    wrk_outbox_t *outbox = NULL;
    wrk_checkpoint_t list[2] = {{.step = 100, .size_bytes = 5, .unix_ns = 7}, {.step = 200}};
    (void)snprintf(list[0].parameters_sha256, sizeof(list[0].parameters_sha256), "abc");
    assert_ok(wrk_outbox_open(&outbox));

    assert_true(wrk_outbox_progress(outbox, 0, 300, "starting"));
    assert_true(wrk_outbox_progress(outbox, 1, 300, "training"));
    assert_false(wrk_outbox_progress(outbox, 2, 300, "training"));
    assert_true(wrk_outbox_checkpoints(outbox, list, 2, "/jobs/1"));
    assert_true(wrk_outbox_fingerprint(outbox, "cpu"));

    const Gradd__V1__Telemetry *message = wrk_outbox_next(outbox);
    assert_int_equal(message->step, 2);
    assert_int_equal(message->steps_total, 300);
    assert_string_equal(message->phase, "training");
    assert_string_equal(message->fingerprint, "cpu");
    assert_int_equal(message->n_checkpoints, 2);
    assert_int_equal(message->checkpoints[0]->step, 100);
    assert_string_equal(message->checkpoints[0]->path, "/jobs/1/checkpoints/step-00000100");
    assert_string_equal(message->checkpoints[0]->parameters_sha256, "abc");
    assert_int_equal(message->checkpoints[0]->size_bytes, 5);
    assert_null(wrk_outbox_next(outbox));
    wrk_outbox_touch(outbox);
    assert_non_null(wrk_outbox_next(outbox));
    wrk_outbox_close(outbox);
}

static void the_first_step_of_a_resumed_job_is_sent_at_once(void **state)
{
    (void)state;
    wrk_outbox_t *outbox = NULL;
    assert_ok(wrk_outbox_open(&outbox));

    assert_true(wrk_outbox_progress(outbox, 0, 300, "starting"));
    assert_false(wrk_outbox_progress(outbox, 250, 300, "starting"));
    assert_true(wrk_outbox_progress(outbox, 251, 300, "training"));
    assert_false(wrk_outbox_progress(outbox, 252, 300, "training"));

    wrk_outbox_close(outbox);
}

static void bytes_that_are_no_utf8_become_replacement_characters(void **state)
{
    (void)state;
    static const char BYTES[] = "a\xFFz\xC3\xA9\xED\xA0\x80\xE2\x82";
    strbuf_t text = {0};

    wrk_text_append(&text, BYTES, sizeof(BYTES)); /* with the NUL */

    assert_string_equal(strbuf_text(&text), "a\xEF\xBF\xBDz\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                                            "\xEF\xBF\xBD\xEF\xBF\xBD");
    strbuf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(messages_are_numbered_from_one),
        TEST(what_is_not_acknowledged_goes_out_again_under_its_number),
        TEST(without_acknowledgements_points_wait_and_lose_only_the_oldest),
        TEST(the_newest_step_phase_and_checkpoints_are_in_each_message),
        TEST(the_first_step_of_a_resumed_job_is_sent_at_once),
        TEST(bytes_that_are_no_utf8_become_replacement_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
