/* config: what is written is what is read: defaults, short forms, spellings, overrides, and the way back.   NP: 1 */
#include "config_text.h"
#include <glob.h>

static void numbers_may_be_spelt_in_every_legal_way(void **state)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"1e-5", 1e-5}, {"1.0e-5", 1e-5}, {"5", 5},   {"+5", 5},        {"5.", 5}, {".5", 0.5},     {"0", 0},
                 {"0.10", 0.1},  {"1E+2", 100},    {"0e0", 0}, {"!!float 3", 3}, {"-0", 0}, {"1e308", 1e308}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, BASE "optimizer: {lr: %s}", cases[i].text);
        struct config *c = read_text(text);
        if (c->optimizer.lr != cases[i].value) fail_msg("%s became %g", cases[i].text, c->optimizer.lr);
        config_free(c);
    }
    struct config *c = read_text(BASE "seed: 9223372036854775807\ntrain: {steps: 1e3, batch_size: 2.0, epochs: 0.25}");
    assert_true(c->seed == INT64_MAX);
    assert_int_equal(c->train.steps, 1000);
    assert_int_equal(c->train.batch_size, 2);
    assert_true(c->train.epochs == 0.25);
    config_free(c);
}

static void short_forms_stand_for_their_key(void **state)
{
    struct config *c = read_text("model: {path: M}\n"
                                 "data: {forget: F, retain: {path: R, held_out: 7, rows: 9}, idk: I, template: llama2}\n"
                                 "objective: {name: wga, regularizer: kl}\n"
                                 "optimizer: sgd\n"
                                 "geffect: {every: 0, objectives: ga, risks: {a: forget, b: some/file.jsonl}}\n"
                                 "evaluate: {sets: {forget: E}, metrics: [x, y]}\n");
    assert_data(&c->data.forget, "F", CONFIG_ALL);
    assert_data(&c->data.retain, "R", 9);
    assert_int_equal(c->data.held_out, 7);
    assert_string_equal(c->data.idk, "I");
    assert_string_equal(c->data.template, "llama2");
    assert_string_equal(c->objective.name, "wga");
    assert_int_equal(c->n_regularizer, 1);
    assert_string_equal(c->regularizer[0].name, "kl");
    assert_true(c->regularizer[0].weight == 1);
    assert_int_equal(c->regularizer[0].batch_size, CONFIG_AUTO);
    assert_int_equal(c->optimizer.name, OPTIMIZER_SGD);
    assert_int_equal(c->geffect.every, 0);
    assert_int_equal(c->geffect.n_objective, 1);
    assert_string_equal(c->geffect.objective[0].name, "ga");
    assert_int_equal(c->geffect.n_risk, 2);
    assert_risk(&c->geffect.risk[0], "a", "forget", CONFIG_ALL);
    assert_risk(&c->geffect.risk[1], "b", "some/file.jsonl", CONFIG_ALL);
    assert_string_equal(c->evaluate.set[0].name, "forget");
    assert_string_equal(c->evaluate.set[0].path, "E");
    assert_int_equal(c->evaluate.n_metric, 2);
    assert_string_equal(c->evaluate.metric[1], "y");
    config_free(c);
}

static void parameters_of_objectives_are_kept_with_their_places(void **state)
{
    struct config *c = read_text(BASE "objective:\n"
                                      "  name: rmu\n"
                                      "  layer: 1\n"
                                      "  direction: u.json\n"
                                      "  c: \"2\"\n"
                                      "  beta: null\n"
                                      "  regularizer:\n"
                                      "    - {name: rr, layer: 2e0, weight: 0.5, batch_size: 3}\n"
                                      "    - gd\n");
    const struct config_objective *o = &c->objective, *r = c->regularizer;
    assert_string_equal(place_text(&o->place), "in.yaml:4:9");
    assert_int_equal(o->n_setting, 3);
    assert_string_equal(o->setting[0].key, "layer");
    assert_true(o->setting[0].is_number && o->setting[0].number == 1);
    assert_string_equal(place_text(&o->setting[0].place), "in.yaml:5:10");
    assert_string_equal(o->setting[1].text, "u.json");
    assert_false(o->setting[1].is_number);
    assert_false(o->setting[2].is_number);
    assert_int_equal(c->n_regularizer, 2);
    assert_int_equal(r[0].n_setting, 1);
    assert_true(r[0].setting[0].is_number && r[0].setting[0].number == 2);
    assert_true(r[0].weight == 0.5);
    assert_int_equal(r[0].batch_size, 3);
    assert_string_equal(r[1].name, "gd");
    assert_int_equal(r[1].n_setting, 0);
    config_free(c);
}

