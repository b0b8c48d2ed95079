/* A hash of every input value that affects results, independent of its spelling and place: two inputs that give the
 * same lines run the same computation. */
#include "unlearn/plan.h"
#include <math.h>
#include <string.h>

/* Adds an objective with all digits of its parameters. */
static enum status exact(const struct objective *o, struct text *t)
{
    enum status st = text_print(t, " %s", objective_name(o));
    for (int k = 0; k < 4 && st == OK; k++) st = text_print(t, " %.17g", o->parameter[k]);
    if (st == OK && objective_unit(o)) st = text_print(t, " unit"); /* what came later does not change older digests */
    return st;
}

static enum status dual(const struct config_objective *r, struct text *t)
{
    if (!r->dual.step_size) return OK;
    return text_print(t, " dual %.17g %.17g %.17g %d", r->dual.step_size, r->dual.eps, r->dual.warmup_epochs,
                      (int)r->dual.update);
}

/* Says nothing where there is none, so that older digests stay. */
static enum status guard(const struct inputs *in, struct text *t)
{
    const struct config *c = in->config;
    enum status st = OK;
    if (!isnan(c->guard.budget))
        TRY(text_print(t, "budget %.17g %d %d %d %zu\n", c->guard.budget, (int)c->guard.limits, (int)c->guard.of,
                       (int)c->guard.act, c->guard.act == ACT_STEP_BACK ? c->checkpoint.every : 0));
    if (c->guard.layers) TRY(text_print(t, "rest %zu\n", c->guard.layers));
    if (c->guard.project > 0) TRY(text_print(t, "project %.17g\n", c->guard.project));
    if (c->guard.risk) TRY(text_print(t, "guarded %s\n", c->guard.risk));
done:
    return st;
}

static enum status settings(const struct inputs *in, const char *measured, struct text *t)
{
    const struct config *c = in->config;
    enum status st;
    TRY(text_print(t, "task %d seed %llu init %d held_out %zu precision %d\n", (int)c->task, (unsigned long long)c->seed,
                   (int)c->model.init, in->held_out, (int)c->precision));
    if (in->trains) {
        TRY(exact(&in->objective, t));
        if (c->objective.weight != 1) TRY(text_print(t, " x %.17g", c->objective.weight));
        for (size_t i = 0; i < in->n_regularizer; i++) {
            TRY(text_print(t, " + %.17g x %zu ", in->regularizer[i].weight, in->regularizer[i].batch));
            TRY(exact(&in->regularizer[i].objective, t));
            TRY(dual(&c->regularizer[i], t));
        }
        TRY(text_print(t, "\noptimizer %d %.17g %.17g %.17g %.17g %.17g %d %zu %.17g\n", (int)c->optimizer.name,
                       c->optimizer.lr, c->optimizer.beta1, c->optimizer.beta2, c->optimizer.eps,
                       c->optimizer.weight_decay, (int)c->optimizer.schedule, c->optimizer.warmup_steps,
                       c->optimizer.clip));
        if (c->train.combine != COMBINE_GLOBAL)
            TRY(text_print(t, "combine %d by %zu\n", (int)c->train.combine, c->train.batch_size));
        if (c->optimizer.storage != PRECISION_FLOAT32) TRY(text_print(t, "storage %d\n", (int)c->optimizer.storage));
        if (c->optimizer.weight_decay > 0) TRY(text_print(t, "decay %d\n", (int)c->optimizer.decay));
        TRY(text_print(t, "train %.17g %zu %zu %d %d\n", c->train.epochs, c->train.steps,
                       c->train.batch_size * c->train.accumulation, c->train.shuffle, (int)c->train.pair_retain));
    }
    if (in->trains) TRY(guard(in, t));
    if (in->measures) {
        TRY(text_print(t, "geffect %zu %d", c->geffect.every, (int)c->geffect.resolution));
        TRY(text_print(t, " %d %d%s", (int)c->geffect.normalisation, (int)c->geffect.estimator, measured));
        if (c->geffect.curvature.window) TRY(text_print(t, " window %zu", c->geffect.curvature.window));
        if (c->geffect.tokens == TOKENS_REFUSALS) TRY(text_print(t, " tokens of refusals"));
        for (size_t j = 0; j < in->n_measured; j++) TRY(exact(&in->measured[j], t));
        for (size_t i = 0; i < in->n_regularizer && !in->trains; i++) {
            TRY(text_print(t, " and %.17g ", in->regularizer[i].weight));
            TRY(exact(&in->regularizer[i].objective, t));
        }
    }
done:
    return st;
}

