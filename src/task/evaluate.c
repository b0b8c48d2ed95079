/* An evaluation: every score of every row of every set at the weights as they are. One call of the engine for each kind of
 * rows measures all of them packed; rank 0 then makes the numbers. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------- buffers ------- */
size_t evaluation_bytes(const struct inputs *in)
{
    const struct evaluation_inputs *e = in->evaluation;
    size_t bytes;
    if (!e) return 0;
    /* a row's tokens once more for min_k */
    bytes = (3 * e->most_labels + e->most_rows + e->longest) * sizeof(double) + 2 * e->most_rows * sizeof(size_t);
    for (size_t i = 0; i < e->n; i++) {
        const struct evaluated_set *s = &e->set[i];
        bytes += s->n * (N_SCORE + 1) * sizeof(double);
        for (int k = 0; k < N_VARIANT_OF; k++)
            if (s->of[k].data) bytes += s->of[k].data->first[s->of[k].data->n_row] * 2 * sizeof(int32_t);
    }
    return bytes;
}

/* The part of the published log that a set is; NULL: it is none. */
static struct eval_set *log_part(struct eval_log *log, const char *name)
{
    for (int k = 0; k < N_EVAL_SET; k++)
        if (!strcmp(eval_set_name((enum eval_set_id)k), name)) return &log->set[k];
    return NULL;
}

/* Scores and rows of the published log, on rank 0. */
static enum status new_set(struct evaluation *v, const struct evaluated_set *s, struct scored_set *out)
{
    const struct variants *p = &s->of[OF_PERTURBED];
    size_t wrong = 0;
    enum status st = OK;
    *out = (struct scored_set){.name = s->name, .n = s->n, .log = log_part(&v->log, s->name)};
    TRY_NEW(out->score, s->n * N_SCORE);
    if (!out->log) return OK;
    for (size_t i = 0; i < p->n && p->data; i++)
        if (p->first[i + 1] - p->first[i] > wrong) wrong = p->first[i + 1] - p->first[i];
    TRY(eval_set_new(s->n, wrong, s->generates, out->log));
done:
    return st;
}

enum status evaluation_new(struct run *r)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    struct evaluation *v = NULL;
    enum status st = OK;
    if (!e) return OK;
    TRY_NEW(r->evaluation, 1);
    v = r->evaluation;
    TRY_NEW(v->every, e->most_rows);
    for (size_t i = 0; i < e->most_rows; i++) v->every[i] = i;
    TRY_NEW(v->label_first, e->most_rows + 1);
    TRY_NEW(v->nll, e->most_labels);
    if (e->needs & (WANTS_HIT | WANTS_QUESTION)) TRY_NEW(v->hit, e->most_labels);
    if (e->needs & WANTS_Z) TRY_NEW(v->z, e->most_labels);
    TRY_NEW(v->list, e->most_rows);
    if (e->needs & WANTS_REFERENCE) TRY_NEW(v->reference, e->n);
    for (size_t i = 0; i < e->n && v->reference; i++) TRY_NEW(v->reference[i], e->set[i].n);
    if (r->grid->rank) return OK;
    TRY_NEW(v->set, e->n);
    for (size_t i = 0; i < e->n; i++) TRY(new_set(v, &e->set[i], &v->set[i]));
    TRY(evaluation_numbers_new(e->n, &v->numbers));
done:
    return st;
}

void evaluation_free(struct run *r)
{
    struct evaluation *v = r->evaluation;
    if (!v) return;
    file_close(v->file);
    for (size_t i = 0; i < r->in->evaluation->n; i++) {
        if (v->set) free(v->set[i].score);
        if (v->reference) free(v->reference[i]);
    }
    free(v->every), free(v->label_first), free(v->nll), free(v->hit), free(v->z), free(v->list);
    free(v->reference), free(v->set);
    evaluation_numbers_free(&v->numbers);
    eval_log_free(&v->log);
    free(v);
    r->evaluation = NULL;
}

