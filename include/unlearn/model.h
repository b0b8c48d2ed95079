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
enum qk_norm { /* norm of queries and keys, before the rotation */
               QK_NONE,
               QK_SHARED, /* over each head, all heads with one weight */
               QK_EACH,   /* over each head, a tensor of weights for every head */
               QK_WHOLE   /* over all heads together */
};
/* The list from which struct shape is made. For every member: how closely two models must agree in it, its type, name
 * and dimension, the function of shape_same.c that compares it, and its name in the message that two models differ.
 *      TENSORS    decides which tensors there are, their shapes and order: if equal, weights of one fit the other
 *      FUNCTION   decides what is computed from them: if equal too, both can go through one forward
 *      GRADIENT   changes gradients, but not the outputs
 *      FREE       none of these; the last column says why */
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
    X(TENSORS,  size_t,          positions, , learned, "the number of its positions") /* else longer rows only warn */ \
    X(FUNCTION, enum norm_kind,  norm, , value, "the kind of its norms") \
    X(TENSORS,  bool,            norm_bias, , value, "the bias of its norms") \
    X(FUNCTION, double,          norm_eps, , value, "the epsilon of its norms") \
    X(TENSORS,  bool,            tied, , value, "tie_word_embeddings") /* lm_head shares the embedding's tensor */ \
    X(FUNCTION, bool,            parallel_residual, , value, "use_parallel_residual") /* x + attention + mlp */ \
    X(TENSORS,  bool,            one_norm, , value, "the number of its norms") /* one for attention and MLP (phi) */ \
    X(FUNCTION, bool,            post_norm, , value, "the place of its norms") /* after: x + norm(attention(x)) */ \
    X(TENSORS,  enum qk_norm,    qk_norm, , value, "qk_layernorm") /* same kind as the other norms */ \
    X(TENSORS,  bool,            qk_norm_bias, , value, "the bias of qk_layernorm") \
    X(TENSORS,  bool,            qkv_bias, , value, "the bias of q, k and v") \
    X(TENSORS,  bool,            out_bias, , value, "the bias behind attention") \
    X(TENSORS,  bool,            mlp_bias, , value, "mlp_bias") \
    X(TENSORS,  bool,            head_bias, , value, "the bias of lm_head") \
    X(TENSORS,  bool,            gated, , value, "the kind of its MLP") /* act(gate x) * (up x), else act(up x) */ \
    X(FUNCTION, enum activation, activation, , value, "its activation function") \
    X(FUNCTION, size_t,          rotary_dim, , value, "the part of a head that rotates") /* its first entries; even */ \
    X(FUNCTION, double *,        frequency, , frequencies, "its rotary frequencies (rope_theta, rope_scaling)") \
        /* [rotary_dim/2], owned: pair k turns by t * frequency[k] at position t */ \
    X(FUNCTION, double,          rotary_scale, , value, "the attention factor of its rope_scaling") /* 1 but for yarn */ \
    X(FUNCTION, double,          embed_scale, , value, "the scale of its embedding") \
    X(TENSORS,  bool,            learned_positions, , value, "the kind of its positions") /* longer rows are refused */ \
    X(FUNCTION, size_t,          window, , value, "sliding_window") /* 0: none; longer rows are refused */ \
    X(FREE,     int32_t,         bos, , value, "no number depends on it") /* -1: none */ \
    X(FREE,     int32_t,         eos, [MAX_EOS], value, "all models of a run read the same rows, those of model.path") \
    X(FREE,     size_t,          n_eos, , value, "as eos") \
    X(GRADIENT, int32_t,         pad, , value, "pad_token_id") \
        /* as an input, this token gives its embedding row no gradient (transformers' padding_idx); -1: none */ \
    X(TENSORS,  const struct architecture *, row, , names, "the names of its tensors") /* of the architecture table */ \
    X(FREE,     json_t *,        json, , value, "what is carried over when a model is written, owned")
