/* subject: the model that a run works on - its weights on this layout, what its reference says, and the engine that takes
 * rows through both. Training, measurement and evaluation all work on one subject.                                   */
#ifndef UNLEARN_SUBJECT_H
#define UNLEARN_SUBJECT_H
#include "unlearn/input.h"
#include "unlearn/plan.h"

struct subject {
    const struct inputs *in; /* borrowed, as plan and timetable */
    const struct plan *plan;
    struct timetable *timetable; /* NULL: nothing is trained or measured */
    struct grid *grid;
    struct layout *layout;
    struct state *weights, *reference; /* reference NULL: not needed, or kept as values */
    struct model *model;
    struct engine engine;
    struct reference kept;
    double *nll_ref; /* of every label of the forget rows, and of the pairs where there are any; NULL: not needed */
    size_t *label_first;
    size_t *every_row;                     /* 0, 1, 2, ... of the rows that are learnt from */
    double flops;                          /* nominal, of the job, so far */
    uint64_t hash_weights, hash_reference; /* of the values that were read */
};
extern const struct part subject_part;

/** Grid, layout and room for weights: enough to write text. *out also on failure.              Collective over the job. */
enum status subject_new(const struct inputs *in, const struct plan *p, const struct grid *world, struct subject **out);
/** All that gradients and likelihoods need besides.                                             Collective over the job. */
enum status subject_engine(struct subject *s, struct timetable *t);
void subject_free(struct subject *s);

/** What the reference says of the rows to come, its weights in the model's own memory, where they stay.
 *                                                                                              Collective over the job. */
enum status subject_reference(struct subject *s);
/** Then the weights themselves. Collective over the job. */
enum status subject_weights(struct subject *s);
/** The weights of model i of a trajectory.                                                      Collective over the job. */
enum status subject_next(struct subject *s, size_t i);
/** Hashes of the weights and the reference's, with memory for one of them only.                 Collective over the job. */
enum status subject_hashes(const struct inputs *in, const struct plan *p, uint64_t *weights, uint64_t *reference);

/** Rows of a data set with the reference values that there are. */
struct rows subject_rows(const struct subject *s, const struct dataset *d, size_t n, const size_t *row);
/** All forget rows as an objective reads them: with their answers, with refusals, or as pairs. */
struct rows subject_forget(const struct subject *s, const struct objective *o);
double rows_tokens(const struct rows *r);
/** Work done on these rows: so many products of a token with the parameters. */
void subject_count(struct subject *s, const struct rows *r, double products);
/** gradient = sum over the rows of weight[i] grad L(s_i), complete; loss [n] receives L(s_i).   Collective over the job. */
enum status subject_gradient(struct subject *s, const struct objective *o, const struct rows *r, const double *weight,
                             struct state *gradient, double *loss);
#endif