static enum status evaluation(const struct inputs *in, struct text *t)
{
    const struct config *c = in->config;
    enum status st = OK;
    if (!in->evaluation) return OK;
    TRY(text_print(t, "\nevaluate %zu %zu %d %d %d %d %.17g %.17g", c->evaluate.every, c->evaluate.max_length,
                   (int)c->evaluate.end_token, (int)c->evaluate.none_extracted, (int)c->evaluate.truth_ratio,
                   (int)c->evaluate.length, c->evaluate.min_k,
                   isnan(c->evaluate.privleak_auc) ? 0.5 : c->evaluate.privleak_auc));
    for (int k = 0; k < SCORE_CORRECT; k++) TRY(text_print(t, " %d", in->evaluation->wanted[k]));
    if (c->evaluate.benchmark != BENCHMARK_TOFU || c->evaluate.variant == VARIANT_OPEN_UNLEARNING)
        TRY(text_print(t, " benchmark %d variant %d hides %zu", (int)c->evaluate.benchmark, (int)c->evaluate.variant,
                       in->evaluation->hide));
    for (size_t i = 0; i < in->evaluation->n; i++) TRY(text_print(t, " %s", in->evaluation->set[i].name));
done:
    return st;
}

/* Where answers end, if it is not in config.json that it is said. */
static enum status ends(const struct inputs *in, struct text *t)
{
    enum status st = OK;
    if ((!in->evaluation && !in->prompts) || !ends_differ(in)) return OK;
    TRY(text_print(t, "\nends"));
    for (size_t i = 0; i < in->ends.n; i++) TRY(text_print(t, " %d", (int)in->ends.id[i]));
done:
    return st;
}

static enum status generation(const struct inputs *in, struct text *t)
{
    const struct config *c = in->config;
    if (!in->prompts) return OK;
    return text_print(t, "\ngenerate %zu %.17g %.17g %016llx", c->generate.max_length, c->generate.temperature,
                      c->generate.top_p, (unsigned long long)in->prompts->hash);
}

/* Adds the names of the frozen parameters, so that it does not matter how train.freeze spells them. */
static enum status frozen(const struct inputs *in, struct text *t)
{
    enum status st = OK;
    struct layout *l = NULL;
    if (!in->frozen || !in->trains) return OK;
    TRY(layout_new(in->shape, 0, 1, &l));
    TRY(text_print(t, "\nfrozen"));
    for (size_t i = 0; i < l->n_param; i++)
        if (in->frozen[i] && !l->param[i].goes_on) TRY(text_print(t, " %s", l->param[i].name));
done:
    layout_free(l);
    return st;
}

static uint64_t mix(uint64_t h, uint64_t value) { return hash_bytes(&value, sizeof value, h); }

static uint64_t mix_risk(uint64_t h, const struct risk *k)
{
    h = mix(h, k->data->hash);
    h = hash_bytes(k->weight, k->n * sizeof *k->weight, h);
    return hash_bytes(k->row, k->n * sizeof *k->row, h);
}

/* What the numbers of an evaluation are compared with; rank 0 alone has it. */
static uint64_t mix_log(uint64_t h, const struct eval_log *log)
{
    for (int i = 0; i < N_EVAL_SET; i++) {
        const struct eval_set *s = &log->set[i];
        const double *each[] = {s->nll, s->paraphrased, s->ratio};
        for (size_t k = 0; k < sizeof each / sizeof *each; k++)
            if (each[k]) h = hash_bytes(each[k], s->n * sizeof *each[k], h);
        if (s->perturbed) h = hash_bytes(s->perturbed, s->n * s->n_wrong * sizeof *s->perturbed, h);
    }
    return log->has_min_k ? hash_bytes(&log->min_k_area, sizeof log->min_k_area, h) : h;
}

uint64_t plan_digest(const struct inputs *in, const char *measured, uint64_t weights, uint64_t reference)
{
    struct text t = {0};
    uint64_t h = 0;
    if (settings(in, measured, &t) == OK && frozen(in, &t) == OK && evaluation(in, &t) == OK &&
        generation(in, &t) == OK && ends(in, &t) == OK)
        h = hash_bytes(t.data, t.n, 0);
    text_free(&t);
    h = mix(mix(mix(h, shape_hash(in->shape)), weights), reference);
    if (in->forget) h = mix(h, in->forget->hash);
    if (in->refusals) h = mix(h, in->refusals->hash);
    for (size_t i = 0; i < in->n_direction; i++)
        h = hash_bytes(in->direction[i].u, in->shape->hidden * sizeof *in->direction[i].u, h);
    if (in->retain) h = mix(h, in->retain->hash);
    for (size_t k = 0; k < in->n_risk; k++) h = mix_risk(h, &in->risk[k]);
    if (in->paired) h = mix_risk(h, in->paired);
    for (size_t i = 0; in->evaluation && i < in->evaluation->n; i++)
        for (int k = 0; k < N_VARIANT_OF; k++)
            if (in->evaluation->set[i].of[k].data) h = mix(h, in->evaluation->set[i].of[k].data->hash);
    return in->evaluation ? mix_log(h, &in->evaluation->retain) : h;
}
