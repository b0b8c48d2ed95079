/* One row: encode() of the reference. The whole text is tokenised once; as many of its tokens are prompt as the prompt alone
 * has, the rest and the end token are labelled. */
#include "unlearn/data_priv.h"
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------- tokens ------ */
static enum status append(const struct ids *from, struct ids *to)
{
    enum status st = OK;
    for (size_t i = 0; i < from->n; i++) TRY(ids_add(to, from->data[i]));
done:
    return st;
}

/* Puts bos in front of the tokens from `start` on, unless it stands there. */
static enum status put_bos(int32_t bos, size_t start, struct ids *out)
{
    enum status st = OK;
    if (out->n > start && out->data[start] == bos) return OK;
    TRY(ids_add(out, bos));
    memmove(out->data + start + 1, out->data + start, (out->n - 1 - start) * sizeof *out->data);
    out->data[start] = bos;
done:
    return st;
}

/* Appends what stands in front of every text that does not write its own tokens. */
static enum status front(const struct data_rule *r, struct ids *out)
{
    enum status st = OK;
    const size_t start = out->n;
    if (r->front != ADD_NEVER) TRY(append(tokenizer_before(r->tokenizer), out));
    if (r->front == ADD_ALWAYS) TRY(put_bos(r->bos, start, out));
done:
    return st;
}

enum status rule_encode(const struct data_rule *r, bool own, const char *text, size_t n, struct ids *out)
{
    enum status st = OK;
    const size_t start = out->n;
    size_t body;
    own = own && r->template.own_tokens;
    if (!own) TRY(front(r, out));
    body = out->n;
    TRY(tokenizer_encode(r->tokenizer, text ? text : "", n, false, out));
    if (r->front == ADD_ALWAYS && body > start && out->n > body && out->data[body] == r->bos) { /* the text has its own */
        memmove(out->data + start, out->data + body, (out->n - body) * sizeof *out->data);
        out->n -= body - start;
    }
    if (own && r->front == ADD_ALWAYS) TRY(put_bos(r->bos, start, out));
    if (!own && r->end != ADD_NEVER) TRY(append(tokenizer_after(r->tokenizer), out));
done:
    return st;
}

/* Adds " (FILE:LINE)" to what the tokenizer says of a text: there it is not known. */
static enum status placed(const struct builder *b, enum status st)
{
    char message[512];
    size_t n = strlen(fail_message());
    if (st != ERR_INPUT) return st;
    if (n >= sizeof message) n = sizeof message - 1;
    memcpy(message, fail_message(), n);
    message[n] = 0;
    fail_clear();
    return fail(st, "%s:%zu: %s", b->path, b->number, message);
}

enum status builder_encode(struct builder *b, bool own, struct ids *out)
{
    return placed(b, rule_encode(b->rule, own, b->text.data, b->text.n, out));
}

/* ----------------------------------------------------------------------------------------------------- rows ------ */
static bool has_end(const struct template *t) { return t->answer_end && *t->answer_end; }

/* Whether an end token follows the n tokens that a row has before it is cut; `last` is the last one of those that stay. */
static bool ends(const struct data_rule *r, bool own, int32_t last, size_t n)
{
    if (r->eos < 0 || r->end == ADD_NEVER || (n >= r->max_length && !r->end_beyond)) return false;
    if (r->end == ADD_AUTO && own && r->template.own_tokens) return false;
    return !(last == r->eos && (r->end == ADD_ALWAYS || (own && has_end(&r->template))));
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Closes the row whose tokens from `first` on stand in b->id: cut, end token, labels, checks. From token n_body on it is end. */
static enum status row_close(struct builder *b, bool own, size_t first, size_t n_prompt, size_t n_body)
{
    enum status st = OK;
    struct dataset *d = b->d;
    const struct data_rule *r = b->rule;
    size_t n = b->id.n - first, labelled = 0;
    if (n > r->max_length) {
        b->id.n = first + r->max_length;
        d->n_cut++;
    }
    /* also where the answer's first letters make one token of several of the prompt's: the whole has fewer tokens then */
    n_prompt = least(n_prompt, b->id.n - first), n_body = least(n_body, b->id.n - first);
    if (ends(r, own, n ? b->id.data[b->id.n - 1] : -1, n)) TRY(ids_add(&b->id, r->eos));
    n = b->id.n - first;
    if (!n) return fail(ERR_INPUT, "%s:%zu: the row has no tokens", b->path, b->number);
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->id.data[first + i];
        const bool label = i >= n_prompt && !(r->end_unlabelled && i >= n_body);
        if ((size_t)id >= r->vocabulary)
            return fail(
                ERR_INPUT,
                "%s:%zu: tokenizer.json gives the text a token of id %d, which is beyond the %zu that the model knows",
                b->path, b->number, (int)id, r->vocabulary);
        TRY(ids_add(&b->label, label ? id : LABEL_NONE));
        labelled += i && label;
    }
    d->n_unlabelled += !labelled;
    TRY(memory_grow((void **)&d->end, &b->end_room, d->n_row + 1, sizeof *d->end));
    d->end[d->n_row] = n > n_body ? n - n_body : 0;
    TRY(memory_grow((void **)&d->first, &b->first_room, d->n_row + 2, sizeof *d->first));
    d->first[++d->n_row] = b->id.n;
done:
    return st;
}

