/* model: what a model is (config.json, tensors), which part of it a process keeps, and the decoder's forward and backward
 * over a packed batch. One table row per architecture (architectures.c); everything else is generic.
 *
 * Layers, here and in the output: 0 = embed, 1 ... L = the blocks, L+1 = norm (the final one), L+2 = lm_head.        */
#ifndef UNLEARN_MODEL_H
#define UNLEARN_MODEL_H
#include "unlearn/core.h"
#include "unlearn/math.h"
#include "unlearn/parallel.h"

/* ------------------------------------------------------------------------------------- shape: config.json read ----- */
enum { MAX_EOS = 8 };
enum qk_norm { /* a norm of the queries and keys before they rotate */
               QK_NONE,
               QK_SHARED, /* over each head, all heads with one weight */
               QK_EACH,   /* over each head, a tensor of weights for every head */
               QK_WHOLE   /* over all heads together */
};
/* Every member of struct shape, once: how far two models must agree in it, its type, name and dimension, the function of
 * shape_same.c that compares it, and what it is called where two models differ. A member that is not here does not exist:
 *      TENSORS    which tensors there are, of what shape and in what order: weights of one fit the other
 *      FUNCTION   what is computed of them: both may go through one forward
 *      GRADIENT   what a gradient by them is, though not what the function gives
 *      FREE       none of these; why, stands in the last column */
/* clang-format off */
#define SHAPE_MEMBERS(X) \
    X(FREE,     char,            model_type, [32], value, "a name: what it stands for is in the other members") \
    X(TENSORS,  size_t,          vocabulary, , value, "vocab_size") \
    X(TENSORS,  size_t,          hidden, , value, "hidden_size") \
    X(TENSORS,  size_t,          intermediate, , value, "intermediate_size") \
    X(TENSORS,  size_t,          blocks, , value, "num_hidden_layers") \
    X(TENSORS,  size_t,          heads, , value, "num_attention_heads") \
    X(TENSORS,  size_t,          kv_heads, , value, "num_key_value_heads") \
    X(TENSORS,  size_t,          head_dim, , value, "head_dim") \
    X(TENSORS,  size_t,          positions, , learned, "the number of its positions") /* others only warn beyond it */ \
    X(FUNCTION, enum norm_kind,  norm, , value, "the kind of its norms") \
    X(TENSORS,  bool,            norm_bias, , value, "the bias of its norms") \
    X(FUNCTION, double,          norm_eps, , value, "the epsilon of its norms") \
    X(TENSORS,  bool,            tied, , value, "tie_word_embeddings") /* lm_head shares the embedding's tensor */ \
    X(FUNCTION, bool,            parallel_residual, , value, "use_parallel_residual") /* x + attention + mlp */ \
    X(TENSORS,  bool,            one_norm, , value, "the number of its norms") /* and the same norm of both (phi) */ \
    X(FUNCTION, bool,            post_norm, , value, "the place of its norms") /* behind: x + norm(attention(x)) */ \
    X(TENSORS,  enum qk_norm,    qk_norm, , value, "qk_layernorm") /* of the kind of the other norms */ \
    X(TENSORS,  bool,            qk_norm_bias, , value, "the bias of qk_layernorm") \
    X(TENSORS,  bool,            qkv_bias, , value, "the bias of q, k and v") \
    X(TENSORS,  bool,            out_bias, , value, "the bias behind attention") \
    X(TENSORS,  bool,            mlp_bias, , value, "mlp_bias") \
    X(TENSORS,  bool,            head_bias, , value, "the bias of lm_head") \
    X(TENSORS,  bool,            gated, , value, "the kind of its MLP") /* act(gate x) * (up x), else act(up x) */ \
    X(FUNCTION, enum activation, activation, , value, "its activation function") \
    X(FUNCTION, size_t,          rotary_dim, , value, "the part of a head that rotates") /* leading entries; even */ \
    X(FUNCTION, double *,        frequency, , frequencies, "its rotary frequencies (rope_theta, rope_scaling)") \
        /* [rotary_dim/2], owned: angle of position t is t * frequency[k] */ \
    X(FUNCTION, double,          rotary_scale, , value, "the attention factor of its rope_scaling") /* 1 but for yarn */ \
    X(FUNCTION, double,          embed_scale, , value, "the scale of its embedding") \
    X(TENSORS,  bool,            learned_positions, , value, "the kind of its positions") /* longer rows are refused */ \
    X(FUNCTION, size_t,          window, , value, "sliding_window") /* 0: none; longer rows are refused */ \
    X(FREE,     int32_t,         bos, , value, "no number depends on it") /* -1: none */ \
    X(FREE,     int32_t,         eos, [MAX_EOS], value, "all models of a run read the same rows, those of model.path") \
    X(FREE,     size_t,          n_eos, , value, "as eos") \
    X(GRADIENT, int32_t,         pad, , value, "pad_token_id") \
        /* its row of the embedding gets no gradient as an input (transformers' padding_idx); -1: none */ \
    X(TENSORS,  const struct architecture *, row, , names, "the names of its tensors") /* of the table */ \
    X(FREE,     json_t *,        json, , value, "what is carried over when a model is written, owned")
