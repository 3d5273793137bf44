// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/kv_entry.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/random.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/io/checksum.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/mapped_file.hpp>
#include <mistral/io/packed/file_head.hpp>
#include <mistral/nn/adapter_choice.hpp>
#include <mistral/nn/layers.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/nn/weights.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Returns what a cache's element is called in files, and by the tool.
template <KvElement T>
constexpr std::string_view kv_name() noexcept {
  return std::same_as<T, float> ? "float" : std::same_as<T, bf16> ? "bf16" : "q8";
}

namespace detail {

/// A visitor that makes a number of names and weights: any other weight gives another number.
class WeightFingerprint {
 public:
  template <WeightFormat F>
  void operator()(const std::string& name, const Panels<F>& matrix, std::size_t) {
    add(name);
    add(F::name);
    add(matrix.digest());
  }
  void operator()(const std::string& name, const Buffer<float>& norm) {
    add(name);
    add(std::as_bytes(norm.span()));
  }

  /// Takes in what an adapter adds to a matrix, where it does.
  void add_adapter(const std::string& name, const LoraMatrices& matrices) {
    if (matrices.rank() == 0) return;
    any_ = true;
    add(name);
    add(matrices.a.digest());
    add(matrices.b.digest());
    add(std::as_bytes(std::span(&matrices.scale, 1)));
  }

  /// The name of a layer policy.
  void add_layers(std::string_view layers) { add(layers); }

  /// Whether there was something.
  bool any() const noexcept { return any_; }
  std::string text() const { return checksum_text(state_); }

 private:
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  void add(std::span<const std::byte> bytes) { add(checksum(bytes)); }
  void add(std::uint64_t number) {
    std::uint64_t state = state_ ^ number;
    state_ = split_mix(state);
  }

  std::uint64_t state_ = 0;
  bool any_ = false;
};

/// Returns the fingerprint of the weights that turn tokens into a session's keys and values, and of the layers where
/// they are no model of Mistral's.
template <class Model>
std::string model_fingerprint(const Model& model) {
  WeightFingerprint fingerprint;
  if constexpr (!is_stock<typename Model::Layers>) fingerprint.add_layers(Model::Layers::name);
  visit_weights(model, fingerprint);
  return fingerprint.text();
}

/// Of the adapter that a session goes through; `none` where it goes through none.
template <class Session>
std::string adapter_fingerprint(const Session& session) {
  WeightFingerprint fingerprint;
  if constexpr (HoldsAdapters<typename std::remove_cvref_t<decltype(session.model())>::Format>) {
    visit_projections(session.model(), [&](const std::string& name, const auto& linear, std::size_t) {
      if (session.adapter() < linear.adapters.size()) {
        fingerprint.add_adapter(name, linear.adapters[session.adapter()]);
      }
    });
  }
  return fingerprint.any() ? fingerprint.text() : "none";
}

}  // namespace detail

/// A file of what a session has behind it: its rings, with what they keep for a rollback, and its tokens. A session
/// over the same model that takes it in goes on to the same bits. Little-endian:
///
///   32 bytes  what FileHead says, of the magic "MISTSES\x1a"
///   header    JSON: {"config": {...}, "kv", "model", "adapter", "position", "tokens", "entries"}, then spaces up to a
///             multiple of 8 bytes
///   tokens    i32 each: all that the session has taken, or none; then their checksum, u64
///   rings     for each layer, keys then values, for each head: the last entries up to the position, then their
///             checksum, u64
///
/// "model" is a number made of all weights and, where it isn't MistralLayers, the layers' name, "adapter" one of the
/// adapter that the session goes through, or `none`; "entries" is how many each ring has. Every error is an Error
/// `[state] file: ...`.
class SessionFile {
 public:
  static constexpr std::size_t preamble_bytes = FileHead::preamble_bytes;  ///< of its head, whose size isn't known yet
  /// The bytes that such a file begins with, and the number of its layout.
  static constexpr FileHead head{.where = "state",
                                 .magic = {"MISTSES\x1a", 8},
                                 .version = 2,
                                 .max_header_bytes = 1'000'000,
                                 .remedy = "let the model read the text again"};

  /// Maps a file, and checks its header and its tokens.
  static SessionFile open(const std::string& path) { return SessionFile(MappedFile::open(path, where), path); }

  /// Number of tokens that the session had taken.
  std::int64_t position() const noexcept { return position_; }

