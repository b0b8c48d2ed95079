/* plan: layouts, memory and work of jobs that this one is not.                                                NP: 1 */
#include "demo_run.h"

static const char *const usual[] = {"data.forget.rows=16", "train={steps: 5, batch_size: 8, accumulation: 1}",
                                    "parallel.tensor=2", NULL};
#define OPEN_LAYOUT "data.forget.rows=16", "train={steps: 5, batch_size: 8, accumulation: 1}"
static const char *const auto_layout[] = {OPEN_LAYOUT, NULL};

static struct plan plan_of(const char *const *more, int processes)
{
    const struct machine m = {.processes = processes, .node_processes = 2, .resident = 1000, .room = SIZE_MAX};
    struct demo_run d;
    struct plan p;
    demo_inputs(&d, more);
    demo_plan(&d, &m);
    p = d.plan;
    demo_free(&d);
    return p;
}

/* Whatever sends a message would need the communicators that nobody has made. */
static void one_process_plans_for_any_number(void **state)
{
    for (int n = 2; n <= 16; n *= 2) {
        const struct plan p = plan_of(usual, n);
        assert_int_equal(p.data * p.tensor, n);
        assert_int_equal(p.tensor, 2);
        assert_int_equal(p.node_processes, 2);
    }
}

static void the_kinds_of_memory_add_up(void **state)
{
    const struct plan p = plan_of(usual, 4);
    size_t bytes = 0, held = 0;
    for (size_t i = 0; i < p.n_part; i++) bytes += p.demand[i].bytes;
    for (size_t k = 0; k < p.all.n_held; k++) held += p.all.held[k].states;
    assert_int_equal(held, 1 + 1 + 1 + 2 + p.all.moments); /* weights, gradient, part of gd, two risks */
    assert_int_equal(p.all.states, 1 + 2);                 /* weights; the risks, then the gradient and its part */
    assert_int_equal(p.all.moments, 2);
    assert_int_equal(p.all.bytes, bytes);
    assert_int_equal(p.bytes, 1000 + plan_states(&p) + p.bytes_model + p.bytes_engine + p.bytes_buffers + bytes);
}

static void data_ranks_share_the_moments_or_all(void **state)
{
    static const char *const one[] = {"parallel={tensor: 1, data: 1}", NULL}, *const four[] = {"parallel.data=4", NULL},
                             *const all[] = {"parallel={data: 4, shard: full}", NULL};
    const struct plan a = plan_of(one, 1), b = plan_of(four, 4), c = plan_of(all, 4);
    const size_t least = a.bytes_state / 4;
    assert_int_equal(plan_states(&a), 5 * a.bytes_state);
    assert_true(b.bytes_part >= least && b.bytes_part < 1.01 * (double)least + 4096);
    assert_int_equal(plan_states(&b), 3 * a.bytes_state + 2 * b.bytes_part + b.bytes_shared);
    assert_int_equal(plan_states(&c), 5 * b.bytes_part + c.bytes_shared);
    assert_int_equal(c.layers, 3); /* weights and two risk gradients, or a gradient */
    assert_true(c.ahead);          /* on two nodes: beside the largest layer, here a block, a block that is on its way */
    assert_int_equal(c.bytes_shared, 3 * 2 * b.bytes_shared);
}

static void tensor_ranks_share_the_states(void **state)
{
    static const char *const one[] = {"parallel={tensor: 1, data: 1}", NULL}, *const two[] = {"parallel.tensor=2", NULL};
    const struct plan a = plan_of(one, 1), b = plan_of(two, 2);
    assert_true(b.bytes_state < 0.6 * (double)a.bytes_state);
    assert_near(b.all.flops_update, a.all.flops_update, 1e-15); /* the work of all processes is the same */
}

