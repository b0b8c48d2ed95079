/* model: config.json.                                                                                     NP: 1 */
#include "model_files.h"

static const double TOL = 1e-15; /* relative: a power, a product or two in double */

static void expect_refused(const char *changes, const char *fragment)
{
    char *text = config_text(small_llama, changes);
    struct shape *s;
    enum status st = shape_parse("config.json", text, strlen(text), &s);
    if (st != ERR_INPUT || !strstr(fail_message(), fragment) || strncmp(fail_message(), "config.json: ", 13) != 0)
        fail_msg("%s: %s", changes, st == OK ? "accepted" : fail_message());
    assert_null(s);
    fail_clear();
    free(text);
}

static void sizes_are_read_and_defaults_filled_in(void **state)
{
    struct shape *s = shape_with("{}");
    assert_non_null(s);
    assert_string_equal(s->model_type, "llama");
    assert_int_equal(s->vocabulary, 37);
    assert_int_equal(s->hidden, 24);
    assert_int_equal(s->intermediate, 17);
    assert_int_equal(s->blocks, 2);
    assert_int_equal(s->heads, 6);
    assert_int_equal(s->kv_heads, 3);
    assert_int_equal(s->head_dim, 4);
    assert_int_equal(s->positions, 64);
    assert_int_equal(s->norm, NORM_RMS);
    assert_near(s->norm_eps, 1e-6, 0);
    assert_int_equal(s->activation, ACT_SILU);
    assert_true(s->gated);
    assert_false(s->tied || s->qkv_bias || s->out_bias || s->mlp_bias || s->head_bias || s->norm_bias);
    assert_false(s->parallel_residual || s->one_norm);
    assert_int_equal(s->window, 0);
    assert_int_equal(s->bos, 1);
    assert_int_equal(s->n_eos, 1);
    assert_int_equal(s->eos[0], 2);
    assert_int_equal(s->rotary_dim, 4);
    assert_near(s->frequency[0], 1, 0);
    assert_near(s->frequency[1], 0.01, TOL);
    shape_free(s);
}

static void heads_follow_from_what_is_given(void **state)
{
    struct shape *s = shape_with("{\"head_dim\": 10, \"num_key_value_heads\": null}");
    assert_int_equal(s->head_dim, 10);
    assert_int_equal(s->kv_heads, 6);
    shape_free(s);
    s = shape_with("{\"head_dim\": null, \"hidden_act\": \"gelu_new\", \"attention_bias\": true, \"mlp_bias\": true}");
    assert_int_equal(s->head_dim, 4);
    assert_int_equal(s->activation, ACT_GELU_TANH);
    assert_true(s->qkv_bias && s->out_bias && s->mlp_bias);
    shape_free(s);
}

static void end_tokens_may_be_one_many_or_none(void **state)
{
    struct shape *s = shape_with("{\"eos_token_id\": [36, 0, 5], \"bos_token_id\": null}");
    assert_int_equal(s->n_eos, 3);
    assert_int_equal(s->eos[0], 36);
    assert_int_equal(s->eos[2], 5);
    assert_int_equal(s->bos, -1);
    shape_free(s);
    s = shape_with("{\"eos_token_id\": null}");
    assert_int_equal(s->n_eos, 0);
    shape_free(s);
}

/* gpt2 alone has dropout unless its config.json says 0 of all three. */
static void dropout_is_that_of_config_json_or_the_familys(void **state)
{
    static const struct {
        const char *changes;
        double rate;
    } cases[] = {
        {"{}", 0},
        {"{\"attention_dropout\": 0.25}", 0.25},
        {"{\"model_type\": \"phi\"}", 0},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_layer\": 1, \"n_head\": 2}", 0.1},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_layer\": 1, \"n_head\": 2, \"attn_pdrop\": 0, \"embd_pdrop\": "
         "0}",
         0.1},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_layer\": 1, \"n_head\": 2, \"attn_pdrop\": 0, \"embd_pdrop\": 0,"
         " \"resid_pdrop\": 0}",
         0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct shape *s = shape_with(cases[i].changes);
        assert_near(shape_dropout(s), cases[i].rate, 0);
        shape_free(s);
    }
}

