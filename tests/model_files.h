/* For tests of the rooms model and shape: scratch directories, and small models made by hand. */
#ifndef UNLEARN_TESTS_MODEL_FILES_H
#define UNLEARN_TESTS_MODEL_FILES_H
#include "near.h"
#include "unlearn/shape_priv.h"
#include "unlearn/state.h"
#include "unlearn/weights_priv.h"
#include <dirent.h>
#include <unistd.h>

/* A new directory under TMPDIR; remove_directory() takes its files and it away. */
static inline void scratch_directory(char path[256])
{
    const char *root = getenv("TMPDIR");
    snprintf(path, 256, "%s/unlearn-test-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(path)) {
        print_error("%s: cannot be made\n", path);
        exit(1);
    }
}

static inline void remove_directory(const char *path)
{
    char name[1024];
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        unlink(name);
    }
    if (d) closedir(d);
    rmdir(path);
}

static inline void write_file(const char *dir, const char *name, const void *bytes, size_t n)
{
    char path[1024];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!(f = fopen(path, "wb")) || fwrite(bytes, 1, n, f) != n || fclose(f)) {
        print_error("%s: cannot be written\n", path);
        exit(1);
    }
}

/* A config.json as the text of `base` with members of `changes` set (JSON objects; a null is set too). */
static inline char *config_text(const char *base, const char *changes)
{
    json_t *config = json_loads(base, 0, NULL), *other = json_loads(changes, 0, NULL);
    char *text;
    json_object_update(config, other);
    text = json_dumps(config, JSON_COMPACT);
    json_decref(config);
    json_decref(other);
    return text;
}

static const char small_llama[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 37, \"hidden_size\": 24, \"intermediate_size\": 17,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 6, \"num_key_value_heads\": 3, \"bos_token_id\": 1,"
    " \"eos_token_id\": 2, \"rope_theta\": 10000.0, \"max_position_embeddings\": 64}";

/* What no golden model has; to be set in small_llama. */
static const char *const further_kinds[] = {
    "{\"model_type\": \"qwen3\", \"head_dim\": 10}",
    "{\"model_type\": \"phi\", \"qk_layernorm\": true, \"num_key_value_heads\": 2}",
    "{\"model_type\": \"stablelm\", \"head_dim\": 8, \"qk_layernorm\": true, \"num_key_value_heads\": 2}",
    "{\"model_type\": \"stablelm\", \"head_dim\": 8, \"qk_layernorm\": true, \"num_key_value_heads\": 1}",
    "{\"model_type\": \"gemma\", \"head_dim\": 6, \"num_key_value_heads\": 1}",
    "{\"model_type\": \"olmo2\", \"num_key_value_heads\": 2, \"attention_bias\": true}",
    "{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_layer\": 2, \"n_head\": 6, \"n_positions\": 11, \"n_inner\": 17}",
    "{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_layer\": 2, \"n_head\": 6, \"tie_word_embeddings\": false}",
    "{\"model_type\": \"phi3\", \"num_key_value_heads\": 2, \"sliding_window\": 4, \"tie_word_embeddings\": true,"
    " \"original_max_position_embeddings\": 6, \"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1.0, 1.5],"
    " \"long_factor\": [2.0, 5.0]}}",
    "{\"model_type\": \"gemma2\", \"head_dim\": 6, \"num_key_value_heads\": 2, \"sliding_window\": 4,"
    " \"query_pre_attn_scalar\": 5, \"attn_logit_softcapping\": 1.5, \"final_logit_softcapping\": 2.0}",
    "{\"model_type\": \"gemma3_text\", \"head_dim\": 6, \"num_key_value_heads\": 1, \"sliding_window\": 3,"
    " \"query_pre_attn_scalar\": 5, \"sliding_window_pattern\": 2, \"rope_theta\": 1e6, \"rope_local_base_freq\": 100,"
    " \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8.0}, \"final_logit_softcapping\": 3,"
    " \"attention_bias\": true}",
    "{\"attention_bias\": true, \"mlp_bias\": true}",
    "{\"model_type\": \"mistral\", \"num_key_value_heads\": 2, \"sliding_window\": 4}",
    "{\"model_type\": \"qwen2\", \"num_key_value_heads\": 2, \"sliding_window\": 5, \"use_sliding_window\": true,"
    " \"max_window_layers\": 1}",
    "{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1.0, 1.5], \"long_factor\": [2.0, 5.0],"
    " \"original_max_position_embeddings\": 7}}",
    "{\"intermediate_size\": 3, \"mlp_bias\": true}", /* of four tensor ranks one has no column */
};
enum { N_FURTHER = sizeof further_kinds / sizeof *further_kinds };

static inline struct shape *shape_with(const char *changes)
{
    char *text = config_text(small_llama, changes);
    struct shape *s;
    enum status st = shape_parse("config.json", text, strlen(text), &s);
    free(text);
    if (st != OK) {
        print_error("%s\n", fail_message());
        fail_clear();
    }
    return s;
}

/* In a parallel test: agree first, assert after. */
static inline bool all_agree(const struct grid *g, bool good)
{
    const bool all = grid_agree(g, good ? OK : ERR_INTERNAL) == OK;
    if (!all) fail_clear();
    return all;
}
#endif
