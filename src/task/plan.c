/* Before the run: passes, memory per process, work. What is promised here is compared with the measured peak at the end. */
#include "unlearn/task_priv.h"
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { PASS_TOKENS = 1024, SLOTS = 32 }; /* enough rows for the products' full speed */

double plan_products(const struct layout *l)
{
    const struct shape *s = l->shape;
    return (double)l->elements - (s->tied ? 0 : (double)s->vocabulary * (double)s->hidden);
}

size_t plan_most_tokens(const struct plan *p)
{
    return p->tokens > p->tokens_evaluated ? p->tokens : p->tokens_evaluated;
}

double plan_reference(const struct plan *p, const struct objective *o)
{
    return p->copies && objective_needs(o) & (NEEDS_DISTRIBUTION | NEEDS_STATES) ? 2 : 0;
}

static bool spread(const struct inputs *in) { return in->measures && in->config->geffect.standard_error; }

/* Longest list of rows of any call; most objectives stacked; most labels. */
static void limits(const struct inputs *in, const struct timetable *s, struct plan *p)
{
    const struct evaluation_inputs *e = in->evaluation;
    const bool backward = in->trains || in->measures || (e && e->needs & (WANTS_NORMS | WANTS_KL));
    size_t rows = s->batch, longest = in->longest;
    if (in->forget && rows < in->forget->n_row) rows = in->forget->n_row;
    for (size_t i = 0; i < in->n_regularizer; i++)
        if (rows < in->regularizer[i].batch) rows = in->regularizer[i].batch;
    for (size_t k = 0; k < in->n_risk; k++)
        if (rows < in->risk[k].n) rows = in->risk[k].n;
    p->rows = rows;
    if (e && rows < e->most_rows) rows = e->most_rows;
    p->engine = (struct engine_limits){.rows = rows,
                                       .norms = e && e->needs & WANTS_NORMS ? e->longest : 0,
                                       .objectives = in->n_measured ? in->n_measured : 1,
                                       .risks = in->measures ? in->n_risk : 0};
    if (spread(in) && p->engine.risks < in->n_measured) p->engine.risks = in->n_measured; /* directions of a pass */
    p->tokens = in->config->parallel.tokens == CONFIG_AUTO ? PASS_TOKENS : in->config->parallel.tokens;
    if (p->tokens < in->longest) p->tokens = in->longest;
    if (p->tokens < in->longest_pair) p->tokens = in->longest_pair;
    p->tokens_evaluated = !e || p->tokens > e->longest ? p->tokens : e->longest;
    if (e && longest < e->longest) longest = e->longest;
    if (!in->trains && !in->measures) p->tokens = p->tokens_evaluated;
    p->model = (struct model_limits){.rows = plan_most_tokens(p),
                                     .outputs = plan_most_tokens(p),
                                     .sequences = plan_most_tokens(p),
                                     .longest = longest,
                                     .objectives = backward ? p->engine.objectives : 0,
                                     .aside = in->needs_distribution,
                                     .hidden = in->needs_hidden};
}

/* Weights; gradient; moments; the regularisers' part; the frozen copy; a gradient for every risk, and where asked for that
 * of the objective on all rows, the sum of several regularisers' parts, and the step of an update. */
static size_t count_states(const struct inputs *in, const struct plan *p)
{
    size_t n = 1;
    if (in->trains) {
        n += 1 + (in->config->optimizer.name == OPTIMIZER_ADAMW ? 2 : 0) + (in->n_regularizer > 0);
        n += (in->gram && in->n_regularizer > 1) + (in->gram || in->fidelity);
    }
    if (in->gram) n++;
    if (spread(in)) n += in->n_measured;
    if (p->copies) n++;
    return n + (in->measures ? in->n_risk : 0);
}

/* Ids, labels and the copy that is sent. */
static size_t bytes_sets(const struct inputs *in)
{
    const struct dataset *d[] = {in->forget, in->retain, in->refusals, in->pairs,
                                 in->train == in->forget ? NULL : in->train};
    size_t tokens = 0;
    for (size_t i = 0; i < sizeof d / sizeof *d; i++)
        if (d[i]) tokens += d[i]->first[d[i]->n_row];
    for (size_t k = 0; k < in->n_risk; k++)
        if (in->risk[k].own) tokens += in->risk[k].own->first[in->risk[k].own->n_row];
    return tokens * 3 * sizeof(int32_t);
}

