/* The prompts of task generate: a text in the input file, or the lines of a file, {"question": ...} to be put into the
 * template or {"prompt": ...} to be used as it is. One process reads, all receive the ids. */
#include "unlearn/input_priv.h"
#include <stdlib.h>
#include <string.h>

static const size_t LARGEST_FILE = (size_t)1 << 30;

struct reader { /* used on rank 0 only */
    const struct data_rule *rule;
    struct prompt_inputs *p;
    struct ids id;
    size_t most, room;
};

/* Adds a prompt with this text, which the template has made or not; errors name `where` and line (0: none). */
static enum status prompt_add(struct reader *r, const char *where, size_t line, bool own, struct text *text)
{
    struct prompt_inputs *p = r->p;
    char at[32] = "";
    enum status st = OK;
    if (line) snprintf(at, sizeof at, ":%zu", line);
    if ((st = rule_encode(r->rule, own, text->data, text->n, &r->id)) == ERR_INPUT) {
        char message[512];
        snprintf(message, sizeof message, "%s", fail_message());
        fail_clear();
        return fail(st, "%s%s: %s", where, at, message);
    }
    TRY(st);
    if (r->id.n == p->first[p->n]) return fail(ERR_INPUT, "%s%s: the prompt is empty: it has no tokens", where, at);
    for (size_t i = p->first[p->n]; i < r->id.n; i++)
        if ((size_t)r->id.data[i] >= r->rule->vocabulary)
            return fail(
                ERR_INPUT,
                "%s%s: tokenizer.json gives the text a token of id %d, which is beyond the %zu that the model knows",
                where, at, (int)r->id.data[i], r->rule->vocabulary);
    p->text[p->n++] = *text, *text = (struct text){0};
    p->first[p->n] = r->id.n;
done:
    return st;
}

/* Makes the text of a row's prompt: "prompt" as it is, or "question" between the parts of the template. */
static enum status prompt_text(struct reader *r, const char *path, size_t line, const json_t *row, bool *own,
                               struct text *text)
{
    const json_t *prompt = key_find(row, "prompt"), *question = key_find(row, "question"); /* null: not given */
    const json_t *given = prompt ? prompt : question;
    enum status st = OK;
    if (!json_is_map(row)) return fail(ERR_INPUT, "%s:%zu: the line is not a JSON object", path, line);
    if (!given) return lines_lack(path, line, "neither the key \"question\" nor \"prompt\"", NULL, row);
    if (prompt && question)
        return fail(ERR_INPUT, "%s:%zu: has both \"question\" and \"prompt\": give one of them", path, line);
    if (!json_is_string(given))
        return fail(ERR_INPUT, "%s:%zu: \"%s\" is not text", path, line, prompt ? "prompt" : "question");
    *own = question;
    if (!question) return text_add(text, json_string_value(given), json_string_length(given));
    if (!r->p->question.data) TRY(text_add(&r->p->question, json_string_value(given), json_string_length(given)));
    TRY(template_prompt(&r->rule->template, json_string_value(given), json_string_length(given), text));
done:
    return st;
}

static enum status line_read(struct reader *r, const char *path, size_t line, const char *bytes, size_t n)
{
    struct text text = {0};
    json_t *row = NULL;
    bool own = false;
    enum status st = OK;
    TRY(lines_parse(path, line, bytes, n, &row));
    TRY(prompt_text(r, path, line, row, &own, &text));
    TRY(prompt_add(r, path, line, own, &text));
done:
    json_decref(row);
    text_free(&text);
    return st;
}

static size_t lines_of(const char *bytes, size_t n)
{
    size_t lines = 1;
    for (size_t i = 0; i < n; i++) lines += bytes[i] == '\n';
    return lines;
}

