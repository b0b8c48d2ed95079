/* config: damaged and hostile input ends in a message, quickly, and never in a crash (run it with SANITIZE=1). NP: 1 */
#include "near.h"

#include "unlearn/config.h"

static const char *const full =
    "task: unlearn\nseed: 42\noutput: {directory: outputs/x}\nmodel:\n  path: M\n  reference: N\n  init: pretrained\n"
    "data:\n  template: {question_start: \"Q\\n\", question_end: '', answer_start: \"\\u00e9\"}\n  max_length: 500\n"
    "  forget: {path: F, question: question, answer: answer, rows: all}\n  retain: {path: R, held_out: auto}\n"
    "  idk: {path: I, draw: random}\n"
    "parallel: {data: auto, tensor: auto, shard: none, threads: auto, tokens: auto, recompute: auto, logits: auto, "
    "risks: auto}\n"
    "objective: {name: npo, beta: 0.5, regularizer: [{name: kl, weight: 1.0, batch_size: auto}]}\n"
    "optimizer: {name: adamw, lr: 1.0e-5, betas: [0.9, 0.999], eps: 1.0e-8, weight_decay: 0.0, schedule: linear,\n"
    "  warmup_steps: auto, clip: 0}\n"
    "train: {epochs: 5, steps: null, batch_size: 4, accumulation: 4, shuffle: true, pair_retain: random, freeze: []}\n"
    "geffect:\n  every: 5\n  objectives: [npo, {name: wga, alpha: 0.5}]\n"
    "  risks: {unlearn: {data: forget}, retain: {data: retain, rows: 400, from: all, draw: spread}}\n"
    "  resolution: layer\n  normalisation: token_mean\n  estimator: full\n  fidelity: false\n"
    "evaluate: {every: 0, rows: 300, max_length: 200, metrics: all, sets: {forget: F, retain: F}, retain_logs: L}\n"
    "checkpoint: {every: 0, keep: 2, export: true}\nguard: {}\nprecision: float32\n";

/* A status and a message that belong together; what was read can be written. */
static enum status survive(const char *text, size_t n)
{
    struct config *c = NULL;
    struct text out = {0};
    fail_clear();
    enum status st = config_parse("in.yaml", text, n, 0, NULL, &c);
    if (st == OK) {
        assert_non_null(c);
        assert_int_equal(config_write(c, &out), OK);
    } else {
        assert_null(c);
        assert_int_equal(st, ERR_INPUT);
        if (strncmp(fail_message(), "in.yaml", 7) != 0) fail_msg("\"%s\" for:\n%s", fail_message(), text);
    }
    text_free(&out);
    config_free(c);
    return st;
}

static void the_full_example_of_the_design_is_read(void **state)
{
    if (survive(full, strlen(full)) != OK) fail_msg("%s", fail_message());
}

static void an_input_cut_at_any_byte_is_read_or_refused(void **state)
{
    size_t n = strlen(full), refused = 0;
    for (size_t i = 0; i < n; i++) {
        char *cut = malloc(i + 1); /* of this size, so that a sanitizer sees a byte too many */
        memcpy(cut, full, i);
        cut[i] = 0;
        refused += survive(cut, i) != OK;
        free(cut);
    }
    assert_true(refused > n / 4); /* until data.retain is complete */
}

static void an_input_with_any_byte_changed_is_read_or_refused(void **state)
{
    static const char other[] = {0, '\t', '\n', '"', '\'', '{', ']', ':', '&', '*', '!', '%', '9', '-', (char)0xff};
    size_t n = strlen(full);
    char *text = malloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        memcpy(text, full, n + 1);
        text[i] = other[i % sizeof other];
        survive(text, n);
    }
    free(text);
}

