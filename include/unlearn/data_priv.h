/* Private to `data`: the lines of a file. */
#ifndef UNLEARN_DATA_PRIV_H
#define UNLEARN_DATA_PRIV_H
#include "unlearn/data.h"

struct lines {  /* the lines of a file that are not blank */
    char *text; /* owned */
    size_t n, at, number;
};
enum status lines_open(const char *path, struct lines *l);
/** The next line without its end; false at the end of the file. */
bool lines_next(struct lines *l, const char **line, size_t *n);
void lines_close(struct lines *l);

/* -------------------------------------------------------------------------------------- a data set, row by row ----- */
struct builder {
    const struct data_rule *rule;
    const char *path;
    size_t number; /* line */
    struct dataset *d;
    struct ids id, label, prompt; /* all rows so far; the prompt of this one */
    size_t first_room;
    struct text text;
};
enum status builder_open(struct builder *b, const char *path, const struct data_rule *r);
/** Hands the rows over, or if st is not OK releases everything.                                                 Local. */
enum status builder_close(struct builder *b, enum status st, struct dataset **out);
/** Adds a row: the template's parts around the question, then the answer. */
enum status row_question(struct builder *b, const char *question, size_t n_question, const char *answer, size_t n_answer);
/** The text under a key of a row; ERR_INPUT with FILE:LINE.                                                     Local. */
enum status text_member(const char *path, size_t number, json_t *row, const char *key, json_t **out);
#endif
