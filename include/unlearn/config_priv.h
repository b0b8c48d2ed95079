/* config, private: the table of keys that gives a tree its meaning. */
#ifndef UNLEARN_CONFIG_PRIV_H
#define UNLEARN_CONFIG_PRIV_H
#include "unlearn/config.h"

/* --------------------------------------------------------------------------------------- values: value.c ----- */
/* Return NULL, or what is wrong with s in a few words ("" where nothing more helpful can be said). */
const char *number_read(const char *s, double *value);
const char *whole_read(const char *s, uint64_t *value);
enum status number_write(double value, struct text *out);
enum status string_write(const char *s, struct text *out); /* quoted where it must be; NULL: null */
bool is_word(const char *s);                               /* a letter or _, then letters, digits, _ */

/* ---------------------------------------------------------------------------------------- table: table.c ----- */
enum type {
    SECTION,  /* a mapping of the keys below it; a plain value stands for the key `bare` */
    RECORDS,  /* a list of structs, or one of them without the list; the row PATH.* describes them */
    NAMED,    /* a mapping from names to structs whose first member is the name; the same */
    SETTINGS, /* all keys that are not named by other rows */
    CHOICE,   /* one of `choices`: an enum in that order */
    COUNT,    /* size_t */
    SEED,     /* uint64_t below 2^63 */
    NUMBER,   /* double */
    PAIR,     /* two doubles, one after the other */
    SWITCH,   /* bool */
    TEXT,     /* char *, may be empty */
    PATH,     /* char *, without control characters */
    WORD,     /* char *, without control characters and blanks */
    WORDS,    /* char **, and their number at `count` */
};
enum row_flag {
    ALSO_AUTO = 1,
    ALSO_ALL = 2,
    ABOVE = 4,      /* `least` itself is outside */
    BELOW = 8,      /* `most` itself is outside */
    PLAIN_ONE = 16, /* RECORDS: one that says no more than its bare key is written as that */
    INHERITS = 32,  /* a bare name takes the settings of `objective` where it is that one */
    FREE = 64,      /* a restart may find another value than the run that it goes on with; of a file: the same content */
    LEADS = 128,    /* needed where another key of its section is written, and only there */
};
#define NOWHERE    SIZE_MAX
#define EVERY_TASK (~0u)

struct row {
    const char *path; /* "train.epochs"; a component "*" is any name or list element */
    enum type type;
    size_t at;            /* offset in struct config, below a "*" in the record; NOWHERE: not kept */
    const char *fallback; /* the default as it could be written; "null" also says that null is allowed; NULL: none */
    const char *help;
    double least, most;
    unsigned flags;
    const char *choices;      /* "a|b|c" */
    unsigned built;           /* CHOICE: only the first so many are built; 0: all */
    const char *bare;         /* SECTION */
    size_t place;             /* offset of a struct place to fill, 0: none */
    size_t count, size;       /* RECORDS, NAMED, WORDS, SETTINGS: offset of their number, size of one */
    unsigned needed;          /* tasks that need it, as bits; EVERY_TASK */
    const char *needed_words; /* what it is, for the message that it is missing */
};
extern const struct row config_table[]; /* row 0 is the whole input, path "" */
extern const size_t config_rows;

bool row_is_child(const struct row *row, const struct row *parent);
const char *row_name(const struct row *row);                            /* the last component */
const struct row *row_child(const struct row *parent, const char *key); /* never a "*" */
const struct row *row_any(const struct row *parent);                    /* the "*" below parent, or NULL */
bool row_nullable(const struct row *row);
int choice_index(const char *choices, const char *word); /* -1: none */
enum status choice_write(const char *choices, unsigned index, struct text *out);
enum status choices_write(const char *choices, struct text *out);           /* "a | b | c" */
enum status row_expected(const struct row *row, struct text *out);          /* "a whole number, 1 or more, or auto" */
const char *nearest(const struct row *parent, const char *key);             /* the child's name, or NULL */
enum status unknown_key(const struct row *parent, const struct node *node); /* fails with the nearest key */
enum status nearest_choice(const char *choices, const char *word, struct text *out); /* adds nothing where none is near */

/* --------------------------------------------------------------- read.c, finish.c, override.c, preset.c ----- */
struct config_private {
    struct place *place; /* [config_rows] where each key was written */
    bool *given;         /* [config_rows] whether it was, and not as null */
    char **where;        /* [n_where] "command line: key=value" of each override */
    size_t n_where;
};
enum status config_read(struct config *c, const struct node *root);
enum status config_finish(struct config *c); /* rules between keys, and defaults that depend on others */
enum status settings_copy(const struct config_objective *from, struct config_objective *to); /* to has none */
enum status override_apply(const char *where, const char *text, struct node *root);
/** Adds key: value to an entry of a list of objectives, which may be a name alone.                            Local. */
enum status entry_default(const char *where, struct node *entry, const char *key, const char *value);
/** Adds the defaults of the preset that the tree names, where it has no such keys.                            Local. */
enum status preset_apply(struct node *root);

/** A row of the whole input, neither a section nor SETTINGS, with its value as config_write() writes it; but objectives that
 *  mean the same are written alike. */
enum status row_write(const struct row *row, const struct config *c, setting_default *is_default, struct text *out);
/** Whether a row of one value has its default in a record.                                                       Local. */
enum status row_usual(const struct row *row, const void *record, bool *usual);

static inline void *member(const void *record, size_t at) { return (char *)(uintptr_t)record + at; }
#endif
