/* fuzz: model.safetensors.index.json beside two shards. What is accepted has every tensor, in a file of the directory. */
#include "fuzz_json.h"
#include "unlearn/state.h"
#include "unlearn/weights_priv.h"
#include <stdio.h>
#include <unistd.h>

static char directory[64];

static void put(const char *name, const void *bytes, size_t n)
{
    char path[128];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    must((f = fopen(path, "wb")) && fwrite(bytes, 1, n, f) == n && !fclose(f));
}

/* a.safetensors has every other parameter, b.safetensors the rest; all are 0. */
static void put_shard(const struct layout *l, size_t first, const char *name)
{
    struct text header = {0}, file = {0};
    uint64_t at = 0, length;
    for (size_t i = first; i < l->n_param; i += 2) {
        const struct param *p = &l->param[i];
        const uint64_t bytes = 4 * p->rows * p->cols;
        must(text_print(&header, "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [", at ? ", " : "{", p->name) == OK);
        must((p->vector ? text_print(&header, "%zu", p->rows * p->cols)
                        : text_print(&header, "%zu, %zu", p->rows, p->cols)) == OK);
        must(text_print(&header, "], \"data_offsets\": [%llu, %llu]}", (unsigned long long)at,
                        (unsigned long long)(at + bytes)) == OK);
        at += bytes;
    }
    must(text_print(&header, "}") == OK);
    length = header.n;
    must(text_add(&file, (const char *)&length, sizeof length) == OK && text_add(&file, header.data, header.n) == OK);
    for (uint64_t i = 0; i < at; i++) must(text_add(&file, "", 1) == OK);
    put(name, file.data, file.n);
    text_free(&header);
    text_free(&file);
}

static void remove_directory(void)
{
    static const char *const name[] = {"a.safetensors", "b.safetensors", "config.json", "model.safetensors.index.json"};
    char path[128];
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, name[i]);
        unlink(path);
    }
    rmdir(directory);
}

static struct layout *prepare(void)
{
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 3, \"hidden_size\": 2, \"intermediate_size\": 3,"
        " \"num_hidden_layers\": 1, \"num_attention_heads\": 1}";
    static struct shape *s;
    struct layout *l;
    snprintf(directory, sizeof directory, "%s/unlearn-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    must(mkdtemp(directory) && !atexit(remove_directory));
    must(shape_parse("config.json", config, sizeof config - 1, &s) == OK);
    must(layout_new(s, 0, 1, &l) == OK);
    put("config.json", config, sizeof config - 1); /* a file that no index may name */
    put_shard(l, 0, "a.safetensors");
    put_shard(l, 1, "b.safetensors");
    return l;
}

/* Whether a file may have the parameter under this name. */
static bool may_be(const char *name, const struct layout *l, const struct param *p, bool headless)
{
    const char *one;
    for (size_t i = 0; (one = param_file_name(l, p, headless, i)); i++)
        if (!strcmp(name, one)) return true;
    return false;
}

static void check(const struct checkpoint *c, const struct layout *l, bool headless)
{
    must(c->n_file >= 1 && c->n_file <= 2);
    for (size_t i = 0; i < l->n_param; i++) {
        if (headless && l->param[i].role == ROLE_HEAD && !c->at[i]) continue;
        must(c->at[i] && c->file_of[i] < c->n_file && may_be(c->at[i]->name, l, &l->param[i], headless));
        must(safetensors_find(c->file[c->file_of[i]], c->at[i]->name) == c->at[i]);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned seed)
{
    const size_t length = seed % 8 ? mutate_json(bytes, n, most, seed / 8) : 0;
    return length ? length : LLVMFuzzerMutate(bytes, n, most);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static struct layout *l;
    struct checkpoint *c;
    if (!l) l = prepare();
    put("model.safetensors.index.json", bytes, n);
    if (accepted(checkpoint_open(directory, l, &c))) check(c, l, false);
    checkpoint_close(c);
    if (accepted(checkpoint_open_headless(directory, l, &c))) check(c, l, true);
    checkpoint_close(c);
    return 0;
}
