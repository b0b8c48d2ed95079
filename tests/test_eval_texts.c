/* eval: texts as Hugging Face's tools tidy and Python strips them.                                              NP: 1 */
#include "near.h"
#include "unlearn/eval.h"

static void changed(void change(struct text *t), const char *from, size_t n, const char *to, size_t m)
{
    struct text t = {0};
    assert_int_equal(text_add(&t, from, n), OK);
    change(&t);
    if (t.n != m || memcmp(t.data, to, m) || t.data[t.n]) fail_msg("\"%s\" became \"%s\"", from, t.data);
    text_free(&t);
}
#define CHANGED(how, from, to) changed(how, from, sizeof(from) - 1, to, sizeof(to) - 1)

static void nothing(struct text *t) {}

/* What transformers' clean_up_tokenization() makes of the same texts. */
static void spaces_before_marks_and_contractions_go(void **state)
{
    CHANGED(text_tidy, "a , b . c ? d ! e", "a, b. c? d! e");
    CHANGED(text_tidy, "do n't I 'm he 's we 've they 're", "don't I'm he's we've they're");
    CHANGED(text_tidy, "the ' quoted ' word", "the'quoted'word");
    CHANGED(text_tidy, "a  .  b . . .", "a .  b...");
    CHANGED(text_tidy, " . ' s", ".'s"); /* one replacement makes room for no other: they go in one order */
    CHANGED(text_tidy, "a ' 's", "a''s");
    CHANGED(text_tidy, "nothing here", "nothing here");
    CHANGED(text_tidy, "\xc3\xa9 ,\0 .", "\xc3\xa9,\0.");
    CHANGED(nothing, "", "");
    CHANGED(text_tidy, " .", ".");
}

static void white_space_at_the_ends_goes(void **state)
{
    CHANGED(text_trim, " \t\n a b \r\v\f", "a b");
    CHANGED(text_trim, "\xc2\xa0\xe2\x80\x83x\xe3\x80\x80\xc2\x85", "x");
    CHANGED(text_trim, "\xe2\x80\x8bx\xe2\x80\x8b", "\xe2\x80\x8bx\xe2\x80\x8b"); /* of no width: no space to Python */
    CHANGED(text_trim, " \n\x1f ", "");
    CHANGED(text_trim, "x", "x");
    struct text none = {0};
    text_trim(&none), text_tidy(&none);
    assert_int_equal(none.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spaces_before_marks_and_contractions_go),
        cmocka_unit_test(white_space_at_the_ends_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
