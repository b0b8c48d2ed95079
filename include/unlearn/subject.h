/* subject: the model that a run works on - its weights on this layout, the reference's values, and the engine that runs
 * rows through both. Training, measurement and evaluation all work on one subject.                                 */
#ifndef UNLEARN_SUBJECT_H
#define UNLEARN_SUBJECT_H
#include "unlearn/input.h"
#include "unlearn/plan.h"

struct subject {
    const struct inputs *in; /* borrowed, as are plan and timetable */
    const struct plan *plan;
    struct timetable *timetable; /* NULL: nothing is trained or measured */
    struct grid *grid;
    struct layout *layout;
    struct state *weights, *reference; /* reference NULL: not needed, or its values are in `kept` */
    struct model *model;
    struct engine engine;
    struct reference kept;
    struct home *home; /* [n_home] which memory each state has that is not kept from one update to the next; owned */
    size_t n_home, n_memory;
    struct state **memory; /* [n_memory] owned; NULL: nobody has asked for it yet */
    struct state **within; /* [n_memory] owned; in bfloat16, within a memory of float32; NULL: nobody has asked for one */
    double *nll_ref;       /* of every label of the forget rows or, if there are any, of the pairs; NULL: not needed */
    size_t *label_first;
    size_t *every_row;                     /* 0, 1, 2, ... for all training rows */
    double flops;                          /* nominal work of the whole job so far */
    uint64_t hash_weights, hash_reference; /* of the weights as they were read */
};
extern const struct part subject_part;

/** Makes grid, layout and memory for weights, all that generation needs. Sets *out also on failure.
 *                                                                                           Collective over the job. */
enum status subject_new(const struct inputs *in, const struct plan *p, const struct grid *world, struct subject **out);
/** Makes everything else that gradients and likelihoods need.                               Collective over the job. */
enum status subject_engine(struct subject *s, struct timetable *t);
void subject_free(struct subject *s);

/** A state of the plan's that is not kept from one update to the next: number `which` of this name, borrowed. Other states have
 *  the same memory at other moments of an update: struct held. *out NULL: the plan has none.                     Local. */
enum status subject_state(struct subject *s, const char *name, size_t which, struct state **out);
void subject_states_free(struct subject *s); /* all of them */

bool subject_reads_reference(const struct inputs *in); /* whether anything is computed with theta_o */
/** Reads the reference's weights into the memory of the model's own and computes its values for the rows to come; the
 *  weights stay there.                                                                      Collective over the job. */
enum status subject_reference(struct subject *s);
/** Then reads the model's own weights, unless they are the reference's.                     Collective over the job. */
enum status subject_weights(struct subject *s);
/** Reads the weights of model i of a trajectory.                                            Collective over the job. */
enum status subject_next(struct subject *s, size_t i);
/** Hashes of the model's and the reference's weights, with memory for only one of them.     Collective over the job. */
enum status subject_hashes(const struct inputs *in, const struct plan *p, uint64_t *weights, uint64_t *reference);

/** Rows of a data set, with the reference's nll where it is known. */
struct rows subject_rows(const struct subject *s, const struct dataset *d, size_t n, const size_t *row);
/** All forget rows as an objective reads them: with their answers, with refusals, or as pairs. */
struct rows subject_forget(const struct subject *s, const struct objective *o);
double rows_tokens(const struct rows *r);
/** Adds the work done on these rows: `products` flops for every token and parameter. */
void subject_count(struct subject *s, const struct rows *r, double products);
/** gradient = sum over the rows of weight[i] grad L(s_i), complete; or that is added to what it was, which was complete. loss
 *  [n] receives L(s_i).                                                                     Collective over the job. */
enum status subject_gradient(struct subject *s, const struct objective *o, const struct rows *r, const double *weight,
                             bool add, struct state *gradient, double *loss);
#endif
