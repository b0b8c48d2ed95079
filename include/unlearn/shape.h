/* shape: what a model is, read from its config.json. One table row per architecture (architectures.c); everything else is
 * generic. */
#ifndef UNLEARN_SHAPE_H
#define UNLEARN_SHAPE_H
#include "unlearn/core.h"
#include "unlearn/math.h"

/* ------------------------------------------------------------------------------------------------ tensors, kinds ----- */
/* clang-format off */
enum role { /* what a tensor is in its layer; the order is the order in memory, so that fused products are contiguous */
    ROLE_EMBED, ROLE_POSITION,
    ROLE_NORM1, ROLE_NORM1_BIAS,
    ROLE_Q, ROLE_K, ROLE_V,
    ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS,
    ROLE_Q_NORM, ROLE_K_NORM,
    ROLE_Q_NORM_BIAS, ROLE_K_NORM_BIAS,
    ROLE_O, ROLE_O_BIAS, ROLE_NORM1_AFTER,
    ROLE_NORM2, ROLE_NORM2_BIAS,
    ROLE_GATE, ROLE_UP,
    ROLE_GATE_BIAS, ROLE_UP_BIAS,
    ROLE_DOWN, ROLE_DOWN_BIAS, ROLE_NORM2_AFTER,
    ROLE_NORM, ROLE_NORM_BIAS,
    ROLE_HEAD, ROLE_HEAD_BIAS,
    N_ROLE
};
/* clang-format on */
enum { MAX_EOS = 8 };
enum qk_norm { /* norm of queries and keys, before the rotation */
               QK_NONE,
               QK_SHARED, /* over each head, all heads with one weight */
               QK_EACH,   /* over each head, a tensor of weights for every head */
               QK_WHOLE   /* over all heads together */
};

/* ----------------------------------------------------------------------------------------- the architecture table ----- */
struct flag {        /* a yes/no property of an architecture */
    const char *key; /* in config.json; NULL: always `standard` */
    bool standard;   /* value if config.json does not say */
};
struct cap { /* x -> c tanh(x / c) */
    const char *key;
    double standard; /* 0: none */
};
enum window { /* when sliding_window acts, and in which blocks */
              WINDOW_NEVER,
              WINDOW_GIVEN,     /* whenever given, in all */
              WINDOW_ASKED,     /* with use_sliding_window, as layer_types says, else from max_window_layers on */
              WINDOW_ALTERNATES /* as layer_types says, else in all but every full_every-th */
};
enum fused { /* whether q, k and v are one tensor (no grouped heads) */
             FUSED_NOT,
             FUSED_BY_HEAD, /* head by head, its rows of q, then k, then v */
             FUSED_BY_PART  /* q of all heads, then k of all, then v of all */
};
struct size_keys { /* names in config.json */
    const char *hidden, *intermediate, *blocks, *heads, *positions, *activation;
};
struct architecture {
    const char *model_type;
    const char *const *tensor; /* [N_ROLE] names, # is the block's number; NULL: not in this family. Neighbours with one
                                  name are parts of one tensor, one below the other */
    const char *head;          /* another name that files may have for lm_head; NULL: none */
    enum norm_kind norm;
    const char *eps_key;
    double eps;
    bool norm_bias, gated, head_bias;
    enum fused fused;
    bool transposed;        /* the blocks' matrices are stored as [in][out] */
    bool no_padding;        /* the embedding has no padding_idx in transformers */
    bool one_norm;          /* a parallel residual has one norm for attention and MLP */
    bool post_norm;         /* norms come after attention and MLP */
    bool both_norms;        /* norms come before and after attention and MLP */
    bool scaled_embedding;  /* the embedding is multiplied by the root of the hidden size */
    bool learned_positions; /* instead of rotary ones */
    enum qk_norm qk_norm;   /* its kind, if has_qk_norm says that there is one */
    bool qk_norm_bias;
    const char *activation;
    bool tanh_for_gelu; /* "gelu" means gelu_tanh */
    const struct size_keys *key;
    struct flag parallel, qkv_bias, out_bias, mlp_bias, tied, has_qk_norm;
    const char *theta_key;    /* key in the style without rope_parameters */
    const char *fraction_key; /* part of a head that rotates; NULL: all of it */
    double fraction;
    size_t kv_heads, head_dim, positions; /* defaults; 0: kv_heads = heads, head_dim = hidden / heads */
    size_t inner;                         /* MLP columns / hidden size if config.json does not say; 0: it must say */
    int32_t padding;                      /* padding_idx + 1 if config.json does not say; 0: none */
    enum window window;
    size_t window_standard, full_every; /* window if config.json does not say, 0: none */
    const char *full_every_key;         /* NULL: fixed */
    const char *local_theta_key; /* blocks with a window have rotary frequencies of their own; NULL: they have not */
    double theta, local_theta;   /* if config.json does not say; 0: 10000 */
    size_t original;             /* original_max_position_embeddings if config.json does not say; 0: that of its
                                           rope_scaling, else all positions */
    double dropout;              /* of the keys in _pdrop if config.json does not say */
    double query_scalar;         /* query_pre_attn_scalar if config.json does not say; 0: the width of a head */
    struct cap score_cap, logit_cap;
};

