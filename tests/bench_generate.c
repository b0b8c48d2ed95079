/* make bench: how fast a model writes, as JSON lines: one sequence alone, 32 together, and a plain decoder of one sequence.
 *      bench_generate SHAPE THREADS [REPETITIONS]
 * The plain decoder is what llama2.c's `runomp` does: single-precision loops over the rows of each matrix, the sums of a row
 * vectorised, OpenMP over rows; written here anew. Each repetition runs all three by turns, so that what disturbs the machine
 * disturbs them alike; the best counts. Prompts are one token, LENGTH ids are written, no eos; the three write the same ids,
 * but for rounding. */
#include "unlearn/eval.h"
#include "unlearn/weights.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name, *config;
} shapes[] = {
    {"stories260K",
     "{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":5,\"num_attention_heads\":8,"
     "\"num_key_value_heads\":4,\"intermediate_size\":172,\"vocab_size\":512,\"max_position_embeddings\":512,"
     "\"eos_token_id\":0,\"tie_word_embeddings\":true,\"initializer_range\":0.2}"},
    {"M1", "{\"model_type\":\"llama\",\"hidden_size\":288,\"num_hidden_layers\":6,\"num_attention_heads\":6,"
           "\"intermediate_size\":768,\"vocab_size\":4096,\"max_position_embeddings\":1024,\"eos_token_id\":0,"
           "\"initializer_range\":0.1}"},
};
enum { LENGTH = 200, TOGETHER = 32 };

struct bench {
    const char *name;
    int threads;
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights;
};

static void must(enum status st)
{
    if (st == OK) return;
    fprintf(stderr, "bench_generate: %s\n", fail_message());
    parallel_abort(1);
}

/* One thread is measured by the processor's time, which other programs do not add to; a team by the wall's. */
static double now(const struct bench *b)
{
    struct timespec t;
    if (b->threads > 1 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t)) return clock_seconds();
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ------------------------------------------------------------------------------------------------ the plain decoder ----- */
struct plain {
    size_t d, kv, f, H, K, dim, V, L;
    real *x, *a, *q, *att, *out, *up, *gate, *score, *logits, *keys, *values; /* keys, values [L][LENGTH][kv] */
};

static void plain_product(size_t out, size_t in, const real *x, const real *w, real *y)
{
#pragma omp parallel for
    for (size_t o = 0; o < out; o++) {
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < in; i++) sum += w[o * in + i] * x[i];
        y[o] = sum;
    }
}

static void plain_norm(size_t d, const real *x, const real *w, double eps, real *y)
{
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < d; i++) sum += x[i] * x[i];
    sum = 1 / (real)sqrt((double)(sum / (real)d) + eps);
    for (size_t i = 0; i < d; i++) y[i] = w[i] * (sum * x[i]);
}

static void plain_softmax(size_t n, real *s)
{
    real most = s[0], sum = 0;
    for (size_t i = 1; i < n; i++) most = s[i] > most ? s[i] : most;
    for (size_t i = 0; i < n; i++) sum += s[i] = (real)exp(s[i] - most);
    for (size_t i = 0; i < n; i++) s[i] /= sum;
}

static void plain_attention(const struct plain *p, size_t l, size_t t)
{
    const real *keys = p->keys + l * LENGTH * p->kv, *values = p->values + l * LENGTH * p->kv;
#pragma omp parallel for
    for (size_t h = 0; h < p->H; h++) {
        const size_t at = h / (p->H / p->K) * p->dim;
        const real *q = p->q + h * p->dim;
        real *s = p->score + h * LENGTH, *out = p->att + h * p->dim;
        for (size_t k = 0; k <= t; k++) {
            real sum = 0;
#pragma omp simd reduction(+ : sum)
            for (size_t c = 0; c < p->dim; c++) sum += q[c] * keys[k * p->kv + at + c];
            s[k] = sum / (real)sqrt((double)p->dim);
        }
        plain_softmax(t + 1, s);
        memset(out, 0, p->dim * sizeof *out);
        for (size_t k = 0; k <= t; k++)
            for (size_t c = 0; c < p->dim; c++) out[c] += s[k] * values[k * p->kv + at + c];
    }
}

