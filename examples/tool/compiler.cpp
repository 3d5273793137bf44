// SPDX-License-Identifier: Apache-2.0
#include "compiler.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>
#include <system_error>
#include <thread>
#include <utility>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/checksum.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/folder_content.hpp>
#include <mistral/run/open_model.hpp>
#include <mistral/simd/cpu.hpp>

#include "compile_settings.hpp"
#include "console.hpp"
#include "endings.hpp"
#include "fingerprint.hpp"
#include "header_fingerprint.hpp"

extern char** environ;

namespace mistral::tool {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view library_ending = ".so";
constexpr std::string_view object_ending = ".o";  // of kernels that several models share

Error cannot(const std::string& path, const std::string& what, int reason = errno) {
  return Error("compile", printable(path, 1000) + ": cannot " + what +
                              " (MISTRAL_CACHE names another folder): " + std::generic_category().message(reason));
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::vector<std::string> words_of(const std::string& text, char separator) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, separator);) {
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

bool is_program(const std::string& path) { return is_regular_file(path) && ::access(path.c_str(), X_OK) == 0; }

// The compiler that MISTRAL_CXX names; else the one that built this program, else c++ on the PATH. Empty where there is
// none.
std::string find_compiler() {
  if (const std::string named = environment("MISTRAL_CXX"); !named.empty()) {
    if (is_program(named)) return named;
    throw Error("compile", "MISTRAL_CXX", "the path of a C++ compiler", "'" + printable(named, 400) + "'");
  }
  if (is_program(compiler_path)) return compiler_path;
  for (const std::string& folder : words_of(environment("PATH"), ':')) {
    if (const std::string path = path_in(folder, "c++"); is_program(path)) return path;
  }
  return {};
}

// The folder of our headers: where they were when this program was built, else beside it, where they are installed.
std::string find_headers() {
  std::vector<std::string> places{include_folder};
  char self[4096];
  const ssize_t size = ::readlink("/proc/self/exe", self, sizeof self);
  if (size > 0 && size < static_cast<ssize_t>(sizeof self)) {
    std::string path(self, static_cast<std::size_t>(size));
    for (int i = 0; i < 2; ++i) path.resize(std::min(path.size(), path.rfind('/')));
    places.push_back(path + "/include");
  }
  std::string found;
  for (const std::string& place : places) {
    const std::string fingerprint = fingerprint_of(place);
    if (fingerprint == header_fingerprint) return place;
    if (!fingerprint.empty()) found = place;
  }
  if (!found.empty()) {
    throw Error("compile", printable(found, 1000) + ": build this program again",
                "the headers that it was built from (" + std::string(header_fingerprint) + ")", "others");
  }
  throw Error("compile", printable(include_folder, 1000), "the library's headers, to compile a model from", "none");
}

// What the compiler is told of the machine.
std::string processor_option() {
  if (processor_flag[0] != '\0') return processor_flag;
#if defined(__aarch64__)
  return "-mcpu=native";
#else
  return "-march=native";
#endif
}

// The command that compiles `source`, without the folder of our headers, which the key of a model has by content.
std::vector<std::string> compile_options() {
  std::vector<std::string> options = words_of(compiler_flags, ' ');
  options.insert(options.end(), {"-std=c++20", processor_option(), "-g0", "-w", "-fPIC", "-fvisibility=hidden",
                                 "-fvisibility-inlines-hidden", "-DMISTRAL_ABI=" MISTRAL_TEXT(MISTRAL_ABI),
                                 "-DMISTRAL_HEADERS=\"" + std::string(header_fingerprint) + "\""});
  if (std::string_view(compiler_id).starts_with("GNU")) {
    options.emplace_back("-fno-gnu-unique");  // such symbols would be shared between libraries
  }
  for (const std::string& folder : words_of(library_folders, '\n')) options.insert(options.end(), {"-isystem", folder});
  return options;
}

std::vector<std::string> link_options() {
  return {"-shared", tbb_library, "-Wl,-rpath," + std::string(tbb_folder), "-pthread"};
}

// What a compiler is told by: another one of that path is another compiler.
std::string identity_of(const std::string& compiler) {
  struct ::stat status = {};
  if (::stat(compiler.c_str(), &status) != 0) return compiler;
  return compiler + " " + std::to_string(status.st_size) + " " + std::to_string(status.st_mtime);
}

// The name of a choice in the cache folder: another page, compiler, option, header or processor gives another.
std::string key_of(const std::string& page, const std::string& compiler) {
  std::string text = page + "\n" + identity_of(compiler) + "\n" + std::to_string(simd::cpu_features()) + "\n";
  for (const std::string& option : compile_options()) text.append(option).append("\n");
  for (const std::string& option : link_options()) text.append(option).append("\n");
  const std::uint64_t first = checksum(std::as_bytes(std::span(text)));
  text += "again";
  return checksum_text(first) + checksum_text(checksum(std::as_bytes(std::span(text))));
}

// A folder that is only the user's, made where it isn't there with those above it.
void make_cache_folder(const std::string& folder) {
  for (std::size_t end = folder.find('/', 1);; end = folder.find('/', end + 1)) {
    const std::string part = folder.substr(0, end);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST && !path_exists(part)) {
      throw cannot(part, "make the folder for compiled models");
    }
    if (end == std::string::npos) break;
  }
  struct ::stat status = {};
  if (::stat(folder.c_str(), &status) != 0) throw cannot(folder, "open the folder for compiled models");
  if (!S_ISDIR(status.st_mode)) throw cannot(folder, "open the folder for compiled models", ENOTDIR);
  if (status.st_uid != ::geteuid()) {
    throw Error("compile", printable(folder, 1000) + " (MISTRAL_CACHE names another folder)",
                "a folder of your own (user " + std::to_string(::geteuid()) + ")",
                "one of user " + std::to_string(status.st_uid));
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    throw Error("compile", printable(folder, 1000) + ": take away others' right to write it (chmod go-w)",
                "a folder that you alone may write", "one that others may write too");
  }
}

