/* plan: layout, sizes of passes, memory by kind and work of a run, from the inputs alone, before anything is allocated.
 * Nothing here sends a message, so one process can plan for any number. */
#ifndef UNLEARN_PLAN_H
#define UNLEARN_PLAN_H
#include "unlearn/input.h"

/* ------------------------------------------------------------------------------------------------ timetable ----- */
struct timetable { /* which rows update t uses, from the input alone */
    size_t rows, batch, updates, warmup;
    bool shuffle;
    uint64_t seed, epoch; /* epoch: 1 + the epoch whose rows `order` has, 0: none */
    size_t *order;        /* [rows] owned */
};
enum status timetable_new(const struct config *c, size_t rows, struct timetable *s);
void timetable_warn(const struct config *c, const struct timetable *s); /* where all updates are warm-up */
void timetable_free(struct timetable *s);
void timetable_rows(struct timetable *s, size_t t, size_t *row); /* [batch] */
/** Retain rows of update t, from rows first ... n_rows-1. */
void timetable_retain(const struct config *c, size_t t, size_t first, size_t n_rows, size_t n, size_t *row);
bool timetable_measured(const struct config *c, const struct timetable *s, size_t t);
bool timetable_evaluated(const struct config *c, size_t t); /* before update t */
/* How often in a training, without counting the updates: there may be 1e15. Evaluations: without the one at the end. */
size_t timetable_measurements(const struct config *c, const struct timetable *s);
size_t timetable_evaluations(const struct config *c, const struct timetable *s);

/* ------------------------------------------------------------------------------------------------ reference ----- */
struct reference {      /* the reference's logits and hidden states, kept in place of its weights */
    struct kept **kept; /* [n] */
    size_t n, bytes;    /* bytes: on the data rank that keeps most */
    size_t bytes_run;   /* the part that updates and measurements read */
};
/** Lists the rows that the run will read; their values are computed later.                                    Local. */
enum status reference_list(const struct inputs *in, struct timetable *s, const struct layout *l, int data_size,
                           struct reference *r);
void reference_free(struct reference *r);

/* ----------------------------------------------------------------------------------------------------- work ----- */
/* What a job does, and what of it one process does: the one whose data rank has the most expensive rows. */
enum occasion { OF_UPDATE, OF_MEASUREMENT, N_OCCASION };
enum link { LINK_TENSOR, LINK_DATA, N_LINK };
struct work {
    double products;       /* flops of matrix products */
    double again;          /* of those that recomputation would add */
    double attention;      /* flops of attention */
    double touched;        /* bytes that other loops read and write */
    double summed[N_LINK]; /* bytes of the arrays that are summed over tensor ranks, over data ranks */
    double sums[N_LINK];   /* number of such sums */
};
/* A call of the engine on a list of rows: a forward, and a backward of so many objectives. */
struct call {
    enum occasion of;
    enum { ROWS_LISTED, ROWS_OF_UPDATE, ROWS_RETAINED } rows; /* the latter two: drawn for each update */
    const struct dataset *data;
    size_t n, pair;    /* pair: as in struct rows */
    const size_t *row; /* [n] of ROWS_LISTED; NULL: the first n */
    enum outputs outputs;
    size_t objectives, directions; /* of the backward; directions: for effects */
    size_t among;                  /* directions of this call and others together, which choose the way to the effects */
    bool gradient;                 /* a gradient is formed, of which every data rank gets the sum of its part */
    bool gathered;                 /* and then that of the others */
    double forwards;               /* more forwards, of the reference */
};

/* --------------------------------------------------------------------------------------------------- states ----- */
/* The moments of an update that is measured, in their order. Of other updates there are only those from AT_GRADIENT on, of a
 * measurement without an update only those that need none. */
