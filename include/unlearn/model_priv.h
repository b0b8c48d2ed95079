/* model, for its own files: the architecture table, config keys, safetensors files. */
#ifndef UNLEARN_MODEL_PRIV_H
#define UNLEARN_MODEL_PRIV_H
#include "unlearn/model.h"

/* ----------------------------------------------------------------------------------------- the architecture table ----- */
struct flag {        /* a yes or no of an architecture */
    const char *key; /* in config.json; NULL: always `standard` */
    bool standard;   /* where config.json does not say */
};
enum window {
    WINDOW_NEVER,
    WINDOW_GIVEN,
    WINDOW_ASKED
};           /* sliding_window: unknown, counts, counts with use_sliding_window */
enum fused { /* one tensor for q, k and v (no grouped heads) */
             FUSED_NOT,
             FUSED_BY_HEAD, /* of each head its rows of q, then k, then v */
             FUSED_BY_PART  /* q of all heads, then k, then v */
};
struct size_keys { /* names in config.json */
    const char *hidden, *intermediate, *blocks, *heads, *positions, *activation;
};
struct architecture {
    const char *model_type;
    const char *const *tensor; /* [N_ROLE] names, # stands for the block; NULL: none such in this family */
    enum norm_kind norm;
    const char *eps_key;
    double eps;
    bool norm_bias, gated, head_bias;
    enum fused fused;
    bool transposed;        /* the blocks' matrices are stored as [in][out] */
    bool no_padding;        /* the embedding has no padding_idx in transformers */
    bool one_norm;          /* a parallel residual has one norm for attention and MLP */
    bool post_norm;         /* norms stand behind attention and MLP */
    bool scaled_embedding;  /* by the root of the hidden size */
    bool learned_positions; /* instead of rotary ones */
    enum qk_norm qk_norm;   /* where the flag says that there is one */
    bool qk_norm_bias;
    const char *activation;
    bool tanh_for_gelu; /* "gelu" means gelu_tanh */
    const struct size_keys *key;
    const char *prefix; /* of all names, which older files leave away; NULL: none */
    struct flag parallel, qkv_bias, out_bias, mlp_bias, tied, has_qk_norm;
    const char *theta_key;    /* of the style without rope_parameters */
    const char *fraction_key; /* part of a head that rotates; NULL: all of it */
    double fraction;
    size_t kv_heads, head_dim, positions; /* where config.json does not say; 0: as many as heads, hidden / heads */
    size_t inner;    /* the MLP's columns in hidden sizes where config.json does not say; 0: it must */
    int32_t padding; /* token + 1 of padding_idx where config.json does not say; 0: none */
    enum window window;
};
/** NULL: not built. */
const struct architecture *architecture_find(const char *model_type);
/** The model types of the table, separated by ", ". */
const char *architecture_list(char buffer[256]);

/* ---------------------------------------------------------------------------------------------- keys of a config ----- */
/* `where` names the file; absent and null are the same and leave *out alone. ERR_INPUT names file, key and range. */
enum status key_size(const char *where, const json_t *object, const char *key, size_t least, size_t most, size_t *out);
enum status key_number(const char *where, const json_t *object, const char *key, double least, double most, double *out);
enum status key_flag(const char *where, const json_t *object, const char *key, bool *out);
enum status key_text(const char *where, const json_t *object, const char *key, const char **out); /* borrowed */
/** ERR_INPUT: what stands under `key` is not `needed`, "a whole number". */
enum status key_wrong(const char *where, const char *key, const json_t *j, const char *needed);
/** The member unless it is null. */
const json_t *key_find(const json_t *object, const char *key);

/** s->rotary_dim, s->frequency and s->rotary_scale from config.json; head_dim and positions are known.                              Local. */
enum status rope_read(const char *where, const json_t *config, struct shape *s);

