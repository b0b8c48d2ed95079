# shellcheck shell=sh
# Sourced by what starts programs under mpirun in tests: any number of ranks on few cores, one thread each, no noise.
test -z "$LC_ALL" || export LC_CTYPE="$LC_ALL"
export LC_NUMERIC=C # numbers have a point; the encoding stays
unset LC_ALL CDPATH # with the latter cd prints
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_orte_execute_quiet=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe # Open MPI 5
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
export UBSAN_OPTIONS=print_stacktrace=1
