/* make bench: a training step, an effect pass and pairs on three shapes, as one JSON line each, so that runs can be compared.
 *      bench SHAPE THREADS [REPETITIONS [TENSOR [PRODUCTS]]]   under mpirun for more processes: data parallel, TENSOR of them
 *                                                             tensor; PRODUCTS: blas, onednn, or bfloat16 (oneDNN's)
 * A repetition is two AdamW steps of 16 sequences, or the effects of 40. Flops are nominal: 6 N for a token of a step,
 * (2 + 2K + 2J) N for one of an effect pass with K = 2 risks (effects_on_one: 1, as other programs have it) and J objectives;
 * N = all parameters but the input embedding.
 *      ratio      flops / seconds / (products of the same process, best of five of a 2048-cube, times the processes)
 *      of_peak    the same by the rate of multiply-adds in registers, which the library does not touch
 * Pairs are effects of the 40 on each of PAIR_ROWS rows. `loop_seconds`: with every gradient formed when a pair needs it, from LOOP
 * rows; `stored_seconds`: with each formed once and those of the 40 all kept (stored_mb), which large models have no room for.
 * TOKENS=1024: of a pass. SHARD=full: the data ranks share all states; AHEAD=1: and gather blocks ahead of use, as between nodes.
 * Tokens are those of SHARED/bench/tokens.json or, where it is absent, made ones of the same lengths. */
#include "unlearn/geffect.h"
#include "unlearn/optim.h"
#include "unlearn/weights.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *config;
} shapes[] = {
    {"M1", "{\"model_type\":\"llama\",\"hidden_size\":288,\"num_hidden_layers\":6,\"num_attention_heads\":6,"
           "\"intermediate_size\":768,\"vocab_size\":4096,\"max_position_embeddings\":1024,\"eos_token_id\":0}"},
    {"M2", "{\"model_type\":\"gpt_neox\",\"hidden_size\":512,\"num_hidden_layers\":6,\"num_attention_heads\":8,"
           "\"intermediate_size\":2048,\"vocab_size\":4096,\"max_position_embeddings\":1024,\"eos_token_id\":0,"
           "\"hidden_act\":\"gelu\"}"},
    {"M3", "{\"model_type\":\"llama\",\"hidden_size\":768,\"num_hidden_layers\":12,\"num_attention_heads\":12,"
           "\"intermediate_size\":2048,\"vocab_size\":4096,\"max_position_embeddings\":1024,\"eos_token_id\":0}"},
};
enum { BATCH = 16, STEPS = 2, VOCABULARY = 4096, K = 2 };

struct bench {
    const char *name, *products;
    int threads, tensor;
    size_t tokens;
    double rate, peak; /* of sgemm and multiply-adds before the measurement; the better of before and after counts */
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights, *gradient, *risk[K];
    struct optim *optim;
    struct engine engine;
    struct dataset *forget, *train;
    size_t *every, *label_first;
    double *weight, *loss, *mean, *effect, *token;
};

/* Rows of `part` as [ids, tokens of the prompt]; without the file rows of the lengths' mean, prompts a third. */
static struct dataset *read_rows(const json_t *root, const char *part, size_t rows)
{
    struct dataset *d = calloc(1, sizeof *d);
    const json_t *list = json_object_get(root, part);
    size_t n = list ? json_array_size(list) : rows;
    d->path = strdup(part);
    d->first = calloc(n + 1, sizeof *d->first);
    d->id = calloc(n * 512, sizeof *d->id);
    d->label = calloc(n * 512, sizeof *d->label);
    for (size_t i = 0; i < n; i++) {
        const json_t *ids = list ? json_array_get(json_array_get(list, i), 0) : NULL;
        size_t length = ids ? json_array_size(ids) : 30 + (i * 37) % 60;
        size_t prompt = ids ? (size_t)json_integer_value(json_array_get(json_array_get(list, i), 1)) : length / 3;
        for (size_t t = 0; t < length; t++) {
            size_t at = d->first[i] + t;
            d->id[at] =
                (int32_t)(ids ? json_integer_value(json_array_get(ids, t)) : (long)((i * 101 + t * 977) % VOCABULARY));
            d->label[at] = t < prompt ? LABEL_NONE : d->id[at];
        }
        d->first[i + 1] = d->first[i] + length;
    }
    d->n_row = n;
    return d;
}

