/* config: what stands where the input says nothing, or null.                                                 NP: 1 */
#include "config_text.h"

static void the_defaults_of_data_and_model_are_those_of_the_design(void **state)
{
    struct config *c = read_text(BASE);
    assert_int_equal(c->task, TASK_UNLEARN);
    assert_int_equal(c->seed, 42);
    assert_string_equal(c->file, "in.yaml");
    assert_string_equal(c->text, BASE);
    assert_string_equal(c->output_directory, "outputs/in");
    assert_string_equal(c->model.path, "M");
    assert_null(c->model.reference);
    assert_int_equal(c->model.init, INIT_PRETRAINED);
    assert_string_equal(c->data.template, "qa");
    assert_null(c->data.question_start);
    assert_null(c->data.question_end);
    assert_null(c->data.answer_start);
    assert_int_equal(c->data.max_length, 500);
    assert_data(&c->data.forget, "F", CONFIG_ALL);
    assert_data(&c->data.retain, "R", CONFIG_ALL);
    assert_int_equal(c->data.held_out, CONFIG_AUTO);
    assert_null(c->data.idk);
    assert_int_equal(c->data.idk_draw, DRAW_RANDOM);
    assert_int_equal(c->parallel.data, CONFIG_AUTO);
    assert_int_equal(c->parallel.tensor, CONFIG_AUTO);
    assert_int_equal(c->parallel.threads, CONFIG_AUTO);
    assert_int_equal(c->parallel.tokens, CONFIG_AUTO);
    assert_int_equal(c->parallel.shard, SHARD_AUTO);
    assert_int_equal(c->parallel.recompute, RECOMPUTE_AUTO);
    assert_true(c->parallel.logits == CONFIG_AUTO);
    assert_int_equal(c->parallel.risks, RISKS_AUTO);
    assert_int_equal(c->plan.processes, CONFIG_AUTO);
    assert_int_equal(c->plan.per_node, CONFIG_AUTO);
    assert_true(isnan(c->plan.flops) && isnan(c->plan.memory) && isnan(c->plan.bandwidth) && isnan(c->plan.network));
    config_free(c);
}

static void the_defaults_of_training_are_those_of_the_design(void **state)
{
    struct config *c = read_text(BASE);
    assert_string_equal(c->objective.name, "npo");
    assert_int_equal(c->objective.n_setting, 0);
    assert_int_equal(c->n_regularizer, 0);
    assert_int_equal(c->optimizer.name, OPTIMIZER_ADAMW);
    assert_true(c->optimizer.lr == 1e-5 && c->optimizer.beta1 == 0.9 && c->optimizer.beta2 == 0.999);
    assert_true(c->optimizer.eps == 1e-8 && c->optimizer.weight_decay == 0 && c->optimizer.clip == 0);
    assert_int_equal(c->optimizer.schedule, SCHEDULE_LINEAR);
    assert_int_equal(c->optimizer.warmup_steps, CONFIG_AUTO);
    assert_true(c->train.epochs == 5);
    assert_int_equal(c->train.steps, CONFIG_NULL);
    assert_int_equal(c->train.batch_size, 4);
    assert_int_equal(c->train.accumulation, 4);
    assert_true(c->train.shuffle);
    assert_int_equal(c->train.pair_retain, DRAW_RANDOM);
    assert_int_equal(c->train.n_freeze, 0);
    config_free(c);
}

static void the_defaults_of_measuring_and_saving_are_those_of_the_design(void **state)
{
    struct config *c = read_text(BASE);
    assert_int_equal(c->geffect.every, 5);
    assert_int_equal(c->geffect.n_objective, 0);
    assert_int_equal(c->geffect.n_risk, 2);
    assert_risk(&c->geffect.risk[0], "unlearn", "forget", CONFIG_ALL);
    assert_risk(&c->geffect.risk[1], "retain", "retain", 400);
    assert_int_equal(c->geffect.resolution, RESOLUTION_LAYER);
    assert_int_equal(c->geffect.normalisation, NORM_TOKEN_MEAN);
    assert_false(c->geffect.fidelity);
    assert_int_equal(c->evaluate.every, 0);
    assert_int_equal(c->evaluate.rows, 300);
    assert_int_equal(c->evaluate.max_length, 200);
    assert_int_equal(c->evaluate.n_metric, 1);
    assert_string_equal(c->evaluate.metric[0], "all");
    assert_int_equal(c->evaluate.n_set, 0);
    assert_null(c->evaluate.retain_logs);
    assert_int_equal(c->checkpoint.every, 0);
    assert_int_equal(c->checkpoint.keep, 2);
    assert_true(c->checkpoint.export);
    assert_int_equal(c->checkpoint.dtype, DTYPE_FULL);
    assert_int_equal(c->precision, PRECISION_FLOAT32);
    assert_int_equal(c->parallel.products, PRODUCTS_OF_AUTO);
    config_free(c);
}

