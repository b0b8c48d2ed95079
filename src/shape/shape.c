/* config.json -> struct shape. Every size is checked against a limit before it is used in a product or an allocation,
 * so that no product of this room can overflow: the largest model allowed has fewer than 2^62 parameters.           */
#include "unlearn/shape_priv.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES = 16 << 20 };
static const size_t HIDDEN_MOST = 1 << 20, LAYERS_MOST = 10000, WORDS_MOST = 1 << 24, HEADS_MOST = 1 << 14,
                    HEAD_DIM_MOST = 1 << 12, HEADS_IN_ALL_MOST = 1 << 17, POSITIONS_MOST = (size_t)1 << 31;
static const double SCALE_LEAST = 1e-6, SCALE_MOST = 1e6;

static const struct {
    const char *name;
    enum activation activation;
} activations[] = {
    {"silu", ACT_SILU},          {"swish", ACT_SILU}, {"gelu", ACT_GELU},
    {"gelu_new", ACT_GELU_TANH}, {"relu", ACT_RELU},  {"gelu_pytorch_tanh", ACT_GELU_TANH},
};

static enum status need_size(const char *where, const json_t *config, const char *key, size_t most, size_t *out)
{
    if (!key_find(config, key)) return fail(ERR_INPUT, "%s: %s: is missing", where, key);
    return key_size(where, config, key, 1, most, out);
}

static enum status read_flag(const char *where, const json_t *config, const struct flag *f, bool *out)
{
    *out = f->standard;
    return f->key ? key_flag(where, config, f->key, out) : OK;
}

/* Keys of features that this program does not have. A model with such a key is refused, unless the value is `none`. */
static const struct {
    const char *key, *none; /* none: JSON of the value without effect; NULL: only false */
} refused[] = {
    {"quantization_config", NULL},
    {"attention_multiplier", NULL},
    {"embedding_multiplier", "1"},
    {"residual_multiplier", "1"},
    {"logits_scaling", "1"},
    {"logit_scale", "1"},
    {"final_logit_softcapping", NULL},
    {"attn_logit_softcapping", NULL},
    {"query_pre_attn_scalar", NULL},
    {"clip_qkv", NULL},
    {"alibi", NULL},
    {"attention_chunk_size", NULL},
    {"no_rope_layers", "[]"},
    {"num_experts", "0"},
    {"num_local_experts", "0"},
    {"use_bidirectional_attention", NULL},
    {"add_cross_attention", NULL},
    {"scale_attn_weights", "true"},
    {"is_causal", "true"},
    {"is_encoder_decoder", NULL},
    {"scale_attn_by_inverse_layer_idx", NULL},
    {"use_mrope", NULL},
};

static bool changes_nothing(const json_t *j, const char *none)
{
    json_t *k;
    bool same;
    if (json_is_false(j)) return !none || strcmp(none, "true") != 0;
    if (!none) return false;
    k = json_loads(none, JSON_DECODE_ANY, NULL);
    same = json_is_number(k) ? json_is_number(j) && json_number_value(j) == json_number_value(k) : json_equal(j, k);
    json_decref(k);
    return same;
}

/* Whether the family has what the key says. */
static bool reads(const struct architecture *row, const char *key)
{
    return (row->score_cap.key && !strcmp(key, row->score_cap.key)) ||
           (row->logit_cap.key && !strcmp(key, row->logit_cap.key)) ||
           (row->query_scalar > 0 && !strcmp(key, "query_pre_attn_scalar"));
}

static enum status read_refused(const char *where, const json_t *config, const struct architecture *row)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *j = key_find(config, refused[i].key);
        if (j && !reads(row, refused[i].key) && !changes_nothing(j, refused[i].none))
            return fail(ERR_INPUT, "%s: %s: changes the numbers and is not built", where, refused[i].key);
    }
    return OK;
}