/* clang-format on */
struct shape {
#define X(agree, type, name, dimension, same, text) type name dimension;
    SHAPE_MEMBERS(X)
#undef X
};
/** Reads DIR/config.json in both styles (rope_theta, rope_scaling, torch_dtype; rope_parameters, dtype). Checks sizes
 *  before it allocates by them. Refuses by name the keys that change results but are not supported; ignores other
 *  unknown keys. ERR_INPUT names file and key.                                                                Local. */
enum status shape_read(const char *dir, struct shape **out);
enum status shape_parse(const char *where, const char *json, size_t n, struct shape **out);
/** Gives a shape with tied embeddings a head of its own, also in its config.json; *head: the name of its tensor.    Local. */
enum status shape_separate(struct shape *s, const char **head);
void shape_free(struct shape *s);
enum shape_agree { SHAPE_TENSORS, SHAPE_FUNCTION, SHAPE_GRADIENT, SHAPE_FREE };
/** The name of the first member that must agree so far, but differs between two models; NULL: none.           Local. */
const char *shape_differs(const struct shape *a, const struct shape *b, enum shape_agree as_far_as);
bool shape_equal(const struct shape *a, const struct shape *b); /* they agree in all TENSORS members */
uint64_t shape_hash(const struct shape *s);                     /* hash of all members that are not FREE */

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
/* One tensor of the checkpoint, and this process's part of it: the rows that `piece` lists, see param_global_row(), and
 * columns col_first ... col_first+col_count-1. A vector is [rows][1]. */
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
    size_t row_count; /* local rows, of all pieces together */
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
    size_t kv_first, kv_count;         /* key-value heads that these query heads need */
    size_t column_first, column_count; /* MLP columns */
    size_t word_first, word_count;     /* vocabulary rows */
};
/** tensor_size may be at most the number of heads; ERR_INPUT for a larger one names the layouts that work.    Local. */
enum status layout_new(const struct shape *s, int tensor_rank, int tensor_size, struct layout **out);
void layout_free(struct layout *l);
/** The parameter of a layer with this role; NULL when the layer has none. With tied embeddings lm_head's ROLE_HEAD is
 *  the embedding; with QK_EACH the first head's parameter is returned, and the other heads' follow it. */
const struct param *layout_find(const struct layout *l, size_t layer, enum role role);
/** Rows and columns of the tensor in a file: exchanged if the file stores it transposed. */
size_t param_file_rows(const struct param *p);
size_t param_file_cols(const struct param *p);
/** Where a state has the parameters of a layer: data[*first ... *first + *count - 1].                         Local. */
void layout_span(const struct layout *l, size_t layer, size_t *first, size_t *count);
/** Name i that a file may have for the tensor, NULL behind the last: its own; without the family's prefix, as in files of the
 *  decoder alone; for a tied embedding also the head's.                                                       Local. */
const char *param_file_name(const struct layout *l, const struct param *p, bool tied, size_t i);
/** Global row of local row i. */
size_t param_global_row(const struct param *p, size_t i);
size_t param_rows(const struct param *p, size_t n_param); /* local rows of n_param stacked tensors together */
const char *layer_name(const struct layout *l, size_t layer,
                       char buffer[32]); /* "embed", "layers.0", "norm", "lm_head" */

/* ---------------------------------------------------------------------------------- state: one value per parameter ----- */
/* Weights, gradient, moments and risk gradients are all states and are accessed layer by layer. Code never keeps a
 * pointer across a release, so that sharding states will only need other acquire and release functions. */
