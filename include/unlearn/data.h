/* data: JSON Lines files -> token ids with labels -> packed batches. No messages, no model: what
 * must agree with the model (vocabulary, eos) comes in as numbers.                                                   */
#ifndef UNLEARN_DATA_H
#define UNLEARN_DATA_H
#include "unlearn/core.h"
#include "unlearn/tokenizer.h"

/* -------------------------------------------------------------------------------------------------- template ----- */
enum trimmed { TRIM_QUESTION = 1, TRIM_ANSWER = 2, TRIM_SYSTEM = 4 };
/* How a question and its answer become one text: question_start, question, question_end, prompt_end; answer_start, answer,
 * answer_end. Strings are borrowed but for `owned`; NULL is no text. */
struct template
{
    const char *question_start, *question_end; /* of the prompt, which is never labelled */
    const char *answer_start;                  /* labelled as the answer is */
    const char *prompt_end;                    /* the prompt's last part: generation starts after it */
    const char *answer_end;                    /* labelled unless the rule says no */
    unsigned trim;                             /* of enum trimmed: whose white space at both ends is left out */
    bool own_tokens;                           /* every special token stands in the texts: the tokenizer adds none */
    bool blocks;                               /* plain text goes on in the next row where max_length ends one */
    char *owned[5];
};
struct template_wish { /* what is filled into a named template; NULL: nothing */
    const char *system, *date;
    const char *bos, *eos; /* the text of the tokenizer's own tokens */
    bool no_end;           /* without the end token behind the answer */
};
/** A named template: qa, llama2, llama3 ... ERR_INPUT, without a place, for a name that is none and for what the template
 *  does not have.                                                                                               Local. */
enum status template_make(const char *name, const struct template_wish *w, struct template *out);
void template_free(struct template *t);
const char *template_name_at(size_t i);          /* NULL behind the last */
enum status template_names(struct text *out);    /* with ", " between them */
enum status template_describe(struct text *out); /* their exact texts, for --help */
/* Add the text of a prompt, then what stands between it and the end, then the end. */
enum status template_prompt(const struct template *t, const char *question, size_t n, struct text *out);
enum status template_answer(const struct template *t, const char *answer, size_t n, struct text *out);
enum status template_end(const struct template *t, struct text *out);
/** s [n] without the white space at both ends, as Python's str.strip() cuts it. */
const char *text_strip(const char *s, size_t *n);

/* --------------------------------------------------------------------------------------------------- dataset ----- */
#define TEXT_OF_DATA "{path: FILE, text: KEY}" /* how data.forget and data.retain name the keys of a row */
#define KEYS_OF_DATA "{path: FILE, question: KEY, answer: KEY} or " TEXT_OF_DATA
struct data_file {                 /* how to read one file; strings borrowed */
    const char *path;              /* JSON Lines */
    const char *question, *answer; /* keys of a row */
    const char *text;              /* when not NULL: rows are plain text under this key, every token labelled */
    size_t rows;                   /* the first so many lines; SIZE_MAX: all */
    const char *others;            /* how the input names other keys, for a message; NULL: it cannot */
    bool continues;                /* as prompts: the model continues each, which one without tokens cannot be */
    bool single;                   /* as variants: a row has one answer, be it in a list */
};
enum adding { ADD_AUTO, ADD_ALWAYS, ADD_NEVER };
struct data_rule { /* how text becomes tokens, the same for all files of a run */
    const struct tokenizer *tokenizer;
    struct template template;
    size_t max_length; /* tokens of a row, eos included */
    int32_t bos, eos;  /* the tokens of the next two; negative: there is none */
    /* auto: what the tokenizer puts in front, nothing where the template has own tokens. always: bos stands in front, once. */
    enum adding front;
    /* auto: eos is appended where it fits, unless the template has own tokens or its end ends with it. always: where it does
     * not stand there. */
    enum adding end;
    bool end_beyond; /* max_length cuts prompts too, and does not count eos, which follows a row that is cut as well */
    bool end_unlabelled; /* the template's answer_end and the token appended are read, but not predicted */
    size_t vocabulary;   /* rows of the embedding: a larger id is ERR_INPUT */
    size_t hide;         /* 1 + the token that attention does not see as a key; 0: none */
};
/** Appends the tokens of text [n] with what the rule adds in front and the tokenizer behind; own: the text is made by the
 *  rule's template.                                                                                             Local. */
enum status rule_encode(const struct data_rule *r, bool own, const char *text, size_t n, struct ids *out);
struct dataset {
    char *path; /* owned */
    size_t n_row;
    size_t *first;       /* [n_row+1] tokens of row i are first[i] ... first[i+1]-1 */
    int32_t *id, *label; /* label = id, or LABEL_NONE; the first token of a row is never predicted */
    size_t *end;         /* [n_row] tokens at the end of a row that are the template's answer_end and what is appended */
    size_t n_line;       /* of the file; less than n_row where long texts are several rows */
    size_t n_cut, n_unlabelled; /* rows that max_length cut; rows without any label that can be predicted */
    size_t n_blank, blank;      /* rows with an empty answer, and the line of the first */
    uint64_t hash;              /* of ids and labels */
    size_t hide;                /* as in struct data_rule */
};

/** Reads and tokenises a file by encode() of reference.py: the whole text of a row at once; as many of its tokens are prompt
 *  as the prompt alone has, and those beyond as many as the text before the end has are its end. ERR_INPUT with FILE:LINE
 *  for a bad row, an empty file, a missing key, an id outside the vocabulary.                                     Local. */
