/* output: the files of a run.                                                                      NP: 1 */
#include "scratch.h"
#include "unlearn/evaluation_priv.h"
#include "unlearn/probe_priv.h"
#include "unlearn/training_priv.h"
#include <hdf5.h>
#include <hdf5_hl.h>
#include <unistd.h>

static const char *const objective[] = {"npo", "wga(alpha=0.5)"};
static const char *const risk[] = {"unlearn", "retain"};
static const char *const layer[] = {"embed", "layers.0", "norm", "lm_head"};
static const char *const regularizer[] = {"gd", "kl"};
static const int64_t instance[] = {0, 1, 2}, retain_instance[] = {10, 20, 30, 40};

static const struct attribute history[] = {{"history", "made by a test"}};

static struct geffect_file_info some_info(size_t n_regularizer)
{
    return (struct geffect_file_info){
        .n_objective = 2,
        .n_risk = 2,
        .n_layer = 4,
        .n_instance = 3,
        .n_regularizer = n_regularizer,
        .n_retain_instance = n_regularizer ? 4 : 0,
        .objective = objective,
        .risk = risk,
        .layer = layer,
        .regularizer = regularizer,
        .instance = instance,
        .retain_instance = retain_instance,
        .n_attribute = 1,
        .attribute = history,
    };
}

/* The names of the axes of a dataset as "step,layer" */
static void axes_of(hid_t f, const char *name, char *to)
{
    hid_t d = H5Dopen2(f, name, H5P_DEFAULT), space;
    assert_true(d >= 0);
    space = H5Dget_space(d);
    int rank = H5Sget_simple_extent_ndims(space);
    const char *all[] = {"step", "objective", "risk",   "layer", "instance", "retain_instance",
                         "set",  "row",       "metric", "number"};
    to[0] = 0;
    for (int i = 0; i < rank; i++)
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
            hid_t scale = H5Dopen2(f, all[k], H5P_DEFAULT);
            if (scale >= 0 && H5DSis_attached(d, scale, (unsigned)i) > 0) {
                if (i) strcat(to, ",");
                strcat(to, all[k]);
            }
            if (scale >= 0) H5Dclose(scale);
        }
    H5Sclose(space), H5Dclose(d);
}

static void text_attribute(hid_t f, const char *owner, const char *name, char *to)
{
    hid_t a = H5Aopen_by_name(f, owner, name, H5P_DEFAULT, H5P_DEFAULT), type;
    char *text;
    assert_true(a >= 0);
    type = H5Aget_type(a);
    assert_true(H5Aread(a, type, &text) >= 0);
    strcpy(to, text);
    H5free_memory(text), H5Tclose(type), H5Aclose(a);
}

static void the_effects_have_the_axes_of_the_design(void **state)
{
    static const char *const want[][2] = {
        {"geffect", "step,objective,risk,layer,instance"},
        {"instance_weight", "objective,instance"},
        {"instance_loss", "step,objective,instance"},
        {"objective_weight", "step,objective,instance"},
        {"risk_value", "step,risk"},
        {"loss", "step"},
        {"geffect_gd", "step,risk,layer,retain_instance"},
        {"geffect_kl", "step,risk,layer,retain_instance"},
        {"instance_weight_gd", "retain_instance"},
        {"instance_loss_kl", "step,retain_instance"},
    };
    struct geffect_file_info info = some_info(2);
    struct file *f;
    char text[256];
    assert_int_equal(geffect_file_create("geffect.h5", &info, &f), OK);
    assert_int_equal(file_commit(f, 0), OK);
    assert_int_equal(file_close(f), OK);
    hid_t h = H5Fopen("geffect.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        axes_of(h, want[i][0], text);
        assert_string_equal(text, want[i][1]);
        text_attribute(h, want[i][0], "units", text);
        assert_true(text[0]);
        text_attribute(h, want[i][0], "equation", text);
        assert_true(text[0]);
    }
    text_attribute(h, "geffect_kl", "long_name", text);
    assert_non_null(strstr(text, "regulariser kl on one"));
    text_attribute(h, "/", "title", text);
    assert_true(text[0]);
    text_attribute(h, "/", "history", text);
    assert_string_equal(text, "made by a test");
    H5Fclose(h);
}

