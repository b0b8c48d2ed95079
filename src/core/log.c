/* The log of a run: lines to standard output and to run.log, flushed; warnings are repeated at the end. */
#include "unlearn/core.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static FILE *file;
static char *name;  /* of the file */
static int trouble; /* errno of the first line that the file did not take */
static bool silent;
static struct text warnings;
static size_t n_warnings;

static enum status to_file(const char *path, FILE *f)
{
    if (!f) return fail(ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    file = f;
    name = text_copy(path);
    trouble = 0;
    return OK;
}

enum status log_open(const char *path, bool quiet)
{
    silent = quiet;
    return path ? to_file(path, fopen(path, "wx")) : OK;
}

enum status log_continue(const char *path, size_t bytes)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
    struct stat s;
    enum status st;
    FILE *f = NULL;
    if (fd >= 0 && !fstat(fd, &s) && (bytes >= (size_t)s.st_size || !truncate_fd(fd, (off_t)bytes))) f = fdopen(fd, "a");
    st = to_file(path, f);
    if (!f && fd >= 0) close(fd);
    return st;
}

size_t log_bytes(void)
{
    struct stat s;
    return file && !fstat(fileno(file), &s) ? (size_t)s.st_size : 0;
}

static void put(const char *line)
{
    if (silent) return;
    puts(line);
    (void)fflush(stdout); /* main.c asks at the end */
    if (!file) return;
    errno = 0;
    if ((fprintf(file, "%s\n", line) < 0 || fflush(file)) && !trouble) trouble = errno ? errno : EIO;
}

enum status log_close(void)
{
    enum status st = OK;
    if (n_warnings) {
        char head[64];
        snprintf(head, sizeof head, "%zu warning%s:", n_warnings, n_warnings == 1 ? "" : "s");
        put(head);
        warnings.data[warnings.n - 1] = 0;
        put(warnings.data);
    }
    text_free(&warnings);
    n_warnings = 0;
    errno = 0;
    if (file && fclose(file) && !trouble) trouble = errno ? errno : EIO;
    if (trouble)
        st = fail(ERR_IO, "%s: cannot be written: %s: lines are missing", name ? name : "log", strerror(trouble));
    free(name);
    file = NULL, name = NULL, trouble = 0;
    return st;
}

void log_info(const char *format, ...)
{
    struct text line = {0};
    va_list args;
    int n;
    char small[512], *big = small;
    va_start(args, format);
    n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n >= (int)sizeof small && text_print(&line, "%*s", n, "") == OK) {
        va_start(args, format);
        vsnprintf(line.data, (size_t)n + 1, format, args);
        va_end(args);
        big = line.data;
    }
    put(big);
    text_free(&line);
}

void log_warn(const char *format, ...)
{
    char raw[1024], line[2 * sizeof raw];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    quote_controls(raw, line, sizeof line);
    if (text_print(&warnings, "warning: %s\n", line) == OK) n_warnings++;
    log_info("warning: %s", line);
}

size_t log_warnings(void) { return n_warnings; }