static void plain_turn(const struct bench *b, size_t heads, size_t t, real *x)
{
    const size_t dim = b->shape->head_dim, half = b->shape->rotary_dim / 2;
    for (size_t k = 0; k < half; k++) {
        const real c = (real)cos((double)t * b->shape->frequency[k]), s = (real)sin((double)t * b->shape->frequency[k]);
        for (size_t h = 0; h < heads; h++) {
            real *y = x + h * dim, u = y[k], v = y[k + half];
            y[k] = u * c - v * s;
            y[k + half] = v * c + u * s;
        }
    }
}

static const real *weight(const struct bench *b, size_t layer, enum role role)
{
    return b->weights->data + layout_find(b->layout, layer, role)->offset;
}

static void plain_block(const struct bench *b, const struct plain *p, size_t l, size_t t)
{
    real *k = p->keys + (l * LENGTH + t) * p->kv, *v = p->values + (l * LENGTH + t) * p->kv;
    plain_norm(p->d, p->x, weight(b, l + 1, ROLE_NORM1), b->shape->norm_eps, p->a);
    plain_product(p->d, p->d, p->a, weight(b, l + 1, ROLE_Q), p->q);
    plain_product(p->kv, p->d, p->a, weight(b, l + 1, ROLE_K), k);
    plain_product(p->kv, p->d, p->a, weight(b, l + 1, ROLE_V), v);
    plain_turn(b, p->H, t, p->q);
    plain_turn(b, p->K, t, k);
    plain_attention(p, l, t);
    plain_product(p->d, p->d, p->att, weight(b, l + 1, ROLE_O), p->out);
    for (size_t i = 0; i < p->d; i++) p->x[i] += p->out[i];
    plain_norm(p->d, p->x, weight(b, l + 1, ROLE_NORM2), b->shape->norm_eps, p->a);
    plain_product(p->f, p->d, p->a, weight(b, l + 1, ROLE_GATE), p->gate);
    plain_product(p->f, p->d, p->a, weight(b, l + 1, ROLE_UP), p->up);
    for (size_t i = 0; i < p->f; i++) p->up[i] *= p->gate[i] / (1 + (real)exp(-p->gate[i]));
    plain_product(p->d, p->f, p->up, weight(b, l + 1, ROLE_DOWN), p->out);
    for (size_t i = 0; i < p->d; i++) p->x[i] += p->out[i];
}

static void plain_decode(const struct bench *b, const struct plain *p, int32_t id, int32_t *out)
{
    for (size_t t = 0; t + 1 < LENGTH; t++) {
        size_t best = 0;
        memcpy(p->x, weight(b, 0, ROLE_EMBED) + (size_t)id * p->d, p->d * sizeof *p->x);
        for (size_t l = 0; l < p->L; l++) plain_block(b, p, l, t);
        plain_norm(p->d, p->x, weight(b, p->L + 1, ROLE_NORM), b->shape->norm_eps, p->a);
        plain_product(p->V, p->d, p->a, weight(b, p->L + 2, ROLE_HEAD), p->logits);
        for (size_t v = 1; v < p->V; v++)
            if (p->logits[v] > p->logits[best]) best = v;
        out[t] = id = (int32_t)best;
    }
}

static struct plain plain_new(const struct shape *s)
{
    struct plain p = {s->hidden,
                      s->kv_heads * s->head_dim,
                      s->intermediate,
                      s->heads,
                      s->kv_heads,
                      s->head_dim,
                      s->vocabulary,
                      s->blocks,
                      NULL,
                      NULL,
                      NULL,
                      NULL,
                      NULL,
                      NULL,
                      NULL,
                      NULL,
                      NULL,
                      NULL,
                      NULL};
    real **small[] = {&p.x, &p.a, &p.q, &p.att, &p.out, &p.up, &p.gate};
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) *small[i] = memory_new(p.d + p.f, sizeof(real));
    p.score = memory_new(p.H * LENGTH, sizeof(real));
    p.logits = memory_new(p.V, sizeof(real));
    p.keys = memory_new(p.L * LENGTH * p.kv, sizeof(real));
    p.values = memory_new(p.L * LENGTH * p.kv, sizeof(real));
    return p;
}