/* -------------------------------------------------------------------------------------------------------- layout ----- */
/** The reals of a layer's own parameters in a state: data[*first ... *first + *count - 1].                         Local. */
void layout_span(const struct layout *l, size_t layer, size_t *first, size_t *count);
/** Whether key-value head h is kept by more than one of the tensor ranks.                                         Local. */
bool layout_kv_shared(const struct shape *s, int tensor_size, size_t h);
/** Whether the rows of p are those of the key-value heads, head after head.                                       Local. */
bool param_by_kv_heads(const struct layout *l, const struct param *p);
/** Rows and columns of the tensor in a file: exchanged where it is stored transposed. */
size_t param_file_rows(const struct param *p);
size_t param_file_cols(const struct param *p);
/** Global row of local row i. */
size_t param_global_row(const struct param *p, size_t i);

/* --------------------------------------------------------------------------------------------- safetensors files ----- */
struct tensor { /* one entry of a header, checked: begin ... end lies in the file, and is what type and shape need */
    const char *name; /* borrowed from the header */
    const char *type; /* "F32"; static */
    size_t bits;      /* of an element */
    bool readable;    /* a type that storage_load() reads */
    enum storage storage;
    size_t n_dim, dim[8];
    uint64_t begin, end; /* bytes from the start of the file */
};
struct safetensors {
    char *path;
    json_t *header;
    size_t n;
    struct tensor *tensor; /* [n] sorted by name */
};
/** Reads and checks the header: everything that the format forbids is ERR_INPUT naming the file.                  Local. */
enum status safetensors_open(const char *path, struct safetensors **out);
void safetensors_close(struct safetensors *f);
const struct tensor *safetensors_find(const struct safetensors *f, const char *name); /* NULL: not there */
const char *safetensors_type(enum storage storage);                                   /* "F32", "BF16", ...; static */
/** Opens a regular file, and only that, for reading.                                                              Local. */
enum status safetensors_file(const char *path, int *fd, uint64_t *size);
/** All n bytes from `at` on, or ERR_INPUT.                                                                        Local. */
enum status safetensors_pread(const char *path, int fd, uint64_t at, size_t n, void *out);

/* A checkpoint directory: its files, and in which one every parameter of a layout stands. */
struct checkpoint {
    size_t n_file;
    struct safetensors **file; /* [n_file] */
    const struct tensor **at;  /* [layout->n_param]; NULL: absent, where that is allowed */
    size_t *file_of;           /* [layout->n_param] */
};
/** Checks names, shapes and types against the layout.                                                             Local. */
enum status checkpoint_open(const char *dir, const struct layout *l, struct checkpoint **out);
/** The same, but the head may be absent.                                                                          Local. */
enum status checkpoint_open_headless(const char *dir, const struct layout *l, struct checkpoint **out);
void checkpoint_close(struct checkpoint *c);

/* ------------------------------------------------------------------------------------------------ weights on disk ----- */
/* Files of a directory that get their names together. One file is open at a time. */
struct export
{
    const char *dir; /* borrowed */
    char **name;     /* [n] in order of beginning; owned */
    size_t n, room;
    int fd;
    bool committed;
};
enum status export_open(const char *dir, struct export *e); /* makes the directory where it is not there */
enum status export_file(struct export *e, const char *name);
enum status export_bytes(struct export *e, const void *bytes, size_t n);
enum status export_close(struct export *e);
enum status export_text(struct export *e, const char *name, const char *bytes, size_t n); /* a whole file */
enum status export_json(struct export *e, const char *name, const json_t *json);
enum status export_copy(struct export *e, const char *source, const char *name); /* where source has one */
enum status export_commit(struct export *e);
void export_end(struct export *e); /* without commit, removes what was written */

/* weights_read and weights_write with buffers and files of given sizes. At least a row of a tensor fits in a buffer, and a
 * tensor in a file, whatever the size.                                                            Collective over grid. */
enum status weights_read_by(size_t buffer, const char *dir, const struct grid *g, struct state *weights, uint64_t *hash);
enum status weights_write_by(size_t buffer, uint64_t file, const char *dir, const char *source, const struct grid *g,
                             struct state *weights, enum storage storage);
#endif