/* ------------------------------------------------------------------------------------------------ measures ------- */
/* All rows of a variant, and where their labels stand in v->nll. */
static struct rows all_rows(struct run *r, const struct dataset *d)
{
    struct evaluation *v = r->evaluation;
    v->label_first[0] = 0;
    for (size_t i = 0; i < d->n_row; i++) v->label_first[i + 1] = v->label_first[i] + dataset_labels(d, i);
    return (struct rows){.data = d, .n = d->n_row, .row = v->every, .label_first = v->label_first};
}

/* A likelihood that is not finite makes its row's numbers NaN; they are counted, and the evaluation goes on. */
static enum status tolerate(enum status st)
{
    if (st != ERR_NUMERIC) return st;
    fail_clear();
    return OK;
}

static void count_flops(struct run *r, const struct rows *rows, double products)
{
    r->flops += products * plan_products(r->layout) * rows_tokens(rows);
}

static enum status statistics(struct run *r, const struct dataset *d, double *hit, double *z)
{
    struct evaluation *v = r->evaluation;
    const struct rows rows = all_rows(r, d);
    const struct token_statistics out = {.nll = v->nll, .hit = hit, .z = z};
    count_flops(r, &rows, 2);
    return tolerate(engine_statistics(&r->engine, &rows, &out));
}

/* Of the answers measured last: the buffers stay, what they hold changes. */
static struct token_values token_values(const struct evaluation *v)
{
    return (struct token_values){.label_first = v->label_first, .nll = v->nll, .hit = v->hit, .z = v->z};
}

enum status evaluation_reference(struct run *r)
{
    struct evaluation *v = r->evaluation;
    const struct evaluation_inputs *e = r->in->evaluation;
    enum status st = OK;
    if (!v || !v->reference) return OK;
    for (size_t k = 0; k < e->n; k++) {
        const struct token_values t = token_values(v);
        TRY(statistics(r, e->set[k].of[OF_ANSWER].data, NULL, NULL));
        token_means(&t, e->set[k].n, v->reference[k]);
    }
done:
    return st;
}

static enum status likelihoods(struct run *r, size_t k)
{
    struct evaluation *v = r->evaluation;
    const struct evaluation_inputs *e = r->in->evaluation;
    const struct variants *of = e->set[k].of;
    const struct token_values t = token_values(v);
    const struct scored_set *s = r->grid->rank ? NULL : &v->set[k];
    enum status st;
    TRY(statistics(r, of[OF_ANSWER].data, e->needs & WANTS_HIT ? v->hit : NULL, v->z));
    TRY(grid_agree(r->grid,
                   s ? scores_answer(&e->rule, &t, v->reference ? v->reference[k] : NULL, e->set[k].prompts.answer, s)
                     : OK));
    if (of[OF_PARAPHRASED].data) TRY(statistics(r, of[OF_PARAPHRASED].data, NULL, NULL));
    if (s && e->needs & WANTS_PARAPHRASED)
        scores_paraphrased(of[OF_PARAPHRASED].data ? &t : NULL, of[OF_PARAPHRASED].first, s);
    if (of[OF_PERTURBED].data) {
        TRY(statistics(r, of[OF_PERTURBED].data, NULL, NULL));
        TRY(grid_agree(r->grid, s ? scores_perturbed(&e->rule, &t, of[OF_PERTURBED].first, s) : OK));
    }
    if (of[OF_QUESTION].data) {
        TRY(statistics(r, of[OF_QUESTION].data, v->hit, NULL));
        if (s) scores_question(&e->rule, &t, of[OF_QUESTION].first, s);
    }
done:
    return st;
}

static enum status lists(struct run *r, size_t k)
{
    struct evaluation *v = r->evaluation;
    const unsigned needs = r->in->evaluation->needs;
    const struct rows rows = all_rows(r, r->in->evaluation->set[k].of[OF_ANSWER].data);
    struct objective kl;
    enum status st = OK;
    objective_find("kl", &kl);
    if (needs & WANTS_KL) {
        TRY(tolerate(engine_losses(&r->engine, &kl, &rows, v->list)));
        if (r->grid->rank == 0) scores_list(SCORE_KL, v->list, &v->set[k]);
        count_flops(r, &rows, r->reference ? 4 : 2);
    }
    if (needs & WANTS_NORMS) {
        TRY(tolerate(engine_norms(&r->engine, &rows, v->list)));
        if (r->grid->rank == 0) scores_list(SCORE_GRADNORM, v->list, &v->set[k]);
        count_flops(r, &rows, 4);
    }
done:
    return st;
}

