/* What an evaluation holds; what it asks of the plan; how answers are decoded. */
#include "unlearn/evaluation_priv.h"
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 32 }; /* answers generated together: enough that one read of the weights serves many tokens */

/* ----------------------------------------------------------------------------------------------------- plan ------- */
/* Bytes of an evaluation, without those of the model, the engine and decoding. */
static size_t own_bytes(const struct evaluation_inputs *e)
{
    /* e->longest: a row's tokens are copied for min_k */
    size_t bytes = (3 * e->most_labels + e->most_rows + e->longest) * sizeof(double) + 2 * e->most_rows * sizeof(size_t);
    for (size_t i = 0; i < e->n; i++) {
        const struct evaluated_set *s = &e->set[i];
        bytes += s->n * (N_SCORE + 1) * sizeof(double);
        for (int k = 0; k < N_VARIANT_OF; k++)
            if (s->of[k].data) bytes += s->of[k].data->first[s->of[k].data->n_row] * 2 * sizeof(int32_t);
    }
    return bytes;
}

/* flops of an evaluation; every answer counts as if it had the greatest length. */
static double work(const struct inputs *in, const struct plan *p, double N)
{
    const struct evaluation_inputs *e = in->evaluation;
    double flops = 0;
    for (size_t i = 0; i < e->n; i++) {
        const struct evaluated_set *s = &e->set[i];
        const double own = plan_tokens(s->of[OF_ANSWER].data, s->n, NULL);
        for (int k = 0; k < N_VARIANT_OF; k++)
            if (s->of[k].data) flops += 2 * N * plan_tokens(s->of[k].data, s->of[k].data->n_row, NULL);
        if (e->needs & WANTS_KL) flops += (p->copies ? 4 : 2) * N * own;
        if (e->needs & WANTS_NORMS) flops += 4 * N * own;
        if (s->generates)
            flops += 2 * N * (double)(s->form ? s->form->new_tokens : in->config->evaluate.max_length) * (double)s->n;
    }
    return flops;
}

static struct generation decoding(const struct inputs *in, size_t max_length, size_t slots)
{
    const struct config *c = in->config;
    return (struct generation){.max_length = max_length, /* answered() cuts longer answers */
                               .temperature = 0,
                               .top_p = 1,
                               .seed = c->seed,
                               .n_eos = in->ends.n,
                               .eos = in->ends.id,
                               .slots = slots,
                               .hide = in->evaluation->hide};
}

static void demand(const struct inputs *in, const struct timetable *s, const struct plan *p, const struct layout *l,
                   struct demand *d)
{
    const struct evaluation_inputs *e = in->evaluation;
    const struct grid g = {.data_size = p->data, .tensor_size = p->tensor};
    if (!e) return;
    const size_t each = (e->most_prompts + (size_t)p->data - 1) / (size_t)p->data;
    d->rows = e->most_rows;
    d->objectives = e->needs & (WANTS_NORMS | WANTS_KL) ? 1 : 0;
    d->norms = e->needs & WANTS_NORMS ? e->longest : 0;
    d->slots = each < SLOTS ? each : SLOTS;
    d->bytes_apart = own_bytes(e);
    if (d->slots) {
        const struct generation how = decoding(in, e->longest_answered, d->slots);
        const bool half = !in->trains && in->config->precision == PRECISION_BFLOAT16;
        d->bytes_apart += generate_bytes(&g, l, half || plan_shares_all(p), &how);
    }
    d->flops_evaluate = work(in, p, plan_products(l));
}

static enum status print(const struct inputs *in, const struct plan *p, const struct demand *d, struct text *out)
{
    if (!in->evaluation) return OK;
    return text_print(out, "evaluation %zu sets, %.3g Gflop each time; %.1f MB a process, %zu answers at a time\n",
                      in->evaluation->n, d->flops_evaluate / 1e9, (double)d->bytes_apart / 1e6, d->slots);
}
const struct part evaluation_part = {demand, print};

