/* plan: which rows an update uses, and which steps are measured.                                                 NP: 1 */
#include "near.h"
#include "unlearn/plan.h"

static struct config usual(void)
{
    struct config c = {.task = TASK_UNLEARN, .seed = 42};
    c.train.epochs = 5, c.train.steps = CONFIG_NULL;
    c.train.batch_size = 4, c.train.accumulation = 4, c.train.shuffle = true;
    c.optimizer.warmup_steps = CONFIG_AUTO;
    c.geffect.every = 5;
    return c;
}

static struct timetable make(const struct config *c, size_t rows)
{
    struct timetable s;
    assert_int_equal(timetable_new(c, rows, &s), OK);
    return s;
}

/* PAPER.md 3.1: 40, 200, 400 rows give 12, 62, 125 updates and warm-ups of 2, 12, 25. */
static void updates_are_the_whole_batches_of_all_epochs(void **state)
{
    const size_t rows[] = {40, 200, 400}, updates[] = {12, 62, 125}, warmup[] = {2, 12, 25};
    struct config c = usual();
    for (int i = 0; i < 3; i++) {
        struct timetable s = make(&c, rows[i]);
        assert_int_equal(s.updates, updates[i]);
        assert_int_equal(s.warmup, warmup[i]);
        assert_int_equal(s.batch, 16);
        timetable_free(&s);
    }
}

static void parts_of_epochs_count(void **state)
{
    const double epochs[] = {0.39, 0.4, 0.79, 0.8, 1.2, 0.1 + 0.7};
    const size_t updates[] = {0, 1, 1, 2, 3, 2};
    struct config c = usual();
    for (int i = 0; i < 6; i++) {
        c.train.epochs = epochs[i];
        struct timetable s = make(&c, 40);
        assert_int_equal(s.updates, updates[i]);
        timetable_free(&s);
    }
}

static void steps_beat_epochs_and_a_warm_up_may_be_given(void **state)
{
    struct config c = usual();
    c.train.steps = 3, c.optimizer.warmup_steps = 7;
    struct timetable s = make(&c, 40);
    assert_int_equal(s.updates, 3);
    assert_int_equal(s.warmup, 7);
    timetable_free(&s);
}

static void fewer_rows_than_a_batch_are_one_batch_each_epoch(void **state)
{
    struct config c = usual();
    size_t row[16], seen = 0;
    struct timetable s = make(&c, 5);
    assert_int_equal(s.batch, 5);
    assert_int_equal(s.updates, 5);
    assert_int_equal(s.warmup, 1);
    timetable_rows(&s, 4, row);
    for (int i = 0; i < 5; i++) seen |= (size_t)1 << row[i];
    assert_int_equal(seen, 31);
    timetable_free(&s);
}

static void one_row_trains_alone(void **state)
{
    struct config c = usual();
    size_t row[16] = {9};
    struct timetable s = make(&c, 1);
    assert_int_equal(s.batch, 1);
    assert_int_equal(s.updates, 5);
    timetable_rows(&s, 3, row);
    assert_int_equal(row[0], 0);
    timetable_free(&s);
}

/* 40 rows, 16 a batch: batches run over the ends of epochs, and the rest of the last one is dropped. */
static void epochs_are_permutations_laid_end_to_end(void **state)
{
    struct config c = usual();
    struct timetable s = make(&c, 40);
    size_t all[12 * 16], order[40], differ = 0;
    for (size_t t = 0; t < 12; t++) timetable_rows(&s, t, all + 16 * t);
    for (size_t epoch = 0; epoch < 4; epoch++) {
        int seen[40] = {0};
        for (size_t i = 0; i < 40; i++) seen[all[40 * epoch + i]]++;
        for (size_t i = 0; i < 40; i++) assert_int_equal(seen[i], 1);
        random_permutation(42, STREAM_ORDER, epoch, 40, order);
        assert_memory_equal(order, all + 40 * epoch, sizeof order);
        for (size_t i = 0; i < 40 && epoch; i++) differ += all[i] != all[40 * epoch + i];
    }
    assert_true(differ > 80);
    timetable_free(&s);
}

static void a_batch_is_the_same_whichever_came_before(void **state)
{
    struct config c = usual();
    struct timetable s = make(&c, 40), other = make(&c, 40);
    size_t ahead[16], again[16];
    for (size_t t = 0; t < 7; t++) timetable_rows(&s, t, ahead);
    timetable_rows(&other, 11, again);
    timetable_rows(&other, 6, again);
    assert_memory_equal(ahead, again, sizeof again);
    timetable_free(&s), timetable_free(&other);
}