/* WHAT="step effects": these alone; without it everything. */
static bool wanted(const char *what)
{
    const char *only = getenv("WHAT"), *at = only ? strstr(only, what) : NULL;
    return !only || (at && (at[strlen(what)] == 0 || at[strlen(what)] == ' '));
}

static void must(enum status st)
{
    if (st == OK) return;
    fprintf(stderr, "bench: %s\n", fail_message());
    parallel_abort(1);
}

static void prepare(struct bench *b, const char *config)
{
    const char *shared = getenv("SHARED");
    char path[4096];
    json_t *root = NULL;
    struct optim_settings set = {
        .lr = 1e-5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .steps = 1000};
    struct model_limits most = {.rows = b->tokens,
                                .outputs = b->tokens,
                                .sequences = b->tokens,
                                .longest = smaller(512, b->tokens),
                                .objectives = 2,
                                .tangents = K,
                                .keep_tangents = true};
    struct engine_limits rows = {.rows = 256, .objectives = 1, .risks = K, .tangents = K};
    struct model *model;
    snprintf(path, sizeof path, "%s/bench/tokens.json", shared ? shared : "../shared");
    if (json_read(path, 1 << 24, &root) != OK) fail_clear();
    b->forget = read_rows(root, "du", 40);
    b->train = read_rows(root, "train", 128);
    json_decref(root);
    must(shape_parse("bench", config, strlen(config), &b->shape));
    must(grid_new(parallel_job_size() / b->tensor, b->tensor, &b->grid));
    must(layout_new(b->shape, b->grid->tensor_rank, b->tensor, &b->layout));
    must(layout_share(b->layout, b->grid, getenv("SHARD") ? SHARING_ALL : SHARING_MOMENTS, 1 + K, getenv("AHEAD")));
    must(state_new("weights", b->layout, &b->weights));
    must(state_new("gradient", b->layout, &b->gradient));
    for (int k = 0; k < K; k++) {
        must(state_new("risk", b->layout, &b->risk[k]));
        weights_random(b->shape, 7 + (uint64_t)k, b->risk[k]);
    }
    must(optim_new(&set, b->layout, &b->optim));
    weights_random(b->shape, 1, b->weights);
    must(model_new(b->layout, b->grid, &most, &model, NULL));
    b->engine =
        (struct engine){.grid = b->grid, .layout = b->layout, .model = model, .weights = b->weights, .tokens = b->tokens};
    must(engine_room_new(&b->engine, &rows, false, NULL));
    b->every = calloc(256, sizeof *b->every);
    for (size_t i = 0; i < 256; i++) b->every[i] = i;
    b->weight = calloc(256, sizeof *b->weight);
    b->loss = calloc(256, sizeof *b->loss);
    b->mean = calloc(256, sizeof *b->mean);
    b->effect = calloc(K * slot_count(b->layout) * 256, sizeof *b->effect);
    b->label_first = calloc(b->forget->n_row + 1, sizeof *b->label_first);
    for (size_t i = 0; i < b->forget->n_row; i++)
        b->label_first[i + 1] = b->label_first[i] + dataset_labels(b->forget, i);
    b->token = calloc(K * b->label_first[b->forget->n_row], sizeof *b->token);
}

static void step(struct bench *b, size_t t)
{
    struct objective nll;
    struct rows rows = {.data = b->train, .n = BATCH, .row = b->every + t * BATCH};
    objective_find("nll", &nll);
    rows_weights(&nll, &rows, b->weight);
    state_reduce_soon(b->gradient);
    must(engine_gradient(&b->engine, &nll, &rows, b->weight, false, b->gradient, b->loss));
    must(state_reduce(b->grid, b->gradient));
    optim_update(b->optim, b->gradient, optim_norm(b->grid, NULL, b->gradient), b->weights);
}

static void effects_on(struct bench *b, size_t risks)
{
    struct objective ga;
    struct rows rows = {.data = b->forget, .n = b->forget->n_row, .row = b->every};
    objective_find("ga", &ga);
    must(engine_effects(&b->engine, 1, &ga, &rows, risks, risks, b->risk, b->effect, b->loss, b->mean));
}