/* Why a model whose type is in no row cannot be read. */
static enum status unknown_type(const char *where, const json_t *config, const char *type)
{
    static const char *const key[] = {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"};
    static const char *const known[] = {"mixtral", "dbrx", "jamba", "deepseek_v2", "deepseek_v3", "llama4", "gpt_oss"};
    bool mixture = strstr(type, "moe") != NULL;
    char list[256];
    for (size_t i = 0; i < sizeof key / sizeof *key; i++)
        mixture = mixture || json_number_value(key_find(config, key[i])) > 1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) mixture = mixture || !strcmp(type, known[i]);
    architecture_list(list);
    if (mixture)
        return fail(
            ERR_INPUT,
            "%s: model_type \"%.40s\" is a mixture of experts, which is not built: take a dense model; %s are built",
            where, type, list);
    if (!strcmp(type, "gemma3"))
        return fail(
            ERR_INPUT,
            "%s: model_type \"gemma3\" is a model of images and text: save its text model alone, which is of model_type "
            "gemma3_text (transformers: t = Gemma3ForCausalLM(m.config.text_config); "
            "t.model.load_state_dict(m.model.language_model.state_dict()); t.save_pretrained(DIR))",
            where);
    return fail(ERR_INPUT, "%s: model_type \"%.40s\" is not built; %s are", where, type, list);
}

static enum status read_type(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    const char *type = NULL;
    if (!json_is_map(config)) return fail(ERR_INPUT, "%s: is not a JSON object", where);
    TRY(key_text(where, config, "model_type", &type));
    if (!type) return fail(ERR_INPUT, "%s: model_type: is missing", where);
    if (!(s->row = architecture_find(type))) return unknown_type(where, config, type);
    memcpy(s->model_type, s->row->model_type, strlen(s->row->model_type) + 1);
    TRY(read_refused(where, config, s->row));
done:
    return st;
}

static enum status read_heads(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    TRY(need_size(where, config, s->row->key->heads, HEADS_MOST, &s->heads));
    s->kv_heads = s->row->kv_heads && !json_object_get(config, "num_key_value_heads") ? s->row->kv_heads : s->heads;
    if (!s->row->fused) {
        TRY(key_size(where, config, "num_key_value_heads", 1, HEADS_MOST, &s->kv_heads));
        s->head_dim = json_object_get(config, "head_dim") ? 0 : s->row->head_dim;
        TRY(key_size(where, config, "head_dim", 1, HEAD_DIM_MOST, &s->head_dim));
    }
    if (s->heads % s->kv_heads)
        return fail(ERR_INPUT, "%s: %s: %zu is no multiple of num_key_value_heads %zu", where, s->row->key->heads,
                    s->heads, s->kv_heads);
    if (s->head_dim) return OK;
    if (s->hidden % s->heads)
        return fail(ERR_INPUT, "%s: %s: %zu is no multiple of %s %zu", where, s->row->key->hidden, s->hidden,
                    s->row->key->heads, s->heads);
    s->head_dim = s->hidden / s->heads;
    if (s->head_dim > HEAD_DIM_MOST)
        return fail(ERR_INPUT, "%s: %s: heads of %zu are larger than the %zu allowed", where, s->row->key->hidden,
                    s->head_dim, HEAD_DIM_MOST);
done:
    return st;
}

static enum status read_sizes(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    const struct size_keys *key = s->row->key;
    TRY(need_size(where, config, "vocab_size", WORDS_MOST, &s->vocabulary));
    TRY(need_size(where, config, key->hidden, HIDDEN_MOST, &s->hidden));
    TRY(need_size(where, config, key->blocks, LAYERS_MOST, &s->blocks));
    s->intermediate = s->row->inner * s->hidden;
    if (!s->intermediate || key_find(config, key->intermediate))
        TRY(need_size(where, config, key->intermediate, WORDS_MOST, &s->intermediate));
    s->positions = s->row->positions;
    TRY(key_size(where, config, key->positions, 1, s->row->learned_positions ? WORDS_MOST : POSITIONS_MOST,
                 &s->positions));
    TRY(read_heads(where, config, s));
done:
    return st;
}

static enum status read_activation(const char *where, const json_t *config, struct shape *s)
{
    const char *name = s->row->activation;
    enum status st = key_text(where, config, s->row->key->activation, &name);
    if (st != OK) return st;
    if (s->row->tanh_for_gelu && !strcmp(name, "gelu")) name = "gelu_pytorch_tanh";
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (!strcmp(name, activations[i].name)) {
            s->activation = activations[i].activation;
            return OK;
        }
    return fail(ERR_INPUT, "%s: %s: \"%.40s\" is not built; silu, gelu, gelu_new, gelu_pytorch_tanh and relu are", where,
                s->row->key->activation, name);
}

