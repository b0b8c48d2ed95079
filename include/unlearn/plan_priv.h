/* Private to the room plan. */
#ifndef UNLEARN_PLAN_PRIV_H
#define UNLEARN_PLAN_PRIV_H
#include "unlearn/plan.h"

/** What demand_call() counts with, for the layout that p has; free it also after an error.                       Local. */
enum status counter_new(const struct inputs *in, struct timetable *s, const struct layout *l, const struct plan *p,
                        struct counter **out);
void counter_free(struct counter *k);
/** Adds the states that a part demands to those of all, and counts the most that are alive at a time.            Local. */
void demand_join(const struct demand *d, struct demand *all);
/** Sets the sizes of passes, memory and work of p, on the layout that it has, for these parts; way NULL: what else there is to choose
 *  is chosen, by the memory.                                                                                    Local. */
enum status plan_sizes(const struct inputs *in, struct timetable *s, const struct machine *m, size_t n_part,
                       const struct part *const *part, const struct way *way, struct plan *p);
/** Sets p->halves, from p->all.held. ERR_MEMORY.                                                                 Local. */
enum status plan_halves(const struct inputs *in, struct plan *p);
#endif
