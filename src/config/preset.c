/* preset: what other tools and papers train with, as defaults. They are put into the tree where a key is not written, before
 * anything is read from it, so that written keys win and all is checked alike. */
#include "unlearn/config_priv.h"
#include <string.h>

#define OU       "open_unlearning"
#define OU_TOFU  "configs/experiment/unlearn/tofu/default.yaml"
#define OU_ARGS  "configs/trainer/finetune.yaml"
#define TRAINER  "transformers.TrainingArguments, which leaves it at"
#define MEANS    "Trainer of transformers 4.45: the mean of each batch is divided by the number of them"
#define TOFU_SET "config/forget.yaml"
#define TOFU_RUN "forget.py"
#define PAPER    "arXiv 2502.19301, appendix on experiments"
#define CODE     "the code of arXiv 2502.19301, forget2.py"

static const struct preset_row {
    const char *name, *objective; /* objective NULL: whatever is minimised */
    const char *key, *value, *source;
} presets[] = {
    /* clang-format off */
    {OU, NULL, "seed", "0", OU_ARGS},
    {OU, NULL, "data.max_length", "512", "configs/data/datasets/TOFU_QA_forget.yaml"},
    {OU, NULL, "optimizer.lr", "1.0e-5", OU_TOFU},
    {OU, NULL, "optimizer.weight_decay", "0.01", OU_TOFU},
    {OU, NULL, "optimizer.decay", "matrices", "transformers.Trainer.get_decay_parameter_names"},
    {OU, NULL, "optimizer.clip", "1", TRAINER " max_grad_norm = 1"},
    {OU, NULL, "optimizer.schedule", "linear", TRAINER " linear"},
    {OU, NULL, "optimizer.warmup_steps", "auto", OU_TOFU " (warmup_epochs: 1)"},
    {OU, NULL, "train.epochs", "10", OU_TOFU},
    {OU, NULL, "train.batch_size", "8", OU_ARGS},
    {OU, NULL, "train.accumulation", "4", OU_ARGS},
    {OU, NULL, "train.combine", "micro_batch", MEANS},
    {OU, NULL, "evaluate.variant", "open_unlearning", "src/evals"},
    {OU, "npo", "objective.beta", "0.1", "configs/trainer/NPO.yaml"},
    {OU, "npo", "objective.regularizer", "[{name: gd, weight: 1}]", "configs/trainer/NPO.yaml (alpha: 1, NLL)"},
    {OU, "dpo", "objective.beta", "0.1", "configs/trainer/DPO.yaml"},
    {OU, "dpo", "objective.regularizer", "[{name: gd, weight: 1}]", "configs/trainer/DPO.yaml (alpha: 1, NLL)"},
    {OU, "simnpo", "objective.beta", "4.5", "configs/trainer/SimNPO.yaml"},
    {OU, "simnpo", "objective.delta", "0", "configs/trainer/SimNPO.yaml"},
    {OU, "simnpo", "objective.weight", "0.125", "configs/trainer/SimNPO.yaml (gamma)"},
    {OU, "simnpo", "objective.regularizer", "[{name: gd, weight: 1}]", "configs/trainer/SimNPO.yaml (alpha: 1, NLL)"},
    {OU, "wga", "objective.alpha", "1", "configs/trainer/WGA.yaml (beta there)"},
    {OU, "wga", "objective.regularizer", "[{name: gd, weight: 1}]", "configs/trainer/WGA.yaml (alpha: 1, NLL)"},
    {OU, "satimp", "objective.beta1", "5", "configs/trainer/SatImp.yaml"},
    {OU, "satimp", "objective.beta2", "1", "configs/trainer/SatImp.yaml"},
    {OU, "satimp", "objective.weight", "0.1", "configs/trainer/SatImp.yaml (gamma)"},
    {OU, "satimp", "objective.regularizer", "[{name: gd, weight: 1}]", "configs/trainer/SatImp.yaml (alpha: 1, NLL)"},
    {OU, "ceu", "objective.skip", "1", "configs/trainer/CEU.yaml (ignore_first_n_answer_tokens)"},
    {OU, "undial", "objective.beta", "10", "configs/trainer/UNDIAL.yaml"},
    {OU, "undial", "objective.positions", "all", "src/trainer/utils.py, compute_undial_loss"},
    {OU, "rmu", "objective.layer", "8", "configs/trainer/RMU.yaml (model.layers.7, counted from 0)"},
    {OU, "rmu", "objective.c", "2", "configs/trainer/RMU.yaml (steering_coeff)"},
    {OU, "rmu", "objective.unit", "true", "src/trainer/unlearn/rmu.py, get_control_vector"},
    {OU, "rmu", "objective.positions", "labelled", "src/trainer/unlearn/rmu.py, compute_activation_loss"},
    {OU, "rmu", "objective.combine", "crossed", "src/trainer/unlearn/rmu.py, compute_activation_loss"},
    {OU, "rmu", "objective.regularizer", "[{name: rr, weight: 1, layer: 8, positions: labelled, combine: crossed}]",
     "configs/trainer/RMU.yaml (alpha: 1, EMBED_DIFF)"},
    {OU, "pdu", "objective.positions", "labelled", "src/trainer/unlearn/pdu.py"},
    {OU, "pdu", "objective.regularizer", "[{name: gd, weight: 1, dual: {step_size: 1, warmup_epochs: 5, update: step}}]",
     "configs/trainer/PDU.yaml (its retain_loss_eps must be given: dual.eps)"},

    {"tofu", NULL, "seed", "42", TOFU_SET},
    {"tofu", NULL, "data.max_length", "500", TOFU_RUN},
    {"tofu", NULL, "optimizer.lr", "1.0e-5", TOFU_SET},
    {"tofu", NULL, "optimizer.weight_decay", "0.01", TOFU_SET},
    {"tofu", NULL, "optimizer.decay", "matrices", "transformers.Trainer.get_decay_parameter_names"},
    {"tofu", NULL, "optimizer.clip", "0", "config/ds_config.json, which has no gradient_clipping"},
    {"tofu", NULL, "optimizer.schedule", "linear", TRAINER " linear"},
    {"tofu", NULL, "optimizer.warmup_steps", "auto", TOFU_RUN " (steps_per_epoch)"},
    {"tofu", NULL, "train.epochs", "5", TOFU_SET},
    {"tofu", NULL, "train.batch_size", "16", TOFU_SET},
    {"tofu", NULL, "train.accumulation", "4", TOFU_SET},
    {"tofu", NULL, "train.combine", "micro_batch", MEANS},
    {"tofu", NULL, "evaluate.variant", "tofu", "evaluate_util.py"},
    {"tofu", "dpo", "objective.beta", "0.1", "dataloader.py"},
    {"tofu", "dpo", "objective.weight", "0.05", "dataloader.py: without the factor 2/beta"},

    {"paper", NULL, "seed", "42", CODE},
    {"paper", NULL, "data.max_length", "500", CODE},
    {"paper", NULL, "optimizer.lr", "1.0e-5", PAPER " (phi-1.5: 2.0e-5)"},
    {"paper", NULL, "optimizer.weight_decay", "0", PAPER},
    {"paper", NULL, "optimizer.clip", "0", CODE " (max_grad_norm: None)"},
    {"paper", NULL, "optimizer.schedule", "linear", PAPER},
    {"paper", NULL, "optimizer.warmup_steps", "auto", PAPER " (one epoch)"},
    {"paper", NULL, "train.epochs", "5", PAPER},
    {"paper", NULL, "train.batch_size", "4", PAPER},
    {"paper", NULL, "train.accumulation", "4", PAPER},
    {"paper", NULL, "train.combine", "micro_batch", MEANS},
    {"paper", NULL, "geffect.normalisation", "token_mean", CODE},
    {"paper", NULL, "geffect.estimator", "moving_average", CODE},
    {"paper", NULL, "evaluate.variant", "tofu", CODE},
    {"paper", "npo", "objective.beta", "0.5", PAPER},
    {"paper", "wga", "objective.alpha", "5", PAPER},
    {"paper", "tnpo", "objective.beta", "4", PAPER},
    {"paper", "wtnpo", "objective.beta", "4", PAPER},
    {"paper", "wtnpo", "objective.alpha", "1.5", PAPER},
    {"paper", "rmu", "objective.layer", "1", PAPER},
    {"paper", "rmu", "objective.c", "2", PAPER},
    /* clang-format on */
};
enum { N_PRESET = sizeof presets / sizeof *presets };

