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
#endif
