/* --check: what would be done. */
#include "unlearn/task_priv.h"

enum status check_print(const struct inputs *in, const struct plan *p, const struct text *plan)
{
    struct text echo = {0}, measured = {0};
    uint64_t weights, reference;
    enum status st;
    TRY(config_write(in->config, &echo));
    TRY(probes_named(in, &measured));
    if (plan_memory(in, p) != OK) {
        log_warn("%s", fail_message());
        fail_clear();
    }
    TRY(subject_hashes(in, p, &weights, &reference));
    log_info("%s\n%s", echo.data, plan->data);
    log_info("end tokens %s", in->ends.said);
    report_kernels();
    report_prediction(p);
    TRY(log_close()); /* warnings come before the digest, which is the last line */
    log_info("digest: %016llx", (unsigned long long)plan_digest(in, measured.data, weights, reference));
done:
    text_free(&echo);
    text_free(&measured);
    return st;
}