enum moment {
    AT_EFFECTS,  /* the gradients of the risks are formed, and all effects on them */
    AT_PROBES,   /* other quantities of the same weights */
    AT_GRADIENT, /* the gradient of the update is formed, part by part */
    AT_FORMED,   /* it is complete, and compared with others */
    AT_UPDATE,   /* the weights move */
    AT_UPDATED,  /* what was before is compared with what is now */
    N_MOMENT
};
/* States of a kind. All of them live from a moment to another, both included, and two that are never alive together have the
 * same memory; to: N_MOMENT: they are kept from one update to the next. What several parts of a program ask for under one
 * name is the same states, alive as long as any of them needs it. */
enum { MOST_HELD = 16 };
struct held {
    const char *name;
    size_t states;
    enum moment from, to;
    bool moments; /* of which data ranks always keep but their parts */
    bool half;    /* may be held in bfloat16: no weights that an update changes */
    bool fixed;   /* is held so whatever has the same memory: training's own, which no measurement changes */
};

/* ---------------------------------------------------------------------------------------------------- parts ----- */
struct plan;
/* What a part of the program - the model, training, measurement, evaluation - needs. Sizes are those of one process. */
struct demand {
    /* largest calls of the engine */
    size_t rows;        /* longest list of rows */
    size_t objectives;  /* most objectives stacked in one backward; 0: no backward */
    size_t directions;  /* most gradients for engine_effects() */
    size_t norms;       /* tokens of the longest row for engine_norms(); 0: never called */
    size_t tangents;    /* most directions of model_tangents(); 0: never called */
    bool keep_tangents; /* a backward reads them */
    /* memory */
    struct held held[MOST_HELD]; /* [n_held] weights, gradients and so on: demand_states(), demand_moments() */
    size_t n_held;
    size_t states;      /* of all parts together: most that are alive at a time, but for moments */
    size_t moments;     /* states of which data ranks always keep but their parts */
    size_t bytes;       /* for lists and results */
    size_t bytes_apart; /* for what print() reports on a line of its own */
    size_t slots;       /* answers generated together */
    /* work: nominal, of all processes */
    double flops_update, flops_measure, flops_evaluate;
    /* the same of one process: demand_call(), demand_sweeps(), demand_rest() */
    struct counter *counter; /* borrowed */
    struct work work[N_OCCASION];
};
void demand_states(struct demand *d, const char *name, size_t n, enum moment from, enum moment to);
void demand_held(struct demand *d, struct held h); /* states that may be held in bfloat16 among them */
void demand_moments(struct demand *d, size_t n, bool half);
void demand_call(struct demand *d, const struct call *c); /* its work, of one process */
void demand_gather(struct demand *d, enum occasion of);   /* data ranks send each other their parts of a state */
/* So often all of a state is read or written, and this process's part of one. */
void demand_sweeps(struct demand *d, enum occasion of, double all, double part);
void demand_rest(struct demand *d, enum occasion of, double flops); /* nominal, of all processes, where that is known */
void work_add(const struct work *w, double times, struct work *to);
/* demand() adds what the part needs to a demand of zeros, when the layout is known; it is called in every task. */
struct part {
    void (*demand)(const struct inputs *in, const struct timetable *s, const struct plan *p, const struct layout *l,
                   struct demand *d);
    enum status (*print)(const struct inputs *in, const struct plan *p, const struct demand *d, struct text *out);
    /* print() adds a line of the part's own; NULL: none */
};

