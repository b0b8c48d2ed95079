/* Read before each file by `make analyse`: what an analyser, which sees one file at a time, cannot know of the others.
 * fail() is never OK, and grid_agree() only where its status is: behind TRY() there is what was asked for. */
#include "unlearn/core.h"
#include "unlearn/parallel.h"
#define fail(st, ...) ((fail)(st, __VA_ARGS__), (st))
#define grid_agree(g, st)                                \
    __extension__({                                      \
        const enum status own_status_ = (st);            \
        enum status all_ = (grid_agree)(g, own_status_); \
        own_status_ == OK ? all_ : own_status_;          \
    })
