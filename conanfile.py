# SPDX-License-Identifier: Apache-2.0
"""The Conan 2 package: the headers, and the targets that our own find_package(mistral) gives.

`conan create .` makes it of this folder and runs tests/consumers/test_package. A recipe for an index takes the sources from
a release (conandata.yml and source()) in place of export_sources(), and names the version; the rest stands.
"""
import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load
from conan.tools.layout import basic_layout
from conan.tools.scm import Version

required_conan_version = ">=2.1"


class MistralConan(ConanFile):
    name = "mistral"
    description = "Mistral 7B on the CPU: a header-only C++20 library"
    license = "Apache-2.0"
    topics = ("llm", "mistral", "transformer", "inference", "fine-tuning", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"with_eigen": [True, False]}  # for mistral/eigen.hpp, which the other headers don't include
    default_options = {"with_eigen": False}
    no_copy_source = True
    test_package_folder = os.path.join("tests", "consumers", "test_package")
    # the functions mistral_add_config, mistral_add_instances and mistral_add_kernels
    cmake_modules = ["MistralConfigs.cmake", "MistralInstances.cmake", "MistralKernels.cmake"]

    def set_version(self):
        """The version is that of CMakeLists.txt."""
        if not self.version:
            project = load(self, os.path.join(self.recipe_folder, "CMakeLists.txt"))
            self.version = re.search(r"^project\(mistral VERSION ([0-9.]+)", project, re.MULTILINE).group(1)

    def export_sources(self):
        copy(self, "LICENSE", self.recipe_folder, self.export_sources_folder)
        for headers in ("include/*.hpp", "include/*.h"):
            copy(self, headers, self.recipe_folder, self.export_sources_folder)
        for module in self.cmake_modules:
            copy(self, f"cmake/{module}", self.recipe_folder, self.export_sources_folder)

    def layout(self):
        basic_layout(self)

    def requirements(self):
        # our headers include theirs
        self.requires("xsimd/14.2.0", transitive_headers=True)
        self.requires("onetbb/2023.1.0", transitive_headers=True, transitive_libs=True)
        if self.options.with_eigen:
            self.requires("eigen/5.0.1", transitive_headers=True)

    def package_id(self):
        self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)
        if self.settings.os not in ("Linux", "FreeBSD"):
            raise ConanInvalidConfiguration("mistral maps files with mmap and is tested on Linux")
        oldest = {"gcc": "12", "clang": "14"}.get(str(self.settings.compiler))
        if oldest and Version(self.settings.compiler.version) < oldest:
            raise ConanInvalidConfiguration(f"mistral needs {self.settings.compiler} {oldest} or newer")
        if self.settings.arch not in ("x86_64", "armv8"):
            raise ConanInvalidConfiguration("mistral is for x86_64 and armv8")

    def build(self):
        pass

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        for headers in ("*.hpp", "*.h"):
            copy(self, headers, os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"))
        for module in self.cmake_modules:
            copy(self, module, os.path.join(self.source_folder, "cmake"),
                 os.path.join(self.package_folder, "share", "cmake", "mistral"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "mistral")
        self.cpp_info.set_property("cmake_target_name", "mistral::mistral")
        self.cpp_info.set_property("pkg_config_name", "mistral")
        self.cpp_info.set_property("cmake_build_modules",
                                   [os.path.join("share", "cmake", "mistral", module) for module in self.cmake_modules])
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        # not all of onetbb, whose tbbmalloc_proxy would put its own malloc in the place of the program's
        self.cpp_info.requires = ["xsimd::xsimd", "onetbb::libtbb"]
        if self.options.with_eigen:
            self.cpp_info.requires.append("eigen::eigen")
        self.cpp_info.system_libs = ["pthread"]
