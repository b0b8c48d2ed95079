/* A state -> an HF directory. World rank 0 makes the files with their headers; then every data rank writes a run of the
 * tensors, each into its place: its tensor ranks write what they count as theirs, where that is whole rows as the file
 * wants them; else they send it to the first one, some rows of the file at a time, so that no process ever holds a whole
 * tensor for this. A failed write ends the writing, not the messages.                                                  */
#include "unlearn/weights_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_REALS = 256 << 10 }; /* stays in cache between its copies */
static const uint64_t FILE_BYTES = 5000000000u;
static const char *const carried[] = {"generation_config.json",
                                      "tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "vocab.json",
                                      "merges.txt",
                                      "tokenizer.model",
                                      "chat_template.jinja"};

/* ------------------------------------------------------------------------------------------------------- gathering ----- */
/* Rows first ... first+n-1 of one tensor in the file at a time. The writer of a data rank is its first tensor rank. */
struct gather {
    const struct grid *grid;
    struct layout **of;   /* [tensor_size] everybody's layout */
    real *rows, *parcel;  /* [room] whole rows, the writer's; what one rank has of them */
    unsigned char *bytes; /* [room] elements as they are stored, the writer's */
    size_t room;
};

static bool is_writer(const struct grid *g) { return g->tensor_rank == 0; }

static enum status gather_new(size_t buffer, const struct grid *g, const struct layout *l, enum storage storage,
                              struct gather *out)
{
    enum status st = OK;
    *out = (struct gather){.grid = g, .room = buffer};
    for (size_t i = 0; i < l->n_param; i++)
        if (param_file_cols(&l->param[i]) > out->room) out->room = param_file_cols(&l->param[i]);
    TRY_NEW(out->of, (size_t)g->tensor_size);
    for (int t = 0; t < g->tensor_size; t++) TRY(layout_new(l->shape, t, g->tensor_size, &out->of[t]));
    TRY_NEW(out->parcel, out->room);
    if (!is_writer(g)) goto done;
    TRY_NEW(out->rows, out->room);
    TRY_NEW(out->bytes, out->room * storage_size(storage));
done:
    return st;
}

static void gather_free(struct gather *g)
{
    for (int t = 0; g->of && t < g->grid->tensor_size; t++) layout_free(g->of[t]);
    free(g->of);
    free(g->rows);
    free(g->parcel);
    free(g->bytes);
}

static bool given(struct matrix own) { return own.full || own.half; }

/* parcel() of a tensor whose columns are the file's rows. */
static size_t parcel_transposed(const struct param *p, size_t first, size_t n, struct matrix own, real *rows,
                                real *packed)
{
    const size_t begin = first > p->col_first ? first : p->col_first, last = p->col_first + p->col_count,
                 end = first + n < last ? first + n : last;
    size_t size = 0;
    for (size_t i = p->own_first; i < p->own_first + p->own_count; i++) {
        const size_t row = param_global_row(p, i);
        for (size_t c = begin; c < end; c++, size++) {
            if (given(own)) packed[size] = matrix_get(own, i * p->col_count + c - p->col_first);
            if (rows) rows[(c - first) * p->rows + row] = packed[size];
        }
    }
    return size;
}

/* What a process counts as its own of those rows, in local order: to a parcel when `own` (its part of the tensor) is given,
 * from a parcel to `rows` when that is. Returns the size of the parcel. */
static size_t parcel(const struct param *p, size_t first, size_t n, struct matrix own, real *rows, real *packed)
{
    size_t size = 0;
    if (p->transposed) return parcel_transposed(p, first, n, own, rows, packed);
    for (size_t i = p->own_first; i < p->own_first + p->own_count; i++) {
        const size_t row = param_global_row(p, i);
        if (row < first || row >= first + n) continue;
        if (given(own)) held_copy(p->col_count, matrix_at(own, i * p->col_count), reals(packed + size));
        if (rows) math_copy(p->col_count, packed + size, rows + (row - first) * p->cols + p->col_first);
        size += p->col_count;
    }
    return size;
}

