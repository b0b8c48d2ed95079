/* Private to the room training: train.h5; how rows are weighed; the guard. */
#ifndef UNLEARN_TRAINING_PRIV_H
#define UNLEARN_TRAINING_PRIV_H
#include "unlearn/training.h"

/* train.h5: row t is update t (its batch, before the update); the last row, T, has NaN for all that belongs to an
 * update. Fields, all (step): loss, loss_objective, loss_NAME of each regulariser, lr, gradient_norm,
 * gradient_norm_objective, gradient_norm_NAME, tokens, seconds, and dual_weight and
 * project_cosine where there is one. */
struct train_file_info {
    const char *objective;
    size_t n_regularizer;
    const char *const *regularizer;
    bool dual, projects; /* a regulariser's weight is a dual variable; guard.project */
    size_t n_attribute;
    const struct attribute *attribute;
};
enum status train_file_create(const char *path, const struct train_file_info *info, struct file **out);

/** Weights of an update's rows, by train.combine, times the factor of their part (NULL: 1).                      Local. */
void part_weights(const struct training *t, const struct objective *o, const struct rows *r, const double *factor,
                  double *weight);

enum status window_new(struct subject *s, struct update_window **out);
void window_free(struct update_window *w);

/** The entry of regulariser k if its weight is a dual variable; NULL: it is fixed. */
const struct config_objective *dual_of(const struct inputs *in, size_t k);
double dual_weight(const struct training *t);
void dual_set(struct training *t, double weight);
/** Before and after the gradient of regulariser k in update i: sets t->factor, the weight of each part, and dual_next.
 *                                                                                          Collective over the job. */
enum status dual_begin(struct training *t, size_t i, size_t k, const struct rows *r);
void dual_end(struct training *t, size_t i, size_t k, const struct rows *r);
/** When the weights have been updated: the dual weight moves.                              Collective over the job. */
enum status dual_updated(struct training *t, size_t i);

/* ------------------------------------------------------------------------------------------------------ guard ----- */
enum { GUARD_WORDS = 8 };
struct guard {
    bool *still;    /* [n_param] what no update moves: train.freeze and the layers that rest; owned, as all lists */
    bool rectified; /* the gradient of the present update is what the guard makes of it */
    struct guarded said;
    /* freeze */
    uint64_t resting[GUARD_WORDS]; /* [n_word] bit l: layer l rests */
    size_t n_word;
    double *rests;  /* [n_layer] the same, for the file */
    double *square; /* [1 + n_regularizer][n_param] of the gradients of which the update's is the sum */
    /* project */
    struct state *retain; /* the gradient that the forget gradient is projected off; the subject's */
    struct state *mean;   /* what it was in the update before; NULL: the newest batch alone counts */
    double *dot;          /* [3][n_param] <forget, forget>, <forget, retain>, <retain, retain> */
    /* budget */
    uint64_t start;    /* the bits of the risk at the first measurement; NaN: there was none */
    uint64_t within;   /* 1 + the step of the last checkpoint within the budget; 0: there is none */
    size_t checkpoint; /* step of the newest one; SIZE_MAX: none */
    double *predicted; /* [n_param] */
};
/* One action of the guard. All functions but wanted() may be NULL; what they remember stands in struct guard. */
struct action {
    const char *key;
    bool (*wanted)(const struct config *c);
    enum status (*check)(const struct inputs *in); /* ERR_INPUT: it cannot be done */
    void (*demand)(const struct inputs *in, const struct timetable *s, const struct layout *l, struct demand *d);
    enum status (*say)(const struct inputs *in, struct text *out); /* what it will do, for the plan */
    enum status (*make)(struct training *t);                /*                                             Local. */
    enum status (*objective)(struct training *t, size_t i); /* t->gradient is the objective's: nothing is added yet.
                                                                                             Collective over the job. */
    void (*regularizer)(struct training *t, size_t k);      /* t->part is what regulariser k has added. The same */
    void (*measured)(struct training *t, const struct seen *seen); /*                      Collective over the job. */
    void (*rectify)(struct training *t);                   /* last, before the update: changes t->gradient. Local. */
    void (*updated)(struct training *t);                   /* the update is made                          Local. */
    size_t (*saved)(struct guard *g, struct saved *saved); /* adds what a checkpoint must have */
};
extern const struct action freeze_action, project_action, budget_action;

enum status guard_new(struct training *t); /* t->guard, where something is wanted. Local. */
void guard_free(struct guard *g);
void guard_demand(const struct inputs *in, const struct timetable *s, const struct layout *l, struct demand *d);
enum status guard_print(const struct inputs *in, const struct plan *p, const struct demand *d, struct text *out);
size_t guard_saved(const struct training *t, struct saved *saved);
/** The moments of an update at which actions look on; each does nothing without a guard. */
void guard_begin(struct training *t);
enum status guard_objective_formed(struct training *t, size_t i);
void guard_regularizer_formed(struct training *t, size_t k);
void guard_rectify(struct training *t);
void guard_updated(struct training *t);
/** What no update moves. */
const bool *guard_still(const struct training *t);
/** sum of x [n_param] over what moves. */
double guard_moving(const struct training *t, const double *x);
/** <a, b> of every parameter, complete.                                              Collective over the tensor ranks. */
void guard_dot(const struct training *t, const struct state *a, const struct state *b, double *dot);
#endif