/* clang-format on */
struct shape {
#define X(agree, type, name, dimension, same, text) type name dimension;
    SHAPE_MEMBERS(X)
#undef X
};
/** Reads DIR/config.json, both styles (rope_theta, rope_scaling, torch_dtype; rope_parameters, dtype). Sizes are checked
 *  before anything is allocated by them; what changes the numbers and is not built is refused by name; unknown other keys
 *  are fine. ERR_INPUT names file and key.                                                                       Local. */
enum status shape_read(const char *dir, struct shape **out);
enum status shape_parse(const char *where, const char *json, size_t n, struct shape **out);
/** Gives a shape with tied embeddings a head of its own, also in its config.json; *head: the name of its tensor.    Local. */
enum status shape_separate(struct shape *s, const char **head);
void shape_free(struct shape *s);
enum shape_agree { SHAPE_TENSORS, SHAPE_FUNCTION, SHAPE_GRADIENT, SHAPE_FREE };
/** What the first member is called in which two models differ that should agree so far; NULL: they do.            Local. */
const char *shape_differs(const struct shape *a, const struct shape *b, enum shape_agree as_far_as);
bool shape_equal(const struct shape *a, const struct shape *b); /* as far as SHAPE_TENSORS */
uint64_t shape_hash(const struct shape *s);                     /* of all that is not free */

/* -------------------------------------------------------------------------------- layout: who keeps which part ----- */
/* clang-format off */
enum role { /* what a tensor is in its layer; the order is the order in memory, so that fused products are contiguous */
    ROLE_EMBED, ROLE_POSITION,
    ROLE_NORM1, ROLE_NORM1_BIAS,
    ROLE_Q, ROLE_K, ROLE_V,
    ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS,
    ROLE_Q_NORM, ROLE_K_NORM,
    ROLE_Q_NORM_BIAS, ROLE_K_NORM_BIAS,
    ROLE_O, ROLE_O_BIAS,
    ROLE_NORM2, ROLE_NORM2_BIAS,
    ROLE_GATE, ROLE_UP,
    ROLE_GATE_BIAS, ROLE_UP_BIAS,
    ROLE_DOWN, ROLE_DOWN_BIAS,
    ROLE_NORM, ROLE_NORM_BIAS,
    ROLE_HEAD, ROLE_HEAD_BIAS,
    N_ROLE
};
/* clang-format on */
/* One tensor of the checkpoint, and this process's part of it: local row i is global row piece..., columns col_first ...
 * col_first+col_count-1. A vector is [rows][1]. */
struct param {
    char *name; /* in the safetensors file; owned */
    enum role role;
    size_t layer;
    bool vector;
    bool transposed;   /* the file has it as [cols][rows] */
    size_t rows, cols; /* global shape */
    size_t n_piece;    /* runs of global rows, in local order; usually one */
    struct piece {
        size_t first, count;
    } * piece;        /* owned */
    size_t row_count; /* local rows: the sum of the pieces */
    size_t col_first, col_count;
    size_t own_first, own_count; /* local rows that this process counts in sums over the tensor ranks: every global row is
                                    counted by exactly one of them */
    bool shared;   /* some rows are kept by several tensor ranks and their gradients are partial sums there */
    size_t offset; /* of its first element in a state, in reals */
};
struct layout {
    const struct shape *shape; /* borrowed */
    int tensor_rank, tensor_size;
    size_t n_param;
    struct param *param;               /* ordered by layer, then role */
    size_t n_layer;                    /* blocks + 3 */
    size_t *layer_first;               /* [n_layer+1] params of layer l: layer_first[l] ... ; tied: lm_head has none */
    size_t size;                       /* reals of a state on this process */
    size_t elements;                   /* parameters of the whole model */
    size_t head_first, head_count;     /* query heads of this process */
    size_t kv_first, kv_count;         /* key-value heads that they need */
    size_t column_first, column_count; /* MLP columns */
    size_t word_first, word_count;     /* vocabulary rows */
};
/** Any tensor_size up to the number of heads; a larger one is ERR_INPUT naming the layouts that would work.      Local. */
enum status layout_new(const struct shape *s, int tensor_rank, int tensor_size, struct layout **out);
void layout_free(struct layout *l);
/** The parameter of a layer with this role, NULL when the layer has none (tied: lm_head's ROLE_HEAD gives the embedding;
 *  QK_EACH: the first head's, the others follow it). */