enum status dataset_read(const struct data_file *f, const struct data_rule *r, struct dataset **out);
/** The questions of `f`, each with a stock refusal as its answer: row i takes line pick[i] of `path` ({"answer": ...} or
 *  plain text lines). `pick` (NULL: i modulo the number of lines) is called with `context`. ERR_INPUT if f->text: plain text
 *  has no questions.                                                                                           Local. */
enum status dataset_read_replaced(const struct data_file *f, const char *path,
                                  size_t (*pick)(void *context, size_t row, size_t n_lines), void *context,
                                  const struct data_rule *r, struct dataset **out);
/* The rows of a file with answers under another key, as rows of their own. */
struct variants {              /* {0} is empty */
    struct dataset *data;      /* an answer a row; NULL: no row has any; owned */
    size_t n;                  /* rows of the file */
    size_t *first;             /* [n+1] the answers of row i are first[i] ... first[i+1]-1; owned */
    size_t n_lacking, lacking; /* rows that have no such key, and the line of the first */
};
/** Under f->answer stands a text, or a list of them (f->single: of one); a row without it (or null), or without a question, has no answers.
 *  With f->text, the text under that key is the one answer.
 *  ERR_INPUT with FILE:LINE for anything else.                                                                  Local. */
enum status variants_read(const struct data_file *f, const struct data_rule *r, struct variants *v);
/** Questions with several choices, {"question": ..., "choices": [...], "answer": index}: row i has an answer for each of
 *  its choices, the letter A, B, ... after the question and all choices, each behind its letter on a line of its own.
 *  (*right)[i]: which of them is right; owned by the caller. ERR_INPUT with FILE:LINE.                          Local. */
enum status choices_read(const struct data_file *f, const struct data_rule *r, struct variants *v, size_t **right);
void variants_free(struct variants *v);

/** Bytes of the byte order mark that a text begins with, which is no part of its first line; 0: it has none.         Local. */
size_t lines_mark(const char *text, size_t n);
/** ERR_INPUT, with what to do, when the text of `path` is one JSON array and no JSON Lines, be it behind a mark.                      Local. */
enum status lines_check(const char *path, const char *text, size_t n);
/** Line `number` (from 1) of a file of JSON Lines; ERR_INPUT also says what it may be instead: CSV, an object over lines.  Local. */
enum status lines_parse(const char *path, size_t number, const char *line, size_t n, json_t **out);
/** Fails with ERR_INPUT: the row `has LACK`; says which keys it has, or that it is in chat form. others: as in struct
 *  data_file.                                                                                                    Local. */
enum status lines_lack(const char *path, size_t number, const char *lack, const char *others, const json_t *row);

struct prompts {      /* {0} is empty */
    size_t n, *first; /* [n+1] ids of prompt i: first[i] ... first[i+1]-1 of id; owned, as what follows */
    struct ids id;
    struct text *question, *answer; /* [n] as they stand in the file */
};
/** The first n_row rows of `f`: what a model is asked, the template's text before and after the question included.
 *  f->continues: ERR_INPUT with FILE:LINE for a prompt without tokens.                                         Local. */
enum status prompts_read(const struct data_file *f, const struct data_rule *r, size_t n_row, struct prompts *p);
void prompts_free(struct prompts *p);
/** The rows of a, then those of b from row `skip` on, as a data set of its own; either may be NULL.              Local. */
enum status dataset_join(const struct dataset *a, const struct dataset *b, size_t skip, struct dataset **out);
void dataset_free(struct dataset *d);
/** One block of bytes and back, so that one process reads and the others receive. */
enum status dataset_pack(const struct dataset *d, unsigned char **bytes, size_t *n);
enum status dataset_unpack(const unsigned char *bytes, size_t n, struct dataset **out);

size_t dataset_length(const struct dataset *d, size_t row); /* tokens */
size_t dataset_labels(const struct dataset *d, size_t row); /* tokens that are labelled and can be predicted */

/* ----------------------------------------------------------------------------------------------- packed batch ----- */
enum outputs {                    /* which positions of a row are outputs */
               OUTPUTS_LABELLED,  /* whose next token is labelled */
               OUTPUTS_OF_LABELS, /* that are labelled themselves */
               OUTPUTS_NEXT,      /* that have a next token, of a row with a label */
               OUTPUTS_WHOLE,     /* all of a row with a label */
               OUTPUTS_ALL
};
size_t dataset_outputs(const struct dataset *d, size_t row, enum outputs which);
/** Cuts rows (order kept) into passes of at most `tokens` tokens, at least one row each: pass p holds rows
 *  start[p] ... start[p+1]-1 of the list; start has room for n+1 entries. Returns the number of passes.           Local. */
size_t batch_cut(const struct dataset *d, size_t n, const size_t *row, size_t tokens, size_t *start);
/** The same of n rows in groups of `group` that stay together; n is a multiple of it.                             Local. */
size_t batch_cut_groups(const struct dataset *d, size_t group, size_t n, const size_t *row, size_t tokens, size_t *start);
/** Packs rows row[0 ... n-1] of d into b, whose arrays are taken from `a` (rewind it when done); item[i] = i.
 *                                                                                                               Local. */
void batch_pack(const struct dataset *d, size_t n, const size_t *row, enum outputs which, struct arena *a,
                struct batch *b);
#endif