static void each_architecture_has_its_own_defaults(void **state)
{
    struct shape *s = shape_with("{\"model_type\": \"mistral\"}");
    assert_int_equal(s->window, 4096);
    shape_free(s);
    s = shape_with("{\"model_type\": \"mistral\", \"sliding_window\": null}");
    assert_int_equal(s->window, 0);
    shape_free(s);
    s = shape_with("{\"model_type\": \"mistral\", \"sliding_window\": 48}");
    assert_int_equal(s->window, 48);
    shape_free(s);
    s = shape_with("{\"model_type\": \"qwen2\", \"sliding_window\": 48, \"tie_word_embeddings\": true}");
    assert_int_equal(s->window, 0);
    assert_true(s->tied && s->qkv_bias && !s->out_bias);
    shape_free(s);
    s = shape_with(
        "{\"model_type\": \"qwen2\", \"sliding_window\": 48, \"use_sliding_window\": true, \"max_window_layers\": 1}");
    assert_int_equal(s->window, 48);
    shape_free(s);
    s = shape_with("{\"model_type\": \"qwen2\", \"sliding_window\": 48, \"use_sliding_window\": true}");
    assert_int_equal(s->window, 0); /* it begins behind the last layer */
    shape_free(s);
    s = shape_with("{\"model_type\": \"qwen3\", \"sliding_window\": 48, \"use_sliding_window\": true,"
                   " \"layer_types\": [\"full_attention\", \"sliding_attention\"]}");
    assert_int_equal(s->window, 48);
    shape_free(s);
    s = shape_with("{\"model_type\": \"gpt_neox\", \"hidden_size\": 48}");
    assert_int_equal(s->kv_heads, 6);
    assert_int_equal(s->rotary_dim, 2);
    assert_int_equal(s->activation, ACT_GELU);
    assert_true(s->parallel_residual && !s->one_norm && s->norm_bias && s->qkv_bias && s->mlp_bias && !s->head_bias);
    shape_free(s);
    s = shape_with("{\"model_type\": \"phi\"}");
    assert_int_equal(s->rotary_dim, 2);
    assert_true(s->parallel_residual && s->one_norm && s->head_bias && s->norm == NORM_LAYER && !s->gated);
    assert_near(s->norm_eps, 1e-5, 0);
    shape_free(s);
    s = shape_with("{\"model_type\": \"gemma2\"}");
    assert_true(s->score_cap == 50 && s->logit_cap == 30 && s->query_scalar == 256 && s->head_dim == 256 && s->tied);
    assert_true(s->both_norms && !s->post_norm && !s->qk_norm && s->norm == NORM_RMS_OFFSET && s->pad == 0);
    assert_near(s->embed_scale, sqrt(24), 0);
    shape_free(s);
    s = shape_with("{\"model_type\": \"gemma2\", \"attn_logit_softcapping\": null, \"final_logit_softcapping\": 4,"
                   " \"query_pre_attn_scalar\": 144, \"hidden_act\": \"silu\", \"hidden_activation\": \"gelu\"}");
    assert_true(s->score_cap == 0 && s->logit_cap == 4 && s->query_scalar == 144 && s->activation == ACT_GELU);
    shape_free(s);
    s = shape_with("{\"model_type\": \"gemma3_text\"}");
    assert_true(s->score_cap == 0 && s->logit_cap == 0 && s->query_scalar == 256 && s->qk_norm == QK_SHARED);
    shape_free(s);
    s = shape_with("{\"model_type\": \"phi3\"}");
    assert_true(s->pad == -1 && !s->tied && s->gated && s->norm == NORM_RMS && s->rotary_dim == 4 && !s->query_scalar);
    shape_free(s);
}

