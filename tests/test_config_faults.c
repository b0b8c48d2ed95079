/* config: every wrong input is refused at its place, in words that help.                                   NP: 1 */
#include "near.h"

#include "unlearn/config.h"

#define BASE "model: {path: M}\ndata: {forget: F, retain: R}\n" /* what is needed; a case begins in line 3 */

struct wrong {
    const char *text, *place, *fragment; /* the message is "PLACE: ... fragment ..." */
};

static void refuse(const char *text, size_t n, int n_override, char *const *override, const char *place,
                   const char *fragment)
{
    struct config *c = NULL;
    char start[256];
    snprintf(start, sizeof start, "%s: ", place);
    fail_clear();
    enum status st = config_parse("in.yaml", text, n, n_override, override, &c);
    const char *message = fail_message();
    if (st != ERR_INPUT || c || strncmp(message, start, strlen(start)) != 0 || !strstr(message, fragment))
        fail_msg("status %d, message \"%s\"; expected %s ... %s; for:\n%s", (int)st, message, place, fragment, text);
    fail_clear();
}

static void refuse_all(size_t n, const struct wrong *w, const char *before)
{
    char text[4096];
    for (size_t i = 0; i < n; i++) {
        int length = snprintf(text, sizeof text, "%s%s", before, w[i].text);
        refuse(text, (size_t)length, 0, NULL, w[i].place, w[i].fragment);
    }
}
#define REFUSE(cases, before) refuse_all(sizeof cases / sizeof *cases, cases, before)

static void a_value_that_is_no_number_is_refused_where_it_stands(void **state)
{
    static const struct wrong cases[] = {
        {"optimizer: {lr: 0.5x}", "in.yaml:3:17", "optimizer.lr: expected a number, 0 or more; found \"0.5x\""},
        {"optimizer: {lr: 1e}", "in.yaml:3:17", "digits are missing after the e"},
        {"optimizer: {lr: 010}", "in.yaml:3:17", "leading zero"},
        {"optimizer: {lr: 00.5}", "in.yaml:3:17", "leading zero"},
        {"optimizer: {lr: 1e400}", "in.yaml:3:17", "beyond what a double holds"},
        {"optimizer: {lr: 1e-400}", "in.yaml:3:17", "beyond what a double holds"},
        {"optimizer: {lr: .nan}", "in.yaml:3:17", "must be finite"},
        {"optimizer: {lr: NaN}", "in.yaml:3:17", "must be finite"},
        {"optimizer: {lr: -.inf}", "in.yaml:3:17", "must be finite"},
        {"optimizer: {lr: Infinity}", "in.yaml:3:17", "must be finite"},
        {"optimizer:\n  lr: 1,5\n", "in.yaml:4:7", "the decimal sign is a point"},
        {"optimizer: {lr: 1_000}", "in.yaml:3:17", "nothing separates thousands"},
        {"optimizer: {lr: 0x10}", "in.yaml:3:17", "found \"0x10\""},
        {"optimizer: {lr: 1 2}", "in.yaml:3:17", "found \"1 2\""},
        {"optimizer: {lr: .}", "in.yaml:3:17", "found \".\""},
        {"optimizer: {lr: \"1e-5\"}", "in.yaml:3:17", "without quotes"},
        {"optimizer: {lr: !!str 1e-5}", "in.yaml:3:17", "without quotes"},
        {"optimizer: {lr: auto}", "in.yaml:3:17", "expected a number"},
        {"optimizer: {lr: 'null'}", "in.yaml:3:17", "without quotes"},
        {"optimizer: {betas: [null]}", "in.yaml:3:20", "a list of two numbers"},
        {"optimizer: {lr: [1]}", "in.yaml:3:17", "found a list"},
        {"optimizer: {lr: {a: 1}}", "in.yaml:3:17", "found a mapping"},
        {"train: {batch_size: 2.5}", "in.yaml:3:21", "it must be whole"},
        {"train: {batch_size: -1}", "in.yaml:3:21", "it must not be negative"},
        {"train: {batch_size: 99999999999999999999}", "in.yaml:3:21", "too large"},
        {"train: {batch_size: 1e300}", "in.yaml:3:21", "too large"},
        {"train: {batch_size: four}", "in.yaml:3:21", "expected a whole number, 1 to 1000000; found \"four\""},
        {"train: {batch_size: auto}", "in.yaml:3:21", "found \"auto\""},
        {"train: {batch_size: true}", "in.yaml:3:21", "found \"true\""},
        {"train: {steps: all}", "in.yaml:3:16", "or null; found \"all\""},
        {"seed: 9223372036854775808", "in.yaml:3:7", "too large"},
        {"seed: -1", "in.yaml:3:7", "negative"},
        {"seed: 0.5", "in.yaml:3:7", "whole"},
        {"train: {shuffle: yes}", "in.yaml:3:18", "expected true or false; found \"yes\""},
        {"train: {shuffle: 1}", "in.yaml:3:18", "expected true or false"},
        {"train: {shuffle: True}", "in.yaml:3:18", "expected true or false"},
        {"train: {shuffle: \"true\"}", "in.yaml:3:18", "without quotes"},
        {"optimizer: {betas: 0.9}", "in.yaml:3:20", "expected a list of two numbers"},
        {"optimizer: {betas: [0.9]}", "in.yaml:3:20", "expected a list of two numbers"},
        {"optimizer: {betas: [0.9, x]}", "in.yaml:3:26", "found \"x\""},
        {"parallel: {data: all}", "in.yaml:3:18", "or auto; found \"all\""},
    };
    REFUSE(cases, BASE);
}

