"""Installation, with the kernel where it can be compiled. Everything else about the package is in pyproject.toml."""

import runpy
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).parent / "bertsmith" / "native"


class Build(build_py):
    """The Python files, and beside them the compiled kernel. Without a compiler the library still works, slower."""

    def run(self):
        super().run()
        folder = SOURCE if self.editable_mode else Path(self.build_lib) / "bertsmith" / "native"
        try:
            runpy.run_path(str(SOURCE / "build.py"))["build"](folder)
        except RuntimeError as error:
            print(f"bertsmith is installed without its compiled kernel: {error}", file=sys.stderr)


class Compiled(Distribution):
    """A wheel with a library in it is for one platform."""

    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": Build}, distclass=Compiled)