/* On rank 0. New tokens beyond evaluate.max_length are cut here: decoding counts those of the longest prompt too. */
static enum status answered(const struct run *r, size_t k, const struct answers *a)
{
    const struct config *c = r->in->config;
    const struct evaluated_set *s = &r->in->evaluation->set[k];
    const size_t most = c->evaluate.length == LENGTH_NEW ? c->evaluate.max_length : SIZE_MAX;
    struct text text = {0};
    enum status st = OK;
    for (size_t i = 0; i < s->n; i++) {
        const size_t all = a->first[i + 1] - a->first[i], n = all > most ? most : all;
        const struct generated_row row = {.question = &s->prompts.question[i],
                                          .answer = &s->prompts.answer[i],
                                          .text = &text,
                                          .n_token = n,
                                          .ended = a->stop[i] == STOP_EOS && n == all};
        text.n = 0;
        TRY(answer_text(r->in->evaluation->tokenizer, a->id + a->first[i], n, &text));
        TRY(score_generated(&row, i, &r->evaluation->set[k]));
    }
done:
    text_free(&text);
    return st;
}

static enum status answers(struct run *r, size_t k)
{
    const struct evaluated_set *s = &r->in->evaluation->set[k];
    const struct generation how = evaluation_decoding(r->in, r->plan);
    struct answers a = {0};
    enum status st = OK;
    if (!s->generates) return OK;
    TRY(tolerate(generate(r->grid, r->layout, r->weights, &how, s->prompts.n, s->prompts.first, s->prompts.id.data, &a)));
    if (!a.n) return OK; /* its logits were not finite: no answers, no scores */
    TRY(grid_agree(r->grid, r->grid->rank == 0 ? answered(r, k, &a) : OK));
    if (r->grid->rank == 0)
        r->flops += 2 * plan_products(r->layout) * (double)(a.first[a.n] + s->prompts.first[s->prompts.n]);
done:
    answers_free(&a);
    return st;
}

struct generation evaluation_decoding(const struct inputs *in, const struct plan *p)
{
    const struct config *c = in->config;
    const bool new = c->evaluate.length == LENGTH_NEW; /* cut where it is exceeded: answered() */
    return (struct generation){.max_length = c->evaluate.max_length + (new ? in->evaluation->longest_prompt : 0),
                               .temperature = 0,
                               .top_p = 1,
                               .seed = c->seed,
                               .n_eos = in->shape->n_eos,
                               .eos = in->shape->eos,
                               .slots = p->slots};
}

/* ----------------------------------------------------------------------------------------------------- all ------- */
/* Rank 0, when all scores stand. */
static enum status finish(struct run *r, size_t step, bool last)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    struct evaluation *v = r->evaluation;
    const struct named_log own = {last ? r->in->config->output_directory : NULL, &v->log};
    const struct named_log retain = {last ? r->in->config->evaluate.retain_logs : NULL, &e->retain};
    enum status st = OK;
    for (size_t k = 0; k < e->n; k++) {
        evaluation_means(&v->set[k], k, &v->numbers);
        if (last) report_left_out(r, k);
    }
    TRY(evaluation_summarise(&e->rule, e->n, v->set, &own, &retain, v->numbers.number));
    TRY(evaluation_put(r, step));
    if (last) TRY(evaluation_json(r));
    report_evaluation(r, step, last);
done:
    return st;
}

enum status evaluate(struct run *r, size_t step, bool last)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    const size_t tokens = r->engine.tokens;
    enum status st = OK;
    if (!e) return OK;
    r->engine.tokens = r->plan->tokens_evaluated;
    for (size_t k = 0; k < e->n; k++) {
        if (r->grid->rank == 0) scores_clear(&r->evaluation->set[k]);
        TRY(likelihoods(r, k));
        TRY(lists(r, k));
        TRY(answers(r, k));
    }
    phase_enter(PHASE_OUTPUT);
    TRY(grid_agree(r->grid, r->grid->rank == 0 ? finish(r, step, last) : OK));
done:
    phase_enter(PHASE_OTHER);
    r->engine.tokens = tokens;
    return st;
}