static void check_slides(const char *changes, bool first, bool second, size_t window)
{
    struct shape *s = shape_with(changes);
    assert_non_null(s);
    if (shape_slides(s, 0) != first || shape_slides(s, 1) != second || s->window != window)
        fail_msg("%s: %d %d, window %zu", changes, shape_slides(s, 0), shape_slides(s, 1), s->window);
    shape_free(s);
}

static void blocks_have_the_window_that_config_json_gives_them(void **state)
{
    check_slides("{}", false, false, 0);
    check_slides("{\"sliding_window\": 5}", false, false, 0);
    check_slides("{\"model_type\": \"mistral\"}", true, true, 4096);
    check_slides("{\"model_type\": \"mistral\", \"sliding_window\": null}", false, false, 0);
    check_slides("{\"model_type\": \"phi3\"}", false, false, 0);
    check_slides("{\"model_type\": \"phi3\", \"sliding_window\": 2047}", true, true, 2047);
    check_slides("{\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"max_window_layers\": 1}", false, true,
                 4096);
    check_slides("{\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"layer_types\": [\"sliding_attention\","
                 " \"full_attention\"]}",
                 true, false, 4096);
    check_slides("{\"model_type\": \"gemma2\"}", true, false, 4096);
    check_slides("{\"model_type\": \"gemma2\", \"sliding_window\": 9, \"layer_types\": [\"full_attention\","
                 " \"sliding_attention\"]}",
                 false, true, 9);
    check_slides("{\"model_type\": \"gemma2\", \"sliding_window_pattern\": 1}", true, false, 4096); /* fixed there */
    check_slides("{\"model_type\": \"gemma3_text\"}", true, true, 4096);
    check_slides("{\"model_type\": \"gemma3_text\", \"sliding_window_pattern\": 2}", true, false, 4096);
    check_slides("{\"model_type\": \"gemma3_text\", \"sliding_window_pattern\": 1}", false, false, 0);
}

static void what_changes_nothing_is_no_reason_to_refuse(void **state)
{
    struct shape *s =
        shape_with("{\"final_logit_softcapping\": null, \"residual_multiplier\": 1.0, \"logit_scale\": 1,"
                   " \"num_experts\": 0, \"alibi\": false, \"scale_attn_weights\": true, \"no_rope_layers\": [],"
                   " \"partial_rotary_factor\": 1.0, \"use_mrope\": false, \"some_new_key\": {\"a\": 1}}");
    assert_non_null(s);
    shape_free(s);
}

static void further_families_have_their_own_defaults(void **state)
{
    struct shape *s = shape_with("{\"model_type\": \"qwen3\"}");
    assert_true(s->head_dim == 128 && s->qk_norm == QK_SHARED && !s->qk_norm_bias && !s->qkv_bias && s->norm == NORM_RMS);
    shape_free(s);
    s = shape_with("{\"model_type\": \"phi\", \"qk_layernorm\": true}");
    assert_true(s->qk_norm == QK_SHARED && s->qk_norm_bias && s->norm == NORM_LAYER);
    shape_free(s);
    s = shape_with("{\"model_type\": \"stablelm\", \"head_dim\": 8}");
    assert_true(s->qk_norm == QK_NONE && s->embed_scale == 1 && s->pad == -1);
    shape_free(s);
    s = shape_with("{\"model_type\": \"gemma\", \"hidden_act\": \"gelu\"}");
    assert_true(s->head_dim == 256 && s->norm == NORM_RMS_OFFSET && s->activation == ACT_GELU_TANH && s->tied &&
                s->pad == 0);
    assert_near(s->embed_scale, sqrt(24), TOL);
    shape_free(s);
    s = shape_with("{\"model_type\": \"olmo2\", \"pad_token_id\": null}");
    assert_true(s->post_norm && s->qk_norm == QK_WHOLE && s->pad == -1);
    assert_near(s->norm_eps, 1e-5, 0);
    shape_free(s);
    s = shape_with(further_kinds[7]);
    assert_true(s->learned_positions && s->positions == 1024 && s->intermediate == 96 && !s->rotary_dim && !s->tied);
    shape_free(s);
}