static void effects(struct bench *b) { effects_on(b, K); }
static void effects_on_one(struct bench *b) { effects_on(b, 1); }

/* One forward and backward of the forget rows: what tokens() and others are compared with. */
static void gradient(struct bench *b)
{
    struct objective nll;
    struct rows rows = {.data = b->forget, .n = b->forget->n_row, .row = b->every};
    objective_find("nll", &nll);
    rows_weights(&nll, &rows, b->weight);
    state_reduce_soon(b->gradient);
    must(engine_gradient(&b->engine, &nll, &rows, b->weight, false, b->gradient, b->loss));
    must(state_reduce(b->grid, b->gradient));
}

/* Effects of single tokens on K risks. */
static void token_effects(struct bench *b)
{
    struct rows rows = {.data = b->forget, .n = b->forget->n_row, .row = b->every, .label_first = b->label_first};
    must(engine_tokens(&b->engine, 0, NULL, &rows, K, b->risk, b->token, NULL, b->effect));
}

/* A product of a risk's Hessian and a direction. */
static void curvature(struct bench *b)
{
    struct objective nll;
    struct rows rows = {.data = b->forget, .n = b->forget->n_row, .row = b->every};
    objective_find("nll", &nll);
    rows_weights(&nll, &rows, b->weight);
    must(engine_hvp(&b->engine, &nll, &rows, b->weight, b->risk[0], b->gradient));
    must(state_reduce(b->grid, b->gradient));
}

/* ----------------------------------------------------------------------------------------------------- pairs ----- */
enum { PAIR_ROWS = 64, LOOP = 1, GROUPS = 1 };

static void phases(const struct bench *b)
{
    if (!getenv("PHASES")) return;
    for (int p = 0; p < N_PHASE; p++)
        fprintf(stderr, "%-20s %.3f\n", phase_text((enum phase)p), phase_seconds((enum phase)p));
}

static void pairs_open(struct bench *b, struct pairs **w, struct rows *r, struct rows *with)
{
    const size_t room = ((size_t)512 << 20) / pairs_token_bytes(b->layout), all = b->train->first[PAIR_ROWS];
    struct pairs_limits most = {.rows = PAIR_ROWS, .tokens = room < b->tokens ? b->tokens : room};
    if (most.tokens > all) most.tokens = all;
    most.outputs = most.tokens, most.sequences = PAIR_ROWS;
    *r = (struct rows){.data = b->forget, .n = b->forget->n_row, .row = b->every};
    *with = (struct rows){.data = b->train, .n = PAIR_ROWS, .row = b->every};
    must(pairs_new(&b->engine, &most, w, NULL));
}

static void all_pairs(struct bench *b, struct pairs *w, const struct rows *r, const struct rows *with, double *out)
{
    struct objective ga;
    const size_t size = GROUPS * r->n * with->n, blocks = pairs_share(w, &b->engine, with);
    size_t *group = calloc(slot_count(b->layout), sizeof *group);
    objective_find("ga", &ga);
    memset(out, 0, size * sizeof *out);
    for (size_t k = 0; k < blocks; k++) {
        must(pairs_keep(w, k));
        must(pairs_add(w, 1, &ga, r, GROUPS, group, out));
    }
    comm_sum_double(b->grid->world, out, size);
    free(group);
}

static double dot(struct bench *b, const struct state *x, const struct state *y)
{
    double *e = calloc(b->layout->n_param, sizeof *e), sum = 0;
    state_dot(x, y, e);
    for (size_t i = 0; i < b->layout->n_param; i++) sum += e[i];
    free(e);
    return sum;
}

static void one_gradient(struct bench *b, const char *name, const struct rows *r, size_t i, struct state *to)
{
    struct objective o;
    struct rows one = *r;
    double weight = 1, loss;
    one.n = 1, one.row = r->row + i;
    objective_find(name, &o);
    math_fill(b->layout->size, 0, to->data);
    must(engine_gradient(&b->engine, &o, &one, &weight, true, to, &loss));
}