/* The same call on every tensor rank of a data rank; `own` is its part of tensor i. */
static void gather_rows(const struct gather *g, const struct param *p, size_t i, size_t first, size_t n,
                        struct matrix own)
{
    size_t size = parcel(p, first, n, own, NULL, g->parcel);
    if (!is_writer(g->grid)) {
        if (size) comm_send(g->grid->tensor, g->parcel, size * sizeof(real), 0, 0);
        return;
    }
    parcel(p, first, n, reals(NULL), g->rows, g->parcel);
    for (int t = 1; t < g->grid->tensor_size; t++) {
        const struct param *theirs = &g->of[t]->param[i];
        if (!(size = parcel(theirs, first, n, reals(NULL), NULL, NULL))) continue;
        comm_receive(g->grid->tensor, g->parcel, size * sizeof(real), t, 0);
        parcel(theirs, first, n, reals(NULL), g->rows, g->parcel);
    }
}

/* ----------------------------------------------------------------------------------------------------------- files ----- */
struct plan { /* which tensor goes to which file, where, and who writes it */
    size_t n_file;
    size_t *file_of;     /* [n_param] */
    uint64_t *at;        /* [n_param] bytes from the start of its file */
    int *data_rank;      /* [n_param] */
    struct text *header; /* [n_file] what each file begins with */
    uint64_t total;      /* bytes of all tensors */
    enum storage storage;
};

static uint64_t bytes_of(const struct plan *plan, const struct param *p)
{
    return (uint64_t)p->rows * p->cols * storage_size(plan->storage);
}

static uint64_t bytes_of_tensor(const struct plan *plan, const struct param *p)
{
    return (uint64_t)p->tensor_rows * p->cols * storage_size(plan->storage);
}

static enum status plan_new(const struct layout *l, enum storage storage, uint64_t most, int data_size, struct plan *plan)
{
    enum status st = OK;
    uint64_t size = 0, before = 0;
    *plan = (struct plan){.n_file = 1, .storage = storage};
    TRY_NEW(plan->file_of, l->n_param);
    TRY_NEW(plan->at, l->n_param);
    TRY_NEW(plan->data_rank, l->n_param);
    for (size_t i = 0; i < l->n_param; i++) {
        const uint64_t n = l->param[i].goes_on ? 0 : bytes_of_tensor(plan, &l->param[i]);
        if (size && n > most - size) plan->n_file++, size = 0;
        size = size + n < most ? size + n : most;
        plan->total += n;
        plan->file_of[i] = plan->n_file - 1;
    }
    TRY_NEW(plan->header, plan->n_file);
    for (size_t i = 0; i < l->n_param; i++) { /* runs of about equal bytes, by the middle of each tensor */
        const uint64_t n = bytes_of(plan, &l->param[i]);
        plan->data_rank[i] = (int)(((double)before + 0.5 * (double)n) / (double)plan->total * data_size);
        before += n;
    }
done:
    return st;
}

static void plan_free(struct plan *plan)
{
    for (size_t i = 0; plan->header && i < plan->n_file; i++) text_free(&plan->header[i]);
    free(plan->file_of), free(plan->at), free(plan->data_rank), free(plan->header);
}

static const char *file_name(const struct plan *plan, size_t file, char buffer[64])
{
    if (plan->n_file == 1)
        snprintf(buffer, 64, "model.safetensors");
    else
        snprintf(buffer, 64, "model-%05zu-of-%05zu.safetensors", file + 1, plan->n_file);
    return buffer;
}

static json_t *header_entry(const struct plan *plan, const struct param *p, uint64_t at)
{
    json_t *shape = p->vector ? json_pack("[I]", (json_int_t)p->rows)
                              : json_pack("[II]", (json_int_t)param_file_rows(p), (json_int_t)param_file_cols(p));
    return json_pack("{s:s, s:o, s:[II]}", "dtype", safetensors_type(plan->storage), "shape", shape, "data_offsets",
                     (json_int_t)at, (json_int_t)(at + bytes_of_tensor(plan, p)));
}