/* Expected: transformers' yarn with theta 10000, heads of 16, 64 positions, factor 4, in float64. */
static void yarn_mixes_frequencies_and_scales_what_rotates(void **state)
{
    static const double expected[] = {1,
                                      0.23717082451262847,
                                      0.050000000000000003,
                                      0.0079056941504209478,
                                      0.0025000000000000001,
                                      0.00079056941504209474,
                                      0.00025000000000000001,
                                      7.9056941504209485e-05};
    struct shape *s = shape_with("{\"head_dim\": 16, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0,"
                                 " \"original_max_position_embeddings\": 64}}");
    for (size_t k = 0; k < 8; k++) assert_near(s->frequency[k] / expected[k], 1, 4 * TOL);
    assert_near(s->rotary_scale, 0.1 * log(4.0) + 1, TOL);
    shape_free(s);
    s = shape_with(
        "{\"head_dim\": 16, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, \"attention_factor\": 0.5}}");
    assert_near(s->rotary_scale, 0.5, 0);
    shape_free(s);
    s = shape_with("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, \"mscale\": 2.0, \"mscale_all_dim\": 0.5}}");
    assert_near(s->rotary_scale, (0.2 * log(4.0) + 1) / (0.05 * log(4.0) + 1), TOL);
    shape_free(s);
    /* transformers: null is false, 0 is the default */
    s = shape_with("{\"head_dim\": 8, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, \"truncate\": null,"
                   " \"beta_fast\": 0, \"beta_slow\": 0, \"original_max_position_embeddings\": 64}}");
    assert_near(s->frequency[1], 0.0255952, 1e-6);
    shape_free(s);
}

/* Expected: rotary_frequencies() of the reference, with theta 500000 and heads of 8: the first is kept, the second mixed, the
 * others are divided. */
static void rotary_frequencies_are_scaled_in_both_styles(void **state)
{
    static const char *const llama3[] = {
        "{\"head_dim\": 8, \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0,"
        " \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 512}}",
        "{\"head_dim\": 8, \"max_position_embeddings\": 512, \"rope_theta\": null, \"rope_parameters\": {\"rope_type\": "
        "\"llama3\", \"factor\": 8.0,"
        " \"rope_theta\": 500000, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0}}",
    };
    static const double expected[] = {1.0, 0.0273441373147213, 0.00017677669529663688, 6.647869871181236e-06};
    for (size_t i = 0; i < 2; i++) {
        struct shape *s = shape_with(llama3[i]);
        for (size_t k = 0; k < 4; k++) assert_near(s->frequency[k] / expected[k], 1, 4 * TOL);
        shape_free(s);
    }
    struct shape *s = shape_with("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}");
    assert_near(s->frequency[0], 0.25, 0);
    assert_near(s->frequency[1] / 0.0025, 1, TOL);
    shape_free(s);
}

static void sizes_that_make_no_model_are_refused(void **state)
{
    static const char *const keys[] = {"vocab_size",        "hidden_size",         "intermediate_size",
                                       "num_hidden_layers", "num_attention_heads", "max_position_embeddings"};
    static const char *const values[] = {"0",          "-1",   "24.0", "\"24\"", "9223372036854775807",
                                         "4294967300", "true", "[24]", "1e3"};
    char changes[128];
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            snprintf(changes, sizeof changes, "{\"%s\": %s}", keys[k], values[v]);
            expect_refused(changes, keys[k]);
        }
    for (size_t k = 0; k + 1 < sizeof keys / sizeof *keys; k++) {
        snprintf(changes, sizeof changes, "{\"%s\": null}", keys[k]);
        expect_refused(changes, "is missing");
    }
    expect_refused("{\"num_key_value_heads\": 4}", "no multiple of num_key_value_heads 4");
    expect_refused("{\"num_key_value_heads\": 0}", "num_key_value_heads: 0 is outside");
    expect_refused("{\"hidden_size\": 25}", "hidden_size: 25 is no multiple");
    expect_refused("{\"head_dim\": 0}", "head_dim");
    expect_refused("{\"head_dim\": 5}", "an even number can");
    expect_refused("{\"num_hidden_layers\": 1000000000}", "num_hidden_layers");
}

