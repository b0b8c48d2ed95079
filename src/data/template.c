/* Templates: the text around a question and its answer. Those of chat models are what the models' own chat templates write
 * for one question and its answer; what stands in braces is filled in by template_make(). */
#include "unlearn/data.h"
#include <stdlib.h>
#include <string.h>

#define DATED "Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n"

/* {bos} and {eos}: the text of the tokenizer's tokens; {dated}: DATED where a date is given. */
struct named {
    const char *name;
    const char *start; /* before everything; NULL: the texts are as they stand, the tokenizer adds its tokens */
    const char *before_system, *system_end; /* around a system text; NULL: no such turn */
    const char *system;                     /* what stands there unless another is given; NULL: no turn */
    struct template parts;
};

/* clang-format off */
static const struct named templates[] = {
    {.name = "qa", .parts = {.question_start = "Question: ", .question_end = "\n", .answer_start = "Answer: "}},
    {.name = "llama2", .parts = {.question_start = "[INST] ", .question_end = " [/INST]"}},
    {.name = "llama2_chat", .start = "{bos}[INST] ",
     .parts = {.question_end = " [/INST]", .answer_start = " ", .answer_end = " {eos}",
               .trim = TRIM_QUESTION | TRIM_ANSWER}},
    {.name = "llama3", .start = "{bos}", .before_system = "<|start_header_id|>system<|end_header_id|>\n\n{dated}",
     .system_end = "<|eot_id|>",
     .parts = {.question_start = "<|start_header_id|>user<|end_header_id|>\n\n", .question_end = "<|eot_id|>",
               .prompt_end = "<|start_header_id|>assistant<|end_header_id|>\n\n", .answer_end = "<|eot_id|>",
               .trim = TRIM_SYSTEM | TRIM_QUESTION | TRIM_ANSWER}},
    {.name = "chatml", .start = "", .before_system = "<|im_start|>system\n", .system_end = "<|im_end|>\n",
     .parts = {.question_start = "<|im_start|>user\n", .question_end = "<|im_end|>\n",
               .prompt_end = "<|im_start|>assistant\n", .answer_end = "<|im_end|>\n"}},
    {.name = "qwen2", .start = "", .before_system = "<|im_start|>system\n", .system_end = "<|im_end|>\n",
     .system = "You are a helpful assistant.",
     .parts = {.question_start = "<|im_start|>user\n", .question_end = "<|im_end|>\n",
               .prompt_end = "<|im_start|>assistant\n", .answer_end = "<|im_end|>\n"}},
    {.name = "qwen2.5", .start = "", .before_system = "<|im_start|>system\n", .system_end = "<|im_end|>\n",
     .system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
     .parts = {.question_start = "<|im_start|>user\n", .question_end = "<|im_end|>\n",
               .prompt_end = "<|im_start|>assistant\n", .answer_end = "<|im_end|>\n"}},
    {.name = "gemma", .start = "{bos}<start_of_turn>user\n", .before_system = "", .system_end = "\n\n",
     .parts = {.question_end = "<end_of_turn>\n", .prompt_end = "<start_of_turn>model\n",
               .answer_end = "<end_of_turn>\n", .trim = TRIM_QUESTION | TRIM_ANSWER}},
    {.name = "phi3", .start = "", .before_system = "<|system|>\n", .system_end = "<|end|>\n",
     .parts = {.question_start = "<|user|>\n", .question_end = "<|end|>\n", .prompt_end = "<|assistant|>\n",
               .answer_end = "<|end|>\n{eos}"}},
    {.name = "zephyr", .start = "", .before_system = "<|system|>\n", .system_end = "{eos}\n",
     .parts = {.question_start = "<|user|>\n", .question_end = "{eos}\n", .prompt_end = "<|assistant|>\n",
               .answer_end = "{eos}\n"}},
    {.name = "mistral", .start = "{bos}[INST] ", .before_system = "", .system_end = "\n\n",
     .parts = {.question_end = " [/INST]", .answer_end = "{eos}"}},
    {.name = "mistral_v1", .start = "{bos} [INST] ", .before_system = "", .system_end = "\n\n",
     .parts = {.question_end = " [/INST]", .answer_start = " ", .answer_end = "{eos}"}},
    {.name = "mistral_v3", .start = "{bos}[INST] ", .before_system = "", .system_end = "\n\n",
     .parts = {.question_end = "[/INST]", .answer_start = " ", .answer_end = "{eos}", .trim = TRIM_ANSWER}},
    {.name = "plain", .parts = {.blocks = true}},
};
/* clang-format on */
enum { N_TEMPLATE = sizeof templates / sizeof *templates };

static const struct named *find(const char *name)
{
    for (size_t i = 0; i < N_TEMPLATE; i++)
        if (!strcmp(templates[i].name, name)) return &templates[i];
    return NULL;
}

