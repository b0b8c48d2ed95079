/* state, for its own files: who keeps which heads. */
#ifndef UNLEARN_STATE_PRIV_H
#define UNLEARN_STATE_PRIV_H
#include "unlearn/state.h"

/** Whether key-value head h is kept by more than one of the tensor ranks.                                         Local. */
bool layout_kv_shared(const struct shape *s, int tensor_size, size_t h);
/** Whether the rows of p are those of key-value heads, head after head.                                       Local. */
bool param_by_kv_heads(const struct layout *l, const struct param *p);
#endif