static void what_would_change_the_numbers_is_refused_by_name(void **state)
{
    expect_refused("{\"model_type\": \"mamba\"}", "model_type \"mamba\" is not built; llama, mistral, qwen2");
    expect_refused("{\"model_type\": null}", "model_type: is missing");
    expect_refused("{\"model_type\": 7}", "model_type: is not a text");
    expect_refused("{\"quantization_config\": {}}", "quantization_config");
    expect_refused("{\"hidden_act\": \"quick_gelu\"}", "hidden_act: \"quick_gelu\"");
    expect_refused("{\"rope_scaling\": {\"type\": \"yarn\"}}", "factor: is missing");
    expect_refused("{\"rope_theta\": 1, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}}",
                   "rope_theta: 1 is not above");
    expect_refused("{\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}}", "\"dynamic\" is not built");
    expect_refused("{\"rope_parameters\": {\"rope_type\": \"longrope\"}}", "short_factor: is missing");
    expect_refused("{\"rope_scaling\": {\"rope_type\": \"su\", \"factor\": 2}}", "\"su\" is not built");
    expect_refused("{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 2]}}", "long_factor: is missing");
    expect_refused("{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 2], \"long_factor\": [1, 2, 3]}}",
                   "long_factor: has 3 factors for the 2 pairs");
    expect_refused("{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 0], \"long_factor\": [1, 2]}}",
                   "short_factor: is not a number above 0");
    expect_refused("{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": 1, \"long_factor\": [1, 2]}}",
                   "short_factor: is not a list of numbers");
    expect_refused("{\"model_type\": \"phi3\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
                   "\"linear\" does not go with phi3");
    expect_refused("{\"model_type\": \"gemma3_text\", \"rope_scaling\": {\"type\": \"longrope\"}}",
                   "\"longrope\" is not built");
    expect_refused("{\"model_type\": \"gemma3_text\", \"rope_parameters\": {\"full_attention\": 3}}",
                   "full_attention: is not an object");
    expect_refused("{\"model_type\": \"gemma2\", \"layer_types\": [\"full_attention\"]}", "the types of 2 layers");
    expect_refused("{\"model_type\": \"gemma2\", \"layer_types\": [\"full_attention\", \"chunked_attention\"]}",
                   "layer_types: \"chunked_attention\" is not built");
    expect_refused("{\"model_type\": \"gemma3_text\", \"sliding_window_pattern\": 0}", "sliding_window_pattern");
    expect_refused("{\"model_type\": \"gemma2\", \"attn_logit_softcapping\": 0}", "attn_logit_softcapping: 0 is outside");
    expect_refused("{\"model_type\": \"gemma2\", \"final_logit_softcapping\": -3}",
                   "final_logit_softcapping: -3 is outside");
    expect_refused("{\"model_type\": \"gemma2\", \"query_pre_attn_scalar\": 0}", "query_pre_attn_scalar: 0 is outside");
    expect_refused("{\"model_type\": \"gemma3_text\", \"attn_logit_softcapping\": 50.0}",
                   "attn_logit_softcapping: changes the numbers");
    expect_refused("{\"query_pre_attn_scalar\": 256}", "query_pre_attn_scalar: changes the numbers");
    expect_refused("{\"model_type\": \"gemma3\", \"text_config\": {}}", "gemma3_text");
    expect_refused("{\"rope_scaling\": {\"type\": \"linear\"}}", "factor: is missing");
    expect_refused("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "factor: 0 is outside");
    expect_refused("{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
                   " \"high_freq_factor\": 4}}",
                   "is not above low_freq_factor");
    expect_refused("{\"rope_scaling\": 4}", "rope_scaling: is not an object");
    expect_refused("{\"rope_theta\": 0}", "rope_theta");
    expect_refused("{\"rope_theta\": -10000}", "rope_theta");
    expect_refused("{\"rope_theta\": \"10000\"}", "rope_theta: is not a number");
    expect_refused("{\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", "partial_rotary_factor");
    expect_refused("{\"rms_norm_eps\": 0}", "rms_norm_eps");
    expect_refused("{\"rms_norm_eps\": -1e-5}", "rms_norm_eps");
    expect_refused("{\"tie_word_embeddings\": 1}", "tie_word_embeddings: is neither true nor false");
    expect_refused("{\"partial_rotary_factor\": 0.5}", "partial_rotary_factor: 0.5 does not go with llama");
    expect_refused("{\"attention_multiplier\": 0.1}", "attention_multiplier: changes the numbers");
    expect_refused("{\"logit_scale\": 0.1}", "logit_scale: changes the numbers");
    expect_refused("{\"residual_multiplier\": 2}", "residual_multiplier: changes the numbers");
    expect_refused("{\"final_logit_softcapping\": 30.0}", "final_logit_softcapping: changes the numbers");
    expect_refused("{\"attn_logit_softcapping\": 50.0}", "attn_logit_softcapping: changes the numbers");
    expect_refused("{\"num_local_experts\": 8}", "num_local_experts: changes the numbers");
    expect_refused("{\"clip_qkv\": 8}", "clip_qkv: changes the numbers");
    expect_refused("{\"use_bidirectional_attention\": true}", "use_bidirectional_attention: changes the numbers");
    expect_refused("{\"model_type\": \"gpt2\", \"scale_attn_weights\": false}",
                   "scale_attn_weights: changes the numbers");
    expect_refused("{\"is_causal\": false}", "is_causal: changes the numbers");
    expect_refused("{\"scale_attn_by_inverse_layer_idx\": true}", "scale_attn_by_inverse_layer_idx: changes the numbers");
    expect_refused("{\"model_type\": \"gpt2\"}", "n_embd: is missing");
    expect_refused("{\"model_type\": \"stablelm\", \"head_dim\": 8, \"qk_layernorm\": true, \"num_hidden_layers\": 10000,"
                   " \"num_attention_heads\": 16000, \"num_key_value_heads\": null}",
                   "heads with a norm each are more than");
    expect_refused("{\"initializer_range\": -0.02}", "initializer_range");
}

/* Their values by Su et al.'s formula; what each list or base divides is known in closed form. */
static void rotary_frequencies_may_be_of_two_kinds(void **state)
{
    static const char factors[] = "\"short_factor\": [1.0, 2.0], \"long_factor\": [4.0, 5.0]";
    char text[512];
    struct shape *s;
    snprintf(text, sizeof text,
             "{\"model_type\": \"phi3\", \"max_position_embeddings\": 16384, \"rope_scaling\": {\"type\":"
             " \"su\", %s, \"original_max_position_embeddings\": 7}}",
             factors); /* beside rope_scaling, or 4096 */
    s = shape_with(text);
    assert_int_equal(s->long_from, 4096);
    assert_near(s->frequency[0], 1, 0);
    assert_near(s->frequency[1], 0.01 / 2, TOL);
    assert_near(s->other_frequency[0], 1.0 / 4, TOL);
    assert_near(s->other_frequency[1], 0.01 / 5, TOL);
    assert_near(s->rotary_scale, sqrt(1 + log(4) / log(4096)), TOL);
    assert_near(s->other_scale, s->rotary_scale, 0);
    shape_free(s);
    snprintf(text, sizeof text,
             "{\"max_position_embeddings\": 64, \"rope_parameters\": {\"rope_type\": \"longrope\", %s,"
             " \"original_max_position_embeddings\": 16, \"attention_factor\": 1.25}}",
             factors);
    s = shape_with(text);
    assert_int_equal(s->long_from, 16);
    assert_near(s->rotary_scale, 1.25, 0);
    shape_free(s);
    snprintf(text, sizeof text,
             "{\"model_type\": \"phi3\", \"original_max_position_embeddings\": 128, \"rope_scaling\":"
             " {\"type\": \"longrope\", %s}}",
             factors);
    s = shape_with(text);
    assert_int_equal(s->long_from, 128);
    assert_near(s->rotary_scale, 1, 0); /* the model was made for fewer than that */
    shape_free(s);
    s = shape_with("{\"model_type\": \"gemma3_text\", \"head_dim\": 4, \"rope_theta\": null}");
    assert_near(s->frequency[1], 1e-3, TOL);
    assert_near(s->other_frequency[1], 1e-2, TOL);
    assert_int_equal(s->long_from, 0);
    shape_free(s);
    s = shape_with(
        "{\"model_type\": \"gemma3_text\", \"head_dim\": 4, \"rope_theta\": 1e4, \"rope_local_base_freq\": 100,"
        " \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}}");
    assert_near(s->frequency[1], 1e-2 / 8, TOL);
    assert_near(s->other_frequency[1], 1e-1, TOL);
    shape_free(s);
    s = shape_with(
        "{\"model_type\": \"gemma3_text\", \"head_dim\": 4, \"rope_theta\": 4, \"rope_parameters\": {\"full_attention\":"
        " {\"rope_type\": \"linear\", \"factor\": 2, \"rope_theta\": 1e4}, \"sliding_attention\": {\"rope_theta\": "
        "1e6}}}");
    assert_near(s->frequency[1], 1e-2 / 2, TOL);
    assert_near(s->other_frequency[1], 1e-3, TOL);
    shape_free(s);
}

static void mixtures_of_experts_are_refused_in_a_sentence(void **state)
{
    static const char *const known[] = {"mixtral",     "qwen2_moe",   "qwen3_moe", "phimoe",
                                        "deepseek_v2", "deepseek_v3", "olmoe"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char changes[64];
        snprintf(changes, sizeof changes, "{\"model_type\": \"%s\"}", known[i]);
        expect_refused(changes, "is a mixture of experts, which is not built: take a dense model; llama, mistral");
    }
    expect_refused("{\"model_type\": \"new_one\", \"n_routed_experts\": 64}", "is a mixture of experts");
    expect_refused("{\"model_type\": \"new_one\", \"num_local_experts\": 1}", "\"new_one\" is not built; llama");
}

static void tokens_outside_the_vocabulary_are_refused(void **state)
{
    expect_refused("{\"eos_token_id\": 37}", "eos_token_id: 37 is not in the vocabulary of 37");
    expect_refused("{\"eos_token_id\": -1}", "eos_token_id: -1");
    expect_refused("{\"eos_token_id\": [2, 4294967298]}", "eos_token_id: 4294967298");
    expect_refused("{\"eos_token_id\": 2.5}", "eos_token_id: is not a whole number");
    expect_refused("{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}", "more than 8");
}

static void text_that_is_no_object_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *text, *fragment;
    } bad[] = {{"", "config.json:1:"},
               {"[]", "config.json: is not a JSON object"},
               {"{\"model_type\": \"llama\",\n \"vocab_size\": NaNs}", "config.json:2:"},
               {"{\"vocab_size\": 1, \"vocab_siz\\u0065\": 2}", "duplicate"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct shape *s;
        assert_int_equal(shape_parse("config.json", bad[i].text, strlen(bad[i].text), &s), ERR_INPUT);
        if (!strstr(fail_message(), bad[i].fragment)) fail_msg("%s: %s", bad[i].text, fail_message());
        fail_clear();
    }
}