static void a_bare_name_to_measure_takes_the_settings_of_the_objective(void **state)
{
    struct config *c = read_text(BASE "objective: {name: wga, alpha: 0.5}\n"
                                      "geffect: {objectives: [wga, {name: wga}, {name: wga, alpha: 2}, ga]}\n");
    const struct config_objective *o = c->geffect.objective;
    assert_int_equal(c->geffect.n_objective, 4);
    assert_int_equal(o[0].n_setting, 1);
    assert_true(o[0].setting[0].number == 0.5);
    assert_int_equal(o[1].n_setting, 0);
    assert_true(o[2].setting[0].number == 2);
    assert_int_equal(o[3].n_setting, 0);
    config_free(c);
}

static void a_template_in_parts_has_no_name_and_empty_parts(void **state)
{
    struct config *c = read_text("model: {path: M}\n"
                                 "data: {forget: F, retain: R, template: {question_end: \"\\n\\n\", answer_start: ''}}");
    assert_null(c->data.template);
    assert_string_equal(c->data.question_start, "");
    assert_string_equal(c->data.question_end, "\n\n");
    assert_string_equal(c->data.answer_start, "");
    config_free(c);
}

static void a_template_has_settings_beside_its_name_or_parts(void **state)
{
    struct config *c =
        read_text("model: {path: M}\n"
                  "data: {forget: F, retain: R, template: {name: llama3, system: '', date: 1 Jan 2020, trim: "
                  "never, bos: always, end_token: out}}");
    assert_string_equal(c->data.template, "llama3");
    assert_string_equal(c->data.system, "");
    assert_string_equal(c->data.date, "1 Jan 2020");
    assert_int_equal(c->data.trim, WHEN_NEVER);
    assert_int_equal(c->data.bos, WHEN_ALWAYS);
    assert_int_equal(c->data.eos, WHEN_AUTO);
    assert_int_equal(c->data.end_token, COUNTED_OUT);
    config_free(c);
    c = read_text("model: {path: M}\n"
                  "data: {forget: F, retain: R, template: {prompt_end: \"A: \", answer_end: \"\\n\", eos: never}}");
    assert_string_equal(c->data.prompt_end, "A: ");
    assert_string_equal(c->data.answer_end, "\n");
    assert_string_equal(c->data.question_start, "");
    assert_int_equal(c->data.eos, WHEN_NEVER);
    assert_int_equal(c->data.end_token, COUNTED_IN);
    config_free(c);
}

static void a_guard_is_off_unless_it_is_asked_for(void **state)
{
    struct config *c = read_text("model: {path: M}\ndata: {forget: F, retain: R}\n");
    assert_null(c->guard.risk);
    assert_true(isnan(c->guard.budget) && c->guard.act == ACT_AUTO && c->guard.of == OF_MEASURED);
    assert_true(c->guard.limits == LIMITS_RISE && c->guard.layers == 0 && c->guard.project == 0);
    config_free(c);
    c = read_text("model: {path: M}\ndata: {forget: F, retain: R}\nguard: {retain: 0.5, freeze: 2, project: 0.8}\n");
    assert_true(c->guard.budget == 0.5 && c->guard.act == ACT_STOP && c->guard.layers == 2 && c->guard.project == 0.8);
    config_free(c);
    c = read_text("model: {path: M}\ndata: {forget: F, retain: R}\nguard: {risk: kept, freeze: {layers: 1}, retain: "
                  "{budget: 1.5, limits: ratio, of: predicted, do: step_back}}\n");
    assert_string_equal(c->guard.risk, "kept");
    assert_true(c->guard.limits == LIMITS_RATIO && c->guard.of == OF_PREDICTED && c->guard.act == ACT_STEP_BACK);
    config_free(c);
}