static void without_regularisers_there_is_nothing_of_them(void **state)
{
    struct geffect_file_info info = some_info(0);
    struct file *f;
    assert_int_equal(geffect_file_create("plain.h5", &info, &f), OK);
    assert_true(file_has(f, "geffect"));
    assert_false(file_has(f, "geffect_gd"));
    assert_int_equal(file_close(f), OK);
    hid_t h = H5Fopen("plain.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_int_equal(H5Lexists(h, "retain_instance", H5P_DEFAULT), 0);
    H5Fclose(h);
}

static void an_effect_is_found_where_it_was_put(void **state)
{
    struct geffect_file_info info = some_info(2);
    struct file *f;
    double effect[2][2][4][3], back[3][2][2][4][3];
    assert_int_equal(geffect_file_create("where.h5", &info, &f), OK);
    for (int t = 0; t < 3; t++) {
        for (size_t i = 0; i < 48; i++) (&effect[0][0][0][0])[i] = t * 1000 + (double)i;
        assert_int_equal(file_put(f, "geffect", &effect[0][0][0][0]), OK);
        assert_int_equal(file_commit(f, 5 * t), OK);
    }
    assert_int_equal(file_close(f), OK);
    hid_t h = H5Fopen("where.h5", H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(h, "geffect", H5P_DEFAULT);
    assert_true(H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, back) >= 0);
    assert_near(back[2][1][0][3][1], 2000 + 1 * 24 + 0 * 12 + 3 * 3 + 1, 0);
    assert_near(back[1][0][1][2][0], 1000 + 0 * 24 + 1 * 12 + 2 * 3 + 0, 0);
    H5Dclose(d), H5Fclose(h);
}

static void training_has_a_row_per_update_and_one_more(void **state)
{
    struct train_file_info info = {.objective = "npo", .n_regularizer = 2, .regularizer = regularizer};
    struct file *f;
    const char *const field[] = {"loss", "loss_objective", "loss_gd", "loss_kl",
                                 "lr",   "gradient_norm",  "tokens",  "seconds"};
    double loss[3];
    assert_int_equal(train_file_create("train.h5", &info, &f), OK);
    for (int t = 0; t < 2; t++) {
        const double x = t + 0.5;
        for (size_t i = 0; i < sizeof field / sizeof *field; i++) assert_int_equal(file_put(f, field[i], &x), OK);
        assert_int_equal(file_commit(f, t), OK);
    }
    assert_int_equal(file_commit(f, 2), OK);
    assert_int_equal(file_close(f), OK);
    hid_t h = H5Fopen("train.h5", H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(h, "loss_kl", H5P_DEFAULT);
    assert_true(H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, loss) >= 0);
    assert_near(loss[1], 1.5, 0);
    char text[256];
    text_attribute(h, "loss_objective", "long_name", text);
    assert_string_equal(text, "value of the objective npo");
    assert_true(isnan(loss[2]));
    H5Dclose(d), H5Fclose(h);
}

static void an_evaluation_has_a_number_for_each_row_of_each_set(void **state)
{
    static const char *const set[] = {"forget", "holdout"}, *const metric[] = {"loss", "min_k++"},
                             *const number[] = {"u"};
    static const char *const want[][2] = {
        {"evaluation", "step,set,row,metric"},
        {"mean", "step,set,metric"},
        {"left_out", "step,set,metric"},
        {"risk", "step,set"},
        {"summary", "step,number"},
        {"rows", "set"},
    };
    const struct evaluation_file_info info = {.n_set = 2,
                                              .n_row = 3,
                                              .n_metric = 2,
                                              .n_number = 1,
                                              .set = set,
                                              .metric = metric,
                                              .number = number,
                                              .row = instance,
                                              .n_attribute = 1,
                                              .attribute = history};
    double x[2][2][3][2], back[2][2][3][2];
    struct file *f;
    char text[256];
    for (size_t i = 0; i < 24; i++) (&x[0][0][0][0])[i] = (double)i;
    assert_int_equal(evaluation_file_create("evaluation.h5", &info, &f), OK);
    for (int t = 0; t < 2; t++) {
        assert_int_equal(file_put(f, "evaluation", &x[t][0][0][0]), OK);
        assert_int_equal(file_commit(f, 5 * t), OK);
    }
    assert_int_equal(file_close(f), OK);
    hid_t h = H5Fopen("evaluation.h5", H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(h, "evaluation", H5P_DEFAULT);
    assert_true(H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, back) >= 0);
    assert_memory_equal(x, back, sizeof x);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        axes_of(h, want[i][0], text);
        assert_string_equal(text, want[i][1]);
    }
    H5Dclose(d), H5Fclose(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_effects_have_the_axes_of_the_design),
        cmocka_unit_test(without_regularisers_there_is_nothing_of_them),
        cmocka_unit_test(an_effect_is_found_where_it_was_put),
        cmocka_unit_test(training_has_a_row_per_update_and_one_more),
        cmocka_unit_test(an_evaluation_has_a_number_for_each_row_of_each_set),
    };
    return cmocka_run_group_tests_name("output: files of a run", tests, scratch_enter, scratch_leave);
}