// While it lives, no other process compiles the same model.
class BuildLock {
 public:
  explicit BuildLock(const std::string& path) {
    file_ = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (file_ < 0) throw cannot(path, "write");
    if (::flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    const Progress progress("waiting for another process, which compiles for this checkpoint ...");
    while (::flock(file_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  BuildLock(const BuildLock&) = delete;
  BuildLock& operator=(const BuildLock&) = delete;
  ~BuildLock() { ::close(file_); }

 private:
  int file_ = -1;
};

// A folder for one compilation, which goes with all that is in it.
class BuildFolder {
 public:
  explicit BuildFolder(std::string folder) : folder_(std::move(folder)) {
    remove();  // what a process left that was killed: nobody else is here, for there is a lock
    if (::mkdir(folder_.c_str(), 0700) != 0) throw cannot(folder_, "make the folder");
    remove_build_if_ended(folder_);
  }
  BuildFolder(const BuildFolder&) = delete;
  BuildFolder& operator=(const BuildFolder&) = delete;
  ~BuildFolder() {
    remove();
    remove_build_if_ended({});
  }

  std::string file(const std::string& name) const { return path_in(folder_, name); }

  void write(const std::string& name, const std::string& content) const {
    std::ofstream out(file(name), std::ios::binary);
    out << content;
    out.close();
    if (!out) throw cannot(file(name), "write", errno != 0 ? errno : ENOSPC);
  }

 private:
  void remove() const {
    ::DIR* const entries = ::opendir(folder_.c_str());
    if (entries == nullptr) return;
    while (const ::dirent* const entry = ::readdir(entries)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") ::unlinkat(::dirfd(entries), entry->d_name, 0);
    }
    ::closedir(entries);
    ::rmdir(folder_.c_str());
  }

  std::string folder_;
};

// A compiler that runs.
class Child {
 public:
  Child(const std::vector<std::string>& command, const std::string& log) : name_(command[0]), log_(log) {
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    std::vector<char*> variables;  // without a language: what it says is looked at
    for (char** variable = environ; *variable != nullptr; ++variable) {
      if (!std::string_view(*variable).starts_with("LC_ALL=")) variables.push_back(*variable);
    }
    char language[] = "LC_ALL=C";
    variables.push_back(language);
    variables.push_back(nullptr);
    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
    // a signal that ends us waits until it is known whom else to end; the child takes signals as ever
    ::sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before);
    ::posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setsigmask(&attributes, &before);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    const int reason = ::posix_spawn(&child_, name_.c_str(), &actions, &attributes, arguments.data(), variables.data());
    if (reason == 0) end_with_us(child_);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    if (reason != 0) {
      child_ = -1;
      throw Error("compile", printable(name_, 1000) + ": cannot run: " + std::generic_category().message(reason));
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (child_ <= 0 || done_) return;
    ::kill(child_, SIGTERM);
    while (::waitpid(child_, &status_, 0) < 0 && errno == EINTR) {
    }
    forget_child(child_);
  }

  // Whether it has ended. Throws Error where it failed; the file `kept` then holds all that it said.
  bool ended(const std::string& kept) {
    if (done_) return true;
    const pid_t changed = ::waitpid(child_, &status_, WNOHANG);
    if (changed == 0 || (changed < 0 && errno == EINTR)) return false;
    done_ = true;
    forget_child(child_);
    if (WIFEXITED(status_) && WEXITSTATUS(status_) == 0) return true;
    std::string line;
    std::ifstream log(log_);
    for (std::string next; std::getline(log, next);) {
      const bool tells = next.find("error") != std::string::npos || next.find("No space left") != std::string::npos;
      if (line.empty() || tells) line = next;
      if (tells) break;
    }
    const bool keeps = ::rename(log_.c_str(), kept.c_str()) == 0;
    const std::string end = WIFSIGNALED(status_)
                                ? "was ended by signal " + std::to_string(WTERMSIG(status_)) +
                                      (WTERMSIG(status_) == SIGKILL ? " (perhaps there is too little memory)" : "")
                                : "failed";
    throw Error("compile", printable(name_, 1000) + " " + end + (line.empty() ? "" : ": " + printable(line, 400)) +
                               (keeps && !line.empty() ? " (all that it said: " + printable(kept, 1000) + ")" : ""));
  }

 private:
  std::string name_;
  std::string log_;
  pid_t child_ = -1;
  int status_ = 0;
  bool done_ = false;
};

void run(const std::vector<std::vector<std::string>>& commands, const BuildFolder& build, const std::string& kept) {
  std::vector<std::unique_ptr<Child>> children;
  for (std::size_t i = 0; i < commands.size(); ++i) {
    children.push_back(std::make_unique<Child>(commands[i], build.file(std::to_string(i) + ".log")));
  }
  for (;;) {
    std::size_t ended = 0;
    for (const auto& child : children) ended += child->ended(kept) ? 1 : 0;
    if (ended == children.size()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::string needed_compiler() {
  const std::string compiler = find_compiler();
  if (!compiler.empty()) return compiler;
  throw Error("compile",
              "a model is compiled when it is first met: install a C++ compiler (Debian: apt-get install g++), or "
              "compile elsewhere (mistral compile --out) and pass --compiled FILE",
              std::string(compiler_path) + ", or c++ on the PATH", "neither");
}

// A page of C++ and the object that it becomes.
struct Unit {
  std::string name;  // in the folder of a compilation
  std::string page;
  std::vector<std::string> options;
  std::string kept;  // where the object stays, if it isn't only for this library; it may be there already
};

// Whether an object that was kept is there, and nobody else's.
bool is_kept(const std::string& path) {
  struct ::stat status = {};
  return !path.empty() && ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         status.st_uid == ::geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// Puts an object where the next library finds it. The folder may be of another file system than the compilation's.
void keep_object(const std::string& made, const std::string& kept) {
  std::ifstream in(made, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  AtomicFile out(kept, "compile");
  out.write(std::as_bytes(std::span(bytes)));
  out.commit();
  if (::chmod(kept.c_str(), 0600) != 0) throw cannot(kept, "write");  // whatever the user's mask lets others do
}

// Gives a library its name, when all of it is on the disk.
void move_into_place(const std::string& made, const std::string& library) {
  const int file = ::open(made.c_str(), O_RDONLY | O_CLOEXEC);
  const bool good = file >= 0 && ::fsync(file) == 0 && ::fchmod(file, 0700) == 0;
  const int reason = errno;
  if (file >= 0) ::close(file);
  if (!good) throw cannot(made, "write", reason);
  if (::rename(made.c_str(), library.c_str()) != 0) throw cannot(library, "write");
  detail::sync_folder_of(library);
}

// Makes `library` of units, which are compiled at the same time, in a folder of its own beside it.
void build(const std::vector<Unit>& units, const std::string& compiler, const std::string& library,
           const std::string& kept) {
  const Clock::time_point begin = Clock::now();
  const std::string headers = find_headers();
  {
    const Progress progress("compiling for this checkpoint ...");
    const BuildFolder folder(library + ".build");
    folder.write("model.map", "{ global: mistral_*; local: *; };\n");
    std::vector<std::vector<std::string>> commands;
    std::vector<std::string> link{compiler};
    for (const Unit& unit : units) {
      if (is_kept(unit.kept)) {
        link.push_back(unit.kept);
        continue;
      }
      folder.write(unit.name + ".cpp", unit.page);
      std::vector<std::string>& command = commands.emplace_back(1, compiler);
      for (const auto& options : {compile_options(), unit.options}) {
        command.insert(command.end(), options.begin(), options.end());
      }
      link.push_back(folder.file(unit.name + ".o"));
      command.insert(command.end(), {"-I", headers, "-c", folder.file(unit.name + ".cpp"), "-o", link.back()});
    }
    run(commands, folder, kept);

    link.insert(link.end(), {"-o", folder.file("model.so")});
    const std::vector<std::string> with = link_options();
    link.insert(link.end(), with.begin(), with.end());
#ifdef __linux__
    link.push_back("-Wl,--version-script=" + folder.file("model.map"));
    link.emplace_back("-Wl,-Bsymbolic");  // a library uses its own functions, whatever others a program has opened
#endif
    try {
      run({link}, folder, kept);
    } catch (...) {  // an object that was kept may have been damaged since: the next try makes it again
      for (const Unit& unit : units) ::unlink(unit.kept.c_str());
      throw;
    }
    for (const Unit& unit : units) {
      const std::string object = folder.file(unit.name + ".o");
      if (!unit.kept.empty() && path_exists(object)) keep_object(object, unit.kept);
    }
    move_into_place(folder.file("model.so"), library);
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - begin).count();
  note("compiling for this checkpoint ... " + std::to_string(seconds) + " s\n");
}

// Where the object of a page is kept that more than one library needs; empty without a folder.
std::string kept_object(const std::string& page, const std::string& compiler, const std::string& folder) {
  return folder.empty() ? std::string() : path_in(folder, key_of(page, compiler) + std::string(object_ending));
}

// The units of a choice: its type and its kernels, each of which takes the compiler about as long. What is the same for
// all models a library of the cache finds in this program (examples_once).
std::vector<Unit> units_of(const ModelChoice& choice, const std::string& compiler, const std::string& folder) {
  std::vector<std::string> options{"-DMISTRAL_PARTS_ELSEWHERE=1"};
  const std::vector<std::string> all = compile_options();
  const bool optimizes = std::find(all.begin(), all.end(), "-O3") != all.end();
  // but for training, what takes a model's time is in the kernels
  if (optimizes && !choice.trains) options.emplace_back("-O2");
  return {{"model", page_of(choice), options, {}},
          {"kernels", kernels_page_of(choice), {}, kept_object(kernels_page_of(choice), compiler, folder)}};
}

}  // namespace

std::string cache_folder() {
  std::string folder = environment("MISTRAL_CACHE");
  if (folder.empty() && environment("XDG_CACHE_HOME").starts_with('/')) {
    folder = path_in(environment("XDG_CACHE_HOME"), "mistral");
  }
  if (folder.empty() && !environment("HOME").empty()) folder = path_in(environment("HOME"), ".cache/mistral");
  if (folder.empty()) {
    throw Error("compile", "the folder for compiled models", "MISTRAL_CACHE, XDG_CACHE_HOME or HOME to name it",
                "none of them");
  }
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  return folder;
}

const AnyModelType& compiled_type(const ModelChoice& choice) {
  const std::string page = page_of(choice);
  const std::string folder = cache_folder();
  std::string compiler = find_compiler();
  if (compiler.empty()) compiler = compiler_path;  // what was compiled before is still there
  const std::string key = key_of(page, compiler);
  const std::string library = path_in(folder, key + std::string(library_ending));
  if (!path_exists(library)) {
    compiler = needed_compiler();
    make_cache_folder(folder);
    const std::string lock = path_in(folder, key + ".lock");
    const BuildLock alone(lock);
    if (!path_exists(library)) {
      build(units_of(choice, compiler, folder), compiler, library, path_in(folder, key + ".log"));
      AtomicFile text(path_in(folder, key + ".cpp"), "compile");
      text.write(std::as_bytes(std::span(page)));
      text.commit();
    }
    ::unlink(lock.c_str());
  }
  return open_compiled_model(library, header_fingerprint);
}

void compile_to(const ModelChoice& choice, const std::string& out) {
  const std::string compiler = needed_compiler();
  std::string folder;
  try {
    folder = cache_folder();
    make_cache_folder(folder);
  } catch (const Error&) {  // all is compiled again then
    folder.clear();
  }
  std::vector<Unit> units = units_of(choice, compiler, folder);
  units.push_back({"common", common_page(), {}, kept_object(common_page(), compiler, folder)});
  build(units, compiler, out, out + ".log");
}

std::vector<CachedModel> cached_models() {
  std::vector<CachedModel> models;
  const std::string folder = cache_folder();
  for (const std::string& name : names_in(folder)) {
    if (!name.ends_with(library_ending)) continue;
    CachedModel model{path_in(folder, name), "a model", 0};
    struct ::stat status = {};
    if (::stat(model.path.c_str(), &status) == 0) model.bytes = static_cast<std::size_t>(status.st_size);
    std::ifstream page(path_in(folder, name.substr(0, name.size() - library_ending.size()) + ".cpp"));
    std::string line;
    if (std::getline(page, line) && line.starts_with("// ")) model.description = line.substr(3);
    models.push_back(std::move(model));
  }
  std::sort(models.begin(), models.end(), [](const auto& x, const auto& y) { return x.path < y.path; });
  return models;
}

std::size_t clear_cached_models() {
  std::size_t count = 0;
  const std::string folder = cache_folder();
  constexpr std::size_t key_digits = 32;
  for (const std::string& name : names_in(folder)) {
    const bool ours = name.size() > key_digits && name.find_first_not_of("0123456789abcdef") == key_digits;
    const std::string_view ending = ours ? std::string_view(name).substr(key_digits) : std::string_view();
    const std::string_view endings[] = {library_ending, object_ending, ".cpp", ".log", ".lock"};
    if (std::find(std::begin(endings), std::end(endings), ending) == std::end(endings)) continue;
    const std::string path = path_in(folder, name);
    if (::unlink(path.c_str()) != 0) throw cannot(path, "remove");
    if (ending == library_ending) ++count;
  }
  return count;
}

}  // namespace mistral::tool
