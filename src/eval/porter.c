/* Porter's stemmer ("An algorithm for suffix stripping", Program 14, 1980) with the deviations that NLTK makes by default
 * ("NLTK_EXTENSIONS"): a table of irregular words, "ies" and "ied" of four-letter words, y after a consonant, "alli" before
 * the other suffixes of step 2, "fulli", "logi", "bli" for "abli", and a vowel-consonant stem of two letters counts as short.
 *
 * A stem is [C](VC)^m[V], where C and V are runs of consonants and of vowels; m is its measure. Vowels are a, e, i, o,
 * u and a y after a consonant; all else, also a digit, is a consonant. */
#include "unlearn/eval_priv.h"
#include <string.h>

static bool is_aeiou(char c) { return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u'; }

/* In a run of y's vowel and consonant alternate. */
static bool consonant(const char *w, size_t i)
{
    bool opposite = false;
    for (; i && w[i] == 'y'; i--) opposite = !opposite;
    return is_aeiou(w[i]) == opposite;
}

static size_t measure(const char *w, size_t n)
{
    size_t m = 0;
    bool before = true, now;
    for (size_t i = 0; i < n; i++, before = now) {
        now = w[i] == 'y' ? !i || !before : !is_aeiou(w[i]);
        m += now && !before;
    }
    return m;
}

static bool has_vowel(const char *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_aeiou(w[i]) || (w[i] == 'y' && i)) return true; /* only consonants precede this y: it is a vowel */
    return false;
}

/* Ends in consonant, vowel, consonant other than w, x, y, as "hop" does; or is a vowel and a consonant, as "at". */
static bool is_short(const char *w, size_t n)
{
    if (n == 2) return !consonant(w, 0) && consonant(w, 1);
    return n > 2 && consonant(w, n - 3) && !consonant(w, n - 2) && consonant(w, n - 1) && !strchr("wxy", w[n - 1]);
}

static bool positive(const char *w, size_t n) { return measure(w, n) > 0; }
static bool beyond_one(const char *w, size_t n) { return measure(w, n) > 1; }
static bool beyond_one_st(const char *w, size_t n) { return measure(w, n) > 1 && strchr("st", w[n - 1]); }
static bool positive_with_next(const char *w, size_t n) { return measure(w, n + 1) > 0; } /* stem and next letter */
static bool beyond_one_with_next(const char *w, size_t n) { return measure(w, n + 1) > 1; }
static bool after_consonant(const char *w, size_t n) { return n > 1 && consonant(w, n - 1); }

/* The first suffix of a table with which the word ends decides; if the stem does not meet its condition, nothing
 * changes. A replacement is never longer than its suffix, except in "tidy", which is applied after a longer suffix was
 * removed. */