/* Length, JSON, and spaces that make the tensors begin at a multiple of 8; and so where each of them stands. */
static enum status header_text(struct plan *plan, size_t file, const struct layout *l, struct text *out)
{
    enum status st = OK;
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    struct text t = {0};
    char *json = NULL, length[8];
    uint64_t at = 0;
    int failed = 0;
    for (size_t i = 0; i < l->n_param; i++) {
        if (plan->file_of[i] != file) continue;
        if (!l->param[i].goes_on)
            failed |= json_object_set_new(header, l->param[i].name, header_entry(plan, &l->param[i], at));
        plan->at[i] = at;
        at += bytes_of(plan, &l->param[i]);
    }
    if (failed || !(json = json_text(header, JSON_COMPACT))) {
        st = fail(ERR_MEMORY, "memory: cannot allocate the header of a file of weights");
        goto done;
    }
    TRY(text_print(&t, "%s%*s", json, (int)(7 - (strlen(json) + 7) % 8), ""));
    for (int i = 0; i < 8; i++) length[i] = (char)((uint64_t)t.n >> 8 * i);
    TRY(text_add(out, length, sizeof length));
    TRY(text_add(out, t.data, t.n));
    for (size_t i = 0; i < l->n_param; i++)
        if (plan->file_of[i] == file) plan->at[i] += out->n;
done:
    json_decref(header);
    free(json);
    text_free(&t);
    return st;
}

/* Every file with its header, on rank 0; where the tensors stand, on every writer. */
static enum status begin_files(struct export *e, struct plan *plan, const struct layout *l, bool first)
{
    char name[64];
    enum status st = OK;
    for (size_t file = 0; file < plan->n_file; file++) {
        struct text *header = &plan->header[file];
        TRY(header_text(plan, file, l, header));
        if (first) TRY(export_text(e, file_name(plan, file, name), header->data, header->n));
    }
done:
    return st;
}

static enum status write_index(struct export *e, const struct plan *plan, const struct layout *l)
{
    enum status st = OK;
    char name[64];
    json_t *map = json_object();
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)plan->total, "weight_map", map);
    int failed = !index;
    for (size_t i = 0; i < l->n_param && !failed; i++)
        failed = json_object_set_new(map, l->param[i].name, json_string(file_name(plan, plan->file_of[i], name)));
    if (failed) st = fail(ERR_MEMORY, "%s: no memory for the index of the weights", e->dir);
    if (st == OK) st = export_json(e, "model.safetensors.index.json", index);
    json_decref(index);
    return st;
}

static enum status write_config(struct export *e, const struct shape *s, enum storage storage)
{
    static const char *const name[N_STORAGE] = {
        [STORE_F32] = "float32", [STORE_BF16] = "bfloat16", [STORE_F16] = "float16", [STORE_F64] = "float64"};
    const bool old = json_object_get(s->json, "torch_dtype"), new = json_object_get(s->json, "dtype") || !old;
    json_t *config = json_deep_copy(s->json);
    enum status st;
    if (old) json_object_set_new(config, "torch_dtype", json_string(name[storage]));
    if (new) json_object_set_new(config, "dtype", json_string(name[storage]));
    st = config ? export_json(e, "config.json", config) : fail(ERR_MEMORY, "%s: no memory for config.json", e->dir);
    json_decref(config);
    return st;
}

/* --------------------------------------------------------------------------------------------------------- weights ----- */
static enum status write_small(struct export *e, const char *source, const struct shape *s, enum storage storage)
{
    enum status st = OK;
    TRY(write_config(e, s, storage));
    for (size_t i = 0; source && i < sizeof carried / sizeof *carried; i++) TRY(export_copy(e, source, carried[i]));
done:
    return st;
}

/* Every process has whole rows of tensor i, and in memory they are what the file wants: nothing is to be sent or copied. A
 * process alone puts rows that do not follow each other in order first, which makes one run of bytes. */
static bool as_in_file(const struct gather *g, enum storage storage, size_t i)
{
    if (storage != (sizeof(real) == 8 ? STORE_F64 : STORE_F32)) return false;
    for (int t = 0; t < g->grid->tensor_size; t++) {
        const struct param *p = &g->of[t]->param[i];
        if (p->transposed || p->col_count != p->cols) return false;
    }
    return g->grid->tensor_size > 1 || g->of[0]->param[i].n_piece == 1;
}

/* The rows that this process counts as its own, as many at a time as follow each other in the file. */
static enum status write_own(struct export_part *out, const struct param *p, uint64_t at, size_t row_bytes,
                             const real *own)
{
    const size_t end = p->own_first + p->own_count;
    enum status st = OK;
    for (size_t i = p->own_first, n; i < end && st == OK; i += n) {
        const size_t row = param_global_row(p, i);
        for (n = 1; i + n < end && param_global_row(p, i + n) == row + n;) n++;
        st = export_part_bytes(out, at + row * row_bytes, own + i * p->col_count, n * row_bytes);
    }
    return st;
}