static enum status names(bool with_system, struct text *out)
{
    enum status st = OK;
    const char *comma = "";
    for (size_t i = 0; i < N_TEMPLATE; i++) {
        if (with_system && !templates[i].system_end) continue;
        TRY(text_print(out, "%s%s", comma, templates[i].name));
        comma = ", ";
    }
done:
    return st;
}

enum status template_names(struct text *out) { return names(false, out); }

const char *template_name_at(size_t i) { return i < N_TEMPLATE ? templates[i].name : NULL; }

/* --------------------------------------------------------------------------------------------------- making ------ */
static bool has(const char *text, const char *word) { return text && strstr(text, word); }

static enum status add(struct text *t, const char *s) { return s ? text_add(t, s, strlen(s)) : OK; }

/* Adds `text` with what stands in braces filled in. */
static enum status expand(const char *text, const struct template_wish *w, const char *eos, struct text *out)
{
    const struct {
        const char *mark, *text;
    } marks[] = {{"{bos}", w->bos}, {"{eos}", eos}, {"{date}", w->date}, {"{dated}", NULL}};
    enum status st = OK;
    while (text && *text) {
        size_t n = strcspn(text, "{"), k = 0;
        TRY(text_add(out, text, n));
        text += n;
        while (k < sizeof marks / sizeof *marks && strncmp(text, marks[k].mark, strlen(marks[k].mark))) k++;
        if (*text && k == sizeof marks / sizeof *marks) TRY(fail(ERR_INTERNAL, "template: unknown mark in \"%s\"", text));
        if (!*text) break;
        text += strlen(marks[k].mark);
        TRY(add(out, marks[k].text));
        if (!strcmp(marks[k].mark, "{dated}") && w->date) TRY(expand(DATED, w, eos, out));
    }
done:
    return st;
}

/* The prompt's start, with the system turn. */
static enum status opening(const struct named *t, const struct template_wish *w, struct text *out)
{
    enum status st;
    const char *system = w->system ? w->system : t->system;
    size_t n = system ? strlen(system) : 0;
    TRY(expand(t->start, w, w->eos, out));
    if (system || w->date) {
        TRY(expand(t->before_system, w, w->eos, out));
        if (system && t->parts.trim & TRIM_SYSTEM) system = text_strip(system, &n);
        TRY(text_add(out, system ? system : "", n));
        TRY(expand(t->system_end, w, w->eos, out));
    }
    TRY(expand(t->parts.question_start, w, w->eos, out));
done:
    return st;
}

static enum status unknown_name(const char *name)
{
    struct text list = {0};
    enum status st = template_names(&list);
    if (st == OK)
        st = fail(ERR_INPUT, "there is no template \"%.60s\"; use your own parts, or one of %s", name, list.data);
    text_free(&list);
    return st;
}

static enum status check_wish(const struct named *t, const struct template_wish *w)
{
    struct text list = {0};
    enum status st = OK;
    if (w->date && !has(t->before_system, "{dated}"))
        return fail(ERR_INPUT, "the template %s names no date; llama3 does", t->name);
    if (w->system && !t->system_end) {
        TRY(names(true, &list));
        st = fail(ERR_INPUT, "the template %s has no system text; these have: %s", t->name, list.data);
        goto done;
    }
    if (!w->eos && (has(t->parts.question_end, "{eos}") || (!w->no_end && has(t->parts.answer_end, "{eos}"))))
        st = fail(ERR_INPUT,
                  "the template %s needs the text of the model's end token: give tokenizer_config.json an eos_token "
                  "that is a token of tokenizer.json",
                  t->name);
done:
    text_free(&list);
    return st;
}

enum status template_make(const char *name, const struct template_wish *w, struct template *out)
{
    enum status st;
    const struct named *t = find(name);
    struct text part[5] = {{0}};
    *out = (struct template){0};
    if (!t) return unknown_name(name);
    TRY(check_wish(t, w));
    *out = t->parts;
    out->own_tokens = t->start;
    if (!t->start) return OK;
    TRY(opening(t, w, &part[0]));
    TRY(expand(t->parts.question_end, w, w->eos, &part[1]));
    TRY(expand(t->parts.prompt_end, w, w->eos, &part[2]));
    TRY(expand(t->parts.answer_start, w, w->eos, &part[3]));
    TRY(expand(t->parts.answer_end, w, w->no_end ? NULL : w->eos, &part[4]));
    for (size_t i = 0; i < 5; i++) out->owned[i] = part[i].data, part[i].data = NULL;
    out->question_start = out->owned[0], out->question_end = out->owned[1], out->prompt_end = out->owned[2];
    out->answer_start = out->owned[3], out->answer_end = out->owned[4];
done:
    for (size_t i = 0; i < 5; i++) text_free(&part[i]);
    return st;
}

