/* Private to `tokenizer`: pieces of text, patterns, steps that change or split them, the token table, byte pairs.  */
#ifndef UNLEARN_TOKENIZER_PRIV_H
#define UNLEARN_TOKENIZER_PRIV_H
#include "unlearn/tokenizer.h"

/* ------------------------------------------------------------------------------------------- bytes and text ----- */
uint32_t utf8_next(const char *s, size_t *at);            /* the character at s[*at] of valid text; moves on */
enum status utf8_add(struct text *t, uint32_t character); /* a code point that may be written */
size_t utf8_count(const char *s, size_t n);               /* characters of valid text */
bool utf8_is_space(uint32_t character);                   /* White_Space of Unicode */
/** A copy in which every longest invalid part is U+FFFD. */
enum status utf8_repair(struct text *t, const char *s, size_t n);

/* Texts end to end: piece i is bytes end[i-1] ... end[i]-1. */
struct pieces {
    struct text bytes;
    size_t *end, n, room;
    size_t head; /* characters at the start that stem from the first one of the whole text; 0: it starts elsewhere */
    size_t most; /* bytes: a step of a chain that has written more stops, and the chain refuses the text */
};
void pieces_clear(struct pieces *p);        /* keeps the memory */
enum status pieces_close(struct pieces *p); /* the bytes added since the last one are a piece, be it empty */
void pieces_free(struct pieces *p);
static inline const char *piece_at(const struct pieces *p, size_t i, size_t *n)
{
    size_t start = i ? p->end[i - 1] : 0;
    *n = p->end[i] - start;
    return p->bytes.data + start;
}

/* -------------------------------------------------------------------------------------------------- pattern ----- */
/* A literal text, or a regular expression of Oniguruma's dialect (what the `tokenizers` package speaks) on PCRE2. */
struct pattern;
enum status pattern_new(const char *where, const char *text, size_t n, bool literal, struct pattern **out);
void pattern_free(struct pattern *p);

struct finder { /* walks over the matches of one pattern in one text after another */
    const struct pattern *pattern;
    void *match; /* owned */
    const char *text;
    size_t n, at, last;
};
enum status finder_open(struct finder *f, const struct pattern *p);
void finder_close(struct finder *f);
void finder_text(struct finder *f, const char *text, size_t n);
/** The next match, which may be empty; *found false: there is none. */
enum status finder_next(struct finder *f, bool *found, size_t *start, size_t *stop);

/* ---------------------------------------------------------------------------------------------------- steps ----- */
enum behaviour { ISOLATED, REMOVED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };
struct step {
    enum status (*run)(const struct step *s, const struct pieces *in, struct pieces *out);
    struct pattern *pattern; /* owned */
    struct text content;     /* what is put in */
    enum behaviour behaviour;
    bool invert, head_only, unless_there; /* split; prefix: of the whole text only, where it does not stand yet */
    bool left, right;                     /* white space that is stripped */
    int form;                             /* options of utf8proc_map */
    uint32_t character;                   /* what Strip takes off a token, */
    size_t start, stop;                   /* at most so many at its ends */
};
struct chain {
    struct step *step; /* owned */
    size_t n, room;
};
struct kind { /* a component of tokenizer.json: adds its steps to a chain */
    const char *name;
    enum status (*read)(const char *where, json_t *json, struct chain *chain);
};
/** A component or a Sequence of them; `part` names it in messages, `list` is the key of a Sequence. null: no step. */
enum status chain_read(const char *where, const char *part, const char *list, const struct kind *kinds, json_t *json,
                       struct chain *chain);
enum status chain_add(struct chain *chain, const struct step *step); /* takes over what step owns, also at failure */
/** *a through all steps; *b is a second buffer of the same use. The result is in *a. ERR_INPUT, with `where`, for a text that
 *  grows beyond all measure: what is put in for a pattern may be long, and hold the pattern of the next step. */
enum status chain_run(const char *where, const struct chain *chain, struct pieces *a, struct pieces *b);
void chain_free(struct chain *chain);

extern const struct kind kinds_of_normalizer[], kinds_of_splitter[], kinds_of_decoder[]; /* ended by a NULL name */
enum status step_replace(const struct step *s, const struct pieces *in, struct pieces *out);
/** Every match of s->pattern becomes s->content in the first n_filled pieces, and nothing in the others. */
enum status replace_in(const struct step *s, size_t n_filled, const struct pieces *in, struct pieces *out);
enum status step_prefix(const struct step *s, const struct pieces *in, struct pieces *out);
enum status step_bytes(const struct step *s, const struct pieces *in, struct pieces *out);
enum status replace_read(const char *where, json_t *json, struct chain *chain);
/* the alphabet of byte-level models: a printable character for each byte, and back (-1: none of them) */
uint32_t byte_character(unsigned char byte);
int character_byte(uint32_t character);

