/* What a measurement holds: a gradient for every risk, buffers for the effects, and what its probes made. */
#include "unlearn/probe_priv.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------------- plan ------- */
/* Length of the longest list of rows in a measurement. */
static size_t most_rows(const struct inputs *in)
{
    size_t rows = in->forget->n_row;
    for (size_t k = 0; k < in->n_risk; k++)
        if (rows < in->risk[k].n) rows = in->risk[k].n;
    return rows;
}

static double work(const struct inputs *in, const struct plan *p, double N)
{
    const double K = (double)in->n_risk, J = (double)in->n_measured, turns = K / (double)plan_at_once(p, in->n_risk);
    const struct risk *retain = inputs_regularized(in);
    double flops = (turns * (2 + 2 * J) + 2 * K) * N * plan_tokens(in->forget, in->forget->n_row, NULL);
    for (size_t k = 0; k < in->n_risk; k++)
        flops += 6 * N * plan_tokens(in->risk[k].data, in->risk[k].n, in->risk[k].row);
    if (retain)
        flops += (double)in->n_regularizer * (4 * turns + 2 * K) * N * plan_tokens(in->retain, retain->n, retain->row);
    return flops;
}

/* Effects of the objectives in groups and of the regularisers, on so many risks. */
static void demand_effects(const struct inputs *in, const struct plan *p, size_t K, struct demand *d)
{
    const struct risk *retain = inputs_regularized(in);
    struct call c = {
        .of = OF_MEASUREMENT, .directions = K, .among = in->n_risk, .n = in->forget->n_row, .outputs = OUTPUTS_LABELLED};
    for (size_t j = 0; j < in->n_measured; j += c.objectives) {
        c.data = inputs_of(in, &in->measured[j]), c.pair = in->pairs && c.data == in->pairs ? in->forget->n_row : 0;
        c.outputs = objective_outputs(&in->measured[j]);
        c.objectives = measured_together(in, j) - j, c.forwards = 0;
        for (size_t i = j; i < j + c.objectives; i++) c.forwards += plan_reference(p, &in->measured[i]) / 2;
        demand_call(d, &c);
    }
    for (size_t i = 0; i < in->n_regularizer && retain; i++) {
        const struct objective *o = &in->regularizer[i].objective;
        demand_call(d, &(struct call){.of = OF_MEASUREMENT,
                                      .data = in->retain,
                                      .n = retain->n,
                                      .row = retain->row,
                                      .outputs = objective_outputs(o),
                                      .objectives = 1,
                                      .directions = K,
                                      .among = in->n_risk,
                                      .forwards = plan_reference(p, o) / 2});
    }
}

/* The calls of a measurement: the gradients of the risks, and the effects on those that are held. */
static void demand_calls(const struct inputs *in, const struct plan *p, struct demand *d)
{
    const size_t at_once = plan_at_once(p, in->n_risk);
    struct call c = {.of = OF_MEASUREMENT, .objectives = 1, .gradient = true, .gathered = true};
    for (size_t k = 0; k < in->n_risk; k++) {
        c.data = in->risk[k].data, c.n = in->risk[k].n, c.row = in->risk[k].row;
        c.outputs = OUTPUTS_LABELLED;
        demand_call(d, &c);
        demand_sweeps(d, OF_MEASUREMENT, 1, 0);
    }
    for (size_t k = 0; k < in->n_risk; k += at_once) demand_effects(in, p, at_once, d);
}

static void demand_probe(const struct probe *probe, const struct inputs *in, const struct plan *p, const struct layout *l,
                         struct demand *d)
{
    struct demand own = {.counter = d->counter};
    if (!probe->wanted(in)) return;
    if (probe->keeps && probe->keeps(in))
        demand_held(d, (struct held){"risks", in->n_risk, AT_EFFECTS, AT_UPDATED, .half = true});
    if (!probe->demand) return;
    probe->demand(in, p, l, &own);
    demand_rest(d, OF_MEASUREMENT, own.flops_measure);
    if (d->directions < own.directions) d->directions = own.directions;
    if (d->objectives < own.objectives) d->objectives = own.objectives;
    if (d->tangents < own.tangents) d->tangents = own.tangents;
    if (d->rows < own.rows) d->rows = own.rows;
    d->keep_tangents |= own.keep_tangents;
    d->bytes += own.bytes;
    d->flops_measure += own.flops_measure;
    for (size_t i = 0; i < own.n_held; i++) demand_held(d, own.held[i]);
}

/* Effects of the regularisers, of all risks, until they are put into the file. */
static size_t retain_values(const struct inputs *in, size_t labels)
{
    const struct risk *retain = inputs_regularized(in);
    return retain ? in->n_regularizer * retain->n * (in->n_risk * labels + 1) : 0;
}

static void demand(const struct inputs *in, const struct timetable *s, const struct plan *p, const struct layout *l,
                   struct demand *d)
{
    const size_t labels = l->n_tensor + l->n_layer, J = in->n_measured, K = in->n_risk, at_once = plan_at_once(p, K);
    if (!in->measures) return;
    d->rows = most_rows(in);
    d->objectives = J;
    d->directions = at_once;
    demand_held(d, (struct held){"risks", at_once, AT_EFFECTS, AT_EFFECTS, .half = true});
    d->bytes = (d->rows * (J * (at_once * slot_count(l) + K * (labels + 1)) + 3 * J + 3) + risk_labels(in) +
                retain_values(in, labels)) *
               sizeof(double);
    d->flops_measure = work(in, p, plan_products(l));
    demand_calls(in, p, d);
    for (size_t i = 0; i < n_probe; i++) demand_probe(probe_table[i], in, p, l, d);
}

