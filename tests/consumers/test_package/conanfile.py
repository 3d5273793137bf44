# SPDX-License-Identifier: Apache-2.0
"""Builds a program with CMake against the package, as its users do, and has it print the golden logits."""
import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout


class MistralTestPackage(ConanFile):
    settings = "os", "arch", "compiler", "build_type"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False  # writes nothing beside the sources
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self):
        if can_run(self):
            golden = os.path.join(self.source_folder, "..", "..", "data", "forward", "gqa_w8")
            self.run(f'"{os.path.join(self.cpp.build.bindir, "golden_logits")}" "{golden}"', env="conanrun")