static void a_number_outside_its_range_is_refused_with_the_range(void **state)
{
    static const struct wrong cases[] = {
        {"train: {epochs: 0}", "in.yaml:3:17", "a number above 0"},
        {"train: {epochs: -3}", "in.yaml:3:17", "a number above 0"},
        {"train: {batch_size: 0}", "in.yaml:3:21", "1 to 1000000"},
        {"train: {accumulation: 1000001}", "in.yaml:3:23", "1 to 1000000"},
        {"train: {steps: 1e15, batch_size: 1e7}", "in.yaml:3:34", "too large"},
        {"train: {steps: 2e15}", "in.yaml:3:16", "too large"},
        {"optimizer: {lr: -1e-5}", "in.yaml:3:17", "0 or more"},
        {"optimizer: {eps: 0}", "in.yaml:3:18", "above 0"},
        {"optimizer: {clip: -0.1}", "in.yaml:3:19", "0 or more"},
        {"optimizer: {betas: [0.9, 1]}", "in.yaml:3:26", "0 or more and below 1"},
        {"parallel: {threads: 0}", "in.yaml:3:21", "1 to 4096, or auto"},
        {"objective: {name: npo, regularizer: {name: kl, weight: -1}}", "in.yaml:3:56", "0 or more"},
        {"geffect: {risks: {a: {data: forget, rows: 0}}}", "in.yaml:3:43", "rows: expected a whole number, 1 or more"},
        {"geffect: {risks: {}}", "in.yaml:3:18", "must not be empty"},
    };
    REFUSE(cases, BASE);
    REFUSE(
        ((const struct wrong[]){{"data: {forget: F, retain: R, max_length: 1}", "in.yaml:2:42", "2 to 10000000"},
                                {"data: {retain: R, forget: {path: F, rows: 0}}", "in.yaml:2:43", "1 or more, or all"}}),
        "model: {path: M}\n");
}

