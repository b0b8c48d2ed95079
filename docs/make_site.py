"""Makes a site of the project's Markdown files: make_site.py DIRECTORY. Files keep their places, so that links between them hold; a file of
another kind that is linked to becomes a page with its text, a directory one with its names. Equations become MathML: no scripts, no network."""
import importlib.util
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

from latex2mathml.converter import convert
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).resolve().parent.parent
FIRST = ["README.md", "docs/README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
IMAGES = (".png", ".svg", ".jpg")
CODE = re.compile(r"(```.*?```|``.*?``|`[^`\n]*`)", re.S)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
NAV = [{"Documentation": "docs/README.md"}, {"unlearn": "README.md"},
       {"To begin": ["docs/FIRST_RUN.md", "docs/OBJECTIVES.md", "docs/FROM_OPEN_UNLEARNING.md", "docs/TROUBLESHOOTING.md", "inputs/README.md",
                      "jobs/README.md"]},
       {"Reference": ["docs/INPUT.md", "docs/OUTPUT.md"]},
       {"Guides": ["docs/LAYOUT.md", "docs/SPEED.md", "docs/TEMPLATES.md", "docs/MODELS.md", "docs/TRAINING.md", "docs/EVALUATION.md", "docs/CHECKPOINT.md", "docs/FAULTS.md"]},
       {"What is measured": ["docs/THEORY.md", "docs/TOKENS.md", "docs/PAIRS.md", "docs/CURVATURE.md", "docs/GUARD.md", "analysis/CLAIMS.md"]},
       {"The code": ["src/README.md", "docs/EXTENDING.md", "CONTRIBUTING.md", "CHANGELOG.md"]}]


def outside_code(text, change):
    """The text with what is no code changed."""
    parts = CODE.split(text)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))


class Site:
    def __init__(self, stage):
        self.stage, self.staged, self.todo = stage, set(), list(FIRST)

    def page_of(self, path):
        """The page that stands for a path of the project, as a path of the stage; None: there is no such file."""
        here = ROOT / path
        if here.is_dir():
            return f"{path}/README.md"
        if not here.exists():
            return None
        return path if here.suffix == ".md" or here.suffix in IMAGES else f"{path}.md"

    def linked(self, page, target):
        """A link's new target; what it leads to is staged too."""
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return target
        whole = (ROOT / page).parent.joinpath(path).resolve()
        if not whole.is_relative_to(ROOT):
            return target
        name = whole.relative_to(ROOT).as_posix()
        to = self.page_of(name)
        if to is None:
            raise SystemExit(f"make_site.py: {page}: {target} leads nowhere")
        self.todo.append(to)
        up = PurePosixPath("/".join([".."] * (len(PurePosixPath(page).parts) - 1)) or ".")
        return (up / to).as_posix() + mark + anchor

    def text_of(self, page):
        """The Markdown of a page: its file, the names of a directory, or the text of a file that is none."""
        here = ROOT / page
        if here.exists():
            return here.read_text()
        if here.name == "README.md":
            names = sorted(p.name for p in here.parent.iterdir() if not p.name.startswith((".", "__")))
            return f"# {here.parent.name}/\n\n" + "".join(f"- [{n}]({n})\n" for n in names)
        source = ROOT / page.removesuffix(".md")
        return f"# {source.name}\n\n```\n{source.read_text(errors='replace').rstrip()}\n```\n"

    def add(self, page):
        if page in self.staged:
            return
        self.staged.add(page)
        to = self.stage / page
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / page).suffix in IMAGES:
            shutil.copyfile(ROOT / page, to)
            return
        relink = lambda text: LINK.sub(lambda m: m[1] + self.linked(page, m[2]) + m[3], text)
        to.write_text(outside_code(self.text_of(page), relink))

    def fill(self):
        while self.todo:
            self.add(self.todo.pop())


# ------------------------------------------------------------------------------------------- hooks of mkdocs: equations
equations = []


def on_page_markdown(markdown, **_):
    def keep(kind):
        def put(m):
            equations.append(convert(m[1], display=kind))
            return f"EQUATION{len(equations) - 1}E"
        return put
    equations.clear()
    return outside_code(markdown, lambda t: re.sub(r"\$([^$\n]+?)\$", keep("inline"), re.sub(r"\$\$(.+?)\$\$", keep("block"), t, flags=re.S)))


def on_page_content(html, **_):
    return re.sub(r"EQUATION(\d+)E", lambda m: equations[int(m[1])], html)


def check_offline(site):
    """Nothing that a page loads lies elsewhere."""
    for page in site.rglob("*.html"):
        found = re.findall(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+\"", page.read_text())
        if [f for f in found if 'rel="canonical"' not in f]:
            raise SystemExit(f"make_site.py: {page}: loads from the network: {found[0]}")


def main(target):
    target = Path(target).resolve()
    stage = target.with_name(target.name + "-pages")
    shutil.rmtree(stage, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    stage.mkdir(parents=True)
    Site(stage).fill()
    shutil.copyfile(ROOT / "docs/site.css", stage / "site.css")
    font = Path(importlib.util.find_spec("ziamath").origin).parent / "fonts/STIXTwoMath-Regular.ttf"
    shutil.copyfile(font, stage / font.name)
    config = load_config(config_file=str(ROOT / "docs/mkdocs.yml"), docs_dir=str(stage), site_dir=str(target), nav=NAV, strict=True)
    build(config)
    check_offline(target)


if __name__ == "__main__":
    main(sys.argv[1])
