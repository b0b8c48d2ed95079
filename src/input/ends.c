/* Which tokens begin and end a row, and which end an answer: several files of a model say so. */
#include "unlearn/input_priv.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_JSON = 16 << 20 };

/* A file that need not be there; *out NULL: it is not. */
static enum status read_optional(const char *dir, const char *name, char **path, json_t **out)
{
    enum status st;
    *out = NULL;
    TRY(path_join(dir, name, path));
    if (file_exists(*path)) TRY(json_read(*path, MOST_JSON, out));
done:
    return st;
}

/* --------------------------------------------------------------------------------------- the tokenizer's own ------ */
/* The files that name special tokens. As transformers: special_tokens_map.json is of old, and counts where
 * tokenizer_config.json has no added_tokens_decoder. */
enum { N_NAMING = 2 };
static const char *const naming_file[N_NAMING] = {"tokenizer_config.json", "special_tokens_map.json"};
struct naming {
    char *path[N_NAMING];
    json_t *json[N_NAMING];
};

static enum status naming_open(const char *dir, struct naming *n)
{
    enum status st = OK;
    *n = (struct naming){0};
    for (int i = 0; i < N_NAMING; i++) {
        if (i && json_object_get(n->json[0], "added_tokens_decoder")) break;
        TRY(read_optional(dir, naming_file[i], &n->path[i], &n->json[i]));
    }
done:
    return st;
}

static void naming_close(struct naming *n)
{
    for (int i = 0; i < N_NAMING; i++) json_decref(n->json[i]), free(n->path[i]);
}

/* "<s>", or {"content": "<s>", ...}; *text NULL: the file names none. */
static enum status content(const char *path, const json_t *map, const char *key, const json_t **text)
{
    const json_t *value = *text = key_find(map, key);
    if (json_is_map(value)) *text = key_find(value, "content");
    return !*text || json_is_string(*text) ? OK : key_wrong(path, key, *text, "the text of a token");
}

static enum status special_one(const char *path, const char *file, const json_t *map, const char *key,
                               const struct tokenizer *t, struct special_token *out)
{
    const json_t *text;
    int32_t id;
    enum status st = content(path, map, key, &text);
    if (st != OK || !text) return st;
    if (!tokenizer_token(t, json_string_value(text), json_string_length(text), &id)) {
        log_warn("%s: %s: \"%.40s\" is no token of tokenizer.json: not used", path, key, json_string_value(text));
        return OK;
    }
    free(out->text);
    out->id = id, out->file = file;
    return (out->text = text_copy(json_string_value(text))) ? OK : fail(ERR_MEMORY, "%s: no memory to read it", path);
}

enum status special_read(const char *dir, const struct tokenizer *t, struct special_token token[N_SPECIAL])
{
    static const char *const key[N_SPECIAL] = {"bos_token", "eos_token"};
    struct naming n;
    enum status st;
    for (int k = 0; k < N_SPECIAL; k++) token[k] = (struct special_token){.id = -1};
    TRY(naming_open(dir, &n));
    for (int i = 0; i < N_NAMING; i++)
        for (int k = 0; k < N_SPECIAL; k++) TRY(special_one(n.path[i], naming_file[i], n.json[i], key[k], t, &token[k]));
done:
    naming_close(&n);
    return st;
}

enum status special_padding(const char *dir, struct text *out)
{
    const json_t *text;
    struct naming n;
    enum status st;
    TRY(naming_open(dir, &n));
    for (int i = 0; i < N_NAMING; i++) {
        TRY(content(n.path[i], n.json[i], "pad_token", &text));
        if (!text) continue;
        out->n = 0;
        TRY(text_add(out, json_string_value(text), json_string_length(text)));
    }
done:
    naming_close(&n);
    return st;
}

void special_free(struct special_token token[N_SPECIAL])
{
    for (int k = 0; k < N_SPECIAL; k++) free(token[k].text), token[k].text = NULL;
}

/* -------------------------------------------------------------------------------------------- end of an answer ----- */
static enum status add_end(const char *path, const json_t *j, const struct shape *s, struct ends *e)
{
    const json_int_t id = json_integer_value(j);
    if (!json_is_integer(j)) return key_wrong(path, "eos_token_id", j, "a whole number, or a list of them");
    if (id < 0 || (uint64_t)id >= s->vocabulary) {
        log_warn("%s: eos_token_id: %lld is not in the vocabulary of %zu: not used", path, (long long)id, s->vocabulary);
        return OK;
    }
    if (e->n == MAX_EOS) return fail(ERR_INPUT, "%s: eos_token_id: has more than %d tokens", path, MAX_EOS);
    e->id[e->n++] = (int32_t)id;
    return OK;
}

