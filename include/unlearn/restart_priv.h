/* Private to the room restart: manifest.json, and the files it names. */
#ifndef UNLEARN_RESTART_PRIV_H
#define UNLEARN_RESTART_PRIV_H
#include "unlearn/restart.h"
#include "unlearn/weights.h"

enum { FORMAT = 2, FORMAT_OF_ONE_PART = 1 }; /* which had one hash of each file */
enum { RULES = 2 };                          /* how the input is read: see config_as_before() */
#define INPUT_RULES "input_rules"

/** Hashes of the content of models and data, by the keys that name them.                                        Local. */
enum status manifest_content(const struct subject *s, json_t **out);
/** Writes DIR/manifest.json: what DIR holds, with sizes and hashes, and what the run was. `written`: for each value that is
 *  saved.                                                                                                        Local. */
enum status manifest_write(const char *dir, struct training *t, size_t step, size_t log_bytes,
                           const struct result_rows *rows, const struct written written[MOST_SAVED]);
/** Adds the files of DIR/SUB to the manifest's. ERR_IO: the parts do not make whole files. */
enum status files_add(json_t *files, const char *dir, const char *sub, const struct written *written);
/** Whether the file NAME of DIR is what its entry in the manifest says; `why` says why not.                      Local. */
bool file_sound(const char *dir, const char *name, const json_t *entry, struct text *why);
json_t *hash_json(uint64_t hash); /* as a manifest has it; NULL: no memory */
/** What decides the last bit of the numbers beside the input: processes, threads, passes, the BLAS library's kernels. */
json_t *manifest_layout(const struct plan *p);
/** Reads and checks it: format, precision, every file's size and hash. ERR_INPUT says what is wrong with DIR; *sound false
 *  with OK: it is damaged, and `why` says how.                                                                  Local. */
enum status manifest_read(const char *dir, size_t step, json_t **out, bool *sound, struct text *why);
/** "first moment" -> "first_moment" */
enum status state_directory(const char *dir, const char *name, char **path);
#endif
