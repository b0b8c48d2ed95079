/* model, for its own files: the architecture table, config.json. */
#ifndef UNLEARN_MODEL_PRIV_H
#define UNLEARN_MODEL_PRIV_H
#include "unlearn/model.h"

/* ----------------------------------------------------------------------------------------- the architecture table ----- */
struct flag {        /* a yes/no property of an architecture */
    const char *key; /* in config.json; NULL: always `standard` */
    bool standard;   /* value if config.json does not say */
};
enum window {
    WINDOW_NEVER,
    WINDOW_GIVEN,
    WINDOW_ASKED
};           /* when sliding_window acts: never, whenever given, with use_sliding_window */
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
    const char *const *tensor; /* [N_ROLE] names, # is the block's number; NULL: not in this family */
    enum norm_kind norm;
    const char *eps_key;
    double eps;
    bool norm_bias, gated, head_bias;
    enum fused fused;
    bool transposed;        /* the blocks' matrices are stored as [in][out] */
    bool no_padding;        /* the embedding has no padding_idx in transformers */
    bool one_norm;          /* a parallel residual has one norm for attention and MLP */
    bool post_norm;         /* norms come after attention and MLP */
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
};
/** The row of this model type; NULL: not supported. */
const struct architecture *architecture_find(const char *model_type);
/** The model types of the table, separated by ", ". */
const char *architecture_list(char buffer[256]);

/** Sets s->rotary_dim, s->frequency and s->rotary_scale from config.json; needs s->head_dim and s->positions. Local. */
enum status rope_read(const char *where, const json_t *config, struct shape *s);

/* -------------------------------------------------------------------------------------------------------- layout ----- */
/** Whether key-value head h is kept by more than one of the tensor ranks.                                         Local. */
bool layout_kv_shared(const struct shape *s, int tensor_size, size_t h);
/** Whether the rows of p are those of key-value heads, head after head.                                       Local. */
bool param_by_kv_heads(const struct layout *l, const struct param *p);
#endif