/* *file: the file that counts. */
static enum status answers_end(const char *dir, const struct shape *s, struct ends *e, const char **file)
{
    static const char GENERATION[] = "generation_config.json";
    char *path = NULL;
    json_t *json = NULL, *one;
    const json_t *eos;
    size_t i;
    enum status st;
    TRY(read_optional(dir, GENERATION, &path, &json));
    *file = json ? GENERATION : "config.json";
    if (!json) {
        e->n = s->n_eos;
        memcpy(e->id, s->eos, sizeof e->id);
        goto done;
    }
    if (!(eos = key_find(json, "eos_token_id"))) goto done;
    if (!json_is_array(eos)) TRY(add_end(path, eos, s, e));
    if (json_is_array(eos)) json_array_foreach(eos, i, one) TRY(add_end(path, one, s, e));
done:
    json_decref(json);
    free(path);
    return st;
}

/* ------------------------------------------------------------------------------------------------------- both ------ */
static enum status list(const int32_t *id, size_t n, struct text *out)
{
    enum status st = OK;
    if (!n) TRY(text_print(out, "none"));
    for (size_t i = 0; i < n; i++) TRY(text_print(out, "%s%d", i ? ", " : "", (int)id[i]));
done:
    return st;
}

/* Of rows, then of answers, with their files, and config.json's where it says something else. */
static enum status say(const struct shape *s, const struct special_token *eos, const char *file, struct ends *e)
{
    struct text t = {0};
    bool rows_differ = eos->text && !(s->n_eos && s->eos[0] == e->row), answers_differ = e->n != s->n_eos;
    enum status st;
    for (size_t i = 0; i < e->n && !answers_differ; i++) answers_differ = e->id[i] != s->eos[i];
    TRY(text_print(&t, "rows "));
    TRY(list(&e->row, e->row >= 0, &t));
    if (eos->text) TRY(text_print(&t, " \"%.30s\" (%s)", eos->text, eos->file));
    if (!eos->text && e->row >= 0) TRY(text_print(&t, " (config.json)"));
    TRY(text_print(&t, "; answers "));
    TRY(list(e->id, e->n, &t));
    TRY(text_print(&t, " (%s)", file));
    if (rows_differ || answers_differ) {
        TRY(text_print(&t, "; config.json says otherwise: "));
        TRY(list(s->eos, s->n_eos, &t));
    }
    snprintf(e->said, sizeof e->said, "%s", t.data);
done:
    text_free(&t);
    return st;
}

enum status ends_read(const char *dir, const struct shape *s, const struct special_token *eos, struct ends *e)
{
    const char *file;
    enum status st = OK;
    *e = (struct ends){.row = eos->id};
    if (!s) return OK;
    if (e->row < 0 && s->n_eos) e->row = s->eos[0];
    TRY(answers_end(dir, s, e, &file));
    TRY(say(s, eos, file, e));
done:
    return st;
}

bool ends_differ(const struct inputs *in)
{
    const struct ends *e = &in->ends;
    return e->n != in->shape->n_eos || memcmp(e->id, in->shape->eos, e->n * sizeof *e->id);
}

/* -------------------------------------------------------------------------------------------------- warnings ------ */
static bool ends_answers(const struct ends *e, int32_t id)
{
    for (size_t i = 0; i < e->n; i++)
        if (e->id[i] == id) return true;
    return false;
}

/* The tokens with which rows end, by the template and the rule. */
static enum status rows_end(const struct data_rule *r, struct ids *out)
{
    enum status st = OK;
    const struct template *t = &r->template;
    struct text end = {0};
    TRY(template_end(t, &end));
    if (end.n) TRY(tokenizer_encode(r->tokenizer, end.data, end.n, false, out));
    if (r->eos >= 0 && (r->end == ADD_ALWAYS || (r->end == ADD_AUTO && !t->own_tokens))) TRY(ids_add(out, r->eos));
done:
    text_free(&end);
    return st;
}

/* What a model learns to say at the end of an answer should end the answers that it is asked for. */
enum status ends_check(const struct inputs *in, const struct data_rule *r)
{
    const struct ends *e = &in->ends;
    const bool answers = in->prompts || (in->evaluation && in->evaluation->most_prompts);
    struct ids last = {0};
    bool any = false;
    enum status st;
    TRY(rows_end(r, &last));
    for (size_t i = 0; i < last.n; i++) any = any || ends_answers(e, last.data[i]);
    if (!in->prompts && !last.n && r->end == ADD_AUTO && !r->template.own_tokens)
        log_warn("%s: neither tokenizer_config.json nor config.json names an end token: rows end without one",
                 in->config->model.path);
    if (answers && !e->n)
        log_warn("%s: no eos_token_id ends answers: they go on to their greatest length, as in transformers; give it to "
                 "generation_config.json",
                 in->config->model.path);
    else if (answers && last.n && !any)
        log_warn("%s: no token at the end of a row is one that ends answers (%s): they may go on beyond their end; give "
                 "it to eos_token_id of generation_config.json",
                 in->config->model.path, e->said);
done:
    ids_free(&last);
    return st;
}
