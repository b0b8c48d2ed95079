/* Private to the room probe: a measurement, and the table of what is measured beside the effects. */
#ifndef UNLEARN_PROBE_PRIV_H
#define UNLEARN_PROBE_PRIV_H
#include "unlearn/probe.h"

/* -------------------------------------------------------------------------------------------------- measurement ----- */
enum { MOST_PROBES = 16, MOST_AXES = 4 };
struct measurement {
    struct subject *subject;    /* borrowed, as is training */
    struct training *training;  /* NULL: nothing is trained */
    size_t step;                /* that is measured */
    struct file *file;          /* geffect.h5; rank 0 only, NULL elsewhere */
    bool (*ask)(void *context); /* whether to stop; NULL: never stop */
    void *context;
    /* risks at the weights measured last */
    size_t at_once;               /* risks whose gradients are held at a time: all, or one */
    struct state **risk_gradient; /* [at_once] complete; the subject's */
    double *risk_value;           /* [K] nats */
    /* the files' `layer` axis */
    size_t n_layer;
    char **layer;       /* [n_layer] owned */
    size_t *slot_layer; /* [slots] layer to which each use of a tensor is added */
    /* buffers of the effects */
    double *effect, *effect_loss, *mean_weight; /* [J][at_once][slot][n], [J][n], [J+1][n] */
    double *slab;                               /* [J][K][layer][forget rows] */
    double *retain_slab, *retain_loss;          /* of the regularisers: [R][K][layer][retain rows], [R][retain rows] */
    double *instance_effect;                    /* [J][K][forget rows] summed over layers, until the next measurement */
    double *instance_weight, *total;            /* [J][n] weights of forget rows; [J][K] effects summed with these */
    double *risk_nll;                           /* of every label of one risk's rows, reused for each risk */
    double *inverse_confidence;                 /* [forget rows] */
    void *probe[MOST_PROBES];                   /* in the order of the table; NULL: not asked for */
};
/** Puts a field into the current row; ranks other than 0 only agree on the status.          Collective over the job. */
enum status measurement_put(struct measurement *m, const char *field, const double *slab);
void measurement_report(const struct measurement *m, size_t step);
/** The end of the objectives that read the same outputs of the same rows as objective j, and stand next to it. */
size_t measured_together(const struct inputs *in, size_t j);

/* What the probe `tokens` holds; its file is made in token_file.c. */
struct tokens {
    struct file *file;          /* tokens.h5; rank 0 only */
    const struct dataset *data; /* borrowed: the forget rows, or refusals in their place */
    size_t n, n_objective, n_risk;
    size_t *label_first;  /* [rows+1] labelled tokens of row i: label_first[i] ... */
    double *effect, *nll; /* [K][n], [n] */
    double *along;        /* [J][K][forget rows] effects by forward mode */
    double *group;        /* [J][at_once][forget rows] those of one call */
    double *error;        /* [J][K] */
};
enum status tokens_open(const struct measurement *m, void *self, const char *dir, const struct opening *o);
enum status tokens_put(struct tokens *t); /* into the current row */
enum status tokens_files(file_say *say, void *to);
/** Between two parts of a measurement: ERR_STOPPED if it is to stop.                        Collective over the job. */
enum status measurement_go_on(const struct measurement *m);

/* ------------------------------------------------------------------------------------------------------- probes ----- */
/* Something that is measured beside the effects: a file that defines NAME_probe, and a line in table.c. All functions
 * except wanted() may be NULL. `self` is what make() made. */
struct probe {
    const char *name;
    bool (*wanted)(const struct inputs *in);
    /* the key for which it reads the gradients of all risks when an update's is formed, or later; NULL: it does not */
    const char *(*keeps)(const struct inputs *in);
    enum status (*check)(const struct inputs *in); /* ERR_INPUT if it cannot be measured */
    /* adds what it needs in addition to the effects: states, directions, bytes, flops */
    void (*demand)(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d);
    /* adds a line of its own to the plan, which ends */
    enum status (*print)(const struct inputs *in, const struct plan *p, const struct layout *l, struct text *out);
    struct field_list fields;    /* its fields of geffect.h5 */
    const struct axis *own_axis; /* [n_own_axis] the fields' axes that only it has, without values */
    size_t n_own_axis;           /* at most MOST_AXES */
    size_t (*axes)(const void *self, struct axis axis[MOST_AXES]); /* the same with their values */
    enum status (*make)(const struct measurement *m, void **self); /*                                    Local. */
    /* What it does at the moments of enum moment. Collective over the job, but for the first. */
    /* AT_EFFECTS, for risks first ... first+n-1, whose gradients are held: m->effect [J][n][slot][forget rows] has the effects of all
     * objectives on them, */
    void (*objectives)(const struct measurement *m, void *self, size_t first, size_t n);
    enum status (*risks)(struct measurement *m, void *self, size_t first,
                         size_t n);                           /* and what else needs these gradients */
    enum status (*before)(struct measurement *m, void *self); /* AT_PROBES */
    /* AT_FORMED, AT_UPDATED; u NULL: there is no update, or it was not made */
    enum status (*formed)(struct measurement *m, void *self, const struct update *u);
    enum status (*after)(struct measurement *m, void *self, const struct update *u);
    /* Its own file: opens it in `dir`, and where its handle stands; a row is committed with that of geffect.h5. Rank 0. */
    enum status (*open)(const struct measurement *m, void *self, const char *dir, const struct opening *o);
    struct file **(*file)(void *self);
    enum status (*files)(file_say *say, void *to);                    /* describes it */
    void (*report)(const void *self, size_t risk, struct text *line); /* adds to the log, after a risk's value */
    void (*end)(void *self);                                          /* frees it; accepts NULL */
};
extern const struct probe *const probe_table[];
extern const size_t n_probe; /* at most MOST_PROBES */

/** The complete gradient of an objective over a whole set, by objective_weights(); weight and loss [rows->n] are
 *  scratch. ERR_NUMERIC: it is not finite; the tensor is named.                             Collective over the job. */
enum status set_gradient(struct subject *s, const struct objective *o, const struct rows *rows, double *weight,
                         double *loss, struct state *gradient);

/* --------------------------------------------------------------------------------------------------- geffect.h5 ----- */
/* A regulariser NAME has the fields geffect_NAME (step, risk, layer, retain_instance), instance_weight_NAME
 * (retain_instance) and instance_loss_NAME (step, retain_instance); the other fields are in the table of file.c and in
 * the probes' files. All pointers are borrowed during the call. */
struct geffect_file_info {
    size_t n_objective, n_risk, n_layer, n_instance, n_regularizer, n_retain_instance;
    const char *const *objective, *const *risk, *const *layer, *const *regularizer;
    const int64_t *instance;        /* rows of the forget file */
    const int64_t *retain_instance; /* rows of the retain file; only with regularisers */
    size_t n_axis;                  /* axes of the probes */
    const struct axis *axis;
    size_t n_list;
    const struct field_list *list;
    size_t n_attribute;
    const struct attribute *attribute; /* history, version, git_commit, input, model, layout, host, ...; title is added */
};
enum status geffect_file_create(const char *path, const struct geffect_file_info *info, struct file **out);
#endif
