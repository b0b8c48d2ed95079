/* The entries of open-unlearning's files, by benchmark: what each is made of. */
#include "unlearn/evaluation_priv.h"

const struct entry tofu_entries[] = {
    {"forget_quality", NULL, WHOLE, NUMBER_QUALITY, {{0}}},
    {"model_utility", NULL, WHOLE, NUMBER_UTILITY, {{0}}},
    {"privleak", NULL, WHOLE, NUMBER_PRIVLEAK, {{0}}},
/* clang-format off */
#define ANSWERS(prefix, set, SET, ratio)                                                                              \
    {prefix "_Q_A_Prob", set, ROWS, MEAN, {{"prob", SCORE_PROBABILITY, false}, {"avg_loss", SCORE_LOSS, false}}},     \
    {prefix "_Q_A_PERT_Prob", set, LISTS, MEAN, {{"prob", SCORE_PERTURBED_LOSS, true}}},                              \
    {prefix "_Q_A_ROUGE", set, TEXTS, NUMBER_SETS + (SET) * N_EVAL_NUMBER + EVAL_ROUGE,                               \
     {{"rougeL_recall", SCORE_ROUGE_L_RECALL, false}, {"rougeL_f1", SCORE_ROUGE_L_F1, false},                         \
      {"rouge1_recall", SCORE_ROUGE_1_RECALL, false}}},                                                               \
    {prefix ratio, set, ROWS, NUMBER_SETS + (SET) * N_EVAL_NUMBER + EVAL_TRUTH_RATIO,                                 \
     {{"score", SCORE_TRUTH_RATIO, false}}}
#define PARAPHRASES(prefix, set)                                                                                      \
    {prefix "_Q_A_PARA_Prob", set, ROWS, MEAN,                                                                        \
     {{"prob", SCORE_PARAPHRASED_LOSS, true}, {"avg_loss", SCORE_PARAPHRASED_LOSS, false}}}
#define OPTIONS(prefix, set, SET)                                                                                     \
    {prefix "_Q_A_Prob_normalised", set, ROWS, NUMBER_SETS + (SET) * N_EVAL_NUMBER, {{"prob", SCORE_OF_OPTIONS, false}}}
#define MEMBERS(name, set, NUMBER, SCORE) {name, set, ATTACK, NUMBER, {{"score", SCORE, false}}}
#define ATTACKS(set)                                                                                                  \
    MEMBERS("mia_loss", set, NUMBER_AUC_LOSS, SCORE_LOSS),                                                            \
    MEMBERS("mia_zlib", set, NUMBER_AUC_ZLIB, SCORE_ZLIB),                                                            \
    MEMBERS("mia_min_k", set, NUMBER_AUC_MIN_K, SCORE_MIN_K),                                                         \
    MEMBERS("mia_min_k_plus_plus", set, NUMBER_AUC_MIN_K_PLUS, SCORE_MIN_K_PLUS),                                     \
    MEMBERS("mia_reference", set, NUMBER_AUC_REFERENCE, SCORE_REFERENCE),                                             \
    MEMBERS("mia_gradnorm", set, NUMBER_AUC_GRADNORM, SCORE_GRADNORM)
    ANSWERS("forget", "forget", SET_FORGET, "_truth_ratio"),
    PARAPHRASES("forget", "forget"),
    ANSWERS("retain", "retain", SET_RETAIN, "_Truth_Ratio"),
    PARAPHRASES("retain", "retain"),
    ANSWERS("ra", "real_authors", SET_REAL_AUTHORS, "_Truth_Ratio"),
    OPTIONS("ra", "real_authors", SET_REAL_AUTHORS),
    ANSWERS("wf", "world_facts", SET_WORLD_FACTS, "_Truth_Ratio"),
    OPTIONS("wf", "world_facts", SET_WORLD_FACTS),
    {"exact_memorization", "forget", ROWS, MEAN, {{"score", SCORE_MEMORIZATION, false}}},
    {"extraction_strength", "forget", ROWS, MEAN, {{"score", SCORE_EXTRACTION, false}}},
    ATTACKS("forget"),
#undef ANSWERS
#undef PARAPHRASES
#undef OPTIONS
    {NULL, NULL, WHOLE, 0, {{0}}},
};
#define SIMILAR(name, set, NUMBER)                                                                                    \
    {name, set, TEXTS, NUMBER,                                                                                        \
     {{"rougeL_f1", SCORE_ROUGE_L_F1, false}, {"rougeL_recall", SCORE_ROUGE_L_RECALL, false},                         \
      {"rouge1_recall", SCORE_ROUGE_1_RECALL, false}}}
const struct entry muse_entries[] = {
    SIMILAR("forget_verbmem_ROUGE", "verbmem_forget", MUSE_VERBMEM),
    SIMILAR("forget_knowmem_ROUGE", "knowmem_forget", MUSE_KNOWMEM_FORGET),
    SIMILAR("retain_knowmem_ROUGE", "knowmem_retain", MUSE_KNOWMEM_RETAIN),
    {"privleak", NULL, WHOLE, NUMBER_PRIVLEAK, {{0}}},
    {"exact_memorization", "verbmem_forget", ROWS, MEAN, {{"score", SCORE_MEMORIZATION, false}}},
    {"extraction_strength", "verbmem_forget", ROWS, MEAN, {{"score", SCORE_EXTRACTION, false}}},
    ATTACKS("privleak_forget"),
    {NULL, NULL, WHOLE, 0, {{0}}},
};
#undef SIMILAR
#undef ATTACKS
#undef MEMBERS
/* clang-format on */
