// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

/// \file
/// How the program ends where no destructor runs: by a signal, for want of memory, by a fault of a mapped file.

namespace mistral::tool {

/// Has temporary files, and folders that hold nothing yet, go before a signal ends the program (Ctrl-C, a request to
/// end, a terminal that is closed, a reader that went away), which then ends by that signal; has a file that is cut
/// while it is mapped, and memory that runs out where nobody can catch that, end the program with a line and exit
/// code 1. To be called once, first of all, by the thread that writes files.
void watch_endings();

/// The handler that does so for a signal: for those who had another one in its place, to be put back.
void end_by(int signal);

/// Has a folder, unless it is there already, go again when the program is ended by a signal before there is a file in
/// it.
void remove_if_ended(const std::string& folder);

/// Says that the memory is used up, without using any, and gives the exit code.
int out_of_memory() noexcept;

/// Has an ending also remove the folder of a compilation, with what a compiler leaves in one. An empty path: no longer.
void remove_build_if_ended(const std::string& folder);

/// Has an ending also end a child, until it is forgotten.
///@{
void end_with_us(int child) noexcept;
void forget_child(int child) noexcept;
///@}

}  // namespace mistral::tool
