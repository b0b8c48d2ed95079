/* Makes and frees a subject; its rows, and the work done on them. */
#include "unlearn/subject.h"
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------------- plan ------- */
/* Bytes of all data sets: ids, labels, and the copy that is sent to other processes. */
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

/* Bytes of the reference's nll of all forget rows; there are at most as many labels as tokens. */
static size_t bytes_reference(const struct inputs *in)
{
    const struct dataset *known = in->needs_reference ? in->pairs ? in->pairs : in->forget : NULL;
    return known ? known->first[known->n_row] * sizeof(double) : 0;
}

static void demand(const struct inputs *in, const struct timetable *t, const struct plan *p, const struct layout *l,
                   struct demand *d)
{
    demand_held(d, (struct held){"weights", 1, AT_EFFECTS, N_MOMENT, .half = !in->trains});
    if (p->copies) demand_held(d, (struct held){"reference", 1, AT_EFFECTS, N_MOMENT, .half = plan_reference_half(in)});
    d->rows = in->forget ? in->forget->n_row : 0; /* for the reference's nll */
    d->bytes = bytes_reference(in) + bytes_sets(in);
}
const struct part subject_part = {demand, NULL};

/* ------------------------------------------------------------------------------------------------------ new ------- */
enum status subject_new(const struct inputs *in, const struct plan *p, const struct grid *world, struct subject **out)
{
    enum status st = OK;
    struct subject *s = *out = memory_new(1, sizeof *s);
    if (!s) st = fail(ERR_MEMORY, "memory: cannot allocate the run");
    TRY(grid_agree(world, st));
    s->in = in, s->plan = p;
    TRY(grid_new(p->data, p->tensor, &s->grid));
    st = layout_new(in->shape, s->grid->tensor_rank, p->tensor, &s->layout);
    if (st == OK) st = layout_share(s->layout, s->grid, p->sharing, p->layers, p->ahead);
    if (st == OK) st = state_new_held("weights", s->layout, plan_half(in, plan_held(p, "weights")), &s->weights);
    st = grid_agree(s->grid, st);
done:
    return st;
}

static enum status new_lists(struct subject *s)
{
    const struct inputs *in = s->in;
    const struct dataset *known = in->pairs ? in->pairs : in->forget; /* pairs begin with the forget rows */
    enum status st = OK;
    TRY_NEW(s->every_row, in->train ? in->train->n_row : 0);
    for (size_t i = 0; in->train && i < in->train->n_row; i++) s->every_row[i] = i;
    if (!in->needs_reference) return OK;
    TRY_NEW(s->label_first, known->n_row + 1);
    for (size_t i = 0; i < known->n_row; i++) s->label_first[i + 1] = s->label_first[i] + dataset_labels(known, i);
    TRY_NEW(s->nll_ref, s->label_first[known->n_row]);
done:
    return st;
}

enum status subject_engine(struct subject *s, struct timetable *t)
{
    const struct plan *p = s->plan;
    enum status st = OK;
    s->timetable = t;
    if (p->copies)
        TRY(state_new_held("reference", s->layout, plan_half(s->in, plan_held(p, "reference")), &s->reference));
    if (s->in->needs_distribution && !p->copies) TRY(reference_list(s->in, t, s->layout, p->data, &s->kept));
    TRY(new_lists(s));
    TRY(model_new(s->layout, s->grid, &p->model, &s->model, NULL));
    s->engine = (struct engine){.grid = s->grid,
                                .layout = s->layout,
                                .model = s->model,
                                .weights = s->weights,
                                .reference = s->reference,
                                .kept = s->kept.kept,
                                .n_kept = s->kept.n,
                                .tokens = plan_most_tokens(p)};
    TRY(engine_room_new(&s->engine, &p->engine, false, NULL));
    s->engine.tokens = p->tokens;
    TRY(plan_homes(s->in, p, &s->n_home, &s->home, &s->n_memory));
    TRY_NEW(s->memory, s->n_memory);
    TRY_NEW(s->within, s->n_memory);
done:
    return grid_agree(s->grid, st);
}

enum status subject_state(struct subject *s, const char *name, size_t which, struct state **out)
{
    size_t i = 0;
    const struct home *home;
    struct state **memory, **within;
    enum status st = OK;
    *out = NULL;
    while (i < s->n_home && (strcmp(s->home[i].name, name) || s->home[i].which != which)) i++;
    if (i == s->n_home) return OK;
    home = &s->home[i], memory = &s->memory[home->at], within = &s->within[home->at];
    if (!*memory) TRY(state_new_held(name, s->layout, !home->wide, memory));
    if (home->half && home->wide && !*within) TRY(state_new_within(name, *memory, within));
    *out = home->half && home->wide ? *within : *memory;
done:
    return st;
}

void subject_states_free(struct subject *s)
{
    for (size_t i = 0; s->within && i < s->n_memory; i++) state_free(s->within[i]);
    for (size_t i = 0; s->memory && i < s->n_memory; i++) state_free(s->memory[i]);
    free(s->within), free(s->memory), free(s->home);
    s->within = s->memory = NULL, s->home = NULL, s->n_home = s->n_memory = 0;
}

void subject_free(struct subject *s)
{
    if (!s) return;
    subject_states_free(s);
    engine_room_free(&s->engine);
    model_free(s->model);
    reference_free(&s->kept);
    state_free(s->reference);
    state_free(s->weights);
    layout_free(s->layout);
    grid_free(s->grid);
    free(s->nll_ref), free(s->label_first), free(s->every_row);
    free(s);
}

/* ----------------------------------------------------------------------------------------------------- rows ------- */
struct rows subject_rows(const struct subject *s, const struct dataset *d, size_t n, const size_t *row)
{
    const struct inputs *in = s->in;
    const bool pairs = in->pairs && d == in->pairs, known = pairs || d == in->forget;
    return (struct rows){.data = d,
                         .n = n,
                         .row = row,
                         .nll_ref = known ? s->nll_ref : NULL,
                         .label_first = known ? s->label_first : NULL,
                         .pair = pairs ? in->forget->n_row : 0};
}

struct rows subject_forget(const struct subject *s, const struct objective *o)
{
    return subject_rows(s, inputs_of(s->in, o), s->in->forget->n_row, s->every_row);
}

double rows_tokens(const struct rows *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += (double)dataset_length(r->data, r->row[i]);
        if (r->pair) sum += (double)dataset_length(r->data, r->row[i] + r->pair);
    }
    return sum;
}

void subject_count(struct subject *s, const struct rows *r, double products)
{
    s->flops += products * plan_products(s->layout) * rows_tokens(r);
}

enum status subject_gradient(struct subject *s, const struct objective *o, const struct rows *r, const double *weight,
                             bool add, struct state *gradient, double *loss)
{
    enum status st;
    if (add) state_count_once(gradient);
    state_reduce_soon(gradient);
    TRY(state_reduce_after(s->grid, gradient, engine_gradient(&s->engine, o, r, weight, add, gradient, loss)));
    subject_count(s, r, 6 + plan_reference(s->plan, o));
done:
    return st;
}
