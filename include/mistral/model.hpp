// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Everything that runs a model: configs, weight formats, loading, sessions, tokenizer, sampling, generation.

/// \namespace mistral
/// All that is public stands here. The version and the instruction set are spelled by an inline namespace inside
/// (core/abi.hpp). What is wrong with a file, a token or an option is thrown as a mistral::Error.

#include <mistral/checkpoint/load.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/element.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/token.hpp>
#include <mistral/evaluate/perplexity.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/generate/chat.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/sampler.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/nn/tape.hpp>
#include <mistral/nn/transformer.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/stream_decoder.hpp>
#include <mistral/text/tokenizer.hpp>
