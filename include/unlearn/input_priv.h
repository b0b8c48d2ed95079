/* Private to the room input: the steps of inputs_read(), in their order. Each fills in its part of `in`, or refuses it. */
#ifndef UNLEARN_INPUT_PRIV_H
#define UNLEARN_INPUT_PRIV_H
#include "unlearn/input.h"

/* ----------------------------------------------------------------------------------------------- one to all ----- */
/** A text file, read by one process, on every process; the caller frees it.                    Collective over world. */
enum status share_text(const struct grid *world, const char *path, size_t most, char **text, size_t *n);
/** n objects of `size` bytes of rank 0; the others allocate them. `path` names them in messages. Collective over world. */
enum status share_list(const struct grid *world, const char *path, size_t n, size_t size, void **x);
/** The data set of rank 0, which may have none.                                                 Collective over world. */
enum status share_dataset(const struct grid *world, const char *path, struct dataset **d);

/* ------------------------------------------------------------------------------------------------- settings ----- */
/** Objective, regularisers and what is measured, by the objective table; labels; what they need.                 Local. */
enum status inputs_objectives(struct inputs *in);
/** The config's entry that measured objective j was made from: a bare name takes the settings of `objective`. */
const struct config_objective *measured_from(const struct config *c, size_t j);
/** Layers and directions of the objectives on hidden states, when the model's shape is known.  Collective over world. */
enum status inputs_hidden(struct inputs *in, const struct grid *world);
/** The parameters that train.freeze names.                                                                       Local. */
enum status inputs_freeze(struct inputs *in);
/** Which scores.                                                                                                 Local. */
enum status inputs_scores(struct inputs *in, struct evaluation_inputs **out);

/* ----------------------------------------------------------------------------------------------------- rows ----- */
/** forget, retain, refusals, pairs, train, held_out.                                            Collective over world. */
enum status inputs_rows(struct inputs *in, const struct grid *world, const struct data_rule *rule);
/** One process reads a data file, all receive it; with idk not NULL each row's answer is a line of that file, drawn by the
 *  config. Only rank 0 needs a rule with a tokenizer.                                            Collective over world. */
enum status inputs_dataset(const struct grid *world, const struct data_file *f, const char *idk, const struct config *c,
                           const struct data_rule *rule, struct dataset **out);
/** Warns of rows that were cut, takes the longest into account, refuses what the model cannot read. NULL: nothing. */
enum status inputs_lengths(struct inputs *in, const struct dataset *d);
/** Rows of every risk.                                                                          Collective over world. */
enum status inputs_risks(struct inputs *in, const struct grid *world, const struct data_rule *rule);
/** Fills weights and label_first of a risk by geffect.normalisation and .estimator. */
enum status risk_weights(const struct config *c, struct risk *k);
/** The sets of e, which in->evaluation points to.                                               Collective over world. */
enum status inputs_evaluation(struct inputs *in, struct evaluation_inputs *e, const struct grid *world,
                              const struct data_rule *rule);
void evaluation_inputs_free(struct evaluation_inputs *e);
/** For task generate.                                                                           Collective over world. */
enum status inputs_prompts(const struct inputs *in, const struct grid *world, const struct data_rule *rule,
                           struct prompt_inputs **out);
void prompt_inputs_free(struct prompt_inputs *p);

/* While inputs are being made, these lists are still written to. */
static inline struct regularizer *making_regularizers(struct inputs *in) { return (struct regularizer *)in->regularizer; }
static inline struct objective *making_measured(struct inputs *in) { return (struct objective *)in->measured; }
static inline struct direction *making_directions(struct inputs *in) { return (struct direction *)in->direction; }
#endif
