/* Statuses and the message of the first failure of this process. */
#include "unlearn/core.h"
#include <stdio.h>
#include <string.h>

enum { MESSAGE_ROOM = 2048 };
static char message[MESSAGE_ROOM];

int status_exit(enum status st)
{
    switch (st) {
#define X(name, code, text) \
    case name:              \
        return code;
        STATUS_LIST(X)
#undef X
    }
    return 3;
}

const char *status_text(enum status st)
{
    switch (st) {
#define X(name, code, text) \
    case name:              \
        return text;
        STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

void quote_controls(const char *from, char *to, size_t room)
{
    size_t used = 0;
    for (; *from && used + 5 < room; from++) {
        unsigned char c = (unsigned char)*from;
        if (c < 0x20 || c == 0x7f)
            used += (size_t)snprintf(to + used, room - used, "\\x%02x", c);
        else
            to[used++] = *from;
    }
    to[used] = 0;
}

#undef fail /* a macro in `make analyse` */
enum status fail(enum status st, const char *format, ...)
{
    char raw[MESSAGE_ROOM];
    va_list args;
    if (message[0]) return st;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    quote_controls(raw, message, sizeof message);
    return st;
}

const char *fail_message(void) { return message; }
void fail_clear(void) { message[0] = 0; }
