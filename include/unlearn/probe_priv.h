/* Private to the room probe: a measurement, and the table of what is measured beside the effects. */
#ifndef UNLEARN_PROBE_PRIV_H
#define UNLEARN_PROBE_PRIV_H
#include "unlearn/probe.h"

/* -------------------------------------------------------------------------------------------------- measurement ----- */
enum { MOST_PROBES = 16, MOST_AXES = 4 };
struct measurement {
    struct subject *subject;    /* borrowed, as training */
    struct training *training;  /* NULL: nothing is trained */
    struct file *file;          /* geffect.h5; rank 0 only, NULL elsewhere */
    bool (*ask)(void *context); /* whether to end; NULL: never */
    void *context;
    /* of the weights measured last */
    struct state **risk_gradient; /* [K] complete */
    double *risk_value;           /* [K] nats */
    /* the files' `layer` axis */
    size_t n_layer;
    char **layer;       /* [n_layer] owned */
    size_t *slot_layer; /* [slots] where each use of a tensor is added */
    /* of the effects alone */
    double *effect, *effect_loss, *mean_weight; /* [J][K][slot][n], [J][n] x2 */
    double *slab;                               /* [J][K][layer][n] */
    double *instance_weight, *total;            /* [J][n] of the forget rows; [J][K] effects summed with them */
    double *risk_nll;                           /* of every label of a risk's rows, by turns */
    double *inverse_confidence;                 /* [forget rows] */
    void *probe[MOST_PROBES];                   /* in the order of the table; NULL: not asked for */
};
/** A field of the row that is being built; other ranks than 0 only agree.                       Collective over the job. */
enum status measurement_put(struct measurement *m, const char *field, const double *slab);
void measurement_report(const struct measurement *m, size_t step);

/* ------------------------------------------------------------------------------------------------------- probes ----- */
/* One thing that is measured beside the effects: one file, which defines NAME_probe, and one line of the table in table.c.
 * Any function but wanted() may be NULL. `self` is what make() made. */
struct probe {
    const char *name;
    unsigned shows; /* of enum training_extra: what it reads of an update */
    bool (*wanted)(const struct inputs *in);
    enum status (*check)(const struct inputs *in); /* refuses what cannot be measured with it */
    /* adds what it needs beside the effects: states, directions, bytes, flops */
    void (*demand)(const struct inputs *in, const struct layout *l, struct demand *d);
    struct field_list fields;                                      /* of geffect.h5 */
    size_t (*axes)(const void *self, struct axis axis[MOST_AXES]); /* of them, those that are its own */
    enum status (*make)(const struct measurement *m, void **self); /*                                    Local. */
    enum status (*before)(struct measurement *m, void *self,
                          const struct update *u); /* Collective over the job, as after */
    enum status (*after)(struct measurement *m, void *self, const struct update *u); /* u NULL: no update was made */
    void (*report)(const void *self, size_t risk, struct text *line); /* behind the value of a risk in the log */
    void (*end)(void *self);                                          /* frees it; accepts NULL */
};
extern const struct probe *const probe_table[];
extern const size_t n_probe; /* at most MOST_PROBES */

/** grad of an objective over a whole set by objective_weights(), complete; weight and loss [rows->n] are room.
 *                                                                                              Collective over the job. */
enum status set_gradient(struct subject *s, const struct objective *o, const struct rows *rows, double *weight,
                         double *loss, struct state *gradient);

/* --------------------------------------------------------------------------------------------------- geffect.h5 ----- */
/* The fields of a regulariser NAME are geffect_NAME (step, risk, layer, retain_instance), instance_weight_NAME
 * (retain_instance) and instance_loss_NAME (step, retain_instance); the others stand in the table of file.c and with the
 * probes. All borrowed during the call. */
struct geffect_file_info {
    size_t n_objective, n_risk, n_layer, n_instance, n_regularizer, n_retain_instance;
    const char *const *objective, *const *risk, *const *layer, *const *regularizer;
    const int64_t *instance;        /* rows of the forget file */
    const int64_t *retain_instance; /* rows of the retain file; only with regularisers */
    size_t n_axis;                  /* of the probes */
    const struct axis *axis;
    size_t n_list;
    const struct field_list *list;
    size_t n_attribute;
    const struct attribute *attribute; /* history, version, git_commit, input, model, layout, host, ...; title is added */
};
enum status geffect_file_create(const char *path, const struct geffect_file_info *info, struct file **out);
#endif