static void an_unknown_key_is_named_with_the_nearest(void **state)
{
    static const struct wrong cases[] = {
        {"objetive: npo", "in.yaml:3:1", "unknown key \"objetive\"; did you mean \"objective\"?"},
        {"optimiser: {lr: 1}", "in.yaml:3:1", "did you mean \"optimizer\"?"},
        {"train:\n  epcohs: 3", "in.yaml:4:3", "unknown key \"epcohs\" in train; did you mean \"epochs\"?"},
        {"lr: 1e-4", "in.yaml:3:1", "did you mean optimizer.lr?"},
        {"train: {nothing_like_it: 1}", "in.yaml:3:9", "the keys are epochs, steps, batch_size"},
        {"objective: {name: npo, regulariser: kl}", "in.yaml:3:24", "did you mean \"regularizer\"?"},
        {"objective: {name: npo, regularizers: [kl]}", "in.yaml:3:24", "did you mean \"regularizer\"?"},
        {"geffect: {risks: {a: {data: forget, row: 3}}}", "in.yaml:3:37", "did you mean \"rows\"?"},
        {"geffect: {risks: {a: {data: forget, \"*\": 3}}}", "in.yaml:3:37", "unknown key \"*\""},
        {"\"*\": 1", "in.yaml:3:1", "unknown key"},
        {"\"\": 1", "in.yaml:3:1", "unknown key \"\""},
        {"train.epochs: 3", "in.yaml:3:1", "unknown key \"train.epochs\""},
        {"<<: {seed: 1}", "in.yaml:3:1", "unknown key \"<<\""},
    };
    REFUSE(cases, BASE);
}

static void a_wrong_kind_of_value_is_refused_with_the_right_one(void **state)
{
    static const struct wrong cases[] = {
        {"train: 5", "in.yaml:3:8", "train: expected a mapping of keys; found \"5\""},
        {"train: [1]", "in.yaml:3:8", "expected a mapping of keys; found a list"},
        {"objective: [npo, ga]", "in.yaml:3:12", "a mapping of keys or a plain name; found a list"},
        {"optimizer: {name: adam}", "in.yaml:3:19", "expected adamw | sgd; found \"adam\" (did you mean adamw?)"},
        {"optimizer: {schedule: Linear}", "in.yaml:3:23", "did you mean linear?"},
        {"optimizer: {schedule: [linear]}", "in.yaml:3:23", "constant | linear | cosine; found a list"},
        {"task: train", "in.yaml:3:7", "expected finetune | unlearn | geffect"},
        {"objective: {name: n po}", "in.yaml:3:19", "no blanks"},
        {"objective: {name: \"\"}", "in.yaml:3:19", "must not be empty"},
        {"objective: {beta: 1}", "in.yaml:3:12", "objective.name is missing"},
        {"objective: {name: npo, beta: [1, 2]}", "in.yaml:3:30", "expected a number or text; found a list"},
        {"objective: {name: npo, beta: {a: 1}}", "in.yaml:3:30", "found a mapping of keys"},
        {"objective: {name: npo, be ta: 1}", "in.yaml:3:24", "cannot be the name of a parameter"},
        {"objective: {name: npo, regularizer: [kl, {weight: 2}]}", "in.yaml:3:42", "name is missing"},
        {"objective: {name: npo, regularizer: [[kl]]}", "in.yaml:3:38", "found a list"},
        {"objective: {name: npo, regularizer: [null]}", "in.yaml:3:38", "found nothing"},
        {"geffect: {risks: forget}", "in.yaml:3:18", "expected a mapping from names"},
        {"geffect: {risks: {a: }}", "in.yaml:3:18", "must not be empty"},
        {"train: {freeze: [embed, null]}", "in.yaml:3:25", "found nothing"},
        {"geffect: {risks: {a: {rows: 3}}}", "in.yaml:3:22", "data is missing"},
        {"geffect: {risks: {\"\": forget}}", "in.yaml:3:19", "must not be empty"},
        {"output: {directory: \"a\\nb\"}", "in.yaml:3:21", "no control characters"},
        {"output: {directory: \"a\\0b\"}", "in.yaml:3:21", "NUL"},
        {"output: {directory: [a]}", "in.yaml:3:21", "expected a path, or null; found a list"},
        {"evaluate: {metrics: {a: b}}", "in.yaml:3:21", "expected a list of names"},
        {"evaluate: {sets: {forget: [a]}}", "in.yaml:3:27", "found a list"},
        {"evaluate: {rows: x}", "in.yaml:3:18", "found \"x\""},
    };
    REFUSE(cases, BASE);
    REFUSE(((const struct wrong[]){
               {"data: {forget: F, retain: R, template: {}}", "in.yaml:2:40", "give its name"},
               {"data: {forget: F, retain: R, template: {name: qa, answer_start: A}}", "in.yaml:2:40", "not both"},
               {"data: {forget: F, retain: R, template: {name: null}}", "in.yaml:2:40", "give its name"},
               {"data: {forget: [F], retain: R}", "in.yaml:2:16", "found a list"},
               {"data: {forget: \"\", retain: R}", "in.yaml:2:16", "must not be empty"}}),
           "model: {path: M}\n");
}

