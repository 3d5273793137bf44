#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""packages.py ROOT: what the packages say is what CMakeLists.txt says.

The recipe of Conan is run with stand-ins for Conan's own modules, the manifests and the port of vcpkg are read. Prints a
line for each fault, and ends with 1 where there is one.
"""
import fnmatch
import json
import os
import re
import sys
import tempfile
import types
from pathlib import Path

ROOT = Path(sys.argv[1])
# find_package's name, and what Conan, vcpkg and pkg-config call it; threads are part of the compiler
LIBRARIES = {"TBB": ("onetbb", "tbb", "tbb"), "xsimd": ("xsimd", "xsimd", "xsimd")}
OPTIONAL = {"with_eigen": "eigen"}  # options of the recipe, and what each brings
BUILD_HELPERS = ["vcpkg-cmake", "vcpkg-cmake-config"]
faults = []


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def expect(what, expected, got):
    if expected != got:
        faults.append(f"{what}: expected {expected!r}, got {got!r}")


class Recorder:
    """What a recipe tells Conan, kept."""

    def __init__(self):
        self.properties = {}

    def set_property(self, name, value):
        self.properties[name] = value


def load_recipe():
    """The class of conanfile.py, with as much of Conan as it calls."""

    class ConanFile:
        version = None

        def __init__(self):
            self.required = []
            self.cleared = False
            self.cpp_info = Recorder()
            self.info = types.SimpleNamespace(clear=lambda: setattr(self, "cleared", True))
            self.options = types.SimpleNamespace(**getattr(self, "default_options", {}))

        def requires(self, reference, **traits):
            self.required.append((reference, traits))

    def copy(_recipe, pattern, src, dst):
        for file in Path(src).rglob("*"):
            name = file.relative_to(src)
            if fnmatch.fnmatch(str(name), pattern) and file.is_file():
                target = Path(dst) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())

    modules = {
        "conan": {"ConanFile": ConanFile},
        "conan.errors": {"ConanInvalidConfiguration": type("ConanInvalidConfiguration", (Exception,), {})},
        "conan.tools": {},
        "conan.tools.build": {"check_min_cppstd": lambda *_: None, "can_run": lambda _: True},
        "conan.tools.cmake": {name: None for name in ("CMake", "CMakeDeps", "CMakeToolchain", "cmake_layout")},
        "conan.tools.files": {"copy": copy, "load": lambda _, path: Path(path).read_text(encoding="utf-8")},
        "conan.tools.layout": {"basic_layout": lambda *_, **__: None},
        "conan.tools.scm": {"Version": str},
    }
    for name, content in modules.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)
    scope = {"__file__": str(ROOT / "conanfile.py")}
    exec(compile(text("conanfile.py"), "conanfile.py", "exec"), scope)
    compile(text("tests/consumers/test_package/conanfile.py"), "test_package/conanfile.py", "exec")
    return scope["MistralConan"]


def headers_under(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.h*"))


project = re.search(r'^project\((\w+) VERSION ([0-9.]+) DESCRIPTION "([^"]+)"', text("CMakeLists.txt"), re.MULTILINE)
name, version, description = project.groups()
found = re.findall(r"^ *find_package\((\w+)", text("CMakeLists.txt").split("add_library(mistral ")[0], re.MULTILINE)
libraries = [library for library in found if library != "Threads"]
expect("CMakeLists.txt: the libraries it finds", sorted(LIBRARIES), sorted(libraries))
expect("mistralConfig.cmake.in: the packages it finds", sorted(found),
       sorted(re.findall(r"find_dependency\((\w+)", text("cmake/mistralConfig.cmake.in"))))
requires = re.search(r"^Requires: (.*)$", text("cmake/mistral.pc.in"), re.MULTILINE).group(1).split()
expect("mistral.pc.in: Requires", sorted(LIBRARIES[library][2] for library in libraries), sorted(requires))

# Conan
recipe = load_recipe()()
recipe.recipe_folder = str(ROOT)
recipe.set_version()
expect("conanfile.py: name, version, description", (name, version, description),
       (recipe.name, recipe.version, recipe.description))
recipe.requirements()
expect("conanfile.py: the packages it requires", sorted(LIBRARIES[library][0] for library in libraries),
       sorted(reference.split("/")[0] for reference, _ in recipe.required))
expect("conanfile.py: options, off unless asked for", {option: False for option in OPTIONAL}, recipe.default_options)
for option, package in OPTIONAL.items():
    asked = load_recipe()()
    setattr(asked.options, option, True)
    asked.requirements()
    asked.package_info()
    expect(f"conanfile.py: what {option} brings", [package],
           [ref.split("/")[0] for ref, _ in asked.required if ref not in [known for known, _ in recipe.required]])
    expect(f"conanfile.py: what {option} links", True, f"{package}::{package}" in asked.cpp_info.requires)
    recipe.required += [entry for entry in asked.required if entry[0].startswith(f"{package}/")]
for reference, traits in recipe.required:
    if not traits.get("transitive_headers"):
        faults.append(f"conanfile.py: {reference}: our headers include its headers, which must be transitive")
    if not re.fullmatch(r"[a-z]+/\d+(\.\d+)*", reference):
        faults.append(f"conanfile.py: {reference}: an index takes one version")
recipe.package_id()
expect("conanfile.py: package_id() clears", True, recipe.cleared)
recipe.package_info()
expect("conanfile.py: names", {"cmake_file_name": name, "cmake_target_name": f"{name}::{name}", "pkg_config_name": name},
       {key: value for key, value in recipe.cpp_info.properties.items() if key.endswith("_name")})
if not (ROOT / recipe.test_package_folder / "conanfile.py").is_file():
    faults.append(f"conanfile.py: no test package in {recipe.test_package_folder}")
with tempfile.TemporaryDirectory() as folder:
    recipe.export_sources_folder = recipe.source_folder = os.path.join(folder, "exported")
    recipe.package_folder = os.path.join(folder, "package")
    recipe.export_sources()
    recipe.package()
    expect("conanfile.py: the headers it packages", headers_under(ROOT / "include"),
           headers_under(os.path.join(recipe.package_folder, "include")))
    installed = re.findall(r"cmake/(Mistral\w+\.cmake)", text("CMakeLists.txt").split("if(MISTRAL_INSTALL)")[1])
    expect("conanfile.py: the modules for CMake, but for what Conan's own targets replace",
           sorted(set(installed) - {"MistralXsimd.cmake"}),
           sorted(path.name for path in Path(recipe.package_folder).rglob("*.cmake")))
    for module in recipe.cpp_info.properties.get("cmake_build_modules", []):
        expect(f"conanfile.py: {module} is packaged", True, os.path.isfile(os.path.join(recipe.package_folder, module)))
    expect("conanfile.py: the licence", ["LICENSE"], os.listdir(os.path.join(recipe.package_folder, "licenses")))

# vcpkg
port = json.loads(text("cmake/ports/mistral/vcpkg.json"))
manifest = json.loads(text("vcpkg.json"))
wanted = sorted(LIBRARIES[library][1] for library in libraries)
for where, content, dependencies in (("cmake/ports/mistral/vcpkg.json", port, sorted(wanted + BUILD_HELPERS)),
                                     ("vcpkg.json", manifest, wanted)):
    expect(f"{where}: name, version, description", (name, version, description),
           (content["name"], content["version"], content["description"]))
    expect(f"{where}: license", recipe.license, content["license"])
    named = [entry if isinstance(entry, str) else entry["name"] for entry in content["dependencies"]]
    expect(f"{where}: dependencies, sorted", dependencies, named)
    for entry in content["dependencies"]:
        if not isinstance(entry, str) and not entry.get("host"):
            faults.append(f"{where}: {entry['name']}: a helper of the build is for the host")
for feature in manifest["features"].values():
    option = re.match(r"What (\w+) builds with", feature["description"]).group(1)
    if f"option({option} " not in text("CMakeLists.txt"):
        faults.append(f"vcpkg.json: CMakeLists.txt has no option {option}")
for option in re.findall(r"-D(MISTRAL_\w+)=", text("cmake/ports/mistral/portfile.cmake")):
    if not re.search(rf"^(option|set)\({option} ", text("CMakeLists.txt"), re.MULTILINE):
        faults.append(f"portfile.cmake: CMakeLists.txt has no option {option}")
for words in (f"find_package({name} CONFIG REQUIRED)", f"PRIVATE {name}::{name})"):
    if words not in text("cmake/ports/mistral/usage"):
        faults.append(f"cmake/ports/mistral/usage: doesn't say {words}")

newest = re.search(r"^## \[([0-9.]+)\]", text("docs/CHANGELOG.md"), re.MULTILINE).group(1)
expect("docs/CHANGELOG.md: the newest version", version, newest)

for fault in faults:
    print(f"FAILED: {fault}")
if not faults:
    print(f"{name} {version}: the recipes of Conan, vcpkg, CMake and pkg-config agree")
sys.exit(1 if faults else 0)