/* changes is text: what jansson cannot hold is put in as it stands. */
static struct shape *shape_of(const char *changes)
{
    char *base = config_text(small_llama, "{}"), *end = strrchr(base, '}');
    struct text text = {0};
    struct shape *s = NULL;
    text_print(&text, "%.*s, %s}", (int)(end - base), base, changes);
    (void)!shape_parse("config.json", text.data, text.n, &s);
    free(base), text_free(&text);
    return s;
}

static void numbers_that_json_does_not_have_matter_only_where_they_are_used(void **state)
{
    static const struct {
        const char *changes, *message;
    } used[] = {
        {"\"head_dim\": NaN", "head_dim: NaN cannot be used; it must be a whole number"},
        {"\"head_dim\": 18446744073709551620", "head_dim: 18446744073709551620 cannot be used"},
        {"\"rms_norm_eps\": Infinity", "rms_norm_eps: Infinity cannot be used; it must be a number"},
        {"\"rope_scaling\": {\"rope_theta\": 1e999}", "rope_theta: 1e999 cannot be used"},
        {"\"attention_bias\": NaN", "attention_bias: NaN cannot be used; it must be true or false"},
        {"\"initializer_range\": NaN", "initializer_range: NaN cannot be used"},
        {"\"pad_token_id\": NaN", "pad_token_id: NaN cannot be used"},
        {"\"rope_scaling\": NaN", "rope_scaling: NaN cannot be used; it must be an object"},
        {"\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": -Infinity}", "factor: -Infinity cannot be used"},
        {"\"quantization_config\": NaN", "quantization_config: changes the numbers"},
    };
    struct shape *s =
        shape_of("\"note\": NaN, \"more\": [Infinity, {\"a\": 123456789012345678901234567890}], \"rope_scaling\": "
                 "{\"rope_type\": \"default\", \"note\": NaN}");
    if (!s) fail_msg("%s", fail_message());
    assert_int_equal(s->head_dim, 4);
    shape_free(s);
    for (size_t i = 0; i < sizeof used / sizeof *used; i++) {
        s = shape_of(used[i].changes);
        if (s || !strstr(fail_message(), used[i].message)) fail_msg("%s: %s", used[i].changes, fail_message());
        fail_clear();
    }
}

