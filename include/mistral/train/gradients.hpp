// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <mistral/core/buffer.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/nn/transformer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Whether the weights of a format can be trained: all of them, as floats, or adapters beside frozen ones.
template <class F>
inline constexpr bool is_lora = false;
template <class F>
inline constexpr bool is_lora<Lora<F>> = true;

template <class F>
concept Trainable = std::is_same_v<F, F32> || is_lora<F>;

/// A parameter that is trained, and its gradient: as many floats, in the layout that the parameter has (panels, where
/// it is a matrix; what pads the last panel is zero and stays so).
struct Parameter {
  std::string name;  ///< `layers.0.attention.wq.weight`, `layers.0.attention.wq.lora_a`
  std::span<float> value;
  std::span<float> gradient;
};

/// The floats of panels.
inline std::span<float> floats_of(Panels<F32>& panels) noexcept {
  const std::span<std::byte> bytes = panels.own_bytes();
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

/// The gradients of one matrix: of the weights, where those are trained, or of one adapter's A and B.
template <class F>
struct LinearGradient;

template <>
struct LinearGradient<F32> {
  Buffer<float> weight;

  template <class Linear>
  void resize(Linear& linear, std::size_t) {
    weight = Buffer<float>(floats_of(linear.weight).size());
  }
  template <class Linear, class Visitor>
  void visit(const std::string& name, Linear& linear, std::size_t, const Visitor& visitor) {
    visitor(Parameter{name + ".weight", floats_of(linear.weight), weight.span()});
  }
};

template <WeightFormat F>
struct LinearGradient<Lora<F>> {
  Buffer<float> a;
  Buffer<float> b;

  template <class Linear>
  void resize(Linear& linear, std::size_t adapter) {
    a = Buffer<float>(floats_of(linear.adapters[adapter].a).size());
    b = Buffer<float>(floats_of(linear.adapters[adapter].b).size());
  }
  template <class Linear, class Visitor>
  void visit(const std::string& name, Linear& linear, std::size_t adapter, const Visitor& visitor) {
    if (a.size() == 0) return;
    visitor(Parameter{name + ".lora_a", floats_of(linear.adapters[adapter].a), a.span()});
    visitor(Parameter{name + ".lora_b", floats_of(linear.adapters[adapter].b), b.span()});
  }
};

template <class F>
struct BlockGradient {
  Buffer<float> attention_norm;  // empty where norms are frozen
  LinearGradient<F> wq, wk, wv, wo;
  Buffer<float> ffn_norm;
  LinearGradient<F> w1, w2, w3;
};

/// The gradients of all that is trained of a model: of every parameter of a Transformer<C, F32>, of one adapter's of a
/// Transformer<C, Lora<F>>. They are made zero.
template <class Model>
struct Gradients {
  using F = typename Model::Format;
  static constexpr bool all = std::is_same_v<F, F32>;  // and not an adapter's alone

  Buffer<float> tok_embeddings;
  std::vector<BlockGradient<F>> layers;
  Buffer<float> norm;
  LinearGradient<F> output;
  std::size_t adapter;

  explicit Gradients(Model& model, std::size_t of_adapter = 0) : layers(model.layers.size()), adapter(of_adapter) {
    if constexpr (all) {
      tok_embeddings = Buffer<float>(floats_of(model.tok_embeddings.weight).size());
      norm = Buffer<float>(model.norm.weight.size());
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto& block = model.layers[i];
      BlockGradient<F>& g = layers[i];
      if constexpr (all) {
        g.attention_norm = Buffer<float>(block.attention_norm.weight.size());
        g.ffn_norm = Buffer<float>(block.ffn_norm.weight.size());
      }
      g.wq.resize(block.attention.wq, adapter);
      g.wk.resize(block.attention.wk, adapter);
      g.wv.resize(block.attention.wv, adapter);
      g.wo.resize(block.attention.wo, adapter);
      g.w1.resize(block.feed_forward.w1, adapter);
      g.w2.resize(block.feed_forward.w2, adapter);
      g.w3.resize(block.feed_forward.w3, adapter);
    }
    output.resize(model.output, adapter);
  }

  /// Every parameter that is trained, by the name of its matrix.
  std::vector<Parameter> parameters(Model& model) {
    std::vector<Parameter> out;
    const auto add = [&](Parameter p) { out.push_back(std::move(p)); };
    if constexpr (all) {
      out.push_back({"tok_embeddings.weight", floats_of(model.tok_embeddings.weight), tok_embeddings.span()});
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto& block = model.layers[i];
      BlockGradient<F>& g = layers[i];
      const std::string prefix = "layers." + std::to_string(i) + ".";
      if constexpr (all) {
        out.push_back({prefix + "attention_norm.weight", block.attention_norm.weight.span(), g.attention_norm.span()});
        out.push_back({prefix + "ffn_norm.weight", block.ffn_norm.weight.span(), g.ffn_norm.span()});
      }
      g.wq.visit(prefix + "attention.wq", block.attention.wq, adapter, add);
      g.wk.visit(prefix + "attention.wk", block.attention.wk, adapter, add);
      g.wv.visit(prefix + "attention.wv", block.attention.wv, adapter, add);
      g.wo.visit(prefix + "attention.wo", block.attention.wo, adapter, add);
      g.w1.visit(prefix + "feed_forward.w1", block.feed_forward.w1, adapter, add);
      g.w2.visit(prefix + "feed_forward.w2", block.feed_forward.w2, adapter, add);
      g.w3.visit(prefix + "feed_forward.w3", block.feed_forward.w3, adapter, add);
    }
    if constexpr (all) out.push_back({"norm.weight", model.norm.weight.span(), norm.span()});
    output.visit("output", model.output, adapter, add);
    return out;
  }
};

}}  // namespace mistral