static void what_a_task_needs_must_be_there(void **state)
{
    static const struct wrong cases[] = {
        {"data: {forget: F, retain: R}", "in.yaml", "model.path is missing: the directory of the model"},
        {"model: {path: null}\ndata: {forget: F, retain: R}", "in.yaml:1:15", "model.path is missing"},
        {"model: {path: {path: ~, step: 1}}\ndata: {forget: F, retain: R}", "in.yaml:1:22",
         "path is missing: the directory of the model"},
        {"model: null\ndata: {forget: F, retain: R}", "in.yaml", "model.path is missing: the directory of the model"},
        {"model: {path: M}\ndata: {forget: {path: null}, retain: R}", "in.yaml:2:23", "data.forget.path is missing"},
        {BASE "objective: {name: null}", "in.yaml:3:19", "objective.name is missing: which objective"},
        {BASE "objective: {name: npo, regularizer: {name: }}", "in.yaml:3:44", "name is missing: which regularizer"},
        {BASE "geffect: {risks: {a: {data: null}}}", "in.yaml:3:29", "data is missing: forget, retain or the path"},
        {"task: evaluate\nmodel: {path: M}\nevaluate: {sets: {forget: null}}", "in.yaml:3:18",
         "evaluate.sets is missing: the files"},
        {"task: evaluate\nmodel: {path: M}\nevaluate: {sets: null}", "in.yaml:3:18",
         "evaluate.sets is missing: the files"},
        {"model: {init: random}\ndata: {forget: F, retain: R}", "in.yaml:1:8", "model.path is missing"},
        {"model: {path: M}\ndata: {retain: R}", "in.yaml", "data.forget.path is missing"},
        {"model: {path: M}\ndata: {forget: F}", "in.yaml", "data.retain.path is missing"},
        {"model: {path: M}\ndata: {forget: F, retain: {rows: 3}}", "in.yaml:2:27", "data.retain.path is missing"},
        {"task: geffect\nmodel: {path: M}\ndata: {forget: F}", "in.yaml", "data.retain.path is missing"},
        {"task: finetune\nmodel: {path: M}", "in.yaml", "data.forget or data.retain"},
        {"task: evaluate\nmodel: {path: M}", "in.yaml", "evaluate.sets is missing"},
        {"task: evaluate\nmodel: {path: M}\nevaluate: {sets: {}}", "in.yaml:3:18", "evaluate.sets is missing"},
        {BASE "evaluate: {every: 5}", "in.yaml:3:19", "evaluate.sets is missing"},
        {BASE "objective: po", "in.yaml:3:12", "data.idk is missing: objective po"},
        {BASE "objective: {name: dpo, beta: 0.1}", "in.yaml:3:19", "data.idk is missing"},
        {"task: generate\nmodel: {path: m}", "in.yaml:1:7",
         "generate.prompts is missing: task generate needs a file of prompts"},
        {"task: generate\nmodel: {path: m}\ngenerate: {prompts: p, prompt: q}", "in.yaml:3:32", "not both"},
        {"task: generate\nmodel: {path: m}\ngenerate: {prompts: p, top_p: 0}", "in.yaml:3:31",
         "generate.top_p: expected a number above 0, 1 at most"},
        {BASE "geffect: {objectives: [ga, idk]}", "in.yaml:3:28", "data.idk is missing: objective idk"},
        {"", "in.yaml", "empty"},
        {"# only a comment\n", "in.yaml", "empty"},
        {"[1, 2]", "in.yaml:1:1", "an input is a mapping of keys"},
        {"hello", "in.yaml:1:1", "an input is a mapping of keys"},
    };
    REFUSE(cases, "");
}