struct rule {
    const char *suffix, *put;
    bool (*may)(const char *w, size_t n_stem); /* NULL: always */
};
static const struct rule irregular[] = {
    {"sky", "sky", NULL},
    {"skies", "sky", NULL},
    {"dying", "die", NULL},
    {"lying", "lie", NULL},
    {"tying", "tie", NULL},
    {"news", "news", NULL},
    {"innings", "inning", NULL},
    {"inning", "inning", NULL},
    {"outings", "outing", NULL},
    {"outing", "outing", NULL},
    {"cannings", "canning", NULL},
    {"canning", "canning", NULL},
    {"howe", "howe", NULL},
    {"proceed", "proceed", NULL},
    {"exceed", "exceed", NULL},
    {"succeed", "succeed", NULL},
    {NULL, NULL, NULL},
};
static const struct rule step_1a[] = {
    {"sses", "ss", NULL}, {"ies", "i", NULL}, {"ss", "ss", NULL}, {"s", "", NULL}, {NULL, NULL, NULL},
};
static const struct rule tidy[] = {
    {"at", "ate", NULL},
    {"bl", "ble", NULL},
    {"iz", "ize", NULL},
    {NULL, NULL, NULL},
};
static const struct rule step_1c[] = {{"y", "i", after_consonant}, {NULL, NULL, NULL}};
static const struct rule step_2_first[] = {{"alli", "al", positive}, {NULL, NULL, NULL}};
static const struct rule step_2[] = {
    {"ational", "ate", positive}, {"tional", "tion", positive},
    {"enci", "ence", positive},   {"anci", "ance", positive},
    {"izer", "ize", positive},    {"bli", "ble", positive},
    {"alli", "al", positive},     {"entli", "ent", positive},
    {"eli", "e", positive},       {"ousli", "ous", positive},
    {"ization", "ize", positive}, {"ation", "ate", positive},
    {"ator", "ate", positive},    {"alism", "al", positive},
    {"iveness", "ive", positive}, {"fulness", "ful", positive},
    {"ousness", "ous", positive}, {"aliti", "al", positive},
    {"iviti", "ive", positive},   {"biliti", "ble", positive},
    {"fulli", "ful", positive},   {"logi", "log", positive_with_next},
    {NULL, NULL, NULL},
};
static const struct rule step_3[] = {
    {"icate", "ic", positive}, {"ative", "", positive}, {"alize", "al", positive}, {"iciti", "ic", positive},
    {"ical", "ic", positive},  {"ful", "", positive},   {"ness", "", positive},    {NULL, NULL, NULL},
};
static const struct rule step_4[] = {
    {"al", "", beyond_one},    {"ance", "", beyond_one}, {"ence", "", beyond_one}, {"er", "", beyond_one},
    {"ic", "", beyond_one},    {"able", "", beyond_one}, {"ible", "", beyond_one}, {"ant", "", beyond_one},
    {"ement", "", beyond_one}, {"ment", "", beyond_one}, {"ent", "", beyond_one},  {"ion", "", beyond_one_st},
    {"ou", "", beyond_one},    {"ism", "", beyond_one},  {"ate", "", beyond_one},  {"iti", "", beyond_one},
    {"ous", "", beyond_one},   {"ive", "", beyond_one},  {"ize", "", beyond_one},  {NULL, NULL, NULL},
};
static const struct rule step_5b[] = {{"ll", "l", beyond_one_with_next}, {NULL, NULL, NULL}};

static bool ends(const char *w, size_t n, const char *suffix)
{
    size_t k = strlen(suffix);
    return n >= k && !memcmp(w + n - k, suffix, k);
}

/* Returns true if a rule was applied, even one that leaves the word as it was. */
static bool apply(const struct rule *r, char *w, size_t *n)
{
    for (; r->suffix; r++)
        if (ends(w, *n, r->suffix)) {
            size_t stem = *n - strlen(r->suffix), k = strlen(r->put);
            if (r->may && !r->may(w, stem)) return false;
            memcpy(w + stem, r->put, k);
            *n = stem + k;
            return true;
        }
    return false;
}

/* Removes ed and ing if the stem that is left has a vowel, and then repairs the end of the stem. */
static void past_and_gerund(char *w, size_t *n)
{
    if (ends(w, *n, "ied")) {
        *n -= *n == 4 ? 1 : 2;
        return;
    }
    if (ends(w, *n, "eed")) {
        *n -= positive(w, *n - 3);
        return;
    }
    if (ends(w, *n, "ed") && has_vowel(w, *n - 2))
        *n -= 2;
    else if (ends(w, *n, "ing") && has_vowel(w, *n - 3))
        *n -= 3;
    else
        return;
    if (apply(tidy, w, n)) return;
    if (*n > 1 && w[*n - 1] == w[*n - 2] && consonant(w, *n - 1))
        *n -= !strchr("lsz", w[*n - 1]);
    else if (measure(w, *n) == 1 && is_short(w, *n))
        w[(*n)++] = 'e';
}

static void final_e(const char *w, size_t *n)
{
    size_t m;
    if (!ends(w, *n, "e")) return;
    m = measure(w, *n - 1);
    *n -= m > 1 || (m == 1 && !is_short(w, *n - 1));
}

static bool is_irregular(char *w, size_t *n)
{
    for (const struct rule *r = irregular; r->suffix; r++)
        if (*n == strlen(r->suffix) && apply((const struct rule[]){*r, {NULL, NULL, NULL}}, w, n)) return true;
    return false;
}

size_t porter_stem(char *w, size_t n)
{
    if (n <= 2 || is_irregular(w, &n)) return n;
    if (n == 4 && ends(w, n, "ies"))
        n = 3;
    else
        apply(step_1a, w, &n);
    past_and_gerund(w, &n);
    apply(step_1c, w, &n);
    apply(step_2_first, w, &n); /* what is left may end in a suffix of step 2 */
    apply(step_2, w, &n);
    apply(step_3, w, &n);
    apply(step_4, w, &n);
    final_e(w, &n);
    apply(step_5b, w, &n);
    return n;
}
