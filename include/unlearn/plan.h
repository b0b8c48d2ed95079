/* plan: what a run will do and take - layout, sizes of passes, memory by kind, work - from the inputs alone, before anything
 * is allocated. Nothing here sends a message: one process can plan for any number.                                    */
#ifndef UNLEARN_PLAN_H
#define UNLEARN_PLAN_H
#include "unlearn/input.h"

/* ------------------------------------------------------------------------------------------------ timetable ----- */
struct timetable { /* which rows update t uses: a function of the input alone */
    size_t rows, batch, updates, warmup;
    bool shuffle;
    uint64_t seed, epoch; /* epoch + 1 that `order` holds, 0: none */
    size_t *order;        /* [rows] owned */
};
enum status timetable_new(const struct config *c, size_t rows, struct timetable *s);
void timetable_free(struct timetable *s);
void timetable_rows(struct timetable *s, size_t t, size_t *row); /* [batch] */
/** Retain rows of update t, from rows first ... n_rows-1. */
void timetable_retain(const struct config *c, size_t t, size_t first, size_t n_rows, size_t n, size_t *row);
bool timetable_measured(const struct config *c, const struct timetable *s, size_t t);
bool timetable_evaluated(const struct config *c, size_t t);

/* ------------------------------------------------------------------------------------------------ reference ----- */
struct reference {      /* what is kept of the reference's distributions and hidden states, instead of its weights */
    struct kept **kept; /* [n] */
    size_t n, bytes;    /* of the data rank that keeps most */
    size_t bytes_run;   /* of them, of what updates and measurements read */
};
/** The rows that the run will read, still without values.                                                       Local. */
enum status reference_list(const struct inputs *in, struct timetable *s, const struct layout *l, int data_size,
                           struct reference *r);
void reference_free(struct reference *r);

/* ---------------------------------------------------------------------------------------------------- parts ----- */
struct plan;
/* What a part of the program - the model, training, measurement, evaluation - asks of the run. Sizes of one process. */
struct demand {
    /* largest calls of the engine */
    size_t rows;       /* longest list of rows */
    size_t objectives; /* stacked in one backward; 0: the part has no backward */
    size_t directions; /* gradients that a backward is multiplied with */
    size_t norms;      /* tokens of the longest row of engine_norms(); 0: not called */
    /* memory */
    size_t states;      /* weights, gradients and the like */
    char named[96];     /* ", gradient, moments": what these are */
    size_t bytes;       /* of lists and results */
    size_t bytes_apart; /* of what the part prints itself */
    size_t slots;       /* answers generated together */
    /* work: nominal, of all processes */
    double flops_update, flops_measure, flops_evaluate;
};
/* A part adds what it needs to a demand of zeros when the layout is known; it is asked in every task. */
struct part {
    void (*demand)(const struct inputs *in, const struct timetable *s, const struct plan *p, const struct layout *l,
                   struct demand *d);
    enum status (*print)(const struct inputs *in, const struct plan *p, const struct demand *d, struct text *out);
    /* a line of its own; NULL: none */
};

/* ----------------------------------------------------------------------------------------------------- plan ----- */
enum { MOST_PARTS = 4 };
struct machine { /* what the job runs on */
    int processes, node_processes;
    size_t resident; /* bytes of this process before the run: libraries, inputs */
};
struct plan {
    int data, tensor, threads, node_processes;
    size_t tokens;           /* of a pass */
    size_t tokens_evaluated; /* of a pass of an evaluation, whose rows may be longer */
    bool copies;             /* the reference's weights; else what it says of rows is kept */
    struct engine_limits engine;
    struct model_limits model;
    size_t slots; /* answers generated together */
    size_t n_part;
    const struct part *const *part;   /* [n_part] what the plan was made of; borrowed */
    struct demand demand[MOST_PARTS]; /* [n_part] */
    struct demand all;                /* sums of memory and work, largest calls */
    size_t bytes_state, bytes_model, bytes_engine, bytes_values, bytes_base, bytes; /* of a process */
};
/** data, tensor, threads: as asked, or chosen. s: NULL where nothing is trained.                                Local. */
enum status plan_layout(const struct inputs *in, const struct timetable *s, const struct machine *m, struct plan *p);
/** Sizes of passes, memory and work of a run of these parts, on a layout that stands in p.                       Local. */
enum status plan_sizes(const struct inputs *in, struct timetable *s, const struct machine *m, size_t n_part,
                       const struct part *const *part, struct plan *p);
/** Whether a process may take the planned memory, and this node has it.                                          Local. */
enum status plan_memory(const struct inputs *in, const struct plan *p);
/** The lines of the log and of --check. */
enum status plan_print(const struct inputs *in, const struct timetable *s, const struct plan *p, struct text *out);
/** Hash of all values that decide the numbers, whatever their spelling; measured: names of what is measured beside the
 *  effects. */
uint64_t plan_digest(const struct inputs *in, const char *measured, uint64_t weights, uint64_t reference);

/* ------------------------------------------------------------------------------------------- for the parts ----- */
/** Products with N of a token that the reference's forward adds to an objective's own; 0 where its values are kept. */
double plan_reference(const struct plan *p, const struct objective *o);
/** Parameters that a token is multiplied by: all but the input embedding. */
double plan_products(const struct layout *l);
/** Of the passes of updates, measurements and evaluations. */
size_t plan_most_tokens(const struct plan *p);
/** Tokens of n rows; row NULL: of the first n. */
double plan_tokens(const struct dataset *d, size_t n, const size_t *row);
#endif
