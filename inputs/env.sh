# shellcheck shell=sh
# Sourced by the scripts of this directory. In a checkout they work in its top directory with the program that `make` has left there.
# In an installed copy, which may not be written to, they work in ./unlearn-work (UNLEARN_WORK=), where inputs and analysis are links
# to the installed ones, with the installed program. PROGRAM= names another one, PYTHON= another Python.
# MPI starts any number of processes on few cores, as root too, and reports errors of the program alone.
# Numbers have a point, whatever the locale says; the encoding stays.
test -z "$LC_ALL" || export LC_CTYPE="$LC_ALL"
export LC_NUMERIC=C
unset LC_ALL CDPATH # with the latter cd prints
TOP=$(cd -P "$(dirname "$0")/.." && pwd) || exit 2 # not by the link
case $PROGRAM in */*) PROGRAM=$(cd "$(dirname "$PROGRAM")" && pwd)/$(basename "$PROGRAM") ;; esac
case $PYTHON in */*) [ ! -d "${PYTHON%/*}" ] || PYTHON=$(cd "${PYTHON%/*}" && pwd)/$(basename "$PYTHON") ;; esac
if [ -e "$TOP/Makefile" ]; then
    cd "$TOP" || exit 2
    PROGRAM=${PROGRAM:-./unlearn} PYTHON=${PYTHON:-${VENV:-.venv}/bin/python}
else
    PROGRAM=${PROGRAM:-$TOP/../../bin/unlearn} PYTHON=${PYTHON:-python3}
fi
command -v "$PROGRAM" >/dev/null || { echo "$0: $PROGRAM is not there: build it with \`make\`, or say PROGRAM=FILE" >&2; exit 1; }
if [ ! -e "$TOP/Makefile" ]; then
    UNLEARN_WORK=${UNLEARN_WORK:-unlearn-work}
    mkdir -p "$UNLEARN_WORK" && cd "$UNLEARN_WORK" || exit 2
    for link in inputs analysis; do
        test "$(readlink $link)" != "$TOP/$link" || continue
        test ! -e $link && test ! -L $link ||
            { echo "$0: $PWD/$link: is there, but is no link to $TOP/$link: remove it or set UNLEARN_WORK" >&2; exit 2; }
        ln -s "$TOP/$link" $link || exit 2
    done
    export UNLEARN_WORK=. # for scripts that start themselves
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_orte_execute_quiet=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none # containers forbid it
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe # Open MPI 5
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONDONTWRITEBYTECODE=1
