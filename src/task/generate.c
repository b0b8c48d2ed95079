/* task: generate. The prompts are continued, and generations.jsonl gets a line for each. */
#include "unlearn/task_priv.h"
#include "unlearn/weights.h"
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 32 }; /* enough that the weights are read from memory once for many tokens */

static struct generation how(const struct inputs *in, const struct plan *p)
{
    const struct config *c = in->config;
    return (struct generation){.max_length = c->generate.max_length,
                               .temperature = c->generate.temperature,
                               .top_p = c->generate.top_p,
                               .seed = c->seed,
                               .n_eos = in->ends.n,
                               .eos = in->ends.id,
                               .slots = p->slots};
}

/* Tokens that are read and written at most. */
static double most_tokens(const struct inputs *in)
{
    const size_t most = in->config->generate.max_length;
    return (double)(in->prompts->n - in->prompts->n_long) * (double)most;
}

/* Memory and work on the layout that p has. */
static enum status sizes(const struct inputs *in, struct plan *p)
{
    struct grid g = {.data_size = p->data, .tensor_size = p->tensor};
    struct layout *l = NULL;
    struct generation decoding;
    size_t later;
    enum status st;
    TRY(layout_largest(in->shape, p->tensor, &l));
    decoding = how(in, p);
    plan_share(l, p);
    p->bytes_model = generate_bytes(&g, l, p->halves || plan_shares_all(p), &decoding);
    p->all.bytes = (size_t)(most_tokens(in) / p->data + 2 * most_tokens(in)) * sizeof(int32_t);
    later = p->bytes_model + p->all.bytes; /* than the weights are read */
    p->bytes = p->bytes_base + plan_states(p) + (later > WEIGHTS_READ_BYTES ? later : WEIGHTS_READ_BYTES);
    p->all.flops_evaluate = 2 * plan_products(l) * most_tokens(in);
done:
    layout_free(l);
    return st;
}

/* On the layout by rule, where a process may have so much. */
static enum status layout(const struct inputs *in, const struct machine *m, struct plan *p)
{
    const struct config *c = in->config;
    size_t each;
    enum status st;
    *p = (struct plan){.room = m->room};
    TRY(plan_layout(in, NULL, m, p));
    TRY(blas_room(in, p->threads));
    math_threads(p->threads);
    math_warm_up(); /* what is resident then stays */
    p->bytes_base = memory_resident();
    each = (in->prompts->n + (size_t)p->data - 1) / (size_t)p->data;
    p->slots = c->generate.slots != CONFIG_AUTO ? c->generate.slots : SLOTS;
    if (p->slots > each) p->slots = each;
    demand_held(&p->all, (struct held){"weights", 1, AT_EFFECTS, N_MOMENT, .half = true});
    p->all.states = 1, p->halves = plan_half(in, plan_held(p, "weights"));
    TRY(sizes(in, p));
done:
    return st;
}

/* Data ranks share the weights where the memory of any would not do, and if that helps. */
static enum status plan(const struct inputs *in, const struct grid *world, const struct machine *m, struct plan *p)
{
    struct plan full;
    double beyond, more;
    enum status st;
    /* with bfloat16 the weights are held so, and no operand of a product is rounded */
    if (in->config->precision != PRECISION_BFLOAT16) TRY(products_asked(in, world));
    TRY(grid_agree(world, layout(in, m, p)));
    beyond = !plan_fits(m, p);
    comm_max_double(world->world, &beyond, 1);
    if (in->config->parallel.shard != SHARD_AUTO || beyond == 0 || p->data == 1 || !plan_can_share(in)) goto done;
    full = *p;
    full.unshared = p->bytes, full.shard = SHARD_FULL;
    st = sizes(in, &full);
    TRY(grid_agree(world, st));
    more = full.bytes >= p->bytes;
    comm_max_double(world->world, &more, 1);
    if (more == 0) *p = full;
done:
    return st;
}

static enum status print_plan(const struct inputs *in, const struct plan *p, struct text *out)
{
    const struct config *c = in->config;
    enum status st;
    TRY(text_print(out, "layout     %d processes = data %d x tensor %d, %d thread%s each\n", p->data * p->tensor, p->data,
                   p->tensor, p->threads, p->threads == 1 ? "" : "s"));
    TRY(text_print(out, "prompts    %s: %zu, %zu at a time in each process, up to %zu tokens with their answers\n",
                   c->generate.prompts ? c->generate.prompts : "generate.prompt", in->prompts->n, p->slots,
                   c->generate.max_length));
    TRY(text_print(out, "memory     %.1f MB a process: %.1f at start, %.1f weights%s, %.1f decoding, %.1f answers\n",
                   (double)p->bytes / 1e6, (double)p->bytes_base / 1e6, (double)plan_states(p) / 1e6,
                   p->halves ? " in bfloat16" : "", (double)p->bytes_model / 1e6, (double)p->all.bytes / 1e6));
    TRY(plan_print_shared(in, p, out));
    TRY(text_print(out, "work       at most %.3g Gflop", p->all.flops_evaluate / 1e9));
done:
    return st;
}

static enum status check(const struct inputs *in, const struct grid *world, const struct machine *m, const struct plan *p)
{
    struct text text = {0};
    enum status st;
    TRY(grid_agree(world, print_plan(in, p, &text)));
    TRY(check_print(in, NULL, world, m, p, &text));
done:
    text_free(&text);
    return st;
}