static void what_an_evaluation_does_not_say_is_the_variants(void **state)
{
    static const struct {
        const char *evaluate;
        size_t rows, row_length;
        double min_k, privleak_auc; /* -1: auto */
    } cases[] = {
        {"data: {max_length: 300}\nevaluate: {}", 300, 300, 0.2, 0.5},
        {"evaluate: {retain_logs: L, row_length: 77, rows: 5}", 5, 77, 0.2, -1},
        {"evaluate: {retain_logs: L, privleak_auc: 0.25}", 300, 500, 0.2, 0.25},
        {"evaluate: {variant: open_unlearning}", CONFIG_ALL, 512, 0.4, 0.5},
        {"data: {max_length: 300}\nevaluate: {variant: open_unlearning, retain_logs: L}", CONFIG_ALL, 300, 0.4, -1},
        {"data: {max_length: null}\nevaluate: {variant: open_unlearning, rows: 300, min_k: 0.1}", 300, 512, 0.1, 0.5},
        {"data: {max_length: 300}\nevaluate: {benchmark: muse}", CONFIG_ALL, 10000000, 0.4, 0.5},
        {"evaluate: {benchmark: wmdp, row_length: 600, rows: null}", CONFIG_ALL, 600, 0.2, 0.5},
        {"preset: open_unlearning", CONFIG_ALL, 512, 0.4, 0.5},
        {"preset: open_unlearning\ndata: {max_length: 300}\nevaluate: {rows: 7}", 7, 300, 0.4, 0.5},
        {"preset: tofu", 300, 500, 0.2, 0.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        struct config *c, *again;
        char *once;
        snprintf(text, sizeof text, "task: generate\nmodel: {path: M}\ngenerate: P\n%s\n", cases[i].evaluate);
        c = read_text(text), once = written(c), again = read_with("again.yaml", once, 0, NULL);
        for (int k = 0; k < 2; k++, c = again) { /* as it was given, and as its resolved input says it */
            assert_int_equal(c->evaluate.rows, cases[i].rows);
            assert_int_equal(c->evaluate.row_length, cases[i].row_length);
            assert_true(c->evaluate.min_k == cases[i].min_k);
            assert_true(cases[i].privleak_auc < 0 ? isnan(c->evaluate.privleak_auc)
                                                  : c->evaluate.privleak_auc == cases[i].privleak_auc);
            config_free(c);
        }
        free(once);
    }
}

static void what_is_null_is_not_given(void **state)
{
    static const struct {
        const char *text, *key;
        bool given;
    } cases[] = {
        {"", "optimizer.decay", false},
        {"optimizer: {decay: null}", "optimizer.decay", false},
        {"optimizer: {decay: matrices}", "optimizer.decay", true},
        {"preset: tofu", "optimizer.decay", true},
        {"preset: tofu\ndata: {max_length: null}", "data.max_length", true},
        {"data: null", "data.max_length", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        struct config *c;
        snprintf(text, sizeof text, "task: generate\nmodel: {path: M}\ngenerate: P\n%s\n", cases[i].text);
        c = read_text(text);
        assert_int_equal(config_given(c, cases[i].key), cases[i].given);
        config_free(c);
    }
}

static void what_is_written_as_by_default_is_usual(void **state)
{
    static const struct {
        const char *text, *key;
        bool usual;
    } cases[] = {
        {"", "evaluate.max_length", true},
        {"evaluate: {max_length: 200}", "evaluate.max_length", true},
        {"evaluate: {max_length: 199}", "evaluate.max_length", false},
        {"preset: open_unlearning", "evaluate.max_length", true},
        {"", "optimizer.eps", true},
        {"optimizer: {eps: 0.00000001, betas: [0.90, 0.999]}", "optimizer.eps", true},
        {"optimizer: {eps: 0.00000001, betas: [0.90, 0.999]}", "optimizer.betas", true},
        {"optimizer: {eps: 1e-7}", "optimizer.eps", false},
        {"optimizer: {betas: [0.9, 0.99]}", "optimizer.betas", false},
        {"data: {forget: {path: F, question: \"question\", answer: A}}", "data.forget.question", true},
        {"data: {forget: {path: F, question: question, answer: A}}", "data.forget.answer", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char all[256];
        struct config *c;
        bool usual;
        snprintf(all, sizeof all, "task: generate\nmodel: {path: M}\ngenerate: P\n%s\n", cases[i].text);
        c = read_text(all);
        assert_int_equal(config_usual(c, cases[i].key, &usual), OK);
        if (usual != cases[i].usual) fail_msg("%s: %s is %s", cases[i].text, cases[i].key, usual ? "usual" : "not");
        config_free(c);
    }
}

static void the_output_directory_takes_the_name_of_the_input(void **state)
{
    static const char *const pair[][2] = {{"in.yaml", "outputs/in"},
                                          {"a/b.c/run-1.json", "outputs/run-1"},
                                          {"run.v2.yaml", "outputs/run.v2"},
                                          {"plain", "outputs/plain"},
                                          {"x/.hidden", "outputs/.hidden"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        struct config *c = read_with(pair[i][0], BASE, 0, NULL);
        assert_string_equal(c->output_directory, pair[i][1]);
        config_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_of_data_and_model_are_those_of_the_design),
        cmocka_unit_test(the_defaults_of_training_are_those_of_the_design),
        cmocka_unit_test(the_defaults_of_measuring_and_saving_are_those_of_the_design),
        cmocka_unit_test(what_an_evaluation_does_not_say_is_the_variants),
        cmocka_unit_test(what_is_null_is_not_given),
        cmocka_unit_test(what_is_written_as_by_default_is_usual),
        cmocka_unit_test(the_output_directory_takes_the_name_of_the_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
