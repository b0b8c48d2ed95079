/* Private to the room input: the steps of inputs_read(), in order. Each sets its part of `in`, or refuses the input. */
#ifndef UNLEARN_INPUT_PRIV_H
#define UNLEARN_INPUT_PRIV_H
#include "unlearn/input.h"

/* ----------------------------------------------------------------------------------------------- one to all ----- */
/** Rank 0 reads a text file and sends it to all; the caller frees it.                         Collective over world. */
enum status share_text(const struct grid *world, const char *path, size_t most, char **text, size_t *n);
/** Sends rank 0's n objects of `size` bytes to all, who allocate *x. Errors name `path`.      Collective over world. */
enum status share_list(const struct grid *world, const char *path, size_t n, size_t size, void **x);
/** Sends rank 0's data set to all; it may be NULL.                                            Collective over world. */
enum status share_dataset(const struct grid *world, const char *path, struct dataset **d);

/** What the paths of the input name: ERR_INPUT for those that only a shell understands, and for what is no model that can be
 *  read, each with its key and what makes what is needed. Rank 0 only.                                         Local. */
enum status inputs_places(const struct config *c);

/* ------------------------------------------------------------------------------------------------- settings ----- */
/** Objective, regularisers and measured objectives, from the objective table; their labels and needs.         Local. */
enum status inputs_objectives(struct inputs *in);
/** The config's entry for measured objective j. */
const struct config_objective *measured_from(const struct config *c, size_t j);
/** Layers and directions of the objectives on hidden states, when the model's shape is known.  Collective over world. */
enum status inputs_hidden(struct inputs *in, const struct grid *world);
/** The parameters that train.freeze names.                                                                       Local. */
enum status inputs_freeze(struct inputs *in);
/** Which scores are evaluated.                                                                                Local. */
enum status inputs_scores(struct inputs *in, struct evaluation_inputs **out);

/* ------------------------------------------------------------------------------------- what a model's files say ----- */
enum special { SPECIAL_BOS, SPECIAL_EOS, N_SPECIAL };
struct special_token {
    char *text;       /* owned; NULL: no file names one */
    int32_t id;       /* -1: none */
    const char *file; /* that names it */
};
/** What the tokenizer's files say of its beginning and end token; a text that is no token of it is left out with a warning. */
enum status special_read(const char *dir, const struct tokenizer *t, struct special_token token[N_SPECIAL]);
void special_free(struct special_token token[N_SPECIAL]);
/** The text of the padding token that they name; none is added where they name none. */
enum status special_padding(const char *dir, struct text *out);
/** Fills *e; s NULL: there is no config.json. */
enum status ends_read(const char *dir, const struct shape *s, const struct special_token *eos, struct ends *e);
/** Warns where rows have no end token, where nothing ends answers, and where other tokens end them than rows. On rank 0. */
enum status ends_check(const struct inputs *in, const struct data_rule *r);
/** Warns where the first row of a data set has other tokens than the model's own chat template would give it, if it is of a
 *  known kind. Only on rank 0.                                                                                Local. */
enum status chat_check(const struct inputs *in, const struct data_rule *rule, const struct special_token *token);
/** rule_open(), which also leaves the special tokens. */
enum status rule_make(const struct config *c, const struct shape *s, struct tokenizer **tokenizer, struct data_rule *rule,
                      struct ends *ends, struct special_token token[N_SPECIAL]);
/** The key of plain text in the rows of a file: that asked for, or the template's. */
const char *text_key(const struct data_rule *rule, const char *asked);

/* ----------------------------------------------------------------------------------------------------- rows ----- */
/** forget, retain, refusals, pairs, train, held_out.                                            Collective over world. */
enum status inputs_rows(struct inputs *in, const struct grid *world, const struct data_rule *rule);
/** Rank 0 reads a data file and sends it to all. If idk is not NULL, each row's answer is replaced by a line of that
 *  file, chosen as data.idk_draw says. Only rank 0 needs a rule with a tokenizer.             Collective over world. */
enum status inputs_dataset(const struct grid *world, const struct data_file *f, const char *idk, const struct config *c,
                           const struct data_rule *rule, struct dataset **out);
/** Warns of rows that were cut, updates in->longest, refuses rows that the model cannot read. d NULL: does nothing.
 *  evaluated: rows of evaluate.sets, which evaluate.row_length cuts in place of data.max_length. */
enum status inputs_lengths(struct inputs *in, const struct dataset *d, bool evaluated);
/** The rows and weights of every risk.                                                        Collective over world. */
enum status inputs_risks(struct inputs *in, const struct grid *world, const struct data_rule *rule);
/** Makes weight, by geffect.normalisation and .estimator, and label_first of a risk. */
enum status risk_weights(const struct config *c, struct risk *k);
/** How rows that are evaluated become tokens: changes `rule`, which is that of the other rows.   Collective over world. */
enum status inputs_evaluation_rule(const struct inputs *in, const struct grid *world, struct evaluation_inputs *e,
                                   struct data_rule *rule);
/** Makes s->label and changes the texts of s->prompts, as evaluate.variant has them.                Local; rank 0 only. */
enum status inputs_evaluation_texts(const struct inputs *in, const struct evaluation_inputs *e, const struct tokenizer *t,
                                    struct evaluated_set *s);
/** Makes s->label of a set with a form: its decoded labels.                                        Local; rank 0 only. */
enum status inputs_evaluation_labels(const struct evaluation_inputs *e, const struct tokenizer *t,
                                     struct evaluated_set *s);
/** The form of a set of evaluate.benchmark; NULL: TOFU's, or only examples for another set. */
const struct set_form *set_form(const struct config *c, const char *name);
bool set_is_evaluated(const struct config *c, const struct config_set *s);
bool score_of_benchmark(const struct config *c, enum score which);
/** Changes `rule` to that of a set with a form; start is the text that its template begins with.     Local; rank 0 only. */
enum status set_rule(const struct config *c, const struct evaluated_set *s, struct data_rule *rule, struct text *start);
enum status set_shorten(const struct set_form *f, const struct tokenizer *t, struct prompts *p);
/** The sets of e, which is *in->evaluation.                                                   Collective over world. */
enum status inputs_evaluation(struct inputs *in, struct evaluation_inputs *e, const struct grid *world,
                              const struct data_rule *rule);
void evaluation_inputs_free(struct evaluation_inputs *e);
/** The prompts of task generate.                                                              Collective over world. */
enum status inputs_prompts(const struct inputs *in, const struct grid *world, const struct data_rule *rule,
                           struct prompt_inputs **out);
void prompt_inputs_free(struct prompt_inputs *p);

/* These lists may be written to only while the inputs are being made. */
static inline struct regularizer *making_regularizers(struct inputs *in) { return (struct regularizer *)in->regularizer; }
static inline struct objective *making_measured(struct inputs *in) { return (struct objective *)in->measured; }
static inline struct direction *making_directions(struct inputs *in) { return (struct direction *)in->direction; }
#endif
