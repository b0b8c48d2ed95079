/* Seconds of an update and of a measurement, from the work of one process and the rates of a machine. */
#include "unlearn/plan_priv.h"

/* Attention's products are of single heads, whose rows are short: they reach about a third of the rate. For rows of a hundred tokens
 * it is a few hundredths of the work. */
static const double ATTENTION_SHARE = 0.35;

/* Neighbours are tensor ranks; nodes are filled one after the other. */
bool plan_crosses(const struct plan *p, enum link link)
{
    const int ranks = p->data * p->tensor, node = p->node_processes;
    if (ranks <= node) return false;
    return link == LINK_DATA ? p->data > 1 : p->tensor > node || node % p->tensor != 0;
}

/* Bytes/s of one process over this link: a ring of processes crosses from each node to the next once, and all groups of a node
 * that do so share what the node sends. */
static double link_rate(const struct plan *p, enum link link, const struct rates *r)
{
    const int together = p->tensor < p->node_processes ? p->tensor : p->node_processes;
    if (!plan_crosses(p, link)) return r->link;
    return link == LINK_DATA ? r->network / together : r->network;
}

double plan_seconds(const struct plan *p, enum occasion of, const struct rates *r)
{
    const struct work *w = &p->all.work[of];
    double seconds = (w->products + w->attention / ATTENTION_SHARE) / r->flops + w->touched / r->bandwidth;
    for (enum link link = 0; link < N_LINK; link++) {
        const double rate = link_rate(p, link, r);
        if (rate > 0) seconds += plan_sent(p, of, link) / rate;
        seconds += w->sums[link] * r->latency;
    }
    return seconds;
}
