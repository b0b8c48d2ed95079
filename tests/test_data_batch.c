/* data: batches and passes of rows, and which of their tokens are outputs, by hand.                               NP: 1 */
#include "near.h"
#include "unlearn/data.h"

enum { X = LABEL_NONE };

static void passes_keep_the_order_and_hold_one_row_at_least(void **state)
{
    /* lengths 3, 5, 2, 4 */
    const struct dataset d = {.n_row = 4, .first = (size_t[]){0, 3, 8, 10, 14}};
    const size_t row[] = {0, 1, 2, 3, 1}; /* 3 5 2 4 5 */
    size_t first[6];
    assert_int_equal(batch_cut(&d, 5, row, 8, first), 3);
    assert_memory_equal(first, ((const size_t[]){0, 2, 4, 5}), 4 * sizeof *first);
    assert_int_equal(batch_cut(&d, 5, row, 100, first), 1);
    assert_int_equal(first[1], 5);
    assert_int_equal(batch_cut(&d, 5, row, 4, first), 5);
    assert_int_equal(batch_cut(&d, 5, row, 0, first), 5);
    assert_memory_equal(first, ((const size_t[]){0, 1, 2, 3, 4, 5}), 6 * sizeof *first);
    assert_int_equal(batch_cut(&d, 0, row, 4, first), 0);
    assert_int_equal(first[0], 0);
}

static int32_t batch_id[] = {1, 2, 3, 4, 5, 6, 7}, batch_label[] = {X, X, 3, 4, 5, X, 7};
static struct dataset three = {.n_row = 3, .first = (size_t[]){0, 4, 5, 7}, .id = batch_id, .label = batch_label};

/* Measures, then packs: both times by the same code. */
static struct batch pack(size_t n, const size_t *row, enum outputs which, struct arena *a)
{
    struct batch b, measured;
    arena_measure(a);
    batch_pack(&three, n, row, which, a, &measured);
    assert_int_equal(arena_new(a->used, a), OK);
    batch_pack(&three, n, row, which, a, &b);
    assert_int_equal(a->used, a->size);
    assert_int_equal(measured.n_row, b.n_row);
    assert_int_equal(measured.n_out, b.n_out);
    assert_int_equal(measured.longest, b.longest);
    return b;
}
#define SAME(got, type, ...) assert_memory_equal(got, ((const type[]){__VA_ARGS__}), sizeof((const type[]){__VA_ARGS__}))

static void outputs_may_be_the_labelled_rows_or_those_with_a_next_token(void **state)
{
    struct arena a;
    struct batch b = pack(3, (const size_t[]){0, 1, 2}, OUTPUTS_OF_LABELS, &a);
    SAME(b.out_first, size_t, 0, 2, 2, 3); /* the row of one token has nothing that is predicted */
    SAME(b.out_row, size_t, 2, 3, 6);
    SAME(b.out_id, int32_t, 4, -1, -1);
    arena_free(&a);
    b = pack(3, (const size_t[]){0, 1, 2}, OUTPUTS_NEXT, &a);
    SAME(b.out_first, size_t, 0, 3, 3, 4);
    SAME(b.out_row, size_t, 0, 1, 2, 5);
    SAME(b.out_id, int32_t, -1, 3, 4, 7);
    arena_free(&a);
    assert_int_equal(dataset_outputs(&three, 0, OUTPUTS_LABELLED), 2);
    assert_int_equal(dataset_outputs(&three, 1, OUTPUTS_LABELLED), 0);
    assert_int_equal(dataset_outputs(&three, 1, OUTPUTS_ALL), 1);
}

static void a_row_without_a_label_that_is_predicted_has_no_outputs_where_labels_decide(void **state)
{
    struct arena a;
    struct batch b = pack(3, (const size_t[]){0, 1, 2}, OUTPUTS_WHOLE, &a);
    SAME(b.out_first, size_t, 0, 4, 4, 6);
    SAME(b.out_row, size_t, 0, 1, 2, 3, 5, 6);
    arena_free(&a);
    static int32_t id[] = {1, 2, 3}, label[] = {LABEL_NONE, LABEL_NONE, LABEL_NONE};
    const struct dataset cut = {.n_row = 1, .first = (size_t[]){0, 3}, .id = id, .label = label};
    assert_int_equal(dataset_outputs(&cut, 0, OUTPUTS_NEXT), 0);
    assert_int_equal(dataset_outputs(&cut, 0, OUTPUTS_WHOLE), 0);
    assert_int_equal(dataset_outputs(&cut, 0, OUTPUTS_ALL), 3);
    const struct dataset one = {.n_row = 1, .first = (size_t[]){0, 1}, .id = id, .label = (int32_t[]){1}};
    assert_int_equal(dataset_outputs(&one, 0, OUTPUTS_OF_LABELS), 0); /* nothing stands before its only token */
}

static void outputs_are_the_rows_before_labelled_tokens(void **state)
{
    struct arena a;
    struct batch b = pack(3, (const size_t[]){2, 0, 1}, OUTPUTS_LABELLED, &a);
    assert_int_equal(b.n_seq, 3);
    assert_int_equal(b.n_row, 7);
    assert_int_equal(b.n_out, 3);
    assert_int_equal(b.longest, 4);
    SAME(b.first, size_t, 0, 2, 6, 7);
    SAME(b.id, int32_t, 6, 7, 1, 2, 3, 4, 5);
    SAME(b.position, int32_t, 0, 1, 0, 1, 2, 3, 0);
    SAME(b.out_first, size_t, 0, 1, 3, 3); /* a label on the first token of a row is never predicted */
    SAME(b.out_row, size_t, 0, 3, 4);
    SAME(b.out_id, int32_t, 7, 3, 4);
    SAME(b.item, size_t, 0, 1, 2);
    arena_free(&a);
}

static void the_token_to_hide_is_marked_in_every_row(void **state)
{
    struct arena a;
    struct batch b;
    three.hide = 3 + 1;
    b = pack(2, (const size_t[]){2, 0}, OUTPUTS_LABELLED, &a);
    SAME(b.id, int32_t, 6, 7, 1, 2, 3, 4);
    SAME(b.hidden, unsigned char, 0, 0, 0, 0, 1, 0);
    arena_free(&a);
    three.hide = 0;
    b = pack(2, (const size_t[]){2, 0}, OUTPUTS_LABELLED, &a);
    assert_null(b.hidden);
    arena_free(&a);
}

static void all_rows_are_outputs_when_all_are_asked_for(void **state)
{
    struct arena a;
    struct batch b = pack(2, (const size_t[]){0, 1}, OUTPUTS_ALL, &a);
    assert_int_equal(b.n_row, 5);
    assert_int_equal(b.n_out, 5);
    SAME(b.out_first, size_t, 0, 4, 5);
    SAME(b.out_row, size_t, 0, 1, 2, 3, 4);
    SAME(b.out_id, int32_t, -1, 3, 4, -1, -1);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_keep_the_order_and_hold_one_row_at_least),
        cmocka_unit_test(outputs_may_be_the_labelled_rows_or_those_with_a_next_token),
        cmocka_unit_test(a_row_without_a_label_that_is_predicted_has_no_outputs_where_labels_decide),
        cmocka_unit_test(outputs_are_the_rows_before_labelled_tokens),
        cmocka_unit_test(the_token_to_hide_is_marked_in_every_row),
        cmocka_unit_test(all_rows_are_outputs_when_all_are_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
