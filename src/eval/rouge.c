/* ROUGE-1 and ROUGE-L (Lin 2004) as the rouge-score package 0.1.2 gives them, with use_stemmer or without.
 *      recall = hits/words of the reference, precision = hits/words of the candidate, f1 = 2 P R/(P + R)
 * hits: the words in common, each as often as both texts have it (ROUGE-1); the longest common subsequence (ROUGE-L).
 *
 * Words are runs of [a-z0-9] in the text after Python's lower(). Only two characters beyond ASCII become such a letter:
 * the Kelvin sign becomes k, and I with a dot above becomes i and a combining dot. */
#include "unlearn/eval_priv.h"
#include <stdlib.h>
#include <string.h>

static const char KELVIN[] = "\xe2\x84\xaa", DOTTED_I[] = "\xc4\xb0";
enum { SHORTEST_STEMMED = 4 };

struct word {
    const char *text;
    size_t n, at; /* bytes; number of the word in its text */
    int side;
};
struct words {      /* the words of both texts, those of the reference first */
    char *text;     /* owned */
    struct word *w; /* [n[0] + n[1]] owned */
    size_t n[2];
    size_t *id[2]; /* [n] equal words have equal numbers; owned */
    size_t n_id;
};

/* The next character in lower case; 0 if no part of a word. *closes: a combining dot follows, which ends the word. */
static char lower_next(const char *s, size_t n, size_t *at, bool *closes)
{
    size_t left = n - *at;
    char c = s[*at];
    *closes = false;
    if (left >= sizeof KELVIN - 1 && !memcmp(s + *at, KELVIN, sizeof KELVIN - 1)) {
        *at += sizeof KELVIN - 1;
        return 'k';
    }
    if (left >= sizeof DOTTED_I - 1 && !memcmp(s + *at, DOTTED_I, sizeof DOTTED_I - 1)) {
        *at += sizeof DOTTED_I - 1;
        *closes = true;
        return 'i';
    }
    *at += 1;
    if (c >= 'A' && c <= 'Z') return (char)(c - 'A' + 'a');
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : 0;
}

/* Appends the words of a text; writes their letters, at most n, to *room and advances it. */
static void split(bool stems, const char *s, size_t n, int side, struct words *words, char **room)
{
    struct word *w = words->w + words->n[0] + words->n[1];
    for (size_t at = 0; at < n;) {
        char *begin = *room, c;
        bool closes = false;
        size_t length;
        while (at < n && !closes && (c = lower_next(s, n, &at, &closes))) *(*room)++ = c;
        length = (size_t)(*room - begin);
        if (!length) continue;
        if (stems && length >= SHORTEST_STEMMED) length = porter_stem(begin, length);
        *w++ = (struct word){begin, length, words->n[side]++, side};
    }
}

static int compare(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static void words_free(struct words *w)
{
    free(w->text);
    free(w->w);
    free(w->id[0]);
    free(w->id[1]);
}

static enum status words_new(bool stems, const char *const *s, const size_t *n, struct words *words)
{
    enum status st = OK;
    char *room;
    *words = (struct words){0};
    TRY_NEW(words->text, n[0] + n[1] + 1);
    TRY_NEW(words->w, n[0] / 2 + n[1] / 2 + 2); /* a word and its separator take at least two bytes */
    room = words->text;
    for (int side = 0; side < 2; side++) split(stems, s[side], n[side], side, words, &room);
    for (int side = 0; side < 2; side++) TRY_NEW(words->id[side], words->n[side]);
    qsort(words->w, words->n[0] + words->n[1], sizeof *words->w, compare);
    for (size_t i = 0; i < words->n[0] + words->n[1]; i++) {
        words->n_id += !i || compare(&words->w[i - 1], &words->w[i]);
        words->id[words->w[i].side][words->w[i].at] = words->n_id - 1;
    }
done:
    return st;
}

static enum status common_words(const struct words *w, size_t *hits)
{
    enum status st = OK;
    size_t *spare = NULL; /* how often the reference has a word that the candidate has not matched yet */
    *hits = 0;
    TRY_NEW(spare, w->n_id);
    for (size_t i = 0; i < w->n[0]; i++) spare[w->id[0][i]]++;
    for (size_t i = 0; i < w->n[1]; i++)
        if (spare[w->id[1][i]]) spare[w->id[1][i]]--, ++*hits;
done:
    free(spare);
    return st;
}

/* Fills the table row by row: best[j] is the length for the reference so far and the candidate's first j words. */
static enum status common_subsequence(const struct words *w, size_t *hits)
{
    enum status st = OK;
    size_t *best = NULL;
    TRY_NEW(best, w->n[1] + 1);
    for (size_t i = 0; i < w->n[0]; i++)
        for (size_t j = 1, corner = 0; j <= w->n[1]; j++) {
            size_t above = best[j];
            if (w->id[0][i] == w->id[1][j - 1])
                best[j] = corner + 1;
            else if (best[j - 1] > above)
                best[j] = best[j - 1];
            corner = above;
        }
    *hits = best[w->n[1]];
done:
    free(best);
    return st;
}

static struct rouge score(const struct words *w, size_t hits)
{
    struct rouge r = {0};
    if (!hits) return r;
    r.precision = (double)hits / (double)w->n[1];
    r.recall = (double)hits / (double)w->n[0];
    r.f1 = 2 * r.precision * r.recall / (r.precision + r.recall);
    return r;
}

enum status rouge_score(const char *reference, size_t n_reference, const char *candidate, size_t n_candidate,
                        struct rouge *rouge1, struct rouge *rouge_l)
{
    return rouge_score_of(true, reference, n_reference, candidate, n_candidate, rouge1, rouge_l);
}

enum status rouge_score_of(bool stems, const char *reference, size_t n_reference, const char *candidate,
                           size_t n_candidate, struct rouge *rouge1, struct rouge *rouge_l)
{
    enum status st;
    struct words w;
    size_t hits = 0;
    TRY(words_new(stems, (const char *const[]){reference, candidate}, (const size_t[]){n_reference, n_candidate}, &w));
    if (rouge1) {
        TRY(common_words(&w, &hits));
        *rouge1 = score(&w, hits);
    }
    if (rouge_l) {
        TRY(common_subsequence(&w, &hits));
        *rouge_l = score(&w, hits);
    }
done:
    words_free(&w);
    return st;
}