/* Seconds of both loops over all pairs, from those of LOOP rows p with all instances; checks the pairs against them. */
static void loops(struct bench *b, const struct rows *r, const struct rows *with, const double *out, double seconds[2])
{
    double formed = 0, products = 0, worst = 0, scale = 0, began;
    const double n = (double)r->n, m = (double)with->n;
    for (size_t p = 0; p < LOOP; p++) {
        one_gradient(b, "nll", with, p, b->risk[0]);
        for (size_t i = 0; i < r->n; i++) {
            double e;
            began = clock_seconds();
            one_gradient(b, "ga", r, i, b->gradient);
            formed += clock_seconds() - began, began = clock_seconds();
            e = dot(b, b->gradient, b->risk[0]);
            products += clock_seconds() - began;
            worst = fmax(worst, fabs(e - out[i * with->n + p])), scale = fmax(scale, fabs(e));
        }
    }
    if (!(worst <= 1e-3 * scale)) fprintf(stderr, "bench: pairs differ from the loop by %.2g of %.2g\n", worst, scale);
    formed /= LOOP * n, products /= LOOP * n;
    seconds[0] = m * (formed + n * (formed + products));
    seconds[1] = (m + n) * formed + m * n * products;
}

static void pairs(struct bench *b, int n)
{
    struct pairs *w;
    struct rows r, with;
    double *out, best = INFINITY, loop[2] = {NAN, NAN};
    const char *precision = sizeof(real) == 8 ? "float64" : "float32";
    pairs_open(b, &w, &r, &with);
    out = calloc(GROUPS * r.n * with.n, sizeof *out);
    for (int i = 0; i < n; i++) {
        double seconds = -clock_seconds();
        all_pairs(b, w, &r, &with, out);
        seconds += clock_seconds();
        comm_max_double(b->grid->world, &seconds, 1);
        best = fmin(best, seconds);
    }
    pairs_free(w);
    phases(b);
    if (b->grid->size == 1) loops(b, &r, &with, out, loop); /* more processes have nothing to share of a single row */
    if (b->grid->rank == 0)
        printf("{\"what\": \"pairs\", \"shape\": \"%s\", \"ranks\": %d, \"tensor\": %d, \"threads\": %d, "
               "\"pairs\": %zu, \"least\": %.4f, ",
               b->name, b->grid->size, b->tensor, b->threads, r.n * with.n, best);
    if (b->grid->size == 1)
        printf("\"loop_seconds\": %.2f, \"times\": %.2f, \"stored_seconds\": %.2f, \"stored_times\": %.2f, "
               "\"stored_mb\": %.0f, ",
               loop[0], loop[0] / best, loop[1], loop[1] / best, (double)(r.n * b->layout->size * sizeof(real)) / 1e6);
    if (b->grid->rank == 0) printf("\"products\": \"%s\", \"precision\": \"%s\"}\n", b->products, precision);
    fflush(stdout);
    free(out);
}

static double tokens(const struct dataset *d, size_t n) { return (double)d->first[n]; }

/* Median of the repetitions' seconds; the worst process counts. */
static void report(struct bench *b, const char *what, size_t sequences, double n_tokens, double factor, int n,
                   double *seconds)
{
    double N = (double)b->layout->elements - (double)b->shape->vocabulary * (double)b->shape->hidden;
    double rate[2] = {fmax(b->rate, math_gemm_rate(2048)), fmax(b->peak, math_peak_rate())};
    double median, gflop = factor * N * n_tokens / 1e9;
    comm_max_double(b->grid->world, seconds, (size_t)n);
    comm_sum_double(b->grid->world, rate, 2);
    for (int i = 0; i < n; i++)
        for (int j = i; j > 0 && seconds[j] < seconds[j - 1]; j--) {
            double s = seconds[j];
            seconds[j] = seconds[j - 1], seconds[j - 1] = s;
        }
    median = seconds[n / 2];
    if (b->grid->rank) return;
    printf("{\"what\": \"%s\", \"shape\": \"%s\", \"ranks\": %d, \"tensor\": %d, \"threads\": %d, \"parameters\": %zu, "
           "\"sequences\": %zu, "
           "\"tokens\": %.0f, \"seconds\": %.4f, \"least\": %.4f, \"sequences_per_s\": %.2f, \"gflops\": %.2f, "
           "\"sgemm_gflops\": %.2f, \"ratio\": %.3f, \"peak_gflops\": %.2f, \"of_peak\": %.3f, \"products\": \"%s\", "
           "\"precision\": \"%s\"}\n",
           what, b->name, b->grid->size, b->tensor, b->threads, b->layout->elements, sequences, n_tokens, median,
           seconds[0], (double)sequences / median, gflop / median, rate[0] / 1e9, gflop * 1e9 / median / rate[0],
           rate[1] / 1e9, gflop * 1e9 / median / rate[1], b->products, sizeof(real) == 8 ? "float64" : "float32");
    fflush(stdout);
}