static size_t bytes_results(const struct inputs *in, const struct plan *p, const struct layout *l)
{
    const size_t J = p->engine.objectives, labels = l->n_param + l->n_layer;
    const struct dataset *known = in->needs_reference ? in->pairs ? in->pairs : in->forget : NULL;
    size_t per_row = J * p->engine.risks * (slot_count(l) + labels) + 3 * J + 4;
    size_t gram = in->gram ? labels * gram_size(in) * (gram_size(in) + 1) : 0;
    size_t reference = known ? known->first[known->n_row] : 0; /* at most so many labels */
    return (p->rows * per_row + gram + risk_labels(in) + reference) * sizeof(double) + bytes_sets(in);
}

static double tokens_of(const struct dataset *d, size_t n, const size_t *row)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)dataset_length(d, row ? row[i] : i);
    return sum;
}

/* Nominal flops (2 N a token and product) of an update and of a measurement, by all processes. */
static void work(const struct inputs *in, const struct timetable *s, struct plan *p, double N)
{
    double per_row = in->train ? tokens_of(in->train, in->train->n_row, NULL) / (double)in->train->n_row : 0;
    double per_retain = in->retain ? tokens_of(in->retain, in->retain->n_row, NULL) / (double)in->retain->n_row : 0;
    double K = (double)in->n_risk, J = (double)in->n_measured;
    p->flops_update = 6 * N * per_row * (double)s->batch;
    for (size_t i = 0; i < in->n_regularizer; i++)
        p->flops_update +=
            (6 + plan_reference(p, &in->regularizer[i].objective)) * N * per_retain * (double)in->regularizer[i].batch;
    for (size_t k = 0; k < in->n_risk; k++)
        p->flops_measure += ((in->fidelity ? 8 : 6) + (spread(in) ? 4 + 2 * J : 0)) * N *
                            tokens_of(in->risk[k].data, in->risk[k].n, in->risk[k].row);
    if (spread(in)) p->flops_measure += 6 * J * N * tokens_of(in->forget, in->forget->n_row, NULL);
    if (in->gram) p->flops_measure += 6 * N * tokens_of(in->forget, in->forget->n_row, NULL);
    if (in->measures) p->flops_measure += (2 + 2 * K + 2 * J) * N * tokens_of(in->forget, in->forget->n_row, NULL);
}

/* The same of an evaluation; answers as if each were of the greatest length. */
static void evaluation_work(const struct inputs *in, const struct grid *g, const struct layout *l, struct plan *p)
{
    const struct evaluation_inputs *e = in->evaluation;
    const double N = plan_products(l);
    size_t each;
    if (!e) return;
    for (size_t i = 0; i < e->n; i++) {
        const struct evaluated_set *s = &e->set[i];
        const double own = tokens_of(s->of[OF_ANSWER].data, s->n, NULL);
        for (int k = 0; k < N_VARIANT_OF; k++)
            if (s->of[k].data) p->flops_evaluate += 2 * N * tokens_of(s->of[k].data, s->of[k].data->n_row, NULL);
        if (e->needs & WANTS_KL) p->flops_evaluate += (p->copies ? 4 : 2) * N * own;
        if (e->needs & WANTS_NORMS) p->flops_evaluate += 4 * N * own;
        if (s->generates) p->flops_evaluate += 2 * N * (double)in->config->evaluate.max_length * (double)s->n;
    }
    each = (e->most_prompts + (size_t)p->data - 1) / (size_t)p->data;
    p->slots = each < SLOTS ? each : SLOTS;
    p->bytes_evaluation = evaluation_bytes(in);
    if (p->slots) {
        const struct generation how = evaluation_decoding(in, p);
        p->bytes_evaluation += generate_bytes(g, l, &how);
    }
}

