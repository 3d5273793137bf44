// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/core/config.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/run/page.hpp>

#include "commands.hpp"

/// \file
/// The type of model that a command line asks for.

namespace mistral::tool {

/// The use that a command makes of a model.
enum class Use {
  inference,
  adapters,       ///< inference through adapters
  train_adapter,  ///< training of adapters beside a frozen base
  train_all,      ///< training of all parameters, which are F32
};

/// The fields of a config as text, by their names in ModelConfig.
using Fields = std::vector<std::pair<std::string_view, std::string>>;
Fields fields_of(const ModelConfig& config);
Fields fields_of(const CheckpointConfig& config);

/// A type that matrices of a checkpoint have.
struct MatrixType {
  std::string name;      ///< as its file calls it: `Q4_K`
  std::size_t matrices;  ///< number of matrices that have it
  std::string first;     ///< the name of the first of these
};

/// The facts about a checkpoint by which a type of model is chosen.
struct CheckpointFacts {
  CheckpointConfig config;
  std::vector<MatrixType> types;  ///< those that its matrices have
};

/// Reads the facts about a checkpoint, once for each path. Throws Error as Checkpoint::open does.
const CheckpointFacts& facts_of(const std::string& path);

/// Reads the configuration of a checkpoint, whose weights needn't be there, once for each path.
const CheckpointConfig& checkpoint_config(const std::string& path);

/// The name of a weight format as the library has it, from what a command line says: `q4_0` is Q4_0. Throws UsageError
/// `option: ...` for another.
std::string format_named(const std::string& name, std::string_view option);

/// The type of a checkpoint's model as the arguments ask for it: in the checkpoint's own format where they name none.
/// Throws Error where that is no format of the library, and for a config that no model can have.
ModelChoice choice_of(const ModelArguments& arguments, Use use);

/// The type that the arguments ask for, compiled where it wasn't yet; or that of their --compiled.
const AnyModelType& model_type(const ModelArguments& arguments, Use use);

/// The type for what the arguments ask for without training: one that holds adapters where they name some. Throws
/// UsageError for an adapter to be used that isn't there, and Error for a path that is no adapter.
const AnyModelType& model_type(const ModelArguments& arguments);

/// `Q4_0, cache in bf16`
std::string describe(const ModelInfo& info);

/// Bytes of the matrices and norms of a model in a format.
std::uint64_t weight_bytes(const ModelConfig& config, std::string_view format);

/// Bytes of a session's cache, at most.
std::uint64_t cache_bytes(const ModelConfig& config, std::string_view kv);

}  // namespace mistral::tool