static void a_guard_that_says_nonsense_is_refused(void **state)
{
    static const struct wrong cases[] = {
        {"guard: {stop: 3}", "in.yaml:3:9", "unknown key \"stop\" in guard"},
        {"guard: {frieze: 3}", "in.yaml:3:9", "did you mean \"freeze\"?"},
        {"guard: {retain: {budget: 0}}", "in.yaml:3:26", "guard.retain.budget: expected a number above 0, or auto"},
        {"guard: {retain: -0.5}", "in.yaml:3:17", "guard.retain.budget: expected a number above 0"},
        {"guard: {retain: {budget: 1, do: step_bak}}", "in.yaml:3:33", "did you mean step_back?"},
        {"guard: {retain: {budget: 1, of: guessed}}", "in.yaml:3:33", "measured | predicted"},
        {"guard: {retain: {budget: 1, limits: rises}}", "in.yaml:3:37", "did you mean rise?"},
        {"guard: {freeze: -1}", "in.yaml:3:17", "guard.freeze.layers"},
        {"guard: {freeze: {layer: 1}}", "in.yaml:3:18", "did you mean \"layers\"?"},
        {"guard: {project: true}", "in.yaml:3:18", "guard.project: expected a number, 0 to 1"},
        {"guard: {project: 1.5}", "in.yaml:3:18", "expected a number, 0 to 1"},
        {"guard: stop", "in.yaml:3:8", "guard: expected a mapping"},
    };
    REFUSE(cases, BASE);
}

static void what_is_for_later_says_so(void **state)
{
    static const struct wrong cases[] = {
        {"parallel: {recompute: layer}", "in.yaml:3:23", "parallel.recompute"},
        {"parallel: {risks: both}", "in.yaml:3:19", "parallel.risks"},

        {"precision: float16", "in.yaml:3:12", "did you mean bfloat16?"},
        {"precision: bfloat16\nparallel: {products: blas}", "in.yaml:3:12", "leave out parallel.products"},
        {"parallel: {products: mkl}", "in.yaml:3:22", "parallel.products"},
        {"geffect: {fidelity: maybe}", "in.yaml:3:21", "expected true or false"},
        {"geffect: {curvature: maybe}", "in.yaml:3:22", "geffect.curvature.update: expected true or false"},
        {"geffect: {curvature: {windw: 3}}", "in.yaml:3:23", "did you mean \"window\"?"},
        {"geffect: {curvature: {window: -1}}", "in.yaml:3:31", "geffect.curvature.window"},
        {"geffect: {estimator: moving_average, curvature: true}", "in.yaml:3:22", "geffect.curvature needs full"},
        {"geffect: {estimator: moving_average, fidelity: true}", "in.yaml:3:22", "geffect.fidelity needs full"},
    };
    REFUSE(cases, BASE);
}

