/* A model that was taught to chat has a chat template among its files, a program that is not run here. Those of known kinds
 * are told by their marks; where the first row of a data set would have other tokens by it than by data.template, a warning
 * says so. */
#include "unlearn/input_priv.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_JSON = 16 << 20, MOST_TEXT = 1 << 20, LONGEST_SYSTEM = 1000 };

/* --------------------------------------------------------------------------------------------- the model's own ------ */
/* "chat_template": "..." or [{"name": "default", "template": "..."}, ...] */
static const char *in_config(const json_t *config)
{
    const json_t *value = key_find(config, "chat_template"), *one;
    size_t i;
    json_array_foreach((json_t *)value, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && !strcmp(name, "default")) return json_string_value(json_object_get(one, "template"));
    }
    return json_string_value(value);
}

/* A line break in a text of the program may be written as one or as \n. */
static void break_lines(char *s)
{
    char *to = s;
    for (; *s; s++) {
        const bool two = s[0] == '\\' && s[1] == 'n';
        *to++ = two ? '\n' : *s;
        s += two;
    }
    *to = 0;
}

/* Its text; NULL: it has none. */
static enum status read_template(const char *dir, char **out)
{
    enum status st;
    char *path = NULL;
    json_t *json = NULL;
    size_t n;
    *out = NULL;
    TRY(path_join(dir, "chat_template.jinja", &path));
    if (file_exists(path)) {
        st = file_read(path, MOST_TEXT, out, &n);
        goto done;
    }
    free(path), path = NULL;
    TRY(path_join(dir, "tokenizer_config.json", &path));
    if (!file_exists(path)) goto done;
    TRY(json_read(path, MOST_JSON, &json));
    if (in_config(json) && !(*out = text_copy(in_config(json)))) st = fail(ERR_MEMORY, "%s: no memory to read it", path);
done:
    if (*out) break_lines(*out);
    json_decref(json);
    free(path);
    return st;
}

/* ------------------------------------------------------------------------------------------------------- kinds ------ */
static const struct kind {
    const char *name, *marks[3], *without[2]; /* all of `marks` stand in its text, and none of `without` */
    /* around a system text in what it writes; "": that cannot be told from the question; NULL: it has none */
    const char *before_system, *system_end;
} kinds[] = {
    {"llama3",
     {"<|start_header_id|>", "<|eot_id|>"},
     {NULL},
     "<|start_header_id|>system<|end_header_id|>\n\n",
     "<|eot_id|>"},
    {"chatml", {"<|im_start|>", "<|im_end|>"}, {"<think>", "<|im_sep|>"}, "<|im_start|>system\n", "<|im_end|>"},
    {"gemma", {"<start_of_turn>", "<end_of_turn>"}, {NULL}, "", NULL},
    {"phi3", {"<|user|>\n", "<|end|>\n"}, {NULL}, "<|system|>\n", "<|end|>"},
    {"zephyr", {"<|user|>\n", "eos_token"}, {"<|end|>"}, "<|system|>\n", NULL},
    {"llama2_chat", {"[INST]", "<<SYS>>", "eos_token"}, {NULL}, NULL, NULL},
    {"mistral_v1", {" [INST] ", " [/INST]", "eos_token"}, {"<<SYS>>"}, "", NULL},
    {"mistral", {"[INST] ", " [/INST]", "eos_token"}, {"<<SYS>>"}, "", NULL},
    {"mistral_v3", {"[INST] ", "[/INST]", "eos_token"}, {"<<SYS>>"}, "", NULL},
};

static const struct kind *recognise(const char *text)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        bool is = true;
        for (size_t k = 0; k < 3 && kinds[i].marks[k]; k++) is = is && strstr(text, kinds[i].marks[k]);
        for (size_t k = 0; k < 2 && kinds[i].without[k]; k++) is = is && !strstr(text, kinds[i].without[k]);
        if (is) return &kinds[i];
    }
    return NULL;
}

/* What stands between two marks in s, as a text of its own; false: they do not stand there. */
static bool between(const char *s, const char *from, const char *to, char out[LONGEST_SYSTEM])
{
    const char *start = s && from && to ? strstr(s, from) : NULL, *end;
    if (!start || !(end = strstr(start += strlen(from), to)) || end - start >= LONGEST_SYSTEM) return false;
    memcpy(out, start, (size_t)(end - start));
    out[end - start] = 0;
    return true;
}

/* The system text that the template writes by itself: '<|im_start|>system\nYou are ...<|im_end|>\n'. What holds a quote or a
 * brace is no text but a piece of the program. */
static bool own_system(const char *text, char out[LONGEST_SYSTEM])
{
    for (const char *at = text; (at = strstr(at, "<|im_start|>system\n")); at++)
        if (between(at, "<|im_start|>system\n", "<|im_end|>", out) && !strpbrk(out, "'\"{}")) return true;
    return false;
}

/* ----------------------------------------------------------------------------------------------------- compare ------ */
struct chat {
    const struct kind *kind;
    char system[LONGEST_SYSTEM], date[LONGEST_SYSTEM];
    struct data_rule rule; /* as the model's own template would have it */
};