const struct param *layout_find(const struct layout *l, size_t layer, enum role role);
/** Rows and columns of the tensor in a file: exchanged where it is stored transposed. */
size_t param_file_rows(const struct param *p);
size_t param_file_cols(const struct param *p);
/** The reals of a layer's own parameters in a state: data[*first ... *first + *count - 1].                         Local. */
void layout_span(const struct layout *l, size_t layer, size_t *first, size_t *count);
/** What older files call the tensor: without the family's prefix, else its name. */
const char *param_old_name(const struct layout *l, const struct param *p);
/** Global row of local row i. */
size_t param_global_row(const struct param *p, size_t i);
size_t param_rows(const struct param *p, size_t n_param); /* local rows of tensors that stand one below the other */
const char *layer_name(const struct layout *l, size_t layer,
                       char buffer[32]); /* "embed", "layers.0", "norm", "lm_head" */

/* ---------------------------------------------------------------------------------- state: one value per parameter ----- */
/* Weights, gradient, moments, risk gradients: all alike, all reached layer by layer. Code never keeps a pointer across a
 * release: sharded states will then need nothing more than other acquire and release functions. */
struct state {
    const char *name;            /* "weights", "gradient", ...; static */
    const struct layout *layout; /* borrowed */
    real *data;                  /* [layout->size]; owned */
    real *guard;                 /* test mode (state_poison): what acquire hands out, poisoned by release */
    size_t acquired;             /* layer + 1 of what is out in test mode, 0: none */
    real *scratch;               /* shared rows of a layer, for state_reduce; owned */
};
enum status state_new(const char *name, const struct layout *l, struct state **out); /* zeros */
void state_free(struct state *s);
enum status state_poison(struct state *s);          /* from now on acquire returns a copy that release fills with NaN */
real *state_acquire(struct state *s, size_t layer); /* base such that base + param->offset is the tensor */
void state_release(struct state *s, size_t layer);  /* after reading */
void state_commit(struct state *s, size_t layer);   /* after writing; ends the acquire */
/** Sums the partial gradients of `shared` rows over the tensor ranks, then everything over the data ranks: after it, each
 *  process holds the whole gradient of its part.                                                Collective over grid. */
enum status state_reduce(const struct grid *g, struct state *gradient);
/** <a, b> per parameter, e [n_param]: this process's owned rows; sum over the tensor ranks to complete.           Local. */
void state_dot(const struct state *a, const struct state *b, double *e);
/** The first tensor with a value that is not finite, NULL: all are.                                              Local. */
const struct param *state_not_finite(const struct state *s);

/* ----------------------------------------------------------------------------------------------- forward, backward ----- */
struct cut { /* how stacked rows belong to objectives and sequences */
    size_t J, n, n_seq;
    const size_t *first; /* [n_seq+1] */
};
/* Where a backward delivers what would be weight gradients, for J objectives whose deltas are stacked: dy [J][n][...] beside
 * one forward's x [n][...]. `first` cuts the n rows into the batch's sequences. A layer's calls stand between begin and
 * end; `layer` is the one that keeps the tensors. `use` is the layer that acts: with tied embeddings the head's use of
 * the embedding's tensor says lm_head. `p` is the first of n_param parameters whose rows stand one below the other (q, k,
 * v; gate, up; the norms of each head): dy has their columns side by side. */
struct sink {
    void *context;
    void (*begin)(void *context, size_t layer);
    void (*end)(void *context, size_t layer);
    void (*linear)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy); /* y = x W^T; x [n][in], dy [J][n][out] */
    void (*bias)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy);
    /* Norm weights: the gradient is the sum of xhat dy; xhat [n][width], dy [J][n][width]. A width of several times the
     * parameters' rows repeats them (heads that share a weight); then n_param is 1. */
    void (*scale)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy);
    void (*embed)(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy); /* rows looked up by token or position; dy [J][n][d] */
};
/* The plain sink: adds the gradient (J = 1) to a state. */
struct gradient_sink {
    struct state *gradient; /* borrowed */
    real *base;             /* while a layer is open */
};
struct sink sink_gradient(struct gradient_sink *g);