static void pairs_say_which_rows_and_are_never_left_out_in_silence(void **state)
{
    static const struct wrong cases[] = {
        {"geffect: {pairs: retian}", "in.yaml:3:18", "did you mean retain?"},
        {"geffect: {pairs: 3}", "in.yaml:3:18", "expected false | retain | forget | true"},
        {"geffect: {pairs: [retain]}", "in.yaml:3:18", "or a plain with"},
        {"geffect: {pairs: {with: retain, row: 3}}", "in.yaml:3:33", "did you mean \"rows\"?"},
        {"geffect: {pairs: {with: retain, rows: 0}}", "in.yaml:3:39", "1 or more, or auto, or all"},
        {"geffect: {pairs: {rows: 3}}", "in.yaml:3:25", "of which file"},
        {"geffect: {every: 0, pairs: true}", "in.yaml:3:28", "geffect.every of 1 or more"},
        {"task: finetune\ngeffect: {pairs: true}", "in.yaml:4:18", "nothing is measured: choose task"},
        {"task: evaluate\nevaluate: {sets: {forget: F}}\ngeffect: {pairs: {with: forget}}", "in.yaml:5:25",
         "nothing is measured"},
    };
    REFUSE(cases, BASE);
}

static void a_trajectory_is_refused_where_it_is_none(void **state)
{
    static const struct wrong cases[] = {
        {"model: {path: []}\ndata: {forget: F, retain: R}\ntask: geffect", "in.yaml:1:15", "must not be empty"},
        {"model: {path: [A, B]}\ndata: {forget: F, retain: R}\ntask: geffect", "in.yaml:1:19",
         "step 0 does not come after 0"},
        {"model: {path: [A, {step: 5, path: B}]}\ndata: {forget: F, retain: R}", "in.yaml:1:35", "task geffect"},
        {"model: {path: [{step: 5}]}\ndata: {forget: F, retain: R}\ntask: geffect", "in.yaml:1:16", "path is missing"},
        {"model: {path: [{at: 5, path: A}]}\ndata: {forget: F, retain: R}\ntask: geffect", "in.yaml:1:17", "at"},
    };
    REFUSE(cases, "");
}

static void what_is_no_plain_yaml_is_refused_with_its_line(void **state)
{
    static const struct wrong cases[] = {
        {"train:\n\tepochs: 3", "in.yaml:4:1", "indent with spaces"},
        {"train:\n  epochs: 3\n\tsteps: 4", "in.yaml:5:1", "indent with spaces"},
        {"output: {directory: \"x}", "in.yaml:3:24", "not readable as YAML"},
        {"train: {epochs: 3", "in.yaml:4:1", "not readable as YAML"},
        {"train:\n  epochs: 3\n steps: 4", "in.yaml:5:2", "that begins in line 1"},
        {"seed: 1\nseed: 2", "in.yaml:4:1", "the key \"seed\" stands here for the second time (first in line 3)"},
        {"train: {epochs: 1, epochs: 2}", "in.yaml:3:20", "second time"},
        {"train: {epochs: 1, \"epochs\": 2}", "in.yaml:3:20", "second time"},
        {"train: &a {epochs: 1}", "in.yaml:3:8", "anchors and aliases"},
        {"train: *a", "in.yaml:3:8", "anchors and aliases"},
        {"output: {directory: !include x}", "in.yaml:3:21", "the tag !include"},
        {"output: {directory: !!python/object x}", "in.yaml:3:21", "the tag tag:yaml.org,2002:python/object"},
        {"train: !!str {epochs: 1}", "in.yaml:3:8", "the tag"},
        {"---\nseed: 2", "in.yaml:3:1", "a second document begins here"},
        {"...\nseed: 2", "in.yaml:4:1", "one document is read"},
        {"[a, b]: 1", "in.yaml:3:1", "a key must be a word"},
        {"? {a: b}\n: 1", "in.yaml:3:3", "a key must be a word"},
        {"seed: 1\rbad word\n    \n  \nx: 1", "in.yaml:7:1",
         "could not find expected ':'"}, /* a return ends a line, too */
        {"seed: \x01", "in.yaml:3:7", "control characters are not allowed"},
        {"output: {directory: \"\xc3\x28\"}", "in.yaml:3:23", "not UTF-8 text"},
        {"output: {directory: M\xfcller}", "in.yaml:3:22", "not UTF-8 text"},
    };
    REFUSE(cases, BASE);
    REFUSE(((const struct wrong[]){{"{\"seed\": 1} x", "in.yaml:1:13", "ended before this"},
                                   {"{\"seed\": 1,, }", "in.yaml:1:12", "not readable"},
                                   {"\xff\xfe{", "in.yaml:1:1", "not UTF-8"}}),
           "");
    refuse("seed: 1\0\n", 9, 0, NULL, "in.yaml:1:8", "control characters are not allowed");
}