/* Reads the features of the layers: norms, residual, biases, MLP. */
static enum status read_features(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    const struct architecture *row = s->row;
    double range = 0;
    bool has_qk_norm;
    s->norm = row->norm;
    s->norm_bias = row->norm_bias;
    s->norm_eps = row->eps;
    s->gated = row->gated;
    s->head_bias = row->head_bias;
    TRY(key_number(where, config, row->eps_key, DBL_MIN, 1, &s->norm_eps));
    TRY(key_number(where, config, "initializer_range", 0, 1e3, &range));
    TRY(read_flag(where, config, &row->parallel, &s->parallel_residual));
    TRY(read_flag(where, config, &row->qkv_bias, &s->qkv_bias));
    TRY(read_flag(where, config, &row->out_bias, &s->out_bias));
    TRY(read_flag(where, config, &row->mlp_bias, &s->mlp_bias));
    TRY(read_flag(where, config, &row->tied, &s->tied));
    s->one_norm = row->one_norm && s->parallel_residual;
    TRY(read_activation(where, config, s));
    TRY(read_flag(where, config, &row->has_qk_norm, &has_qk_norm));
    s->post_norm = row->post_norm;
    s->both_norms = row->both_norms;
    s->qk_norm = has_qk_norm ? row->qk_norm : QK_NONE;
    s->qk_norm_bias = has_qk_norm && row->qk_norm_bias;
    s->embed_scale = row->scaled_embedding ? sqrt((double)s->hidden) : 1;
    s->learned_positions = row->learned_positions;
    if (s->qk_norm == QK_EACH && s->blocks * (s->heads + s->kv_heads) > HEADS_IN_ALL_MOST)
        st = fail(ERR_INPUT, "%s: qk_layernorm: %zu heads with a norm each are more than the %zu allowed", where,
                  s->blocks * (s->heads + s->kv_heads), HEADS_IN_ALL_MOST);
done:
    return st;
}

/* -------------------------------------------------------------------------------------------------- attention ----- */
/* A cap: absent means the family's own, null none. */
static enum status read_cap(const char *where, const json_t *config, const struct cap *c, double *out)
{
    if (!c->key) return OK;
    *out = json_object_get(config, c->key) ? 0 : c->standard;
    return key_number(where, config, c->key, SCALE_LEAST, SCALE_MOST, out);
}

/* Which blocks have the window, from layer_types, which names each of them. */
static enum status read_types(const char *where, const json_t *types, struct shape *s)
{
    size_t i;
    const json_t *type;
    if (!json_is_array(types) || json_array_size(types) != s->blocks)
        return fail(ERR_INPUT, "%s: layer_types: must be a list with the types of %zu layers", where, s->blocks);
    json_array_foreach(types, i, type)
    {
        const char *name = json_is_string(type) ? json_string_value(type) : "";
        s->slides[i] = !strcmp(name, "sliding_attention");
        if (!s->slides[i] && strcmp(name, "full_attention") != 0)
            return fail(ERR_INPUT, "%s: layer_types: \"%.40s\" is not built; sliding_attention and full_attention are",
                        where, name);
    }
    return OK;
}

static enum status read_slides(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    const struct architecture *row = s->row;
    const json_t *types = key_find(config, "layer_types");
    size_t first = 28, every = row->full_every;
    TRY_NEW(s->slides, s->blocks);
    if (types) return read_types(where, types, s);
    if (row->full_every_key) TRY(key_size(where, config, row->full_every_key, 1, LAYERS_MOST, &every));
    if (row->window == WINDOW_ASKED) TRY(key_size(where, config, "max_window_layers", 0, POSITIONS_MOST, &first));
    for (size_t i = 0; i < s->blocks; i++) s->slides[i] = row->window == WINDOW_ASKED ? i >= first : (i + 1) % every != 0;
done:
    return st;
}

/* Reads the length of the attention's window and which blocks have it. An absent key means transformers' default, null no
 * window. */
static enum status read_window(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    const enum window kind = s->row->window;
    bool used = kind == WINDOW_GIVEN || kind == WINDOW_ALTERNATES, some = false;
    if (kind == WINDOW_ASKED) TRY(key_flag(where, config, "use_sliding_window", &used));
    if (!used) return OK;
    s->window = json_object_get(config, "sliding_window") ? 0 : s->row->window_standard;
    TRY(key_size(where, config, "sliding_window", 1, POSITIONS_MOST, &s->window));
    if (kind == WINDOW_GIVEN) return OK;
    TRY(read_slides(where, config, s));
    for (size_t i = 0; i < s->blocks; i++) some = some || s->slides[i];
    if (!some) s->window = 0;
done:
    return st;
}

