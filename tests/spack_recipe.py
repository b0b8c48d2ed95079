"""Spack's recipe without Spack: what it tells make are settings of the Makefile, and what it needs is what the Makefile asks for.

    spack_recipe.py VERSION"""
import re
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "docs/packages/spack/packages/unlearn/package.py"
NAMES = {"yaml-0.1": "libyaml", "jansson": "jansson", "libpcre2-8": "pcre2", "libutf8proc": "utf8proc", "libxxhash": "xxhash",
         "zlib": "zlib-api"}  # pkg-config's and Spack's


class Anything:
    """A concrete spec as far as the recipe asks it."""
    mpicc = include_flags = ld_flags = "of-the-spec"

    def __init__(self):
        self.headers = self.libs = self
        self.variants = {"precision": types.SimpleNamespace(value=("float", "double")),
                         "blas": types.SimpleNamespace(value="openblas")}

    def __getitem__(self, name):
        return self


def load(told, needs, versions):
    """The recipe's class, with directives that write down what they are given."""
    package = types.ModuleType("spack.package")
    package.MakefilePackage = object
    package.make = lambda *arguments: told.append(arguments)
    package.depends_on = lambda spec, **_: needs.add(re.match(r"[\w-]+", spec).group())
    package.version = lambda v, **_: versions.append(v)
    package.variant = package.license = lambda *_, **__: None
    sys.modules.update({"spack": types.ModuleType("spack"), "spack.package": package})
    scope = {"__file__": str(RECIPE), "__name__": "package"}
    exec(compile(RECIPE.read_text(), RECIPE, "exec"), scope)
    return scope["Unlearn"]


def main():
    told, needs, versions = [], set(), []
    recipe = load(told, needs, versions)
    one = recipe()
    one.spec = Anything()
    one.build(one.spec, "/prefix")
    one.install(one.spec, "/prefix")
    makefile = (ROOT / "Makefile").read_text()
    wanted = re.search(r"PKG +:= (.*)", makefile).group(1).split()
    names = [a.split("=")[0] for arguments in told for a in arguments if "=" in a]
    wrong = [f"{name}: no setting of the Makefile" for name in names
             if not re.search(rf"^{name} +:?=|\$\({name}\)|{name}=", makefile, re.M)]
    wrong += [f"{p}: the recipe does not need it" for p in wanted if NAMES.get(p, p) not in needs]
    wrong += [f"versions {versions}"] * (versions != sys.argv[1:]) + [f"make is called {len(told)} times"] * (len(told) != 4)
    wrong += [f"{recipe.url}: another tarball"] * (not recipe.url.endswith(f"{ROOT}/build/dist/unlearn-{sys.argv[1]}.tar.gz"))
    print("\n".join(wrong))
    sys.exit(bool(wrong))


main()