/* ----------------------------------------------------------------------------------------------------- measurement ----- */
/* Seconds a token with n sequences together; the first one's ids. */
static double decode(const struct bench *b, size_t n, double temperature, int32_t *out)
{
    const struct generation how = {
        .max_length = LENGTH, .temperature = temperature, .top_p = temperature > 0 ? 0.9 : 1, .seed = 1, .slots = n};
    size_t first[TOGETHER + 1];
    int32_t id[TOGETHER];
    struct answers a;
    double began = now(b), seconds;
    for (size_t i = 0; i <= n; i++) first[i] = i;
    for (size_t i = 0; i < n; i++) id[i] = 1 + (int32_t)i;
    must(generate(b->grid, b->layout, b->weights, &how, n, first, id, &a));
    seconds = (now(b) - began) / (double)a.first[n];
    if (out) memcpy(out, a.id, (LENGTH - 1) * sizeof *out);
    answers_free(&a);
    return seconds;
}

static void report(const struct bench *b, const char *what, size_t sequences, double seconds, double single)
{
    const double N =
        (double)b->layout->elements - (b->shape->tied ? 0 : (double)b->shape->vocabulary * (double)b->shape->hidden);
    printf("{\"what\": \"%s\", \"shape\": \"%s\", \"threads\": %d, \"sequences\": %zu, \"tokens_per_s\": %.0f, "
           "\"gflops\": %.2f, "
           "\"of_one_sequence\": %.2f, \"precision\": \"%s\"}\n",
           what, b->name, b->threads, sequences, 1 / seconds, 2 * N / seconds / 1e9, single / seconds,
           sizeof(real) == 8 ? "float64" : "float32");
    fflush(stdout);
}

static size_t agree(const int32_t *a, const int32_t *b)
{
    size_t n = 0;
    while (n + 1 < LENGTH && a[n] == b[n]) n++;
    return n;
}

static void measure(const struct bench *b, int repetitions)
{
    struct plain p = plain_new(b->shape);
    int32_t plain[LENGTH], own[LENGTH], beside[LENGTH];
    double best[4] = {INFINITY, INFINITY, INFINITY, INFINITY};
    for (int i = 0; i < repetitions; i++) { /* the first also warms up: of several, the best counts */
        double s[4], began = now(b);
        plain_decode(b, &p, 1, plain);
        s[0] = (now(b) - began) / (LENGTH - 1);
        s[1] = decode(b, 1, 0, own);
        s[2] = decode(b, TOGETHER, 0, beside);
        s[3] = decode(b, TOGETHER, 0.8, NULL);
        for (int k = 0; k < 4; k++) best[k] = fmin(best[k], s[k]);
    }
    report(b, "plain decoder", 1, best[0], best[1]);
    report(b, "generate", 1, best[1], best[1]);
    report(b, "generate", TOGETHER, best[2], best[1]);
    report(b, "generate, drawn", TOGETHER, best[3], best[1]);
    if (agree(own, beside) + 1 < LENGTH) fprintf(stderr, "bench_generate: 32 sequences change the ids of the first\n");
    if (agree(own, plain) < 20)
        fprintf(stderr, "bench_generate: the plain decoder parts after %zu ids\n", agree(own, plain));
}

int main(int argc, char **argv)
{
    struct bench b = {.threads = argc > 2 ? atoi(argv[2]) : 1};
    const char *config = NULL;
    must(math_start(argv));
    must(parallel_start(&argc, &argv));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && argc > 1; i++)
        if (!strcmp(shapes[i].name, argv[1])) b.name = shapes[i].name, config = shapes[i].config;
    if (!config || b.threads < 1) {
        fprintf(stderr, "usage: bench_generate stories260K|M1 THREADS [REPETITIONS]\n");
        return 2;
    }
    math_threads(b.threads);
    must(shape_parse("bench", config, strlen(config), &b.shape));
    must(grid_new(1, 1, &b.grid));
    must(layout_new(b.shape, 0, 1, &b.layout));
    must(state_new("weights", b.layout, &b.weights));
    weights_random(b.shape, 1, b.weights);
    measure(&b, argc > 3 ? atoi(argv[3]) : 5);
    parallel_end();
    return 0;
}
