/* An evaluation: every score of every row of every set at the present weights. The engine measures all rows of a
 * variant in one call, packed; rank 0 then computes the numbers. */
#define _GNU_SOURCE /* memmem */
#include "unlearn/evaluation_priv.h"
#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------ measures ------- */
/* All rows of a variant; sets where their labels are in v->nll. */
static struct rows all_rows(struct evaluation *v, const struct dataset *d)
{
    v->label_first[0] = 0;
    for (size_t i = 0; i < d->n_row; i++) v->label_first[i + 1] = v->label_first[i] + dataset_labels(d, i);
    return (struct rows){.data = d, .n = d->n_row, .row = v->every, .label_first = v->label_first};
}

/* A likelihood that is not finite makes its row's numbers NaN; these are counted, and the evaluation continues. */
static enum status tolerate(enum status st)
{
    if (st != ERR_NUMERIC) return st;
    fail_clear();
    return OK;
}

static enum status statistics(struct evaluation *v, const struct dataset *d, double *hit, double *z)
{
    const struct rows rows = all_rows(v, d);
    const struct token_statistics out = {.nll = v->nll, .hit = hit, .z = z};
    subject_count(v->subject, &rows, 2);
    return tolerate(engine_statistics(&v->subject->engine, &rows, &out));
}

/* The values of the answers measured last: the pointers stay valid while their contents change. */
static struct token_values token_values(const struct evaluation *v)
{
    return (struct token_values){.label_first = v->label_first, .nll = v->nll, .hit = v->hit, .z = v->z};
}

enum status evaluation_reference(struct evaluation *v)
{
    const struct evaluation_inputs *e = v->in;
    enum status st = OK;
    if (!v->reference) return OK;
    for (size_t k = 0; k < e->n; k++) {
        const struct token_values t = token_values(v);
        TRY(statistics(v, e->set[k].of[OF_ANSWER].data, NULL, NULL));
        token_means(&t, e->set[k].n, v->reference[k]);
    }
done:
    return st;
}

static enum status likelihoods(struct evaluation *v, size_t k)
{
    const struct evaluation_inputs *e = v->in;
    const struct variants *of = e->set[k].of;
    const struct token_values t = token_values(v);
    const struct scored_set *s = v->grid->rank ? NULL : &v->set[k];
    enum status st;
    TRY(statistics(v, of[OF_ANSWER].data, e->needs & WANTS_HIT ? v->hit : NULL, v->z));
    if (e->needs & WANTS_CHOICES)
        return grid_agree(v->grid, s ? scores_choices(&t, of[OF_ANSWER].first, e->set[k].right, s) : OK);
    TRY(grid_agree(v->grid, s ? scores_answer(&e->rule, &t, v->reference ? v->reference[k] : NULL,
                                              e->set[k].label ? e->set[k].label : e->set[k].prompts.answer, s)
                              : OK));
    if (of[OF_PARAPHRASED].data) TRY(statistics(v, of[OF_PARAPHRASED].data, NULL, NULL));
    if (s && e->needs & WANTS_PARAPHRASED)
        scores_paraphrased(of[OF_PARAPHRASED].data ? &t : NULL, of[OF_PARAPHRASED].first, s);
    if (of[OF_PERTURBED].data) {
        TRY(statistics(v, of[OF_PERTURBED].data, NULL, NULL));
        TRY(grid_agree(v->grid, s ? scores_perturbed(&e->rule, &t, of[OF_PERTURBED].first, s) : OK));
    }
    if (of[OF_QUESTION].data) {
        TRY(statistics(v, of[OF_QUESTION].data, v->hit, NULL));
        if (s) scores_question(&e->rule, &t, of[OF_QUESTION].first, s);
    }
done:
    return st;
}

static enum status lists(struct evaluation *v, size_t k)
{
    const unsigned needs = v->in->needs;
    const struct rows rows = all_rows(v, v->in->set[k].of[OF_ANSWER].data);
    struct objective kl;
    enum status st = OK;
    objective_find("kl", &kl);
    if (needs & WANTS_KL) {
        TRY(tolerate(engine_losses(&v->subject->engine, &kl, &rows, v->list)));
        if (v->grid->rank == 0) scores_list(SCORE_KL, v->list, &v->set[k]);
        subject_count(v->subject, &rows, v->subject->reference ? 4 : 2);
    }
    if (needs & WANTS_NORMS) {
        struct rows counted = rows;
        counted.drop = v->in->rule.without_end;
        TRY(tolerate(engine_norms(&v->subject->engine, &counted, v->list)));
        if (v->grid->rank == 0) scores_list(SCORE_GRADNORM, v->list, &v->set[k]);
        subject_count(v->subject, &rows, 4);
    }
done:
    return st;
}