static void sections_may_be_left_empty_and_files_null(void **state)
{
    struct config *c = read_text("task: finetune\nmodel: {path: M}\ndata: {forget: null, retain: R, idk: ~}\n"
                                 "train:\ngeffect: {risks: }\nobjective: \nguard: {}\nevaluate: {}\nparallel: null\n");
    assert_null(c->data.forget.path);
    assert_null(c->data.idk);
    assert_int_equal(c->train.batch_size, 4);
    assert_int_equal(c->geffect.n_risk, 2);
    assert_string_equal(c->objective.name, "npo");
    config_free(c);
}

/* The overrides "KEY=null" of every fixed key that no task needs, from the table itself. */
enum { MOST_KEYS = 200 };
struct overrides {
    char text[MOST_KEYS][64];
    size_t n;
};
static enum status add_override(void *to, const struct key_text *key)
{
    struct overrides *o = to;
    if (strchr(key->path, '*') || !strcmp(key->fallback, "required") || !strcmp(key->fallback, "by task")) return OK;
    assert_true(o->n < MOST_KEYS && strlen(key->path) + 6 < 64);
    snprintf(o->text[o->n++], 64, "%s=null", key->path);
    return OK;
}

static void null_means_not_given_for_every_key(void **state)
{
    static struct overrides all;
    char(*override)[64] = all.text;
    assert_int_equal(config_keys(add_override, &all), OK);
    const size_t n = all.n;
    struct config *c = read_text(BASE);
    char *expected = written(c);
    config_free(c);
    assert_true(n > 70);
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(override[i], "data.template.name=null")) continue; /* without a name the parts are needed */
        if (!strcmp(override[i], "model=null") || !strncmp(override[i], "data.forget=", 12) ||
            !strncmp(override[i], "data.retain=", 12) || !strcmp(override[i], "data=null"))
            continue; /* with them goes what the task needs */
        c = override_with(BASE, override[i], NULL);
        char *got = written(c);
        if (strcmp(got, expected) != 0) fail_msg("%s became\n%s", override[i], got);
        free(got);
        config_free(c);
    }
    free(expected);
}

/* each pair means the same configuration, and reads back to it */
static void null_means_not_given_inside_lists_and_names(void **state)
{
    static const char *const pair[][2] = {
        {"train: {epochs: null, steps: 4}", "train: {steps: 4}"},
        {"train:\n  epochs:\n  steps: ~\n  shuffle: Null\n  freeze: NULL", ""},
        {"optimizer: {name: null, lr: 0.5, betas: [null, 0.5], eps: ~}", "optimizer: {lr: 0.5, betas: [0.9, 0.5]}"},
        {"optimizer: {betas: [0.5, null]}", "optimizer: {betas: [0.5, 0.999]}"},
        {"objective: {name: npo, beta: null, regularizer: [{name: kl, weight: null, batch_size: null, x: null}]}",
         "objective: {regularizer: kl, name: npo}"},
        {"geffect: {objectives: null, risks: {a: {data: forget, rows: null, from: ~, draw: , question: null}, b: null}}",
         "geffect: {risks: {a: forget}}"},
        {"evaluate: {every: 2, metrics: null, sets: {x: F, y: null, z: {path: G}}}",
         "evaluate: {every: 2, sets: {x: F, z: G}}"},
        {"geffect: {tokens: null, curvature: ~}\nguard: null\nseed: null\ntask: null\nprecision: null", ""},
    };
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char text[2][1024], *got[3];
        for (int k = 0; k < 2; k++) {
            snprintf(text[k], sizeof text[k], BASE "%s\n", pair[i][k]);
            struct config *c = read_text(text[k]);
            got[k] = written(c);
            config_free(c);
        }
        struct config *again = read_with("other.yaml", got[0], 0, NULL);
        got[2] = written(again);
        config_free(again);
        assert_string_equal(got[0], got[1]);
        assert_string_equal(got[2], got[0]);
        for (int k = 0; k < 3; k++) free(got[k]);
    }
    struct config *c =
        override_with(BASE "evaluate: {every: 1, sets: {x: F, y: G}}", "evaluate.sets.y=null", "train.epochs=");
    assert_int_equal(c->evaluate.n_set, 1);
    assert_true(c->train.epochs == 5);
    config_free(c);
}

