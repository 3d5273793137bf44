// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <mistral/core/buffer.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/nn/tensors.hpp>
#include <mistral/nn/transformer.hpp>
#include <mistral/train/trainable.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A parameter that is trained, and its gradient: as many floats, in the layout that the parameter has (panels, where
/// it is a matrix; what pads the last panel is zero and stays so).
struct Parameter {
  std::string name;  ///< `layers.0.attention.wq.weight`, `layers.0.attention.wq.lora_a`
  std::span<float> value;
  std::span<float> gradient;
};

/// Returns the floats of a matrix's panels, or of a norm.
///@{
inline std::span<float> floats_of(Panels<F32>& panels) noexcept {
  const std::span<std::byte> bytes = panels.own_bytes();
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}
inline std::span<float> floats_of(Buffer<float>& norm) noexcept { return norm.span(); }
///@}

/// The gradients of one tensor: of the weights, where those are trained, or of one adapter's A and B.
template <class F>
struct TensorGradient;

template <>
struct TensorGradient<F32> {
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
struct TensorGradient<Lora<F>> {
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

/// The gradient of a tensor that isn't trained.
struct NoGradient {
  template <class Member>
  void resize(Member&, std::size_t) {}
  template <class Member, class Visitor>
  void visit(const std::string&, Member&, std::size_t, const Visitor&) {}
};

namespace detail {

/// What holds the gradient of a row of the table of tensors.
template <class F, TensorRole R>
using GradientOf =
    std::conditional_t<HoldsAdapters<F> ? row_of(R).adapter : row_of(R).trained, TensorGradient<F>, NoGradient>;

/// A tuple with a place for each role: of the tensors of a layer, or of those of the model.
template <class F, bool in_layer, std::size_t... I>
std::tuple<
    std::conditional_t<tensor_table[I].in_layer == in_layer, GradientOf<F, static_cast<TensorRole>(I)>, NoGradient>...>
    gradients_by_role(std::index_sequence<I...>);
template <class F, bool in_layer>
using GradientsByRole = decltype(gradients_by_role<F, in_layer>(std::make_index_sequence<tensor_row_count>{}));

}  // namespace detail

/// The gradients of all that is trained of a model: of every parameter of a Transformer<C, F32>, of one adapter's of a
/// Transformer<C, Lora<F>>. They are made zero.
template <class Model>
struct Gradients {
  using F = typename Model::Format;
  static constexpr bool all = std::is_same_v<F, F32>;  // and not an adapter's alone

  std::vector<detail::GradientsByRole<F, true>> layers;
  detail::GradientsByRole<F, false> own;  // of the tensors that stand in no layer
  std::size_t adapter;

  explicit Gradients(Model& model, std::size_t of_adapter = 0) : layers(model.layers.size()), adapter(of_adapter) {
    visit_tensors(model, [this](auto at, auto& member) { of(at).resize(member, adapter); });
  }

  /// Returns the gradient of a tensor.
  template <TensorRole R>
  auto& of(TensorAt<R> at) noexcept {
    constexpr auto role = static_cast<std::size_t>(R);
    if constexpr (row_of(R).in_layer) {
      return std::get<role>(layers[at.layer]);
    } else {
      return std::get<role>(own);
    }
  }

  /// Lists every parameter that is trained, by the name of its matrix: a layer's norms before its matrices, which is
  /// the order that the gradient's norm is summed in.
  std::vector<Parameter> parameters(Model& model) {
    std::vector<Parameter> out;
    std::size_t norms_end = 0;  // behind the norms of the layer that is visited
    std::size_t layer = layers.size();
    visit_tensors(model, [&]<TensorRole R>(TensorAt<R> at, auto& member) {
      constexpr bool norm_of_layer = row_of(R).in_layer && row_of(R).kind == TensorKind::norm;
      if (row_of(R).in_layer && at.layer != std::exchange(layer, at.layer)) norms_end = out.size();
      of(at).visit(at.module(), member, adapter, [&](Parameter p) {
        const std::size_t place = norm_of_layer ? norms_end++ : out.size();
        out.insert(out.begin() + static_cast<std::ptrdiff_t>(place), std::move(p));
      });
    });
    return out;
  }
};

}}  // namespace mistral