/* Whether something stands under the key. What is of the wrong kind counts: the reading of it says so. */
static bool is_given(const struct node *node, const char *key)
{
    const struct row *row = &config_table[0];
    char word[64];
    for (const char *end; *key; key = *end ? end + 1 : end) {
        end = key + strcspn(key, ".");
        snprintf(word, sizeof word, "%.*s", (int)(end - key), key);
        if (!node || node_is_null(node)) return false;
        if (node->kind == NODE_SCALAR && row && row->bare) return !strcmp(row->bare, word);
        if (node->kind != NODE_MAP) return true;
        node = node_find(node, word);
        row = row ? row_child(row, word) : NULL;
    }
    return node && !node_is_null(node);
}

/* The name in an entry that may be a name alone; NULL: it has none. */
static const char *name_of(const struct node *entry)
{
    const struct node *name = entry && entry->kind == NODE_MAP ? node_find(entry, "name") : entry;
    return name && name->kind == NODE_SCALAR && !node_is_null(name) ? name->text : NULL;
}

/* A name without an entry is that of the default objective. */
static const char *minimised(const struct node *root)
{
    const struct node *objective = node_find(root, "objective"), *task = node_find(root, "task");
    const bool said = task && task->kind == NODE_SCALAR && !node_is_null(task);
    if (said && strcmp(task->text, "unlearn") && strcmp(task->text, "geffect")) return NULL;
    if (!objective || node_is_null(objective)) return row_child(&config_table[0], "objective")->fallback;
    return name_of(objective);
}