static enum status print(const struct inputs *in, const struct plan *p, const struct demand *d, struct text *out)
{
    struct layout *l = NULL;
    enum status st = OK;
    if (!in->measures) return OK;
    TRY(layout_new(in->shape, 0, p->tensor, &l));
    for (size_t i = 0; i < n_probe; i++)
        if (probe_table[i]->wanted(in) && probe_table[i]->print) TRY(probe_table[i]->print(in, p, l, out));
done:
    layout_free(l);
    return st;
}
const struct part measurement_part = {demand, print};

/* ------------------------------------------------------------------------------------------------------ new ------- */
/* Makes the labels of the files' `layer` axis, and the layer to which each use of a tensor is added. */
static enum status new_labels(struct measurement *m)
{
    const struct layout *l = m->subject->layout;
    const bool tensors = m->subject->in->config->geffect.resolution == RESOLUTION_TENSOR;
    const size_t slots = slot_count(l);
    enum status st = OK;
    m->n_layer = tensors ? l->n_tensor : l->n_layer;
    TRY_NEW(m->layer, m->n_layer);
    TRY_NEW(m->slot_layer, slots);
    for (size_t i = 0; i < (tensors ? l->n_param : l->n_layer); i++) {
        char buffer[32], **label = &m->layer[tensors ? l->param[i].tensor : i];
        if (tensors && l->param[i].goes_on) continue;
        *label = text_copy(tensors ? l->param[i].name : layer_name(l, i, buffer));
        if (!*label) {
            st = fail(ERR_MEMORY, "memory: cannot allocate the labels of layers");
            goto done;
        }
    }
    for (size_t s = 0; s < slots; s++) m->slot_layer[s] = tensors ? slot_param(l, s)->tensor : slot_layer(l, s);
done:
    return st;
}

static enum status new_lists(struct measurement *m)
{
    const struct inputs *in = m->subject->in;
    const size_t rows = most_rows(in), J = in->n_measured, K = in->n_risk, slots = slot_count(m->subject->layout);
    const size_t retain = inputs_regularized(in) ? in->n_regularizer * inputs_regularized(in)->n : 0;
    enum status st = OK;
    TRY_NEW(m->risk_value, K);
    TRY_NEW(m->risk_nll, risk_labels(in));
    TRY_NEW(m->inverse_confidence, in->forget->n_row);
    TRY_NEW(m->total, J * K);
    TRY_NEW(m->effect, J * m->at_once * slots * rows);
    TRY_NEW(m->effect_loss, J * rows);
    TRY_NEW(m->mean_weight, (J + 1) * rows);
    TRY_NEW(m->retain_slab, retain * K * m->n_layer);
    TRY_NEW(m->retain_loss, retain);
    TRY_NEW(m->slab, J * K * m->n_layer * rows);
    TRY_NEW(m->instance_effect, J * K * in->forget->n_row);
done:
    return st;
}

/* Makes the weights of the forget rows in the totals of effects. */
static enum status new_weights(struct measurement *m)
{
    const struct inputs *in = m->subject->in;
    enum status st = OK;
    TRY_NEW(m->instance_weight, in->n_measured * in->forget->n_row);
    for (size_t j = 0; j < in->n_measured; j++) {
        const struct rows rows = subject_forget(m->subject, &in->measured[j]);
        TRY(objective_weights(in, &in->measured[j], &rows, m->instance_weight + j * rows.n));
    }
done:
    return st;
}

static enum status new_probes(struct measurement *m)
{
    enum status st = OK;
    for (size_t i = 0; i < n_probe; i++)
        if (probe_table[i]->wanted(m->subject->in)) TRY(probe_table[i]->make(m, &m->probe[i]));
done:
    return st;
}

enum status measurement_new(struct subject *s, struct training *t, struct measurement **out)
{
    struct measurement *m = *out = NULL;
    enum status st = OK;
    TRY_NEW(m, 1);
    m->subject = s, m->training = t;
    m->at_once = plan_at_once(s->plan, s->in->n_risk);
    TRY_NEW(m->risk_gradient, m->at_once);
    for (size_t k = 0; k < m->at_once; k++) TRY(subject_state(s, "risks", k, &m->risk_gradient[k]));
    TRY(new_labels(m));
    TRY(new_lists(m));
    TRY(new_weights(m));
    TRY(new_probes(m));
    *out = m, m = NULL;
done:
    measurement_free(m);
    return grid_agree(s->grid, st);
}

void measurement_free(struct measurement *m)
{
    if (!m) return;
    measurement_close(m);
    for (size_t i = 0; i < n_probe; i++)
        if (probe_table[i]->end) probe_table[i]->end(m->probe[i]);
    for (size_t i = 0; m->layer && i < m->n_layer; i++) free(m->layer[i]);
    free(m->risk_gradient), free(m->risk_value), free(m->layer), free(m->slot_layer);
    free(m->effect), free(m->effect_loss), free(m->mean_weight), free(m->slab);
    free(m->retain_slab), free(m->retain_loss);
    free(m->instance_weight), free(m->instance_effect), free(m->total), free(m->risk_nll), free(m->inverse_confidence);
    free(m);
}
