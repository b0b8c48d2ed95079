/* shape: whether two models are the same, member by member.                                                 NP: 1 */
#include "model_files.h"

static void shapes_are_equal_when_the_tensors_are(void **state)
{
    struct shape *a = shape_with("{}"), *b = shape_with("{\"rope_theta\": 77, \"eos_token_id\": 4}");
    struct shape *c = shape_with("{\"tie_word_embeddings\": true}"), *d = shape_with("{\"intermediate_size\": 18}");
    assert_true(shape_equal(a, b));
    assert_false(shape_equal(a, c));
    assert_false(shape_equal(a, d));
    shape_free(a), shape_free(b), shape_free(c), shape_free(d);
}

/* A copy of s with other bytes in one member; what a pointer leads to is the same. */
static struct shape other_bytes(const struct shape *s, size_t offset)
{
    struct shape other = *s;
    ((unsigned char *)&other)[offset] ^= 1;
    return other;
}

/* Where they must agree, they differ from that level on and not before; where they may differ, never. */
static void check_member(const struct shape *a, const struct shape *b, enum shape_agree agree, const char *name,
                         const char *text)
{
    for (enum shape_agree as_far = SHAPE_TENSORS; as_far < SHAPE_FREE; as_far++) {
        const char *differs = shape_differs(a, b, as_far);
        if (as_far < agree ? differs != NULL : !differs || strcmp(differs, text) != 0)
            fail_msg("%s: as far as %d: %s", name, as_far, differs ? differs : "the same");
    }
    assert_int_equal(shape_equal(a, b), agree != SHAPE_TENSORS);
}

/* Every member in turn, by the list that the struct itself is made of; pointers by what they lead to. */
static void models_that_differ_in_any_member_are_told_apart(void **state)
{
    struct shape *s = shape_with("{}");
    for (enum shape_agree as_far = SHAPE_TENSORS; as_far <= SHAPE_FREE; as_far++)
        assert_null(shape_differs(s, s, as_far));
#define X(agree, type, name, dimension, same, text)                                                                     \
    do {                                                                                                                \
        struct shape other = other_bytes(s, offsetof(struct shape, name));                                              \
        double frequency[] = {1, 0.02};                                                                                 \
        bool slides[] = {true, false};                                                                                  \
        if (offsetof(struct shape, name) == offsetof(struct shape, frequency)) other = *s, other.frequency = frequency; \
        if (offsetof(struct shape, name) == offsetof(struct shape, other_frequency))                                    \
            other = *s, other.other_frequency = frequency;                                                              \
        if (offsetof(struct shape, name) == offsetof(struct shape, slides)) other = *s, other.slides = slides;          \
        if (offsetof(struct shape, name) == offsetof(struct shape, row))                                                \
            other = *s, other.row = architecture_find("olmo2");                                                         \
        if (offsetof(struct shape, name) == offsetof(struct shape, positions))                                          \
            s->learned_positions = other.learned_positions = true;                                                      \
        check_member(&other, s, SHAPE_##agree, #name, text);                                                            \
        check_member(s, &other, SHAPE_##agree, #name, text);                                                            \
        s->learned_positions = false;                                                                                   \
    } while (0);
    SHAPE_MEMBERS(X)
#undef X
    shape_free(s);
}

/* What config.json may say of a model whose tensors are the same. */
static void what_a_key_of_config_json_changes_is_told_by_its_name(void **state)
{
    static const char yarn[] = "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0%s}}";
    static const struct {
        const char *a, *b, *differs;
        enum shape_agree agree;
    } cases[] = {
        {"", ", \"attention_factor\": 1.5", "the attention factor of its rope_scaling", SHAPE_FUNCTION},
        {"", ", \"mscale\": 0.5, \"mscale_all_dim\": 1.0", "the attention factor of its rope_scaling", SHAPE_FUNCTION},
        {", \"mscale\": 1.0, \"mscale_all_dim\": 0.9", ", \"mscale\": 1.0, \"mscale_all_dim\": 0.8",
         "the attention factor of its rope_scaling", SHAPE_FUNCTION},
        {"", ", \"beta_fast\": 2.0, \"original_max_position_embeddings\": 2000",
         "its rotary frequencies (rope_theta, rope_scaling)", SHAPE_FUNCTION},
        {"{}", "{\"pad_token_id\": 3}", "pad_token_id", SHAPE_GRADIENT},
        {"{\"pad_token_id\": 4}", "{\"pad_token_id\": -1}", "pad_token_id", SHAPE_GRADIENT},
        {"{}", "{\"rms_norm_eps\": 1e-5}", "the epsilon of its norms", SHAPE_FUNCTION},
        {"{}", "{\"hidden_act\": \"gelu\"}", "its activation function", SHAPE_FUNCTION},
        {"{\"model_type\": \"mistral\"}", "{\"model_type\": \"mistral\", \"sliding_window\": null}", "sliding_window",
         SHAPE_FUNCTION},
        {"{\"model_type\": \"gemma\"}", "{\"head_dim\": 256, \"tie_word_embeddings\": true}", "the kind of its norms",
         SHAPE_FUNCTION},
        {"{}", "{\"tie_word_embeddings\": true}", "tie_word_embeddings", SHAPE_TENSORS},
        {"{\"sliding_window\": null}", "{\"model_type\": \"mistral\", \"sliding_window\": null, \"eos_token_id\": 5}",
         NULL, SHAPE_FREE},
        {"{}", "{\"max_position_embeddings\": 4, \"bos_token_id\": null, \"use_cache\": false}", NULL, SHAPE_FREE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *side[] = {cases[i].a, cases[i].b};
        struct shape *s[2];
        for (int k = 0; k < 2; k++) {
            struct text t = {0};
            if (*side[k] == '{')
                text_print(&t, "%s", side[k]);
            else
                text_print(&t, yarn, side[k]);
            assert_non_null(s[k] = shape_with(t.data));
            text_free(&t);
        }
        check_member(s[0], s[1], cases[i].agree, side[1], cases[i].differs);
        assert_int_equal(shape_hash(s[0]) != shape_hash(s[1]), cases[i].differs != NULL);
        shape_free(s[0]), shape_free(s[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_equal_when_the_tensors_are),
        cmocka_unit_test(models_that_differ_in_any_member_are_told_apart),
        cmocka_unit_test(what_a_key_of_config_json_changes_is_told_by_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
