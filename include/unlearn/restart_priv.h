/* Private to the room restart: manifest.json. */
#ifndef UNLEARN_RESTART_PRIV_H
#define UNLEARN_RESTART_PRIV_H
#include "unlearn/restart.h"
#include "unlearn/weights.h"

enum { FORMAT = 1 };

/** Hashes of the content of models and data, by the keys that name them.                                        Local. */
enum status manifest_content(const struct subject *s, json_t **out);
/** Writes DIR/manifest.json: what DIR holds, with sizes and hashes, and what the run was.                        Local. */
enum status manifest_write(const char *dir, struct training *t, size_t step, size_t log_bytes,
                           const struct result_rows *rows, const struct written *written);
/** What decides the last bit of the numbers beside the input: processes, threads, passes, the BLAS library's kernels. */
json_t *manifest_layout(const struct plan *p);
/** Reads and checks it: format, precision, every file's size and hash. ERR_INPUT says what is wrong with DIR; *sound false
 *  with OK: it is damaged, and `why` says how.                                                                  Local. */
enum status manifest_read(const char *dir, size_t step, json_t **out, bool *sound, struct text *why);
/** "first moment" -> "first_moment" */
enum status state_directory(const char *dir, const char *name, char **path);
#endif
