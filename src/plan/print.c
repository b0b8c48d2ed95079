/* The lines with which the log and --check describe a plan. */
#include "unlearn/plan.h"
#include <stdio.h>
#include <stdlib.h>

static double mega(size_t bytes) { return (double)bytes / 1e6; }

static enum status print_memory(const struct plan *p, struct text *out)
{
    char halves[64] = "";
    const size_t n = p->halves + p->halves_of_moments;
    if (n) snprintf(halves, sizeof halves, " (%zu of half that, in bfloat16)", n);
    return text_print(
        out,
        "memory     %.1f MB a process: %.1f at start, %zu states of %.1f%s, %.1f activations, %.1f products, %.1f "
        "results, %.1f buffers\n",
        mega(p->bytes), mega(p->bytes_base), p->all.states + p->all.moments, mega(p->bytes_state), halves,
        mega(p->bytes_model), mega(p->bytes_engine), mega(p->all.bytes), mega(p->bytes_buffers));
}

/* Bytes that a process holds of a state. */
static size_t held_bytes(const struct plan *p, const struct held *h)
{
    return h->moments || p->sharing == SHARING_ALL ? p->bytes_part : p->bytes_state;
}

/* How many states of a kind are held in bfloat16. */
static size_t halves_of(const struct inputs *in, const struct held *h, size_t n, const struct home *home)
{
    size_t halves = h->to == N_MOMENT && plan_half(in, h) ? h->states : 0;
    for (size_t i = 0; i < n; i++) halves += home[i].half && !strcmp(home[i].name, h->name);
    return halves;
}

/* "risks 2 x 5.4 MB effects", one kind of states after the other: those that are kept, then in the order of their lives. */
static enum status print_states(const struct inputs *in, const struct plan *p, struct text *out)
{
    static const char *const moment[N_MOMENT] = {
        [AT_EFFECTS] = "effects",        [AT_PROBES] = "probes", [AT_GRADIENT] = "gradient",
        [AT_FORMED] = "gradient formed", [AT_UPDATE] = "update", [AT_UPDATED] = "after the update"};
    const char *first = "states     ";
    struct home *home = NULL;
    size_t n;
    enum status st;
    TRY(plan_homes(in, p, &n, &home, NULL));
    for (int from = -1; from < N_MOMENT; from++)
        for (size_t i = 0; i < p->all.n_held; i++) {
            const struct held *h = &p->all.held[i];
            const bool kept = h->to == N_MOMENT;
            size_t halves;
            if (kept ? from >= 0 : (int)h->from != from) continue;
            halves = halves_of(in, h, n, home);
            TRY(text_print(out, "%s%-12s %2zu x %.1f MB  %s", first, h->name, h->states,
                           mega(held_bytes(p, h) / (halves == h->states ? 2 : 1)), kept ? "always" : moment[h->from]));
            if (!kept && h->to != h->from) TRY(text_print(out, " to %s", moment[h->to]));
            if (halves && halves < h->states) TRY(text_print(out, ", %zu of them half as large, in bfloat16", halves));
            if (halves == h->states) TRY(text_print(out, ", in bfloat16"));
            TRY(text_print(out, "\n"));
            first = "           ";
        }
done:
    free(home);
    return st;
}

/* Of what the input leaves open. */
static const char *reason(const struct plan *p) { return p->as_then ? ", as it was" : ", or the memory would not do"; }

/* "layout ... data 1 x tensor 2 ..., for data 2 x tensor 1 needs 45.0 MB a process, and may have 40.0" */
static enum status print_layout(const struct plan *p, struct text *out)
{
    enum status st;
    TRY(text_print(out, "layout     %d processes = data %d x tensor %d, %d thread%s each", p->data * p->tensor, p->data,
                   p->tensor, p->threads, p->threads == 1 ? "" : "s"));
    if (p->ruled.tensor)
        TRY(text_print(out, "; data %d x tensor %d needs %.1f MB a process, which may have %.1f", p->ruled.data,
                       p->ruled.tensor, mega(p->ruled.bytes), mega(p->room)));
    TRY(text_print(out, "\n"));
done:
    return st;
}

enum status plan_print_shared(const struct inputs *in, const struct plan *p, struct text *out)
{
    const bool all = p->sharing == SHARING_ALL, open = in->config->parallel.shard == SHARD_AUTO;
    enum status st = OK;
    if (p->data > 1 && p->layers)
        TRY(text_print(out, "shared     %s: parts of %.1f MB, and %.1f for what is whole for a time\n",
                       all ? "all states" : "moments", mega(p->bytes_part), mega(p->bytes_shared)));
    if (p->data == 1 || !open) return OK;
    if (p->as_then)
        TRY(text_print(out, "shard      %s%s\n", all ? "full" : "none", reason(p)));
    else if (p->unshared)
        TRY(text_print(out, "shard      full: %.1f MB a process unsharded, %.1f MB are free\n", mega(p->unshared),
                       mega(p->room)));
    else if (p->room < SIZE_MAX)
        TRY(text_print(out, "shard      %s: %.1f MB a process, %.1f MB are free\n", all ? "full" : "none", mega(p->bytes),
                       mega(p->room)));
done:
    return st;
}