/* ----------------------------------------------------------------------------------------------------- plan ----- */
enum { MOST_PARTS = 4 };
struct machine { /* what the job runs on */
    int processes, node_processes;
    size_t resident;        /* bytes that this process has already: libraries, inputs */
    size_t room;            /* bytes that every process may have at most, those among them; SIZE_MAX: not known */
    size_t node;            /* bytes that all processes of a node may have together */
    const struct way *then; /* how this run was begun, where it goes on, on as many processes; NULL: it begins */
};
/* What a plan decides where the input leaves it open: the same on every process. Members of struct plan and its model. */
struct way {
    int data, tensor;
    enum shard shard;
    size_t tokens;
    bool apart, in_turn;
    size_t logits;
    bool recompute;
};
/* The layout that the rule would have, which the memory would not hold; tensor 0: it is the one that is taken. */
struct plan_ruled {
    int data, tensor;
    size_t bytes;
};
struct plan {
    int data, tensor, threads, node_processes;
    size_t tokens;           /* most tokens of a pass */
    size_t tokens_usual;     /* what they were with all the memory that they can use */
    size_t tokens_evaluated; /* the same for an evaluation, whose rows may be longer */
    bool copies;             /* keep a copy of the reference's weights; else its values for rows */
    enum shard shard;        /* as the input asks, chosen, or another that is planned for */
    size_t unshared; /* bytes of a process with shard: none, which the memory would not hold; 0: that was not tried */
    struct plan_ruled ruled;
    size_t room;             /* as in struct machine */
    bool as_then;            /* what last bits depend on is as struct machine's `then` */
    enum sharing_of sharing; /* what the data ranks share of states */
    size_t layers;           /* of shared states that are whole at a time */
    bool ahead;              /* and a block of each on its way meanwhile: where the data ranks are on several nodes */
    bool in_turn;       /* the gradients of the risks are held one at a time, and the effects on each found by itself */
    bool in_turn_helps; /* the input asks for all at once, and less memory would do */
    bool apart;         /* the gradient of each regulariser is held by itself too, for its norm */
    struct engine_limits engine;
    struct model_limits model;
    size_t slots; /* answers generated together */
    size_t n_part;
    const struct part *const *part;   /* [n_part] the parts planned for; borrowed */
    struct demand demand[MOST_PARTS]; /* [n_part] */
    struct demand all;                /* sums of memory and work, largest calls; of states those of every name */
    size_t halves, halves_of_moments; /* of all.states, of all.moments: held in bfloat16 */
    double flops_together;            /* of a measurement that holds the gradients of all risks */
    size_t bytes_kept;                /* what the activations would be without recomputation */
    size_t bytes_logits;              /* what they would be with all logits held besides */
    double logits_again; /* work of the head's products that are made again, the reference's too: of an update's */
    size_t bytes_part, bytes_shared; /* of a state that is shared; of the layers that are whole */
    size_t bytes_copy;               /* of the reference's weights, if they were kept */
    size_t bytes_state, bytes_model, bytes_engine, bytes_values, bytes_buffers, bytes_base, bytes; /* of a process */
};
/** Sets data, tensor, shard and threads of p: as the input asks, or by rule. s NULL: nothing is trained.              Local. */
enum status plan_layout(const struct inputs *in, const struct timetable *s, const struct machine *m, struct plan *p);
/** From p as plan_layout() leaves it: chooses what the input leaves open, by the memory, and sets the sizes of passes, memory and
 *  work for these parts.                                                                                       Local. */
enum status plan_choose(const struct inputs *in, struct timetable *s, const struct machine *m, size_t n_part,
                        const struct part *const *part, struct plan *p);
/** The same, with all of it chosen already.                                                                    Local. */
enum status plan_take(const struct inputs *in, struct timetable *s, const struct machine *m, size_t n_part,
                      const struct part *const *part, const struct way *way, struct plan *p);
struct way plan_way(const struct plan *p);
/** Plans for the parts and threads of `like` on processes / tensor x tensor ranks; all else is chosen.           Local. */
enum status plan_on(const struct inputs *in, struct timetable *s, const struct machine *m, const struct plan *like,
                    int tensor, enum shard shard, struct plan *p);
/** Whether the data ranks can share all states of this model: not where its lm_head is in two layers. */
bool plan_can_share(const struct inputs *in);
/** Whether so many processes can be so many tensor ranks, and share so among their data ranks. */
bool plan_possible(const struct inputs *in, const struct timetable *s, int processes, int tensor, enum shard shard);
bool plan_fits(const struct machine *m, const struct plan *p);
/** The first layout that fits: with the fewest tensor ranks, and those with shard: full last. shard: SHARD_AUTO, or this alone.
 *                                                                                                              Local. */