static void a_wrong_override_is_refused_by_its_own_words(void **state)
{
    static const struct {
        const char *override, *fragment;
    } cases[] = {
        {"train.epochs=0.5x", "found \"0.5x\""},
        {"train.epcohs=3", "did you mean \"epochs\"?"},
        {"objetive.beta=3", "did you mean \"objective\"?"},
        {"train={epochs: 3", "not readable as YAML"},
        {"train=[1]", "found a list"},
        {"train.epochs.more=1", "train.epochs holds a value without keys"},
        {"objective.regularizer.weight=2", "name is missing"},
        {"geffect.risks.new.rows=2", "data is missing"},
        {"geffect.curvature=2", "geffect.curvature.update: expected true or false; found \"2\""},
        {"model.path=", "model.path is missing"},
        {"model.path=\"a\\0b\"", "NUL"},
        {"seed=*a", "anchors and aliases"},
        {"seed=--- 1\n--- 2", "second document"},
        {"data.template={name: qa, answer_start: A}", "not both"},
        {"objective=[npo]", "found a list"},
        {"geffect.risks.a\xff=forget", "not UTF-8 text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char place[256];
        char *const override[] = {(char *)(uintptr_t)cases[i].override};
        snprintf(place, sizeof place, "command line: %s", cases[i].override);
        char *newline = strchr(place, '\n'); /* shown as \x0a */
        if (newline) *newline = 0;
        struct config *c = NULL;
        fail_clear();
        assert_int_equal(config_parse("in.yaml", BASE, strlen(BASE), 1, override, &c), ERR_INPUT);
        assert_null(c);
        if (strncmp(fail_message(), place, strlen(place)) != 0) fail_msg("%s", fail_message());
        if (!strstr(fail_message(), cases[i].fragment)) fail_msg("%s", fail_message());
    }
}

static void an_override_without_key_or_value_is_a_wrong_command_line(void **state)
{
    static const char *const wrong[] = {"train", "=3", "train.=3", ".train=3", "train..epochs=3", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *const override[] = {(char *)(uintptr_t)wrong[i]};
        struct config *c = NULL;
        fail_clear();
        assert_int_equal(config_parse("in.yaml", BASE, strlen(BASE), 1, override, &c), ERR_USAGE);
        assert_null(c);
        assert_non_null(strstr(fail_message(), "expected key.sub=value"));
    }
    fail_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_that_is_no_number_is_refused_where_it_stands),
        cmocka_unit_test(a_number_outside_its_range_is_refused_with_the_range),
        cmocka_unit_test(an_unknown_key_is_named_with_the_nearest),
        cmocka_unit_test(a_wrong_kind_of_value_is_refused_with_the_right_one),
        cmocka_unit_test(what_a_task_needs_must_be_there),
        cmocka_unit_test(a_guard_that_says_nonsense_is_refused),
        cmocka_unit_test(what_is_for_later_says_so),
        cmocka_unit_test(pairs_say_which_rows_and_are_never_left_out_in_silence),
        cmocka_unit_test(a_trajectory_is_refused_where_it_is_none),
        cmocka_unit_test(what_is_no_plain_yaml_is_refused_with_its_line),
        cmocka_unit_test(a_wrong_override_is_refused_by_its_own_words),
        cmocka_unit_test(an_override_without_key_or_value_is_a_wrong_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