/* every text means the same configuration */
static void yaml_and_json_may_be_spelt_in_many_ways(void **state)
{
    static const char *const same[] = {
        "seed: 7\nmodel:\n  path: a b/M\ndata:\n  forget: F\n  retain: R\noptimizer:\n  lr: 0.5\n  schedule: cosine\n",
        "\xef\xbb\xbfseed: 7\r\nmodel:\r\n  path: a b/M\r\ndata:\r\n  forget: F\r\n  retain: R\r\noptimizer:\r\n"
        "  lr: 0.5\r\n  schedule: cosine\r\n",
        "{\"seed\": 7, \"model\": {\"path\": \"a b/M\"}, \"data\": {\"forget\": \"F\", \"retain\": {\"path\": \"R\"}},\n"
        "\t\"optimizer\":{\"lr\":5e-1,\"schedule\":\"cosine\"},\"train\":{\"steps\":null,\"shuffle\":true}}",
        "%YAML 1.1\n---\n'seed': 7 # a comment\nmodel: {path: 'a b/M'}\ndata: {forget: \"\\x46\", retain: R}\n"
        "optimizer: {lr: 5.0e-1, schedule: \"cosine\"}\n...\n",
        "seed: !!int 7\nmodel:\n  path: >\n    a\n    b/M\ndata:\n  forget: |\n    F\n  retain: !!str R\n"
        "optimizer: !!map {lr: .5, schedule: cosine}\nparallel: {\"data\": \"auto\"}\n",
    };
    struct config *first = read_text(same[0]);
    char *expected = written(first);
    assert_string_equal(first->model.path, "a b/M");
    for (size_t i = 1; i < sizeof same / sizeof *same; i++) {
        struct config *c = read_text(same[i]);
        char *got = written(c);
        assert_string_equal(got, expected);
        assert_string_equal(c->text, same[i]);
        free(got);
        config_free(c);
    }
    free(expected);
    config_free(first);
}

static void json_may_write_a_character_as_two_escapes(void **state)
{
    struct config *c = read_text("{\"model\": {\"path\": \"\\ud83d\\uDE00/\\\\ud83d\\\\ude00\\u00e9\\/x\"}, \"data\":\n"
                                 "{\"forget\": \"\\ud800\\udc00\", \"retain\": \"\\udbff\\udfff\"}}");
    assert_string_equal(c->model.path, "\xf0\x9f\x98\x80/\\ud83d\\ude00\xc3\xa9/x");
    assert_string_equal(c->data.forget.path, "\xf0\x90\x80\x80");
    assert_string_equal(c->data.retain.path, "\xf4\x8f\xbf\xbf");
    config_free(c);
    c = override_with(BASE, "generate.prompt=\"a \\ud83d\\ude00\"", "data.idk='\\ud83d\\ude00'");
    assert_string_equal(c->generate.prompt, "a \xf0\x9f\x98\x80");
    assert_string_equal(c->data.idk, "\\ud83d\\ude00"); /* no JSON: single quotes have no escapes */
    config_free(c);
}

static void line_breaks_that_end_folded_text_count_only_in_text(void **state)
{
    struct config *c =
        read_text(BASE "optimizer:\n  name: |\n    sgd\n  schedule: >+\n    cosine\n\n\nobjective:\n  name: |\n    rmu\n"
                       "  direction: >\n    u.json\ngenerate:\n  prompt: |+\n    a\n    b\n\n  rows: |\n    all\n");
    assert_int_equal(c->optimizer.name, OPTIMIZER_SGD);
    assert_int_equal(c->optimizer.schedule, SCHEDULE_COSINE);
    assert_string_equal(c->objective.name, "rmu");
    assert_string_equal(c->objective.setting[0].text, "u.json");
    assert_string_equal(c->generate.prompt, "a\nb\n\n");
    assert_int_equal(c->generate.rows, CONFIG_ALL);
    config_free(c);
}

