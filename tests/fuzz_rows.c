/* fuzz: files of JSON Lines, as every reader of rows takes them: rows, plain text, answers under another key, choices,
 * prompts, refusals. What is accepted has ids that the model knows, and goes from one process to another as it is. */
#define _GNU_SOURCE
#include "fuzz_json.h"
#include "unlearn/data.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORDS = 300, LONGEST = 40 };
static size_t longest = LONGEST; /* tokens of a row, with an end token that may stand beyond it */

/* A token for each byte, and no other. */
static struct tokenizer *bytes_alone(void)
{
    static struct tokenizer *t;
    struct text json = {0};
    if (t) return t;
    must(text_print(&json,
                    "{\"model\": {\"type\": \"BPE\", \"byte_fallback\": true, \"unk_token\": \"<u>\", \"merges\": [], "
                    "\"vocab\": {\"<u>\": 0") == OK);
    for (int i = 0; i < 256; i++) must(text_print(&json, ", \"<0x%02X>\": %d", i, i + 1) == OK);
    must(text_print(&json, "}}}") == OK);
    must(tokenizer_parse("tokenizer.json", json.data, json.n, &t) == OK);
    text_free(&json);
    return t;
}

static void check(const struct dataset *d)
{
    unsigned char *packed;
    struct dataset *other;
    size_t n;
    must(d->n_row && !d->first[0] && d->n_cut <= d->n_row && d->n_unlabelled <= d->n_row);
    for (size_t i = 0; i < d->n_row; i++) {
        must(d->first[i] < d->first[i + 1] && dataset_length(d, i) <= longest);
        must(dataset_labels(d, i) < dataset_length(d, i));
    }
    for (size_t i = 0; i < d->first[d->n_row]; i++) {
        must(d->id[i] >= 0 && d->id[i] < WORDS);
        must(d->label[i] == LABEL_NONE || d->label[i] == d->id[i]);
    }
    must(dataset_pack(d, &packed, &n) == OK);
    must(dataset_unpack(packed, n, &other) == OK);
    must(other->hash == d->hash && other->n_row == d->n_row && other->hide == d->hide);
    dataset_free(other);
    free(packed);
}

static void read_prompts(const struct data_file *f, const struct data_rule *rule, size_t rows)
{
    struct prompts p;
    if (accepted(prompts_read(f, rule, rows, &p))) {
        must(p.n == rows && p.first[rows] == p.id.n);
        for (size_t i = 0; i < p.id.n; i++) must(p.id.data[i] >= 0 && p.id.data[i] < WORDS);
        for (size_t i = 0; i < rows && f->continues; i++) must(p.first[i] < p.first[i + 1]);
    }
    prompts_free(&p);
}

static void read_variants(const struct data_file *f, const struct data_rule *rule)
{
    struct variants v;
    if (accepted(variants_read(f, rule, &v))) {
        must(v.n && !v.first[0] && v.n_lacking <= v.n);
        must(v.data ? v.first[v.n] == v.data->n_row : !v.first[v.n]);
        if (v.data) check(v.data);
        for (size_t i = 0; i < v.n && f->single; i++) must(v.first[i + 1] - v.first[i] <= 1);
    }
    variants_free(&v);
}

/* As many right choices as rows, each among its row's. */
static void read_choices(const struct data_file *f, const struct data_rule *rule)
{
    struct variants v = {0};
    size_t *right = NULL;
    if (accepted(choices_read(f, rule, &v, &right))) {
        must(v.n && !v.first[0] && v.data && v.first[v.n] == v.data->n_row);
        for (size_t i = 0; i < v.n; i++) must(right[i] < v.first[i + 1] - v.first[i]);
        check(v.data);
    }
    variants_free(&v);
    free(right);
}

/* Of the JSON of one line. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned seed)
{
    size_t begin = n ? seed / 8 % n : 0, end, length;
    uint8_t line[8192];
    while (begin && bytes[begin - 1] != '\n') begin--;
    for (end = begin; end < n && bytes[end] != '\n';) end++;
    if (seed % 4 == 0 || end - begin > sizeof line) return LLVMFuzzerMutate(bytes, n, most);
    memcpy(line, bytes + begin, end - begin);
    length = mutate_json(line, end - begin, sizeof line, seed / 8);
    if (!length || begin + length + (n - end) > most) return LLVMFuzzerMutate(bytes, n, most);
    memmove(bytes + begin + length, bytes + end, n - end);
    memcpy(bytes + begin, line, length);
    return begin + length + (n - end);
}

static void read_all(const char *path, const struct data_rule *rule)
{
    struct data_file f = {.path = path, .question = "question", .answer = "answer", .rows = SIZE_MAX};
    struct dataset *d;
    if (accepted(dataset_read(&f, rule, &d))) {
        check(d);
        read_prompts(&f, rule, d->n_row);
        f.continues = true;
        read_prompts(&f, rule, d->n_row);
    }
    dataset_free(d);
    read_variants(&f, rule);
    f.single = true;
    read_variants(&f, rule);
    read_choices(&f, rule);
    if (accepted(dataset_read_replaced(&f, path, NULL, NULL, rule, &d))) check(d);
    dataset_free(d);
    f.text = "question";
    must(!accepted(dataset_read_replaced(&f, path, NULL, NULL, rule, &d)));
    if (accepted(dataset_read(&f, rule, &d))) check(d);
    dataset_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static int fd = -1;
    char path[64];
    struct data_rule rule = {.tokenizer = bytes_alone(),
                             .template = {.question_start = "Q: ", .question_end = "\n", .answer_start = "A: "},
                             .max_length = LONGEST,
                             .eos = 0,
                             .vocabulary = WORDS};
    if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    must(fd >= 0 && !ftruncate(fd, 0) && pwrite(fd, bytes, n, 0) == (ssize_t)n);
    read_all(path, &rule);
    rule.template = (struct template){
        .prompt_end = "Q", .answer_end = "E", .trim = TRIM_QUESTION | TRIM_ANSWER, .own_tokens = true, .blocks = true};
    rule.bos = 1, rule.front = rule.end = ADD_ALWAYS, rule.end_unlabelled = true;
    read_all(path, &rule);
    rule.end_beyond = true, rule.hide = 1, longest++;
    read_all(path, &rule);
    longest--;
    return 0;
}