/* What was given up for memory, beside activations. */
static enum status print_given_up(const struct inputs *in, const struct plan *p, struct text *out)
{
    enum status st = OK;
    if (p->in_turn && in->n_risk > 1)
        TRY(text_print(
            out,
            "risks      in turn%s: 1 gradient held in place of %zu; a measurement takes %.3g Gflop in place of "
            "%.3g\n",
            in->config->parallel.risks == RISKS_AUTO ? reason(p) : "", in->n_risk, p->all.flops_measure / 1e9,
            p->flops_together / 1e9));
    if (in->trains && in->n_regularizer && !plan_held(p, "regulariser"))
        TRY(text_print(out, "norms      of single regularisers' gradients are not measured%s\n", reason(p)));
done:
    return st;
}

/* "an update sends 12.3 MB over tensor, 45.6 MB over data" */
static enum status print_sent(const struct plan *p, enum occasion of, const char *what, struct text *out)
{
    enum status st;
    TRY(text_print(out, "%s ", what));
    if (p->tensor > 1) TRY(text_print(out, "%.4g MB to tensor ranks", plan_sent(p, of, LINK_TENSOR) / 1e6));
    if (p->tensor > 1 && p->data > 1) TRY(text_print(out, " and "));
    if (p->data > 1) TRY(text_print(out, "%.4g MB to data ranks", plan_sent(p, of, LINK_DATA) / 1e6));
done:
    return st;
}

static enum status print_messages(const struct inputs *in, const struct plan *p, struct text *out)
{
    enum status st = OK;
    if (p->data * p->tensor == 1 || (!in->trains && !in->measures)) return OK;
    TRY(text_print(out, "messages   a process sends "));
    if (in->trains) TRY(print_sent(p, OF_UPDATE, "in an update", out));
    if (in->trains && in->measures) TRY(text_print(out, "; "));
    if (in->measures) TRY(print_sent(p, OF_MEASUREMENT, "in a measurement", out));
    TRY(text_print(out, "\n"));
done:
    return st;
}

enum status plan_print(const struct inputs *in, const struct timetable *s, const struct plan *p, struct text *out)
{
    const bool smaller = p->tokens < p->tokens_usual;
    enum status st;
    TRY(print_layout(p, out));
    if (in->trains)
        TRY(text_print(out, "updates    %zu of %zu rows (%zu rows to learn from), warm-up %zu\n", s->updates, s->batch,
                       s->rows, s->warmup));
    TRY(text_print(out, "passes     at most %zu tokens%s; longest row %zu\n", plan_most_tokens(p),
                   smaller ? reason(p) : "", p->model.longest));
    TRY(print_memory(p, out));
    TRY(print_states(in, p, out));
    TRY(plan_print_shared(in, p, out));
    if (p->bytes_kept < p->bytes_logits)
        TRY(text_print(
            out,
            "logits     %zu rows at a time%s: activations of %.1f MB in place of %.1f; a backward computes the "
            "others again, at most %.2g %% of an update's work\n",
            p->model.logits, in->config->parallel.logits == CONFIG_AUTO ? ", or the memory would not do" : "",
            mega(p->bytes_kept), mega(p->bytes_logits), 100 * p->logits_again));
    if (p->model.recompute)
        TRY(text_print(out, "recompute  %s: activations of %.1f MB in place of %.1f\n",
                       in->config->parallel.recompute == RECOMPUTE_AUTO ? "block, or the memory would not do" : "block",
                       mega(p->bytes_model), mega(p->bytes_kept)));
    TRY(print_given_up(in, p, out));
    if (in->needs_distribution)
        TRY(text_print(out,
                       "reference  %s: %.1f MB a process for its weights, %.1f for what it says of the rows to come\n",
                       p->copies ? "a copy" : "values", mega(p->bytes_copy), mega(p->bytes_values)));
    for (size_t i = 0; i < p->n_part; i++)
        if (p->part[i]->print) TRY(p->part[i]->print(in, p, &p->demand[i], out));
    TRY(text_print(out, "work       %.3g Gflop an update, %.3g Gflop a measurement\n", p->all.flops_update / 1e9,
                   p->all.flops_measure / 1e9));
    TRY(print_messages(in, p, out));
done:
    return st;
}
