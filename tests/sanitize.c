/* Linked into everything built with SANITIZE=1. Open MPI leaks by itself and unloads its plug-ins at the end, which leaves
 * these leaks without a name: here the plug-ins stay, and what comes from Open MPI's own libraries is left out.      */
int dlclose(void *handle);
const char *__asan_default_options(void);
const char *__lsan_default_options(void);
const char *__lsan_default_suppressions(void);

int dlclose(void *handle) { return 0; }

/* whole stacks: Open MPI is built without frame pointers */
const char *__asan_default_options(void) { return "detect_leaks=1:strict_string_checks=1:fast_unwind_on_malloc=0"; }

const char *__lsan_default_options(void) { return "print_suppressions=0"; }

const char *__lsan_default_suppressions(void)
{
    return "leak:libopen-rte\nleak:libopen-pal\nleak:libmpi.so\nleak:libpmix\nleak:/openmpi3/\nleak:/pmix2/\n";
}