/* gram: the objective's gradient and the update's step; standard_error: a gradient for each objective. */
static void a_probe_brings_its_own_demand(void **state)
{
    static const char *const with[] = {"train={steps: 5, batch_size: 8, accumulation: 1}",
                                       "geffect.fidelity=true",
                                       "geffect.standard_error=true",
                                       "geffect.objectives=[npo, ga, wga]",
                                       "objective.regularizer=[{name: gd}, {name: rr}]",
                                       NULL};
    const char *const without[] = {with[0], with[3], with[4], NULL};
    const struct plan a = plan_of(without, 1), b = plan_of(with, 1);
    assert_int_equal(a.all.states, 1 + 2);
    /* when the weights have moved: two risks, the batch's gradient, what the regularisers are of it, that of gram's objective, the step;
     * the gradients of three objectives are gone by then */
    assert_int_equal(b.all.states, 1 + 2 + 1 + 1 + 1 + 1);
    assert_int_equal(a.engine.risks, 2);
    assert_int_equal(b.engine.risks, 3); /* directions of one backward */
    assert_true(b.all.flops_measure > a.all.flops_measure);
    assert_near(b.all.flops_update, a.all.flops_update, 0);
}

/* pairs with all 20 retain rows, of which the risk reads 4: a longer list, a block, and the instances once for it. */
static void pairs_bring_their_block_and_their_work(void **state)
{
    static const char *const with[] = {"geffect.pairs={with: retain, rows: all}", NULL}, *const without[] = {NULL},
                             *const three[] = {"geffect.pairs={with: retain, rows: all}",
                                               "geffect.objectives=[npo, ga, wga]", NULL};
    const struct plan a = plan_of(without, 1), b = plan_of(with, 1), c = plan_of(three, 1);
    assert_true(a.engine.rows < 20);
    assert_int_equal(b.engine.rows, 20);
    assert_int_equal(b.all.states, a.all.states);
    assert_true(b.all.bytes - a.all.bytes > 5 * 6 * 20 * sizeof(double));
    assert_true(b.all.flops_measure > 1.5 * a.all.flops_measure);
    assert_true(c.all.flops_measure > b.all.flops_measure);
    assert_near(b.all.flops_update, a.all.flops_update, 0);
}

/* project: the retain gradient, whose memory is a risk's, its mean, and a pass over as many retain rows as an update has forget rows,
 * unless gd has made it; the others only lists, but what is predicted needs the risks' gradients when the update's is formed. */
static void a_guard_brings_its_own_demand(void **state)
{
    static const char *const none[] = {"objective.regularizer=[]", NULL}, *const gd[] = {
                                                                              "objective.regularizer=[{name: gd}]", NULL};
    const char *const newest[] = {none[0], "guard.project=1", NULL}, *const mean[] = {none[0], "guard.project=0.5", NULL};
    const char *const served[] = {gd[0], "guard.project=1", NULL};
    const char *const lists[] = {gd[0], "guard={freeze: 1, retain: {budget: 1, of: predicted}}", NULL};
    const struct plan a = plan_of(none, 1), b = plan_of(gd, 1), p = plan_of(served, 1), l = plan_of(lists, 1);
    assert_int_equal(plan_of(newest, 1).all.states, a.all.states);
    assert_int_equal(plan_of(mean, 1).all.states, a.all.states + 1);
    assert_near(plan_of(newest, 1).all.flops_update, b.all.flops_update, 1e-15);
    assert_true(b.all.flops_update > 1.1 * a.all.flops_update);
    assert_int_equal(p.all.states, b.all.states + 1);
    assert_near(p.all.flops_update, b.all.flops_update, 0);
    assert_int_equal(l.all.states, b.all.states + 2);
    assert_true(l.bytes > b.bytes + 2 * b.bytes_state); /* and lists: an update is predicted piece by piece */
    assert_true(l.bytes < b.bytes + 2 * b.bytes_state + 1024 * 128 * sizeof(real));
}

/* The nominal work counts the head and the last block for every token; the counted one only where there are outputs, and attention
 * apart. */