static void configs_of_real_models_are_read_and_unknown_keys_ignored(void **state)
{
    static const char *const models[] = {"llama", "llama3", "mistral", "qwen2", "phi", "gpt_neox", "stablelm"};
    char name[512];
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct shape *s;
        snprintf(name, sizeof name, "golden/models/%s/model/config.json", models[i]);
        if (!shared_path(name)) skip();
        *strrchr(strcpy(name, shared_path(name)), '/') = 0;
        if (shape_read(name, &s) != OK) fail_msg("%s", fail_message());
        assert_int_equal(s->heads, 4);
        assert_int_equal(s->kv_heads, i < 4 ? 2 : 4);
        assert_int_equal(s->rotary_dim, models[i][0] == 'p' ? 4 : i < 4 ? 8 : 2);
        assert_int_equal(s->tied, i == 1 || i == 3);
        shape_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_and_defaults_filled_in),
        cmocka_unit_test(heads_follow_from_what_is_given),
        cmocka_unit_test(end_tokens_may_be_one_many_or_none),
        cmocka_unit_test(dropout_is_that_of_config_json_or_the_familys),
        cmocka_unit_test(each_architecture_has_its_own_defaults),
        cmocka_unit_test(rotary_frequencies_are_scaled_in_both_styles),
        cmocka_unit_test(yarn_mixes_frequencies_and_scales_what_rotates),
        cmocka_unit_test(blocks_have_the_window_that_config_json_gives_them),
        cmocka_unit_test(what_changes_nothing_is_no_reason_to_refuse),
        cmocka_unit_test(further_families_have_their_own_defaults),
        cmocka_unit_test(sizes_that_make_no_model_are_refused),
        cmocka_unit_test(what_would_change_the_numbers_is_refused_by_name),
        cmocka_unit_test(mixtures_of_experts_are_refused_in_a_sentence),
        cmocka_unit_test(rotary_frequencies_may_be_of_two_kinds),
        cmocka_unit_test(tokens_outside_the_vocabulary_are_refused),
        cmocka_unit_test(text_that_is_no_object_is_refused_with_its_place),
        cmocka_unit_test(numbers_that_json_does_not_have_matter_only_where_they_are_used),
        cmocka_unit_test(configs_of_real_models_are_read_and_unknown_keys_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