/* One tensor: gathers always, writes as long as st is OK. */
static enum status write_tensor(struct export_part *out, const struct gather *g, const struct plan *plan,
                                const struct param *p, size_t i, struct matrix own, enum status st)
{
    const size_t rows = param_part_rows(p), cols = param_file_cols(p), most = g->room / cols;
    const size_t row_bytes = cols * storage_size(plan->storage);
    char name[64];
    const bool all_write = as_in_file(g, plan->storage, i);
    if ((all_write || is_writer(g->grid)) && st == OK)
        st = export_part_open(out, file_name(plan, plan->file_of[i], name));
    if (all_write) return st == OK ? write_own(out, p, plan->at[i], row_bytes, own.full) : st;
    for (size_t first = 0, n; first < rows; first += n) {
        n = rows - first < most ? rows - first : most;
        gather_rows(g, p, i, first, n, own);
        if (!is_writer(g->grid) || st != OK) continue;
        storage_save(plan->storage, n * cols, g->rows, g->bytes);
        st = export_part_bytes(out, plan->at[i] + first * row_bytes, g->bytes, n * row_bytes);
    }
    return st;
}

/* This data rank's tensors. */
static enum status write_share(struct export_part *out, const struct gather *g, const struct plan *plan,
                               struct state *weights)
{
    const struct layout *l = weights->layout;
    enum status st = OK, closed;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct tensors t = state_acquire(weights, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++)
            if (plan->data_rank[i] == g->grid->data_rank)
                st = write_tensor(out, g, plan, &l->param[i], i, tensors_values(&t, &l->param[i]), st);
        state_release(weights, layer);
    }
    closed = export_part_close(out);
    return st == OK ? closed : st;
}

/* The index, then everything under its name; weights of the other kind would be read instead. */
static enum status finish(struct export *e, const struct plan *plan, const struct layout *l)
{
    enum status st = OK;
    char *other = NULL;
    if (plan->n_file > 1) TRY(write_index(e, plan, l));
    TRY(export_commit(e));
    TRY(path_join(e->dir, plan->n_file > 1 ? "model.safetensors" : "model.safetensors.index.json", &other));
    unlink(other);
done:
    free(other);
    return st;
}

static enum status write_noted(size_t buffer, uint64_t file, const char *dir, const char *source, const struct grid *g,
                               struct state *weights, enum storage storage, struct written *written)
{
    enum status st = OK;
    const struct layout *l = weights->layout;
    struct export e = {.fd = -1, .written = written};
    struct export_part part = {.dir = dir, .fd = -1, .written = written};
    struct plan plan = {0};
    struct gather room = {0};
    TRY(grid_agree(g, gather_new(buffer, g, l, storage, &room)));
    TRY(grid_agree(g, plan_new(l, storage, file, g->data_size, &plan)));
    if (!g->rank && (st = export_open(dir, &e)) == OK) st = write_small(&e, source, l->shape, storage);
    if (st == OK) st = begin_files(&e, &plan, l, !g->rank);
    TRY(grid_agree(g, st));
    TRY(grid_agree(g, write_share(&part, &room, &plan, weights)));
    TRY(grid_agree(g, g->rank ? OK : finish(&e, &plan, l)));
    if (written) TRY(written_gather(g, written));
done:
    export_end(&e);
    file_hash_end(&part.hash);
    gather_free(&room);
    plan_free(&plan);
    return st;
}

enum status weights_write_by(size_t buffer, uint64_t file, const char *dir, const char *source, const struct grid *g,
                             struct state *weights, enum storage storage)
{
    return write_noted(buffer, file, dir, source, g, weights, storage, NULL);
}

enum status weights_write_hashed(const char *dir, const struct grid *g, struct state *weights, enum storage storage,
                                 struct written *written)
{
    return write_noted(BUFFER_REALS, FILE_BYTES, dir, NULL, g, weights, storage, written);
}

enum status weights_write(const char *dir, const char *source, const struct grid *g, struct state *weights,
                          enum storage storage)
{
    return weights_write_by(BUFFER_REALS, FILE_BYTES, dir, source, g, weights, storage);
}