enum status plan_first_fitting(const struct inputs *in, struct timetable *s, const struct machine *m,
                               const struct plan *like, enum shard shard, bool *found, struct plan *p);
/** The bytes that this process may have at most, by its limits and its share of what this node has free, when it has `base`
 *  of them already; SIZE_MAX: nothing says.                                                                   Local. */
size_t plan_room(int node_processes, size_t base);
/** ERR_MEMORY unless a process may allocate the planned memory and this node has it.                          Local. */
enum status plan_memory(const struct inputs *in, const struct plan *p);
/** Bytes that a process sends at least for the sums over this link's ranks.                                     Local. */
double plan_sent(const struct plan *p, enum occasion of, enum link link);
/* What processes and links do in a second. */
struct rates {
    double flops;     /* products of one process */
    double bandwidth; /* bytes that one process reads and writes */
    double link;      /* bytes that one process sends to its neighbour on the same node; 0: not known, as the next */
    double network;   /* bytes that one node sends to another */
    double latency;   /* seconds of a sum of very little */
};
/** Seconds of an update or of a measurement; sums over processes whose rate is not known count as nothing. */
double plan_seconds(const struct plan *p, enum occasion of, const struct rates *r);
/** Whether this link's ranks are on several nodes. */
bool plan_crosses(const struct plan *p, enum link link);
/** The lines of the log and of --check. */
enum status plan_print(const struct inputs *in, const struct timetable *s, const struct plan *p, struct text *out);
/** What the data ranks share; where that was open, why. */
enum status plan_print_shared(const struct inputs *in, const struct plan *p, struct text *out);
/** Hash of all input values that affect results, independent of their spelling; measured: names of the probes. */
uint64_t plan_digest(const struct inputs *in, const char *measured, uint64_t weights, uint64_t reference);

/* ------------------------------------------------------------------------------------------- for the parts ----- */
/** flops per token and parameter that the reference's forward adds to an objective's own: 0 if its values are kept. */
double plan_reference(const struct plan *p, const struct objective *o);
/** Number of parameters that every token is multiplied by: all but the input embedding. */
double plan_products(const struct layout *l);
/** Whether data ranks share all states of the layout that p has.                                                  Local. */
bool plan_shares_all(const struct plan *p);
/** What the data ranks share - the moments always, all states where that is asked for - from p->all.                Local. */
void plan_share(const struct layout *l, struct plan *p);
/** Bytes of all states of a process, and of the layers of shared ones that are whole at a time. */
size_t plan_states(const struct plan *p);
/** Whether a copy of the reference may be held so: like the weights beside it, or of files that have all in bfloat16.       Local. */
bool plan_reference_half(const struct inputs *in);
/** Whether this kind of states is held in bfloat16, where one does not share its memory with others. */
bool plan_half(const struct inputs *in, const struct held *h);
/** How many of n gradients for effects are held at a time. */
size_t plan_at_once(const struct plan *p, size_t n);
/** The states of this name; NULL: the plan has none. */
const struct held *plan_held(const struct plan *p, const char *name);
/* The memory of a state that is not kept from one update to the next: number `at`, of bfloat16 if all states that have it may be. */
struct home {
    const char *name; /* of its kind; static */
    size_t which;     /* of the kind's */
    enum moment from, to;
    size_t at;
    bool half, fixed; /* as in struct held */
    bool wide;        /* its memory has room for float32 */
};
/** Gives every such state its memory. *out [*n] is the caller's to free; *memories (may be NULL): how many there are. ERR_MEMORY.
 *                                                                                                               Local. */
enum status plan_homes(const struct inputs *in, const struct plan *p, size_t *n, struct home **out, size_t *memories);
/** Most tokens of any pass of updates, measurements and evaluations. */
size_t plan_most_tokens(const struct plan *p);
/** Tokens of n rows; row NULL: of the first n rows. */
double plan_tokens(const struct dataset *d, size_t n, const size_t *row);
#endif
