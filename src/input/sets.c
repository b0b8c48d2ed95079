/* What is evaluated: the scores asked for, and the files of questions with answers, paraphrases and wrong answers.
 * World rank 0 reads and sends ids and labels to all; it alone keeps the texts, to compare them. */
#include "unlearn/input_priv.h"
#include <stdlib.h>
#include <string.h>

static const char HOLDOUT[] = "holdout"; /* membership attacks compare it with forget; it gets no generated answers */
static const struct {
    const char *question, *answer;
    unsigned needs;
} keys[N_VARIANT_OF] = {
    [OF_ANSWER] = {"question", "answer", 0},
    [OF_PARAPHRASED] = {"question", "paraphrased_answer", WANTS_PARAPHRASED},
    [OF_PERTURBED] = {"question", "perturbed_answer", WANTS_PERTURBED},
    [OF_QUESTION] = {"paraphrased_question", "answer", WANTS_QUESTION},
};

const struct evaluated_set *evaluated_set(const struct inputs *in, const char *name)
{
    for (size_t i = 0; in->evaluation && i < in->evaluation->n; i++)
        if (!strcmp(in->evaluation->set[i].name, name)) return &in->evaluation->set[i];
    return NULL;
}

/* -------------------------------------------------------------------------------------------------- scores ------- */
static enum status unknown_score(const struct inputs *in, const char *name)
{
    const struct place place = config_place(in->config, "evaluate.metrics");
    struct text list = {0};
    enum status st = OK;
    for (int k = 0; k < N_SCORE && st == OK; k++) st = text_print(&list, "%s%s", k ? ", " : "", score_table[k].name);
    if (st == OK)
        st = fail(ERR_INPUT, "%s: evaluate.metrics: there is no \"%s\"; use all, or some of %s", place_text(&place), name,
                  list.data);
    text_free(&list);
    return st;
}

/* Whether there is another model to compare with: the one that training starts from, the first of several, or
 * model.reference. */
static bool has_reference(const struct inputs *in)
{
    const struct config *c = in->config;
    return in->trains || c->model.n_at > 1 || (c->model.reference && strcmp(c->model.reference, c->model.path));
}

static enum status want(const struct inputs *in, struct evaluation_inputs *e, const char *name)
{
    const bool all = !strcmp(name, "all");
    const unsigned reference = WANTS_REFERENCE | WANTS_KL;
    bool found = false;
    for (int k = 0; k < N_SCORE; k++) {
        const struct score_row *row = &score_table[k];
        if (!all && strcmp(name, row->name)) continue;
        if (!score_of_benchmark(in->config, (enum score)k)) {
            const struct place place = config_place(in->config, "evaluate.metrics");
            if (all) continue;
            return fail(ERR_INPUT, "%s: evaluate.metrics: evaluate.benchmark has nothing that %s could be computed from",
                        place_text(&place), name);
        }
        found = true;
        if (row->needs & reference && !has_reference(in)) {
            const struct place place = config_place(in->config, "evaluate.metrics");
            if (all) continue;
            return fail(ERR_INPUT, "%s: evaluate.metrics: %s needs model.reference, another model than model.path",
                        place_text(&place), name);
        }
        e->wanted[k] = true;
        e->needs |= row->needs | WANTS_NLL;
    }
    return found ? OK : unknown_score(in, name);
}

bool scores_possible(const struct evaluated_set *s, enum score which)
{
    const unsigned needs = score_table[which].needs;
    if (needs & WANTS_CHOICES) return s->of[OF_ANSWER].data != NULL;
    if (needs & WANTS_PERTURBED && !s->of[OF_PERTURBED].data) return false;
    if (needs & WANTS_QUESTION && !s->of[OF_QUESTION].data) return false;
    return !(needs & WANTS_GENERATION) || s->generates;
}

static struct score_rule rule_of(const struct config *c)
{
    return (struct score_rule){.min_k = c->evaluate.min_k,
                               .tiny = c->evaluate.variant == VARIANT_OPEN_UNLEARNING ? 1e-10 : 0,
                               .privleak_auc = c->evaluate.privleak_auc,
                               .without_end = c->evaluate.end_token == END_OUT,
                               .one_extracted = c->evaluate.none_extracted == EXTRACTED_ONE,
                               .geometric = c->evaluate.truth_ratio == RATIO_GEOMETRIC,
                               .empty_zero = c->evaluate.variant == VARIANT_OPEN_UNLEARNING};
}