static void what_is_written_reads_back_to_the_same(void **state)
{
    static const char *const inputs[] = {
        BASE,
        "seed: 0\nmodel: {path: \"a \\\"b\\\" \\\\ \xc3\xa9 \xf0\x9f\x98\x80 #: x\", reference: 'null', init: random}\n"
        "data: {max_length: 2, template: {question_start: \"\\x07\\n\\t \\u2028 \\ufeff\\x85\\uffff\", answer_start: ' "
        "'},\n"
        "  forget: {path: '010', question: 'yes', answer: '~', text: 'true', rows: 3},\n"
        "  retain: {path: -x, held_out: 0}, idk: {path: 1e5, draw: in_order}}\n"
        "parallel: {data: 2, tensor: 3, threads: 4, tokens: 5, recompute: none, logits: 6, risks: in_turn}\n"
        "objective: {name: '1', a: 0.5, b: '0.5', c: x y, d: '', e: 1e-7, regularizer: [{name: kl, weight: 0.1, z: 3}, "
        "gd]}\n"
        "optimizer: {name: sgd, lr: 0.1, betas: [0.12345678901234567, 0], eps: 4e-300, weight_decay: 1e22, clip: 3,\n"
        "  schedule: constant, warmup_steps: 0}\n"
        "train: {epochs: 1e-3, steps: 0, batch_size: 1, accumulation: 9, shuffle: false, pair_retain: in_order}\n"
        "geffect: {every: 0, objectives: [{name: x, k: -1}, '1', ga], risks: {'a: b': {data: P, from: held_out, draw: "
        "first},\n"
        "  'null': retain}, resolution: tensor}\n"
        "evaluate: {rows: all, max_length: 1, metrics: [a, 'b,c'], sets: {f: F, 'g h': G}, retain_logs: L}\n"
        "checkpoint: {keep: 1, export: false}\n",
        "task: geffect\nmodel: {path: [{step: 0, path: A}, {step: 5, path: B}]}\ndata: {forget: F, retain: R}\n",
        "task: geffect\nmodel: {path: [{step: 5, path: A}]}\ndata: {forget: F, retain: R}\n",
        "model: {path: M}\ndata: {forget: F, retain: R, template: {prompt_end: \"\\n\", answer_end: '#', end_token: out, "
        "trim: "
        "always, bos: never, eos: always}}\n",
        "model: {path: M}\ndata: {forget: F, retain: R, template: {name: chatml, system: \" a: \\n\"}}\n"};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        struct config *c = read_text(inputs[i]);
        char *once = written(c);
        struct config *d = read_with("other.yaml", once, 0, NULL);
        char *twice = written(d);
        assert_string_equal(twice, once);
        assert_string_equal(d->model.path, c->model.path);
        assert_true(d->optimizer.eps == c->optimizer.eps && d->optimizer.beta1 == c->optimizer.beta1);
        assert_int_equal(d->objective.n_setting, c->objective.n_setting);
        for (size_t s = 0; s < c->objective.n_setting; s++) {
            assert_string_equal(d->objective.setting[s].text, c->objective.setting[s].text);
            assert_int_equal(d->objective.setting[s].is_number, c->objective.setting[s].is_number);
        }
        if (c->data.question_start) assert_string_equal(d->data.question_start, c->data.question_start);
        assert_string_equal(d->output_directory, "outputs/in");
        free(once), free(twice);
        config_free(c), config_free(d);
    }
}

static void a_trajectory_is_models_at_their_steps(void **state)
{
    struct config *c = read_text("task: geffect\nmodel: {path: [A, {step: 5, path: B}]}\ndata: {forget: F, retain: R}\n");
    assert_int_equal(c->model.n_at, 2);
    assert_string_equal(c->model.path, "A");
    assert_string_equal(c->model.at[1].path, "B");
    assert_int_equal(c->model.at[0].step, 0);
    assert_int_equal(c->model.at[1].step, 5);
    config_free(c);
    c = read_text("model: {path: A}\ndata: {forget: F, retain: R}\n");
    char *text = written(c);
    assert_non_null(strstr(text, "\n  path: A  #")); /* not a list of one */
    free(text);
    config_free(c);
}