static void the_work_of_processes_is_that_of_the_job(void **state)
{
    static const char *const one[] = {"parallel={tensor: 1, data: 1, recompute: none}", NULL},
                             *const two[] = {"parallel={tensor: 2, recompute: none}", NULL},
                             *const rows[] = {"parallel={tensor: 1, data: 2, recompute: none}", NULL},
                             *const again[] = {"parallel={tensor: 1, data: 1, recompute: block}", NULL};
    const struct plan a = plan_of(one, 1), b = plan_of(two, 2), c = plan_of(rows, 2);
    const struct work *u = &a.all.work[OF_UPDATE], *m = &a.all.work[OF_MEASUREMENT];
    assert_true(u->products > 0.8 * a.all.flops_update &&
                u->products < 1.1 * a.all.flops_update); /* of rows that are drawn */
    assert_true(m->products > 0.75 * a.all.flops_measure && m->products < a.all.flops_measure);
    assert_near(b.all.work[OF_UPDATE].products, u->products / 2, 1e-12);
    assert_true(c.all.work[OF_UPDATE].products >= u->products / 2); /* of the rank with most of it */
    assert_true(c.all.work[OF_UPDATE].products < 0.75 * u->products);
    assert_true(plan_of(again, 1).all.work[OF_UPDATE].products > 1.1 * u->products);
    assert_true(u->attention > 0 && u->attention < 0.2 * u->products);
}

/* Of npo + gd: parts of two gradients are summed, the weights gathered, and there is a number for every row. Of four ranks each
 * sends three quarters of a state for one of these; with shard: full for each layer of each pass, there and back. */
static void data_ranks_send_gradients_and_tensor_ranks_activations(void **state)
{
    static const char *const rows[] = {"parallel={tensor: 1}", NULL}, *const layers[] = {"parallel={data: 1}", NULL},
                             *const full[] = {"parallel={tensor: 1, shard: full}", NULL};
    const struct plan one = plan_of(rows, 1), a = plan_of(rows, 4), b = plan_of(layers, 4), f = plan_of(full, 4);
    const double whole = (double)a.bytes_state;
    for (enum link link = 0; link < N_LINK; link++) assert_near(plan_sent(&one, OF_UPDATE, link), 0, 0);
    assert_near(plan_sent(&a, OF_UPDATE, LINK_TENSOR), 0, 0);
    assert_near(plan_sent(&a, OF_UPDATE, LINK_DATA), 0.75 * 3 * whole, 1e-3);
    assert_near(plan_sent(&f, OF_UPDATE, LINK_DATA), 0.75 * 2 * 3 * whole, 1e-3);
    assert_near(plan_sent(&b, OF_UPDATE, LINK_DATA), 0, 0);
    assert_true(plan_sent(&b, OF_UPDATE, LINK_TENSOR) > 0);
}

static void seconds_follow_from_the_rates(void **state)
{
    static const char *const half[] = {"parallel={data: 2}", NULL};
    const struct plan p = plan_of(half, 4); /* two on each node: data 2 x tensor 2 */
    const struct rates r = {.flops = 1e9, .bandwidth = 1e9, .link = 1e9, .network = 1e8, .latency = 0};
    struct rates twice = {2e9, 2e9, 2e9, 2e8, 0}, far = r, late = r, free_of_charge = r;
    const double seconds = plan_seconds(&p, OF_UPDATE, &r);
    far.network = 5e7, late.latency = 1, free_of_charge.network = 0;
    assert_false(plan_crosses(&p, LINK_TENSOR));
    assert_true(plan_crosses(&p, LINK_DATA));
    assert_near(plan_seconds(&p, OF_UPDATE, &twice), seconds / 2, 1e-12);
    /* the two tensor groups of a node share what it sends */
    assert_near(plan_seconds(&p, OF_UPDATE, &far) - seconds, 2 * plan_sent(&p, OF_UPDATE, LINK_DATA) / 1e8, 1e-12);
    assert_near(seconds - plan_seconds(&p, OF_UPDATE, &free_of_charge), 2 * plan_sent(&p, OF_UPDATE, LINK_DATA) / 1e8,
                1e-12);
    assert_true(plan_seconds(&p, OF_UPDATE, &late) > seconds + 20);
}

/* Of 1,024 outputs of 1,024 words: the logits take their room, and nothing else changes; fewer than a slab's are never held, and
 * where nothing is trained or measured nobody reads logits again. */