enum status inputs_scores(struct inputs *in, struct evaluation_inputs **out)
{
    const struct config *c = in->config;
    struct evaluation_inputs *e = NULL;
    enum status st = OK;
    if (c->task != TASK_EVALUATE && !(in->trains && c->evaluate.every)) return OK;
    TRY_NEW(e, 1);
    e->rule = rule_of(c);
    for (size_t i = 0; i < c->evaluate.n_metric; i++) TRY(want(in, e, c->evaluate.metric[i]));
    if (!e->needs) {
        const struct place place = config_place(c, "evaluate.metrics");
        st = fail(ERR_INPUT, "%s: evaluate.metrics: names no score: use all, or some", place_text(&place));
    }
    in->needs_distribution = in->needs_distribution || e->needs & WANTS_KL;
done:
    *out = e;
    return st;
}

static enum status share_variants(const struct grid *world, const char *path, struct variants *v)
{
    uint64_t n[3] = {v->n, v->n_lacking, v->lacking};
    enum status st;
    comm_broadcast(world->world, n, sizeof n, 0);
    v->n = n[0], v->n_lacking = n[1], v->lacking = n[2];
    TRY(share_list(world, path, v->n + 1, sizeof *v->first, (void **)&v->first));
    TRY(share_dataset(world, path, &v->data));
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------- one set ------- */
static void warn_lacking(const struct evaluated_set *s, enum variant_of k)
{
    const struct variants *v = &s->of[k];
    const char *key = k == OF_QUESTION ? keys[k].question : keys[k].answer;
    const bool published = !strcmp(s->name, "forget") || !strcmp(s->name, "retain");
    if (v->n_lacking && v->data)
        log_warn("%s: %zu row%s no \"%s\" (first: line %zu): left out of what needs it", s->path, v->n_lacking,
                 v->n_lacking == 1 ? " has" : "s have", key, v->lacking);
    else if (v->n_lacking && published)
        log_warn("%s: no row has \"%s\"%s: evaluate.sets.%s should be the _perturbed file", s->path, key,
                 k == OF_PARAPHRASED ? ", so the answers stand in for their paraphrases" : "", s->name);
}

static enum status read_variant(struct inputs *in, struct evaluation_inputs *e, const struct grid *world,
                                const struct data_rule *rule, struct evaluated_set *s, enum variant_of k)
{
    struct variants *v = &s->of[k];
    const size_t rows = in->config->evaluate.rows, before = in->longest;
    const struct data_file f = {.path = s->path,
                                .question = s->form ? s->form->question : keys[k].question,
                                .answer = s->form ? s->form->answer : keys[k].answer,
                                .text = s->form ? s->form->text : NULL,
                                .single = k != OF_PERTURBED,
                                .rows = rows == CONFIG_ALL ? SIZE_MAX : rows};
    size_t n = 0;
    enum status st = OK;
    if (world->rank == 0)
        st = e->needs & WANTS_CHOICES ? choices_read(&f, rule, v, &s->right) : variants_read(&f, rule, v);
    if (st == OK && k == OF_ANSWER && v->n_lacking)
        st = fail(ERR_INPUT, "%s:%zu: has no \"%s\" or no \"%s\": every row of evaluate.sets.%s needs both", s->path,
                  v->lacking, f.question, f.answer, s->name);
    TRY(grid_agree(world, st));
    TRY(share_variants(world, s->path, v));
    warn_lacking(s, k);
    in->longest = 0; /* rows that are only evaluated must not change the passes of training */
    st = inputs_lengths(in, v->data, true);
    if (in->longest > e->longest) e->longest = in->longest;
    in->longest = before;
    if (v->data && v->data->n_row > e->most_rows) e->most_rows = v->data->n_row;
    for (size_t i = 0; v->data && i < v->data->n_row; i++) n += dataset_labels(v->data, i);
    if (n > e->most_labels) e->most_labels = n;
done:
    return st;
}

/* Tokens of a set's longest prompt with its answer. */
static size_t longest_answered(const struct config *c, const struct evaluated_set *s)
{
    if (s->form) return s->longest_prompt + s->form->new_tokens;
    return c->evaluate.max_length + (c->evaluate.length == LENGTH_NEW ? s->longest_prompt : 0);
}

/* Where the prompt counts: rows that have no room for an answer are scored, as those whose answer is empty. */
static void warn_full(const struct evaluated_set *s, size_t most)
{
    const struct prompts *p = &s->prompts;
    size_t full = 0;
    for (size_t i = 0; i < p->n; i++) full += p->first[i + 1] - p->first[i] >= most;
    if (full)
        log_warn(
            "%s: the prompt%s of %zu row%s %s evaluate.max_length = %zu tokens or more: no room for an answer, so ROUGE "
            "is 0; raise it, or choose evaluate.length: new",
            s->path, full == 1 ? "" : "s", full, full == 1 ? "" : "s", full == 1 ? "has" : "have", most);
}

static enum status read_prompts(struct inputs *in, struct evaluation_inputs *e, const struct grid *world,
                                const struct data_rule *rule, struct evaluated_set *s)
{
    struct prompts *p = &s->prompts;
    const bool generates = e->needs & WANTS_GENERATION && strcmp(s->name, HOLDOUT);
    const struct data_file f = {.path = s->path,
                                .question = s->form ? s->form->question : "question",
                                .answer = s->form ? s->form->answer : "answer",
                                .rows = SIZE_MAX,
                                .continues = generates};
    const bool total = !s->form && in->config->evaluate.length == LENGTH_TOTAL;
    uint64_t n[2] = {0, 0};
    enum status st = OK;
    if (!f.question || e->needs & WANTS_CHOICES) return OK;
    if (world->rank == 0) st = prompts_read(&f, rule, s->n, p), n[0] = p->n, n[1] = p->id.n;
    if (world->rank == 0 && st == OK && s->form) st = set_shorten(s->form, rule->tokenizer, p);
    if (world->rank == 0 && st == OK && !s->form) st = inputs_evaluation_texts(in, e, rule->tokenizer, s);
    TRY(grid_agree(world, st));
    if (!generates) goto done;
    comm_broadcast(world->world, n, sizeof n, 0);
    p->n = n[0], p->id.n = n[1];
    TRY(share_list(world, s->path, p->n + 1, sizeof *p->first, (void **)&p->first));
    TRY(share_list(world, s->path, p->id.n, sizeof *p->id.data, (void **)&p->id.data));
    s->generates = true;
    if (total) warn_full(s, in->config->evaluate.max_length);
    if (p->n > e->most_prompts) e->most_prompts = p->n;
    for (size_t i = 0; i < p->n; i++)
        if (p->first[i + 1] - p->first[i] > s->longest_prompt) s->longest_prompt = p->first[i + 1] - p->first[i];
    if (s->longest_prompt > e->longest_prompt) e->longest_prompt = s->longest_prompt;
    if (longest_answered(in->config, s) > e->longest_answered) e->longest_answered = longest_answered(in->config, s);
done:
    return st;
}

static enum status read_set(struct inputs *in, struct evaluation_inputs *e, const struct grid *world,
                            const struct data_rule *rule, const struct config_set *from, struct evaluated_set *s)
{
    struct data_rule own = *rule;
    struct text start = {0};
    enum status st = OK;
    s->name = from->name, s->path = from->path, s->form = set_form(in->config, from->name);
    if (s->form && world->rank == 0) st = set_rule(in->config, s, &own, &start);
    TRY(grid_agree(world, st));
    TRY(read_variant(in, e, world, &own, s, OF_ANSWER));
    s->n = s->of[OF_ANSWER].n;
    for (int k = 1; k < N_VARIANT_OF; k++)
        if (e->needs & keys[k].needs) TRY(read_variant(in, e, world, &own, s, (enum variant_of)k));
    TRY(read_prompts(in, e, world, &own, s));
    if (s->form && world->rank == 0 && !(e->needs & WANTS_CHOICES)) st = inputs_evaluation_labels(e, rule->tokenizer, s);
    TRY(grid_agree(world, st));
done:
    text_free(&start);
    return st;
}

/* ----------------------------------------------------------------------------------------------------- all ------- */
/* Refuses sets that are only examples for others, and a score that is asked for by name but that no set can give. */
static enum status check_possible(const struct inputs *in)
{
    const struct config *c = in->config;
    const struct place place = config_place(c, "evaluate.metrics"), sets = config_place(c, "evaluate.sets");
    if (!in->evaluation->n)
        return fail(ERR_INPUT, "%s: evaluate.sets: holds only examples for other sets: nothing is evaluated",
                    place_text(&sets));
    for (size_t i = 0; i < c->evaluate.n_metric; i++)
        for (int k = 0; k < N_SCORE; k++) {
            bool any = strcmp(c->evaluate.metric[i], score_table[k].name);
            for (size_t s = 0; s < in->evaluation->n; s++)
                any = any || scores_possible(&in->evaluation->set[s], (enum score)k);
            if (!any)
                return fail(ERR_INPUT,
                            "%s: evaluate.metrics: no row of any of evaluate.sets has what %s needs: give the "
                            "_perturbed files",
                            place_text(&place), score_table[k].name);
        }
    return OK;
}

/* Refuses a log with another number of rows, with which forget quality would mean nothing. */
static enum status read_retain_logs(const struct inputs *in, struct eval_log *log)
{
    const bool tofu = in->config->evaluate.benchmark == BENCHMARK_TOFU;
    const char *path = in->config->evaluate.retain_logs;
    const struct evaluated_set *forget = evaluated_set(in, "forget");
    const struct place place = config_place(in->config, "evaluate.retain_logs");
    enum status st = OK;
    if (!path) return OK;
    TRY(eval_log_read(path, tofu ? 1u << SET_FORGET : 0, log));
    if (in->config->evaluate.benchmark == BENCHMARK_WMDP)
        st = fail(ERR_INPUT, "%s: evaluate.retain_logs: WMDP compares with no other model: leave it out",
                  place_text(&place));
    else if (!tofu && !log->has_min_k)
        st = fail(ERR_INPUT, "%s: has no mia_min_k with agg_value, which privleak compares with", path);
    else if (!tofu)
        return OK;
    else if (!forget)
        st = fail(ERR_INPUT, "%s: evaluate.retain_logs: there is nothing to compare it with: give evaluate.sets.forget",
                  place_text(&place));
    else if (forget->n != log->set[SET_FORGET].n)
        st = fail(ERR_INPUT,
                  "%s: has %zu rows of the forget set, but %zu rows of %s are evaluated: give the log of the same "
                  "file, and evaluate.rows as it was then",
                  path, log->set[SET_FORGET].n, forget->n, forget->path);
done:
    return st;
}

/* A benchmark has its own numbers of new tokens. */
static enum status warn_lengths(const struct config *c)
{
    const struct place place = config_place(c, "evaluate.max_length");
    bool usual; /* input.yaml of a run has it */
    enum status st;
    TRY(config_usual(c, "evaluate.max_length", &usual));
    if (c->evaluate.benchmark != BENCHMARK_TOFU && !usual)
        log_warn("%s: evaluate.max_length does nothing: evaluate.benchmark says how long answers are",
                 place_text(&place));
done:
    return st;
}

/* Refuses answers beyond the positions that a model has learned. */
static enum status check_length(const struct inputs *in, const struct evaluated_set *s)
{
    const size_t most = longest_answered(in->config, s);
    const struct place place = config_place(in->config, s->form ? "evaluate.sets" : "evaluate.max_length");
    if (!s->generates || !in->shape->learned_positions || most <= in->shape->positions) return OK;
    if (!s->form)
        return fail(ERR_INPUT,
                    "%s: evaluate.max_length: answers of %zu tokens with the prompts of %s, but the model has learned "
                    "positions for %zu; lower it",
                    place_text(&place), most, s->path, in->shape->positions);
    return fail(
        ERR_INPUT,
        "%s: evaluate.sets.%s: the benchmark's %zu new tokens make %zu with the longest prompt of %s, but the model "
        "has learned positions for %zu; leave the set out, or shorten its prompts%s%s",
        place_text(&place), s->name, s->form->new_tokens, most, s->path, in->shape->positions,
        s->form->examples ? ": fewer rows in evaluate.sets." : "", s->form->examples ? s->form->examples : "");
}

enum status inputs_evaluation(struct inputs *in, struct evaluation_inputs *e, const struct grid *world,
                              const struct data_rule *rule)
{
    const struct config *c = in->config;
    enum status st = OK;
    if (!(e->set = memory_new(c->evaluate.n_set, sizeof *e->set)))
        st = fail(ERR_MEMORY, "memory: cannot allocate the list of sets");
    else
        st = warn_lengths(c);
    TRY(grid_agree(world, st)); /* or the others would wait for this one's rows */
    if (!in->ends.labelled && c->evaluate.benchmark == BENCHMARK_TOFU)
        e->rule.without_end = false; /* or the last token of the answer would go; others do not use data.template */
    for (size_t i = 0; i < c->evaluate.n_set; i++)
        if (set_is_evaluated(c, &c->evaluate.set[i]))
            TRY(read_set(in, e, world, rule, &c->evaluate.set[i], &e->set[e->n++]));
    TRY(check_possible(in));
    for (size_t k = 0; k < e->n; k++) TRY(check_length(in, &e->set[k]));
    st = world->rank == 0 ? read_retain_logs(in, &e->retain) : OK;
done:
    return grid_agree(world, st);
}

void evaluation_inputs_free(struct evaluation_inputs *e)
{
    if (!e) return;
    for (size_t i = 0; e->set && i < e->n; i++) {
        for (int k = 0; k < N_VARIANT_OF; k++) variants_free(&e->set[i].of[k]);
        for (size_t k = 0; e->set[i].label && k < e->set[i].n; k++) text_free(&e->set[i].label[k]);
        free(e->set[i].label), free(e->set[i].right);
        prompts_free(&e->set[i].prompts);
    }
    tokenizer_free(e->tokenizer);
    eval_log_free(&e->retain);
    free(e->set);
    free(e);
}
