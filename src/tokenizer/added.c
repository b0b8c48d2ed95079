/* Tokens that are found in running text before anything else happens to it. At each place the longest counts, and the
 * search goes on behind it. */
#include "unicode.h"
#include "unlearn/tokenizer_priv.h"
#include <stdlib.h>

/* \w of Rust's regular expressions */
static const char WORD[] = "[" PATTERN_RUST_WORD "]";

struct trie_node {
    uint32_t child, sibling; /* 0: none; the nodes' numbers begin at 1 */
    uint32_t token;          /* 1 + index, 0: none ends here */
    unsigned char byte;
};

/* The node of `byte` in the list that begins at *link, made where there is none. */
static enum status node_get(struct added *a, uint32_t *link, bool in_node, unsigned char byte, uint32_t *out)
{
    enum status st = OK;
    uint32_t i, owner = in_node ? *link : 0;
    for (i = in_node ? a->node[owner].child : *link; i; i = a->node[i].sibling)
        if (a->node[i].byte == byte) break;
    if (!i) {
        uint32_t head = in_node ? a->node[owner].child : *link;
        if (!a->n_node) a->n_node = 1;
        TRY(memory_grow((void **)&a->node, &a->node_room, a->n_node + 1, sizeof *a->node));
        i = (uint32_t)a->n_node++;
        a->node[i] = (struct trie_node){.sibling = head, .byte = byte};
        if (in_node)
            a->node[owner].child = i;
        else
            *link = i;
    }
    *out = i;
done:
    return st;
}

enum status added_new(const char *where, struct added *a, const char *text, size_t n, const struct added_token *token)
{
    enum status st;
    uint32_t node = 0;
    TRY(memory_grow((void **)&a->token, &a->room, a->n + 1, sizeof *a->token));
    TRY(node_get(a, &a->first[(unsigned char)text[0]], false, (unsigned char)text[0], &node));
    for (size_t i = 1; i < n; i++) TRY(node_get(a, &node, true, (unsigned char)text[i], &node));
    a->token[a->n++] = *token;
    if (!a->node[node].token) a->node[node].token = (uint32_t)a->n; /* of two that are written alike, the first */
    if (token->single_word && !a->word) TRY(pattern_new(where, WORD, sizeof WORD - 1, false, &a->word));
done:
    return st;
}

void added_free(struct added *a)
{
    free(a->token);
    free(a->node);
    pattern_free(a->word);
    *a = (struct added){0};
}

/* The longest token at s, and its length. */
static const struct added_token *longest(const struct added *a, const char *s, size_t n, size_t *length)
{
    const struct added_token *best = NULL;
    uint32_t node = a->first[(unsigned char)s[0]];
    for (size_t i = 1; node; i++) {
        if (a->node[node].token) best = &a->token[a->node[node].token - 1], *length = i;
        if (i == n) break;
        for (node = a->node[node].child; node && a->node[node].byte != (unsigned char)s[i];) node = a->node[node].sibling;
    }
    return best;
}

static size_t character_before(const char *s, size_t at)
{
    while (--at && ((unsigned char)s[at] & 0xc0) == 0x80) continue;
    return at;
}

static bool is_word(const struct added *a, const char *s, size_t from, size_t to)
{
    struct finder f;
    size_t start, stop;
    bool found = false;
    if (finder_open(&f, a->word) == OK) {
        finder_text(&f, s + from, to - from);
        if (finder_next(&f, &found, &start, &stop) != OK) found = false;
    }
    finder_close(&f);
    return found;
}

static bool stands_alone(const struct added *a, const char *s, size_t n, size_t start, size_t stop)
{
    size_t next = stop;
    if (start && is_word(a, s, character_before(s, start), start)) return false;
    if (stop == n) return true;
    utf8_next(s, &next);
    return !is_word(a, s, stop, next);
}

bool added_next(const struct added *a, const char *s, size_t n, struct added_cursor *c, size_t *start, size_t *stop,
                int32_t *id)
{
    const struct added_token *t;
    for (; a->n && c->at < n; c->at++) {
        size_t length = 0, at;
        if (!a->first[(unsigned char)s[c->at]] || !(t = longest(a, s + c->at, n - c->at, &length))) continue;
        *start = c->at, *stop = c->at + length;
        if (t->single_word && !stands_alone(a, s, n, *start, *stop)) {
            c->at = *stop - 1;
            continue;
        }
        c->at = *stop;
        while (t->left && *start > c->done) {
            at = character_before(s, *start);
            if (at < c->done || !utf8_is_space(utf8_next(s, &(size_t){at}))) break;
            *start = at;
        }
        for (at = *stop; t->right && at < n && utf8_is_space(utf8_next(s, &at));) *stop = at;
        *id = t->id;
        return true;
    }
    return false;
}