  /// All of them, or none where they weren't given to the file.
  std::span<const TokenId> tokens() const noexcept { return tokens_; }

  /// Holds the file against the type of a session, without reading the rings. Throws Error where it is of another.
  ///   kv  kv_name of the cache's element
  void check(const ModelConfig& config, std::string_view kv) const {
    const JsonObject fields = header_.object("config");
    const auto same = [&](const char* name, auto value) {
      if constexpr (std::floating_point<decltype(value)>) {
        if (static_cast<float>(fields.number(name)) == value) return;
        throw fields.unexpected(name, "the model's " + number_text(value));
      } else {
        const auto expected = static_cast<std::int64_t>(value);
        if (fields.integer(name, 0, (std::numeric_limits<std::int64_t>::max)()) == expected) return;
        throw fields.unexpected(name, "the model's " + std::to_string(expected));
      }
    };
    detail::for_each_field(config, same);
    if (header_.string("kv") != kv) throw header_.unexpected("kv", "the cache's " + std::string(kv));
    for (const TokenId token : tokens_) {
      if (token < 0 || static_cast<std::size_t>(token) >= config.vocab_size) {
        throw Error(where, name_ + ": a token", "an id of 0 ... " + std::to_string(config.vocab_size - 1),
                    std::to_string(token));
      }
    }
    const auto ring_slots = static_cast<std::int64_t>(config.cache_len());
    if (config.window_size == 0 && position_ > ring_slots) {
      throw header_.unexpected("position", "at most " + std::to_string(ring_slots) + " (context_len)");
    }
    const std::int64_t least = (std::min)(position_, ring_slots);
    if (entries_ < least) throw header_.unexpected("entries", "at least " + std::to_string(least));
  }

  /// Puts a session into the state of the one that was saved. Throws Error, with the session as it was, where the file
  /// is of another model, or damaged.
  template <class Session>
  void restore(Session& session) const {
    using Cache = std::remove_cvref_t<decltype(session.cache())>;
    using Entry = typename Cache::Entry;
    check(Session::config, kv_name<typename Session::Element>());
    const auto same = [&](const char* field, const std::string& expected, const char* what) {
      if (header_.string(field) == expected) return;
      throw header_.unexpected(field, "'" + expected + "' (" + what + ": load those that it was saved with)");
    };
    same("model", detail::model_fingerprint(session.model()), "the model's weights are others");
    same("adapter", detail::adapter_fingerprint(session), "the session's adapter is another");
    const std::size_t count = 2 * Session::config.n_layers * Session::config.n_kv_heads;
    const std::size_t bytes = static_cast<std::size_t>(entries_) * sizeof(Entry);  // entries_ are fewer than bytes
    if (rings_.size() % count != 0 || rings_.size() / count != bytes + sum_bytes) {
      throw Error(where, name_ + ": the file",
                  std::to_string(header_end_ + tokens_bytes_ + count * (bytes + sum_bytes)) + " bytes",
                  std::to_string(header_end_ + tokens_bytes_ + rings_.size()));
    }
    for (std::size_t i = 0; i < count; ++i) {
      check_sum(rings_.subspan(i * (bytes + sum_bytes), bytes + sum_bytes), "ring " + std::to_string(i));
    }
    std::size_t i = 0;
    session.cache().for_each_ring([&](auto& ring) {
      // A file starts at a page, and everything before the ring is a multiple of four bytes.
      const std::byte* const data = rings_.data() + i++ * (bytes + sum_bytes);
      ring.restore(position_, {reinterpret_cast<const Entry*>(data), static_cast<std::size_t>(entries_)});
    });
  }

 private:
  static constexpr std::string_view where = head.where;
  static constexpr std::size_t sum_bytes = sizeof(std::uint64_t);

