// SPDX-License-Identifier: Apache-2.0
// seeds: none
// Edits the file of a session, whose sums are put right again where the input's first byte says so: a session is in
// the state that the file holds, or an error leaves it as it was.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <mistral/generate/session.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/parallel/parallel.hpp>

#include "attempt.hpp"
#include "micro.hpp"

using namespace mistral;

namespace {

using Model = Transformer<fuzz::micro, F32>;

struct Saved {
  parallel::ThreadLimit one{1};
  fuzz::Folder folder;
  Model model;
  Session<Model> session{model, 2};
  std::vector<std::string> good;  // of each kind

  Saved() {
    randomize(model, 1);
    const std::vector<TokenId> tokens{1, 2, 3, 4, 5, 6, 7, 8, 9};
    for (const std::size_t count : {2u, 9u}) {  // before and after the rings went round
      session.clear();
      session.prefill(std::span(tokens).first(count));
      for (const std::size_t kept : {std::size_t{0}, count}) {
        save_session(session, std::span(tokens).first(kept), folder.path("file"));
        good.push_back(folder.read("file"));
      }
    }
  }
};

// The sums of an edited file, as SessionFile's layout has them.
void mend(std::string& file, std::size_t header_before) {
  constexpr std::size_t preamble = SessionFile::preamble_bytes;
  if (file.size() < preamble) return;
  const auto sum_of = [&](std::size_t begin, std::size_t end) {
    return checksum(std::as_bytes(std::span(file)).subspan(begin, end - begin));
  };
  const auto put = [&](std::size_t at, std::uint64_t value) { std::memcpy(file.data() + at, &value, sizeof value); };
  // where the edited header ends: behind its last brace, at a multiple of 8 bytes
  const std::size_t limit = std::min(file.size(), preamble + header_before + 64);
  const std::size_t brace = file.rfind('}', limit - 1);
  if (brace == std::string::npos || brace < preamble) return;
  std::size_t header = (brace + 1 - preamble + 7) / 8 * 8;
  if (preamble + header > file.size()) return;
  std::fill(file.begin() + static_cast<std::ptrdiff_t>(brace) + 1,
            file.begin() + static_cast<std::ptrdiff_t>(preamble + header), ' ');
  put(16, header);
  put(24, sum_of(preamble, preamble + header));
  fuzz::attempt([&] {
    const JsonObject json =
        JsonObject::parse(std::as_bytes(std::span(file)).subspan(preamble, header), "state", "input");
    std::size_t at = preamble + header;
    const auto mend_part = [&](std::size_t bytes) {
      if (file.size() - at < sizeof(std::uint64_t) || bytes > file.size() - at - sizeof(std::uint64_t)) return false;
      put(at + bytes, sum_of(at, at + bytes));
      at += bytes + sizeof(std::uint64_t);
      return true;
    };
    const auto count = [&](const char* name) { return static_cast<std::size_t>(json.integer(name, 0, 1 << 20)); };
    if (!mend_part(count("tokens") * sizeof(TokenId))) return;
    while (mend_part(count("entries") * sizeof(KvEntry<float, fuzz::micro.head_dim>))) {
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Saved saved;
  if (size == 0) return 0;
  const std::string& good = saved.good[data[0] / 2 % saved.good.size()];
  std::string file = fuzz::edited({good}, std::span(data, size).subspan(1))[0];
  if (data[0] % 2 == 1) {
    std::uint64_t header = 0;
    std::memcpy(&header, good.data() + 16, sizeof header);
    mend(file, static_cast<std::size_t>(header));
  }
  const std::string path = saved.folder.write("file", file);
  const std::vector<TokenId> before{3, 1, 4};
  saved.session.clear();
  saved.session.prefill(before);
  std::vector<TokenId> tokens;
  if (fuzz::attempt([&] { tokens = load_session(saved.session, path); })) {
    fuzz::require(tokens.empty() || std::ssize(tokens) == saved.session.position());
    fuzz::require(saved.session.position() >= 0);
    for (const TokenId token : tokens) fuzz::require(token >= 0 && token < 29);
    saved.session.cache().for_each_ring(
        [&](const auto& ring) { fuzz::require(ring.position() == saved.session.position()); });
  } else {
    fuzz::require(saved.session.position() == std::ssize(before));
  }
  saved.session.decode(5);
  return 0;
}