/* A system text that the input gives is a wish; without one the model's own stands there. */
static void find_system(const char *text, const char *given, const char *chosen, struct chat *c, struct template_wish *w)
{
    static const char dated[] = "Today Date: ";
    const char *line;
    if (given && c->kind->before_system && strlen(given) < LONGEST_SYSTEM)
        w->system = strcpy(c->system, given);
    else if (between(chosen, c->kind->before_system, c->kind->system_end, c->system) || own_system(text, c->system))
        w->system = c->system;
    if (!strstr(text, dated)) return;
    w->date = between(chosen, dated, "\n\n", c->date) ? c->date : "26 Jul 2024";
    if (given || !w->system || !(line = strstr(c->system, dated))) return;
    line = strstr(line, "\n\n"); /* the system text goes on behind the date */
    w->system = line ? line + 2 : NULL;
}

static enum status make_rule(const char *text, const struct inputs *in, const struct data_rule *rule,
                             const struct special_token *token, struct chat *c)
{
    const bool bos = strstr(text, "bos_token");
    struct template_wish w = {.bos = bos ? token[SPECIAL_BOS].text : NULL,
                              .eos = token[SPECIAL_EOS].text,
                              .no_end = !strstr(text, "eos_token")};
    enum status st;
    find_system(text, in->config->data.system, rule->template.question_start, c, &w);
    c->rule = *rule;
    c->rule.template = (struct template){0};
    c->rule.front = bos && rule->bos >= 0 ? ADD_ALWAYS : ADD_AUTO;
    c->rule.end = ADD_AUTO;
    TRY(template_make(c->kind->name, &w, &c->rule.template));
    if (!strstr(text, "trim") && !strstr(text, "strip")) c->rule.template.trim = 0;
done:
    return st;
}

/* Warns where the ids of a row, n by data.template and m by the model's own, are not the same. */
static void tell(const char *path, const struct chat *c, const int32_t *chosen, size_t n, const int32_t *own, size_t m)
{
    size_t i = 0;
    while (i < n && i < m && chosen[i] == own[i]) i++;
    if (i < n || i < m)
        log_warn(
            "%s: the model's own chat template, of the kind \"%s\", would give the first row %zu tokens, data.template "
            "gives it %zu; they differ from token %zu on: `unlearn --encode` shows them",
            path, c->kind->name, m, n, i + 1);
}

static enum status compare_rows(const struct data_file *f, const struct data_rule *rule, const struct chat *c)
{
    struct dataset *chosen = NULL, *own = NULL;
    enum status st;
    TRY(dataset_read(f, rule, &chosen));
    TRY(dataset_read(f, &c->rule, &own));
    tell(f->path, c, chosen->id, dataset_length(chosen, 0), own->id, dataset_length(own, 0));
done:
    dataset_free(chosen);
    dataset_free(own);
    return st;
}

static enum status encode_question(const struct data_rule *r, const struct text *question, struct ids *out)
{
    enum status st;
    struct text text = {0};
    TRY(template_prompt(&r->template, question->data, question->n, &text));
    TRY(rule_encode(r, true, text.data, text.n, out));
done:
    text_free(&text);
    return st;
}

static enum status compare_prompts(const struct inputs *in, const struct data_rule *rule, const struct chat *c)
{
    const struct text *question = &in->prompts->question;
    struct ids chosen = {0}, own = {0};
    enum status st;
    TRY(encode_question(rule, question, &chosen));
    TRY(encode_question(&c->rule, question, &own));
    tell(in->config->generate.prompts, c, chosen.data, chosen.n, own.data, own.n);
done:
    ids_free(&chosen);
    ids_free(&own);
    return st;
}

/* The first file of questions and answers; false: there is none. */
static bool first_file(const struct config *c, const struct data_rule *rule, struct data_file *f)
{
    const struct config_data *d[] = {&c->data.forget, &c->data.retain};
    for (int i = 0; i < 2 && c->task != TASK_EVALUATE; i++)
        if (d[i]->path && !text_key(rule, d[i]->text)) {
            *f = (struct data_file){.path = d[i]->path, .question = d[i]->question, .answer = d[i]->answer, .rows = 1};
            return true;
        }
    if (!c->evaluate.n_set || rule->template.blocks || c->evaluate.benchmark != BENCHMARK_TOFU) return false;
    *f = (struct data_file){.path = c->evaluate.set[0].path, .question = "question", .answer = "answer", .rows = 1};
    return c->task == TASK_EVALUATE;
}

enum status chat_check(const struct inputs *in, const struct data_rule *rule, const struct special_token *token)
{
    struct chat c = {0};
    struct data_file f = {0};
    char *text = NULL;
    enum status st;
    if (in->prompts ? !in->prompts->question.data : !first_file(in->config, rule, &f)) return OK;
    TRY(read_template(in->config->model.path, &text));
    if (!text) goto done;
    c.kind = recognise(text);
    if (!c.kind && in->config->data.template && !rule->template.own_tokens)
        log_warn("%s: has a chat template of no kind that is known here; data.template: %s does not write it: for a "
                 "chat's answers give its parts (docs/TEMPLATES.md)",
                 in->config->model.path, in->config->data.template);
    if (!c.kind) goto done;
    st = make_rule(text, in, rule, token, &c);
    if (st == OK) st = in->prompts ? compare_prompts(in, rule, &c) : compare_rows(&f, rule, &c);
    if (st == ERR_INPUT) { /* nothing is wrong with the input: only the comparison cannot be made */
        fail_clear();
        st = OK;
    }
done:
    template_free(&c.rule.template);
    free(text);
    return st;
}