/* Every process must have the memory before the large allocations start. */
enum status plan_memory(const struct inputs *in, const struct plan *p)
{
    struct rlimit limit;
    for (int k = 0; k < 2; k++)
        if (!getrlimit(k ? RLIMIT_DATA : RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY &&
            limit.rlim_cur < p->bytes)
            return fail(ERR_MEMORY,
                        "%s: needs %.0f MB a process, may use %.0f MB (ulimit): use more processes, fewer risks or a "
                        "smaller parallel.tokens",
                        in->config->file, (double)p->bytes / 1e6, (double)limit.rlim_cur / 1e6);
    if (memory_available() && (double)p->bytes * parallel_node_size() >
                                  (double)memory_available() + (double)p->bytes_base * parallel_node_size())
        return fail(ERR_MEMORY,
                    "%s: needs %.0f MB a process, but this node has %.0f MB free for its %d: use more nodes, fewer "
                    "risks or a smaller parallel.tokens",
                    in->config->file, (double)p->bytes / 1e6, (double)memory_available() / 1e6, parallel_node_size());
    return OK;
}

/* A copy of the weights, or the values of the rows that will be read. */
static enum status choose_reference(const struct inputs *in, struct timetable *s, const struct layout *l, struct plan *p)
{
    const enum reference_as as = in->config->model.reference_as;
    struct reference r = {0};
    enum status st = OK;
    if (!in->needs_distribution) return OK;
    TRY(reference_list(in, s, l, p->data, &r));
    /* where updates or measurements read it, these decide alone: an evaluation must not show in their numbers */
    p->copies =
        as == REFERENCE_WEIGHTS || (as == REFERENCE_AUTO && (r.bytes_run ? r.bytes_run : r.bytes) > p->bytes_state);
    p->bytes_values = r.bytes;
done:
    reference_free(&r);
    return st;
}

enum status plan_make(const struct inputs *in, struct timetable *s, const struct grid *world, struct plan *p)
{
    struct grid g = {.data_size = 1, .tensor_size = 1};
    struct layout *l = NULL;
    struct engine e = {0};
    enum status st;
    *p = (struct plan){0};
    TRY(gram_check(in));
    TRY(plan_layout(in, s, world, p));
    math_threads(p->threads);
    math_gemm_rate(512); /* makes the BLAS library take the buffers that it will keep */
    p->bytes_base = memory_resident();
    limits(in, s, p);
    g.data_size = p->data, g.tensor_size = p->tensor;
    TRY(layout_new(in->shape, 0, p->tensor, &l));
    for (size_t i = 0; i < in->config->model.n_at && world->rank == 0 && in->config->model.init == INIT_PRETRAINED; i++)
        TRY(weights_check(in->config->model.at[i].path, l));
    TRY(model_new(l, &g, &p->model, NULL, &p->bytes_model));
    e.grid = &g, e.layout = l, e.tokens = plan_most_tokens(p);
    TRY(engine_room_new(&e, &p->engine, true, &p->bytes_engine));
    p->bytes_state = l->size * sizeof(real);
    TRY(choose_reference(in, s, l, p));
    evaluation_work(in, &g, l, p);
    p->n_state = count_states(in, p);
    p->bytes_results = bytes_results(in, p, l);
    p->bytes = p->bytes_base + p->n_state * p->bytes_state + p->bytes_model + p->bytes_engine +
               (p->copies ? 0 : p->bytes_values) + p->bytes_results + p->bytes_evaluation;
    work(in, s, p, plan_products(l));
done:
    layout_free(l);
    return st;
}

enum status plan_print(const struct inputs *in, const struct timetable *s, const struct plan *p, struct text *out)
{
    enum status st = text_print(out, "layout     %d processes = data %d x tensor %d, %d thread%s each\n",
                                p->data * p->tensor, p->data, p->tensor, p->threads, p->threads == 1 ? "" : "s");
    if (st == OK && in->trains)
        st = text_print(out, "updates    %zu of %zu rows (%zu rows to learn from), warm-up %zu\n", s->updates, s->batch,
                        s->rows, s->warmup);
    if (st == OK)
        st = text_print(out, "passes     at most %zu tokens; longest row %zu\n", plan_most_tokens(p), p->model.longest);
    if (st == OK)
        st = text_print(
            out,
            "memory     %.1f MB a process: %.1f at start, %zu states of %.1f (weights%s%s%s%s), %.1f activations, "
            "%.1f products, %.1f results\n",
            (double)p->bytes / 1e6, (double)p->bytes_base / 1e6, p->n_state, (double)p->bytes_state / 1e6,
            in->trains ? in->n_regularizer ? ", gradients, moments" : ", gradient, moments" : "",
            p->copies ? ", reference" : "",
            in->measures ? spread(in) ? ", risks, objectives"
                           : in->gram ? ", risks, objective"
                                      : ", risks"
                         : "",
            in->trains && (in->gram || in->fidelity) ? ", step" : "", (double)p->bytes_model / 1e6,
            (double)p->bytes_engine / 1e6, (double)p->bytes_results / 1e6);
    if (st == OK && in->needs_distribution)
        st = text_print(out,
                        "reference  %s: %.1f MB a process for its weights, %.1f for what it says of the rows to come\n",
                        p->copies ? "a copy" : "values", (double)p->bytes_state / 1e6, (double)p->bytes_values / 1e6);
    if (st == OK && in->evaluation)
        st = text_print(out, "evaluation %zu sets, %.3g Gflop each time; %.1f MB a process, %zu answers at a time\n",
                        in->evaluation->n, p->flops_evaluate / 1e9, (double)p->bytes_evaluation / 1e6, p->slots);
    if (st == OK)
        st = text_print(out, "work       %.3g Gflop an update, %.3g Gflop a measurement\n", p->flops_update / 1e9,
                        p->flops_measure / 1e9);
    return st;
}