/* What the tokenizer itself puts behind a text: end, as what is appended. */
static size_t n_after(const struct data_rule *r, bool own)
{
    return r->end == ADD_NEVER || (own && r->template.own_tokens) ? 0 : tokenizer_after(r->tokenizer)->n;
}

/* Tokens of b->text alone. */
static enum status count(struct builder *b, size_t *n)
{
    enum status st;
    b->scratch.n = 0;
    TRY(builder_encode(b, true, &b->scratch));
    *n = b->scratch.n;
done:
    return st;
}

static bool is_blank(const char *s, size_t n)
{
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    return !n;
}

enum status row_question(struct builder *b, const char *question, size_t n_question, const char *answer, size_t n_answer)
{
    enum status st;
    const struct template *t = &b->rule->template;
    size_t first = b->id.n, n_prompt, n_body = 0;
    if (is_blank(answer, n_answer) && !b->d->n_blank++) b->d->blank = b->number;
    b->text.n = 0;
    TRY(template_prompt(t, question, n_question, &b->text));
    TRY(count(b, &n_prompt));
    TRY(template_answer(t, answer, n_answer, &b->text));
    if (has_end(t)) TRY(count(b, &n_body));
    TRY(template_end(t, &b->text));
    TRY(builder_encode(b, true, &b->id));
    if (!has_end(t)) n_body = b->id.n - first;
    TRY(row_close(b, true, first, n_prompt, n_body - n_after(b->rule, true)));
done:
    return st;
}

/* As many rows as the text needs; each begins as a text does, the last one ends as one. */
static enum status row_blocks(struct builder *b)
{
    enum status st = OK;
    const struct data_rule *r = b->rule;
    struct ids head = {0};
    size_t at = 0, n, first, begin, text;
    TRY(front(r, &head));
    if (head.n >= r->max_length)
        TRY(fail(ERR_INPUT,
                 "%s:%zu: rows of %zu tokens have no room for text behind the %zu that the tokenizer begins with",
                 b->path, b->number, r->max_length, head.n));
    b->scratch.n = 0;
    TRY(placed(b, tokenizer_encode(r->tokenizer, b->text.n ? b->text.data : "", b->text.n, false, &b->scratch)));
    if (r->front == ADD_ALWAYS && b->scratch.n && b->scratch.data[0] == r->bos) at = 1; /* the text has its own */
    text = b->scratch.n;
    if (r->end != ADD_NEVER) TRY(append(tokenizer_after(r->tokenizer), &b->scratch));
    do {
        first = b->id.n, begin = at > text ? at : text;
        TRY(append(&head, &b->id));
        for (n = head.n; n < r->max_length && at < b->scratch.n; n++) TRY(ids_add(&b->id, b->scratch.data[at++]));
        TRY(row_close(b, false, first, 0, at > begin ? n - (at - begin) : n));
    } while (at < b->scratch.n);
done:
    ids_free(&head);
    return st;
}

enum status row_text(struct builder *b, const char *text, size_t n)
{
    enum status st;
    size_t first = b->id.n;
    b->text.n = 0;
    TRY(text_add(&b->text, text, n));
    if (b->rule->template.blocks) return row_blocks(b);
    TRY(builder_encode(b, false, &b->id));
    TRY(row_close(b, false, first, 0, b->id.n - first - n_after(b->rule, false)));
done:
    return st;
}

/* -------------------------------------------------------------------------------------------------- builder ------ */
enum status builder_open(struct builder *b, const char *path, const struct data_rule *r)
{
    enum status st = OK;
    b->rule = r;
    b->path = path;
    if (!r->max_length) return fail(ERR_INPUT, "%s: rows of at most 0 tokens are asked for", path);
    TRY_NEW(b->d, 1);
    b->d->hide = r->hide;
    if (!(b->d->path = text_copy(path))) TRY(fail(ERR_MEMORY, "memory: cannot copy a path"));
    TRY(memory_grow((void **)&b->d->first, &b->first_room, 1, sizeof *b->d->first));
    TRY(memory_grow((void **)&b->d->end, &b->end_room, 1, sizeof *b->d->end));
done:
    return st;
}

enum status builder_close(struct builder *b, enum status st, struct dataset **out)
{
    struct dataset *d = b->d;
    if (st == OK && !d->n_row) st = fail(ERR_INPUT, "%s: holds no rows", b->path);
    if (st == OK) {
        d->id = b->id.data, b->id.data = NULL;
        d->label = b->label.data, b->label.data = NULL;
        d->hash = hash_bytes(d->first, (d->n_row + 1) * sizeof *d->first, 0);
        d->hash = hash_bytes(d->id, d->first[d->n_row] * sizeof *d->id, d->hash);
        d->hash = hash_bytes(d->label, d->first[d->n_row] * sizeof *d->label, d->hash);
        *out = d, d = NULL;
    }
    dataset_free(d);
    ids_free(&b->id);
    ids_free(&b->label);
    ids_free(&b->scratch);
    text_free(&b->text);
    return st;
}
