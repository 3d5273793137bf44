// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Everything that trains a model, beside all that runs one: the 4-bit format of QLoRA, adapters, gradients,
/// optimizers, the trainer, data sets and the loop over them, and what writes a model to a folder.

#include <mistral/checkpoint/adapter_folder.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/format/nf4.hpp>
#include <mistral/model.hpp>
#include <mistral/nn/adapter.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/train/batches.hpp>
#include <mistral/train/dataset.hpp>
#include <mistral/train/fit.hpp>
#include <mistral/train/optimizer.hpp>
#include <mistral/train/trainer.hpp>