static void fewer_rows_of_logits_take_less(void **state)
{
    static const char *const whole[] = {"parallel={data: 1, tensor: 1, logits: 1024}", NULL},
                             *const some[] = {"parallel={data: 1, tensor: 1, logits: 300}", NULL},
                             *const least[] = {"parallel={data: 1, tensor: 1, logits: 1}", NULL}, *const none[] = {NULL};
    const struct plan a = plan_of(whole, 1), b = plan_of(some, 1), c = plan_of(least, 1), d = plan_of(none, 1);
    assert_int_equal(a.model.outputs, 1024);
    assert_int_equal(a.bytes, d.bytes);
    assert_int_equal(a.bytes - b.bytes, (1024 - 300) * 1024 * sizeof(real));
    assert_int_equal(a.bytes - c.bytes, (1024 - MODEL_SLAB) * 1024 * sizeof(real));
    assert_int_equal(c.bytes_kept, c.bytes_model);
    assert_int_equal(c.bytes_logits, a.bytes_model);
}

/* Just less room than for all of it. */
static void logits_are_held_where_there_is_room(void **state)
{
    struct machine m = {.processes = 1, .node_processes = 1, .resident = 1000};
    static const char *const one[] = {"parallel={data: 1, tensor: 1}", NULL};
    const size_t all = plan_of(one, 1).bytes;
    for (int less = 0; less < 2; less++) {
        struct demo_run d;
        demo_inputs(&d, one);
        m.room = all - (size_t)less;
        demo_plan(&d, &m);
        assert_int_equal(d.plan.model.logits, less ? MODEL_SLAB : 0);
        assert_false(d.plan.model.recompute);
        demo_free(&d);
    }
}

static struct plan plan_within(const char *const *more, const struct machine *m)
{
    struct demo_run d;
    struct plan p;
    demo_inputs(&d, more);
    demo_plan(&d, m);
    p = d.plan;
    demo_free(&d);
    return p;
}

/* The risks' gradients in turn before the norms of regularisers; not in turn where something compares the risks' gradients with the
 * update; and as the run was begun, whatever room is here. */
