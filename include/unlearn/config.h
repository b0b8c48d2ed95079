/* config: input.yaml (YAML or JSON) -> struct config, from one table of keys. The only room that calls libyaml.
 * The table checks names, types and ranges; what needs a file or a model is checked by task/plan.c.                  */
#ifndef UNLEARN_CONFIG_H
#define UNLEARN_CONFIG_H
#include "unlearn/yaml.h"

#define CONFIG_AUTO SIZE_MAX       /* "auto": the program chooses */
#define CONFIG_ALL  (SIZE_MAX - 1) /* "all" */
#define CONFIG_NULL (SIZE_MAX - 2) /* not given */

enum task { TASK_FINETUNE, TASK_UNLEARN, TASK_GEFFECT, TASK_EVALUATE, TASK_GENERATE };
enum preset { PRESET_NONE, PRESET_OPEN_UNLEARNING, PRESET_TOFU, PRESET_PAPER };
enum reference_as { REFERENCE_AUTO, REFERENCE_WEIGHTS, REFERENCE_VALUES };
enum init { INIT_PRETRAINED, INIT_RANDOM };
enum draw { DRAW_RANDOM, DRAW_IN_ORDER };
enum counted_end { COUNTED_IN, COUNTED_OUT };
enum when { WHEN_AUTO, WHEN_ALWAYS, WHEN_NEVER };
enum combine_over { COMBINE_GLOBAL, COMBINE_MICRO_BATCH };
enum dual_update { DUAL_STEP, DUAL_EPOCH };
enum whose_products { PRODUCTS_OF_AUTO, PRODUCTS_OF_BLAS, PRODUCTS_OF_ONEDNN };
enum shard { SHARD_NONE, SHARD_OPTIMIZER, SHARD_FULL, SHARD_AUTO };
enum recompute { RECOMPUTE_AUTO, RECOMPUTE_NONE, RECOMPUTE_BLOCK };
enum risks_held { RISKS_AUTO, RISKS_TOGETHER, RISKS_IN_TURN };
enum schedule { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE };
enum optimizer { OPTIMIZER_ADAMW, OPTIMIZER_SGD };
enum decay { DECAY_MATRICES, DECAY_ALL };
enum resolution { RESOLUTION_LAYER, RESOLUTION_TENSOR };
enum normalisation { NORM_TOKEN_MEAN, NORM_SEQUENCE_SUM };
enum risk_from { FROM_ALL, FROM_TRAINED, FROM_HELD_OUT };
enum risk_draw { RISK_FIRST, RISK_SPREAD };
enum estimator { ESTIMATOR_FULL, ESTIMATOR_MOVING_AVERAGE };
enum pairs_with { PAIRS_NONE, PAIRS_RETAIN, PAIRS_FORGET, PAIRS_TRUE }; /* PAIRS_TRUE becomes PAIRS_RETAIN */
enum gram_key { GRAM_AUTO, GRAM_TRUE, GRAM_FALSE };
enum tokens_key { TOKENS_FALSE, TOKENS_TRUE, TOKENS_REFUSALS };
enum export_dtype { DTYPE_FULL, DTYPE_FLOAT32, DTYPE_BFLOAT16 };
enum benchmark { BENCHMARK_TOFU, BENCHMARK_MUSE, BENCHMARK_WMDP };
enum variant { VARIANT_TOFU, VARIANT_OPEN_UNLEARNING };
enum end_token { END_AUTO, END_IN, END_OUT };
enum none_extracted { EXTRACTED_AUTO, EXTRACTED_ZERO, EXTRACTED_ONE };
enum ratio_mean { RATIO_AUTO, RATIO_ARITHMETIC, RATIO_GEOMETRIC };
enum length_of { LENGTH_AUTO, LENGTH_TOTAL, LENGTH_NEW };
enum guard_limits { LIMITS_RISE, LIMITS_VALUE, LIMITS_RATIO };
enum guard_of { OF_MEASURED, OF_PREDICTED };
enum guard_act { ACT_AUTO, ACT_STOP, ACT_STEP_BACK };
enum precision { PRECISION_FLOAT32, PRECISION_BFLOAT16 };

