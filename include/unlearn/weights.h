/* weights: the tensors of a model on disk - safetensors files and the directories that hold them - into states and back. */
#ifndef UNLEARN_WEIGHTS_H
#define UNLEARN_WEIGHTS_H
#include "unlearn/core.h"
#include "unlearn/parallel.h"
#include "unlearn/state.h"

/** Where the shape ties lm_head to the embedding but the files of DIR hold a head with other values, the files count, as in
 *  transformers: the shape has a head of its own from now on, also in its config.json, and a warning says so.
 *                                                                                               Collective over grid. */
enum status shape_untie(const char *dir, const struct grid *g, struct shape *s);
/** Whether DIR has files of weights that can be read, by their names; ERR_INPUT names what stands there instead, and what to
 *  do.                                                                                                          Local. */
enum status weights_present(const char *dir);
/** Whether the files of DIR have every tensor of the model with its shape and a type that can be read, from their headers
 *  alone: nothing is allocated by the sizes of config.json.                                                       Local. */
enum status weights_check(const char *dir, const struct layout *l);
/** Whether they have all of it in bfloat16: held so it is what they say. Also false where weights_check() fails.         Local. */
bool weights_are_half(const char *dir, const struct layout *l);
enum {
    WEIGHTS_READ_BYTES = 16 << 20, /* that weights_read() takes on top of the state, for as long as it lasts */
    WEIGHTS_WRITE_BYTES = (2 << 18) * sizeof(real) + (1 << 20) /* and what writes a state */
};
/** Opens DIR/model.safetensors or DIR/model.safetensors.index.json, checks every header against `l` (names, shapes, types,
 *  offsets) and reads this process's slices: the first data rank reads, the others receive. A NaN or Inf is ERR_INPUT
 *  naming tensor and element. hash (may be NULL) receives a hash of the values, equal on every process and for
 *  every layout.                                                                                Collective over grid. */
enum status weights_read(const char *dir, const struct grid *g, struct state *weights, uint64_t *hash);
/** Initial weights of a model trained from scratch: normal(0, initializer_range, default 0.02), norms 1, biases 0; a
 *  function of the seed and the global element alone.                                                            Local. */
void weights_random(const struct shape *s, uint64_t seed, struct state *weights);
/** Writes an HF directory: safetensors (sharded above 5 GB with an index), config.json, generation_config.json where the
 *  source has one, and the tokenizer files of `source`. Files appear under their names only when complete.
 *                                                                                               Collective over grid. */
enum status weights_write(const char *dir, const char *source, const struct grid *g, struct state *weights,
                          enum storage storage);
/* Runs of bytes that were written to files of a directory, hashed on their way. {0} is empty. */
struct written {
    struct written_part {
        char file[64];
        uint64_t at, bytes, hash;
    } * part;
    size_t n, room;
};
/** weights_write() without a source. `written`, empty, gets on rank 0 all parts of all files: by name, from start to end.
 *                                                                                                Collective over grid. */
enum status weights_write_hashed(const char *dir, const struct grid *g, struct state *weights, enum storage storage,
                                 struct written *written);
void written_free(struct written *w);
#endif
