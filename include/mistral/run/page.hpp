// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The page of C++ that names a model's type: what code that knows its model writes by hand, written for a checkpoint
/// that is met at run time.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include <mistral/checkpoint/config.hpp>
#include <mistral/core/abi.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/format/formats.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The type of model that a page names.
struct ModelChoice {
  ModelConfig config{};          ///< the shape
  std::string weights = "BF16";  ///< the format of the matrices, one of the library's (format/formats.hpp)
  bool exact = false;            ///< activations stay floats, on any machine
  std::string kv = "bf16";       ///< the elements of the cache: float, bf16 or q8
  bool adapters = false;         ///< there may be adapters beside the matrices
  bool trains = false;           ///< the adapters are trained; or all parameters where there are none, which are F32

  /// Field by field.
  friend bool operator==(const ModelChoice&, const ModelChoice&) = default;
};

namespace detail {

/// A float as C++ writes it: 10000.0f, 1e-05f.
inline std::string float_literal(float value) {
  std::string text = number_text(value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text + "f";
}

}  // namespace detail

/// The config of a checkpoint as a type has it.
///   context  tokens, for a checkpoint that doesn't say how many it was made for
/// Throws Error `[checkpoint] path: field: ...` where no model can have that shape: what passes is a page that
/// compiles.
inline ModelConfig config_of(const CheckpointConfig& file, const std::string& path, std::size_t context = 32768) {
  const auto wrong = [&](std::string_view field, const std::string& expected, const std::string& found) {
    return Error("checkpoint", path + ": " + std::string(field), expected, found);
  };
  const auto size = [&](std::string_view field, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value < least || value > most) {
      throw wrong(field, std::to_string(least) + " ... " + std::to_string(most), std::to_string(value));
    }
    return static_cast<std::size_t>(value);
  };
  const auto positive = [&](std::string_view field, double value) {
    const float narrow = static_cast<float>(value);
    if (!(narrow > 0.0f) || !std::isfinite(narrow)) throw wrong(field, "a positive number", number_text(narrow));
    return narrow;
  };
  constexpr std::int64_t widest = std::int64_t{1} << 24;  // no tensor of a model overflows a 64-bit count of bytes
  const ModelConfig config{
      .dim = size("dim", file.dim, 1, widest),
      .n_layers = size("n_layers", file.n_layers, 1, 4096),
      .head_dim = size("head_dim", file.head_dim, 2, static_cast<std::int64_t>(max_head_dim)),
      .hidden_dim = size("hidden_dim", file.hidden_dim, 1, widest),
      .n_heads = size("n_heads", file.n_heads, 1, 65536),
      .n_kv_heads = size("n_kv_heads", file.n_kv_heads, 1, 65536),
      .window_size = size("window_size", file.window, 0, widest),
      .context_len = size("context_len", file.context_len.value_or(static_cast<std::int64_t>(context)), 1, widest),
      .vocab_size = size("vocab_size", file.vocab_size, 1, widest),
      .rope_theta = positive("rope_theta", file.rope_theta),
      .norm_eps = positive("norm_eps", file.norm_eps)};
  if (config.head_dim % 2 != 0) throw wrong("head_dim", "an even number", std::to_string(config.head_dim));
  if (config.n_heads % config.n_kv_heads != 0) {
    throw wrong("n_kv_heads", "a divisor of n_heads, " + std::to_string(config.n_heads),
                std::to_string(config.n_kv_heads));
  }
  return config;
}

/// The definition of a config, to be pasted into a program: `inline constexpr mistral::ModelConfig NAME{...};`, a field
/// a line. `name` is an identifier.
inline std::string config_definition(const ModelConfig& c, std::string_view name) {
  std::string text = "inline constexpr mistral::ModelConfig " + std::string(name) + "{\n";
  const auto field = [&](std::string_view label, const std::string& value, std::string_view end = ",\n") {
    text.append("    .").append(label).append(" = ").append(value).append(end);
  };
  field("dim", std::to_string(c.dim));
  field("n_layers", std::to_string(c.n_layers));
  field("head_dim", std::to_string(c.head_dim));
  field("hidden_dim", std::to_string(c.hidden_dim));
  field("n_heads", std::to_string(c.n_heads));
  field("n_kv_heads", std::to_string(c.n_kv_heads));
  field("window_size", std::to_string(c.window_size));
  field("context_len", std::to_string(c.context_len));
  field("vocab_size", std::to_string(c.vocab_size));
  field("rope_theta", detail::float_literal(c.rope_theta));
  field("norm_eps", detail::float_literal(c.norm_eps), "};\n");
  return text;
}