/* Members of a component: a wrong type is ERR_INPUT with `where`; *out is left alone where the member is absent. */
enum status member_bool(const char *where, json_t *json, const char *key, bool *out);
enum status member_text(const char *where, json_t *json, const char *key, const char **out, size_t *n);
enum status member_size(const char *where, json_t *json, const char *key, size_t *out);
/** {"String": ...} or {"Regex": ...}, or a plain string. */
enum status member_pattern(const char *where, json_t *json, const char *key, struct pattern **out);

/* ---------------------------------------------------------------------------------------------------- tokens ----- */
struct token {
    const char *text;
    uint32_t n;
    int32_t id;
    bool special, model, added; /* left out of decoded text on request; the model's; found in running text */
    uint32_t entry, shown;      /* the last of added_tokens that has this text; 1 + its text in `shown`, 0: its own */
};
struct vocabulary {
    struct token *token; /* by id, none twice */
    size_t n;
    char *text;     /* owned: what the tokens point to */
    uint32_t *slot; /* [mask+1] hash table by text: 1 + index in token */
    uint32_t mask;
};
/** From the members "vocab" and "added_tokens". */
enum status vocabulary_read(const char *where, json_t *vocab, json_t *added, struct vocabulary *v);
void vocabulary_free(struct vocabulary *v);
const struct token *vocabulary_find(const struct vocabulary *v, const char *text, size_t n);
struct token *vocabulary_change(struct vocabulary *v, const char *text, size_t n);
const struct token *vocabulary_token(const struct vocabulary *v, int32_t id);

/* ---------------------------------------------------------------------------------------------- added tokens ----- */
struct added_token {
    int32_t id;
    bool single_word, left, right, normalized;
};
struct trie_node;
struct added { /* tokens that are found in running text: the longest at the leftmost place */
    struct added_token *token;
    size_t n, room;
    struct trie_node *node;
    size_t n_node, node_room;
    uint32_t first[256];
    struct pattern *word; /* a word character; NULL where no token asks */
};
enum status added_new(const char *where, struct added *a, const char *text, size_t n, const struct added_token *token);
void added_free(struct added *a);
struct added_cursor {
    size_t at, done; /* where the search goes on; what is already given out */
};
/** The next token and the bytes *start ... *stop-1 that it takes; false: no more. What lies between c->done (before the
 *  call) and *start is other text. */
bool added_next(const struct added *a, const char *s, size_t n, struct added_cursor *c, size_t *start, size_t *stop,
                int32_t *id);

/* ----------------------------------------------------------------------------------------------- byte pairs ----- */
struct pair {
    uint64_t key; /* left << 32 | right; all ones: empty */
    uint32_t rank;
    int32_t id;
};
struct bpe {
    const struct vocabulary *vocabulary; /* borrowed */
    struct pair *pair;                   /* [mask+1] owned hash table */
    uint64_t mask;
    struct text prefix, suffix; /* of a character within, at the end of a word */
    int32_t unknown;            /* -1: none */
    int32_t byte_id[256];       /* of "<0x..>", -1: none */
    int32_t *low;               /* [LOW] ids of the first characters, -1: none; without prefix and suffix */
    bool fuse_unknown, byte_fallback, ignore_merges;
    bool leaves_out;             /* what has no token, as there is none for unknown characters */
    size_t n_repeated, repeated; /* merges that stand there before; rank of the first */
};
enum { LOW = 1024 };
struct bpe_work; /* buffers of one call */
enum status bpe_read(const char *where, json_t *model, const struct vocabulary *v, struct bpe *b);
/** For a vocabulary of bytes: without an unk_token, those that have no token are left out, and a warning says so. */
void bpe_byte_level(const char *where, json_t *model, struct bpe *b);
void bpe_free(struct bpe *b);
enum status bpe_work_new(struct bpe_work **out);
void bpe_work_free(struct bpe_work *w);
enum status bpe_word(const struct bpe *b, struct bpe_work *w, const char *word, size_t n, struct ids *out);

/* ------------------------------------------------------------------------------------------------- tokenizer ----- */
struct tokenizer {
    char *where; /* owned */
    struct vocabulary vocabulary;
    struct bpe bpe;
    struct added raw, normal; /* matched in the text as it is, and after normalisation */
    struct chain normalizer, splitter, decoder;
    struct pieces shown; /* texts of added tokens that normalisation changes: it shows in what is decoded */
    bool joined;         /* without a decoder tokens are joined with spaces */
    struct ids before, after;
};
enum status template_read(const char *where, json_t *json, struct tokenizer *t); /* the post-processor */
#endif