struct state {
    const char *name;            /* "weights", "gradient", ...; static */
    const struct layout *layout; /* borrowed */
    real *data;                  /* [layout->size]; owned */
    real *guard;                 /* test mode (state_poison): the copy that acquire returns and release poisons */
    size_t acquired;             /* test mode: 1 + the layer that is acquired, 0: none */
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
/* A backward passes to a sink the inputs and deltas of every use of a tensor, from which weight gradients can be
 * formed, for J objectives with stacked deltas: dy [J][n][...], and x [n][...] of the one forward. `first` cuts the n
 * rows into the batch's sequences. Calls for a layer come between begin and end, whose `layer` is the one that holds
 * the tensors. `use` is the layer that computes with them: for the head's use of a tied embedding it is lm_head. `p` is
 * the first of n_param parameters whose rows are stacked (q, k, v; gate, up; the norms of each head): dy has their
 * columns side by side. */
struct sink {
    void *context;
    void (*begin)(void *context, size_t layer);
    void (*end)(void *context, size_t layer);
    void (*linear)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy); /* y = x W^T; x [n][in], dy [J][n][out] */
    void (*bias)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy);
    /* Norm weights: the gradient is the sum of xhat dy; xhat [n][width], dy [J][n][width]. If heads share one weight,
     * width is a multiple of its rows and n_param is 1. */
    void (*scale)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy);
    void (*embed)(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy); /* rows looked up by token or position id; dy [J][n][d] */
};
/* The sink that adds the gradient to a state; J = 1. */
struct gradient_sink {
    struct state *gradient; /* borrowed */
    real *base;             /* of the layer between begin and end */
};
struct sink sink_gradient(struct gradient_sink *g);

/* Largest batch that a model's workspace is made for. */
struct model_limits {
    size_t rows, outputs, sequences, longest; /* of one pass */
    size_t objectives; /* J stacked in one backward; 0: forwards only, which keep nothing for a backward */
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
/** The same up to hidden state `layer` (see model_hidden()), which must be finite instead: no logits, no nll. */
enum status model_forward_hidden(struct model *m, struct state *weights, const struct batch *b, size_t layer);
/* Results of the last forward, borrowed until the next one. */
const double *model_nll(const struct model *m); /* [n_out]; 0 where an output has no label */
const double *model_lse(const struct model *m); /* [n_out] log sum_v exp logit, over the whole vocabulary */
real *model_logits(struct model *m);            /* [n_out][word_count] */
/** Copies logits and lse of the last forward (the reference's) aside, so that another forward can follow.     Local. */
void model_set_aside(struct model *m, const struct batch *b);
double *model_aside_lse(struct model *m); /* as model_set_aside() left it, or for the caller to fill */
real *model_aside_logits(struct model *m);
/** x [n_out][d] = hidden state `layer` at the output rows: the output of that block, counted from 1, for the last block
 *  after the final norm. Every tensor rank has all of it.                                                     Local. */
void model_hidden(const struct model *m, const struct batch *b, size_t layer, real *x);
real *model_aside_hidden(struct model *m, const struct batch *b,
                         size_t j); /* [n_out][d] for the caller's use, one for each loss j */

/* ------------------------------------------------------------------------------------------------ token by token ----- */
struct cache; /* keys and values of this process's heads for `slots` sequences of up to `longest` tokens each */
/** Makes it, or with out NULL only counts its bytes (may be NULL).                                               Local. */
enum status cache_new(const struct layout *l, size_t slots, size_t longest, struct cache **out, size_t *bytes);
void cache_free(struct cache *c);
/** The forward of rows that continue sequences in the cache, by one token or many: sequence i is in slot item[i], and
 *  row r is at position[r] of it, directly after the tokens already cached; a sequence that begins at position 0 takes
 *  the slot over. b->longest is the largest position + 1. Gives model_logits() of the output rows and nothing else: no
 *  log-likelihoods, nothing for a backward. A row's logits are bit for bit the same whatever other rows the batch has,
 *  however the sequence was cut into steps, and for any number of threads; model_forward() agrees with them up to
 *  rounding. (With more than two tensor ranks this holds if the MPI library adds in the same order for messages of any
 *  length.)                                                                        Collective over the tensor ranks. */
void model_step(struct model *m, struct state *weights, struct cache *c, const struct batch *b);

/** [J][n_out][word_count]: where the caller writes the losses' derivatives before model_backward. */
real *model_dlogits(struct model *m);
/** [n_out][d]: where the caller instead writes loss j's derivative by hidden state `layer`, for the next backward. */
real *model_dhidden(struct model *m, const struct batch *b, size_t j, size_t layer);
/** Backward of J losses through the last forward, from model_dlogits or model_dhidden. Passes every use of a tensor to
 *  the sink, except in layers above the highest one that a loss acts on.           Collective over the tensor ranks. */
enum status model_backward(struct model *m, struct state *weights, const struct batch *b, size_t J,
                           const struct sink *sink);
#endif
