/* How many processes share each layer (tensor), how many share the sequences (data), and threads of a process. */
#include "unlearn/plan.h"
#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

/* Cores that this process may use: of OpenMP, since where it binds threads to places (OMP_PROC_BIND, OMP_PLACES), the system
 * tells of the calling thread's alone. */
static int cores(void)
{
    const int n = omp_get_num_procs();
    int placed = 0;
    for (int i = 0; i < omp_get_num_places(); i++) placed += omp_get_place_num_procs(i);
    return placed > 0 && placed < n ? placed : n;
}

/* auto: OMP_NUM_THREADS if it is between 1 and the cores of this process; else the node's cores divided among its
 * processes, at most the cores that this process is bound to. */
static int threads(const struct config *c, int node_processes)
{
    const char *asked = getenv("OMP_NUM_THREADS");
    char *end = NULL;
    long n = asked ? strtol(asked, &end, 10) : 0;
    int mine = cores(), share;
    if (c->parallel.threads != CONFIG_AUTO) return (int)c->parallel.threads;
    if (asked && end != asked && !*end && n >= 1 && n <= mine) return (int)n;
    share = (int)sysconf(_SC_NPROCESSORS_ONLN) / node_processes;
    if (share < 1) share = 1;
    return share < mine ? share : mine;
}

/* How many rows the data ranks can share: those of an update, or of what is measured, evaluated or generated. */
static size_t shareable(const struct inputs *in, const struct timetable *s)
{
    if (in->trains) return s->batch;
    if (in->prompts) return in->prompts->n;
    return in->evaluation ? in->evaluation->most_rows : in->forget->n_row;
}

/* A number of processes, n or fewer, that a batch of `rows` rows occupies, and the tensor ranks among them; fewest of these. */
static int occupied(const struct inputs *in, size_t rows, int n, int *tensor)
{
    const int most = n < (int)in->shape->heads ? n : (int)in->shape->heads;
    for (int all = n; all > 1; all--)
        for (*tensor = 1; *tensor <= most; ++*tensor)
            if (all % *tensor == 0 && (size_t)(all / *tensor) <= rows) return all;
    return *tensor = 1;
}

static enum status check_data(const struct inputs *in, const struct timetable *s, int n, int data)
{
    size_t rows = shareable(in, s);
    char cure[96] = ", which are all that there are: ";
    int tensor, all;
    if ((size_t)data <= rows || !in->trains) return OK;
    assert(rows > 0); /* of an update: the configuration asks for one at least */
    all = occupied(in, rows, n, &tensor);
    if ((size_t)data <= s->rows) /* else no batch is large enough */
        snprintf(cure, sizeof cure, ": give train.batch_size x accumulation at least %d rows, or ", data);
    return fail(ERR_INPUT,
                "%s: parallel: %d data ranks, but a global batch has %zu row%s%s%s%d process%s with parallel: {data: %d, "
                "tensor: %d}",
                place_text(&in->config->parallel.place), data, rows, rows == 1 ? "" : "s", cure,
                all < n ? "start " : "these ", all, all == 1 ? "" : "es", all / tensor, tensor);
}

/* auto: as many data ranks as leave each at least four rows, because data ranks send least; the rest are tensor
 * ranks. */
static int choose_tensor(const struct inputs *in, const struct timetable *s, int n)
{
    size_t rows = shareable(in, s);
    for (int tensor = 1; tensor <= n; tensor++)
        if (n % tensor == 0 && (size_t)tensor <= in->shape->heads && (size_t)(n / tensor) * 4 <= rows) return tensor;
    for (int tensor = n; tensor > 1; tensor--)
        if (n % tensor == 0 && (size_t)tensor <= in->shape->heads) return tensor;
    return 1;
}

/* The head's matrix is in the layer of the embeddings then, but its bias in the last one, and what gathers or widens a layer at
 * a time has one of them. */
static bool head_in_two_layers(const struct shape *s) { return s->tied && s->head_bias; }

bool plan_can_share(const struct inputs *in) { return !head_in_two_layers(in->shape); }

static enum status check_head(const struct inputs *in, const struct plan *p)
{
    const struct config *c = in->config;
    const bool shared = plan_shares_all(p);
    const char *key = shared ? "parallel.shard" : "precision";
    const struct place place = config_place(c, key);
    if (!head_in_two_layers(in->shape) || (!shared && c->precision != PRECISION_BFLOAT16)) return OK;
    return fail(ERR_INPUT, "%s: %s: %s is not for a model whose lm_head has a bias and the embeddings' matrix; take %s",
                place_text(&place), key, shared ? "full" : "bfloat16", shared ? "none" : "float32");
}

enum status plan_layout(const struct inputs *in, const struct timetable *s, const struct machine *m, struct plan *p)
{
    const struct config *c = in->config;
    size_t data = c->parallel.data, tensor = c->parallel.tensor, n = (size_t)m->processes;
    if (tensor == CONFIG_AUTO && data == CONFIG_AUTO)
        tensor = (size_t)choose_tensor(in, s, m->processes);
    else if (tensor == CONFIG_AUTO)
        tensor = data <= n ? n / data : 0;
    if (data == CONFIG_AUTO) data = tensor && tensor <= n ? n / tensor : 0;
    if (!data || !tensor || data * tensor != n)
        return fail(ERR_INPUT, "%s: parallel: data x tensor must be the number of processes, %zu",
                    place_text(&c->parallel.place), n);
    p->data = (int)data;
    p->tensor = (int)tensor;
    p->shard = c->parallel.shard == SHARD_AUTO ? SHARD_NONE : c->parallel.shard;
    p->threads = threads(c, m->node_processes);
    p->node_processes = m->node_processes;
    if (check_head(in, p) != OK) return ERR_INPUT;
    return check_data(in, s, m->processes, p->data);
}