/* The part of a generated answer that counts: as each tool takes it. */
static void tidied(const struct config *c, const struct evaluated_set *s, struct text *t)
{
    static const char *const question[] = {"\n\n", "\nQuestion", "Question:"}; /* where MUSE ends an answer */
    const bool open_unlearning = c->evaluate.variant == VARIANT_OPEN_UNLEARNING;
    if (s->form || open_unlearning) text_tidy(t);
    for (size_t i = 0; s->form && s->form->examples && i < sizeof question / sizeof *question; i++) {
        const char *end = t->n ? memmem(t->data, t->n, question[i], strlen(question[i])) : NULL;
        if (end) t->n = (size_t)(end - t->data);
    }
    if (open_unlearning) text_trim(t);
}

/* Scores the generated answers, on rank 0. Cuts new tokens beyond evaluate.max_length, since decoding limits prompt and
 * answer together, by the longest prompt. */
static enum status answered(const struct evaluation *v, size_t k, const struct answers *a)
{
    const struct config *c = v->subject->in->config;
    const struct evaluated_set *s = &v->in->set[k];
    const size_t all_new = c->evaluate.length == LENGTH_NEW ? c->evaluate.max_length : SIZE_MAX;
    const size_t most = s->form ? s->form->new_tokens : all_new;
    struct text text = {0};
    enum status st = OK;
    for (size_t i = 0; i < s->n; i++) {
        const size_t all = a->first[i + 1] - a->first[i], n = all > most ? most : all;
        const struct generated_row row = {.question = &s->prompts.question[i],
                                          .answer = &s->prompts.answer[i],
                                          .text = &text,
                                          .n_token = n,
                                          .unstemmed = s->form && c->evaluate.variant == VARIANT_TOFU,
                                          .ended = a->stop[i] == STOP_EOS && n == all};
        text.n = 0;
        TRY(answer_text(v->in->tokenizer, a->id + a->first[i], n, &text));
        tidied(c, s, &text);
        TRY(score_generated(&row, i, &v->set[k]));
    }
done:
    text_free(&text);
    return st;
}

static enum status answers(struct evaluation *v, size_t k)
{
    const struct evaluated_set *s = &v->in->set[k];
    struct subject *subject = v->subject;
    const struct generation how = evaluation_decoding(v, s);
    struct answers a = {0};
    enum status st = OK;
    if (!s->generates) return OK;
    TRY(tolerate(generate(v->grid, subject->layout, subject->weights, &how, s->prompts.n, s->prompts.first,
                          s->prompts.id.data, &a)));
    if (!a.n) return OK; /* the logits were not finite: no answers and no scores */
    TRY(grid_agree(v->grid, v->grid->rank == 0 ? answered(v, k, &a) : OK));
    if (v->grid->rank == 0)
        subject->flops += 2 * plan_products(subject->layout) * (double)(a.first[a.n] + s->prompts.first[s->prompts.n]);
done:
    answers_free(&a);
    return st;
}

/* ----------------------------------------------------------------------------------------------------- all ------- */
/* Computes and writes all numbers, on rank 0, after all scores are set. */
static enum status finish(struct evaluation *v, size_t step, bool last)
{
    const struct evaluation_inputs *e = v->in;
    enum status st = OK;
    for (size_t k = 0; k < e->n; k++) {
        evaluation_means(&v->set[k], k, &v->numbers);
        if (last) report_left_out(v, k);
    }
    TRY(suite_of(v->subject->in->config)->summarise(v, last));
    TRY(evaluation_put(v, step));
    if (last) TRY(evaluation_json(v));
    report_evaluation(v, step, last);
done:
    return st;
}

enum status evaluate(struct evaluation *v, size_t step, bool last)
{
    const struct evaluation_inputs *e = v->in;
    const size_t tokens = v->subject->engine.tokens;
    enum status st = OK;
    v->subject->engine.tokens = v->subject->plan->tokens_evaluated;
    for (size_t k = 0; k < e->n; k++) {
        if (v->grid->rank == 0) scores_clear(&v->set[k]);
        TRY(likelihoods(v, k));
        TRY(lists(v, k));
        TRY(answers(v, k));
    }
    phase_enter(PHASE_OUTPUT);
    TRY(grid_agree(v->grid, v->grid->rank == 0 ? finish(v, step, last) : OK));
done:
    phase_enter(PHASE_OTHER);
    v->subject->engine.tokens = tokens;
    return st;
}