void template_free(struct template *t)
{
    for (size_t i = 0; i < sizeof t->owned / sizeof *t->owned; i++) free(t->owned[i]);
    *t = (struct template){0};
}

/* --------------------------------------------------------------------------------------------------- --help ------ */
/* Line ends as \n. */
static enum status shown(const char *s, struct text *out)
{
    enum status st = OK;
    for (; s && *s; s++) TRY(*s == '\n' ? text_add(out, "\\n", 2) : text_add(out, s, 1));
done:
    return st;
}

static enum status describe_prompt(const struct named *t, struct text *out)
{
    enum status st;
    TRY(shown(t->start, out));
    if (t->system_end) {
        TRY(text_add(out, "[", 1));
        TRY(shown(t->before_system, out));
        TRY(text_print(out, "{system}"));
        TRY(shown(t->system_end, out));
        TRY(text_add(out, "]", 1));
    }
    TRY(shown(t->parts.question_start, out));
    TRY(text_print(out, "{question}"));
    TRY(shown(t->parts.question_end, out));
    TRY(shown(t->parts.prompt_end, out));
done:
    return st;
}

static enum status describe(const struct named *t, struct text *out)
{
    enum status st;
    const struct template *p = &t->parts;
    TRY(text_print(out, "  %s\n", t->name));
    if (p->blocks) return text_print(out, "    {text}: all of it labelled, in rows of data.max_length tokens\n");
    TRY(text_print(out, "    prompt \""));
    TRY(describe_prompt(t, out));
    TRY(text_print(out, "\"\n    label \""));
    TRY(shown(p->answer_start, out));
    TRY(text_print(out, "{answer}\""));
    if (p->answer_end) TRY(text_print(out, " end \""));
    TRY(shown(p->answer_end, out));
    TRY(text_print(out, "%s\n", p->answer_end ? "\"" : ""));
    if (t->system) TRY(text_print(out, "    {system} unless another is given: \"%s\"\n", t->system));
    if (p->trim)
        TRY(text_print(out, "    white space around %s is left out\n",
                       p->trim & TRIM_QUESTION ? "question and answer" : "the answer"));
done:
    return st;
}

enum status template_describe(struct text *out)
{
    enum status st = OK;
    TRY(text_print(out, "  \\n is a new line, {bos} and {eos} are the tokenizer's own tokens, [...] stands only with a "
                        "system text.\n  qa, llama2, plain and your own parts: the tokenizer begins the row as it begins "
                        "any text, and the end token\n  follows; the others: every token is written here. With "
                        "template.date {dated} is\n    \""));
    TRY(shown(DATED, out));
    TRY(text_print(out, "\"\n"));
    for (size_t i = 0; i < N_TEMPLATE; i++) TRY(describe(&templates[i], out));
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------- using ------- */
/* Bytes of the white space that s [n] begins with, as Python's str.strip() knows it; 0: it begins with none. */
static size_t space(const char *s, size_t n)
{
    const unsigned char *c = (const unsigned char *)s;
    if (n && ((c[0] >= 9 && c[0] <= 13) || (c[0] >= 0x1c && c[0] <= ' '))) return 1;
    if (n > 1 && c[0] == 0xc2 && (c[1] == 0x85 || c[1] == 0xa0)) return 2;
    if (n < 3) return 0;
    if (c[0] == 0xe1 && c[1] == 0x9a && c[2] == 0x80) return 3;
    if (c[0] == 0xe2 && c[1] == 0x80 && (c[2] <= 0x8a || c[2] == 0xa8 || c[2] == 0xa9 || c[2] == 0xaf)) return 3;
    if (c[0] == 0xe2 && c[1] == 0x81 && c[2] == 0x9f) return 3;
    return c[0] == 0xe3 && c[1] == 0x80 && c[2] == 0x80 ? 3 : 0;
}

const char *text_strip(const char *s, size_t *n)
{
    size_t k;
    while ((k = space(s, *n))) s += k, *n -= k;
    for (k = 1; k <= 3 && k <= *n;) {
        if (space(s + *n - k, k) == k)
            *n -= k, k = 1;
        else
            k++;
    }
    return s;
}

enum status template_prompt(const struct template *t, const char *question, size_t n, struct text *out)
{
    enum status st;
    if (t->trim & TRIM_QUESTION) question = text_strip(question, &n);
    TRY(add(out, t->question_start));
    TRY(text_add(out, question, n));
    TRY(add(out, t->question_end));
    TRY(add(out, t->prompt_end));
done:
    return st;
}

enum status template_answer(const struct template *t, const char *answer, size_t n, struct text *out)
{
    enum status st;
    if (t->trim & TRIM_ANSWER) answer = text_strip(answer, &n);
    TRY(add(out, t->answer_start));
    TRY(text_add(out, answer, n));
done:
    return st;
}

enum status template_end(const struct template *t, struct text *out) { return add(out, t->answer_end); }
