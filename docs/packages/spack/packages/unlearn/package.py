"""Spack's recipe. In the top directory of the source:

    make dist && spack repo add docs/packages/spack && spack install --no-checksum unlearn [precision=float,double] [blas=mkl] ^openmpi
"""
import os

from spack.package import *

try:  # since Spack 1.0 it stands here
    from spack_repo.builtin.build_systems.makefile import MakefilePackage
except ImportError:  # before, it came with the import above
    pass

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 5))


class Unlearn(MakefilePackage):
    """Removes chosen knowledge from language models and measures what each step does to the rest; MPI."""

    homepage = "https://arxiv.org/abs/2502.19301"
    url = f"file://{TOP}/build/dist/unlearn-0.2.0.tar.gz"
    license("MIT")

    version("0.2.0")

    variant("precision", default="float", values=("float", "double"), multi=True, description="programs to build")
    variant("blas", default="openblas", values=("openblas", "mkl", "blis"), multi=False, description="BLAS library")

    depends_on("c", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi@3:")
    depends_on("hdf5@1.10.7:1.10,1.12.1:+hl")
    depends_on("openblas threads=openmp", when="blas=openblas")
    depends_on("intel-oneapi-mkl@2023:", when="blas=mkl")
    depends_on("blis+cblas threads=openmp", when="blas=blis")
    depends_on("libyaml")
    depends_on("jansson@2.10:")
    depends_on("pcre2@10.40:")
    depends_on("utf8proc@2:")
    depends_on("xxhash@0.8:")
    depends_on("zlib-api")
    depends_on("random123")

    def settings(self, precision):
        """What `make` is told: Spack's compiler wrapper chooses the processor, its libraries are named in full."""
        hdf5, blas = self.spec["hdf5:hl"], self.spec["blas"]
        return [
            f"PRECISION={precision}",
            f"CC={self.spec['mpi'].mpicc}",
            f"BLAS={self.spec.variants['blas'].value}",
            f"HDF5_CFLAGS={hdf5.headers.include_flags}",
            f"HDF5_LIBS={hdf5.libs.ld_flags}",
            f"BLAS_CFLAGS={blas.headers.include_flags}",
            f"BLAS_LIBS={blas.libs.ld_flags}",
            f"CPPFLAGS={self.spec['random123'].headers.include_flags}",
            "OPT=-O3 -fno-math-errno -fno-trapping-math",
        ]

    def build(self, spec, prefix):
        for precision in spec.variants["precision"].value:
            make(*self.settings(precision))

    def install(self, spec, prefix):
        for precision in spec.variants["precision"].value:
            make("install", f"PREFIX={prefix}", *self.settings(precision))