/* the tests start in the repository's root */
static void every_input_that_is_shipped_is_read(void **state)
{
    glob_t found = {0};
    assert_int_equal(glob("inputs/*.yaml", 0, NULL, &found), 0);
    glob("inputs/*/*.yaml", GLOB_APPEND, NULL, &found);
    assert_true(found.gl_pathc >= 5);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *text;
        size_t n;
        assert_int_equal(file_read(found.gl_pathv[i], CONFIG_MOST, &text, &n), OK);
        config_free(read_with(found.gl_pathv[i], text, 0, NULL));
        free(text);
    }
    globfree(&found);
}

/* "PATH|VALUE|DEFAULT|" of every key. */
static enum status add_key(void *to, const struct key_text *key)
{
    assert_true(*key->meaning);
    return text_print(to, "%s|%s|%s|", key->path, key->value, key->fallback);
}

static void every_line_written_has_a_meaning_and_every_key_is_described(void **state)
{
    struct config *c = read_text(BASE "objective: {name: npo, beta: 0.5, regularizer: kl}");
    struct text described = {0};
    char *text = written(c), *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!strstr(line, "  # ") && strcmp(line, "    unlearn:") != 0 && strcmp(line, "    retain:") != 0)
            fail_msg("no comment: %s", line);
    assert_int_equal(config_keys(add_key, &described), OK);
    static const char *const some[] = {"task|finetune | ", "|train.epochs|a number above 0|5|", "|1.0e-05|", "|by task|",
                                       "|required|"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) assert_non_null(strstr(described.data, some[i]));
    text_free(&described);
    free(text);
    config_free(c);
}

static void an_override_replaces_or_adds_any_key(void **state)
{
    struct config *c = override_with(BASE "train: {epochs: 3}", "train.epochs=7", "train.batch_size=2");
    assert_true(c->train.epochs == 7);
    assert_int_equal(c->train.batch_size, 2);
    assert_string_equal(c->text, BASE "train: {epochs: 3}");
    assert_string_equal(c->overrides, "train.epochs=7\ntrain.batch_size=2");
    struct place epochs = config_place(c, "train.epochs"), shuffle = config_place(c, "train.shuffle");
    assert_string_equal(place_text(&epochs), "command line: train.epochs=7");
    assert_string_equal(place_text(&shuffle), "in.yaml");
    config_free(c);
    c = override_with(BASE, "train={epochs: 2, steps: 3}", "train.steps=null");
    assert_true(c->train.epochs == 2);
    assert_int_equal(c->train.steps, CONFIG_NULL);
    config_free(c);
    c = override_with(BASE, "seed=1", "seed=2");
    assert_int_equal(c->seed, 2);
    config_free(c);
    c = override_with("data: {forget: F, retain: R}", "model.path=M", NULL);
    config_free(c);
}

static void an_override_has_its_own_line_breaks(void **state)
{
    static const char block[] = "task: generate\nmodel: {path: M}\ngenerate:\n  prompt: |\n    Once\n";
    struct config *c = override_with(block, "generate.prompt=Hi", NULL);
    assert_string_equal(c->generate.prompt, "Hi");
    config_free(c);
    c = override_with(block, "generate.prompt=|+\n Hi\n\n", NULL);
    assert_string_equal(c->generate.prompt, "Hi\n\n");
    config_free(c);
}

static void an_override_enters_short_forms_and_defaults(void **state)
{
    struct config *c = override_with(BASE, "data.forget.rows=10", "geffect.risks.retain.rows=20");
    assert_data(&c->data.forget, "F", 10);
    assert_int_equal(c->geffect.n_risk, 2);
    assert_risk(&c->geffect.risk[0], "unlearn", "forget", CONFIG_ALL);
    assert_risk(&c->geffect.risk[1], "retain", "retain", 20);
    assert_string_equal(place_text(&c->geffect.risk[1].rows_place), "command line: geffect.risks.retain.rows=20");
    assert_true(config_wrote(c, &c->geffect.risk[1].rows_place));
    config_free(c);
    c = override_with(BASE, "geffect.risks.unlearn.rows=4", NULL);
    assert_risk(&c->geffect.risk[1], "retain", "retain", 400);
    assert_true(config_wrote(c, &c->geffect.risk[0].rows_place) && !config_wrote(c, &c->geffect.risk[1].rows_place));
    config_free(c);
    c = read_text(BASE "geffect: {risks: {kept: {data: retain, rows: 400}, all: forget}}");
    assert_true(config_wrote(c, &c->geffect.risk[0].rows_place) && !config_wrote(c, &c->geffect.risk[1].rows_place));
    assert_string_equal(c->overrides, "");
    config_free(c);
    c = override_with(BASE "objective: wga", "objective.alpha=0.5", "objective.regularizer=kl");
    assert_string_equal(c->objective.name, "wga");
    assert_true(c->objective.setting[0].number == 0.5);
    assert_string_equal(place_text(&c->objective.setting[0].place), "command line: objective.alpha=0.5");
    assert_string_equal(c->regularizer[0].name, "kl");
    config_free(c);
    c = override_with(BASE "objective: {name: npo, regularizer: [kl]}", "objective.regularizer.weight=3",
                      "geffect.risks.more=x.jsonl");
    assert_true(c->n_regularizer == 1 && c->regularizer[0].weight == 3);
    assert_risk(&c->geffect.risk[2], "more", "x.jsonl", CONFIG_ALL);
    config_free(c);
    c = override_with(BASE, "objective.beta=0.1", "data.idk.path=refusals = all.txt");
    assert_string_equal(c->objective.name, "npo");
    assert_true(c->objective.setting[0].number == 0.1);
    assert_string_equal(c->data.idk, "refusals = all.txt");
    config_free(c);
    c = override_with(BASE, "optimizer.lr=1e-4", "objective.regularizer={name: gd}");
    assert_true(c->optimizer.lr == 1e-4);
    config_free(c);
}

static void places_lead_to_what_was_written(void **state)
{
    struct config *c =
        read_text("model:\n  path: M\ndata:\n  forget: F\n  retain: {rows: 3, path: R}\n  template: llama2\n"
                  "parallel: {tensor: 2}\ngeffect:\n  risks:\n    a: {rows: 3, data: x}\n");
    struct place tensor = config_place(c, "parallel.tensor");
    assert_string_equal(place_text(&c->model.place), "in.yaml:2:9");
    assert_string_equal(place_text(&c->data.forget.place), "in.yaml:4:11");
    assert_string_equal(place_text(&c->data.retain.place), "in.yaml:5:27");
    assert_string_equal(place_text(&c->data.template_place), "in.yaml:6:13");
    assert_string_equal(place_text(&c->parallel.place), "in.yaml:7:11");
    assert_string_equal(place_text(&tensor), "in.yaml:7:20");
    assert_string_equal(place_text(&c->geffect.risk[0].place), "in.yaml:10:24");
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_may_be_spelt_in_every_legal_way),
        cmocka_unit_test(short_forms_stand_for_their_key),
        cmocka_unit_test(parameters_of_objectives_are_kept_with_their_places),
        cmocka_unit_test(a_bare_name_to_measure_takes_the_settings_of_the_objective),
        cmocka_unit_test(a_template_in_parts_has_no_name_and_empty_parts),
        cmocka_unit_test(a_template_has_settings_beside_its_name_or_parts),
        cmocka_unit_test(a_guard_is_off_unless_it_is_asked_for),
        cmocka_unit_test(sections_may_be_left_empty_and_files_null),
        cmocka_unit_test(null_means_not_given_for_every_key),
        cmocka_unit_test(null_means_not_given_inside_lists_and_names),
        cmocka_unit_test(yaml_and_json_may_be_spelt_in_many_ways),
        cmocka_unit_test(json_may_write_a_character_as_two_escapes),
        cmocka_unit_test(line_breaks_that_end_folded_text_count_only_in_text),
        cmocka_unit_test(what_is_written_reads_back_to_the_same),
        cmocka_unit_test(a_trajectory_is_models_at_their_steps),
        cmocka_unit_test(every_input_that_is_shipped_is_read),
        cmocka_unit_test(every_line_written_has_a_meaning_and_every_key_is_described),
        cmocka_unit_test(an_override_replaces_or_adds_any_key),
        cmocka_unit_test(an_override_has_its_own_line_breaks),
        cmocka_unit_test(an_override_enters_short_forms_and_defaults),
        cmocka_unit_test(places_lead_to_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