struct generation evaluation_decoding(const struct evaluation *v, const struct evaluated_set *s)
{
    const size_t longest = s->form ? s->longest_prompt + s->form->new_tokens : v->in->longest_answered;
    return decoding(v->subject->in, longest, v->subject->plan->slots);
}

/* ------------------------------------------------------------------------------------------------------ new ------- */
/* The part of the published log for a set; NULL: the log has no such set. */
static struct eval_set *log_part(struct eval_log *log, const char *name)
{
    for (int k = 0; k < N_EVAL_SET; k++)
        if (!strcmp(eval_set_name((enum eval_set_id)k), name)) return &log->set[k];
    return NULL;
}

/* Makes a set's scores and its rows of the published log, on rank 0. */
static enum status new_set(struct evaluation *v, const struct evaluated_set *s, struct scored_set *out)
{
    const struct variants *p = &s->of[OF_PERTURBED];
    size_t wrong = 0;
    enum status st = OK;
    *out = (struct scored_set){.name = s->name, .n = s->n, .log = s->form ? NULL : log_part(&v->log, s->name)};
    TRY_NEW(out->score, s->n * N_SCORE);
    if (s->form && s->generates) {
        out->log = &v->generated[s - v->in->set];
        return eval_set_new(s->n, 0, true, out->log);
    }
    if (!out->log) return OK;
    for (size_t i = 0; i < p->n && p->data; i++)
        if (p->first[i + 1] - p->first[i] > wrong) wrong = p->first[i + 1] - p->first[i];
    TRY(eval_set_new(s->n, wrong, s->generates, out->log));
done:
    return st;
}

/* Makes the lists for the numbers, which only rank 0 computes. */
static enum status new_numbers(struct evaluation *v)
{
    const struct evaluation_inputs *e = v->in;
    enum status st = OK;
    TRY_NEW(v->set, e->n);
    TRY_NEW(v->generated, e->n);
    for (size_t i = 0; i < e->n; i++) TRY(new_set(v, &e->set[i], &v->set[i]));
    TRY(evaluation_numbers_new(e->n, &v->numbers));
done:
    return st;
}

enum status evaluation_new(struct subject *s, struct evaluation **out)
{
    const struct evaluation_inputs *e = s->in->evaluation;
    struct evaluation *v = *out = NULL;
    enum status st = OK;
    TRY_NEW(v, 1);
    v->subject = s, v->in = e, v->grid = s->grid;
    TRY_NEW(v->every, e->most_rows);
    for (size_t i = 0; i < e->most_rows; i++) v->every[i] = i;
    TRY_NEW(v->label_first, e->most_rows + 1);
    TRY_NEW(v->nll, e->most_labels);
    if (e->needs & (WANTS_HIT | WANTS_QUESTION)) TRY_NEW(v->hit, e->most_labels);
    if (e->needs & WANTS_Z) TRY_NEW(v->z, e->most_labels);
    TRY_NEW(v->list, e->most_rows);
    if (e->needs & WANTS_REFERENCE) TRY_NEW(v->reference, e->n);
    for (size_t i = 0; i < e->n && v->reference; i++) TRY_NEW(v->reference[i], e->set[i].n);
    if (s->grid->rank == 0) TRY(new_numbers(v));
    *out = v, v = NULL;
done:
    evaluation_free(v);
    return grid_agree(s->grid, st);
}

void evaluation_free(struct evaluation *v)
{
    if (!v) return;
    file_close(v->file);
    for (size_t i = 0; i < v->in->n; i++) {
        if (v->set) free(v->set[i].score);
        if (v->generated) eval_set_free(&v->generated[i]);
        if (v->reference) free(v->reference[i]);
    }
    free(v->every), free(v->label_first), free(v->nll), free(v->hit), free(v->z), free(v->list);
    free(v->reference), free(v->set), free(v->generated);
    evaluation_numbers_free(&v->numbers);
    eval_log_free(&v->log);
    free(v);
}