struct config_model { /* a model of a trajectory */
    char *path;
    size_t step;
    struct place place;
};
struct config_data { /* a data file; path NULL: not given */
    char *path, *question, *answer, *text;
    size_t rows; /* or CONFIG_ALL */
    struct place place;
};
struct config_setting { /* one parameter of an objective: checked against the objective's own table later */
    char *key, *text;
    double number;
    bool is_number;
    struct place place;
};
struct config_objective {
    char *name;
    struct config_setting *setting; /* [n_setting], in the order written; without name, weight, batch_size */
    size_t n_setting;
    double weight;                            /* of `objective` and of regularizers; default 1 */
    size_t batch_size;                        /* regularizers only; default CONFIG_AUTO */
    struct {                                  /* regularizers only */
        double step_size, eps, warmup_epochs; /* step_size 0: the weight stays */
        enum dual_update update;
    } dual;
    struct place place; /* of its name */
};
struct config_set { /* a data set of the evaluation */
    char *name, *path;
    struct place place;
};
struct config_risk {
    char *name;
    char *data;              /* "forget", "retain" or a path */
    char *question, *answer; /* keys of a row of that file */
    size_t rows;
    enum risk_from from;
    enum risk_draw draw;
    struct place place, rows_place;
};
struct config {
    char *file;         /* the input's name */
    char *text;         /* the input as read, for the output files */
    char *overrides;    /* those of the command line, as given, one a line; "": none */
    enum preset preset; /* its defaults have been taken */
    enum task task;
    uint64_t seed;
    char *output_directory; /* never NULL: default outputs/ + the input file's name without its ending */
    struct {
        struct config_model *at; /* [n_at] >= 1; several only for task geffect, their steps increase */
        size_t n_at;
        const char *path; /* the first, borrowed */
        char *reference;  /* NULL: path */
        enum reference_as reference_as;
        enum init init;
        struct place place;
    } model;
    struct {
        char *template;      /* name, or NULL and the parts */
        char *system, *date; /* of a named one; NULL: not given */
        char *question_start, *question_end, *prompt_end, *answer_start, *answer_end;
        enum counted_end end_token;
        enum when trim, bos, eos;
        size_t max_length;
        struct config_data forget, retain;
        size_t held_out; /* of retain; CONFIG_AUTO */
        char *idk;
        enum draw idk_draw;
        struct place template_place, idk_place;
    } data;
    struct {
        size_t data, tensor, threads, tokens, logits; /* CONFIG_AUTO */
        enum shard shard;
        enum recompute recompute;
        enum risks_held risks;
        enum whose_products products;
        struct place place;
    } parallel;
    struct {
        size_t processes, per_node;               /* CONFIG_AUTO */
        double flops, memory, bandwidth, network; /* NAN: auto */
    } plan;
    struct config_objective objective;
    struct config_objective *regularizer;
    size_t n_regularizer;
    struct {
        enum optimizer name;
        double lr, beta1, beta2, eps, weight_decay, clip;
        enum decay decay;
        enum schedule schedule;
        size_t warmup_steps; /* CONFIG_AUTO */
        enum precision storage;
    } optimizer;
    struct {
        double epochs;
        size_t steps; /* CONFIG_NULL: epochs decide */
        size_t batch_size, accumulation;
        bool shuffle;
        enum combine_over combine;
        enum draw pair_retain;
        char **freeze; /* names of layers or tensors, ranges and patterns of them: checked against the model later */
        size_t n_freeze;
    } train;
    struct {
        size_t every;
        struct config_objective *objective; /* [n_objective]; 0: the objective trained */
        size_t n_objective;
        struct config_risk *risk; /* [n_risk]; default: unlearn and retain */
        size_t n_risk;
        enum resolution resolution;
        enum normalisation normalisation;
        enum estimator estimator;
        bool fidelity, standard_error;
        enum gram_key gram;
        enum tokens_key tokens;
        struct {
            enum pairs_with with;
            size_t rows; /* CONFIG_AUTO, CONFIG_ALL */
        } pairs;
        struct {
            bool update;
            size_t window; /* updates; 0: none */
        } curvature;
    } geffect;
    struct {
        size_t every, rows, max_length;
        size_t row_length; /* tokens of a row: never auto */
        char **metric;     /* [n_metric] names; one that says "all" by default */
        size_t n_metric;
        struct config_set *set; /* [n_set] */
        size_t n_set;
        char *retain_logs; /* NULL: not given */
        enum benchmark benchmark;
        enum variant variant;
        enum end_token end_token; /* this and the next four: never auto, by the variant where not given */
        enum none_extracted none_extracted;
        enum ratio_mean truth_ratio;
        enum length_of length;
        double min_k;
        double privleak_auc; /* NAN: auto */
    } evaluate;
    struct {
        char *prompts, *prompt; /* a file, or the one prompt itself; the other is NULL */
        size_t rows, max_length, slots;
        double temperature, top_p;
    } generate;
    struct {
        size_t every, keep;
        bool export;
        enum export_dtype dtype;
    } checkpoint;
    struct {
        char *risk;    /* NULL: the first on data.retain */
        double budget; /* NAN: none */
        enum guard_limits limits;
        enum guard_of of;
        enum guard_act act; /* never auto where there is a budget */
        size_t layers;      /* 0: none is frozen */
        double project;     /* 0: no projection */
    } guard;
    enum precision precision;
    struct config_private *private; /* owned text and places */
};