namespace detail {

/// Returns the format that the kernels multiply by: `mistral::Exact<mistral::Q4_0>`. Throws Error for a format that
/// there isn't.
inline std::string matrix_format(const ModelChoice& choice) {
  std::string type;
  with_format(choice.weights, [&]<class F>(std::type_identity<F>) { type = "mistral::" + std::string(F::name); });
  if (type.empty()) throw Error("compile", "the weights", "one of " + std::string(format_names), choice.weights);
  // of floats nothing is rounded
  const bool rounds = choice.weights != "F32" && choice.weights != "F16";
  return choice.exact && rounds ? "mistral::Exact<" + type + ">" : type;
}

/// Returns the elements of the cache: `mistral::bf16`. Throws Error for those that there aren't.
inline std::string cache_element(const ModelChoice& choice) {
  const bool known = choice.kv == "float" || choice.kv == "bf16" || choice.kv == "q8";
  if (!known) throw Error("compile", "the cache", "float, bf16 or q8", choice.kv);
  return (choice.kv == "float" ? "" : "mistral::") + choice.kv;
}

}  // namespace detail

/// Returns how a type holds its weights: `mistral::Lora<mistral::Exact<mistral::Q4_0>>`. Throws Error for a format that
/// there isn't.
inline std::string format_type(const ModelChoice& choice) {
  const std::string type = detail::matrix_format(choice);
  return choice.adapters ? "mistral::Lora<" + type + ">" : type;
}

/// One line that says what a choice is, for people.
inline std::string describe(const ModelChoice& choice) {
  const ModelConfig& c = choice.config;
  std::string text = choice.weights + (choice.exact ? " (exact)" : "") + ", cache in " + choice.kv;
  if (choice.adapters) text += ", with adapters";
  if (choice.trains) text += ", with training";
  text += "; dim " + std::to_string(c.dim) + ", " + std::to_string(c.n_layers) + " layers, heads " +
          std::to_string(c.n_heads) + "/" + std::to_string(c.n_kv_heads) + " of " + std::to_string(c.head_dim) +
          ", hidden " + std::to_string(c.hidden_dim) + ", vocabulary " + std::to_string(c.vocab_size);
  return text + (c.window_size != 0 ? ", window " + std::to_string(c.window_size)
                                    : ", context " + std::to_string(c.context_len));
}

/// Returns the page that compiles a type behind the run-time interface. Throws Error for a choice that there is no type
/// for.
inline std::string page_of(const ModelChoice& choice) {
  if (choice.trains && !choice.adapters && choice.weights != "F32") {
    throw Error("compile", "the weights, of which all are to be trained", "F32", choice.weights);
  }
  return "// " + describe(choice) + "\n#include <mistral/run/compiled_model.hpp>\n\n" +
         config_definition(choice.config, "config") + "using Model = mistral::Transformer<config, " +
         format_type(choice) + ">;\nMISTRAL_COMPILED_MODEL(Model, " + detail::cache_element(choice) +
         ", mistral::Purpose::" + (choice.trains ? "training" : "inference") + ")\n";
}

/// Returns the page that compiles the kernels of a choice, which are those of all types with its format and elements:
/// what page_of leaves out where MISTRAL_PARTS_ELSEWHERE is 1.
inline std::string kernels_page_of(const ModelChoice& choice) {
  const std::string format = detail::matrix_format(choice);
  std::string page = "#include <mistral/run/compiled_model.hpp>\n\nMISTRAL_COMPILED_ONCE_FORMAT(, " + format + ")\n" +
                     "MISTRAL_COMPILED_ONCE_ELEMENT(, " + detail::cache_element(choice) + ")\n";
  if (choice.adapters) page += "MISTRAL_COMPILED_ONCE_ADAPTERS()\n";
  if (choice.trains) page += "MISTRAL_COMPILED_ONCE_TRANSPOSED(, " + format + ")\n";
  return page;
}

/// Returns the page that compiles what is the same for all models, and the functions of mistral/c.h: the rest of what
/// page_of leaves out.
inline std::string common_page() {
  return "#include <mistral/run/c_interface.hpp>\n#include <mistral/generate/compiled_once.hpp>\n\n"
         "MISTRAL_COMPILED_ONCE()\nMISTRAL_C_INTERFACE\n";
}

}}  // namespace mistral