/* The parameter of an objective also holds where that objective is measured. */
static enum status measured(const struct preset_row *p, const char *where, const char *trained, struct node *root)
{
    struct node *geffect = node_find(root, "geffect");
    struct node *list = geffect && geffect->kind == NODE_MAP ? node_find(geffect, "objectives") : NULL;
    const char *key = p->key + strlen("objective.");
    enum status st = OK;
    if (!list || !strcmp(key, "weight") || !strcmp(key, "regularizer")) return OK;
    for (struct node *entry = list->kind == NODE_LIST ? list->child : list; entry;
         entry = list->kind == NODE_LIST ? entry->next : NULL) {
        const char *name = name_of(entry);
        if (!name || strcmp(name, p->objective)) continue;
        if (entry->kind == NODE_SCALAR && trained && !strcmp(name, trained)) continue; /* takes those of `objective` */
        if (entry->kind == NODE_MAP && is_given(entry, key)) continue;
        TRY(entry_default(where, entry, key, p->value));
    }
done:
    return st;
}

static enum status apply(const struct preset_row *p, const char *where, const char *trained, struct node *root)
{
    struct text override = {0};
    enum status st = OK;
    if (p->objective) TRY(measured(p, where, trained, root));
    if ((p->objective && (!trained || strcmp(trained, p->objective))) || is_given(root, p->key)) goto done;
    TRY(text_print(&override, "%s=%s", p->key, p->value));
    TRY(override_apply(where, override.data, root));
done:
    text_free(&override);
    return st;
}

/* A name that is none of a preset is refused when it is read. */
enum status preset_apply(struct node *root)
{
    static const char *const wheres[] = {"preset open_unlearning", "preset tofu",
                                         "preset paper"}; /* outlive the places */
    const struct node *node = node_find(root, "preset");
    const char *name = node && node->kind == NODE_SCALAR ? node->text : "", *trained = minimised(root), *where = NULL;
    enum status st = OK;
    for (size_t i = 0; i < sizeof wheres / sizeof *wheres; i++)
        if (!strcmp(wheres[i] + strlen("preset "), name)) where = wheres[i];
    for (size_t i = 0; where && i < N_PRESET && st == OK; i++)
        if (!strcmp(presets[i].name, name)) st = apply(&presets[i], where, trained, root);
    return st;
}

enum status config_presets(enum status (*say)(void *to, const struct preset_text *preset), void *to)
{
    enum status st = OK;
    for (size_t i = 0; i < N_PRESET && st == OK; i++) {
        const struct preset_text preset = {.preset = presets[i].name,
                                           .objective = presets[i].objective,
                                           .key = presets[i].key,
                                           .value = presets[i].value,
                                           .source = presets[i].source};
        st = say(to, &preset);
    }
    return st;
}