static void gradients_are_held_as_memory_asks(void **state)
{
    static const char *const plain[] = {"parallel={data: 1, tensor: 1, tokens: 1024}", NULL}, *const kept[] = {
                                                                                                  "geffect.fidelity=true",
                                                                                                  NULL};
    static const char *const least[] = {
        "parallel={data: 1, tensor: 1, recompute: block, logits: 256, risks: together, tokens: 1024}", NULL};
    const struct way both = {.data = 1, .tensor = 1, .tokens = 1024, .in_turn = true},
                     turn = {.data = 1, .tensor = 1, .tokens = 1024, .in_turn = true, .apart = true};
    const struct plan wide = plan_of(plain, 1), narrow = plan_of(least, 1);
    const struct {
        const char *const *more;
        struct machine m;
        bool in_turn, apart;
        size_t states;
    } cases[] = {
        {plain, {.room = wide.bytes}, false, true, 1 + 2},
        {plain,
         {.room = narrow.bytes - wide.bytes_state / 2},
         true,
         false,
         1 + 1}, /* the part that norms want takes what turns save */
        {plain, {.room = SIZE_MAX, .then = &both}, true, false, 1 + 1},
        {plain, {.room = SIZE_MAX, .then = &turn}, true, true, 1 + 2},
        {kept, {.room = SIZE_MAX, .then = &turn}, false, true, 1 + 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct machine m = cases[i].m;
        struct plan p;
        m.processes = m.node_processes = 1, m.resident = 1000;
        p = plan_within(cases[i].more, &m);
        assert_int_equal(p.in_turn, cases[i].in_turn);
        assert_int_equal(p.apart, cases[i].apart);
        assert_int_equal(p.all.states, cases[i].states);
    }
}

/* Behind logits, which cost less and change no bit, and before recomputation, which costs more; to the longest row at last. */
static void passes_are_smaller_where_there_is_no_room(void **state)
{
    static const char *const open[] = {"parallel={data: 1, tensor: 1}", NULL},
                             *const few[] = {"parallel={data: 1, tensor: 1, logits: 256}", NULL},
                             *const fixed[] = {"parallel={data: 1, tensor: 1, tokens: 1024}", NULL};
    struct machine m = {.processes = 1, .node_processes = 1, .resident = 1000};
    struct plan p;
    m.room = plan_of(open, 1).bytes;
    p = plan_within(open, &m);
    assert_int_equal(p.tokens, 1024);
    m.room = plan_of(few, 1).bytes;
    p = plan_within(open, &m);
    assert_int_equal(p.tokens, 1024);
    assert_int_equal(p.model.logits, MODEL_SLAB);
    m.room--;
    p = plan_within(open, &m);
    assert_int_equal(p.tokens, 512);
    assert_int_equal(p.tokens_usual, 1024);
    assert_false(p.model.recompute);
    assert_true(p.bytes <= m.room);
    p = plan_within(fixed, &m);
    assert_int_equal(p.tokens, 1024);
    assert_true(p.model.recompute);
    m.room = 0;
    p = plan_within(open, &m);
    assert_int_equal(p.tokens, p.model.longest);
    assert_true(p.tokens < 128 && p.model.rows == p.tokens);
}

/* One way each to hold the rest. */
#define FIXED "tokens: 1024, recompute: none, logits: 1024, risks: together"
static void states_are_shared_where_there_is_no_room(void **state)
{
#define ALONE "objective.regularizer=[]"
    static const char *const open[] = {ALONE, "parallel={data: 2, tensor: 1, " FIXED "}", NULL},
                             *const none[] = {ALONE, "parallel={data: 2, tensor: 1, shard: none, " FIXED "}", NULL},
                             *const one[] = {ALONE, "parallel={data: 1, tensor: 2, " FIXED "}", NULL};
    struct machine m = {.processes = 2, .node_processes = 2, .resident = 1000, .room = SIZE_MAX};
    const size_t bytes = plan_within(none, &m).bytes, layers = plan_within(one, &m).bytes;
    struct plan p = plan_within(open, &m);
    assert_int_equal(p.sharing, SHARING_MOMENTS);
    assert_int_equal(p.bytes, bytes);
    m.room = bytes;
    assert_int_equal(plan_within(open, &m).sharing, SHARING_MOMENTS);
    m.room = bytes - 1;
    p = plan_within(open, &m);
    assert_int_equal(p.sharing, SHARING_ALL);
    assert_int_equal(p.unshared, bytes);
    assert_true(p.bytes < bytes);
    assert_int_equal(plan_within(none, &m).sharing, SHARING_MOMENTS);
    m.room = 0; /* neither fits: the smaller */
    assert_int_equal(plan_within(open, &m).sharing, SHARING_ALL);
    m.room = layers - 1;
    assert_int_equal(plan_within(one, &m).sharing, SHARING_MOMENTS); /* one data rank has nobody to share with */
}

/* Of four processes: two data ranks by rule, sharing all if they must; one, if that is the only one that fits. */
static void another_layout_is_taken_where_only_that_fits(void **state)
{
    static const char *const open[] = {OPEN_LAYOUT, ALONE, "parallel={" FIXED "}", NULL},
                             *const asked[] = {OPEN_LAYOUT, ALONE, "parallel={data: 2, shard: full, " FIXED "}", NULL},
                             *const other[] = {OPEN_LAYOUT, ALONE, "parallel={data: 1, " FIXED "}", NULL},
                             *const more[] = {OPEN_LAYOUT, ALONE, "parallel={data: 4, shard: full, " FIXED "}", NULL};
    struct machine m = {.processes = 4, .node_processes = 4, .resident = 1000, .room = SIZE_MAX};
    const size_t full = plan_within(asked, &m).bytes, layers = plan_within(other, &m).bytes;
    struct plan p = plan_within(open, &m);
    assert_true(layers < full && full < plan_within(more, &m).bytes);
    assert_int_equal(p.data, 2);
    assert_int_equal(p.ruled.tensor, 0);
    m.room = full;
    p = plan_within(open, &m);
    assert_int_equal(p.data, 2);
    assert_int_equal(p.sharing, SHARING_ALL);
    m.room = full - 1;
    p = plan_within(open, &m);
    assert_int_equal(p.data, 1);
    assert_int_equal(p.tensor, 4);
    assert_int_equal(p.ruled.data, 2);
    assert_int_equal(p.ruled.bytes, full);
    assert_int_equal(p.bytes, layers);
    m.room = layers - 1; /* none: the rule's */
    assert_int_equal(plan_within(open, &m).data, 2);
}

static void a_run_goes_on_as_it_was_begun(void **state)
{
    static const char *const open[] = {OPEN_LAYOUT, NULL}, *const said[] = {
                                                               OPEN_LAYOUT,
                                                               "parallel={data: 4, shard: none, tokens: 700}", NULL};
    const struct way then = {.data = 1, .tensor = 4, .tokens = 300, .apart = true},
                     full = {.data = 2, .tensor = 2, .shard = SHARD_FULL, .tokens = 300, .apart = true};
    struct machine m = {.processes = 4, .node_processes = 4, .resident = 1000, .room = SIZE_MAX, .then = &then};
    struct plan p = plan_within(open, &m);
    assert_int_equal(p.tensor, 4);
    assert_int_equal(p.tokens, 300);
    assert_true(p.as_then);
    m.room = 0; /* it does not fit any more */
    p = plan_within(open, &m);
    assert_false(p.as_then);
    m.then = &full, m.room = SIZE_MAX;
    p = plan_within(open, &m);
    assert_int_equal(p.sharing, SHARING_ALL);
    assert_int_equal(p.tokens, 300);
    p = plan_within(said, &m); /* what the input says now counts */
    assert_int_equal(p.data, 4);
    assert_int_equal(p.sharing, SHARING_MOMENTS);
    assert_int_equal(p.tokens, 700);
}

/* What one process chooses is the same plan where another is told to take it. */
static void what_is_chosen_can_be_taken(void **state)
{
    static const char *const open[] = {OPEN_LAYOUT, NULL};
    const struct machine wide = {.processes = 4, .node_processes = 4, .resident = 1000, .room = SIZE_MAX};
    struct machine narrow = wide;
    struct plan a = plan_within(open, &wide), b;
    struct demo_run d;
    struct way way;
    narrow.room = (a.bytes - 1000) / 3 + 1000;
    a = plan_within(open, &narrow);
    way = plan_way(&a);
    demo_inputs(&d, open);
    demo_plan(&d, &wide);
    assert_int_equal(plan_take(d.in, &d.timetable, &wide, N_DEMO_PARTS, demo_parts, &way, &d.plan), OK);
    b = d.plan;
    demo_free(&d);
    assert_true(a.tokens < 1024 || a.model.logits || a.sharing == SHARING_ALL); /* something was given up */
    assert_int_equal(b.bytes, a.bytes);
    assert_int_equal(b.data, a.data);
    assert_int_equal(b.sharing, a.sharing);
    assert_int_equal(b.tokens, a.tokens);
    assert_int_equal(b.in_turn, a.in_turn);
    assert_int_equal(b.apart, a.apart);
    assert_int_equal(b.model.logits, a.model.logits);
    assert_int_equal(b.model.recompute, a.model.recompute);
}

static void auto_gives_every_data_rank_four_rows_of_an_update(void **state)
{
    assert_int_equal(plan_of(auto_layout, 2).data, 2);
    assert_int_equal(plan_of(auto_layout, 4).data, 2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_process_plans_for_any_number),
        cmocka_unit_test(the_kinds_of_memory_add_up),
        cmocka_unit_test(tensor_ranks_share_the_states),
        cmocka_unit_test(data_ranks_share_the_moments_or_all),
        cmocka_unit_test(a_probe_brings_its_own_demand),
        cmocka_unit_test(pairs_bring_their_block_and_their_work),
        cmocka_unit_test(a_guard_brings_its_own_demand),
        cmocka_unit_test(the_work_of_processes_is_that_of_the_job),
        cmocka_unit_test(data_ranks_send_gradients_and_tensor_ranks_activations),
        cmocka_unit_test(seconds_follow_from_the_rates),
        cmocka_unit_test(fewer_rows_of_logits_take_less),
        cmocka_unit_test(logits_are_held_where_there_is_room),
        cmocka_unit_test(gradients_are_held_as_memory_asks),
        cmocka_unit_test(passes_are_smaller_where_there_is_no_room),
        cmocka_unit_test(states_are_shared_where_there_is_no_room),
        cmocka_unit_test(another_layout_is_taken_where_only_that_fits),
        cmocka_unit_test(a_run_goes_on_as_it_was_begun),
        cmocka_unit_test(what_is_chosen_can_be_taken),
        cmocka_unit_test(auto_gives_every_data_rank_four_rows_of_an_update),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests_name("plan: sizes", tests, NULL, NULL);
    parallel_end();
    return failed;
}