/* Largest batch that a model's workspace is made for. */
struct model_limits {
    size_t rows, outputs, sequences, longest; /* of one pass */
    size_t objectives; /* J stacked in one backward; 0: forwards only, and nothing is kept of them */
    bool aside;        /* also keeps results of another forward (the reference's) */
    bool hidden;       /* losses may act on hidden states */
};
struct model; /* layout, rotary tables, workspace; weights come with every call */
/** Makes the workspace, or with out NULL only counts its bytes (may be NULL).                                    Local. */
enum status model_new(const struct layout *l, const struct grid *g, const struct model_limits *most, struct model **out,
                      size_t *bytes);
void model_free(struct model *m);

/** One forward over a packed batch. Keeps what the backward needs, the logits of this process's vocabulary slice, and the
 *  complete log-sum-exp and nll of every output. ERR_NUMERIC when a log-sum-exp is not finite; the results are complete
 *  all the same.                                                                    Collective over the tensor ranks. */
enum status model_forward(struct model *m, struct state *weights, const struct batch *b);
/** The same, stopped after hidden state `layer` (see model_hidden()), which is checked instead: no logits, no nll. */
enum status model_forward_hidden(struct model *m, struct state *weights, const struct batch *b, size_t layer);
/* Results of the last forward, borrowed until the next one. */
const double *model_nll(const struct model *m); /* [n_out]; 0 where an output has no label */
const double *model_lse(const struct model *m); /* [n_out] log sum_v exp logit, over the whole vocabulary */
real *model_logits(struct model *m);            /* [n_out][word_count] */
/** Moves logits and lse of the last forward aside, so that another can follow: the reference's distribution.     Local. */
void model_set_aside(struct model *m, const struct batch *b);
double *model_aside_lse(struct model *m); /* what was moved aside; or the caller puts there what it has kept */
real *model_aside_logits(struct model *m);
/** x [n_out][d] = hidden state `layer` at the output rows: the output of that block, counted from 1; of the last block:
 *  after the final norm. Every tensor rank has all of it.                                                        Local. */
void model_hidden(const struct model *m, const struct batch *b, size_t layer, real *x);
real *model_aside_hidden(struct model *m, const struct batch *b,
                         size_t j); /* [n_out][d] for the caller's use, one a loss */

/* ------------------------------------------------------------------------------------------------ token by token ----- */
struct cache; /* keys and values of sequences in `slots` places, up to `longest` tokens each; this process's heads */
/** Makes it, or with out NULL only counts its bytes (may be NULL).                                               Local. */
enum status cache_new(const struct layout *l, size_t slots, size_t longest, struct cache **out, size_t *bytes);
void cache_free(struct cache *c);
/** The forward of rows that continue sequences in the cache, one token or many of each: sequence i stands in slot item[i],
 *  row r at position[r] of it, right behind what has been read before; a sequence that begins at position 0 takes the slot
 *  over. b->longest is the largest position + 1. Leaves model_logits() of the output rows and nothing else: no
 *  log-likelihoods, nothing for a backward. The logits of a row are bit for bit the same whatever stands beside it, however
 *  the sequence was cut into steps, for any number of threads; those of model_forward() agree with them to rounding.
 *  (More than two tensor ranks: as far as the MPI library adds in one order whatever the length of a message.)
 *                                                                                   Collective over the tensor ranks. */
void model_step(struct model *m, struct state *weights, struct cache *c, const struct batch *b);

/** [J][n_out][word_count]: where the caller writes the losses' derivatives before model_backward. */
real *model_dlogits(struct model *m);
/** [n_out][d]: where the caller writes loss j's derivative by hidden state `layer` instead; holds until the next forward. */
real *model_dhidden(struct model *m, const struct batch *b, size_t j, size_t layer);
/** Backward of J losses through the last forward, from model_dlogits or model_dhidden; every use of a tensor goes to the
 *  sink, but for those in layers above all that the losses act on: they have none. Collective over the tensor ranks. */
enum status model_backward(struct model *m, struct state *weights, const struct batch *b, size_t J,
                           const struct sink *sink);
#endif
