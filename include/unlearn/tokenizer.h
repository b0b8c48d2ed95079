/* tokenizer: tokenizer.json -> text to token ids and back, as the `tokenizers` package does it.                        */
#ifndef UNLEARN_TOKENIZER_H
#define UNLEARN_TOKENIZER_H
#include "unlearn/core.h"

struct tokenizer; /* immutable after opening */
struct ids {      /* a growing list; {0} is empty */
    int32_t *data;
    size_t n, room;
};
enum status ids_add(struct ids *list, int32_t id);
void ids_free(struct ids *list);

/** Reads DIR/tokenizer.json. What it asks for and is not built is refused by name.                               Local. */
enum status tokenizer_open(const char *dir, struct tokenizer **out);
/** The same from text in memory; `where` names it in messages. */
enum status tokenizer_parse(const char *where, const char *json, size_t n, struct tokenizer **out);
void tokenizer_free(struct tokenizer *t);
size_t tokenizer_vocabulary(const struct tokenizer *t);    /* 1 + the largest id it can produce */
size_t tokenizer_without_added(const struct tokenizer *t); /* the same, of texts in which no added token is written */
/** The token that is written exactly as text [n]; false: there is none. */
bool tokenizer_token(const struct tokenizer *t, const char *text, size_t n, int32_t *id);
/** How the token stands in the file, "\u2581the"; NULL: there is no such id. */
const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *n);
/** The tokens that the post-processor puts around every text; borrowed. */
const struct ids *tokenizer_before(const struct tokenizer *t), *tokenizer_after(const struct tokenizer *t);
/** Appends the ids of text [n] (UTF-8, NUL bytes allowed). special: with the tokens that the post-processor adds; text of
 *  a special token inside `text` becomes that token either way (as the `tokenizers` package does). */
enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool special, struct ids *out);
/** Appends the text of id [n]; skip_special leaves special tokens out. An id that is no token is ERR_INPUT. */
enum status tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool skip_special, struct text *out);

size_t utf8_valid(const char *s, size_t n); /* how many bytes from the start are valid: n, or fewer */
#endif