/* Of all forget rows; the work per token and parameter. */
static const struct {
    const char *what;
    void (*run)(struct bench *b);
    double factor;
} work[] = {{"effects", effects, 2 + 2.0 * K + 2},
            {"effects_on_one", effects_on_one, 2 + 2.0 + 2},
            {"gradient", gradient, 6},
            {"tokens", token_effects, 2 + 4.0 * K},
            {"curvature", curvature, HVP_PRODUCTS}};

int main(int argc, char **argv)
{
    struct bench b = {.threads = argc > 2 ? atoi(argv[2]) : 1, .tensor = argc > 4 ? atoi(argv[4]) : 1};
    const char *asked = getenv("TOKENS");
    int n = argc > 3 ? atoi(argv[3]) : 5;
    double *seconds;
    const char *config = NULL, *name[N_MULTIPLIER] = {"blas", "onednn", "bfloat16"};
    int products = 0;
    must(math_start(argv));
    must(parallel_start(&argc, &argv));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && argc > 1; i++)
        if (!strcmp(shapes[i].name, argv[1])) b.name = shapes[i].name, config = shapes[i].config;
    while (argc > 5 && products < N_MULTIPLIER && strcmp(name[products], argv[5])) products++;
    b.tokens = asked ? (size_t)strtoul(asked, NULL, 10) : 1024;
    if (!config || b.tokens < 128 /* the longest row has 101 */ || b.threads < 1 || n < 1 || b.tensor < 1 ||
        products == N_MULTIPLIER) {
        fprintf(stderr, "usage: bench M1|M2|M3 THREADS [REPETITIONS [TENSOR [blas|onednn|bfloat16]]]\n");
        return 2;
    }
    math_threads(b.threads);
    if (math_products_lack((enum multiplier)products)) {
        fprintf(stderr, "bench: %s: %s\n", name[products], math_products_lack((enum multiplier)products));
        return 1;
    }
    must(math_products((enum multiplier)products));
    b.products = name[products];
    prepare(&b, config);
    seconds = calloc((size_t)n, sizeof *seconds);
    b.rate = math_gemm_rate(2048);
    b.peak = math_peak_rate();
    if (b.grid->rank == 0) {
        const char *warning = math_warning();
        fprintf(stderr, "kernels %s\n", math_kernels());
        if (warning) fprintf(stderr, "warning: %s\n", warning);
    }
    for (int i = -1; i < n && wanted("step"); i++) { /* the first warms up */
        double began = clock_seconds();
        for (size_t t = 0; t < STEPS; t++) step(&b, t);
        if (i >= 0) seconds[i] = clock_seconds() - began;
    }
    if (wanted("step")) report(&b, "step", STEPS * BATCH, tokens(b.train, STEPS * BATCH), 6, n, seconds);
    phases(&b);
    for (size_t w = 0; w < sizeof work / sizeof *work; w++) {
        if (!wanted(work[w].what)) continue;
        for (int i = -1; i < n; i++) {
            double began = clock_seconds();
            work[w].run(&b);
            if (i >= 0) seconds[i] = clock_seconds() - began;
        }
        report(&b, work[w].what, b.forget->n_row, tokens(b.forget, b.forget->n_row), work[w].factor, n, seconds);
        phases(&b);
    }
    if (wanted("pairs")) pairs(&b, n < 2 ? n : 2);
    free(seconds);
    parallel_end();
    return 0;
}