static void any_truncated_override_is_taken_or_refused(void **state)
{
    static const char *const whole[] = {"geffect.risks.retain={data: retain, rows: [1, \"x\\\"\"]}",
                                        "objective.regularizer.batch_size=auto",
                                        "data.template.name.deeper.still=!!str &a b"};
    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++)
        for (size_t i = 0; i <= strlen(whole[k]); i++) {
            char text[128];
            char *const override[] = {text};
            struct config *c = NULL;
            snprintf(text, sizeof text, "%.*s", (int)i, whole[k]);
            fail_clear();
            enum status st = config_parse("in.yaml", full, strlen(full), 1, override, &c);
            assert_true(st == OK || st == ERR_INPUT || st == ERR_USAGE);
            assert_true((st == OK) == (c != NULL));
            config_free(c);
        }
}

/* n times `piece`, after `before` */
static char *repeated(const char *before, const char *piece, size_t n)
{
    size_t a = strlen(before), b = strlen(piece);
    char *text = malloc(a + n * b + 1);
    memcpy(text, before, a);
    for (size_t i = 0; i < n; i++) memcpy(text + a + i * b, piece, b);
    text[a + n * b] = 0;
    return text;
}

static void assert_refused(char *text, const char *fragment)
{
    assert_int_equal(survive(text, strlen(text)), ERR_INPUT);
    if (!strstr(fail_message(), fragment)) fail_msg("%s", fail_message());
    free(text);
}

static void endless_nesting_is_refused_at_level_33(void **state)
{
    assert_refused(repeated("train: ", "[", 100000), "nested deeper than 32 levels");
    assert_refused(repeated("", "{a: ", 100000), "nested deeper than 32 levels");
    assert_refused(repeated("", "- ", 100000), "nested deeper than 32 levels");
    assert_refused(repeated("train: ", "[", 32), "nested deeper than 32 levels"); /* with the input itself: 33 */
    assert_refused(repeated("train: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "]", 31),
                   "model.path is missing"); /* 32 are read */
}

static void aliases_that_would_grow_without_end_are_refused(void **state)
{
    assert_refused(repeated("a: &a [x, x]\nb: &b [*a, *a]\n", "", 0), "anchors and aliases");
    assert_refused(repeated("train: &a [*a]\n", "", 0), "anchors and aliases");
}

static void too_much_of_anything_is_refused(void **state)
{
    assert_refused(repeated("", "#", CONFIG_MOST + 1), "at most 1048576");
    assert_refused(repeated("", "#", CONFIG_MOST), "empty");
    assert_refused(repeated("seed: ", "1", 400), "beyond what a double holds");
    assert_refused(repeated("seed: 1", "x", 200000), "...\"");
    assert_refused(repeated("", "x", 200000), "mapping of keys");
    assert_refused(repeated("train: [", "a,", 500000), "not readable");
    char *many = repeated("objective: {name: a, ", "", 0), key[64];
    size_t n = strlen(many);
    many = realloc(many, 64 * 2000);
    for (int i = 0; i < 1500; i++)
        n += (size_t)snprintf(key, sizeof key, "k%d: 1, ", i), strcpy(many + n - strlen(key), key);
    assert_refused(many, "more than 1000 keys");
}

static void messages_carry_no_control_characters(void **state)
{
    assert_refused(repeated("\"\\e[31mred\\n\": 1", "", 0), "unknown key \"\\x1b[31mred\\x0a\"");
    assert_refused(repeated("seed: \"\\e[31mred\"", "", 0), "\\x1b[31mred");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_full_example_of_the_design_is_read),
        cmocka_unit_test(an_input_cut_at_any_byte_is_read_or_refused),
        cmocka_unit_test(an_input_with_any_byte_changed_is_read_or_refused),
        cmocka_unit_test(any_truncated_override_is_taken_or_refused),
        cmocka_unit_test(endless_nesting_is_refused_at_level_33),
        cmocka_unit_test(aliases_that_would_grow_without_end_are_refused),
        cmocka_unit_test(too_much_of_anything_is_refused),
        cmocka_unit_test(messages_carry_no_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