static enum status read_attention(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    TRY(read_cap(where, config, &s->row->score_cap, &s->score_cap));
    TRY(read_cap(where, config, &s->row->logit_cap, &s->logit_cap));
    if (s->row->query_scalar > 0) {
        s->query_scalar = s->row->query_scalar;
        TRY(key_number(where, config, "query_pre_attn_scalar", SCALE_LEAST, SCALE_MOST, &s->query_scalar));
    }
    TRY(read_window(where, config, s));
done:
    return st;
}

/* ----------------------------------------------------------------------------------------------------- tokens ----- */
static enum status read_token(const char *where, const json_t *j, const char *key, const struct shape *s, int32_t *out)
{
    if (!json_is_integer(j)) return key_wrong(where, key, j, "a whole number");
    if (json_integer_value(j) < 0 || (uint64_t)json_integer_value(j) >= s->vocabulary)
        return fail(ERR_INPUT, "%s: %s: %lld is not in the vocabulary of %zu", where, key,
                    (long long)json_integer_value(j), s->vocabulary);
    *out = (int32_t)json_integer_value(j);
    return OK;
}

static enum status read_tokens(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    const json_t *bos = key_find(config, "bos_token_id"), *eos = key_find(config, "eos_token_id");
    const json_t *pad = s->row->no_padding ? NULL : key_find(config, "pad_token_id");
    s->bos = s->pad = -1;
    if (!json_object_get(config, "pad_token_id") && (size_t)s->row->padding <= s->vocabulary)
        s->pad = s->row->padding - 1;
    if (json_is_integer(pad) && json_integer_value(pad) == -1) /* -1 is the last token, as a Python index */
        s->pad = (int32_t)s->vocabulary - 1;
    else if (pad)
        TRY(read_token(where, pad, "pad_token_id", s, &s->pad));
    if (json_is_integer(bos) && (json_integer_value(bos) < 0 || (uint64_t)json_integer_value(bos) >= s->vocabulary))
        bos = NULL; /* nothing reads it */
    if (bos) TRY(read_token(where, bos, "bos_token_id", s, &s->bos));
    if (!eos) return OK;
    if (!json_is_array(eos)) {
        s->n_eos = 1;
        return read_token(where, eos, "eos_token_id", s, s->eos);
    }
    if (json_array_size(eos) > MAX_EOS)
        return fail(ERR_INPUT, "%s: eos_token_id: has more than %d tokens", where, MAX_EOS);
    for (; s->n_eos < json_array_size(eos); s->n_eos++)
        TRY(read_token(where, json_array_get(eos, s->n_eos), "eos_token_id", s, &s->eos[s->n_eos]));
done:
    return st;
}

enum status shape_parse(const char *where, const char *json, size_t n, struct shape **out)
{
    enum status st = OK;
    struct shape *s = *out = NULL;
    TRY_NEW(s, 1);
    TRY(json_parse(where, 0, json, n, &s->json));
    TRY(read_type(where, s->json, s));
    TRY(read_sizes(where, s->json, s));
    TRY(read_features(where, s->json, s));
    TRY(read_attention(where, s->json, s));
    TRY(read_tokens(where, s->json, s));
    TRY(rope_read(where, s->json, s));
    *out = s, s = NULL;
done:
    shape_free(s);
    return st;
}

enum status shape_read(const char *dir, struct shape **out)
{
    enum status st = OK;
    char *path = NULL, *text = NULL;
    size_t n = 0;
    *out = NULL;
    TRY(path_join(dir, "config.json", &path));
    TRY(file_read(path, CONFIG_BYTES, &text, &n));
    TRY(shape_parse(path, text, n, out));
done:
    free(path);
    free(text);
    return st;
}

void shape_free(struct shape *s)
{
    if (!s) return;
    json_decref(s->json);
    free(s->frequency);
    free(s->other_frequency);
    free(s->slides);
    free(s);
}

double shape_dropout(const struct shape *s)
{
    static const char *const keys[] = {"attention_dropout", "attn_pdrop", "embd_pdrop", "hidden_dropout", "resid_pdrop"};
    double most = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *j = key_find(s->json, keys[i]);
        const double rate = j ? json_number_value(j) : strstr(keys[i], "_pdrop") ? s->row->dropout : 0; /* no number: 0 */
        if (rate > most) most = rate;
    }
    return most;
}