/* ------------------------------------------------------------------------------------------- config.json read ----- */
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
    X(TENSORS,  bool,            both_norms, , later, "the norms after attention and MLP") /* and before them */ \
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
    X(FUNCTION, double *,        other_frequency, , frequencies, "its other rotary frequencies (rope_scaling)") \
        /* of blocks with a window; with long_from, of rows of more tokens than that; NULL: none */ \
    X(FUNCTION, double,          other_scale, , later, "the attention factor of its other rope_scaling") \
    X(FUNCTION, size_t,          long_from, , later, "original_max_position_embeddings") /* 0: no such frequencies */ \
    X(FUNCTION, double,          embed_scale, , value, "the scale of its embedding") \
    X(TENSORS,  bool,            learned_positions, , value, "the kind of its positions") /* longer rows are refused */ \
    X(FUNCTION, size_t,          window, , value, "sliding_window") /* keys that a query sees, itself included; 0: all */ \
    X(FUNCTION, bool *,          slides, , slides, "layer_types") /* [blocks], owned: has the window; NULL: all */ \
    X(FUNCTION, double,          query_scalar, , later, "query_pre_attn_scalar") /* scores / its root; 0: head_dim */ \
    X(FUNCTION, double,          score_cap, , later, "attn_logit_softcapping") /* 0: none */ \
    X(FUNCTION, double,          logit_cap, , later, "final_logit_softcapping") /* 0: none */ \
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
/** Whether a block, counted from 0, has the window and what goes with it; how many keys its queries see at most, 0: all. */
static inline bool shape_slides(const struct shape *s, size_t block) { return s->slides ? s->slides[block] : s->window; }
static inline size_t shape_window(const struct shape *s, size_t block) { return shape_slides(s, block) ? s->window : 0; }
/** Reads DIR/config.json in both styles (rope_theta, rope_scaling, torch_dtype; rope_parameters, dtype). Checks sizes
 *  before it allocates by them. Refuses by name the keys that change results but are not supported; ignores other
 *  unknown keys. ERR_INPUT names file and key.                                                                Local. */
enum status shape_read(const char *dir, struct shape **out);
enum status shape_parse(const char *where, const char *json, size_t n, struct shape **out);
/** Gives a shape with tied embeddings a head of its own, also in its config.json; *head: the name of its tensor.    Local. */
enum status shape_separate(struct shape *s, const char **head);
void shape_free(struct shape *s);
/** The largest rate of dropout in its config.json, or by the family's defaults; nothing here makes use of it. */
double shape_dropout(const struct shape *s);
enum shape_agree { SHAPE_TENSORS, SHAPE_FUNCTION, SHAPE_GRADIENT, SHAPE_FREE };
/** The name of the first member that must agree so far, but differs between two models; NULL: none.           Local. */
const char *shape_differs(const struct shape *a, const struct shape *b, enum shape_agree as_far_as);
bool shape_equal(const struct shape *a, const struct shape *b); /* they agree in all TENSORS members */
uint64_t shape_hash(const struct shape *s);                     /* hash of all members that are not FREE */
#endif