static enum status file_prompts(struct reader *r, const char *path)
{
    char *bytes = NULL, *end;
    size_t n, start, line = 0;
    enum status st = OK;
    TRY(file_read(path, LARGEST_FILE, &bytes, &n));
    start = lines_mark(bytes, n);
    TRY(lines_check(path, bytes, n));
    TRY_NEW(r->p->first, lines_of(bytes, n) + 1);
    TRY_NEW(r->p->text, lines_of(bytes, n));
    for (char *at = bytes + start; at < bytes + n && r->p->n < r->most; at = end + 1) {
        if (!(end = memchr(at, '\n', (size_t)(bytes + n - at)))) end = bytes + n;
        line++;
        if (strspn(at, " \t\r") < (size_t)(end - at)) TRY(line_read(r, path, line, at, (size_t)(end - at)));
    }
    if (!r->p->n) st = fail(ERR_INPUT, "%s: holds no prompts", path);
done:
    free(bytes);
    return st;
}

static enum status one_prompt(struct reader *r, const struct config *c)
{
    const struct place place = config_place(c, "generate.prompt");
    struct text text = {0};
    enum status st = OK;
    TRY_NEW(r->p->first, 2);
    TRY_NEW(r->p->text, 1);
    TRY(text_add(&text, c->generate.prompt, strlen(c->generate.prompt)));
    TRY(prompt_add(r, place_text(&place), 0, false, &text));
done:
    text_free(&text);
    return st;
}

static enum status share(const struct grid *world, const char *path, struct prompt_inputs *p)
{
    uint64_t n[2] = {p->n, p->n ? p->first[p->n] : 0};
    enum status st;
    comm_broadcast(world->world, n, sizeof n, 0);
    p->n = (size_t)n[0];
    TRY(share_list(world, path, p->n + 1, sizeof *p->first, (void **)&p->first));
    TRY(share_list(world, path, (size_t)n[1], sizeof *p->id, (void **)&p->id));
    p->hash = hash_bytes(p->id, (size_t)n[1] * sizeof *p->id, hash_bytes(p->first, (p->n + 1) * sizeof *p->first, 0));
done:
    return st;
}

/* Refuses lengths that the model cannot read, as for the rows of other tasks. */
static enum status check_lengths(const struct inputs *in, struct prompt_inputs *p)
{
    const struct config *c = in->config;
    const struct shape *s = in->shape;
    const size_t most = c->generate.max_length, limit = s->learned_positions ? s->positions : 0;
    const struct place place = config_place(c, "generate.max_length");
    if (limit && most > limit)
        return fail(ERR_INPUT, "%s: generate.max_length: is %zu, but the model has learned positions for %zu; lower it",
                    place_text(&place), most, limit);
    for (size_t i = 0; i < p->n; i++) p->n_long += p->first[i + 1] - p->first[i] >= most;
    if (p->n_long)
        log_warn("%s: %zu prompt%s generate.max_length = %zu tokens or more: no answer",
                 c->generate.prompts ? c->generate.prompts : c->file, p->n_long, p->n_long == 1 ? " has" : "s have",
                 most);
    if (most > s->positions)
        log_warn("generate.max_length is %zu, the model was made for %zu positions", most, s->positions);
    return OK;
}

enum status inputs_prompts(const struct inputs *in, const struct grid *world, const struct data_rule *rule,
                           struct prompt_inputs **out)
{
    const struct config *c = in->config;
    struct reader r = {.rule = rule, .most = c->generate.rows == CONFIG_ALL ? SIZE_MAX : c->generate.rows};
    enum status st = OK;
    if (c->task != TASK_GENERATE) return OK;
    if (!(r.p = *out = memory_new(1, sizeof *r.p))) st = fail(ERR_MEMORY, "memory: cannot allocate the prompts");
    if (st == OK && world->rank == 0) {
        st = c->generate.prompts ? file_prompts(&r, c->generate.prompts) : one_prompt(&r, c);
        r.p->id = r.id.data;
    }
    TRY(grid_agree(world, st));
    TRY(share(world, c->generate.prompts ? c->generate.prompts : c->file, r.p));
    TRY(check_lengths(in, r.p));
done:
    return st;
}

void prompt_inputs_free(struct prompt_inputs *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n && p->text; i++) text_free(&p->text[i]);
    tokenizer_free(p->tokenizer);
    text_free(&p->question);
    free(p->first), free(p->id), free(p->text), free(p);
}