static void another_seed_gives_another_order(void **state)
{
    struct config c = usual();
    size_t one[16], two[16];
    struct timetable s = make(&c, 40);
    c.seed = 43;
    struct timetable other = make(&c, 40);
    timetable_rows(&s, 0, one), timetable_rows(&other, 0, two);
    assert_memory_not_equal(one, two, sizeof one);
    timetable_free(&s), timetable_free(&other);
}

static void without_shuffle_rows_come_in_file_order_and_wrap(void **state)
{
    struct config c = usual();
    size_t row[16];
    c.train.shuffle = false;
    struct timetable s = make(&c, 40);
    for (size_t t = 0; t < 12; t++) {
        timetable_rows(&s, t, row);
        for (size_t i = 0; i < 16; i++) assert_int_equal(row[i], (t * 16 + i) % 40);
    }
    timetable_free(&s);
}

static void retain_rows_in_order_wrap_and_spare_the_held_out(void **state)
{
    struct config c = usual();
    size_t row[4];
    c.train.pair_retain = DRAW_IN_ORDER;
    for (size_t t = 0; t < 6; t++) {
        timetable_retain(&c, t, 3, 10, 4, row);
        for (size_t i = 0; i < 4; i++) assert_int_equal(row[i], 3 + (4 * t + i) % 7);
    }
}

static void retain_rows_drawn_at_random_reach_all_but_the_held_out(void **state)
{
    struct config c = usual();
    size_t row[64], again[64], seen = 0;
    c.train.pair_retain = DRAW_RANDOM;
    timetable_retain(&c, 1, 3, 10, 64, row);
    for (size_t i = 0; i < 64; i++) {
        assert_in_range(row[i], 3, 9);
        seen |= (size_t)1 << row[i];
    }
    assert_int_equal(seen, 0x3f8);
    timetable_retain(&c, 1, 3, 10, 64, again);
    assert_memory_equal(row, again, sizeof row);
    timetable_retain(&c, 2, 3, 10, 64, again);
    assert_memory_not_equal(row, again, sizeof row);
}

/* DESIGN.md: T = 12, every 5: 0, 5, 10, 12 */
static void measured_are_every_nth_step_and_the_last(void **state)
{
    struct config c = usual();
    struct timetable s = make(&c, 40);
    size_t seen = 0;
    for (size_t t = 0; t <= 12; t++) seen |= (size_t)timetable_measured(&c, &s, t) << t;
    assert_int_equal(seen, 1 << 0 | 1 << 5 | 1 << 10 | 1 << 12);
    c.geffect.every = 0;
    for (size_t t = 0; t <= 12; t++) assert_false(timetable_measured(&c, &s, t));
    timetable_free(&s);
}

static void how_often_is_what_counting_gives(void **state)
{
    struct config c = usual();
    for (size_t steps = 0; steps < 14; steps++)
        for (size_t every = 0; every < 16; every++) {
            size_t measured = 0, evaluated = 0;
            c.train.steps = steps, c.geffect.every = c.evaluate.every = every;
            struct timetable s = make(&c, 40);
            for (size_t t = 0; t <= steps; t++) measured += timetable_measured(&c, &s, t);
            for (size_t t = 0; t < steps; t++) evaluated += timetable_evaluated(&c, t);
            assert_int_equal(timetable_measurements(&c, &s), measured);
            assert_int_equal(timetable_evaluations(&c, &s), evaluated);
            timetable_free(&s);
        }
}

static void a_model_is_measured_as_it_is_without_updates(void **state)
{
    struct config c = usual();
    c.task = TASK_GEFFECT, c.geffect.every = 0;
    struct timetable s = make(&c, 40);
    assert_int_equal(s.updates, 0);
    assert_true(timetable_measured(&c, &s, 0));
    timetable_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_are_the_whole_batches_of_all_epochs),
        cmocka_unit_test(parts_of_epochs_count),
        cmocka_unit_test(steps_beat_epochs_and_a_warm_up_may_be_given),
        cmocka_unit_test(fewer_rows_than_a_batch_are_one_batch_each_epoch),
        cmocka_unit_test(one_row_trains_alone),
        cmocka_unit_test(epochs_are_permutations_laid_end_to_end),
        cmocka_unit_test(a_batch_is_the_same_whichever_came_before),
        cmocka_unit_test(another_seed_gives_another_order),
        cmocka_unit_test(without_shuffle_rows_come_in_file_order_and_wrap),
        cmocka_unit_test(retain_rows_in_order_wrap_and_spare_the_held_out),
        cmocka_unit_test(retain_rows_drawn_at_random_reach_all_but_the_held_out),
        cmocka_unit_test(measured_are_every_nth_step_and_the_last),
        cmocka_unit_test(how_often_is_what_counting_gives),
        cmocka_unit_test(a_model_is_measured_as_it_is_without_updates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