  SessionFile(MappedFile file, const std::string& path)
      : name_(printable(path, 1000)), file_(std::move(file)), header_(read_header(path)) {
    constexpr std::int64_t max = (std::numeric_limits<std::int64_t>::max)() / 2;
    const std::span<const std::byte> data = file_.bytes().subspan(header_end_);
    position_ = header_.integer("position", 0, max);
    entries_ = header_.integer("entries", 0, (std::min<std::int64_t>)(position_, std::ssize(data)));
    const std::int64_t tokens = header_.integer("tokens", 0, position_);
    if (tokens != 0 && tokens != position_) throw header_.unexpected("tokens", "as many as the position, or 0");
    const auto count = static_cast<std::size_t>(tokens);
    if (data.size() < sum_bytes || count > (data.size() - sum_bytes) / sizeof(TokenId)) {
      throw Error(where, name_ + ": the tokens", std::to_string(count) + " of them", "the end of the file");
    }
    tokens_bytes_ = count * sizeof(TokenId) + sum_bytes;
    check_sum(data.first(tokens_bytes_), "the tokens");
    tokens_.resize(count);
    if (count > 0) std::memcpy(tokens_.data(), data.data(), count * sizeof(TokenId));
    rings_ = data.subspan(tokens_bytes_);
  }

  JsonObject read_header(const std::string& path) {
    const std::span<const std::byte> header = head.read(file_.bytes(), name_);
    if (header.size() % 8 != 0) {
      throw Error(where, name_ + ": the header", "a multiple of 8 bytes", std::to_string(header.size()));
    }
    header_end_ = preamble_bytes + header.size();
    return JsonObject::parse(header, where, path);
  }

  // of bytes that end in their sum
  void check_sum(std::span<const std::byte> bytes, const std::string& what) const {
    const std::size_t size = bytes.size() - sum_bytes;
    FileHead::check_sum(where, name_ + ": " + what + ": the checksum", FileHead::number(bytes, size),
                        bytes.first(size));
  }

  std::string name_;  // the file's, fit for a line
  MappedFile file_;
  std::size_t header_end_ = 0;
  JsonObject header_;
  std::int64_t position_ = 0;
  std::int64_t entries_ = 0;
  std::size_t tokens_bytes_ = 0;  // with their sum
  std::vector<TokenId> tokens_;
  std::span<const std::byte> rings_;
};

/// Writes what a session has behind it to a file (see SessionFile), which appears whole or not at all.
///   tokens  all that the session has taken, for whoever loads the file to know them by; or none
/// Throws Error `[state] path: cannot write: ...`, or where the tokens are not as many as the session has taken.
template <class Session>
void save_session(const Session& session, std::span<const TokenId> tokens, const std::string& path) {
  if (!tokens.empty() && std::ssize(tokens) != session.position()) {
    throw Error("state", "tokens", "none, or the " + std::to_string(session.position()) + " of the session",
                std::to_string(tokens.size()));
  }
  const auto& first = session.cache().layer(0).keys[0];
  const std::size_t entries = static_cast<std::size_t>(first.position() - first.oldest_position());
  JsonWriter json;
  json.begin_object();
  detail::write_config(json, Session::config);
  json.field("kv", kv_name<typename Session::Element>());
  json.field("model", detail::model_fingerprint(session.model()));
  json.field("adapter", detail::adapter_fingerprint(session));
  json.field("position", session.position()).field("tokens", tokens.size()).field("entries", entries);
  std::string header = std::move(json.end_object()).text();
  header.resize((header.size() + 7) / 8 * 8, ' ');

  AtomicFile file(path, "state");
  const auto summed = [&](std::span<const std::byte> bytes) {
    file.write(bytes);
    const std::uint64_t sum = checksum(bytes);
    file.write(std::as_bytes(std::span(&sum, 1)));
  };
  SessionFile::head.write(file, header);
  summed(std::as_bytes(tokens));
  std::vector<typename std::remove_cvref_t<decltype(session.cache())>::Entry> ring_entries;
  session.cache().for_each_ring([&](const auto& ring) {
    ring_entries.clear();
    for (const auto& spans : {ring.overwritten(), ring.spans()}) {
      for (const auto& part : spans) ring_entries.insert(ring_entries.end(), part.begin(), part.end());
    }
    summed(std::as_bytes(std::span(ring_entries)));
  });
  file.commit();
}

/// Puts a session into the state that a file holds, and gives the file's tokens: all that the session has taken now, or
/// none. Throws Error `[state] path: ...`, with the session as it was, where the file is of another model or type of
/// session, or damaged; the session is as it was, too, where there is no memory.
template <class Session>
std::vector<TokenId> load_session(Session& session, const std::string& path) {
  const SessionFile file = SessionFile::open(path);
  std::vector<TokenId> tokens(file.tokens().begin(), file.tokens().end());  // before anything changes
  file.restore(session);
  return tokens;
}

}}  // namespace mistral
