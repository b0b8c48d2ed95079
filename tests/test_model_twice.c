/* model: what config.json says twice. Expected is what transformers computes; tests/model_files.py compares with it. NP: 1 */
#include "model_files.h"

static const double TOL = 1e-15; /* relative: a power in double */

/* The heads of the small models have 4 entries, so that the second pair turns by theta^(-1/2). */
static void check(const char *changes, double theta, size_t warnings)
{
    const size_t before = log_warnings();
    struct shape *s = shape_with(changes);
    assert_non_null(s);
    assert_near(s->frequency[1], 1 / sqrt(theta), TOL);
    if (log_warnings() - before != warnings) fail_msg("%s: %zu warnings", changes, log_warnings() - before);
    shape_free(s);
}

static void an_empty_object_of_scaling_is_as_absent(void **state)
{
    check("{\"rope_theta\": null, \"rope_scaling\": {}, \"rope_parameters\": {\"rope_theta\": 16}}", 16, 0);
    check("{\"rope_theta\": null, \"rope_scaling\": null, \"rope_parameters\": {\"rope_theta\": 16}}", 16, 0);
    check("{\"rope_theta\": 16, \"rope_parameters\": {}}", 16, 0);
    check("{\"rope_theta\": 16, \"rope_scaling\": {}}", 16, 0);
    check("{\"rope_theta\": null, \"rope_scaling\": {\"rope_theta\": 16}, \"rope_parameters\": {}}", 16, 0);
}

static void of_two_that_differ_one_counts_and_a_warning_says_so(void **state)
{
    check("{\"rope_theta\": null, \"rope_scaling\": {\"rope_theta\": 16}, \"rope_parameters\": {\"rope_theta\": 100}}",
          16, 1);
    check("{\"rope_theta\": null, \"rope_scaling\": {\"rope_theta\": 16}, \"rope_parameters\": {\"rope_theta\": 16}}", 16,
          0);
    check("{\"rope_theta\": 100, \"rope_parameters\": {\"rope_theta\": 16}}", 16, 1);
    check("{\"rope_theta\": 16, \"rope_parameters\": {\"rope_theta\": 16.0}}", 16, 0);
    check("{\"rope_theta\": null, \"rope_parameters\": {\"type\": \"linear\", \"rope_type\": \"default\", \"factor\": 4, "
          "\"rope_theta\": 16}}",
          16, 1);
}

static void parameters_for_kinds_of_layers_count_where_a_family_has_kinds(void **state)
{
    check("{\"rope_theta\": 16, \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 100}}}", 16, 1);
    check("{\"rope_theta\": null, \"rope_parameters\": {\"rope_theta\": 16, \"full_attention\": {\"rope_theta\": 100}}}",
          16, 1);
    check("{\"model_type\": \"qwen2\", \"rope_theta\": null, \"rope_parameters\": {\"full_attention\": {\"rope_theta\": "
          "16}}}",
          16, 0);
}

/* llama3 divides the frequency 1/4 by 8 where it makes less than 1 turn over the original length, and keeps it from 4 on: 16
 * positions are 0.6 turns, 256 are 10. */
static void the_original_length_counts_where_a_family_has_it(void **state)
{
#define LLAMA3 \
    "\"rope_theta\": 16, \"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4"
#define ORIGINAL "\"original_max_position_embeddings\""
#define GEMMA3   "\"model_type\": \"gemma3_text\", \"head_dim\": 4, \"rope_theta\": null"
    check("{" ORIGINAL ": 16, \"rope_theta\": null, \"rope_parameters\": {" LLAMA3 ", " ORIGINAL ": 256}}", 1024, 1);
    check("{" GEMMA3 ", \"rope_parameters\": {\"full_attention\": {" LLAMA3 ", " ORIGINAL ": 16}}}", 1024, 0);
    check("{" GEMMA3 ", " ORIGINAL ": 16, \"rope_parameters\": {\"full_attention\": {" LLAMA3 ", " ORIGINAL ": 256}}}",
          16, 1);
    check("{" GEMMA3 ", " ORIGINAL ": 16, \"rope_scaling\": {" LLAMA3 ", " ORIGINAL ": 256}}", 16, 1);
    check("{" GEMMA3 ", " ORIGINAL
          ": 16, \"max_position_embeddings\": 256, \"rope_parameters\": {\"full_attention\": {" LLAMA3 "}}}",
          16, 1);
    check("{" GEMMA3 ", " ORIGINAL ": 16, \"max_position_embeddings\": 256}", 1e6, 0); /* nothing asks for it */
}

static void a_first_token_outside_the_vocabulary_is_none(void **state)
{
    static const char *const changes[] = {"{\"bos_token_id\": 37}", "{\"bos_token_id\": -1}", "{\"bos_token_id\": 99}"};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct shape *s = shape_with(changes[i]);
        assert_int_equal(s->bos, -1);
        shape_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_object_of_scaling_is_as_absent),
        cmocka_unit_test(of_two_that_differ_one_counts_and_a_warning_says_so),
        cmocka_unit_test(parameters_for_kinds_of_layers_count_where_a_family_has_kinds),
        cmocka_unit_test(the_original_length_counts_where_a_family_has_it),
        cmocka_unit_test(a_first_token_outside_the_vocabulary_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