/** Reads `text` (the content of `file`) and the overrides "key.sub=value" (value in YAML's flow style; it replaces all that
 *  stood under the key), fills defaults and checks every key, type and range: ERR_INPUT with FILE:LINE:COLUMN, the nearest
 *  key for an unknown one, and "not built yet" for keys of later parts that differ from their default; ERR_USAGE for an
 *  override without key or value. What comes out holds what its task needs; names of objectives and their settings are not
 *  checked. A bare name among geffect.objectives has taken the settings of `objective` where it is that one.      Local. */
enum status config_parse(const char *file, const char *text, size_t n, int n_override, char *const *override,
                         struct config **out);
/** The same of the file itself; also ERR_IO.                                                                    Local. */
enum status config_open(const char *file, int n_override, char *const *override, struct config **out);
void config_free(struct config *c);
/** Says what is asked for and does nothing beside other keys: a line in the log for each, most a warning. ERR_MEMORY.
 *                                                                                                                Local. */
enum status config_warn(const struct config *c);
/** Every key with its value, as YAML that reads back to the same configuration, each with a comment of its meaning. */
enum status config_write(const struct config *c, struct text *out);
/** Whether a parameter says what the objective has without it: its table is not this room's. */
typedef bool setting_default(const struct config_objective *of, const struct config_setting *s);
/** What stands in the way of going on with a run: the first key that is not what it was and that may not change, in words;
 *  nothing is added where there is none. Paths of files are not compared: their content is, elsewhere. Parameters of
 *  objectives are compared by value, in any order; with is_default also one that is written with one that is not.  Local. */
enum status config_changed(const struct config *now, const struct config *then, setting_default *is_default,
                           struct text *out);
/** Reads a configuration as programs did whose checkpoints name no input_rules: a measured objective without parameters of its
 *  own had those of the trained one of its name; questions and answers of risks on data.forget or retain did nothing.  Local. */
enum status config_as_before(struct config *c);
/** Whether a fixed key ("train.batch_size") was written, in the input, its preset or on the command line; null is not. Local. */
bool config_given(const struct config *c, const char *key);
/** Whether a fixed key of one value has its default, written or not; ERR_MEMORY.                                Local. */
enum status config_usual(const struct config *c, const char *key, bool *usual);
/** Whether a value of this place was written, in the input or on the command line: it is no default.             Local. */
bool config_wrote(const struct config *c, const struct place *p);
/** The keys that may change, with ", " between them. */
enum status config_free_keys(struct text *out);
/* A key in words. Borrowed during the call. */
struct key_text {
    const char *path;     /* "train.epochs"; * : any name, any element */
    const char *value;    /* what it may be: "a number above 0" */
    const char *fallback; /* "5"; "required"; "by task": some tasks need it; "": none */
    const char *meaning;
    bool holds; /* other keys */
    bool free;  /* a restart may find another value */
};
/** Calls say() for every key, in the order of the table. */
enum status config_keys(enum status (*say)(void *to, const struct key_text *key), void *to);
/** Adds "did you mean WORD?" where one of `choices`, "a|b|c", is near to `word`.                              Local. */
enum status config_nearest(const char *choices, const char *word, struct text *out);
/* A default that a preset sets. */
struct preset_text {
    const char *preset, *objective; /* objective NULL: whichever is minimised */
    const char *key, *value, *source;
};
/** Calls say() for every default of every preset. */
enum status config_presets(enum status (*say)(void *to, const struct preset_text *preset), void *to);
/** Where the value of a fixed key ("train.batch_size") was written, for messages of later checks. */
struct place config_place(const struct config *c, const char *key);
#endif
