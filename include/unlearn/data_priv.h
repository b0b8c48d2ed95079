/* Private to `data`: the lines of a file, and the rows made of them. */
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
struct builder { /* {0} is empty */
    const struct data_rule *rule;
    const char *path; /* of the file, as number is the line in it: for messages */
    size_t number;
    struct dataset *d;
    struct ids id, label; /* of all rows so far */
    struct ids scratch;
    size_t first_room, end_room;
    struct text text;
};
enum status builder_open(struct builder *b, const char *path, const struct data_rule *r);
/** Hands the rows over if st is OK and there are any; releases everything. */
enum status builder_close(struct builder *b, enum status st, struct dataset **out);
/** rule_encode() of b->text, with the line in its messages. */
enum status builder_encode(struct builder *b, bool own, struct ids *out);
/** Adds a row of a question and its answer; rows of plain text, several where the template says so. */
enum status row_question(struct builder *b, const char *question, size_t n_question, const char *answer, size_t n_answer);
enum status row_text(struct builder *b, const char *text, size_t n);
/** The text under a key of a row; ERR_INPUT with FILE:LINE.                                                     Local. */
enum status text_member(const char *path, size_t number, json_t *row, const char *key, const char *others, json_t **out);
/** Adds the rows that a line makes; v->n is its number. */
typedef enum status group_reader(void *context, struct builder *b, json_t *row, struct variants *v);
/** Reads the lines of a file, at most f->rows: v->first tells which rows of b are of which line. */
enum status groups_read(struct builder *b, const struct data_file *f, struct variants *v, group_reader *read,
                        void *context);
#endif
