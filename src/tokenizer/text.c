/* UTF-8, growing arrays, and lists of texts laid end to end. */
#include "unlearn/tokenizer_priv.h"
#include <stdlib.h>
#include <string.h>

enum status ids_add(struct ids *list, int32_t id)
{
    enum status st = OK;
    if (list->n == list->room) st = memory_grow((void **)&list->data, &list->room, list->n + 1, sizeof *list->data);
    if (st == OK) list->data[list->n++] = id;
    return st;
}

void ids_free(struct ids *list)
{
    if (!list) return;
    free(list->data);
    *list = (struct ids){0};
}

uint32_t utf8_next(const char *s, size_t *at)
{
    const unsigned char *c = (const unsigned char *)s + *at;
    if (c[0] < 0x80) {
        *at += 1;
        return c[0];
    }
    if (c[0] < 0xe0) {
        *at += 2;
        return (uint32_t)(c[0] & 0x1f) << 6 | (c[1] & 0x3f);
    }
    if (c[0] < 0xf0) {
        *at += 3;
        return (uint32_t)(c[0] & 0x0f) << 12 | (uint32_t)(c[1] & 0x3f) << 6 | (c[2] & 0x3f);
    }
    *at += 4;
    return (uint32_t)(c[0] & 0x07) << 18 | (uint32_t)(c[1] & 0x3f) << 12 | (uint32_t)(c[2] & 0x3f) << 6 | (c[3] & 0x3f);
}

enum status utf8_add(struct text *t, uint32_t character)
{
    char b[4];
    size_t n;
    if (character < 0x80)
        n = 1, b[0] = (char)character;
    else if (character < 0x800)
        n = 2, b[0] = (char)(0xc0 | character >> 6);
    else if (character < 0x10000)
        n = 3, b[0] = (char)(0xe0 | character >> 12);
    else
        n = 4, b[0] = (char)(0xf0 | character >> 18);
    for (size_t i = 1; i < n; i++) b[i] = (char)(0x80 | (character >> 6 * (n - 1 - i) & 0x3f));
    return text_add(t, b, n);
}

/* Bytes of the character at s, or minus the length of the longest start of one that stands there, at least 1: the
 * "maximal subpart" by which Unicode counts replacement characters. */
static int utf8_length(const unsigned char *s, size_t n)
{
    unsigned char low = 0x80, high = 0xbf;
    int length, i;
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4) return -1;
    length = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] == 0xe0) low = 0xa0;
    if (s[0] == 0xed) high = 0x9f;
    if (s[0] == 0xf0) low = 0x90;
    if (s[0] == 0xf4) high = 0x8f;
    for (i = 1; i < length; i++, low = 0x80, high = 0xbf)
        if ((size_t)i == n || s[i] < low || s[i] > high) return -i;
    return length;
}

size_t utf8_valid(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        int k = (unsigned char)s[i] < 0x80 ? 1 : utf8_length((const unsigned char *)s + i, n - i);
        if (k < 0) break;
        i += (size_t)k;
    }
    return i;
}

enum status utf8_repair(struct text *t, const char *s, size_t n)
{
    enum status st = OK;
    size_t i = 0;
    while (i < n) {
        size_t good = utf8_valid(s + i, n - i);
        TRY(text_add(t, s + i, good));
        i += good;
        if (i == n) break;
        TRY(utf8_add(t, 0xfffd));
        i += (size_t)-utf8_length((const unsigned char *)s + i, n - i);
    }
done:
    return st;
}

size_t utf8_count(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

bool utf8_is_space(uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

void pieces_clear(struct pieces *p)
{
    p->bytes.n = p->n = 0;
    p->head = 0;
}

enum status pieces_close(struct pieces *p)
{
    enum status st = OK;
    if (p->n == p->room) TRY(memory_grow((void **)&p->end, &p->room, p->n + 1, sizeof *p->end));
    if (!p->bytes.data) TRY(text_add(&p->bytes, "", 0));
    p->end[p->n++] = p->bytes.n;
done:
    return st;
}

void pieces_free(struct pieces *p)
{
    if (!p) return;
    text_free(&p->bytes);
    free(p->end);
    *p = (struct pieces){0};
}