static void report_model(const struct subject *s)
{
    struct text t = {0};
    report_head(s);
    if (print_plan(s->in, s->plan, &t) == OK) log_info("%s", t.data);
    text_free(&t);
}

/* ----------------------------------------------------------------------------------------------- generations.jsonl ----- */
static enum status add_line(const struct prompt_inputs *p, const struct answers *a, size_t i, struct text *answer,
                            struct text *out)
{
    const size_t n = a->first[i + 1] - a->first[i];
    json_t *ids = json_array(), *line = NULL;
    char *printed = NULL;
    enum status st = OK;
    answer->n = 0;
    TRY(answer_text(p->tokenizer, a->id + a->first[i], n, answer));
    for (size_t t = 0; t < n; t++) json_array_append_new(ids, json_integer(a->id[a->first[i] + t]));
    line =
        json_pack("{s:I, s:s%, s:I, s:O, s:s%, s:s}", "row", (json_int_t)i, "prompt", p->text[i].n ? p->text[i].data : "",
                  p->text[i].n, "prompt_tokens", (json_int_t)(p->first[i + 1] - p->first[i]), "ids", ids, "text",
                  answer->n ? answer->data : "", answer->n, "stop", a->stop[i] == STOP_EOS ? "eos" : "max_length");
    if (!line || !(printed = json_text(line, 0))) {
        st = fail(ERR_INTERNAL, "generations.jsonl: row %zu: cannot be written as JSON", i);
        goto done;
    }
    TRY(text_add(out, printed, strlen(printed)));
    TRY(text_add(out, "\n", 1));
done:
    json_decref(line);
    json_decref(ids);
    free(printed);
    return st;
}

static enum status write_answers(const struct subject *s, const struct answers *a)
{
    char *path = NULL;
    struct text out = {0}, answer = {0};
    enum phase before = phase_enter(PHASE_OUTPUT);
    enum status st = OK;
    if (s->grid->rank) goto done;
    TRY(path_join(s->in->config->output_directory, "generations.jsonl", &path));
    for (size_t i = 0; i < a->n; i++) TRY(add_line(s->in->prompts, a, i, &answer, &out));
    TRY(output_write_text(path, out.data, out.n));
done:
    text_free(&out);
    text_free(&answer);
    free(path);
    phase_enter(before);
    return grid_agree(s->grid, st);
}

/* The first few answers, what ended them all, and how fast they came. */
static void report_answers(const struct subject *s, const struct answers *a, double seconds)
{
    enum { SHOWN = 3, WIDTH = 160 };
    const struct prompt_inputs *p = s->in->prompts;
    size_t ended = 0;
    double peak = (double)memory_peak();
    comm_max_double(s->grid->world, &peak, 1);
    if (s->grid->rank) return;
    for (size_t i = 0; i < a->n; i++) ended += a->stop[i] == STOP_EOS;
    for (size_t i = 0; i < a->n && i < SHOWN; i++) {
        struct text t = {0};
        if (answer_text(p->tokenizer, a->id + a->first[i], a->first[i + 1] - a->first[i], &t) == OK && t.n) {
            for (size_t k = 0; k < t.n; k++) t.data[k] = (unsigned char)t.data[k] < ' ' ? ' ' : t.data[k];
            if (t.n > WIDTH) /* not in the middle of a character */
                for (t.n = WIDTH; t.n && ((unsigned char)t.data[t.n] & 0xC0) == 0x80;) t.n--;
            log_info("answer %zu   %.*s", i, (int)t.n, t.data);
        }
        text_free(&t);
    }
    log_info("%zu answers: %zu ended by themselves, %zu at generate.max_length; %zu tokens in %.2f s, %.0f a second",
             a->n, ended, a->n - ended, a->first[a->n], seconds, (double)a->first[a->n] / seconds);
    log_info("memory of a process: planned %.1f MB, peak %.1f MB", (double)s->plan->bytes / 1e6, peak / 1e6);
}

static enum status continue_all(struct subject *s)
{
    const struct prompt_inputs *p = s->in->prompts;
    const struct generation decoding = how(s->in, s->plan);
    struct answers a = {0};
    double began = clock_seconds();
    enum status st;
    TRY(generate(s->grid, s->layout, s->weights, &decoding, p->n, p->first, p->id, &a));
    began = clock_seconds() - began;
    TRY(write_answers(s, &a));
    report_answers(s, &a, began);
done:
    answers_free(&a);
    return st;
}

static enum status run(const struct options *o, const struct inputs *in, const struct plan *p, const struct grid *world)
{
    struct run r = {.in = in, .plan = p};
    enum status st;
    TRY(subject_new(in, p, world, &r.subject));
    TRY(run_directory(&r, o));
    report_model(r.subject);
    TRY(subject_reference(r.subject));
    TRY(subject_weights(r.subject));
    TRY(run_files(&r));
    TRY(continue_all(r.subject));
    TRY(run_complete(&r));
done:
    run_free(&r);
    return st;
}

enum status task_generate(const struct options *o, const struct inputs *in, const struct grid *world)
{
    const struct machine m = machine_of(in->config, world, least_room(world), o->check);
    struct plan p;
    enum status st;
    TRY(plan(in, world, &m, &p));
    if (o->check) return check(in, world, &m, &p);
    TRY(grid_agree(world, plan_memory(in, &p)));
    TRY(run(o, in, &p, world));
done:
    return st;
}
